# Types for parser.py.
from primacron.web cimport HttpRequest


cdef class RequestParser:
    cdef Py_ssize_t _field_count
    cdef readonly dict _fields
    cdef object _framing
    cdef Py_ssize_t _head_size
    cdef object _host
    cdef object _options
    cdef readonly object _parser
    cdef bint _secure
    cdef object _stream
    cdef bytes _target

    cpdef read(self, stream, data)
    cpdef leave(self)
    cpdef _count(self, Py_ssize_t size)
    cpdef _check_host(self, str version, host)


cdef str _read_version(str version)
cdef tuple _read_target(bytes target, dict fields)
cdef str _find_framing(dict fields)
cdef _check_fields(str version, dict fields)
