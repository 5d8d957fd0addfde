# cython: language_level=3
from minnet._math cimport real
from minnet._team cimport Meeting

cdef enum Kind:
    BCE_WITH_LOGITS   # with `Binary`
    BCE
    KL
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER
    GAUSSIAN
    POISSON

cdef struct Source:   # numbers that belong to elements
    const void* of    # NULL if there are none
    bint wide         # whether they are doubles, or floats
    Py_ssize_t size   # after so many they repeat
    Py_ssize_t stand  # so many stand in order
    Py_ssize_t each   # elements in a row that have one together

cdef struct Binary:   # what a binary loss of logits is made of
    Source weight     # of the loss of an element
    Source positive   # of its term of t
    Source rows       # of the losses of a row
    Source upstream   # of gradients
    double yes        # numbers that multiply the terms of t and of 1 - t
    double no
    double smoothing
    double gamma
    bint apart        # whether weights are multiplied in after all else, in double

cdef struct Settings:
    const Binary* binary
    Py_ssize_t period    # of the array a, which has the length n or this one, and WRAP more, and repeats; 0 without it
    double amount        # delta or eps
    bint is_log          # log_target, log_input
    bint full

cdef Binary no_options() noexcept nogil

cdef double elementwise(
    Kind kind, const real* x, const real* t, const real* a, const real* light, const double* weight, real* loss, real* dx,
    Py_ssize_t n, double scale, Settings* s, Meeting* team) noexcept nogil
