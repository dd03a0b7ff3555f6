"""Echo over UDP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends back each datagram to whom it came from."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._sendto: Callable[[bytes, Any], None] = transport.sendto  # type: ignore[attr-defined]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Send it back."""
        self._sendto(data, addr)


async def echo(endpoint: socket.socket) -> object:
    """Echo by `asyncio.DatagramProtocol`."""
    return await asyncio.get_running_loop().create_datagram_endpoint(EchoDatagrams, sock=endpoint)
