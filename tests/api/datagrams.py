"""What the tests of datagram endpoints share."""

import asyncio
from collections.abc import Callable
from typing import Any

FAMILIES = ["127.0.0.1", "::1"]

Datagram = tuple[bytes, Any]


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what it is told; `next` awaits a datagram, `error` an error."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.told: list[str] = []
        self.got: asyncio.Queue[Datagram] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.got.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost.set_result(exc)

    async def next(self) -> Datagram:
        return await self.got.get()

    async def next_data(self) -> bytes:
        return (await self.got.get())[0]

    async def error(self) -> Exception:
        return await self.errors.get()


class Echo(Datagrams):
    """Sends each datagram back."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def endpoint(
    factory: Callable[[], Datagrams] = Datagrams, local: Any = None, remote: Any = None, **options: Any
) -> tuple[asyncio.DatagramTransport, Datagrams]:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(factory, local, remote, **options)


async def end(*transports: asyncio.DatagramTransport) -> None:
    for transport in transports:
        protocol: Any = transport.get_protocol()
        transport.abort()
        if protocol is not None:
            await protocol.lost


def name_of(transport: asyncio.DatagramTransport) -> Any:
    return transport.get_extra_info("sockname")


def address_of(transport: asyncio.DatagramTransport) -> Any:
    """What remote_addr takes."""
    return name_of(transport)[:2]
