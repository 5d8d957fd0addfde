"""Models: one flat vector that owns all parameters, seeds, answers, copies that stand alone, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

import minnet as mn

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "pickle 2": lambda net: pickle.loads(pickle.dumps(net, protocol=2)),
    "copy": copy.copy,
}
MODELS = {
    "mlp": lambda **options: mn.MLP([3, 4, 2], seed=0, **options),
    "sequential": lambda **options: mn.Sequential(
        [mn.Linear(3, 4, **options), mn.Tanh(), mn.Dropout(0.2), mn.Linear(4, 2, **options)], seed=0
    ),
    "nested": lambda **options: mn.Sequential(
        [mn.Sequential([mn.Linear(3, 4, **options), mn.ReLU()]), mn.Linear(4, 2, **options)], seed=0
    ),
}
MEMBERS = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
X = np.random.default_rng(0).standard_normal((6, 3))
Y = np.array([0, 1, 1, 0, 1, 0])


def assert_bound(net):
    """All parameters and gradients of the layers are views that tile the net's two vectors."""
    for vector, prefix in ((net.params, ""), (net.grads, "d")):
        arrays = [getattr(layer, prefix + name) for layer in leaves(net) for name in layer.shapes]
        vector[...] = np.arange(len(vector))
        np.testing.assert_array_equal(np.concatenate([array.ravel() for array in arrays]), vector)
        assert all(np.shares_memory(array, vector) for array in arrays)


def leaves(net):
    return [leaf for layer in net.layers for leaf in (leaves(layer) if isinstance(layer, mn.Sequential) else [layer])]


def train(net):
    return mn.fit(net, X, Y, loss="cross_entropy", optimizer=mn.SGD(1.0), epochs=30, batch_size=6, seed=0)


# ---- one vector ----


@MEMBERS
def test_layers_are_views_into_the_vectors_of_the_model(make):
    net = make()
    assert net.size == net.params.size == net.grads.size == 3 * 4 + 4 + 4 * 2 + 2
    assert not np.shares_memory(net.params, net.grads)
    assert_bound(net)


@MEMBERS
def test_writing_to_the_vector_changes_the_outputs(make):
    net = make()
    net.params[...] = 0
    assert np.all(net.forward(X) == 0)
    net.params[-2:] = [5, -5]  # the biases of the last layer
    np.testing.assert_array_equal(net.forward(X), np.tile([5, -5], (6, 1)))


@MEMBERS
def test_backward_fills_the_vector_of_gradients(make):
    net = make()
    net.grads[...] = np.nan
    dy = np.ones_like(net.forward(X))
    net.backward(dy)
    assert np.all(np.isfinite(net.grads))
    assert net.grads[-2:].tolist() == [6, 6]


def test_a_layer_keeps_its_values_when_a_model_takes_it():
    layer = mn.Linear(3, 2, seed=5)
    before = layer.W.copy()
    net = mn.Sequential([mn.Linear(4, 3), mn.Sigmoid(), layer])
    np.testing.assert_array_equal(layer.W, before)
    assert np.shares_memory(layer.W, net.params)
    assert np.shares_memory(layer.params, net.params)


def test_named_parameters_come_in_order_with_the_place_of_their_layer():
    net = mn.Sequential([mn.Linear(3, 4), mn.ReLU(), mn.Sequential([mn.Tanh(), mn.Linear(4, 2)])])
    assert [name for name, _ in net.named_parameters()] == ["0.W", "0.b", "2.1.W", "2.1.b"]
    assert [array.shape for _, array in net.named_parameters()] == [(3, 4), (4,), (4, 2), (2,)]
    start = 0
    net.params[...] = np.arange(net.size)
    for _, array in net.named_parameters():
        np.testing.assert_array_equal(array.ravel(), np.arange(start, start + array.size))
        start += array.size


def test_a_single_layer_makes_a_model():
    net = mn.Sequential(mn.Linear(3, 2))
    assert repr(net) == "Sequential([Linear(3, 2)])"
    assert_bound(net)


def test_a_model_without_parameters_computes_and_has_none():
    net = mn.Sequential([mn.Sigmoid()])
    assert (net.size, net.params.shape, net.named_parameters()) == (0, (0,), [])
    assert net.forward(np.zeros((1, 2))).tolist() == [[0.5, 0.5]]
    net.backward_params(np.ones((1, 2)))
    assert net.backward(np.ones((1, 2))).tolist() == [[0.25, 0.25]]


# ---- seeds ----


def test_the_same_seed_gives_the_same_weights():
    nets = [mn.MLP([3, 4, 2], seed=seed) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
    assert np.any(nets[0].params != nets[2].params)


def test_models_without_a_seed_differ():
    assert np.any(mn.MLP([3, 4, 2]).params != mn.MLP([3, 4, 2]).params)


def test_a_generator_goes_on_where_it_stands():
    rng = np.random.default_rng(7)
    first, second = mn.MLP([3, 2], seed=rng), mn.MLP([3, 2], seed=rng)
    np.testing.assert_array_equal(first.params, mn.MLP([3, 2], seed=7).params)
    assert np.any(first.params != second.params)


def test_layers_of_equal_shape_start_differently():
    net = mn.MLP([4, 4, 4], seed=0)
    assert np.any(net.layers[0].W != net.layers[2].W)


def test_seed_none_keeps_the_values_of_the_layers_and_a_seed_draws_anew():
    layer = mn.Linear(3, 2, seed=5)
    before = layer.W.copy()
    mn.Sequential([layer])
    np.testing.assert_array_equal(layer.W, before)
    other = mn.Linear(3, 2, seed=5)
    mn.Sequential([other], seed=0)
    assert np.any(before != other.W)


def test_a_seeded_mlp_equals_a_seeded_sequential_of_its_layers():
    stack = mn.Sequential([mn.Linear(3, 4), mn.Sigmoid(), mn.Linear(4, 2)], seed=7)
    np.testing.assert_array_equal(stack.params, mn.MLP([3, 4, 2], seed=7).params)


def test_init_reaches_every_layer():
    net = mn.MLP([3, 4, 2], init=lambda rng, fan_in, fan_out: np.full((fan_in, fan_out), fan_in))
    assert [float(array.mean()) for _, array in net.named_parameters()] == [3, 0, 4, 0]


# ---- answers ----


def test_answers_of_several_outputs_are_the_largest_and_softmax():
    net = mn.Sequential([mn.Linear(3, 3, dtype="float64")])
    net.layers[0].W[...] = np.eye(3)
    z = np.array([[1.0, 3, 2], [5, 4, 4], [0, 0, 1]])
    assert net.predict(z).tolist() == [1, 0, 2]
    exp = np.exp(z)
    np.testing.assert_allclose(net.predict_proba(z), exp / exp.sum(axis=1, keepdims=True), rtol=1e-14)


def test_answers_of_one_logit_are_its_sign_and_sigmoid():
    net = mn.Sequential([mn.Linear(1, 1, init=lambda *_: np.ones((1, 1)), dtype="float64")])
    z = np.array([[-3.0], [0], [2]])
    answers, chances = net.predict(z), net.predict_proba(z)
    assert answers.tolist() == [0, 0, 1]
    assert answers.dtype == np.int64
    assert chances.shape == (3,)
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-z[:, 0])), rtol=1e-14)


def test_answers_use_no_dropout():
    net = mn.Sequential([mn.Linear(3, 50), mn.Dropout(0.9), mn.Linear(50, 2)], seed=0)
    np.testing.assert_array_equal(net.predict_proba(X), net.predict_proba(X))
    np.testing.assert_array_equal(net.predict(X), np.argmax(net.forward(X), axis=1))


def test_no_rows_give_no_answers():
    net = mn.MLP([3, 4, 2], seed=0)
    assert net.predict(np.ones((0, 3))).shape == (0,)
    assert net.predict_proba(np.ones((0, 3))).shape == (0, 2)


# ---- dtypes ----


@MEMBERS
@pytest.mark.parametrize("dtype", ["float32", "float64", np.float64, float])
def test_a_model_has_one_dtype(make, dtype):
    net = make(dtype=dtype)
    y = net.forward(X)
    assert {net.dtype, net.params.dtype, net.grads.dtype, y.dtype, net.backward(y).dtype} == {np.dtype(dtype)}


def test_float32_is_the_default():
    assert mn.MLP([3, 2]).dtype == mn.Linear(3, 2).params.dtype == np.float32


def test_float64_data_is_cast_for_a_float32_model():
    net = mn.MLP([3, 4, 2], seed=0)
    np.testing.assert_array_equal(net.forward(X), net.forward(X.astype(np.float32)))
    np.testing.assert_array_equal(net.predict_proba(X.tolist()), net.predict_proba(X))


# ---- copies ----


@MEMBERS
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_has_the_same_values_and_its_own_memory(make, duplicate):
    net = make()
    other = duplicate(net)
    assert type(other) is type(net)
    assert repr(other) == repr(net)
    np.testing.assert_array_equal(other.params, net.params)
    np.testing.assert_array_equal(other.forward(X), net.forward(X))
    assert not np.shares_memory(other.params, net.params)
    assert not np.shares_memory(other.grads, net.grads)


@MEMBERS
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_is_bound_to_its_own_vectors_and_leaves_the_original_bound(make, duplicate):
    net = make(dtype="float64")
    other = duplicate(net)
    assert_bound(other)
    assert_bound(net)


@MEMBERS
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_trains_on_alone(make, duplicate):
    net = make()
    other = duplicate(net)
    before, outputs = net.params.copy(), net.forward(X)
    history = train(other)
    assert history["loss"][-1] < history["loss"][0]
    np.testing.assert_array_equal(net.params, before)
    np.testing.assert_array_equal(net.forward(X), outputs)
    assert np.any(other.forward(X) != outputs)


def test_a_copy_trains_exactly_as_the_original():
    net = MODELS["sequential"]()
    other = pickle.loads(pickle.dumps(net))
    train(net)
    train(other)
    np.testing.assert_array_equal(net.params, other.params)


def test_a_pickle_leaves_out_what_forward_kept():
    net = MODELS["sequential"]()
    before = len(pickle.dumps(net))
    net.forward(np.ones((1000, 3)), np.random.default_rng(0))
    assert len(pickle.dumps(net)) < before + 100


def test_a_copied_layer_is_free():
    net = mn.Sequential([mn.Linear(3, 3, seed=0)])
    twice = mn.Sequential([mn.Linear(3, 3), copy.deepcopy(net.layers[0])])
    np.testing.assert_array_equal(twice.layers[1].W, net.layers[0].W)
    assert not np.shares_memory(twice.params, net.params)


# ---- what is refused ----

LAYER = mn.Linear(3, 3)
OWNED = mn.Sequential([mn.Linear(3, 3)])
BAD_LAYERS = {
    "twice": ([LAYER, LAYER], ValueError, r"a layer can stand in one place only, got Linear.* \(copy.deepcopy gives"),
    "owned": ([OWNED.layers[0]], ValueError, r"a layer can stand in one place only, got Linear\(3, 3\)"),
    "owned below": ([OWNED, OWNED.layers[0]], ValueError, r"a layer can stand in one place only, got Linear\(3, 3\)"),
    "class": ([mn.Sigmoid], TypeError, r"every layer must be a minnet Layer, got .* \(make one: Sigmoid\(...\)\)"),
    "name": (["sigmoid"], TypeError, "every layer must be a minnet Layer, got 'sigmoid'"),
    "function": ([np.tanh], TypeError, "every layer must be a minnet Layer, got <ufunc 'tanh'>"),
    "none": ([None], TypeError, "every layer must be a minnet Layer, got None"),
    "nothing": ([], ValueError, r"needs at least one layer, got \[\]"),
    "two dtypes": (
        [mn.Linear(3, 3), mn.Linear(3, 3, dtype="float64")],
        ValueError,
        "layers must have one dtype, got float32 and float64",
    ),
}


@pytest.mark.parametrize(("layers", "error", "message"), BAD_LAYERS.values(), ids=BAD_LAYERS)
def test_unfit_layers_are_refused(layers, error, message):
    with pytest.raises(error, match=f"^Sequential: {message}"):
        mn.Sequential(layers)


def test_a_refused_model_leaves_its_layers_free():
    layer = mn.Linear(3, 3, seed=0)
    for layers, seed in (([layer, layer], 0), ([layer, mn.Sigmoid], 0), ([layer], "seven")):
        with pytest.raises((ValueError, TypeError), match=r"^Sequential: "):
            mn.Sequential(layers, seed=seed)
    assert mn.Sequential([layer]).layers == [layer]


BAD_SIZES = {
    "one": ([3], ValueError, r"sizes must name at least inputs and outputs, got \[3\] \(such as \[784, 30, 10\]\)"),
    "none": ([], ValueError, r"sizes must name at least inputs and outputs, got \[\]"),
    "zero": ([3, 0, 2], ValueError, "sizes must be at least 1, got 0"),
    "negative": ([3, -4, 2], ValueError, "sizes must be at least 1, got -4"),
    "float": ([3, 4.0, 2], TypeError, "sizes must be an integer, got 4.0"),
    "bool": ([3, True], TypeError, "sizes must be an integer, got True"),
    "string": ("32", TypeError, "sizes must be an integer, got '3'"),
    "number": (3, TypeError, "sizes must be a list of integers, got 3"),
}


@pytest.mark.parametrize(("sizes", "error", "message"), BAD_SIZES.values(), ids=BAD_SIZES)
def test_bad_sizes_are_refused(sizes, error, message):
    with pytest.raises(error, match=f"^MLP: {message}"):
        mn.MLP(sizes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "sigmoidal"}, ValueError, r"MLP: activation must be one of .*\(did you mean 'sigmoid'\?\)"),
        ({"activation": mn.ReLU}, TypeError, "MLP: activation must be one of .*, got <class"),
        ({"dtype": "float16"}, ValueError, "MLP: dtype must be float32 or float64, got 'float16'"),
        ({"dtype": None}, ValueError, "MLP: dtype must be float32 or float64, got None"),
        ({"seed": "a"}, TypeError, "MLP: seed must be None, an integer >= 0 or a numpy Generator, got 'a'"),
        ({"init": "zero"}, ValueError, "Linear: init must be one of 'scaled', 'large', 'xavier', 'he', got 'zero'"),
    ],
    ids=["activation", "activation class", "dtype", "dtype None", "seed", "init"],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        mn.MLP([3, 4, 2], **options)


@pytest.mark.parametrize("method", ["forward", "predict", "predict_proba"])
def test_one_sample_without_its_axis_is_refused_with_a_hint(method):
    with pytest.raises(ValueError, match=r"x must have shape \(N, 3\), got \(3,\) \(one sample is x\[None, :\]\)"):
        getattr(mn.MLP([3, 4, 2]), method)(np.ones(3))


def test_sizes_are_kept_as_plain_integers():
    net = mn.MLP(np.array([3, 4, 2]))
    assert net.sizes == [3, 4, 2]
    assert mn.MLP((3, 4, 2)).size == net.size == 26


def test_repr_reads_as_the_call_that_made_the_model():
    assert repr(mn.MLP([784, 30, 10], activation="tanh")) == "MLP([784, 30, 10], activation='tanh')"
    assert repr(mn.Sequential([mn.Linear(3, 2), mn.ReLU()])) == "Sequential([Linear(3, 2), ReLU()])"


# ---- steps: a linear layer and the activation after it share their passes ----


@pytest.mark.parametrize("rows", [1, 7, 6000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "softplus"])
def test_shared_passes_give_what_the_layers_give_alone(activation, dtype, rows, rng):
    net = mn.MLP([5, 40, 3], activation=activation, dtype=dtype, seed=0)
    net.params[...] = rng.normal(size=net.size)
    x, dy = rng.normal(size=(rows, 5)).astype(dtype), rng.normal(size=(rows, 3)).astype(dtype)
    y = net.forward(x)
    dx, grads = net.backward(dy), net.grads.copy()

    twin = mn.MLP([5, 40, 3], activation=activation, dtype=dtype)
    twin.params[...] = net.params
    alone, dalone = x, dy
    for layer in twin.layers:
        alone = layer.forward(alone)
    for layer in reversed(twin.layers):
        dalone = layer.backward(dalone)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(y, alone, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, dalone, rtol=tolerance, atol=10 * tolerance)
    np.testing.assert_allclose(grads, twin.grads, rtol=tolerance, atol=tolerance * rows)

    net.grads[...] = np.nan
    net.backward_params(dy)
    np.testing.assert_array_equal(net.grads, grads)
