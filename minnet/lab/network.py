"""The same question on a real net: sigmoid outputs under the quadratic cost and under cross-entropy.

One architecture, one order of the samples, one learning rate; only the cost and the starting weights change.
"""

import numpy as np

from minnet import datasets
from minnet._checks import choice
from minnet.callbacks import SaturationProbe
from minnet.initializers import INITIALIZERS
from minnet.lab.losses import LOSSES
from minnet.model import MLP
from minnet.optimizers import SGD
from minnet.training import fit

__all__ = ["NetworkRun", "train_networks"]


class NetworkRun:
    """One trained net.

    Attributes
    ----------
    loss_name, init : str
        The cost, a name in `minnet.lab.LOSSES`, and the starting weights.
    accuracy : list of float
        On the test samples, after each epoch.
    probe : list of dict
        Rows of `minnet.SaturationProbe`, the start first.
    net : MLP
        The net at the end.
    """

    def __init__(self, loss_name, init, net, history, probe):
        self.loss_name, self.init, self.net = loss_name, init, net
        self.accuracy, self.probe = history["val_accuracy"], probe.rows

    def __repr__(self):
        return f"NetworkRun({self.loss_name}, {self.init}, accuracy {self.accuracy[-1]:.4f})"


def train_networks(
    data, *, hidden=30, losses=("mse", "bce"), inits=("scaled", "large"), lr=0.5, epochs=30, batch_size=10, seed=0
):
    """Train one net for each pair of a cost and a scale of starting weights.

    Parameters
    ----------
    data : (X_train, y_train, X_test, y_test)
        Samples (N, I) and labels (N,), as from `minnet.datasets.holdout`.
    hidden : int
        Sigmoid units in the hidden layer.
    losses, inits : sequences of str
        Costs of the lab and initialisers: "scaled" sums of inputs are near 1, "large" ones saturate units at the start.
    lr, epochs, batch_size, seed
        As in `minnet.fit`; the same for all nets.

    Returns
    -------
    list of NetworkRun
        Ordered by init, then loss.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.
    """
    for name in losses:
        choice("train_networks", "loss", name, LOSSES)
    for name in inits:
        choice("train_networks", "init", name, INITIALIZERS)
    X, y, X_test, y_test = data
    one_hot = np.eye(int(max(y.max(), y_test.max())) + 1, dtype=X.dtype)
    data, runs = (X, one_hot[y], X_test, one_hot[y_test]), []
    for init in inits:
        for name in losses:
            net = MLP([X.shape[1], hidden, len(one_hot)], activation="sigmoid", init=init, seed=seed)
            probe = SaturationProbe()
            rate = {"lr": lr, "epochs": epochs, "batch_size": batch_size, "seed": seed}
            history = fit_net(net, data, LOSSES[name], callbacks=[probe], **rate)
            runs.append(NetworkRun(name, init, net, history, probe))
    return runs


def net_samples(folder=None, seed=0):
    """Samples for `train_networks`: MNIST's from a folder, by default the shipped digits, a fifth of them held out.

    A folder without MNIST's training images may have its test images and others, "train5k", to judge by.
    """
    if folder is None:
        return datasets.holdout(*datasets.digits(), seed=seed)
    test = datasets.mnist("test", folder)
    try:
        return *datasets.mnist("train", folder), *test
    except ValueError:
        return *test, *datasets.mnist("train5k", folder)


def fit_net(net, data, loss, *, lr, **options):
    """Train by plain descent on data (X, targets, X_test, targets_test), further options as of `minnet.fit`."""
    X, target, *test = data
    history = fit(net, X, target, loss=loss, optimizer=SGD(lr=lr), validation_data=test, **options)
    if history.interrupted:  # Ctrl-C means all of the nets
        raise KeyboardInterrupt
    return history
