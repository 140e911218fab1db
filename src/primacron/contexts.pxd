# Types for contexts.py.

cdef extern from "Python.h":
    object PyContext_Copy(object context)


cdef inline copy_of(context):
    return PyContext_Copy(context)


cpdef own_context(base)
