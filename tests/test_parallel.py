"""Data-parallel training: what all ranks must have in common, and what one process would have done.

Most tests run the ranks as threads of this process, over a communicator of a dozen lines; the last part runs them as
processes, over the real one (mpi4py and an mpiexec), if there is one.
"""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import minnet as mn
from minnet import files


class Ended(BaseException):
    """What Abort does to the ranks of a `World`."""


class World:
    """A communicator of so many threads, with what mpi4py's has and fit uses."""

    def __init__(self, size):
        self.size, self.barrier, self.slots, self.rank = size, threading.Barrier(size), [None] * size, threading.local()
        self.aborted, self.reduced = None, []

    def Get_size(self):
        return self.size

    def Get_rank(self):
        return self.rank.number

    def _all(self, given):
        """What every rank has given, as bytes travel: nothing is shared."""
        self.slots[self.rank.number] = pickle.dumps(given)
        try:
            self.barrier.wait(20)
            taken = [pickle.loads(slot) for slot in self.slots]
            self.barrier.wait(20)
        except threading.BrokenBarrierError:
            raise Ended from None
        return taken

    def Allreduce(self, sent, received):
        assert sent.dtype == received.dtype
        assert sent.shape == received.shape
        assert sent is not received
        everything = self._all(sent)
        assert len({array.shape for array in everything}) == 1  # else real ranks would hang, or worse
        received[...] = np.sum(everything, axis=0)
        if self.rank.number == 0:
            self.reduced.append(len(sent))

    def bcast(self, thing, root=0):
        return self._all(thing)[root]

    def Abort(self, code):
        self.aborted = self.aborted or (self.rank.number, code)
        self.barrier.abort()
        raise Ended

    def run(self, job):
        """What `job(rank, comm)` gives, or raises, on every rank."""
        results = [None] * self.size

        def rank(number):
            self.rank.number = number
            try:
                results[number] = job(number, self)
            except BaseException as error:
                results[number] = error

        threads = [threading.Thread(target=rank, args=(number,)) for number in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        return results


def together(size, job):
    """Results of a job that no rank fails in."""
    results = World(size).run(job)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def data(rows=60, classes=3):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((rows, 4))
    return X, (X[:, :classes] @ rng.standard_normal((classes, classes))).argmax(axis=1)


def shares(rows, size, batch):
    """Rows of each of `size` ranks, batch for batch a part of every batch of one process."""
    return [np.arange(rows)[np.arange(rows) % (batch * size) // batch == rank] for rank in range(size)]


def a_net(dtype="float64", seed=0):
    return mn.MLP([4, 5, 3], activation="tanh", dtype=dtype, seed=seed)


OPTIMIZERS = {
    "sgd": lambda: mn.SGD(0.3),
    "momentum": lambda: mn.SGD(mn.schedules.Plateau(0.2, patience=1, min_delta=0.05), momentum=0.9, nesterov=True),
    "adam": lambda: mn.Adam(0.02, clip_norm=0.5),
    "adamw": lambda: mn.AdamW(0.02, decay_biases=False, groups={"0": {"lr": 0.01}}),
    "rmsprop": lambda: mn.RMSprop(0.01, centered=True),
}
WEIGHTS = [0.2, 1.0, 3.0]
LOSSES = {
    "mean": lambda: mn.CrossEntropyLoss(),
    "sum": lambda: mn.CrossEntropyLoss(reduction="sum"),
    "batchmean": lambda: mn.CrossEntropyLoss(reduction="batchmean", weight=WEIGHTS),
    "class weights": lambda: mn.CrossEntropyLoss(weight=WEIGHTS),
    "ignored labels": lambda: mn.CrossEntropyLoss(ignore_index=1),
    "weights and ignored labels": lambda: mn.FocalLoss(weight=WEIGHTS, ignore_index=0),
    "mse": lambda: mn.MSELoss(),
}


def targets_for(name, y):
    return np.eye(3)[y] if name == "mse" else y


# ---- what one process would have done ----


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_end_where_one_process_does(make, size, dtype, tolerance):
    compare_with_one("mean", mn.CrossEntropyLoss, make, size, rows=60, dtype=dtype, tolerance=tolerance)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows", [60, 53, 17])  # shares of the same length; one shorter; one that ends batches before
def test_every_loss_is_that_of_all_rows(name, rows):
    lr = 0.01 if name == "sum" else 0.3
    compare_with_one(name, LOSSES[name], lambda: mn.SGD(lr, momentum=0.5), 2, rows, "float64", 1e-13)


def compare_with_one(name, loss, optimizer, size, rows, dtype, tolerance):
    X, y = data(rows)
    y, metrics = targets_for(name, y), [] if name == "mse" else [mn.metrics.accuracy]
    settings = {"epochs": 4, "shuffle": False, "metrics": metrics}

    def job(rank, comm):
        net, own = a_net(dtype), shares(rows, size, 5)[rank]
        history = mn.fit(
            net, X[own], y[own], loss=loss(), optimizer=optimizer(), batch_size=5, comm=comm,
            validation_data=(X[own][:7], y[own][:7]), **settings,
        )  # fmt: skip
        return net.params, history.rows

    held = np.concatenate([own[:7] for own in shares(rows, size, 5)])
    one = a_net(dtype)
    expected = mn.fit(
        one, X, y, loss=loss(), optimizer=optimizer(), batch_size=5 * size, validation_data=(X[held], y[held]),
        **settings,
    )  # fmt: skip
    results = together(size, job)
    assert np.max(np.abs(one.params - a_net(dtype).params)) > 0.01
    for params, found in results:
        assert params.tobytes() == results[0][0].tobytes()
        assert found == results[0][1]  # times, too
        np.testing.assert_allclose(params, one.params, rtol=tolerance, atol=tolerance)
        for row, wanted in zip(found, expected.rows, strict=True):
            assert list(row) == list(wanted)
            for column in set(row) - {"seconds"}:
                assert row[column] == pytest.approx(wanted[column], rel=10 * tolerance, abs=tolerance), column


def test_batches_of_sources_may_be_as_many_as_a_rank_has():
    X, y = data(60)
    counts = [5, 9, 1]

    def job(rank, comm):
        net = a_net()
        batches = [(X[i : i + 4], y[i : i + 4]) for i in range(counts[rank])]
        history = mn.fit(net, batches, loss="cross_entropy", optimizer=mn.Adam(0.02), epochs=2, comm=comm)
        return net.params, history.rows

    net = a_net()
    steps = [[rank for rank in range(3) if i < counts[rank]] for i in range(9)]
    union = [tuple(np.concatenate([part[i : i + 4]] * len(there)) for part in (X, y)) for i, there in enumerate(steps)]
    expected = mn.fit(net, union, loss="cross_entropy", optimizer=mn.Adam(0.02), epochs=2)
    for params, rows in together(3, job):
        np.testing.assert_allclose(params, net.params, rtol=1e-13)
        assert [row["loss"] for row in rows] == pytest.approx(expected["loss"], rel=1e-13)


def test_one_allreduce_a_step_over_the_flat_gradient():
    X, y = data(60)
    world = World(2)

    def job(rank, comm):
        own = shares(60, 2, 5)[rank]
        mn.fit(a_net(), X[own], y[own], loss="cross_entropy", optimizer=mn.SGD(), epochs=3, batch_size=5, comm=comm)

    world.run(job)
    # Six steps an epoch, and one more in which nobody has rows: its end.
    assert world.reduced.count(a_net().size + 3) == 3 * (6 + 1)


@pytest.mark.parametrize("fit", ["comm", "no comm"])
def test_a_communicator_of_one_changes_no_bit(fit):
    X, y = data()
    net, options = a_net("float32"), {"epochs": 3, "batch_size": 7, "seed": 4}

    def job(rank, comm):
        mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.Adam(), comm=comm if fit == "comm" else None, **options)

    together(1, job)
    alone = a_net("float32")
    mn.fit(alone, X, y, loss="cross_entropy", optimizer=mn.Adam(), **options)
    assert net.params.tobytes() == alone.params.tobytes()


# ---- what ranks have in common ----


def dropout_net(seed):
    return mn.Sequential([mn.Linear(4, 8), mn.Sigmoid(), mn.Dropout(0.3), mn.Linear(8, 3)], seed=seed)


def test_all_start_from_the_first_rank_and_stay_the_same_bits():
    X, y = data()

    def job(rank, comm):
        net, optimizer, own = dropout_net(seed=rank), mn.Adam(0.01), shares(60, 3, 5)[rank]
        start = net.params.copy()
        if rank == 0:  # a state that the others do not have
            optimizer.step(net.params, np.ones_like(net.params))
        mn.fit(net, X[own], y[own], loss="cross_entropy", optimizer=optimizer, epochs=3, seed=rank, comm=comm)
        return net.params, start, optimizer.steps, optimizer.state["mean"]

    results = together(3, job)
    assert results[0][1].tobytes() != results[1][1].tobytes()
    for params, _, steps, mean in results:
        assert steps == 1 + 3
        assert params.tobytes() == results[0][0].tobytes()
        assert mean.tobytes() == results[0][3].tobytes()


def test_every_rank_draws_for_itself():
    drawn = {}

    class Note(mn.Dropout):
        def forward(self, x, rng=None):
            if rng is not None:
                drawn.setdefault(threading.get_ident(), []).append(rng.bit_generator.state["state"]["state"])
            return super().forward(x, rng)

    def job(rank, comm):
        net = mn.Sequential([mn.Linear(4, 8), Note(0.3), mn.Linear(8, 3)], seed=0)
        mn.fit(net, *data(20), loss="cross_entropy", optimizer=mn.SGD(), epochs=3, batch_size=5, seed=7, comm=comm)

    together(3, job)
    states = [state for seen in drawn.values() for state in seen]
    assert len(states) == len(set(states)) == 3 * 3 * 4


def test_the_same_seed_gives_the_same_bits():
    def job(rank, comm):
        net = dropout_net(seed=0)
        mn.fit(net, *data(20 + rank), loss="cross_entropy", optimizer=mn.SGD(), epochs=3, seed=7, comm=comm)
        return net.params.tobytes()

    assert len({*together(2, job), *together(2, job)}) == 1


class StopIn:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run):
        run.stop = run.epoch == self.epoch


@pytest.mark.parametrize("stopping", [0, 1])
def test_the_first_rank_decides_when_to_stop(stopping):
    def job(rank, comm):
        callbacks = [StopIn(2)] if rank == stopping else []
        settings = {"epochs": 4, "callbacks": callbacks, "comm": comm}
        return len(mn.fit(a_net(), *data(), loss="cross_entropy", optimizer=mn.SGD(), **settings))

    assert together(2, job) == ([2, 2] if stopping == 0 else [4, 4])


def test_early_stopping_decides_alike_on_different_data():
    X, y = data(200)

    def job(rank, comm):
        net, own = a_net(), shares(100, 2, 5)[rank]
        settings = {"optimizer": mn.Adam(0.1), "epochs": 200, "batch_size": 5, "seed": 0, "comm": comm}
        held = X[100 + 50 * rank :][:50], y[100 + 50 * rank :][:50]
        callbacks = [mn.EarlyStopping(patience=2)]
        history = mn.fit(
            net, X[own], y[own], loss="cross_entropy", validation_data=held, callbacks=callbacks, **settings
        )
        return len(history), net.params.tobytes()

    first, second = together(2, job)
    assert first == second
    assert first[0] < 200


# ---- files ----


def test_the_first_rank_writes_the_files(tmp_path, capsys):
    def job(rank, comm):
        folder = tmp_path / str(rank)
        folder.mkdir()
        callbacks = [mn.Checkpoint(folder / "a.npz"), mn.CSVLogger(folder / "a.csv"), mn.ProgressBar()]
        mn.fit(a_net(), *data(), loss="cross_entropy", optimizer=mn.SGD(), epochs=2, callbacks=callbacks, comm=comm)

    together(2, job)
    assert sorted(os.listdir(tmp_path / "0")) == ["a.csv", "a.npz"]
    assert os.listdir(tmp_path / "1") == []
    assert capsys.readouterr().err.count("\n") == 1  # the end of one bar


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    X, y = data()

    def train(name, stop, resume):
        def job(rank, comm):
            net, own = dropout_net(seed=0), shares(60, 2, 5)[rank]
            callbacks = [mn.EarlyStopping("loss", patience=50), mn.Checkpoint(tmp_path / name, resume=resume)]
            callbacks += [StopIn(stop)]
            history = mn.fit(
                net, X[own], y[own], loss="cross_entropy", optimizer=mn.Adam(0.02), epochs=6, batch_size=5, seed=3,
                callbacks=callbacks, comm=comm,
            )  # fmt: skip
            return net.params.tobytes(), history["loss"]

        return together(2, job)

    whole = train("whole.npz", 99, False)
    train("part.npz", 2, False)
    assert train("part.npz", 99, True) == whole
    assert len(whole[0][1]) == 6
    assert whole[0] == whole[1]


def test_a_file_that_only_some_ranks_see_is_refused(tmp_path):
    def job(rank, comm, epochs=2):
        callbacks = [mn.Checkpoint(tmp_path / f"{rank if epochs == 4 else 0}.npz", resume=True)]
        settings = {"epochs": epochs, "callbacks": callbacks, "comm": comm}
        mn.fit(a_net(), *data(), loss="cross_entropy", optimizer=mn.SGD(), **settings)

    together(2, job)
    first, second = World(2).run(lambda rank, comm: job(rank, comm, 4))
    assert re_match(first, RuntimeError, "fit: rank 1 failed: ValueError: fit: epochs done must be as on rank 0, 2")
    assert re_match(second, ValueError, "fit: epochs done must be as on rank 0, 2, got 0")
    assert files.read("test", tmp_path / "0.npz")[2]["epoch"] == 2


# ---- errors ----


def re_match(error, kind, beginning):
    return type(error) is kind and str(error).startswith(beginning)


@pytest.mark.parametrize("comm", [object(), World, 3, "MPI.COMM_WORLD"])
def test_what_is_no_communicator_is_refused(comm):
    with pytest.raises(TypeError, match=r"^fit: comm must be a communicator such as mpi4py's MPI.COMM_WORLD, got"):
        mn.fit(a_net(), *data(), loss="cross_entropy", optimizer=mn.SGD(), comm=comm)


WRONG = {
    "label": ({"y": np.full(60, 9)}, "ValueError: cross_entropy: labels must be in 0 ... 2, got 9 in row 0"),
    "rows": ({"X": np.empty((0, 4)), "y": np.empty(0, int)}, "ValueError: fit: X must have at least one row"),
    "epochs": ({"epochs": 3}, "ValueError: fit: epochs must be as on rank 0, 2, got 3"),
    "loss": ({"loss": "mse", "y": np.zeros((60, 3))}, "ValueError: fit: loss must be as on rank 0, CrossEntropyLoss"),
    "net": (
        {"net": mn.MLP([4, 2, 3])},
        "ValueError: fit: parameters must be as on rank 0, 43 of float64, got 19 of",
    ),
    "metrics": ({"metrics": [mn.metrics.accuracy]}, "ValueError: fit: metrics must be as on rank 0, [], got"),
    "validation": ({"validation_data": data()}, "ValueError: fit: validation_data must be as on rank 0, none, got"),
    "optimizer": ({"optimizer": mn.Adam()}, "ValueError: Adam.set_state: kind must be one of 'Adam', got 'SGD'"),
    "callback": ({"callbacks": [mn.SaturationProbe(), 3]}, "TypeError: fit: a callback must be an object with"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_of_one_rank_is_an_error_on_all(name):
    change, message = WRONG[name]
    X, y = data()

    def job(rank, comm):
        call = {"net": a_net(), "X": X, "y": y, "loss": "cross_entropy", "optimizer": mn.SGD(), "epochs": 2}
        return mn.fit(**(call | change if rank == 1 else call), comm=comm)

    world = World(3)
    first, second, third = world.run(job)
    assert f"{type(second).__name__}: {second}".startswith(message)
    assert re_match(first, RuntimeError, f"fit: rank 1 failed: {message}")
    assert re_match(third, RuntimeError, f"fit: rank 1 failed: {message}")
    assert world.aborted is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_on_one_rank_is_an_error_on_all():
    X, y = data()

    def job(rank, comm):
        own = X.copy()
        if rank == 1:
            own[7] = np.nan
        net, end = a_net(), []

        class End:
            def on_train_end(self, run):
                end.append(net.params.tobytes())

        try:
            settings = {"batch_size": 5, "shuffle": False, "callbacks": [End()], "comm": comm}
            mn.fit(net, own, y, loss="cross_entropy", optimizer=mn.SGD(), **settings)
        except ValueError as error:
            return error, end

    world = World(2)
    results = world.run(job)
    for error, end in results:
        message = "fit: loss must be finite, got nan in epoch 1, batch 1; the largest gradient is nan in 0.W"
        assert re_match(error, ValueError, message)
        assert error.__notes__ == ["fit: in epoch 1, batch 1"]
        assert end == results[0][1]
    assert world.aborted is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_rank_without_rows_sees_the_error_too():
    X, y = data()
    X[40:] = np.nan

    def job(rank, comm):
        own = X[:20] if rank == 0 else X[20:]
        settings = {"batch_size": 5, "shuffle": False, "comm": comm}
        mn.fit(a_net(), own, y[: len(own)], loss="cross_entropy", optimizer=mn.SGD(), **settings)

    for error in World(2).run(job):
        assert re_match(error, ValueError, "fit: loss must be finite, got nan in epoch 1, batch 4")


class Fail:
    """Raises an error on one rank."""

    def __init__(self, event, error):
        setattr(self, event, self.fail)
        self.error = error

    def fail(self, run):
        if run.ranks.rank == 1:
            raise self.error


@pytest.mark.parametrize("event", ["on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_error_of_one_rank_ends_the_job(event, error, capsys):
    def job(rank, comm):
        settings = {"callbacks": [Fail(event, error)], "comm": comm}
        mn.fit(a_net(), *data(), loss="cross_entropy", optimizer=mn.SGD(), **settings)

    world = World(2)
    results = world.run(job)
    assert world.aborted == (1, 1)
    assert all(isinstance(result, BaseException) for result in results)
    printed = capsys.readouterr().err
    assert "fit: rank 1 failed, and ends the job" in printed
    assert type(error).__name__ in printed


@pytest.mark.parametrize("event", ["on_train_begin", "on_train_end"])
def test_an_error_before_or_after_training_is_one_on_all_ranks(event):
    def job(rank, comm):
        settings = {"callbacks": [Fail(event, OSError("the disk is full"))], "comm": comm}
        mn.fit(a_net(), *data(), loss="cross_entropy", optimizer=mn.SGD(), epochs=1, **settings)

    world = World(2)
    first, second = world.run(job)
    assert re_match(first, RuntimeError, "fit: rank 1 failed: OSError: the disk is full")
    assert re_match(second, OSError, "the disk is full")
    assert world.aborted is None


def test_a_rank_that_changes_its_parameters_is_found(capsys):
    class Change:
        def on_batch_end(self, run):
            if run.ranks.rank == 1:
                run.net.params[0] = np.nextafter(run.net.params[0], 9)

    def job(rank, comm):
        mn.fit(a_net(), *data(), loss="cross_entropy", optimizer=mn.SGD(), callbacks=[Change()], comm=comm)

    world = World(2)
    world.run(job)
    assert world.aborted == (1, 1)
    assert "fit: parameters must be the same bits on all ranks, got others on rank 1" in capsys.readouterr().err


# ---- processes ----

MPIEXEC = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")

PROGRAM = """
import os, signal, sys
import numpy as np
import minnet as mn
from mpi4py import MPI

comm, what = MPI.COMM_WORLD, sys.argv[1]
rank, size = comm.Get_rank(), comm.Get_size()
assert size == 2
rng = np.random.default_rng(1)
X = rng.standard_normal((200, 4))
y = (X[:, :3] @ rng.standard_normal((3, 3))).argmax(axis=1)
own = np.arange(200) % 20 // 10 == rank
net = mn.MLP([4, 5, 3], seed=rank)

class Trouble:
    def on_batch_end(self, run):
        if rank == 1 and run.epoch == 3 and run.batch == 4:
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "raises":
                raise OSError("the disk is full")

if what == "wrong" and rank == 1:
    y[own] = 7
if what == "nan" and rank == 1:
    X[own][3] = np.nan
    X[30:40] = np.nan
if what == "uneven" and rank == 1:
    own &= np.arange(200) < 130
callbacks, drawn = [Trouble()], what in ("killed", "resumed", "whole")
if drawn:
    callbacks.append(mn.Checkpoint(f"{sys.argv[2]}/run.npz", resume=what == "resumed"))
history = mn.fit(net, X[own], y[own], loss="cross_entropy", optimizer=mn.Adam(0.02), epochs=5, batch_size=10,
                 shuffle=drawn, seed=rank, validation_data=(X[own], y[own]), callbacks=callbacks, comm=comm)
np.savez(f"{sys.argv[2]}/{rank}.npz", params=net.params, loss=history["loss"], val=history["val_loss"])
"""


def on_two_ranks(code, *arguments):
    command = [MPIEXEC, "-n", "2", sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def mpi():
    """Runs the program on two ranks, where mpi4py and an mpiexec of the same MPI are there."""
    pytest.importorskip("mpi4py")
    if MPIEXEC is None:
        pytest.skip("needs mpiexec: pip install mpich")
    tried = on_two_ranks("from mpi4py import MPI; print(MPI.COMM_WORLD.Get_size())")
    if tried.stdout.count("2") != 2:
        pytest.skip(f"mpiexec does not start two ranks of mpi4py: {tried.stdout}{tried.stderr}")
    return lambda what, folder: on_two_ranks(PROGRAM, what, str(folder))


@pytest.mark.parametrize("what", ["even", "uneven"])
def test_two_processes_end_where_one_does(mpi, tmp_path, what):
    done = mpi(what, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in (0, 1))
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes()
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 4))
    y = (X[:, :3] @ rng.standard_normal((3, 3))).argmax(axis=1)
    batches = [np.arange(start, start + 20) for start in range(0, 200, 20)]
    if what == "uneven":
        batches = [rows[(rows % 20 < 10) | (rows < 130)] for rows in batches]
    used, net = np.concatenate(batches), mn.MLP([4, 5, 3], seed=0)
    history = mn.fit(
        net, [(X[rows], y[rows]) for rows in batches], loss="cross_entropy", optimizer=mn.Adam(0.02), epochs=5,
        validation_data=(X[used], y[used]),
    )  # fmt: skip
    np.testing.assert_allclose(first["params"], net.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first["loss"], history["loss"], rtol=1e-6)
    np.testing.assert_allclose(first["val"], history["val_loss"], rtol=1e-6)


TROUBLES = {
    "killed": "",
    "raises": "OSError: the disk is full",
    "wrong": "RuntimeError: fit: rank 1 failed: ValueError: cross_entropy: labels must be in 0 ... 2, got 7 in row 0",
    "nan": "ValueError: fit: loss must be finite, got nan in epoch 1, batch 1",
}


@pytest.mark.parametrize("what", TROUBLES)
def test_trouble_on_one_rank_ends_the_job_with_an_error(mpi, tmp_path, what):
    done = mpi(what, tmp_path)
    assert done.returncode != 0
    if what == "killed":
        assert done.returncode in (signal.SIGKILL, 128 + signal.SIGKILL, -signal.SIGKILL)
    assert TROUBLES[what] in done.stderr
    assert [name for name in os.listdir(tmp_path) if name[0] in "01"] == []


def test_a_killed_job_goes_on_to_the_same_bits(mpi, tmp_path):
    for name in ("whole", "other"):
        (tmp_path / name).mkdir()
    assert mpi("whole", tmp_path / "whole").returncode == 0
    assert mpi("killed", tmp_path / "other").returncode != 0
    assert files.read("test", tmp_path / "other" / "run.npz")[2]["epoch"] == 2
    assert mpi("resumed", tmp_path / "other").returncode == 0
    for rank in (0, 1):
        whole, other = (dict(np.load(tmp_path / name / f"{rank}.npz")) for name in ("whole", "other"))
        for name, array in whole.items():
            assert array.tobytes() == other[name].tobytes()
