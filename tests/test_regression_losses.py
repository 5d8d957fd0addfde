"""Losses of numbers and of probabilities: beside torch, against mpmath, at their corners, weighed, with an upstream
gradient, as objects; bad input. T-numbers are those of a list of known bugs of other kernels.
"""

import math

import mpmath
import numpy as np
import pytest
import reference
import torch_record
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minnet as mn
from minnet import functional as F

mp = mpmath.mp.clone()
mp.dps = 50

INF, NAN = math.inf, math.nan
DTYPES = ["float32", "float64"]
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
REDUCTIONS = ["mean", "sum", "none", "batchmean"]
TORCH = ("kl_div", "mse", "l1", "huber", "gaussian", "poisson")

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def gaussian(x, t, *args, **options):
    return F.gaussian_nll_loss(x, t, np.linspace(0.5, 2, x.size).reshape(x.shape), *args, **options)


def gaussian_twin(x, t, *args, **options):
    return reference.gaussian_nll_loss(x, t, np.linspace(0.5, 2, x.size).reshape(x.shape), *args, **options)


def normals(rng, shape):
    return rng.normal(0, 2, shape), rng.normal(0, 2, shape)


def counts(rng, shape):
    return rng.normal(0, 2, shape), rng.poisson(3.0, shape).astype(float)


def divergences(rng, shape):
    return F.log_softmax(rng.normal(0, 2, shape)), rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def log_divergences(rng, shape):
    return tuple(F.log_softmax(rng.normal(0, 2, shape)) for _ in range(2))


def shares(rng, shape):
    return tuple(rng.dirichlet(np.ones(shape[-1]), shape[:-1]) for _ in range(2))


# name: (function, twin, inputs, options)
LOSSES = {
    "mse": (F.mse_loss, reference.mse_loss, normals, {}),
    "l1": (F.l1_loss, reference.l1_loss, normals, {}),
    "huber": (F.huber_loss, reference.huber_loss, normals, {}),
    "huber 0.3": (F.huber_loss, reference.huber_loss, normals, {"delta": 0.3}),
    "gaussian": (gaussian, gaussian_twin, normals, {}),
    "gaussian full": (gaussian, gaussian_twin, normals, {"full": True, "eps": 1.0}),
    "poisson": (F.poisson_nll_loss, reference.poisson_nll_loss, counts, {}),
    "poisson full": (F.poisson_nll_loss, reference.poisson_nll_loss, counts, {"full": True}),
    "kl_div": (F.kl_div, reference.kl_div, divergences, {}),
    "kl_div log": (F.kl_div, reference.kl_div, log_divergences, {"log_target": True}),
    "brier": (F.brier_loss, reference.brier_loss, shares, {}),
}
by_loss = pytest.mark.parametrize("name", LOSSES)


def case(name, rng, shape=(6, 4), dtype="float64"):
    """A loss with its options, its twin, and inputs."""
    function, twin, inputs, options = LOSSES[name]
    x, t = (a.astype(dtype) for a in inputs(rng, shape))
    return (
        lambda x, t, **more: function(x, t, **options, **more),
        lambda x, t, *more: twin(x, t, *more, **options),
        x,
        t,
    )


def assert_near(got, want, dtype, scale=16):
    np.testing.assert_allclose(got, want, rtol=scale * EPS[dtype], atol=scale * EPS[dtype])


# ---- beside torch ----

by_case = pytest.mark.parametrize(("name", "reduction"), torch_record.cases(*TORCH))


@by_case
def test_value_and_gradient_are_those_that_torch_gave(name, reduction):
    torch_record.assert_equal_to_torch(F, name, reduction, torch_record.record()[name])


@by_case
def test_value_and_gradient_are_those_that_torch_gives_now(name, reduction):
    pytest.importorskip("torch")
    torch_record.assert_equal_to_torch(F, name, reduction, torch_record.computed_by_torch_now(name))


def test_every_recorded_case_is_tested():
    assert len(torch_record.cases(*TORCH)) + len(torch_record.cases("binary")) == 3 * len(
        torch_record.record()["cases"]
    )


def test_batchmean_of_the_divergence_is_the_sum_over_the_rows(rng):
    x, p = divergences(rng, (6, 4))
    each = F.kl_div(x, p, reduction="none")
    assert F.kl_div(x, p, reduction="batchmean") == pytest.approx(each.sum() / 6, rel=1e-14)
    assert F.kl_div(x, p) == pytest.approx(each.sum() / 24, rel=1e-14)
    assert F.kl_div(x, p, reduction="batchmean") > 0
    assert F.kl_div(np.log(p), p) == pytest.approx(0, abs=1e-15)


# ---- beside the twin ----


@by_dtype
@by_reduction
@by_loss
@pytest.mark.parametrize("shape", [(6, 4), (1, 1), (0, 3), (300, 5)], ids=str)
@pytest.mark.parametrize("weighed", [False, True], ids=["plain", "weighed"])
def test_loss_equals_its_twin(name, weighed, reduction, dtype, shape, rng):
    loss, twin, x, t = case(name, rng, shape, dtype)
    weight = rng.uniform(0.1, 2, shape[0]) if weighed else None
    value, grad = loss(x, t, sample_weight=weight, reduction=reduction, return_grad=True)
    assert (grad.shape, grad.dtype) == (shape, dtype)
    if shape[0] or reduction == "none":
        want, want_grad = twin(x, t, weight, reduction)
        assert_near(value, want, dtype, 64 * (1 + shape[1]))
        assert_near(grad, want_grad, dtype, 64)
    else:
        assert value == 0
    np.testing.assert_array_equal(loss(x, t, sample_weight=weight, reduction=reduction), value)


@by_loss
@by_reduction
def test_gradient_is_the_numeric_derivative(name, reduction, rng):
    loss, _, x, t = case(name, rng)

    class Curried:
        def __call__(self, x, target, **weights):
            return loss(x, target, reduction=reduction, **weights)

        def value_and_grad(self, x, target, **weights):
            return loss(x, target, reduction=reduction, **weights, return_grad=True)

    x = x if name != "brier" else 0.1 + 0.8 * x  # within [0, 1] when it is moved about
    assert mn.check_gradient(Curried(), x, t, tol=1e-8) < 1e-8
    assert mn.check_gradient(Curried(), x, t, sample_weight=[1, 0, 2, 0.5, 1, 1], tol=1e-8) < 1e-8


@by_loss
def test_a_large_batch_is_cut_and_summed_alike_for_every_number_of_threads(name, rng):
    loss, twin, x, t = case(name, rng, (50_000, 4), "float32")
    value, grad = loss(x, t, return_grad=True)
    want, want_grad = twin(x, t)
    assert value == pytest.approx(want, rel=1e-5)
    np.testing.assert_allclose(grad * 1e5, want_grad * 1e5, rtol=1e-4, atol=1e-4)
    before = mn.get_num_threads()
    try:
        mn.set_num_threads(3)
        again, grad_again = loss(x, t, return_grad=True)
    finally:
        mn.set_num_threads(before)
    assert again == value
    np.testing.assert_array_equal(grad_again, grad)


# ---- corners ----


@by_dtype
def test_t16_the_slope_of_the_absolute_error_is_0_at_0(dtype):
    losses, grad = F.l1_loss(np.array([1, 1, 1, NAN], dtype), [0, 1, 2, 0], reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, [1, 0, 1, NAN])
    np.testing.assert_array_equal(grad, [1, 0, -1, NAN])


@by_dtype
@pytest.mark.parametrize("delta", [0.25, 1, 7])
def test_huber_loss_has_two_pieces_that_meet(delta, dtype):
    errors = np.array([0, delta / 2, delta, 2 * delta, 100, INF], dtype)
    for sign in (1, -1):
        x = sign * errors
        losses, grad = F.huber_loss(x, np.zeros_like(x), delta=delta, reduction="none", return_grad=True)
        want = [e * e / 2 if e <= delta else delta * (e - delta / 2) for e in errors.tolist()]
        assert_near(losses, want, dtype, 4)
        np.testing.assert_array_equal(grad, sign * np.minimum(errors, np.array(delta, dtype)))
    assert math.isnan(F.huber_loss([NAN], [0.0]))


@by_dtype
@pytest.mark.parametrize("size", [1e-15, 1e-8, 0.7, 1e8, 1e15])
def test_small_and_large_errors_keep_their_digits(size, dtype):
    x, t = np.array([size], dtype), np.array([size / 3], dtype)
    e = abs(mp.mpf(float(x[0])) - mp.mpf(float(t[0])))
    for function, want in [(F.l1_loss, e), (F.mse_loss, e**2), (F.huber_loss, e**2 / 2 if e < 1 else e - 0.5)]:
        assert abs(mp.mpf(function(x, t)) - want) <= 3 * EPS[dtype] * want


@by_dtype
def test_divergence_at_its_ends(dtype):
    x = np.array([-INF, -INF, -1, -INF, NAN, NAN, 0], dtype)
    p = np.array([0, 0.5, 0, 1, 0, 0.5, 1], dtype)
    losses, grad = F.kl_div(x, p, reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, [0, INF, 0, INF, NAN, NAN, 0])
    np.testing.assert_array_equal(grad, -p)
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    losses, grad = F.kl_div(x, log_p, log_target=True, reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, [0, INF, 0, INF, NAN, NAN, 0])
    assert_near(grad, -p, dtype, 1)


@by_dtype
def test_divergence_against_mpmath(dtype, rng):
    x, p = (a.astype(dtype) for a in divergences(rng, (30, 5)))
    got = F.kl_div(x, p, reduction="none")
    pairs = zip(x.ravel().tolist(), p.ravel().tolist(), strict=True)
    want = [mp.mpf(share) * (mp.log(mp.mpf(share)) - mp.mpf(log_q)) for log_q, share in pairs]
    scale = np.abs(p * np.log(p)) + np.abs(p * x)  # the difference may be small: the inputs decide then
    error = [float(abs(mp.mpf(g) - w)) for g, w in zip(got.ravel().tolist(), want, strict=True)]
    assert np.all(np.array(error) <= 2 * EPS[dtype] * scale.ravel())


@by_dtype
def test_poisson_at_its_ends(dtype):
    x = np.array([-INF, -INF, INF, INF, 1e30, -1e30, NAN], dtype)
    t = np.array([0, 2, 0, 2, 3, 0, 0], dtype)
    losses, grad = F.poisson_nll_loss(x, t, reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, [0, INF, INF, INF, INF, 0, NAN])
    np.testing.assert_array_equal(grad, [0, -2, INF, INF, INF, 0, NAN])
    rates = np.array([0, 0, 1, 1e30], dtype)
    t = np.array([0, 2, 0, 0], dtype)
    losses, grad = F.poisson_nll_loss(rates, t, log_input=False, eps=0, reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, np.array([0, INF, 1, 1e30], dtype))
    np.testing.assert_array_equal(grad, [1, -INF, 1, 1])


@by_dtype
def test_rates_keep_their_digits_as_long_as_they_are_numbers(dtype, rng):
    low, high = {"float32": (-103, 88.72), "float64": (-744, 709.78)}[dtype]
    x = np.concatenate([rng.uniform(low, high, 500), np.linspace(high - 2, high, 50), rng.normal(0, 2, 100)]).astype(
        dtype
    )
    losses, grad = F.poisson_nll_loss(x, np.zeros_like(x), reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, grad)
    for got, at in zip(grad.tolist(), x.tolist(), strict=True):
        rate = mp.exp(mp.mpf(at))
        spacing = float(np.finfo(dtype).smallest_subnormal)
        assert abs(mp.mpf(got) - rate) <= max(2 * EPS[dtype] * rate, spacing), at


@by_dtype
@np.errstate(under="ignore")
def test_variances_of_every_size_have_their_logarithm(dtype, rng):
    least, most = {"float32": (-149, 127), "float64": (-1074, 1023)}[dtype]
    v = np.ldexp(rng.uniform(1, 2, 500), rng.integers(least, most + 1, 500)).astype(dtype)
    v = np.concatenate([v[v > 0], 1 + np.arange(-20, 20) * EPS[dtype]]).astype(dtype)
    losses = F.gaussian_nll_loss(np.zeros_like(v), np.zeros_like(v), v, eps=5e-324, reduction="none")
    for got, at in zip(losses.tolist(), v.tolist(), strict=True):
        want = mp.log(mp.mpf(at)) / 2
        assert abs(mp.mpf(got) - want) <= 1.5 * EPS[dtype] * abs(want), at


def test_poisson_full_is_near_the_logarithm_of_the_probability():
    for count in (2, 5, 30):
        want = 3.0 - count * math.log(3.0) + math.lgamma(count + 1)
        got = F.poisson_nll_loss([math.log(3.0)], [count], full=True)
        assert got == pytest.approx(want, abs=1 / (11 * count))
    assert F.poisson_nll_loss([0.5], [1], full=True) == F.poisson_nll_loss([0.5], [1])


@by_dtype
def test_gaussian_full_is_the_logarithm_of_the_density(dtype):
    x, t, v = (np.array([a], dtype) for a in (1.5, -0.5, 2.0))
    want = math.log(2 * math.pi * 2.0) / 2 + 2.0**2 / (2 * 2.0)
    assert F.gaussian_nll_loss(x, t, v, full=True) == pytest.approx(want, rel=4 * EPS[dtype])
    assert F.gaussian_nll_loss(x, t, 2.0) == pytest.approx(want - math.log(2 * math.pi) / 2, rel=4 * EPS[dtype])


@by_dtype
def test_least_variance_and_large_errors(dtype):
    losses, grad = F.gaussian_nll_loss(np.ones(2, dtype), [1, 0], 0.0, eps=0.5, reduction="none", return_grad=True)
    assert_near(losses, [math.log(0.5) / 2, math.log(0.5) / 2 + 1], dtype)
    assert_near(grad, [0, 2], dtype)
    assert F.gaussian_nll_loss([1e200], [0.0], 1e300) == pytest.approx(5e99)


@by_dtype
@by_reduction
def test_variances_of_rows_are_those_of_their_elements(reduction, dtype, rng):
    x, t = (a.astype(dtype) for a in normals(rng, (6, 4)))
    rows = rng.uniform(0.2, 3, 6).astype(dtype)
    wide = np.repeat(rows[:, None], 4, axis=1)
    options = {"reduction": reduction, "return_grad": True}
    want = F.gaussian_nll_loss(x, t, wide, **options)
    for var in (rows, rows[:, None], rows.tolist() if dtype == "float64" else rows):
        got = F.gaussian_nll_loss(x, t, var, **options)
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])
    one = F.gaussian_nll_loss(x, t, 0.7, **options)
    np.testing.assert_array_equal(one[0], F.gaussian_nll_loss(x, t, np.full((6, 4), 0.7), **options)[0])


def test_a_vector_of_variances_belongs_to_a_vector_of_means(rng):
    x, t = normals(rng, (5,))
    v = rng.uniform(0.2, 3, 5)
    value, grad = F.gaussian_nll_loss(x, t, v, return_grad=True)
    want, want_grad = reference.gaussian_nll_loss(x, t, v)
    assert value == pytest.approx(want, rel=1e-14)
    assert_near(grad, want_grad, "float64")
    assert F.gaussian_nll_loss(1.0, 0.0, 2.0) == pytest.approx((math.log(2) + 0.5) / 2)


@by_dtype
def test_brier_score_of_labels_is_that_of_certain_probabilities(dtype, rng):
    p = shares(rng, (6, 4))[0].astype(dtype)
    y = np.array([0, 3, 1, 2, 2, 0], np.int8)
    want = F.brier_loss(p, np.eye(4)[y], return_grad=True)
    for labels in (y, y.tolist(), y.astype(np.uint64)):
        got = F.brier_loss(p, labels, return_grad=True)
        assert got[0] == want[0]
        np.testing.assert_array_equal(got[1], want[1])
    assert F.brier_loss(np.eye(4), [0, 1, 2, 3]) == 0
    assert F.brier_loss(np.eye(4), [1, 2, 3, 0]) == 2
    assert F.brier_loss(p, y, reduction="none").shape == (6,)
    assert F.brier_loss(p, y, reduction="none").dtype == dtype


def test_brier_score_of_binary_questions_is_twice_the_squared_error(rng):
    p, y = rng.uniform(0, 1, 20), rng.integers(0, 2, 20)
    assert F.brier_loss(np.column_stack([1 - p, p]), y) == pytest.approx(2 * F.mse_loss(p, y), rel=1e-14)


# ---- weights ----


@by_loss
@by_reduction
def test_a_row_of_weight_0_is_left_out(name, reduction, rng):
    loss, _, x, t = case(name, rng)
    bad = x.copy()
    bad[1] = NAN if name != "brier" else 1 - x[1]
    weight = [1, 0, 2, 1, 0.5, 1]
    got = loss(bad, t, sample_weight=weight, reduction=reduction, return_grad=True)
    want = loss(x, t, sample_weight=weight, reduction=reduction, return_grad=True)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_array_equal(got[1][1], np.zeros(4))


@by_loss
def test_mean_over_nothing_is_0(name, rng):
    loss, _, x, t = case(name, rng)
    for value, grad in (
        loss(x, t, sample_weight=np.zeros(6), return_grad=True),
        loss(x[:0], t[:0], return_grad=True),
    ):
        assert value == 0.0
        assert not grad.any()


# ---- the upstream gradient (T6) ----


@by_loss
@by_reduction
def test_a_number_upstream_multiplies_the_gradient_alone(name, reduction, rng):
    loss, _, x, t = case(name, rng)
    value, grad = loss(x, t, reduction=reduction, return_grad=True)
    got, scaled = loss(x, t, reduction=reduction, grad_output=-2.5, return_grad=True)
    np.testing.assert_array_equal(got, value)
    np.testing.assert_allclose(scaled, grad * -2.5, rtol=1e-14)


@by_loss
@pytest.mark.parametrize("weight", [None, [1, 0, 2, 0.5, 1, 3]], ids=["plain", "weighed"])
@by_dtype
def test_t6_each_row_has_its_own_upstream_gradient(name, weight, dtype, rng):
    loss, _, x, t = case(name, rng, dtype=dtype)
    upstream = rng.normal(size=6)
    options = {"sample_weight": weight, "reduction": "none", "return_grad": True}
    losses, grad = loss(x, t, **options)
    got, scaled = loss(x, t, **options, grad_output=upstream)
    np.testing.assert_array_equal(got, losses)
    assert_near(scaled, grad * upstream[:, None], dtype, 4)
    out = np.empty_like(x)
    assert loss(x, t, **options, grad_output=upstream.tolist(), out=out)[1] is out
    np.testing.assert_array_equal(out, scaled)


def test_t6_a_loss_of_a_row_takes_no_upstream_gradient_of_elements(rng):
    loss, _, x, t = case("brier", rng)
    with pytest.raises(ValueError, match=r"grad_output must be a number or have shape \(6,\)"):
        loss(x, t, reduction="none", grad_output=np.ones((6, 4)), return_grad=True)


# ---- bad input ----

X = np.zeros((4, 3))
P = np.full((4, 3), 0.5)
BAD = {
    "delta 0": (F.huber_loss, (X, X), {"delta": 0}, ValueError, "huber_loss: delta must be a finite number > 0, got 0"),
    "delta nan": (F.huber_loss, (X, X), {"delta": NAN}, ValueError, "huber_loss: delta must be .*, got nan"),
    "delta array": (F.huber_loss, (X, X), {"delta": np.ones(3)}, TypeError, "huber_loss: delta must be a number"),
    "shapes": (
        F.l1_loss,
        (X, X.T),
        {},
        ValueError,
        r"l1_loss: target must have the shape of prediction, \(4, 3\), got",
    ),
    "var < 0": (F.gaussian_nll_loss, (X, X, [1, -1, 1, 1]), {}, ValueError, "var must be finite .*, got -1.0 in row 1"),
    "var nan": (F.gaussian_nll_loss, (X, X, NAN), {}, ValueError, "var must be finite and not negative, got nan"),
    "var inf": (F.gaussian_nll_loss, (X, X, INF), {}, ValueError, "var must be finite and not negative, got inf"),
    "var shape": (
        F.gaussian_nll_loss,
        (X, X, np.ones(3)),
        {},
        ValueError,
        r"gaussian_nll_loss: var must be a number or have shape \(4, 3\) or \(4,\), got \(3,\)",
    ),
    "var text": (F.gaussian_nll_loss, (X, X, "one"), {}, TypeError, "var must hold real numbers"),
    "var None": (F.gaussian_nll_loss, (X, X, None), {}, TypeError, "var must hold real numbers"),
    "eps 0": (F.gaussian_nll_loss, (X, X, 1), {"eps": 0}, ValueError, "gaussian_nll_loss: eps must be a finite .* > 0"),
    "var > float32": (
        F.gaussian_nll_loss,
        (X.astype("f4"), X, 1e300),
        {},
        ValueError,
        r"gaussian_nll_loss: var must be finite in float32, got 1e\+300",
    ),
    "count < 0": (F.poisson_nll_loss, (X, X - 1), {}, ValueError, "target must be finite .*, got -1.0 in row 0"),
    "count nan": (F.poisson_nll_loss, (X, X * NAN), {}, ValueError, "target must be finite .*, got nan in row 0"),
    "count inf": (F.poisson_nll_loss, (X, X + INF), {}, ValueError, "target must be finite .*, got inf in row 0"),
    "rate < 0": (F.poisson_nll_loss, (X - 1, X), {"log_input": False}, ValueError, "log_rate.* got -1.0 in row 0"),
    "poisson eps": (F.poisson_nll_loss, (X, X), {"eps": -1}, ValueError, "eps must be a finite number >= 0, got -1"),
    "p > 1": (F.kl_div, (X, X + 2), {}, ValueError, r"kl_div: p must be in \[0, 1\], got 2.0 in row 0"),
    "p nan": (F.kl_div, (X, X * NAN), {}, ValueError, r"kl_div: p must be in \[0, 1\], got nan in row 0"),
    "log p > 0": (
        F.kl_div,
        (X, P),
        {"log_target": True},
        ValueError,
        "kl_div: p must be at most 0 with log_target, got 0.5 in row 0",
    ),
    "log p nan": (
        F.kl_div,
        (X, X * NAN),
        {"log_target": True},
        ValueError,
        "at most 0 with log_target, got nan in row 0",
    ),
    "p shape": (F.kl_div, (X, X[0]), {}, ValueError, r"kl_div: p must have the shape of log_q, \(4, 3\), got \(3,\)"),
    "p text": (F.kl_div, (X, "p"), {}, TypeError, "kl_div: p must hold real numbers"),
    "brier label": (F.brier_loss, (P, [0, 1, 3, 0]), {}, ValueError, r"labels must be in 0 \.\.\. 2, got 3 in row 2"),
    "brier label -1": (F.brier_loss, (P, [0, -1, 1, 0]), {}, ValueError, r"labels must be in 0 .* got -1 in row 1"),
    "brier float": (F.brier_loss, (P, [0.0, 1, 1, 0]), {}, TypeError, "brier_loss: labels must be integers"),
    "brier None": (F.brier_loss, (P, None), {}, TypeError, "brier_loss: labels must be integers, got None"),
    "brier labels": (
        F.brier_loss,
        (P, [0, 1]),
        {},
        ValueError,
        r"labels must have shape \(4,\), one a row, got \(2,\)",
    ),
    "brier shape": (F.brier_loss, (P, P.T), {}, ValueError, "brier_loss: target must have the shape of probs"),
    "brier probs": (
        F.brier_loss,
        (P + 1, [0, 1, 2, 0]),
        {},
        ValueError,
        r"probs must be in \[0, 1\], got 1.5 in row 0",
    ),
    "brier target": (F.brier_loss, (P, P - 1), {}, ValueError, r"target must be in \[0, 1\], got -0.5 in row 0"),
    "brier vector": (F.brier_loss, (P[0], [0]), {}, ValueError, r"probs must have shape \(N, C\)"),
}


@pytest.mark.parametrize("fault", list(BAD))
def test_bad_input_is_refused_before_anything_is_written(fault):
    function, given_arguments, options, error, message = BAD[fault]
    out = np.full(np.shape(given_arguments[0]), 7, given_arguments[0].dtype)
    with pytest.raises(error, match=message):
        function(*given_arguments, **options, return_grad=True, out=out)
    assert np.all(out == 7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mn.HuberLoss(delta=-1), "HuberLoss: delta must be a finite number > 0, got -1"),
        (lambda: mn.GaussianNLLLoss(var=-1), "GaussianNLLLoss: var must be a finite number >= 0, got -1"),
        (lambda: mn.GaussianNLLLoss(eps=0), "GaussianNLLLoss: eps must be a finite number > 0, got 0"),
        (lambda: mn.PoissonNLLLoss(eps=-1), "PoissonNLLLoss: eps must be a finite number >= 0, got -1"),
    ],
)
def test_bad_options_are_refused_when_the_loss_is_made(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


# ---- properties ----

NUMBERS = st.integers(-(10**6), 10**6).map(lambda i: i / 1024)  # whose squares are no subnormal numbers


@given(arrays(np.float64, (7, 2), elements=NUMBERS), arrays(np.float64, (7, 2), elements=NUMBERS), arrays(bool, 7))
def test_weights_of_0_and_1_choose_a_subset(x, t, mask):
    for function in (F.mse_loss, F.l1_loss, F.huber_loss):
        for reduction in ("mean", "sum"):
            got = function(x, t, sample_weight=mask.astype(float), reduction=reduction)
            assert got == pytest.approx(function(x[mask], t[mask], reduction=reduction), rel=1e-13, abs=1e-300)


@given(NUMBERS, NUMBERS, st.floats(0.01, 100))
def test_huber_loss_lies_between_the_squared_and_the_absolute_error(x, t, delta):
    loss = F.huber_loss([x], [t], delta=delta)
    assert loss <= F.mse_loss([x], [t]) / 2 * (1 + 1e-14)
    assert loss <= delta * F.l1_loss([x], [t]) * (1 + 1e-14)


@given(arrays(np.float64, (3, 4), elements=st.floats(-20, 20)), arrays(np.float64, (3, 4), elements=st.floats(-20, 20)))
def test_divergence_is_not_negative_and_0_for_equals(x, z):
    log_q, p = F.log_softmax(x), F.softmax(z)
    each = F.kl_div(log_q, p, reduction="none").sum(1)
    assert np.all(each >= -1e-13)
    np.testing.assert_allclose(F.kl_div(np.log(p), p, reduction="none"), np.zeros((3, 4)), atol=1e-15)
    cross = F.cross_entropy(x, p, reduction="none")
    entropy = F.cross_entropy(z, p, reduction="none")
    np.testing.assert_allclose(each, cross - entropy, rtol=1e-10, atol=1e-11)


# ---- as objects ----

OBJECTS = {
    "HuberLoss(delta=0.3, reduction='sum')": (mn.HuberLoss(delta=0.3, reduction="sum"), "huber 0.3", {}),
    "L1Loss(reduction='mean')": (mn.L1Loss(), "l1", {}),
    "KLDivLoss(log_target=True, reduction='batchmean')": (
        mn.KLDivLoss(log_target=True, reduction="batchmean"),
        "kl_div log",
        {},
    ),
    "PoissonNLLLoss(full=True, reduction='mean')": (mn.PoissonNLLLoss(full=True), "poisson full", {}),
    "BrierLoss(reduction='none')": (mn.BrierLoss(reduction="none"), "brier", {}),
}


@pytest.mark.parametrize("text", OBJECTS)
def test_a_loss_with_options_is_its_function(text, rng):
    made, name, _ = OBJECTS[text]
    loss, _, x, t = case(name, rng)
    assert repr(made) == text
    got = made.value_and_grad(x, t, sample_weight=[1, 2, 0, 1, 1, 1])
    want = loss(x, t, sample_weight=[1, 2, 0, 1, 1, 1], reduction=made.reduction, return_grad=True)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_array_equal(made(x, t), loss(x, t, reduction=made.reduction))


def test_the_variance_of_the_gaussian_loss_is_an_option(rng):
    x, t = normals(rng, (6, 4))
    loss = mn.GaussianNLLLoss(var=4, full=True)
    assert repr(loss) == "GaussianNLLLoss(var=4.0, full=True, reduction='mean')"
    assert loss(x, t) == F.gaussian_nll_loss(x, t, 4, full=True)
    loss.var = 9.0
    assert loss(x, t) == F.gaussian_nll_loss(x, t, 9, full=True)
    assert loss.options == {"var": 9.0, "full": True, "eps": 1e-6, "reduction": "mean"}


def test_nets_learn_with_the_losses_by_name(rng):
    X = rng.uniform(-1, 1, (200, 2))
    y = (X[:, :1] + 2 * X[:, 1:]).astype("float32")
    for name in ("l1", "huber", "gaussian", "mse"):
        net = mn.MLP([2, 1], seed=0)
        mn.fit(net, X, y, loss=name, optimizer=mn.SGD(lr=0.1), epochs=60, batch_size=10, seed=0)
        assert np.mean(np.abs(net.forward(X) - y)) < 0.15, name
    rates = np.random.default_rng(1).poisson(np.exp(y)).astype("float32")
    net = mn.MLP([2, 1], seed=0)
    mn.fit(net, X, rates, loss="poisson", optimizer=mn.SGD(lr=0.02), epochs=100, batch_size=10, seed=0)
    assert np.mean(np.abs(net.forward(X) - y)) < 0.3
