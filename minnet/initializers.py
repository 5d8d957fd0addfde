"""Starting weights: functions of (rng, fan_in, fan_out) that give W (fan_in, fan_out). Biases start at 0.

With N(0, 1) weights a unit with I inputs gets a sum of size sqrt(I) and starts saturated; "scaled" keeps the sum near
1, whatever I is. Any function of the same three arguments serves as an initialiser too.
"""

import numpy as np

from minnet._checks import bad_value, choice

__all__ = ["he", "large", "scaled", "xavier"]


def scaled(rng, fan_in, fan_out):
    """N(0, 1 / fan_in): sums of inputs of size 1 have size 1 (LeCun et al., Efficient BackProp, 1998)."""
    return rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)


def large(rng, fan_in, fan_out):
    """N(0, 1): sums grow as sqrt(fan_in), and sigmoid units start saturated; here to show why not."""
    return rng.standard_normal((fan_in, fan_out))


def xavier(rng, fan_in, fan_out):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), for tanh and sigmoid (Glorot and Bengio, 2010)."""
    bound = np.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_in, fan_out))


def he(rng, fan_in, fan_out):
    """N(0, 2 / fan_in), for relu, which drops half of its inputs (He et al., 2015)."""
    return rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)


INITIALIZERS = {"scaled": scaled, "large": large, "xavier": xavier, "he": he}


def draw(owner, init, rng, fan_in, fan_out):
    """Weights from an initialiser's name or from the function itself, with the shape checked."""
    function = init if callable(init) else INITIALIZERS[choice(owner, "init", init, INITIALIZERS)]
    W = np.asarray(function(rng, fan_in, fan_out))
    if W.shape != (fan_in, fan_out):
        raise bad_value(owner, f"init must give an array of shape ({fan_in}, {fan_out})", W.shape)
    return W
