"""A service that computes on all cores: stamps, numbers that make the hash of a text begin with zeros.

python examples/hashing_service.py 9000      # and then: nc 127.0.0.1 9000

    stamp 20 to whom it may concern          STAMP 1338921
    check 20 1338921 to whom it may concern  YES

What a stamp costs doubles with each bit; to check it costs nothing. A request has a scope on each core, and a
search in each; the first that finds a number cancels the others, and so does the deadline, which travels with
the calls. Requests share the cores: a search lets others have their turn every few milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import socket
from functools import partial

import pinloop
from pinloop import Workers, fail_after, scope
from pinloop.workers import WorkerError

LONGEST_LINE = 4096
SIZE = 64  # bits of a hash
SLICE = 2000  # numbers that are tried in one turn of a worker's loop: 2 ms or so


def stamped(text: bytes, number: int, bits: int) -> bool:
    """Whether the hash of the text and the number begins with so many zeros."""
    digest = hashlib.blake2b(b"%b %d" % (text, number), digest_size=SIZE // 8).digest()
    return int.from_bytes(digest) >> (SIZE - bits) == 0


async def search(text: bytes, bits: int, first: int, step: int) -> int:
    """The first number that will do, of every `step`th. Runs in a worker, until it is found or cancelled."""
    while True:
        beyond = first + SLICE * step
        for number in range(first, beyond, step):
            if stamped(text, number, bits):
                return number
        first = beyond
        await asyncio.sleep(0)


async def find(pool: Workers, text: bytes, bits: int) -> int:
    """A number that will do, searched for on all cores; when it is there, no search goes on."""
    found: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        scopes = [await stack.enter_async_context(worker.scope()) for worker in pool]

        def ended(task: asyncio.Task[int]) -> None:
            if not task.cancelled() and not task.exception():
                found.append(task.result())
                for one in scopes:
                    one.cancel("another core has found one")

        for worker, one in zip(pool, scopes, strict=True):
            one.spawn(search, text, bits, worker.index, len(pool)).add_done_callback(ended)
    return min(found)


async def answer(line: str, pool: Workers, patience: float) -> str:
    """What a request gets. What is wrong with it is told, and so is a worker that crashed."""
    try:
        problem = "stamp BITS TEXT, or check BITS NUMBER TEXT"
        match line.rstrip("\r\n").split(" ", 1):
            case ["stamp", rest]:
                bits, text = rest.split(" ", 1)
                async with fail_after(patience):
                    return f"STAMP {await find(pool, text.encode(), checked(bits))}"
            case ["check", rest]:
                bits, number, text = rest.split(" ", 2)
                return "YES" if stamped(text.encode(), int(number), checked(bits)) else "NO"
    except* TimeoutError:
        problem = f"no stamp within {patience:g} seconds"
    except* (ValueError, WorkerError) as group:
        problem = str(first_of(group))
    return f"ERROR {problem}"


def first_of(error: BaseException) -> BaseException:
    """The first error in a group of them, which may be of groups."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def checked(bits: str) -> int:
    if not 0 <= int(bits) <= SIZE:
        raise ValueError(f"a stamp has 0 to {SIZE} bits, not {bits}")
    return int(bits)


async def attend(sock: socket.socket, pool: Workers, patience: float) -> None:
    """Serve one connection, request by request."""
    reader, writer = await pinloop.open_connection(sock=sock, limit=LONGEST_LINE)
    try:
        while line := await reader.readline():
            writer.write((await answer(line.decode(errors="replace"), pool, patience)).encode() + b"\n")
            await writer.drain()
    except (OSError, ValueError):  # it broke off, or a line is too long
        writer.transport.abort()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def serve(listener: socket.socket, pool: Workers, patience: float = 30.0) -> None:
    """Serve until cancelled; all clients are cut off then."""
    loop = asyncio.get_running_loop()
    async with scope() as s:
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # gone before it was accepted
            # Also where it is cancelled before it begins.
            s.spawn(attend(client, pool, patience)).add_done_callback(partial(close, client))


def close(client: socket.socket, _: object) -> None:
    client.close()


async def main(port: int, workers: int | None, patience: float) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.setblocking(False)
        async with Workers(workers) as pool:
            print(f"listening on {listener.getsockname()[1]}", flush=True)
            await serve(listener, pool, patience)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="where to listen on 127.0.0.1; 0 for any free port")
    parser.add_argument("--workers", type=int, help="how many (one for each CPU)")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds for a stamp (30)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(options.port, options.workers, options.patience))
