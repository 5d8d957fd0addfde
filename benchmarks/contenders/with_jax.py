"""jax on the CPU: everything under jit, waited for; optimizer state donated, so that it is updated in place.

The loss is written as logsumexp(x) - x_y: always faster than through log_softmax or one-hot labels, and seven times at
1000 classes. Nets are a vmap over members, which is faster than the members as the last axis; many epochs are one loop
under jit, which no call of ours interrupts.
"""

import os
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
from jax import block_until_ready

from benchmarks import training
from benchmarks.cases import ADAM, NETS, NEURONS, SGD
from benchmarks.contenders import Job


def contenders(threads):
    """jax, which takes a thread for every CPU that the process may run on."""
    jax.config.update("jax_enable_x64", True)  # float32 inputs stay float32
    jobs = {
        "sigmoid": partial(_function, jax.nn.sigmoid),
        "softmax": partial(_function, jax.nn.softmax),
        "cross-entropy": lambda p: _loss(_cross_entropy, p.x, p.y.astype("int32")),
        "binary cross-entropy": lambda p: _loss(_binary_cross_entropy, p.x, p.t),
        "SGD momentum": _momentum,
        "Adam": _adam,
        "neurons mse": partial(_neurons, slope=lambda a: a * a * (1 - a)),
        "neurons bce": partial(_neurons, slope=lambda a: a),
        "nets": _nets,
        "epoch sigmoid": partial(_epoch, activation=jax.nn.sigmoid),
        "epoch relu": partial(_epoch, activation=jax.nn.relu),
        "5000 epochs of XOR": _xor,
        "one answer": _answer,
    }
    return {"jax": jobs}


def _function(function, p):
    function, x = jax.jit(function), jnp.asarray(p.x)
    return Job(lambda: function(x).block_until_ready(), lambda result: (result,))


def _cross_entropy(x, y):
    picked = jnp.take_along_axis(x, y[:, None], axis=1)[:, 0]
    return (jax.nn.logsumexp(x, axis=1) - picked).mean()


def _binary_cross_entropy(x, t):
    return (jax.nn.softplus(x) - t * x).mean()


def _loss(function, x, target):
    function, x, target = jax.jit(jax.value_and_grad(function)), jnp.asarray(x), jnp.asarray(target)
    return Job(lambda: block_until_ready(function(x, target)), lambda result: result)


def _momentum(p):
    def step(state, g):
        w, v = state
        v = SGD.momentum * v + g
        return w - SGD.lr * v, v

    return _step(step, p, slots=1)


def _adam(p):
    beta1, beta2 = ADAM.betas

    def step(state, g):
        w, m, v, t = state
        t = t + 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        rate, root = ADAM.lr / (1 - beta1**t), (1 - beta2**t) ** -0.5
        return w - rate * m / (jnp.sqrt(v) * root + ADAM.eps), m, v, t

    return _step(step, p, slots=2, extra=(jnp.zeros((), p.w.dtype),))


def _step(step, p, slots, extra=()):
    step, g = jax.jit(step, donate_argnums=0), jnp.asarray(p.g)
    state = (jnp.array(p.w), *(jnp.zeros(p.w.shape, p.w.dtype) for _ in range(slots)), *extra)

    def run():
        nonlocal state
        state = block_until_ready(step(state, g))

    return Job(run, lambda _: (state[0],))


def _neurons(p, slope):
    """The dtype of lr is that of the weights, or all would be computed in float64."""

    @jax.jit
    def train(w, b, lr):
        def epoch(_, state):
            w, b = state
            step = lr * slope(jax.nn.sigmoid(w + b))
            return w - step, b - step

        return jax.lax.fori_loop(0, NEURONS.epochs, epoch, (w, b))

    w, b, lr = jnp.asarray(p.w), jnp.asarray(p.b), jnp.asarray(NEURONS.lr, p.w.dtype)
    return Job(lambda: block_until_ready(train(w, b, lr)), lambda result: result)


def _nets(p):
    lr, t = jnp.asarray(NETS.lr, p.x.dtype), jnp.asarray(p.y[:, None], "int32" if p.W2.shape[2] > 1 else p.x.dtype)
    x, zeros = jnp.asarray(p.x), partial(jnp.zeros, dtype=p.x.dtype)
    weights = jnp.asarray(p.W1), zeros(p.W1.shape[::2]), jnp.asarray(p.W2), zeros(p.W2.shape[::2])

    def loss(weights, x, t):
        W1, b1, W2, b2 = weights
        z = jax.nn.sigmoid(x @ W1 + b1) @ W2 + b2
        return _binary_cross_entropy(z, t) if z.shape[1] == 1 else _cross_entropy(z, t[:, 0])

    gradient = jax.vmap(jax.grad(loss), in_axes=(0, None, None))

    @partial(jax.jit, donate_argnums=0)
    def train(weights, x, t, lr):
        def epoch(_, weights):
            return jax.tree.map(lambda w, g: w - lr * g, weights, gradient(weights, x, t))

        return jax.lax.fori_loop(0, NETS.epochs, epoch, weights)

    def run():
        nonlocal weights
        weights = block_until_ready(train(weights, x, t, lr))

    return Job(run, lambda _: (jnp.concatenate([a.reshape(len(p.W1), -1) for a in weights], axis=1),))


def _outputs(weights, x, activation):
    for W, b in weights[:-1]:
        x = activation(x @ W + b)
    W, b = weights[-1]
    return x @ W + b


def _epoch(p, activation):
    """A scan over the full batches, and a step for the rest."""
    weights, rng, batch = jax.tree.map(jnp.asarray, training.pairs(p)), training.orders(), int(p.batch)
    x, y, lr = jnp.asarray(p.x), jnp.asarray(p.y.astype("int32")), jnp.asarray(training.LR, p.x.dtype)
    whole = len(p.x) // batch * batch

    def loss(weights, x, y):
        return _cross_entropy(_outputs(weights, x, activation), y)

    @partial(jax.jit, donate_argnums=0)
    def train(weights, x, y, order, lr):
        def step(weights, rows):
            gradient = jax.grad(loss)(weights, x[rows], y[rows])
            return jax.tree.map(lambda w, g: w - lr * g, weights, gradient), None

        weights, _ = jax.lax.scan(step, weights, order[:whole].reshape(-1, batch))
        return step(weights, order[whole:])[0] if whole < len(x) else weights

    def run():
        nonlocal weights
        weights = block_until_ready(train(weights, x, y, rng.permutation(len(p.x)).astype("int32"), lr))

    return Job(run, lambda _: (training.flat(weights),))


def _xor(p):
    weights, x, t = jax.tree.map(jnp.asarray, training.pairs(p)), jnp.asarray(p.x), jnp.asarray(p.t)
    lr = jnp.asarray(training.XOR.lr, p.x.dtype)

    def loss(weights, x, t):
        return ((jax.nn.sigmoid(_outputs(weights, x, jax.nn.sigmoid)) - t) ** 2).mean() / 2

    @partial(jax.jit, donate_argnums=0)
    def train(weights, x, t, lr):
        def epoch(_, weights):
            return jax.tree.map(lambda w, g: w - lr * g, weights, jax.grad(loss)(weights, x, t))

        return jax.lax.fori_loop(0, training.XOR.epochs, epoch, weights)

    def run():
        nonlocal weights
        weights = block_until_ready(train(weights, x, t, lr))

    return Job(run, lambda _: (training.flat(weights),))


def _answer(p):
    weights = jax.tree.map(jnp.asarray, training.pairs(p))
    answer = jax.jit(lambda weights, x: jax.nn.softmax(_outputs(weights, x, jax.nn.sigmoid)))
    return Job(lambda: answer(weights, p.x).block_until_ready(), lambda result: (result,))
