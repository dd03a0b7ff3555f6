"""loop.sock_recv, sock_sendall and their kin: streams."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.sock_calls import loop_now, receive, waiting
from tests.api.support import only_pinloop, tcp_pair, turns
from tests.conftest import Run

Pair = tuple[socket.socket, socket.socket]


# ------------------------------------------------------------------- streams --


def test_what_is_sent_is_received(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        assert await loop_now().sock_sendall(near, b"hello") is None
        assert await loop_now().sock_recv(far, 3) == b"hel"
        assert await loop_now().sock_recv(far, 100) == b"lo"

    run(main())


def test_a_receive_waits_for_bytes(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        for data in (b"first", b"second", b"third"):
            task = await waiting(loop_now().sock_recv(far, 100))
            await loop_now().sock_sendall(near, data)
            assert await task == data

    run(main())


def as_words(data: bytes) -> memoryview:
    return memoryview(data).cast("I")


@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        pytest.param(as_words, marks=only_pinloop),
    ],  # asyncio takes items for bytes
)
def test_a_large_send_waits_for_room(run: Run, pair: Pair, make: Callable[[bytes], Any]) -> None:
    async def main() -> None:
        near, far = pair
        data = os.urandom(20_000_000)
        task = await waiting(loop_now().sock_sendall(near, make(data)))
        assert await receive(far, len(data)) == data
        assert await task is None

    run(main())


@pytest.mark.parametrize("size", [1, 1000, 60_000, 300_000])
def test_any_size_can_be_asked_for(run: Run, pair: Pair, size: int) -> None:
    async def main() -> None:
        near, far = pair
        data = os.urandom(1_000_000 if size > 1 else 5000)
        task = loop_now().create_task(loop_now().sock_sendall(near, data))
        got = bytearray()
        while len(got) < len(data):
            part = await loop_now().sock_recv(far, size)
            assert 0 < len(part) <= size
            got += part
        assert got == data
        await task

    run(main())


def test_nothing_asked_for_is_nothing(run: Run, pair: Pair) -> None:
    async def main() -> None:
        assert await loop_now().sock_recv(pair[0], 0) == b""
        assert await loop_now().sock_recv_into(pair[0], bytearray()) == 0
        assert await loop_now().sock_sendall(pair[0], b"") is None

    run(main())


def test_a_receive_into_a_buffer(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        buffer = bytearray(10)
        task = await waiting(loop_now().sock_recv_into(far, memoryview(buffer)[2:]))
        await loop_now().sock_sendall(near, b"abc")
        assert await task == 3
        assert buffer == b"\0\0abc\0\0\0\0\0"
        del task
        buffer.clear()  # nobody holds it any more
        near.close()
        assert await loop_now().sock_recv_into(far, bytearray(1)) == 0

    run(main())


def test_the_end_is_told_each_time(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        task = await waiting(loop_now().sock_recv(far, 100))
        await loop_now().sock_sendall(near, b"last")
        near.shutdown(socket.SHUT_WR)
        assert await task == b"last"
        for _ in range(3):
            assert await loop_now().sock_recv(far, 100) == b""
        await loop_now().sock_sendall(far, b"still")
        assert await loop_now().sock_recv(near, 100) == b"still"

    run(main())


def test_a_receive_ends_when_the_peer_closes(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        task = await waiting(loop_now().sock_recv(far, 100))
        near.close()
        assert await task == b""

    run(main())


def test_a_send_fails_when_the_peer_closes(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        task = await waiting(loop_now().sock_sendall(near, bytes(10_000_000)))
        far.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task

    run(main())


def test_calls_work_as_tasks_and_under_timeouts(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop_now().sock_recv(far, 1), 0.001)
        async with asyncio.timeout(5):
            await loop_now().sock_sendall(near, b"x")
        results = await asyncio.gather(loop_now().sock_recv(far, 1), loop_now().sock_sendall(near, b"y"))
        assert results == [b"x", None]

    run(main())


def test_both_directions_at_once(run: Run, pair: Pair) -> None:
    async def main() -> None:
        data = [os.urandom(2_000_000) for _ in pair]
        sends = [loop_now().sock_sendall(sock, part) for sock, part in zip(pair, data, strict=True)]
        receives = [receive(sock, len(part)) for sock, part in zip(pair, reversed(data), strict=True)]
        _, _, *got = await asyncio.gather(*sends, *receives)
        assert got == data[::-1]

    run(main())


# -------------------------------------------------------- several on a socket --


@only_pinloop
def test_several_receives_on_a_socket_are_served_in_order(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        tasks = [await waiting(loop_now().sock_recv(far, 2)) for _ in range(5)]
        await loop_now().sock_sendall(near, b"0011223344")
        assert await asyncio.gather(*tasks) == [b"00", b"11", b"22", b"33", b"44"]

    run(main())


@only_pinloop
def test_several_sends_on_a_socket_do_not_mix(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        parts = [bytes([n]) * 1_000_000 for n in range(5)]
        tasks = [loop_now().create_task(loop_now().sock_sendall(near, part)) for part in parts]
        assert await receive(far, 5_000_000) == b"".join(parts)
        await asyncio.gather(*tasks)

    run(main())


@only_pinloop
@pytest.mark.parametrize("which", range(3))
def test_one_of_several_receives_is_cancelled(run: Run, pair: Pair, which: int) -> None:
    async def main() -> None:
        near, far = pair
        tasks = [await waiting(loop_now().sock_recv(far, 1)) for _ in range(3)]
        tasks.pop(which).cancel()
        await loop_now().sock_sendall(near, b"12")
        assert await asyncio.gather(*tasks) == [b"1", b"2"]

    run(main())


# -------------------------------------------------------------- cancellation --


def test_a_receive_cancelled_while_it_waits_leaves_what_comes(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        task = await waiting(loop_now().sock_recv(far, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await loop_now().sock_sendall(near, b"x")
        assert await loop_now().sock_recv(far, 1) == b"x"

    run(main())


@only_pinloop
@pytest.mark.parametrize("turns_before", range(5))
def test_a_receive_cancelled_as_its_bytes_come_loses_none(run: Run, pair: Pair, turns_before: int) -> None:
    async def main() -> None:
        near, far = pair
        task = await waiting(loop_now().sock_recv(far, 100))
        near.send(b"0123456789")
        await turns(turns_before)
        task.cancel()
        got = b""
        try:
            got = await task
        except asyncio.CancelledError:
            pass
        if not got:
            got = await asyncio.wait_for(loop_now().sock_recv(far, 100), 10)
        assert got == b"0123456789"

    run(main())


@only_pinloop
def test_a_receive_cancelled_between_wake_up_and_resume_hands_on(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        first = await waiting(loop_now().sock_recv(far, 100))
        second = await waiting(loop_now().sock_recv(far, 100))
        near.send(b"x")
        # Woken by the event, but not run yet: the callback comes before the task's step.
        while not first.get_coro().cr_await.done():  # type: ignore[union-attr]
            await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.wait_for(second, 10) == b"x"
        assert first.cancelled()

    run(main())


@only_pinloop
def test_an_accept_cancelled_as_a_connection_comes_loses_none(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            for turns_before in range(5):
                task = await waiting(loop_now().sock_accept(listener))
                with socket.create_connection(listener.getsockname()) as client:
                    await turns(turns_before)
                    task.cancel()
                    try:
                        conn, address = await task
                    except asyncio.CancelledError:
                        conn, address = await asyncio.wait_for(loop_now().sock_accept(listener), 10)
                    assert address == client.getsockname()
                    conn.close()

    run(main())


@only_pinloop
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sends=st.lists(st.integers(1, 300_000), min_size=1, max_size=8),
    asks=st.lists(st.integers(1, 300_000), min_size=1, max_size=8),
    cancels=st.lists(st.integers(0, 4) | st.none(), min_size=1, max_size=8),
    tcp=st.booleans(),
)
def test_no_byte_is_lost_repeated_or_reordered(
    run: Run, sends: list[int], asks: list[int], cancels: list[int | None], tcp: bool
) -> None:
    data = os.urandom(sum(sends))

    async def main() -> bytes:
        near, far = tcp_pair() if tcp else socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            sender = loop_now().create_task(send_parts(near))
            got = bytearray()
            step = 0
            while len(got) < len(data):
                # After some hundred small ones, large ones: a megabyte byte by byte is a matter of minutes.
                asked = asks[step % len(asks)] if step < 300 else 65536
                task = loop_now().create_task(loop_now().sock_recv(far, asked))
                patience = cancels[step % len(cancels)]
                step += 1
                if patience is not None and step < 200:
                    await turns(patience)
                    task.cancel()
                try:
                    got += await task
                except asyncio.CancelledError:
                    pass
            await sender
            return bytes(got)

    async def send_parts(sock: socket.socket) -> None:
        at = 0
        for size in sends:
            await loop_now().sock_sendall(sock, data[at : at + size])
            at += size

    assert run(main()) == data


# --------------------------------------------------------------- afterwards --


def test_a_socket_goes_to_a_transport_afterwards(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            task = await waiting(loop_now().sock_accept(listener))
            client = socket.socket()
            client.setblocking(False)
            await loop_now().sock_connect(client, listener.getsockname())
            conn, _ = await task
            for near, far in ((client, conn), (conn, client)):
                call = await waiting(loop_now().sock_recv(near, 10))
                await loop_now().sock_sendall(far, b"hello")
                assert await call == b"hello"
            reader, writer = await asyncio.open_connection(sock=conn)
            await loop_now().sock_sendall(client, b"to a stream")
            assert await reader.readexactly(11) == b"to a stream"
            writer.write(b"from a stream")
            assert await receive(client, 13) == b"from a stream"
            writer.close()
            await writer.wait_closed()
            assert await loop_now().sock_recv(client, 10) == b""
            client.close()

    run(main())


def test_a_listener_goes_to_a_server_afterwards(run: Run) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        task = await waiting(loop_now().sock_accept(listener))
        task.cancel()
        await turns(2)
        server = await asyncio.start_server(lambda reader, writer: writer.close(), sock=listener)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(main())


def test_many_sockets_leave_nothing_behind(run: Run) -> None:
    async def talk(pair: Pair) -> None:
        near, far = pair
        with near, far:
            for sock in pair:
                sock.setblocking(False)
            for size in (1, 5000):
                call = loop_now().create_task(receive(far, size))
                await asyncio.sleep(0)
                await loop_now().sock_sendall(near, bytes(size))
                assert await call == bytes(size)

    async def main() -> None:
        for _ in range(10):
            await asyncio.gather(*(talk(socket.socketpair()) for _ in range(100)))

    run(main())
