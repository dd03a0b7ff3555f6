/* What the work itself costs, without a loop around it: three functions for `performance.py`.
 *
 *     push(callback), run()     a ring of callables: what call_soon comes to without a handle and without contexts
 *     switch_among(coroutines)  each is sent None in turn until all have ended: what a switch comes to without a task
 *     echo(count)               epoll, recv, send between the ends of a socket pair: an echo without an interpreter
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1024, MESSAGE = 1024, CHUNK = 256 * 1024 };

static PyObject *ring[ROOM];
static unsigned head, tail;

static PyObject *push(PyObject *module, PyObject *callback) {
    if (tail - head == ROOM) return PyErr_Format(PyExc_OverflowError, "the ring holds %d", ROOM);
    ring[tail++ % ROOM] = Py_NewRef(callback);
    Py_RETURN_NONE;
}

static PyObject *run(PyObject *module, PyObject *nothing) {
    while (head != tail) {
        PyObject *callback = ring[head++ % ROOM], *result = PyObject_CallNoArgs(callback);
        Py_DECREF(callback);
        if (!result) return NULL;
        Py_DECREF(result);
    }
    Py_RETURN_NONE;
}

/* Step each of the coroutines once; return how many are left, which are moved together; -1 for an exception. */
static Py_ssize_t step_all(PyObject **coroutines, Py_ssize_t count) {
    Py_ssize_t left = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *result = NULL;
        PySendResult sent = PyIter_Send(coroutines[i], Py_None, &result);
        if (sent == PYGEN_ERROR) return -1;
        Py_DECREF(result);
        if (sent == PYGEN_NEXT) coroutines[left++] = coroutines[i];
    }
    return left;
}

static PyObject *switch_among(PyObject *module, PyObject *list) {
    if (!PyList_CheckExact(list)) return PyErr_Format(PyExc_TypeError, "a list of coroutines");
    Py_ssize_t left = PyList_GET_SIZE(list);
    PyObject **coroutines = PyMem_Calloc((size_t)left + 1, sizeof *coroutines);
    if (!coroutines) return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < left; i++) coroutines[i] = PyList_GET_ITEM(list, i);
    while (left > 0) left = step_all(coroutines, left);
    PyMem_Free(coroutines);
    if (left < 0) return NULL;
    Py_RETURN_NONE;
}

static char chunk[CHUNK];

static long echo_all(int queue, long count) {
    struct epoll_event events[2];
    while (count > 0) {
        int found = epoll_wait(queue, events, 2, -1);
        for (int i = 0; i < found; i++) {
            ssize_t got = recv(events[i].data.fd, chunk, CHUNK, 0);
            if (got <= 0 || send(events[i].data.fd, chunk, (size_t)got, 0) != got) return -1;
            count--;
        }
        if (found < 0 && errno != EINTR) return -1;
    }
    return 0;
}

static PyObject *echo(PyObject *module, PyObject *number) {
    long count = PyLong_AsLong(number), failed = 1;
    int ends[2], queue;
    if (count == -1 && PyErr_Occurred()) return NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    queue = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = ends[i]};
        epoll_ctl(queue, EPOLL_CTL_ADD, ends[i], &event);
    }
    if (send(ends[0], chunk, MESSAGE, 0) == MESSAGE) failed = echo_all(queue, count);
    if (failed) PyErr_SetFromErrno(PyExc_OSError);
    close(queue);
    close(ends[0]);
    close(ends[1]);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"push", push, METH_O, NULL},
    {"run", run, METH_NOARGS, NULL},
    {"switch_among", switch_among, METH_O, NULL},
    {"echo", echo, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "floors", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_floors(void) { return PyModule_Create(&definition); }
