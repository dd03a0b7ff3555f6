"""Servers that speak TLS: an echo, and one that greets and is left."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from .echo import EchoProtocol
from .sockets import BACKLOG

TEST_CERTIFICATE = Path(__file__).with_name("public-test-key.pem")
"""A self-signed certificate with its key (ECDSA, P-256). Everybody has the key, so it protects nothing."""

GREETING = b"hello"


def context() -> ssl.SSLContext:
    """The context of a server that speaks TLS 1.3, otherwise as Python makes it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(TEST_CERTIFICATE)
    return made


class GreetProtocol(asyncio.Protocol):
    """Says one word as soon as the handshake is done, so that the client knows that it is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        transport.write(GREETING)  # type: ignore[attr-defined]


async def echo(listener: socket.socket) -> object:
    """Echo by `asyncio.Protocol` over TLS."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(EchoProtocol, sock=listener, backlog=BACKLOG, ssl=context())


async def greet(listener: socket.socket) -> object:
    """Greet each client; who has been greeted leaves."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(GreetProtocol, sock=listener, backlog=BACKLOG, ssl=context())
