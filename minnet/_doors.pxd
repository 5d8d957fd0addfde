# cython: language_level=3
# Doors, for plain arrays too small to be shared among threads. A small net spends its time in checks and in the
# acquisition of arrays. A door checks in C
# what functional checks in Python, and does the work if all is plain: aligned C-contiguous arrays of one dtype, of the
# shapes they should have, that do not overlap in part, no more than SMALL elements. Otherwise it leaves everything as it
# is and says so, and functional does the work, or says what is wrong.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)

cdef enum:
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
