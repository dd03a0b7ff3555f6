"""What asyncio's loops have and this one does not have yet."""

from __future__ import annotations

from typing import Any


def _not_yet(name: str) -> Any:
    async def method(self: object, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"pinloop's loop has no {name}() yet")

    method.__name__ = name
    method.__qualname__ = f"Loop.{name}"
    method.__doc__ = "Not there yet: raises NotImplementedError."
    return method


class Missing:
    """Each method raises NotImplementedError and names itself."""

    connect_read_pipe = _not_yet("connect_read_pipe")
    connect_write_pipe = _not_yet("connect_write_pipe")
    create_datagram_endpoint = _not_yet("create_datagram_endpoint")
    create_unix_connection = _not_yet("create_unix_connection")
    create_unix_server = _not_yet("create_unix_server")
    sendfile = _not_yet("sendfile")
    sock_accept = _not_yet("sock_accept")
    sock_recv = _not_yet("sock_recv")
    sock_recv_into = _not_yet("sock_recv_into")
    sock_recvfrom = _not_yet("sock_recvfrom")
    sock_recvfrom_into = _not_yet("sock_recvfrom_into")
    sock_sendall = _not_yet("sock_sendall")
    sock_sendfile = _not_yet("sock_sendfile")
    sock_sendto = _not_yet("sock_sendto")
    start_tls = _not_yet("start_tls")
    subprocess_exec = _not_yet("subprocess_exec")
    subprocess_shell = _not_yet("subprocess_shell")
