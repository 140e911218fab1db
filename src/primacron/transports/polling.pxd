# Types for polling.py.
from primacron.protocol.payload cimport Payload, encode_payload
from primacron.sessions.connection cimport Connection
from primacron.transports.cors cimport cors_headers
from primacron.transports.connecting cimport find_connection
from primacron.web cimport HttpRequest, demand_plain_body
cimport cython

@cython.locals(request=HttpRequest, connection=Connection, polling=Polling)
cpdef handle(node, exchange, sid, by=*)
cdef Polling _polling_of(Connection connection)
@cython.locals(text=str)
cdef Py_ssize_t read_stamp(HttpRequest request) except -1


cdef class Polling:
    cdef object _answer
    cdef Py_ssize_t _answered
    cdef object _by
    cdef tuple _extra
    cdef Py_ssize_t _first
    cdef bint _is_stamped
    cdef object _node
    cdef readonly object _poll
    cdef readonly object _post
    cdef Py_ssize_t _posted
    cdef Py_ssize_t _posted_before
    cdef Py_ssize_t _stamp
    cdef readonly object _twin
    cdef readonly object _waiting
    cdef public Connection connection
    cdef public object context
    cdef public Py_ssize_t most
    cdef public bint ready

    @cython.locals(stamp=Py_ssize_t)
    cdef Py_ssize_t _read_stamp(self, HttpRequest request, bint is_poll) except -1
    @cython.locals(connection=Connection, stamp=Py_ssize_t)
    cpdef take_poll(self, exchange, by)
    @cython.locals(is_repeat=bint, overtakes=bint)
    cdef bint _make_way(self, exchange, by, Py_ssize_t stamp) except -1
    @cython.locals(connection=Connection, request=HttpRequest)
    cpdef answer_with(self, exchange, tuple extra)
    cdef _keep_answer(self, response)
    cdef _forget_answer(self, answer)
    @cython.locals(connection=Connection, stamp=Py_ssize_t)
    cpdef take_post(self, exchange)
    cdef _read(self, exchange, Connection connection)
    cpdef _take_body(self, body)
    @cython.locals(connection=Connection)
    cpdef _answer_body(self, exchange, body)
    cdef _ok(self, exchange)
    cpdef _end_post(self, exchange, response)
    @cython.locals(packets=list, payload=Payload)
    cpdef _act(self, exchange, Connection connection, bytes body)
    cpdef write(self, list packets)
    @cython.locals(body=bytes, headers=tuple)
    cdef _encode(self, list packets, HttpRequest request, tuple extra)
    cpdef _compressed(self, HttpRequest request, response)
    cdef Connection _demand(self)


cpdef _respond(exchange, response, _)
cdef bint _is_binary(HttpRequest request)
