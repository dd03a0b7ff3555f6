"""The context variables of who asked are those that a callback sees, wherever it is called from."""

import asyncio
import contextvars
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP

Loop = asyncio.AbstractEventLoop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Notes(asyncio.Protocol, asyncio.DatagramProtocol, asyncio.SubprocessProtocol):  # type: ignore[misc]
    """Notes the variable's value in every callback."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.note("made by the factory")

    def note(self, name: str) -> None:
        self.seen[name] = variable.get()

    def connection_made(self, transport: Any) -> None:
        self.note("connection_made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.note("data_received")

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.note("datagram_received")
        self.transport.close()

    def eof_received(self) -> None:
        self.note("eof_received")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.note("pipe_data_received")

    def process_exited(self) -> None:
        self.note("process_exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("connection_lost")
        self.lost.set_result(None)


async def over_stream(loop: Loop) -> Notes:
    near, far = socket.socketpair()
    near.setblocking(False)
    _, notes = await loop.connect_accepted_socket(Notes, near)
    variable.set("later")
    far.sendall(b"x")
    far.shutdown(socket.SHUT_WR)
    await notes.lost
    far.close()
    return notes


async def over_datagrams(loop: Loop) -> Notes:
    transport, notes = await loop.create_datagram_endpoint(Notes, ("127.0.0.1", 0))
    variable.set("later")
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    await notes.lost
    return notes


async def over_pipe(loop: Loop) -> Notes:
    read, write = os.pipe()
    _, notes = await loop.connect_read_pipe(Notes, os.fdopen(read, "rb", 0))
    variable.set("later")
    os.write(write, b"x")
    os.close(write)
    await notes.lost
    return notes


async def over_process(loop: Loop) -> Notes:
    transport, notes = await loop.subprocess_exec(Notes, "echo", "x", stdin=None, stderr=None)
    variable.set("later")
    await notes.lost
    transport.close()
    return notes


EXPECTED = {
    over_stream: {"connection_made", "data_received", "eof_received", "connection_lost"},
    over_datagrams: {"connection_made", "datagram_received", "connection_lost"},
    over_pipe: {"connection_made", "data_received", "eof_received", "connection_lost"},
    over_process: {"connection_made", "pipe_data_received", "process_exited", "connection_lost"},
}


@pytest.mark.skipif(
    not ON_PINLOOP, reason="asyncio's connections have a context of their own from 3.15 on only"
)
@pytest.mark.parametrize("connect", EXPECTED, ids=lambda connect: connect.__name__)
def test_a_protocol_is_called_in_the_context_of_who_connected(run: Any, connect: Any) -> None:
    async def main() -> Notes:
        variable.set("mine")
        notes: Notes = await connect(asyncio.get_running_loop())
        assert variable.get() == "later"
        return notes

    seen = run(main()).seen
    assert set(seen) == EXPECTED[connect] | {"made by the factory"}
    assert set(seen.values()) == {"mine"}


@pytest.mark.skipif(
    not ON_PINLOOP, reason="asyncio's connections have a context of their own from 3.15 on only"
)
def test_each_connection_of_a_server_has_a_copy_of_the_servers(run: Any) -> None:
    class Counting(Notes):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            variable.set(f"{variable.get()}+")

    async def main() -> list[dict[str, str]]:
        loop = asyncio.get_running_loop()
        made: list[Counting] = []

        def factory() -> Counting:
            made.append(Counting())
            return made[-1]

        variable.set("server")
        server = await loop.create_server(factory, "127.0.0.1", 0)
        variable.set("client")
        async with server:
            for _ in range(2):
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"x")
                writer.close()
                await writer.wait_closed()
            while len(made) < 2:
                await asyncio.sleep(0)
            for each in made:
                await each.lost
        return [each.seen for each in made]

    for seen in run(main()):
        assert seen == {
            "made by the factory": "server",
            "connection_made": "server",
            "data_received": "server+",
            "eof_received": "server+",
            "connection_lost": "server+",
        }


def schedule_reader(loop: Loop, callback: Callable[[], None]) -> Any:
    near, far = socket.socketpair()
    far.send(b"x")
    loop.add_reader(near, lambda: (callback(), loop.remove_reader(near), near.close(), far.close()))


def schedule_writer(loop: Loop, callback: Callable[[], None]) -> Any:
    near, far = socket.socketpair()
    loop.add_writer(near, lambda: (callback(), loop.remove_writer(near), near.close(), far.close()))


def schedule_signal(loop: Loop, callback: Callable[[], None]) -> Any:
    loop.add_signal_handler(signal.SIGUSR1, lambda: (callback(), loop.remove_signal_handler(signal.SIGUSR1)))
    os.kill(os.getpid(), signal.SIGUSR1)


def schedule_done_callback(loop: Loop, callback: Callable[[], None]) -> Any:
    future = loop.create_future()
    future.add_done_callback(lambda _: callback())
    loop.call_soon(future.set_result, None)


WAYS: dict[str, Callable[[Loop, Callable[[], None]], Any]] = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
    "call_later": lambda loop, callback: loop.call_later(0.001, callback),
    "call_at": lambda loop, callback: loop.call_at(loop.time(), callback),
    "add_reader": schedule_reader,
    "add_writer": schedule_writer,
    "add_signal_handler": schedule_signal,
    "add_done_callback": schedule_done_callback,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_sees_what_was_set_when_it_was_asked_for(run: Any, way: str) -> None:
    async def main() -> tuple[str, str]:
        seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def callback() -> None:
            seen.set_result(variable.get())
            variable.set("callback's own")

        variable.set("mine")
        WAYS[way](asyncio.get_running_loop(), callback)
        variable.set("later")
        return await seen, variable.get()

    assert run(main()) == ("mine", "later")


def test_an_executor_knows_no_context_but_to_thread_does(run: Any) -> None:
    async def main() -> tuple[str, str]:
        variable.set("mine")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, variable.get), await asyncio.to_thread(variable.get)

    assert run(main()) == ("unset", "mine")
