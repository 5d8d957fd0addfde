"""The command `python -m benchmarks.every_float`: the largest errors of minnet and its peers over all float32 numbers.

All 2^32 bit patterns go through sigmoid, log_sigmoid, softplus and tanh, and every result is compared with float64.
Errors are counted in ulp of the float32 result: 2^(e - 23) for exact results in [2^e, 2^(e + 1)), and never less than
2^-149, the spacing of subnormal numbers. What is infinite, or not a number, where the exact result is finite, is an
infinite error; so is a NaN that does not give a NaN.
"""

import argparse
import json
import math
import os
import sys
import time
from collections import namedtuple
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks import report

PROMISE = 2  # ulp, of minnet
BLOCK = 1 << 16  # patterns at once: what is computed from them stays in cache
INFINITY, END = 0x7F800000, 0x80000000  # bit patterns: of inf, and the end of the NaNs that follow it
TINY = 2.0**-126  # the least normal number

Way = namedtuple("Way", "function library how run")  # `how`: a formula, or the name of the function that is called
Peak = namedtuple("Peak", "ulp x")  # the largest error, and where it occurs
Worst = namedtuple("Worst", "all normal")  # peaks: over all numbers, and over those whose exact result is normal
NOTHING = Worst(*[Peak(0.0, np.float32(np.nan))] * 2)


# ---- exact results ----
# Numpy's float64 functions are right to a few units of 2^-53, and nothing below cancels: the references are right to
# 2^-51 of themselves (a test compares them with mpmath), which is 2^-27 ulp of float32. Results that are subnormal in
# float32 are normal here. All four functions are monotone, on which a short cut below rests.


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


EXACT = {"sigmoid": _sigmoid, "log_sigmoid": lambda x: -_softplus(-x), "softplus": _softplus, "tanh": np.tanh}
LIMITS = {"sigmoid": (0, 1), "log_sigmoid": (-np.inf, 0), "softplus": (0, np.inf), "tanh": (-1, 1)}  # at -inf, inf

# Where the exact result is x itself, to less than 2^-29 ulp. For tanh: x^3 / 3 < 2^-29 2^-24 x.
IS_X = {
    "sigmoid": lambda x: False,
    "log_sigmoid": lambda x: x[0] <= -64,
    "softplus": lambda x: x[0] >= 64,
    "tanh": lambda x: abs(x[-1]) < 2**-27,
}


class Exact:
    """The exact results of a function for a block `x` of finite numbers of one sign, in the order of their size."""

    def __init__(self, function, x):
        self.function, self.x = function, x

    @cached_property
    def values(self):
        """In float64; not computed where all contenders can be judged without."""
        return EXACT[self.function](self.x.astype(np.float64))

    @cached_property
    def ulps(self):
        """The float32 ulp at the values."""
        return ulp(self.values)

    @cached_property
    def ends(self):
        """The same for the first and the last number alone."""
        return Exact(self.function, self.x[[0, -1]])

    @cached_property
    def is_even(self):
        """Whether the ulp is the same throughout, and the results are all normal or all not."""
        return np.ptp(self.ends.ulps) == 0 and np.ptp(self.ends.normal) == 0

    @cached_property
    def normal(self):
        """1 where the values are normal numbers in float32, else 0."""
        return (np.abs(self.values) >= TINY).astype(np.int8)

    def worst(self, y):
        """The largest errors of the results `y`.

        Most float32 have an exponent at which nothing happens, hence two short cuts. Where `y` is x, and the exact
        result too, there is no error. Where `y` is constant, the error grows towards an end, as the exact function is
        monotone.
        """
        if IS_X[self.function](self.x) and np.array_equal(y, self.x):
            return NOTHING
        if len(y) > 2 and y[0] == y[-1] and self.is_even and (y == y[0]).all():
            return self.ends.worst(y[[0, -1]])
        found = errors(y, self.values, self.ulps)
        overall = self._peak(found)
        if self.ends.normal.all():
            return Worst(overall, overall)
        return Worst(overall, self._peak(np.where(self.normal, found, 0)))

    def _peak(self, found):
        place = found.argmax()  # that of the first NaN, if there is one
        return Peak(math.inf if np.isnan(found[place]) else float(found[place]), self.x[place])


def ulp(exact):
    """The distance of float32 numbers at `exact`, finite float64 numbers."""
    powers = (exact.view(np.int64) & 0x7FF0 << 48).view(np.float64)  # sign and digits cut off: 2^e is left
    return np.maximum(powers, TINY) * 2.0**-23


def errors(y, exact, ulps):
    """How far `y` is from `exact`, in ulp; inf or NaN where `y` is."""
    distance = np.subtract(y, exact, dtype=np.float64)
    np.abs(distance, out=distance)
    return np.divide(distance, ulps, out=distance)


def larger(a, b):
    """The larger of two errors, the first if they are equal."""
    return Worst(*(p if p.ulp >= q.ulp else q for p, q in zip(a, b, strict=True)))


# ---- the sweep ----


def blocks(first, last, stride):
    """Float32 numbers of the bit patterns from `first` to before `last`, and then the same with the sign bit set."""
    for sign in (0, END):
        for start in range(first, last, stride * BLOCK):
            stop = min(start + stride * BLOCK, last)
            yield np.arange(start | sign, stop | sign, stride, np.uint32).view(np.float32)


def sweep(ways, stride=1):
    """The largest errors of each way over every `stride`-th float32, 0 and the infinities included, as a list."""
    with np.errstate(all="ignore"):
        found = [at_infinity(way) for way in ways]
        for x in blocks(0, INFINITY, stride):
            exact = {way.function: Exact(way.function, x) for way in ways}
            found = [larger(w, exact[way.function].worst(call(way, x))) for way, w in zip(ways, found, strict=True)]
        for x in blocks(INFINITY + 1, END, stride):
            found = [larger(worst, at_nan(way, x)) for way, worst in zip(ways, found, strict=True)]
    return found


def call(way, x):
    """The results of a way; a wrong type or shape is no matter of ulp."""
    y = way.run(x)
    if y.dtype != np.float32 or y.shape != x.shape:
        raise TypeError(f"{way.library} {way.how}: gave {y.dtype} {y.shape} for float32 {x.shape}")
    return y


def at_infinity(way):
    """No error if the limits are right, else an infinite one."""
    x = np.array([-np.inf, np.inf], np.float32)
    wrong = x[call(way, x) != LIMITS[way.function]]
    return infinite(wrong[0]) if wrong.size else NOTHING


def at_nan(way, x):
    """No error if all of `x`, which are NaNs, give NaNs, else an infinite one."""
    return NOTHING if np.isnan(call(way, x)).all() else infinite(x[0])


def infinite(x):
    """An infinite error at `x`."""
    return Worst(*[Peak(math.inf, x)] * 2)


# ---- who is tried ----


def _minnet():
    import minnet

    return minnet, {name: {name: getattr(minnet.functional, name)} for name in EXACT}


def _numpy():
    by_hand = {
        "sigmoid": {"1 / (1 + exp(-x))": lambda x: 1 / (1 + np.exp(-x))},
        "log_sigmoid": {
            "-logaddexp(0, -x)": lambda x: -np.logaddexp(0, -x),
            "log(1 / (1 + exp(-x)))": lambda x: np.log(1 / (1 + np.exp(-x))),
        },
        "softplus": {
            "logaddexp(0, x)": lambda x: np.logaddexp(0, x),
            "log1p(exp(x))": lambda x: np.log1p(np.exp(x)),
        },
        "tanh": {"tanh": np.tanh},
    }
    return np, by_hand


def _scipy():
    import scipy.special

    names = {"sigmoid": "expit", "log_sigmoid": "log_expit", "softplus": "softplus"}
    here = {function: name for function, name in names.items() if hasattr(scipy.special, name)}  # softplus came late
    return scipy, {function: {name: getattr(scipy.special, name)} for function, name in here.items()}


def _torch():
    import torch

    def eager(function):
        return lambda x: function(torch.from_numpy(x)).numpy()

    return torch, {
        "sigmoid": {"sigmoid": eager(torch.sigmoid)},
        "log_sigmoid": {"logsigmoid": eager(torch.nn.functional.logsigmoid)},
        "softplus": {"softplus(threshold=20)": eager(torch.nn.functional.softplus)},  # the default: x itself above 20
        "tanh": {"tanh": eager(torch.tanh)},
    }


def _jax():
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    def compiled(function):
        function = jax.jit(function)
        return lambda x: np.asarray(function(x))

    nn = {"sigmoid": jax.nn.sigmoid, "log_sigmoid": jax.nn.log_sigmoid, "softplus": jax.nn.softplus}
    return jax, {name: {name: compiled(function)} for name, function in {**nn, "tanh": jax.numpy.tanh}.items()}


LIBRARIES = {"minnet": _minnet, "numpy": _numpy, "scipy": _scipy, "torch": _torch, "jax": _jax}


def load(libraries, functions=tuple(EXACT)):
    """The ways to compute `functions`, function by function; the libraries' versions; who is not here, and why."""
    ways, versions, missing = [], {}, []
    for library in libraries:
        try:
            module, by_function = LIBRARIES[library]()
        except ImportError as error:
            if library == "minnet":
                raise
            missing.append(str(error))
            continue
        versions[library] = module.__version__
        for function in functions:
            ways += [Way(function, library, how, run) for how, run in by_function.get(function, {}).items()]
    return sorted(ways, key=lambda way: functions.index(way.function)), versions, missing


# ---- the command ----


def main(arguments=None):
    """Run the command; give its exit status: 1 if minnet breaks its promise, else 0."""
    options = parse(arguments)
    ways, versions, missing = load(options.libraries, options.functions)
    start = time.perf_counter()
    found = sweep(ways, options.stride)
    seconds = time.perf_counter() - start
    about = {"machine": report.machine(), "versions": versions, "stride": options.stride, "seconds": seconds}
    print("\n".join(text(about, ways, found, missing)))
    if options.json:
        document = about | {"errors": [record(way, worst) for way, worst in zip(ways, found, strict=True)]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(way.library == "minnet" and worst.all.ulp > PROMISE for way, worst in zip(ways, found, strict=True)))


def text(about, ways, found, missing):
    """The report, as lines."""
    machine, tried = about["machine"], -(-(1 << 32) // about["stride"])
    yield f"{machine['cpu']}; {machine['system']}; {machine['date']}"
    yield ", ".join(f"{library} {version}" for library, version in about["versions"].items())
    each = about["seconds"] / max(1, tried * len(ways))
    yield f"{tried:,} float32 numbers, {about['seconds']:.0f} s: {each * 1e9:.1f} ns for each number and row"
    yield ""
    yield from table(ways, found)
    if missing:
        yield f"Not tried: {'; '.join(missing)}"


def table(ways, found):
    """The errors as lines, in ulp; beside them those over normal results, without what underflow does."""
    header = ("function", "library", "how", "largest error", "at x", "result normal", "at x")
    rows = [(*way[:3], *cells(worst.all), *cells(worst.normal)) for way, worst in zip(ways, found, strict=True)]
    return report.table([header, *rows])


def cells(peak):
    """An error rounded up to two decimals, or to two digits if it is large, and x as it can be typed in."""
    if peak.ulp < 1000 or math.isinf(peak.ulp):
        return f"{np.ceil(peak.ulp * 100) / 100:.2f}", str(peak.x)
    return f"{peak.ulp:.1e}", str(peak.x)


def record(way, worst):
    """The errors of a way as the JSON file has them; JSON knows no infinity."""
    about = {"function": way.function, "library": way.library, "how": way.how}
    for name, peak in worst._asdict().items():
        about[name] = {"ulp": peak.ulp if math.isfinite(peak.ulp) else str(peak.ulp), "x": str(peak.x)}
    return about


def parse(arguments):
    """Checked options."""
    parser = argparse.ArgumentParser("python -m benchmarks.every_float", description="Errors over all float32 numbers.")
    add = parser.add_argument
    functions, libraries = list(EXACT), list(LIBRARIES)
    add("--functions", nargs="+", choices=functions, default=functions, metavar="NAME", help=", ".join(functions))
    add("--libraries", nargs="+", choices=libraries, default=libraries, metavar="NAME", help=", ".join(libraries))
    add("--stride", type=int, default=1, metavar="N", help="try every N-th bit pattern only; an odd N tells most")
    add("--json", type=Path, metavar="FILE", help="write the errors")
    options = parser.parse_args(arguments)
    if options.stride < 1:
        parser.error(f"--stride: must be at least 1, got {options.stride}")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: no folder {options.json.parent}")
    return options


if __name__ == "__main__":
    sys.exit(main())
