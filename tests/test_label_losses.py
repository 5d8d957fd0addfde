"""Generalized cross-entropy and the hinge loss: beside torch and mpmath, at their limits, weighed, ignored, refused;
and the gradient of gaussian_nll_loss with respect to its variances."""

import math

import mpmath
import numpy as np
import pytest

import minnet as mn
from minnet import functional as F

mp = mpmath.mp.clone()
mp.dps = 40

RNG = np.random.default_rng(4)
Z, Y = np.round(RNG.normal(0, 2, (6, 4)), 3), np.array([0, 3, 1, 2, 2, 0])
REDUCTIONS = ["mean", "sum", "none", "batchmean"]
LOSSES = {"generalized": F.generalized_cross_entropy, "hinge": F.hinge_loss}
by_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)

# by torch 2.13: multi_margin_loss, and (1 - softmax(z)[y]^q) / q with its autograd; "squares" are of the gradient's sum
HINGE = {
    1.0: ([2.802, 0.17325, 1.1635, 4.52925, 0.966, 1.53375], 2.875),
    2.5: ([3.927, 0.78725, 1.9135, 5.65425, 1.69075, 2.65875], 3.375),
}
GENERALIZED = {
    0.1: (
        [3.8043104388, 0.6588961624, 2.4405003023, 5.2960143794, 2.5468475430, 2.2565127408],
        4.12439025273,
    ),
    0.7: (
        [1.3785069723, 0.5420497529, 1.2270351021, 1.4212908841, 1.2460633912, 1.1900880713],
        0.25167864449,
    ),
    1.0: (
        [0.9916651749, 0.4941963044, 0.9390560582, 0.9994695311, 0.9471067747, 0.9224885464],
        0.11987323131,
    ),
}


# ---- values and gradients ----


@pytest.mark.parametrize("margin", HINGE)
def test_hinge_is_what_torch_gave(margin):
    losses, squares = HINGE[margin]
    value, grad = F.hinge_loss(Z, Y, margin=margin, reduction="none", return_grad=True)
    np.testing.assert_allclose(value, losses, rtol=1e-14)
    assert np.sum(grad**2) == pytest.approx(squares, rel=1e-14)


@pytest.mark.parametrize("q", GENERALIZED)
def test_generalized_cross_entropy_is_what_torch_gave(q):
    losses, squares = GENERALIZED[q]
    value, grad = F.generalized_cross_entropy(Z, Y, q=q, reduction="none", return_grad=True)
    np.testing.assert_allclose(value, losses, rtol=1e-9)
    assert np.sum(grad**2) == pytest.approx(squares, rel=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 129])
def test_both_are_what_torch_gives_now(rows, reduction):
    torch = pytest.importorskip("torch")
    z, y = RNG.normal(0, 2, (rows, 5)), RNG.integers(0, 5, rows)
    x = torch.tensor(z, requires_grad=True)
    hinge = torch.nn.functional.multi_margin_loss(x, torch.tensor(y), reduction=reduction)
    p = torch.softmax(x, 1)[torch.arange(rows), torch.tensor(y)]
    generalized = (1 - p**0.7) / 0.7
    generalized = generalized if reduction == "none" else getattr(generalized, reduction)()
    for loss, theirs in ((F.hinge_loss, hinge), (F.generalized_cross_entropy, generalized)):
        value, grad = loss(z, y, reduction=reduction, return_grad=True)
        if rows == 0:  # torch gives NaN, or what the memory holds
            assert np.sum(value) == 0
            continue
        np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-12)
        (slope,) = torch.autograd.grad(theirs.sum(), x)
        np.testing.assert_allclose(grad, slope.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [-300.0, -40.0, -1.0, 0.0, 1.0, 20.0, 60.0])
@pytest.mark.parametrize("q", [1e-3, 0.7, 1.0])
def test_generalized_cross_entropy_keeps_its_digits(q, gap, dtype):
    value, grad = F.generalized_cross_entropy(np.array([[gap, 0, -1]], dtype), [0], q=q, return_grad=True)
    e = [mp.exp(mp.mpf(v)) for v in (gap, 0, -1)]
    p, q = [v / mp.fsum(e) for v in e], mp.mpf(q)
    exact = [p[0] ** q * v for v in (-(p[1] + p[2]), p[1], p[2])]
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    assert value == pytest.approx(float(-mp.expm1(q * mp.log(p[0])) / q), rel=8 * eps)
    exponent = max(float(-q * mp.log(p[0])), 1)  # the cost is rounded once, and its error is multiplied by this
    np.testing.assert_allclose(grad[0], [float(v) for v in exact], rtol=8 * eps * exponent, atol=tiny)


@by_loss
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_gradient_is_that_of_the_value(loss, reduction):
    weight, step = np.array([1, 0, 2, 0.5, 1, 3]), 1e-6
    total = lambda z: np.sum(loss(z, Y, sample_weight=weight, reduction=reduction))  # noqa: E731
    _, grad = loss(Z, Y, sample_weight=weight, reduction=reduction, return_grad=True)
    for at in np.ndindex(Z.shape):
        bump = np.zeros_like(Z)
        bump[at] = step
        assert grad[at] == pytest.approx((total(Z + bump) - total(Z - bump)) / (2 * step), abs=1e-8)


# ---- what both share with cross-entropy ----


@by_loss
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_ignored_rows_and_rows_of_weight_0_are_as_if_left_out(loss, bad):
    z, weight = np.concatenate([Z, np.full((2, 4), bad)]), np.array([1, 2, 3, 4, 5, 6.0])
    want, want_grad = loss(Z, Y, sample_weight=weight, return_grad=True)
    value, grad = loss(z, [*Y, -100, 0], sample_weight=[*weight, 7, 0], return_grad=True)
    assert value == pytest.approx(want, rel=1e-15)
    np.testing.assert_allclose(grad[:6], want_grad, rtol=1e-14)
    assert not grad[6:].any()


@by_loss
def test_a_single_row_and_float32(loss):
    value, grad = loss(Z[0], Y[0], return_grad=True)
    assert value == pytest.approx(loss(Z[:1], Y[:1]), rel=1e-15)
    assert grad.shape == (4,)
    value, grad = loss(Z.astype(np.float32), Y, return_grad=True)
    assert grad.dtype == np.float32
    assert value == pytest.approx(loss(Z, Y), rel=1e-6)


@by_loss
def test_nothing_costs_nothing(loss):
    for labels in (np.full(6, -100), np.empty(0, int)):
        value, grad = loss(Z[: len(labels)], labels, return_grad=True)
        assert value == 0
        assert not grad.any()


@by_loss
def test_upstream_gradients_multiply_rows(loss):
    upstream = np.linspace(-1, 2, 6)
    _, plain = loss(Z, Y, reduction="none", return_grad=True)
    _, grad = loss(Z, Y, reduction="none", grad_output=upstream, return_grad=True)
    np.testing.assert_allclose(grad, plain * upstream[:, None], rtol=1e-14)


@by_loss
@pytest.mark.parametrize(
    ("target", "options", "rule"),
    [
        ([0, 3, 1, 4, 2, 0], {}, r"labels must be in 0 \.\.\. 3, got 4 in row 3"),
        (np.eye(6, 4), {}, "labels must be integers"),
        (Y, {"sample_weight": [-1, 1, 1, 1, 1, 1]}, "sample_weight must be finite and not negative"),
        (Y, {"reduction": "average"}, "reduction must be one of"),
    ],
    ids=["label", "probabilities", "weight", "reduction"],
)
def test_bad_input_is_refused(loss, target, options, rule):
    out = np.full_like(Z, 7)
    with pytest.raises((ValueError, TypeError), match=f"^{loss.__name__}: {rule}"):
        loss(Z, target, return_grad=True, out=out, **options)
    assert np.all(out == 7)


@pytest.mark.parametrize("q", [0, -0.5, 1.5, math.nan, "0.7"])
def test_q_outside_its_range_is_refused(q):
    for call in (lambda: F.generalized_cross_entropy(Z, Y, q=q), lambda: mn.GeneralizedCrossEntropyLoss(q=q)):
        with pytest.raises((ValueError, TypeError), match="q must be a"):
            call()


@pytest.mark.parametrize("margin", [0, -1, math.inf])
def test_a_margin_that_is_not_above_0_is_refused(margin):
    for call in (lambda: F.hinge_loss(Z, Y, margin=margin), lambda: mn.HingeLoss(margin=margin)):
        with pytest.raises(ValueError, match="margin must be a finite number > 0"):
            call()


# ---- what each is for ----


def test_small_q_is_cross_entropy_and_1_the_absolute_error():
    p = F.softmax(Z)[range(6), Y]
    assert F.generalized_cross_entropy(Z, Y, q=1e-9) == pytest.approx(F.cross_entropy(Z, Y), rel=1e-7)
    assert F.generalized_cross_entropy(Z, Y, q=1) == pytest.approx(np.mean(1 - p), rel=1e-14)


def test_an_absurd_label_pulls_hardly_at_all():
    z = np.array([[20.0, 0.0]])
    assert abs(F.cross_entropy(z, [1], return_grad=True)[1][0, 1]) > 0.999
    assert abs(F.generalized_cross_entropy(z, [1], return_grad=True)[1][0, 1]) < 1e-6


@pytest.mark.parametrize("kind", ["generalized_cross_entropy", "hinge"])
def test_nets_learn_with_them(kind):
    X, y = mn.datasets.digits()
    net = mn.MLP([64, 16, 10], seed=0)
    mn.fit(net, X, y, loss=kind, optimizer=mn.Adam(lr=1e-2), epochs=10, seed=0)
    assert np.mean(net.predict(X) == y) > 0.9


# ---- variances ----


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("unit", [1, 1e38])
def test_the_gradient_of_variances_takes_float32_weights(unit, reduction):
    x, v = Z.astype(np.float32), np.abs(np.roll(Z, 2, 1)).astype(np.float32) + 0.5
    weight = np.array([1, 0, 2, 0.5, 1, 3]) * unit
    weight = weight.astype(np.float32)
    options = {"reduction": reduction, "return_grad": True, "var_grad": True}
    got = F.gaussian_nll_loss(x, np.roll(x, 1, 0), v, sample_weight=weight, **options)[2]
    want = F.gaussian_nll_loss(x, np.roll(x, 1, 0), v, sample_weight=weight.astype(np.float64), **options)[2]
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_gradient_of_variances_is_that_of_the_value(reduction):
    x, t, v = Z, np.roll(Z, 1, 0), np.abs(np.roll(Z, 2, 1)) + 0.5
    weight, step = np.array([1, 0, 2, 0.5, 1, 3]), 1e-6
    total = lambda v: np.sum(F.gaussian_nll_loss(x, t, v, sample_weight=weight, reduction=reduction))  # noqa: E731
    value, grad, slopes = F.gaussian_nll_loss(
        x, t, v, sample_weight=weight, reduction=reduction, return_grad=True, var_grad=True
    )
    want, want_grad = F.gaussian_nll_loss(x, t, v, sample_weight=weight, reduction=reduction, return_grad=True)
    np.testing.assert_array_equal(value, want)
    np.testing.assert_array_equal(grad, want_grad)
    for at in np.ndindex(v.shape):
        bump = np.zeros_like(v)
        bump[at] = step
        assert slopes[at] == pytest.approx((total(v + bump) - total(v - bump)) / (2 * step), abs=1e-7)


def test_the_gradient_of_variances_is_what_torch_gave():
    v = np.abs(np.roll(Z, 2, 1)) + 0.5
    value, _, slopes = F.gaussian_nll_loss(Z, np.roll(Z, 1, 0), v, return_grad=True, var_grad=True)
    assert value == pytest.approx(2.3851048167084046, rel=1e-14)
    np.testing.assert_allclose(slopes[0], [0.0054, 0.0052, -0.0306, -0.0438], atol=5e-5)
    assert slopes.dtype == np.float64


def test_one_variance_for_a_row_or_for_all():
    one = F.gaussian_nll_loss([[1.0, 2]], [[0.0, 0]], 2.0, return_grad=True, var_grad=True)[2]
    rows = F.gaussian_nll_loss([[1.0, 2]], [[0.0, 0]], [2.0], return_grad=True, var_grad=True)[2]
    np.testing.assert_array_equal(one, rows)
    with pytest.raises(ValueError, match=r"^gaussian_nll_loss: var_grad needs return_grad=True"):
        F.gaussian_nll_loss([1.0], [0.0], [1.0], var_grad=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"gamma": 1.5}])
@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (10**8, 0), (0, 3), (0, 1000)])
def test_rows_without_classes_and_batches_without_rows_cost_nothing(shape, options, dtype):
    z = np.zeros(shape, dtype)
    targets = [z] if shape[0] else [z, np.zeros(0, int)]
    for target in targets:
        value, grad = F.cross_entropy(z, target, return_grad=True, out=np.empty_like(z), **options)
        assert value == 0
        assert grad.shape == shape
        assert F.cross_entropy(z, target, **options) == 0
        assert not np.any(F.cross_entropy(z[:9], target[:9], reduction="none", **options))
