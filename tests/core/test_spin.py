"""Busy polling: asking the kernel for a while before each sleep, where the program wants that."""

import asyncio
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pinloop
from pinloop import _core
from tests.core.support import READ, raise_reported, socket_pair

US = 1000  # ns
SPIN = 50 * US  # ns, of the scripted loops

Scripted = tuple[pinloop.Loop, _core.ScriptedPoller]
Make = Callable[..., Scripted]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes scripted loops that spin, and closes them."""
    loops: list[pinloop.Loop] = []

    def make(script: Any = (), spin_us: float = SPIN / US) -> Scripted:
        poller = _core.ScriptedPoller(script)
        loop = pinloop.Loop(poller, spin_us=spin_us)
        loop.set_exception_handler(raise_reported)
        loops.append(loop)
        poller.calls.clear()
        return loop, poller

    yield make
    for loop in loops:
        loop.close()


@pytest.fixture(params=_core.available_pollers(), ids=lambda kind: kind.__name__)
def spinning(request: pytest.FixtureRequest) -> Iterator[pinloop.Loop]:
    """A loop that spins for a second before it sleeps."""
    loop = pinloop.Loop(request.param(), spin_us=1_000_000)
    yield loop
    loop.close()


def polls(poller: _core.ScriptedPoller) -> list[tuple[str, int]]:
    """The spins, with their limits, and the waits, with their timeouts, in ns, but for those of a spin."""
    calls: list[tuple[str, int]] = []
    for call in poller.calls:
        if call[0] == "spin" or (call[0] == "wait" and (call[1] != 0 or not calls or calls[-1][0] != "spin")):
            calls.append(call[:2])
    return calls


# -------------------------------------------------------------------------- when it spins --


def test_a_loop_that_was_not_told_to_does_not_spin(make: Make) -> None:
    loop, poller = make([lambda: loop.stop()], spin_us=0)  # noqa: PLW0108 - made by this very call
    loop.run_forever()
    assert polls(poller) == [("wait", -1)]


def test_it_sleeps_when_the_time_is_up(make: Make) -> None:
    asks = SPIN // (10 * US) + 1
    loop, poller = make([[]] * asks + [lambda: loop.stop()])  # noqa: PLW0108 - made by this very call
    start = poller.clock_ns
    loop.run_forever()
    assert polls(poller) == [("spin", SPIN), ("wait", -1)]
    assert poller.clock_ns - start == SPIN


def test_an_event_ends_it_and_is_dispatched(make: Make) -> None:
    near, far = socket_pair()
    with near, far:
        loop, poller = make([[], [], [(near.fileno(), READ)]])
        loop.add_reader(near, loop.stop)
        poller.calls.clear()
        start = poller.clock_ns
        loop.run_forever()
        assert polls(poller) == [("spin", SPIN)]
        assert poller.clock_ns - start == 20 * US
        loop.remove_reader(near)


def test_it_does_not_spin_while_work_is_ready(make: Make) -> None:
    loop, poller = make()
    left = [20]

    def work() -> None:
        left[0] -= 1
        loop.call_soon(work) if left[0] else loop.stop()

    loop.call_soon(work)
    loop.run_forever()
    assert [call for call in polls(poller) if call[0] == "spin"] == []


def test_a_timer_within_the_spin_is_served_to_the_point_without_a_sleep(make: Make) -> None:
    loop, poller = make()
    start, late = loop.time(), []
    due = start + 23e-6
    loop.call_at(due, lambda: (late.append(loop.time() - due), loop.stop()))
    loop.run_forever()
    assert 0 <= late[0] < 2e-9
    kind, limit = polls(poller)[0]
    assert kind == "spin"
    assert 23 * US <= limit <= 23 * US + 2
    assert [timeout for kind, timeout in polls(poller)[1:] if timeout] == []


def test_a_timer_beyond_the_spin_is_slept_for(make: Make) -> None:
    loop, poller = make()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert polls(poller)[:2] == [("spin", SPIN), ("wait", 10_000 * US - SPIN)]


def test_what_another_thread_schedules_ends_it(make: Make) -> None:
    ran: list[str] = []

    def push() -> list[Any]:
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(ran.append, "pushed"))
        thread.start()
        thread.join()
        loop.call_soon_threadsafe(loop.stop)
        return []

    loop, poller = make([[], push])
    loop.run_forever()
    assert ran == ["pushed"]
    assert [call for call in polls(poller) if call[0] == "wait" and call[1] != 0] == []


def test_an_error_of_the_poller_stops_the_loop(make: Make) -> None:
    def broken() -> None:
        raise OSError(9, "the poller is gone")

    loop, _ = make([[], broken])
    with pytest.raises(OSError, match="the poller is gone"):
        loop.run_forever()


# ------------------------------------------------------------------------- real pollers --


def within(seconds: float, loop: pinloop.Loop) -> None:
    """Run the loop until it is stopped, which has to be before the spin's end would wake anybody."""
    begin = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - begin < seconds


def test_other_threads_have_the_interpreter_meanwhile(spinning: pinloop.Loop) -> None:
    def work() -> None:
        total = 0
        for i in range(100_000):
            total += i
        spinning.call_soon_threadsafe(spinning.stop)

    thread = threading.Thread(target=work)
    spinning.call_soon(thread.start)
    within(0.9, spinning)
    thread.join()


def test_bytes_that_arrive_end_the_spin(spinning: pinloop.Loop) -> None:
    near, far = socket_pair()
    with near, far:
        spinning.add_reader(near, spinning.stop)
        timer = threading.Timer(0.02, far.send, (b"x",))
        spinning.call_soon(timer.start)
        within(0.9, spinning)
        timer.join()
        spinning.remove_reader(near)


def test_a_signal_ends_the_spin(spinning: pinloop.Loop) -> None:
    spinning.add_signal_handler(signal.SIGUSR1, spinning.stop)
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    spinning.call_soon(timer.start)
    within(0.9, spinning)
    timer.join()


def test_a_timer_is_served_while_it_spins(spinning: pinloop.Loop) -> None:
    begin, cpu = spinning.time(), time.process_time()
    spinning.call_later(0.05, spinning.stop)
    within(0.9, spinning)
    assert spinning.time() - begin >= 0.05
    assert time.process_time() - cpu > 0.005  # awake


def test_a_loop_to_which_nothing_happens_spins_once_then_sleeps() -> None:
    loop = pinloop.new_event_loop(spin_us=10_000)
    loop.call_later(1.0, loop.stop)
    cpu = time.process_time()
    loop.run_forever()
    assert time.process_time() - cpu < 0.3
    loop.close()


def test_a_conversation_with_another_thread(spinning: pinloop.Loop) -> None:
    """Each answer finds the loop awake."""

    async def main() -> bytes:
        near, far = socket.socketpair()

        def answer() -> None:
            with far:
                while data := far.recv(100):
                    far.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        reader, writer = await asyncio.open_connection(sock=near)
        got = b""
        for i in range(100):
            writer.write(bytes([i]))
            got += await reader.readexactly(1)
        writer.close()
        await writer.wait_closed()
        thread.join()
        return got

    assert spinning.run_until_complete(main()) == bytes(range(100))


# --------------------------------------------------------------------------- the option --


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, -math.inf, 1_000_001, 10**400])
def test_a_time_out_of_range_is_a_value_error(value: float) -> None:
    for make in (pinloop.new_event_loop, pinloop.Loop):
        with pytest.raises(ValueError, match="spin_us must be from 0 to 1000000 microseconds"):
            make(spin_us=value)


@pytest.mark.parametrize("value", ["1", None, b"1", [], 1j])
def test_what_is_no_number_is_a_type_error(value: Any) -> None:
    for make in (pinloop.new_event_loop, pinloop.Loop):
        with pytest.raises(TypeError, match="spin_us must be a number"):
            make(spin_us=value)


def test_run_hands_it_on() -> None:
    async def main() -> float:
        cpu = time.process_time()
        await asyncio.sleep(0.05)
        return time.process_time() - cpu

    assert pinloop.run(main(), spin_us=1_000_000) > 0.005
    refused = main()
    with pytest.raises(ValueError, match="spin_us"):
        pinloop.run(refused, spin_us=-1)
    refused.close()
