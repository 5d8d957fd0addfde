"""Optimizers: one step on a flat vector of parameters. They know vectors, not models.

``step(params, grads)`` writes to `params` and reads `grads`; whatever is remembered between steps (velocity, means)
starts at zero at the first step and stays with the optimizer, so that training may be taken up again.
"""

import numpy as np

from minnet import _updates
from minnet._checks import bad_type, bad_value, number, real_array
from minnet._threads import run_chunks

__all__ = ["SGD", "Adam", "Optimizer"]

SHARE = 2**17  # parameters of a chunk when a large update is cut for several threads


class Optimizer:
    """Base of the optimizers: the learning rate, and state vectors as long as the parameters."""

    slots = ()  # names of the state vectors

    def __init__(self, lr, weight_decay):
        owner = type(self).__name__
        self.lr = number(owner, "lr", lr, 0)
        self.weight_decay = number(owner, "weight_decay", weight_decay, 0)
        self.state, self.steps = {}, 0

    def step(self, params, grads):
        """Update `params` (P,) in place from `grads` (P,), both float32 or both float64."""
        owner = type(self).__name__
        if not isinstance(params, np.ndarray) or params.ndim != 1 or params.dtype.char not in "fd":
            raise bad_type(owner, "params must be a flat array of float32 or float64", params)
        if not (params.flags.c_contiguous and params.flags.writeable):
            raise bad_value(owner, "params must be writable and contiguous", params.flags)
        grads = real_array(owner, "grads", grads)
        if grads.shape != params.shape or grads.dtype != params.dtype:
            raise bad_value(owner, f"grads must be {params.shape} of {params.dtype}", (grads.shape, str(grads.dtype)))
        for name in self.slots:
            if name not in self.state:
                self.state[name] = np.zeros_like(params)
            kept = self.state[name]
            if kept.shape != params.shape or kept.dtype != params.dtype:
                rule = f"params must be as at the first step, {kept.shape} of {kept.dtype}"
                raise bad_value(owner, rule, (params.shape, str(params.dtype)), "one optimizer serves one model")
        self.steps += 1
        body = "float" if params.dtype.char == "f" else "double"
        if len(params) <= SHARE:
            self._update(params, grads, self.state, body)
        else:
            run_chunks(lambda a, b: self._update(params[a:b], grads[a:b], self._part(a, b), body), len(params), SHARE)

    def _part(self, start, stop):
        return {name: vector[start:stop] for name, vector in self.state.items()}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay as in torch.

    d = g + weight_decay w;  v = momentum v + d;  w = w - lr v, or w - lr (d + momentum v) with `nesterov`.

    Parameters
    ----------
    lr : float
        Learning rate, not negative.
    momentum : float in [0, 1]
        The share of the last step that is kept.
    nesterov : bool
        Look ahead along the velocity.
    weight_decay : float
        Strength of the penalty weight_decay |w|^2 / 2.

    References
    ----------
    I. Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.
    """

    def __init__(self, lr=0.01, *, momentum=0.0, nesterov=False, weight_decay=0.0):
        super().__init__(lr, weight_decay)
        self.momentum = number("SGD", "momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        if nesterov and not momentum:
            raise bad_value("SGD", "nesterov needs a momentum above 0", momentum)
        self.slots = ("velocity",) if momentum else ()

    def _update(self, w, g, state, body):
        if self.momentum:
            v = state["velocity"]
            _updates.momentum_update[body](g, w, v, self.lr, self.momentum, self.nesterov, self.weight_decay)
        else:
            _updates.sgd_update[body](g, w, self.lr, self.weight_decay)

    def __repr__(self):
        return f"SGD(lr={self.lr:g}, momentum={self.momentum:g})"


class Adam(Optimizer):
    """Steps of a size that adapts to each parameter, as in torch.

    d = g + weight_decay w;  m = beta1 m + (1 - beta1) d;  v = beta2 v + (1 - beta2) d^2;
    w = w - lr m' / (sqrt(v') + eps) with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t); eps stands outside the root.

    Parameters
    ----------
    lr : float
        Learning rate, not negative.
    betas : (float, float), each in [0, 1)
        How much of the running means of the gradient and of its square is kept a step.
    eps : float
        Added to the root, above 0.
    weight_decay : float
        Strength of the penalty weight_decay |w|^2 / 2; it goes through the means.

    References
    ----------
    D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, 2015.
    """

    slots = ("mean", "square")

    def __init__(self, lr=0.001, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(lr, weight_decay)
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise bad_type("Adam", "betas must be two numbers", betas) from None
        self.betas = number("Adam", "betas[0]", beta1, 0, 1), number("Adam", "betas[1]", beta2, 0, 1)
        if 1 in self.betas:
            raise bad_value("Adam", "betas must be less than 1", betas)
        self.eps = number("Adam", "eps", eps, 0, above=True)

    def _update(self, w, g, state, body):
        m, v = state["mean"], state["square"]
        _updates.adam_update[body](g, w, m, v, self.lr, *self.betas, self.eps, self.weight_decay, self.steps)

    def __repr__(self):
        return f"Adam(lr={self.lr:g})"
