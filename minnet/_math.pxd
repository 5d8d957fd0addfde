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
    ctypedef void inlined "MINNET_INLINE void"  # a helper of clones: left out of line, it would be baseline code

ctypedef fused real:
    float
    double


cdef inline real magnitude(real x) noexcept nogil:
    if real is float:
        return fabsf(x)
    else:
        return fabs(x)


cdef inline real root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return sqrt(x)


# ---- exp -----------------------------------------------------------------------------------------------------------
# exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, exp(r) = 1 + r + r^2 q(r).
# Rounding: x + 1.5 * 2^(mantissa bits) is x rounded to an integer n, and its low bits hold n, which pow2 turns into 2^n.
# ln 2 is subtracted in two parts, the first with so many trailing zeros that n times it is exact (Cody and Waite 1980).

cdef inline real rounder(real unused) noexcept nogil:
    return <real>12582912.0 if real is float else <real>6755399441055744.0


cdef inline real pow2(real t) noexcept nogil:
    """2^n for t = n + rounder; n must give a normal number."""
    if real is float:
        return minnet_pow2_f32(t)
    else:
        return minnet_pow2_f64(t)


cdef inline real expm1_tail(real r) noexcept nogil:
    """q(r) for |r| <= ln 2 / 2; error relative to exp: 3.1e-9 (float), 3.6e-18 (double)."""
    cdef real q
    if real is float:
        q = <real>0.0013814613
        q = q * r + <real>0.00836871
        q = q * r + <real>0.04166839
        q = q * r + <real>0.16666521
        q = q * r + <real>0.49999994
    else:
        q = 2.5000072292151244e-08
        q = q * r + 2.7630233914958636e-07
        q = q * r + 2.7557586266408486e-06
        q = q * r + 2.4801493136197254e-05
        q = q * r + 0.00019841269506779664
        q = q * r + 0.001388888894359769
        q = q * r + 0.008333333333494333
        q = q * r + 0.041666666666530267
        q = q * r + 0.16666666666666413
        q = q * r + 0.5000000000000011
    return q


cdef inline real unshift(real unused) noexcept nogil:
    """2^-64 or 2^-512, the inverse of the power that keeps exponentials out of the subnormal range."""
    return <real>5.421010862427522e-20 if real is float else <real>7.458340731200207e-155


cdef inline real exp_shifted(real x, real low) noexcept nogil:
    """exp(x + low) / unshift for x <= 0 and |low| <= ulp(x); 0 where even the shifted number would be subnormal.

    Sums of exponentials are made of these and unshifted once: rounded to subnormal numbers each, they would lose digits,
    and many that are too small for one subnormal number can have a sum that is not.
    """
    cdef real LOWEST = -131.0 if real is float else -1060.0
    cdef real LOG2E = 1.4426950408889634
    cdef real LN2_HIGH = 0.693359375 if real is float else 0.693147180369123816490
    cdef real LN2_LOW = -2.12194440054690583e-4 if real is float else 1.90821492927058770002e-10
    cdef real SHIFT = 64.0 if real is float else 512.0
    cdef real t, n, high, c, r, tail, p, bounded
    bounded = LOWEST if LOWEST > x else x
    t = bounded * LOG2E + rounder(x)
    n = t - rounder(x)
    high = bounded - n * LN2_HIGH
    c = n * LN2_LOW - low
    r = high - c
    tail = ((high - r) - c) + r * r * expm1_tail(r)
    p = <real>1 + r
    p = p + (((<real>1 - p) + r) + tail)
    p = p * pow2(t + SHIFT)
    return <real>0 if LOWEST > x else p


cdef inline real exp(real x) noexcept nogil:
    """exp(x) for x <= 0, the only exp that a stable loss needs."""
    return exp_shifted(x, <real>0) * unshift(x)


cdef inline real exp_difference(real a, real b) noexcept nogil:
    """exp(a - b) / unshift for b >= a, as exact as exp itself: the rounding error of a - b goes into the reduction.

    Without it the error of the result is |a - b| / 2 ulp. The error term is Knuth's TwoSum; it is NaN where a is -inf,
    and dropped there, where exp is 0 anyway.
    """
    cdef real LOWEST = -131.0 if real is float else -1060.0
    cdef real d = a - b
    cdef real b_part = d - a
    cdef real low = (a - (d - b_part)) - (b + b_part)
    return exp_shifted(d, <real>0 if LOWEST > d else low)


# ---- log1p ---------------------------------------------------------------------------------------------------------
# log(1 + y) = k ln 2 + log(1 + f), log(1 + f) = 2 atanh(s) = s (2 + R(s^2)), s = f / (2 + f), with the terms arranged as
# in FreeBSD's s_log1p.c, so that f itself enters unrounded. k is chosen so that (1 + y) / 2^k is in [0.75, 1.5]; then
# f = y / 2^k + (1 / 2^k - 1), which is y itself for k = 0: small y keep all their digits.

cdef inline real log1p_reduced(real f, real k) noexcept nogil:
    """k ln 2 + log(1 + f) for -1/4 <= f <= 1/2; relative error of R: 2.9e-9 (float), 1.4e-19 (double)."""
    cdef real LN2_HIGH = 0.693359375 if real is float else 0.693147180369123816490
    cdef real LN2_LOW = -2.12194440054690583e-4 if real is float else 1.90821492927058770002e-10
    cdef real s = f / (<real>2 + f)
    cdef real z = s * s
    cdef real half_square = <real>0.5 * f * f
    cdef real tail
    if real is float:
        tail = <real>0.30360562
        tail = tail * z + <real>0.39957824
        tail = tail * z + <real>0.6666695
    else:
        tail = 0.1383856345321007
        tail = tail * z + 0.13174262347775498
        tail = tail * z + 0.1539107239925067
        tail = tail * z + 0.18181667089399284
        tail = tail * z + 0.22222224276187294
        tail = tail * z + 0.28571428556007317
        tail = tail * z + 0.4000000000005594
        tail = tail * z + 0.666666666666666
    return k * LN2_HIGH - ((half_square - (s * (half_square + tail * z) + k * LN2_LOW)) - f)


cdef inline real log1p_unit(real y) noexcept nogil:
    """log(1 + y) for 0 <= y <= 1."""
    return log1p_reduced((y - <real>1) * <real>0.5 if y > <real>0.5 else y, <real>1 if y > <real>0.5 else <real>0)


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
    cdef real residue = ((<real>1 - r1 * a1) - (r1 * a2 + r2 * a1)) - (r2 * a2 + r * a_low)
    q[0] = r
    q_low[0] = residue * r


# ---- activations and their slopes ----------------------------------------------------------------------------------
# All from e = exp(-|x|), which never overflows. The slope of a saturated unit is kept to the last digit: from the rounded
# output it would be 0 as soon as the output rounds to 1.

cdef inline real sigmoid(real x) noexcept nogil:
    """1 / (1 + exp(-x)).

    (c + l) stands for 1 + e unrounded: the quotient by c alone misses 2 ulp; 1 / (1 + e) in the correction is the
    quotient itself, or one minus it.
    """
    cdef real e = exp(-magnitude(x))
    cdef real c = <real>1 + e
    cdef real l = (<real>1 - c) + e
    cdef real q = (e if x < 0 else <real>1) / c
    return q - q * l * (<real>1 - q if x < 0 else q)


cdef inline real sigmoid_slope(real x) noexcept nogil:
    """sigmoid(x) sigmoid(-x) = e / (1 + e)^2."""
    cdef real e = exp(-magnitude(x))
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
    cdef real n, r, p, t, low, c, q, scale
    u = LOWEST if LOWEST > u else u
    n = (u * LOG2E + rounder(u)) - rounder(u)
    r = (u - n * LN2_HIGH) - n * LN2_LOW
    p = r + r * r * expm1_tail(r)
    scale = pow2(n + rounder(u))
    t = (<real>1 - scale) - scale * p
    low = ((<real>1 - scale) - t) - scale * p
    c = <real>2 - t
    q = t / c
    q = q + (low - q * (((<real>2 - c) - t) - low)) * (<real>1 + q) * <real>0.5
    if real is float:
        return copysignf(q, x)
    else:
        return copysign(q, x)


cdef inline real tanh_slope(real x) noexcept nogil:
    """1 - tanh(x)^2 = 4 e / (1 + e)^2, e = exp(-2 |x|)."""
    cdef real e = exp(<real>-2 * magnitude(x))
    return <real>4 * e / ((<real>1 + e) * (<real>1 + e))
