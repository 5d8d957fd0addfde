"""Threads: cuts, order, errors, who takes part, forks, exits, and how many threads there are by default."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minnet import _threads
from minnet._threads import get_num_threads, run_chunks, set_num_threads

WAIT = 10  # seconds after which a test has failed


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    monkeypatch.delenv("MINNET_NUM_THREADS", raising=False)
    set_num_threads(None)
    yield
    monkeypatch.undo()
    set_num_threads(None)


def run_python(code, **environment):
    """Run a script that must end by itself, without a word on stderr; what it prints."""
    command, env = [sys.executable, "-c", code], {**os.environ, **environment}
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def meeting(parties):
    """A chunk that ends only when `parties` threads are inside it at once; it returns the thread."""
    barrier = threading.Barrier(parties, timeout=WAIT)

    def chunk(start, stop):
        barrier.wait()
        return threading.current_thread()

    return chunk


def helpers_alive():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("minnet")]


def soon(condition):
    """Whether `condition()` becomes true before the test has failed."""
    deadline = time.monotonic() + WAIT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# ---- cuts and order ----


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("total", "size", "cuts"),
    [
        (0, 4, []),
        (1, 4, [(0, 1)]),
        (4, 4, [(0, 4)]),
        (5, 4, [(0, 4), (4, 5)]),
        (12, 4, [(0, 4), (4, 8), (8, 12)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
        (3, 10**30, [(0, 3)]),
    ],
)
def test_cuts_are_fixed_and_results_in_order(total, size, cuts, threads):
    set_num_threads(threads)
    assert run_chunks(lambda start, stop: (start, stop), total, size) == cuts


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_chunk_runs_once(threads):
    set_num_threads(threads)
    calls = np.zeros(10_007, int)

    def count(start, stop):
        calls[start:stop] += 1

    assert run_chunks(count, len(calls), 10) == [None] * 1001
    assert (calls == 1).all()


def test_results_are_bit_identical_for_every_number_of_threads(rng):
    x = rng.normal(size=1_000_000)
    sums = []
    for threads in (1, 2, 3, 8):
        set_num_threads(threads)
        sums.append(sum(run_chunks(lambda start, stop: x[start:stop].sum(), len(x), 1000)))
    assert len(set(sums)) == 1


# ---- who takes part ----


def test_work_alone_starts_no_thread_and_loads_no_pool():
    code = """if True:
        import sys, threading
        from minnet._threads import run_chunks, set_num_threads
        who = lambda start, stop: threading.current_thread().name
        def report(*arguments):
            names = set(run_chunks(who, *arguments))
            print(names == {"MainThread"}, threading.active_count(), "concurrent.futures" in sys.modules)
        set_num_threads(4); report(10, 10)
        set_num_threads(1); report(100, 10)
        set_num_threads(4); run_chunks(who, 100, 10)
        print(threading.active_count() > 1, "concurrent.futures" in sys.modules)
    """
    assert run_python(code) == "True 1 False\nTrue 1 False\nTrue True\n"


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_all_threads_and_the_caller_take_part(threads):
    set_num_threads(threads)
    took_part = run_chunks(meeting(threads), threads, 1)
    assert len(set(took_part)) == threads
    assert threading.current_thread() in took_part


def test_a_slow_chunk_does_not_hold_up_the_rest():
    set_num_threads(2)
    last = threading.Event()

    def chunk(start, stop):
        return last.wait(WAIT) if start == 0 else last.set() if start == 9 else None

    assert run_chunks(chunk, 10, 1)[0] is True


def test_chunks_see_the_callers_context():
    set_num_threads(3)
    meet = meeting(3)

    def chunk(start, stop):
        meet(start, stop)
        return np.geterr()

    with np.errstate(over="raise", invalid="print"):
        expected = np.geterr()
        assert run_chunks(chunk, 3, 1) == [expected] * 3


def test_helpers_that_come_late_keep_nothing_alive(busy_helper):
    with busy_helper():
        assert array_after_use()() is None


def array_after_use():
    x = np.ones(10)
    assert run_chunks(lambda start, stop: x[start], 10, 5) == [1, 1]
    return weakref.ref(x)


needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")


@needs_affinity
@pytest.mark.skipif(_threads._usable_cpus() == 1, reason="needs two CPUs")
def test_helpers_leave_the_callers_cpu_to_the_caller():
    set_num_threads(3)
    ours = os.sched_getaffinity(0)
    try:
        for cpu in sorted(ours)[:2] * 2:
            os.sched_setaffinity(0, {cpu})
            run_chunks(meeting(3), 3, 1)
            run_chunks(meeting(3), 3, 1)  # new threads keep off from their second call on
            given = _threads._pool(2, os.getpid()).cpus
            assert len(given) == 2
            for thread, cpus in given.items():
                assert os.sched_getaffinity(thread) == (cpus - {cpu} or cpus)
    finally:
        os.sched_setaffinity(0, ours)


@needs_affinity
def test_helpers_stay_where_the_system_does_not_let_them_move(monkeypatch):
    def refuse(thread, cpus):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    set_num_threads(4)
    for _ in range(3):
        assert len(set(run_chunks(meeting(4), 4, 1))) == 4


def test_a_system_that_tells_no_cpus_has_helpers_too(monkeypatch):
    monkeypatch.setattr(_threads, "current_cpu", lambda: -1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    set_num_threads(5)
    for _ in range(3):
        assert len(set(run_chunks(meeting(5), 5, 1))) == 5


# ---- errors and interrupts ----


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_first_error_by_place_is_raised_and_no_chunk_is_left_running(threads):
    set_num_threads(threads)
    begun, ended = [], []

    def chunk(start, stop):
        begun.append(start)
        try:
            time.sleep(0.02 if start == 3 else 0.001)  # the first by place is the last by time
            if start >= 3:
                raise ValueError(f"chunk {start}")
        finally:
            ended.append(start)

    with pytest.raises(ValueError, match=r"^chunk 3$"):
        run_chunks(chunk, 1000, 1)
    assert sorted(begun) == sorted(ended)
    assert set(range(4)) <= set(begun)
    assert len(begun) <= 3 + threads
    time.sleep(0.02)
    assert len(begun) == len(ended)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_helpers_error_reaches_the_caller_and_the_pool_lives_on(error):
    set_num_threads(2)
    caller, meet = threading.current_thread(), meeting(2)

    def chunk(start, stop):
        if meet(start, stop) is not caller:
            raise error("from a helper")

    for _ in range(3):
        with pytest.raises(error, match="from a helper"):
            run_chunks(chunk, 2, 1)
    assert len(set(run_chunks(meeting(2), 2, 1))) == 2


@pytest.fixture
def _interruptible():
    """Ctrl-C interrupts, also where the tests run in the background of a shell, which has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
@pytest.mark.parametrize("callers_chunk", [0.0, 5.0], ids=["while waiting", "in a chunk"])
def test_an_interrupt_waits_for_the_running_chunks(callers_chunk):
    set_num_threads(2)
    caller, meet, ended = threading.current_thread(), meeting(2), []

    def chunk(start, stop):
        if meet(start, stop) is caller:
            return time.sleep(callers_chunk)
        for _ in range(2):  # those in a hurry press Ctrl-C twice
            time.sleep(0.1)
            signal.pthread_kill(caller.ident, signal.SIGINT)
        time.sleep(0.2)
        ended.append(start)

    with pytest.raises(KeyboardInterrupt):
        run_chunks(chunk, 2, 1)
    assert len(ended) == 1


def test_an_interrupt_goes_before_the_error_of_an_earlier_chunk():
    set_num_threads(2)
    meet = meeting(2)

    def chunk(start, stop):
        meet(start, stop)
        raise (ValueError, KeyboardInterrupt)[start]

    with pytest.raises(KeyboardInterrupt):
        run_chunks(chunk, 2, 1)


def test_a_pool_that_fails_halfway_costs_no_chunk(monkeypatch):
    set_num_threads(3)
    submit = ThreadPoolExecutor.submit

    def submit_and_fail(*arguments):
        submit(*arguments)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_and_fail)
    meet = meeting(2)  # of the caller, and the helper that nobody heard of
    took_part = run_chunks(lambda start, stop: meet(start, stop) if start < 2 else None, 100, 1)
    assert len(set(took_part[:2])) == 2


def test_no_threads_at_all_leave_the_work_to_the_caller(monkeypatch):
    set_num_threads(11)  # a number that has no pool yet

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert run_chunks(lambda start, stop: start, 100, 1) == list(range(100))
    assert _threads._pool.cache_info().currsize == 0  # calls for help that nobody hears do not pile up


def test_an_interrupt_between_chunks_leaves_the_rest_undone(monkeypatch):
    set_num_threads(2)
    submit, begun, first = ThreadPoolExecutor.submit, [], threading.Event()

    def submit_and_interrupt(*arguments):
        submit(*arguments)
        first.wait(WAIT)
        raise KeyboardInterrupt

    def chunk(start, stop):
        begun.append(start)
        first.set()
        time.sleep(0.05)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_chunks(chunk, 10, 1)
    assert begun == [0]


# ---- many calls at once ----


@pytest.mark.parametrize("threads", [2, 3])
def test_nested_calls_end(threads):
    set_num_threads(threads)
    meet = meeting(threads)

    def outer(row, stop):
        meet(row, stop)
        return sum(run_chunks(lambda start, stop: sum(run_chunks(lambda a, b: a + row, 3, 1)), 4, 1))

    assert run_chunks(outer, threads, 1) == [4 * (3 + 3 * row) for row in range(threads)]


def test_a_helper_does_nested_work_alone():
    set_num_threads(3)
    caller, meet, one = threading.current_thread(), meeting(3), threading.Lock()

    def inner(start, stop):
        time.sleep(0.005)  # time enough for the other helper, which is idle, to join in
        return threading.current_thread()

    def outer(start, stop):
        me = meet(start, stop)
        if me is not caller and one.acquire(blocking=False):
            return set(run_chunks(inner, 20, 1)) == {me}

    assert sorted(run_chunks(outer, 3, 1), key=str) == [None, None, True]


def add_rows(seed):
    """Add two arrays in chunks, numpy letting the GIL go, again and again; whether all sums were right."""
    x = np.random.default_rng(seed).normal(size=(64, 4096))
    y, right = np.empty_like(x), True
    for _ in range(30):
        y[:] = np.nan
        run_chunks(lambda start, stop: np.add(x[start:stop], seed, out=y[start:stop]), len(x), 3)
        right = right and np.array_equal(y, x + seed)
    return right


def test_calls_from_many_threads_at_once():
    set_num_threads(3)
    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(add_rows, range(8), timeout=WAIT)) == [True] * 8


def test_the_number_may_change_under_load_and_old_threads_end():
    with ThreadPoolExecutor(4) as callers:
        running = [callers.submit(add_rows, seed) for seed in range(4)]
        changes = 0
        while not all(future.done() for future in running):
            set_num_threads(1 + changes % 5)
            changes += 1
            time.sleep(0.001)
        assert all(future.result() for future in running)
    assert changes > 5
    set_num_threads(2)
    assert len(set(run_chunks(meeting(2), 2, 1))) == 2
    assert soon(lambda: len(helpers_alive()) == 1), helpers_alive()


# ---- forks and exits ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit()"])
def test_parent_and_child_both_compute_after_a_fork(leave):
    code = f"""if True:
        import os, sys, threading, warnings
        import numpy as np
        from minnet._threads import run_chunks, set_num_threads
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        set_num_threads(3)
        x = np.arange(300_000.0)

        def compute():
            for _ in range(20):
                y = np.empty_like(x)
                run_chunks(lambda start, stop: np.add(x[start:stop], 1, out=y[start:stop]), len(x), 10_000)
                assert np.array_equal(y, x + 1)
            barrier = threading.Barrier(3, timeout=10)
            run_chunks(lambda start, stop: barrier.wait(), 3, 1)

        compute()
        child = os.fork()
        compute()
        if not child:
            {leave}
        print(os.waitpid(child, 0)[1])
    """
    assert run_python(code) == "0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_while_other_threads_compute():
    code = """if True:
        import os, threading, time, warnings
        from minnet._threads import run_chunks, set_num_threads
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        set_num_threads(3)
        done = False

        def compute():
            return run_chunks(lambda start, stop: sum(range(start, stop)), 3000, 100)

        def compute_on():
            while not done:
                compute()

        right = compute()
        threads = [threading.Thread(target=compute_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        status = []
        for _ in range(10):
            child = os.fork()
            if not child:
                os._exit(compute() != right)
            status.append(os.waitpid(child, 0)[1])
        done = True
        print(set(status))
    """
    assert run_python(code) == "{0}\n"


@pytest.mark.parametrize("before", ["", "compute()"], ids=["first use", "pool in use"])
def test_work_at_exit_is_done(before):
    code = f"""if True:
        import atexit
        from minnet._threads import run_chunks, set_num_threads
        set_num_threads(3)
        compute = lambda: print(run_chunks(lambda start, stop: stop, 5, 1))
        {before}
        atexit.register(compute)
    """
    assert run_python(code) == "[1, 2, 3, 4, 5]\n" * (2 if before else 1)


def test_exit_while_a_daemon_thread_computes():
    code = """if True:
        import threading, time
        from minnet._threads import run_chunks, set_num_threads
        set_num_threads(3)

        def compute_on():
            while True:
                run_chunks(lambda start, stop: None, 50, 1)

        threading.Thread(target=compute_on, daemon=True).start()
        time.sleep(0.2)
    """
    assert run_python(code) == ""


def test_import_loads_no_threading():
    code = """if True:
        import sys, numpy
        before = set(sys.modules)
        import minnet._threads
        print({"threading", "concurrent.futures", "logging", "queue"} & (set(sys.modules) - before))
    """
    assert run_python(code) == "set()\n"


# ---- how many ----


def test_number_is_what_was_set_until_none():
    default = get_num_threads()
    set_num_threads(np.int64(default + 3))
    assert get_num_threads() == default + 3
    assert type(get_num_threads()) is int
    set_num_threads(None)
    assert get_num_threads() == default


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, r"^set_num_threads: n must be at least 1, got 0$"),
        (-2, ValueError, r"^set_num_threads: n must be at least 1, got -2$"),
        (2.0, TypeError, r"^set_num_threads: n must be an integer, got 2\.0$"),
        ("2", TypeError, r"^set_num_threads: n must be an integer, got '2'$"),
        (True, TypeError, r"^set_num_threads: n must be an integer, got True$"),
    ],
)
def test_bad_number_changes_nothing(n, error, message):
    set_num_threads(7)
    with pytest.raises(error, match=message):
        set_num_threads(n)
    assert get_num_threads() == 7


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("12", 12), (" 3 ", 3)])
def test_environment_says_how_many(monkeypatch, text, number):
    monkeypatch.setenv("MINNET_NUM_THREADS", text)
    assert get_num_threads() == number
    set_num_threads(5)
    assert get_num_threads() == 5


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "many", "1e3", " "])
def test_bad_environment_is_named(monkeypatch, text):
    monkeypatch.setenv("MINNET_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"^MINNET_NUM_THREADS: must be an integer of at least 1, got '{text}'$"):
        get_num_threads()


def test_environment_is_read_at_first_use():
    code = """if True:
        import os, minnet._threads as threads
        os.environ["MINNET_NUM_THREADS"] = "6"
        print(threads.get_num_threads())
        os.environ["MINNET_NUM_THREADS"] = "7"
        print(threads.get_num_threads())
        threads.set_num_threads(None)
        print(threads.get_num_threads())
    """
    assert run_python(code, MINNET_NUM_THREADS="bad at import") == "6\n6\n7\n"


@pytest.mark.parametrize(
    ("usable", "granted", "number"), [(8, math.inf, 8), (8, 3, 3), (2, 6, 2)], ids=["no quota", "quota", "affinity"]
)
def test_default_is_the_smaller_of_affinity_and_quota(monkeypatch, usable, granted, number):
    monkeypatch.setattr(_threads, "_usable_cpus", lambda: usable)
    monkeypatch.setattr(_threads, "_granted_cpus", lambda: granted)
    monkeypatch.setenv("MINNET_NUM_THREADS", "")  # as good as none
    assert get_num_threads() == number


def test_affinity_counts_where_there_is_one(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5}, raising=False)
    assert _threads._usable_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert _threads._usable_cpus() == 9
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _threads._usable_cpus() == 1


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000\n", math.inf),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("-1\n 100000\n", math.inf),
        ("450000\n 100000\n", 5),
    ],
)
def test_quota_is_rounded_up(text, cpus):
    assert _threads._parse_quota(text) == cpus


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"v2": "250000 100000\n"}, 3),
        ({"quota": "400000\n", "period": "100000\n"}, 4),
        ({"v2": "max 100000\n", "quota": "400000\n", "period": "100000\n"}, math.inf),
        ({"v2": "nonsense", "quota": "400000\n", "period": "100000\n"}, 4),
        ({"quota": "400000\n"}, math.inf),
        ({"v2": "1 0"}, math.inf),
        ({}, math.inf),
    ],
    ids=["version 2", "version 1", "version 2 first", "unreadable", "half", "no period", "none"],
)
def test_quota_is_read_from_either_version(monkeypatch, tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    paths = [[tmp_path / "v2"], [tmp_path / "quota", tmp_path / "period"]]
    monkeypatch.setattr(_threads, "QUOTA_FILES", paths)
    assert _threads._granted_cpus() == cpus
