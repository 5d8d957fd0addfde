"""scikit-learn: its compiled losses, and MLPClassifier.

The losses are a private module, but it is what its estimators run on, and it is fast. It gives losses and gradients of
their sum; weights of 1 / N make that the mean at no cost of another pass.
"""

from functools import partial

import numpy as np
from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss
from sklearn.neural_network import MLPClassifier

from benchmarks import training
from benchmarks.contenders import Job


def contenders(threads):
    """scikit-learn with `threads` OpenMP threads."""
    jobs = {
        "cross-entropy": partial(_cross_entropy, threads),
        "binary cross-entropy": partial(_binary_cross_entropy, threads),
        "epoch sigmoid": partial(_epoch, activation="logistic"),
        "epoch relu": partial(_epoch, activation="relu"),
        "one answer": _answer,
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


def _classifier(p, activation):
    """An MLPClassifier with the weights of a problem; a first step makes it and is written over."""
    layers = training.pairs(p)
    classes, batch = np.arange(len(layers[-1][1])), int(p.batch)
    classifier = MLPClassifier(
        [len(b) for _, b in layers[:-1]],
        activation=activation,
        solver="sgd",
        alpha=0.0,
        batch_size=batch,
        learning_rate_init=training.LR,
        momentum=0.0,
        nesterovs_momentum=False,
        shuffle=False,
    )
    classifier.partial_fit(p.x[:batch], p.y[:batch], classes=classes)
    for W, b, (start, zeros) in zip(classifier.coefs_, classifier.intercepts_, layers, strict=True):
        W[...], b[...] = start, zeros
    return classifier


def _epoch(p, activation):
    classifier, rng = _classifier(p, activation), training.orders()

    def run():
        order = rng.permutation(len(p.x))
        classifier.partial_fit(p.x[order], p.y[order])

    return Job(run, lambda _: (training.flat(zip(classifier.coefs_, classifier.intercepts_, strict=True)),))


def _answer(p):
    classifier = _classifier(p, "logistic")
    return Job(lambda: classifier.predict_proba(p.x), lambda result: (result,))
