"""Layers: forward, backward, and the parameters between them.

A layer maps a batch (N, I) to a batch (N, O) and keeps what its backward needs, so `backward` always belongs to the
last `forward`. It overwrites the gradients of its parameters and returns the gradient of its input. To write one's own,
derive from `Layer`, give `forward` and `backward`, and test it with `minnet.check_gradient`.
"""

import copy
import math

import numpy as np

from minnet import functional as F
from minnet import initializers
from minnet._checks import bad_value, choice, generator, integer, matrix, number, real_array, words
from minnet._rooms import cast, room

__all__ = ["Dropout", "Layer", "Linear", "ReLU", "Sigmoid", "Softplus", "Tanh"]


class Layer:
    """Base of all layers: named parameters and gradients that are views into one flat vector each.

    `shapes` maps a parameter's name to its shape; a layer without parameters leaves it empty. After `bind`, the
    attribute W is the parameter and dW its gradient, for each name W; values that are assigned to W are copied into it.
    """

    shapes = {}  # noqa: RUF012  (never mutated)
    params = grads = np.empty(0, np.float32)
    owned = False  # whether a model holds it

    def forward(self, x, rng=None):
        """The output for a batch `x` (N, I). In training `rng` is a Generator for layers that draw; None means use.

        In `fit` both arrays are written over by the next step: what is wanted longer must be copied.
        """
        raise bad_value(type(self).__name__, "must define forward(x, rng=None)", self)

    def backward(self, dy):
        """The gradient of the input (N, I) from that of the output (N, O); fills the gradients of the parameters."""
        raise bad_value(type(self).__name__, "must define backward(dy)", self)

    def backward_params(self, dy):
        """Fill the gradients of the parameters alone: all that the first layer of a net needs."""
        self.backward(dy)

    @property
    def size(self):
        """The number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def allocate(self, shapes, dtype=np.float32):
        """Give the layer parameters of these `shapes`, a dict by name; their values are to be set by `initialize`."""
        self.shapes = dict(shapes)
        self.bind(np.zeros(self.size, dtype), np.zeros(self.size, dtype))

    def bind(self, params, grads):
        """Move into `params` and `grads`, flat vectors of `size`; values, if there were any, are copied and cast."""
        if self.params.size:
            params[...] = self.params
        self.__dict__.update(params=params, grads=grads)
        start = 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            self.__dict__[name] = params[start:stop].reshape(shape)
            self.__dict__["d" + name] = grads[start:stop].reshape(shape)
            start = stop

    def __setattr__(self, name, value):
        # An array put in the place of a parameter, or of all of them, would be trained by nobody or used by nobody: its
        # values move in.
        if name not in self.__dict__ or (name not in self.shapes and name not in ("params", "grads")):
            object.__setattr__(self, name, value)
            return
        kept = self.__dict__[name]
        if np.shape(value) != kept.shape:
            raise bad_value(type(self).__name__, f"{name} must have shape {kept.shape}", np.shape(value))
        kept[...] = value

    def initialize(self, rng):
        """Draw starting values of the parameters; nothing to do where there are none."""

    def named_parameters(self):
        """Pairs (name, array), the array a view that may be written to."""
        return [(name, getattr(self, name)) for name in self.shapes]

    def __getstate__(self):
        # A copy of a view is a view of nothing: leave the views out and bind anew. What forward kept is left behind
        # too, and a copy belongs to no model.
        left_out = {prefix + name for name in self.shapes for prefix in ("", "d")} | {"owned", "_x", "_factor"}
        return {name: v for name, v in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.bind(self.params.copy(), self.grads.copy())

    def __copy__(self):
        return copy.deepcopy(self)  # two layers cannot share one set of views

    def __repr__(self):
        return f"{type(self).__name__}()"

    def _kept(self, name):
        """What the last forward kept for backward."""
        try:
            return self.__dict__[name]
        except KeyError:
            raise bad_value(f"{type(self).__name__}.backward", "needs a forward before it", words("none")) from None

    def _checked(self, dy, shape, dtype):
        """`dy` in the dtype of the layer, if it has the shape of the last output."""
        owner = f"{type(self).__name__}.backward"
        dy = cast(real_array(owner, "dy", dy), dtype)
        if dy.shape != shape:
            raise bad_value(owner, f"dy must have shape {shape}", dy.shape)
        return dy


class Linear(Layer):
    """y = x @ W + b.

    Backward: dW = x^T dy, db = sum over rows of dy, dx = dy W^T.

    Parameters
    ----------
    in_features, out_features : int
        I and O; W is (I, O), b is (O,).
    init : {"scaled", "large", "xavier", "he"} or callable
        Starting weights, see `minnet.initializers`; biases start at 0.
    dtype : {numpy.float32, numpy.float64}
        Of the parameters; the input is cast to it.
    seed : int or numpy.random.Generator, optional
        For the starting weights.
    """

    def __init__(self, in_features, out_features, *, init="scaled", dtype=np.float32, seed=None):
        self.in_features = integer("Linear", "in_features", in_features, 1)
        self.out_features = integer("Linear", "out_features", out_features, 1)
        self.init = init
        self.allocate({"W": (in_features, out_features), "b": (out_features,)}, model_dtype("Linear", dtype))
        self.initialize(generator("Linear", seed))

    def initialize(self, rng):  # noqa: D102
        self.W[...] = initializers.draw("Linear", self.init, rng, self.in_features, self.out_features)
        self.b[...] = 0

    def forward(self, x, rng=None):  # noqa: D102
        return F.add_bias(self.product(x), self.b)

    def backward_params(self, dy):  # noqa: D102
        dy = self._checked(dy, (len(self._kept("_x")), self.out_features), self.W.dtype)
        self.backward_product(dy)
        np.add.reduce(dy, axis=0, out=self.db)

    def backward(self, dy):  # noqa: D102
        self.backward_params(dy)
        return self.backward_input(np.asarray(dy, self.W.dtype))

    def product(self, x):
        """The product x @ W alone, for a model whose next layer adds the bias in its own pass."""
        self._x = matrix("Linear", "x", x, self.in_features, self.W.dtype)
        return np.dot(self._x, self.W, out=room((len(self._x), self.out_features), self.W.dtype))

    def backward_product(self, dy):
        """The gradient of W alone: db is the next layer's, too."""
        np.dot(self._x.T, dy, out=self.dW)

    def backward_input(self, dy):
        """The gradient of the input."""
        return np.dot(dy, self.W.T, out=room((len(dy), self.in_features), self.W.dtype))

    def __repr__(self):
        return f"Linear({self.in_features}, {self.out_features})"


class Activation(Layer):
    """y = f(x) element by element, f the function `name` of minnet.functional; dx = dy f'(x)."""

    name = None

    def forward(self, x, rng=None):
        y, self._factor = F.value_and_slope(self.name, x)
        return y

    def backward(self, dy):
        slope = self._kept("_factor")
        return F.chain(self._checked(dy, slope.shape, slope.dtype), slope)

    def forward_biased(self, linear, x):
        """The activation of `linear`, the layer before it, in one pass with its bias."""
        y, self._factor = F.value_and_slope_biased(self.name, linear.product(x), linear.b)
        return y

    def backward_biased(self, linear, dy):
        """The gradient of `linear`'s output; those of its parameters are filled, in one pass with this layer's."""
        slope = self._kept("_factor")
        dz = F.chain_biased(self._checked(dy, slope.shape, slope.dtype), slope, linear.db)
        linear.backward_product(dz)
        return dz


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)); f' = y (1 - y), the factor that vanishes when a unit saturates."""

    name = "sigmoid"


class Tanh(Activation):
    """y = tanh(x); f' = 1 - y^2."""

    name = "tanh"


class ReLU(Activation):
    """y = max(x, 0); f' = 1 for x > 0, else 0."""

    name = "relu"


class Softplus(Activation):
    """y = log(1 + exp(x)); f' = sigmoid(x)."""

    name = "softplus"


class Dropout(Layer):
    """In training, y = x m / (1 - p) with m = 0 at random with probability p, else 1; in use, y = x.

    Parameters
    ----------
    p : float in [0, 1)
        The share of entries that is dropped.

    References
    ----------
    N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 15, 2014.
    """

    def __init__(self, p=0.5):
        self.p = number("Dropout", "p", p, 0, 1)
        if p == 1:
            raise bad_value("Dropout", "p must be less than 1", p)

    def forward(self, x, rng=None):  # noqa: D102
        x = real_array("Dropout", "x", x)
        if rng is None:
            self._factor = np.ones_like(x)
        else:
            kept = rng.random(dtype=x.dtype, out=room(x.shape, x.dtype))
            np.greater_equal(kept, self.p, out=kept)
            self._factor = np.divide(kept, x.dtype.type(1 - self.p), out=kept)
        return F.chain(x, self._factor)

    def backward(self, dy):  # noqa: D102
        mask = self._kept("_factor")
        return F.chain(self._checked(dy, mask.shape, mask.dtype), mask)

    def __repr__(self):
        return f"Dropout({self.p:g})"


ACTIVATIONS = {layer.name: layer for layer in (Sigmoid, Tanh, ReLU, Softplus)}


def model_dtype(owner, dtype):
    """float32 or float64 as a numpy dtype, whatever way it is named."""
    try:
        if dtype is not None and np.dtype(dtype) in (np.float32, np.float64):  # np.dtype(None) is float64
            return np.dtype(dtype)
    except TypeError:
        pass
    raise bad_value(owner, "dtype must be float32 or float64", dtype)


def activation(owner, name):
    """A new layer from an activation's name."""
    return ACTIVATIONS[choice(owner, "activation", name, ACTIVATIONS)]()
