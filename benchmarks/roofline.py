"""How far the large cases are from what this machine can do: `python -m benchmarks.roofline`, on one pinned CPU.

Two floors stand beside the time of a case: that of memory, a copy (an update in place, for optimizers) of as many
bytes, and that of arithmetic, the same kernel on an input that stays in the cache. Whoever overlapped both perfectly
would take the larger one. The best peer's time over that of memory is the largest ratio that any kernel can reach.
minnet, its peers and that of memory take turns; the kernel in the cache comes after them.
"""

import argparse
import math
import statistics
import sys
from dataclasses import replace

import numpy as np

from benchmarks.cases import select
from benchmarks.contenders import load
from benchmarks.measure import right_jobs
from benchmarks.results import OURS
from benchmarks.threads import restrict
from benchmarks.timing import block, calls_per_block, time_interleaved

CASES = "sigmoid 2|softmax 8192x1000|softmax 1024|cross-entropy (8192x1000|1024)|SGD|Adam|binary cross-entropy 2"
FITS = 2**16  # elements of a problem that stays in the second-level cache
ROUNDS = 15
MEMORY = "memory"


def seconds(run):
    """The time of a call, the best of some rounds: a floor is what nothing else has disturbed."""
    calls = calls_per_block(run)
    return min(block(run, calls) for _ in range(ROUNDS)) / calls


# How many arrays are read or written, and what is done with two of them.
MOVES = {
    "read": (1, lambda a, b: a.max()),
    "copy": (2, lambda a, b: np.copyto(b, a)),
    "update": (3, lambda a, b: np.add(a, b, out=a)),
}


def move(kind, bytes_moved):
    """A function that moves so many bytes, and does next to nothing else."""
    arrays, run = MOVES[kind]
    a, b = (np.ones(bytes_moved // arrays // 4, np.float32) for _ in range(2))
    return lambda: run(a, b)


def speeds(bytes_moved):
    """Bytes a second of reading, copying and updating in place, with so many bytes moved by each."""
    return {kind: bytes_moved / seconds(move(kind, bytes_moved)) for kind in MOVES}


def fresh_memory(size=2**26):
    """Seconds to write an array of `size` bytes, one that is there already and a new one."""
    old = np.zeros(size, np.uint8)
    return seconds(lambda: old.fill(1)), seconds(lambda: np.empty(size, np.uint8).fill(1))


def in_cache(case, build):
    """Seconds an element where no memory is waited for: from two sizes, so that the cost of a call drops out."""
    row = math.prod(case.shape[1:])
    times, sizes = [], [max(FITS // row, 2), max(FITS // row // 8, 1)]
    for rows in sizes:
        small = replace(case, size="x".join(map(str, (rows, *case.shape[1:]))))
        times.append(seconds(build(small.problem()).run))
    return (times[0] - times[1]) / (sizes[0] - sizes[1]) / row


def report(case, field):
    """A line of the table."""
    kind = "update" if case.name in ("SGD momentum", "Adam") else "copy"
    runs = {name: job.run for name, job in right_jobs(case, field)[0].items()}
    times, _ = time_interleaved(runs | {MEMORY: move(kind, case.bytes)}, ROUNDS)
    medians = {name: statistics.median(rounds) / math.prod(case.shape) for name, rounds in times.items()}
    ours, memory = medians.pop(OURS), medians.pop(MEMORY)
    peer = min(medians.values(), default=math.nan)
    figures = [f"{1e9 * value:8.2f}" for value in (ours, memory, in_cache(case, field[OURS][case.name]), peer)]
    return f"{case.key:34} {' '.join(figures)} {peer / ours:13.2f} {peer / memory:13.2f}"


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
    heads = ("minnet", "memory", "in cache", "peer", "peer / minnet", "peer / memory")
    print(f"{'ns an element':34} {' '.join(f'{head:>8}' for head in heads)}")
    field, *_ = load(1)
    for case in select(options.only):
        print(report(case, field), flush=True)


if __name__ == "__main__":
    sys.exit(main())
