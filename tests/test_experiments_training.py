"""The experiments (i) to (o) of the gallery: each claim, asked of the names that its example leaves behind."""

import numpy as np
import pytest

# ---- (i) label smoothing ----


def test_i_logits_grow_without_end_under_hard_labels_and_come_to_their_best_gap_under_smoothed_ones(experiment):
    gaps = experiment("plot_label_smoothing").gaps
    assert np.all(np.diff(gaps[0.0]) > 2)  # with every doubling of the epochs
    assert gaps[0.1][-1] == pytest.approx(np.log(0.91 / 0.01), abs=0.05)
    assert gaps[0.0][-1] > 4 * gaps[0.1][-1]


def test_i_smoothing_lowers_confidence_whether_or_not_that_calibrates(experiment):
    judged = experiment("plot_label_smoothing").judged
    for task in ("clean", "noisy"):
        hard, smoothed = judged[f"{task}, eps = 0"], judged[f"{task}, eps = 0.1"]
        assert smoothed[1] < hard[1] - 0.08
    ece = {name: row[2] for name, row in judged.items()}
    assert ece["clean, eps = 0"] < 0.04 < 0.08 < ece["clean, eps = 0.1"]
    assert ece["noisy, eps = 0.1"] < 0.75 * ece["noisy, eps = 0"]


# ---- (j) focal loss under 1:100 imbalance ----


def test_j_focal_loss_takes_easy_negatives_out_of_the_gradient(experiment):
    share = experiment("plot_focal_loss").easy_share
    assert share[0.0] > 0.15
    assert share[2.0] < share[0.0] / 80
    assert np.all(np.diff(list(share.values())) < 0)


def test_j_recall_comes_from_class_weights_and_not_from_focal_loss_and_the_order_of_samples_from_neither(experiment):
    judged = experiment("plot_focal_loss").judged
    plain, focal, weighted = judged["cross-entropy"], judged["focal, gamma = 2"], judged["class weight 100"]
    assert plain[0] < 0.4
    assert abs(focal[0] - plain[0]) < 0.1
    assert weighted[0] > 0.8
    assert weighted[1] < plain[1] / 4
    assert max(plain[2], focal[2], weighted[2]) - min(plain[2], focal[2], weighted[2]) < 0.03


# ---- (k) zero loss is not learning ----


def test_k_shuffled_labels_are_memorised_to_zero_loss_and_chance(experiment):
    names = experiment("plot_memorised_labels")
    assert names.train["shuffled"][0.0] == names.train["true"][0.0] == 1.0
    assert names.loss["shuffled"][0.0] < 0.03
    assert 0.05 < names.test["shuffled"][0.0] < 0.15
    assert names.test["true"][0.0] > 0.95


def test_k_weight_decay_ends_memory_before_it_ends_knowledge(experiment):
    names = experiment("plot_memorised_labels")
    assert names.train["shuffled"][0.003] < 0.8
    assert names.test["true"][0.003] > names.test["true"][0.0] - 0.01
    assert names.train["shuffled"][0.03] < 0.2
    assert names.train["true"][0.03] > 0.9


# ---- (l) fused against unfused ----


def test_l_only_the_fused_loss_has_a_gradient_at_every_margin(experiment):
    names = experiment("plot_fused_loss")
    margin, slope = names.margin, names.slope
    assert np.all(slope["fused"][margin <= 103] > 0)
    assert np.all(np.isnan(slope["unfused"][margin <= -89]))
    assert np.all(slope["unfused"][margin >= 18] == 0)
    assert np.all(slope["clipped"][(margin <= -17) | (margin >= 17)] == 0)
    assert slope["fused"][margin == 18] == pytest.approx(np.exp(-18), rel=1e-6)


def test_l_a_net_with_such_margins_learns_from_the_fused_loss_alone(experiment):
    names = experiment("plot_fused_loss")
    assert names.lost["unfused"][0] > 0.5
    assert names.lost["clipped"] == (0, 1)
    assert sum(names.lost["fused"]) < 0.02
    assert names.accuracy["fused"][-1] > 0.9
    assert max(names.accuracy["clipped"]) < 0.2


# ---- (m) large starting weights ----


def test_m_cross_entropy_cancels_the_slope_of_outputs_and_not_that_of_hidden_units(experiment):
    share = experiment("plot_large_weights").share
    assert share["output", "bce"] == pytest.approx(1, rel=1e-6)
    assert share["output", "mse"][-1] < 0.05
    assert share["hidden", "bce"] == pytest.approx(share["hidden", "mse"], rel=0.02)
    assert share["hidden", "bce"][-1] < 0.03


def test_m_so_it_rescues_nets_with_saturated_outputs_alone(experiment):
    saturated = experiment("plot_large_weights").saturated
    mse, bce = saturated["output"].never.reshape(2)
    assert mse > 0.6
    assert bce == 0
    assert saturated["hidden"].never.reshape(2).tolist() == [1, 1]


# ---- (o) ten thousand nets ----


def test_o_from_small_weights_both_losses_solve_xor_at_a_rate_of_their_own(experiment):
    names = experiment("plot_ten_thousand_nets")
    assert names.epochs["quadratic"].size == names.epochs["bce"].size == 10_000
    for loss in names.titles:
        share, median = names.best[loss, "1 to 3"]
        assert share == 1
        assert 40 < median < 90


def test_o_from_large_weights_no_rate_helps_the_quadratic_cost(experiment):
    best = experiment("plot_ten_thousand_nets").best
    assert best["quadratic", "30 to 100"][0] < 0.25
    assert best["bce", "30 to 100"] == (1, pytest.approx(25, abs=10))


def test_o_the_quadratic_cost_is_left_with_less_than_half_of_the_map(experiment):
    epochs = experiment("plot_ten_thousand_nets").epochs
    assert np.isfinite(epochs["quadratic"]).sum() < np.isfinite(epochs["bce"]).sum() / 2
