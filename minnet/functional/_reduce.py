"""What all losses share: targets that fit, weights, reductions, where the gradient goes.

`sample_weight` (N,) weighs rows; `reduction` is "mean" (the weighted mean over all losses; 0.0 over nothing), "sum",
"none" (all losses, with the gradient of their sum) or "batchmean" (sum / N).
"""

import math

import numpy as np

from minnet import _elementwise as kernels
from minnet._checks import bad_value, choice, label_array, not_negative, out_array, real_array, words
from minnet._cross_entropy import first_outside_range
from minnet.functional._share import NO_ROWS, NONE, by_dtype, rows_a_share, share, team_for

REDUCTIONS = ("mean", "sum", "none", "batchmean")
# Weights whose sums and products, with weights of classes, too, are far from overflow and underflow.
MODERATE = {"f": (1e-15, 1e15), "d": (1e-90, 1e90)}
LEAST_FLOAT = 2.0**-126  # with all digits
LARGEST = {char: float(np.finfo(char).max) for char in "fd"}

_first_outside_unit = by_dtype(kernels.first_outside_unit)
_add_weights = by_dtype(kernels.add_weights)
_are_weights = by_dtype(kernels.are_weights)


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


def like(owner, name, x, target, role="target"):
    """`target` as a real array with the shape of `x`; only a last axis of length 1 may be left out."""
    t = real_array(owner, role, target)
    if t.shape != x.shape and not (x.ndim > 1 and x.shape == (*t.shape, 1)):
        raise bad_value(owner, f"{role} must have the shape of {name}, {x.shape}", t.shape)
    return t.reshape(x.shape)


def class_labels(owner, target, rows, classes):
    """Checked class labels (rows,) in 0 ... classes - 1."""
    labels = label_array(owner, target, rows)
    row = first_outside_range(labels, classes)
    if row >= 0:
        got = words(f"{np.asarray(target)[row]} in row {row}")
        raise bad_value(owner, f"labels must be in 0 ... {classes - 1}", got)
    return labels


def gradient(owner, x, return_grad, out):
    """Where the gradient of `x` goes: `out`, a new array, or None where it is not wanted."""
    if not return_grad:
        if out is not None:
            raise bad_value(owner, "out is for the gradient and needs return_grad=True", return_grad)
        return None
    return np.empty(x.shape, x.dtype) if out is None else out_array(owner, out, x.shape, x.dtype)


class Losses:
    """The losses of a batch, an array of `shape` (N, ...): how they are weighed and reduced.

    `grad_output` is the gradient of something with respect to the value: the gradient of the losses is multiplied by
    it, the value is not. Kernels take both in float64; those of losses of elements take them in the dtype of the
    outputs, too, whose character is then `light`, and no copy is made. Weights in float64 beside outputs in float32 are
    rounded, if float32 holds them.
    """

    def __init__(self, owner, shape, sample_weight, reduction, grad_output=None, light=None):
        rows, self.per_row = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        self.owner, self.shape, self.reduction = owner, shape, choice(owner, "reduction", reduction, REDUCTIONS)
        self.light = light
        self.weight, total = NONE["d"], rows
        if sample_weight is not None:
            self.weight, total = _row_weights(owner, sample_weight, rows, reduction == "mean", light)
        count = {"mean": total * self.per_row, "batchmean": rows, "sum": 1, "none": 1}[reduction]
        self.scale = 1.0 / count if count else 0.0
        self.upstream = None if grad_output is None else self._factors(grad_output)

    def divide_by(self, total):
        """Tell a mean what it divides by, where a kernel weighs rows itself."""
        if self.reduction == "mean":
            self.scale = 1.0 / total if total else 0.0

    def take_upstream(self, grad):
        """Factors of gradients, one a loss or a row, for a kernel that multiplies them; empty if there are none."""
        if grad is None or type(self.upstream) is not np.ndarray:
            return NONE["d"]
        upstream, self.upstream = self.upstream, None
        return upstream

    def _factors(self, grad_output):
        """One factor for all gradients, or one for each loss."""
        factors = real_array(self.owner, "grad_output", grad_output)
        if factors.dtype.char != self.light:
            factors = factors.astype(np.float64, copy=False)
        if factors.ndim == 0:
            return float(factors)
        if self.reduction != "none":
            rule = f"grad_output must be a number for reduction {self.reduction!r}"
            raise bad_value(self.owner, rule, words(f"shape {factors.shape}"), "it is the gradient of one number")
        if factors.shape not in (self.shape, self.shape[:1]):
            rule = f"grad_output must be a number or have shape {self.shape} or {self.shape[:1]}"
            raise bad_value(self.owner, rule, factors.shape)
        return np.ascontiguousarray(factors).reshape(-1)

    def run(self, kernel, x, target, grad, *inputs, scalars=(), size=None, check=None, by_row=False):
        """The reduced value; with it, unless `grad` is None, the gradient, written there.

        A kernel takes x, target, further `inputs`, weights (see `_kinds`; those of rows, `by_row`), losses, dx and the
        factor of dx, then other `scalars`. One of elements gets all of them, and a team to share the work; one of rows
        chunks of `size` rows, or all at once if it cuts them itself.
        One that looks at its targets and weights itself gives a sum of NaN or inf where one is wrong: `check` raises
        the error then, unless it came from elsewhere.
        """
        char, none = x.dtype.char, self.reduction == "none"
        losses = np.empty(self.shape, x.dtype) if none else NONE[char]
        no_dx = NO_ROWS[char] if x.ndim == 2 else NONE[char]
        if grad is None:
            self._refuse_upstream()
            dx = no_dx
        else:
            dx = grad.reshape(x.shape)
            x, target, self.weight, *inputs = (
                a.copy() if np.may_share_memory(a, dx) else a for a in (x, target, self.weight, *inputs)
            )

        def call(weight, loss, dx, scale):
            weights = (weight,) if by_row else self._kinds(weight)
            arrays = x, target, *inputs, *weights, loss, dx
            if x.ndim == 1:
                return kernel[char](*arrays, scale, *scalars, team_for(x.size))
            rows = rows_a_share(x.shape[1]) if size is None else size
            return sum(share(kernel[char], rows, *arrays, scalars=(scale, *scalars)))

        if type(self.upstream) is np.ndarray:  # the losses first, then the gradient, which has weights of its own
            total = call(self.weight, losses.reshape(-1), no_dx, 1.0)
            call(self._upstream_weight(), NONE[char], dx, 1.0)
        else:
            factor = 1.0 if self.upstream is None else self.upstream
            total = call(self.weight, losses.reshape(-1), dx, self.scale * factor)
        if check is not None and not total < math.inf:
            check()
        value = losses[()] if none else total * self.scale
        return value if grad is None else (value, grad)

    def _kinds(self, weight):
        """Weights as the arguments of a kernel, one a loss."""
        if self.light is None:
            return (weight,)
        weight = self._whole(weight)
        return (weight, NONE["d"]) if weight.dtype.char == self.light else (NONE[self.light], weight)

    def _whole(self, a):
        """What belongs to losses, or to rows of them, as one a loss."""
        size = math.prod(self.shape)
        return a if len(a) in (0, size) else np.repeat(a, size // len(a))

    def _upstream_weight(self):
        if not len(self.weight):
            return self.upstream
        weight, upstream = self._whole(self.weight), self._whole(self.upstream)
        with np.errstate(all="ignore"):  # nothing that an upstream gradient holds makes a loss of weight 0 count
            return np.where(weight == 0, 0.0, np.multiply(weight, upstream, dtype=np.float64))

    def _refuse_upstream(self):
        if self.upstream is not None:
            raise bad_value(self.owner, "grad_output is for the gradient and needs return_grad=True", self.upstream)


def add_weights(owner, name, weight):
    """The sum of weights (any shape, real) and the largest one; they must be finite and not negative."""
    total, largest = _add_weights[weight.dtype.char](weight.reshape(-1))
    if not largest < math.inf:
        not_negative(owner, name, weight)
    return total, largest


def round_weights(weight):
    """Weights (N,) of float64 in float32, and the sum of these; None and 0 if they lose digits there."""
    rounded = np.empty(len(weight), np.float32)
    total, largest, least = kernels.round_weights(weight, rounded)
    return (rounded, total) if _is_moderate(rounded.dtype, largest) and least >= LEAST_FLOAT else (None, 0.0)


def _row_weights(owner, sample_weight, rows, scaled, light):
    """Weights (rows,), finite and not negative, and their sum: if moderate in the dtype `light`, else in float64.

    `scaled` divides extreme ones by the largest, which a mean does not notice: sums and products stay normal numbers.
    """
    a = real_array(owner, "sample_weight", sample_weight)
    if a.shape != (rows,):
        raise bad_value(owner, f"sample_weight must have shape ({rows},), one a row", a.shape)
    if a.dtype.char == "d" and light == "f":
        rounded, total = round_weights(a)
        if rounded is not None:
            return rounded, total
    total, largest = add_weights(owner, "sample_weight", a)
    if a.dtype.char == light and _is_moderate(a.dtype, largest):
        return a, total
    weight = a.astype(np.float64, copy=False)
    if not scaled or largest == 0 or _is_moderate(weight.dtype, largest):
        return weight, total
    with np.errstate(under="ignore"):
        weight = weight / largest
        return weight, weight.sum()


def _is_moderate(dtype, largest):
    low, high = MODERATE[dtype.char]
    return low < largest < high


# ---- what belongs to elements: weights, variances ----


def element_array(owner, name, values, shape):
    """`values` for losses of `shape`: a number, one an entry of the last axis or one a loss; finite, not negative."""
    return fit_weights(owner, name, shaped_array(owner, name, values, shape))


def shaped_array(owner, name, values, shape):
    """The same, but nobody has looked at them."""
    a = real_array(owner, name, values)
    if a.shape not in ((), (1,), shape[-1:], shape):
        fitting = f"{shape[-1:]} or {shape}" if len(shape) > 1 else f"{shape}"
        raise bad_value(owner, f"{name} must be a number or have shape {fitting}", a.shape)
    return a


def fit_weights(owner, name, a):
    """A real array itself, if it is finite and not negative; the first entry that is not is named."""
    return a if _are_weights[a.dtype.char](a.reshape(-1)) else not_negative(owner, name, a)


def spread(owner, names, x, *arrays):
    """Element arrays for losses of the shape of `x`, as kernels take them: periods, flat arrays in the dtype of `x`.

    An array is as long as `x`, or repeats itself after its period; then it goes on for WRAP elements behind it, so that
    a kernel finds each chunk in one piece.
    """
    different = {id(a): a for a in arrays}  # often they are one array
    ready = {key: _repeated(_converted(owner, names, a, x.dtype), x.size) for key, a in different.items()}
    return [1 if type(a) is float else max(a.size, 1) for a in arrays], [ready[id(a)] for a in arrays]


def _converted(owner, names, a, dtype):
    """A flat array in the dtype of the outputs, of which it must not leave the range."""
    if type(a) is float or a.dtype != dtype:
        largest = a if type(a) is float else float(a.max(initial=0.0))
        if not largest <= LARGEST[dtype.char]:
            raise bad_value(owner, f"{names} must be finite in {dtype}", largest)
        with np.errstate(under="ignore"):
            a = np.array(a, dtype)
    return np.ascontiguousarray(a).reshape(-1)


def _repeated(a, size):
    """`a`, or, where it is not as long as the outputs, one period of it and WRAP elements more."""
    if a.size == size:
        return a
    return np.full(1 + kernels.WRAP, a[0]) if a.size == 1 else np.resize(a, max(a.size, 1) + kernels.WRAP)
