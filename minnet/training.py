"""fit: the training loop. It owns time: epochs, batches, the order of the samples, the history.

Callbacks are called by the names of their methods (`on_train_begin`, `on_epoch_begin`, `on_batch_begin`, and the same
with `_end`), each with one argument, the `Run`; they may read all of it and set ``run.stop = True``. They are called
in the order of the list, but one with a true attribute `outermost` begins before all others and ends after them.
"""

import copy
import math
import time
import warnings

import numpy as np

from minnet._batches import Arrays, Stream, training_data
from minnet._checks import bad_type, bad_value, choice, generator, integer, words
from minnet._parallel import Alone, ranks_of
from minnet._rooms import Rooms
from minnet._whole import whole_epoch, whole_epochs
from minnet.history import History
from minnet.losses import get_loss, is_sum, weight_of

__all__ = ["History", "evaluate", "fit"]

EVENTS = [f"on_{thing}_{edge}" for thing in ("train", "epoch", "batch") for edge in ("begin", "end")]


class Run:
    """A run as callbacks see it.

    net, loss, optimizer, X, y, epochs, validation_data, metrics, callbacks are those of `fit`; X and y as they are
    trained on, y None where X is a source of batches. rng draws orders and dropout. history, epoch (from 1, the one
    under way or the last), batch (from 0) tell how far it is; stop, once True, ends it after the epoch. ranks are those
    that train together (`minnet._parallel`), ranks.rank is 0 for one process alone.
    """

    def __init__(self, **settings):
        self.history, self.epoch, self.batch, self.stop, self.warned = History(), 0, 0, False, False
        self.several, self.rooms = True, Rooms()  # whether epochs may go together, see `_whole`
        self.__dict__.update(settings)

    def add(self, outputs, target, loss):
        """Count a batch: its loss, times its rows, and its metrics."""
        rows = len(target)
        self.rows, self.sums["loss"] = self.rows + rows, self.sums["loss"] + loss
        for metric in self.metrics:
            self.sums[metric.__name__] += metric(outputs, target) * rows


def fit(
    net,
    X,
    y=None,
    *,
    loss,
    optimizer,
    epochs=10,
    batch_size=32,
    shuffle=True,
    validation_data=None,
    metrics=(),
    callbacks=(),
    on_nonfinite="raise",
    seed=None,
    comm=None,
):
    """Train `net` by mini-batch descent. Ctrl-C ends it with the history so far.

    Parameters
    ----------
    net : Sequential or MLP
        Trained in place.
    X : array_like, shape (N, I), or iterable of batches, or callable
        Samples; cast to the net's dtype once. A memory-mapped array (``numpy.load(..., mmap_mode="r")``,
        `numpy.memmap`) is gathered, and cast, a batch at a time. Without `y`, batches (x, y): something that can be
        iterated over once an epoch, or a function without arguments that gives an iterator for each epoch; batch_size
        and shuffle are then the source's own business.
    y : array_like
        Targets, N rows, as the loss takes them.
    loss : str or Loss
        "cross_entropy", "bce", "mse", or an object with `value_and_grad`.
    optimizer : Optimizer
        It keeps its state (velocity, means, epochs of a schedule) between calls.
    epochs, batch_size : int
        Passes over the data, and rows a step; the last batch of an epoch may be smaller.
    shuffle : bool
        Draw a new order of the samples for every epoch.
    validation_data : (X, y), optional
        Evaluated after every epoch.
    metrics : list of functions
        Each gives a number from (outputs, target), such as `metrics.accuracy`; recorded under its name, a mean over the
        rows of the epoch, and of the validation data. It may keep both arrays.
    callbacks : list
        Objects with some of the methods `on_train_begin(run)` ... `on_batch_end(run)`. A net that they call gives new
        arrays; those of the steps themselves are written over by the next.
    on_nonfinite : {"raise", "warn", "ignore"}
        What a loss of NaN or infinity does: an error before the step it would make, one warning a run, or nothing.
    seed : int or numpy.random.Generator, optional
        For order and dropout.
    comm : communicator, optional
        Such as mpi4py's ``MPI.COMM_WORLD``: its ranks train one net together, see Notes.

    Returns
    -------
    History

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, before the first step; if the loss is not finite. An error within an epoch, also one of
        the source of batches, has a note with the epoch (from 1) and the batch (from 0).

    Notes
    -----
    With `comm`, every rank calls `fit` with rows of its own in X, y and validation_data, and batch_size is its part of
    a step: a step is that of the mean over the rows of all ranks, and to rounding what one process would do with the
    union of the batches. Where shares differ in length, ranks that have no rows left join in the steps of the others.
    All start from rank 0's parameters and optimizer state and hold the same bits from then on, and the same history;
    orders and dropout of the other ranks are drawn from generators that follow from rank 0's. Callbacks run on every
    rank, on_batch events for its own batches; rank 0 writes the files, draws the bar, and decides when to stop.
    A wrong argument or a loss that is not finite is an error on all ranks; any other error within an epoch, Ctrl-C
    too, is printed and ends the job (``comm.Abort``), so that nobody waits for ever. For errors outside of `fit` start
    with ``mpiexec -n 2 python -m mpi4py train.py``.
    """
    ranks = ranks_of("fit", comm)
    with ranks.agreed():
        run = _checked_run(
            net,
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validation_data=validation_data,
            metrics=metrics,
            callbacks=callbacks,
            on_nonfinite=on_nonfinite,
            seed=seed,
            ranks=ranks,
        )
        emit = Events(callbacks, run)
        emit("on_train_begin")
    ranks.start(run)
    try:
        with ranks.aborting():
            while run.epoch < run.epochs and not run.stop:
                if not callbacks and whole_epochs(run):
                    continue
                run.epoch += 1
                ranks.begin_epoch(run)
                emit("on_epoch_begin")
                run.history.rows.append(_epoch(run, emit))
                emit("on_epoch_end")
                run.stop = ranks.stopped(run.stop)
    except KeyboardInterrupt:
        run.history.interrupted = True
    finally:
        with ranks.agreed():
            emit("on_train_end")  # bars are closed and the best weights restored, also when something went wrong
    return run.history


def _checked_run(net, X, y, *, loss, optimizer, batch_size, shuffle, validation_data, seed, **settings):
    """All that `fit` is told, checked before the first step."""
    loss, rng, net = _trainable_loss("fit", loss), generator("fit", seed), _trainable_net("fit", net)
    data = _source(net, X, y, loss, integer("fit", "batch_size", batch_size, 1), shuffle)
    if not hasattr(optimizer, "step") or isinstance(optimizer, type):
        raise bad_type("fit", "optimizer must be an object such as SGD(lr=0.1)", optimizer)
    if validation_data is not None:
        validation_data = training_data("fit", net, *_pair(validation_data), loss, "validation_data's ")
    if hasattr(optimizer, "assign") and hasattr(net, "named_parameters"):
        optimizer.assign(net.named_parameters())
    settings["epochs"] = integer("fit", "epochs", settings["epochs"], 0)
    settings["metrics"] = _checked_metrics("fit", settings["metrics"])
    settings["on_nonfinite"] = choice("fit", "on_nonfinite", settings["on_nonfinite"], ["raise", "warn", "ignore"])
    source = {"X": getattr(data, "X", X), "y": getattr(data, "y", None), "data": data}
    model = {"net": net, "loss": loss, "optimizer": optimizer, "rng": rng}
    return Run(**model, **source, validation_data=validation_data, **settings)


def _epoch(run, emit):
    """Train and evaluate for one epoch; its row of the history."""
    started, optimizer = time.perf_counter(), run.optimizer
    row = {"epoch": run.epoch, **_train(run, emit)}
    if hasattr(optimizer, "rate"):
        row["lr"] = optimizer.rate
    row["seconds"] = time.perf_counter() - started
    if run.validation_data is not None:
        scores = run.ranks.means(*_scores(run.net, *run.validation_data, run.loss, run.metrics))
        row.update({f"val_{name}": score for name, score in scores.items()})
    row = run.ranks.end_epoch(row, run.net.params)
    if hasattr(optimizer, "end_epoch"):
        optimizer.end_epoch(row)
    return row


def _train(run, emit):
    """One pass over the batches; mean loss and metrics, each batch weighing as many rows as it has."""
    run.batch, run.rows, run.sums = 0, 0, dict.fromkeys(["loss", *(metric.__name__ for metric in run.metrics)], 0.0)
    run.history.path, watched = "layers", emit.heard("on_batch_begin", "on_batch_end")
    try:
        for x, target in (None if watched else whole_epoch(run)) or run.data.epoch(run.rng):
            emit("on_batch_begin")
            outputs, value = _step(run, x, target)
            if run.metrics:  # they may keep what they are given, and the next step writes over it
                outputs, target = copy.copy(outputs), copy.copy(target)
            run.add(outputs, target, value * _weight(run.loss, len(x)))
            emit("on_batch_end")
            run.batch += 1
        run.ranks.follow(run, _update)
    except Exception as error:
        error.add_note(f"fit: in epoch {run.epoch}, batch {run.batch}")
        raise
    return run.ranks.means_of_steps(run.sums, dict.fromkeys(run.sums, run.rows))


def _step(run, x, target):
    """Forward, backward, update; the outputs and the loss."""
    net = run.net
    with run.rooms:
        outputs = net.forward(x, run.rng)
        value, gradient = run.loss.value_and_grad(outputs, target)
        net.backward_params(gradient)
        value = run.ranks.reduce(net.grads, float(value), run.loss, target)
        _update(run, value, x)
    return outputs, value


def _update(run, value, x=()):
    """The step of the weights, if the loss is such that there should be one."""
    if not math.isfinite(value):
        _report_nonfinite(run, x, value)
    run.optimizer.step(run.net.params, run.net.grads)


def _report_nonfinite(run, x, value):
    """What a loss of NaN or infinity leads to, before it moves the weights."""
    if run.on_nonfinite == "ignore" or run.warned:
        return
    got = f"{value} in epoch {run.epoch}, batch {run.batch}; the largest gradient is {_largest_gradient(run.net)}"
    hint = "try a smaller lr, clip_norm=1.0 of the optimizer, or X scaled to about 1"
    if not np.all(np.isfinite(x)):
        hint = "X holds NaN or infinity in this batch"
    error = bad_value("fit", "loss must be finite", words(got), f'{hint}; on_nonfinite="ignore" goes on')
    if run.on_nonfinite == "raise":
        run.ranks.alike = error
        raise error
    run.warned = True
    warnings.warn(str(error), RuntimeWarning, stacklevel=7)


def _largest_gradient(net):
    """The size of the largest gradient, NaN being the largest of all, and the name of its parameter."""
    named, start = net.named_parameters() if hasattr(net, "named_parameters") else [], 0
    largest, where = -1.0, ""
    for name, array in named or [("", net.grads)]:
        grads, start = np.abs(net.grads[start : start + array.size]), start + array.size
        size = float(np.max(grads, initial=0.0))
        if not size <= largest and not math.isnan(largest):
            largest, where = size, f" in {name}" if name else ""
    return f"{largest:.3g}{where}"


def evaluate(net, X, y, *, loss="cross_entropy", metrics=(), batch_size=4096):
    """Loss of a net on data, its accuracy if the loss classifies, and metrics.

    Parameters
    ----------
    net : Sequential or MLP
        Used without dropout.
    X, y : array_like
        Samples (N, I) and targets, N rows; memory-mapped arrays are read a batch at a time.
    loss : str or Loss
        As in `fit`.
    metrics : list of functions
        As in `fit`.
    batch_size : int
        Rows at a time, a bound on memory.

    Returns
    -------
    dict
        "loss", "accuracy" for losses that classify, and the metrics by their names.
    """
    loss, net = _trainable_loss("evaluate", loss), _trainable_net("evaluate", net)
    X, y = training_data("evaluate", net, X, y, loss)
    metrics = _checked_metrics("evaluate", metrics)
    return Alone().means(*_scores(net, X, y, loss, metrics, integer("evaluate", "batch_size", batch_size, 1)))


def _scores(net, X, y, loss, metrics=(), batch_size=4096):
    """Sums over batches, and what they are to be divided by: rows, or what the targets weigh in the loss."""
    sums, counts, judges = {"loss": 0.0}, {"loss": 0}, {metric.__name__: metric for metric in metrics}
    if hasattr(loss, "accuracy"):
        judges = {"accuracy": loss.accuracy} | judges
    for start in range(0, len(X), batch_size):
        outputs, target = net.forward(X[start : start + batch_size]), y[start : start + batch_size]
        weight = weight_of(loss, target)
        sums["loss"] += float(loss(outputs, target)) * weight
        counts["loss"] += len(target) if is_sum(loss) else weight
        for name, judge in judges.items():
            sums[name] = sums.get(name, 0.0) + judge(outputs, target) * len(target)
    return sums, counts | dict.fromkeys(judges, len(X))


def _weight(loss, rows):
    """What the loss of a batch counts in a mean over all rows: a sum has counted its rows already."""
    return 1 if is_sum(loss) else rows


def _source(net, X, y, loss, batch_size, shuffle):
    """Arrays if there is a y or X is an array, else a source of batches."""
    if y is None and not hasattr(X, "__array__") and not isinstance(X, (bool, int, float, complex, str, type(None))):
        return Stream("fit", X)
    return Arrays(*training_data("fit", net, X, y, loss), batch_size, shuffle)


def _trainable_net(owner, net):
    if isinstance(net, type) or not all(hasattr(net, name) for name in ("forward", "backward_params", "params")):
        raise bad_type(owner, "net must be a model such as MLP([64, 30, 10])", net)
    return net


def _trainable_loss(owner, loss):
    loss = get_loss(owner, loss)
    if getattr(loss, "reduction", "mean") == "none":
        raise bad_value(owner, "loss must reduce to one number", loss, 'reduction="mean"')
    return loss


def _checked_metrics(owner, metrics):
    """A list of functions with names that are not those of other columns."""
    if not isinstance(metrics, (list, tuple)):
        raise bad_type(owner, "metrics must be a list", metrics)
    names = ["epoch", "loss", "lr", "seconds"]
    for metric in metrics:
        name = getattr(metric, "__name__", None)
        if not callable(metric) or not isinstance(name, str):
            raise bad_type(owner, "a metric must be a function of (outputs, target)", metric)
        if name in names:
            raise bad_value(owner, "metrics must have names of their own", name)
        names.append(name)
    return metrics


def _pair(data):
    try:
        X, y = data
    except (TypeError, ValueError):
        raise bad_type("fit", "validation_data must be a pair (X, y)", words(type(data).__name__)) from None
    return X, y


class Events:
    """Calls the methods of callbacks by an event's name; callbacks without one cost nothing."""

    def __init__(self, callbacks, run):
        if not isinstance(callbacks, (list, tuple)):
            raise bad_type("fit", "callbacks must be a list", callbacks)
        for callback in callbacks:
            if isinstance(callback, type) or not any(hasattr(callback, event) for event in EVENTS):
                raise bad_type("fit", f"a callback must be an object with a method such as {EVENTS[3]}", callback)
        self.run, self.methods = run, {}
        for event in EVENTS:
            begins = event.endswith("begin")
            ordered = sorted(callbacks, key=lambda c, begins=begins: getattr(c, "outermost", False) != begins)
            self.methods[event] = [getattr(c, event) for c in ordered if hasattr(c, event)]

    def __call__(self, event):
        for method in self.methods[event]:
            method(self.run)

    def heard(self, *events):
        """Whether there is a method for one of them."""
        return any(self.methods[event] for event in events)
