"""Errors that nobody awaits: the exception handler, the default one, and handlers that fail."""

import asyncio
import contextvars
import gc
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
Context = dict[str, Any]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def bare_loop(loop: Loop) -> Loop:
    """The loop with asyncio's default exception handler."""
    loop.set_exception_handler(None)
    return loop


def raising(exception: BaseException) -> Callable[[], None]:
    def callback() -> None:
        raise exception

    return callback


def turn(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [
        record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR
    ]


# ------------------------------------------------------------------- setting a handler --


def test_there_is_no_handler_at_first(bare_loop: Loop) -> None:
    assert bare_loop.get_exception_handler() is None


def test_the_handler_is_what_was_set(bare_loop: Loop) -> None:
    def handler(loop: Loop, context: Context) -> None:
        raise NotImplementedError

    bare_loop.set_exception_handler(handler)
    assert bare_loop.get_exception_handler() is handler
    bare_loop.set_exception_handler(None)
    assert bare_loop.get_exception_handler() is None


def test_a_handler_must_be_callable(bare_loop: Loop) -> None:
    with pytest.raises(TypeError, match="A callable object or None is expected, got 42"):
        bare_loop.set_exception_handler(42)  # type: ignore[arg-type]


def test_the_handler_gets_the_loop_and_the_context(bare_loop: Loop) -> None:
    calls: list[tuple[Loop, Context]] = []
    bare_loop.set_exception_handler(lambda loop, context: calls.append((loop, context)))
    context = {"message": "mine", "anything": 42}
    bare_loop.call_exception_handler(context)
    assert calls == [(bare_loop, context)]
    assert calls[0][1] is context


# ----------------------------------------------------------------- what the handler gets --


def test_a_failed_callback_is_reported_with_its_handle(loop: Loop, loop_errors: list[Context]) -> None:
    error = ValueError("mine")
    handle = loop.call_soon(raising(error))
    turn(loop)
    [context] = loop_errors
    assert context["exception"] is error
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback raising.<locals>.callback")
    loop_errors.clear()


def test_the_report_names_the_arguments_of_a_failed_callback_in_debug_mode(
    loop: Loop, loop_errors: list[Context]
) -> None:
    loop.set_debug(True)
    loop.call_soon(int, "no number")
    turn(loop)
    assert "'no number'" in loop_errors[0]["message"]
    loop_errors.clear()


def test_a_failed_timer_is_reported_with_its_handle(loop: Loop, loop_errors: list[Context]) -> None:
    handle = loop.call_later(0, raising(ValueError("mine")))
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert [context["handle"] for context in loop_errors] == [handle]
    loop_errors.clear()


def test_callbacks_after_a_failed_one_run(loop: Loop, loop_errors: list[Context]) -> None:
    ran: list[str] = []
    loop.call_soon(raising(ValueError("mine")))
    loop.call_soon(ran.append, "after")
    turn(loop)
    assert ran == ["after"]
    loop_errors.clear()


def test_the_traceback_reaches_into_the_callback(loop: Loop, loop_errors: list[Context]) -> None:
    loop.call_soon(raising(ValueError("mine")))
    turn(loop)
    trace = loop_errors[0]["exception"].__traceback__
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "callback"
    loop_errors.clear()


def test_debug_mode_says_where_the_failed_callback_was_scheduled(
    loop: Loop, loop_errors: list[Context]
) -> None:
    loop.set_debug(True)
    loop.call_soon(raising(ValueError("mine")))
    turn(loop)
    trace = loop_errors[0]["source_traceback"]
    assert [(frame.filename, frame.name) for frame in trace][-1] == (
        __file__,
        "test_debug_mode_says_where_the_failed_callback_was_scheduled",
    )
    loop_errors.clear()


def test_without_debug_mode_nothing_is_traced(loop: Loop, loop_errors: list[Context]) -> None:
    loop.set_debug(False)
    loop.call_soon(raising(ValueError("mine")))
    turn(loop)
    assert "source_traceback" not in loop_errors[0]
    loop_errors.clear()


def test_debug_mode_says_where_a_failed_task_was_made(loop: Loop, loop_errors: list[Context]) -> None:
    async def fail() -> None:
        raise ValueError("mine")

    loop.set_debug(True)
    task = loop.create_task(fail())
    turn(loop)
    turn(loop)
    assert task.done()
    del task
    gc.collect()
    [context] = loop_errors
    assert context["source_traceback"][-1].name == "test_debug_mode_says_where_a_failed_task_was_made"
    loop_errors.clear()


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="handlers run in the failed one's context from 3.12 on"
)
def test_the_handler_runs_in_the_context_of_the_callback_that_failed(loop: Loop) -> None:
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, "callback's")
    loop.call_soon(raising(ValueError("mine")), context=context)
    turn(loop)
    assert seen == ["callback's"]


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="handlers run in the failed one's context from 3.12 on"
)
def test_the_handler_runs_in_the_context_of_the_task_that_failed(loop: Loop) -> None:
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))

    async def fail() -> None:
        variable.set("task's")
        raise ValueError("mine")

    async def main() -> None:
        await asyncio.wait([asyncio.create_task(fail())])

    loop.run_until_complete(main())
    gc.collect()
    assert seen == ["task's"]


# ------------------------------------------------------------------- the default handler --


def test_the_default_handler_logs_the_message_and_the_exception(
    bare_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("mine")
    bare_loop.call_exception_handler(
        {"message": "it broke", "exception": error, "number": 42, "also": "this"}
    )
    [record] = errors(caplog)
    # Every other entry is named, in alphabetical order.
    assert record.getMessage() == "it broke\nalso: 'this'\nnumber: 42"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_the_default_handler_needs_no_exception(bare_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    bare_loop.call_exception_handler({"message": "it broke"})
    [record] = errors(caplog)
    assert record.getMessage() == "it broke"
    assert not record.exc_info


def test_the_default_handler_needs_no_message(bare_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    bare_loop.call_exception_handler({})
    assert [record.getMessage() for record in errors(caplog)] == ["Unhandled exception in event loop"]


def test_the_default_handler_logs_a_failed_callback(
    bare_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    bare_loop.call_soon(raising(ValueError("mine")))
    turn(bare_loop)
    [record] = errors(caplog)
    assert "Exception in callback" in record.getMessage()
    assert "handle: <Handle" in record.getMessage()
    assert "ValueError: mine" in caplog.text


def test_the_default_handler_shows_where_the_callback_was_scheduled_in_debug_mode(
    bare_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    bare_loop.set_debug(True)
    bare_loop.call_soon(raising(ValueError("mine")))
    turn(bare_loop)
    message = errors(caplog)[0].getMessage()
    assert "Object created at (most recent call last):" in message
    assert "bare_loop.call_soon(raising(ValueError(" in message


def test_the_default_handler_logs_a_task_nobody_awaited(
    bare_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("mine")

    async def main() -> None:
        await asyncio.wait([asyncio.create_task(fail(), name="the culprit")])

    bare_loop.run_until_complete(main())
    gc.collect()
    message = errors(caplog)[0].getMessage()
    assert message.startswith("Task exception was never retrieved\nfuture: <Task finished name='the culprit'")


def test_an_overridden_default_handler_is_used(loop_factory: Callable[[], Loop]) -> None:
    seen: list[Context] = []
    base = loop_factory()
    base.close()

    class Own(type(base)):  # type: ignore[misc]
        def default_exception_handler(self, context: Context) -> None:
            seen.append(context)

    loop = Own()
    loop.call_soon(raising(ValueError("mine")))
    turn(loop)
    loop.close()
    assert [str(context["exception"]) for context in seen] == ["mine"]


# ------------------------------------------------------------------ handlers that fail --


class Fatal(BaseException):
    """A BaseException that is neither KeyboardInterrupt nor SystemExit."""


@pytest.mark.parametrize("kind", [LookupError, Fatal])
def test_a_handler_that_raises_is_itself_logged(
    bare_loop: Loop, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def handler(loop: Loop, context: Context) -> None:
        raise kind("the handler's")

    ran: list[str] = []
    bare_loop.set_exception_handler(handler)
    bare_loop.call_soon(raising(ValueError("mine")))
    bare_loop.call_soon(ran.append, "after")
    turn(bare_loop)
    [record] = errors(caplog)
    assert record.getMessage().startswith("Unhandled error in exception handler")
    assert "context: {" in record.getMessage()
    assert "mine" in record.getMessage()
    assert f"{kind.__name__}: the handler's" in caplog.text
    assert ran == ["after"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_from_a_handler_comes_out_of_the_run(bare_loop: Loop, kind: type[BaseException]) -> None:
    def handler(loop: Loop, context: Context) -> None:
        raise kind("the handler's")

    bare_loop.set_exception_handler(handler)
    bare_loop.call_soon(raising(ValueError("mine")))
    with pytest.raises(kind, match="the handler's"):
        bare_loop.run_forever()
    bare_loop.set_exception_handler(None)
    turn(bare_loop)


@pytest.fixture
def repr_that_raises() -> object:
    class Unspeakable:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    return Unspeakable()


def test_a_default_handler_that_fails_does_not_stop_the_loop(
    bare_loop: Loop, caplog: pytest.LogCaptureFixture, repr_that_raises: object
) -> None:
    bare_loop.call_soon(bare_loop.call_exception_handler, {"message": "it broke", "thing": repr_that_raises})
    ran: list[str] = []
    bare_loop.call_soon(ran.append, "after")
    turn(bare_loop)
    assert ran == ["after"]
    assert "Exception in default exception handler" in caplog.text


def test_a_callback_whose_repr_fails_is_still_reported(
    loop: Loop, loop_errors: list[Context], repr_that_raises: object
) -> None:
    def callback(argument: object) -> None:
        raise ValueError("mine")

    loop.set_debug(True)
    loop.call_soon(callback, repr_that_raises)
    turn(loop)
    assert [str(context["exception"]) for context in loop_errors] == ["mine"]
    loop_errors.clear()
