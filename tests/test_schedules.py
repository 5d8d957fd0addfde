"""Learning rates as functions of the epoch: formulas worked by hand, those of peers, optimizers that ask."""

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import minnet as mn
from minnet.schedules import Cosine, InverseScaling, Plateau, Step, WarmUp

EPOCHS = 40
TORCH = {
    "step": Step(0.5, every=7, factor=0.3),
    "cosine": Cosine(0.5, epochs=39, end=0.01),
    "warm_up": WarmUp(0.5, epochs=8),
    "plateau": Plateau(0.5, factor=0.3, patience=2, min_delta=0.01),
}


def rates(schedule, losses=()):
    """The rate of every epoch; the losses are shown to the schedule."""
    shown = losses if len(losses) else [1.0] * EPOCHS
    found = []
    for epoch, loss in enumerate(shown):
        found.append(schedule(epoch))
        if hasattr(schedule, "observe"):
            schedule.observe({"loss": loss})
    return found


# ---- formulas ----


@pytest.mark.parametrize("name", TORCH)
def test_rates_are_those_of_torch(name):
    with np.load(Path(__file__).with_name("data") / "torch_steps.npz", allow_pickle=False) as file:
        expected, losses = file[f"rates.{name}"], file["losses"]
        assert set(json.loads(str(file["settings"]))["schedulers"]) == set(TORCH)
    assert len(expected) == EPOCHS
    assert len(set(expected)) > 3
    np.testing.assert_allclose(rates(TORCH[name], losses), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Step(8.0, every=2, factor=0.5), [8, 8, 4, 4, 2, 2]),
        (Step(8.0, every=1, factor=0), [8, 0, 0, 0, 0, 0]),
        (Cosine(1.0, epochs=4), [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0, 0]),
        (Cosine(1.0, epochs=2, end=3), [1, 2, 3, 3, 3, 3]),
        (InverseScaling(6.0, power=1), [6, 3, 2, 6 / 4, 6 / 5, 1]),
        (InverseScaling(6.0, samples=8), [6, 2, 6 / math.sqrt(17), 6 / 5, 6 / math.sqrt(33), 6 / math.sqrt(41)]),
        (WarmUp(8.0, epochs=3), [2, 4, 6, 8, 8, 8]),
        (WarmUp(Step(8.0, every=1, factor=0.5), epochs=3), [2, 4, 6, 8, 4, 2]),
        (WarmUp(lambda epoch: 10.0 - epoch, epochs=1), [5, 10, 9, 8, 7, 6]),
    ],
    ids=lambda value: repr(value) if callable(value) and "lambda" not in repr(value) else "",
)
def test_rates_are_those_worked_by_hand(schedule, expected):
    np.testing.assert_allclose([schedule(epoch) for epoch in range(6)], expected, rtol=1e-15, atol=1e-16)


def test_inverse_scaling_is_that_of_scikit_learn():
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    theirs = optimizers.SGDOptimizer([np.zeros(1)], 0.3, "invscaling", power_t=0.4)
    ours = InverseScaling(0.3, power=0.4, samples=150)
    for epoch in range(20):
        assert ours(epoch) == pytest.approx(theirs.learning_rate, rel=1e-14)
        theirs.iteration_ends(150 * (epoch + 1))


def test_the_default_plateau_falls_as_scikit_learns_adaptive_rate(rng):
    neural_network = pytest.importorskip("sklearn.neural_network")
    theirs = neural_network.MLPClassifier(
        (4,), learning_rate="adaptive", learning_rate_init=0.1, solver="sgd", max_iter=60, tol=0.5, random_state=0
    )
    with pytest.warns(match="Maximum iterations"):
        theirs.fit(rng.standard_normal((50, 3)), np.arange(50) % 2)
    ours = Plateau(0.1, min_delta=0.5)
    for loss in theirs.loss_curve_:
        ours.observe({"loss": loss})
    assert ours(60) == pytest.approx(theirs._optimizer.learning_rate, rel=1e-14)
    assert ours(60) < 1e-3


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([3, 3, 3, 3, 3, 3, 3, 3], [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        ([3, 2, 3, 3, 3, 3, 1, 9], [1, 1, 1, 1, 1, 0.5, 0.5, 0.5]),
        ([3, math.nan, math.nan, math.nan, 2, 2, 2, 2], [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]),
        ([3, 2.9, 2.8, 2.7, 2.4, 9, 9, 9], [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]),
        ([math.inf, 9, 9, 9, 9, 9, 9, 9], [1, 1, 1, 1, 1, 0.5, 0.5, 0.5]),
    ],
    ids=["constant", "one better", "nan", "too little", "inf"],
)
def test_a_plateau_falls_after_its_patience(losses, expected):
    assert rates(Plateau(1.0, factor=0.5, patience=2, min_delta=0.5), losses) == expected


def test_a_plateau_does_not_fall_below_its_least_rate():
    schedule = Plateau(1.0, factor=0.1, patience=0, min_lr=0.05)
    assert rates(schedule, [1, 1, 1, 1, 1]) == [1, 1, 0.1, 0.05, 0.05]
    assert rates(Plateau(0.01, factor=0.1, patience=0, min_lr=0.05), [1, 1, 1]) == [0.01] * 3  # nor does it rise


def test_an_accuracy_must_rise():
    schedule = Plateau(1.0, factor=0.5, patience=0, min_delta=0.0, monitor="val_accuracy")
    for accuracy in (0.5, 0.6, 0.7):
        schedule.observe({"val_accuracy": accuracy})
    assert schedule(3) == 1
    schedule.observe({"val_accuracy": 0.6})
    assert schedule(4) == 0.5


def test_a_plateau_asks_for_a_column_that_there_is():
    with pytest.raises(ValueError, match=r"^Plateau: monitor must be a column of .* \(epoch, loss\), got 'val_loss'"):
        Plateau(1.0, monitor="val_loss").observe({"epoch": 1, "loss": 2.0})


# ---- state ----


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: WarmUp(s, epochs=2)], ids=["alone", "warmed up"])
def test_a_schedule_with_the_state_of_another_goes_on_as_it_would(wrap):
    first, second = (wrap(Plateau(1.0, factor=0.5, patience=1)) for _ in range(2))
    rates(first, [3, 3, 3, 2])
    second.state = json.loads(json.dumps(first.state))
    assert rates(second, [2, 2, 1, 1, 1]) == rates(first, [2, 2, 1, 1, 1])


def test_a_fresh_state_survives_json():
    schedule = Plateau(1.0)
    schedule.state = json.loads(json.dumps(schedule.state))
    assert schedule.state == [1.0, math.inf, 0]


@pytest.mark.parametrize(
    "state", [None, [], [1.0, 2.0], [-1.0, 1.0, 0], [1.0, math.nan, 0], [1.0, "1", 0], [1.0, 1.0, -1]]
)
def test_an_unfit_state_is_refused(state):
    schedule = Plateau(1.0)
    with pytest.raises((ValueError, TypeError), match=r"^Plateau: "):
        schedule.state = state
    assert schedule.state == [1.0, math.inf, 0]


def test_a_schedule_without_memory_takes_no_state():
    with pytest.raises(ValueError, match=r"^WarmUp: the schedule must remember something"):
        WarmUp(0.1, epochs=2).state = [1.0, 2.0, 0]


@pytest.mark.parametrize("schedule", [*TORCH.values(), InverseScaling(1.0), WarmUp(Cosine(1.0, epochs=3), epochs=2)])
def test_schedules_copy_pickle_and_print(schedule):
    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert [twin(epoch) for epoch in range(5)] == [schedule(epoch) for epoch in range(5)]
        assert repr(twin) == repr(schedule)
    names = dict.fromkeys(["Step", "Cosine", "InverseScaling", "Plateau", "WarmUp"])
    if not isinstance(schedule, Plateau):
        twin = eval(repr(schedule), {name: getattr(mn.schedules, name) for name in names})
        assert [twin(epoch) for epoch in range(5)] == [schedule(epoch) for epoch in range(5)]


# ---- optimizers ----


def test_an_optimizer_asks_for_the_rate_of_each_epoch():
    asked = []

    def schedule(epoch):
        asked.append(epoch)
        return 1.0 / (epoch + 1)

    optimizer, w = mn.SGD(schedule), np.zeros(1)
    for _ in range(3):
        for _ in range(4):
            optimizer.step(w, np.ones(1))
        optimizer.end_epoch()
    assert w == pytest.approx(-4 * (1 + 1 / 2 + 1 / 3))
    assert asked == [0, 1, 2]
    assert (optimizer.epochs, optimizer.lr, optimizer.rate) == (3, schedule, 0.25)


@pytest.mark.parametrize("make", [mn.SGD, mn.Adam, mn.AdamW, mn.RMSprop])
def test_every_optimizer_takes_a_schedule(make, rng):
    gradients, w = rng.standard_normal((4, 5)), np.zeros(5)
    twin, scheduled, plain = w.copy(), make(Step(0.1, every=2)), make(0.1)
    for epoch, g in enumerate(gradients):
        plain.lr = 0.1 if epoch < 2 else 0.1 * 0.1
        scheduled.step(w, g)
        plain.step(twin, g)
        scheduled.end_epoch()
    np.testing.assert_array_equal(w, twin)


def test_a_group_may_have_a_schedule_of_its_own():
    net = mn.MLP([2, 1], dtype="float64")
    optimizer = mn.SGD(1.0, groups={"0.b": {"lr": Step(0.5, every=1, factor=0.5)}})
    optimizer.assign(net.named_parameters())
    net.params[...] = 0
    for _ in range(3):
        optimizer.step(net.params, np.ones(3))
        optimizer.end_epoch()
    assert net.params.tolist() == [-3, -3, -0.875]


def test_a_schedule_in_two_places_sees_a_loss_once():
    schedule = Plateau(1.0, patience=1, factor=0.5)
    optimizer = mn.SGD(schedule, groups={"0": {"lr": schedule}})
    for _ in range(3):
        optimizer.end_epoch({"loss": 1.0})
    assert optimizer.rate == 0.5
    assert optimizer.get_state()["schedules"] == [[0.5, 1.0, 0]]


def test_a_saved_optimizer_goes_on_with_its_schedules():
    first, second = (mn.SGD(WarmUp(Plateau(1.0, patience=0, factor=0.5), epochs=1)) for _ in range(2))
    for optimizer in (first, second):
        for _ in range(3):
            first.end_epoch({"loss": 1.0})
        optimizer.set_state(first.get_state(), np.ones(1))
        assert optimizer.rate == first.rate


@pytest.mark.parametrize(("rate", "error"), [(-1.0, ValueError), (math.nan, ValueError), (None, TypeError)])
def test_a_schedule_that_gives_no_rate_is_named(rate, error):
    optimizer, w = mn.SGD(lambda epoch: 1.0 if epoch < 1 else rate), np.ones(1)
    optimizer.step(w, np.zeros(1))
    optimizer.end_epoch()
    with pytest.raises(error, match=rf"^SGD: lr after 1 epochs must be .*, got {rate}"):
        optimizer.step(w, np.ones(1))
    assert w == 1


BAD = {
    "negative": (lambda: Step(-1, every=2), ValueError, "Step: lr must be a finite number >= 0, got -1"),
    "every 0": (lambda: Step(1, every=0), ValueError, "Step: every must be at least 1, got 0"),
    "factor": (lambda: Step(1, every=2, factor="a"), TypeError, "Step: factor must be a number, got 'a'"),
    "epochs": (lambda: Cosine(1, epochs=2.5), TypeError, "Cosine: epochs must be an integer, got 2.5"),
    "end": (lambda: Cosine(1, epochs=2, end=-1), ValueError, "Cosine: end must be a finite number >= 0, got -1"),
    "power": (lambda: InverseScaling(1, power=-1), ValueError, "InverseScaling: power must be .* >= 0, got -1"),
    "samples": (lambda: InverseScaling(1, samples=0), ValueError, "InverseScaling: samples must be at least 1, got 0"),
    "grows": (lambda: Plateau(1, factor=2), ValueError, "Plateau: factor must be .* <= 1, got 2"),
    "patience": (lambda: Plateau(1, patience=-1), ValueError, "Plateau: patience must be at least 0, got -1"),
    "warm-up": (lambda: WarmUp(1, epochs=0), ValueError, "WarmUp: epochs must be at least 1, got 0"),
    "wrapped": (lambda: WarmUp(None, epochs=2), TypeError, "WarmUp: schedule must be a number, got None"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused_by_name_and_value(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
