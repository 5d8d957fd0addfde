"""Losses as objects: what `minnet.functional` computes, with its options chosen once.

``loss(outputs, target)`` is the value; ``loss.value_and_grad(outputs, target)`` gives the value and the gradient of
exactly that value. Any object with these two methods serves as a loss; `minnet.check_gradient` tests it.
"""

import reprlib

import numpy as np

from minnet import functional as F
from minnet import metrics
from minnet._checks import bad_type, bad_value, choice, integer, not_negative, number, words
from minnet._rooms import gradient_room

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "BrierLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "GeneralizedCrossEntropyLoss",
    "HingeLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "PoissonNLLLoss",
]


class Loss:
    """Base of the losses: a function of minnet.functional with its options, which are attributes of the same names.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}
        "mean" over all losses, their "sum", all of them ("none"), or their sum divided by the rows ("batchmean").
    **options
        Further keyword arguments of the function, from subclasses.
    """

    function = None

    def __init__(self, *, reduction="mean", **options):
        options["reduction"] = choice(type(self).__name__, "reduction", reduction, F.REDUCTIONS)
        self._names = tuple(options)
        vars(self).update(options)

    @property
    def options(self):
        """The keyword arguments that the function gets, a dictionary."""
        return {name: getattr(self, name) for name in self._names}

    def __call__(self, outputs, target, sample_weight=None):
        """The loss of a batch of outputs, a float, or an array for reduction "none"."""
        self._look_at(outputs)
        return type(self).function(outputs, target, sample_weight=sample_weight, **self.options)

    def value_and_grad(self, outputs, target, sample_weight=None, out=None):
        """The loss and its gradient with respect to `outputs`, written to `out` if it is given."""
        self._look_at(outputs)
        out = gradient_room(outputs) if out is None else out
        return type(self).function(
            outputs, target, sample_weight=sample_weight, return_grad=True, out=out, **self.options
        )

    def divisor(self, target):
        """What reduction "mean" divides by, up to a factor that targets do not change: rows, or what they weigh."""
        return len(target)

    def _look_at(self, outputs):
        """Whatever a loss wants to find out about outputs before it computes."""

    def __repr__(self):
        """The call that makes this loss: the reduction, and what differs from its default."""
        usual = type(self).__init__.__kwdefaults__ or {}
        shown = {name: reprlib.repr(value) for name, value in self.options.items()}
        kept = [name for name in shown if name == "reduction" or shown[name] != reprlib.repr(usual.get(name))]
        return f"{type(self).__name__}({', '.join(f'{name}={shown[name]}' for name in kept)})"


def _weights(owner, **weights):
    """Weights that are given are finite and not negative; whether they fit is seen when there are outputs."""
    for name, weight in weights.items():
        if weight is not None:
            not_negative(owner, name, weight)
    return weights


# ---- classifiers ----


def _divisor_of_labels(target, weight, ignore_index):
    """Class weights, of which the largest is 1, of the labels that count; of probabilities the rows."""
    target = np.asarray(target)
    labels = target[target != ignore_index] if target.ndim == 1 else target
    if weight is None or target.ndim > 1:
        return len(labels)
    weight = np.asarray(weight, np.float64)
    return float((weight / (weight.max() or 1.0))[labels.astype(np.int64)].sum())


class LogitsLoss(Loss):
    """Base of losses of logits. With ``check_logits=True`` outputs that look like probabilities are refused.

    A softmax or sigmoid in front of a loss that has one inside still trains, slowly, and never ends near 0; no type
    shows it. The check costs a pass over the outputs and is meant for the first epochs of a new net.
    """

    looks = ""  # what probabilities of this loss look like

    def __init__(self, *, check_logits=False, **options):
        super().__init__(**options)
        self.check_logits = bool(check_logits)

    def _look_at(self, outputs):
        if self.check_logits and np.size(outputs) and self._are_probabilities(np.asarray(outputs)):
            hint = "give the loss what the last Linear gives; it has the softmax or sigmoid inside"
            raise bad_value(type(self).__name__, "outputs must be logits", words(self.looks), hint)


class CrossEntropyLoss(LogitsLoss):
    """Cross-entropy of softmax(outputs) with labels (N,) or probabilities (N, C).

    Parameters
    ----------
    weight, ignore_index, label_smoothing, gamma, reduction
        As in `functional.cross_entropy`.
    check_logits : bool
        Refuse outputs whose rows are not negative and sum to 1: a softmax has been applied already.
    """

    looks = "rows that sum to 1"
    function = staticmethod(F.cross_entropy)
    accuracy = staticmethod(metrics.accuracy)  # a loss with an accuracy is a loss of a classifier

    def __init__(
        self,
        *,
        weight=None,
        ignore_index=-100,
        label_smoothing=0.0,
        gamma=0.0,
        reduction="mean",
        check_logits=False,
    ):
        owner = type(self).__name__
        super().__init__(
            **_weights(owner, weight=weight),
            ignore_index=integer(owner, "ignore_index", ignore_index),
            label_smoothing=number(owner, "label_smoothing", label_smoothing, 0, 1),
            gamma=number(owner, "gamma", gamma, 0),
            reduction=reduction,
            check_logits=check_logits,
        )

    def divisor(self, target):  # noqa: D102
        return _divisor_of_labels(target, self.weight, self.ignore_index)

    @staticmethod
    def _are_probabilities(a):
        return bool(a.ndim and a.shape[-1] > 1 and (a >= 0).all() and (np.abs(a.sum(axis=-1) - 1) < 1e-3).all())


class FocalLoss(CrossEntropyLoss):
    """Cross-entropy with a focus on rows that are still wrong: `CrossEntropyLoss` with gamma = 2 as its default.

    Parameters
    ----------
    gamma, weight, ignore_index, label_smoothing, reduction, check_logits
        As in `CrossEntropyLoss`.
    """

    def __init__(
        self,
        *,
        gamma=2.0,
        weight=None,
        ignore_index=-100,
        label_smoothing=0.0,
        reduction="mean",
        check_logits=False,
    ):
        super().__init__(
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            gamma=gamma,
            reduction=reduction,
            check_logits=check_logits,
        )


class GeneralizedCrossEntropyLoss(LogitsLoss):
    """Cross-entropy that forgives labels which may be wrong.

    Parameters
    ----------
    q, ignore_index, reduction
        As in `functional.generalized_cross_entropy`.
    check_logits : bool
        As in `CrossEntropyLoss`.
    """

    looks = CrossEntropyLoss.looks
    function = staticmethod(F.generalized_cross_entropy)
    accuracy = staticmethod(metrics.accuracy)
    _are_probabilities = staticmethod(CrossEntropyLoss._are_probabilities)

    def __init__(self, *, q=0.7, ignore_index=-100, reduction="mean", check_logits=False):
        owner = type(self).__name__
        super().__init__(
            q=number(owner, "q", q, 0, 1, above=True),
            ignore_index=integer(owner, "ignore_index", ignore_index),
            reduction=reduction,
            check_logits=check_logits,
        )


class HingeLoss(Loss):
    """How far other classes come within a margin of the label.

    Parameters
    ----------
    margin, ignore_index, reduction
        As in `functional.hinge_loss`.
    """

    function = staticmethod(F.hinge_loss)
    accuracy = staticmethod(metrics.accuracy)

    def __init__(self, *, margin=1.0, ignore_index=-100, reduction="mean"):
        owner = type(self).__name__
        super().__init__(
            margin=number(owner, "margin", margin, 0, above=True),
            ignore_index=integer(owner, "ignore_index", ignore_index),
            reduction=reduction,
        )


class NLLLoss(Loss):
    """Negative log-likelihood of labels (N,), from log-probabilities (N, C) such as `functional.log_softmax` gives.

    Parameters
    ----------
    weight, ignore_index, reduction
        As in `functional.nll_loss`.
    """

    function = staticmethod(F.nll_loss)
    accuracy = staticmethod(metrics.accuracy)

    def __init__(self, *, weight=None, ignore_index=-100, reduction="mean"):
        owner = type(self).__name__
        super().__init__(
            **_weights(owner, weight=weight),
            ignore_index=integer(owner, "ignore_index", ignore_index),
            reduction=reduction,
        )

    def divisor(self, target):  # noqa: D102
        return _divisor_of_labels(target, self.weight, self.ignore_index)


class BCEWithLogitsLoss(LogitsLoss):
    """Cross-entropy of sigmoid(outputs), if asked weighted, smoothed or focal.

    Parameters
    ----------
    weight, pos_weight, label_smoothing, gamma, alpha, reduction
        As in `functional.binary_cross_entropy_with_logits`.
    check_logits : bool
        Refuse a batch of two or more outputs that are all in [0, 1]: a sigmoid has been applied already.
    """

    looks = "outputs that are all in [0, 1]"
    function = staticmethod(F.binary_cross_entropy_with_logits)
    accuracy = staticmethod(metrics.binary_accuracy)

    def __init__(
        self,
        *,
        weight=None,
        pos_weight=None,
        label_smoothing=0.0,
        gamma=0.0,
        alpha=None,
        reduction="mean",
        check_logits=False,
    ):
        owner = type(self).__name__
        super().__init__(
            **_weights(owner, weight=weight, pos_weight=pos_weight),
            label_smoothing=number(owner, "label_smoothing", label_smoothing, 0, 1),
            gamma=number(owner, "gamma", gamma, 0, F.MOST_GAMMA),
            alpha=None if alpha is None else number(owner, "alpha", alpha, 0, 1),
            reduction=reduction,
            check_logits=check_logits,
        )

    @staticmethod
    def _are_probabilities(a):
        return bool(a.size > 1 and ((a >= 0) & (a <= 1)).all())


class BCELoss(Loss):
    """Cross-entropy of probabilities, never clipped.

    Parameters
    ----------
    weight, reduction
        As in `functional.binary_cross_entropy`.
    """

    function = staticmethod(F.binary_cross_entropy)

    def __init__(self, *, weight=None, reduction="mean"):
        super().__init__(**_weights(type(self).__name__, weight=weight), reduction=reduction)


class BrierLoss(Loss):
    """Brier score of probabilities (N, C) with labels or probabilities; see `functional.brier_loss`."""

    function = staticmethod(F.brier_loss)


class KLDivLoss(Loss):
    """Kullback-Leibler divergence, from logarithms of probabilities; "batchmean" is the divergence of a row.

    Parameters
    ----------
    log_target, reduction
        As in `functional.kl_div`.
    """

    function = staticmethod(F.kl_div)

    def __init__(self, *, log_target=False, reduction="mean"):
        super().__init__(log_target=bool(log_target), reduction=reduction)


# ---- regression ----


class MSELoss(Loss):
    """Squared error (x - t)^2; see `functional.mse_loss`."""

    function = staticmethod(F.mse_loss)


class L1Loss(Loss):
    """Absolute error |x - t|; see `functional.l1_loss`."""

    function = staticmethod(F.l1_loss)


class HuberLoss(Loss):
    """Squared error up to `delta`, absolute error beyond it.

    Parameters
    ----------
    delta, reduction
        As in `functional.huber_loss`.
    """

    function = staticmethod(F.huber_loss)

    def __init__(self, *, delta=1.0, reduction="mean"):
        super().__init__(delta=number(type(self).__name__, "delta", delta, 0, above=True), reduction=reduction)


class GaussianNLLLoss(Loss):
    """-log of a normal density whose means are the outputs and whose variance is known.

    Parameters
    ----------
    var : float
        The variance; one that a net predicts needs `functional.gaussian_nll_loss`.
    full, eps, reduction
        As there.
    """

    function = staticmethod(F.gaussian_nll_loss)

    def __init__(self, *, var=1.0, full=False, eps=1e-6, reduction="mean"):
        owner = type(self).__name__
        var, eps = number(owner, "var", var, 0), number(owner, "eps", eps, 0, above=True)
        super().__init__(var=var, full=bool(full), eps=eps, reduction=reduction)


class PoissonNLLLoss(Loss):
    """-log of the probability of counts whose expected values are exp(outputs).

    Parameters
    ----------
    log_input, full, eps, reduction
        As in `functional.poisson_nll_loss`.
    """

    function = staticmethod(F.poisson_nll_loss)

    def __init__(self, *, log_input=True, full=False, eps=1e-8, reduction="mean"):
        eps = number(type(self).__name__, "eps", eps, 0)
        super().__init__(log_input=bool(log_input), full=bool(full), eps=eps, reduction=reduction)


LOSSES = {
    "cross_entropy": CrossEntropyLoss,
    "bce": BCEWithLogitsLoss,
    "mse": MSELoss,
    "l1": L1Loss,
    "huber": HuberLoss,
    "poisson": PoissonNLLLoss,
    "gaussian": GaussianNLLLoss,
    "kl_div": KLDivLoss,
    "brier": BrierLoss,
    "generalized_cross_entropy": GeneralizedCrossEntropyLoss,
    "hinge": HingeLoss,
}


def get_loss(owner, loss):
    """A loss from its name, or the object itself if it can be used as one."""
    if isinstance(loss, str):
        return LOSSES[choice(owner, "loss", loss, LOSSES)]()
    if isinstance(loss, type) or not (callable(loss) and hasattr(loss, "value_and_grad")):
        raise bad_type(owner, "loss must be a name or an object such as CrossEntropyLoss()", loss)
    return loss


def is_sum(loss):
    """Whether the value of a loss is a sum over rows; else it is a mean."""
    return getattr(loss, "reduction", "mean") == "sum"


def weight_of(loss, target):
    """What the value for these targets weighs among those of other batches: what a mean has divided by, 1 for a sum."""
    if is_sum(loss):
        return 1
    mean = getattr(loss, "reduction", "mean") == "mean"
    return loss.divisor(target) if mean and hasattr(loss, "divisor") else len(target)
