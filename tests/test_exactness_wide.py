"""Exactness over a wide field: softmax family and losses against mpmath at gaps 0 ... 800, offsets up to 1e30, with
subnormal results, -inf, inf and NaN, for 1 to 50,257 classes. What is looked at closely stands in test_exactness.
"""

from functools import cache, partial

import numpy as np
import pytest
from test_exactness import (
    CUTOFFS,
    EPS,
    EXACT,
    INF,
    LOWEST,
    NAN,
    TINY,
    ExactRow,
    assert_near,
    assert_within,
    by_dtype,
    exact_softplus,
    mp,
    neighbours,
    random_bits,
    subnormals,
)

from minnet import functional as F

MOST = 50_257  # tokens of GPT-2
END_OF_NORMAL = {"float32": 87.34, "float64": 708.4}  # exp(-x) is subnormal from here on, and 0 from ...
END = {"float32": 103.9, "float64": 745.1}  # ... here on


# ---- rows ----


def gap_rows(classes, dtype):
    """A leader anywhere, the others 0 ... 800 behind it, side by side or strewn; gaps at the cutoffs among them."""
    rng = np.random.default_rng(classes)
    count = max(12, min(150, 900 // classes))
    ends = [rng.uniform(0, end, count) for end in (800, 110)]
    gaps = np.concatenate([*ends, CUTOFFS[dtype], [0, 800, 1e-3, 1e-7]])
    x = -gaps[:, None] - rng.exponential(1, (len(gaps), classes)) * rng.integers(0, 2, (len(gaps), 1))
    x[np.arange(len(gaps)), rng.integers(0, classes, len(gaps))] = 0
    return (x + rng.uniform(-400, 400, (len(gaps), 1))).astype(dtype)


def offset_rows(offset, dtype):
    """Logits near an offset, one float apart or some; of the largest offsets none but these fit in a row."""
    rng = np.random.default_rng(7)
    x = (offset + rng.normal(0, 30, (60, 7))).astype(dtype)
    steps = rng.integers(-3, 4, (20, 7)).astype(dtype)
    return np.concatenate([x, np.array(offset, dtype) + steps * np.spacing(np.array(abs(offset), dtype))])


def subnormal_rows(classes, dtype):
    """Rows whose probabilities are all subnormal but one."""
    rng = np.random.default_rng(classes)
    x = rng.uniform(-END[dtype], -END_OF_NORMAL[dtype], (40, classes))
    x[:, classes // 3] = 0
    return (x + rng.integers(-99, 99, (len(x), 1))).astype(dtype)


def tied_rows(classes, dtype):
    """A leader before equals, whose exponentials have few digits left, or round to 0; the sum of them does not."""
    x = np.zeros((40, classes), dtype)
    x[:, 1] = np.linspace(END_OF_NORMAL[dtype], END[dtype] + np.log(classes - 1), 42)[1:-1]
    return x


def many_classes(kind, dtype):
    """One row of logits, all alike or one of them far ahead."""
    rng = np.random.default_rng(3)
    x = rng.normal(2, 3, MOST) if kind == "random" else rng.uniform(-800, -40, MOST)
    if kind == "confident":
        x[MOST // 2] = 0
    return x[None].astype(dtype)


OFFSETS = [1e4, -1e4, 1e8, -1e8, 1e15, -1e15, 1e30, -1e30]
SAMPLES = {
    **{f"gaps, C={c}": partial(gap_rows, c) for c in (1, 2, 3, 10, 17, 65)},
    **{f"offset {v:g}": partial(offset_rows, v) for v in OFFSETS},
    **{f"subnormal, C={c}": partial(subnormal_rows, c) for c in (2, 40)},
    "ties, C=300": partial(tied_rows, 300),
    **{f"{kind}, C={MOST}": partial(many_classes, kind) for kind in ("random", "confident")},
}
by_sample = pytest.mark.parametrize("sample", list(SAMPLES))


@cache
def logits(sample, dtype):
    """The rows of a sample, and all that follows from each."""
    x = SAMPLES[sample](dtype)
    x.flags.writeable = False
    return x, [ExactRow(row) for row in x]


def some(count):
    """Places in a row: all, or, of very many, the first, the last, and some from between."""
    return np.arange(count) if count < 1000 else np.unique(np.linspace(0, count - 1, 3001).astype(int))


def labels_of(x, which):
    """The leading class of each row, the last one, or the one with the least logit."""
    return {"leader": x.argmax(1), "least": x.argmin(1), "last": np.full(len(x), x.shape[1] - 1)}[which]


by_label = pytest.mark.parametrize("which", ["leader", "least", "last"])


def assert_keeps_digits(got, exact, dtype, what):
    """Relative error at most 4 eps, or an error of one spacing of subnormal numbers where that is more."""
    for g, e, name in zip(np.ravel(got).tolist(), exact, what, strict=True):
        bound = max(4 * EPS[dtype] * abs(e), mp.ldexp(1, LOWEST[dtype]))
        assert abs(mp.mpf(g) - e) <= bound, f"{g!r}, not {mp.nstr(e, 20)}, for {name}"


# ---- the samples ----


@by_dtype
def test_samples_are_what_they_are_said_to_be(dtype):
    gaps = np.concatenate([np.ptp(logits(f"gaps, C={c}", dtype)[0].astype(float), axis=1) for c in (2, 3, 10)])
    assert gaps.min() == 0
    assert 790 < gaps.max() < 820
    assert np.count_nonzero((gaps > END_OF_NORMAL[dtype]) & (gaps < END[dtype])) > 10
    assert SAMPLES[f"random, C={MOST}"](dtype).shape == (1, MOST)


@by_dtype
@pytest.mark.parametrize("classes", [2, 40])
def test_probabilities_of_the_subnormal_samples_are_subnormal(classes, dtype):
    p = F.softmax(logits(f"subnormal, C={classes}", dtype)[0])
    assert np.count_nonzero((p > 0) & (p < TINY[dtype])) > 0.9 * (p.size - len(p))


# ---- softmax family ----


@by_dtype
@by_sample
def test_softmax_is_within_2_ulp_and_1_where_subnormal(sample, dtype):
    x, exact = logits(sample, dtype)
    places = some(x.shape[1])
    for row, got, e in zip(x, F.softmax(x), exact, strict=True):
        probabilities = [e.softmax[k] for k in places]
        assert_within(2, got[places], probabilities, dtype, row[places])
        small = [k for k in places if e.softmax[k] < TINY[dtype]]
        if small:
            assert_within(1, got[small], [e.softmax[k] for k in small], dtype, row[small])


@by_dtype
@by_sample
def test_log_softmax_is_within_2_ulp(sample, dtype):
    x, exact = logits(sample, dtype)
    places = some(x.shape[1])
    for row, got, e in zip(x, F.log_softmax(x), exact, strict=True):
        assert_within(2, got[places], [e.log_softmax[k] for k in places], dtype, row[places])


@by_dtype
@by_sample
def test_logsumexp_is_within_2_ulp_of_the_larger_of_its_terms(sample, dtype):
    x, exact = logits(sample, dtype)
    for got, e in zip(F.logsumexp(x), exact, strict=True):
        larger = max(abs(e.logsumexp), abs(e.top), e.log_sum)
        assert abs(mp.mpf(float(got)) - e.logsumexp) <= 2 * EPS[dtype] * larger


@by_dtype
@pytest.mark.parametrize("classes", [1, 2, 17, 300, MOST])
def test_classes_of_minus_infinity_change_nothing_for_the_others(classes, dtype, rng):
    x = rng.normal(0, 30, (1, classes)).astype(dtype)
    holes = np.sort(rng.integers(0, classes + 1, 1 + classes // 3))
    wider = np.insert(x, holes, -INF, axis=1)
    finite = np.isfinite(wider)
    assert finite.sum() == classes < wider.size
    for function, bottom in ((F.softmax, 0), (F.log_softmax, -INF)):
        np.testing.assert_array_equal(function(wider)[~finite], bottom)
        assert_near(function(wider)[finite], function(x)[0], dtype, relative=2)
    assert_near(F.logsumexp(wider), F.logsumexp(x), dtype, relative=2)


@by_dtype
def test_infinity_among_many_classes_takes_all(dtype, rng):
    x = rng.normal(0, 30, (2, MOST)).astype(dtype)
    x[1, 40_000] = INF
    onehot = np.arange(MOST) == 40_000
    np.testing.assert_array_equal(F.softmax(x)[1], onehot)
    np.testing.assert_array_equal(F.log_softmax(x)[1], np.where(onehot, 0, -INF))
    np.testing.assert_array_equal(np.isinf(F.logsumexp(x)), [False, True])


@by_dtype
@pytest.mark.parametrize("place", [0, 1, 25_000, MOST - 1])
def test_nan_among_many_classes_fills_its_row_and_no_other(place, dtype, rng):
    x = rng.normal(0, 30, (3, MOST)).astype(dtype)
    x[1, place] = NAN
    for function in (F.softmax, F.log_softmax):
        np.testing.assert_array_equal(np.isnan(function(x)), np.isnan(x).any(1, keepdims=True) & np.ones(MOST, bool))
    np.testing.assert_array_equal(np.isnan(F.logsumexp(x)), [False, True, False])


# ---- cross-entropy: labels ----


@by_dtype
@by_label
@by_sample
def test_cross_entropy_of_labels_keeps_its_digits(sample, which, dtype):
    x, exact = logits(sample, dtype)
    y = labels_of(x, which)
    losses, grad = F.cross_entropy(x, y, reduction="none", return_grad=True)
    assert_keeps_digits(losses, [-e.log_softmax[k] for e, k in zip(exact, y, strict=True)], dtype, x)
    for row, got, e, label in zip(x, grad, exact, y, strict=True):
        rest = mp.fsum(p for k, p in enumerate(e.softmax) if k != label)
        assert_keeps_digits(got[label : label + 1], [-rest], dtype, [row])
        others = [k for k in some(len(row)) if k != label]
        assert_keeps_digits(got[others], [e.softmax[k] for k in others], dtype, row[others])


@by_dtype
@by_label
@pytest.mark.parametrize("sample", ["gaps, C=2", "gaps, C=10", "subnormal, C=40"])
def test_mean_of_cross_entropy_keeps_the_digits_of_each_gradient(sample, which, dtype):
    x, exact = logits(sample, dtype)
    y = labels_of(x, which)
    value, grad = F.cross_entropy(x, y, return_grad=True)
    mean = -mp.fsum(e.log_softmax[k] for e, k in zip(exact, y, strict=True)) / len(x)
    assert abs(value - mean) <= 4 * EPS[dtype] * mean
    for row, got, e, label in zip(x, grad, exact, y, strict=True):
        rest = mp.fsum(p for k, p in enumerate(e.softmax) if k != label)
        want = [-rest / len(x) if k == label else p / len(x) for k, p in enumerate(e.softmax)]
        assert_keeps_digits(got, want, dtype, row)


@by_dtype
def test_some_losses_and_gradients_are_subnormal(dtype):
    x = logits("subnormal, C=2", dtype)[0]
    results = F.cross_entropy(x, x.argmax(1), reduction="none", return_grad=True)
    for result in results:
        assert np.all((result != 0) & (np.abs(result) < TINY[dtype]))


@by_dtype
@pytest.mark.parametrize("kind", ["label", "probabilities"])
def test_cross_entropy_of_many_classes_beside_infinite_and_nan_logits(kind, dtype, rng):
    x = rng.normal(0, 30, (4, MOST)).astype(dtype)
    y = np.array([5, 5, 6, 7])
    x[1, 5] = x[2, 5] = -INF  # the target in row 1, another class in row 2
    x[3, 40_000] = NAN
    target = y if kind == "label" else np.eye(8, MOST, dtype=dtype)[y]
    losses, grad = F.cross_entropy(x, target, reduction="none", return_grad=True)
    np.testing.assert_array_equal(np.isnan(losses), [False, False, False, True])
    np.testing.assert_array_equal(np.isinf(losses), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(grad), np.arange(4)[:, None] + np.zeros(MOST) == 3)
    assert (grad[1, 5], grad[2, 5]) == (-1, 0)


# ---- cross-entropy: probabilities ----


def shares(x, kind):
    """Distributions over the classes: even, uneven, nearly one-hot on the leader, none for every other class."""
    rng = np.random.default_rng(x.shape[1])
    if kind == "even":
        return np.full(x.shape, 1 / x.shape[1], x.dtype)
    t = rng.dirichlet(np.ones(x.shape[1]), len(x))
    if kind == "smoothed":
        t = 2.0**-20 * t
        t[np.arange(len(x)), x.argmax(1)] += 1 - 2.0**-20
    if kind == "sparse":
        t[:, ::2] = 0
    with np.errstate(under="ignore"):
        return t.astype(x.dtype)


@by_dtype
@pytest.mark.parametrize("kind", ["even", "uneven", "smoothed", "sparse"])
@pytest.mark.parametrize("sample", [name for name in SAMPLES if name not in ("gaps, C=3", "gaps, C=17", "ties, C=300")])
def test_cross_entropy_of_probabilities_against_mpmath(sample, kind, dtype):
    x, exact = logits(sample, dtype)
    t = shares(x, kind)
    losses, grad = F.cross_entropy(x, t, reduction="none", return_grad=True)
    numbers = [[mp.mpf(v) for v in row] for row in t.tolist()]
    want = [-mp.fdot(n, e.log_softmax) for n, e in zip(numbers, exact, strict=True)]
    assert_keeps_digits(losses, want, dtype, x)
    for got, n, e in zip(grad, numbers, exact, strict=True):
        total = mp.fsum(n)
        for k in some(len(n)):
            gained, lost = total * e.softmax[k], n[k]
            bound = 4 * EPS[dtype] * max(gained, lost) + mp.ldexp(1, LOWEST[dtype])
            error = abs(mp.mpf(float(got[k])) - (gained - lost))
            assert error <= bound, f"{got[k]!r}, not {mp.nstr(gained - lost, 20)}, for class {k}"


# ---- binary cross-entropy ----


def wide_logits(dtype):
    """Logits of all sizes, and gaps 0 ... 800 densely."""
    rng = np.random.default_rng(5)
    half = [rng.uniform(0, 800, 1000), rng.uniform(0, 110, 1000), *(neighbours(v, 10, dtype) for v in CUTOFFS[dtype])]
    z = np.concatenate(half).astype(dtype)
    return np.concatenate([z, -z, random_bits(dtype, rng)[:1500], subnormals(dtype, rng)])


@by_dtype
@pytest.mark.parametrize("y", [0, 1])
def test_binary_cross_entropy_with_logits_of_all_sizes_keeps_its_digits(y, dtype):
    z = wide_logits(dtype)
    losses, grad = F.binary_cross_entropy_with_logits(z, np.full(len(z), y), reduction="none", return_grad=True)
    side = 1 - 2 * y
    numbers = [mp.mpf(v) * side for v in z.tolist()]
    assert_keeps_digits(losses, [exact_softplus(v) for v in numbers], dtype, z)
    assert_keeps_digits(grad, [side * EXACT["sigmoid"](v) for v in numbers], dtype, z)
    assert np.count_nonzero((losses > 0) & (losses < TINY[dtype])) > 20


@by_dtype
def test_binary_cross_entropy_with_logits_of_all_sizes_and_any_share(dtype, rng):
    z = wide_logits(dtype)
    t = rng.choice([*rng.uniform(0, 1, 50), 0.5, 1e-30, TINY[dtype] / 4, 1 - EPS[dtype]], len(z)).astype(dtype)
    losses, grad = F.binary_cross_entropy_with_logits(z, t, reduction="none", return_grad=True)
    pairs = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(z.tolist(), t.tolist(), strict=True)]
    values = [b * exact_softplus(-a) + (1 - b) * exact_softplus(a) for a, b in pairs]
    assert_keeps_digits(losses, values, dtype, z)
    assert_near(grad, [float(EXACT["sigmoid"](a) - b) for a, b in pairs], dtype, absolute=2)


@by_dtype
@pytest.mark.parametrize("y", [0, 1])
def test_binary_cross_entropy_of_any_probability(y, dtype, rng):
    bits = np.abs(random_bits(dtype, rng))
    p = np.concatenate([bits[bits < 1], subnormals(dtype, rng)])
    assert len(p) > 1000
    losses, grad = F.binary_cross_entropy(p, np.full(len(p), y), reduction="none", return_grad=True)
    numbers = [mp.mpf(v) for v in p.tolist()]
    assert_keeps_digits(losses, [-mp.log(v) if y else -mp.log1p(-v) for v in numbers], dtype, p)
    slopes = [-1 / v if y else 1 / (1 - v) for v in numbers]
    fits = np.array([abs(s) < np.finfo(dtype).max for s in slopes])
    assert_keeps_digits(grad[fits], [s for s, fit in zip(slopes, fits, strict=True) if fit], dtype, p[fits])
    np.testing.assert_array_equal(grad[~fits], np.full(np.count_nonzero(~fits), -INF))
    assert fits.all() == (y == 0)
