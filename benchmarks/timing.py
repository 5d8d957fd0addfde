"""The clock. Contenders take turns, A B C A B C ..., so that a slow minute of the machine falls on all of them.

A block is a number of calls in a row, long enough for the clock; before each block one call goes untimed, which wakes
sleeping threads and brings the contender's own buffers back into the caches. Before that call all is quiet: threads of
BLAS spin for a tenth of a second after their work, on a CPU that the next contender needs.
"""

import gc
import math
from itertools import repeat
from time import perf_counter, process_time, sleep

BLOCK = 0.01  # seconds that a block should take; blocks come out between half and twice as long
BUDGET = 15.0  # seconds for a case, if the number of rounds is not given
ROUNDS = (5, 25)  # at least and at most, if the number of rounds is not given
LOOK = 0.005  # seconds between looks at threads that may still spin
PATIENCE = 200  # looks


def time_interleaved(runs, rounds=None):
    """Seconds a call by contender, one number a round, and calls a block by contender.

    `runs` holds functions without arguments; the order of the dict is the order of the turns.
    """
    seconds = {name: [] for name in runs}
    calls = {name: calls_per_block(run) for name, run in runs.items()}
    if rounds is None:
        rounds = affordable_rounds(sum(block(run, calls[name] + 1) for name, run in runs.items()))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in runs.items():
                settle()
                run()
                seconds[name].append(block(run, calls[name]) / calls[name])
    finally:
        gc.enable()
    return seconds, calls


def settle():
    """Return when no thread of this process runs any more, or after a second."""
    for _ in range(PATIENCE):
        start = process_time()
        sleep(LOOK)
        if process_time() - start < LOOK / 10:
            return


def block(run, calls):
    """Seconds that so many calls take."""
    start = perf_counter()
    for _ in repeat(None, calls):
        run()
    return perf_counter() - start


def calls_per_block(run, clock=block):
    """How many calls fill a block; at least 1. The better of two tries counts: the first may meet cold caches."""
    calls = 1
    while (elapsed := min(clock(run, calls), clock(run, calls))) < BLOCK / 2:
        wanted = math.ceil(calls * BLOCK / max(elapsed, 1e-9))
        calls = min(wanted, 100 * calls)  # a call may be shorter than the clock's tick: no leap of faith
    return calls


def affordable_rounds(seconds):
    """How many rounds of so many seconds go into the budget, within the limits."""
    least, most = ROUNDS
    return max(least, min(most, int(BUDGET / seconds)))
