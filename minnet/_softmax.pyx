# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Softmax, log-softmax and logsumexp of rows of logits. Letters and rules: _activations.pyx."""

from cpython.buffer cimport PyBuffer_Release
from libc.math cimport INFINITY, NAN

from minnet cimport _math
from minnet._doors cimport alike, apart, enter
from minnet._loops cimport clones
from minnet._math cimport inlined, real
from minnet._rows cimport (
    FEW, ROWS, add, anchor, exact_others, exp_total, fetch, infinite_others, invert_total, largest, log_total, multiply,
    row_max, tile_load, tile_load_columns, tile_max, tile_settle, tile_store, tile_store_columns, tile_top, unshift_sum,
)
from minnet._team cimport Team, meeting_of, piece_of, share_standing


cdef enum:
    HALF = ROWS // 2
    FIRST = 128   # entries of a row whose maximum is a guess at that of all


# ---- softmax family ------------------------------------------------------------------------------------------------

# Tiles take exponentials of t - base, where base is the first class of a row or, where that is far below, the maximum. With
# the first class in all rows nothing waits for maxima, and the exponentials of one class are 1: those of the first `ones`.

cdef inline real reach(real unused) noexcept nogil:
    return <real>600 if real is float else <real>24


cdef inline real far(real z, real m) noexcept nogil:
    """How far m, a maximum, is above z, a first class: up to `reach` a sum of exp(t - z) holds exp(m - z).

    More than that where z is infinite, or so large that `exact_tile` needs `bring_near`."""
    cdef real size = _math.magnitude(z) * <real>2.4e-17
    return m - z if m - z > size else size


cdef inline inlined wide_tile(const float* t, float* y, const float* base, Py_ssize_t ones, Py_ssize_t n) noexcept nogil:
    """y = softmax(t), row by row, from exponentials in double: nothing needs two parts."""
    cdef double e[FEW * ROWS]
    cdef double wide[ROWS]
    cdef double total[ROWS]
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        wide[j], total[j] = base[j], ones
    for k in range(ones, n):
        for j in range(ROWS):
            e[k * ROWS + j] = _math.exp_wide(t[k * ROWS + j] - wide[j])
            total[j] += e[k * ROWS + j]
    for j in range(ROWS):
        total[j] = 1.0 / total[j]
    for j in range(ROWS if ones else 0):
        y[j] = total[j]
    for k in range(ones, n):
        for j in range(ROWS):
            y[k * ROWS + j] = e[k * ROWS + j] * total[j]


cdef inline inlined bounded_terms(
    double z, double m, double lowest, double* scale, double* p, double* p_low,
) noexcept nogil:
    """exp(z - m), shifted, = scale (1 + p + p_low); that of `lowest` instead of a smaller one is nothing in the end."""
    cdef double d, d_low
    _math.difference(z, m, &d, &d_low)
    d_low = 0.0 if lowest > d else d_low
    _math.exp_terms(lowest if lowest > d else d, d_low, scale, p, p_low)


cdef inline inlined bring_near(double* t, double* base, Py_ssize_t n) noexcept nogil:
    """t - base and 0 for rows whose base hides the bounds of exact_tile: that is exact, or its exponential is 0."""
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        if _math.magnitude(base[j]) > 1e18:
            for k in range(n):
                t[k * ROWS + j] -= base[j]
            base[j] = 0


cdef inline inlined half_terms(double* t, const double* base, const double* bound, double* scale) noexcept nogil:
    """exp(t - base), shifted, = scale (1 + p) for one class of half a tile, p in place of t."""
    cdef double d[HALF]
    cdef double low[HALF]
    cdef double first[HALF]
    cdef double rest[HALF]
    cdef double power[HALF]
    cdef double unused
    cdef Py_ssize_t j
    for j in range(HALF):
        _math.difference(_math.at_least(t[j], bound[j]), base[j], &d[j], &low[j])
        _math.reduce(d[j], low[j], &power[j], &first[j], &rest[j])
        scale[j] = _math.pow2(power[j])
    for j in range(HALF):
        _math.reduced_terms(first[j], rest[j], &t[j], &unused)


cdef inline inlined class_terms(double* t, const double* base, const double* bound, double* scale) noexcept nogil:
    half_terms(t, base, bound, scale)
    half_terms(t + HALF, base + HALF, bound + HALF, scale + HALF)


cdef inline inlined add_class(const double* scale, const double* p, double* high, double* low) noexcept nogil:
    """high + low += scale (1 + p) for one class, where high >= each of them."""
    cdef double before
    cdef Py_ssize_t j
    for j in range(ROWS):
        before = high[j]
        high[j] = before + (scale[j] + scale[j] * p[j])
        low[j] += scale[j] * p[j] + (scale[j] - (high[j] - before))


cdef inline inlined exact_tile(
    double* t, double* y, const double* base, Py_ssize_t ones, Py_ssize_t n, const double* next, Py_ssize_t step,
) noexcept nogil:
    """The same for doubles; t is lost. Meanwhile the tile `next` is fetched, whose classes are `step` apart.

    Sums are in two parts, and begin with 2^36 too many, which exceeds each addend. With exponentials in two parts, 2^n and
    2^n p, a product rounds once that counts. Sums wait for exponentials, so they have a loop of their own.
    """
    cdef double shift = 1.3407807929942597e154
    cdef double TOO_MANY = 68719476736.0 * shift
    cdef double high[ROWS]
    cdef double low[ROWS]
    cdef double bound[ROWS]
    cdef double p, total, total_low
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        high[j], low[j], bound[j] = TOO_MANY + ones * shift, 0, base[j] + _math.lowest(shift)
    for k in range(ones, n):
        fetch(next + k * step, 4)
        class_terms(t + k * ROWS, base, bound, y + k * ROWS)
    for k in range(ones, n):
        add_class(y + k * ROWS, t + k * ROWS, high, low)
    for j in range(ROWS):
        high[j] -= TOO_MANY
        total = high[j] + low[j]
        total_low = low[j] - (total - high[j])
        _math.reciprocal(total, total_low, &high[j], &low[j])
    for j in range(ROWS if ones else 0):
        y[j] = (high[j] + low[j]) * shift
    for k in range(ones, n):
        for j in range(ROWS):
            p = t[k * ROWS + j]
            y[k * ROWS + j] = (high[j] + (high[j] * p + (low[j] + low[j] * p))) * y[k * ROWS + j]


cdef inline inlined exact_sums(
    const real* t, const real* m, double* others, double* others_low, Py_ssize_t n,
) noexcept nogil:
    """For each row of a tile the sum of exp(t - m) but for one maximum, in two parts."""
    cdef double x[ROWS]
    cdef double x_low[ROWS]
    cdef double rest[ROWS]
    cdef double maxima[ROWS]
    cdef double lowest[ROWS]
    cdef double scale, p, p_low
    cdef double unshift = 1.0 if real is float else _math.unshift(<double>0)
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        others[j] = others_low[j] = rest[j] = maxima[j] = 0
        lowest[j] = _math.lowest(unshift)
    for k in range(n):
        for j in range(ROWS):
            if real is float:
                x[j], x_low[j] = _math.exp_wide(t[k * ROWS + j] - <double>m[j]), 0
            else:
                bounded_terms(t[k * ROWS + j], m[j], lowest[j], &scale, &p, &p_low)
                x[j] = scale + scale * p
                x_low[j] = scale * p_low + (scale * p + (scale - x[j]))
            rest[j] += x_low[j]
            maxima[j] += 1.0 if t[k * ROWS + j] == m[j] else 0.0
            x[j] = 0.0 if t[k * ROWS + j] == m[j] else x[j]
        for j in range(ROWS):
            if real is float:
                others[j] += x[j]
            else:
                add(&others[j], &others_low[j], x[j])
    for j in range(ROWS):
        add(&others[j], &others_low[j], (maxima[j] - 1) / unshift)
        unshift_sum(others[j], others_low[j] + rest[j], unshift, &others[j], &others_low[j])


cdef inline inlined normalize_tile(real* t, real* y, Py_ssize_t n, const real* next, Py_ssize_t step) noexcept nogil:
    """y = softmax(t), row by row. No bit depends on what other rows a tile has."""
    cdef real base[ROWS]
    cdef real flags[ROWS]
    cdef Py_ssize_t j
    tile_top(t, base, n)
    for j in range(ROWS):
        flags[j] = far(t[j], base[j])
    if not largest(flags) <= reach(base[0]):
        tile_settle(t, base, n)
        for j in range(ROWS):
            base[j] = t[j] if far(t[j], base[j]) <= reach(base[0]) else base[j]
        if real is float:
            wide_tile(t, y, base, 0, n)
        else:
            bring_near(t, base, n)
            exact_tile(t, y, base, 0, n, next, step)
    else:
        for j in range(ROWS):
            base[j] = t[j]
        if real is float:
            wide_tile(t, y, base, 1, n)
        else:
            exact_tile(t, y, base, 1, n, next, step)


cdef inline inlined log_normalize_tile(real* t, real* y, Py_ssize_t n) noexcept nogil:
    """y = log(softmax(t)), row by row."""
    cdef real m[ROWS]
    cdef double others[ROWS]
    cdef double log_sum[ROWS]
    cdef real L[ROWS]
    cdef Py_ssize_t j, k
    tile_max(t, m, n)
    exact_sums(t, m, others, log_sum, n)
    for j in range(ROWS):
        log_total(others[j], log_sum[j], &log_sum[j])
        L[j] = log_sum[j]
    for k in range(n):
        for j in range(ROWS):
            y[k * ROWS + j] = -L[j] if t[k * ROWS + j] == m[j] else (t[k * ROWS + j] - m[j]) - L[j]


cdef clones softmax_tile(const real* x, real* y, Py_ssize_t rows, Py_ssize_t n, bint logarithm, Py_ssize_t step) noexcept nogil:
    """One tile of rows (step 0), or of columns whose classes are `step` apart."""
    cdef real t[FEW * ROWS]
    cdef real p[FEW * ROWS]
    if step:
        tile_load_columns(x, t, rows, n, step)
    else:
        tile_load(x, t, rows, n)
    if logarithm:
        log_normalize_tile(t, p, n)
    else:
        normalize_tile(t, p, n, x + (ROWS if step else rows * n), step if step else <Py_ssize_t>ROWS)
    if step:
        tile_store_columns(p, y, rows, n, step)
    else:
        tile_store(p, y, rows, n)


cdef clones softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """A maximum has the two parts of its e, so that it is 1 where it is alone, and 1/2 where there are two.

    It is found while exponentials are made, by that of the first entries: a pass over the row less. Where it is far from
    that, they are made once more.
    """
    cdef real NEAR = 40 if real is float else 12   # no overflow; for doubles less than what a sum begins with
    cdef real guess, m, base, shift, lowest, scale, p, p_low, top, top_low, peak, high, low, entry
    cdef double unit, total, total_low
    cdef Py_ssize_t k
    row_max(x, &guess, min(<Py_ssize_t>FIRST, n))
    for k in range(2):
        anchor(guess, &base, &shift, &lowest, &unit)
        m = guess
        if m == INFINITY:
            infinite_others(x, <real>1, &total, &total_low, y, n)
            total += 1
            break
        exp_total(x, base, shift, lowest, y, &total, &total_low, &m, n)
        if m - guess < NEAR:
            break
        guess = m
    invert_total(total, total_low, &high, &low)
    _math.counted_terms(m - base, shift, lowest, &scale, &p, &p_low)
    top = scale + scale * p
    top_low = scale * p_low + (scale * p + (scale - top))
    peak = top
    multiply(high, low + high * (top_low / top), &peak)
    for k in range(n):
        entry = y[k]
        multiply(high, low, &entry)
        y[k] = peak if y[k] == top else entry


cdef clones log_softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m, L
    cdef double others, low, log_sum
    cdef Py_ssize_t k
    row_max(x, &m, n)
    exact_others(x, m, &others, &low, n)
    log_total(others if m > -INFINITY else <double>NAN, low, &log_sum)
    L = log_sum
    for k in range(n):
        y[k] = -L if x[k] == m else (x[k] - m) - L


cdef clones logsumexp_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m
    cdef double others, low, log_sum
    cdef Py_ssize_t k
    row_max(x, &m, n)
    exact_others(x, m, &others, &low, n)
    log_total(others, low, &log_sum)
    y[0] = m + log_sum
    if m == -INFINITY:
        y[0] = m
        for k in range(n):
            y[0] += x[k]   # NaN, if there is one


cdef void softmax_rows(
    const real* x, real* y, Py_ssize_t rows, Py_ssize_t classes, bint logarithm,
) noexcept nogil:
    cdef Py_ssize_t i = 0, at
    while i < rows:
        at = i * classes
        if classes <= FEW:
            softmax_tile(x + at, y + at, min(<Py_ssize_t>ROWS, rows - i), classes, logarithm, 0)
            i += ROWS
        elif logarithm:
            log_softmax_row(x + at, y + at, classes)
            i += 1
        else:
            softmax_row(x + at, y + at, classes)
            i += 1


cdef void softmax_columns(const real[:, :, ::1] x, real[:, :, ::1] y, bint logarithm) noexcept nogil:
    cdef Py_ssize_t a, i, columns = x.shape[2]
    for a in range(x.shape[0]):
        i = 0
        while i < columns:
            softmax_tile(&x[a, 0, i], &y[a, 0, i], min(<Py_ssize_t>ROWS, columns - i), x.shape[1], logarithm, columns)
            i += ROWS


# ---- on several threads: see _team.h ----

cdef struct Work:   # what is void is float or double
    const void* x
    void* y
    bint logarithm, doubles
    Py_ssize_t rows, classes, piece   # rows of a part: whole tiles


cdef void normalize_part(const Work* w, const real* x, Py_ssize_t start, Py_ssize_t rows) noexcept nogil:
    softmax_rows(x + start * w.classes, <real*>w.y + start * w.classes, rows, w.classes, w.logarithm)


cdef void do_part(void* argument, Py_ssize_t part) noexcept nogil:
    cdef const Work* w = <const Work*>argument
    cdef Py_ssize_t start = part * w.piece
    if w.doubles:
        normalize_part(w, <const double*>w.x, start, min(w.piece, w.rows - start))
    else:
        normalize_part(w, <const float*>w.x, start, min(w.piece, w.rows - start))


cdef void share_rows(const real[:, ::1] x, real[:, ::1] y, bint logarithm, Team team) noexcept nogil:
    """softmax_rows by the team. Tiles do not depend on each other, so no bit depends on who does which."""
    cdef Work w
    cdef Py_ssize_t tile = ROWS if x.shape[1] <= FEW else 1
    w.x, w.y, w.logarithm, w.doubles, w.rows, w.classes = &x[0, 0], &y[0, 0], logarithm, real is double, x.shape[0], x.shape[1]
    w.piece = max(piece_of(w.rows * w.classes) // max(w.classes * tile, 1), 1) * tile
    share_standing(meeting_of(team), do_part, &w, (w.rows + w.piece - 1) // w.piece)


FEW_CLASSES = FEW


def softmax_forward(const real[:, ::1] x not None, real[:, ::1] y not None, Team team=None):
    """y = exp(x) / sum(exp(x)) a row; (N, C). Its backward is inside the losses."""
    with nogil:
        share_rows(x, y, False, team)


def log_softmax_forward(const real[:, ::1] x not None, real[:, ::1] y not None, Team team=None):
    """y = x - log(sum(exp(x))) a row; (N, C). Its backward is inside the losses."""
    with nogil:
        share_rows(x, y, True, team)


def softmax_middle_forward(const real[:, :, ::1] x not None, real[:, :, ::1] y not None):
    """y = exp(x) / sum(exp(x)) over the middle axis of (N, C, S), C <= FEW_CLASSES. No backward, as above."""
    with nogil:
        softmax_columns(x, y, False)


def log_softmax_middle_forward(const real[:, :, ::1] x not None, real[:, :, ::1] y not None):
    """y = x - log(sum(exp(x))) over the middle axis of (N, C, S), C <= FEW_CLASSES. No backward, as above."""
    with nogil:
        softmax_columns(x, y, True)


def logsumexp_forward(const real[:, ::1] x not None, real[::1] y not None):
    """y = log(sum(exp(x))) a row; x: (N, C), y: (N,). Its backward is softmax."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            logsumexp_row(&x[i, 0], &y[i], x.shape[1])


# ---- doors: see _doors.pxd -----------------------------------------------------------------------------------------

cdef bint normalize(object x, object y, bint logarithm):
    cdef Py_buffer a, b
    cdef Py_ssize_t classes
    cdef bint done = False
    if not enter(x, &a, False):
        return False
    if enter(y, &b, True):
        if alike(&a, &b) and apart(&a, &b) and a.ndim > 0 and a.len > 0:
            classes = a.shape[a.ndim - 1]
            if a.format[0] == b"f":
                done = True
                with nogil:
                    softmax_rows(<const float*>a.buf, <float*>b.buf, a.len // 4 // classes, classes, logarithm)
            elif a.format[0] == b"d":
                done = True
                with nogil:
                    softmax_rows(<const double*>a.buf, <double*>b.buf, a.len // 8 // classes, classes, logarithm)
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return done


def softmax_door(x not None, y not None):
    """y = softmax(x) over the last axis, if both are small plain arrays (..., C); whether it was done."""
    return normalize(x, y, False)


def log_softmax_door(x not None, y not None):
    """y = log_softmax(x) over the last axis, if both are small plain arrays (..., C); whether it was done."""
    return normalize(x, y, True)
