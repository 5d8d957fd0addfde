# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Rows of logits: softmax, log-softmax, logsumexp and cross-entropy. Letters and rules: _activations.pyx."""

from cpython.buffer cimport PyBuffer_Release
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t

from minnet cimport _math
from minnet._doors cimport alike, apart, enter, labels_of
from minnet._math cimport inlined, real
from minnet._loops cimport LANES, clones

cdef extern from "_simd.h":
    void minnet_transpose_f32(const float* a, Py_ssize_t a_step, float* b, Py_ssize_t b_step) noexcept nogil
    void minnet_transpose_f64(const double* a, Py_ssize_t a_step, double* b, Py_ssize_t b_step) noexcept nogil

cdef enum:
    ROWS = 32  # rows of few classes that go side by side
    FEW = 64   # classes up to which they do
    FLUSH = 8  # blocks that are summed in one part


# ---- rows of logits ------------------------------------------------------------------------------------------------
# Everything about a row of logits follows from its maximum m, e_k = exp(z_k - m), and `others`, the sum of e without
# one maximal entry, whose e is 1: kept apart, because 1 + others rounds to 1 where a confident row's loss lives.
# Where m = +inf, its entries share: e is 1 for each and 0 elsewhere. A row of -inf only has no limit: NaN.
#
# Rows of up to FEW classes go ROWS at a time, side by side: class k of row j stands at t[k * ROWS + j] of a tile, and
# each step is a loop over j. Longer rows go one at a time, in blocks of LANES; the tail is filled up with -inf, whose e is
# 0, to one more block.

cdef inlined add(double* high, double* low, double v) noexcept nogil:
    """high + low += v, the rounding error kept (Knuth's TwoSum)."""
    cdef double t = high[0] + v
    cdef double v_part = t - high[0]
    low[0] += (high[0] - (t - v_part)) + (v - v_part)
    high[0] = t


cdef inlined unshift_sum(double high, double low, double scale, double* others, double* others_low) noexcept nogil:
    """others = (high + low) scale, where a small product must be rounded to a subnormal number only once."""
    cdef double total = high + low
    low -= total - high
    others[0], others_low[0] = total * scale, low * scale


cdef inlined pad(const real* z, real* block, Py_ssize_t n) noexcept nogil:
    """block = z, n entries, and then -inf."""
    cdef Py_ssize_t j
    for j in range(LANES):
        block[j] = -INFINITY
    for j in range(n):
        block[j] = z[j]


cdef inlined max_block(const real* z, real block, real* lanes, real* where) noexcept nogil:
    """Largest entries so far, lane by lane, and the blocks they come from."""
    cdef Py_ssize_t j
    for j in range(LANES):
        where[j] = block if z[j] > lanes[j] else where[j]
        lanes[j] = z[j] if z[j] > lanes[j] else lanes[j]


cdef inlined fold_max(real* lanes, real* where, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        where[j] = where[j + width] if lanes[j + width] > lanes[j] else where[j]
        lanes[j] = lanes[j + width] if lanes[j + width] > lanes[j] else lanes[j]


cdef inlined row_max(const real* z, real* m, Py_ssize_t* at, Py_ssize_t n) noexcept nogil:
    """The largest entry and its place; NaN is passed over (the exponentials will carry it), -inf at 0 if there is none."""
    cdef real lanes[LANES]
    cdef real where[LANES]
    cdef real tail[LANES]
    cdef Py_ssize_t block, j
    for j in range(LANES):
        lanes[j] = -INFINITY
        where[j] = 0
    for block in range(n // LANES):
        max_block(z + block * LANES, <real>block, lanes, where)
    if n % LANES:
        pad(z + n - n % LANES, tail, n % LANES)
        max_block(tail, <real>(n // LANES), lanes, where)
    fold_max(lanes, where, 32)
    fold_max(lanes, where, 16)
    fold_max(lanes, where, 8)
    fold_max(lanes, where, 4)
    fold_max(lanes, where, 2)
    fold_max(lanes, where, 1)
    m[0], at[0] = lanes[0], <Py_ssize_t>where[0] * LANES
    while m[0] > -INFINITY and z[at[0]] != m[0]:
        at[0] += 1


cdef inlined exp_block(const real* z, real m, real* e, double* sums) noexcept nogil:
    """e = exp(z - m) for one block; the (shifted) exponentials are summed lane by lane.

    Two loops, because one is bound by the length of its chain of operations, of which a CPU overlaps only so many.
    """
    cdef real x[LANES]
    cdef Py_ssize_t j
    for j in range(LANES):
        x[j] = _math.exp_difference(z[j], m)
        e[j] = x[j] * _math.unshift(m)
    for j in range(LANES):
        sums[j] += x[j]


cdef inlined flush(double* sums, double* high, double* low) noexcept nogil:
    """high + low += sums, which start again from 0: two parts, or the digits of a long sum of doubles would get lost."""
    cdef Py_ssize_t j
    for j in range(LANES):
        add(&high[j], &low[j], sums[j])
        sums[j] = 0


cdef inlined fold(double* high, double* low, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        add(&high[j], &low[j], high[j + width])
        low[j] += low[j + width]


cdef inlined fold_all(double* high, double* low) noexcept nogil:
    """The sum of all lanes, in the first. The widths are constants, so that each fold is unrolled."""
    fold(high, low, 32)
    fold(high, low, 16)
    fold(high, low, 8)
    fold(high, low, 4)
    fold(high, low, 2)
    fold(high, low, 1)


cdef inlined infinite_others(
    const real* z, double* others, double* others_low, real* e, Py_ssize_t n, Py_ssize_t step,
) noexcept nogil:
    """The same as exp_others for a row whose maximum is +inf, and whose entries are a step apart."""
    cdef Py_ssize_t k
    others[0], others_low[0] = -1.0, 0.0
    for k in range(n):
        others[0] += NAN if z[k * step] != z[k * step] else 1.0 if z[k * step] == INFINITY else 0.0
        if e != NULL:
            e[k * step] = 1 if z[k * step] == INFINITY else 0


cdef inlined finite_others(
    const real* z, real m, Py_ssize_t at, double* others, double* others_low, real* e, Py_ssize_t n,
) noexcept nogil:
    """The block of the maximum comes first, and its own term is taken out of the sums while nothing else is in them."""
    cdef double sums[LANES]
    cdef double high[LANES]
    cdef double low[LANES]
    cdef real padded[LANES]
    cdef real scratch[LANES]
    cdef Py_ssize_t step, block, size, j, first = at // LANES
    for j in range(LANES):
        sums[j] = low[j] = 0
        if real is double:
            high[j] = 0
    for step in range((n + LANES - 1) // LANES):
        block = first if step == 0 else step - 1 if step <= first else step
        size = n - block * LANES
        if size < LANES:
            pad(z + block * LANES, padded, size)
        exp_block(
            &padded[0] if size < LANES else z + block * LANES, m,
            &scratch[0] if size < LANES or e == NULL else e + block * LANES, sums)
        if step == 0:
            sums[at % LANES] = 0
        if size < LANES and e != NULL:
            for j in range(size):
                e[block * LANES + j] = scratch[j]
        if real is double and step % FLUSH == FLUSH - 1:
            flush(sums, high, low)
    if real is double:
        flush(sums, high, low)
        fold_all(high, low)
        unshift_sum(high[0], low[0], _math.unshift(m), others, others_low)
    else:
        fold_all(sums, low)
        unshift_sum(sums[0], low[0], _math.unshift(m), others, others_low)


cdef inlined exp_others(
    const real* z, real m, Py_ssize_t at, double* others, double* others_low, real* e, Py_ssize_t n,
) noexcept nogil:
    """Sum of exp(z - m) over all entries but the maximum at `at`; the exponentials go to `e` unless it is NULL."""
    if m == INFINITY:
        infinite_others(z, others, others_low, e, n, 1)
    else:
        finite_others(z, m, at, others, others_low, e, n)


cdef inlined transpose(const real* a, Py_ssize_t a_step, real* b, Py_ssize_t b_step) noexcept nogil:
    """b[k, j] = a[j, k] for a block of 4 by 4, whose rows are a step apart."""
    if real is float:
        minnet_transpose_f32(a, a_step, b, b_step)
    else:
        minnet_transpose_f64(a, a_step, b, b_step)


cdef inlined transpose_all(
    const real* a, Py_ssize_t a_step, real* b, Py_ssize_t b_step, Py_ssize_t rows, Py_ssize_t columns,
) noexcept nogil:
    """b[k, j] = a[j, k] by blocks of 4 by 4; the last ones of rows and of columns overlap those before."""
    cdef Py_ssize_t j, k
    if rows < 4 or columns < 4:
        for j in range(rows):
            for k in range(columns):
                b[k * b_step + j] = a[j * a_step + k]
        return
    for j in range(0, rows + 3, 4):
        j = min(j, rows - 4)
        for k in range(0, columns + 3, 4):
            k = min(k, columns - 4)
            transpose(a + j * a_step + k, a_step, b + k * b_step + j, b_step)


cdef inlined tile_load(const real* z, const double* weight, real* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """t[k, j] = z[j, k]; lanes without a row, or whose row has the weight 0, hold 0."""
    cdef Py_ssize_t j, k
    if rows < ROWS:
        for k in range(n * ROWS):
            t[k] = 0
    transpose_all(z, n, t, ROWS, rows, n)
    if weight != NULL:
        for j in range(rows):
            for k in range(n if weight[j] == 0 else 0):
                t[k * ROWS + j] = 0


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


cdef inlined tile_max(const real* t, real* m, real* at, Py_ssize_t n) noexcept nogil:
    """For each row of a tile: its maximum and where it stands."""
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        m[j] = -INFINITY
        at[j] = 0
    for k in range(n):
        for j in range(ROWS):
            at[j] = <real>k if t[k * ROWS + j] > m[j] else at[j]
            m[j] = t[k * ROWS + j] if t[k * ROWS + j] > m[j] else m[j]


cdef inlined tile_others(
    const real* t, real* m, double* others, double* others_low, real* e, Py_ssize_t n,
) noexcept nogil:
    """For each row of a tile: its maximum m, e = exp(t - m), and the sum of e without that of one maximum."""
    cdef real at[ROWS]
    cdef double low[ROWS]
    cdef double sums[ROWS]
    cdef real x[ROWS]
    cdef Py_ssize_t j, k
    tile_max(t, m, at, n)
    for j in range(ROWS):
        sums[j] = low[j] = 0
    for k in range(n):
        for j in range(ROWS):
            x[j] = _math.exp_difference(t[k * ROWS + j], m[j])
            e[k * ROWS + j] = x[j] * _math.unshift(m[j])
            x[j] = <real>0 if at[j] == <real>k else x[j]
        for j in range(ROWS):
            if real is float:
                sums[j] += x[j]   # a double has 29 bits to spare
            else:
                add(&sums[j], &low[j], x[j])
    for j in range(ROWS):
        unshift_sum(sums[j], low[j], _math.unshift(m[j]), &others[j], &others_low[j])
    for j in range(ROWS):
        if m[j] == INFINITY:
            infinite_others(t + j, &others[j], &others_low[j], e + j, n, ROWS)


cdef inlined log_total(double others, double low, double* log_sum) noexcept nogil:
    """log(1 + others), so that logsumexp = m + this."""
    log_sum[0] = _math.log1p(others) + low / (1.0 + others)


cdef inlined invert_total(double others, double others_low, real* high, real* low) noexcept nogil:
    """1 / (1 + others) in two parts, because rounding it would cost up to an ulp of every probability."""
    cdef double total = 1.0, total_low = others_low, inverse, inverse_low = 0.0
    if real is float:
        inverse = 1.0 / (1.0 + others)
    else:
        add(&total, &total_low, others)
        _math.reciprocal(total, total_low, &inverse, &inverse_low)
    high[0] = inverse
    low[0] = (inverse - high[0]) + inverse_low


# ---- softmax family ------------------------------------------------------------------------------------------------

cdef inlined normalize_tile(const real* t, real* y, Py_ssize_t n) noexcept nogil:
    """y = softmax(t), row by row."""
    cdef real m[ROWS]
    cdef double others[ROWS]
    cdef double others_low[ROWS]
    cdef real high[ROWS]
    cdef real low[ROWS]
    cdef Py_ssize_t j, k
    tile_others(t, m, others, others_low, y, n)
    for j in range(ROWS):
        invert_total(others[j] if m[j] > -INFINITY else <double>NAN, others_low[j], &high[j], &low[j])
    for k in range(n):
        for j in range(ROWS):
            y[k * ROWS + j] = y[k * ROWS + j] * high[j] + y[k * ROWS + j] * low[j]


cdef inlined log_normalize_tile(const real* t, real* y, Py_ssize_t n) noexcept nogil:
    """y = log(softmax(t)), row by row."""
    cdef real m[ROWS]
    cdef double others[ROWS]
    cdef double log_sum[ROWS]
    cdef real L[ROWS]
    cdef Py_ssize_t j, k
    tile_others(t, m, others, log_sum, y, n)
    for j in range(ROWS):
        log_total(others[j] if m[j] > -INFINITY else <double>NAN, log_sum[j], &log_sum[j])
        L[j] = log_sum[j]
    for k in range(n):
        for j in range(ROWS):
            y[k * ROWS + j] = -L[j] if t[k * ROWS + j] == m[j] else (t[k * ROWS + j] - m[j]) - L[j]


cdef clones softmax_tile(const real* x, real* y, Py_ssize_t rows, Py_ssize_t n, bint logarithm, Py_ssize_t step) noexcept nogil:
    """One tile of rows (step 0), or of columns whose classes are `step` apart."""
    cdef real t[FEW * ROWS]
    cdef real p[FEW * ROWS]
    if step:
        tile_load_columns(x, t, rows, n, step)
    else:
        tile_load(x, <const double*>NULL, t, rows, n)
    if logarithm:
        log_normalize_tile(t, p, n)
    else:
        normalize_tile(t, p, n)
    if step:
        tile_store_columns(p, y, rows, n, step)
    else:
        transpose_all(p, ROWS, y, n, n, rows)


cdef clones softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m, high, low
    cdef double others, others_low
    cdef Py_ssize_t at, k
    row_max(x, &m, &at, n)
    exp_others(x, m, at, &others, &others_low, y, n)
    invert_total(others if m > -INFINITY else <double>NAN, others_low, &high, &low)
    for k in range(n):
        y[k] = y[k] * high + y[k] * low


cdef clones log_softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m, L
    cdef double others, low, log_sum
    cdef Py_ssize_t at, k
    row_max(x, &m, &at, n)
    exp_others(x, m, at, &others, &low, <real*>NULL, n)
    log_total(others if m > -INFINITY else <double>NAN, low, &log_sum)
    L = log_sum
    for k in range(n):
        y[k] = -L if x[k] == m else (x[k] - m) - L


cdef clones logsumexp_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m
    cdef double others, low, log_sum
    cdef Py_ssize_t at, k
    row_max(x, &m, &at, n)
    exp_others(x, m, at, &others, &low, <real*>NULL, n)
    log_total(others, low, &log_sum)
    y[0] = m + log_sum
    if m == -INFINITY:
        y[0] = m
        for k in range(n):
            y[0] += x[k]   # NaN, if there is one


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
    real z_y, real e_y, real m, double others, double low, double scale, double* loss, double* factor, double* dz_y,
) noexcept nogil:
    """From the sums of a row: its loss, scale / S, and the gradient at the label."""
    cdef double total = 1.0 + others if m > -INFINITY else <double>NAN
    cdef double wrong = others if z_y == m else (1.0 - e_y) + others
    if real is float:
        loss[0] = _math.log1p(<real>others)   # in float: half of the time of a tile would go into one of doubles
    else:
        log_total(others, low, loss)
    loss[0] = (0.0 if z_y == m else <double>m - z_y) + (loss[0] if m > -INFINITY else <double>NAN)
    factor[0] = scale / total
    dz_y[0] = -wrong * factor[0]


cdef clones cross_entropy_row(
    const real* z, Py_ssize_t y, double* loss, real* dz, Py_ssize_t n, double scale,
) noexcept nogil:
    cdef real m, factor
    cdef double others, low, quotient, dz_y
    cdef Py_ssize_t at, k
    row_max(z, &m, &at, n)
    exp_others(z, m, at, &others, &low, dz, n)
    settle_label(z[y], <real>0 if dz == NULL else dz[y], m, others, low, scale, loss, &quotient, &dz_y)
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
    cdef real e[FEW * ROWS]
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
    tile_others(t, m, others, low, e, n)
    for j in range(ROWS):
        e_y[j] = e[y[j] * ROWS + j] if j < rows else e[j]
        scales[j] = scale * weight[j] if weight != NULL and j < rows else scale
    for j in range(ROWS):
        settle_label(z_y[j], e_y[j], m[j], others[j], low[j], scales[j], &loss[j], &others[j], &low[j])
    if dz == NULL:
        return
    for j in range(ROWS):
        factor[j] = others[j]
    for k in range(n):
        for j in range(ROWS):
            e[k * ROWS + j] *= factor[j]
    for j in range(rows):
        e[y[j] * ROWS + j] = low[j]
    transpose_all(e, ROWS, dz, n, n, rows)


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
    cdef Py_ssize_t at, k
    row_max(z, &m, &at, n)
    exp_others(z, m, at, &others, &low, dz, n)
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
    transpose_all(es, ROWS, dz, n, n, rows)


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


# ---- ranges: where the first wrong target stands, or -1 ------------------------------------------------------------

def first_outside_range(const int64_t[::1] y not None, Py_ssize_t classes):
    """The first i with y_i < 0 or y_i >= classes, else -1; y: (N,)."""
    cdef Py_ssize_t i
    for i in range(y.shape[0]):
        if y[i] < 0 or y[i] >= classes:
            return i
    return -1


# ---- doors: see _doors.pxd -----------------------------------------------------------------------------------------

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
