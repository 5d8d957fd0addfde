"""fit: the training loop. It owns time: epochs, batches, the order of the samples, the history.

Callbacks are called by the names of their methods (`on_train_begin`, `on_epoch_begin`, `on_batch_begin`, and the same
with `_end`), each with one argument, the `Run`; they may read all of it and set ``run.stop = True``.
"""

import time

import numpy as np

from minnet._checks import (
    any_array,
    bad_type,
    bad_value,
    generator,
    integer,
    optional_module,
    real_array,
    words,
)
from minnet.losses import get_loss

__all__ = ["History", "evaluate", "fit"]

EVENTS = [f"on_{thing}_{edge}" for thing in ("train", "epoch", "batch") for edge in ("begin", "end")]


class History:
    """What happened, an epoch a row: ``history["val_loss"]`` is a list, ``history[-1]`` the last epoch as a dict.

    Columns: "epoch" (from 1), "loss" (mean over the epoch, while the weights moved), "seconds"; with validation data
    "val_loss" and, for losses that classify, "val_accuracy"; and what callbacks add.
    """

    def __init__(self):
        self.rows = []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.columns:
                rule = f"column must be one of {', '.join(map(repr, self.columns)) or 'none, as no epoch has ended'}"
                raise bad_value("History", rule, key)
            return [row.get(key, np.nan) for row in self.rows]
        return self.rows[key]

    @property
    def columns(self):
        """The names of the columns, in the order of their coming."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def plot(self, *, ax=None):
        """Draw losses, and accuracies on a second axis, against epochs; gives the matplotlib axes (extra `plot`)."""
        if ax is None:
            figure = optional_module("History.plot", "matplotlib.figure", "plot").Figure(layout="constrained")
            ax = figure.add_subplot()
        ax.set(xlabel="epoch", ylabel="loss")
        lines = [ax.plot(self["epoch"], self[name], label=name)[0] for name in self.columns if name.endswith("loss")]
        scores = [name for name in self.columns if name.endswith("accuracy")]
        if scores:
            right = ax.twinx()
            right.set_ylabel("accuracy")
            lines += [right.plot(self["epoch"], self[name], "--", color="0.5", label=name)[0] for name in scores]
        if lines:
            ax.legend(handles=lines)
        return ax

    def __repr__(self):
        if not self.rows:
            return "History(no epochs)"
        plain = [name for name in self.columns if isinstance(self.rows[-1].get(name), (int, float))]
        shown = self.rows if len(self.rows) <= 12 else [*self.rows[:5], None, *self.rows[-5:]]
        lines = ["  ".join(f"{name:>12}" for name in plain)]
        for row in shown:
            lines.append("  ".join(f"{'...' if row is None else _cell(row.get(name)):>12}" for name in plain))
        return "\n".join(lines)


def _cell(value):
    return "" if value is None else f"{value}" if isinstance(value, int) else f"{value:.5g}"


class Run:
    """A run as callbacks see it: net, loss, optimizer, X, y, validation_data, history, epoch, epochs, batch, stop."""

    def __init__(self, net, X, y, loss, optimizer, epochs, validation_data):
        self.net, self.X, self.y, self.loss, self.optimizer = net, X, y, loss, optimizer
        self.epochs, self.validation_data = epochs, validation_data
        self.history, self.epoch, self.batch, self.stop = History(), 0, 0, False


def fit(
    net, X, y, *, loss, optimizer, epochs=10, batch_size=32, shuffle=True, validation_data=None, callbacks=(), seed=None
):
    """Train `net` by mini-batch descent.

    Parameters
    ----------
    net : Sequential or MLP
        Trained in place.
    X : array_like, shape (N, I)
        Samples; cast to the net's dtype once.
    y : array_like
        Targets, N rows, as the loss takes them.
    loss : str or Loss
        "cross_entropy", "bce", "mse", or an object with `value_and_grad`.
    optimizer : Optimizer
        It keeps its state (velocity, means) between calls.
    epochs, batch_size : int
        Passes over the data, and rows a step; the last batch of an epoch may be smaller.
    shuffle : bool
        Draw a new order of the samples for every epoch.
    validation_data : (X, y), optional
        Evaluated after every epoch.
    callbacks : list
        Objects with some of the methods `on_train_begin(run)` ... `on_batch_end(run)`.
    seed : int or numpy.random.Generator, optional
        For order and dropout.

    Returns
    -------
    History

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, before the first step.
    """
    loss, rng = _trainable_loss("fit", loss), generator("fit", seed)
    X, y = _training_data("fit", net, X, y, loss)
    batch_size = integer("fit", "batch_size", batch_size, 1)
    if not hasattr(optimizer, "step") or isinstance(optimizer, type):
        raise bad_type("fit", "optimizer must be an object such as SGD(lr=0.1)", optimizer)
    if validation_data is not None:
        validation_data = _training_data("fit", net, *_pair(validation_data), loss, "validation_data's ")
    if hasattr(optimizer, "assign") and hasattr(net, "named_parameters"):
        optimizer.assign(net.named_parameters())
    run = Run(net, X, y, loss, optimizer, integer("fit", "epochs", epochs, 0), validation_data)
    emit = _emitter(callbacks, run)

    emit("on_train_begin")
    try:
        while run.epoch < run.epochs and not run.stop:
            run.epoch += 1
            emit("on_epoch_begin")
            started = time.perf_counter()
            order = rng.permutation(len(X)) if shuffle else np.arange(len(X))
            row = {"epoch": run.epoch, "loss": _train_epoch(run, order, batch_size, rng, emit)}
            row["seconds"] = time.perf_counter() - started
            if validation_data is not None:
                scores = _scores(net, *validation_data, loss)
                row.update({f"val_{name}": score for name, score in scores.items()})
            run.history.rows.append(row)
            emit("on_epoch_end")
    finally:
        emit("on_train_end")  # bars are closed and the best weights restored, also when something went wrong
    return run.history


def _train_epoch(run, order, batch_size, rng, emit):
    """One pass over the samples in `order`; the mean loss, each batch weighing as many rows as it has."""
    net, total = run.net, 0.0
    for run.batch, start in enumerate(range(0, len(order), batch_size)):
        emit("on_batch_begin")
        rows = order[start : start + batch_size]
        outputs = net.forward(run.X[rows], rng)
        value, gradient = run.loss.value_and_grad(outputs, run.y[rows])
        net.backward_params(gradient)
        run.optimizer.step(net.params, net.grads)
        total += float(value) * _weight(run.loss, len(rows))
        emit("on_batch_end")
    return total / len(order)


def evaluate(net, X, y, *, loss="cross_entropy", batch_size=4096):
    """Loss of a net on data, and its accuracy if the loss classifies.

    Parameters
    ----------
    net : Sequential or MLP
        Used without dropout.
    X, y : array_like
        Samples (N, I) and targets, N rows.
    loss : str or Loss
        As in `fit`.
    batch_size : int
        Rows at a time, a bound on memory.

    Returns
    -------
    dict
        "loss", and "accuracy" for losses that classify.
    """
    loss = _trainable_loss("evaluate", loss)
    X, y = _training_data("evaluate", net, X, y, loss)
    return _scores(net, X, y, loss, integer("evaluate", "batch_size", batch_size, 1))


def _scores(net, X, y, loss, batch_size=4096):
    """The sums behind `evaluate`, over batches, and their means."""
    sums = {"loss": 0.0}
    for start in range(0, len(X), batch_size):
        outputs, target = net.forward(X[start : start + batch_size]), y[start : start + batch_size]
        sums["loss"] += float(loss(outputs, target)) * _weight(loss, len(target))
        if hasattr(loss, "accuracy"):
            sums["accuracy"] = sums.get("accuracy", 0.0) + loss.accuracy(outputs, target) * len(target)
    return {name: total / len(X) for name, total in sums.items()}


def _weight(loss, rows):
    """What the loss of a batch counts in a mean over all rows: a sum has counted its rows already."""
    return 1 if getattr(loss, "reduction", "mean") == "sum" else rows


def _training_data(owner, net, X, y, loss, whose=""):
    """X (N, ...) in the net's dtype and y with as many rows, at least one, that net and loss take."""
    if isinstance(net, type) or not all(hasattr(net, name) for name in ("forward", "backward_params", "params")):
        raise bad_type(owner, "net must be a model such as MLP([64, 30, 10])", net)
    X, y = real_array(owner, f"{whose}X", X), any_array(owner, f"{whose}y", y)
    if X.ndim < 2:
        raise bad_value(owner, f"{whose}X must have shape (N, I)", X.shape, "one feature is X[:, None]")
    if y.shape[:1] != X.shape[:1]:
        raise bad_value(owner, f"{whose}y must have as many rows as X, {len(X)}", y.shape)
    if not len(X):
        raise bad_value(owner, f"{whose}X must have at least one row", X.shape)
    X = X.astype(net.params.dtype, copy=False)
    loss(np.repeat(net.forward(X[:1]), len(X), axis=0), y)  # all targets are checked before the first step
    return X, y


def _trainable_loss(owner, loss):
    loss = get_loss(owner, loss)
    if getattr(loss, "reduction", "mean") == "none":
        raise bad_value(owner, "loss must reduce to one number", loss, 'reduction="mean"')
    return loss


def _pair(data):
    try:
        X, y = data
    except (TypeError, ValueError):
        raise bad_type("fit", "validation_data must be a pair (X, y)", words(type(data).__name__)) from None
    return X, y


def _emitter(callbacks, run):
    """A function of an event's name that calls the methods of that name; callbacks without one cost nothing."""
    if not isinstance(callbacks, (list, tuple)):
        raise bad_type("fit", "callbacks must be a list", callbacks)
    methods = {event: [getattr(c, event) for c in callbacks if hasattr(c, event)] for event in EVENTS}
    for callback in callbacks:
        if isinstance(callback, type) or not any(hasattr(callback, event) for event in EVENTS):
            raise bad_type("fit", f"a callback must be an object with a method such as {EVENTS[3]}", callback)

    def emit(event):
        for method in methods[event]:
            method(run)

    return emit
