"""SIMD in one wheel: each level is compiled in and vectorised, the CPU's is chosen, the process is left as it was."""

import importlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from minnet import _simd

ROOT = Path(__file__).parents[1]
CLONE = re.compile(r"cdef (narrow_)?clones (\w+)\(([^)]*)\)")
CLONES = [
    pytest.param(path.stem, *match, id=f"{path.stem}.{match[1]}")
    for path in sorted((ROOT / "minnet").glob("*.pyx"))
    for match in CLONE.findall(path.read_text(encoding="utf-8"))
]
SUFFIXES = {"default": "baseline", "arch_x86_64_v3": "x86-64-v3", "arch_x86_64_v4": "x86-64-v4"}
DTYPES = {"heft": ["0_0", "0_1", "1_1"], "real": ["0", "1"]}  # weights have the dtype of the outputs or are doubles
V3 = {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
ARITHMETIC = r"\tv?(?:add|sub|mul|div|max|min|cmp\w*|and|sqrt|fn?m(?:add|sub)\d+)p[sd]\s.*%"
MEMORY = {"memset", "memcpy", "memmove"}
# clones, and what is rare
CALLED = re.compile(r"\*ABS\*.*|.*_cross_entropy_((near|top)_(exponentials|costs)|(focal|certain)_sums|mend)(\.\w+)*")
WIDE = re.compile(r"minnet_(turn_in|turn_out|scale_tile|less_tile|look_up)_(f32|f64|wide)(\.\w+)*")


def run_python(code, **options):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- what the compiler made ----


def functions_of(module):
    """The instructions of every function of a compiled module, as text, by symbol."""
    if not shutil.which("objdump"):
        pytest.skip("needs objdump, of binutils")
    command = ["objdump", "-d", "--no-show-raw-insn", importlib.import_module(f"minnet.{module}").__file__]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^[0-9a-f]+ <(.*)>:\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def functions():
    if len(_simd.levels()) == 1:
        pytest.skip(f"this build has one level, {_simd.level()}: nothing is cloned")
    found = {module: functions_of(module) for module in {clone.values[0] for clone in CLONES}}
    if not any("__pyx_" in name for names in found.values() for name in names):
        pytest.skip("the compiled modules are stripped of their symbols")
    return found


def bodies_of(functions, module, clone):
    """The instructions of a clone by dtype (0 or 1, or None where there is but one; see DTYPES) and level."""
    symbol = re.compile(
        rf"(?:__pyx_fuse_(\d(?:_\d)?))?__pyx_f_6minnet_\d+{module}_{clone}\.(default|arch_x86.64.v\d)(?:\.\d+)?"
    )
    found = [(symbol.fullmatch(name), text) for name, text in functions[module].items()]
    return {(match[1], SUFFIXES[match[2].replace("-", "_")]): text for match, text in found if match}


def test_the_clones_are_found_in_the_sources():
    names = {clone.values[2] for clone in CLONES}
    assert {"sigmoid_loop", "softmax_row", "softmax_tile", "label_row", "bce_with_logits_loop"} < names


@pytest.mark.parametrize(("module", "narrow", "clone", "arguments"), CLONES)
def test_each_level_is_compiled_in(functions, module, narrow, clone, arguments):
    levels = [level for level in _simd.levels() if not (narrow and level == "x86-64-v4")]
    dtypes = next((dtypes for name, dtypes in DTYPES.items() if name in arguments), [None])
    assert set(bodies_of(functions, module, clone)) == {(dtype, level) for dtype in dtypes for level in levels}


@pytest.mark.parametrize(("module", "narrow", "clone", "arguments"), CLONES)
def test_each_level_computes_in_its_own_vectors(functions, module, narrow, clone, arguments):
    highest = "[yz]mm" if "lang" in _simd.compiler() else "zmm"  # clang keeps to 256 bits
    signs = {"baseline": "xmm", "x86-64-v3": "ymm", "x86-64-v4": highest}
    bodies = bodies_of(functions, module, clone)
    for (dtype, level), text in bodies.items():
        assert re.search(ARITHMETIC + signs[level], text), (dtype, level)
        assert level != "baseline" or not re.search(r"%[yz]mm|\tv\w+p[sd]\s", text), (dtype, level)
    assert bodies


@pytest.mark.parametrize(("module", "narrow", "clone", "arguments"), CLONES)
def test_a_clone_holds_all_its_code(functions, module, narrow, clone, arguments):
    """A function that it called, or jumped to, would run as baseline code, but for those of one level, or cloned."""
    bodies = bodies_of(functions, module, clone)
    for key, text in bodies.items():
        targets = set(re.findall(r"\t(?:call|j\w+)\s+[0-9a-f]+ <([^>]+?)(?:\+0x[0-9a-f]+)?(?:@plt)?>", text))
        others = {name for name in targets if f"_{clone}." not in name}  # a loop jumps within its own body
        assert {name for name in others if not (WIDE.fullmatch(name) or CALLED.fullmatch(name))} <= MEMORY, key
        assert not re.search(r"\tcall\s+\*", text), key
    assert bodies


def wide_bodies(functions, module, *names):
    """The instructions of functions that are of the widest level alone."""
    found = [(WIDE.fullmatch(symbol), text) for symbol, text in functions[module].items()]
    return [text for match, text in found if match and match[1] in names]


@pytest.mark.parametrize("module", ["_softmax", "_cross_entropy"])
def test_tiles_are_turned_over_in_vectors_of_512_bits(functions, module):
    bodies = wide_bodies(functions, module, "turn_in", "turn_out")
    assert len(bodies) == 4
    for text in bodies:
        assert len(re.findall(r"\tvunpck[lh]p[sd]\s.*%zmm", text)) >= 4
        assert not re.search(r"\tcall\s", text)


def test_what_belongs_to_rows_comes_from_registers_of_512_bits(functions):
    bodies = wide_bodies(functions, "_cross_entropy", "scale_tile", "less_tile", "look_up")
    assert len(bodies) == 5
    for text in bodies:
        assert re.search(r"\tvperm[it]2p[sd]\s.*%zmm", text)
        assert not re.search(r"\tcall\s", text)


def test_roots_and_quotients_are_taken_in_vectors_of_512_bits_too(functions):
    """By Adam, and by RMSprop with and without each of two vectors; where the CPU divides as fast in these."""
    name = re.compile(r"__pyx_fuse_(\d)__pyx_f_6minnet_\d+_updates_adaptive_wide(?:\.\w+)*")
    bodies = {match[1]: text for symbol, text in functions["_updates"].items() if (match := name.fullmatch(symbol))}
    highest = "[yz]mm" if "lang" in _simd.compiler() else "zmm"
    assert sorted(bodies) == DTYPES["real"]
    for text in bodies.values():
        assert len(re.findall(rf"\tvsqrtp[sd]\s.*%{highest}", text)) >= 5
        assert not re.search(r"\tcall\s", text)


def test_slopes_of_sigmoid_are_computed_in_vectors(functions):
    """Two quotients by one divisor, side by side, are what the loop with slopes has and the one without has not."""
    signs = {"baseline": "xmm", "x86-64-v3": "ymm", "x86-64-v4": "[yz]mm" if "lang" in _simd.compiler() else "zmm"}
    bodies = bodies_of(functions, "_activations", "sigmoid_loop")
    for (dtype, level), text in bodies.items():
        quotients = rf"\tv?divp[sd]\s+(%{signs[level]}\d+),.*\n(?:.*\n){{0,3}}?.*\tv?divp[sd]\s+\1,"
        assert re.search(quotients, text), (dtype, level)
    assert bodies


def helpers():
    """Names of all functions that are made to be inlined: `inlined` anywhere, `inline` of _math, those of _simd.h."""
    folder = ROOT / "minnet"
    for path in [*folder.glob("*.pyx"), *folder.glob("*.pxd")]:
        kinds = "(?:inline )?inlined|inline real" if path.suffix == ".pxd" else "(?:inline )?inlined"
        text = path.read_text(encoding="utf-8")
        yield from (f"_f_6minnet_\\d+{path.stem}_{name}" for name in re.findall(rf"cdef (?:{kinds}) (\w+)\(", text))
    header = (folder / "_simd.h").read_text(encoding="utf-8")
    yield from re.findall(r"static inline (?:float|double) (\w+)\(", header)


def test_helpers_of_clones_have_no_copy_of_their_own(functions):
    names = list(helpers())
    assert {"_f_6minnet_\\d+_math_exp", "_f_6minnet_\\d+_rows_exp_others", "minnet_pow2_f32"} < set(names)
    helper = re.compile(rf"(?:\w*_)?(?:{'|'.join(names)})(?:\..*)?")
    assert [name for module in functions.values() for name in module if helper.fullmatch(name)] == []


# ---- how the compiler was called ----


def test_no_fast_math_flag_was_given():
    flags = _simd.flags().split()
    loose = ("-ffast", "-Ofast", "-funsafe", "-ffinite", "-fassociative", "-freciprocal", "-fno-signed", "/fp:fast")
    assert [flag for flag in flags if flag.startswith(loose)] == []
    assert "-O3" in flags or platform.system() == "Windows"


@pytest.mark.parametrize("flag", ["-ffast-math", "-ffinite-math-only"])
def test_fast_math_flags_are_refused(flag):
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    command = [compiler, "-fsyntax-only", "-x", "c", str(ROOT / "minnet" / "_simd.h")]
    plain = subprocess.run(command, capture_output=True, text=True)
    fast = subprocess.run([*command, flag], capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    assert fast.returncode != 0
    assert "without fast-math flags" in fast.stderr


def run_setup(level):
    """What setup.py tells the compiler about each module under MINNET_SIMD=level, as JSON, or its error."""
    pytest.importorskip("setuptools")
    code = "import json, runpy, setuptools; setuptools.setup = lambda ext_modules, **_: print(json.dumps("
    code += "[dict(module.define_macros) for module in ext_modules])); runpy.run_path('setup.py')"
    environment = {**os.environ, "MINNET_SIMD": level}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)


@pytest.mark.parametrize(
    ("level", "macros"),
    [("", {}), *((name, {"MINNET_SIMD": number}) for name, number in zip(SUFFIXES.values(), "034", strict=True))],
)
def test_setup_forces_a_level_on_every_module(level, macros):
    modules = json.loads(run_setup(level).stdout)
    assert len(modules) >= 2
    assert all(module == macros for module in modules)


def test_setup_refuses_an_unknown_level():
    done = run_setup("avx2")
    assert done.returncode != 0
    rule = r"ValueError: setup\.py: MINNET_SIMD must be one of baseline, x86-64-v3, x86-64-v4, or unset, got 'avx2'"
    assert re.search(rule, done.stderr)


# ---- what runs ----


def test_the_running_level_is_compiled_in():
    assert _simd.levels() in [tuple(SUFFIXES.values()), *((level,) for level in SUFFIXES.values())]
    assert _simd.level() in _simd.levels()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc/cpuinfo")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="has no levels but on x86-64")
def test_the_running_level_is_what_the_cpu_has():
    flags = set(re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)[1].split())
    best = "x86-64-v4" if flags >= V4 else "x86-64-v3" if flags >= V3 else "baseline"
    assert _simd.cpu_level() in (best, "")
    shown = run_python("import minnet; print(minnet.show_config('dicts')['minnet']['simd_level'])")
    assert shown == (best if len(_simd.levels()) > 1 else _simd.levels()[0])


def test_subnormals_and_error_state_are_left_alone():
    code = """
import threading, numpy as np
before = np.geterr()
import minnet.functional as F
def subnormals_live():  # as results of normal numbers, and as operands
    pairs = (2e-38, "f"), (1e-40, "f"), (4e-308, "d"), (1e-310, "d")
    return all((np.full(9, x, kind) * np.full(9, 0.5, kind) > 0).all() for x, kind in pairs)
lives = [subnormals_live()]
def work():
    for kind in "fd":
        F.softmax(F.sigmoid(np.ones((50, 100), kind)))
        F.cross_entropy(np.ones((50, 100), kind), np.zeros(50, int), return_grad=True)
    lives.append(subnormals_live())
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(*lives, np.geterr() == before)
"""
    assert run_python(code) == "True True True True"
