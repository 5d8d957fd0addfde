"""Bad input to functional: every public function refuses what it cannot compute, with a ValueError or TypeError that
names the function, the rule and the offending value (and its row), before it writes anything."""

import re

import numpy as np
import pytest

from minnet import functional as F

ONE_ARGUMENT = ["sigmoid", "tanh", "softplus", "log_sigmoid", "relu", "softmax", "log_softmax", "logsumexp"]
BINARY = ["binary_cross_entropy_with_logits", "binary_cross_entropy"]
ELEMENTWISE = [*BINARY, "mse_loss", "l1_loss", "huber_loss", "poisson_nll_loss"]
LOSSES = ["cross_entropy", *ELEMENTWISE]
FIRST = dict.fromkeys(ONE_ARGUMENT, "x") | {
    "cross_entropy": "logits",
    "binary_cross_entropy_with_logits": "logits",
    "binary_cross_entropy": "probs",
    "mse_loss": "prediction",
    "l1_loss": "prediction",
    "huber_loss": "prediction",
    "poisson_nll_loss": "log_rate",
}

X = np.full((4, 3), 0.5)
GOOD = {name: [0, 1, 2, 0] if name == "cross_entropy" else np.full((4, 3), 0.25) for name in LOSSES}

by_loss = pytest.mark.parametrize("name", LOSSES)


def refuses(error, owner, rule, got, *args, **options):
    """`owner` called with `args` raises `error` with the message `owner: rule, got value`; those are regexes."""
    with pytest.raises(error, match=rf"(?s)^{owner}: {rule}, got {got}"):
        getattr(F, owner)(*args, **options)


def loss_refuses(error, owner, rule, got, **options):
    """The same for a loss whose arguments are right but for `options`; nothing is written to `out`."""
    out = np.full((4, 3), 7.0)
    refuses(error, owner, rule, got, X, GOOD[owner], return_grad=True, out=out, **options)
    np.testing.assert_array_equal(out, np.full((4, 3), 7.0))


def changed(row, value, column=1):
    """Targets of 0.25 with one other value."""
    t = np.full((4, 3), 0.25)
    t[row, column] = value
    return t


class Sparse:
    """Looks like a scipy.sparse matrix to numpy: an object."""

    def toarray(self):
        raise AssertionError("minnet must not densify by itself")


# ---- what holds no real numbers ----

NOT_REAL = {
    "ragged list": ([[1.0, 2.0], [3.0]], ValueError, "must be a rectangular array", "list: .*inhomogeneous"),
    "None": (None, TypeError, "must hold real numbers", "None"),
    "complex": (np.ones((4, 3), np.complex64), TypeError, "must hold real numbers", "dtype complex64"),
    "complex number": (1j, TypeError, "must hold real numbers", "dtype complex128"),
    "strings": (["a", "b"], TypeError, "must hold real numbers", "dtype <U1"),
    "bytes": (b"ab", TypeError, "must hold real numbers", r"dtype \|S2"),
    "object array": (np.array([[1, None]]), TypeError, "must hold real numbers", "dtype object"),
    "objects in a list": ([1, object()], TypeError, "must hold real numbers", "dtype object"),
    "dictionary": ({"a": 1}, TypeError, "must hold real numbers", r"\{'a': 1\}"),
    "integer of 70 bits": ([2**70], TypeError, "must hold real numbers", "dtype object"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), TypeError, "must hold real numbers", r"dtype datetime64\[D\]"),
    "records": (np.zeros(4, [("a", "f8")]), TypeError, "must hold real numbers", "dtype .*'a'"),
    "sparse matrix": (Sparse(), TypeError, "must hold real numbers", r"<.*> \(a sparse matrix needs .toarray\(\)\)"),
}
by_fault = pytest.mark.parametrize("fault", list(NOT_REAL))


@by_fault
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_argument_without_real_numbers_is_refused(name, fault):
    x, error, rule, got = NOT_REAL[fault]
    refuses(error, name, f"x {rule}", got, x)


@by_fault
@by_loss
def test_first_argument_without_real_numbers_is_refused(name, fault):
    x, error, rule, got = NOT_REAL[fault]
    refuses(error, name, f"{FIRST[name]} {rule}", got, x, GOOD[name])


@by_fault
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_target_without_real_numbers_is_refused(name, fault):
    t, error, rule, got = NOT_REAL[fault]
    refuses(error, name, f"target {rule}", got, X, t)


@by_fault
@by_loss
def test_weights_without_real_numbers_are_refused(name, fault):
    weight, error, rule, got = NOT_REAL[fault]
    if weight is not None:
        loss_refuses(error, name, f"sample_weight {rule}", got, sample_weight=weight)


# ---- labels ----

RANGE = r"labels must be in 0 \.\.\. 2"
SHAPE = r"labels must have shape \(4,\), one a row"
NOT_LABELS = {
    "ragged list": ([[0], [1, 2]], ValueError, "target must be a rectangular array", "list: .*inhomogeneous"),
    "None": (None, TypeError, "labels must be integers", "None"),
    "complex": ([0j, 1, 2, 0], TypeError, "labels must be integers", "dtype complex128"),
    "strings": (["a", "b", "c", "a"], TypeError, "labels must be integers", r"dtype <U1 \(.*np.unique\(y"),
    "objects": (np.array([0, 1, 2, None]), TypeError, "labels must be integers", r"dtype object \(.*np.unique\(y"),
    "whole floats": ([0.0, 1, 2, 0], TypeError, "labels must be integers", r"dtype float64 \(y.astype\(np.int64\)\)"),
    "whole float16": (np.ones(4, "f2"), TypeError, "labels must be integers", r"dtype float16 \(y.astype\(np.int"),
    "fraction": ([0.0, 1, 1.5, 0], ValueError, "labels must be whole numbers", "1.5 in row 2"),
    "NaN": ([0.0, np.nan, 2, 0], ValueError, "labels must be whole numbers", "nan in row 1"),
    "infinity": ([0.0, 1, 2, -np.inf], ValueError, "labels must be whole numbers", "-inf in row 3"),
    "label = C": ([0, 1, 3, 0], ValueError, RANGE, "3 in row 2"),
    "label = -1": ([-1, 1, 2, 0], ValueError, RANGE, "-1 in row 0"),
    "label = -101": ([0, 1, 2, -101], ValueError, RANGE, "-101 in row 3"),
    "huge uint64": (np.array([0, 2**64 - 1, 2, 0], np.uint64), ValueError, RANGE, f"{2**64 - 1} in row 1"),
    "huge int64": ([0, 1, 2**63 - 1, 0], ValueError, RANGE, f"{2**63 - 1} in row 2"),
    "int8": (np.array([0, 1, 2, -128], np.int8), ValueError, RANGE, "-128 in row 3"),
    "too few": ([0, 1, 2], ValueError, SHAPE, r"\(3,\)"),
    "too many": ([0, 1, 2, 0, 1], ValueError, SHAPE, r"\(5,\)"),
    "one for four rows": (1, ValueError, SHAPE, r"\(\)"),
    "none at all": (np.empty(0, int), ValueError, SHAPE, r"\(0,\)"),
}


@pytest.mark.parametrize("fault", list(NOT_LABELS))
def test_bad_labels_are_refused_before_anything_is_written(fault):
    target, error, rule, got = NOT_LABELS[fault]
    out = np.full((4, 3), 7.0)
    refuses(error, "cross_entropy", rule, got, X, target, return_grad=True, out=out)
    np.testing.assert_array_equal(out, np.full((4, 3), 7.0))


def test_first_of_many_bad_labels_is_named():
    refuses(ValueError, "cross_entropy", RANGE, "9 in row 1$", X, [0, 9, -1, 3])


def test_labels_are_checked_in_batches_of_any_length():
    for row in (0, 255, 256, 999):
        y = np.zeros(1000, np.int64)
        y[row] = 2
        refuses(ValueError, "cross_entropy", r"labels must be in 0 .* 1", f"2 in row {row}$", np.zeros((1000, 2)), y)


def test_true_is_no_label_of_one_class():
    x, y = np.zeros((2, 1)), [False, True]
    refuses(ValueError, "cross_entropy", r"labels must be in 0 \.\.\. 0", "True in row 1$", x, y)


@pytest.mark.parametrize("label", [3, -1])
def test_bad_label_of_one_sample_is_refused(label):
    refuses(ValueError, "cross_entropy", RANGE, f"{label} in row 0$", np.zeros(3), label)


def test_no_label_fits_no_classes():
    refuses(ValueError, "cross_entropy", r"labels must be in 0 \.\.\. -1", "0 in row 0", np.zeros((1, 0)), [0])


def test_column_of_labels_is_refused_for_its_shape():
    refuses(ValueError, "cross_entropy", r"target must have shape \(4,\) .*", r"\(4, 1\)", X, [[0], [2], [1], [0]])


# ---- probabilities ----

OUTSIDE = [(-0.1, r"-0\.1"), (1.1, r"1\.1"), (np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (-1e-300, "-1e-300")]
by_outside = pytest.mark.parametrize(("value", "shown"), OUTSIDE, ids=[shown for _, shown in OUTSIDE])


@by_outside
@pytest.mark.parametrize("row", [0, 2])
def test_class_probability_outside_0_and_1_is_refused(row, value, shown):
    rule = r"target probabilities must be in \[0, 1\]"
    refuses(ValueError, "cross_entropy", rule, f"{shown} in row {row}$", X, changed(row, value))


@by_outside
@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("name", BINARY)
def test_binary_target_outside_0_and_1_is_refused(name, row, value, shown):
    refuses(ValueError, name, r"target must be in \[0, 1\]", f"{shown} in row {row}$", X, changed(row, value))


@by_outside
@pytest.mark.parametrize("row", [0, 2])
def test_probability_outside_0_and_1_is_refused(row, value, shown):
    rule = r"probs must be in \[0, 1\]"
    refuses(ValueError, "binary_cross_entropy", rule, f"{shown} in row {row}$", changed(row, value), X)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("value", [1e300, -1e300, 1e39])
def test_target_beyond_float32_is_refused_like_any_other(name, value):
    x = np.array([0.5, 0.5], np.float32)
    refuses(ValueError, name, r"target must be in \[0, 1\]", r".* in row 1$", x, [0.5, value])


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("value", [1 + 1e-10, -1e-60])
def test_target_that_float32_would_round_into_range_is_refused(name, value):
    x = np.array([0.5, 0.5], np.float32)
    refuses(ValueError, name, r"target must be in \[0, 1\]", re.escape(f"{value} in row 1"), x, [0.5, value])


@pytest.mark.parametrize("name", BINARY)
def test_bad_target_of_one_number_is_refused(name):
    refuses(ValueError, name, r"target must be in \[0, 1\]", "2.0 in row 0$", 0.5, 2)


def test_bad_class_probability_of_one_sample_is_refused():
    rule = r"target probabilities must be in \[0, 1\]"
    refuses(ValueError, "cross_entropy", rule, "-1.0 in row 0$", np.zeros(3), [0, 2, -1][::-1])


@pytest.mark.parametrize("row", [0, 85, 300, 999])
def test_row_of_a_bad_target_in_a_long_batch_is_named(row):
    t = np.zeros((1000, 3))
    t[row, 2] = -2
    for name in BINARY:
        refuses(ValueError, name, r"target must be in \[0, 1\]", rf"-2\.0 in row {row}$", np.full((1000, 3), 0.5), t)


# ---- shapes ----


@pytest.mark.parametrize("shape", [(), (2, 4, 3), (1, 1, 1, 3)], ids=str)
def test_logits_of_other_than_one_or_two_axes_are_refused(shape):
    got = re.escape(str(shape))
    refuses(ValueError, "cross_entropy", r"logits must have shape \(N, C\)", got, np.zeros(shape), [0, 1, 2, 0])


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (4, 4), (4, 1), (1, 3), (4, 3, 1), (0, 3)], ids=str)
def test_class_probabilities_of_another_shape_are_refused(shape):
    rule, got = r"target must have shape \(4,\) of labels or \(4, 3\) of probabilities", re.escape(str(shape))
    refuses(ValueError, "cross_entropy", rule, got, X, np.full(shape, 0.25))


MISMATCHES = [((4, 3), (4,)), ((4, 3), (3,)), ((4, 3), (4, 1)), ((4, 3), (3, 4)), ((4, 3), ()), ((4, 3), (1, 3))]
MISMATCHES += [((4,), (4, 1)), ((4,), (1,)), ((4,), (3,)), ((4, 1), (1,)), ((4, 1), (1, 4)), ((1,), ()), ((), (1,))]
MISMATCHES += [((0, 3), (0,)), ((4, 3), (4, 3, 1)), ((1, 1), ())]


@pytest.mark.parametrize(("shape", "target"), MISMATCHES, ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_target_of_another_shape_is_never_broadcast(name, shape, target):
    rule = rf"target must have the shape of {FIRST[name]}, {re.escape(str(shape))}"
    refuses(ValueError, name, rule, re.escape(str(target)), np.full(shape, 0.5), np.full(target, 0.5))


# ---- weights, reductions, axes ----

BAD_WEIGHTS = {
    "negative": ([1, -0.5, 1, 1], ValueError, "sample_weight must be finite and not negative", r"-0\.5 in row 1$"),
    "NaN": ([1, 1, 1, np.nan], ValueError, "sample_weight must be finite and not negative", "nan in row 3$"),
    "infinite": ([np.inf, 1, 1, 1], ValueError, "sample_weight must be finite and not negative", "inf in row 0$"),
    "too short": ([1, 1, 1], ValueError, r"sample_weight must have shape \(4,\), one a row", r"\(3,\)$"),
    "too long": (np.ones(5), ValueError, r"sample_weight must have shape \(4,\), one a row", r"\(5,\)$"),
    "a number": (2.0, ValueError, r"sample_weight must have shape \(4,\), one a row", r"\(\)$"),
    "a column": (np.ones((4, 1)), ValueError, r"sample_weight must have shape \(4,\), one a row", r"\(4, 1\)$"),
    "one an element": (np.ones((4, 3)), ValueError, r"sample_weight must have shape \(4,\), one a row", r"\(4, 3\)$"),
    "empty": ([], ValueError, r"sample_weight must have shape \(4,\), one a row", r"\(0,\)$"),
}


@pytest.mark.parametrize("fault", list(BAD_WEIGHTS))
@by_loss
def test_bad_weights_are_refused(name, fault):
    weight, error, rule, got = BAD_WEIGHTS[fault]
    loss_refuses(error, name, rule, got, sample_weight=weight)


@pytest.mark.parametrize("fault", ["negative", "NaN", "infinite"])
@by_loss
def test_bad_float32_weights_are_refused(name, fault):
    weight, error, rule, got = BAD_WEIGHTS[fault]
    refuses(error, name, rule, got, X.astype(np.float32), GOOD[name], sample_weight=np.array(weight, np.float32))


@by_loss
def test_weight_that_float32_cannot_hold_counts_as_it_is(name):
    # weights in float64 stay so, whatever the dtype of the losses is; beside 1e300 the other rows vanish
    x, target = X.astype(np.float32), np.asarray(GOOD[name])
    function = getattr(F, name)
    heavy = function(x, target, sample_weight=[1, 1, 1e300, 1])
    assert heavy == pytest.approx(function(x[2:3], target[2:3]), rel=1e-6)


NAMES = "'mean', 'sum', 'none', 'batchmean'"
BAD_REDUCTIONS = {
    "typing error": ("men", ValueError, r"'men' \(did you mean 'mean'\?\)$"),
    "capitals": ("Sum", ValueError, r"'Sum' \(did you mean 'sum'\?\)$"),
    "batch_mean": ("batch_mean", ValueError, r"'batch_mean' \(did you mean 'batchmean'\?\)$"),
    "unlike all": ("xyzzy", ValueError, r"'xyzzy'$"),
    "empty": ("", ValueError, r"''$"),
    "None": (None, TypeError, r"None \(did you mean 'none'\?\)$"),
    "number": (1, TypeError, "1$"),
    "list": (["mean"], TypeError, r"\['mean'\]"),
    "function": (np.mean, TypeError, "<function"),
}


@pytest.mark.parametrize("fault", list(BAD_REDUCTIONS))
@by_loss
def test_unknown_reduction_is_refused_with_the_nearest_name(name, fault):
    reduction, error, got = BAD_REDUCTIONS[fault]
    loss_refuses(error, name, f"reduction must be one of {NAMES}", got, reduction=reduction)


BAD_AXES = {
    "too high": (2, ValueError, "axis must be one of the 2 axes of x", "2$"),
    "far too high": (2**70, ValueError, "axis must be one of the 2 axes of x", "1180591620717411303424$"),
    "too low": (-3, ValueError, "axis must be .*", "-3$"),
    "float": (1.0, TypeError, "axis must be an integer", "1.0$"),
    "None": (None, TypeError, "axis must be an integer", "None$"),
    "bool": (True, TypeError, "axis must be an integer", "True$"),
    "string": ("0", TypeError, "axis must be an integer", "'0'$"),
    "two axes": ((0, 1), TypeError, "axis must be an integer", r"\(0, 1\)$"),
    "array": (np.array([0]), TypeError, "axis must be an integer", r"array\(\[0\]\)$"),
}


@pytest.mark.parametrize("fault", list(BAD_AXES))
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_bad_axis_is_refused(name, fault):
    axis, error, rule, got = BAD_AXES[fault]
    refuses(error, name, rule, got, X, axis=axis)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_one_number_has_no_axis(name):
    refuses(ValueError, name, "axis must be .*", "-1$", 3.0)


# ---- what is not an error ----


def test_what_stands_beside_these_faults_is_taken():
    assert F.cross_entropy(X, [0, 1, 2, 2]) == pytest.approx(np.log(3))
    assert F.cross_entropy(X, changed(2, 1.0), sample_weight=[1, 0, 1, 1]) > 0
    assert F.binary_cross_entropy(changed(2, 1.0), changed(2, 1.0)) > 0
    assert F.binary_cross_entropy_with_logits(changed(2, -7.0), changed(2, 0.0)) > 0
    assert F.mse_loss(changed(2, -7.0), changed(2, 1.5)) > 0
    assert F.softmax(X, axis=-2)[0, 0] == 0.25


def test_nan_logits_are_computed_not_refused():
    x = np.full((4, 3), np.nan)
    for name in ("cross_entropy", "binary_cross_entropy_with_logits", "mse_loss"):
        assert np.isnan(getattr(F, name)(x, GOOD[name]))


def test_options_are_keywords_only():
    for name in LOSSES:
        with pytest.raises(TypeError, match="positional"):
            getattr(F, name)(X, GOOD[name], None)
    with pytest.raises(TypeError, match="positional"):
        F.softmax(X, -1)
