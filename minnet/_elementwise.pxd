# cython: language_level=3
from minnet._math cimport real
from minnet._team cimport Meeting

cdef enum Kind:
    BCE_WITH_LOGITS
    WEIGHTED_BCE
    FOCAL_BCE
    BCE
    KL
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER
    GAUSSIAN
    POISSON

cdef struct Settings:
    Py_ssize_t a_period  # of the array a, which has the length n or this one, and WRAP more, and repeats; 0 without it
    Py_ssize_t b_period
    double amount        # label smoothing, delta or eps
    double gamma
    bint weighted        # whether a and b are other than 1
    bint single          # whether each of them is one number, repeated
    bint unseen          # whether a is b, and nobody has looked at what it holds
    bint is_log          # log_target, log_input
    bint full

cdef double elementwise(
    Kind kind, const real* x, const real* t, const real* a, const real* b, const real* light, const double* weight,
    real* loss, real* dx, Py_ssize_t n, double scale, Settings* s, Meeting* team) noexcept nogil
