"""Data to train on: the digits that ship with minnet, MNIST, IDX files of any kind, and a seeded split.

Files are not trusted: a header is believed only as far as the file can bear it out, and a download gets its name only
after its checksum was right. What only files or the network need is imported where it is used (even pathlib would
bring urllib.parse along): importing minnet should cost little more than importing numpy.
"""

import contextlib
import math
import os
import sys

import numpy as np

from minnet._checks import bad_type, bad_value, generator, number, words

__all__ = ["digits", "holdout", "mnist", "read_idx"]

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
BLOCK = 1 << 20  # bytes read at a time
DEFLATE_RATIO = 1032  # gzip's best: 258 bytes coded in 2 bits

MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
TIMEOUT = 30  # seconds, for each wait on a mirror
LARGEST = 16 << 20  # bytes; the largest of the files has 9.9 million
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def digits():
    """The 1797 handwritten digits of 8 x 8 pixels that ship with minnet.

    Returns
    -------
    X : float32 array (1797, 64), in [0, 1]
    y : int64 array (1797,), 0 to 9

    References
    ----------
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49, CC BY 4.0. What was changed: ``minnet/data/README.md``.
    """
    from importlib import resources

    path = resources.files(__package__) / "data" / "digits.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        return data["images"] / np.float32(16), data["labels"].astype(np.int64)


def mnist(split="train", folder=None, download=False):
    """MNIST, from ``<prefix>-images-idx3-ubyte[.gz]`` and ``<prefix>-labels-idx1-ubyte[.gz]``.

    Parameters
    ----------
    split : str
        "train", or "test" for the prefix "t10k"; any other string is the prefix itself.
    folder : str or Path, optional
        Without it, the folder named by the environment variable MINNET_DATA and then the user's cache are searched.
    download : bool
        Fetch what is missing of "train" or "test" into `folder`, or into the user's cache when there is none.

    Returns
    -------
    X : float32 array (N, 784), in [0, 1]
    y : int64 array (N,), 0 to 9

    Raises
    ------
    ValueError
        If the files are not found, are not sound, or do not fit each other.
    OSError
        If a file could not be downloaded.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition,
    Proceedings of the IEEE 86(11), 1998.
    """
    paths = _mnist_paths(_prefix(split, download), folder, download)
    images, labels = _read_bytes(paths[0], 3), _read_bytes(paths[1], 1)
    _check_labels(labels, len(images), paths[1])
    rows = images.reshape(len(images), math.prod(images.shape[1:]))
    return np.divide(rows, 255, dtype=np.float32), labels.astype(np.int64)


def read_idx(path):
    """Read one IDX file, plain or gzip (told by its first two bytes, not by its name).

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    array
        Shape and dtype (uint8, int8, int16, int32, float32 or float64) as the header says, in native byte order.

    Raises
    ------
    ValueError
        If the file is not a sound IDX file, or holds fewer or more bytes than its header promises.
    FileNotFoundError
        If there is no such file.

    References
    ----------
    The IDX file format, http://yann.lecun.com/exdb/mnist/
    """
    path = _path("read_idx", "path", path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] != b"\x1f\x8b":
            return _read_array(file, size, path)
        with _unzipped(file, path) as stream:
            return _read_array(stream, size * DEFLATE_RATIO, path)


def holdout(X, y, fraction=0.2, seed=0):
    """Shuffle samples and split them into a training and a test part.

    Parameters
    ----------
    X, y : arrays (N, ...)
    fraction : float, between 0 and 1
        The test part gets ``round(fraction * N)`` samples.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    X_train, y_train, X_test, y_test : arrays
        Copies, in shuffled order.

    Raises
    ------
    ValueError
        If `X` and `y` differ in length, `fraction` is out of range, or a part would be empty.
    """
    X, y = np.asarray(X), np.asarray(y)
    count = _test_count(X, y, fraction)
    order = generator("holdout", seed).permutation(len(X))
    test, train = order[:count], order[count:]
    return X[train], y[train], X[test], y[test]


def _test_count(X, y, fraction):
    if X.ndim == 0 or y.ndim == 0 or len(X) != len(y):
        raise bad_value("holdout", "X and y must have the same length", words(f"shapes {X.shape} and {y.shape}"))
    if not 0 < number("holdout", "fraction", fraction) < 1:
        raise bad_value("holdout", "fraction must be between 0 and 1", fraction)
    count = round(float(fraction) * len(X))
    if not 0 < count < len(X):
        raise bad_value("holdout", "both parts must have samples", words(f"{count} of {len(X)} in the test part"))
    return count


def _path(owner, name, value):
    if not isinstance(value, (str, os.PathLike)):
        raise bad_type(owner, f"{name} must be a str or a Path", value)
    return os.fsdecode(os.path.expanduser(value))


# IDX files: `stream` is the unpacked file, `room` the most bytes that it can hold.


@contextlib.contextmanager
def _unzipped(file, path):
    import gzip
    import zlib

    try:
        yield gzip.GzipFile(fileobj=file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise bad_value("read_idx", f"{path} must be a sound gzip file", words(error)) from error


def _read_array(stream, room, path):
    dtype, shape = _read_header(stream, path)
    body = _read_body(stream, math.prod(shape) * dtype.itemsize, room - stream.tell(), path)
    flat = np.frombuffer(body, dtype).astype(dtype.newbyteorder("="), copy=False)
    try:
        return flat.reshape(shape)
    except ValueError as error:  # too many dimensions, or sizes that overflow beside a 0
        raise bad_value("read_idx", f"{path} must have a shape that numpy can hold", shape) from error


def _read_header(stream, path):
    magic = stream.read(4)
    if not magic or magic[:2].strip(b"\0"):
        raise bad_value("read_idx", f"{path} must begin with two zero bytes", magic[:2] or words("an empty file"))
    if len(magic) == 4 and magic[2] not in IDX_TYPES:
        raise bad_value("read_idx", f"{path} must have a type code of IDX, 8, 9 or 11 to 14", magic[2])
    sizes = stream.read(4 * magic[3]) if len(magic) == 4 else b""
    if len(magic) < 4 or len(sizes) < 4 * magic[3]:
        raise bad_value("read_idx", f"{path} must have a whole header", words(f"{len(magic + sizes)} bytes of it"))
    return np.dtype(IDX_TYPES[magic[2]]), tuple(np.frombuffer(sizes, ">u4").tolist())


def _read_body(stream, promised, room, path):
    rule = f"{path} must hold {promised} bytes after its header"
    if promised > room:
        raise bad_value("read_idx", rule, words(f"at most {room}"))
    body = bytearray()
    # In blocks, because one read would allocate all that the header promises; one byte more shows a longer file.
    while block := stream.read(min(BLOCK, promised + 1 - len(body))):
        body += block
    if len(body) != promised:
        raise bad_value("read_idx", rule, words(f"{len(body)} or more" if len(body) > promised else len(body)))
    return body


# MNIST


def _prefix(split, download):
    if not isinstance(split, str):
        raise bad_type("mnist", "split must be a str", split)
    if not split or set(split) & set("/\\:\0"):
        raise bad_value("mnist", "split must be a name without path separators", split)
    prefix = "t10k" if split == "test" else split
    if download and prefix not in ("train", "t10k"):
        raise bad_value("mnist", 'split must be "train" or "test" to be downloaded', split)
    return prefix


def _mnist_paths(prefix, folder, download):
    """Images and labels from one folder; what the last place lacks may be downloaded into it."""
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    places = _places(folder)
    for place in places:
        found = [_find(place, name) for name in names]
        if all(found):
            return found
    if not download:
        rule = f"{names[0]}[.gz] and {names[1]}[.gz] must be in one folder"
        hint = 'name it with folder= or MINNET_DATA; download=True fetches "train" and "test"'
        raise bad_value("mnist", rule, words(f"no such pair in {' or '.join(places)}"), hint)
    return [path or _download(places[-1], f"{name}.gz") for path, name in zip(found, names, strict=True)]


def _places(folder):
    if folder is not None:
        return [_path("mnist", "folder", folder)]
    named = os.environ.get("MINNET_DATA")
    return [os.path.expanduser(named), _cache()] if named else [_cache()]


def _cache():
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else "~/.cache"  # as the XDG specification wants relative paths ignored
    return os.path.join(os.path.expanduser(base), "minnet")


def _find(folder, name):
    paths = os.path.join(folder, name), os.path.join(folder, f"{name}.gz")
    return next(filter(os.path.isfile, paths), None)


def _read_bytes(path, ndim):
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != ndim:
        got = words(f"{array.dtype} of shape {array.shape}")
        raise bad_value("mnist", f"{path} must hold uint8 of {ndim} dimension(s)", got)
    return array


def _check_labels(labels, images, path):
    if len(labels) != images:
        raise bad_value("mnist", f"{path} must have a label for each of {images} images", len(labels))
    if (labels > 9).any():
        row = int(np.argmax(labels > 9))
        raise bad_value("mnist", f"labels in {path} must be 0 to 9", words(f"{labels[row]} in row {row}"))


# Downloads


def _download(folder, name):
    from http.client import HTTPException

    causes = []
    for mirror in MIRRORS:
        try:
            data = _fetch(mirror + name, SHA256[name])
        except (OSError, HTTPException) as error:
            causes.append(f"\n  {mirror}{name}: {type(error).__name__}: {error}")
        else:
            return _store(data, folder, name)
    raise OSError(f"mnist: a mirror must give {name}, got{''.join(causes)}\n(put the file into {folder} by hand)")


def _fetch(url, sha256):
    import hashlib
    import urllib.request

    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        data = response.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(f"a file of MNIST must have at most {LARGEST} bytes, got more")
    received = hashlib.sha256(data).hexdigest()
    if received != sha256:
        raise OSError(f"sha256 must be {sha256}, got {received}")
    return data


def _store(data, folder, name):
    """Write under another name, then rename, so that nobody ever meets half a file."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb") as file:  # a plain open, since tempfile's mode is 0600 whatever the umask
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return path
