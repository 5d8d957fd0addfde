"""Binary cross-entropy: of logits, with class weights, label smoothing and focus, and of probabilities."""

import numpy as np

from minnet import _elementwise as kernels
from minnet._checks import bad_value, number, real_array
from minnet.functional._reduce import (
    LARGEST,
    Losses,
    element_array,
    fit_weights,
    gradient,
    like,
    shaped_array,
    spread,
    unit_array,
)
from minnet.functional._share import NONE, by_dtype

MOST_GAMMA = 1e30  # beyond, products with it would leave float32

_with_logits = by_dtype(kernels.binary_cross_entropy_with_logits)
_bce = by_dtype(kernels.binary_cross_entropy)


def binary_cross_entropy_with_logits(
    logits,
    target,
    *,
    weight=None,
    pos_weight=None,
    sample_weight=None,
    label_smoothing=0.0,
    gamma=0.0,
    alpha=None,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """Cross-entropy of sigmoid(logits) with targets in [0, 1], element by element.

    With z a logit, a = sigmoid(z) and target t: loss = -t log(a) - (1 - t) log(1 - a), gradient a - t: the factor
    a (1 - a) of the sigmoid has cancelled. Both are computed from z and keep their digits in both tails. With options::

        loss = -w (alpha p t (1 - a)^gamma log(a) + (1 - alpha) (1 - t) a^gamma log(1 - a))

    where w is `weight`, p is `pos_weight` and, before that, t becomes t (1 - s) + s / 2 with s = `label_smoothing`.

    Parameters
    ----------
    logits : array_like, shape (N,) or (N, K)
        Raw outputs, before any sigmoid; +-inf is allowed (loss 0 or inf, gradient 0 or +-1).
    target : array_like, shape of `logits`, or (N,) for logits (N, 1)
        Labels 0 and 1, or probabilities. (N, K) asks K questions of each row (multi-label).
    weight : array_like, shape (K,) or of `logits`, or a number, optional
        Weights of the elements, finite and not negative. As in torch they do not enter what "mean" divides by.
    pos_weight : array_like, shape (K,) or of `logits`, or a number, optional
        Factor of the term with t, finite and not negative: the negatives to one positive make both weigh the same.
    sample_weight : array_like, shape (N,), optional
        Weights of the rows. "mean" then divides by their sum, times K: by the weight of all elements. In the dtype of
        `logits` they are read without a copy.
    label_smoothing : float
        Between 0 and 1: how far targets are moved to 1/2.
    gamma : float
        Focus, not negative: what is right already counts the less, the larger gamma is; 0 is cross-entropy itself.
    alpha : float, optional
        Between 0 and 1: balance of positive (alpha) and negative terms (1 - alpha).
    reduction : {"mean", "sum", "none", "batchmean"}
        "mean" is over all elements, "batchmean" is the sum divided by N; see `cross_entropy`.
    grad_output : float, or for reduction "none" an array of the shape of `logits` or (N,), optional
        Gradient of something with respect to the value; it multiplies the gradient, each row of it by its own.
    return_grad : bool
        Also return the gradient of the value (of the sum of the losses for "none").
    out : ndarray, shape of `logits`, optional
        Where to write the gradient.

    Returns
    -------
    value : float, or ndarray of the shape of `logits` for reduction "none"
        In nats. The relative error of a loss and of its gradient, for t = 0 or 1, is at most 4 eps of the dtype, with
        options (gamma up to 5) at most 8 eps, however small they are, down to the least normal number.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If shapes disagree, or a target is outside [0, 1] or a weight negative (its row is named), or an option is out
        of its range.
    TypeError
        If what should be real numbers is not.

    References
    ----------
    T.-Y. Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv:1708.02002 (gamma, alpha).
    C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2015, arXiv:1512.00567 (smoothing).
    """
    owner = "binary_cross_entropy_with_logits"
    direct = (return_grad or out is grad_output is None) and type(reduction) is str
    if direct and type(logits) is type(target) is np.ndarray:
        grad = np.empty_like(logits) if return_grad and out is None else out
        losses = np.empty_like(logits) if reduction == "none" else None
        given = weight, sample_weight, losses, grad_output, reduction, pos_weight, alpha, label_smoothing, gamma
        value = kernels.binary_cross_entropy_with_logits_door(logits, target, grad, *given)
        if value is not None:
            value = value if losses is None else losses
            return (value, grad) if return_grad else value
        del grad, losses, given  # arrays of its size beside those that follow would cost new pages at each call
    z = real_array(owner, "logits", logits)
    target = like(owner, "logits", z, target)
    smoothing = number(owner, "label_smoothing", label_smoothing, 0, 1)
    gamma = number(owner, "gamma", gamma, 0, MOST_GAMMA)
    losses = Losses(owner, z.shape, sample_weight, reduction, grad_output, z.dtype.char)
    factors = _Factors(owner, z, weight, pos_weight, alpha)

    def check():
        factors.check()
        return unit_array(owner, "target", target, z.dtype)

    # The kernel looks at targets and weights; what it has written is thrown away if one is wrong.
    t = check() if out is not None or target.dtype != z.dtype else target
    grad = gradient(owner, z, return_grad, out)
    inputs = *factors.arrays, losses.take_upstream(grad)
    scalars = losses.per_row, *factors.numbers, smoothing, gamma
    return losses.run(
        _with_logits, z.reshape(-1), t.reshape(-1), grad, *inputs, scalars=scalars, check=check, by_row=True
    )


class _Factors:
    """What multiplies the terms of t and of 1 - t: two numbers, times `weight` and, the first, `pos_weight`."""

    def __init__(self, owner, z, weight, pos_weight, alpha):
        self.owner, self.dtype = owner, z.dtype
        given = {"weight": weight, "pos_weight": pos_weight}
        self.given = {name: shaped_array(owner, name, a, z.shape) for name, a in given.items() if a is not None}
        alpha = None if alpha is None else number(owner, "alpha", alpha, 0, 1)
        yes, no = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
        numbers = {name: float(a) for name, a in self.given.items() if a.ndim == 0}
        weight = numbers.get("weight", 1.0)
        self.numbers = yes * numbers.get("pos_weight", 1.0) * weight, no * weight
        arrays = {name: np.ascontiguousarray(a).reshape(-1) for name, a in self.given.items() if a.ndim > 0}
        self.arrays = [arrays.get(name, NONE["d"]) for name in given]
        if any(a.ndim == 0 or a.size < z.size for a in self.given.values()):
            self.check()  # few numbers are looked at here

    def check(self):
        """Raise an error unless all are finite and not negative, numbers and pos_weight in the dtype of the logits."""
        for name, a in self.given.items():
            fit_weights(self.owner, name, a)
        positive = self.arrays[1]
        largest = max(self.numbers) * (float(positive.max()) if len(positive) else 1.0)
        if not largest <= LARGEST[self.dtype.char]:
            raise bad_value(self.owner, f"weight and pos_weight must be finite in {self.dtype}", largest)


def binary_cross_entropy(
    probs,
    target,
    *,
    weight=None,
    sample_weight=None,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """Cross-entropy of probabilities with targets in [0, 1]: -w (t log(p) + (1 - t) log(1 - p)).

    Nothing is clipped: a wrong certain answer costs inf. Where logits are at hand, use
    `binary_cross_entropy_with_logits`, which keeps the digits that p near 0 or 1 has lost. Parameters and errors as
    there; `probs` must be in [0, 1]. The gradient is w (p - t) / (p (1 - p)).
    """
    owner = "binary_cross_entropy"
    p = real_array(owner, "probs", probs)
    p = unit_array(owner, "probs", p, p.dtype)
    t = unit_array(owner, "target", like(owner, "probs", p, target), p.dtype).reshape(-1)
    w = 1.0 if weight is None else element_array(owner, "weight", weight, p.shape)
    losses = Losses(owner, p.shape, sample_weight, reduction, grad_output, p.dtype.char)
    periods, weights = spread(owner, "weight", p, w)
    grad = gradient(owner, p, return_grad, out)
    return losses.run(_bce, p.reshape(-1), t, grad, *weights, scalars=periods)
