# cython: cdivision=True
# The scalar functions that every compiled module shares, written so that a loop over them vectorises: no branches, no
# calls, no integer arithmetic but one bit cast. One body serves float and double; only the polynomials differ.
#
# The polynomials are minimax; tools/minimax.py makes them and prints their errors. A bound is tested as
# `LOW if LOW > x else x`, never the other way round, so that NaN passes through. Constants are typed locals, because
# Cython computes with bare ones in double.

from libc.math cimport copysign, copysignf, fabs, fabsf, sqrt, sqrtf

cdef extern from "_simd.h":
    float minnet_pow2_f32(float t) noexcept nogil
    double minnet_pow2_f64(double t) noexcept nogil
    float minnet_exponent_f32(float u) noexcept nogil
    double minnet_exponent_f64(double u) noexcept nogil
    float minnet_head_f32(float x) noexcept nogil
    double minnet_head_f64(double x) noexcept nogil
    float minnet_scaled_f32(float x, float t) noexcept nogil
    double minnet_scaled_f64(double x, double t) noexcept nogil
    float minnet_flipped_f32(float x, float sign) noexcept nogil
    double minnet_flipped_f64(double x, double sign) noexcept nogil
    float minnet_chosen_f32(float sign, float a, float b) noexcept nogil
    double minnet_chosen_f64(double sign, double a, double b) noexcept nogil
    const float minnet_low_f32, minnet_high_f32
    const double minnet_low_f64, minnet_high_f64
    ctypedef void inlined "MINNET_INLINE void"  # a helper of clones: left out of line, it would be baseline code

ctypedef fused real:
    float
    double


cdef inline real magnitude(real x) noexcept nogil:
    if real is float:
        return fabsf(x)
    else:
        return fabs(x)


cdef inline real with_sign(real x, real sign) noexcept nogil:
    """x with another sign."""
    if real is float:
        return copysignf(x, sign)
    else:
        return copysign(x, sign)


cdef inline real flipped(real x, real sign) noexcept nogil:
    """x, or -x where `sign` has one."""
    if real is float:
        return minnet_flipped_f32(x, sign)
    else:
        return minnet_flipped_f64(x, sign)


cdef inline real chosen(real sign, real a, real b) noexcept nogil:
    """a, or b where `sign` has one."""
    if real is float:
        return minnet_chosen_f32(sign, a, b)
    else:
        return minnet_chosen_f64(sign, a, b)


cdef inline real root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return sqrt(x)


# ---- exp -----------------------------------------------------------------------------------------------------------
# exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, exp(r) = 1 + r + r^2 q(r).
# Rounding: x + 1.5 * 2^(mantissa bits) is x rounded to an integer n, and its low bits hold n. With the bias of exponents
# added to the constant, the same low bits are the exponent field of 2^n.
# ln 2 is subtracted in two parts, the first with so many trailing zeros that n times it is exact (Cody and Waite 1980).

cdef inline real rounder(real unused) noexcept nogil:
    return <real>12583039.0 if real is float else <real>6755399441056767.0


cdef inline real plain_rounder(real unused) noexcept nogil:
    """The same without the bias."""
    return <real>12582912.0 if real is float else <real>6755399441055744.0


cdef inline real pow2(real t) noexcept nogil:
    """2^n for t = n + rounder; n must give a normal number."""
    if real is float:
        return minnet_pow2_f32(t)
    else:
        return minnet_pow2_f64(t)


cdef inline real short_tail(real r, real r2) noexcept nogil:
    """q(r) to the digits of a float."""
    cdef real a = <real>0.49999994 + <real>0.16666521 * r
    cdef real b = <real>0.04166839 + <real>0.00836871 * r
    return a + r2 * (b + r2 * <real>0.0013814613)


cdef inline real expm1_tail(real r, real r2) noexcept nogil:
    """q(r) for |r| <= ln 2 / 2, r2 = r^2; error relative to exp: 3.1e-9 (float), 3.6e-18 (double).

    By Estrin's scheme: a loop of exponentials is bound by the length of the chain of operations, not by their number.
    """
    cdef real a, b, c, r4
    if real is float:
        return short_tail(r, r2)
    else:
        r4 = r2 * r2
        a = (0.5000000000000011 + 0.16666666666666413 * r) + r2 * (0.041666666666530267 + 0.008333333333494333 * r)
        b = (0.001388888894359769 + 0.00019841269506779664 * r) + r2 * (
            2.4801493136197254e-05 + 2.7557586266408486e-06 * r)
        c = 2.7630233914958636e-07 + 2.5000072292151244e-08 * r
        return a + r4 * (b + r4 * c)


cdef inline real unshift(real unused) noexcept nogil:
    """2^-64 or 2^-512, the inverse of the power that keeps exponentials out of the subnormal range."""
    return <real>5.421010862427522e-20 if real is float else <real>7.458340731200207e-155


cdef inline inlined split(double factor, real* first, real* second) noexcept nogil:
    """factor unshift = first second, for products x first second of shifted exponentials that are rounded to a subnormal
    number at last, if at all: neither of the two is one, nor is x first, unless factor and x are so tiny that nothing is left.
    """
    cdef double LEAST = 1e-18 if real is float else 1e-150
    cdef bint tiny = magnitude(factor) < LEAST
    first[0] = unshift(<real>0) if tiny else <real>1
    second[0] = factor if tiny else factor * unshift(<real>0)


cdef inline real lowest(real unused) noexcept nogil:
    """The least argument of exp_shifted; the exponential of a smaller one is 0, also as a part of a sum."""
    return <real>-131.0 if real is float else <real>-1060.0


cdef inline real exp_reduced(real r, real t) noexcept nogil:
    """2^n exp(r) for t = n + rounder and |r| <= ln 2 / 2."""
    cdef real r2 = r * r, scale = pow2(t)
    return scale + scale * (r + r2 * expm1_tail(r, r2))   # scaling is exact: this rounds as 1 + ... does


cdef inline inlined reduce(real x, real low, real* t, real* first, real* rest) noexcept nogil:
    """x + low = n ln 2 + first - rest for lowest <= x <= 40, `first` exact; t = n + rounder + 64 or 512."""
    cdef real LOG2E = 1.4426950408889634
    cdef real LN2_HIGH = 0.693359375 if real is float else 0.693147180369123816490
    cdef real LN2_LOW = -2.12194440054690583e-4 if real is float else 1.90821492927058770002e-10
    cdef real SHIFTED = 12583103.0 if real is float else 6755399441057279.0   # rounder + 64 or 512
    cdef real n
    t[0] = x * LOG2E + SHIFTED
    n = t[0] - SHIFTED
    first[0] = x - n * LN2_HIGH
    rest[0] = n * LN2_LOW - low


cdef inline real exp_shifted(real x, real low) noexcept nogil:
    """exp(x + low) / unshift for x <= 0 and |low| <= ulp(x); below lowest, that of lowest. Within 1 ulp.

    Sums of exponentials are made of these and unshifted once: rounded to subnormal numbers each, they would lose digits,
    and many that are too small for one subnormal number can have a sum that is not.

    1 + (r + r^2 q) rounds once in the last place, and r^2 q, below 0.07, adds little: the error is 0.99 ulp (float), and
    nothing is gained by a sum in two parts, which would take five operations more.
    """
    cdef real t, first, rest
    reduce(lowest(x) if lowest(x) > x else x, low, &t, &first, &rest)
    return exp_reduced(first - rest, t)


cdef inline real exp(real x) noexcept nogil:
    """exp(x) for x <= 0, the only exp that a stable loss needs. Below `lowest` the product rounds to 0."""
    return exp_shifted(x, <real>0) * unshift(x)


cdef inline inlined difference(real a, real b, real* d, real* low) noexcept nogil:
    """a - b = d + low (Knuth's TwoSum); `low` is NaN where a is -inf.

    By minimum and maximum it is an operation less, and slower.
    """
    cdef real b_part
    d[0] = a - b
    b_part = d[0] - a
    low[0] = (a - (d[0] - b_part)) - (b + b_part)


cdef inline inlined reduced_terms(real first, real rest, real* p, real* p_low) noexcept nogil:
    """exp(first - rest) = 1 + p + p_low; `first` is exact, so that p rounds but once, and p_low is what that has taken."""
    cdef real r = first - rest
    cdef real r2 = r * r
    cdef real tail = r2 * expm1_tail(r, r2) - rest
    p[0] = first + tail
    p_low[0] = tail - (p[0] - first)


cdef inline inlined exp_terms(real d, real d_low, real* scale, real* p, real* p_low) noexcept nogil:
    """exp(d + d_low) / unshift = scale (1 + p + p_low), for d >= lowest."""
    cdef real t, first, rest
    reduce(d, d_low, &t, &first, &rest)
    reduced_terms(first, rest, p, p_low)
    scale[0] = pow2(t)


cdef inline inlined exp_sum_parts(real d, real d_low, real* high, real* low) noexcept nogil:
    """exp(d + d_low) / unshift as a sum of two: `high` within an ulp, and what it lacks; 0 below `lowest`, where d_low may
    be anything.
    """
    cdef real scale, p, p_low, y
    exp_terms(d, d_low, &scale, &p, &p_low)
    y = scale + scale * p
    high[0] = <real>0 if lowest(d) > d else y
    low[0] = <real>0 if lowest(d) > d else scale * p_low + (scale * p + (scale - y))


cdef inline real exp_difference(real a, real b) noexcept nogil:
    """exp(a - b) / unshift for b >= a, as exact as exp itself: the rounding error of a - b goes into the reduction.

    Without it the error of the result is |a - b| / 2 ulp. It is 0 below `lowest`, where that error may be anything.
    """
    cdef real d, low, t, first, rest
    difference(a, b, &d, &low)
    reduce(d, low, &t, &first, &rest)
    return <real>0 if lowest(d) > d else exp_reduced(first - rest, t)


cdef inline real exp_near(real a, real b, real most) noexcept nogil:
    """The same for a - b up to `most`, and exp(most) / unshift beyond."""
    cdef real d, low, t, first, rest
    difference(a, b, &d, &low)
    reduce(at_most(d, most), low, &t, &first, &rest)
    return <real>0 if lowest(d) > d else exp_reduced(first - rest, t)


cdef inline inlined reduce_counted(real d, real shift, real low, real* t, real* first, real* rest) noexcept nogil:
    """max(d, low) = n ln 2 + first - rest, `first` exact, t = n + shift. Up to 2^10 times ln 2, its first part may have 14 digits
    (floats), and the rest is smaller."""
    cdef real LOG2E = 1.4426950408889634
    cdef real LN2_HIGH = 0.69317626953125 if real is float else 0.693147180369123816490
    cdef real LN2_LOW = -2.908897130469058e-05 if real is float else 1.90821492927058770002e-10
    cdef real x = at_least(d, low)   # where products are what a loop waits for, a comparison would be taken from them
    t[0] = x * LOG2E + shift
    first[0] = x - (t[0] - shift) * LN2_HIGH
    rest[0] = (t[0] - shift) * LN2_LOW


cdef inline real exp_counted(real d, real shift, real low) noexcept nogil:
    """2^-N exp(d) / unshift with shift = rounder + 64 - N, or 512 - N; at `low` and below, where all bits of 2^n are 0, it is 0."""
    cdef real t, first, rest
    reduce_counted(d, shift, low, &t, &first, &rest)
    return exp_reduced(first - rest, t)


cdef inline inlined counted_terms(real d, real shift, real low, real* scale, real* p, real* p_low) noexcept nogil:
    """The same = scale (1 + p + p_low)."""
    cdef real t, first, rest
    reduce_counted(d, shift, low, &t, &first, &rest)
    reduced_terms(first, rest, p, p_low)
    scale[0] = pow2(t)


cdef inline double exp_wide(double x) noexcept nogil:
    """exp(x) for x <= 0 within 3.1e-9, for floats: there are digits to spare, so that nothing is kept in parts.

    Below -708.7 it is 0, as then the low bits of t, which are the exponent field of 2^n, are.
    """
    cdef double bounded = -709.0 if -709.0 > x else x
    cdef double t = bounded * 1.4426950408889634 + rounder(x)
    cdef double r = bounded - (t - rounder(x)) * 0.6931471805599453
    cdef double r2 = r * r
    cdef double scale = pow2(t)
    return scale + scale * (r + r2 * short_tail(r, r2))


cdef inline real ln2_high(real unused) noexcept nogil:
    return <real>0.693359375 if real is float else <real>0.693147180369123816490


cdef inline real ln2_low(real unused) noexcept nogil:
    return <real>-2.12194440054690583e-4 if real is float else <real>1.90821492927058770002e-10


# ---- exp as a quotient -----------------------------------------------------------------------------------------------
# exp(r) = (C + r) / (C - r) with C = r coth(r / 2) = 2 + r^2 / 6 - ..., an even function: half as many terms as exp has.
# What divides anyway, as a sigmoid does, divides by C - r and needs no other division:
#     exp(x) = over / under,   sigmoid(x) = over / (under + over),   over = 2^n (C + r),   under = C - r
# Both come times 0.8 2^64 (2^512 for double): 0.8, so that neither lies a little above a power of 2, where roundings weigh
# most; the power, so that `over` is a normal number where the result is not.

cdef inline inlined cut_exponent(real x, real* r, real* t) noexcept nogil:
    """x = n ln 2 + r, t = n + plain_rounder."""
    cdef real LOG2E = 1.4426950408889634
    cdef real n
    t[0] = x * LOG2E + plain_rounder(x)
    n = t[0] - plain_rounder(x)
    r[0] = (x - n * ln2_high(x)) - n * ln2_low(x)


cdef inline real scaled(real x, real t) noexcept nogil:
    """2^n x; a NaN may turn into a number."""
    if real is float:
        return minnet_scaled_f32(x, t)
    else:
        return minnet_scaled_f64(x, t)


cdef inline inlined exp_quotient(real r, real t, real* over, real* under, real* rest) noexcept nogil:
    """exp(x) = over / (under + rest) from what `cut_exponent` gives; the rest is what rounding has taken from `under`.

    The error of C, 2^-24 (2^-53) beside r, counts r / 2 times in the quotient. Of a NaN `under` is one, whatever `over` is.
    """
    cdef real UP = 18446744073709551616.0 if real is float else 1.3407807929942597e154
    cdef real r2 = r * r
    cdef real C, part = <real>0.8 * UP * r
    if real is float:
        C = <real>1.6 * UP + r2 * (<real>0.13333294 * UP - r2 * (<real>0.0022127898 * UP))
    else:
        C = 1.6 * UP + r2 * (0.13333333333333244 * UP - r2 * (0.0022222222221357554 * UP - r2 * (
            5.29100500022124e-05 * UP - r2 * (1.3227069852186445e-06 * UP - r2 * (3.308842383610868e-08 * UP)))))
    over[0] = scaled(C + part, t)
    under[0] = C - part
    rest[0] = (C - under[0]) - part


cdef inline real exp2_shifted(real f) noexcept nogil:
    """2^f unshift for |f| <= 1/2; relative error 2e-9 (float), 3.4e-18 (double)."""
    cdef real DOWN = unshift(f)
    cdef real y
    if real is float:
        y = <real>0.0013398874 * DOWN + f * (<real>0.00015353362 * DOWN)
        y = <real>0.055503324 * DOWN + f * (<real>0.009618437 * DOWN + f * y)
    else:
        y = 7.073783248503134e-09 * DOWN + f * (4.434771298200377e-10 * DOWN)
        y = 1.3215435282308488e-06 * DOWN + f * (1.0178199571842138e-07 * DOWN + f * y)
        y = 0.0001540353045711209 * DOWN + f * (1.5252733493127489e-05 * DOWN + f * y)
        y = 0.00961812910759412 * DOWN + f * (0.001333355814677462 * DOWN + f * y)
        y = 0.055504108664820084 * DOWN + f * y
    return DOWN + f * (<real>0.6931471805599453 * DOWN + f * (<real>0.2402265069591013 * DOWN + f * y))


# ---- log1p ---------------------------------------------------------------------------------------------------------
# log(1 + y) = k ln 2 + log(1 + f), log(1 + f) = 2 atanh(s) = s (2 + R(s^2)), s = f / (2 + f), with the terms arranged as
# in FreeBSD's s_log1p.c, so that f itself enters unrounded. k is chosen so that (1 + y) / 2^k is in [0.75, 1.5]; then
# f = y / 2^k + (1 / 2^k - 1), which is y itself for k = 0: small y keep all their digits.

cdef inline real log1p_rest(real f, real low) noexcept nogil:
    """-(low + log(1 + f)) for -1/4 <= f <= 1/2; relative error of R: 2.9e-9 (float), 1.4e-19 (double)."""
    cdef real s = f / (<real>2 + f)
    cdef real z = s * s
    cdef real half_square = <real>0.5 * f * f
    cdef real tail, z2
    if real is float:
        tail = <real>0.6666695 + z * (<real>0.39957824 + z * <real>0.30360562)
    else:
        z2 = z * z
        tail = (0.666666666666666 + 0.4000000000005594 * z) + z2 * (0.28571428556007317 + 0.22222224276187294 * z)
        tail = tail + z2 * z2 * (
            (0.18181667089399284 + 0.1539107239925067 * z) + z2 * (0.13174262347775498 + 0.1383856345321007 * z))
    return (half_square - (s * (half_square + tail * z) + low)) - f


cdef inline real log1p_reduced(real f, real k) noexcept nogil:
    """k ln 2 + log(1 + f)."""
    return k * ln2_high(k) - log1p_rest(f, k * ln2_low(k))


cdef inline real log1p_unit(real y) noexcept nogil:
    """log(1 + y) for 0 <= y <= 1."""
    cdef real high = ln2_high(y) if y > <real>0.5 else <real>0
    cdef real low = ln2_low(y) if y > <real>0.5 else <real>0
    return high - log1p_rest((y - <real>1) * <real>0.5 if y > <real>0.5 else y, low)


cdef inline real double_atanh(real s) noexcept nogil:
    """log((2 + s) / (2 - s)) for 0 <= s <= 2/3, in fewer operations than log1p, and 1.4 eps worse.

    log(1 + y) is that of s = y / (1 + y / 2), for 0 <= y <= 1 in one piece. Error: 4.5e-9 (float), 4.9e-17 (double).
    """
    cdef real z = s * s
    cdef real tail
    if real is float:
        tail = <real>0.08333302 + z * (<real>0.012506727 + z * (<real>0.002187641 + z * <real>0.0005471091))
    else:
        tail = 0.08333333333334712 + z * (0.012499999998765533 + z * (0.0022321428951559566 + z * (
            0.00043402720517064856 + z * (8.878327182253858e-05 + z * (1.8755243641938783e-05 + z * (
                4.146213838359707e-06 + z * (7.555256085348777e-07 + z * 3.3835885916325825e-07)))))))
    return s + s * z * tail


cdef inline real exponent(real u) noexcept nogil:
    if real is float:
        return minnet_exponent_f32(u)
    else:
        return minnet_exponent_f64(u)


cdef inline real log1p(real y) noexcept nogil:
    """log(1 + y) for 0 <= y < 2^63."""
    cdef real u = <real>1 + y
    cdef real k = exponent(u)
    cdef real s = pow2(rounder(k) - k)
    return log1p_reduced(y * s + (s - <real>1), k)


# ---- quotients -----------------------------------------------------------------------------------------------------

cdef inline real head(real x) noexcept nogil:
    if real is float:
        return minnet_head_f32(x)
    else:
        return minnet_head_f64(x)


cdef inline inlined reciprocal(real a, real a_low, real* q, real* q_low) noexcept nogil:
    """1 / (a + a_low) as a sum of two: the rounded quotient, and its residue, from a product of halves that is exact.

    Dekker's product instead of fma(), which is a library call, and slow, where the CPU lacks it.
    """
    cdef real r = <real>1 / a
    cdef real a1 = head(a), r1 = head(r)
    cdef real a2 = a - a1, r2 = r - r1
    cdef real residue = (<real>1 - r1 * a1) - (r2 * a1 + r * (a2 + a_low))
    q[0] = r
    q_low[0] = residue * r


# ---- activations and their slopes ----------------------------------------------------------------------------------
# All from e = exp(-|x|), which never overflows. The slope of a saturated unit is kept to the last digit: from the rounded
# output it would be 0 as soon as the output rounds to 1.

cdef inline real low_bound(real unused) noexcept nogil:
    """What is not above it has the exponential 0."""
    return minnet_low_f32 if real is float else minnet_low_f64


cdef inline real high_bound(real unused) noexcept nogil:
    """What is not below it has the sigmoid 1."""
    return minnet_high_f32 if real is float else minnet_high_f64


cdef inline real slope_bound(real unused) noexcept nogil:
    """120 or 750: what is not below it has a sigmoid of slope 0, and its 2^(60 - n) is a normal number."""
    return minnet_high_f32 * <real>3 if real is float else minnet_high_f64 * <real>18.75


cdef inline real at_least(real x, real low) noexcept nogil:
    return low if low > x else x


cdef inline real at_most(real x, real high) noexcept nogil:
    return high if high < x else x


cdef inline real sigmoid_cut(real r, real t) noexcept nogil:
    """1 / (1 + exp(-x)) of a bounded x, from what `cut_exponent` gives.

    over / (under + over) alone would miss 2 ulp, 2.26 of them: with the rest of `under` it is 1.8.
    """
    cdef real over, under, rest
    exp_quotient(r, t, &over, &under, &rest)
    return over / (under + (over + rest))


cdef inline real sigmoid(real x) noexcept nogil:
    """1 / (1 + exp(-x))."""
    cdef real r, t
    cut_exponent(at_most(at_least(x, low_bound(x)), high_bound(x)), &r, &t)
    return sigmoid_cut(r, t)


cdef inline real sigmoid_beside(real x) noexcept nogil:
    """The same beside a softplus, whose exponential e = exp(-|x|) it shares: w = e / (1 + e) for x < 0, 1 - w for x > 0.

    The quotient by the rounded 1 + e misses 2 ulp. w = e - e w is the same number, and what w on the right has lost is
    multiplied by e / (1 + e) <= 1/2: 1.65 ulp.
    """
    cdef real e = exp(-magnitude(x))
    cdef real w = e - e * (e / (<real>1 + e))
    return w if x < 0 else <real>1 - w


cdef inline real slope_top(real unused) noexcept nogil:
    """t of n = 60, where a sigmoid is 1. Read before a loop: gcc would read it anew after each store, and find no vectors."""
    return plain_rounder(unused) + <real>1.5 * high_bound(unused)


cdef inline inlined sigmoid_cut_slope(real r, real t, real top, real* y, real* slope) noexcept nogil:
    """The same for x up to slope_bound, with the slope sigmoid(x) sigmoid(-x).

    2^n is cut off at `top`, and what was cut off goes to the slope.
    """
    cdef real kept = at_most(t, top)
    cdef real over, under, rest, S
    exp_quotient(r, kept, &over, &under, &rest)
    S = under + (over + rest)
    y[0] = over / S
    slope[0] = y[0] * (under / S) * pow2(rounder(t) + (kept - t))


cdef inline real sigmoid_slope(real e) noexcept nogil:
    """sigmoid(x) sigmoid(-x) = e / (1 + e)^2, from e = exp(-|x|)."""
    return e / ((<real>1 + e) * (<real>1 + e))


cdef inline real softplus(real x) noexcept nogil:
    """log(1 + exp(x)); its slope is sigmoid(x)."""
    return (x if x > 0 else <real>0) + log1p_unit(exp(-magnitude(x)))


cdef inline real log_sigmoid(real x) noexcept nogil:
    """-softplus(-x); its slope is sigmoid(-x)."""
    return (x if x < 0 else <real>0) - log1p_unit(exp(-magnitude(x)))


cdef inline real tanh(real x) noexcept nogil:
    """t / (2 - t), t = 1 - exp(-2 |x|), with the sign of x; t comes from expm1, which does not cancel."""
    cdef real LOWEST = -80.0
    cdef real LOG2E = 1.4426950408889634
    cdef real LN2_HIGH = 0.693359375 if real is float else 0.693147180369123816490
    cdef real LN2_LOW = -2.12194440054690583e-4 if real is float else 1.90821492927058770002e-10
    cdef real u = <real>-2 * magnitude(x)
    cdef real n, r, r2, p, t, low, c, q, scale
    u = LOWEST if LOWEST > u else u
    n = (u * LOG2E + rounder(u)) - rounder(u)
    r = (u - n * LN2_HIGH) - n * LN2_LOW
    r2 = r * r
    p = r + r2 * expm1_tail(r, r2)
    scale = pow2(n + rounder(u))
    t = (<real>1 - scale) - scale * p
    low = ((<real>1 - scale) - t) - scale * p
    c = <real>2 - t
    q = t / c
    q = q + (low - q * (((<real>2 - c) - t) - low)) * (<real>1 + q) * <real>0.5
    return with_sign(q, x)


cdef inline real tanh_slope(real x) noexcept nogil:
    """1 - tanh(x)^2 = 4 e / (1 + e)^2, e = exp(-2 |x|)."""
    cdef real e = exp(<real>-2 * magnitude(x))
    return <real>4 * e / ((<real>1 + e) * (<real>1 + e))


# ---- powers of probabilities ---------------------------------------------------------------------------------------

# Squares, roots and their products cost little, and round once or twice: u^1.5 = u sqrt(u). Any other power is
# exp(g log(u)), where neither the logarithm nor the product is rounded as a whole: with the rounded one the error is
# |g log(u)| / 2 ulp. Two loops, since one is bound by the length of its chain of operations.

cdef inline bint has_roots(double g) noexcept nogil:
    """Whether u^g is a product of u and sqrt(u)."""
    return g == 0.5 or g == 1 or g == 1.5 or g == 2 or g == 3


cdef inline bint is_rooted(double g) noexcept nogil:
    return g == 0.5 or g == 1.5


cdef inline inlined root_power(real u, double g, bint rooted, real* power) noexcept nogil:
    """u^g where `has_roots`: u or, if `rooted`, sqrt(u), times u as often as it takes, each time by u or by 1.

    One loop does for all g with roots, and one for all without.
    """
    cdef real once = <real>1.4 - <real>g, twice = <real>2.9 - <real>g
    power[0] = (root(u) if rooted else u) * chosen(once, <real>1, u)
    if not rooted:
        power[0] *= chosen(twice, <real>1, u)


cdef inline inlined root_powers(const real* u, real* power, Py_ssize_t n, double g) noexcept nogil:
    """The same for n of them."""
    cdef Py_ssize_t j
    if is_rooted(g):
        for j in range(n):
            root_power(u[j], g, True, &power[j])
    else:
        for j in range(n):
            root_power(u[j], g, False, &power[j])


cdef inline inlined cut_log(real u, real* k, real* rest) noexcept nogil:
    """log(u) = k ln2_high + rest for 0 < u. Below the least normal number, u counts as that."""
    cdef real LEAST = 1.1754943508222875e-38 if real is float else 2.2250738585072014e-308
    cdef real v = LEAST if LEAST > u else u
    k[0] = exponent(v)
    rest[0] = -log1p_rest(v * pow2(rounder(v) - k[0]) - <real>1, k[0] * ln2_low(v))


cdef inline inlined exp_product(double gamma, real k, real rest, real* y) noexcept nogil:
    """exp(gamma (k ln2_high + rest)) = 2^n exp(r), r = (gamma k - n) ln2_high + gamma rest - n ln2_low.

    k and n have few digits, and so has the first half of gamma: what is large cancels before it is rounded.
    """
    cdef real LOG2E = 1.4426950408889634
    cdef real LN2_LOW = -2.12194440054690583e-4 if real is float else 1.90821492927058770002e-10
    cdef real SHIFTED = 12583103.0 if real is float else 6755399441057279.0
    cdef real g = gamma
    cdef real g1 = head(g)
    cdef real g2 = gamma - g1
    cdef real x = g * (k * ln2_high(k) + rest)
    cdef real t = x * LOG2E + SHIFTED
    cdef real n = t - SHIFTED
    cdef real r = ((g1 * k - n) + g2 * k) * ln2_high(k) + (g * rest - n * LN2_LOW)
    y[0] = <real>0 if lowest(x) > x else exp_reduced(r, t) * unshift(x)


cdef inline inlined powers(const real* u, real* power, real* rest, Py_ssize_t n, double g) noexcept nogil:
    """u^g for 0 <= u <= 1, or what rounds to 1, and g > 0; `rest` is room for n numbers."""
    cdef Py_ssize_t j
    if has_roots(g):
        root_powers(u, power, n, g)
        return
    for j in range(n):
        cut_log(u[j], &power[j], &rest[j])
    for j in range(n):
        exp_product(g, power[j], rest[j], &power[j])
        power[j] = <real>0 if u[j] == 0 else power[j]


# ---- exp and log of any number -------------------------------------------------------------------------------------

from libc.math cimport INFINITY


cdef inline real exp_any(real x) noexcept nogil:
    """exp(x); for x > 0 the inverse of exp(-x), taken before that could be subnormal."""
    cdef real e = exp_shifted(-magnitude(x), <real>0)
    return (<real>1 / e) / unshift(x) if x > 0 else e * unshift(x)


cdef inline real log(real u) noexcept nogil:
    """log(u) for u >= 0; log(0) = -inf.

    u is brought into the middle of the exponents, so that subnormal numbers keep their digits and 2^-k is normal. Then
    u / 2^k is in [0.75, 1.5), and u / 2^k - 1 is exact.
    """
    cdef real LOW = 1e-20 if real is float else 1e-200
    cdef real HIGH = 1e20 if real is float else 1e200
    cdef real SHIFT = 64.0 if real is float else 512.0
    cdef real DOWN = 5.421010862427522e-20 if real is float else 7.458340731200207e-155
    cdef real UP = 18446744073709551616.0 if real is float else 1.3407807929942597e154
    cdef real v = u * (UP if u < LOW else DOWN if u > HIGH else <real>1)
    cdef real k = exponent(v)
    cdef real y = log1p_reduced(
        v * pow2(rounder(k) - k) - <real>1, k + (-SHIFT if u < LOW else SHIFT if u > HIGH else <real>0))
    y = y if u < INFINITY else u
    return -INFINITY if u == 0 else y
