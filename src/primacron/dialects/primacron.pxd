# Types for primacron.py, and the one loop over all characters of a message.
from primacron.dialects.base cimport Dialect
from primacron.protocol.parcels cimport Parcel

cdef extern from "Python.h":
    int PyUnicode_1BYTE_KIND
    int PyUnicode_2BYTE_KIND
    int PyUnicode_KIND(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

ctypedef fused Character:
    unsigned char
    unsigned short
    unsigned int


cdef inline Py_ssize_t count_marks_in(const Character* characters, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t index, found = 0
    for index in range(size):
        found += (characters[index] == 44) | (characters[index] == 91) | (characters[index] == 123)  # , [ {
    return found


cdef inline Py_ssize_t count_marks(str text) noexcept:
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    if PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND:
        return count_marks_in(<const unsigned char*>PyUnicode_DATA(text), size)
    if PyUnicode_KIND(text) == PyUnicode_2BYTE_KIND:
        return count_marks_in(<const unsigned short*>PyUnicode_DATA(text), size)
    return count_marks_in(<const unsigned int*>PyUnicode_DATA(text), size)


cdef class EnvelopeDialect(Dialect):
    pass


cdef class JsonDialect(EnvelopeDialect):
    cdef Py_ssize_t _max_items
    cdef readonly object _encoding
    cdef readonly object _encode
    cdef readonly dict _heads


cdef class MsgpackDialect(EnvelopeDialect):
    cdef Py_ssize_t _max_items
    cdef readonly object _encoding
