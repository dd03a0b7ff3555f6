# OpenSSL by way of the interpreter's ssl module: see libssl.h.
from cpython.object cimport PyObject

cdef extern from "libssl.h" nogil:
    struct pl_wire:
        const char* in_ "in"
        size_t in_size
        char* out
        size_t out_size
        size_t out_room
        int out_is_lent
        int out_of_memory

    ctypedef void pl_ssl
    ctypedef void pl_bio
    const int PL_SSL_ERROR_SSL, PL_SSL_ERROR_WANT_READ, PL_SSL_ERROR_ZERO_RETURN

    struct pl_libssl:
        int (*SSL_read_ex)(pl_ssl* ssl, void* target, size_t room, size_t* done)
        int (*SSL_write_ex)(pl_ssl* ssl, const void* data, size_t size, size_t* done)
        int (*SSL_get_error)(const pl_ssl* ssl, int result)
        int (*SSL_pending)(const pl_ssl* ssl)
        void (*BIO_set_data)(pl_bio* bio, void* data)
        void (*ERR_clear_error)()
        unsigned long (*ERR_peek_last_error)()
        const char* (*ERR_reason_error_string)(unsigned long error)
        const char* (*ERR_lib_error_string)(unsigned long error)

    pl_libssl pl_openssl
    bint pl_libssl_load(const char* extension)
    pl_ssl* pl_ssl_of(PyObject* ssl_socket, PyObject* context)
    pl_bio* pl_wire_attach(pl_wire* wire, pl_ssl* ssl)
    void pl_wire_drop_output(pl_wire* wire)
