"""Cross-entropy and nll_loss equal torch's over a grid of their options, by values that torch gave once, and by torch
itself where it is installed. Where torch gives NaN, as the mean of nothing, the value here is 0 with zero gradient."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import reference_losses

from minnet import functional as F

DATA = Path(__file__).with_name("data")
TOLERANCE = 1e-12  # of a value relative to itself, of a gradient relative to the largest entry of its row
ROUNDING = 1e-16  # of a single class, whose gradient is the difference of two numbers near 1

spec = importlib.util.spec_from_file_location("make_torch_cross_entropy", DATA / "make_torch_cross_entropy.py")
grid = importlib.util.module_from_spec(spec)
spec.loader.exec_module(grid)

CASES = list(grid.cases())
GROUPS = {}
for case in CASES:
    GROUPS.setdefault(f"{case.target}-{case.classes}-{case.rows}-{case.ignored}", []).append(case)
by_group = pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)


@pytest.fixture(scope="module")
def record():
    """What torch gave for each case: a value, and the kept rows of a gradient."""
    with np.load(DATA / "torch_cross_entropy.npz", allow_pickle=False) as file:
        numbers, found = file["numbers"], {}
        for case in CASES:
            value = () if case.reduction != "none" else (case.rows,)
            kept = len(range(case.rows)[grid.kept(case.rows)]), case.classes
            sizes = math.prod(value), math.prod(kept)
            found[case] = numbers[: sizes[0]].reshape(value), numbers[sizes[0] : sum(sizes)].reshape(kept)
            numbers = numbers[sum(sizes) :]
        assert len(numbers) == 0
        return dict(file) | {"found": found}


def of_torch(case):
    """Value and gradient by torch as it is installed."""
    return grid.with_torch(case)


def of_reference(case):
    logits, target, weight = grid.problem(case)
    twin = reference_losses.nll_loss if case.target == "log_probs" else reference_losses.cross_entropy
    return twin(logits, target, weight=weight, **grid.options(case))


def of_minnet(case):
    logits, target, weight = grid.problem(case)
    function = F.nll_loss if case.target == "log_probs" else F.cross_entropy
    value, grad = function(logits, target, weight=weight, **grid.options(case), return_grad=True)
    np.testing.assert_array_equal(function(logits, target, weight=weight, **grid.options(case)), value)
    if target.ndim == 1:
        assert not np.any(grad[target == grid.IGNORED[case.ignored]])
    return value, grad


def counts_nothing(case):
    _, target, _ = grid.problem(case)
    counted = len(target) if target.ndim == 2 else np.count_nonzero(target != grid.IGNORED[case.ignored])
    return case.reduction == "mean" and not counted


def assert_equal(case, got, wanted):
    """Value and gradient are torch's; the mean of nothing, where torch has NaN, is 0."""
    (value, grad), (torch_value, torch_grad) = got, wanted
    assert np.shape(value) == np.shape(torch_value), case
    assert grad.shape == torch_grad.shape, case
    if counts_nothing(case):
        assert np.isnan(torch_value), case
        assert value == 0, case
        assert not np.any(grad), case
        return
    np.testing.assert_allclose(value, torch_value, rtol=TOLERANCE, atol=0, err_msg=str(case))
    bound = TOLERANCE * np.max(np.abs(torch_grad), 1, keepdims=True, initial=0) + ROUNDING
    assert np.all(np.abs(grad - torch_grad) <= bound), case


@by_group
@pytest.mark.parametrize("given", [of_reference, of_minnet], ids=["reference", "minnet"])
def test_values_and_gradients_are_those_recorded(group, given, record):
    for case in group:
        value, grad = given(case)
        assert_equal(case, (value, grad[grid.kept(case.rows)]), record["found"][case])


@by_group
@pytest.mark.parametrize("given", [of_reference, of_minnet], ids=["reference", "minnet"])
def test_values_and_gradients_are_those_of_torch_now(group, given):
    pytest.importorskip("torch")
    for case in group:
        assert_equal(case, given(case), of_torch(case))


def test_the_inputs_are_those_that_torch_was_given(record):
    np.testing.assert_array_equal([math.fsum(grid.problem(case)[0].flat) for case in CASES], record["sums"])
    assert str(record["torch"]).startswith("2.13")


def test_the_grid_is_whole_and_its_options_matter(record):
    assert len(CASES) == len(set(CASES)) == 570
    assert {case.rows for case in CASES if case.classes == 5} == {0, 1, 2, 7, 129}
    values = [float(record["found"][case][0]) for case in CASES if case.rows == 129 and case.reduction == "sum"]
    assert len(set(values)) == len(values) == 30
    assert sum(counts_nothing(case) for case in CASES) == 50
