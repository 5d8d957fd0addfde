"""The one place where bad input becomes a clear error.

Every message reads ``owner: rule, got value (hint)``. The functions return what the floors above may trust: aligned
C-contiguous arrays of a known dtype and shape, plain numbers, names that exist. Kernels check nothing themselves.
"""

import importlib
import math
import numbers
import reprlib

import numpy as np

FLOAT32, FLOAT64, INT64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)


# ---- messages ----


class words(str):
    """Text that a message shows as it is, without quotes."""


def bad_value(owner, rule, got, hint=""):
    """A ValueError in the house form; `got` is shown by its repr, shortened."""
    return ValueError(_message(owner, rule, got, hint))


def bad_type(owner, rule, got, hint=""):
    """A TypeError in the house form; `got` is shown by its repr, shortened."""
    return TypeError(_message(owner, rule, got, hint))


def _message(owner, rule, got, hint):
    shown = got if isinstance(got, words) else reprlib.repr(got)
    return f"{owner}: {rule}, got {shown}" + (f" ({hint})" if hint else "")


# ---- arrays ----


def real_array(owner, name, x):
    """`x` as an aligned C-contiguous float32 or float64 array, itself where it is one already.

    Integers, bools, lists and long doubles become float64, float16 becomes float32.
    """
    if type(x) is np.ndarray and (x.dtype is FLOAT32 or x.dtype is FLOAT64):
        flags = x.flags
        if flags.c_contiguous and flags.aligned:
            return x
    a = any_array(owner, name, x)
    if a.dtype.kind not in "fiub":
        hint = "a sparse matrix needs .toarray()" if hasattr(x, "toarray") else ""
        got = x if a.dtype.kind == "O" and a.ndim == 0 else words(f"dtype {a.dtype}")
        raise bad_type(owner, f"{name} must hold real numbers", got, hint)
    dtype = FLOAT32 if a.dtype.kind == "f" and a.dtype.itemsize <= 4 else FLOAT64
    return np.require(a, dtype, ["C", "A"])


def any_array(owner, name, x):
    """`x` as an array of any dtype; a ValueError where its rows differ in length."""
    try:
        return np.asarray(x)
    except ValueError as error:
        raise bad_value(owner, f"{name} must be a rectangular array", words(f"{type(x).__name__}: {error}")) from None


def matrix(owner, name, x, columns=None, dtype=None):
    """`x` as a real array (N, columns), cast to `dtype` if one is given."""
    a = real_array(owner, name, x)
    if a.ndim != 2 or (columns is not None and a.shape[1] != columns):
        hint = f"one sample is {name}[None, :]" if a.ndim == 1 else ""
        raise bad_value(owner, f"{name} must have shape (N, {'C' if columns is None else columns})", a.shape, hint)
    return a if dtype is None or a.dtype == dtype else a.astype(dtype)


def out_array(owner, out, shape, dtype):
    """`out` itself, if a result of that shape and dtype can be written to it."""
    if not isinstance(out, np.ndarray):
        raise bad_type(owner, "out must be a numpy array", out)
    if out.shape != shape or out.dtype != dtype:
        raise bad_value(owner, f"out must be {shape} of {dtype}", words(f"{out.shape} of {out.dtype}"))
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise bad_value(owner, "out must be writable, aligned and C-contiguous", words(str(out.flags).strip()))
    return out


def label_array(owner, target, rows):
    """Class labels of any integer or bool dtype as an aligned int64 array (rows,); their range is not checked."""
    if type(target) is np.ndarray and target.dtype is INT64 and target.shape == (rows,) and target.flags.carray:
        return target
    a = any_array(owner, "target", target)
    if a.dtype.kind == "f":
        _refuse_float_labels(owner, a)
    if target is None:
        raise bad_type(owner, "labels must be integers", None)
    if a.dtype.kind not in "iub":
        hint = "number the classes: classes, y = np.unique(y, return_inverse=True)" if a.dtype.kind in "OUST" else ""
        raise bad_type(owner, "labels must be integers", words(f"dtype {a.dtype}"), hint)
    if a.shape != (rows,):
        raise bad_value(owner, f"labels must have shape ({rows},), one a row", a.shape)
    if a.dtype == np.uint64:
        a = np.minimum(a, 2**63 - 1)  # a label beyond int64 must not wrap into one that is in range, or ignored
    return np.require(a, np.int64, ["C", "A"])


def _refuse_float_labels(owner, a):
    wrong = np.flatnonzero(~np.isfinite(a) | (np.floor(a) != a))
    if len(wrong):
        row = int(wrong[0])
        raise bad_value(owner, "labels must be whole numbers", words(f"{a.flat[row]} in row {row}"))
    raise bad_type(owner, "labels must be integers", words(f"dtype {a.dtype}"), "y.astype(np.int64)")


def not_negative(owner, name, x):
    """`x` as a real array whose entries are finite and not negative; the first that is not is named with its row."""
    a = real_array(owner, name, x)
    if a.size and not 0 <= a.min() <= a.max() < math.inf:
        wrong = np.flatnonzero(~(np.isfinite(a) & (a >= 0)))
        where = f" in row {np.unravel_index(wrong[0], a.shape)[0]}" if a.ndim else ""
        raise bad_value(owner, f"{name} must be finite and not negative", words(f"{a.flat[wrong[0]]}{where}"))
    return a


# ---- numbers, names, modules ----


def number(owner, name, value, low=-math.inf, high=math.inf, *, above=False):
    """`value` as a float in [low, high], or in (low, high] with `above`."""
    if type(value) is not float and (not isinstance(value, numbers.Real) or isinstance(value, bool)):
        raise bad_type(owner, f"{name} must be a number", value)
    if not (low < value if above else low <= value) or not value <= high or not math.isfinite(value):
        low_rule = "" if low == -math.inf else f" {'>' if above else '>='} {low:g}"
        high_rule = "" if high == math.inf else f"{' and' if low_rule else ''} <= {high:g}"
        raise bad_value(owner, f"{name} must be a finite number{low_rule}{high_rule}", value)
    return float(value)


def integer(owner, name, value, low=-math.inf):
    """`value` as an int of at least `low`."""
    if type(value) is not int and (not isinstance(value, numbers.Integral) or isinstance(value, bool)):
        raise bad_type(owner, f"{name} must be an integer", value)
    if value < low:
        raise bad_value(owner, f"{name} must be at least {low}", value)
    return int(value)


def choice(owner, name, value, options):
    """`value`, if it is one of the names in `options`; otherwise the nearest one is suggested."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    import difflib  # only for the message: it would be a tenth of the import time of minnet

    near = difflib.get_close_matches(str(value), options, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    kind = bad_value if isinstance(value, str) else bad_type
    raise kind(owner, f"{name} must be one of {', '.join(map(repr, options))}", value, hint)


def generator(owner, seed):
    """A numpy Generator from a seed; a Generator is taken as it is and goes on where it stands."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise bad_type(owner, "seed must be None, an integer >= 0 or a numpy Generator", seed) from None


def optional_module(owner, name, extra):
    """Import a library that a plain install does not bring; say how to get it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        hint = f"pip install 'minnet[{extra}]'"
        raise ImportError(f"{owner}: needs {library}, which is not installed ({hint})") from error
