"""The native half of the loop: running, stopping, closing, its clock, its tasks."""

import asyncio
import contextvars
import inspect
import logging
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import pinloop
from pinloop import _core
from tests.core.support import run_python, scripted, turn


async def nothing() -> None: ...


# ------------------------------------------------------------------------- running --


def test_it_is_an_event_loop_and_tells_what_it_is(loop: asyncio.AbstractEventLoop) -> None:
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert weakref.ref(loop)() is loop
    assert repr(loop).startswith("<Loop running=False closed=False debug=")
    seen: list[str] = []
    loop.call_soon(lambda: seen.append(repr(loop)))
    turn(loop)
    assert "running=True" in seen[0]
    loop.close()
    assert "closed=True" in repr(loop)


def test_it_is_the_running_loop_while_it_runs_and_only_then(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []
    loop.call_soon(lambda: seen.append((asyncio.get_running_loop(), loop.is_running())))
    turn(loop)
    assert seen == [(loop, True)]
    assert not loop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_it_cannot_be_run_within_itself(loop: asyncio.AbstractEventLoop) -> None:
    caught: list[str] = []

    def again() -> None:
        for run in (loop.run_forever, loop._run):  # type: ignore[attr-defined]
            try:
                run()
            except RuntimeError as exc:
                caught.append(str(exc))

    loop.call_soon(again)
    turn(loop)
    assert caught == ["This event loop is already running"] * 2


def test_another_loop_cannot_be_run_within_it(loop: asyncio.AbstractEventLoop) -> None:
    other = pinloop.new_event_loop()
    caught: list[str] = []

    def nested() -> None:
        try:
            other.run_forever()
        except RuntimeError as exc:
            caught.append(str(exc))

    loop.call_soon(nested)
    turn(loop)
    other.close()
    assert caught == ["Cannot run the event loop while another loop is running"]


def test_two_threads_cannot_run_it_at_once(loop: asyncio.AbstractEventLoop) -> None:
    caught: list[str] = []

    def elsewhere() -> None:
        try:
            loop.run_forever()
        except RuntimeError as exc:
            caught.append(str(exc))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=elsewhere)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert caught == ["This event loop is already running"]


def test_it_may_be_run_by_one_thread_after_the_other(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int | None] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: (loop.call_soon(ran.append, 1), turn(loop)))
        thread.start()
        thread.join()
        loop.call_soon(ran.append, 2)
        turn(loop)
    assert ran == [1, 2] * 3


def test_loops_run_in_many_threads_at_once() -> None:
    results: list[int] = []

    async def work() -> int:
        total = 0
        for i in range(100):
            await asyncio.sleep(0)
            total += i
        await asyncio.sleep(0.001)
        return total

    threads = [threading.Thread(target=lambda: results.append(pinloop.run(work()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [4950] * 8


def test_hooks_and_the_running_loop_are_put_back_after_an_exit(loop: asyncio.AbstractEventLoop) -> None:
    hooks = sys.get_asyncgen_hooks()

    def leave() -> None:
        assert sys.get_asyncgen_hooks() != hooks
        raise KeyboardInterrupt

    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert sys.get_asyncgen_hooks() == hooks
    assert asyncio._get_running_loop() is None


# ------------------------------------------------------------------------- closing --

CLOSED: dict[str, Callable[[Any], object]] = {
    "run_forever": lambda loop: loop.run_forever(),
    "_run": lambda loop: loop._run(),
    "call_soon": lambda loop: loop.call_soon(int),
    "call_later": lambda loop: loop.call_later(0, int),
    "call_at": lambda loop: loop.call_at(0, int),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(int),
    "add_reader": lambda loop: loop.add_reader(0, int),
    "add_writer": lambda loop: loop.add_writer(0, int),
    "run_in_executor": lambda loop: loop.run_in_executor(None, int),
    "create_task": lambda loop: with_coroutine(loop.create_task),
    "run_until_complete": lambda loop: with_coroutine(loop.run_until_complete),
}


def with_coroutine(call: Callable[[Coroutine[Any, Any, None]], object]) -> None:
    coro = nothing()
    try:
        call(coro)
    finally:
        coro.close()


@pytest.mark.parametrize("use", CLOSED)
def test_a_closed_loop_says_so(loop: asyncio.AbstractEventLoop, use: str) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        CLOSED[use](loop)


def test_a_running_loop_cannot_be_closed(loop: asyncio.AbstractEventLoop) -> None:
    caught: list[str] = []

    def close() -> None:
        try:
            loop.close()
        except RuntimeError as exc:
            caught.append(str(exc))

    loop.call_soon(close)
    turn(loop)
    assert caught == ["Cannot close a running event loop"]
    assert not loop.is_closed()


def test_close_drops_what_is_scheduled(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    loop.call_later(0, ran.append, 2)
    loop.call_soon_threadsafe(ran.append, 3)
    loop.close()
    assert ran == []


def test_a_loop_that_failed_to_be_made_can_be_dropped() -> None:
    with pytest.raises(TypeError):
        pinloop.Loop(poller="none")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pinloop.Loop(1, 2, 3)  # type: ignore[call-arg, arg-type]


def test_init_cannot_be_called_twice(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(RuntimeError, match="initialised already"):
        _core.Loop.__init__(loop)
    turn(loop)


def test_a_poller_may_be_given() -> None:
    poller = _core.default_poller()
    loop = pinloop.Loop(poller)
    assert f"poller={poller.name}" in repr(loop)
    assert loop.run_until_complete(asyncio.sleep(0.001, "done")) == "done"
    loop.close()
    assert poller.fileno() == -1


@pytest.mark.parametrize("cls", [cls.__name__ for cls in _core.available_pollers()])
def test_every_poller_of_this_machine_drives_a_loop(cls: str) -> None:
    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 200_000)
        writer.write_eof()
        data = await reader.read()
        writer.close()
        server.close()
        return data

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    loop = pinloop.Loop(getattr(_core, cls)())
    assert loop.run_until_complete(main()) == b"x" * 200_000
    loop.close()


def test_subclasses_have_attributes_of_their_own() -> None:
    class Mine(pinloop.Loop):
        def __init__(self) -> None:
            super().__init__()
            self.mine = 1

    loop = Mine()
    loop.call_soon(lambda: setattr(loop, "mine", 2))
    turn(loop)
    assert loop.mine == 2
    loop.close()


# --------------------------------------------------------------------------- clock --


def test_time_is_monotonic_and_the_systems(loop: asyncio.AbstractEventLoop) -> None:
    before = time.monotonic()
    now = [loop.time() for _ in range(1000)]
    after = time.monotonic()
    assert now == sorted(now)
    assert before - 1e-6 <= now[0]
    assert now[-1] <= after + 1e-6


def test_time_is_the_pollers() -> None:
    loop, poller = scripted()
    poller.clock_ns = 1_500_000_000
    assert loop.time() == 1.5
    loop.close()


# --------------------------------------------------------------------------- tasks --


def test_create_task_takes_name_and_context(loop: asyncio.AbstractEventLoop) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var")

    async def get() -> int:
        return var.get()

    context = contextvars.copy_context()
    context.run(var.set, 5)
    task = loop.create_task(get(), name="a name", context=context)
    assert isinstance(task, asyncio.Task)
    assert task.get_name() == "a name"
    assert task.get_loop() is loop
    assert loop.run_until_complete(task) == 5


def test_create_task_of_no_coroutine_is_a_type_error(loop: asyncio.AbstractEventLoop) -> None:
    for thing in (None, 1, nothing):
        with pytest.raises(TypeError):
            loop.create_task(thing)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        with_coroutine(lambda coro: loop.create_task(coro, nonsense=1))  # type: ignore[call-arg]


def test_a_task_factory_gets_the_coroutine_and_keywords(loop: asyncio.AbstractEventLoop) -> None:
    made: list[dict[str, Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        made.append(kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(nothing(), name="a name")
    assert task.get_name() == "a name"
    loop.run_until_complete(task)
    assert len(made) == 1
    loop.set_task_factory(None)
    loop.run_until_complete(loop.create_task(nothing()))
    assert len(made) == 1
    with pytest.raises(TypeError):
        loop.set_task_factory("factory")  # type: ignore[arg-type]


def test_futures_belong_to_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert asyncio.isfuture(future)


# ----------------------------------------------------------------- handlers and debug --


def test_an_exception_handler_can_be_set_and_taken_away(loop: asyncio.AbstractEventLoop) -> None:
    def handler(*_: object) -> None: ...

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="callable"):
        loop.set_exception_handler(1)  # type: ignore[arg-type]


def test_an_overridden_exception_handler_is_called() -> None:
    seen: list[str] = []

    class Mine(pinloop.Loop):
        def call_exception_handler(self, context: dict[str, Any]) -> None:
            seen.append(context["message"])

    loop = Mine()
    loop.call_soon(int, "no number")
    turn(loop)
    loop.close()
    assert len(seen) == 1


def test_the_default_handler_logs_everything_it_is_told(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.default_exception_handler({"message": "the message", "something": [1, 2], "exception": None})
    assert "the message" in caplog.text
    assert "something: [1, 2]" in caplog.text
    loop.default_exception_handler({})
    assert "Unhandled exception in event loop" in caplog.text


def test_debug_mode_is_set_and_told(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_debug(True)
    assert loop.get_debug()
    loop.set_debug(False)
    assert not loop.get_debug()


@pytest.mark.parametrize(("variable", "debug"), [("1", "True"), ("", "False")])
def test_debug_mode_follows_the_environment(variable: str, debug: str) -> None:
    import os

    code = "import pinloop; loop = pinloop.new_event_loop(); print(loop.get_debug()); loop.close()"
    env = {**os.environ, "PYTHONASYNCIODEBUG": variable}
    env["PYTHONPATH"] = os.path.dirname(os.path.dirname(pinloop.__file__))
    out = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=30
    )
    assert out.stdout.strip() == debug


def test_debug_mode_tracks_where_coroutines_were_made(loop: asyncio.AbstractEventLoop) -> None:
    depths: list[int] = []
    loop.set_debug(True)
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    turn(loop)
    assert depths[0] > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_a_task_that_nobody_awaits_is_reported(
    loop: asyncio.AbstractEventLoop, loop_errors: list[dict[str, Any]]
) -> None:
    import gc

    async def fail() -> None:
        raise ZeroDivisionError

    loop.create_task(fail())
    turn(loop)
    turn(loop)
    gc.collect()
    assert "never retrieved" in loop_errors.pop()["message"]


def test_an_unclosed_loop_warns() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = pinloop.new_event_loop()
        del loop
        import gc

        gc.collect()
    assert [each.category for each in caught] == [ResourceWarning]
    assert "unclosed event loop" in str(caught[0].message)


def test_the_scheduling_methods_can_be_inspected() -> None:
    parameters = {
        "call_soon": ["self", "callback", "args", "context"],
        "call_soon_threadsafe": ["self", "callback", "args", "context"],
        "call_later": ["self", "delay", "callback", "args", "context"],
        "call_at": ["self", "when", "callback", "args", "context"],
    }
    for name, expected in parameters.items():
        method = getattr(pinloop.Loop, name)
        assert list(inspect.signature(method).parameters) == expected
        assert method.__doc__
        assert method.__name__ == name


def test_at_exit_an_open_loop_does_no_harm() -> None:
    out = run_python(
        """
import asyncio, warnings
warnings.simplefilter("ignore")
import pinloop
loop = pinloop.new_event_loop()
loop.call_later(10, loop.stop)
loop.run_until_complete(asyncio.sleep(0))
loop.call_soon_threadsafe(loop.stop)
kept = [loop.call_soon(print, loop), loop.call_later(1, print), loop]
asyncio.kept = kept
print("end")
"""
    )
    assert out == "end\n"


def test_nothing_is_logged_by_a_quiet_loop(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        loop.run_until_complete(asyncio.sleep(0.001))
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
