"""information: entropy and divergences against mpmath, by their identities, at the simplex' edges; what is refused."""

import math
import re

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minnet as mn
from minnet import information
from minnet.information import cross_entropy, entropy, js_divergence, kl_divergence, perplexity

mp = mpmath.mp.clone()
mp.dps = 60

EPS = 2.0**-52
LOG2 = math.log(2)
ONE = [entropy, perplexity]
TWO = [cross_entropy, kl_divergence, js_divergence, perplexity]
LEAST, SMALLEST_NORMAL = 5e-324, 2.0**-1022


# ---- exact values: what a row of floats gives, without any rounding ----


def exact_rows(*rows):
    return [[mp.mpf(value) for value in row] for row in np.asarray(rows, np.float64).tolist()]


def exact_cross_entropy(p, q):
    p, q = exact_rows(p, q)
    return -sum((a * mp.log(b) for a, b in zip(p, q, strict=True) if a), mp.mpf(0))


def exact_kl(p, q):
    p, q = exact_rows(p, q)
    return sum(((a * mp.log(a / b) if a else 0) - a + b for a, b in zip(p, q, strict=True)), mp.mpf(0))


def exact_js(p, q):
    p, q = exact_rows(p, q)
    terms = (x * mp.log(2 * x / (a + b)) / 2 for a, b in zip(p, q, strict=True) for x in (a, b) if x)
    return sum(terms, mp.mpf(0))


def assert_digits(got, exact, count=8):
    """Relative error at most `count` eps."""
    assert abs(mp.mpf(float(got)) - exact) <= count * EPS * abs(exact), f"{got!r}, not {mp.nstr(exact, 20)}"


@np.errstate(under="ignore")
def assert_near(got, want, relative=0.0, absolute=LEAST):
    assert got == pytest.approx(want, rel=relative, abs=absolute)


def pair(rng, classes, distance):
    """Two distributions whose logits are about `distance` apart."""
    z = rng.normal(0, 2, classes)
    return mn.functional.softmax(z), mn.functional.softmax(z + distance * rng.normal(size=classes))


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("distance", [1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.3, 0.5, 1, 3, 10, 100])
def test_all_digits_at_every_distance(distance, classes, rng):
    for _ in range(10):
        p, q = pair(rng, classes, distance)
        assert_digits(kl_divergence(p, q), exact_kl(p, q))
        assert_digits(js_divergence(p, q), exact_js(p, q))
        assert_digits(cross_entropy(p, q), exact_cross_entropy(p, q))
        assert_digits(entropy(q), exact_cross_entropy(q, q))


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("shift", [1e-9, -1e-9, 1e-12, 2.0**-52, 9e-6, -9e-6])
def test_kl_of_a_hair_keeps_its_digits(shift, classes, rng):
    p = rng.dirichlet(np.ones(classes))
    q = p * (1 + shift)
    assert 0 < kl_divergence(p, q) == pytest.approx(shift**2 / 2, rel=1e-3 if abs(shift) > 1e-10 else 1)
    assert_digits(kl_divergence(p, q), exact_kl(p, q))


@pytest.mark.parametrize("change", [0.5, -0.5, np.nextafter(0.5, 1), np.nextafter(-0.5, -1), 0.25, -0.25])
def test_the_series_meets_the_logarithm_without_a_seam(change):
    p = np.array([0.25, 0.75])
    q = p + p[0] * change * np.array([1, -1])
    assert_digits(kl_divergence(p, q), exact_kl(p, q))


@pytest.mark.parametrize("share", [1 / 3, np.nextafter(1 / 3, 1), np.nextafter(1 / 3, 0), 0.3, 0.34])
def test_the_two_forms_of_js_meet_without_a_seam(share):
    # |q - p| / (p + q) is 1/2 where q = 3 p or p = 3 q
    p, q = np.array([share * 0.75, 1 - share * 0.75]), np.array([0.75, 0.25])
    assert_digits(js_divergence(p, q), exact_js(p, q))


@pytest.mark.parametrize("tiny", [LEAST, 1e-320, SMALLEST_NORMAL, 1e-300, 1e-17])
def test_the_least_numbers_count(tiny):
    p, q = np.array([tiny, 1]), np.array([0.5, 0.5])
    for a, b in [(p, q), (q, p), (p, p[::-1])]:
        assert_digits(kl_divergence(a, b), exact_kl(a, b))
        assert_digits(js_divergence(a, b), exact_js(a, b))
        assert_digits(cross_entropy(a, b), exact_cross_entropy(a, b))
    assert_near(entropy(p), float(exact_cross_entropy(p, p)), 4 * EPS)
    assert kl_divergence(p, p) == js_divergence(p, p) == 0


# ---- values known by heart ----


def test_one_bit():
    assert entropy([0.5, 0.5], base=2) == 1
    assert entropy([0.5, 0.5]) == LOG2
    assert entropy(np.full(8, 1 / 8), base=2) == pytest.approx(3, rel=EPS)
    assert entropy([0.5, 0.25, 0.25], base=2) == 1.5
    assert cross_entropy([0.5, 0.25, 0.25], [0.25, 0.25, 0.5], base=2) == 1.75
    assert kl_divergence([0.5, 0.25, 0.25], [0.25, 0.25, 0.5], base=2) == pytest.approx(0.25, rel=EPS)
    assert js_divergence([1, 0], [0, 1], base=2) == 1
    assert entropy(np.full(10, 0.1), base=10) == pytest.approx(1, rel=EPS)


def test_perplexity_counts_the_faces_of_a_fair_die():
    assert perplexity(np.full(6, 1 / 6)) == pytest.approx(6, rel=4 * EPS)
    assert perplexity([1.0, 0, 0]) == 1
    assert perplexity([1.0, 0], [0.125, 0.875]) == pytest.approx(8, rel=4 * EPS)


def test_certainty_has_entropy_0_and_no_sign():
    for p in ([1.0], [1.0, 0], [0, 1, 0]):
        assert math.copysign(1, entropy(p)) == 1
        assert entropy(p) == cross_entropy(p, p) == kl_divergence(p, p) == js_divergence(p, p) == 0
        assert perplexity(p) == perplexity(p, p) == 1


@pytest.mark.parametrize("q", [[0, 1.0], [0, 1]])
def test_what_cannot_happen_under_q_costs_inf(q):
    for p in ([1.0, 0], [1e-300, 1.0], [0.5, 0.5]):
        assert cross_entropy(p, q) == kl_divergence(p, q) == perplexity(p, q) == math.inf
        assert 0 < js_divergence(p, q) <= LOG2


def test_what_cannot_happen_under_p_costs_nothing():
    assert cross_entropy([0, 1.0], [0.5, 0.5]) == LOG2
    assert cross_entropy([0, 0.5, 0.5], [0, 0.5, 0.5]) == LOG2
    assert kl_divergence([0, 0.5, 0.5], [0, 0.5, 0.5]) == 0


def test_perplexity_beyond_all_numbers_is_inf():
    assert perplexity([1.0, 0], [LEAST, 1.0]) == math.inf
    assert cross_entropy([1.0, 0], [LEAST, 1.0]) == 1074 * LOG2


# ---- identities ----


def distributions(classes):
    """Rows that are anything from even to certain, with zeros and numbers down to 1e-300."""
    logs = st.one_of(st.floats(-3, 0), st.floats(-690, 0), st.just(-math.inf))
    return hnp.arrays(np.float64, classes, elements=logs).filter(lambda z: z.max() > -math.inf).map(normalized)


def normalized(logs):
    with np.errstate(under="ignore"):
        p = np.exp(logs - logs.max())
        return p / p.sum()


pairs = st.integers(1, 6).flatmap(lambda classes: st.tuples(distributions(classes), distributions(classes)))


@given(pairs)
@settings(deadline=None)
def test_cross_entropy_is_entropy_and_divergence(both):
    p, q = both
    h, kl = entropy(p), kl_divergence(p, q)
    assert 0 <= h <= math.log(len(p)) + 4 * EPS
    assert kl >= 0
    assert_near(cross_entropy(p, q), h + kl, 16 * EPS, 16 * EPS)


@given(pairs)
@settings(deadline=None)
def test_js_is_symmetric_bounded_and_the_mean_of_two_divergences(both):
    p, q = both
    js = js_divergence(p, q)
    assert js == js_divergence(q, p)
    assert 0 <= js <= LOG2
    with np.errstate(under="ignore"):
        m = (p + q) / 2
        mean = (kl_divergence(p, m) + kl_divergence(q, m)) / 2
    assert_near(js, mean, 1e-12, 16 * EPS)


@given(pairs)
@settings(deadline=None)
def test_a_divergence_is_0_from_itself_alone(both):
    p, q = both
    assert kl_divergence(p, p) == js_divergence(p, p) == 0
    if np.max(np.abs(p - q)) > 1e-150:
        assert kl_divergence(p, q) > 0
        assert js_divergence(p, q) > 0


@given(pairs, st.floats(1.0001, 1e6))
@settings(deadline=None)
def test_a_base_divides_by_its_logarithm(both, base):
    p, q = both
    with np.errstate(under="ignore"):
        assert entropy(p, base=base) == entropy(p) / math.log(base)
        for function in (cross_entropy, kl_divergence, js_divergence):
            assert function(p, q, base=base) == function(p, q) / math.log(base)


@given(pairs)
@settings(deadline=None)
def test_classes_may_be_renumbered(both):
    p, q = both
    for function in (cross_entropy, kl_divergence, js_divergence):
        assert_near(function(p[::-1], q[::-1]), function(p, q), 8 * EPS)
    nats = cross_entropy(p, q)  # their rounding is the perplexity's relative error
    assert_near(perplexity(p[::-1], q[::-1]), perplexity(p, q), (8 + 8 * min(nats, 800)) * EPS)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_disjoint_rows_are_log_2_apart(classes):
    p = np.full(classes, 1 / classes)
    left, right = np.r_[p, 0 * p], np.r_[0 * p, p]
    assert js_divergence(left, right) == pytest.approx(LOG2, rel=2 * EPS)
    assert js_divergence(left.astype("f4"), right.astype("f4")) <= LOG2


# ---- arrays ----


@pytest.mark.parametrize("function", TWO)
def test_leading_axes_are_broadcast(function, rng):
    p, q = rng.dirichlet(np.ones(4), (3, 1)), rng.dirichlet(np.ones(4), 5)
    table = function(p, q)
    assert (table.shape, table.dtype) == ((3, 5), np.float64)
    for i in range(3):
        for j in range(5):
            assert table[i, j] == function(p[i, 0], q[j])


@pytest.mark.parametrize("function", ONE)
def test_rows_are_taken_one_by_one(function, rng):
    p = rng.dirichlet(np.ones(4), (2, 3))
    np.testing.assert_array_equal(function(p), [[function(row) for row in rows] for rows in p])


@pytest.mark.parametrize("function", [*ONE, *TWO])
def test_no_rows_give_no_numbers(function):
    empty = np.empty((0, 3))
    assert function(empty, *[empty] * (function in TWO and function is not perplexity)).shape == (0,)


def test_one_row_gives_a_float():
    assert isinstance(entropy([0.5, 0.5]), float)
    assert isinstance(js_divergence([0.5, 0.5], [1, 0]), float)


@pytest.mark.parametrize("classes", [2, 10, 1000, 100_000])
def test_softmax_in_float32_is_a_distribution(classes, rng):
    p = mn.functional.softmax(rng.normal(0, 3, (4, classes)).astype(np.float32))
    q = p[::-1]  # a view with a negative stride
    np.testing.assert_array_equal(kl_divergence(p, q), kl_divergence(p.astype("f8"), q.astype("f8")))
    assert entropy(p).dtype == np.float64


def test_strided_read_only_and_column_major_rows_are_taken(rng):
    p = rng.dirichlet(np.ones(6), 4)
    wide = np.zeros((4, 12))
    wide[:, ::2] = p
    fortran = np.asfortranarray(p)
    fortran.flags.writeable = False
    for same in (wide[:, ::2], fortran, p.tolist()):
        np.testing.assert_array_equal(entropy(same), entropy(p))
    np.testing.assert_array_equal(wide[:, ::2], p)


def test_it_is_found_on_the_face():
    assert mn.information is information
    assert sorted(information.__all__) == ["cross_entropy", "entropy", "js_divergence", "kl_divergence", "perplexity"]


# ---- refused ----

HALVES = [0.5, 0.5]
BAD_ROWS = {
    "negative": ([[0.5, 0.5], [-0.5, 1.5]], ValueError, r"{} must be in \[0, 1\], got -0.5 in row 1$"),
    "above 1": ([1.5, -0.5], ValueError, r"{} must be in \[0, 1\], got 1.5$"),
    "NaN": ([[math.nan, 1.0]], ValueError, r"{} must be in \[0, 1\], got nan in row 0$"),
    "inf": ([math.inf, 0], ValueError, r"{} must be in \[0, 1\], got inf$"),
    "sum": ([HALVES, [0.5, 0.25]], ValueError, r"rows of {} must sum to 1, got 0.75 in row 1 \({} / {}.sum\(-1, keep"),
    "logits": ([1.0, 1.0], ValueError, r"rows of {} must sum to 1, got 2.0 \("),
    "nothing": ([[0.0, 0.0]], ValueError, r"rows of {} must sum to 1, got 0.0 in row 0 \("),
    "deep row": ([[HALVES, [1, 1]]], ValueError, r"rows of {} must sum to 1, got 2.0 in row \(0, 1\) \("),
    "hair": ([0.5, 0.49998], ValueError, r"rows of {} must sum to 1, got 0.99998 \("),
    "no classes": (np.empty((2, 0)), ValueError, r"rows of {} must sum to 1, got 0.0 in row 0 \("),
    "scalar": (1.0, ValueError, r"{} must have an axis of classes, got .*1.0.* \(one distribution is a row\)$"),
    "ragged": ([[1.0], [0.5, 0.5]], ValueError, r"{} must be a rectangular array, got list"),
    "None": (None, TypeError, r"{} must hold real numbers, got None"),
    "complex": ([1j, 0], TypeError, r"{} must hold real numbers, got dtype complex128"),
    "strings": (["0.5", "0.5"], TypeError, r"{} must hold real numbers, got dtype <U3"),
}


@pytest.mark.parametrize(("rows", "error", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_what_is_no_distribution_is_refused(rows, error, message):
    for function in ONE:
        with pytest.raises(error, match=f"^{function.__name__}: {message.replace('{}', 'p')}"):
            function(rows)
    for function in TWO:
        with pytest.raises(error, match=f"^{function.__name__}: {message.replace('{}', 'p')}"):
            function(rows, HALVES)
        if rows is not None:
            with pytest.raises(error, match=f"^{function.__name__}: {message.replace('{}', 'q')}"):
                function(HALVES, rows)


def test_none_is_no_second_distribution_but_for_perplexity():
    assert perplexity(HALVES, None) == 2
    with pytest.raises(TypeError, match=r"^kl_divergence: q must hold real numbers, got None"):
        kl_divergence(HALVES, None)


def test_sums_off_by_rounding_are_taken():
    assert entropy([0.5, 0.500009]) > 0
    assert entropy(np.full(3, 0.333333)) == pytest.approx(math.log(3), rel=1e-5)


@pytest.mark.parametrize("function", TWO)
@pytest.mark.parametrize(
    ("p", "q", "rule"),
    [
        ((3,), (4,), "p and q must have the same last axis, got ((3,), (4,))"),
        ((2, 3), (2, 1), "p and q must have the same last axis, got ((2, 3), (2, 1))"),
        ((2, 3), (3, 3), "leading axes of p and q must broadcast, got ((2, 3), (3, 3))"),
        ((2, 1, 3), (4, 3, 3), "leading axes of p and q must broadcast, got ((2, 1, 3), (4, 3, 3))"),
    ],
    ids=["classes", "one class", "rows", "deep"],
)
def test_shapes_that_do_not_fit_are_refused(function, p, q, rule):
    with pytest.raises(ValueError, match=f"^{function.__name__}: {re.escape(rule)}$"):
        function(np.full(p, 1 / p[-1]), np.full(q, 1 / q[-1]))


@pytest.mark.parametrize("base", [1, 0, 0.5, -2, math.nan, math.inf, "2", True, 1j])
def test_a_base_that_is_no_number_above_1_is_refused(base):
    for function in (entropy, cross_entropy, kl_divergence, js_divergence):
        error = ValueError if isinstance(base, (int, float)) and base is not True else TypeError
        with pytest.raises(error, match=f"^{function.__name__}: base must be a (finite number > 1|number), got "):
            function(*[HALVES] * (1 if function is entropy else 2), base=base)
