# Types for base.py.
from primacron.protocol.parcels cimport Parcel


cdef class Dialect:
    cpdef read(self, message, sid)
    cpdef Parcel write_event(self, str event, tuple args, call=*)
