"""The twins with all options: their gradients are those of their values, and cross_entropy and nll_loss equal them."""

import itertools

import numpy as np
import pytest
import reference_losses

from minnet import functional as F

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
REDUCTIONS = ["mean", "sum", "none", "batchmean"]
SHAPES = [(1, 1), (3, 1), (5, 3), (33, 4), (0, 3), (2, 64), (3, 65), (2, 130)]
GAMMAS = [0.0, 0.5, 1.0, 2.0, 3.7]
IGNORE = {"no class": {}, "-1": {"ignore_index": -1}, "a class": {"ignore_index": 1}}

by_kind = pytest.mark.parametrize("kind", ["labels", "probabilities"])
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=["x".join(map(str, shape)) for shape in SHAPES])
by_dtype = pytest.mark.parametrize("dtype", list(EPS))
by_gamma = pytest.mark.parametrize("gamma", GAMMAS)
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
by_ignored = pytest.mark.parametrize("ignored", IGNORE)


def inputs(kind, shape, ignored="no class", dtype="float64"):
    """Logits and a target; every third row of labels is ignored, if any is."""
    rng = np.random.default_rng(shape[0] * 1000 + shape[1])
    logits = rng.normal(0, 2, shape).astype(dtype)
    if kind == "probabilities":
        return logits, rng.dirichlet(np.ones(shape[1]), shape[0])
    target = rng.integers(0, shape[1], shape[0])
    if ignored == "-1":
        target[::3] = -1
    return logits, target


def weights(shape, dtype="float64"):
    """Class and sample weights, none of them 1, one of each 0 where there are several."""
    rng = np.random.default_rng(1)
    weight, sample_weight = rng.uniform(0.25, 2, shape[1]), rng.uniform(0.25, 2, shape[0])
    weight[2:3], sample_weight[1:2] = 0, 0
    return {"weight": weight.astype(dtype), "sample_weight": sample_weight.astype(dtype)}


def weighted_ways(shape):
    """Options with neither, one and both kinds of weights."""
    both = weights(shape)
    for names in ((), ("weight",), ("sample_weight",), tuple(both)):
        yield {name: both[name] for name in names}


def numeric_gradient(f, x, h=1e-3):
    """Central differences of fourth order; their error is about h^4 and 1e-13."""
    grad = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        near, far = f(x + step) - f(x - step), f(x + 2 * step) - f(x - 2 * step)
        grad[i] = (8 * near - far) / (12 * h)
    return grad


# ---- the twins themselves ----


@by_kind
@by_gamma
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@by_reduction
def test_gradient_of_the_twin_is_that_of_its_value(kind, gamma, smoothing, reduction):
    shape = 5, 3
    logits, target = inputs(kind, shape, "-1")
    for chosen in weighted_ways(shape):
        named = {**chosen, "gamma": gamma, "label_smoothing": smoothing, "ignore_index": -1, "reduction": reduction}

        def value(z, named=named):
            return np.sum(reference_losses.cross_entropy(z, target, **named)[0])

        grad = reference_losses.cross_entropy(logits, target, **named)[1]
        np.testing.assert_allclose(grad, numeric_gradient(value, logits), rtol=1e-9, atol=1e-9)


@by_reduction
def test_gradient_of_the_twin_of_nll_loss_is_that_of_its_value(reduction):
    log_probs, target = inputs("labels", (5, 3), "-1")
    named = {**weights((5, 3)), "ignore_index": -1, "reduction": reduction}
    grad = reference_losses.nll_loss(log_probs, target, **named)[1]
    numeric = numeric_gradient(lambda x: np.sum(reference_losses.nll_loss(x, target, **named)[0]), log_probs)
    np.testing.assert_allclose(grad, numeric, rtol=1e-9, atol=1e-9)


@by_gamma
def test_labels_and_their_one_hot_rows_agree_without_smoothing_in_the_twin(gamma):
    logits, target = inputs("labels", (33, 4))
    one = reference_losses.cross_entropy(logits, target, gamma=gamma, **weights((33, 4)), reduction="sum")
    other = reference_losses.cross_entropy(logits, np.eye(4)[target], gamma=gamma, **weights((33, 4)), reduction="sum")
    np.testing.assert_allclose(one[0], other[0], rtol=1e-14)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-13, atol=1e-15)


# ---- minnet equals them ----


def assert_equals_its_twin(name, first, target, **named):
    """Value to 16 eps, gradient to 16 eps of the largest entry of its row (or 0.01); rows that do not count have 0."""
    dtype, function, twin = str(first.dtype), getattr(F, name), getattr(reference_losses, name)
    wanted, slopes = twin(first, target, **named)
    value, grad = function(first, target, **named, return_grad=True)
    assert (grad.shape, grad.dtype) == (first.shape, first.dtype)
    np.testing.assert_allclose(value, wanted, rtol=16 * EPS[dtype], atol=0)
    scale = np.max(np.abs(slopes), 1, keepdims=True, initial=0)
    assert np.all(np.abs(grad - slopes) <= 16 * EPS[dtype] * np.maximum(scale, 1e-2))
    assert first.shape[1] == 1 or not np.any(grad[scale[:, 0] == 0])
    alone = {key: option for key, option in named.items() if key != "grad_output"}
    np.testing.assert_allclose(function(first, target, **alone), value, rtol=4 * EPS[dtype], atol=0)


@by_kind
@by_shape
@by_dtype
@by_reduction
@by_ignored
def test_weights_smoothing_and_reductions_are_the_twins(kind, shape, dtype, reduction, ignored):
    logits, target = inputs(kind, shape, ignored, dtype)
    for chosen, smoothing in itertools.product(weighted_ways(shape), (0.0, 0.1, 1.0)):
        options = {**chosen, **(IGNORE[ignored] if kind == "labels" else {})}
        assert_equals_its_twin(
            "cross_entropy", logits, target, **options, label_smoothing=smoothing, reduction=reduction
        )


@by_kind
@by_shape
@by_dtype
@by_gamma
@by_reduction
def test_focal_loss_is_the_twins(kind, shape, dtype, gamma, reduction):
    logits, target = inputs(kind, shape, "-1", dtype)
    for chosen in weighted_ways(shape):
        options = {**chosen, **(IGNORE["-1"] if kind == "labels" else {})}
        assert_equals_its_twin("cross_entropy", logits, target, **options, gamma=gamma, reduction=reduction)


@by_kind
@by_dtype
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_with_smoothing_is_the_twins(kind, dtype, gamma):
    logits, target = inputs(kind, (33, 4), "-1", dtype)
    options = {**weights((33, 4)), **(IGNORE["-1"] if kind == "labels" else {})}
    assert_equals_its_twin("cross_entropy", logits, target, **options, gamma=gamma, label_smoothing=0.1)


@by_shape
@by_dtype
@by_reduction
@by_ignored
def test_nll_loss_is_the_twins(shape, dtype, reduction, ignored):
    logits, target = inputs("labels", shape, ignored, dtype)
    log_probs = F.log_softmax(logits)
    for chosen in weighted_ways(shape):
        assert_equals_its_twin("nll_loss", log_probs, target, **chosen, **IGNORE[ignored], reduction=reduction)


@by_kind
@by_dtype
@by_reduction
@pytest.mark.parametrize("shape", [(5, 3), (33, 4), (3, 65)])
def test_the_upstream_gradient_scales_the_gradient_and_not_the_value(kind, dtype, reduction, shape):
    logits, target = inputs(kind, shape, "-1", dtype)
    options = {**weights(shape), **(IGNORE["-1"] if kind == "labels" else {}), "reduction": reduction}
    upstream = [2.5, -0.5, 0.0]
    if reduction == "none":
        upstream.append(np.random.default_rng(2).normal(size=shape[0]))
        upstream.append(np.broadcast_to(np.float64(1.5), shape[0]))  # one number, with stride 0
    for grad_output in upstream:
        for extra in ({}, {"label_smoothing": 0.1}, {"gamma": 2.0}):
            assert_equals_its_twin("cross_entropy", logits, target, **options, **extra, grad_output=grad_output)
        if kind == "labels":
            assert_equals_its_twin("nll_loss", F.log_softmax(logits), target, **options, grad_output=grad_output)


@by_kind
@by_dtype
def test_gamma_0_and_smoothing_0_are_plain_cross_entropy_bit_for_bit(kind, dtype):
    logits, target = inputs(kind, (33, 4), dtype=dtype)
    value, grad = F.cross_entropy(logits, target, return_grad=True)
    for options in ({"gamma": 0.0}, {"label_smoothing": 0.0}, {"gamma": 0, "label_smoothing": 0}):
        other, other_grad = F.cross_entropy(logits, target, **options, return_grad=True)
        assert other == value
        np.testing.assert_array_equal(other_grad, grad)


@by_dtype
def test_weights_of_1_are_no_weights(dtype):
    logits, target = inputs("labels", (33, 4), dtype=dtype)
    value, grad = F.cross_entropy(logits, target, return_grad=True)
    weighted, weighted_grad = F.cross_entropy(
        logits, target, weight=np.ones(4), sample_weight=np.ones(33), return_grad=True
    )
    assert weighted == pytest.approx(value, rel=4 * EPS[dtype])
    np.testing.assert_allclose(weighted_grad, grad, rtol=4 * EPS[dtype])
