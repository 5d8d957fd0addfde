# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Updates of a flat parameter vector (P,), in place, one call a step. Letters and rules: _activations.pyx."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from minnet cimport _math
from minnet._math cimport inlined, real
from minnet._loops cimport clones, narrow_clones, pointer, wide
from minnet._team cimport Team, meeting_of, piece_of, share_standing

cdef extern from "_simd.h":
    bint minnet_divides_wide() noexcept nogil

cdef enum:
    LINE = 64  # bytes of a line of the cache


# A loop reads what it needs of an element before it writes, where gcc still makes vectors of it: arrays that malloc takes
# from the system begin at the same place of a page, and a load waits for a store before it if the last 12 bits of their
# addresses agree.

cdef clones sgd_loop(const Rule* rule, const real* g, real* w, Py_ssize_t n) noexcept nogil:
    cdef real lr = rule.lr, decay = rule.decay
    cdef Py_ssize_t i
    for i in range(n):
        w[i] -= lr * (g[i] + decay * w[i])


cdef clones momentum_loop(const Rule* rule, const real* g, real* w, real* v, Py_ssize_t n) noexcept nogil:
    cdef real lr = rule.lr, momentum = rule.momentum, decay = rule.decay
    cdef bint nesterov = rule.nesterov
    cdef real weight, velocity, step
    cdef Py_ssize_t i
    for i in range(n):
        weight, velocity = w[i], v[i]
        step = g[i] + decay * weight
        velocity = momentum * velocity + step
        v[i] = velocity
        w[i] = weight - lr * (step + momentum * velocity if nesterov else velocity)


cdef inline inlined adam_loop(
    const Rule* rule, real rate, real scale, const real* g, real* w, real* m, real* v, Py_ssize_t n,
) noexcept nogil:
    # 1 - beta is taken in double: 1 - 0.999 in float is off by 1.3e-5.
    cdef real rest1 = 1.0 - rule.beta1, beta2 = rule.beta2, rest2 = 1.0 - rule.beta2
    cdef real eps = rule.eps, decay = rule.decay, shrink = rule.shrink
    cdef real weight, mean, square, step
    cdef Py_ssize_t i
    for i in range(n):
        weight, mean, square = w[i], m[i], v[i]
        step = g[i] + decay * weight
        mean += (step - mean) * rest1
        square = beta2 * square + rest2 * step * step
        m[i], v[i] = mean, square
        w[i] = weight - (shrink * weight + rate * mean / (_math.root(square) * scale + eps))


# Centered: what stands under the root is the running variance s = q - m^2, from the running means q of d^2 and m of d.
# The difference of both cancels, down to NaN where d hardly changes. From q' = a q + (1 - a) d^2, m' = a m + (1 - a) d
#     s' = q' - m'^2 = a s + a (1 - a) (m^2 + d^2 - 2 m d) = a (s + (1 - a) (d - m)^2)         no term is negative

cdef inline inlined rmsprop_loop(
    const Rule* rule, const real* g, real* w, real* s, real* m, real* v, Py_ssize_t n,
) noexcept nogil:
    cdef real lr = rule.lr, alpha = rule.beta2, rest = 1.0 - rule.beta2
    cdef real eps = rule.eps, momentum = rule.momentum, decay = rule.decay
    cdef real weight, square, step, apart
    cdef Py_ssize_t i
    for i in range(n):
        weight, square = w[i], s[i]
        step = g[i] + decay * weight
        if m != NULL:
            apart = step - m[i]
            m[i] += rest * apart
            square = alpha * (square + rest * apart * apart)
        else:
            square = alpha * square + rest * step * step
        step = step / (_math.root(square) + eps)
        if v != NULL:
            step += momentum * v[i]
            v[i] = step
        s[i] = square
        w[i] = weight - lr * step


cdef inline inlined adaptive_loop(
    const Rule* rule, real rate, real scale, const real* g, real* w, real* first, real* second, real* third, Py_ssize_t n,
) noexcept nogil:
    if rule.method == ADAM:
        adam_loop(rule, rate, scale, g, w, first, second, n)
    else:
        rmsprop_loop(rule, g, w, first, second, third, n)


cdef narrow_clones adaptive_narrow(
    const Rule* rule, real rate, real scale, const real* g, real* w, real* first, real* second, real* third, Py_ssize_t n,
) noexcept nogil:
    adaptive_loop(rule, rate, scale, g, w, first, second, third, n)


cdef wide adaptive_wide(
    const Rule* rule, real rate, real scale, const real* g, real* w, real* first, real* second, real* third, Py_ssize_t n,
) noexcept nogil:
    adaptive_loop(rule, rate, scale, g, w, first, second, third, n)


cdef void adaptive(
    const Rule* rule, const real* g, real* w, real* first, real* second, real* third, Py_ssize_t n, int64_t step,
) noexcept nogil:
    """A step whose size adapts to each parameter: the methods with a root and a quotient."""
    cdef double rate = rule.lr, scale = 1.0
    if rule.method == ADAM:
        rate /= 1.0 - rule.beta1 ** step
        scale /= sqrt(1.0 - rule.beta2 ** step)
    if minnet_divides_wide():
        adaptive_wide(rule, <real>rate, <real>scale, g, w, first, second, third, n)
    else:
        adaptive_narrow(rule, <real>rate, <real>scale, g, w, first, second, third, n)


cdef void update(
    const Rule* rule, const real* g, real* w, real* first, real* second, real* third, Py_ssize_t n, int64_t step,
) noexcept nogil:
    """A step of any of the methods; first, second and third are what they remember, as their functions below say."""
    if rule.method == PLAIN:
        sgd_loop(rule, g, w, n)
    elif rule.method == MOMENTUM:
        momentum_loop(rule, g, w, first, n)
    else:
        adaptive(rule, g, w, first, second, third, n, step)


# ---- on several threads ----

cdef struct Update:   # all that a thread needs to do a part of it; what is void is float or double
    const Rule* rule
    const void* g
    void* w
    void* first
    void* second
    void* third
    bint doubles
    int64_t step
    Py_ssize_t n
    Py_ssize_t head    # elements of the first part
    Py_ssize_t piece   # of each other, but the last


cdef void update_part(const Update* u, real* w, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    update(
        u.rule, <const real*>u.g + start, w + start, NULL if u.first == NULL else <real*>u.first + start,
        NULL if u.second == NULL else <real*>u.second + start, NULL if u.third == NULL else <real*>u.third + start,
        n, u.step)


cdef void do_part(void* argument, Py_ssize_t part) noexcept nogil:
    cdef const Update* u = <const Update*>argument
    cdef Py_ssize_t start = u.head + (part - 1) * u.piece if part > 0 else 0
    cdef Py_ssize_t stop = min(u.head + part * u.piece, u.n)
    if u.doubles:
        update_part(u, <double*>u.w, start, stop - start)
    else:
        update_part(u, <float*>u.w, start, stop - start)


cdef void run(
    Team team, const Rule* rule, const real[::1] g, real[::1] w, real* first, real* second, real* third, int64_t step,
) noexcept nogil:
    """An update by the team. Elements do not depend on each other, so no bit depends on who does which, nor on the cuts.

    The first part ends where a line of the cache begins: from there on no vector of w, or of what lies like it, is in two.
    """
    cdef Update u
    cdef Py_ssize_t rest = <Py_ssize_t>(<size_t>&w[0] % LINE)
    u.rule, u.g, u.w, u.first, u.second, u.third = rule, &g[0], &w[0], first, second, third
    u.doubles, u.step, u.n = real is double, step, w.shape[0]
    u.piece = max(<Py_ssize_t>1, u.n) if team is None else piece_of(u.n)
    u.head = min(u.n, (LINE - rest) // <Py_ssize_t>sizeof(real) if rest > 0 else u.piece)
    share_standing(meeting_of(team), do_part, &u, 1 + (u.n - u.head + u.piece - 1) // u.piece)


def sgd_update(const real[::1] g not None, real[::1] w not None, double lr, double decay, Team team=None):
    """w -= lr (g + decay w); all (P,)."""
    cdef Rule rule = Rule(PLAIN, lr, 0.0, False, 0.0, 0.0, 0.0, decay, 0.0)
    with nogil:
        run(team, &rule, g, w, <real*>NULL, <real*>NULL, <real*>NULL, 0)


def momentum_update(
    const real[::1] g not None, real[::1] w not None, real[::1] v not None,
    double lr, double momentum, bint nesterov, double decay, Team team=None,
):
    """d = g + decay w, v = momentum v + d, w -= lr v, or lr (d + momentum v) with nesterov; all (P,)."""
    cdef Rule rule = Rule(MOMENTUM, lr, momentum, nesterov, 0.0, 0.0, 0.0, decay, 0.0)
    with nogil:
        run(team, &rule, g, w, &v[0], <real*>NULL, <real*>NULL, 0)


def adam_update(
    const real[::1] g not None, real[::1] w not None, real[::1] m not None, real[::1] v not None,
    double lr, double beta1, double beta2, double eps, double decay, double shrink, int64_t step, Team team=None,
):
    """d = g + decay w; m, v = running means of d and d^2; m' = m / (1 - beta1^step) ...; all (P,).

    w -= shrink w + lr m' / (sqrt(v') + eps).
    """
    cdef Rule rule = Rule(ADAM, lr, 0.0, False, beta1, beta2, eps, decay, shrink)
    with nogil:
        run(team, &rule, g, w, &m[0], &v[0], <real*>NULL, step)


def rmsprop_update(
    const real[::1] g not None, real[::1] w not None, real[::1] s not None, real[::1] m not None,
    real[::1] v not None, double lr, double alpha, double eps, double momentum, double decay, Team team=None,
):
    """d = g + decay w, v = momentum v + d / (sqrt(s) + eps), w -= lr v; s the running mean of d^2; all (P,).

    With m, the running mean of d, s is the running variance of d. m and v are (0,) where they are not wanted.
    """
    cdef Rule rule = Rule(RMSPROP, lr, momentum, False, 0.0, alpha, eps, decay, 0.0)
    with nogil:
        run(team, &rule, g, w, &s[0], pointer(m), pointer(v), 0)
