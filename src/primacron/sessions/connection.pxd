# Types for connection.py.
from primacron.protocol.outgoing cimport OutgoingPacket
from primacron.sessions.runtime cimport Outlet, Runtime
from primacron.wheel cimport Timed


cdef class Probe(Timed):
    cdef public object transport
    cdef public object connection
    cdef public object reason


cdef class Connection(Outlet):
    cdef public object backlog
    cdef public object transport
    cdef public object format
    cdef public object heart
    cdef public bint is_full
    cdef public list outbox
    cdef public object phase
    cdef public object probe
    cdef public Runtime runtime
    cdef public object session
    cdef public Py_ssize_t strikes

    cpdef bint send(self, OutgoingPacket packet) except -1
    cpdef bint _append(self, list outbox, OutgoingPacket packet) except -1
    cpdef flush(self)
    cpdef receive_text(self, str text, transport)
