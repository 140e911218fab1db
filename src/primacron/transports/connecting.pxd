# Types for admission.py.
from primacron.protocol.handshake cimport read_account, read_format
from primacron.sessions.connection cimport Connection
from primacron.transports.cors cimport cors_headers
from primacron.web cimport HttpRequest
cimport cython

cpdef read_applicant(node, HttpRequest request)
@cython.locals(connection=Connection)
cpdef Connection find_connection(node, HttpRequest request, str sid)
cpdef list first_packets(node, admission, Connection connection)
cpdef admit(node, exchange, applicant, accept)
