"""What other processes do meanwhile. A busy core stalls every peer that waits for all its threads, always by the same
slice of time: the median is far off and the spread small, so that only a look at the CPUs tells.
"""

import os
from time import perf_counter, process_time

from benchmarks.threads import available

IDLE = (3, 4)  # columns of /proc/stat that are no work: idle, waiting for a disk
COUNTED = 8  # those behind are contained in others


def snapshot(path="/proc/stat"):
    """Seconds on the clock, seconds of work of the CPUs this process may use, and its own; None where not on Linux."""
    try:
        with open(path, encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("cpu")]
    except OSError:
        return None
    ours = {f"cpu{number}" for number in available()}
    ticks = sum(
        int(cell)
        for name, *cells in lines
        for column, cell in enumerate(cells[:COUNTED])
        if name in ours and column not in IDLE
    )
    return perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), process_time()


def between(before, after):
    """How many CPUs other processes kept busy between two snapshots, such as 0.5; None where nobody knows."""
    if before is None or after is None:
        return None
    elapsed, work, own = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, (work - own) / elapsed)
