# Types for outgoing.py.


cdef class OutgoingPacket:
    cdef public bint binary
    cdef public bytes data
    cdef public bytes frame
    cdef public bytes prefix
    cdef public Py_ssize_t size
