# Types for listener.py.
from primacron.standalone.reader cimport RequestReader
from primacron.turns cimport Turns
from primacron.wheel cimport Wheel


cdef class Listener:
    cdef object _all_closed
    cdef bytes _date
    cdef RequestReader _reader
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
    cpdef RequestReader take_reader(self)
    cpdef give_reader(self, RequestReader reader)
    cpdef forget(self, connection)
