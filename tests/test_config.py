"""What minnet says about itself: the parts of show_config, how they are printed, and that asking loads nothing."""

import platform
import re
import subprocess
import sys

import numpy as np
import pytest

import minnet as mn
from minnet import _simd, config
from minnet.cli import main


def test_dicts_hold_versions_levels_and_libraries():
    shown = mn.show_config(mode="dicts")
    assert list(shown) == ["minnet", "build", "python", "numpy", "optional"]
    assert shown["minnet"]["version"] == mn.__version__
    assert shown["minnet"]["simd_levels"] == _simd.levels()
    assert shown["minnet"]["simd_level"] == _simd.level()
    assert shown["minnet"]["threads"] == mn.get_num_threads()
    assert shown["python"]["version"].startswith(platform.python_version())
    assert shown["numpy"]["version"] == np.__version__
    assert re.search(r"blas|accelerate|mkl", shown["numpy"]["blas"], flags=re.IGNORECASE)
    assert set(shown["optional"]) == set(config.OPTIONAL)


@pytest.mark.skipif(not re.search("gcc|lang", _simd.compiler()), reason="built by neither gcc nor clang")
def test_the_build_is_described():
    build = mn.show_config(mode="dicts")["build"]
    assert re.search(r"\d+\.\d+", build["compiler"])
    assert "-fno-math-errno" in build["flags"].split()


def test_an_optional_library_has_its_version_or_none(monkeypatch):
    monkeypatch.setattr(config, "OPTIONAL", ("numpy", "no-such-library"))
    assert mn.show_config(mode="dicts")["optional"] == {"numpy": np.__version__, "no-such-library": None}


def test_numpy_without_a_blas_is_no_error(monkeypatch):
    monkeypatch.setattr(np, "show_config", lambda mode: {})
    assert mn.show_config(mode="dicts")["numpy"]["blas"] == "unknown"


def test_it_is_printed_and_nothing_is_returned(capsys, monkeypatch):
    monkeypatch.setattr(config, "OPTIONAL", ("no-such-library",))
    assert mn.show_config() is None
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["minnet", "build", "python", "numpy", "optional"]
    assert f"    version       {mn.__version__}" in lines
    assert f"    simd levels   {', '.join(_simd.levels())}" in lines
    assert f"    simd level    {_simd.level()}" in lines
    assert lines[-1] == "    no-such-library not installed"


def test_info_prints_the_same(capsys):
    mn.show_config()
    shown = capsys.readouterr().out
    assert main(["info"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("mode", "kind", "rule"),
    [
        (
            "dict",
            ValueError,
            r"show_config: mode must be one of 'stdout', 'dicts', got 'dict' \(did you mean 'dicts'\?\)",
        ),
        (None, TypeError, r"show_config: mode must be one of 'stdout', 'dicts', got None"),
    ],
)
def test_a_wrong_mode_is_an_error(mode, kind, rule):
    with pytest.raises(kind, match=rule):
        mn.show_config(mode)


def test_asking_loads_no_library():
    names = ["sklearn", *config.OPTIONAL]
    code = f"import sys, minnet; minnet.show_config(); print([m for m in {names} if m in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
