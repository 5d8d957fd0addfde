"""fit, evaluate, History and callbacks: which samples a step sees, what is recorded, who is called when, real data."""

import csv
import itertools
import signal
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import minnet as mn
from minnet.training import EVENTS, _largest_gradient


class Spy:
    """A net that gives its input back and keeps the rows of each training step; it has nothing to learn."""

    def __init__(self):
        self.params, self.grads, self.batches = np.zeros(1), np.zeros(1), []

    def forward(self, x, rng=None):
        if rng is not None:
            self.batches.append(x[:, 0].tolist())
        return x

    def backward_params(self, dy):
        pass

    def orders(self, steps):
        """The order of the rows in each epoch of so many steps."""
        epochs = [self.batches[i : i + steps] for i in range(0, len(self.batches), steps)]
        return [list(itertools.chain(*epoch)) for epoch in epochs]


def column(n):
    return np.arange(float(n))[:, None]


def spied(n=10, **options):
    """The Spy, and the history, of a run over the rows 0 ... n - 1 whose targets are 0."""
    net = Spy()
    options = {"loss": "mse", "optimizer": mn.SGD(0), "epochs": 1, "batch_size": 4, "seed": 0} | options
    return net, mn.fit(net, column(n), np.zeros((n, 1)), **options)


def blobs(seed=0):
    """Sixty points of three classes that can be told apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(60) % 3
    return rng.standard_normal((60, 2)) + 3 * np.array([[0, 0], [1, 0], [0, 1]])[y], y


def blob_run(**options):
    X, y = blobs()
    net = options.pop("net", None) or mn.MLP([2, 8, 3], seed=0)
    options = {"loss": "cross_entropy", "optimizer": mn.SGD(0.5), "epochs": 3, "batch_size": 16, "seed": 0} | options
    return net, mn.fit(net, X, y, **options)


# ---- batches ----


def test_fit_lowers_the_loss():
    net, history = blob_run(epochs=20)
    X, y = blobs()
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert np.mean(net.predict(X) == y) > 0.8


@pytest.mark.parametrize("make", [lambda: mn.SGD(0.1, momentum=0.9), lambda: mn.Adam(0.02)], ids=["momentum", "adam"])
@pytest.mark.parametrize(("loss", "outputs"), [("cross_entropy", 2), ("bce", 1), ("mse", 1)])
def test_every_named_loss_trains_with_every_optimizer(loss, outputs, make):
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    net = mn.MLP([2, 8, outputs], activation="tanh", seed=0)
    history = mn.fit(net, X, [0, 1, 1, 0], loss=loss, optimizer=make(), epochs=300, batch_size=4, seed=0)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


def test_every_sample_is_used_once_an_epoch():
    net, _ = spied(epochs=5)
    assert len(net.batches) == 15
    assert [sorted(order) for order in net.orders(3)] == [list(range(10))] * 5


def test_the_order_is_drawn_anew_for_every_epoch():
    net, _ = spied(30, epochs=5)
    assert len({tuple(range(30)), *map(tuple, net.orders(8))}) == 6


def test_batches_hold_other_samples_every_epoch():
    net, _ = spied(30, epochs=2, batch_size=15)
    assert set(net.batches[0]) not in (set(net.batches[2]), set(net.batches[3]))


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (5, [5, 5]), (9, [9, 1]), (10, [10]), (1000, [10])]
)
def test_the_last_batch_may_be_smaller(batch_size, sizes):
    net, _ = spied(batch_size=batch_size)
    assert [len(batch) for batch in net.batches] == sizes


def test_without_shuffle_samples_come_in_their_order():
    net, _ = spied(epochs=2, shuffle=False)
    assert net.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] * 2


def test_rows_keep_their_targets():
    net, X = Spy(), column(50)
    history = mn.fit(net, X, X.copy(), loss="mse", optimizer=mn.SGD(0), epochs=3, batch_size=7, seed=0)
    assert net.batches[0] != sorted(net.batches[0])
    assert history["loss"] == [0, 0, 0]


def test_data_is_not_written_to():
    X, y = blobs()
    mn.fit(mn.MLP([2, 4, 3], dtype="float64"), X, y, loss="cross_entropy", optimizer=mn.SGD(1), epochs=2)
    np.testing.assert_array_equal(X, blobs()[0])
    np.testing.assert_array_equal(y, blobs()[1])


# ---- the recorded loss ----


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 100])
def test_loss_of_an_epoch_weighs_every_sample_alike(batch_size, shuffle):
    _, history = spied(batch_size=batch_size, shuffle=shuffle)
    assert history["loss"] == pytest.approx([np.mean(column(10) ** 2)], rel=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
def test_loss_of_an_epoch_is_per_sample_for_every_reduction(reduction):
    validation = (column(7), np.zeros((7, 1)))
    _, history = spied(loss=mn.MSELoss(reduction=reduction), validation_data=validation)
    assert history["loss"] == pytest.approx([np.mean(column(10) ** 2)], rel=1e-14)
    assert history["val_loss"] == pytest.approx([np.mean(column(7) ** 2)], rel=1e-14)


def test_sum_takes_steps_as_many_times_larger_as_a_batch_has_rows():
    mean, sums = mn.MLP([2, 4, 3], dtype="float64", seed=0), mn.MLP([2, 4, 3], dtype="float64", seed=0)
    blob_run(net=mean, optimizer=mn.SGD(0.6), batch_size=20)
    blob_run(net=sums, optimizer=mn.SGD(0.6 / 20), batch_size=20, loss=mn.CrossEntropyLoss(reduction="sum"))
    np.testing.assert_allclose(sums.params, mean.params, rtol=1e-10)


def test_loss_of_an_epoch_is_measured_while_the_weights_move():
    X, y = blobs()
    net, twin = mn.MLP([2, 4, 3], seed=0), mn.MLP([2, 4, 3], seed=0)
    start = mn.evaluate(twin, X, y)["loss"]
    _, history = blob_run(net=net, epochs=1, batch_size=60)
    assert history["loss"] == pytest.approx([start], rel=1e-6)
    assert mn.evaluate(net, X, y)["loss"] < 0.99 * start


# ---- seeds and state ----


def stack():
    return mn.Sequential([mn.Linear(2, 8), mn.Tanh(), mn.Dropout(0.3), mn.Linear(8, 3)], seed=0)


def test_the_same_seed_gives_the_same_weights_to_the_last_bit():
    nets = [blob_run(net=stack(), seed=seed)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
    assert np.any(nets[0].params != nets[2].params)


def test_the_seed_reaches_dropout():
    nets = [blob_run(net=stack(), seed=seed, shuffle=False)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
    assert np.any(nets[0].params != nets[2].params)


def test_a_generator_goes_on_where_it_stands():
    rng = np.random.default_rng(1)
    first, second = (spied(30, seed=rng)[0].batches for _ in range(2))
    assert first != second
    assert first == spied(30, seed=1)[0].batches


def test_numpys_global_generator_is_neither_used_nor_moved():
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (to see that it stays)
    blob_run(net=stack(), seed=None)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("make", [lambda: mn.SGD(0.1, momentum=0.9), lambda: mn.Adam(0.05)], ids=["momentum", "adam"])
def test_an_optimizer_goes_on_with_its_state_in_the_next_fit(make):
    optimizer = make()
    net, _ = blob_run(optimizer=optimizer, epochs=2, shuffle=False)
    blob_run(net=net, optimizer=optimizer, epochs=2, shuffle=False)
    whole, _ = blob_run(optimizer=make(), epochs=4, shuffle=False)
    np.testing.assert_array_equal(net.params, whole.params)
    other, _ = blob_run(optimizer=make(), epochs=2, shuffle=False)
    blob_run(net=other, optimizer=make(), epochs=2, shuffle=False)
    assert np.any(other.params != whole.params)


GOING_ON = {
    "sgd": lambda: mn.SGD(mn.schedules.Cosine(0.5, epochs=6)),
    "plateau": lambda: mn.SGD(mn.schedules.Plateau(0.5, patience=0, min_delta=0.2), momentum=0.9),
    "adam": lambda: mn.Adam(mn.schedules.WarmUp(0.05, epochs=3), clip_norm=0.1),
    "adamw": lambda: mn.AdamW(0.05, groups={"0": {"lr": mn.schedules.Step(0.1, every=2)}}, decay_biases=False),
    "rmsprop": lambda: mn.RMSprop(0.01, momentum=0.5, centered=True, weight_decay=0.01),
}


@pytest.mark.parametrize("make", GOING_ON.values(), ids=GOING_ON)
def test_many_fits_of_an_epoch_are_one_fit_of_many(make):
    whole, history = blob_run(net=stack(), optimizer=make(), epochs=6, seed=1)
    net, optimizer, rng, parts = stack(), make(), np.random.default_rng(1), []
    for _ in range(6):
        parts.append(blob_run(net=net, optimizer=optimizer, epochs=1, seed=rng)[1][0])
    np.testing.assert_array_equal(net.params, whole.params)
    for name in ("loss", "lr"):
        assert [row[name] for row in parts] == history[name]
    assert optimizer.epochs == 6


def test_an_optimizer_of_ones_own_needs_a_step_alone():
    class Own:
        def step(self, params, grads):
            params -= np.float32(0.5) * grads

    X, y = blobs()
    net, twin = mn.MLP([2, 8, 3], seed=0), mn.MLP([2, 8, 3], seed=0)
    history = mn.fit(net, X, y, loss="cross_entropy", optimizer=Own(), epochs=2, seed=0)
    mn.fit(twin, X, y, loss="cross_entropy", optimizer=mn.SGD(0.5), epochs=2, seed=0)
    np.testing.assert_allclose(net.params, twin.params, rtol=1e-4, atol=1e-6)
    assert history.columns == ["epoch", "loss", "seconds"]


def test_fit_hands_names_to_the_optimizer():
    net, twin = mn.MLP([2, 8, 3], seed=0), mn.MLP([2, 8, 3], seed=0)
    blob_run(net=net, optimizer=mn.SGD(0.5, weight_decay=0.1, decay_biases=False, groups={"0": {"lr": 0}}))
    blob_run(net=twin, optimizer=mn.SGD(0.5, weight_decay=0.1))
    start = dict(mn.MLP([2, 8, 3], seed=0).named_parameters())
    for name, array in net.named_parameters():
        assert np.all(array == start[name]) == name.startswith("0")
    assert np.all(net.params != twin.params)


def test_no_epochs_change_nothing():
    net = mn.MLP([2, 8, 3], seed=0)
    before = net.params.copy()
    _, history = blob_run(net=net, epochs=0)
    np.testing.assert_array_equal(net.params, before)
    assert len(history) == 0


# ---- evaluate and validation ----


@pytest.mark.parametrize("batch_size", [1, 7, 20, 60, 4096])
@pytest.mark.parametrize("loss", ["cross_entropy", mn.CrossEntropyLoss(reduction="sum"), "mse"], ids=str)
def test_evaluating_in_batches_equals_the_whole(loss, batch_size):
    X, y = blobs()
    net = mn.MLP([2, 8, 3], dtype="float64", seed=0)
    y = np.eye(3)[y] if loss == "mse" else y
    scores, logits = mn.evaluate(net, X, y, loss=loss, batch_size=batch_size), net.forward(X)
    expected = mn.MSELoss()(logits, y) if loss == "mse" else mn.CrossEntropyLoss()(logits, y)
    assert scores["loss"] == pytest.approx(expected, rel=1e-13)
    if loss != "mse":
        assert scores["accuracy"] == pytest.approx(np.mean(net.predict(X) == y), rel=1e-13)


@pytest.mark.parametrize("batch_size", [1, 7, 60])
@pytest.mark.parametrize(
    "loss",
    [
        mn.CrossEntropyLoss(weight=[0.1, 1, 30]),
        mn.FocalLoss(weight=[1, 0, 5], ignore_index=2),
        mn.CrossEntropyLoss(ignore_index=0),
        mn.CrossEntropyLoss(weight=[0, 0, 0]),
    ],
    ids=str,
)
def test_labels_weigh_in_every_batch_as_in_the_whole(loss, batch_size):
    X, y = blobs()
    net = mn.MLP([2, 8, 3], dtype="float64", seed=0)
    found = mn.evaluate(net, X, y, loss=loss, batch_size=batch_size)["loss"]
    assert found == pytest.approx(loss(net.forward(X), y), rel=1e-13)


def test_evaluate_uses_no_dropout_and_moves_nothing():
    X, y = blobs()
    net = stack()
    before = net.params.copy()
    assert mn.evaluate(net, X, y) == mn.evaluate(net, X, y)
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize(
    ("loss", "outputs", "columns"),
    [
        ("cross_entropy", 3, ["val_loss", "val_accuracy"]),
        ("bce", 1, ["val_loss", "val_accuracy"]),
        (mn.BCELoss(), 1, ["val_loss"]),
        ("mse", 1, ["val_loss"]),
    ],
    ids=["cross_entropy", "bce with logits", "bce", "mse"],
)
def test_accuracy_is_recorded_for_losses_that_classify(loss, outputs, columns):
    X, y = blobs()
    layers = [mn.Linear(2, outputs), mn.Sigmoid()] if isinstance(loss, mn.BCELoss) else [mn.Linear(2, outputs)]
    net, y = mn.Sequential(layers, seed=0), y if outputs == 3 else y // 2
    history = mn.fit(net, X, y, loss=loss, optimizer=mn.SGD(0.1), epochs=2, validation_data=(X, y), seed=0)
    assert history.columns == ["epoch", "loss", "lr", "seconds", *columns]


def test_validation_is_evaluated_after_every_epoch():
    X, y = blobs(seed=1)
    net, history = blob_run(validation_data=(X, y))
    scores = mn.evaluate(net, X, y)
    assert (history["val_loss"][-1], history["val_accuracy"][-1]) == (scores["loss"], scores["accuracy"])
    assert len(set(history["val_loss"])) == 3


def test_validation_changes_nothing_of_training():
    with_it, _ = blob_run(net=stack(), validation_data=blobs(seed=1))
    without, _ = blob_run(net=stack())
    np.testing.assert_array_equal(with_it.params, without.params)


@pytest.mark.parametrize(
    ("outputs", "target", "expected"),
    [
        ([[1, 2], [3, 0], [0, 1]], [1, 0, 0], 2 / 3),
        ([[1, 2], [3, 0]], [[0.2, 0.8], [0.4, 0.6]], 1 / 2),
        ([[1], [-1], [0], [2]], [1, 0, 0, 0], 3 / 4),
        ([1, -1], [[1], [1]], 1 / 2),
        ([0.2, -1, -1], [0.6, 0.4, 0.4], 1),
        (np.ones((0, 3)), [], 0),
    ],
    ids=["labels", "probabilities", "one logit", "flat logits", "chances of one logit", "no rows"],
)
def test_accuracy_is_the_share_of_right_answers(outputs, target, expected):
    assert mn.metrics.accuracy(outputs, target) == pytest.approx(expected)


def test_binary_accuracy_counts_every_question():
    assert mn.metrics.binary_accuracy([[4, -5], [4, 5]], [[1, 1], [1, 1]]) == 3 / 4
    assert mn.metrics.binary_accuracy(np.ones((0, 3)), np.ones((0, 3))) == 0


def shape_of(x):
    return str(np.shape(x))


@pytest.mark.parametrize("target", [[0, 1], np.zeros((3, 4)), np.zeros((2, 2)), 1], ids=shape_of)
@pytest.mark.parametrize("outputs", [np.zeros((3, 2)), np.zeros((3, 1)), np.zeros(3)], ids=shape_of)
def test_accuracy_refuses_shapes_that_disagree(outputs, target):
    with pytest.raises(ValueError, match=r"accuracy: target must have .*, got \("):
        mn.metrics.accuracy(outputs, target)


# ---- History ----


def test_history_is_rows_and_columns():
    _, history = blob_run(epochs=4)
    assert len(history) == 4
    assert history.columns == ["epoch", "loss", "lr", "seconds"]
    assert history["epoch"] == [1, 2, 3, 4]
    assert history[-1] == history.rows[3] == {name: history[name][3] for name in history.columns}
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert all(seconds > 0 for seconds in history["seconds"])


def test_an_unknown_column_is_refused_with_those_there_are():
    _, history = blob_run()
    with pytest.raises(
        ValueError, match=r"^History: column must be one of 'epoch', 'loss', 'lr', 'seconds', got 'val_loss'"
    ):
        history["val_loss"]


def test_a_column_that_came_late_is_nan_before():
    class Note:
        def on_epoch_end(self, run):
            if run.epoch == 2:
                run.history[-1]["note"] = 5.0

    _, history = blob_run(callbacks=[Note()])
    assert np.isnan(history["note"][0])
    assert history["note"][1] == 5
    assert history.columns[-1] == "note"


def test_history_prints_as_a_table():
    _, history = blob_run(epochs=3)
    lines = repr(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "lr", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    assert lines[2].split()[1] == f"{history['loss'][1]:.5g}"
    assert len({len(line) for line in lines}) == 1


def test_history_is_a_table_in_a_notebook():
    _, history = blob_run(epochs=20)
    history.rows[0]["<b>"] = history.rows[-1]["<b>"] = 1
    text = history._repr_html_()
    assert text.count("<tr>") == 12
    assert text.startswith("<table>\n<tr><th>epoch</th><th>loss</th><th>lr</th>")
    assert "<th>&lt;b&gt;</th>" in text
    assert f"<td>{history['loss'][0]:.5g}</td>" in text
    assert text.count("<td>...</td>") == 5
    assert mn.History()._repr_html_() == "History(no epochs)"


def test_history_records_the_rate_of_each_epoch():
    _, history = blob_run(optimizer=mn.SGD(lambda epoch: 0.5 / (epoch + 1)), epochs=4)
    assert history["lr"] == [0.5, 0.5 / 2, 0.5 / 3, 0.5 / 4]


def test_a_csv_file_holds_all_digits(tmp_path):
    _, history = blob_run(epochs=3, validation_data=blobs(seed=1))
    history.rows[1]["late"] = 5
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == history.columns
    assert [row["late"] for row in rows] == ["", "5", ""]
    for row, kept in zip(rows, history, strict=True):
        assert {name: float(value) for name, value in row.items() if value} == kept


def test_a_long_history_prints_its_two_ends():
    _, history = blob_run(epochs=20)
    firsts = [line.split()[0] for line in repr(history).splitlines()[1:]]
    assert firsts == ["1", "2", "3", "4", "5", "...", "16", "17", "18", "19", "20"]


def test_an_empty_history_prints_that_it_is():
    assert repr(mn.History()) == "History(no epochs)"


def test_plot_draws_the_losses_without_pyplot(monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails from here on
    _, history = blob_run(validation_data=blobs(seed=1))
    ax = history.plot()
    lines = {line.get_label(): line for line in ax.get_lines()}
    for name in ("loss", "val_loss"):
        np.testing.assert_array_equal(lines[name].get_xdata(), history["epoch"])
        np.testing.assert_array_equal(lines[name].get_ydata(), history[name])
    assert ax.get_xlabel() == "epoch"
    ax.figure.canvas.draw()


def test_plot_draws_metrics_on_axes_of_their_own():
    pytest.importorskip("matplotlib").use("Agg")

    def share(outputs, target):
        return 0.5

    class Note:
        def on_epoch_end(self, run):
            run.history[-1].update(note="text", vector=[1, 2])

    _, history = blob_run(validation_data=blobs(seed=1), metrics=[share], callbacks=[Note()])
    losses, metrics = history.plot().figure.axes
    assert [line.get_label() for line in losses.get_lines()] == ["loss", "val_loss"]
    lines = {line.get_label(): line for line in metrics.get_lines()}
    assert list(lines) == ["share", "val_accuracy", "val_share"]
    np.testing.assert_array_equal(lines["val_accuracy"].get_ydata(), history["val_accuracy"])
    looks = {name: (line.get_color(), line.get_linestyle()) for name, line in lines.items()}
    assert looks["share"][0] == looks["val_share"][0] != looks["val_accuracy"][0]
    assert looks["share"][1] == "-" != looks["val_share"][1] == looks["val_accuracy"][1]


def test_plot_draws_losses_into_given_axes():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    ax = figure.add_subplot()
    _, history = blob_run(validation_data=blobs(seed=1))
    assert history.plot(ax=ax) is ax
    assert figure.axes == [ax]
    assert [line.get_label() for line in ax.get_lines()] == ["loss", "val_loss"]


def test_no_epochs_are_drawn_as_empty_axes():
    pytest.importorskip("matplotlib").use("Agg")
    assert list(mn.History().plot().get_lines()) == []


def test_plot_says_how_to_get_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    _, history = blob_run()
    with pytest.raises(ImportError, match=r"^History\.plot: needs matplotlib, .*pip install 'minnet\[plot\]'"):
        history.plot()


# ---- callbacks ----


class Diary:
    """Writes down every event with the numbers of epoch and batch, and how many rows the history has."""

    def __init__(self):
        self.events = []
        for event in EVENTS:
            setattr(self, event, lambda run, event=event: self.note(event, run))

    def note(self, event, run):
        self.events.append((event[3:], run.epoch, run.batch, len(run.history)))


def test_events_come_in_their_order():
    diary = Diary()
    spied(8, epochs=2, callbacks=[diary])
    batches = itertools.product((1, 2), (0, 1), ("begin", "end"))
    expected = [(f"batch_{edge}", epoch, batch, epoch - 1) for epoch, batch, edge in batches]
    names = [event for event, *_ in diary.events]
    assert names[:2] == ["train_begin", "epoch_begin"]
    assert names[-2:] == ["epoch_end", "train_end"]
    assert [event for event in diary.events if event[0].startswith("batch")] == expected
    assert [event[0::3] for event in diary.events if event[0] == "epoch_end"] == [("epoch_end", 1), ("epoch_end", 2)]
    assert names.count("train_begin") == names.count("train_end") == 1


def test_callbacks_are_called_in_the_order_of_the_list():
    order = []

    class Call:
        def __init__(self, name):
            self.name = name

        def on_epoch_end(self, run):
            order.append(self.name)

    spied(epochs=2, callbacks=(Call("a"), Call("b")))
    assert order == ["a", "b", "a", "b"]


def test_a_run_shows_what_is_trained():
    seen = []

    class Look:
        def on_train_begin(self, run):
            seen.append(run)

    optimizer = mn.SGD(0.1)
    net, history = blob_run(optimizer=optimizer, epochs=2, callbacks=[Look()], validation_data=blobs(seed=1))
    run = seen[0]
    assert (run.net, run.optimizer, run.history, run.epochs) == (net, optimizer, history, 2)
    assert run.X.shape == (60, 2)
    assert run.X.dtype == np.float32
    assert run.y.shape == (60,)
    assert isinstance(run.loss, mn.CrossEntropyLoss)
    assert len(run.validation_data) == 2


def test_stop_ends_training_after_the_epoch():
    class Stop:
        def on_batch_begin(self, run):
            run.stop = run.epoch == 2

    diary = Diary()
    _, history = spied(epochs=9, callbacks=[Stop(), diary])
    assert len(history) == 2
    assert diary.events[-1][0] == "train_end"
    assert sum(event[0] == "batch_end" for event in diary.events) == 6


def test_an_outermost_callback_begins_first_and_ends_last():
    order = []

    class Call:
        def __init__(self, name, outermost=False):
            self.name, self.outermost = name, outermost

        def on_train_begin(self, run):
            order.append(self.name)

        def on_epoch_end(self, run):
            order.append(self.name.upper())

    spied(epochs=1, callbacks=[Call("a"), Call("b", True), Call("c"), Call("d", True)])
    assert "".join(order) == "bdacACBD"


# ---- interrupts and errors ----


class Raise:
    """Raises an error in a batch of the second epoch."""

    def __init__(self, error):
        self.error = error

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (2, 1):
            raise self.error


def test_ctrl_c_ends_a_run_with_the_history_so_far():
    diary = Diary()
    net, history = spied(epochs=9, callbacks=[Raise(KeyboardInterrupt()), diary])
    assert len(history) == 1
    assert history.interrupted
    assert diary.events[-1][0] == "train_end"
    assert len(net.batches) == 5
    assert not spied()[1].interrupted


def test_a_real_ctrl_c_is_one_and_pythons_handler_stays():
    class Press:
        def on_batch_end(self, run):
            if run.epoch == 2:
                signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    _, history = spied(epochs=9, callbacks=[Press()])
    assert history.interrupted
    assert history["epoch"] == [1]
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_ends_a_row_of_networks_altogether(monkeypatch):
    import minnet.lab.network as network

    def step(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(mn.SGD, "step", step)
    X, y = blobs()
    with pytest.raises(KeyboardInterrupt):
        network.train_networks((X, y, X, y), hidden=3, epochs=1)


def test_an_error_within_an_epoch_says_where_it_came():
    with pytest.raises(RuntimeError, match=r"^mine\b") as caught:
        spied(epochs=9, callbacks=[Raise(RuntimeError("mine"))])
    assert caught.value.__notes__ == ["fit: in epoch 2, batch 1"]


# ---- losses that are not finite ----


def diverging(lr=1e30, **options):
    """A run whose weights leave the range of float32 after a step or two."""
    net = mn.MLP([2, 4, 2], activation="relu", seed=0)
    X, y = blobs()
    options = {"loss": "mse", "optimizer": mn.SGD(lr), "epochs": 4, "batch_size": 20, "seed": 0} | options
    with np.errstate(all="ignore"):
        return net, mn.fit(net, X, np.eye(3)[y][:, :2], **options)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_why():
    diary = Diary()
    expected = (
        r"^fit: loss must be finite, got (nan|inf) in epoch 1, batch \d; the largest gradient is (nan|inf|[\d.e+]+) in "
        r"\d\.[Wb] \(try a smaller lr, clip_norm=1.0 of the optimizer, .*; on_nonfinite=\"ignore\" goes on\)"
    )
    with pytest.raises(ValueError, match=expected):
        diverging(callbacks=[diary])
    assert diary.events[-1][0] == "train_end"


def test_the_step_of_a_loss_that_is_not_finite_is_not_taken():
    net = mn.MLP([2, 3], seed=0)
    before, X, y = net.params.copy(), *blobs()
    X[7, 1] = np.nan
    with (
        pytest.raises(
            ValueError, match=r"got nan in epoch 1, batch 0; .* is nan in 0\.W \(X holds NaN or infinity in this"
        ),
        np.errstate(all="ignore"),
    ):
        mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.SGD(0.1), batch_size=60)
    np.testing.assert_array_equal(net.params, before)


def test_the_largest_gradient_is_named():
    net = mn.MLP([1, 1, 1], dtype="float64", seed=0)
    for name, value, shown in (("2.W", -7.0, "7 in 2.W"), ("0.b", 9.0, "9 in 0.b"), ("2.b", np.nan, "nan in 2.b")):
        net.grads[["0.W", "0.b", "2.W", "2.b"].index(name)] = value
        assert _largest_gradient(net) == shown
    assert _largest_gradient(Spy()) == "0"


def test_a_loss_that_is_not_finite_may_be_a_warning():
    with pytest.warns(RuntimeWarning, match=r"^fit: loss must be finite, got .* in epoch 1, batch") as caught:
        _, history = diverging(on_nonfinite="warn")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert len(history) == 4


def test_a_loss_that_is_not_finite_may_be_ignored():
    _, history = diverging(on_nonfinite="ignore")
    assert not np.isfinite(history["loss"][-1])


# ---- data larger than memory, and batches from elsewhere ----


def mapped(folder, name, array):
    np.save(folder / name, array)
    return np.load(folder / name, mmap_mode="r")


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", ">f4", "float16", "bool"])
def test_mapped_data_trains_to_the_bits_of_data_in_memory(tmp_path, dtype):
    rng = np.random.default_rng(0)
    X, y = (5 * rng.random((60, 4))).astype(dtype), np.arange(60) % 3
    nets = [mn.MLP([4, 5, 3], seed=0) for _ in range(2)]
    files = mapped(tmp_path, "X.npy", X), mapped(tmp_path, "y.npy", y)
    options = {"loss": "cross_entropy", "epochs": 3, "batch_size": 7, "seed": 0}
    histories = [
        mn.fit(net, *data, optimizer=mn.SGD(0.1), validation_data=data, **options)
        for net, data in zip(nets, [(X, y), files], strict=True)
    ]
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
    assert histories[0]["val_loss"] == histories[1]["val_loss"]
    assert mn.evaluate(nets[0], X, y) == mn.evaluate(nets[1], *files)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.float32(3), ValueError, r"fit: X must have shape \(N, I\), got \(\)"),
        (np.ones(5), ValueError, r"fit: X must have shape \(N, I\), got \(5,\)"),
        (np.ones((5, 2), complex), TypeError, "fit: X must hold real numbers, got dtype complex128"),
        (np.ones((0, 2)), ValueError, "fit: y must have as many rows as X, 0, got"),
        (np.ones((5, 3)), ValueError, r"Linear: x must have shape \(N, 2\), got \(1, 3\)"),
    ],
    ids=["number", "one axis", "complex", "empty", "columns"],
)
def test_bad_mapped_data_is_refused(tmp_path, X, error, message):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", X.dtype, X.shape) if X.size else X
    with pytest.raises(error, match=f"^{message}"):
        mn.fit(mn.MLP([2, 3]), X, np.zeros(5, int), loss="cross_entropy", optimizer=mn.SGD())


def test_mapped_data_is_never_held_whole(tmp_path):
    rows, columns = 300_000, 512
    X = np.memmap(tmp_path / "X", np.uint8, "w+", shape=(rows, columns))  # a file of holes: 150 MB, 600 as float32
    y = np.memmap(tmp_path / "y", np.int64, "w+", shape=rows)
    net = mn.MLP([columns, 2], seed=0)
    tracemalloc.start()
    try:
        mn.fit(
            net, X, y, loss="cross_entropy", optimizer=mn.SGD(0.1), epochs=1, batch_size=2000, validation_data=(X, y)
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6  # the order, 2.4 MB, and batches: 4096 rows to validate, as uint8, float64 and float32, are 27


def test_a_bad_label_far_down_a_file_is_found_first(tmp_path):
    y = np.zeros(70_000, np.int64)
    y[65_540] = 3
    X, net = mapped(tmp_path, "X.npy", np.zeros((70_000, 1), "f")), mn.MLP([1, 3])
    before = net.params.copy()
    with pytest.raises(ValueError, match="got 3 in row 4") as caught:
        mn.fit(net, X, mapped(tmp_path, "y.npy", y), loss="cross_entropy", optimizer=mn.SGD(0.1))
    assert caught.value.__notes__ == ["fit: rows are counted from row 65536 of y"]
    np.testing.assert_array_equal(net.params, before)


def pairs(size=16):
    """Batches of the blobs in their order."""
    X, y = blobs()
    return [(X[start : start + size], y[start : start + size]) for start in range(0, 60, size)]


class Again:
    """Something to iterate over, time and again."""

    def __iter__(self):
        return iter(pairs())


SOURCES = {
    "list": pairs(),
    "iterable": Again(),
    "function": lambda: iter(pairs()),
    "generator function": lambda: (pair for pair in pairs()),
    "lists": [(x.tolist(), y.tolist()) for x, y in pairs()],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_batches_from_elsewhere_train_as_arrays_do(source):
    whole, expected = blob_run(net=stack(), shuffle=False)
    net = stack()
    history = mn.fit(net, source, loss="cross_entropy", optimizer=mn.SGD(0.5), epochs=3, seed=0)
    np.testing.assert_allclose(net.params, whole.params, rtol=1e-6, atol=1e-7)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def streamed(source, **options):
    options = {"loss": "cross_entropy", "optimizer": mn.SGD(0.5), "epochs": 3, "seed": 0} | options
    return mn.fit(mn.MLP([2, 3], seed=0), source, **options)


def failing():
    yield from pairs()[:2]
    raise OSError("the disk is gone")


def test_batches_of_a_source_are_never_held_together():
    rows, columns, count = 1000, 1000, 30

    def source():
        for _ in range(count):
            yield np.ones((rows, columns), np.float32), np.zeros(rows, np.int64)  # 4 MB

    tracemalloc.start()
    try:
        mn.fit(mn.MLP([columns, 2], seed=0), source, loss="cross_entropy", optimizer=mn.SGD(0.1), epochs=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.2 * 4e6  # the last one, which the net still has, and the next, which is being made


def test_a_source_that_fails_gives_its_own_error_and_the_place():
    with pytest.raises(OSError, match=r"^the disk is gone\b") as caught:
        streamed(failing)
    assert caught.value.__notes__ == ["fit: in epoch 1, batch 2"]


def test_a_source_that_runs_dry_is_found():
    once = iter(pairs())
    with pytest.raises(ValueError, match=r"^fit: an epoch must have at least one batch, got none") as caught:
        streamed(lambda: once)
    assert caught.value.__notes__ == ["fit: in epoch 2, batch 0"]


X, Y = blobs()
BAD_SOURCES = {
    "iterator": (iter(pairs()), TypeError, "fit: batches must be there for every epoch, got an iterator, for one"),
    "generator": (failing(), TypeError, "fit: batches must be there for every epoch, got an iterator, for one"),
    "object": (
        object(),
        TypeError,
        r"fit: without y, X must be batches \(x, y\) to iterate over, or a function .* <obj",
    ),
    "function of nothing": (lambda: None, TypeError, "fit: without y, X must be batches .*, got None"),
    "x alone": ([X], TypeError, r"fit: a batch must be a pair \(x, y\), got ndarray"),
    "triples": ([(X, Y, Y)], TypeError, r"fit: a batch must be a pair \(x, y\), got tuple"),
    "an array of two rows": ([np.zeros((2, 5, 2))], TypeError, r"fit: a batch must be a pair \(x, y\), got ndarray"),
    "number": ([3], TypeError, r"fit: a batch must be a pair \(x, y\), got int"),
    "flat x": ([(X[:, 0], Y)], ValueError, r"fit: a batch's X must have shape \(N, I\), got \(60,\)"),
    "short y": ([(X, Y[:3])], ValueError, r"fit: a batch's y must have as many rows as X, 60, got \(3,\)"),
    "no rows": ([(X[:0], Y[:0])], ValueError, r"fit: a batch's X must have at least one row, got \(0, 2\)"),
    "label": ([(X, Y + 1)], ValueError, "cross_entropy: labels must be in 0 ... 2, got 3"),
    "columns": ([(X[:, :1], Y)], ValueError, r"Linear: x must have shape \(N, 2\), got \(60, 1\)"),
    "nothing": ([], ValueError, "fit: an epoch must have at least one batch, got none"),
}


@pytest.mark.parametrize(("source", "error", "message"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_bad_batches_are_refused(source, error, message):
    with pytest.raises(error, match=f"^{message}"):
        streamed(source)


# ---- metrics ----


def test_metrics_are_recorded_for_training_and_validation():
    def share(outputs, target):
        return float(np.mean(target))

    X, y = blobs(seed=1)
    _, history = blob_run(epochs=2, validation_data=(X[:50], y[:50]), metrics=[mn.metrics.accuracy, share])
    names = ["epoch", "loss", "accuracy", "share", "lr", "seconds", "val_loss", "val_accuracy", "val_share"]
    assert history.columns == names
    assert history["share"] == pytest.approx([np.mean(y)] * 2)
    assert history["val_share"] == pytest.approx([np.mean(y[:50])] * 2)
    assert 0 < history["accuracy"][0] <= 1
    assert mn.evaluate(mn.MLP([2, 3]), X, y, metrics=[share])["share"] == pytest.approx(np.mean(y))


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (mn.metrics.accuracy, TypeError, "metrics must be a list, got <function acc"),
        (["accuracy"], TypeError, r"a metric must be a function of \(outputs, target\), got 'accuracy'"),
        ([mn.metrics.accuracy] * 2, ValueError, "metrics must have names of their own, got 'accuracy'"),
    ],
)
def test_bad_metrics_are_refused(metrics, error, message):
    with pytest.raises(error, match=f"^fit: {message}"):
        blob_run(metrics=metrics)


# ---- EarlyStopping ----


class Script:
    """Writes a column of the history and, as the net's parameters, the number of the epoch."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, run):
        run.history[-1][self.name] = self.values[run.epoch - 1]
        run.net.params[...] = run.epoch


def stopped(values, name="val_loss", **options):
    """Epochs run, and the parameter in the end, of a run with the column `values`."""
    net, history = spied(epochs=len(values), callbacks=[Script(name, values), mn.EarlyStopping(name, **options)])
    return len(history), float(net.params[0])


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([5, 4, 3, 2, 1], 1, 5, 5),
        ([5, 4, 6, 3, 1], 1, 3, 2),
        ([5, 4, 6, 3, 4], 2, 5, 4),
        ([5, 4, 6, 6, 1], 2, 4, 2),
        ([5, 5, 5, 5, 5], 3, 4, 1),
        ([5, np.nan, np.nan, 1, 1], 2, 3, 1),
        ([np.inf, 3, 4, 5, 6], 2, 4, 2),
    ],
    ids=["falls", "patience 1", "recovers", "stops", "flat", "nan", "inf"],
)
def test_early_stopping_bears_so_many_epochs_and_restores_the_best(values, patience, epochs, best):
    assert stopped(values, patience=patience) == (epochs, best)


def test_early_stopping_may_keep_the_last_weights():
    assert stopped([5, 4, 6, 6, 1], patience=2, restore_best=False) == (4, 4)


def test_nan_from_the_start_stops_and_restores_nothing():
    assert stopped([np.nan] * 5, patience=2) == (2, 2)


def test_an_accuracy_must_rise():
    assert stopped([0.5, 0.6, 0.4, 0.3, 0.9], "val_accuracy", patience=2) == (4, 2)


def test_min_delta_is_what_counts_as_improvement():
    assert stopped([5, 4.8, 4.6, 4.4, 4.2], patience=3, min_delta=0.5) == (5, 4)
    assert stopped([5, 4.8, 4.6, 4.4, 4.2], patience=3, min_delta=0.7) == (4, 1)
    assert stopped([5, 4.8, 4.6, 4.4, 4.2], patience=3) == (5, 5)


def test_early_stopping_forgets_earlier_runs():
    stopper = mn.EarlyStopping(patience=1)
    for values, best in (([3, 2, 1], 3), ([9, 8, 10], 2)):
        net, _ = spied(epochs=3, callbacks=[Script("val_loss", values), stopper])
        assert net.params[0] == best
        assert stopper.best_epoch == best


def test_early_stopping_watches_real_validation():
    X, y = blobs()
    validation = X[:9], y[8::-1]  # other labels than those trained on: their loss soon rises
    callbacks = [mn.EarlyStopping()]
    net, history = blob_run(epochs=200, optimizer=mn.SGD(2), validation_data=validation, callbacks=callbacks)
    assert len(history) < 200
    assert mn.evaluate(net, *validation)["loss"] == min(history["val_loss"])


def test_an_unknown_column_to_watch_is_refused():
    expected = (
        r"^EarlyStopping: monitor must be a column of the history \(epoch, loss, lr, seconds\), got 'val_loss' \("
    )
    with pytest.raises(ValueError, match=expected):
        spied(callbacks=[mn.EarlyStopping()])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        ({"patience": 1.5}, TypeError, "patience must be an integer, got 1.5"),
        ({"min_delta": -1}, ValueError, "min_delta must be a finite number >= 0, got -1"),
        ({"min_delta": "0"}, TypeError, "min_delta must be a number, got '0'"),
    ],
)
def test_bad_settings_of_early_stopping_are_refused(options, error, message):
    with pytest.raises(error, match=f"^EarlyStopping: {message}"):
        mn.EarlyStopping(**options)


# ---- ProgressBar ----


def test_the_progress_bar_counts_epochs_and_closes(capsys):
    pytest.importorskip("tqdm")
    progress = mn.ProgressBar()
    spied(epochs=3, callbacks=[progress])
    assert progress.bar.n == 3
    assert progress.bar.disable  # closed
    assert "3/3" in capsys.readouterr().err
    assert "loss=28.5" in progress.bar.postfix


def test_the_progress_bar_closes_when_training_stops_early(capsys):
    pytest.importorskip("tqdm")
    progress = mn.ProgressBar()
    spied(epochs=5, callbacks=[Script("val_loss", [1, 2, 3, 4, 5]), mn.EarlyStopping(patience=1), progress])
    assert progress.bar.n == 2
    assert progress.bar.disable
    assert "val_loss=2" in capsys.readouterr().err


def test_the_progress_bar_says_how_to_get_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"^ProgressBar: needs tqdm, .*pip install 'minnet\[progress\]'"):
        mn.ProgressBar()


# ---- CSVLogger, StopAfter ----


def test_the_logger_writes_a_line_as_each_epoch_ends(tmp_path):
    seen, path = [], tmp_path / "log.csv"

    class Read:
        def on_epoch_end(self, run):
            seen.append(path.read_text(encoding="utf-8").splitlines())

    _, history = blob_run(epochs=3, callbacks=[mn.CSVLogger(path), Read()])
    assert [len(lines) for lines in seen] == [2, 3, 4]
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_bytes() == path.read_bytes()
    assert seen[0][0] == "epoch,loss,lr,seconds"


def test_the_logger_takes_columns_that_come_late(tmp_path):
    script = Script("note", [1, 2, 3])
    _, history = blob_run(epochs=3, callbacks=[mn.CSVLogger(tmp_path / "log.csv"), script])
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_bytes() == (tmp_path / "log.csv").read_bytes()
    assert "note" in (tmp_path / "log.csv").read_text(encoding="utf-8")


def test_the_logger_starts_anew_and_may_stay_empty(tmp_path):
    path = tmp_path / "log.csv"
    for epochs in (2, 1, 0):
        blob_run(epochs=epochs, callbacks=[mn.CSVLogger(path)])
        assert len(path.read_text(encoding="utf-8").splitlines()) == (epochs + 1 if epochs else 0)


def test_the_logger_fails_before_the_first_step_where_it_cannot_write(tmp_path):
    net = mn.MLP([2, 8, 3], seed=0)
    before = net.params.copy()
    with pytest.raises(FileNotFoundError):
        blob_run(net=net, callbacks=[mn.CSVLogger(tmp_path / "nowhere" / "log.csv")])
    np.testing.assert_array_equal(net.params, before)


def test_time_that_runs_out_stops_after_the_epoch(monkeypatch):
    now = iter([100.0, 103.0, 106.0, 110.0, 999.0])
    monkeypatch.setattr("minnet.callbacks.time", SimpleNamespace(monotonic=lambda: next(now)))
    _, history = spied(epochs=9, callbacks=[mn.StopAfter(10)])
    assert len(history) == 3


def test_no_time_is_one_epoch():
    assert len(spied(epochs=9, callbacks=[mn.StopAfter(seconds=0)])[1]) == 1


@pytest.mark.parametrize(("seconds", "error"), [(-1, ValueError), ("9", TypeError), (np.inf, ValueError)])
def test_a_bad_time_is_refused(seconds, error):
    with pytest.raises(error, match=r"^StopAfter: seconds must be a"):
        mn.StopAfter(seconds)


# ---- SaturationProbe ----


def set_parameters(net, *values):
    for (_, array), value in zip(net.named_parameters(), values, strict=True):
        array[...] = value
    return net


def probed(net, X, y, *, lr=0.0, epochs=0, loss="bce", **options):
    probe = mn.SaturationProbe(**options)
    mn.fit(net, X, y, loss=loss, optimizer=mn.SGD(lr), epochs=epochs, seed=0, callbacks=[probe])
    return probe.rows


@pytest.mark.parametrize(
    ("activation", "saturated"),
    [
        ("sigmoid", 3 / 8),  # a (1 - a) < 0.01 at 4.65 and -8 and 20, not at 4.5
        ("tanh", 4 / 8),  # 1 - a^2 < 0.04 at all four of the first row
        ("relu", 5 / 8),  # slope 0 at -8 and at the zeros of the second row
        ("softplus", 1 / 8),  # sigmoid(-8) < 0.04
    ],
)
def test_the_share_of_saturated_units_is_the_known_one(activation, saturated):
    net = mn.MLP([1, 4, 1], activation=activation, dtype="float64")
    set_parameters(net, [[4.5, 4.65, -8, 20]], 0, 0, 5)
    (row,) = probed(net, [[1.0], [0.0]], [1, 0])
    assert row["epoch"] == 0
    assert row["saturated"] == [saturated, 1.0]  # the logit is 5 for both rows
    assert row["stuck"] == 0.5  # and wrong for the second


def test_threshold_is_a_share_of_the_largest_slope():
    net = set_parameters(mn.MLP([1, 2, 1], dtype="float64"), [[1, 2]], 0, 0, 0)
    # the slopes are 0.1966 and 0.1050, which is 0.786 and 0.420 of the largest
    shares = [probed(net, [[1.0]], [1], threshold=t)[0]["saturated"][0] for t in (0.41, 0.43, 0.78, 0.79)]
    assert shares == [0, 0.5, 0.5, 1]


def test_gradient_norms_are_those_worked_by_hand(rng):
    net = mn.MLP([2, 3, 2], dtype="float64", seed=0)
    X, y = rng.standard_normal((5, 2)), np.array([0, 1, 1, 0, 1])
    (row,) = probed(net, X, y, loss="cross_entropy")
    W, b, V, c = (array for _, array in net.named_parameters())
    a = 1 / (1 + np.exp(-(X @ W + b)))
    exp = np.exp(a @ V + c)
    dz = (exp / exp.sum(axis=1, keepdims=True) - np.eye(2)[y]) / 5
    dh = dz @ V.T * a * (1 - a)
    norms = [np.sqrt(np.sum((x.T @ d) ** 2) + np.sum(d.sum(axis=0) ** 2)) for x, d in ((X, dh), (a, dz))]
    np.testing.assert_allclose(row["gradient_norm"], norms, rtol=1e-12)


def test_rows_are_the_start_and_every_epoch(rng):
    net, X, y = mn.MLP([2, 3, 2], seed=0), rng.standard_normal((8, 2)), np.arange(8) % 2
    rows = probed(net, X, y, loss="cross_entropy", lr=1.0, epochs=3)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert len({tuple(row["gradient_norm"]) for row in rows}) == 4


def test_only_the_first_samples_are_probed():
    net = set_parameters(mn.MLP([1, 1, 1], dtype="float64"), 1, 0, 0, 0)
    X = np.array([[9.0], [9], [0], [0]])
    shares = [probed(net, X, [0, 0, 1, 1], samples=n)[0]["saturated"][0] for n in (1, 2, 3, 4, 99)]
    assert shares == [1, 1, 2 / 3, 0.5, 0.5]


def test_labels_of_several_classes_are_stuck_output_by_output():
    net = set_parameters(mn.MLP([1, 3], dtype="float64"), 0, [9, -9, 0])
    (row,) = probed(net, np.zeros((2, 1)), [0, 1], loss="cross_entropy")
    assert row["saturated"] == [4 / 6]
    assert row["stuck"] == 2 / 6  # in the second row: sigmoid(9) should be 0, sigmoid(-9) should be 1


def test_the_probe_changes_nothing_of_training():
    with_it, _ = blob_run(net=stack(), callbacks=[mn.SaturationProbe()])
    without, _ = blob_run(net=stack())
    np.testing.assert_array_equal(with_it.params, without.params)


def test_the_probe_needs_arrays():
    with pytest.raises(ValueError, match=r"^SaturationProbe: needs X and y as arrays, got batches"):
        streamed(pairs(), callbacks=[mn.SaturationProbe()])


def test_the_probe_looks_into_nested_models():
    flat = mn.MLP([1, 4, 1], dtype="float64", seed=0)
    first, last = mn.Linear(1, 4, dtype="float64"), mn.Linear(4, 1, dtype="float64")
    nested = mn.Sequential([mn.Sequential([first, mn.Sigmoid()]), last])
    nested.params[...] = flat.params
    X, y = np.array([[9.0], [0.0]]), [0, 1]
    assert probed(nested, X, y) == probed(flat, X, y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 0}, ValueError, "threshold must be a finite number > 0 and <= 1, got 0"),
        ({"threshold": 2}, ValueError, "threshold must be a finite number > 0 and <= 1, got 2"),
        ({"threshold": None}, TypeError, "threshold must be a number, got None"),
        ({"samples": 0}, ValueError, "samples must be at least 1, got 0"),
        ({"samples": 10.0}, TypeError, "samples must be an integer, got 10.0"),
    ],
)
def test_bad_settings_of_the_probe_are_refused(options, error, message):
    with pytest.raises(error, match=f"^SaturationProbe: {message}"):
        mn.SaturationProbe(**options)


# ---- real data ----


def test_digits_are_learnt_to_96_percent():
    X, y, X_test, y_test = mn.datasets.holdout(*mn.datasets.digits(), fraction=0.2, seed=0)
    net = mn.MLP([64, 30, 10], activation="sigmoid", seed=0)
    mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.SGD(lr=0.5), epochs=30, batch_size=10, seed=0)
    accuracy = mn.evaluate(net, X_test, y_test)["accuracy"]
    print(f"digits: {accuracy:.4f} of {len(y_test)}")
    assert accuracy >= 0.96


@pytest.mark.mnist
@pytest.mark.slow
def test_mnist_is_learnt_to_95_percent():
    net = mn.MLP([784, 100, 10], activation="sigmoid", seed=0)
    optimizer = mn.SGD(lr=0.5)
    mn.fit(net, *mn.datasets.mnist("t10k"), loss="cross_entropy", optimizer=optimizer, epochs=20, batch_size=10, seed=0)
    accuracy = mn.evaluate(net, *mn.datasets.mnist("train5k"))["accuracy"]
    print(f"MNIST: {accuracy:.4f}")
    assert accuracy >= 0.95
