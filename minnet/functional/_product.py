"""Products of large matrices: by tiles of our own where those are faster, by numpy's BLAS elsewhere."""

import numpy as np

from minnet import _product, _simd
from minnet._threads import get_num_threads, run_chunks
from minnet.functional._share import NO_ROWS, NONE, by_dtype

_multiply = by_dtype(_product.multiply)

TILED = {"x86-64-v4": "fd"}  # dtypes by the SIMD level whose tiles are as fast as a BLAS: with AVX2, doubles are not
LARGE = 2**24  # products of two numbers, 0.3 ms on one thread, below which a call of BLAS costs less than parts do
PART = 4096  # most columns of a part of the work
PANEL = 16_000_000  # bytes of a product that is added to something; glibc takes no new memory for each of them


def multiply(A, B, out, plus=None, sums=None):
    """Write plus + A B to `out`, and add the sum of B over rows to `sums`.

    A (M, K) is C-contiguous, of B (K, N) the columns lie side by side, or the rows; `plus` is a row (N,) or `out`.
    No sum is cut among threads: by tiles, no bit depends on their number.
    """
    if A.dtype.char in TILED.get(_simd.level(), "") and A.size * B.shape[1] >= LARGE:
        _by_tiles(A, B, out, plus, NONE[A.dtype.char] if sums is None else sums)
    else:
        _by_blas(A, B, out, plus, sums)


def _by_tiles(A, B, out, plus, sums):
    kernel, none = _multiply[A.dtype.char], NO_ROWS[A.dtype.char]
    plus = none if plus is None else np.broadcast_to(plus, out.shape)

    def part(start, stop):
        columns, room = slice(start, stop), np.empty(_product.ROOM, A.dtype)
        kernel(A, B[:, columns], plus[:, columns], out[:, columns], sums[columns], room)

    run_chunks(part, out.shape[1], _part(out.shape[1]))


def _part(columns):
    """Columns of a part: parts are equal, as many for each thread, and in whole lines of the cache."""
    threads = get_num_threads()
    parts = threads * -(-columns // (threads * PART))
    return -(-columns // (16 * parts)) * 16


def _by_blas(A, B, out, plus, sums):
    if plus is out:
        step = max(PANEL // max(len(A) * A.itemsize, 1), 1)
        for start in range(0, out.shape[1], step):
            panel = slice(start, start + step)
            out[:, panel] += np.dot(A, B[:, panel])
    else:
        np.dot(A, B, out=out)
        if plus is not None:
            out += plus
    if sums is not None:
        sums += np.dot(np.ones(len(B), B.dtype), B)
