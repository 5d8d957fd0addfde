"""A last layer that is its own loss: what a net of very many classes ends in."""

import numpy as np

from minnet import functional as F
from minnet._checks import bad_value, matrix, words
from minnet._rooms import room
from minnet.layers import Linear
from minnet.losses import CrossEntropyLoss

__all__ = ["LinearCrossEntropy"]


class LinearCrossEntropy(Linear):
    """A linear layer and the cross-entropy of its outputs, which are never held whole while a net is trained.

    It stands last in a net and is handed to `fit` as the loss, too. In training its ``forward`` gives its input on, and
    its ``value_and_grad`` makes logits, loss and gradients, block by block (`functional.linear_cross_entropy`); in use
    it is a `Linear`, and a `CrossEntropyLoss` of its outputs.

    Parameters
    ----------
    in_features, out_features, init, dtype, seed
        As in `Linear`; `out_features` is the number of classes C.
    weight, ignore_index, label_smoothing, gamma, reduction
        As in `CrossEntropyLoss`.

    Examples
    --------
    >>> import minnet as mn
    >>> head = mn.LinearCrossEntropy(64, 10)
    >>> net = mn.Sequential([mn.Linear(64, 64), mn.ReLU(), head], seed=0)
    >>> X, y = mn.datasets.digits()
    >>> history = mn.fit(net, X, y, loss=head, optimizer=mn.SGD(lr=0.2), epochs=3, seed=0)
    >>> net.predict(X[:3])
    array([0, 1, 2])
    """

    accuracy = staticmethod(CrossEntropyLoss.accuracy)

    def __init__(
        self,
        in_features,
        out_features,
        *,
        init="scaled",
        dtype=np.float32,
        seed=None,
        weight=None,
        ignore_index=-100,
        label_smoothing=0.0,
        gamma=0.0,
        reduction="mean",
    ):
        super().__init__(in_features, out_features, init=init, dtype=dtype, seed=seed)
        smoothing = {"label_smoothing": label_smoothing, "gamma": gamma}
        self.loss = CrossEntropyLoss(weight=weight, ignore_index=ignore_index, reduction=reduction, **smoothing)
        vars(self).update(self.loss.options)

    def forward(self, x, rng=None):
        """Logits (N, C) in use; in training, where `rng` is a Generator, the input itself, for `value_and_grad`."""
        if rng is None:
            return super().forward(x)
        return matrix("LinearCrossEntropy", "x", x, self.in_features, self.W.dtype)

    def __call__(self, logits, target, sample_weight=None):
        """The loss of logits (N, C), such as `forward` gives in use."""
        return self.loss(logits, target, sample_weight=sample_weight)

    def divisor(self, target):
        """What a mean over these targets divides by, see `Loss.divisor`."""
        return self.loss.divisor(target)

    def value_and_grad(self, x, target, sample_weight=None, out=None):
        """The loss of a batch from the layer's input (N, I), and its gradient; those of W and b go to dW and db."""
        dx = room(np.shape(x), self.W.dtype) if out is None else out
        value, _ = F.linear_cross_entropy(
            x,
            self.W,
            target,
            self.b,
            sample_weight=sample_weight,
            return_grad=True,
            out=(dx, self.dW, self.db),
            **self.loss.options,
        )
        return value, dx

    def backward(self, dy):
        """`dy`, which `value_and_grad` has made the gradient of the input; dW and db stand already."""
        if np.shape(dy)[1:] != (self.in_features,):
            rule = f"dy must be the gradient of the input, (N, {self.in_features}), from value_and_grad"
            raise bad_value("LinearCrossEntropy.backward", rule, words(f"shape {np.shape(dy)}"))
        return dy

    def backward_params(self, dy):  # noqa: D102
        self.backward(dy)

    def __repr__(self):
        return f"LinearCrossEntropy({self.in_features}, {self.out_features})"
