#!/usr/bin/env python3
"""Requests for `serving.py`, from one process: so many connections, each always with a request under way.

    python benchmarks/serving_load.py 8000 --seconds 5 --keep 32 --fresh 16

`keep` connections are used again and again, `fresh` ones for one request each. Prints what became of each
request, as JSON. A request has failed if its connection was refused, reset, or closed before all of the
answer had come, also if no byte of it had: no client that repeats requests would show what a server cuts.
"""

from __future__ import annotations

import argparse
import collections
import errno
import json
import re
import selectors
import socket
import time

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"connection: *close", re.IGNORECASE)
PATIENCE = 10.0
"""Seconds that the last answers have."""
LONGEST = 60.0
"""Seconds that it goes on, for processes that have not answered yet."""


class Connection:
    """One place for requests: a connection, and another one once that is closed."""

    def __init__(self, load: Load, fresh: bool) -> None:
        self.load = load
        self.fresh = fresh
        self.request = b"GET / HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (
            b"Connection: close\r\n" if fresh else b""
        )
        self.open()

    def open(self) -> None:
        self.answer = b""
        self.began = time.perf_counter()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        problem = self.sock.connect_ex(("127.0.0.1", self.load.port))
        self.load.selector.register(self.sock, selectors.EVENT_WRITE, self.connected)
        if problem not in (0, errno.EINPROGRESS):
            self.fail(problem)

    def connected(self) -> None:
        problem = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            self.fail(problem)
            return
        self.load.selector.modify(self.sock, selectors.EVENT_READ, self.readable)
        self.send()

    def send(self) -> None:
        try:
            self.sock.send(self.request)
        except OSError as error:
            self.fail(error.errno)

    def readable(self) -> None:
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            self.fail(error.errno)
            return
        if not data:
            self.fail("cut short" if self.answer else "closed without an answer")
            return
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return
        self.load.answered(time.perf_counter() - self.began, head, body)
        if self.load.over:
            self.close()
        elif self.fresh or CLOSE.search(head):
            self.close()
            self.open()
        else:
            self.answer = b""
            self.began = time.perf_counter()
            self.send()

    def fail(self, problem: object) -> None:
        self.load.failed[errno.errorcode.get(problem, str(problem))] += 1  # type: ignore[call-overload]
        self.close()
        if not self.load.over:
            self.open()

    def close(self) -> None:
        self.load.selector.unregister(self.sock)
        self.sock.close()


class Load:
    """All connections, and what became of their requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.times: list[float] = []
        self.failed: collections.Counter[str] = collections.Counter()
        self.servers: collections.Counter[str] = collections.Counter()
        """How many answers each process gave."""
        self.over = False

    def answered(self, seconds: float, head: bytes, body: bytes) -> None:
        if head.startswith(b"HTTP/1.1 200 "):
            self.times.append(seconds)
            self.servers[body.decode().split()[-1]] += 1
        else:
            self.failed[head.partition(b"\r\n")[0].decode()] += 1

    def run(self, seconds: float, keep: int, fresh: int, servers: int = 0) -> None:
        connections = [Connection(self, number >= keep) for number in range(keep + fresh)]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._turn()
        limit = end + LONGEST
        while len(self.servers) < servers and (end := time.perf_counter()) < limit:
            self._turn()
        self.over = True
        while self.selector.get_map() and time.perf_counter() < end + PATIENCE:
            self._turn()
        for connection in connections:
            if connection.sock.fileno() >= 0:
                self.failed["not answered"] += 1
                connection.close()

    def _turn(self) -> None:
        for key, _ in self.selector.select(0.1):
            key.data()

    def result(self) -> dict[str, object]:
        times = sorted(self.times) or [0.0]
        return {
            "requests": len(self.times),
            "p50": times[len(times) // 2],
            "p99": times[len(times) * 99 // 100],
            "failed": dict(self.failed),
            "servers": dict(self.servers),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--keep", type=int, default=32, help="connections used again and again (32)")
    parser.add_argument("--fresh", type=int, default=0, help="connections for one request each (0)")
    parser.add_argument(
        "--servers", type=int, default=0, help="go on until so many processes have answered, or a minute more"
    )
    options = parser.parse_args()
    load = Load(options.port)
    load.run(options.seconds, options.keep, options.fresh, options.servers)
    print(json.dumps(load.result()))


if __name__ == "__main__":
    main()
