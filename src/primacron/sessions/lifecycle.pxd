# Types for lifecycle.py.

cdef dict _CHANGES

cpdef change(state, event)
