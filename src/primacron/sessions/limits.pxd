# Types for limits.py.


cdef class Limits:
    cdef readonly object _by_address
    cdef readonly object _options
    cdef readonly Py_ssize_t _second
    cdef readonly object _this_second
    cdef readonly Py_ssize_t _total

    cpdef enter(self, peer, double now)
    cpdef add(self, peer)
    cpdef leave(self, peer)
