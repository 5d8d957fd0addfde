"""What is measured: operations, their sizes, their inputs, and the right answers in float64.

A case is one operation at one size in one dtype. A problem holds its inputs: `x` numbers or logits, `y` labels, `t`
targets in [0, 1], `w` parameters, `g` their gradient. The references are plain numpy with nothing clever in them.
"""

import math
import re
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

DTYPES = ("float32", "float64")
SGD = SimpleNamespace(lr=0.01, momentum=0.9)
ADAM = SimpleNamespace(lr=0.001, betas=(0.9, 0.999), eps=1e-8)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

# `arrays`: how many arrays of the case's shape are read or written, each once; `calls`: calls before the answer is
# compared, more than one where something is remembered from call to call.
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
        return OPERATIONS[self.name].arrays * math.prod(self.shape) * np.dtype(self.dtype).itemsize

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


MATRICES = ("128x10", "8192x10", "8192x1000", "1024x50257")

OPERATIONS = {
    "sigmoid": Operation(("64", "4096", "2^20", "2^24"), 2, 1, _numbers, _sigmoid),
    "softmax": Operation(MATRICES, 2, 1, _numbers, _softmax),
    "cross-entropy": Operation(("10x10", *MATRICES), 2, 1, _labelled, _cross_entropy),
    "binary cross-entropy": Operation(("64", "4096", "2^20"), 3, 1, _yes_no, _binary_cross_entropy),
    "SGD momentum": Operation(("10^6",), 5, 3, _parameters, _momentum),  # reads w, g, v; writes w, v
    "Adam": Operation(("10^6",), 7, 3, _parameters, _adam),  # reads w, g, m, v; writes w, m, v
}
