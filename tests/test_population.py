"""Population: each member is an MLP that fit would have trained to the same weights, on any threads, beside anyone."""

import numpy as np
import pytest

import minnet as mn
from minnet import get_num_threads, population, set_num_threads

DTYPES = ["float32", "float64"]
ACTIVATIONS = ["sigmoid", "tanh", "relu"]
OUTPUTS = {"bce": 1, "mse": 2, "cross_entropy": 3, "quadratic": 2}
RTOL = {"float32": 2e-5, "float64": 1e-12}
WAYS = {
    "all rows": {"batch_size": None},
    "batches": {"batch_size": 4},
    "batches in order": {"batch_size": 4, "shuffle": False},
    "momentum": {"batch_size": 5, "momentum": 0.9},
    "momentum, all rows": {"momentum": 0.5},
}

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_loss = pytest.mark.parametrize("loss", list(OUTPUTS))
by_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def data(rng, loss, rows=11, inputs=3, outputs=None):
    outputs = OUTPUTS[loss] if outputs is None else outputs
    X = rng.normal(size=rows if inputs is None else (rows, inputs))
    if loss in ("bce", "quadratic"):
        return X, rng.random((rows, outputs)).round(1)
    return X, rng.integers(0, outputs, rows) if loss == "cross_entropy" else rng.normal(size=(rows, outputs))


def alone(pop, i, X, y, *, lr=0.3, epochs=20, batch_size=None, momentum=0.0, shuffle=True, seed=0):
    """Member i at its start, trained by fit; the lab's quadratic cost is a sum over outputs, not a mean."""
    loss = pop.loss if isinstance(pop.loss, str) else pop.loss[i]
    outputs = pop.sizes[-1]
    if loss == "quadratic":
        loss, lr = mn.lab.QuadraticCost(), lr / outputs
    net = mn.MLP(pop.sizes, activation=pop.activation, init=pop.init, dtype=pop.dtype, seed=pop.seeds[i])
    optimizer = mn.SGD(lr, momentum=momentum)
    history = mn.fit(
        net,
        X,
        y,
        loss=loss,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size or len(X),
        shuffle=shuffle,
        seed=seed,
    )
    if not isinstance(loss, str):
        history = {"loss": np.array(history["loss"]) / outputs}
    return net, history


def assert_close(got, want, dtype):
    np.testing.assert_allclose(got, want, rtol=RTOL[dtype], atol=RTOL[dtype])


# ---- each member is an MLP ----


@by_dtype
@pytest.mark.parametrize("init", ["scaled", "large", "xavier", "he", lambda rng, i, o: rng.uniform(-1, 1, (i, o))])
def test_members_start_as_mlps(init, dtype):
    pop = mn.Population([3, 5, 4, 2], 19, activation="tanh", init=init, seed=7, dtype=dtype)
    for i in (0, 1, 15, 16, 18, -1):
        net = mn.MLP([3, 5, 4, 2], activation="tanh", init=init, seed=pop.seeds[i], dtype=dtype)
        member = pop.member(i)
        np.testing.assert_array_equal(member.params, net.params)
        np.testing.assert_array_equal(pop.params[i], net.params)
        assert repr(member) == repr(net)
        assert member.dtype == dtype
    assert pop.seeds == list(range(7, 26))
    assert pop.params.shape == (19, net.size)


def test_seeds_may_be_given():
    pop = mn.Population([2, 3], 3, seeds=[5, 5, np.int64(2**40)])
    np.testing.assert_array_equal(pop.params[0], pop.params[1])
    np.testing.assert_array_equal(pop.params[2], mn.MLP([2, 3], seed=2**40).params)


@by_dtype
@by_activation
@by_loss
@pytest.mark.parametrize("way", list(WAYS))
def test_a_member_trained_alone_has_the_same_weights(way, loss, activation, dtype, rng):
    X, y = data(rng, loss)
    pop = mn.Population([3, 5, 4, OUTPUTS[loss]], 20, activation=activation, loss=loss, dtype=dtype, seed=3)
    history = pop.fit(X, y, lr=0.05, epochs=20, seed=5, **WAYS[way])
    for i in (0, 15, 16, 19):
        net, one = alone(pop, i, X, y, lr=0.05, seed=5, **WAYS[way])
        assert_close(pop.member(i).params, net.params, dtype)
        assert_close(history.loss[:, i], one["loss"], dtype)
    assert history.loss.shape == (20, 20)
    assert len(np.unique(history.loss[-1])) == 20


@by_dtype
@by_loss
@pytest.mark.parametrize("sizes", [[1], [3], [4, 9], [7, 33], [2, 2, 2, 2]], ids=str)
@pytest.mark.parametrize("outputs", [1, 2, 4, 5, 6])
def test_any_shape(outputs, sizes, loss, dtype, rng):
    """Tiles of the products are whole, or left over, along either side."""
    X, y = data(rng, loss, 9, sizes[0], outputs)
    pop = mn.Population([*sizes, outputs], 3, loss=loss, dtype=dtype)
    pop.fit(X, y, epochs=4, lr=0.1)
    assert_close(pop.params[1], alone(pop, 1, X, y, epochs=4, lr=0.1)[0].params, dtype)


@by_loss
@pytest.mark.parametrize("rows", [1, 2, 5, 31, 32, 33, 70])
@pytest.mark.parametrize("batch_size", [None, 1, 33, 64])
def test_any_number_of_rows(batch_size, rows, loss, rng):
    X, y = data(rng, loss, rows)
    pop = mn.Population([3, 6, OUTPUTS[loss]], 5, loss=loss, dtype="float64")
    history = pop.fit(X, y, epochs=3, lr=0.1, batch_size=batch_size)
    net, one = alone(pop, 2, X, y, epochs=3, lr=0.1, batch_size=batch_size)
    assert_close(pop.params[2], net.params, "float64")
    assert_close(history.loss[:, 2], one["loss"], "float64")


@pytest.mark.parametrize("members", [1, 15, 16, 17, 33])
def test_any_number_of_members(members, rng):
    X, y = data(rng, "bce")
    pop = mn.Population([3, 4, 1], members)
    assert len(pop) == members
    assert pop.fit(X, y, epochs=3).loss.shape == (3, members)
    assert pop.forward(X).shape == (members, 11, 1)
    assert_close(pop.params[-1], alone(pop, members - 1, X, y, epochs=3, lr=0.5)[0].params, "float32")


def test_soft_targets_of_any_sum(rng):
    X, t = data(rng, "mse", outputs=3)[0], rng.random((11, 3))
    for y in (t / t.sum(axis=1, keepdims=True), t):
        pop = mn.Population([3, 4, 3], 3, loss="cross_entropy", dtype="float64")
        history = pop.fit(X, y, epochs=5, lr=0.3)
        net, one = alone(pop, 1, X, y, epochs=5)
        assert_close(history.loss[:, 1], one["loss"], "float64")
        if y is not t:  # fit takes sums of 1 for granted
            assert_close(pop.params[1], net.params, "float64")


@by_loss
def test_each_member_may_have_its_own_data(loss, rng):
    pairs = [data(rng, loss) for _ in range(18)]
    X, y = (np.array(part) for part in zip(*pairs, strict=True))
    pop = mn.Population([3, 5, OUTPUTS[loss]], 18, loss=loss, dtype="float64")
    history = pop.fit(X, y, epochs=10, lr=0.3, batch_size=4, momentum=0.5)
    for i in (0, 15, 16, 17):
        net, one = alone(pop, i, X[i], y[i], epochs=10, batch_size=4, momentum=0.5)
        assert_close(pop.params[i], net.params, "float64")
        assert_close(history.loss[:, i], one["loss"], "float64")
        assert_close(pop.forward(X)[i], net.forward(X[i]), "float64")


def test_each_member_may_have_its_own_rate(rng):
    X, y = data(rng, "mse")
    rates = rng.uniform(0, 0.3, 20)
    rates[3] = 0
    pop = mn.Population([3, 5, 2], 20, loss="mse", dtype="float64")
    start = pop.params
    pop.fit(X, y, lr=rates, epochs=10)
    np.testing.assert_array_equal(pop.params[3], start[3])
    for i in (0, 17):
        assert_close(pop.params[i], alone(pop, i, X, y, lr=rates[i], epochs=10)[0].params, "float64")


# ---- each member with a loss of its own ----


@by_dtype
@pytest.mark.parametrize("way", ["all rows", "momentum"])
def test_each_member_may_have_its_own_loss(way, dtype, rng):
    """Members of one loss go side by side; which they are is not seen from outside."""
    X, y = data(rng, "cross_entropy", outputs=3)
    losses = rng.permutation(["bce"] * 20 + ["mse"] * 3 + ["cross_entropy"] * 17 + ["quadratic"])
    lr, t = rng.uniform(0.01, 0.1, len(losses)), np.eye(3)[y]
    pop = mn.Population([3, 5, 3], len(losses), loss=losses, dtype=dtype, seed=2)
    history = pop.fit(X, t, lr=lr, epochs=20, **WAYS[way])
    assert pop.loss == tuple(losses)
    z = pop.forward(X)
    for i in range(0, len(losses), 3):
        net, one = alone(pop, i, X, t, lr=lr[i], **WAYS[way])
        assert_close(pop.params[i], net.params, dtype)
        assert_close(pop.member(i).params, net.params, dtype)
        assert_close(history.loss[:, i], one["loss"], dtype)
        assert_close(z[i], net.forward(X), dtype)
    np.testing.assert_array_equal(pop.member(-1).params, pop.params[-1])
    np.testing.assert_array_equal(np.isnan(history.accuracy[0]), losses == "mse")


def test_own_losses_and_own_data(rng):
    losses = ["mse", "bce"] * 9
    pairs = [data(rng, "bce") for _ in losses]
    X, y = (np.array(part) for part in zip(*pairs, strict=True))
    pop = mn.Population([3, 5, 1], 18, loss=losses, dtype="float64")
    pop.fit(X, y, epochs=10, lr=0.3, batch_size=4)
    for i in (0, 1, 16, 17):
        net, _ = alone(pop, i, X[i], y[i], epochs=10, batch_size=4)
        assert_close(pop.params[i], net.params, "float64")
        assert_close(pop.forward(X)[i], net.forward(X[i]), "float64")


def test_a_member_does_not_depend_on_the_losses_of_others(rng):
    X, y = data(rng, "bce", outputs=2)
    mixed = mn.Population([3, 5, 2], 40, loss=["bce", "quadratic"] * 20)
    mixed.fit(X, y, epochs=9)
    for start, loss in enumerate(["bce", "quadratic"]):
        pure = mn.Population([3, 5, 2], 40, loss=loss)
        pure.fit(X, y, epochs=9)
        np.testing.assert_array_equal(mixed.params[start::2], pure.params[start::2])


def test_targets_must_suit_every_loss():
    X = np.zeros((6, 3))
    pop = mn.Population([3, 2], 2, loss=["bce", "cross_entropy"])
    with pytest.raises(ValueError, match=r"^Population.fit: y must have shape \(6, 2\), got \(6,\)"):
        pop.fit(X, np.zeros(6, int))
    with pytest.raises(ValueError, match=r"target must be in \[0, 1\], got 2.0"):
        mn.Population([3, 2], 2, loss=["mse", "quadratic"]).fit(X, np.full((6, 2), 2.0))


@by_dtype
@pytest.mark.parametrize("gap", [10.0, 30.0, 60.0])
@pytest.mark.parametrize("label", [0, 1])
def test_quadratic_keeps_the_gradient_of_a_saturated_answer(label, gap, dtype):
    """Wrong by nearly 1, or right but for exp(-gap)."""
    for sign in (1, -1):
        pop = mn.Population(
            [2, 1], 1, loss="quadratic", init=lambda *_, z=sign * gap: np.array([[z], [0]]), dtype=dtype
        )
        history = pop.fit([[1, 1]], [label], lr=0.5, epochs=1)
        e = np.exp(-gap)
        wrong = (sign > 0) != (label == 1)
        error = (1 if wrong else e) / (1 + e)
        want = 0.5 * error * e / (1 + e) ** 2 * (1 if label else -1)
        tiny = 1e-45 if dtype == "float32" else 0
        np.testing.assert_allclose(pop.params[:, 1], want, rtol=4 * RTOL[dtype], atol=tiny)
        np.testing.assert_allclose(history.loss[0], error**2 / 2, rtol=4 * RTOL[dtype], atol=tiny)


def test_a_batch_in_pieces_forgets_what_overflowed_before(rng):
    """70 rows go through a net in three pieces; a member that has left all numbers behind spoils no other."""
    X, y = data(rng, "mse", 70)
    lr = np.where(np.arange(40) == 3, 1e30, 0.1)
    pop = mn.Population([3, 4, 2], 40, loss="mse", activation="relu", seed=0)
    pop.fit(X, y, lr=lr, epochs=6)
    finite = np.isfinite(pop.params).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(~finite), [3])


def test_fit_goes_on_from_where_it_was(rng):
    X, y = data(rng, "bce")
    twice, once = (mn.Population([3, 5, 1], 4, dtype="float64") for _ in range(2))
    twice.fit(X, y, epochs=7, shuffle=False)
    twice.fit(X, y, epochs=5, shuffle=False)
    once.fit(X, y, epochs=12, shuffle=False)
    np.testing.assert_array_equal(twice.params, once.params)


def test_one_dimensional_targets_and_lists(rng):
    X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    pops = [mn.Population([2, 4, 1], 3) for _ in range(2)]
    pops[0].fit(X, y, epochs=5)
    pops[1].fit(np.array(X, np.float32), np.array(y, float)[:, None], epochs=5)
    np.testing.assert_array_equal(pops[0].params, pops[1].params)


# ---- what comes out ----


@by_dtype
@by_activation
def test_outputs_are_those_of_the_members(activation, dtype, rng):
    pop = mn.Population([3, 7, 4], 20, activation=activation, loss="cross_entropy", dtype=dtype)
    X = rng.normal(size=(40, 3))
    z = pop.forward(X)
    assert z.dtype == dtype
    assert z.shape == (20, 40, 4)
    for i in (0, 19):
        assert_close(z[i], pop.member(i).forward(X), dtype)
    np.testing.assert_allclose(
        pop.predict_proba(X), np.mean([pop.member(i).predict_proba(X) for i in range(20)], 0), rtol=1e-5
    )
    np.testing.assert_array_equal(pop.predict(X), np.argmax(pop.predict_proba(X), axis=1))
    assert pop.forward(X[:0]).shape == (20, 0, 4)


def test_one_logit_gives_probabilities_of_yes(rng):
    pop, X = mn.Population([3, 7, 1], 5), rng.normal(size=(40, 3))
    p = pop.predict_proba(X)
    np.testing.assert_allclose(p, np.mean([pop.member(i).predict_proba(X) for i in range(5)], axis=0), rtol=1e-5)
    np.testing.assert_array_equal(pop.predict(X), p > 0.5)


def test_a_member_is_independent(rng):
    X, y = data(rng, "bce")
    pop = mn.Population([3, 4, 1], 3)
    member, before = pop.member(1), pop.params
    member.params[...] = 0
    np.testing.assert_array_equal(pop.params, before)
    pop.params[...] = 0
    np.testing.assert_array_equal(pop.params, before)
    kept = pop.member(1)
    pop.fit(X, y, epochs=2)
    np.testing.assert_array_equal(kept.params, before[1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_most_nets_learn_xor(activation):
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    pop = mn.Population([2, 8, 1], 100, activation=activation, seed=0)
    history = pop.fit(X, y, lr=0.5, momentum=0.9, epochs=1500)
    assert np.mean(history.accuracy[-1] == 1) > 0.8
    assert np.mean(history.loss[-1] < 0.1 * history.loss[0]) > 0.8
    np.testing.assert_array_equal(pop.predict(X), y)
    assert repr(pop).startswith("Population([2, 8, 1], members=100, activation=")


# ---- the history ----


@by_loss
def test_accuracy_is_the_share_of_right_answers_before_each_step(loss, rng):
    X, y = data(rng, loss, 40)
    pop = mn.Population([3, 6, OUTPUTS[loss]], 18, loss=loss)
    same = "bce" if loss == "quadratic" else loss
    want = [mn.evaluate(pop.member(i), X, y, loss=same).get("accuracy") for i in range(18)]
    history = pop.fit(X, y, epochs=1)
    if loss == "mse":
        assert history.accuracy is None
    else:
        np.testing.assert_allclose(history.accuracy[0], want, rtol=1e-12)
        assert len(set(want)) > 3


def test_answers_of_many_questions_are_right_one_by_one(rng):
    X, y = data(rng, "bce", 40, outputs=3)
    pop = mn.Population([3, 6, 3], 4)
    want = [mn.evaluate(pop.member(i), X, y, loss="bce")["accuracy"] for i in range(4)]
    np.testing.assert_allclose(pop.fit(X, y, epochs=1).accuracy[0], want, rtol=1e-12)


@pytest.mark.parametrize(
    ("epochs", "every", "recorded"), [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 5, [2]), (3, 1, [1, 2, 3]), (0, 1, [])]
)
def test_every_so_many_epochs_are_recorded(epochs, every, recorded, rng):
    X, y = data(rng, "bce")
    whole = mn.Population([3, 4, 1], 3).fit(X, y, epochs=epochs)
    history = mn.Population([3, 4, 1], 3).fit(X, y, epochs=epochs, every=every)
    np.testing.assert_array_equal(history.epoch, recorded)
    np.testing.assert_array_equal(history.loss, whole.loss[np.array(recorded, int) - 1])
    assert len(history) == len(recorded)
    assert repr(history).startswith(
        f"PopulationHistory({len(recorded)} epochs" if recorded else "PopulationHistory(nothing"
    )


# ---- neighbours, threads, chunks ----


@by_loss
@pytest.mark.parametrize("way", ["all rows", "momentum"])
def test_no_member_depends_on_its_neighbours(way, loss, rng):
    X, y = data(rng, loss, 40)
    together = mn.Population([3, 5, OUTPUTS[loss]], 40, loss=loss)
    together.fit(X, y, epochs=9, **WAYS[way])
    for i in (0, 15, 16, 39):
        single = mn.Population([3, 5, OUTPUTS[loss]], 1, loss=loss, seed=i)
        single.fit(X, y, epochs=9, **WAYS[way])
        np.testing.assert_array_equal(single.params[0], together.params[i])


@by_loss
def test_results_are_bit_identical_for_every_number_of_threads_and_cut(loss, rng, monkeypatch):
    X, y = data(rng, loss, 40)
    before, results = get_num_threads(), []
    try:
        for threads, work, orders in ((1, 1, 2**20), (2, 1, 2**20), (5, 2**14, 50), (1, 2**30, 2**20)):
            set_num_threads(threads)
            monkeypatch.setattr(population, "WORK", work)
            monkeypatch.setattr(population, "ORDERS", orders)
            pop = mn.Population([3, 5, OUTPUTS[loss]], 100, loss=loss)
            history = pop.fit(X, y, epochs=9, batch_size=7, momentum=0.9)
            results.append((pop.params, history.loss, pop.forward(X)))
    finally:
        set_num_threads(before)
    for result in results[1:]:
        for got, want in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, want)


def test_an_interrupt_leaves_the_population_as_it_was(rng, monkeypatch):
    X, y = data(rng, "bce")
    pop = mn.Population([3, 4, 1], 3)
    before, calls, train = pop.params, [], pop._train

    def interrupted(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(train(*arguments))

    monkeypatch.setattr(population, "ORDERS", 11)
    monkeypatch.setattr(pop, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pop.fit(X, y, epochs=3)
    assert calls
    np.testing.assert_array_equal(pop.params, before)


def test_data_is_not_written_to(rng):
    X, y = data(rng, "bce")
    X, y = np.asfortranarray(X), y[::-1]
    kept = X.copy(), y.copy()
    X.flags.writeable = y.flags.writeable = False
    pop = mn.Population([3, 4, 1], 3)
    pop.fit(X, y, epochs=2, batch_size=3)
    pop.predict(X)
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(y, kept[1])


def test_the_same_seed_gives_the_same_weights(rng):
    X, y = data(rng, "bce", 30)
    runs = []
    for seed in (1, 1, 2, np.random.default_rng(1)):
        runs.append(mn.Population([3, 4, 1], 3))
        runs[-1].fit(X, y, epochs=3, batch_size=7, seed=seed)
    np.testing.assert_array_equal(runs[0].params, runs[1].params)
    np.testing.assert_array_equal(runs[0].params, runs[3].params)
    assert np.all(np.any(runs[0].params != runs[2].params, axis=1))


# ---- tails: a weight that starts at 0 shows a step however small ----


@by_dtype
@pytest.mark.parametrize("gap", [10.0, 30.0, 60.0, 85.0, 95.0])
@pytest.mark.parametrize("label", [0, 1])
def test_bce_keeps_the_gradient_of_a_sure_and_right_answer(label, gap, dtype):
    pop = mn.Population([2, 1], 2, init=lambda *_: np.array([[gap if label else -gap], [0]]), dtype=dtype)
    history = pop.fit([[1, 1]], [label], lr=0.5, epochs=1)
    want = 0.5 * (1 if label else -1) * np.exp(-gap) / (1 + np.exp(-gap))
    tiny = 1e-45 if dtype == "float32" else 0
    np.testing.assert_allclose(pop.params[:, 1], want, rtol=4 * RTOL[dtype] if gap < 88 else 1e-3, atol=tiny)
    np.testing.assert_allclose(history.loss[0], np.log1p(np.exp(-gap)), rtol=RTOL[dtype], atol=tiny)


@by_dtype
@pytest.mark.parametrize("gap", [10.0, 30.0, 60.0, 85.0, 95.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_cross_entropy_keeps_the_gradient_of_a_sure_and_right_answer(classes, gap, dtype):
    def init(rng, fan_in, fan_out):
        W = np.zeros((fan_in, fan_out))
        W[0, 1] = gap
        return W

    pop = mn.Population([2, classes], 2, loss="cross_entropy", init=init, dtype=dtype)
    history = pop.fit([[1, 1]], [1], lr=0.5, epochs=1)
    rest = np.exp(-gap) / (1 + (classes - 1) * np.exp(-gap))
    want = np.full(classes, -0.5 * rest)
    want[1] = 0.5 * (classes - 1) * rest
    tiny = 4e-45 if dtype == "float32" else 0
    got = pop.params[0].reshape(3, classes)[1]
    np.testing.assert_allclose(got, want, rtol=4 * RTOL[dtype] if gap < 85 else 1e-3, atol=tiny)
    np.testing.assert_allclose(history.loss[0], np.log1p((classes - 1) * np.exp(-gap)), rtol=RTOL[dtype], atol=tiny)


@by_dtype
@pytest.mark.parametrize(("activation", "factor"), [("sigmoid", 1), ("tanh", 2)])
@pytest.mark.parametrize("z", [-80.0, -30.0, -1e-3, 0.5, 30.0, 80.0])
def test_slopes_keep_their_digits_in_saturated_units(z, activation, factor, dtype):
    def init(rng, fan_in, fan_out):
        return np.array([[z], [0]]) if fan_in == 2 else np.ones((1, 1))

    pop = mn.Population([2, 1, 1], 1, activation=activation, loss="mse", init=init, dtype=dtype)
    y = 1 / (1 + np.exp(-z)) if activation == "sigmoid" else np.tanh(z)
    pop.fit([[1, 1]], [y + 1], lr=0.5, epochs=1)
    e = np.exp(-factor * abs(z))
    want = 0.5 * 2 * factor**2 * e / (1 + e) ** 2
    tiny = 1e-44 if dtype == "float32" else 0
    np.testing.assert_allclose(pop.params[0, 1], want, rtol=4 * RTOL[dtype], atol=tiny)


@by_dtype
def test_small_outputs_of_tanh_do_not_cancel(dtype):
    pop = mn.Population([1, 1, 1], 1, activation="tanh", init=lambda *_: np.ones((1, 1)), dtype=dtype)
    x = np.array([1e-30, 1e-9, 1e-5, 1e-3, 0.1])
    np.testing.assert_allclose(pop.forward(x[:, None])[0, :, 0], np.tanh(x), rtol=RTOL[dtype])


# ---- bad input ----

BAD_POPULATIONS = [
    ({"members": 0}, ValueError, r"Population: members must be at least 1, got 0"),
    ({"members": 2.0}, TypeError, r"Population: members must be an integer, got 2.0"),
    ({"sizes": [3]}, ValueError, r"MLP: sizes must name at least inputs and outputs, got \[3\]"),
    ({"sizes": [3, 0]}, ValueError, r"MLP: sizes must be at least 1, got 0"),
    (
        {"activation": "softplus"},
        ValueError,
        r"Population: activation must be one of 'sigmoid', 'tanh', 'relu', got 'softplus'",
    ),
    (
        {"loss": "l1"},
        ValueError,
        r"Population: loss must be one of 'bce', 'mse', 'cross_entropy', 'quadratic', got 'l1'",
    ),
    ({"loss": ["bce", "mse", "bce"]}, ValueError, r"Population: loss must be a name or 4 of them, one a member, got 3"),
    ({"loss": ["bce", "mse", "l1", "l1"]}, ValueError, r"Population: loss must be one of .*, got 'l1'"),
    ({"loss": None}, TypeError, r"Population: loss must be one of .*, got None"),
    ({"init": "huge"}, ValueError, r"Linear: init must be one of .*, got 'huge'"),
    ({"seed": None}, TypeError, r"Population: seed must be an integer, got None"),
    ({"seed": -1}, ValueError, r"Population: seed must be at least 0, got -1"),
    ({"seeds": [1, 2]}, ValueError, r"Population: seeds must have shape \(4,\), one a member, got \(2,\)"),
    ({"seeds": [1, 2, 3, -4]}, ValueError, r"Population: seeds must be at least 0, got .*-4"),
    ({"seeds": [1.0, 2, 3, 4]}, TypeError, r"Population: seeds must be integers, got dtype float64"),
    ({"dtype": "float16"}, ValueError, r"Population: dtype must be float32 or float64, got 'float16'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_POPULATIONS)
def test_bad_populations_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        mn.Population(**{"sizes": [3, 2], "members": 4} | arguments)


X, Y = np.zeros((6, 3)), {"bce": np.zeros((6, 2)), "mse": np.zeros((6, 2)), "cross_entropy": np.zeros(6, int)}
BAD_FITS = [
    (
        "bce",
        {"X": X[0]},
        ValueError,
        r"Population.fit: X must have shape \(N, 3\) or \(4, N, 3\), got \(3,\) \(one feature is",
    ),
    ("bce", {"X": X[:, :2]}, ValueError, r"Population.fit: X must have shape \(N, 3\) or \(4, N, 3\), got \(6, 2\)"),
    ("bce", {"X": np.zeros((3, 6, 3))}, ValueError, r"Population.fit: X must have shape .*, got \(3, 6, 3\)"),
    (
        "bce",
        {"X": X[:0], "y": np.zeros((0, 2))},
        ValueError,
        r"Population.fit: X must have at least one row, got \(0, 3\)",
    ),
    (
        "bce",
        {"X": np.zeros((4, 0, 3)), "y": np.zeros((4, 0, 2))},
        ValueError,
        r"Population.fit: X must have at least one row",
    ),
    ("bce", {"X": X + np.nan}, ValueError, r"Population.fit: X must be finite in float32, got nan at \(0, 0\)"),
    ("bce", {"X": X + 1e39}, ValueError, r"Population.fit: X must be finite in float32, got 1e\+39 at \(0, 0\)"),
    ("bce", {"X": [["a"] * 3] * 6}, TypeError, r"Population.fit: X must hold real numbers"),
    ("bce", {"y": np.zeros(6)}, ValueError, r"Population.fit: y must have shape \(6, 2\), got \(6,\)"),
    ("bce", {"y": np.zeros((5, 2))}, ValueError, r"Population.fit: y must have shape \(6, 2\), got \(5, 2\)"),
    ("bce", {"y": np.full((6, 2), 1.5)}, ValueError, r".*target must be in \[0, 1\], got 1.5 in row 0"),
    ("bce", {"y": np.full((6, 2), np.nan)}, ValueError, r".*target must be in \[0, 1\], got nan in row 0"),
    ("bce", {"X": np.zeros((4, 6, 3))}, ValueError, r"Population.fit: y must have shape \(4, 6, 2\), got \(6, 2\)"),
    (
        "mse",
        {"y": np.full((6, 2), np.nan)},
        ValueError,
        r"Population.fit: y must be finite in float32, got nan at \(0, 0\)",
    ),
    (
        "mse",
        {"y": np.full((6, 2), np.inf)},
        ValueError,
        r"Population.fit: y must be finite in float32, got inf at \(0, 0\)",
    ),
    ("mse", {"y": None}, TypeError, r"Population.fit: y must hold real numbers, got None"),
    ("cross_entropy", {"y": [0, 1, 2, 0, 0, 0]}, ValueError, r"cross_entropy: .*got 2 in row 2"),
    ("cross_entropy", {"y": [0, -1, 1, 0, 0, 0]}, ValueError, r"cross_entropy: .*got -1 in row 1"),
    (
        "cross_entropy",
        {"y": np.full(6, np.nan)},
        ValueError,
        r"cross_entropy: labels must be whole numbers, got nan in row 0",
    ),
    ("cross_entropy", {"y": np.zeros(6)}, TypeError, r"cross_entropy: labels must be integers, got dtype float64"),
    (
        "cross_entropy",
        {"y": np.full((6, 2), -0.5)},
        ValueError,
        r"cross_entropy: .* must be in \[0, 1\], got -0.5 in row 0",
    ),
    (
        "cross_entropy",
        {"y": np.zeros((6, 3))},
        ValueError,
        r"Population.fit: y must have shape \(6,\) or \(6, 2\), got \(6, 3\)",
    ),
    ("bce", {"lr": -0.5}, ValueError, r"Population.fit: lr must be finite and not negative, got -0.5"),
    ("bce", {"lr": [0.1, 0.1, np.nan, 0.1]}, ValueError, r"Population.fit: lr must be finite and not negative, got"),
    ("bce", {"lr": [0.1, 0.1]}, ValueError, r"Population.fit: lr must be a number or one a member, \(4,\), got \(2,\)"),
    ("bce", {"lr": "fast"}, TypeError, r"Population.fit: lr must hold real numbers"),
    ("bce", {"epochs": -1}, ValueError, r"Population.fit: epochs must be at least 0, got -1"),
    ("bce", {"epochs": 1.5}, TypeError, r"Population.fit: epochs must be an integer, got 1.5"),
    ("bce", {"batch_size": 0}, ValueError, r"Population.fit: batch_size must be at least 1, got 0"),
    ("bce", {"momentum": 1.0}, ValueError, r"Population.fit: momentum must be less than 1, got 1.0"),
    (
        "bce",
        {"momentum": -0.1},
        ValueError,
        r"Population.fit: momentum must be a finite number >= 0 and <= 1, got -0.1",
    ),
    ("bce", {"every": 0}, ValueError, r"Population.fit: every must be at least 1, got 0"),
    ("bce", {"seed": "x"}, TypeError, r"Population.fit: seed must be"),
]


@pytest.mark.parametrize(("loss", "arguments", "error", "message"), BAD_FITS)
def test_bad_data_is_refused_before_anything_moves(loss, arguments, error, message):
    pop = mn.Population([3, 2], 4, loss=loss)
    before = pop.params
    with pytest.raises(error, match=f"^{message}"):
        pop.fit(**{"X": X, "y": Y[loss], "epochs": 3} | arguments)
    np.testing.assert_array_equal(pop.params, before)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda pop: pop.member(4), ValueError, r"Population.member: i must be less than 4, got 4"),
        (lambda pop: pop.member(-5), ValueError, r"Population.member: i must be at least -4, got -5"),
        (lambda pop: pop.member(0.0), TypeError, r"Population.member: i must be an integer, got 0.0"),
        (lambda pop: pop.forward(X[:, 1:]), ValueError, r"Population.forward: X must have shape .*, got \(6, 2\)"),
        (lambda pop: pop.predict(X * np.nan), ValueError, r"Population.forward: X must be finite in float32, got nan"),
    ],
)
def test_bad_calls_are_refused(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call(mn.Population([3, 2], 4))
