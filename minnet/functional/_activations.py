"""Activations, and what layers need of them: value and slope, with a bias or without, and their backward."""

import numpy as np

from minnet import _activations as kernels
from minnet._checks import out_array, real_array
from minnet._rooms import room
from minnet._threads import run_chunks
from minnet.functional._share import NONE, apart, by_dtype, rows_a_share, team_for

_sigmoid = by_dtype(kernels.sigmoid_forward)
_tanh = by_dtype(kernels.tanh_forward)
_softplus = by_dtype(kernels.softplus_forward)
_log_sigmoid = by_dtype(kernels.log_sigmoid_forward)
_relu = by_dtype(kernels.relu_forward)
_chain = by_dtype(kernels.chain_backward)


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
    return _elementwise("sigmoid", kernels.sigmoid_door, _sigmoid, x, out)


def tanh(x, *, out=None):
    """Hyperbolic tangent, (exp(x) - exp(-x)) / (exp(x) + exp(-x)); parameters and errors as in `sigmoid`."""
    return _elementwise("tanh", kernels.tanh_door, _tanh, x, out)


def softplus(x, *, out=None):
    """log(1 + exp(x)), a smooth relu; parameters and errors as in `sigmoid`."""
    return _elementwise("softplus", kernels.softplus_door, _softplus, x, out)


def log_sigmoid(x, *, out=None):
    """log(sigmoid(x)) = -softplus(-x), exact even where sigmoid(x) rounds to 0 or 1; all else as in `sigmoid`."""
    return _elementwise("log_sigmoid", kernels.log_sigmoid_door, _log_sigmoid, x, out)


def relu(x, *, out=None):
    """max(x, 0); NaN stays NaN. Parameters and errors as in `sigmoid`."""
    return _elementwise("relu", kernels.relu_door, _relu, x, out)


def _elementwise(owner, door, kernel, x, out):
    if type(x) is np.ndarray:
        y = np.empty_like(x) if out is None else out
        if y is not None and x.ndim and door(x, y):
            return y
    x = real_array(owner, "x", x)
    y = np.empty(x.shape, x.dtype) if out is None else out_array(owner, out, x.shape, x.dtype)
    x = apart(x, y)
    kernel[x.dtype.char](x.reshape(-1), y.reshape(-1), NONE[x.dtype.char], team_for(x.size))
    return y if out is not None or y.ndim else y[()]


_WITH_SLOPE = {"sigmoid": _sigmoid, "tanh": _tanh, "softplus": _softplus, "relu": _relu}


def value_and_slope(name, x):
    """An activation y = f(x) by its `name`, and its slope f'(x), from one pass; what a layer keeps for its backward.

    The slope is computed from x, not from the rounded y: that of a saturated sigmoid keeps all its digits.
    """
    x = real_array(name, "x", x)
    y, slope = room(x.shape, x.dtype), room(x.shape, x.dtype)
    _WITH_SLOPE[name][x.dtype.char](x.reshape(-1), y.reshape(-1), slope.reshape(-1), team_for(x.size))
    return y, slope


_BIASED = {
    "sigmoid": by_dtype(kernels.sigmoid_biased_forward),
    "tanh": by_dtype(kernels.tanh_biased_forward),
    "softplus": by_dtype(kernels.softplus_biased_forward),
    "relu": by_dtype(kernels.relu_biased_forward),
}
_add_bias = by_dtype(kernels.add_bias)
_chain_biased = by_dtype(kernels.chain_biased_backward)


def add_bias(z, b):
    """The sum z + b in place: z (N, O) is a product that nobody else needs. numpy fills a buffer with copies of b."""
    kernel, size = _add_bias[z.dtype.char], rows_a_share(z.shape[1])
    if len(z) <= size:
        kernel(b, z)
    else:
        run_chunks(lambda start, stop: kernel(b, z[start:stop]), len(z), size)
    return z


def value_and_slope_biased(name, z, b):
    """The same for f(z + b), in one pass that writes y over z: z (N, O) is a product that nobody else needs."""
    slope = room(z.shape, z.dtype)
    kernel, size = _BIASED[name][z.dtype.char], rows_a_share(z.shape[1])
    if len(z) <= size:
        kernel(b, z, slope)
    else:
        run_chunks(lambda start, stop: kernel(b, z[start:stop], slope[start:stop]), len(z), size)
    return z, slope


def chain_biased(dy, slope, db):
    """The backward of f(z + b), dz = dy * slope, and its sum over rows, db, in one pass; dy, slope (N, O), db (O,)."""
    dz = room(dy.shape, dy.dtype)
    kernel, size = _chain_biased[dy.dtype.char], rows_a_share(dy.shape[1])
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
    dx = room(dy.shape, dy.dtype)
    _chain[dy.dtype.char](dy.reshape(-1), slope.reshape(-1), dx.reshape(-1), team_for(dy.size))
    return dx
