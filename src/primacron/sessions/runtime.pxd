# Types for runtime.py.
cimport cython
from primacron.dialects.base cimport Dialect
from primacron.protocol.outgoing cimport OutgoingPacket
from primacron.turns cimport Turns
from primacron.wheel cimport Timed, Wheel

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object thing)

cdef extern from "pythread.h":
    ctypedef unsigned long Ident "unsigned long"
    Ident get_ident "PyThread_get_thread_ident"()


cdef inline bint is_held_once(object thing):
    return Py_REFCNT(thing) == 1


cdef class Outlet(Timed):
    cdef public Dialect dialect
    cdef public object sid
    cdef public Py_ssize_t waiting

    cpdef bint send(self, OutgoingPacket packet) except -1
    cpdef flush(self)


cdef class Runtime:
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
    cdef public object loop
    cdef public object metrics
    cdef public object options
    cdef public object unfinished
    cdef public Turns turns
    cdef public Wheel wheel

    cpdef mark(self, Outlet connection)
    @cython.locals(connection=Outlet)
    cpdef flush(self)
    cpdef accepted(self)
    cdef _end_deliveries(self)
    cpdef demand_thread(self, str method)
    cpdef _flush_later(self)
    cpdef bint is_blocked(self, Outlet connection)
    cpdef unblock(self, Outlet connection)
    cpdef remove(self, Outlet connection)
