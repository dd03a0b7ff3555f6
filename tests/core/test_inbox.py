"""call_soon_threadsafe: the one way into a loop from another thread."""

import asyncio
import contextvars
import gc
import os
import threading
import weakref
from collections.abc import Callable

import pytest

import pinloop
from pinloop import _core
from tests.conftest import short_turns
from tests.core.support import run_until, scripted, turn


def in_threads(*functions: Callable[[], object]) -> None:
    """Run the functions in a thread each and wait for all."""
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(("threads", "count"), [(1, 1000), (8, 2000), (32, 200)])
def test_every_callback_runs_once_in_its_threads_order(
    loop: asyncio.AbstractEventLoop, threads: int, count: int
) -> None:
    seen: list[list[int]] = [[] for _ in range(threads)]
    left = [threads * count]

    def arrive(thread: int, i: int) -> None:
        seen[thread].append(i)
        left[0] -= 1
        if not left[0]:
            loop.stop()

    def send(thread: int) -> None:
        for i in range(count):
            loop.call_soon_threadsafe(arrive, thread, i)

    senders = [threading.Thread(target=send, args=(i,)) for i in range(threads)]
    with short_turns():
        try:
            for sender in senders:
                sender.start()
            guard = loop.call_later(30, pytest.fail, "lost callbacks")
            loop.run_forever()
            guard.cancel()
        finally:
            for sender in senders:
                sender.join()
    assert seen == [list(range(count))] * threads


def test_no_wake_up_is_lost_between_two_loops_that_wake_each_other() -> None:
    """Each hop needs the sleeping side to wake: a lost wake-up would hang it."""
    hops = 3000
    loops = [pinloop.new_event_loop(), pinloop.new_event_loop()]
    done: list[int] = []

    def hop(i: int) -> None:
        if i == hops:
            done.append(i)
            for loop in loops:
                loop.call_soon_threadsafe(loop.stop)
        else:
            loops[(i + 1) % 2].call_soon_threadsafe(hop, i + 1)

    def run(loop: pinloop.Loop) -> None:
        guard = loop.call_later(40, loop.stop)
        loop.run_forever()
        guard.cancel()
        loop.close()

    loops[0].call_soon_threadsafe(hop, 0)
    in_threads(*(lambda loop=loop: run(loop) for loop in loops))
    assert done == [hops]


# ------------------------------------------------------------------------ wake-ups --


def wakes(loop: pinloop.Loop) -> int:
    """How often a thread woke the loop: its eventfd counts the writes, and nobody reads it."""
    return sum(_eventfd_count(int(name)) for name in os.listdir("/proc/self/fd"))


def _eventfd_count(fd: int) -> int:
    try:
        if "eventfd" not in os.readlink(f"/proc/self/fd/{fd}"):
            return 0
        with open(f"/proc/self/fdinfo/{fd}") as info:
            return next(int(line.split()[1], 16) for line in info if line.startswith("eventfd-count"))
    except FileNotFoundError:
        return 0


needs_eventfd = pytest.mark.skipif(
    not os.path.exists("/proc/self/fdinfo"), reason="counts an eventfd's writes"
)


@needs_eventfd
def test_a_sleeping_loop_is_woken_once_per_batch() -> None:
    ran: list[int] = []
    counts: list[int] = []

    def push() -> None:
        for i in range(100):
            loop.call_soon_threadsafe(ran.append, i)

    def while_asleep() -> None:
        counts.append(wakes(loop))
        in_threads(push)
        in_threads(push)
        counts.append(wakes(loop))

    loop, _ = scripted([while_asleep, while_asleep])
    loop.call_later(1, loop.stop)
    loop.run_forever()
    assert ran == [*range(100), *range(100)] * 2
    assert [after - before for before, after in zip(counts[::2], counts[1::2], strict=True)] == [1, 1]
    loop.close()


@needs_eventfd
def test_a_busy_loop_is_not_woken() -> None:
    ran: list[int] = []
    counts: list[int] = []

    def busy() -> None:
        counts.append(wakes(loop))
        in_threads(lambda: [loop.call_soon_threadsafe(ran.append, i) for i in range(100)])
        counts.append(wakes(loop))

    loop, _ = scripted()
    loop.call_soon(busy)
    loop.call_later(1, loop.stop)
    loop.run_forever()
    assert ran == list(range(100))
    assert counts[0] == counts[1]
    loop.close()


def test_what_arrives_before_the_poll_keeps_it_from_blocking() -> None:
    ran: list[int] = []
    loop, poller = scripted([lambda: None])
    loop.call_soon(lambda: in_threads(lambda: loop.call_soon_threadsafe(ran.append, 1)))
    loop.call_later(5, loop.stop)
    loop.run_forever()
    assert ran == [1]
    timeouts = [call[1] for call in poller.calls if call[0] == "wait"]
    assert timeouts[0] == 0
    loop.close()


# ----------------------------------------------------------------- order and context --


def test_calls_from_the_loops_own_thread_keep_their_order_with_call_soon(
    loop: asyncio.AbstractEventLoop,
) -> None:
    ran: list[int] = []

    def callback() -> None:
        loop.call_soon_threadsafe(ran.append, 1)
        loop.call_soon(ran.append, 2)
        loop.call_soon_threadsafe(ran.append, 3)

    loop.call_soon(callback)
    turn(loop)
    turn(loop)
    assert ran == [1, 2, 3]


def test_calls_before_the_loop_runs_keep_their_order_with_call_soon(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int] = []
    loop.call_soon_threadsafe(ran.append, 1)
    loop.call_soon(ran.append, 2)
    loop.call_soon_threadsafe(ran.append, 3)
    turn(loop)
    assert ran == [1, 2, 3]


def test_the_callback_runs_in_a_copy_of_the_callers_context(loop: asyncio.AbstractEventLoop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
    got: list[str] = []

    def elsewhere() -> None:
        var.set("theirs")
        loop.call_soon_threadsafe(lambda: got.append(var.get()))

    in_threads(elsewhere)
    turn(loop)
    assert got == ["theirs"]
    assert var.get() == "unset"


def test_debug_mode_lets_other_threads_in(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_debug(True)
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


# ------------------------------------------------------------------ cancel and close --


def test_a_handle_cancelled_before_it_ran(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int] = []

    def elsewhere() -> None:
        handles = [loop.call_soon_threadsafe(ran.append, i) for i in range(100)]
        for handle in handles[::2]:
            handle.cancel()

    in_threads(elsewhere)
    turn(loop)
    assert ran == list(range(1, 100, 2))


def test_a_handle_kept_by_its_thread_cancels_nothing_else_later(loop: asyncio.AbstractEventLoop) -> None:
    kept: list[asyncio.Handle] = []
    ran: list[int] = []
    in_threads(lambda: kept.extend(loop.call_soon_threadsafe(int) for _ in range(100)))
    turn(loop)
    for i in range(200):
        loop.call_soon(ran.append, i)
    for handle in kept:
        handle.cancel()
    turn(loop)
    assert ran == list(range(200))


def test_a_closed_loop_refuses(loop: asyncio.AbstractEventLoop) -> None:
    refused: list[BaseException] = []
    loop.close()

    def elsewhere() -> None:
        try:
            loop.call_soon_threadsafe(int)
        except RuntimeError as exc:
            refused.append(exc)

    in_threads(elsewhere)
    assert "closed" in str(refused[0])


def hammer(loop: pinloop.Loop, began: threading.Event, refused: threading.Event) -> None:
    try:
        while True:
            loop.call_soon_threadsafe(int, "never run")
            began.set()
    except RuntimeError:
        refused.set()


def test_threads_that_call_while_the_loop_closes_are_refused_or_forgotten() -> None:
    with short_turns(1e-6):
        for _ in range(100):
            loop = pinloop.new_event_loop()
            began, refused = threading.Event(), threading.Event()

            thread = threading.Thread(target=hammer, args=(loop, began, refused))
            thread.start()
            assert began.wait(10)
            loop.close()
            thread.join(10)
            assert refused.is_set()


def test_what_waits_in_the_inbox_of_a_closed_loop_is_released(loop: asyncio.AbstractEventLoop) -> None:
    class Callback:
        def __call__(self) -> None: ...

    callback = Callback()
    alive = weakref.ref(callback)
    loop.call_soon_threadsafe(callback)
    del callback
    loop.close()
    gc.collect()
    assert alive() is None


def test_what_arrives_between_two_runs_is_run_by_the_second(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int] = []
    turn(loop)
    in_threads(lambda: loop.call_soon_threadsafe(ran.append, 1))
    assert ran == []
    run_until(loop, lambda: ran)


def test_the_wake_up_fd_is_watched_by_edge() -> None:
    """Nobody reads it: by level it would be told for ever after the first wake."""
    loop, poller = scripted()
    added = [call for call in poller.calls if call[0] == "add"]
    assert [mask for _, _, mask in added] == [1 | 4]
    loop.close()
    assert isinstance(poller, _core.ScriptedPoller)
