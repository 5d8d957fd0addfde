"""Threads: large work is cut at fixed places, and the calling thread shares the chunks with a small pool.

Cuts of what is summed and the order of results follow from the work alone, so that results are bit-identical for every
number of threads; where nothing is summed, cuts are free (`free_share` in functional).
The caller takes part and waits only for chunks that some thread is working on: no call waits for another, and whatever
becomes of the pool (busy, forked away, shut down with the interpreter), the work gets done.

Compiled code can share work without Python, by a team (`_team.h`) whose helpers wait for their next part: one for a
long call (`run_joined`), or one that stands, for many short calls (`standing_team`).
"""

import math
import os
from _thread import allocate_lock, get_native_id  # not from threading, which numpy does not import either
from collections import deque
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import cache, lru_cache
from weakref import ref

from minnet._checks import bad_value, integer
from minnet._team import Team, current_cpu

QUOTA_FILES = [  # of control groups, version 2 and version 1
    ["/sys/fs/cgroup/cpu.max"],
    ["/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"],
]

# Seconds for which a helper of the standing team waits for work, 26 us by spinning and then giving the CPU to whoever
# wants it; and after which it leaves in any case, as the pool may have other work for it, or be about to end.
PATIENCE, STAY = 300e-6, 0.01

_chosen = None  # by set_num_threads
_helping = ContextVar("minnet_helping", default=False)


# ---- how many ----


def set_num_threads(n):
    """Set how many threads share large work, in this process and those forked from it.

    Results do not depend on it. Work that has begun goes on as it is.

    Parameters
    ----------
    n : int or None
        At least 1, the calling thread included; 1 starts no threads. None goes back to the default: the environment
        variable ``MINNET_NUM_THREADS`` or, without it, the CPUs that this process may use.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1.
    """
    global _chosen
    _chosen = None if n is None else integer("set_num_threads", "n", n, 1)
    _default_number.cache_clear()


def get_num_threads():
    """How many threads share large work, the calling thread included.

    Returns
    -------
    int
        What `set_num_threads` was told, or else the environment variable ``MINNET_NUM_THREADS``, or else the number of
        CPUs that affinity and control group leave to this process; both are read when first needed.

    Raises
    ------
    ValueError
        If ``MINNET_NUM_THREADS`` is needed and not an integer of at least 1.
    """
    chosen = _chosen
    return _default_number() if chosen is None else chosen


@cache
def _default_number():
    text = os.environ.get("MINNET_NUM_THREADS")
    return _parse_number(text) if text else min(_usable_cpus(), _granted_cpus())


def _parse_number(text):
    number = int(text) if text.strip().isdecimal() else 0
    if number < 1:
        raise bad_value("MINNET_NUM_THREADS", "must be an integer of at least 1", text)
    return number


def _usable_cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _granted_cpus():
    """CPUs that the control group grants, inf where it says nothing."""
    for paths in QUOTA_FILES:
        try:
            return _parse_quota(" ".join(map(_read, paths)))
        except (OSError, ValueError, ZeroDivisionError):  # not this version, or not to be read: no limit is known
            continue
    return math.inf


def _parse_quota(text):
    """CPUs, rounded up, from "quota period" in microseconds; "max" (version 2) and -1 (version 1) are no limit."""
    quota, period = text.split()
    return math.inf if quota in ("max", "-1") else max(1, math.ceil(int(quota) / int(period)))


def _read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


# ---- sharing ----


def run_chunks(function, total, size):
    """A list of ``function(start, stop)`` for [0, size), [size, 2 size) ... of range(total), on several threads.

    Every chunk sees the caller's context variables, np.errstate among them. After an error no more chunks are begun;
    those under way are waited for, as they may be writing to the caller's arrays, and the first error by place is
    raised, the one that a plain loop would have met. A chunk may call `run_chunks` itself: a helper does it all alone.
    """

    def chunk(start):
        return function(start, min(start + size, total))

    starts = range(0, total, size)
    threads = 1 if len(starts) < 2 or _helping.get() else get_num_threads()
    return [chunk(start) for start in starts] if threads == 1 else _Job(chunk, starts).run(threads)


def run_alone(function, *args):
    """``function(*args)`` by the calling thread alone: for the workers of a pool that has one a core already."""

    def call():
        _helping.set(True)
        return function(*args)

    return copy_context().run(call)


class _Job:
    """The chunks of one call, to be taken in order by any thread, and what came of them, by their starts."""

    def __init__(self, chunk, starts):
        self.chunk, self.starts, self.todo = chunk, starts, deque(starts)
        self.results, self.errors = {}, {}

    def run(self, threads):
        locks = [allocate_lock() for _ in range(min(threads, len(self.starts)) - 1)]  # one a helper
        try:
            self.call_helpers(locks, threads)
            self.work()
        finally:
            self.todo.clear()
            _wait(locks)
        if self.errors:
            raise self.errors.pop(min(self.errors))
        return [self.results[start] for start in self.starts]

    def call_helpers(self, locks, threads):
        _standing(os.getpid()).dismiss()
        _call_helpers([(copy_context().run, _help, ref(self), lock) for lock in locks], threads)

    def work(self):
        """Take chunks until none is left."""
        while self.todo:
            try:
                start = self.todo.popleft()  # a deque needs no lock, with the GIL or without it
            except IndexError:  # another thread was faster
                return
            try:
                self.results[start] = self.chunk(start)
            except BaseException as error:
                self.errors[start if isinstance(error, Exception) else -1] = error  # an interrupt goes before errors
                self.todo.clear()


def _help(job, lock):
    """What a thread of the pool does: hold `lock` while it works, that is from before it takes its first chunk.

    It may come late, when the caller has done all and gone; the weak reference lets the caller's arrays go with it.
    """
    _helping.set(True)
    with lock:
        job = job()
        if job is not None:
            job.work()


def _wait(locks):
    """Return when no helper works any more; helpers that come later find nothing to do."""
    try:
        for lock in locks:
            with lock:
                pass
    except BaseException:  # an interrupt: kernels still write to the caller's arrays
        _wait(locks)
        raise


def _call_helpers(calls, threads):
    """Let threads of the pool make calls (function, *arguments), soon, late or never; how many the pool has taken."""
    taken = 0
    try:
        pool = _pool(threads - 1, os.getpid())
        for call in calls:
            pool.call(*call)
            taken += 1
    except RuntimeError:  # the system has no more threads, or the interpreter is going down: the caller does it all
        _pool.cache_clear()
    return taken


def run_joined(function, team):
    """``function()``, while helpers are in ``team.join()``, until ``team.end()``.

    For work in compiled code that shares itself, see `_team.h`: it needs none of them. Calls that are made at the same
    time have their part of the threads each: helpers that wait for the next phase are in the way of other callers.
    """
    threads, teams = 1 if _helping.get() else get_num_threads(), _teams(os.getpid())
    try:
        teams.add(team)
        if threads > 1:
            _standing(os.getpid()).dismiss()
            _call_helpers([(team.join,)] * (threads // len(teams) - 1), threads)
        return function()
    finally:
        team.end()
        teams.discard(team)


@lru_cache(maxsize=1)
def _teams(process):
    """Those that are at work in this process: after a fork, those of other threads are not."""
    return set()


def standing_team(most):
    """A team for work in compiled code that up to `most` threads share, or None where the caller does it alone.

    Its helpers wait a moment for the next work of the kind, unless other work calls for them, and begin at once; those
    that do not wait are called, and come some 50 us late. Nobody waits for them: the work must be worth calling them,
    and cut in parts much shorter.
    """
    threads = 1 if most < 2 or _helping.get() else get_num_threads()
    if threads == 1:
        return None
    team = _standing(os.getpid())
    missing = min(threads, most) - 1 - team.expect()
    if missing > 0:
        team.expect(_call_helpers([(team.join, PATIENCE, STAY, team.dismissals())] * missing, threads))
    return team


@lru_cache(maxsize=1)
def _standing(process):
    """The team of this process: after a fork, helpers of the other one are not here."""
    return Team()


@lru_cache(maxsize=1)
def _pool(helpers, process):
    """Threads that help; another number of them has a new pool, and so has another process, after a fork."""
    return _Pool(helpers)


class _Pool:
    """Threads that help, and keep off the CPU of who calls them.

    Linux often wakes a thread where the one runs that wakes it, even beside an idle CPU, and leaves it there for 10 ms:
    waiting for the very thread that it should help.

    Nobody shuts a pool down, as somebody may be about to use it: its threads end with the last reference to it.
    """

    def __init__(self, helpers):
        from concurrent.futures import ThreadPoolExecutor  # some milliseconds that only large work should cost

        self.cpus = {}  # that each thread was given
        self.settled = None  # off which CPU, and how many threads there were
        self.threads = ThreadPoolExecutor(helpers, "minnet", _arrive, (self.cpus,))

    def call(self, function, *arguments):
        """Let a thread call the function."""
        here = current_cpu(), len(self.cpus)
        if here != self.settled:
            self.settled = here
            self.keep_off(here[0])
        self.threads.submit(function, *arguments)

    def keep_off(self, cpu):
        for thread, cpus in list(self.cpus.items()):
            with suppress(OSError):  # a system that does not allow it, or a thread that has ended
                os.sched_setaffinity(thread, cpus - {cpu} or cpus)


def _arrive(cpus):
    """What a new thread does first. It must not hold the pool."""
    if hasattr(os, "sched_getaffinity"):
        cpus[get_native_id()] = os.sched_getaffinity(0)
