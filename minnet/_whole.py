"""Epochs in compiled code, where nobody looks at their batches: what `training.py` does, by the steps of `_plain.py`.

A batch that does not come through is left to the layers, which compute it or say what is wrong. So is every batch that
someone may look at or make: callbacks of batches, and sources, may change the rate or the weights on the way, and one
step a call, for which all parameters are copied to and fro, would be no faster.
"""

import time

import numpy as np

from minnet._batches import Arrays
from minnet._plain import plain_steps


def whole_epochs(run):
    """Train several epochs in one call, if nobody looks in between; whether it was done.

    Each then has the same time. What goes wrong in one of them is taken back, and they go one by one.
    """
    if run.validation_data is not None or run.metrics or not run.several:
        return False
    started, data, optimizer, steps = time.perf_counter(), run.data, run.optimizer, _steps(run)
    count = 0 if steps is None else min(run.epochs - run.epoch, steps.epochs_a_call(data))
    if count < 2 or callable(optimizer.lr):
        return False
    losses = steps.epochs(data, run.rng, count)
    if losses is None:
        run.several = False  # it would go wrong there again
        return False
    means = _sum(losses, data.size, len(data.X)) / len(data.X)
    seconds = (time.perf_counter() - started) / count
    run.history.add_call(run.epoch + 1, means, lr=optimizer.rate, seconds=seconds)
    run.history.path, run.epoch, optimizer.epochs = "epoch", run.epoch + count, optimizer.epochs + count
    return True


def whole_epoch(run):
    """Train an epoch in calls of a tenth of a second, and give the batches (x, y) that are left; None where all are."""
    steps = _steps(run)
    targets = None if steps is None else steps.targets(run.data.X, run.data.y)
    return None if targets is None else _calls(run, steps, targets)


def _steps(run):
    """Compiled steps, if the net is plain, its data is in memory, and nobody else takes part in its steps."""
    if run.ranks.size > 1 or type(run.data) is not Arrays or run.data.mapped:
        return None
    return plain_steps(run.net, run.loss, run.optimizer, run.data.most)


def _calls(run, steps, targets):
    data, order, start = run.data, run.data.order(run.rng), 0
    while start < len(order):
        rows = order[start : start + steps.rows_a_call(data.size)]
        done = _take(run, steps, targets, rows)
        start += done
        if done < len(rows):
            rows = order[start : start + data.size]
            start += len(rows)
            yield data.X[rows], data.y[rows]


def _take(run, steps, targets, rows):
    """Steps for these rows, their losses and metrics; how many rows came through."""
    data, size, strict = run.data, run.data.size, run.on_nonfinite != "ignore" and not run.warned
    outputs = steps.outputs(len(rows)) if run.metrics else None
    losses = steps.take(data.X, targets, rows, size, len(rows), strict, outputs)
    done = min(len(losses) * size, len(rows))
    if done:
        run.history.path = "epoch"
    if not run.metrics:
        run.rows, run.batch = run.rows + done, run.batch + len(losses)
        run.sums["loss"] += float(_sum(losses, size, done))
        return done
    for start, loss in zip(range(0, done, size), losses.tolist(), strict=True):
        batch = slice(start, min(start + size, done))
        run.add(outputs[batch], data.y[rows[batch]], loss * (batch.stop - start))
        run.batch += 1
    return done


def _sum(losses, size, rows):
    """The sum over the last axis, each batch weighing its rows: the last may have fewer. Always added in one order."""
    counts = np.diff(np.minimum(np.arange(losses.shape[-1] + 1) * size, rows))
    return np.sum(losses * counts, axis=-1)
