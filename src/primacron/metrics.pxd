# Types for metrics.py.


cdef class Metrics:
    cdef public object counters
    cdef public Py_ssize_t messages_received
