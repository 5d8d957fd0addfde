"""The losses of the lab: functions of a sigmoid output a = sigmoid(z) and its target y, seen from the logit z.

By the chain rule dC/dz = dC/da a (1 - a). For a power of the error, C = |a - y|^p / p, dC/da is |a - y|^(p - 1) with
the sign of a - y: for every p the factor a (1 - a) stays, and a neuron that is confidently wrong, with |a - y| near 1,
hardly learns. For cross-entropy dC/da = (a - y) / (a (1 - a)), and the factor cancels.
"""

import math

import numpy as np

from minnet import functional as F
from minnet import metrics
from minnet._checks import any_array, bad_value, choice

__all__ = ["LOSSES", "AbsoluteCost", "CrossEntropyCost", "QuadraticCost", "QuarticCost"]


class Cost:
    """A cost summed over the outputs and averaged over the N rows; it can train a net, as any minnet loss."""

    accuracy = staticmethod(metrics.accuracy)

    def __call__(self, logits, target):
        """The value, a float."""
        return self.value_and_grad(logits, target)[0]


class CrossEntropyCost(Cost):
    """-y log(a) - (1 - y) log(1 - a); dC/dz = a - y."""

    title = "cross-entropy"

    def value_and_grad(self, logits, target):
        """The value and its gradient with respect to the logits (N, O)."""
        return F.binary_cross_entropy_with_logits(logits, target, reduction="batchmean", return_grad=True)


class PowerCost(Cost):
    """|a - y|^p / p, which a subclass tells by `pull`, its derivative with respect to a; dC/dz = pull a (1 - a).

    The error a - y is taken as the gradient of cross-entropy, which knows it from the logit: where a rounds to 1, its
    difference from y = 1 would be 0.
    """

    def value_and_grad(self, logits, target):
        """The value and its gradient with respect to the logits (N, O)."""
        _, error = F.binary_cross_entropy_with_logits(logits, target, reduction="none", return_grad=True)
        _, slope = F.value_and_slope("sigmoid", logits)
        rows = max(math.prod(error.shape[:1]), 1)
        with np.errstate(under="ignore"):
            exact = error.astype(np.float64)
            pull = self.pull(exact)
            return float(np.vdot(pull, exact)) / (self.power * rows), (pull * slope / rows).astype(error.dtype)


class AbsoluteCost(PowerCost):
    """|a - y|; dC/dz = a (1 - a) with the sign of a - y, and 0 where a = y."""

    title = "absolute error"
    power = 1
    pull = staticmethod(np.sign)


class QuadraticCost(PowerCost):
    """(a - y)^2 / 2; dC/dz = (a - y) a (1 - a)."""

    title = "quadratic cost"
    power = 2
    pull = staticmethod(np.positive)


class QuarticCost(PowerCost):
    """(a - y)^4 / 4; dC/dz = (a - y)^3 a (1 - a)."""

    title = "quartic cost"
    power = 4

    @staticmethod
    def pull(error):
        """The derivative of the quarter of the fourth power."""
        return error * error * error


LOSSES = {"mse": QuadraticCost(), "bce": CrossEntropyCost(), "mae": AbsoluteCost(), "quartic": QuarticCost()}


def loss_names(owner, loss, options):
    """One of the `options`, or a sequence of them, each once, as a tuple."""
    names = (loss,) if isinstance(loss, str) else tuple(np.atleast_1d(any_array(owner, "loss", loss)).tolist())
    for name in names:
        choice(owner, "loss", name, options)
    if not names or len(set(names)) < len(names):
        raise bad_value(owner, "loss must be one or more losses, each once", names)
    return names
