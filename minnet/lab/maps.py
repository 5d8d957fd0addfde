"""Phase maps: how long neurons take to learn, over a grid of starts, inputs, targets or rates.

A grid is cut into tiles, each the task of some worker; a map puts them together, a summary counts them as they come.
"""

import math
import os
from functools import partial

import numpy as np

from minnet import files
from minnet._checks import bad_value, choice, integer, number, words
from minnet._threads import run_alone, run_chunks
from minnet.lab.grids import NAMES, Grid
from minnet.lab.law import epochs_by_law
from minnet.lab.losses import LOSSES, loss_names
from minnet.lab.neurons import MOST_EPOCHS, run_neurons
from minnet.lab.tasks import run_tasks
from minnet.layers import model_dtype

__all__ = ["MapSummary", "PhaseMap", "map_neurons"]

OWNER, FORM = "map_neurons", "minnet map"
TILE = 2**20  # neurons of a task: some tenths of a second for 300 epochs, and few enough for any memory
PIECE = 2**16  # neurons that a thread counts
# glibc's malloc gives memory back to the system after every piece and takes it anew, a sixth of a map's time, until it
# has seen a block of this size freed: from then on it keeps twice as much.
SPARE = 2**24
MOST_COUNTED = 2**20  # epochs: every task has a histogram of so many numbers


class _Result:
    """What maps and summaries share: the grid, the settings, and the file.

    Attributes
    ----------
    axes : dict
        The values of each parameter that varies, by its name, in the order of the arrays' axes.
    parameters : dict
        All of w, b (or z0), x, y and lr: numbers, and the axes.
    losses : tuple of str
    epochs_run : int
        Updates that each neuron made.
    threshold : float
    """

    def __init__(self, grid, losses, epochs_run, threshold):
        self.grid, self.losses, self.epochs_run, self.threshold = grid, tuple(losses), epochs_run, threshold
        self.axes, self.parameters = grid.axes, grid.parameters

    def law(self):
        """Epochs by the law of small steps, as `epochs_by_law` gives them.

        Returns
        -------
        ndarray (losses, len(first axis), ...)
            NaN for targets between 0 and 1, where the law says nothing.
        """
        laws = np.full((len(self.losses), *self.grid.shape), np.nan)
        if self.grid.certain:
            start, mesh = self.grid.logits(), self.grid.mesh()
            for i, loss in enumerate(self.losses):
                laws[i] = epochs_by_law(start, mesh["x"], mesh["y"], loss, mesh["lr"], self.threshold)
        return laws

    def save(self, path):
        """Write all to a file that `load` reads; its name ends in ".npz"."""
        settings = {name: value for name, value in self.parameters.items() if name not in self.axes}
        document = {"kind": type(self).__name__, "axes": list(self.axes), "parameters": settings}
        document |= {"losses": list(self.losses), "epochs": self.epochs_run, "threshold": self.threshold}
        arrays = {f"axis/{name}": values for name, values in self.axes.items()}
        files.write_document(f"{type(self).__name__}.save", path, document, arrays | self._arrays(), FORM)

    @classmethod
    def load(cls, path):
        """Read what `save` has written; a ValueError says what is wrong with a file that is damaged or another one."""
        owner = f"{cls.__name__}.load"
        document, arrays = files.read_document(owner, path, FORM)
        try:
            return cls._restored(owner, document, arrays)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            got = words(f"{type(error).__name__}: {error!s:.200}")
            raise bad_value(owner, f"{os.fspath(path)} must hold a {cls.__name__}", got) from error

    @classmethod
    def _restored(cls, owner, document, arrays):
        choice(owner, "kind", document["kind"], [cls.__name__])
        axes = {name: arrays.pop(f"axis/{name}") for name in document["axes"]}
        grid = Grid(owner, _given(owner, **{**dict.fromkeys(NAMES), **document["parameters"], **axes}))
        if list(grid.axes) != document["axes"]:
            raise bad_value(owner, "the axes must be vectors in their order", document["axes"])
        losses, epochs = loss_names(owner, document["losses"], LOSSES), integer(owner, "epochs", document["epochs"], 0)
        if epochs > MOST_EPOCHS:
            raise bad_value(owner, f"epochs must be at most {MOST_EPOCHS}", epochs)
        return cls(grid, losses, epochs, number(owner, "threshold", document["threshold"], 0, 1), **arrays)

    def _about(self):
        axes = " x ".join(f"{len(values)} {name}" for name, values in self.axes.items()) or "1 neuron"
        return f"{', '.join(self.losses)}: {axes}, {self.epochs_run} epochs"

    def _never(self):
        return f"never learned: {', '.join(f'{share:.2%}' for share in self.never)}"


class PhaseMap(_Result):
    """A map of neurons: what became of each, by the values of the parameters that vary.

    Attributes
    ----------
    axes : dict
        The values of each parameter that varies, by its name, in the order of the arrays' axes.
    parameters : dict
        All of w, b (or z0), x, y and lr: numbers, and the axes.
    losses : tuple of str
    epochs_run : int
        Updates that each neuron made.
    threshold : float
        How near the output had to come to the target.
    epochs : ndarray (losses, len(first axis), ...)
        Updates until |output - y| < threshold; NaN where that never came.
    output : ndarray (losses, len(first axis), ...)
        After the last update.
    """

    def __init__(self, grid, losses, epochs_run, threshold, *, epochs, output):
        super().__init__(grid, losses, epochs_run, threshold)
        self.epochs, self.output = epochs, output
        shape = (len(self.losses), *grid.shape)
        if not epochs.shape == output.shape == shape or not epochs.dtype == output.dtype or epochs.dtype.kind != "f":
            raise bad_value("PhaseMap", f"epochs and output must be {shape} of one dtype", (epochs.shape, output.shape))

    def _arrays(self):
        return {"epochs": self.epochs, "output": self.output}

    @classmethod
    def _restored(cls, owner, document, arrays):
        result = super()._restored(owner, document, arrays)
        if np.any((result.epochs < 0) | (result.epochs > result.epochs_run)):
            raise bad_value(owner, f"epochs must be from 0 to {result.epochs_run}, or NaN", result.epochs)
        return result

    @property
    def never(self):
        """The share of neurons that never came near their target, by loss."""
        counts = [sum(np.count_nonzero(np.isnan(e)) for e in _blocks(epochs)) for epochs in self.epochs]
        return np.array(counts) / math.prod(self.grid.shape)

    def departure(self):
        """Epochs that were needed less those of the law, a float64 array; NaN where there were none, or is no law."""
        return np.where(self.epochs > 0, self.epochs.astype(np.float64) - self.law(), np.nan)

    def summary(self):
        """The `MapSummary` of all neurons."""
        counts = [sum(_histogram(e, self.epochs_run) for e in _blocks(epochs)) for epochs in self.epochs]
        return MapSummary(self.grid, self.losses, self.epochs_run, self.threshold, counts=np.stack(counts))

    def thinned(self, points):
        """The `PhaseMap` of every so-manieth value: at most so many along each axis."""
        where = self.grid.every(points)
        parts = {name: array[(slice(None), *where)] for name, array in self._arrays().items()}
        grid = Grid("PhaseMap.thinned", self.grid.cut(where))
        return PhaseMap(grid, self.losses, self.epochs_run, self.threshold, **parts)

    def plot(self):
        """Draw the epochs to learn, and the law of small steps: a picture a loss, or of a map with one axis a curve.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If the map has neither one nor two axes.
        """
        from minnet.lab.map_figures import draw_map

        return draw_map(self)

    def __repr__(self):
        return f"PhaseMap({self._about()}; {self._never()})"


class MapSummary(_Result):
    """What became of the neurons of a map, counted: of as many as one likes.

    Attributes
    ----------
    axes, parameters, losses, epochs_run, threshold
        As of a `PhaseMap`.
    counts : ndarray (losses, epochs_run + 2) of int64
        Neurons by the updates until |output - y| < threshold: 0, 1, ... epochs_run; last, those that never came near.
    """

    def __init__(self, grid, losses, epochs_run, threshold, *, counts):
        super().__init__(grid, losses, epochs_run, threshold)
        self.counts = counts
        shape = (len(self.losses), epochs_run + 2)
        if counts.shape != shape or counts.dtype != np.int64 or counts.size == 0 or counts.min() < 0:
            raise bad_value("MapSummary", f"counts must be {shape} of int64 >= 0", words(f"{counts.shape}"))
        if np.any(counts.sum(axis=1) != self.neurons):
            raise bad_value("MapSummary", f"counts must be of {self.neurons} neurons", counts.sum(axis=1))

    def _arrays(self):
        return {"counts": self.counts}

    @property
    def neurons(self):
        """How many there are, by each loss."""
        return math.prod(self.grid.shape)

    @property
    def never(self):
        """The share of neurons that never came near their target, by loss."""
        return self.counts[:, -1] / self.neurons

    @property
    def mean(self):
        """Mean epochs of the neurons that learned, by loss; NaN where none did."""
        learned = self.counts[:, :-1].sum(axis=1)
        total = self.counts[:, :-1] @ np.arange(self.epochs_run + 1)
        return np.where(learned > 0, total / np.maximum(learned, 1), np.nan)

    def quantile(self, share):
        """Epochs within which this share of all neurons has learned, by loss; NaN where that never came."""
        share = number("MapSummary.quantile", "share", share, 0, 1)
        reached = np.cumsum(self.counts, axis=1) >= share * self.neurons
        epochs = np.argmax(reached, axis=1)
        return np.where(epochs <= self.epochs_run, epochs, np.nan)

    def plot(self):
        """Draw the share of neurons that have learned against epochs, a curve a loss.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from minnet.lab.map_figures import draw_summary

        return draw_summary(self)

    def __repr__(self):
        return f"MapSummary({self._about()}; {self._never()})"


# ---- the work ----


def map_neurons(
    w=None,
    b=None,
    x=1.0,
    y=0.0,
    loss=("mse", "bce"),
    lr=0.15,
    epochs=300,
    threshold=0.1,
    *,
    z0=None,
    dtype=np.float32,
    reduce=None,
    executor=None,
    store=None,
    progress=False,
):
    """Train the neurons of a grid, each by itself, and map how long they take to learn.

    Each is a neuron of `run_neurons`, trained by gradient descent on one sample. Every vector among w, b, z0, x, y and
    lr is an axis of the map, in this order; numbers are the same for all. The bits of the result depend neither on the
    number of threads nor on the executor (whose machines must have the same SIMD level, see `minnet.show_config`).

    Parameters
    ----------
    w, b : number or vector
        Starting weights and biases.
    z0 : number or vector, instead of w and b
        Starting logits: w = 0, b = z0.
    x, y, lr : number or vector
        Inputs, targets in [0, 1], learning rates. Targets of 0 and 1 take half the time of others.
    loss : str or sequence of str
        Costs of the lab, "mse", "bce", "mae" or "quartic", each with a map of its own.
    epochs : int
        Updates of each neuron.
    threshold : float in (0, 1)
        How near the output must come to the target.
    dtype : {numpy.float32, numpy.float64}
        Of the computation and the map.
    reduce : {None, "histogram"}
        Give the whole map, or only the counts of neurons by the epochs that they took: those need little memory,
        however large the grid.
    executor : None, concurrent.futures.Executor or dask.distributed.Client
        Who works: this process, the workers of a pool, or a cluster (see `minnet.lab.tasks.run_tasks`).
    store : str or path-like, optional
        A folder where finished tiles of the map are kept, so that the same call goes on from them if this one is
        killed. The arrays of a whole map are then files there, mapped into memory: they may be larger than it.
    progress : bool
        Show a bar with rate and time left (extra `progress`: tqdm).

    Returns
    -------
    PhaseMap, or MapSummary with `reduce`

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> import minnet as mn
    >>> pm = mn.lab.map_neurons(w=np.linspace(-8, 8, 50), b=np.linspace(-8, 8, 60))
    >>> pm.epochs.shape
    (2, 50, 60)
    >>> pm
    PhaseMap(mse, bce: 50 w x 60 b, 300 epochs; never learned: 37.00%, 0.00%)
    """
    grid, losses = Grid(OWNER, _given(OWNER, w, b, z0, x, y, lr)), loss_names(OWNER, loss, LOSSES)
    work = REDUCTIONS[None if reduce is None else choice(OWNER, "reduce", reduce, [r for r in REDUCTIONS if r])]
    epochs, threshold = integer(OWNER, "epochs", epochs, 0), number(OWNER, "threshold", threshold)
    settings = {"epochs": epochs, "threshold": threshold, "dtype": str(model_dtype(OWNER, dtype))}
    work({name: _ends(value) for name, value in grid.parameters.items()}, losses, settings)  # refuses what is wrong
    tiles = grid.tiles(TILE)
    results = run_tasks(
        work,
        [(grid.cut(tile), losses, settings) for tile in tiles],
        executor=executor,
        store=store,
        question={"parameters": grid.parameters, "losses": losses, **settings, "reduce": reduce, "tile": TILE},
        progress=progress,
        unit="update",
        amounts=[math.prod(a.stop - a.start for a in tile) * len(losses) * epochs for tile in tiles],
    )
    about = grid, losses, epochs, threshold
    if reduce is not None:
        return MapSummary(*about, counts=sum(result["counts"] for result in results))
    return PhaseMap(*about, **_assembled((len(losses), *grid.shape), settings["dtype"], tiles, results, store))


def train_tile(parameters, losses, settings):
    """Epochs and outputs of the neurons of a grid."""
    neurons = Grid(OWNER, parameters).neurons()
    runs = [run_neurons(**neurons, loss=loss, **settings) for loss in losses]
    return {name: np.stack([getattr(run, name) for run in runs]) for name in ("epochs", "output")}


def count_tile(parameters, losses, settings):
    """Counts of the neurons of a grid by their epochs; threads share the counting, too, not the training alone."""
    if settings["epochs"] > MOST_COUNTED:
        raise bad_value(OWNER, f"epochs must be at most {MOST_COUNTED} to be counted", settings["epochs"])
    grid = Grid(OWNER, parameters)
    pieces = grid.tiles(PIECE)
    np.empty(SPARE, np.uint8)  # freed at once: see SPARE

    def count(i, _):
        neurons = Grid(OWNER, grid.cut(pieces[i])).neurons()
        runs = (run_alone(partial(run_neurons, **neurons, loss=loss, **settings)) for loss in losses)
        return np.stack([_histogram(run.epochs, settings["epochs"]) for run in runs])

    return {"counts": sum(run_chunks(count, len(pieces), 1))}


REDUCTIONS = {None: train_tile, "histogram": count_tile}


def _histogram(epochs, epochs_run):
    """Counts of 0, 1, ... epochs_run and of NaN."""
    never = epochs.dtype.type(epochs_run + 1)
    if never <= epochs_run:  # float32 has not got that number
        epochs, never = epochs.astype(np.float64), epochs_run + 1
    counted = np.fmin(epochs, never)  # which takes NaN for the larger
    return np.bincount(counted.reshape(-1).astype(np.intp), minlength=epochs_run + 2)


def _blocks(a):
    """Parts of an array that may be larger than memory."""
    flat = a.reshape(-1)
    return (flat[i : i + TILE] for i in range(0, flat.size, TILE))


def _assembled(shape, dtype, tiles, results, store):
    """The arrays of a map from those of its tiles."""
    arrays = {name: _room(store, name, shape, dtype) for name in ("epochs", "output")}
    for tile, result in zip(tiles, results, strict=True):
        for name, array in arrays.items():
            array[(slice(None), *tile)] = result[name]
    return arrays


def _room(store, name, shape, dtype):
    """An empty array, in memory or in a file of the store.

    The file is a new one, lest it change under an older map, and has its room on the disk: a full disk is an OSError,
    not the end of the process in the middle of an assignment.
    """
    if store is None:
        return np.empty(shape, dtype)
    path = os.path.join(store, f"{name}.npy")
    with files.replacing(path) as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start, size = file.tell(), math.prod(shape) * np.dtype(dtype).itemsize
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), start, size)
        else:
            file.truncate(start + size)
    return np.lib.format.open_memmap(path, "r+")


# ---- checks ----


def _given(owner, w, b, z0, x, y, lr):
    """The parameters of a grid, z0 or both w and b among them."""
    if (w is None) != (b is None) or (w is None) == (z0 is None):
        names = [name for name, value in (("w", w), ("b", b), ("z0", z0)) if value is not None]
        raise bad_value(owner, "w and b, or else z0 alone, must be given", words(" and ".join(names) or "none"))
    start = {"w": w, "b": b} if z0 is None else {"z0": z0}
    return {**start, "x": x, "y": y, "lr": lr}


def _ends(value):
    """The least and the largest of a vector: if they are fit to be trained, all are."""
    return value if isinstance(value, float) else np.array([value.min(), value.max()])
