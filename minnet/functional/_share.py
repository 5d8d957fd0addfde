"""How an array is handed to a kernel: by its dtype, in chunks for several threads, apart from its output."""

from functools import lru_cache

import numpy as np

from minnet._threads import run_chunks, standing_team

# Elements of a chunk when large work is cut for several threads: 0.1 to 0.3 ms of it, several times what it costs to
# hand a chunk over. Part of the definition of a sum: other cuts would round otherwise.
SHARE = 2**18
WORTH = 2**18  # elements of work that are worth a helper, who may come 50 us late

NONE = {"f": np.empty(0, np.float32), "d": np.empty(0, np.float64)}  # an output that is not wanted
NO_ROWS = {"f": np.empty((0, 0), np.float32), "d": np.empty((0, 0), np.float64)}


def by_dtype(kernel):
    """The float and double bodies of a fused kernel by dtype character: a look-up that beats Cython's own search."""
    return {"f": kernel["float"], "d": kernel["double"]}


def share(kernel, size, *arrays, scalars=()):
    """Call a kernel on chunks of `size` rows, the work of several threads; arrays of another length stay as they are.

    The cuts do not depend on the number of threads, nor then does the list of results.
    """
    rows = len(arrays[0])
    if rows <= size:
        return [kernel(*arrays, *scalars)]

    def chunk(start, stop):
        return kernel(*(a[start:stop] if len(a) == rows else a for a in arrays), *scalars)

    return run_chunks(chunk, rows, size)


@lru_cache
def rows_a_share(columns):
    """Rows of a chunk: whole tiles of 32 rows."""
    return max(SHARE // max(columns, 1) // 32, 1) * 32


def team_for(elements):
    """A team for a kernel that shares work of so many elements itself, None where that does not pay."""
    return standing_team(elements // WORTH)


def apart(x, y):
    """`x`, copied if `y` overlaps it in part, when a kernel could read an element after it was written."""
    same = x.__array_interface__["data"][0] == y.__array_interface__["data"][0] and x.size == y.size
    return x.copy() if not same and np.may_share_memory(x, y) else x
