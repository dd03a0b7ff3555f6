"""Endpoints on one loop against a model: what one sent to another arrives once, whole and in order."""

import asyncio
import socket
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import pinloop
from tests.core.datagrams import Datagrams
from tests.core.support import run_until, turn

sizes = st.sampled_from(
    [1, 2, 2, 2, 50, 50, 50, 51, 1200, 1200, 9000, *([0, 0] if sys.version_info >= (3, 13) else [])]
)
ends = st.integers(0, 3)
kinds = st.sampled_from(["bytes", "bytes", "bytearray", "memoryview"])
ways = st.sampled_from(["tuple", "same tuple", "reply", "name"])

steps = st.one_of(
    st.tuples(st.just("send"), ends, ends, sizes, st.integers(1, 12), kinds, ways),
    st.tuples(st.just("send"), ends, ends, sizes, st.integers(1, 12), kinds, ways),
    st.tuples(st.just("too large"), ends, ends),
    st.tuples(st.just("protocol"), ends),
    st.tuples(st.just("limits"), ends, st.sampled_from([0, 100, 100_000])),
    st.tuples(st.just("turns"), st.integers(1, 3)),
)


ROOM = 150_000  # bytes that may wait in a receiver's buffer: Linux's usual one holds 212,992


@dataclass
class End:
    """One endpoint, and what the model knows of it."""

    transport: Any
    protocol: Datagrams
    name: Any
    due: dict[Any, list[bytes]] = field(default_factory=lambda: defaultdict(list))  # by sender's name
    got: dict[Any, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0
    room: int = ROOM

    def collect(self) -> None:
        for data, address in self.protocol.got:
            self.got[address].append(data)
        self.protocol.got.clear()

    def complete(self) -> bool:
        self.collect()
        return all(len(self.got[name]) >= len(data) for name, data in self.due.items())


def address(sender: End, receiver: End, way: str) -> Any:
    """The receiver's address as one of the objects that may stand for it."""
    if way == "same tuple":
        return receiver.name
    if way == "reply":  # as a datagram from there had it
        for _, found in sender.protocol.got:
            if found == receiver.name:
                return found
    if way == "name" and len(receiver.name) == 2:
        return ("localhost", receiver.name[1])
    return receiver.name[:1] + receiver.name[1:]  # an equal one


def carry_out(loop: asyncio.AbstractEventLoop, all_ends: list[End], step: Any) -> None:
    name, *args = step
    if name == "turns":
        for _ in range(args[0]):
            turn(loop)
        return
    end = all_ends[args[0]]
    if name == "send":
        send(end, receiver := all_ends[args[1]], *args[2:])
        receiver.room -= args[3] * (3 * args[2] + 1000)
        if receiver.room < 0:
            run_until(loop, receiver.complete)
            receiver.room = ROOM
    elif name == "too large":
        end.transport.sendto(bytes(66_000), all_ends[args[1]].name)
        end.refused += 1
    elif name == "protocol":
        end.collect()
        end.protocol, old = Datagrams(), end.protocol
        end.protocol.errors = old.errors
        end.transport.set_protocol(end.protocol)
    elif name == "limits":
        end.transport.set_write_buffer_limits(args[1])


def send(sender: End, receiver: End, size: int, count: int, kind: str, way: str) -> None:
    due = receiver.due[sender.name]
    for _ in range(count):
        number = len(due)
        data = (b"%d " % number * size)[:size]
        due.append(data)
        sent: Any = data
        if kind != "bytes":
            sent = bytearray(data)
        sender.transport.sendto(
            memoryview(sent) if kind == "memoryview" else sent, address(sender, receiver, way)
        )
        if kind != "bytes":
            sent[:] = bytes(len(sent))


def make(loop: asyncio.AbstractEventLoop, host: str) -> End:
    transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, (host, 0)))
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    return End(transport, protocol, transport.get_extra_info("sockname"))


@settings(max_examples=300, deadline=None)
@given(
    plan=st.lists(steps, max_size=25),
    closing=st.lists(ends, max_size=2),
    host=st.sampled_from(["127.0.0.1", "::1"]),
)
def test_datagrams_between_four_endpoints(plan: list[Any], closing: list[int], host: str) -> None:
    loop = pinloop.new_event_loop()
    all_ends = [make(loop, host) for _ in range(4)]
    try:
        for step in plan:
            carry_out(loop, all_ends, step)
        for number in closing:  # what was sent still leaves
            all_ends[number].transport.close()
        for number, end in enumerate(all_ends):
            if number not in closing:
                run_until(loop, end.complete)
            turn(loop)
            end.collect()
            for name, data in end.got.items():
                assert data == end.due[name][: len(data)]
            assert len(end.protocol.errors) == end.refused
    finally:
        for end in all_ends:
            end.transport.abort()
        turn(loop)
        turn(loop)
        loop.close()
