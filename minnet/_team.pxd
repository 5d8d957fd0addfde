# cython: language_level=3
# Threads that share the phases of a call: what they promise each other stands in _team.h.

cdef extern from "_team.h":
    ctypedef void (*Part "minnet_part")(void* work, Py_ssize_t part) noexcept nogil
    ctypedef struct Meeting "minnet_team":
        pass
    bint helped "minnet_helped"(const Meeting* team) noexcept nogil
    void share "minnet_share"(Meeting* team, Part part, void* work, Py_ssize_t parts) noexcept nogil
    Py_ssize_t join "minnet_join"(Meeting* team) noexcept nogil
    void end "minnet_end"(Meeting* team) noexcept nogil
