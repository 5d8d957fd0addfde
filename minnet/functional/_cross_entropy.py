"""Cross-entropy of softmax(logits): the loss of a classifier."""

import numpy as np

from minnet import _softmax as kernels
from minnet._checks import any_array, bad_value, label_array, matrix, real_array, words
from minnet.functional._reduce import Losses, gradient, unit_array
from minnet.functional._share import by_dtype

_cross_entropy_index = by_dtype(kernels.cross_entropy_index)
_cross_entropy_soft = by_dtype(kernels.cross_entropy_soft)


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
        value = kernels.cross_entropy_door(logits, target, grad)
        if value is not None:
            return value, grad
    logits = real_array(owner, "logits", logits)
    z = matrix(owner, "logits", logits[None] if logits.ndim == 1 else logits)
    t, kernel = _class_target(owner, target, z, single=logits.ndim == 1)
    losses = Losses(owner, z.shape[:1], sample_weight, reduction)
    return losses.run(kernel, z, t, gradient(owner, logits, return_grad, out))


def _class_target(owner, target, z, single):
    """Checked labels (N,) or probabilities (N, C), with the kernel that takes them."""
    t = any_array(owner, "target", target)
    t = t[None] if single else t
    if t.ndim > 1 and t.shape != z.shape:
        raise bad_value(owner, f"target must have shape ({len(z)},) of labels or {z.shape} of probabilities", t.shape)
    if t.ndim < 2:
        labels = label_array(owner, None if target is None else t, len(z))
        row = kernels.first_outside_range(labels, z.shape[1])
        if row >= 0:
            raise bad_value(owner, f"labels must be in 0 ... {z.shape[1] - 1}", words(f"{t[row]} in row {row}"))
        return labels, _cross_entropy_index
    return unit_array(owner, "target probabilities", t, z.dtype), _cross_entropy_soft
