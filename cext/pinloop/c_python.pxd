# The parts of CPython's C API that Cython's own cpython.* packages lack.
from cpython.object cimport PyObject, PyTypeObject
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t

cdef extern from "compat.h":
    object PyContext_CopyCurrent()
    object PyContext_Copy(object context)
    int PyContext_Enter(PyObject* context)
    int PyContext_Exit(PyObject* context)
    bint PyContext_CheckExact(object o)
    const bint SPARES_ARE_SHARED "PL_SPARES_ARE_SHARED"
    int pl_learn_contexts() except -1
    object pl_copy_context()
    bint pl_at_rest(PyObject* context)
    PyObject* pl_whole_context(PyObject** place, PyObject** spare)

    # Raw results: NULL means raised, and the caller looks.
    PyObject* PyObject_Vectorcall(PyObject* callable, PyObject** args, size_t nargsf, PyObject* kwnames)
    int PyObject_IsTrue(PyObject* o)
    PyObject* PyObject_GetAttr(PyObject* o, PyObject* name)
    PyObject* PyObject_CallNoArgs(PyObject* callable)
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET

    PyObject* pl_take_exception()
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1
    object PyContextVar_Set(object variable, object value)
    int PyException_SetTraceback(object exception, object traceback) except -1
    PyObject* pl_raise(PyObject* exception)      # always NULL, with the exception raised
    int PyIter_Send(PyObject* coro, PyObject* value, PyObject** result)
    int pl_throw(PyObject* coro, PyObject* exception, PyObject** result)
    void pl_stop_with(PyObject* loop, PyObject** place, PyObject* value)
    int pl_make_stop_type() except -1
    bint pl_stop_is_fresh(PyObject* stop)
    void pl_raise_stop(PyObject* stop, PyObject* value)
    void pl_empty_stop(PyObject* stop)
    const bint PL_STOPS_ARE_MADE
    int pl_stop_iteration(PyObject* value)       # as a tp_iternext that ends with a value
    ptrdiff_t pl_find_pair(PyObject* first, PyObject* second)
    PyObject** pl_in_thread_state(ptrdiff_t offset)
    void pl_set_awaitable(PyTypeObject* type, void* await_, void* next, void* send)
    uint64_t pl_next_number()
    unsigned int* pl_budget_used()
    object PyCFunction_New(PyMethodDef* method, object owner)
    const int METH_O, METH_NOARGS
    PyObject** tuple_items "pl_tuple_items"(PyObject* tuple)
    bint pl_only_reference(PyObject* o)
    object pl_give "(PyObject *)"(PyObject* o)      # the caller's reference, as an object
    void pl_new_reference "_Py_NewReference"(PyObject* o)
    bint PyCallable_Check(PyObject* o)
    bint PyFloat_CheckExact(PyObject* o)
    bint PyLong_CheckExact(PyObject* o)
    const Py_ssize_t PY_SSIZE_T_MAX
    double PyFloat_AS_DOUBLE(PyObject* o)
    double PyLong_AsDouble(PyObject* o) except? -1
    double PyFloat_AsDouble(PyObject* o) except? -1
    bint pl_is_plain(PyObject* o, PyTypeObject* type)
    bint pl_is_being_collected(PyObject* o)
    void pl_set_references(PyObject* o, Py_ssize_t count)
    void pl_set_dict_offset(PyTypeObject* type, Py_ssize_t offset)
    const bint PL_WANTS_DICTS
    object PyObject_GenericGetDict(object o, void* unused)
    void PyObject_GC_Track(PyObject* o)
    int PyObject_CallFinalizerFromDealloc(PyObject* o)
    void PyObject_GC_UnTrack(PyObject* o)
    object pl_make(PyTypeObject* type, PyObject* args, PyObject* kwargs)
    void pl_keep_memory(PyTypeObject* type)
    Py_ssize_t PyNumber_AsSsize_t(object number, PyObject* overflow) except? -1
    const int PYGEN_RETURN, PYGEN_ERROR, PYGEN_NEXT
    PyTypeObject* pl_type "Py_TYPE"(PyObject* o)

    ctypedef struct PyMethodDef:
        const char* ml_name
        void* ml_meth
        int ml_flags
        const char* ml_doc
    object PyDescr_NewMethod(PyTypeObject* type, PyMethodDef* method)
    void pl_forbid_new(PyTypeObject* type)
    void PyType_Modified(PyTypeObject* type)
    const int METH_FASTCALL, METH_KEYWORDS
    PyObject* pl_type_dict(PyTypeObject* type)   # borrowed

    void pl_bytes_refill(PyObject* bytes, const char* data, Py_ssize_t size)
    PyObject* PyBytes_AllocRaw "PyBytes_FromStringAndSize"(const char* value, Py_ssize_t size)
    object PyBytes_FromObject(object data)
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t size)
    const char* PyUnicode_AsUTF8AndSize(PyObject* text, Py_ssize_t* size)
    unsigned long PyThread_get_thread_ident()
    unsigned long pl_this_thread()               # the same, for where it is asked at each operation
