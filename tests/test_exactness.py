"""Exactness: activations, the softmax family and the losses against mpmath with 50 digits, mostly where they saturate.

Errors are counted in units in the last place (ulp) of the result's dtype; where a result is subnormal, an ulp is the
spacing of subnormal numbers.
"""

import math
import subprocess
import sys

import mpmath
import numpy as np
import pytest

import minnet
from minnet import functional as F

mp = mpmath.mp.clone()
mp.dps = 50

DTYPES = ["float32", "float64"]
DIGITS = {"float32": 24, "float64": 53}
LOWEST = {"float32": -149, "float64": -1074}  # exponent of the least subnormal number
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
TINY = {"float32": 2.0**-126, "float64": 2.0**-1022}  # the least normal number
INF, NAN = math.inf, math.nan

by_dtype = pytest.mark.parametrize("dtype", DTYPES)


# ---- measures ----


def ulp(exact, dtype):
    """The distance of floats of `dtype` at `exact`."""
    return mp.ldexp(1, max(mp.frexp(exact)[1] - DIGITS[dtype], LOWEST[dtype]))


def errors(got, exact, dtype):
    """How far each of `got` is from `exact`, in ulp; inf for what is not finite."""
    pairs = zip(np.ravel(got).tolist(), exact, strict=True)
    return [float(abs(mp.mpf(g) - e) / ulp(e, dtype)) if math.isfinite(g) else INF for g, e in pairs]


def assert_within(bound, got, exact, dtype, x):
    """Every error is at most `bound` ulp; the message shows the worst element and the `x` it came from."""
    found = errors(got, exact, dtype)
    assert found
    worst = int(np.argmax(found))
    assert found[worst] <= bound, (
        f"{found[worst]:.3f} ulp at x = {x[worst]!r}: {np.ravel(got)[worst]!r}, not {mp.nstr(exact[worst], 20)}"
    )


def assert_close_in_tail(got, exact, dtype, what):
    """Relative error at most 4 eps; at most one spacing where `exact` is subnormal in `dtype`."""
    for g, e, name in zip(np.ravel(got).tolist(), exact, what, strict=True):
        bound = 4 * EPS[dtype] * abs(e) if abs(e) >= TINY[dtype] else mp.ldexp(1, LOWEST[dtype])
        assert math.isfinite(g), (g, name)
        assert abs(mp.mpf(g) - e) <= bound, f"{g!r}, not {mp.nstr(e, 20)}, for {name}"


def assert_near(got, want, dtype, relative=0, absolute=0):
    """At most so many eps away, relative to `want` and absolutely; a spacing of subnormal numbers is always granted."""
    with np.errstate(under="ignore"):
        bounds = {"rtol": relative * EPS[dtype], "atol": absolute * EPS[dtype] + 2.0 ** LOWEST[dtype]}
        np.testing.assert_allclose(np.asarray(got, np.float64), np.asarray(want, np.float64), **bounds)


# ---- samples ----


def neighbours(x, count, dtype):
    """The `count` floats on either side of `x`, and `x`; `x` must not be near 0."""
    bits = np.array(x, dtype).view(f"i{np.dtype(dtype).itemsize}")
    return (bits + np.arange(-count, count + 1)).view(dtype)


def subnormals(dtype, rng):
    bits = rng.integers(1, 1 << (DIGITS[dtype] - 1), 200).astype(f"u{np.dtype(dtype).itemsize}")
    least = bits[:1] * 0 + 1
    return np.concatenate([bits, least, 2 * least, 3 * least]).view(dtype)


def powers(low, high, count, dtype):
    """`count` numbers from `low` to `high`, equally spaced in their logarithms."""
    with np.errstate(under="ignore"):
        return np.geomspace(low, high, count).astype(dtype)


def random_bits(dtype, rng, count=3000):
    width = np.dtype(dtype).itemsize
    x = rng.integers(0, 256, (count, width), np.uint8).view(f"u{width}").view(dtype).ravel()
    return x[np.isfinite(x)]


# exp turns subnormal, then 0; a sigmoid or tanh rounds to 1, and is no longer looked at; exp's and tanh's argument
# reductions switch; 2^n is cut off at 2^60.
CUTOFFS = {
    "float32": [
        8.66434,
        9.01091,
        16.63553,
        17.32868,
        40.0,
        41.2,
        41.93,
        87.33654,
        88.0,
        88.72284,
        103.27893,
        103.97208,
        104.0,
        104.5,
    ],
    "float64": [
        18.71497,
        19.06155,
        36.7368,
        37.42995,
        40.0,
        41.2,
        41.93,
        708.39642,
        709.78,
        744.44007,
        745.13322,
        746.0,
    ],
}
SWITCHES = [(2 * k + 1) * math.log(2) / 4 for k in (*range(24), 99, 200)]


def region(name, dtype):
    rng = np.random.default_rng(1)
    end = 110 if dtype == "float32" else 760
    with np.errstate(all="ignore"):
        half = {
            "whole range": lambda: np.linspace(0, end, 3001),
            "middle": lambda: np.linspace(0, 20, 3001) + rng.uniform(0, 1e-3, 3001),
            "near 0": lambda: np.concatenate([powers(TINY[dtype], 1, 600, dtype), subnormals(dtype, rng)]),
            "cutoffs": lambda: np.concatenate([neighbours(x, 40, dtype) for x in CUTOFFS[dtype]]),
            "switches": lambda: np.concatenate([neighbours(x, 25, dtype) for x in SWITCHES]),
            "random bits": lambda: random_bits(dtype, rng),
        }[name]().astype(dtype)
        return np.concatenate([half, -half])


REGIONS = ["whole range", "middle", "near 0", "cutoffs", "switches", "random bits"]


def exact_softplus(x):
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


EXACT = {
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": mp.tanh,
    "softplus": exact_softplus,
    "log_sigmoid": lambda x: -exact_softplus(-x),
}
SLOPES = {
    "sigmoid": lambda x: mp.exp(-abs(x)) / (1 + mp.exp(-abs(x))) ** 2,
    "tanh": lambda x: 4 * mp.exp(-2 * abs(x)) / (1 + mp.exp(-2 * abs(x))) ** 2,
    "softplus": EXACT["sigmoid"],
}


# ---- activations ----


@by_dtype
@pytest.mark.parametrize("where", REGIONS)
@pytest.mark.parametrize("name", list(EXACT))
def test_activation_is_within_2_ulp(name, where, dtype):
    x = region(where, dtype)
    y = getattr(F, name)(x)
    assert y.dtype == dtype
    assert_within(2, y, [EXACT[name](mp.mpf(v)) for v in x.tolist()], dtype, x)


@by_dtype
@pytest.mark.parametrize("where", ["whole range", "near 0", "cutoffs", "switches"])
@pytest.mark.parametrize("name", list(SLOPES))
def test_slope_keeps_its_digits_where_the_unit_is_saturated(name, where, dtype):
    x = region(where, dtype)
    slope = F.value_and_slope(name, x)[1]
    assert_within(5, slope, [SLOPES[name](mp.mpf(v)) for v in x.tolist()], dtype, x)


@by_dtype
@pytest.mark.parametrize("name", list(SLOPES))
def test_slope_of_what_is_far_away_is_a_limit(name, dtype):
    x = np.array([105, 119, 120, 130, 131, 150, 746, 749, 750, 751, 1060, 1e4, 1e30, np.finfo(dtype).max, INF], dtype)
    x = x[0 if dtype == "float32" else 6 :]
    np.testing.assert_array_equal(F.value_and_slope(name, -x)[1], np.zeros_like(x))
    np.testing.assert_array_equal(F.value_and_slope(name, x)[1], np.full_like(x, float(name == "softplus")))


@by_dtype
@pytest.mark.parametrize("where", ["whole range", "middle", "cutoffs", "random bits"])
@pytest.mark.parametrize("name", list(SLOPES))
def test_value_beside_the_slope_is_the_value_alone_bit_for_bit(name, where, dtype):
    x = region(where, dtype)
    np.testing.assert_array_equal(F.value_and_slope(name, x)[0], getattr(F, name)(x), strict=True)


@by_dtype
@pytest.mark.parametrize("name", list(EXACT))
def test_some_results_are_subnormal(name, dtype):
    x = np.concatenate([region("near 0", dtype), region("cutoffs", dtype)])
    y = np.abs(getattr(F, name)(x))
    assert np.count_nonzero((y > 0) & (y < TINY[dtype])) > 20


LIMITS = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softplus": (0.0, INF),
    "log_sigmoid": (-INF, 0.0),
    "relu": (0.0, INF),
}


@by_dtype
@pytest.mark.parametrize("length", [2, 33])
@pytest.mark.parametrize("name", list(LIMITS))
def test_limits_at_infinity(name, length, dtype):
    for x, limit in zip((-INF, INF), LIMITS[name], strict=True):
        np.testing.assert_array_equal(getattr(F, name)(np.full(length, x, dtype)), np.full(length, limit, dtype))


@by_dtype
@pytest.mark.parametrize("name", list(LIMITS))
def test_largest_numbers_go_to_the_limits(name, dtype):
    largest = np.finfo(dtype).max
    for x, limit in zip((-largest, largest), LIMITS[name], strict=True):
        want = x if math.isinf(limit) else limit
        assert getattr(F, name)(np.array([x], dtype))[0] == want


@by_dtype
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", list(LIMITS))
def test_nan_gives_nan(name, sign, dtype):
    x = np.zeros(37, dtype)
    x[[3, 20, 36]] = np.copysign(NAN, sign)
    np.testing.assert_array_equal(np.isnan(getattr(F, name)(x)), np.isnan(x))


@by_dtype
def test_values_at_0(dtype):
    zeros = np.array([0.0, -0.0], dtype)
    np.testing.assert_array_equal(F.sigmoid(zeros), [0.5, 0.5])
    np.testing.assert_array_equal(F.softplus(zeros), np.full(2, math.log(2), dtype))
    np.testing.assert_array_equal(F.log_sigmoid(zeros), np.full(2, -math.log(2), dtype))
    np.testing.assert_array_equal(F.relu(zeros), [0, 0])
    np.testing.assert_array_equal(np.signbit(F.tanh(zeros)), [False, True])
    np.testing.assert_array_equal(F.tanh(zeros), [0, 0])


@by_dtype
def test_symmetries_hold_bit_for_bit(dtype):
    x = region("middle", dtype)
    np.testing.assert_array_equal(F.tanh(-x), -F.tanh(x))
    np.testing.assert_array_equal(F.log_sigmoid(x), -F.softplus(-x))


# ---- softmax family ----


def rows(classes, dtype, count):
    """Rows of logits of many kinds: mild, steep, ties, far from 0, the smaller ones subnormal after exp."""
    rng = np.random.default_rng(classes)
    end = 104 if dtype == "float32" else 745
    kinds = [
        rng.normal(0, 3, classes),
        rng.uniform(-end, 0, classes),
        rng.normal(0, 30, classes) + 1e4,
        rng.integers(-3, 4, classes),
        np.where(np.arange(classes) == classes // 2, 0, rng.uniform(-end, 14 - end, classes)),
        np.full(classes, -7.3),
        rng.normal(-50, 1, classes),
    ]
    return np.array(kinds[:count]).astype(dtype)


class ExactRow:
    """All that follows from one row of finite logits."""

    def __init__(self, row):
        x = [mp.mpf(v) for v in row.tolist()]
        top = max(range(len(x)), key=x.__getitem__)
        gaps = [v - x[top] for v in x]
        self.others = mp.fsum(mp.exp(g) for k, g in enumerate(gaps) if k != top)
        self.log_sum, self.top = mp.log1p(self.others), x[top]
        self.softmax = [mp.exp(g) / (1 + self.others) for g in gaps]
        self.log_softmax = [g - self.log_sum for g in gaps]
        self.logsumexp = self.top + self.log_sum


WIDTHS = [(1, 7), (2, 7), (3, 7), (10, 7), (17, 7), (300, 5), (5000, 2)]
widths = pytest.mark.parametrize(("classes", "count"), WIDTHS, ids=[f"C={c}" for c, _ in WIDTHS])


@by_dtype
@widths
def test_softmax_is_within_2_ulp_and_1_where_subnormal(classes, count, dtype):
    x = rows(classes, dtype, count)
    for row, got in zip(x, F.softmax(x), strict=True):
        exact = ExactRow(row).softmax
        assert_within(2, got, exact, dtype, row)
        small = [k for k in range(classes) if exact[k] < TINY[dtype]]
        if small:
            assert_within(1, got[small], [exact[k] for k in small], dtype, row[small])


@pytest.mark.parametrize("classes", [2, 3, 10, 64])
def test_softmax_of_few_float32_classes_rounds_once(classes):
    for row in rows(classes, "float32", 7):
        assert_within(0.6, F.softmax(row), ExactRow(row).softmax, "float32", row)


@by_dtype
def test_some_of_those_probabilities_are_subnormal(dtype):
    p = F.softmax(rows(300, dtype, 5))
    assert np.count_nonzero((p > 0) & (p < TINY[dtype])) > 20


@by_dtype
@widths
def test_log_softmax_is_within_2_ulp(classes, count, dtype):
    x = rows(classes, dtype, count)
    for row, got in zip(x, F.log_softmax(x), strict=True):
        assert_within(2, got, ExactRow(row).log_softmax, dtype, row)


@by_dtype
@pytest.mark.parametrize("seed", range(4))
def test_small_terms_count_beside_a_large_one_in_every_lane(seed, dtype):
    """Each is some 0.4 ulp of the large one, and would be lost if it were added to it alone: all of them are 3 ulp."""
    rng = np.random.default_rng(seed)
    row = np.log(0.4 * EPS[dtype]) - 0.3 * rng.random(1024)
    row[:64] = -(10.0 ** -rng.integers(1, 7, 64)) * rng.random(64)
    row = row.astype(dtype)
    assert_within(2, F.softmax(row), ExactRow(row).softmax, dtype, row)


@by_dtype
@pytest.mark.parametrize("seed", [389, 5772, 2429, 3447])
def test_a_thousand_classes_are_within_2_ulp(seed, dtype):
    """Rows found among 6000: what the plain sums of a page lose is lost by every probability."""
    row = np.random.default_rng(seed).normal(0, 5, 1000).astype(dtype)
    exact = ExactRow(row)
    assert_within(2, F.softmax(row), exact.softmax, dtype, row)
    assert_within(2, F.log_softmax(row), exact.log_softmax, dtype, row)


@by_dtype
@widths
def test_logsumexp_is_within_2_ulp_where_nothing_cancels(classes, count, dtype):
    x = np.abs(rows(classes, dtype, count))  # maximum >= 0: both terms of max + log(sum) are
    assert_within(2, F.logsumexp(x), [ExactRow(row).logsumexp for row in x], dtype, x)


def test_logsumexp_is_within_2_ulp_in_float32_where_its_terms_cancel_in_part(rng):
    x = rng.uniform(-3, 0, (300, 7)).astype(np.float32)
    x -= F.logsumexp(x)[:, None] + rng.uniform(0.05, 0.2, (300, 1)).astype(np.float32)  # a small result of large terms
    exact = [ExactRow(row) for row in x]
    assert all(abs(e.logsumexp) < e.log_sum / 2 for e in exact)
    assert_within(2, F.logsumexp(x), [e.logsumexp for e in exact], "float32", x)


@by_dtype
def test_softmax_is_within_2_ulp_where_the_difference_of_two_logits_is_not_a_float(dtype, rng):
    # exp must take in what the rounding of -3.3 - 40 drops: here 12 eps of the probability.
    x = np.column_stack([rng.uniform(-9, 0, 500), rng.uniform(9, 80, 500)]).astype(dtype)
    x = np.concatenate([np.array([[-3.3, 40]], dtype), x])
    exact = [ExactRow(row).softmax[0] for row in x]
    assert_within(2, F.softmax(x)[:, 0], exact, dtype, x)


@by_dtype
def test_softmax_is_within_2_ulp_where_all_pairs_in_a_lane_round_alike(dtype, rng):
    # Two values, the second about half an ulp of the first, block by block: plain sums of pairs lose 2.6 ulp.
    second = np.arange(1024) // 64 % 2 == 1
    for _ in range(150):
        high = -rng.uniform(1e-3, 0.7)
        x = np.where(second, high - DIGITS[dtype] * math.log(2) + rng.uniform(-0.7, 0.7), high).astype(dtype)
        x[-1] = 0
        ea, eb = mp.exp(mp.mpf(float(x[0]))), mp.exp(mp.mpf(float(x[64])))
        total = 1 + 512 * ea + 511 * eb
        assert_within(2, F.softmax(x)[[0, -1]], [ea / total, 1 / total], dtype, x[[0, -1]])


@by_dtype
@pytest.mark.parametrize("classes", [10, 64, 257, 1024])
def test_softmax_is_within_2_ulp_where_many_entries_have_one_error(classes, dtype, rng):
    # Their sum has that error, too, and entries with an error of the other sign were 2.3 ulp off. The constants are
    # where an exponential, or what of it comes into a sum, is worst.
    count = max(classes // 3, 4)
    for _ in range(2**15 // classes):
        many = rng.choice([-0.32661560578187704, -0.33, -0.345151186, -1.00420415, rng.uniform(-1.2, 0)])
        x = np.full(classes, many, dtype)
        x[:count], x[:3], x[-1] = rng.uniform(-6, 0, count), [-3.797538001905486, -0.34603864, -1.00402892], 0
        one, others = mp.exp(mp.mpf(float(x[-2]))), [mp.exp(mp.mpf(v)) for v in x[:count].tolist()]
        total = 1 + (classes - 1 - count) * one + mp.fsum(others)
        assert_within(2, F.softmax(x)[:count], [e / total for e in others], dtype, x[:count])


LENGTHS = [*range(65, 145), 1000]  # with every rest that blocks of up to 64 entries leave


@by_dtype
def test_long_rows_of_every_length_have_each_entry_once(dtype, rng):
    for n in LENGTHS:
        x = rng.normal(0, 2, n).astype(dtype)
        x[rng.integers(0, n, 3)] = [x.max(), -INF, -200 if dtype == "float32" else -1500]
        exact, y = ExactRow(x), int(rng.integers(0, n))
        assert_within(2, F.softmax(x), exact.softmax, dtype, x)
        assert_within(2, F.log_softmax(x)[x > -INF], [v for v in exact.log_softmax if v > -mp.inf], dtype, x)
        loss, grad = F.cross_entropy(x, y, return_grad=True)
        if x[y] > -INF:
            assert_close_in_tail(loss, [-exact.log_softmax[y]], dtype, [n])
        others = [p for k, p in enumerate(exact.softmax) if k != y]
        assert_close_in_tail(np.delete(grad, y), others, dtype, range(n - 1))
        assert_close_in_tail(grad[y], [-mp.fsum(others)], dtype, [n])


@by_dtype
@pytest.mark.parametrize("maxima", [2, 17, 999, 1000])
def test_many_maxima_share_the_probability(maxima, dtype, rng):
    x = np.full(1000, -INF, dtype)
    x[rng.permutation(1000)[:maxima]] = 3.3
    p, top = F.softmax(x), x == x.max()
    np.testing.assert_array_equal(p[top], np.full(maxima, 1 / maxima, dtype))
    np.testing.assert_array_equal(p[~top], 0)
    loss, grad = F.cross_entropy(x, int(top.argmax()), return_grad=True)
    assert_close_in_tail(loss, [mp.log(maxima)], dtype, ["loss"])
    assert_close_in_tail(grad[top.argmax()], [-mp.mpf(maxima - 1) / maxima], dtype, ["slope"])


MAXIMA = [0.1, -0.4, 0.9, 5.5, -17.3, 100.7, -261.9, 264.7, -264.8, 264.9, 1500.0, -2127.9, 2128.1, 4e4, 3e6, -1e30]


@by_dtype
@pytest.mark.parametrize("top", MAXIMA)
def test_equal_maxima_of_long_rows_share_to_the_last_bit_wherever_they_are(top, dtype):
    x = np.full((2, 128), top, dtype)
    x[1, 1:] = -INF
    np.testing.assert_array_equal(F.softmax(x), [np.full(128, 1 / 128), np.arange(128) == 0])
    grad = F.cross_entropy(x, [5, 0], reduction="sum", return_grad=True)[1]
    assert_near(np.delete(grad[0], 5), 1 / 128, dtype, relative=1)  # by the label, not by a maximum
    np.testing.assert_array_equal(grad[1], 0)


@by_dtype
@pytest.mark.parametrize("start", [0.0, -3.3, 250.0, -2000.0, -INF, math.nan])
def test_long_rows_whose_maximum_comes_late_keep_their_digits(start, dtype, rng):
    # How far it must be from the first entries for them to be no guide is known to the code alone.
    for rise in (0.5, 5.0, 11.0, 11.9, 12.0, 12.1, 13.0, 25.0, 39.0, 40.0, 41.0, 42.0, 45.0, 90.0, 800.0, INF):
        x = np.concatenate([start + rng.normal(0, 1, 700), [0.0, -0.5, 0.5]]).astype(dtype)
        x[-3:] += (start if math.isfinite(start) else 0.0) + rise
        p = F.softmax(x)
        if math.isnan(start):
            assert np.isnan(p).all()
        elif rise == INF:
            np.testing.assert_array_equal(p, [0] * 700 + [np.dtype(dtype).type(1) / 3] * 3)
        else:
            assert_within(2, p, ExactRow(x).softmax, dtype, x)


@by_dtype
@pytest.mark.parametrize("top", MAXIMA)
def test_long_rows_keep_their_digits_wherever_their_maximum_is(top, dtype, rng):
    width = 120 if dtype == "float32" else 900
    x = np.concatenate(
        [top - rng.uniform(0, 3, 40), top - rng.uniform(0, width, 30), rng.uniform(-1e-6, 0, 20) + min(top, 0)]
    )
    x = np.concatenate([x, [top]]).astype(dtype)
    exact = ExactRow(x)
    assert_within(2, F.softmax(x), exact.softmax, dtype, x)
    for y in (90, 50):
        loss, grad = F.cross_entropy(x, y, return_grad=True)
        assert_close_in_tail(loss, [-exact.log_softmax[y]], dtype, [y])
        others = [p for k, p in enumerate(exact.softmax) if k != y]
        assert_close_in_tail(np.delete(grad, y), others, dtype, range(90))


@by_dtype
@pytest.mark.parametrize("classes", [2, 3, 40, 300])
def test_softmax_of_minus_infinity_is_exactly_0(classes, dtype):
    x = np.zeros((2, classes), dtype)
    x[:, 1:] = -INF
    x[1, -1] = 0
    want = np.where(x == 0, 1 / (x == 0).sum(1, keepdims=True), 0)
    np.testing.assert_array_equal(F.softmax(x), want)
    np.testing.assert_array_equal(F.log_softmax(x)[:, 1:-1], np.full((2, classes - 2), -INF))
    np.testing.assert_array_equal(F.logsumexp(x)[0], 0)


@by_dtype
@pytest.mark.parametrize("classes", [1, 2, 17, 300])
def test_one_infinite_logit_has_probability_1(classes, dtype):
    x = np.linspace(-5, 5, classes, dtype=dtype)[None].copy()
    x[0, classes // 2] = INF
    onehot = (np.arange(classes) == classes // 2)[None]
    np.testing.assert_array_equal(F.softmax(x), onehot)
    np.testing.assert_array_equal(F.log_softmax(x), np.where(onehot, 0, -INF))
    assert F.logsumexp(x) == INF


@by_dtype
def test_infinite_logits_share_the_probability(dtype):
    np.testing.assert_array_equal(F.softmax(np.array([INF, 3, INF, -INF], dtype)), [0.5, 0, 0.5, 0])


@by_dtype
@pytest.mark.parametrize("classes", [1, 2, 17, 300])
def test_row_of_minus_infinity_only_has_no_softmax(classes, dtype):
    x = np.zeros((3, classes), dtype)
    x[1] = -INF
    for function in (F.softmax, F.log_softmax):
        np.testing.assert_array_equal(np.isnan(function(x)), np.isinf(x))
    np.testing.assert_array_equal(F.logsumexp(x) == -INF, [False, True, False])


@by_dtype
@pytest.mark.parametrize("place", [0, 5, 16, 299])
@pytest.mark.parametrize("rest", [0.0, INF, -INF], ids=["0", "inf", "-inf"])
def test_nan_fills_its_row_and_no_other(rest, place, dtype):
    x = np.zeros((3, 300), dtype)
    x[1] = rest
    x[1, place] = NAN
    for function in (F.softmax, F.log_softmax):
        np.testing.assert_array_equal(np.isnan(function(x)).all(1), [False, True, False])
        np.testing.assert_array_equal(np.isnan(function(x)).any(1), [False, True, False])
    np.testing.assert_array_equal(np.isnan(F.logsumexp(x)), [False, True, False])


@by_dtype
def test_logsumexp_over_no_entries_is_minus_infinity(dtype):
    np.testing.assert_array_equal(F.logsumexp(np.empty((3, 0), dtype)), [-INF] * 3)


@by_dtype
@pytest.mark.parametrize("offset", [1e30, -1e30])
def test_softmax_at_a_huge_offset(offset, dtype):
    third = np.full(3, 1 / 3).astype(dtype)
    np.testing.assert_array_equal(F.softmax(np.full(3, offset, dtype)), third)
    assert_near(F.log_softmax(np.full(3, offset, dtype)), np.full(3, -math.log(3)), dtype, relative=1)
    steep = np.array([offset, offset, -3 * offset], dtype)
    np.testing.assert_array_equal(F.softmax(steep), [0.5, 0.5, 0] if offset > 0 else [0, 0, 1])


@by_dtype
@pytest.mark.parametrize("offset", [1024.0, -65536.0])
def test_softmax_ignores_a_common_offset_bit_for_bit(offset, dtype, rng):
    x = rng.integers(-200, 200, (5, 33)).astype(dtype) / 16  # the sums below are exact
    np.testing.assert_array_equal(F.softmax(x + offset), F.softmax(x))
    np.testing.assert_array_equal(F.log_softmax(x + offset), F.log_softmax(x))


def edges(dtype, classes=4):
    """Rows whose first class is the maximum, or below it by little, by far, or by about what a base may be below it."""
    reach = {"float32": 600, "float64": 24}[dtype]
    x = np.linspace(-2, 0, 40 * classes).reshape(40, classes).astype(dtype)
    x[:, 0] = 0
    gaps = [
        -1000,
        -745,
        -100,
        -1,
        0,
        1,
        reach - 1,
        reach,
        np.nextafter(np.array(reach, dtype), np.array(2 * reach, dtype)),
        2 * reach,
        500,
        745,
        1000,
    ]
    x[: len(gaps), 2] = gaps
    x[len(gaps), 0], x[len(gaps) + 1, 2] = -INF, -INF
    x[20:30] += np.array([1e-30, 1, 1024, 1e7, 1e17, -1e17, 3e18, -3e18, 1e30, -1e30], dtype)[:, None]
    return x


@by_dtype
def test_softmax_of_few_classes_is_within_2_ulp_whatever_the_first_class_is(dtype):
    x = edges(dtype)
    for row, got in zip(x, F.softmax(x), strict=True):
        exact = ExactRow(row).softmax
        assert_within(2, got, exact, dtype, row)


@by_dtype
def test_softmax_of_few_classes_has_the_same_bits_beside_any_row(dtype, rng):
    x = edges(dtype)
    alone = np.concatenate([F.softmax(row[None]) for row in x])
    for _ in range(5):
        order = rng.permutation(len(x))
        np.testing.assert_array_equal(F.softmax(x[order]), alone[order])


def strange(classes, dtype):
    """Rows with and without a finite maximum side by side, more of them than go at a time, and their probabilities."""
    rng = np.random.default_rng(classes)
    x = rng.normal(0, 3, (70, classes)).astype(dtype)
    kinds = np.arange(70) % 8
    x[kinds == 1, 0] = INF
    x[kinds == 2, :2] = INF
    x[kinds == 3, 0], x[kinds == 3, 1] = INF, NAN
    x[kinds == 4] = -INF
    x[kinds == 5], x[kinds == 5, 1] = -INF, NAN
    x[kinds == 6, 1] = -INF
    p = F.softmax(x)
    p[kinds == 1], p[kinds == 2] = np.arange(classes) == 0, (np.arange(classes) < 2) / 2
    p[(kinds >= 3) & (kinds <= 5)] = NAN
    return x, p


@by_dtype
@pytest.mark.parametrize("classes", [2, 3, 10, 63])
def test_rows_of_few_classes_without_a_finite_maximum_leave_the_others_alone(classes, dtype):
    x, p = strange(classes, dtype)
    np.testing.assert_array_equal(F.softmax(x), p)
    np.testing.assert_array_equal(F.softmax(x), np.concatenate([F.softmax(row[None]) for row in x]))
    with np.errstate(divide="ignore"):
        assert_near(F.log_softmax(x), np.log(p), dtype, relative=4, absolute=4)
    for label in range(2):
        losses, grad = F.cross_entropy(x, np.full(70, label), reduction="none", return_grad=True)
        with np.errstate(divide="ignore"):
            assert_near(losses, -np.log(p[:, label]), dtype, relative=4, absolute=4)
        assert_near(grad, p - (np.arange(classes) == label), dtype, relative=4, absolute=4)


@by_dtype
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 7, 64])
def test_a_row_of_few_classes_does_not_depend_on_those_beside_it(classes, dtype, rng):
    x = rng.normal(0, 4, (70, classes)).astype(dtype)
    y = rng.integers(0, classes, 70)
    for count in (1, 3, 31, 33, 70):
        for function in (F.softmax, F.log_softmax):
            alone = np.concatenate([function(row[None]) for row in x[:count]])
            np.testing.assert_array_equal(function(x[:count]), alone)
        losses, grad = F.cross_entropy(x[:count], y[:count], reduction="none", return_grad=True)
        each = [F.cross_entropy(x[i : i + 1], y[i : i + 1], reduction="none", return_grad=True) for i in range(count)]
        np.testing.assert_array_equal(losses, np.concatenate([loss for loss, _ in each]))
        np.testing.assert_array_equal(grad, np.concatenate([slope for _, slope in each]))


# ---- cross-entropy: the confident tail ----


def gaps(dtype):
    end, steps = (100, 401) if dtype == "float32" else (740, 741)
    return np.unique(np.concatenate([np.linspace(0, end, steps), powers(1e-6, end, 200, dtype)]).astype(dtype))


def confident(classes, dtype):
    """Rows whose class 1 is ahead of all others by each of the gaps, of the last one by a little more."""
    gap = gaps(dtype)
    x = np.zeros((len(gap), classes), dtype)
    x[:, 1] = gap
    if classes > 2:
        x[:, -1] = -np.minimum(gap / 64, 1)
    return x


tail_widths = pytest.mark.parametrize("classes", [2, 3, 10, 40, 300])


@by_dtype
@tail_widths
@pytest.mark.parametrize("label", [0, 1], ids=["wrong", "right"])
def test_cross_entropy_of_confident_rows_keeps_its_digits(label, classes, dtype):
    x = confident(classes, dtype)[:: 1 if classes < 40 else 8]
    losses, grad = F.cross_entropy(x, np.full(len(x), label), reduction="none", return_grad=True)
    exact = [ExactRow(row) for row in x]
    assert_close_in_tail(losses, [-e.log_softmax[label] for e in exact], dtype, x[:, 1])
    target = [-sum(p for k, p in enumerate(e.softmax) if k != label) for e in exact]
    assert_close_in_tail(grad[:, label], target, dtype, x[:, 1])
    other = 1 - label
    assert_close_in_tail(grad[:, other], [e.softmax[other] for e in exact], dtype, x[:, 1])


@by_dtype
@pytest.mark.parametrize("classes", [4, 9, 64])
def test_cross_entropy_keeps_its_digits_where_all_pairs_of_classes_round_alike(classes, dtype, rng):
    # Every second class is about half an ulp of the one before: each sum of two is off by as much.
    high = -rng.choice([0.7, 60], 60) * rng.uniform(0.01, 1, 60)
    x = np.repeat(high[:, None], classes, 1)
    x[:, 1::2] += rng.uniform(-0.7, 0.7, (60, 1)) - DIGITS[dtype] * math.log(2)
    x[:, 0] = 0
    x = x.astype(dtype)
    losses, grad = F.cross_entropy(x, np.zeros(60, int), reduction="none", return_grad=True)
    exact = [ExactRow(row) for row in x]
    assert_close_in_tail(losses, [e.log_sum for e in exact], dtype, high)
    assert_close_in_tail(grad[:, 0], [-e.others / (1 + e.others) for e in exact], dtype, high)
    assert_close_in_tail(grad[:, 2], [e.softmax[2] for e in exact], dtype, high)


@by_dtype
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_reduced_cross_entropy_of_one_confident_row_keeps_its_digits(classes, dtype):
    x = confident(classes, dtype)
    values = [F.cross_entropy(row, 1) for row in x]
    assert_close_in_tail(values, [-ExactRow(row).log_softmax[1] for row in x], dtype, x[:, 1])


@by_dtype
@pytest.mark.parametrize("target", ["label", "onehot"])
@pytest.mark.parametrize("classes", [300, 5000, 100_000])
def test_cross_entropy_of_many_classes_keeps_its_digits(classes, target, dtype):
    x = np.full((1, classes), -35.25, dtype)
    x[0, 0] = 0
    onehot_row = np.eye(1, classes, dtype=dtype)
    loss, grad = F.cross_entropy(x, [0] if target == "label" else onehot_row, reduction="none", return_grad=True)
    others = (classes - 1) * mp.exp(mp.mpf("-35.25"))
    assert_close_in_tail(loss, [mp.log1p(others)], dtype, ["loss"])
    assert_close_in_tail(grad[0, :1], [-others / (1 + others)], dtype, ["target"])
    assert_close_in_tail(grad[0, -1:], [mp.exp(mp.mpf("-35.25")) / (1 + others)], dtype, ["other"])


def weighted_and_smoothed(x, label, weight, smoothing, gamma):
    """What `of_shares` gives for a label."""
    share, w = mp.mpf(smoothing) / len(x), [mp.mpf(v) for v in weight.tolist()]
    return of_shares(x, [v * (share + (1 - mp.mpf(smoothing) if k == label else 0)) for k, v in enumerate(w)], gamma)


def of_shares(x, T, gamma):
    """The loss of a row, its gradient, and how large the terms are of which that is the difference."""
    row = ExactRow(x)
    p, c = row.softmax, [-v for v in row.log_softmax]
    u = [mp.fsum(p[:k] + p[k + 1 :]) if v > 0.5 else 1 - v for k, v in enumerate(p)]
    G = [T_k * u_k**gamma * (1 + gamma * p_k * c_k / u_k) for T_k, u_k, p_k, c_k in zip(T, u, p, c, strict=True)]
    total = mp.fsum(G)
    grad = [p_k * (total - G_k) - G_k * u_k for p_k, G_k, u_k in zip(p, G, u, strict=True)]
    loss = mp.fsum(T_k * u_k**gamma * c_k for T_k, u_k, c_k in zip(T, u, c, strict=True))
    return loss, grad, [p_k * total + G_k for p_k, G_k in zip(p, G, strict=True)]


def weights_of(kind, classes, dtype):
    """Class weights: one that outweighs all others, one that is next to nothing, one with which a loss smoothed by an
    eighth just cannot cancel (see `may_cancel`), or tiny ones."""
    w = np.linspace(1e-25, 1e-24, classes) if kind == "tiny" else np.full(classes, 1e-3 if kind == "one" else 1.0)
    w[1] = {"one": 1, "none": 1e-9, "just": 1.001 * (classes - 1) / (14 * classes - 1), "tiny": 0}[kind]
    return w.astype(dtype)


@by_dtype
@pytest.mark.parametrize("gamma", [0, 2])
@pytest.mark.parametrize("kind", ["one", "none", "just", "tiny"])
@pytest.mark.parametrize("far", [12, 35])
@pytest.mark.parametrize("classes", [2, 5, 70])
def test_weighted_smoothed_rows_keep_their_digits_wherever_the_label_is(classes, far, kind, gamma, dtype, rng):
    # far below, where distances from its logit cancel, or far above; its class counts or does not
    x = rng.normal(size=(8, classes)).astype(dtype)
    y = rng.integers(0, 2, 8)
    x[np.arange(8), y] += np.repeat([-far, -3, 3, far], 2)
    x[::2, 0] += far - 5
    weight = weights_of(kind, classes, dtype)
    for smoothing in (0.125, 0.75):
        options = {"weight": weight, "label_smoothing": smoothing, "gamma": gamma, "reduction": "none"}
        losses, grad = F.cross_entropy(x, y, return_grad=True, **options)
        for row, label, loss, slopes in zip(x, y.tolist(), losses.tolist(), grad.tolist(), strict=True):
            exact, exact_grad, terms = weighted_and_smoothed(row, label, weight, smoothing, gamma)
            bound, least = 4 * EPS[dtype] * max(gamma, 1), mp.ldexp(1, LOWEST[dtype])
            assert abs(loss - exact) <= bound * exact + least
            for got, want, size in zip(slopes, exact_grad, terms, strict=True):
                assert abs(got - want) <= bound * size + least


@by_dtype
@pytest.mark.parametrize("gamma", [0.5, 1, 1.5, 1.7, 2, 3, 20])
@pytest.mark.parametrize("classes", [70, 150])
def test_smoothed_and_focused_rows_keep_their_digits_whatever_is_likely(classes, gamma, dtype, rng):
    # Powers come from polynomials up to 1/8 and up to 1/2, and classes beyond are done by themselves.
    x = rng.normal(size=(12, classes))
    y = rng.integers(0, classes, 12)
    other = (y + rng.integers(1, classes, 12)) % classes
    rows = np.arange(12)
    top = np.log(np.exp(x).sum(1))
    x[rows[:7], other[:7]] = top[:7] + np.array([-2.2, -1.9, -0.1, 0.1, 4, 15, 45])  # p from 0.1 to all but 1
    x[7, (y[7] + 1) % classes] = x[7, (y[7] + 2) % classes] = top[7]  # two large ones
    x[rows[8:10], y[8:10]] = top[8:10] + np.array([3, 30])  # the label is likely
    x[10, y[10]] = -60  # or unlikely
    x[11] = 0
    x = x.astype(dtype)
    uneven = np.where(np.arange(classes) % 5, rng.random(classes), 0).astype(dtype)
    for smoothing, weight in ((1e-6, None), (0.1, None), (1.0, None), (0.1, uneven), (0.7, uneven)):
        options = {"label_smoothing": smoothing, "gamma": gamma, "weight": weight, "reduction": "none"}
        losses, grad = F.cross_entropy(x, y, return_grad=True, **options)
        np.testing.assert_array_equal(F.cross_entropy(x, y, **options), losses)
        w = np.ones(classes) if weight is None else weight
        for row, label, loss, slopes in zip(x, y.tolist(), losses.tolist(), grad.tolist(), strict=True):
            exact, exact_grad, terms = weighted_and_smoothed(row, label, w, smoothing, gamma)
            bound, least = 4 * EPS[dtype] * max(gamma, 1), mp.ldexp(1, LOWEST[dtype])
            assert abs(loss - exact) <= bound * exact + least
            for got, want, size in zip(slopes, exact_grad, terms, strict=True):
                # below 1, (1 - p)^(gamma - 1) makes more of what 1 - p has lost
                assert abs(got - want) <= (2 if gamma < 1 else 1) * bound * size + least


@by_dtype
@pytest.mark.parametrize("gamma", [1, 1.7, 2, 3])
@pytest.mark.parametrize("far", [12, 25, 140])
def test_slopes_keep_their_digits_where_a_label_of_weight_0_is_far_below(far, gamma, dtype, rng):
    # -log(p) of what is likely is a small difference of large numbers there, and all of the slope of some classes.
    x = rng.normal(-far, 1, (40, 70))
    x[:, 3:5] = rng.normal(0, 0.3, (40, 2))
    x[:, 9] = -2 * far
    x = x.astype(dtype)
    weight = np.full(70, 1e-6, dtype)
    weight[[0, 3, 4, 9]] = 0, 1, 1, 1
    options = {"label_smoothing": 0.5, "gamma": gamma, "weight": weight, "reduction": "none"}
    losses, grad = F.cross_entropy(x, np.zeros(40, int), return_grad=True, **options)
    for row, loss, slopes in zip(x, losses.tolist(), grad.tolist(), strict=True):
        exact, exact_grad, terms = weighted_and_smoothed(row, 0, weight, 0.5, gamma)
        bound = 4 * EPS[dtype] * max(gamma, 1)
        assert abs(loss - exact) <= bound * exact
        for got, want, size in zip(slopes, exact_grad, terms, strict=True):
            assert abs(got - want) <= bound * size + mp.ldexp(1, LOWEST[dtype])


@by_dtype
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 1.7, 2, 3])
@pytest.mark.parametrize("classes", [70, 150])
def test_probabilities_of_many_classes_keep_their_digits_whatever_is_likely(classes, gamma, dtype, rng):
    # Maxima of more than 1/8 are done in double, all else by polynomials up to 1/8 or 1/2, or with care.
    x = rng.normal(size=(9, classes))
    top = np.log(np.exp(x).sum(1))
    x[:5, 3] = top[:5] + np.array([-2.2, -1.9, 0.1, 4, 40])
    x[5, [2, 60]] = top[5]  # two maxima
    x[6, 60:64] = top[6] + np.array([0, -0.2, -0.4, -1])  # some large ones
    t = F.softmax(rng.normal(0, 2, x.shape))
    t[7, 9] = t[8, 9] = t[8, 10] = 0
    x[7, 9] = -INF  # impossible, and not asked for
    t[2] = np.eye(classes)[3]
    x, t = x.astype(dtype), t.astype(dtype)
    losses, grad = F.cross_entropy(x, t, gamma=gamma, reduction="none", return_grad=True)
    np.testing.assert_array_equal(F.cross_entropy(x, t, gamma=gamma, reduction="none"), losses)
    for row, shares, loss, slopes in zip(x, t, losses.tolist(), grad.tolist(), strict=True):
        kept = np.isfinite(row)
        exact, exact_grad, terms = of_shares(row[kept], [mp.mpf(v) for v in shares[kept].tolist()], gamma)
        bound, least = 4 * EPS[dtype] * max(gamma, 1), mp.ldexp(1, LOWEST[dtype])
        assert abs(loss - exact) <= bound * exact + least
        assert np.all(np.array(slopes)[~kept] == 0)
        for got, want, size in zip(np.array(slopes)[kept].tolist(), exact_grad, terms, strict=True):
            assert abs(got - want) <= (2 if gamma < 1 else 1) * bound * size + least


@by_dtype
@pytest.mark.parametrize("gamma", [0.5, 1.7, 2])
@pytest.mark.parametrize("bad", [INF, -INF, math.nan])
def test_smoothed_and_focused_rows_that_are_not_finite_leave_those_beside_them_alone(bad, gamma, dtype, rng):
    x, y = rng.normal(0, 3, (32, 70)).astype(dtype), rng.integers(0, 70, 32)
    options = {"label_smoothing": 0.1, "gamma": gamma, "reduction": "none"}
    loss, grad = F.cross_entropy(x, y, return_grad=True, **options)
    for place in (y[7], (y[7] + 1) % 70):
        strange = x.copy()
        strange[7, place] = bad
        with_bad, grad_with_bad = F.cross_entropy(strange, y, return_grad=True, out=strange, **options)
        others = np.arange(32) != 7
        np.testing.assert_array_equal(with_bad[others], loss[others])
        np.testing.assert_array_equal(grad_with_bad[others], grad[others])
        np.testing.assert_array_equal(with_bad[7], math.nan if bad != bad else INF)
        assert np.all(np.isfinite(grad_with_bad[7])) == (bad == bad)


@by_dtype
@pytest.mark.parametrize("classes", [3, 70])
@pytest.mark.parametrize("gamma", [0, 2])
def test_a_class_of_weight_0_owes_no_share_to_an_impossible_logit(gamma, classes, dtype, rng):
    x = rng.normal(size=(40, classes)).astype(dtype)
    weight = rng.uniform(0.5, 1, classes).astype(dtype)
    weight[1] = 0
    options = {"label_smoothing": 0.1, "gamma": gamma, "reduction": "none"}
    x[:, 1] = -INF
    losses, grad = F.cross_entropy(x, np.zeros(40, int), weight=weight, return_grad=True, **options)
    np.testing.assert_array_equal(grad[:, 1], 0)
    weight[1] = 1
    assert np.all(np.isfinite(losses))
    assert np.all(F.cross_entropy(x, np.zeros(40, int), weight=weight, **options) == INF)


@by_dtype
@pytest.mark.parametrize("width", [8, 16, 32])
def test_cross_entropy_keeps_its_digits_where_all_pairs_in_a_lane_round_alike(width, dtype, rng):
    # The second value is about half an ulp of the first: in one part the sum of a row would lose a digit a pair.
    second = np.arange(4096) // width % 2 == 1
    for _ in range(50):
        high = -rng.uniform(1e-3, 0.7) - rng.choice([0, 30])
        x = np.where(second, high - DIGITS[dtype] * math.log(2) + rng.uniform(-0.7, 0.7), high).astype(dtype)
        x[-1] = 0
        ea, eb = mp.exp(mp.mpf(float(x[0]))), mp.exp(mp.mpf(float(x[width])))
        others = 2048 * ea + 2047 * eb
        loss, grad = F.cross_entropy(x, 4095, return_grad=True)
        assert_close_in_tail(loss, [mp.log1p(others)], dtype, ["loss"])
        exact = [ea / (1 + others), eb / (1 + others), -others / (1 + others)]
        assert_close_in_tail(grad[[0, width, -1]], exact, dtype, ["first", "second", "label"])


@pytest.mark.parametrize("classes", [5, 70])
@pytest.mark.parametrize("rows", [40, 81, 5000])
def test_a_mean_over_many_rows_of_equal_weight_keeps_its_digits(rows, classes):
    # With the same weight in each row, all roundings of their sum may go the same way.
    weight = np.full(classes, 322 / 1024)
    for sample_weight in (None, np.full(rows, 0.1)):
        options = {"weight": weight, "sample_weight": sample_weight}
        value, grad = F.cross_entropy(np.zeros((rows, classes)), np.zeros(rows, int), return_grad=True, **options)
        assert_close_in_tail(value, [mp.log(classes)], "float64", [rows])
        assert_close_in_tail(grad[:, 1], [1 / mp.mpf(classes * rows)] * rows, "float64", range(rows))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_of_many_equal_losses_is_one_of_them(weighted):
    for count in (1000, 300_001):
        z, t = np.full(count, 0.3), np.zeros(count)
        weight = np.full(count, 0.1) if weighted else None
        mean = F.binary_cross_entropy_with_logits(z, t, sample_weight=weight)
        assert mean == pytest.approx(F.binary_cross_entropy_with_logits(z[:1], t[:1]), rel=4 * EPS["float64"], abs=0)


# How far above the label's a logit must be for a row to need its maximum is known to the code alone.
GAPS = {"float32": np.arange(30, 50, 0.25), "float64": np.arange(290, 345, 1.0)}


@by_dtype
@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("classes", [3, 10, 70, 130])
@pytest.mark.parametrize("place", [0.0, -200.0, 250.0, -2500.0])
def test_labels_far_below_the_maximum_keep_their_digits(place, classes, gamma, dtype, rng):
    gaps = GAPS[dtype][:: 1 if classes < 20 else 5]
    for label in (0, classes - 1):
        x = rng.normal(place, 1, (len(gaps), classes))
        x[:, label] = x.max(1) - gaps
        x = x.astype(dtype)
        losses, grad = F.cross_entropy(x, np.full(len(x), label), gamma=gamma, reduction="none", return_grad=True)
        for row, loss, got in zip(x, losses, grad, strict=True):
            exact = ExactRow(row)
            c, p = -exact.log_softmax[label], exact.softmax[label]
            focus = (1 - p) ** gamma
            pull = focus * (1 + gamma * p * c / (1 - p))
            assert_close_in_tail(loss, [focus * c], dtype, ["loss"])
            want = [pull * (q if k != label else q - 1) for k, q in enumerate(exact.softmax)]
            assert_close_in_tail(got, want, dtype, range(classes))


# How large logits may be for their exponentials to be taken without a maximum or a label's logit is known to it, too.
PLACES = {"float32": [-21.0, -19.0, 0.0, 24.0, 26.0, 28.0], "float64": [-291.0, -289.0, 0.0, 298.0, 300.0, 302.0]}


@by_dtype
@pytest.mark.parametrize("weight", [1.1e-7, 1.0, 999.0])
@pytest.mark.parametrize("classes", [4, 10, 23])
def test_logits_keep_their_digits_wherever_they_are(classes, weight, dtype, rng):
    depth = {"float32": 110, "float64": 760}[dtype]  # below the label's logit, where the least number is, and beyond
    for place in PLACES[dtype]:
        x = rng.normal(place, 1, (9, classes))
        x[:, 2] = place - rng.uniform(0, depth, 9)
        x[4:, 3] = -INF
        x, y, weights = x.astype(dtype), rng.integers(0, 2, 9), np.full(9, weight)
        loss, grad = F.cross_entropy(x, y, sample_weight=weights, reduction="none", return_grad=True)
        exact = [ExactRow(row) for row in x]
        want = [
            [weight * (p - (k == label)) for k, p in enumerate(e.softmax)] for e, label in zip(exact, y, strict=True)
        ]
        assert_close_in_tail(loss, [-weight * e.log_softmax[k] for e, k in zip(exact, y, strict=True)], dtype, range(9))
        for got, row in zip(grad, want, strict=True):
            assert_close_in_tail(got, row, dtype, range(classes))
        assert np.all(grad[4:, 3] == 0)


@by_dtype
@pytest.mark.parametrize("classes", [3, 70])
@pytest.mark.parametrize("bad", [INF, -INF, math.nan])
def test_what_a_row_beside_holds_changes_nothing(bad, classes, dtype, rng):
    # One row that needs its maximum takes a tile of rows with it.
    x, y = rng.normal(0, 3, (32, classes)).astype(dtype), rng.integers(0, classes, 32)
    loss, grad = F.cross_entropy(x, y, reduction="none", return_grad=True)
    x[7, y[7]] = bad
    with_bad, grad_with_bad = F.cross_entropy(x, y, reduction="none", return_grad=True)
    others = np.arange(32) != 7
    assert_near(with_bad[others], loss[others], dtype, relative=4)
    assert_near(grad_with_bad[others], grad[others], dtype, relative=8)
    assert_array = np.testing.assert_array_equal
    assert_array(with_bad[7], {INF: 0.0, -INF: INF}.get(bad, math.nan))
    if bad == INF:
        assert_array(grad_with_bad[7], 0)
    elif bad == -INF:
        assert grad_with_bad[7, y[7]] == -1
    else:
        assert np.isnan(grad_with_bad[7]).all()


WEIGHTS = {"float32": [1e-35, 1e-25, 1e-3, 1e3, 1e20], "float64": [1e-300, 1e-280, 1e-3, 1e3, 1e200]}


@by_dtype
@pytest.mark.parametrize("classes", [3, 10, 300])
@pytest.mark.parametrize("width", [3, 25, 100])
def test_gradients_with_tiny_and_large_weights_keep_their_digits(width, classes, dtype, rng):
    x = np.round(rng.normal(0, width, (6, classes)), 2).astype(dtype)
    y = rng.integers(0, classes, 6)
    exact = [ExactRow(row).softmax for row in x]
    for weight in WEIGHTS[dtype]:
        grad = F.cross_entropy(x, y, sample_weight=np.full(6, weight), reduction="sum", return_grad=True)[1]
        for got, row, label in zip(grad, exact, y.tolist(), strict=True):
            kept = [k for k, p in enumerate(row) if k != label and p >= mp.ldexp(1, LOWEST[dtype])]
            assert_near(got[kept], [float(row[k] * mp.mpf(weight)) for k in kept], dtype, relative=4)


@pytest.mark.parametrize("extreme", [-0.0, 5e-324, 1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"gamma": 2.0}], ids=str)
@by_dtype
def test_beside_a_row_of_extreme_weight_others_keep_their_digits(extreme, options, dtype, rng):
    """Whether weights are odd is asked of all rows at once: the way that all go then must be as good."""
    z, y = rng.normal(0, 3, (70, 10)).astype(dtype), rng.integers(0, 10, 70)
    weight = rng.random(70) + 0.5
    _, want = F.cross_entropy(z, y, sample_weight=weight, reduction="sum", return_grad=True, **options)
    weight[40] = extreme
    _, got = F.cross_entropy(z, y, sample_weight=weight, reduction="sum", return_grad=True, **options)
    got, want, weight = (np.delete(a, 40, axis=0) for a in (got, want, weight))
    terms = np.abs(want) + options.get("label_smoothing", 0.0) * weight[:, None]  # what cancels in the gradient
    np.testing.assert_array_less(np.abs(got - want), 4 * EPS[dtype] * terms)


@by_dtype
@pytest.mark.parametrize("kind", ["confident", "random"])
@tail_widths
def test_rows_of_the_gradient_sum_to_0_within_rounding_of_the_largest_entry(classes, kind, dtype, rng):
    x = confident(classes, dtype) if kind == "confident" else rng.normal(0, 5, (50, classes)).astype(dtype)
    for label in (0, 1):
        grad = F.cross_entropy(x, np.full(len(x), label), reduction="sum", return_grad=True)[1].astype(np.float64)
        largest = np.abs(grad).max(1).tolist()
        assert np.all(np.array(largest[: len(x) // 2]) > 0)
        for row, entry in zip(grad, largest, strict=True):
            assert abs(math.fsum(row)) <= 4 * EPS[dtype] * entry + classes * 2.0 ** LOWEST[dtype]


OFFSETS = [0.0, 1.0, -1.0, 1e8, -1e8, 1e30, -1e30]


@by_dtype
@pytest.mark.parametrize("offset", OFFSETS)
def test_cross_entropy_of_two_equal_logits_is_log_2(offset, dtype):
    for v in (offset, np.copysign(np.finfo(dtype).max, offset)):
        value, grad = F.cross_entropy(np.full((1, 2), v, dtype), [0], return_grad=True)
        assert value == math.log(2)
        np.testing.assert_array_equal(grad, [[-0.5, 0.5]])


@pytest.mark.parametrize("offset", [1e300, -1e300])
def test_cross_entropy_of_two_equal_logits_is_log_2_at_the_end_of_float64(offset):
    assert F.cross_entropy([offset, offset], 0) == math.log(2)


@by_dtype
def test_cross_entropy_of_far_apart_logits_is_their_gap(dtype):
    big = np.finfo(dtype).max / 2
    value, grad = F.cross_entropy(np.array([[big, -big, 0]], dtype), [1], return_grad=True)
    assert value == 2 * float(big)
    np.testing.assert_array_equal(grad, [[1, -1, 0]])


# ---- cross-entropy: probability targets ----


def onehot(labels, classes, dtype):
    return np.eye(classes, dtype=dtype)[labels]


@by_dtype
@pytest.mark.parametrize("classes", [1, 2, 10, 17, 300])
def test_onehot_targets_are_labels(classes, dtype, rng):
    x = np.concatenate([rng.normal(0, 5, (40, classes)), rng.uniform(-600, 0, (20, classes))]).astype(dtype)
    y = rng.integers(0, classes, len(x))
    for reduction in ("none", "mean", "sum", "batchmean"):
        value, grad = F.cross_entropy(x, y, reduction=reduction, return_grad=True)
        twin, twin_grad = F.cross_entropy(x, onehot(y, classes, dtype), reduction=reduction, return_grad=True)
        assert_near(twin, value, dtype, relative=4)
        assert_near(twin_grad, grad, dtype, relative=4)


@by_dtype
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_onehot_targets_keep_the_digits_of_confident_rows(classes, dtype):
    x = confident(classes, dtype)
    grad = F.cross_entropy(x, onehot(np.ones(len(x), int), classes, dtype), reduction="sum", return_grad=True)[1]
    target = [-sum(p for k, p in enumerate(ExactRow(row).softmax) if k != 1) for row in x]
    assert_close_in_tail(grad[:, 1], target, dtype, x[:, 1])


@by_dtype
def test_soft_targets_against_mpmath(dtype, rng):
    x = rng.normal(0, 10, (40, 5)).astype(dtype)
    t = rng.dirichlet(np.ones(5), 40).astype(dtype)
    losses, grad = F.cross_entropy(x, t, reduction="none", return_grad=True)
    exact = [ExactRow(row) for row in x]
    shares = [[mp.mpf(v) for v in row] for row in t.tolist()]
    assert_close_in_tail(losses, [-mp.fdot(s, e.log_softmax) for s, e in zip(shares, exact, strict=True)], dtype, x)
    for got, share, e in zip(grad, shares, exact, strict=True):
        slopes = [mp.fsum(share) * p - s for p, s in zip(e.softmax, share, strict=True)]
        assert_near(got, [float(s) for s in slopes], dtype, absolute=4)


TABLE = [
    ([-INF, 0, 0], [0, 0.5, 0.5], math.log(2)),
    ([-INF, 0, 0], [0.4, 0.3, 0.3], INF),
    ([-INF, 0, -INF], [0, 1, 0], 0.0),
]


@by_dtype
@pytest.mark.parametrize(("logits", "target", "loss"), TABLE, ids=["log 2", "inf", "0"])
def test_soft_targets_beside_infinite_logits(logits, target, loss, dtype):
    # The cases of optax.losses.safe_softmax_cross_entropy's tests.
    x, t = np.array([logits], dtype), np.array([target], dtype)
    value, grad = F.cross_entropy(x, t, return_grad=True)
    assert value == loss
    assert np.isfinite(grad).all()
    assert_near(grad, F.softmax(x) - t, dtype, absolute=4)


@by_dtype
@pytest.mark.parametrize("classes", [3, 40, 300])
def test_class_of_minus_infinity_and_no_share_adds_nothing(classes, dtype, rng):
    x = rng.normal(0, 3, (4, classes)).astype(dtype)
    t = rng.dirichlet(np.ones(classes), 4).astype(dtype)
    wider = np.insert(x, 1, -INF, axis=1), np.insert(t, 1, 0, axis=1)
    value, grad = F.cross_entropy(*wider, return_grad=True)
    twin, twin_grad = F.cross_entropy(x, t, return_grad=True)
    assert value == pytest.approx(twin, rel=4 * EPS[dtype])
    np.testing.assert_array_equal(grad[:, 1], np.zeros(4))
    assert_near(np.delete(grad, 1, axis=1), twin_grad, dtype, absolute=4)


@by_dtype
@pytest.mark.parametrize("target", [[0], [[1.0, 0.0, 0.0]]], ids=["label", "onehot"])
def test_target_of_minus_infinity_costs_infinity_and_has_a_finite_gradient(target, dtype):
    value, grad = F.cross_entropy(np.array([[-INF, 0, 0]], dtype), target, return_grad=True)
    assert value == INF
    np.testing.assert_array_equal(grad, [[-1, 0.5, 0.5]])


@by_dtype
@pytest.mark.parametrize("target", [[1], [[0.0, 1.0, 0.0]]], ids=["label", "onehot"])
def test_other_class_of_minus_infinity_costs_nothing(target, dtype):
    value, grad = F.cross_entropy(np.array([[-INF, 2, 2]], dtype), target, return_grad=True)
    assert value == math.log(2)
    np.testing.assert_array_equal(grad, [[0, -0.5, 0.5]])


@by_dtype
@pytest.mark.parametrize("target", [[0, 0], [[1.0, 0.0]] * 2], ids=["label", "onehot"])
@pytest.mark.parametrize("row", [[-INF, -INF], [NAN, 0], [0, NAN]], ids=["-inf only", "nan target", "nan other"])
def test_row_without_a_softmax_costs_nan_and_leaves_other_rows_alone(row, target, dtype):
    x = np.array([row, [0, 0]], dtype)
    losses, grad = F.cross_entropy(x, target, reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, np.array([NAN, math.log(2)], dtype))
    assert np.isnan(grad[0]).all()
    np.testing.assert_array_equal(grad[1], [-0.5, 0.5])


# ---- binary cross-entropy ----


@by_dtype
@pytest.mark.parametrize("sign", [1, -1], ids=["z > 0", "z < 0"])
@pytest.mark.parametrize("y", [0, 1])
def test_binary_cross_entropy_with_logits_keeps_its_digits_in_both_tails(y, sign, dtype):
    z = sign * gaps(dtype)
    losses, grad = F.binary_cross_entropy_with_logits(z, np.full(len(z), y), reduction="none", return_grad=True)
    side = 1 - 2 * y  # loss = softplus(side z), gradient = side sigmoid(side z)
    numbers = [mp.mpf(v) * side for v in z.tolist()]
    assert_close_in_tail(losses, [exact_softplus(v) for v in numbers], dtype, z)
    assert_close_in_tail(grad, [side * EXACT["sigmoid"](v) for v in numbers], dtype, z)


@by_dtype
@pytest.mark.parametrize("t", [0.5, 0.25, 0.9, 1e-6, 1 - 2.0**-20])
def test_binary_cross_entropy_with_logits_of_soft_targets(t, dtype):
    half = gaps(dtype)[::4]
    z = np.concatenate([half, -half])
    share = mp.mpf(float(np.array(t, dtype)))
    losses, grad = F.binary_cross_entropy_with_logits(z, np.full(len(z), t), reduction="none", return_grad=True)
    numbers = [mp.mpf(v) for v in z.tolist()]
    values = [share * exact_softplus(-v) + (1 - share) * exact_softplus(v) for v in numbers]
    assert_close_in_tail(losses, values, dtype, z)
    slopes = [float(EXACT["sigmoid"](v) - share) for v in numbers]
    assert_near(grad, slopes, dtype, absolute=2)


@by_dtype
@pytest.mark.parametrize("y", [0, 1])
def test_binary_cross_entropy_with_logits_at_0(y, dtype):
    for z in (0.0, -0.0):
        value, grad = F.binary_cross_entropy_with_logits(np.array([z], dtype), [y], return_grad=True)
        assert value == pytest.approx(math.log(2), rel=EPS[dtype])
        assert grad[0] == 0.5 - y


INFINITIES = [(INF, 1, 0, 0), (-INF, 0, 0, 0), (INF, 0, INF, 1), (-INF, 1, INF, -1)]


@by_dtype
@pytest.mark.parametrize(("z", "y", "loss", "slope"), INFINITIES)
def test_binary_cross_entropy_with_logits_at_infinity(z, y, loss, slope, dtype):
    value, grad = F.binary_cross_entropy_with_logits(np.array([z], dtype), [y], return_grad=True)
    assert (value, grad[0]) == (loss, slope)


@by_dtype
@pytest.mark.parametrize("z", [1e3, 1e20, 1e30])
def test_binary_cross_entropy_with_logits_of_huge_logits(z, dtype):
    x = np.array([z, -z, z, -z], dtype)
    losses, grad = F.binary_cross_entropy_with_logits(x, [1, 0, 0, 1], reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, [0, 0, x[0], x[0]])
    np.testing.assert_array_equal(grad, [0, 0, 1, -1])


@by_dtype
@pytest.mark.parametrize(("p", "y", "loss"), [(0, 0, 0), (1, 1, 0), (0, 1, INF), (1, 0, INF)])
def test_binary_cross_entropy_of_certain_answers_is_not_clipped(p, y, loss, dtype):
    value, grad = F.binary_cross_entropy(np.array([p], dtype), [y], return_grad=True)
    assert value == loss
    assert grad[0] == (INF if loss else 1) * (1 - 2 * y)


@by_dtype
@pytest.mark.parametrize("y", [0, 1])
def test_binary_cross_entropy_of_labels_against_mpmath(y, dtype, rng):
    near_0 = powers(TINY[dtype], 0.5, 300, dtype)
    p = np.concatenate([near_0, 1 - near_0[near_0 > EPS[dtype]], rng.uniform(0, 1, 300)]).astype(dtype)
    losses, grad = F.binary_cross_entropy(p, np.full(len(p), y), reduction="none", return_grad=True)
    numbers = [mp.mpf(v) for v in p.tolist()]
    assert_close_in_tail(losses, [-mp.log(v) if y else -mp.log1p(-v) for v in numbers], dtype, p)
    assert_close_in_tail(grad, [-1 / v if y else 1 / (1 - v) for v in numbers], dtype, p)


@by_dtype
def test_binary_cross_entropy_of_soft_targets_against_mpmath(dtype, rng):
    p, t = rng.uniform(0, 1, (2, 500)).astype(dtype)
    losses, grad = F.binary_cross_entropy(p, t, reduction="none", return_grad=True)
    pairs = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(p.tolist(), t.tolist(), strict=True)]
    assert_close_in_tail(losses, [-b * mp.log(a) - (1 - b) * mp.log1p(-a) for a, b in pairs], dtype, p)
    slopes = [float((a - b) / (a * (1 - a))) for a, b in pairs]
    assert_near(grad, slopes, dtype, absolute=4 * np.max(np.abs(slopes)))


# ---- the process ----

AFTER_IMPORT = """
import numpy as np
import minnet
x = np.full(40, 1e-38, np.float32)
minnet.functional.cross_entropy(x[None], [0], return_grad=True)
small = x * np.float32(0.1)
assert (small > 0).all() and np.finfo(np.float32).smallest_subnormal > 0
assert np.float64(5e-324) * np.float64(1) > 0
print("subnormal")
"""


def test_subnormal_numbers_survive_the_import():
    done = subprocess.run([sys.executable, "-c", AFTER_IMPORT], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("subnormal", "")
    assert minnet.__version__
