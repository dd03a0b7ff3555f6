"""TLS: what the `ssl` options of the loop's methods mean, and `start_tls`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    import ssl

    from ._endpoints import Endpoints

HANDSHAKE_TIMEOUT = 60.0  # seconds, as asyncio
SHUTDOWN_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """What a connection needs to know of TLS.  Timeouts in seconds."""

    context: ssl.SSLContext
    handshake_timeout: float = HANDSHAKE_TIMEOUT
    shutdown_timeout: float = SHUTDOWN_TIMEOUT


def tls_config(
    context: Any, handshake_timeout: float | None, shutdown_timeout: float | None
) -> TlsConfig | None:
    """The configuration for the `ssl` options of a method, or None for none.

    `context` is an ssl.SSLContext, or False or None.  Raises TypeError for anything else, and
    ValueError for a timeout without it or one that is not positive.
    """
    timeouts = (
        ("ssl_handshake_timeout", handshake_timeout),
        ("ssl_shutdown_timeout", shutdown_timeout),
    )
    for name, seconds in timeouts:
        if seconds is None:
            continue
        if not context:
            raise ValueError(f"{name} is only meaningful with ssl")
        if not seconds > 0:
            raise ValueError(f"{name} should be a positive number, got {seconds}")
    if not context:
        return None
    check_context(context)
    return TlsConfig(
        context,
        HANDSHAKE_TIMEOUT if handshake_timeout is None else handshake_timeout,
        SHUTDOWN_TIMEOUT if shutdown_timeout is None else shutdown_timeout,
    )


def server_config(
    context: Any, handshake_timeout: float | None, shutdown_timeout: float | None
) -> TlsConfig | None:
    """As `tls_config`, for a server, which needs a context with a certificate."""
    if isinstance(context, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    return tls_config(context, handshake_timeout, shutdown_timeout)


def client_config(
    context: Any,
    host: str | None,
    server_hostname: str | None,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> tuple[TlsConfig | None, str | None]:
    """The configuration and the server's name for a client; `ssl=True` means Python's default context.

    The name to be checked is `server_hostname`, or `host` where that is None; "" checks none.
    """
    if server_hostname is not None and not context:
        raise ValueError("server_hostname is only meaningful with ssl")
    if context and server_hostname is None:
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host
    if context is True:
        context = default_context(check_hostname=bool(server_hostname))
    return tls_config(context, handshake_timeout, shutdown_timeout), server_hostname


def default_context(*, check_hostname: bool) -> ssl.SSLContext:
    """Python's default client context."""
    import ssl

    context = ssl.create_default_context()
    if not check_hostname:
        context.check_hostname = False  # only ever off: on would demand a certificate as well
    return context


def check_context(context: object) -> None:
    """Raise TypeError unless `context` is an ssl.SSLContext."""
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {context!r}")


async def start_tls(
    loop: Endpoints,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: Any,
    *,
    server_side: bool,
    server_hostname: str | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
) -> asyncio.Transport:
    """See Loop.start_tls."""
    check_context(sslcontext)
    config = tls_config(sslcontext, ssl_handshake_timeout, ssl_shutdown_timeout)
    assert config is not None
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    shaken = loop.create_future()
    early = _read_ahead_of(protocol) if server_side else b""
    upper: asyncio.Transport
    upper, records = _core.tls_transport(
        loop, protocol, config, server_hostname, server_side, shaken, announces=False, early=early
    )
    upper._take_over(transport)  # type: ignore[attr-defined]
    # Nothing may arrive before the handshake has begun.
    transport.pause_reading()
    transport.set_protocol(records)
    begin = loop.call_soon(records.connection_made, transport)
    resume = loop.call_soon(transport.resume_reading)
    try:
        await shaken
    except BaseException:
        begin.cancel()
        resume.cancel()
        transport.close()
        raise
    finally:
        del shaken  # it may hold an exception, whose traceback holds this frame
    return upper


def _read_ahead_of(protocol: Any) -> bytes:
    """The client's first TLS bytes, where they came in one piece with the line before them.

    A StreamReader has them in its buffer then, and TLS would miss them.
    """
    reader = (
        getattr(protocol, "_stream_reader", None)
        if isinstance(protocol, asyncio.StreamReaderProtocol)
        else None
    )
    if reader is None or not reader._buffer:
        return b""
    early = bytes(reader._buffer)
    reader._buffer.clear()
    return early
