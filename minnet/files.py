"""Saving and loading nets. Nothing in a file is executed, and nothing larger than the file justifies is allocated.

A file holds the parameters by their names and one JSON text: format and version, the architecture (type and arguments
of each layer), the dtype, a checksum of all, and, in a checkpoint, the state of the run. The suffix decides how:
``.npz``, a zip file of arrays as numpy writes it, uncompressed, the text as bytes in "minnet.json"; ``.safetensors``,
the text in its metadata (extra `safetensors`). A file is written beside its place, and moved there once it is on the
disk.
"""

import contextlib
import io
import itertools
import json
import math
import os
import stat
import time
import zlib
from _thread import get_ident

import numpy as np

from minnet import layers as house_layers
from minnet._checks import bad_type, bad_value, optional_module, words
from minnet._onnx import onnx_model
from minnet.heads import LinearCrossEntropy
from minnet.layers import Layer
from minnet.model import MLP, Sequential

__all__ = ["export_onnx", "load", "save"]

VERSION = 1
TEXT = "minnet.json"
MAX_LAYERS, MAX_DEPTH = 10_000, 32
DTYPES = {"<f4", "<f8", "<i4", "<i8", "<u4", "<u8", "|u1", "|b1"}
NOT_SAVED = {"dtype", "seed"}  # arguments of layers: one dtype is kept for all, a seed is used up
SIZES = ["sizes", "in_features", "out_features", "features"]  # arguments that promise parameters, outputs last


def save(net, path):
    """Write a net to a file that `load` reads.

    Parameters
    ----------
    net : Sequential, MLP or Layer
        Layers keep their arguments as attributes of the same names, as all of minnet's do.
    path : str or path-like
        Ends in ".npz" or ".safetensors". The file appears whole or not at all, with ordinary permissions.

    Raises
    ------
    TypeError, ValueError
        If the net, or the suffix, is none that can be saved.
    """
    write("save", path, net)


def load(path, *, layers=()):
    """Read a net from a file that `save` or `Checkpoint` wrote.

    Parameters
    ----------
    path : str or path-like
        Ends in ".npz" or ".safetensors".
    layers : list of classes
        Layers of one's own that the net may hold; no other code runs than theirs and minnet's.

    Returns
    -------
    Sequential, MLP or Layer

    Raises
    ------
    ValueError
        If the file is damaged or is not such a file: what is wrong with it.
    OSError
        If there is no file, or it cannot be read.
    """
    known = _known_layers("load", layers)
    document, arrays, _ = read("load", path)
    net = _Builder(known, document["dtype"], arrays).build(document.get("net"), "")
    fill("load", net, arrays)
    return net


def export_onnx(net, path):
    """Write a net as an ONNX model, which many other programs run (extra `onnx`); minnet does not read it back.

    The model maps "x" (N, I) to "y" (N, O), the raw outputs of ``net.forward``, in the net's dtype. Dropout, which does
    nothing in use, is left out.

    Parameters
    ----------
    net : Sequential, MLP or Layer
        Of minnet's own layers.
    path : str or path-like
        Ends in ".onnx". The file appears whole or not at all, with ordinary permissions.

    Raises
    ------
    TypeError, ValueError
        If the net holds another layer, or no Linear; if the suffix is another.

    References
    ----------
    https://onnx.ai/onnx/operators
    """
    if os.path.splitext(os.fspath(path))[1].lower() != ".onnx":
        raise bad_value("export_onnx", "path must end in .onnx", os.fspath(path))
    data = onnx_model("export_onnx", net).SerializeToString()
    with replacing(path) as file:
        file.write(data)


# ---- a net as a description, and back ----


def describe(owner, layer):
    """The type and the arguments of a layer, as JSON takes them."""
    if not isinstance(layer, Layer):
        raise bad_type(owner, "net must be a minnet Layer, such as MLP or Sequential", layer)
    description = {"type": type(layer).__name__}
    for name in (name for name in _arguments(type(layer)) if name not in NOT_SAVED):
        if not hasattr(layer, name):
            raise bad_value(
                owner, f"{type(layer).__name__} must keep its argument {name} as an attribute", words("none")
            )
        value = getattr(layer, name)
        if name == "init" and not isinstance(value, str):
            continue  # a function of one's own: only where starting values are drawn anew would it be missed
        description[name] = _described(owner, f"{type(layer).__name__}.{name}", value)
    return description


def _described(owner, name, value):
    if isinstance(value, Layer):
        return describe(owner, value)
    if isinstance(value, (list, tuple)):
        return [_described(owner, name, item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise bad_type(owner, f"{name} must be a number, a text, a layer or a list of these", value)
    return value


def _arguments(kind):
    """The names of the arguments of a class of layers."""
    import inspect  # a cost that importing minnet should not have

    # The layers of an MLP have its init.
    return [name for name in inspect.signature(kind).parameters if kind is not MLP or name != "init"]


def _known_layers(owner, own):
    """Classes that a file may name."""
    known = [getattr(house_layers, name) for name in house_layers.__all__]
    for kind in own:
        if not isinstance(kind, type) or not issubclass(kind, Layer):
            raise bad_type(owner, "layers must be classes of layers", kind)
    known += [LinearCrossEntropy, MLP, Sequential]
    return {kind.__name__: kind for kind in [*known, *own] if kind is not Layer}


class _Builder:
    """Makes layers of their descriptions, as many and as large as the arrays of the file justify."""

    def __init__(self, known, dtype, arrays):
        self.known, self.dtype, self.layers = known, dtype, 0
        self.held = {}  # parameters in the file by the beginning of their names, "" for all
        for name, array in arrays.items():
            parts = name.split(".")[: MAX_DEPTH + 1]
            for depth in range(len(parts)):
                prefix = ".".join(parts[:depth])
                self.held[prefix] = self.held.get(prefix, 0) + array.size

    def build(self, node, place, depth=0):
        """The layer that `node` describes; the names of its parameters begin with `place`."""
        where = f"layer {place}" if place else "net"
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise bad_value("load", f"{where} must have a type", node)
        kind = self.known.get(node["type"])
        if kind is None:
            hint = "layers=[...] takes layers of your own"
            raise bad_value("load", f"{where} must be of a known type", node["type"], hint)
        given, names = {name: value for name, value in node.items() if name != "type"}, _arguments(kind)
        if not set(given) <= set(names) - NOT_SAVED:
            raise bad_value("load", f"{where} must have arguments of {kind.__name__}", sorted(given))
        self._refuse_promises(where, given, self.held.get(place, 0))
        given = {name: self._argument(value, place, depth) for name, value in given.items()}
        settled = {name: value for name, value in (("dtype", self.dtype), ("seed", 0)) if name in names}
        if kind is Sequential:
            del settled["seed"]  # it would draw the values of all layers once more
        try:
            return kind(**given, **settled)
        except Exception as error:
            raise bad_value("load", f"{where} must be a {kind.__name__}", given, f"{error!s:.200}") from error

    def _argument(self, value, place, depth):
        """An argument, the layers in it built."""
        if isinstance(value, dict):
            self._count(1, depth)
            return self.build(value, place, depth + 1)
        if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            beginning = f"{place}." if place else ""
            self._count(len(value), depth)
            return [self.build(item, f"{beginning}{i}", depth + 1) for i, item in enumerate(value)]
        return value

    def _count(self, layers, depth):
        """Count layers, those of a list before the first of them is made."""
        self.layers += layers
        if self.layers > MAX_LAYERS or depth >= MAX_DEPTH:
            raise bad_value("load", f"a net has at most {MAX_LAYERS} layers, {MAX_DEPTH} in each other", words("more"))

    def _refuse_promises(self, where, given, held):
        """Sizes that promise more parameters than the file holds for the layer: nothing of that size is allocated."""
        promised = 1
        for name in SIZES:
            value = given.get(name, 1)
            chain = value if isinstance(value, list) else [1, value]
            if not all(type(size) is int and size > 0 for size in chain) or len(chain) > MAX_LAYERS:
                rule = f"{where} must have {name} of whole numbers above 0, at most {MAX_LAYERS} of them"
                raise bad_value("load", rule, value)
            promised *= sum(a * b for a, b in itertools.pairwise(chain))
        if promised > max(held, 1):
            rule = f"{where} must have as many parameters as the file holds for it, {held}"
            raise bad_value("load", rule, words(f"at least {promised}"))


def fill(owner, net, arrays):
    """Put arrays in the place of a net's parameters, all of them or none."""
    check_fit(owner, net, arrays)
    for name, parameter in net.named_parameters():
        parameter[...] = arrays[name]


def check_fit(owner, net, arrays):
    """Whether arrays have the names, shapes and dtype of a net's parameters."""
    named = dict(net.named_parameters())
    if set(named) != set(arrays):
        differing = sorted(set(named) ^ set(arrays))[0]
        got = words(f"{len(arrays)}, {differing!r:.100} in the file or the net alone")
        raise bad_value(owner, f"the parameters must be the {len(named)} of the net", got)
    for name, parameter in named.items():
        if arrays[name].shape != parameter.shape or arrays[name].dtype != parameter.dtype:
            got = words(f"{arrays[name].shape} of {arrays[name].dtype}")
            raise bad_value(owner, f"{name} must be {parameter.shape} of {parameter.dtype}", got)


# ---- documents: the JSON text, arrays, their checksum ----


def write(owner, path, net, state=None):
    """Write a net and, in a checkpoint, a state: numbers, text, arrays, lists and dicts."""
    check_suffix(owner, path)
    description = describe(owner, net)
    document = {"dtype": str(net_dtype(net)), "net": description}
    arrays = dict(net.named_parameters())
    if state is not None:
        document["state"] = _packed(owner, state, arrays)
    write_document(owner, path, document, arrays)


def read(owner, path):
    """The document of a file, the arrays of the net by name, and the state (None where there is none)."""
    document, arrays = read_document(owner, path)
    used = set()
    try:
        state = _unpacked(document.get("state"), arrays, used)
    except Exception as error:  # it may name what is not there, in whatever way
        raise _not_of_minnet(owner, path, error) from error
    if document.get("dtype") not in ("float32", "float64"):
        raise bad_value(owner, "dtype must be 'float32' or 'float64'", document.get("dtype"))
    return document, {name: array for name, array in arrays.items() if name not in used}, state


def write_document(owner, path, document, arrays, form="minnet"):
    """Write a dict that JSON takes, and arrays by their names, for `read_document`; `form` says what they are."""
    kind, arrays = check_suffix(owner, path), {name: _portable(array) for name, array in arrays.items()}
    document = {"format": form, "version": VERSION} | document
    text = json.dumps(document | {"checksum": _checksum(document, arrays)})
    with replacing(path) as file:
        (_write_npz if kind == ".npz" else _write_safetensors)(owner, file, arrays, text)


def read_document(owner, path, form="minnet"):
    """The dict and the arrays of a file, if it is whole and of this form: a ValueError says what is wrong with it."""
    kind = check_suffix(owner, path)
    data = _contents(owner, path)
    try:
        text, arrays = (_read_npz if kind == ".npz" else _read_safetensors)(owner, data)
        document = _parsed(text)
        checksum = document.pop("checksum", None)
        right = checksum == _checksum(document, arrays)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # the parsers of damaged bytes raise whatever they like
        raise _not_of_minnet(owner, path, error) from error
    if document.get("format") != form or document.get("version") != VERSION:
        got = words(f"{document.get('format')!r:.50} {document.get('version')!r:.50}")
        raise bad_value(owner, f"{os.fspath(path)} must be of format {form!r} {VERSION}", got)
    if not right:
        raise bad_value(owner, f"{os.fspath(path)} must have the checksum of its contents", words("another"), "damaged")
    return document, {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}


def _not_of_minnet(owner, path, error):
    got = words(f"{type(error).__name__}: {error!s:.200}")
    return bad_value(owner, f"{os.fspath(path)} must be a file of minnet", got)


def net_dtype(net):
    """The dtype of a net's parameters; float32 where there are none."""
    return net.params.dtype if net.size else np.dtype(np.float32)


def _portable(array):
    """C-contiguous and little-endian."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def _checksum(document, arrays):
    """Of the text without it, and of names, dtypes, shapes and bytes of the arrays."""
    crc = zlib.crc32(json.dumps(document).encode())
    for name in sorted(arrays):
        crc = zlib.crc32(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


def _parsed(text):
    """A JSON object whose objects name nothing twice."""

    def unique(pairs):
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name stands twice in an object of the JSON text")
        return dict(pairs)

    document = json.loads(text, object_pairs_hook=unique)
    if not isinstance(document, dict):
        raise ValueError("the JSON text is not an object")
    return document


def _packed(owner, tree, arrays):
    """A state as JSON takes it, its arrays put among `arrays`, under names that no parameter has."""
    if isinstance(tree, dict) and all(isinstance(key, str) and key != "array/" for key in tree):
        return {key: _packed(owner, value, arrays) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_packed(owner, value, arrays) for value in tree]
    if isinstance(tree, np.ndarray) and tree.ndim and tree.dtype.newbyteorder("<").str in DTYPES:
        name = f"state/{len(arrays)}"
        arrays[name] = _portable(tree)
        return {"array/": name}
    if isinstance(tree, np.generic) or (isinstance(tree, np.ndarray) and not tree.ndim):
        tree = tree.item()
    if tree is not None and not isinstance(tree, (bool, int, float, str)):
        raise bad_type(owner, "what is kept must be numbers, text, arrays, lists and dicts with names as keys", tree)
    return tree


def _unpacked(tree, arrays, used):
    """The state that was packed; the names of its arrays go to `used`."""
    if isinstance(tree, dict) and set(tree) == {"array/"}:
        used.add(tree["array/"])
        array = arrays[tree["array/"]]
        return array.astype(array.dtype.newbyteorder("="))
    if isinstance(tree, dict):
        return {key: _unpacked(value, arrays, used) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_unpacked(value, arrays, used) for value in tree]
    return tree


# ---- containers: bytes that hold the text and the arrays ----


def _write_npz(owner, file, arrays, text):
    import zipfile  # a cost that importing minnet should not have

    entries = arrays | {TEXT: np.frombuffer(text.encode(), np.uint8)}
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _read_npz(owner, data):
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size for e in entries):
            raise ValueError("an entry is compressed")
        if sum(e.file_size for e in entries) > len(data):
            raise ValueError("the entries are said to be larger than the file")
        if len({e.filename for e in entries}) < len(entries):
            raise ValueError("two entries have one name")
        arrays = {e.filename.removesuffix(".npy"): _read_npy(archive.read(e)) for e in entries}
    return arrays.pop(TEXT).tobytes().decode(), arrays


def _read_npy(data):
    """The array of an entry, a view of its bytes, if the header says what the bytes hold."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array has a header of version {version}")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.str not in DTYPES or in_columns:
        raise ValueError(f"an array is of {dtype}, or not in C order")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"an array is said to have shape {shape} and has {len(data) - file.tell()} bytes")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)


SAFETENSORS_DTYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U32": "<u4", "U64": "<u8", "U8": "|u1"}
SAFETENSORS_DTYPES["BOOL"] = "|b1"


def _write_safetensors(owner, file, arrays, text):
    library = optional_module(owner, "safetensors.numpy", "safetensors")
    file.write(library.save(arrays, metadata={"minnet": text}))


def _read_safetensors(owner, data):
    library = optional_module(owner, "safetensors", "safetensors")
    arrays = {}
    for name, entry in library.deserialize(data):  # checks that the arrays fill the file without holes or overlaps
        dtype = SAFETENSORS_DTYPES[entry["dtype"]]
        arrays[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    length = int.from_bytes(data[:8], "little")
    return _parsed(data[8 : 8 + length].decode())["__metadata__"]["minnet"], arrays


# ---- the disk ----


def check_suffix(owner, path):
    """The suffix of a path, if it is one of those that files can have."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in (".npz", ".safetensors"):
        raise bad_value(owner, "path must end in .npz or .safetensors", os.fspath(path))
    return suffix


def _contents(owner, path):
    """The bytes of a regular file; a pipe or a device could be endless."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise bad_value(owner, "path must be a file", os.fspath(path))
    with open(path, "rb") as file:
        return file.read()


def remove_leftovers(path):
    """Remove what writers of `path` that were killed have left beside it."""
    folder, name = os.path.split(os.path.realpath(path))
    for other in os.listdir(folder):
        if other.startswith(f"{name}.") and other.endswith(".tmp") and other.count("-") == name.count("-") + 2:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, other))


@contextlib.contextmanager
def replacing(path):
    """A file to be written that takes the place of `path` when all of it is on the disk, and leaves it alone otherwise.

    It stands in the same folder, so that the move is one step, and is made with the permissions of any new file.
    """
    path = os.path.realpath(path)  # a link stays, what it leads to is replaced
    temporary = f"{path}.{os.getpid()}-{get_ident()}-{time.monotonic_ns()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the name is on the disk when the folder is
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
