"""The benchmarks: their arithmetic on made-up numbers, their right answers, and the command. No time is asserted."""

import importlib
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # benchmarks stands beside minnet and is not installed

bystanders, cases, command, contenders, measure, report, results, timing = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("bystanders", "cases", "__main__", "contenders", "measure", "report", "results", "timing")
)


def case(key):
    return cases.Case(*key.rsplit(" ", 2))


def timed(**medians):
    return {name.replace("_", " "): {"median": median, "spread": 0.0} for name, median in medians.items()}


def made_up_record(*, others=0.0, excluded=(), **medians):
    times = timed(**medians)
    about = {"name": "softmax", "size": "128x10", "dtype": "float32", "excluded": dict(excluded), "others": others}
    return about | {"times": times} | results.comparison(times)


def made_up_run(*records, noise=0.0):
    spreads = {"memcpy": noise, "all": 0.0}
    return {
        "threads": 1,
        "pinned": True,
        "versions": {"minnet": "9.9"},
        "missing": ["no torch"],
        "noise": spreads,
        "cases": list(records),
    }


# ---- the command ----


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What the command prints and writes for one small case."""
    folder = tmp_path_factory.mktemp("benchmarks")
    options = ["--quick", "--only", "sigmoid 64", "--threads", "1", "--without", "torch.compile", "jax"]
    options += ["--json", str(folder / "b.json"), "--plot", str(folder / "b.png")]
    result = subprocess.run([sys.executable, "-m", "benchmarks", *options], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads((folder / "b.json").read_text()), (folder / "b.png").read_bytes()


def test_json_names_the_machine_and_the_libraries(output):
    _, document, _ = output
    assert set(document) == {"machine", "runs"}
    assert set(document["machine"]) == {"cpu", "cores", "system", "python", "date"}
    (run,) = document["runs"]
    assert run["threads"] == 1
    assert run["versions"]["numpy"] == np.__version__


def test_json_has_every_case_with_every_round(output):
    (run,) = output[1]["runs"]
    assert [(c["name"], c["size"], c["dtype"], c["bytes"]) for c in run["cases"]] == [
        ("sigmoid", "64", "float32", 512),
        ("sigmoid", "64", "float64", 1024),
    ]
    for record in run["cases"]:
        assert {"minnet", "numpy", "memcpy"} <= set(record["times"])
        assert record["excluded"] == {}
        assert {len(time["rounds"]) for time in record["times"].values()} == {command.QUICK_ROUNDS}


def test_ratios_follow_from_the_rounds(output):
    for record in output[1]["runs"][0]["cases"]:
        medians = {name: np.median(time["rounds"]) for name, time in record["times"].items()}
        ours, copy = medians.pop("minnet"), medians.pop("memcpy")
        best = min(medians, key=medians.get)
        assert record["best_peer"] == best
        assert record["ratio"] == pytest.approx(medians[best] / ours)
        assert record["ratio_to_memcpy"] == pytest.approx(ours / copy)


def test_table_and_chart_are_made(output):
    text, _, chart = output
    assert "peer / minnet" in text
    assert text.count("sigmoid") == 2
    assert chart.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing like it"], "no case matches 'nothing like it'"),
        (["--only", "("], "not a regular expression"),
        (["--rounds", "0"], "must be a whole number above 0, got 0"),
        (["--json", "no/such/folder/b.json"], "no folder"),
        (["--without", "minnet"], "invalid choice"),
    ],
    ids=["no-case", "bad-regex", "rounds", "folder", "without-minnet"],
)
def test_wrong_arguments_end_before_anything_is_measured(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert message in capsys.readouterr().err


# ---- arithmetic ----


def test_summary_is_median_and_relative_quartile_range():
    assert results.summary([5.0, 1.0, 4.0, 2.0, 3.0]) == {"median": 3.0, "spread": pytest.approx(2 / 3)}
    assert results.summary([2.0]) == {"median": 2.0, "spread": 0.0}


def test_best_peer_is_neither_minnet_nor_memcpy():
    found = results.comparison(timed(memcpy=1.0, minnet=2.0, numpy=5.0, torch=3.0))
    assert found == {"best_peer": "torch", "ratio": 1.5, "ratio_to_memcpy": 2.0}


def test_comparison_without_peers_or_without_minnet():
    assert results.comparison(timed(memcpy=1.0, minnet=2.0))["ratio"] is None
    found = results.comparison(timed(memcpy=1.0, torch=3.0))
    assert found == {"best_peer": "torch", "ratio": None, "ratio_to_memcpy": None}


def test_losses_are_ratios_below_one():
    slower, faster = made_up_record(memcpy=1, minnet=2, numpy=1), made_up_record(memcpy=1, minnet=2, numpy=3)
    unknown = made_up_record(memcpy=1, numpy=3)
    assert results.losses([slower, faster, unknown]) == [slower]


def test_noise_is_the_median_spread():
    spreads = [(0.0, 0.3), (0.2, 0.3), (0.4, 0.3)]
    records = [{"times": {"memcpy": {"spread": a}, "minnet": {"spread": b}}} for a, b in spreads]
    assert results.noise(records) == {"memcpy": 0.2, "all": pytest.approx(0.3)}
    assert results.is_noisy({"memcpy": 0.2, "all": 0.0})
    assert not results.is_noisy({"memcpy": 0.1, "all": 0.1})


@pytest.mark.parametrize("seconds", [1.0, 2e-3, 3e-6, 5e-8, 0.0])
def test_calls_fill_a_block(seconds):
    calls = timing.calls_per_block(None, clock=lambda _, calls: calls * max(seconds, 1e-9))
    assert calls == 1 or timing.BLOCK / 2 <= calls * max(seconds, 1e-9) <= 2 * timing.BLOCK


def test_a_turn_waits_for_threads_that_still_work():
    """As those of BLAS do, on a CPU that the next contender needs."""
    done = []

    def spin():
        stop = time.process_time() + 0.1
        while time.process_time() < stop:
            pass
        done.append(True)

    threading.Thread(target=spin).start()
    timing.settle()
    assert done


def test_rounds_fit_the_budget():
    least, most = timing.ROUNDS
    assert timing.affordable_rounds(100.0) == least
    assert timing.affordable_rounds(timing.BUDGET / 12.5) == 12
    assert timing.affordable_rounds(1e-6) == most


def test_contenders_take_turns(monkeypatch):
    turns = []
    monkeypatch.setattr(timing, "calls_per_block", lambda run: 4)
    monkeypatch.setattr(timing, "block", lambda run, calls: turns.append(run.__name__) or 2.0 * calls)

    def a():
        pass

    def b():
        pass

    seconds, calls = timing.time_interleaved({"a": a, "b": b}, rounds=3)
    assert turns == ["a", "b"] * 3
    assert seconds == {"a": [2.0] * 3, "b": [2.0] * 3}
    assert calls == {"a": 4, "b": 4}


def test_bystanders_are_the_work_that_is_not_ours():
    assert bystanders.between((0.0, 10.0, 2.0), (4.0, 16.0, 4.0)) == 1.0
    assert bystanders.between((0.0, 10.0, 2.0), (4.0, 11.0, 4.0)) == 0.0
    assert bystanders.between(None, (4.0, 11.0, 4.0)) is None


def test_snapshot_counts_work_of_our_cpus_only(tmp_path, monkeypatch):
    path = tmp_path / "stat"
    path.write_text("cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 100 20 3 500 600 7 8 9 1000 0\ncpu1 1 1 1 1 1 1 1 1 1 1\nintr 5\n")
    monkeypatch.setattr(bystanders, "available", lambda: [0])
    monkeypatch.setattr(bystanders.os, "sysconf", lambda name: 100, raising=False)
    assert bystanders.snapshot(path)[1] == pytest.approx(1.47)
    assert bystanders.snapshot(tmp_path / "none") is None


# ---- cases and answers ----


@pytest.mark.parametrize(
    ("key", "shape", "moved"),
    [
        ("sigmoid 2^20 float32", (1 << 20,), 8 << 20),
        ("cross-entropy 128x10 float64", (128, 10), 20480),
        ("binary cross-entropy 64 float32", (64,), 768),
        ("Adam 10^6 float32", (10**6,), 28 * 10**6),
    ],
    ids=["2^20", "128x10", "64", "10^6"],
)
def test_size_labels_and_bytes(key, shape, moved):
    assert case(key).key == key
    assert case(key).shape == shape
    assert case(key).bytes == moved


def test_cases_are_found_by_text_or_by_regex():
    assert [c.key for c in cases.select("sigmoid 2^20")] == ["sigmoid 2^20 float32", "sigmoid 2^20 float64"]
    assert {c.name for c in cases.select("^cross.*10 ", ["float32"])} == {"cross-entropy"}
    assert len(cases.select()) == 2 * len(cases.select(dtypes=["float64"])) > 30


@pytest.mark.parametrize(
    "key", [f"{name} {operation.sizes[0]}" for name, operation in cases.OPERATIONS.items()], ids=lambda key: key
)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_every_installed_contender_gives_the_right_answer(key, dtype):
    field, versions, _ = contenders.load(1, without=("torch", "torch.compile", "jax"))
    with np.errstate(all="warn"):  # of peers nothing is asked but the answer
        jobs, wrong = measure.right_jobs(case(f"{key} {dtype}"), field)
    assert wrong == {}
    assert {"minnet", "numpy"} <= set(jobs)
    assert {"minnet", "numpy"} <= set(versions)


@pytest.mark.parametrize(
    ("got", "phrase"),
    [
        (np.array([1.0, 2.0 + 1e-9]), "1 of 2 values wrong"),
        (np.array([1.0, np.nan]), "1 of 2 values wrong"),
        (np.array([1.0, 2.0], np.float32), "float32 instead of float64"),
        (np.array([[1.0, 2.0]]), r"shape \(1, 2\) instead of \(2,\)"),
    ],
    ids=["value", "nan", "dtype", "shape"],
)
def test_wrong_answers_are_seen(got, phrase):
    expected = (np.array([1.0, 2.0]),)
    assert cases.disagreement((np.array([1.0, 2.0 + 1e-14]),), expected, "float64") is None
    assert re.search(phrase, cases.disagreement((got,), expected, "float64"))


def test_wrong_and_failing_contenders_are_left_out_by_name():
    field, _, _ = contenders.load(1, without=tuple(set(contenders.LIBRARIES.values()) - {"minnet"}))
    field["wrong"] = {"sigmoid": lambda p: contenders.Job(lambda: p.x, lambda result: (result,))}
    field["broken"] = {"sigmoid": lambda p: 1 // 0}
    field["elsewhere"] = {}
    jobs, excluded = measure.right_jobs(case("sigmoid 64 float64"), field)
    assert list(jobs) == ["minnet"]
    assert set(excluded) == {"wrong", "broken"}
    assert "values wrong" in excluded["wrong"]
    assert "ZeroDivisionError" in excluded["broken"]


def test_a_peer_that_does_not_load_is_named_and_minnet_must(monkeypatch):
    monkeypatch.setitem(contenders.LIBRARIES, "nothing_of_the_kind", "nothing")
    assert any("nothing_of_the_kind" in phrase for phrase in contenders.load(1, ("torch", "torch.compile", "jax"))[2])
    monkeypatch.setitem(contenders.LIBRARIES, "nothing_of_the_kind", "minnet")
    with pytest.raises(ImportError, match="nothing_of_the_kind"):
        contenders.load(1, ("torch", "torch.compile", "jax"))


# ---- the report ----


def shown(*records, noise=0.0):
    about = {"cpu": "Abacus", "cores": 1, "system": "Linux", "python": "3", "date": "2000-01-01"}
    return "\n".join(report.text(about, made_up_run(*records, noise=noise)))


def test_losses_are_marked_and_counted():
    text = shown(made_up_record(memcpy=1, minnet=2, numpy=1), made_up_record(memcpy=1, minnet=2, numpy=3))
    assert "0.50 SLOWER" in text
    assert "1.50 SLOWER" not in text
    assert "slower than the best peer in 1 of 2 cases" in text


def test_who_was_left_out_is_said():
    text = shown(made_up_record(memcpy=1, numpy=3, excluded={"minnet": "2 of 9 values wrong"}))
    assert "Left out of softmax 128x10 float32: minnet: 2 of 9 values wrong" in text
    assert "Not measured: no torch" in text
    assert "in 0 of 0 cases" in text


def test_noise_and_bystanders_are_warned_of():
    quiet = made_up_record(memcpy=1, minnet=2, numpy=3, others=None)
    assert "WARNING" not in shown(quiet)
    assert "WARNING, a noisy machine: median spread 20.0% for memcpy" in shown(quiet, noise=0.2)
    busy = made_up_record(memcpy=1, minnet=2, numpy=3, others=0.5)
    assert "WARNING, a busy machine: other processes took part of a CPU in 1 cases" in shown(quiet, busy)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.2e-8, "42 ns"),
        (4.56e-7, "456 ns"),
        (1.234e-6, "1.23 us"),
        (45.6e-3, "45.6 ms"),
        (0.789, "789 ms"),
        (12, "12.0 s"),
    ],
)
def test_durations_have_three_digits(seconds, text):
    assert report.duration(seconds) == text


def test_chart_has_a_bar_for_every_ratio_and_a_line_at_one():
    figure = importlib.import_module("matplotlib.figure").Figure()
    panel = figure.subplots()
    records = [
        made_up_record(memcpy=1, minnet=2, numpy=1) | {"size": "10x10"},
        made_up_record(memcpy=1, minnet=2, numpy=6) | {"size": "128x10"},
        made_up_record(memcpy=1, numpy=6) | {"size": "8192x10"},
    ]
    report.draw(panel, made_up_run(*records), [report.label(record) for record in records])
    ends = [bar.get_x() + bar.get_width() for bar in panel.patches if bar.get_height()]
    assert ends[:2] == [0.5, 3.0]
    assert [line.get_xdata()[0] for line in panel.lines] == [1]
    assert [text.get_text().strip() for text in panel.texts] == ["0.50 numpy", "3.00 numpy"]


# ---- what options cost ----


def _sums(value, grad):
    return np.ndim(value), float(np.sum(value)), float(np.abs(grad).sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_option_that_is_timed_is_one(dtype, rng):
    options = importlib.import_module("benchmarks.options")
    for calls in (
        options.label_calls(rng, 40, 5, dtype),
        options.share_calls(rng, 40, 5, dtype),
        options.binary_calls(rng, 300, dtype),
        options.binary_calls(rng, 40, 5, dtype),
    ):
        assert len({_sums(*call()) for call in calls.values()}) == len(calls)
        plain, ratios = options.ratios(calls, rounds=1)
        assert plain > 0
        assert ratios["plain"] == 1
        assert list(ratios) == list(calls)
