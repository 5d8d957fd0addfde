"""Where batches come from: arrays in memory, arrays in files, or any source that gives one batch after the other.

An array in memory is cast to the net's dtype once. A memory-mapped one stays where it is: rows are gathered, and cast,
a batch at a time, so that it may be larger than memory.
"""

from functools import cached_property

import numpy as np

from minnet._checks import any_array, bad_type, bad_value, real_array, words

CHECKED = 2**16  # rows of targets that are looked at in one go


class Arrays:
    """Rows of X (N, ...) and as many targets y, in batches of `size`, drawn in a new order for every epoch or not."""

    def __init__(self, X, y, size, shuffle):
        self.X, self.y, self.size, self.shuffle = X, y, size, shuffle
        self.batches, self.mapped = -(-len(X) // size), is_mapped(X) or is_mapped(y)
        self.most = min(size, len(X))  # rows of a batch

    def order(self, rng, epochs=1):
        """The rows of some epochs, as they come."""
        rows = len(self.X)
        if self.shuffle:
            return np.concatenate([rng.permutation(rows) for _ in range(epochs)])
        return np.tile(np.arange(rows), epochs)

    @cached_property
    def rooms(self):
        """Where the rows of a batch are gathered."""
        return [np.empty((self.most, *a.shape[1:]), a.dtype) for a in (self.X, self.y)]

    def epoch(self, rng):
        """The batches (x, y) of an epoch. Each is overwritten by the next: large arrays made anew cost page faults."""
        order = self.order(rng)
        for start in range(0, len(order), self.size):
            rows = order[start : start + self.size]
            pairs = zip((self.X, self.y), self.rooms, strict=True)
            yield tuple(np.take(a, rows, axis=0, out=room[: len(rows)], mode="clip") for a, room in pairs)


class Stream:
    """Batches of a source: something to iterate over, time and again, or a function that gives an iterator an epoch."""

    def __init__(self, owner, source):
        self.owner, self.source = owner, source
        if not callable(source):
            self._refuse_other(source)
            if hasattr(source, "__next__"):
                got, hint = words("an iterator, for one"), "give the function that makes it"
                raise bad_type(owner, "batches must be there for every epoch", got, hint)

    def _refuse_other(self, source):
        if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
            rule = "without y, X must be batches (x, y) to iterate over, or a function that gives an iterator"
            raise bad_type(self.owner, rule, source)

    def epoch(self, rng):
        """The batches (x, y) of an epoch, checked for their form; the source has its own order."""
        source, empty = self.source() if callable(self.source) else self.source, True
        self._refuse_other(source)
        for batch in source:
            yield self._checked(batch)
            empty = False
        if empty:
            hint = "the function must give a new iterator for every epoch"
            raise bad_value(self.owner, "an epoch must have at least one batch", words("none"), hint)

    def _checked(self, batch):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:  # two rows of an array are no pair
            raise bad_type(self.owner, "a batch must be a pair (x, y)", words(type(batch).__name__))
        return samples_and_targets(self.owner, *batch, "a batch's ")


def samples_and_targets(owner, X, y, whose=""):
    """X (N, ...) of real numbers, N at least 1, and y with as many rows. What is memory-mapped stays so."""
    mapped = is_mapped(X)
    X = np.asarray(X) if mapped else real_array(owner, f"{whose}X", X)
    y = any_array(owner, f"{whose}y", y)
    if mapped:
        real_array(owner, f"{whose}X", X[:1] if X.ndim else X)  # for its dtype
    if X.ndim < 2:
        raise bad_value(owner, f"{whose}X must have shape (N, I)", X.shape, "one feature is X[:, None]")
    if y.shape[:1] != X.shape[:1]:
        raise bad_value(owner, f"{whose}y must have as many rows as X, {len(X)}", y.shape)
    if not len(X):
        raise bad_value(owner, f"{whose}X must have at least one row", X.shape)
    return X, y


def is_mapped(a):
    """Whether an array is a view of a file."""
    while a is not None and not isinstance(a, np.memmap):
        a = getattr(a, "base", None)
    return a is not None


def training_data(owner, net, X, y, loss, whose=""):
    """X in the net's dtype and y, if net and loss take them; every target is looked at, before the first step."""
    X, y = samples_and_targets(owner, X, y, whose)
    if not is_mapped(X):
        X = X.astype(net.params.dtype, copy=False)
    outputs = net.forward(X[:1])
    for start in range(0, len(y), CHECKED):
        target = y[start : start + CHECKED]
        try:
            loss(np.repeat(outputs, len(target), axis=0), target)
        except Exception as error:
            if start:
                error.add_note(f"{owner}: rows are counted from row {start} of {whose}y")
            raise
    return X, y
