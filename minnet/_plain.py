"""Small plain nets take their steps in compiled code, many in one call (`_epoch.pyx`): which nets do, and how.

Whatever is not plain, or not as it should be, is left to the layers, which compute it or say what is wrong.
"""

from functools import partial

import numpy as np

from minnet import _epoch, _simd
from minnet._checks import label_array, real_array
from minnet._rooms import zeros_beside
from minnet._team import Team
from minnet._threads import run_joined
from minnet.functional._reduce import like, unit_array
from minnet.functional._share import NO_ROWS, NONE, by_dtype
from minnet.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from minnet.model import MLP, Sequential
from minnet.optimizers import SGD, Adam, AdamW

TRAIN, NO_LABELS = by_dtype(_epoch.train), np.empty(0, np.int64)
NO_RULE = {"momentum": 0, "nesterov": False, "beta1": 0, "beta2": 0, "eps": 0, "shrink": 0}
PLAIN_LOSSES = {kind: kind().options for kind in (CrossEntropyLoss, BCEWithLogitsLoss, MSELoss)}

# Methods, and the name of an activation, that an object may have been given in place of those of its class.
LOOKED_INTO = {"forward", "backward_params", "value_and_grad", "step", "backward", "product", "backward_product"}
LOOKED_INTO |= {"forward_biased", "backward_biased", "name"}

# Products x W of one batch and one layer, times the bytes of a number, beyond which BLAS is no slower and may use more
# threads. Time of an epoch layer by layer over that in compiled code, one core of Zen 4, by layers x rows. AVX-512,
# float32: 784-30-10 x 10 3.4, 784-128-10 x 64 1.36, 784-256-10 x 128 1.21, 784-512-512-10 x 128 1.17, 784-1024-1024-10
# x 128 1.13, 784-512-10 x 512 1.04, 784-2048-2048-10 x 256 0.9. float64: 784-512-512-10 x 128 1.05, 784-1024-1024-10
# x 128 0.9. AVX2, float32: 784-1024-1024-10 x 128 1.1. Without AVX, where BLAS still chooses by the CPU: 784-30-10 x 10
# 1.4, 784-128-10 x 10 0.95, 784-128-10 x 64 0.5.
LARGE = {"x86-64-v4": 2**29, "x86-64-v3": 2**29, "baseline": 2**21}[_simd.level()]

# Products that a call makes before Python may look for Ctrl-C, a step counting as STEP more: 0.1 s with AVX-512, 0.5 s
# without any. All parameters are copied to and fro in each: calls of 10 ms took a fifth longer for 784-512-512-10. The
# orders of several epochs in one call take no more than ORDERS numbers.
CALL, STEP, ORDERS = 5e9, 1e4, 2**16

# Products x W of the largest layer in a call, 1 ms, from which helpers are worth calling: they come 0.2 ms late.
SHARED_CALL = 2**24


def plain_steps(net, loss, optimizer, size):
    """The `PlainSteps` of a plain net, loss and optimizer and of small batches, of `size` rows, else None."""
    if type(net) not in (MLP, Sequential) or not _is_plain_loss(loss) or not _is_plain_optimizer(optimizer):
        return None
    if not all(LOOKED_INTO.isdisjoint(vars(thing)) for thing in (net, loss, optimizer, *net.layers)):
        return None  # someone looks in, or has put something else there
    small = net.plain is not None and _is_small(net, size)
    return PlainSteps(net, loss, optimizer) if small and _fit(net, optimizer) else None


def _is_plain_loss(loss):
    if type(loss) not in PLAIN_LOSSES or getattr(loss, "check_logits", False):
        return False
    return all(type(v) is type(loss.options[k]) and v == loss.options[k] for k, v in PLAIN_LOSSES[type(loss)].items())


def _is_plain_optimizer(optimizer):
    if type(optimizer) not in (SGD, Adam, AdamW):
        return False
    return optimizer.clip_norm is optimizer.clip_value is None and not optimizer.groups and optimizer.decay_biases


def _is_small(net, rows):
    weights = float(np.max(net.plain[:, 0] * net.plain[:, 1]))
    return weights * rows * net.dtype.itemsize <= LARGE


def _fit(net, optimizer):
    """Whether all vectors are what the layers need."""
    size = sum((inputs + 1) * outputs for inputs, outputs, _ in net.plain.tolist())
    vectors = net.params, net.grads, *optimizer.state.values()
    if not _is_part(net.layers[0].params, net.params):
        return False  # the layers were bound to memory of their own
    return all(v.shape == (size,) and v.dtype == net.dtype and v.flags.carray for v in vectors)


def _is_part(array, vector):
    """Whether an array is a view of the vector, or of what the vector is a view of."""
    return array.base is vector or (array.base is not None and array.base is vector.base)


class PlainSteps:
    """Steps of a plain net in compiled code, with the settings that net, loss and optimizer have now."""

    def __init__(self, net, loss, optimizer):
        self.net, self.optimizer, self.layers = net, optimizer, net.plain
        self.loss, self.char = type(loss), net.dtype.char
        self.work, self.rule = NONE[self.char], _rule(optimizer)

    def targets(self, X, y):
        """Labels (N,) and targets (N, O) as the kernel takes them, one of them empty; None if they or X do not fit."""
        if X.shape != (len(y), self.layers[0, 0]):
            return None
        z = np.broadcast_to(self.net.dtype.type(0), (len(y), self.layers[-1, 1]))
        try:
            if self.loss is CrossEntropyLoss and np.ndim(y) < 2:
                return label_array("fit", y, len(y)), NO_ROWS[self.char]
            t = y if self.loss is CrossEntropyLoss else like("fit", "outputs", z, y)
            t = real_array("fit", "y", t) if self.loss is MSELoss else unit_array("fit", "y", t, z.dtype)
        except (TypeError, ValueError):
            return None
        return (NO_LABELS, t.astype(z.dtype, copy=False)) if t.shape == z.shape else None

    def take(self, X, targets, order, size, epoch, strict, outputs=None):
        """A step for each `size` rows of X in `order`, a new batch every `epoch` rows; the losses of all batches.

        A label out of range, and with `strict` a loss that is not finite, end it before their step: there are fewer
        losses. `outputs`, if given, has room for those of all rows.
        """
        net, optimizer = self.net, self.optimizer
        size = min(size, epoch)
        room = _epoch.room(self.layers, size)
        if len(self.work) < room:
            self.work = np.empty(room, net.dtype)
        outputs = NO_ROWS[self.char] if outputs is None else outputs
        losses = np.empty(-(-len(order) // epoch) * -(-epoch // size))
        for name in optimizer.slots:
            if name not in optimizer.state:
                optimizer.state[name] = zeros_beside(net.params)
        first, second = ([optimizer.state[name] for name in optimizer.slots] + 2 * [NONE[self.char]])[:2]
        arrays = net.params, net.grads, first, second, outputs, losses, self.work
        settings = size, epoch, _epoch.CRITERIA[self.loss.__name__], self.rule, optimizer.steps, strict
        team = Team()
        train = partial(TRAIN[self.char], self.layers, X, *targets, order, *arrays, *settings, team)
        done = run_joined(train, team) if self._is_shared(len(order), size) else train()
        optimizer.steps += done
        return losses[:done]

    def _is_shared(self, rows, size):
        """Whether threads share a call: some of its phases must be long enough, and all of it, as helpers come late."""
        products = float(np.max(self.layers[:, 0] * self.layers[:, 1]))
        return size * products >= _epoch.SHARED_PHASE and rows * products >= SHARED_CALL

    def outputs(self, rows):
        """Room for the outputs of so many rows."""
        return np.empty((rows, self.layers[-1, 1]), self.net.dtype)

    def rows_a_call(self, size):
        """How many rows go into one call, whole batches of `size`."""
        products = 3.0 * size * float(self.layers[:, 0] @ self.layers[:, 1])
        return size * max(int(CALL / (STEP + products)), 1)

    def epochs_a_call(self, data):
        """How many whole epochs go into one call."""
        return min(self.rows_a_call(data.size) // len(data.X), ORDERS // len(data.X))

    def epochs(self, data, rng, epochs):
        """Losses (epochs, batches) of some epochs in one call; None, and all as before, if a batch stops them."""
        targets, net, optimizer = self.targets(data.X, data.y), self.net, self.optimizer
        if targets is None:
            return None
        before, steps = rng.bit_generator.state, optimizer.steps
        vectors = [(v, v.copy()) for v in (net.params, *optimizer.state.values())]
        losses = self.take(data.X, targets, data.order(rng, epochs), data.size, len(data.X), True)
        if len(losses) == epochs * data.batches:
            return losses.reshape(epochs, -1)
        rng.bit_generator.state, optimizer.steps = before, steps
        for vector, values in vectors:
            vector[...] = values
        for name in optimizer.slots if not steps else ():
            optimizer.state.pop(name, None)
        return None


def _rule(optimizer):
    """The settings of an optimizer as the kernel takes them."""
    rule = NO_RULE | {"lr": optimizer.rate, "decay": optimizer.weight_decay}
    if type(optimizer) is SGD:
        method = "momentum" if optimizer.momentum else "plain"
        rule |= {"momentum": optimizer.momentum, "nesterov": optimizer.nesterov}
    else:
        method = "adam"
        rule |= dict(zip(("beta1", "beta2"), optimizer.betas, strict=True)) | {"eps": optimizer.eps}
    if type(optimizer) is AdamW:
        rule |= {"decay": 0.0, "shrink": optimizer.rate * optimizer.weight_decay}
    return rule | {"method": _epoch.METHODS[method]}
