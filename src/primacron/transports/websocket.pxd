# Types for websocket.py.
from primacron.sessions.connection cimport Connection
from primacron.transports.connecting cimport admit, find_connection, first_packets, read_applicant
cimport cython

cpdef handle(node, exchange, sid)
@cython.locals(connection=Connection)
cpdef _open(node, exchange, admission)
