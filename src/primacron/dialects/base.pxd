# Types for base.py.
from primacron.protocol.outgoing cimport OutgoingPacket


cdef class Dialect:
    cpdef read(self, message, sid)
    cpdef OutgoingPacket write_event(self, str event, tuple args, call=*)
