# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Losses of one element each: a value and a gradient from an output and its target. Letters and rules: _activations.pyx."""

from cpython.buffer cimport PyBuffer_Release
from libc.math cimport log, log1p

from minnet cimport _math
from minnet._doors cimport alike, apart, enter
from minnet._math cimport real
from minnet._loops cimport LANES, clones, pointer

cdef enum:
    CHUNK = 256   # elements whose losses are held on the stack between two passes


# ---- value and gradient --------------------------------------------------------------------------------------------
# Each has a loop that gives loss and slope = d loss / d x of one chunk; `settle` weighs them, stores what is wanted and
# adds to the total.

cdef clones settle(
    const real* chunk_loss, const real* chunk_slope, const double* weight, double* total, real* loss, real* dx,
    Py_ssize_t n, double scale,
) noexcept nogil:
    cdef double weighed[CHUNK]
    cdef double sums[LANES]
    cdef real factor = scale
    cdef Py_ssize_t block, i, width = LANES // 2
    for i in range(LANES):
        sums[i] = 0
    for i in range(n):
        weighed[i] = chunk_loss[i]
    if weight != NULL:
        for i in range(n):   # a weight of 0 leaves out losses that are inf or NaN, too
            weighed[i] = 0.0 if weight[i] == 0 else weighed[i] * weight[i]
    for i in range(n, CHUNK):
        weighed[i] = 0
    for block in range(CHUNK // LANES):
        for i in range(LANES):
            sums[i] += weighed[block * LANES + i]
    while width > 0:
        for i in range(width):
            sums[i] += sums[i + width]
        width //= 2
    total[0] += sums[0]
    if loss != NULL:
        for i in range(n):
            loss[i] = weighed[i]
    if dx != NULL and weight == NULL:
        for i in range(n):
            dx[i] = chunk_slope[i] * factor
    elif dx != NULL:
        for i in range(n):
            dx[i] = 0.0 if weight[i] == 0 else chunk_slope[i] * (weight[i] * scale)


# a = |z|, e = exp(-a); `wrong` is the share of the target on the other side of 0 than z:
#     loss = t softplus(-z) + (1 - t) softplus(z) = wrong a + log(1 + e)        both terms >= 0
#     d loss / d z = sigmoid(z) - t = (wrong - (1 - wrong) e) / (1 + e) with the sign of z; never sigmoid(z) - 1

cdef clones bce_with_logits_loop(const real* z, const real* t, real* loss, real* dz, Py_ssize_t n) noexcept nogil:
    cdef real e[CHUNK]
    cdef real wrong, paid, slope
    cdef Py_ssize_t i
    for i in range(n):   # in three loops, because a single one would wait for its long chain of operations
        e[i] = _math.exp(-_math.magnitude(z[i]))
    for i in range(n):
        paid = (t[i] if z[i] < 0 else <real>1 - t[i]) * _math.magnitude(z[i])
        loss[i] = (paid if paid > 0 else <real>0) + _math.log1p_unit(e[i])   # 0 inf is NaN, and nothing to pay
    for i in range(n):
        wrong = t[i] if z[i] < 0 else <real>1 - t[i]
        slope = (wrong - (<real>1 - wrong) * e[i]) / (<real>1 + e[i])
        dz[i] = -slope if z[i] < 0 else slope


# From probabilities p, as they are: a certain wrong answer costs inf. A share of 0 adds 0.
#     loss = -t log(p) - (1 - t) log(1 - p),   d loss / d p = (p - t) / (p (1 - p)), or the limit where p is 0 or 1

cdef void bce_loop(const real* p, const real* t, real* loss, real* dp, Py_ssize_t n) noexcept nogil:
    cdef double yes, no
    cdef Py_ssize_t i
    for i in range(n):
        yes, no = t[i], 1.0 - t[i]
        loss[i] = (-yes * log(p[i]) if yes > 0 else 0.0) + (-no * log1p(-<double>p[i]) if no > 0 else 0.0)
        if 0 < p[i] < 1:
            dp[i] = (<double>p[i] - t[i]) / (p[i] * (1.0 - p[i]))
        else:
            dp[i] = (no / (1.0 - p[i]) if no > 0 else 0.0) - (yes / p[i] if yes > 0 else 0.0)


cdef clones squared_error_loop(const real* x, const real* t, real* loss, real* dx, Py_ssize_t n) noexcept nogil:
    cdef real error
    cdef Py_ssize_t i
    for i in range(n):
        error = x[i] - t[i]
        loss[i] = error * error
        dx[i] = error + error


cdef enum Kind:
    BCE_WITH_LOGITS
    BCE
    SQUARED_ERROR


cdef double elementwise(
    Kind kind, const real* x, const real* t, const double* weight, real* loss, real* dx, Py_ssize_t n, double scale,
) noexcept nogil:
    """The sum of the losses; weight, loss and dx may be NULL."""
    cdef real chunk_loss[CHUNK]
    cdef real chunk_slope[CHUNK]
    cdef double total = 0
    cdef Py_ssize_t i = 0, size
    while i < n:
        size = min(<Py_ssize_t>CHUNK, n - i)
        if kind == BCE_WITH_LOGITS:
            bce_with_logits_loop(x + i, t + i, chunk_loss, chunk_slope, size)
        elif kind == BCE:
            bce_loop(x + i, t + i, chunk_loss, chunk_slope, size)
        else:
            squared_error_loop(x + i, t + i, chunk_loss, chunk_slope, size)
        settle(
            chunk_loss, chunk_slope, NULL if weight == NULL else weight + i, &total, NULL if loss == NULL else loss + i,
            NULL if dx == NULL else dx + i, size, scale)
        i += size
    return total


def binary_cross_entropy_with_logits(
    const real[::1] z not None, const real[::1] t not None, const double[::1] weight not None,
    real[::1] loss not None, real[::1] dz not None, double scale,
):
    """loss = weight (softplus(z) - t z), dz = scale weight (sigmoid(z) - t); all (N,). Returns the sum of the losses."""
    cdef double total
    with nogil:
        total = elementwise(
            BCE_WITH_LOGITS, &z[0], &t[0], &weight[0] if weight.shape[0] > 0 else NULL, pointer(loss), pointer(dz),
            z.shape[0], scale)
    return total


def binary_cross_entropy(
    const real[::1] p not None, const real[::1] t not None, const double[::1] weight not None,
    real[::1] loss not None, real[::1] dp not None, double scale,
):
    """loss = -weight (t log(p) + (1 - t) log(1 - p)), dp = scale weight (p - t) / (p (1 - p)); all (N,).

    Returns the sum of the losses."""
    cdef double total
    with nogil:
        total = elementwise(
            BCE, &p[0], &t[0], &weight[0] if weight.shape[0] > 0 else NULL, pointer(loss), pointer(dp),
            p.shape[0], scale)
    return total


def squared_error(
    const real[::1] x not None, const real[::1] t not None, const double[::1] weight not None,
    real[::1] loss not None, real[::1] dx not None, double scale,
):
    """loss = weight (x - t)^2, dx = scale weight 2 (x - t); all (N,). Returns the sum of the losses."""
    cdef double total
    with nogil:
        total = elementwise(
            SQUARED_ERROR, &x[0], &t[0], &weight[0] if weight.shape[0] > 0 else NULL, pointer(loss), pointer(dx),
            x.shape[0], scale)
    return total


# ---- ranges: where the first wrong target stands, or -1 ------------------------------------------------------------

cdef clones count_outside_unit(const real* x, int* wrong, Py_ssize_t n) noexcept nogil:
    cdef real lanes[LANES]
    cdef real v, total = 0
    cdef Py_ssize_t block, j
    for j in range(LANES):
        lanes[j] = 0
    for block in range(n // LANES):
        for j in range(LANES):
            v = x[block * LANES + j]
            lanes[j] += (<real>0 if v >= 0 else <real>1) + (<real>0 if v <= 1 else <real>1)
    for j in range(n % LANES):
        lanes[j] += <real>0 if 0 <= x[n - n % LANES + j] <= 1 else <real>1
    for j in range(LANES):
        total += lanes[j]
    wrong[0] = total > 0


def first_outside_unit(const real[::1] x not None):
    """The first i for which 0 <= x_i <= 1 does not hold, NaN included, else -1; x: (N,)."""
    cdef int wrong = 0
    cdef Py_ssize_t i
    with nogil:
        count_outside_unit(&x[0], &wrong, x.shape[0])
    if wrong:
        for i in range(x.shape[0]):
            if not (0 <= x[i] <= 1):
                return i
    return -1


# ---- the door: see _doors.pxd --------------------------------------------------------------------------------------

cdef double mean_binary_loss(const real* z, const real* t, real* dz, Py_ssize_t n) noexcept nogil:
    """The mean binary cross-entropy of n logits and its gradient; -1 if a target is outside [0, 1]."""
    cdef double scale = 1.0 / n
    cdef int wrong = 0
    count_outside_unit(t, &wrong, n)
    if wrong:
        return -1
    return scale * elementwise(BCE_WITH_LOGITS, z, t, <const double*>NULL, <real*>NULL, dz, n, scale)


def binary_cross_entropy_with_logits_door(z not None, t not None, dz not None):
    """loss = mean(softplus(z) - t z) and its gradient dz, if all are small and plain (N, ...); else None."""
    cdef Py_buffer a, b, c
    cdef double loss = -1
    if not enter(z, &a, False):
        return None
    if enter(t, &b, False):
        if enter(dz, &c, True):
            if alike(&a, &b) and alike(&a, &c) and apart(&a, &c) and apart(&b, &c) and a.len > 0:
                if a.format[0] == b"f":
                    loss = mean_binary_loss(<float*>a.buf, <float*>b.buf, <float*>c.buf, a.len // 4)
                elif a.format[0] == b"d":
                    loss = mean_binary_loss(<double*>a.buf, <double*>b.buf, <double*>c.buf, a.len // 8)
            PyBuffer_Release(&c)
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return None if loss == -1 else loss
