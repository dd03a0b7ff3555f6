"""Two transports over a socket pair against a model: no byte lost, repeated or out of order."""

import asyncio
import itertools
import socket
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import pinloop
from tests.core.support import BufferedRecorder, Recorder, run_until, socket_pair, tcp_pair, turn

sizes = st.sampled_from([0, 1, 7, 1000, 20_000, 33_000, 70_000, 150_000])
ends = st.integers(0, 1)
kinds = st.sampled_from([Recorder, BufferedRecorder])
limits = st.sampled_from([(0, 0), (10, 10), (1000, 10), (100_000, 0), (1 << 30, 0)])

steps = st.one_of(
    st.tuples(st.just("write"), ends, sizes, st.sampled_from(["bytes", "bytearray", "memoryview", "lines"])),
    st.tuples(st.just("write"), ends, sizes, st.just("bytes")),
    st.tuples(st.just("pause"), ends),
    st.tuples(st.just("resume"), ends),
    st.tuples(st.just("limits"), ends, limits),
    st.tuples(st.just("protocol"), ends, kinds),
    st.tuples(st.just("turns"), st.integers(1, 3)),
)
finish = st.lists(st.tuples(st.sampled_from(["eof", "close", "abort"]), ends), min_size=0, max_size=3)


@dataclass
class End:
    """One transport, and what the model knows of it."""

    transport: Any
    protocol: Recorder
    number: int
    sent: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    pressure: list[str] = field(default_factory=list)
    ended: str = ""

    def take_over(self, protocol: Recorder) -> None:
        """Use another protocol, which notes all in this object."""
        protocol.told, protocol.lost = self.protocol.told, self.protocol.lost
        protocol.keep_open, protocol.transport = True, self.transport
        self.collect()
        self.protocol = protocol
        self.transport.set_protocol(protocol)

    def collect(self) -> bytearray:
        self.got += self.protocol.got
        self.protocol.got = b""
        return self.got

    def write(self, size: int, kind: str) -> None:
        start = len(self.sent)
        data = bytes((start + i * 7 + self.number) & 0xFF for i in range(min(size, 256)))
        data = (data * (size // 256 + 1))[:size] if data else b""
        if kind == "bytes":
            self.transport.write(data)
        elif kind == "bytearray":
            changing = bytearray(data)
            self.transport.write(changing)
            changing[:] = bytes(len(changing))
        elif kind == "memoryview":
            self.transport.write(memoryview(data))
        else:
            self.transport.writelines([data[:5], bytearray(data[5:100]), data[100:]])
        self.sent += data


@settings(max_examples=400, deadline=None)
@given(
    plan=st.lists(steps, max_size=30),
    ending=finish,
    first=kinds,
    second=kinds,
    sockets=st.sampled_from(["unix", "small unix", "tcp"]),
)
def test_a_byte_stream_each_way(
    plan: list[Any], ending: list[Any], first: type[Recorder], second: type[Recorder], sockets: str
) -> None:
    loop = pinloop.new_event_loop()
    pair = tcp_pair() if sockets == "tcp" else socket_pair(4096 if sockets == "small unix" else None)
    both = [connect(loop, pair[i], kind, i) for i, kind in enumerate((first, second))]
    try:
        for step in plan:
            carry_out(loop, both, step)
        for action, number in ending:
            end_one(loop, both[number], action)
        check(loop, both)
    finally:
        for end in both:
            end.transport.abort()
        turn(loop)
        turn(loop)
        loop.close()


def connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, kind: type[Recorder], number: int) -> End:
    protocol = kind(keep_open=True)
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: protocol, sock))
    return End(transport, protocol, number)


def carry_out(loop: asyncio.AbstractEventLoop, both: list[End], step: Any) -> None:
    name, *args = step
    if name == "turns":
        for _ in range(args[0]):
            turn(loop)
        return
    end = both[args[0]]
    if name == "write":
        end.write(args[1], args[2])
    elif name == "pause":
        end.transport.pause_reading()
    elif name == "resume":
        end.transport.resume_reading()
    elif name == "limits":
        end.transport.set_write_buffer_limits(*args[1])
    elif name == "protocol":
        end.take_over(args[1]())


def end_one(loop: asyncio.AbstractEventLoop, end: End, action: str) -> None:
    order = ["", "eof", "close", "abort"]
    if action == "eof":
        end.transport.write_eof()
    elif action == "close":
        end.transport.close()
    else:
        end.transport.abort()
    end.ended = max(end.ended, action, key=order.index)


def check(loop: asyncio.AbstractEventLoop, both: list[End]) -> None:
    """Let everything arrive that can, then compare with what was written."""
    for end in both:
        end.transport.resume_reading()
        if not end.ended:
            end_one(loop, end, "eof")
    for writer, reader in (both, both[::-1]):
        if reader.ended in ("close", "abort"):  # nobody reads any more: a prefix at most
            continue
        run_until(loop, lambda reader=reader: "eof" in reader.protocol.told or reader.protocol.lost)
        if writer.ended == "abort" or reader.protocol.lost:
            assert writer.sent.startswith(reader.collect())
        else:
            assert reader.collect() == writer.sent
    for writer, reader in (both, both[::-1]):
        assert writer.sent.startswith(reader.collect())
        if writer.ended in ("close", "abort"):
            reader.transport.abort()  # else a closing writer waits for it to read
            run_until(loop, lambda writer=writer: writer.protocol.lost)
            assert len(writer.protocol.lost) == 1
        told = [name for name in writer.protocol.told if name in ("pause", "resume")]
        assert all(a != b for a, b in itertools.pairwise(told))
        assert told[:1] in ([], ["pause"])
        assert writer.protocol.told.count("eof") <= 1
