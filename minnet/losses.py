"""Losses as objects: what `minnet.functional` computes, with the reduction chosen once.

``loss(outputs, target)`` is the value; ``loss.value_and_grad(outputs, target)`` gives the value and the gradient of
exactly that value. Any object with these two methods serves as a loss; `minnet.check_gradient` tests it.
"""

from minnet import functional as F
from minnet import metrics
from minnet._checks import bad_type, choice

__all__ = ["BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "Loss", "MSELoss"]


class Loss:
    """Base of the losses: a function of minnet.functional with its reduction.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}
        "mean" over all losses, their "sum", all of them ("none"), or their sum divided by the rows ("batchmean").
    """

    function = None

    def __init__(self, *, reduction="mean"):
        self.reduction = choice(type(self).__name__, "reduction", reduction, F.REDUCTIONS)

    def __call__(self, outputs, target, sample_weight=None):
        """The loss of a batch of outputs, a float, or an array for reduction "none"."""
        return type(self).function(outputs, target, sample_weight=sample_weight, reduction=self.reduction)

    def value_and_grad(self, outputs, target, sample_weight=None, out=None):
        """The loss and its gradient with respect to `outputs`, written to `out` if it is given."""
        return type(self).function(
            outputs, target, sample_weight=sample_weight, reduction=self.reduction, return_grad=True, out=out
        )

    def __repr__(self):
        return f"{type(self).__name__}(reduction={self.reduction!r})"


class CrossEntropyLoss(Loss):
    """Cross-entropy of softmax(outputs) with labels (N,) or probabilities (N, C); see `functional.cross_entropy`."""

    function = staticmethod(F.cross_entropy)
    accuracy = staticmethod(metrics.accuracy)  # a loss with an accuracy is a loss of a classifier


class BCEWithLogitsLoss(Loss):
    """Cross-entropy of sigmoid(outputs); see `functional.binary_cross_entropy_with_logits`."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
    accuracy = staticmethod(metrics.binary_accuracy)


class BCELoss(Loss):
    """Cross-entropy of probabilities, never clipped; see `functional.binary_cross_entropy`."""

    function = staticmethod(F.binary_cross_entropy)


class MSELoss(Loss):
    """Squared error (x - t)^2; see `functional.mse_loss`."""

    function = staticmethod(F.mse_loss)


LOSSES = {"cross_entropy": CrossEntropyLoss, "bce": BCEWithLogitsLoss, "mse": MSELoss}


def get_loss(owner, loss):
    """A loss from its name, or the object itself if it can be used as one."""
    if isinstance(loss, str):
        return LOSSES[choice(owner, "loss", loss, LOSSES)]()
    if isinstance(loss, type) or not (callable(loss) and hasattr(loss, "value_and_grad")):
        raise bad_type(owner, "loss must be a name or an object such as CrossEntropyLoss()", loss)
    return loss
