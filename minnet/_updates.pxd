# cython: language_level=3
from libc.stdint cimport int64_t

from minnet._math cimport real

cdef enum Method:
    PLAIN
    MOMENTUM
    ADAM
    RMSPROP

cdef struct Rule:      # a step of an optimizer, all settings of all methods
    Method method
    double lr
    double momentum
    bint nesterov
    double beta1
    double beta2       # alpha of RMSprop
    double eps
    double decay       # through the gradient
    double shrink      # beside it

cdef void update(
    const Rule* rule, const real* g, real* w, real* first, real* second, real* third, Py_ssize_t n, int64_t step,
) noexcept nogil
