"""numpy by hand, as one writes it who cares: buffers reused, as few passes as whole-array operations allow."""

from functools import partial

import numpy as np

from benchmarks import results, training
from benchmarks.cases import ADAM, NETS, NEURONS, SGD
from benchmarks.contenders import Job


def contenders(threads):
    """Whole-array operations by hand; those used here have one thread."""
    jobs = {
        "sigmoid": _sigmoid,
        "softmax": _softmax,
        "cross-entropy": _cross_entropy,
        "binary cross-entropy": _binary_cross_entropy,
        "SGD momentum": _momentum,
        "Adam": _adam,
        "neurons mse": partial(_neurons, loss="mse"),
        "neurons bce": partial(_neurons, loss="bce"),
        "nets": _nets,
        "epoch sigmoid": partial(_epoch, activation=_sigmoid_in_place),
        "epoch relu": partial(_epoch, activation=_relu_in_place),
        "5000 epochs of XOR": _xor,
        "one answer": _answer,
    }
    products = {"epoch sigmoid": _products, "epoch relu": _products}
    return {"numpy": jobs, results.LIMIT: products}


def _sigmoid(p):
    y = np.empty_like(p.x)

    def run():
        np.negative(p.x, out=y)
        np.exp(y, out=y)
        np.add(y, 1, out=y)
        np.reciprocal(y, out=y)

    return Job(run, lambda _: (y,))


def _softmax(p):
    y = np.empty_like(p.x)

    def run():
        np.subtract(p.x, p.x.max(axis=1, keepdims=True), out=y)
        np.exp(y, out=y)
        np.multiply(y, 1 / y.sum(axis=1, keepdims=True), out=y)

    return Job(run, lambda _: (y,))


def _cross_entropy(p):
    n, dx = len(p.x), np.empty_like(p.x)
    rows = np.arange(n)

    def run():
        np.subtract(p.x, p.x.max(axis=1, keepdims=True), out=dx)
        picked = dx[rows, p.y]
        np.exp(dx, out=dx)
        total = dx.sum(axis=1, keepdims=True)
        np.multiply(dx, 1 / (n * total), out=dx)
        dx[rows, p.y] -= 1 / n
        return (np.log(total[:, 0]) - picked).mean(), dx

    return Job(run, lambda result: result)


def _binary_cross_entropy(p):
    e, a, dx = (np.empty_like(p.x) for _ in range(3))

    def run():
        np.abs(p.x, out=e)
        np.negative(e, out=e)
        np.exp(e, out=e)  # exp(-|x|), which both the loss and its gradient are made of
        np.log1p(e, out=a)
        np.add(a, np.maximum(p.x, 0, out=dx), out=a)
        np.subtract(a, np.multiply(p.x, p.t, out=dx), out=a)
        value = a.mean()
        np.add(e, 1, out=a)
        np.copyto(e, 1, where=p.x >= 0)
        np.divide(e, a, out=dx)
        np.subtract(dx, p.t, out=dx)
        np.multiply(dx, 1 / p.x.size, out=dx)
        return value, dx

    return Job(run, lambda result: result)


def _momentum(p):
    w, v, change = p.w.copy(), np.zeros_like(p.w), np.empty_like(p.w)

    def run():
        np.multiply(v, SGD.momentum, out=v)
        np.add(v, p.g, out=v)
        np.multiply(v, SGD.lr, out=change)
        np.subtract(w, change, out=w)

    return Job(run, lambda _: (w,))


def _adam(p):
    w, m, v, a = p.w.copy(), np.zeros_like(p.w), np.zeros_like(p.w), np.empty_like(p.w)
    beta1, beta2 = ADAM.betas
    steps = 0

    def run():
        nonlocal steps
        steps += 1
        np.multiply(m, beta1, out=m)
        np.add(m, np.multiply(p.g, 1 - beta1, out=a), out=m)
        np.multiply(v, beta2, out=v)
        np.multiply(p.g, p.g, out=a)
        np.add(v, np.multiply(a, 1 - beta2, out=a), out=v)
        np.sqrt(v, out=a)
        np.multiply(a, (1 - beta2**steps) ** -0.5, out=a)
        np.divide(m, np.add(a, ADAM.eps, out=a), out=a)
        np.subtract(w, np.multiply(a, ADAM.lr / (1 - beta1**steps), out=a), out=w)

    return Job(run, lambda _: (w,))


def _neurons(p, loss):
    """Some thousand neurons at a time, whose arrays stay in the cache."""
    w, b, piece = np.empty_like(p.w), np.empty_like(p.b), 4096

    def train(w, b, a, slope):
        for _ in range(NEURONS.epochs):
            np.add(w, b, out=a)
            np.negative(a, out=a)
            np.exp(a, out=a)
            np.add(a, 1, out=a)
            np.reciprocal(a, out=a)
            if loss == "mse":
                np.subtract(1, a, out=slope)
                np.multiply(slope, a, out=slope)
                np.multiply(a, slope, out=a)
            np.multiply(a, NEURONS.lr, out=a)
            np.subtract(w, a, out=w)
            np.subtract(b, a, out=b)

    def run():
        np.copyto(w, p.w)
        np.copyto(b, p.b)
        for start in range(0, len(w), piece):
            u, v = w[start : start + piece], b[start : start + piece]
            train(u, v, np.empty_like(u), np.empty_like(u))
        return w, b

    return Job(run, lambda result: result)


def _nets(p):
    """All nets in one matmul a product."""
    outputs, lr = p.W2.shape[2], NETS.lr
    W1, W2 = p.W1.copy(), p.W2.copy()
    b1, b2 = (np.zeros((len(W), 1, W.shape[2]), W.dtype) for W in (W1, W2))
    t = (p.y[:, None] if outputs == 1 else np.eye(outputs)[p.y]).astype(W1.dtype)

    def epoch():
        nonlocal W1, W2, b1, b2
        h = 1 / (1 + np.exp(-(p.x @ W1 + b1)))
        z = h @ W2 + b2
        if outputs == 1:
            dz = 1 / (1 + np.exp(-z))
        else:
            dz = np.exp(z - z.max(axis=2, keepdims=True))
            dz /= dz.sum(axis=2, keepdims=True)
        dz = (dz - t) * (lr / len(p.x))
        dh = dz @ W2.swapaxes(1, 2) * h * (1 - h)
        W2, b2 = W2 - h.swapaxes(1, 2) @ dz, b2 - dz.sum(axis=1, keepdims=True)
        W1, b1 = W1 - p.x.T @ dh, b1 - dh.sum(axis=1, keepdims=True)

    def run():
        for _ in range(NETS.epochs):
            epoch()

    return Job(run, lambda _: (np.concatenate([a.reshape(len(W1), -1) for a in (W1, b1, W2, b2)], axis=1),))


def _sigmoid_in_place(z, slope):
    np.negative(z, out=z)
    np.exp(z, out=z)
    np.add(z, 1, out=z)
    np.reciprocal(z, out=z)
    np.subtract(1, z, out=slope)
    np.multiply(slope, z, out=slope)


def _relu_in_place(z, slope):
    np.maximum(z, 0, out=z)
    np.greater(z, 0, out=slope, casting="unsafe")


def _room(layers, x, rows):
    """Buffers for so many rows: inputs of all layers and outputs, slopes, gradients of outputs and of weights."""
    sizes = [len(b) for _, b in layers]
    outputs, slopes, dz = ([np.empty((rows, size), x.dtype) for size in sizes] for _ in range(3))
    return [np.empty((rows, x.shape[1]), x.dtype), *outputs], slopes, dz, [np.empty_like(W) for W, _ in layers]


def _forward(layers, values, slopes, activation):
    for i, (W, b) in enumerate(layers):
        np.dot(values[i], W, out=values[i + 1])
        np.add(values[i + 1], b, out=values[i + 1])
        if i + 1 < len(layers):
            activation(values[i + 1], slopes[i])


def _backward(layers, values, slopes, dz, dW, lr):
    for i in range(len(layers) - 1, -1, -1):
        W, b = layers[i]
        if i:
            np.dot(dz[i], W.T, out=dz[i - 1])
            np.multiply(dz[i - 1], slopes[i - 1], out=dz[i - 1])
        np.dot(values[i].T, dz[i], out=dW[i])
        np.multiply(dW[i], lr, out=dW[i])
        np.subtract(W, dW[i], out=W)
        np.subtract(b, lr * dz[i].sum(axis=0), out=b)


def _epoch(p, activation):
    layers, rng, batch, lr = training.pairs(p), training.orders(), int(p.batch), p.x.dtype.type(training.LR)
    rooms = {rows: _room(layers, p.x, rows) for rows in {batch, len(p.x) % batch} - {0}}

    def run():
        order = rng.permutation(len(p.x))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            values, slopes, dz, dW = rooms[len(rows)]
            np.take(p.x, rows, axis=0, out=values[0], mode="clip")
            _forward(layers, values, slopes, activation)
            e = dz[-1]
            np.subtract(values[-1], values[-1].max(axis=1, keepdims=True), out=e)
            np.exp(e, out=e)
            np.multiply(e, 1 / (len(rows) * e.sum(axis=1, keepdims=True)), out=e)
            e[np.arange(len(rows)), p.y[rows]] -= p.x.dtype.type(1 / len(rows))
            _backward(layers, values, slopes, dz, dW, lr)

    return Job(run, lambda _: (training.flat(layers),))


def _xor(p):
    layers, lr = training.pairs(p), p.x.dtype.type(training.XOR.lr)
    values, slopes, dz, dW = _room(layers, p.x, len(p.x))
    values[0][...] = p.x
    share = p.x.dtype.type(1 / len(p.x))

    def run():
        for _ in range(training.XOR.epochs):
            _forward(layers, values, slopes, _sigmoid_in_place)
            _sigmoid_in_place(values[-1], slopes[-1])
            np.subtract(values[-1], p.t, out=dz[-1])
            np.multiply(dz[-1], slopes[-1] * share, out=dz[-1])
            _backward(layers, values, slopes, dz, dW, lr)

    return Job(run, lambda _: (training.flat(layers),))


def _answer(p):
    layers = training.pairs(p)
    values, slopes, _, _ = _room(layers, p.x, 1)
    values[0][...] = p.x

    def run():
        _forward(layers, values, slopes, _sigmoid_in_place)
        e = np.exp(values[-1] - values[-1].max())
        return e / e.sum()

    return Job(run, lambda result: (result,))


def _products(p):
    """The matrix products of an epoch and nothing else; no answer."""
    layers, batch = training.pairs(p), int(p.batch)
    rooms = {rows: _room(layers, p.x, rows) for rows in {batch, len(p.x) % batch} - {0}}
    for values, _, dz, _ in rooms.values():
        for a in (*values, *dz):
            a[...] = 0.5

    def run():
        for start in range(0, len(p.x), batch):
            values, _, dz, dW = rooms[min(batch, len(p.x) - start)]
            for i, (W, _) in enumerate(layers):
                np.dot(values[i], W, out=values[i + 1])
            for i in range(len(layers) - 1, -1, -1):
                if i:
                    np.dot(dz[i], layers[i][0].T, out=dz[i - 1])
                np.dot(values[i].T, dz[i], out=dW[i])

    return Job(run, None)
