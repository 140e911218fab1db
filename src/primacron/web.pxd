# Types for web.py.
cimport cython

@cython.locals(count=Py_ssize_t, is_encoded=bint, fields=dict, part=str, name=str, value=str)
cdef tuple _parse_query(str text)


cdef class HttpRequest:
    cdef public str method
    cdef public str path
    cdef public str query_string
    cdef public object headers
    cdef public str host
    cdef public str peer
    cdef public bint secure
    cdef public str scheme
    cdef public object is_origin_allowed
    cdef public object context
    cdef object _query

    cpdef trim(self, tuple parameters=*)


cpdef demand_plain_body(HttpRequest request)
