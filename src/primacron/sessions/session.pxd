# Types for session.py.
from primacron.sessions.connection cimport Connection
from primacron.sessions.lifecycle cimport change
from primacron.sessions.runtime cimport Runtime


cdef class SessionRuntime(Runtime):
    cdef public object channels
    cdef public object receiver
    cdef public object router
    cdef public object sessions
    cdef public dict taps


cdef class Session:
    cdef object __weakref__
    cdef object _data
    cdef object _features
    cdef object _query
    cdef readonly SessionRuntime _runtime
    cdef object _tasks
    cdef public str account
    cdef str _claimed_account
    cdef readonly Connection connection
    cdef public object entry
    cdef public str id
    cdef public object inbox
    cdef public str peer
    cdef readonly object state

    cpdef _change(self, event)
    cpdef attach(self, Connection connection)
