# Types for payload.py.
from primacron.protocol.packets cimport decode_binary, decode_text
from primacron.protocol.outgoing cimport OutgoingPacket
cimport cython



cdef class Payload:
    cdef bytes _body
    cdef Py_ssize_t _count
    cdef Py_ssize_t _limit
    cdef Py_ssize_t _position
    cdef str _text
    cdef Py_ssize_t _version
    cdef readonly bint is_done

    cpdef begin(self)
    @cython.locals(packets=list, text=str, limit=Py_ssize_t)
    cpdef list take(self, Py_ssize_t most)
    @cython.locals(start=Py_ssize_t, end=Py_ssize_t)
    cdef _take_separated(self, str text)
    @cython.locals(start=Py_ssize_t, end=Py_ssize_t)
    cdef _take_counted(self, str text)
    @cython.locals(position=Py_ssize_t, mark=Py_ssize_t, end=Py_ssize_t)
    cdef _take_binary(self, bytes body)


cdef Py_ssize_t _end_after(str text, Py_ssize_t start, Py_ssize_t units) except -2
@cython.locals(packet=OutgoingPacket)
cpdef tuple encode_payload(list packets, Py_ssize_t version, bint base64)
