# Types for raw.py.
from primacron.dialects.base cimport Dialect
from primacron.protocol.parcels cimport Parcel


cdef class RawDialect(Dialect):
    cdef readonly object _encoding
    cdef bint _separated

    cdef Parcel _parcel(self, content)
