"""Checkpoint: a run that was stopped, interrupted or killed and goes on ends with the bits of one that was not."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import minnet as mn
from minnet import files

SUFFIXES = [".npz", ".safetensors"]
by_suffix = pytest.mark.parametrize("suffix", SUFFIXES)


@pytest.fixture
def path(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"run{suffix}"


def data():
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((90, 4)), np.arange(90) % 3
    return X + y[:, None] * [1, -1, 0, 0], y


def net(dtype="float32", seed=0):
    layers = [mn.Linear(4, 8, dtype=dtype), mn.Tanh(), mn.Dropout(0.3), mn.Linear(8, 3, dtype=dtype)]
    return mn.Sequential(layers, seed=seed)


OPTIMIZERS = {
    "sgd": lambda: mn.SGD(0.3),
    "momentum": lambda: mn.SGD(mn.schedules.Cosine(0.2, epochs=8), momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: mn.Adam(mn.schedules.WarmUp(mn.schedules.Plateau(0.05, patience=0), epochs=2), clip_norm=0.5),
    "adamw": lambda: mn.AdamW(0.02, groups={"3": {"lr": mn.schedules.Step(0.05, every=3)}}, decay_biases=False),
    "rmsprop": lambda: mn.RMSprop(0.01, momentum=0.5, centered=True),
}


def run(make=OPTIMIZERS["momentum"], epochs=8, callbacks=(), dtype="float32", **options):
    X, y = data()
    model, optimizer = options.pop("model", None) or net(dtype), make()
    options = {"loss": "cross_entropy", "batch_size": 16, "seed": 3, "validation_data": (X[:30], y[:30])} | options
    return model, mn.fit(model, X, y, optimizer=optimizer, epochs=epochs, callbacks=callbacks, **options)


def without_times(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


class StopIn:
    """Ends the run in the middle of an epoch, by an error."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error

    def on_batch_end(self, run):
        if run.epoch == self.epoch and run.batch == 2:
            raise self.error


# ---- going on ----


@by_suffix
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(path, make, dtype):
    whole, expected = run(make, dtype=dtype)
    for epoch in (3, 6):
        _, part = run(make, dtype=dtype, callbacks=[mn.Checkpoint(path, resume=True), StopIn(epoch)])
        assert part.interrupted
        assert len(part) == epoch - 1
    # another start and another seed: all that counts comes from the file
    model, history = run(make, model=net(dtype, seed=7), seed=9, callbacks=[mn.Checkpoint(path, resume=True)])
    assert model.params.tobytes() == whole.params.tobytes()
    assert without_times(history) == without_times(expected)


@by_suffix
@pytest.mark.parametrize("bits", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_generator_goes_on(path, bits):
    def rng():
        return np.random.Generator(getattr(np.random, bits)(4))

    whole, _ = run(seed=rng())
    run(seed=rng(), callbacks=[mn.Checkpoint(path, resume=True), StopIn(4)])
    model, _ = run(seed=rng(), callbacks=[mn.Checkpoint(path, resume=True)])
    assert model.params.tobytes() == whole.params.tobytes()


@by_suffix
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("stopped_in", [2, 5, 9])
def test_callbacks_go_on_with_what_they_remember(path, tmp_path, stopped_in, first):
    def callbacks(*others):
        mine = [mn.EarlyStopping(patience=3), mn.SaturationProbe(), mn.CSVLogger(tmp_path / "log.csv"), *others]
        checkpoint = mn.Checkpoint(path, resume=True)
        return mine[0], mine[1], [checkpoint, *mine] if first else [*mine, checkpoint]

    def quick():
        return mn.Adam(0.2)

    stopping, probe, without = callbacks()
    whole, expected = run(quick, epochs=30, callbacks=[c for c in without if not isinstance(c, mn.Checkpoint)])
    assert stopping.best_epoch + 3 == len(expected) < 30
    log = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()
    run(quick, epochs=30, callbacks=callbacks(StopIn(stopped_in))[2])
    again_stopping, again_probe, with_it = callbacks()
    model, history = run(quick, epochs=30, callbacks=with_it)
    assert model.params.tobytes() == whole.params.tobytes()
    assert without_times(history) == without_times(expected)
    assert (again_stopping.best, again_stopping.best_epoch) == (stopping.best, stopping.best_epoch)
    assert again_probe.rows == probe.rows
    assert len((tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()) == len(log)


@by_suffix
def test_a_finished_run_is_not_trained_on(path):
    model, history = run(callbacks=[mn.Checkpoint(path)])
    again, same = run(model=net(seed=1), callbacks=[mn.Checkpoint(path, resume=True), StopIn(1)])
    assert again.params.tobytes() == model.params.tobytes()
    assert same.rows == history.rows
    assert not same.interrupted


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    def callbacks():
        return [mn.EarlyStopping(patience=1), mn.Checkpoint(tmp_path / "run.npz", resume=True)]

    model, history = run(lambda: mn.Adam(0.2), epochs=30, callbacks=callbacks())
    again, same = run(lambda: mn.Adam(0.2), epochs=99, callbacks=[*callbacks(), StopIn(len(history) + 1)])
    assert len(history) < 30
    assert not same.interrupted
    assert same.rows == history.rows
    assert again.params.tobytes() == model.params.tobytes()


def test_a_run_that_ran_out_of_time_goes_on(tmp_path):
    whole, _ = run()
    for epochs in range(1, 9):
        model, history = run(callbacks=[mn.StopAfter(0), mn.Checkpoint(tmp_path / "run.npz", every=5, resume=True)])
        assert len(history) == epochs
    assert model.params.tobytes() == whole.params.tobytes()


def test_more_epochs_may_follow(tmp_path):
    whole, expected = run(epochs=8)
    run(epochs=5, callbacks=[mn.Checkpoint(tmp_path / "run.npz")])
    model, history = run(epochs=8, callbacks=[mn.Checkpoint(tmp_path / "run.npz", resume=True)])
    assert model.params.tobytes() == whole.params.tobytes()
    assert without_times(history) == without_times(expected)
    assert len(run(epochs=2, callbacks=[mn.Checkpoint(tmp_path / "run.npz", resume=True)])[1]) == 8


def test_without_resume_a_run_starts_anew(tmp_path):
    path = tmp_path / "run.npz"
    run(epochs=3, callbacks=[mn.Checkpoint(path)])
    model, history = run(epochs=2, callbacks=[mn.Checkpoint(path)])
    assert len(history) == 2
    assert model.params.tobytes() == run(epochs=2)[0].params.tobytes()
    assert files.read("test", path)[2]["epoch"] == 2


def test_a_checkpoint_changes_nothing_of_training(tmp_path):
    assert run()[0].params.tobytes() == run(callbacks=[mn.Checkpoint(tmp_path / "a.npz")])[0].params.tobytes()


@pytest.mark.parametrize(("every", "written"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (9, [5])])
def test_a_file_is_written_every_so_many_epochs_and_at_the_end(tmp_path, monkeypatch, every, written):
    epochs, real = [], files.write
    monkeypatch.setattr(files, "write", lambda *a: (epochs.append(a[3]["epoch"]), real(*a)))
    run(epochs=5, callbacks=[mn.Checkpoint(tmp_path / "a.npz", every=every)])
    assert epochs == written


@by_suffix
def test_load_reads_the_net(path):
    model, _ = run(callbacks=[mn.Checkpoint(path)])
    twin = mn.load(path)
    assert repr(twin) == repr(model)
    assert twin.params.tobytes() == model.params.tobytes()


def test_the_progress_bar_starts_where_the_run_goes_on(tmp_path, capsys):
    pytest.importorskip("tqdm")
    run(epochs=3, callbacks=[mn.Checkpoint(tmp_path / "a.npz")])
    progress = mn.ProgressBar()
    run(epochs=5, callbacks=[progress, mn.Checkpoint(tmp_path / "a.npz", resume=True)])
    assert (progress.bar.initial, progress.bar.n, progress.bar.total) == (3, 5, 5)


def test_what_callbacks_note_is_kept(tmp_path):
    class Note:
        def on_epoch_end(self, run):
            run.history[-1].update(
                name="a", scalar=np.float32(0.1), zero=np.array(0.5), list=[1, None], array=np.arange(3.0)
            )

    run(epochs=2, callbacks=[Note(), mn.Checkpoint(tmp_path / "a.npz")])
    _, history = run(epochs=2, callbacks=[mn.Checkpoint(tmp_path / "a.npz", resume=True)])
    row = history[-1]
    assert (row["name"], row["scalar"], row["zero"], row["list"]) == ("a", np.float32(0.1), 0.5, [1, None])
    np.testing.assert_array_equal(row["array"], np.arange(3.0))


@pytest.mark.parametrize("odd", [object(), {1: 2}, {"array/": 1}, np.array(["a"]), np.ones(2, complex), 1j])
def test_what_cannot_be_kept_is_named(tmp_path, odd):
    class Note:
        def on_epoch_end(self, run):
            run.history[-1]["odd"] = odd

    with pytest.raises(TypeError, match=r"^Checkpoint: what is kept must be numbers, text, arrays, lists and dicts"):
        run(epochs=1, callbacks=[Note(), mn.Checkpoint(tmp_path / "a.npz")])
    assert os.listdir(tmp_path) == []


def test_the_rows_of_a_probe_must_be_as_many_as_epochs(tmp_path):
    run(epochs=2, callbacks=[mn.SaturationProbe(), mn.Checkpoint(tmp_path / "a.npz")])
    state = files.read("test", tmp_path / "a.npz")[2]
    files.write("test", tmp_path / "a.npz", net(), changed(state, "callbacks", 0, 1, value=[{"epoch": 0}]))
    refused(tmp_path / "a.npz", r"SaturationProbe: the rows must be 3", callbacks=[mn.SaturationProbe()])


# ---- killed ----

KILLED = """
import os, signal, sys, time, traceback
import numpy as np
import minnet as mn

folder, suffix = sys.argv[1:]
rng = np.random.default_rng(5)
X, y = rng.standard_normal((300, 10)), np.arange(300) % 3

def train(name):
    layers = [mn.Linear(10, 30), mn.Sigmoid(), mn.Dropout(0.3), mn.Linear(30, 3)]
    net = mn.Sequential(layers, seed=0)
    optimizer = mn.Adam(mn.schedules.WarmUp(mn.schedules.Plateau(0.02, patience=1, min_delta=0.01), epochs=3))
    callbacks = [mn.EarlyStopping("loss", patience=100), mn.Checkpoint(f"{folder}/{name}{suffix}", resume=True)]
    mn.fit(net, X, y, loss="cross_entropy", optimizer=optimizer, epochs=100, batch_size=10, seed=1, callbacks=callbacks)
    mn.save(net, f"{folder}/{name}_end{suffix}")

def child(name):
    process, code = os.fork(), 1
    if not process:
        try:
            train(name)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process

def finish(process):
    status = os.waitpid(process, 0)[1]
    if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
        sys.exit("a run failed")
    return os.WIFSIGNALED(status)

def end(name):
    return mn.load(f"{folder}/{name}_end{suffix}").params.tobytes()

started = time.monotonic()
finish(child("whole"))
longest = (time.monotonic() - started) / 10
seed = int(time.time())
times, path, killed, epochs = np.random.default_rng(seed), f"{folder}/killed{suffix}", 0, {0}
while killed < 20:
    process = child("killed")
    time.sleep(times.uniform(0, longest))
    os.kill(process, signal.SIGKILL)
    if finish(process):
        killed += 1
    elif end("killed") != end("whole"):
        sys.exit("a run ended with other bits")
    else:  # it had come to its end; once more from the start
        os.unlink(path)
    epoch = mn.files.read("test", path)[2]["epoch"] if os.path.exists(path) else 0
    longest *= 1.2 if epoch in epochs else 1.0  # a busy machine: nothing was written meanwhile
    epochs.add(epoch)
finish(child("killed"))
print(seed, len(epochs))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@by_suffix
def test_a_run_killed_twenty_times_ends_with_the_same_bits(path):
    command = [sys.executable, "-W", "error", "-c", KILLED, str(path.parent), path.suffix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seed, epochs = map(int, done.stdout.split())
    print(f"seed {seed}: killed 20 times, in {epochs} epochs")
    assert epochs >= 5
    ends = [mn.load(path.parent / f"{name}_end{path.suffix}").params.tobytes() for name in ("whole", "killed")]
    assert ends[0] == ends[1]
    runs = [files.read("test", path.parent / f"{name}{path.suffix}") for name in ("whole", "killed")]
    assert without_times(runs[0][2]["history"]) == without_times(runs[1][2]["history"])
    assert runs[0][2]["rng"] == runs[1][2]["rng"]
    for name, array in runs[0][1].items():
        assert array.tobytes() == runs[1][1][name].tobytes()
    left = [name for name in os.listdir(path.parent) if name.endswith(".tmp")]
    assert all(name.startswith("killed_end") for name in left)  # a killed `save` leaves what it has written


def test_what_killed_writers_left_is_removed(tmp_path):
    path = tmp_path / "run[1].npz"
    left, other = tmp_path / "run[1].npz.12-34-56.tmp", tmp_path / "run1.npz.12-34-56.tmp"
    left.write_bytes(b"half"), other.write_bytes(b"another's")
    run(epochs=1, callbacks=[mn.Checkpoint(path)])
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, other.name])


# ---- what is refused ----


def kept(path, **options):
    run(epochs=2, callbacks=[mn.Checkpoint(path)], **options)


def refused(path, message, **options):
    """Check that a run does not go on from a file, and that net, optimizer and random numbers are as they were."""
    model, rng = options.pop("model", None) or net(seed=4), np.random.default_rng(8)
    optimizer = options.pop("make", OPTIMIZERS["momentum"])()
    before, state = model.params.copy(), rng.bit_generator.state
    checkpoint = mn.Checkpoint(path, resume=True)
    with pytest.raises(ValueError, match=message):
        run(lambda: optimizer, model=model, seed=rng, callbacks=[*options.pop("callbacks", []), checkpoint], **options)
    np.testing.assert_array_equal(model.params, before)
    assert rng.bit_generator.state == state
    assert (optimizer.state, optimizer.steps, optimizer.epochs) == ({}, 0, 0)


OTHERS = {
    "net": ({"model": mn.MLP([4, 3], seed=0)}, "the net must be .*'MLP'"),
    "dtype": ({"dtype": "float64", "model": net("float64")}, r"0\.W must be \(4, 8\) of float64, got .* of float32"),
    "optimizer": ({"make": OPTIMIZERS["adam"]}, "kind must be one of 'Adam', got 'SGD'"),
    "settings": ({"make": OPTIMIZERS["sgd"]}, r"vectors must be \[\], got"),
    "callbacks": ({"callbacks": [mn.EarlyStopping()]}, r"callbacks must be \['EarlyStopping'\], got \[\]"),
}


@by_suffix
@pytest.mark.parametrize("name", OTHERS)
def test_a_run_does_not_go_on_with_something_else(path, name):
    kept(path)
    options, message = OTHERS[name]
    refused(path, rf"^Checkpoint: .*run\.\w+ must be of a run of this net, .*, got another: .*{message}", **options)


@by_suffix
def test_a_run_does_not_go_on_with_another_generator(path):
    kept(path, seed=np.random.Generator(np.random.MT19937(1)))
    refused(path, r"^Checkpoint: .* must be of a run of this net")


@by_suffix
def test_a_run_does_not_go_on_from_a_net_alone(path):
    mn.save(net(), path)
    refused(path, r"^Checkpoint: .* got another: Checkpoint: the file must hold a run, got a net alone")


@by_suffix
def test_a_damaged_file_is_refused_and_stays(path, rng):
    kept(path)
    whole = path.read_bytes()
    for length in rng.integers(len(whole), size=40):
        path.write_bytes(whole[:length])
        refused(path, r"^Checkpoint: .* must be a file of minnet, got")
        assert path.read_bytes() == whole[:length]
    for place in rng.integers(len(whole), size=40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            model, _ = run(epochs=2, model=net(seed=4), callbacks=[mn.Checkpoint(path, resume=True)])
        except ValueError:
            continue
        path.write_bytes(whole)
        assert model.params.tobytes() == mn.load(path).params.tobytes()


def changed(state, *place, value):
    """A copy of a state with one value changed."""
    if not place:
        return value
    twin = list(state) if isinstance(state, list) else dict(state)
    twin[place[0]] = changed(state[place[0]], *place[1:], value=value)
    return twin


STATES = {
    "epoch 0": (["epoch"], 0),
    "epoch of text": (["epoch"], "2"),
    "epoch beyond the history": (["epoch"], 3),
    "history a text": (["history"], "ab"),
    "history of numbers": (["history"], [1, 2]),
    "rng nothing": (["rng"], None),
    "rng of text": (["rng", "state"], "x"),
    "rng of a huge number": (["rng", "state", "state"], 2**300),
    "rng negative": (["rng", "state", "inc"], -1),
    "callbacks nothing": (["callbacks"], None),
    "callbacks one more": (["callbacks"], [["EarlyStopping", {}], ["Trap", {}]]),
    "callback without state": (["callbacks", 0, 1], {}),
    "callback of text": (["callbacks", 0, 1, "best"], "x"),
    "callback's vector": (["callbacks", 0, 1, "best_params"], np.ones(3, "f")),
    "callback's epoch": (["callbacks", 0, 1, "best_epoch"], -1),
    "optimizer nothing": (["optimizer"], None),
    "optimizer's kind": (["optimizer", "kind"], "os.system"),
    "optimizer's steps": (["optimizer", "steps"], -1),
    "optimizer's vector": (["optimizer", "vectors", "velocity"], np.ones(3, "f")),
    "optimizer's schedule": (["optimizer", "schedules"], [[1.0, 2.0, 3]]),
}


@by_suffix
@pytest.mark.parametrize("name", STATES)
def test_a_forged_state_is_refused(path, name):
    place, value = STATES[name]
    run(epochs=2, callbacks=[mn.EarlyStopping(), mn.Checkpoint(path)])
    _, _, state = files.read("test", path)
    files.write("test", path, net(), changed(state, *place, value=value))
    refused(path, r"^Checkpoint: .* must be of a run of this net, .*, got another: ", callbacks=[mn.EarlyStopping()])


def test_what_cannot_be_kept_is_refused_before_the_first_step(tmp_path):
    class Own:
        def step(self, params, grads):
            raise AssertionError

    class Net:
        params, grads = np.zeros(1), np.zeros(1)

        def forward(self, x, rng=None):
            return x

        def backward_params(self, dy):
            raise AssertionError

    X, y = data()
    checkpoint = mn.Checkpoint(tmp_path / "run.npz")
    with pytest.raises(TypeError, match=r"^Checkpoint: optimizer must have get_state and set_state, got"):
        mn.fit(net(), X, y, loss="cross_entropy", optimizer=Own(), callbacks=[checkpoint])
    with pytest.raises(TypeError, match=r"^Checkpoint: net must be a minnet Layer, .*, got"):
        mn.fit(Net(), X, X, loss="mse", optimizer=mn.SGD(), callbacks=[checkpoint])
    with pytest.raises(ValueError, match=r"^Checkpoint: path must be in a folder that can be written to, got"):
        run(callbacks=[mn.Checkpoint(tmp_path / "nowhere" / "run.npz")])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "run.pkl"}, ValueError, r"path must end in .npz or .safetensors, got 'run.pkl'"),
        ({"path": "run.npz", "every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"path": "run.npz", "every": 1.5}, TypeError, "every must be an integer, got 1.5"),
    ],
)
def test_bad_settings_are_refused(options, error, message):
    with pytest.raises(error, match=f"^Checkpoint: {message}"):
        mn.Checkpoint(**options)


def test_a_checkpoint_is_one_json_text_and_arrays(tmp_path):
    run(epochs=2, callbacks=[mn.Checkpoint(tmp_path / "run.npz")])
    with np.load(tmp_path / "run.npz", allow_pickle=False) as file:
        text = json.loads(bytes(file["minnet.json"]))
        assert set(text) == {"format", "version", "dtype", "net", "state", "checksum"}
        assert set(text["state"]) == {"epoch", "rng", "optimizer", "history", "callbacks"}
        velocity = text["state"]["optimizer"]["vectors"]["velocity"]["array/"]
        assert file[velocity].shape == (net().size,)
