# Types for listener.py.
from primacron.standalone.parser cimport RequestParser
from primacron.turns cimport Turns
from primacron.wheel cimport Wheel


cdef class Listener:
    cdef object _all_closed
    cdef bytes _date
    cdef RequestParser _parser
    cdef Py_ssize_t _second
    cdef public bint closing
    cdef public object frames
    cdef public object http_buffer
    cdef public object loop
    cdef public set open
    cdef public object options
    cdef public object routes
    cdef public bint secure
    cdef public object unfinished
    cdef public object websocket
    cdef public Turns turns
    cdef public Wheel wheel

    cpdef bytes date(self)
    cpdef RequestParser take_parser(self)
    cpdef give_parser(self, RequestParser parser)
    cpdef forget(self, connection)
