# Types for turns.py.


cdef class Turns:
    cdef object _clock
    cdef double _end
    cdef object _fresh
    cdef bint _is_for_fresh
    cdef object _loop
    cdef object _waiting

    cpdef bint is_over(self) except -1
    cpdef defer(self, go_on, bint fresh=*)
    cpdef _begin(self)
