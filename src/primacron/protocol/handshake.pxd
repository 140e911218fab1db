# Types for handshake.py.

cpdef read_transport(query, tuple offered)
cpdef read_sid(query)
cpdef read_format(query, tuple offered)
cpdef read_account(query)
