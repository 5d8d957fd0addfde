# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Updates of a flat parameter vector (P,), in place, one call a step. Letters and rules: _activations.pyx."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from minnet cimport _math
from minnet._math cimport real
from minnet._loops cimport clones, narrow_clones


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
    real eps, real decay,
) noexcept nogil:
    cdef real step
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        m[i] += (step - m[i]) * rest1
        v[i] = beta2 * v[i] + rest2 * step * step
        w[i] -= rate * m[i] / (_math.root(v[i]) * scale + eps)


def sgd_update(const real[::1] g not None, real[::1] w not None, double lr, double decay):
    """w -= lr (g + decay w); all (P,)."""
    with nogil:
        sgd_loop(&w[0], &g[0], w.shape[0], lr, decay)


def momentum_update(
    const real[::1] g not None, real[::1] w not None, real[::1] v not None,
    double lr, double momentum, bint nesterov, double decay,
):
    """d = g + decay w, v = momentum v + d, w -= lr v, or lr (d + momentum v) with nesterov; all (P,)."""
    with nogil:
        momentum_loop(&w[0], &v[0], &g[0], w.shape[0], lr, momentum, nesterov, decay)


def adam_update(
    const real[::1] g not None, real[::1] w not None, real[::1] m not None, real[::1] v not None,
    double lr, double beta1, double beta2, double eps, double decay, int64_t step,
):
    """m, v = running means of g and g^2, w -= lr m' / (sqrt(v') + eps), m' = m / (1 - beta1^step) ...; all (P,)."""
    cdef double rate = lr / (1.0 - beta1 ** step)
    cdef double scale = 1.0 / sqrt(1.0 - beta2 ** step)
    # 1 - beta is taken in double: 1 - 0.999 in float is off by 1.3e-5.
    with nogil:
        adam_loop(&w[0], &m[0], &v[0], &g[0], w.shape[0], rate, 1.0 - beta1, beta2, 1.0 - beta2, scale, eps, decay)
