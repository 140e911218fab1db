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
    cdef readonly object _being_claimed
    cdef readonly object _features
    cdef readonly Py_ssize_t _generation
    cdef Hub _hub
    cdef SidIssuer _issuer
    cdef readonly Limits _limits
    cdef readonly object _node
    cdef readonly object _options
    cdef readonly dict _pending
    cdef readonly object _run
    cdef public object claiming
    cdef public object cluster
    cdef public object givings
    cdef public bint is_closed
    cdef public object journeys
    cdef public set unregistered

    cpdef admit_now(self, applicant)
    cpdef _admit_here(self, applicant, account, session)
    cpdef _claim_here(self, tuple name, sid)
    cpdef _holder(self, tuple name)
    @cython.locals(request=HttpRequest, session=Session, connection=Connection)
    cpdef Connection open(self, admission, carrier, phase)
