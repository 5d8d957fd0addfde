"""Plain float64 twins of every kernel: the formula in numpy, and no cleverness.

They are exact where nothing is saturated (tests/test_exactness.py covers the rest with mpmath) and ignore
floating-point flags. Losses return the value together with its gradient. Letters: N rows, C classes.
"""

import math

import numpy as np


def real(x):
    """`x` as a new float64 array."""
    return np.array(x, np.float64)


# ---- activations and their slopes ----


@np.errstate(all="ignore")
def sigmoid(x):
    return 1 / (1 + np.exp(-real(x)))


@np.errstate(all="ignore")
def sigmoid_slope(x):
    return sigmoid(x) * sigmoid(-real(x))


@np.errstate(all="ignore")
def tanh(x):
    return np.tanh(real(x))


@np.errstate(all="ignore")
def tanh_slope(x):
    return 1 / np.cosh(real(x)) ** 2


@np.errstate(all="ignore")
def softplus(x):
    return np.logaddexp(0, real(x))


def softplus_slope(x):
    return sigmoid(x)


@np.errstate(all="ignore")
def log_sigmoid(x):
    return -np.logaddexp(0, -real(x))


def log_sigmoid_slope(x):
    return sigmoid(-real(x))


def relu(x):
    return np.maximum(real(x), 0)


def relu_slope(x):
    return (real(x) > 0).astype(np.float64)


# ---- softmax family ----


@np.errstate(all="ignore")
def logsumexp(x, axis=-1):
    x = real(x)
    m = x.max(axis, keepdims=True)
    return np.squeeze(m + np.log(np.exp(x - m).sum(axis, keepdims=True)), axis)


@np.errstate(all="ignore")
def log_softmax(x, axis=-1):
    x = real(x)
    return x - np.expand_dims(logsumexp(x, axis), axis)


@np.errstate(all="ignore")
def softmax(x, axis=-1):
    return np.exp(log_softmax(x, axis))


# ---- losses: (value, gradient) ----


def reduced(losses, slopes, sample_weight, reduction):
    """The value and gradient of (N, ...) losses with slopes d loss / d x (N, ...), the rows weighed."""
    rows = len(losses) if losses.ndim else 1
    w = np.ones(rows) if sample_weight is None else real(sample_weight)
    weighed = losses * w.reshape(-1, *[1] * (losses.ndim - 1)) if losses.ndim else losses * w[0]
    slopes = slopes * w.reshape(-1, *[1] * (slopes.ndim - 1)) if slopes.ndim else slopes * w[0]
    per_row = losses.size / rows if rows else 0
    count = {"none": 1, "sum": 1, "mean": w.sum() * per_row, "batchmean": rows}[reduction]
    if reduction == "none":
        return weighed, slopes
    return (weighed.sum() / count, slopes / count) if count else (0.0, 0 * slopes)


@np.errstate(all="ignore")
def cross_entropy(logits, target, sample_weight=None, reduction="mean"):
    """Of softmax(logits) (N, C) with labels (N,) or probabilities (N, C)."""
    z, t = real(logits), np.asarray(target)
    if t.ndim == 1:
        t = np.eye(z.shape[1])[t.astype(np.int64)]
    losses = -np.where(t == 0, 0, t * log_softmax(z)).sum(1)
    slopes = t.sum(1, keepdims=True) * softmax(z) - t
    return reduced(losses, slopes, sample_weight, reduction)


@np.errstate(all="ignore")
def binary_cross_entropy_with_logits(
    logits,
    target,
    sample_weight=None,
    reduction="mean",
    *,
    weight=1.0,
    pos_weight=1.0,
    label_smoothing=0.0,
    gamma=0.0,
    alpha=None,
):
    """Of sigmoid(logits) with targets in [0, 1] of the same shape."""
    z, t = real(logits), real(target)
    t = t * (1 - label_smoothing) + label_smoothing / 2
    yes, no = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    yes, no = real(weight) * pos_weight * yes * t, real(weight) * no * (1 - t)
    a, b = sigmoid(z), sigmoid(-z)
    losses = yes * b**gamma * softplus(-z) + no * a**gamma * softplus(z)
    slopes = no * a**gamma * (a + gamma * b * softplus(z)) - yes * b**gamma * (b + gamma * a * softplus(-z))
    return reduced(losses, slopes, sample_weight, reduction)


@np.errstate(all="ignore")
def binary_cross_entropy(probs, target, sample_weight=None, reduction="mean", *, weight=1.0):
    """Of probabilities with targets in [0, 1] of the same shape; a share of 0 adds 0."""
    p, t = real(probs), real(target)
    losses = np.where(t > 0, -t * np.log(p), 0) + np.where(t < 1, -(1 - t) * np.log1p(-p), 0)
    slopes = np.where(t < 1, (1 - t) / (1 - p), 0) - np.where(t > 0, t / p, 0)
    return reduced(weight * losses, weight * slopes, sample_weight, reduction)


@np.errstate(all="ignore")
def kl_div(log_q, p, sample_weight=None, reduction="mean", *, log_target=False):
    """p (log(p) - log_q), term by term; where p = 0 it is 0."""
    x, p = real(log_q), np.exp(real(p)) if log_target else real(p)
    return reduced(np.where(p > 0, p * (np.log(p) - x), 0), -p, sample_weight, reduction)


def brier_loss(probs, target, sample_weight=None, reduction="mean"):
    """sum_k (p_k - t_k)^2 a row, of labels (N,) or probabilities (N, C)."""
    p, t = real(probs), np.asarray(target)
    t = np.eye(p.shape[1])[t] if t.ndim == 1 else real(t)
    w = np.ones(len(p)) if sample_weight is None else real(sample_weight)
    losses = w * ((p - t) ** 2).sum(1)
    count = {"none": 1, "sum": 1, "mean": w.sum(), "batchmean": len(p)}[reduction]
    value = losses if reduction == "none" else losses.sum() / count
    return value, 2 * (p - t) * w[:, None] / count


def mse_loss(prediction, target, sample_weight=None, reduction="mean"):
    """(x - t)^2, element by element."""
    x, t = real(prediction), real(target)
    return reduced((x - t) ** 2, 2 * (x - t), sample_weight, reduction)


def l1_loss(prediction, target, sample_weight=None, reduction="mean"):
    """|x - t|, element by element."""
    error = real(prediction) - real(target)
    return reduced(np.abs(error), np.sign(error), sample_weight, reduction)


def huber_loss(prediction, target, sample_weight=None, reduction="mean", *, delta=1.0):
    """e^2 / 2 for errors up to delta, beyond delta (|e| - delta / 2)."""
    e = real(prediction) - real(target)
    losses = np.where(np.abs(e) <= delta, e**2 / 2, delta * (np.abs(e) - delta / 2))
    return reduced(losses, np.where(np.abs(e) <= delta, e, delta * np.sign(e)), sample_weight, reduction)


def gaussian_nll_loss(mean, target, var, sample_weight=None, reduction="mean", *, full=False, eps=1e-6):
    """-log of a normal density, without its constant unless `full`."""
    e, v = real(mean) - real(target), np.maximum(real(var), eps)
    losses = (np.log(v) + e**2 / v) / 2 + (np.log(2 * np.pi) / 2 if full else 0)
    return reduced(losses, e / v, sample_weight, reduction)


@np.errstate(all="ignore")
def poisson_nll_loss(log_rate, target, sample_weight=None, reduction="mean", *, log_input=True, full=False, eps=1e-8):
    """-log of the probability of a count, with Stirling's log(t!) if `full`."""
    x, t = real(log_rate), real(target)
    losses = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    slopes = np.exp(x) - t if log_input else 1 - t / (x + eps)
    if full:
        losses = losses + np.where(t > 1, t * np.log(t) - t + np.log(2 * np.pi * t) / 2, 0)
    return reduced(losses, slopes, sample_weight, reduction)


# ---- ranges ----


def first_outside_range(y, classes, ignored=None):
    return next((i for i, label in enumerate(y) if label != ignored and not 0 <= label < classes), -1)


def count_labels(y, w, weight, ignored):
    """The sum of weights times those of classes over rows that are not ignored, and how many are."""
    kept = y != ignored
    counts = np.ones(len(y)) if not len(weight) else np.asarray(weight)
    shares = np.ones(kept.sum()) if not len(w) else np.asarray(w, np.float64)[y[kept]]
    return counts[kept] @ shares, np.count_nonzero(~kept)


def add_weights(w):
    """Their sum, and the largest, which is NaN if one is negative or NaN."""
    return np.sum(w), np.max(w, initial=0) if np.all(w >= 0) else math.nan


def are_weights(w):
    return bool(np.all(np.isfinite(w) & (w >= 0)))


def first_outside_unit(x):
    return next((i for i, value in enumerate(x) if not 0 <= value <= 1), -1)


# ---- updates: the new parameters and states ----


def sgd_step(w, g, v, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """One step of SGD as in torch: (w, v). With momentum 0 the velocity is the step itself."""
    w, v = real(w), real(v)
    d = real(g) + weight_decay * w
    v = momentum * v + d
    return w - lr * (d + momentum * v if nesterov else v), v


def adam_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, shrink=0.0):
    """Step number t = 1, 2, ... of Adam as in torch: (w, m, v); `shrink` is lr times the decay of AdamW."""
    w = real(w)
    d = real(g) + weight_decay * w
    m = betas[0] * real(m) + (1 - betas[0]) * d
    v = betas[1] * real(v) + (1 - betas[1]) * d**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return (1 - shrink) * w - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def rmsprop_step(w, q, m, v, g, lr, alpha, eps, momentum=0.0, centered=False, weight_decay=0.0):
    """One step of RMSprop as in torch: (w, q, m, v), q and m the running means of d^2 and d."""
    w = real(w)
    d = real(g) + weight_decay * w
    q, m = alpha * q + (1 - alpha) * d**2, alpha * m + (1 - alpha) * d
    v = momentum * v + d / (np.sqrt(q - m**2 if centered else q) + eps)
    return w - lr * v, q, m, v
