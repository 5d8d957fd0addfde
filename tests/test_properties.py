"""Laws of cross-entropy that hold for any batch, weights and smoothing too: hypothesis looks for counterexamples."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minnet import functional as F

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
IGNORED = -100
LARGE = [(33, 3), (40, 5), (2, 65), (1, 130)]  # more than one tile of rows, more classes than fit in one

few = st.integers(1, 6)
shapes = st.one_of(*[st.tuples(few, few)] * 3, st.sampled_from(LARGE))  # large ones take long to draw
both_kinds = pytest.mark.parametrize("kind", ["labels", "probabilities"])
by_dtype = pytest.mark.parametrize("dtype", list(EPS))
many = settings(deadline=None, max_examples=60)


def numbers(shape, low=-30.0, high=30.0, step=2.0**-10):
    """Multiples of 2^-10, exact in both dtypes, so that sums of a few of them are too."""
    return hnp.arrays(np.int64, shape, elements=st.integers(int(low / step), int(high / step))).map(lambda i: i * step)


@st.composite
def batches(draw, kind, dtype):
    """Logits, a target, and options: none, or class weights, smoothing and sample weights together."""
    shape = draw(shapes)
    logits = draw(numbers(shape)).astype(dtype)
    if kind == "labels":
        target = draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    else:
        shares = draw(numbers(shape, 0, 4)) + np.eye(*shape)
        target = shares / shares.sum(1, keepdims=True) if shape[0] <= shape[1] else np.full(shape, 1 / shape[1])
    options = {}
    if draw(st.booleans()):
        options["weight"] = draw(numbers(shape[1], 0.25, 4))
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
    return logits, target, options


def run(logits, target, reduction="sum", **options):
    """Value and gradient, the gradient in float64."""
    value, grad = F.cross_entropy(logits, target, reduction=reduction, return_grad=True, **options)
    return value, grad.astype(np.float64)


def size_of(options):
    """How large the factors of a row's costs may be."""
    return float(np.max(options.get("weight", 1.0), initial=1.0))


def assert_same(got, wanted, dtype, scale=1.0):
    """Values to 8 eps of themselves, gradients to 8 eps of the largest entry of the row, or of `scale`."""
    np.testing.assert_allclose(got[0], wanted[0], rtol=8 * EPS[dtype], atol=0)
    largest = np.maximum(np.max(np.abs(wanted[1]), 1, keepdims=True, initial=0), scale)
    assert np.all(np.abs(got[1] - wanted[1]) <= 8 * EPS[dtype] * largest)


@both_kinds
@by_dtype
@given(data=st.data())
@many
def test_a_common_shift_changes_nothing(kind, dtype, data):
    logits, target, options = data.draw(batches(kind, dtype))
    shift = data.draw(st.integers(-4000, 4000))  # the sums are exact in 24 bits
    moved = logits + np.asarray(shift, dtype)
    assert np.array_equal(moved.astype(float) - shift, logits)
    # p sum(T) - T may cancel, to 0 even: what has been rounded is as large as its terms
    scale = 0 if kind == "labels" and not options else size_of(options)
    assert_same(run(moved, target, **options), run(logits, target, **options), dtype, scale)


@both_kinds
@by_dtype
@given(data=st.data())
@many
def test_classes_may_be_renumbered(kind, dtype, data):
    logits, target, options = data.draw(batches(kind, dtype))
    order = np.array(data.draw(st.permutations(range(logits.shape[1]))))
    renumbered = np.argsort(order)[target] if kind == "labels" else target[:, order]
    value, grad = run(logits, target, **options)
    if "weight" in options:
        options = {**options, "weight": options["weight"][order]}
    assert_same(run(logits[:, order], renumbered, **options), (value, grad[:, order]), dtype, size_of(options))


@by_dtype
@given(data=st.data())
@many
def test_rows_of_a_gradient_sum_to_0_within_rounding_of_their_largest_entry(dtype, data):
    logits, target, options = data.draw(batches("labels", dtype))
    options.pop("label_smoothing", None)  # its entries are differences, which round by more than their size
    for row in run(logits, target, **options)[1]:
        assert abs(math.fsum(row)) <= 8 * EPS[dtype] * np.max(np.abs(row))


@both_kinds
@by_dtype
@given(data=st.data())
@many
def test_rows_of_any_gradient_sum_to_0_within_rounding_of_what_they_are_made_of(kind, dtype, data):
    logits, target, options = data.draw(batches(kind, dtype))
    for row in run(logits, target, **options)[1]:
        assert abs(math.fsum(row)) <= 8 * EPS[dtype] * max(np.max(np.abs(row)), size_of(options))


@both_kinds
@given(data=st.data())
@many
def test_the_loss_is_convex_in_the_logits(kind, data):
    logits, target, options = data.draw(batches(kind, "float64"))
    step = data.draw(numbers(logits.shape))
    (a, slope_a), (middle, slope), (b, slope_b) = (
        run(logits + share * step, target, **options) for share in (0, 0.5, 1)
    )
    rounding = 64 * EPS["float64"] * (a + b)
    assert middle <= (a + b) / 2 + rounding
    assert b >= a + np.sum(slope_a * step) - rounding * 64
    assert a >= b - np.sum(slope_b * step) - rounding * 64
    assert np.sum((slope_b - slope) * step) >= -64 * rounding


@both_kinds
@by_dtype
@given(data=st.data())
@many
def test_the_sum_over_a_batch_is_that_of_its_parts(kind, dtype, data):
    logits, target, options = data.draw(batches(kind, dtype))
    cut = data.draw(st.integers(0, len(logits)))
    (left, left_grad), (right, right_grad) = (
        run(logits[rows], target[rows], **options) for rows in (slice(cut), slice(cut, None))
    )
    value, grad = run(logits, target, **options)
    assert value == pytest.approx(left + right, rel=4 * EPS[dtype])
    # a row takes the way that all rows beside it can go: ways round differently
    parts = left + right, np.concatenate([left_grad, right_grad])
    assert_same((value, grad), parts, dtype, size_of(options) if options else 0)


@by_dtype
@given(data=st.data())
@many
def test_ignored_rows_are_as_if_left_out(dtype, data):
    logits, target, options = data.draw(batches("labels", dtype))
    kept = data.draw(hnp.arrays(np.bool_, len(target)))
    logits[~kept] = data.draw(st.sampled_from([0.0, math.nan, math.inf, -math.inf]))
    masked = np.where(kept, target, IGNORED)
    room = size_of(options) if options else 0  # what cancels depends on the rows beside
    for reduction in ("sum", "mean"):
        value, grad = run(logits, masked, reduction, **options)
        assert not np.any(grad[~kept])
        assert_same((value, grad[kept]), run(logits[kept], target[kept], reduction, **options), dtype, room)
    losses = run(logits, masked, "none", **options)[0]
    assert not np.any(losses[~kept])
    np.testing.assert_allclose(losses[kept], run(logits[kept], target[kept], "none", **options)[0], rtol=4 * EPS[dtype])


@by_dtype
@given(data=st.data())
@many
def test_an_ignored_class_is_as_if_its_rows_were_left_out(dtype, data):
    logits, target, options = data.draw(batches("labels", dtype))
    ignored = data.draw(st.integers(0, logits.shape[1] - 1))
    kept = target != ignored
    room = size_of(options) if options else 0
    for reduction in ("sum", "mean"):
        value, grad = run(logits, target, reduction, ignore_index=ignored, **options)
        assert not np.any(grad[~kept])
        assert_same((value, grad[kept]), run(logits[kept], target[kept], reduction, **options), dtype, room)


@by_dtype
@given(data=st.data())
@many
def test_labels_are_rows_with_a_single_1(dtype, data):
    logits, target, options = data.draw(batches("labels", dtype))
    options.pop("label_smoothing", None)  # there torch's two kinds of targets weigh differently, and so do these
    one_hot = np.eye(logits.shape[1])[target]
    assert_same(run(logits, one_hot, **options), run(logits, target, **options), dtype, 0)
    if not options:
        assert_same(run(logits, one_hot, "mean"), run(logits, target, "mean"), dtype, 0)


@both_kinds
@by_dtype
@given(data=st.data())
@many
def test_sample_weights_of_0_are_as_if_left_out(kind, dtype, data):
    logits, target, options = data.draw(batches(kind, dtype))
    weight = data.draw(numbers(len(logits), 0, 1, 0.5))
    kept = weight > 0
    logits[~kept] = data.draw(st.sampled_from([0.0, math.nan, math.inf, -math.inf]))
    for reduction in ("sum", "mean"):
        value, grad = run(logits, target, reduction, sample_weight=weight, **options)
        assert not np.any(grad[~kept])
        part = run(logits[kept], target[kept], reduction, sample_weight=weight[kept], **options)
        # a row of NaN sends its tile another way, and p sum(T) - T of smoothed labels may cancel: see above
        scale = size_of(options) if "label_smoothing" in options else 0
        assert_same((value, grad[kept]), part, dtype, scale)


@by_dtype
@given(data=st.data())
@many
def test_class_weights_of_0_are_as_if_the_rows_of_the_class_were_left_out(dtype, data):
    logits, target, _ = data.draw(batches("labels", dtype))
    weight = data.draw(numbers(logits.shape[1], 0, 1, 0.5))
    kept = weight[target] > 0
    assume(not np.all(kept))
    for reduction in ("sum", "mean"):
        value, grad = run(logits, target, reduction, weight=weight)
        assert not np.any(grad[~kept])
        assert_same((value, grad[kept]), run(logits[kept], target[kept], reduction, weight=weight), dtype, 0)


@by_dtype
@given(data=st.data())
@many
def test_whole_sample_weights_are_repetitions(dtype, data):
    logits, target, options = data.draw(batches("labels", dtype))
    times = data.draw(hnp.arrays(np.int64, len(target), elements=st.integers(0, 3)))
    rows = np.repeat(np.arange(len(target)), times)
    for reduction in ("sum", "mean"):
        value, grad = run(logits, target, reduction, sample_weight=times, **options)
        repeated, each = run(logits[rows], target[rows], reduction, **options)
        gathered = np.zeros_like(grad)
        np.add.at(gathered, rows, each)
        # p - t may cancel: its rounding errors are those of p, which a mean divides by the rows
        assert_same((value, grad), (repeated, gathered), dtype, 1.0 if reduction == "sum" else 1.0 / max(len(rows), 1))
