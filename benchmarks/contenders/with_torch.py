"""torch on the CPU: eager, and the fused optimizers.

Tensors share the memory of the numpy arrays. Autograd makes a new array for the gradient every time.
"""

from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import training
from benchmarks.cases import ADAM, SGD
from benchmarks.contenders import Job

tensor = torch.from_numpy


def contenders(threads):
    """Eager torch with `threads` threads, and its fused optimizers."""
    torch.set_num_threads(threads)
    eager = {
        "sigmoid": _sigmoid,
        "softmax": _softmax,
        "cross-entropy": partial(_loss, F.cross_entropy),
        "binary cross-entropy": partial(_loss, F.binary_cross_entropy_with_logits),
        "SGD momentum": partial(_step, _sgd),
        "Adam": partial(_step, _adam),
        "epoch sigmoid": partial(_epoch, activation=torch.nn.Sigmoid),
        "epoch relu": partial(_epoch, activation=torch.nn.ReLU),
        "5000 epochs of XOR": _xor,
        "one answer": _answer,
    }
    fused = {
        "SGD momentum": partial(_step, partial(_sgd, fused=True)),
        "Adam": partial(_step, partial(_adam, fused=True)),
    }
    return {"torch": eager, "torch fused": fused}


def _sigmoid(p):
    return Job(partial(torch.sigmoid, tensor(p.x), out=tensor(np.empty_like(p.x))), lambda result: (result,))


def _softmax(p):
    return Job(partial(torch.softmax, tensor(p.x), 1, out=tensor(np.empty_like(p.x))), lambda result: (result,))


def _loss(function, p):
    x, target = tensor(p.x).requires_grad_(), tensor(p.y if hasattr(p, "y") else p.t)

    def run():
        value = function(x, target)
        return value, torch.autograd.grad(value, x)[0]

    return Job(run, lambda result: (result[0].detach(), result[1]))


def _sgd(parameters, **options):
    return torch.optim.SGD(parameters, lr=SGD.lr, momentum=SGD.momentum, **options)


def _adam(parameters, **options):
    return torch.optim.Adam(parameters, lr=ADAM.lr, betas=ADAM.betas, eps=ADAM.eps, **options)


def _step(optimizer, p):
    w = tensor(p.w.copy()).requires_grad_()
    w.grad = tensor(p.g)
    return Job(optimizer([w]).step, lambda _: (w.detach(),))


def _net(p, activation):
    layers = []
    for W, b in training.pairs(p):
        linear = torch.nn.Linear(*W.shape, dtype=tensor(W).dtype)
        linear.load_state_dict({"weight": tensor(W.T.copy()), "bias": tensor(b)})
        layers += [linear, activation()]
    return torch.nn.Sequential(*layers[:-1])


def _parameters(net):
    layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    return training.flat([(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in layers])


def _epoch(p, activation):
    net, rng, x, y = _net(p, activation), training.orders(), tensor(p.x), tensor(p.y)
    optimizer = torch.optim.SGD(net.parameters(), lr=training.LR)

    def run():
        for rows in tensor(rng.permutation(len(p.x))).split(int(p.batch)):
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()

    return Job(run, lambda _: (_parameters(net),))


def _xor(p):
    net, x, t = _net(p, torch.nn.Sigmoid), tensor(p.x), tensor(p.t)
    optimizer = torch.optim.SGD(net.parameters(), lr=training.XOR.lr / 2)

    def run():
        for _ in range(training.XOR.epochs):
            optimizer.zero_grad()
            F.mse_loss(torch.sigmoid(net(x)), t).backward()
            optimizer.step()

    return Job(run, lambda _: (_parameters(net),))


def _answer(p):
    net, x = _net(p, torch.nn.Sigmoid), tensor(p.x)

    def run():
        with torch.inference_mode():
            return torch.softmax(net(x), 1)

    return Job(run, lambda result: (result,))
