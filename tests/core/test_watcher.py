"""add_reader and add_writer."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.support import run_python, run_until, socket_pair, turn


@pytest.fixture
def pair(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket_pair()
    yield near, far
    if not loop.is_closed():
        for sock in (near, far):
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
                loop.remove_writer(sock)
    near.close()
    far.close()


Pair = tuple[socket.socket, socket.socket]


def test_a_reader_is_called_with_its_arguments_while_there_is_something_to_read(
    loop: asyncio.AbstractEventLoop, pair: Pair
) -> None:
    near, far = pair
    got: list[Any] = []
    loop.add_reader(near, lambda *args: got.append(args), 1, "two")
    turn(loop)
    assert got == []
    far.send(b"x")
    turn(loop)
    turn(loop)
    assert got == [(1, "two")] * 2
    near.recv(1)
    turn(loop)
    assert len(got) == 2


def test_a_writer_is_called_while_there_is_room(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, _ = pair
    got: list[int] = []
    loop.add_writer(near, got.append, 1)
    turn(loop)
    assert got == [1]
    with pytest.raises(BlockingIOError):
        while True:
            near.send(b"x" * 65536)
    turn(loop)
    assert got == [1]


def test_both_on_one_fd(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, far = pair
    got: list[str] = []
    loop.add_reader(near, got.append, "read")
    loop.add_writer(near, got.append, "write")
    far.send(b"x")
    turn(loop)
    assert sorted(got) == ["read", "write"]
    assert loop.remove_writer(near)
    turn(loop)
    assert sorted(got) == ["read", "read", "write"]
    assert loop.remove_reader(near)
    turn(loop)
    assert len(got) == 3


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_new_callback_replaces_the_one_before(
    loop: asyncio.AbstractEventLoop, pair: Pair, kind: str
) -> None:
    near, far = pair
    got: list[int] = []
    far.send(b"x")
    getattr(loop, f"add_{kind}")(near, got.append, 1)
    getattr(loop, f"add_{kind}")(near, got.append, 2)
    turn(loop)
    assert got == [2]


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_remove_tells_whether_there_was_one(loop: asyncio.AbstractEventLoop, pair: Pair, kind: str) -> None:
    near, _ = pair
    add, remove = getattr(loop, f"add_{kind}"), getattr(loop, f"remove_{kind}")
    other = getattr(loop, "remove_writer" if kind == "reader" else "remove_reader")
    assert remove(near) is False
    add(near, int)
    assert other(near) is False
    assert remove(near) is True
    assert remove(near) is False


def test_a_callback_is_released_when_removed(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    import gc
    import weakref

    class Callback:
        def __call__(self) -> None: ...

    near, _ = pair
    first, second = Callback(), Callback()
    alive = [weakref.ref(first), weakref.ref(second)]
    loop.add_reader(near, first)
    loop.add_reader(near, second)
    del first, second
    gc.collect()
    assert alive[0]() is None
    loop.remove_reader(near)
    gc.collect()
    assert alive[1]() is None


def test_a_reader_that_takes_the_writer_away(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, far = pair
    got: list[str] = []
    loop.add_reader(near, lambda: (got.append("read"), loop.remove_writer(near)))
    loop.add_writer(near, got.append, "write")
    turn(loop)
    got.clear()
    far.send(b"x")
    turn(loop)
    assert got == ["read"]


def test_a_reader_that_replaces_the_writer(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, far = pair
    got: list[str] = []
    loop.add_reader(near, lambda: (near.recv(1), loop.add_writer(near, got.append, "new")))
    loop.add_writer(near, got.append, "old")
    far.send(b"x")
    turn(loop)
    assert got == []
    turn(loop)
    assert got == ["new"]


def test_a_callback_that_removes_itself(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, far = pair
    got: list[bool] = []
    loop.add_reader(near, lambda: got.append(loop.remove_reader(near)))
    far.send(b"x")
    turn(loop)
    turn(loop)
    assert got == [True]


def test_a_callback_that_takes_another_fds_callback_away(loop: asyncio.AbstractEventLoop) -> None:
    pairs = [socket_pair() for _ in range(2)]
    got: list[int] = []
    for i in range(2):
        loop.add_reader(pairs[i][0], lambda i=i: (got.append(i), loop.remove_reader(pairs[1 - i][0])))
        pairs[i][1].send(b"x")
    turn(loop)
    assert len(got) == 1
    loop.remove_reader(pairs[got[0]][0])
    for sock in (sock for each in pairs for sock in each):
        sock.close()


def test_a_fault_is_reported_and_the_fd_stays_watched(
    loop: asyncio.AbstractEventLoop, loop_errors: list[dict[str, Any]], pair: Pair
) -> None:
    near, far = pair
    loop.add_reader(near, int, "no number")
    far.send(b"x")
    turn(loop)
    turn(loop)
    assert [type(context["exception"]) for context in loop_errors] == [ValueError, ValueError]
    loop_errors.clear()


def test_an_exit_leaves_and_the_fd_stays_watched(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, far = pair

    def leave() -> None:
        raise SystemExit(3)

    loop.add_reader(near, leave)
    far.send(b"x")
    for _ in range(2):
        with pytest.raises(SystemExit):
            turn(loop)


def test_a_hang_up_is_readable_and_writable(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, far = pair
    got: list[str] = []
    loop.add_reader(near, got.append, "read")
    loop.add_writer(near, got.append, "write")
    far.close()
    turn(loop)
    assert sorted(got) == ["read", "write"]


def test_a_writer_alone_is_not_told_of_what_can_be_read(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    near, far = pair
    with pytest.raises(BlockingIOError):
        while True:
            near.send(b"x" * 65536)
    got: list[int] = []
    loop.add_writer(near, got.append, 1)
    far.send(b"x")
    turn(loop)
    assert got == []


# --------------------------------------------------------------------- bad input --

BAD: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "negative": (lambda: -1, ValueError),
    "very negative": (lambda: -(1 << 40), (ValueError, OverflowError)),
    "a string": (lambda: "0", ValueError),
    "None": (lambda: None, ValueError),
    "a float": (lambda: 1.0, ValueError),
    "an object": (object, ValueError),
    "beyond int": (lambda: 1 << 40, (OverflowError, OSError)),
}


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_fd_is_refused(loop: asyncio.AbstractEventLoop, method: str, kind: str) -> None:
    make, error = BAD[kind]
    args = (int,) if method.startswith("add") else ()
    with pytest.raises(error):
        getattr(loop, method)(make(), *args)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_a_closed_fd_is_an_oserror(loop: asyncio.AbstractEventLoop, method: str) -> None:
    near, far = os.pipe()
    os.close(near)
    os.close(far)
    with pytest.raises(OSError, match=f"fd {near}"):
        getattr(loop, method)(near, int)
    assert not loop.remove_reader(near)


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="ASan itself maps more than the limit")
@pytest.mark.parametrize("fd", [100_000_000, (1 << 30) + 1, (1 << 31) - 1])
def test_a_number_that_no_fd_can_have_costs_nothing(fd: int) -> None:
    out = run_python(
        """
import errno, sys, pinloop
loop = pinloop.new_event_loop()
for add in (loop.add_reader, loop.add_writer):
    try:
        add(int(sys.argv[1]), print)
    except OSError as exc:
        print(errno.errorcode[exc.errno])
print(loop.remove_reader(int(sys.argv[1])))
loop.close()
""",
        str(fd),
        timeout=10,
        memory=1 << 30,
    )
    assert out.split() == ["EBADF", "EBADF", "False"]


def test_a_regular_file_is_an_oserror(loop: asyncio.AbstractEventLoop) -> None:
    if not hasattr(__import__("select"), "epoll"):
        pytest.skip("kqueue can watch files")
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, int)
        assert not loop.remove_reader(file)


@pytest.mark.parametrize("callback", [None, 1, "f"])
def test_what_cannot_be_called_is_refused(
    loop: asyncio.AbstractEventLoop, pair: Pair, callback: object
) -> None:
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(TypeError):
            method(pair[0], callback)  # type: ignore[arg-type]


def test_a_closed_loop_refuses_to_add_and_has_nothing_to_remove(
    loop: asyncio.AbstractEventLoop, pair: Pair
) -> None:
    loop.add_reader(pair[0], int)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_reader(pair[0], int)
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_writer(pair[0], int)
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is False


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_an_fd_of_a_transport_is_refused_by_name(
    loop: asyncio.AbstractEventLoop, pair: Pair, method: str
) -> None:
    near, _ = pair
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, near))
    args = (int,) if method.startswith("add") else ()
    named = f"descriptor {near.fileno()} is used by transport.*StreamTransport"
    with pytest.raises(RuntimeError, match=named):
        getattr(loop, method)(near.fileno(), *args)
    transport.abort()
    turn(loop)
    turn(loop)


def test_an_fd_of_a_server_is_refused(loop: asyncio.AbstractEventLoop) -> None:
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    with pytest.raises(RuntimeError, match="is used by"):
        loop.add_reader(server.sockets[0].fileno(), int)
    server.close()


# ------------------------------------------------------- fds closed and used again --


def test_remove_after_the_fd_was_closed(loop: asyncio.AbstractEventLoop) -> None:
    near, far = os.pipe()
    loop.add_reader(near, int)
    loop.add_writer(far, int)
    os.close(near)
    os.close(far)
    assert loop.remove_reader(near)
    assert loop.remove_writer(far)
    turn(loop)


def test_a_number_removed_closed_and_opened_again(loop: asyncio.AbstractEventLoop) -> None:
    got: list[int] = []
    for i in range(5):
        near, far = os.pipe()
        loop.add_reader(near, got.append, i)
        os.write(far, b"x")
        turn(loop)
        loop.remove_reader(near)
        os.close(near)
        os.close(far)
    assert got == [0, 1, 2, 3, 4]


def test_the_same_open_file_at_a_number_whose_registration_was_orphaned(
    loop: asyncio.AbstractEventLoop,
) -> None:
    near, far = os.pipe()
    copy = os.dup(near)
    got: list[int] = []
    loop.add_reader(near, int)
    os.close(near)
    loop.remove_reader(near)  # too late: the kernel still has it, by the duplicate
    os.dup2(copy, near)
    loop.add_reader(near, got.append, 1)
    os.write(far, b"x")
    run_until(loop, lambda: got, limit=2)
    loop.remove_reader(near)
    for fd in (near, far, copy):
        os.close(fd)


def test_many_fds_at_once(loop: asyncio.AbstractEventLoop) -> None:
    pipes = [os.pipe() for _ in range(400)]
    got: list[int] = []

    def read(i: int) -> None:
        os.read(pipes[i][0], 1)
        got.append(i)

    for i, (near, far) in enumerate(pipes):
        loop.add_reader(near, read, i)
        os.write(far, b"x")
    run_until(loop, lambda: len(got) >= 400)
    turn(loop)
    assert sorted(got) == list(range(400))
    for near, far in pipes:
        assert loop.remove_reader(near)
        os.close(near)
        os.close(far)
