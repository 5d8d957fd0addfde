"""Stateless functions, numpy in and numpy out: check, allocate, call a kernel.

Letters as everywhere: N rows of a batch, C classes, classes on the last axis. float32 and float64 are computed as they
come; integers, bools and lists become float64. Inputs are never written to. This package alone imports the loss and
activation kernels, and every check stands here, in front of them; small plain arrays may go by a door instead, which
checks in C and declines what is not plain.

Losses take logits, the raw outputs of a net, and with ``return_grad=True`` also give the gradient of exactly the value
they return.
"""

from minnet.functional._activations import (  # noqa: F401  the chains and slopes are for layers
    add_bias,
    chain,
    chain_biased,
    log_sigmoid,
    relu,
    sigmoid,
    softplus,
    tanh,
    value_and_slope,
    value_and_slope_biased,
)
from minnet.functional._binary import (  # noqa: F401  the bound is for the losses
    MOST_GAMMA,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
)
from minnet.functional._cross_entropy import cross_entropy, nll_loss
from minnet.functional._distributions import brier_loss, kl_div
from minnet.functional._labels import generalized_cross_entropy, hinge_loss
from minnet.functional._linear import linear_cross_entropy
from minnet.functional._reduce import REDUCTIONS  # noqa: F401  for the losses
from minnet.functional._regression import gaussian_nll_loss, huber_loss, l1_loss, mse_loss, poisson_nll_loss
from minnet.functional._softmax import log_softmax, logsumexp, softmax

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "brier_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "generalized_cross_entropy",
    "hinge_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "linear_cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "tanh",
]
