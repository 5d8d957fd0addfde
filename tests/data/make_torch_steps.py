"""Train a small net with torch's optimizers: the numbers that test_optimizers.py holds minnet's to.

Needs torch and numpy alone. ``python tests/data/make_torch_steps.py`` writes torch_steps.npz beside itself: the data,
the starting parameters, what was set ("settings", a JSON string), and for each optimizer and dtype the parameters after
the last step. Parameters are one flat vector in minnet's order: W (inputs, outputs) row by row, then b, layer by layer.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch

SIZES = [5, 4, 3]
ROWS = 12
STEPS = 10
CASES = {
    "sgd": ("SGD", {"lr": 0.5}),
    "sgd-momentum": ("SGD", {"lr": 0.3, "momentum": 0.9}),
    "sgd-nesterov": ("SGD", {"lr": 0.3, "momentum": 0.9, "nesterov": True}),
    "sgd-weight_decay": ("SGD", {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.1}),
    "adam": ("Adam", {"lr": 0.05}),
    "adam-weight_decay": ("Adam", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
}


def problem():
    """X, labels y and starting parameters; all are float32 numbers, so that both dtypes start at the same place."""
    rng = np.random.default_rng(20260)
    X = rng.standard_normal((ROWS, SIZES[0])).astype(np.float32)
    y = rng.integers(SIZES[-1], size=ROWS)
    size = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(SIZES))
    return X, y, rng.standard_normal(size).astype(np.float32)


def torch_net(start, dtype):
    """Linear, sigmoid, ..., linear with the parameters of the flat vector `start`."""
    layers, start = [], torch.from_numpy(start).to(dtype)
    for fan_in, fan_out in itertools.pairwise(SIZES):
        linear = torch.nn.Linear(fan_in, fan_out, dtype=dtype)
        W, b, start = start.split([fan_in * fan_out, fan_out, len(start) - (fan_in + 1) * fan_out])
        with torch.no_grad():
            linear.weight.copy_(W.reshape(fan_in, fan_out).T)
            linear.bias.copy_(b)
        layers += [linear, torch.nn.Sigmoid()]
    return torch.nn.Sequential(*layers[:-1])


def flat_parameters(net):
    """The parameters of a net in minnet's order."""
    arrays = [array for layer in net[::2] for array in (layer.weight.T, layer.bias)]
    return np.concatenate([array.detach().numpy().reshape(-1) for array in arrays])


def train(case, dtype):
    """The parameters after STEPS steps on all rows with the cross-entropy; `dtype` is "float32" or "float64"."""
    X, y, start = problem()
    name, settings = CASES[case]
    net = torch_net(start, getattr(torch, dtype))
    optimizer = getattr(torch.optim, name)(net.parameters(), **settings)
    X, y = torch.from_numpy(X.astype(dtype)), torch.from_numpy(y)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(X), y).backward()
        optimizer.step()
    return flat_parameters(net)


def main():
    """Write the file."""
    X, y, start = problem()
    settings = json.dumps({"torch": torch.__version__, "sizes": SIZES, "steps": STEPS, "cases": CASES})
    results = {f"{case}.{dtype}": train(case, dtype) for case in CASES for dtype in ("float32", "float64")}
    path = Path(__file__).with_name("torch_steps.npz")
    np.savez_compressed(path, X=X, y=y, start=start, settings=settings, **results)


if __name__ == "__main__":
    main()
