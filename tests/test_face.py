"""The face of the package: names and their lists agree, randomness is explicit, importing costs and reads little."""

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minnet as mn

PACKAGE = Path(mn.__file__).parent
SOURCES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
FACES = {"functional/__init__.py", "lab/__init__.py"}  # packages whose modules are private, or not all loaded
MODULES = [name for name in SOURCES if name in FACES or not Path(name).name.startswith("_")]
LAZY = {"datasets", "information", "lab"}  # loaded when they are first asked for
MODULE_NAMES = LAZY | {"functional", "initializers", "metrics", "schedules"}
RANDOM = {"default_rng", "Generator"}


def module_name(source):
    return ".".join(["minnet", *Path(source).with_suffix("").parts]).removesuffix(".__init__")


def run(code):
    """What `code` prints in a fresh Python."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# ---- importing ----


def test_a_source_tree_says_that_it_is_none_to_import(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "minnet", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    code = f"import sys; sys.path.append({str(Path(np.__file__).parents[1])!r}); import minnet"
    command = [sys.executable, "-S", "-c", code]  # without site, as an editable install finds its modules from anywhere
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: minnet: its compiled modules must stand beside it, got none in ")
    assert message.endswith("(run Python in another folder than that of a clone, or pip install -e . in the clone)")


# ---- names ----


@pytest.mark.parametrize("name", mn.__all__)
def test_every_listed_name_exists(name):
    assert getattr(mn, name) is not None


def test_every_public_import_is_listed():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in froms for alias in node.names}
    assert "MLP" in imported
    assert imported | LAZY == set(mn.__all__)


def test_no_name_is_star_imported():
    for path in SOURCES.values():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"], path.name


def test_the_list_is_sorted_without_repeats():
    def key(name):
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert mn.__all__ == sorted(set(mn.__all__), key=key)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'minnet' has no attribute 'Perceptron'"):
        _ = mn.Perceptron


@pytest.mark.parametrize("name", sorted(LAZY))
def test_what_is_costly_comes_when_it_is_asked_for(name):
    loaded = f"'minnet.{name}' in sys.modules"
    code = f"import sys, minnet; print({loaded}, minnet.{name}.__name__, {loaded})"
    assert run(code) == ["False", f"minnet.{name}", "True"]


def test_the_modules_of_the_house_are_looked_at():
    core = {
        "functional/__init__.py",
        "layers.py",
        "losses.py",
        "model.py",
        "optimizers.py",
        "training.py",
        "callbacks.py",
    }
    assert core < set(MODULES)


@pytest.mark.parametrize("source", MODULES)
def test_every_public_module_lists_names_that_it_defines(source):
    module = importlib.import_module(module_name(source))
    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert not name.startswith("_")
        assert hasattr(module, name), name


@pytest.mark.parametrize("source", SOURCES)
def test_every_module_opens_with_a_docstring(source):
    assert ast.get_docstring(ast.parse(SOURCES[source].read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", [name for name in mn.__all__ if name not in MODULE_NAMES])
def test_every_name_has_a_docstring_of_its_own(name):
    thing = getattr(mn, name)
    assert thing.__doc__
    assert not isinstance(thing, type) or "__doc__" in vars(thing)


# ---- randomness is explicit ----


def hidden_randomness(code):
    """Uses of numpy's global generator, or of Python's, in source code."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            found += [node.attr] if node.attr not in RANDOM else []
        if isinstance(node, ast.ImportFrom) and node.module in ("numpy.random", "random"):
            found += [alias.name for alias in node.names if alias.name not in RANDOM]
        if isinstance(node, ast.ImportFrom) and node.module == "numpy":
            found += [alias.name for alias in node.names if alias.name == "random"]
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in ("random", "numpy.random")]
    return found


@pytest.mark.parametrize(
    "code",
    [
        "np.random.rand(3)",
        "import random",
        "from numpy.random import rand",
        "from numpy import random",
        "np.random.seed",
    ],
)
def test_the_search_finds_hidden_randomness(code):
    assert hidden_randomness(code)


@pytest.mark.parametrize("source", SOURCES)
def test_randomness_comes_from_generators_alone(source):
    assert hidden_randomness(SOURCES[source].read_text(encoding="utf-8")) == []


# ---- importing ----


def test_importing_loads_no_optional_library_and_no_lab():
    listed = ("matplotlib", "tqdm", "scipy", "sklearn", "pandas", "torch", "safetensors", "minnet.lab", "minnet.cli")
    assert run(f"import sys, minnet; print(*[name for name in {listed} if name in sys.modules])") == []


def test_importing_reads_no_environment():
    code = """
import os, sys, numpy

class Closed(dict):
    def refuse(self, *key):
        raise RuntimeError(f"the environment was read: {key}")
    __getitem__ = __contains__ = __iter__ = get = items = keys = values = copy = refuse

os.environ, kept = Closed(), os.environ
os.getenv = os.environ.get
import minnet
os.environ = kept
print(minnet.__version__)
"""
    assert run(code) == [mn.__version__]


def test_no_assert_stands_in_for_a_check():
    for path in SOURCES.values():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not [node for node in nodes if isinstance(node, ast.Assert)], path.name
