"""Entropy and what belongs to it, of distributions over the last axis: in nats, or in bits with ``base=2``.

All is computed in float64 from the numbers as they are given: rows are checked, never clipped or normalized. 0 log 0 is
0, and what is impossible under q but not under p costs inf. Leading axes are broadcast.
"""

import math

import numpy as np

from minnet._checks import bad_value, number, real_array, words

__all__ = ["cross_entropy", "entropy", "js_divergence", "kl_divergence", "perplexity"]

TOLERANCE = 1e-5  # how far from 1 a row may sum: a softmax in float32 over 100,000 classes stays within it
SERIES = 17  # terms that reach 2^-53 at u = -1/2, where the ratio of two of them is nearly 1/9


def entropy(p, *, base=None):
    """H(p) = -sum_k p_k log p_k, the least mean length of a code for draws from p.

    Parameters
    ----------
    p : array_like, shape (..., C)
        Distributions over the last axis: numbers in [0, 1] whose sum is within 1e-5 of 1, which the softmax of float32
        logits is. float16 must be normalized anew.
    base : float above 1, optional
        Of the logarithm: 2 for bits. e, for nats, unless it is given.

    Returns
    -------
    float, or ndarray of the leading axes
        float64, in [0, log C].

    Raises
    ------
    ValueError
        If a number is outside [0, 1] or NaN, or a row does not sum to 1 (the row and its sum are named).
    TypeError
        If `p` does not hold real numbers, or `base` is none.

    References
    ----------
    T. M. Cover and J. A. Thomas, Elements of Information Theory, 2006, chapter 2.
    """
    p = _distributions("entropy", "p", p)
    return _in_base("entropy", base, _total(_times_log(p, p)))


def cross_entropy(p, q, *, base=None):
    """H(p, q) = -sum_k p_k log q_k = H(p) + KL(p || q), the mean length when draws from p are coded as if from q.

    Parameters, result and errors as in `kl_divergence`. For the loss of a classifier see `functional.cross_entropy`: it
    takes logits, and keeps the digits that probabilities near 0 or 1 have lost.
    """
    p, q = _two("cross_entropy", p, q)
    return _in_base("cross_entropy", base, _total(_times_log(p, q)))


def kl_divergence(p, q, *, base=None):
    """KL(p || q) = sum_k p_k log(p_k / q_k), what it costs to take draws from p for draws from q.

    Summed as p log(p / q) - p + q, whose additions cancel over rows that sum to 1: no term is negative, and for q near
    p each is p u^2 / 2 - ... with u = q / p - 1, never a difference of logarithms. The relative error is a few eps,
    however small the divergence.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        Distributions, as in `entropy`, over the same classes; leading axes are broadcast.
    base : float above 1, optional
        Of the logarithm: 2 for bits. e, for nats, unless it is given.

    Returns
    -------
    float, or ndarray of the leading axes
        float64, not negative; inf where some q_k = 0 and p_k > 0.

    Raises
    ------
    ValueError
        If a number is outside [0, 1] or NaN, a row does not sum to 1, or the shapes disagree.
    TypeError
        If `p` or `q` does not hold real numbers, or `base` is none.

    References
    ----------
    S. Kullback and R. A. Leibler, On information and sufficiency, 1951.
    """
    p, q = _two("kl_divergence", p, q)
    return _in_base("kl_divergence", base, _kl_terms(p, q).sum(-1))


def js_divergence(p, q, *, base=None):
    """JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2: symmetric, and finite for any two distributions.

    In [0, log 2]: 0 for equal ones, log 2 for those that share no class. Parameters and errors as in `kl_divergence`.

    References
    ----------
    J. Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    p, q = _two("js_divergence", p, q)
    return _in_base("js_divergence", base, np.minimum(_js_terms(p, q).sum(-1), math.log(2)))


def perplexity(p, q=None):
    """exp(H(p)) or exp(H(p, q)): how many equally likely classes would be as uncertain; the same in every base.

    Parameters and errors as in `kl_divergence`; in [1, C] for p alone.
    """
    p, q = (_distributions("perplexity", "p", p),) * 2 if q is None else _two("perplexity", p, q)
    with np.errstate(over="ignore"):
        return np.exp(_total(_times_log(p, q)))


# ---- terms ----


def _total(terms):
    """-sum(terms), where no certain thing is -0.0."""
    return 0.0 - terms.sum(-1)


@np.errstate(divide="ignore", under="ignore")
def _times_log(p, q):
    """The terms p log q; 0 where p = 0, whatever q is."""
    return np.multiply(p, np.log(q), out=np.zeros(np.broadcast_shapes(p.shape, q.shape)), where=p > 0)


@np.errstate(divide="ignore", under="ignore")
def _kl_terms(p, q):
    """The terms p log(p / q) - p + q = p (u - log(1 + u)) with u = q / p - 1."""
    divisor = np.where(p > 0, p, 1)
    change = q - p
    near = np.abs(change) <= p / 2  # the difference is exact there
    u = np.where(near, change, 0) / divisor
    far = change - p * np.where(near | (p == 0), 0, _log_ratio(q, divisor))
    return np.where(near, p * _u_minus_log1p(u), far)


def _log_ratio(q, p):
    """log(q / p) for p > 0, where the quotient itself may overflow or be subnormal."""
    (q, q_power), (p, p_power) = np.frexp(q), np.frexp(p)
    return np.log(q / p) + (q_power - p_power) * math.log(2)


def _u_minus_log1p(u):
    """What log(1 + u) lacks of u, for |u| <= 1/2.

    With r = u / (2 + u), log(1 + u) = 2 atanh(r) = 2 (r + r^3 / 3 + r^5 / 5 + ...), and u - 2 r = u r: nothing cancels.
    """
    r = u / (2 + u)
    square, series = r * r, 0
    for k in reversed(range(SERIES)):
        series = series * square + 1 / (2 * k + 3)
    return r * (u - 2 * square * series)


@np.errstate(divide="ignore", under="ignore")
def _js_terms(p, q):
    """(p log(p / m) + q log(q / m)) / 2 with m = (p + q) / 2.

    With d = |q - p| / (p + q) that is m / 2 times (1 + d) log(1 + d) + (1 - d) log(1 - d); for small d, where the two
    cancel, it is written 2 d atanh(d) + log(1 - d^2), about 2 d^2 - d^2.
    """
    both = p + q
    divisor = np.where(both > 0, both, 1)
    d, rest = np.abs(q - p) / divisor, 2 * np.minimum(p, q) / divisor  # rest = 1 - d
    low = np.minimum(d, 0.5)
    near = 2 * low * np.arctanh(low) + np.log1p(-low * low)
    far = (1 + d) * np.log1p(d) + _times_log(rest, rest)
    return both * np.where(d <= 0.5, near, far) / 4


def _in_base(owner, base, nats):
    """`nats` in the unit of logarithms to `base`."""
    if base is None:
        return nats
    with np.errstate(under="ignore"):
        return nats / math.log(number(owner, "base", base, 1, above=True))


# ---- checks ----


def _two(owner, p, q):
    """Two arrays of distributions over the same classes, whose leading axes can be broadcast."""
    p, q = _distributions(owner, "p", p), _distributions(owner, "q", q)
    if p.shape[-1] != q.shape[-1]:
        raise bad_value(owner, "p and q must have the same last axis", (p.shape, q.shape))
    try:
        np.broadcast_shapes(p.shape, q.shape)
    except ValueError:
        raise bad_value(owner, "leading axes of p and q must broadcast", (p.shape, q.shape)) from None
    return p, q


def _distributions(owner, name, p):
    """`p` in float64, its numbers and sums checked."""
    p = real_array(owner, name, p).astype(np.float64, copy=False)
    if p.ndim == 0:
        raise bad_value(owner, f"{name} must have an axis of classes", p[()], "one distribution is a row")
    wrong = np.argwhere(~((p >= 0) & (p <= 1)))
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        raise bad_value(owner, f"{name} must be in [0, 1]", words(f"{p[place]}{_row(place[:-1])}"))
    sums = p.sum(-1)
    wrong = np.argwhere(np.abs(sums - 1) > TOLERANCE)
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        rule, hint = f"rows of {name} must sum to 1", f"{name} / {name}.sum(-1, keepdims=True)"
        raise bad_value(owner, rule, words(f"{sums[place]}{_row(place)}"), hint)
    return p


def _row(place):
    """Which row, for a message: nothing where there is but one."""
    return f" in row {place[0] if len(place) == 1 else place}" if place else ""
