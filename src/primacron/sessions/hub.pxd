# Types for hub.py.
cimport cython
from primacron.sessions.connection cimport Connection
from primacron.sessions.limits cimport Limits
from primacron.turns cimport Turns
from primacron.wheel cimport Wheel


cdef class Hub:
    cdef public object _accepted
    cdef public set _blocked
    cdef public Py_ssize_t _blocked_bytes
    cdef public list _dirty
    cdef public bint _is_flushing
    cdef public dict _outcomes
    cdef public object _thread
    cdef public object _tick
    cdef public object answers
    cdef public dict connections
    cdef public object encoding
    cdef public dict kinds
    cdef public Limits limits
    cdef public object loop
    cdef public object metrics
    cdef public set moving
    cdef public object options
    cdef public object receiver
    cdef public object router
    cdef public object sessions
    cdef public dict taps
    cdef public object unfinished
    cdef public Turns turns
    cdef public Wheel wheel

    cpdef mark(self, Connection connection)
    @cython.locals(connection=Connection)
    cpdef flush(self)
    @cython.locals(connection=Connection)
    cpdef Py_ssize_t send_each(self, connections, dict parcels) except -1
    cpdef accepted(self)
    cpdef _flush_later(self)
    cpdef bint is_blocked(self, Connection connection)
    cpdef unblock(self, Connection connection)
    cpdef remove(self, Connection connection)

