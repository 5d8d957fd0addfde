"""Nets as ONNX models, run by onnx's own evaluator and, where it is installed, by onnxruntime."""

import os
import sys

import numpy as np
import pytest

import minnet as mn

onnx = pytest.importorskip("onnx")
export = mn.files.export_onnx

NETS = {
    "mlp": lambda dtype: mn.MLP([4, 6, 3], activation="relu", dtype=dtype, seed=0),
    "linear": lambda dtype: mn.Linear(4, 2, dtype=dtype, seed=0),
    "every layer": lambda dtype: mn.Sequential(
        [
            mn.Dropout(0.1),
            mn.Linear(4, 5, dtype=dtype),
            mn.Sigmoid(),
            mn.Sequential([mn.Linear(5, 6, dtype=dtype), mn.Tanh(), mn.Dropout(0.2)]),
            mn.Softplus(),
            mn.LinearCrossEntropy(6, 3, dtype=dtype),
        ],
        seed=0,
    ),
    "ends in an activation": lambda dtype: mn.Sequential([mn.Linear(4, 3, dtype=dtype), mn.Sigmoid()], seed=0),
    "begins with an activation": lambda dtype: mn.Sequential([mn.Tanh(), mn.Linear(4, 3, dtype=dtype)], seed=0),
}


def net_of(name, dtype):
    net = NETS[name](dtype)
    net.params[...] = np.random.default_rng(1).standard_normal(net.size)  # biases, too
    return net


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_the_model_gives_what_the_net_gives(tmp_path, name, dtype, rng):
    from onnx.reference import ReferenceEvaluator

    net, path = net_of(name, dtype), tmp_path / "net.onnx"
    export(net, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    x = rng.standard_normal((7, 4)).astype(dtype)
    with np.errstate(all="ignore"):
        (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert y.dtype == dtype
    np.testing.assert_allclose(y, net.forward(x), rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6)
    assert [held.name for held in model.graph.initializer] == [name for name, _ in net.named_parameters()]


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_gives_what_the_net_gives(tmp_path, name, rows, rng):
    runtime = pytest.importorskip("onnxruntime")
    net, path = net_of(name, "float32"), tmp_path / "net.onnx"
    export(net, path)
    x = rng.standard_normal((rows, 4)).astype("float32")
    (y,) = runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(y, net.forward(x), rtol=1e-5, atol=1e-6)


def test_the_same_net_makes_the_same_bytes(tmp_path):
    for name in "ab":
        export(net_of("mlp", "float32"), tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


class Own(mn.Layer):
    pass


class OwnLinear(mn.Linear):
    def forward(self, x, rng=None):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("net", "name", "error", "message"),
    [
        (mn.MLP([2, 2]), "net.npz", ValueError, "path must end in .onnx, got "),
        (3, "net.onnx", TypeError, "net must be a minnet Layer, such as MLP or Sequential, got 3"),
        (mn.Sequential([mn.Linear(2, 2), Own()]), "net.onnx", TypeError, "every layer must be one of minnet's own"),
        (
            mn.Sequential([OwnLinear(2, 2)]),
            "net.onnx",
            TypeError,
            "every layer must be one of minnet's own, got Linear",
        ),
        (mn.Sequential([mn.Tanh(), mn.Dropout()]), "net.onnx", ValueError, "net must have a Linear layer"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, net, name, error, message):
    with pytest.raises(error, match=f"^export_onnx: {message}"):
        export(net, tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx.helper", None)
    with pytest.raises(ImportError, match=r"^export_onnx: needs onnx, .*pip install 'minnet\[onnx\]'"):
        export(mn.MLP([2, 2]), tmp_path / "net.onnx")
