"""Stateless functions, numpy in and numpy out: check, allocate, call a kernel.

Letters as everywhere: N rows of a batch, C classes, classes on the last axis. float32 and float64 are computed as they
come; integers, bools and lists become float64. Inputs are never written to. This module alone imports the loss and
activation kernels, and every check stands here, in front of them; small plain arrays may go by a door instead, which
checks in C and declines what is not plain.

Losses take logits, the raw outputs of a net, and with ``return_grad=True`` also give the gradient of exactly the value
they return.
"""

import math

import numpy as np

from minnet import _kernels
from minnet._checks import (
    any_array,
    bad_value,
    choice,
    integer,
    label_array,
    matrix,
    out_array,
    real_array,
    weight_array,
    words,
)
from minnet._threads import run_chunks

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mse_loss",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "tanh",
]

# Elements of a chunk when large work is cut for several threads: some 100 us of it, several times what it costs to hand
# a chunk over. Part of the definition of a sum: other cuts would round otherwise.
SHARE = 2**17

REDUCTIONS = ("mean", "sum", "none", "batchmean")


def _by_dtype(kernel):
    """The float and double bodies of a fused kernel by dtype character: a look-up that beats Cython's own search."""
    return {"f": kernel["float"], "d": kernel["double"]}


_sigmoid = _by_dtype(_kernels.sigmoid_forward)
_tanh = _by_dtype(_kernels.tanh_forward)
_softplus = _by_dtype(_kernels.softplus_forward)
_log_sigmoid = _by_dtype(_kernels.log_sigmoid_forward)
_relu = _by_dtype(_kernels.relu_forward)
_chain = _by_dtype(_kernels.chain_backward)
_softmax = _by_dtype(_kernels.softmax_forward)
_log_softmax = _by_dtype(_kernels.log_softmax_forward)
_softmax_middle = _by_dtype(_kernels.softmax_middle_forward)
_log_softmax_middle = _by_dtype(_kernels.log_softmax_middle_forward)
_cross_entropy_index = _by_dtype(_kernels.cross_entropy_index)
_cross_entropy_soft = _by_dtype(_kernels.cross_entropy_soft)
_bce_with_logits = _by_dtype(_kernels.binary_cross_entropy_with_logits)
_bce = _by_dtype(_kernels.binary_cross_entropy)
_squared_error = _by_dtype(_kernels.squared_error)
_first_outside_unit = _by_dtype(_kernels.first_outside_unit)

_NONE = {"f": np.empty(0, np.float32), "d": np.empty(0, np.float64)}  # an output that is not wanted
_NO_ROWS = {"f": np.empty((0, 0), np.float32), "d": np.empty((0, 0), np.float64)}


# ---- activations ----


def sigmoid(x, *, out=None):
    """Logistic function, 1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    out : ndarray, optional
        Where to write the result: same shape and dtype, C-contiguous. May be `x` itself.

    Returns
    -------
    ndarray
        Shape of `x`, at most 2 ulp from the exact value, subnormal results included; NaN gives NaN.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.
    ValueError
        If `x` is ragged, or `out` does not fit.
    """
    return _elementwise("sigmoid", _kernels.sigmoid_door, _sigmoid, x, out)


def tanh(x, *, out=None):
    """Hyperbolic tangent, (exp(x) - exp(-x)) / (exp(x) + exp(-x)); parameters and errors as in `sigmoid`."""
    return _elementwise("tanh", _kernels.tanh_door, _tanh, x, out)


def softplus(x, *, out=None):
    """log(1 + exp(x)), a smooth relu; parameters and errors as in `sigmoid`."""
    return _elementwise("softplus", _kernels.softplus_door, _softplus, x, out)


def log_sigmoid(x, *, out=None):
    """log(sigmoid(x)) = -softplus(-x), exact even where sigmoid(x) rounds to 0 or 1; all else as in `sigmoid`."""
    return _elementwise("log_sigmoid", _kernels.log_sigmoid_door, _log_sigmoid, x, out)


def relu(x, *, out=None):
    """max(x, 0); NaN stays NaN. Parameters and errors as in `sigmoid`."""
    return _elementwise("relu", _kernels.relu_door, _relu, x, out)


def _elementwise(owner, door, kernel, x, out):
    if type(x) is np.ndarray:
        y = np.empty_like(x) if out is None else out
        if y is not None and x.ndim and door(x, y):
            return y
    x = real_array(owner, "x", x)
    y = np.empty(x.shape, x.dtype) if out is None else out_array(owner, out, x.shape, x.dtype)
    x = _apart(x, y)
    _share(kernel[x.dtype.char], SHARE, x.reshape(-1), y.reshape(-1), _NONE[x.dtype.char])
    return y if out is not None or y.ndim else y[()]


def _share(kernel, size, *arrays, scalars=()):
    """Call a kernel on chunks of `size` rows, the work of several threads; arrays of length 0 stay as they are.

    The cuts do not depend on the number of threads, nor then does the list of results.
    """
    rows = len(arrays[0])
    if rows <= size:
        return [kernel(*arrays, *scalars)]

    def chunk(start, stop):
        return kernel(*(a[start:stop] if len(a) else a for a in arrays), *scalars)

    return run_chunks(chunk, rows, size)


def _rows_a_share(columns):
    """Rows of a chunk: whole tiles of 32 rows."""
    return max(SHARE // max(columns, 1) // 32, 1) * 32


def _apart(x, y):
    """`x`, copied if `y` overlaps it in part, when a kernel could read an element after it was written."""
    same = x.__array_interface__["data"][0] == y.__array_interface__["data"][0] and x.size == y.size
    return x.copy() if not same and np.may_share_memory(x, y) else x


_WITH_SLOPE = {"sigmoid": _sigmoid, "tanh": _tanh, "softplus": _softplus, "relu": _relu}


def value_and_slope(name, x):
    """An activation y = f(x) by its `name`, and its slope f'(x), from one pass; what a layer keeps for its backward.

    The slope is computed from x, not from the rounded y: that of a saturated sigmoid keeps all its digits.
    """
    x = real_array(name, "x", x)
    y, slope = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    _share(_WITH_SLOPE[name][x.dtype.char], SHARE, x.reshape(-1), y.reshape(-1), slope.reshape(-1))
    return y, slope


_BIASED = {
    "sigmoid": _by_dtype(_kernels.sigmoid_biased_forward),
    "tanh": _by_dtype(_kernels.tanh_biased_forward),
    "softplus": _by_dtype(_kernels.softplus_biased_forward),
    "relu": _by_dtype(_kernels.relu_biased_forward),
}
_chain_biased = _by_dtype(_kernels.chain_biased_backward)


def value_and_slope_biased(name, z, b):
    """The same for f(z + b), in one pass that writes y over z: z (N, O) is a product that nobody else needs."""
    slope = np.empty_like(z)
    kernel, size = _BIASED[name][z.dtype.char], _rows_a_share(z.shape[1])
    run_chunks(lambda start, stop: kernel(b, z[start:stop], slope[start:stop]), len(z), size)
    return z, slope


def chain_biased(dy, slope, db):
    """The backward of f(z + b), dz = dy * slope, and its sum over rows, db, in one pass; dy, slope (N, O), db (O,)."""
    dz = np.empty_like(dy)
    kernel, size = _chain_biased[dy.dtype.char], _rows_a_share(dy.shape[1])
    if len(dy) <= size:
        kernel(dy, slope, dz, db)
        return dz

    def chunk(start, stop):
        part = np.empty_like(db)
        kernel(dy[start:stop], slope[start:stop], dz[start:stop], part)
        return part

    np.sum(run_chunks(chunk, len(dy), size), axis=0, out=db)
    return dz


def chain(dy, slope):
    """The backward of every activation, dx = dy * slope; two arrays of one shape and dtype."""
    dx = np.empty(dy.shape, dy.dtype)
    _share(_chain[dy.dtype.char], SHARE, dy.reshape(-1), slope.reshape(-1), dx.reshape(-1))
    return dx


# ---- softmax family ----


def softmax(x, *, axis=-1, out=None):
    """Probabilities from logits, exp(x) / sum(exp(x)) along `axis`.

    Parameters
    ----------
    x : array_like
        Logits. -inf has probability exactly 0; entries of +inf share the probability 1.
    axis : int, default -1
        The axis of the classes.
    out : ndarray, optional
        Where to write the result: same shape and dtype, C-contiguous. May be `x` itself.

    Returns
    -------
    ndarray
        Shape of `x`; NaN in a row that holds a NaN, or nothing but -inf.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.
    ValueError
        If `x` has no axis `axis`, or `out` does not fit.
    """
    return _along_axis("softmax", _softmax, _softmax_middle, x, axis, out)


def log_softmax(x, *, axis=-1, out=None):
    """Log-probabilities, x - logsumexp(x), never rounded to 0 or 1 on the way; all else as in `softmax`."""
    return _along_axis("log_softmax", _log_softmax, _log_softmax_middle, x, axis, out)


def logsumexp(x, *, axis=-1):
    """log(sum(exp(x))) along `axis`, which the result lacks; -inf where all entries are, or over none of them.

    float32 is computed in double, because the maximum and the logarithm may cancel; in float64 the error is an ulp or
    two of the larger of them. Errors as in `softmax`.
    """
    x = real_array("logsumexp", "x", x)
    moved = np.ascontiguousarray(np.moveaxis(x, _axis("logsumexp", x, axis), -1), np.float64)
    y = np.empty(moved.shape[:-1])
    _kernels.logsumexp_forward["double"](_rows(moved), y.reshape(-1))
    return y.astype(x.dtype)[()]


def _along_axis(owner, kernel, middle_kernel, x, axis, out):
    x = real_array(owner, "x", x)
    y = np.empty(x.shape, x.dtype) if out is None else out_array(owner, out, x.shape, x.dtype)
    if out is not None and np.may_share_memory(x, y):
        x = x.copy()
    axis = _axis(owner, x, axis)
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    if after == 1:
        shape = before, x.shape[axis]
        _share(kernel[x.dtype.char], _rows_a_share(shape[1]), x.reshape(shape), y.reshape(shape))
    elif x.shape[axis] <= _kernels.FEW_CLASSES:
        shape = before, x.shape[axis], after
        middle_kernel[x.dtype.char](x.reshape(shape), y.reshape(shape))
    else:
        moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        result = np.empty_like(moved)
        _share(kernel[x.dtype.char], _rows_a_share(moved.shape[-1]), _rows(moved), _rows(result))
        y[...] = np.moveaxis(result, -1, axis)
    return y


def _axis(owner, x, axis):
    """`axis` counted from the front, if `x` has it."""
    if integer(owner, "axis", axis, -x.ndim) >= x.ndim:
        raise bad_value(owner, f"axis must be one of the {x.ndim} axes of x", axis)
    return int(axis) % x.ndim


def _rows(x):
    """A C-contiguous array as a matrix of its last axis."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


# ---- losses ----
# Parameters that all share, said once: `sample_weight` (N,) weighs rows; `reduction` is "mean" (the weighted mean over
# all losses; 0.0 over nothing), "sum", "none" (all losses, with the gradient of their sum) or "batchmean" (sum / N).


def cross_entropy(logits, target, *, sample_weight=None, reduction="mean", return_grad=False, out=None):
    """Cross-entropy of softmax(logits) with class labels or with target probabilities.

    For labels y the loss of a row is -log softmax(logits)_y = logsumexp(logits) - logits_y, for probabilities t it is
    sum_k t_k (logsumexp(logits) - logits_k). Its gradient is softmax(logits) - t, with t = onehot(y) for labels.

    Parameters
    ----------
    logits : array_like, shape (N, C) or (C,)
        Raw outputs, before any softmax. -inf has probability exactly 0.
    target : array_like, shape (N,) of integers, or shape (N, C) of numbers in [0, 1]
        Class indices, or one distribution a row (whose sum is not checked). One label, or (C,), for logits (C,).
    sample_weight : array_like, shape (N,), optional
        Weights of the rows, finite and not negative.
    reduction : {"mean", "sum", "none", "batchmean"}
        "mean" divides by the sum of the sample weights; over nothing (no rows, or weights 0) it is 0.0 with zero
        gradient, where torch gives NaN.
    return_grad : bool
        Also return the gradient of the value (of the sum of the losses for "none").
    out : ndarray, shape of `logits`, optional
        Where to write the gradient.

    Returns
    -------
    value : float, or ndarray (N,) for reduction "none"
        In nats. Relative error at most 4 eps of the dtype, however small the loss is.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If shapes disagree, or a label or probability is out of range (its row is named), before anything is computed.
    TypeError
        If labels are not integers or logits not real numbers.

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.
    """
    owner = "cross_entropy"
    if return_grad and sample_weight is None and reduction == "mean" and type(logits) is type(target) is np.ndarray:
        grad = np.empty_like(logits) if out is None else out
        value = _kernels.cross_entropy_door(logits, target, grad)
        if value is not None:
            return value, grad
    logits = real_array(owner, "logits", logits)
    z = matrix(owner, "logits", logits[None] if logits.ndim == 1 else logits)
    t, kernel = _class_target(owner, target, z, single=logits.ndim == 1)
    losses = _Losses(owner, z.shape[:1], sample_weight, reduction)
    return losses.run(kernel, z, t, _gradient(owner, logits, return_grad, out))


def _class_target(owner, target, z, single):
    """Checked labels (N,) or probabilities (N, C), with the kernel that takes them."""
    t = any_array(owner, "target", target)
    t = t[None] if single else t
    if t.ndim > 1 and t.shape != z.shape:
        raise bad_value(owner, f"target must have shape ({len(z)},) of labels or {z.shape} of probabilities", t.shape)
    if t.ndim < 2:
        labels = label_array(owner, None if target is None else t, len(z))
        row = _kernels.first_outside_range(labels, z.shape[1])
        if row >= 0:
            raise bad_value(owner, f"labels must be in 0 ... {z.shape[1] - 1}", words(f"{t[row]} in row {row}"))
        return labels, _cross_entropy_index
    return _unit_array(owner, "target probabilities", t, z.dtype), _cross_entropy_soft


def _unit_array(owner, name, x, dtype):
    """`x` as an array of numbers in [0, 1]; the first that is not is named."""
    a = real_array(owner, name, x)
    wrong = _first_outside_unit[a.dtype.char](a.reshape(-1))
    if wrong >= 0:
        row = np.unravel_index(wrong, a.shape)[0] if a.ndim else 0
        raise bad_value(owner, f"{name} must be in [0, 1]", words(f"{a.flat[wrong]} in row {row}"))
    if a.dtype == dtype:
        return a
    with np.errstate(under="ignore"):  # a probability too small for float32 is 0
        return a.astype(dtype)


def binary_cross_entropy_with_logits(
    logits, target, *, sample_weight=None, reduction="mean", return_grad=False, out=None
):
    """Cross-entropy of sigmoid(logits) with targets in [0, 1], element by element.

    With z a logit, a = sigmoid(z) and target t: loss = -t log(a) - (1 - t) log(1 - a), gradient a - t: the factor
    a (1 - a) of the sigmoid has cancelled. Both are computed from z and keep their digits in both tails.

    Parameters
    ----------
    logits : array_like, shape (N,) or (N, K)
        Raw outputs, before any sigmoid; +-inf is allowed (loss 0 or inf, gradient 0 or +-1).
    target : array_like, shape of `logits`, or (N,) for logits (N, 1)
        Labels 0 and 1, or probabilities. (N, K) asks K questions of each row (multi-label).
    sample_weight, reduction, return_grad, out
        As in `cross_entropy`; "mean" is over all elements, "batchmean" is the sum divided by N.

    Returns
    -------
    value : float, or ndarray of the shape of `logits` for reduction "none"
        In nats.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If shapes disagree, or a target is outside [0, 1] (its row is named).
    TypeError
        If `logits` or `target` do not hold real numbers.
    """
    owner = "binary_cross_entropy_with_logits"
    if return_grad and sample_weight is None and reduction == "mean" and type(logits) is type(target) is np.ndarray:
        grad = np.empty_like(logits) if out is None else out
        value = _kernels.binary_cross_entropy_with_logits_door(logits, target, grad)
        if value is not None:
            return value, grad
    z = real_array(owner, "logits", logits)
    t = _unit_array(owner, "target", _like(owner, "logits", z, target), z.dtype)
    losses = _Losses(owner, z.shape, sample_weight, reduction)
    return losses.run(_bce_with_logits, z.reshape(-1), t.reshape(-1), _gradient(owner, z, return_grad, out))


def binary_cross_entropy(probs, target, *, sample_weight=None, reduction="mean", return_grad=False, out=None):
    """Cross-entropy of probabilities with targets in [0, 1]: -t log(p) - (1 - t) log(1 - p).

    Nothing is clipped: a wrong certain answer costs inf. Where logits are at hand, use
    `binary_cross_entropy_with_logits`, which keeps the digits that p near 0 or 1 has lost. Parameters and errors as
    there; `probs` must be in [0, 1]. The gradient is (p - t) / (p (1 - p)).
    """
    owner = "binary_cross_entropy"
    p = real_array(owner, "probs", probs)
    p = _unit_array(owner, "probs", p, p.dtype)
    t = _unit_array(owner, "target", _like(owner, "probs", p, target), p.dtype)
    losses = _Losses(owner, p.shape, sample_weight, reduction)
    return losses.run(_bce, p.reshape(-1), t.reshape(-1), _gradient(owner, p, return_grad, out))


def mse_loss(prediction, target, *, sample_weight=None, reduction="mean", return_grad=False, out=None):
    """Squared error (x - t)^2, element by element, gradient 2 (x - t).

    Parameters
    ----------
    prediction : array_like, shape (N,) or (N, O)
        Outputs.
    target : array_like, shape of `prediction`, or (N,) for a prediction (N, 1)
        Wanted outputs. No other shape is broadcast.
    sample_weight, reduction, return_grad, out
        As in `cross_entropy`; "mean" is over all elements, "batchmean" is the sum divided by N.

    Returns
    -------
    value : float, or ndarray of the shape of `prediction` for reduction "none"
        In the square of the target's unit.
    grad : ndarray, shape of `prediction`
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If shapes disagree.
    TypeError
        If `prediction` or `target` do not hold real numbers.
    """
    owner = "mse_loss"
    x = real_array(owner, "prediction", prediction)
    t = _like(owner, "prediction", x, target).astype(x.dtype, copy=False)
    losses = _Losses(owner, x.shape, sample_weight, reduction)
    return losses.run(_squared_error, x.reshape(-1), t.reshape(-1), _gradient(owner, x, return_grad, out))


def _like(owner, name, x, target):
    """`target` as a real array with the shape of `x`; only a last axis of length 1 may be left out."""
    t = real_array(owner, "target", target)
    if t.shape != x.shape and not (x.ndim > 1 and x.shape == (*t.shape, 1)):
        raise bad_value(owner, f"target must have the shape of {name}, {x.shape}", t.shape)
    return t.reshape(x.shape)


def _gradient(owner, x, return_grad, out):
    """Where the gradient of `x` goes: `out`, a new array, or None where it is not wanted."""
    if not return_grad:
        if out is not None:
            raise bad_value(owner, "out is for the gradient and needs return_grad=True", return_grad)
        return None
    return np.empty(x.shape, x.dtype) if out is None else out_array(owner, out, x.shape, x.dtype)


class _Losses:
    """The losses of a batch, an array of `shape` (N, ...): how they are weighed and reduced."""

    def __init__(self, owner, shape, sample_weight, reduction):
        rows, per_row = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        self.shape, self.reduction = shape, choice(owner, "reduction", reduction, REDUCTIONS)
        count = {"mean": rows * per_row, "batchmean": rows, "sum": 1, "none": 1}[reduction]
        self.weight = _NONE["d"]
        if sample_weight is not None:
            weight = weight_array(owner, sample_weight, rows)
            if reduction == "mean" and weight.any():
                weight, count = _normalized(weight), per_row
            self.weight = weight if per_row == 1 else np.repeat(weight, per_row)
        self.scale = 1.0 / count if count else 0.0

    def run(self, kernel, x, target, grad):
        """The reduced value; with it, unless `grad` is None, the gradient, written there."""
        char, none = x.dtype.char, self.reduction == "none"
        losses = np.empty(self.shape, x.dtype) if none else _NONE[char]
        if grad is None:
            dx = _NO_ROWS[char] if x.ndim == 2 else _NONE[char]
        else:
            dx = grad.reshape(x.shape)
            x, target = (a.copy() if np.may_share_memory(a, dx) else a for a in (x, target))
        arrays = x, target, self.weight, losses.reshape(-1), dx
        size = SHARE if x.ndim == 1 else _rows_a_share(x.shape[1])
        total = sum(_share(kernel[char], size, *arrays, scalars=(self.scale,)))
        value = losses[()] if none else total * self.scale
        return value if grad is None else (value, grad)


def _normalized(weight):
    """Weights whose sum is 1, whatever their unit: divided by the largest first, so that the sum is a normal number."""
    with np.errstate(under="ignore"):
        weight = weight / weight.max()
        return weight / weight.sum()
