# Types for frames.py, and what C does better byte by byte. No logic beyond that.
cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline void unmask(bytearray data, Py_ssize_t start, Py_ssize_t end, bytearray source, Py_ssize_t key):
    cdef uint8_t* p = <uint8_t*>PyByteArray_AS_STRING(data)
    cdef Py_ssize_t i = start
    cdef uint32_t mask
    cdef uint64_t wide, value
    memcpy(&mask, PyByteArray_AS_STRING(source) + key, 4)
    wide = (<uint64_t>mask << 32) | mask
    while i + 8 <= end:
        memcpy(&value, p + i, 8)
        value ^= wide
        memcpy(p + i, &value, 8)
        i += 8
    while i < end:
        p[i] ^= (<uint8_t*>&mask)[(i - start) & 3]
        i += 1


cdef inline str text_of(bytearray data, Py_ssize_t start, Py_ssize_t end):
    return PyUnicode_DecodeUTF8(PyByteArray_AS_STRING(data) + start, end - start, NULL)


cdef inline bytes bytes_of(bytearray data, Py_ssize_t start, Py_ssize_t end):
    return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(data) + start, end - start)


cdef inline bytes join_frame(int first, bytes prefix, bytes data):
    cdef Py_ssize_t lead = PyBytes_GET_SIZE(prefix)
    cdef Py_ssize_t size = lead + PyBytes_GET_SIZE(data)
    cdef Py_ssize_t head = 2 if size < 126 else (4 if size < 65536 else 10)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, head + size)
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(frame)
    cdef int k
    out[0] = <uint8_t>first
    if head == 2:
        out[1] = <uint8_t>size
    elif head == 4:
        out[1] = 126
        out[2] = <uint8_t>(size >> 8)
        out[3] = <uint8_t>(size & 255)
    else:
        out[1] = 127
        for k in range(8):
            out[2 + k] = <uint8_t>((<uint64_t>size >> (56 - 8 * k)) & 255)
    memcpy(out + head, PyBytes_AS_STRING(prefix), lead)
    memcpy(out + head + lead, PyBytes_AS_STRING(data), size - lead)
    return frame


cdef class FrameSettings:
    cdef public Py_ssize_t max_size
    cdef public bytearray buffer
    cdef public object view


cdef class Partial:
    cdef public int opcode
    cdef public object inflater
    cdef public bytearray data
    cdef public Py_ssize_t checked
    cdef public bint final
    cdef public Py_ssize_t left
    cdef public bytearray key
    cpdef add(self, bytes payload, Py_ssize_t limit)


@cython.locals(size=Py_ssize_t, rest=bytearray)
cpdef Py_ssize_t check_text(bytearray data) except -1


cdef class FrameReader:
    cdef public FrameSettings settings
    cdef public object inflater
    cdef public bytearray rest
    cdef public Partial partial
    cdef public int halted

    @cython.locals(done=Py_ssize_t)
    cpdef feed(self, bytearray data, Py_ssize_t size)
    @cython.locals(rest=bytearray, done=Py_ssize_t)
    cpdef feed_rest(self)
    @cython.locals(pos=Py_ssize_t, look=Py_ssize_t, start=Py_ssize_t, length=Py_ssize_t, first=int, text=str)
    cpdef Py_ssize_t read(self, bytearray data, Py_ssize_t end) except -1
    @cython.locals(opcode=int)
    cpdef check(self, int first, Py_ssize_t length)
    @cython.locals(limit=Py_ssize_t, allowed=Py_ssize_t, partial=Partial)
    cpdef check_size(self, int first, Py_ssize_t length)
    cpdef begin(self, int first, Py_ssize_t length, bytearray key)
    @cython.locals(partial=Partial, stop=Py_ssize_t, turn=Py_ssize_t)
    cpdef Py_ssize_t take(self, bytearray data, Py_ssize_t start, Py_ssize_t end) except -1
    cpdef hand_over(self, Partial partial)
    cpdef bint has_had_turn(self) except -1
    cpdef on_text(self, str text)
    cpdef on_binary(self, bytes data)
    cpdef on_control(self, int opcode, bytes payload)


cpdef Py_ssize_t long_length(bytearray data, Py_ssize_t at) except -1


cpdef bytes encode_frame(int opcode, bytes data, bytes prefix=*, bint compressed=*)
