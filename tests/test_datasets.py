"""Datasets: known facts of the shipped digits, MNIST from real and hand-made files, broken and hostile IDX files, and
downloads from a server on this machine."""

import ast
import gzip
import hashlib
import http.server
import os
import re
import socket
import stat
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minnet import datasets

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
MEGABYTE = 1 << 20


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def idx(array):
    array = np.asarray(array)
    big = array.astype(array.dtype.newbyteorder(">"))
    return header(CODES[array.dtype.str[1:]], *array.shape) + big.tobytes()


def images(count):
    return (np.arange(count * 784) % 256).astype(np.uint8).reshape(count, 28, 28)


def labels(count):
    return (np.arange(count) % 10).astype(np.uint8)


def write_pair(folder, prefix, x, y, pack=bytes, end=""):
    folder.mkdir(exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte{end}").write_bytes(pack(idx(x)))
    (folder / f"{prefix}-labels-idx1-ubyte{end}").write_bytes(pack(idx(y)))


def peak(function, *args):
    """The most memory that Python held while `function`, which must raise ValueError, ran; and its message."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="read_idx") as caught:
            function(*args)
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


# The module


def test_imports_at_the_top_are_few():
    tree = ast.parse(Path(datasets.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert names == {"contextlib", "math", "os", "sys", "numpy"}
    assert froms == {"minnet._checks"}


def test_all_names_the_public_functions():
    assert datasets.__all__ == ["digits", "holdout", "mnist", "read_idx"]
    assert all(callable(getattr(datasets, name)) for name in datasets.__all__)


# Digits


def test_digits_known_facts():
    X, y = datasets.digits()
    assert (X.shape, X.dtype) == ((1797, 64), np.float32)
    assert (y.shape, y.dtype) == ((1797,), np.int64)
    assert (X.min(), X.max()) == (0, 1)
    assert (X * 16).sum(dtype=np.float64) == 561718
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert y[:4].tolist() == [0, 1, 2, 3]


def test_digits_equal_those_of_scikit_learn():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    X, y = datasets.digits()
    theirs = load_digits()
    np.testing.assert_array_equal(X * 16, theirs.data)
    np.testing.assert_array_equal(y, theirs.target)


def test_digits_are_fresh_and_writable():
    X, y = datasets.digits()
    X[:], y[:] = 7, 7
    X, y = datasets.digits()
    assert X.max() == 1
    assert y[0] == 0


def test_digits_give_credit():
    folder = Path(datasets.__file__).parent / "data"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("Optical Recognition of Handwritten Digits", "Alpaydin", "Kaynak", "10.24432/C50P49"):
        assert part in text
    assert "https://creativecommons.org/licenses/by/4.0/" in text
    assert "What was changed" in text
    assert (folder / "digits.npz").stat().st_size < 100_000


# IDX files


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", CODES)
def test_read_idx_every_type(tmp_path, dtype, pack):
    array = np.array([[0, 1, 2], [3, -100 if dtype != "u1" else 200, 100]], dtype)
    if dtype not in ("u1", "i1"):
        array[1, 0] = 258  # its bytes differ, so that a wrong byte order shows
    path = tmp_path / "any.name"
    path.write_bytes(pack(idx(array)))
    got = datasets.read_idx(path)
    assert got.dtype == np.dtype(dtype)
    assert got.dtype.isnative
    assert got.flags.writeable
    np.testing.assert_array_equal(got, array)


def test_read_idx_is_big_endian(tmp_path):
    path = tmp_path / "by-hand"
    path.write_bytes(b"\0\0\x0c\x01" + b"\0\0\0\x02" + b"\0\0\1\2" + b"\xff\xff\xff\xfe")
    assert datasets.read_idx(path).tolist() == [258, -2]


def test_read_idx_longer_than_a_block(tmp_path):
    array = (np.arange(3 * datasets.BLOCK + 5) % 251).astype(np.uint8)
    path = tmp_path / "long.gz"
    path.write_bytes(gzip.compress(idx(array), 1))
    np.testing.assert_array_equal(datasets.read_idx(path), array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1, 1, 1)])
def test_read_idx_unusual_shapes(tmp_path, shape):
    path = tmp_path / "x"
    path.write_bytes(idx(np.zeros(shape, np.int16)))
    assert datasets.read_idx(str(path)).shape == shape


def test_read_idx_expands_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "x").write_bytes(idx(labels(3)))
    assert datasets.read_idx("~/x").tolist() == [0, 1, 2]


BROKEN = {
    "empty": (b"", "must begin with two zero bytes, got an empty file"),
    "text": (b"hello world", "must begin with two zero bytes, got b'he'"),
    "one letter": (b"h", "must begin with two zero bytes, got b'h'"),
    "second byte": (b"\0\1\x08\1", re.escape(r"must begin with two zero bytes, got b'\x00\x01'")),
    "type 0": (header(0, 1) + b"x", "must have a type code of IDX, 8, 9 or 11 to 14, got 0"),
    "type 10": (header(10, 1) + b"x", "must have a type code of IDX, 8, 9 or 11 to 14, got 10"),
    "type 15": (header(15, 1) + b"x", "must have a type code of IDX, 8, 9 or 11 to 14, got 15"),
    "magic cut": (b"\0\0\x08", "must have a whole header, got 3 bytes of it"),
    "sizes missing": (b"\0\0\x08\2", "must have a whole header, got 4 bytes of it"),
    "sizes cut": (header(8, 2, 3)[:-1], "must have a whole header, got 11 bytes of it"),
    "one short": (header(8, 2, 3) + bytes(5), "must hold 6 bytes after its header, got (at most )?5$"),
    "half": (header(8, 2, 3000) + bytes(3000), "must hold 6000 bytes after its header, got "),
    "no body": (header(8, 2, 3), "must hold 6 bytes after its header, got (at most 0|0)$"),
    "one long": (header(8, 2, 3) + bytes(7), "must hold 6 bytes after its header, got 7 or more$"),
    "long after none": (header(8, 0) + b"x", "must hold 0 bytes after its header, got 1 or more$"),
    "half a float": (header(13, 1) + bytes(3), "must hold 4 bytes after its header, got (at most )?3$"),
    "65 dimensions": (header(8, *[1] * 65) + b"x", r"must have a shape that numpy can hold, got \(1, 1, "),
    "huge beside 0": (header(8, 0, *[2**32 - 1] * 3), r"must have a shape that numpy can hold, got \(0, 4294967295,"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", BROKEN)
def test_read_idx_broken(tmp_path, name, pack):
    data, message = BROKEN[name]
    if pack is gzip.compress:
        message = message.replace("at most 0|0", r"at most \d+|0")
    path = tmp_path / "broken-file"
    path.write_bytes(pack(data))
    with pytest.raises(ValueError, match=f"^read_idx: .*broken-file {message}"):
        datasets.read_idx(path)


def test_read_idx_counts_a_short_plain_file_exactly(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(header(8, 2, 3000) + bytes(2000))
    with pytest.raises(ValueError, match=r"must hold 6000 bytes after its header, got at most 2000$"):
        datasets.read_idx(path)


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


PACKED = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)))


@pytest.mark.parametrize(
    "data",
    [
        *(PACKED[:size] for size in (2, 9, 12, len(PACKED) // 2, len(PACKED) - 1)),
        *(flipped(PACKED, place) for place in (2, 10, 2500, len(PACKED) - 5)),
        PACKED + b"more",
    ],
)
def test_read_idx_unsound_gzip(tmp_path, data):
    path = tmp_path / "unsound.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^read_idx: .*unsound\.gz must be a sound gzip file, got [A-Z]"):
        datasets.read_idx(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(2**32 - 1,), (2**32 - 1,) * 3, (2**32 - 1,) * 255])
def test_read_idx_hostile_sizes_allocate_nothing(tmp_path, shape, pack):
    path = tmp_path / "hostile"
    path.write_bytes(pack(header(14, *shape) + bytes(100)))
    memory, message = peak(datasets.read_idx, path)
    assert re.search(r"must hold \d+ bytes after its header, got at most \d+$", message)
    assert memory < 2 * MEGABYTE


def test_read_idx_gzip_bomb_with_hostile_sizes_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(header(8, 2**32 - 1, 2**32 - 1) + bytes(64 * MEGABYTE), 9))
    memory, message = peak(datasets.read_idx, path)
    assert "must hold 18446744065119617025 bytes after its header, got at most " in message
    assert memory < 2 * MEGABYTE


def test_read_idx_gzip_bomb_behind_a_small_header_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(header(8, 4) + bytes(64 * MEGABYTE), 9))
    memory, message = peak(datasets.read_idx, path)
    assert message.endswith("must hold 4 bytes after its header, got 5 or more")
    assert memory < 2 * MEGABYTE


def test_read_idx_believes_the_best_ratio_of_deflate(tmp_path):
    array = np.zeros(16 * MEGABYTE, np.uint8)
    path = tmp_path / "zeros.gz"
    path.write_bytes(gzip.compress(idx(array), 9))
    assert datasets.read_idx(path).size == array.size


def test_read_idx_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        datasets.read_idx(tmp_path / "none")


@pytest.mark.parametrize("path", [0, None, b"bytes", 1.5])
def test_read_idx_path_type(path):
    with pytest.raises(TypeError, match=f"^read_idx: path must be a str or a Path, got {re.escape(repr(path))}"):
        datasets.read_idx(path)


# MNIST


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty place for the cache folder, and no MINNET_DATA."""
    monkeypatch.delenv("MINNET_DATA", raising=False)
    monkeypatch.setattr(datasets, "_cache", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("split", "first", "counts"),
    [
        ("train", [5, 0, 4, 1], [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", [7, 2, 1, 0], [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("t10k", [7, 2, 1, 0], [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("train5k", None, None),
    ],
)
def test_real_mnist(split, first, counts):
    prefix = "t10k" if split == "test" else split
    if not list(Path(os.environ["MINNET_DATA"]).expanduser().glob(f"{prefix}-images-idx3-ubyte*")):
        pytest.skip(f"MINNET_DATA has no {prefix} files")
    X, y = datasets.mnist(split)
    assert X.shape == (sum(counts) if counts else 5000, 784)
    assert (X.dtype, y.dtype) == (np.float32, np.int64)
    assert (X.min(), X.max()) == (0, 1)
    assert X.flags.writeable
    if counts:
        assert y[:4].tolist() == first
        assert np.bincount(y).tolist() == counts
    else:
        assert len(np.bincount(y)) == 10


@pytest.mark.parametrize(("pack", "end"), [(bytes, ""), (gzip.compress, ".gz"), (gzip.compress, ""), (bytes, ".gz")])
@pytest.mark.parametrize(
    ("split", "prefix"), [("train", "train"), ("test", "t10k"), ("t10k", "t10k"), ("mine", "mine")]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_mnist_from_a_folder(tmp_path, cache, split, prefix, pack, end, kind):
    write_pair(tmp_path / "here", prefix, images(12), labels(12), pack, end)
    X, y = datasets.mnist(split, kind(tmp_path / "here"))
    np.testing.assert_array_equal(X, images(12).reshape(12, 784).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(y, labels(12))
    assert (X.dtype, y.dtype, X.max()) == (np.float32, np.int64, 1)


def test_mnist_empty_files(tmp_path, cache):
    write_pair(tmp_path, "none", images(0), labels(0))
    X, y = datasets.mnist("none", tmp_path)
    assert (X.shape, y.shape) == ((0, 784), (0,))


def test_mnist_looks_in_the_folder_then_the_environment_then_the_cache(tmp_path, cache, monkeypatch):
    write_pair(cache, "train", images(1), labels(1))
    assert len(datasets.mnist()[0]) == 1
    monkeypatch.setenv("MINNET_DATA", "")
    assert len(datasets.mnist()[0]) == 1
    monkeypatch.setenv("MINNET_DATA", str(tmp_path / "named"))
    assert len(datasets.mnist()[0]) == 1
    write_pair(tmp_path / "named", "train", images(2), labels(2))
    assert len(datasets.mnist()[0]) == 2
    write_pair(tmp_path / "given", "train", images(3), labels(3))
    assert len(datasets.mnist(folder=tmp_path / "given")[0]) == 3


def test_mnist_never_mixes_folders(tmp_path, cache, monkeypatch):
    write_pair(cache, "train", images(2), labels(2))
    write_pair(tmp_path / "named", "train", images(2), 9 - labels(2))
    monkeypatch.setenv("MINNET_DATA", str(tmp_path / "named"))
    (tmp_path / "named" / "train-images-idx3-ubyte").unlink()
    assert datasets.mnist()[1].tolist() == [0, 1]


def test_mnist_expands_the_home(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_pair(tmp_path / "here", "train", images(2), labels(2))
    assert len(datasets.mnist(folder="~/here")[0]) == 2
    monkeypatch.setenv("MINNET_DATA", "~/here")
    assert len(datasets.mnist()[0]) == 2


def test_mnist_missing_says_what_and_where(tmp_path, cache, monkeypatch):
    hint = r"\(name it with folder= or MINNET_DATA; download=True fetches"
    what = (
        r"t10k-images-idx3-ubyte\[\.gz\] and t10k-labels-idx1-ubyte\[\.gz\] must be in one folder, got no such pair in"
    )
    with pytest.raises(ValueError, match=f"^mnist: {what} {re.escape(str(cache))} {hint}"):
        datasets.mnist("test")
    with pytest.raises(ValueError, match=f"^mnist: {what} {re.escape(str(tmp_path))} {hint}"):
        datasets.mnist("test", tmp_path)
    monkeypatch.setenv("MINNET_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=f"{what} {re.escape(str(tmp_path))} or {re.escape(str(cache))} {hint}"):
        datasets.mnist("test")
    assert not cache.exists()


@pytest.mark.parametrize("split", ["", "a/b", "a\\b", "../train", "c:train", "a\0b"])
def test_mnist_split_value(cache, split):
    with pytest.raises(ValueError, match=r"^mnist: split must be a name without path separators, got '"):
        datasets.mnist(split)


@pytest.mark.parametrize("split", [0, None, b"train", Path("train")])
def test_mnist_split_type(cache, split):
    with pytest.raises(TypeError, match=r"^mnist: split must be a str, got "):
        datasets.mnist(split)


@pytest.mark.parametrize("folder", [0, b"x", ["x"]])
def test_mnist_folder_type(cache, folder):
    with pytest.raises(TypeError, match=r"^mnist: folder must be a str or a Path, got "):
        datasets.mnist(folder=folder)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (labels(3), labels(3), r"-images-idx3-ubyte must hold uint8 of 3 dimension\(s\), got uint8 of shape \(3,\)"),
        (images(3).astype("i2"), labels(3), r"-images.* must hold uint8 of 3 .*, got int16 of shape \(3, 28, 28\)"),
        (images(3), images(3), r"-labels-idx1-ubyte must hold uint8 of 1 .*, got uint8 of shape \(3, 28, 28\)"),
        (images(3), labels(3).astype("i1"), r"-labels.* must hold uint8 of 1 .*, got int8 of shape \(3,\)"),
        (images(3), labels(4), r"-labels-idx1-ubyte must have a label for each of 3 images, got 4"),
        (images(3), np.uint8([0, 9, 10]), r"labels in .*-labels-idx1-ubyte must be 0 to 9, got 10 in row 2"),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path, cache, x, y, message):
    write_pair(tmp_path, "bad", x, y)
    with pytest.raises(ValueError, match=f"^mnist: .*{message}"):
        datasets.mnist("bad", tmp_path)


def test_mnist_damaged_file(tmp_path, cache):
    write_pair(tmp_path, "bad", images(3), labels(3), lambda data: gzip.compress(data)[:-4], ".gz")
    with pytest.raises(ValueError, match=r"bad-images-idx3-ubyte\.gz must be a sound gzip file"):
        datasets.mnist("bad", tmp_path)


# The cache folder


@pytest.mark.skipif(sys.platform == "win32", reason="speaks of / paths")
@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "/home/me/.cache/minnet"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/me/.cache/minnet"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/minnet"),
        ("linux", {"XDG_CACHE_HOME": "/else"}, "/else/minnet"),
        ("darwin", {"XDG_CACHE_HOME": "/else"}, "/home/me/Library/Caches/minnet"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/minnet"),
        ("win32", {}, "/home/me/AppData/Local/minnet"),
    ],
)
def test_cache_folder(monkeypatch, platform, variables, folder):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert datasets._cache() == folder


# Downloads


class Mirror:
    """A server on this machine: what it serves by path, and the paths that it was asked for."""

    def __init__(self):
        self.files, self.asked = {}, []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.asked.append(self.path)
                data = mirror.files.get(self.path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def url(self, folder):
        return f"http://127.0.0.1:{self.server.server_port}/{folder}/"


@pytest.fixture
def mirror(monkeypatch):
    """Two mirrors, /first/ and /second/, of which the second has all that is needed."""
    made = Mirror()
    made.thread.start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(datasets, "MIRRORS", (made.url("first"), made.url("second")))
    sums = {}
    for prefix in ("train", "t10k"):
        for name, data in (
            (f"{prefix}-images-idx3-ubyte.gz", images(4)),
            (f"{prefix}-labels-idx1-ubyte.gz", labels(4)),
        ):
            made.files[f"/second/{name}"] = gzip.compress(idx(data), mtime=0)
            sums[name] = hashlib.sha256(made.files[f"/second/{name}"]).hexdigest()
    monkeypatch.setattr(datasets, "SHA256", sums)
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def everything_on_first(mirror):
    mirror.files |= {path.replace("second", "first"): data for path, data in mirror.files.items()}


NAMES = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]


def listed(folder):
    return sorted(os.listdir(folder))


def test_checksums_and_mirrors_are_those_of_the_standard_files():
    assert sorted(datasets.SHA256) == sorted(NAMES + [name.replace("t10k", "train") for name in NAMES])
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in datasets.SHA256.values())
    assert all(re.fullmatch("https://.*/", mirror) for mirror in datasets.MIRRORS)


@pytest.mark.mnist
@pytest.mark.parametrize("name", datasets.SHA256)
def test_checksums_of_real_files(name):
    path = Path(os.environ["MINNET_DATA"]).expanduser() / name
    if not path.is_file():
        pytest.skip(f"MINNET_DATA has no {name}")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == datasets.SHA256[name]


def test_download_into_the_cache_once(cache, mirror):
    everything_on_first(mirror)
    X, y = datasets.mnist("test", download=True)
    assert (X.shape, y.tolist()) == ((4, 784), [0, 1, 2, 3])
    assert listed(cache) == NAMES
    assert mirror.asked == [f"/first/{name}" for name in NAMES]
    datasets.mnist("test", download=True)
    assert len(datasets.mnist("test")[0]) == 4
    assert len(mirror.asked) == 2


def test_download_of_the_training_files(cache, mirror):
    assert len(datasets.mnist(download=True)[0]) == 4
    assert listed(cache) == [name.replace("t10k", "train") for name in NAMES]


def test_download_into_a_folder_what_is_missing(tmp_path, cache, mirror):
    everything_on_first(mirror)
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels(4)[::-1].copy()))
    assert datasets.mnist("t10k", folder, download=True)[1].tolist() == [3, 2, 1, 0]
    assert listed(folder) == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"]
    assert mirror.asked == ["/first/t10k-images-idx3-ubyte.gz"]
    assert not cache.exists()


def test_download_makes_the_folder(tmp_path, cache, mirror):
    datasets.mnist("test", tmp_path / "deep" / "er", download=True)
    assert listed(tmp_path / "deep" / "er") == NAMES


def test_download_leaves_the_folder_of_the_environment_alone(tmp_path, cache, mirror, monkeypatch):
    (tmp_path / "named").mkdir()
    monkeypatch.setenv("MINNET_DATA", str(tmp_path / "named"))
    datasets.mnist("test", download=True)
    assert listed(tmp_path / "named") == []
    assert listed(cache) == NAMES
    assert len(datasets.mnist("test")[0]) == 4


def test_download_goes_on_to_the_second_mirror_after_404(cache, mirror):
    assert len(datasets.mnist("test", download=True)[0]) == 4
    assert mirror.asked == [f"/{folder}/{name}" for name in NAMES for folder in ("first", "second")]
    assert listed(cache) == NAMES


def test_download_goes_on_after_a_wrong_checksum(cache, mirror):
    mirror.files[f"/first/{NAMES[0]}"] = b"something else"
    assert len(datasets.mnist("test", download=True)[0]) == 4
    assert listed(cache) == NAMES


def test_download_says_every_cause(cache, mirror):
    bad = mirror.files[f"/second/{NAMES[0]}"] = b"something else"
    wanted, received = datasets.SHA256[NAMES[0]], hashlib.sha256(bad).hexdigest()
    causes = (
        rf"\n  {mirror.url('first')}{NAMES[0]}: HTTPError: HTTP Error 404: Not Found"
        rf"\n  {mirror.url('second')}{NAMES[0]}: OSError: sha256 must be {wanted}, got {received}"
    )
    by_hand = rf"\n\(put the file into {re.escape(str(cache))} by hand\)$"
    with pytest.raises(OSError, match=rf"^mnist: a mirror must give {NAMES[0]}, got{causes}{by_hand}"):
        datasets.mnist("test", download=True)
    assert not cache.exists()


def test_download_from_servers_that_are_no_servers(tmp_path, cache, mirror, monkeypatch):
    monkeypatch.setattr(datasets, "MIRRORS", ("http://127.0.0.1:1/", "no-such-scheme://x/"))
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1/t10k.*: URLError: .*\n  no-such-scheme.*: URLError: "):
        datasets.mnist("test", tmp_path, download=True)
    assert listed(tmp_path) == []


def test_download_of_a_file_cut_short(tmp_path, cache, mirror, monkeypatch):
    monkeypatch.setattr(datasets, "MIRRORS", (mirror.url("second"),))
    mirror.files[f"/second/{NAMES[1]}"] = mirror.files[f"/second/{NAMES[1]}"][:-1]
    with pytest.raises(OSError, match=rf"^mnist: a mirror must give {NAMES[1]}, got\n.*sha256 must be"):
        datasets.mnist("test", tmp_path, download=True)
    assert listed(tmp_path) == NAMES[:1]


def test_download_stops_at_the_largest_size(tmp_path, cache, mirror, monkeypatch):
    size = len(mirror.files[f"/second/{NAMES[0]}"])
    monkeypatch.setattr(datasets, "LARGEST", size - 1)
    with pytest.raises(OSError, match=f"must have at most {size - 1} bytes, got more"):
        datasets.mnist("test", tmp_path, download=True)
    monkeypatch.setattr(datasets, "LARGEST", size)
    assert len(datasets.mnist("test", tmp_path, download=True)[0]) == 4


def test_download_waits_with_a_timeout(tmp_path, cache, mirror, monkeypatch):
    with http.server.HTTPServer(
        ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler
    ) as silent:  # accepts, never answers
        monkeypatch.setattr(datasets, "MIRRORS", (f"http://127.0.0.1:{silent.server_port}/",))
        monkeypatch.setattr(datasets, "TIMEOUT", 0.1)
        socket.setdefaulttimeout(5)  # so that this test fails, rather than hangs, where TIMEOUT is not heeded
        start = time.monotonic()
        try:
            with pytest.raises(OSError, match="TimeoutError: timed out"):
                datasets.mnist("test", tmp_path, download=True)
        finally:
            socket.setdefaulttimeout(None)
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("split", ["train5k", "mine"])
def test_download_of_other_files(tmp_path, cache, mirror, split):
    write_pair(tmp_path, split, images(1), labels(1))
    with pytest.raises(ValueError, match=f'^mnist: split must be "train" or "test" to be downloaded, got \'{split}\''):
        datasets.mnist(split, tmp_path, download=True)
    assert mirror.asked == []


def test_download_that_cannot_be_stored_leaves_nothing(tmp_path, cache, mirror, monkeypatch):
    def full(handle):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"^No space left on device$"):
        datasets.mnist("test", tmp_path, download=True)
    assert listed(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_download_keeps_to_the_umask(tmp_path, cache, mirror, mask, mode):
    before = os.umask(mask)
    try:
        datasets.mnist("test", tmp_path, download=True)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in NAMES] == [mode, mode]


# Holdout


def test_holdout_splits_every_sample_once():
    X = np.arange(10, dtype=np.float32)[:, None] * [1, 10]
    X_train, y_train, X_test, y_test = datasets.holdout(X, np.arange(10), 0.3)
    assert (len(X_train), len(X_test)) == (7, 3)
    assert sorted([*y_train, *y_test]) == list(range(10))
    np.testing.assert_array_equal(X_train, X[y_train])
    np.testing.assert_array_equal(X_test, X[y_test])
    assert y_train.tolist() != sorted(y_train)
    assert X_train.dtype == X.dtype


def test_holdout_seed():
    X, y = np.arange(50), np.arange(50)
    same = [datasets.holdout(X, y, seed=3)[3].tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != datasets.holdout(X, y, seed=4)[3].tolist()
    assert datasets.holdout(X, y, seed=np.random.default_rng(3))[3].tolist() == same[0]


def test_holdout_copies():
    X = np.zeros((5, 2))
    datasets.holdout(X, np.zeros(5))[0][:] = 1
    assert X.max() == 0


@pytest.mark.parametrize(
    ("count", "fraction", "test"), [(10, 0.2, 2), (7, 0.5, 4), (2, 0.5, 1), (3, np.float32(0.4), 1)]
)
def test_holdout_rounds(count, fraction, test):
    assert len(datasets.holdout(np.zeros((count, 1)), [0] * count, fraction)[3]) == test


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, 1.5])
def test_holdout_fraction_value(fraction):
    with pytest.raises(ValueError, match=f"^holdout: fraction must be between 0 and 1, got {fraction}$"):
        datasets.holdout(np.zeros(10), np.zeros(10), fraction)


@pytest.mark.parametrize("fraction", [float("nan"), float("inf")])
def test_holdout_fraction_finite(fraction):
    with pytest.raises(ValueError, match=f"^holdout: fraction must be a finite number, got {fraction}$"):
        datasets.holdout(np.zeros(10), np.zeros(10), fraction)


@pytest.mark.parametrize("fraction", ["0.2", None, 0.2j, [0.2], True])
def test_holdout_fraction_type(fraction):
    with pytest.raises(TypeError, match=f"^holdout: fraction must be a number, got {re.escape(repr(fraction))}$"):
        datasets.holdout(np.zeros(10), np.zeros(10), fraction)


@pytest.mark.parametrize(("count", "fraction", "test"), [(0, 0.5, 0), (1, 0.2, 0), (2, 0.2, 0), (2, 0.9, 2)])
def test_holdout_empty_part(count, fraction, test):
    message = f"^holdout: both parts must have samples, got {test} of {count} in the test part$"
    with pytest.raises(ValueError, match=message):
        datasets.holdout(np.zeros(count), np.zeros(count), fraction)


@pytest.mark.parametrize(("x", "y"), [((3, 2), (4,)), ((), ()), ((3,), ())])
def test_holdout_lengths(x, y):
    shapes = re.escape(f"shapes {x} and {y}")
    with pytest.raises(ValueError, match=f"^holdout: X and y must have the same length, got {shapes}$"):
        datasets.holdout(np.zeros(x), np.zeros(y))
