"""What the tests of datagram transports share."""

import asyncio
import sys
from typing import Any

LOCAL = ("127.0.0.1", 0)
HEADER = 8 if sys.version_info >= (3, 13) else 0  # what a queued datagram counts beside its bytes


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Any]] = []
        self.errors: list[OSError] = []
        self.told: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.told.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        assert isinstance(exc, OSError)
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.told.append("lost")

    @property
    def data(self) -> list[bytes]:
        return [data for data, _ in self.got]


class Maker:
    """Makes endpoints."""

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: list[Any]) -> None:
        self.loop, self.opened = loop, opened

    def __call__(self, local: Any = None, protocol: Any = None, **options: Any) -> tuple[Any, Any]:
        making = self.loop.create_datagram_endpoint(lambda: protocol or Datagrams(), local, **options)
        transport, made = self.loop.run_until_complete(making)
        self.opened.append(transport)
        return transport, made


def name_of(transport: Any) -> Any:
    return transport.get_extra_info("sockname")


def numbered(count: int, size: int = 6) -> list[bytes]:
    return [b"%0*d" % (size, i) for i in range(count)]
