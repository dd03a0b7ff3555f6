"""What is said of a callback that fails, is slow, or cannot even be described."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import pinloop
from tests.core.support import turn

Context = dict[str, Any]


class BadRepr:
    """A callback that fails, and so does its repr."""

    def __call__(self, *args: object) -> None:
        raise KeyError("the fault")

    def __repr__(self) -> str:
        raise ValueError("no repr")


def wrapper_of_itself() -> Callable[..., None]:
    def fail() -> None:
        raise KeyError("the fault")

    fail.__wrapped__ = fail  # type: ignore[attr-defined]
    return fail


class PartialOfItself:
    """Looks like functools.partial, of itself."""

    @property
    def func(self) -> "PartialOfItself":
        return self

    def __call__(self) -> None:
        raise KeyError("the fault")


class FuncRaises:
    @property
    def func(self) -> None:
        raise ZeroDivisionError

    def __call__(self) -> None:
        raise KeyError("the fault")


class NameRaises:
    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError

    def __call__(self) -> None:
        raise KeyError("the fault")


STRANGE = {
    "bad repr": BadRepr,
    "partial of a bad repr": lambda: functools.partial(BadRepr()),
    "wraps itself": wrapper_of_itself,
    "partial of itself": PartialOfItself,
    "func raises": FuncRaises,
    "name raises": NameRaises,
    "a Mock": lambda: mock.Mock(side_effect=KeyError("the fault")),
    "a MagicMock": lambda: mock.MagicMock(side_effect=KeyError("the fault")),
    "a spec": lambda: mock.create_autospec(lambda: None, side_effect=KeyError("the fault")),
}


@pytest.fixture
def bare() -> Iterator[pinloop.Loop]:
    """A loop that is closed without being run once more, whatever is left on it."""
    loop = pinloop.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.timeout(3)
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("kind", STRANGE)
def test_a_callback_that_cannot_be_described_is_reported_all_the_same(
    bare: pinloop.Loop, kind: str, debug: bool
) -> None:
    ran: list[int] = []
    reported: list[Context] = []
    bare.set_exception_handler(lambda _, context: reported.append(context))
    bare.set_debug(debug)
    bare.call_soon(STRANGE[kind]())
    bare.call_soon(ran.append, 1)
    turn(bare)
    assert ran == [1]
    assert [repr(context["exception"]) for context in reported] == ["KeyError('the fault')"]


@pytest.mark.timeout(3)
@pytest.mark.parametrize("kind", STRANGE)
def test_repr_of_a_handle_never_fails(bare: pinloop.Loop, kind: str) -> None:
    assert repr(bare.call_soon(STRANGE[kind]())).startswith("<Handle")


def test_arguments_without_a_repr_do_not_matter(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context]
) -> None:
    def fail(*args: object) -> None:
        raise KeyError("the fault")

    loop.set_debug(True)
    loop.call_soon(fail, BadRepr())
    loop.call_soon(fail, BadRepr(), BadRepr())
    turn(loop)
    assert [repr(context["exception"]) for context in loop_errors] == ["KeyError('the fault')"] * 2
    loop_errors.clear()


# ---------------------------------------------------------------------- failing --


def test_a_fault_is_reported_with_its_handle_and_the_rest_of_the_batch_runs(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context]
) -> None:
    ran: list[int] = []
    handle = loop.call_soon(int, "no number")
    loop.call_soon(ran.append, 1)
    turn(loop)
    (context,) = loop_errors
    loop_errors.clear()
    assert ran == [1]
    assert context["message"].startswith("Exception in callback int(")
    assert isinstance(context["exception"], ValueError)
    assert context["handle"] is handle


def test_debug_mode_adds_where_the_callback_was_scheduled(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context]
) -> None:
    loop.set_debug(True)
    loop.call_soon(int, "no number")
    turn(loop)
    stack = loop_errors.pop()["source_traceback"]
    assert stack[-1].filename == __file__
    assert stack[-1].name == "test_debug_mode_adds_where_the_callback_was_scheduled"


def test_a_fault_of_a_timer_is_reported(loop: asyncio.AbstractEventLoop, loop_errors: list[Context]) -> None:
    handle = loop.call_later(0, int, "no number")
    turn(loop)
    assert loop_errors.pop()["handle"] is handle


@pytest.mark.parametrize("kind", [BaseException, GeneratorExit, asyncio.CancelledError])
def test_other_base_exceptions_are_reported(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], kind: type[BaseException]
) -> None:
    def fail() -> None:
        raise kind

    loop.call_soon(fail)
    turn(loop)
    assert type(loop_errors.pop()["exception"]) is kind


def test_without_a_handler_the_fault_is_logged(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    loop.call_soon(int, "no number")
    turn(loop)
    (record,) = caplog.records
    assert "Exception in callback" in record.message
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


def test_a_handler_that_fails_is_logged_and_the_loop_goes_on(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    loop.set_exception_handler(lambda *_: 1 // 0)
    loop.call_soon(int, "no number")
    loop.call_soon(ran.append, 1)
    turn(loop)
    assert ran == [1]
    assert "Unhandled error in exception handler" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_leaves_run_forever_and_the_rest_of_the_batch_runs_next_time(
    loop: asyncio.AbstractEventLoop, kind: type[BaseException]
) -> None:
    ran: list[int] = []

    def leave() -> None:
        raise kind("told to")

    loop.call_soon(ran.append, 1)
    loop.call_soon(leave)
    loop.call_soon(ran.append, 2)
    with pytest.raises(kind, match="told to"):
        loop.run_forever()
    assert ran == [1]
    assert not loop.is_running()
    turn(loop)
    assert ran == [1, 2]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_the_exception_handler_leaves_too(
    loop: asyncio.AbstractEventLoop, kind: type[BaseException]
) -> None:
    def leave(*_: object) -> None:
        raise kind

    loop.set_exception_handler(leave)
    loop.call_soon(int, "no number")
    with pytest.raises(kind):
        loop.run_forever()
    turn(loop)


# ------------------------------------------------------------------------- slow --


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_debug_mode_reports_a_slow_callback(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_soon(busy, 0.011)
    loop.call_soon(int)
    with caplog.at_level(logging.WARNING, "asyncio"):
        turn(loop)
    slow = [record.message for record in caplog.records if "took" in record.message]
    assert len(slow) == 1
    assert "busy" in slow[0]
    assert __file__ in slow[0]


def test_without_debug_mode_nobody_is_told(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(False)
    loop.slow_callback_duration = 0.01
    loop.call_soon(busy, 0.011)
    turn(loop)
    assert not caplog.records
