# Types for states.py.

cdef dict _CHANGES
cdef dict _STEPS

cpdef change(stage, event)
cpdef step(progress, event)
