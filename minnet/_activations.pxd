# cython: language_level=3
from minnet._math cimport real

cdef enum Activation:
    SIGMOID
    TANH
    SOFTPLUS
    LOG_SIGMOID
    RELU

cdef void activation_loop(Activation which, const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil
