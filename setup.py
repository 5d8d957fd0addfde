"""The compiled half of the build; everything else stands in pyproject.toml.

The environment variable MINNET_SIMD (baseline, x86-64-v3, x86-64-v4) forces one SIMD level instead of the choice at run
time. It is for tests: see docs/numerics.md.
"""

import glob
import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The two -fno flags let gcc 12 vectorise a clamped exp; they give up errno and trap flags, no digit of any result.
# Never a fast-math flag: it breaks NaN and rounding, and linking with one flushes the whole process's subnormals.
UNIX = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
MSVC = ["/O2"]
# gcc unrolls loops of up to 16 rounds completely, and then finds no vectors. Tiles of products are 16 wide, strips of
# rows 8 or 16.
UNROLLED = {
    "minnet._cross_entropy": ["--param=max-completely-peel-times=7"],
    "minnet._epoch": ["--param=max-completely-peel-times=8"],
    "minnet._product": ["--param=max-completely-peel-times=8"],
    "minnet._softmax": ["--param=max-completely-peel-times=7"],
}
# A wheel goes without the names of functions, 70 kB of 2 MB; where the tests read the disassembly, they stay.
STRIPPED = ["-Wl,-s"]
# Cython's own code for typed memoryviews, 70 kB of the wheel a module, is one module that all share; Cython writes it.
MEMORYVIEWS = "minnet._memoryviews"
LEVELS = {"baseline": "0", "x86-64-v3": "3", "x86-64-v4": "4"}


def forced_level():
    """The macro that forces a level, if one is asked for."""
    name = os.environ.get("MINNET_SIMD", "")
    if name and name not in LEVELS:
        raise ValueError(f"setup.py: MINNET_SIMD must be one of {', '.join(LEVELS)}, or unset, got {name!r}")
    return [("MINNET_SIMD", LEVELS[name])] if name else []


class Build(build_ext):
    """build_ext with flags that fit the compiler at hand, and a note of them in the result."""

    def initialize_options(self):  # noqa: D102
        super().initialize_options()
        self.shared_utility_qualified_name = MEMORYVIEWS  # for Cython's build_ext, which setuptools extends

    def build_extensions(self):  # noqa: D102
        flags = MSVC if self.compiler.compiler_type == "msvc" else UNIX
        asked = [*getattr(self.compiler, "compiler_so", []), *flags]
        noted = " ".join(flag for flag in asked if flag.startswith(("-O", "-f", "-m", "/O")) and "=/" not in flag)
        strip = sys.platform == "linux" and not self.inplace and not self.editable_mode
        for extension in self.extensions:
            extension.extra_link_args = STRIPPED if strip else []
            extension.extra_compile_args = flags if flags is MSVC else flags + UNROLLED.get(extension.name, [])
            extension.define_macros.append(("MINNET_FLAGS", f'"{noted}"'))
        self.force = True  # an older build in this folder may be of another level
        super().build_extensions()


def extension(source):
    """A compiled module of the package."""
    name, depends = os.path.splitext(source)[0].replace("/", "."), glob.glob("minnet/*.h") + glob.glob("minnet/*.pxd")
    return Extension(name, [source], depends=depends, include_dirs=["minnet"], define_macros=forced_level())


SOURCES = [*sorted(glob.glob("minnet/*.pyx")), f"{MEMORYVIEWS.replace('.', '/')}.c"]

setup(ext_modules=[extension(source.replace(os.sep, "/")) for source in SOURCES], cmdclass={"build_ext": Build})
