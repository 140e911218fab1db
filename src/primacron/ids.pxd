# Types for ids.py.


cdef class _Randomness:
    cdef bytes _bytes
    cdef Py_ssize_t _next

    cpdef bytes take(self, Py_ssize_t size)


cdef str _spell(bytes data)
cpdef bint is_usable_id(str text) except -1
cpdef str new_session_id()


cdef class Keyring:
    cdef dict _macs
    cdef public bytes candidate

    cpdef str sign(self, str body)


cdef str _checksum(mac, str body)


cdef class SidIssuer:
    cdef Keyring _keyring
    cdef public str hint

    cpdef str issue(self)
