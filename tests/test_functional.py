"""functional: every function equals its plain twin (reference.py) over dtypes and shapes, takes every layout and dtype
of input and writes only to out; every loss weighs, reduces and differentiates as documented."""

import math
import tracemalloc

import numpy as np
import pytest
import reference

import minnet
from minnet import _activations, _checks
from minnet import functional as F

DTYPES = ["float32", "float64"]
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
BLOCKS = [15, 16, 17, 255, 256, 257]  # around LANES and CHUNK of the kernels
SHAPES = [(1, 1), (3, 7), (5, 3), (0, 4), (3, 1000), *((2, columns) for columns in BLOCKS)]
REDUCTIONS = ["none", "mean", "sum", "batchmean"]

ACTIVATIONS = ["sigmoid", "tanh", "softplus", "log_sigmoid", "relu"]
SOFTMAXES = ["softmax", "log_softmax"]
LOSSES = ["labels", "probabilities", "bce_with_logits", "bce", "mse"]

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
by_loss = pytest.mark.parametrize("loss", LOSSES)
by_activation = pytest.mark.parametrize("name", ACTIVATIONS)
by_softmax = pytest.mark.parametrize("name", SOFTMAXES)


def ids(shapes):
    return ["x".join(map(str, shape)) for shape in shapes]


by_shape = pytest.mark.parametrize("shape", SHAPES, ids=ids(SHAPES))


def assert_close(got, want, dtype, scale=8):
    """Equal to `scale` eps, relative and absolute."""
    np.testing.assert_allclose(got, want, rtol=scale * EPS[dtype], atol=scale * EPS[dtype])


# ---- the losses and what they take ----

FUNCTIONS = {
    "labels": F.cross_entropy,
    "probabilities": F.cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "bce": F.binary_cross_entropy,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "poisson": F.poisson_nll_loss,
    "kl_div": F.kl_div,
}
TWINS = {loss: getattr(reference, function.__name__) for loss, function in FUNCTIONS.items()}


def inputs(loss, rng, shape, dtype="float64"):
    """The first argument of a loss, and targets that fit."""
    x = rng.uniform(0.05, 0.95, shape) if loss == "bce" else rng.normal(0, 2, shape)
    x = -np.abs(x) if loss == "kl_div" else x
    t = {
        "labels": lambda: rng.integers(0, shape[1], shape[0]),
        "probabilities": lambda: rng.dirichlet(np.ones(shape[1]), shape[0]),
        "bce_with_logits": lambda: rng.uniform(0, 1, shape),
        "bce": lambda: rng.uniform(0, 1, shape),
        "mse": lambda: rng.normal(0, 2, shape),
        "l1": lambda: rng.normal(0, 2, shape),
        "huber": lambda: rng.normal(0, 2, shape),
        "poisson": lambda: rng.poisson(3, shape),
        "kl_div": lambda: rng.uniform(0, 1, shape),
    }[loss]()
    return x.astype(dtype), t if loss == "labels" else t.astype(dtype)


# ---- parity: activations ----


@by_dtype
@by_shape
@by_activation
def test_activation_equals_its_twin(name, shape, dtype, rng):
    x = rng.normal(0, 3, shape).astype(dtype)
    y = getattr(F, name)(x)
    assert (y.shape, y.dtype) == (shape, dtype)
    assert_close(y, getattr(reference, name)(x), dtype)


@by_dtype
@by_shape
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "relu"])
def test_value_and_slope_equal_their_twins(name, shape, dtype, rng):
    x = rng.normal(0, 3, shape).astype(dtype)
    y, slope = F.value_and_slope(name, x)
    assert (slope.shape, slope.dtype) == (shape, dtype)
    assert_close(y, getattr(reference, name)(x), dtype)
    assert_close(slope, getattr(reference, name + "_slope")(x), dtype)


@by_dtype
@pytest.mark.parametrize("size", [0, 1, *BLOCKS])
def test_log_sigmoid_kernel_gives_its_slope(size, dtype, rng):
    x = rng.normal(0, 3, size).astype(dtype)
    y, slope = np.empty_like(x), np.empty_like(x)
    _activations.log_sigmoid_forward[{"float32": "float", "float64": "double"}[dtype]](x, y, slope)
    assert_close(y, reference.log_sigmoid(x), dtype)
    assert_close(slope, reference.log_sigmoid_slope(x), dtype)


@by_dtype
@by_shape
def test_chain_is_the_product(shape, dtype, rng):
    dy, slope = rng.normal(size=(2, *shape)).astype(dtype)
    np.testing.assert_array_equal(F.chain(dy, slope), dy * slope, strict=True)


@by_activation
def test_activation_keeps_any_number_of_axes(name, rng):
    x = rng.normal(size=(2, 3, 1, 4))
    assert_close(getattr(F, name)(x), getattr(reference, name)(x), "float64")


@by_activation
def test_activation_of_one_number_is_a_number(name):
    y = getattr(F, name)(0.5)
    assert isinstance(y, np.float64)
    assert y == pytest.approx(float(getattr(reference, name)(0.5)), rel=1e-14)
    assert isinstance(getattr(F, name)(np.float32(0.5)), np.float32)


def test_relu_keeps_nan_and_gives_it_no_slope():
    y, slope = F.value_and_slope("relu", np.array([math.nan, -1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(y, [math.nan, 0, 0, 2])
    np.testing.assert_array_equal(slope, [0, 0, 0, 1])


# ---- parity: softmax family ----


@by_dtype
@by_shape
@pytest.mark.parametrize("name", [*SOFTMAXES, "logsumexp"])
def test_softmax_family_equals_its_twins(name, shape, dtype, rng):
    x = rng.normal(0, 3, shape).astype(dtype)
    y = getattr(F, name)(x)
    assert (y.shape, y.dtype) == (shape[:1] if name == "logsumexp" else shape, dtype)
    assert_close(y, getattr(reference, name)(x), dtype)


AXES = [((5,), 0), ((5,), -1), ((4, 3), 0), ((4, 3), -2), ((3, 3), 0), ((1, 3, 1), 0), ((1, 1, 1), 1)]
AXES += [((2, 3, 4), axis) for axis in range(-3, 3)] + [((2, 0, 4), 0), ((2, 0, 4), -1), ((2, 3, 2, 3), 1)]


@pytest.mark.parametrize(("shape", "axis"), AXES)
@pytest.mark.parametrize("name", [*SOFTMAXES, "logsumexp"])
def test_axis_is_the_axis_of_the_classes(name, shape, axis, rng):
    x = rng.normal(0, 3, shape)
    want = getattr(reference, name)(x, axis)
    y = getattr(F, name)(x, axis=axis)
    assert y.shape == want.shape
    assert_close(y, want, "float64")


@pytest.mark.parametrize(("shape", "axis"), AXES)
@by_softmax
def test_out_takes_any_axis_also_in_place(name, shape, axis, rng):
    x = rng.normal(0, 3, shape)
    want = getattr(F, name)(x, axis=axis)
    out = np.full(shape, 7.0)
    assert getattr(F, name)(x, axis=axis, out=out) is out
    np.testing.assert_array_equal(out, want)
    assert getattr(F, name)(x, axis=np.int64(axis), out=x) is x
    np.testing.assert_array_equal(x, want)


def test_logsumexp_of_one_row_is_a_number():
    assert isinstance(F.logsumexp([0.0, 0.0]), np.float64)
    assert F.logsumexp([0.0, 0.0]) == math.log(2)
    assert isinstance(F.logsumexp(np.zeros(2, np.float32)), np.float32)


@by_softmax
def test_softmax_of_no_classes_is_empty(name):
    assert getattr(F, name)(np.empty((3, 0))).shape == (3, 0)


# ---- parity: losses ----


@by_dtype
@by_shape
@by_reduction
@pytest.mark.parametrize("weighed", [False, True], ids=["plain", "weighed"])
@by_loss
def test_loss_equals_its_twin(loss, weighed, reduction, shape, dtype, rng):
    x, t = inputs(loss, rng, shape, dtype)
    weight = rng.uniform(0, 2, shape[0]).astype(dtype) if weighed else None
    value, grad = FUNCTIONS[loss](x, t, sample_weight=weight, reduction=reduction, return_grad=True)
    want, want_grad = TWINS[loss](x, t, weight, reduction)
    assert (grad.shape, grad.dtype) == (shape, dtype)
    if reduction == "none":
        assert (value.shape, value.dtype) == (want.shape, dtype)
    else:
        assert type(value) is float
    assert_close(value, want, dtype, scale=32 if reduction == "none" else 8 * (1 + shape[1] ** 0.5))
    assert_close(grad, want_grad, dtype, scale=32)


@by_dtype
@by_reduction
@by_loss
def test_value_does_not_depend_on_whether_the_gradient_is_wanted(loss, reduction, dtype, rng):
    x, t = inputs(loss, rng, (5, 19), dtype)
    options = {"sample_weight": rng.uniform(0, 2, 5), "reduction": reduction}
    value = FUNCTIONS[loss](x, t, **options)
    np.testing.assert_array_equal(FUNCTIONS[loss](x, t, **options, return_grad=True)[0], value)


def test_sums_of_many_float32_losses_are_kept_in_float64():
    x = np.full(1_000_003, 0.1, np.float32)
    want = float(np.float32(0.1) * np.float32(0.1))
    assert F.mse_loss(x, np.zeros_like(x)) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("loss", ["bce_with_logits", "bce", "mse"])
def test_loss_of_one_number(loss):
    value, grad = FUNCTIONS[loss](0.75, 0.25, return_grad=True)
    want, want_grad = TWINS[loss](0.75, 0.25)
    assert type(value) is float
    assert grad.shape == ()
    assert (value, grad) == (pytest.approx(float(want)), pytest.approx(float(want_grad)))
    assert FUNCTIONS[loss](0.75, 0.25, sample_weight=[2.0], reduction="sum") == pytest.approx(2 * float(want))


@pytest.mark.parametrize("loss", ["bce_with_logits", "bce", "mse"])
def test_elementwise_loss_takes_vectors_and_any_number_of_axes(loss, rng):
    for shape in [(7,), (2, 3, 5)]:
        x, t = inputs(loss, rng, shape)
        weight = rng.uniform(0, 2, shape[0])
        for reduction in REDUCTIONS:
            value, grad = FUNCTIONS[loss](x, t, sample_weight=weight, reduction=reduction, return_grad=True)
            want, want_grad = TWINS[loss](x, t, weight, reduction)
            assert grad.shape == shape
            assert_close(value, want, "float64", 32)
            assert_close(grad, want_grad, "float64", 32)


# ---- targets ----


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i2", ">u8", "?"])
def test_labels_have_any_integer_dtype(kind, rng):
    x = rng.normal(size=(4, 2))
    y = np.array([1, 0, 0, 1])
    want = F.cross_entropy(x, y, return_grad=True)
    got = F.cross_entropy(x, y.astype(kind), return_grad=True)
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])


def test_last_class_is_a_label():
    x = np.array([[0.0, 1.0, 5.0]])
    assert F.cross_entropy(x, np.array([2], np.uint8)) == pytest.approx(float(-reference.log_softmax(x)[0, 2]))


@pytest.mark.parametrize("target", [2, np.int8(2), np.array(2), [0.0, 0.0, 1.0]], ids=["int", "int8", "0-d", "onehot"])
def test_one_sample_takes_logits_without_a_row_axis(target, rng):
    x = rng.normal(size=3)
    value, grad = F.cross_entropy(x, target, return_grad=True)
    batch_value, batch_grad = F.cross_entropy(x[None], [2], return_grad=True)
    assert value == batch_value
    assert grad.shape == (3,)
    assert_close(grad, batch_grad[0], "float64")
    out = np.empty(3)
    assert F.cross_entropy(x, target, return_grad=True, out=out)[1] is out


@pytest.mark.parametrize("loss", ["bce_with_logits", "bce", "mse"])
def test_vector_of_targets_fits_one_column(loss, rng):
    x, t = inputs(loss, rng, (6, 1))
    value, grad = FUNCTIONS[loss](x, t[:, 0], return_grad=True)
    want, want_grad = FUNCTIONS[loss](x, t, return_grad=True)
    assert value == want
    np.testing.assert_array_equal(grad, want_grad, strict=True)


def test_labels_0_and_1_are_targets_of_binary_losses(rng):
    x, t = inputs("bce", rng, (8,))
    t = (t > 0.5).astype(np.float64)
    for function in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        for kind in ("i1", "u8", "?", "f2"):
            assert function(x, t.astype(kind)) == function(x, t)


@by_dtype
def test_targets_are_cast_to_the_dtype_of_the_logits(dtype, rng):
    x, t = inputs("probabilities", rng, (4, 3), dtype)
    wide = rng.dirichlet(np.ones(3), 4)
    assert F.cross_entropy(x, wide) == F.cross_entropy(x, wide.astype(dtype))
    assert F.cross_entropy(x, t, return_grad=True)[1].dtype == dtype


@pytest.mark.parametrize("function", [F.binary_cross_entropy, F.binary_cross_entropy_with_logits])
def test_tiny_float64_probability_is_a_target_for_float32(function):
    # softmax outputs of 1e-60 are common; the cast to float32 makes 0 of them, whatever np.seterr says
    x = np.array([0.5, 0.5], np.float32)
    assert function(x, [1e-60, 1e-42]) == pytest.approx(function(x, [0, 0]))


def test_tiny_float64_class_probability_is_a_target_for_float32():
    x = np.zeros((1, 2), np.float32)
    assert F.cross_entropy(x, [[1e-60, 1.0]]) == pytest.approx(math.log(2))


# ---- weights and reductions ----


@by_reduction
@by_loss
def test_weights_are_repetitions_of_rows(loss, reduction, rng):
    x, t = inputs(loss, rng, (4, 5))
    counts = np.array([2, 0, 1, 3])
    value, grad = FUNCTIONS[loss](x, t, sample_weight=counts, reduction=reduction, return_grad=True)
    rows = np.repeat(np.arange(4), counts)
    want, want_grad = FUNCTIONS[loss](x[rows], t[rows], reduction=reduction, return_grad=True)
    if reduction == "none":
        np.testing.assert_allclose(np.sum(value), np.sum(want), rtol=1e-13)
    else:
        assert value == pytest.approx(want * (len(rows) / 4 if reduction == "batchmean" else 1), rel=1e-13)
    summed = np.zeros_like(x)
    np.add.at(summed, rows, want_grad * (len(rows) / 4 if reduction == "batchmean" else 1))
    np.testing.assert_allclose(grad, summed, rtol=1e-12, atol=1e-15)


def test_weights_multiply_the_losses_of_rows():
    value, grad = F.mse_loss([[1.0, 2.0], [3.0, 4.0]], np.zeros((2, 2)), sample_weight=[3, 1], return_grad=True)
    assert value == (3 * (1 + 4) + 9 + 16) / 8
    np.testing.assert_array_equal(grad, [[6 / 8, 12 / 8], [6 / 8, 8 / 8]])
    losses = F.mse_loss([[1.0, 2.0], [3.0, 4.0]], np.zeros((2, 2)), sample_weight=[3, 1], reduction="none")
    np.testing.assert_array_equal(losses, [[3, 12], [9, 16]])


def test_batchmean_is_the_sum_over_the_rows(rng):
    x, t = inputs("mse", rng, (4, 5))
    assert F.mse_loss(x, t, reduction="batchmean") == pytest.approx(F.mse_loss(x, t, reduction="sum") / 4)
    assert F.mse_loss(x, t, reduction="batchmean") == pytest.approx(5 * F.mse_loss(x, t))


@by_loss
def test_weights_of_every_layout_are_taken_and_left_alone(loss, rng):
    x, t = inputs(loss, rng, (4, 3))
    want = FUNCTIONS[loss](x, t, sample_weight=[1.0, 0.0, 2.0, 3.0])
    for weight in ([1, 0, 2, 3], np.array([1, 9, 0, 9, 2, 9, 3, 9.0])[::2], np.array([1, 0, 2, 3], np.float16)):
        before = np.array(weight)
        assert FUNCTIONS[loss](x, t, sample_weight=weight) == want
        np.testing.assert_array_equal(weight, before)


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("classes", [64, 65, 3000])
def test_class_weights_are_weights_of_the_rows_that_have_these_labels(classes, rows, rng):
    x, y, w = rng.normal(size=(rows, classes)), rng.integers(0, classes, rows), rng.uniform(0.5, 2, classes)
    y[1::3] = -100
    of_rows = rng.uniform(0.5, 2, rows)
    counted = np.where(y == -100, 0, of_rows * w[np.maximum(y, 0)])
    value, grad = F.cross_entropy(x, y, weight=w, sample_weight=of_rows, return_grad=True)
    expected, expected_grad = F.cross_entropy(x, np.maximum(y, 0), sample_weight=counted, return_grad=True)
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
@by_loss
def test_weights_of_0_cost_nothing(loss, reduction, rng):
    x, t = inputs(loss, rng, (4, 3))
    value, grad = FUNCTIONS[loss](x, t, sample_weight=np.zeros(4), reduction=reduction, return_grad=True)
    assert value == 0.0
    assert type(value) is float
    np.testing.assert_array_equal(grad, np.zeros((4, 3)))


# A row of weight 0 is a row left out, even if what it holds has no finite loss: T9, T13 of the edge cases.
WITHOUT_A_LOSS = {
    "labels": ([[-math.inf, 0.0], [1.0, 2.0]], [0, 1]),
    "probabilities": ([[math.nan, 0.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]),
    "bce_with_logits": ([-math.inf, 1.0], [1, 1]),
    "bce": ([0.0, 0.5], [1, 1]),
    "mse": ([math.nan, 1.0], [0, 0]),
    "l1": ([math.nan, 1.0], [0, 0]),
    "huber": ([math.nan, 1.0], [0, 0]),
    "poisson": ([-math.inf, 1.0], [1, 1]),
    "kl_div": ([-math.inf, -1.0], [0.5, 0.5]),
}


@by_dtype
@by_reduction
@by_loss
def test_row_of_weight_0_is_left_out_even_if_its_loss_is_not_finite(loss, reduction, dtype):
    x, t = np.array(WITHOUT_A_LOSS[loss][0], dtype), np.array(WITHOUT_A_LOSS[loss][1])
    assert not np.isfinite(FUNCTIONS[loss](x, t))
    weight = np.array([0, 1], dtype)
    value, grad = FUNCTIONS[loss](x, t, sample_weight=weight, reduction=reduction, return_grad=True)
    want, want_grad = FUNCTIONS[loss](x[1:], t[1:], reduction=reduction, return_grad=True)
    share = 0.5 if reduction == "batchmean" else 1
    np.testing.assert_array_equal(value, np.concatenate([[0.0], want]) if reduction == "none" else want * share)
    np.testing.assert_array_equal(grad, np.concatenate([np.zeros_like(want_grad), want_grad * share]))


@by_loss
def test_mean_over_weights_of_0_is_0_even_if_no_loss_is_finite(loss):
    x, t = (np.array(a)[:1] for a in WITHOUT_A_LOSS[loss])
    value, grad = FUNCTIONS[loss](x, t, sample_weight=[0], return_grad=True)
    assert value == 0.0
    np.testing.assert_array_equal(grad, np.zeros_like(x))


@pytest.mark.parametrize("factor", [1e-40, 1e-30, 1e30, 1e38], ids=str)
@by_loss
def test_mean_does_not_depend_on_the_unit_of_float32_weights(loss, factor, rng):
    x, t = inputs(loss, rng, (4, 3), "float32")
    with np.errstate(under="ignore"):
        weight = (np.array([1, 2, 0, 0.5]) * factor).astype(np.float32)
    value, grad = FUNCTIONS[loss](x, t, sample_weight=weight, return_grad=True)
    want, want_grad = FUNCTIONS[loss](x, t, sample_weight=weight / weight[0], return_grad=True)
    assert value == pytest.approx(want, rel=1e-5)
    np.testing.assert_allclose(grad, want_grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("factor", [1e-320, 1e-200, 1e200, 1e308], ids=str)
@by_loss
def test_mean_does_not_depend_on_the_unit_of_float64_weights(loss, factor, rng):
    x, t = inputs(loss, rng, (4, 3))
    value, grad = FUNCTIONS[loss](x, t, sample_weight=np.full(4, factor), return_grad=True)
    want, want_grad = FUNCTIONS[loss](x, t, return_grad=True)
    assert value == pytest.approx(want, rel=1e-3)
    np.testing.assert_allclose(grad, want_grad, rtol=1e-3, atol=1e-12)


# Weights and upstream gradients in the dtype of the outputs are read as they are, all others as float64.
ELEMENTWISE = [loss for loss in FUNCTIONS if loss not in ("labels", "probabilities")]
by_elementwise_loss = pytest.mark.parametrize("loss", ELEMENTWISE)


def with_float64_weights(loss, x, t, weight, **options):
    return FUNCTIONS[loss](x, t, sample_weight=weight.astype(np.float64), return_grad=True, **options)


@by_reduction
@pytest.mark.parametrize("shape", [(900,), (300, 3)], ids=str)
@by_elementwise_loss
def test_float32_weights_count_as_the_same_weights_in_float64(loss, shape, reduction, rng):
    x, t = inputs(loss, rng, shape, "float32")
    weight = np.where(rng.random(shape[0]) < 0.2, 0, rng.lognormal(0, 3, shape[0])).astype(np.float32)
    value, grad = FUNCTIONS[loss](x, t, sample_weight=weight, reduction=reduction, return_grad=True)
    want, want_grad = with_float64_weights(loss, x, t, weight, reduction=reduction)
    np.testing.assert_array_equal(value, want, strict=True)
    factor_is_1 = reduction in ("sum", "none")  # else a factor, too, is rounded to float32
    np.testing.assert_allclose(grad, want_grad, rtol=0 if factor_is_1 else 2 * EPS["float32"], atol=0)


@by_reduction
@pytest.mark.parametrize("largest", [1e-45, 1e-38, 1e-20, 1e20, 3e38])
@by_elementwise_loss
def test_extreme_float32_weights_are_those_in_float64_bit_by_bit(loss, largest, reduction, rng):
    x, t = inputs(loss, rng, (300, 2), "float32")
    with np.errstate(under="ignore"):
        weight = np.concatenate([np.full(200, largest), rng.uniform(0, largest, 100)]).astype(np.float32)
    got = FUNCTIONS[loss](x, t, sample_weight=weight, reduction=reduction, return_grad=True)
    for part, want in zip(got, with_float64_weights(loss, x, t, weight, reduction=reduction), strict=True):
        assert reduction != "mean" or np.isfinite(want).all()
        np.testing.assert_array_equal(part, want, strict=True)


@by_elementwise_loss
def test_float64_weights_beyond_float32_keep_their_range_beside_float32_outputs(loss, rng):
    x, t = inputs(loss, rng, (4,), "float32")
    weight = np.array([1e-60, 0, 1e-60, 1e-60])
    value, grad = FUNCTIONS[loss](x, t, sample_weight=weight, grad_output=2.0, return_grad=True)
    want, want_grad = FUNCTIONS[loss](x[weight > 0], t[weight > 0], grad_output=2.0, return_grad=True)
    assert value == pytest.approx(want, rel=1e-7)
    np.testing.assert_allclose(grad[weight > 0], want_grad, rtol=2 * EPS["float32"])


@pytest.mark.parametrize("least", [0.0, 1e-300, 1e-50, 1e-40, 1e-30])
def test_float64_weights_too_small_for_float32_still_count(least):
    x, t = np.array([1, math.inf], np.float32), np.zeros(2)
    value = FUNCTIONS["bce_with_logits"](x, t, sample_weight=[1, least])
    assert value == (math.inf if least else pytest.approx(math.log1p(math.e), rel=1e-7))


def test_float64_weights_are_not_rounded_to_right_ones(rng):
    for wrong in (-1e-300, -1e-46, math.nan, math.inf, -math.inf):
        weight = np.ones(1000)
        weight[700] = wrong
        with pytest.raises(ValueError, match="700"):
            FUNCTIONS["bce_with_logits"](np.zeros(1000, np.float32), np.zeros(1000), sample_weight=weight)


@pytest.mark.parametrize("weighed", [False, True], ids=["plain", "weighed"])
@pytest.mark.parametrize("by_row", [False, True], ids=["elements", "rows"])
@by_elementwise_loss
def test_float32_upstream_gradients_count_as_the_same_in_float64(loss, by_row, weighed, rng):
    x, t = inputs(loss, rng, (300, 3), "float32")
    upstream = rng.normal(size=(300,) if by_row else (300, 3)).astype(np.float32)
    weight = rng.choice([0, 1e-30, 1, 1e30], 300).astype(np.float32) if weighed else None
    options = {"sample_weight": weight, "reduction": "none", "return_grad": True}
    got = FUNCTIONS[loss](x, t, grad_output=upstream, **options)
    for part, want in zip(got, FUNCTIONS[loss](x, t, grad_output=upstream.astype(float), **options), strict=True):
        np.testing.assert_array_equal(part, want, strict=True)


@by_dtype
@by_elementwise_loss
def test_weights_in_the_dtype_of_the_outputs_are_not_copied(loss, dtype, rng):
    x, t = inputs(loss, rng, (2**17,), dtype)
    weight, out = rng.random(2**17).astype(dtype), np.empty_like(x)
    tracemalloc.start()
    try:
        FUNCTIONS[loss](x, t, sample_weight=weight, return_grad=True, out=out)
        assert tracemalloc.get_traced_memory()[1] < 2**17  # not one byte an element
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
@by_dtype
@by_loss
def test_empty_batch_costs_nothing(loss, dtype, reduction, rng):
    x, t = inputs(loss, rng, (0, 3), dtype)
    value, grad = FUNCTIONS[loss](x, t, reduction=reduction, return_grad=True)
    assert value == 0.0
    assert type(value) is float
    assert (grad.shape, grad.dtype) == ((0, 3), dtype)
    assert FUNCTIONS[loss](x, t, sample_weight=[], reduction=reduction) == 0.0


@by_loss
def test_empty_batch_has_no_single_losses(loss, rng):
    x, t = inputs(loss, rng, (0, 3))
    assert FUNCTIONS[loss](x, t, reduction="none").shape == TWINS[loss](x, t, None, "none")[0].shape


# ---- gradients are derivatives of the values ----


class Curried:
    """A loss object, as `check_gradient` takes them, with fixed options."""

    def __init__(self, function, reduction):
        self.function, self.options = function, {"reduction": reduction}

    def __call__(self, x, target, **weights):
        return self.function(x, target, **self.options, **weights)

    def value_and_grad(self, x, target, **weights):
        return self.function(x, target, **self.options, **weights, return_grad=True)


@pytest.mark.parametrize("columns", [1, 2, 3, 17])
@pytest.mark.parametrize("weighed", [False, True], ids=["plain", "weighed"])
@by_reduction
@by_loss
def test_gradient_is_the_numeric_derivative(loss, reduction, weighed, columns, rng):
    x, t = inputs(loss, rng, (4, columns))
    x = 0.35 + x / 3 if loss == "bce" else x  # away from 0 and 1, where differences of order 4 are too coarse
    weight = [0.5, 2.0, 0.0, 1.0] if weighed else None
    error = minnet.check_gradient(Curried(FUNCTIONS[loss], reduction), x, t, sample_weight=weight, tol=1e-8)
    assert error < 1e-8


def test_gradient_of_probabilities_that_do_not_sum_to_1_is_the_numeric_derivative(rng):
    x, t = rng.normal(size=(4, 5)), rng.uniform(0, 1, (4, 5))
    assert minnet.check_gradient(Curried(F.cross_entropy, "mean"), x, t, tol=1e-8) < 1e-8


def test_that_check_sees_a_gradient_off_by_a_millionth(rng):
    x, t = inputs("mse", rng, (4, 3))

    class Wrong(Curried):
        def value_and_grad(self, x, target):
            value, grad = super().value_and_grad(x, target)
            return value, grad * (1 + 1e-6)

    with pytest.raises(ValueError, match="gradient"):
        minnet.check_gradient(Wrong(F.mse_loss, "sum"), x, t, tol=1e-8)


# ---- out ----


@by_dtype
@by_activation
def test_out_is_filled_and_returned(name, dtype, rng):
    x = rng.normal(size=(3, 5)).astype(dtype)
    want = getattr(F, name)(x)
    out = np.full_like(x, 7)
    assert getattr(F, name)(x, out=out) is out
    np.testing.assert_array_equal(out, want)


@by_activation
def test_out_may_be_the_input_itself(name, rng):
    x = rng.normal(size=(3, 300))
    want = getattr(F, name)(x)
    assert getattr(F, name)(x, out=x) is x
    np.testing.assert_array_equal(x, want)


def test_out_of_one_number_is_returned():
    out = np.array(7.0)
    assert F.sigmoid(0.0, out=out) is out
    assert out == 0.5


SHIFTS = [1, 3, 16, 255, -1, -5, -64]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", ACTIVATIONS + SOFTMAXES)
def test_out_may_overlap_the_input_in_part(name, shift, rng):
    memory = rng.normal(size=1000)
    x, out = memory[300:700], memory[300 + shift : 700 + shift]
    want = getattr(F, name)(x.copy())
    assert getattr(F, name)(x, out=out) is out
    np.testing.assert_array_equal(out, want)


@by_softmax
def test_out_may_be_the_input_turned_over(name, rng):
    x = rng.normal(size=(4, 4))
    want = getattr(F, name)(x.T.copy())
    getattr(F, name)(x.T, out=x)
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_out_may_be_the_input_backwards(name, rng):
    x = rng.normal(size=40)
    want = getattr(F, name)(x[::-1].copy())
    getattr(F, name)(x[::-1], out=x)
    np.testing.assert_array_equal(x, want)


@by_loss
def test_gradient_goes_to_out(loss, rng):
    x, t = inputs(loss, rng, (4, 5))
    want = FUNCTIONS[loss](x, t, return_grad=True)
    out = np.full_like(x, 7)
    value, grad = FUNCTIONS[loss](x, t, return_grad=True, out=out)
    assert grad is out
    assert value == want[0]
    np.testing.assert_array_equal(out, want[1])


@pytest.mark.parametrize("shift", [0, 1, -1, 7, -20])
@pytest.mark.parametrize("shape", [(5, 20), (2, 400)], ids=["5x20", "2x400"])
@by_loss
def test_gradient_may_overlap_the_logits(loss, shape, shift, rng):
    memory = rng.uniform(0.1, 0.9, 1000)
    size = math.prod(shape)
    x, out = memory[100 : 100 + size].reshape(shape), memory[100 + shift : 100 + shift + size].reshape(shape)
    t = inputs(loss, rng, shape)[1]
    want = FUNCTIONS[loss](x.copy(), t, return_grad=True)
    value, grad = FUNCTIONS[loss](x, t, return_grad=True, out=out)
    assert grad is out
    assert value == want[0]
    np.testing.assert_array_equal(out, want[1])


@pytest.mark.parametrize("shift", [0, 1, -1, 7, -20])
@pytest.mark.parametrize("loss", LOSSES[1:])
def test_gradient_may_overlap_the_targets(loss, shift, rng):
    x = inputs(loss, rng, (5, 20))[0]
    memory = rng.uniform(0.1, 0.9, 300)
    t, out = memory[100:200].reshape(5, 20), memory[100 + shift : 200 + shift].reshape(5, 20)
    want = FUNCTIONS[loss](x, t.copy(), return_grad=True)
    value, grad = FUNCTIONS[loss](x, t, return_grad=True, out=out)
    assert grad is out
    assert value == want[0]
    np.testing.assert_array_equal(out, want[1])


def test_gradient_may_overlap_the_labels(rng):
    x, t = inputs("labels", rng, (5, 20))
    out = np.zeros((5, 20))
    labels = out.view(np.int64)[0, :5]
    labels[:] = t
    want = F.cross_entropy(x, t, return_grad=True)
    value, grad = F.cross_entropy(x, labels, return_grad=True, out=out)
    assert value == want[0]
    np.testing.assert_array_equal(grad, want[1])


@by_dtype
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("place", [0, 1, -1, 3])
@by_loss
def test_gradient_may_overlap_the_weights(loss, place, columns, dtype, rng):
    x, t = inputs(loss, rng, (600, columns), dtype)
    memory = rng.uniform(0.5, 2, 2 + 600 * columns + 10).astype(dtype)
    out, weight = memory[2 : 2 + 600 * columns].reshape(600, columns), memory[2 + place : 602 + place]
    want = FUNCTIONS[loss](x, t, sample_weight=weight.copy(), return_grad=True)
    value, grad = FUNCTIONS[loss](x, t, sample_weight=weight, return_grad=True, out=out)
    assert value == want[0]
    np.testing.assert_array_equal(grad, want[1])


def frozen(shape):
    out = np.empty(shape)
    out.flags.writeable = False
    return out


BAD_OUT = {
    "shape": (lambda shape: np.empty((shape[0], shape[1] + 1)), ValueError, r"out must be \(4, 3\) of float64, got"),
    "flat": (lambda shape: np.empty(math.prod(shape)), ValueError, r"out must be \(4, 3\) of float64, got \(12,\) of"),
    "float32": (lambda shape: np.empty(shape, np.float32), ValueError, r"of float64, got \(4, 3\) of float32"),
    "swapped": (lambda shape: np.empty(shape, ">f8"), ValueError, r"of float64, got \(4, 3\) of >f8"),
    "strided": (lambda shape: np.empty((shape[0], 2 * shape[1]))[:, ::2], ValueError, "C-contiguous, got.*False"),
    "fortran": (lambda shape: np.empty(shape, order="F"), ValueError, "C-contiguous, got.*C_CONTIGUOUS : False"),
    "read-only": (frozen, ValueError, "writable.*, got.*WRITEABLE : False"),
    "misaligned": (lambda shape: misaligned(np.empty(shape)), ValueError, "aligned.*, got.*ALIGNED : False"),
    "list": (lambda shape: [[0.0] * shape[1]] * shape[0], TypeError, r"out must be a numpy array, got \[\["),
}


@pytest.mark.parametrize("fault", list(BAD_OUT))
@pytest.mark.parametrize("name", ACTIVATIONS + SOFTMAXES)
def test_bad_out_is_refused(name, fault):
    make, error, message = BAD_OUT[fault]
    with pytest.raises(error, match=rf"(?s)^{name}: .*{message}"):
        getattr(F, name)(np.zeros((4, 3)), out=make((4, 3)))


@pytest.mark.parametrize("fault", list(BAD_OUT))
@by_loss
def test_bad_out_for_the_gradient_is_refused(loss, fault, rng):
    make, error, message = BAD_OUT[fault]
    x, t = inputs(loss, rng, (4, 3))
    with pytest.raises(error, match=rf"(?s)^{FUNCTIONS[loss].__name__}: .*{message}"):
        FUNCTIONS[loss](x, t, return_grad=True, out=make((4, 3)))


# ---- layouts and dtypes of inputs ----


def misaligned(a):
    """A copy of `a` that stands one byte beside where its dtype should."""
    raw = np.zeros(a.nbytes + 1, np.uint8)
    copy = raw[1:].view(a.dtype).reshape(a.shape)
    copy[...] = a
    assert not copy.flags.aligned or a.dtype.itemsize == 1
    return copy


def strided(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def mapped(a, folder):
    np.memmap(folder / "a", a.dtype, "w+", shape=a.shape)[...] = a
    return np.memmap(folder / "a", a.dtype, "r", shape=a.shape)


LAYOUTS = {
    "strided": strided,
    "fortran": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "read-only": read_only,
    "misaligned": misaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "list": np.ndarray.tolist,
    "tuple": lambda a: tuple(a.tolist()),
    "list of rows": list,
}


def layout_of(name, a, folder):
    return mapped(a, folder) if name == "memory-mapped" else LAYOUTS[name](a)


by_layout = pytest.mark.parametrize("layout", [*LAYOUTS, "memory-mapped"])


@by_dtype
@by_layout
@pytest.mark.parametrize("name", [*ACTIVATIONS, *SOFTMAXES, "logsumexp"])
def test_function_takes_every_layout_and_does_not_write_to_it(name, layout, dtype, rng, tmp_path):
    x = rng.normal(size=(4, 5)).astype(dtype)
    given = layout_of(layout, x, tmp_path)
    y = getattr(F, name)(given)
    assert y.dtype == ("float64" if layout in ("list", "tuple") else dtype)
    assert_close(y, getattr(reference, name)(x), dtype)
    np.testing.assert_array_equal(given, x)
    assert not np.shares_memory(y, np.asarray(given))


@by_dtype
@by_layout
@by_loss
def test_loss_takes_every_layout_and_does_not_write_to_it(loss, layout, dtype, rng, tmp_path):
    x, t = inputs(loss, rng, (4, 5), dtype)
    (tmp_path / "t").mkdir()
    given = layout_of(layout, x, tmp_path), layout_of(layout, t, tmp_path / "t")
    value, grad = FUNCTIONS[loss](*given, return_grad=True)
    want, want_grad = FUNCTIONS[loss](x, t, return_grad=True)
    assert value == pytest.approx(want, rel=8 * EPS[dtype])
    assert_close(grad, want_grad, dtype)
    np.testing.assert_array_equal(given[0], x)
    np.testing.assert_array_equal(given[1], t)
    assert not np.shares_memory(grad, np.asarray(given[0]))


@by_dtype
def test_misaligned_input_is_copied_before_a_kernel_sees_it(dtype):
    # Kernels may load whole vectors at once, which not every processor forgives at an odd address.
    assert _checks.real_array("f", "x", misaligned(np.ones(5, dtype))).flags.aligned
    assert _checks.label_array("f", misaligned(np.ones(5, np.int64)), 5).flags.aligned


def test_inputs_that_reach_the_kernels_unchanged_are_not_written_to(rng):
    # C-contiguous and of the right dtype: nothing copies them on the way.
    x, t, w = rng.uniform(0.1, 0.9, (3, 4)), rng.uniform(0.1, 0.9, (3, 4)), rng.uniform(0.5, 2, 3)
    before = x.tobytes(), t.tobytes(), w.tobytes()
    for loss in LOSSES[1:]:
        FUNCTIONS[loss](x, t, sample_weight=w, return_grad=True)
    for name in (*ACTIVATIONS, *SOFTMAXES, "logsumexp"):
        getattr(F, name)(x)
    assert (x.tobytes(), t.tobytes(), w.tobytes()) == before


KINDS = [(kind, "float64") for kind in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f8", "g", ">f8", ">i4")]
KINDS += [(kind, "float32") for kind in ("f2", "f4", ">f4", ">f2")]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("name", [*ACTIVATIONS, *SOFTMAXES, "logsumexp"])
def test_every_real_dtype_is_computed_in_a_documented_one(name, kind, dtype):
    x = np.array([[0, 1, 1], [1, 0, 1]], kind)
    y = getattr(F, name)(x)
    assert y.dtype == dtype
    assert y.dtype.isnative
    np.testing.assert_array_equal(y, getattr(F, name)(x.astype(dtype)))


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@by_loss
def test_every_real_dtype_of_logits_is_computed_in_a_documented_one(loss, kind, dtype, rng):
    x = np.array([[0, 1, 1], [1, 0, 1]], kind)
    t = [2, 0] if loss == "labels" else [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    options = {"reduction": "sum", "return_grad": True}
    value, grad = FUNCTIONS[loss](x, t, **options)
    want, want_grad = FUNCTIONS[loss](x.astype(dtype), t, **options)
    assert grad.dtype == dtype
    assert value == want
    np.testing.assert_array_equal(grad, want_grad)


@pytest.mark.parametrize("x", [3, True, 2.5, [1, 2], [True, False], [[1], [2.5]]], ids=repr)
def test_python_numbers_and_lists_are_computed_in_float64(x):
    assert F.sigmoid(x).dtype == np.float64
    assert_close(F.sigmoid(x), reference.sigmoid(x), "float64")


def test_public_names_are_the_functions():
    assert sorted(F.__all__) == F.__all__
    public = {name for name in vars(F) if callable(getattr(F, name)) and not name.startswith("_")}
    assert set(F.__all__) <= public
    tested = {*ACTIVATIONS, *SOFTMAXES, "logsumexp", *(function.__name__ for function in FUNCTIONS.values())}
    elsewhere = {"brier_loss", "gaussian_nll_loss", "nll_loss", "linear_cross_entropy"}  # in test files of their own
    elsewhere |= {"generalized_cross_entropy", "hinge_loss"}
    assert tested | elsewhere == set(F.__all__)
