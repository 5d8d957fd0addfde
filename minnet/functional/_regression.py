"""Losses of numbers: squared and absolute error, Huber's loss, and likelihoods of measurements and of counts."""

import numpy as np

from minnet import _elementwise as kernels
from minnet._checks import bad_value, not_negative, number, real_array
from minnet.functional._reduce import Losses, gradient, like, spread
from minnet.functional._share import by_dtype

_squared_error = by_dtype(kernels.squared_error)
_absolute_error = by_dtype(kernels.absolute_error)
_huber = by_dtype(kernels.huber)
_gaussian_nll = by_dtype(kernels.gaussian_nll)
_poisson_nll = by_dtype(kernels.poisson_nll)


def mse_loss(
    prediction, target, *, sample_weight=None, reduction="mean", grad_output=None, return_grad=False, out=None
):
    """Squared error (x - t)^2, element by element, gradient 2 (x - t).

    Parameters
    ----------
    prediction : array_like, shape (N,) or (N, O)
        Outputs.
    target : array_like, shape of `prediction`, or (N,) for a prediction (N, 1)
        Wanted outputs. No other shape is broadcast.
    sample_weight : array_like, shape (N,), optional
        Weights of the rows, finite and not negative.
    reduction : {"mean", "sum", "none", "batchmean"}
        "mean" is over all elements (their weights times losses, divided by the sum of the weights), "batchmean" is the
        sum divided by N; over nothing both are 0.0.
    grad_output : float, or for reduction "none" an array of the shape of `prediction` or (N,), optional
        Gradient of something with respect to the value; it multiplies the gradient, each row of it by its own.
    return_grad : bool
        Also return the gradient of the value (of the sum of the losses for "none").
    out : ndarray, shape of `prediction`, optional
        Where to write the gradient.

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
    x, t = _pair("mse_loss", "prediction", prediction, target)
    losses = Losses("mse_loss", x.shape, sample_weight, reduction, grad_output, x.dtype.char)
    return losses.run(_squared_error, x.reshape(-1), t, gradient("mse_loss", x, return_grad, out))


def l1_loss(prediction, target, *, sample_weight=None, reduction="mean", grad_output=None, return_grad=False, out=None):
    """Absolute error |x - t|, element by element, gradient sign(x - t), which is 0 where x = t.

    In the target's unit; its mean is least at the median. Parameters and errors as in `mse_loss`.
    """
    x, t = _pair("l1_loss", "prediction", prediction, target)
    losses = Losses("l1_loss", x.shape, sample_weight, reduction, grad_output, x.dtype.char)
    return losses.run(_absolute_error, x.reshape(-1), t, gradient("l1_loss", x, return_grad, out))


def huber_loss(
    prediction,
    target,
    *,
    delta=1.0,
    sample_weight=None,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """Huber's loss: e^2 / 2 for errors e = x - t up to `delta` > 0, beyond delta (|e| - delta / 2).

    Its gradient is e, cut off at -delta and delta. Other parameters and errors as in `mse_loss`.

    References
    ----------
    P. J. Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35, 1964.
    """
    x, t = _pair("huber_loss", "prediction", prediction, target)
    delta = number("huber_loss", "delta", delta, 0, above=True)
    losses = Losses("huber_loss", x.shape, sample_weight, reduction, grad_output, x.dtype.char)
    return losses.run(_huber, x.reshape(-1), t, gradient("huber_loss", x, return_grad, out), scalars=(delta,))


def gaussian_nll_loss(
    mean,
    target,
    var,
    *,
    full=False,
    eps=1e-6,
    sample_weight=None,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    var_grad=False,
    out=None,
):
    """-log of the density of the target under a normal distribution: (log(v) + (x - t)^2 / v) / 2, v = max(var, eps).

    Parameters
    ----------
    mean : array_like, shape (N,) or (N, O)
        Means x. The gradient is the one with respect to them, (x - t) / v; see `var_grad`.
    target : array_like, shape of `mean`, or (N,) for a mean (N, 1)
        Measured values t.
    var : array_like, shape of `mean`, or (N,) or (N, 1), one a row, or a number
        Variances, in the square of the target's unit; finite and not negative.
    full : bool
        Add the constant log(2 pi) / 2.
    eps : float
        Least variance, > 0.
    var_grad : bool
        With `return_grad`, also return the gradient of the variances, (1 - (x - t)^2 / v) / (2 v), and 0 below `eps`:
        for a net that predicts them.
    sample_weight, reduction, grad_output, return_grad, out
        As in `mse_loss`.

    Returns
    -------
    value : float, or ndarray of the shape of `mean` for reduction "none"
        In nats. As of every density, negative for small variances.
    grad : ndarray, shape of `mean`
        Only with `return_grad`.
    grad_var : ndarray, shape of `mean`
        Only with `var_grad`: one for each loss, also where one variance serves several.

    Raises
    ------
    ValueError
        If shapes disagree, or a variance is negative or not finite (its row is named), or `eps` is not above 0.
    TypeError
        If what should be real numbers is not.

    References
    ----------
    D. A. Nix and A. S. Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994.
    """
    owner = "gaussian_nll_loss"
    x, t = _pair(owner, "mean", mean, target)
    v = not_negative(owner, "var", var)
    if v.ndim and v.shape == x.shape[:1]:
        v = v.reshape(-1, *[1] * (x.ndim - 1))
    if v.shape not in ((), x.shape, (*x.shape[:1], *[1] * (x.ndim - 1))):
        raise bad_value(owner, f"var must be a number or have shape {x.shape} or {x.shape[:1]}", v.shape)
    eps = number(owner, "eps", eps, 0, above=True)
    losses = Losses(owner, x.shape, sample_weight, reduction, grad_output, x.dtype.char)
    periods, variances = spread(owner, "var", x, v if v.ndim == 0 else np.broadcast_to(v, x.shape))
    if var_grad and not return_grad:
        raise bad_value(owner, "var_grad needs return_grad=True", return_grad)
    grad = gradient(owner, x, return_grad, out)
    slopes = _slopes_of_variances(losses, x, t, v, eps) if var_grad else None
    scalars = (*periods, eps, bool(full))
    found = losses.run(_gaussian_nll, x.reshape(-1), t, grad, *variances, scalars=scalars)
    return (*found, slopes) if var_grad else found


def _slopes_of_variances(losses, x, t, v, eps):
    """The gradient of gaussian_nll_loss with respect to v, weighed and reduced as the loss is."""
    slopes = np.empty_like(x)
    v = np.ascontiguousarray(np.broadcast_to(v, x.shape), x.dtype).reshape(-1)

    def kernel(x, t, v, light, weight, loss, dv, *scalars):
        scale, _ = scalars  # and a team
        v = v.astype(np.float64)
        counts = light.astype(np.float64) if len(light) else weight if len(weight) else np.ones(len(x))
        with np.errstate(all="ignore"):  # what a weight of 0, or a variance below eps, leaves out may be anything
            slope = (1 - (x - t.astype(np.float64)) ** 2 / v) / (2 * v)
            dv[...] = np.where((v > eps) & (counts != 0), scale * counts * slope, 0)
        return 0.0

    losses.run({x.dtype.char: kernel}, x.reshape(-1), t, slopes, v)
    return slopes


def poisson_nll_loss(
    log_rate,
    target,
    *,
    log_input=True,
    full=False,
    eps=1e-8,
    sample_weight=None,
    reduction="mean",
    grad_output=None,
    return_grad=False,
    out=None,
):
    """-log of the probability of the target, a count, under a Poisson distribution: exp(x) - t x, gradient exp(x) - t.

    Parameters
    ----------
    log_rate : array_like, shape (N,) or (N, O)
        Logarithms x of the expected counts; -inf is allowed (loss 0 for a count of 0, else inf).
    target : array_like, shape of `log_rate`, or (N,) for (N, 1)
        Counts t, finite and not negative; they need not be whole.
    log_input : bool
        If False, `log_rate` holds the expected counts themselves, finite and not negative, and the loss is
        x - t log(x + eps), its gradient 1 - t / (x + eps).
    full : bool
        Add t log(t) - t + log(2 pi t) / 2 for t > 1, Stirling's approximation of log(t!).
    eps : float
        Not negative; keeps the logarithm from 0 without `log_input`.
    sample_weight, reduction, grad_output, return_grad, out
        As in `mse_loss`.

    Returns
    -------
    value : float, or ndarray of the shape of `log_rate` for reduction "none"
        In nats.
    grad : ndarray, shape of `log_rate`
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If shapes disagree, or a count, rate or `eps` is negative or not finite (its row is named).
    TypeError
        If what should be real numbers is not.

    References
    ----------
    P. McCullagh and J. A. Nelder, Generalized Linear Models, 1989, chapter 6.
    """
    owner = "poisson_nll_loss"
    x, t = _pair(owner, "log_rate", log_rate, target)
    not_negative(owner, "target", t.reshape(x.shape))
    if not log_input:
        not_negative(owner, "log_rate, which holds rates without log_input,", x)
    eps = number(owner, "eps", eps, 0)
    losses = Losses(owner, x.shape, sample_weight, reduction, grad_output, x.dtype.char)
    grad = gradient(owner, x, return_grad, out)
    return losses.run(_poisson_nll, x.reshape(-1), t, grad, scalars=(eps, bool(log_input), bool(full)))


def _pair(owner, name, x, target):
    """Predictions as they are, and flat targets of their dtype."""
    x = real_array(owner, name, x)
    return x, like(owner, name, x, target).astype(x.dtype, copy=False).reshape(-1)
