# Types for web.py.


cdef class HttpRequest:
    cdef public str method
    cdef public str path
    cdef public str query_string
    cdef public object headers
    cdef public str host
    cdef public str peer
    cdef public bint secure
    cdef object _query
