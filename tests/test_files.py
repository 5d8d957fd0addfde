"""save and load: what comes back, how it stands on the disk, and files that are damaged or made to harm."""

import copy
import inspect
import io
import json
import os
import pickle
import struct
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

import minnet as mn
from minnet import files
from minnet import layers as house_layers

SUFFIXES = [".npz", ".safetensors"]
by_suffix = pytest.mark.parametrize("suffix", SUFFIXES)


@pytest.fixture
def path(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"net{suffix}"


def stack(dtype="float32"):
    inner = mn.Sequential([mn.Dropout(0.25), mn.Linear(4, 3, init="he", dtype=dtype), mn.Tanh()])
    return mn.Sequential([mn.Linear(2, 4, dtype=dtype), mn.Sigmoid(), inner, mn.Linear(3, 2, dtype=dtype)], seed=1)


class Scale(mn.Layer):
    """A layer of one's own: y = s x + offset, its parameter kept in columns."""

    def __init__(self, features, *, offset=0.0):
        self.features, self.offset = features, offset
        self.allocate({"s": (features,)})

    def forward(self, x, rng=None):
        return x * self.s + self.offset


class Columns(mn.Layer):
    """Gives its parameter away in columns."""

    def __init__(self):
        self.allocate({"W": (3, 2)})

    def named_parameters(self):
        return [("W", self.W.T)]


NETS = {
    "MLP": lambda: mn.MLP([3, 4, 2], seed=0),
    "MLP float64": lambda: mn.MLP([3, 2], activation="tanh", dtype="float64", seed=0),
    "MLP of own init": lambda: mn.MLP([3, 2], init=lambda rng, i, o: np.ones((i, o)), seed=0),
    "Sequential": stack,
    "Sequential float64": lambda: stack("float64"),
    "Linear of own init": lambda: mn.Sequential([mn.Linear(2, 2, init=lambda rng, i, o: rng.random((i, o)))], seed=0),
    "a layer": lambda: mn.Linear(5, 1, init="large", seed=0),
    "no parameters": lambda: mn.Sequential([mn.ReLU(), mn.Softplus(), mn.Dropout(0.5)]),
    "MLP within": lambda: mn.Sequential([mn.MLP([2, 3, 2]), mn.Sigmoid(), mn.MLP([2, 2], dtype="f")], seed=0),
}


def layer_repr(net):
    return [repr(net), *(part for layer in getattr(net, "layers", []) for part in layer_repr(layer))]


# ---- what comes back ----


@by_suffix
@pytest.mark.parametrize("name", NETS)
def test_a_loaded_net_is_the_saved_one(path, name, rng):
    net = NETS[name]()
    mn.save(net, path)
    twin = mn.load(path)
    assert type(twin) is type(net)
    assert layer_repr(twin) == layer_repr(net)
    assert twin.params.dtype == net.params.dtype
    assert twin.params.tobytes() == net.params.tobytes()
    x = rng.standard_normal((4, 5 if name == "a layer" else 3 if "MLP" in name and name != "MLP within" else 2))
    np.testing.assert_array_equal(twin.forward(x), net.forward(x))
    if name == "a layer":
        assert twin.init == "large"


@by_suffix
def test_a_loaded_net_trains_copies_and_pickles(path):
    net = stack()
    mn.save(net, str(path))
    twin = mn.load(str(path))
    for other in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert other.params.tobytes() == net.params.tobytes()
    for each in (net, twin):
        X = np.linspace(-1, 1, 20).reshape(10, 2)
        mn.fit(each, X, np.arange(10) % 2, loss="cross_entropy", optimizer=mn.SGD(0.1), epochs=2, seed=0)
    assert twin.params.tobytes() == net.params.tobytes()


@by_suffix
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_value_comes_back_to_the_bit(path, dtype):
    net = mn.MLP([3, 2], dtype=dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    net.params[...] = [np.nan, np.inf, -np.inf, -0.0, tiny, np.finfo(dtype).max, 1 / 3, 0]
    mn.save(net, path)
    assert mn.load(path).params.tobytes() == net.params.tobytes()


@by_suffix
def test_layers_of_ones_own_are_loaded_where_they_are_named(path):
    net = mn.Sequential([mn.Linear(2, 3), Scale(3, offset=np.float32(0.5))], seed=0)
    net.layers[1].s[...] = [1, 2, 3]
    mn.save(net, path)
    with pytest.raises(ValueError, match=r"^load: layer 1 must be of a known type, got 'Scale' \(layers=\[...\] takes"):
        mn.load(path)
    twin = mn.load(path, layers=[Scale])
    assert twin.layers[1].offset == 0.5
    assert twin.params.tobytes() == net.params.tobytes()


@by_suffix
def test_parameters_in_columns_are_written_in_rows(path):
    net = Columns()
    net.params[...] = range(6)
    mn.save(net, path)
    assert mn.load(path, layers=[Columns]).params.tolist() == list(range(6))


@by_suffix
def test_the_same_net_makes_the_same_bytes(path):
    mn.save(stack(), path)
    first = path.read_bytes()
    mn.save(stack(), path)
    assert path.read_bytes() == first


def test_numpy_reads_the_file(tmp_path):
    net = stack()
    mn.save(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        text = json.loads(bytes(file["minnet.json"]))
        assert (text["format"], text["version"], text["dtype"]) == ("minnet", 1, "float32")
        assert set(file) - {"minnet.json"} == {name for name, _ in net.named_parameters()}
        np.testing.assert_array_equal(file["2.1.W"], net.layers[2].layers[1].W)


def test_the_safetensors_library_reads_the_file(tmp_path):
    library = pytest.importorskip("safetensors")
    net = stack()
    mn.save(net, tmp_path / "net.safetensors")
    with library.safe_open(tmp_path / "net.safetensors", "np") as file:
        assert set(file.keys()) == {name for name, _ in net.named_parameters()}
        assert json.loads(file.metadata()["minnet"])["net"]["type"] == "Sequential"
        np.testing.assert_array_equal(file.get_tensor("0.W"), net.layers[0].W)


def test_every_layer_of_the_house_can_be_saved():
    for name in house_layers.__all__:
        kind = getattr(house_layers, name)
        if kind is mn.Layer:
            continue
        arguments = inspect.signature(kind).parameters.values()
        needed = [argument.name for argument in arguments if argument.default is inspect.Parameter.empty]
        assert set(needed) <= set(files.SIZES), f"{name}: files.SIZES must know what promises parameters"
        layer = kind(**dict.fromkeys(needed, 3))
        assert set(files.describe("test", layer)) <= {"type", *inspect.signature(kind).parameters}


# ---- on the disk ----


@by_suffix
@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_a_file_has_the_permissions_of_any_new_file(path):
    before = os.umask(0o027)
    try:
        mn.save(mn.Linear(1, 1), path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@by_suffix
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch, moment):
    mn.save(mn.MLP([3, 2], seed=0), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(f"minnet.files.os.{moment}", fail)
        with pytest.raises(OSError, match="the disk is full"):
            mn.save(mn.MLP([9, 9], seed=1), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(f"minnet.files.os.{name}", lambda *a, name=name, real=real: (calls.append(name), real(*a)))
    mn.save(mn.Linear(1, 1), tmp_path / "a.npz")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its place, the folder


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    mn.save(mn.Linear(1, 1), tmp_path / "a.npz")
    (tmp_path / "b.npz").symlink_to("a.npz")
    mn.save(mn.MLP([3, 2], seed=0), tmp_path / "b.npz")
    assert (tmp_path / "b.npz").is_symlink()
    assert repr(mn.load(tmp_path / "a.npz")) == repr(mn.MLP([3, 2]))


def test_readers_find_a_whole_file_while_it_is_written(tmp_path):
    path, nets, stop, found = tmp_path / "net.npz", [mn.MLP([20, 30], seed=seed) for seed in (0, 1)], [], []
    whole = {net.params.tobytes() for net in nets}
    mn.save(nets[0], path)

    def write():
        while not stop:
            for net in nets:
                mn.save(net, path)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(50):
            found.append(mn.load(path).params.tobytes() in whole)
    finally:
        stop.append(True)
        thread.join()
    assert all(found)


# ---- what is refused ----


@pytest.mark.parametrize("name", ["net", "net.pkl", "net.npz.bak", ".npz", "net.npy"])
def test_another_suffix_is_refused(tmp_path, name):
    for act in (lambda path: mn.save(mn.Linear(1, 1), path), mn.load):
        with pytest.raises(ValueError, match=r"^(save|load): path must end in \.npz or \.safetensors, got "):
            act(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "net", [None, 3, "net", np.ones(3), [mn.Linear(1, 1)], mn.SGD()], ids=lambda net: str(type(net))
)
def test_what_is_no_net_is_refused(tmp_path, net):
    with pytest.raises(TypeError, match=r"^save: net must be a minnet Layer"):
        mn.save(net, tmp_path / "net.npz")
    assert os.listdir(tmp_path) == []


def test_a_layer_that_forgets_its_arguments_is_refused(tmp_path):
    class Forgetful(mn.Layer):
        def __init__(self, p):
            pass

    class Odd(mn.Layer):
        def __init__(self, p):
            self.p = p

    with pytest.raises(ValueError, match=r"^save: Forgetful must keep its argument p as an attribute, got none"):
        mn.save(mn.Sequential([Forgetful(1)]), tmp_path / "net.npz")
    with pytest.raises(TypeError, match=r"^save: Odd.p must be a number, a text, a layer or a list of these, got \{"):
        mn.save(Odd({}), tmp_path / "net.npz")


@by_suffix
def test_what_is_no_file_is_refused(path):
    with pytest.raises(FileNotFoundError):
        mn.load(path)
    path.mkdir()
    with pytest.raises(ValueError, match=r"^load: path must be a file, got"):
        mn.load(path)
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(ValueError, match=r"^load: path must be a file, got"):
            mn.load(path)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    (tmp_path / "net.safetensors").write_bytes(b"1")
    with pytest.raises(ImportError, match=r"^load: needs safetensors, .*pip install 'minnet\[safetensors\]'"):
        mn.load(tmp_path / "net.safetensors")
    with pytest.raises(ImportError, match=r"^save: needs safetensors, "):
        mn.save(mn.Linear(1, 1), tmp_path / "other.safetensors")
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_only_classes_of_layers_are_taken(tmp_path):
    mn.save(mn.Linear(1, 1), tmp_path / "net.npz")
    for wrong in (Scale(3), dict, 3):
        with pytest.raises(TypeError, match=r"^load: layers must be classes of layers, got "):
            mn.load(tmp_path / "net.npz", layers=[wrong])


# ---- damaged files ----


def refused_or_equal(path, data, expected):
    """Whether a file of these bytes is refused by a ValueError; if not, its net is the expected one."""
    path.write_bytes(data)
    try:
        net = mn.load(path)
    except ValueError as error:
        if not str(error).startswith("load: "):
            raise
        return True
    assert layer_repr(net) == layer_repr(expected)
    assert net.params.tobytes() == expected.params.tobytes()
    return False


@by_suffix
def test_a_file_cut_short_anywhere_is_refused(path):
    net = mn.MLP([2, 2], seed=0)
    mn.save(net, path)
    data = path.read_bytes()
    assert all(refused_or_equal(path, data[:length], net) for length in range(len(data)))
    assert not refused_or_equal(path, data, net)


@by_suffix
def test_a_flipped_bit_is_found_or_does_no_harm(path, rng):
    net = mn.MLP([2, 2], seed=0)
    mn.save(net, path)
    data = path.read_bytes()
    refused = 0
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        refused += refused_or_equal(path, bytes(damaged), net)
    assert refused > len(data) / 2


@by_suffix
def test_bytes_that_are_replaced_removed_or_added_are_found_or_do_no_harm(path, rng):
    net = stack()
    mn.save(net, path)
    data = path.read_bytes()
    for _ in range(400):
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        middle = rng.bytes(int(rng.integers(0, 40)))
        refused_or_equal(path, data[:start] + middle + data[start + length :], net)


@by_suffix
@pytest.mark.parametrize("data", [b"", b"\0", b"PK", b"\x80\x04N.", b"\xff" * 1000, b"\0" * 1000, b"{}" * 500])
def test_bytes_of_another_kind_are_refused(path, data):
    assert refused_or_equal(path, data, None)


# ---- files that are made to harm ----


def document(**changes):
    """The text of a net of 3 inputs and 2 outputs, with some things changed."""
    net = {"type": "Linear", "in_features": 3, "out_features": 2}
    return {"format": "minnet", "version": 1, "dtype": "float32", "net": net} | changes


def arrays(**changes):
    return {"W": np.ones((3, 2), "f"), "b": np.ones(2, "f")} | changes


def forge(path, document, arrays, text=None):
    """Write a file with the right checksum, whatever it says."""
    if text is None:
        text = json.dumps(document | {"checksum": files._checksum(document, arrays)})
    with open(path, "wb") as file:
        (files._write_npz if path.suffix == ".npz" else files._write_safetensors)("test", file, arrays, text)


def nested(levels):
    node = {"type": "Sigmoid"}
    for _ in range(levels):
        node = {"type": "Sequential", "layers": [node]}
    return node


def within(levels):
    node = {"type": "Sigmoid"}
    for _ in range(levels):
        node = {"type": "Sequential", "layers": node}
    return node


def linear(i, o):
    return {"type": "Linear", "in_features": i, "out_features": o}


FORGED = {
    "no net": (document(net=None), arrays(), "net must have a type, got None"),
    "net a list": (document(net=[linear(3, 2)]), arrays(), "net must have a type, got"),
    "type a number": (document(net={"type": 3}), arrays(), "net must have a type, got"),
    "unknown type": (document(net={"type": "os.system"}), arrays(), "net must be of a known type, got 'os.system'"),
    "base type": (document(net={"type": "Layer"}), arrays(), "net must be of a known type, got 'Layer'"),
    "of 10^12 units": (
        document(net=linear(3, 10**12)),
        arrays(),
        "net must have as many parameters as .* got at least 3",
    ),
    "of 10^18 units": (document(net=linear(10**9, 10**9)), arrays(), "net must have as many parameters"),
    "10^9 units of none": (
        document(net=linear(1, 10**9)),
        {},
        "net must have as many parameters .* it, 0, got at least 1",
    ),
    "a little more": (
        document(net=linear(3, 3)),
        arrays(),
        "net must have as many parameters .* it, 8, got at least 9",
    ),
    "negative units": (document(net=linear(-3, -2)), arrays(), "net must have in_features of whole numbers above 0"),
    "no units": (document(net=linear(0, 2)), arrays(), "net must have in_features of whole numbers above 0"),
    "half a unit": (document(net=linear(3.0, 2)), arrays(), "net must have in_features of whole numbers"),
    "true units": (document(net=linear(True, 2)), arrays(), "net must have in_features of whole numbers"),
    "units of text": (document(net=linear("3", 2)), arrays(), "net must have in_features of whole numbers"),
    "units a list": (document(net=linear([3, 2], 2)), arrays(), "net must "),
    "units a layer": (document(net=linear(linear(1, 1), 2)), arrays(), "net must have in_features of whole"),
    "a million sizes": (
        document(net={"type": "MLP", "sizes": [1] * 10**6, "activation": "relu"}),
        arrays(),
        "net must",
    ),
    "huge sizes": (document(net={"type": "MLP", "sizes": [3, 10**9, 2], "activation": "relu"}), arrays(), "net must"),
    "very many layers": (
        document(net={"type": "Sequential", "layers": [{"type": "Sigmoid"}] * 30_000}),
        {},
        "a net has at most 10000 layers",
    ),
    "no layers": (document(net={"type": "Sequential", "layers": []}), {}, "net must be a Sequential, got"),
    "layers a text": (document(net={"type": "Sequential", "layers": "abc"}), {}, "net must be a Sequential, got"),
    "a loop of lists": (document(net={"type": "Sequential", "layers": [[[[]]]]}), {}, "layer 0 must have a type, got"),
    "deep": (document(net=nested(40)), {}, "a net has at most 10000 layers, 32 in each other"),
    "deep without lists": (document(net=within(300)), {}, "a net has at most 10000 layers, 32 in each other"),
    "unknown argument": (
        document(net=linear(3, 2) | {"hook": "x"}),
        arrays(),
        "net must have arguments of Linear, got",
    ),
    "seed": (document(net=linear(3, 2) | {"seed": 1}), arrays(), "net must have arguments of Linear, got"),
    "dtype of a layer": (document(net=linear(3, 2) | {"dtype": "f8"}), arrays(), "net must have arguments of Linear"),
    "argument missing": (document(net={"type": "Linear", "in_features": 3}), arrays(), "net must be a Linear, got"),
    "unknown init": (
        document(net=linear(3, 2) | {"init": "eval"}),
        arrays(),
        "net must be a Linear, .*init must be one of",
    ),
    "dropout of nan": (document(net={"type": "Dropout", "p": float("nan")}), {}, "net must be a Dropout, .* p must be"),
    "dropout of text": (document(net={"type": "Dropout", "p": "0.5"}), {}, "net must be a Dropout, .* p must be"),
    "too few arrays": (
        document(),
        {"W": np.ones((3, 2), "f"), "c": np.ones(2, "f")},
        "the parameters must be the 2 of the net, got 2, 'b' in",
    ),
    "too many arrays": (
        document(),
        arrays(c=np.ones(1, "f")),
        "the parameters must be the 2 of the net, got 3, 'c' in the file",
    ),
    "another shape": (document(), arrays(W=np.ones((2, 3), "f")), r"W must be \(3, 2\) of float32, got \(2, 3\)"),
    "another dtype": (document(), arrays(W=np.ones((3, 2))), r"W must be \(3, 2\) of float32, got .* of float64"),
    "whole numbers": (document(), arrays(W=np.ones((3, 2), "i4")), r"W must be \(3, 2\) of float32, got .* of int32"),
    "dtype of the net": (document(dtype="float64"), arrays(), r"W must be \(3, 2\) of float64, got"),
    "dtype unknown": (document(dtype="object"), arrays(), "dtype must be 'float32' or 'float64', got 'object'"),
    "dtype a list": (document(dtype=["float32"]), arrays(), "dtype must be 'float32' or 'float64', got"),
    "format": (document(format="other"), arrays(), r".*must be of format 'minnet' 1, got 'other' 1"),
    "version": (document(version=2), arrays(), r".*must be of format 'minnet' 1, got 'minnet' 2"),
    "state of nothing": (document(state={"array/": "none"}), arrays(), r".* must be a file of minnet, got KeyError"),
    "state of a list": (document(state={"array/": ["W"]}), arrays(), r".* must be a file of minnet, got TypeError"),
    "state takes a parameter": (
        document(state={"array/": "b"}),
        arrays(),
        "the parameters must be the 2 of the net, got 1, 'b' in the file or",
    ),
}


@by_suffix
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_file_is_refused(path, name):
    text, held, message = FORGED[name]
    forge(path, text, held)
    size, started = path.stat().st_size, time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"(?s)^load: {message}"):
            mn.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3e6 + 40 * size  # objects of a JSON text are some thirty times as large as the text
    assert time.process_time() - started < 30  # of this process alone, however busy the machine


class Counted(mn.Layer):
    """Counts how many of it were made."""

    made = 0

    def __init__(self):
        Counted.made += 1


def test_a_million_layers_are_refused_before_one_is_made(tmp_path):
    forge(tmp_path / "net.npz", document(net={"type": "Sequential", "layers": [{"type": "Counted"}] * 10**6}), {})
    with pytest.raises(ValueError, match=r"^load: a net has at most 10000 layers"):
        mn.load(tmp_path / "net.npz", layers=[Counted])
    assert Counted.made == 0


@by_suffix
def test_the_forgeries_would_load_if_they_were_right(path):
    forge(path, document(), arrays())
    assert mn.load(path).params.tolist() == [1] * 8


TEXTS = {
    "not JSON": "{",
    "not an object": "[]",
    "a number": "1" * 5000,
    "deep": "[" * 100_000,
    "no checksum": json.dumps(document()),
    "wrong checksum": json.dumps(document() | {"checksum": "00000000"}),
    "checksum of another kind": json.dumps(document() | {"checksum": [1]}),
    "name twice": json.dumps(document())[:-1] + ', "net": {"type": "Sigmoid"}}',
}


@by_suffix
@pytest.mark.parametrize("name", TEXTS)
def test_a_forged_text_is_refused(path, name):
    forge(path, None, arrays(), TEXTS[name])
    with pytest.raises(
        ValueError, match=r"^load: .*net\.\w+ must (be a file of minnet|have the checksum of its contents)"
    ):
        mn.load(path)


class Trap:
    """Would leave a folder if it were unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def entry_of(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def npy(descr, shape, order="False", data=b"", version=b"\x01\x00"):
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + data


BAD_ENTRIES = {
    "huge": npy("'<f4'", "(1000000000000, 2)", data=b"\0" * 24),
    "huge and negative": npy("'<f4'", "(-3, -2)", data=b"\0" * 24),
    "beyond 2^64": npy("'<f4'", f"({2**64}, {2**64})", data=b"\0" * 24),
    "wraps around": npy("'<f4'", f"({2**62}, 4)", data=b"\0" * 24),
    "short": npy("'<f4'", "(3, 2)", data=b"\0" * 20),
    "long": npy("'<f4'", "(3, 2)", data=b"\0" * 28),
    "columns": npy("'<f4'", "(3, 2)", "True", b"\0" * 24),
    "objects": npy("'|O'", "(3, 2)", data=b"\0" * 48),
    "complex": npy("'<c8'", "(3, 1)", data=b"\0" * 24),
    "text": npy("'<U1'", "(3, 2)", data=b"\0" * 24),
    "fields": npy("[('a', '<f4')]", "(3, 2)", data=b"\0" * 24),
    "half": npy("'<f2'", "(3, 4)", data=b"\0" * 24),
    "no bytes an entry": npy("'|V0'", "(1000000000000,)"),
    "code for a header": npy("__import__('os').mkdir('trap')", "(3, 2)", data=b"\0" * 24),
    "version 2": npy("'<f4'", "(3, 2)", data=b"\0" * 24, version=b"\x02\x00"),
    "no header": b"\0" * 24,
    "nothing": b"",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_an_entry_that_lies_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forge(tmp_path / "net.npz", document(), arrays())
    with zipfile.ZipFile("net.npz") as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    entries["W.npy"] = BAD_ENTRIES[name]
    with zipfile.ZipFile("net.npz", "w") as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^load: net.npz must be a file of minnet, got \w+: "):
            mn.load("net.npz")
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
    assert os.listdir() == ["net.npz"]


def test_nothing_is_unpickled(tmp_path):
    trap = tmp_path / "trap"
    array = np.empty(1, object)
    array[0] = Trap(str(trap))
    forge(tmp_path / "net.npz", document(), arrays())
    with zipfile.ZipFile(tmp_path / "net.npz", "a") as archive:
        archive.writestr("c.npy", entry_of(array, allow_pickle=True))
    with pytest.raises(ValueError, match=r"^load: .* must be a file of minnet"):
        mn.load(tmp_path / "net.npz")
    assert not trap.exists()
    np.load(tmp_path / "net.npz", allow_pickle=True)["c"]
    assert trap.exists()  # the trap works


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "net.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W.npy", npy("'<f4'", "(25000000,)") + b"\0" * 10**8)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="an entry is compressed"):
            mn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path, count = tmp_path / "net.npz", 50
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.npy", b"\0" * 1000)
        first = archive.infolist()[0]
        for number in range(1, count):
            info = copy.copy(first)
            info.filename = f"{number}.npy"
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    with pytest.raises(ValueError, match=r"the entries are said to be larger than the file|Overlapped"):
        mn.load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path):
    forge(tmp_path / "net.npz", document(), arrays())
    with zipfile.ZipFile(tmp_path / "net.npz", "a") as archive:
        archive.writestr("W.npy", entry_of(np.zeros((3, 2), "f")))
    with pytest.raises(ValueError, match="two entries have one name"):
        mn.load(tmp_path / "net.npz")


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(3, 2), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


META = {"__metadata__": {"minnet": "{}"}}
BAD_HEADERS = {
    "length of 2^63": struct.pack("<Q", 2**63) + b"{}",
    "length beyond the file": struct.pack("<Q", 1000) + b"{}",
    "huge shape": safetensors_bytes(META | {"W": tensor(shape=(10**12, 2))}, b"\0" * 24),
    "wraps around": safetensors_bytes(META | {"W": tensor(shape=(2**62, 4), offsets=(0, 0))}),
    "overlap": safetensors_bytes(META | {"W": tensor(), "b": tensor()}, b"\0" * 24),
    "hole": safetensors_bytes(META | {"W": tensor(offsets=(8, 32))}, b"\0" * 32),
    "backwards": safetensors_bytes(META | {"W": tensor(offsets=(24, 0))}, b"\0" * 24),
    "beyond the end": safetensors_bytes(META | {"W": tensor()}, b"\0" * 20),
    "left over": safetensors_bytes(META | {"W": tensor()}, b"\0" * 28),
    "half": safetensors_bytes(META | {"W": tensor("BF16", (3, 4))}, b"\0" * 24),
    "unknown dtype": safetensors_bytes(META | {"W": tensor("OBJECT")}, b"\0" * 24),
    "no metadata": safetensors_bytes({"W": tensor()}, b"\0" * 24),
    "other metadata": safetensors_bytes({"__metadata__": {"format": "pt"}, "W": tensor()}, b"\0" * 24),
    "name twice": safetensors_bytes(
        b'{"__metadata__": {"minnet": "{}"}, "W": %b, "W": %b}' % ((json.dumps(tensor()).encode(),) * 2), b"\0" * 24
    ),
    "not JSON": safetensors_bytes(b"{", b""),
    "a list": safetensors_bytes([], b""),
    "deep": safetensors_bytes(b"[" * 100_000, b""),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_header_that_lies_is_refused(tmp_path, name):
    pytest.importorskip("safetensors")
    path = tmp_path / "net.safetensors"
    path.write_bytes(BAD_HEADERS[name])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^load: .*net.safetensors must be (a file of minnet, got|of format)"):
            mn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
