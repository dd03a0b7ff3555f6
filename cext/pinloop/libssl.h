/* OpenSSL, as the interpreter's own ssl module has loaded it.
 *
 * Nothing is linked: the functions are looked up in the library that _ssl uses, so that
 * both work on the same SSL objects and the wheel needs no OpenSSL of its own. Where the
 * library or one of the functions cannot be found (a Python that hides or lacks them),
 * pl_libssl_load says so, and TLS goes through ssl.MemoryBIO instead.
 *
 * All of it works without the GIL: OpenSSL calls the BIO below from within functions for
 * which the ssl module releases it.
 */
#ifndef PINLOOP_LIBSSL_H
#define PINLOOP_LIBSSL_H

#include <Python.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* What one connection's BIO reads from and writes to. */
struct pl_wire {
    const char *in;      /* ciphertext that was received and not yet taken */
    size_t in_size;
    char *out;           /* ciphertext to be sent */
    size_t out_size;
    size_t out_room;
    int out_is_lent;     /* `out` is somebody's scratch buffer, else it is malloc's */
    int out_of_memory;
};

typedef void pl_ssl;     /* SSL, BIO, BIO_METHOD: opaque to us */
typedef void pl_bio;

enum { PL_SSL_ERROR_SSL = 1, PL_SSL_ERROR_WANT_READ = 2, PL_SSL_ERROR_ZERO_RETURN = 6 };

struct pl_libssl {
    int loaded;          /* 0: not tried yet, 1: there, -1: not to be had */
    void *method;        /* the BIO_METHOD of pl_wire */
    int (*SSL_read_ex)(pl_ssl *, void *, size_t, size_t *);
    int (*SSL_write_ex)(pl_ssl *, const void *, size_t, size_t *);
    int (*SSL_get_error)(const pl_ssl *, int);
    int (*SSL_pending)(const pl_ssl *);
    void (*SSL_set_bio)(pl_ssl *, pl_bio *, pl_bio *);
    pl_bio *(*BIO_new)(const void *);
    void (*BIO_set_data)(pl_bio *, void *);
    void *(*BIO_get_data)(pl_bio *);
    void (*BIO_set_init)(pl_bio *, int);
    void (*BIO_set_flags)(pl_bio *, int);
    void (*BIO_clear_flags)(pl_bio *, int);
    int (*BIO_get_new_index)(void);
    void *(*BIO_meth_new)(int, const char *);
    int (*BIO_meth_set_read)(void *, int (*)(pl_bio *, char *, int));
    int (*BIO_meth_set_write)(void *, int (*)(pl_bio *, const char *, int));
    int (*BIO_meth_set_ctrl)(void *, long (*)(pl_bio *, int, long, void *));
    int (*BIO_meth_set_create)(void *, int (*)(pl_bio *));
    void (*ERR_clear_error)(void);
    unsigned long (*ERR_peek_last_error)(void);
    const char *(*ERR_reason_error_string)(unsigned long);
    const char *(*ERR_lib_error_string)(unsigned long);
};

/* Functions of the process, looked up once; no state. */
static struct pl_libssl pl_openssl;

enum { PL_BIO_READ = 0x01, PL_BIO_RETRY = 0x08, PL_BIO_ALL_FLAGS = 0x0f,
       PL_BIO_SOURCE_SINK = 0x0400, PL_BIO_CTRL_EOF = 2, PL_BIO_CTRL_PENDING = 10, PL_BIO_CTRL_FLUSH = 11,
       PL_BIO_CTRL_DUP = 12, PL_BIO_CTRL_WPENDING = 13 };

static int pl_bio_create(pl_bio *bio) { pl_openssl.BIO_set_init(bio, 1); return 1; }

static int pl_bio_read(pl_bio *bio, char *target, int size) {
    struct pl_wire *wire = (struct pl_wire *)pl_openssl.BIO_get_data(bio);
    pl_openssl.BIO_clear_flags(bio, PL_BIO_ALL_FLAGS);
    if (wire == NULL || size <= 0) return 0;         /* the transport is gone */
    if (wire->in_size == 0) {
        pl_openssl.BIO_set_flags(bio, PL_BIO_READ | PL_BIO_RETRY);
        return -1;
    }
    if ((size_t)size > wire->in_size) size = (int)wire->in_size;
    memcpy(target, wire->in, (size_t)size);
    wire->in += size;
    wire->in_size -= (size_t)size;
    return size;
}

/* Make room for `size` more bytes of output; what does not fit a lent buffer moves to one of our own. */
static int pl_wire_reserve(struct pl_wire *wire, size_t size) {
    size_t room = wire->out_room ? wire->out_room : 2048;
    char *wider;
    if (wire->out != NULL && wire->out_room - wire->out_size >= size) return 0;
    while (room - wire->out_size < size) room *= 2;
    wider = (char *)realloc(wire->out_is_lent ? NULL : wire->out, room);
    if (wider == NULL) { wire->out_of_memory = 1; return -1; }
    if (wire->out_is_lent && wire->out_size) memcpy(wider, wire->out, wire->out_size);
    wire->out = wider;
    wire->out_room = room;
    wire->out_is_lent = 0;
    return 0;
}

static int pl_bio_write(pl_bio *bio, const char *data, int size) {
    struct pl_wire *wire = (struct pl_wire *)pl_openssl.BIO_get_data(bio);
    pl_openssl.BIO_clear_flags(bio, PL_BIO_ALL_FLAGS);
    if (wire == NULL || size <= 0 || pl_wire_reserve(wire, (size_t)size) < 0) return -1;
    memcpy(wire->out + wire->out_size, data, (size_t)size);
    wire->out_size += (size_t)size;
    return size;
}

static long pl_bio_ctrl(pl_bio *bio, int command, long number, void *pointer) {
    struct pl_wire *wire = (struct pl_wire *)pl_openssl.BIO_get_data(bio);
    (void)number; (void)pointer;
    switch (command) {
    case PL_BIO_CTRL_FLUSH: case PL_BIO_CTRL_DUP: return 1;
    case PL_BIO_CTRL_EOF: return wire == NULL;
    case PL_BIO_CTRL_PENDING: return wire == NULL ? 0 : (long)wire->in_size;
    case PL_BIO_CTRL_WPENDING: return wire == NULL ? 0 : (long)wire->out_size;
    default: return 0;
    }
}

/* Give the output buffer up; the output is what was taken from it. */
static inline void pl_wire_drop_output(struct pl_wire *wire) {
    if (!wire->out_is_lent) free(wire->out);
    wire->out = NULL;
    wire->out_size = wire->out_room = 0;
    wire->out_is_lent = 0;
}

static int pl_libssl_find(struct pl_libssl *lib, void *handle) {
#define PL_FIND(name) if ((*(void **)&lib->name = dlsym(handle, #name)) == NULL) return -1
    PL_FIND(SSL_read_ex); PL_FIND(SSL_write_ex); PL_FIND(SSL_get_error); PL_FIND(SSL_pending);
    PL_FIND(SSL_set_bio); PL_FIND(BIO_new); PL_FIND(BIO_set_data); PL_FIND(BIO_get_data); PL_FIND(BIO_set_init);
    PL_FIND(BIO_set_flags); PL_FIND(BIO_clear_flags); PL_FIND(BIO_get_new_index); PL_FIND(BIO_meth_new);
    PL_FIND(BIO_meth_set_read); PL_FIND(BIO_meth_set_write); PL_FIND(BIO_meth_set_ctrl);
    PL_FIND(BIO_meth_set_create); PL_FIND(ERR_clear_error); PL_FIND(ERR_peek_last_error);
    PL_FIND(ERR_reason_error_string); PL_FIND(ERR_lib_error_string);
#undef PL_FIND
    return 0;
}

/* Whether OpenSSL's own functions can be called; `extension` is the file of the _ssl module, which is loaded. */
static int pl_libssl_load(const char *extension) {
    struct pl_libssl *lib = &pl_openssl;
    void *handle;
    if (lib->loaded) return lib->loaded > 0;
    lib->loaded = -1;
    /* Through the module that is linked with it: another OpenSSL may be in the process too. */
    handle = dlopen(extension, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL || pl_libssl_find(lib, handle) < 0) return 0;
    lib->method = lib->BIO_meth_new(lib->BIO_get_new_index() | PL_BIO_SOURCE_SINK, "pinloop");
    if (lib->method == NULL) return 0;
    lib->BIO_meth_set_read(lib->method, pl_bio_read);
    lib->BIO_meth_set_write(lib->method, pl_bio_write);
    lib->BIO_meth_set_ctrl(lib->method, pl_bio_ctrl);
    lib->BIO_meth_set_create(lib->method, pl_bio_create);
    lib->loaded = 1;
    return 1;
}

/* The SSL* within a _ssl._SSLSocket, or NULL where the object is not laid out as in CPython 3.11 to 3.15:
 * socket, SSL*, context, of which the last is known and so tells. */
static pl_ssl *pl_ssl_of(PyObject *ssl_socket, PyObject *context) {
    void **fields = (void **)((char *)ssl_socket + sizeof(PyObject));
    if (Py_TYPE(ssl_socket)->tp_basicsize < (Py_ssize_t)(sizeof(PyObject) + 3 * sizeof(void *))) return NULL;
    return fields[0] == NULL && fields[2] == (void *)context ? fields[1] : NULL;
}

/* Have `ssl` read from and write to `wire`; the BIO, which belongs to `ssl`, or NULL. */
static pl_bio *pl_wire_attach(struct pl_wire *wire, pl_ssl *ssl) {
    pl_bio *bio = pl_openssl.BIO_new(pl_openssl.method);
    if (bio == NULL) return NULL;
    pl_openssl.BIO_set_data(bio, wire);
    pl_openssl.SSL_set_bio(ssl, bio, bio);
    return bio;
}

#endif /* PINLOOP_LIBSSL_H */
