"""What the examples are run against, and with: servers on a port of 127.0.0.1, clients, programs."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pinloop

EXAMPLES = Path(__file__).parents[2] / "examples"

Answer = Callable[[str, bytes], Awaitable[tuple[int, str, bytes]]]
"""Of a path and a body: a status, more header lines, a body."""


@contextlib.asynccontextmanager
async def http(answer: Answer) -> AsyncIterator[str]:
    """An HTTP/1.0 server; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = [line.split(":")[1] for line in head.splitlines() if line.startswith("Content-Length")]
            body = await reader.readexactly(int(length[0]) if length else 0)
            status, lines, content = await answer(head.split()[1], body)
            writer.write(f"HTTP/1.0 {status} x\r\n{lines}\r\n".encode() + content)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went
        finally:
            writer.close()

    server = await pinloop.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


Ask = Callable[[str], Awaitable[str]]
"""Sends a line; the line that comes back."""


@contextlib.asynccontextmanager
async def served(serve: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> AsyncIterator[int]:
    """A server on a listener, until the block is left; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        task = asyncio.create_task(serve(listener))
        try:
            yield listener.getsockname()[1]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[Ask]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(line: str) -> str:
        writer.write(f"{line}\n".encode())
        return (await reader.readline()).decode().rstrip("\n")

    try:
        yield ask
    finally:
        writer.close()


def command(name: str, *args: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *args]


async def output(name: str, *args: str) -> str:
    """What an example prints, run as the program that it is."""
    process = await asyncio.create_subprocess_exec(
        *command(name, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    printed, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    return printed.decode()
