"""Where minnet's losses differ from torch's on purpose: one test for each row of the table in docs/losses.md."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from minnet import functional as F

ROOT = Path(__file__).parents[1]
INF, NAN = math.inf, math.nan
TINY_BATCH = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, -0.5]])
LABELS = np.array([0, 2])


def both(*arguments, **options):
    """Value and gradient of cross_entropy."""
    return F.cross_entropy(*arguments, return_grad=True, **options)


# ---- nothing to learn from ----


def test_mean_of_nothing():
    empty = np.empty((0, 3))
    for value, grad in (
        both(empty, np.empty(0, int)),
        both(empty, empty),
        both(TINY_BATCH, [-100, -100]),
        both(TINY_BATCH, LABELS, weight=[0, 1, 0]),
        both(TINY_BATCH, LABELS, sample_weight=[0, 0]),
        F.nll_loss(F.log_softmax(TINY_BATCH), [-100, -100], return_grad=True),
        F.binary_cross_entropy_with_logits(empty, empty, return_grad=True),
        F.mse_loss(empty, empty, return_grad=True),
    ):
        assert value == 0
        assert not np.any(grad)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_ignored_row(bad):
    logits = np.concatenate([TINY_BATCH, [[bad] * 3]])
    labels = np.append(LABELS, -100)
    for options in ({}, {"label_smoothing": 0.1}, {"weight": [1, 2, 3]}, {"gamma": 2}):
        value, grad = both(logits, labels, **options)
        alone, alone_grad = both(TINY_BATCH, LABELS, **options)
        assert value == pytest.approx(alone, rel=1e-15)
        np.testing.assert_allclose(grad, np.concatenate([alone_grad, np.zeros((1, 3))]), rtol=1e-15)
        losses = F.cross_entropy(logits, labels, reduction="none", **options)
        assert losses[2] == 0


# ---- infinities ----


def test_soft_target_of_0():
    value, grad = both([[-INF, 0, 0]], [[0, 0.5, 0.5]])
    assert value == pytest.approx(math.log(2), rel=1e-15)
    np.testing.assert_array_equal(grad, np.zeros((1, 3)))
    assert both([[-INF, 0, 0]], [[0.4, 0.3, 0.3]])[0] == INF
    assert both([[-INF, 0, -INF]], [[0, 1, 0]])[0] == 0


def test_divergence_and_count_of_0():
    value, grad = F.kl_div([-INF, 0], [0, 1], reduction="sum", return_grad=True)
    assert value == 0
    np.testing.assert_array_equal(grad, [0, -1])
    value, grad = F.poisson_nll_loss([-INF], [0], return_grad=True)
    assert (value, grad.tolist()) == (0, [0])


def test_infinite_logit_of_a_binary_question():
    logits, target = np.array([INF, -INF, INF, -INF]), np.array([1.0, 0, 0, 1])
    losses, grad = F.binary_cross_entropy_with_logits(logits, target, reduction="none", return_grad=True)
    np.testing.assert_array_equal(losses, [0, 0, INF, INF])
    np.testing.assert_array_equal(grad, [0, 0, 1, -1])


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_element_of_weight_0(bad):
    options = {"weight": [0, 2], "reduction": "none", "return_grad": True}
    losses, grad = F.binary_cross_entropy_with_logits([bad, 0], [1, 1], **options)
    np.testing.assert_array_equal(losses, [0, 2 * math.log(2)])
    np.testing.assert_array_equal(grad, [0, -1])


def test_probability_of_0_or_1():
    assert F.binary_cross_entropy([0.0], [1.0]) == INF
    value, grad = F.binary_cross_entropy([1e-50], [1.0], return_grad=True)
    assert value == pytest.approx(50 * math.log(10), rel=1e-15)
    assert grad == pytest.approx(-1e50, rel=1e-14)


# ---- digits ----


def test_confident_row():
    value, grad = both(np.array([[17, 0, 0]], np.float32), [0])
    assert value == pytest.approx(math.log1p(2 * math.exp(-17)), rel=1e-6)
    assert grad[0, 0] == pytest.approx(-2 * math.exp(-17), rel=1e-6)
    value, grad = F.binary_cross_entropy_with_logits(np.array([17], np.float32), [1], return_grad=True)
    assert grad[0] == pytest.approx(-math.exp(-17), rel=1e-6)


def test_value_is_a_double():
    logits = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)
    value, grad = both(logits, np.zeros(1000, int))
    assert type(value) is float
    assert value == pytest.approx(F.cross_entropy(logits.astype(float), np.zeros(1000, int)), rel=1e-6)
    assert grad.dtype == np.float32


# ---- what is refused ----


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("label", [-1, 3, 2**40, -101])
def test_label_out_of_range(name, label):
    out = np.full((2, 3), 7.0)
    with pytest.raises(ValueError, match=rf"^{name}: .*got {label} in row 1"):
        getattr(F, name)(-abs(TINY_BATCH), [0, label], return_grad=True, out=out)
    assert np.all(out == 7)


@pytest.mark.parametrize("share", [-0.5, 1.5, NAN])
def test_target_outside_0_and_1(share):
    with pytest.raises(ValueError, match=rf"^cross_entropy: .*got {share} in row 1"):
        both(TINY_BATCH, [[0, 0.5, 0.5], [0.5, share, 0]])
    with pytest.raises(ValueError, match=rf"^binary_cross_entropy_with_logits: .*got {share} in row 0"):
        F.binary_cross_entropy_with_logits([1.0], [share])
    with pytest.raises(ValueError, match=rf"^kl_div: .*got {share} in row 1"):
        F.kl_div([-1.0, -1], [0.5, share])


def test_count_below_0():
    with pytest.raises(ValueError, match=r"^poisson_nll_loss: target .*got -3.0 in row 1"):
        F.poisson_nll_loss([1.0, 1], [2, -3])


@pytest.mark.parametrize("ignored", [-1, 0, 1])
def test_ignored_label_among_probabilities(ignored):
    with pytest.raises(ValueError, match=rf"^cross_entropy: ignore_index is for labels.*got {ignored}"):
        both(TINY_BATCH, np.full((2, 3), 1 / 3), ignore_index=ignored)


@pytest.mark.parametrize("bad", [-1.0, NAN, INF])
def test_weight_below_0(bad):
    for name in ("weight", "sample_weight"):
        values = [1.0, bad] if name == "sample_weight" else [1.0, bad, 1.0]
        with pytest.raises(ValueError, match=f"^cross_entropy: {name} .*got {bad}"):
            both(TINY_BATCH, LABELS, **{name: values})


def test_target_of_another_shape():
    for loss in (F.mse_loss, F.binary_cross_entropy_with_logits):
        with pytest.raises(ValueError, match=rf"^{loss.__name__}: target must have the shape of"):
            loss(np.zeros((3, 2)), np.zeros((3, 1)))
        assert loss(np.zeros((3, 1)), np.zeros(3)) == loss(np.zeros((3, 1)), np.zeros((3, 1)))


# ---- what is taken ----


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"])
def test_labels_of_any_integer_dtype(dtype):
    labels = np.array([0, 1])
    value, grad = both(TINY_BATCH, labels.astype(dtype))
    wanted, wanted_grad = both(TINY_BATCH, labels)
    assert value == wanted
    np.testing.assert_array_equal(grad, wanted_grad)


def test_numbers_of_any_real_dtype():
    for logits in (TINY_BATCH.tolist(), TINY_BATCH.astype(int), TINY_BATCH.astype("f2"), np.asfortranarray(TINY_BATCH)):
        value, grad = both(logits, LABELS)
        assert value == pytest.approx(F.cross_entropy(np.array(logits, float), LABELS), rel=1e-6)
        assert grad.dtype == (np.float32 if getattr(logits, "dtype", None) == np.float16 else np.float64)


def test_batchmean_for_every_loss():
    labels = np.array([0, -100])
    total = F.cross_entropy(TINY_BATCH, labels, reduction="sum")
    assert F.cross_entropy(TINY_BATCH, labels, reduction="batchmean") == pytest.approx(total / 2, rel=1e-15)
    assert F.cross_entropy(TINY_BATCH, labels) == pytest.approx(total, rel=1e-15)
    squares = F.mse_loss(TINY_BATCH, np.zeros((2, 3)), reduction="sum")
    assert F.mse_loss(TINY_BATCH, np.zeros((2, 3)), reduction="batchmean") == pytest.approx(squares / 2, rel=1e-15)


def test_sample_weights_count_in_the_mean():
    losses = F.cross_entropy(TINY_BATCH, LABELS, reduction="none")
    value = F.cross_entropy(TINY_BATCH, LABELS, sample_weight=[1, 3])
    assert value == pytest.approx((losses[0] + 3 * losses[1]) / 4, rel=1e-15)


def test_variance_below_eps():
    given = [1.0, 1.0], [0.0, 0.0], [1e-9, 2.0]
    *_, slopes = F.gaussian_nll_loss(*given, reduction="sum", return_grad=True, var_grad=True)
    assert slopes.tolist() == [0, 0.125]
    assert F.gaussian_nll_loss([1.0], [0.0], [1e-9]) == F.gaussian_nll_loss([1.0], [0.0], [1e-7])


# ---- the document ----


def document():
    return (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")


def test_every_departure_of_the_document_has_its_test_and_every_test_its_row():
    named = re.findall(r"\| `(test_\w+)` \|$", document(), flags=re.MULTILINE)
    mine = [name for name in globals() if name.startswith("test_") and "document" not in name]
    assert named == mine


@pytest.mark.parametrize(("classes", "floor"), [(2, "0.313"), (10, "1.461"), (1000, "5.909")])
def test_softmax_applied_twice_has_the_floor_that_the_document_says(classes, floor):
    certain = np.eye(classes)[:1]
    assert f"{F.cross_entropy(certain, [0]):.3f}" == floor
    assert f"{math.log1p((classes - 1) / math.e):.3f}" == floor
    assert floor in document()


def test_the_means_are_those_of_the_document():
    weight, rows = np.array([1.0, 2, 4]), np.array([0.5, 2])
    losses = F.cross_entropy(TINY_BATCH, LABELS, reduction="none")
    labels = F.cross_entropy(TINY_BATCH, LABELS, weight=weight, sample_weight=rows)
    assert labels == pytest.approx((losses @ (weight[LABELS] * rows)) / (weight[LABELS] @ rows), rel=1e-14)
    one_hot = F.cross_entropy(TINY_BATCH, np.eye(3)[LABELS], weight=weight, sample_weight=rows)
    assert one_hot == pytest.approx((losses @ (weight[LABELS] * rows)) / rows.sum(), rel=1e-14)
    squares = F.mse_loss(TINY_BATCH, np.zeros((2, 3)), sample_weight=rows)
    assert squares == pytest.approx((rows @ (TINY_BATCH**2).sum(1)) / (3 * rows.sum()), rel=1e-14)


def test_the_document_is_reached_from_the_readme():
    assert "(docs/losses.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
