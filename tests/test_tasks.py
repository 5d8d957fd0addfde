"""Tasks on every kind of executor: the same results in the same order, whoever works, whoever is killed."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from minnet import _threads
from minnet.lab import run_tasks, tasks

TASKS = [(i, 10) for i in range(20)]


def powers(i, n):
    return {"powers": np.arange(n, dtype=np.float64) ** i, "task": np.array(i)}


def fail_on_odd(i):
    if i % 2:
        raise ValueError(f"{i} is odd")
    return i


def alone():
    return _threads._helping.get()


def die_once(mark, i):
    """The worker of the sixth task is killed, the first time."""
    if i == 5 and not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"i": np.array(i)}


def processes():
    return ProcessPoolExecutor(2, get_context("spawn"))


@pytest.fixture(scope="module")
def pool():
    with processes() as executor:
        yield executor


def packed(results):
    return [{name: (array.dtype.str, array.shape, array.tobytes()) for name, array in r.items()} for r in results]


class Slow(Executor):
    """Finishes its tasks when it is told, in whatever order."""

    def __init__(self):
        self.futures = []

    def submit(self, function, *task):
        self.futures.append((Future(), function, task))
        return self.futures[-1][0]

    def finish(self, i):
        future, function, task = self.futures[i]
        try:
            future.set_result(function(*task))
        except Exception as error:
            future.set_exception(error)


# ---- results ----


def test_results_come_in_order_from_every_executor(pool):
    want = packed(itertools.starmap(powers, TASKS))
    with ThreadPoolExecutor(3) as threads:
        for executor in (None, threads, pool):
            assert packed(run_tasks(powers, TASKS, executor=executor)) == want


def test_no_task_no_result(pool, tmp_path):
    assert list(run_tasks(pow, [])) == list(run_tasks(pow, [], executor=pool, store=tmp_path)) == []


def test_work_begins_with_the_first_result_asked_for():
    slow = Slow()
    results = run_tasks(pow, TASKS, executor=slow)
    assert not slow.futures
    results.close()
    assert not slow.futures


def test_few_tasks_are_under_way():
    """However many there are: memory is for so many results, not for all."""
    slow, room = Slow(), 2 * max(1, os.cpu_count())
    results = run_tasks(pow, [(2, 3)] * 10_000, executor=slow)
    worker = threading.Thread(target=next, args=(results,))
    worker.start()
    while len(slow.futures) < room:
        time.sleep(0.001)
    slow.finish(0)
    worker.join(10)
    assert len(slow.futures) == room
    results.close()
    assert all(future.cancelled() for future, *_ in slow.futures[1:])


def test_a_task_of_an_executor_uses_one_thread(pool):
    with ThreadPoolExecutor(1) as threads:
        assert list(run_tasks(alone, [()], executor=threads)) == [True]
    assert list(run_tasks(alone, [()], executor=pool)) == [True]
    assert list(run_tasks(alone, [()])) == [False]
    assert not alone()


# ---- errors ----


def test_the_first_error_in_order_is_raised_whichever_came_first():
    slow = Slow()
    results = run_tasks(fail_on_odd, [(0,), (1,), (2,), (3,)], executor=slow)
    later = threading.Timer(0.05, lambda: [slow.finish(i) for i in (3, 2, 1, 0)])
    later.start()
    assert next(results) == 0
    with pytest.raises(ValueError, match="1 is odd"):
        next(results)
    later.join()


def test_an_error_in_a_process_cancels_the_rest(pool):
    results = run_tasks(fail_on_odd, [(i,) for i in (0, 2, 4, 5, *range(0, 10_000, 2))], executor=pool)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(ValueError, match="5 is odd"):
        next(results)
    assert list(run_tasks(pow, [(2, 3)], executor=pool)) == [8]


def test_a_pool_whose_worker_died_is_broken_and_the_next_goes_on(tmp_path):
    mark, store = tmp_path / "mark", tmp_path / "store"
    with processes() as pool, pytest.raises(BrokenProcessPool):
        list(run_tasks(die_once, [(str(mark), i) for i in range(10)], executor=pool, store=store))
    assert len(list(store.glob("*.npz"))) < 10
    with processes() as pool:
        results = list(run_tasks(die_once, [(str(mark), i) for i in range(10)], executor=pool, store=store))
    assert [int(result["i"]) for result in results] == list(range(10))


@pytest.mark.parametrize("executor", [2, "threads", list, ThreadPoolExecutor, object()])
def test_what_is_no_executor_is_refused(executor):
    with pytest.raises(TypeError, match=r"run_tasks: executor must be None, a concurrent\.futures\.Executor or a dask"):
        run_tasks(pow, TASKS, executor=executor)


# ---- the store ----


class Counted:
    """powers, and how often it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, i, n):
        self.calls.append(i)
        return powers(i, n)


def test_a_store_gives_back_what_was_finished(tmp_path, pool):
    want = packed(run_tasks(powers, TASKS))
    results = run_tasks(powers, TASKS, executor=pool, store=tmp_path, question={"n": 10})
    assert packed(itertools.islice(results, 7)) == want[:7]
    results.close()
    finished = len(list(tmp_path.glob("*.npz")))
    assert 7 <= finished < 20
    work = Counted()
    assert packed(run_tasks(work, TASKS, store=tmp_path, question={"n": 10})) == want
    assert work.calls == list(range(finished, 20))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    list(run_tasks(powers, TASKS, store=tmp_path / "other", question={"n": 10}))
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == files


def test_what_is_finished_is_saved_before_a_slow_task_that_comes_first(tmp_path):
    slow = Slow()
    results = run_tasks(powers, TASKS[:4], executor=slow, store=tmp_path)
    worker = threading.Thread(target=lambda: list(results))
    worker.start()
    while len(slow.futures) < 4:
        time.sleep(0.001)
    slow.finish(2)
    while not (tmp_path / "0000002.npz").exists():
        time.sleep(0.001)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["0000002.npz"]
    for i in (0, 1, 3):
        slow.finish(i)
    worker.join(10)
    assert len(list(tmp_path.glob("*.npz"))) == 4


def test_finished_tasks_are_kept_when_another_fails(tmp_path):
    with pytest.raises(TypeError):
        list(run_tasks(powers, [(1, 3), (2, 3), (3, None), (4, 3)], store=tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["0000000.npz", "0000001.npz"]


def flipped(data):
    return data[:-200] + bytes([data[-200] ^ 1]) + data[-199:]


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:100], flipped, lambda data: b"PK\x03\x04" * 50, lambda data: data[200:]],
)
def test_a_damaged_result_is_computed_again(damage, tmp_path):
    want = packed(run_tasks(powers, TASKS, store=tmp_path))
    path = tmp_path / "0000005.npz"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    work = Counted()
    assert packed(run_tasks(work, TASKS, store=tmp_path)) == want
    assert work.calls == [5]
    assert path.read_bytes() == whole


def test_results_of_other_tasks_and_questions_are_not_taken(tmp_path):
    list(run_tasks(powers, TASKS, store=tmp_path / "a"))
    list(run_tasks(powers, TASKS, store=tmp_path / "b", question={"n": 10}))
    shutil.copy(tmp_path / "a" / "0000003.npz", tmp_path / "a" / "0000004.npz")
    shutil.copy(tmp_path / "b" / "0000006.npz", tmp_path / "a" / "0000006.npz")
    work = Counted()
    list(run_tasks(work, TASKS, store=tmp_path / "a"))
    assert work.calls == [4, 6]


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    (tmp_path / "0000001.npz.123-456-789.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("kept")
    list(run_tasks(powers, TASKS, store=tmp_path))
    assert len(list(tmp_path.iterdir())) == 22
    assert (tmp_path / "notes.txt").read_text() == "kept"


QUESTION = {"w": np.arange(3.0), "lr": 0.1, "names": ["a", "b"], "more": {"deep": None}}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"lr": 0.2}, "lr"),
        ({"w": np.arange(3.0) + 1e-16}, "w"),
        ({"w": np.array([0, 1, 2.5])}, "w"),
        ({"w": np.arange(3)}, "w"),
        ({"names": ["b", "a"], "more": {}}, "more, names"),
        ({"new": 1}, "new"),
    ],
)
def test_a_store_of_another_question_is_refused(changed, named, tmp_path):
    list(run_tasks(powers, TASKS, store=tmp_path, question=QUESTION))
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    rule = f"must be new or the store of this question, got one that differs in {named}$"
    with pytest.raises(ValueError, match=rule):
        run_tasks(powers, TASKS, store=tmp_path, question=QUESTION | changed)
    with pytest.raises(ValueError, match="differs in tasks"):
        run_tasks(powers, TASKS[:9], store=tmp_path, question=QUESTION)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "nul", "\x00\xff"])
def test_a_damaged_question_is_a_clear_error(text, tmp_path):
    (tmp_path / "question.json").write_text(text)
    with pytest.raises(ValueError, match=r"question\.json must hold the question of a store"):
        run_tasks(powers, TASKS, store=tmp_path)


def test_the_question_can_be_read(tmp_path):
    list(run_tasks(powers, TASKS, store=tmp_path, question=QUESTION))
    question = json.loads((tmp_path / "question.json").read_text())
    assert question["lr"] == 0.1
    assert question["tasks"] == 20
    assert question["w"]["shape"] == [3]


@pytest.mark.parametrize("result", [3, [1], {"a": 1.0}, {"a": np.array(["text"])}, {"a": np.array([None])}])
def test_results_that_cannot_be_stored_are_refused(result, tmp_path):
    with pytest.raises(TypeError, match=r"run_tasks: (a result|arrays) must be"):
        list(run_tasks(lambda: result, [()], store=tmp_path))
    assert list(tmp_path.glob("*.npz")) == []


def test_a_question_must_be_of_plain_things(tmp_path):
    with pytest.raises(TypeError, match="question must hold numbers, text, lists, dicts and arrays"):
        run_tasks(powers, TASKS, store=tmp_path, question={"f": powers})


# ---- progress ----


def test_progress_shows_rate_and_total(capsys):
    pytest.importorskip("tqdm")
    assert len(list(run_tasks(pow, [(2, 3)] * 4, progress=True, unit="update", amounts=[1000] * 4))) == 4
    shown = capsys.readouterr().err
    assert "4.00k/4.00k" in shown
    assert "update/s" in shown


# ---- clusters: real ones, each in a process of its own ----

SCRIPTS = Path(__file__).parent / "scripts"


def run_script(*command, timeout=120):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(tasks.__file__).parents[2]), *sys.path])}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="needs dask.distributed")
def test_a_dask_cluster_loses_a_worker_and_nothing_else(tmp_path):
    """Two worker processes over TCP; one of them is killed in mid-run."""
    done = run_script(sys.executable, SCRIPTS / "map_on_dask.py", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["address"].startswith("tcp://127.0.0.1:")
    assert len(report["workers"]) == 2
    assert 1 <= report["finished_when_killed"] < report["tasks"]
    assert report["killed"] not in report["workers_afterwards"]
    assert report["same_bytes"]


def mpiexec():
    return shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mpi4py") is None or mpiexec() is None, reason="needs mpi4py and mpiexec")
def test_mpi_processes_share_a_map(tmp_path):
    command = [mpiexec(), "-n", 3, sys.executable, "-m", "mpi4py.futures", SCRIPTS / "map_on_mpi.py"]
    done = run_script(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"ranks": [1, 2], "same_bytes": True}
