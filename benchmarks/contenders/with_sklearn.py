"""scikit-learn's compiled losses. The module is private, but it is what its estimators run on, and it is fast.

It gives losses and gradients of their sum; weights of 1 / N make that the mean at no cost of another pass.
"""

from functools import partial

import numpy as np
from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss

from benchmarks.contenders import Job


def contenders(threads):
    """scikit-learn with `threads` OpenMP threads."""
    jobs = {
        "cross-entropy": partial(_cross_entropy, threads),
        "binary cross-entropy": partial(_binary_cross_entropy, threads),
    }
    return {"scikit-learn": jobs}


def _cross_entropy(threads, p):
    return _job(HalfMultinomialLoss(n_classes=p.x.shape[1]), p.y.astype(p.x.dtype), p.x, threads)


def _binary_cross_entropy(threads, p):
    return _job(HalfBinomialLoss(), p.t, p.x, threads)


def _job(loss, target, x, threads):
    losses, dx = np.empty(len(x), x.dtype), np.empty_like(x)
    weights = np.full(len(x), 1 / len(x), x.dtype)

    def run():
        loss.loss_gradient(target, x, weights, losses, dx, threads)
        return losses.sum(), dx

    return Job(run, lambda result: result)
