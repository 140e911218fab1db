# Types for endpoint.py.
from primacron.protocol.handshake cimport read_sid, read_transport
from primacron.transports.cors cimport check_origin
from primacron.web cimport HttpRequest
cimport cython


cdef class Endpoint:
    cdef object _operations
    cdef bint _has_broadcast
    cdef object _node
    cdef object _options
    cdef object _pages
    cdef frozenset _stream
    cdef object _strangers

    @cython.locals(request=HttpRequest)
    cpdef handle(self, exchange)
    @cython.locals(request=HttpRequest)
    cpdef upgrade(self, exchange)
    @cython.locals(request=HttpRequest)
    cpdef _stream_request(self, exchange, came_by)
    cpdef _read(self, HttpRequest request, came_by)
