"""The cases of `python -m benchmarks.hard_inputs`: minnet is right in every one, the judge is strict, and the table in
docs/losses.md is the one that the command prints."""

import importlib
import math
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # benchmarks stands beside minnet and is not installed
hard = importlib.import_module("benchmarks.hard_inputs")

CASES = {case.name: case for case in hard.cases()}
LEAST = {"float32": 2.0**-149, "float64": 2.0**-1074}


def documented():
    """The rows of the table in the document, as lists of cells, its head first."""
    lines = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| case | exact |"))
    rows = [line for line in lines[start:] if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not row.startswith("|---")]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_minnet_is_right(case):
    assert hard.verdict(hard.with_minnet(), case) == "right"


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.wanted == hard.ERROR], ids=lambda c: c.name)
def test_what_makes_no_sense_is_a_value_error(case):
    with pytest.raises(ValueError, match=r"^(cross_entropy|binary_cross_entropy_with_logits): .*, got "):
        hard.with_minnet()(case)


def test_the_document_has_every_case_and_minnet_right_in_all():
    head, *rows = documented()
    assert head == ["case", "exact", *hard.CONTENDERS]
    assert [row[:2] for row in rows] == [[case.name, hard.wanted_text(case)] for case in CASES.values()]
    assert {row[2] for row in rows} == {"right"}
    assert all(len(row) == len(head) for row in rows)


def test_the_command_prints_the_rows_of_the_document(monkeypatch, capsys):
    monkeypatch.setattr(hard, "load", lambda: {"minnet": hard.with_minnet()})
    assert hard.main() == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|") and "---" not in line]
    assert printed == [f"| {' | '.join(row[:3])} |" for row in documented()]


# ---- the judge ----


def test_exact_answers_agree_with_those_worked_by_hand():
    tail = hard.exact(CASES["right by 17, float32"])
    assert float(tail.value) == pytest.approx(2 * math.exp(-17), rel=1e-7)
    assert float(tail.grad[0, 0]) == pytest.approx(-2 * math.exp(-17), rel=1e-7)
    assert float(tail.grad[0, 1]) == pytest.approx(math.exp(-17), rel=1e-7)
    even = hard.exact(CASES["logits [v, v] with v = 1e+30, float32"])
    assert (float(even.value), *map(float, even.grad[0])) == (math.log(2), -0.5, 0.5)
    binary = hard.exact(CASES["binary, logit 17, label 1, float32"])
    assert float(binary.value) == pytest.approx(math.log1p(math.exp(-17)), rel=1e-15)
    assert float(binary.grad[0]) == pytest.approx(-1 / (1 + math.exp(17)), rel=1e-15)


def test_the_exact_gradient_of_the_focal_loss_is_that_of_its_value():
    case = hard.softmax_case("", [[0.3, -0.2, 0.9]], [1], gamma=0.5)
    for k in range(3):

        def value(v, k=k):
            z = [*case.x[0].tolist()]
            z[k] = v
            return hard.exact_row(case, z, 1)[0]

        assert abs(hard.mp.diff(value, case.x[0, k]) - hard.exact(case).grad[0, k]) < mpmath.mpf(10) ** -100


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_is_within_4_eps_or_a_subnormal_spacing(dtype):
    eps, least = float(np.finfo(dtype).eps), LEAST[dtype]
    right = [(1 + 4 * eps, 1), (-1, -1), (0, least), (2 * least, least), (math.inf, math.inf), (-math.inf, -math.inf)]
    wrong = [
        (1 + 5 * eps, 1),
        (1, -1),
        (0, 4 * least),
        (math.nan, 1),
        (math.inf, 1),
        (1, math.inf),
        (math.inf, -math.inf),
    ]
    assert all(hard.is_right(got, wanted, dtype) for got, wanted in right)
    assert not any(hard.is_right(got, wanted, dtype) for got, wanted in wrong)


def failing(case):
    raise IndexError("no")


def not_a_loss(case):
    raise TypeError("unexpected keyword")


def zero(case):
    return hard.Answer(0.0, np.zeros_like(case.x))


@pytest.mark.parametrize(
    ("contender", "name", "cell"),
    [
        (zero, "right by 17, float32", "loss 0, gradient 0"),
        (zero, "all rows ignored", "right"),
        (zero, "logits [-inf, 0, 0], label 0", "loss 0, gradient 0"),
        (zero, "label -1", "loss 0"),
        (failing, "label -1", "right"),
        (failing, "no rows", "IndexError"),
        (not_a_loss, "label -1", "TypeError"),
        (lambda case: None, "no rows", "-"),
        (lambda case: hard.Answer(math.nan, None), "all rows ignored", "loss nan"),
        (lambda case: hard.Answer(0, np.zeros(2)), "all rows ignored", "gradient of shape (2,)"),
    ],
)
def test_the_verdict_says_what_is_wrong(contender, name, cell):
    assert hard.verdict(contender, CASES[name]) == cell


def test_a_contender_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(hard.CONTENDERS, "torch", (failing, "no_such_module"))
    assert list(hard.load(("minnet", "torch"))) == ["minnet"]


def test_scikit_learn_gets_no_label_that_it_would_read_memory_for():
    pytest.importorskip("sklearn")
    run = hard.with_sklearn()
    assert run(CASES["label 3 of 3 classes"]) is None
    assert run(CASES["label -1"]) is None
    assert hard.verdict(run, CASES["every other column"]) == "right"
    assert hard.verdict(hard.with_log_loss(), CASES["right by 17, float32"]) == "loss 1.19e-07"
