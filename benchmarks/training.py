"""Whole training: epochs of a classifier over 10,000 samples, many epochs of a tiny net, and one answer.

The size of a case is its batch and its layers, such as 10x784x30x10. An epoch takes the samples in a new order, drawn
from `orders`, which every contender has for itself; the weights go on from run to run.
"""

import itertools
from types import SimpleNamespace

import numpy as np

SAMPLES = 10_000
# Small, so that rounding errors do not grow from step to step, and that a unit of relu that is at 0 in float32 and just
# above it in float64, as about one in ten million is, moves no weight by more than the tolerance.
LR = 2e-4
# Half the squared error of sigmoid outputs, a mean over rows. FANN gives units beyond 0.99 the slope that they have at
# 0.99, and takes the rate as a float: at this one both make no difference.
XOR = SimpleNamespace(lr=0.03125, epochs=5000)


def orders():
    """The generator whose permutations are the orders of the epochs."""
    return np.random.default_rng(0)


def pairs(p):
    """Weights and biases (W, b) of a problem's layers, as copies."""
    weights = [getattr(p, f"W{i}") for i in range(1, int(p.layers) + 1)]
    return [(W.copy(), np.zeros(W.shape[1], W.dtype)) for W in weights]


def flat(layers):
    """All parameters, in the order of minnet's: W, b of the first layer, and so on."""
    return np.concatenate([np.asarray(a).reshape(-1) for layer in layers for a in layer])


def size_of(shape, samples=SAMPLES):
    """How many numbers an epoch reads and writes: the samples, and the parameters twice."""
    _, *sizes = shape
    return samples * sizes[0] + 2 * sum((a + 1) * b for a, b in itertools.pairwise(sizes))


# ---- inputs ----


def classified(rng, shape, dtype, samples=SAMPLES):
    """Random samples (N, I) of MNIST's shape, labels, and starting weights."""
    batch, *sizes = shape
    p = SimpleNamespace(x=rng.random((samples, sizes[0])).astype(dtype), y=rng.integers(0, sizes[-1], samples))
    return _with_weights(p, rng, sizes, dtype, batch)


def xor(rng, shape, dtype):
    """The four rows of XOR."""
    batch, *sizes = shape
    p = SimpleNamespace(x=np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype), t=np.array([[0], [1], [1], [0]], dtype))
    return _with_weights(p, rng, sizes, dtype, batch)


def _with_weights(p, rng, sizes, dtype, batch):
    p.batch, p.layers = np.array(batch), np.array(len(sizes) - 1)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        setattr(p, f"W{i}", (rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)).astype(dtype))
    return p


# ---- references ----


def sigmoid(x):
    """Its value, and its slope from that."""
    y = 1 / (1 + np.exp(-x))
    return y, y * (1 - y)


def relu(x):
    """Its value and slope."""
    return np.maximum(x, 0), x > 0


def outputs(layers, x, activation):
    """Inputs and slopes of all layers, and the outputs of the last."""
    inputs, slopes = [x], []
    for W, b in layers[:-1]:
        y, slope = activation(inputs[-1] @ W + b)
        inputs.append(y)
        slopes.append(slope)
    W, b = layers[-1]
    return inputs, slopes, inputs[-1] @ W + b


def descend(layers, inputs, slopes, dz, lr):
    """Update all layers in place, from the gradient of the last outputs."""
    for (W, b), x, slope in zip(layers[::-1], inputs[::-1], [*slopes[::-1], None], strict=True):
        dx = None if slope is None else dz @ W.T * slope
        W -= lr * (x.T @ dz)
        b -= lr * dz.sum(axis=0)
        dz = dx


def softmax(z):
    """Rows of probabilities."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def trained(p, activation):
    """The parameters after one epoch."""
    layers, order, batch = pairs(p), orders().permutation(len(p.x)), int(p.batch)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        inputs, slopes, z = outputs(layers, p.x[rows], activation)
        dz = softmax(z)
        dz[np.arange(len(rows)), p.y[rows]] -= 1
        descend(layers, inputs, slopes, dz / len(rows), LR)
    return (flat(layers),)


def trained_xor(p):
    """The parameters after many epochs of one step each."""
    layers = pairs(p)
    for _ in range(XOR.epochs):
        inputs, slopes, z = outputs(layers, p.x, sigmoid)
        y, slope = sigmoid(z)
        descend(layers, inputs, slopes, (y - p.t) * slope / len(p.x), XOR.lr)
    return (flat(layers),)


def answer(p):
    """Probabilities of the first sample."""
    return (softmax(outputs(pairs(p), p.x[:1], sigmoid)[2]),)
