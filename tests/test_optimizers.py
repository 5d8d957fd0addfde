"""Optimizers: first steps worked by hand, steps of training beside torch, groups, clipping, state, bad settings."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import minnet as mn

DATA = Path(__file__).with_name("data")
DTYPES = ["float32", "float64"]
STEPS_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # relative to the largest entry of each parameter array
CASES = [
    "sgd",
    "sgd-momentum",
    "sgd-nesterov",
    "sgd-weight_decay",
    "sgd-clip_norm",
    "sgd-clip_value",
    "sgd-groups",
    "sgd-decay_biases",
    "adam",
    "adam-weight_decay",
    "adam-groups",
    "adamw",
    "adamw-weight_decay",
    "adamw-decay_biases",
    "rmsprop",
    "rmsprop-momentum",
    "rmsprop-centered",
    "rmsprop-centered-alone",
]
EVERY = {"sgd": mn.SGD, "adam": mn.Adam, "adamw": mn.AdamW, "rmsprop": mn.RMSprop}
STATEFUL = {
    "momentum": lambda: mn.SGD(0.1, momentum=0.9),
    "adam": lambda: mn.Adam(0.1),
    "adamw": lambda: mn.AdamW(0.1),
    "rmsprop": lambda: mn.RMSprop(0.1, momentum=0.9, centered=True),
}


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_decay_of_adamw_goes_beside_the_means(dtype):
    # d = g = 0.5, whatever w is; then w shrinks by 0.1 * 0.5 of itself
    w = np.array([3], dtype)
    mn.AdamW(lr=0.1, eps=0.5, weight_decay=0.5).step(w, np.array([0.5], dtype))
    np.testing.assert_allclose(w, 3 - 0.05 * 3 - 0.1 * 0.5 / 1, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_steps_of_rmsprop_are_those_worked_by_hand(dtype):
    # alpha = 0.75: s = 0.25 * 4 = 1, then 0.75 + 0.25 * 9 = 3; v = 2 / (1 + 0.5), then 0.5 v + 3 / (sqrt(3) + 0.5)
    optimizer, w = mn.RMSprop(lr=0.1, alpha=0.75, eps=0.5, momentum=0.5), np.array([1], dtype)
    optimizer.step(w, np.array([2], dtype))
    v = 2 / 1.5
    np.testing.assert_allclose(w, 1 - 0.1 * v, rtol=10 * np.finfo(dtype).eps)
    optimizer.step(w, np.array([3], dtype))
    np.testing.assert_allclose(w, 1 - 0.1 * v - 0.1 * (0.5 * v + 3 / (np.sqrt(3) + 0.5)), rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_centered_rmsprop_divides_by_the_variance(dtype):
    # gradients 2 and 3 with alpha = 0.75: means of squares 1 and 3, means 0.5 and 1.125, so variances 0.75 and 1.734375
    optimizer, w = mn.RMSprop(lr=0.1, alpha=0.75, eps=0.5, centered=True), np.array([0], dtype)
    first = -0.1 * 2 / (np.sqrt(0.75) + 0.5)
    for g, expected in ((2, first), (3, first - 0.1 * 3 / (np.sqrt(1.734375) + 0.5))):
        optimizer.step(w, np.array([g], dtype))
        np.testing.assert_allclose(w, expected, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_variance_of_a_gradient_that_hardly_changes_does_not_cancel(dtype):
    # The variance of 1000 +- 2^-8 is near 2^-16; the mean square, near 10^6, has no such digit in float32.
    optimizer, w, wiggle = mn.RMSprop(lr=0, alpha=0.5, centered=True), np.zeros(1, dtype), 2.0**-8
    mean = square = 0.0
    for step in range(200):
        g = 1000 + wiggle * (-1) ** step
        optimizer.step(w, np.array([g], dtype))
        apart = g - mean
        mean, square = mean + 0.5 * apart, 0.5 * (square + 0.5 * apart**2)
    assert square == pytest.approx(wiggle**2 * 8 / 9, rel=1e-6)  # in the end m = 1000 +- wiggle / 3
    np.testing.assert_allclose(optimizer.state["square"], square, rtol=1e-2 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
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
    decay = {"weight_decay": 0.1}
    for optimizer in (mn.SGD(0.1, momentum=0.9, nesterov=True, **decay), mn.Adam(**decay), mn.RMSprop(**decay)):
        optimizer.step(np.ones(5), g)
    for clip in ({"clip_norm": 0.1}, {"clip_value": 0.1}):
        mn.SGD(0.1, **clip).step(np.ones(5), g)
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
    optimizer.assign(net.named_parameters())
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
def test_a_hundred_steps_end_where_torch_ended(record, case, dtype):
    end = record[f"{case}.{dtype}"]
    assert end.dtype == dtype
    assert np.max(np.abs(end - record["start"])) > 0.1  # torch has moved
    assert_same_parameters(trained(record, case, dtype), net_of(record, dtype, end), STEPS_TOLERANCE[dtype])


def test_recorded_cases_are_those_tested(record):
    assert list(record["cases"]) == CASES
    assert record["torch"].startswith("2.13")
    assert record["steps"] == 100


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_a_hundred_steps_end_where_torch_ends_now(record, case, dtype):
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
    "adamw": (lambda: mn.AdamW(betas=(0.9, 1)), ValueError, r"AdamW: betas must be less than 1, got \(0.9, 1\)"),
    "alpha of 1": (lambda: mn.RMSprop(alpha=1), ValueError, "RMSprop: alpha must be less than 1, got 1"),
    "negative alpha": (lambda: mn.RMSprop(alpha=-0.5), ValueError, "RMSprop: alpha must be .* >= 0 .*, got -0.5"),
    "eps of rmsprop": (lambda: mn.RMSprop(eps=0), ValueError, "RMSprop: eps must be a finite number > 0, got 0"),
    "momentum, rmsprop": (lambda: mn.RMSprop(momentum=2), ValueError, "RMSprop: momentum must be .* <= 1, got 2"),
    "clip_norm 0": (lambda: mn.SGD(clip_norm=0), ValueError, "SGD: clip_norm must be a finite number > 0, got 0"),
    "clip_value nan": (lambda: mn.SGD(clip_value=float("nan")), ValueError, "SGD: clip_value must be .*, got nan"),
    "clip_value text": (lambda: mn.Adam(clip_value="1"), TypeError, "Adam: clip_value must be a number, got '1'"),
    "both clips": (lambda: mn.SGD(clip_norm=1, clip_value=1), ValueError, r"SGD: clip_norm and .*, got \(1, 1\)"),
    "groups a list": (lambda: mn.SGD(groups=["0.W"]), TypeError, r"SGD: groups must be a dict of dicts, got \['0.W'\]"),
    "group a number": (lambda: mn.SGD(groups={"0": 0.1}), TypeError, "SGD: groups must be a dict of dicts, got"),
    "group's name": (lambda: mn.SGD(groups={0: {}}), TypeError, "SGD: a group must have a name, got 0 .such as '0'"),
    "group's lr": (lambda: mn.SGD(groups={"0": {"lr": -1}}), ValueError, "SGD: lr must be .* >= 0, got -1"),
    "group's decay": (
        lambda: mn.SGD(groups={"0": {"weight_decay": "1"}}),
        TypeError,
        "SGD: weight_decay must be a num",
    ),
    "group's momentum": (
        lambda: mn.SGD(groups={"0": {"momentum": 1}}),
        ValueError,
        "SGD: a setting of group '0' must be one of 'lr', 'weight_decay', got 'momentum'",
    ),
    "lr a class": (lambda: mn.SGD(dict), TypeError, "SGD: lr must be a number, got <class 'dict'>"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused_by_name_and_value(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_numpy_numbers_are_taken_as_settings():
    assert mn.SGD(np.float32(0.5)).lr == 0.5
    assert mn.Adam(np.int64(1), betas=np.array([0.5, 0.75])).betas == (0.5, 0.75)


@pytest.mark.parametrize("lr", [-1, float("nan"), "0.1", None])
def test_a_bad_rate_is_refused_when_it_is_set_later(lr):
    optimizer = mn.SGD(0.1)
    with pytest.raises((ValueError, TypeError), match=r"^SGD: lr must be a "):
        optimizer.lr = lr
    assert optimizer.rate == optimizer.lr == 0.1


# ---- groups ----


def grouped(groups, make=mn.SGD, **settings):
    """The changes of the parameters 0.W, 0.b, 2.W, 2.b (all 1) by a step, all gradients being 1."""
    net = mn.MLP([2, 3, 1], dtype="float64")
    net.params[...], net.grads[...] = 1, 1
    optimizer = make(1.0, groups=groups, **settings)
    optimizer.assign(net.named_parameters())
    optimizer.step(net.params, net.grads)
    changes = [np.unique(1 - array) for _, array in net.named_parameters()]
    assert all(len(change) == 1 for change in changes)
    return [float(change[0]) for change in changes]


@pytest.mark.parametrize(
    ("groups", "changes"),
    [
        ({}, [1, 1, 1, 1]),
        ({"0.W": {"lr": 0.5}}, [0.5, 1, 1, 1]),
        ({"0": {"lr": 0.5}}, [0.5, 0.5, 1, 1]),
        ({"0.b": {"lr": 0.0}, "2": {"lr": 0.25}}, [1, 0, 0.25, 0.25]),
        ({"2": {"lr": 0.5}, "2.W": {"lr": 0.25}}, [1, 1, 0.25, 0.5]),
        ({"2.W": {"lr": 0.25}, "2": {"lr": 0.5}}, [1, 1, 0.25, 0.5]),
        ({"0": {"weight_decay": 0.5}}, [1.5, 1.5, 1, 1]),
    ],
    ids=str,
)
def test_a_group_has_its_own_settings(groups, changes):
    assert grouped(groups) == changes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
def test_a_group_of_rate_0_stays_to_the_bit(make, dtype, rng):
    net = mn.MLP([3, 4, 2], dtype=dtype, seed=0)
    before = net.params.copy()
    optimizer = make(0.1, weight_decay=0.1, groups={"0": {"lr": 0}})
    optimizer.assign(net.named_parameters())
    for _ in range(3):
        optimizer.step(net.params, rng.standard_normal(net.size).astype(dtype))
    np.testing.assert_array_equal(net.params[:16], before[:16])
    assert np.all(net.params[16:] != before[16:])


def test_biases_do_not_decay_if_told():
    assert grouped({}, weight_decay=0.5, decay_biases=False) == [1.5, 1, 1.5, 1]
    assert grouped({"0": {"weight_decay": 2}}, weight_decay=0.5, decay_biases=False) == [3, 1, 1.5, 1]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_large_groups_are_updated_as_small_ones(make, threads, rng):
    size = 150_000
    names = [("0.W", np.empty((size, 2))), ("0.b", np.empty(7)), ("2.W", np.empty((size, 1)))]
    w, g = rng.standard_normal((2, 3 * size + 7))
    whole, parts = w.copy(), w.copy()
    plain, split = make(), make()
    split.groups = {"0": {"lr": 0.1}, "2": {"lr": 0.1}}
    split.assign(names)
    mn.set_num_threads(threads)
    try:
        for _ in range(2):
            plain.step(whole, g)
            split.step(parts, g)
    finally:
        mn.set_num_threads(None)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("name", ["1", "1.W", "0.w", "0.W.x", "W", ""])
def test_a_group_that_names_nothing_is_refused(name):
    optimizer = mn.SGD(0.1, groups={"0": {}, name: {"lr": 0.5}})
    expected = rf"SGD: groups must name parameters of the model \(0.W, 0.b\) or begin as they do, got {name!r}"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        optimizer.assign(mn.MLP([3, 2]).named_parameters())


def test_groups_need_names():
    for settings in ({"groups": {"0": {"lr": 1}}}, {"decay_biases": False}):
        with pytest.raises(ValueError, match=r"^SGD: groups and decay_biases=False need assign\(.*, got no names"):
            mn.SGD(0.1, **settings).step(np.ones(3), np.ones(3))


def test_other_parameters_than_those_assigned_are_refused():
    optimizer = mn.SGD(0.1, decay_biases=False)
    optimizer.assign(mn.MLP([3, 2]).named_parameters())
    with pytest.raises(ValueError, match=r"^SGD: params must have the 8 entries that assign was told of, got 3"):
        optimizer.step(np.ones(3), np.ones(3))


# ---- clipping ----


def clipped(g, dtype="float64", **clip):
    """The gradient that a step sees."""
    w = np.zeros(len(g), dtype)
    mn.SGD(1.0, **clip).step(w, np.array(g, dtype))
    return -w


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_norm_scales_the_whole_gradient(dtype):
    np.testing.assert_allclose(clipped([3, -4], dtype, clip_norm=1), [0.6, -0.8], rtol=4 * np.finfo(dtype).eps)
    assert clipped([3, -4], dtype, clip_norm=5).tolist() == [3, -4]
    assert clipped([0.3, -0.4], dtype, clip_norm=1).tolist() == np.array([0.3, -0.4], dtype).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_value_clips_each_entry(dtype):
    assert clipped([3, -4, 0.5, 0], dtype, clip_value=1).tolist() == [1, -1, 0.5, 0]


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1e-30), ("float32", 1e30), ("float64", 1e-200), ("float64", 1e200)]
)
def test_squares_that_leave_the_range_do_not_spoil_the_norm(dtype, size):
    g = np.array([3 * size, -4 * size], dtype)
    np.testing.assert_allclose(clipped(g, dtype, clip_norm=size), [0.6 * size, -0.8 * size], rtol=1e-6)
    assert clipped(g, dtype, clip_norm=6 * size).tolist() == g.tolist()


def test_the_norm_of_many_small_entries_is_exact(rng):
    g = rng.standard_normal(100_000).astype("float32")
    exact = np.linalg.norm(g.astype("float64"))
    np.testing.assert_allclose(np.linalg.norm(clipped(g, "float32", clip_norm=1).astype("float64")), 1, rtol=1e-6)
    np.testing.assert_allclose(clipped(g, "float32", clip_norm=1), g / exact, rtol=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_clipping_does_not_hide_what_is_not_finite(value):
    assert clipped([1.0, value], clip_norm=0.5).tolist() == pytest.approx([1.0, value], nan_ok=True)
    assert np.isnan(clipped([1.0, np.nan], clip_value=0.5)[1])


def test_a_gradient_of_zeros_is_not_scaled():
    assert clipped([0.0, 0.0], clip_norm=1).tolist() == [0, 0]


# ---- where vectors lie ----


def placed(values, offset):
    """A copy that begins so many elements after a line of the cache."""
    memory = np.empty(values.nbytes + 64 + offset * values.itemsize, np.uint8)
    start = -memory.ctypes.data % 64 + offset * values.itemsize
    copy = memory[start : start + values.nbytes].view(values.dtype)
    copy[:] = values
    return copy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [lambda: mn.SGD(0.1), *STATEFUL.values()], ids=["sgd", *STATEFUL])
def test_no_bit_depends_on_where_a_vector_begins(make, dtype, rng):
    values, g = rng.standard_normal((2, 40_000)).astype(dtype)
    results = set()
    for offset in range(8):
        w, optimizer = placed(values, offset), make()
        optimizer.step(w, g)
        optimizer.step(w, placed(g, offset // 2))
        results.add(w.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("offset", [0, 1, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_remembered_lies_in_lines_of_the_cache_as_the_parameters_do(dtype, offset):
    w, first, second = placed(np.ones(9, dtype), offset), mn.Adam(), mn.Adam()
    first.step(w, w)
    second.set_state(first.get_state(), w)
    for optimizer in (first, second):
        assert {(v.ctypes.data - w.ctypes.data) % 64 for v in optimizer.state.values()} == {0}
        assert all(v.flags.aligned and v.dtype == w.dtype for v in optimizer.state.values())


# ---- saved and restored ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_an_optimizer_with_the_state_of_another_goes_on_as_it_would(make, dtype, rng):
    first, second, w = make(), make(), rng.standard_normal(5).astype(dtype)
    gradients = rng.standard_normal((6, 5)).astype(dtype)
    for g in gradients[:3]:
        first.step(w, g)
    first.end_epoch()
    twin = w.copy()
    second.set_state(first.get_state(), twin)
    assert second.epochs == 1
    for g in gradients[3:]:
        first.step(w, g)
        second.step(twin, g)
    np.testing.assert_array_equal(w, twin)


def test_the_state_before_the_first_step_is_taken_too():
    optimizer = mn.Adam()
    optimizer.set_state(mn.Adam().get_state(), np.ones(3))
    optimizer.step(np.ones(3), np.ones(3))


WRONG_STATES = {
    "nothing": (lambda s: None, TypeError, "state must be what get_state gave, got None"),
    "key missing": (lambda s: {"kind": "Adam"}, TypeError, "state must be what get_state gave"),
    "another optimizer": (lambda s: s | {"kind": "SGD"}, ValueError, "kind must be one of 'Adam', got 'SGD'"),
    "negative steps": (lambda s: s | {"steps": -1}, ValueError, "steps must be at least 0, got -1"),
    "float steps": (lambda s: s | {"steps": 1.5}, TypeError, "steps must be an integer, got 1.5"),
    "epochs a string": (lambda s: s | {"epochs": "1"}, TypeError, "epochs must be an integer, got '1'"),
    "no vectors": (lambda s: s | {"vectors": {}}, ValueError, r"vectors must be \['mean', 'square'\], got {}"),
    "vectors a list": (lambda s: s | {"vectors": []}, ValueError, r"vectors must be \['mean', 'square'\], got \[\]"),
    "short": (
        lambda s: s | {"vectors": {"mean": np.ones(2), "square": np.ones(3)}},
        ValueError,
        r"mean must be \(3,\)",
    ),
    "float32": (
        lambda s: s | {"vectors": {"mean": np.ones(3), "square": np.ones(3, "f")}},
        ValueError,
        r"square must be \(3,\) of float64",
    ),
    "number": (lambda s: s | {"vectors": {"mean": 1.0, "square": 2.0}}, ValueError, r"mean must be \(3,\) of float64"),
    "schedules": (lambda s: s | {"schedules": [None]}, ValueError, r"schedules must be 0 states, got \[None\]"),
}


@pytest.mark.parametrize(("change", "error", "message"), WRONG_STATES.values(), ids=WRONG_STATES)
def test_an_unfit_state_is_refused_and_changes_nothing(change, error, message):
    optimizer = mn.Adam()
    optimizer.step(np.ones(3), np.ones(3))
    state, other = change(optimizer.get_state()), mn.Adam()
    with pytest.raises(error, match=f"^Adam.set_state: {message}"):
        other.set_state(state, np.ones(3))
    assert (other.state, other.steps, other.epochs) == ({}, 0, 0)


def test_repr_names_the_settings():
    assert re.fullmatch(r"SGD\(lr=0\.5, momentum=0\.9\)", repr(mn.SGD(0.5, momentum=0.9)))
    assert repr(mn.Adam(0.01)) == "Adam(lr=0.01)"
    assert repr(mn.AdamW(mn.schedules.Cosine(0.5, epochs=3))) == "AdamW(lr=Cosine(lr=0.5, epochs=3, end=0.0))"
    assert repr(mn.RMSprop(0.01, momentum=0.5)) == "RMSprop(lr=0.01, momentum=0.5)"
