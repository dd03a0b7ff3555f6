"""loop.sock_recvfrom, sock_sendto, sock_connect, sock_accept, and what all of sock_* refuse."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.sock_calls import loop_now, waiting
from tests.api.support import only_pinloop, silent_address, turns
from tests.conftest import Run

Pair = tuple[socket.socket, socket.socket]


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
