"""The law of a saturated neuron: how many epochs it takes to learn, in the limit of small steps.

A neuron z = w x + b, a = sigmoid(z), with target 0 takes the step lr x dC/dz from w and lr dC/dz from b, and therefore
lr (1 + x^2) dC/dz from z. With t in epochs and steps so small that they make a smooth path,

    cross-entropy     dz/dt = -lr (1 + x^2) a                F(z) = z - exp(-z)
    quadratic cost    dz/dt = -lr (1 + x^2) a^2 (1 - a)      F(z) = exp(z) + 3 z - 3 exp(-z) - exp(-2 z) / 2

where F is the integral of 1/a, or of 1/(a^2 (1 - a)): lr (1 + x^2) t = F(z(0)) - F(z(t)). With the depth of saturation
z, the epochs grow linearly under the one cost, and exponentially under the other. docs/saturation.md derives it, also
for the other powers p of the error, whose speed is a^p (1 - a).
"""

import math
from functools import partial

import numpy as np

from minnet._checks import bad_value, choice, number, real_array, words

__all__ = ["INTEGRALS", "epochs_by_law"]

OWNER = "epochs_by_law"


def epochs_by_law(z0, x=1.0, y=0.0, loss="bce", lr=0.15, threshold=0.1):
    """Epochs until |sigmoid(z) - y| = threshold for neurons that start at the logit z0, in the limit of small steps.

    (F(u0) - F(u1)) / (lr (1 + x^2)), with u = z for y = 0, u = -z for y = 1, and u1 = log(threshold / (1 - threshold));
    F(u) is u - exp(-u) for cross-entropy, exp(u) + 3 u - 3 exp(-u) - exp(-2 u) / 2 for the quadratic cost, and alike
    for the other powers of the error. Gradient descent takes whole steps: it ends up to one epoch later, by rounding
    up, and log(f(u0) / f(u1)) / 2 epochs sooner, where f = 1 / F', but for what is of the order of lr (1 + x^2).

    Parameters
    ----------
    z0, x, lr : array_like
        Starting logits, inputs, learning rates >= 0; z0, x, y and lr are broadcast against each other.
    y : array_like
        Targets, 0 or 1.
    loss : {"bce", "mse", "mae", "quartic"}
        Cross-entropy, quadratic cost, absolute error or quartic cost.
    threshold : float in (0, 1)
        How near the output must come to the target.

    Returns
    -------
    ndarray or float
        Epochs, not rounded; 0 where the start is near enough, inf where they are beyond float64 or lr is 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> import minnet as mn
    >>> mn.lab.epochs_by_law([2, 4, 8], loss="bce").round()
    array([44., 51., 64.])
    >>> mn.lab.epochs_by_law([2, 4, 8], loss="mse").round()
    array([  290.,   468., 10263.])
    """
    integral = INTEGRALS[choice(OWNER, "loss", loss, INTEGRALS)]
    z0, x, y, lr = _arrays(z0=z0, x=x, y=y, lr=lr)
    if not 0 < number(OWNER, "threshold", threshold) < 1:
        raise bad_value(OWNER, "threshold must be above 0 and below 1", threshold)
    if not np.all((y == 0) | (y == 1)):
        raise bad_value(OWNER, "y must be 0 or 1", words(f"{y[(y != 0) & (y != 1)][0]:g}"))
    end = np.log(threshold) - np.log1p(-threshold)
    start = np.maximum(z0 * (1 - 2 * y), end)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        epochs = (integral(start) - integral(end)) / (lr * (1 + x * x))
    return np.where(start == end, 0.0, epochs)[()]


def _arrays(**given):
    """All in float64 and finite, of shapes that broadcast."""
    arrays = {name: real_array(OWNER, name, a).astype(np.float64) for name, a in given.items()}
    for name, a in arrays.items():
        if not np.all(np.isfinite(a)) or (name == "lr" and np.any(a < 0)):
            raise bad_value(OWNER, f"{name} must hold finite numbers" + " >= 0" * (name == "lr"), a)
    try:
        np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        rule = "z0, x, y and lr must broadcast"
        raise bad_value(OWNER, rule, [a.shape for a in arrays.values()]) from None
    return arrays.values()


def _integral_bce(u):
    return u - np.exp(-u)


def _integral_power(power, u):
    """Of 1 / (a^p (1 - a)) = (1 + e^u)^(p + 1) / e^(p u), term by term."""
    tail = sum(math.comb(power + 1, power - j) * np.exp(-j * u) / j for j in range(1, power + 1))
    return np.exp(u) + (power + 1) * u - tail


INTEGRALS = {"bce": _integral_bce} | {
    name: partial(_integral_power, power) for name, power in (("mse", 2), ("mae", 1), ("quartic", 4))
}
