# Types for primacron.py.
from primacron.dialects.base cimport Dialect
from primacron.protocol.parcels cimport Parcel


cdef class EnvelopeDialect(Dialect):
    pass


cdef class JsonDialect(EnvelopeDialect):
    cdef Py_ssize_t _max_items
    cdef readonly dict _heads


cdef class MsgpackDialect(EnvelopeDialect):
    cdef Py_ssize_t _max_items
