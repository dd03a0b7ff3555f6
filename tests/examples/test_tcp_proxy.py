"""examples/tcp_proxy.py between a client and a server of this process."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from examples import tcp_proxy
from tests.conftest import Run
from tests.examples.servers import command

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write(b" that was all")  # it knows that the client has no more
    writer.close()


@contextlib.asynccontextmanager
async def proxied(serve: Serve, most: int = 1000) -> AsyncIterator[int]:
    """A server and a proxy before it; the port of the proxy."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        target = server.sockets[0].getsockname()[1]
        task = asyncio.create_task(tcp_proxy.proxy(listener, "127.0.0.1", target, most))
        try:
            async with server:
                yield listener.getsockname()[1]
                server.close()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_everything_goes_through_and_each_end_is_told(run: Run) -> None:
    data = os.urandom(3_000_000)

    async def exchange(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read() == data + b" that was all"
        await sending
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with proxied(echo) as port:
            await asyncio.gather(*[exchange(port) for _ in range(5)])

    run(main())


def test_a_slow_side_holds_up_the_fast_one(run: Run) -> None:
    sent = 0
    stopped: asyncio.Event

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            while True:
                writer.write(bytes(1 << 16))
                sent += 1 << 16
                try:
                    await asyncio.wait_for(writer.drain(), 0.3)
                except TimeoutError:
                    stopped.set()
                    await writer.drain()

    async def main() -> None:
        nonlocal stopped
        stopped = asyncio.Event()
        async with proxied(flood) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
            await stopped.wait()  # nobody reads: it comes to a halt
            halted = sent
            await reader.readexactly(halted + 1)  # and goes on when somebody does
            assert sent > halted
            writer.close()

    run(main())


def test_where_there_is_no_server_the_client_is_told(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        near, far = socket.socketpair()
        near.setblocking(False)
        await tcp_proxy.relay(near, "127.0.0.1", port)
        assert far.recv(1) == b""
        far.close()

    run(main())


def test_when_one_side_breaks_off_so_does_the_other(run: Run) -> None:
    gone: asyncio.Event

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        with contextlib.suppress(OSError):
            await reader.read()
        gone.set()
        writer.close()

    async def main() -> None:
        nonlocal gone
        gone = asyncio.Event()
        async with proxied(serve) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read(5) == b"hello"
            writer.transport.abort()
            await asyncio.wait_for(gone.wait(), 30)

    run(main())


def test_never_more_than_so_many(run: Run) -> None:
    async def main() -> None:
        running = most = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await reader.read()
            running -= 1
            writer.close()

        async def call(port: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.01)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

        async with proxied(serve, most=2) as port:
            await asyncio.gather(*[call(port) for _ in range(8)])
        assert most == 2

    run(main())


def test_as_a_program(run: Run) -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            process: Any = await asyncio.create_subprocess_exec(
                *command("tcp_proxy.py", "0", target), stdout=subprocess.PIPE
            )
            port = int((await process.stdout.readline()).split()[-1])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"ping")
            writer.write_eof()
            assert await reader.read() == b"ping that was all"
            writer.close()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0

    run(main())
