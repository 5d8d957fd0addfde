# cython: language_level=3
# Threads that share the phases of a call: what they promise each other stands in _team.h.

from libc.stdint cimport int32_t, int64_t

cdef extern from "_team.h":
    ctypedef void (*Part "minnet_part")(void* work, Py_ssize_t part) noexcept nogil
    ctypedef struct Meeting "minnet_team":
        pass
    bint helped "minnet_helped"(const Meeting* team) noexcept nogil
    int32_t expect "minnet_expect"(Meeting* team, int32_t more) noexcept nogil
    void share "minnet_share"(Meeting* team, Part part, void* work, Py_ssize_t parts) noexcept nogil
    void share_standing "minnet_share_standing"(Meeting* team, Part part, void* work, Py_ssize_t parts) noexcept nogil
    Py_ssize_t join "minnet_join"(Meeting* team, int64_t patience, int64_t stay) noexcept nogil
    void end "minnet_end"(Meeting* team) noexcept nogil

cdef class Team:
    cdef Meeting meeting
