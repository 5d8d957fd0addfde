"""Plain float64 twins of the losses with all their options: formulas in numpy, and no cleverness.

They return the value together with its gradient, and keep the digits of confident rows, not those of saturated ones.
What an option means where several meet is said here once: test_torch_cross_entropy.py holds these twins to torch, and
test_reference_losses.py their gradients to differences of their values.
"""

import numpy as np
from reference import real


@np.errstate(all="ignore")
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
    grad_output=1.0,
):
    """Of softmax(logits) (N, C) with labels (N,) or probabilities (N, C).

    With c_k = -log p_k, class weights w, smoothing s, and t = onehot(y) for labels y, a row costs
        sum_k w_k ((1 - s) t_k + s / C) c_k (1 - p_k)^gamma
    times its sample weight. A mean divides by the sum of sample weights, each times w_y for labels. Rows whose label is
    `ignore_index` count nowhere.
    """
    z, t = real(logits), np.asarray(target)
    w = np.ones(z.shape[1]) if weight is None else real(weight)
    s, classes = label_smoothing, z.shape[1]
    counted, share = np.ones(len(z), bool), np.ones(len(z))
    if t.ndim == 1:
        counted = t != ignore_index
        z, t = np.where(counted[:, None], z, 0), np.where(counted, t, 0)
        share, t = np.where(counted, w[t], 0), np.eye(classes)[t]
    d = np.where(counted[:, None], w * ((1 - s) * t + s / classes), 0)
    losses, slopes = spread(z, d, lambda cost, p, rest: (d * rest**gamma, d * times(pull(p, rest, gamma), cost)))
    return reduced(losses, slopes, share, sample_weight, reduction, grad_output)


def nll_loss(
    log_probs, target, *, weight=None, sample_weight=None, ignore_index=-100, reduction="mean", grad_output=1.0
):
    """-w_y log_probs_y of a row, for labels (N,); a mean divides by the sum of w_y over rows that are not ignored."""
    x, y = real(log_probs), np.asarray(target)
    w = np.ones(x.shape[1]) if weight is None else real(weight)
    counted = y != ignore_index
    y = np.where(counted, y, 0)
    share, here = np.where(counted, w[y], 0), np.eye(x.shape[1])[y]
    losses, slopes = times(share, -x[np.arange(len(x)), y]), -here * share[:, None]
    return reduced(losses, slopes, share, sample_weight, reduction, grad_output)


# ---- a row ----


def times(a, b):
    """A b, where 0 times anything is 0."""
    return np.where(a == 0, 0, a * b)


def costs(z):
    """c_k = -log p_k = (m - z_k) + log(1 + sum of the other exponentials), m the maximum."""
    top = np.arange(z.shape[1]) == np.argmax(z, 1)[:, None]
    m = np.max(z, 1, keepdims=True)
    return (m - z) + np.log1p(np.sum(np.where(top, 0, np.exp(z - m)), 1, keepdims=True))


def spread(z, d, focused):
    """Losses sum_k a_k c_k and their slopes; `focused` gives a_k and b_k from c, p and 1 - p.

    d c_k / d z_j = p_j - [j = k], and any function of p_k has the same slope times a factor. The slope of the row is
    the sum of these with the factors a_k + b_k, b_k for what changes in a; 1 - p_j is the sum of the others' p.
    """
    cost, others = costs(z), 1 - np.eye(z.shape[1])
    p = np.exp(-cost)
    rest = p @ others
    a, b = focused(cost, p, rest)
    slopes = p * ((a + b) @ others) - (a + b) * rest
    return times(a, cost).sum(1), np.where(np.any(d != 0, 1, keepdims=True), slopes, 0)


def pull(p, rest, gamma):
    """-p d (1 - p)^gamma / d p, with rest = 1 - p: what the focal factor adds to a slope for each nat of loss."""
    return gamma * p * np.where(rest > 0, rest ** (gamma - 1), 0) if gamma else np.zeros_like(p)


# ---- a batch ----


def reduced(losses, slopes, share, sample_weight, reduction, grad_output):
    """The value of losses (N,) that count by their `share` (N,), and its gradient times `grad_output`."""
    rows = len(losses)
    w = np.ones(rows) if sample_weight is None else real(sample_weight)
    losses, slopes = times(w, losses), times(w[:, None], slopes)
    slopes = slopes * np.broadcast_to(real(grad_output), rows)[:, None]
    if reduction == "none":
        return losses, slopes
    count = {"sum": 1, "mean": (w * share).sum(), "batchmean": rows}[reduction]
    return (losses.sum() / count, slopes / count) if count else (0.0, 0 * slopes)
