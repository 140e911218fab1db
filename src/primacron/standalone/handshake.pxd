# Types for handshake.py.
from primacron.web cimport HttpRequest

cpdef check_handshake(HttpRequest request)
cpdef tuple accept_head(HttpRequest request, options)
