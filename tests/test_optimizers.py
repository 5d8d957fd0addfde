"""Optimizers: first steps worked by hand, ten steps of training beside torch, state between steps, bad settings."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import minnet as mn

DATA = Path(__file__).with_name("data")
DTYPES = ["float32", "float64"]
STEPS_TOLERANCE = {"float32": 1e-6, "float64": 1e-12}  # relative to the largest entry of each parameter array
CASES = ["sgd", "sgd-momentum", "sgd-nesterov", "sgd-weight_decay", "adam", "adam-weight_decay"]
STATEFUL = {"momentum": lambda: mn.SGD(0.1, momentum=0.9), "adam": lambda: mn.Adam(0.1)}


# ---- worked by hand: w = (1, -2), first gradient (0.5, 1), second (1, -1) ----

HAND = {
    "sgd": (mn.SGD(lr=0.1), [0.95, -2.1], [0.85, -2.0]),
    # v = (0.5, 1), then 0.5 v + (1, -1) = (1.25, -0.5)
    "momentum": (mn.SGD(lr=0.1, momentum=0.5), [0.95, -2.1], [0.825, -2.05]),
    # d + 0.5 v = (0.75, 1.5), then (1, -1) + 0.5 (1.25, -0.5) = (1.625, -1.25)
    "nesterov": (mn.SGD(lr=0.1, momentum=0.5, nesterov=True), [0.925, -2.15], [0.7625, -2.025]),
    # d = (0.5, 1) + 0.1 (1, -2) = (0.6, 0.8), then (1, -1) + 0.1 (0.94, -2.08) = (1.094, -1.208)
    "weight_decay": (mn.SGD(lr=0.1, weight_decay=0.1), [0.94, -2.08], [0.8306, -1.9592]),
    # v = d = (0.6, 0.8), then 0.5 v + (1.094, -1.208) = (1.394, -0.808)
    "momentum, weight_decay": (mn.SGD(lr=0.1, momentum=0.5, weight_decay=0.1), [0.94, -2.08], [0.8006, -1.9992]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HAND)
def test_two_steps_of_sgd_are_those_worked_by_hand(name, dtype):
    optimizer, first, second = HAND[name]
    optimizer.state.clear()  # the same object serves both dtypes
    w = np.array([1, -2], dtype)
    optimizer.step(w, np.array([0.5, 1], dtype))
    np.testing.assert_allclose(w, first, rtol=10 * np.finfo(dtype).eps)
    optimizer.step(w, np.array([1, -1], dtype))
    np.testing.assert_allclose(w, second, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_first_step_of_adam_is_lr_g_over_abs_g_plus_eps(dtype):
    # m' = g and v' = g^2; eps = 0.5 is large enough to show that it stands outside the root, next to the corrected v'
    w = np.array([1, -2], dtype)
    mn.Adam(lr=0.1, eps=0.5).step(w, np.array([0.5, -2], dtype))
    np.testing.assert_allclose(w, [1 - 0.1 * 0.5 / 1, -2 + 0.1 * 2 / 2.5], rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_first_step_of_adam_has_size_lr_to_rounding(dtype):
    # from 0 the step stands alone; a share 1 - beta that was rounded before it was subtracted would show here
    w = np.zeros(2, dtype)
    mn.Adam(lr=0.125, betas=(0.9, 0.999), eps=1e-30).step(w, np.array([0.5, -3], dtype))
    np.testing.assert_allclose(w, [-0.125, 0.125], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_second_step_of_adam_is_the_one_worked_by_hand(dtype):
    # beta1 = 0.5: m' = (0.25 + 1) 0.5 / 0.75; beta2 = 0.75: v' = (0.75 * 0.25 * 0.25 + 0.25) / (1 - 0.5625)
    optimizer, w = mn.Adam(lr=0.1, betas=(0.5, 0.75), eps=0.5), np.array([1], dtype)
    optimizer.step(w, np.array([0.5], dtype))
    optimizer.step(w, np.array([1], dtype))
    m, v = 0.625 / 0.75, 0.296875 / 0.4375
    np.testing.assert_allclose(w, 0.95 - 0.1 * m / (np.sqrt(v) + 0.5), rtol=10 * np.finfo(dtype).eps)


def test_weight_decay_of_adam_goes_through_the_means():
    w = np.array([3.0])
    mn.Adam(lr=0.1, eps=0.5, weight_decay=0.5).step(w, np.array([0.5]))  # d = 2
    np.testing.assert_allclose(w, 3 - 0.1 * 2 / 2.5, rtol=1e-15)


@pytest.mark.parametrize("make", [mn.SGD, mn.Adam], ids=["sgd", "adam"])
def test_learning_rate_0_moves_nothing(make):
    w = np.array([1.5, -2.5])
    make(lr=0).step(w, np.array([3.0, 4.0]))
    assert w.tolist() == [1.5, -2.5]


@pytest.mark.parametrize("length", [1, 3, 8, 17, 1000])
def test_every_entry_of_a_vector_of_any_length_is_updated(length, rng):
    w, g = rng.standard_normal(length), rng.standard_normal(length)
    expected = w - 0.1 * g
    mn.SGD(lr=0.1).step(w, g)
    np.testing.assert_allclose(w, expected, rtol=1e-15, atol=1e-15)


def test_gradients_are_not_written_to(rng):
    g = rng.standard_normal(5)
    before = g.copy()
    for optimizer in (mn.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1), mn.Adam(weight_decay=0.1)):
        optimizer.step(np.ones(5), g)
    np.testing.assert_array_equal(g, before)


# ---- beside torch ----


@pytest.fixture(scope="module")
def record():
    with np.load(DATA / "torch_steps.npz", allow_pickle=False) as file:
        record = dict(file)
    return record | json.loads(str(record.pop("settings")))


def net_of(record, dtype, params):
    net = mn.MLP(record["sizes"], activation="sigmoid", dtype=dtype)
    net.params[...] = params
    return net


def trained(record, case, dtype):
    net, loss = net_of(record, dtype, record["start"]), mn.CrossEntropyLoss()
    name, settings = record["cases"][case]
    optimizer, X = getattr(mn, name)(**settings), record["X"].astype(dtype)
    for _ in range(record["steps"]):
        net.backward(loss.value_and_grad(net.forward(X), record["y"])[1])
        optimizer.step(net.params, net.grads)
    return net


def assert_same_parameters(net, expected, tolerance):
    for (name, ours), (_, theirs) in zip(net.named_parameters(), expected.named_parameters(), strict=True):
        error = np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))
        assert error <= tolerance, f"{name}: {error:.3g}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_ten_steps_end_where_torch_ended(record, case, dtype):
    end = record[f"{case}.{dtype}"]
    assert end.dtype == dtype
    assert np.max(np.abs(end - record["start"])) > 0.1  # torch has moved
    assert_same_parameters(trained(record, case, dtype), net_of(record, dtype, end), STEPS_TOLERANCE[dtype])


def test_recorded_cases_are_those_tested(record):
    assert list(record["cases"]) == CASES
    assert record["torch"].startswith("2.13")
    assert record["steps"] == 10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_ten_steps_end_where_torch_ends_now(record, case, dtype):
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("make_torch_steps", DATA / "make_torch_steps.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    expected = net_of(record, dtype, script.train(case, dtype))
    assert_same_parameters(trained(record, case, dtype), expected, STEPS_TOLERANCE[dtype])


# ---- what is kept between steps ----


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
@pytest.mark.parametrize(
    ("shape", "dtype"), [(4, "float64"), (3, "float32"), (2, "float64")], ids=["longer", "float32", "shorter"]
)
def test_other_parameters_at_a_later_step_are_refused(make, shape, dtype):
    optimizer = make()
    optimizer.step(np.ones(3), np.ones(3))
    later = np.ones(shape, dtype)
    expected = rf"params must be as at the first step, \(3,\) of float64, got \(\({shape},\), '{dtype}'\)"
    with pytest.raises(ValueError, match=f"^{type(optimizer).__name__}: {expected} .one optimizer serves one model.$"):
        optimizer.step(later, np.ones(shape, dtype))
    assert np.all(later == 1)


def test_a_refused_step_is_not_counted():
    w, twin = np.array([1.0]), np.array([1.0])
    optimizer, other = mn.Adam(0.1), mn.Adam(0.1)
    optimizer.step(w, np.array([1.0]))
    with pytest.raises(ValueError, match="params must be as at the first step"):
        optimizer.step(np.ones(2), np.ones(2))
    optimizer.step(w, np.array([2.0]))
    for g in (1.0, 2.0):
        other.step(twin, np.array([g]))
    assert w == twin


def test_plain_sgd_keeps_nothing_and_serves_any_model():
    optimizer = mn.SGD(0.1)
    optimizer.step(np.ones(3), np.ones(3))
    optimizer.step(np.ones(5, np.float32), np.ones(5, np.float32))
    assert optimizer.state == {}


def test_two_optimizers_share_no_state():
    first, second = mn.SGD(0.1, momentum=0.9), mn.SGD(0.1, momentum=0.9)
    first.step(np.ones(3), np.ones(3))
    assert second.state == {}


READ_ONLY = np.ones(3)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("params", "grads", "error", "message"),
    [
        ([1.0], [1.0], TypeError, r"params must be a flat array of float32 or float64, got \[1.0\]"),
        (np.ones((2, 2)), np.ones(4), TypeError, "params must be a flat array of float32 or float64"),
        (np.ones(3, int), np.ones(3), TypeError, "params must be a flat array of float32 or float64"),
        (np.ones(3, np.float16), np.ones(3), TypeError, "params must be a flat array of float32 or float64"),
        (np.ones(6)[::2], np.ones(3), ValueError, "params must be writable and contiguous"),
        (READ_ONLY, np.ones(3), ValueError, "params must be writable and contiguous"),
        (np.ones(3), np.ones(4), ValueError, r"grads must be \(3,\) of float64, got \(\(4,\), 'float64'\)"),
        (np.ones(3), np.ones(3, np.float32), ValueError, r"grads must be \(3,\) of float64, got .*'float32'"),
        (np.ones(3), np.ones(3, complex), TypeError, "grads must hold real numbers, got dtype complex128"),
    ],
    ids=["list", "matrix", "integers", "float16", "strided", "read-only", "grads longer", "grads float32", "complex"],
)
@pytest.mark.parametrize("optimizer", [mn.SGD(0.1, momentum=0.9), mn.Adam()], ids=["sgd", "adam"])
def test_unfit_vectors_are_refused(optimizer, params, grads, error, message):
    with pytest.raises(error, match=f"^{type(optimizer).__name__}: {message}"):
        optimizer.step(params, grads)
    assert np.all(np.asarray(params) == 1)


# ---- settings ----

BAD = {
    "negative lr": (lambda: mn.SGD(-0.1), ValueError, "SGD: lr must be a finite number >= 0, got -0.1"),
    "negative lr, adam": (lambda: mn.Adam(lr=-1), ValueError, "Adam: lr must be a finite number >= 0, got -1"),
    "nan lr": (lambda: mn.SGD(float("nan")), ValueError, "SGD: lr must be a finite number >= 0, got nan"),
    "infinite lr": (lambda: mn.Adam(float("inf")), ValueError, "Adam: lr must be a finite number >= 0, got inf"),
    "lr a string": (lambda: mn.SGD("0.1"), TypeError, "SGD: lr must be a number, got '0.1'"),
    "lr a bool": (lambda: mn.Adam(True), TypeError, "Adam: lr must be a number, got True"),
    "lr None": (lambda: mn.SGD(None), TypeError, "SGD: lr must be a number, got None"),
    "momentum above 1": (lambda: mn.SGD(momentum=1.5), ValueError, "SGD: momentum must be .* <= 1, got 1.5"),
    "negative momentum": (lambda: mn.SGD(momentum=-0.5), ValueError, "SGD: momentum must be .* >= 0 and .*, got -0.5"),
    "nesterov alone": (lambda: mn.SGD(nesterov=True), ValueError, "SGD: nesterov needs a momentum above 0, got 0.0"),
    "negative decay": (lambda: mn.SGD(weight_decay=-1), ValueError, "SGD: weight_decay must be .* >= 0, got -1"),
    "negative decay, adam": (lambda: mn.Adam(weight_decay=-1), ValueError, "Adam: weight_decay must be .*, got -1"),
    "beta of 1": (lambda: mn.Adam(betas=(0.9, 1)), ValueError, r"Adam: betas must be less than 1, got \(0.9, 1\)"),
    "negative beta": (lambda: mn.Adam(betas=(-0.1, 0.9)), ValueError, r"Adam: betas\[0\] must be .* >= 0 .*, got -0.1"),
    "beta above 1": (lambda: mn.Adam(betas=(0.9, 1.1)), ValueError, r"Adam: betas\[1\] must be .* <= 1, got 1.1"),
    "one beta": (lambda: mn.Adam(betas=0.9), TypeError, "Adam: betas must be two numbers, got 0.9"),
    "three betas": (lambda: mn.Adam(betas=(0.1, 0.2, 0.3)), TypeError, r"Adam: betas must be two numbers, got \(0"),
    "beta a string": (lambda: mn.Adam(betas=("a", 0.9)), TypeError, r"Adam: betas\[0\] must be a number, got 'a'"),
    "eps 0": (lambda: mn.Adam(eps=0), ValueError, "Adam: eps must be a finite number > 0, got 0"),
    "negative eps": (lambda: mn.Adam(eps=-1e-8), ValueError, "Adam: eps must be a finite number > 0, got -1e-08"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused_by_name_and_value(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_numpy_numbers_are_taken_as_settings():
    assert mn.SGD(np.float32(0.5)).lr == 0.5
    assert mn.Adam(np.int64(1), betas=np.array([0.5, 0.75])).betas == (0.5, 0.75)


def test_repr_names_the_settings():
    assert re.fullmatch(r"SGD\(lr=0\.5, momentum=0\.9\)", repr(mn.SGD(0.5, momentum=0.9)))
    assert repr(mn.Adam(0.01)) == "Adam(lr=0.01)"
