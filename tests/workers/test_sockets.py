"""Sockets as arguments: the worker has one of its own, and nothing is left of those that did not arrive."""

import asyncio
import os
import socket
import threading

import pytest

from pinloop.workers import Unpicklable, Workers, sockets
from tests.conftest import open_fds
from tests.workers import jobs
from tests.workers.conftest import Use, here


@here
def test_a_listener_and_its_connections(use: Use) -> None:
    async def test(pool: Workers) -> None:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.create_server((host, 0), family=family) as listener:
                address = listener.getsockname()
                call = pool[0].submit(jobs.serve_one, listener)
                reader, writer = await asyncio.open_connection(*address[:2])
                writer.write(b"hello")
                assert await reader.read() == b"HELLO"
                writer.close()
                await writer.wait_closed()
                assert await call == f"{family.name} SOCK_STREAM"
                assert (listener.fileno() >= 0) == (pool.backend == "process")

    use(test)


@pytest.fixture
def segments(shared: tuple[asyncio.Runner, Workers]) -> None:
    """The shared memory that a pool keeps is there already: before Python 3.13 a descriptor goes with it."""
    runner, pool = shared
    runner.run(pool[0].run(jobs.echo, bytes(1_000_000)))


@here
@pytest.mark.usefixtures("pickling", "segments", "no_fd_leak")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_several_with_other_arguments(use: Use, size: int) -> None:
    async def test(pool: Workers) -> None:
        (a, a2), (b, b2) = socket.socketpair(), socket.socketpair()
        with a, a2, b, b2:
            b.settimeout(3.5)
            files = await pool[0].run(jobs.open_files)
            assert await pool[0].run(jobs.send_on, a, "text", b, bytes(size)) == [None, 3.5, size]
            a.close()
            b.close()
            assert a2.recv(10) == b"text" and a2.recv(10) == b""
            assert b2.recv(10) == b"txet" and b2.recv(10) == b""
            assert await pool[0].run(jobs.open_files) == files

    use(test)


@here
@pytest.mark.usefixtures("pickling", "no_fd_leak")
def test_when_the_call_fails_none_is_left(use: Use) -> None:
    async def test(pool: Workers) -> None:
        a, b = socket.socketpair()
        with b:
            files = len(await pool[0].run(jobs.open_files))
            with pytest.raises(Unpicklable, match=r"argument 2 .*lock"):
                await pool[0].run(jobs.boom_with, a, threading.Lock())
            with pytest.raises(Unpicklable, match="it went off"):
                await pool[0].run(jobs.boom_with, a, jobs.Explosive())
            assert len(await pool[0].run(jobs.open_files)) == files
            a.close()
            assert b.recv(1) == b""
            with pytest.raises(Unpicklable, match="is closed"):
                await pool[0].run(jobs.boom_with, a, 1)

    use(test)


@here
@pytest.mark.usefixtures("pickling")
def test_more_than_can_be_on_their_way(use: Use) -> None:
    async def test(pool: Workers) -> None:
        a, b = socket.socketpair()
        with a, b:
            with pytest.raises(Unpicklable, match="251 descriptors cannot be sent now"):
                await pool[0].run(max, *[a] * 251)
            # Many calls at once: each arrives, or says that it could not be sent.
            calls = [pool[0].submit(jobs.kind_of, a) for _ in range(2000)]
            await asyncio.wait(calls)
            ends = {type(call.exception()) for call in calls}
            assert ends <= {type(None), Unpicklable} and type(None) in ends
            assert await pool[0].run(jobs.kind_of, a) == "socket"

    use(test)


def test_descriptors_that_nobody_takes_are_closed() -> None:
    before = open_fds()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    listed = list(fds)
    assert sockets.unpack((1, 2), listed) == (1, 2)
    assert listed == [] and open_fds() == before
