# Types for admission.py.
from primacron.ids cimport SidIssuer, new_session_id
from primacron.sessions.connection cimport Connection
from primacron.sessions.hub cimport Hub
from primacron.sessions.limits cimport Limits
from primacron.sessions.session cimport Session
from primacron.web cimport HttpRequest
cimport cython


cdef class Admissions:
    cdef readonly object _application
    cdef readonly object _features
    cdef Hub _hub
    cdef SidIssuer _issuer
    cdef readonly Limits _limits
    cdef readonly object _node
    cdef readonly object _options
    cdef public object being_claimed
    cdef public Py_ssize_t generation
    cdef public bint is_closed
    cdef public dict pending
    cdef public object registrar
    cdef public object transits

    cpdef admit_now(self, applicant)
    cpdef admit_here(self, applicant, tuple name)
    cpdef _claim_here(self, tuple name, sid)
    cpdef holder(self, tuple name)
    @cython.locals(request=HttpRequest, session=Session, connection=Connection)
    cpdef Connection open(self, admission, transport)
    cpdef opened(self, Connection connection)
