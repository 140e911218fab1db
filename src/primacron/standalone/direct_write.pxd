# Types for direct_write.py, and the one system call that is made past the event loop.
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL


cdef inline Py_ssize_t send_now(int fd, bytes data) noexcept:
    return send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)


@cython.locals(done=Py_ssize_t)
cpdef bint push(transport, int fd, bint is_behind, bytes data) except -1
