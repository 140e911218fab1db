# Types for packets.py.

cpdef decode_text(str wire, Py_ssize_t version)
cpdef decode_binary(bytes wire, Py_ssize_t version)
