# Types for channels.py: compiled because calls of methods that subclasses in Python might override are slower.
from primacron.dialects.primacron cimport JsonDialect, MsgpackDialect


cdef class ChannelJsonDialect(JsonDialect):
    pass


cdef class ChannelMsgpackDialect(MsgpackDialect):
    pass
