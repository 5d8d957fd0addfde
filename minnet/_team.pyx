# cython: language_level=3
# cython: freethreading_compatible=True
"""Where threads meet that share work in compiled code: see _team.h."""

from libc.stdint cimport int32_t, int64_t, uint32_t


cdef class Team:
    """The caller and its helpers; those that come too late find it, and nothing else."""

    def expect(self, int32_t more=0):
        """Count so many more helpers as called; returns how many have been called and not left."""
        return expect(&self.meeting, more)

    def dismissals(self):
        """How often helpers have been dismissed."""
        return dismissals(&self.meeting)

    def join(self, double patience=0.1, double stay=1e6, uint32_t dismissals=0):
        """Do parts until the call ends, or helpers are dismissed once more, or nothing is to be done for `patience` seconds,
        or `stay` are over; returns how many."""
        cdef Py_ssize_t parts
        with nogil:
            parts = join(&self.meeting, <int64_t>(1e9 * patience), <int64_t>(1e9 * stay), dismissals)
        return parts

    def dismiss(self):
        """Let those who have been called go, as others need them."""
        dismiss(&self.meeting)

    def end(self):
        """Let the helpers go."""
        end(&self.meeting)


def current_cpu():
    """The CPU that the calling thread runs on, -1 where the system does not tell."""
    return cpu()
