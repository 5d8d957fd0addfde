"""Print the polynomial coefficients that minnet/_math.pxd carries, and their errors.

    python tools/minimax.py          (needs mpmath)

Each is the minimax polynomial of a smooth kernel function, found by Remez's exchange in 60 digits and
rounded, lowest power first, to the floats of the target type.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 60
HALF_LN2 = mp.log(2) / 2


def expm1_tail(r):
    """(exp(r) - 1 - r) / r^2, so that exp(r) = 1 + r + r^2 q(r)."""
    if abs(r) < mp.mpf("1e-12"):
        return mp.mpf(1) / 2 + r / 6 + r * r / 24
    return (mp.expm1(r) - r) / r**2


def atanh_tail(z):
    """(2 atanh(s) - 2 s) / s with z = s^2, so that log((1 + s) / (1 - s)) = s (2 + tail(z))."""
    if z < mp.mpf("1e-12"):
        return 2 * z / 3 + 2 * z * z / 5
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s


def coth_tail(z):
    """0.8 (r coth(r / 2) - 2) / r^2 with z = r^2, so that exp(r) = (C + r) / (C - r) with C = 2 + r^2 tail(z) / 0.8."""
    if z < mp.mpf("1e-8"):
        return mp.mpf("0.8") * (mp.mpf(1) / 6 - z / 360 + z * z / 15120)
    r = mp.sqrt(z)
    return mp.mpf("0.8") * (r * mp.coth(r / 2) - 2) / z


def exp2_tail(f):
    """(2^f - 1) / f."""
    if abs(f) < mp.mpf("1e-12"):
        return mp.log(2) + f * mp.log(2) ** 2 / 2
    return (mp.mpf(2) ** f - 1) / f


def double_atanh_tail(z):
    """(2 atanh(s / 2) - s) / s^3 with z = s^2."""
    if z < mp.mpf("1e-12"):
        return mp.mpf(1) / 12 + z / 80
    s = mp.sqrt(z)
    return (2 * mp.atanh(s / 2) - s) / (s * z)


def remez(f, low, high, degree, weight, rounds=12):
    """Coefficients p_0 ... p_degree that minimise max |weight(x) (p(x) - f(x))| over [low, high], and that maximum."""
    n = degree + 2
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * n)) for k in reversed(range(n))]
    grid = [low + (high - low) * k / 4000 for k in range(4001)]
    values = [(x, f(x), weight(x)) for x in grid]
    for _ in range(rounds):
        system = mp.matrix(n, n)
        for i, x in enumerate(nodes):
            for k in range(degree + 1):
                system[i, k] = x**k
            system[i, degree + 1] = (-1) ** i / weight(x)
        solution = mp.lu_solve(system, mp.matrix([f(x) for x in nodes]))
        p = [solution[k] for k in range(degree + 1)]
        errors = [w * (mp.polyval(p[::-1], x) - y) for x, y, w in values]
        nodes = alternating_extrema(grid, errors)
        if len(nodes) != n:
            raise RuntimeError(f"remez: {len(nodes)} extrema where {n} are needed; start from other nodes")
    return p, max(abs(e) for e in errors)


def alternating_extrema(grid, errors):
    """The largest |error| of each run of one sign."""
    best = [0]
    for i in range(1, len(grid)):
        if mp.sign(errors[i]) == mp.sign(errors[best[-1]]):
            if abs(errors[i]) > abs(errors[best[-1]]):
                best[-1] = i
        else:
            best.append(i)
    return [grid[i] for i in best]


def show(title, coefficients, error, dtype):
    print(f"# {title}: largest error {mp.nstr(error, 3)}")
    for c in coefficients:
        print(f"    {dtype(c)!r}")


def main():
    # exp: the error of r^2 q(r) relative to exp(r).
    def weight(r):
        return r * r / mp.exp(r) + mp.mpf("1e-30")

    for dtype, degree in ((np.float32, 4), (np.float64, 9)):
        p, error = remez(expm1_tail, -HALF_LN2, HALF_LN2, degree, weight)
        show(f"exp, {dtype.__name__}", p, error, dtype)

    # The same as a quotient: an error d of C is one of d 2 r / (C^2 - r^2) relative to it.
    def quotient_weight(z):
        r = mp.sqrt(z)
        C = r * mp.coth(r / 2)
        return z * 2 * r / (C * C - r * r) / mp.mpf("0.8")

    for dtype, degree in ((np.float32, 1), (np.float64, 4)):
        p, error = remez(coth_tail, HALF_LN2**2 / 10**6, HALF_LN2**2, degree, quotient_weight)
        show(f"exp as a quotient, times 0.8, {dtype.__name__}", p, error, dtype)

    # 2^f: relative error.
    half = mp.mpf(1) / 2
    for dtype, degree in ((np.float32, 5), (np.float64, 10)):
        p, error = remez(exp2_tail, -half, half, degree, lambda f: abs(f) / mp.mpf(2) ** f + mp.mpf("1e-30"))
        show(f"exp2, {dtype.__name__}", p, error, dtype)

    # log(1 + y), s = y / (1 + y / 2) <= 2/3: the error of s^3 tail relative to the logarithm.
    for dtype, degree in ((np.float32, 3), (np.float64, 8)):
        high = mp.mpf(4) / 9
        p, error = remez(double_atanh_tail, high / 10**6, high, degree, lambda z: z / (1 + z * double_atanh_tail(z)))
        show(f"double_atanh, {dtype.__name__}", p, error, dtype)

    # log1p: f = y for y <= 1/2 and (y - 1) / 2 above, so that |s| = |f / (2 + f)| <= 0.2; tail(z) = z (p0 + p1 z ...).
    high = mp.mpf("0.04")
    for dtype, degree in ((np.float32, 2), (np.float64, 7)):
        p, error = remez(lambda z: atanh_tail(z) / z, high / 10**6, high, degree, lambda z: z / 2)
        show(f"log1p, {dtype.__name__}", p, error, dtype)


if __name__ == "__main__":
    main()
