"""Binary cross-entropy with its options: beside torch, against mpmath in both tails, at infinity, weighed, smoothed and
focal; the upstream gradient; properties; bad options. T-numbers are those of a list of known bugs of other kernels.
"""

import itertools
import math
import re

import mpmath
import numpy as np
import pytest
import reference
import torch_record
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minnet as mn
from minnet import _elementwise
from minnet import functional as F

mp = mpmath.mp.clone()
mp.dps = 60

INF, NAN = math.inf, math.nan
DTYPES = ["float32", "float64"]
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}
LEAST = {"float32": 2.0**-149, "float64": 2.0**-1074}
REDUCTIONS = ["mean", "sum", "none", "batchmean"]

bce = F.binary_cross_entropy_with_logits
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)

OPTIONS = {
    "pos_weight": {"pos_weight": 3.7},
    "weight": {"weight": 0.3},
    "smoothing": {"label_smoothing": 0.1},
    "alpha": {"alpha": 0.25},
    "gamma 2": {"gamma": 2.0},
    "gamma 1": {"gamma": 1.0},
    "gamma 0.5": {"gamma": 0.5},
    "gamma 0.001": {"gamma": 0.001},
    "gamma 3.3": {"gamma": 3.3},
    "gamma 5": {"gamma": 5.0},
    "gamma 10": {"gamma": 10.0},
    "all": {"weight": 0.7, "pos_weight": 3.3, "label_smoothing": 0.1, "alpha": 0.3, "gamma": 2.0},
    "all, gamma 0.3": {"weight": 0.7, "pos_weight": 3.3, "label_smoothing": 0.1, "alpha": 0.3, "gamma": 0.3},
}
by_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def batch(rng, shape=(6, 4), dtype="float64"):
    return rng.normal(0, 3, shape).astype(dtype), rng.uniform(0, 1, shape).astype(dtype)


def assert_near(got, want, dtype, scale=16):
    np.testing.assert_allclose(got, want, rtol=scale * EPS[dtype], atol=scale * EPS[dtype])


# ---- beside torch ----

by_case = pytest.mark.parametrize(("case", "reduction"), torch_record.cases("binary"))


@by_case
def test_value_and_gradient_are_those_that_torch_gave(case, reduction):
    torch_record.assert_equal_to_torch(F, case, reduction, torch_record.record()[case])


@by_case
def test_value_and_gradient_are_those_that_torch_gives_now(case, reduction):
    pytest.importorskip("torch")
    torch_record.assert_equal_to_torch(F, case, reduction, torch_record.computed_by_torch_now(case))


def test_the_record_is_of_torch_2_13():
    assert torch_record.record()["torch"].startswith("2.13")
    assert len(torch_record.cases("binary")) == 3 * 14


# ---- beside the twin ----


@by_dtype
@by_reduction
@by_options
@pytest.mark.parametrize("shape", [(7,), (6, 4), (1, 1), (0, 3), (300, 5), (2, 3, 4)], ids=str)
def test_every_option_equals_the_twin(options, reduction, dtype, shape, rng):
    z, t = batch(rng, shape, dtype)
    weight = rng.uniform(0, 2, shape[0])
    value, grad = bce(z, t, **options, sample_weight=weight, reduction=reduction, return_grad=True)
    want, want_grad = reference.binary_cross_entropy_with_logits(z, t, weight, reduction, **options)
    assert (grad.shape, grad.dtype) == (shape, dtype)
    assert_near(value, want, dtype, 64)
    assert_near(grad, want_grad, dtype, 64)
    np.testing.assert_array_equal(bce(z, t, **options, sample_weight=weight, reduction=reduction), value)


@by_dtype
@by_options
def test_options_give_the_numeric_derivative(options, dtype, rng):
    z, t = batch(rng)
    loss = mn.BCEWithLogitsLoss(**options)
    assert mn.check_gradient(loss, z, t, sample_weight=[1, 0, 2, 0.5, 1, 1], tol=1e-8) < 1e-8


# ---- exactness ----


def exact(z, t, weight=1, pos_weight=1, label_smoothing=0, gamma=0, alpha=None):
    """Loss and slope of numbers that are taken as they are, with 60 digits."""
    z, t, s, g = (mp.mpf(float(v)) for v in (z, t, label_smoothing, gamma))
    t = t * (1 - s) + s / 2
    yes, no = (mp.mpf(1), mp.mpf(1)) if alpha is None else (mp.mpf(alpha), 1 - mp.mpf(alpha))
    yes, no = mp.mpf(weight) * mp.mpf(pos_weight) * yes * t, mp.mpf(weight) * no * (1 - t)
    e = mp.exp(-abs(z))
    larger, smaller, log = 1 / (1 + e), e / (1 + e), mp.log1p(e)
    (a, b), (below, above) = ((larger, smaller), (log, z + log)) if z >= 0 else ((smaller, larger), (log - z, log))
    loss = yes * b**g * below + no * a**g * above
    return loss, no * a**g * (a + g * b * above) - yes * b**g * (b + g * a * below)


def logits(dtype):
    rng = np.random.default_rng(3)
    return np.concatenate([np.linspace(-100, 100, 101), rng.normal(0, 2, 60), rng.uniform(-40, 40, 40)]).astype(dtype)


def assert_relative(got, want, dtype, bound, what):
    """At most `bound` eps of `want` away, or two spacings of subnormal numbers."""
    for g, w, name in zip(got.tolist(), want, what, strict=True):
        limit = max(bound * EPS[dtype] * abs(w), 2 * mp.mpf(LEAST[dtype]) if abs(w) < 4 * NORMAL[dtype] else 0)
        assert abs(mp.mpf(g) - w) <= limit, f"{g!r}, not {mp.nstr(w, 20)}, at {name}"


@by_dtype
@by_options
@pytest.mark.parametrize("y", [0, 1])
def test_labels_with_options_keep_their_digits_in_both_tails(options, y, dtype):
    # T20, with options; 8 eps, T15: no path overflows
    z = logits(dtype)
    losses, grad = bce(z, np.full_like(z, y), **options, reduction="none", return_grad=True)
    want = [exact(v, y, **options) for v in z.tolist()]
    assert_relative(losses, [loss for loss, _ in want], dtype, 8, z)
    if not options.get("label_smoothing"):  # else it is the difference of two terms, and goes through 0
        assert_relative(grad, [slope for _, slope in want], dtype, 8, z)


@by_dtype
@by_options
@pytest.mark.parametrize("t", [0.9, 1e-6])
def test_losses_of_soft_targets_keep_their_digits(options, t, dtype):
    z = logits(dtype)
    t = np.full_like(z, t)
    losses, grad = bce(z, t, **options, reduction="none", return_grad=True)
    want = [exact(v, t[0], **options) for v in z.tolist()]
    assert_relative(losses, [loss for loss, _ in want], dtype, 8, z)
    assert_near(grad, [float(slope) for _, slope in want], dtype)


@by_dtype
def test_t20_the_gradient_of_a_right_confident_answer_is_not_0(dtype):
    for options in ({}, {"pos_weight": 1.0}, {"gamma": 1e-30}):
        grad = bce(np.array([17.0], dtype), np.array([1.0], dtype), **options, return_grad=True)[1]
        assert grad[0] == pytest.approx(-1 / (1 + math.exp(17)), rel=8 * EPS[dtype])


@by_dtype
@by_options
@pytest.mark.parametrize("y", [0, 1])
def test_t16_at_0(options, y, dtype):
    loss, grad = bce(np.zeros(1, dtype), np.full(1, y, dtype), **options, return_grad=True)
    want, slope = exact(0, y, **options)
    assert_near(loss, float(want), dtype, 8)
    assert_near(grad, [float(slope)], dtype, 8)


# ---- at the ends ----

ENDS = [INF, 1e30, 1e20, 1e3]


@by_dtype
@by_options
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("end", ENDS, ids=str)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_t14_t17_t27_logits_at_the_ends_have_a_loss_and_a_finite_gradient(options, y, end, sign, dtype):
    z = np.array([sign * end, 0.3], dtype)
    right = (sign > 0) == (y == 1) and not options.get("label_smoothing")
    want, slope = exact(sign * min(end, 1e3), y, **options)
    each = bce(z, [y, 1], **options, reduction="none")
    losses, grad = bce(z, [y, 1], **options, reduction="none", return_grad=True)
    np.testing.assert_array_equal(each, losses)
    assert losses[0] == 0 if right else losses[0] == pytest.approx(float(want) * end / 1e3, rel=1e-2)
    assert grad[0] == 0 if right else grad[0] == pytest.approx(float(slope), rel=1e-2)
    assert losses[1] == bce(z[1:], [1], **options, reduction="none")


@by_dtype
@pytest.mark.parametrize("gamma", [0, 1e-30, 1e-3, 0.1, 0.5, 0.999, 1, 1.5, 2, 10, 1e3, 1e10, 1e30])
def test_t27_the_gradient_is_finite_for_every_gamma(gamma, dtype):
    z = np.array([*ENDS, 0, 1e-30, 0.5, 17, 37, 88, 100, 700, 745], dtype)
    z = np.concatenate([z, -z])
    for t in (0.0, 1.0, 0.5):
        losses, grad = bce(z, np.full_like(z, t), gamma=gamma, reduction="none", return_grad=True)
        assert np.isfinite(grad).all()
        assert not np.isnan(losses).any()
        assert np.isfinite(losses[np.isfinite(z)]).all()


@by_dtype
@pytest.mark.parametrize("labels", [True, False])
@by_options
def test_a_loss_does_not_depend_on_the_place_in_the_array(options, labels, dtype, rng):
    # What does not fill a vector is computed one by one: a product that is fused in one of the two only would show.
    z = np.concatenate([rng.normal(0, 3, 200), rng.uniform(-110, 110, 100)]).astype(dtype)
    t = rng.integers(0, 2, 300).astype(dtype) if labels else rng.uniform(0.1, 0.9, 300).astype(dtype)
    whole = bce(z, t, **options, reduction="none", return_grad=True)
    for length in (1, 3, 7, 15, 33):
        rows = [slice(start, start + length) for start in range(0, 300, length)]
        pieces = [bce(z[k], t[k], **options, reduction="none", return_grad=True) for k in rows]
        for got, want in zip(map(np.concatenate, zip(*pieces, strict=True)), whole, strict=True):
            np.testing.assert_array_equal(got, want, strict=True)


@by_dtype
@pytest.mark.parametrize("weighed", [True, False])
def test_every_loss_enters_the_sum_once(weighed, dtype, rng):
    for size in (*range(1, 40), 63, 64, 65, 127, 128, 129, 159, 160, 161, 255, 256, 257, 400):
        z, t = batch(rng, size, dtype)
        weight = rng.uniform(0, 2, size) if weighed else None
        losses = bce(z, t, sample_weight=weight, reduction="none")
        bound = 1e-15 if dtype == "float64" or not weighed else 1e-7
        assert bce(z, t, sample_weight=weight, reduction="sum") == pytest.approx(math.fsum(losses.tolist()), rel=bound)


@by_dtype
@by_options
def test_nan_stays_in_its_element(options, dtype):
    losses, grad = bce(np.array([NAN, 1.0], dtype), [1, 1], **options, reduction="none", return_grad=True)
    np.testing.assert_array_equal(np.isnan(losses), [True, False])
    np.testing.assert_array_equal(np.isnan(grad), [True, False])


@by_dtype
@pytest.mark.parametrize("options", [{}, {"gamma": 2}, {"gamma": 0.7, "pos_weight": 3}], ids=str)
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_an_element_of_weight_0_is_left_out_whatever_it_holds(bad, options, dtype):
    z, t = np.array([[bad, 1.0], [bad, -2.0]], dtype), np.array([[1, 0], [0, 1]])
    for weight in ([0, 2], [[0, 2], [0, 2]]):
        losses, grad = bce(z, t, weight=weight, **options, reduction="none", return_grad=True)
        want, want_grad = bce(z[:, 1:], t[:, 1:], weight=2, **options, reduction="none", return_grad=True)
        np.testing.assert_array_equal(losses, np.hstack([0 * want, want]))
        np.testing.assert_array_equal(grad, np.hstack([0 * want_grad, want_grad]))


def test_t24_nothing_is_clipped():
    assert bce([-1e5], [1]) == 1e5
    p = np.array([1e-300, 1e-45, 1 - 2.0**-53])
    np.testing.assert_allclose(
        F.binary_cross_entropy(p, [1, 1, 0], reduction="none"), [690.7755278982137, 103.616, 36.7368], rtol=1e-5
    )
    value, grad = F.binary_cross_entropy([0.0, 1.0], [1, 0], return_grad=True)
    assert value == INF
    np.testing.assert_array_equal(grad, [-INF, INF])


# ---- gamma = 0 and other options that change nothing ----


@by_dtype
@by_reduction
@pytest.mark.parametrize("shape", [(5, 3), (3000, 3)], ids=["by the door", "large"])
def test_options_at_their_defaults_are_bitwise_the_plain_loss(shape, reduction, dtype, rng):
    z, t = batch(rng, shape, dtype)
    neutral = {"gamma": 0, "label_smoothing": 0, "alpha": None, "weight": None, "pos_weight": None}
    for options in (neutral, {"gamma": np.float64(0)}, {"grad_output": 1.0}):
        got, want = (bce(z, t, reduction=reduction, return_grad=True, **o) for o in (options, {}))
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


@by_dtype
def test_gamma_of_0_is_the_limit_of_small_gamma_with_weights_too(dtype, rng):
    z, t = batch(rng, dtype=dtype)
    got, want = (bce(z, t, pos_weight=3, gamma=g, return_grad=True) for g in (1e-40, 0))
    assert got[0] == pytest.approx(want[0], rel=8 * EPS[dtype])
    assert_near(got[1], want[1], dtype, 4)


# ---- what the options mean ----


def test_pos_weight_counts_positives_more_than_once(rng):
    z = rng.normal(size=(8, 1))
    y = np.array([1, 0, 0, 1, 0, 0, 0, 1.0])[:, None]
    repeated = np.repeat(np.arange(8), np.where(y[:, 0] == 1, 3, 1))
    want = bce(z[repeated], y[repeated], reduction="sum")
    assert bce(z, y, pos_weight=3, reduction="sum") == pytest.approx(want, rel=1e-14)


@by_dtype
@by_reduction
@pytest.mark.parametrize("unit", [1e-30, 1, 1e30, 1e36])
def test_weights_of_all_elements_count_alone_as_beside_other_options(unit, reduction, dtype, rng):
    # alone they are weights of losses, beside other options weights of the shares of each loss
    z, t = batch(rng, (300, 3), dtype)
    weight = (rng.choice([0, 0.25, 0.5, 1], (300, 3)) * unit).astype(dtype)
    z[weight == 0] = NAN
    value, grad = bce(z, t, weight=weight, reduction=reduction, return_grad=True)
    want, want_grad = bce(z, t, weight=weight, pos_weight=1.0, reduction=reduction, return_grad=True)
    assert_near(np.divide(value, unit), np.divide(want, unit), dtype, 4)
    assert_near(grad / unit, want_grad / unit, dtype, 4)


def test_weight_does_not_enter_the_divisor_and_sample_weight_does(rng):
    z, t = batch(rng, (5, 2))
    assert bce(z, t, weight=3) == pytest.approx(3 * bce(z, t), rel=1e-14)
    assert bce(z, t, sample_weight=[3] * 5) == pytest.approx(bce(z, t), rel=1e-14)
    both = bce(z, t, weight=[1, 4], sample_weight=[1, 0, 2, 1, 1])
    want = (bce(z, t, reduction="none") * [1, 4] * np.array([1, 0, 2, 1, 1])[:, None]).sum() / (5 * 2)
    assert both == pytest.approx(want, rel=1e-14)


def test_label_smoothing_moves_targets_and_alpha_shares_the_weight(rng):
    z, t = batch(rng)
    moved = bce(z, t * 0.8 + 0.1, return_grad=True)
    got = bce(z, t, label_smoothing=0.2, return_grad=True)
    assert got[0] == pytest.approx(moved[0], rel=1e-14)
    assert_near(got[1], moved[1], "float64")
    assert bce(z, t, alpha=0.5) == pytest.approx(bce(z, t) / 2, rel=1e-14)
    assert bce(z, np.ones_like(z), alpha=0.2) == pytest.approx(0.2 * bce(z, np.ones_like(z)), rel=1e-14)
    assert bce(z, np.zeros_like(z), alpha=0.2) == pytest.approx(0.8 * bce(z, np.zeros_like(z)), rel=1e-14)
    assert bce(z, t, label_smoothing=1) == pytest.approx(bce(z, np.full_like(z, 0.5)), rel=1e-14)


def test_focus_discounts_what_is_right_already():
    z = np.array([4.0, 0.0, -4.0])
    plain, focal = (bce(z, np.ones(3), gamma=gamma, reduction="none") for gamma in (0, 2))
    np.testing.assert_allclose(focal / plain, (1 / (1 + np.exp(z))) ** 2, rtol=1e-14)


COLUMNS = [1, 2, 3, 7, 255, 256, 257, 300, 1000]


def test_products_of_float32_weights_keep_the_digits_of_float64_logits(rng):
    z, t = batch(rng)
    w, p = rng.uniform(0.1, 3, (2, 4)).astype("float32")
    wide = w.astype("float64"), p.astype("float64")
    got, want = (bce(z, t, weight=a, pos_weight=b, alpha=0.3) for a, b in ((w, p), wide))
    assert got == want


@by_dtype
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("gamma", [0, 2, 0.5])
def test_weights_of_columns_are_weights_of_all_elements(columns, gamma, dtype, rng):
    z, t = batch(rng, (1 + 2000 // columns, columns), dtype)
    w, p = rng.uniform(0.1, 3, (2, columns))
    wide_w, wide_p = (np.broadcast_to(a, z.shape) for a in (w, p))
    want = bce(z, t, weight=wide_w, pos_weight=wide_p, gamma=gamma, reduction="none", return_grad=True)
    for options in ({"weight": w, "pos_weight": p}, {"weight": wide_w, "pos_weight": p}):
        got = bce(z, t, **options, gamma=gamma, reduction="none", return_grad=True)
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("columns", [1, 3, 300, 140_000])
@pytest.mark.parametrize("wide", [False, True])
def test_weights_find_their_elements_in_the_chunks_of_threads(columns, wide, rng):
    z, t = batch(rng, (420_000 // columns, columns), "float32")
    p = rng.uniform(0.1, 3, z.shape if wide else columns)
    sample_weight = rng.uniform(0, 2, len(z))
    options = {"pos_weight": p, "sample_weight": sample_weight, "gamma": 2, "return_grad": True}
    value, grad = bce(z, t, **options)
    want, want_grad = reference.binary_cross_entropy_with_logits(z, t, sample_weight, pos_weight=p, gamma=2)
    assert value == pytest.approx(want, rel=1e-5)
    np.testing.assert_allclose(grad * z.size, want_grad * z.size, rtol=1e-4, atol=1e-5)
    before = mn.get_num_threads()
    try:
        for threads in (1, 3):
            mn.set_num_threads(threads)
            again, grad_again = bce(z, t, **options)
            assert again == value
            np.testing.assert_array_equal(grad_again, grad)
    finally:
        mn.set_num_threads(before)


def test_t41_weights_of_n_by_n_logits_are_of_columns_and_sample_weights_of_rows(rng):
    z, t = batch(rng, (3, 3))
    each, w = bce(z, t, reduction="none"), np.array([1.0, 2, 4])
    np.testing.assert_allclose(bce(z, t, weight=w, reduction="none"), each * w, rtol=1e-14)
    np.testing.assert_allclose(bce(z, t, sample_weight=w, reduction="none"), each * w[:, None], rtol=1e-14)


@by_dtype
def test_inputs_are_left_alone_and_may_be_where_the_gradient_goes(dtype, rng):
    z, t = batch(rng, dtype=dtype)
    w, p = (rng.uniform(0.1, 3, z.shape).astype(dtype) for _ in range(2))
    want = bce(z, t, weight=w, pos_weight=p, gamma=0.5, return_grad=True)
    for place in range(4):
        given = [a.copy() for a in (z, t, w, p)]
        out = given[place]
        value, grad = bce(*given[:2], weight=given[2], pos_weight=given[3], gamma=0.5, return_grad=True, out=out)
        assert (value, grad is out) == (want[0], True)
        np.testing.assert_array_equal(grad, want[1])
        for i, (a, before) in enumerate(zip(given, (z, t, w, p), strict=True)):
            assert i == place or np.array_equal(a, before)
    out = p.copy()  # a weight that no product has copied
    np.testing.assert_array_equal(
        bce(z, t, pos_weight=out, return_grad=True, out=out)[1], bce(z, t, pos_weight=p, return_grad=True)[1]
    )
    np.testing.assert_array_equal(
        F.binary_cross_entropy(t, t, weight=w, return_grad=True, out=w.copy())[1].shape, z.shape
    )


@by_dtype
def test_read_only_strided_and_listed_weights_are_taken(dtype, rng):
    z, t = batch(rng, dtype=dtype)
    p = rng.uniform(0.1, 3, 4).astype("float32")
    want = bce(z, t, pos_weight=p)
    frozen = p.copy()
    frozen.flags.writeable = False
    for weights in (
        frozen,
        np.repeat(p, 2)[::2],
        p.tolist(),
        p.astype(">f4"),
        np.broadcast_to(p, z.shape),
        p.astype("f8"),
    ):
        assert bce(z, t, pos_weight=weights) == want


# ---- binary cross-entropy of probabilities ----


@by_dtype
@by_reduction
@pytest.mark.parametrize("shape", [(7,), (6, 4), (0, 3), (300, 5)], ids=str)
def test_weighed_probabilities_equal_the_twin(shape, reduction, dtype, rng):
    p, t = (rng.uniform(0.01, 0.99, shape).astype(dtype) for _ in range(2))
    sample_weight = rng.uniform(0, 2, shape[0])
    for w in (2.5, rng.uniform(0, 3, shape[-1:]), rng.uniform(0, 3, shape)):
        options = {"sample_weight": sample_weight, "reduction": reduction}
        value, grad = F.binary_cross_entropy(p, t, weight=w, return_grad=True, **options)
        want, want_grad = reference.binary_cross_entropy(p, t, **options, weight=w)
        assert_near(value, want, dtype, 64)
        assert_near(grad, want_grad, dtype, 256)


def probabilities(dtype, rng):
    """Of every size: subnormal, small, middling, next to 1."""
    least = {"float32": -149, "float64": -1074}[dtype]
    small = np.ldexp(rng.uniform(1, 2, 300), rng.integers(least, 0, 300)).astype(dtype)
    return np.concatenate([small[small > 0], 1 - np.arange(1, 40) * EPS[dtype] / 2, rng.uniform(0, 1, 200)]).astype(
        dtype
    )


@by_dtype
@pytest.mark.parametrize("y", [0, 1])
@np.errstate(under="ignore")
def test_logarithms_of_probabilities_keep_their_digits(y, dtype, rng):
    p = probabilities(dtype, rng)
    assert p.max() < 1
    losses, grad = F.binary_cross_entropy(p, np.full_like(p, y), reduction="none", return_grad=True)
    exact_p = [mp.mpf(v) for v in p.tolist()]
    assert_relative(losses, [-mp.log(v) if y else -mp.log1p(-v) for v in exact_p], dtype, 1.5, p)
    finite = p > NORMAL[dtype] / 2  # else the slope is beyond the dtype
    slopes = [-1 / v if y else 1 / (1 - v) for v in exact_p]
    assert_relative(grad[finite], [v for v, ok in zip(slopes, finite, strict=True) if ok], dtype, 2, p[finite])


@by_dtype
@by_options
@pytest.mark.parametrize("targets", ["labels", "between"])
@np.errstate(under="ignore")
def test_infinite_logits_among_others_are_limits(targets, options, dtype, rng):
    z = rng.normal(0, 3, 700).astype(dtype)
    t = rng.integers(0, 2, 700) if targets == "labels" else rng.uniform(0.1, 0.9, 700)
    places = rng.choice(700, 60, replace=False)
    z[places] = np.tile([INF, -INF], 30)
    t[places] = rng.integers(0, 2, 60)
    losses, grad = bce(z, t, **options, reduction="none", return_grad=True)
    others = np.delete(np.arange(700), places)
    want, want_grad = bce(z[others], t[others], **options, reduction="none", return_grad=True)
    assert_near(losses[others], want, dtype, 4)
    assert_near(grad[others], want_grad, dtype, 4)
    o = {"weight": 1, "pos_weight": 1, "label_smoothing": 0, "alpha": 0.5} | options
    double = 1 if "alpha" in options else 2  # without alpha both terms count whole
    target = t[places] * (1 - o["label_smoothing"]) + o["label_smoothing"] / 2
    yes = double * o["alpha"] * o["weight"] * o["pos_weight"] * target
    no = double * (1 - o["alpha"]) * o["weight"] * (1 - target)
    slope = np.where(z[places] > 0, no, -yes)  # of the answer that z rules out
    np.testing.assert_array_equal(losses[places], np.where(slope == 0, 0, INF))
    assert_near(grad[places], slope, dtype)


@by_options
def test_a_wrong_target_is_named_beside_an_infinite_logit(options):
    z, t = np.full(600, INF), np.ones(600)
    assert np.isfinite(bce(z, t, **options | {"label_smoothing": 0.0}))
    t[500] = 1.5
    with pytest.raises(ValueError, match="in row 500"):
        bce(z, t, **options)


@pytest.mark.parametrize("weight", [1e-14, 1e14, 1e-30, 1e30])
@pytest.mark.parametrize("z", [-80.0, -60.0, -2.0, 3.0, 1e15, 1e30, 3e38])
@np.errstate(under="ignore")
def test_products_with_weights_beyond_floats_do_not_spoil_a_mean(z, weight):
    # alone, and beside a weight of 0, which leaves out an infinite loss
    z = np.full((300, 1), z, np.float32)
    want, want_grad = bce(z, np.zeros_like(z), return_grad=True)
    for place in (None, 7):
        weights = np.full(300, weight, np.float32)
        if place is not None:
            z[place], weights[place], want_grad[place] = INF, 0, 0
            want_grad *= 300 / 299
        for sample_weight in (weights, weights.astype(np.float64)):
            value, grad = bce(z, np.zeros_like(z), sample_weight=sample_weight, return_grad=True)
            assert value == pytest.approx(want, rel=2 * EPS["float32"], abs=0)
            np.testing.assert_allclose(grad, want_grad, rtol=3 * EPS["float32"], atol=0)


@by_reduction
@np.errstate(under="ignore")
def test_weights_of_the_dtype_count_where_losses_are_made_as_behind_them(reduction, rng):
    # beside smoothing, however little, they are multiplied in behind
    for dtype in DTYPES:
        z, t = rng.normal(0, 9, (300, 2)).astype(dtype), rng.integers(0, 2, (300, 2)).astype(dtype)
        weight = rng.choice([0, 1e-12, 0.3, 7, 1e12], 300).astype(dtype)
        z[weight == 0] = rng.choice([NAN, INF, -INF, 1])
        options = {"sample_weight": weight, "reduction": reduction, "return_grad": True}
        for got, want in zip(bce(z, t, **options), bce(z, t, label_smoothing=1e-30, **options), strict=True):
            np.testing.assert_allclose(got, want, rtol=8 * EPS[dtype], atol=0)


def test_a_weight_of_0_leaves_out_a_certain_wrong_answer():
    losses, grad = F.binary_cross_entropy([0.0, 0.5], [1, 1], weight=[0, 1], reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, [0, math.log(2)])
    np.testing.assert_array_equal(grad, [0, -2])


# ---- the upstream gradient (T6) ----

LOSSES = {
    "bce": lambda rng: (bce, *batch(rng)),
    "focal": lambda rng: (lambda z, t, **o: bce(z, t, gamma=2, **o), *batch(rng)),
    "probabilities": lambda rng: (F.binary_cross_entropy, *rng.uniform(0.1, 0.9, (2, 6, 4))),
}
by_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)


@by_loss
@by_reduction
def test_a_number_upstream_multiplies_the_gradient_alone(make, reduction, rng):
    loss, x, t = make(rng)
    value, grad = loss(x, t, reduction=reduction, return_grad=True)
    for factor in (2.5, -1, np.float32(0.5), np.array(3.0)):
        got, scaled = loss(x, t, reduction=reduction, grad_output=factor, return_grad=True)
        np.testing.assert_array_equal(got, value)
        np.testing.assert_allclose(scaled, grad * float(factor), rtol=1e-14)


@by_loss
@pytest.mark.parametrize("weighed", [False, True])
def test_t6_each_row_and_each_element_has_its_own_upstream_gradient(make, weighed, rng):
    loss, x, t = make(rng)
    options = {"sample_weight": [1, 0, 2, 0.5, 1, 3] if weighed else None, "reduction": "none", "return_grad": True}
    losses, grad = loss(x, t, **options)
    rows, each = rng.normal(size=6), rng.normal(size=(6, 4))
    for upstream, factor in ((rows, rows[:, None]), (each, each), (np.broadcast_to(each[0], (6, 4)), each[0])):
        got, scaled = loss(x, t, **options, grad_output=upstream)
        np.testing.assert_array_equal(got, losses)
        np.testing.assert_allclose(scaled, grad * factor, rtol=1e-13)


def test_what_comes_from_upstream_does_not_bring_back_a_row_of_weight_0(rng):
    z, t = batch(rng, (2, 3))
    for factor in (INF, NAN):
        options = {"sample_weight": [0, 1], "grad_output": [factor, 2.0], "reduction": "none", "return_grad": True}
        grad = bce(z, t, **options)[1]
        np.testing.assert_array_equal(grad[0], np.zeros(3))
        assert np.isfinite(grad).all()


BAD_UPSTREAM = {
    "a row for the mean": (np.ones(6), "mean", ValueError, r"must be a number for reduction 'mean', got shape \(6,\)"),
    "one element": (np.ones(1), "sum", ValueError, r"must be a number for reduction 'sum', got shape \(1,\)"),
    "columns": (np.ones(4), "none", ValueError, r"must be a number or have shape \(6, 4\) or \(6,\), got \(4,\)"),
    "a column": (np.ones((6, 1)), "none", ValueError, r"must be a number or have .* got \(6, 1\)"),
    "strings": ("a", "mean", TypeError, "must hold real numbers"),
    "complex": (1j, "none", TypeError, "must hold real numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], "none", ValueError, "must be a rectangular array"),
}


@pytest.mark.parametrize("fault", list(BAD_UPSTREAM))
@by_loss
def test_bad_upstream_gradients_are_refused(make, fault, rng):
    loss, x, t = make(rng)
    given, reduction, error, message = BAD_UPSTREAM[fault]
    out = np.full_like(x, 7)
    with pytest.raises(error, match=f"grad_output {message}"):
        loss(x, t, reduction=reduction, grad_output=given, return_grad=True, out=out)
    assert np.all(out == 7)


@by_loss
@by_reduction
def test_an_upstream_gradient_without_a_gradient_is_refused(make, reduction, rng):
    loss, x, t = make(rng)
    with pytest.raises(ValueError, match=r"grad_output is for the gradient and needs return_grad=True, got 2\.0"):
        loss(x, t, reduction=reduction, grad_output=2.0)


# ---- bad options ----

BAD = {
    "gamma below 0": ({"gamma": -0.5}, ValueError, r"gamma must be a finite number >= 0 and <= 1e\+30, got -0.5"),
    "gamma nan": ({"gamma": NAN}, ValueError, "gamma must be a finite number .*, got nan"),
    "gamma inf": ({"gamma": INF}, ValueError, "gamma must be a finite number .*, got inf"),
    "gamma text": ({"gamma": "2"}, TypeError, "gamma must be a number, got '2'"),
    "gamma array": ({"gamma": np.zeros(2)}, TypeError, "gamma must be a number, got array"),
    "gamma bool": ({"gamma": True}, TypeError, "gamma must be a number, got True"),
    "gamma None": ({"gamma": None}, TypeError, "gamma must be a number, got None"),
    "alpha above 1": ({"alpha": 1.5}, ValueError, "alpha must be a finite number >= 0 and <= 1, got 1.5"),
    "alpha list": ({"alpha": [0.5]}, TypeError, r"alpha must be a number, got \[0.5\]"),
    "smoothing above 1": ({"label_smoothing": 1.1}, ValueError, "label_smoothing must be a finite .*, got 1.1"),
    "smoothing below 0": ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be a finite .*, got -0.1"),
    "smoothing False": ({"label_smoothing": False}, TypeError, "label_smoothing must be a number, got False"),
    "T34": ({"weight": [1, -2, 1, 1]}, ValueError, "weight must be finite and not negative, got -2.0 in row 1"),
    "T34 pos": ({"pos_weight": -1}, ValueError, "pos_weight must be finite and not negative, got -1.0"),
    "weight nan": ({"weight": NAN}, ValueError, "weight must be finite and not negative, got nan"),
    "weight inf": ({"pos_weight": [1, 1, 1, INF]}, ValueError, "pos_weight must be .* got inf in row 3"),
    "weight text": ({"weight": "balanced"}, TypeError, "weight must hold real numbers, got dtype <U8"),
}


@pytest.mark.parametrize("fault", list(BAD))
def test_bad_options_are_refused_by_the_function_and_by_the_loss(fault):
    options, error, message = BAD[fault]
    out = np.full((6, 4), 7.0)
    with pytest.raises(error, match=f"^binary_cross_entropy_with_logits: {message}"):
        bce(np.zeros((6, 4)), np.ones((6, 4)), **options, return_grad=True, out=out)
    assert np.all(out == 7)
    with pytest.raises(error, match=f"^BCEWithLogitsLoss: {message}"):
        mn.BCEWithLogitsLoss(**options)


@by_dtype
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("wrong", [-1.0, -1e-30, INF, -INF, NAN])
@pytest.mark.parametrize("loss", [0.0, INF, 1.0])
def test_a_wrong_weight_of_an_element_is_found_by_the_kernel_too(wrong, loss, reduction, dtype, rng):
    z, t, w = (
        rng.normal(size=3000).astype(dtype),
        rng.integers(0, 2, 3000).astype(dtype),
        rng.random(3000).astype(dtype),
    )
    z[2718], t[2718], w[2718] = {0.0: (-INF, 0), INF: (INF, 0), 1.0: (0, 1)}[loss] + (wrong,)
    message = f"weight must be finite and not negative, got {w.dtype.type(wrong)} in row 2718"
    with pytest.raises(ValueError, match=re.escape(message)):
        bce(z, t, weight=w, reduction=reduction, return_grad=True)


@by_dtype
def test_a_weight_of_minus_0_is_one_of_0(dtype, rng):
    z, t, w = (
        rng.normal(size=3000).astype(dtype),
        rng.integers(0, 2, 3000).astype(dtype),
        rng.random(3000).astype(dtype),
    )
    w[::3] = 0
    value, grad = bce(z, t, weight=w, return_grad=True)
    w[::3] = -0.0
    again, same = bce(z, t, weight=w, return_grad=True)
    assert again == value
    np.testing.assert_array_equal(same, grad)


@by_dtype
@pytest.mark.parametrize("options", [{"pos_weight": 3.0}, {"alpha": 0.25}, {"label_smoothing": 0.1}])
def test_labels_cost_beside_probabilities_what_they_cost_alone(options, dtype, rng):
    """Chunks of labels alone have a loop of their own."""
    z, t = rng.normal(size=600).astype(dtype) * 9, rng.integers(0, 2, 600).astype(dtype)
    losses, grad = bce(z, t, reduction="none", return_grad=True, **options)
    t[[0, -1]] = 0.5
    others, other = bce(z, t, reduction="none", return_grad=True, **options)
    np.testing.assert_allclose(others[1:-1], losses[1:-1], 4 * EPS[dtype], NORMAL[dtype])
    np.testing.assert_allclose(other[1:-1], grad[1:-1], 6 * EPS[dtype], NORMAL[dtype])


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
@pytest.mark.parametrize("shape", [(6,), (6, 1), (3,), (4, 6), (2, 6, 4), (0,)], ids=str)
def test_t41_weights_of_another_shape_are_refused(name, shape):
    rule = rf"{name} must be a number or have shape \(4,\) or \(6, 4\), got {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=f"^binary_cross_entropy_with_logits: {rule}"):
        bce(np.zeros((6, 4)), np.ones((6, 4)), **{name: np.ones(shape)})
    if name == "weight":
        with pytest.raises(ValueError, match=f"^binary_cross_entropy: {rule}"):
            F.binary_cross_entropy(np.full((6, 4), 0.5), np.ones((6, 4)), weight=np.ones(shape))


@pytest.mark.parametrize("options", [{"weight": 1e300}, {"weight": 1e30, "pos_weight": 1e30}], ids=str)
def test_weights_beyond_float32_are_refused_there(options):
    z = np.zeros(2)
    assert math.isfinite(bce(z, z, **options))
    with pytest.raises(ValueError, match=r"weight and pos_weight must be finite in float32, got 1.*e\+(60|300)"):
        bce(z.astype("float32"), z, **options)


@by_options
@pytest.mark.parametrize("bad", [-0.1, 1.1, NAN, 2])
def test_t33_targets_outside_0_and_1_are_refused_with_options_too(options, bad):
    with pytest.raises(ValueError, match=rf"target must be in \[0, 1\], got {re.escape(str(float(bad)))} in row 1"):
        bce(np.zeros(3), [0, bad, 1], **options)


@by_dtype
@by_options
@pytest.mark.parametrize("labels", [True, False])
def test_t33_a_wrong_target_is_found_wherever_it_stands(labels, options, dtype, rng):
    z, t = batch(rng, (600,), dtype)
    t = np.rint(t) if labels else t
    for place, bad in itertools.product((0, 255, 256, 511, 599), (-LEAST[dtype], 1 + EPS[dtype], -INF, NAN)):
        wrong = t.copy()
        wrong[place] = bad
        for arguments in ({}, {"return_grad": True, "reduction": "none"}, {"sample_weight": np.zeros(600)}):
            with pytest.raises(ValueError, match=rf"target must be in \[0, 1\], got \S+ in row {place}$"):
                bce(z, wrong, **options, **arguments)


@by_dtype
def test_t33_a_wrong_target_is_found_in_the_chunks_of_threads(dtype, rng):
    z, t = batch(rng, (2**18 + 300, 2), dtype)
    t[2**18 + 40, 1] = 1.5
    for options in ({}, {"gamma": 2.0}, {"return_grad": True}):
        with pytest.raises(ValueError, match=r"target must be in \[0, 1\], got 1.5 in row 262184"):
            bce(z, t, **options)


@by_dtype
@by_options
@pytest.mark.parametrize("size", [600, 2**18 + 1])
def test_a_wrong_target_leaves_the_array_of_the_caller_alone(size, options, dtype, rng):
    z, t = batch(rng, (size,), dtype)
    t[-1] = 2
    out = np.full(size, 7, dtype)
    with pytest.raises(ValueError, match="target must be in"):
        bce(z, t, return_grad=True, out=out, **options)
    assert np.all(out == 7)


@by_dtype
@by_options
def test_nan_that_comes_from_logits_is_no_error(options, dtype, rng):
    z, t = batch(rng, (600,), dtype)
    z[300], t[299] = NAN, -0.0
    assert math.isnan(bce(z, t, **options))
    value, grad = bce(z, t, return_grad=True, reduction="none", **options)
    assert np.flatnonzero(np.isnan(value)).tolist() == np.flatnonzero(np.isnan(grad)).tolist() == [300]


# ---- properties ----

FEW = st.integers(1, 40)


@st.composite
def problems(draw):
    """Logits, targets and options."""
    shape = draw(FEW), draw(st.integers(1, 5))
    z = draw(arrays(np.float64, shape, elements=st.floats(-50, 50)))
    t = draw(arrays(np.float64, shape, elements=st.floats(0, 1)))
    options = {
        "gamma": draw(st.sampled_from([0.0, 0.3, 1.0, 2.0, 4.5])),
        "alpha": draw(st.sampled_from([None, 0.25])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
        "pos_weight": draw(st.sampled_from([None, 2.5])),
    }
    return z, t, options


@by_dtype
@pytest.mark.parametrize(
    "options", [{"gamma": 2.0}, {"label_smoothing": 0.1}, {"gamma": 1.7, "pos_weight": 0.0}], ids=str
)
@pytest.mark.parametrize("bad", [-1e-30, np.nan, np.inf])
@pytest.mark.parametrize("size", [100, 200_000])
def test_a_wrong_weight_beside_other_options_is_named(size, bad, options, dtype, rng):
    z, t, w = rng.normal(size=size).astype(dtype), rng.integers(0, 2, size).astype(dtype), np.ones(size, dtype)
    w[size // 3] = bad
    for reduction in ("mean", "none"):
        with pytest.raises(ValueError, match=f"weight must be finite and not negative, got .* in row {size // 3}"):
            bce(z, t, weight=w, reduction=reduction, return_grad=True, **options)


@given(problems(), st.data())
def test_weights_of_0_and_1_choose_a_subset(problem, data):
    z, t, options = problem
    mask = data.draw(arrays(bool, len(z)))
    for reduction in ("mean", "sum"):
        given_mask = bce(z, t, sample_weight=mask.astype(float), reduction=reduction, return_grad=True, **options)
        subset = bce(z[mask], t[mask], reduction=reduction, return_grad=True, **options)
        assert given_mask[0] == pytest.approx(subset[0], rel=1e-13, abs=1e-300)
        np.testing.assert_allclose(given_mask[1][mask], subset[1], rtol=1e-13, atol=1e-300)
        assert np.all(given_mask[1][~mask] == 0)


@given(problems(), st.data())
def test_the_sum_over_a_batch_is_that_over_its_parts(problem, data):
    z, t, options = problem
    cut = data.draw(st.integers(0, len(z)))
    whole = bce(z, t, reduction="sum", return_grad=True, **options)
    parts = [
        bce(z[rows], t[rows], reduction="sum", return_grad=True, **options) for rows in (slice(cut), slice(cut, None))
    ]
    assert whole[0] == pytest.approx(parts[0][0] + parts[1][0], rel=1e-13, abs=1e-300)
    # Labels round once more or less where none of their neighbours is between 0 and 1.
    np.testing.assert_allclose(whole[1], np.concatenate([part[1] for part in parts]), rtol=1e-15, atol=1e-300)


@given(
    st.floats(-60, 60),
    st.floats(-60, 60),
    st.floats(0, 1),
    st.sampled_from([{}, {"pos_weight": 4.0}, {"label_smoothing": 0.2}]),
)
def test_cross_entropy_is_convex_in_the_logits(u, v, t, options):
    at = [bce([z], [t], **options) for z in (u, (u + v) / 2, v)]
    assert at[1] <= (at[0] + at[2]) / 2 * (1 + 1e-12) + 1e-300


def test_squared_error_behind_a_sigmoid_is_not_convex():
    at = [F.mse_loss(F.sigmoid([z]), [0.0]) for z in (0.0, 4.0, 8.0)]
    assert at[1] > (at[0] + at[2]) / 2 * 1.5


@given(problems())
def test_the_mirrored_problem_has_the_mirrored_gradient(problem):
    z, t, options = problem
    t = np.round(t * 1024) / 1024  # so that 1 - t is exact
    options = {name: value for name, value in options.items() if name not in ("alpha", "pos_weight")}
    losses, grad = bce(z, t, reduction="none", return_grad=True, **options)
    mirrored, mirrored_grad = bce(-z, 1 - t, reduction="none", return_grad=True, **options)
    np.testing.assert_allclose(mirrored, losses, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(mirrored_grad, -grad, rtol=1e-12, atol=1e-14)


@given(problems())
def test_more_focus_never_costs_more(problem):
    z, t, _ = problem
    each = [bce(z, t, gamma=gamma, reduction="none") for gamma in (0, 0.5, 1, 2, 3)]
    for less, more in itertools.pairwise(each):
        assert np.all(more <= less * (1 + 1e-14))


# ---- as objects ----


def test_the_loss_is_the_function_with_its_options(rng):
    z, t = batch(rng)
    for options in (*OPTIONS.values(), {"pos_weight": [1, 2, 3, 4.0], "reduction": "sum"}):
        loss = mn.BCEWithLogitsLoss(**options)
        value, grad = loss.value_and_grad(z, t, sample_weight=[1, 2, 0, 1, 1, 1])
        want, want_grad = bce(z, t, sample_weight=[1, 2, 0, 1, 1, 1], return_grad=True, **options)
        assert value == want == loss(z, t, sample_weight=[1, 2, 0, 1, 1, 1])
        np.testing.assert_array_equal(grad, want_grad)
        assert all(getattr(loss, name) is value or getattr(loss, name) == value for name, value in options.items())
    assert mn.BCELoss(weight=[1, 2, 3, 4])(t, t) == F.binary_cross_entropy(t, t, weight=[1, 2, 3, 4])


def test_repr_shows_what_was_chosen():
    assert repr(mn.BCEWithLogitsLoss()) == "BCEWithLogitsLoss(reduction='mean')"
    assert (
        repr(mn.BCEWithLogitsLoss(gamma=2, alpha=0.25)) == "BCEWithLogitsLoss(gamma=2.0, alpha=0.25, reduction='mean')"
    )
    assert repr(mn.BCELoss(weight=[1, 2], reduction="sum")) == "BCELoss(weight=[1, 2], reduction='sum')"
    assert repr(mn.BCEWithLogitsLoss(pos_weight=np.ones(2))).startswith("BCEWithLogitsLoss(pos_weight=array([1., 1.])")


def test_a_net_learns_with_the_focal_loss():
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([0, 1, 1, 0.0])[:, None]
    net = mn.MLP([2, 8, 1], activation="tanh", seed=0)
    history = mn.fit(
        net,
        X,
        y,
        loss=mn.BCEWithLogitsLoss(gamma=2, pos_weight=2),
        optimizer=mn.SGD(lr=1.0),
        epochs=1500,
        batch_size=4,
        seed=0,
    )
    assert np.all((net.forward(X) > 0) == y)
    assert history is not None


@by_dtype
def test_the_range_of_targets_ends_at_0_and_1_to_the_last_bit(dtype):
    one = np.ones(1, dtype)[0]
    inside = np.array([-0.0, 0, LEAST[dtype], 0.5, one - EPS[dtype] / 2, 1] * 30, dtype)
    assert _elementwise.first_outside_unit(inside) == -1
    for bad in (-LEAST[dtype], one + EPS[dtype], -1, 2, np.finfo(dtype).max, INF, -INF, NAN):
        for place in (0, 70, 179):
            t = inside.copy()
            t[place] = bad
            assert _elementwise.first_outside_unit(t) == place
