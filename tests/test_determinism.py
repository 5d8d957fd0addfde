"""Large work on several threads: the same bits for every number of them, from many Python threads, after a fork."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import minnet as mn
from minnet import functional as F

ROWS, CLASSES = 5000, 100  # several chunks, the last one smaller


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    mn.set_num_threads(None)


def data(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, (ROWS, CLASSES)).astype(dtype)
    labels = rng.integers(0, CLASSES, ROWS)
    soft = rng.dirichlet(np.ones(CLASSES), ROWS).astype(dtype)
    return x, labels, np.clip(soft, 0, 1), rng.random(ROWS)


def step(optimizer, x):
    w, g = x.reshape(-1).copy(), x[::-1].reshape(-1).copy()
    for _ in range(3):
        optimizer.step(w, g)
    return w


WORK = {
    "sigmoid": lambda x, y, t, w: F.sigmoid(x),
    "tanh": lambda x, y, t, w: F.tanh(x),
    "slope": lambda x, y, t, w: F.value_and_slope("sigmoid", x)[1],
    "softmax": lambda x, y, t, w: F.softmax(x),
    "log_softmax": lambda x, y, t, w: F.log_softmax(x),
    "cross_entropy": lambda x, y, t, w: F.cross_entropy(x, y, return_grad=True),
    "cross_entropy, weighted": lambda x, y, t, w: F.cross_entropy(x, y, sample_weight=w, return_grad=True),
    "cross_entropy, each": lambda x, y, t, w: F.cross_entropy(x, y, reduction="none"),
    "cross_entropy, soft": lambda x, y, t, w: F.cross_entropy(x, t, return_grad=True),
    "bce": lambda x, y, t, w: F.binary_cross_entropy_with_logits(x, t, sample_weight=w, return_grad=True),
    "bce, light": lambda x, y, t, w: F.binary_cross_entropy_with_logits(
        x, t, sample_weight=w.astype(x.dtype), return_grad=True
    ),
    "mse": lambda x, y, t, w: F.mse_loss(x, t, return_grad=True),
    "momentum": lambda x, y, t, w: step(mn.SGD(0.1, momentum=0.9, nesterov=True), x),
    "Adam": lambda x, y, t, w: step(mn.Adam(0.1), x),
    "AdamW, clipped": lambda x, y, t, w: step(mn.AdamW(0.1, clip_norm=1.0), x),
    "RMSprop": lambda x, y, t, w: step(mn.RMSprop(0.1, momentum=0.9, centered=True), x),
}


def bits(result):
    return [np.asarray(part).tobytes() for part in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(WORK))
def test_bits_do_not_depend_on_the_number_of_threads(name, dtype):
    arguments = data(dtype)
    results = []
    for threads in (1, 2, 3, 8):
        mn.set_num_threads(threads)
        results.append(bits(WORK[name](*arguments)))
    assert all(result == results[0] for result in results[1:])


def test_chunks_agree_with_rows_taken_alone():
    x, labels, _, _ = data(np.float32)
    losses, grad = F.cross_entropy(x, labels, reduction="none", return_grad=True)
    for row in (0, 1311, 1312, 4999):
        loss, alone = F.cross_entropy(x[row : row + 1], labels[row : row + 1], reduction="none", return_grad=True)
        assert loss[0] == losses[row]
        np.testing.assert_array_equal(alone[0], grad[row])


def test_many_python_threads_at_once():
    mn.set_num_threads(2)
    arguments = data(np.float32)
    expected, found = bits(WORK["cross_entropy"](*arguments)), []
    threads = [threading.Thread(target=lambda: found.append(bits(WORK["cross_entropy"](*arguments)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * 8


FORK = """
import os, sys, numpy as np, minnet as mn
mn.set_num_threads(3)
x = np.random.default_rng(0).normal(size=(5000, 100)).astype(np.float32)
def work():
    return [mn.functional.softmax(x).tobytes() for _ in range(5)]
before = work()
child = os.fork()
after = work()
if child == 0:
    os._exit(0 if after == before else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or after != before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_parent_and_child_are_both_busy_after_a_fork():
    result = subprocess.run([sys.executable, "-c", FORK], timeout=60, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1, "weight": True}, {"gamma": 1.5}, {"probabilities": True, "gamma": 2.0}]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_gradients_that_go_past_the_caches_are_the_same_bits(dtype, options, in_place):
    """17 MB, of rows that do not begin at a line of the cache; one row of seven counts nowhere."""
    rng, options = np.random.default_rng(1), dict(options)
    rows, classes = 17_000_000 // (1001 * np.dtype(dtype).itemsize), 1001
    z = rng.normal(0, 4, (rows, classes)).astype(dtype)
    t = rng.integers(0, classes, rows)
    if options.pop("probabilities", False):
        t = F.softmax(rng.normal(size=(rows, classes)).astype(dtype))
    if "weight" in options:
        options["weight"] = rng.random(classes)
    sample_weight = rng.random(rows) * (np.arange(rows) % 7 > 0)
    each = {"reduction": "none", "return_grad": True, **options}
    parts = [slice(start, start + 97) for start in range(0, rows, 97)]
    wanted = [F.cross_entropy(z[part], t[part], sample_weight=sample_weight[part], **each) for part in parts]
    out = z if in_place else np.empty_like(z)
    losses, grad = F.cross_entropy(z, t, sample_weight=sample_weight, out=out, **each)
    assert grad is out
    assert np.array_equal(losses, np.concatenate([part[0] for part in wanted]))
    assert np.array_equal(grad, np.concatenate([part[1] for part in wanted]))
