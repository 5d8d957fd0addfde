"""The door of cross_entropy (see _doors.pxd): what goes through gives the same bits as what is checked in Python, and
what should not go through gives the same messages."""

import itertools
import math

import numpy as np
import pytest
from doors import Doors, assert_same_bits

from minnet import _cross_entropy
from minnet import functional as F

INF, NAN = np.inf, np.nan
ROWS, CLASSES = 75, 5
DTYPES = ["float32", "float64"]
REDUCTIONS = ["mean", "sum", "none", "batchmean"]
WEIGHT, SAMPLE_WEIGHT = np.array([0.5, 2, 0, 1, 3]), np.linspace(0, 2, ROWS)
OPTIONS = {
    "weight": [None, WEIGHT, WEIGHT.astype(np.float32)],
    "sample_weight": [None, SAMPLE_WEIGHT],
    "ignore_index": [-100, 3],
    "label_smoothing": [0.0, 0.1],
    "gamma": [0.0, 2, 1.7],
}
COMBINATIONS = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


@pytest.fixture
def doors(monkeypatch):
    return Doors(monkeypatch, _cross_entropy, "cross_entropy_door")


def batch(rng, dtype, ignored=-100):
    logits = rng.normal(0, 3, (ROWS, CLASSES)).astype(dtype)
    return logits, np.where(rng.random(ROWS) < 0.3, ignored, rng.integers(0, CLASSES, ROWS))


def soft_batch(rng, dtype):
    logits, target = rng.normal(0, 3, (2, ROWS, CLASSES)).astype(dtype)
    target = F.softmax(target)
    target[:4] = [[0, 1, 0, 0, -0.0], [0.5, 0.5, 0, 0, 0], [1, 1, 1, 1, 1], [0] * 5]
    return logits, target


def both(logits, target, **options):
    return F.cross_entropy(logits, target, return_grad=True, **options)


def assert_same_through(doors, calls):
    got = [both(logits, target, **options) for logits, target, options in calls]
    assert len(doors) == len(calls)
    assert None not in doors
    doors.close()
    for through, (logits, target, options) in zip(got, calls, strict=True):
        assert_same_bits(through, both(logits, target, **options))


@by_dtype
@by_reduction
def test_every_combination_gives_the_same_bits_with_and_without_the_door(reduction, dtype, doors, rng):
    calls = [(*batch(rng, dtype, given["ignore_index"]), given | {"reduction": reduction}) for given in COMBINATIONS]
    assert_same_through(doors, calls)


@by_dtype
@by_reduction
def test_every_combination_with_probabilities_gives_the_same_bits(reduction, dtype, doors, rng):
    given = [options | {"reduction": reduction} for options in COMBINATIONS if options["ignore_index"] == -100]
    assert_same_through(doors, [(*soft_batch(rng, dtype), options) for options in given])


def assert_near(grad, want, pull, size=1.0):
    """Within rounding; smoothed gradients are differences of terms as large as what multiplies the row."""
    info = np.finfo(grad.dtype)
    bound = 8 * info.eps * np.abs(want) + info.eps * np.abs(pull)[:, None] + float(info.tiny) * max(size, 1)
    assert np.all(np.abs(grad.astype(float) - want) <= bound)


UPSTREAM = np.where(np.arange(ROWS) % 9 == 4, 0, np.linspace(-2, 3, ROWS))


@by_dtype
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("upstream", [-2.5, 3, UPSTREAM, UPSTREAM.astype(np.float32)], ids=str)
def test_every_combination_with_an_upstream_gradient_gives_the_same_bits(upstream, soft, dtype, doors, rng):
    options = {"grad_output": upstream, "reduction": "none" if isinstance(upstream, np.ndarray) else "mean"}
    given = [given for given in COMBINATIONS if not soft or given["ignore_index"] == -100]
    batches = [soft_batch(rng, dtype) if soft else batch(rng, dtype, known["ignore_index"]) for known in given]
    assert_same_through(doors, [(*arrays, known | options) for arrays, known in zip(batches, given, strict=True)])


@by_dtype
@pytest.mark.parametrize("classes", [3, CLASSES, 40, 64, 65, 300])
@pytest.mark.parametrize("given", [{}, {"label_smoothing": 0.1}, {"gamma": 1.5}, {"label_smoothing": 0.1, "gamma": 2}])
@pytest.mark.parametrize("size", [1.0, 1e-20, 1e20])
def test_an_upstream_gradient_multiplies_gradients_and_no_loss(size, given, classes, dtype, rng):
    logits, target = rng.normal(0, 3, (ROWS, classes)).astype(dtype), rng.integers(0, classes, ROWS)
    given = given | {"reduction": "none", "sample_weight": SAMPLE_WEIGHT}
    losses, plain = both(logits, target, **given)
    got, grad = both(logits, target, grad_output=UPSTREAM * size, **given)
    np.testing.assert_allclose(got, losses, rtol=(4 if size != 1 else 0) * np.finfo(dtype).eps)  # by other ways, if odd
    assert_near(grad, plain.astype(float) * (UPSTREAM * size)[:, None], SAMPLE_WEIGHT * UPSTREAM * size, size)
    assert not grad[UPSTREAM == 0].any()


@by_dtype
@pytest.mark.parametrize("classes", [CLASSES, 100])
@pytest.mark.parametrize("given", [{}, {"label_smoothing": 0.1}, {"gamma": 1.5}, {"label_smoothing": 0.1, "gamma": 2}])
def test_a_row_that_counts_nowhere_has_no_gradient_whatever_comes_from_above(given, classes, dtype, rng):
    logits, target = rng.normal(0, 3, (ROWS, classes)).astype(dtype), rng.integers(0, classes, ROWS)
    weight, upstream = np.ones(ROWS), np.ones(ROWS)
    target[:8], weight[8:16] = -100, 0
    upstream[0:16:4], upstream[1:16:4], logits[2:16:4] = NAN, INF, NAN
    logits[20], upstream[20], upstream[30] = NAN, 0, NAN
    options = given | {"sample_weight": weight, "reduction": "none"}
    losses, grad = both(logits, target, grad_output=upstream, **options)
    assert not grad[:16].any()
    assert not losses[:16].any()
    assert np.isnan(losses[20])
    assert not grad[20].any()
    assert np.isnan(grad[30]).all()
    rest = np.setdiff1d(np.arange(16, ROWS), [20, 30])
    want = both(logits[rest], target[rest], **given, reduction="none")
    np.testing.assert_allclose(losses[rest], want[0], rtol=4 * np.finfo(dtype).eps)
    assert_near(grad[rest], want[1], np.ones(len(rest)))


CORNERS = {
    "nan in an ignored row": lambda z, y: (np.where(y[:, None] < 0, NAN, z), y, {}),
    "inf in an ignored row": lambda z, y: (np.where(y[:, None] < 0, INF, z), y, {}),
    "nan in a row of weight 0": lambda z, y: (
        np.where(np.arange(ROWS)[:, None] == 3, NAN, z), y, {"sample_weight": 1.0 * (np.arange(ROWS) != 3)}),
    "nan under a label of weight 0": lambda z, y: (np.where(y[:, None] == 2, NAN, z), y, {"weight": WEIGHT}),
    "all ignored": lambda z, y: (z, np.full(ROWS, -100), {}),
    "all ignored, one a class": lambda z, y: (z, np.full(ROWS, 2), {"ignore_index": 2}),
    "classes of weight 0": lambda z, y: (z, y, {"weight": np.zeros(CLASSES)}),
    "rows of weight 0": lambda z, y: (z, y, {"sample_weight": np.zeros(ROWS)}),
    "an infinite logit": lambda z, y: (np.where(np.arange(CLASSES) == 1, INF, z), y, {}),
    "a class that is out": lambda z, y: (np.where(np.arange(CLASSES) == 1, -INF, z), y, {}),
    "extreme weights": lambda z, y: (z, y, {"weight": WEIGHT * 1e-200, "sample_weight": SAMPLE_WEIGHT * 1e200}),
    "weights beyond float32": lambda z, y: (z, y, {"weight": WEIGHT * 1e60}),
    "labels in int32": lambda z, y: (z, y.astype(np.int32), {}),
    "labels with gaps": lambda z, y: (z, np.repeat(y, 2)[::2], {}),
    "logits with gaps": lambda z, y: (np.repeat(z, 2, 1)[:, ::2], y, {}),
    "weights with gaps": lambda z, y: (z, y, {"weight": np.repeat(WEIGHT, 2)[::2]}),
    "weights as lists": lambda z, y: (z, y, {"weight": WEIGHT.tolist(), "sample_weight": SAMPLE_WEIGHT.tolist()}),
    "sample weights in float32": lambda z, y: (z, y, {"sample_weight": SAMPLE_WEIGHT.astype(np.float32)}),
    "a label that is far out": lambda z, y: (z, np.where(y < 0, -(2**63), y), {"ignore_index": -(2**70)}),
}  # fmt: skip


@by_dtype
@pytest.mark.parametrize("case", list(CORNERS))
def test_every_corner_gives_the_same_bits_with_and_without_the_door(case, dtype, doors, rng):
    logits, target, given = CORNERS[case](*batch(rng, dtype))
    logits = logits.astype(dtype)
    calls = [given | {"label_smoothing": s, "gamma": gamma} for s in (0.0, 0.1) for gamma in (0.0, 2.0, 0.5)]
    got = [both(logits, target, **options) for options in calls]
    doors.close()
    for through, options in zip(got, calls, strict=True):
        want = both(logits, target, **options)
        assert_same_bits(through, want)
        if "row" in case:
            assert np.isfinite(want[0])
            assert np.all(np.isfinite(want[1]))
        if "all" in case or ("of weight 0" in case and "nan" not in case):
            assert want[0] == 0
            assert not np.any(want[1])


@by_dtype
@by_reduction
def test_a_value_alone_is_that_beside_a_gradient(reduction, dtype, doors, rng):
    for given in COMBINATIONS:
        options = given | {"reduction": reduction}
        logits, target = batch(rng, dtype, given["ignore_index"])
        value = F.cross_entropy(logits, target, **options)
        assert doors.pop() is not None
        np.testing.assert_array_equal(value, both(logits, target, **options)[0])


@by_dtype
@pytest.mark.parametrize("narrow", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_narrow_labels_and_weights_go_through_the_door(narrow, dtype, doors, rng):
    logits, target = batch(rng, dtype, ignored=3)
    options = {"ignore_index": 3, "sample_weight": SAMPLE_WEIGHT.astype(np.float32)}
    got = both(logits, target.astype(narrow), **options)
    assert doors.pop() is not None
    assert_same_bits(got, both(logits, target, **options | {"sample_weight": options["sample_weight"].astype(float)}))


BAD_SHARES = {
    "a share below 0": lambda t: np.where(np.arange(CLASSES) == 1, -1e-30, t),
    "a share above 1": lambda t: np.where(np.arange(CLASSES) == 1, 1 + 1e-6, t),
    "a share that is NaN": lambda t: np.where(np.arange(t.size).reshape(t.shape) == t.size - 1, NAN, t),
    "an infinite share": lambda t: np.where(np.arange(t.size).reshape(t.shape) == 3, INF, t),
    "a row too few": lambda t: t[1:],
    "a class too few": lambda t: t[:, 1:].copy(),
    "three axes": lambda t: t[None],
    "complex shares": lambda t: t * 1j,
}


@by_dtype
@pytest.mark.parametrize("case", list(BAD_SHARES))
def test_wrong_probabilities_are_refused_in_the_same_words(case, dtype, doors, rng):
    logits, target = soft_batch(rng, dtype)
    target = BAD_SHARES[case](target)
    target = target if target.dtype.kind == "c" else target.astype(dtype)
    out = np.full_like(logits, 7)
    with pytest.raises((ValueError, TypeError)) as through:
        both(logits, target, out=out)
    assert np.all(out == 7)
    assert doors == [None]
    doors.close()
    with pytest.raises((ValueError, TypeError)) as checked:
        both(logits, target)
    assert (through.type, str(through.value)) == (checked.type, str(checked.value))


@by_dtype
def test_probabilities_of_which_some_are_ignored_are_refused(dtype, doors, rng):
    with pytest.raises(ValueError, match="ignore_index is for labels"):
        both(*soft_batch(rng, dtype), ignore_index=3)
    assert doors == [None]


@by_dtype
def test_probabilities_may_be_the_logits(dtype, doors, rng):
    _, target = soft_batch(rng, dtype)
    want = both(target, target.copy())
    assert_same_bits(both(target, target), want)
    assert None not in doors
    assert_same_bits(both(target.copy(), target, out=target), want)
    assert doors.pop() is None


LONG = 3000  # rows: labels and weights are looked at in stretches of 1024
SCATTERED = {"none": [], "first": [0], "second stretch": range(1030, 1500), "last": [LONG - 1], "all": range(LONG)}


@by_dtype
@pytest.mark.parametrize("ignored", SCATTERED.values(), ids=list(SCATTERED))
@pytest.mark.parametrize("weighted", [(), ("weight",), ("sample_weight",), ("weight", "sample_weight")], ids=str)
def test_a_long_batch_counts_what_is_in_any_of_its_stretches(weighted, ignored, dtype, doors, rng):
    logits, target = rng.normal(size=(LONG, CLASSES)).astype(dtype), rng.integers(0, CLASSES, LONG)
    options = {name: {"weight": WEIGHT, "sample_weight": rng.random(LONG)}[name] for name in weighted}
    counts = options.get("weight", np.ones(CLASSES))[target] * options.get("sample_weight", 1)
    counts[ignored], target[ignored] = 0, -100
    got = both(logits, target, **options)
    total, grad = F.cross_entropy(logits, target, reduction="sum", return_grad=True, **options)
    assert None not in doors
    divisor = math.fsum(counts) or 1
    np.testing.assert_allclose(got[0], total / divisor, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(got[1], grad / divisor, rtol=4 * np.finfo(dtype).eps)
    doors.close()
    assert_same_bits(got, both(logits, target, **options))


@by_dtype
@pytest.mark.parametrize("row", [0, 1023, 1024, LONG - 1])
def test_a_wrong_label_is_found_in_any_stretch_of_a_long_batch(row, dtype, doors, rng):
    logits, target = rng.normal(size=(LONG, CLASSES)).astype(dtype), rng.integers(0, CLASSES, LONG)
    target[::7], target[row] = -100, 2**62  # which has no weight
    with pytest.raises(ValueError, match=rf"labels must be in 0 \.\.\. 4, got {2**62} in row {row}"):
        both(logits, target, weight=WEIGHT, sample_weight=np.ones(LONG))
    assert doors == [None]


@by_dtype
def test_a_gradient_over_something_that_is_read_comes_out_as_over_nothing(dtype, doors, rng):
    logits, target = batch(rng, dtype)
    room = np.empty(ROWS * CLASSES + 1, dtype)
    weight, out = np.ndarray(CLASSES, dtype, room, 0), np.ndarray(logits.shape, dtype, room, room.itemsize)
    weight[...] = WEIGHT
    want = both(logits, target, weight=weight.copy())
    got = both(logits, target, weight=weight, out=out)
    assert doors.pop() is None
    assert_same_bits(got, want)
    want = both(logits, target)
    got = both(logits, target, out=logits)
    assert doors.pop() is None
    assert_same_bits(got, want)


BAD = {
    "weight": [np.ones(4), np.ones(0), np.ones((1, 5)), np.array(1.0), [1, 1, -1e-30, 1, 1], [1, NAN, 1, 1, 1],
               [1, 1, 1, 1, INF], [1, 1, 1, 1, -INF], np.ones(5) * 1j, np.array(["1"] * 5), "heavy", object()],
    "sample_weight": [np.ones(4), np.ones(0), np.ones((ROWS, 1)), np.array(1.0), np.linspace(-1e-30, 1, ROWS),
                      np.append(np.ones(ROWS - 1), NAN), np.append(np.ones(ROWS - 1), INF), np.ones(ROWS) * 1j],
    "ignore_index": [0.5, "none", None, True, NAN],
    "label_smoothing": [-0.1, 1.1, NAN, "much", None, True],
    "gamma": [-0.1, NAN, INF, "much", None],
    "reduction": ["median", None, 1, ["mean"], np.array("mean")],
}  # fmt: skip


@by_dtype
@pytest.mark.parametrize(("name", "index"), [(name, i) for name, values in BAD.items() for i in range(len(values))])
def test_what_is_wrong_is_said_in_the_same_words_with_and_without_the_door(name, index, dtype, doors, rng):
    logits, target = batch(rng, dtype)
    bad = BAD[name][index]
    for given in ({name: bad}, {name: np.array(bad) if isinstance(bad, list) else bad}):
        out = np.full_like(logits, 7)
        with pytest.raises((ValueError, TypeError)) as through:
            both(logits, target, out=out, **given)
        assert np.all(out == 7)
        assert all(value is None for value in doors)
    doors.close()
    with pytest.raises((ValueError, TypeError)) as checked:
        both(logits, target, **given)
    assert (through.type, str(through.value)) == (checked.type, str(checked.value))


@by_dtype
@pytest.mark.parametrize("label", [-1, CLASSES, 2**40, -(2**63)])
def test_a_wrong_label_is_named_whatever_is_ignored(label, dtype, doors, rng):
    logits, target = batch(rng, dtype)
    target[-1] = label
    for given in ({}, {"weight": WEIGHT}, {"sample_weight": SAMPLE_WEIGHT, "label_smoothing": 0.1, "gamma": 2.0}):
        with pytest.raises(ValueError, match=rf"labels must be in 0 \.\.\. 4, got {label} in row {ROWS - 1}"):
            both(logits, target, **given)
    assert doors == [None] * 3
