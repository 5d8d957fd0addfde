# cython: language_level=3, freethreading_compatible=True
"""Which SIMD levels the kernels were compiled for, which of them runs here, and how they were built."""

cdef extern from "_simd.h":
    const char* MINNET_LEVELS
    const char* MINNET_COMPILER
    const char* MINNET_FLAGS
    const char* minnet_cpu_level() noexcept nogil


def levels():
    """The names of the levels compiled in, lowest first; more than one is a choice at run time."""
    return tuple(MINNET_LEVELS.decode("ascii").split())


def cpu_level():
    """The highest level that this CPU has, or "" where the compiler cannot tell."""
    return minnet_cpu_level().decode("ascii")


def level():
    """The name of the level that runs here."""
    compiled = levels()
    return cpu_level() if len(compiled) > 1 else compiled[0]


def compiler():
    """The compiler and its version, or ""."""
    return MINNET_COMPILER.decode("utf-8", "replace")


def flags():
    """The options given to the compiler that can change code."""
    return MINNET_FLAGS.decode("utf-8", "replace")


# Here, because otherwise the first kernel would end the process by an illegal instruction.
if cpu_level() and level() > cpu_level():
    raise ImportError(f"minnet: was built for {level()} alone, this CPU has {cpu_level()} (build without MINNET_SIMD)")
