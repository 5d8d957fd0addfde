"""check_gradient: right code passes, each kind of wrong code is caught, and layers and losses of one's own train."""

import numpy as np
import pytest

import minnet as mn

X = np.random.default_rng(0).uniform(0.2, 1, (4, 3))
T = np.random.default_rng(1).uniform(0.2, 1, (4, 3))


class Scale(mn.Layer):
    """y = x g: a layer of one's own, with one parameter for each feature."""

    def __init__(self, features):
        self.allocate({"g": (features,)})
        self.g[...] = np.arange(1, features + 1)

    def forward(self, x, rng=None):
        self._x = x
        return x * self.g

    def backward(self, dy):
        np.sum(dy * self._x, axis=0, out=self.dg)
        return dy * self.g


class WrongInput(Scale):
    def backward(self, dy):
        return 1.01 * super().backward(dy)


class WrongParameter(Scale):
    def backward(self, dy):
        dx = super().backward(dy)
        self.dg[1] *= -1
        return dx


class NoParameter(Scale):
    def backward(self, dy):
        return dy * self.g


class NanInput(Scale):
    def backward(self, dy):
        dx = super().backward(dy)
        dx[2, 1] = np.nan
        return dx


class NanParameter(Scale):
    def backward(self, dy):
        dx = super().backward(dy)
        self.dg[2] = np.nan
        return dx


class ShapeOfInput(Scale):
    def backward(self, dy):
        return super().backward(dy)[:, :2]


class NoInput(Scale):
    def backward(self, dy):
        super().backward(dy)


class CubedError:
    """sum |x - t|^3 / rows: a loss of one's own."""

    def __call__(self, outputs, target):
        return float(np.sum(np.abs(outputs - target) ** 3)) / len(outputs)

    def value_and_grad(self, outputs, target):
        difference = outputs - target
        return self(outputs, target), 3 * difference * np.abs(difference) / len(outputs)


class MeanWithGradientOfSum(CubedError):
    """The mean over all outputs, with the gradient of the mean over rows: equal for one output, wrong for more."""

    def __call__(self, outputs, target):
        return super().__call__(outputs, target) / outputs.shape[1]


class OtherValue(CubedError):
    def value_and_grad(self, outputs, target):
        value, gradient = super().value_and_grad(outputs, target)
        return 2 * value, gradient


class NanGradient(CubedError):
    def value_and_grad(self, outputs, target):
        value, gradient = super().value_and_grad(outputs, target)
        gradient[0, 2] = np.nan
        return value, gradient


class ShapeOfGradient(CubedError):
    def value_and_grad(self, outputs, target):
        value, gradient = super().value_and_grad(outputs, target)
        return value, gradient.sum(axis=1)


# ---- right code passes ----


@pytest.mark.parametrize("layer", [Scale(3), mn.Linear(3, 2, seed=0), mn.Tanh()], ids=str)
def test_a_right_layer_passes_with_its_largest_error(layer):
    error = mn.check_gradient(layer, X)
    assert isinstance(error, float)
    assert 0 <= error < 1e-8


def test_a_model_with_a_layer_of_ones_own_passes():
    net = mn.Sequential([mn.Linear(3, 4), mn.Sigmoid(), Scale(4), mn.Linear(4, 2)], seed=0)
    assert mn.check_gradient(net, X) < 1e-8


def test_a_right_loss_passes():
    assert mn.check_gradient(CubedError(), X, T) < 1e-8
    assert mn.check_gradient(mn.CrossEntropyLoss(), X.tolist(), [0, 1, 2, 0], sample_weight=[1, 2, 0, 1]) < 1e-8


def test_the_same_seed_gives_the_same_error():
    errors = [mn.check_gradient(mn.MLP([3, 4, 2], seed=0), X, seed=seed) for seed in (1, 1, 2)]
    assert errors[0] == errors[1] != errors[2]


# ---- wrong code is caught ----


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (WrongInput(3), r"of WrongInput: dx\[\d, \d\] must be -?\d\S+, got -?\d\S+"),
        (WrongParameter(3), r"of WrongParameter: dg\[1\] must be -?\d\S+, got -?\d\S+"),
        (NoParameter(3), r"of NoParameter: dg\[\d\] must be -?\d\S+, got (0|nan)"),
        (NanInput(3), r"of NanInput: dx\[2, 1\] must be -?\d\S+, got nan"),
        (NanParameter(3), r"of NanParameter: dg\[2\] must be -?\d\S+, got nan"),
        (ShapeOfInput(3), r"of ShapeOfInput: dx must have shape \(4, 3\), got \(4, 2\)"),
        (NoInput(3), r"of NoInput: dx must have shape \(4, 3\), got \(\)"),
        (mn.Sequential([mn.Tanh(), WrongParameter(3)]), r"of Sequential: d1\.g\[1\] must be -?\d\S+, got -?\d"),
    ],
    ids=["input", "parameter", "no parameter", "nan input", "nan parameter", "shape", "no input", "in a model"],
)
def test_a_wrong_layer_is_caught_and_the_entry_named(layer, message):
    with pytest.raises(ValueError, match=f"^check_gradient {message}"):
        mn.check_gradient(layer, X)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (MeanWithGradientOfSum(), r"of MeanWithGradientOfSum: gradient\[\d, \d\] must be -?\d\S+, got -?\d\S+"),
        (OtherValue(), r"of OtherValue: value_and_grad's value against __call__'s must be \d\S+, got \d\S+"),
        (NanGradient(), r"of NanGradient: gradient\[0, 2\] must be -?\d\S+, got nan"),
        (ShapeOfGradient(), r"of ShapeOfGradient: gradient must have shape \(4, 3\), got \(4,\)"),
    ],
    ids=["n times too large", "other value", "nan", "shape"],
)
def test_a_wrong_loss_is_caught(loss, message):
    with pytest.raises(ValueError, match=f"^check_gradient {message}"):
        mn.check_gradient(loss, X, T)


def test_a_gradient_n_times_too_large_shows_from_two_outputs_on():
    assert mn.check_gradient(MeanWithGradientOfSum(), X[:, :1], T[:, :1]) < 1e-8
    with pytest.raises(ValueError, match="MeanWithGradientOfSum: gradient"):
        mn.check_gradient(MeanWithGradientOfSum(), X[:, :2], T[:, :2])


def test_a_layer_that_adds_to_its_gradients_is_caught():
    class Adds(Scale):
        def backward(self, dy):
            self.dg += np.sum(dy * self._x, axis=0)
            return dy * self.g

    with pytest.raises(ValueError, match=r"^check_gradient of Adds: "):
        mn.check_gradient(Adds(3), X)


def test_a_wrong_backward_params_is_caught():
    class Shortcut(Scale):
        def backward_params(self, dy):
            self.dg[...] = 0

    with pytest.raises(ValueError, match=r"^check_gradient of Shortcut: "):
        mn.check_gradient(Shortcut(3), X)


def test_tolerance_is_what_counts_as_wrong():
    with pytest.raises(ValueError, match="WrongInput: dx"):
        mn.check_gradient(WrongInput(3), X, tol=0.005)
    assert 0.005 < mn.check_gradient(WrongInput(3), X, tol=0.02) < 0.02


# ---- what is checked stays as it was ----


def test_the_layer_is_left_as_it_was(rng):
    layer = mn.Sequential([mn.Linear(3, 4), mn.Dropout(0.5), mn.Linear(4, 2)], seed=0)
    dy = np.ones_like(layer.forward(X, rng))
    dx = layer.backward(dy).copy()
    params, grads = layer.params.copy(), layer.grads.copy()
    mn.check_gradient(layer, X)
    np.testing.assert_array_equal(layer.params, params)
    np.testing.assert_array_equal(layer.grads, grads)
    np.testing.assert_array_equal(layer.backward(dy), dx)  # it still belongs to the forward above
    assert layer.dtype == np.float32


def test_input_and_target_are_left_as_they_were():
    x, t = X.copy(), T.copy()
    mn.check_gradient(mn.Linear(3, 2), x)
    mn.check_gradient(mn.MSELoss(), x, t)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(t, T)


# ---- one's own layer and loss in fit ----


def test_a_layer_and_a_loss_of_ones_own_train(rng):
    X = rng.standard_normal((40, 3))
    net = mn.Sequential([Scale(3), mn.Linear(3, 4), mn.Tanh(), Scale(4), mn.Linear(4, 2)], seed=0)
    before = [layer.g.copy() for layer in net.layers if isinstance(layer, Scale)]
    options = {"epochs": 40, "validation_data": (X[:10], X[:10, :2]), "seed": 0}
    history = mn.fit(net, X, X[:, :2], loss=CubedError(), optimizer=mn.Adam(0.02), **options)
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert history.columns == ["epoch", "loss", "lr", "seconds", "val_loss"]
    assert all(np.all(layer.g != old) for layer, old in zip((net.layers[0], net.layers[3]), before, strict=True))
    assert [name for name, _ in net.named_parameters()][:2] == ["0.g", "1.W"]


def test_a_loss_of_ones_own_in_float32_is_shown_in_the_table():
    class Float32Error(CubedError):
        def value_and_grad(self, outputs, target):
            value, gradient = super().value_and_grad(outputs, target)
            return np.float32(value), gradient

    history = mn.fit(mn.MLP([3, 3]), X, T, loss=Float32Error(), optimizer=mn.SGD(0.1), epochs=2)
    assert "loss" in repr(history).split()


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.tanh, X), TypeError, "check_gradient: needs a Layer or an object with value_and_grad, got <ufunc"),
        ((mn.MSELoss, X, T), TypeError, "check_gradient: needs a Layer or an object with value_and_grad, got <class"),
        ((mn.Tanh, X), TypeError, "check_gradient: needs a Layer or an object with value_and_grad, got <class"),
        ((mn.Tanh(), None), TypeError, "check_gradient: x must hold real numbers, got None"),
        ((mn.Tanh(), [[1], [1, 2]]), ValueError, "check_gradient: x must be a rectangular array"),
        ((mn.Linear(2, 2), X), ValueError, r"Linear: x must have shape \(N, 2\), got \(4, 3\)"),
    ],
    ids=["function", "loss class", "layer class", "None", "ragged", "shape"],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        mn.check_gradient(*arguments)


@pytest.mark.parametrize(
    ("tol", "error"), [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_a_bad_tolerance_is_refused(tol, error):
    with pytest.raises(error, match=r"^check_gradient: tol must be a (finite )?number.*, got "):
        mn.check_gradient(mn.Tanh(), X, tol=tol)
