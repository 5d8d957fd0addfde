"""Cross-entropy by torch over a grid of its options: the numbers that test_torch_cross_entropy.py holds minnet's to.

Needs torch and numpy alone. ``python tests/data/make_torch_cross_entropy.py`` writes torch_cross_entropy.npz beside
itself: losses and gradients of all cases, one after the other in a flat vector, and what tells that the inputs are the
same: they are made anew by `problem`, from raw numbers of PCG64, which no version of numpy changes.
"""

import itertools
import math
from collections import namedtuple
from pathlib import Path

import numpy as np

Case = namedtuple("Case", "target classes rows ignored weighted smoothing reduction")
REDUCTIONS = ("none", "mean", "sum")
IGNORED = {"none": -100, "some": -100, "a class": 2, "default": None}  # ignore_index; None: not given
KEPT_ROWS = 8  # gradients of a larger batch are recorded for every (rows // 8)-th row


def cases():
    """The grid: all options for 5 classes, fewer for a single class and for more than a tile holds."""
    rows, smoothings = (0, 1, 2, 7, 129), (0.0, 0.1, 0.5)
    yield from product(("labels",), (5,), rows, ("none", "some", "a class"), (False, True), smoothings, REDUCTIONS)
    yield from product(("probabilities",), (5,), rows, ("default",), (False, True), smoothings, REDUCTIONS)
    yield from product(("labels", "log_probs"), (1, 70), (1, 3), ("some",), (False, True), (0.0, 0.1), REDUCTIONS)
    yield from product(("probabilities",), (1, 70), (1, 3), ("default",), (False, True), (0.0, 0.1), REDUCTIONS)
    yield from product(("log_probs",), (5,), rows, ("none", "some", "a class"), (False, True), (0.0,), REDUCTIONS)


def product(*axes):
    """Cases of all combinations; nll_loss, which takes log_probs, has no smoothing."""
    every = (Case(*values) for values in itertools.product(*axes))
    return (case for case in every if not (case.target == "log_probs" and case.smoothing))


def problem(case):
    """Logits (N, C), the target, and the class weights or None."""
    seed = [case.classes, case.rows, ("labels", "probabilities", "log_probs").index(case.target)]
    raw = np.random.PCG64(seed).random_raw
    size = case.rows, case.classes
    logits = 6 * unit(raw, size) - 3
    weight = 0.25 + 2 * unit(raw, case.classes)
    shares = unit(raw, size) * (unit(raw, size) > 0.3) + 2.0**-10  # some nearly 0
    shares /= shares.sum(1, keepdims=True)
    shares[::3, 0] = 0  # some 0, and the sum of the others is not checked
    labels = (np.array(raw(max(case.rows, 1)), np.uint64)[: case.rows] % case.classes).astype(np.int64)
    if case.ignored == "some":
        labels[::3] = IGNORED["some"]
    return logits, shares if case.target == "probabilities" else labels, weight if case.weighted else None


def unit(raw, shape):
    """Numbers in [0, 1), one for each raw number of 64 bits."""
    count = int(np.prod(shape))
    return ((np.array(raw(max(count, 1)), np.uint64)[:count] >> np.uint64(11)) * 2.0**-53).reshape(shape)


def options(case):
    """What cross_entropy, or nll_loss, is called with besides its target and weights."""
    named = {"reduction": case.reduction}
    if IGNORED[case.ignored] is not None:
        named["ignore_index"] = IGNORED[case.ignored]
    if case.target != "log_probs":
        named["label_smoothing"] = case.smoothing
    return named


def kept(rows):
    """Which rows' gradients are recorded."""
    return slice(None, None, max(1, rows // KEPT_ROWS))


def with_torch(case):
    """What torch gives: the value, and the gradient of the value, or of the sum of the losses where none is reduced."""
    import torch  # the grid is there without it

    logits, target, weight = problem(case)
    z = torch.from_numpy(logits).requires_grad_()
    function = torch.nn.functional.nll_loss if case.target == "log_probs" else torch.nn.functional.cross_entropy
    weight = None if weight is None else torch.from_numpy(weight)
    value = function(z, torch.from_numpy(target), weight=weight, **options(case))
    value.sum().backward()
    return value.detach().numpy(), z.grad.numpy()


def main():
    """Write the file."""
    import torch

    found = []
    for case in cases():
        value, grad = with_torch(case)
        found += [value.ravel(), grad[kept(case.rows)].ravel()]
    sums = [math.fsum(problem(case)[0].flat) for case in cases()]
    path = Path(__file__).with_name("torch_cross_entropy.npz")
    np.savez_compressed(path, torch=torch.__version__, numbers=np.concatenate(found), sums=np.array(sums))


if __name__ == "__main__":
    main()
