"""Signal handlers: signals as callbacks of the loop."""

import asyncio
import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import pinloop
from tests.core.support import run_until, turn

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


def kill_self(sig: int = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), sig)


@pytest.fixture(autouse=True)
def signals_restored() -> Iterator[None]:
    """Fails the test if it leaves a handler or a wake-up fd behind."""
    watched = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(sig) for sig in watched]
    yield
    assert [signal.getsignal(sig) for sig in watched] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_handler_is_called_with_its_arguments_as_a_callback(loop: asyncio.AbstractEventLoop) -> None:
    got: list[object] = []

    def handler(*args: int) -> None:
        got.append((*args, asyncio._get_running_loop()))

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, 2)
    loop.call_soon(kill_self)
    run_until(loop, lambda: got)
    assert got == [(1, 2, loop)]
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_ends_a_poll_without_timeout(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    timer = threading.Thread(target=kill_self)
    loop.call_soon(timer.start)
    loop.run_forever()
    timer.join()
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_every_signal_of_a_burst_of_different_ones_arrives(loop: asyncio.AbstractEventLoop) -> None:
    got: list[int] = []
    for sig in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        loop.add_signal_handler(sig, got.append, sig)
    for sig in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        kill_self(sig)
    run_until(loop, lambda: len(got) == 3)
    assert sorted(got) == sorted([signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
    for sig in got:
        assert loop.remove_signal_handler(sig)


def test_a_signal_while_the_loop_does_not_run_is_delivered_by_the_next_run(
    loop: asyncio.AbstractEventLoop,
) -> None:
    got: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
    turn(loop)
    kill_self()
    assert got == []
    run_until(loop, lambda: got)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_is_told_once_also_across_runs(loop: asyncio.AbstractEventLoop) -> None:
    got: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
    # In the last turn: its number is in the pipe when the loop stops.
    loop.call_soon(kill_self)
    loop.call_soon(loop.stop)
    loop.run_forever()
    run_until(loop, lambda: got)
    for _ in range(3):
        turn(loop)
    assert got == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_another_python_handler_does_not_take_the_callback_away(loop: asyncio.AbstractEventLoop) -> None:
    # Servers put handlers of their own in place for as long as they serve.
    got: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, "the loop's")
    ours = signal.signal(signal.SIGUSR1, lambda sig, frame: got.append("the server's"))
    loop.call_soon(kill_self)
    run_until(loop, lambda: len(got) == 2)
    signal.signal(signal.SIGUSR1, ours)
    loop.call_soon(kill_self)
    run_until(loop, lambda: len(got) == 3)
    turn(loop)
    assert got == ["the server's", "the loop's", "the loop's"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_second_handler_replaces_the_first(loop: asyncio.AbstractEventLoop) -> None:
    got: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
    loop.add_signal_handler(signal.SIGUSR1, got.append, 2)
    kill_self()
    run_until(loop, lambda: got)
    assert got == [2]
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_runs_in_the_context_that_added_it(loop: asyncio.AbstractEventLoop) -> None:
    got: list[str] = []
    context = contextvars.copy_context()
    context.run(VAR.set, "adder's")
    context.run(loop.add_signal_handler, signal.SIGUSR1, lambda: got.append(VAR.get()))
    kill_self()
    run_until(loop, lambda: got)
    assert got == ["adder's"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_that_fails_is_reported(
    loop: asyncio.AbstractEventLoop, loop_errors: list[dict[str, object]]
) -> None:
    loop.add_signal_handler(signal.SIGUSR1, int, "no number")
    kill_self()
    run_until(loop, lambda: loop_errors)
    assert isinstance(loop_errors.pop()["exception"], ValueError)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_python_level_handler_runs_while_the_loop_polls(loop: asyncio.AbstractEventLoop) -> None:
    got: list[int] = []

    def handler(sig: int, _: object) -> None:
        got.append(sig)
        loop.call_soon_threadsafe(loop.stop)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        thread = threading.Thread(target=kill_self)
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert got == [signal.SIGUSR1]


def test_an_exception_of_a_python_level_handler_leaves_run_forever(loop: asyncio.AbstractEventLoop) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("from the handler")

    previous = signal.signal(signal.SIGUSR1, interrupt)
    ran: list[int] = []
    try:
        thread = threading.Thread(target=kill_self)
        loop.call_soon(thread.start)
        with pytest.raises(KeyboardInterrupt, match="from the handler"):
            loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    loop.call_soon(ran.append, 1)
    turn(loop)
    assert ran == [1]


def test_ctrl_c_cancels_the_main_task_of_a_runner_then_raises() -> None:
    seen: list[str] = []

    async def main() -> None:
        threading.Thread(target=kill_self, args=(signal.SIGINT,)).start()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=pinloop.new_event_loop) as runner:
        runner.run(main())
    assert seen == ["cancelled"]


def test_ctrl_c_ends_a_loop_that_sleeps_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    thread = threading.Thread(target=kill_self, args=(signal.SIGINT,))
    loop.call_soon(thread.start)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()


# ---------------------------------------------------------------------- refusals --


@pytest.mark.parametrize("sig", [0, -1, 1000])
def test_what_is_no_signal_is_a_value_error(loop: asyncio.AbstractEventLoop, sig: int) -> None:
    with pytest.raises(ValueError, match="signal"):
        loop.add_signal_handler(sig, int)
    with pytest.raises(ValueError, match="signal"):
        loop.remove_signal_handler(sig)


@pytest.mark.parametrize("sig", ["SIGUSR1", None, 1.5])
def test_a_signal_that_is_no_int_is_a_type_error(loop: asyncio.AbstractEventLoop, sig: object) -> None:
    with pytest.raises(TypeError):
        loop.add_signal_handler(sig, int)  # type: ignore[arg-type]


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP])
def test_a_signal_that_cannot_be_caught_is_a_runtime_error(loop: asyncio.AbstractEventLoop, sig: int) -> None:
    with pytest.raises(RuntimeError, match="cannot be caught"):
        loop.add_signal_handler(sig, int)
    assert not loop.remove_signal_handler(sig)


def test_another_thread_cannot_set_handlers(loop: asyncio.AbstractEventLoop) -> None:
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            loop.add_signal_handler(signal.SIGUSR1, int)
        except RuntimeError as exc:
            caught.append(exc)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(caught) == 1


@pytest.mark.parametrize("callback", [None, 1, "f"])
def test_what_cannot_be_called_is_a_type_error(loop: asyncio.AbstractEventLoop, callback: object) -> None:
    with pytest.raises(TypeError):
        loop.add_signal_handler(signal.SIGUSR1, callback)  # type: ignore[arg-type]


def test_a_coroutine_function_is_a_type_error(loop: asyncio.AbstractEventLoop) -> None:
    async def handler() -> None: ...

    with pytest.raises(TypeError, match="coroutines"):
        loop.add_signal_handler(signal.SIGUSR1, handler)


def test_a_closed_loop_takes_no_handler(loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR1, int)


# --------------------------------------------------------------------- restoring --


def test_remove_gives_the_default_handling_back(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGINT, int)
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_close_removes_every_handler(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGTERM, int)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def close(loop: asyncio.AbstractEventLoop) -> None:
    loop.close()


def remove(loop: asyncio.AbstractEventLoop) -> None:
    loop.remove_signal_handler(signal.SIGUSR1)
    turn(loop)


@pytest.mark.parametrize("end", [close, remove])
def test_the_wakeup_fd_of_others_is_restored(
    loop: asyncio.AbstractEventLoop, end: Callable[[asyncio.AbstractEventLoop], None]
) -> None:
    near, far = os.pipe()
    os.set_blocking(far, False)
    signal.set_wakeup_fd(far)
    try:
        turn(loop)
        assert signal.set_wakeup_fd(far) == far
        loop.add_signal_handler(signal.SIGUSR1, int)
        end(loop)
        assert signal.set_wakeup_fd(far) == far
    finally:
        signal.set_wakeup_fd(-1)
        os.close(near)
        os.close(far)


def test_a_wakeup_fd_set_while_the_loop_runs_stays(loop: asyncio.AbstractEventLoop) -> None:
    near, far = os.pipe()
    os.set_blocking(far, False)
    loop.call_soon(signal.set_wakeup_fd, far)
    turn(loop)
    assert signal.set_wakeup_fd(-1) == far
    os.close(near)
    os.close(far)


def test_a_loop_with_handlers_may_be_closed_while_another_runs() -> None:
    waiting, running = pinloop.new_event_loop(), pinloop.new_event_loop()
    waiting.add_signal_handler(signal.SIGUSR1, int)
    running.call_soon(waiting.close)
    turn(running)
    running.close()


def test_handlers_of_a_loop_work_again_after_another_ran() -> None:
    got: list[int] = []
    first, second = pinloop.new_event_loop(), pinloop.new_event_loop()
    first.add_signal_handler(signal.SIGUSR1, got.append, 1)
    turn(second)
    kill_self()
    run_until(first, lambda: got)
    first.close()
    second.close()
    assert got == [1]


def test_a_signal_that_arrives_while_another_loop_runs_is_not_lost() -> None:
    got: list[int] = []
    first, second = pinloop.new_event_loop(), pinloop.new_event_loop()
    first.add_signal_handler(signal.SIGUSR1, got.append, 1)
    second.call_soon(kill_self)
    turn(second)
    second.close()
    deadline = time.monotonic() + 1
    while not got and time.monotonic() < deadline:
        turn(first)
    first.close()
    assert got == [1]
