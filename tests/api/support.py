"""What several of these tests need: recording protocols, addresses that misbehave, programs run apart."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ON_PINLOOP = os.environ.get("PINLOOP_TEST_LOOP") != "asyncio"

only_pinloop = pytest.mark.skipif(not ON_PINLOOP, reason="tests what pinloop does and asyncio does not")


def unlike_asyncio(reason: str) -> pytest.MarkDecorator:
    """Marks a test that asyncio fails, for a reason that completes the sentence "asyncio ..."."""
    return pytest.mark.skipif(not ON_PINLOOP, reason=f"asyncio {reason}")


Address = tuple[Any, ...]


class Recorder(asyncio.Protocol):
    """Notes what it is told; `made`, `lost` and `eof` can be awaited."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.made: asyncio.Future[asyncio.Transport] = loop.create_future()
        self.eof: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.data = bytearray()
        self._wanted: list[tuple[int, asyncio.Future[None]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.made.set_result(transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        for size, future in self._wanted:
            if len(self.data) >= size and not future.done():
                future.set_result(None)

    def eof_received(self) -> bool | None:
        self.eof.set_result(None)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def receive(self, size: int) -> bytes:
        """Wait until `size` bytes have come in all, and return them."""
        future = asyncio.get_running_loop().create_future()
        self._wanted.append((size, future))
        self.data_received(b"")
        await future
        return bytes(self.data)


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.made.result().write(data)


class Made(list[Any]):
    """A protocol factory that keeps the protocols it made; `next` awaits the next one that is made."""

    def __init__(self, factory: Callable[[], Any] = Recorder) -> None:
        super().__init__()
        self._factory = factory
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def __call__(self) -> Any:
        protocol = self._factory()
        self.append(protocol)
        self._queue.put_nowait(protocol)
        return protocol

    async def next(self) -> Any:
        return await self._queue.get()


def address_of(server: asyncio.Server) -> Address:
    """(host, port) of a server's first socket."""
    address: Address = server.sockets[0].getsockname()[:2]
    return address


def info(address: Address, family: socket.AddressFamily = socket.AF_INET) -> tuple[Any, ...]:
    """An entry of getaddrinfo's result."""
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)


def answer_lookups_with(loop: asyncio.AbstractEventLoop, *addresses: Address) -> None:
    """Let every name resolve to these addresses."""
    found = [info(each, socket.AF_INET6 if ":" in each[0] else socket.AF_INET) for each in addresses]

    async def getaddrinfo(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return list(found)

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]


def refusing_address(host: str = "127.0.0.1") -> Address:
    """An address nobody listens on: its port was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        address: Address = sock.getsockname()
        return address


@contextlib.contextmanager
def silent_address(host: str = "127.0.0.1") -> Iterator[Address]:
    """An address that neither takes nor refuses a connection: a listener whose queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two blocking sockets connected by TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        return client, accepted


async def answer() -> int:
    """42, in the next turn."""
    await asyncio.sleep(0)
    return 42


async def fail(exception: BaseException) -> None:
    """Raise it, in the next turn."""
    await asyncio.sleep(0)
    raise exception


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def turns(count: int) -> None:
    """Let the loop turn this often."""
    for _ in range(count):
        await asyncio.sleep(0)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes."""
    return {**os.environ, **changes}


def python(*args: str, cwd: Any = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run this Python, every warning an error."""
    command = [sys.executable, "-W", "error", *args]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=cwd,
        input=stdin,
        env=environment(),
    )


def children() -> set[int]:
    """The child processes of this one, those that were not waited for included."""
    if not os.path.isdir("/proc/self"):
        listed = subprocess.run(
            ["ps", "-o", "pid=,ppid=,comm=", "-A"], capture_output=True, text=True, check=True
        )
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        return {int(row[0]) for row in rows if int(row[1]) == os.getpid() and "ps" not in row[2]}
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:  # gone meanwhile
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.add(int(name))
    return found
