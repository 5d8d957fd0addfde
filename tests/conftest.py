"""Shared by all tests: floating-point errors raise, as warnings do (see pyproject); examples run once."""

import contextlib
import functools
import os
import runpy
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minnet._threads import run_chunks, set_num_threads

USUAL_FLOATS = {"all": "warn", "under": "ignore"}  # numpy's own, in which examples run


@pytest.fixture(autouse=True)
def _strict_floats():
    with np.errstate(all="raise"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def busy_helper():
    """A context, for two threads, in which the only helper of the pool is busy: who asks for it gets it too late."""

    @contextlib.contextmanager
    def busy(wait=20):
        set_num_threads(2)
        begun, go_on = threading.Barrier(3, timeout=wait), threading.Event()

        def block(start, stop):
            begun.wait()
            go_on.wait(wait)

        blocker = threading.Thread(target=run_chunks, args=(block, 2, 1))
        blocker.start()
        begun.wait()
        try:
            yield
        finally:
            go_on.set()
            blocker.join()

    return busy


@functools.cache
def _run_example(name):
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context(), pytest.MonkeyPatch.context() as patch, np.errstate(**USUAL_FLOATS):
        pyplot.switch_backend("Agg")
        patch.setattr(pyplot, "show", lambda: None)
        names = runpy.run_path(str(Path(__file__).parents[1] / "examples" / f"{name}.py"))
        figures = len(pyplot.get_fignums())
        pyplot.close("all")
    return SimpleNamespace(**(names | {"figures": figures}))


@pytest.fixture
def experiment():
    """A function from the name of an example, such as "plot_saturation", to the names that it leaves behind.

    It runs once in all tests, with matplotlib's Agg; `figures` says how many figures it drew.
    """
    return _run_example


def pytest_collection_modifyitems(items):
    if "MINNET_DATA" not in os.environ:
        skip = pytest.mark.skip(reason="set MINNET_DATA to a folder with MNIST's IDX files")
        for item in items:
            if "mnist" in item.keywords:
                item.add_marker(skip)
