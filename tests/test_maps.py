"""Phase maps: the neurons of run_neurons, the same bits however they are cut, shared, counted, kept or killed."""

import contextlib
import doctest
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minnet import files, get_num_threads, set_num_threads
from minnet.lab import MapSummary, PhaseMap, grids, law, map_neurons, maps, run_neurons, tasks

W, B = np.linspace(-6, 6, 31), np.linspace(-5, 5, 23)


def same(a, b):
    return a.epochs.tobytes() == b.epochs.tobytes() and a.output.tobytes() == b.output.tobytes()


@pytest.fixture(scope="module")
def small():
    return map_neurons(w=W, b=B, epochs=120)


@pytest.fixture
def tiny_tiles(monkeypatch):
    monkeypatch.setattr(maps, "TILE", 60)
    monkeypatch.setattr(maps, "PIECE", 17)


# ---- neurons on a grid ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", [0.0, 0.4])
def test_a_map_holds_what_run_neurons_gives(y, dtype):
    pm = map_neurons(w=W, b=B, x=0.7, y=y, lr=0.4, epochs=90, threshold=0.2, dtype=dtype)
    for i, loss in enumerate(("mse", "bce")):
        run = run_neurons(W[:, None], B, 0.7, y, loss, lr=0.4, epochs=90, threshold=0.2, dtype=dtype)
        np.testing.assert_array_equal(pm.epochs[i], run.epochs)
        np.testing.assert_array_equal(pm.output[i], run.output)
        assert pm.epochs.dtype == pm.output.dtype == dtype
    assert pm.losses == ("mse", "bce")
    assert list(pm.axes) == ["w", "b"]
    assert (pm.epochs_run, pm.threshold, pm.parameters["x"], pm.parameters["lr"]) == (90, 0.2, 0.7, 0.4)


def test_every_parameter_can_be_an_axis():
    lr, x, y = np.array([0.1, 0.5]), np.array([0.5, 1, 2]), np.array([0, 1])
    pm = map_neurons(w=W[:4], b=B[:5], x=x, y=y, lr=lr, loss="bce", epochs=60, threshold=0.3)
    assert list(pm.axes) == ["w", "b", "x", "y", "lr"]
    assert pm.epochs.shape == (1, 4, 5, 3, 2, 2)
    one = run_neurons(W[2], B[4], x[1], y[1], "bce", lr=lr[0], epochs=60, threshold=0.3)
    assert (pm.epochs[0, 2, 4, 1, 1, 0], pm.output[0, 2, 4, 1, 1, 0]) == (one.epochs, one.output)
    assert pm.law().shape == pm.epochs.shape


def test_logits_instead_of_weights():
    pm = map_neurons(z0=B, lr=[0.1, 0.2], y=1)
    assert list(pm.axes) == ["z0", "lr"]
    run = run_neurons(0.0, B[:, None], 1.0, 1.0, "mse", lr=np.array([0.1, 0.2]))
    np.testing.assert_array_equal(pm.epochs[0], run.epochs)
    with np.errstate(over="ignore"):
        assert map_neurons(w=1.0, b=0.5).epochs.shape == (2,)


@pytest.mark.parametrize("tile", [1, 7, 60, 713, 10**6])
def test_the_cut_changes_no_bit(tile, small, monkeypatch):
    monkeypatch.setattr(maps, "TILE", tile)
    assert same(map_neurons(w=W, b=B, epochs=120), small)


def test_executor_and_threads_change_no_bit(small, tiny_tiles):
    before = get_num_threads()
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            assert same(map_neurons(w=W, b=B, epochs=120), small)
            counts = map_neurons(w=W, b=B, epochs=120, reduce="histogram").counts
            np.testing.assert_array_equal(counts, small.summary().counts)
    finally:
        set_num_threads(before)
    with ThreadPoolExecutor(3) as executor:
        assert same(map_neurons(w=W, b=B, epochs=120, executor=executor), small)


@pytest.mark.parametrize("shape", [(), (1,), (10,), (31, 23), (2, 1, 9), (1000, 3), (3, 1000), (5, 5, 5, 5, 5)])
@pytest.mark.parametrize("neurons", [1, 10, 64, 10**6])
def test_tiles_cover_the_grid_once(shape, neurons):
    names = ["w", "b", "x", "y", "lr"]
    parameters = dict.fromkeys(names, 0.0) | {name: np.zeros(n) for name, n in zip(names, shape, strict=False)}
    seen = np.zeros(shape, int)
    for tile in grids.Grid("test", parameters).tiles(neurons):
        seen[tile] += 1
        assert seen[tile].size <= neurons
    assert (seen == 1).all()


@pytest.mark.parametrize("module", [law, maps, tasks], ids=lambda module: module.__name__)
def test_the_examples_of_docstrings_are_right(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


# ---- counting ----


def test_a_summary_counts_what_the_map_holds(small, tiny_tiles):
    summary = map_neurons(w=W, b=B, epochs=120, reduce="histogram")
    assert isinstance(summary, MapSummary)
    assert summary.counts.shape == (2, 122)
    assert summary.neurons == W.size * B.size
    for i in range(2):
        epochs = small.epochs[i]
        learned = epochs[np.isfinite(epochs)]
        assert summary.never[i] == np.isnan(epochs).mean()
        assert summary.mean[i] == pytest.approx(learned.mean(dtype=float))
        full = np.where(np.isnan(epochs), np.inf, epochs)
        for share in (0.0, 0.25, 0.5, 0.99, 1.0):
            want = np.quantile(full, share, method="inverted_cdf")
            assert summary.quantile(share)[i] == want or (np.isnan(summary.quantile(share)[i]) and np.isinf(want))


def test_every_epoch_that_float32_holds_is_counted():
    epochs = np.array([[0, 2**24, np.nan, np.nan]], np.float32)
    grid = grids.Grid("test", {"w": 0.0, "b": np.arange(4.0), "x": 1.0, "y": 0.0, "lr": 0.1})
    for top in (2**24, 2**24 - 1):
        with np.errstate(all="raise"):
            pm = PhaseMap(grid, ["mse"], top, 0.1, epochs=np.minimum(epochs, np.float32(top)), output=epochs)
            counts = pm.summary().counts[0]
        assert (counts[0], counts[top], counts[top + 1], counts.sum()) == (1, 1, 2, 4)
        assert pm.never == 0.5


def test_a_thinned_map_has_every_so_manieth_neuron(small):
    thinned = small.thinned(10)
    np.testing.assert_array_equal(thinned.epochs, small.epochs[:, ::4, ::3])
    np.testing.assert_array_equal(thinned.axes["b"], B[::3])
    assert small.thinned(1).epochs.shape == (2, 1, 1)
    assert same(small.thinned(1000), small)


def test_nobody_learned_and_nobody_had_to():
    summary = map_neurons(z0=[8.0, 9.0], loss="mse", epochs=5, reduce="histogram")
    assert summary.never == 1
    assert np.isnan(summary.mean[0])
    assert np.isnan(summary.quantile(0.5)[0])
    assert map_neurons(z0=[-8.0, -9.0], loss="mse", epochs=0, reduce="histogram").counts.tolist() == [[2, 0]]


# ---- files ----


@pytest.mark.parametrize("reduce", [None, "histogram"])
def test_files_hold_all(reduce, tmp_path):
    result = map_neurons(w=W, b=0.5, lr=[0.1, 0.2], epochs=50, threshold=0.2, reduce=reduce)
    result.save(tmp_path / "map.npz")
    again = type(result).load(tmp_path / "map.npz")
    assert repr(again) == repr(result)
    assert (again.losses, again.epochs_run, again.threshold) == (result.losses, 50, 0.2)
    assert again.parameters.keys() == result.parameters.keys()
    for name, value in result.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], value)
    if reduce:
        np.testing.assert_array_equal(again.counts, result.counts)
    else:
        assert same(again, result)
    other = MapSummary if reduce is None else PhaseMap
    with pytest.raises(ValueError, match=rf"{other.__name__}.load: .*map\.npz must hold a {other.__name__}"):
        other.load(tmp_path / "map.npz")


def test_damaged_files_are_clear_errors(small, tmp_path):
    path = tmp_path / "map.npz"
    small.save(path)
    data = path.read_bytes()
    for i in range(0, len(data), 97):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :])
        with contextlib.suppress(ValueError):  # and no other error; what zip does not look at may change
            assert same(PhaseMap.load(path), small)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"must be a file of minnet"):
        PhaseMap.load(path)


HOSTILE = [
    {"axes": ["b", "w"]},
    {"axes": ["w"]},
    {"axes": ["w", "b", "nothing"]},
    {"axes": 3},
    {"axes": None},
    {"parameters": {"x": 1.0, "y": 0.0}},
    {"parameters": {"x": 1.0, "y": 0.0, "lr": 0.1, "z0": 1.0}},
    {"parameters": {"x": 1.0, "y": 0.0, "lr": 0.1, "more": 1.0}},
    {"parameters": {"x": "1", "y": 0.0, "lr": 0.1}},
    {"parameters": {"x": float("nan"), "y": 0.0, "lr": 0.1}},
    {"parameters": [1, 2]},
    {"losses": ["mse"]},
    {"losses": ["mse", "mse"]},
    {"losses": []},
    {"losses": [["mse"], ["bce"]]},
    {"losses": {"mse": 1}},
    {"losses": ["mse", "exec"]},
    {"epochs": -1},
    {"epochs": "many"},
    {"epochs": 100},
    {"epochs": 10**18},
    {"threshold": "small"},
    {"threshold": 7},
    {"kind": "MapSummary"},
    {"kind": ["PhaseMap"]},
]


@pytest.mark.parametrize("changed", HOSTILE, ids=json.dumps)
def test_hostile_files_are_clear_errors(changed, small, tmp_path):
    path = tmp_path / "map.npz"
    small.save(path)
    document, arrays = files.read_document("test", path, "minnet map")
    files.write_document("test", path, document | changed, arrays, "minnet map")
    with pytest.raises(ValueError, match=r"PhaseMap.load: .* must hold a PhaseMap"):
        PhaseMap.load(path)


def test_arrays_that_do_not_fit_are_clear_errors(small, tmp_path):
    path = tmp_path / "map.npz"
    small.save(path)
    document, arrays = files.read_document("test", path, "minnet map")
    changes = [
        {"epochs": small.epochs[:, 1:]},
        {"output": small.output.astype(np.float64)},
        {"epochs": np.zeros(small.epochs.shape, np.int32), "output": np.zeros(small.epochs.shape, np.int32)},
        {"epochs": -small.epochs - 1},
        {"axis/w": W[1:]},
        {"axis/w": np.full_like(W, np.nan)},
        {"axis/w": W.reshape(31, 1)},
        {"more": W},
    ]
    for change in changes:
        files.write_document("test", path, document, arrays | change, "minnet map")
        with pytest.raises(ValueError, match=r"PhaseMap.load: .* must hold a PhaseMap"):
            PhaseMap.load(path)
    del arrays["output"]
    files.write_document("test", path, document, arrays, "minnet map")
    with pytest.raises(ValueError, match=r"PhaseMap.load: .* must hold a PhaseMap"):
        PhaseMap.load(path)


@pytest.mark.parametrize(
    "counts", [np.ones((2, 122)), np.full((2, 122), -1), np.ones((2, 122), np.int64), np.ones((2, 9), np.int64)]
)
def test_counts_that_do_not_fit_are_clear_errors(counts, small, tmp_path):
    path = tmp_path / "map.npz"
    small.summary().save(path)
    document, _ = files.read_document("test", path, "minnet map")
    axes = {"axis/w": W, "axis/b": B}
    files.write_document("test", path, document, axes | {"counts": counts}, "minnet map")
    with pytest.raises(ValueError, match=r"MapSummary.load: .* must hold a MapSummary"):
        MapSummary.load(path)


# ---- stores ----


def test_numbers_of_numpy_are_numbers_for_a_store(tmp_path):
    given = {"w": W[:2], "b": np.float32(0.5), "x": np.int64(1), "epochs": np.int64(9), "threshold": np.float32(0.25)}
    first = map_neurons(**given, loss=np.array(["mse", "bce"]), store=tmp_path)
    first.save(tmp_path / "map.npz")
    assert same(PhaseMap.load(tmp_path / "map.npz"), first)


def test_a_store_holds_the_map_itself(small, tiny_tiles, tmp_path):
    first = map_neurons(w=W, b=B, epochs=120, store=tmp_path)
    assert isinstance(first.epochs, np.memmap)
    assert same(first, small)
    np.testing.assert_array_equal(np.load(tmp_path / "epochs.npy"), small.epochs)
    parts = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(parts) > 10
    again = map_neurons(w=W, b=B, epochs=120, store=tmp_path)
    assert same(again, first)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")} == parts
    again.epochs[...] = 0  # a new file: the map of before has its own
    assert same(first, small)


@pytest.mark.parametrize(
    "changed", [{"epochs": 99}, {"b": B + 0.1}, {"reduce": "histogram"}, {"loss": "mse"}, {"x": 2}]
)
def test_the_store_of_another_map_is_refused(changed, tmp_path):
    map_neurons(w=W[:3], b=B, epochs=12, store=tmp_path)
    with pytest.raises(ValueError, match="must be new or the store of this question"):
        map_neurons(**{"w": W[:3], "b": B, "epochs": 12, "store": tmp_path} | changed)


KILLED = Path(__file__).parent / "scripts" / "killed_map.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("reduce", ["whole", "histogram"])
def test_a_map_killed_at_random_moments_ends_in_the_same_bytes(reduce, tmp_path):
    command = [sys.executable, "-W", "error", str(KILLED), str(tmp_path), reduce]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(report)
    assert len(report["exits"]) >= 4
    assert set(report["exits"][:-1]) == {-signal.SIGKILL}
    assert len(set(report["finished"])) >= 3  # it got on from one to the next
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))
    parts = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "killed")]
    assert parts[0] == parts[1]


# ---- figures ----


def texts(figure):
    return " ".join([figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)])


def test_the_figure_of_a_map(small):
    pytest.importorskip("matplotlib")
    figure = small.plot()
    left, right, bar = figure.axes
    assert left.collections[0].norm is right.collections[0].norm
    assert (left.get_xlabel(), left.get_ylabel()) == ("weight w", "bias b")
    assert "epochs to learn" in bar.get_ylabel()
    assert "the law of small steps" in texts(figure)
    assert f"{np.isnan(small.epochs[0]).mean():.1%} not within 120 epochs" in left.get_title()
    figure.canvas.draw()
    for ax, foretold in zip((left, right), small.law(), strict=True):
        levels = [int(text.get_text()) for text in ax.texts]
        assert levels
        assert all(foretold.min() < level < foretold.max() for level in levels)


@pytest.mark.parametrize(
    "given",
    [
        {"w": W, "b": 0.5},
        {"z0": [1.0, 2.0], "y": [0.2, 0.5]},
        {"z0": [1.0], "lr": [0.1]},
        {"w": [1.0, 1.0], "b": [2.0, 2.0]},
        {"z0": B, "lr": np.geomspace(0.01, 1, 7), "loss": "bce"},
        {"z0": B, "lr": 0.0},
        {"z0": [-8.0, -9.0], "x": [0.0, 1.0], "epochs": 0},
    ],
)
@pytest.mark.filterwarnings("error")
def test_any_map_of_one_or_two_axes_has_a_figure(given):
    pytest.importorskip("matplotlib")
    with np.errstate(all="warn"):
        pm = map_neurons(**{"epochs": 30} | given)
        pm.plot().canvas.draw()
        pm.summary().plot().canvas.draw()


def test_other_maps_have_none():
    for given in ({"w": W, "b": B, "x": [1.0, 2.0]}, {"z0": 1.0}):
        with pytest.raises(ValueError, match=r"PhaseMap.plot: a map must have one or two axes to be drawn"):
            map_neurons(**given, epochs=3).plot()


# ---- bad input ----

BAD = [
    ({"w": W}, ValueError, "map_neurons: w and b, or else z0 alone, must be given, got w"),
    ({}, ValueError, "w and b, or else z0 alone, must be given, got none"),
    ({"w": W, "b": B, "z0": B}, ValueError, "w and b, or else z0 alone, must be given, got w and b and z0"),
    ({"w": W, "b": B.reshape(1, -1)}, ValueError, r"b must be a number or a vector, got \(1, 23\)"),
    ({"w": [], "b": B}, ValueError, r"w must be a number or a vector, got \(0,\)"),
    ({"w": [1, np.nan], "b": B}, ValueError, "w must hold finite numbers"),
    ({"w": "1", "b": B}, TypeError, "w must hold real numbers"),
    ({"w": [1e30], "b": B, "x": [1e30]}, ValueError, r"w x \+ b and lr \(x\^2 \+ 1\) must be finite in float32"),
    ({"z0": B, "y": [0.0, 1.5]}, ValueError, "y must hold finite numbers >= 0 and <= 1"),
    ({"z0": B, "lr": [0.1, -0.5]}, ValueError, "lr must hold finite numbers >= 0"),
    ({"z0": B, "loss": ("mse", "l1")}, ValueError, "loss must be one of 'mse', 'bce'"),
    ({"z0": B, "loss": ()}, ValueError, "loss must be one or more losses, each once"),
    ({"z0": B, "loss": ("mse", "mse")}, ValueError, "loss must be one or more losses, each once"),
    ({"z0": B, "loss": 3}, TypeError, "loss must be one of"),
    ({"z0": B, "epochs": -1}, ValueError, "epochs must be at least 0"),
    ({"z0": B, "epochs": 1.5}, TypeError, "epochs must be an integer"),
    ({"z0": B, "reduce": "histogram", "epochs": "9"}, TypeError, "epochs must be an integer"),
    ({"z0": B, "threshold": None}, TypeError, "threshold must be a number"),
    ({"z0": B, "threshold": 1}, ValueError, "threshold must be less than 1"),
    ({"z0": B, "dtype": "int8"}, ValueError, "dtype must be float32 or float64"),
    ({"z0": B, "reduce": "mean"}, ValueError, "reduce must be one of 'histogram', got 'mean'"),
    ({"z0": B, "reduce": "histogram", "epochs": 2**21}, ValueError, "epochs must be at most 1048576 to be counted"),
    ({"z0": B, "executor": 3}, TypeError, "executor must be None, a concurrent"),
]


@pytest.mark.parametrize(("given", "error", "rule"), BAD)
def test_bad_input(given, error, rule, tmp_path):
    with pytest.raises(error, match=rule):
        map_neurons(**given, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
