"""The experiments (a) to (h) of the gallery: each claim, asked of the names that its example leaves behind."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minnet as mn

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_is_short_titled_and_draws(path, experiment):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    title, rule = lines[1:3]
    assert title[0] + title[2:4] == "() "
    assert f"| [{title[:3]}](gallery/{path.stem}) |" in (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert rule == "=" * len(title)
    assert len(lines) <= 68
    assert "plt." not in text.rpartition("\n# %%\n")[0]  # the gallery closes figures at the end of a cell
    assert lines[-1] == "plt.show()"
    assert experiment(path.stem).figures > 0


# ---- (a) one neuron, two costs ----


def test_a_a_confidently_wrong_neuron_stalls_under_the_quadratic_cost_alone(experiment):
    halved = experiment("plot_saturation").halved
    assert halved["mse", "confidently wrong"] > 20 * halved["bce", "confidently wrong"]
    assert halved["mse", "confidently wrong"] > 5 * halved["mse", "a little wrong"]
    assert halved["bce", "confidently wrong"] < 2 * halved["bce", "a little wrong"]


def test_a_the_wronger_neuron_learns_faster_under_cross_entropy_and_slower_under_the_quadratic_cost(experiment):
    runs = experiment("plot_saturation").runs
    first = {key: run.gradient[0] for key, run in runs.items()}
    assert first["bce", "confidently wrong"] > first["bce", "a little wrong"]
    assert first["mse", "confidently wrong"] < first["mse", "a little wrong"] / 5


# ---- (b) a loss built backwards ----


def test_b_the_slope_that_cancels_the_sigmoid_is_that_of_cross_entropy(experiment):
    names = experiment("plot_built_backwards")
    for y in names.targets:
        assert np.abs(names.built[y] - names.known[y]).max() < 1e-8
        assert names.known[y].max() > 0.7  # it is not 0 that is compared
    quadratic = names.integral(lambda s, y: s - y, 0.0, 0.99)
    assert quadratic == pytest.approx(0.99**2 / 2, abs=1e-12)


# ---- (c) the learning rate is not the point ----


def test_c_for_every_rate_the_speed_is_the_same_function_of_the_error(experiment):
    names = experiment("plot_learning_rate")
    for loss, formula in {"bce": lambda a: a, "mse": lambda a: a**2 * (1 - a)}.items():
        slowest, fastest = names.rates[0], names.rates[-1]
        fine = np.argsort(names.error[loss, slowest])
        for lr in names.rates:
            reached = names.error[loss, lr] >= names.error[loss, slowest].min()
            error, speed = names.error[loss, lr][reached], names.speed[loss, lr][reached]
            same = np.interp(error, names.error[loss, slowest][fine], names.speed[loss, slowest][fine])
            assert_allclose(speed, same, rtol=0.01)
            assert_allclose(names.speed[loss, lr], formula(names.error[loss, lr]), rtol=1e-9, atol=1e-12)
        assert fastest / slowest > 100


def test_c_at_every_rate_the_quadratic_cost_begins_slowly_and_cross_entropy_at_its_fastest(experiment):
    names = experiment("plot_learning_rate")
    for lr in names.rates:
        assert names.speed["bce", lr].argmax() == 0
        assert names.speed["mse", lr][0] < 0.15 * names.speed["mse", lr].max()
        assert names.error["mse", lr][names.speed["mse", lr].argmax()] == pytest.approx(2 / 3, abs=0.15)
    assert names.speed["bce", 0.15][0] > 50 * names.speed["mse", 0.15][0]


# ---- (d) squared error through a sigmoid is not convex ----


def test_d_the_quadratic_cost_bends_down_beyond_log_2_and_cross_entropy_nowhere(experiment):
    names = experiment("plot_convexity")
    assert names.turns == pytest.approx([np.log(2)], abs=0.01)
    assert names.curvature["mse"][names.z > 0.8].max() < 0
    assert names.curvature["mse"][names.z < 0.6].min() > 0
    assert names.curvature["bce"].min() > 0


def test_d_the_curvatures_are_those_of_the_formulas(experiment):
    names = experiment("plot_convexity")
    a, inner = 1 / (1 + np.exp(-names.z)), slice(1, -1)  # at the ends the difference is one-sided
    assert_allclose(names.curvature["mse"][inner], (a**2 * (1 - a) * (2 - 3 * a))[inner], atol=1e-5, rtol=0)
    assert_allclose(names.curvature["bce"][inner], (a * (1 - a))[inner], atol=1e-5, rtol=0)


def test_d_a_plateau_under_the_quadratic_cost_alone(experiment):
    names = experiment("plot_convexity")
    far = names.z > 7
    assert names.cost["mse"][far].min() > 0.499
    assert names.slope["mse"][far].max() < 1e-3
    assert names.slope["bce"][far].min() > 0.999


def test_d_two_samples_make_a_second_valley_under_the_quadratic_cost_alone(experiment):
    names = experiment("plot_convexity")
    assert len(names.minima["bce"]) == 1
    low, high = names.minima["mse"]
    assert low < 0 < 2 < high
    first, start, second = np.interp([low, 2, high], names.w, names.both["mse"])
    assert second > 4 * first
    assert np.all(np.diff(names.both["mse"][(names.w > 2) & (names.w < high)]) < 0)
    assert start > second


# ---- (e) the simplest gradients ----


def test_e_squared_error_and_softmax_cross_entropy_both_give_output_minus_target(experiment):
    names = experiment("plot_simplest_gradients")
    assert np.abs(names.squared).max() < 1e-14
    assert np.abs(names.softmax).max() < 1e-14
    assert max(names.checked.values()) < 1e-9


def test_e_of_three_powers_only_the_square_gets_nearer_by_the_same_share_in_every_epoch(experiment):
    errors = experiment("plot_simplest_gradients").errors
    share = errors["mse"][101:] / errors["mse"][100:-1]
    assert_allclose(share, share[0], rtol=1e-2)
    assert share[0] < 0.97
    assert errors["mse"][-1] < 1e-6
    assert errors["mae"][-100:].max() > 0.01  # as far as a step goes
    assert errors["mae"][-100:].max() == pytest.approx(errors["mae"][100:200].max(), rel=0.1)
    assert errors["quartic"][-1] > 0.1
    assert errors["quartic"][400] / errors["quartic"][100] == pytest.approx(0.5, rel=0.1)  # as 1 / sqrt(epochs)


def test_e_through_sigmoids_no_power_trains_as_cross_entropy_does_and_the_first_not_at_all(experiment):
    accuracy = experiment("plot_simplest_gradients").accuracy
    assert accuracy["bce"][4] > 0.8
    assert accuracy["bce"][-1] > 0.93
    assert max(accuracy["mse"][4], accuracy["quartic"][4]) < 0.6
    assert max(accuracy["mae"]) < 0.3


# ---- (f) cross-entropy is linear in the target ----


def test_f_cross_entropy_is_linear_in_the_target(rng):
    z, (s, t) = rng.normal(size=(1, 6)), rng.dirichlet(np.ones(6), size=(2, 1))
    (mixed, gradient), *ends = (
        mn.functional.cross_entropy(z, target, return_grad=True) for target in (0.3 * s + 0.7 * t, s, t)
    )
    assert mixed == pytest.approx(0.3 * ends[0][0] + 0.7 * ends[1][0], rel=1e-12)
    assert gradient == pytest.approx(0.3 * ends[0][1] + 0.7 * ends[1][1], abs=1e-14)


def test_f_gradients_of_sampled_labels_are_unbiased_under_cross_entropy_alone(experiment):
    names = experiment("plot_sampled_labels")
    t, labels = names.t, names.counts[-1] * names.repeats
    assert np.all(np.abs(names.bias["bce"]) <= 5 * np.sqrt(t * (1 - t) / labels) + 1e-14)
    assert np.abs(names.bias["mae"]).max() > 0.2


def test_f_their_variance_is_that_of_a_mean_of_n_labels(experiment):
    names = experiment("plot_sampled_labels")
    for n, distances in zip(names.counts, names.distance["bce"], strict=True):
        standard_error = distances.std() / np.sqrt(names.repeats)
        assert standard_error < 0.04 / n
        assert abs(distances.mean() - (1 - names.t @ names.t) / n) < 5 * standard_error
    assert names.slope == pytest.approx(-1, abs=0.03)
    assert names.distance["mae"][-1].mean() > 0.5 * names.distance["mae"][0].mean()


# ---- (g) the losses are likelihoods ----


@pytest.mark.parametrize("name", ["coin", "dice", "line"])
def test_g_training_ends_at_the_maximum_of_the_likelihood(name, experiment):
    end, maximum = experiment("plot_maximum_likelihood").ends[name]
    assert np.abs(end - maximum).max() < 1e-6


def test_g_which_is_that_of_the_sample_and_not_of_where_it_came_from(experiment):
    names = experiment("plot_maximum_likelihood")
    assert abs(names.heads.mean() - 2 / 3) > 1e-3
    assert names.frequencies.min() > 0.05
    assert np.abs(names.frequencies - names.frequencies[0]).max() > 0.1
    assert np.abs(names.least - [0.5, -1.5]).max() > 0.01
    assert names.likelihood[-1] == pytest.approx(names.likelihood.max(), abs=1e-12)


# ---- (h) entropy, and what a wrong belief costs ----


def test_h_cross_entropy_is_entropy_and_divergence(experiment, rng):
    info = experiment("plot_information").info
    p, q = rng.dirichlet(np.ones(7), size=(2, 1000))
    assert info.cross_entropy(p, q) == pytest.approx(info.entropy(p) + info.kl_divergence(p, q), rel=1e-12)
    assert info.kl_divergence(p, q).min() > 0


def test_h_the_entropy_is_the_length_of_the_best_words_and_a_wrong_belief_costs_the_divergence(experiment):
    names = experiment("plot_information")
    assert names.length == 2
    assert names.bits == pytest.approx({"H(p)": 2, "H(p, q)": 3, "KL(p || q)": 1, "KL(q || p)": 1.25}, rel=1e-14)
    assert not any(b.startswith(a) for a in names.words for b in names.words if a != b)  # words can be told apart


def test_h_the_cost_of_a_belief_is_least_at_the_truth(experiment):
    names = experiment("plot_information")
    assert names.belief[names.cost.argmin()] == pytest.approx(0.3, abs=1e-9)
    assert names.cost.min() == pytest.approx(names.info.entropy(names.coin, base=2), rel=1e-9)


def test_h_one_divergence_covers_both_humps_and_the_other_picks_one(experiment):
    best = experiment("plot_information").best
    mean, width, _ = best["KL(p || q)"]
    assert (mean, width) == pytest.approx((-0.4, 2.1), abs=0.1)  # those of p itself: sqrt(0.7^2 + 4 - 0.4^2) = 2.08
    mean, width, _ = best["KL(q || p)"]
    assert (mean, width) == pytest.approx((-2, 0.7), abs=0.1)
