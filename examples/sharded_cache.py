"""A key-value cache that is divided over all cores: each worker holds the keys that belong to it.

python examples/sharded_cache.py 9000        # and then: nc 127.0.0.1 9000

    set tea hot and sweet     OK
    get tea                   VALUE hot and sweet
    add visits 1              VALUE 1
    del tea                   OK
    get tea                   NONE
    stats                     VALUE 0: 1 keys; 1: 0 keys

A key belongs to one worker (`for_key`), whose calls run one after the other: reading, adding and writing back
needs no lock. A worker that crashes loses its keys, as caches may; what was asked of it just then is asked
again where that does no harm. Each shard keeps the keys that were used last.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import socket
from functools import partial

import pinloop
from pinloop import Workers, current_worker, join, scope
from pinloop.workers import WorkerError

LONGEST_LINE = 64 * 1024
REPEATABLE = {"get", "set", "del"}
"""What may be done twice and is as if it was done once."""


class Shard:
    """The keys of one worker. It is there, and only there, that they are looked at."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.values: collections.OrderedDict[str, str] = collections.OrderedDict()

    def get(self, key: str) -> str:
        if key not in self.values:
            return "NONE"
        self.values.move_to_end(key)
        return f"VALUE {self.values[key]}"

    def set(self, key: str, value: str) -> str:
        self.values[key] = value
        self.values.move_to_end(key)
        if len(self.values) > self.most:
            self.values.popitem(last=False)
        return "OK"

    def add(self, key: str, amount: str) -> str:
        total = int(self.values.get(key, "0")) + int(amount)
        self.set(key, str(total))
        return f"VALUE {total}"

    def delete(self, key: str) -> str:
        return "NONE" if self.values.pop(key, None) is None else "OK"


def shard() -> Shard:
    worker = current_worker()
    assert worker is not None
    found: Shard = worker.state
    return found


def ask(command: str, key: str, *value: str) -> str:
    """Called in the worker of the key."""
    answer: str = getattr(shard(), "delete" if command == "del" else command)(key, *value)
    return answer


def count() -> int:
    return len(shard().values)


async def stats(pool: Workers) -> str:
    """How many keys each worker has."""
    counts = await join(*(worker.run(count, idempotent=True) for worker in pool))
    return "VALUE " + "; ".join(f"{index}: {number} keys" for index, number in enumerate(counts))


async def answer(line: str, pool: Workers) -> str:
    """What a request gets. What is wrong with it is told, and so is a worker that crashed."""
    try:
        match line.rstrip("\r\n").split(maxsplit=2):
            case ["stats"]:
                return await stats(pool)
            case ["get" | "del" as command, key]:
                return await pool.for_key(key).run(ask, command, key, idempotent=True)
            case ["set" | "add" as command, key, value]:
                worker = pool.for_key(key)
                return await worker.run(ask, command, key, value, idempotent=command in REPEATABLE)
        return "ERROR get KEY, set KEY VALUE, add KEY NUMBER, del KEY or stats"
    except (ValueError, WorkerError) as error:
        return f"ERROR {error}"


async def attend(sock: socket.socket, pool: Workers) -> None:
    """Serve one connection, request by request."""
    reader, writer = await pinloop.open_connection(sock=sock, limit=LONGEST_LINE)
    try:
        while line := await reader.readline():
            writer.write((await answer(line.decode(errors="replace"), pool)).encode() + b"\n")
            await writer.drain()
    except (OSError, ValueError):  # it broke off, or a line is too long
        writer.transport.abort()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def serve(listener: socket.socket, pool: Workers) -> None:
    """Serve until cancelled; all clients are cut off then."""
    loop = asyncio.get_running_loop()
    async with scope() as s:
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # gone before it was accepted
            # Also where it is cancelled before it begins.
            s.spawn(attend(client, pool)).add_done_callback(partial(close, client))


def close(client: socket.socket, _: object) -> None:
    client.close()


async def main(port: int, workers: int | None, most: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.setblocking(False)
        async with Workers(workers, setup=partial(Shard, most)) as pool:
            print(f"listening on {listener.getsockname()[1]}", flush=True)
            await serve(listener, pool)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="where to listen on 127.0.0.1; 0 for any free port")
    parser.add_argument("--workers", type=int, help="how many (one for each CPU)")
    parser.add_argument("--most", type=int, default=1_000_000, help="keys in a worker (1000000)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(options.port, options.workers, options.most))
