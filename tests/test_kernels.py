"""The kernels themselves: how the compiled modules are written, that no None and no read-only array brings them down,
and parity of those that functional does not wrap (ranges and updates) with reference.py."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import reference

import minnet
from minnet import _activations, _cross_entropy, _elementwise, _neurons, _population, _softmax, _updates

MODULES = [_activations, _softmax, _cross_entropy, _elementwise, _updates, _neurons, _population]
FILES = [Path(minnet.__file__).with_name(f"{module.__name__.split('.')[-1]}.pyx") for module in MODULES]
if not all(file.is_file() for file in FILES):
    pytest.skip("the sources are not beside the package", allow_module_level=True)

SOURCES = [file.read_text(encoding="utf-8") for file in FILES]
EVERY_SIGNATURE = dict(re.findall(r"^def (\w+)\((.*?)\):$", "".join(SOURCES), re.MULTILINE | re.DOTALL))
KERNELS = {name: getattr(module, name) for module in MODULES for name in EVERY_SIGNATURE if hasattr(module, name)}
SIGNATURES = {name: text for name, text in EVERY_SIGNATURE.items() if not name.endswith("_door")}
DOORS = [name for name in EVERY_SIGNATURE if name.endswith("_door")]
BODIES = {"float": np.float32, "double": np.float64}
UPDATES = ["sgd_update", "momentum_update", "adam_update", "rmsprop_update"]

by_body = pytest.mark.parametrize("body", list(BODIES))
by_kernel = pytest.mark.parametrize("name", list(SIGNATURES))


def parameters(name):
    """The declarations of a kernel's parameters, such as 'const real[::1] x not None'."""
    flat = " ".join(SIGNATURES[name].split()).rstrip(", ")
    return re.split(r",\s*(?![^\[]*\])", flat)


def is_array(parameter):
    return "[" in parameter


def is_source(parameter):
    """Whether it is an array of floats or doubles, whatever those of other parameters are."""
    return re.fullmatch(r"\w+ not None", parameter) is not None


def argument(parameter, dtype, shape=(2, 3)):
    """Something that fits a parameter: an array of zeros of its dtype and dimensions, or a number."""
    if is_source(parameter):
        return np.ones(shape[:1])
    if not is_array(parameter):
        return None if parameter.startswith("Team ") else 1
    named = {"int64_t": np.int64, "double[": np.float64, "float[": np.float32}
    dtype = next((named[key] for key in named if key in parameter), dtype)
    return np.zeros({1: shape[:1], 2: shape, 3: (*shape, 4)}[parameter.split("]")[0].count(":") - 1], dtype)


def body_of(name, body):
    """One of the two bodies of a fused kernel, or the kernel if it is not fused."""
    kernel = KERNELS[name]
    return kernel[body] if "real[" in SIGNATURES[name] else kernel


def arguments(name, body):
    return [argument(parameter, BODIES[body]) for parameter in parameters(name)]


# ---- the text ----


def test_the_kernels_were_found():
    assert {"sigmoid_forward", "softmax_forward", "cross_entropy_index", "squared_error", *UPDATES} <= set(SIGNATURES)
    assert set(KERNELS) == set(EVERY_SIGNATURE)
    assert len(EVERY_SIGNATURE) == len(re.findall(r"^def ", "".join(SOURCES), re.MULTILINE)) >= 24
    assert parameters("sgd_update")[:2] == ["const real[::1] g not None", "real[::1] w not None"]
    assert parameters("cross_entropy_index")[:2] == ["const real[:, ::1] z not None", "const int64_t[::1] y not None"]


@by_kernel
def test_every_array_is_not_none(name):
    arrays = [parameter for parameter in parameters(name) if is_array(parameter)]
    assert arrays
    assert [parameter for parameter in arrays if not parameter.endswith(" not None")] == []


@by_kernel
def test_every_array_is_contiguous(name):
    for parameter in filter(is_array, parameters(name)):
        assert re.search(r"\[(:, )*::1\]", parameter), parameter


@by_kernel
def test_parameters_are_const_inputs_then_outputs_then_scalars(name):
    ranks = [0 if p.startswith("const ") or is_source(p) else 1 if is_array(p) else 2 for p in parameters(name)]
    assert ranks == sorted(ranks)


@by_kernel
def test_docstring_has_formula_and_shape(name):
    doc = KERNELS[name].__doc__
    if name.startswith("first_"):
        assert re.search(r"[xy]_i.*else -1; [xy]: \(N,\)", doc)
    else:
        assert "=" in doc
        assert re.search(r"\((N|P|M|B)\b", doc)


by_source = pytest.mark.parametrize("source", SOURCES, ids=[file.name for file in FILES])


@by_source
def test_numpy_is_not_cimported(source):
    assert not re.search(r"^\s*(cimport numpy|from numpy[\w.]* cimport)", source, re.MULTILINE)
    assert re.search(r"^from minnet\._math cimport", source, re.MULTILINE)


@by_source
def test_checks_are_off_by_the_directives_of_the_first_line(source):
    first = source.splitlines()[0]
    assert first.startswith("# cython: ")
    for directive in ("boundscheck=False", "wraparound=False", "cdivision=True", "initializedcheck=False"):
        assert directive in first


@by_source
def test_source_has_no_fast_math_and_no_parallel_runtime(source):
    assert not re.search(r"fast-math|prange|openmp", source)


# ---- calls ----


@by_body
@by_kernel
def test_fitting_arguments_are_taken(name, body):
    body_of(name, body)(*arguments(name, body))


def places(name):
    return [place for place, parameter in enumerate(parameters(name)) if is_array(parameter)]


SOURCED = [(name, place) for name in SIGNATURES for place, p in enumerate(parameters(name)) if is_source(p)]
ARRAYS = [(name, place) for name in SIGNATURES for place in places(name)]
INPUTS = [(name, place) for name, place in ARRAYS if parameters(name)[place].startswith("const ")]
OUTPUTS = [pair for pair in ARRAYS if pair not in INPUTS]


@by_body
@pytest.mark.parametrize(("name", "place"), ARRAYS)
def test_none_is_a_type_error(name, place, body):
    given = arguments(name, body)
    given[place] = None
    with pytest.raises(TypeError, match="must not be None"):
        body_of(name, body)(*given)


@by_kernel
def test_nothing_but_none_is_a_type_error(name):
    with pytest.raises(TypeError):
        KERNELS[name](*[None] * len(parameters(name)))


@by_body
@pytest.mark.parametrize(("name", "place"), INPUTS)
def test_read_only_input_is_taken(name, place, body):
    given = arguments(name, body)
    given[place].flags.writeable = False
    body_of(name, body)(*given)
    np.testing.assert_array_equal(given[place], np.zeros_like(given[place]))


@by_body
@pytest.mark.parametrize(("name", "place"), OUTPUTS)
def test_read_only_output_is_refused(name, place, body):
    given = arguments(name, body)
    given[place].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        body_of(name, body)(*given)


@by_body
@by_kernel
def test_strided_array_is_refused(name, body):
    given = arguments(name, body)
    place = places(name)[0]
    given[place] = np.zeros((*given[place].shape, 4), given[place].dtype)[..., 0]
    with pytest.raises(ValueError, match="contiguous"):
        body_of(name, body)(*given)


@by_body
@by_kernel
def test_other_dtype_is_refused(name, body):
    given = arguments(name, body)
    given[places(name)[0]] = given[places(name)[0]].astype(np.complex128)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        body_of(name, body)(*given)


# ---- parity of the kernels that functional does not wrap ----

SIZES = [0, 1, 7, 16, 257]
RTOL = {"float": 1e-5, "double": 1e-12}


def vectors(count, size, body):
    return np.random.default_rng(size).normal(size=(count, size)).astype(BODIES[body])


def assert_close(got, want, body):
    np.testing.assert_allclose(got, want, rtol=RTOL[body], atol=RTOL[body])


@by_body
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_update_equals_its_twin(decay, size, body):
    w, g = vectors(2, size, body)
    want, _ = reference.sgd_step(w, g, np.zeros(size), 0.3, weight_decay=decay)
    _updates.sgd_update[body](g, w, 0.3, decay)
    assert_close(w, want, body)


@by_body
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_update_equals_its_twin(nesterov, decay, size, body):
    w, v, *gradients = vectors(5, size, body)
    twin, twin_v = w, v
    for g in gradients:
        twin, twin_v = reference.sgd_step(twin, g, twin_v, 0.3, 0.9, nesterov, decay)
        _updates.momentum_update[body](g, w, v, 0.3, 0.9, nesterov, decay)
        assert_close(v, twin_v, body)
        assert_close(w, twin, body)


@by_body
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("decay", "shrink"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1)])
def test_adam_update_equals_its_twin(decay, shrink, size, body):
    w, *gradients = vectors(4, size, body)
    m, v = np.zeros_like(w), np.zeros_like(w)
    twin = w, m, v
    for step, g in enumerate(gradients, 1):
        twin = reference.adam_step(twin[0], g, twin[1], twin[2], step, 0.01, (0.8, 0.99), 1e-6, decay, shrink)
        _updates.adam_update[body](g, w, m, v, 0.01, 0.8, 0.99, 1e-6, decay, shrink, step)
        for got, want in zip((w, m, v), twin, strict=True):
            assert_close(got, want, body)


@by_body
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_update_equals_its_twin(centered, momentum, decay, size, body):
    w, *gradients = vectors(5, size, body)
    s = np.zeros_like(w)
    m, v = (np.zeros_like(w) if kept else w[:0] for kept in (centered, momentum))
    twin = w, np.zeros(size), np.zeros(size), np.zeros(size)
    for g in gradients:
        twin = reference.rmsprop_step(*twin, g, 0.01, 0.8, 1e-3, momentum, centered, decay)
        _updates.rmsprop_update[body](g, w, s, m, v, 0.01, 0.8, 1e-3, momentum, decay)
        assert_close(w, twin[0], body)


@pytest.mark.parametrize("labels", [[], [0], [2, 1, 0], [0, 3, -1], [0, 1, -1], [-(2**63)], [2**63 - 1]], ids=str)
def test_first_outside_range_equals_its_twin(labels):
    y = np.array(labels, np.int64)
    for ignored in (None, -1, 3, 1):
        assert _cross_entropy.first_outside_range(y, 3, ignored) == reference.first_outside_range(y, 3, ignored)


@pytest.mark.parametrize("size", [*SIZES, 100])
@pytest.mark.parametrize("ignored", [-100, 2])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("by_row", [False, True])
def test_count_labels_equals_its_twin(by_row, by_class, ignored, size):
    rng = np.random.default_rng(size)
    y = np.where(rng.random(size) < 0.3, ignored, rng.integers(0, 5, size))
    w = rng.random(5 if by_class else 0)
    weight = rng.random(size if by_row else 0)
    total, found = _cross_entropy.count_labels(y, w, weight, ignored)
    want, want_found = reference.count_labels(y, w, weight, ignored)
    assert total == pytest.approx(want, rel=1e-14)
    assert found == want_found


WEIGHTS = [[], [0.0], [1, 2, 0.5], [3, -1e-30], [1, math.nan], [math.inf, 1], np.arange(200) / 7, [1e308, 1e308]]


@pytest.mark.parametrize("values", WEIGHTS, ids=len)
def test_add_weights_equals_its_twin(values):
    with np.errstate(all="ignore"):
        for w in (np.array(values, np.float64), np.array([*[1.0] * 70, *values])):
            got, want = _elementwise.add_weights(w), reference.add_weights(w)
            np.testing.assert_allclose(got[1], want[1])
            assert got[0] == pytest.approx(want[0], rel=1e-14, nan_ok=True)


@by_body
@pytest.mark.parametrize("wrong", [-1e-3, math.nan, -math.inf, 9.0])
def test_add_weights_sees_every_weight(wrong, body, rng):
    for size in (1, 31, 63, 64, 65, 130):
        for place in range(size):
            w = rng.random(size).astype(BODIES[body])
            w[place] = wrong
            largest = _elementwise.add_weights[body](w)[1]
            assert largest == 9 if wrong == 9 else math.isnan(largest)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1000, 2**14, 2**14 + 1, 2**16 + 100])
def test_round_weights_equals_its_twin(size, rng):
    w = np.where(rng.random(size) < 0.2, 0, rng.lognormal(0, 5, size))
    rounded, again = np.empty((2, size), np.float32)
    total, largest, least = _elementwise.round_weights(w, rounded)
    np.testing.assert_array_equal(rounded, w.astype(np.float32))
    assert total == pytest.approx(math.fsum(rounded.tolist()), rel=1e-14)
    assert largest == np.max(w, initial=0)
    assert least == np.min(w[w != 0], initial=math.inf)
    # a float64 weight is to count as the float32 weight that it is rounded to
    assert total == _elementwise.add_weights(rounded)[0]
    assert _elementwise.round_weights(rounded.astype(np.float64), again)[:2] == _elementwise.add_weights(rounded)


@pytest.mark.parametrize("wrong", [-1e-300, -3.0, math.nan, math.inf, -math.inf])
def test_round_weights_sees_every_weight(wrong, rng):
    for size in (1, 31, 65, 130):
        for place in range(size):
            w = rng.random(size) + 0.5
            w[place] = wrong
            _, largest, least = _elementwise.round_weights(w, np.empty(size, np.float32))
            assert least < 0 or not largest < math.inf


@by_body
@pytest.mark.parametrize("last", [0.0, -0.0, 1e-45, 3e38, -1e-45, -3.0, math.inf, -math.inf, math.nan])
def test_are_weights_equals_its_twin(last, body):
    for size in (1, 2, 17, 64, 257):
        for place in {0, size // 2, size - 1}:
            w = np.ones(size, BODIES[body])
            w[place] = last
            assert _elementwise.are_weights[body](w) is reference.are_weights(w)
    assert _elementwise.are_weights[body](w[:0]) is True


@by_body
@pytest.mark.parametrize("classes", [10, 64, 65, 300])
@pytest.mark.parametrize("s", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 1.7])
def test_a_gradient_may_take_the_place_of_logits(gamma, s, classes, body):
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 3, (37, classes)).astype(BODIES[body])
    y, w, none = rng.integers(0, classes, 37), rng.random(classes).astype(BODIES[body]), np.empty(0, BODIES[body])
    dz, same = np.empty_like(z), z.copy()
    for kernel, target, rest in (
        (_cross_entropy.cross_entropy_index, y, (3, True)),
        (_cross_entropy.cross_entropy_soft, np.full_like(z, 1 / classes), ()),
    ):
        given = w, np.empty(0), np.empty(0), none
        want = kernel[body](z, target, *given, dz, 0.3, s, gamma, *rest)
        same[...] = z
        assert kernel[body](same, target, *given, same, 0.3, s, gamma, *rest) == want
        np.testing.assert_array_equal(same, dz)


CANDIDATES = [[], [0.0, -0.0, 1.0], [0.5, 1.0000001], [0, 0, -1e-30], [0.5, np.nan, 2], [np.inf], [-np.inf]]


@by_body
@pytest.mark.parametrize("values", CANDIDATES, ids=str)
def test_first_outside_unit_equals_its_twin(values, body):
    x = np.array(values, BODIES[body])
    assert _elementwise.first_outside_unit[body](x) == reference.first_outside_unit(x)


# ---- doors ----

ARRAY_DOORS = [name for name in DOORS if "cross_entropy" not in name]
ACTIVATION_DOORS = [name for name in ARRAY_DOORS if "softmax" not in name]
by_door = pytest.mark.parametrize("name", ACTIVATION_DOORS)


def strided(dtype):
    return np.ones(8, dtype)[::2]


def overlapping(dtype):
    memory = np.ones(5, dtype)
    return memory[:4], memory[1:]


CLOSED = {
    "list": lambda d: ([1.0] * 4, np.ones(4, d)),
    "number": lambda d: (1.0, np.ones(4, d)),
    "strided input": lambda d: (strided(d), np.ones(4, d)),
    "strided output": lambda d: (np.ones(4, d), strided(d)),
    "another shape": lambda d: (np.ones(4, d), np.ones(5, d)),
    "another rank": lambda d: (np.ones(4, d), np.ones((2, 2), d)),
    "another dtype": lambda d: (np.ones(4, d), np.ones(4, np.float16)),
    "integers": lambda d: (np.ones(4, np.int64), np.ones(4, np.int64)),
    "foreign bytes": lambda d: (np.ones(4, np.dtype(d).newbyteorder()), np.ones(4, np.dtype(d).newbyteorder())),
    "overlap in part": overlapping,
    "many": lambda d: (np.ones(2**17, d), np.ones(2**17, d)),
}


@pytest.mark.parametrize("name", ARRAY_DOORS)
@by_body
@pytest.mark.parametrize("case", list(CLOSED))
def test_a_door_leaves_what_is_not_plain_alone(name, body, case):
    x, y = CLOSED[case](BODIES[body])
    before = np.array(y)
    assert KERNELS[name](x, y) is False
    np.testing.assert_array_equal(y, before)


@by_door
@by_body
def test_a_door_does_what_the_kernel_does(name, body, rng):
    x = rng.normal(0, 5, (7, 9)).astype(BODIES[body])
    by_way_of_door, by_kernel_alone = np.empty_like(x), np.empty(x.size, x.dtype)
    assert KERNELS[name](x, by_way_of_door) is True
    kernel = body_of(name.replace("_door", "_forward"), body)
    if name == "softmax_door":
        kernel(x, by_kernel_alone.reshape(x.shape))
    else:
        kernel(x.reshape(-1), by_kernel_alone, np.empty(0, x.dtype))
    np.testing.assert_array_equal(by_way_of_door.reshape(-1), by_kernel_alone)


@pytest.mark.parametrize("name", ["softmax_door", "log_softmax_door"])
@by_body
@pytest.mark.parametrize("shape", [(10,), (40, 10), (3, 100), (2, 3, 70)], ids=str)
def test_a_softmax_door_does_what_the_kernel_does(name, body, shape, rng):
    x = rng.normal(0, 5, shape).astype(BODIES[body])
    by_way_of_door, by_kernel_alone = np.empty_like(x), np.empty_like(x)
    assert KERNELS[name](x, by_way_of_door) is True
    rows = (-1, shape[-1])
    body_of(name.replace("_door", "_forward"), body)(x.reshape(rows), by_kernel_alone.reshape(rows))
    np.testing.assert_array_equal(by_way_of_door, by_kernel_alone)
    assert KERNELS[name](x, x) is False  # rows are read again after they were written
    assert KERNELS[name](x[:0], x[:0].copy()) is False
    assert KERNELS[name](np.array(1.0), np.array(2.0)) is False


@pytest.mark.parametrize("name", DOORS)
def test_a_door_takes_no_none(name):
    array = np.ones((2, 2))
    for wrong in range(EVERY_SIGNATURE[name].count(",") + 1):
        arguments = [array] * (EVERY_SIGNATURE[name].count(",") + 1)
        arguments[wrong] = None
        with pytest.raises(TypeError):
            KERNELS[name](*arguments)


@by_body
@pytest.mark.parametrize(("name", "place"), SOURCED)
@pytest.mark.parametrize("wrong", [None, 1.0, "x", np.ones(2, int), np.ones(2, complex), np.ones(4)[::2]], ids=repr)
def test_a_source_that_is_no_array_of_floats_or_doubles_is_refused(wrong, name, place, body):
    given = arguments(name, body)
    given[place] = wrong
    with pytest.raises(TypeError):
        body_of(name, body)(*given)


def plain_loss(z, y, dz):
    return _cross_entropy.cross_entropy_door(z, y, dz, None, None, None, None, "mean", 0.0, 0.0, -100)


BAD_BATCHES = {
    "label too large": lambda z, y: (z, [0, 3], np.empty_like(z)),
    "negative label": lambda z, y: (z, [0, -1], np.empty_like(z)),
    "too few labels": lambda z, y: (z, [0], np.empty_like(z)),
    "gradient over logits": lambda z, y: (z, y, z),
    "gradient of another shape": lambda z, y: (z, y, np.empty((3, 2), z.dtype)),
    "no rows": lambda z, y: (z[:0], [], np.empty_like(z[:0])),
    "labels as a matrix": lambda z, y: (z, [[0, 1]], np.empty_like(z)),
}


@by_body
@pytest.mark.parametrize("case", list(BAD_BATCHES))
def test_the_door_of_cross_entropy_leaves_what_is_not_plain_alone(body, case, rng):
    z, y, dz = BAD_BATCHES[case](rng.normal(size=(2, 3)).astype(BODIES[body]), [0, 1])
    before = z.copy()
    assert plain_loss(z, np.array(y, np.int64), dz) is None
    np.testing.assert_array_equal(z, before)


def test_the_door_of_cross_entropy_takes_labels_of_64_bits_alone():
    z = np.zeros((2, 3))
    assert plain_loss(z, np.array([0, 1], np.int32), np.empty_like(z)) is None
    assert plain_loss(z, np.array([0, 1], np.int64), np.empty_like(z)) == pytest.approx(np.log(3))


def plain_binary_loss(z, t, dz):
    options = None, None, None, None, "mean", None, None, 0.0, 0.0
    return _elementwise.binary_cross_entropy_with_logits_door(z, t, dz, *options)


BAD_QUESTIONS = {
    "target above 1": lambda z, t: (z, t + 1, np.empty_like(z)),
    "target nan": lambda z, t: (z, t * np.nan, np.empty_like(z)),
    "target of another shape": lambda z, t: (z, t[:1], np.empty_like(z)),
    "target of another dtype": lambda z, t: (z, t.astype(np.int64), np.empty_like(z)),
    "gradient over logits": lambda z, t: (z, t, z),
    "gradient over targets": lambda z, t: (z, t, t),
    "no rows": lambda z, t: (z[:0], t[:0], np.empty_like(z[:0])),
}


@by_body
@pytest.mark.parametrize("case", list(BAD_QUESTIONS))
def test_the_door_of_binary_cross_entropy_leaves_what_is_not_plain_alone(body, case, rng):
    z, t, dz = BAD_QUESTIONS[case](*(rng.random((2, 3)).astype(BODIES[body]) for _ in range(2)))
    before = z.copy(), t.copy()
    assert plain_binary_loss(z, t, dz) is None
    np.testing.assert_array_equal(z, before[0])
    np.testing.assert_array_equal(t, before[1])


@by_body
def test_the_door_of_binary_cross_entropy_does_what_the_kernel_does(body, rng):
    z, t, dz = (rng.random((20, 30)).astype(BODIES[body]) for _ in range(3))
    twin, none = np.empty(600, z.dtype), np.empty(0, z.dtype)
    value = plain_binary_loss(z, t, dz)
    kernel, options = body_of("binary_cross_entropy_with_logits", body), (1, 1.0, 1.0, 0.0, 0.0)
    total = kernel(z.reshape(-1), t.reshape(-1), *[none] * 5, twin, 1 / 600, *options)
    assert value == pytest.approx(total / 600)
    np.testing.assert_array_equal(dz.reshape(-1), twin)
