# The parts of CPython's C API that Cython's own cpython.* packages lack.
from cpython.object cimport PyObject, PyTypeObject

cdef extern from "compat.h":
    object PyContext_CopyCurrent()
    object PyContext_Copy(object context)
    int PyContext_Enter(PyObject* context)
    int PyContext_Exit(PyObject* context)
    bint PyContext_CheckExact(object o)

    # Raw results: NULL means raised, and the caller looks.
    PyObject* PyObject_Vectorcall(PyObject* callable, PyObject** args, size_t nargsf, PyObject* kwnames)
    int PyObject_IsTrue(PyObject* o)
    PyObject* PyObject_GetAttr(PyObject* o, PyObject* name)
    PyObject* PyObject_CallNoArgs(PyObject* callable)
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET

    PyObject* pl_take_exception()
    PyObject** tuple_items "pl_tuple_items"(PyObject* tuple)
    bint pl_only_reference(PyObject* o)
    object pl_make(PyTypeObject* type, PyObject* args, PyObject* kwargs)
    void pl_set_am_send(PyTypeObject* type, void* function)
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

    PyObject* PyBytes_AllocRaw "PyBytes_FromStringAndSize"(const char* value, Py_ssize_t size)
    object PyBytes_FromObject(object data)
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t size)
    const char* PyUnicode_AsUTF8AndSize(PyObject* text, Py_ssize_t* size)
    unsigned long PyThread_get_thread_ident()
