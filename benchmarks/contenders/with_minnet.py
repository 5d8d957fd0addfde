"""minnet, through its public functions."""

from functools import partial

import numpy as np

import minnet as mn
from benchmarks import training
from benchmarks.cases import ADAM, NETS, NEURONS, SGD
from benchmarks.contenders import Job


def contenders(threads):
    """The functions and optimizers of minnet, with the threads that threads.py leaves them."""
    jobs = {
        "sigmoid": partial(_into, mn.functional.sigmoid),
        "softmax": partial(_into, mn.functional.softmax),
        "cross-entropy": _cross_entropy,
        "binary cross-entropy": _binary_cross_entropy,
        "SGD momentum": partial(_step, lambda: mn.SGD(SGD.lr, momentum=SGD.momentum)),
        "Adam": partial(_step, lambda: mn.Adam(ADAM.lr, betas=ADAM.betas, eps=ADAM.eps)),
        "neurons mse": partial(_neurons, loss="mse"),
        "neurons bce": partial(_neurons, loss="bce"),
        "nets": _nets,
        "epoch sigmoid": partial(_epoch, activation="sigmoid"),
        "epoch relu": partial(_epoch, activation="relu"),
        "5000 epochs of XOR": _xor,
        "one answer": _answer,
    }
    return {"minnet": jobs}


def _into(function, p):
    return Job(partial(function, p.x, out=np.empty_like(p.x)), lambda result: (result,))


def _cross_entropy(p):
    run = partial(mn.functional.cross_entropy, p.x, p.y, return_grad=True, out=np.empty_like(p.x))
    return Job(run, lambda result: result)


def _binary_cross_entropy(p):
    """For `out` all targets are looked at before it is written to: large gradients are faster in new arrays."""
    room = {"out": np.empty_like(p.x)} if p.x.size < 2**16 else {}
    run = partial(mn.functional.binary_cross_entropy_with_logits, p.x, p.t, return_grad=True, **room)
    return Job(run, lambda result: result)


def _step(optimizer, p):
    w = p.w.copy()
    return Job(partial(optimizer().step, w, p.g), lambda _: (w,))


def _neurons(p, loss):
    options = {"lr": NEURONS.lr, "epochs": NEURONS.epochs, "dtype": p.w.dtype}
    return Job(lambda: mn.lab.run_neurons(p.w, p.b, 1.0, 0.0, loss, **options), lambda run: (run.w, run.b))


def _nets(p):
    members, inputs, hidden = p.W1.shape
    outputs = p.W2.shape[2]
    starts = (W for pair in zip(p.W1, p.W2, strict=True) for W in pair)
    nets = mn.Population(
        [inputs, hidden, outputs],
        members,
        loss="bce" if outputs == 1 else "cross_entropy",
        init=lambda *_: next(starts),
        dtype=p.x.dtype,
    )
    options = {"lr": NETS.lr, "epochs": NETS.epochs, "every": NETS.epochs}
    return Job(lambda: nets.fit(p.x, p.y, **options), lambda _: (nets.params,))


def _net(p, activation):
    layers = training.pairs(p)
    sizes = [len(layers[0][0]), *(len(b) for _, b in layers)]
    net = mn.MLP(sizes, activation=activation, dtype=p.x.dtype)
    net.params[...] = training.flat(layers)
    return net


def _epoch(p, activation):
    net = _net(p, activation)
    options = {"loss": "cross_entropy", "batch_size": int(p.batch), "seed": training.orders()}
    return Job(
        lambda: mn.fit(net, p.x, p.y, optimizer=mn.SGD(training.LR), epochs=1, **options), lambda _: (net.params,)
    )


def _xor(p):
    """Half the squared error has half the gradient."""
    start = _net(p, "sigmoid")
    net = mn.Sequential(
        [mn.Linear(2, 8, dtype=p.x.dtype), mn.Sigmoid(), mn.Linear(8, 1, dtype=p.x.dtype), mn.Sigmoid()]
    )
    net.params[...] = start.params
    optimizer = mn.SGD(training.XOR.lr / 2)
    options = {"epochs": training.XOR.epochs, "batch_size": 4, "shuffle": False}
    return Job(lambda: mn.fit(net, p.x, p.t, loss="mse", optimizer=optimizer, **options), lambda _: (net.params,))


def _answer(p):
    net = _net(p, "sigmoid")
    return Job(lambda: net.predict_proba(p.x), lambda result: (result,))
