# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Updates of a flat parameter vector (P,), in place, one call a step. Letters and rules: _activations.pyx."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from minnet cimport _math
from minnet._math cimport real
from minnet._loops cimport clones, narrow_clones, pointer
from minnet._team cimport Team, meeting_of, parts_of, piece_of, share_standing


cdef clones sgd_loop(real* w, const real* g, Py_ssize_t n, real lr, real decay) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        w[i] -= lr * (g[i] + decay * w[i])


cdef clones momentum_loop(
    real* w, real* v, const real* g, Py_ssize_t n, real lr, real momentum, bint nesterov, real decay,
) noexcept nogil:
    cdef real step
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        v[i] = momentum * v[i] + step
        w[i] -= lr * (step + momentum * v[i] if nesterov else v[i])


cdef narrow_clones adam_loop(
    real* w, real* m, real* v, const real* g, Py_ssize_t n, real rate, real rest1, real beta2, real rest2, real scale,
    real eps, real decay, real shrink,
) noexcept nogil:
    cdef real step
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        m[i] += (step - m[i]) * rest1
        v[i] = beta2 * v[i] + rest2 * step * step
        w[i] -= shrink * w[i] + rate * m[i] / (_math.root(v[i]) * scale + eps)


# Centered: what stands under the root is the running variance s = q - m^2, from the running means q of d^2 and m of d.
# The difference of both cancels, down to NaN where d hardly changes. From q' = a q + (1 - a) d^2, m' = a m + (1 - a) d
#     s' = q' - m'^2 = a s + a (1 - a) (m^2 + d^2 - 2 m d) = a (s + (1 - a) (d - m)^2)         no term is negative

cdef narrow_clones rmsprop_loop(
    real* w, real* s, real* m, real* v, const real* g, Py_ssize_t n, real lr, real alpha, real rest, real eps,
    real momentum, real decay,
) noexcept nogil:
    cdef real step, apart
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        if m != NULL:
            apart = step - m[i]
            m[i] += rest * apart
            s[i] = alpha * (s[i] + rest * apart * apart)
        else:
            s[i] = alpha * s[i] + rest * step * step
        step = step / (_math.root(s[i]) + eps)
        if v != NULL:
            v[i] = momentum * v[i] + step
            step = v[i]
        w[i] -= lr * step


cdef void adam(
    const Rule* rule, const real* g, real* w, real* m, real* v, Py_ssize_t n, int64_t step,
) noexcept nogil:
    # 1 - beta is taken in double: 1 - 0.999 in float is off by 1.3e-5.
    cdef double rate = rule.lr / (1.0 - rule.beta1 ** step)
    cdef double scale = 1.0 / sqrt(1.0 - rule.beta2 ** step)
    adam_loop(
        w, m, v, g, n, rate, 1.0 - rule.beta1, rule.beta2, 1.0 - rule.beta2, scale, rule.eps, rule.decay, rule.shrink)


cdef void update(
    const Rule* rule, const real* g, real* w, real* first, real* second, real* third, Py_ssize_t n, int64_t step,
) noexcept nogil:
    """A step of any of the methods; first, second and third are what they remember, as their functions below say."""
    if rule.method == PLAIN:
        sgd_loop(w, g, n, rule.lr, rule.decay)
    elif rule.method == MOMENTUM:
        momentum_loop(w, first, g, n, rule.lr, rule.momentum, rule.nesterov, rule.decay)
    elif rule.method == ADAM:
        adam(rule, g, w, first, second, n, step)
    else:
        rmsprop_loop(
            w, first, second, third, g, n, rule.lr, rule.beta2, 1.0 - rule.beta2, rule.eps, rule.momentum, rule.decay)


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


cdef void update_part(const Update* u, real* w, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    update(
        u.rule, <const real*>u.g + start, w + start, NULL if u.first == NULL else <real*>u.first + start,
        NULL if u.second == NULL else <real*>u.second + start, NULL if u.third == NULL else <real*>u.third + start,
        n, u.step)


cdef void do_part(void* argument, Py_ssize_t part) noexcept nogil:
    cdef const Update* u = <const Update*>argument
    cdef Py_ssize_t piece = piece_of(u.n)
    cdef Py_ssize_t start = part * piece
    cdef Py_ssize_t n = min(piece, u.n - start)
    if u.doubles:
        update_part(u, <double*>u.w, start, n)
    else:
        update_part(u, <float*>u.w, start, n)


cdef void run(
    Team team, const Rule* rule, const real[::1] g, real[::1] w, real* first, real* second, real* third, int64_t step,
) noexcept nogil:
    """An update by the team. Elements do not depend on each other, so no bit depends on who does which."""
    cdef Update u
    u.rule, u.g, u.w, u.first, u.second, u.third = rule, &g[0], &w[0], first, second, third
    u.doubles, u.step, u.n = real is double, step, w.shape[0]
    share_standing(meeting_of(team), do_part, &u, parts_of(u.n))


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
