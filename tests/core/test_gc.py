"""Nothing is left behind: loops dropped without close, loops by the thousand, connections by the hundred."""

import asyncio
import collections
import contextlib
import gc
import os
import socket
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pinloop
from tests.core.support import Connect, Recorder, run_until, socket_pair, turn


def fds() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def tracked() -> collections.Counter[str]:
    """What the collector tracks, by type."""
    gc.collect()
    return collections.Counter(type(each).__name__ for each in gc.get_objects())


def grown(before: collections.Counter[str]) -> dict[str, int]:
    """The types of which there are more now, but for less than a leak of one in each round would make."""
    after = tracked()
    return {name: after[name] - before[name] for name in after if after[name] - before[name] > 100}


# ----------------------------------------------------------- dropped without close --


async def sleeper() -> None:
    await asyncio.sleep(3600)


def with_transport(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, paused: bool = False, knows_loop: bool = False
) -> None:
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(Recorder, sock))
    transport.write(b"unsent")
    if paused:
        transport.pause_reading()
    if knows_loop:
        transport.my_loop = loop  # type: ignore[attr-defined]


def with_task(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    task = loop.create_task(sleeper())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    turn(loop)


def with_run_handles(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    for _ in range(100):
        loop.call_soon(loop.is_closed)
        loop.call_later(0, loop.is_closed)
    turn(loop)


PENDING: dict[str, Callable[[Any, socket.socket], object]] = {
    "nothing": lambda loop, sock: None,
    "an attribute that is the loop": lambda loop, sock: setattr(loop, "me", loop),
    "call_soon": lambda loop, sock: loop.call_soon(loop.stop),
    "call_soon with arguments": lambda loop, sock: loop.call_soon(print, loop, loop),
    "call_later": lambda loop, sock: loop.call_later(3600, loop.stop),
    "a cancelled timer": lambda loop, sock: loop.call_later(3600, loop.stop).cancel(),
    "call_soon_threadsafe": lambda loop, sock: loop.call_soon_threadsafe(loop.stop),
    "a reader": lambda loop, sock: loop.add_reader(sock, loop.stop),
    "a writer": lambda loop, sock: loop.add_writer(sock, loop.stop),
    "a transport": with_transport,
    "a paused transport": lambda loop, sock: with_transport(loop, sock, paused=True),
    "a transport that knows the loop": lambda loop, sock: with_transport(loop, sock, knows_loop=True),
    "a task": with_task,
    "handles that ran": with_run_handles,
    "an exception handler": lambda loop, sock: loop.set_exception_handler(lambda *_: loop),
    "a task factory": lambda loop, sock: loop.set_task_factory(lambda *_: loop),
    "a signal pipe": lambda loop, sock: turn(loop),
}


class Dropped(pinloop.Loop):
    """A loop that can be told from the others."""


def still_there() -> list[object]:
    """The Dropped loops that were not collected. A weak reference would not tell: it dies first."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Dropped]


@contextlib.contextmanager
def warnings_told() -> Iterator[list[tuple[type[Warning], str]]]:
    """Category and text of the warnings; the records of catch_warnings would keep their source alive."""
    told: list[tuple[type[Warning], str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda text, category, *_: told.append((category, str(text)))
        yield told


@pytest.mark.parametrize("kind", PENDING)
def test_a_loop_dropped_without_close_is_collected_with_a_warning(kind: str, no_fd_leak: None) -> None:
    near, peer = socket_pair()
    loop = Dropped()
    PENDING[kind](loop, near)
    with warnings_told() as told:
        del loop
        assert still_there() == []
    near.close()
    peer.close()
    assert any("unclosed event loop" in text for _, text in told)
    assert {category for category, _ in told} == {ResourceWarning}


@pytest.mark.parametrize("kind", [kind for kind in PENDING if "transport" not in kind])
def test_a_closed_loop_is_collected_without_a_warning(kind: str, no_fd_leak: None) -> None:
    near, peer = socket_pair()
    loop = Dropped()
    PENDING[kind](loop, near)
    loop.close()
    del loop
    assert still_there() == []
    near.close()
    peer.close()


def test_a_closed_loop_goes_without_the_collector(no_fd_leak: None) -> None:
    loop = pinloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    assert gone() is None


def test_a_callback_that_drops_the_last_reference_to_its_running_loop(no_fd_leak: None) -> None:
    box = [Dropped()]

    def drop() -> None:
        loop = box.pop()
        loop.call_soon(loop.stop)
        del loop
        gc.collect()

    box[0].call_soon(drop)
    with warnings_told():
        box[0].run_forever()
        assert still_there() == []


# ------------------------------------------------------------------------- by the many --


@pytest.mark.parametrize("use", [lambda loop: None, turn, lambda loop: loop.call_later(9, loop.stop)])
def test_loops_made_and_closed_by_the_thousand_leave_nothing(use: Callable[[Any], object]) -> None:
    def once() -> None:
        loop = pinloop.new_event_loop()
        use(loop)
        loop.close()

    for _ in range(10):
        once()
    open_before, before = fds(), tracked()
    for _ in range(700):
        once()
    assert grown(before) == {}
    assert fds() == open_before


def test_runners_leave_nothing() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    for _ in range(5):
        pinloop.run(main())
    open_before, before = fds(), tracked()
    for _ in range(200):
        pinloop.run(main())
    assert grown(before) == {}
    assert fds() == open_before


def test_callbacks_and_timers_leave_nothing(loop: asyncio.AbstractEventLoop) -> None:
    def work() -> None:
        for i in range(2000):
            loop.call_soon(int)
            loop.call_soon(max, i, 10)
            loop.call_soon_threadsafe(int)
            loop.call_later(0, int)
            loop.call_later(3600, int).cancel()
            loop.call_soon(int).cancel()
        turn(loop)
        turn(loop)

    for _ in range(3):
        work()
    before = tracked()
    for _ in range(3):
        work()
    # Handles that ran are kept for the next ones, so many and no more.
    assert {name: count for name, count in grown(before).items() if count > 200} == {}


def test_connections_by_the_hundred_leave_nothing(loop: asyncio.AbstractEventLoop) -> None:
    async def serve() -> Any:
        return await loop.create_server(Echo, "127.0.0.1", 0)

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    server = loop.run_until_complete(serve())
    address = server.sockets[0].getsockname()

    async def visit(way: str) -> None:
        done = loop.create_future()

        class Client(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"x" * 10_000)

            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                if len(self.got) == 10_000:
                    getattr(self.transport, way)()

            def connection_lost(self, exc: Exception | None) -> None:
                done.set_result(None)

        transport, _ = await loop.create_connection(Client, *address)
        transport.get_extra_info("socket")
        await done

    async def visits(count: int) -> None:
        for _ in range(count):
            await asyncio.gather(*(visit(way) for way in ("close", "abort", "write_eof")))

    loop.run_until_complete(visits(10))
    run_until(loop, lambda: not server._transports)
    open_before, before = fds(), tracked()
    loop.run_until_complete(visits(100))
    run_until(loop, lambda: not server._transports)
    assert grown(before) == {}
    assert fds() == open_before
    server.close()
    turn(loop)


def test_watched_fds_by_the_thousand_leave_nothing(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    near, peer = socket_pair()

    def work() -> None:
        for _ in range(1000):
            loop.add_reader(near, int)
            loop.add_writer(near, int)
            loop.remove_reader(near)
            loop.remove_writer(near)

    work()
    before = tracked()
    work()
    assert grown(before) == {}
    near.close()
    peer.close()


def test_the_collector_sees_what_a_handle_holds(loop: asyncio.AbstractEventLoop) -> None:
    marker = object()
    for handle in (
        loop.call_soon(print, marker),
        loop.call_soon(print, 1, marker),
        loop.call_later(9, print, marker),
    ):
        reached = gc.get_referents(handle)
        assert print in reached
        assert any(each is marker or (type(each) is tuple and marker in each) for each in reached)
    assert handle in gc.get_referents(loop)
