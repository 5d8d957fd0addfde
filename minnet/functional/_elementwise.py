"""Losses of one element each: binary cross-entropy and squared error."""

import numpy as np

from minnet import _elementwise as kernels
from minnet._checks import real_array
from minnet.functional._reduce import Losses, gradient, like, unit_array
from minnet.functional._share import by_dtype

_bce_with_logits = by_dtype(kernels.binary_cross_entropy_with_logits)
_bce = by_dtype(kernels.binary_cross_entropy)
_squared_error = by_dtype(kernels.squared_error)


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
        value = kernels.binary_cross_entropy_with_logits_door(logits, target, grad)
        if value is not None:
            return value, grad
    z = real_array(owner, "logits", logits)
    t = unit_array(owner, "target", like(owner, "logits", z, target), z.dtype)
    losses = Losses(owner, z.shape, sample_weight, reduction)
    return losses.run(_bce_with_logits, z.reshape(-1), t.reshape(-1), gradient(owner, z, return_grad, out))


def binary_cross_entropy(probs, target, *, sample_weight=None, reduction="mean", return_grad=False, out=None):
    """Cross-entropy of probabilities with targets in [0, 1]: -t log(p) - (1 - t) log(1 - p).

    Nothing is clipped: a wrong certain answer costs inf. Where logits are at hand, use
    `binary_cross_entropy_with_logits`, which keeps the digits that p near 0 or 1 has lost. Parameters and errors as
    there; `probs` must be in [0, 1]. The gradient is (p - t) / (p (1 - p)).
    """
    owner = "binary_cross_entropy"
    p = real_array(owner, "probs", probs)
    p = unit_array(owner, "probs", p, p.dtype)
    t = unit_array(owner, "target", like(owner, "probs", p, target), p.dtype)
    losses = Losses(owner, p.shape, sample_weight, reduction)
    return losses.run(_bce, p.reshape(-1), t.reshape(-1), gradient(owner, p, return_grad, out))


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
    t = like(owner, "prediction", x, target).astype(x.dtype, copy=False)
    losses = Losses(owner, x.shape, sample_weight, reduction)
    return losses.run(_squared_error, x.reshape(-1), t.reshape(-1), gradient(owner, x, return_grad, out))
