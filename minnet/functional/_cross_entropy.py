"""Cross-entropy of softmax(logits), and of log-probabilities: the losses of a classifier."""

from functools import partial

import numpy as np

from minnet import _cross_entropy as kernels
from minnet._checks import (
    FLOAT64,
    INT64,
    any_array,
    bad_value,
    integer,
    label_array,
    matrix,
    not_negative,
    number,
    real_array,
    words,
)
from minnet.functional._reduce import Losses, add_weights, gradient, unit_array
from minnet.functional._share import NONE, by_dtype, team_for

_index = by_dtype(kernels.cross_entropy_index)
_soft = by_dtype(kernels.cross_entropy_soft)


def cross_entropy(
    logits,
    target,
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
    """Cross-entropy of softmax(logits) with class labels or with target probabilities.

    With p = softmax(logits), and t = onehot(y) for labels y, a row costs

        sum_k w_k ((1 - s) t_k + s / C) (1 - p_k)^gamma (-log p_k),

    w class weights, s the label smoothing. Without options that is -log p_y = logsumexp(logits) - logits_y for labels,
    and its gradient is p - t.

    Parameters
    ----------
    logits : array_like, shape (N, C) or (C,)
        Raw outputs, before any softmax. -inf has probability exactly 0.
    target : array_like, shape (N,) of integers, or shape (N, C) of numbers in [0, 1]
        Class indices, or one distribution a row (whose sum is not checked). One label, or (C,), for logits (C,).
    weight : array_like, shape (C,), optional
        Weights of the classes, finite and not negative.
    sample_weight : array_like, shape (N,), optional
        Weights of the rows, finite and not negative.
    ignore_index : int
        Rows with this label count nowhere, whatever they hold; their gradient is 0. It may be no class. A class that is
        ignored as a label stays in the softmax of the other rows. Only for labels.
    label_smoothing : float in [0, 1]
        Share of the target that is spread evenly over all classes.
    gamma : float >= 0
        Focus on rows that are still wrong (focal loss); 0 is plain cross-entropy.
    reduction : {"mean", "sum", "none", "batchmean"}
        "mean" divides by the sum, over rows that count, of sample weight times the label's class weight (for
        probabilities: of the sample weights); over nothing (no rows, or weights 0) it is 0.0 with zero gradient, where
        torch gives NaN. "batchmean" divides by N.
    grad_output : float, or array_like (N,) for reduction "none", optional
        Gradient of something with respect to the value; the gradient is multiplied by it.
    return_grad : bool
        Also return the gradient of the value (of the sum of the losses for "none").
    out : ndarray, shape of `logits`, optional
        Where to write the gradient.

    Returns
    -------
    value : float, or ndarray (N,) for reduction "none"
        In nats. Without `gamma`, the relative error is at most 4 eps of the dtype, however small the loss is.
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
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4; C. Szegedy et al., Rethinking the
    Inception Architecture, 2016 (smoothing); T.-Y. Lin et al., Focal Loss for Dense Object Detection, 2017 (gamma).
    """
    owner = "cross_entropy"
    direct = (return_grad or out is grad_output is None) and type(reduction) is str
    if direct and type(logits) is type(target) is np.ndarray:
        if target.dtype is not INT64:
            target = _widened(target, INT64, "iu")
        if sample_weight is not None:
            sample_weight = _widened(sample_weight, FLOAT64, "f")
        upstream = 1.0 if grad_output is None else _widened(grad_output, FLOAT64, "f")
        grad = np.empty_like(logits) if return_grad and out is None else out
        losses = np.empty(logits.shape[:1], logits.dtype) if reduction == "none" else None
        given = weight, sample_weight, losses, upstream, reduction, label_smoothing, gamma, ignore_index
        value = kernels.cross_entropy_door(logits, target, grad, *given)
        if value is not None:
            value = value if losses is None else losses
            return (value, grad) if return_grad else value
    logits = real_array(owner, "logits", logits)
    z = matrix(owner, "logits", logits[None] if logits.ndim == 1 else logits)
    options = {"weight": weight, "sample_weight": sample_weight, "ignore_index": ignore_index, "gamma": gamma}
    options |= {"label_smoothing": label_smoothing, "reduction": reduction, "grad_output": grad_output}
    kernel, t, losses = prepare(owner, z, target, single=logits.ndim == 1, **options)
    grad = gradient(owner, logits, return_grad, out)
    return losses.run({z.dtype.char: kernel}, z, t, grad, losses.take_upstream(grad), size=len(z))


def _widened(a, dtype, kinds):
    """`a` in the dtype that a door takes, if it is an array of a narrower one of these kinds."""
    if type(a) is not np.ndarray or a.dtype is dtype:
        return a
    return a.astype(dtype) if a.dtype.kind in kinds and a.dtype.itemsize < dtype.itemsize else a


def prepare(owner, z, target, *, label_smoothing, gamma, reduction, grad_output, single=False, **counting):
    """All checks of a cross-entropy for logits of the shape and dtype of `z` (N, C), whose entries are not looked at.

    Gives the kernel with its options, checked labels or probabilities, and `Losses`.
    """
    smoothing = number(owner, "label_smoothing", label_smoothing, 0, 1)
    gamma = number(owner, "gamma", gamma, 0)
    t = any_array(owner, "target", target)
    t = t[None] if single else t
    char, sample_weight, ignore_index = z.dtype.char, counting["sample_weight"], counting["ignore_index"]
    w = _class_weights(owner, counting["weight"], z, scaled=reduction == "mean" and t.ndim < 2)
    if t.ndim < 2:
        t, ignored = _labels(owner, None if target is None else t, z, ignore_index)
        losses = Losses(owner, z.shape[:1], sample_weight, reduction, grad_output)
        masked = _count_labels(losses, t, w, ignored)
        return partial(_with_options, _index[char], w, (smoothing, gamma, ignored, masked)), t, losses
    t = _probabilities(owner, t, z, ignore_index)
    losses = Losses(owner, z.shape[:1], sample_weight, reduction, grad_output)
    return partial(_with_options, _soft[char], w, (smoothing, gamma)), t, losses


def _with_options(kernel, w, scalars, z, t, *rest):
    return kernel(z, t, w, *rest, *scalars, team_for(z.size))


def _class_weights(owner, weight, z, scaled):
    """Class weights (C,) in the dtype of z, or an empty array where there are none.

    `scaled` divides by the largest, which a mean over labels does not notice: sums and products stay normal numbers.
    """
    if weight is None:
        return NONE[z.dtype.char]
    w = real_array(owner, "weight", weight).astype(np.float64, copy=False)
    if w.shape != z.shape[1:]:
        raise bad_value(owner, f"weight must have shape {z.shape[1:]}, one a class", w.shape)
    _, largest = add_weights(owner, "weight", w)
    with np.errstate(over="ignore", under="ignore"):
        w = (w / largest if scaled and largest else w).astype(z.dtype, copy=False)
    return w if scaled else not_negative(owner, "weight", w)


def _labels(owner, target, z, ignore_index):
    """Labels (N,), in range but for the ignored one, and that in int64."""
    labels = label_array(owner, target, len(z))
    ignored = min(max(integer(owner, "ignore_index", ignore_index), -(2**63)), 2**63 - 1)
    row = kernels.first_outside_range(labels, z.shape[1], ignored)
    if row >= 0:
        got = words(f"{np.asarray(target)[row]} in row {row}")
        raise bad_value(owner, f"labels must be in 0 ... {z.shape[1] - 1}", got)
    return labels, ignored


def _count_labels(losses, labels, w, ignored):
    """Tell a mean what the labels count; gives whether any is ignored."""
    total, masked = kernels.count_labels(labels, np.asarray(w, np.float64), losses.weight, ignored)
    losses.divide_by(total)
    return masked > 0


def _probabilities(owner, t, z, ignore_index):
    """Checked probabilities (N, C)."""
    if t.shape != z.shape:
        raise bad_value(owner, f"target must have shape ({len(z)},) of labels or {z.shape} of probabilities", t.shape)
    if integer(owner, "ignore_index", ignore_index) != -100:
        raise bad_value(owner, "ignore_index is for labels, not for probabilities", ignore_index, "use sample_weight")
    return unit_array(owner, "target probabilities", t, z.dtype)


def nll_loss(
    log_probs,
    target,
    *,
    weight=None,
    sample_weight=None,
    ignore_index=-100,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """Negative log-likelihood of labels: -w_y log_probs_y a row, gradient -w_y at the label and 0 elsewhere.

    After `log_softmax` it is cross-entropy. Where logits are at hand, use `cross_entropy`: one pass, the gradient of
    the logits.

    Parameters
    ----------
    log_probs : array_like, shape (N, C) or (C,)
        Logarithms of probabilities. Nothing is clipped: -inf at the label costs inf.
    target : array_like, shape (N,) of integers
        Labels; one for log_probs (C,).
    weight, sample_weight, ignore_index, reduction, grad_output, return_grad, out
        As in `cross_entropy`.

    Returns
    -------
    value : float, or ndarray (N,) for reduction "none"
        In nats.
    grad : ndarray, shape of `log_probs`
        Only with `return_grad`.

    Raises
    ------
    ValueError, TypeError
        As in `cross_entropy`.
    """
    options = {"sample_weight": sample_weight, "ignore_index": ignore_index, "reduction": reduction, "weight": weight}
    options |= {"grad_output": grad_output, "return_grad": return_grad, "out": out}
    return loss_of_labels("nll_loss", "log_probs", log_probs, target, _pick, **options)


def loss_of_labels(
    owner,
    name,
    x,
    target,
    kernel,
    *,
    sample_weight,
    ignore_index,
    reduction,
    grad_output,
    return_grad,
    out,
    weight=None,
):
    """A loss of outputs (N, C), or (C,), and labels. Its kernel gets what rows count in the place of their weights."""
    outputs = real_array(owner, name, x)
    x = matrix(owner, name, outputs[None] if outputs.ndim == 1 else outputs)
    w = _class_weights(owner, weight, x, scaled=reduction == "mean")
    t = None if target is None else any_array(owner, "target", target)
    t = t[None] if target is not None and outputs.ndim == 1 else t
    t, ignored = _labels(owner, t, x, ignore_index)
    losses = Losses(owner, x.shape[:1], sample_weight, reduction, grad_output)
    _count_labels(losses, t, w, ignored)
    counting = partial(_counting, kernel, w, ignored)
    return losses.run({x.dtype.char: counting}, x, t, gradient(owner, outputs, return_grad, out))


def _counting(kernel, w, ignored, x, y, weight, *rest):
    """Call the kernel with counts, 0 for ignored rows, and with labels that may be looked up."""
    labels = np.where(y == ignored, 0, y)
    counts = (y != ignored) * (w[labels].astype(np.float64) if len(w) else 1.0)
    return kernel(x, labels, counts * weight if len(weight) else counts, *rest)


def _pick(x, y, counts, loss, dx, scale):
    """nll_loss as a kernel; a gather that numpy does as well."""
    values = np.zeros(len(y))
    np.multiply(counts, -x[np.arange(len(y)), y].astype(np.float64), out=values, where=counts != 0)
    if len(loss):
        loss[...] = values
    if len(dx):
        dx[...] = 0
        dx[np.arange(len(y)), y] = -scale * counts
    return float(values.sum())
