# cython: cdivision=True
# Rows of logits: what softmax and cross-entropy share.
#
# Everything about a row of logits follows from its maximum m, e_k = exp(z_k - m), and `others`, the sum of e without
# one maximal entry, whose e is 1: kept apart, because 1 + others rounds to 1 where a confident row's loss lives.
# Where m = +inf, its entries share: e is 1 for each and 0 elsewhere. A row of -inf only has no limit: NaN.
#
# Rows of up to FEW classes go ROWS at a time, side by side: class k of row j stands at t[k * ROWS + j] of a tile, and
# each step is a loop over j. Longer rows go one at a time, in blocks of LANES; the tail is filled up with -inf, whose e is
# 0, to one more block.

from libc.math cimport INFINITY, NAN

from minnet cimport _math
from minnet._loops cimport LANES
from minnet._math cimport inlined, real

cdef extern from "_simd.h":
    void minnet_transpose_f32(const float* a, Py_ssize_t a_step, float* b, Py_ssize_t b_step) noexcept nogil
    void minnet_transpose_f64(const double* a, Py_ssize_t a_step, double* b, Py_ssize_t b_step) noexcept nogil

cdef enum:
    ROWS = 32  # rows of few classes that go side by side
    FEW = 64   # classes up to which they do
    FLUSH = 2  # blocks that are summed in one part; with 8, what rounds away beside a large term made 2.5 ulp of softmax


cdef inline inlined add(double* high, double* low, double v) noexcept nogil:
    """high + low += v, the rounding error kept (Knuth's TwoSum)."""
    cdef double t = high[0] + v
    cdef double v_part = t - high[0]
    low[0] += (high[0] - (t - v_part)) + (v - v_part)
    high[0] = t


cdef inline inlined unshift_sum(double high, double low, double scale, double* others, double* others_low) noexcept nogil:
    """others = (high + low) scale, where a small product must be rounded to a subnormal number only once."""
    cdef double total = high + low
    low -= total - high
    others[0], others_low[0] = total * scale, low * scale


cdef inline inlined pad(const real* z, real* block, Py_ssize_t n) noexcept nogil:
    """block = z, n entries, and then -inf."""
    cdef Py_ssize_t j
    for j in range(LANES):
        block[j] = -INFINITY
    for j in range(n):
        block[j] = z[j]


cdef inline inlined max_block(const real* z, real block, real* lanes, real* where) noexcept nogil:
    """Largest entries so far, lane by lane, and the blocks they come from."""
    cdef Py_ssize_t j
    for j in range(LANES):
        where[j] = block if z[j] > lanes[j] else where[j]
        lanes[j] = z[j] if z[j] > lanes[j] else lanes[j]


cdef inline inlined fold_max(real* lanes, real* where, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        where[j] = where[j + width] if lanes[j + width] > lanes[j] else where[j]
        lanes[j] = lanes[j + width] if lanes[j + width] > lanes[j] else lanes[j]


cdef inline inlined row_max(const real* z, real* m, Py_ssize_t* at, Py_ssize_t n) noexcept nogil:
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


cdef inline inlined exp_block(const real* z, real m, real scale, real* e, double* sums) noexcept nogil:
    """e = exp(z - m) for one block, shifted, times scale; the shifted exponentials are summed lane by lane.

    Two loops, because one is bound by the length of its chain of operations, of which a CPU overlaps only so many.
    """
    cdef real x[LANES]
    cdef Py_ssize_t j
    for j in range(LANES):
        x[j] = _math.exp_difference(z[j], m)
        e[j] = x[j] * scale
    for j in range(LANES):
        sums[j] += x[j]


cdef inline inlined flush(double* sums, double* high, double* low) noexcept nogil:
    """high + low += sums, which start again from 0: two parts, or the digits of a long sum of doubles would get lost."""
    cdef Py_ssize_t j
    for j in range(LANES):
        add(&high[j], &low[j], sums[j])
        sums[j] = 0


cdef inline inlined fold(double* high, double* low, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        add(&high[j], &low[j], high[j + width])
        low[j] += low[j + width]


cdef inline inlined fold_all(double* high, double* low) noexcept nogil:
    """The sum of all lanes, in the first. The widths are constants, so that each fold is unrolled."""
    fold(high, low, 32)
    fold(high, low, 16)
    fold(high, low, 8)
    fold(high, low, 4)
    fold(high, low, 2)
    fold(high, low, 1)


cdef inline inlined infinite_others(
    const real* z, real scale, double* others, double* others_low, real* e, Py_ssize_t n, Py_ssize_t step,
) noexcept nogil:
    """The same as exp_others for a row whose maximum is +inf, and whose entries are a step apart."""
    cdef Py_ssize_t k
    others[0], others_low[0] = -1.0, 0.0
    for k in range(n):
        others[0] += NAN if z[k * step] != z[k * step] else 1.0 if z[k * step] == INFINITY else 0.0
        if e != NULL:
            e[k * step] = scale / _math.unshift(scale) if z[k * step] == INFINITY else 0


cdef inline inlined finite_others(
    const real* z, real m, Py_ssize_t at, real scale, double* others, double* others_low, real* e, Py_ssize_t n,
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
            &padded[0] if size < LANES else z + block * LANES, m, scale,
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


cdef inline inlined exp_others(
    const real* z, real m, Py_ssize_t at, real scale, double* others, double* others_low, real* e, Py_ssize_t n,
) noexcept nogil:
    """Sum of exp(z - m) over all entries but the maximum at `at`; the exponentials go to `e` unless it is NULL.

    They are shifted by 1 / unshift, so that none is subnormal, and then multiplied by `scale`.
    """
    if m == INFINITY:
        infinite_others(z, scale, others, others_low, e, n, 1)
    else:
        finite_others(z, m, at, scale, others, others_low, e, n)


cdef inline inlined transpose(const real* a, Py_ssize_t a_step, real* b, Py_ssize_t b_step) noexcept nogil:
    """b[k, j] = a[j, k] for a block of 4 by 4, whose rows are a step apart."""
    if real is float:
        minnet_transpose_f32(a, a_step, b, b_step)
    else:
        minnet_transpose_f64(a, a_step, b, b_step)


cdef inline inlined transpose_all(
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


cdef inline inlined tile_load(const real* z, const double* weight, real* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
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


cdef inline inlined tile_load_columns(const real* z, real* t, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """t[k, j] = z[k, j], where a class of z is `step` long: columns stand side by side already."""
    cdef Py_ssize_t j, k
    for k in range(n):
        for j in range(rows):
            t[k * ROWS + j] = z[k * step + j]
        for j in range(rows, ROWS):
            t[k * ROWS + j] = 0


cdef inline inlined tile_store_columns(const real* t, real* y, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """y[k, j] = t[k, j]."""
    cdef Py_ssize_t j, k
    for k in range(n):
        for j in range(rows):
            y[k * step + j] = t[k * ROWS + j]


cdef inline inlined tile_max(const real* t, real* m, real* at, Py_ssize_t n) noexcept nogil:
    """For each row of a tile: its maximum and where it stands."""
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        m[j] = -INFINITY
        at[j] = 0
    for k in range(n):
        for j in range(ROWS):
            at[j] = <real>k if t[k * ROWS + j] > m[j] else at[j]
            m[j] = t[k * ROWS + j] if t[k * ROWS + j] > m[j] else m[j]


cdef inline inlined tile_others(
    const real* t, real* m, real scale, double* others, double* others_low, real* e, Py_ssize_t n,
) noexcept nogil:
    """For each row of a tile: its maximum m, e = exp(t - m), shifted, times scale, and the sum but for one maximum."""
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
            e[k * ROWS + j] = x[j] * scale
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
            infinite_others(t + j, scale, &others[j], &others_low[j], e + j, n, ROWS)


cdef inline inlined log_total(double others, double low, double* log_sum) noexcept nogil:
    """log(1 + others), so that logsumexp = m + this."""
    log_sum[0] = _math.log1p(others) + low / (1.0 + others)


cdef inline inlined invert_total(double others, double others_low, real* high, real* low) noexcept nogil:
    """1 / (1 + others) in two parts, because rounding it would cost up to an ulp of every probability.

    The high part has half the digits, so that its products with halves are exact.
    """
    cdef double total = 1.0, total_low = others_low, inverse, inverse_low = 0.0
    if real is float:
        inverse = 1.0 / (1.0 + others)
    else:
        add(&total, &total_low, others)
        _math.reciprocal(total, total_low, &inverse, &inverse_low)
    high[0] = _math.head(<real>inverse)
    low[0] = (inverse - high[0]) + inverse_low


cdef inline inlined multiply(real high, real low, real* e) noexcept nogil:
    """e, shifted, times high + low: one rounding counts, on CPUs that cannot fuse a * b + c, too, and one more where the
    product is subnormal."""
    cdef real e1 = _math.head(e[0])
    e[0] = (e1 * high + ((e[0] - e1) * high + e[0] * low)) * _math.unshift(high)
