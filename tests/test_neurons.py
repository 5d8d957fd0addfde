"""Many neurons at once: each is what train_neuron makes of it, in either dtype, in the tails, on any threads."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from minnet import get_num_threads, lab, set_num_threads
from minnet.lab import neurons, run_neurons, run_perceptrons, train_neuron

DTYPES = ["float32", "float64"]
POWERS = {"mse": 2, "bce": 0, "mae": 1, "quartic": 4}  # of the error; 0: cross-entropy
LOSSES = list(POWERS)
TARGETS = [0.0, 1.0, 0.3]
NAMES = "w", "b", "output", "loss"

by_loss = pytest.mark.parametrize("loss", LOSSES)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def starts(rng, n, dtype="float32", loss=None):
    """Weights, biases, inputs, targets and rates of n neurons, numbers that either dtype holds.

    Large steps of equal length from side to side of a target are chaotic: with "mae" rates are small."""
    low_high = (-6, 6), (-6, 6), (-2, 2), (0, 1), (0.01, 0.05 if loss == "mae" else 1.5)
    w, b, x, y, lr = (rng.uniform(*pair, n).astype("float32").astype(dtype) for pair in low_high)
    return w, b, x, y, lr


def twins(loss, w, b, x, y, lr, epochs=300):
    """The trajectories of train_neuron, all neurons in one numpy array, in float64; one object a neuron."""
    w, b, x, y, lr = (np.array(a, np.float64) for a in np.broadcast_arrays(w, b, x, y, lr))
    path = []
    for _ in range(epochs + 1):
        z = w * x + b
        a = 1 / (1 + np.exp(-z))
        power = POWERS[loss]
        cost = np.abs(a - y) ** power / power if power else np.logaddexp(0, z) - y * z
        path.append((w, b, a, cost))
        dz = np.abs(a - y) ** (power - 1) * np.sign(a - y) * a * (1 - a) if power else a - y
        w, b = w - lr * x * dz, b - lr * dz
    rows = np.array(path).transpose(2, 1, 0)
    return [SimpleNamespace(**dict(zip(NAMES, row, strict=True)), y=t) for row, t in zip(rows, y, strict=True)]


def first(condition):
    return float(np.argmax(condition)) if condition.any() else np.nan


# ---- each is what train_neuron makes of it ----


def test_every_loss_of_the_lab_is_known():
    assert list(neurons.POWERS) == list(lab.LOSSES)
    assert {name: getattr(cost, "power", 0) for name, cost in lab.LOSSES.items()} == neurons.POWERS


@by_loss
def test_the_twin_is_train_neuron(loss, rng):
    parameters = starts(rng, 20, loss=loss)
    for row, twin in zip(zip(*parameters, strict=True), twins(loss, *parameters), strict=True):
        one = train_neuron(*map(float, row[:4]), loss, float(row[4]))
        for name in NAMES:
            np.testing.assert_allclose(getattr(twin, name), getattr(one, name), rtol=1e-11, atol=1e-15, err_msg=name)


@by_dtype
@by_loss
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("plateau", [None, 0.01])
def test_ends_equal_those_of_train_neuron(plateau, target, loss, dtype, rng):
    w, b, x, _, lr = starts(rng, 300, dtype, loss)
    run = run_neurons(w, b, x, target, loss, lr=lr, plateau=plateau, dtype=dtype)
    twin = twins(loss, w, b, x, np.float64(target), lr)
    rtol, atol = (1e-5, 1e-5) if dtype == "float32" else (1e-12, 1e-13)
    for name in ("w", "b", "output"):
        want = [getattr(one, name)[-1] for one in twin]
        assert getattr(run, name).dtype == dtype
        np.testing.assert_allclose(getattr(run, name), want, rtol=rtol, atol=atol, err_msg=name)


@by_loss
@pytest.mark.parametrize("plateau", [None, 0.01])
@pytest.mark.parametrize("targets", ["certain", "any"])
def test_epochs_equal_those_of_train_neuron(targets, plateau, loss, rng):
    w, b, x, y, lr = starts(rng, 300)
    y = np.round(y) if targets == "certain" else y
    twin = twins(loss, w, b, x, y, lr)
    run = run_neurons(w, b, x, y, loss, lr=lr, plateau=plateau, threshold=0.2, dtype="float64")
    np.testing.assert_array_equal(run.epochs, [first(np.abs(one.output - one.y) < 0.2) for one in twin])
    np.testing.assert_array_equal(run.epochs_to_halve, [first(one.loss <= one.loss[0] / 2) for one in twin])
    assert 20 < np.isnan(run.epochs_to_halve).sum() < 280


@by_loss
@pytest.mark.parametrize("targets", ["certain", "any"])
def test_epochs_in_float32_differ_only_where_rounding_decides(targets, loss, rng):
    w, b, x, y, lr = starts(rng, 300)
    y = np.round(y) if targets == "certain" else y
    run = run_neurons(w, b, x, y, loss, lr=lr, threshold=0.2)
    for i, one in enumerate(twins(loss, w, b, x, y, lr)):
        ratios = {"epochs": np.abs(one.output - one.y) / 0.2, "epochs_to_halve": 2 * one.loss / one.loss[0]}
        for name, ratio in ratios.items():
            earliest, latest = first(ratio < 1 + 1e-5), first(ratio < 1 - 1e-5)
            epochs = getattr(run, name)[i]
            assert earliest <= epochs <= latest or (np.isnan(latest) and not epochs < earliest), (name, i)


@pytest.mark.parametrize(
    ("loss", "start", "halved"),
    [("mse", (2, 2), 212), ("mse", (0.6, 0.9), 29), ("bce", (2, 2), 8), ("bce", (0.6, 0.9), 6)],
)
@by_dtype
def test_the_known_neurons(dtype, loss, start, halved):
    run = run_neurons(*start, loss=loss, dtype=dtype)
    assert run.epochs_to_halve == halved
    assert run.w.shape == run.epochs.shape == ()


@by_dtype
@by_loss
@pytest.mark.parametrize("target", TARGETS)
def test_path_equals_that_of_train_neuron(target, loss, dtype, rng):
    w, b, x, _, lr = starts(rng, 20, dtype, loss)
    record = [0, 0, 1, 17, 60]
    run = run_neurons(w, b, x, target, loss, lr=lr, epochs=60, record=record, dtype=dtype)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    for i, one in enumerate(twins(loss, w, b, x, target, lr, 60)):
        for name in ("w", "b", "output"):
            path = getattr(run, f"path_{name}")
            np.testing.assert_allclose(path[i], getattr(one, name)[record], rtol=rtol, atol=rtol, err_msg=name)
    np.testing.assert_array_equal(run.path_w[:, -1], run.w)
    np.testing.assert_array_equal(run.path_w[:, 0], w.astype(dtype))


@by_dtype
@by_loss
def test_recording_changes_nothing(loss, dtype, rng):
    arguments = starts(rng, 500)
    for y in (0.0, arguments[3]):
        plain, recorded = (
            run_neurons(*arguments[:3], y, loss, lr=arguments[4], epochs=90, record=record, dtype=dtype)
            for record in ((), range(0, 91, 7))
        )
        for name in ("w", "b", "output", "epochs", "epochs_to_halve"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(recorded, name), err_msg=name)


def longest_run(flat):
    return max((len(list(group)) for is_flat, group in itertools.groupby(flat) if is_flat), default=0)


@by_dtype
@by_loss
@pytest.mark.parametrize("tolerance", [0.002, 0.05])
def test_plateau_is_the_longest_run_of_small_falls(tolerance, loss, dtype, rng):
    w, b, x, y, lr = starts(rng, 300)
    y[:150] = np.round(y[:150])
    run = run_neurons(w, b, x, y, loss, lr=lr, plateau=tolerance, dtype=dtype)
    slack, compared = 1e-5 if dtype == "float32" else 1e-12, []
    for i, one in enumerate(twins(loss, w, b, x, y, lr)):
        sure = loss == "bce" or (loss == "mae" and one.y in (0, 1))
        if sure or np.min(np.abs(one.output - one.y)) > 0.01:  # nearer, the fall of an error is all rounding
            left = one.loss[1:] / one.loss[:-1]
            low, high = (longest_run(left > 1 - tolerance + s) for s in (slack, -slack))
            assert low <= run.plateau[i] <= high, i
            compared.append(run.plateau[i])
    assert len(set(compared)) > 30


@by_dtype
def test_a_plateau_may_come_first_and_end(dtype):
    run, one = run_neurons(2.0, 2.0, plateau=0.001, dtype=dtype), train_neuron(2.0, 2.0)
    left = one.loss[1:] / one.loss[:-1]
    assert run.plateau == np.argmin(left > 0.999) == 117


@by_dtype
@by_loss
def test_a_cost_that_rises_or_stands_is_on_a_plateau(loss, dtype):
    """From 0.3 to a target of 0.5, with a rate that throws the output from side to side, further each time."""
    lr = 4000 if loss == "quartic" else 40
    run = run_neurons(0.0, -0.8, 1.0, 0.5, loss, lr=lr, plateau=0.1, epochs=6)
    one = train_neuron(0.0, -0.8, 1.0, 0.5, loss, lr=lr, epochs=6)
    assert run.plateau == longest_run(one.loss[1:] > 0.9 * one.loss[:-1]) > 1
    assert run_neurons(2.0, 2.0, 1.0, 0.0, loss, lr=0, plateau=0.1, epochs=9, dtype=dtype).plateau == 9


# ---- tails ----


def exact_slope(z, y, loss):
    """dC/dz for a start so far out that it does not move in 300 epochs, in float64."""
    e = np.exp(-np.abs(z))
    a = (e if z < 0 else 1) / (1 + e)
    error = -e / (1 + e) if y == 1 and z > 0 else a - y
    slope = e / (1 + e) ** 2
    return error if loss == "bce" else np.abs(error) ** (POWERS[loss] - 1) * np.sign(error) * slope


@pytest.mark.parametrize("plateau", [None, 0.5])
@pytest.mark.parametrize("z", [-100.0, -95.0, -88.0, -50.0, -20.0, 20.0, 50.0, 88.0, 95.0, 100.0])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_saturated_neurons_move_by_the_sum_of_their_tiny_steps(y, loss, z, plateau):
    """In float32, down to subnormal gradients; added one by one to z, every step would be lost."""
    if loss == "bce" and (z > 0) != (y == 1):
        return  # far from saturated
    run = run_neurons(0.0, z, 1.0, y, loss, lr=0.125, plateau=plateau)
    want = -300 * 0.125 * exact_slope(np.float64(z), y, loss)
    assert run.w != 0 or abs(want) < 1e-43
    np.testing.assert_allclose(run.w, want, rtol=1e-4, atol=300 * 1e-45)
    assert np.isnan(run.epochs_to_halve)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_saturated_right_neurons_have_their_exact_output(y):
    run = run_neurons(0.0, 95.0 if y else -95.0, 1.0, 0.0, "bce", epochs=0)
    np.testing.assert_allclose(run.output, 1.0 if y else np.exp(-95.0), rtol=1e-4)


@by_dtype
def test_confidently_wrong_cross_entropy_halves_where_it_should(dtype):
    """Cost 50 is 25 at z = 25, where the output still rounds to 1 in float32."""
    run = run_neurons(0.0, 50.0, 1.0, 0.0, "bce", lr=0.26, dtype=dtype)
    assert run.epochs_to_halve == 49
    assert run_neurons(0.0, 50.0, 1.0, 0.0, "bce", lr=0.26, plateau=0.5, dtype=dtype).epochs_to_halve == 49


def test_a_rate_beyond_reason_gives_no_nan():
    run = run_neurons([5.0, -5.0], 1.0, 1.0, [0, 1], "bce", lr=1e38)
    assert not np.isnan(run.w).any()
    assert run.output.tolist() == [0.0, 1.0]


# ---- places, threads, shapes ----


@by_dtype
@by_loss
@pytest.mark.parametrize("plateau", [None, 0.01])
def test_no_neuron_depends_on_its_neighbours(plateau, loss, dtype, rng):
    w, b, x, y, lr = starts(rng, 600)
    y = np.round(y)
    together = run_neurons(w, b, x, y, loss, lr=lr, plateau=plateau, dtype=dtype)
    for i in (0, 1, 255, 256, 599):
        alone = run_neurons(w[i], b[i], x[i], y[i], loss, lr=lr[i], plateau=plateau, dtype=dtype)
        assert (alone.w, alone.b, alone.output) == (together.w[i], together.b[i], together.output[i])


@by_loss
@pytest.mark.parametrize("plateau", [None, 0.01])
def test_results_are_bit_identical_for_every_number_of_threads(plateau, loss, rng, monkeypatch):
    monkeypatch.setattr(neurons, "CHUNK", 256 * 300)
    before = get_num_threads()
    runs = []
    try:
        w, b, x, y, lr = starts(rng, 3000)
        for threads in (1, 2, 5):
            set_num_threads(threads)
            runs.append(run_neurons(w, b, x, np.round(y), loss, lr=lr, record=[7, 100], plateau=plateau))
    finally:
        set_num_threads(before)
    monkeypatch.undo()
    runs.append(run_neurons(w, b, x, np.round(y), loss, lr=lr, record=[7, 100], plateau=plateau))
    for run in runs[1:]:
        for name in ("w", "b", "output", "epochs", "epochs_to_halve", "plateau", "path_w", "path_b", "path_output"):
            np.testing.assert_array_equal(getattr(run, name), getattr(runs[0], name), err_msg=name)


def test_parameters_are_broadcast():
    w, b = np.linspace(-3, 3, 7)[:, None], np.linspace(-2, 2, 5)
    run = run_neurons(w, b, [[1.0]], 0, lr=0.5, record=[0, 3], plateau=0.1)
    for name in ("w", "b", "output", "epochs", "epochs_to_halve", "plateau"):
        assert getattr(run, name).shape == (7, 5)
    assert run.path_w.shape == run.path_b.shape == run.path_output.shape == (7, 5, 2)
    one = run_neurons(w[4, 0], b[1], lr=0.5)
    assert (run.w[4, 1], run.output[4, 1]) == (one.w, one.output)
    assert repr(run).endswith("of 35 neurons came near their target)")


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 1000])
def test_any_number_of_neurons(n, rng):
    w, b, x, y, lr = starts(rng, n)
    run = run_neurons(w, b, x, y, lr=lr, epochs=3, record=[1])
    assert run.w.shape == (n,)
    assert run.path_w.shape == (n, 1)
    want = [one.w[-1] for one in twins("mse", w, b, x, y, lr, 3)]
    np.testing.assert_allclose(run.w, want, rtol=1e-6, atol=1e-6)


def test_without_epochs_nothing_moves():
    run = run_neurons([2.0, -5.0], [1.0, 1.0], epochs=0, plateau=0.1)
    np.testing.assert_array_equal(run.w, [2, -5])
    np.testing.assert_array_equal(run.epochs, [np.nan, 0])
    np.testing.assert_array_equal(run.plateau, [0, 0])
    assert run_neurons(0.5, 0.5, epochs=0).plateau is None


def test_inputs_of_any_kind_are_taken_and_not_written_to(rng):
    w, b = rng.normal(size=(40, 3))[::2, 1], np.arange(20)
    kept = w.copy()
    w.flags.writeable = False
    run = run_neurons(w, b, 1, True, lr=np.float16(0.5), epochs=20)
    np.testing.assert_array_equal(w, kept)
    np.testing.assert_array_equal(b, np.arange(20))
    np.testing.assert_array_equal(run.w, run_neurons(list(w), list(b), 1.0, 1.0, lr=0.5, epochs=20).w)


# ---- several inputs and samples ----


def perceptrons(rng, shape=(40,), inputs=3, samples=5, shared=False, loss=None):
    own = () if shared else shape
    w, b = rng.uniform(-3, 3, (*shape, inputs)), rng.uniform(-3, 3, shape)
    x, y = rng.uniform(-2, 2, (*own, samples, inputs)), rng.random((*own, samples)).round(1)
    lr = rng.uniform(0.01, 0.05 if loss == "mae" else 1.5, shape)
    return tuple(a.astype("float32").astype(float) for a in (w, b, x, y, lr))


def perceptron_twin(loss, w, b, x, y, lr, epochs):
    """One neuron, in float64: weights, biases, outputs and costs of all epochs."""
    power, path = POWERS[loss], []
    for _ in range(epochs + 1):
        z = x @ w + b
        a = 1 / (1 + np.exp(-z))
        costs = np.abs(a - y) ** power / power if power else np.logaddexp(0, z) - y * z
        path.append((w, b, a, costs.mean()))
        dz = np.abs(a - y) ** (power - 1) * np.sign(a - y) * a * (1 - a) if power else a - y
        w, b = w - lr * x.T @ dz / len(y), b - lr * dz.mean()
    return SimpleNamespace(**{name: np.array(part) for name, part in zip(NAMES, zip(*path, strict=True), strict=True)})


@by_dtype
@by_loss
@pytest.mark.parametrize("shared", [True, False])
def test_perceptrons_descend_the_mean_over_their_samples(shared, loss, dtype, rng):
    w, b, x, y, lr = perceptrons(rng, shared=shared, loss=loss)
    record = [0, 0, 1, 17]
    run = run_perceptrons(w, b, x, y, loss, lr=lr, epochs=60, threshold=0.4, plateau=0.01, record=record, dtype=dtype)
    exact, rtol = dtype == "float64", 2e-5 if dtype == "float32" else 1e-11
    assert run.w.dtype == run.path_output.dtype == run.epochs.dtype == dtype
    for i in range(40):
        samples = (x, y) if shared else (x[i], y[i])
        one = perceptron_twin(loss, w[i], b[i], *samples, lr[i], 60)
        for name in ("w", "b", "output"):
            np.testing.assert_allclose(getattr(run, name)[i], getattr(one, name)[-1], rtol=rtol, atol=rtol)
            path = getattr(run, f"path_{name}")[i]
            np.testing.assert_allclose(path, getattr(one, name)[record], rtol=rtol, atol=rtol)
        if exact:
            worst = np.max(np.abs(one.output - samples[1]), axis=1)
            np.testing.assert_equal(run.epochs[i], first(worst < 0.4))
            np.testing.assert_equal(run.epochs_to_halve[i], first(one.loss <= one.loss[0] / 2))
            left = one.loss[1:] / one.loss[:-1]
            low, high = (longest_run(left > 0.99 + s) for s in (1e-9, -1e-9))
            assert low <= run.plateau[i] <= high


@by_dtype
@by_loss
@pytest.mark.parametrize("plateau", [None, 0.01])
def test_one_input_and_one_sample_are_a_neuron(plateau, loss, dtype, rng):
    w, b, x, y, lr = starts(rng, 300, dtype, loss)
    options = {"lr": lr, "plateau": plateau, "record": [3], "dtype": dtype, "threshold": 0.2}
    many = run_perceptrons(w[:, None], b, x[:, None, None], y[:, None], loss, **options)
    run = run_neurons(w, b, x, y, loss, **options)
    rtol = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(many.w[:, 0], run.w, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(many.path_output[:, :, 0], run.path_output, rtol=rtol, atol=rtol)
    if dtype == "float64":
        np.testing.assert_array_equal(many.epochs, run.epochs)
        np.testing.assert_array_equal(many.epochs_to_halve, run.epochs_to_halve)
    assert (many.plateau is None) == (plateau is None)


@pytest.mark.parametrize("loss", ["mae", "mse", "quartic"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_saturated_perceptrons_move_by_their_tiny_steps(loss, dtype):
    """One sample is right but for exp(-40), whose powers float32 does not hold; the other one more so."""
    x, e = np.array([[1.0, 0.0], [1.0, 1.0]]), np.exp(-40.0)
    run = run_perceptrons([0.0, -5.0], -40.0, x, [0.0, 0.0], loss, lr=0.5, dtype=dtype)
    power = POWERS[loss]
    want = 300 * 0.25 * (e**power + np.exp(-45.0) ** power) * np.array([1, 0])
    tiny = 300 * 1e-45 if dtype == "float32" else 0
    np.testing.assert_allclose(run.w[0], -want[0], rtol=1e-5, atol=tiny)
    assert np.isnan(run.epochs_to_halve)


@by_loss
def test_perceptrons_do_not_depend_on_threads_and_neighbours(loss, rng, monkeypatch):
    monkeypatch.setattr(neurons, "CHUNK", 256 * 300)
    w, b, x, y, lr = perceptrons(rng, (700,))
    before, runs = get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            runs.append(run_perceptrons(w, b, x, y, loss, lr=lr, epochs=20, record=[7], plateau=0.1))
    finally:
        set_num_threads(before)
    for name in ("w", "b", "output", "epochs", "epochs_to_halve", "plateau", "path_w", "path_b", "path_output"):
        for run in runs[1:]:
            np.testing.assert_array_equal(getattr(run, name), getattr(runs[0], name), err_msg=name)
    for i in (0, 255, 256, 699):
        alone = run_perceptrons(w[i], b[i], x[i], y[i], loss, lr=lr[i], epochs=20)
        np.testing.assert_array_equal(alone.w, runs[0].w[i])
        np.testing.assert_array_equal(alone.output, runs[0].output[i])


def test_shapes_of_perceptrons_are_broadcast():
    w, b = np.linspace(-1, 1, 7)[:, None, None] * np.ones(2), np.linspace(-2, 2, 5)
    run = run_perceptrons(w, b, np.ones((3, 2)), [0.0, 1.0, 0.5], epochs=3, record=[0, 2])
    assert (run.w.shape, run.b.shape, run.output.shape, run.epochs.shape) == ((7, 5, 2), (7, 5), (7, 5, 3), (7, 5))
    shapes = run.path_w.shape, run.path_b.shape, run.path_output.shape
    assert shapes == ((7, 5, 2, 2), (7, 5, 2), (7, 5, 2, 3))
    np.testing.assert_array_equal(run.path_w[..., 0, :], np.broadcast_to(w, (7, 5, 2)).astype("float32"))
    one = run_perceptrons(w[4, 0], b[1], np.ones((3, 2)), [0.0, 1.0, 0.5], epochs=3)
    np.testing.assert_array_equal(run.w[4, 1], one.w)
    assert run_perceptrons(np.ones((0, 2)), 0.0, np.ones((3, 2)), np.zeros(3)).w.shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w": 1.0}, ValueError, r"w must have shape \(..., D\), x \(..., N, D\) and y \(..., N\), .*got \[\(\)"),
        ({"x": np.ones((3, 4))}, ValueError, r"w must have shape .*got \[\(2,\), \(3, 4\), \(3,\)"),
        ({"y": np.ones(4)}, ValueError, r"w must have shape .*got \[\(2,\), \(3, 2\), \(4,\)"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, ValueError, r"w must have shape .* at least 1"),
        ({"b": np.zeros(3), "lr": np.ones(2)}, ValueError, r"w, b, x, y and lr must broadcast"),
        ({"y": [0, 2, 0]}, ValueError, r"y must hold finite numbers >= 0 and <= 1 in float32, got 2 at \(1,\)"),
        ({"w": [1e38, 1e38], "x": 2 * np.ones((3, 2))}, ValueError, r"w x \+ b and lr \(x\^2 \+ 1\) must be finite"),
        ({"loss": "l1"}, ValueError, r"loss must be one of"),
    ],
)
def test_bad_perceptrons_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^run_perceptrons: {message}"):
        run_perceptrons(**{"w": [1.0, 1.0], "b": 0.0, "x": np.ones((3, 2)), "y": np.zeros(3)} | arguments)


# ---- bad input ----

BAD = [
    ({"w": np.nan}, ValueError, r"w must hold finite numbers in float32, got nan"),
    ({"w": [[1.0, np.inf]]}, ValueError, r"w must hold finite numbers in float32, got inf at \(0, 1\)"),
    ({"b": 1e39}, ValueError, r"b must hold finite numbers in float32, got 1e\+39"),
    ({"b": "2"}, TypeError, r"b must hold real numbers"),
    ({"x": [1.0, None]}, TypeError, r"x must hold real numbers"),
    ({"y": [0.5, 1.5]}, ValueError, r"y must hold finite numbers >= 0 and <= 1 in float32, got 1.5 at \(1,\)"),
    ({"y": -0.1}, ValueError, r"y must hold finite numbers >= 0 and <= 1 in float32, got -0.1"),
    ({"lr": -1}, ValueError, r"lr must hold finite numbers >= 0 in float32, got -1"),
    (
        {"x": 1e20},
        ValueError,
        r"w x \+ b and lr \(x\^2 \+ 1\) must be finite in float32, got 1.5e\+39 \(dtype=numpy.float64\)",
    ),
    ({"w": 1e30, "x": 1e10}, ValueError, r"w x \+ b and lr \(x\^2 \+ 1\) must be finite in float32, got 1e\+40"),
    ({"loss": "l1"}, ValueError, r"loss must be one of 'mse', 'bce', 'mae', 'quartic', got 'l1'"),
    ({"epochs": 2.5}, TypeError, r"epochs must be an integer, got 2.5"),
    ({"epochs": -1}, ValueError, r"epochs must be at least 0, got -1"),
    ({"epochs": 2**24 + 1}, ValueError, r"epochs must be at most 16777216, got 16777217"),
    ({"threshold": 0}, ValueError, r"threshold must be a finite number > 0 and <= 1, got 0"),
    ({"threshold": 1.0}, ValueError, r"threshold must be less than 1, got 1.0"),
    ({"plateau": 1}, ValueError, r"plateau must be less than 1, got 1"),
    ({"plateau": -0.5}, ValueError, r"plateau must be a finite number > 0 and <= 1, got -0.5"),
    ({"record": [3, 2]}, ValueError, r"record must be a list of ascending epochs"),
    ({"record": 3}, ValueError, r"record must be a list of ascending epochs"),
    ({"record": [0.5]}, TypeError, r"record must hold integers, got dtype float64"),
    ({"record": [-1, 2]}, ValueError, r"record must be from 0 to epochs, 300"),
    ({"record": [2, 301]}, ValueError, r"record must be from 0 to epochs, 300"),
    ({"dtype": "float16"}, ValueError, r"dtype must be float32 or float64, got 'float16'"),
    ({"w": np.zeros(2), "b": np.zeros(3)}, ValueError, r"w, b, x, y and lr must broadcast, got \[\(2,\), \(3,\), \(\)"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=f"^run_neurons: {message}"):
        run_neurons(**{"w": 1.0, "b": 1.0} | arguments)
