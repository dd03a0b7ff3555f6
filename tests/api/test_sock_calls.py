"""loop.sock_recv, sock_sendall and their kin."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.support import only_pinloop, silent_address, tcp_pair, turns
from tests.conftest import Run

Pair = tuple[socket.socket, socket.socket]


def unix_pair() -> Pair:
    return socket.socketpair()


@pytest.fixture(params=[unix_pair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two connected non-blocking sockets."""
    sockets: Pair = request.param()
    for sock in sockets:
        sock.setblocking(False)
    yield sockets
    for sock in sockets:
        sock.close()


def datagram_pair(family: socket.AddressFamily, folder: Any) -> Pair:
    """Two non-blocking datagram sockets with addresses, not connected."""
    sockets = []
    for name in ("a", "b"):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if family == socket.AF_UNIX:
            sock.bind(str(folder / name))
        else:
            sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        sockets.append(sock)
    return sockets[0], sockets[1]


def loop_now() -> Any:
    return asyncio.get_running_loop()


async def receive(sock: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        part = await loop_now().sock_recv(sock, 65536)
        assert part, "the end"
        got += part
    return bytes(got)


async def waiting(call: Any) -> asyncio.Task[Any]:
    """A task of `call` that waits for the kernel."""
    task: asyncio.Task[Any] = loop_now().create_task(call)
    await turns(3)
    assert not task.done()
    return task


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
        near, far = tcp_pair() if tcp else unix_pair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            sender = loop_now().create_task(send_parts(near))
            got = bytearray()
            step = 0
            while len(got) < len(data):
                task = loop_now().create_task(loop_now().sock_recv(far, asks[step % len(asks)]))
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


# ------------------------------------------------------------------ datagrams --


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=["ipv4", "ipv6", "unix"])
def datagrams(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Pair]:
    sockets = datagram_pair(request.param, tmp_path)
    yield sockets
    for sock in sockets:
        sock.close()


def test_datagrams_there_and_back(run: Run, datagrams: Pair) -> None:
    async def main() -> None:
        near, far = datagrams
        for data in (b"one", b"two", b""):
            task = await waiting(loop_now().sock_recvfrom(far, 100))
            assert await loop_now().sock_sendto(near, data, far.getsockname()) == len(data)
            assert await task == (data, near.getsockname())
        buffer = bytearray(10)
        task = await waiting(loop_now().sock_recvfrom_into(near, buffer))
        await loop_now().sock_sendto(far, b"three", near.getsockname())
        assert await task == (5, far.getsockname())
        assert buffer == b"three\0\0\0\0\0"
        await loop_now().sock_sendto(far, b"four", near.getsockname())
        assert await loop_now().sock_recvfrom_into(near, buffer, 2) == (2, far.getsockname())
        assert buffer == b"foree\0\0\0\0\0"

    run(main())


def test_datagrams_that_wait_together_are_received_one_by_one(run: Run, datagrams: Pair) -> None:
    async def main() -> None:
        near, far = datagrams
        task = await waiting(loop_now().sock_recvfrom(far, 100))
        for n in range(5):
            await loop_now().sock_sendto(near, b"%d" % n, far.getsockname())
        assert (await task)[0] == b"0"
        for n in range(1, 5):
            assert (await loop_now().sock_recvfrom(far, 100))[0] == b"%d" % n

    run(main())


def test_a_datagram_waits_for_room(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        near, far = datagram_pair(socket.AF_UNIX, tmp_path)
        with near, far:
            tasks = []
            while not tasks or tasks[-1].done():
                tasks.append(loop_now().create_task(loop_now().sock_sendto(near, b"x", far.getsockname())))
                await turns(2)
            for _ in tasks:
                assert (await loop_now().sock_recvfrom(far, 10))[0] == b"x"
            assert await asyncio.gather(*tasks) == [1] * len(tasks)

    run(main())


# ------------------------------------------------------- connect and accept --


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_connect_and_accept(run: Run, host: str) -> None:
    async def main() -> None:
        family = socket.AF_INET6 if host == "::1" else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener:
            listener.setblocking(False)
            task = await waiting(loop_now().sock_accept(listener))
            with socket.socket(family) as client:
                client.setblocking(False)
                assert await loop_now().sock_connect(client, (host, listener.getsockname()[1])) is None
                conn, address = await task
                with conn:
                    assert address == client.getsockname()
                    assert type(conn) is socket.socket
                    assert (conn.family, conn.type) == (listener.family, listener.type)
                    assert conn.gettimeout() == 0
                    assert not os.get_blocking(conn.fileno())
                    assert not conn.get_inheritable()
                    await loop_now().sock_sendall(client, b"x")
                    assert await loop_now().sock_recv(conn, 1) == b"x"

    run(main())


def test_connect_and_accept_by_path(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        path = str(tmp_path / "listener")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.setblocking(False)
            for address in (path, os.fsencode(path)):
                task = await waiting(loop_now().sock_accept(listener))
                with socket.socket(socket.AF_UNIX) as client:
                    client.setblocking(False)
                    await loop_now().sock_connect(client, address)
                    conn, name = await task
                    assert name == ""
                    assert conn.gettimeout() == 0
                    conn.close()

    run(main())


def test_connections_that_wait_together_are_all_accepted(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            task = await waiting(loop_now().sock_accept(listener))
            clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
            accepted = [await task] + [await loop_now().sock_accept(listener) for _ in range(4)]
            assert [address for _, address in accepted] == [client.getsockname() for client in clients]
            for sock in clients + [conn for conn, _ in accepted]:
                sock.close()

    run(main())


def test_a_refused_connect_names_the_address(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = unused.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError, match="Connect call failed") as refused:
                await loop_now().sock_connect(client, address)
            assert str(address) in str(refused.value)

    run(main())


def test_a_connect_is_cancelled(run: Run) -> None:
    async def main() -> None:
        with silent_address() as address, socket.socket() as client:
            client.setblocking(False)
            task = await waiting(loop_now().sock_connect(client, address))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


@only_pinloop
def test_a_connect_waits_for_a_place_in_a_unix_listeners_queue(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        path = str(tmp_path / "listener")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(0)
            listener.setblocking(False)
            clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
            tasks = []
            for client in clients:
                client.setblocking(False)
                tasks.append(loop_now().create_task(loop_now().sock_connect(client, path)))
            accepted = [(await loop_now().sock_accept(listener))[0] for _ in clients]
            await asyncio.gather(*tasks)
            for client in clients:
                await loop_now().sock_sendall(client, b"x")
            for conn in accepted:
                assert await loop_now().sock_recv(conn, 1) == b"x"
            for sock in clients + accepted:
                sock.close()

    run(main())


# ---------------------------------------------------------------- bad input --


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_socket(run: Run, name: str) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        with pytest.raises(OSError) as failed:
            await CALLS[name](loop_now(), sock)
        assert failed.value.errno == errno.EBADF

    run(main(), debug=False)


@pytest.mark.parametrize("name", CALLS)
def test_debug_mode_refuses_a_blocking_socket(run: Run, name: str) -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="the socket must be non-blocking"):
            await CALLS[name](loop_now(), sock)

    run(main(), debug=True)


@pytest.mark.parametrize("name", CALLS)
def test_a_tls_socket(run: Run, name: str) -> None:
    async def main() -> None:
        context = ssl.create_default_context()
        with (
            socket.socket() as sock,
            context.wrap_socket(sock, server_hostname="localhost") as wrapped,
            pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"),
        ):
            await CALLS[name](loop_now(), wrapped)

    run(main())


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda loop, sock: loop.sock_recv(sock, -1), ValueError),
        (lambda loop, sock: loop.sock_recv(sock, "1"), TypeError),
        (lambda loop, sock: loop.sock_recv(sock, 1.0), TypeError),
        (lambda loop, sock: loop.sock_recv(sock, None), TypeError),
        (lambda loop, sock: loop.sock_recv(sock, 1 << 70), OverflowError),
        (lambda loop, sock: loop.sock_recv_into(sock, b"x"), TypeError),
        (lambda loop, sock: loop.sock_recv_into(sock, "x"), TypeError),
        (lambda loop, sock: loop.sock_recvfrom(sock, -1), ValueError),
        (lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), -1), ValueError),
        (lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), 2), ValueError),
        (lambda loop, sock: loop.sock_recvfrom_into(sock, None), TypeError),
        (lambda loop, sock: loop.sock_sendall(sock, "x"), TypeError),
        (lambda loop, sock: loop.sock_sendall(sock, None), TypeError),
        (lambda loop, sock: loop.sock_sendall(sock, memoryview(b"abcd")[::2]), BufferError),
        (lambda loop, sock: loop.sock_sendto(sock, "x", ("127.0.0.1", 9)), TypeError),
    ],
)
def test_bad_arguments(run: Run, pair: Pair, call: Callable[[Any, Any], Any], error: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(error):
            await call(loop_now(), pair[0])
        await loop_now().sock_sendall(pair[1], b"x")
        assert await loop_now().sock_recv(pair[0], 1) == b"x"

    run(main())


@pytest.mark.parametrize("name", sorted(CALLS))
def test_missing_and_surplus_arguments(loop: Any, name: str) -> None:
    with pytest.raises(TypeError):
        getattr(loop, name)()
    with pytest.raises(TypeError):
        getattr(loop, name)(None, None, None, None, None)


@only_pinloop
def test_a_socket_that_a_transport_uses(run: Run, pair: Pair) -> None:
    async def main() -> None:
        near, _ = pair
        transport, _ = await loop_now().connect_accepted_socket(asyncio.Protocol, near)
        for call in (loop_now().sock_recv(near, 1), loop_now().sock_sendall(near, b"x")):
            with pytest.raises(RuntimeError, match=rf"File descriptor {near.fileno()} is used by transport"):
                await call
        transport.abort()
        await turns(3)

    run(main())


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
            await asyncio.gather(*(talk(unix_pair()) for _ in range(100)))

    run(main())
