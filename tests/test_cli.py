"""The command line: what it prints, what it writes, and what it says to wrong arguments."""

import csv
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minnet
from minnet.cli import main


def rows_of(text, first_column):
    """The lines of a printed table that begin with `first_column`, split at runs of two blanks."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.startswith(first_column)]


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_saturation_prints_the_known_table_and_writes_figure_and_trajectories(tmp_path, capsys):
    assert main(["saturation", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert rows_of(text, "quadratic cost") == [
        ["quadratic cost", "0.6, 0.9", "0.8176", "0.1219", "-1.283", "-0.983", "0.0940", "epoch 29", "epoch 273"],
        ["quadratic cost", "2, 2", "0.9820", "0.0173", "-0.684", "-0.684", "0.2028", "epoch 212", "never"],
    ]
    assert rows_of(text, "cross-entropy") == [
        ["cross-entropy", "0.6, 0.9", "0.8176", "0.8176", "-2.371", "-2.071", "0.0116", "epoch 6", "epoch 41"],
        ["cross-entropy", "2, 2", "0.9820", "0.9820", "-2.205", "-2.205", "0.0120", "epoch 8", "epoch 50"],
    ]
    assert rows_of(text, "2, 2") == [["2, 2", "0.9820", "0.9820", "0.0177", "0.0173", "0.9820", "56.6"]]
    rows = read_csv(tmp_path / "neuron.csv")
    assert len(rows) == 4 * 301
    assert float(rows[-1]["output"]) == pytest.approx(0.0120, abs=5e-5)
    assert (tmp_path / "neuron.png").read_bytes()[:4] == b"\x89PNG"


def test_saturation_options_reach_the_experiment(tmp_path, capsys):
    options = ["--w", "1", "--b", "0", "3", "--x", "2", "--y", "1", "--lr", "0.3", "--epochs", "5", "--loss", "bce"]
    assert main(["saturation", *options, "--no-plot", "--out", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "neuron.csv")
    assert {(row["loss"], row["start_w"], row["start_b"]) for row in rows} == {
        ("bce", "1.0", "0.0"),
        ("bce", "1.0", "3.0"),
    }
    assert len(rows) == 2 * 6
    run = minnet.lab.train_neuron(1, 3, x=2, y=1, loss="bce", lr=0.3, epochs=5)
    assert float(rows[-1]["w"]) == run.w[-1]
    assert not (tmp_path / "neuron.png").exists()
    assert "x = 2, target y = 1" in capsys.readouterr().out


def test_saturation_of_a_net_prints_and_writes_each_epoch(tmp_path, capsys):
    assert main(["saturation", "--net", "--epochs", "2", "--hidden", "5", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "A net 64-5-10 with sigmoid units on 1438 digits" in text
    assert [row[:3] for row in rows_of(text, "cross-entropy")] == [
        ["cross-entropy", init, epoch] for init in ("scaled", "large") for epoch in ("0", "1", "2")
    ]
    rows = read_csv(tmp_path / "net.csv")
    assert len(rows) == 4 * 3
    assert all(0 <= float(row["saturated"]) <= 1 and float(row["gradient_output"]) > 0 for row in rows)
    assert (tmp_path / "net.png").exists()


@pytest.mark.mnist
def test_saturation_on_mnist(tmp_path, capsys, monkeypatch):
    import os

    options = ["--mnist", os.environ["MINNET_DATA"], "--epochs", "1", "--init", "scaled", "--no-plot"]
    assert main(["saturation", *options, "--out", str(tmp_path)]) == 0
    assert "784-30-10" in capsys.readouterr().out
    last = read_csv(tmp_path / "net.csv")[-1]
    assert last["loss"] == "bce"
    assert float(last["accuracy"]) > 0.85


def test_without_matplotlib_all_but_the_figure_is_done(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["saturation", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "neuron.csv" in out
    assert "neuron.png" not in out
    assert "pip install 'minnet[plot]'" in err
    assert "--no-plot" in err
    assert [path.name for path in tmp_path.iterdir()] == ["neuron.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--y", "2"], r"train_neuron: y must be a finite number >= 0 and <= 1, got 2.0"),
        (["--lr", "-1"], r"train_neuron: lr must be a finite number >= 0, got -1.0"),
        (["--epochs", "-3"], r"train_neuron: epochs must be at least 0, got -3"),
        (["--w", "1", "2", "3"], r"--w and --b must have as many values.*\[1.0, 2.0, 3.0\]"),
        (["--net", "--w", "3"], r"saturation: --w must go without --net, got \[3.0\] \(it is for neurons\)"),
        (["--mnist", "folder", "--x", "2"], r"saturation: --x must go without --net, got 2.0"),
        (["--batch-size", "5"], r"saturation: --batch-size must go with --net, got 5 \(it is for nets\)"),
        (["--net", "--batch-size", "0"], r"fit: batch_size must be at least 1, got 0"),
        (["--net", "--hidden", "0"], r"MLP: sizes must be at least 1, got 0"),
        (["--mnist", "no-such-folder"], r"mnist: .* must be in one folder.*no-such-folder"),
    ],
)
def test_wrong_values_end_in_one_line_and_status_2(options, message, tmp_path, capsys):
    assert main(["saturation", *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert re.search("^minnet saturation: error: .*" + message, error)
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [[], ["saturatoin"], ["saturation", "--loss", "l1"], ["saturation", "--x", "one"], ["info", "-v"]]
)
def test_unknown_words_end_in_usage(options, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert "usage: minnet" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["saturation", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    names = [
        "w",
        "b",
        "x",
        "y",
        "lr",
        "epochs",
        "loss",
        "out",
        "no-plot",
        "net",
        "mnist",
        "hidden",
        "init",
        "batch-size",
        "seed",
    ]
    assert [name for name in names if f"--{name}" not in text] == []
    assert "(default: None)" not in text


def test_module_and_version():
    result = subprocess.run([sys.executable, "-m", "minnet", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"minnet {minnet.__version__}\n"


# ---- info, bench ----


def test_info_says_what_runs(capsys):
    assert main(["info"]) == 0
    assert f"    version       {minnet.__version__}\n" in capsys.readouterr().out


@pytest.fixture
def in_clone(monkeypatch):
    """The working directory is the clone, and the path, to which `bench` adds it, is put back."""
    monkeypatch.chdir(Path(__file__).parents[1])
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.usefixtures("in_clone")
@pytest.mark.parametrize("status", [0, 1])
def test_bench_hands_over_all_options_and_gives_the_status_back(status, monkeypatch):
    seen = []
    sys.path.append(".")
    monkeypatch.setattr(
        importlib.import_module("benchmarks.__main__"), "main", lambda arguments: seen.append(arguments) or status
    )
    assert main(["bench", "--quick", "--only", "sigmoid 64", "-h", "--version"]) == status
    assert seen == [["--quick", "--only", "sigmoid 64", "-h", "--version"]]


@pytest.mark.usefixtures("in_clone")
def test_bench_reaches_the_benchmarks(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "--only", "no such case"])
    assert exit_.value.code == 2
    assert "python -m benchmarks: error: --only: no case matches 'no such case'" in capsys.readouterr().err


def test_bench_without_a_clone_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(minnet, "__file__", str(tmp_path / "minnet" / "__init__.py"))
    assert main(["bench", "--quick"]) == 2
    error = capsys.readouterr().err
    assert re.search(
        r"^minnet bench: error: bench: the folder benchmarks must be .*, got neither \(run it in a clone", error
    )
    assert error.count("\n") == 1
