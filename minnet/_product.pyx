# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""C = D + A B for matrices that no cache holds. Letters and rules: _activations.pyx.

Tiles of C stay in registers while k runs, as in _epoch.pyx. What they multiply is copied: a block of B, which takes a
quarter of the second cache, panel by panel as tiles read it, and the rows of A that a tile reads, which stay in the
first one. Rows of logits are far apart: as they are, they would take more pages of memory than a CPU finds at once, and
where they are a power of two apart, all the same lines of a cache. What comes next is brought near while tiles compute.
"""

from libc.string cimport memset

from minnet._loops cimport clones, pointer
from minnet._math cimport inlined, real
from minnet._rows cimport minnet_prefetch, transpose_all

cdef enum:
    TALL = 6      # most rows of a tile
    WIDE = 32     # its columns, those of a panel: 12 vectors of sums. gcc must not unroll loops over them too early, see setup.py
    DEPTH = 256   # rows of a block of B
    BROAD = 256   # its columns
    APART = (DEPTH + 1) * WIDE   # from one panel to the next: not a power of two, which would share lines of the cache

ROOM = BROAD // WIDE * APART + TALL * DEPTH + TALL * WIDE + BROAD + WIDE  # numbers that `multiply` needs


cdef struct Product:
    Py_ssize_t rows, columns, depth
    Py_ssize_t a_row, b_k, b_column, c_row, d_row   # from one element to the next


cdef inline inlined fetch(
    const real* a, Py_ssize_t a_row, Py_ssize_t rows, Py_ssize_t start, Py_ssize_t stop,
) noexcept nogil:
    """Bring columns start to stop of some rows near; an address that is not ours does no harm."""
    cdef Py_ssize_t i
    while start < stop:
        for i in range(rows):
            minnet_prefetch(a + i * a_row + start)
        start += WIDE // 2   # a line of the cache for floats; of doubles every second one does


cdef inline inlined tile(
    const real* A, const real* B, const real* D, real* C, Py_ssize_t d_row, Py_ssize_t c_row, Py_ssize_t depth,
    int rows,
) noexcept nogil:
    """C = D + A B for a tile, from copies of A and B; D may be NULL."""
    cdef real sums[TALL * WIDE]
    cdef real x
    cdef Py_ssize_t k
    cdef int a, j
    fetch(C, c_row, rows, WIDE, 2 * WIDE)   # the next tile's
    for a in range(rows):   # the first products, not zeros: see _epoch.pyx
        x = A[a * DEPTH]
        for j in range(WIDE):
            sums[a * WIDE + j] = x * B[j]
    for k in range(1, depth):
        for a in range(rows):
            x = A[a * DEPTH + k]
            for j in range(WIDE):
                sums[a * WIDE + j] += x * B[k * WIDE + j]
    if D == NULL:
        for a in range(rows):
            for j in range(WIDE):
                C[a * c_row + j] = sums[a * WIDE + j]
    else:
        for a in range(rows):
            for j in range(WIDE):
                C[a * c_row + j] = D[a * d_row + j] + sums[a * WIDE + j]


cdef inline inlined any_tile(
    const real* A, const real* B, const real* D, real* C, Py_ssize_t d_row, Py_ssize_t c_row, Py_ssize_t depth,
    Py_ssize_t rows,
) noexcept nogil:
    if rows == 6:
        tile(A, B, D, C, d_row, c_row, depth, 6)
    elif rows == 5:
        tile(A, B, D, C, d_row, c_row, depth, 5)
    elif rows == 4:
        tile(A, B, D, C, d_row, c_row, depth, 4)
    elif rows == 3:
        tile(A, B, D, C, d_row, c_row, depth, 3)
    elif rows == 2:
        tile(A, B, D, C, d_row, c_row, depth, 2)
    else:
        tile(A, B, D, C, d_row, c_row, depth, 1)


cdef inline inlined add_edge(
    const real* edge, const real* D, real* C, Py_ssize_t d_row, Py_ssize_t c_row, Py_ssize_t rows, Py_ssize_t columns,
) noexcept nogil:
    """C = D + edge, the part of a tile that there is of C."""
    cdef Py_ssize_t a, j
    for a in range(rows):
        for j in range(columns):
            C[a * c_row + j] = edge[a * WIDE + j] + (<real>0 if D == NULL else D[a * d_row + j])


cdef inline inlined copy_rows(
    const real* A, Py_ssize_t a_row, real* copy, Py_ssize_t rows, Py_ssize_t depth,
) noexcept nogil:
    """Rows of A, DEPTH apart. Row by row, gcc would make it an instruction that is slow for as little as this."""
    cdef Py_ssize_t a, i, whole = depth // WIDE
    cdef int j
    for i in range(whole):
        for a in range(rows):
            for j in range(WIDE):
                copy[a * DEPTH + i * WIDE + j] = A[a * a_row + i * WIDE + j]
    for i in range(whole * WIDE, depth):
        for a in range(rows):
            copy[a * DEPTH + i] = A[a * a_row + i]


cdef inline inlined pack_rows(
    const real* B, Py_ssize_t b_k, real* packed, Py_ssize_t depth, Py_ssize_t columns, real* sums, real* lanes,
) noexcept nogil:
    """A block of B whose columns lie side by side; sums (columns,) += its sums over rows, unless NULL."""
    cdef Py_ssize_t k, b, whole = columns // WIDE
    cdef int j
    memset(lanes, 0, BROAD * sizeof(real))
    for k in range(depth):
        for b in range(whole):
            for j in range(WIDE):
                packed[b * APART + k * WIDE + j] = B[k * b_k + b * WIDE + j]
        for j in range(columns - whole * WIDE):
            packed[whole * APART + k * WIDE + j] = B[k * b_k + whole * WIDE + j]
        if sums != NULL:
            for b in range(columns):
                lanes[b] += B[k * b_k + b]
    if sums != NULL:
        for b in range(columns):
            sums[b] += lanes[b]


cdef inline inlined pack(
    const real* B, const Product* p, real* packed, Py_ssize_t depth, Py_ssize_t columns, real* sums, real* lanes,
) noexcept nogil:
    """Panels of a block of B, DEPTH x WIDE each, with zeros for columns that there are none of."""
    cdef Py_ssize_t b = columns // WIDE * WIDE
    if b < columns:
        memset(packed + b // WIDE * APART, 0, depth * WIDE * sizeof(real))
    if p.b_column == 1:
        pack_rows(B, p.b_k, packed, depth, columns, sums, lanes)
        return
    b = 0
    while b < columns:
        transpose_all(
            B + b * p.b_column, p.b_column, packed + b // WIDE * APART, WIDE, min(<Py_ssize_t>WIDE, columns - b), depth,
            True)
        b += WIDE


cdef inline inlined multiply_block(
    const real* A, const real* D, real* C, const real* coming, const Product* p, Py_ssize_t d_row, Py_ssize_t depth,
    Py_ssize_t columns, real* room,
) noexcept nogil:
    """All rows of C = D + A B for a packed block of B, while the block that is `coming` is brought near."""
    cdef real* rows_of_a = room + BROAD // WIDE * APART
    cdef real* edge = rows_of_a + TALL * DEPTH
    cdef bint along = p.b_column == 1
    cdef Py_ssize_t coming_row = p.b_k if along else p.b_column
    cdef Py_ssize_t coming_rows = depth if along else columns
    cdef Py_ssize_t coming_columns = columns if along else depth
    cdef Py_ssize_t tiles = (p.rows + TALL - 1) // TALL
    cdef Py_ssize_t i, b, rows, start, stop
    cdef bint whole
    for i in range(tiles):
        rows = p.rows // tiles + (i < p.rows % tiles)
        start, stop = i * coming_rows // tiles, (i + 1) * coming_rows // tiles
        copy_rows(A, p.a_row, rows_of_a, rows, depth)
        A += rows * p.a_row
        b = 0
        while b < columns:
            fetch(A, p.a_row, TALL, b * depth // columns, (b + WIDE) * depth // columns)
            fetch(coming + start * coming_row, coming_row, stop - start, b * coming_columns // columns,
                  (b + WIDE) * coming_columns // columns)
            whole = b + WIDE <= columns
            any_tile(
                rows_of_a, room + b // WIDE * APART, D + b if whole and D != NULL else NULL, C + b if whole else edge,
                d_row, p.c_row if whole else <Py_ssize_t>WIDE, depth, rows)
            if not whole:
                add_edge(edge, D + b if D != NULL else NULL, C + b, d_row, p.c_row, rows, columns - b)
            b += WIDE
        C += rows * p.c_row
        D = D + rows * d_row if D != NULL else NULL


cdef clones product(
    const real* A, const real* B, const real* D, real* C, real* sums, const Product* p, real* room,
) noexcept nogil:
    cdef real* lanes = room + BROAD // WIDE * APART + TALL * DEPTH + TALL * WIDE
    cdef Py_ssize_t n = 0, k, columns, depth, plus_row
    cdef const real* plus
    cdef const real* part
    cdef const real* coming
    while n < p.columns:
        columns = min(<Py_ssize_t>BROAD, p.columns - n)
        k = 0
        while k < p.depth:
            depth = min(<Py_ssize_t>DEPTH, p.depth - k)
            part = B + k * p.b_k + n * p.b_column
            coming = part + depth * p.b_k if k + depth < p.depth else B + (n + columns) * p.b_column
            pack(part, p, room, depth, columns, NULL if sums == NULL else sums + n, lanes)
            plus = C + n
            if k == 0:
                plus = D + n if D != NULL else NULL
            plus_row = p.d_row if k == 0 else p.c_row
            multiply_block(A + k, plus, C + n, coming, p, plus_row, depth, columns, room)
            k += depth
        n += columns


def multiply(
    const real[:, ::1] A not None, const real[:, :] B not None, const real[:, :] D not None, real[:, :] C not None,
    real[::1] sums not None, real[::1] room not None,
):
    """C = D + A B for A (N, K), B (K, C), and sums (C,) += the sum of B over rows.

    D may be C, or one row for all, or have no rows where it is not wanted. Columns of C and D lie side by side, and
    those of B, or else its rows, and then there are no sums. `room` is for ROOM numbers.
    """
    cdef Product p
    cdef real* base = <real*>(<char*>&room[0] + 63 - (<size_t>&room[0] + 63) % 64)
    with nogil:
        p.rows, p.columns, p.depth = A.shape[0], B.shape[1], A.shape[1]
        p.a_row, p.b_k, p.b_column = p.depth, B.strides[0] // sizeof(real), B.strides[1] // sizeof(real)
        p.c_row, p.d_row = C.strides[0] // sizeof(real), D.strides[0] // sizeof(real)
        product(&A[0, 0], &B[0, 0], &D[0, 0] if D.shape[0] > 0 else NULL, &C[0, 0], pointer(sums), &p, base)
