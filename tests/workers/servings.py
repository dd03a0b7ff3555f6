"""What the tests of `serve` share: services and their clients."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pinloop
from pinloop.serving import Address, Service
from tests import tls
from tests.workers import apps


@contextlib.asynccontextmanager
async def serving(app: Any = apps.handler, **options: Any) -> AsyncIterator[Service]:
    """A service of two at a free port; `at` is "v4", "v6" or the path of a Unix socket."""
    at = options.pop("at", "v4")
    if "port" not in options and at in ("v4", "v6"):
        options |= {"host": "::1" if at == "v6" else "127.0.0.1", "port": 0}
    elif "port" not in options:
        options["unix"] = at
    options.setdefault("workers", 2)
    options.setdefault("placement", None)
    options.setdefault("grace", 20)
    async with pinloop.serve(app, **options) as service:
        yield service


async def connect(address: Address, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address, **options)
    return await asyncio.open_connection(*address, **options)


async def ask(address: Address, line: str = "hello", **options: Any) -> str:
    """One connection, one line; what comes until its end."""
    reader, writer = await connect(address, **options)
    try:
        writer.write(line.encode() + b"\n")
        return (await reader.read()).decode().strip()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def begin(address: Address, line: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose request is under way: its handler has answered."""
    reader, writer = await connect(address)
    writer.write(line.encode() + b"\n")
    await reader.readline()
    return reader, writer


async def end(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def refused(address: Address) -> None:
    """Wait until nobody listens there any more."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    async with asyncio.timeout(20):
        while True:
            with socket.socket(family) as probe:
                probe.settimeout(0.01)  # where nobody accepts any more, the backlog is full some time
                if probe.connect_ex(address) not in (0, errno.EAGAIN):
                    return
            await asyncio.sleep(0.001)


def pids(service: Service) -> list[int]:
    found = [worker.pid for worker in service.workers]
    assert None not in found
    return [pid for pid in found if pid is not None]


async def until_gone(pid: int) -> None:
    """Wait until there is no such process, or it is a zombie that its new parent has not reaped."""
    async with asyncio.timeout(20):
        while True:
            try:
                os.kill(pid, 0)
                with open(f"/proc/{pid}/stat") as file:
                    if file.read().rpartition(")")[2].split()[0] == "Z":
                        return
            except (ProcessLookupError, FileNotFoundError):
                return
            await asyncio.sleep(0.01)


def certificate(tmp_path: Path) -> tuple[str, str]:
    """The file of a certificate with its key, and that of the key alone."""
    made = tls.certificate("localhost", "127.0.0.1", "::1")
    whole, key = tmp_path / "whole.pem", tmp_path / "key.pem"
    whole.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    (tmp_path / "both.pem").write_bytes(made.private_key_and_cert_chain_pem.bytes())
    return str(whole), str(key)
