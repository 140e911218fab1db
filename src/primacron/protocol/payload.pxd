# Types for payload.py.
from primacron.protocol.packets cimport decode_binary, decode_text
from primacron.protocol.parcels cimport Parcel
cimport cython

cpdef list decode_payload(bytes body, Py_ssize_t version, Py_ssize_t max_packets, bint binary=*)
@cython.locals(parcel=Parcel)
cpdef tuple encode_payload(list parcels, Py_ssize_t version, bint base64)
