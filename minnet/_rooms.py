"""Memory: arrays in lines of the cache, and those that a step of training makes, where the one before it has written.

New memory costs calls and caches, and page faults where malloc has none at hand. What asks for a room need not know
whether there is a step: elsewhere, and in any other thread, a room is a new array.
"""

import math
from _thread import _local

import numpy as np

from minnet._checks import FLOAT32, FLOAT64

LINE = 64  # bytes of a line of the cache


class _Thread(_local):
    rooms = None  # those of the step that the thread is in


_thread = _Thread()


def room(shape, dtype):
    """An array to be written to: a new one or, within a step, one that is valid until the next step."""
    rooms = _thread.rooms
    return np.empty(shape, dtype) if rooms is None else rooms.next(shape, dtype)


def gradient_room(outputs):
    """A room for the gradient of a loss. None, for an array of its own, outside of steps and for other outputs."""
    rooms = _thread.rooms
    if rooms is None or type(outputs) is not np.ndarray or outputs.dtype not in (FLOAT32, FLOAT64):
        return None
    return rooms.next(outputs.shape, outputs.dtype)


def zeros(shape, dtype, place=0):
    """Zeros that begin `place` bytes after a line of the cache: at one, no vector of the kernels lies across two."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + LINE, np.uint8)
    start = (place - memory.ctypes.data) % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def zeros_beside(params):
    """Zeros like a flat vector that lie in lines of the cache as it does, for kernels that go through both."""
    place = params.ctypes.data % LINE
    return zeros(params.shape, params.dtype, place - place % params.itemsize)


def cast(a, dtype):
    """`a` in a float dtype: itself, or what is written to a room."""
    if a.dtype == dtype:
        return a
    y = room(a.shape, dtype)
    np.copyto(y, a, casting="same_kind")
    return y


class Rooms:
    """The rooms of a run: ``with rooms:`` is a step. The n-th array a step asks for lies where that of the last lay.

    Steps ask in the same order as long as they compute the same; a room that does not fit is replaced by a new array,
    and fewer rows are the first ones of a room.
    """

    def __init__(self):
        self.arrays, self.asked = [], 0

    def __enter__(self):
        self.asked, self.outer, _thread.rooms = 0, _thread.rooms, self

    def __exit__(self, *error):
        _thread.rooms = self.outer

    def next(self, shape, dtype):
        """The next room of this step."""
        place = self.asked
        self.asked = place + 1
        if place == len(self.arrays):
            self.arrays.append(np.empty(shape, dtype))
        kept = self.arrays[place]
        if kept.shape == shape and kept.dtype == dtype:
            return kept
        if kept.dtype == dtype and kept.shape[1:] == shape[1:] and () < shape[:1] <= kept.shape[:1]:
            return kept[: shape[0]]
        self.arrays[place] = np.empty(shape, dtype)
        return self.arrays[place]
