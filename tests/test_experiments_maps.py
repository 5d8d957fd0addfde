"""Experiment (n) of the gallery: its claim, asked of the names that its example leaves behind."""

import numpy as np


def test_n_the_law_foretells_the_map(experiment):
    names = experiment("plot_phase_map")
    pm, law = names.pm, names.law
    never = np.isnan(pm.epochs)
    assert never[1].sum() == 0
    assert 0.35 < never[0].mean() < 0.4
    assert (law[never] > 299).all()
    assert (law[~never] < 302).all()
    assert np.nanmax(abs(pm.departure())) < 1.5


def test_n_one_plateau_grows_linearly_with_depth_the_other_exponentially(experiment):
    depth = experiment("plot_phase_map").depth
    z = depth.axes["z0"]
    assert np.isfinite(depth.epochs).all()
    at4, at5, at6 = (depth.epochs[:, np.argmin(abs(z - level))] for level in (4, 5, 6))
    (quadratic, linear), (quadratic_before, linear_before) = at6 - at5, at5 - at4  # by rate
    assert (abs(quadratic / quadratic_before - 2.66) < 0.15).all()  # on the way to e
    assert (abs(linear - linear_before) <= 1 + 0.01 * linear).all()


def test_n_finite_steps_depart_from_it_where_they_are_long(experiment):
    names = experiment("plot_phase_map")
    assert (names.relative[:, names.steps < 0.2] < 0.02).all()
    assert (np.diff(np.log(names.relative), axis=1) > 0).all()
    assert (names.relative[:, -1] > 0.05).all()
