"""Losses as objects: each is its function of minnet.functional with a reduction, and is found by its name."""

from functools import partial

import numpy as np
import pytest

import minnet as mn
from minnet.losses import get_loss

F = mn.functional
REDUCTIONS = ["mean", "sum", "none", "batchmean"]
Z = np.random.default_rng(0).standard_normal((5, 3))
LABELS, SHARES, WEIGHT = np.array([0, 2, 1, 1, 0]), np.full((5, 3), 1 / 3), np.array([1.0, 0, 2, 0.5, 1])
P = np.random.default_rng(1).uniform(0.1, 0.9, (5, 3))
CASES = {
    "cross_entropy labels": (mn.CrossEntropyLoss, F.cross_entropy, Z, LABELS),
    "cross_entropy shares": (mn.CrossEntropyLoss, F.cross_entropy, Z, SHARES),
    "generalized cross_entropy": (mn.GeneralizedCrossEntropyLoss, F.generalized_cross_entropy, Z, LABELS),
    "hinge": (mn.HingeLoss, F.hinge_loss, Z, LABELS),
    "bce with logits": (mn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, Z, P),
    "bce": (mn.BCELoss, F.binary_cross_entropy, P, np.round(P[::-1])),
    "mse": (mn.MSELoss, F.mse_loss, Z, P),
    "l1": (mn.L1Loss, F.l1_loss, Z, P),
    "huber": (mn.HuberLoss, F.huber_loss, Z, P),
    "poisson": (mn.PoissonNLLLoss, F.poisson_nll_loss, Z, LABELS[:, None] + np.arange(3)),
    "gaussian": (mn.GaussianNLLLoss, lambda x, t, **options: F.gaussian_nll_loss(x, t, 1.0, **options), Z, P),
    "kl_div": (mn.KLDivLoss, F.kl_div, np.log(P), P[::-1]),
    "brier labels": (mn.BrierLoss, F.brier_loss, P, LABELS),
    "brier shares": (mn.BrierLoss, F.brier_loss, P, SHARES),
}
MEMBERS = pytest.mark.parametrize(("make", "function", "outputs", "target"), CASES.values(), ids=CASES)


@MEMBERS
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_loss_is_its_function(make, function, outputs, target, reduction, weight):
    loss, options = make(reduction=reduction), {"sample_weight": weight, "reduction": reduction}
    expected, gradient = function(outputs, target, return_grad=True, **options)
    value, grad = loss.value_and_grad(outputs, target, sample_weight=weight)
    np.testing.assert_array_equal(loss(outputs, target, sample_weight=weight), function(outputs, target, **options))
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(grad, gradient)
    assert np.any(grad != 0)


@MEMBERS
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_gradient_is_that_of_the_value(make, function, outputs, target, reduction):
    assert mn.check_gradient(make(reduction=reduction), outputs, target) < 1e-8
    assert mn.check_gradient(make(reduction=reduction), outputs, target, sample_weight=WEIGHT) < 1e-8


@MEMBERS
def test_mean_is_the_default(make, function, outputs, target):
    assert make().reduction == "mean"
    assert make()(outputs, target) == function(outputs, target)


@MEMBERS
def test_reductions_agree_with_each_other(make, function, outputs, target):
    each = make(reduction="none")(outputs, target)
    assert make(reduction="sum")(outputs, target) == pytest.approx(each.sum(), rel=1e-14)
    assert make(reduction="mean")(outputs, target) == pytest.approx(each.mean(), rel=1e-14)
    assert make(reduction="batchmean")(outputs, target) == pytest.approx(each.sum() / 5, rel=1e-14)


@MEMBERS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_is_written_to_out(make, function, outputs, target, dtype):
    outputs = outputs.astype(dtype)
    out = np.full(outputs.shape, np.nan, dtype)
    value, grad = make().value_and_grad(outputs, target, out=out)
    assert grad is out
    assert value == make()(outputs, target)
    np.testing.assert_array_equal(out, make().value_and_grad(outputs, target)[1])


def test_out_of_another_shape_or_dtype_is_refused():
    with pytest.raises(ValueError, match=r"out must be \(5, 3\) of float64, got \(5, 2\) of float64"):
        mn.CrossEntropyLoss().value_and_grad(Z, LABELS, out=np.empty((5, 2)))
    with pytest.raises(ValueError, match=r"out must be \(5, 3\) of float64, got \(5, 3\) of float32"):
        mn.MSELoss().value_and_grad(Z, P, out=np.empty((5, 3), np.float32))


def test_accuracy_has_a_meaning_for_losses_on_logits_of_classes_alone():
    classifying = {make.__name__ for make, *_ in CASES.values() if hasattr(make, "accuracy")}
    assert classifying == {"CrossEntropyLoss", "GeneralizedCrossEntropyLoss", "HingeLoss", "BCEWithLogitsLoss"}


# ---- names ----


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cross_entropy", mn.CrossEntropyLoss),
        ("bce", mn.BCEWithLogitsLoss),
        ("mse", mn.MSELoss),
        ("l1", mn.L1Loss),
        ("generalized_cross_entropy", mn.GeneralizedCrossEntropyLoss),
        ("hinge", mn.HingeLoss),
        ("huber", mn.HuberLoss),
        ("poisson", mn.PoissonNLLLoss),
        ("gaussian", mn.GaussianNLLLoss),
        ("kl_div", mn.KLDivLoss),
        ("brier", mn.BrierLoss),
    ],
)
def test_a_name_gives_a_loss_with_the_mean(name, kind):
    loss = get_loss("fit", name)
    assert type(loss) is kind
    assert loss.reduction == "mean"


def test_an_object_is_taken_as_it_is():
    loss = mn.MSELoss(reduction="sum")
    assert get_loss("fit", loss) is loss


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crossentropy", r"got 'crossentropy' \(did you mean 'cross_entropy'\?\)"),
        ("bse", r"got 'bse' \(did you mean '(bce|mse)'\?\)"),
        ("hinge-of-doom", "got 'hinge-of-doom'$"),
        ("", "got ''$"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, message):
    with pytest.raises(ValueError, match=f"^owner: loss must be one of 'cross_entropy', 'bce', 'mse', .*{message}"):
        get_loss("owner", name)


@pytest.mark.parametrize("loss", [mn.MSELoss, None, 3, F.mse_loss, [mn.MSELoss()]], ids=repr)
def test_what_is_no_loss_object_is_refused(loss):
    with pytest.raises(TypeError, match=r"^owner: loss must be a name or an object such as CrossEntropyLoss\(\), got "):
        get_loss("owner", loss)


@pytest.mark.parametrize("kind", sorted({case[0] for case in CASES.values()}, key=lambda kind: kind.__name__))
def test_an_unknown_reduction_is_refused_by_the_name_of_the_loss(kind):
    expected = rf"^{kind.__name__}: reduction must be one of 'mean', .*, got 'means' \(did you mean 'mean'\?\)"
    with pytest.raises(ValueError, match=expected):
        kind(reduction="means")
    with pytest.raises(TypeError, match=rf"^{kind.__name__}: reduction must be one of 'mean', .*, got 3$"):
        kind(reduction=3)


def test_a_reduction_that_is_an_array_is_refused_too():
    with pytest.raises(TypeError, match=r"^MSELoss: reduction must be one of 'mean', .*, got array"):
        mn.MSELoss(reduction=np.array(["mean", "sum"]))


def test_repr_reads_as_the_call_that_made_the_loss():
    assert repr(mn.CrossEntropyLoss()) == "CrossEntropyLoss(reduction='mean')"
    assert repr(mn.MSELoss(reduction="sum")) == "MSELoss(reduction='sum')"


# ---- softmax applied twice ----

PROBABILITIES = {
    "softmax": (mn.CrossEntropyLoss, F.softmax(Z), LABELS, "rows that sum to 1"),
    "softmax, float32": (mn.FocalLoss, F.softmax(Z.astype(np.float32)), LABELS, "rows that sum to 1"),
    "sigmoid": (mn.BCEWithLogitsLoss, F.sigmoid(Z), P, r"outputs that are all in \[0, 1\]"),
}


@pytest.mark.parametrize(("make", "outputs", "target", "looks"), PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_refused_as_logits_if_that_is_asked_for(make, outputs, target, looks):
    assert make()(outputs, target) > 0
    loss = make(check_logits=True)
    for call in (loss, loss.value_and_grad):
        with pytest.raises(ValueError, match=rf"^{make.__name__}: outputs must be logits, got {looks} \(give the loss"):
            call(outputs, target)


@pytest.mark.parametrize("make", [mn.CrossEntropyLoss, mn.FocalLoss], ids=lambda make: make.__name__)
def test_logits_pass_the_check(make):
    for outputs in (Z, F.log_softmax(Z), np.zeros((5, 3)), np.full((5, 3), 1.0), F.softmax(Z) + 0.01):
        assert make(check_logits=True)(outputs, LABELS) == make()(outputs, LABELS)
    assert mn.CrossEntropyLoss(check_logits=True)(np.ones((2, 1)), [0, 0]) == 0
    assert mn.BCEWithLogitsLoss(check_logits=True)(Z, P) == mn.BCEWithLogitsLoss()(Z, P)


@pytest.mark.parametrize("loss", [mn.CrossEntropyLoss, mn.FocalLoss, mn.NLLLoss, partial(mn.LinearCrossEntropy, 2, 3)])
@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 4.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_divisor_is_what_a_mean_divides_by(loss, weight, ignored, rng):
    target, outputs = np.array([0, 1, 1, 2, 2, 2]), rng.standard_normal((6, 3))
    outputs = np.log(np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True))
    mean, total = (
        loss(weight=weight, ignore_index=ignored, reduction=reduction)(outputs, target) for reduction in ("mean", "sum")
    )
    largest = max(weight) if weight and max(weight) else 1
    divisor = loss(weight=weight, ignore_index=ignored).divisor(target)
    assert mean * divisor * largest == pytest.approx(total, rel=1e-14)


def test_probabilities_count_as_rows_and_bools_as_labels():
    assert mn.CrossEntropyLoss(weight=[1.0, 5.0]).divisor(np.eye(2)[[0, 1, 1]]) == 3
    assert mn.CrossEntropyLoss(weight=[1.0, 5.0]).divisor(np.array([False, True, True])) == pytest.approx(2.2)
    assert mn.MSELoss().divisor(np.zeros((4, 2))) == 4
