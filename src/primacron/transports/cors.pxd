# Types for cors.py.
from primacron.web cimport HttpRequest

cpdef check_origin(HttpRequest request, options)
cpdef tuple cors_headers(HttpRequest request, options)
