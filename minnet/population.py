"""Population: many small nets of one shape, trained at once on the same data or each on its own.

Sixteen members go side by side through the compiled loops of _population.pyx, one a SIMD lane; a member is an ordinary
MLP, and trained alone it comes to the same weights.
"""

import itertools
import math

import numpy as np

from minnet import _population as kernels
from minnet import functional as F
from minnet import initializers
from minnet._checks import any_array, bad_type, bad_value, choice, generator, integer, number, real_array, words
from minnet._rooms import zeros
from minnet._threads import run_chunks
from minnet.layers import model_dtype
from minnet.losses import LOSSES
from minnet.model import MLP

__all__ = ["Population", "PopulationHistory"]

LANES = 16  # members of a block, as the kernels have it
ACTIVATIONS = {"sigmoid": 0, "tanh": 1, "relu": 2}
CRITERIA = {"bce": 0, "mse": 1, "cross_entropy": 2, "quadratic": 3}
ORDERS = 2**20  # samples whose order is drawn at a time, over all epochs
WORK = 2**21  # products of a chunk for one of several threads: some hundred microseconds


class PopulationHistory:
    """What happened to every member: rows are recorded epochs, columns members.

    Attributes
    ----------
    epoch : ndarray (R,)
        The recorded epochs, the first being 1.
    loss : ndarray (R, M)
        Mean over an epoch, while the weights moved, as in the history of `fit`.
    accuracy : ndarray (R, M), or None if all losses are "mse"
        Share of right answers, likewise; NaN for members with "mse".
    """

    def __init__(self, epoch, loss, accuracy):
        self.epoch, self.loss, self.accuracy = epoch, loss, accuracy

    def __len__(self):
        return len(self.epoch)

    def __repr__(self):
        if not self.loss.size:
            return "PopulationHistory(nothing recorded)"
        ends = np.quantile(self.loss[-1], [0.0, 0.5, 1.0])
        shown = ", ".join(f"{name} {value:.4g}" for name, value in zip(("least", "median", "most"), ends, strict=True))
        return f"PopulationHistory({len(self)} epochs recorded, last loss: {shown})"


class Population:
    """Many multi-layer perceptrons of one shape, ending in logits.

    Parameters
    ----------
    sizes : list of int
        [inputs, hidden ..., outputs], as of an MLP.
    members : int
        How many nets.
    activation : {"sigmoid", "tanh", "relu"}
        After every layer but the last.
    loss : {"bce", "mse", "cross_entropy", "quadratic"}, or a sequence of them, one a member
        The mean over samples (and outputs) of what `minnet.losses` computes from the raw outputs. "quadratic" is the
        mean of (sigmoid(output) - target)^2 / 2: `minnet.lab.QuadraticCost`, divided by the number of outputs.
    init : {"scaled", "large", "xavier", "he"} or callable
        Starting weights, see `minnet.initializers`; biases start at 0.
    seed : int
        Member i starts as ``MLP(sizes, activation=activation, init=init, dtype=dtype, seed=seed + i)``.
    seeds : sequence of int, optional
        One seed a member, instead of seed, seed + 1, ...
    dtype : {numpy.float32, numpy.float64}
        Of parameters and outputs; data is cast to it.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> import minnet as mn
    >>> pop = mn.Population([2, 8, 1], members=1000, seed=0)
    >>> history = pop.fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], lr=5.0, epochs=2000)
    >>> pop.member(3).predict([[0, 1], [1, 1]])
    array([1, 0])
    """

    def __init__(
        self, sizes, members, *, activation="sigmoid", loss="bce", init="scaled", seed=0, seeds=None, dtype=np.float32
    ):
        owner = "Population"
        self.members = integer(owner, "members", members, 1)
        self.activation = choice(owner, "activation", activation, ACTIVATIONS)
        self.loss = _checked_losses(loss, self.members)
        self._place, self._criteria = _places(self.loss, self.members)
        self.init, self.dtype = init, model_dtype(owner, dtype)
        pattern = MLP(sizes, dtype=self.dtype, seed=0)
        self.sizes, self.size = pattern.sizes, pattern.size
        self.seeds = _checked_seeds(seed, seeds, self.members)
        self._blocks = zeros((len(self._criteria), self.size, LANES), self.dtype)  # members, as the kernels take them
        for place, member_seed in zip(self._place, self.seeds, strict=True):
            start = _start(self.sizes, init, generator(owner, member_seed))
            self._blocks[place // LANES, :, place % LANES] = start

    @property
    def params(self):
        """A copy of all parameters (M, P), a row a member, in the order of an MLP's."""
        return self._blocks.transpose(0, 2, 1).reshape(-1, self.size)[self._place]

    def __len__(self):
        return self.members

    def __repr__(self):
        return f"Population({self.sizes}, members={self.members}, activation={self.activation!r}, loss={self.loss!r})"

    def member(self, i):
        """An MLP of its own with the weights that member `i` has now; negative `i` counts from the end."""
        i = integer("Population.member", "i", i, -self.members)
        if i >= self.members:
            raise bad_value("Population.member", f"i must be less than {self.members}", i)
        net = MLP(self.sizes, activation=self.activation, init=self.init, dtype=self.dtype, seed=0)
        place = self._place[i]
        net.params[...] = self._blocks[place // LANES, :, place % LANES]
        return net

    def fit(self, X, y, *, lr=0.5, epochs=1000, batch_size=None, momentum=0.0, shuffle=True, seed=0, every=1):
        """Train all members by mini-batch descent: v = momentum v + g, w = w - lr v, as `SGD` does.

        Alone, member i comes to the same weights, to rounding, by ``fit(member, X, y, loss=loss,
        optimizer=SGD(lr, momentum=momentum), epochs=epochs, batch_size=batch_size, shuffle=shuffle, seed=seed)``. The
        order of the samples is the same for all members. Results do not depend on the number of threads.

        Parameters
        ----------
        X : array_like, shape (N, I) or (M, N, I)
            Samples, the same for all members or each member's own.
        y : array_like
            Targets, as every loss takes them: (N,), (N, O), or with X (M, N, I) one such array a member.
        lr : float or array_like (M,)
            Learning rates, not negative.
        epochs : int
            Passes over the data.
        batch_size : int, optional
            Rows a step, the last batch of an epoch may be smaller; None takes all rows at once.
        momentum : float in [0, 1)
            Velocities start at 0 in every call.
        shuffle : bool
            Draw a new order of the samples for every epoch.
        seed : int or numpy.random.Generator
            For the order.
        every : int
            Record every so many epochs, and the last.

        Returns
        -------
        PopulationHistory

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong, before the first step. An interrupt leaves the population as it was.
        """
        owner = "Population.fit"
        X, targets, shared = self._data(owner, X, y)
        samples = X.shape[1]
        rate = self._rates(owner, lr)
        epochs, every = integer(owner, "epochs", epochs, 0), integer(owner, "every", every, 1)
        batch = samples if batch_size is None else min(integer(owner, "batch_size", batch_size, 1), samples)
        momentum = number(owner, "momentum", momentum, 0, 1)
        if momentum == 1:
            raise bad_value(owner, "momentum must be less than 1", momentum)
        rng = generator(owner, seed)
        recorded = np.array([e for e in range(1, epochs + 1) if e % every == 0 or e == epochs], np.int64)
        params = _copy(self._blocks)
        velocity = zeros(params.shape, self.dtype) if momentum else np.empty((len(params), 0, LANES), self.dtype)
        sums = np.zeros((2, len(params), len(recorded), LANES))
        step = max(ORDERS // samples, 1)
        for start in range(0, epochs, step):
            stop = min(start + step, epochs)
            order = _orders(rng, stop - start, samples, shuffle and batch < samples)
            wanted = np.full(stop - start, -1)
            inside = (recorded > start) & (recorded <= stop)
            wanted[recorded[inside] - start - 1] = np.flatnonzero(inside)
            self._train((X, targets, order, wanted), (rate, params, velocity, *sums), (batch, momentum), shared)
        self._blocks = params
        loss, accuracy = sums.transpose(0, 2, 1, 3).reshape(2, len(recorded), rate.size)[:, :, self._place]
        unknown = self._criteria[self._place // LANES] == CRITERIA["mse"]
        accuracy[:, unknown] = np.nan
        return PopulationHistory(recorded, loss, None if unknown.all() else accuracy)

    def _train(self, data, state, scalars, shared):
        """Call the kernel on chunks of blocks, the work of several threads."""
        kernel = self._body(kernels.train_nets)
        X, targets, order, wanted = data
        sizes = np.array(self.sizes, np.int64)

        def chunk(start, stop):
            x, t = (a if shared else a[start:stop] for a in (X, targets))
            blocks = (a[start:stop] for a in (self._criteria, *state))
            kernel(x, t, order, wanted, sizes, *blocks, *scalars, ACTIVATIONS[self.activation], shared)

        run_chunks(chunk, len(state[0]), max(WORK // (order.size * self.size * LANES), 1))

    def forward(self, X):
        """Raw outputs (M, N, O) of all members for X (N, I), or (M, N, I), each member's own."""
        X, shared = self._samples("Population.forward", X)
        outputs, samples = self.sizes[-1], X.shape[1]
        z = np.empty((len(self._blocks), outputs * samples, LANES), self.dtype)
        kernel, sizes = self._body(kernels.forward_nets), np.array(self.sizes, np.int64)

        def chunk(start, stop):
            x = X if shared else X[start:stop]
            kernel(x, sizes, self._blocks[start:stop], z[start:stop], ACTIVATIONS[self.activation], shared)

        run_chunks(chunk, len(z), max(WORK // max(samples * self.size * LANES, 1), 1))
        z = z.reshape(len(z), outputs, samples, LANES).transpose(0, 3, 2, 1)
        return z.reshape(len(z) * LANES, samples, outputs)[self._place]

    def predict_proba(self, X):
        """The members' mean probabilities: softmax (N, C) of C > 1 outputs, or sigmoid (N,) of the one logit."""
        z = self.forward(X)
        probs = F.softmax(z) if z.shape[2] > 1 else F.sigmoid(z[:, :, 0])
        return np.mean(probs, axis=0, dtype=np.float64).astype(self.dtype)

    def predict(self, X):
        """Class indices (N,) by the members' mean probabilities: the largest, or 1 where the one is above 1/2."""
        p = self.predict_proba(X)
        return np.argmax(p, axis=1) if p.ndim > 1 else (p > 0.5).astype(np.int64)

    def _body(self, kernel):
        return kernel["float" if self.dtype == np.float32 else "double"]

    def _samples(self, owner, X):
        """X and a column of ones in the dtype, and whether all members share it: then (1, N, I + 1), else in lanes."""
        X = real_array(owner, "X", X)
        shared = X.ndim < 3
        shape = f"(N, {self.sizes[0]}) or ({self.members}, N, {self.sizes[0]})"
        if X.ndim not in (2, 3) or X.shape[-1] != self.sizes[0] or not (shared or len(X) == self.members):
            hint = "one feature is X[:, None]" if X.ndim == 1 else ""
            raise bad_value(owner, f"X must have shape {shape}", X.shape, hint)
        X = _finite(owner, "X", X, self.dtype)
        X = np.concatenate([X, np.ones((*X.shape[:-1], 1), self.dtype)], axis=-1)
        return (np.ascontiguousarray(X[None]) if shared else self._in_lanes(X)), shared

    def _data(self, owner, X, y):
        """Samples and targets as the kernel takes them, at least one, and whether all members share them."""
        given, (X, shared) = real_array(owner, "X", X), self._samples(owner, X)
        rows = given.shape[:-1]
        if not math.prod(rows):
            raise bad_value(owner, "X must have at least one row", given.shape)
        t = _targets(owner, y, rows, self.sizes[-1], {self.loss} if isinstance(self.loss, str) else set(self.loss))
        t = _finite(owner, "y", t, self.dtype)
        return X, (np.ascontiguousarray(t[None]) if shared else self._in_lanes(t)), shared

    def _in_lanes(self, a):
        """(M, N, K) as (B, N, K L): number k of the members of a block side by side."""
        _, rows, width = a.shape
        blocks = np.zeros((len(self._criteria), LANES, rows, width), a.dtype)
        blocks.reshape(len(blocks) * LANES, rows, width)[self._place] = a
        return np.ascontiguousarray(blocks.transpose(0, 2, 3, 1)).reshape(len(blocks), rows, width * LANES)

    def _rates(self, owner, lr):
        """Learning rates (B, L); lanes without a member rest."""
        lr = real_array(owner, "lr", lr)
        if lr.shape not in ((), (self.members,)):
            raise bad_value(owner, f"lr must be a number or one a member, ({self.members},)", lr.shape)
        if not np.all(np.isfinite(lr) & (lr >= 0)):
            raise bad_value(owner, "lr must be finite and not negative", lr if lr.ndim else float(lr))
        rate = np.zeros((len(self._criteria), LANES), self.dtype)
        rate.reshape(-1)[self._place] = _finite(owner, "lr", lr, self.dtype)
        return rate


def _start(sizes, init, rng):
    """Starting parameters (P,) of a member, drawn as an MLP draws them."""
    parts = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        parts += [initializers.draw("Linear", init, rng, fan_in, fan_out).reshape(-1), np.zeros(fan_out)]
    return np.concatenate(parts)


def _checked_seeds(seed, seeds, members):
    if seeds is None:
        seed = integer("Population", "seed", seed, 0)
        return [seed + i for i in range(members)]
    seeds = any_array("Population", "seeds", seeds)
    if seeds.dtype.kind not in "iu":
        raise bad_type("Population", "seeds must be integers", words(f"dtype {seeds.dtype}"))
    if seeds.shape != (members,):
        raise bad_value("Population", f"seeds must have shape ({members},), one a member", seeds.shape)
    return [integer("Population", "seeds", one, 0) for one in seeds]


def _checked_losses(loss, members):
    """A name, or a tuple of names, one a member."""
    if isinstance(loss, str) or not np.iterable(loss):
        return choice("Population", "loss", loss, CRITERIA)
    losses = tuple(choice("Population", "loss", one, CRITERIA) for one in loss)
    if len(losses) != members:
        raise bad_value(
            "Population", f"loss must be a name or {members} of them, one a member", words(f"{len(losses)}")
        )
    return losses


def _places(losses, members):
    """The lane of each member, counted over all blocks, and the criterion of each block: a loss has its own blocks."""
    codes = np.array([CRITERIA[one] for one in ([losses] * members if isinstance(losses, str) else losses)])
    places, criteria = np.empty(members, np.int64), []
    for code in np.unique(codes):
        alike = np.flatnonzero(codes == code)
        places[alike] = len(criteria) * LANES + np.arange(len(alike))
        criteria += [code] * -(-len(alike) // LANES)
    return places, np.array(criteria, np.int64)


def _targets(owner, y, rows, outputs, losses):
    """Targets (*rows, outputs) in real numbers; labels, for cross-entropy alone, become 1 for their class, else 0."""
    labels = losses == {"cross_entropy"}
    y = any_array(owner, "y", y) if labels else real_array(owner, "y", y)
    shapes = [rows, (*rows, outputs)] if outputs == 1 or labels else [(*rows, outputs)]
    if y.shape not in shapes:
        raise bad_value(owner, f"y must have shape {' or '.join(map(str, shapes))}", y.shape)
    count = math.prod(rows)
    flat = y.reshape(count) if labels and y.shape == rows else y.reshape(count, outputs)
    for loss in sorted(losses):  # each raises for what is no target
        LOSSES["bce" if loss == "quadratic" else loss]()(np.zeros((count, outputs)), flat)
    if flat.ndim == 1:
        flat = np.eye(outputs)[flat.astype(np.int64)]
    return flat.reshape(*rows, outputs)


def _finite(owner, name, a, dtype):
    with np.errstate(over="ignore", under="ignore"):
        cast = a.astype(dtype, copy=False)
    wrong = ~np.isfinite(cast)
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise bad_value(owner, f"{name} must be finite in {dtype}", words(f"{a[place]} at {place}"))
    return cast


def _orders(rng, epochs, samples, shuffle):
    """An order of the samples for each epoch (E, N), the same that `minnet.fit` draws from `rng`."""
    if not shuffle:
        return np.tile(np.arange(samples), (epochs, 1))
    return np.array([rng.permutation(samples) for _ in range(epochs)])


def _copy(a):
    copy = zeros(a.shape, a.dtype)
    copy[...] = a
    return copy
