"""Millions of single sigmoid neurons at once, each trained as by `train_neuron`: from how many starts does one learn?

The compiled loops are in _population.pyx, with the derivation of why a whole neuron is one number there.
"""

import math

import numpy as np

from minnet import _population as kernels
from minnet._checks import any_array, bad_type, bad_value, choice, integer, number, real_array, words
from minnet._threads import run_chunks
from minnet.layers import model_dtype

__all__ = ["NeuronsRun", "run_neurons"]

OWNER = "run_neurons"
POWERS = {"mse": 2, "bce": 0, "mae": 1, "quartic": 4}  # of the error; 0 stands for cross-entropy
MOST_EPOCHS = 2**24  # they are counted in floats, which hold every integer up to here
BLOCK = 256  # neurons that the kernel takes at once
CHUNK = 2**24  # neurons times epochs of a chunk for one of several threads: some milliseconds


class NeuronsRun:
    """What became of many neurons; all arrays have the shape S that their parameters have together.

    Attributes
    ----------
    w, b, output : ndarray S
        Weight, bias and output a after the last update.
    epochs : ndarray S
        Updates until |output - y| < threshold; NaN where that never came.
    epochs_to_halve : ndarray S
        Updates until the cost was at most half of what it was at the start; NaN where that never came.
    plateau : ndarray S, or None if it was not asked for
        The longest run of consecutive updates after each of which more than (1 - tolerance) of the cost before it was
        left. Updates that raise the cost belong to it; a cost of 0 ends it.
    record : ndarray (R,)
        Updates after which the path was recorded.
    path_w, path_b, path_output : ndarray S + (R,)
        Weight, bias and output after so many updates.
    loss_name : str
        A name in `minnet.lab.LOSSES`.
    """

    def __init__(self, loss_name, record, ends, plateau, path):
        self.loss_name, self.record, self.plateau = loss_name, record, plateau
        self.w, self.b, self.output, self.epochs, self.epochs_to_halve = ends
        self.path_w, self.path_b, self.path_output = (path[..., i] for i in range(3))

    def __repr__(self):
        learned = np.count_nonzero(~np.isnan(self.epochs))
        return f"NeuronsRun({self.loss_name}, {learned} of {self.epochs.size} neurons came near their target)"


def run_neurons(
    w, b, x=1.0, y=0.0, loss="mse", *, lr=0.15, epochs=300, threshold=0.1, plateau=None, record=(), dtype=np.float32
):
    """Train many neurons by gradient descent, each by itself, on one sample each.

    With a = sigmoid(w x + b), an update is w -= lr x dC/dz, b -= lr dC/dz, where dC/dz is (a - y) a (1 - a) for the
    quadratic cost "mse", C = (a - y)^2 / 2, and a - y for the cross-entropy "bce"; for the others see
    `minnet.lab.losses`. Results equal those of `train_neuron` to rounding, and do not depend on the number of threads.

    Parameters
    ----------
    w, b, x : array_like
        Starting weights, biases and inputs; w, b, x, y and lr are broadcast against each other to the shape S.
    y : array_like
        Targets in [0, 1]. If all are 0 or 1 and no plateau is asked for, the work takes half the time.
    loss : {"mse", "bce", "mae", "quartic"}
        Quadratic cost, cross-entropy, absolute error |a - y| or quartic cost (a - y)^4 / 4.
    lr : array_like
        Learning rates, not negative.
    epochs : int
        Updates, at most 2^24.
    threshold : float in (0, 1)
        How near the output must come to the target, for `epochs` of the result.
    plateau : float in (0, 1), optional
        The tolerance for `plateau` of the result: an update that lowers the cost by a smaller share is on a plateau.
    record : sequence of int
        Updates, ascending, after which to record the path; 0 is the start.
    dtype : {numpy.float32, numpy.float64}
        Of the computation and the results.

    Returns
    -------
    NeuronsRun

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, shapes do not broadcast, or w x + b or lr (x^2 + 1) overflows the dtype.

    References
    ----------
    M. Nielsen, Neural Networks and Deep Learning, 2015, chapter 3.

    Examples
    --------
    >>> import numpy as np
    >>> from minnet.lab import run_neurons
    >>> run_neurons(np.linspace(-8, 8, 1000)[:, None], np.linspace(-8, 8, 1000), loss="bce")
    NeuronsRun(bce, 1000000 of 1000000 neurons came near their target)
    """
    dtype = model_dtype(OWNER, dtype)
    power = POWERS[choice(OWNER, "loss", loss, POWERS)]
    share = 1 / (power or 1)  # of powers the kernel watches |a - y|
    parameters = _parameters({"w": w, "b": b, "x": x, "y": y, "lr": lr}, dtype)
    epochs, record = _checked_epochs(epochs, record)
    threshold = _open_share("threshold", threshold)
    kept = None if plateau is None else 1 - _open_share("plateau", plateau)
    certain = kept is None and bool(np.all((parameters[3] == 0) | (parameters[3] == 1)))
    shape = np.broadcast_shapes(*(a.shape for a in parameters))
    ends = np.empty((6, math.prod(shape)), dtype)
    path = np.empty((math.prod(shape), len(record), 3), dtype)
    scalars = (
        epochs,
        math.log(threshold / (1 - threshold)) if certain else threshold,  # error < threshold, asked of z
        0.5**share,
        1 if kept is None else kept**share,
        power,
        certain,
    )
    _train(_flat(parameters, shape), record, ends, path, scalars)
    ends, path = ends.reshape(6, *shape), path.reshape(*shape, len(record), 3)
    return NeuronsRun(loss, record, ends[:5], None if kept is None else ends[5], path)


def _train(parameters, record, ends, path, scalars):
    """Call the kernel on chunks of neurons, the work of several threads."""
    kernel = kernels.train_neurons["float" if path.dtype == np.float32 else "double"]

    def chunk(start, stop):
        inputs = (a[start:stop] if len(a) > 1 else np.full(stop - start, a[0]) for a in parameters)
        kernel(*inputs, record, *ends[:, start:stop], path[start:stop], *scalars)

    run_chunks(chunk, len(path), max(CHUNK // max(scalars[0], 256) // BLOCK, 1) * BLOCK)


def _flat(parameters, shape):
    """All parameters as vectors, of length 1 where one number serves all neurons."""
    return [a.reshape(1) if a.size == 1 else np.broadcast_to(a, shape).reshape(-1) for a in parameters]


def _parameters(given, dtype):
    """The five arrays in `dtype`, each within its range, and so that nothing the kernel starts from overflows."""
    limits = {"y": (0, 1), "lr": (0, math.inf)}
    arrays = [_parameter(name, a, dtype, *limits.get(name, (-math.inf, math.inf))) for name, a in given.items()]
    try:
        np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise bad_value(OWNER, "w, b, x, y and lr must broadcast", [a.shape for a in arrays]) from None
    w, b, x, _, lr = (max(-_extreme(np.min, a), _extreme(np.max, a)) for a in arrays)
    largest = max(w * x + b, lr * (x * x + 1))
    if not largest <= float(np.finfo(dtype).max):
        hint = "" if dtype == np.float64 else "dtype=numpy.float64"
        raise bad_value(OWNER, f"w x + b and lr (x^2 + 1) must be finite in {dtype}", words(f"{largest:g}"), hint)
    return arrays


def _parameter(name, values, dtype, low, high):
    """`values` in `dtype`, if all of them are finite and from `low` to `high`."""
    a = real_array(OWNER, name, values)
    with np.errstate(over="ignore", under="ignore"):
        cast = a.astype(dtype, copy=False)
    lowest, highest = _extreme(np.min, cast), _extreme(np.max, cast)
    if low <= lowest and highest <= high and math.isfinite(lowest) and math.isfinite(highest):
        return cast
    wrong = ~(np.isfinite(cast) & (cast >= low) & (cast <= high))
    bounds = "".join([" >= 0"] * (low == 0) + [" and <= 1"] * (high == 1))
    got = words(f"{a[wrong][0]:g}" + (f" at {tuple(map(int, np.argwhere(wrong)[0]))}" if a.ndim else ""))
    raise bad_value(OWNER, f"{name} must hold finite numbers{bounds} in {dtype}", got)


def _extreme(function, a):
    """The least or largest of `a`, a float; NaN if there is one, 0 of nothing."""
    return float(function(a)) if a.size else 0.0


def _checked_epochs(epochs, record):
    epochs = integer(OWNER, "epochs", epochs, 0)
    if epochs > MOST_EPOCHS:
        raise bad_value(OWNER, f"epochs must be at most {MOST_EPOCHS}", epochs)
    record = any_array(OWNER, "record", record)
    if record.size and record.dtype.kind not in "iu":
        raise bad_type(OWNER, "record must hold integers", words(f"dtype {record.dtype}"))
    if record.ndim != 1 or np.any(np.diff(record.astype(np.int64)) < 0):
        raise bad_value(OWNER, "record must be a list of ascending epochs", record)
    if record.size and not 0 <= record[0] <= record[-1] <= epochs:
        raise bad_value(OWNER, f"record must be from 0 to epochs, {epochs}", record)
    return epochs, record.astype(np.int64)


def _open_share(name, value):
    value = number(OWNER, name, value, 0, 1, above=True)
    if value == 1:
        raise bad_value(OWNER, f"{name} must be less than 1", value)
    return value
