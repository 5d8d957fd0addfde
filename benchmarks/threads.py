"""How many threads a measuring process may use. All of it must happen before numpy, torch or jax is imported."""

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINNET_NUM_THREADS")


def available():
    """The CPUs that this process may run on, as a sorted list."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def restrict(threads):
    """Hold this process to 1 thread, or let it have them all; give the number of threads and whether it is pinned.

    Variables alone would not do: jax takes a thread for every CPU it may run on, whatever they say. "all" means all,
    so variables that the user's shell brought along are dropped.
    """
    for name in VARIABLES:
        os.environ.pop(name, None)
    if threads == "all":
        return len(available()), False
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    if not hasattr(os, "sched_setaffinity"):
        return 1, False
    os.sched_setaffinity(0, {available()[-1]})  # the first CPU is where most interrupts go
    return 1, True
