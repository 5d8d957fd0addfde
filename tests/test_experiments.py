"""The experiments (a) to (h) of the gallery: each claim, asked of the names that its example leaves behind."""

from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_is_short_titled_and_draws(path, experiment):
    lines = path.read_text(encoding="utf-8").splitlines()
    title, rule = lines[1:3]
    assert title[0] + title[2:4] == "() "
    assert rule == "=" * len(title)
    assert len(lines) <= 60
    assert "# %%" in lines
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
