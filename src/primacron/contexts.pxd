# Types for contexts.py.

cpdef own_context(base)
