"""Callbacks: what happens around training. `fit` calls their methods by name and knows none of them.

Each method gets the `Run` (net, loss, optimizer, data, history, epoch) and may set ``run.stop = True``. A callback of
one's own is any object with some of the methods `on_train_begin`, `on_epoch_begin`, `on_batch_begin` and the same three
with `_end`. One that remembers something from epoch to epoch can let a `Checkpoint` keep it: `get_state()` gives it as
numbers, text, arrays, lists and dicts, `set_state(state, run)` takes it; ``run.epoch > 0`` in `on_train_begin` tells
that a run goes on and that nothing is to be forgotten.
"""

import math
import os
import time

import numpy as np

from minnet import files
from minnet import functional as F
from minnet._checks import bad_type, bad_value, integer, number, optional_module, words
from minnet.history import write_rows
from minnet.layers import ACTIVATIONS

__all__ = ["CSVLogger", "Checkpoint", "EarlyStopping", "ProgressBar", "SaturationProbe", "StopAfter"]


class EarlyStopping:
    """Stop when a column of the history has not fallen for `patience` epochs, and restore the best weights.

    Parameters
    ----------
    monitor : str
        The column, "val_loss" unless told otherwise; one whose name ends in "accuracy" must rise instead of fall.
    patience : int
        Epochs without improvement that are borne.
    min_delta : float
        What counts as an improvement.
    restore_best : bool
        Put the weights of the best epoch back at the end.
    """

    def __init__(self, monitor="val_loss", *, patience=5, min_delta=0.0, restore_best=True):
        self.monitor, self.restore_best = monitor, restore_best
        self.patience = integer("EarlyStopping", "patience", patience, 1)
        self.min_delta = number("EarlyStopping", "min_delta", min_delta, 0)

    def on_train_begin(self, run):
        """Forget earlier runs; a run that goes on may have come to its end before."""
        if not run.epoch:
            self.best, self.best_epoch, self.best_params = math.inf, 0, None
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = True

    def on_epoch_end(self, run):
        """Compare this epoch with the best so far."""
        if self.monitor not in run.history[-1]:
            rule = f"monitor must be a column of the history ({', '.join(run.history.columns)})"
            raise bad_value("EarlyStopping", rule, self.monitor, "val_ columns need validation_data")
        value = run.history[-1][self.monitor]
        score = -value if self.monitor.endswith("accuracy") else value
        if score < self.best - self.min_delta:
            self.best, self.best_epoch, self.best_params = score, run.epoch, run.net.params.copy()
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = True

    def on_train_end(self, run):
        """Put the best weights back."""
        if self.restore_best and self.best_params is not None:
            run.net.params[...] = self.best_params

    def get_state(self):
        """The best so far."""
        return {"best": self.best, "best_epoch": self.best_epoch, "best_params": self.best_params}

    def set_state(self, state, run):
        """Go on from `get_state`."""
        best, params, now = float(state["best"]), state["best_params"], run.net.params
        epoch = integer("EarlyStopping", "best_epoch", state["best_epoch"], 0)
        if params is not None and (params.shape, params.dtype) != (now.shape, now.dtype):
            raise bad_value("EarlyStopping", f"best_params must be {now.shape} of {now.dtype}", params)
        self.best, self.best_epoch, self.best_params = best, epoch, params


class Checkpoint:
    """Write all that a run needs to go on to a file, at the end of epochs, and go on from there.

    A run that was killed at any moment, and goes on with the same data, net, optimizer and callbacks, ends with the
    same bits as one that was not: the file holds the net, the optimizer, the state of the random numbers, the history
    and what the other callbacks remember. (A source of batches that shuffles by itself starts anew.) The file is
    replaced in one step, so there is always a whole one. `minnet.load` reads the net from it; with `EarlyStopping` that
    is the net of the last epoch, not of the best. Of ranks that train together the first writes, and all read: the file
    must be in a folder that all of them see, and callbacks go on with what those of the first remember.

    Parameters
    ----------
    path : str or path-like
        Ends in ".npz" or ".safetensors"; of one run at a time.
    every : int
        Epochs between two writings; the last epoch of a run is always written.
    resume : bool
        Go on from the file if there is one. The epochs of `fit` then count from the start of the first run.
    """

    outermost = True  # what it keeps is what the other callbacks have made of the epoch

    def __init__(self, path, *, every=1, resume=False):
        self.path, self.every, self.resume = os.fspath(path), integer("Checkpoint", "every", every, 1), bool(resume)
        files.check_suffix("Checkpoint", self.path)

    def on_train_begin(self, run):
        """Go on from the file; find what would keep one from being written before the first step."""
        files.describe("Checkpoint", run.net)
        if not hasattr(run.optimizer, "get_state"):
            raise bad_type("Checkpoint", "optimizer must have get_state and set_state", run.optimizer)
        if not run.ranks.rank:
            self._look_at_folder()
        if self.resume and os.path.exists(self.path):
            self._restore(run)

    def on_epoch_end(self, run):
        """Write the file if it is time."""
        if run.ranks.rank:
            return
        if run.epoch % self.every == 0 or run.stop or run.epoch == run.epochs:
            state = {
                "epoch": run.epoch,
                "rng": run.rng.bit_generator.state,
                "optimizer": run.optimizer.get_state(),
                "history": run.history.rows,
                "callbacks": [[type(c).__name__, c.get_state()] for c in _remembering(run)],
            }
            files.write("Checkpoint", self.path, run.net, state)

    def _look_at_folder(self):
        folder = os.path.dirname(os.path.realpath(self.path))
        if not os.access(folder, os.W_OK):
            raise bad_value("Checkpoint", "path must be in a folder that can be written to", self.path)
        files.remove_leftovers(self.path)

    def _restore(self, run):
        document, arrays, state = files.read("Checkpoint", self.path)
        try:
            self._check(run, document, arrays, state)
            run.epoch = state["epoch"]
            for callback, (_, remembered) in zip(_remembering(run), state["callbacks"], strict=True):
                callback.set_state(remembered, run)
            run.optimizer.set_state(state["optimizer"], run.net.params)
        except Exception as error:  # whatever a state of something else leads to
            run.epoch = 0
            rule = f"{self.path} must be of a run of this net, optimizer and these callbacks"
            raise bad_value("Checkpoint", rule, words(f"another: {error!s:.300}")) from error
        files.fill("Checkpoint", run.net, arrays)
        run.rng.bit_generator.state = state["rng"]
        run.history.rows[:] = state["history"]

    def _check(self, run, document, arrays, state):
        """Whether the file is of such a run; nothing is changed yet."""
        described = files.describe("Checkpoint", run.net)
        if document.get("net") != described:
            raise bad_value("Checkpoint", f"the net must be {described}", document.get("net"))
        files.check_fit("Checkpoint", run.net, arrays)
        if not isinstance(state, dict):
            raise bad_value("Checkpoint", "the file must hold a run", words("a net alone"))
        epoch, rows = integer("Checkpoint", "epoch", state["epoch"], 1), state["history"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or len(rows) != epoch:
            raise bad_value("Checkpoint", f"the history must have {epoch} rows", rows)
        type(run.rng.bit_generator)(0).state = state["rng"]  # raises an error if it is of another kind
        kinds = [type(callback).__name__ for callback in _remembering(run)]
        if [kind for kind, _ in state["callbacks"]] != kinds:
            raise bad_value("Checkpoint", f"callbacks must be {kinds}", [kind for kind, _ in state["callbacks"]])


def _remembering(run):
    """The callbacks that have something to be kept."""
    return [callback for callback in run.callbacks if hasattr(callback, "get_state")]


class ProgressBar:
    """A bar with the epochs, the time left and the last row of the history (extra `progress`: tqdm)."""

    def __init__(self):
        self._tqdm = optional_module("ProgressBar", "tqdm.auto", "progress").tqdm

    def on_train_begin(self, run):
        """Open the bar."""
        hidden = run.ranks.rank > 0  # one bar for ranks that train together
        self.bar = self._tqdm(total=run.epochs, initial=run.epoch, unit="epoch", disable=hidden)

    def on_epoch_end(self, run):
        """Move on by one epoch."""
        row = run.history[-1]
        self.bar.set_postfix({name: f"{row[name]:.4g}" for name in row if name.endswith(("loss", "accuracy"))})
        self.bar.update()

    def on_train_end(self, run):
        """Close the bar."""
        self.bar.close()


class CSVLogger:
    """Write the history to a CSV file, a line an epoch as it ends; the file is what `History.to_csv` writes.

    Parameters
    ----------
    path : str or path-like
        Written anew by every run; one that goes on begins with the epochs it has. Of ranks that train together the
        first writes.
    """

    def __init__(self, path):
        self.path = os.fspath(path)

    def on_train_begin(self, run):
        """Write what there is of a run that goes on."""
        self.columns, self.written = None, 0
        self.on_epoch_end(run)

    def on_epoch_end(self, run):
        """Write the last row, or all of them where there are new columns."""
        if run.ranks.rank:
            return
        rows, columns = run.history.rows, run.history.columns
        if columns != self.columns:
            self.columns, self.written = columns, 0
        with open(self.path, "a" if self.written else "w", newline="", encoding="utf-8") as file:
            write_rows(file, columns, rows[self.written :], named=columns and not self.written)
        self.written = len(rows)

    def on_train_end(self, run):
        """Write all once more, as callbacks may have added to the last row."""
        self.on_train_begin(run)


class StopAfter:
    """Stop at the end of the epoch in which the time runs out.

    Parameters
    ----------
    seconds : float
        From the start of this `fit`, validation and callbacks included.
    """

    def __init__(self, seconds):
        self.seconds = number("StopAfter", "seconds", seconds, 0)

    def on_train_begin(self, run):
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, run):
        """Look at the clock."""
        if time.monotonic() - self.started >= self.seconds:
            run.stop = True


class SaturationProbe:
    """Record, before the first epoch and after each, how many units are saturated and how large the gradients are.

    A unit is saturated on a sample when its slope f'(x) is below `threshold` times the largest slope of f: with 0.04, a
    sigmoid below 0.0101 or above 0.9899. Outputs count through the sigmoid of the logit. The rows, dictionaries in
    `rows`, hold

    - "epoch": 0 for the start;
    - "saturated": a share for each activation layer and, last, for the outputs;
    - "stuck": the share of outputs that are saturated on the wrong side, more than 1/2 away from their target;
    - "gradient_norm": |dC/dparams| of each layer with parameters, first to last, over the probed samples.

    Parameters
    ----------
    threshold : float in (0, 1)
        Where saturation starts.
    samples : int
        How many of the first training samples are probed.
    """

    def __init__(self, *, threshold=0.04, samples=1000):
        self.threshold = number("SaturationProbe", "threshold", threshold, 0, 1, above=True)
        self.samples = integer("SaturationProbe", "samples", samples, 1)

    def on_train_begin(self, run):
        """Measure the start."""
        if run.y is None:
            raise bad_value("SaturationProbe", "needs X and y as arrays", words("batches"))
        if not run.epoch:
            self.rows = []
            self._measure(run)

    def on_epoch_end(self, run):
        """Measure the epoch that has ended."""
        self._measure(run)

    def get_state(self):
        """The rows."""
        return self.rows

    def set_state(self, state, run):
        """Go on from `get_state`."""
        if not isinstance(state, list) or len(state) != run.epoch + 1:
            raise bad_value("SaturationProbe", f"the rows must be {run.epoch + 1}", state)
        self.rows = state

    def _measure(self, run):
        x, y = run.X[: self.samples], run.y[: self.samples]
        saturated, logits = [], x
        for layer in _leaves(run.net):
            before, logits = logits, layer.forward(logits)
            if getattr(layer, "name", None) in ACTIVATIONS:
                saturated.append(float(np.mean(self._saturated(layer.name, before))))
        saturated.append(float(np.mean(self._saturated("sigmoid", logits))))
        run.net.backward_params(run.loss.value_and_grad(logits, y)[1])
        norms = [float(np.linalg.norm(layer.grads)) for layer in _leaves(run.net) if layer.size]
        wrong = np.abs(F.sigmoid(logits) - _per_output(y, logits)) > 0.5
        stuck = float(np.mean(wrong & self._saturated("sigmoid", logits)))
        self.rows.append({"epoch": run.epoch, "saturated": saturated, "stuck": stuck, "gradient_norm": norms})

    def _saturated(self, name, x):
        """Where the activation `name` is flat at x; its largest slope is 1, or 1/4 for a sigmoid."""
        return F.value_and_slope(name, x)[1] < self.threshold * (0.25 if name == "sigmoid" else 1.0)


def _leaves(net):
    """The layers of a net in order, those of nested nets too."""
    return [leaf for layer in net.layers for leaf in _leaves(layer)] if hasattr(net, "layers") else [net]


def _per_output(y, logits):
    """Targets with the shape of the logits: labels of C > 1 classes become one-hot rows."""
    if y.shape == logits.shape:
        return y
    return y.reshape(logits.shape) if y.size == logits.size else np.eye(logits.shape[1])[y]
