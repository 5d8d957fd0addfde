# cython: language_level=3
from libc.stdint cimport int64_t

from minnet._math cimport real

cdef enum:
    TERMS = 22  # of a polynomial for 53 digits; 10 for 24
    NARROW = 12 # of one for p <= 1/8; 6 for 24

cdef struct Bounds:
    double least
    double most

cdef struct Options:
    double s       # label smoothing
    double gamma   # focus
    double fit[TERMS]  # (1 - p)^(gamma - 1 - whole) = sum_i fit_i x^i, x = 4 p - 1
    double narrow[TERMS]   # the same for p <= 1/8, x = 16 p - 1
    Py_ssize_t whole   # whole part of gamma - 1
    double mass    # sum of the weights of the classes
    double heaviest  # the largest of them
    const void* shares   # of a label elsewhere, w s / C, for many classes, `padded` with zeros
    Bounds of_rows   # their weights, but for 0; 1 where there are none
    int64_t ignored  # label of rows that count nowhere
    bint masked      # whether there are any
    bint far         # whether gradients go past the caches

cdef double batch(
    const real* z, const real* t, const int64_t* y, const real* w, const double* weight, const double* upstream, real* work,
    real* loss, real* dz, Py_ssize_t n, Py_ssize_t classes, double scale, const Options* o) noexcept nogil
