"""The losses of the lab: functions of a sigmoid output a = sigmoid(z) and its target y, seen from the logit z.

By the chain rule dC/dz = dC/da a (1 - a). For the quadratic cost dC/da = a - y, so the factor a (1 - a) stays, and a
neuron that is confidently wrong hardly learns. For cross-entropy dC/da = (a - y) / (a (1 - a)), and the factor cancels.
"""

from minnet import functional as F
from minnet import metrics

__all__ = ["LOSSES", "CrossEntropyCost", "QuadraticCost"]


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


class QuadraticCost(Cost):
    """(a - y)^2 / 2; dC/dz = (a - y) a (1 - a)."""

    title = "quadratic cost"

    def value_and_grad(self, logits, target):
        """The value and its gradient with respect to the logits (N, O)."""
        a, slope = F.value_and_slope("sigmoid", logits)
        value, twice = F.mse_loss(a, target, reduction="batchmean", return_grad=True)
        return value / 2, F.chain(twice, slope) / 2


LOSSES = {"mse": QuadraticCost(), "bce": CrossEntropyCost()}
