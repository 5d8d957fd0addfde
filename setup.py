"""The compiled half of the build; everything else stands in pyproject.toml."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The two -fno flags let gcc 12 vectorise a clamped exp; they give up errno and trap flags, no digit of any result.
# Never a fast-math flag: it breaks NaN and rounding, and linking with one flushes the whole process's subnormals.
UNIX = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
MSVC = ["/O2"]


class Build(build_ext):
    """build_ext with flags that fit the compiler at hand."""

    def build_extensions(self):  # noqa: D102
        for extension in self.extensions:
            extension.extra_compile_args = MSVC if self.compiler.compiler_type == "msvc" else UNIX
        super().build_extensions()


kernels = Extension(
    "minnet._kernels",
    ["minnet/_kernels.pyx"],
    depends=["minnet/_math.pxd", "minnet/_simd.h"],
    include_dirs=["minnet"],
)

setup(ext_modules=[kernels], cmdclass={"build_ext": Build})
