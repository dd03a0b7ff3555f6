"""Making transports of pipes."""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import _core
from ._network import make_protocol, until_made

if TYPE_CHECKING:
    from ._endpoints import Endpoints, ProtocolFactory

Transport = TypeVar("Transport", bound=asyncio.BaseTransport)


async def connect_read_pipe(
    loop: Endpoints, protocol_factory: ProtocolFactory, pipe: Any
) -> tuple[asyncio.ReadTransport, Any]:
    """See Loop.connect_read_pipe."""
    return await _connect(loop, protocol_factory, pipe, _core.read_pipe_transport, "Read")


async def connect_write_pipe(
    loop: Endpoints, protocol_factory: ProtocolFactory, pipe: Any
) -> tuple[asyncio.WriteTransport, Any]:
    """See Loop.connect_write_pipe."""
    return await _connect(loop, protocol_factory, pipe, _core.write_pipe_transport, "Write")


async def _connect(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    pipe: Any,
    make: Callable[..., Transport],
    direction: str,
) -> tuple[Transport, Any]:
    protocol = make_protocol(protocol_factory)
    waiter = loop.create_future()
    transport = make(loop, pipe, protocol, waiter)
    await until_made(transport, waiter)
    if loop.get_debug():
        logger.debug("%s pipe %r connected: (%r, %r)", direction, pipe, transport, protocol)
    return transport, protocol
