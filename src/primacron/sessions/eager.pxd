# The first step of a coroutine in eager.py, without the StopIteration that ends one in plain Python.
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object iterator, object value, PyObject** result)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


cdef class Eager:
    cdef object _loop
    cdef object _relay
    cdef object _spare
    cdef public object value

    cpdef start(self, coroutine, own=*)
    cdef _start_task(self, coroutine)
    cdef _renew(self)


cdef inline bint take_step(Eager eager, coroutine, context) except -1:
    cdef PyObject* result = NULL
    cdef PySendResult outcome
    if context is None:
        outcome = PyIter_Send(coroutine, None, &result)
    else:
        PyContext_Enter(context)
        outcome = PyIter_Send(coroutine, None, &result)
        PyContext_Exit(context)
    if outcome == PYGEN_ERROR:
        return -1  # the exception is set
    eager.value = <object>result
    Py_DECREF(<object>result)
    return outcome == PYGEN_RETURN
