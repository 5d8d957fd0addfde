"""Softmax and its logarithms, along any axis."""

import math

import numpy as np

from minnet import _softmax as kernels
from minnet._checks import bad_value, integer, out_array, real_array
from minnet.functional._share import by_dtype, team_for

_softmax = by_dtype(kernels.softmax_forward)
_log_softmax = by_dtype(kernels.log_softmax_forward)
_softmax_middle = by_dtype(kernels.softmax_middle_forward)
_log_softmax_middle = by_dtype(kernels.log_softmax_middle_forward)


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
    return _along_axis("softmax", kernels.softmax_door, _softmax, _softmax_middle, x, axis, out)


def log_softmax(x, *, axis=-1, out=None):
    """Log-probabilities, x - logsumexp(x), never rounded to 0 or 1 on the way; all else as in `softmax`."""
    return _along_axis("log_softmax", kernels.log_softmax_door, _log_softmax, _log_softmax_middle, x, axis, out)


def logsumexp(x, *, axis=-1):
    """log(sum(exp(x))) along `axis`, which the result lacks; -inf where all entries are, or over none of them.

    float32 is computed in double, because the maximum and the logarithm may cancel; in float64 the error is an ulp or
    two of the larger of them. Errors as in `softmax`.
    """
    x = real_array("logsumexp", "x", x)
    moved = np.ascontiguousarray(np.moveaxis(x, _axis("logsumexp", x, axis), -1), np.float64)
    y = np.empty(moved.shape[:-1])
    kernels.logsumexp_forward["double"](_rows(moved), y.reshape(-1))
    return y.astype(x.dtype)[()]


def _along_axis(owner, door, kernel, middle_kernel, x, axis, out):
    if type(x) is np.ndarray and type(axis) is int and axis == -1:
        y = np.empty_like(x) if out is None else out
        if door(x, y):
            return y
    x = real_array(owner, "x", x)
    y = np.empty(x.shape, x.dtype) if out is None else out_array(owner, out, x.shape, x.dtype)
    if out is not None and np.may_share_memory(x, y):
        x = x.copy()
    axis = _axis(owner, x, axis)
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    if after == 1:
        shape = before, x.shape[axis]
        kernel[x.dtype.char](x.reshape(shape), y.reshape(shape), team_for(x.size))
    elif x.shape[axis] <= kernels.FEW_CLASSES:
        shape = before, x.shape[axis], after
        middle_kernel[x.dtype.char](x.reshape(shape), y.reshape(shape))
    else:
        moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        result = np.empty_like(moved)
        kernel[x.dtype.char](_rows(moved), _rows(result), team_for(x.size))
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
