"""Grids of neurons: which of their parameters vary, and how such a grid is cut into tiles."""

import itertools

import numpy as np

from minnet._checks import bad_value, real_array

__all__ = ["Grid"]

NAMES = ("w", "b", "z0", "x", "y", "lr")  # parameters of a neuron; z0, the starting logit, is b where w = 0


class Grid:
    """The neurons of all combinations of some parameters.

    Parameters
    ----------
    owner : str
        Who is named in errors.
    parameters : dict
        Numbers and vectors by their names, out of w, b, z0, x, y and lr; the vectors are the axes, in this order.

    Attributes
    ----------
    parameters : dict
        Floats, and arrays of float64.
    axes : dict
        The arrays among them.
    shape : tuple of int
        Their lengths.
    """

    def __init__(self, owner, parameters):
        arrays = {name: real_array(owner, name, parameters[name]) for name in NAMES if name in parameters}
        for name, a in arrays.items():
            if a.ndim > 1 or not a.size:
                raise bad_value(owner, f"{name} must be a number or a vector", a.shape)
            if not np.all(np.isfinite(a)):
                raise bad_value(owner, f"{name} must hold finite numbers", a)
        self.parameters = {name: a.astype(np.float64) if a.ndim else float(a) for name, a in arrays.items()}
        self.axes = {name: a for name, a in self.parameters.items() if isinstance(a, np.ndarray)}
        self.shape = tuple(len(a) for a in self.axes.values())

    @property
    def certain(self):
        """Whether all targets are 0 or 1, the ones that the law is about."""
        return bool(np.all(np.isin(self.parameters["y"], (0, 1))))

    def mesh(self):
        """The parameters, shaped so that they broadcast to the grid."""
        places = {name: i for i, name in enumerate(self.axes)}
        return {
            name: np.expand_dims(a, [i for i in places.values() if i != places[name]]) if name in places else a
            for name, a in self.parameters.items()
        }

    def neurons(self):
        """The mesh as `run_neurons` takes it."""
        mesh = self.mesh()
        return {"w": 0.0, "b": mesh.pop("z0"), **mesh} if "z0" in mesh else mesh

    def logits(self):
        """Where the neurons start, a z0 that broadcasts to the grid."""
        neurons = self.neurons()
        return neurons["w"] * neurons["x"] + neurons["b"]

    def tiles(self, neurons):
        """Tuples of slices that cut the grid into tiles of at most so many neurons, as square as can be."""
        cuts, room = [], neurons
        for axis in sorted(range(len(self.shape)), key=lambda i: self.shape[i]):
            side = max(1, min(self.shape[axis], int(room ** (1 / (len(self.shape) - len(cuts))) + 1e-9)))
            cuts.append((axis, [slice(i, i + side) for i in range(0, self.shape[axis], side)]))
            room //= side
        return list(itertools.product(*(pieces for _, pieces in sorted(cuts))))

    def cut(self, tile):
        """The parameters of the neurons of a tile, or of those at other slices."""
        pieces = {name: a[piece] for (name, a), piece in zip(self.axes.items(), tile, strict=True)}
        return {name: pieces.get(name, value) for name, value in self.parameters.items()}

    def every(self, points):
        """A tuple of slices that leaves at most so many points along each axis."""
        return tuple(slice(None, None, -(-n // points)) for n in self.shape)
