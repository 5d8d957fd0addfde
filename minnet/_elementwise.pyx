# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Losses of one element each: a value and a gradient from an output and its target. Letters and rules: _activations.pyx."""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from minnet cimport _math
from minnet._doors cimport (
    DZ, LOSS, acquire, alike, apart, divisor_of, enter_all, is_factor, is_plain, leave, most_gamma,
)
from minnet._math cimport inlined, real
from minnet._loops cimport clones, narrow_clones, pointer, whole_clones
from minnet._rows cimport add, minnet_prefetch
from minnet._team cimport PIECES, Meeting, Team, meeting_of, parts_of, piece_of, share_standing

cdef extern from "_simd.h":
    uint32_t minnet_bits_f32(float x) noexcept nogil
    uint64_t minnet_bits_f64(double x) noexcept nogil
    void minnet_keep(uint64_t x) noexcept nogil
    ctypedef double lined "MINNET_LINED double"

cdef enum:
    CHUNK = 256   # elements whose losses are held on the stack between two passes
    LINE = 64     # bytes of a line of the cache

WRAP = CHUNK      # how far a periodic array goes on behind its period, so that a chunk of it is always in one piece


# ---- value and gradient --------------------------------------------------------------------------------------------
# Each has a loop that gives loss and dx = factor d loss / d x of one chunk; `weigh` multiplies them by weights, and
# `add_up` or `add_weighed` adds losses to the total.

cdef enum:
    SUMS = 32     # accumulators, of which each takes four losses at a time

cdef clones add_up(const real* losses, double* sums, Py_ssize_t n) noexcept nogil:
    """sums += the sums of the losses, every SUMS-th in one."""
    cdef const real* l = losses
    cdef double first, second
    cdef Py_ssize_t block, i
    for block in range(n // (4 * SUMS)):
        for i in range(SUMS):
            first, second = l[i], l[2 * SUMS + i]
            sums[i] += (first + l[SUMS + i]) + (second + l[3 * SUMS + i])
        l += 4 * SUMS
    n %= 4 * SUMS
    for block in range(n // SUMS):
        for i in range(SUMS):
            sums[i] += l[i]
        l += SUMS
    for i in range(n % SUMS):
        sums[i] += l[i]


cdef inline inlined keep(double* sums, double* high, double* low) noexcept nogil:
    """high + low += sums, which become 0: of many equal losses all roundings may be alike."""
    cdef Py_ssize_t i
    for i in range(SUMS):
        add(&high[i], &low[i], sums[i])
        sums[i] = 0


cdef inline inlined halve(double* high, double* low, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(width):
        add(&high[i], &low[i], high[i + width])
        low[i] += low[i + width]


cdef inline inlined fold(double* high, double* low, double* total) noexcept nogil:
    """The sum of all. The widths are constants, so that each step is unrolled."""
    halve(high, low, 16)
    halve(high, low, 8)
    halve(high, low, 4)
    halve(high, low, 2)
    halve(high, low, 1)
    total[0] = high[0] + low[0] if low[0] == low[0] else high[0]   # of infinite losses nothing is rounded off


cdef clones settle(double* sums, double* high, double* low) noexcept nogil:
    keep(sums, high, low)


cdef clones finish(double* sums, double* high, double* low, double* total) noexcept nogil:
    keep(sums, high, low)
    fold(high, low, total)


# Weights are doubles, or light: of the dtype of the outputs, and moderate. A light weight times the factor is rounded to
# that dtype, as the factor is without weights: conversions of floats to double and back take three times as long as all
# else here. Sums are those of the same weights in double, but for binary cross-entropy (see `binary_sum`).

ctypedef fused heft:
    float
    double

cdef inline heft weighed(heft w, real value, heft factor) noexcept nogil:
    """A weight of 0 leaves out what is inf or NaN, too."""
    cdef heft product = value * (w * factor)
    return <heft>0 if w == 0 else product


cdef clones weigh(real* values, const heft* weight, Py_ssize_t n, double factor) noexcept nogil:
    cdef heft g = factor
    cdef Py_ssize_t i
    for i in range(n):
        values[i] = weighed(weight[i], values[i], g)


cdef clones add_weighed(const real* losses, const heft* weight, double* sums, Py_ssize_t n) noexcept nogil:
    """As `add_up`, with weights."""
    cdef const real* l = losses
    cdef const heft* w = weight
    cdef double first, second
    cdef Py_ssize_t block, i
    for block in range(n // (4 * SUMS)):
        for i in range(SUMS):
            first = weighed(<double>w[i], l[i], 1.0) + weighed(<double>w[SUMS + i], l[SUMS + i], 1.0)
            second = weighed(<double>w[2 * SUMS + i], l[2 * SUMS + i], 1.0)
            second += weighed(<double>w[3 * SUMS + i], l[3 * SUMS + i], 1.0)
            sums[i] += first + second
        l += 4 * SUMS
        w += 4 * SUMS
    for i in range(n % (4 * SUMS)):
        sums[i % SUMS] += weighed(<double>w[i], l[i], 1.0)


# Targets are looked at on the way. t - t^2 is 0 for labels and at most 1/4 between them; outside [0, 1] it is negative
# or NaN. So the bits of all of them say what there is: a sign, or an exponent of 2 or more, is that of a wrong target.

cdef enum:
    BETWEEN = 1   # a target is neither 0 nor 1
    OUTSIDE = 2   # a target is outside [0, 1], or NaN
    UNFIT = 4     # a weight is negative, inf or NaN

cdef inline inlined look_at(real t, real zero, uint32_t* narrow, uint64_t* wide) noexcept nogil:
    if real is float:   # + 0, as -0 has a sign
        narrow[0] |= minnet_bits_f32((t - t * t) + zero)
    else:
        wide[0] |= minnet_bits_f64((t - t * t) + zero)


cdef inline int found_in(uint32_t narrow, uint64_t wide) noexcept nogil:
    cdef uint64_t bits = wide | <uint64_t>narrow << 32
    return (BETWEEN if bits > 0 else 0) | (OUTSIDE if bits >> 62 > 0 else 0)


cdef inline inlined look_at_weight(real w, uint32_t* narrow, uint64_t* wide) noexcept nogil:
    """0 times a weight is +0; times anything else -0 or NaN."""
    if real is float:   # + 0, as -0 is a weight
        narrow[0] |= minnet_bits_f32((w + <real>0) * <real>0)
    else:
        wide[0] |= minnet_bits_f64((w + <real>0) * <real>0)


cdef clones look(const real* t, int* found, Py_ssize_t n) noexcept nogil:
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        look_at(t[i], <real>0, &narrow, &wide)
    found[0] = found_in(narrow, wide)


# a = |z|, e = exp(-a); `wrong` is the share of the target on the other side of 0 than z:
#     loss = t softplus(-z) + (1 - t) softplus(z) = wrong a + log(1 + e)        both terms >= 0
#     d loss / d z = sigmoid(z) - t = wrong - Q with the sign of z, Q = e / (1 + e); never sigmoid(z) - 1
# log(1 + e) = 2 atanh(s / 2), s = e / (1 + e / 2). e itself is over / under (_math.pxd), and never divided out.

# The work is done in loops of their own: a loop with a long chain of operations is bound by its length.

cdef inline inlined cut(const real* z, real* r, real* k, Py_ssize_t n) noexcept nogil:
    """-|z| = r + ln 2 times the whole number in k."""
    cdef real low = _math.low_bound(z[0])
    cdef Py_ssize_t i
    for i in range(n):
        _math.cut_exponent(_math.at_least(-_math.magnitude(z[i]), low), &r[i], &k[i])


cdef inline inlined quotients(
    const real* z, const real* t, const real* r, const real* k, real* Q, real* s, int* found, Py_ssize_t n, bint powers,
) noexcept nogil:
    """Q and s of what was cut; they may take its place. Errors that `powers` multiply are kept smaller.

    While the divider is at work, a look at the targets costs next to nothing. One at logits, unless z is NULL, costs little:
    beside inf or NaN a target counts as OUTSIDE.
    """
    cdef real over, under, rest
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        look_at(t[i], z[i] - z[i] if z != NULL else <real>0, &narrow, &wide)
        _math.exp_quotient(r[i], k[i], &over, &under, &rest)
        if powers:
            Q[i] = over / (under + (over + rest))
            s[i] = over / (under + (<real>0.5 * over + rest))
        else:
            Q[i] = over / (under + over)
            s[i] = over / (under + <real>0.5 * over)
    found[0] = found_in(narrow, wide)


cdef inline real wrong_share(real z, real t) noexcept nogil:
    """With the sign of z, as the gradient has it: 1 - t or -t."""
    return (<real>0.5 + _math.with_sign(<real>0.5, z)) - t


cdef inline inlined bce_terms(real z, real t, real Q, real s, real* loss, real* slope) noexcept nogil:
    cdef real wrong = wrong_share(z, t)
    cdef real paid = wrong * z
    loss[0] = (<real>0 if wrong == 0 else paid) + _math.double_atanh(s)
    slope[0] = wrong - _math.with_sign(Q, z)


cdef clones bce_with_logits_loop(
    const real* z, const real* t, const real* weight, real* loss, real* dz, int* found, Py_ssize_t n, double factor,
) noexcept nogil:
    cdef real Q[CHUNK]
    cdef real s[CHUNK]
    cdef real g = factor
    cdef real cost, slope, w
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    cut(z, Q, s, n)
    quotients(<const real*>NULL, t, Q, s, Q, s, found, n, False)
    if weight == NULL:
        for i in range(n):
            bce_terms(z[i], t[i], Q[i], s[i], &loss[i], &slope)
            dz[i] = g * slope
    else:
        for i in range(n):
            w = weight[i]
            if real is float:   # a look at signs; + 0, as -0 is a weight
                narrow |= minnet_bits_f32(w + <real>0)
            else:
                wide |= minnet_bits_f64(w + <real>0)
            bce_terms(z[i], t[i], Q[i], s[i], &cost, &slope)
            loss[i] = weighed(w, cost, <real>1)
            dz[i] = weighed(w, slope, g)
        if narrow >> 31 > 0 or wide >> 63 > 0:
            found[0] |= UNFIT


# With options the target is smoothed, t' = t (1 - s) + s / 2, and its two shares are weighed: yes = positive t' and
# no = negative (1 - t'). One is `right`, on the side of z, the other `wrong`.
# With L = log(1 + e), softplus(z) and softplus(-z) are a + L and L, in the order of wrong and right; Q is the smaller and
# P = 1 - Q the larger probability:
#     loss = wrong (a + L) + right L = wrong a + (wrong + right) L
#     d loss / d z = wrong P - right Q = wrong - (wrong + right) Q with the sign of z

cdef inline inlined shares_of(
    real z, real t, real positive, real negative, real keep, real lift, real* wrong, real* right,
) noexcept nogil:
    cdef real yes = positive * (t * keep + lift)
    cdef real no = negative * ((<real>1 - t) * keep + lift)
    wrong[0] = _math.chosen(z, no, yes)
    right[0] = _math.chosen(z, yes, no)


cdef inline inlined labelled_terms(
    const real* z, const real* t, const real* positive, const real* negative, const real* Q, const real* s, real* loss,
    real* dz, int* found, Py_ssize_t n, double factor, bint single,
) noexcept nogil:
    """Of labels one share is 0, and the other one is a weight of what `bce_terms` gives."""
    cdef real g = factor, yes = positive[0], no = negative[0]
    cdef real cost, slope, w
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        if not single:
            look_at_weight(positive[i], &narrow, &wide)
        w = _math.chosen(<real>0.5 - t[i], no if single else negative[i], yes if single else positive[i])
        bce_terms(z[i], t[i], Q[i], s[i], &cost, &slope)
        loss[i] = w * cost
        dz[i] = (w * g) * slope
    found[0] |= UNFIT if narrow != 0 or wide != 0 else 0


cdef inline inlined smoothed_terms(
    const real* z, const real* t, const real* Q, const real* s, real* loss, real* dz, Py_ssize_t n, double factor,
    double smoothing,
) noexcept nogil:
    """Without weights the shares add up to 1; `wrong` is smoothed with its sign."""
    cdef real g = factor, keep = 1 - smoothing, lift = smoothing / 2
    cdef real wrong
    cdef Py_ssize_t i
    for i in range(n):
        wrong = wrong_share(z[i], t[i]) * keep + _math.with_sign(lift, z[i])
        loss[i] = wrong * z[i] + _math.double_atanh(s[i])
        dz[i] = g * (wrong - _math.with_sign(Q[i], z[i]))


cdef inline inlined shared_terms(
    const real* z, const real* t, const real* positive, const real* negative, const real* Q, const real* s, real* loss,
    real* dz, int* found, Py_ssize_t n, double factor, double smoothing, bint single,
) noexcept nogil:
    cdef real g = factor, keep = 1 - smoothing, lift = smoothing / 2, yes = positive[0], no = negative[0]
    cdef real wrong, right, slope
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        if not single:
            look_at_weight(positive[i], &narrow, &wide)
        shares_of(
            z[i], t[i], yes if single else positive[i], no if single else negative[i], keep, lift, &wrong, &right)
        loss[i] = wrong * _math.magnitude(z[i]) + (wrong + right) * _math.double_atanh(s[i])
        slope = g * (wrong - (wrong + right) * Q[i])
        dz[i] = _math.flipped(slope, z[i])
    found[0] |= UNFIT if narrow != 0 or wide != 0 else 0


# Where positive and negative are single numbers, the commonest loops keep them in registers: arrays of them would take a fifth
# of the time of all else, and twice that where outputs and targets come from memory.

cdef clones weighted_bce_loop(
    const real* z, const real* t, const real* positive, const real* negative, real* loss, real* dz, int* found,
    Py_ssize_t n, double factor, double smoothing, bint weighted, bint single,
) noexcept nogil:
    cdef real Q[CHUNK]
    cdef real s[CHUNK]
    cut(z, Q, s, n)
    quotients(z, t, Q, s, Q, s, found, n, False)
    if not weighted:
        smoothed_terms(z, t, Q, s, loss, dz, n, factor, smoothing)
    elif smoothing == 0 and not found[0] & (BETWEEN | OUTSIDE):
        if single:
            labelled_terms(z, t, positive, negative, Q, s, loss, dz, found, n, factor, True)
        else:
            labelled_terms(z, t, positive, negative, Q, s, loss, dz, found, n, factor, False)
    elif single:
        shared_terms(z, t, positive, negative, Q, s, loss, dz, found, n, factor, smoothing, True)
    else:
        shared_terms(z, t, positive, negative, Q, s, loss, dz, found, n, factor, smoothing, False)


# Of an infinite logit a right share costs nothing, a wrong one inf, with the slope of its weight, whatever gamma is. A share
# of 0 costs 0, even of NaN. To ask each element would take three comparisons, where products are what loops wait for.

cdef void mend(
    const real* z, const real* t, const real* positive, const real* negative, real* loss, real* dz, Py_ssize_t n,
    double factor, double smoothing,
) noexcept nogil:
    """What loops with shares leave wrong: loss and slope of logits that are inf or NaN."""
    cdef real wrong, right, counted
    cdef Py_ssize_t i
    for i in range(n):
        if z[i] - z[i] != 0:
            shares_of(z[i], t[i], positive[i], negative[i], 1 - smoothing, smoothing / 2, &wrong, &right)
            counted = wrong if z[i] == z[i] else wrong + right
            loss[i] = _math.magnitude(z[i]) if counted > 0 else <real>0
            dz[i] = _math.with_sign(factor * wrong, z[i]) if z[i] == z[i] else loss[i]


# The focal loss multiplies each share by a power of the probability of the other answer: wrong by P^gamma and right by
# Q^gamma. Since dP / da = P Q,
#     loss = wrong P^gamma (a + L) + right Q^gamma L
#     d loss / d z = wrong P^gamma (P + gamma Q (a + L)) - right Q^gamma (Q + gamma P L) with the sign of z
# and no power below gamma is met: the slope is finite for gamma < 1, too.
#
# Some gammas, 2 by far the commonest, have powers that are products and roots. Else P^gamma = exp(-gamma L) and, with what
# -a was cut into, Q^gamma = 2^(gamma k) exp(gamma (r - L)). Beyond low_bound Q is 0, and 0 times it is 0, where 0 times inf
# is not.
#
# Where targets are labels, 0 or 1, one share is 0, and one power is enough. With x = z or -z, so that x > 0 is wrong:
#     loss = w s(x)^gamma (max(x, 0) + L)
#     d loss / d x = w s(x)^gamma (s(x) + gamma s(-x) (max(x, 0) + L)),   s(x) = P where x > 0, else Q

cdef inline inlined cut_power(real k, real v, double gamma, real* f, real* scale) noexcept nogil:
    """2^(gamma k) exp(gamma v) = scale 2^f unshift for whole k <= 0 and v <= 0.35.

    gamma k can be so large that its rounding error would cost many ulp. So it is never rounded: gamma is cut in halves, and
    the first times k, which has few digits, is exact, and so is its difference to the whole part. gamma log2(e) comes in
    halves, too. No product serves two sums: gcc would fuse it in vectors and not in the scalars of the tail.
    """
    cdef real LOG2E = 1.4426950408889634
    cdef real LOG2E_HEAD = 1.4423828125 if real is float else 1.4426950216293335
    cdef real LOG2E_REST = 3.122283889634e-04 if real is float else 1.9259629911266175e-08
    cdef real SHIFTED = 12583103.0 if real is float else 6755399441057279.0
    cdef real g = gamma
    cdef real g1 = _math.head(g)
    cdef real g2 = gamma - g1
    cdef real h1 = _math.head(g * LOG2E)
    cdef real h2 = (g1 * LOG2E_HEAD - h1) + (g1 * LOG2E_REST + g2 * LOG2E)
    cdef real x = g * k + (h1 + h2) * v
    cdef real t = x + SHIFTED
    cdef real part = h1 * v + (h2 * v + ((g1 * k - (t - SHIFTED)) + g2 * k))
    f[0] = <real>0 if x < _math.lowest(x) * LOG2E else part
    scale[0] = <real>0 if x < _math.lowest(x) * LOG2E else _math.pow2(t)


cdef inline inlined raise_all(const real* f, real* power, Py_ssize_t n) noexcept nogil:
    """Powers, whose scales they take the place of."""
    cdef Py_ssize_t i
    for i in range(n):
        power[i] = _math.exp2_shifted(f[i]) * power[i]


cdef inline inlined label_powers(
    const real* z, const real* t, const real* r, const real* k, const real* L, real* power, real* f, Py_ssize_t n,
    double gamma,
) noexcept nogil:
    """The power of the probability of the other answer than t, which is a label; f is room."""
    cdef real SHIFTED = _math.plain_rounder(<real>0)
    cdef real x
    cdef Py_ssize_t i
    for i in range(n):
        x = _math.flipped(z[i], <real>0.5 - t[i])
        cut_power(
            _math.chosen(x, <real>0, k[i] - SHIFTED), _math.chosen(x, <real>0, r[i]) - L[i], gamma, &f[i], &power[i])
    raise_all(<const real*>f, power, n)


cdef inline inlined both_powers(
    real* r, const real* k, const real* L, real* P_power, real* Q_power, Py_ssize_t n, double gamma,
) noexcept nogil:
    """r is room when it has been read."""
    cdef real SHIFTED = _math.plain_rounder(<real>0)
    cdef Py_ssize_t i
    for i in range(n):
        cut_power(k[i] - SHIFTED, r[i] - L[i], gamma, &r[i], &Q_power[i])
    raise_all(<const real*>r, Q_power, n)
    for i in range(n):
        cut_power(<real>0, -L[i], gamma, &r[i], &P_power[i])
    raise_all(<const real*>r, P_power, n)


cdef inline inlined whole_powers(const real* Q, real* P_power, real* Q_power, Py_ssize_t n, double gamma) noexcept nogil:
    """The same for gamma = 1 or 3: too rare for terms of their own."""
    cdef Py_ssize_t i
    for i in range(n):
        _math.root_power(<real>1 - Q[i], gamma, False, &P_power[i])
        _math.root_power(Q[i], gamma, False, &Q_power[i])


cdef enum Way:   # to a power, a constant to the loops
    SQUARE
    WHOLE
    ROOTED
    GIVEN        # in an array

cdef inline inlined power_by(Way way, real u, const real* given, double gamma, real* power) noexcept nogil:
    if way == GIVEN:
        power[0] = given[0]
    elif way == SQUARE:
        power[0] = u * u
    else:
        _math.root_power(u, gamma, way == ROOTED, power)


cdef inline inlined label_terms(
    const real* z, const real* t, const real* positive, const real* negative, const real* Q, const real* L,
    const real* power, real* loss, real* dz, int* found, Py_ssize_t n, double factor, double gamma, Way way, bint weighted,
) noexcept nogil:
    """`weighted` is a constant to the caller, too."""
    cdef real g = gamma, to_dz = factor
    cdef real side, x, P, own, other, cost, weight
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        if weighted:
            look_at_weight(positive[i], &narrow, &wide)
        side = <real>0.5 - t[i]
        x = _math.flipped(z[i], side)
        P = <real>1 - Q[i]
        own, other = _math.chosen(x, P, Q[i]), _math.chosen(x, Q[i], P)
        cost = _math.chosen(x, x, <real>0) + L[i]
        power_by(way, own, &power[i], gamma, &weight)
        if weighted:
            weight *= _math.chosen(side, negative[i], positive[i])
        loss[i] = weight * cost
        dz[i] = _math.flipped(to_dz * (weight * (own + g * (other * cost))), side)
    found[0] |= UNFIT if narrow != 0 or wide != 0 else 0


cdef inline inlined share_terms(
    const real* z, const real* t, const real* positive, const real* negative, const real* Q, const real* L,
    const real* P_powers, const real* Q_powers, real* loss, real* dz, int* found, Py_ssize_t n, double factor,
    double smoothing, double gamma, Way way, bint single,
) noexcept nogil:
    """The same for any targets."""
    cdef real g = gamma, to_dz = factor, keep = 1 - smoothing, lift = smoothing / 2, yes = positive[0], no = negative[0]
    cdef real wrong, right, P_power, Q_power, P, cost, slope
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        if not single:
            look_at_weight(positive[i], &narrow, &wide)
        shares_of(
            z[i], t[i], yes if single else positive[i], no if single else negative[i], keep, lift, &wrong, &right)
        P = <real>1 - Q[i]
        power_by(way, P, &P_powers[i], gamma, &P_power)
        power_by(way, Q[i], &Q_powers[i], gamma, &Q_power)
        wrong *= P_power
        right *= Q_power
        cost = _math.magnitude(z[i]) + L[i]
        loss[i] = wrong * cost + right * L[i]
        slope = to_dz * (wrong * (P + g * (Q[i] * cost)) - right * (Q[i] + g * (P * L[i])))
        dz[i] = _math.flipped(slope, z[i])
    found[0] |= UNFIT if narrow != 0 or wide != 0 else 0


cdef inline inlined label_terms_of(
    const real* z, const real* t, const real* positive, const real* negative, const real* Q, const real* L,
    const real* power, real* loss, real* dz, int* found, Py_ssize_t n, double factor, double gamma, Way way, bint weighted,
) noexcept nogil:
    if weighted:
        label_terms(z, t, positive, negative, Q, L, power, loss, dz, found, n, factor, gamma, way, True)
    else:
        label_terms(z, t, positive, negative, Q, L, power, loss, dz, found, n, factor, gamma, way, False)


cdef clones focal_bce_loop(
    const real* z, const real* t, const real* positive, const real* negative, real* loss, real* dz, int* found,
    Py_ssize_t n, double factor, double smoothing, double gamma, bint weighted, bint single,
) noexcept nogil:
    cdef real r[CHUNK]
    cdef real k[CHUNK]
    cdef real Q[CHUNK]
    cdef real L[CHUNK]
    cdef real P_power[CHUNK]
    cdef real Q_power[CHUNK]
    cdef Py_ssize_t i
    cut(z, r, k, n)
    quotients(z, t, r, k, Q, L, found, n, True)
    for i in range(n):
        L[i] = _math.double_atanh(L[i])
    if smoothing == 0 and not found[0] & (BETWEEN | OUTSIDE):
        if gamma == 2:
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, found, n, factor, gamma, SQUARE, weighted)
        elif _math.is_rooted(gamma):
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, found, n, factor, gamma, ROOTED, weighted)
        elif _math.has_roots(gamma):
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, found, n, factor, gamma, WHOLE, weighted)
        else:
            label_powers(z, t, r, k, L, P_power, Q_power, n, gamma)
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, found, n, factor, gamma, GIVEN, weighted)
        return
    if gamma == 2 and single:
        share_terms(
            z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, found, n, factor, smoothing, gamma, SQUARE, True)
    elif gamma == 2:
        share_terms(
            z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, found, n, factor, smoothing, gamma, SQUARE, False)
    elif _math.is_rooted(gamma):
        share_terms(
            z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, found, n, factor, smoothing, gamma, ROOTED, False)
    else:
        if _math.has_roots(gamma):
            whole_powers(Q, P_power, Q_power, n, gamma)
        else:
            both_powers(r, k, L, P_power, Q_power, n, gamma)
        share_terms(
            z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, found, n, factor, smoothing, gamma, GIVEN, False)


# Other losses of logarithms and exponentials are computed in double throughout, in loops that come before the last one
# for the same reason.

cdef inline inlined logarithms(const real* u, double* L, Py_ssize_t n) noexcept nogil:
    cdef double v
    cdef Py_ssize_t i
    for i in range(n):
        v = u[i]
        L[i] = _math.log(v)


# From probabilities p, as they are: a certain wrong answer costs inf. A share of 0 adds 0.
#     loss = -t log(p) - (1 - t) log(1 - p),   d loss / d p = (p - t) / (p (1 - p)), or the limit where p is 0 or 1
# With q = 1 - p rounded, log(1 - p) is log(q) and, first order in it, what rounding took: ((1 - q) - p) / q.

cdef clones bce_loop(
    const real* p, const real* t, const real* element_weight, real* loss, real* dp, Py_ssize_t n, double factor,
) noexcept nogil:
    cdef double L[CHUNK]
    cdef double M[CHUNK]
    cdef double w, x, q, yes, no, cost, slope
    cdef Py_ssize_t i
    logarithms(p, L, n)
    for i in range(n):
        q = 1.0 - p[i]
        M[i] = _math.log(q)
    for i in range(n):
        w, x, yes, no = element_weight[i], p[i], t[i], 1.0 - t[i]
        q = 1.0 - x
        slope = (no / q if no > 0 else 0.0) - (yes / x if yes > 0 else 0.0)
        slope = (x - yes) / (x * q) if x * q > 0 else slope
        cost = M[i] + (((1.0 - q) - x) / q if q > 0 else 0.0)
        cost = (no * cost if no > 0 else 0.0) + (yes * L[i] if yes > 0 else 0.0)
        loss[i] = 0.0 - w * cost if w > 0 else 0.0
        dp[i] = factor * (w * slope) if w > 0 else 0.0


# Kullback-Leibler divergence of q from p, term by term: the target is p, or log(p). A share p of 0 adds 0.
#     loss = p (log(p) - log(q)),   d loss / d log(q) = -p

cdef clones kl_loop(
    const real* log_q, const real* t, real* loss, real* dx, Py_ssize_t n, double factor, bint log_target,
) noexcept nogil:
    cdef double p[CHUNK]
    cdef double L[CHUNK]
    cdef double cost
    cdef Py_ssize_t i
    if log_target:
        for i in range(n):
            L[i] = t[i]
            p[i] = _math.exp(L[i])
    else:
        logarithms(t, L, n)
        for i in range(n):
            p[i] = t[i]
    for i in range(n):
        cost = p[i] * (L[i] - log_q[i])
        cost = cost if log_q[i] == log_q[i] else <double>NAN
        loss[i] = cost if p[i] > 0 or log_q[i] != log_q[i] else 0.0
        dx[i] = 0.0 - factor * p[i]


# ---- regression, where x is a prediction ---------------------------------------------------------------------------

cdef clones squared_error_loop(
    const real* x, const real* t, real* loss, real* dx, Py_ssize_t n, double factor,
) noexcept nogil:
    cdef real g = factor
    cdef real error
    cdef Py_ssize_t i
    for i in range(n):
        error = x[i] - t[i]
        loss[i] = error * error
        dx[i] = g * (error + error)


cdef clones absolute_error_loop(
    const real* x, const real* t, real* loss, real* dx, Py_ssize_t n, double factor,
) noexcept nogil:
    """At 0 the slope is 0, the middle of the subgradients; NaN stays NaN."""
    cdef real g = factor
    cdef real error, slope
    cdef Py_ssize_t i
    for i in range(n):
        error = x[i] - t[i]
        slope = <real>1 if error > 0 else error
        loss[i] = _math.magnitude(error)
        dx[i] = g * (<real>-1 if error < 0 else slope)


# With c the error, cut off at +-delta, both pieces of Huber's loss, error^2 / 2 and delta (|error| - delta / 2), are
#     loss = c (error - c / 2),   d loss / d x = c

cdef clones huber_loop(
    const real* x, const real* t, real* loss, real* dx, Py_ssize_t n, double factor, double threshold,
) noexcept nogil:
    cdef real g = factor
    cdef real delta = threshold
    cdef real error, c
    cdef Py_ssize_t i
    for i in range(n):
        error = x[i] - t[i]
        c = delta if delta < error else error
        c = -delta if -delta > c else c
        loss[i] = c * (error - <real>0.5 * c)
        dx[i] = g * c


# -log of a normal density with mean x and variance v = max(var, eps), without its constant log(2 pi) / 2 unless `full`:
#     loss = (log(v) + (x - t)^2 / v) / 2,   d loss / d x = (x - t) / v

cdef clones gaussian_loop(
    const real* x, const real* t, const real* var, real* loss, real* dx, Py_ssize_t n, double factor, double eps,
    bint full,
) noexcept nogil:
    cdef double L[CHUNK]
    cdef double v[CHUNK]
    cdef double LOG_2PI = 1.8378770664093453
    cdef double constant = LOG_2PI / 2 if full else 0.0
    cdef double error
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = eps if eps > var[i] else var[i]
    logarithms(v, L, n)
    for i in range(n):
        error = <double>x[i] - t[i]
        loss[i] = (L[i] + error * (error / v[i])) / 2 + constant
        dx[i] = factor * (error / v[i])


# -log of the probability of a count t at a rate r = exp(x), or x itself, which eps keeps from 0 in the logarithm.
# Without log(t!), a constant, which `full` adds by Stirling's formula. A count of 0 adds no logarithm.
#     loss = r - t log(r),   d loss / d x = exp(x) - t, or 1 - t / (x + eps)

# Without the widest level: 5 kB less of wheel, for a quarter more time in the cache.

cdef narrow_clones poisson_loop(
    const real* x, const real* t, real* loss, real* dx, Py_ssize_t n, double factor, double eps, bint log_input,
    bint full,
) noexcept nogil:
    cdef double r[CHUNK]
    cdef double L[CHUNK]
    cdef double K[CHUNK]
    cdef double LOG_2PI = 1.8378770664093453
    cdef double cost
    cdef Py_ssize_t i
    for i in range(n):
        r[i] = x[i]
    if log_input:
        for i in range(n):
            L[i] = r[i]
            r[i] = _math.exp_any(L[i])
            dx[i] = factor * (r[i] - t[i])
    else:
        for i in range(n):
            K[i] = r[i] + eps
            cost = 1.0 - t[i] / K[i]
            dx[i] = factor * (cost if t[i] > 0 else 1.0)
        logarithms(K, L, n)
    if full:
        logarithms(t, K, n)
        for i in range(n):
            cost = t[i] * K[i] - t[i] + (LOG_2PI + K[i]) / 2
            K[i] = cost if t[i] > 1 else 0.0
    else:
        for i in range(n):
            K[i] = 0
    for i in range(n):
        cost = r[i] - (t[i] * L[i] if t[i] > 0 else 0.0)
        loss[i] = K[i] + (<double>INFINITY if r[i] == INFINITY else cost)


cdef clones seek_unfit(const real* w, int* wrong, Py_ssize_t n) noexcept nogil:
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        look_at_weight(w[i], &narrow, &wide)
    wrong[0] = UNFIT if narrow != 0 or wide != 0 else 0


# ---- all of them, chunk by chunk -----------------------------------------------------------------------------------

cdef void chunk_of(
    Kind kind, const real* x, const real* t, const real* a, real* loss, real* dx, Py_ssize_t n, double factor, Settings* s,
) noexcept nogil:
    if kind == BCE:
        bce_loop(x, t, a, loss, dx, n, factor)
    elif kind == KL:
        kl_loop(x, t, loss, dx, n, factor, s.is_log)
    elif kind == SQUARED_ERROR:
        squared_error_loop(x, t, loss, dx, n, factor)
    elif kind == ABSOLUTE_ERROR:
        absolute_error_loop(x, t, loss, dx, n, factor)
    elif kind == HUBER:
        huber_loop(x, t, loss, dx, n, factor, s.amount)
    elif kind == GAUSSIAN:
        gaussian_loop(x, t, a, loss, dx, n, factor, s.amount, s.full)
    else:
        poisson_loop(x, t, loss, dx, n, factor, s.amount, s.is_log, s.full)


cdef inline void count(
    const heft* weight, real* losses, real* slopes, double* sums, Py_ssize_t n, double scale, bint loss, bint dx,
) noexcept nogil:
    """Add the weighed losses to the sums; weigh what is wanted."""
    add_weighed(<const real*>losses, weight, sums, n)
    if dx:
        weigh(slopes, weight, n, scale)
    if loss:
        weigh(losses, weight, n, 1.0)


cdef double stretch(
    Kind kind, const real* x, const real* t, const real* a, const real* light, const double* weight, real* loss, real* dx,
    Py_ssize_t start, Py_ssize_t end, double scale, Settings* s,
) noexcept nogil:
    """The sum of the losses from start to end.

    Where loss and dx are wanted, they are written there at once, and weighed in place: arithmetic hides what it costs
    to write to memory.
    """
    cdef real loss_room[CHUNK + LINE]
    cdef real chunk_dx[CHUNK]
    cdef double sum_room[SUMS + LINE]
    cdef double high[SUMS]
    cdef double low[SUMS]
    cdef double total
    cdef real* chunk_loss = <real*>((<size_t>&loss_room[0] + LINE - 1) // LINE * LINE)
    cdef double* sums = <double*>((<size_t>&sum_room[0] + LINE - 1) // LINE * LINE)
    cdef real* losses
    cdef real* slopes
    cdef Py_ssize_t i, size
    for i in range(SUMS):
        sums[i] = high[i] = low[i] = 0
    i = start
    while i < end:
        size = min(<Py_ssize_t>CHUNK, end - i)
        losses = chunk_loss if loss == NULL else loss + i
        slopes = &chunk_dx[0] if dx == NULL else dx + i
        chunk_of(
            kind, x + i, t + i, a + (i % s.period if s.period > 0 else 0), losses, slopes, size,
            scale if light == NULL and weight == NULL else 1.0, s)
        if light != NULL:
            count(light + i, losses, slopes, sums, size, scale, loss != NULL, dx != NULL)
        elif weight != NULL:
            count(weight + i, losses, slopes, sums, size, scale, loss != NULL, dx != NULL)
        else:
            add_up(<const real*>losses, sums, size)
        i += size
        if real is double and i % (4 * CHUNK) == 0:   # floats leave a double 29 digits to spare
            settle(sums, high, low)
    finish(sums, high, low, &total)
    return total


# ---- binary losses of logits ---------------------------------------------------------------------------------------
# Weights and gradients from above are read where they stand, chunk by chunk, in their dtype: copies of them would cost more
# than all else. Those of a loss are multiplied into its shares of the target, but where that could lose digits of floats: then
# losses and slopes are multiplied by them in the end, in double.

cdef enum:
    SPAN = 8      # elements that are stored at once, maybe too many, which the next come over
    LEAD = 16     # room before the first, which begins at a line of the cache

cdef Binary no_options() noexcept nogil:
    cdef Binary b
    memset(&b, 0, sizeof(b))
    b.yes = b.no = 1
    return b


cdef void come(const double* x, Py_ssize_t n) noexcept nogil:
    """Read a number of each line. Loads from memory between stores wait for these, which takes twice as long as all else."""
    cdef uint64_t bits = 0
    cdef Py_ssize_t i = 0
    while i < n:
        bits += minnet_bits_f64(x[i])
        i += <Py_ssize_t>(LINE // sizeof(double))
    minnet_keep(bits)


cdef clones narrow(const double* x, float* y, Py_ssize_t n) noexcept nogil:
    """Weights in float; a negative one, however small, stays so."""
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = <double>-1 if x[i] < 0 else x[i]


cdef whole_clones widen(const float* x, double* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = x[i]


cdef inline inlined store_span(real w, real* y) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(SPAN):
        y[i] = w


cdef whole_clones repeat(const real* x, real* y, Py_ssize_t each, Py_ssize_t skipped, Py_ssize_t n) noexcept nogil:
    """y_i = x[(i + skipped) / each], and up to SPAN more on both sides."""
    cdef Py_ssize_t row = 0, start = -skipped, end = each - skipped, i
    if each <= SPAN:
        while start < n:
            store_span(x[row], y + start)
            start, row = start + each, row + 1
        return
    start = 0
    while start < n:
        i, end = start, min(end, n)
        while i < end:
            store_span(x[row], y + i)
            i += SPAN
        start, end, row = end, end + each, row + 1


cdef inline void take(const Source* s, Py_ssize_t first, heft* to, Py_ssize_t n) noexcept nogil:
    """n numbers from the first on, all of which stand in order."""
    if s.wide and heft is float:
        come(<const double*>s.of + first, n)
        narrow(<const double*>s.of + first, <float*>to, n)
    elif heft is double and not s.wide:
        widen(<const float*>s.of + first, <double*>to, n)
    else:
        memcpy(to, <const heft*>s.of + first, n * sizeof(heft))


cdef inline const heft* in_order(const Source* s, Py_ssize_t first, Py_ssize_t n, heft* room) noexcept nogil:
    """n numbers from the first on: where they stand, if all do so in that dtype, or else in `room`."""
    cdef Py_ssize_t run = min(n, s.stand - first), period = min(n - run, s.size)
    if run == n and s.wide == (sizeof(heft) == sizeof(double)):
        return <const heft*>s.of + first
    take(s, first, room, run)
    take(s, 0, room + run, period)
    while run + period < n:   # once more all that has been repeated
        memcpy(room + run + period, room + run, min(period, n - run - period) * sizeof(heft))
        period *= 2
    return room


cdef const heft* laid(const Source* s, Py_ssize_t start, Py_ssize_t n, heft* room) noexcept nogil:
    """The numbers of n elements, `in_order`, but each as often as it counts; in the middle of a room."""
    cdef heft numbers[CHUNK]
    if s.each == 1:
        return in_order(s, start % s.size, n, room + LEAD)
    repeat(
        in_order(s, start // s.each % s.size, (start % s.each + n - 1) // s.each + 1, <heft*>numbers), room + LEAD, s.each,
        start % s.each, n)
    return room + LEAD


cdef void unroll(Source* s, Py_ssize_t n, heft* room) noexcept nogil:
    """Let numbers of few classes stand in order for any chunk of n elements."""
    if s.of != NULL and s.each == 1 and s.size < min(n, <Py_ssize_t>CHUNK):
        in_order(s, 0, CHUNK + s.size, room)
        s.of, s.wide, s.stand = room, sizeof(heft) == sizeof(double), CHUNK + s.size


cdef clones multiply(const real* weight, const real* rows, real* products, int* found, Py_ssize_t n) noexcept nogil:
    """Products with weights of rows, which have been looked at."""
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        look_at_weight(weight[i], &narrow, &wide)
        products[i] = weight[i] * rows[i]
    found[0] |= UNFIT if narrow != 0 or wide != 0 else 0


cdef clones share_products(
    const real* common, const real* positive, double yes, double no, real* to_yes, real* to_no, int* found, Py_ssize_t n,
) noexcept nogil:
    cdef real for_yes = yes, for_no = no
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):
        look_at_weight(common[i], &narrow, &wide)
        look_at_weight(positive[i], &narrow, &wide)
        to_no[i] = for_no * common[i]
        to_yes[i] = for_yes * common[i] * positive[i]
    found[0] |= UNFIT if narrow != 0 or wide != 0 else 0


cdef enum:
    ROOM = LEAD + CHUNK + SPAN

cdef struct Rooms:   # for a chunk, of real or double
    lined yes[ROOM]
    lined no[ROOM]
    lined first[ROOM]
    lined second[ROOM]
    lined third[ROOM]
    lined ones[CHUNK]


cdef const heft* weights_of(
    const Binary* b, Py_ssize_t start, Py_ssize_t n, heft* first, heft* second, heft* third, int* found,
) noexcept nogil:
    """Those of elements times those of their rows, of which there is one at least."""
    if b.weight.of == NULL or b.rows.of == NULL:
        return laid(&b.weight if b.rows.of == NULL else &b.rows, start, n, first)
    multiply(laid(&b.weight, start, n, first), laid(&b.rows, start, n, second), third, found, n)
    return third


cdef inline bint is_alone(const Binary* b) noexcept nogil:
    """Whether the terms of an element are multiplied by one array at most, and by no number."""
    cdef int arrays = (b.positive.of != NULL) + (0 if b.apart else (b.weight.of != NULL) + (b.rows.of != NULL))
    return b.yes == b.no == 1 and arrays < 2


cdef void weigh_terms(
    const Binary* b, Py_ssize_t start, Py_ssize_t n, Rooms* room, const real** yes, const real** no, int* found,
) noexcept nogil:
    """What multiplies the terms of t and of 1 - t, in a chunk where they are not just numbers. `no` is left as it is, where it
    is a number; `found` tells what is UNFIT, but in an array alone, which loops look at."""
    cdef bint counted = not b.apart and (b.weight.of != NULL or b.rows.of != NULL)
    cdef const real* common = <real*>room.ones
    cdef const real* positive = <real*>room.ones
    cdef Py_ssize_t i
    if counted:
        common = weights_of(b, start, n, <real*>room.first, <real*>room.second, <real*>room.third, found)
    if b.positive.of != NULL:
        positive = laid(&b.positive, start, n, <real*>room.second)
    if is_alone(b):
        yes[0] = common if counted else positive
        no[0] = common if counted else no[0]
    elif b.positive.of == NULL and b.yes == b.no == 1:
        yes[0] = no[0] = common
    else:
        for i in range(0 if counted and b.positive.of != NULL else n):
            (<real*>room.ones)[i] = 1
        share_products(common, positive, b.yes, b.no, <real*>room.yes, <real*>room.no, found, n)
        yes[0], no[0] = <real*>room.yes, <real*>room.no


cdef inline bint is_plain_loss(const Binary* b) noexcept nogil:
    """Whether all terms of an element weigh the same, and there are no other options."""
    return b.positive.of == NULL and b.yes == b.no and b.smoothing == 0 and b.gamma == 0


cdef void binary_chunk(
    const Binary* b, const real* z, const real* t, const real* yes, const real* no, real* loss, real* dz, int* found,
    Py_ssize_t n, double factor, bint single,
) noexcept nogil:
    """Where yes and no are `single` numbers, all of each are alike. Arrays of them are looked at."""
    cdef bint weighted = not single or b.yes != 1 or b.no != 1
    cdef int unfit
    if is_plain_loss(b):
        bce_with_logits_loop(z, t, yes if weighted else NULL, loss, dz, found, n, factor)
        return
    if b.gamma > 0:
        focal_bce_loop(z, t, yes, no, loss, dz, found, n, factor, b.smoothing, b.gamma, weighted, single)
    else:
        weighted_bce_loop(z, t, yes, no, loss, dz, found, n, factor, b.smoothing, weighted, single)
    if found[0] & OUTSIDE:
        unfit = found[0] & UNFIT
        look(t, found, n)
        found[0] |= unfit
        mend(z, t, yes, no, loss, dz, n, factor, b.smoothing)


cdef clones pull(real* slopes, const heft* upstream, Py_ssize_t n) noexcept nogil:
    """slopes *= upstream; nothing that an upstream gradient holds makes anything of a slope of 0, and the other way round."""
    cdef heft zero = 0
    cdef Py_ssize_t i
    for i in range(n):
        slopes[i] = zero if (slopes[i] == 0) | (upstream[i] == 0) else slopes[i] * upstream[i]


cdef void pull_chunk(const Source* upstream, Py_ssize_t start, real* slopes, Rooms* room, Py_ssize_t n) noexcept nogil:
    """Floats beside floats stay so."""
    if real is double:
        pull(slopes, laid(upstream, start, n, &room.first[0]), n)
    elif upstream.wide:
        pull(slopes, laid(upstream, start, n, &room.first[0]), n)
    else:
        pull(slopes, laid(upstream, start, n, <float*>room.first), n)


cdef double binary_stretch(
    const Binary* b, const real* z, const real* t, real* loss, real* dz, Py_ssize_t start, Py_ssize_t end, double scale,
) noexcept nogil:
    """As `stretch`; NaN where a target or a weight is wrong."""
    cdef lined losses_room[CHUNK]
    cdef lined slopes_room[CHUNK]
    cdef lined yes_room[CHUNK]
    cdef lined no_room[CHUNK]
    cdef lined unrolled[4 * CHUNK]
    cdef lined sums[SUMS]
    cdef double high[SUMS]
    cdef double low[SUMS]
    cdef Rooms rooms
    cdef const real* yes = <real*>yes_room
    cdef const real* no = <real*>no_room
    cdef real* losses
    cdef real* slopes
    cdef const double* weights
    cdef double total
    cdef bint counted = b.weight.of != NULL or b.rows.of != NULL
    cdef bint single = not (counted and not b.apart or b.positive.of != NULL)
    cdef Binary own = b[0]
    cdef int found = 0, all_found = 0
    cdef Py_ssize_t i, size
    for i in range(SUMS):
        sums[i] = high[i] = low[i] = 0
    for i in range(0 if is_plain_loss(b) and b.yes == 1 else min(<Py_ssize_t>CHUNK, end - start)):
        (<real*>yes_room)[i], (<real*>no_room)[i] = b.yes, b.no
    unroll(&own.weight, end - start, <real*>unrolled)
    unroll(&own.positive, end - start, <real*>unrolled + 2 * CHUNK)
    i = start
    while i < end:
        size = min(<Py_ssize_t>CHUNK, end - i)
        losses = <real*>losses_room if loss == NULL else loss + i
        slopes = <real*>slopes_room if dz == NULL else dz + i
        if not single:
            weigh_terms(&own, i, size, &rooms, &yes, &no, &all_found)
        binary_chunk(
            b, z + i, t + i, yes, no, losses, slopes, &found, size, 1.0 if counted and b.apart else scale, single)
        all_found |= found
        if counted and b.apart:
            weights = weights_of(&own, i, size, &rooms.first[0], &rooms.second[0], &rooms.third[0], &all_found)
            seek_unfit(weights, &found, size)
            all_found |= found
            count(weights, losses, slopes, sums, size, scale, loss != NULL, dz != NULL)
        else:
            add_up(<const real*>losses, sums, size)
        if b.upstream.of != NULL:
            pull_chunk(&b.upstream, i, slopes, &rooms, size)
        i += size
        if real is double and i % (4 * CHUNK) == 0:   # floats leave a double 29 digits to spare
            settle(sums, high, low)
    finish(sums, high, low, &total)
    return <double>NAN if all_found & (OUTSIDE | UNFIT) else total


cdef struct Work:    # what is void is float or double
    Kind kind
    const void* x
    const void* t
    const void* a
    const void* light
    const double* weight
    void* loss
    void* dx
    bint doubles
    Py_ssize_t n
    double scale
    Settings* settings
    double total[PIECES]   # of each part


cdef double lose(const Work* w, const real* x, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    if w.kind == BCE_WITH_LOGITS:
        return binary_stretch(
            w.settings.binary, x, <const real*>w.t, <real*>w.loss, <real*>w.dx, start, end, w.scale)
    return stretch(
        w.kind, x, <const real*>w.t, <const real*>w.a, <const real*>w.light, w.weight, <real*>w.loss, <real*>w.dx, start, end,
        w.scale, w.settings)


cdef void do_part(void* argument, Py_ssize_t part) noexcept nogil:
    cdef Work* w = <Work*>argument
    cdef Py_ssize_t piece = piece_of(w.n)
    cdef Py_ssize_t start = part * piece
    cdef Py_ssize_t end = min(start + piece, w.n)
    if w.doubles:
        w.total[part] = lose(w, <const double*>w.x, start, end)
    else:
        w.total[part] = lose(w, <const float*>w.x, start, end)


cdef double elementwise(
    Kind kind, const real* x, const real* t, const real* a, const real* light, const double* weight, real* loss, real* dx,
    Py_ssize_t n, double scale, Settings* s, Meeting* team,
) noexcept nogil:
    """The sum of the losses, by the team, if there is one; a may be NULL where its period is 0, loss, dx and one or both kinds
    of weights."""
    cdef Work w
    cdef double high = 0, low = 0
    cdef Py_ssize_t i
    w.kind, w.x, w.t, w.a, w.light, w.weight, w.loss, w.dx = kind, x, t, a, light, weight, loss, dx
    w.doubles, w.n, w.scale, w.settings = real is double, n, scale, s
    share_standing(team, do_part, &w, parts_of(n))
    for i in range(parts_of(n)):
        add(&high, &low, w.total[i])
    return high + low if low == low else high   # of infinite losses nothing is rounded off


cdef inline bint is_kept(double total, Py_ssize_t n, bint doubles) noexcept nogil:
    """Whether a sum of n products has its digits: none left the range, and subnormal floats lost little, 2^-150 each."""
    cdef double LEAST = 4.7e-38  # 2^-124
    return total == total if doubles else LEAST * n <= _math.magnitude(total) < INFINITY


cdef inline const heft* first(const heft[::1] weight) noexcept nogil:
    return &weight[0] if weight.shape[0] > 0 else NULL


cdef double plain(
    Kind kind, const real[::1] x, const real[::1] t, const real[::1] light, const double[::1] weight, real[::1] loss,
    real[::1] dx, double scale, Settings* s, Meeting* team,
) noexcept nogil:
    """A loss of an output and its target alone."""
    return elementwise(
        kind, &x[0], &t[0], <real*>NULL, first(light), first(weight), pointer(loss), pointer(dx), x.shape[0], scale, s, team)


cdef double binary_sum(
    const real* z, const real* t, const Binary* b, real* loss, real* dz, Py_ssize_t n, double scale, Meeting* team,
) noexcept nogil:
    """The sum of binary losses; NaN where a target is outside [0, 1], or a weight is none. Products of weights may leave their
    range, or lose digits of floats: then all is done once more, apart."""
    cdef Settings s
    cdef Binary again = b[0]
    cdef double total
    s.binary = b
    total = elementwise(BCE_WITH_LOGITS, z, t, <real*>NULL, <real*>NULL, NULL, loss, dz, n, scale, &s, team)
    if b.apart or (b.weight.of == NULL and b.rows.of == NULL) or is_kept(total, n, sizeof(real) == sizeof(double)):
        return total
    again.apart, s.binary = True, &again
    return elementwise(BCE_WITH_LOGITS, z, t, <real*>NULL, <real*>NULL, NULL, loss, dz, n, scale, &s, team)


cdef enum:
    ARRAYS = 4

cdef int take_sources(tuple arrays, Py_buffer* views, Source* sources) except -1:
    """Acquire arrays of floats or doubles, one number an element; empty ones are none."""
    cdef Py_ssize_t i
    for i in range(ARRAYS):
        if not acquire(arrays[i], &views[i], False, <Py_ssize_t>1 << 56):
            leave(views, i)
            raise TypeError("weights and upstream gradients must be contiguous arrays")
        if views[i].format[0] not in (b"f", b"d"):
            leave(views, i + 1)
            raise TypeError("weights and upstream gradients must be floats or doubles")
        sources[i] = source_of(&views[i], 1)
    return 0


cdef inline Source source_of(const Py_buffer* view, Py_ssize_t each) noexcept nogil:
    cdef Source s
    s.size = s.stand = view.len // view.itemsize if view.buf != NULL else 0
    s.of, s.wide, s.each = view.buf if s.size > 0 else NULL, s.size > 0 and view.itemsize == sizeof(double), each
    return s


def binary_cross_entropy_with_logits(
    const real[::1] z not None, const real[::1] t not None, weight not None, positive not None, upstream not None,
    rows not None, real[::1] loss not None, real[::1] dz not None, double scale, Py_ssize_t each, double yes, double no,
    double smoothing, double gamma, Team team=None,
):
    """loss = -w (yes t' (1 - a)^gamma log(a) + no (1 - t') a^gamma log(1 - a)), a = sigmoid(z),
    t' = t (1 - smoothing) + smoothing / 2; dz = scale upstream d loss / d z; all (N,), a row of `each` after the other.

    w = weight rows, and `yes` is multiplied by `positive`: arrays of floats or doubles, of N, or of so many as repeat after
    that; `rows` and `upstream` may be one a row. What is empty counts as 1. Returns the sum of the losses; NaN where a target
    is outside [0, 1], or a weight is none."""
    cdef Py_buffer views[ARRAYS]
    cdef Source sources[ARRAYS]
    cdef Binary b
    cdef double total
    take_sources((weight, positive, upstream, rows), views, sources)
    b.weight, b.positive, b.upstream, b.rows = sources[0], sources[1], sources[2], sources[3]
    b.yes, b.no, b.smoothing, b.gamma = yes, no, smoothing, gamma
    b.rows.each = each
    b.upstream.each = each if b.upstream.size * each == z.shape[0] else 1
    b.apart = real is float and b.rows.of != NULL and b.rows.wide
    with nogil:
        total = binary_sum(&z[0], &t[0], &b, pointer(loss), pointer(dz), z.shape[0], scale, meeting_of(team))
    leave(views, ARRAYS)
    return total


# Those below take weights (N,) in two arrays, `light` and `weight`, of which one or both are empty, and a team to share the
# work.


def binary_cross_entropy(
    const real[::1] p not None, const real[::1] t not None, const real[::1] element_weight not None,
    const real[::1] light not None, const double[::1] weight not None, real[::1] loss not None, real[::1] dp not None,
    double scale, Py_ssize_t period, Team team=None,
):
    """loss = -w (t log(p) + (1 - t) log(1 - p)), dp = scale w (p - t) / (p (1 - p)), w = weight element_weight; all (N,).

    element_weight may have the length period + WRAP instead. Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.period = period
    with nogil:
        total = elementwise(
            BCE, &p[0], &t[0], &element_weight[0], first(light), first(weight), pointer(loss), pointer(dp), p.shape[0], scale,
            &s, meeting_of(team))
    return total


def divergence(
    const real[::1] log_q not None, const real[::1] t not None, const real[::1] light not None,
    const double[::1] weight not None, real[::1] loss not None, real[::1] dx not None, double scale, bint log_target,
    Team team=None,
):
    """loss = weight p (log(p) - log_q), dx = -scale weight p, p = exp(t) if log_target, else t; all (N,).

    Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.period = 0
    s.is_log = log_target
    with nogil:
        total = plain(KL, log_q, t, light, weight, loss, dx, scale, &s, meeting_of(team))
    return total


def squared_error(
    const real[::1] x not None, const real[::1] t not None, const real[::1] light not None,
    const double[::1] weight not None, real[::1] loss not None, real[::1] dx not None, double scale, Team team=None,
):
    """loss = weight (x - t)^2, dx = scale weight 2 (x - t); all (N,). Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.period = 0
    with nogil:
        total = plain(SQUARED_ERROR, x, t, light, weight, loss, dx, scale, &s, meeting_of(team))
    return total


def absolute_error(
    const real[::1] x not None, const real[::1] t not None, const real[::1] light not None,
    const double[::1] weight not None, real[::1] loss not None, real[::1] dx not None, double scale, Team team=None,
):
    """loss = weight |x - t|, dx = scale weight sign(x - t); all (N,). Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.period = 0
    with nogil:
        total = plain(ABSOLUTE_ERROR, x, t, light, weight, loss, dx, scale, &s, meeting_of(team))
    return total


def huber(
    const real[::1] x not None, const real[::1] t not None, const real[::1] light not None,
    const double[::1] weight not None, real[::1] loss not None, real[::1] dx not None, double scale, double delta,
    Team team=None,
):
    """loss = weight c (x - t - c / 2), dx = scale weight c, c = x - t cut off at +-delta; all (N,).

    Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.period = 0
    s.amount = delta
    with nogil:
        total = plain(HUBER, x, t, light, weight, loss, dx, scale, &s, meeting_of(team))
    return total


def gaussian_nll(
    const real[::1] x not None, const real[::1] t not None, const real[::1] var not None,
    const real[::1] light not None, const double[::1] weight not None, real[::1] loss not None, real[::1] dx not None,
    double scale, Py_ssize_t period, double eps, bint full, Team team=None,
):
    """loss = weight (log(v) + (x - t)^2 / v) / 2, dx = scale weight (x - t) / v, v = max(var, eps); all (N,).

    var may have the length period + WRAP instead; full adds log(2 pi) / 2. Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.period, s.amount, s.full = period, eps, full
    with nogil:
        total = elementwise(
            GAUSSIAN, &x[0], &t[0], &var[0], first(light), first(weight), pointer(loss), pointer(dx), x.shape[0], scale, &s,
            meeting_of(team))
    return total


def poisson_nll(
    const real[::1] x not None, const real[::1] t not None, const real[::1] light not None,
    const double[::1] weight not None, real[::1] loss not None, real[::1] dx not None, double scale, double eps,
    bint log_input, bint full, Team team=None,
):
    """loss = weight (exp(x) - t x), dx = scale weight (exp(x) - t); all (N,). Returns the sum of the losses.

    Without log_input: loss = weight (x - t log(x + eps)); full adds Stirling's t log(t) - t + log(2 pi t) / 2, t > 1."""
    cdef Settings s
    cdef double total
    s.period = 0
    s.amount, s.is_log, s.full = eps, log_input, full
    with nogil:
        total = plain(POISSON, x, t, light, weight, loss, dx, scale, &s, meeting_of(team))
    return total


# ---- the Brier score, a loss of a row ------------------------------------------------------------------------------

cdef double brier_row(
    const real* p, const real* t, real* dp, Py_ssize_t n, double weight, double scale,
) noexcept nogil:
    cdef double error, loss = 0
    cdef Py_ssize_t k
    for k in range(n):   # a weight of 0 leaves out what is inf or NaN, too
        error = 0.0 if weight == 0 else <double>p[k] - t[k]
        loss += error * error
        if dp != NULL:
            dp[k] = 2 * error * (weight * scale)
    return weight * loss


def brier(
    const real[:, ::1] p not None, const real[:, ::1] t not None, const double[::1] weight not None,
    real[::1] loss not None, real[:, ::1] dp not None, double scale,
):
    """loss = weight sum_k (p_k - t_k)^2, dp = scale weight 2 (p - t); p, t, dp: (N, C), the others (N,).

    Returns the sum of the losses."""
    cdef double w = 1, value, total = 0
    cdef Py_ssize_t i
    with nogil:
        for i in range(p.shape[0]):
            w = weight[i] if weight.shape[0] > 0 else 1.0
            value = brier_row(&p[i, 0], &t[i, 0], &dp[i, 0] if dp.shape[0] > 0 else NULL, p.shape[1], w, scale)
            if loss.shape[0] > 0:
                loss[i] = value
            total += value
    return total


# ---- weights -------------------------------------------------------------------------------------------------------

# They are read in four places at once and fetched ahead, which memory does a fifth faster than from end to end.

cdef enum:
    QUARTERS = 4
    HALF = SUMS // 2     # elements of each at a time
    AHEAD = 2048         # bytes

cdef inline inlined fetch_quarters(const real* w, Py_ssize_t quarter) noexcept nogil:
    cdef Py_ssize_t i, j
    for j in range(QUARTERS):
        for i in range(<Py_ssize_t>sizeof(real) * HALF // LINE):
            minnet_prefetch(<const char*>(w + j * quarter) + AHEAD + i * LINE)


cdef inline inlined add_quarters(const real* w, Py_ssize_t quarter, double* sums) noexcept nogil:
    cdef const real* a = w
    cdef const real* b = w + 2 * quarter
    cdef double first, second
    cdef Py_ssize_t i
    for i in range(HALF):
        first, second = a[i], a[quarter + i]
        sums[i] += first + second
        first, second = b[i], b[quarter + i]
        sums[HALF + i] += first + second


cdef inline inlined look_over(const real* w, real* most, real* least) noexcept nogil:
    most[0] = w[0] if w[0] > most[0] else most[0]
    least[0] = w[0] if w[0] < least[0] else least[0]


cdef clones survey(const real* w, double* total, double* largest, Py_ssize_t n) noexcept nogil:
    """Their sum and the largest, NaN if one is negative or NaN."""
    cdef double sums[SUMS]
    cdef double high[SUMS]
    cdef double low[SUMS]
    cdef real most[SUMS]
    cdef real least[SUMS]
    cdef Py_ssize_t quarter = n // (QUARTERS * HALF) * HALF
    cdef Py_ssize_t run = CHUNK if real is double else 16 * CHUNK   # floats leave a double 29 digits to spare
    cdef const real* a = w
    cdef const real* b = w + 2 * quarter
    cdef Py_ssize_t i, start = 0
    for i in range(SUMS):
        sums[i] = high[i] = low[i] = most[i] = least[i] = 0
    while start < quarter:
        fetch_quarters(w + start, quarter)
        add_quarters(w + start, quarter, sums)
        for i in range(HALF):
            look_over(a + start + i, &most[i], &least[i])
            look_over(a + quarter + start + i, &most[i], &least[i])
            look_over(b + start + i, &most[HALF + i], &least[HALF + i])
            look_over(b + quarter + start + i, &most[HALF + i], &least[HALF + i])
        start += HALF
        if start % run == 0:
            keep(sums, high, low)
    for i in range(QUARTERS * quarter, n):
        sums[i % SUMS] += w[i]
        look_over(w + i, &most[0], &least[0])
    for i in range(SUMS):
        most[0] = most[i] if most[i] > most[0] else most[0]
        least[0] = least[i] if least[i] < least[0] else least[0]
    keep(sums, high, low)
    fold(high, low, total)
    largest[0] = NAN if least[0] < 0 or total[0] != total[0] else most[0]


def add_weights(const real[::1] w not None):
    """sum = sum_i w_i and the largest w_i, which is NaN if one is negative or NaN; w: (N,)."""
    cdef double total, largest
    with nogil:
        survey(&w[0], &total, &largest, w.shape[0])
    return total, largest


cdef inline inlined round_one(double w, float* rounded, double* most, double* least) noexcept nogil:
    cdef double value = w + (<double>INFINITY if w == 0 else 0.0)
    rounded[0] = w
    most[0] = w if w > most[0] else most[0]
    least[0] = value if value < least[0] else least[0]


cdef clones survey_rounding(
    const double* w, float* rounded, double* total, double* largest, double* least, Py_ssize_t n,
) noexcept nogil:
    """As `survey` of the floats that w are rounded to, to the last bit; `least` is the least w that is not 0. All in one pass
    over memory."""
    cdef double sums[SUMS]
    cdef double high[SUMS]
    cdef double low[SUMS]
    cdef double most[SUMS]
    cdef double fewest[SUMS]
    cdef Py_ssize_t quarter = n // (QUARTERS * HALF) * HALF, i, j, at, start = 0
    for i in range(SUMS):
        sums[i] = high[i] = low[i] = most[i] = 0
        fewest[i] = INFINITY
    while start < quarter:
        fetch_quarters(w + start, quarter)
        for j in range(QUARTERS):
            at = j * quarter + start
            for i in range(HALF):
                round_one(w[at + i], &rounded[at + i], &most[i], &fewest[i])
        add_quarters(<const float*>rounded + start, quarter, sums)
        start += HALF
        if start % (16 * CHUNK) == 0:
            keep(sums, high, low)
    for i in range(QUARTERS * quarter, n):
        round_one(w[i], &rounded[i], &most[0], &fewest[0])
        sums[i % SUMS] += rounded[i]
    for i in range(SUMS):
        most[0] = most[i] if most[i] > most[0] else most[0]
        fewest[0] = fewest[i] if fewest[i] < fewest[0] else fewest[0]
    keep(sums, high, low)
    fold(high, low, total)
    largest[0] = NAN if total[0] != total[0] else most[0]
    least[0] = fewest[0]


def round_weights(const double[::1] w not None, float[::1] rounded not None):
    """rounded = w; its sum, as by `add_weights`, the largest w_i, and the least that is not 0; both (N,)."""
    cdef double total, largest, least
    with nogil:
        survey_rounding(&w[0], &rounded[0], &total, &largest, &least, w.shape[0])
    return total, largest, least


def are_weights(const real[::1] w not None):
    """Whether 0 <= w_i < inf for all i; w: (N,)."""
    cdef int wrong = 0
    with nogil:
        seek_unfit(&w[0], &wrong, w.shape[0])
    return not wrong


# ---- ranges: where the first wrong target stands, or -1 ------------------------------------------------------------

def first_outside_unit(const real[::1] x not None):
    """The first i for which 0 <= x_i <= 1 does not hold, NaN included, else -1; x: (N,)."""
    cdef int found = 0
    cdef Py_ssize_t i
    with nogil:
        look(&x[0], &found, x.shape[0])
    if found & OUTSIDE:
        for i in range(x.shape[0]):
            if not (0 <= x[i] <= 1):
                return i
    return -1


# ---- the door: see _doors.pxd --------------------------------------------------------------------------------------

cdef double weigh_rows(const real* z, Source* rows, float* room) noexcept nogil:
    """The sum of row weights, -1 if they are not moderate in the dtype of z (_reduce.py); in `room` wide ones are rounded."""
    cdef double LOW = 1e-15 if real is float else 1e-90, HIGH = 1e15 if real is float else 1e90, LEAST = 1.1754943508222875e-38
    cdef double total, largest, least = INFINITY
    if room != NULL:
        survey_rounding(<const double*>rows.of, room, &total, &largest, &least, rows.size)
        rows.of, rows.wide = room, False
    elif rows.wide:
        survey(<const double*>rows.of, &total, &largest, rows.size)
    else:
        survey(<const float*>rows.of, &total, &largest, rows.size)
    return total if LOW < largest < HIGH and least >= LEAST else -1


cdef double largest_of(const Source* s) noexcept nogil:
    """The largest weight, 1 if there are none; NaN if one is negative, inf or NaN."""
    cdef double total, largest = 1
    if s.of != NULL and s.wide:
        survey(<const double*>s.of, &total, &largest, s.size)
    elif s.of != NULL:
        survey(<const float*>s.of, &total, &largest, s.size)
    return largest if largest < INFINITY else NAN


cdef double small_batch(const real* z, const Py_buffer* v, Binary* b, bint mean, double divisor, double factor) noexcept nogil:
    """The loss of a batch that is `fitting`, over `divisor` or, as a mean, the sum of row weights; -1 if targets or weights
    are wrong, weights of rows far from 1, or products of weights beyond the dtype."""
    cdef double MOST = 3.4028234663852886e38 if real is float else 1.7976931348623157e308
    cdef Py_ssize_t n = v[0].len // sizeof(real)
    cdef float* room = NULL
    cdef double value = -1, total = 0
    cdef int found = 0
    look(<real*>v[1].buf, &found, n)
    if found & OUTSIDE or not largest_of(&b.weight) * max(b.yes * largest_of(&b.positive), b.no) <= MOST:
        return -1
    if real is float and b.rows.wide:
        room = <float*>malloc(b.rows.size * sizeof(float))
        if room == NULL:
            return -1
    if b.rows.of != NULL:
        total = weigh_rows(z, &b.rows, room)
        divisor = total * b.rows.each if mean else divisor
    if total >= 0:
        value = 1.0 / divisor * binary_sum(
            z, <real*>v[1].buf, b, <real*>v[5].buf, <real*>v[2].buf, n, factor / divisor, NULL)
    free(room)
    return value


cdef bint of_losses(const Py_buffer* v, const Py_buffer* z) noexcept:
    """Whether numbers are missing, or one a loss."""
    cdef Py_ssize_t i
    if v.buf == NULL:
        return True
    if v.format[0] not in (b"f", b"d") or v.ndim != z.ndim:
        return False
    for i in range(z.ndim):
        if v.shape[i] != z.shape[i]:
            return False
    return True


cdef bint along(const Py_buffer* v, const Py_buffer* z, int axis) noexcept:
    """Whether there is a number for each of the first or the last axis."""
    if v.buf == NULL or v.format[0] not in (b"f", b"d") or v.ndim != 1 or z.ndim == 0:
        return False
    return v.shape[0] == z.shape[axis]


cdef bint fitting(const Py_buffer* v) noexcept:
    """Whether z, t, dz, weight, sample_weight, loss, pos_weight and upstream have the shapes and the dtype they should have,
    and dz is memory of its own."""
    cdef int last = v[0].ndim - 1
    cdef Py_ssize_t i
    if v[0].format[0] not in (b"f", b"d") or v[0].len == 0 or v[4].buf != NULL and not along(&v[4], &v[0], 0):
        return False
    for i in range(3, 8):   # what belongs to elements, or to each of an axis
        if i in (3, 6, 7) and not of_losses(&v[i], &v[0]) and not along(&v[i], &v[0], 0 if i == 7 else last):
            return False
    for i in range(8):
        if i != 2 and not apart(&v[2], &v[i]):
            return False
    return alike(&v[0], &v[1]) and (v[2].buf == NULL or alike(&v[0], &v[2])) and (v[5].buf == NULL or alike(&v[0], &v[5]))


cdef object take_number(object x, double most, double* value):
    """What is left of x: None if it is None or a number up to `most`, which multiplies the value."""
    cdef double number = 1
    if x is not None and is_plain(x, most, &number):
        value[0] *= number
        return None
    return x


def binary_cross_entropy_with_logits_door(
    z not None, t not None, dz, weight, sample_weight, loss, upstream, str reduction not None, positive, alpha, smoothing,
    gamma,
):
    """The reduced loss and its gradient dz, if all are small and plain (N, ...); else None, and nothing is done.

    dz, loss: as z; weight, positive: numbers, or one for each of the last axis, or as z; sample_weight: (N,); upstream: a
    number, or, beside loss, (N,) or as z; or None.
    """
    cdef Py_buffer v[8]
    cdef Binary b = no_options()
    cdef double total = -1, factor = 1, divisor, balance = 1, weighed = 1
    cdef Py_ssize_t n, rows
    cdef bint mean = reduction == "mean"
    cdef int held
    if not (is_plain(smoothing, 1, &b.smoothing) and is_plain(gamma, most_gamma(), &b.gamma)):
        return None
    if alpha is not None:
        if not is_plain(alpha, 1, &balance):
            return None
        b.yes, b.no = balance, 1 - balance
    positive = take_number(positive, most_gamma(), &b.yes)
    weight = take_number(weight, most_gamma(), &weighed)
    b.yes, b.no = b.yes * weighed, b.no * weighed
    if upstream is None or is_factor(upstream, &factor):
        upstream = None
    if (factor != 1 and dz is None) or (upstream is not None and (loss is None or dz is None)):
        return None
    held = enter_all((z, t, dz, weight, sample_weight, loss, positive, upstream), v, DZ | LOSS)
    if held == 8 and fitting(v):
        n = v[0].len // v[0].itemsize
        rows = v[0].shape[0] if v[0].ndim > 0 else 1
        b.weight, b.rows, b.positive = source_of(&v[3], 1), source_of(&v[4], n // rows), source_of(&v[6], 1)
        b.upstream = source_of(&v[7], 1)
        b.upstream.each = n // rows if b.upstream.size == rows else 1
        divisor = divisor_of(reduction, rows, n)
        with nogil:
            if divisor == 0:
                pass
            elif v[0].format[0] == b"f":
                total = small_batch(<float*>v[0].buf, v, &b, mean, divisor, factor)
            else:
                total = small_batch(<double*>v[0].buf, v, &b, mean, divisor, factor)
    leave(v, held)
    return None if total == -1 else total
