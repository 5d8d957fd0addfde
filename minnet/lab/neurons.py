"""Millions of sigmoid neurons at once, each trained by itself: from how many starts does one learn?

`run_neurons` is `train_neuron` for many, one input and one sample each; `run_perceptrons` takes several of both.

The compiled loops are in _neurons.pyx, with the derivation of why a whole neuron is one number there.
"""

import math

import numpy as np

from minnet import _neurons as kernels
from minnet._checks import any_array, bad_type, bad_value, choice, integer, number, real_array, words
from minnet._threads import run_chunks
from minnet.layers import model_dtype

__all__ = ["NeuronsRun", "run_neurons", "run_perceptrons"]

POWERS = {"mse": 2, "bce": 0, "mae": 1, "quartic": 4}  # of the error; 0 stands for cross-entropy
MOST_EPOCHS = 2**24  # they are counted in floats, which hold every integer up to here
BLOCK = 256  # neurons that the kernel takes at once
CHUNK = 2**22  # neurons times epochs of a chunk for one of several threads: a millisecond or two


class NeuronsRun:
    """What became of many neurons; arrays have the shape S that their parameters have together.

    For neurons with D inputs and N samples weights have an axis (D,) more, and outputs one of (N,).

    Attributes
    ----------
    w, b, output : ndarray S
        Weight, bias and output a after the last update.
    epochs : ndarray S
        Updates until |output - y| < threshold, for every sample; NaN where that never came.
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

    def __init__(self, loss_name, record, counts, ends, path):
        self.loss_name, self.record = loss_name, record
        self.epochs, self.epochs_to_halve, self.plateau = counts
        self.w, self.b, self.output = ends
        self.path_w, self.path_b, self.path_output = path

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
    owner = "run_neurons"
    dtype = model_dtype(owner, dtype)
    course = _Course(owner, loss, epochs, threshold, plateau, record)
    parameters = _parameters(owner, {"w": w, "b": b, "x": x, "y": y, "lr": lr}, dtype)
    shape = _shape(owner, *parameters)
    _refuse_overflow(owner, parameters, dtype)
    certain = plateau is None and bool(np.all((parameters[3] == 0) | (parameters[3] == 1)))
    ends = np.empty((6, math.prod(shape)), dtype)
    path = np.empty((math.prod(shape), len(course.record), 3), dtype)
    _train(_flat(parameters, shape), course, certain, ends, path)
    ends, path = ends.reshape(6, *shape), path.reshape(*shape, len(course.record), 3)
    return NeuronsRun(loss, course.record, course.counts(ends[3:]), ends[:3], np.moveaxis(path, -1, 0))


def run_perceptrons(
    w, b, x, y, loss="mse", *, lr=0.15, epochs=300, threshold=0.1, plateau=None, record=(), dtype=np.float32
):
    """Train many neurons with D inputs by gradient descent, each by itself, on N samples each.

    With a = sigmoid(x @ w + b), an update is w -= lr dC/dw, b -= lr dC/db, where C is the mean over the samples of the
    cost that `run_neurons` takes of one. For one input and one sample `run_neurons` is faster.

    Parameters
    ----------
    w : array_like, shape (..., D)
        Starting weights; "..." of all arrays are broadcast against each other to the shape S.
    b : array_like, shape (...)
        Starting biases.
    x : array_like, shape (..., N, D)
        Samples; (N, D) are shared by all neurons. Otherwise each thread copies those of 256 neurons.
    y : array_like, shape (..., N)
        Targets in [0, 1].
    loss, epochs, plateau, record, dtype
        As in `run_neurons`.
    lr : array_like, shape (...)
        Learning rates, not negative.
    threshold : float in (0, 1)
        How near all outputs of a neuron must come to their targets, for `epochs` of the result.

    Returns
    -------
    NeuronsRun

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, shapes do not fit, or the largest possible logit or step overflows the dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from minnet.lab import run_perceptrons
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 1]  # a or b
    >>> run = run_perceptrons(np.random.default_rng(0).normal(size=(1000, 2)), 0.0, x, y, "bce", lr=5.0)
    >>> run.w.shape, run.output.shape, int(np.max(run.epochs))
    ((1000, 2), (1000, 4), 43)
    """
    owner = "run_perceptrons"
    dtype = model_dtype(owner, dtype)
    course = _Course(owner, loss, epochs, threshold, plateau, record)
    w, b, x, y, lr = parameters = _parameters(owner, {"w": w, "b": b, "x": x, "y": y, "lr": lr}, dtype)
    samples, inputs = _samples_and_inputs(owner, w, x, y)
    shape = _shape(owner, w[..., 0], b, x[..., 0, 0], y[..., 0], lr)
    _refuse_overflow(owner, parameters, dtype, inputs)
    w = np.concatenate([_neurons_last(w, 1, shape, whole=True), _neurons_last(b, 0, shape, whole=True)[None]])
    x = _neurons_last(x, 2, shape)
    x = np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
    rate = _neurons_last(lr / dtype.type(samples), 0, shape, whole=True)
    path = np.empty((len(course.record) + 1, inputs + 1 + samples, w.shape[1]), dtype)
    counts = np.empty((3, w.shape[1]), dtype)
    _train_perceptrons((w, x, _neurons_last(y, 1, shape), rate), course, path, counts)
    path = np.moveaxis(path, -1, 0).reshape(*shape, *path.shape[:2])
    recorded, ends = (
        (a[..., :inputs], a[..., inputs], a[..., inputs + 1 :]) for a in (path[..., :-1, :], path[..., -1, :])
    )
    return NeuronsRun(loss, course.record, course.counts(counts.reshape(3, *shape)), ends, recorded)


class _Course:
    """What is done with all neurons alike, checked, and as the kernels take it.

    Of powers of the error they watch the error itself, in which a share of the cost is a root of that share.
    """

    def __init__(self, owner, loss, epochs, threshold, plateau, record):
        self.power = POWERS[choice(owner, "loss", loss, POWERS)]
        self.epochs, self.record = _checked_epochs(owner, epochs, record)
        self.threshold = _open_share(owner, "threshold", threshold)
        self.has_plateau = plateau is not None
        kept = 1 - _open_share(owner, "plateau", plateau) if self.has_plateau else 1
        self.half, self.kept = (share ** (1 / (self.power or 1)) for share in (0.5, kept))

    def counts(self, arrays):
        """Epochs, epochs to halve, and the plateau if it was asked for."""
        return arrays[0], arrays[1], arrays[2] if self.has_plateau else None


def _train(parameters, course, certain, ends, path):
    """Call the kernel on chunks of neurons, the work of several threads."""
    kernel = kernels.train_neurons["float" if path.dtype == np.float32 else "double"]
    threshold = course.threshold
    if certain:  # error < threshold, asked of z
        threshold = math.log(threshold / (1 - threshold))
    scalars = course.epochs, threshold, course.half, course.kept, course.power, certain

    def chunk(start, stop):
        inputs = (a[start:stop] if len(a) > 1 else np.full(stop - start, a[0]) for a in parameters)
        kernel(*inputs, course.record, *ends[:, start:stop], path[start:stop], *scalars)

    run_chunks(chunk, len(path), _chunk(course.epochs))


def _train_perceptrons(arrays, course, path, counts):
    kernel = kernels.train_perceptrons["float" if path.dtype == np.float32 else "double"]
    scalars = course.epochs, course.threshold, course.half, course.kept, course.power

    def chunk(start, stop):
        kernel(*arrays, course.record, path, *counts, start, stop, *scalars)

    samples, inputs = arrays[1].shape[:2]
    run_chunks(chunk, path.shape[2], _chunk(course.epochs * samples * inputs))


def _chunk(work):
    """Neurons of a chunk, whole blocks, if one takes so many epochs or products."""
    return max(CHUNK // max(work, 256) // BLOCK, 1) * BLOCK


def _samples_and_inputs(owner, w, x, y):
    """N and D, if the last axes fit."""
    if not (
        w.ndim and x.ndim > 1 and y.ndim and x.shape[-2:] == (y.shape[-1], w.shape[-1]) and x.shape[-1] * y.shape[-1]
    ):
        rule = "w must have shape (..., D), x (..., N, D) and y (..., N), N and D at least 1"
        raise bad_value(owner, rule, [a.shape for a in (w, x, y)])
    return x.shape[-2:]


def _neurons_last(a, axes, shape, whole=False):
    """The last `axes` of a first, then the neurons; one of them where all share `a`, unless all are wanted."""
    own = a.shape[a.ndim - axes :]
    if math.prod(a.shape[: a.ndim - axes]) == 1 and not whole:
        return np.ascontiguousarray(a.reshape(*own, 1))
    every = np.broadcast_to(a, (*shape, *own)).reshape(math.prod(shape), *own)
    return np.ascontiguousarray(np.moveaxis(every, 0, -1))


def _flat(parameters, shape):
    """All parameters as vectors, of length 1 where one number serves all neurons."""
    return [a.reshape(1) if a.size == 1 else np.broadcast_to(a, shape).reshape(-1) for a in parameters]


def _parameters(owner, given, dtype):
    """The five arrays in `dtype`, each within its range."""
    limits = {"y": (0, 1), "lr": (0, math.inf)}
    return [_parameter(owner, name, a, dtype, *limits.get(name, (-math.inf, math.inf))) for name, a in given.items()]


def _shape(owner, *arrays):
    """The shape that w, b, x, y and lr have together."""
    try:
        return np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise bad_value(owner, "w, b, x, y and lr must broadcast", [a.shape for a in arrays]) from None


def _refuse_overflow(owner, parameters, dtype, inputs=1):
    """Nothing that the kernels start from may overflow."""
    w, b, x, _, lr = (max(-_extreme(np.min, a), _extreme(np.max, a)) for a in parameters)
    largest = max(inputs * w * x + b, lr * (inputs * x * x + 1))
    if not largest <= float(np.finfo(dtype).max):
        hint = "" if dtype == np.float64 else "dtype=numpy.float64"
        raise bad_value(owner, f"w x + b and lr (x^2 + 1) must be finite in {dtype}", words(f"{largest:g}"), hint)


def _parameter(owner, name, values, dtype, low, high):
    """`values` in `dtype`, if all of them are finite and from `low` to `high`."""
    a = real_array(owner, name, values)
    with np.errstate(over="ignore", under="ignore"):
        cast = a.astype(dtype, copy=False)
    lowest, highest = _extreme(np.min, cast), _extreme(np.max, cast)
    if low <= lowest and highest <= high and math.isfinite(lowest) and math.isfinite(highest):
        return cast
    wrong = ~(np.isfinite(cast) & (cast >= low) & (cast <= high))
    bounds = "".join([" >= 0"] * (low == 0) + [" and <= 1"] * (high == 1))
    got = words(f"{a[wrong][0]:g}" + (f" at {tuple(map(int, np.argwhere(wrong)[0]))}" if a.ndim else ""))
    raise bad_value(owner, f"{name} must hold finite numbers{bounds} in {dtype}", got)


def _extreme(function, a):
    """The least or largest of `a`, a float; NaN if there is one, 0 of nothing."""
    return float(function(a)) if a.size else 0.0


def _checked_epochs(owner, epochs, record):
    epochs = integer(owner, "epochs", epochs, 0)
    if epochs > MOST_EPOCHS:
        raise bad_value(owner, f"epochs must be at most {MOST_EPOCHS}", epochs)
    record = any_array(owner, "record", record)
    if record.size and record.dtype.kind not in "iu":
        raise bad_type(owner, "record must hold integers", words(f"dtype {record.dtype}"))
    if record.ndim != 1 or np.any(np.diff(record.astype(np.int64)) < 0):
        raise bad_value(owner, "record must be a list of ascending epochs", record)
    if record.size and not 0 <= record[0] <= record[-1] <= epochs:
        raise bad_value(owner, f"record must be from 0 to epochs, {epochs}", record)
    return epochs, record.astype(np.int64)


def _open_share(owner, name, value):
    value = number(owner, name, value, 0, 1, above=True)
    if value == 1:
        raise bad_value(owner, f"{name} must be less than 1", value)
    return value
