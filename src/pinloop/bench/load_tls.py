"""The TLS client of the benchmark, which is not measured: `native/load.c` for servers that speak TLS.

    python -P load_tls.py echo|handshake --port N [--connections N] [--size BYTES]

    echo       all connections send BYTES, then all receive them; length and both ends are checked
    handshake  N at a time connect, shake hands, are greeted and leave; no session is resumed

It prints {"connected": N}, and then a line of JSON for each line of its input: `seconds S` or `count C`, as
the load program in C does. Nothing but Python's `ssl` is needed.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

PATIENCE = 10
STAMP = 8
CHUNK = 256 * 1024
GREETING = b"hello"
"""What `servers/tls.py` says to each client."""

_chunk = memoryview(bytearray(CHUNK))


class WrongAnswerError(Exception):
    """The server sent something else than it should have."""


def client_context() -> ssl.SSLContext:
    """A context that asks for TLS 1.3 with the cheapest key exchange, and believes every server.

    Key exchange over P-256 is what OpenSSL has the fastest code for: less of a handshake is mathematics, and
    more of it the loop's.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.set_ecdh_curve("prime256v1")
    return made


class Connection:
    """A blocking connection. TLS is done in memory: a read is one system call then, and not two a record."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        """Connect, and send the first message of the handshake."""
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Not settimeout(): that would make each call two, the first of them poll().
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", PATIENCE, 0))
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._step()

    def close(self) -> None:
        """Close the socket, without a word."""
        self._socket.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.sendall(self._outgoing.read())

    def _feed(self) -> int:
        """Receive once; return how much, 0 at the end of the stream."""
        try:
            count = self._socket.recv_into(_chunk)
        except BlockingIOError:
            raise TimeoutError(f"no answer for {PATIENCE} seconds") from None
        if count:
            self._incoming.write(_chunk[:count])
        return count

    def _feed_more(self) -> None:
        if not self._feed():
            raise WrongAnswerError("closed by the server")

    def _step(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def finish_handshake(self) -> None:
        """Wait for the server's part, send the rest of ours."""
        while True:
            self._feed_more()
            if self._step():
                return

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._tls.write(data)
        self._flush()

    def receive(self, view: memoryview) -> None:
        """Fill *view*."""
        at, size = 0, len(view)
        while at < size:
            # An exception costs as much as all the rest here: it is for records that come in two parts.
            if not self._incoming.pending and not self._tls.pending():
                self._feed_more()
            try:
                count = cast("int", self._tls.read(size - at, view[at:]))
            except ssl.SSLWantReadError:
                self._feed_more()
                continue
            if not count:
                raise WrongAnswerError("closed by the server")
            at += count

    def say_goodbye(self) -> None:
        """Tell the server that nothing more comes: close_notify, then the end of the stream."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()
        self._socket.shutdown(socket.SHUT_WR)

    def wait_for_end(self) -> None:
        """Wait until the server has closed, too."""
        while self._feed():
            pass
        self.close()


class Echo:
    """N connections in step: each lap sends on all of them, then receives on all of them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        size = max(2 * STAMP, arguments.size)
        self._middle = b"m" * (size - 2 * STAMP)
        self._view = memoryview(bytearray(size))
        self._serial = 0
        context = client_context()
        self._connections = [Connection(arguments.port, context) for _ in range(arguments.connections)]
        for connection in self._connections:
            connection.finish_handshake()

    def lap(self, width: int) -> Iterator[int]:
        """One request on each of the first *width* connections; yields the latency of each, in ns."""
        stamps, started = [], []
        for connection in self._connections[:width]:
            self._serial += 1
            stamps.append(stamp := self._serial.to_bytes(STAMP, "big"))
            started.append(time.perf_counter_ns())
            connection.send(stamp + self._middle + stamp)
        for connection, stamp, began in zip(self._connections, stamps, started, strict=False):
            connection.receive(self._view)
            if self._view[:STAMP] != stamp or self._view[-STAMP:] != stamp:
                raise WrongAnswerError("wrong bytes")
            yield time.perf_counter_ns() - began


class Handshake:
    """Waves of connections that do nothing but shake hands."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._port = arguments.port
        self._context = client_context()

    def lap(self, width: int) -> Iterator[int]:
        """*width* handshakes under way at once; yields the time of each from connecting to the end, in ns."""
        began = time.perf_counter_ns()
        wave: list[Connection] = []
        try:
            wave += (Connection(self._port, self._context) for _ in range(width))
            for connection in wave:
                connection.finish_handshake()
            greeting = memoryview(bytearray(len(GREETING)))
            for connection in wave:
                connection.receive(greeting)
                if greeting != GREETING:
                    raise WrongAnswerError("wrong bytes")
                connection.say_goodbye()
            for connection in wave:
                connection.wait_for_end()
                yield time.perf_counter_ns() - began
        finally:
            for connection in wave:
                connection.close()


def run(load: Echo | Handshake, width: int, seconds: float, count: float) -> dict[str, Any]:
    """Do laps until either bound is met; an error is the last thing that happens."""
    latencies: list[int] = []
    errors, reason = 0, ""
    started = time.perf_counter_ns()
    ends = started + seconds * 1e9
    try:
        while len(latencies) < count and time.perf_counter_ns() < ends:
            latencies.extend(load.lap(int(min(width, count - len(latencies)))))
    except (OSError, WrongAnswerError) as error:
        errors, reason = 1, f"{type(error).__name__}: {error}"
    took = (time.perf_counter_ns() - started) / 1e9
    latencies.sort()

    def percentile(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(share * len(latencies)))] / 1e3 if latencies else 0.0

    return {
        "requests": len(latencies),
        "errors": errors,
        "lost": 0,
        "first_error": reason,
        "seconds": took,
        "p50_us": percentile(0.5),
        "p99_us": percentile(0.99),
        "max_us": percentile(1),
    }


def say(**answer: Any) -> None:
    """Print one line of JSON, at once."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def obey(load: Echo | Handshake, width: int, line: str) -> None:
    """Do what one line of the input says."""
    word, _, value = line.strip().partition(" ")
    if word == "seconds" and float(value) > 0:
        say(**run(load, width, float(value), math.inf))
    elif word == "count" and int(value) > 0:
        say(**run(load, width, math.inf, int(value)))
    else:
        raise SystemExit(f"not a command here: {line.strip()}")


def main(argv: list[str]) -> None:
    """Do what *argv* says until the standard input ends."""
    parser = argparse.ArgumentParser(prog="load_tls")
    parser.add_argument("mode", choices=["echo", "handshake"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--size", type=int, default=1024)
    arguments = parser.parse_args(argv)
    load: Echo | Handshake
    if arguments.mode == "echo":
        load = Echo(arguments)
        say(connected=arguments.connections)
    else:
        load = Handshake(arguments)
        say(connected=0)
    for line in sys.stdin:
        obey(load, arguments.connections, line)


if __name__ == "__main__":
    main(sys.argv[1:])
