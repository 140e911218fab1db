# Types for turns.py.


cdef class Turns:
    cdef object _clock
    cdef double _end
    cdef object _loop
    cdef object _waiting

    cpdef bint is_over(self) except -1
    cpdef defer(self, go_on)
    cpdef _begin(self)
