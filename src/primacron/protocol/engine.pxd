# Types for engine.py.

cpdef advance(phase, step)
cpdef judge(packet, version, channel)
cpdef tuple beat(heart, event)
