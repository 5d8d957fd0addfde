"""What a trained net is judged by."""

import numpy as np

from minnet._checks import any_array, bad_value, real_array

__all__ = ["accuracy"]


def accuracy(outputs, target):
    """Share of rows whose answer is the target's.

    Parameters
    ----------
    outputs : array_like, shape (N, C), (N, 1) or (N,)
        Logits or probabilities of C > 1 classes, of which the largest answers; one logit, which answers yes above 0.
    target : array_like, shape (N,) of labels, or the shape of `outputs` with probabilities
        The largest probability, or a probability above 1/2, is the wanted answer.

    Returns
    -------
    float
        In [0, 1]; 0.0 for no rows.

    Raises
    ------
    ValueError
        If the numbers of rows disagree.
    """
    z, t = real_array("accuracy", "outputs", outputs), any_array("accuracy", "target", target)
    if z.ndim not in (1, 2) or t.shape[:1] != z.shape[:1]:
        raise bad_value("accuracy", "outputs and target must have as many rows", (z.shape, t.shape))
    if z.ndim == 2 and z.shape[1] > 1:
        right = np.argmax(z, axis=1) == (t if t.ndim == 1 else np.argmax(t, axis=1))
    else:
        right = (z.reshape(-1) > 0) == (t.reshape(-1) > 0.5)
    return float(np.mean(right)) if len(right) else 0.0
