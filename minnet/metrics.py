"""What a trained net is judged by."""

import numpy as np

from minnet._checks import any_array, bad_value, real_array

__all__ = ["accuracy", "binary_accuracy"]


def accuracy(outputs, target):
    """Share of rows in which the largest output is that of the target's class.

    Parameters
    ----------
    outputs : array_like, shape (N, C)
        Logits or probabilities. A single column is one logit, which answers yes above 0: see `binary_accuracy`.
    target : array_like, shape (N,) of labels, or (N, C) of probabilities
        With probabilities the largest is the wanted one.

    Returns
    -------
    float
        In [0, 1]; 0.0 for no rows.

    Raises
    ------
    ValueError
        If the shapes disagree.
    """
    z, t = real_array("accuracy", "outputs", outputs), any_array("accuracy", "target", target)
    if z.ndim != 2 or z.shape[1] == 1:
        return binary_accuracy(z, t)
    if t.shape not in (z.shape[:1], z.shape):
        raise bad_value("accuracy", f"target must have shape {z.shape[:1]} or {z.shape}", t.shape)
    right = np.argmax(z, axis=1) == (t if t.ndim == 1 else np.argmax(t, axis=1))
    return float(np.mean(right)) if len(right) else 0.0


def binary_accuracy(logits, target):
    """Share of right answers, yes where a logit is above 0, element by element.

    Parameters
    ----------
    logits : array_like, shape (N,) or (N, K)
        One question a column.
    target : array_like, shape of `logits`, or (N,) for logits (N, 1)
        Yes where it is above 1/2.

    Returns
    -------
    float
        In [0, 1]; 0.0 for no elements.

    Raises
    ------
    ValueError
        If the shapes disagree.
    """
    z, t = real_array("binary_accuracy", "logits", logits), any_array("binary_accuracy", "target", target)
    if z.shape not in (t.shape, (*t.shape, 1)) and t.shape != (*z.shape, 1):
        raise bad_value("binary_accuracy", f"target must have the shape of the logits, {z.shape}", t.shape)
    right = (z > 0) == (t.reshape(z.shape) > 0.5)
    return float(np.mean(right)) if right.size else 0.0
