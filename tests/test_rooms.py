"""Rooms: steps of the layers make no arrays after the first epoch, and nobody finds an array of theirs overwritten."""

import copy
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minnet as mn
from minnet._rooms import Rooms, room

DTYPES = ["float32", "float64"]
OPTIMIZERS = {"sgd": lambda: mn.SGD(0.1), "clipped": lambda: mn.SGD(0.1, clip_norm=0.1), "adam": lambda: mn.Adam(0.01)}
NETS = {
    "relu": lambda dtype: mn.MLP([40, 64, 48, 3], activation="relu", dtype=dtype, seed=0),
    "sigmoid": lambda dtype: mn.MLP([40, 64, 48, 3], activation="sigmoid", dtype=dtype, seed=0),
    "dropout": lambda dtype: mn.Sequential(
        [mn.Linear(40, 64, dtype=dtype), mn.Tanh(), mn.Dropout(0.3), mn.Linear(64, 3, dtype=dtype)], seed=0
    ),
    "apart": lambda dtype: mn.Sequential(
        [mn.Dropout(0.1), mn.Softplus(), mn.Linear(40, 64, dtype=dtype), mn.Linear(64, 3, dtype=dtype)], seed=0
    ),
}


class Watch:
    """Someone at the side of every batch, for whom the layers run: what steps have allocated, at their peaks."""

    def __init__(self):
        self.peaks = []

    def on_batch_begin(self, run):
        tracemalloc.reset_peak()
        self.before = tracemalloc.get_traced_memory()[0]

    def on_batch_end(self, run):
        self.peaks.append(tracemalloc.get_traced_memory()[1] - self.before)


class Keep:
    """Calls a function with the run after every batch, and keeps what it gives."""

    def __init__(self, function):
        self.function, self.kept = function, []

    def on_batch_end(self, run):
        self.kept.append(self.function(run))


def data(dtype="float32", rows=300):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 40)).astype(dtype), rng.integers(0, 3, rows)


def run(net, X=None, y=None, callbacks=None, **options):
    """The history of a run by layers; the last batch of an epoch, of 44 rows, is smaller."""
    X, y = data(net.dtype) if X is None else (X, y)
    options = {"loss": "cross_entropy", "optimizer": mn.SGD(0.1), "epochs": 2, "batch_size": 128, "seed": 0} | options
    history = mn.fit(net, X, y, callbacks=[Watch()] if callbacks is None else callbacks, **options)
    assert history.path == "layers"
    return history


def by_hand(net, X, y, loss, optimizer, epochs=2, size=128):
    """What `fit` does, in arrays that are made anew for every step; outputs of all batches."""
    rng, kept = np.random.default_rng(0), []
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size):
            rows = order[start : start + size]
            kept.append(net.forward(X[rows], rng))
            net.backward_params(loss.value_and_grad(kept[-1], y[rows])[1])
            optimizer.step(net.params, net.grads)
        optimizer.end_epoch({})
    return kept


# ---- what a step allocates ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("net", NETS)
def test_steps_allocate_nothing_after_the_first_epoch(net, optimizer, dtype):
    watch = Watch()
    tracemalloc.start()
    try:
        run(NETS[net](dtype), optimizer=OPTIMIZERS[optimizer](), epochs=3, callbacks=[watch])
    finally:
        tracemalloc.stop()
    steady = watch.peaks[3:]
    # A batch of 128 x 64 floats is 32 kB. Casts of numpy, from bool, go through 8 kB, however long the arrays are.
    assert max(steady) < (16_000 if net in ("dropout", "apart") else 4_000), watch.peaks


@pytest.mark.parametrize("loss", ["bce", "mse", "huber", "l1", mn.CrossEntropyLoss(label_smoothing=0.1)])
def test_gradients_of_losses_have_rooms(loss):
    rng, watch = np.random.default_rng(0), Watch()
    X, t = rng.standard_normal((300, 40)).astype("f"), rng.random((300, 500)).astype("f")
    tracemalloc.start()
    try:
        run(mn.MLP([40, 500], seed=0), X, t / t.sum(axis=1, keepdims=True), loss=loss, epochs=3, callbacks=[watch])
    finally:
        tracemalloc.stop()
    assert max(watch.peaks[3:]) < 8_000 < 128 * 500 * 4


def test_samples_of_another_dtype_are_cast_in_a_room():
    X, y = data("float64")
    watch, batches = Watch(), [(X[:128], y[:128]), (X[128:200], y[128:200])]
    tracemalloc.start()
    try:
        run(mn.MLP([40, 3], seed=0), batches, None, epochs=3, callbacks=[watch])
    finally:
        tracemalloc.stop()
    assert max(watch.peaks[2:]) < 4_000 < 128 * 40 * 4


# ---- the same numbers ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", NETS)
def test_rooms_change_no_bit(net, optimizer, dtype):
    trained, twin, (X, y) = NETS[net](dtype), NETS[net](dtype), data(dtype)
    run(trained, optimizer=OPTIMIZERS[optimizer]())
    by_hand(twin, X, y, mn.CrossEntropyLoss(), OPTIMIZERS[optimizer]())
    np.testing.assert_array_equal(trained.params, twin.params)
    np.testing.assert_array_equal(trained.grads, twin.grads)


def test_batches_may_grow_shrink_and_be_of_any_dtype():
    X, y = data("float64")
    sizes = [5, 1, 90, 17, 90, 97]
    ends = np.cumsum(sizes)
    batches = [
        (X[end - size : end].astype("f" if i % 2 else "d"), y[end - size : end])
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    net, twin, loss, optimizer = NETS["relu"]("float32"), NETS["relu"]("float32"), mn.CrossEntropyLoss(), mn.SGD(0.1)
    run(net, batches, None)
    for x, target in batches * 2:
        twin.backward_params(loss.value_and_grad(twin.forward(x), target)[1])
        optimizer.step(twin.params, twin.grads)
    np.testing.assert_array_equal(net.params, twin.params)


# ---- who sees the arrays ----


def test_metrics_may_keep_what_they_see():
    kept = []

    def collected(outputs, target):
        kept.append((outputs, target))
        return 0.0

    net, twin, (X, y) = NETS["relu"]("float32"), NETS["relu"]("float32"), data()
    run(net, metrics=[collected])
    expected = by_hand(twin, X, y, mn.CrossEntropyLoss(), mn.SGD(0.1))
    for (outputs, _), z in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(outputs, z)
    assert sorted(np.concatenate([target for _, target in kept[:3]])) == sorted(y)


def test_a_callback_may_use_the_net_and_keep_its_outputs():
    X, y = data()
    net, twin, quiet = NETS["dropout"]("float32"), NETS["dropout"]("float32"), mn.CrossEntropyLoss()

    def used(run):
        gradient = quiet.value_and_grad(z := run.net.forward(X[:50]), y[:50])[1]
        return z, z.copy(), gradient, gradient.copy()

    keep = Keep(used)
    run(net, callbacks=[keep])
    run(twin)
    np.testing.assert_array_equal(net.params, twin.params)
    for z, z_then, gradient, gradient_then in keep.kept:
        np.testing.assert_array_equal(z, z_then)
        np.testing.assert_array_equal(gradient, gradient_then)


def test_a_callback_may_train_another_net():
    inner, alone, outer, twin = (NETS["relu"]("float32") for _ in range(4))
    run(outer, callbacks=[Keep(lambda _: run(inner, epochs=1))])
    run(twin)
    np.testing.assert_array_equal(outer.params, twin.params)
    for _ in range(6):
        run(alone, epochs=1)
    np.testing.assert_array_equal(inner.params, alone.params)


class Within(mn.Layer):
    """A layer that trains a net while it computes, and that calls a layer of its own twice."""

    def __init__(self):
        self.linear, self.net = mn.Linear(64, 64, seed=5), NETS["relu"]("float32")
        self.shapes = {}

    def forward(self, x, rng=None):
        once = self.linear.forward(x)
        before = once.copy()
        twice = self.linear.forward(once)
        run(self.net, epochs=1)
        np.testing.assert_array_equal(once, before)
        return once + twice

    def backward(self, dy):
        return dy


def test_a_layer_may_call_others_and_train_nets():
    nets = [mn.Sequential([mn.Linear(40, 64), Within(), mn.ReLU(), mn.Linear(64, 3)], seed=0) for _ in range(2)]
    run(nets[0])
    by_hand(nets[1], *data(), mn.CrossEntropyLoss(), mn.SGD(0.1))
    np.testing.assert_array_equal(nets[0].params, nets[1].params)


def test_outside_of_fit_every_array_is_new():
    net, (X, y) = NETS["dropout"]("float32"), data()
    run(net)
    loss, rng = mn.CrossEntropyLoss(), np.random.default_rng(0)
    first = net.forward(X, rng)
    outputs, gradient = first.copy(), loss.value_and_grad(first, y)[1]
    dx, then = net.backward(gradient), gradient.copy()
    kept = dx.copy()
    second = net.forward(X[::-1].copy(), rng)
    net.backward(loss.value_and_grad(second, y)[1])
    np.testing.assert_array_equal(first, outputs)
    np.testing.assert_array_equal(gradient, then)
    np.testing.assert_array_equal(dx, kept)
    assert not any(np.shares_memory(first, a) for a in (second, gradient, dx))


def test_after_an_error_in_a_step_arrays_are_new():
    class Fails:
        def __call__(self, x, t):
            return 0.0

        def value_and_grad(self, x, t):
            raise RuntimeError("no gradient today")

    net, (X, _) = NETS["relu"]("float32"), data()
    with pytest.raises(RuntimeError, match="today"):
        run(net, loss=Fails())
    assert not np.shares_memory(net.forward(X), net.forward(X))


def test_copies_carry_no_rooms():
    net = NETS["relu"]("float32")
    run(net)
    size = 3 * net.params.nbytes  # parameters, gradients, and some room for objects
    tracemalloc.start()
    try:
        twin = copy.deepcopy(net)
        assert tracemalloc.get_traced_memory()[0] < size
    finally:
        tracemalloc.stop()
    assert not {"_x", "_factor"} & set().union(*(layer.__dict__ for layer in twin.layers))


@pytest.mark.parametrize("dtype", ["float16", "int32", ">f4", "list"])
def test_outputs_of_any_dtype_have_gradients(dtype):
    class Gives:
        params, grads, seen = np.zeros(1), np.zeros(1), None

        def forward(self, x, rng=None):
            return x[:, :1].tolist() if dtype == "list" else x[:, :1].astype(dtype)

        def backward_params(self, dy):
            self.seen = dy

    net, (X, _) = Gives(), data()
    run(net, np.round(X), np.zeros((300, 1)), loss="mse", batch_size=300, shuffle=False)
    np.testing.assert_allclose(net.seen, np.round(X[:, :1]) * 2 / 300, rtol=1e-6)


# ---- rooms themselves ----


def test_rooms_are_handed_on_from_step_to_step():
    rooms, steps = Rooms(), []
    for rows in (4, 4, 3, 5):
        with rooms:
            steps.append(
                [room((rows, 2), np.dtype("f4")), room((rows, 2), np.dtype("f4")), room((rows,), np.dtype("f8"))]
            )
    first, second, fewer, more = steps
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert all(np.shares_memory(a, b) and b.flags.c_contiguous for a, b in zip(first, fewer, strict=True))
    assert not any(np.shares_memory(a, b) for a, b in zip(first, more, strict=True))
    assert [a.shape for a in fewer + more] == [(3, 2), (3, 2), (3,), (5, 2), (5, 2), (5,)]
    assert not np.shares_memory(*first[:2])


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3, 4)])
def test_rooms_of_any_shape_follow_each_other(shape):
    rooms = Rooms()
    for asked in (shape, (3,), shape, (4, 3), shape, shape):
        with rooms:
            assert room(asked, np.dtype("f4")).shape == asked
        with rooms:
            assert room(asked, np.dtype("f8")).dtype == np.float64


def test_another_thread_has_no_rooms():
    rooms = Rooms()
    with rooms, ThreadPoolExecutor(1) as pool:
        own = room((3,), np.dtype("f4"))
        assert pool.submit(room, (3,), np.dtype("f4")).result() is not own
        assert rooms.asked == 1
    net, (X, _) = NETS["relu"]("float32"), data()
    expected = net.forward(X)
    with ThreadPoolExecutor(2) as pool:
        for outputs in pool.map(net.forward, [X] * 20):
            np.testing.assert_array_equal(outputs, expected)
