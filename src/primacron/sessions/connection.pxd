# Types for connection.py.
from primacron.dialects.base cimport Dialect
from primacron.protocol.parcels cimport Parcel
from primacron.sessions.hub cimport Hub
from primacron.wheel cimport Timed


cdef class Probe(Timed):
    cdef public object carrier
    cdef public object connection
    cdef public object reason


cdef class Connection(Timed):
    cdef public object backlog
    cdef public object carrier
    cdef public Dialect dialect
    cdef public object format
    cdef public object heart
    cdef public Hub hub
    cdef public bint is_full
    cdef public list outbox
    cdef public object phase
    cdef public object probe
    cdef public object session
    cdef public object sid
    cdef public Py_ssize_t strikes
    cdef public Py_ssize_t waiting

    cpdef bint send(self, Parcel parcel) except -1
    cpdef bint _append(self, list outbox, Parcel parcel) except -1
    cpdef flush(self)
    cpdef receive_text(self, str text, carrier)
