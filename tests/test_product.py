"""Products of large matrices by tiles: right for every shape, whatever the columns are cut into."""

import numpy as np
import pytest

import minnet as mn
from minnet import _product as kernels
from minnet import functional as F
from minnet.functional import _product

SHAPES = [  # rows, columns, depth: on both sides of tiles, panels and blocks
    (1, 1, 1),
    (1, 17, 256),
    (5, 16, 257),
    (6, 255, 3),
    (7, 256, 2),
    (13, 257, 255),
    (40, 300, 600),
    (2, 531, 31),
]


@pytest.fixture
def tiles(monkeypatch):
    """Tiles for all sizes, at whatever level this is; parts of 32 columns."""
    monkeypatch.setattr(_product, "TILED", dict.fromkeys(["", "baseline", "x86-64-v3", "x86-64-v4"], "fd"))
    monkeypatch.setattr(_product, "LARGE", 0)
    monkeypatch.setattr(_product, "PART", 32)


def close(got, want, terms):
    np.testing.assert_allclose(got, want, rtol=0, atol=8 * np.finfo(got.dtype).eps * terms**0.5 * max(terms**0.5, 4))


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns", "depth"), SHAPES)
def test_equals_numpy(rows, columns, depth, dtype, rng):
    A, B, b = (rng.normal(size=s).astype(dtype) for s in [(rows, depth), (depth, columns), columns])
    want, out = A.astype(np.float64) @ B, np.full((rows, columns), np.nan, dtype)
    _product.multiply(A, B, out)
    close(out, want, depth)
    _product.multiply(A, np.asfortranarray(B), out, plus=b)
    close(out, want + b, depth)
    sums = b.copy()
    _product.multiply(A, B, out, plus=out, sums=sums)
    close(out, 2 * want + b, depth)
    close(sums, B.sum(axis=0, dtype=np.float64) + b, depth)


@pytest.mark.parametrize("order", ["C", "F"])
def test_nothing_else_is_written(order, rng):
    A, B = rng.normal(size=(8, 20)), np.asarray(rng.normal(size=(20, 35)), order=order)
    out, room = np.full((8, 60), 7.0), np.empty(kernels.ROOM)
    kernels.multiply["double"](A, B[:, :19], np.empty((0, 0)), out[:, 11:30], np.empty(0), room)
    np.testing.assert_allclose(out[:, 11:30], A @ B[:, :19], rtol=1e-12, atol=1e-13)
    assert (out[:, :11] == 7).all()
    assert (out[:, 30:] == 7).all()


@pytest.mark.usefixtures("tiles")
def test_nan_and_inf_stay_in_their_rows_and_columns():
    A, B, out = np.ones((7, 3)), np.ones((3, 18)), np.empty((7, 18))
    A[2], B[1, 17] = np.nan, np.inf
    _product.multiply(A, B, out)
    want = np.full((7, 18), 3.0)
    want[:, 17], want[2] = np.inf, np.nan
    np.testing.assert_array_equal(out, want)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_bit_depends_on_the_number_of_threads(dtype, rng):
    x, W, b = (rng.normal(size=s).astype(dtype) for s in [(70, 90), (90, 700), 700])
    y, found = rng.integers(0, 700, 70), []
    try:
        for threads in (1, 2, 3, 7):
            mn.set_num_threads(threads)
            value, grads = F.linear_cross_entropy(x, W, y, b, return_grad=True)
            found.append([value, *(g.tobytes() for g in grads)])
    finally:
        mn.set_num_threads(None)
    assert found[1:] == found[:1] * 3


@pytest.mark.usefixtures("tiles")
def test_linear_cross_entropy_is_that_of_numpys_products(rng, monkeypatch):
    x, W, b = (rng.normal(size=s) for s in [(70, 90), (90, 300), 300])
    y = rng.integers(0, 300, 70)
    value, grads = F.linear_cross_entropy(x, W, y, b, return_grad=True)
    monkeypatch.setattr(_product, "TILED", {})
    want, want_grads = F.linear_cross_entropy(x, W, y, b, return_grad=True)
    np.testing.assert_allclose(value, want, rtol=1e-13)
    for got, wanted in zip(grads, want_grads, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-14)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(
    "strange", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[::-1][::-1]]
)
def test_arrays_may_lie_in_memory_as_they_like(strange, rng):
    x, W, b = (rng.normal(size=s) for s in [(20, 30), (30, 70), 70])
    y = rng.integers(0, 70, 20)
    want, want_grads = F.linear_cross_entropy(x, W, y, b, return_grad=True)
    value, grads = F.linear_cross_entropy(strange(x), strange(W), y, strange(b), return_grad=True)
    assert value == want
    for got, wanted in zip(grads, want_grads, strict=True):
        np.testing.assert_array_equal(got, wanted)
