# cython: boundscheck=False, wraparound=False
# What every compiled module needs to write its loops.

from minnet._math cimport real

cdef extern from "_simd.h":
    ctypedef void clones "MINNET_CLONES void"                # compiled once for each SIMD level; holds the vectors
    ctypedef void whole_clones "MINNET_CLONES void"          # the same for loops that compute with whole numbers, or not at all
    ctypedef void narrow_clones "MINNET_NARROW_CLONES void"  # the same without the widest level
    ctypedef void wide "MINNET_WIDE void"                    # the widest level alone, to be called where the CPU has it

cdef enum:
    LANES = 64  # independent accumulators, so that sums and maxima vectorise without flags that reorder; gcc would
                # unroll a loop over 16 of them into scalar code


cdef inline real* pointer(real[::1] a) noexcept nogil:
    """The first element, or NULL where the array stands for `not wanted`."""
    return &a[0] if a.shape[0] > 0 else NULL
