"""Compiled steps: equal to the layers to rounding in every combination, and taken where nobody can tell."""

import itertools
import signal
import threading
import time

import numpy as np
import pytest

import minnet as mn
from minnet import _epoch
from minnet._plain import PlainSteps, plain_steps

ACTIVATIONS = {"sigmoid": mn.Sigmoid, "tanh": mn.Tanh, "relu": mn.ReLU}
OPTIMIZERS = {
    "sgd": lambda: mn.SGD(0.1),
    "sgd decay": lambda: mn.SGD(0.1, weight_decay=0.1),
    "momentum": lambda: mn.SGD(0.05, momentum=0.9),
    "nesterov": lambda: mn.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: mn.Adam(0.01, betas=(0.8, 0.95), eps=1e-3),
    "adam decay": lambda: mn.Adam(0.01, eps=1e-3, weight_decay=0.1),
    "adamw": lambda: mn.AdamW(0.01, eps=1e-3, weight_decay=0.1),
}
LOSSES = ("labels", "probabilities", "bce", "mse")
EPS = {"float32": 2**-23, "float64": 2**-52}


class Look:
    """Someone at the side of every batch."""

    def __init__(self):
        self.grads, self.batches = [], []

    def on_batch_end(self, run):
        self.grads.append(run.net.grads.copy())
        self.batches.append(run.batch)


class Layers(mn.Sequential):
    """Not plain, for its type: trained layer by layer."""


def stack(kind, sizes, activation, dtype, last=False):
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [mn.Linear(inputs, outputs, dtype=dtype), ACTIVATIONS[activation]()]
    return kind(layers if last else layers[:-1], seed=1)


def data(loss, inputs, outputs, rows=23):
    """Samples and targets, and the loss's name."""
    rng = np.random.default_rng(0)
    X, chances = rng.standard_normal((rows, inputs)), rng.random((rows, outputs))
    targets = {
        "labels": rng.integers(0, outputs, rows),
        "probabilities": chances / chances.sum(axis=1, keepdims=True),
        "bce": chances.round(),
        "mse": chances,
    }
    return X, targets[loss], {"labels": "cross_entropy", "probabilities": "cross_entropy"}.get(loss, loss)


def both(
    loss="labels", optimizer="sgd", *, sizes=(5, 8, 3), activation="sigmoid", dtype="float64", last=False, **options
):
    """The same run compiled and layer by layer: net, history and optimizer of each."""
    X, y, name = data(loss, sizes[0], sizes[-1])
    options = {"epochs": 3, "batch_size": 5, "seed": 2} | options
    runs = []
    for kind in (mn.Sequential, Layers):
        net, own = stack(kind, sizes, activation, dtype, last), OPTIMIZERS[optimizer]()
        runs.append((net, mn.fit(net, X, y, loss=name, optimizer=own, **options), own))
    assert [history.path for _, history, _ in runs] == ["epoch", "layers"]
    return runs


def assert_equal_to_rounding(runs, dtype, tolerance=200):
    (net, history, optimizer), (twin, expected, own) = runs
    limit = {"rtol": tolerance * EPS[dtype], "atol": tolerance * EPS[dtype]}
    np.testing.assert_allclose(net.params, twin.params, **limit)
    np.testing.assert_allclose(net.grads, twin.grads, **limit)
    np.testing.assert_allclose(history["loss"], expected["loss"], **limit)
    assert (optimizer.steps, optimizer.epochs, list(optimizer.state)) == (own.steps, own.epochs, list(own.state))
    for name, vector in optimizer.state.items():
        np.testing.assert_allclose(vector, own.state[name], **limit)
    assert history.columns == expected.columns
    assert history["lr"] == expected["lr"]


# ---- the same numbers ----


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_compiled_steps_are_those_of_the_layers(activation, loss, optimizer, dtype):
    assert_equal_to_rounding(both(loss, optimizer, activation=activation, dtype=dtype), dtype)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("batch_size", [1, 2, 4, 7, 22, 23, 50])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_batches_of_any_size_are_those_of_the_layers(batch_size, optimizer, dtype):
    assert_equal_to_rounding(both(optimizer=optimizer, batch_size=batch_size, dtype=dtype), dtype)


SIZES = [(1, 2), (3, 2, 1), (31, 32, 33), (2, 64, 32, 5), (40, 100, 70), (300, 3, 3, 3, 3), (7, 1, 1, 2), (4, 5, 130)]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_nets_of_any_shape_are_those_of_the_layers(loss, sizes, dtype):
    runs = both(loss, "momentum", sizes=sizes, activation="tanh", dtype=dtype, batch_size=6)
    assert_equal_to_rounding(runs, dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_an_activation_may_stand_last(loss, activation):
    assert_equal_to_rounding(both(loss, activation=activation, last=True), "float64")


def test_layers_may_follow_each_other_directly():
    X, y, _ = data("labels", 5, 3)
    nets = [
        kind([mn.Linear(5, 4), mn.Linear(4, 6), mn.ReLU(), mn.Linear(6, 3)], seed=0) for kind in (mn.Sequential, Layers)
    ]
    for net in nets:
        mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.SGD(0.1), epochs=2, seed=0)
    np.testing.assert_allclose(nets[0].params, nets[1].params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "y",
    [
        np.array([1, 0] * 6, np.uint8),
        np.array([1, 0] * 6, bool),
        [1.0, 0.0] * 6,
        np.array([[1], [0]] * 6, np.float16),
    ],
    ids=["uint8", "bool", "list", "column"],
)
def test_targets_of_any_dtype_are_those_of_the_layers(y):
    losses = ["bce", "mse"] if np.ndim(y) == 2 or isinstance(y, list) else ["bce", "mse", "cross_entropy"]
    for loss in losses:
        nets = [
            stack(kind, (3, 4, 2 if loss == "cross_entropy" else 1), "relu", "float64") for kind in (mn.MLP, Layers)[1:]
        ]
        plain = stack(mn.Sequential, (3, 4, 2 if loss == "cross_entropy" else 1), "relu", "float64")
        X = np.random.default_rng(0).random((12, 3))
        for net in (plain, *nets):
            mn.fit(net, X, y, loss=loss, optimizer=mn.SGD(0.1), epochs=2, batch_size=5, seed=0)
        np.testing.assert_allclose(plain.params, nets[0].params, rtol=1e-13)


def test_an_exact_tail_stays_exact():
    """A logit gap of 40: the loss, and the gradient that carries it, are of the size of exp(-40), not 0."""
    net = mn.MLP([1, 2], dtype="float32")
    net.params[...] = [20, -20, 0, 0]
    history = mn.fit(net, [[1.0]], [0], loss="cross_entropy", optimizer=mn.SGD(0.1), epochs=1, shuffle=False)
    assert history.path == "epoch"
    assert history["loss"] == pytest.approx([np.exp(-40.0)], rel=1e-6)
    np.testing.assert_allclose(net.grads[:2], [-np.exp(-40.0), np.exp(-40.0)], rtol=1e-6)


# ---- nobody can tell ----


def test_calls_of_any_length_give_the_same_bits(monkeypatch):
    whole = both("labels", "adam")[0]
    monkeypatch.setattr("minnet._plain.CALL", 1)
    single = both("labels", "adam")[0]
    assert single[0].params.tobytes() == whole[0].params.tobytes()
    assert single[0].grads.tobytes() == whole[0].grads.tobytes()
    np.testing.assert_allclose(single[1]["loss"], whole[1]["loss"], rtol=1e-15)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_whoever_looks_at_batches_gets_the_layers_and_sees_the_gradients(optimizer):
    look, whole = Look(), both(optimizer=optimizer)[0]
    X, y, name = data("labels", 5, 3)
    net = stack(mn.Sequential, (5, 8, 3), "sigmoid", "float64")
    options = {"epochs": 3, "batch_size": 5, "seed": 2}
    history = mn.fit(net, X, y, loss=name, optimizer=OPTIMIZERS[optimizer](), callbacks=[look], **options)
    assert history.path == "layers"
    np.testing.assert_allclose(net.params, whole[0].params, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(look.grads[-1], whole[0].grads, rtol=1e-12, atol=1e-14)
    assert look.batches == [*range(5)] * 3


def test_metrics_do_not_change_the_bits():
    whole, scored = both()[0], both(metrics=[mn.metrics.accuracy])[0]
    assert scored[0].params.tobytes() == whole[0].params.tobytes()
    np.testing.assert_allclose(scored[1]["loss"], whole[1]["loss"], rtol=1e-15)


def test_a_rate_set_between_batches_holds_from_the_next_one():
    """Warming up by hand, in a callback or in the source of the batches."""
    X, y, name = data("labels", 5, 3)
    rates, nets = [0.1, 0.2, 0.4, 0.8, 1.6], [stack(mn.Sequential, (5, 8, 3), "relu", "float64") for _ in range(3)]
    own = mn.SGD(0.1)
    for start, own.lr in zip(range(0, 23, 5), rates, strict=True):
        part = X[start : start + 5], y[start : start + 5]
        mn.fit(nets[0], *part, loss=name, optimizer=own, epochs=1, batch_size=5, shuffle=False)

    class Warm:
        def on_batch_begin(self, run):
            run.optimizer.lr = rates[run.batch]

    def source():
        for start, streaming.lr in zip(range(0, 23, 5), rates, strict=True):
            yield X[start : start + 5], y[start : start + 5]

    options, streaming = {"loss": name, "epochs": 1}, mn.SGD(0.1)
    mn.fit(nets[1], X, y, optimizer=mn.SGD(0.1), batch_size=5, shuffle=False, callbacks=[Warm()], **options)
    mn.fit(nets[2], source, optimizer=streaming, **options)
    np.testing.assert_allclose(nets[1].params, nets[0].params, rtol=1e-12)
    np.testing.assert_array_equal(nets[2].params, nets[1].params)


def test_epochs_in_one_call_are_epochs_one_by_one():
    together, seen = (
        both("labels", "momentum", epochs=40)[0],
        both("labels", "momentum", epochs=40, callbacks=[mn.StopAfter(1e9)])[0],
    )
    assert together[0].params.tobytes() == seen[0].params.tobytes()
    np.testing.assert_allclose(together[1]["loss"], seen[1]["loss"], rtol=1e-14)
    assert together[1]["epoch"] == list(range(1, 41))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_epochs_of_one_call_are_calls_of_one_epoch(optimizer):
    X, y, name = data("labels", 5, 3, rows=123)
    ends = []
    for calls in ([24], [5, 19], [1] * 24):
        net, own, rng = (
            stack(mn.Sequential, (5, 8, 3), "tanh", "float64"),
            OPTIMIZERS[optimizer](),
            np.random.default_rng(7),
        )
        histories = [mn.fit(net, X, y, loss=name, optimizer=own, epochs=n, batch_size=5, seed=rng) for n in calls]
        losses = [loss for history in histories for loss in history["loss"]]
        ends.append((net.params.tobytes(), net.grads.tobytes(), own.steps, own.epochs, rng.bit_generator.state, losses))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_generator_ends_where_the_layers_leave_it(shuffle):
    rngs = [np.random.default_rng(3) for _ in range(2)]
    X, y, name = data("labels", 5, 3)
    for kind, rng in zip((mn.Sequential, Layers), rngs, strict=True):
        net = stack(kind, (5, 8, 3), "relu", "float64")
        mn.fit(net, X, y, loss=name, optimizer=mn.SGD(0.1), epochs=7, seed=rng, shuffle=shuffle)
    assert rngs[0].bit_generator.state == rngs[1].bit_generator.state


def test_metrics_and_validation_are_those_of_the_layers():
    X, y, _ = data("labels", 5, 3)
    runs = both(metrics=[mn.metrics.accuracy], validation_data=(X, y))
    assert_equal_to_rounding(runs, "float64")
    assert runs[0][1]["accuracy"] == runs[1][1]["accuracy"]
    assert runs[0][1]["val_accuracy"] == runs[1][1]["val_accuracy"]


def test_a_schedule_sets_the_rate_of_each_epoch():
    OPTIMIZERS["schedule"] = lambda: mn.SGD(mn.schedules.Step(0.2, every=2))
    try:
        assert_equal_to_rounding(both(optimizer="schedule", epochs=5), "float64")
    finally:
        del OPTIMIZERS["schedule"]


def test_ignored_labels_are_left_to_the_layers():
    X, y, _ = data("labels", 5, 3)
    y[[3, 4, 11, 12, 13, 14, 15]] = -100
    nets = [stack(kind, (5, 8, 3), "relu", "float64") for kind in (mn.Sequential, Layers)]
    histories = [
        mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.Adam(0.01), epochs=4, batch_size=4, shuffle=False)
        for net in nets
    ]
    np.testing.assert_allclose(nets[0].params, nets[1].params, rtol=1e-12)
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-12)


def test_labels_that_become_wrong_on_the_way_are_refused():
    X, y, _ = data("labels", 5, 3)

    class Spoil:
        def on_epoch_end(self, run):
            run.y[7] = 3

    net = stack(mn.Sequential, (5, 8, 3), "relu", "float64")
    with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 2, got 3 in row") as caught:
        mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.SGD(0.1), batch_size=5, shuffle=False, callbacks=[Spoil()])
    assert caught.value.__notes__ == ["fit: in epoch 2, batch 1"]


# ---- losses that are not finite ----


def spoiled(kind, row=12, **options):
    X, y, _ = data("labels", 5, 3)
    X[row, 2] = np.inf
    net = stack(kind, (5, 8, 3), "relu", "float64")
    options = {"epochs": 2, "batch_size": 5, "shuffle": False, "optimizer": mn.SGD(0.1)} | options
    return net, lambda: mn.fit(net, X, y, loss="cross_entropy", **options)


def test_the_step_of_a_loss_that_is_not_finite_is_not_taken():
    net, twin = (spoiled(kind) for kind in (mn.Sequential, Layers))
    errors, message = [], r"got nan in epoch 1, batch 2; the largest gradient is nan in 0\.W"
    for _, fit in (net, twin):
        with pytest.raises(ValueError, match=message) as caught, np.errstate(all="ignore"):
            fit()
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    np.testing.assert_allclose(net[0].params, twin[0].params, rtol=1e-13)


@pytest.mark.parametrize("how", ["warn", "ignore"])
def test_a_run_may_go_on_after_it(how):
    runs = [spoiled(kind, on_nonfinite=how) for kind in (mn.Sequential, Layers)]
    for _, fit in runs:
        if how == "warn":
            with pytest.warns(RuntimeWarning, match="batch 2") as caught, np.errstate(all="ignore"):
                history = fit()
            assert [warning.filename for warning in caught] == [__file__]
        else:
            with np.errstate(all="ignore"):
                history = fit()
        assert np.isnan(history["loss"]).all()
    np.testing.assert_array_equal(runs[0][0].params, runs[1][0].params)


def test_epochs_of_one_call_that_go_wrong_are_taken_back():
    optimizers = [mn.Adam(3e150), mn.Adam(3e150)]
    nets = [stack(kind, (5, 8, 3), "relu", "float64") for kind in (mn.Sequential, Layers)]
    X, y, _ = data("mse", 5, 3)
    rngs, messages = [np.random.default_rng(1) for _ in nets], []
    for net, optimizer, rng in zip(nets, optimizers, rngs, strict=True):
        with pytest.raises(ValueError, match="fit: loss must be finite") as caught, np.errstate(all="ignore"):
            mn.fit(net, X, y, loss="mse", optimizer=optimizer, epochs=50, batch_size=23, seed=rng)
        messages.append(str(caught.value).partition(";")[0])
    assert messages[0] == messages[1]
    assert optimizers[0].steps == optimizers[1].steps
    assert rngs[0].bit_generator.state == rngs[1].bit_generator.state


def test_a_run_that_goes_wrong_late_is_tried_but_once(monkeypatch):
    calls, take = [], PlainSteps.take
    monkeypatch.setattr(PlainSteps, "take", lambda *a, **k: calls.append(len(a[3])) or take(*a, **k))
    net = stack(mn.Sequential, (5, 8, 3), "relu", "float64")
    X, y, _ = data("mse", 5, 3)
    with pytest.raises(ValueError, match="fit: loss must be finite"), np.errstate(all="ignore"):
        mn.fit(net, X, y, loss="mse", optimizer=mn.SGD(3.0), epochs=500, batch_size=23, seed=0)
    assert calls.count(23 * 500) == 1
    assert len(calls) > 3


# ---- who takes them ----


def steps_of(net=None, loss=None, optimizer=None, size=10):
    net = net or mn.MLP([4, 5, 3])
    return plain_steps(net, loss or mn.CrossEntropyLoss(), optimizer or mn.SGD(0.1), size)


NOT_PLAIN = {
    "softplus": {"net": mn.MLP([4, 5, 3], activation="softplus")},
    "dropout": {"net": mn.Sequential([mn.Linear(4, 5), mn.Dropout(0.1)])},
    "activation first": {"net": mn.Sequential([mn.Tanh(), mn.Linear(4, 5)])},
    "two activations": {"net": mn.Sequential([mn.Linear(4, 5), mn.Tanh(), mn.ReLU()])},
    "no layer with weights": {"net": mn.Sequential([mn.ReLU()])},
    "a net in a net": {"net": mn.Sequential([mn.MLP([4, 5]), mn.Linear(5, 3)])},
    "very many layers": {"net": mn.MLP([4] * 40)},
    "large products": {"net": mn.MLP([1000, 1000, 3]), "size": 256},
    "smoothing": {"loss": mn.CrossEntropyLoss(label_smoothing=0.1)},
    "weights": {"loss": mn.CrossEntropyLoss(weight=[1, 2, 3])},
    "sum": {"loss": mn.MSELoss(reduction="sum")},
    "positive weight": {"loss": mn.BCEWithLogitsLoss(pos_weight=2.0)},
    "ignored": {"loss": mn.CrossEntropyLoss(ignore_index=0)},
    "checked": {"loss": mn.CrossEntropyLoss(check_logits=True)},
    "focal": {"loss": mn.FocalLoss()},
    "huber": {"loss": mn.HuberLoss()},
    "rmsprop": {"optimizer": mn.RMSprop(0.1)},
    "clipped": {"optimizer": mn.SGD(0.1, clip_norm=1.0)},
    "clipped entries": {"optimizer": mn.Adam(0.1, clip_value=1.0)},
    "groups": {"optimizer": mn.SGD(0.1, groups={"0": {"lr": 0.0}})},
    "biases apart": {"optimizer": mn.SGD(0.1, weight_decay=0.1, decay_biases=False)},
}


@pytest.mark.parametrize("what", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_layers(what):
    assert steps_of(**what) is None
    assert steps_of() is not None


def test_a_method_that_was_replaced_is_called():
    calls, optimizer = [], mn.SGD(0.1)
    optimizer.step = lambda params, grads: calls.append(1)
    X, y, _ = data("labels", 5, 3)
    mn.fit(mn.MLP([5, 3]), X, y, loss="cross_entropy", optimizer=optimizer, epochs=1, batch_size=23)
    assert calls == [1]


def test_weights_and_methods_that_were_put_into_a_layer_are_used():
    def another_array(net):
        net.layers[0].W = np.ones((5, 8))

    def another_vector(net):
        net.params = net.params / 2

    def memory_of_its_own(net):
        net.layers[0].bind(np.zeros(48), np.zeros(48))

    def another_method(net):
        product = net.layers[0].product
        net.layers[0].product = lambda x: 2 * product(x)

    X, y, _ = data("labels", 5, 3)
    for change in (another_array, another_vector, memory_of_its_own, another_method):
        nets = [stack(kind, (5, 8, 3), "relu", "float64") for kind in (mn.Sequential, Layers)]
        for net in nets:
            change(net)
            mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.SGD(0.1), epochs=2, seed=0)
        np.testing.assert_allclose(nets[0].params, nets[1].params, rtol=1e-12, err_msg=change.__name__)


def test_a_net_in_memory_of_its_owner_is_plain():
    net, memory = mn.MLP([4, 5, 3]), np.zeros(100, np.float32)
    net.bind(memory[10 : 10 + net.size], memory[55 : 55 + net.size])
    assert steps_of(net) is not None
    net.bind(np.frombuffer(bytearray(4 * net.size), np.float32), net.grads)
    assert steps_of(net) is not None


def test_the_state_of_another_net_is_refused_as_ever():
    optimizer, (X, y, _) = mn.SGD(0.1, momentum=0.9), data("labels", 5, 3)
    mn.fit(mn.MLP([5, 3]), X, y, loss="cross_entropy", optimizer=optimizer, epochs=1)
    with pytest.raises(ValueError, match="one optimizer serves one model"):
        mn.fit(mn.MLP([5, 4, 3]), X, y, loss="cross_entropy", optimizer=optimizer, epochs=1)


# ---- answers ----


def door(net, x, y):
    return _epoch.answer_door(net.plain, net.params, x, y)


ANSWERING = [(784, 30, 10), (3, 40, 70, 2), (1, 1), (5, 1, 1), (2, 32, 33), (4, 1024, 3), (40, 64)]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", ANSWERING, ids=str)
@pytest.mark.parametrize("rows", [1, 3])
def test_the_door_to_answers_gives_what_the_layers_give(sizes, activation, rows, dtype):
    net = mn.MLP(sizes, activation=activation, dtype=dtype, seed=0)
    x, y = np.random.default_rng(1).standard_normal((rows, sizes[0])).astype(dtype), np.empty((rows, sizes[-1]), dtype)
    assert door(net, x, y) is True
    np.testing.assert_allclose(y, net.forward(x), rtol=50 * EPS[dtype], atol=50 * EPS[dtype])


@pytest.mark.parametrize("sizes", ANSWERING[1:], ids=str)
def test_answers_come_from_the_memory_of_the_net_alone(sizes):
    """What stands behind the parameters must not count: it is NaN here, and a NaN that was used would show."""
    net = mn.MLP(sizes, dtype="float64", seed=0)
    memory = np.full(net.size + 100, np.nan)
    memory[: net.size] = net.params
    x, y, expected = np.ones((2, sizes[0])), np.empty((2, sizes[-1])), net.forward(np.ones((2, sizes[0])))
    assert _epoch.answer_door(net.plain, memory[: net.size], x, y) is True
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_answers_of_few_rows_are_those_of_many():
    X = np.random.default_rng(0).random((2000, 8)).astype(np.float32)
    for net in (mn.MLP([8, 20, 3], seed=0), mn.MLP([8, 20, 1], seed=0)):
        whole = net.predict_proba(X)
        parts = np.concatenate([net.predict_proba(X[i : i + 100]) for i in range(0, 2000, 100)])
        np.testing.assert_allclose(parts, whole, rtol=1e-5)
        assert parts.dtype == whole.dtype
        np.testing.assert_array_equal(net.predict(X[:50]), net.predict(X)[:50])
    with pytest.raises(ValueError, match=r"Linear: x must have shape \(N, 8\), got \(1, 7\)"):
        net.predict_proba(X[:1, :7])
    with pytest.raises(ValueError, match=r"Linear: x must have shape \(N, 8\), got \(8,\)"):
        net.predict_proba(X[0])


def test_a_forward_that_was_replaced_answers():
    net = mn.MLP([4, 3], seed=0)
    net.forward = lambda x: np.zeros((len(x), 3), np.float32)
    np.testing.assert_allclose(net.predict_proba(np.ones((2, 4), np.float32)), 1 / 3)


def rejected(net, x, y):
    """Arguments of the door that are not right, each in one way."""
    layers, params = net.plain, net.params
    other = layers.copy()
    other[0, 1] = 7
    far = layers.copy()
    far[-1, 2] = 9
    memory = np.zeros(100, params.dtype)
    return {
        "list": (layers, params, x.tolist(), y),
        "other dtype": (layers, params, x.astype("float64"), y),
        "other outputs": (layers, params, x, np.empty((2, 4), y.dtype)),
        "other inputs": (layers, params, x[:, :3].copy(), y),
        "other rows": (layers, params, x, y[:1]),
        "a row": (layers, params, x[0], y),
        "short parameters": (layers, params[:-1], x, y),
        "parameters as a matrix": (layers, params[None], x, y),
        "other layers": (other, params, x, y),
        "unknown activation": (far, params, x, y),
        "layers of 32 bits": (layers.astype(np.int32), params, x, y),
        "flat layers": (layers.reshape(-1), params, x, y),
        "no layers": (layers[:0], params, x, y),
        "huge layers": (np.array([[4, 2**62, 1], [2**62, 3, -1]]), params, x, y),
        "strided": (layers, params, np.zeros((2, 8), x.dtype)[:, ::2], y),
        "overlap": (layers, params, memory[:8].reshape(2, 4), memory[5:11].reshape(2, 3)),
    }


def test_the_door_to_answers_leaves_what_is_not_plain_alone():
    net = mn.MLP([4, 5, 3], seed=0)
    x, y = np.zeros((2, 4), np.float32), np.full((2, 3), 7, np.float32)
    for name, arguments in rejected(net, x, y).items():
        assert _epoch.answer_door(*arguments) is False, name
        assert np.all(y == 7), name
    for place in range(4):
        arguments = [net.plain, net.params, x, y]
        arguments[place] = None
        with pytest.raises(TypeError):
            _epoch.answer_door(*arguments)
    assert door(net, x, y) is True


# ---- threads and signals ----


def test_nets_that_train_in_threads_get_the_bits_they_get_alone():
    def train(seed, out):
        X, y, name = data("labels", 40, 3, rows=400)
        net = mn.MLP([40, 30, 3], seed=seed)
        mn.fit(net, X, y, loss=name, optimizer=mn.Adam(0.01), epochs=40, batch_size=8, seed=seed)
        out[seed] = net.params.tobytes()

    alone, together = {}, {}
    for seed in range(4):
        train(seed, alone)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_ctrl_c_is_heard_within_an_epoch():
    def interrupt(*_):
        raise KeyboardInterrupt

    X = np.zeros((200_000, 100), np.float32)  # an epoch of seconds
    net, before = mn.MLP([100, 100, 2]), signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    started = time.monotonic()
    try:
        history = mn.fit(
            net, X, np.zeros(200_000, int), loss="cross_entropy", optimizer=mn.SGD(0.1), batch_size=1, epochs=99
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert history.interrupted
    assert len(history) < 99
    assert time.monotonic() - started < 30
