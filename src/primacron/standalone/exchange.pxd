# Types for exchange.py.
from primacron.standalone.connection_states cimport step
from primacron.web cimport HttpRequest

cpdef bytes encode_response(response, bytes date, bint close, bint head_only)


cdef class HttpExchange:
    cdef readonly object _body
    cdef readonly object _connection
    cdef readonly object _done
    cdef readonly Py_ssize_t _limit
    cdef public bint is_upgrade
    cdef public bint keep_alive
    cdef public object on_abort
    cdef public object progress
    cdef public HttpRequest request

    cpdef add(self, bytes part)
    cpdef complete(self)
    cpdef _finish(self)
