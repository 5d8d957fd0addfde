"""What runs here: versions, the SIMD levels compiled in and the one in use, threads, libraries.

A report of a wrong number or of a slow machine should hold it. `minnet info` prints it.
"""

import platform

import numpy as np

from minnet import _simd
from minnet._checks import choice
from minnet._threads import get_num_threads

__all__ = ["show_config"]

OPTIONAL = ("matplotlib", "tqdm", "scikit-learn", "safetensors", "onnx", "dask", "distributed", "mpi4py")


def show_config(mode="stdout"):
    """Print, or return, how minnet was built and what it finds here.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Whether to print it or to return it, as in `numpy.show_config`.

    Returns
    -------
    dict of dict or None
        With "dicts": `minnet` (version, simd_levels compiled in, simd_level that runs, threads), `build` (compiler,
        flags, as far as known), `python`, `numpy` (version, blas), `optional` (version or None, by library).

    Raises
    ------
    ValueError, TypeError
        If `mode` is neither.
    """
    choice("show_config", "mode", mode, ["stdout", "dicts"])
    config = {
        "minnet": _minnet(),
        "build": {"compiler": _simd.compiler(), "flags": _simd.flags()},
        "python": {
            "version": f"{platform.python_version()} ({platform.python_implementation()})",
            "platform": platform.platform(),
        },
        "numpy": {"version": np.__version__, "blas": _blas()},
        "optional": {name: _version(name) for name in OPTIONAL},
    }
    if mode == "dicts":
        return config
    print("\n".join(_lines(config)))
    return None


def _minnet():
    from minnet import __version__  # the face imports this module first

    levels = {"simd_levels": _simd.levels(), "simd_level": _simd.level()}
    return {"version": __version__, **levels, "threads": get_num_threads()}


def _blas():
    """Name and version of the library that multiplies numpy's matrices, or "unknown"."""
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _version(library):
    """The version that is installed, or None; nothing is loaded."""
    from importlib import metadata  # costs more than the rest of this module

    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _lines(config):
    for part, entries in config.items():
        yield part
        for name, value in entries.items():
            text = ", ".join(value) if isinstance(value, tuple) else "not installed" if value is None else str(value)
            yield f"    {name.replace('_', ' '):<13} {text}".rstrip()
