"""Who is measured.

Each module with_<library> has ``contenders(threads)``, a dict: the names of what it brings to the contest, and for each
a dict of functions by operation, which take a problem (see cases.py) and give a Job.

What a peer can prepare, reuse or write in place is prepared, reused or written in place before the clock starts. Where
a library offers several ways, the fastest one stands here.
"""

import importlib
import sys
from collections import namedtuple

import numpy as np

from benchmarks.results import OURS

LIBRARIES = {  # modules with_..., and the names that they go by
    "minnet": OURS,
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "torch_compile": "torch.compile",
    "jax": "jax",
    "sklearn": "scikit-learn",
    "fann": "FANN",
}

# `run` is what is timed; `read` makes a tuple of arrays, the answer, from what the last run returned, or is None where
# there is no answer.
Job = namedtuple("Job", "run read")


def load(threads, without=()):
    """Contenders by name, versions of their libraries, and a phrase for each library that is not here."""
    contenders, versions, missing = {}, {}, {}
    for module, name in LIBRARIES.items():
        if name in without:
            continue
        try:
            contenders |= importlib.import_module(f"benchmarks.contenders.with_{module}").contenders(threads)
        except Exception as error:  # absent or broken: a peer that does not load must not end the run
            if name == OURS:
                raise
            missing[str(error)] = None  # a dict, as torch and torch.compile are absent for one reason
        else:
            versions |= {name: sys.modules[module].__version__} if module in sys.modules else {}
    return contenders, versions, list(missing)


def yardstick(case):
    """A copy that reads and writes as many bytes as the case cannot help but move; numpy's copy uses one thread."""
    source = np.ones(case.bytes // 2, np.uint8)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)
