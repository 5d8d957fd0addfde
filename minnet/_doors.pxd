# cython: language_level=3
# Doors, for plain arrays too small to be shared among threads. A small net spends its time in checks and in the
# acquisition of arrays. A door checks in C
# what functional checks in Python, and does the work if all is plain: aligned C-contiguous arrays of one dtype, of the
# shapes they should have, that do not overlap in part, no more than SMALL elements. Otherwise it leaves everything as it
# is and says so, and functional does the work, or says what is wrong.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef enum:
    DZ = 4     # bits of arrays of a loss that are written
    LOSS = 32
    SMALL = (1 << 17) - (1 << 11)  # elements up to which an array may go through a door: work that nobody would cut


cdef inline bint enter(object x, Py_buffer* view, bint writable) noexcept:
    """Acquire the memory of x if it is small, C-contiguous and aligned; otherwise nothing is held."""
    return acquire(x, view, writable, SMALL)


cdef inline bint acquire(object x, Py_buffer* view, bint writable, Py_ssize_t most) noexcept:
    """The same for up to so many elements."""
    try:
        PyObject_GetBuffer(x, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
    except (BufferError, TypeError, ValueError):
        return False
    if view.len > most * view.itemsize or <size_t>view.buf % <size_t>view.itemsize or view.format[1] != 0:
        PyBuffer_Release(view)
        return False
    return True


cdef inline bint alike(const Py_buffer* a, const Py_buffer* b) noexcept:
    """Whether two arrays have one dtype and one shape, and are the same memory or have none in common."""
    cdef int i
    if a.format[0] != b.format[0] or a.ndim != b.ndim or not (a.buf == b.buf or apart(a, b)):
        return False
    for i in range(a.ndim):
        if a.shape[i] != b.shape[i]:
            return False
    return True


cdef inline bint apart(const Py_buffer* a, const Py_buffer* b) noexcept:
    """Whether two arrays have no memory in common."""
    cdef Py_ssize_t distance = <char*>b.buf - <char*>a.buf
    return distance >= a.len or -distance >= b.len


cdef inline bint labels_of(const Py_buffer* y, Py_ssize_t n) noexcept:
    """Whether y holds n > 0 labels in int64, whose format is l or q, as the platform has it."""
    return y.shape[0] == n and n > 0 and y.itemsize == 8 and y.format[0] in (b"l", b"q")


cdef inline int enter_all(tuple arrays, Py_buffer* views, unsigned int written) noexcept:
    """Acquire all that are not None; how many could be. Bits of `written` tell which are."""
    cdef int held = 0
    for x in arrays:
        if x is None:
            memset(&views[held], 0, sizeof(Py_buffer))   # nothing to release
        elif not enter(x, &views[held], written >> held & 1):
            break
        held += 1
    return held


cdef inline void leave(Py_buffer* views, int held) noexcept:
    while held > 0:
        held -= 1
        PyBuffer_Release(&views[held])


cdef inline bint is_whole(object x, int64_t* value) noexcept:
    """Whether x is an int of 64 bits, and which."""
    cdef int beyond = 0
    if not PyLong_CheckExact(x):
        return False
    value[0] = PyLong_AsLongLongAndOverflow(x, &beyond)
    return not beyond


cdef inline bint is_number(object x, double* value) noexcept:
    """Whether x is a float or an int, and which."""
    cdef int64_t whole = 0
    if PyFloat_CheckExact(x):
        value[0] = PyFloat_AS_DOUBLE(x)
    elif is_whole(x, &whole):
        value[0] = whole
    else:
        return False
    return True


cdef inline bint is_plain(object x, double most, double* value) noexcept:
    """Whether x is a number from 0 to `most`, and which."""
    return is_number(x, value) and 0 <= value[0] <= most


cdef inline bint is_factor(object x, double* value) noexcept:
    """Whether x is a number of moderate size, of any sign, and which."""
    return is_number(x, value) and -1e30 <= value[0] <= 1e30


cdef inline double most_gamma() noexcept:
    """Beyond, products with it might leave float32: MOST_GAMMA of functional/_binary.py."""
    return 1e30


cdef inline double divisor_of(str reduction, Py_ssize_t rows, Py_ssize_t elements) noexcept:
    """What a reduction divides the sum by; 0 if it is none."""
    if reduction == "mean":
        return elements
    if reduction == "batchmean":
        return rows
    return 1 if reduction == "sum" or reduction == "none" else 0
