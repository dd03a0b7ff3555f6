"""Two TLS transports, and a proxy between them that cuts, spoils, repeats or ends what passes.

No byte is lost, repeated or out of order before a fault, none is delivered after it, and all connections end.
"""

import asyncio
import contextlib
import functools
import itertools
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

import pinloop
from tests.core.support import BufferedRecorder, Recorder, turn
from tests.core.test_stream_model import End, carry_out
from tests.core.test_tls_engine import Loop
from tests.tls import TLS_1_2, TLS_1_3, client_context, server_context

ends = st.integers(0, 1)
kinds = st.sampled_from([Recorder, BufferedRecorder])
sizes = st.sampled_from([0, 1, 1000, 16_384, 16_385, 33_000, 140_000])
limits = st.sampled_from([(0, 0), (10, 10), (1000, 10), (100_000, 0), (1 << 30, 0)])
pieces = st.lists(st.sampled_from([1, 5, 6, 1000, 16_406, 70_000]), min_size=1, max_size=4)

steps = st.one_of(
    st.tuples(st.just("write"), ends, sizes, st.sampled_from(["bytes", "bytearray", "memoryview", "lines"])),
    st.tuples(st.just("write"), ends, sizes, st.just("bytes")),
    st.tuples(st.just("pause"), ends),
    st.tuples(st.just("resume"), ends),
    st.tuples(st.just("limits"), ends, limits),
    st.tuples(st.just("protocol"), ends, kinds),
    st.tuples(st.just("turns"), st.integers(1, 3)),
)
faults = st.sampled_from(["none", "flip", "cut", "repeat", "swallow", "reset"])
finish = st.sampled_from(["close", "close both", "abort"])


@functools.cache
def contexts(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return client_context(version=version), server_context()


class Proxy:
    """Two sockets, and what it has of each way; it moves pieces of given sizes when told."""

    def __init__(self) -> None:
        self.near, near = socket.socketpair()
        self.far, far = socket.socketpair()
        self.ends = (near, far)
        self.ways = ((self.near, self.far), (self.far, self.near))
        self.held = (bytearray(), bytearray())
        self.over = False
        self.cut([1 << 20])
        for sock in (self.near, self.far):
            sock.setblocking(False)

    def cut(self, sizes: list[int]) -> None:
        """Pass pieces of these sizes, one after the other, from now on."""
        self.cuts = (itertools.cycle(sizes), itertools.cycle(sizes))

    def take(self) -> None:
        """Take what has come from both ends."""
        for (source, _), held in zip(self.ways, self.held, strict=True):
            with contextlib.suppress(OSError):
                held.extend(source.recv(1 << 20))

    def carry(self) -> None:
        """Pass one piece on each way, and the end of what has ended."""
        for way in range(2):
            try:
                if not self.over:
                    self.carry_one_way(*self.ways[way], self.held[way], next(self.cuts[way]))
            except OSError:  # a reset goes on to the other
                self.close()

    def carry_one_way(self, source: socket.socket, sink: socket.socket, held: bytearray, size: int) -> None:
        try:
            data = source.recv(1 << 20)
            held.extend(data)
            if not data and not held:
                sink.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        try:
            del held[: sink.send(held[:size])]
        except BlockingIOError:
            pass

    def spoil(self, fault: str, way: int, at: int) -> bool:
        """Do this to what is held of one way; false if there is nothing."""
        held = self.held[way]
        if fault == "reset":
            self.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self.close()
            return True
        if not held:
            return False
        at %= len(held)
        if fault == "flip":
            held[at] ^= 0x10
        elif fault == "cut":
            del held[at:]
            self.ways[way][1].send(held)
            self.close()
        elif fault == "repeat":
            held[at:at] = held[: at + 1]
        else:
            del held[at]
        return True

    def close(self) -> None:
        """End it."""
        self.over = True
        self.near.close()
        self.far.close()


def run_with(loop: Loop, proxy: Proxy, condition: Callable[[], object], limit: float = 10.0) -> bool:
    """Make turns, with the proxy at work, until `condition` holds or the time is over."""
    over = time.monotonic() + limit
    while not condition():
        if time.monotonic() > over:
            return False
        turn(loop)
        proxy.carry()
    return True


def connect(loop: Any, proxy: Proxy, version: ssl.TLSVersion, protocols: list[Recorder]) -> list[End]:
    of_client, of_server = contexts(version)
    common = {"ssl_shutdown_timeout": 0.5}
    client = loop.create_connection(
        lambda: protocols[0],
        sock=proxy.ends[0],
        ssl=of_client,
        server_hostname="localhost",
        **common,
    )
    server = loop.connect_accepted_socket(lambda: protocols[1], proxy.ends[1], ssl=of_server, **common)
    both = asyncio.gather(loop.create_task(client), loop.create_task(server))
    assert run_with(loop, proxy, both.done)
    return [End(both.result()[i][0], protocols[i], i) for i in range(2)]


@settings(max_examples=150, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(
    plan=st.lists(steps, max_size=15),
    first=kinds,
    second=kinds,
    version=st.sampled_from([TLS_1_2, TLS_1_3]),
    portable=st.booleans(),
    cuts=pieces,
    fault=faults,
    way=ends,
    at=st.integers(0, 3000),
    ending=finish,
)
def test_two_ends_and_what_is_between(
    plan: list[Any],
    first: type[Recorder],
    second: type[Recorder],
    version: ssl.TLSVersion,
    portable: bool,
    cuts: list[int],
    fault: str,
    way: int,
    at: int,
    ending: str,
) -> None:
    loop = pinloop.new_event_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop._set_portable_tls(portable)
    proxy = Proxy()
    both = connect(loop, proxy, version, [first(keep_open=False), second(keep_open=False)])
    proxy.cut([*cuts, 30_000])
    spoiled = False
    try:
        for step in plan:
            carry_out(loop, both, step)
            turn(loop)
            proxy.take()
            if fault != "none" and not spoiled:
                spoiled = proxy.spoil(fault, way, at)
            proxy.carry()
            assert_prefixes(both)
        event(f"{fault}: {'done' if spoiled else 'not done'}")
        settle(loop, proxy, both, spoiled)
        end_them(loop, proxy, both, ending)
        event(f"ended with {', '.join(sorted(type(end.protocol.lost[0]).__name__ for end in both))}")
        check_ends(both, spoiled)
        assert not reports
    finally:
        proxy.close()
        for end in both:
            end.transport.abort()
        for _ in range(3):
            turn(loop)
        loop.close()


def assert_prefixes(both: list[End]) -> None:
    for writer, reader in (both, both[::-1]):
        assert writer.sent.startswith(reader.collect())


def settle(loop: Loop, proxy: Proxy, both: list[End], spoiled: bool) -> None:
    """Let everything arrive; after a fault, what comes before it."""
    for end in both:
        end.transport.resume_reading()

    def arrived() -> bool:
        return all(
            reader.collect() == writer.sent or reader.protocol.lost for writer, reader in (both, both[::-1])
        )

    assert run_with(loop, proxy, arrived, limit=0.05 if spoiled else 10.0) or spoiled
    assert_prefixes(both)
    if not spoiled:
        for end in both:
            assert not end.protocol.lost
            assert end.transport.get_write_buffer_size() == 0


def end_them(loop: Loop, proxy: Proxy, both: list[End], ending: str) -> None:
    for end in both if ending == "close both" else both[:1]:
        getattr(end.transport, "abort" if ending == "abort" else "close")()
    if not run_with(loop, proxy, lambda: all(end.protocol.lost for end in both), limit=1.0):
        both[1].transport.close()  # the proxy lost what would have told it
        assert run_with(loop, proxy, lambda: all(end.protocol.lost for end in both))


def check_ends(both: list[End], spoiled: bool) -> None:
    assert_prefixes(both)
    for end in both:
        assert len(end.protocol.lost) == 1
        assert end.protocol.lost[0] is None or (
            spoiled and isinstance(end.protocol.lost[0], (ssl.SSLError, ConnectionError, TimeoutError))
        )
        told = [name for name in end.protocol.told if name in ("pause", "resume")]
        assert all(a != b for a, b in itertools.pairwise(told))
        assert told[:1] in ([], ["pause"])
        assert end.protocol.told.count("made") == 1
        assert end.protocol.told.count("eof") <= 1
        assert end.protocol.told[-1] == "lost"
