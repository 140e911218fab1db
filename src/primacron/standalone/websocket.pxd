# Types for websocket.py.
from primacron.standalone.frames cimport FrameReader
from primacron.standalone.listener cimport Listener
from primacron.standalone.direct_write cimport push


cdef class FrameStream(FrameReader):
    cdef public bint ready
    cdef public Listener _listener
    cdef public object _deflater
    cdef public object _transport
    cdef public bytes _head
    cdef public list _pongs
    cdef public bint _closing
    cdef public int _fd
    cdef public bint _holds_input
    cdef public bint _is_behind

    cpdef count_input(self)
    cpdef _read(self, Py_ssize_t nbytes)
    cpdef bint has_had_turn(self) except -1
    cpdef send_pongs(self)
    cpdef put(self, list frames)
    cpdef push(self, transport, bytes data)
