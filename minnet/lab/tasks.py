"""Many independent tasks, on this machine or on many: results in order, as they come, kept on disk if asked.

A task is a tuple of small things (ranges, seeds, numbers), so that it costs little to send; whatever else it needs, the
worker makes or loads. Few tasks are under way at a time, so that results can be reduced as they come.
"""

import contextlib
import hashlib
import json
import os
import re
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial

import numpy as np

from minnet import __version__, files
from minnet._checks import bad_type, bad_value, optional_module, words
from minnet._threads import run_alone

__all__ = ["run_tasks"]

OWNER = "run_tasks"


def run_tasks(function, tasks, *, executor=None, store=None, question=None, progress=False, unit="task", amounts=None):
    """Results of ``function(*task)`` for each task, in their order, as they come.

    Parameters
    ----------
    function : callable
        One that workers can import. Its results must follow from its arguments alone.
    tasks : sequence of tuple
        Arguments, small and picklable.
    executor : None, concurrent.futures.Executor or dask.distributed.Client
        Who works. None is this process, where each task may use as many threads as `minnet.set_num_threads` says. In
        the workers of an executor (ProcessPoolExecutor, mpi4py.futures.MPIPoolExecutor ...) a task uses one thread, so
        have one worker a core; if tasks multiply large matrices, start those with OPENBLAS_NUM_THREADS=1, as dask does
        by itself. A cluster of dask repeats the tasks of a worker that dies. Other pools are broken then; with a
        `store` the next run goes on.
    store : str or path-like, optional
        A folder, made where there is none, of one run at a time. Every result, which must be a dict of arrays, is
        written there as soon as it has come; a run with the same question goes on from them. Damaged ones are computed
        again.
    question : dict, optional
        For `store`: all that the results depend on, as JSON takes it; arrays count by their contents. The number of the
        tasks and the version of minnet are added.
    progress : bool
        Show a bar with rate and time left (extra `progress`: tqdm).
    unit : str
        What the bar counts.
    amounts : sequence of int, optional
        How many of these each task is; 1 unless told.

    Returns
    -------
    iterator
        Work begins with the first result asked for. Closing the iterator, an error, or Ctrl-C cancels the tasks that
        have not begun. If several tasks fail, the error is that of the first in order, whichever was faster.

    Raises
    ------
    ValueError, TypeError
        If the store holds results of another question, or the executor is none.

    Examples
    --------
    >>> from minnet.lab.tasks import run_tasks
    >>> list(run_tasks(pow, [(2, 10), (3, 3)]))
    [1024, 27]
    """
    submit, room = _submitter(executor)
    kept = _Nowhere() if store is None else Store(store, question or {}, len(tasks))
    results = _in_order(_Flight(partial(submit, function), kept), tasks, room)
    return _shown(results, [1] * len(tasks) if amounts is None else amounts, unit) if progress else results


def _submitter(executor):
    """What begins a task and gives its future, and how many of them keep all workers busy."""
    if executor is None:
        return _do_now, 1
    if hasattr(executor, "get_executor") and not getattr(executor, "asynchronous", False):  # a Client of dask
        workers = sum(executor.nthreads().values())
        executor = executor.get_executor(pure=False)  # no two tasks are taken for one
    elif hasattr(executor, "submit") and not hasattr(executor, "get_executor") and not isinstance(executor, type):
        workers = getattr(executor, "_max_workers", None) or getattr(executor, "num_workers", None) or 1
    else:
        rule = "executor must be None, a concurrent.futures.Executor or a dask.distributed.Client (not asynchronous)"
        raise bad_type(OWNER, rule, executor)
    return partial(executor.submit, run_alone), 2 * max(workers, os.cpu_count() or 1)


def _do_now(function, *task):
    future = Future()
    future.set_result(function(*task))
    return future


def _in_order(flight, tasks, room):
    with contextlib.closing(flight):
        for i, task in enumerate(tasks):
            flight.add(i, task)
            if len(flight.futures) == room:
                yield flight.first()
        while flight.futures:
            yield flight.first()


class _Flight:
    """The tasks that are under way."""

    def __init__(self, submit, kept):
        self.submit, self.kept = submit, kept
        self.futures = deque()  # of the results that are still to be handed out, in order
        self.unsaved = {}  # tasks by their futures, where the result is not yet known to have come

    def add(self, i, task):
        result = self.kept.read(i)
        if result is None:
            future = self.submit(*task)
            self.unsaved[future] = i
        else:
            future = Future()
            future.set_result(result)
        self.futures.append(future)

    def first(self):
        """Wait for the first; save whatever comes before it, lest a slow task hold up what is finished."""
        while self.futures[0] in self.unsaved:
            for future in wait(self.unsaved, return_when=FIRST_COMPLETED).done:
                i = self.unsaved.pop(future)
                if not future.cancelled() and future.exception() is None:
                    self.kept.write(i, future.result())
        return self.futures.popleft().result()

    def close(self):
        for future in self.futures:
            future.cancel()


def _shown(results, amounts, unit):
    """Pass results on and show how many there are."""
    tqdm = optional_module(OWNER, "tqdm.auto", "progress").tqdm
    return _counted(results, amounts, tqdm(total=sum(amounts), unit=f" {unit}", unit_scale=True))


def _counted(results, amounts, bar):
    with contextlib.closing(results), bar:
        for result, amount in zip(results, amounts, strict=True):
            bar.update(amount)
            yield result


class _Nowhere:
    """The store of results that nobody keeps."""

    def read(self, i):
        return None

    def write(self, i, result):
        pass


class Store:
    """Results in files of a folder, one a task, beside the question that they answer.

    Attributes
    ----------
    folder : str
    fingerprint : str
        Of the question; each file has it.
    """

    FORM = "minnet result"

    def __init__(self, folder, question, tasks):
        self.folder = os.fspath(folder)
        text = json.dumps(question | {"tasks": tasks, "minnet": __version__}, default=_digest, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        os.makedirs(self.folder, exist_ok=True)
        self._remove_leftovers()
        path = os.path.join(self.folder, "question.json")
        if os.path.exists(path):
            self._compare(path, json.loads(text))
        else:
            with files.replacing(path) as file:
                file.write(text.encode())

    def read(self, i):
        """The result of task i, a dict of arrays; None if it is not there, or damaged."""
        try:
            document, arrays = files.read_document(OWNER, self._path(i), self.FORM)
        except (FileNotFoundError, ValueError):
            return None
        return arrays if (document.get("question"), document.get("task")) == (self.fingerprint, i) else None

    def write(self, i, result):
        """Write the result of task i: the file is there whole or not at all."""
        if not isinstance(result, dict) or not all(isinstance(array, np.ndarray) for array in result.values()):
            raise bad_type(OWNER, "a result must be a dict of arrays to be stored", result)
        wrong = [array.dtype for array in result.values() if array.dtype.newbyteorder("<").str not in files.DTYPES]
        if wrong:
            raise bad_type(OWNER, "arrays must be of a plain dtype to be stored", wrong[0])
        document = {"question": self.fingerprint, "task": i}
        files.write_document(OWNER, self._path(i), document, result, self.FORM)

    def _path(self, i):
        return os.path.join(self.folder, f"{i:07d}.npz")

    def _compare(self, path, asked):
        try:
            with open(path, "rb") as file:
                there = json.load(file)
            differing = [name for name in sorted(there.keys() | asked.keys()) if there.get(name) != asked.get(name)]
        except (ValueError, AttributeError) as error:
            raise bad_value(OWNER, f"{path} must hold the question of a store", words(f"{error!s:.200}")) from error
        if differing:
            got = words(f"one that differs in {', '.join(differing)}")
            raise bad_value(OWNER, f"{self.folder} must be new or the store of this question", got)

    def _remove_leftovers(self):
        """Remove what a run that was killed while it wrote has left."""
        for name in os.listdir(self.folder):
            if re.fullmatch(r".*\.(json|npy|npz)\.\d+-\d+-\d+\.tmp", name):  # as files.replacing calls them
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.folder, name))


def _digest(value):
    """An array, as it counts in a question."""
    if not isinstance(value, np.ndarray):
        raise bad_type(OWNER, "question must hold numbers, text, lists, dicts and arrays", value)
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return {"dtype": value.dtype.str, "shape": value.shape, "sha256": digest}
