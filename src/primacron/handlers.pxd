# Types for handlers.py.
from primacron.contract.validation cimport Contract, EventContract
from primacron.dialects.base cimport Dialect
from primacron.sessions.connection cimport Connection
from primacron.sessions.session cimport Session
cimport cython


cdef class Handlers:
    cdef public object node
    cdef public object authorizer
    cdef public object generator
    cdef public object pipe_authorizer
    cdef object _options
    cdef Contract _contract
    cdef object _emitter
    cdef object _metrics

    @cython.locals(connection=Connection, dialect=Dialect)
    cpdef message(self, Session session, message)
    @cython.locals(connection=Connection, event=EventContract, args=tuple)
    cpdef _run(self, Session session, Dialect dialect, incoming, message)
    cpdef _answer(self, Session session, Dialect dialect, incoming, result)
