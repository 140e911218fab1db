# Types for connection.py.
from primacron.standalone.exchange cimport HttpExchange
from primacron.wheel cimport Timed
cimport cython


cdef class HttpStream(Timed):
    cdef readonly object _ahead
    cdef readonly bytearray _early
    cdef readonly Py_ssize_t _fed
    cdef readonly Py_ssize_t _field_count
    cdef readonly dict _fields
    cdef readonly Py_ssize_t _head_size
    cdef readonly HttpExchange _incoming
    cdef readonly bint _is_deaf
    cdef readonly object _last
    cdef readonly object _listener
    cdef readonly object _parser
    cdef readonly object _peer
    cdef readonly object _stage
    cdef readonly bytes _target
    cdef readonly object _transport
    cdef readonly Py_ssize_t _unsent
    cdef readonly bint _write_paused

    cpdef buffer_updated(self, Py_ssize_t nbytes)
    cpdef _feed(self, data)
    cpdef _count(self, Py_ssize_t size)
    cpdef _answer_oldest(self)
    cpdef respond(self, HttpExchange exchange, response)
    cpdef _settle(self)
    cpdef _find_stage(self)
    cpdef _enter(self, stage)
    cpdef _forget(self)


cdef _check_line(str method, str version)
cdef tuple _read_target(bytes target, dict fields)
cdef _check_fields(str version, dict fields)
