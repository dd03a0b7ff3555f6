"""What the tests of bad input share: a row of their tables, the objects that rows use, and the check."""

import asyncio
import contextlib
import gc
import inspect
import io
import os
import re
import socket
import ssl
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP
from tests.conftest import LoopFactory, open_fds
from tests.tls import client_context, server_context

HOST = "127.0.0.1"
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
NAN = float("nan")


class Given(str):
    """Stands in a row for what a Bench has, or makes, by this name."""

    __slots__ = ()


@dataclass
class Bad:
    """A call that is refused: `target.method(*args, **keywords)` raises `raises`, and says `says`.

    `asyncio` is the class that asyncio raises where that is another, or None where asyncio
    takes the call; then `why` says why pinloop does not do the same.  `closes` says whether a
    socket handed in is closed by the failure.
    """

    method: str
    label: str
    raises: type[BaseException]
    says: str
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    asyncio: type[BaseException] | None
    why: str
    closes: bool | None

    def __str__(self) -> str:
        return f"{self.method}: {self.label}"


def bad(
    method: str,
    label: str,
    raises: type[BaseException],
    says: str,
    *args: Any,
    on_asyncio: Any = ...,
    why: str = "",
    closes: bool | None = False,
    **keywords: Any,
) -> Bad:
    """A row. `closes` is None where asyncio's versions differ in it."""
    assert (on_asyncio is ...) == (not why)
    on_asyncio = raises if on_asyncio is ... else on_asyncio
    return Bad(method, label, raises, says, args, keywords, on_asyncio, why, closes)


class Bench:
    """What the calls are made on and with.  All that it made is closed by `clear`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sockets: list[Any] = []  # handed in, and told open or closed afterwards
        self._stack = contextlib.AsyncExitStack()
        self.protocol = asyncio.Protocol()

    async def clear(self) -> None:
        await self._stack.aclose()
        for _ in range(4):
            await asyncio.sleep(0)  # connection_lost

    def _keep(self, thing: Any) -> Any:
        self._stack.callback(thing.close)
        return thing

    def _hand_in(self, sock: socket.socket) -> socket.socket:
        sock.setblocking(False)
        self.sockets.append(sock)
        return self._keep(sock)  # type: ignore[no-any-return]

    async def get(self, value: Any) -> Any:
        """What a row's argument means."""
        if isinstance(value, tuple):
            return tuple([await self.get(each) for each in value])
        if not isinstance(value, Given):
            return value
        make = getattr(self, value)
        return await make() if inspect.iscoroutinefunction(make) else make()

    # ------------------------------------------------------------------ sockets --

    def tcp(self) -> Any:
        return self._hand_in(socket.socket())

    def udp(self) -> Any:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        return self._hand_in(sock)

    def unix(self) -> Any:
        near, far = socket.socketpair()
        self._keep(far)
        return self._hand_in(near)

    connected = unix

    def unix_dgram(self) -> Any:
        near, far = socket.socketpair(type=socket.SOCK_DGRAM)
        self._keep(far)
        return self._hand_in(near)

    def closed_sock(self) -> Any:
        sock = socket.socket()
        sock.close()
        return sock

    def blocking(self) -> Any:
        return self._keep(socket.socket())

    def tls_sock(self) -> Any:
        near, far = socket.socketpair()
        self._keep(far)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return self._hand_in(context.wrap_socket(near, do_handshake_on_connect=False))

    async def used_sock(self) -> Any:
        near, far = socket.socketpair()
        near.setblocking(False)
        self._keep(far)
        transport, _ = await self.loop.connect_accepted_socket(lambda: self.protocol, near)
        self._stack.callback(transport.abort)
        return near

    async def stream_fd(self) -> int:
        return (await self.used_sock()).fileno()  # type: ignore[no-any-return]

    async def used_udp(self) -> Any:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((HOST, 0))
        transport, _ = await self.loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock)
        self._stack.callback(transport.abort)
        return sock

    # ------------------------------------------------------- addresses, servers --

    async def server(self) -> Any:
        server = await self.loop.create_server(asyncio.Protocol, HOST, 0)
        self._stack.push_async_callback(server.wait_closed)
        return self._keep(server)

    async def closed_server(self) -> Any:
        server = await self.server()
        server.close()
        return server

    async def port(self) -> int:
        return (await self.server()).sockets[0].getsockname()[1]  # type: ignore[no-any-return]

    async def udp_address(self) -> Any:
        return (await self.used_udp()).getsockname()

    async def unix_path(self) -> str:
        path = f"\0pinloop-test-{os.getpid()}"
        self._keep(await self.loop.create_unix_server(asyncio.Protocol, path))
        return path

    # ---------------------------------------------------------- files and pipes --

    def file(self) -> Any:
        file = self._keep(tempfile.TemporaryFile())  # noqa: SIM115 the bench closes it
        file.write(b"hello")
        file.seek(0)
        return file

    def textfile(self) -> Any:
        return self._keep(tempfile.TemporaryFile("w+"))

    def closedfile(self) -> Any:
        file = self.file()
        file.close()
        return file

    def bytes_io(self) -> Any:
        return io.BytesIO(b"hello")

    def _pipe(self) -> tuple[Any, Any]:
        read, write = os.pipe()
        return self._keep(os.fdopen(read, "rb", 0)), self._keep(os.fdopen(write, "wb", 0))

    def rpipe(self) -> Any:
        return self._pipe()[0]

    def wpipe(self) -> Any:
        return self._pipe()[1]

    def closedpipe(self) -> Any:
        file = self.rpipe()
        file.close()
        return file

    def dead_fd(self) -> int:
        fd = os.open(os.devnull, os.O_RDONLY)
        os.close(fd)
        return fd

    # ------------------------------------------------------------------- others --

    def coro(self) -> Any:
        return self._keep(asyncio.sleep(0))

    def future(self) -> Any:
        return self.loop.create_future()

    def failing_factory(self) -> Callable[[], Any]:
        return lambda: 1 / 0

    def no_protocol(self) -> Callable[[], Any]:
        return lambda: 42

    def the_protocol(self) -> asyncio.Protocol:
        return self.protocol

    # --------------------------------------------------------------- transports --

    async def stream(self) -> Any:
        near, far = socket.socketpair()
        near.setblocking(False)
        self._keep(far)
        transport, _ = await self.loop.connect_accepted_socket(lambda: self.protocol, near)
        self._stack.callback(transport.abort)
        return transport

    async def closed(self) -> Any:
        return await self._closed(await self.stream())

    async def _closed(self, transport: Any) -> Any:
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return transport

    async def tls(self) -> Any:
        server = self._keep(await self.loop.create_server(asyncio.Protocol, HOST, 0, ssl=server_context()))
        address = server.sockets[0].getsockname()
        transport, _ = await self.loop.create_connection(asyncio.Protocol, *address, ssl=client_context())
        self._stack.callback(transport.abort)
        return transport

    async def datagram(self, **options: Any) -> Any:
        transport, _ = await self.loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, **(options or {"local_addr": (HOST, 0)})
        )
        self._stack.callback(transport.abort)
        return transport

    async def connected_datagram(self) -> Any:
        return await self.datagram(remote_addr=await self.udp_address())

    async def closed_datagram(self) -> Any:
        return await self._closed(await self.datagram())

    async def rtrans(self) -> Any:
        return self._keep((await self.loop.connect_read_pipe(asyncio.Protocol, self.rpipe()))[0])

    async def wtrans(self) -> Any:
        transport, _ = await self.loop.connect_write_pipe(asyncio.Protocol, self.wpipe())
        self._stack.callback(transport.abort)
        return transport

    async def proc(self) -> Any:
        made = await self.loop.subprocess_exec(Process, "sleep", "60")
        self._stack.push_async_callback(lambda: made[1].ended)
        return self._keep(made[0])

    async def dead(self) -> Any:
        transport, protocol = await self.loop.subprocess_exec(Process, "true")
        await protocol.ended
        await asyncio.sleep(0)
        return self._keep(transport)


class Process(asyncio.SubprocessProtocol):
    """Knows when all is over."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


def check(loop_factory: LoopFactory, row: Bad) -> None:
    """Make the call of a row, see that it fails as the row says, and that it leaves nothing open."""
    if not ON_PINLOOP and sys.version_info < (3, 14):
        pytest.skip(
            "what asyncio raises is compared where it is newest: some of it was mended over the years"
        )
    before = set(open_fds())
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        if not ON_PINLOOP:
            # asyncio leaves some sockets open, and half-made transports.
            warnings.simplefilter("ignore")
            patch.setattr(sys, "unraisablehook", lambda _: None)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: None)
            runner.run(_make_the_call(row))
        gc.collect()
    if ON_PINLOOP:
        assert set(open_fds()) <= before


async def _make_the_call(row: Bad) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # debug mode refuses more
    bench = Bench(loop)
    expected = row.raises if ON_PINLOOP else row.asyncio
    target, _, method = row.method.rpartition(".")
    try:
        called_on = await bench.get(Given(target)) if target else loop
        args = await bench.get(row.args)
        keywords = {name: await bench.get(value) for name, value in row.keywords.items()}
        if expected is None:
            return  # what asyncio does with it is not our matter
        with pytest.raises(BaseException) as caught:
            made = getattr(called_on, method)(*args, **keywords)
            if inspect.isawaitable(made):
                await asyncio.wait_for(made, 10)
        failure = caught.value
        del caught
        assert isinstance(failure, expected), repr(failure)
        # No test of a message that is the system's or of another class.
        if expected is row.raises:
            assert re.search(row.says, str(failure)), repr(failure)
        if row.closes is not None:
            assert [sock.fileno() == -1 for sock in bench.sockets] == [row.closes] * len(bench.sockets)
    finally:
        await bench.clear()
