"""What is measured: operations, their sizes, their inputs, and the right answers in float64.

A case is one operation at one size in one dtype. A problem holds its inputs: `x` numbers or logits, `y` labels, `t`
targets in [0, 1], `w` parameters, `g` their gradient. The references are plain numpy with nothing clever in them.
"""

import math
import re
from collections import namedtuple
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np

from benchmarks import training

DTYPES = ("float32", "float64")
SGD = SimpleNamespace(lr=0.01, momentum=0.9)
ADAM = SimpleNamespace(lr=0.001, betas=(0.9, 0.999), eps=1e-8)
NEURONS = SimpleNamespace(lr=0.15, epochs=200)  # input 1, target 0; after 300, rounding alone exceeds TOLERANCE
NETS = SimpleNamespace(lr=0.5, epochs=20)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

# `arrays`: how many arrays of the case's shape are read or written, each once, or a function that counts the numbers of
# a shape; `calls`: calls before the answer is compared, more than one where something is remembered from call to call.
Operation = namedtuple("Operation", "sizes arrays calls problem reference")


@dataclass(frozen=True)
class Case:
    """One operation by its name, at one size, in one dtype."""

    name: str
    size: str
    dtype: str

    @property
    def key(self):
        """What --only searches in."""
        return f"{self.name} {self.size} {self.dtype}"

    @property
    def shape(self):
        """(128, 10) for "128x10", (4096,) for "4096", (1048576,) for "2^20"."""
        if "^" in self.size:
            base, exponent = map(int, self.size.split("^"))
            return (base**exponent,)
        return tuple(map(int, self.size.split("x")))

    @property
    def bytes(self):
        """Bytes that the operation cannot help but move: every input read once, every output written once."""
        arrays = OPERATIONS[self.name].arrays
        numbers = arrays(self.shape) if callable(arrays) else arrays * math.prod(self.shape)
        return numbers * np.dtype(self.dtype).itemsize

    def problem(self):
        """The inputs, the same at every call."""
        return OPERATIONS[self.name].problem(np.random.default_rng(0), self.shape, self.dtype)

    def reference(self, problem):
        """The right answer, a tuple of float64 arrays, from the inputs as the dtype holds them."""
        exact = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in vars(problem).items()}
        return OPERATIONS[self.name].reference(SimpleNamespace(**exact))


def select(only="", dtypes=DTYPES):
    """The cases whose key holds `only`, taken literally ("2^20") or as a regular expression."""
    cases = [Case(name, size, dtype) for name in OPERATIONS for size in OPERATIONS[name].sizes for dtype in dtypes]
    return [case for case in cases if only in case.key or re.search(only, case.key)]


def disagreement(answer, expected, dtype):
    """None if `answer` is right, else a phrase that says what is wrong with it."""
    for got, exact in zip(answer, expected, strict=True):
        got = np.asarray(got)
        if got.shape != exact.shape:
            return f"shape {got.shape} instead of {exact.shape}"
        if got.ndim and got.dtype != dtype:
            return f"{got.dtype} instead of {dtype}"
        allowed = TOLERANCE[dtype] * (np.abs(exact) + np.mean(np.abs(exact)))
        wrong = np.count_nonzero(~(np.abs(got - exact) <= allowed))  # counts NaN as wrong
        if wrong:
            return f"{wrong} of {exact.size} values wrong"
    return None


# ---- inputs ----


def _numbers(rng, shape, dtype):
    return SimpleNamespace(x=2 * rng.standard_normal(shape, dtype))


def _labelled(rng, shape, dtype):
    return SimpleNamespace(x=2 * rng.standard_normal(shape, dtype), y=rng.integers(0, shape[1], shape[0]))


def _yes_no(rng, shape, dtype):
    return SimpleNamespace(x=2 * rng.standard_normal(shape, dtype), t=rng.integers(0, 2, shape).astype(dtype))


def _parameters(rng, shape, dtype):
    return SimpleNamespace(w=rng.standard_normal(shape, dtype), g=rng.standard_normal(shape, dtype))


def _neurons(rng, shape, dtype):
    return SimpleNamespace(w=rng.uniform(-8, 8, shape).astype(dtype), b=rng.uniform(-8, 8, shape).astype(dtype))


def _nets(rng, shape, dtype):
    """Weights of so many nets with one hidden layer, biases 0; XOR for two inputs, else 32 labelled samples."""
    members, inputs, hidden, outputs = shape
    if inputs == 2:
        x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype), np.array([0, 1, 1, 0])
    else:
        x, y = rng.random((32, inputs)).astype(dtype), rng.integers(0, outputs, 32)
    W1 = rng.standard_normal((members, inputs, hidden)) / np.sqrt(inputs)
    W2 = rng.standard_normal((members, hidden, outputs)) / np.sqrt(hidden)
    return SimpleNamespace(x=x, y=y, W1=W1.astype(dtype), W2=W2.astype(dtype))


def parameters_of_nets(shape):
    """How many numbers training such nets reads and writes."""
    members, inputs, hidden, outputs = shape
    return 2 * members * ((inputs + 1) * hidden + (hidden + 1) * outputs)


# ---- references ----


def _sigmoid(p):
    return (1 / (1 + np.exp(-p.x)),)


def _softmax(p):
    e = np.exp(p.x - p.x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True),)


def _cross_entropy(p):
    rows = np.arange(len(p.x))
    (gradient,) = _softmax(p)
    value = -np.log(gradient[rows, p.y]).mean()
    gradient[rows, p.y] -= 1
    return value, gradient / len(p.x)


def _binary_cross_entropy(p):
    value = (np.logaddexp(0, p.x) - p.t * p.x).mean()
    return value, (1 / (1 + np.exp(-p.x)) - p.t) / p.x.size


def _momentum(p):
    v = 0
    for _ in range(OPERATIONS["SGD momentum"].calls):
        v = SGD.momentum * v + p.g
        p.w = p.w - SGD.lr * v
    return (p.w,)


def _adam(p):
    m = v = 0
    beta1, beta2 = ADAM.betas
    for t in range(1, OPERATIONS["Adam"].calls + 1):
        m = beta1 * m + (1 - beta1) * p.g
        v = beta2 * v + (1 - beta2) * p.g**2
        p.w = p.w - ADAM.lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + ADAM.eps)
    return (p.w,)


def _trained_neurons(p, loss):
    w, b = p.w.copy(), p.b.copy()
    for start in range(0, len(w), 4096):
        u, v = w[start : start + 4096], b[start : start + 4096]  # views
        for _ in range(NEURONS.epochs):
            a = 1 / (1 + np.exp(-(u + v)))
            step = NEURONS.lr * (a * a * (1 - a) if loss == "mse" else a)
            u -= step
            v -= step
    return w, b


def _trained_nets(p):
    """One sigmoid layer; binary cross-entropy of one output, cross-entropy of several."""
    W1, W2 = p.W1.copy(), p.W2.copy()
    outputs = W2.shape[2]
    b1, b2 = np.zeros((len(W1), 1, W1.shape[2])), np.zeros((len(W2), 1, outputs))
    t = p.y[:, None] if outputs == 1 else np.eye(outputs)[p.y]
    for _ in range(NETS.epochs):
        h = 1 / (1 + np.exp(-(p.x @ W1 + b1)))
        z = h @ W2 + b2
        e = np.exp(z - z.max(axis=2, keepdims=True))
        dz = (1 / (1 + np.exp(-z)) if outputs == 1 else e / e.sum(axis=2, keepdims=True)) - t
        dz /= len(p.x)
        dh = dz @ W2.transpose(0, 2, 1) * h * (1 - h)
        W1, b1 = W1 - NETS.lr * (p.x.T @ dh), b1 - NETS.lr * dh.sum(axis=1, keepdims=True)
        W2, b2 = W2 - NETS.lr * (h.transpose(0, 2, 1) @ dz), b2 - NETS.lr * dz.sum(axis=1, keepdims=True)
    return (np.concatenate([a.reshape(len(W1), -1) for a in (W1, b1, W2, b2)], axis=1),)


MATRICES = ("128x10", "8192x10", "8192x1000", "1024x50257")

OPERATIONS = {
    "sigmoid": Operation(("64", "4096", "2^20", "2^24"), 2, 1, _numbers, _sigmoid),
    "softmax": Operation(MATRICES, 2, 1, _numbers, _softmax),
    "cross-entropy": Operation(("10x10", *MATRICES), 2, 1, _labelled, _cross_entropy),
    "binary cross-entropy": Operation(("64", "4096", "2^20"), 3, 1, _yes_no, _binary_cross_entropy),
    "SGD momentum": Operation(("10^6",), 5, 3, _parameters, _momentum),  # reads w, g, v; writes w, v
    "Adam": Operation(("10^6",), 7, 3, _parameters, _adam),  # reads w, g, m, v; writes w, m, v
    "neurons mse": Operation(
        ("10^4", "10^6"), 4, 1, _neurons, partial(_trained_neurons, loss="mse")
    ),  # w, b in and out
    "neurons bce": Operation(("10^4", "10^6"), 4, 1, _neurons, partial(_trained_neurons, loss="bce")),
    "nets": Operation(("256x64x16x10", "10000x2x8x1"), parameters_of_nets, 1, _nets, _trained_nets),
    "epoch sigmoid": Operation(
        ("10x784x30x10",),
        training.size_of,
        1,
        training.classified,
        partial(training.trained, activation=training.sigmoid),
    ),
    "epoch relu": Operation(
        ("64x784x128x10", "128x784x512x512x10"),
        training.size_of,
        1,
        training.classified,
        partial(training.trained, activation=training.relu),
    ),
    "5000 epochs of XOR": Operation(
        ("4x2x8x1",), partial(training.size_of, samples=4), 1, training.xor, training.trained_xor
    ),
    "one answer": Operation(
        ("1x784x30x10",),
        partial(training.size_of, samples=1),
        1,
        partial(training.classified, samples=1),
        training.answer,
    ),
}
