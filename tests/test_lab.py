"""The lab: the numbers of the one-neuron experiment, the laws behind them, and the same question on a net."""

import itertools

import numpy as np
import pytest

import minnet as mn
from minnet.lab import LOSSES, train_networks, train_neuron
from minnet.lab.figures import draw_networks, draw_neurons

EASY, UNLUCKY = (0.6, 0.9), (2.0, 2.0)
COSTS = {  # C and dC/da
    "mse": lambda a, y: ((a - y) ** 2 / 2, a - y),
    "bce": lambda a, y: (-y * np.log(a) - (1 - y) * np.log(1 - a), (a - y) / (a * (1 - a))),
    "mae": lambda a, y: (abs(a - y), np.sign(a - y)),
    "quartic": lambda a, y: ((a - y) ** 4 / 4, (a - y) ** 3),
}


@pytest.mark.parametrize(
    ("loss", "start", "w", "b", "output", "halved"),
    [
        ("mse", UNLUCKY, -0.684, -0.684, 0.2028, 212),
        ("mse", EASY, -1.283, -0.983, 0.0940, 29),
        ("bce", UNLUCKY, -2.205, -2.205, 0.0120, 8),
        ("bce", EASY, -2.371, -2.071, 0.0116, 6),
    ],
)
def test_known_ends_at_lr_015(loss, start, w, b, output, halved):
    run = train_neuron(*start, x=1.0, y=0.0, loss=loss, lr=0.15, epochs=300)
    assert (round(run.w[-1], 3), round(run.b[-1], 3), round(run.output[-1], 4)) == (w, b, output)
    assert run.epochs_to_halve() == halved


@pytest.mark.parametrize(("start", "output"), [(UNLUCKY, 0.7796), (EASY, 0.4177)])
def test_known_ends_of_cross_entropy_at_lr_0005(start, output):
    assert round(train_neuron(*start, loss="bce", lr=0.005).output[-1], 4) == output


@pytest.mark.parametrize("loss", LOSSES)
def test_neuron_follows_plain_gradient_descent(loss):
    run = train_neuron(1.3, -0.4, x=0.7, y=0.3, loss=loss, lr=0.4, epochs=50)
    w, b = 1.3, -0.4
    for epoch in range(51):
        a = 1 / (1 + np.exp(-(w * 0.7 + b)))
        cost, slope = COSTS[loss](a, 0.3)
        assert [run.w[epoch], run.b[epoch], run.output[epoch]] == pytest.approx([w, b, a], rel=1e-13)
        assert run.loss[epoch] == pytest.approx(cost, rel=1e-12)
        dz = slope * a * (1 - a)
        assert run.gradient[epoch] == pytest.approx(dz * 0.7, rel=1e-12)
        w, b = w - 0.4 * dz * 0.7, b - 0.4 * dz


def test_trajectories_start_at_the_start_and_have_one_entry_more_than_epochs():
    run = train_neuron(epochs=7)
    assert [len(a) for a in (run.w, run.b, run.output, run.loss, run.gradient)] == [8] * 5
    assert (run.w[0], run.b[0]) == (2.0, 2.0)
    assert len(train_neuron(epochs=0).loss) == 1


def test_the_gradients_differ_by_the_slope_of_the_sigmoid():
    for z in (-30.0, -2.0, 0.0, 4.0, 40.0):
        mse, bce = (train_neuron(w=z, b=0.0, x=1.0, y=0.5, loss=loss, epochs=0).gradient[0] for loss in ("mse", "bce"))
        slope = np.exp(-abs(z)) / (1 + np.exp(-abs(z))) ** 2
        assert mse == pytest.approx(bce * slope, rel=1e-12)


def test_a_neuron_that_never_learns_has_no_epoch():
    run = train_neuron(w=20.0, b=20.0, loss="mse", epochs=50)
    assert run.epochs_to_halve() is None
    assert run.epochs_until() is None
    assert run.gradient[0] > 0  # tiny, and not 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("y", "sign"), [(0.0, -1), (1.0, 1)])
@pytest.mark.parametrize("z", [1.0, 15.0, 40.0, 80.0, 160.0])
def test_costs_of_a_sure_and_right_answer_keep_their_digits(z, y, sign, loss):
    """Where a rounds to 1 a - y would be 0, and a cost of 0 is half of itself."""
    run = train_neuron(sign * z / 2, sign * z / 2, y=y, loss=loss, lr=1e-3, epochs=1)
    left = np.exp(-z) / (1 + np.exp(-z))  # |a - y|
    power = {"mae": 1, "mse": 2, "quartic": 4}.get(loss)
    assert run.loss[0] == pytest.approx(-np.log1p(-left) if power is None else left**power / power, rel=1e-14)
    slope = left if power is None else left**power * (1 - left)
    assert run.gradient[0] == pytest.approx(-sign * slope, rel=1e-14)
    assert run.epochs_to_halve() is None


@pytest.mark.parametrize("loss", ["mae", "mse", "quartic"])
@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_powers_of_the_error_in_float32(y, loss, rng):
    z = rng.uniform(-80, 80, (50, 3)).astype(np.float32)
    value, dz = LOSSES[loss].value_and_grad(z, np.full_like(z, y))
    exact, slope = LOSSES[loss].value_and_grad(z.astype(np.float64), np.full(z.shape, np.float64(np.float32(y))))
    assert dz.dtype == "float32"
    assert value == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(dz, slope, rtol=1e-6, atol=1e-45)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "l1"}, ValueError, r"train_neuron: loss must be one of 'mse', 'bce', 'mae', 'quartic', got 'l1'"),
        ({"y": 1.5}, ValueError, r"train_neuron: y must be a finite number >= 0 and <= 1, got 1.5"),
        ({"lr": -1}, ValueError, r"train_neuron: lr must be a finite number >= 0, got -1"),
        ({"w": np.nan}, ValueError, r"train_neuron: w must be a finite number, got nan"),
        ({"b": "2"}, TypeError, r"train_neuron: b must be a number, got '2'"),
        ({"epochs": 2.5}, TypeError, r"train_neuron: epochs must be an integer, got 2.5"),
        ({"epochs": -1}, ValueError, r"train_neuron: epochs must be at least 0, got -1"),
    ],
)
def test_neuron_refuses_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        train_neuron(**arguments)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_costs_give_the_derivative_of_their_value(loss, rng):
    assert mn.check_gradient(loss, rng.normal(size=(5, 3)), rng.random((5, 3))) < 1e-9


@pytest.fixture(scope="module")
def network_runs():
    with np.errstate(all="raise"):
        data = mn.datasets.holdout(*mn.datasets.digits(), seed=0)
        return {(run.init, run.loss_name): run for run in train_networks(data, epochs=12)}


def test_networks_come_for_each_start_and_cost(network_runs):
    assert list(network_runs) == list(itertools.product(("scaled", "large"), ("mse", "bce")))
    for run in network_runs.values():
        assert len(run.accuracy) == 12
        assert [row["epoch"] for row in run.probe] == list(range(13))


def test_all_nets_of_one_start_begin_alike(network_runs):
    for init in ("scaled", "large"):
        first = [network_runs[init, loss].probe[0] for loss in ("mse", "bce")]
        assert first[0]["saturated"] == first[1]["saturated"]
        assert first[0]["stuck"] == first[1]["stuck"]


def test_large_weights_start_stuck_and_only_cross_entropy_frees_them_at_once(network_runs):
    stuck = {key: [row["stuck"] for row in run.probe] for key, run in network_runs.items()}
    assert stuck["scaled", "mse"][0] == 0
    assert stuck["large", "mse"][0] > 0.05
    assert stuck["large", "bce"][1] < 0.002
    assert stuck["large", "mse"][5] > 10 * stuck["large", "bce"][5]


def test_cross_entropy_learns_sooner_from_either_start(network_runs):
    for init in ("scaled", "large"):
        assert network_runs[init, "bce"].accuracy[1] > network_runs[init, "mse"].accuracy[1] + 0.3
        assert max(network_runs[init, "bce"].accuracy) > 0.95


def test_networks_refuse_unknown_names():
    data = mn.datasets.holdout(*mn.datasets.digits())
    with pytest.raises(
        ValueError, match=r"train_networks: loss must be one of 'mse', 'bce', 'mae', 'quartic', got 'l1'"
    ):
        train_networks(data, losses=["l1"])
    with pytest.raises(ValueError, match=r"train_networks: init must be one of .*, got 'huge'"):
        train_networks(data, inits=["huge"])


def test_figures_hold_every_run(network_runs, tmp_path):
    runs = [train_neuron(w, b, loss=loss) for loss in ("mse", "bce") for w, b in (EASY, UNLUCKY)]
    figure = draw_neurons(runs)
    lines = {line.get_label() for ax in figure.axes for line in ax.get_lines()}
    assert {"start w = 0.6, b = 0.9", "start w = 2, b = 2"} <= lines
    assert [ax.get_title() for ax in figure.axes[:2]] == ["quadratic cost", "cross-entropy"]
    assert figure.axes[4].get_xlim() == figure.axes[5].get_xlim()
    assert np.array_equal(figure.axes[0].get_lines()[1].get_ydata(), runs[1].loss)
    figure.savefig(tmp_path / "neurons.png")
    draw_networks(list(network_runs.values())).savefig(tmp_path / "networks.png")
    assert all(path.stat().st_size > 20_000 for path in tmp_path.iterdir())
