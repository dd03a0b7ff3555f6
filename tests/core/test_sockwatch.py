"""The watchers of the sock_* methods: what they register, remember, queue and give back."""

import asyncio
import gc
import os
import socket
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.sockcalls import Duck, cancel, fill, finish, start
from tests.core.support import (
    EDGE,
    OTHER,
    READ,
    WRITE,
    Recorder,
    run_until,
    scripted,
    socket_pair,
    tcp_pair,
    turn,
)

Loop = Any  # with the methods that asyncio's type does not have
Pair = tuple[socket.socket, socket.socket]


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
