"""The servers that the examples are run against: HTTP of a few lines, on a port of 127.0.0.1."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

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
