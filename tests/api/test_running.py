"""Starting, stopping and closing the loop; what comes out of a run."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, answer, fail

Loop = asyncio.AbstractEventLoop


# ------------------------------------------------------------------ run_until_complete --


def test_run_until_complete_returns_the_result_of_a_coroutine(loop: Loop) -> None:
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_raises_the_exception_of_a_coroutine(loop: Loop) -> None:
    with pytest.raises(ZeroDivisionError, match="mine"):
        loop.run_until_complete(fail(ZeroDivisionError("mine")))


def test_run_until_complete_takes_a_future(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.set_result, "done")
    assert loop.run_until_complete(future) == "done"


def test_run_until_complete_takes_a_future_that_is_done(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result("done")
    assert loop.run_until_complete(future) == "done"


def test_run_until_complete_takes_any_awaitable(loop: Loop) -> None:
    class Value:
        def __await__(self) -> Generator[Any, None, str]:
            yield from asyncio.sleep(0).__await__()
            return "value"

    assert loop.run_until_complete(Value()) == "value"


@pytest.mark.parametrize("thing", [None, 1, "text", answer, object()])
def test_run_until_complete_refuses_what_cannot_be_awaited(loop: Loop, thing: Any) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(thing)
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_refuses_a_future_of_another_loop(
    loop: Loop, loop_factory: Callable[[], Loop]
) -> None:
    other = loop_factory()
    try:
        with pytest.raises(ValueError, match="loop"):
            loop.run_until_complete(other.create_future())
    finally:
        other.close()


def test_run_until_complete_of_a_cancelled_task_raises_cancelled_error(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(3600))
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_stopped_before_complete_is_an_error_and_the_task_can_be_run_on(loop: Loop) -> None:
    gate = loop.create_future()
    task = loop.create_task(asyncio.wait_for(gate, None))
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"Event loop stopped before Future completed\."):
        loop.run_until_complete(task)
    assert not task.done()
    gate.set_result("late")
    assert loop.run_until_complete(task) == "late"


def test_a_future_stops_no_later_run_than_its_own(loop: Loop) -> None:
    gate = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped"):
        loop.run_until_complete(gate)
    gate.set_result(None)
    assert loop.run_until_complete(answer()) == 42


def test_an_exception_that_comes_out_is_not_also_reported(loop: Loop, loop_errors: list[Any]) -> None:
    with pytest.raises(OSError, match="mine"):
        loop.run_until_complete(fail(OSError("mine")))
    gc.collect()
    assert loop_errors == []


def test_a_run_after_a_failed_one_works(loop: Loop) -> None:
    with pytest.raises(OSError, match="mine"):
        loop.run_until_complete(fail(OSError("mine")))
    assert loop.run_until_complete(answer()) == 42


# ----------------------------------------------------------------- run_forever and stop --


def test_stop_in_a_callback_lets_what_is_ready_run_and_nothing_after(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(ran.append, "before")
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: (ran.append("after"), loop.call_soon(ran.append, "next turn")))
    loop.run_forever()
    assert ran == ["before", "after"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["before", "after", "next turn"]


def test_stop_before_run_forever_makes_it_one_turn(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(ran.append, "ready")
    loop.call_later(3600, ran.append, "late")
    loop.stop()
    loop.run_forever()
    assert ran == ["ready"]


def test_stop_is_forgotten_by_the_next_run(loop: Loop) -> None:
    loop.stop()
    loop.run_forever()
    assert loop.run_until_complete(answer()) == 42


def test_stop_twice_is_one_stop(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.run_until_complete(answer()) == 42


def test_is_running_and_get_running_loop_follow_the_run(loop: Loop) -> None:
    async def look() -> tuple[bool, bool]:
        return loop.is_running(), asyncio.get_running_loop() is loop

    assert not loop.is_running()
    assert loop.run_until_complete(look()) == (True, True)
    assert not loop.is_running()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


# ------------------------------------------------------------------- runs within runs --


def raised_inside(loop: Loop, call: Callable[[], object]) -> BaseException:
    """What `call` raises when the loop runs."""

    async def inside() -> BaseException:
        try:
            call()
        except BaseException as exc:
            return exc
        pytest.fail("nothing was raised")

    return loop.run_until_complete(inside())


def test_running_a_running_loop_is_an_error(loop: Loop) -> None:
    error = raised_inside(loop, loop.run_forever)
    assert isinstance(error, RuntimeError)
    assert str(error) == "This event loop is already running"
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_on_a_running_loop_is_an_error(loop: Loop) -> None:
    future = loop.create_future()
    error = raised_inside(loop, lambda: loop.run_until_complete(future))
    assert str(error) == "This event loop is already running"


def test_running_another_loop_inside_a_run_is_an_error(loop: Loop, loop_factory: Callable[[], Loop]) -> None:
    other = loop_factory()
    error = raised_inside(loop, other.run_forever)
    assert isinstance(error, RuntimeError)
    assert str(error) == "Cannot run the event loop while another loop is running"
    assert other.run_until_complete(answer()) == 42
    other.close()


def test_running_a_loop_that_runs_in_another_thread_is_an_error(loop: Loop) -> None:
    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert started.wait(10)
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        assert loop.is_running() or not ON_PINLOOP  # asyncio 3.13.0 forgets that it runs
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
    assert not thread.is_alive()


# ------------------------------------------------------------------------------ close --


def test_close_may_be_called_twice(loop: Loop) -> None:
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_a_running_loop_cannot_be_closed(loop: Loop) -> None:
    error = raised_inside(loop, loop.close)
    assert isinstance(error, RuntimeError)
    assert str(error) == "Cannot close a running event loop"
    assert not loop.is_closed()
    assert loop.run_until_complete(answer()) == 42


def test_a_closed_loop_does_not_run(loop: Loop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()
    coro = answer()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_until_complete(coro)
    coro.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_signal_handler(10, print),
    ],
    ids=[
        "call_soon",
        "call_soon_threadsafe",
        "call_later",
        "call_at",
        "add_reader",
        "add_writer",
        "run_in_executor",
        "add_signal_handler",
    ],
)
def test_a_closed_loop_refuses(loop: Loop, call: Callable[[Loop], object]) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        call(loop)


def test_a_closed_loop_refuses_tasks(loop: Loop) -> None:
    loop.close()
    coro = answer()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()


def test_close_drops_what_was_scheduled(loop: Loop) -> None:
    class Argument:
        pass

    ran: list[Any] = []
    soon, later = Argument(), Argument()
    references = [weakref.ref(soon), weakref.ref(later)]
    loop.call_soon(ran.append, soon)
    loop.call_later(0, ran.append, later)
    del soon, later
    loop.close()
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert ran == []


def test_a_loop_dropped_without_close_warns_and_gives_its_descriptors_back(
    loop_factory: Callable[[], Loop], no_fd_leak: None
) -> None:
    def make_and_drop() -> None:
        loop = loop_factory()
        loop.call_soon(print)
        loop.call_later(3600, print, loop)
        del loop
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        make_and_drop()


def test_repr_says_the_state(loop: Loop) -> None:
    assert "running=False closed=False" in repr(loop)
    loop.close()
    assert "closed=True" in repr(loop)


# ------------------------------------------------------------------------ the hooks --


def test_a_run_leaves_no_hook_behind(loop: Loop) -> None:
    before = sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()
    loop.run_until_complete(answer())
    with pytest.raises(SystemExit):
        loop.run_until_complete(fail(SystemExit()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert (sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()) == before


def test_time_is_monotonic_and_moves(loop: Loop) -> None:
    async def main() -> tuple[float, float]:
        before = loop.time()
        await asyncio.sleep(0.002)
        return before, loop.time()

    before, after = loop.run_until_complete(main())
    assert after - before >= 0.002
    assert loop.time() >= after


def test_a_callback_gets_its_loop_from_the_run_not_from_the_thread(
    loop: Loop, loop_factory: Callable[[], Loop]
) -> None:
    # Two loops take turns in one thread: each run is its own.
    other = loop_factory()
    seen: list[Loop] = []
    for each in (loop, other, loop):
        each.call_soon(lambda: seen.append(asyncio.get_running_loop()))
        each.call_soon(each.stop)
        each.run_forever()
    assert seen == [loop, other, loop]
    other.close()
