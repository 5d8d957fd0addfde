"""Maps of real nets: how large starting weights keep a net from learning, by layer, loss and seed.

The weights of the hidden and of the output layer have a scale each, so that hidden units and outputs can be made to
saturate apart from one another. Cross-entropy cancels the slope of an output, and not that of a hidden unit.
"""

import functools
import itertools
import numbers
import os

import numpy as np

from minnet import files
from minnet._checks import any_array, bad_value, integer, not_negative, number, real_array, words
from minnet.callbacks import SaturationProbe
from minnet.lab.losses import LOSSES, loss_names
from minnet.lab.network import fit_net, net_samples
from minnet.lab.tasks import run_tasks
from minnet.losses import CrossEntropyLoss
from minnet.model import MLP

__all__ = ["NetworkMap", "map_networks"]

OWNER = "map_networks"
NET_LOSSES = LOSSES | {"cross_entropy": CrossEntropyLoss()}
FORM = "minnet network map"
ARRAYS = ("epochs", "accuracy", "saturated", "stuck")


class NetworkMap:
    """What became of each net; the axes of the arrays are losses, hidden scales, output scales, seeds.

    Attributes
    ----------
    losses : tuple of str
    hidden_scale, output_scale : ndarray (H,), (O,)
        Factors of the starting weights of the two layers.
    seeds : ndarray (S,)
    settings : dict
        target, hidden, lr, epochs and batch_size, as `map_networks` was given them, and the samples' name.
    epochs : ndarray (L, H, O, S)
        Epochs until the accuracy on held-out samples reached the target; NaN where that never came.
    accuracy : ndarray (L, H, O, S)
        After the last epoch of each net, the one that reached the target or the last of all.
    saturated : ndarray (L, H, O, S, epochs + 1, 2)
        Shares of hidden units and of outputs whose slope a (1 - a) is below 0.01, at the start and after each epoch;
        NaN after a net has stopped.
    stuck : ndarray (L, H, O, S, epochs + 1)
        Share of outputs that are saturated on the wrong side, likewise.
    """

    def __init__(self, losses, hidden_scale, output_scale, seeds, settings, arrays):
        self.losses, self.settings = tuple(losses), settings
        self.hidden_scale, self.output_scale, self.seeds = hidden_scale, output_scale, seeds
        nets = (len(self.losses), len(hidden_scale), len(output_scale), len(seeds))
        rows = (*nets, settings["epochs"] + 1)
        for name, shape in zip(ARRAYS, (nets, nets, (*rows, 2), rows), strict=True):
            if arrays[name].shape != shape or arrays[name].dtype != np.float64:
                raise bad_value("NetworkMap", f"{name} must be {shape} of float64", arrays[name].shape)
            setattr(self, name, arrays[name])

    @property
    def never(self):
        """The share of seeds that never learned (L, H, O)."""
        return np.mean(np.isnan(self.epochs), axis=-1)

    @property
    def median(self):
        """Median epochs over the seeds (L, H, O), of which those that never learned count as infinitely many."""
        return np.median(np.nan_to_num(self.epochs, nan=np.inf), axis=-1)

    @property
    def saturated_at_start(self):
        """Mean shares over losses and seeds (H, O, 2); all losses start alike."""
        return self.saturated[:, :, :, :, 0].mean(axis=(0, 3))

    @property
    def saturated_at_end(self):
        """Mean shares over seeds (L, H, O, 2), each net at its own end."""
        last = np.count_nonzero(~np.isnan(self.saturated), axis=-2, keepdims=True) - 1
        return np.take_along_axis(self.saturated, last, axis=-2)[..., 0, :].mean(axis=3)

    def plot(self):
        """Draw the epochs to learn and the saturation: curves against one scale, pictures of two.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from minnet.lab.network_figures import draw_network_map

        return draw_network_map(self)

    def save(self, path):
        """Write all to a file that `load` reads; its name ends in ".npz"."""
        arrays = {name: getattr(self, name) for name in ("hidden_scale", "output_scale", "seeds", *ARRAYS)}
        document = {"losses": list(self.losses), "settings": self.settings}
        files.write_document("NetworkMap.save", path, document, arrays, FORM)

    @classmethod
    def load(cls, path):
        """Read what `save` has written; a ValueError says what is wrong with a file that is damaged or another one."""
        document, arrays = files.read_document("NetworkMap.load", path, FORM)
        try:
            axes = [arrays.pop(name) for name in ("hidden_scale", "output_scale", "seeds")]
            losses = loss_names("NetworkMap.load", document["losses"], NET_LOSSES)
            return cls(losses, *axes, document["settings"], arrays)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            got = words(f"{type(error).__name__}: {error!s:.200}")
            raise bad_value("NetworkMap.load", f"{os.fspath(path)} must hold a NetworkMap", got) from error

    def __repr__(self):
        nets = f"{len(self.hidden_scale)} hidden x {len(self.output_scale)} output scales x {len(self.seeds)} seeds"
        shares = zip(self.losses, self.never.mean(axis=(1, 2)), strict=True)
        return f"NetworkMap({nets}; never learned: {', '.join(f'{name} {share:.0%}' for name, share in shares)})"


def map_networks(
    hidden_scale=1.0,
    output_scale=(1, 4, 16, 64),
    loss=("mse", "bce"),
    seeds=8,
    target=0.9,
    *,
    folder=None,
    hidden=30,
    lr=0.5,
    epochs=30,
    batch_size=10,
    executor=None,
    store=None,
    progress=False,
):
    """Train nets with one sigmoid layer from larger and larger starting weights, and map how long they take to learn.

    A net for every loss, pair of scales and seed is trained by plain stochastic descent until it reaches the target.
    All losses see the same starts and the same order of the samples, and the result does not depend on the executor.

    Parameters
    ----------
    hidden_scale, output_scale : number or vector
        Factors of the starting weights of the hidden and of the output layer, which are N(0, 1 / fan_in) at 1.
    loss : {"mse", "bce", "cross_entropy"} or sequence of these
        Costs of the lab on sigmoid outputs, or cross-entropy of their softmax.
    seeds : int or sequence of int
        For starting weights and order; a number n stands for 0 ... n - 1.
    target : float in (0, 1]
        The accuracy on held-out samples at which a net has learned, and stops.
    folder : str or path-like, optional
        With MNIST's IDX files, as for `minnet.datasets.mnist`; None trains on the shipped digits, a fifth held out.
    hidden : int
        Hidden units.
    lr, epochs, batch_size
        As in `minnet.fit`; the same for all nets.
    executor : None, concurrent.futures.Executor or dask.distributed.Client
        Who works (see `minnet.lab.tasks.run_tasks`); a net is a task. The folder must be there for all workers.
    store : str or path-like, optional
        A folder where finished nets are kept, so that the same call goes on from them if this one is killed.
    progress : bool
        Show a bar with rate and time left (extra `progress`: tqdm).

    Returns
    -------
    NetworkMap

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, before anything is trained.

    References
    ----------
    M. Nielsen, Neural Networks and Deep Learning, 2015, chapter 3. X. Glorot, Y. Bengio, Understanding the difficulty
    of training deep feedforward neural networks, 2010.

    Examples
    --------
    >>> import minnet as mn
    >>> mn.lab.map_networks(output_scale=[1, 16], seeds=3)
    NetworkMap(1 hidden x 2 output scales x 3 seeds; never learned: mse 50%, bce 0%)
    """
    losses = loss_names(OWNER, loss, NET_LOSSES)
    scales = [_scales(name, value) for name, value in (("hidden_scale", hidden_scale), ("output_scale", output_scale))]
    seeds = _seeds(seeds)
    settings = {
        "target": number(OWNER, "target", target, 0, 1, above=True),
        "hidden": integer(OWNER, "hidden", hidden, 1),
        "lr": number(OWNER, "lr", lr, 0),
        "epochs": integer(OWNER, "epochs", epochs, 1),
        "batch_size": integer(OWNER, "batch_size", batch_size, 1),
    }
    tasks = list(itertools.product(losses, *(a.tolist() for a in (*scales, seeds)), [folder], [settings]))
    question = {"samples": list(samples(folder)), **settings}
    results = run_tasks(
        train_net, tasks, executor=executor, store=store, question=question, progress=progress, unit="net"
    )
    results, shape = list(results), (len(losses), *map(len, scales), len(seeds))
    arrays = {name: np.stack([result[name] for result in results]) for name in ARRAYS}
    arrays = {name: array.reshape(*shape, *array.shape[1:]) for name, array in arrays.items()}
    return NetworkMap(losses, *scales, seeds, settings | {"samples": "MNIST" if folder else "digits"}, arrays)


def train_net(loss, hidden_scale, output_scale, seed, folder, settings):
    """What becomes of one net: an entry of each array of a map."""
    data, epochs = samples(folder), settings["epochs"]
    net = MLP([data[0].shape[1], settings["hidden"], data[1].shape[1]], activation="sigmoid", seed=seed)
    net.layers[0].W *= hidden_scale
    net.layers[-1].W *= output_scale
    probe, options = SaturationProbe(), {name: settings[name] for name in ("lr", "epochs", "batch_size")}
    callbacks = [probe, _StopAt(settings["target"])]
    accuracy = fit_net(net, data, NET_LOSSES[loss], callbacks=callbacks, seed=seed, **options)["val_accuracy"]
    saturated, stuck = np.full((epochs + 1, 2), np.nan), np.full(epochs + 1, np.nan)
    saturated[: len(probe.rows)] = [row["saturated"] for row in probe.rows]
    stuck[: len(probe.rows)] = [row["stuck"] for row in probe.rows]
    learned = len(accuracy) if accuracy[-1] >= settings["target"] else np.nan
    return dict(zip(ARRAYS, (np.array(learned, float), np.array(accuracy[-1]), saturated, stuck), strict=True))


@functools.lru_cache(maxsize=1)
def samples(folder):
    """X, targets, X_test, targets_test; the targets are one-hot rows."""
    X, y, X_test, y_test = net_samples(folder)
    one_hot = np.eye(10, dtype=X.dtype)
    return X, one_hot[y], X_test, one_hot[y_test]


class _StopAt:
    """Stop when the accuracy on held-out samples has come to the target."""

    def __init__(self, target):
        self.target = target

    def on_epoch_end(self, run):
        run.stop = run.history[-1]["val_accuracy"] >= self.target


# ---- checks ----


def _scales(name, values):
    """A number or a vector as a vector of float64."""
    scales = not_negative(OWNER, name, real_array(OWNER, name, values)).astype(np.float64)
    if scales.ndim > 1 or not scales.size:
        raise bad_value(OWNER, f"{name} must be a number or a vector", scales.shape)
    return scales.reshape(-1)


def _seeds(seeds):
    if isinstance(seeds, numbers.Integral):
        return np.arange(integer(OWNER, "seeds", seeds, 1))
    given = any_array(OWNER, "seeds", seeds)
    if given.ndim != 1 or not given.size:
        raise bad_value(OWNER, "seeds must be a number or a list of integers", given.shape)
    return np.array([integer(OWNER, "seeds", seed, 0) for seed in given.tolist()])
