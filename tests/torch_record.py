"""What torch computed, from tests/data/make_torch_losses.py, as cases of a test; and the same by torch now."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np

DATA = Path(__file__).with_name("data")


@cache
def record():
    """The arrays of the file by their names, and what was set."""
    with np.load(DATA / "torch_losses.npz", allow_pickle=False) as file:
        arrays = dict(file)
    return arrays | json.loads(str(arrays.pop("settings")))


def cases(*prefixes):
    """Pairs (case, reduction) of the functions whose names begin so."""
    return [
        (case, reduction)
        for case, (function, *_) in record()["cases"].items()
        for reduction in record()["reductions"]
        if function.startswith(prefixes)
    ]


def computed_by_torch_now(case):
    """What the script gives with the torch of this environment."""
    spec = importlib.util.spec_from_file_location("make_torch_losses", DATA / "make_torch_losses.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.compute(case)


def parts(vector, reduction):
    """The value and the gradient of one reduction, from the vector of a case."""
    shape = record()["z"].shape
    sizes = [n for each in record()["reductions"] for n in (np.prod(shape) if each == "none" else 1, np.prod(shape))]
    pieces = np.split(vector, np.cumsum(sizes)[:-1])
    place = 2 * record()["reductions"].index(reduction)
    value = pieces[place].reshape(shape) if reduction == "none" else pieces[place][0]
    return value, pieces[place + 1].reshape(shape)


def arguments(case, reduction):
    """The name of a function, its arguments and its options."""
    known = record()
    function, first, target, options = known["cases"][case]
    options = {key: known[value] if isinstance(value, str) else value for key, value in options.items()}
    upstream = known["upstream"] if reduction == "none" else known["factor"]
    return function, (known[first], known[target]), {**options, "reduction": reduction, "grad_output": upstream}


def assert_equal_to_torch(functional, case, reduction, vector):
    """Value and gradient are those of torch, to 1e-12."""
    function, given, options = arguments(case, reduction)
    value, grad = getattr(functional, function)(*given, **options, return_grad=True)
    want, want_grad = parts(vector, reduction)
    np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(grad, want_grad, rtol=1e-12, atol=1e-15)
    assert np.any(want_grad != 0)
