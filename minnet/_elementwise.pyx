# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Losses of one element each: a value and a gradient from an output and its target. Letters and rules: _activations.pyx."""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from minnet cimport _math
from minnet._doors cimport DZ, LOSS, alike, apart, divisor_of, enter_all, is_plain, leave, most_gamma
from minnet._math cimport inlined, real
from minnet._loops cimport clones, pointer
from minnet._rows cimport add, minnet_prefetch
from minnet._team cimport PIECES, Meeting, Team, meeting_of, parts_of, piece_of, share_standing

cdef extern from "_simd.h":
    uint32_t minnet_bits_f32(float x) noexcept nogil
    uint64_t minnet_bits_f64(double x) noexcept nogil

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

cdef inline inlined look_at(real t, real zero, uint32_t* narrow, uint64_t* wide) noexcept nogil:
    if real is float:   # + 0, as -0 has a sign
        narrow[0] |= minnet_bits_f32((t - t * t) + zero)
    else:
        wide[0] |= minnet_bits_f64((t - t * t) + zero)


cdef inline int found_in(uint32_t narrow, uint64_t wide) noexcept nogil:
    cdef uint64_t bits = wide | <uint64_t>narrow << 32
    return (BETWEEN if bits > 0 else 0) | (OUTSIDE if bits >> 62 > 0 else 0)


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
            found[0] |= OUTSIDE


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
    real* dz, Py_ssize_t n, double factor, bint single,
) noexcept nogil:
    """Of labels one share is 0, and the other one is a weight of what `bce_terms` gives."""
    cdef real g = factor, yes = positive[0], no = negative[0]
    cdef real cost, slope, w
    cdef Py_ssize_t i
    for i in range(n):
        w = _math.chosen(<real>0.5 - t[i], no if single else negative[i], yes if single else positive[i])
        bce_terms(z[i], t[i], Q[i], s[i], &cost, &slope)
        loss[i] = w * cost
        dz[i] = (w * g) * slope


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
    real* dz, Py_ssize_t n, double factor, double smoothing, bint single,
) noexcept nogil:
    cdef real g = factor, keep = 1 - smoothing, lift = smoothing / 2, yes = positive[0], no = negative[0]
    cdef real wrong, right, slope
    cdef Py_ssize_t i
    for i in range(n):
        shares_of(
            z[i], t[i], yes if single else positive[i], no if single else negative[i], keep, lift, &wrong, &right)
        loss[i] = wrong * _math.magnitude(z[i]) + (wrong + right) * _math.double_atanh(s[i])
        slope = g * (wrong - (wrong + right) * Q[i])
        dz[i] = _math.flipped(slope, z[i])


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
            labelled_terms(z, t, positive, negative, Q, s, loss, dz, n, factor, True)
        else:
            labelled_terms(z, t, positive, negative, Q, s, loss, dz, n, factor, False)
    elif single:
        shared_terms(z, t, positive, negative, Q, s, loss, dz, n, factor, smoothing, True)
    else:
        shared_terms(z, t, positive, negative, Q, s, loss, dz, n, factor, smoothing, False)


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
    const real* power, real* loss, real* dz, Py_ssize_t n, double factor, double gamma, Way way, bint weighted,
) noexcept nogil:
    """`weighted` is a constant to the caller, too."""
    cdef real g = gamma, to_dz = factor
    cdef real side, x, P, own, other, cost, weight
    cdef Py_ssize_t i
    for i in range(n):
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


cdef inline inlined share_terms(
    const real* z, const real* t, const real* positive, const real* negative, const real* Q, const real* L,
    const real* P_powers, const real* Q_powers, real* loss, real* dz, Py_ssize_t n, double factor, double smoothing,
    double gamma, Way way, bint single,
) noexcept nogil:
    """The same for any targets."""
    cdef real g = gamma, to_dz = factor, keep = 1 - smoothing, lift = smoothing / 2, yes = positive[0], no = negative[0]
    cdef real wrong, right, P_power, Q_power, P, cost, slope
    cdef Py_ssize_t i
    for i in range(n):
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


cdef inline inlined label_terms_of(
    const real* z, const real* t, const real* positive, const real* negative, const real* Q, const real* L,
    const real* power, real* loss, real* dz, Py_ssize_t n, double factor, double gamma, Way way, bint weighted,
) noexcept nogil:
    if weighted:
        label_terms(z, t, positive, negative, Q, L, power, loss, dz, n, factor, gamma, way, True)
    else:
        label_terms(z, t, positive, negative, Q, L, power, loss, dz, n, factor, gamma, way, False)


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
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, n, factor, gamma, SQUARE, weighted)
        elif _math.is_rooted(gamma):
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, n, factor, gamma, ROOTED, weighted)
        elif _math.has_roots(gamma):
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, n, factor, gamma, WHOLE, weighted)
        else:
            label_powers(z, t, r, k, L, P_power, Q_power, n, gamma)
            label_terms_of(z, t, positive, negative, Q, L, P_power, loss, dz, n, factor, gamma, GIVEN, weighted)
        return
    if gamma == 2 and single:
        share_terms(z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, n, factor, smoothing, gamma, SQUARE, True)
    elif gamma == 2:
        share_terms(z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, n, factor, smoothing, gamma, SQUARE, False)
    elif _math.is_rooted(gamma):
        share_terms(z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, n, factor, smoothing, gamma, ROOTED, False)
    elif _math.has_roots(gamma):
        share_terms(z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, n, factor, smoothing, gamma, WHOLE, False)
    else:
        both_powers(r, k, L, P_power, Q_power, n, gamma)
        share_terms(z, t, positive, negative, Q, L, P_power, Q_power, loss, dz, n, factor, smoothing, gamma, GIVEN, False)


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

cdef clones poisson_loop(
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
    """0 times a weight is +0; times anything else -0 or NaN."""
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef Py_ssize_t i
    for i in range(n):   # + 0, as -0 is a weight
        if real is float:
            narrow |= minnet_bits_f32((w[i] + <real>0) * <real>0)
        else:
            wide |= minnet_bits_f64((w[i] + <real>0) * <real>0)
    wrong[0] = narrow != 0 or wide != 0


# ---- all of them, chunk by chunk -----------------------------------------------------------------------------------

cdef void chunk_of(
    Kind kind, const real* x, const real* t, const real* a, const real* b, real* loss, real* dx, int* found,
    Py_ssize_t n, double factor, Settings* s,
) noexcept nogil:
    cdef int wrong = 0
    if kind == BCE_WITH_LOGITS:
        bce_with_logits_loop(x, t, a, loss, dx, found, n, factor)
    elif kind == WEIGHTED_BCE:
        weighted_bce_loop(x, t, a, b, loss, dx, found, n, factor, s.amount, s.weighted, s.single)
    elif kind == FOCAL_BCE:
        focal_bce_loop(x, t, a, b, loss, dx, found, n, factor, s.amount, s.gamma, s.weighted, s.single)
    elif kind == BCE:
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
    if (kind == WEIGHTED_BCE or kind == FOCAL_BCE) and found[0] & OUTSIDE:
        look(t, found, n)
        mend(x, t, a, b, loss, dx, n, factor, s.amount)
    if (kind == WEIGHTED_BCE or kind == FOCAL_BCE) and s.unseen:
        seek_unfit(a, &wrong, n)
        found[0] |= OUTSIDE if wrong else 0


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
    Kind kind, const real* x, const real* t, const real* a, const real* b, const real* light, const double* weight,
    real* loss, real* dx, Py_ssize_t start, Py_ssize_t end, double scale, Settings* s,
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
    cdef int found = 0, all_found = 0
    cdef Py_ssize_t i, size
    for i in range(SUMS):
        sums[i] = high[i] = low[i] = 0
    i = start
    while i < end:
        size = min(<Py_ssize_t>CHUNK, end - i)
        losses = chunk_loss if loss == NULL else loss + i
        slopes = &chunk_dx[0] if dx == NULL else dx + i
        chunk_of(
            kind, x + i, t + i, a + (i % s.a_period if s.a_period > 0 else 0),
            b + (i % s.b_period if s.b_period > 0 else 0), losses, slopes, &found, size,
            scale if light == NULL and weight == NULL else 1.0, s)
        all_found |= found
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
    return <double>NAN if all_found & OUTSIDE else total


cdef struct Work:    # what is void is float or double
    Kind kind
    const void* x
    const void* t
    const void* a
    const void* b
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
    return stretch(
        w.kind, x, <const real*>w.t, <const real*>w.a, <const real*>w.b, <const real*>w.light, w.weight, <real*>w.loss,
        <real*>w.dx, start, end, w.scale, w.settings)


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
    Kind kind, const real* x, const real* t, const real* a, const real* b, const real* light, const double* weight,
    real* loss, real* dx, Py_ssize_t n, double scale, Settings* s, Meeting* team,
) noexcept nogil:
    """The sum of the losses, by the team, if there is one; a and b may be NULL where their periods are 0, loss, dx and one
    or both kinds of weights.

    Losses of logits look at their targets: where one is outside [0, 1], the sum is NaN. So it is where a light weight of a
    plain one is negative; where one is inf or NaN, the sum is. At `unseen` weights they look, too.
    """
    cdef Work w
    cdef double high = 0, low = 0
    cdef Py_ssize_t i
    w.kind, w.x, w.t, w.a, w.b, w.light, w.weight, w.loss, w.dx = kind, x, t, a, b, light, weight, loss, dx
    w.doubles, w.n, w.scale, w.settings = real is double, n, scale, s
    share_standing(team, do_part, &w, parts_of(n))
    for i in range(parts_of(n)):
        add(&high, &low, w.total[i])
    return high + low if low == low else high   # of infinite losses nothing is rounded off


cdef inline bint is_kept(double total, Py_ssize_t n) noexcept nogil:
    """Whether a sum of n products of floats has its digits: none is inf, and what subnormal ones lost, 2^-150 each, is little."""
    cdef double LEAST = 4.7e-38  # 2^-124
    return LEAST * n <= _math.magnitude(total) < INFINITY


cdef inline const heft* first(const heft[::1] weight) noexcept nogil:
    return &weight[0] if weight.shape[0] > 0 else NULL


cdef double plain(
    Kind kind, const real[::1] x, const real[::1] t, const real[::1] light, const double[::1] weight, real[::1] loss,
    real[::1] dx, double scale, Settings* s, Meeting* team,
) noexcept nogil:
    """A loss of an output and its target alone."""
    return elementwise(
        kind, &x[0], &t[0], <real*>NULL, <real*>NULL, first(light), first(weight), pointer(loss), pointer(dx), x.shape[0],
        scale, s, team)


cdef double binary_sum(
    const real* z, const real* t, const real* light, const double* weight, real* loss, real* dz, Py_ssize_t n, double scale,
    Settings* s, Meeting* team,
) noexcept nogil:
    """Binary cross-entropy. Light weights are multiplied in where losses are made, in their dtype, and once more in double
    where a sum of floats would lose digits."""
    cdef double total
    s.a_period, s.b_period = n if light != NULL else 0, 0
    total = elementwise(BCE_WITH_LOGITS, z, t, light, <real*>NULL, <real*>NULL, weight, loss, dz, n, scale, s, team)
    if real is float and light != NULL and total == total and not is_kept(total, n):
        s.a_period = 0
        total = elementwise(BCE_WITH_LOGITS, z, t, <real*>NULL, <real*>NULL, light, weight, loss, dz, n, scale, s, team)
    return total


# All take weights (N,) in two arrays, `light` and `weight`, of which one or both are empty, and a team to share the work.


def binary_cross_entropy_with_logits(
    const real[::1] z not None, const real[::1] t not None, const real[::1] light not None,
    const double[::1] weight not None, real[::1] loss not None, real[::1] dz not None, double scale, Team team=None,
):
    """loss = weight (softplus(z) - t z), dz = scale weight (sigmoid(z) - t); all (N,). Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    with nogil:
        total = binary_sum(
            &z[0], &t[0], first(light), first(weight), pointer(loss), pointer(dz), z.shape[0], scale, &s,
            meeting_of(team))
    return total


def focal_binary_cross_entropy_with_logits(
    const real[::1] z not None, const real[::1] t not None, const real[::1] positive not None,
    const real[::1] negative not None, const real[::1] light not None, const double[::1] weight not None,
    real[::1] loss not None, real[::1] dz not None, double scale, Py_ssize_t positive_period,
    Py_ssize_t negative_period, double smoothing, double gamma, Team team=None,
):
    """loss = -weight (yes (1 - a)^gamma log(a) + no a^gamma log(1 - a)), a = sigmoid(z); dz = scale d loss / d z; (N,).

    yes = positive t', no = negative (1 - t') with t' = t (1 - smoothing) + smoothing / 2. The length of positive is N,
    which is then its period, or its period + WRAP; so is that of negative. Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.a_period, s.b_period, s.amount, s.gamma = positive_period, negative_period, smoothing, gamma
    s.single = positive_period <= 1 and negative_period <= 1
    s.unseen = &positive[0] == &negative[0] and positive_period == z.shape[0]
    s.weighted = not s.single or positive[0] != 1 or negative[0] != 1
    with nogil:
        total = elementwise(
            FOCAL_BCE if gamma > 0 else WEIGHTED_BCE, &z[0], &t[0], &positive[0], &negative[0],
            first(light), first(weight), pointer(loss), pointer(dz), z.shape[0], scale, &s, meeting_of(team))
    return total


def binary_cross_entropy(
    const real[::1] p not None, const real[::1] t not None, const real[::1] element_weight not None,
    const real[::1] light not None, const double[::1] weight not None, real[::1] loss not None, real[::1] dp not None,
    double scale, Py_ssize_t period, Team team=None,
):
    """loss = -w (t log(p) + (1 - t) log(1 - p)), dp = scale w (p - t) / (p (1 - p)), w = weight element_weight; all (N,).

    element_weight may have the length period + WRAP instead. Returns the sum of the losses."""
    cdef Settings s
    cdef double total
    s.a_period, s.b_period = period, 0
    with nogil:
        total = elementwise(
            BCE, &p[0], &t[0], &element_weight[0], <real*>NULL, first(light), first(weight), pointer(loss), pointer(dp),
            p.shape[0], scale, &s, meeting_of(team))
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
    s.a_period = s.b_period = 0
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
    s.a_period = s.b_period = 0
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
    s.a_period = s.b_period = 0
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
    s.a_period = s.b_period = 0
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
    s.a_period, s.b_period, s.amount, s.full = period, 0, eps, full
    with nogil:
        total = elementwise(
            GAUSSIAN, &x[0], &t[0], &var[0], <real*>NULL, first(light), first(weight), pointer(loss), pointer(dx),
            x.shape[0], scale, &s, meeting_of(team))
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
    s.a_period = s.b_period = 0
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

cdef struct Binary:   # options of a small batch
    double positive, negative, smoothing, gamma, divisor
    bint mean


cdef double weigh_rows(const real* z, const Py_buffer* weight, float* room, const void** light) noexcept nogil:
    """The sum of row weights, and these in the dtype of z, to which `room` is for rounding them; -1 if they are not
    moderate there (_reduce.py)."""
    cdef double LOW = 1e-15 if real is float else 1e-90, HIGH = 1e15 if real is float else 1e90, LEAST = 1.1754943508222875e-38
    cdef double total, largest, least = INFINITY
    cdef Py_ssize_t n = weight.shape[0]
    light[0] = weight.buf if room == NULL else <void*>room
    if room == NULL:
        survey(<const real*>weight.buf, &total, &largest, n)
    else:
        survey_rounding(<const double*>weight.buf, room, &total, &largest, &least, n)
    return total if LOW < largest < HIGH and least >= LEAST else -1


cdef Py_ssize_t period_of(const Py_buffer* v) noexcept nogil:
    """After how many elements factors of a small batch repeat themselves: those of elements, of the last axis, or one for all."""
    return v[3].len // v[3].itemsize if v[3].buf != NULL else v[6].shape[0] if v[6].buf != NULL else 1


cdef bint take_factors(const Py_buffer* given, double factor, real* to, Py_ssize_t period) noexcept nogil:
    """to = factor, times what is given if anything is, and CHUNK more; whether all are weights."""
    cdef const float* narrow = <float*>given.buf
    cdef const double* wide = <double*>given.buf
    cdef int wrong = 0, beyond = 0
    cdef Py_ssize_t i
    if given.buf == NULL:   # one by one from their neighbours they would wait for each other
        for i in range(period + CHUNK):
            to[i] = factor
    elif given.itemsize == sizeof(float):
        seek_unfit(narrow, &wrong, period)
        for i in range(period):
            to[i] = factor * narrow[i]
    else:
        seek_unfit(wide, &wrong, period)
        for i in range(period):
            to[i] = factor * wide[i]
    seek_unfit(<const real*>to, &beyond, period)
    for i in range(period, period if given.buf == NULL else period + CHUNK):
        to[i] = to[i - period]
    return not (wrong or beyond)


cdef double small_batch(const real* z, const Py_buffer* v, const Binary* o, float* room, void* factors) noexcept nogil:
    """The loss of a batch that is `fitting`, over `divisor` or, as a mean, the sum of row weights; -1 if targets or weights
    are wrong, weights of rows far from 1, or beside those of elements."""
    cdef Py_ssize_t n = v[0].len // sizeof(real), period = period_of(v)
    cdef const real* t = <real*>v[1].buf
    cdef const void* weight = v[3].buf
    cdef real* yes = <real*>factors
    cdef real* no = yes + period + CHUNK
    cdef double total, largest, scale, divisor = o.divisor
    cdef bint plain = v[6].buf == NULL and o.positive == 1 and o.negative == 1 and o.smoothing == 0 and o.gamma == 0
    cdef int found = 0, wrong = 0
    cdef Settings s
    look(t, &found, n)
    if found & OUTSIDE or v[3].buf != NULL and (v[4].buf != NULL or v[6].buf != NULL):
        return -1
    if v[4].buf != NULL:
        total = weigh_rows(z, &v[4], room, &weight)
        if total < 0:
            return -1
        divisor = total if o.mean else divisor
    scale = 1.0 / divisor
    if plain:
        if v[3].buf != NULL:
            survey(<const real*>weight, &total, &largest, n)
            if not largest < INFINITY:
                return -1
        return scale * binary_sum(
            z, t, <const real*>weight, NULL, <real*>v[5].buf, <real*>v[2].buf, n, scale, &s, NULL)
    if v[3].buf != NULL and o.positive == 1 and o.negative == 1:
        yes = no = <real*>v[3].buf
        seek_unfit(<const real*>yes, &wrong, n)
    else:
        wrong = not take_factors(&v[6] if v[6].buf != NULL else &v[3], o.positive, yes, period)
        wrong |= not take_factors(&v[3], o.negative, no, period)
    if wrong:
        return -1
    s.a_period, s.b_period, s.amount, s.gamma = period, period, o.smoothing, o.gamma
    s.single, s.unseen = period == 1, False
    s.weighted = not s.single or yes[0] != 1 or no[0] != 1
    return scale * elementwise(
        FOCAL_BCE if o.gamma > 0 else WEIGHTED_BCE, z, t, yes, no, <const real*>(NULL if v[3].buf != NULL else weight), NULL,
        <real*>v[5].buf, <real*>v[2].buf, n, scale, &s, NULL)


cdef bint are_rows(const Py_buffer* weight, const Py_buffer* z) noexcept:
    """Whether weights of rows are missing, or one an element, in the dtype of z or in double."""
    if weight.buf == NULL:
        return True
    if weight.ndim != 1 or z.ndim == 0 or weight.format[0] not in (z.format[0], b"d"):
        return False
    return weight.shape[0] == z.shape[0] and weight.shape[0] == z.len // z.itemsize


cdef bint are_factors(const Py_buffer* factors, const Py_buffer* z) noexcept:
    """Whether factors are missing, or one for each of the last axis."""
    if factors.buf == NULL:
        return True
    if factors.ndim != 1 or z.ndim == 0 or factors.format[0] not in (b"f", b"d"):
        return False
    return factors.shape[0] == z.shape[z.ndim - 1]


cdef bint fitting(const Py_buffer* v) noexcept:
    """Whether z, t, dz, weight, sample_weight, loss and factors have the shapes and the dtype they should have, and dz is memory
    of its own."""
    cdef Py_ssize_t i
    if v[0].format[0] not in (b"f", b"d") or v[0].len == 0 or not (are_rows(&v[4], &v[0]) and are_factors(&v[6], &v[0])):
        return False
    for i in range(7):
        if i != 2 and not apart(&v[2], &v[i]):
            return False
        if i != 4 and i != 6 and v[i].buf != NULL and not alike(&v[0], &v[i]):
            return False
    return True


cdef bint take_alpha(object alpha, Binary* o) noexcept:
    """What multiplies the terms of t, where it may be another number already, and of 1 - t; whether it is a plain number."""
    cdef double balance = 0
    o.negative = 1
    if alpha is not None:
        if not is_plain(alpha, 1, &balance):
            return False
        o.positive, o.negative = balance * o.positive, 1 - balance
    return True


def binary_cross_entropy_with_logits_door(
    z not None, t not None, dz, weight, sample_weight, loss, str reduction not None, positive, alpha, smoothing, gamma,
):
    """The reduced loss and its gradient dz, if all are small and plain (N, ...); else None, and nothing is done.

    dz, weight, loss: as z, sample_weight: (N,), or None; positive: the factor of the term of t, or one for each of the last
    axis, or None.
    """
    cdef Py_buffer v[7]
    cdef Binary o
    cdef double total = -1
    cdef float* room = NULL   # to round weights of rows in double beside outputs in float
    cdef void* factors = NULL
    cdef int held
    if not (is_plain(smoothing, 1, &o.smoothing) and is_plain(gamma, most_gamma(), &o.gamma)):
        return None
    o.positive = 1
    if is_plain(positive, most_gamma(), &o.positive):
        positive = None
    if not take_alpha(alpha, &o):
        return None
    held = enter_all((z, t, dz, weight, sample_weight, loss, positive), v, DZ | LOSS)
    if held == 7 and fitting(v):
        o.mean = reduction == "mean"
        o.divisor = divisor_of(reduction, v[0].shape[0] if v[0].ndim > 0 else 1, v[0].len // v[0].itemsize)
        with nogil:
            if v[4].itemsize > v[0].itemsize:
                room = <float*>malloc(v[0].len)
            factors = malloc(2 * (period_of(v) + CHUNK) * v[0].itemsize)
            if o.divisor == 0 or factors == NULL or room == NULL and v[4].itemsize > v[0].itemsize:
                pass
            elif v[0].format[0] == b"f":
                total = small_batch(<float*>v[0].buf, v, &o, room, factors)
            else:
                total = small_batch(<double*>v[0].buf, v, &o, room, factors)
            free(room)
            free(factors)
    leave(v, held)
    return None if total == -1 else total
