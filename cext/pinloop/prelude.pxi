# Everything the floors import, in one place.

import asyncio
import collections
import contextvars
import functools
import inspect
import operator
import os
import reprlib
import socket as _socket
import stat
import sys
import traceback
import types
import warnings
import weakref
from asyncio import base_futures, base_tasks, format_helpers, futures
from asyncio.log import logger
from asyncio.trsock import TransportSocket

from pinloop.errors import WouldBlock

try:
    import ssl as py_ssl
except ImportError:       # a Python built without OpenSSL
    py_ssl = None

cimport cython
from cpython.buffer cimport (
    PyBUF_READ, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBUF_WRITE, PyBuffer_Release, PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.mem cimport (
    PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc,
)
from cpython.object cimport PyObject, PyTypeObject, destructor, inquiry, traverseproc
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_Compare, PyUnicode_GET_LENGTH, PyUnicode_READ_CHAR
from libc.errno cimport errno
from libc.math cimport ceil, isnan
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport INT64_MAX, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strlen
from posix.time cimport timespec
from posix.unistd cimport getpid

from pinloop.bytespool cimport pool_free, pool_take
from pinloop.c_epoll cimport *
from pinloop.c_kqueue cimport *
from pinloop.c_libssl cimport *
from pinloop.c_posix cimport *
from pinloop.c_python cimport *
from pinloop.heap cimport Timer, heap_rebuild
from pinloop.inbox cimport (
    Inbox, InboxNode, inbox_fall_asleep, inbox_push, inbox_take, inbox_waiting, inbox_wake, inbox_wake_up,
)
from pinloop.ring cimport (
    Ring, ring_clear, ring_count, ring_free, ring_init, ring_make_room, ring_pop, ring_push,
    ring_push_front, ring_put, ring_shrink,
)
from pinloop.timers cimport (
    timers_count, timers_first, timers_free, timers_pop, timers_push, timers_take_last,
)
