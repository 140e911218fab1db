# Types for hub.py.
cimport cython
from primacron.sessions.connection cimport Connection
from primacron.sessions.limits cimport Limits
from primacron.sessions.runtime cimport Outlet
from primacron.sessions.session cimport Session, SessionRuntime


cdef class Hub(SessionRuntime):
    cdef public dict connections
    cdef public object encoding
    cdef public dict groups
    cdef public dict kinds
    cdef public Limits limits
    cdef public set moving

    @cython.locals(found=list, session=Session)
    cpdef list connections_of(self, sessions)
    @cython.locals(connection=Connection)
    cpdef Py_ssize_t send_each(self, connections, dict packets) except -1
    cpdef remove(self, Outlet connection)
    cpdef session_of(self, Connection connection)
