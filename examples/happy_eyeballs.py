"""An HTTP client that races the addresses of a name: "happy eyeballs" (RFC 8305), written by hand.

python examples/happy_eyeballs.py http://localhost:8000/

Both families are looked up at once. The addresses are tried in turn, one of each family: the next when the
one before has failed, or has not answered within a quarter of a second. The first connection wins. By then
the other attempts have ended and their sockets are closed: the scope is not left before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import socket
from typing import Any
from urllib.parse import urlsplit

import pinloop
from pinloop import fail_after, move_on_after, scope

ATTEMPT_DELAY = 0.25
RESOLUTION_DELAY = 0.05

Address = tuple[socket.AddressFamily, Any]
"""A family, and an address as sockets of it take one."""


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a name, the families in turn, IPv6 first. Raises socket.gaierror.

    When one family's are there, those of the other have RESOLUTION_DELAY seconds to come too.
    """
    loop = asyncio.get_running_loop()
    found: dict[socket.AddressFamily, list[Address]] = {}
    errors = []

    async def look_up(family: socket.AddressFamily) -> None:
        try:
            infos = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            errors.append(error)
            return
        found[family] = [(family, info[4]) for info in infos]
        s.deadline = loop.time() + RESOLUTION_DELAY

    families = socket.AF_INET6, socket.AF_INET
    async with scope() as s:
        for family in families:
            s.spawn(look_up(family))
    if not found:
        raise errors[0]
    rows = itertools.zip_longest(*[found.get(family, []) for family in families])
    return [address for row in rows for address in row if address is not None]


async def connect_one(address: Address) -> socket.socket:
    """A connection to one address; its socket is closed where it does not come to that."""
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address[1])
    except BaseException:
        sock.close()
        raise
    return sock


async def connect(addresses: list[Address], delay: float = ATTEMPT_DELAY) -> socket.socket:
    """A connection to the first address that answers. Raises an ExceptionGroup of what all of them raised."""
    if not addresses:
        raise ValueError("there is no address to connect to")
    winner: socket.socket | None = None
    errors: list[Exception] = []

    async def attempt(address: Address, failed: asyncio.Event) -> None:
        nonlocal winner
        try:
            sock = await connect_one(address)
        except OSError as error:
            errors.append(error)
            failed.set()
            return
        if winner is None:
            winner = sock
            s.cancel("connected")
        else:
            sock.close()  # another one was quicker by a moment

    try:
        async with scope() as s:
            for address in addresses:
                failed = asyncio.Event()
                s.spawn(attempt(address, failed))
                async with move_on_after(delay):
                    await failed.wait()
    except BaseException:  # cancelled from outside, perhaps just as one had won
        if winner is not None:
            winner.close()
        raise
    if winner is None:
        raise ExceptionGroup("no address can be connected to", errors)
    return winner


async def get(url: str, seconds: float = 10) -> tuple[str, int, bytes]:
    """The address that won, the status and the body of a page. Raises as `connect`, and TimeoutError."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or "localhost"
    async with fail_after(seconds):
        sock = await connect(await resolve(host, parts.port or (443 if tls else 80)))
        winner = str(sock.getpeername()[0])
        try:
            reader, writer = await pinloop.open_connection(
                sock=sock, ssl=tls or None, server_hostname=host if tls else None
            )
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    status = head.split(maxsplit=2)[1:2]
    if not status or not status[0].isdigit():
        raise ValueError("this is no HTTP")
    return winner, int(status[0]), body


async def main(url: str) -> None:
    winner, status, body = await get(url)
    print(f"{winner} answered {status} with {len(body)} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="what to get")
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(parser.parse_args().url))
