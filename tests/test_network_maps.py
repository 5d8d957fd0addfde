"""Maps of real nets: reproducible, whoever works; and what large weights do to hidden units and to outputs."""

import csv
import os
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import minnet as mn
from minnet.cli import main
from minnet.lab import NetworkMap, map_networks, train_networks

ARRAYS = ("epochs", "accuracy", "saturated", "stuck")


@pytest.fixture(autouse=True)
def _usual_underflow(_strict_floats):
    with np.errstate(under="ignore"):  # the gradients of saturated units do, and are 0 then
        yield


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in ARRAYS)


@pytest.fixture(scope="module")
def outputs():
    return map_networks(output_scale=[1, 16], seeds=3, epochs=12)


@pytest.fixture(scope="module")
def hiddens():
    return map_networks(hidden_scale=[1, 256], output_scale=1, seeds=3, epochs=12)


# ---- the claims ----


def test_the_scales_saturate_one_layer_each(outputs, hiddens):
    (_, at_1), (_, at_16) = outputs.saturated_at_start[0]
    assert at_1 == 0
    assert at_16 > 0.5
    assert outputs.saturated_at_start[..., 0].max() == 0
    assert hiddens.saturated_at_start[1, 0, 0] > 0.9
    assert hiddens.saturated_at_start[..., 1].max() == 0


def test_cross_entropy_rescues_saturated_outputs(outputs):
    mse, bce = outputs.never[:, 0]
    assert mse.tolist()[0] == 0
    assert mse[1] > 0.6
    assert bce.tolist() == [0, 0]
    assert outputs.median[1, 0, 1] <= outputs.median[1, 0, 0] + 1


def test_cross_entropy_does_not_rescue_saturated_hidden_units(hiddens):
    assert hiddens.never[:, :, 0].tolist() == [[0, 1], [0, 1]]
    assert hiddens.saturated[:, 1, :, :, -1, 0].min() > 0.9  # they stay where they are


# ---- what a map holds ----


def test_a_net_of_a_map_is_one_of_train_networks(outputs):
    data = mn.lab.network.net_samples()
    (run,) = train_networks(data, losses=["bce"], inits=["scaled"], epochs=12, seed=2)
    epochs = 1 + int(np.argmax(np.array(run.accuracy) >= 0.9))
    assert outputs.epochs[1, 0, 0, 2] == epochs
    assert outputs.accuracy[1, 0, 0, 2] == run.accuracy[epochs - 1]
    rows = outputs.saturated[1, 0, 0, 2]
    assert rows[: epochs + 1].tolist() == [row["saturated"] for row in run.probe[: epochs + 1]]
    assert np.isnan(rows[epochs + 1 :]).all()


def test_losses_start_alike_and_shapes_are_those_of_the_axes(outputs):
    assert outputs.epochs.shape == outputs.accuracy.shape == (2, 1, 2, 3)
    assert outputs.saturated.shape == (2, 1, 2, 3, 13, 2)
    assert outputs.stuck.shape == (2, 1, 2, 3, 13)
    assert np.array_equal(outputs.saturated[0, ..., 0, :], outputs.saturated[1, ..., 0, :])
    assert np.isnan(outputs.epochs).tolist() == (outputs.accuracy < 0.9).tolist()


def test_saturation_at_the_end_is_that_of_each_net_at_its_own_end(outputs):
    ends = [[row[~np.isnan(row[:, 0])][-1] for row in nets] for nets in outputs.saturated.reshape(4, 3, 13, 2)]
    assert outputs.saturated_at_end.reshape(4, 2) == pytest.approx(np.mean(ends, axis=1))


def test_softmax_is_a_loss_too_and_a_net_without_weights_never_learns():
    result = map_networks(0, 0, "cross_entropy", [3], epochs=1)
    assert result.never.tolist() == [[[1]]]
    assert result.seeds.tolist() == [3]
    assert result.median.tolist() == [[[np.inf]]]


# ---- the same, whoever works ----


def test_a_process_pool_and_a_store_give_the_same_map(tmp_path):
    arguments = {"output_scale": [1, 64], "loss": ("bce", "cross_entropy"), "seeds": 2, "epochs": 2}
    alone = map_networks(**arguments, store=tmp_path)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert same(alone, map_networks(**arguments, executor=pool))
    next(tmp_path.glob("0*.npz")).unlink()
    assert same(alone, map_networks(**arguments, store=tmp_path))
    with pytest.raises(ValueError, match="must be new or the store of this question, got one that differs in epochs"):
        map_networks(**arguments | {"epochs": 3}, store=tmp_path)


@pytest.mark.mnist
def test_mnist_from_a_folder():
    result = map_networks(1, 1, "bce", 1, folder=os.environ["MINNET_DATA"], epochs=3)
    assert result.settings["samples"] == "MNIST"
    assert result.never.tolist() == [[[0]]]


# ---- files and figures ----


def test_a_map_is_saved_and_loaded(outputs, tmp_path):
    outputs.save(tmp_path / "map.npz")
    loaded = NetworkMap.load(tmp_path / "map.npz")
    assert same(loaded, outputs)
    assert (loaded.losses, loaded.settings) == (outputs.losses, outputs.settings)
    assert repr(loaded) == "NetworkMap(1 hidden x 2 output scales x 3 seeds; never learned: mse 50%, bce 0%)"


def test_another_file_is_refused(tmp_path):
    pm = mn.lab.map_neurons(z0=[1.0, 2.0], epochs=3)
    pm.save(tmp_path / "map.npz")
    with pytest.raises(ValueError, match=r"map.npz must be of format 'minnet network map'"):
        NetworkMap.load(tmp_path / "map.npz")


def test_a_file_with_wrong_shapes_is_refused(outputs, tmp_path):
    outputs.save(tmp_path / "map.npz")
    wrong = NetworkMap.load(tmp_path / "map.npz")
    wrong.stuck = wrong.stuck[:1]
    wrong.save(tmp_path / "map.npz")
    with pytest.raises(ValueError, match=r"stuck must be \(2, 1, 2, 3, 13\) of float64, got \(1, 1, 2, 3, 13\)"):
        NetworkMap.load(tmp_path / "map.npz")


def test_a_file_with_unknown_losses_is_refused(outputs, tmp_path):
    outputs.save(tmp_path / "map.npz")
    wrong = NetworkMap.load(tmp_path / "map.npz")
    wrong.losses = ("mse", "rmse")
    wrong.save(tmp_path / "map.npz")
    with pytest.raises(ValueError, match=r"map.npz must hold a NetworkMap, got ValueError: .* got 'rmse'"):
        NetworkMap.load(tmp_path / "map.npz")


def test_figures_show_one_scale_as_curves_and_two_as_pictures(outputs):
    left, hidden, output = outputs.plot().axes
    assert left.get_legend_handles_labels()[1] == ["quadratic cost", "cross-entropy"]
    assert [ax.get_ylabel() for ax in (hidden, output)] == ["saturated hidden units, %", "saturated outputs, %"]
    for i, ax in enumerate((hidden, output)):
        assert ax.lines[0].get_ydata().tolist() == (100 * outputs.saturated_at_start[0, :, i]).tolist()
        assert ax.lines[2].get_ydata().tolist() == (100 * outputs.saturated_at_end[1, 0, :, i]).tolist()
    both = map_networks([1, 256], [1, 64], ("mse", "cross_entropy"), seeds=1, epochs=1)
    assert [ax.get_title() for ax in both.plot().axes][:2] == ["quadratic cost", "softmax, cross-entropy"]


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "mae2"}, ValueError, "map_networks: loss must be one of 'mse', 'bce', "),
        ({"loss": ("mse", "mse")}, ValueError, "map_networks: loss must be one or more losses, each once"),
        ({"hidden_scale": [1, -2]}, ValueError, r"hidden_scale must be finite and not negative, got -2.0 in row 1"),
        ({"output_scale": []}, ValueError, r"output_scale must be a number or a vector, got \(0,\)"),
        ({"output_scale": [[1]]}, ValueError, r"output_scale must be a number or a vector, got \(1, 1\)"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"seeds": []}, ValueError, r"seeds must be a number or a list of integers, got \(0,\)"),
        ({"seeds": [0.5]}, TypeError, "seeds must be an integer, got 0.5"),
        ({"seeds": [-1]}, ValueError, "seeds must be at least 0, got -1"),
        ({"target": 0}, ValueError, "target must be a finite number > 0 and <= 1, got 0"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"lr": "fast"}, TypeError, "lr must be a number, got 'fast'"),
        ({"folder": "nowhere"}, ValueError, "nowhere"),
        ({"executor": 3}, TypeError, "executor must be None"),
    ],
)
def test_bad_input_is_named_before_any_work(arguments, error, message):
    with pytest.raises(error, match=message):
        map_networks(**arguments)


# ---- the command ----


def test_minnet_map_net_prints_and_writes_what_the_map_holds(tmp_path, capsys):
    options = [
        "--hidden-scale",
        "1",
        "--output-scale",
        "1",
        "64",
        "--loss",
        "bce",
        "cross_entropy",
        "--seeds",
        "2",
        "--epochs",
        "3",
    ]
    assert main(["map", "--net", *options, "--out", str(tmp_path)]) == 0
    want = map_networks(1, [1, 64], ("bce", "cross_entropy"), seeds=2, epochs=3)
    assert same(NetworkMap.load(tmp_path / "networks.npz"), want)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "8 nets with 30 sigmoid units on digits, stochastic gradient"
    cells = [re.split(r"\s{2,}", line) for line in lines[4:10]]
    assert cells[0][:5] == ["loss", "hidden scale", "output scale", "saturated", "never"]
    assert [row[:3] for row in cells[2:4]] == [["cross-entropy", "1", "1"], ["cross-entropy", "1", "64"]]
    assert [row[4] for row in cells[2:]] == [f"{share:.0%}" for share in want.never.reshape(-1)]
    with open(tmp_path / "networks.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == want.accuracy.reshape(-1).tolist()
    assert [row["loss"] for row in rows] == ["bce"] * 4 + ["cross_entropy"] * 4
    assert (tmp_path / "networks.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--net", "--lr", "0.1", "0.5"], "minnet map: --lr must have one value for nets, got [0.1, 0.5]"),
        (["--net", "--seeds", "0"], "map_networks: seeds must be at least 1, got 0"),
        (["--mnist", "nowhere"], "nowhere"),
        (["--loss", "cross_entropy"], "map_neurons: loss must be one of"),
    ],
)
def test_minnet_map_net_says_what_is_wrong(options, message, tmp_path, capsys):
    assert main(["map", *options, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
