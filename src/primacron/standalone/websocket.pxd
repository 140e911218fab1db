# Types for websocket.py.
from primacron.protocol.parcels cimport Parcel
from primacron.standalone.stream cimport FrameStream


cdef class PacketStream(FrameStream):
    cdef public object connection

    cpdef on_text(self, str text)
    cpdef on_binary(self, bytes data)
    cpdef write(self, list parcels)
    cpdef bytes _frame(self, Parcel parcel)
    cpdef bytes _unusual(self, Parcel parcel)
    cpdef bytes _compressed(self, Parcel parcel, deflater)
