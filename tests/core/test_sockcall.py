"""The calls of the sock_* methods: coroutines in all but their type, and how they end."""

import asyncio
import collections.abc
import gc
import inspect
import socket
import sys
import weakref
from typing import Any

import pytest

import pinloop
from pinloop import _core
from tests.core.sockcalls import Duck, cancel, finish, start
from tests.core.support import (
    run_python,
    run_until,
    socket_pair,
    tcp_pair,
)

Loop = Any  # with the methods that asyncio's type does not have
Pair = tuple[socket.socket, socket.socket]


# --------------------------------------------------------------- a coroutine --


def test_a_call_is_a_coroutine_to_asyncio(loop: Loop, pair: Pair) -> None:
    call = loop.sock_recv(pair[0], 1)
    assert asyncio.iscoroutine(call)
    assert inspect.isawaitable(call)
    assert isinstance(call, collections.abc.Coroutine)
    assert type(call) is _core.SocketCall
    assert (call.__name__, call.__qualname__) == ("sock_recv", "Loop.sock_recv")
    assert (call.cr_frame, call.cr_code, call.cr_origin) == (None, None, None)
    call.close()


def test_nothing_happens_before_the_first_await(loop: Loop, pair: Pair) -> None:
    near, far = pair
    call = loop.sock_sendall(near, b"x")
    with pytest.raises(BlockingIOError):
        far.recv(1)
    call.close()
    bad = loop.sock_recv(None, "no size")  # not even the arguments are looked at
    bad.close()


@pytest.mark.parametrize(
    "name",
    ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_accept"],
)
def test_a_call_never_awaited_warns(loop: Loop, pair: Pair, name: str) -> None:
    arguments = [] if name == "sock_accept" else [bytearray(1)]
    with pytest.warns(RuntimeWarning, match=f"coroutine 'Loop.{name}' was never awaited"):
        getattr(loop, name)(pair[0], *arguments)


def test_a_call_closed_before_it_began_does_not_warn(loop: Loop, pair: Pair) -> None:
    loop.sock_recv(pair[0], 1).close()


def test_a_call_is_awaited_once(loop: Loop, pair: Pair) -> None:
    near, far = pair

    async def twice(call: Any) -> None:
        assert await call == b"x"
        await call

    far.send(b"x")
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        loop.run_until_complete(twice(loop.sock_recv(near, 1)))


def test_a_call_that_waits_cannot_be_awaited_by_another(loop: Loop, pair: Pair) -> None:
    near, far = pair
    call = loop.sock_recv(near, 1)
    first = start(loop, call)

    async def second() -> None:
        await call

    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        loop.run_until_complete(second())
    far.send(b"x")
    assert finish(loop, first) == b"x"


def test_a_call_driven_by_hand(loop: Loop, pair: Pair) -> None:
    near, far = pair
    call = loop.sock_recv(near, 5)
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        call.send(1)
    future = call.send(None)
    assert asyncio.isfuture(future)
    assert call.cr_await is future
    assert call.cr_suspended
    assert not call.cr_running
    far.send(b"x")
    run_until(loop, future.done)
    with pytest.raises(StopIteration) as stopped:
        call.send(None)
    assert stopped.value.value == b"x"
    assert not call.cr_suspended


def test_a_call_by_hand_gives_a_tuple_whole(loop: Loop, pair: Pair) -> None:
    near, far = pair
    far.send(b"x")
    with pytest.raises(StopIteration) as stopped:
        next(loop.sock_recvfrom(near, 1))
    assert stopped.value.value[0] == b"x"


@pytest.mark.parametrize(
    "thrown",
    [
        (ValueError,),
        (ValueError("x"),),
        (ValueError, "x"),
        (ValueError, ValueError("x")),
        (ValueError, None, None),
    ],
)
def test_what_is_thrown_into_a_call_comes_out(loop: Loop, pair: Pair, thrown: tuple[Any, ...]) -> None:
    near, far = pair
    call = loop.sock_recv(near, 1)
    call.send(None)
    with pytest.raises(ValueError):
        call.throw(*thrown)
    far.send(b"x")
    assert loop.run_until_complete(loop.sock_recv(near, 5)) == b"x"
    with pytest.raises(RuntimeError):
        call.send(None)


def test_a_task_shows_what_it_waits_for(loop: Loop, pair: Pair) -> None:
    task = start(loop, loop.sock_recv(pair[0], 1))
    assert "Loop.sock_recv()" in repr(task)
    assert task.get_stack() == []
    task.print_stack(file=sys.stderr)
    cancel(loop, task)


def test_calls_come_from_the_loop_only() -> None:
    for cls in (_core.SocketCall, _core.SocketWatcher):
        with pytest.raises(TypeError):
            cls()
        assert "__new__" not in vars(cls)


def test_a_call_that_waits_is_collected_with_its_loop() -> None:
    loop: Loop = pinloop.new_event_loop()
    near, far = socket_pair()
    task = start(loop, loop.sock_recv(near, 1))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    gone = weakref.ref(near)
    loop.close()
    near.close()
    far.close()
    del task, near
    gc.collect()
    assert gone() is None


# --------------------------------------------------------------- faults, ends --


def test_a_loop_closed_with_calls_that_wait(no_fd_leak: None) -> None:
    loop: Loop = pinloop.new_event_loop()
    near, far = socket_pair()
    calls = [loop.sock_recv(near, 1) for _ in range(3)]
    for call in calls:
        call.send(None)
    gone = weakref.ref(loop)
    loop.close()
    for call in calls:
        call.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(near, 1).send(None)
    del loop, calls, call
    gc.collect()
    assert gone() is None
    near.close()
    far.close()


def test_an_fd_that_cannot_be_polled(loop: Loop) -> None:
    class File(Duck):
        def recv(self, size: int) -> bytes:
            raise BlockingIOError

        def gettimeout(self) -> float:
            return 0.0

    with open(__file__, "rb") as file:
        task = start(loop, loop.sock_recv(File(file), 1))  # type: ignore[arg-type]
        with pytest.raises(PermissionError):
            finish(loop, task)


def test_a_method_that_drives_its_own_call(loop: Loop) -> None:
    near, far = socket_pair()

    class Recursive(Duck):
        def recv(self, size: int) -> bytes:
            with pytest.raises(ValueError, match="coroutine already executing"):
                call.send(None)
            with pytest.raises(ValueError, match="coroutine already executing"):
                call.close()
            assert call.cr_running
            return b"x"

    call = loop.sock_recv(Recursive(near), 1)
    with pytest.raises(StopIteration):
        call.send(None)
    near.close()
    far.close()


def test_a_forked_child_is_refused() -> None:
    code = """
import os, socket, pinloop
loop = pinloop.new_event_loop()
near, far = socket.socketpair()
near.setblocking(False)
pid = os.fork()
if pid == 0:
    try:
        loop.run_until_complete(loop.sock_recv(near, 1))
    except RuntimeError as exc:
        os._exit(0 if "fork" in str(exc) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
loop.close()
near.close()
far.close()
print("refused")
"""
    assert run_python(code) == "refused\n"


def test_large_reads_do_not_grow_the_process(loop: Loop) -> None:
    near, far = tcp_pair()
    far.setblocking(False)
    total = 0
    sending = start(loop, loop.sock_sendall(far, bytes(20_000_000)))
    while total < 20_000_000:
        data = finish(loop, start(loop, loop.sock_recv(near, 256 * 1024)))
        assert sys.getsizeof(data) < len(data) + 100
        total += len(data)
    finish(loop, sending)
    near.close()
    far.close()
