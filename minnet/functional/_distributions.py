"""Losses of whole distributions that are given as probabilities: Kullback-Leibler divergence and the Brier score."""

import numpy as np

from minnet import _elementwise as kernels
from minnet._checks import any_array, bad_value, matrix, real_array, words
from minnet.functional._reduce import Losses, class_labels, gradient, like, unit_array
from minnet.functional._share import by_dtype

_divergence = by_dtype(kernels.divergence)
_brier = by_dtype(kernels.brier)


def kl_div(
    log_q,
    p,
    *,
    sample_weight=None,
    log_target=False,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """Kullback-Leibler divergence of q from p, term by term: p (log(p) - log(q)), where p = 0 adds 0.

    Parameters
    ----------
    log_q : array_like, shape (N, C), or any other
        Logarithms of the model's probabilities, as `log_softmax` gives them. -inf costs 0 where p is 0, else inf.
    p : array_like, shape of `log_q`
        Wanted probabilities, or their logarithms with `log_target`.
    sample_weight : array_like, shape (N,), optional
        Weights of the rows, finite and not negative.
    log_target : bool
        Whether `p` holds log(p).
    reduction : {"mean", "sum", "none", "batchmean"}
        "batchmean", the sum divided by N, is the divergence of a row, in the mean. The default "mean" is torch's: it
        divides by N C, which is no divergence.
    grad_output : float, or for reduction "none" an array of the shape of `log_q` or (N,), optional
        Gradient of something with respect to the value; it multiplies the gradient, each row of it by its own.
    return_grad : bool
        Also return the gradient with respect to `log_q`, -p (of the sum of the losses for "none").
    out : ndarray, shape of `log_q`, optional
        Where to write the gradient.

    Returns
    -------
    value : float, or ndarray of the shape of `log_q` for reduction "none"
        In nats.
    grad : ndarray, shape of `log_q`
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If shapes disagree, or a probability is outside [0, 1] (its row is named).
    TypeError
        If `log_q` or `p` do not hold real numbers.

    References
    ----------
    S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of Mathematical Statistics 22, 1951.
    """
    owner = "kl_div"
    x = real_array(owner, "log_q", log_q)
    t = like(owner, "log_q", x, p, "p")
    t = _log_probabilities(owner, t).astype(x.dtype, copy=False) if log_target else unit_array(owner, "p", t, x.dtype)
    losses = Losses(owner, x.shape, sample_weight, reduction, grad_output, x.dtype.char)
    grad = gradient(owner, x, return_grad, out)
    return losses.run(_divergence, x.reshape(-1), t.reshape(-1), grad, scalars=(bool(log_target),))


def _log_probabilities(owner, t):
    """`t` itself, if none of it is above 0 or NaN."""
    if t.size and not t.max() <= 0:
        wrong = np.flatnonzero(~(t <= 0))
        where = f" in row {np.unravel_index(wrong[0], t.shape)[0]}" if t.ndim else ""
        raise bad_value(owner, "p must be at most 0 with log_target", words(f"{t.flat[wrong[0]]}{where}"))
    return t


def brier_loss(probs, target, *, sample_weight=None, reduction="mean", grad_output=None, return_grad=False, out=None):
    """Brier score of probabilities: sum_k (p_k - t_k)^2 a row, between 0 and 2.

    Unlike cross-entropy it forgives certain wrong answers, and its gradient vanishes through a saturated softmax.

    Parameters
    ----------
    probs : array_like, shape (N, C)
        Probabilities of the classes in [0, 1], such as `softmax` gives them.
    target : array_like, shape (N,) of integers, or shape (N, C) of numbers in [0, 1]
        Class indices, or one distribution a row, t; for indices t is 1 at the class, else 0.
    sample_weight : array_like, shape (N,), optional
        Weights of the rows, finite and not negative.
    reduction : {"mean", "sum", "none", "batchmean"}
        "mean" is over the rows, divided by the sum of the sample weights; over nothing it is 0.0.
    grad_output : float, or for reduction "none" an array (N,), optional
        Gradient of something with respect to the value; it multiplies the gradient, each row of it by its own.
    return_grad : bool
        Also return the gradient of the value, 2 (p - t) a row (of the sum of the losses for "none").
    out : ndarray, shape (N, C), optional
        Where to write the gradient.

    Returns
    -------
    value : float, or ndarray (N,) for reduction "none"
        Of binary questions, C = 2, this is twice the mean of (p_1 - t_1)^2.
    grad : ndarray, shape (N, C)
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If shapes disagree, or a label or probability is out of range (its row is named).
    TypeError
        If labels are not integers or `probs` not real numbers.

    References
    ----------
    G. W. Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78, 1950.
    """
    owner = "brier_loss"
    p = matrix(owner, "probs", probs)
    p = unit_array(owner, "probs", p, p.dtype)
    t = any_array(owner, "target", target)
    if t.ndim > 1:
        t = unit_array(owner, "target", like(owner, "probs", p, t), p.dtype)
    else:
        t = (class_labels(owner, target, *p.shape)[:, None] == np.arange(p.shape[1])).astype(p.dtype)
    losses = Losses(owner, p.shape[:1], sample_weight, reduction, grad_output)
    return losses.run(_brier, p, t, gradient(owner, p, return_grad, out))
