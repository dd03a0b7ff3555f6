"""The timer heap."""

import asyncio
import contextvars
import gc
import math
import random
import threading
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.support import SECOND, run_until, scripted, turn

START = 1.0  # seconds: where a scripted clock begins


def first_ns(when: float) -> int:
    """The first nanosecond at which a loop's time() has come to `when`."""
    ns = max(0, math.ceil(when * 1e9))
    while ns / 1e9 < when:
        ns += 1
    return ns


# ------------------------------------------------------------------- against a model --

delays = st.one_of(
    st.sampled_from([-1.0, 0.0, 1e-9, 1e-6, 0.001, 0.5, 1.0, 2.0]),
    st.floats(-2, 3),
    st.floats(0, 1e-6),
)


@settings(max_examples=150, deadline=None)
@given(
    timers=st.lists(st.tuples(delays, st.lists(st.integers(0, 300), max_size=3)), max_size=120),
    cancelled=st.lists(st.integers(0, 300), max_size=150),
)
def test_timers_fire_in_order_of_time_then_of_scheduling_unless_cancelled(
    timers: list[tuple[float, list[int]]], cancelled: list[int]
) -> None:
    """Each timer cancels some others when it fires; the model is a sorted list."""
    loop, _ = scripted()
    fired: list[int] = []
    handles: list[asyncio.TimerHandle] = []

    def fire(i: int) -> None:
        assert loop.time() >= handles[i].when()
        fired.append(i)
        for victim in timers[i][1]:
            if victim < len(handles):
                handles[victim].cancel()

    for i, (delay, _) in enumerate(timers):
        handles.append(loop.call_at(START + delay, fire, i))
    dead = {i for i in cancelled if i < len(timers)}
    for i in dead:
        handles[i].cancel()
    loop.call_at(START + 10, loop.stop)
    loop.run_forever()
    loop.close()

    # Those due at the start are one batch, in order; a cancel reaches those behind it.
    expected: list[int] = []
    for i in sorted(range(len(timers)), key=lambda i: (first_ns(START + timers[i][0]), i)):
        if i not in dead:
            expected.append(i)
            dead.update(timers[i][1])
    assert fired == expected


@settings(max_examples=200, deadline=None)
@given(
    when=st.one_of(
        st.floats(-1e9, 1e9),
        st.floats(0, 1e-3),
        st.floats(0.999, 1.001),
        st.floats(1, 9e9),
        st.floats(1e8, 1e8 + 1),
    ),
    start_ns=st.integers(0, 4 * 10**18),
)
@example(when=9e9, start_ns=0)
@example(when=1.0000000001, start_ns=SECOND)
@example(when=5e-324, start_ns=0)
def test_a_timer_is_never_early_and_hardly_late(when: float, start_ns: int) -> None:
    loop, poller = scripted()
    poller.clock_ns = start_ns
    began = loop.time()
    fired: list[float] = []
    handle = loop.call_at(when, lambda: (fired.append(loop.time()), loop.stop()))
    assert handle.when() == when
    loop.run_forever()
    loop.close()
    assert fired[0] >= when
    # Late by the shortest sleep at most, and by what a double can tell at that size.
    assert fired[0] <= max(when, began) + 0.0002 + 4 * math.ulp(max(abs(when), began))


def test_equal_times_fire_first_come_first_served(loop: asyncio.AbstractEventLoop) -> None:
    when = loop.time()
    ran: list[int] = []
    for i in range(1000):
        loop.call_at(when, ran.append, i)
    turn(loop)
    assert ran == list(range(1000))


@pytest.mark.parametrize("far", [0, 1, 10, 100])
def test_timers_armed_while_others_fire_keep_the_order(far: int) -> None:
    """Most have one of a few delays, as timeouts do; *far* of them would come last."""
    loop, _ = scripted()
    numbers = random.Random(far)
    expected: list[tuple[float, int]] = []
    fired: list[tuple[float, int]] = []
    live: list[tuple[asyncio.TimerHandle, tuple[float, int]]] = []

    def arm() -> None:
        if len(expected) == 20_000:
            return
        delay = 0.001 + (numbers.choice([0.5, 0.5, 0.5, 0.1]) if numbers.random() < 0.9 else numbers.random())
        entry = (loop.time() + delay, len(expected))
        expected.append(entry)
        live.append((loop.call_at(entry[0], fire, entry), entry))

    def fire(entry: tuple[float, int]) -> None:
        fired.append(entry)
        arm()
        if len(fired) % 7 == 0 and len(live) > 500:
            handle, victim = live[numbers.randrange(len(live) - 500, len(live))]
            if not handle.cancelled() and victim not in fired[-1500:]:
                handle.cancel()
                expected[victim[1]] = (math.inf, victim[1])
                arm()

    guards = [loop.call_later(3600, pytest.fail, "too far") for _ in range(far)]
    for _ in range(1000):
        arm()
    loop.call_at(START + 1000, loop.stop)
    loop.run_forever()
    left = [entry for entry in expected if entry[0] != math.inf]
    assert fired == sorted(left, key=lambda entry: (first_ns(entry[0]), entry[1]))
    assert len(fired) > 15_000
    for guard in guards:
        guard.cancel()
    loop.close()


def test_a_timeout_that_was_not_needed_is_let_go_at_once(loop: asyncio.AbstractEventLoop) -> None:
    held = Finalizer(lambda: gone.append(1))
    gone: list[int] = []
    context = contextvars.Context()
    context.run(contextvars.ContextVar[Finalizer]("held").set, held)
    loop.call_later(3600, int)
    handle = loop.call_later(3600, held, context=context)
    del held, context
    handle.cancel()
    handle.cancel()
    del handle
    gc.collect()
    assert gone == [1]


def test_real_timers_are_in_order_and_never_early(loop: asyncio.AbstractEventLoop) -> None:
    late: list[tuple[float, float]] = []
    start = loop.time()
    numbers = random.Random(5)
    for _ in range(300):
        when = start + numbers.random() * 0.1
        loop.call_at(when, lambda when=when: late.append((when, loop.time() - when)))
    loop.call_at(start + 0.11, loop.stop)
    loop.run_forever()
    assert len(late) == 300
    assert late == sorted(late, key=lambda each: each[0])
    assert min(delay for _, delay in late) >= 0


def test_a_sleeping_loop_wakes_in_time_for_a_timer_added_by_another_thread(
    loop: asyncio.AbstractEventLoop,
) -> None:
    guard = loop.call_later(60, pytest.fail, "slept through")
    thread = threading.Thread(
        target=lambda: loop.call_soon_threadsafe(lambda: loop.call_later(0.01, loop.stop))
    )
    loop.call_soon(thread.start)
    begin = time.monotonic()
    loop.run_forever()
    assert 0.01 <= time.monotonic() - begin < 30
    guard.cancel()
    thread.join()


# ----------------------------------------------------------------------- odd times --


@pytest.mark.parametrize("method", ["call_later", "call_at"])
@pytest.mark.parametrize("value", [math.nan, -math.nan])
def test_nan_is_a_value_error(loop: asyncio.AbstractEventLoop, method: str, value: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        getattr(loop, method)(value, int)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
@pytest.mark.parametrize("value", [None, "1", b"1", [], 1j])
def test_what_is_no_number_is_a_type_error(loop: asyncio.AbstractEventLoop, method: str, value: Any) -> None:
    with pytest.raises(TypeError):
        getattr(loop, method)(value, int)


def test_an_int_beyond_a_double_is_an_overflow_error(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(OverflowError):
        loop.call_later(10**400, int)


@pytest.mark.parametrize("value", [True, 0, 0.0, -0.0])
def test_numbers_of_other_types_will_do(loop: asyncio.AbstractEventLoop, value: float) -> None:
    from decimal import Decimal
    from fractions import Fraction

    ran: list[int] = []
    for number in (value, Fraction(0), Decimal(0)):
        loop.call_at(number, ran.append, 1)  # type: ignore[arg-type]
    turn(loop)
    assert len(ran) == 3


@pytest.mark.parametrize("method", ["call_later", "call_at"])
@pytest.mark.parametrize("value", [math.inf, 1e300, 1e10])
def test_infinity_and_the_like_never_come(method: str, value: float) -> None:
    loop, poller = scripted()
    handle = getattr(loop, method)(value, pytest.fail, "infinity came")
    loop.call_later(1e9, loop.stop)  # 31 years
    loop.run_forever()
    assert poller.clock_ns == (10**9 + 1) * SECOND
    assert handle.when() >= value
    loop.close()


def test_a_loop_with_only_an_infinite_timer_sleeps(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(math.inf, pytest.fail, "infinity came")
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


@pytest.mark.parametrize("delay", [0, -0.0, -1, -1e300, -math.inf])
def test_zero_and_negative_delays_fire_in_the_next_turn(
    loop: asyncio.AbstractEventLoop, delay: float
) -> None:
    ran: list[str] = []
    loop.call_soon(lambda: (ran.append("first"), loop.call_later(delay, ran.append, "timer")))
    turn(loop)
    assert ran == ["first"]
    turn(loop)
    assert ran == ["first", "timer"]


def test_zero_delay_is_a_timer_handle(loop: asyncio.AbstractEventLoop) -> None:
    before = loop.time()
    handle = loop.call_later(0, int)
    assert isinstance(handle, asyncio.TimerHandle)
    assert before <= handle.when() <= loop.time()


def test_when_is_what_was_asked_for(loop: asyncio.AbstractEventLoop) -> None:
    assert loop.call_at(123.456, int).when() == 123.456
    before = loop.time()
    assert before + 5 <= loop.call_later(5, int).when() <= loop.time() + 5


# --------------------------------------------------------------------- cancelling --


def timer_handles() -> int:
    """How many TimerHandles are scheduled somewhere, or were and are still held."""
    gc.collect()
    return sum(type(each).__name__ == "TimerHandle" and each._scheduled for each in gc.get_objects())


def test_cancelled_timers_do_not_pile_up(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(3600, int)
    before = timer_handles()
    for _ in range(100_000):
        loop.call_later(3600, int).cancel()
    assert timer_handles() - before <= 200


def test_many_timers_cancelled_at_once_are_let_go(loop: asyncio.AbstractEventLoop) -> None:
    before = timer_handles()
    handles = [loop.call_later(3600 + i % 7, int) for i in range(100_000)]
    random.Random(1).shuffle(handles)
    for handle in handles:
        handle.cancel()
    del handle, handles
    assert timer_handles() - before <= 200


def test_timers_left_after_a_compaction_still_fire_in_order(loop: asyncio.AbstractEventLoop) -> None:
    start, ran = loop.time(), []
    handles = [loop.call_at(start + i * 1e-6, ran.append, i) for i in range(5000)]
    for i, handle in enumerate(handles):
        if i % 10:
            handle.cancel()
    run_until(loop, lambda: len(ran) == 500)
    assert ran == list(range(0, 5000, 10))


def test_a_timer_cancels_those_due_with_it(loop: asyncio.AbstractEventLoop) -> None:
    when, ran = loop.time(), []
    loop.call_at(when, lambda: [handle.cancel() for handle in later])
    later = [loop.call_at(when, ran.append, i) for i in range(500)]
    turn(loop)
    turn(loop)
    assert ran == []


class Finalizer:
    """Does something when it is let go."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def __call__(self) -> None: ...

    def __del__(self) -> None:
        self.action()


def test_a_finalizer_may_cancel_and_add_timers_while_a_cancel_compacts(
    loop: asyncio.AbstractEventLoop,
) -> None:
    ran: list[int] = []
    victims = [loop.call_later(3600, int) for _ in range(1000)]

    def disturb() -> None:
        if not loop.is_closed():
            for _ in range(min(3, len(victims))):
                victims.pop().cancel()
            loop.call_later(0, ran.append, 1)

    held = contextvars.ContextVar[Finalizer]("held")
    handles = []
    for i in range(600):
        context = contextvars.Context()
        if i % 3 == 0:
            context.run(held.set, Finalizer(disturb))  # let go when the heap is compacted
        callback: Any = Finalizer(disturb) if i % 3 == 1 else int  # when the handle is cancelled
        handles.append(loop.call_later(3600, callback, context=context))
        del callback, context
    while handles:
        handles.pop().cancel()
    turn(loop)
    turn(loop)
    assert not victims
    assert len(ran) > 350
    survivor = loop.call_later(0, ran.append, 2)
    run_until(loop, lambda: ran[-1] == 2)
    assert not survivor.cancelled()


def test_cancelling_what_fired_does_not_upset_the_count_of_the_cancelled(
    loop: asyncio.AbstractEventLoop,
) -> None:
    fired = [loop.call_later(0, int) for _ in range(500)]
    turn(loop)
    live = [loop.call_later(3600, int) for _ in range(100)]
    for handle in fired:
        handle.cancel()
    before = timer_handles()
    for handle in live:
        handle.cancel()
    del live, handle
    assert timer_handles() < before


def test_close_releases_timers(loop: asyncio.AbstractEventLoop) -> None:
    gone: list[int] = []
    for _ in range(100):
        loop.call_later(3600, Finalizer(lambda: gone.append(1)))
    loop.close()
    gc.collect()
    assert len(gone) == 100


def test_a_timer_cancelled_after_the_loop_closed(loop: asyncio.AbstractEventLoop) -> None:
    handles = [loop.call_later(3600, int) for _ in range(200)]
    loop.close()
    for handle in handles:
        handle.cancel()
        assert handle.cancelled()
