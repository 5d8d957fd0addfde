"""What the tests of doors share (see minnet/_doors.pxd)."""

import numpy as np


class Doors(list):
    """What a door gave, call by call; after `close()` it lets nothing through."""

    def __init__(self, monkeypatch, kernels, name):
        super().__init__()
        door = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a: self.append(door(*a)) or self[-1])
        self.close = lambda: monkeypatch.setattr(kernels, name, lambda *a: None)


def assert_same_bits(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
