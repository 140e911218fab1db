# Types for raw.py.
from primacron.dialects.base cimport Dialect
from primacron.protocol.outgoing cimport OutgoingPacket


cdef class RawDialect(Dialect):
    cdef readonly object _encoding
    cdef bint _separated

    cdef OutgoingPacket _packet(self, content)
