"""The door of binary_cross_entropy_with_logits (see _doors.pxd): what goes through gives the same bits as
what is checked in Python, and what should not go through gives the same messages.
"""

import itertools

import numpy as np
import pytest
from doors import Doors, assert_same_bits

import minnet as mn
from minnet import _elementwise
from minnet import functional as F

INF, NAN = np.inf, np.nan
ROWS = 75
DTYPES = ["float32", "float64"]
REDUCTIONS = ["mean", "sum", "none", "batchmean"]
OPTIONS = {
    "pos_weight": [None, 3.7, 0],
    "alpha": [None, 0.25],
    "label_smoothing": [0.0, 0.1],
    "gamma": [0, 2.0, 1.7],
}
COMBINATIONS = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]
WEIGHTS = [None, "weight", "sample_weight"]

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


@pytest.fixture
def doors(monkeypatch):
    return Doors(monkeypatch, _elementwise, "binary_cross_entropy_with_logits_door")


def batch(rng, dtype, shape=(ROWS,)):
    return rng.normal(0, 3, shape).astype(dtype), rng.integers(0, 2, shape).astype(dtype)


def both(logits, target, **options):
    return F.binary_cross_entropy_with_logits(logits, target, return_grad=True, **options)


@by_dtype
@by_reduction
@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_combination_gives_the_same_bits_with_and_without_the_door(weights, reduction, dtype, doors, rng):
    given = {weights: np.linspace(0, 2, ROWS).astype(dtype)} if weights else {}
    calls = [(*batch(rng, dtype), options | given | {"reduction": reduction}) for options in COMBINATIONS]
    got = [both(logits, target, **options) for logits, target, options in calls]
    assert None not in doors
    doors.close()
    for value, (logits, target, options) in zip(got, calls, strict=True):
        assert_same_bits(value, both(logits, target, **options))


@by_dtype
@by_reduction
@pytest.mark.parametrize("shape", [(), (1,), (5, 3), (2, 3, 4), (700, 2)], ids=str)
def test_every_shape_gives_the_same_bits_with_and_without_the_door(shape, reduction, dtype, doors, rng):
    logits, target = (np.asarray(a, dtype) for a in batch(rng, dtype, shape))
    calls = [{"reduction": reduction} | given for given in ({}, {"gamma": 2.0}, {"weight": np.full(shape, 0.3, dtype)})]
    got = [both(logits, target, **options) for options in calls]
    doors.close()
    for value, options in zip(got, calls, strict=True):
        assert_same_bits(value, both(logits, target, **options))


@by_dtype
@by_reduction
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (5,), (700, 1), (5, 3), (2, 3, 4), (60, 300)], ids=str)
def test_weights_of_the_positives_of_each_class_give_the_same_bits(shape, kind, reduction, dtype, doors, rng):
    logits, target = batch(rng, dtype, shape)
    weights = np.linspace(0, 3, shape[-1]).astype(kind) if shape[-1] > 1 else np.ones(1, kind)
    calls = [options | {"reduction": reduction, "pos_weight": weights} for options in COMBINATIONS]
    got = [both(logits, target, **options) for options in calls]
    assert None not in doors
    doors.close()
    for value, options in zip(got, calls, strict=True):
        assert_same_bits(value, both(logits, target, **options))


ARRAYS = {  # one number an element, a question or a row, in the dtype of the logits or the other one
    "weight": ["elements", "questions"],
    "pos_weight": ["elements", "questions"],
    "sample_weight": ["rows"],
    "grad_output": ["elements", "rows"],
}
SETS = [names for size in (1, 2, 3, 4) for names in itertools.combinations(ARRAYS, size)]


@by_dtype
@pytest.mark.parametrize("other", [False, True], ids=["of the logits", "of the other dtype"])
@pytest.mark.parametrize("shape", [(75,), (700, 1), (700, 2), (25, 3), (60, 8), (12, 30), (3, 300), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_arrays_of_any_shape_give_the_same_bits_as_one_number_an_element(names, shape, other, dtype, doors, rng):
    logits, target = batch(rng, dtype, shape)
    kind = {"float32": "float64", "float64": "float32"}[dtype] if other else dtype
    lengths = {"elements": shape, "questions": shape[-1:], "rows": shape[:1]}
    given = {"reduction": "none", "alpha": 0.25, "gamma": 2.0}
    for chosen in itertools.product(*(ARRAYS[name] for name in names)):
        arrays = {name: rng.random(lengths[what]).astype(kind) for name, what in zip(names, chosen, strict=True)}
        got = both(logits, target, **given, **arrays)
        assert doors.pop() is not None
        columns = {"rows": (-1, *[1] * (len(shape) - 1))}
        whole = {
            name: np.broadcast_to(arrays[name].reshape(columns.get(what, arrays[name].shape)), shape).copy()
            for name, what in zip(names, chosen, strict=True)
            if name != "sample_weight"
        }
        assert_same_bits(got, both(logits, target, **given, **arrays | whole))
        spread = [a[:, None].repeat(2, 1)[:, 0] if a.ndim == 1 else np.asfortranarray(a) for a in arrays.values()]
        doors.clear()
        assert_same_bits(got, both(logits, target, **given, **dict(zip(names, spread, strict=True))))


@by_dtype
@by_reduction
def test_weights_of_rows_are_those_of_their_elements(reduction, dtype, doors, rng):
    logits, target = batch(rng, dtype, (60, 7))
    rows, info = rng.random(60).astype(dtype), np.finfo(dtype)
    for given in ({}, {"gamma": 2.0}, {"label_smoothing": 0.1, "pos_weight": rng.random(7)}):
        value, grad = both(logits, target, sample_weight=rows, reduction=reduction, **given)
        weight = np.repeat(rows, 7).reshape(60, 7)
        want, slopes = both(logits, target, weight=weight, reduction=reduction, **given)
        factor = 60 / rows.sum(dtype=float) if reduction == "mean" else 1.0
        np.testing.assert_allclose(value, want * factor, rtol=4 * info.eps)
        np.testing.assert_allclose(grad, slopes * factor, rtol=4 * info.eps)
    assert None not in doors


@by_dtype
def test_an_upstream_gradient_multiplies_gradients_and_no_loss(dtype, doors, rng):
    logits, target = batch(rng, dtype, (60, 7))
    for upstream in (-2.5, 3, rng.normal(size=60), rng.normal(size=(60, 7)).astype("float32")):
        given = {"reduction": "none" if isinstance(upstream, np.ndarray) else "mean", "weight": rng.random((60, 7))}
        want, slopes = both(logits, target, **given)
        value, grad = both(logits, target, grad_output=upstream, **given)
        np.testing.assert_array_equal(value, want)
        factors = upstream[:, None] if np.shape(upstream) == (60,) else upstream
        np.testing.assert_allclose(grad, slopes * factors, rtol=4 * np.finfo(dtype).eps)
    assert None not in doors


@by_dtype
@pytest.mark.parametrize("upstream", [NAN, INF, -INF])
def test_what_weighs_nothing_has_no_gradient_whatever_comes_from_above(upstream, dtype, rng):
    logits, target = batch(rng, dtype, (40, 30))
    weight = np.ones((40, 30))
    weight[:, ::3] = 0
    for given in ({}, {"gamma": 2.0}, {"label_smoothing": 0.1}):
        grad = both(logits, target, weight=weight, grad_output=np.full(40, upstream), reduction="none", **given)[1]
        assert not grad[:, ::3].any()
        assert not np.isfinite(grad[:, 1::3]).any()


@by_dtype
@pytest.mark.parametrize("name", ["weight", "pos_weight"])
@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("bad", [-1.0, -1e-44, -0.0, NAN, INF])
@pytest.mark.parametrize("size", [700, 2**17 + 700], ids=["small", "large"])
def test_a_wrong_weight_is_found_wherever_it_stands(size, bad, kind, name, dtype, rng):
    logits, target = batch(rng, dtype, (size,))
    weights = rng.random(size).astype(kind)
    for at in (0, 255, 256, size - 1):
        given = {name: weights.copy()}
        given[name][at], target[at] = bad, name == "weight"  # of the term of 1 - t, too
        for more in ({}, {"alpha": 0.3}, {"gamma": 1.7}, {"label_smoothing": 0.1}, {"sample_weight": np.ones(size)}):
            if bad == 0:
                assert both(logits, target, **given, **more)[0] > 0
            else:
                with pytest.raises(ValueError, match=f"{name} must be finite and not negative, got .* in row {at}"):
                    both(logits, target, **given, **more)


@by_dtype
def test_weights_of_positives_beside_those_of_elements_multiply_them(dtype, doors, rng):
    logits, target = batch(rng, dtype, (5, 3))
    given = {"pos_weight": np.arange(3.0), "weight": rng.random((5, 3)).astype(dtype)}
    value, grad = both(logits, target, **given)
    assert None not in doors
    scaled, slopes = both(logits, target, pos_weight=given["pos_weight"], reduction="none")
    np.testing.assert_allclose(value, (scaled * given["weight"]).mean(), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(grad, slopes * given["weight"] / 15, rtol=8 * np.finfo(dtype).eps)


CORNERS = {
    "an infinite logit": lambda z, t: (np.where(t == 1, INF, z), t, {}),
    "a logit that is nan": lambda z, t: (np.where(np.arange(ROWS) == 7, NAN, z), t, {}),
    "infinitely wrong": lambda z, t: (np.where(t == 1, -INF, z), t, {}),
    "infinitely wrong, weight 0": lambda z, t: (np.where(t == 1, -INF, z), t, {"sample_weight": 1.0 * (t == 0)}),
    "rows of weight 0": lambda z, t: (z, t, {"sample_weight": np.zeros(ROWS)}),
    "elements of weight 0": lambda z, t: (z, t, {"weight": np.zeros(ROWS)}),
    "tiny row weights": lambda z, t: (z, t, {"sample_weight": np.full(ROWS, 1e-30)}),
    "tiny element weights": lambda z, t: (z, t, {"weight": np.full(ROWS, 1e-30)}),
    "huge row weights": lambda z, t: (z, t, {"sample_weight": np.full(ROWS, 1e30)}),
    "both weights": lambda z, t: (z, t, {"weight": np.ones(ROWS), "sample_weight": np.ones(ROWS)}),
    "weights with gaps": lambda z, t: (z, t, {"sample_weight": np.ones(2 * ROWS)[::2]}),
    "a huge pos_weight": lambda z, t: (z, t, {"pos_weight": 1e37}),
    "targets between": lambda z, t: (z, np.abs(np.sin(z)), {}),
    "one row of weights a row": lambda z, t: (z.reshape(25, 3), t.reshape(25, 3), {"sample_weight": np.arange(25.0)}),
    "a column of rows": lambda z, t: (z[:, None], t[:, None], {"sample_weight": np.arange(75.0)}),
    "a flat target of a column": lambda z, t: (z[:, None], t, {}),
    "logits with gaps": lambda z, t: (np.repeat(z, 2)[::2], t, {}),
    "the target as logits": lambda z, t: (t, t, {}),
}


@by_dtype
@pytest.mark.parametrize("narrow", [True, False], ids=["weights as logits", "weights in double"])
@pytest.mark.parametrize("case", list(CORNERS))
def test_every_corner_gives_the_same_bits_with_and_without_the_door(case, narrow, dtype, doors, rng):
    logits, target, given = CORNERS[case](*batch(rng, dtype))
    logits, target = logits.astype(dtype, copy=False), target.astype(dtype, copy=False)
    given = {k: v.astype(dtype) if narrow and isinstance(v, np.ndarray) else v for k, v in given.items()}
    calls = [given | {"label_smoothing": s, "gamma": gamma} for s in (0.0, 0.1) for gamma in (0.0, 2.0)]
    got = [both(logits, target, **options) for options in calls]
    doors.close()
    for value, options in zip(got, calls, strict=True):
        assert_same_bits(value, both(logits, target, **options))


@by_reduction
def test_weights_in_double_beside_float32_go_through_where_that_holds_them(reduction, doors, rng):
    logits, target = batch(rng, "float32")
    for unit in (1.0, 1e-3, 1e3):
        got = both(logits, target, sample_weight=rng.random(ROWS) * unit, reduction=reduction)
        assert doors.pop() is not None
    for weight in (np.where(np.arange(ROWS) == 3, 1e-40, 1.0), np.full(ROWS, 1e-30), np.full(ROWS, 1e30)):
        got = both(logits, target, sample_weight=weight, reduction=reduction)
        assert doors.pop() is None
        want = both(logits.astype(float), target.astype(float), sample_weight=weight, reduction=reduction)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-45)


@by_dtype
@by_reduction
def test_a_value_alone_is_that_beside_a_gradient(reduction, dtype, doors, rng):
    logits, target = batch(rng, dtype)
    for options in COMBINATIONS:
        value = F.binary_cross_entropy_with_logits(logits, target, reduction=reduction, **options)
        assert doors.pop() is not None
        np.testing.assert_array_equal(value, both(logits, target, reduction=reduction, **options)[0])


@by_dtype
def test_a_gradient_over_something_that_is_read_comes_out_as_over_nothing(dtype, doors, rng):
    logits, target = batch(rng, dtype)
    weight = np.linspace(0, 1, ROWS).astype(dtype)
    want = both(logits, target, sample_weight=weight)
    for name in ("logits", "target", "weight"):
        arrays = {"logits": logits.copy(), "target": target.copy(), "weight": weight.copy()}
        out = arrays[name]
        got = both(arrays["logits"], arrays["target"], sample_weight=arrays["weight"], out=out)
        assert doors.pop() is None
        assert_same_bits(got, want)


BAD = {
    "target": [np.full(ROWS, 1.5), np.full(ROWS, -1e-30), np.full(ROWS, NAN), np.ones(4), np.ones(ROWS, complex)],
    "weight": [np.full(ROWS, -1.0), np.full(ROWS, INF), np.full(ROWS, NAN), np.ones((2, 3)), "heavy"],
    "sample_weight": [np.full(ROWS, -1.0), np.full(ROWS, INF), np.full(ROWS, NAN), np.ones(4), np.ones((ROWS, 1))],
    "pos_weight": [
        -1.0,
        NAN,
        INF,
        "much",
        10**400,
        np.full(ROWS, -1.0),
        np.full(ROWS, NAN),
        np.full(ROWS, INF),
        np.ones(4),
        np.ones((ROWS, 1)),
        np.ones(ROWS, complex),
        [1.0, -1.0],
    ],
    "alpha": [-0.1, 1.1, NAN, "much", True],
    "label_smoothing": [-0.1, 1.1, NAN, "much", None, True],
    "gamma": [-0.1, NAN, INF, "much", None],
    "reduction": ["median", None, 1, ["mean"]],
    "grad_output": ["much", np.ones(3)],
}


@by_dtype
@pytest.mark.parametrize(("name", "index"), [(name, i) for name, values in BAD.items() for i in range(len(values))])
def test_what_is_wrong_is_said_in_the_same_words_with_and_without_the_door(name, index, dtype, doors, rng):
    logits, target = batch(rng, dtype)
    bad = BAD[name][index]
    bad = bad.astype(dtype) if isinstance(bad, np.ndarray) and bad.dtype == float else bad
    given = {"target": target} | {name: bad}
    out = np.full_like(logits, 7)
    with pytest.raises((ValueError, TypeError, OverflowError)) as through:
        both(logits, out=out, **given)
    assert np.all(out == 7)
    assert all(value is None for value in doors)
    doors.close()
    with pytest.raises((ValueError, TypeError, OverflowError)) as checked:
        both(logits, **given)
    assert (through.type, str(through.value)) == (checked.type, str(checked.value))


def test_losses_and_layers_take_the_door(doors, rng):
    logits, target = batch(rng, "float64")
    mn.BCEWithLogitsLoss().value_and_grad(logits, target)
    assert doors.pop() is not None
