"""torch.compile on the CPU, where it has a C++ compiler to work with. Compiling is not timed.

Values and gradients come from one compiled function: half the time of a compiled loss under eager autograd, or less,
but for large matrices, where eager torch is as good. The optimizers are written by hand, which beats a compiled
``optimizer.step``: by a little for SGD, more than three times for Adam.
"""

import logging
from functools import partial

import numpy as np
import torch
import torch._inductor.config
from torch.nn import functional as F

from benchmarks.cases import ADAM, SGD
from benchmarks.contenders import Job

tensor = torch.from_numpy


def contenders(threads):
    """torch.compile with `threads` threads; ImportError, with the reason, where it does not work."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    torch._inductor.config.cpp.threads = threads  # or a kernel from its cache may bring another number
    try:
        _compile(torch.sigmoid)(torch.zeros(3))
    except Exception as error:  # no compiler, no write access, an unsupported Python: whatever it is, do without
        reason = next(iter(str(error).splitlines()), "")
        raise ImportError(f"torch.compile does not work here: {type(error).__name__}: {reason}") from error
    jobs = {
        "sigmoid": partial(_into, lambda x, y: torch.sigmoid(x, out=y)),
        "softmax": partial(_into, lambda x, y: torch.softmax(x, 1, out=y)),
        "cross-entropy": partial(_loss, F.cross_entropy),
        "binary cross-entropy": partial(_loss, F.binary_cross_entropy_with_logits),
        "SGD momentum": _momentum,
        "Adam": _adam,
    }
    return {"torch.compile": jobs}


def _compile(function):
    torch._dynamo.reset()  # or the many sizes of one function run into its limit of recompilations
    return torch.compile(function, dynamic=False)


def _into(function, p):
    y = tensor(np.empty_like(p.x))
    return Job(partial(_compile(function), tensor(p.x), y), lambda _: (y,))


def _loss(function, p):
    run = partial(_compile(torch.func.grad_and_value(function)), tensor(p.x), tensor(p.y if hasattr(p, "y") else p.t))
    return Job(run, lambda result: (result[1], result[0]))


def _momentum(p):
    w = tensor(p.w.copy())

    def step(w, g, v):
        v.mul_(SGD.momentum).add_(g)
        w.sub_(v, alpha=SGD.lr)

    return Job(partial(_compile(step), w, tensor(p.g), torch.zeros_like(w)), lambda _: (w,))


def _adam(p):
    w, g = tensor(p.w.copy()), tensor(p.g)
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    beta1, beta2 = ADAM.betas
    steps = 0

    def step(w, g, m, v, rate, root):
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        w.sub_(rate * m / (v.sqrt() * root + ADAM.eps))

    step = _compile(step)

    def run():  # the corrections as tensors: floats would be compiled in, anew at every step
        nonlocal steps
        steps += 1
        rate, root = ADAM.lr / (1 - beta1**steps), (1 - beta2**steps) ** -0.5
        step(w, g, m, v, torch.tensor(rate, dtype=w.dtype), torch.tensor(root, dtype=w.dtype))

    return Job(run, lambda _: (w,))
