"""Threads that share the steps of a compiled epoch: the same bits whoever comes, and nobody waits or stays."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

import minnet as mn
from minnet import _plain, _team, _threads
from minnet._threads import get_num_threads, run_alone, run_joined, set_num_threads

ROOT = Path(__file__).parents[1]
WAIT = 20  # seconds after which a test has failed
OPTIMIZERS = {
    "sgd": lambda: mn.SGD(0.01),
    "momentum": lambda: mn.SGD(0.01, momentum=0.9),
    "adam": lambda: mn.Adam(0.001, weight_decay=0.1),
}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    monkeypatch.delenv("MINNET_NUM_THREADS", raising=False)
    monkeypatch.setattr(_plain, "SHARED_CALL", 0)
    set_num_threads(None)
    yield
    monkeypatch.undo()
    set_num_threads(None)


@pytest.fixture
def crew(monkeypatch):
    """Helpers that are there in time: how many, and how many parts each of them did in each call."""
    crew = Crew()
    monkeypatch.setattr(_plain, "run_joined", crew.run)
    return crew


class Crew:
    def __init__(self):
        self.helpers, self.parts = 0, []

    def run(self, function, team):
        threads = [threading.Thread(target=lambda: self.parts.append(team.join())) for _ in range(self.helpers)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.002)
            return function()
        finally:
            team.end()
            for thread in threads:
                thread.join(WAIT)
            assert not any(thread.is_alive() for thread in threads)


def attempts(reached):
    """Once and again until something has been reached, which on a busy machine may take several times."""
    deadline = time.monotonic() + WAIT
    yield
    while not reached():
        assert time.monotonic() < deadline
        yield


def data(sizes, rows, loss="cross_entropy"):
    rng = np.random.default_rng(0)
    y = rng.integers(0, sizes[-1], rows) if loss == "cross_entropy" else rng.random((rows, sizes[-1])).round()
    return rng.standard_normal((rows, sizes[0])), y


def trained(
    sizes=(300, 130, 10), batch_size=64, rows=300, optimizer="sgd", dtype="float32", loss="cross_entropy",
    activation="relu", **options,
):  # fmt: skip
    """All that a run leaves, as bytes."""
    X, y = data(sizes, rows, loss)
    net, own = mn.MLP(sizes, activation=activation, dtype=dtype, seed=0), OPTIMIZERS[optimizer]()
    options = {"epochs": 2, "seed": 0} | options
    history = mn.fit(net, X, y, loss=loss, optimizer=own, batch_size=batch_size, **options)
    assert history.path == "epoch"
    vectors = [net.params, net.grads, *own.state.values(), np.array(history["loss"])]
    return [vector.tobytes() for vector in vectors]


# ---- the same bits ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("sizes", "loss", "activation"),
    [
        ((300, 130, 10), "cross_entropy", "relu"),
        ((130, 200, 150, 3), "mse", "sigmoid"),
        ((101, 257, 99), "bce", "tanh"),
    ],
    ids=str,
)
def test_bits_are_the_same_for_any_number_of_threads(crew, sizes, loss, activation, optimizer, dtype):
    options = {"sizes": sizes, "loss": loss, "activation": activation, "optimizer": optimizer, "dtype": dtype}
    alone = trained(**options)
    for crew.helpers in (1, 2, 7):
        crew.parts.clear()
        for _ in attempts(lambda: sum(crew.parts) > 0):
            assert trained(**options) == alone


@pytest.mark.parametrize("batch_size", [40, 63, 64, 65, 200, 300, 1000])
def test_bits_are_the_same_for_batches_of_any_size(crew, batch_size):
    alone = trained(batch_size=batch_size, optimizer="momentum")
    crew.helpers = 3
    for _ in attempts(lambda: sum(crew.parts) > 0):
        assert trained(batch_size=batch_size, optimizer="momentum") == alone


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_bits_are_the_same_with_helpers_from_the_pool(threads):
    set_num_threads(1)
    alone = trained()
    set_num_threads(threads)
    assert [trained() == alone for _ in range(20)] == [True] * 20


def test_metrics_and_validation_see_the_same_numbers(crew):
    options = {"metrics": [mn.metrics.accuracy], "validation_data": data((300, 130, 10), 50)}
    alone = trained(**options)
    crew.helpers = 3
    assert trained(**options) == alone


def compiler():
    command = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    if os.name == "nt" or not shutil.which(command):
        pytest.skip(f"needs {command}")
    return command


@pytest.mark.parametrize("flags", [[], ["-fsanitize=thread", "-g"]], ids=["fast", "watched"])
def test_tiny_phases_lose_no_part(tmp_path, flags):
    """Thousands of phases of some ns; under ThreadSanitizer, if there is one, any access that is not ordered shows."""
    source, program = ROOT / "tests" / "scripts" / "team.c", tmp_path / "team"
    command = [compiler(), "-O2", *flags, "-I", ROOT / "minnet", source, "-o", program, "-pthread"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and flags:
        pytest.skip("the compiler has no ThreadSanitizer")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program, "28", "1000"], capture_output=True, text=True, timeout=100)
    if flags and "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not run on this kernel")
    assert (done.returncode, done.stdout, done.stderr) == (0, "same\n", "")


# ---- who comes, and who goes ----


def asked(monkeypatch):
    """How many helpers each call asks for; none of them comes."""
    counts = []
    monkeypatch.setattr(_threads, "_call_helpers", lambda calls, threads: counts.append(len(calls)))
    return counts


def test_helpers_that_never_come_change_nothing(monkeypatch):
    set_num_threads(1)
    alone = trained()
    set_num_threads(3)
    counts = asked(monkeypatch)
    assert trained() == alone
    assert counts
    assert set(counts) == {2}


def samples_after_use():
    X, y = data((300, 130, 10), 300)
    X = X.astype(np.float32)
    mn.fit(mn.MLP([300, 130, 10]), X, y, loss="cross_entropy", optimizer=mn.SGD(0.1), batch_size=64)
    return weakref.ref(X)


def test_helpers_that_come_late_find_nothing_to_do(busy_helper):
    with busy_helper():
        assert samples_after_use()() is None
    assert trained()
    late = _team.Team()
    late.end()
    assert late.join() == 0


def test_small_steps_ask_for_no_help(monkeypatch):
    set_num_threads(4)
    counts = asked(monkeypatch)
    trained(sizes=(784, 30, 10), batch_size=10, rows=100)
    assert counts == []


def test_short_calls_ask_for_no_help(monkeypatch):
    set_num_threads(4)
    counts = asked(monkeypatch)
    monkeypatch.setattr(_plain, "SHARED_CALL", 300 * 130 * 300 * 2 + 1)
    trained()
    assert counts == []
    trained(epochs=3)
    assert counts == [3]


def test_calls_at_the_same_time_share_the_threads(monkeypatch):
    set_num_threads(8)
    counts = asked(monkeypatch)
    teams = [_team.Team() for _ in range(3)]
    run_joined(lambda: run_joined(lambda: run_joined(lambda: None, teams[2]), teams[1]), teams[0])
    assert counts == [7, 3, 1]
    run_joined(lambda: None, _team.Team())
    assert counts[3:] == [7]


def test_whoever_works_alone_asks_for_no_help(monkeypatch):
    set_num_threads(8)
    counts = asked(monkeypatch)
    run_alone(trained)
    assert counts == []


def test_a_helper_leaves_a_caller_that_never_ends():
    code = "from minnet import _team; print(_team.Team().join())"
    assert run_python(code) == "0\n"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_helpers_go_when_a_call_fails(error):
    set_num_threads(3)
    team, ended, begun = _team.Team(), [], threading.Barrier(3, timeout=WAIT)

    class Watched:
        def join(self):
            begun.wait()
            ended.append(team.join())

        def end(self):
            team.end()

    def fail():
        begun.wait()
        raise error("stop")

    with pytest.raises(error, match="stop"):
        run_joined(fail, Watched())
    deadline = time.monotonic() + WAIT
    while len(ended) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ended == [0, 0]


def spoil_a_sample(run):
    run.X[150] = np.inf


def spoil_a_label(run):
    run.y[150] = 10


@pytest.mark.parametrize(("spoil", "what"), [(spoil_a_sample, "loss must be finite"), (spoil_a_label, "labels")])
def test_losses_and_labels_that_are_wrong_end_a_call_with_helpers(crew, spoil, what):
    class Spoil:
        def on_epoch_end(self, run):
            spoil(run)

    crew.helpers = 3
    X, y = data((300, 130, 10), 300)
    net = mn.MLP([300, 130, 10], activation="relu", seed=0)
    options = {"loss": "cross_entropy", "optimizer": mn.SGD(0.1), "batch_size": 64, "shuffle": False}
    with pytest.raises(ValueError, match=what) as caught, np.errstate(all="ignore"):
        mn.fit(net, X.astype("f"), y, callbacks=[Spoil()], **options)
    assert caught.value.__notes__ == ["fit: in epoch 2, batch 2"]
    assert len(crew.parts) >= 6


def test_many_fits_at_once_get_the_bits_they_get_alone():
    set_num_threads(1)
    alone = trained(epochs=4)
    set_num_threads(3)
    results = []
    threads = [threading.Thread(target=lambda: results.append(trained(epochs=4))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert results == [alone] * 6
    assert len(_threads._teams(os.getpid())) == 0
    assert get_num_threads() == 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_ctrl_c_ends_a_run_with_helpers():
    def interrupt(*_):
        raise KeyboardInterrupt

    set_num_threads(3)
    X, net = np.zeros((2000, 300), np.float32), mn.MLP([300, 130, 10])
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        options = {"loss": "cross_entropy", "optimizer": mn.SGD(0.1), "batch_size": 64}
        history = mn.fit(net, X, np.zeros(2000, int), epochs=10**6, **options)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert history.interrupted
    assert len(_threads._teams(os.getpid())) == 0
    assert trained()


# ---- forks and exits ----

SCRIPT = """if True:
    import os, sys, threading, warnings
    import numpy as np
    import minnet as mn
    from minnet._threads import set_num_threads
    warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
    set_num_threads(3)
    X, y = np.random.default_rng(0).random((600, 784)), np.arange(600) % 10

    def train(epochs=5):
        net = mn.MLP([784, 128, 10], seed=0)
        mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.SGD(0.1), batch_size=64, epochs=epochs, seed=0)
        return net.params.tobytes()
"""


def run_python(code):
    """Run a script that must end by itself, without a word on stderr; what it prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_parent_and_child_both_train_after_a_fork():
    code = f"""{SCRIPT}
    right = train()
    child = os.fork()
    if not child:
        os._exit(train() != right)
    print(train() == right, os.waitpid(child, 0)[1])
    """
    assert run_python(code) == "True 0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_while_another_thread_trains():
    code = f"""{SCRIPT}
    right, done, status = train(), [], []
    thread = threading.Thread(target=lambda: [train() for _ in iter(lambda: bool(done), True)])
    thread.start()
    for _ in range(5):
        child = os.fork()
        if not child:
            os._exit(train() != right)
        status.append(os.waitpid(child, 0)[1])
    done.append(1)
    thread.join()
    print(set(status))
    """
    assert run_python(code) == "{0}\n"


def test_exit_while_a_daemon_thread_trains():
    code = f"""{SCRIPT}
    import time
    threading.Thread(target=train, args=(10**6,), daemon=True).start()
    time.sleep(0.3)
    """
    assert run_python(code) == ""
