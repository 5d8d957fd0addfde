"""torch on the CPU: eager, and the fused optimizers.

Tensors share the memory of the numpy arrays. Autograd makes a new array for the gradient every time.
"""

from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

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
