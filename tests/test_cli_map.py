"""`minnet map`: what it prints, what it writes, and what it says to wrong arguments."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import minnet as mn
from minnet import cli_map
from minnet.cli import main
from minnet.lab import MapSummary, PhaseMap


def run(folder, *options):
    """The status of a command that writes to `folder`."""
    return main(["map", *map(str, options), "--out", str(folder)])


def row_of(text, name):
    line = next(line for line in text.splitlines() if line.startswith(name))
    return re.split(r"\s{2,}", line.strip())


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_prints_the_table_and_writes_figure_map_and_csv(tmp_path, capsys):
    assert run(tmp_path, "--grid", 200) == 0
    text = capsys.readouterr().out
    assert text.startswith("40,000 sigmoid neurons (200 x 200), w = -8 ... 8, b = -8 ... 8, x = 1, y = 0,\n")
    pm = mn.lab.map_neurons(w=np.linspace(-8, 8, 200), b=np.linspace(-8, 8, 200))
    summary = pm.summary()
    for i, name in enumerate(("quadratic cost", "cross-entropy")):
        cells = row_of(text, name)
        assert cells[2] == f"{summary.never[i]:.2%}"
        assert cells[3] == f"{summary.quantile(0.5)[i]:.0f}"
        off = np.abs(pm.departure()[i])
        assert cells[5] == f"{np.nanmedian(off):.2f}, at most {np.nanmax(off):.2f}"
        assert float(read_csv(tmp_path / "map.csv")[i]["never_learned"]) == summary.never[i]
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    np.testing.assert_array_equal(PhaseMap.load(tmp_path / "map.npz").epochs, pm.epochs)


def test_two_values_are_an_axis_and_one_is_not(tmp_path):
    options = ["--z0", -1, 6, "--lr", 0.01, 1, "--grid", 5, 3, "--y", 1, "--x", 0.5, "--loss", "bce", "--epochs", 90]
    assert run(tmp_path, *options, "--threshold", 0.2, "--double", "--no-plot") == 0
    pm = PhaseMap.load(tmp_path / "map.npz")
    want = mn.lab.map_neurons(
        z0=np.linspace(-1, 6, 5),
        lr=np.geomspace(0.01, 1, 3),
        y=1,
        x=0.5,
        loss="bce",
        epochs=90,
        threshold=0.2,
        dtype="float64",
    )
    assert repr(pm) == repr(want)
    np.testing.assert_array_equal(pm.output, want.output)
    assert not (tmp_path / "map.png").exists()


def test_large_grids_are_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli_map, "LARGEST", 5000)
    monkeypatch.setattr(cli_map, "SHOWN", 30)
    assert run(tmp_path, "--grid", 90, 80) == 0
    summary = MapSummary.load(tmp_path / "map.npz")
    pm = mn.lab.map_neurons(w=np.linspace(-8, 8, 90), b=np.linspace(-8, 8, 80))
    np.testing.assert_array_equal(summary.counts, pm.summary().counts)
    text = capsys.readouterr().out
    assert row_of(text, "quadratic cost")[2] == f"{summary.never[0]:.2%}"
    assert "of a sample: 810 neurons of the grid" in text
    assert (tmp_path / "map.png").exists()
    assert run(tmp_path, "--grid", 10, "--count") == 0
    assert MapSummary.load(tmp_path / "map.npz").neurons == 100


def test_targets_without_a_law_have_no_law(tmp_path, capsys):
    assert run(tmp_path, "--grid", 20, "--y", 0.4) == 0
    text = capsys.readouterr().out
    assert len(row_of(text, "quadratic cost")) == 5
    assert "The law" not in text


def test_one_neuron_is_a_map_without_figure(tmp_path, capsys):
    assert run(tmp_path, "--w", 2, "--b", 2) == 0
    assert row_of(capsys.readouterr().out, "quadratic cost")[1:4] == ["0.00%", "100.00%", "never"]
    assert not (tmp_path / "map.png").exists()


@pytest.mark.slow
def test_workers_and_a_store_give_the_same_bytes(tmp_path):
    command = [sys.executable, "-m", "minnet", "map", "--grid", "700", "--no-plot"]
    options = {"one": [], "two": ["--workers", "2", "--store", "parts"], "again": ["--store", "parts"]}
    for name, more in options.items():
        subprocess.run([*command, *more, "--out", name], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    one, two, again = ((tmp_path / name / "map.npz").read_bytes() for name in options)
    assert one == two == again


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("options", [[], ["--workers", "2"]], ids=["threads", "processes"])
def test_ctrl_c_ends_in_one_line(options, tmp_path):
    command = [sys.executable, "-m", "minnet", "map", "--grid", "20000", "--store", "parts", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("parts/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all processes of a command
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err) == ("", "minnet map: interrupted\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--z0", "1", "2", "--w", "1"], "--z0 must stand alone, without --w and --b"),
        (["--w", "1", "2", "3"], "--w must have one value or two ends, got [1.0, 2.0, 3.0]"),
        (["--grid", "3", "4", "5"], "--grid must have one number of at least 1, or 2, one an axis, got [3, 4, 5]"),
        (["--grid", "0"], "--grid must have one number of at least 1"),
        (["--lr", "0", "1"], "--lr must have ends above 0, in ascending order, got (0.0, 1.0)"),
        (["--lr", "-1"], "lr must hold finite numbers >= 0"),
        (["--w", "nan", "1"], "--w must have finite ends"),
        (["--y", "2"], "y must hold finite numbers >= 0 and <= 1"),
        (["--epochs", "-1"], "epochs must be at least 0"),
        (["--threshold", "0"], "threshold must be a finite number > 0"),
        (["--net", "--grid", "5"], "--grid must go without --net, got [5] (it is for neurons)"),
        (["--output-scale", "2"], "--output-scale must go with --net, got [2.0] (it is for nets)"),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_end_in_one_line(options, said, tmp_path, capsys):
    assert run(tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("minnet map: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_store_of_another_map_is_named(tmp_path, capsys):
    assert run(tmp_path, "--grid", 9, "--no-plot", "--store", tmp_path / "parts") == 0
    assert run(tmp_path, "--grid", 9, "--no-plot", "--store", tmp_path / "parts", "--epochs", 9) == 2
    assert "must be new or the store of this question, got one that differs in epochs" in capsys.readouterr().err


def test_help_has_examples_that_are_taken(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["map", "--help"])
    text = capsys.readouterr().out
    examples = re.findall(r"^  minnet map (.*?)   ", text, flags=re.MULTILINE)
    assert sum("--net" in example for example in examples) == 1  # of nets: test_network_maps.py
    examples = [example for example in examples if "--net" not in example]
    assert len(examples) >= 4
    for example in examples:
        options = [option for option in example.split() if option not in ("31623", "--grid", "10000", "--epochs")]
        assert run(tmp_path, *options, "--grid", "4", "--no-plot", "--store", tmp_path / str(len(options))) == 0
