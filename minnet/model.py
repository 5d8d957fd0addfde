"""Models: layers in a row that own one flat vector of parameters and one of gradients.

A model ends in raw outputs (logits); losses that take logits keep the digits that a softmax or sigmoid layer at the end
would lose. `predict` and `predict_proba` read the logits for you.
"""

import itertools

import numpy as np

from minnet import _epoch
from minnet import functional as F
from minnet._checks import bad_type, bad_value, generator, integer, real_array, words
from minnet._rooms import cast
from minnet.layers import Activation, Layer, Linear, ReLU, Sigmoid, Tanh, activation, model_dtype

__all__ = ["MLP", "Sequential"]


class Sequential(Layer):
    """Layers applied one after the other.

    Parameters
    ----------
    layers : list of Layer
        At least one; each object once.
    seed : int or numpy.random.Generator, optional
        Draw the starting values of all layers anew from this seed; None keeps the values that the layers have.

    Attributes
    ----------
    params, grads : ndarray (P,)
        All parameters and all gradients; those of the layers are views into them.
    plain : ndarray (L, 3) or None
        Inputs, outputs and activation of each Linear, where that is all there is: compiled code takes such a net whole.

    Examples
    --------
    >>> import minnet as mn
    >>> mn.Sequential([mn.Linear(784, 30), mn.Sigmoid(), mn.Dropout(0.2), mn.Linear(30, 10)], seed=0)
    Sequential([Linear(784, 30), Sigmoid(), Dropout(0.2), Linear(30, 10)])
    """

    def __init__(self, layers, *, seed=None):
        rng = None if seed is None else generator(type(self).__name__, seed)
        self.layers = _checked_layers(layers)
        self._own()
        if rng is not None:
            self.initialize(rng)

    def _own(self):
        """Allocate the flat vectors and move the layers' parameters into them."""
        dtypes = {layer.params.dtype for layer in self.layers if layer.size} or {np.dtype(np.float32)}
        if len(dtypes) > 1:
            raise bad_value("Sequential", "layers must have one dtype", words(" and ".join(sorted(map(str, dtypes)))))
        dtype = dtypes.pop()
        self.bind(np.empty(self.size, dtype), np.zeros(self.size, dtype))
        for layer in self.layers:
            layer.owned = True
        self._steps = _pair_off(self.layers)
        self._first = next((i for i, (layer, _) in enumerate(self._steps) if layer.size), None)  # that learns
        self.plain = _plain_layers(self.layers) if type(self).forward is Sequential.forward else None

    @property
    def dtype(self):
        """The dtype of parameters, outputs and gradients; data is cast to it."""
        return self.params.dtype

    @property
    def size(self):
        """The number of parameters."""
        return sum(layer.size for layer in self.layers)

    def bind(self, params, grads):
        """Move all layers into `params` and `grads`, flat vectors of `size`."""
        self.__dict__.update(params=params, grads=grads)
        start = 0
        for layer in self.layers:
            stop = start + layer.size
            layer.bind(params[start:stop], grads[start:stop])
            start = stop

    def initialize(self, rng):
        """Draw starting values for all layers from `rng`."""
        for layer in self.layers:
            layer.initialize(rng)

    def named_parameters(self):
        """Pairs (name, array) such as ("0.W", W), the arrays views that may be written to."""
        return [(f"{i}.{name}", a) for i, layer in enumerate(self.layers) for name, a in layer.named_parameters()]

    def forward(self, x, rng=None):
        """Raw outputs (N, O) for a batch (N, I); `rng`, a numpy Generator, only in training (dropout draws from it)."""
        x = cast(real_array(type(self).__name__, "x", x), self.dtype)
        for layer, follower in self._steps:
            x = layer.forward(x, rng) if follower is None else follower.forward_biased(layer, x)
        return x

    def backward(self, dy):
        """Gradient of the last input (N, I) from that of the outputs (N, O); overwrites `grads`."""
        return self._back(dy, 0, True)

    def backward_params(self, dy):
        """Fill `grads`, without the gradient of the input, which the first layer need not compute."""
        if self._first is not None:
            self._back(dy, self._first, False)

    def _back(self, dy, first, need_dx):
        """Through the steps from the last to the `first`, whose gradient of the input may not be needed."""
        dy = cast(real_array(f"{type(self).__name__}.backward", "dy", dy), self.dtype)
        for i in range(len(self._steps) - 1, first - 1, -1):
            layer, follower = self._steps[i]
            only_params = i == first and not need_dx
            if follower is not None:
                dz = follower.backward_biased(layer, dy)
                dy = None if only_params else layer.backward_input(dz)
            else:
                dy = layer.backward_params(dy) if only_params else layer.backward(dy)
        return dy

    def predict(self, X):
        """Class indices (N,): the largest of C > 1 outputs, or 1 where the one logit is above 0."""
        z = self._logits(X)
        return np.argmax(z, axis=1) if z.shape[1] > 1 else (z[:, 0] > 0).astype(np.int64)

    def predict_proba(self, X):
        """Probabilities: softmax (N, C) of C > 1 outputs, or sigmoid (N,) of the one logit."""
        z = self._logits(X)
        return F.softmax(z) if z.shape[1] > 1 else F.sigmoid(z[:, 0])

    def _logits(self, X):
        if self.plain is not None and type(X) is np.ndarray and "forward" not in self.__dict__:
            z = np.empty((len(X) if X.ndim else 0, self.plain.item(-2)), self.params.dtype)
            if _epoch.answer_door(self.plain, self.params, X, z):  # a row of a small net, say
                return z
        z = self.forward(X)
        if z.ndim != 2 or z.shape[1] < 1:
            raise bad_value(f"{type(self).__name__}.predict", "outputs must be (N, C) with C >= 1", z.shape)
        return z

    def __getstate__(self):
        left_out = {"params", "grads", "owned", "plain", "_steps", "_first"}
        return {name: v for name, v in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._own()

    def __repr__(self):
        return f"Sequential({self.layers})"


class MLP(Sequential):
    """Multi-layer perceptron: Linear layers with an activation between them, ending in logits.

    Parameters
    ----------
    sizes : list of int
        [inputs, hidden ..., outputs], at least two.
    activation : {"sigmoid", "tanh", "relu", "softplus"}
        After every layer but the last.
    init : {"scaled", "large", "xavier", "he"} or callable
        Starting weights, see `minnet.initializers`; biases start at 0.
    dtype : {numpy.float32, numpy.float64}
        Of parameters, outputs and gradients; data is cast to it.
    seed : int or numpy.random.Generator, optional
        For the starting weights.

    Examples
    --------
    >>> import minnet as mn
    >>> net = mn.MLP([784, 30, 10], activation="sigmoid", seed=0)
    >>> net, net.size
    (MLP([784, 30, 10], activation='sigmoid'), 23860)
    """

    def __init__(self, sizes, *, activation="sigmoid", init="scaled", dtype=np.float32, seed=None):
        self.sizes = _checked_sizes(sizes)
        self.activation = activation
        super().__init__(_plain_stack(self.sizes, activation, init, model_dtype("MLP", dtype)), seed=seed)

    def __repr__(self):
        return f"MLP({self.sizes}, activation={self.activation!r})"


def _pair_off(layers):
    """Steps (layer, None), or (linear, activation) where an activation can take the bias along in its own pass."""
    steps, i = [], 0
    while i < len(layers):
        pair = layers[i : i + 2]
        fused = len(pair) == 2 and type(pair[0]) is Linear and isinstance(pair[1], Activation)
        steps.append(tuple(pair) if fused else (layers[i], None))
        i += 1 + fused
    return steps


def _plain_layers(layers):
    """Inputs, outputs and activation of Linear layers that fit each other, an array (L, 3), else None."""
    found = []
    for layer in layers:
        if type(layer) is Linear and (not found or found[-1][1] == layer.in_features):
            found.append([layer.in_features, layer.out_features, _epoch.NO_ACTIVATION])
        elif type(layer) in (Sigmoid, Tanh, ReLU) and found and found[-1][2] == _epoch.NO_ACTIVATION:
            found[-1][2] = _epoch.ACTIVATIONS[layer.name]
        else:
            return None
    return np.array(found, np.int64) if len(found) <= _epoch.MOST_LAYERS else None


def _plain_stack(sizes, name, init, dtype):
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [Linear(fan_in, fan_out, init=init, dtype=dtype), activation("MLP", name)]
    return layers[:-1]


def _checked_sizes(sizes):
    try:
        sizes = list(sizes)
    except TypeError:
        raise bad_type("MLP", "sizes must be a list of integers", sizes) from None
    if len(sizes) < 2:
        raise bad_value("MLP", "sizes must name at least inputs and outputs", sizes, "such as [784, 30, 10]")
    return [integer("MLP", "sizes", size, 1) for size in sizes]


def _checked_layers(layers):
    layers = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    if not layers:
        raise bad_value("Sequential", "needs at least one layer", layers)
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = "make one: " + layer.__name__ + "(...)" if isinstance(layer, type) else ""
            raise bad_type("Sequential", "every layer must be a minnet Layer", layer, hint)
        if layer.owned or sum(layer is other for other in layers) > 1:
            hint = "copy.deepcopy gives a free one"
            raise bad_value("Sequential", "a layer can stand in one place only", layer, hint)
    return layers
