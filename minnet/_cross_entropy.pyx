# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Cross-entropy of softmax(z), value and gradient. Letters and rules: _activations.pyx; rows of logits: _rows.pxd.

Classes have weights w_k, rows have weights, s is the smoothing, gamma the focus (0: none). A row of weight 0 is not looked
at: its loss and gradient are 0 whatever it holds.
"""

from libc.math cimport INFINITY, M_PI, NAN, cos, log, pow
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from minnet cimport _math
from minnet._doors cimport (
    DZ, LOSS, alike, apart, divisor_of, enter_all, is_factor, is_plain, is_whole, labels_of, leave, most_gamma,
)
from minnet._loops cimport LANES, clones, narrow_clones, pointer, whole_clones
from minnet._math cimport inlined, real
from minnet._rows cimport (
    FEW, LINE, ROWS, STRIP, add, add_strip, anchor, exp_others, fetch, fold, minnet_has_wide, near_others, row_max, strip,
    sum_strip, tile_load, tile_max, tile_others, tile_store,
)
from minnet._team cimport PIECES, Meeting, Team, meeting_of, piece_of, share_standing

cdef extern from "_simd.h":
    bint can_stream "minnet_can_stream"() noexcept nogil
    void stream "minnet_stream"(void* to, const void* lines, size_t bytes) noexcept nogil
    void streamed "minnet_streamed"() noexcept nogil
    uint32_t minnet_bits_f32(float x) noexcept nogil
    uint64_t minnet_bits_f64(double x) noexcept nogil
    ctypedef double lined "MINNET_LINED double"
    ctypedef int64_t lined_i64 "MINNET_LINED int64_t"
    ctypedef uint64_t lined_u64 "MINNET_LINED uint64_t"
    ctypedef int32_t lined_i32 "MINNET_LINED int32_t"

cdef extern from "_flat.h":
    void minnet_scale_f32(const float* a, float factor, float* b, Py_ssize_t n) noexcept nogil
    void minnet_scale_f64(const double* a, double factor, double* b, Py_ssize_t n) noexcept nogil
    void minnet_less_f32(const float* a, float factor, const float* w, float rest, float* b, Py_ssize_t n) noexcept nogil
    void minnet_less_f64(
        const double* a, double factor, const double* w, double rest, double* b, Py_ssize_t n) noexcept nogil
    void minnet_scale_tile_f32(
        const float* a, const float* factor, const int32_t* row_of, float* b, Py_ssize_t n) noexcept nogil
    void minnet_scale_tile_f64(
        const double* a, const double* factor, const int32_t* row_of, double* b, Py_ssize_t n) noexcept nogil
    void minnet_less_tile_f32(
        const float* a, const float* factor, const float* w, const float* rest, const int32_t* row_of, float* b,
        Py_ssize_t n) noexcept nogil
    void minnet_less_tile_f64(
        const double* a, const double* factor, const double* w, const double* rest, const int32_t* row_of, double* b,
        Py_ssize_t n) noexcept nogil
    void minnet_look_up_wide(
        const double* w, Py_ssize_t classes, const int64_t* labels, int64_t ignored, double* found,
        Py_ssize_t n) noexcept nogil
    void minnet_take_f32(
        const float* z, const int64_t* y, float* e, double* e_y, float* z_y, Py_ssize_t n, bint smoothed) noexcept nogil
    void minnet_take_f64(
        const double* z, const int64_t* y, double* e, double* e_y, double* z_y, Py_ssize_t n, bint smoothed) noexcept nogil
    void minnet_moments(const float* a, Py_ssize_t n, const double* w, double* b) noexcept nogil
    void minnet_fours(const double* a, Py_ssize_t a_step, int64_t count, double* b) noexcept nogil
    void minnet_far_fours(
        const double* a, Py_ssize_t a_step, const double* base, const double* w, double* b) noexcept nogil
    void minnet_far_eights(
        const double* a, Py_ssize_t a_step, const double* base, const double* w, double* b) noexcept nogil


# ---- labels --------------------------------------------------------------------------------------------------------
# With S = 1 + others = sum_k e_k and p_k = e_k / S:
#     c = logsumexp(z) - z_y = (m - z_y) + log(S)                  both terms >= 0, nothing cancels
#     d c / d z_k = p_k - [k = y];  for k = y that is -(sum of the other e) / S, which keeps its digits as p_y -> 1.
# Where no logit is far above the label's, z_y takes the place of m: then e_y = 1, c = log(1 + others), and no maximum is
# looked for.
# With u = 1 - p_y = (sum of the other e) / S, whose slope is p_y times that of c, the focal loss and its gradient are
#     u^gamma c   and   u^gamma (1 + gamma p_y c / u) times that of c;    c / u -> 1 as u -> 0, so that nothing is lost
#     for gamma < 1, where u^(gamma - 1) has no limit.
# With smoothing, class k has the share T_k = w_k ((1 - s) [k = y] + s / C) of the target:
#     loss = sum_k T_k ((m - z_k) + log(S)),   d loss / d z_k = p_k sum(T) - T_k, with T_k = w_k s / C but at the label.

cdef enum:
    PART = LANES // 4   # sums of a block
    FOURS = FEW // 4    # of a row

# With z_y for m, distances of logits may be negative. What cancels is s / C sum(w) c at most: up to so many times the loss,
# which contains (1 - s) w_y c, it adds an eps or two.
cdef double CANCELLED = 2.0


cdef struct Rows:
    # What belongs to the rows of a tile; of one struct it is known that no two arrays overlap.
    double e_y[ROWS]
    double wrong[ROWS]      # sum of the other e
    double total[ROWS]      # S, in the same unit
    double log_sum[ROWS]    # log(S / e_m)
    double distances[ROWS]  # sum_k w_k (m - z_k)
    double w_y[ROWS]
    double inverse[ROWS]    # what the gradient is multiplied by, over S
    double loss[ROWS]
    double mass[ROWS]       # of p_k in the gradient
    double factor[ROWS]     # of e_k
    double slope[ROWS]      # the gradient at the label


cdef inline inlined tally(const real* x, double* high, double* low, Py_ssize_t lanes) noexcept nogil:
    """high + low += x, four numbers a lane: they round twice, an eps at most, before they come to a sum that keeps all."""
    cdef real four
    cdef Py_ssize_t j
    for j in range(lanes):
        four = (x[j] + x[j + lanes]) + (x[j + 2 * lanes] + x[j + 3 * lanes])
        if real is float:
            high[j] += four
        else:
            add(&high[j], &low[j], four)


cdef inline inlined fold_parts(double* high, double* low, double* total) noexcept nogil:
    """The sum of all lanes of a row."""
    fold(high, low, 8)
    fold(high, low, 4)
    fold(high, low, 2)
    fold(high, low, 1)
    total[0] = high[0] + (low[0] if high[0] < INFINITY else 0.0)   # the low part of an infinite sum is NaN


cdef inline inlined tile_sums(real* t, double* sums, Py_ssize_t n) noexcept nogil:
    """The sum of each row of a tile, which is filled up with zeros to a multiple of four classes."""
    cdef double low[ROWS]
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        sums[j] = low[j] = 0
    for k in range(n, (n + 3) // 4 * 4):
        for j in range(ROWS):
            t[k * ROWS + j] = 0
    for k in range(0, n, 4):
        tally(t + k * ROWS, sums, low, ROWS)
    for j in range(ROWS if real is double else 0):
        sums[j] += low[j] if sums[j] < INFINITY else 0.0


cdef inline inlined settle_label(
    real z_y, real e_y, real m, double others, double log_sum, double* loss, double* wrong, double* total,
) noexcept nogil:
    """From the sum of a row and its log(S): its c, the sum of the e of other classes, and S."""
    total[0] = 1.0 + others
    wrong[0] = others if z_y == m else total[0] - e_y
    loss[0] = (0.0 if z_y == m else <double>m - z_y) + log_sum


cdef inline inlined focus(double e_y, double wrong, double power, double gamma, double* loss, double* pull) noexcept nogil:
    """loss *= u^gamma; `pull` is what the gradient is multiplied by. p_y / u is e_y / wrong: no difference, few digits."""
    cdef double ratio = loss[0] / wrong
    ratio = gamma * e_y * (ratio if wrong > 0 else 1.0)
    pull[0] = power * (1.0 + (ratio if e_y > 0 else 0.0))   # 0 inf is NaN: c = inf has nothing to add
    loss[0] = power * loss[0]


cdef inline inlined focus_rows(
    const double* e_y, const double* wrong, const double* total, double gamma, double* loss, double* pull, Py_ssize_t rows,
) noexcept nogil:
    """The same for the rows of a tile, or for one."""
    cdef double u[ROWS]
    cdef double power[ROWS]
    cdef double room[ROWS]
    cdef Py_ssize_t j
    for j in range(rows):
        u[j] = wrong[j] / total[j]
    _math.powers(u, power, room, rows, gamma)
    for j in range(rows):
        focus(e_y[j], wrong[j], power[j], gamma, &loss[j], &pull[j])


cdef inline inlined smooth(
    double w_y, double distances, double e_y, double wrong, double log_sum, double s, double rest, double weights,
    double* loss, double* mass, double* slope, bint near,
) noexcept nogil:
    """loss = c, or log_sum if `near`, becomes the smoothed one, with rest = s / C; sum(T), and S times the slope at the label."""
    cdef double label = (1.0 - s) * w_y
    cdef double share = label + rest * w_y
    mass[0] = label + rest * weights
    if near:
        loss[0] = mass[0] * log_sum + rest * distances
    else:
        loss[0] = (label * loss[0] if label > 0 else 0.0) + rest * (distances + log_sum * weights)   # 0 inf is NaN
    slope[0] = e_y * (mass[0] - share) - share * wrong


# What smoothing or focus makes of loss = c, factor = inverse and slope = -wrong inverse of a tile, whatever kind of tile it is.

cdef inline inlined smooth_tile(Rows* r, Py_ssize_t n, const Options* o, bint near, bint even) noexcept nogil:
    """`even`: all classes weigh 1, which takes half as many operations."""
    cdef double s = o.s, rest = o.s / n, weights = o.mass
    cdef Py_ssize_t j
    for j in range(ROWS if even else 0):
        smooth(
            1.0, r.distances[j], r.e_y[j], r.wrong[j], r.log_sum[j], s, rest, weights, &r.loss[j], &r.mass[j], &r.slope[j],
            near)
    for j in range(0 if even else ROWS):
        smooth(
            r.w_y[j], r.distances[j], r.e_y[j], r.wrong[j], r.log_sum[j], s, rest, weights, &r.loss[j], &r.mass[j],
            &r.slope[j], near)
    for j in range(ROWS):
        r.factor[j] *= r.mass[j]
        r.slope[j] *= r.inverse[j]


cdef inline int64_t any_cancelled(const Rows* r, Py_ssize_t n, const Options* o, double slack) noexcept nogil:
    """Whether a smoothed loss of a tile is; `slack` over 2 is how far distances may be off, as a mean over the weights, beside
    a loss that keeps its digits."""
    cdef double light = o.s / n * o.mass
    cdef int64_t cancelled = 0
    cdef Py_ssize_t j
    for j in range(ROWS):
        cancelled |= is_cancelled(r.loss[j], light * r.log_sum[j] + light * slack)
    return cancelled


cdef inline inlined focus_tile(Rows* r, double gamma) noexcept nogil:
    cdef Py_ssize_t j
    focus_rows(r.e_y, r.wrong, r.total, gamma, r.loss, r.mass, ROWS)
    for j in range(ROWS):
        r.factor[j] *= r.mass[j]
        r.slope[j] *= r.mass[j]   # the mass comes last, as it may be tiny


cdef inline inlined settle_tile(Rows* r, Py_ssize_t n, const Options* o, bint near) noexcept nogil:
    if o.s > 0:
        smooth_tile(r, n, o, near, False)
    elif o.gamma > 0:
        focus_tile(r, o.gamma)


cdef inline real far(real z, real m, real w) noexcept nogil:
    """w (m - z): 0 at the maximum, even an infinite one, and where w is 0."""
    cdef real d = w * (m - z)
    return <real>0 if z == m or w == 0 else d


cdef inline inlined far_block(
    const real* z, const real* w, real m, double* high, double* low, Py_ssize_t n,
) noexcept nogil:
    cdef real d[LANES]
    cdef Py_ssize_t j
    for j in range(n, LANES):
        d[j] = 0
    if w == NULL:
        for j in range(n):
            d[j] = far(z[j], m, <real>1)
    else:
        for j in range(n):
            d[j] = far(z[j], m, w[j])
    tally(d, high, low, PART)


cdef inline inlined far_sum(const real* z, const real* w, real m, double* total, Py_ssize_t n) noexcept nogil:
    """sum_k w_k (m - z_k)."""
    cdef double high[PART]
    cdef double low[PART]
    cdef Py_ssize_t block, j
    for j in range(PART):
        high[j] = low[j] = 0
    for block in range(n // LANES):
        j = block * LANES
        far_block(z + j, w if w == NULL else w + j, m, high, low, LANES)
    j = n - n % LANES
    if j < n:
        far_block(z + j, w if w == NULL else w + j, m, high, low, n - j)
    fold_parts(high, low, total)


cdef inline inlined skip_rows(
    const double* weight, const double* total, real* dz, Py_ssize_t rows, Py_ssize_t n,
) noexcept nogil:
    """Clear what 0 times NaN has left of rows that have the weight 0."""
    cdef Py_ssize_t j, k
    cdef int64_t bad = 0
    for j in range(ROWS):
        bad |= total[j] != total[j]
    for j in range(rows if weight != NULL and bad else 0):
        if weight[j] == 0:
            for k in range(n):
                dz[j * n + k] = 0


cdef inline bint is_far(real z_y, double others, double scale, double factor) noexcept nogil:
    """Whether a row needs its maximum: its sum may be a wrong one, or makes a factor of the gradient subnormal."""
    cdef double MOST = 1e17 if real is float else 1e130   # less than what near_others and exp_near make of larger ones
    cdef double LEAST = 1.1754943508222875e-38 if real is float else 2.2250738585072014e-308
    return (not others < MOST) | (z_y == INFINITY) | ((scale != 0) & (others > 1) & (_math.magnitude(factor) < LEAST))


cdef struct Loss:   # of a long row: part + share log(1 + others), where logarithms of many rows are taken side by side
    double part
    double share
    double others


cdef inline Loss known(double loss) noexcept nogil:
    cdef Loss whole
    whole.part, whole.share, whole.others = loss, 0, 0
    return whole


cdef inline bint is_cancelled(double loss, double terms) noexcept nogil:
    """Whether a smoothed loss needs the maximum."""
    return not terms <= CANCELLED * loss


cdef clones near_exponentials(
    const real* z, const real* next, Py_ssize_t y, double* unit, double* others, real* e, Py_ssize_t n,
) noexcept nogil:
    """unit e = exp(z - z_y), 0 at the label, and the sum; it is NaN where z_y is far from 0."""
    cdef real base, shift, lowest
    anchor(z[y], &base, &shift, &lowest, unit)
    others[0] = NAN
    if base == 0:
        near_others(z, next, y, shift, lowest, unit[0], others, e, n)


cdef clones top_exponentials(
    const real* z, const real* next, real* m, double* unit, double* others, real* e, Py_ssize_t n, bint scaled,
) noexcept nogil:
    """The maximum, e = exp(z - m), over `unit` unless they are `scaled`, and the sum of others."""
    cdef real base, shift, lowest
    row_max(z, m, n)
    anchor(m[0], &base, &shift, &lowest, unit)
    exp_others(
        z, next, m[0], base, shift, lowest, unit[0], <real>unit[0] * _math.unshift(m[0]) if scaled else <real>1, others, e, n)
    others[0] = others[0] if m[0] > -INFINITY else <double>NAN


# What takes labels by the maxima of rows is for few of them, far from likely. Without the widest level, which would be a third
# to a half faster, the wheel is smaller by 25 kB.

cdef narrow_clones label_row(
    const real* z, const real* next, Py_ssize_t y, const real* w, real* e, Loss* loss, Py_ssize_t n, double scale,
    const Options* o, bint sloped,
) noexcept nogil:
    """Any row, by its maximum. The gradient, if it is asked for, takes the place of e."""
    cdef real m, base, shift, lowest, e_y, top, peak, first, second, rest
    cdef double unit, others, wrong, total, distances, log_sum, e_label, mass = 1.0, slope
    cdef Py_ssize_t k
    top_exponentials(z, next, &m, &unit, &others, e, n, False)
    e_y = _math.exp_difference(z[y], m) * _math.unshift(m)
    log_sum = _math.log1p(others)
    settle_label(z[y], e_y, m, others, log_sum, &loss.part, &wrong, &total)
    loss.share = loss.others = 0
    slope = -wrong
    e_y = 1 if z[y] == m else e_y
    if o.gamma > 0:
        e_label = e_y
        focus_rows(&e_label, &wrong, &total, o.gamma, &loss.part, &mass, 1)
        slope *= mass
    elif o.s > 0:
        far_sum(z, w, m, &distances, n)
        smooth(
            1.0 if w == NULL else w[y], distances, e_y, wrong, log_sum, o.s, o.s / n, o.mass, &loss.part, &mass, &slope,
            False)
    if not sloped:
        return
    anchor(m, &base, &shift, &lowest, &unit)
    top = _math.exp_counted(m - base, shift, lowest)   # the e of a maximum, whose p is 1 / S to the last bit
    peak = mass * scale / total
    _math.split(mass * scale / total * unit, &first, &second)
    rest = o.s / n * scale if o.gamma == 0 else 0.0
    if rest == 0:
        for k in range(n):
            e[k] = peak if e[k] == top else e[k] * first * second
    elif w == NULL:
        for k in range(n):
            e[k] = (peak if e[k] == top else e[k] * first * second) - rest
    else:
        for k in range(n):
            e[k] = (peak if e[k] == top else e[k] * first * second) - rest * w[k]
    e[y] = slope * (scale / total)


cdef inline inlined labels_of_tile(
    const real* t, const int64_t* y, int* label, real* z_y, Py_ssize_t rows,
) noexcept nogil:
    """The labels of a tile and their logits; lanes without a row get class 0."""
    cdef Py_ssize_t j
    for j in range(ROWS):
        label[j], z_y[j] = 0, t[j]
    for j in range(rows):
        label[j] = <int>y[j]
    for j in range(rows):
        z_y[j] = t[y[j] * ROWS + j]


cdef inline inlined far_sums(
    const real* t, const int64_t* y, const real* w, const real* m, real* d, double* sums, double* w_y, Py_ssize_t rows,
    Py_ssize_t n,
) noexcept nogil:
    """sum_k w_k (m - z_k) of each row of a tile, by way of d, and the weight of its label."""
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        w_y[j] = 1
    for j in range(rows if w != NULL else 0):
        w_y[j] = w[y[j]]
    for k in range(n):
        for j in range(ROWS):   # maxima are finite here
            d[k * ROWS + j] = m[j] - t[k * ROWS + j]
        for j in range(ROWS if w != NULL else 0):
            d[k * ROWS + j] = <real>0 if w[k] == 0 else w[k] * d[k * ROWS + j]
    tile_sums(d, sums, n)


cdef inline inlined put_gradient(
    real* e, const int* label, const Rows* r, const real* rest, const real* w, real* dz, Py_ssize_t rows, Py_ssize_t n,
    bint smoothed,
) noexcept nogil:
    """dz = factor e, less rest w where it is smoothed, and the slope of the label, from the exponentials of a tile; e is lost."""
    cdef real first[ROWS]
    cdef real second[ROWS]
    cdef real at_label[ROWS]
    cdef real x
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        at_label[j] = r.slope[j]
        _math.split(r.factor[j], &first[j], &second[j])
    for k in range(n):
        for j in range(ROWS):
            x = e[k * ROWS + j] * first[j] * second[j]
            if smoothed:
                x -= rest[j] * (<real>1 if w == NULL else w[k])
            e[k * ROWS + j] = at_label[j] if label[j] == <int>k else x
    tile_store(e, dz, rows, n)


cdef clones near_tile(
    const real* z, const int64_t* y, const real* w, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o, bint* done,
) noexcept nogil:
    """A tile of rows as `near_row` takes them. Where one has to be done by its maximum, nothing is written and `done` is false.
    """
    cdef real t[FEW * ROWS]   # logits, then the exponentials of all classes but the label, then the gradient
    cdef real d[FEW * ROWS]
    cdef real z_y[ROWS]
    cdef int label[ROWS]
    cdef real most[ROWS]
    cdef real rest[ROWS]
    cdef double pull[ROWS]
    cdef Rows r
    cdef double s = o.s
    cdef double light = min(s / n * o.mass, 1.0) if s > 0 else 1.0   # of what multiplies a gradient
    cdef real x
    cdef int64_t beyond = 0
    cdef Py_ssize_t j, k
    tile_load(z, t, rows, n)
    labels_of_tile(t, y, label, z_y, rows)
    for j in range(ROWS):
        most[j] = <real>43 if real is float else <real>300   # an array: of a constant gcc would make a second copy of half the loop
    if s > 0:
        far_sums(t, y, w, z_y, d, r.distances, r.w_y, rows, n)
    for k in range(n):
        for j in range(ROWS):
            x = _math.exp_near(t[k * ROWS + j], z_y[j], most[j])
            t[k * ROWS + j] = <real>0 if label[j] == <int>k else x
    tile_sums(t, r.wrong, n)
    for j in range(ROWS):
        pull[j] = scale
    for j in range(rows if weight != NULL else 0):
        pull[j] *= weight[j]
    for j in range(ROWS):
        r.wrong[j] *= _math.unshift(<real>0)
        r.e_y[j], r.total[j] = 1.0, 1.0 + r.wrong[j]
        r.loss[j] = r.log_sum[j] = _math.log1p(r.wrong[j])
        r.inverse[j] = r.factor[j] = pull[j] / r.total[j]
        r.slope[j] = -r.wrong[j] * r.inverse[j]
        rest[j] = s / n * pull[j]
        beyond |= is_far(z_y[j], r.wrong[j], pull[j], light * r.inverse[j])
    settle_tile(&r, n, o, True)
    done[0] = not (beyond or s > 0 and any_cancelled(&r, n, o, 0))
    if not done[0]:
        return
    for j in range(ROWS):
        loss[j] = r.loss[j]
    if dz == NULL:
        return
    put_gradient(t, label, &r, rest, w, dz, rows, n, s > 0)


# Where the logits of a tile are moderate, nothing has to be subtracted from them: with e_k = exp(z_k),
#     others = (sum of the other e) / e_y,   d c / d z_k = e_k / (sum of all e),
# and e_k are taken as z_k stand in memory, row after row, so that no tile is turned over.
# Moderate are z up to 26 (floats) or 300, and z_y from -20 or -290 on: e and its sum are normal numbers, and with weights up
# to 1000 what `flat_low` makes 0 would have a gradient that rounds to 0.
# Smoothing asks for the sum of w_k (z_y - z_k), too: doubles add up differences, eight or four numbers at a time, floats take
# the sum of w_k z_k from that of w_k z_y, in double. What cancels there is an error of 50 2^-48 a class at most.

cdef double SLACK = 3e-5   # 2^27 times that


cdef inline real flat_low(real unused) noexcept nogil:
    """The middle of the numbers for which all bits of 2^n are 0."""
    return _math.low_bound(unused) - (<real>1.4 if real is float else <real>4)


cdef inline real flat_most(real unused) noexcept nogil:
    """26 or 300."""
    return _math.high_bound(unused) * (<real>0.65 if real is float else <real>7.5)


cdef inline inlined exp_flat(const real* z, real* e, Py_ssize_t n) noexcept nogil:
    """e = exp(z), shifted, in strips, of which the last may run over."""
    cdef real shift = _math.rounder(<real>0) + (<real>64 if real is float else <real>512)
    cdef real low = flat_low(<real>0), most = flat_most(<real>0)
    cdef Py_ssize_t i = 0, j
    while i < n:
        for j in range(strip(low)):
            e[i + j] = _math.exp_counted(_math.at_most(z[i + j], most), shift, low)
        i += strip(low)


cdef inline inlined add_fours(const double* fours, double* sums, Py_ssize_t parts) noexcept nogil:
    """The sums of eight rows, of which each has so many parts."""
    cdef double low[8]
    cdef Py_ssize_t k = 0, j
    for j in range(8):
        sums[j] = low[j] = 0
    while True:   # a loop that is known to run keeps its sums in registers
        for j in range(8):
            add(&sums[j], &low[j], fours[k * ROWS + j])
        k += 1
        if k >= parts:
            break
    for j in range(8):
        sums[j] += low[j] if sums[j] < INFINITY else 0.0


cdef inline inlined moments(const float* z, const double* w, double* sums, Py_ssize_t n) noexcept nogil:
    """sum_k w_k z_k of ROWS rows of n that follow one another."""
    cdef Py_ssize_t j
    for j in range(0, ROWS, 4):
        minnet_moments(z + j * n, n, w, sums + j)


cdef inline inlined row_sums(const real* e, const double* ones, double* sums, Py_ssize_t n) noexcept nogil:
    """The sums of ROWS rows of n that follow one another: of doubles as `tally` adds them, of floats in double."""
    cdef double fours[FOURS * ROWS]
    cdef Py_ssize_t j, k
    if real is float:
        moments(e, ones, sums, n)
    else:
        for k in range(0, n, 4):
            for j in range(0, ROWS, 4):
                minnet_fours(e + j * n + k, n, min(<Py_ssize_t>4, n - k), fours + k // 4 * ROWS + j)
        for j in range(0, ROWS, 8):
            add_fours(fours + j, sums + j, (n + 3) // 4)


cdef inline inlined lay_out(const real* w, double* laid, Py_ssize_t n) noexcept nogil:
    """The weights of n classes, 1 where w is NULL; then those of the last four, 0 for what is in a four before."""
    cdef Py_ssize_t k
    for k in range(n):
        laid[k] = 1.0 if w == NULL else w[k]
    for k in range(4 if n >= 4 else 0):
        laid[n + k] = 0.0 if n % 4 > 0 and k < 4 - n % 4 else laid[n - 4 + k]


cdef inline inlined far_fours(
    const double* z, const double* base, const double* w, double* fours, Py_ssize_t n, bint eights,
) noexcept nogil:
    """Parts of sum_k w_k (base - z_k) for ROWS rows of n."""
    cdef Py_ssize_t j
    for j in range(0, ROWS, 4):
        if eights:
            minnet_far_eights(z + j * n, n, base + j, w, fours + j)
        else:
            minnet_far_fours(z + j * n, n, base + j, w, fours + j)


cdef inline inlined far_row_sums(
    const double* z, const double* base, const double* w, double* sums, Py_ssize_t n,
) noexcept nogil:
    """The whole sums, by eights, and by fours of which the last overlap those before."""
    cdef double fours[FOURS * ROWS]
    cdef Py_ssize_t parts = n // 8, left = n % 8, j
    for j in range(parts):
        far_fours(z + 8 * j, base, w + 8 * j, fours + j * ROWS, n, True)
    if left > 4:
        far_fours(z + n - left, base, w + n - left, fours + parts * ROWS, n, False)
        parts += 1
    if left > 0:
        far_fours(z + n - 4, base, w + n, fours + parts * ROWS, n, False)
        parts += 1
    for j in range(0, ROWS, 8):
        add_fours(fours + j, sums + j, parts)


cdef struct Layout:
    # What tiles share whose rows are taken as they stand. Arrays over all rows of a tile are for whole tiles in wide vectors.
    lined ones[FEW + 4]
    lined laid[FEW + 4]           # weights of classes, as `lay_out` leaves them
    lined repeated[ROWS * FEW]    # the same for all rows, of reals; of one row, if there are no whole tiles
    lined_i32 row_of[ROWS * FEW]
    bint weighted                 # whether there are any
    bint careful                  # whether a smoothed loss may cancel


cdef inline bint is_whole_tile(Py_ssize_t rows) noexcept nogil:
    return rows >= ROWS and minnet_has_wide()


# A smoothed loss is (1 - s) w_y c + A, A = s / C sum_k w_k (c + z_y - z_k), where -log p_k = c + z_y - z_k: with the least
# weight w, A is at least s w log(C), as the mean of -log p_k is at least log(C). `is_cancelled` compares twice that loss with
# s / C sum(w) (c + slack), which it exceeds for any row if 2 (1 - s) w is at least s / C sum(w), and 2 s w log(C) the slack's
# part. Without weights of classes `is_near` has seen to the first.

cdef bint may_cancel(const double* laid, Py_ssize_t n, const Options* o) noexcept nogil:
    cdef double least = INFINITY
    cdef Py_ssize_t k
    for k in range(n):
        least = min(least, laid[k])
    return not (
        o.s / n * o.mass <= CANCELLED * (1 - o.s) * least and SLACK / n * o.mass <= CANCELLED * log(<double>n) * least)


cdef whole_clones lay(Layout* f, const real* w, Py_ssize_t rows, Py_ssize_t n, bint smoothed) noexcept nogil:
    """For a batch of so many rows of n classes with the weights w, or NULL."""
    cdef real* repeated = <real*>f.repeated
    cdef int32_t inverse = <int32_t>((1 << 20) // n + 1)   # exact enough for i < 2048, and a product with vectors
    cdef Py_ssize_t copies = ROWS if is_whole_tile(rows) else 1, i
    f.weighted = w != NULL
    lay_out(<const real*>NULL, f.ones, n)
    lay_out(w, f.laid, n)
    for i in range(copies * n):
        f.row_of[i] = <int32_t>i * inverse >> 20
    for i in range(n if smoothed else 0):
        repeated[i] = f.laid[i]
    i = n
    while smoothed and i < copies * n:
        memcpy(repeated + i, repeated, i * sizeof(real))
        i *= 2


cdef inline inlined put_tile(
    const real* e, const real* factor, const real* rest, const double* slope, const int64_t* y, const Layout* f, real* dz,
    Py_ssize_t n, bint less,
) noexcept nogil:
    """dz = factor e, or factor e - rest w, and the slope at the label, for a whole tile, in wide vectors."""
    cdef const real* w = <const real*>f.repeated
    cdef real at_label[ROWS]
    cdef Py_ssize_t j
    if real is double and less:
        minnet_less_tile_f64(e, factor, w, rest, f.row_of, dz, n)
    elif real is double:
        minnet_scale_tile_f64(e, factor, f.row_of, dz, n)
    elif less:
        minnet_less_tile_f32(e, factor, w, rest, f.row_of, dz, n)
    else:
        minnet_scale_tile_f32(e, factor, f.row_of, dz, n)
    for j in range(ROWS):
        at_label[j] = slope[j]
    for j in range(ROWS):
        dz[j * n + y[j]] = at_label[j]


cdef inline inlined put_rows(
    const real* e, const real* factor, const real* rest, const double* slope, const int64_t* y, const Layout* f, real* dz,
    Py_ssize_t rows, Py_ssize_t n, bint less,
) noexcept nogil:
    """The same one row after the other."""
    cdef const real* w = <const real*>f.repeated
    cdef Py_ssize_t j
    for j in range(rows):
        if real is double and less:
            minnet_less_f64(e, factor[j], w, rest[j], dz, n)
        elif real is double:
            minnet_scale_f64(e, factor[j], dz, n)
        elif less:
            minnet_less_f32(e, factor[j], w, rest[j], dz, n)
        else:
            minnet_scale_f32(e, factor[j], dz, n)
        dz[y[j]] = slope[j]
        e += n
        dz += n


cdef inline bint is_odd(double scale) noexcept nogil:
    """Whether what multiplies a gradient is too large or too small for `flat_tile`."""
    cdef double size = _math.magnitude(scale)
    return (size != 0) & (1 - ((size > 1e-23) & (size < 1e3)))


cdef inline bint is_tiny(double pull, double factor, real unused) noexcept nogil:
    """Whether a factor is subnormal, or 0 for a pull that is not."""
    cdef double LEAST = 1.1754943508222875e-38 if real is float else 2.2250738585072014e-308
    return (pull != 0) & (_math.magnitude(factor) < LEAST)


cdef inline inlined scale_tiny(
    real* e, const double* total, const double* pull, real* factor, Py_ssize_t rows, Py_ssize_t n,
) noexcept nogil:
    """Where a factor pull / total is tiny, the exponentials of its row are divided by the total first."""
    cdef Py_ssize_t j, k
    for j in range(rows):
        if is_tiny(pull[j], pull[j] / total[j], <real>0):
            factor[j] = pull[j]
            for k in range(n):
                e[j * n + k] /= <real>total[j]


cdef int64_t NO_LABEL = INT64_MIN


cdef inline inlined look_up(
    const double* w, Py_ssize_t classes, const int64_t* labels, int64_t ignored, double* found, Py_ssize_t rows,
) noexcept nogil:
    """found = w[labels], or 0 for those ignored; by fours, as to count them would take as long."""
    cdef Py_ssize_t j = 0, k
    if classes <= 16 and minnet_has_wide():
        minnet_look_up_wide(w, classes, labels, ignored, found, rows)
        return
    while j + 4 <= rows:
        for k in range(j, j + 4):
            found[k] = 0.0 if labels[k] == ignored else w[labels[k]]
        j += 4
    for k in range(j, rows):
        found[k] = 0.0 if labels[k] == ignored else w[labels[k]]


cdef inline inlined take_labels(
    const real* z, const int64_t* y, real* e, double* e_y, real* z_y, Py_ssize_t rows, Py_ssize_t n, bint smoothed,
) noexcept nogil:
    """The exponentials of labels, in whose place 0 comes; and their logits, which smoothing asks for."""
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        e_y[j], z_y[j] = 1e30, 1   # lanes without a row, which must not look cancelled
    for j in range(0, rows - 3, 4):
        if real is float:
            minnet_take_f32(z + j * n, y + j, e + j * n, e_y + j, z_y + j, n, smoothed)
        else:
            minnet_take_f64(z + j * n, y + j, e + j * n, e_y + j, z_y + j, n, smoothed)
    for j in range(rows - rows % 4, rows):
        k = j * n + y[j]
        e_y[j], z_y[j], e[k] = e[k], z[k], 0


cdef inline inlined flat_distances(
    const real* z, const real* z_y, const Layout* f, double* distances, Py_ssize_t n, const Options* o,
) noexcept nogil:
    """sum_k w_k (z_y - z_k) for each row."""
    cdef Py_ssize_t j
    if real is float:
        moments(z, f.laid, distances, n)
        for j in range(ROWS):
            distances[j] = o.mass * z_y[j] - distances[j]
    else:
        far_row_sums(z, z_y, f.laid, distances, n)


cdef enum Way:   # of a flat tile, a constant to it
    PLAIN
    SMOOTHED
    FOCUSED


cdef inline inlined flat_rows(
    const real* z, const int64_t* y, const Layout* f, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o, bint faint, bint* done, Way way,
) noexcept nogil:
    """A tile of rows of moderate logits. Where others are found, nothing is written and `done` is false. `faint`: a factor of
    the gradient may be subnormal."""
    cdef double TOP = 3.6e30 if real is float else 2.6e284     # what exp_flat makes of all that is larger is more
    cdef double LEAST = 3.8e10 if real is float else 1.4e28
    cdef real last[FEW * ROWS]
    cdef real room[FEW * ROWS + LINE]
    cdef real* e = <real*>(<char*>room + LINE - <size_t>room % LINE)   # fours read on
    cdef real factor[ROWS]
    cdef real rest[ROWS]
    cdef real z_y[ROWS]
    cdef double pull[ROWS]
    cdef Rows r
    cdef int64_t beyond = 0, tiny = 0
    cdef Py_ssize_t j
    if rows < ROWS:
        memset(last, 0, n * ROWS * sizeof(real))
        memcpy(last, z, n * rows * sizeof(real))
        z = last
    exp_flat(z, e, n * rows)
    memset(e + n * rows, 0, n * (ROWS - rows) * sizeof(real))
    for j in range(ROWS):
        pull[j] = scale
    for j in range(ROWS if weight != NULL else 0):
        pull[j] *= weight[j]
    take_labels(z, y, e, r.e_y, z_y, rows, n, way == SMOOTHED)
    if way == SMOOTHED:
        if f.weighted:
            for j in range(rows, ROWS):
                r.w_y[j] = 1
            look_up(f.laid, n, y, NO_LABEL, r.w_y, rows)
        flat_distances(z, z_y, f, r.distances, n, o)
    row_sums(e, f.ones, r.wrong, n)
    for j in range(ROWS):
        r.total[j] = r.e_y[j] + r.wrong[j]
        beyond |= (not r.total[j] < TOP) | (not r.e_y[j] > LEAST)
        r.inverse[j] = r.factor[j] = pull[j] / r.total[j]
        r.slope[j] = -r.wrong[j] * r.inverse[j]
        r.log_sum[j] = r.wrong[j] / r.e_y[j]
    if beyond:
        return
    if way == PLAIN:
        for j in range(ROWS):
            loss[j] = _math.log1p(r.log_sum[j])
    else:
        for j in range(ROWS):
            r.loss[j] = r.log_sum[j] = _math.log1p(r.log_sum[j])
    if way == SMOOTHED:
        smooth_tile(&r, n, o, True, not f.weighted)
        if f.careful and any_cancelled(&r, n, o, SLACK if real is float else 0.0):
            return
        for j in range(ROWS):
            rest[j] = o.s / n * pull[j]
    elif way == FOCUSED:
        focus_tile(&r, o.gamma)
    for j in range(ROWS if way != PLAIN else 0):
        loss[j] = r.loss[j]
    done[0] = True
    if dz == NULL:
        return
    for j in range(ROWS):
        factor[j] = r.factor[j]
    for j in range(ROWS if faint else 0):
        tiny |= is_tiny(pull[j], r.factor[j], <real>0)
    if tiny:
        for j in range(ROWS if way != PLAIN else 0):
            pull[j] *= r.mass[j]
        scale_tiny(e, r.total, pull, factor, rows, n)
    if is_whole_tile(rows):
        put_tile(e, factor, rest, r.slope, y, f, dz, n, way == SMOOTHED)
    else:
        put_rows(e, factor, rest, r.slope, y, f, dz, rows, n, way == SMOOTHED)


cdef clones flat_tile(
    const real* z, const int64_t* y, const Layout* f, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o, bint faint, bint* done,
) noexcept nogil:
    flat_rows(z, y, f, weight, loss, dz, rows, n, scale, o, faint, done, PLAIN)


cdef clones smoothed_flat_tile(
    const real* z, const int64_t* y, const Layout* f, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o, bint faint, bint* done,
) noexcept nogil:
    flat_rows(z, y, f, weight, loss, dz, rows, n, scale, o, faint, done, SMOOTHED)


cdef clones focused_flat_tile(
    const real* z, const int64_t* y, const Layout* f, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o, bint faint, bint* done,
) noexcept nogil:
    flat_rows(z, y, f, weight, loss, dz, rows, n, scale, o, faint, done, FOCUSED)


cdef narrow_clones label_tile(
    const real* z, const int64_t* y, const real* w, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o,
) noexcept nogil:
    """Any tile of rows, by their maxima."""
    cdef real t[FEW * ROWS]
    cdef real e[FEW * ROWS]
    cdef real m[ROWS]
    cdef real z_y[ROWS]
    cdef int label[ROWS]
    cdef real rest[ROWS]
    cdef double others[ROWS]
    cdef double pull[ROWS]
    cdef Rows r
    cdef double s = o.s
    cdef Py_ssize_t j
    tile_load(z, t, rows, n)
    tile_max(t, m, n)
    labels_of_tile(t, y, label, z_y, rows)
    tile_others(t, m, <real>1, others, e, n)
    if s > 0:
        far_sums(t, y, w, m, t, r.distances, r.w_y, rows, n)
    for j in range(ROWS):
        pull[j] = scale
    for j in range(rows if weight != NULL else 0):
        pull[j] *= weight[j]
    for j in range(ROWS):
        r.e_y[j] = _math.exp_difference(z_y[j], m[j]) * _math.unshift(m[j])   # as it stands in e
        r.log_sum[j] = _math.log1p(others[j])
        settle_label(z_y[j], r.e_y[j], m[j], others[j], r.log_sum[j], &r.loss[j], &r.wrong[j], &r.total[j])
        r.inverse[j] = r.factor[j] = pull[j] / r.total[j]
        r.slope[j] = -r.wrong[j] * r.inverse[j]
        rest[j] = s / n * pull[j]
    settle_tile(&r, n, o, False)
    for j in range(ROWS):
        loss[j] = r.loss[j]
    if dz == NULL:
        return
    put_gradient(e, label, &r, rest, w, dz, rows, n, s > 0)
    skip_rows(weight, r.total, dz, rows, n)


# ---- shares --------------------------------------------------------------------------------------------------------
# Where every class may have a share of the target, T_k = w_k ((1 - s) t_k + s / C), t probabilities, or onehot(y):
#     loss = sum_k T_k u_k^gamma c_k,   c_k = (m - z_k) + log(S),   u_k = 1 - p_k;   T_k = 0 adds 0 even where z_k = -inf
#          = sum_k T_k (m - z_k) + log(S) sum(T) where gamma = 0
#     G_k  = T_k u_k^gamma (1 + gamma p_k c_k / u_k),               as for a label
#     d loss / d z_k = p_k sum(G) - G_k = p_k (sum(G) - G_k) - G_k (1 - p_k), where 1 - p_k is (S - e_k) / S, or others / S
#     at the maximum: for one-hot shares this is the gradient of the label.

cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    """Numbers of a row that ends with a line of the cache, so that what is next begins with one."""
    return (n + LINE - 1) // LINE * LINE


cdef inline inlined spread(const real* t, const real* w, real* T, Py_ssize_t n, real s) noexcept nogil:
    """The shares of the probabilities t."""
    cdef real rest = s / n, keep = <real>1 - s
    cdef Py_ssize_t k
    for k in range(n):
        T[k] = keep * t[k] + rest if w == NULL else (keep * t[k] + rest) * w[k]


cdef clones spread_label(const real* w, real* T, Py_ssize_t n, real rest) noexcept nogil:
    """The shares of a label elsewhere, `padded` with zeros."""
    cdef Py_ssize_t k
    for k in range(n):
        T[k] = rest if w == NULL else rest * w[k]
    for k in range(n, padded(n)):
        T[k] = 0


cdef inline inlined term(real z, real T, double m, double* loss) noexcept nogil:
    """loss = T (m - z)."""
    loss[0] = 0.0 if T == 0 else T * (0.0 if z == m else m - z)


# The focal factor of the most likely class is that of a label, in double. For the others p <= 1/2, and with u = 1 - p
# and V = u^(gamma - 1)
#     loss = T V u c,   G = T V (u + gamma p c),   V = u^i (1 - p)^f,   i whole, |f| < 1
# where (1 - p)^f is nearly a polynomial: no logarithm, exponential, root or quotient is needed, whatever gamma is.

cdef double WHOLE = 1e15   # a gamma beyond counts as this, where it would leave float32


cdef struct Basis:   # of polynomials with so many terms: what all fits have in common
    Py_ssize_t terms
    double nodes[TERMS]             # 1 - p at Chebyshev's nodes
    double cosines[TERMS * TERMS]   # what each value there adds to the coefficients in Chebyshev's polynomials T_k
    double powers[TERMS * TERMS]    # coefficients of each T_k by powers of x


cdef Basis basis_of(Py_ssize_t terms, double border):
    """For p up to `border`."""
    cdef Basis b
    cdef Py_ssize_t i, k, at
    memset(&b, 0, sizeof(b))
    b.terms = terms
    for i in range(terms):
        b.nodes[i] = 1 - border * (1 + cos(M_PI * (2 * i + 1) / (2 * terms))) / 2
        for k in range(terms):   # of the angle modulo 2 pi, which keeps its digits
            b.cosines[i * TERMS + k] = cos(M_PI * (k * (2 * i + 1) % (4 * terms)) / (2 * terms)) * (1.0 if k == 0 else 2.0) / terms
    b.powers[0] = b.powers[TERMS + 1] = 1
    for at in range(2 * TERMS, terms * TERMS):   # T_k = 2 x T_(k - 1) - T_(k - 2)
        b.powers[at] = (2 * b.powers[at - TERMS - 1] if at % TERMS > 0 else 0.0) - b.powers[at - 2 * TERMS]
    return b


cdef Basis BASIS_OF_FLOATS = basis_of(10, 0.5), BASIS_OF_DOUBLES = basis_of(20, 0.5), BASIS_OF_ALL = basis_of(TERMS, 0.5)
cdef Basis NARROW_OF_FLOATS = basis_of(6, 0.125), NARROW_OF_DOUBLES = basis_of(NARROW, 0.125)


cdef void fit(double f, const Basis* b, double* c) noexcept nogil:
    """(1 - p)^f = sum_i c_i x^i with x = 4 p - 1 for 0 <= p <= 1/2, from the values at the nodes.

    The power has its singularity at x = 3, so that its series in Chebyshev's polynomials falls by 3 + sqrt(8) a term.
    """
    cdef double a[TERMS]
    cdef double y
    cdef Py_ssize_t i, k
    for k in range(TERMS):
        a[k], c[k] = 0, k == 0
    if f == 0:
        return
    for i in range(b.terms):
        y = pow(b.nodes[i], f) - 1
        for k in range(TERMS):
            a[k] += y * b.cosines[i * TERMS + k]
    for k in range(b.terms - 1, -1, -1):
        for i in range(TERMS):
            c[i] += a[k] * b.powers[k * TERMS + i]


cdef inline inlined quad(real x, real x2, const real* c, real* sum) noexcept nogil:
    sum[0] = (c[0] + c[1] * x) + x2 * (c[2] + c[3] * x)


cdef inline inlined small_power(real p, const real* c, real* power, bint all) noexcept nogil:
    """(1 - p)^f for 0 <= p <= 1/2 by `fit`: 10 terms for 24 digits; for 53 20, off by 0.03 eps, or all of 22 where f < 0."""
    cdef real x = <real>4 * p - <real>1
    cdef real x2 = x * x
    cdef real x4 = x2 * x2
    cdef real first, second, third, fourth, fifth
    quad(x, x2, c, &first)
    quad(x, x2, c + 4, &second)
    if real is float:
        power[0] = first + x4 * (second + x4 * (c[8] + c[9] * x))
    else:
        quad(x, x2, c + 8, &third)
        quad(x, x2, c + 12, &fourth)
        quad(x, x2, c + 16, &fifth)
        if all:
            fifth += x4 * (c[20] + c[21] * x)
        power[0] = first + x4 * (second + x4 * (third + x4 * (fourth + x4 * fifth)))


cdef inline inlined narrow_power(real x, const real* c, real* power) noexcept nogil:
    """(1 - p)^f for 0 <= p <= 1/8, x = 16 p - 1: 6 terms for 24 digits, 12 for 53. Beyond it is wrong, but a small number."""
    cdef real x2 = x * x
    cdef real x4 = x2 * x2
    cdef real first, second, third
    quad(x, x2, c, &first)
    if real is float:
        power[0] = first + x4 * (c[4] + c[5] * x)
    else:
        quad(x, x2, c + 4, &second)
        quad(x, x2, c + 8, &third)
        power[0] = first + x4 * (second + x4 * third)


cdef inline inlined small_powers(
    real* u, real* V, const real* c, Py_ssize_t whole, Py_ssize_t n,
) noexcept nogil:
    """V = (1 - p)^(whole + f), where p stands in u, which is used up."""
    cdef Py_ssize_t j
    if c[1] == 0:   # f = 0
        for j in range(n):
            V[j] = 1
    elif real is double and c[21] != 0:
        for j in range(n):
            small_power(u[j], c, &V[j], True)
    else:
        for j in range(n):
            small_power(u[j], c, &V[j], False)
    for j in range(n if whole > 0 else 0):
        u[j] = <real>1 - u[j]
    while whole > 0:   # by squaring
        if whole & 1:
            for j in range(n):
                V[j] *= u[j]
        whole >>= 1
        if whole > 0:
            for j in range(n):
                u[j] *= u[j]


cdef inline inlined focal_term(
    real z, real p, real T, real m, real L, real gamma, real V, real F, real H, real* G, real* loss,
) noexcept nogil:
    """G, and loss = T V u c; F and H are those of the maximum, for T = 1."""
    cdef real FAR = 1000
    cdef real u = <real>1 - p
    cdef real c = (m - z) + L
    cdef real near = FAR if FAR < c else c   # 0 inf is NaN
    cdef real share = V * (u + gamma * (p * near))
    cdef real cost = V * u * c
    share = H if z == m else share
    cost = F if z == m else cost
    G[0] = T * share
    loss[0] = <real>0 if T == 0 else T * cost


cdef inline inlined square_term(
    real z, real p, real T, real m, real L, real U, real* G, real* loss,
) noexcept nogil:
    """The same for gamma = 2, where a square keeps the digits of u at the maximum, U, too."""
    cdef real FAR = 1000
    cdef real u = U if z == m else <real>1 - p
    cdef real d = m - z
    cdef real c = L if z == m else d + L
    cdef real near = FAR if FAR < c else c
    cdef real Tu = T * u
    cdef real cost = Tu * (u * c)
    G[0] = Tu * (u + <real>2 * p * near)
    loss[0] = <real>0 if T == 0 else cost


cdef inline inlined focus_maxima(
    const double* u, const double* others, const double* log_sums, double gamma, double* F, double* H, Py_ssize_t rows,
) noexcept nogil:
    """loss = F and gradient G = H of classes at the maxima of rows, for T = 1."""
    cdef double power[ROWS]
    cdef double room[ROWS]
    cdef Py_ssize_t j
    _math.powers(u, power, room, rows, gamma)
    for j in range(rows):
        F[j] = log_sums[j]
        focus(1.0, others[j], power[j], gamma, &F[j], &H[j])


cdef inline inlined focal_block(
    const real* z, const real* e, const real* T, real* G, real m, real L, real inverse, real U, real F, real H,
    const real* c, const Options* o, double* high, double* low, Py_ssize_t n,
) noexcept nogil:
    """Costs and G of up to LANES entries, added lane by lane."""
    cdef real loss[LANES]
    cdef real slope[LANES]
    cdef real u[LANES]
    cdef real V[LANES]
    cdef real gamma = min(o.gamma, WHOLE)
    cdef Py_ssize_t j
    for j in range(n, LANES):
        loss[j] = slope[j] = 0
    if o.gamma == 2:
        for j in range(n):
            square_term(z[j], e[j] * inverse, T[j], m, L, U, &slope[j], &loss[j])
    else:
        for j in range(n):
            u[j] = e[j] * inverse
        small_powers(u, V, c, o.whole, n)
        for j in range(n):
            focal_term(z[j], e[j] * inverse, T[j], m, L, gamma, V[j], F, H, &slope[j], &loss[j])
    for j in range(n):
        G[j] = slope[j]
    tally(loss, high, low, PART)
    tally(slope, high + PART, low + PART, PART)


cdef void focal_sums(
    const real* z, const real* e, const real* T, real* G, real m, double others, double log_sum, double F, double H,
    const Options* o, double* loss, double* mass, Py_ssize_t n,
) noexcept nogil:
    """The loss of any row with a focus, and the sum of its G: infinite logits need care, which most rows do without."""
    cdef real c[TERMS]
    cdef double high[2 * PART]
    cdef double low[2 * PART]
    cdef real L = log_sum, inverse = 1.0 / (1.0 + others), U = others / (1.0 + others)
    cdef Py_ssize_t block, j
    for j in range(TERMS):
        c[j] = o.fit[j]
    for j in range(2 * PART):
        high[j] = low[j] = 0
    for block in range(n // LANES):
        j = block * LANES
        focal_block(z + j, e + j, T + j, G + j, m, L, inverse, U, <real>F, <real>H, c, o, high, low, LANES)
    j = n - n % LANES
    if j < n:
        focal_block(z + j, e + j, T + j, G + j, m, L, inverse, U, <real>F, <real>H, c, o, high, low, n - j)
    fold_parts(high, low, loss)
    fold_parts(high + PART, low + PART, mass)


cdef enum:
    MANY = 16   # Where `others` is as much, no p is large: the terms of p_k sum(G) - G_k are larger by a 15th at most.


cdef inline inlined share_gradient(
    real z, real G, real m, real mass, real others, real S, real factor, real* e,
) noexcept nogil:
    e[0] = (e[0] * (mass - G) - G * (others if z == m else S - e[0])) * factor


cdef inline inlined spread_tile(
    const real* t, const int64_t* y, const real* w, real* T, Py_ssize_t rows, Py_ssize_t n, real s,
) noexcept nogil:
    """The shares of a tile, as `spread` gives those of a row."""
    cdef real label[ROWS]
    cdef real rest = s / n, keep = <real>1 - s, w_k
    cdef Py_ssize_t j, k
    if t != NULL:
        tile_load(t, T, rows, n)
    for j in range(ROWS):
        label[j] = -1
    for j in range(rows if t == NULL else 0):
        label[j] = y[j]
    for k in range(n):
        w_k = 1 if w == NULL else w[k]
        if t == NULL:   # one comparison a class costs less than 32 entries one by one
            for j in range(ROWS):
                T[k * ROWS + j] = (keep + rest) * w_k if label[j] == k else rest * w_k
        else:
            for j in range(ROWS):
                T[k * ROWS + j] = (keep * T[k * ROWS + j] + rest) * w_k


cdef inline inlined focal_lanes(
    const real* z, const real* e, real* T, const real* m, const real* L, const real* inverse, const real* U,
    const real* F, const real* H, const real* c, const Options* o, real* cost,
) noexcept nogil:
    """One class of a tile: T becomes G."""
    cdef real u[ROWS]
    cdef real V[ROWS]
    cdef real gamma = min(o.gamma, WHOLE)
    cdef Py_ssize_t j
    if o.gamma == 2:
        for j in range(ROWS):
            square_term(z[j], e[j] * inverse[j], T[j], m[j], L[j], U[j], &T[j], &cost[j])
        return
    for j in range(ROWS):
        u[j] = e[j] * inverse[j]
    small_powers(u, V, c, o.whole, ROWS)
    for j in range(ROWS):
        focal_term(z[j], e[j] * inverse[j], T[j], m[j], L[j], gamma, V[j], F[j], H[j], &T[j], &cost[j])


cdef inline inlined plain_lanes(const real* z, const real* T, const real* m, double* loss, double* low) noexcept nogil:
    """The same without gamma: loss + low += T (m - z)."""
    cdef double d
    cdef Py_ssize_t j
    for j in range(ROWS):
        term(z[j], T[j], m[j], &d)
        if real is float:
            loss[j] += d
        else:
            add(&loss[j], &low[j], d)


cdef clones share_tile(
    const real* z, const real* t, const int64_t* y, const real* w, const double* weight, double* loss, real* dz,
    Py_ssize_t rows, Py_ssize_t n, double scale, const Options* o,
) noexcept nogil:
    cdef real zs[FEW * ROWS]
    cdef real Ts[FEW * ROWS]
    cdef real es[FEW * ROWS]
    cdef real costs[FEW * ROWS]
    cdef real m[ROWS]
    cdef real L[ROWS]
    cdef real rest[ROWS]
    cdef real S[ROWS]
    cdef real inverse[ROWS]
    cdef real U[ROWS]
    cdef real F[ROWS]
    cdef real H[ROWS]
    cdef real c[TERMS]
    cdef real total[ROWS]
    cdef real factor[ROWS]
    cdef double others[ROWS]
    cdef double low[ROWS]
    cdef double sums[ROWS]
    cdef double sums_low[ROWS]
    cdef double mass[ROWS]
    cdef double scales[ROWS]
    cdef double u[ROWS]
    cdef double tops[ROWS]
    cdef double pulls[ROWS]
    cdef double inverted, gamma = o.gamma
    cdef Py_ssize_t j, k
    tile_load(z, zs, rows, n)
    spread_tile(t, y, w, Ts, rows, n, <real>o.s)
    tile_max(zs, m, n)
    tile_others(zs, m, _math.unshift(<real>0), others, es, n)
    for j in range(ROWS):
        scales[j] = scale
    for j in range(rows if weight != NULL else 0):
        scales[j] *= weight[j]
    for j in range(ROWS):
        inverted = 1.0 / (1.0 + others[j])
        low[j] = _math.log1p(others[j])
        L[j], rest[j], S[j], inverse[j], factor[j] = low[j], others[j], 1.0 + others[j], inverted, scales[j] * inverted
        u[j] = others[j] * inverted
        U[j] = u[j]
        sums[j] = sums_low[j] = 0
    if gamma > 0:
        if gamma != 2:
            focus_maxima(u, others, low, gamma, tops, pulls, ROWS)
            for j in range(ROWS):
                F[j], H[j] = tops[j], pulls[j]
        for k in range(TERMS):
            c[k] = o.fit[k]
        for k in range(n):
            j = k * ROWS
            focal_lanes(zs + j, es + j, Ts + j, m, L, inverse, U, F, H, c, o, costs + j)
        tile_sums(costs, sums, n)
    else:
        for k in range(n):
            plain_lanes(zs + k * ROWS, Ts + k * ROWS, m, sums, sums_low)
    tile_sums(Ts, mass, n)
    for j in range(ROWS):
        total[j] = mass[j]
        if gamma == 0:
            sums[j] = (sums[j] + (sums_low[j] if sums[j] < INFINITY else 0.0)) + low[j] * mass[j]
    for j in range(ROWS):
        loss[j] = sums[j]
    if dz == NULL:
        return
    for k in range(n):
        for j in range(ROWS):
            share_gradient(
                zs[k * ROWS + j], Ts[k * ROWS + j], m[j], total[j], rest[j], S[j], factor[j], &es[k * ROWS + j])
    tile_store(es, dz, rows, n)
    skip_rows(weight, others, dz, rows, n)


# ---- batches -------------------------------------------------------------------------------------------------------

cdef clones settle_rows(double* values, const double* weight, Py_ssize_t rows, double* high, double* low) noexcept nogil:
    """Weigh the losses of some rows, add them to high + low, each row to a lane."""
    cdef double copies[ROWS]   # arrays of the caller might overlap, and the loop would not vectorise
    cdef Py_ssize_t j
    for j in range(ROWS):
        copies[j] = values[j] if j < rows else 0.0
    for j in range(ROWS if weight != NULL else 0):
        copies[j] = 0.0 if weight[j] == 0 else copies[j] * weight[j]
    for j in range(ROWS):
        values[j] = copies[j]
    for j in range(ROWS):
        add(&high[j], &low[j], copies[j])


cdef double add_lanes(double* high, double* low) noexcept nogil:
    """The sum of all lanes: once a call, so that one level will do."""
    fold(high, low, 16)
    fold(high, low, 8)
    fold(high, low, 4)
    fold(high, low, 2)
    fold(high, low, 1)
    return high[0] + low[0] if low[0] == low[0] else high[0]   # of infinite losses nothing is rounded off


cdef enum:
    MANY_ROWS = 8 * ROWS   # that are weighed at once


cdef whole_clones weigh(
    const int64_t* y, const double* w, Py_ssize_t classes, const double* weight, double* products, int64_t* labels,
    Py_ssize_t rows, const Options* o,
) noexcept nogil:
    """Weights of some rows times those of their classes, 0 for ignored rows; zeros follow, up to whole tiles. With `masked`, if
    `labels` are asked for: y, or class 0 for ignored rows.

    What is fetched by its label is fetched by a loop of its own, without conversion: all else comes in vectors."""
    cdef int64_t ignored = o.ignored if o.masked else NO_LABEL
    cdef Py_ssize_t j
    if w != NULL:
        look_up(w, classes, y, ignored, products, rows)
        for j in range(rows if weight != NULL else 0):
            products[j] *= weight[j]
    elif o.masked:
        for j in range(rows):
            products[j] = 0.0 if y[j] == ignored else 1.0 if weight == NULL else weight[j]
    else:
        for j in range(rows):
            products[j] = 1.0 if weight == NULL else weight[j]
    for j in range(rows if o.masked and labels != NULL else 0):
        labels[j] = 0 if y[j] == ignored else y[j]
    for j in range(rows, (rows + ROWS - 1) // ROWS * ROWS):
        products[j] = 0


cdef void look_up_few(
    const real* w, const int64_t* y, const double* weight, double* found, Py_ssize_t rows, const Options* o,
) noexcept nogil:
    """found = weight w[y] where there may be less rows than classes: none is converted that is not asked for."""
    cdef Py_ssize_t j
    for j in range(rows):
        found[j] = 0.0 if o.masked and y[j] == o.ignored else w[y[j]]
        found[j] *= 1.0 if weight == NULL else weight[j]


# Doubles that are positive stand in the order of their bits; inf, NaN and all with a sign come behind.

cdef struct Limits:
    lined_u64 least[ROWS]
    lined_u64 most[ROWS]


cdef inline inlined no_limits(Limits* limits) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(ROWS):
        limits.least[j], limits.most[j] = minnet_bits_f64(INFINITY) - 1, 0


cdef whole_clones widen(Limits* limits, const double* w, Py_ssize_t n) noexcept nogil:
    """The least bits but one and the most of some more weights, each of ROWS to a lane; of 0 the former is the largest number."""
    cdef uint64_t least[ROWS]
    cdef uint64_t most[ROWS]
    cdef uint64_t bits
    cdef Py_ssize_t i = 0, j
    for j in range(ROWS):
        least[j], most[j] = limits.least[j], limits.most[j]
    while i + ROWS <= n:
        for j in range(ROWS):
            bits = minnet_bits_f64(w[i + j])
            most[j] = bits if bits > most[j] else most[j]
            least[j] = bits - 1 if bits - 1 < least[j] else least[j]
        i += ROWS
    for j in range(n - i):
        bits = minnet_bits_f64(w[i + j])
        most[j] = bits if bits > most[j] else most[j]
        least[j] = bits - 1 if bits - 1 < least[j] else least[j]
    for j in range(ROWS):
        limits.least[j], limits.most[j] = least[j], most[j]


cdef whole_clones bounds_of(const Limits* limits, Bounds* bounds) noexcept nogil:
    """The least and the most of weights that are not 0: inf and 0 if all are, NaN if one is negative, inf or NaN."""
    cdef uint64_t least = limits.least[0], most = limits.most[0]
    cdef Py_ssize_t j
    for j in range(1, ROWS):
        least = min(least, limits.least[j])
        most = max(most, limits.most[j])
    least += 1
    memcpy(&bounds.least, &least, sizeof(double))
    memcpy(&bounds.most, &most, sizeof(double))
    if most >= minnet_bits_f64(INFINITY):
        bounds.least = bounds.most = NAN


cdef Bounds bounds_of_all(const double* w, Py_ssize_t n) noexcept nogil:
    cdef Limits limits
    cdef Bounds bounds
    no_limits(&limits)
    widen(&limits, w, n)
    bounds_of(&limits, &bounds)
    return bounds


cdef Bounds bounds_of_pulls(const double* weight, const double* upstream, Py_ssize_t n) noexcept nogil:
    """The same for weights, or 1, times upstream gradients, whose signs do not matter."""
    cdef double sizes[MANY_ROWS]
    cdef Limits limits
    cdef Bounds bounds
    cdef Bounds of_rows
    cdef Py_ssize_t i = 0, j, rows
    of_rows.least = of_rows.most = 1
    if weight != NULL:
        of_rows = bounds_of_all(weight, n)
    if upstream != NULL:
        no_limits(&limits)
        while i < n:
            rows = min(<Py_ssize_t>MANY_ROWS, n - i)
            for j in range(rows):
                sizes[j] = _math.magnitude(upstream[i + j])
            widen(&limits, sizes, rows)
            i += rows
        bounds_of(&limits, &bounds)
        of_rows.least *= bounds.least
        of_rows.most *= bounds.most
    return of_rows


cdef void bound_pulls(
    const real* w, Py_ssize_t n, const Options* o, double scale, bint* odd, bint* faint,
) noexcept nogil:
    """Whether what weights make of the scale of gradients may be odd for a row, or so small that a factor of its exponentials
    is subnormal, however large these are."""
    cdef double LEAST = 5e-8 if real is float else 1e-23   # over the largest sum that `flat_rows` takes: a normal number
    cdef double wide[FEW]
    cdef Bounds of_classes
    cdef double least = scale * o.of_rows.least, most = scale * o.of_rows.most
    cdef Py_ssize_t k
    of_classes.least = of_classes.most = 1
    if w != NULL:
        for k in range(n):
            wide[k] = w[k]
        of_classes = bounds_of_all(wide, n)
    if o.s == 0:
        least, most = least * of_classes.least, most * of_classes.most
    odd[0] = is_odd(least) or is_odd(most)
    if w != NULL and o.s > 0:
        least *= o.s / n * o.mass   # sum(T) is not less
    faint[0] = o.gamma > 0 or not _math.magnitude(least) > LEAST


cdef inline bint is_near(const real* w, const Options* o) noexcept nogil:
    """Whether losses by z_y are tried first: what cancels in smoothed ones is known without weights of classes."""
    return w != NULL or o.s <= CANCELLED * (1 - o.s)


cdef whole_clones fill(real* dz, Py_ssize_t n, real value) noexcept nogil:
    """dz = value; of a 0 that gcc knows it would make memset, which takes three times as long for 4 kB on Zen 5."""
    cdef Py_ssize_t k
    for k in range(n):
        dz[k] = value


cdef void put_far(const real* row, real* dz, Py_ssize_t n) noexcept nogil:
    """dz = row, whole lines past the cache."""
    cdef Py_ssize_t head = min(n, <Py_ssize_t>((LINE - <size_t>dz % LINE) % LINE // sizeof(real)))
    cdef Py_ssize_t lines = (n - head) * sizeof(real) // LINE
    cdef Py_ssize_t tail = head + lines * LINE // sizeof(real)
    memcpy(dz, row, head * sizeof(real))
    stream(dz + head, row + head, lines * LINE)
    memcpy(dz + tail, row + tail, (n - tail) * sizeof(real))


cdef clones finish_rows(const Loss* losses, double* values, Py_ssize_t rows) noexcept nogil:
    cdef double part[ROWS]
    cdef double share[ROWS]
    cdef double others[ROWS]
    cdef Py_ssize_t j
    for j in range(ROWS):
        part[j] = losses[j].part if j < rows else 0
        share[j] = losses[j].share if j < rows else 0
        others[j] = losses[j].others if j < rows else 0
    for j in range(ROWS):
        part[j] += share[j] * _math.log1p(others[j])
    memcpy(values, part, rows * sizeof(double))


# ---- rows of many classes ------------------------------------------------------------------------------------------
# Rows are tried by z_y first. With c and u = 1 - p of the label, without smoothing, a power and a pull of 1 without a focus,
# and T_k = w_k s / C for the other classes, what is said above becomes
#     loss = (1 - s) w_y u^gamma c + sum_k T_k u_k^gamma c_k,     c_k = (z_y - z_k) + log(S)
#     d loss / d z_k = p_k (G_y + sum(G)) - G_k,                  d loss / d z_y = (sum(G) - G_y (S - 1)) / S
# where G_y is ((1 - s) w_y + T_y) times the pull of the label. Digits that u_k and c_k lose where p_k is near 1, and c_k where
# distances cancel, are those of eps T_k and eps T_k c: no more than `is_cancelled` allows for, as c >= -log(1 - p_k) there, in the
# loss, and in slopes, where gamma p_k T_k log(S) is what may have lost its digits, and p_k adds up to 1.
# Some rows go through each step before the next one, as a logarithm, a quotient or a sum that is waited for takes as long as 16
# classes. Powers come from a polynomial for p <= 1/8, of half as many terms as those for p <= 1/2. Beyond are few classes in a
# row of labels, which are found by the largest exponential, and done again; in one of shares the maximum is known.

cdef enum:
    FAR = 1 << 24     # bytes of a gradient that is not in a cache when it is read, beside as many logits
    SHORT = 1 << 14   # bytes of a row that stays in the cache until it has been written
    GROUP = 8         # rows
    ROOM = 2 * GROUP  # rows, `padded`, to work in: the exponentials and G of a group


cdef struct Near:   # what a row is taken by
    double z_y       # or the maximum
    double log_sum
    double inverse   # 1 / S, and what exponentials are multiplied by
    Py_ssize_t label  # is left out; -1: none
    double F, H      # loss and G of a maximum, for T = 1
    double gamma
    Py_ssize_t whole


cdef struct Group:
    double unit[GROUP]
    double others[GROUP]
    double total[GROUP]
    double log_sum[GROUP]
    double e_y[GROUP]
    double loss[GROUP]     # u^gamma c of the label
    double pull[GROUP]     # u^gamma (1 + gamma p c / u) there
    double label[GROUP]    # its share of the target, but for what smoothing adds
    double share[GROUP]    # with that
    double costs[GROUP]    # of the other classes
    double slopes[GROUP]   # the sum of their G


cdef inline inlined near_powers(const real* e, real* u, const real* c, const Near* r, real* V, bint large) noexcept nogil:
    """V = u^(gamma - 1) of a strip, for p <= 1/8, or 1/2 if `large`; u is used up."""
    cdef real steep = 16 * r.inverse
    cdef Py_ssize_t whole = r.whole, j
    for j in range(strip(steep)):
        if large:
            small_power(e[j] * <real>r.inverse, c, &V[j], True)
        else:
            narrow_power(e[j] * steep - <real>1, c, &V[j])
    while whole > 0:
        for j in range(strip(steep) if whole & 1 else 0):
            V[j] *= u[j]
        for j in range(strip(steep)):
            u[j] *= u[j]
        whole >>= 1


cdef inline inlined near_strip(
    const real* z, const real* e, const real* T, real* G, const real* fit, const Near* r, real* costs, real* slopes,
    real* tops, bint large,
) noexcept nogil:
    """Costs T u^gamma c and G of a strip, and the largest exponentials; gamma = 2 where `fit` is NULL. If `large`, maxima have
    their own, and all else has p <= 1/2."""
    cdef real z_y = r.z_y, L = r.log_sum, inverse = r.inverse, pulled = r.gamma * r.inverse, F = r.F, H = r.H
    cdef real u[STRIP]
    cdef real V[STRIP]
    cdef real c, x, v
    cdef Py_ssize_t j
    for j in range(strip(L) if fit != NULL else 0):
        u[j] = <real>1 - e[j] * inverse
    if fit != NULL:
        near_powers(e, u, fit, r, V, large)
    for j in range(strip(L)):
        x = <real>1 - e[j] * inverse
        c = (z_y - z[j]) + L
        v = x if fit == NULL else V[j]
        if not large:
            v *= T[j]
        slopes[j] = v * (x + (e[j] * pulled) * c)
        costs[j] = v * (x * c)
    for j in range(strip(L) if large else 0):
        slopes[j] = T[j] * (H if z[j] == z_y else slopes[j])
        costs[j] = T[j] * (F if z[j] == z_y else costs[j])
    for j in range(strip(L)):
        G[j] = slopes[j]
    for j in range(strip(L) if fit != NULL and not large else 0):
        tops[j] = e[j] if e[j] > tops[j] else tops[j]


cdef inline inlined near_pair(
    const real* z, const real* e, const real* T, real* G, const real* fit, const Near* r, real* costs, real* slopes,
    real* tops, bint large,
) noexcept nogil:
    """Two strips, added to each other."""
    cdef real cost[STRIP]
    cdef real slope[STRIP]
    cdef Py_ssize_t size = strip(cost[0]), j
    near_strip(z, e, T, G, fit, r, costs, slopes, tops, large)
    near_strip(z + size, e + size, T + size, G + size, fit, r, cost, slope, tops, large)
    for j in range(strip(cost[0])):
        costs[j] += cost[j]
        slopes[j] += slope[j]


cdef inline inlined near_block(
    const real* z, const real* e, const real* T, real* G, const real* fit, const Near* r, double* high, real* low,
    double* high_slopes, real* low_slopes, real* tops, bint large,
) noexcept nogil:
    """Costs and G of a block of four strips, which are added as `exp_block` does it."""
    cdef real costs[STRIP]
    cdef real slopes[STRIP]
    cdef real cost[STRIP]
    cdef real slope[STRIP]
    cdef Py_ssize_t size = 2 * strip(cost[0]), j
    near_pair(z, e, T, G, fit, r, costs, slopes, tops, large)
    near_pair(z + size, e + size, T + size, G + size, fit, r, cost, slope, tops, large)
    for j in range(strip(cost[0])):
        costs[j] += cost[j]
        slopes[j] += slope[j]
    add_strip(costs, high, low)
    add_strip(slopes, high_slopes, low_slopes)


cdef inline inlined near_sums(
    const real* z, const real* e, const real* T, real* G, const real* fit, const Near* r, double* costs, double* slopes,
    real* top, Py_ssize_t n, bint large,
) noexcept nogil:
    """The sums of costs and of G over a row but its label; G is padded."""
    cdef double high[STRIP]
    cdef double high_slopes[STRIP]
    cdef real low[STRIP]
    cdef real low_slopes[STRIP]
    cdef real tops[STRIP]
    cdef real z_rest[LANES]
    cdef real e_rest[LANES]
    cdef real T_rest[LANES]
    cdef const real* z_block
    cdef const real* e_block
    cdef const real* T_block
    cdef real T_others[LANES]
    cdef double costs_rest, slopes_rest
    cdef Py_ssize_t block = 4 * strip(low[0]), i = 0, j
    for j in range(STRIP):
        high[j] = high_slopes[j] = 0
        low[j] = low_slopes[j] = tops[j] = 0
    for j in range(block):
        z_rest[j] = r.z_y
        e_rest[j] = T_rest[j] = 0
    memcpy(z_rest, z + n - n % block, n % block * sizeof(real))   # before they are read in other pieces
    memcpy(e_rest, e + n - n % block, n % block * sizeof(real))
    memcpy(T_rest, T + n - n % block, n % block * sizeof(real))
    while True:   # a loop that is known to run
        z_block, e_block, T_block = z + i, e + i, T + i
        if i > n - block:
            z_block, e_block, T_block = z_rest, e_rest, T_rest
        if i <= r.label < i + block:   # to subtract its share from the sums would leave their roundings to those of others
            for j in range(block):
                T_others[j] = T_block[j]
            T_others[r.label - i] = 0
            T_block = T_others
        near_block(z_block, e_block, T_block, G + i, fit, r, high, low, high_slopes, low_slopes, tops, large)
        i += block
        if i >= n:
            break
    sum_strip(high, low, costs, &costs_rest)
    sum_strip(high_slopes, low_slopes, slopes, &slopes_rest)
    costs[0] += costs_rest
    slopes[0] += slopes_rest
    if fit != NULL and not large:
        row_max(tops, top, STRIP)


cdef Py_ssize_t next_above(const real* e, real border, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """Where the next entry above a border is, from k on, or n: whole strips are passed over."""
    cdef int32_t found = 0
    cdef Py_ssize_t j
    while k + STRIP <= n and found == 0:
        for j in range(STRIP):
            found |= e[k + j] > border
        k += 0 if found else STRIP
    while k < n and not e[k] > border:
        k += 1
    return k


cdef void mend(
    const real* z, const real* e, const real* T, real* G, const Near* r, double* costs, double* slopes, Py_ssize_t n,
) noexcept nogil:
    """Classes of p > 1/8 by powers of their own, in place of what a polynomial has made of them."""
    cdef real border = 0.125 / r.inverse
    cdef double p, c, u, V, was
    cdef Py_ssize_t k = next_above(e, border, 0, n)
    while k < n:
        p, c, was = e[k] * r.inverse, (r.z_y - z[k]) + r.log_sum, G[k]
        u = 1 - p
        costs[0] -= was * u * c / (u + r.gamma * p * c)
        V = T[k] * pow(u, r.gamma - 1)
        G[k] = V * (u + r.gamma * p * c)
        costs[0] += V * u * c
        slopes[0] += G[k] - was
        if not (p <= 0.5 or r.gamma >= 1):   # no limit at u = 0, which has few digits
            costs[0] = NAN
        k = next_above(e, border, k + 1, n)


cdef inline inlined costs_of(
    const real* z, const real* e, const real* T, real* G, const Near* given, const Options* o, double* costs, double* slopes,
    Py_ssize_t n, bint large,
) noexcept nogil:
    cdef Near r = given[0]
    cdef real fit[TERMS]
    cdef double sums[2]   # no other pointers reach what is computed with: it would be read anew after each store
    cdef real top = 0
    cdef Py_ssize_t j
    if r.gamma == 2:
        near_sums(z, e, T, G, <const real*>NULL, &r, &sums[0], &sums[1], &top, n, large)
    else:
        for j in range(TERMS if large else NARROW):
            fit[j] = o.fit[j] if large else o.narrow[j]
        near_sums(z, e, T, G, fit, &r, &sums[0], &sums[1], &top, n, large)
    if top * r.inverse > 0.125:
        mend(z, e, T, G, given, &sums[0], &sums[1], n)
    costs[0], slopes[0] = sums[0], sums[1]


cdef clones near_costs(
    const real* z, const real* e, const real* T, real* G, const Near* r, const Options* o, double* costs, double* slopes,
    Py_ssize_t n,
) noexcept nogil:
    """Sums over classes, of which few have p > 1/8."""
    costs_of(z, e, T, G, r, o, costs, slopes, n, False)


cdef clones top_costs(
    const real* z, const real* e, const real* T, real* G, const Near* r, const Options* o, double* costs, double* slopes,
    Py_ssize_t n,
) noexcept nogil:
    """Sums over classes of any p, whose maximum is known."""
    costs_of(z, e, T, G, r, o, costs, slopes, n, True)


cdef inline inlined distance_pair(
    const real* z, const real* T, real m, real* sums, real* masses, bint careful,
) noexcept nogil:
    """T (m - z) of two strips, added to each other, 0 where T is if `careful`; and T."""
    cdef real first, second
    cdef Py_ssize_t size = strip(m), j
    for j in range(strip(m)):
        first, second = m - z[j], m - z[j + size]
        if T != NULL:
            first, second = T[j] * first, T[j + size] * second
            masses[j] = T[j] + T[j + size]
        if careful:
            first, second = <real>0 if T[j] == 0 else first, <real>0 if T[j + size] == 0 else second
        sums[j] = first + second


cdef inline inlined distance_block(
    const real* z, const real* T, real m, double* high, real* low, double* high_masses, real* low_masses, bint careful,
) noexcept nogil:
    """high + low += T (m - z), and the same for T if `careful`, for four strips, as `exp_block` adds them."""
    cdef real first[STRIP]
    cdef real second[STRIP]
    cdef real mass[STRIP]
    cdef real masses[STRIP]
    cdef Py_ssize_t size = 2 * strip(m), j
    distance_pair(z, T, m, first, mass, careful)
    distance_pair(z + size, T if T == NULL else T + size, m, second, masses, careful)
    for j in range(strip(m)):
        first[j] += second[j]
    add_strip(first, high, low)
    for j in range(strip(m) if careful else 0):
        mass[j] += masses[j]
    if careful:
        add_strip(mass, high_masses, low_masses)


cdef inline inlined distances_of(
    const real* z, const real* T, real m, double* total, double* mass, Py_ssize_t n,
) noexcept nogil:
    """The sums of T_k (m - z_k), where T counts as 1 if it is NULL; and of T_k, unless mass is NULL: then T is padded with zeros,
    and 0 beside z_k = -inf makes NaN."""
    cdef double high[STRIP]
    cdef double high_masses[STRIP]
    cdef real low[STRIP]
    cdef real low_masses[STRIP]
    cdef real z_rest[LANES]
    cdef real T_rest[LANES]
    cdef const real* z_block
    cdef const real* T_block
    cdef double rest, mass_rest
    cdef Py_ssize_t block = 4 * strip(m), i = 0, j
    for j in range(STRIP):
        high[j] = high_masses[j] = 0
        low[j] = low_masses[j] = 0
    for j in range(block):
        z_rest[j], T_rest[j] = m, 0
    memcpy(z_rest, z + n - n % block, n % block * sizeof(real))   # before they are read in other pieces
    if mass != NULL:
        memcpy(T_rest, T + n - n % block, n % block * sizeof(real))
    while True:   # a loop that is known to run
        z_block, T_block = z + i, T if T == NULL else T + i
        if i > n - block:
            z_block, T_block = z_rest, T_block if mass == NULL else T_rest
        distance_block(z_block, T_block, m, high, low, high_masses, low_masses, mass != NULL)
        i += block
        if i >= n:
            break
    sum_strip(high, low, total, &rest)
    total[0] += rest if total[0] < INFINITY else 0.0   # which is NaN beside inf
    if mass != NULL:
        sum_strip(high_masses, low_masses, mass, &mass_rest)
        mass[0] += mass_rest


cdef void certain_sums(const real* z, const real* T, double* total, double* mass, Py_ssize_t n) noexcept nogil:
    """The same where the maximum is +inf: shares of all that is less cost inf."""
    cdef double rest = 0
    cdef Py_ssize_t k
    total[0] = mass[0] = 0
    for k in range(n):
        add(mass, &rest, T[k])
        if T[k] != 0 and z[k] < INFINITY:
            total[0] = INFINITY
    mass[0] += rest


cdef inline inlined focus_group(Group* r, double gamma) noexcept nogil:
    """Logarithms and powers of all rows side by side."""
    cdef Py_ssize_t j
    for j in range(GROUP):
        r.total[j] = 1.0 + r.others[j]
        r.log_sum[j] = r.loss[j] = _math.log1p(r.others[j])
    focus_rows(r.e_y, r.others, r.total, gamma, r.loss, r.pull, GROUP)


cdef inline inlined smooth_group(
    const real* z, const int64_t* y, const real* w, real** e, real* G, Group* r, const Py_ssize_t* at, Py_ssize_t rows,
    Py_ssize_t n, const Options* o,
) noexcept nogil:
    """Costs and slopes of the other classes, and G. Without a focus, costs are without log(S) times slopes, and T is G."""
    cdef const real* T = <const real*>o.shares
    cdef const real* row
    cdef Near near
    cdef Py_ssize_t j, k
    near.gamma, near.whole, near.F, near.H = o.gamma, o.whole, 0, 0
    for j in range(rows):
        k, row = y[at[j]], z + at[j] * n
        r.label[j] = (1 - o.s) * (1.0 if w == NULL else w[k])
        r.share[j] = r.label[j] + T[k]
        r.slopes[j] = o.s / n * o.mass - T[k]
        if o.gamma > 0:
            near.z_y, near.label, near.log_sum = row[k], k, r.log_sum[j]
            near.inverse = r.unit[j] * _math.unshift(<real>0) / r.total[j]
            near_costs(row, e[j], T, G + j * padded(n), &near, o, &r.costs[j], &r.slopes[j], n)
        elif w == NULL:
            distances_of(row, <const real*>NULL, row[k], &r.costs[j], NULL, n)
            r.costs[j] *= o.s / n
        else:
            distances_of(row, T, row[k], &r.costs[j], NULL, n)


cdef inline inlined near_slopes(real* e, const real* G, double factor, real pull, real rest, Py_ssize_t n) noexcept nogil:
    """factor e - pull G in place of e, or less the same for all where there is no G."""
    cdef real first, second
    cdef Py_ssize_t k
    _math.split(factor, &first, &second)
    if G != NULL:
        for k in range(n):
            e[k] = e[k] * first * second - pull * G[k]
    elif rest != 0:
        for k in range(n):
            e[k] = e[k] * first * second - rest
    else:
        for k in range(n):
            e[k] = e[k] * first * second


cdef clones near_group(
    const real* z, const int64_t* y, const real* w, const double* pulls, real** e, real* G, Loss* losses,
    const Py_ssize_t* at, Py_ssize_t rows, Py_ssize_t n, double scale, const Options* o, bint sloped, bint* done,
) noexcept nogil:
    """Rows at[0], at[1], ... unless a logit is far above the label's, or that is far from 0, or there is none to tell: then
    `done` is false. Then come those of the next group. The gradient, if it is asked for, takes the place of e."""
    cdef Group r
    cdef const real* less
    cdef double light = o.s / n * o.mass, pull, rest, inverse, mass, log_sum
    cdef bint even = w == NULL and o.gamma == 0, cancelled
    cdef Py_ssize_t i, j, k
    for j in range(GROUP):
        r.unit[j], r.others[j], r.e_y[j], r.pull[j], r.costs[j], r.slopes[j], r.log_sum[j] = 1, 0, 1, 1, 0, 0, 0
        r.label[j] = r.share[j] = 1   # weights of classes are those of rows, unless these are smoothed
    for j in range(rows):
        near_exponentials(z + at[j] * n, z + at[j + rows] * n, y[at[j]], &r.unit[j], &r.others[j], e[j], n)
    if o.gamma > 0:
        focus_group(&r, o.gamma)
    if o.s > 0:
        smooth_group(z, y, w, e, G, &r, at, rows, n, o)
    for j in range(rows):
        i, k = at[j], y[at[j]]
        pull = scale if pulls == NULL else scale * pulls[i]
        inverse = pull / (1.0 + r.others[j])
        mass = r.share[j] * r.pull[j] + r.slopes[j]
        if o.gamma > 0:
            losses[i] = known(r.share[j] * r.loss[j] + r.costs[j])
            cancelled = is_cancelled(losses[i].part, light * r.log_sum[j])
        else:
            losses[i].part, losses[i].share, losses[i].others = r.costs[j], mass, r.others[j]
            cancelled = r.costs[j] != r.costs[j]
            if not light <= CANCELLED * r.label[j]:   # else nothing cancels: see `may_cancel`
                log_sum = _math.log1p(r.others[j])
                cancelled = is_cancelled(r.costs[j] + mass * log_sum, light * log_sum)
        done[j] = not (
            cancelled or is_far(z[i * n + k], r.others[j], pull, min(mass, 1.0) * inverse)
            or is_cancelled(mass, o.gamma * o.heaviest * o.s / n * r.log_sum[j]))   # NaN: p c of an impossible class
        if sloped and done[j]:
            less = NULL
            if o.s > 0 and not even:
                less = <const real*>o.shares if o.gamma == 0 else G + j * padded(n)
            rest = o.s / n * pull if even else 0.0
            near_slopes(e[j], less, mass * inverse * r.unit[j], <real>pull, <real>rest, n)
            e[j][k] = (r.slopes[j] - r.share[j] * r.pull[j] * r.others[j]) * inverse


cdef inline inlined share_slopes(
    const real* z, const real* G, real m, double others, double mass, double scale, real* e, Py_ssize_t n,
) noexcept nogil:
    """The gradient in place of e."""
    cdef real pull = mass * scale / (1.0 + others)
    cdef Py_ssize_t k
    if others >= MANY and m < INFINITY:
        for k in range(n):
            e[k] = e[k] * pull - G[k] * <real>scale
    else:
        for k in range(n):
            share_gradient(
                z[k], G[k], m, <real>mass, <real>others, <real>(1.0 + others), <real>(scale / (1.0 + others)), &e[k])


cdef clones share_group(
    const real* z, const real* t, const int64_t* y, const real* w, const double* pulls, real** e, real* G, real* shares,
    Loss* losses, const Py_ssize_t* at, Py_ssize_t rows, Py_ssize_t n, double scale, const Options* o, bint sloped,
) noexcept nogil:
    """The same for shares of all classes, and for labels whose smoothed loss with a focus goes by the maximum."""
    cdef const real* T
    cdef const real* row
    cdef real m[GROUP]
    cdef double others[GROUP]
    cdef double log_sum[GROUP]
    cdef double u[GROUP]
    cdef double F[GROUP]
    cdef double H[GROUP]
    cdef Near near
    cdef double unit, mass
    cdef Py_ssize_t i, j
    for j in range(GROUP):
        others[j] = 0
    for j in range(rows):
        fetch(t + at[j] * n, n * sizeof(real) // LINE + 1 if t != NULL and n * sizeof(real) <= SHORT else 0)
        top_exponentials(z + at[j] * n, z + at[j + rows] * n, &m[j], &unit, &others[j], e[j], n, True)
    for j in range(GROUP):
        log_sum[j], u[j] = _math.log1p(others[j]), others[j] / (1.0 + others[j])
    if o.gamma > 0:
        focus_maxima(u, others, log_sum, o.gamma, F, H, GROUP)
    near.label, near.gamma, near.whole = -1, o.gamma, o.whole
    for j in range(rows):
        i, row, T = at[j], z + at[j] * n, shares
        if y != NULL:
            memcpy(shares, o.shares, n * sizeof(real))
            shares[y[i]] = (1 - <real>o.s + <real>o.s / n) * (<real>1 if w == NULL else w[y[i]])
        elif w != NULL or o.s > 0:
            spread(t + i * n, w, shares, n, <real>o.s)
        else:
            T = t + i * n
        losses[i] = known(0)
        if o.gamma == 0:
            if m[j] < INFINITY:
                distances_of(row, T, m[j], &losses[i].part, &mass, n)
            else:
                certain_sums(row, T, &losses[i].part, &mass, n)
            losses[i].part += log_sum[j] * mass
        else:
            near.z_y, near.log_sum, near.inverse, near.F, near.H = m[j], log_sum[j], 1.0 / (1.0 + others[j]), F[j], H[j]
            if others[j] >= 7:   # p <= 1/8
                near_costs(row, e[j], T, G, &near, o, &losses[i].part, &mass, n)
            else:
                top_costs(row, e[j], T, G, &near, o, &losses[i].part, &mass, n)
            if not (losses[i].part < INFINITY and mass < INFINITY):
                focal_sums(row, e[j], T, G, m[j], others[j], log_sum[j], F[j], H[j], o, &losses[i].part, &mass, n)
        if sloped:
            share_slopes(
                row, T if o.gamma == 0 else G, m[j], others[j], mass, scale if pulls == NULL else scale * pulls[i], e[j], n)


cdef void by_maximum(
    const real* z, const int64_t* y, const real* w, const double* pulls, real** e, real* work, Loss* losses,
    const Py_ssize_t* at, Py_ssize_t n, double scale, const Options* o, bint sloped,
) noexcept nogil:
    """A row with a label; meanwhile the next one comes nearer."""
    cdef Py_ssize_t i = at[0]
    if o.s == 0 or o.gamma == 0:
        label_row(
            z + i * n, z + at[1] * n, y[i], w, e[0], &losses[i], n, scale if pulls == NULL else scale * pulls[i], o, sloped)
    else:
        share_group(
            z, <const real*>NULL, y, w, pulls, e, work, work + padded(n), losses, at, 1, n, scale, o, sloped)


cdef inline Py_ssize_t group_of(Py_ssize_t n, real unused) noexcept nogil:
    """How many rows go side by side: 7 kB of logits, of exponentials and of G stay in the nearest cache."""
    return max(<Py_ssize_t>1, min(<Py_ssize_t>GROUP, <Py_ssize_t>(7168 // (n * sizeof(real)))))


cdef void put_back(const real* e, real* dz, Py_ssize_t n, bint far) noexcept nogil:
    """dz = e, which may be the same place."""
    if far:
        put_far(e, dz, n)
    elif e != dz:
        memcpy(dz, e, n * sizeof(real))


cdef void long_rows(
    const real* z, const real* t, const int64_t* y, const real* w, const double* weight, const double* pull, real* work,
    double* loss, real* dz, Py_ssize_t rows, Py_ssize_t n, double scale, const Options* o,
) noexcept nogil:
    """Up to ROWS of more than FEW classes. Exponentials of a row, and then its gradient, stand where the gradient will be, or
    in `work` if dz is z, or goes past the caches."""
    cdef Loss losses[ROWS]
    cdef Py_ssize_t at[ROWS + GROUP]   # where rows that count are, and what comes next
    cdef bint done[GROUP]
    cdef real* e[GROUP]
    cdef real* G = work + GROUP * padded(n)
    cdef real* slope
    cdef bint sloped = dz != NULL, near = t == NULL and is_near(w, o)
    cdef Py_ssize_t count = 0, i = 0, j, some, group = group_of(n, <real>0)
    for j in range(rows):
        if weight != NULL and weight[j] == 0:
            losses[j] = known(0)
            if sloped:
                slope = work if o.far else dz + j * n
                fill(slope, n, <real>0)
                put_back(slope, dz + j * n, n, o.far)
        else:
            at[count] = j
            count += 1
    for j in range(GROUP):
        at[count + j] = rows + j
    while i < count:
        some = min(group, count - i)
        for j in range(some):
            e[j] = work + j * padded(n) if dz == NULL or dz == z or o.far else dz + at[i + j] * n
            done[j] = False
        if t != NULL:
            share_group(
                z, t, <int64_t*>NULL, w, pull, e, G, G + padded(n), losses, at + i, some, n, scale, o, sloped)
        elif near:
            near_group(z, y, w, pull, e, G, losses, at + i, some, n, scale, o, sloped, done)
        for j in range(some if t == NULL else 0):
            if not done[j]:
                by_maximum(z, y, w, pull, e + j, G, losses, at + i + j, n, scale, o, sloped)
        for j in range(some if sloped else 0):
            if pull != NULL and pull[at[i + j]] == 0:   # whatever the row holds
                fill(e[j], n, <real>0)
            put_back(e[j], dz + at[i + j] * n, n, o.far)
        i += some
    finish_rows(losses, loss, rows)


# ---- any rows ------------------------------------------------------------------------------------------------------

cdef void tile(
    const real* z, const real* t, const int64_t* y, const real* w, const Layout* f, const double* weight, double* loss,
    real* dz, Py_ssize_t rows, Py_ssize_t n, double scale, const Options* o, bint faint, bint* flat,
) noexcept nogil:
    """Up to ROWS rows of up to FEW classes. Where logits of one are not moderate, others will not be, either: `flat` tells."""
    cdef bint done = False
    if t != NULL or (o.s > 0 and o.gamma > 0):
        share_tile(z, t, y, w, weight, loss, dz, rows, n, scale, o)
        return
    if flat[0]:
        if o.s > 0:
            smoothed_flat_tile(z, y, f, weight, loss, dz, rows, n, scale, o, faint, &done)
        elif o.gamma > 0:
            focused_flat_tile(z, y, f, weight, loss, dz, rows, n, scale, o, faint, &done)
        else:
            flat_tile(z, y, f, weight, loss, dz, rows, n, scale, o, faint, &done)
        flat[0] = done
    if not done and is_near(w, o):
        near_tile(z, y, w, weight, loss, dz, rows, n, scale, o, &done)
    if not done:
        label_tile(z, y, w, weight, loss, dz, rows, n, scale, o)


cdef whole_clones pull_rows(const double* weight, const double* upstream, double* pull, Py_ssize_t rows) noexcept nogil:
    """What multiplies gradients of a tile of rows: nothing that an upstream gradient holds makes a row of weight 0 count."""
    cdef Py_ssize_t j
    for j in range(rows):
        pull[j] = upstream[j] if weight == NULL else 0.0 if weight[j] == 0 else weight[j] * upstream[j]
    for j in range(rows, ROWS):
        pull[j] = 0


cdef double batch(
    const real* z, const real* t, const int64_t* y, const real* w, const double* weight, const double* upstream, real* work,
    real* loss, real* dz, Py_ssize_t n, Py_ssize_t classes, double scale, const Options* o,
) noexcept nogil:
    """The sum of the losses of n rows; anything but z may be NULL, and one of t and y is. dz may be z. `upstream` multiplies
    gradients alone."""
    cdef lined values[ROWS]
    cdef lined products[MANY_ROWS]
    cdef lined_i64 checked[MANY_ROWS]
    cdef lined pulls[ROWS]
    cdef Layout f
    cdef bint label = t == NULL and (o.s == 0 or o.gamma == 0)
    cdef bint of_rows = w != NULL and label and o.s == 0   # the weight of the class is one of the row
    cdef bint flat = label and is_near(w, o) and 4 <= classes <= FEW
    cdef double* laid = &f.laid[0] if of_rows and classes <= FEW else NULL
    cdef lined of_labels[MANY_ROWS]
    cdef lined high[ROWS]
    cdef lined low[ROWS]
    cdef const double* u
    cdef const double* pull
    cdef const int64_t* labels
    cdef const real* shares
    cdef real* slope
    cdef bint odd = False, faint = False
    cdef Py_ssize_t i = 0, j, rows, at
    for j in range(ROWS):
        high[j] = low[j] = 0
    if flat:
        bound_pulls(w, classes, o, scale, &odd, &faint)
        flat = not odd
    if flat:
        lay(&f, w, n, classes, o.s > 0)
        f.careful = o.s > 0 and may_cancel(f.laid, classes, o)
    elif laid != NULL:
        lay_out(w, laid, classes)
    while i < n:
        rows, at = min(<Py_ssize_t>ROWS, n - i), i * classes
        shares = NULL if t == NULL else t + at
        labels = NULL if y == NULL else y + i
        slope = NULL if dz == NULL else dz + at
        u = NULL if weight == NULL else weight + i
        if of_rows or o.masked or (weight != NULL and n - i < ROWS):
            if i % MANY_ROWS == 0 or not (of_rows or o.masked):
                if of_rows and classes > FEW:
                    look_up_few(w, labels, u, of_labels, min(<Py_ssize_t>MANY_ROWS, n - i), o)
                    u = of_labels
                weigh(
                    labels, laid, classes, u, products + i % MANY_ROWS, checked, min(<Py_ssize_t>MANY_ROWS, n - i), o)
            u = products + i % MANY_ROWS
            if o.masked:
                labels = checked + i % MANY_ROWS
        pull = u
        if upstream != NULL:
            pull_rows(u, upstream + i, pulls, rows)
            pull = pulls
        if classes <= FEW:
            tile(z + at, shares, labels, w, &f, pull, values, slope, rows, classes, scale, o, faint, &flat)
        else:
            long_rows(z + at, shares, labels, w, u, pull, work, values, slope, rows, classes, scale, o)
        settle_rows(values, u, rows, high, low)
        for j in range(rows if loss != NULL else 0):
            loss[i + j] = values[j]
        i += rows
    if o.far:
        streamed()
    return add_lanes(high, low)


cdef void weigh_classes(const real* w, Py_ssize_t classes, Options* o) noexcept nogil:
    """The sum of the weights of classes, and the largest."""
    cdef lined high[ROWS]
    cdef lined low[ROWS]
    cdef lined wide[MANY_ROWS]
    cdef Limits limits
    cdef Bounds bounds
    cdef Py_ssize_t i = 0, j, some
    no_limits(&limits)
    for j in range(ROWS):
        high[j] = low[j] = 0
    while i < classes:
        some = min(<Py_ssize_t>MANY_ROWS, classes - i)
        for j in range(some):
            wide[j] = w[i + j]
        for j in range(some, (some + ROWS - 1) // ROWS * ROWS):
            wide[j] = 0
        add_products(wide, NULL, high, low, some)
        widen(&limits, wide, some)
        i += some
    bounds_of(&limits, &bounds)
    o.mass, o.heaviest = add_lanes(high, low), bounds.most


cdef Options options(const real* w, Py_ssize_t classes, double s, double gamma, bint shared) noexcept nogil:
    cdef Options o
    cdef const Basis* basis
    cdef const Basis* narrow = &NARROW_OF_FLOATS if real is float else &NARROW_OF_DOUBLES
    o.s, o.gamma, o.mass, o.heaviest, o.ignored, o.masked, o.far, o.shares = s, gamma, classes, 1, 0, False, False, NULL
    o.of_rows.least = o.of_rows.most = 1
    if gamma > 0 and shared:
        o.whole = <Py_ssize_t>min(max(gamma - 1, 0), WHOLE)
        basis = &BASIS_OF_FLOATS if real is float else &BASIS_OF_DOUBLES if gamma >= 1 else &BASIS_OF_ALL
        fit(gamma - 1 - o.whole if gamma < WHOLE else 0.0, basis, o.fit)
        fit(gamma - 1 - o.whole if gamma < WHOLE else 0.0, narrow, o.narrow)
    if w != NULL and s > 0:
        weigh_classes(w, classes, &o)
    return o


# ---- on several threads: see _team.h ----

cdef struct Work:   # what is void is float or double
    const void* z
    const void* t
    const int64_t* y
    const void* w
    const double* weight
    const double* upstream
    void* loss
    void* dz
    bint doubles
    bint failed   # for want of memory
    Py_ssize_t rows, classes, piece   # rows of a part: whole tiles
    double scale
    double sums[PIECES]
    Options options


cdef void do_rows(Work* work, const real* z, Py_ssize_t part) noexcept nogil:
    cdef Py_ssize_t start = part * work.piece, classes = work.classes
    cdef Py_ssize_t at = start * classes
    cdef Options o = work.options
    cdef void* room = malloc(ROOM * padded(classes) * sizeof(real) + LINE)
    if room == NULL:
        work.failed = True
        return
    o.of_rows = bounds_of_pulls(
        NULL if work.weight == NULL else work.weight + start, NULL if work.upstream == NULL else work.upstream + start,
        min(work.piece, work.rows - start))
    work.sums[part] = batch(
        z + at, NULL if work.t == NULL else <const real*>work.t + at, NULL if work.y == NULL else work.y + start,
        <const real*>work.w, NULL if work.weight == NULL else work.weight + start,
        NULL if work.upstream == NULL else work.upstream + start, <real*>(<char*>room + LINE - <size_t>room % LINE),
        NULL if work.loss == NULL else <real*>work.loss + start, NULL if work.dz == NULL else <real*>work.dz + at,
        min(work.piece, work.rows - start), classes, work.scale, &o)
    free(room)


cdef void do_part(void* argument, Py_ssize_t part) noexcept nogil:
    cdef Work* work = <Work*>argument
    if work.doubles:
        do_rows(work, <const double*>work.z, part)
    else:
        do_rows(work, <const float*>work.z, part)


cdef double share_rows(Work* work, const real[:, ::1] z, real[:, ::1] dz, Meeting* team) noexcept nogil:
    """The sum of the losses of all rows, by the team. It is cut by length alone, so no bit depends on who does which."""
    cdef Py_ssize_t tile = ROWS if z.shape[1] <= FEW else 1, size = z.shape[1] * sizeof(real), parts, i
    cdef Py_ssize_t length = max(z.shape[1], 1)   # rows may be empty, and many
    cdef double total = 0, low = 0
    cdef void* room = NULL
    work.z, work.doubles, work.rows, work.classes = &z[0, 0], real is double, z.shape[0], z.shape[1]
    work.dz = NULL if dz.shape[0] == 0 else &dz[0, 0]
    work.options.far = FEW < z.shape[1] and size <= SHORT and z.shape[0] * size >= FAR and can_stream()
    work.piece = ((piece_of(z.shape[0] * length) - 1) // (length * tile) + 1) * tile
    parts = (z.shape[0] + work.piece - 1) // work.piece
    if work.y != NULL and work.options.s > 0 and z.shape[1] > FEW:
        room = malloc(padded(z.shape[1]) * sizeof(real) + LINE)
        work.failed = room == NULL
        work.options.shares = <char*>room + LINE - <size_t>room % LINE
    if not work.failed:
        if room != NULL:
            spread_label(<const real*>work.w, <real*>work.options.shares, z.shape[1], work.options.s / z.shape[1])
        share_standing(team, do_part, work, parts)
    free(room)
    for i in range(0 if work.failed else parts):
        add(&total, &low, work.sums[i])
    return total + low if low == low else total


cdef inline const real* given(const real[::1] a) noexcept nogil:
    return &a[0] if a.shape[0] > 0 else NULL


def cross_entropy_index(
    const real[:, ::1] z not None, const int64_t[::1] y not None, const real[::1] w not None,
    const double[::1] upstream not None, const double[::1] weight not None, real[::1] loss not None,
    real[:, ::1] dz not None, double scale, double s, double gamma, int64_t ignored, bint masked, Team team=None,
):
    """loss = weight sum_k T_k (1 - p_k)^gamma (-log p_k), p = softmax(z), T_k = w_k ((1 - s) [k = y] + s / C),
    dz = scale times its gradient, and times `upstream`; z, dz: (N, C), w: (C,), the others (N,). Returns the sum of the
    losses.

    With `masked`, rows whose label is `ignored` have the weight 0."""
    cdef Work work
    cdef double total
    work.t, work.y, work.w, work.weight, work.upstream = NULL, &y[0], given(w), given(weight), given(upstream)
    work.loss, work.scale, work.failed = pointer(loss), scale, False
    with nogil:
        work.options = options(given(w), z.shape[1], s, gamma, s > 0)
        work.options.ignored, work.options.masked = ignored, masked
        total = share_rows(&work, z, dz, meeting_of(team))
    if work.failed:
        raise MemoryError()
    return total


def cross_entropy_soft(
    const real[:, ::1] z not None, const real[:, ::1] t not None, const real[::1] w not None,
    const double[::1] upstream not None, const double[::1] weight not None, real[::1] loss not None,
    real[:, ::1] dz not None, double scale, double s, double gamma, Team team=None,
):
    """The same for probabilities t, T_k = w_k ((1 - s) t_k + s / C); z, t, dz: (N, C), w: (C,), the others (N,)."""
    cdef Work work
    cdef double total
    work.t, work.y, work.w, work.weight, work.upstream = &t[0, 0], NULL, given(w), given(weight), given(upstream)
    work.loss, work.scale, work.failed = pointer(loss), scale, False
    with nogil:
        work.options = options(given(w), z.shape[1], s, gamma, True)
        total = share_rows(&work, z, dz, meeting_of(team))
    if work.failed:
        raise MemoryError()
    return total


# ---- labels of a batch: where the first wrong one stands, or -1; what they count -----------------------------------

cdef whole_clones count_outside(const int64_t* y, int64_t* found, Py_ssize_t n, int64_t classes) noexcept nogil:
    """Without an exit for the first, which would make it slower."""
    cdef int64_t total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += (y[i] < 0) | (y[i] >= classes)
    found[0] = total


cdef whole_clones count_label(const int64_t* y, int64_t* found, Py_ssize_t n, int64_t label) noexcept nogil:
    cdef int64_t total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += y[i] == label
    found[0] = total


cdef inline void count_wrong(
    const int64_t* y, Py_ssize_t n, int64_t classes, int64_t ignored, int64_t* wrong, int64_t* found,
) noexcept nogil:
    """Labels that are no classes, but for those ignored, and these."""
    cdef bint elsewhere = not 0 <= ignored < classes
    found[0] = 0
    count_outside(y, wrong, n, classes)
    if wrong[0] or not elsewhere:
        count_label(y, found, n, ignored)
        wrong[0] -= found[0] if elsewhere else 0


def first_outside_range(const int64_t[::1] y not None, Py_ssize_t classes, ignored=None):
    """The first i with y_i < 0 or y_i >= classes, and y_i other than `ignored`, else -1; y: (N,)."""
    cdef bint masked = ignored is not None
    cdef int64_t label = ignored if masked else 0, wrong, found
    cdef Py_ssize_t i
    with nogil:
        if masked:
            count_wrong(&y[0], y.shape[0], classes, label, &wrong, &found)
        else:
            count_outside(&y[0], &wrong, y.shape[0], classes)
    if wrong:
        for i in range(y.shape[0]):
            if (y[i] < 0 or y[i] >= classes) and not (masked and y[i] == label):
                return i
    return -1


cdef clones add_products(
    const double* products, const double* weight, double* high, double* low, Py_ssize_t rows,
) noexcept nogil:
    """Whole tiles, each row to a lane, times a weight if there is one; of many equal ones all roundings may be alike."""
    cdef double sums[ROWS]
    cdef double rests[ROWS]
    cdef Py_ssize_t i = 0, j
    for j in range(ROWS):
        sums[j], rests[j] = high[j], low[j]
    while i < rows:
        for j in range(ROWS):
            add(&sums[j], &rests[j], products[i + j] if weight == NULL else products[i + j] * weight[i + j])
        i += ROWS
    for j in range(ROWS):
        high[j], low[j] = sums[j], rests[j]


cdef enum:
    STRETCH = 1024   # labels and weights that stay in the nearest cache while they are looked at from all sides


cdef struct Survey:
    int64_t wrong, ignored   # labels
    double total             # of what the rows weigh, as `weigh` has it


cdef Survey survey(
    const int64_t* y, Py_ssize_t classes, const double* w, const double* weight, Py_ssize_t n, bint weighed, Options* o,
) noexcept nogil:
    """What has to be known of labels and weights before a batch is computed, in one pass, which wrong labels end, as they have no
    weights. Of `o` the ignored label is given, whether it occurs is found out, and between which bounds weights are."""
    cdef lined high[ROWS]
    cdef lined low[ROWS]
    cdef lined products[MANY_ROWS]
    cdef const double* of_rows
    cdef Limits limits
    cdef Survey all
    cdef int64_t ignored = 0
    cdef Py_ssize_t start = 0, end, i, j, rows
    all.wrong = all.ignored = 0
    no_limits(&limits)
    for j in range(ROWS):
        high[j] = low[j] = 0
    while start < n and all.wrong == 0:
        end = min(n, start + STRETCH)
        if y != NULL:
            count_wrong(y + start, end - start, classes, o.ignored, &all.wrong, &ignored)
        all.ignored += ignored
        o.masked = ignored > 0
        if weight != NULL:
            widen(&limits, weight + start, end - start)
        i = start
        while i < end and all.wrong == 0 and weighed:
            rows = min(<Py_ssize_t>MANY_ROWS, end - i)
            of_rows = NULL if weight == NULL else weight + i
            if w == NULL and not o.masked and rows % ROWS == 0:   # whole tiles of weights are read where they are
                add_products(of_rows, NULL, high, low, rows)
            elif w != NULL and rows % ROWS == 0:
                weigh(y + i, w, classes, NULL, products, NULL, rows, o)
                add_products(products, of_rows, high, low, rows)
            else:
                weigh(y + i, w, classes, of_rows, products, NULL, rows, o)
                add_products(products, NULL, high, low, rows)
            i += rows
        start = end
    o.masked = all.ignored > 0
    if weight != NULL:
        bounds_of(&limits, &o.of_rows)
    all.total = add_lanes(high, low) if weighed else n - all.ignored
    return all


def count_labels(
    const int64_t[::1] y not None, const double[::1] w not None, const double[::1] weight not None, int64_t ignored,
):
    """count = sum of weight_i w[y_i] over y_i other than `ignored`, and how many are; y, weight: (N,), w: (C,).

    Labels are checked before.
    """
    cdef bint classed = w.shape[0] > 0, weighed = weight.shape[0] > 0
    cdef Survey all
    cdef Options o
    with nogil:
        o.ignored = ignored
        all = survey(
            &y[0], w.shape[0] if classed else INT64_MAX, &w[0] if classed else NULL, &weight[0] if weighed else NULL,
            y.shape[0], classed or weighed, &o)
    return all.total, all.ignored


# ---- the door: see _doors.pxd --------------------------------------------------------------------------------------

cdef enum:
    NONE_IGNORED = -100   # by default


cdef inline bint are_plain(Bounds bounds) noexcept nogil:
    """Whether weights are far from overflow and underflow."""
    return bounds.least > 1e-90 and bounds.most < 1e90


cdef bint convert_weights(const Py_buffer* given, real* w, Py_ssize_t classes, bint scaled) noexcept nogil:
    """w = the weights of few classes, divided by the largest if `scaled`; whether all are plain numbers."""
    cdef double wide[FEW]
    cdef double largest = 0
    cdef bint plain
    cdef Py_ssize_t k
    for k in range(classes):
        wide[k] = (<float*>given.buf)[k] if given.itemsize == sizeof(float) else (<double*>given.buf)[k]
        largest = max(largest, wide[k])
    plain = are_plain(bounds_of_all(wide, classes))
    for k in range(classes):
        w[k] = wide[k] / largest if scaled and largest > 0 else wide[k]
        plain = plain and w[k] < INFINITY
    return plain


cdef clones seek_outside_unit(const real* t, int* wrong, Py_ssize_t n) noexcept nogil:
    """t - t^2 is from 0 to 1/4 for probabilities, and negative or NaN for all else: one of its first two bits is 1."""
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef real x
    cdef Py_ssize_t i
    for i in range(n):
        x = t[i] + <real>0   # as -0 is one
        if real is float:
            narrow |= minnet_bits_f32(x - x * x)
        else:
            wide |= minnet_bits_f64(x - x * x)
    wrong[0] = narrow >> 30 != 0 or wide >> 62 != 0


cdef double small_batch(
    const real* z, const Py_buffer* v, double s, double gamma, int64_t ignored, bint mean, double divisor, double factor,
) noexcept nogil:
    """The loss of a batch that is `fitting`, over `divisor` or what a mean divides by; -1 if targets or weights are wrong."""
    cdef Py_ssize_t n = v[0].shape[0], classes = v[0].shape[1]
    cdef bint soft = v[1].ndim == 2
    cdef const real* t = <real*>v[1].buf if soft else NULL
    cdef const int64_t* y = NULL if soft else <int64_t*>v[1].buf
    cdef const double* weight = <double*>v[4].buf
    cdef real room[FEW]
    cdef double laid[FEW + 4]
    cdef const real* w = NULL
    cdef bint classed   # whether the weight of its label is one of a row
    cdef double scale
    cdef int wrong = 0
    cdef Survey all
    cdef Options o
    if soft:
        seek_outside_unit(t, &wrong, n * classes)
    if wrong or soft and ignored != NONE_IGNORED:
        return -1
    if v[3].buf != NULL:
        if not convert_weights(&v[3], room, classes, mean and not soft):
            return -1
        w = room
        lay_out(w, laid, classes)
    classed = w != NULL and not soft
    o = options(w, classes, s, gamma, soft or s > 0)
    o.ignored = ignored
    all = survey(y, classes, laid if classed else NULL, weight, n, mean and (classed or weight != NULL), &o)
    if all.wrong or not are_plain(o.of_rows):
        return -1
    if v[6].buf != NULL:
        o.of_rows = bounds_of_pulls(weight, <double*>v[6].buf, n)
    divisor = all.total if mean else divisor
    scale = 1.0 / divisor if divisor > 0 else 0.0
    return scale * batch(
        z, t, y, w, weight, <double*>v[6].buf, <real*>NULL, <real*>v[5].buf, <real*>v[2].buf, n, classes, scale * factor, &o)


cdef bint is_vector(const Py_buffer* v, Py_ssize_t n, char kind, char other) noexcept:
    """Whether v is missing, or n numbers of one of two kinds."""
    return v.buf == NULL or (v.ndim == 1 and v.shape[0] == n and v.format[0] in (kind, other))


cdef bint fitting(const Py_buffer* v) noexcept:
    """Whether z, target, dz, w, weight, loss and upstream have the shapes and dtypes they should have, and dz is memory of its
    own."""
    cdef char kind = v[0].format[0]
    cdef Py_ssize_t i
    if v[0].ndim != 2 or kind not in (b"f", b"d") or v[2].buf != NULL and not alike(&v[0], &v[2]):
        return False
    for i in range(7):
        if i != 2 and not apart(&v[2], &v[i]):
            return False
    if v[0].shape[0] == 0 or not 0 < v[0].shape[1] <= FEW:
        return False
    if not (alike(&v[0], &v[1]) if v[1].ndim == 2 else v[1].ndim == 1 and labels_of(&v[1], v[0].shape[0])):
        return False
    return (
        is_vector(&v[3], v[0].shape[1], b"f", b"d") and is_vector(&v[4], v[0].shape[0], b"d", b"d")
        and is_vector(&v[5], v[0].shape[0], kind, kind) and is_vector(&v[6], v[0].shape[0], b"d", b"d"))


def cross_entropy_door(
    z not None, target not None, dz, w, weight, loss, upstream, str reduction not None, smoothing, gamma, ignored,
):
    """The reduced cross-entropy and its gradient dz, if all is small and plain; else None, and nothing is done.

    z: (N, C); target: labels (N,) or probabilities (N, C); dz: (N, C), w: (C,), weight, loss: (N,), or None; upstream: a number,
    or (N,) beside loss, or None. Options as in cross_entropy_index; for labels w is divided by its largest where `reduction` is
    "mean".
    """
    cdef Py_buffer v[7]
    cdef double s = 0, focus = 0, factor = 1, divisor, total = -1
    cdef int64_t left_out = 0
    cdef bint mean = reduction == "mean"
    cdef int held
    if not (is_plain(smoothing, 1, &s) and is_plain(gamma, most_gamma(), &focus) and is_whole(ignored, &left_out)):
        return None
    if is_factor(upstream, &factor):
        upstream = None
    if (factor != 1 and dz is None) or (upstream is not None and loss is None):
        return None
    held = enter_all((z, target, dz, w, weight, loss, upstream), v, DZ | LOSS)
    if held == 7 and fitting(v):
        divisor = divisor_of(reduction, v[0].shape[0], v[0].shape[0])
        with nogil:
            if divisor == 0:
                pass
            elif v[0].format[0] == b"f":
                total = small_batch(<float*>v[0].buf, v, s, focus, left_out, mean, divisor, factor)
            else:
                total = small_batch(<double*>v[0].buf, v, s, focus, left_out, mean, divisor, factor)
    leave(v, held)
    return None if total == -1 else total
