# Types for polling.py.
from primacron.protocol.payload cimport decode_payload, encode_payload
from primacron.sessions.connection cimport Connection
from primacron.transports.access cimport cors_headers
from primacron.transports.admission cimport find_connection
from primacron.web cimport HttpRequest
cimport cython

@cython.locals(request=HttpRequest, polling=Polling)
cpdef handle(node, exchange, sid)
@cython.locals(connection=Connection)
cdef Polling find_polling(node, HttpRequest request, str sid)


cdef class Polling:
    cdef tuple _extra
    cdef object _node
    cdef readonly object _poll
    cdef readonly object _post
    cdef readonly object _waiting
    cdef public Connection connection
    cdef public object context
    cdef public bint ready

    @cython.locals(connection=Connection)
    cpdef take_poll(self, exchange)
    @cython.locals(connection=Connection)
    cpdef answer_with(self, exchange, tuple extra)
    @cython.locals(connection=Connection)
    cpdef take_post(self, exchange)
    cpdef _take_body(self, body)
    @cython.locals(connection=Connection, packets=list, binary=bint)
    cpdef _act(self, exchange, bytes body)
    @cython.locals(body=bytes, headers=tuple)
    cpdef write(self, list parcels)
    cpdef _compressed(self, HttpRequest request, response)
    cdef Connection _demand(self)


cdef bint _is_binary(HttpRequest request)
