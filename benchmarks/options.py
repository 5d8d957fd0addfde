"""What the options of a loss cost: `python -m benchmarks.options` prints their time over that of the plain loss.

One thread, forward and backward; plain and options take turns, and medians are compared. Before a call is timed it is
made once, so that each finds its arrays where a call like it leaves them: those of the plain call are part of all
others, which would bring them into the caches, while weights are read by one or two.
"""

import itertools
import statistics
import timeit
from functools import partial

import numpy as np

import minnet
from minnet import functional as F

SHAPES = [(128, 10), (8192, 10), (1000, 100), (8192, 1000), (64, 20_000)]
QUESTIONS = [(4096,), (512, 8), (2**20,)]
DTYPES = [np.float32, np.float64]


def label_calls(rng, rows, classes, dtype):
    """Calls of cross_entropy with labels, by the names of their options: every set of five, and some more."""
    z, y = rng.normal(size=(rows, classes)).astype(dtype), rng.integers(0, classes, rows)
    ignored = np.where(np.arange(rows) % 3, y, -100)  # a third
    options = {
        "weights": {"weight": rng.random(classes)},
        "rows": {"sample_weight": rng.random(rows)},
        "ignored": {},
        "smoothing": {"label_smoothing": 0.1},
        "gamma 2": {"gamma": 2.0},
        "gamma 1.5": {"gamma": 1.5},
        "gamma 1.7": {"gamma": 1.7},
        "one by one": {"reduction": "none"},
        "upstream": {"grad_output": 2.0},
        "upstream rows": {"reduction": "none", "grad_output": rng.normal(size=rows)},
    }
    five = list(options)[:5]
    sets = [names for size in range(6) for names in itertools.combinations(five, size)]
    sets += [("gamma 1.5",), ("gamma 1.7",), ("smoothing", "gamma 1.5"), (*five[:4], "gamma 1.7")]
    sets += [("one by one",), (*five, "one by one"), ("upstream",), ("upstream rows",), (*five, "upstream rows")]
    calls = []
    for names in sets:
        given = {key: value for name in names for key, value in options[name].items()}
        calls.append((", ".join(names) or "plain", ignored if "ignored" in names else y, given))
    return _calls(_into(F.cross_entropy, z), z, *calls)


def share_calls(rng, rows, classes, dtype):
    """The same with probabilities."""
    z, t = (rng.normal(size=(rows, classes)).astype(dtype) for _ in range(2))
    t, weight = F.softmax(t), rng.random(classes)
    return _calls(
        _into(F.cross_entropy, z),
        z,
        ("plain", t, {}),
        ("class weights", t, {"weight": weight}),
        ("sample weights", t, {"sample_weight": rng.random(rows)}),
        ("smoothing", t, {"label_smoothing": 0.1}),
        ("gamma = 2", t, {"gamma": 2.0}),
        ("gamma = 1.5", t, {"gamma": 1.5}),
        ("gamma = 1.7", t, {"gamma": 1.7}),
        ("upstream rows", t, {"reduction": "none", "grad_output": rng.normal(size=rows)}),
        ("weights, smoothing, gamma = 2", t, {"weight": weight, "label_smoothing": 0.1, "gamma": 2.0}),
    )


def binary_calls(rng, *shape_and_dtype):
    """Calls of binary_cross_entropy_with_logits, whose gradients go to new arrays, as in `python -m benchmarks`."""
    *shape, dtype = shape_and_dtype
    z, t = rng.normal(size=shape).astype(dtype), rng.integers(0, 2, shape).astype(dtype)
    weight, rows, classes = (rng.random(size).astype(dtype) for size in (shape, shape[0], shape[-1]))
    options = {
        "weights": {"weight": weight},
        "pos_weight": {"pos_weight": 3.0},
        "pos_weight of elements": {"pos_weight": 1 - weight},
        "pos_weight of questions": {"pos_weight": classes},
        "rows": {"sample_weight": rows},
        "smoothing": {"label_smoothing": 0.1},
        "alpha": {"alpha": 0.25},
        "gamma 2": {"gamma": 2.0},
        "gamma 1.5": {"gamma": 1.5},
        "gamma 1.7": {"gamma": 1.7},
        "one by one": {"reduction": "none"},
        "upstream": {"grad_output": 2.0},
        "upstream elements": {"reduction": "none", "grad_output": weight},
        "upstream rows": {"reduction": "none", "grad_output": rows},
    }
    if len(shape) == 1:  # elements are the rows, and the questions
        del options["pos_weight of questions"], options["upstream rows"]
    if dtype == np.float32:
        wide = {"weight": weight, "pos_weight": 1 - weight, "sample_weight": rows}
        options |= {f"{name} in float64": {name: np.sqrt(a, dtype=np.float64)} for name, a in wide.items()}
    sets = [(), *((name,) for name in options)]
    for first in ("weights", "pos_weight", "rows"):
        sets += [(first, "smoothing"), (first, "gamma 2"), (first, "smoothing", "gamma 2")]
    sets += [("weights", "rows"), ("weights", "alpha"), ("weights", "pos_weight of elements", "rows")]
    calls = []
    for names in sets:
        given = {key: value for name in names for key, value in options[name].items()}
        calls.append((", ".join(names) or "plain", t, given))
    return _calls(F.binary_cross_entropy_with_logits, z, *calls)


def _into(function, z):
    return partial(function, out=np.empty_like(z))


def _calls(function, z, *options):
    def call(target, given):
        return lambda: function(z, target, return_grad=True, **given)

    return {name: call(target, given) for name, target, given in options}


def ratios(calls, rounds):
    """Median time of the plain call in microseconds, and of each call over it."""
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            times[name].append(timeit.timeit(call, number=1))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return 1e6 * medians["plain"], {name: median / medians["plain"] for name, median in medians.items()}


def report(title, calls_of, shape, rounds):
    """One table: options down, dtypes across."""
    columns = [ratios(calls_of(np.random.default_rng(0), *shape, dtype), rounds) for dtype in DTYPES]
    print(f"\n{title:46} {'float32':>9} {'float64':>9}")
    print(f"{'  plain, us':46}", *(f"{plain:9.1f}" for plain, _ in columns))
    for name in list(columns[0][1])[1:]:
        print(f"  {name:44}", *(f"{found[name]:9.2f}" if name in found else f"{'':9}" for _, found in columns))


def main(rounds=41):
    """Print a table for each loss, target and shape."""
    minnet.set_num_threads(1)
    print("time / plain")
    for rows, classes in SHAPES:
        repeats = rounds if classes < 100 else rounds // 4
        for kind, calls_of in (("labels", label_calls), ("probabilities", share_calls)):
            report(f"cross-entropy {rows} x {classes}, {kind}", calls_of, (rows, classes), repeats)
    for shape in QUESTIONS:
        repeats = rounds if shape[0] < 2**16 else rounds // 3
        report(f"binary cross-entropy {' x '.join(map(str, shape))}", binary_calls, shape, repeats)


if __name__ == "__main__":
    main()
