"""Layers: forward beside plain numpy, backward beside numeric gradients, dropout, starting weights, bad input."""

import copy
import pickle

import numpy as np
import pytest

import minnet as mn

DTYPES = ["float32", "float64"]
ACTIVATIONS = {
    "sigmoid": (mn.Sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (mn.Tanh, np.tanh),
    "relu": (mn.ReLU, lambda x: np.maximum(x, 0)),
    "softplus": (mn.Softplus, lambda x: np.log1p(np.exp(x))),
}
LAYERS = {
    "linear": lambda: mn.Linear(3, 2, seed=1),
    "sigmoid": mn.Sigmoid,
    "tanh": mn.Tanh,
    "relu": mn.ReLU,
    "softplus": mn.Softplus,
    "dropout": lambda: mn.Dropout(0.4),
    "sequential": lambda: mn.Sequential([mn.Linear(3, 4), mn.Softplus(), mn.Dropout(0.3), mn.Linear(4, 2)], seed=1),
    "nested": lambda: mn.Sequential([mn.Sequential([mn.Linear(3, 4), mn.Tanh()]), mn.Linear(4, 2)], seed=1),
    "mlp sigmoid": lambda: mn.MLP([3, 4, 4, 2], activation="sigmoid", seed=1),
    "mlp tanh": lambda: mn.MLP([3, 4, 2], activation="tanh", seed=1),
    "mlp softplus": lambda: mn.MLP([3, 4, 2], activation="softplus", seed=1),
}
MEMBERS = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def inputs(dtype="float64"):
    """Four rows of three numbers, none near 0, where relu has its kink."""
    x = np.random.default_rng(0).uniform(0.1, 2, (4, 3)) * [[1, -1, 1], [-1, 1, 1], [1, 1, -1], [-1, -1, 1]]
    return x.astype(dtype)


# ---- forward ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layer", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activation_is_its_function(layer, function, dtype):
    y = layer().forward(inputs(dtype))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, function(inputs(dtype).astype("float64")), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_linear_is_x_w_plus_b(dtype, rows):
    layer, x = mn.Linear(3, 2, dtype=dtype, seed=0), inputs(dtype)[:rows]
    layer.b[...] = [0.5, -1]
    y = layer.forward(x)
    assert y.shape == (rows, 2)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, x @ layer.W + layer.b, rtol=10 * np.finfo(dtype).eps)


def test_linear_adds_its_bias_to_every_row_of_a_large_batch():
    layer, x = mn.Linear(3, 100, seed=0), np.random.default_rng(0).standard_normal((3001, 3)).astype("f")
    layer.b[...] = np.arange(100)
    np.testing.assert_array_equal(layer.forward(x), np.dot(x, layer.W) + layer.b)  # three chunks


def test_sequential_applies_its_layers_in_a_row():
    first, last, x = mn.Linear(3, 4, dtype="float64", seed=0), mn.Linear(4, 2, dtype="float64", seed=1), inputs()
    expected = np.tanh(x @ first.W + first.b) @ last.W + last.b
    np.testing.assert_allclose(mn.Sequential([first, mn.Tanh(), last]).forward(x), expected, rtol=1e-14)


def test_mlp_has_no_activation_after_its_last_layer():
    net, x = mn.MLP([3, 4, 2], activation="relu", dtype="float64", seed=0), inputs()
    W, b, V, c = (array for _, array in net.named_parameters())
    np.testing.assert_allclose(net.forward(x), np.maximum(x @ W + b, 0) @ V + c, rtol=1e-14)


@MEMBERS
def test_rows_do_not_touch_each_other(make):
    layer, x = make(), inputs("float32")
    whole = layer.forward(x)
    np.testing.assert_allclose(whole, np.concatenate([layer.forward(x[i : i + 1]) for i in range(4)]), rtol=1e-5)


@MEMBERS
def test_input_is_not_written_to(make):
    layer, x = make(), inputs("float32")
    dy = np.ones_like(layer.forward(x, np.random.default_rng(0)))
    layer.backward(dy)
    np.testing.assert_array_equal(x, inputs("float32"))
    assert np.all(dy == 1)


# ---- backward ----


@MEMBERS
def test_gradients_are_those_of_central_differences(make):
    assert mn.check_gradient(make(), inputs()) < 1e-8


def test_linear_gradients_are_products_with_x_and_w(rng):
    layer, x, dy = mn.Linear(3, 2, dtype="float64", seed=0), inputs(), rng.standard_normal((4, 2))
    layer.forward(x)
    np.testing.assert_allclose(layer.backward(dy), dy @ layer.W.T, rtol=1e-14)
    np.testing.assert_allclose(layer.dW, x.T @ dy, rtol=1e-13)
    np.testing.assert_allclose(layer.db, dy.sum(axis=0), rtol=1e-14)


def test_relu_passes_gradients_of_positive_inputs_alone():
    layer = mn.ReLU()
    layer.forward(np.array([[-2.0, -0.0, 0.0, 3.0]]))
    assert layer.backward(np.full((1, 4), 7.0)).tolist() == [[0, 0, 0, 7]]


@MEMBERS
def test_backward_twice_gives_the_same(make, rng):
    layer = make()
    dy = rng.standard_normal(layer.forward(inputs("float32"), rng).shape).astype("float32")
    dx, grads = layer.backward(dy).copy(), layer.grads.copy()
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.grads, grads)


@MEMBERS
def test_backward_belongs_to_the_last_forward(make):
    layer, twin, x = make(), make(), inputs("float32")
    layer.forward(-x)
    dy = np.ones_like(layer.forward(x))
    twin.forward(x)
    np.testing.assert_array_equal(layer.backward(dy), twin.backward(dy))
    np.testing.assert_array_equal(layer.grads, twin.grads)


@MEMBERS
def test_backward_params_gives_the_gradients_of_backward(make, rng):
    layer = make()
    dy = rng.standard_normal(layer.forward(inputs("float32")).shape).astype("float32")
    layer.backward(dy)
    expected = layer.grads.copy()
    layer.grads[...] = np.nan
    layer.backward_params(dy)
    np.testing.assert_array_equal(layer.grads, expected)


@MEMBERS
def test_backward_before_forward_is_refused(make):
    with pytest.raises(ValueError, match=r"^\w+\.backward: needs a forward before it"):
        make().backward(np.ones((4, 2), np.float32))


@MEMBERS
def test_a_copy_needs_a_forward_of_its_own(make):
    layer = make()
    dy = np.ones_like(layer.forward(inputs("float32")))
    with pytest.raises(ValueError, match=r"^\w+\.backward: needs a forward before it"):
        copy.deepcopy(layer).backward(dy)


def test_saturated_sigmoid_keeps_its_gradient():
    layer = mn.Sigmoid()
    y = layer.forward(np.array([[40, -40]], np.float32))
    slope = layer.backward(np.ones((1, 2), np.float32))
    assert y[0, 0] == 1
    np.testing.assert_allclose(slope, np.exp([[-40.0, -40.0]]), rtol=1e-6)  # y (1 - y) would be 0


# ---- parameters ----


def test_parameters_of_linear_are_views_into_one_vector():
    layer = mn.Linear(3, 2, seed=0)
    assert layer.params.shape == layer.grads.shape == (8,)
    assert layer.size == 8
    assert np.shares_memory(layer.W, layer.params)
    assert np.shares_memory(layer.b, layer.params)
    assert np.shares_memory(layer.dW, layer.grads)
    assert np.shares_memory(layer.db, layer.grads)
    assert not np.shares_memory(layer.params, layer.grads)
    assert not np.shares_memory(layer.W, layer.b)


def test_writing_to_the_vector_changes_the_layer():
    layer = mn.Linear(3, 2)
    layer.params[...] = np.arange(8)
    assert layer.W.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert layer.b.tolist() == [6, 7]
    assert layer.forward([[1, 0, 0]]).tolist() == [[6, 8]]


def test_gradients_of_linear_arrive_in_the_vector():
    layer = mn.Linear(2, 1)
    layer.forward([[2, 3], [4, 5]])
    layer.backward(np.ones((2, 1), np.float32))
    assert layer.grads.tolist() == [6, 8, 2]


def test_named_parameters_may_be_written_to():
    layer = mn.Linear(3, 2)
    pairs = dict(layer.named_parameters())
    assert list(pairs) == ["W", "b"]
    pairs["b"][...] = 5
    assert layer.params[-2:].tolist() == [5, 5]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["copy", "deep", "pickle"],
)
def test_a_copy_of_a_layer_has_its_own_vectors(duplicate):
    layer = mn.Linear(3, 2, seed=0)
    other = duplicate(layer)
    np.testing.assert_array_equal(other.W, layer.W)
    other.params[...] = 7
    other.grads[...] = 8
    assert np.all(other.W == 7)
    assert np.all(other.db == 8)
    assert not np.any(layer.W == 7)
    assert not np.any(layer.db == 8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_no_parameters(name):
    layer = ACTIVATIONS[name][0]()
    assert (layer.size, layer.params.shape, layer.named_parameters()) == (0, (0,), [])


def test_layers_share_no_vector_through_their_class():
    first, second = mn.Linear(2, 2, seed=0), mn.Linear(2, 2, seed=0)
    first.params[...] = 9
    assert not np.any(second.params == 9)
    assert mn.Layer.params.size == 0


# ---- dtypes ----


@pytest.mark.parametrize("data", ["float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_net_computes_in_its_own_dtype_whatever_the_data(dtype, data, rng):
    layers = [mn.Linear(3, 4, dtype=dtype), mn.Sigmoid(), mn.Dropout(0.5), mn.Linear(4, 4, dtype=dtype), mn.Tanh()]
    net = mn.Sequential([*layers, mn.Softplus(), mn.ReLU(), mn.Linear(4, 2, dtype=dtype)], seed=0)
    y = net.forward(np.ones((5, 3), data), rng)
    value, dy = mn.CrossEntropyLoss().value_and_grad(y, [0, 1, 0, 1, 0])
    dx = net.backward(dy)
    arrays = (y, dy, dx, net.params, net.grads, net.predict_proba(np.ones((5, 3), data)))
    assert {array.dtype.name for array in arrays} == {dtype}
    assert isinstance(value, float)


@MEMBERS
def test_every_layer_keeps_float32(make, rng):
    layer = make()
    y = layer.forward(inputs("float32"), rng)
    assert y.dtype == layer.backward(y).dtype == np.float32


def test_data_of_other_kinds_gives_the_same_output():
    net, x = mn.MLP([3, 2], seed=0), inputs("float32")
    expected = net.forward(x)
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    read_only = x.copy()
    read_only.flags.writeable = False
    for other in (x.tolist(), np.asfortranarray(x), strided, read_only, x.astype("float64")):
        np.testing.assert_array_equal(net.forward(other), expected)


# ---- wrong shapes and kinds ----


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((4, 2)), ValueError, r"x must have shape \(N, 3\), got \(4, 2\)$"),
        (np.ones(3), ValueError, r"x must have shape \(N, 3\), got \(3,\) \(one sample is x\[None, :\]\)$"),
        (np.ones((2, 3, 3)), ValueError, r"x must have shape \(N, 3\), got \(2, 3, 3\)"),
        (1.0, ValueError, r"x must have shape \(N, 3\), got \(\)"),
        ([[1, 2, 3], [1, 2]], ValueError, "x must be a rectangular array, got list"),
        (None, TypeError, "x must hold real numbers, got None"),
        (np.ones((4, 3), complex), TypeError, "x must hold real numbers, got dtype complex128"),
        ([["a", "b", "c"]], TypeError, "x must hold real numbers, got dtype <U1"),
    ],
    ids=["columns", "one sample", "three axes", "number", "ragged", "None", "complex", "strings"],
)
def test_linear_refuses_other_inputs(x, error, message):
    with pytest.raises(error, match=f"^Linear: {message}"):
        mn.Linear(3, 2).forward(x)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2), (4,), (8,), (4, 2, 1)], ids=str)
def test_linear_refuses_gradients_of_another_shape(shape):
    layer = mn.Linear(3, 2)
    layer.forward(inputs("float32"))
    with pytest.raises(ValueError, match=r"^Linear\.backward: dy must have shape \(4, 2\), got \(\d"):
        layer.backward(np.ones(shape, np.float32))


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (5, 3), (12,)], ids=str)
@pytest.mark.parametrize("make", [mn.Sigmoid, mn.Tanh, mn.ReLU, mn.Softplus, mn.Dropout])
def test_elementwise_layers_refuse_gradients_of_another_shape(make, shape):
    layer = make()
    layer.forward(inputs("float32"), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"backward: dy must have shape \(4, 3\), got \(\d"):
        layer.backward(np.ones(shape, np.float32))


@pytest.mark.parametrize("shape", [(4, 3), (3, 2), (5, 2), (8,)], ids=str)
def test_a_net_that_ends_in_an_activation_refuses_gradients_of_another_shape(shape):
    net = mn.Sequential([mn.Linear(3, 2), mn.Sigmoid()], seed=0)
    net.forward(inputs("float32"))
    with pytest.raises(ValueError, match=r"backward: dy must have shape \(4, 2\), got \(\d"):
        net.backward(np.ones(shape, np.float32))


@pytest.mark.parametrize("make", [LAYERS["linear"], mn.Sigmoid, mn.Dropout], ids=["linear", "sigmoid", "dropout"])
@pytest.mark.parametrize("kind", ["list", "float64"])
def test_layers_on_their_own_take_gradients_of_any_real_kind(make, kind):
    layer = make()
    dy = np.ones_like(layer.forward(inputs("float32"), np.random.default_rng(0)))
    expected = layer.backward(dy)
    np.testing.assert_array_equal(layer.backward(dy.tolist() if kind == "list" else dy.astype(kind)), expected)


def test_dropout_on_its_own_takes_a_list(rng):
    y = mn.Dropout(0.5).forward([[1.0, 2.0]], rng)
    assert set(y.ravel().tolist()) <= {0, 2, 4}


BAD = {
    "no inputs": (lambda: mn.Linear(0, 2), ValueError, "Linear: in_features must be at least 1, got 0"),
    "negative outputs": (lambda: mn.Linear(3, -2), ValueError, "Linear: out_features must be at least 1, got -2"),
    "float": (lambda: mn.Linear(3.0, 2), TypeError, "Linear: in_features must be an integer, got 3.0"),
    "bool": (lambda: mn.Linear(3, True), TypeError, "Linear: out_features must be an integer, got True"),
    "string": (lambda: mn.Linear("3", 2), TypeError, "Linear: in_features must be an integer, got '3'"),
    "float16": (lambda: mn.Linear(3, 2, dtype="float16"), ValueError, "Linear: dtype must be float32 or float64, got"),
    "int": (lambda: mn.Linear(3, 2, dtype=int), ValueError, "Linear: dtype must be .*, got <class 'int'>"),
    "unknown dtype": (lambda: mn.Linear(3, 2, dtype="float31"), ValueError, "Linear: dtype must be .*, got 'float31'"),
    "seed a string": (lambda: mn.Linear(3, 2, seed="0"), TypeError, "Linear: seed must be None, .*, got '0'"),
    "negative seed": (lambda: mn.Linear(3, 2, seed=-1), TypeError, "Linear: seed must be None, .*, got -1"),
    "p 1": (lambda: mn.Dropout(1), ValueError, "Dropout: p must be less than 1, got 1"),
    "p above 1": (lambda: mn.Dropout(1.5), ValueError, "Dropout: p must be a finite number >= 0 and <= 1, got 1.5"),
    "negative p": (lambda: mn.Dropout(-0.1), ValueError, "Dropout: p must be a finite number >= 0 and <= 1, got -0.1"),
    "p a string": (lambda: mn.Dropout("0.5"), TypeError, "Dropout: p must be a number, got '0.5'"),
    "p nan": (lambda: mn.Dropout(float("nan")), ValueError, "Dropout: p must be a finite number .*, got nan"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused_by_name_and_value(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_a_layer_without_forward_or_backward_says_so():
    class Empty(mn.Layer):
        pass

    with pytest.raises(ValueError, match=r"^Empty: must define forward\(x, rng=None\)"):
        Empty().forward(np.ones((1, 1)))
    with pytest.raises(ValueError, match=r"^Empty: must define backward\(dy\)"):
        Empty().backward(np.ones((1, 1)))


def test_repr_reads_as_the_call_that_made_the_layer():
    layers = [mn.Linear(3, 2), mn.Sigmoid(), mn.Tanh(), mn.ReLU(), mn.Softplus(), mn.Dropout(0.25)]
    assert repr(layers) == "[Linear(3, 2), Sigmoid(), Tanh(), ReLU(), Softplus(), Dropout(0.25)]"


# ---- dropout ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_drops_a_share_p_and_scales_the_rest(p, dtype, rng):
    x = np.full((200, 500), 3, dtype)
    y = mn.Dropout(p).forward(x, rng)
    assert y.dtype == dtype
    assert abs(np.mean(y == 0) - p) < 0.006  # four standard deviations at most
    np.testing.assert_allclose(y[y != 0], 3 / (1 - p), rtol=4 * np.finfo(dtype).eps)
    assert abs(np.mean(y, dtype="float64") - 3) < 0.08


def test_dropout_sends_gradients_where_it_let_values_through(rng):
    layer = mn.Dropout(0.5)
    y = layer.forward(np.ones((50, 40)), rng)
    assert 0 < np.sum(y == 0) < y.size
    np.testing.assert_array_equal(layer.backward(np.ones((50, 40))), y)


def test_dropout_in_use_is_the_identity(rng):
    layer, x = mn.Dropout(0.9), inputs()
    layer.forward(x, rng)
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)


def test_dropout_of_0_drops_nothing(rng):
    np.testing.assert_array_equal(mn.Dropout(0).forward(inputs(), rng), inputs())


def test_the_same_generator_gives_the_same_mask():
    layer, x = mn.Dropout(0.5), np.ones((20, 20), np.float32)
    masks = [layer.forward(x, np.random.default_rng(seed)) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert np.any(masks[0] != masks[2])


def test_every_forward_draws_a_new_mask(rng):
    layer, x = mn.Dropout(0.5), np.ones((20, 20), np.float32)
    assert np.any(layer.forward(x, rng) != layer.forward(x, rng))


# ---- starting weights ----

FAN_IN, FAN_OUT = 400, 300
STANDARD_DEVIATIONS = {"scaled": 400**-0.5, "large": 1, "xavier": (2 / 700) ** 0.5, "he": (2 / 400) ** 0.5}


@pytest.mark.parametrize(("name", "deviation"), STANDARD_DEVIATIONS.items(), ids=STANDARD_DEVIATIONS)
def test_starting_weights_have_their_scale(name, deviation, rng):
    W = getattr(mn.initializers, name)(rng, FAN_IN, FAN_OUT)
    assert W.shape == (FAN_IN, FAN_OUT)
    assert abs(W.mean()) < 0.02 * deviation
    assert W.std() == pytest.approx(deviation, rel=0.01)


def test_xavier_is_uniform_within_its_bound(rng):
    W, bound = mn.initializers.xavier(rng, FAN_IN, FAN_OUT), (6 / 700) ** 0.5
    assert np.max(np.abs(W)) <= bound
    assert np.mean(np.abs(W) < bound / 2) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", STANDARD_DEVIATIONS)
def test_linear_draws_its_weights_by_name_and_seed(name):
    expected = getattr(mn.initializers, name)(np.random.default_rng(3), 5, 4)
    layer = mn.Linear(5, 4, init=name, dtype="float64", seed=3)
    np.testing.assert_array_equal(layer.W, expected)
    assert np.all(layer.b == 0)
    assert np.any(layer.W != mn.Linear(5, 4, init=name, dtype="float64", seed=4).W)


def test_scaled_is_the_default():
    np.testing.assert_array_equal(mn.Linear(5, 4, seed=3).W, mn.Linear(5, 4, init="scaled", seed=3).W)


def test_a_function_serves_as_initialiser():
    layer = mn.Linear(3, 2, init=lambda rng, fan_in, fan_out: np.full((fan_in, fan_out), 10 * fan_in + fan_out))
    assert np.all(layer.W == 32)


def test_an_initialiser_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"^Linear: init must give an array of shape \(3, 2\), got \(2, 3\)"):
        mn.Linear(3, 2, init=lambda rng, fan_in, fan_out: np.ones((fan_out, fan_in)))


def test_an_unknown_initialiser_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"init must be one of 'scaled', .*, got 'scale' \(did you mean 'scaled'\?\)"):
        mn.Linear(3, 2, init="scale")
    with pytest.raises(TypeError, match=r"init must be one of 'scaled', .*, got 3$"):
        mn.Linear(3, 2, init=3)


def test_values_assigned_to_a_parameter_move_into_the_vector():
    net = mn.MLP([2, 3, 1], seed=0)
    x, layer = np.ones((1, 2), np.float32), net.layers[0]
    layer.W, layer.b = np.full((2, 3), 2.0), [1, 2, 3]
    layer.W *= 2
    assert layer.W.base is net.params
    np.testing.assert_array_equal(net.params[:9], [4] * 6 + [1, 2, 3])
    np.testing.assert_allclose(net.predict_proba(x), mn.functional.sigmoid(net.forward(x)[:, 0]), rtol=1e-6)
    with pytest.raises(ValueError, match=r"^Linear: W must have shape \(2, 3\), got \(3,\)"):
        layer.W = np.zeros(3)


def test_a_vector_assigned_to_a_model_moves_into_that_of_its_layers():
    net, x = mn.MLP([2, 3, 1], seed=0), np.ones((1, 2), np.float32)
    params, halves = net.params, net.params / 2
    net.params = halves
    assert net.params is params
    np.testing.assert_array_equal(net.params, halves)
    np.testing.assert_array_equal(net.layers[0].W, halves[:6].reshape(2, 3))
    net.params *= 0
    np.testing.assert_array_equal(net.forward(x), 0)
    net.grads = np.ones(net.size)
    np.testing.assert_array_equal(net.layers[-1].db, 1)
    with pytest.raises(ValueError, match=r"^MLP: params must have shape \(13,\), got \(2,\)"):
        net.params = np.zeros(2)
