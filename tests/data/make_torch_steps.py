"""Train a small net with torch's optimizers: the numbers that test_optimizers.py holds minnet's to.

Needs torch and numpy alone. ``python tests/data/make_torch_steps.py`` writes torch_steps.npz beside itself: the data,
the starting parameters, what was set ("settings", a JSON string), and for each optimizer and dtype the parameters after
the last step. Parameters are one flat vector in minnet's order: W (inputs, outputs) row by row, then b, layer by layer.
Settings that torch does not have are what they mean: groups and decay_biases become torch's parameter groups, and
gradients are clipped before the step. (clip_grad_norm_ of torch divides by the norm + 1e-6; here it is the norm.)
Learning rates of torch's schedulers, an epoch each, stand under "rates.".
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch

SIZES = [5, 4, 3]
ROWS = 12
STEPS = 100
MOVING = {"momentum": 0.8, "weight_decay": 0.02}
# Steps that grow wild would make a difference of rounding grow with them, and say nothing about the formulas.
CASES = {
    "sgd": ("SGD", {"lr": 0.5}),
    "sgd-momentum": ("SGD", {"lr": 0.3, "momentum": 0.9}),
    "sgd-nesterov": ("SGD", {"lr": 0.3, "nesterov": True, **MOVING}),
    "sgd-weight_decay": ("SGD", {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.1}),
    "sgd-clip_norm": ("SGD", {"lr": 0.3, "clip_norm": 0.2, **MOVING}),
    "sgd-clip_value": ("SGD", {"lr": 0.3, "clip_value": 0.05, **MOVING}),
    "sgd-groups": ("SGD", {"lr": 0.3, **MOVING, "groups": {"0": {"lr": 0.1}, "0.W": {"weight_decay": 0.1}}}),
    "sgd-decay_biases": ("SGD", {"lr": 0.3, "decay_biases": False, **MOVING}),
    "adam": ("Adam", {"lr": 0.05}),
    "adam-weight_decay": ("Adam", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
    "adam-groups": ("Adam", {"lr": 0.02, "weight_decay": 0.1, "decay_biases": False, "groups": {"2": {"lr": 0.05}}}),
    "adamw": ("AdamW", {"lr": 0.05}),
    "adamw-weight_decay": ("AdamW", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.5}),
    "adamw-decay_biases": ("AdamW", {"lr": 0.05, "weight_decay": 0.5, "decay_biases": False, "clip_norm": 0.1}),
    "rmsprop": ("RMSprop", {"lr": 0.01}),
    "rmsprop-momentum": ("RMSprop", {"lr": 0.003, "alpha": 0.9, "eps": 1e-2, **MOVING}),
    "rmsprop-centered": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-2, "centered": True, **MOVING}),
    "rmsprop-centered-alone": ("RMSprop", {"lr": 0.01, "alpha": 0.95, "eps": 1e-3, "centered": True}),
}
EPOCHS = 40
SCHEDULERS = {
    "step": ("StepLR", {"step_size": 7, "gamma": 0.3}),
    "cosine": ("CosineAnnealingLR", {"T_max": 39, "eta_min": 0.01}),
    "warm_up": ("LinearLR", {"start_factor": 1 / 9, "total_iters": 8}),
    "plateau": ("ReduceLROnPlateau", {"factor": 0.3, "patience": 2, "threshold": 0.01, "threshold_mode": "abs"}),
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


def named_parameters(net):
    """Pairs of minnet's name, such as "0.W", and torch's parameter."""
    return [
        (f"{i}.{name}", getattr(net[i], key))
        for i in range(0, len(net), 2)
        for name, key in (("W", "weight"), ("b", "bias"))
    ]


def parameter_groups(net, settings):
    """A group of torch's for each parameter: the settings of the longest name that fits, no decay of biases if told."""
    groups, decay_biases = settings.pop("groups", {}), settings.pop("decay_biases", True)
    for name, parameter in named_parameters(net):
        fitting = [key for key in groups if f"{name}.".startswith(f"{key}.")]
        own = dict(groups[max(fitting, key=len)]) if fitting else {}
        if name.endswith("b") and not decay_biases:
            own["weight_decay"] = 0.0
        yield {"params": [parameter], **own}


def clip(net, norm, value):
    """Clip the gradients as minnet does; None leaves them as they are."""
    grads = [parameter.grad for parameter in net.parameters()]
    if value is not None:
        torch.nn.utils.clip_grad_value_(net.parameters(), value)
    if norm is not None:
        total = torch.sqrt(sum(torch.sum(grad.double() ** 2) for grad in grads))
        for grad in grads:
            grad.mul_(min(norm / float(total), 1.0))


def train(case, dtype):
    """The parameters after STEPS steps on all rows with the cross-entropy; `dtype` is "float32" or "float64"."""
    X, y, start = problem()
    name, settings = CASES[case]
    settings = dict(settings)
    clipping = settings.pop("clip_norm", None), settings.pop("clip_value", None)
    net = torch_net(start, getattr(torch, dtype))
    groups = list(parameter_groups(net, settings))
    optimizer = getattr(torch.optim, name)(groups, **settings)
    X, y = torch.from_numpy(X.astype(dtype)), torch.from_numpy(y)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(X), y).backward()
        clip(net, *clipping)
        optimizer.step()
    return flat_parameters(net)


def losses():
    """Losses of EPOCHS epochs that fall, rest and rise, in steps of 1/8, so that no comparison hangs on rounding."""
    return np.cumsum(np.random.default_rng(3).integers(-2, 3, EPOCHS)) / 8 + 9


def rates(case):
    """The learning rate of every epoch by a scheduler of torch that starts at 0.5."""
    name, settings = SCHEDULERS[case]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler, rates = getattr(torch.optim.lr_scheduler, name)(optimizer, **settings), []
    for loss in losses():
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([loss] if case == "plateau" else []))
    return np.array(rates)


def main():
    """Write the file."""
    X, y, start = problem()
    settings = {"torch": torch.__version__, "sizes": SIZES, "steps": STEPS, "cases": CASES, "schedulers": SCHEDULERS}
    results = {f"{case}.{dtype}": train(case, dtype) for case in CASES for dtype in ("float32", "float64")}
    results |= {f"rates.{case}": rates(case) for case in SCHEDULERS}
    path = Path(__file__).with_name("torch_steps.npz")
    np.savez_compressed(path, X=X, y=y, start=start, losses=losses(), settings=json.dumps(settings), **results)


if __name__ == "__main__":
    main()
