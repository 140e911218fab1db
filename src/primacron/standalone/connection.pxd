# Types for connection.py.
from primacron.standalone.exchange cimport HttpExchange
from primacron.standalone.handshake cimport accept_head, check_handshake
from primacron.standalone.listener cimport Listener
from primacron.standalone.parser cimport RequestParser
from primacron.standalone.direct_write cimport push
from primacron.standalone.connection_states cimport change, step
from primacron.web cimport HttpRequest
from primacron.wheel cimport Timed
cimport cython


cdef class HttpStream(Timed):
    cdef readonly object _ahead
    cdef readonly object _awaited
    cdef readonly bytearray _early
    cdef int _fd
    cdef bint _holds_input
    cdef readonly HttpExchange _incoming
    cdef bint _is_behind
    cdef readonly bint _is_halted
    cdef readonly bint _is_reading
    cdef readonly object _last
    cdef readonly Listener _listener
    cdef readonly RequestParser _parser
    cdef readonly bytearray _rest
    cdef readonly object _stage
    cdef readonly object _transport
    cdef readonly Py_ssize_t _unread
    cdef readonly Py_ssize_t _unsent
    cdef readonly bint _write_paused
    cdef readonly str peer

    cpdef buffer_updated(self, Py_ssize_t nbytes)
    cpdef _read(self, data)
    @cython.locals(size=Py_ssize_t)
    cpdef _feed(self, data)
    cpdef Py_ssize_t _find_slice(self) except -1
    cpdef bint _feed_slice(self, data, behind) except -1
    cpdef _give_parser(self)
    cpdef _drop_parser(self)
    cpdef bint may_begin(self) except -1
    cpdef take_head(self, HttpRequest request, bint keep_alive, bint is_whole, bint is_upgrade)
    cpdef take_body(self, bytes body)
    cpdef take_end(self)
    @cython.locals(exchange=HttpExchange)
    cpdef _answer_oldest(self)
    cpdef _write(self, transport, bytes data)
    cpdef respond(self, HttpExchange exchange, response)
    cpdef _settle(self)
    cpdef _halt(self, transport, bint halted)
    @cython.locals(oldest=HttpExchange)
    cpdef _find_awaited(self)
    cpdef _await(self, awaited)
    cpdef _count_input(self)
    cpdef _change(self, event)
    cpdef _leave(self)
