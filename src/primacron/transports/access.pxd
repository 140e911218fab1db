# Types for access.py.
from primacron.web cimport HttpRequest

cpdef check_origin(HttpRequest request, options)
cpdef tuple cors_headers(HttpRequest request, options)
