# Types for packet_socket.py.
from primacron.protocol.outgoing cimport OutgoingPacket
from primacron.standalone.websocket cimport FrameStream


cdef class PacketStream(FrameStream):
    cdef public object connection

    cpdef on_text(self, str text)
    cpdef on_binary(self, bytes data)
    cpdef write(self, list packets)
    cpdef bytes _frame(self, OutgoingPacket packet)
    cpdef bytes _unusual(self, OutgoingPacket packet)
    cpdef bytes _compressed(self, OutgoingPacket packet, deflater)
