"""A connection that becomes TLS midway, against a model: no byte lost, repeated or out of order, no hang."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import pinloop
from tests.core.support import Recorder, run_until, socket_pair, tcp_pair, turn
from tests.core.test_stream_model import End, carry_out, connect, kinds, steps
from tests.tls import client_context, server_context

plans = st.lists(steps, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    before=plans,
    after=plans,
    first=kinds,
    second=kinds,
    tcp=st.booleans(),
    portable=st.booleans(),
    late=st.integers(0, 4),
    paused=st.booleans(),
)
def test_plain_bytes_each_way_and_then_tls(
    before: list[Any],
    after: list[Any],
    first: type[Recorder],
    second: type[Recorder],
    tcp: bool,
    portable: bool,
    late: int,
    paused: bool,
) -> None:
    loop = pinloop.new_event_loop()
    loop._set_portable_tls(portable)
    pair = tcp_pair() if tcp else socket_pair()
    pair[1].setblocking(False)
    both = [connect(loop, pair[i], kind, i) for i, kind in enumerate((first, second))]
    try:
        for step in before:
            carry_out(loop, both, step)
        let_everything_arrive(loop, both)
        upgrade(loop, both, late, paused)
        for step in after:
            carry_out(loop, both, step)
        let_everything_arrive(loop, both)
        both[0].transport.close()
        run_until(loop, lambda: all(end.protocol.lost for end in both))
        assert [end.protocol.lost for end in both] == [[None], [None]]
        assert [end.collect() for end in both] == [both[1].sent, both[0].sent]
    finally:
        for end in both:
            end.transport.abort()
        turn(loop)
        turn(loop)
        loop.close()


def let_everything_arrive(loop: asyncio.AbstractEventLoop, both: list[End]) -> None:
    for writer, reader in (both, both[::-1]):
        reader.transport.resume_reading()
        run_until(loop, lambda w=writer, r=reader: len(r.collect()) >= len(w.sent))
        assert reader.got == writer.sent


def upgrade(loop: asyncio.AbstractEventLoop, both: list[End], late: int, paused: bool) -> None:
    """start_tls on both ends, the server's some turns later: until then it must not read."""
    client, server = both
    if paused:
        client.transport.pause_reading()  # start_tls has to read all the same
    server.transport.pause_reading()

    async def of_client() -> Any:
        return await loop.start_tls(
            client.transport, client.protocol, client_context(), server_hostname="localhost"
        )

    async def of_server() -> Any:
        for _ in range(late):
            await asyncio.sleep(0)
        return await loop.start_tls(server.transport, server.protocol, server_context(), server_side=True)

    async def shake_hands() -> list[Any]:
        return await asyncio.gather(of_client(), of_server())

    for end, transport in zip(both, loop.run_until_complete(shake_hands()), strict=True):
        end.transport = end.protocol.transport = transport
