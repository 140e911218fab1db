# Types for primacron.py, and the loops over all characters of a message.
from cpython.bool cimport PyBool_Check
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.long cimport PyLong_CheckExact
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from primacron.dialects.base cimport Dialect
from primacron.protocol.outgoing cimport OutgoingPacket

cdef extern from "Python.h":
    int PyUnicode_1BYTE_KIND
    int PyUnicode_2BYTE_KIND
    int PyUnicode_KIND(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

ctypedef fused Character:
    unsigned char
    unsigned short
    unsigned int


cdef extern from *:
    """
    #define IS_DIGIT(c) (((c) >= '0') & ((c) <= '9'))
    #define IS_MARK(c) (((c) == ',') | ((c) == '[') | ((c) == '{'))
    /* An exponent, most likely: a digit before it, a digit or a sign behind it. */
    #define IS_EXPONENT(before, c, behind) \
        ((((c) | 32) == 'e') & IS_DIGIT(before) & (IS_DIGIT(behind) | ((behind) == '+') | ((behind) == '-')))

    /* In blocks whose sums fit into a character, so that the compiler takes many characters at a time. */
    #define WEIGH_ROUGHLY(name, type) \
        static Py_ssize_t name(const type *p, Py_ssize_t size) { \
            Py_ssize_t found = 0, suspect = 0, at = 1; \
            if (size) found += IS_MARK(p[0]); \
            for (; at + 128 < size; at += 128) { \
                type marks = 0, exponents = 0; \
                for (int k = 0; k < 128; k++) { \
                    type before = p[at + k - 1], c = p[at + k], behind = p[at + k + 1]; \
                    marks += IS_MARK(c); \
                    exponents += (type)IS_EXPONENT(before, c, behind); \
                } \
                found += marks; \
                suspect += exponents; \
            } \
            for (; at < size; at++) { \
                found += IS_MARK(p[at]); \
                if (at + 1 < size) suspect += IS_EXPONENT(p[at - 1], p[at], p[at + 1]); \
            } \
            /* Of a long row of digits some stand at these places, whatever stands between them. */ \
            for (at = 0; at + 15 < size; at += 32) \
                suspect += IS_DIGIT(p[at]) & IS_DIGIT(p[at + 5]) & IS_DIGIT(p[at + 10]) & IS_DIGIT(p[at + 15]); \
            return found + 32 * suspect; \
        }
    WEIGH_ROUGHLY(weigh_roughly_1, unsigned char)
    WEIGH_ROUGHLY(weigh_roughly_2, unsigned short)
    WEIGH_ROUGHLY(weigh_roughly_4, unsigned int)

    /* Four characters at a time, without a branch, so that the compiler takes many at a time. */
    static int has_null_in(const char *p, Py_ssize_t size) {
        unsigned int null, four;
        int found = 0;
        memcpy(&null, "null", 4);
        for (Py_ssize_t at = 0; at + 4 <= size; at++) {
            memcpy(&four, p + at, 4);
            found |= four == null;
        }
        return found;
    }
    """
    Py_ssize_t weigh_roughly_1(const unsigned char* p, Py_ssize_t size) nogil
    Py_ssize_t weigh_roughly_2(const unsigned short* p, Py_ssize_t size) nogil
    Py_ssize_t weigh_roughly_4(const unsigned int* p, Py_ssize_t size) nogil
    bint has_null_in(const char* p, Py_ssize_t size) nogil
    bint IS_DIGIT(unsigned int c) nogil
    bint IS_MARK(unsigned int c) nogil


cdef inline Py_ssize_t end_of_digits(const Character* characters, Py_ssize_t index, Py_ssize_t size) noexcept nogil:
    while index < size and IS_DIGIT(characters[index]):
        index += 1
    return index


cdef inline Py_ssize_t weigh_in(const Character* characters, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t index = 0, start, length, found = 0
    cdef int exponent
    while index < size:
        if characters[index] == 34:  # a string, to its end
            index += 1
            while index < size and characters[index] != 34:
                index += 2 if characters[index] == 92 else 1
            index += 1
        elif IS_DIGIT(characters[index]):
            start = index
            index = end_of_digits(characters, index, size)
            if index + 1 < size and characters[index] == 46 and IS_DIGIT(characters[index + 1]):
                index = end_of_digits(characters, index + 1, size)
            length = index - start
            if length >= 128:
                found += min(length, 4300) >> 4
            if index + 1 < size and (characters[index] | 32) == 101:
                start = index + 1
                if characters[start] == 43 or characters[start] == 45:
                    start += 1
                exponent = 0
                index = end_of_digits(characters, start, size)
                while start < index:
                    exponent = min(10 * exponent + <int>characters[start] - 48, 1000)
                    start += 1
                if exponent > 250 or (exponent > 22 and length > 20):
                    found += 32
        else:
            found += IS_MARK(characters[index])
            index += 1
    return found


cdef inline Py_ssize_t weigh_roughly(str text) noexcept:
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    if PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND:
        return weigh_roughly_1(<const unsigned char*>PyUnicode_DATA(text), size)
    if PyUnicode_KIND(text) == PyUnicode_2BYTE_KIND:
        return weigh_roughly_2(<const unsigned short*>PyUnicode_DATA(text), size)
    return weigh_roughly_4(<const unsigned int*>PyUnicode_DATA(text), size)


cdef inline Py_ssize_t weigh(str text) noexcept:
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    if PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND:
        return weigh_in(<const unsigned char*>PyUnicode_DATA(text), size)
    if PyUnicode_KIND(text) == PyUnicode_2BYTE_KIND:
        return weigh_in(<const unsigned short*>PyUnicode_DATA(text), size)
    return weigh_in(<const unsigned int*>PyUnicode_DATA(text), size)


cdef inline bint has_null(bytes data) noexcept:
    return has_null_in(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline bint is_plain(args):
    if not PyTuple_CheckExact(args):
        return False
    for each in <tuple>args:
        if not (
            PyUnicode_CheckExact(each)
            or PyLong_CheckExact(each)
            or PyBool_Check(each)
            or each is None
            or PyBytes_CheckExact(each)
        ):
            return False
    return True


cdef class EnvelopeDialect(Dialect):
    pass


cdef class JsonDialect(EnvelopeDialect):
    cdef Py_ssize_t _max_items
    cdef readonly object _encoding
    cdef readonly object _encode
    cdef readonly dict _heads


cdef class MsgpackDialect(EnvelopeDialect):
    cdef Py_ssize_t _max_items
    cdef readonly object _encoding
