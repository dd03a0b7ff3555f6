"""A pipeline that keeps to a server's limits: records go out in batches, so many requests a second.

python examples/rate_limited.py records.jsonl http://127.0.0.1:8000/ingest --rate 10 --batch 100

The file is read no faster than the server takes it. A batch that the server puts off (429 or 503) is sent
again after the time it asks for; as long as that, nothing else is sent either.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pinloop
from pinloop import fail_after, stream

AGAIN = {429, 503}
TRIES = 5
LONGEST_WAIT = 60.0


class Refused(Exception):
    """The server does not want a batch, or has put it off too often."""


class Turns:
    """When a request may go: at most `rate` in any `per` seconds, repeats too, and none in a pause."""

    def __init__(self, rate: int, per: float) -> None:
        self.until = 0.0
        self.lock = pinloop.Lock()  # a stream is pulled by one at a time
        self.stream = stream(self._forever).throttle(rate, per)

    async def _forever(self) -> AsyncIterator[None]:
        while True:
            yield

    def pause(self, seconds: float) -> None:
        self.until = max(self.until, asyncio.get_running_loop().time() + seconds)

    async def next(self) -> None:
        async with self.lock:
            loop = asyncio.get_running_loop()
            while loop.time() < self.until:  # it may be put off further meanwhile
                await asyncio.sleep(self.until - loop.time())
            await anext(self.stream)


async def post(url: str, body: bytes) -> tuple[int, float]:
    """The status of a POST, and how many seconds the server asks to wait."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    reader, writer = await pinloop.open_connection(parts.hostname, port, ssl=tls or None)
    try:
        head = f"POST {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        status = (await reader.readline()).split(maxsplit=2)
        wait = 1.0
        while line := (await reader.readline()).decode("latin-1").strip():
            name, _, value = line.partition(":")
            if name.lower() == "retry-after":
                with contextlib.suppress(ValueError):  # it may be a date
                    wait = min(max(float(value), 0), LONGEST_WAIT)
        return int(status[1]), wait
    except (IndexError, ValueError):
        raise Refused("this is no HTTP") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def send(url: str, turns: Turns, records: list[Any]) -> int:
    """Send a batch, again where it has to be; how many records it has."""
    body = "".join(json.dumps(record) + "\n" for record in records).encode()
    for _ in range(TRIES):
        await turns.next()
        async with fail_after(30):
            status, wait = await post(url, body)
        if status < 300:
            return len(records)
        if status not in AGAIN:
            raise Refused(f"the server answered {status}")
        turns.pause(wait)
    raise Refused(f"put off {TRIES} times")


async def deliver(
    records: Iterable[Any], url: str, rate: int, per: float = 1.0, batch: int = 100, at_once: int = 4
) -> int:
    """Send all records in order of their batches, up to `at_once` of them at once; how many there were.

    Raises Refused, and OSError where the server cannot be reached: what is under way is given up then.
    """
    turns = Turns(rate, per)
    async with turns.stream:
        batches = stream(records).chunks(batch)
        return await batches.map(lambda chunk: send(url, turns, chunk), at_once).fold(0, int.__add__)


def read(path: str) -> Iterator[Any]:
    """The records of a file, one a line."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


async def main(path: str, url: str, rate: int, batch: int) -> None:
    count = await deliver(read(path), url, rate, batch=batch)
    print(f"{count} records sent")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", help="a file with a JSON value in each line")
    parser.add_argument("url", help="where to POST them, in batches of such lines")
    parser.add_argument("--rate", type=int, default=10, help="how many requests a second (10)")
    parser.add_argument("--batch", type=int, default=100, help="how many records a request (100)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(options.records, options.url, options.rate, options.batch))
