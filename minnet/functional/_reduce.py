"""What all losses share: targets that fit, weights, reductions, where the gradient goes.

`sample_weight` (N,) weighs rows; `reduction` is "mean" (the weighted mean over all losses; 0.0 over nothing), "sum",
"none" (all losses, with the gradient of their sum) or "batchmean" (sum / N).
"""

import math

import numpy as np

from minnet import _elementwise as kernels
from minnet._checks import bad_value, choice, out_array, real_array, weight_array, words
from minnet.functional._share import NO_ROWS, NONE, SHARE, by_dtype, rows_a_share, share

REDUCTIONS = ("mean", "sum", "none", "batchmean")

_first_outside_unit = by_dtype(kernels.first_outside_unit)


def unit_array(owner, name, x, dtype):
    """`x` as an array of numbers in [0, 1]; the first that is not is named."""
    a = real_array(owner, name, x)
    wrong = _first_outside_unit[a.dtype.char](a.reshape(-1))
    if wrong >= 0:
        row = np.unravel_index(wrong, a.shape)[0] if a.ndim else 0
        raise bad_value(owner, f"{name} must be in [0, 1]", words(f"{a.flat[wrong]} in row {row}"))
    if a.dtype == dtype:
        return a
    with np.errstate(under="ignore"):  # a probability too small for float32 is 0
        return a.astype(dtype)


def like(owner, name, x, target):
    """`target` as a real array with the shape of `x`; only a last axis of length 1 may be left out."""
    t = real_array(owner, "target", target)
    if t.shape != x.shape and not (x.ndim > 1 and x.shape == (*t.shape, 1)):
        raise bad_value(owner, f"target must have the shape of {name}, {x.shape}", t.shape)
    return t.reshape(x.shape)


def gradient(owner, x, return_grad, out):
    """Where the gradient of `x` goes: `out`, a new array, or None where it is not wanted."""
    if not return_grad:
        if out is not None:
            raise bad_value(owner, "out is for the gradient and needs return_grad=True", return_grad)
        return None
    return np.empty(x.shape, x.dtype) if out is None else out_array(owner, out, x.shape, x.dtype)


class Losses:
    """The losses of a batch, an array of `shape` (N, ...): how they are weighed and reduced."""

    def __init__(self, owner, shape, sample_weight, reduction):
        rows, per_row = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        self.shape, self.reduction = shape, choice(owner, "reduction", reduction, REDUCTIONS)
        count = {"mean": rows * per_row, "batchmean": rows, "sum": 1, "none": 1}[reduction]
        self.weight = NONE["d"]
        if sample_weight is not None:
            weight = weight_array(owner, sample_weight, rows)
            if reduction == "mean" and weight.any():
                weight, count = _normalized(weight), per_row
            self.weight = weight if per_row == 1 else np.repeat(weight, per_row)
        self.scale = 1.0 / count if count else 0.0

    def run(self, kernel, x, target, grad):
        """The reduced value; with it, unless `grad` is None, the gradient, written there."""
        char, none = x.dtype.char, self.reduction == "none"
        losses = np.empty(self.shape, x.dtype) if none else NONE[char]
        if grad is None:
            dx = NO_ROWS[char] if x.ndim == 2 else NONE[char]
        else:
            dx = grad.reshape(x.shape)
            x, target = (a.copy() if np.may_share_memory(a, dx) else a for a in (x, target))
        arrays = x, target, self.weight, losses.reshape(-1), dx
        size = SHARE if x.ndim == 1 else rows_a_share(x.shape[1])
        total = sum(share(kernel[char], size, *arrays, scalars=(self.scale,)))
        value = losses[()] if none else total * self.scale
        return value if grad is None else (value, grad)


def _normalized(weight):
    """Weights whose sum is 1, whatever their unit: divided by the largest first, so that the sum is a normal number."""
    with np.errstate(under="ignore"):
        weight = weight / weight.max()
        return weight / weight.sum()
