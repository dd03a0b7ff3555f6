"""A number is given back once: what is closed twice, or used once more, hits whoever has it by then.

After each close the numbers that became free are taken by pipes, and at the end these must be as they were.
"""

import asyncio
import contextlib
import gc
import os
import socket
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.support import turns
from tests.tls import client_context, server_context

Loop = asyncio.AbstractEventLoop
HOST = "127.0.0.1"


class Squatters:
    """Pipes that sit on every number that is free."""

    def __init__(self) -> None:
        self._found: dict[int, int] = {}

    def move_in(self) -> None:
        """Take the free numbers up to the highest in use, and a few above."""
        for _ in range(8):
            for fd in os.pipe():
                os.set_blocking(fd, False)
                self._found[fd] = os.fstat(fd).st_ino

    def check(self) -> None:
        """Nobody closed, replaced, read or wrote any of them."""
        for fd, inode in self._found.items():
            try:
                now: int | str = os.fstat(fd).st_ino
            except OSError as exc:
                now = str(exc)
            assert now == inode, f"somebody else's fd {fd} was closed"
        for fd in self._found:
            with contextlib.suppress(OSError), pytest.raises(BlockingIOError):
                os.read(fd, 1)  # EBADF on the writing end

    def leave(self) -> None:
        for fd in self._found:
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def squatters() -> Iterator[Squatters]:
    squatters = Squatters()
    yield squatters
    squatters.check()
    squatters.leave()


def test_the_squatters_notice_what_happens_to_them() -> None:
    squatters = Squatters()
    squatters.move_in()
    squatters.check()
    victim = max(squatters._found)
    os.close(victim)
    with pytest.raises(AssertionError, match=f"fd {victim} was closed"):
        squatters.check()
    squatters.leave()


# ------------------------------------------------------------------ kinds of transports --


async def stream(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    near, far = socket.socketpair()
    near.setblocking(False)
    stack.callback(far.close)
    loop = asyncio.get_running_loop()
    return (await loop.connect_accepted_socket(asyncio.Protocol, near))[0], far


async def tcp(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    with socket.create_server((HOST, 0)) as listener:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        far, _ = listener.accept()
    stack.callback(far.close)
    return transport, far


async def tls(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, HOST, 0, ssl=server_context())
    stack.callback(server.close)
    address = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(asyncio.Protocol, *address, ssl=client_context())
    return transport, None


async def datagram(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    loop = asyncio.get_running_loop()
    return (await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (HOST, 0)))[0], None


async def read_pipe(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    read, write = os.pipe()
    far = stack.enter_context(os.fdopen(write, "wb", 0))
    loop = asyncio.get_running_loop()
    return (await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(read, "rb", 0)))[0], far


async def write_pipe(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    read, write = os.pipe()
    far = stack.enter_context(os.fdopen(read, "rb", 0))
    loop = asyncio.get_running_loop()
    return (await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(write, "wb", 0)))[0], far


async def process(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    loop = asyncio.get_running_loop()
    return (await loop.subprocess_exec(asyncio.SubprocessProtocol, "cat"))[0], None


KINDS = [stream, tcp, tls, datagram, read_pipe, write_pipe, process]


def reset(far: Any) -> None:
    """Close the peer, abruptly where that can be."""
    with contextlib.suppress(OSError, AttributeError):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()


def write_some(transport: Any) -> None:
    with contextlib.suppress(AttributeError, NotImplementedError):
        transport.write(bytes(100_000))


ENDS: dict[str, Callable[[Any, Any], Any]] = {
    "close": lambda transport, far: transport.close(),
    "abort": lambda transport, far: getattr(transport, "abort", transport.close)(),
    "write and close": lambda transport, far: (write_some(transport), transport.close()),
    "close and abort": lambda transport, far: (
        transport.close(),
        getattr(transport, "abort", transport.close)(),
    ),
    "the peer": lambda transport, far: reset(far) if far is not None else transport.close(),
}

AFTERWARDS = ["close", "abort", "pause_reading", "resume_reading", "write", "write_eof", "kill"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_transport_gives_its_number_back_once(
    loop_factory: Callable[[], Loop], squatters: Squatters, kind: Any, end: str
) -> None:
    loop = loop_factory()
    loop.set_exception_handler(lambda _, context: None)

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            transport, far = await kind(stack)
            ENDS[end](transport, far)
            squatters.move_in()
            for _ in range(4):
                await asyncio.sleep(0.002)  # closing goes through the kernel, and processes end
                squatters.move_in()
            for name in AFTERWARDS:
                with contextlib.suppress(AttributeError, RuntimeError, OSError, NotImplementedError):
                    method = getattr(transport, name)
                    method(b"x") if name == "write" else method()
            await turns(3)
            squatters.check()
            del transport
            gc.collect()
            squatters.move_in()
        await asyncio.sleep(0.01)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a child that was not waited for
        loop.run_until_complete(main())
        squatters.move_in()
        loop.close()
        squatters.move_in()
        gc.collect()
    squatters.check()


def test_a_listener_gives_its_number_back_once(
    loop_factory: Callable[[], Loop], squatters: Squatters
) -> None:
    loop = loop_factory()

    async def main() -> None:
        server = await loop.create_server(asyncio.Protocol, HOST, 0)
        with tempfile.TemporaryDirectory() as folder:
            unix = await loop.create_unix_server(asyncio.Protocol, f"{folder}/socket")
            for each in (server, unix):
                each.close()
                squatters.move_in()
                each.close()
                await turns(2)
                squatters.check()

    loop.run_until_complete(main())
    loop.close()
    squatters.move_in()
    loop.close()


def test_closing_a_loop_twice_gives_its_own_numbers_back_once(
    loop_factory: Callable[[], Loop], squatters: Squatters
) -> None:
    for _ in range(3):
        loop = loop_factory()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        squatters.move_in()
        loop.close()
        del loop
        gc.collect()
        squatters.check()


def test_a_cancelled_socket_call_leaves_the_number_to_its_next_owner(
    loop_factory: Callable[[], Loop], squatters: Squatters
) -> None:
    loop = loop_factory()

    async def main() -> None:
        for call in ("sock_recv", "sock_accept"):
            near, far = (
                socket.socketpair() if call == "sock_recv" else (socket.create_server((HOST, 0)), None)
            )
            near.setblocking(False)
            task = asyncio.ensure_future(getattr(loop, call)(near, *([1] if far else [])))
            await turns(2)
            number = near.fileno()
            task.cancel()
            near.close()
            squatters.move_in()
            with pytest.raises(asyncio.CancelledError):
                await task
            if far is not None:
                far.close()
            await turns(3)
            squatters.check()
            assert not loop.remove_reader(number)
        await turns(2)

    loop.run_until_complete(main())
    loop.close()


def test_a_number_that_came_back_belongs_to_its_new_transport(loop: Loop) -> None:
    async def main() -> None:
        for _ in range(200):
            near, far = socket.socketpair()
            near.setblocking(False)
            reader: asyncio.StreamReader = asyncio.StreamReader()
            transport, _ = await loop.connect_accepted_socket(
                lambda reader=reader: asyncio.StreamReaderProtocol(reader), near
            )
            far.sendall(b"hello")
            assert await reader.readexactly(5) == b"hello"
            transport.abort()
            far.close()
            await turns(1)  # the next one is made while this one's end is told

    loop.run_until_complete(main())
