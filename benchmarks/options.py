"""What the options of a loss cost: `python -m benchmarks.options` prints their time over that of the plain loss.

One thread, forward and backward, rounds interleaved, medians.
"""

import statistics
import timeit

import numpy as np

import minnet
from minnet import functional as F

SHAPES = [(8192, 10), (8192, 1000)]


def cross_entropy(rng, shape, dtype):
    """Calls by name: labels first, then probabilities."""
    z, rows, classes = rng.normal(size=shape).astype(dtype), *shape
    labels, shares = rng.integers(0, classes, rows), F.softmax(rng.normal(size=shape)).astype(dtype)
    weight, out = rng.random(classes), np.empty_like(z)
    options = {
        "plain": {},
        "class weights": {"weight": weight},
        "sample weights": {"sample_weight": rng.random(rows)},
        "smoothing": {"label_smoothing": 0.1},
        "gamma = 2": {"gamma": 2.0},
        "gamma = 1.5": {"gamma": 1.5},
        "weights, smoothing, gamma": {"weight": weight, "label_smoothing": 0.1, "gamma": 2.0},
    }
    for target, name in ((labels, "labels"), (shares, "probabilities")):
        for option, given in options.items():
            yield (name, option), _call(F.cross_entropy, z, target, out, given)
    ignored = np.where(np.arange(rows) % 3, labels, -100)
    yield ("labels", "a third ignored"), _call(F.cross_entropy, z, ignored, out, {})


def _call(function, z, target, out, given):
    return lambda: function(z, target, return_grad=True, out=out, **given)


def ratios(calls, rounds):
    """Median time of each call over that of the plain one of its kind."""
    times = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            times[key].append(timeit.timeit(call, number=1))
    medians = {key: statistics.median(values) for key, values in times.items()}
    return {key: medians[key] / medians[key[0], "plain"] for key in calls}


def main(rounds=15):
    """Print a table for each shape and dtype."""
    minnet.set_num_threads(1)
    for shape in SHAPES:
        for dtype in (np.float32, np.float64):
            print(f"\ncross-entropy {shape[0]} x {shape[1]}, {np.dtype(dtype)}: time / plain")
            calls = dict(cross_entropy(np.random.default_rng(0), shape, dtype))
            for (target, option), ratio in ratios(calls, rounds).items():
                print(f"  {target:14} {option:26} {ratio:.2f}")


if __name__ == "__main__":
    main()
