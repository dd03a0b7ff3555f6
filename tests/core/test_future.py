"""Future: its states, its results and exceptions, its callbacks. Asyncio's class is the referee."""

# ruff: noqa: PERF401 - a log is written line by line

import asyncio
import contextvars
import sys
import traceback
from typing import Any

import pytest

from tests.core.worlds import World, alike, attempt, in_turn, told

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


# ---------------------------------------------------------------------------- its states --


def test_a_new_future_is_pending(world: World) -> None:
    future = world.future()
    assert not future.done() and not future.cancelled()
    assert future.get_loop() is world.loop
    assert future._state == "PENDING"
    with pytest.raises(asyncio.InvalidStateError, match=r"Result is not (set|ready)"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match="Exception is not set"):
        future.exception()


def test_a_result_is_kept(world: World) -> None:
    future = world.future()
    value = object()
    assert future.set_result(value) is None
    assert future.done() and not future.cancelled()
    assert future.result() is value is future.result()
    assert future.exception() is None
    assert future._state == "FINISHED"


def test_an_exception_is_kept(world: World) -> None:
    future, mine = world.future(), ValueError("mine")
    assert future.set_exception(mine) is None
    assert future.done() and not future.cancelled()
    assert future.exception() is mine is future.exception()
    with pytest.raises(ValueError, match="mine") as caught:
        future.result()
    assert caught.value is mine


def test_a_class_of_exceptions_is_made_an_exception(world: World) -> None:
    future = world.future()
    future.set_exception(LookupError)
    assert type(future.exception()) is LookupError
    assert future.exception() is future.exception()


def test_a_cancelled_future_raises_cancelled_error(world: World) -> None:
    future = world.future()
    assert future.cancel("mine") is True
    assert future.cancel("again") is False
    assert future.done() and future.cancelled()
    assert future._state == "CANCELLED"
    with pytest.raises(asyncio.CancelledError, match="mine"):
        future.result()
    with pytest.raises(asyncio.CancelledError):
        future.exception()


@alike
def test_nothing_is_set_twice(world: World, log: list[Any]) -> None:
    for first in ("set_result", "set_exception", "cancel"):
        for second in ("set_result", "set_exception", "cancel"):
            future = world.future()
            getattr(future, first)(*{"cancel": ()}.get(first, (OSError("first"),)))
            log.append(
                (
                    first,
                    second,
                    attempt(getattr(future, second), *([] if second == "cancel" else [OSError()])),
                )
            )
            log.append((future._state, told(future.exception()) if first == "set_exception" else ""))


@alike
def test_what_set_exception_refuses(world: World, log: list[Any]) -> None:
    for thing in (StopIteration, StopIteration("mine"), 42, None, "text", int, object()):
        future = world.future()
        came = attempt(future.set_exception, thing)
        log.append(
            (str(thing)[:20], came if "StopIteration" in came else came.partition(":")[0], future._state)
        )
        if future.done():
            failure = future.exception()
            log.append((told(failure), told(failure.__cause__), told(failure.__context__)))


@alike
def test_arguments_that_are_wrong(world: World, log: list[Any]) -> None:
    def kind(text: str) -> str:
        return text.partition(":")[0]

    log.append(kind(attempt(world.Future, world.loop)))
    log.append(kind(attempt(world.Future, colour="red")))
    log.append(kind(attempt(world.Future, loop=42)))
    none: tuple[Any, ...] = ()
    for name, arguments in (
        ("set_result", none), ("set_exception", none), ("result", (1,)), ("cancel", (1, 2)),
        ("get_loop", (1,)), ("add_done_callback", none), ("remove_done_callback", none),
    ):  # fmt: skip
        log.append((name, kind(attempt(getattr(world.future(), name), *arguments))))


def test_the_loop_of_a_future_is_the_running_one(world: World) -> None:
    async def main() -> None:
        assert world.Future().get_loop() is world.loop
        assert world.Future(loop=None).get_loop() is world.loop

    world.run(main())


@alike
def test_a_future_that_was_not_initialised(world: World, log: list[Any]) -> None:
    def kind(text: str) -> str:
        return text.partition(":")[0]

    for name in (
        "result",
        "exception",
        "done",
        "cancelled",
        "cancel",
        "get_loop",
        "set_result",
        "set_exception",
    ):
        future = world.Future.__new__(world.Future)
        log.append(
            (name, kind(attempt(getattr(future, name), *([OSError()] if name.startswith("set_") else []))))
        )
    future = world.Future.__new__(world.Future)
    log.append(kind(attempt(future.add_done_callback, print)))
    log.append(kind(attempt(future.remove_done_callback, print)))
    log.append(kind(attempt(iter, future)))
    for name in (
        "_state",
        "_source_traceback",
        "_cancel_message",
        "_log_traceback",
        "_asyncio_future_blocking",
    ):
        log.append((name, kind(attempt(getattr, future, name))))


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="__init__ is refused the second time from 3.15 on")
@alike
def test_a_future_initialised_again_begins_anew(world: World, log: list[Any]) -> None:
    future = world.future()
    future.add_done_callback(in_turn(log, "called"))
    future.set_result(42)
    world.turn()
    future.__init__(loop=world.loop)
    log.append((future._state, attempt(future.result)))
    future.set_exception(OSError("mine"))
    log.append(told(future.exception()))
    future.__init__(loop=world.loop)
    future.cancel()
    log.append(future._state)


# -------------------------------------------------------------------- its exceptions --


def test_the_traceback_of_an_exception_does_not_grow(world: World) -> None:
    future = world.future()
    try:
        raise ValueError("mine")
    except ValueError as mine:
        future.set_exception(mine)
    depths = []
    for _ in range(4):
        with pytest.raises(ValueError, match="mine") as caught:
            future.result()
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    # asyncio's C class forgets where it was raised once it has told that.
    assert depths[0] == 2 and max(depths[1:]) <= 2 and len(set(depths[1:])) == 1, depths


@alike
def test_a_traceback_does_not_grow_with_those_who_await(world: World, log: list[Any]) -> None:
    async def wait() -> None:
        await future

    future = world.future()
    future.set_exception(ValueError("mine"))
    for _ in range(4):
        try:
            world.run(wait())
        except ValueError as mine:
            log.append(
                [each.name for each in traceback.extract_tb(mine.__traceback__) if each.name == "wait"]
            )


def test_the_traceback_tells_where_it_was_raised(world: World) -> None:
    def raiser() -> None:
        raise ValueError("mine")

    future = world.future()
    try:
        raiser()
    except ValueError as mine:
        future.set_exception(mine)

    async def main() -> None:
        await future

    with pytest.raises(ValueError, match="mine") as caught:
        world.run(main())
    names = [each.name for each in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "raiser"
    assert "main" in names


def test_a_context_or_cause_of_an_exception_stays(world: World) -> None:
    future, cause = world.future(), LookupError("cause")
    mine = ValueError("mine")
    mine.__cause__ = cause
    future.set_exception(mine)
    with pytest.raises(ValueError, match="mine") as caught:
        future.result()
    assert caught.value.__cause__ is cause


@alike
def test_a_cancellation_that_is_asked_for_often(world: World, log: list[Any]) -> None:
    future = world.future()
    future.cancel("mine")
    errors = []
    for name in ("result", "exception", "result", "_make_cancelled_error"):
        try:
            errors.append(getattr(future, name)())
        except asyncio.CancelledError as error:
            errors.append(error)
    log.extend((told(each), each.args, told(each.__context__)) for each in errors)
    log.append(future._cancel_message)
    bare = world.future()
    bare.cancel()
    log.append((attempt(bare.result), bare._cancel_message, bare._make_cancelled_error().args))


def test_the_cancel_message_may_be_set(world: World) -> None:
    future = world.future()
    future._cancel_message = "set"
    assert future._cancel_message == "set"
    future.cancel("given")
    assert future._cancel_message == "given"
    future._cancel_message = "again"
    with pytest.raises(asyncio.CancelledError, match="again"):
        future.result()


# ---------------------------------------------------------------------------- callbacks --


@alike
def test_callbacks_run_in_order_in_the_next_turn(world: World, log: list[Any]) -> None:
    future = world.future()
    for number in range(5):
        future.add_done_callback(in_turn(log, number))
    world.loop.call_soon(in_turn(log, "before"))
    future.set_result(None)
    world.loop.call_soon(in_turn(log, "after"))
    log.append("set")
    world.turn()


@alike
def test_a_callback_of_a_future_that_is_done_runs_in_the_next_turn(world: World, log: list[Any]) -> None:
    future = world.future()
    future.set_result(None)
    world.loop.call_soon(in_turn(log, "before"))
    future.add_done_callback(in_turn(log, "one"))
    future.add_done_callback(in_turn(log, "two"))
    log.append(future._callbacks)
    world.turn()


def test_a_callback_gets_the_future(world: World) -> None:
    got: list[Any] = []
    future = world.future()
    future.add_done_callback(got.append)
    future.add_done_callback(got.append)
    future.cancel()
    world.turn()
    assert got == [future, future]


@alike
def test_callbacks_run_in_their_contexts(world: World, log: list[Any]) -> None:
    def note(_: Any) -> None:
        log.append(variable.get())
        variable.set("callback's")

    future = world.future()
    given = contextvars.copy_context()
    given.run(variable.set, "given")
    variable.set("first")
    future.add_done_callback(note)
    variable.set("second")
    future.add_done_callback(note)
    future.add_done_callback(note, context=given)
    future.add_done_callback(note, context=given)
    future.set_result(None)
    world.turn()
    log.append((variable.get(), given[variable]))
    future.add_done_callback(note, context=given)
    world.turn()
    variable.set("unset")


@alike
def test_callbacks_can_be_removed(world: World, log: list[Any]) -> None:
    one, two = in_turn(log, "one"), in_turn(log, "two")
    for added in (
        [one],
        [one, one],
        [one, two],
        [two, one],
        [one, two, one],
        [two, one, one, two],
        [one] * 5,
        [],
    ):
        future = world.future()
        for each in added:
            future.add_done_callback(each)
        log.append((future.remove_done_callback(one), future.remove_done_callback(one)))
        log.append(len(future._callbacks or []))
        future.set_result(None)
        world.turn()
        log.append("-")


def test_callbacks_are_removed_by_equality(world: World) -> None:
    class Same:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Same)

        __hash__ = None  # type: ignore[assignment]

        def __call__(self, future: Any) -> None:
            raise AssertionError("it was removed")

    future = world.future()
    future.add_done_callback(Same())
    future.add_done_callback(Same())
    assert future.remove_done_callback(Same()) == 2
    future.set_result(None)
    world.turn()


def test_a_comparison_that_fails_leaves_the_callbacks(world: World) -> None:
    class Failing:
        def __eq__(self, other: object) -> bool:
            raise LookupError("mine")

        __hash__ = None  # type: ignore[assignment]

    for callbacks in ([print], [print, repr, str]):
        future = world.future()
        for each in callbacks:
            future.add_done_callback(each)
        with pytest.raises(LookupError, match="mine"):
            future.remove_done_callback(Failing())
        assert [each for each, _ in future._callbacks] == callbacks


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_comparison_may_remove_others(world: World, count: int) -> None:
    class Removing:
        def __eq__(self, other: object) -> bool:
            future.remove_done_callback(print)
            return False

        __hash__ = None  # type: ignore[assignment]

    future = world.future()
    for _ in range(count):
        future.add_done_callback(print)
    future.add_done_callback(repr)
    assert future.remove_done_callback(Removing()) == 0
    assert [each for each, _ in future._callbacks or []] == [repr]


@alike
def test_a_comparison_may_complete_the_future(world: World, log: list[Any]) -> None:
    class Completing:
        def __eq__(self, other: object) -> bool:
            if not future.done():
                future.set_result("mine")
            return True

        __hash__ = None  # type: ignore[assignment]

    for count in (1, 2, 3):
        future = world.future()
        for number in range(count):
            future.add_done_callback(lambda done, number=number: log.append((number, done.result())))
        log.append(future.remove_done_callback(Completing()) > 0)
        log.append((future.result(), future._result, future._callbacks))
        world.turn()


@alike
def test_who_waits_is_no_result(world: World, log: list[Any]) -> None:
    class Called(world.Task):
        def __call__(self, done: Any) -> None:
            log.append(("called", done is future))

    async def wait() -> None:
        log.append(await future)

    for callbacks, tasks in ((0, 1), (1, 0), (1, 1), (2, 2)):
        future = world.future()
        waiting = [world.spawn(wait()) for _ in range(tasks)]
        world.turn()
        # A task may be a callback: as such it is called, and not woken.
        hooks = [Called(wait(), loop=world.loop) for _ in range(callbacks)]
        for each in hooks:
            future.add_done_callback(each)
        log.append((future._result, future._exception, len(future._callbacks), future.done()))
        future.set_result("mine")
        log.append((future._result, future._exception, future._callbacks, future.done()))
        world.turn(3)
        log.append([each.done() for each in waiting + hooks])
        assert world.messages() == []


@alike
def test_callbacks_added_during_callbacks(world: World, log: list[Any]) -> None:
    def adding(done: Any) -> None:
        log.append("adding")
        done.add_done_callback(in_turn(log, "added"))
        world.loop.call_soon(in_turn(log, "soon"))

    future = world.future()
    future.add_done_callback(adding)
    future.add_done_callback(in_turn(log, "second"))
    future.set_result(None)
    world.turn()
    log.append("turn")
    world.turn()


@alike
def test_a_future_completed_by_a_callback_of_another(world: World, log: list[Any]) -> None:
    first, second = world.future(), world.future()
    first.add_done_callback(lambda _: second.set_result("of the first"))
    first.add_done_callback(in_turn(log, "first"))
    second.add_done_callback(lambda future: log.append(future.result()))
    first.set_result(None)
    for _ in range(3):
        world.turn()
        log.append("turn")


@alike
def test_a_callback_that_raises_is_reported_and_the_others_run(world: World, log: list[Any]) -> None:
    def failing(_: Any) -> None:
        raise LookupError("mine")

    future = world.future()
    future.add_done_callback(failing)
    future.add_done_callback(in_turn(log, "second"))
    future.set_result(None)
    world.turn()
    log.extend((told(each["exception"]), "handle" in each) for each in world.errors)
    log.append([each.partition("<")[0].partition(" test_")[0] for each in world.messages()])


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_a_callback_that_ends_the_program_ends_the_run(world: World, exception: type[BaseException]) -> None:
    def ending(_: Any) -> None:
        raise exception("mine")

    seen: list[str] = []
    future = world.future()
    future.add_done_callback(ending)
    future.add_done_callback(lambda _: seen.append("second"))
    future.set_result(None)
    with pytest.raises(exception, match="mine"):
        world.turn()
    world.turn()
    assert seen == ["second"]


@alike
def test_the_callbacks_attribute_is_a_list_of_pairs(world: World, log: list[Any]) -> None:
    future = world.future()
    log.append(future._callbacks)
    for _ in range(3):
        future.add_done_callback(print)
        log.append(
            (type(future._callbacks).__name__, len(future._callbacks), future._callbacks[0][0] is print)
        )
        log.append([type(context).__name__ for _, context in future._callbacks])
    future.set_result(None)
    log.append(future._callbacks or None)
    log.append(attempt(setattr, future, "_callbacks", []).partition(":")[0])
