# Types for wheel.py.
cimport cython


cdef class Timed:
    cdef public object bucket
    cdef public double due
    cdef public Py_ssize_t place

    cpdef on_due(self, now)


cdef class Alarm(Timed):
    cdef public object action


cdef class Wheel:
    cdef dict _buckets
    cdef object _loop
    cdef double _next
    cdef list _ticks
    cdef object _timer
    cdef object _lags

    cpdef set(self, Timed entry, double due)
    cpdef set_after(self, Timed entry, double seconds)
    cpdef cancel(self, Timed entry)
    @cython.locals(tick=Py_ssize_t)
    cpdef _insert(self, Timed entry)
