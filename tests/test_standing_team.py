"""Helpers that wait for the next work on long vectors: the same bits whoever comes, and nobody waits or stays."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import minnet as mn
from minnet import _team, _threads, optimizers
from minnet import functional as F
from minnet._threads import run_alone, run_chunks, set_num_threads, standing_team
from minnet.functional import _activations, _share

WAIT = 20  # seconds after which a test has failed
SIZE = 100_003
MAKE = {
    "sgd": lambda: mn.SGD(0.1, weight_decay=0.1),
    "momentum": lambda: mn.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: mn.Adam(0.01, weight_decay=0.1),
    "adamw": lambda: mn.AdamW(0.01, weight_decay=0.1),
    "rmsprop": lambda: mn.RMSprop(0.01),
    "rmsprop of everything": lambda: mn.RMSprop(0.01, momentum=0.9, centered=True, weight_decay=0.1),
}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    monkeypatch.delenv("MINNET_NUM_THREADS", raising=False)
    monkeypatch.setattr(optimizers, "SHARE", 1000)
    monkeypatch.setattr(_share, "WORTH", 1000)
    monkeypatch.setattr(_threads, "PATIENCE", 0.005)
    monkeypatch.setattr(_threads, "Team", Watched)
    _threads._standing.cache_clear()
    set_num_threads(None)
    yield
    monkeypatch.undo()
    _threads._standing.cache_clear()
    set_num_threads(None)


def stepped(make, dtype="float32", groups=None, steps=3):
    """All that some steps leave, as bytes."""
    rng, optimizer = np.random.default_rng(0), make()
    w, g = rng.standard_normal((2, SIZE)).astype(dtype)
    if groups:
        optimizer.groups = groups
        optimizer.assign([("0.W", w[:40_001]), ("0.b", w[40_001:40_011]), ("1.W", w[40_011:])])
    for _ in range(steps):
        optimizer.step(w, g)
    return [vector.tobytes() for vector in (w, *optimizer.state.values())]


class Watched(_team.Team):
    """A team that counts the parts of helpers who have left."""

    parts = 0

    def join(self, *options):
        parts = super().join(*options)
        self.parts += parts
        return parts


def helpers():
    """How many helpers have been called and not left."""
    return _threads._standing(os.getpid()).expect()


def parts():
    """How many parts helpers did, when all have left."""
    assert soon(lambda: helpers() == 0)
    return _threads._standing(os.getpid()).parts


def soon(condition):
    """Whether `condition()` becomes true before the test has failed."""
    deadline = time.monotonic() + WAIT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


def asked(monkeypatch, come=True):
    """How many helpers each call asks for; none of them does anything, but they seem to wait, or to have left."""
    counts = []

    def call(calls, threads):
        counts.append(len(calls))
        return len(calls) if come else 0

    monkeypatch.setattr(_threads, "_call_helpers", call)
    return counts


# ---- the same bits ----


@pytest.mark.parametrize("groups", [None, {"0": {"lr": 0.3}}], ids=["whole", "groups"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_bits_are_the_same_for_any_number_of_threads(make, dtype, groups):
    set_num_threads(1)
    alone = stepped(make, dtype, groups)
    for threads in (2, 3, 8):
        set_num_threads(threads)
        _threads._standing.cache_clear()  # parts are counted anew
        for _ in range(10):  # on a busy machine helpers may come too late several times
            assert stepped(make, dtype, groups) == alone
            if parts() > 0:
                break


FULL = {"return_grad": True, "reduction": "sum"}
ELEMENTS = {  # x, targets in [0, 1], weights: all of SIZE
    "sigmoid": lambda x, t, w: F.sigmoid(x),
    "tanh": lambda x, t, w: F.tanh(x),
    "softplus": lambda x, t, w: F.softplus(x),
    "log_sigmoid": lambda x, t, w: F.log_sigmoid(x),
    "relu": lambda x, t, w: F.relu(x),
    "softmax": lambda x, t, w: F.softmax(x[: SIZE // 100 * 100].reshape(-1, 100)),
    "softmax of few": lambda x, t, w: F.softmax(x[: SIZE // 7 * 7].reshape(-1, 7)),
    "softmax of many": lambda x, t, w: F.softmax(x[: SIZE // 2 * 2].reshape(2, -1)),
    "log_softmax": lambda x, t, w: F.log_softmax(x[: SIZE // 33 * 33].reshape(-1, 33)),
    "softmax of columns": lambda x, t, w: F.softmax(x[: SIZE // 100 * 100].reshape(100, -1), axis=0),
    "backward": lambda x, t, w: _activations.chain(x, t),
    "sigmoid and slope": lambda x, t, w: _activations.value_and_slope("sigmoid", x),
    "binary": lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, return_grad=True),
    "binary losses": lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, reduction="none", return_grad=True),
    "weighted rows": lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, sample_weight=w, **FULL),
    "weights in double": lambda x, t, w: F.mse_loss(x, t, sample_weight=w.astype(float), **FULL),
    "weights that repeat": lambda x, t, w: F.binary_cross_entropy_with_logits(
        x[: SIZE // 7 * 7].reshape(-1, 7), t[: SIZE // 7 * 7].reshape(-1, 7), pos_weight=w[:7], weight=w[7:14], **FULL
    ),
    "focal": lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, gamma=1.7, label_smoothing=0.1, **FULL),
    "probabilities": lambda x, t, w: F.binary_cross_entropy(t, t[::-1], weight=w, **FULL),
    "huber": lambda x, t, w: F.huber_loss(x, t, **FULL),
    "variances that repeat": lambda x, t, w: F.gaussian_nll_loss(x, t, w[0], var_grad=True, **FULL),
}


def computed(name, dtype):
    """What a function of long vectors gives, as bytes."""
    rng = np.random.default_rng(0)
    x, t, w = 4 * rng.standard_normal(SIZE), rng.random(SIZE), 0.5 + rng.random(SIZE)
    found = ELEMENTS[name](*(a.astype(dtype) for a in (x, t, w)))
    return [np.asarray(a).tobytes() for a in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTS)
def test_functions_of_elements_give_the_same_bits_for_any_number_of_threads(name, dtype):
    set_num_threads(1)
    alone = computed(name, dtype)
    for threads in (2, 3, 8):
        set_num_threads(threads)
        _threads._standing.cache_clear()
        for _ in range(10):
            assert computed(name, dtype) == alone
            if parts() > 0:
                break


@pytest.mark.parametrize("threads", [1, 3])
def test_a_vector_of_more_elements_than_small_parts_hold_is_summed_whole(threads):
    set_num_threads(threads)
    x = np.ones(2**23 + 5, np.float32)  # above 512 parts of 2^14
    x[::1000] = 3
    assert F.l1_loss(x, np.zeros_like(x), reduction="sum") == x.sum(dtype=float)


@pytest.mark.parametrize("offset", [0, 1, 13])
def test_what_no_cache_holds_is_the_same(offset):
    set_num_threads(3)
    size, room = 2**23 + 77, np.full(2**23 + 100, np.nan, np.float32)
    x, y = np.arange(size, dtype=np.float32) % 977 - 500, room[offset : offset + size]
    F.softplus(x, out=y)
    assert (y == np.tile(F.softplus(x[:977]), size // 977 + 1)[:size]).all()
    assert np.isnan(room[:offset]).all()
    assert np.isnan(room[offset + size :]).all()


def test_a_wrong_target_is_found_in_any_part():
    set_num_threads(2)
    for wrong in (0, SIZE // 2, SIZE - 1):
        t = np.zeros(SIZE)
        t[wrong] = 1.5
        with pytest.raises(ValueError, match=rf"^binary_cross_entropy_with_logits: .* 1\.5 in row {wrong}$"):
            F.binary_cross_entropy_with_logits(np.zeros(SIZE), t)


@pytest.mark.skipif(_threads._usable_cpus() == 1 or os.name == "nt", reason="needs two CPUs, and a team")
def test_helpers_take_part():
    set_num_threads(2)
    optimizer, w, g = MAKE["adam"](), np.ones(2**20), np.ones(2**20)
    deadline = time.monotonic() + WAIT
    while parts() == 0:
        assert time.monotonic() < deadline
        for _ in range(5):
            optimizer.step(w, g)


def test_many_threads_at_once_get_the_bits_they_get_alone():
    set_num_threads(1)
    alone = {name: stepped(make, steps=20) for name, make in MAKE.items()}
    set_num_threads(3)
    results = {}

    def step(name):
        results[name] = stepped(MAKE[name], steps=20)

    threads = [threading.Thread(target=step, args=(name,)) for name in MAKE]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert results == alone


def test_the_number_may_change_between_steps():
    set_num_threads(1)
    alone = stepped(MAKE["adam"], steps=12)
    rng, optimizer = np.random.default_rng(0), MAKE["adam"]()
    w, g = rng.standard_normal((2, SIZE)).astype("float32")
    for threads in (2, 5, 1, 3, 1, 2) * 2:
        set_num_threads(threads)
        optimizer.step(w, g)
    assert w.tobytes() == alone[0]


# ---- who comes, and who goes ----


def test_a_helper_leaves_when_nothing_comes():
    set_num_threads(2)
    standing_team(2)
    assert soon(lambda: helpers() == 0)
    assert _team.Team().join(0.001) == 0
    assert _team.Team().join(10**6, 0.001) == 0


def test_a_helper_that_waits_is_not_called_again(monkeypatch):
    set_num_threads(2)
    counts = asked(monkeypatch)
    stepped(MAKE["sgd"])
    assert counts == [1]


def test_a_helper_that_has_left_is_called_again(monkeypatch):
    set_num_threads(2)
    counts = asked(monkeypatch, come=False)
    stepped(MAKE["sgd"])
    assert counts == [1, 1, 1]


@pytest.mark.parametrize("arrived", [True, False])
def test_other_work_need_not_wait_until_a_helper_leaves(monkeypatch, arrived):
    set_num_threads(2)
    monkeypatch.setattr(_threads, "PATIENCE", 100)
    monkeypatch.setattr(_threads, "STAY", 100)
    standing_team(2)
    if arrived:
        time.sleep(0.05)
    meet = threading.Barrier(2, timeout=WAIT)  # of the caller, and the one helper there is
    assert sorted(run_chunks(lambda start, stop: meet.wait(), 2, 1)) == [0, 1]
    assert helpers() == 0


def test_work_says_how_many_may_come(monkeypatch):
    set_num_threads(8)
    counts = asked(monkeypatch)
    assert standing_team(0) is None
    assert standing_team(1) is None
    assert counts == []
    team = standing_team(3)
    assert standing_team(6) is team
    assert standing_team(2) is team
    assert standing_team(100) is team
    assert counts == [2, 3, 2]
    assert helpers() == 7


def test_one_thread_asks_for_no_help_and_gets_none(monkeypatch):
    counts = asked(monkeypatch)
    set_num_threads(1)
    stepped(MAKE["adam"])
    set_num_threads(8)
    run_alone(stepped, MAKE["adam"])
    monkeypatch.setattr(optimizers, "SHARE", SIZE // 2 + 1)
    stepped(MAKE["adam"])
    assert counts == []


def test_a_helper_of_other_work_steps_alone():
    set_num_threads(3)
    caller, meet, teams = threading.current_thread(), threading.Barrier(3, timeout=WAIT), {}

    def chunk(start, stop):
        meet.wait()
        teams[threading.current_thread()] = standing_team(3)

    run_chunks(chunk, 3, 1)
    assert [team is None for thread, team in teams.items() if thread is not caller] == [True, True]
    assert teams[caller] is not None


def test_a_busy_pool_changes_nothing(busy_helper):
    set_num_threads(1)
    alone = stepped(MAKE["momentum"])
    with busy_helper():
        assert stepped(MAKE["momentum"]) == alone
        assert helpers() == 1
    assert parts() == 0


def test_no_threads_at_all_leave_the_step_to_the_caller(monkeypatch):
    set_num_threads(1)
    alone = stepped(MAKE["momentum"])
    set_num_threads(12)  # a number that has no pool yet

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert stepped(MAKE["momentum"]) == alone
    assert helpers() == 0


# ---- forks and exits ----

SCRIPT = """if True:
    import os, sys, threading, time, warnings
    import numpy as np
    import minnet as mn
    from minnet import _threads, optimizers
    warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
    mn.set_num_threads(3)
    optimizers.SHARE = 1000

    def step(steps=20):
        optimizer, w, g = mn.Adam(), np.ones(100_003, np.float32), np.ones(100_003, np.float32)
        for _ in range(steps):
            optimizer.step(w, g)
        return w.tobytes()
"""


def run_python(code):
    """Run a script that must end by itself, without a word on stderr; what it prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_parent_and_child_both_step_after_a_fork():
    code = f"""{SCRIPT}
    right = step()
    for _ in range(5):
        step()
        child = os.fork()  # while helpers still wait
        if not child:
            os._exit(step() != right)
        print(step() == right, os.waitpid(child, 0)[1])
    """
    assert run_python(code) == 5 * "True 0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_has_helpers_of_its_own():
    code = f"""{SCRIPT}
    _threads.PATIENCE = 0.1
    team = _threads.standing_team(3)
    child = os.fork()
    if not child:
        other = _threads.standing_team(3)
        late = time.monotonic() + 20
        while other.expect() and time.monotonic() < late:
            time.sleep(0.01)
        os._exit(other is team or other.expect())
    print(os.waitpid(child, 0)[1])
    """
    assert run_python(code) == "0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_while_another_thread_steps():
    code = f"""{SCRIPT}
    right, done, status = step(), [], []
    thread = threading.Thread(target=lambda: [step() for _ in iter(lambda: bool(done), True)])
    thread.start()
    for _ in range(10):
        child = os.fork()
        if not child:
            os._exit(step() != right)
        status.append(os.waitpid(child, 0)[1])
    done.append(1)
    thread.join()
    print(set(status))
    """
    assert run_python(code) == "{0}\n"


def test_exit_while_a_daemon_thread_steps():
    code = f"""{SCRIPT}
    threading.Thread(target=step, args=(10**9,), daemon=True).start()
    time.sleep(0.3)
    """
    assert run_python(code) == ""


def test_steps_at_exit_are_taken():
    code = f"""{SCRIPT}
    import atexit
    right = step()
    atexit.register(lambda: print(step() == right))
    """
    assert run_python(code) == "True\n"
