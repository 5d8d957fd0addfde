"""check_gradient: is the gradient that a layer or a loss gives the derivative of what it computes?

The twin is a central difference of order 4 in float64, whose error falls with the fourth power of its step; right code
agrees to about 1e-9, wrong code hardly to 1e-2.
"""

import copy

import numpy as np

from minnet._checks import any_array, bad_type, bad_value, generator, number, real_array, words
from minnet.layers import Layer

__all__ = ["check_gradient"]

STEP = 1e-3


def check_gradient(layer_or_loss, x, target=None, *, sample_weight=None, tol=1e-6, seed=0):
    """Compare the gradients of a layer, a model or a loss with numeric ones.

    Parameters
    ----------
    layer_or_loss : Layer or loss
        A `Layer` (copied, so it keeps its values and gradients), or an object with `value_and_grad(outputs, target)`.
    x : array_like, shape (N, I)
        The input of the layer, or the outputs that the loss takes. Keep away from kinks, such as 0 for relu.
    target : array_like
        For a loss: its targets.
    sample_weight : array_like, shape (N,), optional
        For a loss that takes weights.
    tol : float
        The largest error that is accepted, relative to the largest entry of the numeric gradient (at least 1).
    seed : int
        For dropout, and for the random sum of outputs whose derivative is checked.

    Returns
    -------
    float
        The largest error that was found.

    Raises
    ------
    ValueError
        If it is above `tol`; the message names the gradient, the entry and both values.
    TypeError
        If `layer_or_loss` is neither.

    Examples
    --------
    >>> import numpy as np, minnet as mn
    >>> rng = np.random.default_rng(0)
    >>> mn.check_gradient(mn.Linear(3, 2, seed=0), rng.normal(size=(4, 3))) < 1e-9
    True
    >>> mn.check_gradient(mn.CrossEntropyLoss(), rng.normal(size=(4, 3)), [0, 2, 1, 1]) < 1e-9
    True
    """
    x = real_array("check_gradient", "x", x).astype(np.float64)  # a copy: it is moved about
    tol = number("check_gradient", "tol", tol, 0, above=True)
    if isinstance(layer_or_loss, Layer):
        pairs = _layer_gradients(layer_or_loss, x, generator("check_gradient", seed).integers(2**32))
    elif hasattr(layer_or_loss, "value_and_grad") and not isinstance(layer_or_loss, type):
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        pairs = _loss_gradients(layer_or_loss, x, target, weights)
    else:
        raise bad_type("check_gradient", "needs a Layer or an object with value_and_grad", layer_or_loss)
    return max(_compare(type(layer_or_loss).__name__, name, given, twin, tol) for name, given, twin in pairs)


def _layer_gradients(layer, x, seed):
    """Triples (name, gradient, numeric gradient) of sum(R * layer(x)) with a random R."""
    layer = copy.deepcopy(layer)
    layer.bind(layer.params.astype(np.float64), np.zeros(layer.size))
    R = np.random.default_rng(seed).standard_normal(layer.forward(x, np.random.default_rng(seed)).shape)

    def value():
        return np.sum(R * layer.forward(x, np.random.default_rng(seed)))  # the same dropout mask every time

    twins = [_numeric(value, x), _numeric(value, layer.params)]
    for method in ("backward", "backward_params"):
        value()
        layer.grads[...] = np.nan  # a backward that adds to old gradients, or leaves some out, is found
        dx = getattr(layer, method)(R)
        if method == "backward":
            yield "dx", np.array(dx), twins[0]
        start = 0
        for name, parameter in layer.named_parameters():
            flat = slice(start, start + parameter.size)
            given, twin = (vector[flat].reshape(parameter.shape) for vector in (layer.grads, twins[1]))
            yield f"d{name}" + " by backward_params" * (method != "backward"), given, twin
            start = flat.stop


def _loss_gradients(loss, x, target, weights):
    """The triple of a loss, and its value against the value that comes with the gradient."""
    target = any_array("check_gradient", "target", target)
    value, gradient = loss.value_and_grad(x, target, **weights)
    alone = loss(x, target, **weights)
    yield "value_and_grad's value against __call__'s", np.sum(value), np.asarray(np.sum(alone))
    yield "gradient", np.asarray(gradient), _numeric(lambda: np.sum(loss(x, target, **weights)), x)


def _numeric(value, x):
    """The gradient of `value()` with respect to the entries of `x`, which are moved in place and put back."""
    gradient, flat = np.empty(x.shape), x.reshape(-1)
    for i, start in enumerate(flat.copy()):
        differences = []
        for steps in (1, 2):
            flat[i] = start + steps * STEP
            above = value()
            flat[i] = start - steps * STEP
            differences.append(above - value())
        flat[i] = start
        gradient.reshape(-1)[i] = (8 * differences[0] - differences[1]) / (12 * STEP)
    return gradient


def _compare(owner, name, given, twin, tol):
    """The largest error of `given`; a ValueError where it is too large."""
    if given.shape != twin.shape:
        raise bad_value(f"check_gradient of {owner}", f"{name} must have shape {twin.shape}", given.shape)
    error = np.abs(given - twin) / max(1.0, np.max(np.abs(twin), initial=0.0))
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape) if error.size else ()
    if error.size and not error[worst] <= tol:
        where = f"{name}{list(map(int, worst))}" if worst else name
        rule = f"{where} must be {twin[worst]:.9g}"
        raise bad_value(f"check_gradient of {owner}", rule, words(f"{given[worst]:.9g}"))
    return float(np.max(error, initial=0.0))
