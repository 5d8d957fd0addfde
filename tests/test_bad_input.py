"""Bad input to fit and evaluate: a clear error that names owner, rule and value, before anything has changed."""

import numpy as np
import pytest

import minnet as mn

N = 8
V, T = ValueError, TypeError  # for the tables
NAN, INF = float("nan"), float("inf")


def data():
    return np.random.default_rng(0).standard_normal((N, 3)), np.arange(N) % 2


def labels(row, value, dtype="int64"):
    """Good labels but for one row."""
    y = data()[1].astype(dtype)
    y[row] = value
    return y


def arguments(**changes):
    X, y = data()
    good = {"X": X, "y": y, "loss": "cross_entropy", "optimizer": mn.SGD(0.1), "epochs": 1, "batch_size": N, "seed": 0}
    return good | changes


def refused(changes, error, message):
    """Check that fit with these changes is refused by `message` and leaves the net as it was."""
    net = mn.MLP([3, 4, 2], seed=0)
    before = net.params.copy()
    with pytest.raises(error, match=message):
        mn.fit(changes.pop("net", net), **arguments(**changes))
    np.testing.assert_array_equal(net.params, before)


FIT = {
    # data
    "X of one axis": ({"X": np.ones(N)}, V, r"fit: X must have shape \(N, I\), got \(8,\) \(one feature"),
    "X a number": ({"X": 3.0}, V, r"fit: X must have shape \(N, I\), got \(\)"),
    "X of other columns": ({"X": np.ones((N, 2))}, V, r"Linear: x must have shape \(N, 3\), got \(\d, 2\)"),
    "X of three axes": ({"X": np.ones((N, 3, 1))}, V, r"Linear: x must have shape \(N, 3\), got \(\d, 3, 1\)"),
    "X ragged": ({"X": [[1, 2, 3], [4, 5]]}, V, "fit: X must be a rectangular array, got list"),
    "X None": ({"X": None}, T, "fit: X must hold real numbers, got None"),
    "X with None": ({"X": [[None] * 3] * N}, T, "fit: X must hold real numbers, got dtype object"),
    "X complex": ({"X": np.ones((N, 3), complex)}, T, "fit: X must hold real numbers, got dtype complex128"),
    "X of strings": ({"X": [["a", "b", "c"]] * N}, T, "fit: X must hold real numbers, got dtype <U1"),
    "X empty": ({"X": np.ones((0, 3)), "y": []}, V, r"fit: X must have at least one row, got \(0, 3\)"),
    "y shorter": ({"y": [0, 1, 0]}, V, r"fit: y must have as many rows as X, 8, got \(3,\)"),
    "y longer": ({"y": np.zeros(9, int)}, V, r"fit: y must have as many rows as X, 8, got \(9,\)"),
    "y None": ({"y": None}, V, r"fit: y must have as many rows as X, 8, got \(\)"),
    "y ragged": ({"y": [[0], [1, 0]]}, V, "fit: y must be a rectangular array, got list"),
    # targets, found by the loss
    "label too large": ({"y": labels(5, 2)}, V, r"cross_entropy: labels must be in 0 ... 1, got 2 in row \d"),
    "label negative": ({"y": labels(5, -1)}, V, r"cross_entropy: labels must be in 0 ... 1, got -1 in row \d"),
    "label nan": ({"y": labels(5, NAN, "f")}, V, r"cross_entropy: labels must be whole.*, got nan in row \d"),
    "label a fraction": ({"y": labels(5, 0.5, "f")}, V, r"cross_entropy: labels must be whole.*, got 0.5 in"),
    "labels float": ({"y": data()[1].astype("f")}, T, r"cross_entropy: labels must be integers, .* \(y.astype"),
    "labels strings": ({"y": ["a"] * N}, T, r"cross_entropy: labels must be integers, .*\(number the"),
    "labels a column": ({"y": data()[1][:, None]}, V, r"cross_entropy: target must have shape \(8,\) of la"),
    "probability": ({"y": np.full((N, 2), 1.5)}, V, r"cross_entropy: .* must be in \[0, 1\], got 1.5 in row 0"),
    "mse of other columns": ({"loss": "mse", "y": np.ones((N, 3))}, V, r"mse_loss: .* \(8, 2\), got \(8, 3\)"),
    "mse would broadcast": ({"loss": "mse"}, V, r"mse_loss: target must .*\(8, 2\), got \(8,\)"),
    "bce outside": ({"loss": "bce", "y": np.full((N, 2), -1)}, V, r"binary_.*: target must .*, got -1"),
    # numbers
    "batch_size 0": ({"batch_size": 0}, V, "fit: batch_size must be at least 1, got 0"),
    "batch_size negative": ({"batch_size": -4}, V, "fit: batch_size must be at least 1, got -4"),
    "batch_size float": ({"batch_size": 4.0}, T, "fit: batch_size must be an integer, got 4.0"),
    "batch_size bool": ({"batch_size": True}, T, "fit: batch_size must be an integer, got True"),
    "batch_size None": ({"batch_size": None}, T, "fit: batch_size must be an integer, got None"),
    "epochs negative": ({"epochs": -1}, V, "fit: epochs must be at least 0, got -1"),
    "epochs float": ({"epochs": 1.5}, T, "fit: epochs must be an integer, got 1.5"),
    "seed negative": ({"seed": -1}, T, r"fit: seed must be None, an integer >= 0 or .*, got -1"),
    "seed string": ({"seed": "0"}, T, r"fit: seed must be None, an integer >= 0 or .*, got '0'"),
    "seed float": ({"seed": 0.5}, T, r"fit: seed must be None, an integer >= 0 or .*, got 0.5"),
    # objects
    "loss unknown": ({"loss": "crossentropy"}, V, r"fit: loss must be one of .*\(did you mean 'cross_entropy'\?\)"),
    "loss class": ({"loss": mn.MSELoss}, T, r"fit: loss must be a name or an object such as .*, got <class"),
    "loss None": ({"loss": None}, T, r"fit: loss must be a name or an object such as .*, got None"),
    "loss none-reduced": ({"loss": mn.MSELoss(reduction="none")}, V, r"fit: loss must reduce to one .*, got MSELoss"),
    "optimizer name": ({"optimizer": "sgd"}, T, r"fit: optimizer must be an object such as .*, got 'sgd'"),
    "optimizer class": ({"optimizer": mn.SGD}, T, r"fit: optimizer must be an object such as .*, got <class"),
    "optimizer None": ({"optimizer": None}, T, r"fit: optimizer must be an object such as .*, got None"),
    "net None": ({"net": None}, T, r"fit: net must be a model such as MLP\(\[64, 30, 10\]\), got None"),
    "net a list": ({"net": [mn.Linear(3, 2)]}, T, r"fit: net must be a model such as .*, got .Linear"),
    "net class": ({"net": mn.MLP}, T, r"fit: net must be a model such as .*, got <class"),
    "on_nonfinite": ({"on_nonfinite": "stop"}, V, "fit: on_nonfinite must be one of 'raise', 'warn', 'ignore', got"),
    "callbacks None": ({"callbacks": None}, T, "fit: callbacks must be a list, got None"),
    "callbacks one": ({"callbacks": mn.EarlyStopping()}, T, "fit: callbacks must be a list, got <minnet.callb"),
    "callback class": ({"callbacks": [mn.EarlyStopping]}, T, r"fit: a callback must be an object with .*, got <class"),
    "callback without events": ({"callbacks": [3]}, T, r"fit: a callback must be an object .*, got 3"),
    "validation X alone": ({"validation_data": np.ones((N, 3))}, T, r"fit: validation_data must be a pair"),
    "validation a triple": ({"validation_data": (1, 2, 3)}, T, r"fit: validation_data must be a pair .*, got tuple"),
    "validation a number": ({"validation_data": 3}, T, r"fit: validation_data must be a pair \(X, y\), got int"),
    "validation shorter": ({"validation_data": (data()[0], [0])}, V, r"fit: validation_data's y must .*, got \(1,\)"),
    "validation empty": ({"validation_data": (np.ones((0, 3)), [])}, V, "fit: validation_data's X must have at least"),
}


@pytest.mark.parametrize(("changes", "error", "message"), FIT.values(), ids=FIT)
def test_fit_refuses(changes, error, message):
    refused(dict(changes), error, f"^{message}")


def test_the_same_arguments_without_the_fault_are_taken():
    net = mn.MLP([3, 4, 2], seed=0)
    before = net.params.copy()
    assert len(mn.fit(net, **arguments())) == 1
    assert np.any(net.params != before)


# ---- targets are looked at before the first step ----

BAD_LABELS = {
    "too large": (labels(5, 2), "got 2 in row 5"),
    "negative": (labels(5, -1), "got -1 in row 5"),
    "nan": (labels(5, NAN, "f"), "got nan in row 5"),
    "fraction": (labels(5, 0.5, "f"), "got 0.5 in row 5"),
}


@pytest.mark.parametrize(("y", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
@pytest.mark.parametrize("batch_size", [3, N])
def test_a_bad_label_is_refused_by_its_row_in_y(y, message, batch_size):
    refused({"y": y, "batch_size": batch_size}, V, f"labels must be .*{message}")


@pytest.mark.parametrize(("y", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_a_bad_label_in_a_later_batch_leaves_the_weights(y, message):
    refused({"y": y, "batch_size": 2, "shuffle": False}, V, "labels must be ")


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ((np.ones((N, 2)), data()[1]), r"must have shape \(N, 3\), got \(\d, 2\)"),
        ((data()[0], labels(5, 2)), r"labels must be in 0 ... 1, got 2 in row 5"),
    ],
    ids=["columns", "labels"],
)
def test_unfit_validation_data_is_refused_before_the_first_step(validation, message):
    refused({"validation_data": validation}, V, message)


@pytest.mark.parametrize("row", [0, 5])
@pytest.mark.parametrize("value", [2, 1000])
def test_a_probe_does_not_hide_the_message_about_labels(row, value):
    changes = {"y": labels(row, value), "callbacks": [mn.SaturationProbe()]}
    refused(changes, ValueError, rf"^cross_entropy: labels must be in 0 ... 1, got {value} in row \d")


def test_an_optimizer_of_another_model_is_refused():
    optimizer = mn.Adam()
    optimizer.step(np.ones(3, np.float32), np.ones(3, np.float32))
    refused({"optimizer": optimizer}, V, r"^Adam: params must be as at the first step, \(3,\) of float32, got")


# ---- learning rates are refused where they are made ----


@pytest.mark.parametrize("lr", [-0.1, NAN, INF, -INF])
@pytest.mark.parametrize("make", [mn.SGD, mn.Adam], ids=["SGD", "Adam"])
def test_a_learning_rate_below_0_or_not_finite_is_refused(make, lr):
    with pytest.raises(ValueError, match=f"^{make.__name__}: lr must be a finite number >= 0, got {lr}$"):
        make(lr=lr)


# ---- evaluate ----

EVALUATE = {
    "X of one axis": ({"X": np.ones(N)}, V, r"evaluate: X must have shape \(N, I\), got \(8,\)"),
    "X of other columns": ({"X": np.ones((N, 2))}, V, r"Linear: x must have shape \(N, 3\), got \(\d, 2\)"),
    "X None": ({"X": None}, T, "evaluate: X must hold real numbers, got None"),
    "X empty": ({"X": np.ones((0, 3)), "y": []}, V, "evaluate: X must have at least one row"),
    "y shorter": ({"y": [0, 1]}, V, r"evaluate: y must have as many rows as X, 8, got \(2,\)"),
    "y None": ({"y": None}, V, r"evaluate: y must have as many rows as X, 8, got \(\)"),
    "label too large": ({"y": labels(5, 2)}, V, r"cross_entropy: labels must be in .*, got 2 in row 5"),
    "label in a later batch": (
        {"y": labels(5, 2), "batch_size": 4},
        V,
        r"cross_entropy: labels must be in .*, got 2 in row 5",
    ),
    "batch_size 0": ({"batch_size": 0}, V, "evaluate: batch_size must be at least 1, got 0"),
    "batch_size float": ({"batch_size": 1.0}, T, "evaluate: batch_size must be an integer, got 1.0"),
    "loss unknown": ({"loss": "perceptron"}, V, r"evaluate: loss must be one of 'cross_entropy', .*, got 'perceptron'"),
    "loss class": ({"loss": mn.MSELoss}, T, "evaluate: loss must be a name or an object such as"),
    "loss none-reduced": ({"loss": mn.MSELoss(reduction="none")}, V, "evaluate: loss must reduce to one number"),
    "net None": ({"net": None}, T, r"evaluate: net must be a model such as .*, got None"),
}


@pytest.mark.parametrize(("changes", "error", "message"), EVALUATE.values(), ids=EVALUATE)
def test_evaluate_refuses(changes, error, message):
    X, y = data()
    with pytest.raises(error, match=f"^{message}"):
        mn.evaluate(**({"net": mn.MLP([3, 4, 2], seed=0), "X": X, "y": y} | changes))


# ---- odd but right input is taken ----

ODD = {
    "lists": lambda X, y: (X.tolist(), y.tolist()),
    "float32": lambda X, y: (X.astype("float32"), y.astype("uint8")),
    "fortran": lambda X, y: (np.asfortranarray(X), y),
    "strided": lambda X, y: (np.repeat(X, 2, axis=1)[:, ::2], np.repeat(y, 2)[::2]),
    "big-endian": lambda X, y: (X.astype(">f8"), y.astype(">i4")),
    "bool labels": lambda X, y: (X, y.astype(bool)),
    "one-hot": lambda X, y: (X, np.eye(2)[y]),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_but_right_data_trains_as_plain_data_does(change):
    nets = [mn.MLP([3, 4, 2], dtype="float32", seed=0) for _ in range(2)]
    X, y = data()
    mn.fit(nets[0], **arguments(epochs=3))
    X, y = change(X, y)
    mn.fit(nets[1], **arguments(epochs=3, X=X, y=y))
    np.testing.assert_allclose(nets[1].params, nets[0].params, rtol=1e-5, atol=1e-7)


def test_read_only_data_trains():
    X, y = data()
    X.flags.writeable = y.flags.writeable = False
    assert len(mn.fit(mn.MLP([3, 4, 2]), **arguments(X=X, y=y))) == 1
