"""One sigmoid neuron, z = w x + b, a = sigmoid(z), trained by gradient descent on one sample.

The smallest place where saturation shows: the start decides how long the quadratic cost stalls, and hardly matters to
cross-entropy.
"""

import numpy as np

from minnet import functional as F
from minnet._checks import choice, integer, number
from minnet.lab.losses import LOSSES

__all__ = ["NeuronRun", "train_neuron"]


class NeuronRun:
    """The trajectory of one neuron.

    Attributes
    ----------
    w, b, output, loss, gradient : ndarray (epochs + 1,)
        Weight, bias, output a, cost and dC/dw before the first update and after each one.
    loss_name : str
        A name in `minnet.lab.LOSSES`.
    x, y, lr : float
        Input, target and learning rate.
    """

    def __init__(self, trajectory, loss_name, x, y, lr):
        self.w, self.b, self.output, self.loss, self.gradient = np.array(trajectory).T
        self.loss_name, self.x, self.y, self.lr = loss_name, x, y, lr

    def epochs_to_halve(self):
        """Updates until the cost is at most half of what it was at the start; None if that never came."""
        return _first(self.loss <= self.loss[0] / 2)

    def epochs_until(self, threshold=0.1):
        """Updates until the output is nearer to the target than `threshold`; None if that never came."""
        return _first(np.abs(self.output - self.y) < threshold)

    def __repr__(self):
        ends = f"output {self.output[0]:.4f} -> {self.output[-1]:.4f}"
        return f"NeuronRun({self.loss_name}, {ends} in {len(self.w) - 1} epochs)"


def _first(condition):
    return int(np.argmax(condition)) if condition.any() else None


def train_neuron(w=2.0, b=2.0, x=1.0, y=0.0, loss="mse", lr=0.15, epochs=300):
    """Train one sigmoid neuron by gradient descent and keep its whole trajectory, in float64.

    With a = sigmoid(w x + b), an update is w -= lr x dC/dz, b -= lr dC/dz, where dC/dz is (a - y) a (1 - a) for the
    quadratic cost "mse", C = (a - y)^2 / 2, and a - y for the cross-entropy "bce"; for the others see
    `minnet.lab.losses`.

    Parameters
    ----------
    w, b : float
        Starting weight and bias.
    x : float
        The input.
    y : float in [0, 1]
        The target.
    loss : {"mse", "bce", "mae", "quartic"}
        Quadratic cost, cross-entropy, absolute error |a - y| or quartic cost (a - y)^4 / 4.
    lr : float
        Learning rate, not negative.
    epochs : int
        Updates.

    Returns
    -------
    NeuronRun
        Arrays w, b, output, loss of length epochs + 1, the start first.

    Raises
    ------
    ValueError, TypeError
        If an argument is not a number in its range, or the loss is unknown.

    References
    ----------
    M. Nielsen, Neural Networks and Deep Learning, 2015, chapter 3.

    Examples
    --------
    >>> import minnet as mn
    >>> mn.lab.train_neuron(w=2.0, b=2.0, loss="bce")
    NeuronRun(bce, output 0.9820 -> 0.0120 in 300 epochs)
    """
    owner = "train_neuron"
    w, b, x = number(owner, "w", w), number(owner, "b", b), number(owner, "x", x)
    y, lr = number(owner, "y", y, 0, 1), number(owner, "lr", lr, 0)
    cost = LOSSES[choice(owner, "loss", loss, LOSSES)]
    target, trajectory = np.array([y]), []
    for _ in range(integer(owner, "epochs", epochs, 0) + 1):
        z = np.array([w * x + b])
        value, dz = cost.value_and_grad(z, target)
        trajectory.append((w, b, F.sigmoid(z)[0], value, dz[0] * x))
        w, b = w - lr * float(dz[0]) * x, b - lr * float(dz[0])
    return NeuronRun(trajectory, loss, x, y, lr)
