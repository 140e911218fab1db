# Types for stream.py, and the one system call that is made past the event loop.
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from primacron.standalone.frames cimport FrameReader

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL


cdef inline Py_ssize_t send_now(int fd, bytes data) noexcept:
    return send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)


cdef class FrameStream(FrameReader):
    cdef public bint ready
    cdef public object _listener
    cdef public object _deflater
    cdef public object _transport
    cdef public bytes _head
    cdef public list _pongs
    cdef public bint _closing
    cdef public int _fd
    cdef public bint _is_behind

    cpdef send_pongs(self)
    cpdef put(self, list frames)
    @cython.locals(done=Py_ssize_t)
    cpdef push(self, transport, bytes data)
