"""The native half of the sock_* methods: what they register, remember, queue and give back."""

import asyncio
import collections.abc
import gc
import inspect
import os
import socket
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import pinloop
from pinloop import _core
from tests.core.support import (
    EDGE,
    OTHER,
    READ,
    WRITE,
    Recorder,
    run_python,
    run_until,
    scripted,
    socket_pair,
    tcp_pair,
    turn,
)

Loop = Any  # with the methods that asyncio's type does not have
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[socket_pair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    near, far = request.param()
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


def start(loop: Loop, call: Any) -> asyncio.Task[Any]:
    """A task of `call` that has got as far as it can without the kernel."""
    task: asyncio.Task[Any] = loop.create_task(call)
    turn(loop)
    return task


def finish(loop: Loop, task: asyncio.Task[Any]) -> Any:
    run_until(loop, task.done)
    return task.result()


def cancel(loop: Loop, task: asyncio.Task[Any]) -> None:
    task.cancel()
    run_until(loop, task.done)
    assert task.cancelled()


def fill(sock: socket.socket) -> int:
    """Write until the kernel takes no more; how much it took."""
    size = 0
    try:
        while True:
            size += sock.send(bytes(65536))
    except BlockingIOError:
        return size


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


# ------------------------------------------------------------- registration --


class Kernel:
    """A loop on a scripted poller, which notes what is asked of it; events are told by hand."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self.loop, self.poller = scripted(iter(self._next, None))

    def _next(self) -> list[tuple[int, int]]:
        events, self.events = self.events, []
        return events

    def asked(self, sock: socket.socket) -> list[tuple[str, int]]:
        """The registrations of a socket, and forget them."""
        fd = sock.fileno()
        found = [(call[0], call[2]) for call in self.poller.calls if call[0] != "wait" and call[1] == fd]
        self.poller.calls.clear()
        return found

    def tell(self, sock: socket.socket, mask: int) -> None:
        self.events.append((sock.fileno(), mask))
        turn(self.loop)
        turn(self.loop)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.loop.close()


def test_the_registration_outlives_the_call(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    for byte in (b"1", b"2", b"3"):
        task = start(kernel.loop, kernel.loop.sock_recv(near, 5))
        far.send(byte)
        kernel.tell(near, READ)
        assert task.result() == byte
    assert kernel.asked(near) == [("add", READ | EDGE | OTHER)]


def test_a_call_that_need_not_wait_registers_nothing(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    far.send(b"x")
    assert start(kernel.loop, kernel.loop.sock_recv(near, 5)).result() == b"x"
    assert start(kernel.loop, kernel.loop.sock_sendall(near, b"y")).result() is None
    assert kernel.asked(near) == []


def test_each_direction_is_registered_when_it_is_waited_for(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    reading = start(kernel.loop, kernel.loop.sock_recv(near, 5))
    size = fill(near)
    writing = start(kernel.loop, kernel.loop.sock_sendall(near, b"end"))
    assert kernel.asked(near) == [("add", READ | EDGE | OTHER), ("modify", READ | WRITE | EDGE | OTHER)]
    while size:
        size -= len(far.recv(1 << 20))
    kernel.tell(near, WRITE)
    assert writing.done()
    assert not reading.done()
    assert far.recv(10) == b"end"
    far.send(b"x")
    kernel.tell(near, READ | WRITE)
    assert reading.result() == b"x"
    assert kernel.asked(near) == []


def test_what_nobody_asks_for_is_listened_for_no_longer(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    task = start(kernel.loop, kernel.loop.sock_recv(near, 1))
    far.send(b"123")
    kernel.tell(near, READ)
    assert task.result() == b"1"
    kernel.asked(near)
    kernel.tell(near, READ)
    assert kernel.asked(near) == [("remove", 0)] or kernel.asked(near) == []
    assert kernel.poller.registered.get(near.fileno()) is None
    for byte in (b"2", b"3"):
        assert start(kernel.loop, kernel.loop.sock_recv(near, 1)).result() == byte
    task = start(kernel.loop, kernel.loop.sock_recv(near, 1))
    assert kernel.poller.registered[near.fileno()][0] == READ | EDGE | OTHER
    cancel(kernel.loop, task)


def test_an_event_for_nothing_is_waited_out(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    task = start(kernel.loop, kernel.loop.sock_recv(near, 5))
    kernel.tell(near, READ)
    assert not task.done()
    far.send(b"x")
    kernel.tell(near, READ)
    assert task.result() == b"x"


def test_the_registration_ends_with_the_socket_object(kernel: Kernel) -> None:
    near, far = socket_pair()
    fd = near.fileno()
    cancel(kernel.loop, start(kernel.loop, kernel.loop.sock_recv(near, 5)))
    assert fd in kernel.poller.registered
    gone = weakref.ref(near)
    near.close()
    near = far
    gc.collect()
    assert gone() is None
    assert fd not in kernel.poller.registered
    far.close()


def test_a_socket_object_freed_while_the_loop_runs(loop: Loop) -> None:
    async def main() -> None:
        near, far = socket_pair()
        task = loop.create_task(loop.sock_recv(near, 5))
        await asyncio.sleep(0)
        far.send(b"x")
        assert await task == b"x"
        near.close()
        far.close()

    for _ in range(3):
        loop.run_until_complete(main())
        gc.collect()


def test_sockets_that_are_no_socket_are_registered_while_a_call_waits(kernel: Kernel) -> None:
    near, far = socket_pair()
    duck = Duck(near)
    task = start(kernel.loop, kernel.loop.sock_recv(duck, 5))
    assert kernel.asked(near) == [("add", READ)]
    far.send(b"x")
    kernel.tell(near, READ)
    assert task.result() == b"x"
    assert kernel.asked(near) == [("remove", READ)] or near.fileno() not in kernel.poller.registered
    near.close()
    far.close()


class Duck:
    """Has a socket's methods, as wrappers have, and no weak references."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_a_duck_does_all_that_a_socket_does(loop: Loop, pair: Pair) -> None:
    near, far = Duck(pair[0]), Duck(pair[1])
    data = os.urandom(3_000_000)
    sending = start(loop, loop.sock_sendall(near, bytearray(data)))
    got = b""
    while len(got) < len(data):
        got += finish(loop, start(loop, loop.sock_recv(far, 100_000)))
    assert got == data
    assert finish(loop, sending) is None
    buffer = bytearray(5)
    task = start(loop, loop.sock_recv_into(near, buffer))
    finish(loop, start(loop, loop.sock_sendall(far, b"abc")))
    assert finish(loop, task) == 3
    assert buffer == b"abc\0\0"


# ------------------------------------------------------- the number, reused --


def test_a_number_that_another_socket_got_is_registered_anew(loop: Loop) -> None:
    # The old object is kept: only its number is free.
    near, far = socket_pair()
    cancel(loop, start(loop, loop.sock_recv(near, 5)))
    fd = near.fileno()
    near.close()
    other, peer = socket_pair()
    if other.fileno() != fd:
        os.dup2(other.fileno(), fd)
        taken = socket.socket(fileno=fd)
        taken.setblocking(False)
        other.close()
        other = taken
    task = start(loop, loop.sock_recv(other, 5))
    peer.send(b"x")
    assert finish(loop, task) == b"x"
    for sock in (far, other, peer):
        sock.close()


def test_a_socket_object_at_the_same_address_is_another(loop: Loop) -> None:
    seen = set()
    for _ in range(50):
        near, far = socket_pair()
        seen.add((id(near), near.fileno()))
        task = start(loop, loop.sock_recv(near, 5))
        far.send(b"x")
        assert finish(loop, task) == b"x"
        cancel(loop, start(loop, loop.sock_recv(near, 5)))
        del task
        near.close()
        far.close()
        del near, far
    if len(seen) == 50:
        pytest.skip("the allocator gave no address a second time, as under ASan")


def test_a_detached_number_is_its_next_owners(loop: Loop) -> None:
    near, far = socket_pair()
    cancel(loop, start(loop, loop.sock_recv(near, 5)))
    again = socket.socket(fileno=near.detach())
    again.setblocking(False)
    task = start(loop, loop.sock_recv(again, 5))
    far.send(b"x")
    assert finish(loop, task) == b"x"
    again.close()
    far.close()


def test_a_call_on_a_socket_closed_meanwhile_never_touches_the_numbers_next_owner(loop: Loop) -> None:
    near, far = socket_pair()
    waiting = start(loop, loop.sock_recv(near, 5))
    fd = near.fileno()
    near.close()
    other, peer = socket_pair()
    assert fd in (other.fileno(), peer.fileno())
    mine, its = (other, peer) if other.fileno() == fd else (peer, other)
    task = start(loop, loop.sock_recv(mine, 5))
    its.send(b"for the new one")
    assert finish(loop, task) == b"for t"
    with pytest.raises(OSError, match="Bad file descriptor"):
        finish(loop, waiting)
    for sock in (far, other, peer):
        sock.close()


def test_two_objects_for_one_fd_take_turns(loop: Loop) -> None:
    near, far = socket_pair()
    other = socket.socket(fileno=near.fileno())
    other.setblocking(False)
    tasks = [start(loop, loop.sock_recv(sock, 1)) for sock in (near, other, near, other)]
    far.send(b"1234")
    assert [finish(loop, task) for task in tasks] == [b"1", b"2", b"3", b"4"]
    for sock in (near, other):
        task = start(loop, loop.sock_recv(sock, 1))
        far.send(b"x")
        assert finish(loop, task) == b"x"
    other.detach()
    near.close()
    far.close()


def test_a_call_whose_fd_a_transport_took_is_told(loop: Loop, pair: Pair) -> None:
    near, far = pair
    waiting = start(loop, loop.sock_recv(near, 5))
    protocol = Recorder()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: protocol, near))
    with pytest.raises(RuntimeError, match=rf"File descriptor {near.fileno()} is used by transport"):
        finish(loop, waiting)
    far.send(b"x")
    run_until(loop, lambda: protocol.got)
    assert protocol.got == b"x"
    transport.abort()
    run_until(loop, lambda: protocol.lost)


# ------------------------------------------------- add_reader on the same fd --


def test_a_reader_and_a_call_on_one_fd(loop: Loop, pair: Pair) -> None:
    near, far = pair
    told: list[int] = []
    loop.add_reader(near, told.append, 1)
    task = start(loop, loop.sock_recv(near, 1))
    far.send(b"12")
    assert finish(loop, task) == b"1"
    turn(loop)
    assert told  # level-triggered: the second byte is still there
    assert loop.remove_reader(near)
    assert not loop.remove_reader(near)
    told.clear()
    assert finish(loop, start(loop, loop.sock_recv(near, 5))) == b"2"
    task = start(loop, loop.sock_recv(near, 5))
    far.send(b"3")
    assert finish(loop, task) == b"3"
    assert told == []


def test_a_reader_added_while_a_call_waits(loop: Loop, pair: Pair) -> None:
    near, far = pair
    told: list[int] = []
    task = start(loop, loop.sock_recv(near, 1))
    loop.add_reader(near, told.append, 1)
    loop.add_writer(near, told.append, 2)
    turn(loop)
    assert told == [2]
    assert loop.remove_writer(near)
    far.send(b"12")
    assert finish(loop, task) == b"1"
    assert loop.remove_reader(near)
    assert finish(loop, start(loop, loop.sock_recv(near, 5))) == b"2"


def test_a_reader_removed_while_a_call_waits(loop: Loop, pair: Pair) -> None:
    near, far = pair
    told: list[int] = []
    loop.add_reader(near, told.append, 1)
    task = start(loop, loop.sock_recv(near, 1))
    assert loop.remove_reader(near)
    far.send(b"1")
    assert finish(loop, task) == b"1"
    assert told == []


# ---------------------------------------------------- short reads and edges --


def test_bytes_behind_urgent_ones_are_read_without_waiting_for_more(loop: Loop) -> None:
    near, far = tcp_pair()
    task = start(loop, loop.sock_recv(near, 100))
    far.send(b"before")
    assert finish(loop, task) == b"before"
    far.send(b"one")
    far.send(b"!", socket.MSG_OOB)
    far.send(b"two")
    got = b""
    while len(got) < 6:
        # A read stops at the urgent byte, and no further event would come.
        got += finish(loop, start(loop, loop.sock_recv(near, 100)))
    assert got == b"onetwo"
    near.close()
    far.close()


def test_the_end_that_came_with_the_last_bytes_is_seen(loop: Loop, pair: Pair) -> None:
    near, far = pair
    for _ in range(2):
        task = start(loop, loop.sock_recv(near, 100))
        far.send(b"x")
        assert finish(loop, task) == b"x"
    task = start(loop, loop.sock_recv(near, 100))
    far.send(b"last")
    far.shutdown(socket.SHUT_WR)
    assert finish(loop, task) == b"last"
    for _ in range(3):
        assert finish(loop, start(loop, loop.sock_recv(near, 100))) == b""


def test_a_reset_that_came_with_the_last_bytes_is_seen(loop: Loop) -> None:
    near, far = tcp_pair()
    task = start(loop, loop.sock_recv(near, 100))
    turn(loop)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with pytest.raises(ConnectionResetError, match=r"^\[Errno \d+\] Connection reset by peer$"):
        finish(loop, task)
    near.close()


def test_messages_that_keep_their_bounds_are_not_taken_for_an_empty_socket(loop: Loop) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    task = start(loop, loop.sock_recv(near, 100))
    for message in (b"one", b"two", b"three"):
        far.send(message)
    assert finish(loop, task) == b"one"
    assert finish(loop, start(loop, loop.sock_recv(near, 100))) == b"two"
    assert finish(loop, start(loop, loop.sock_recv(near, 100))) == b"three"
    near.close()
    far.close()


def test_a_blocking_socket_does_not_block_the_loop(loop: Loop) -> None:
    loop.set_debug(False)  # where it is refused
    near, far = socket_pair()
    near.setblocking(True)
    task = start(loop, loop.sock_recv(near, 5))
    far.send(b"x")
    assert finish(loop, task) == b"x"
    near.close()
    far.close()


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
