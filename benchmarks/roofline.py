"""How far the large cases are from what this machine can do: `python -m benchmarks.roofline`, on one pinned CPU.

Two floors stand beside the time of a case: that of memory, its bytes at the measured speed of a copy (of an update in
place, for optimizers) of as many bytes, and that of arithmetic, the same kernel on an input that stays in the cache.
Whoever overlapped both perfectly would take the larger one.
"""

import argparse
import math
import sys
from dataclasses import replace

import numpy as np

from benchmarks.cases import select
from benchmarks.contenders.with_minnet import contenders
from benchmarks.threads import restrict
from benchmarks.timing import block, calls_per_block

CASES = "sigmoid 2|softmax 8192x1000|softmax 1024|cross-entropy (8192x1000|1024)|SGD|Adam|binary cross-entropy 2"
FITS = 2**16  # elements of a problem that stays in the second-level cache
ROUNDS = 15


def seconds(run):
    """The time of a call, the best of some rounds: a floor is what nothing else has disturbed."""
    calls = calls_per_block(run)
    return min(block(run, calls) for _ in range(ROUNDS)) / calls


def speeds(bytes_moved):
    """Bytes a second of reading, copying and updating in place, with so many bytes moved by each."""

    def of(arrays, run):
        a, b = (np.ones(bytes_moved // arrays // 4, np.float32) for _ in range(2))
        return a.nbytes * arrays / seconds(lambda: run(a, b))

    return {
        "read": of(1, lambda a, b: a.max()),
        "copy": of(2, lambda a, b: np.copyto(b, a)),
        "update": of(3, lambda a, b: np.add(a, b, out=a)),
    }


def fresh_memory(size=2**26):
    """Seconds to write an array of `size` bytes, one that is there already and a new one."""
    old = np.zeros(size, np.uint8)
    return seconds(lambda: old.fill(1)), seconds(lambda: np.empty(size, np.uint8).fill(1))


def in_cache(case):
    """Seconds an element where no memory is waited for: from two sizes, so that the cost of a call drops out."""
    build = contenders(1)["minnet"][case.name]
    row = math.prod(case.shape[1:])
    times, sizes = [], [max(FITS // row, 2), max(FITS // row // 8, 1)]
    for rows in sizes:
        small = replace(case, size="x".join(map(str, (rows, *case.shape[1:]))))
        times.append(seconds(build(small.problem()).run))
    return (times[0] - times[1]) / (sizes[0] - sizes[1]) / row


def report(case):
    """A line of the table."""
    elements = math.prod(case.shape)
    job = contenders(1)["minnet"][case.name](case.problem())
    taken = seconds(job.run) / elements
    kind = "update" if case.name in ("SGD momentum", "Adam") else "copy"
    memory, arithmetic = case.bytes / speeds(case.bytes)[kind] / elements, in_cache(case)
    figures = [f"{1e9 * value:8.2f}" for value in (taken, memory, arithmetic)]
    return f"{case.key:34} {' '.join(figures)} {taken / max(memory, arithmetic):8.2f}"


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser("python -m benchmarks.roofline", description="Floors of the large cases.")
    parser.add_argument("--only", default=CASES, metavar="REGEX", help="cases, as for python -m benchmarks")
    options = parser.parse_args(arguments)
    restrict("1")
    for size in (2**20, 2**23, 2**27):
        shown = ", ".join(f"{kind} {speed / 1e9:.0f}" for kind, speed in speeds(size).items())
        print(f"GB/s, {size >> 20} MB moved: {shown}")
    old, new = fresh_memory()
    print(f"64 MB written: {1e3 * old:.1f} ms, into new memory: {1e3 * new:.1f} ms\n")
    print(f"{'ns an element':34} {'taken':>8} {'memory':>8} {'in cache':>8} {'x floor':>8}")
    for case in select(options.only):
        print(report(case), flush=True)


if __name__ == "__main__":
    sys.exit(main())
