# Types for hub.py.
cimport cython
from primacron.sessions.connection cimport Connection
from primacron.sessions.limits cimport Limits
from primacron.turns cimport Turns
from primacron.wheel cimport Wheel

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object thing)

cdef extern from "pythread.h":
    ctypedef unsigned long Ident "unsigned long"
    Ident get_ident "PyThread_get_thread_ident"()


cdef inline bint is_held_once(object thing):
    return Py_REFCNT(thing) == 1


cdef class Hub:
    cdef public object _accepted
    cdef public set _blocked
    cdef public Py_ssize_t _blocked_bytes
    cdef object _call_soon
    cdef public list _dirty
    cdef object _end
    cdef bint _has_told
    cdef public bint _is_flushing
    cdef public dict _outcomes
    cdef Ident _thread
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
    cdef _end_deliveries(self)
    cpdef demand_thread(self, str method)
    cpdef _flush_later(self)
    cpdef bint is_blocked(self, Connection connection)
    cpdef unblock(self, Connection connection)
    cpdef remove(self, Connection connection)

