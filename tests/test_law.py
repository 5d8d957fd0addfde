"""The law of small steps: its integrals, its limits, and the neurons that follow it."""

import mpmath
import numpy as np
import pytest

from minnet.lab import epochs_by_law, map_neurons, run_neurons
from minnet.lab.law import INTEGRALS

POWERS = {"mae": 1, "mse": 2, "quartic": 4}
LOSSES = ["bce", *POWERS]
by_loss = pytest.mark.parametrize("loss", LOSSES)


def F(loss, z):
    """The integrals as they are given, for mpmath."""
    e = mpmath.exp(-z)
    return {
        "bce": z - e,
        "mae": 1 / e + 2 * z - e,
        "mse": 1 / e + 3 * z - 3 * e - e**2 / 2,
        "quartic": 1 / e + 5 * z - 10 * e - 5 * e**2 - 5 * e**3 / 3 - e**4 / 4,
    }[loss]


def speed(loss, z):
    """|dz/dt| / (lr (1 + x^2)) for y = 0: the error a, or a power of it, with the slope a (1 - a), for the others."""
    a = 1 / (1 + mpmath.exp(-z))
    return a if loss == "bce" else a ** (POWERS[loss] - 1) * a * (1 - a)


@by_loss
@pytest.mark.parametrize("z", [-30, -4.5, -0.1, 0, 0.7, 3, 12, 40])
def test_the_integral_is_one_over_the_speed(loss, z):
    with mpmath.workdps(60):
        slope = mpmath.diff(lambda u: F(loss, u), mpmath.mpf(z))
        assert mpmath.almosteq(slope * speed(loss, mpmath.mpf(z)), 1, rel_eps=1e-30)


@by_loss
def test_the_integral_is_that_formula(loss):
    for z in (-20, -3.5, 0, 0.25, 4, 30):
        assert INTEGRALS[loss](float(z)) == pytest.approx(float(F(loss, mpmath.mpf(z))), rel=1e-14)


@by_loss
def test_it_is_the_time_of_the_path(loss):
    """Against an integration of the equation itself."""
    z1 = mpmath.log(mpmath.mpf(0.2) / (1 - mpmath.mpf(0.2)))
    for z0 in (-1, 0.5, 6):
        want = mpmath.quad(lambda z: 1 / (0.3 * (1 + 1.5**2) * speed(loss, z)), [z1, z0])
        assert epochs_by_law(z0, x=1.5, loss=loss, lr=0.3, threshold=0.2) == pytest.approx(float(want), rel=1e-12)


@by_loss
def test_targets_of_one_are_the_mirror(loss):
    z = np.linspace(-5, 5, 11)
    np.testing.assert_array_equal(epochs_by_law(z, y=1, loss=loss), epochs_by_law(-z, y=0, loss=loss))
    both = epochs_by_law(3.0, y=[0, 1], loss=loss)
    assert both[0] > 0
    assert both[1] == 0


def test_one_plateau_grows_linearly_the_other_exponentially():
    z = np.arange(12.0, 60.0)
    np.testing.assert_allclose(np.diff(epochs_by_law(z, loss="bce", lr=0.1)), 1 / (2 * 0.1), rtol=1e-3)
    quadratic = epochs_by_law(z, loss="mse", lr=0.1)
    np.testing.assert_allclose(quadratic[1:] / quadratic[:-1], np.e, rtol=1e-3)


def test_limits():
    assert epochs_by_law(-3.0) == 0
    assert epochs_by_law(np.log(0.1 / 0.9), loss="mse") == 0
    assert epochs_by_law(-2000.0, loss="mse") == 0
    assert epochs_by_law(800.0, loss="mse") == np.inf
    assert epochs_by_law(800.0, loss="bce") == pytest.approx(2.7e3, rel=0.01)
    assert epochs_by_law(2.0, lr=0) == np.inf
    assert epochs_by_law(-3.0, lr=0) == 0
    assert np.isfinite(epochs_by_law(2.0, threshold=1e-300))


def test_shapes():
    assert isinstance(epochs_by_law(2), float)
    assert epochs_by_law(np.zeros((3, 1)), x=np.ones(4)).shape == (3, 4)
    assert epochs_by_law([], lr=[0.1]).shape == (0,)


@pytest.mark.parametrize(
    ("given", "error", "rule"),
    [
        ({"y": 0.5}, ValueError, "y must be 0 or 1, got 0.5"),
        ({"y": np.nan}, ValueError, "y must hold finite numbers"),
        ({"lr": -0.1}, ValueError, "lr must hold finite numbers >= 0"),
        ({"z0": [np.inf]}, ValueError, "z0 must hold finite numbers"),
        ({"z0": "2"}, TypeError, "z0 must hold real numbers"),
        ({"loss": "l1"}, ValueError, "loss must be one of 'bce', 'mse', 'mae', 'quartic', got 'l1'"),
        ({"threshold": 0}, ValueError, "threshold must be above 0 and below 1, got 0"),
        ({"threshold": 1.0}, ValueError, "threshold must be above 0 and below 1, got 1.0"),
        ({"threshold": None}, TypeError, "threshold must be a number"),
        ({"z0": [1, 2], "x": [1, 2, 3]}, ValueError, "z0, x, y and lr must broadcast"),
    ],
)
def test_bad_input(given, error, rule):
    with pytest.raises(error, match=f"epochs_by_law: {rule}"):
        epochs_by_law(**{"z0": 1.0} | given)


# ---- the neurons ----


def speeds(loss, z):
    a = 1 / (1 + np.exp(-z))
    return a if loss == "bce" else a ** POWERS[loss] * (1 - a)


@pytest.mark.parametrize("x", [0.5, 1.0])
@by_loss
def test_neurons_follow_the_law_over_the_whole_map(loss, x):
    """Where the rate is small, all of those that learn are within 2 %."""
    start, lr = np.linspace(-6, 6, 40), 0.05 if loss == "quartic" else 0.002
    pm = map_neurons(w=start, b=start, x=x, loss=loss, lr=lr, epochs=100_000, threshold=0.1, dtype="float64")
    law = pm.law()
    assert np.isfinite(pm.epochs).mean() > 0.8
    assert (np.isnan(pm.epochs) == (law > 100_000)).all()
    learned = np.isfinite(pm.epochs) & (law > 0)
    deep = learned & (law > 100)  # others are within 2 epochs, which is more than 2 %
    assert deep.sum() > 0.95 * learned.sum()
    np.testing.assert_allclose(pm.epochs[deep], law[deep], rtol=0.02)
    assert np.abs(pm.departure()[learned]).max() < (4 if loss == "quartic" else 2.5)


@pytest.mark.parametrize("y", [0.0, 1.0])
@pytest.mark.parametrize("lr", [0.02, 0.15])
@by_loss
def test_the_first_departure_is_known(loss, lr, y):
    """Whole steps of Euler take log(f(z0) / f(z1)) / 2 fewer, whatever the rate; and the last is counted as a whole."""
    z0 = np.linspace(-1.5, 5, 200)
    z1 = np.log(0.1 / 0.9)
    epochs = run_neurons(0.0, z0 if y == 0 else -z0, y=y, loss=loss, lr=lr, epochs=100_000, dtype="float64").epochs
    smooth = epochs_by_law(z0 if y == 0 else -z0, y=y, loss=loss, lr=lr)
    rest = epochs - (smooth - np.log(speeds(loss, z0) / speeds(loss, z1)) / 2)
    assert -lr < rest.min() < 0.1
    assert 0.9 < rest.max() < 1 + lr


def test_finite_steps_depart_where_the_rate_is_large():
    rates = [0.002, 0.02, 0.2, 2.0, 20.0]
    pm = map_neurons(z0=np.linspace(0, 8, 50), lr=rates, loss="bce", epochs=20_000)
    worst = np.max(np.abs(pm.departure()[0] / pm.law()[0]), axis=0)
    assert (np.diff(worst) > 0).all()
    assert worst[0] < 0.001
    assert worst[2] < 0.1
    assert worst[3] > 0.2
