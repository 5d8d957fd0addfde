"""Every float32: sigmoid, log_sigmoid, softplus and tanh within 2 ulp, and the arithmetic that measures this.

All 2^32 of them are tried where MINNET_EVERY_FLOAT=1 is set, which takes minutes, and every 101st otherwise.
"""

import importlib
import json
import math
import os
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest

from minnet import functional as F

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks stands beside minnet and is not installed

every_float = importlib.import_module("benchmarks.every_float")

mp = mpmath.mp.clone()
mp.dps = 50

FUNCTIONS = list(every_float.EXACT)
INF, NAN = math.inf, math.nan

by_function = pytest.mark.parametrize("function", FUNCTIONS)
wanted = pytest.mark.skipif(
    os.environ.get("MINNET_EVERY_FLOAT") != "1", reason="set MINNET_EVERY_FLOAT=1, have minutes"
)


# ---- minnet ----


def assert_promise_is_kept(function, stride):
    ways, _, _ = every_float.load(["minnet"], [function])
    found = every_float.sweep(ways, stride)
    print("", *every_float.table(ways, found), sep="\n")
    assert 0.25 < found[0].all.ulp <= every_float.PROMISE == 2, found[0]


@pytest.mark.slow
@pytest.mark.every_float
@wanted
@by_function
def test_every_float_is_within_2_ulp(function, capsys):
    with capsys.disabled():
        assert_promise_is_kept(function, 1)


@by_function
def test_every_101st_float_is_within_2_ulp(function):
    assert_promise_is_kept(function, 101)


@by_function
def test_result_does_not_depend_on_the_place_in_the_array(function, rng):
    # The sweep goes through long arrays only; their last numbers, and short arrays, may take other code.
    x = np.concatenate([rng.normal(0, 3, 400), rng.uniform(-110, 110, 400), rng.normal(0, 1e-3, 200)]).astype(
        np.float32
    )
    y = getattr(F, function)(x)
    for length in (1, 2, 3, 5, 7, 15, 17, 31, 33):
        pieces = [getattr(F, function)(x[start : start + length]) for start in range(0, len(x), length)]
        np.testing.assert_array_equal(np.concatenate(pieces), y, strict=True)


# ---- the references ----


def exact_softplus(x):
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


MPMATH = {
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "log_sigmoid": lambda x: -exact_softplus(-x),
    "softplus": exact_softplus,
    "tanh": mp.tanh,
}


@by_function
def test_references_are_right_to_2_to_the_minus_51(function, rng):
    bits = rng.integers(1, 0x43000000, 1500).astype(np.uint32)  # up to 128
    x = np.concatenate([bits.view(np.float32), rng.uniform(0, 20, 1500).astype(np.float32)]).astype(np.float64)
    for numbers in (x, -x):
        got = every_float.EXACT[function](numbers)
        for number, value in zip(numbers.tolist(), got.tolist(), strict=True):
            assert abs(value / MPMATH[function](mp.mpf(number)) - 1) < 2**-51, number


@pytest.mark.parametrize(
    ("function", "first", "last"),
    [
        ("tanh", 2**-149, 2**-27.01),
        ("tanh", -(2**-149), -(2**-27.01)),
        ("softplus", 64, 3e38),
        ("log_sigmoid", -64, -3e38),
    ],
)
def test_result_is_x_itself_where_that_is_said(function, first, last):
    with np.errstate(under="ignore"):
        numbers = np.copysign(np.geomspace(abs(first), abs(last), 300), first).astype(np.float32)
    for x, ulp in zip(numbers, every_float.ulp(numbers.astype(np.float64)), strict=True):
        assert every_float.IS_X[function](np.array([x]))
        exact = MPMATH[function](mp.mpf(float(x)))
        assert abs(exact - mp.mpf(float(x))) < 2**-29 * ulp


@pytest.mark.parametrize(
    ("function", "x"), [("sigmoid", 1e-30), ("tanh", 2**-26), ("softplus", 63), ("log_sigmoid", -63), ("softplus", -70)]
)
def test_result_is_computed_elsewhere(function, x):
    assert not every_float.IS_X[function](np.array([x], np.float32))


# ---- the arithmetic, on made-up numbers ----


@pytest.mark.parametrize(
    ("exact", "want"),
    [
        (1.0, -23),
        (1.0 - 2.0**-53, -24),
        (2.0 - 2.0**-52, -23),
        (2.0, -22),
        (0.1, -27),
        (3.4e38, 104),
        (2.0**-125, -148),
        (2.0**-126, -149),
        (2.0**-127, -149),
        (2.0**-149, -149),
        (2.0**-160, -149),
        (1e-320, -149),
        (0.0, -149),
    ],
)
def test_ulp(exact, want):
    np.testing.assert_array_equal(every_float.ulp(np.array([exact, -exact])), [2.0**want] * 2)


def test_ulp_is_the_spacing_of_float32(rng):
    x = rng.integers(0, every_float.INFINITY, 5000).astype(np.uint32).view(np.float32)
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(every_float.ulp(x.astype(np.float64)), np.spacing(x))


@pytest.mark.parametrize(
    ("y", "exact", "want"),
    [
        (1.0, 1.0, 0),
        (1.0, 1.0 + 2.0**-24, 0.5),
        (1.0, 1.0 - 2.0**-25, 0.5),
        (-3.0, -3.0 - 2.0**-21, 2),
        (0.0, 2.0**-149, 1),
        (0.0, 2.0**-151, 0.25),
        (0.0, 2.0**-127, 2.0**22),
        (2.0**-149, -(2.0**-149), 2),
        (INF, 1.0, INF),
        (-INF, 3e38, INF),
        (NAN, 1.0, NAN),
    ],
)
def test_errors_are_counted_in_ulp(y, exact, want):
    exact = np.array([exact])
    got = every_float.errors(np.array([y], np.float32), exact, every_float.ulp(exact))
    np.testing.assert_array_equal(got, [want])


def block(first, count=1000):
    bits = np.array(first, np.float32).view(np.uint32) + np.arange(count, dtype=np.uint32)
    return bits.view(np.float32)


def rounded(function):
    """A way that cannot be bettered."""

    def run(x):
        with np.errstate(under="ignore"):
            return every_float.EXACT[function](x.astype(np.float64)).astype(np.float32)

    return run


STARTS = [0.0, 1e-40, 1e-20, 2.0**-27, 0.3, 9.5, 17.0, 70.0, 103.97, 120.0, 3e38]
CROSSINGS = [0.43274, 0.54928, 1.09855, 87.3365]  # blocks in which results go past 1/2, 1/4, or the least normal number


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("start", STARTS + CROSSINGS)
@by_function
def test_short_cuts_hide_no_error(function, start, sign):
    x = block(math.copysign(start, sign))
    right = rounded(function)(x)
    with np.errstate(under="ignore"):
        exact = every_float.EXACT[function](x.astype(np.float64))
        constants = [np.full_like(x, right[500] * np.float32(factor)) for factor in (1, 0.99, 1.01, 0)]
        for y in (right, np.nextafter(right, np.float32(2)), x, *constants):
            plain = every_float.errors(y, exact, every_float.ulp(exact))
            found = every_float.Exact(function, x).worst(y)
            assert found.all.ulp == pytest.approx(plain.max(), abs=2**-26)
            normal = plain[np.abs(exact) >= 2.0**-126]
            assert found.normal.ulp == pytest.approx(normal.max(initial=0), abs=2**-26)


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
@pytest.mark.parametrize("start", [0.3, 120.0])
@by_function
def test_what_is_not_finite_is_an_infinite_error_at_its_place(function, start, wrong):
    x = block(start)
    y = rounded(function)(x)
    y[321] = wrong
    found = every_float.Exact(function, x).worst(y)
    assert found.all == (INF, x[321])


@by_function
def test_one_wrong_number_where_nothing_happens_is_found(function):
    x = block(-126.0)
    y = rounded(function)(x)
    with np.errstate(under="ignore"):
        y[321] = np.nextafter(np.nextafter(y[321], np.float32(9)), np.float32(9))  # two steps up
    found = every_float.Exact(function, x).worst(y).all
    want = 1 if function == "tanh" else 2  # from -1 towards 0 a step is half an ulp of 1
    assert found == (pytest.approx(want), x[321])


def test_results_that_underflow_are_told_from_normal_ones():
    x = block(-87.3365, 2000)
    exact = every_float.Exact("sigmoid", x)
    assert set(exact.normal) == {0, 1}
    y = rounded("sigmoid")(x)
    y[y < 2.0**-126] = 0
    found = exact.worst(y)
    assert found.all.ulp == pytest.approx(2**23, rel=1e-3)
    assert found.normal.ulp <= 0.5
    assert abs(found.normal.x) < abs(found.all.x)


def test_the_first_of_equal_errors_is_kept():
    small, large, same = (every_float.Worst(*[every_float.Peak(ulp, x)] * 2) for ulp, x in ((1, 5), (INF, 7), (INF, 8)))
    assert every_float.larger(small, large) == every_float.larger(large, small) == large
    assert every_float.larger(large, same) == large


# ---- the sweep ----


@pytest.mark.parametrize("stride", [1, 3])
def test_blocks_hold_every_pattern_once(stride):
    last = 2 * stride * every_float.BLOCK + 50
    found = [x.view(np.uint32) for x in every_float.blocks(7, last, stride)]
    assert len(found) == 6
    half = np.arange(7, last, stride, dtype=np.uint32)
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([half, half | 0x80000000]))


def made_up(function, run):
    return every_float.Way(function, "made up", "by hand", run)


@by_function
def test_rounded_references_are_within_half_an_ulp(function):
    (found,) = every_float.sweep([made_up(function, rounded(function))], 49_999)
    assert 0.49 < found.all.ulp <= 0.5
    assert 0.49 < found.normal.ulp <= 0.5


def clear_nan(x):
    return np.nan_to_num(np.tanh(x), nan=1)


def clear_last_nans(x):
    return np.where(x.view(np.uint32) & 0x7FF00000 == 0x7FF00000, np.float32(1), np.tanh(x))


def wrong_limit(x):
    return np.where(x == INF, np.float32(0.5), np.tanh(x))


@pytest.mark.parametrize("run", [clear_nan, clear_last_nans, wrong_limit])
def test_wrong_limits_and_lost_nans_are_infinite_errors(run):
    (found,) = every_float.sweep([made_up("tanh", run)], 999_983)
    assert found.all.ulp == found.normal.ulp == INF
    assert not np.isfinite(found.all.x)


def test_each_way_has_its_own_error():
    right = rounded("log_sigmoid")
    ways = [made_up("log_sigmoid", run) for run in (right, lambda x: right(x) * np.float32(0.75))]
    good, bad = every_float.sweep(ways, 999_983)
    assert good.all.ulp <= 0.5
    assert 2.0**21 <= bad.all.ulp <= 2.0**22


@pytest.mark.parametrize("run", [lambda x: x.astype(np.float64), lambda x: x[:1]], ids=["dtype", "shape"])
def test_results_of_another_kind_are_refused(run):
    with pytest.raises(TypeError, match=r"made up by hand: gave float\d\d \(\d,\) for float32 \(2,\)"):
        every_float.sweep([made_up("tanh", run)], 999_983)


# ---- the command ----


def test_command_prints_and_writes_the_errors(tmp_path, capsys):
    path = tmp_path / "errors.json"
    options = ["--libraries", "numpy", "minnet", "--functions", "softplus", "--stride", "99991", "--json", str(path)]
    assert every_float.main(options) == 0
    printed, document = capsys.readouterr().out, json.loads(path.read_text())
    assert [error["how"] for error in document["errors"]] == ["logaddexp(0, x)", "log1p(exp(x))", "softplus"]
    by_hand, ours = document["errors"][1:]
    assert by_hand["all"]["ulp"] == "inf"
    assert 0.25 < ours["all"]["ulp"] <= 2
    assert all(error["all"]["x"] in printed for error in document["errors"])
    assert document["stride"] == 99_991
    assert set(document["versions"]) == {"minnet", "numpy"}


def test_command_fails_where_minnet_breaks_its_promise(monkeypatch, capsys):
    flawed = {"tanh": {"tanh": lambda x: np.tanh(x) * np.float32(1 + 2**-21)}}
    monkeypatch.setitem(every_float.LIBRARIES, "minnet", lambda: (np, flawed))
    assert every_float.main(["--libraries", "minnet", "--stride", "999983"]) == 1
    assert "minnet" in capsys.readouterr().out


def absent():
    raise ImportError("no such library")


def test_library_that_is_not_here_is_named_and_minnet_must_be(monkeypatch, capsys):
    monkeypatch.setitem(every_float.LIBRARIES, "torch", absent)
    options = ["--libraries", "torch", "numpy", "--functions", "tanh", "--stride", "999983"]
    assert every_float.main(options) == 0
    assert "Not tried: no such library" in capsys.readouterr().out
    monkeypatch.setitem(every_float.LIBRARIES, "minnet", absent)
    with pytest.raises(ImportError, match="no such library"):
        every_float.load(["minnet"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stride", "0"], "--stride: must be at least 1, got 0"),
        (["--json", "no/such/folder/errors.json"], "--json: no folder"),
        (["--functions", "relu"], "invalid choice: 'relu'"),
        (["--libraries", "nothing"], "invalid choice: 'nothing'"),
    ],
    ids=["stride", "folder", "function", "library"],
)
def test_wrong_arguments_end_before_anything_is_tried(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        every_float.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "text"),
    [(1.4712, "1.48"), (0.5, "0.50"), (2.0, "2.00"), (2.0001, "2.01"), (2118624.2, "2.1e+06"), (INF, "inf")],
)
def test_errors_are_rounded_up(size, text):
    assert every_float.cells(every_float.Peak(size, np.float32(0.1))) == (text, "0.1")
