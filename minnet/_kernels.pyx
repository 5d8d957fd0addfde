# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
# The checks are off because functional.py has made them, once a call, before the first kernel.
"""Loops over one array or one batch.

Letters: N rows of a batch, C classes, P parameters, S = N or any other number of elements.

Design
a) The scalar functions stand in _math.pxd, forward beside derivative.
b) A `clones` function loops over pointers; it is compiled once for each SIMD level (_simd.h) and holds the vectors.
c) A `def` kernel takes typed memoryviews, lets the GIL go, and calls b). It trusts its arguments: shapes agree, arrays
   are C-contiguous, labels are in range. Only `functional` (and, for updates, `optimizers`) may call it.
d) Arguments: const inputs, then outputs, then scalars. An array of length 0 stands for one that is not given, or an
   output that is not wanted.
e) Activations give y and their slope dy/dx together, from one exp: their backward is one product, `chain_backward`.
   Losses give value and gradient together: two separate functions could disagree.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.math cimport INFINITY, NAN, log, log1p, sqrt
from libc.stdint cimport int64_t

from minnet cimport _math
from minnet._math cimport inlined, real

cdef extern from "_simd.h":
    ctypedef void clones "MINNET_CLONES void"
    ctypedef void narrow_clones "MINNET_NARROW_CLONES void"

cdef enum:
    LANES = 64    # independent accumulators, so that sums and maxima vectorise without flags that reorder; gcc would
                  # unroll a loop over 16 of them into scalar code
    ROWS = 32     # rows of few classes that go side by side
    FEW = 64      # classes up to which they do
    SMALL = 4096  # elements up to which an array may go through a door
    CHUNK = 256   # elements whose losses are held on the stack between two passes


cdef inline real* pointer(real[::1] a) noexcept nogil:
    """The first element, or NULL where the array stands for `not wanted`."""
    return &a[0] if a.shape[0] > 0 else NULL


# ---- activations: y = f(x), slope = f'(x) --------------------------------------------------------------------------

cdef clones sigmoid_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.sigmoid(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.sigmoid(x[i]), _math.sigmoid_slope(x[i])


cdef clones tanh_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.tanh(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.tanh(x[i]), _math.tanh_slope(x[i])


cdef clones softplus_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.softplus(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.softplus(x[i]), _math.sigmoid(x[i])


cdef clones log_sigmoid_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.log_sigmoid(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.log_sigmoid(x[i]), _math.sigmoid(-x[i])


cdef clones relu_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = <real>0 if 0 > x[i] else x[i]
    else:
        for i in range(n):
            slope[i] = <real>1 if x[i] > 0 else <real>0
            y[i] = <real>0 if 0 > x[i] else x[i]


cdef enum Activation:
    SIGMOID
    TANH
    SOFTPLUS
    LOG_SIGMOID
    RELU


cdef void activation_loop(Activation which, const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    if which == SIGMOID:
        sigmoid_loop(x, y, slope, n)
    elif which == TANH:
        tanh_loop(x, y, slope, n)
    elif which == SOFTPLUS:
        softplus_loop(x, y, slope, n)
    elif which == LOG_SIGMOID:
        log_sigmoid_loop(x, y, slope, n)
    else:
        relu_loop(x, y, slope, n)


def sigmoid_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = 1 / (1 + exp(-x)), slope = y (1 - y); all (N,)."""
    with nogil:
        sigmoid_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def tanh_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = tanh(x), slope = 1 - y^2; all (N,)."""
    with nogil:
        tanh_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def softplus_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = log(1 + exp(x)), slope = sigmoid(x); all (N,)."""
    with nogil:
        softplus_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def log_sigmoid_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = -log(1 + exp(-x)), slope = sigmoid(-x); all (N,)."""
    with nogil:
        log_sigmoid_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def relu_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = max(x, 0), slope = 1 where x > 0, else 0; all (N,)."""
    with nogil:
        relu_loop(&x[0], &y[0], pointer(slope), x.shape[0])


cdef clones product_loop(const real* a, const real* b, real* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = a[i] * b[i]


def chain_backward(const real[::1] dy not None, const real[::1] slope not None, real[::1] dx not None):
    """dx = dy slope, the chain rule through any activation; all (N,)."""
    with nogil:
        product_loop(&dy[0], &slope[0], &dx[0], dy.shape[0])


# ---- a bias before an activation: one pass forward, one backward ---------------------------------------------------

cdef clones add_loop(const real* b, real* z, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        z[i] += b[i]


cdef void biased_rows(
    Activation which, const real[::1] b, real[:, ::1] z, real[:, ::1] slope,
) noexcept nogil:
    cdef Py_ssize_t i, n = z.shape[1]
    for i in range(z.shape[0]):
        add_loop(&b[0], &z[i, 0], n)
        activation_loop(which, &z[i, 0], &z[i, 0], &slope[i, 0], n)


def sigmoid_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = sigmoid(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(SIGMOID, b, z, slope)


def tanh_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = tanh(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(TANH, b, z, slope)


def softplus_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = softplus(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(SOFTPLUS, b, z, slope)


def relu_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = relu(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(RELU, b, z, slope)


cdef clones product_sum_loop(const real* dy, const real* slope, real* dx, real* db, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dy[i] * slope[i]
        db[i] += dx[i]


def chain_biased_backward(
    const real[:, ::1] dy not None, const real[:, ::1] slope not None, real[:, ::1] dx not None, real[::1] db not None,
):
    """dx = dy slope, db = sum of dx over rows; dy, slope, dx: (N, O), db: (O,)."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(db.shape[0]):
            db[i] = 0
        for i in range(dy.shape[0]):
            product_sum_loop(&dy[i, 0], &slope[i, 0], &dx[i, 0], &db[0], dy.shape[1])


# ---- rows of logits ------------------------------------------------------------------------------------------------
# Everything about a row of logits follows from its maximum m, e_k = exp(z_k - m), and `others`, the sum of e without
# one maximal entry, whose e is 1: kept apart, because 1 + others rounds to 1 where a confident row's loss lives.
# Entries equal to the maximum have e = 1 without any subtraction, so +inf shares like any other tie. A row of -inf only
# has no limit: NaN.
#
# Rows of up to FEW classes go ROWS at a time, side by side: class k of row j stands at t[k * ROWS + j] of a tile, and
# each step is a loop over j. Longer rows go one at a time, in blocks of LANES; the tail is filled up with -inf, whose e is
# 0, to one more block.

cdef inlined add(real* high, real* low, real v) noexcept nogil:
    """high + low += v, the rounding error kept (Knuth's TwoSum)."""
    cdef real t = high[0] + v
    cdef real v_part = t - high[0]
    low[0] += (high[0] - (t - v_part)) + (v - v_part)
    high[0] = t


cdef inlined renormalize(double* high, double* low) noexcept nogil:
    """Leave in low no more than rounding takes from high."""
    cdef double total = high[0] + low[0]
    low[0] -= total - high[0]
    high[0] = total


cdef inlined unshift_sum(
    double high, double low, double ties, double scale, double* others, double* others_low,
) noexcept nogil:
    """others = ties + (high + low) scale, where a small product must be rounded to a subnormal number only once."""
    renormalize(&high, &low)
    others[0], others_low[0] = ties, low * scale
    add(others, others_low, high * scale)
    renormalize(others, others_low)


cdef inlined pad(const real* z, real* block, Py_ssize_t n) noexcept nogil:
    """block = z, n entries, and then -inf."""
    cdef Py_ssize_t j
    for j in range(LANES):
        block[j] = -INFINITY
    for j in range(n):
        block[j] = z[j]


cdef inlined max_block(const real* z, real* lanes) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(LANES):
        lanes[j] = z[j] if z[j] > lanes[j] else lanes[j]


cdef inlined row_max(const real* z, real* m, Py_ssize_t n) noexcept nogil:
    """The largest entry; NaN is passed over (the exponentials will carry it), -inf if there is none."""
    cdef real lanes[LANES]
    cdef real tail[LANES]
    cdef Py_ssize_t block, j, width = LANES // 2
    for j in range(LANES):
        lanes[j] = -INFINITY
    for block in range(n // LANES):
        max_block(z + block * LANES, lanes)
    pad(z + n - n % LANES, tail, n % LANES)
    max_block(tail, lanes)
    while width > 0:
        for j in range(width):
            lanes[j] = lanes[j + width] if lanes[j + width] > lanes[j] else lanes[j]
        width //= 2
    m[0] = lanes[0]


cdef inlined exp_block(const real* z, real m, real* e, double* high, double* low, real* ties) noexcept nogil:
    """e = exp(z - m) for one block; the (shifted) exponentials below 1 are summed, maxima are counted."""
    cdef real x
    cdef Py_ssize_t j
    for j in range(LANES):
        x = _math.exp_difference(z[j], m)
        e[j] = <real>1 if z[j] == m else x * _math.unshift(x)
        x = <real>0 if z[j] == m else x
        if real is float:
            high[j] += x   # a double has 29 bits to spare
        else:
            add(&high[j], &low[j], x)
        ties[j] += <real>1 if z[j] == m else <real>0


cdef inlined exp_others(const real* z, real m, double* others, double* others_low, real* e, Py_ssize_t n) noexcept nogil:
    """Sum of exp(z - m) over all entries but one maximum; the exponentials themselves go to `e` unless it is NULL."""
    cdef double high[LANES]
    cdef double low[LANES]
    cdef real ties[LANES]
    cdef real tail[LANES]
    cdef real scratch[LANES]
    cdef double scale = _math.unshift(m), total = -1.0   # the one maximum that does not count
    cdef Py_ssize_t block, j, width = LANES // 2
    for j in range(LANES):
        high[j] = low[j] = ties[j] = 0
    for block in range(n // LANES):
        exp_block(z + block * LANES, m, &scratch[0] if e == NULL else e + block * LANES, high, low, ties)
    pad(z + n - n % LANES, tail, n % LANES)
    exp_block(tail, m, scratch, high, low, ties)
    if e != NULL:
        for j in range(n % LANES):
            e[n - n % LANES + j] = scratch[j]
    for j in range(LANES):
        total += ties[j]
    while width > 0:
        for j in range(width):
            add(&high[j], &low[j], high[j + width])
            low[j] += low[j + width]
        width //= 2
    unshift_sum(high[0], low[0], total, scale, others, others_low)


cdef inlined tile_load(const real* z, const double* weight, real* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """t[k, j] = z[j, k]; lanes without a row, or whose row has the weight 0, hold 0."""
    cdef Py_ssize_t j, k
    if rows < ROWS or weight != NULL:
        for k in range(n * ROWS):
            t[k] = 0
    for j in range(rows):
        if weight == NULL or weight[j] != 0:
            for k in range(n):
                t[k * ROWS + j] = z[j * n + k]


cdef inlined tile_store(const real* t, real* y, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """y[j, k] = t[k, j]."""
    cdef Py_ssize_t j, k
    for j in range(rows):
        for k in range(n):
            y[j * n + k] = t[k * ROWS + j]


cdef inlined tile_load_columns(const real* z, real* t, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """t[k, j] = z[k, j], where a class of z is `step` long: columns stand side by side already."""
    cdef Py_ssize_t j, k
    for k in range(n):
        for j in range(rows):
            t[k * ROWS + j] = z[k * step + j]
        for j in range(rows, ROWS):
            t[k * ROWS + j] = 0


cdef inlined tile_store_columns(const real* t, real* y, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """y[k, j] = t[k, j]."""
    cdef Py_ssize_t j, k
    for k in range(n):
        for j in range(rows):
            y[k * step + j] = t[k * ROWS + j]


cdef inlined tile_others(const real* t, real* m, double* others, double* others_low, real* e, Py_ssize_t n) noexcept nogil:
    """For each row of a tile: its maximum m, e = exp(t - m), which may take the place of t, and the sum of e but one 1."""
    cdef real sums[ROWS]
    cdef real low[ROWS]
    cdef real ties[ROWS]
    cdef real x
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        m[j] = -INFINITY
        sums[j] = low[j] = 0
        ties[j] = -1
    for k in range(n):
        for j in range(ROWS):
            m[j] = t[k * ROWS + j] if t[k * ROWS + j] > m[j] else m[j]
    for k in range(n):
        for j in range(ROWS):
            x = _math.exp_difference(t[k * ROWS + j], m[j])
            add(&sums[j], &low[j], <real>0 if t[k * ROWS + j] == m[j] else x)
            ties[j] += <real>1 if t[k * ROWS + j] == m[j] else <real>0
            e[k * ROWS + j] = <real>1 if t[k * ROWS + j] == m[j] else x * _math.unshift(x)
    for j in range(ROWS):
        unshift_sum(sums[j], low[j], ties[j], _math.unshift(m[j]), &others[j], &others_low[j])


cdef inlined log_total(double others, double low, double* log_sum) noexcept nogil:
    """log(1 + others), so that logsumexp = m + this."""
    log_sum[0] = _math.log1p(others) + low / (1.0 + others)


cdef inlined invert_total(double others, double others_low, real* high, real* low) noexcept nogil:
    """1 / (1 + others) in two parts, because rounding it would cost up to an ulp of every probability."""
    cdef double total = 1.0, total_low = others_low, inverse, inverse_low
    add(&total, &total_low, others)
    _math.reciprocal(total, total_low, &inverse, &inverse_low)
    high[0] = inverse
    low[0] = (inverse - high[0]) + inverse_low


# ---- softmax family ------------------------------------------------------------------------------------------------

cdef inlined normalize_tile(real* t, Py_ssize_t n) noexcept nogil:
    """The logits of a tile become probabilities."""
    cdef real m[ROWS]
    cdef double others[ROWS]
    cdef double others_low[ROWS]
    cdef real high[ROWS]
    cdef real low[ROWS]
    cdef Py_ssize_t j, k
    tile_others(t, m, others, others_low, t, n)
    for j in range(ROWS):
        invert_total(others[j] if m[j] > -INFINITY else <double>NAN, others_low[j], &high[j], &low[j])
    for k in range(n):
        for j in range(ROWS):
            t[k * ROWS + j] = t[k * ROWS + j] * high[j] + t[k * ROWS + j] * low[j]


cdef inlined log_normalize_tile(real* t, Py_ssize_t n) noexcept nogil:
    """The logits of a tile become logarithms of probabilities."""
    cdef real e[FEW * ROWS]
    cdef real m[ROWS]
    cdef double others[ROWS]
    cdef double log_sum[ROWS]
    cdef real L[ROWS]
    cdef Py_ssize_t j, k
    tile_others(t, m, others, log_sum, e, n)
    for j in range(ROWS):
        log_total(others[j] if m[j] > -INFINITY else <double>NAN, log_sum[j], &log_sum[j])
        L[j] = log_sum[j]
    for k in range(n):
        for j in range(ROWS):
            t[k * ROWS + j] = -L[j] if t[k * ROWS + j] == m[j] else (t[k * ROWS + j] - m[j]) - L[j]


cdef clones softmax_tile(const real* x, real* y, Py_ssize_t rows, Py_ssize_t n, bint logarithm, Py_ssize_t step) noexcept nogil:
    """One tile of rows (step 0), or of columns whose classes are `step` apart."""
    cdef real t[FEW * ROWS]
    if step:
        tile_load_columns(x, t, rows, n, step)
    else:
        tile_load(x, <const double*>NULL, t, rows, n)
    if logarithm:
        log_normalize_tile(t, n)
    else:
        normalize_tile(t, n)
    if step:
        tile_store_columns(t, y, rows, n, step)
    else:
        tile_store(t, y, rows, n)


cdef clones softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m, high, low
    cdef double others, others_low
    cdef Py_ssize_t k
    row_max(x, &m, n)
    exp_others(x, m, &others, &others_low, y, n)
    invert_total(others if m > -INFINITY else <double>NAN, others_low, &high, &low)
    for k in range(n):
        y[k] = y[k] * high + y[k] * low


cdef clones log_softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m, L
    cdef double others, low, log_sum
    cdef Py_ssize_t k
    row_max(x, &m, n)
    exp_others(x, m, &others, &low, <real*>NULL, n)
    log_total(others if m > -INFINITY else <double>NAN, low, &log_sum)
    L = log_sum
    for k in range(n):
        y[k] = -L if x[k] == m else (x[k] - m) - L


cdef clones logsumexp_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m
    cdef double others, low, log_sum
    row_max(x, &m, n)
    exp_others(x, m, &others, &low, <real*>NULL, n)
    log_total(others, low, &log_sum)
    y[0] = m + log_sum if n > 0 else m


cdef void softmax_rows(const real[:, ::1] x, real[:, ::1] y, bint logarithm) noexcept nogil:
    cdef Py_ssize_t i = 0, n = x.shape[0], classes = x.shape[1]
    while i < n:
        if classes <= FEW:
            softmax_tile(&x[i, 0], &y[i, 0], min(<Py_ssize_t>ROWS, n - i), classes, logarithm, 0)
            i += ROWS
        elif logarithm:
            log_softmax_row(&x[i, 0], &y[i, 0], classes)
            i += 1
        else:
            softmax_row(&x[i, 0], &y[i, 0], classes)
            i += 1


cdef void softmax_columns(const real[:, :, ::1] x, real[:, :, ::1] y, bint logarithm) noexcept nogil:
    cdef Py_ssize_t a, i, columns = x.shape[2]
    for a in range(x.shape[0]):
        i = 0
        while i < columns:
            softmax_tile(&x[a, 0, i], &y[a, 0, i], min(<Py_ssize_t>ROWS, columns - i), x.shape[1], logarithm, columns)
            i += ROWS


FEW_CLASSES = FEW


def softmax_forward(const real[:, ::1] x not None, real[:, ::1] y not None):
    """y = exp(x) / sum(exp(x)) a row; (N, C). Its backward is inside the losses."""
    with nogil:
        softmax_rows(x, y, False)


def log_softmax_forward(const real[:, ::1] x not None, real[:, ::1] y not None):
    """y = x - log(sum(exp(x))) a row; (N, C). Its backward is inside the losses."""
    with nogil:
        softmax_rows(x, y, True)


def softmax_middle_forward(const real[:, :, ::1] x not None, real[:, :, ::1] y not None):
    """y = exp(x) / sum(exp(x)) over the middle axis of (N, C, S), C <= FEW_CLASSES. No backward, as above."""
    with nogil:
        softmax_columns(x, y, False)


def log_softmax_middle_forward(const real[:, :, ::1] x not None, real[:, :, ::1] y not None):
    """y = x - log(sum(exp(x))) over the middle axis of (N, C, S), C <= FEW_CLASSES. No backward, as above."""
    with nogil:
        softmax_columns(x, y, True)


def logsumexp_forward(const real[:, ::1] x not None, real[::1] y not None):
    """y = log(sum(exp(x))) a row; x: (N, C), y: (N,). Its backward is softmax."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            logsumexp_row(&x[i, 0], &y[i], x.shape[1])


# ---- cross-entropy of softmax(z), value and gradient ---------------------------------------------------------------
# With S = 1 + others = sum_k e_k and p_k = e_k / S:
#     loss = logsumexp(z) - z_y = (m - z_y) + log(S)               both terms >= 0, nothing cancels
#     d loss / d z_k = p_k - [k = y];  for k = y that is -(sum of the other e) / S, which keeps its digits as p_y -> 1.
# A row of weight 0 is not looked at: its loss and gradient are 0 whatever it holds.

cdef inlined settle_label(
    double z_y, double e_y, double m, double others, double low, double scale, double* loss, double* factor, double* dz_y,
) noexcept nogil:
    """From the sums of a row: its loss, scale / S, and the gradient at the label."""
    cdef double total = 1.0 + others if m > -INFINITY else <double>NAN
    cdef double wrong = others if z_y == m else (1.0 - e_y) + others
    log_total(others, low, loss)
    loss[0] = (0.0 if z_y == m else m - z_y) + (loss[0] if m > -INFINITY else <double>NAN)
    factor[0] = scale / total
    dz_y[0] = -wrong * factor[0]


cdef clones cross_entropy_row(
    const real* z, Py_ssize_t y, double* loss, real* dz, Py_ssize_t n, double scale,
) noexcept nogil:
    cdef real m, factor
    cdef double others, low, quotient, dz_y
    cdef Py_ssize_t k
    row_max(z, &m, n)
    exp_others(z, m, &others, &low, dz, n)
    settle_label(z[y], 0.0 if dz == NULL else dz[y], m, others, low, scale, loss, &quotient, &dz_y)
    if dz != NULL:
        factor = quotient
        for k in range(n):
            dz[k] *= factor
        dz[y] = dz_y


cdef clones cross_entropy_tile(
    const real* z, const int64_t* y, const double* weight, double* loss, real* dz, Py_ssize_t rows, Py_ssize_t n,
    double scale,
) noexcept nogil:
    cdef real t[FEW * ROWS]
    cdef real m[ROWS]
    cdef real z_y[ROWS]
    cdef real e_y[ROWS]
    cdef real factor[ROWS]
    cdef double others[ROWS]
    cdef double low[ROWS]
    cdef double scales[ROWS]
    cdef Py_ssize_t j, k
    tile_load(z, weight, t, rows, n)
    for j in range(ROWS):
        z_y[j] = t[y[j] * ROWS + j] if j < rows else t[j]
    tile_others(t, m, others, low, t, n)
    for j in range(ROWS):
        e_y[j] = t[y[j] * ROWS + j] if j < rows else t[j]
        scales[j] = scale * weight[j] if weight != NULL and j < rows else scale
    for j in range(ROWS):
        settle_label(z_y[j], e_y[j], m[j], others[j], low[j], scales[j], &loss[j], &others[j], &low[j])
    if dz == NULL:
        return
    for j in range(ROWS):
        factor[j] = others[j]
    for k in range(n):
        for j in range(ROWS):
            t[k * ROWS + j] *= factor[j]
    for j in range(rows):
        t[y[j] * ROWS + j] = low[j]
    tile_store(t, dz, rows, n)


cdef double settle_rows(
    const double* values, const double[::1] weight, real[::1] loss, Py_ssize_t start, Py_ssize_t rows,
) noexcept nogil:
    """Weigh the losses of some rows, store them if they are wanted, give their sum."""
    cdef double value, total = 0
    cdef Py_ssize_t j
    for j in range(rows):
        value = values[j] * (weight[start + j] if weight.shape[0] > 0 else 1.0)
        if loss.shape[0] > 0:
            loss[start + j] = value
        total += value
    return total


cdef inline bint skipped(const double[::1] weight, Py_ssize_t i, real* dz, Py_ssize_t n) noexcept nogil:
    """Whether row i has the weight 0; its gradient is then cleared."""
    cdef Py_ssize_t k
    if weight.shape[0] == 0 or weight[i] != 0:
        return False
    for k in range(n if dz != NULL else 0):
        dz[k] = 0
    return True


def cross_entropy_index(
    const real[:, ::1] z not None, const int64_t[::1] y not None, const double[::1] weight not None,
    real[::1] loss not None, real[:, ::1] dz not None, double scale,
):
    """loss = weight (logsumexp(z) - z_y), dz = scale weight (softmax(z) - onehot(y)); z, dz: (N, C), the others (N,).

    Returns the sum of the losses."""
    cdef Py_ssize_t i = 0, rows = 1, n = z.shape[0], classes = z.shape[1]
    cdef double values[ROWS]
    cdef const double* w
    cdef real* gradient
    cdef double total = 0
    with nogil:
        while i < n:
            w = &weight[i] if weight.shape[0] > 0 else NULL
            gradient = &dz[i, 0] if dz.shape[0] > 0 else NULL
            if classes <= FEW:
                rows = min(<Py_ssize_t>ROWS, n - i)
                cross_entropy_tile(&z[i, 0], &y[i], w, values, gradient, rows, classes, scale)
            elif skipped(weight, i, gradient, classes):
                values[0] = 0
            else:
                cross_entropy_row(&z[i, 0], y[i], values, gradient, classes, scale * (1.0 if w == NULL else w[0]))
            total += settle_rows(values, weight, loss, i, rows)
            i += rows
    return total


# Probability targets t, T = sum(t), p_k = e_k / S:
#     loss = sum_k t_k (logsumexp(z) - z_k) = sum_k t_k ((m - z_k) + log(S)); t_k = 0 adds 0 even where z_k = -inf
#     d loss / d z_k = T p_k - t_k = p_k (T - t_k) - t_k (1 - p_k), where 1 - p_k is (S - e_k) / S, or others / S at the
#     maximum: for a one-hot t this is the gradient of the label, digit by digit.

cdef inlined soft_term(
    real z, double t, real m, double log_sum, double* mass, double* mass_low, double* loss, double* loss_low,
) noexcept nogil:
    add(mass, mass_low, t)
    add(loss, loss_low, <double>0 if t == 0 else t * ((<double>0 if z == m else <double>m - z) + log_sum))


cdef inlined soft_gradient(real z, real t, real m, real T, real rest, real S, real factor, real* e) noexcept nogil:
    e[0] = (e[0] * (T - t) - t * (rest if z == m else S - e[0])) * factor


cdef clones cross_entropy_soft_row(
    const real* z, const real* t, double* loss, real* dz, Py_ssize_t n, double scale,
) noexcept nogil:
    cdef real m, T, rest, S, factor
    cdef double others, low, log_sum, mass = 0, mass_low = 0, loss_low = 0
    cdef Py_ssize_t k
    row_max(z, &m, n)
    exp_others(z, m, &others, &low, dz, n)
    others = others if m > -INFINITY else <double>NAN
    log_total(others, low, &log_sum)
    loss[0] = 0
    for k in range(n):
        soft_term(z[k], t[k], m, log_sum, &mass, &mass_low, loss, &loss_low)
    loss[0] += <double>0 if loss[0] == INFINITY else loss_low   # the low part of an infinite sum is NaN
    if dz != NULL:
        T, rest, S, factor = mass + mass_low, others, 1.0 + others, scale / (1.0 + others)
        for k in range(n):
            soft_gradient(z[k], t[k], m, T, rest, S, factor, &dz[k])


cdef clones cross_entropy_soft_tile(
    const real* z, const real* t, const double* weight, double* loss, real* dz, Py_ssize_t rows, Py_ssize_t n, double scale,
) noexcept nogil:
    cdef real zs[FEW * ROWS]
    cdef real ts[FEW * ROWS]
    cdef real es[FEW * ROWS]
    cdef real m[ROWS]
    cdef real T[ROWS]
    cdef real rest[ROWS]
    cdef real S[ROWS]
    cdef real factor[ROWS]
    cdef double others[ROWS]
    cdef double low[ROWS]
    cdef double mass[ROWS]
    cdef double mass_low[ROWS]
    cdef double loss_low[ROWS]
    cdef Py_ssize_t j, k
    tile_load(z, weight, zs, rows, n)
    tile_load(t, weight, ts, rows, n)
    tile_others(zs, m, others, low, es, n)
    for j in range(ROWS):
        others[j] = others[j] if m[j] > -INFINITY else <double>NAN
        log_total(others[j], low[j], &low[j])
        loss[j] = loss_low[j] = mass[j] = mass_low[j] = 0
    for k in range(n):
        for j in range(ROWS):
            soft_term(
                zs[k * ROWS + j], ts[k * ROWS + j], m[j], low[j], &mass[j], &mass_low[j], &loss[j], &loss_low[j])
    for j in range(ROWS):
        loss[j] += <double>0 if loss[j] == INFINITY else loss_low[j]   # the low part of an infinite sum is NaN
    if dz == NULL:
        return
    for j in range(ROWS):
        T[j], rest[j], S[j] = mass[j] + mass_low[j], others[j], 1.0 + others[j]
        factor[j] = (scale * weight[j] if weight != NULL and j < rows else scale) / (1.0 + others[j])
    for k in range(n):
        for j in range(ROWS):
            soft_gradient(
                zs[k * ROWS + j], ts[k * ROWS + j], m[j], T[j], rest[j], S[j], factor[j], &es[k * ROWS + j])
    tile_store(es, dz, rows, n)


def cross_entropy_soft(
    const real[:, ::1] z not None, const real[:, ::1] t not None, const double[::1] weight not None,
    real[::1] loss not None, real[:, ::1] dz not None, double scale,
):
    """loss = weight sum_k t_k (logsumexp(z) - z_k), dz = scale weight (sum(t) softmax(z) - t); z, t, dz: (N, C).

    Returns the sum of the losses."""
    cdef Py_ssize_t i = 0, rows = 1, n = z.shape[0], classes = z.shape[1]
    cdef double values[ROWS]
    cdef const double* w
    cdef real* gradient
    cdef double total = 0
    with nogil:
        while i < n:
            w = &weight[i] if weight.shape[0] > 0 else NULL
            gradient = &dz[i, 0] if dz.shape[0] > 0 else NULL
            if classes <= FEW:
                rows = min(<Py_ssize_t>ROWS, n - i)
                cross_entropy_soft_tile(&z[i, 0], &t[i, 0], w, values, gradient, rows, classes, scale)
            elif skipped(weight, i, gradient, classes):
                values[0] = 0
            else:
                cross_entropy_soft_row(
                    &z[i, 0], &t[i, 0], values, gradient, classes, scale * (1.0 if w == NULL else w[0]))
            total += settle_rows(values, weight, loss, i, rows)
            i += rows
    return total


# ---- elementwise losses, value and gradient ------------------------------------------------------------------------
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
    cdef real a, e, wrong, paid, slope
    cdef Py_ssize_t i
    for i in range(n):
        a = _math.magnitude(z[i])
        e = _math.exp(-a)
        wrong = t[i] if z[i] < 0 else <real>1 - t[i]
        paid = wrong * a
        loss[i] = (paid if wrong > 0 else <real>0) + _math.log1p_unit(e)
        slope = (wrong - (<real>1 - wrong) * e) / (<real>1 + e)
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

def first_outside_range(const int64_t[::1] y not None, Py_ssize_t classes):
    """The first i with y_i < 0 or y_i >= classes, else -1; y: (N,)."""
    cdef Py_ssize_t i
    for i in range(y.shape[0]):
        if y[i] < 0 or y[i] >= classes:
            return i
    return -1


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


# ---- doors: small plain arrays ---------------------------------------------------------------------------------------
# A small net spends its time in checks and in the acquisition of arrays. A door checks in C what functional checks in
# Python, and does the work if all is plain: aligned C-contiguous arrays of one dtype, of the shapes they should have,
# that do not overlap in part, no more than SMALL elements. Otherwise it leaves everything as it is and says so, and
# functional does the work, or says what is wrong.

cdef bint enter(object x, Py_buffer* view, bint writable) noexcept:
    """Acquire the memory of x if it is C-contiguous and aligned; otherwise nothing is held."""
    try:
        PyObject_GetBuffer(x, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
    except (BufferError, TypeError, ValueError):
        return False
    if view.len > SMALL * view.itemsize or <size_t>view.buf % <size_t>view.itemsize or view.format[1] != 0:
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


cdef bint activate(Activation which, object x, object y):
    cdef Py_buffer a, b
    cdef bint done = False
    if not enter(x, &a, False):
        return False
    if enter(y, &b, True):
        if alike(&a, &b):
            if a.format[0] == b"f":
                done = True
                activation_loop(which, <const float*>a.buf, <float*>b.buf, <float*>NULL, a.len // 4)
            elif a.format[0] == b"d":
                done = True
                activation_loop(which, <const double*>a.buf, <double*>b.buf, <double*>NULL, a.len // 8)
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return done


def sigmoid_door(x not None, y not None):
    """y = sigmoid(x), if both are small plain arrays (N, ...); whether it was done."""
    return activate(SIGMOID, x, y)


def tanh_door(x not None, y not None):
    """y = tanh(x), if both are small plain arrays (N, ...); whether it was done."""
    return activate(TANH, x, y)


def softplus_door(x not None, y not None):
    """y = softplus(x), if both are small plain arrays (N, ...); whether it was done."""
    return activate(SOFTPLUS, x, y)


def log_sigmoid_door(x not None, y not None):
    """y = log_sigmoid(x), if both are small plain arrays (N, ...); whether it was done."""
    return activate(LOG_SIGMOID, x, y)


def relu_door(x not None, y not None):
    """y = relu(x), if both are small plain arrays (N, ...); whether it was done."""
    return activate(RELU, x, y)


cdef double mean_loss(
    const real* z, const int64_t* y, real* dz, Py_ssize_t n, Py_ssize_t classes,
) noexcept nogil:
    """The mean cross-entropy of n rows and its gradient; -1 if a label is out of range."""
    cdef double values[ROWS]
    cdef double scale = 1.0 / n, part, total = 0
    cdef Py_ssize_t i, j, rows
    for i in range(n):
        if y[i] < 0 or y[i] >= classes:
            return -1
    i = 0
    while i < n:
        rows = min(<Py_ssize_t>ROWS, n - i)
        cross_entropy_tile(z + i * classes, y + i, <const double*>NULL, values, dz + i * classes, rows, classes, scale)
        part = 0
        for j in range(rows):
            part += values[j]
        total += part
        i += rows
    return total * scale


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


def cross_entropy_door(z not None, y not None, dz not None):
    """loss = mean(logsumexp(z) - z_y) and its gradient dz, if z, dz (N, C) and y (N,) are small and plain; else None."""
    cdef Py_buffer a, b, c
    cdef double loss = -1
    if not enter(z, &a, False):
        return None
    if enter(y, &b, False):
        if enter(dz, &c, True):
            if alike(&a, &c) and a.buf != c.buf and apart(&b, &c) and a.ndim == 2 and b.ndim == 1:
                if labels_of(&b, a.shape[0]) and 0 < a.shape[1] <= FEW:
                    if a.format[0] == b"f":
                        loss = mean_loss(<float*>a.buf, <int64_t*>b.buf, <float*>c.buf, a.shape[0], a.shape[1])
                    elif a.format[0] == b"d":
                        loss = mean_loss(<double*>a.buf, <int64_t*>b.buf, <double*>c.buf, a.shape[0], a.shape[1])
            PyBuffer_Release(&c)
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return None if loss == -1 else loss


# ---- updates of a flat parameter vector, in place ------------------------------------------------------------------

cdef clones sgd_loop(real* w, const real* g, Py_ssize_t n, real lr, real decay) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        w[i] -= lr * (g[i] + decay * w[i])


cdef clones momentum_loop(
    real* w, real* v, const real* g, Py_ssize_t n, real lr, real momentum, bint nesterov, real decay,
) noexcept nogil:
    cdef real step
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        v[i] = momentum * v[i] + step
        w[i] -= lr * (step + momentum * v[i] if nesterov else v[i])


cdef narrow_clones adam_loop(
    real* w, real* m, real* v, const real* g, Py_ssize_t n, real rate, real rest1, real beta2, real rest2, real scale,
    real eps, real decay,
) noexcept nogil:
    cdef real step
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        m[i] += (step - m[i]) * rest1
        v[i] = beta2 * v[i] + rest2 * step * step
        w[i] -= rate * m[i] / (_math.root(v[i]) * scale + eps)


def sgd_update(const real[::1] g not None, real[::1] w not None, double lr, double decay):
    """w -= lr (g + decay w); all (P,)."""
    with nogil:
        sgd_loop(&w[0], &g[0], w.shape[0], lr, decay)


def momentum_update(
    const real[::1] g not None, real[::1] w not None, real[::1] v not None,
    double lr, double momentum, bint nesterov, double decay,
):
    """d = g + decay w, v = momentum v + d, w -= lr v, or lr (d + momentum v) with nesterov; all (P,)."""
    with nogil:
        momentum_loop(&w[0], &v[0], &g[0], w.shape[0], lr, momentum, nesterov, decay)


def adam_update(
    const real[::1] g not None, real[::1] w not None, real[::1] m not None, real[::1] v not None,
    double lr, double beta1, double beta2, double eps, double decay, int64_t step,
):
    """m, v = running means of g and g^2, w -= lr m' / (sqrt(v') + eps), m' = m / (1 - beta1^step) ...; all (P,)."""
    cdef double rate = lr / (1.0 - beta1 ** step)
    cdef double scale = 1.0 / sqrt(1.0 - beta2 ** step)
    # 1 - beta is taken in double: 1 - 0.999 in float is off by 1.3e-5.
    with nogil:
        adam_loop(&w[0], &m[0], &v[0], &g[0], w.shape[0], rate, 1.0 - beta1, beta2, 1.0 - beta2, scale, eps, decay)
