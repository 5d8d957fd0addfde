"""A linear layer and its cross-entropy in one equals the two one after the other, and trains the same net."""

import tracemalloc

import numpy as np
import pytest

import minnet as mn
from minnet import functional as F
from minnet.functional import _linear, _product

N, I, C = 41, 6, 90  # noqa: E741


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of 7 rows and panels of 16 classes, so that small cases have several, and a last one that is smaller."""
    monkeypatch.setattr(_linear, "BLOCK", C * 8 * 7)
    monkeypatch.setattr(_product, "PANEL", I * 8 * 16)


def case(rng, dtype=np.float64, soft=False):
    x, W, b = rng.normal(size=(N, I)), rng.normal(size=(I, C)), rng.normal(size=C)
    target = F.softmax(rng.normal(size=(N, C))) if soft else rng.integers(0, C, N)
    return x.astype(dtype), W.astype(dtype), target, b.astype(dtype)


OPTIONS = {
    "plain": {},
    "weight": {"weight": np.arange(C) % 3},
    "sample_weight": {"sample_weight": np.arange(N) % 4},
    "ignore_index": {"ignore_index": 7},
    "smoothing": {"label_smoothing": 0.2},
    "gamma": {"gamma": 1.5},
    "sum": {"reduction": "sum"},
    "batchmean": {"reduction": "batchmean"},
    "none": {"reduction": "none"},
    "grad_output": {"reduction": "none", "grad_output": np.linspace(-1, 2, N)},
    "number as grad_output": {"grad_output": -2.5},
    "all": {"weight": np.arange(C) % 3, "label_smoothing": 0.1, "gamma": 2, "sample_weight": np.arange(N) % 2},
}


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_equals_the_two_one_after_the_other(options, soft, rng):
    x, W, target, b = case(rng, soft=soft)
    options = {name: value for name, value in options.items() if not (soft and name == "ignore_index")}
    want, dz = F.cross_entropy(x @ W + b, target, return_grad=True, **options)
    value, (dx, dW, db) = F.linear_cross_entropy(x, W, target, b, return_grad=True, **options)
    np.testing.assert_allclose(value, want, rtol=1e-12)
    for got, wanted in [(dx, dz @ W.T), (dW, x.T @ dz), (db, dz.sum(axis=0))]:
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13 * np.abs(dz).sum())
    if "grad_output" not in options:
        np.testing.assert_array_equal(F.linear_cross_entropy(x, W, target, b, **options), value)


@pytest.mark.usefixtures("blocks")
def test_without_biases(rng):
    x, W, target, b = case(rng)
    value, (dx, dW, db) = F.linear_cross_entropy(x, W, target, return_grad=True)
    want, (want_dx, want_dW, _) = F.linear_cross_entropy(x, W, target, 0 * b, return_grad=True)
    assert db is None
    assert value == want
    np.testing.assert_array_equal(dx, want_dx)
    np.testing.assert_array_equal(dW, want_dW)


def test_gradients_go_where_they_are_wanted(rng):
    x, W, target, b = case(rng, np.float32)
    out = np.full_like(x, 9), np.full_like(W, 9), np.full_like(b, 9)
    value, grads = F.linear_cross_entropy(x, W, target, b, return_grad=True, out=out)
    assert all(g is o for g, o in zip(grads, out, strict=True))
    assert (value, grads[1].tolist()) == (
        F.linear_cross_entropy(x, W, target, b),
        F.linear_cross_entropy(x, W, target, b, return_grad=True)[1][1].tolist(),
    )


def test_gradients_may_be_written_over_the_inputs(rng):
    x, W, target, b = case(rng)
    want = F.linear_cross_entropy(x, W, target, b, return_grad=True)
    value, grads = F.linear_cross_entropy(x, W, target, b, return_grad=True, out=(x, W, b))
    assert value == want[0]
    for got, wanted in zip(grads, want[1], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_of_nothing_is_0(rng):
    _, W, _, b = case(rng)
    value, (dx, dW, db) = F.linear_cross_entropy(np.empty((0, I)), W, np.empty(0, int), b, return_grad=True)
    assert (value, dx.shape) == (0, (0, I))
    assert not dW.any()
    assert not db.any()


def test_the_logits_never_exist_whole(rng):
    x, W = rng.normal(size=(2000, 8)).astype(np.float32), rng.normal(size=(8, 30_000)).astype(np.float32)
    target = rng.integers(0, 30_000, 2000)
    F.linear_cross_entropy(x[:40], W, target[:40], return_grad=True)
    tracemalloc.start()
    try:
        F.linear_cross_entropy(x, W, target, return_grad=True)
        assert tracemalloc.get_traced_memory()[1] < 100e6 < x.itemsize * len(x) * W.shape[1]
    finally:
        tracemalloc.stop()


WRONG = {
    "W of other rows": (lambda x, W, t, b: (x, W[1:], t, b), rf"W must have shape \({I}, C\).*got \({I - 1}, {C}\)"),
    "b of another length": (lambda x, W, t, b: (x, W, t, b[1:]), rf"b must have shape \({C},\).*got \({C - 1},\)"),
    "label = C": (lambda x, W, t, b: (x, W, np.where(np.arange(N) == 3, C, t), b), f"got {C} in row 3"),
    "x of one dimension": (lambda x, W, t, b: (x[0], W, t, b), "x must have shape"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_bad_input_is_refused_and_nothing_written(change, message, rng):
    x, W, target, b = case(rng)
    out = np.full_like(x, 9), np.full_like(W, 9), np.full_like(b, 9)
    with pytest.raises(ValueError, match=f"^linear_cross_entropy: .*{message}"):
        F.linear_cross_entropy(*change(x, W, target, b), return_grad=True, out=out)
    assert all((o == 9).all() for o in out)


@pytest.mark.parametrize("out", [np.empty(3), (None, None), (1, 2, 3), [1, 2, 3]], ids=str)
def test_bad_out_is_refused(out, rng):
    x, W, target, b = case(rng)
    with pytest.raises((ValueError, TypeError), match=r"^linear_cross_entropy: out must be"):
        F.linear_cross_entropy(x, W, target, b, return_grad=True, out=out)


# ---- the layer that is its own loss ----


def nets(**options):
    head = mn.LinearCrossEntropy(12, 10, dtype=np.float64, **options)
    body = [mn.Linear(64, 12, dtype=np.float64), mn.Tanh()]
    plain = [mn.Linear(64, 12, dtype=np.float64), mn.Tanh(), mn.Linear(12, 10, dtype=np.float64)]
    return mn.Sequential([*body, head], seed=3), head, mn.Sequential(plain, seed=3), mn.CrossEntropyLoss(**options)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"gamma": 2.0}, {"weight": np.arange(10) + 1.0}], ids=str
)
def test_training_with_it_equals_training_without(options):
    X, y = mn.datasets.digits()
    net, head, twin, loss = nets(**options)
    settings = {"epochs": 3, "batch_size": 50, "seed": 1, "validation_data": (X[:100], y[:100])}
    with_it = mn.fit(net, X, y, loss=head, optimizer=mn.SGD(lr=0.3, momentum=0.5), **settings)
    without = mn.fit(twin, X, y, loss=loss, optimizer=mn.SGD(lr=0.3, momentum=0.5), **settings)
    np.testing.assert_allclose(net.params, twin.params, rtol=1e-9, atol=1e-12)
    for name in ("loss", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(with_it[name], without[name], rtol=1e-10)
    np.testing.assert_allclose(net.predict_proba(X), twin.predict_proba(X), rtol=1e-8)


def test_it_is_saved_with_its_options(tmp_path):
    net = nets(label_smoothing=0.25)[0]
    mn.save(net, tmp_path / "net.npz")
    again = mn.load(tmp_path / "net.npz")
    assert again.layers[-1].label_smoothing == again.layers[-1].loss.label_smoothing == 0.25
    np.testing.assert_array_equal(again.params, net.params)


def test_a_gradient_of_logits_is_refused():
    net = nets()[0]
    net.forward(np.ones((2, 64)), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^LinearCrossEntropy\.backward: dy must be the gradient of the input"):
        net.backward(np.ones((2, 10)))
