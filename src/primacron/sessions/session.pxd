# Types for session.py.
from primacron.sessions.connection cimport Connection
from primacron.sessions.hub cimport Hub


cdef class Session:
    cdef object __weakref__
    cdef object _data
    cdef object _features
    cdef readonly Hub _hub
    cdef object _query
    cdef object _tasks
    cdef public str account
    cdef str _claimed_account
    cdef readonly Connection connection
    cdef public object entry
    cdef public str id
    cdef public object inbox
    cdef public str peer
    cdef readonly object state
