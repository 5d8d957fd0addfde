"""A linear layer and its cross-entropy in one, for so many classes that their logits do not fit."""

import numpy as np

from minnet._checks import bad_value, matrix, out_array, real_array
from minnet.functional._cross_entropy import prepare
from minnet.functional._product import multiply
from minnet.functional._share import NO_ROWS, NONE

# Bytes of logits, or of their gradient, which takes their place, that exist at once: as large as 100 MB in all allow,
# because each block reads and writes dW, and large matrix products are the faster ones.
BLOCK = 80_000_000


def linear_cross_entropy(
    x,
    W,
    target,
    b=None,
    *,
    weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    gamma=0.0,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """Cross-entropy of softmax(x @ W + b), block by block of rows: the logits (N, C) never exist whole.

    dx = dz W^T, dW = x^T dz, db = sum of dz over rows, where dz (N, C), the gradient of the logits, is that of
    `cross_entropy` and exists by blocks, too. Less than 100 MB (or a row of logits and a column of dW, if that is
    more) are needed beside inputs and gradients.

    Parameters
    ----------
    x : array_like, shape (N, I)
        Inputs of the layer.
    W : array_like, shape (I, C)
        Its weights.
    target : array_like, shape (N,) of integers, or shape (N, C) of numbers in [0, 1]
        As in `cross_entropy`.
    b : array_like, shape (C,), optional
        Its biases; 0 without.
    weight, sample_weight, ignore_index, label_smoothing, gamma, reduction, grad_output, return_grad
        As in `cross_entropy`.
    out : tuple of ndarray (dx, dW, db), optional
        Where to write the gradients; db is None where `b` is.

    Returns
    -------
    value : float, or ndarray (N,) for reduction "none"
        In nats.
    grads : tuple of ndarray (dx, dW, db)
        Only with `return_grad`; db is None where `b` is.

    Raises
    ------
    ValueError
        If shapes disagree, or a label or probability is out of range, before anything is computed.
    TypeError
        If labels are not integers, or the others not real numbers.

    References
    ----------
    E. Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models, 2024, arXiv:2411.09009.
    """
    owner = "linear_cross_entropy"
    x = matrix(owner, "x", x)
    W = matrix(owner, "W", W, dtype=x.dtype)
    if len(W) != x.shape[1]:
        raise bad_value(owner, f"W must have shape ({x.shape[1]}, C), a row for each column of x", W.shape)
    b = _biases(owner, b, W)
    logits = np.broadcast_to(x.dtype.type(0), (len(x), W.shape[1]))  # their shape and dtype, no memory
    options = {"weight": weight, "sample_weight": sample_weight, "ignore_index": ignore_index, "gamma": gamma}
    options |= {"label_smoothing": label_smoothing, "reduction": reduction, "grad_output": grad_output}
    kernel, t, losses = prepare(owner, logits, target, **options)
    grads = _gradients(owner, x, W, b, return_grad, out)
    if grads is None:
        return losses.run({x.dtype.char: _Blocks(kernel, W, b)}, x, t, None, NONE["d"], size=len(x))
    dx, dW, db = grads
    W, b = (_apart(a, grads) for a in (W, b))
    blocks = {x.dtype.char: _Blocks(kernel, W, b, dW, db)}
    value, _ = losses.run(blocks, x, t, dx, losses.take_upstream(dx), size=len(x))
    return value, grads


def _apart(a, grads):
    """`a`, copied if a gradient overlaps it."""
    shared = a is not None and any(g is not None and np.may_share_memory(a, g) for g in grads)
    return a.copy() if shared else a


def _biases(owner, b, W):
    if b is None:
        return None
    b = real_array(owner, "b", b)
    if b.shape != W.shape[1:]:
        raise bad_value(owner, f"b must have shape {W.shape[1:]}, one a class", b.shape)
    return np.ascontiguousarray(b, W.dtype)


def _gradients(owner, x, W, b, return_grad, out):
    """Arrays for (dx, dW, db), or None where they are not wanted."""
    if not return_grad:
        if out is not None:
            raise bad_value(owner, "out is for gradients and needs return_grad=True", return_grad)
        return None
    if out is None:
        return tuple(None if a is None else np.empty(a.shape, a.dtype) for a in (x, W, b))
    if not isinstance(out, tuple) or len(out) != 3 or (out[2] is None) != (b is None):
        raise bad_value(owner, "out must be a tuple (dx, dW, db), db None where b is", out)
    return tuple(
        None if a is None else out_array(owner, g, a.shape, a.dtype) for g, a in zip(out, (x, W, b), strict=True)
    )


class _Blocks:
    """A kernel of logits as one of the inputs of a linear layer, whose gradients it writes to dW and db."""

    def __init__(self, kernel, W, b, dW=None, db=None):
        self.kernel, self.W, self.b, self.dW, self.db = kernel, W, b, dW, db

    def __call__(self, x, t, upstream, weight, losses, dx, scale):
        """The sum of the losses; gradients, if `dx` is wanted."""
        classes = self.W.shape[1]
        blocks = -(-len(x) * classes * x.itemsize // BLOCK) or 1
        rows = -(-len(x) // blocks) or 1
        z = np.empty((rows, classes), x.dtype)
        total = 0.0
        self._clear()
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            dz = z[: len(x[part])]
            multiply(x[part], self.W, dz, self.b)
            arrays = dz, t[part], upstream[part], weight[part], losses[part], dz if len(dx) else NO_ROWS[x.dtype.char]
            total += self.kernel(*arrays, scale)
            if len(dx):
                multiply(dz, self.W.T, dx[part])
                multiply(np.ascontiguousarray(x[part].T), dz, self.dW, self.dW, self.db)
        return total

    def _clear(self):
        for sums in (self.dW, self.db):
            if sums is not None:
                sums[...] = 0
