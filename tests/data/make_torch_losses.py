"""Losses by torch: the values and gradients that test_binary_losses.py and test_regression_losses.py hold minnet's to.

Needs torch and numpy alone. ``python tests/data/make_torch_losses.py`` writes torch_losses.npz beside itself: what
`arrays` gives, what was computed ("settings", a JSON string) and one vector a case: for one reduction after the other,
the value, and the gradient of its product with `upstream` with respect to the first argument, all in float64.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import torch

REDUCTIONS = ["mean", "sum", "none"]
UPSTREAM = 1.7  # for "mean" and "sum"; the losses of "none" have one each

# name: (function, first argument, target, options); an option that names an array is one.
CASES = {
    "bce_with_logits": ("binary_cross_entropy_with_logits", "z", "t", {}),
    "bce_with_logits hard": ("binary_cross_entropy_with_logits", "z", "hard", {}),
    "bce_with_logits weight": ("binary_cross_entropy_with_logits", "z", "t", {"weight": "w"}),
    "bce_with_logits full weight": ("binary_cross_entropy_with_logits", "z", "t", {"weight": "full_w"}),
    "bce_with_logits pos_weight": ("binary_cross_entropy_with_logits", "z", "t", {"pos_weight": "w"}),
    "bce_with_logits full pos_weight": ("binary_cross_entropy_with_logits", "z", "t", {"pos_weight": "full_w"}),
    "bce_with_logits both": ("binary_cross_entropy_with_logits", "z", "t", {"weight": "full_w", "pos_weight": "w"}),
    "bce_with_logits smoothed": ("binary_cross_entropy_with_logits", "z", "t", {"label_smoothing": 0.2, "weight": "w"}),
    "focal": ("binary_cross_entropy_with_logits", "z", "hard", {"gamma": 2.0, "alpha": 0.25}),
    "focal 0.5": ("binary_cross_entropy_with_logits", "z", "hard", {"gamma": 0.5}),
    "focal 3.5": ("binary_cross_entropy_with_logits", "z", "hard", {"gamma": 3.5, "alpha": 0.9}),
    "bce": ("binary_cross_entropy", "p", "t", {}),
    "bce weight": ("binary_cross_entropy", "p", "t", {"weight": "w"}),
    "bce full weight": ("binary_cross_entropy", "p", "hard", {"weight": "full_w"}),
    "kl_div": ("kl_div", "log_q", "q", {}),
    "kl_div log_target": ("kl_div", "log_q", "log_p", {"log_target": True}),
    "mse": ("mse_loss", "z", "x", {}),
    "l1": ("l1_loss", "z", "x", {}),
    "huber": ("huber_loss", "z", "x", {}),
    "huber delta": ("huber_loss", "z", "x", {"delta": 2.5}),
    "gaussian": ("gaussian_nll_loss", "z", "x", {"var": "full_w"}),
    "gaussian full": ("gaussian_nll_loss", "z", "x", {"var": "full_w", "full": True, "eps": 0.5}),
    "gaussian rows": ("gaussian_nll_loss", "z", "x", {"var": "rows"}),
    "poisson": ("poisson_nll_loss", "z", "counts", {}),
    "poisson full": ("poisson_nll_loss", "z", "counts", {"full": True}),
    "poisson rate": ("poisson_nll_loss", "p", "counts", {"log_input": False}),
    "poisson rate full": ("poisson_nll_loss", "p", "counts", {"log_input": False, "full": True, "eps": 1e-3}),
}


def arrays():
    """What the losses are computed of."""
    rng = np.random.default_rng(20261)
    shape = 6, 4
    z = 3 * rng.standard_normal(shape)
    q = rng.dirichlet(np.ones(4), 6)
    q[0] = [0, 0.5, 0.5, 0]
    return {
        "z": z,
        "x": 2 * rng.standard_normal(shape),
        "t": rng.uniform(size=shape),
        "hard": rng.integers(0, 2, shape).astype(float),
        "p": rng.uniform(0.01, 0.99, shape),
        "q": q,
        "log_q": z - np.log(np.exp(z).sum(1, keepdims=True)),
        "log_p": np.log(rng.dirichlet(np.ones(4), 6)),
        "counts": rng.poisson(2.0, shape).astype(float),
        "w": rng.uniform(0.2, 3, 4),
        "full_w": rng.uniform(0.2, 3, shape),
        "rows": rng.uniform(0.2, 3, (6, 1)),
        "upstream": rng.standard_normal(shape),
    }


def focal(z, t, gamma, alpha=None, reduction="mean"):
    """The focal loss of labels, as torchvision.ops.sigmoid_focal_loss writes it."""
    p = torch.sigmoid(z)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, t, reduction="none")
    loss = loss * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
    if alpha is not None:
        loss = loss * (alpha * t + (1 - alpha) * (1 - t))
    return {"mean": loss.mean, "sum": loss.sum, "none": lambda: loss}[reduction]()


def compute(case):
    """The values and gradients of all reductions, one after the other."""
    name, first, target, options = CASES[case]
    given = {key: torch.from_numpy(array) for key, array in arrays().items()}
    options = {key: given[value] if isinstance(value, str) else value for key, value in options.items()}
    smoothing, t = options.pop("label_smoothing", 0.0), given[target]
    t = t * (1 - smoothing) + smoothing / 2 if smoothing else t
    function = focal if "gamma" in options else getattr(torch.nn.functional, name)
    parts = []
    for reduction in REDUCTIONS:
        x = given[first].clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "reduction: 'mean' divides the total loss")  # kl_div, of its default
            value = function(x, t, reduction=reduction, **options)
        value.backward(given["upstream"] if reduction == "none" else torch.tensor(UPSTREAM, dtype=torch.float64))
        parts += [value.detach().numpy(), x.grad.numpy()]
    return np.concatenate([part.reshape(-1) for part in parts])


def main():
    """Write the file."""
    settings = {"torch": torch.__version__, "cases": CASES, "reductions": REDUCTIONS, "factor": UPSTREAM}
    path = Path(__file__).with_name("torch_losses.npz")
    results = {case: compute(case) for case in CASES}
    np.savez_compressed(path, settings=json.dumps(settings), **arrays(), **results)


if __name__ == "__main__":
    main()
