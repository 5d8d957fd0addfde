"""Losses of labels beside cross-entropy: one that forgives wrong labels, and one of margins."""

from functools import partial

import numpy as np

from minnet import _cross_entropy as kernels
from minnet._checks import number
from minnet.functional._cross_entropy import loss_of_labels
from minnet.functional._share import NO_ROWS, NONE, by_dtype

_cross_entropy = by_dtype(kernels.cross_entropy_index)


def generalized_cross_entropy(
    logits,
    target,
    *,
    q=0.7,
    sample_weight=None,
    ignore_index=-100,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """(1 - p_y^q) / q a row, p = softmax(logits): between cross-entropy (q near 0) and 1 - p_y (q = 1).

    Its gradient is p_y^q times that of cross-entropy: a row whose label the net finds absurd, as wrong labels are,
    pulls hardly at all, where with cross-entropy it pulls most. A net that is far off learns slowly, for that reason.

    Parameters
    ----------
    logits : array_like, shape (N, C) or (C,)
        Raw outputs, before any softmax.
    target : array_like, shape (N,) of integers
        Labels; one for logits (C,).
    q : float
        In (0, 1]; the larger, the more it forgives.
    sample_weight, ignore_index, reduction, grad_output, return_grad, out
        As in `cross_entropy`.

    Returns
    -------
    value : float, or ndarray (N,) for reduction "none"
        At most 1 / q a row.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    ValueError, TypeError
        As in `cross_entropy`, or if `q` is not in (0, 1].

    References
    ----------
    Z. Zhang and M. Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, 2018.

    Examples
    --------
    >>> round(generalized_cross_entropy([[2.0, 0.0]], [1], q=1.0), 4)  # 1 - p_y
    0.8808
    """
    owner = "generalized_cross_entropy"
    kernel = partial(_generalized, number(owner, "q", q, 0, 1, above=True))
    options = {"sample_weight": sample_weight, "ignore_index": ignore_index, "reduction": reduction}
    options |= {"grad_output": grad_output, "return_grad": return_grad, "out": out}
    return loss_of_labels(owner, "logits", logits, target, kernel, **options)


def _generalized(q, z, y, counts, loss, dx, scale):
    """With c = -log(p_y): (1 - exp(-q c)) / q, and the kernel of cross-entropy with rows weighed by exp(-q c)."""
    char = z.dtype.char
    costs, plain = np.empty(len(z), z.dtype), (0.0, 0.0, 0, False)
    _cross_entropy[char](z, y, NONE[char], NONE["d"], (counts != 0) * 1.0, costs, NO_ROWS[char], 1.0, *plain)
    exponents = -q * costs.astype(np.float64)
    values = counts * -np.expm1(exponents) / q
    if len(loss):
        loss[...] = values
    if len(dx):
        _cross_entropy[char](z, y, NONE[char], NONE["d"], counts * np.exp(exponents), NONE[char], dx, scale, *plain)
    return float(values.sum())


def hinge_loss(
    logits,
    target,
    *,
    margin=1.0,
    sample_weight=None,
    ignore_index=-100,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """How far other classes come within `margin` of the label: sum over k != y of max(0, margin + z_k - z_y) / C a row.

    The multi-class hinge loss of Weston and Watkins, torch's `multi_margin_loss`. Its gradient is 1 / C for each class
    that comes too close and the negative sum of these for the label; 0 at the corner.

    Parameters
    ----------
    logits : array_like, shape (N, C) or (C,)
        Scores z of the classes; they need not be logarithms of anything.
    target : array_like, shape (N,) of integers
        Labels; one for logits (C,).
    margin : float
        Above 0.
    sample_weight, ignore_index, reduction, grad_output, return_grad, out
        As in `cross_entropy`.

    Returns
    -------
    value : float, or ndarray (N,) for reduction "none"
        In the unit of the scores.
    grad : ndarray, shape of `logits`
        Only with `return_grad`.

    Raises
    ------
    ValueError, TypeError
        As in `cross_entropy`, or if `margin` is not above 0.

    References
    ----------
    J. Weston and C. Watkins, Support Vector Machines for Multi-Class Pattern Recognition, 1999.

    Examples
    --------
    >>> hinge_loss([[2.0, 1.5, -1.0]], [0], margin=2.0)  # 1.5 / 3
    0.5
    """
    owner = "hinge_loss"
    kernel = partial(_margins, number(owner, "margin", margin, 0, above=True))
    options = {"sample_weight": sample_weight, "ignore_index": ignore_index, "reduction": reduction}
    options |= {"grad_output": grad_output, "return_grad": return_grad, "out": out}
    return loss_of_labels(owner, "logits", logits, target, kernel, **options)


def _margins(margin, z, y, counts, loss, dx, scale):
    rows, shares = np.arange(len(y)), counts / max(z.shape[1], 1)
    z = np.where(counts[:, None] != 0, z, 0).astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        short = np.maximum(z - (z[rows, y] - margin)[:, None], 0)
    short[rows, y] = 0
    values = shares * short.sum(1)
    if len(loss):
        loss[...] = values
    if len(dx):
        slopes = (short > 0) * (scale * shares)[:, None]
        slopes[rows, y] = -slopes.sum(1)
        dx[...] = slopes
    return float(values.sum())
