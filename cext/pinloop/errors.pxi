# errno -> exception, the only place.

cdef object os_error(int error, str doing):
    """The OSError subclass for `error`; `doing` says what failed: "accept on fd 7"."""
    return OSError(error, f"{os.strerror(error)}: {doing}")


cdef object plain_os_error(int error):
    """The same as the socket module words it."""
    return OSError(error, os.strerror(error))


cdef int raise_os_error(int error, str doing) except -1:
    raise os_error(error, doing)


cdef inline bint would_block(int error) noexcept nogil:
    return error == EAGAIN or error == EWOULDBLOCK or error == EINTR


cdef inline bint out_of_resources(int error) noexcept nogil:
    return error == EMFILE or error == ENFILE or error == ENOBUFS or error == ENOMEM


cdef inline bint is_exit(object exception):
    """Exceptions that leave the loop instead of being reported by it."""
    return isinstance(exception, (KeyboardInterrupt, SystemExit))
