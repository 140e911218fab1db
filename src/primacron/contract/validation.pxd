# Types for validation.py.


cdef class EventContract:
    cdef public str name
    cdef public str stream
    cdef public dict readers
    cdef public object check
    cdef public bint check_is_async
    cdef public object handler
    cdef public bint handler_is_async
    cdef public bint in_thread
    cdef public bint is_plain

    cpdef tuple read(self, raw, form)


cdef class Contract:
    cdef Py_ssize_t _max_args
    cdef Py_ssize_t _max_name
    cdef public dict events

    cpdef EventContract find(self, str name)
