# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
# The checks are off because functional has made them, once a call, before the first kernel.
"""Activations: y = f(x) with the slope f'(x), alone or behind a bias.

Letters, in all compiled modules: N rows of a batch, C classes, O outputs, P parameters, S = N or any other number of
elements.

Design of all compiled modules
a) The scalar functions stand in _math.pxd, forward beside derivative.
b) A `clones` function loops over pointers; it is compiled once for each SIMD level (_simd.h) and holds the vectors.
c) A `def` kernel takes typed memoryviews, lets the GIL go, and calls b). It trusts its arguments: shapes agree, arrays
   are C-contiguous, labels are in range. Only `functional` (and, for updates, `optimizers`) may call it.
d) Arguments: const inputs, then outputs, then scalars. An array of length 0 stands for one that is not given, or an
   output that is not wanted.
e) Activations give y and their slope dy/dx together, from one exp: their backward is one product, `chain_backward`.
   Losses give value and gradient together: two separate functions could disagree.
f) A `_door` makes the checks of the commonest calls in C, for small plain arrays (_doors.pxd).
"""

from cpython.buffer cimport PyBuffer_Release

from minnet cimport _math
from minnet._doors cimport alike, enter
from minnet._math cimport inlined, real
from minnet._loops cimport clones, pointer
from minnet._rows cimport fetch
from minnet._team cimport Team, meeting_of, parts_of, piece_of, share_standing

cdef extern from "_simd.h":
    bint can_stream "minnet_can_stream"() noexcept nogil
    void stream "minnet_stream"(void* to, const void* lines, size_t bytes) noexcept nogil
    void streamed "minnet_streamed"() noexcept nogil

cdef enum:
    LINE = 64        # bytes of a line of the cache
    FAR = 1 << 25    # bytes of an output that no cache holds until it is read
    BLOCK = 64       # elements that go through both loops of sigmoid
    CHUNK = 128      # elements that are held on the stack before they go past the caches
    AHEAD = 1 << 14  # bytes: so much before, x is fetched for them


# ---- activations: y = f(x), slope = f'(x) --------------------------------------------------------------------------

# What is before the polynomial stands in a loop of its own: one loop for all would be bound by the length of its chain of
# operations, of which a CPU overlaps only so many. Of a whole BLOCK gcc writes both loops out, step by step for several
# vectors, and what goes from one to the other stays in registers.

cdef inline inlined sigmoid_block(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real r[BLOCK]
    cdef real t[BLOCK]
    cdef real low = _math.low_bound(<real>0), high = _math.high_bound(<real>0)
    cdef Py_ssize_t i
    for i in range(n):
        _math.cut_exponent(_math.at_most(_math.at_least(x[i], low), high), &r[i], &t[i])
    for i in range(n):
        y[i] = _math.sigmoid_cut(r[i], t[i])


cdef inline inlined sigmoid_slope_block(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef real r[BLOCK]
    cdef real t[BLOCK]
    cdef real low = _math.low_bound(<real>0), high = _math.slope_bound(<real>0), top = _math.slope_top(<real>0)
    cdef Py_ssize_t i
    for i in range(n):
        _math.cut_exponent(_math.at_most(_math.at_least(x[i], low), high), &r[i], &t[i])
    for i in range(n):
        _math.sigmoid_cut_slope(r[i], t[i], top, &y[i], &slope[i])


cdef clones sigmoid_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    if slope == NULL:
        while i + BLOCK <= n:
            sigmoid_block(x + i, y + i, BLOCK)
            i += BLOCK
        sigmoid_block(x + i, y + i, n - i)
    else:
        while i + BLOCK <= n:
            sigmoid_slope_block(x + i, y + i, slope + i, BLOCK)
            i += BLOCK
        sigmoid_slope_block(x + i, y + i, slope + i, n - i)


cdef clones tanh_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.tanh(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.tanh(x[i]), _math.tanh_slope(x[i])


cdef clones softplus_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.softplus(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.softplus(x[i]), _math.sigmoid_beside(x[i])


cdef clones log_sigmoid_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.log_sigmoid(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.log_sigmoid(x[i]), _math.sigmoid_beside(-x[i])


cdef clones relu_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = <real>0 if 0 > x[i] else x[i]
    else:
        for i in range(n):
            slope[i] = <real>1 if x[i] > 0 else <real>0
            y[i] = <real>0 if 0 > x[i] else x[i]


cdef void activation_loop(Activation which, const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    if which == SIGMOID:
        sigmoid_loop(x, y, slope, n)
    elif which == TANH:
        tanh_loop(x, y, slope, n)
    elif which == SOFTPLUS:
        softplus_loop(x, y, slope, n)
    elif which == LOG_SIGMOID:
        log_sigmoid_loop(x, y, slope, n)
    else:
        relu_loop(x, y, slope, n)


# ---- on several threads: see _team.h ----

cdef struct Work:   # what is void is float or double
    Activation which
    const void* x
    void* y
    void* slope
    bint doubles, far
    Py_ssize_t n


cdef void activate_past_the_cache(Activation which, const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real room[CHUNK + LINE]
    cdef real* chunk = <real*>((<size_t>&room[0] + LINE - 1) // LINE * LINE)
    cdef Py_ssize_t i = min(n, <Py_ssize_t>((LINE - <size_t>y % LINE) % LINE // sizeof(real)))
    activation_loop(which, x, y, <real*>NULL, i)   # up to a line of y
    while i + CHUNK <= n:
        fetch(x + i + AHEAD // sizeof(real), CHUNK * sizeof(real) // LINE)
        activation_loop(which, x + i, chunk, <real*>NULL, CHUNK)
        stream(y + i, chunk, CHUNK * sizeof(real))
        i += CHUNK
    streamed()
    activation_loop(which, x + i, y + i, <real*>NULL, n - i)


cdef void activate(const Work* work, const real* x, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    cdef real* y = <real*>work.y + start
    if work.far:
        activate_past_the_cache(work.which, x + start, y, n)
    else:
        activation_loop(work.which, x + start, y, NULL if work.slope == NULL else <real*>work.slope + start, n)


cdef void do_part(void* argument, Py_ssize_t part) noexcept nogil:
    cdef const Work* work = <const Work*>argument
    cdef Py_ssize_t piece = piece_of(work.n)
    cdef Py_ssize_t start = part * piece
    if work.doubles:
        activate(work, <const double*>work.x, start, min(piece, work.n - start))
    else:
        activate(work, <const float*>work.x, start, min(piece, work.n - start))


cdef void forward(Activation which, const real[::1] x, real[::1] y, real[::1] slope, Team team) noexcept nogil:
    """An activation by the team. Elements do not depend on each other, so no bit depends on who does which."""
    cdef Work work
    work.which, work.x, work.y, work.slope, work.n = which, &x[0], &y[0], pointer(slope), x.shape[0]
    work.doubles, work.far = real is double, slope.shape[0] == 0 and x.shape[0] * sizeof(real) >= FAR and can_stream()
    share_standing(meeting_of(team), do_part, &work, parts_of(work.n))


def sigmoid_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None, Team team=None):
    """y = 1 / (1 + exp(-x)), slope = y (1 - y); all (N,)."""
    with nogil:
        forward(SIGMOID, x, y, slope, team)


def tanh_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None, Team team=None):
    """y = tanh(x), slope = 1 - y^2; all (N,)."""
    with nogil:
        forward(TANH, x, y, slope, team)


def softplus_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None, Team team=None):
    """y = log(1 + exp(x)), slope = sigmoid(x); all (N,)."""
    with nogil:
        forward(SOFTPLUS, x, y, slope, team)


def log_sigmoid_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None, Team team=None):
    """y = -log(1 + exp(-x)), slope = sigmoid(-x); all (N,)."""
    with nogil:
        forward(LOG_SIGMOID, x, y, slope, team)


def relu_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None, Team team=None):
    """y = max(x, 0), slope = 1 where x > 0, else 0; all (N,)."""
    with nogil:
        forward(RELU, x, y, slope, team)


cdef clones product_loop(const real* a, const real* b, real* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = a[i] * b[i]


cdef struct Chain:
    const void* dy
    const void* slope
    void* dx
    bint doubles
    Py_ssize_t n


cdef void chain_part(void* argument, Py_ssize_t part) noexcept nogil:
    cdef const Chain* c = <const Chain*>argument
    cdef Py_ssize_t start = part * piece_of(c.n)
    cdef Py_ssize_t n = min(piece_of(c.n), c.n - start)
    if c.doubles:
        product_loop(<const double*>c.dy + start, <const double*>c.slope + start, <double*>c.dx + start, n)
    else:
        product_loop(<const float*>c.dy + start, <const float*>c.slope + start, <float*>c.dx + start, n)


def chain_backward(
    const real[::1] dy not None, const real[::1] slope not None, real[::1] dx not None, Team team=None,
):
    """dx = dy slope, the chain rule through any activation; all (N,)."""
    cdef Chain c
    c.dy, c.slope, c.dx, c.doubles, c.n = &dy[0], &slope[0], &dx[0], real is double, dy.shape[0]
    with nogil:
        share_standing(meeting_of(team), chain_part, &c, parts_of(c.n))


# ---- a bias before an activation: one pass forward, one backward ---------------------------------------------------

cdef clones add_loop(const real* b, real* z, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        z[i] += b[i]


def add_bias(const real[::1] b not None, real[:, ::1] z not None):
    """z = z + b in place; z: (N, O), b: (O,)."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(z.shape[0]):
            add_loop(&b[0], &z[i, 0], z.shape[1])


cdef void biased_rows(
    Activation which, const real[::1] b, real[:, ::1] z, real[:, ::1] slope,
) noexcept nogil:
    cdef Py_ssize_t i, n = z.shape[1]
    for i in range(z.shape[0]):
        add_loop(&b[0], &z[i, 0], n)
        activation_loop(which, &z[i, 0], &z[i, 0], &slope[i, 0], n)


def sigmoid_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = sigmoid(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(SIGMOID, b, z, slope)


def tanh_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = tanh(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(TANH, b, z, slope)


def softplus_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = softplus(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(SOFTPLUS, b, z, slope)


def relu_biased_forward(const real[::1] b not None, real[:, ::1] z not None, real[:, ::1] slope not None):
    """z = relu(z + b) in place, with its slope; z, slope: (N, O), b: (O,)."""
    with nogil:
        biased_rows(RELU, b, z, slope)


cdef clones product_sum_loop(const real* dy, const real* slope, real* dx, real* db, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dy[i] * slope[i]
        db[i] += dx[i]


def chain_biased_backward(
    const real[:, ::1] dy not None, const real[:, ::1] slope not None, real[:, ::1] dx not None, real[::1] db not None,
):
    """dx = dy slope, db = sum of dx over rows; dy, slope, dx: (N, O), db: (O,)."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(db.shape[0]):
            db[i] = 0
        for i in range(dy.shape[0]):
            product_sum_loop(&dy[i, 0], &slope[i, 0], &dx[i, 0], &db[0], dy.shape[1])


# ---- doors: see _doors.pxd -----------------------------------------------------------------------------------------

cdef enum:
    SHORT = 1 << 15   # bytes of work that is done before anybody else has the GIL

cdef bint activate_bytes(Activation which, const Py_buffer* x, const Py_buffer* y) noexcept nogil:
    """Whether the dtype is one of ours."""
    if x.format[0] == b"f":
        activation_loop(which, <const float*>x.buf, <float*>y.buf, <float*>NULL, x.len // 4)
    elif x.format[0] == b"d":
        activation_loop(which, <const double*>x.buf, <double*>y.buf, <double*>NULL, x.len // 8)
    else:
        return False
    return True


cdef bint enter_and_activate(Activation which, object x, object y):
    cdef Py_buffer a, b
    cdef bint done = False
    if not enter(x, &a, False):
        return False
    if enter(y, &b, True):
        if alike(&a, &b):
            if a.len <= SHORT:
                done = activate_bytes(which, &a, &b)
            else:
                with nogil:
                    done = activate_bytes(which, &a, &b)
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return done


def sigmoid_door(x not None, y not None):
    """y = sigmoid(x), if both are small plain arrays (N, ...); whether it was done."""
    return enter_and_activate(SIGMOID, x, y)


def tanh_door(x not None, y not None):
    """y = tanh(x), if both are small plain arrays (N, ...); whether it was done."""
    return enter_and_activate(TANH, x, y)


def softplus_door(x not None, y not None):
    """y = softplus(x), if both are small plain arrays (N, ...); whether it was done."""
    return enter_and_activate(SOFTPLUS, x, y)


def log_sigmoid_door(x not None, y not None):
    """y = log_sigmoid(x), if both are small plain arrays (N, ...); whether it was done."""
    return enter_and_activate(LOG_SIGMOID, x, y)


def relu_door(x not None, y not None):
    """y = relu(x), if both are small plain arrays (N, ...); whether it was done."""
    return enter_and_activate(RELU, x, y)
