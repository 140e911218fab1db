# Types for emitter.py.


cdef class Emitter:
    cdef dict _listeners

    cpdef tuple listeners(self, str event)
