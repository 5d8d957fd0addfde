# cython: cdivision=True
# Rows of logits: what softmax and cross-entropy share.
#
# Everything about a row of logits follows from its maximum m, e_k = exp(z_k - m), and `others`, the sum of e without
# one maximal entry, whose e is 1: kept apart, because 1 + others rounds to 1 where a confident row's loss lives.
# Where m = +inf, its entries share: e is 1 for each and 0 elsewhere. A row of -inf only has no limit: NaN.
#
# Rows of up to FEW classes go ROWS at a time, side by side: class k of row j stands at t[k * ROWS + j] of a tile, and
# each step is a loop over j. Longer rows go one at a time, in blocks of LANES, the last of which overlaps the one before.

from libc.math cimport INFINITY, NAN

from minnet cimport _math
from minnet._loops cimport LANES
from minnet._math cimport inlined, real

cdef extern from "_simd.h":
    void minnet_prefetch(const void* p) noexcept nogil
    bint minnet_has_wide() noexcept nogil
    ctypedef double lined "MINNET_LINED double"

cdef extern from "_turn.h":
    void minnet_turn_in_f32(const float* z, float* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
    void minnet_turn_in_f64(const double* z, double* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
    void minnet_turn_out_f32(float* y, const float* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
    void minnet_turn_out_f64(double* y, const double* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
    void minnet_transpose_f32(const float* a, Py_ssize_t a_step, float* b, Py_ssize_t b_step) noexcept nogil
    void minnet_transpose_f64(const double* a, Py_ssize_t a_step, double* b, Py_ssize_t b_step) noexcept nogil
    void minnet_deal_f64(const double* a, Py_ssize_t a_step, double* b, Py_ssize_t b_step) noexcept nogil
    void minnet_collect_f64(const double* a, Py_ssize_t a_step, double* b, Py_ssize_t b_step) noexcept nogil

cdef enum:
    LINE = 64  # bytes of a line of the cache
    ROWS = 32  # rows of few classes that go side by side
    FEW = 64   # classes up to which they do
    STRIP = 16 # floats of a strip
    AHEAD = 4096  # bytes: what is written is fetched so much before, across pages, which the CPU itself does not


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


cdef inline inlined max_block(const real* z, real* lanes) noexcept nogil:
    """Largest entries so far, lane by lane."""
    cdef Py_ssize_t j
    for j in range(LANES):
        lanes[j] = z[j] if z[j] > lanes[j] else lanes[j]


cdef inline inlined fold_max(real* lanes, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        lanes[j] = lanes[j + width] if lanes[j + width] > lanes[j] else lanes[j]


cdef inline inlined row_max(const real* z, real* m, Py_ssize_t n) noexcept nogil:
    """The largest entry; NaN is passed over (the exponentials will carry it), -inf if there is none."""
    cdef real lanes[LANES]
    cdef real padded[LANES]
    cdef Py_ssize_t block, j
    for j in range(LANES):
        lanes[j] = -INFINITY
    for block in range(n // LANES):
        max_block(z + block * LANES, lanes)
    if n >= LANES:
        max_block(z + n - LANES, lanes)
    else:
        pad(z, padded, n)
        max_block(padded, lanes)
    fold_max(lanes, 32)
    fold_max(lanes, 16)
    fold_max(lanes, 8)
    fold_max(lanes, 4)
    fold_max(lanes, 2)
    fold_max(lanes, 1)
    m[0] = lanes[0]


cdef inline inlined fetch(const real* z, Py_ssize_t lines) noexcept nogil:
    """Bring lines of the cache near."""
    cdef Py_ssize_t j
    for j in range(lines):
        minnet_prefetch(<const char*>z + j * LINE)


# In rows of many classes no exponentials are taken of z - m, which rounds, but
#     exp(z - m) = unit e,   e = exp(z - base) / 2^N,   unit = 2^N exp(base - m),   N = round((m - base) / ln 2)
# where base is 0, or m if that is so large that z - m is exact wherever the exponential is not 0: z is between m / 2 and
# 2 m there (Sterbenz). This saves a quarter of the operations. What belongs to m: base, shift, which counts off N, and the
# lowest z - base that counts.

cdef inline inlined anchor(real m, real* base, real* shift, real* low, double* unit) noexcept nogil:
    cdef real LOG2E = 1.4426950408889634, LN2 = 0.6931471805599453
    cdef real FLOOR = 191 if real is float else 1535   # 2^-n with all bits 0: 64 or 512 more than the bias of exponents
    cdef bint far = _math.magnitude(m) >= 2 * LN2 * FLOOR
    cdef real near = <real>0 if far else m
    cdef real n = (near * LOG2E + _math.rounder(m)) - _math.rounder(m)
    cdef double r = (n * _math.ln2_high(<double>m) - near) + n * _math.ln2_low(<double>m)
    cdef double r2 = r * r
    base[0] = m if far else <real>0
    low[0] = (n - FLOOR) * LN2
    shift[0] = _math.rounder(m) + ((<real>64 if real is float else <real>512) - n)
    unit[0] = 1 + (r + r2 * _math.expm1_tail(r, r2))


cdef inline Py_ssize_t strip(real unused) noexcept nogil:
    """Entries of a strip: a line of the cache, and a vector of 512 bits."""
    return LINE // sizeof(real)


cdef inline inlined exp_strip(
    const real* z, real m, real base, real shift, real low, real most, real scale, real* e, real* y, real* maxima,
) noexcept nogil:
    """y = exp(z - base) / 2^N, shifted, and 0 where z = m, which is counted; e = the same times scale, without exception.

    Where `maxima` is NULL, m is no maximum, and base is 0: nothing is counted, and z is cut off at `most`.
    """
    cdef real d[STRIP]   # differences come first: from arrays of its own, which nothing overlaps, a loop may write to e
    cdef real x
    cdef Py_ssize_t j
    for j in range(strip(m)):
        if maxima == NULL:
            d[j] = _math.at_most(z[j], most)
        else:
            d[j] = z[j] - base
    for j in range(strip(m)):
        x = _math.exp_counted(d[j], shift, low)
        e[j] = x * scale
        if maxima == NULL:
            y[j] = x
        else:
            y[j] = x - (x if d[j] == m - base else <real>0)   # a second comparison would be taken from the products
            maxima[j] += <real>1 if d[j] == m - base else <real>0


cdef inline inlined exact_strip(const real* z, real m, real* y, real* y_low, real* maxima) noexcept nogil:
    """y + y_low = exp(z - m), shifted, and 0 where z = m, which is counted.

    y_low is what is rounded off an exponential: where a row holds one number many times, all have the same error, and
    their sum has it, too. For a loss, of which 4 eps are promised, y alone is good enough.
    """
    cdef real d, d_low, x
    cdef Py_ssize_t j
    for j in range(strip(m)):
        _math.difference(z[j], m, &d, &d_low)
        _math.exp_sum_parts(d, d_low, &x, &y_low[j])
        y[j] = x if d != 0 else <real>0
        maxima[j] += <real>0 if d != 0 else <real>1


cdef inline inlined add_strip(const real* y, double* high, real* low) noexcept nogil:
    """high + low += y, lane by lane.

    A double has 29 bits to spare for floats. Doubles need two parts: in rows of two values, of which every second is half
    an ulp of the other, even pairs that are added in one part round alike, to 2.6 ulp of softmax.
    """
    cdef Py_ssize_t j
    for j in range(strip(low[0])):
        if real is float:
            high[j] += y[j]
        else:
            add(&high[j], &low[j], y[j])


cdef inline inlined exp_pair(
    const real* z, real m, real base, real shift, real low, real most, real scale, real* e, real* sums, real* maxima,
) noexcept nogil:
    """Two strips, added to each other."""
    cdef real first[STRIP]
    cdef real second[STRIP]
    cdef Py_ssize_t j
    exp_strip(z, m, base, shift, low, most, scale, e, first, maxima)
    exp_strip(z + strip(m), m, base, shift, low, most, scale, e + strip(m), second, maxima)
    for j in range(strip(m)):
        sums[j] = first[j] + second[j]


cdef inline inlined exp_block(
    const real* z, real m, real base, real shift, real low, real most, real scale, real* e, double* high, real* high_rest,
    real* maxima,
) noexcept nogil:
    """A block of four strips, whose y are added to high + high_rest, lane by lane: four in one part, as a loss can do with
    sums that lose an eps at most.
    """
    cdef real first[STRIP]
    cdef real second[STRIP]
    cdef Py_ssize_t j
    exp_pair(z, m, base, shift, low, most, scale, e, first, maxima)
    exp_pair(z + 2 * strip(m), m, base, shift, low, most, scale, e + 2 * strip(m), second, maxima)
    for j in range(strip(m)):
        first[j] += second[j]
    add_strip(first, high, high_rest)


cdef inline inlined rest_of(const real* z, real* rest, Py_ssize_t n, Py_ssize_t block) noexcept nogil:
    """The last block of a row of n, which overlaps the one before: -inf takes the place of what that has held."""
    cdef real done = block - n % block
    cdef Py_ssize_t j
    for j in range(block):
        rest[j] = z[n - block + j]   # a load that is not always made would not be part of a vector
    for j in range(block):
        rest[j] = -INFINITY if <real>j < done else rest[j]


cdef inline inlined put_rest(const real* x, real* e, Py_ssize_t n, Py_ssize_t block) noexcept nogil:
    """e = x there, but for what the block before has put."""
    cdef real done = block - n % block
    cdef real old
    cdef Py_ssize_t j
    for j in range(block):
        old = e[n - block + j]
        e[n - block + j] = old if <real>j < done else x[j]


cdef inline inlined exp_blocks(
    const real* z, const real* next, real m, real base, real shift, real low, real most, real scale, real* e, double* high, real* high_rest,
    real* maxima, Py_ssize_t n, Py_ssize_t y,
) noexcept nogil:
    """A row of a block at least: sums stay in registers where a loop is known to run. Entry y, unless it is -1, is left out.

    Meanwhile the row `next` is fetched, because here alone the memory has time for it.
    """
    cdef real rest[LANES]
    cdef real x[LANES]
    cdef const real* source
    cdef Py_ssize_t i = 0, block = 4 * strip(m), j
    while True:
        fetch(next + i, 4)
        fetch(e + i + AHEAD // sizeof(real), 4)
        source = z + i
        if y >= i and y < i + block:
            for j in range(block):
                rest[j] = source[j]
            rest[y - i] = -INFINITY
            source = rest
        exp_block(source, m, base, shift, low, most, scale, e + i, high, high_rest, maxima)
        i += block
        if i > n - block:
            break
    if i < n:
        rest_of(z, rest, n, block)
        if y >= i:
            rest[y - (n - block)] = -INFINITY
        exp_block(rest, m, base, shift, low, most, scale, x, high, high_rest, maxima)
        put_rest(x, e, n, block)


cdef inline inlined fold(double* high, double* low, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        add(&high[j], &low[j], high[j + width])
        low[j] += low[j + width]


cdef inline inlined infinite_others(
    const real* z, real scale, double* others, double* others_low, real* e, Py_ssize_t n,
) noexcept nogil:
    """The same as exp_others for a row whose maximum is +inf."""
    cdef Py_ssize_t k
    others[0], others_low[0] = -1.0, 0.0
    for k in range(n):
        others[0] += NAN if z[k] != z[k] else 1.0 if z[k] == INFINITY else 0.0
        if e != NULL:
            e[k] = scale / _math.unshift(scale) if z[k] == INFINITY else 0


cdef inline inlined fold_strip(double* high, real* low, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        low[j] += low[j + width]
        if real is float:
            high[j] += high[j + width]
        else:
            add(&high[j], &low[j], high[j + width])


cdef inline inlined sum_strip(double* high, real* low, double* total, double* total_low) noexcept nogil:
    """The sum of all lanes."""
    if real is float:
        fold_strip(high, low, 8)
    fold_strip(high, low, 4)
    fold_strip(high, low, 2)
    fold_strip(high, low, 1)
    total[0], total_low[0] = high[0], low[0]


cdef inline inlined exp_others(
    const real* z, const real* next, real m, real base, real shift, real low, double unit, real scale, double* others, real* e, Py_ssize_t n,
) noexcept nogil:
    """Sum of exp(z - m) over all entries but one maximum; e = exp(z - m) / unit, n at least a block.

    The e are shifted by 1 / unshift, so that none is subnormal, and then multiplied by `scale`.
    """
    cdef lined high[STRIP]
    cdef real high_rest[STRIP]
    cdef real maxima[STRIP]
    cdef double total, total_low, count = -1
    cdef Py_ssize_t j
    if m == INFINITY:
        infinite_others(z, scale, others, &total_low, e, n)
        return
    for j in range(STRIP):
        high[j] = 0
        high_rest[j] = maxima[j] = 0
    exp_blocks(z, next, m, base, shift, low, low, scale, e, high, high_rest, maxima, n, -1)
    sum_strip(high, high_rest, &total, &total_low)
    for j in range(4):
        count += (maxima[j] + maxima[j + 4]) + (maxima[j + 8] + maxima[j + 12])
    others[0] = (total + total_low) * unit * _math.unshift(m) + count


cdef inline inlined near_others(
    const real* z, const real* next, Py_ssize_t y, real shift, real low, double unit, double* others, real* e, Py_ssize_t n,
) noexcept nogil:
    """Sum of exp(z - z_y) over all entries but y, shift and what follows it those of z_y, whose base is 0;
    e = exp(z - z_y) / unit, shifted, and 0 for y. Where z - z_y is large, so is the sum, but not the right one.
    """
    cdef lined high[STRIP]   # sums in memory, or half of it in the next line
    cdef real high_rest[STRIP]
    cdef real most = low + (<real>174 if real is float else <real>1400)   # 2^60 or 2^485, and as much as the shift
    cdef double total, total_low
    cdef Py_ssize_t j
    for j in range(STRIP):
        high[j] = high_rest[j] = 0
    exp_blocks(z, next, low, <real>0, shift, low, most, <real>1, e, high, high_rest, <real*>NULL, n, y)
    sum_strip(high, high_rest, &total, &total_low)
    others[0] = (total + total_low) * unit * _math.unshift(low)


cdef inline inlined add_exact(const real* z, real m, double* high, real* low, real* maxima) noexcept nogil:
    """high + low += exp(z - m) for one strip, but for maxima."""
    cdef real y[STRIP]
    cdef real y_low[STRIP]
    cdef Py_ssize_t j
    exact_strip(z, m, y, y_low, maxima)
    add_strip(y, high, low)
    for j in range(strip(m)):
        low[j] += y_low[j]


cdef inline inlined exact_others(const real* z, real m, double* others, double* others_low, Py_ssize_t n) noexcept nogil:
    """The same sum in two parts, for a logarithm of 2 ulp; a row of less than a strip is filled up."""
    cdef double high[STRIP]
    cdef real low[STRIP]
    cdef real maxima[STRIP]
    cdef real rest[LANES]
    cdef double total, total_low, count = -1
    cdef Py_ssize_t i = 0, j
    if m == INFINITY:
        infinite_others(z, <real>1, others, others_low, <real*>NULL, n)
        return
    for j in range(STRIP):
        high[j] = 0
        low[j] = maxima[j] = 0
    while i <= n - strip(m):
        fetch(z + n + i, 1)
        add_exact(z + i, m, high, low, maxima)
        i += strip(m)
    if i < n:
        pad(z + i, rest, n - i)
        add_exact(rest, m, high, low, maxima)
    sum_strip(high, low, &total, &total_low)
    for j in range(4):
        count += (maxima[j] + maxima[j + 4]) + (maxima[j + 8] + maxima[j + 12])
    add(&total, &total_low, count / _math.unshift(m))
    unshift_sum(total, total_low, _math.unshift(m), others, others_low)


cdef inline inlined add_terms(
    const real* scale, const real* p, const real* p_low, real* e, double* high, real* low,
) noexcept nogil:
    """e = scale (1 + p), and high + low += that + scale p_low for one strip, lane by lane, where high >= e.

    What is rounded off an exponential goes into `low`, too: where a row holds one number many times, all have the same
    error, and their sum would have it.
    """
    cdef real y[STRIP]
    cdef real y_low[STRIP]
    cdef real taken
    cdef double before
    cdef Py_ssize_t j
    for j in range(strip(low[0])):
        y[j] = scale[j] + scale[j] * p[j]
        e[j] = y[j]
        before = high[j]
        high[j] += y[j]
        taken = y[j] if real is float else high[j] - before
        y_low[j] = scale[j] * p_low[j] + (scale[j] * p[j] + (scale[j] - taken))
    for j in range(strip(low[0])):
        low[j] += y_low[j]


cdef inline inlined total_strips(
    const real* z, real base, real shift, real lowest, real* e, double* high, real* low, real* most, Py_ssize_t strips,
) noexcept nogil:
    """e = exp(z - base) / 2^N for one strip or two, shifted, their sum as above, and the largest z.

    Two go through each step together: one chain of operations after the other would leave pipes idle.
    """
    cdef real d[2 * STRIP]
    cdef real first[2 * STRIP]
    cdef real rest[2 * STRIP]
    cdef real scale[2 * STRIP]
    cdef real p[2 * STRIP]
    cdef real p_low[2 * STRIP]
    cdef Py_ssize_t i, j
    for j in range(strips * strip(base)):
        d[j] = z[j] - base
    for i in range(strips):
        for j in range(strip(base)):
            most[j] = z[i * strip(base) + j] if z[i * strip(base) + j] > most[j] else most[j]
    for j in range(strips * strip(base)):
        _math.reduce_counted(d[j], shift, lowest, &scale[j], &first[j], &rest[j])
        scale[j] = _math.pow2(scale[j])
    for j in range(strips * strip(base)):
        _math.reduced_terms(first[j], rest[j], &p[j], &p_low[j])
    for i in range(strips):
        j = i * strip(base)
        add_terms(scale + j, p + j, p_low + j, e + j, high, low)


cdef inline inlined total_rest(
    const real* z, real base, real shift, real lowest, real* e, double* high, real* low, real* most, Py_ssize_t n,
    Py_ssize_t strips,
) noexcept nogil:
    """The same for the rest of a row, which is some entries, but less than so many strips."""
    cdef real rest[LANES]
    cdef real x[LANES]
    rest_of(z, rest, n, strips * strip(base))
    total_strips(rest, base, shift, lowest, x, high, low, most, strips)
    put_rest(x, e, n, strips * strip(base))


cdef inline inlined exp_total(
    const real* z, real base, real shift, real lowest, real* e, double* total, double* total_low, real* m, Py_ssize_t n,
) noexcept nogil:
    """e = exp(z - base) / 2^N, shifted, the sum of all, and their maximum m, for softmax of many classes. No maximum need be
    left out of the sum, and each lane may begin with 2^18 too many, which exceeds each addend."""
    cdef double TOO_MANY = 262144 / _math.unshift(base)
    cdef double high[STRIP]
    cdef real low[STRIP]
    cdef real most[STRIP]
    cdef double sum, sum_low
    cdef Py_ssize_t i = 0, pair = 2 * strip(base), j
    for j in range(STRIP):
        high[j] = TOO_MANY
        low[j] = 0
        most[j] = -INFINITY
    while True:
        fetch(z + n + i, 2)
        fetch(e + i + AHEAD // sizeof(real), 2)
        total_strips(z + i, base, shift, lowest, e + i, high, low, most, 2)
        i += pair
        if i > n - pair:
            break
    if n - i >= strip(base):
        total_rest(z, base, shift, lowest, e, high, low, most, n, 2)
    elif i < n:
        total_rest(z, base, shift, lowest, e, high, low, most, n, 1)
    sum_strip(high, low, &sum, &sum_low)
    fold_max(most, 8)   # a row of doubles leaves the second half at -inf
    fold_max(most, 4)
    fold_max(most, 2)
    fold_max(most, 1)
    m[0] = most[0]
    add(&sum, &sum_low, -TOO_MANY * strip(base))
    unshift_sum(sum, sum_low, _math.unshift(base), total, total_low)


cdef inline inlined transpose(const real* a, Py_ssize_t a_step, real* b, Py_ssize_t b_step) noexcept nogil:
    """b[k, j] = a[j, k] for a block of 4 by 4, whose rows are a step apart."""
    if real is float:
        minnet_transpose_f32(a, a_step, b, b_step)
    else:
        minnet_transpose_f64(a, a_step, b, b_step)


cdef inline inlined transpose_strip(
    const real* a, Py_ssize_t a_step, Py_ssize_t a_next, real* b, Py_ssize_t b_step, Py_ssize_t b_next, Py_ssize_t n,
) noexcept nogil:
    """Blocks that follow one another, n elements in all, at steps of a_next and b_next; the last overlaps that before."""
    cdef Py_ssize_t i
    for i in range(n // 4):
        transpose(a + 4 * i * a_next, a_step, b + 4 * i * b_next, b_step)
    if n % 4:
        transpose(a + (n - 4) * a_next, a_step, b + (n - 4) * b_next, b_step)


cdef inline inlined transpose_all(
    const real* a, Py_ssize_t a_step, real* b, Py_ssize_t b_step, Py_ssize_t rows, Py_ssize_t columns, bint along_a,
) noexcept nogil:
    """b[k, j] = a[j, k] by blocks of 4 by 4, in strips along the rows of a or along those of b, a constant of the caller.

    Long strips run fast, and where a strip of b is read next, it was written long enough ago not to be waited for.
    """
    cdef Py_ssize_t j, k
    if rows < 4 or columns < 4:
        for j in range(rows):
            for k in range(columns):
                b[k * b_step + j] = a[j * a_step + k]
    elif along_a:
        for j in range(0, rows, 4):
            j = min(j, rows - 4)
            transpose_strip(a + j * a_step, a_step, 1, b + j, b_step, b_step, columns)
    else:
        for k in range(0, columns, 4):
            k = min(k, columns - 4)
            transpose_strip(a + k, a_step, a_step, b + k * b_step, b_step, 1, rows)


cdef inline inlined deal(const real* z, real* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """t[k, j] = z[j, k] for an n that is a constant of the caller: gcc makes vectors of it."""
    cdef Py_ssize_t j, k
    for j in range(rows):
        for k in range(n):
            t[k * ROWS + j] = z[j * n + k]


cdef inline inlined collect(const real* t, real* y, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """y[j, k] = t[k, j], likewise."""
    cdef Py_ssize_t j, k
    for j in range(rows):
        for k in range(n):
            y[j * n + k] = t[k * ROWS + j]


cdef inline inlined deal_pairs(const double* z, double* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """t[k, j] = z[j, k] for four rows or more, two classes at a time."""
    cdef Py_ssize_t i, k
    for k in range(0, n, 2):
        k = min(k, n - 2)
        for i in range(rows // 4):
            minnet_deal_f64(z + 4 * i * n + k, n, t + k * ROWS + 4 * i, ROWS)
        if rows % 4:
            minnet_deal_f64(z + (rows - 4) * n + k, n, t + k * ROWS + rows - 4, ROWS)


cdef inline inlined collect_pairs(const double* t, double* y, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """y[j, k] = t[k, j], likewise."""
    cdef Py_ssize_t i, j
    for j in range(0, rows, 4):
        j = min(j, rows - 4)
        for i in range(n // 2):
            minnet_collect_f64(t + 2 * i * ROWS + j, ROWS, y + j * n + 2 * i, n)
        if n % 2:
            minnet_collect_f64(t + (n - 2) * ROWS + j, ROWS, y + j * n + n - 2, n)


cdef inline inlined tile_load(const real* z, real* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """t[k, j] = z[j, k]; lanes without a row hold 0."""
    cdef Py_ssize_t j, k
    if rows < ROWS:
        for k in range(n * ROWS):
            t[k] = 0
    if n == 2:
        deal(z, t, rows, 2)
    elif n == 3:
        deal(z, t, rows, 3)
    elif rows == ROWS and n >= 4 and minnet_has_wide():
        if real is float:
            minnet_turn_in_f32(z, t, ROWS, n)
        else:
            minnet_turn_in_f64(z, t, ROWS, n)
    elif real is double and rows >= 4 and n >= 4:
        deal_pairs(z, t, rows, n)
    else:
        transpose_all(z, n, t, ROWS, rows, n, False)


cdef inline inlined tile_store(const real* t, real* y, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """y[j, k] = t[k, j]."""
    if n == 2:
        collect(t, y, rows, 2)
    elif n == 3:
        collect(t, y, rows, 3)
    elif rows == ROWS and n >= 4 and minnet_has_wide():
        if real is float:
            minnet_turn_out_f32(y, t, ROWS, n)
        else:
            minnet_turn_out_f64(y, t, ROWS, n)
    elif real is double and rows >= 4 and n >= 4:
        collect_pairs(t, y, rows, n)
    else:
        transpose_all(t, ROWS, y, n, n, rows, True)


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


cdef inline real largest(real* numbers) noexcept nogil:
    """The largest of ROWS numbers, which are lost."""
    fold_max(numbers, 16)
    fold_max(numbers, 8)
    fold_max(numbers, 4)
    fold_max(numbers, 2)
    fold_max(numbers, 1)
    return numbers[0]


cdef inline inlined tile_top(const real* t, real* m, Py_ssize_t n) noexcept nogil:
    """The maximum of each row of a tile; NaN is passed over, -inf if there is none."""
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        m[j] = -INFINITY
    for k in range(n):
        for j in range(ROWS):
            m[j] = t[k * ROWS + j] if t[k * ROWS + j] > m[j] else m[j]


cdef inline inlined tile_settle(real* t, real* m, Py_ssize_t n) noexcept nogil:
    """Take infinite maxima out of a tile, so that what follows need not know of them.

    Where it is +inf, +inf becomes 0 and all else -inf, which has the same softmax; a row of nothing but -inf, which has
    none, gets a NaN.
    """
    cdef real infinite[ROWS]
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        infinite[j] = <real>1 if _math.magnitude(m[j]) == INFINITY else <real>0
    if largest(infinite) != 0:   # or-ed as integers, doubles would all be converted first
        for j in range(ROWS):
            if m[j] == INFINITY:
                m[j] = 0
                for k in range(n):
                    if t[k * ROWS + j] == t[k * ROWS + j]:
                        t[k * ROWS + j] = 0 if t[k * ROWS + j] == INFINITY else -INFINITY
            elif m[j] == -INFINITY:
                t[j] = NAN


cdef inline inlined tile_max(real* t, real* m, Py_ssize_t n) noexcept nogil:
    """The maximum of each row of a tile, which is finite then, or has a NaN beside it."""
    tile_top(t, m, n)
    tile_settle(t, m, n)


cdef inline inlined tile_entry(real z, real m, real scale, real* e, real* below, real* maxima) noexcept nogil:
    """e = exp(z - m), shifted, times scale. The shifted one is `below`, unless z is m, which is counted."""
    cdef real x = _math.exp_difference(z, m)
    e[0] = x * scale
    below[0] = <real>0 if z == m else x
    maxima[0] += <real>1 if z == m else <real>0


cdef inline inlined tile_others(
    const real* t, const real* m, real scale, double* others, real* e, Py_ssize_t n,
) noexcept nogil:
    """For each row of a tile: e = exp(t - m), shifted, times scale, and the sum but for one maximum.

    For losses, of which 4 eps are promised: classes are added by pairs in one part, and the pairs in two, or in double.
    """
    cdef double high[ROWS]
    cdef double low[ROWS]
    cdef real x[ROWS]
    cdef real pair[ROWS]
    cdef real maxima[ROWS]
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        high[j] = low[j] = 0
        maxima[j] = 0
    for k in range(1, n, 2):
        for j in range(ROWS):
            tile_entry(t[(k - 1) * ROWS + j], m[j], scale, &e[(k - 1) * ROWS + j], &x[j], &maxima[j])
            tile_entry(t[k * ROWS + j], m[j], scale, &e[k * ROWS + j], &pair[j], &maxima[j])
            pair[j] += x[j]
        for j in range(ROWS):
            if real is float:
                high[j] += pair[j]
            else:
                add(&high[j], &low[j], pair[j])
    if n % 2:
        k = n - 1
        for j in range(ROWS):
            tile_entry(t[k * ROWS + j], m[j], scale, &e[k * ROWS + j], &pair[j], &maxima[j])
        for j in range(ROWS):
            if real is float:
                high[j] += pair[j]
            else:
                add(&high[j], &low[j], pair[j])
    for j in range(ROWS):
        others[j] = (high[j] + low[j]) * _math.unshift(m[j]) + (maxima[j] - 1)


cdef inline inlined log_total(double others, double low, double* log_sum) noexcept nogil:
    """log(1 + others), so that logsumexp = m + this."""
    log_sum[0] = _math.log1p(others) + low / (1.0 + others)


cdef inline inlined invert_total(double total, double total_low, real* high, real* low) noexcept nogil:
    """1 / (total + total_low) in two parts, because rounding it would cost up to an ulp of every probability.

    The high part has half the digits, so that its products with halves are exact.
    """
    cdef double inverse, inverse_low = 0.0
    if real is float:
        inverse = 1.0 / total
    else:
        _math.reciprocal(total, total_low, &inverse, &inverse_low)
    high[0] = _math.head(<real>inverse)
    low[0] = (inverse - high[0]) + inverse_low


cdef inline inlined multiply(real high, real low, real* e) noexcept nogil:
    """e, shifted, times high + low: one rounding counts, on CPUs that cannot fuse a * b + c, too, and one more where the
    product is subnormal."""
    cdef real e1 = _math.head(e[0])
    e[0] = (e1 * high + ((e[0] - e1) * high + e[0] * low)) * _math.unshift(high)
