# Types for handlers.py.
from primacron.contexts cimport own_context
from primacron.contract.validation cimport Contract, EventContract
from primacron.dialects.base cimport Dialect
from primacron.sessions.connection cimport Connection
from primacron.sessions.eager cimport Eager
from primacron.sessions.hub cimport Hub
from primacron.sessions.session cimport Session
cimport cython

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


cdef class Handlers:
    cdef public object node
    cdef public object authorizer
    cdef public object generator
    cdef public object channels
    cdef public object log
    cdef object _options
    cdef Contract _contract
    cdef object _emitter
    cdef dict _heard
    cdef object _metrics

    @cython.locals(connection=Connection, dialect=Dialect)
    cpdef message(self, Session session, message)
    cpdef _run(self, context, Session session, Dialect dialect, incoming, message)
    @cython.locals(connection=Connection, eager=Eager, event=EventContract, args=tuple, hub=Hub)
    cpdef _validate_and_handle(self, own, Session session, Dialect dialect, incoming, message)
    cpdef _answer(self, Session session, Dialect dialect, incoming, result)


cdef inline run_in(own, Handlers handlers, Session session, Dialect dialect, incoming, message):
    PyContext_Enter(own)
    try:
        return handlers._validate_and_handle(own, session, dialect, incoming, message)
    finally:
        PyContext_Exit(own)
