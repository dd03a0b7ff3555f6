"""The phases of a turn, driven by a poller without a kernel; stale and orphaned events also with one."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pinloop
from pinloop import _core
from tests.core.support import (
    MS,
    READ,
    SECOND,
    WRITE,
    raise_reported,
    read_available,
    run_until,
    scripted,
    socket_pair,
    turn,
    waits,
)  # fmt: skip

Scripted = tuple[pinloop.Loop, _core.ScriptedPoller]


@pytest.fixture
def make() -> Iterator[Callable[..., Scripted]]:
    """Makes scripted loops and closes them."""
    loops: list[pinloop.Loop] = []

    def make(script: Any = ()) -> Scripted:
        loop, poller = scripted(script)
        loops.append(loop)
        return loop, poller

    yield make
    for loop in loops:
        loop.close()


Make = Callable[..., Scripted]


# ------------------------------------------------------------------ order of a turn --


def test_due_timers_join_the_batch_then_writes_leave_then_the_kernel_is_asked_then_events_are_dispatched(
    make: Make,
) -> None:
    near, peer = socket_pair()
    order: list[object] = []

    def poll() -> list[tuple[int, int]]:
        order.append(("poll", read_available(peer)))
        return [(50, READ)]

    loop, _ = make([poll])
    transport = _core.stream_transport(loop, near, asyncio.Protocol(), loop.create_future())
    loop.add_reader(50, lambda: (order.append("event"), loop.stop()))
    loop.call_soon(lambda: (order.append("ready"), transport.write(b"written")))
    loop.call_at(loop.time(), order.append, "timer")
    loop.run_forever()
    assert order == ["ready", "timer", ("poll", b"written"), "event"]
    transport.abort()
    turn(loop)
    peer.close()


def test_what_an_event_schedules_runs_in_the_next_turn(make: Make) -> None:
    order: list[str] = []
    loop, _ = make([[(50, READ), (51, READ)], lambda: order.append("poll")])
    for fd in (50, 51):
        loop.add_reader(fd, lambda fd=fd: (order.append(f"event {fd}"), loop.call_soon(order.append, "soon")))
    loop.call_later(1, loop.stop)
    loop.run_forever()
    assert order == ["event 50", "event 51", "soon", "soon", "poll"]


def test_events_carry_their_masks_to_the_callbacks_that_asked(make: Make) -> None:
    got: list[str] = []
    script = [[(50, READ)], [(50, WRITE)], [(50, READ | WRITE)], [(51, READ | WRITE)], [(52, READ | WRITE)]]
    loop, _ = make(script)
    loop.add_reader(50, got.append, "r50")
    loop.add_writer(50, got.append, "w50")
    loop.add_reader(51, got.append, "r51")
    loop.add_writer(52, got.append, "w52")
    loop.call_later(1, loop.stop)
    loop.run_forever()
    assert got == ["r50", "w50", "r50", "w50", "r51", "w52"]


# ------------------------------------------------------------------- when it polls --


def test_a_ready_chain_is_not_held_up_by_polls(make: Make) -> None:
    loop, poller = make()
    left = [1000]

    def step() -> None:
        left[0] -= 1
        if left[0]:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()
    assert waits(poller) == [0]


def polls_of_a_chain(make: Make, costs_ns: list[int]) -> list[int]:
    """The times, in ns from the start, of the polls of a chain whose steps take this long."""
    polls: list[int] = []

    def script() -> Iterator[Callable[[], None]]:
        while True:
            yield lambda: polls.append(poller.clock_ns - SECOND)

    loop, poller = make(script())
    costs = iter(costs_ns)

    def step() -> None:
        cost = next(costs, None)
        if cost is None:
            loop.stop()
            return
        poller.clock_ns += cost
        loop.call_soon(step)

    loop.call_soon(step)
    loop.run_forever()
    return polls


@pytest.mark.parametrize("cost", [100, 1000, 10_000, 100_000])
def test_io_is_polled_for_within_bounded_time_in_an_endless_chain(make: Make, cost: int) -> None:
    total = 20 * MS
    polls = [0, *polls_of_a_chain(make, [cost] * (total // cost))]
    gaps = [later - earlier for earlier, later in itertools.pairwise(polls)]
    assert max(gaps) <= MS
    assert len(polls) <= total // (200_000) + 2  # and not asked for much more often than need be


def test_steps_longer_than_the_polling_interval_are_polled_between(make: Make) -> None:
    polls = [0, *polls_of_a_chain(make, [10 * MS] * 50)]
    assert max(later - earlier for earlier, later in itertools.pairwise(polls)) <= 30 * MS


def test_a_chain_that_turns_slow_does_not_keep_io_waiting(make: Make) -> None:
    polls = [0, *polls_of_a_chain(make, [1000] * 4 + [10 * MS] * 200)]
    assert max(later - earlier for earlier, later in itertools.pairwise(polls)) <= 100 * MS


def test_a_timer_is_not_held_up_by_a_chain(make: Make) -> None:
    loop, poller = make()
    fired: list[float] = []
    loop.call_later(0.01, lambda: (fired.append(loop.time()), loop.stop()))
    due = loop.time() + 0.01

    def step() -> None:
        poller.clock_ns += 100_000
        loop.call_soon(step)

    loop.call_soon(step)
    loop.run_forever()
    assert due <= fired[0] <= due + 0.0002


def test_the_kernel_is_asked_for_as_long_as_until_the_next_timer(make: Make) -> None:
    loop, poller = make()
    loop.call_later(7, loop.stop)
    loop.call_later(5, int)
    loop.call_later(1, int).cancel()
    loop.run_forever()
    assert waits(poller) == [5 * SECOND, 2 * SECOND, 0]
    assert poller.clock_ns == 8 * SECOND


def test_timers_too_close_to_sleep_between_share_a_wake_up_and_none_is_early(make: Make) -> None:
    loop, poller = make()
    start, fired = loop.time(), []
    for i in range(10):
        loop.call_at(start + 0.001 + i * 1e-6, lambda i=i: fired.append((i, loop.time())))
    loop.call_at(start + 1, loop.stop)
    loop.run_forever()
    assert [i for i, _ in fired] == list(range(10))
    assert all(start + 0.001 + i * 1e-6 <= at <= start + 0.0012 for i, at in fired)
    assert len(waits(poller)) <= 5


def arm_thickly(loop: asyncio.AbstractEventLoop, count: int) -> list[float]:
    """Timers 1 µs apart; how late each fires goes into the list that is returned."""
    start, late = loop.time() + 0.001, []
    for i in range(count):
        loop.call_at(start + i * 1e-6, lambda due=start + i * 1e-6: late.append(loop.time() - due))
    return late


def test_where_timers_come_thick_the_sleeps_grow_to_a_millisecond_and_no_further(make: Make) -> None:
    loop, poller = make()
    late = arm_thickly(loop, 10_000)
    loop.call_at(loop.time() + 1, loop.stop)
    loop.run_forever()
    assert len(late) == 10_000
    assert min(late) >= 0
    assert 0.0009 < max(late) < 0.00101
    assert len(waits(poller)) < 20

    # A few lonely timers, and they are told to the point again.
    start, lonely = loop.time(), []
    for i in range(1, 4):
        loop.call_at(start + i, lambda i=i: lonely.append(loop.time() - start - i))
    loop.call_at(start + 5, loop.stop)
    loop.run_forever()
    assert max(lonely) < 0.0001
    arm_thickly(loop, 10)
    before = len(waits(poller))
    loop.call_at(loop.time() + 0.1, loop.stop)
    loop.run_forever()
    assert waits(poller)[before + 1] == 100_000


def test_without_timers_it_waits_until_something_happens(make: Make) -> None:
    loop, poller = make([lambda: loop.stop()])  # noqa: PLW0108 - made by this very call
    loop.run_forever()
    assert waits(poller) == [-1]


def test_a_wait_that_would_never_end_says_so_and_the_loop_can_run_again(make: Make) -> None:
    loop, _ = make()
    with pytest.raises(RuntimeError, match="never return"):
        loop.run_forever()
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    turn(loop)
    assert ran == [1]


def test_a_broken_poller_stops_the_loop_by_name(make: Make) -> None:
    def broken() -> None:
        raise OSError(9, "the poller is gone")

    loop, _ = make([broken])
    with pytest.raises(OSError, match="the poller is gone"):
        loop.run_forever()
    assert not loop.is_running()


# ---------------------------------------------------------------------------- stop --


def test_stop_lets_the_rest_of_the_batch_run_but_not_what_it_schedules(make: Make) -> None:
    ran: list[int] = []
    loop, _ = make()
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: (ran.append(1), loop.call_soon(ran.append, 2)))
    loop.run_forever()
    assert ran == [1]
    turn(loop)
    assert ran == [1, 2]


def test_stop_before_running_makes_one_turn(make: Make) -> None:
    ran: list[object] = []
    loop, poller = make([[(50, READ)]])
    loop.add_reader(50, ran.append, "event")
    loop.call_soon(lambda: (ran.append("soon"), loop.call_soon(ran.append, "never")))
    loop.call_later(0, ran.append, "timer")
    loop.stop()
    loop.stop()
    loop.run_forever()
    assert ran == ["soon", "timer", "event"]
    assert waits(poller) == [0]


def test_stop_of_an_event_leaves_after_its_batch(make: Make) -> None:
    ran: list[int] = []
    loop, _ = make([[(50, READ), (51, READ)]])
    loop.add_reader(50, loop.stop)
    loop.add_reader(51, ran.append, 51)
    loop.run_forever()
    assert ran == [51]


# ------------------------------------------------------------------ stale and orphaned --


def test_an_event_of_a_registration_replaced_in_its_batch_is_dropped(make: Make) -> None:
    got: list[str] = []
    loop, poller = make([[(50, READ), (51, READ)], [(51, READ)]])

    def replace() -> None:
        loop.remove_reader(51)
        loop.add_reader(51, got.append, "new")
        got.append("replaced")

    loop.add_reader(50, replace)
    loop.add_reader(51, got.append, "old")
    turn(loop)
    assert got == ["replaced"]
    turn(loop)
    assert got == ["replaced", "new"]
    assert ("reset",) not in poller.calls


def test_an_event_of_a_registration_that_ended_in_its_batch_is_dropped(make: Make) -> None:
    got: list[int] = []
    loop, poller = make([[(50, READ), (51, READ)]])
    loop.add_reader(50, loop.remove_reader, 51)
    loop.add_reader(51, got.append, 51)
    turn(loop)
    assert got == []
    assert ("reset",) not in poller.calls


@pytest.mark.parametrize("generation", [0, 2, 3, 0xFFFF_FFFF])
def test_an_event_of_another_generation_is_dropped(make: Make, generation: int) -> None:
    got: list[int] = []
    loop, poller = make([[(50, READ, generation)], [(50, READ)]])
    loop.add_reader(50, got.append, 50)
    assert poller.registered[50] == (READ, 1)
    turn(loop)
    assert got == []
    turn(loop)
    assert got == [50]


@pytest.mark.parametrize("fd", [51, 63, 64, 1000, 2**31 - 1])
def test_an_event_that_nobody_remembers_makes_a_fresh_poller_with_todays_registrations(
    make: Make, fd: int
) -> None:
    got: list[int] = []
    loop, poller = make([[(fd, READ, 5), (50, READ)], [(50, READ)]])
    loop.add_reader(50, got.append, 50)
    before = dict(poller.registered)
    turn(loop)
    assert poller.calls.count(("reset",)) == 1
    assert poller.registered | before == poller.registered
    turn(loop)
    assert got == [50, 50]


def test_a_number_used_again_within_a_batch_is_not_told_of_the_old_files_event(
    loop: asyncio.AbstractEventLoop,
) -> None:
    pairs = [socket_pair(), socket_pair()]
    fresh = socket_pair()
    got: list[object] = []

    def replace(me: int) -> None:
        """Close the other one and open a fresh socket at its number."""
        got.append(me)
        other = pairs[1 - me][0]
        loop.remove_reader(other)
        os.dup2(fresh[0].fileno(), other.fileno())
        loop.add_reader(other, got.append, "stale")

    for i, (near, far) in enumerate(pairs):
        far.send(b"x")
        loop.add_reader(near, replace, i)
    turn(loop)
    assert got in ([0], [1])
    for sock in (sock for pair in (*pairs, fresh) for sock in pair):
        loop.remove_reader(sock)
        sock.close()


def test_a_transport_whose_number_is_used_again_does_not_take_the_new_ones_bytes(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Connections are closed and made again over and over, each number many times."""
    got: list[bytes] = []

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport
            self.mine = len(got)
            got.append(b"")

        def data_received(self, data: bytes) -> None:
            got[self.mine] += data
            self.transport.abort()

    for i in range(100):
        near, peer = socket_pair()
        loop.run_until_complete(loop.connect_accepted_socket(Echo, near))
        peer.send(b"%d" % i)
        run_until(loop, lambda i=i: got[i])
        peer.close()
    turn(loop)
    turn(loop)
    assert got == [b"%d" % i for i in range(100)]


def test_an_fd_closed_while_a_duplicate_keeps_the_file_open_does_not_spin(
    loop: asyncio.AbstractEventLoop,
) -> None:
    near, far = os.pipe()
    copy = os.dup(near)
    alive: list[int] = []
    other = socket_pair()
    loop.add_reader(other[0], lambda: alive.append(len(other[0].recv(1))))
    loop.add_reader(near, int)
    os.write(far, b"x")
    os.close(near)
    loop.remove_reader(near)
    loop.call_later(0.3, loop.stop)
    begin = time.process_time()
    loop.run_forever()
    assert time.process_time() - begin < 0.15
    other[1].send(b"x")
    run_until(loop, lambda: alive)
    loop.remove_reader(other[0])
    for fd in (far, copy):
        os.close(fd)
    for sock in other:
        sock.close()


def test_a_new_registration_takes_the_number_of_one_whose_fd_was_closed_without_removal(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """A transport's socket is closed behind its back; the next connection gets the number."""
    got: list[bytes] = []

    class Collect(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.append(data)

    first, first_peer = socket_pair()
    number = first.fileno()
    old, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, first))
    first.close()
    second, second_peer = socket_pair()
    assert number in (second.fileno(), second_peer.fileno())
    near, peer = (second, second_peer) if second.fileno() == number else (second_peer, second)
    new, _ = loop.run_until_complete(loop.connect_accepted_socket(Collect, near))
    old.abort()
    for _ in range(3):
        turn(loop)
    peer.send(b"hello")
    run_until(loop, lambda: got)
    assert got == [b"hello"]
    assert near.fileno() == number
    new.abort()
    turn(loop)
    turn(loop)
    first_peer.close()
    peer.close()


def test_an_exit_in_the_middle_of_a_batch_loses_no_event(loop: asyncio.AbstractEventLoop) -> None:
    pairs = [socket_pair() for _ in range(5)]
    got: list[int] = []

    def read(i: int) -> None:
        pairs[i][0].recv(1)
        got.append(i)
        raise KeyboardInterrupt

    for i, (near, far) in enumerate(pairs):
        loop.add_reader(near, read, i)
        far.send(b"x")
    for _ in pairs:
        with pytest.raises(KeyboardInterrupt):
            turn(loop)
    turn(loop)
    assert sorted(got) == list(range(5))
    for near, far in pairs:
        loop.remove_reader(near)
        near.close()
        far.close()


def test_a_scripted_loop_reports_into_its_handler(make: Make) -> None:
    loop, _ = make()
    assert loop.get_exception_handler() is raise_reported
    loop.call_soon(int, "no number")
    with pytest.raises(SystemExit, match="ValueError"):
        turn(loop)
