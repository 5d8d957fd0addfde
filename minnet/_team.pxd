# cython: language_level=3
# Threads that share the phases of a call: what they promise each other stands in _team.h.

from libc.stdint cimport int32_t, int64_t, uint32_t

cdef extern from "_team.h":
    ctypedef void (*Part "minnet_part")(void* work, Py_ssize_t part) noexcept nogil
    ctypedef struct Meeting "minnet_team":
        pass
    bint helped "minnet_helped"(const Meeting* team) noexcept nogil
    int32_t expect "minnet_expect"(Meeting* team, int32_t more) noexcept nogil
    void share "minnet_share"(Meeting* team, Part part, void* work, Py_ssize_t parts) noexcept nogil
    void share_standing "minnet_share_standing"(Meeting* team, Part part, void* work, Py_ssize_t parts) noexcept nogil
    void dismiss "minnet_dismiss"(Meeting* team) noexcept nogil
    Py_ssize_t join "minnet_join"(
        Meeting* team, int64_t patience, int64_t stay, uint32_t dismissals) noexcept nogil
    uint32_t dismissals "minnet_dismissals"(const Meeting* team) noexcept nogil
    int cpu "minnet_cpu"() noexcept nogil
    void end "minnet_end"(Meeting* team) noexcept nogil

cdef class Team:
    cdef Meeting meeting


cdef inline Meeting* meeting_of(Team team) noexcept nogil:
    """Where a team meets, NULL without one."""
    return NULL if team is None else &team.meeting


# Long arrays are cut by their length alone, so that sums do not depend on who adds up which part.

cdef enum:
    PIECE = 1 << 14   # elements of a part, at least: some microseconds
    PIECES = 512      # parts, at most
    STEP = 1024       # elements whose multiple a larger part is


cdef inline Py_ssize_t piece_of(Py_ssize_t n) noexcept nogil:
    """Elements of each part of n elements, but the last."""
    return max(<Py_ssize_t>PIECE, (n + STEP * PIECES - 1) // (STEP * PIECES) * STEP)


cdef inline Py_ssize_t parts_of(Py_ssize_t n) noexcept nogil:
    """How many parts n elements have."""
    return (n + piece_of(n) - 1) // piece_of(n)
