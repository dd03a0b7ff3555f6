"""Future: being awaited, and what it is as an object. Asyncio's class is the referee."""

# ruff: noqa: PERF401 - a log is written line by line

import asyncio
import contextvars
import copy
import gc
import pickle
import sys
import types
import weakref
from typing import Any

import pytest

from tests.core.worlds import World, alike, attempt, told

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


# ------------------------------------------------------------------------ being awaited --


@pytest.mark.parametrize("way", ["__await__", "__iter__"])
def test_the_iterator_of_a_future(world: World, way: str) -> None:
    future = world.future()
    iterator = getattr(future, way)()
    assert iterator is not future
    assert next(iterator) is future
    assert future._asyncio_future_blocking is True
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    future.set_result(42)
    with pytest.raises(StopIteration) as caught:
        getattr(future, way)().send(None)
    assert caught.value.value == 42


@alike
def test_the_iterator_by_hand(world: World, log: list[Any]) -> None:
    for ending in ("result", "exception", "cancel", "throw", "throw a class", "close", "junk"):
        future = world.future()
        iterator = iter(future)
        log.append((ending, iterator.send(None) is future, iter(iterator) is iterator))
        future._asyncio_future_blocking = False
        if ending == "result":
            future.set_result((1, 2))  # a tuple is no list of arguments
        elif ending == "exception":
            future.set_exception(OSError("mine"))
        elif ending == "cancel":
            future.cancel("mine")
        elif ending == "throw":
            log.append(attempt(iterator.throw, LookupError("mine")))
        elif ending == "throw a class":
            log.append(attempt(iterator.throw, LookupError))
        elif ending == "close":
            log.append(attempt(iterator.close))
        else:
            log.append(attempt(iterator.throw, 42).partition(":")[0])
        if ending not in {"result", "exception", "cancel"}:
            continue  # what it does after its end differs from version to version
        try:
            log.append(iterator.send("ignored"))
        except BaseException as exception:
            log.append((told(exception), getattr(exception, "value", None)))


def test_the_methods_of_the_iterator_are_those_of_asyncios(world: World) -> None:
    iterator = iter(world.future())
    for name in ("send", "throw", "close", "__iter__", "__next__"):
        assert callable(getattr(iterator, name))


@alike
def test_a_result_that_is_a_tuple_or_an_exception_comes_as_it_is(world: World, log: list[Any]) -> None:
    async def main(future: Any) -> Any:
        return await future

    for value in ((), (1,), (1, 2), StopIteration(3), ValueError("a value"), None):
        future = world.future()
        world.loop.call_soon(future.set_result, value)
        log.append(repr(world.run(main(future))))
        log.append(repr(world.run(main(future))))


def test_a_future_can_be_awaited_through_other_iterators(world: World) -> None:
    @types.coroutine
    def generator(future: Any) -> Any:
        return (yield from future)

    class Awaitable:
        def __init__(self, future: Any) -> None:
            self.future = future

        def __await__(self) -> Any:
            return self.future.__await__()

    class Delegating(Awaitable):
        def __await__(self) -> Any:
            return (yield from self.future.__await__())

    async def main(future: Any) -> list[Any]:
        return [await generator(future), await Awaitable(future), await Delegating(future), await future]

    future = world.future()
    world.loop.call_soon(future.set_result, 42)
    assert world.run(main(future)) == [42] * 4


def test_many_tasks_await_one_future_and_wake_in_order(world: World) -> None:
    order: list[Any] = []

    async def wait(number: int) -> None:
        order.append(await future + number)

    future = world.future()
    tasks = [world.spawn(wait(number)) for number in range(5)]
    world.turn()
    future.add_done_callback(lambda _: order.append("callback"))
    tasks.append(world.spawn(wait(5)))
    world.turn()
    future.set_result(100)
    world.turn()
    assert order == [100, 101, 102, 103, 104, "callback", 105]
    world.loop.run_until_complete(asyncio.wait(tasks))


def test_blocking_can_be_set_by_hand(world: World) -> None:
    future = world.future()
    assert future._asyncio_future_blocking is False
    future._asyncio_future_blocking = True
    assert future._asyncio_future_blocking is True
    assert asyncio.isfuture(future)


# ---------------------------------------------------------------------------- as an object --


def test_what_a_future_is(world: World) -> None:
    future = world.future()
    assert isinstance(future, asyncio.Future)
    assert not isinstance(future, asyncio.Task)
    assert asyncio.isfuture(future)
    assert not asyncio.iscoroutine(future)
    assert issubclass(world.Task, world.Future)
    assert hash(future) == hash(future) and future != world.future()
    assert isinstance(future, __import__("collections.abc").abc.Awaitable)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in 3.14")
def test_who_awaits_a_future_can_be_told(world: World) -> None:
    futures = [world.future() for _ in range(4)]
    assert futures[0]._asyncio_awaited_by is None
    for waiter in futures[1:]:
        asyncio.future_add_to_awaited_by(futures[0], waiter)
    asyncio.future_add_to_awaited_by(futures[0], futures[1])
    assert set(futures[0]._asyncio_awaited_by) == set(futures[1:])
    for waiter in futures:
        asyncio.future_discard_from_awaited_by(futures[0], waiter)
    assert not futures[0]._asyncio_awaited_by


def test_a_name_of_asyncios_that_is_bound_anew_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio, "Future", asyncio.futures._PyFuture)
    monkeypatch.setattr(asyncio, "Task", asyncio.tasks._PyTask)
    future, task = world.future(), world.spawn(asyncio.sleep(0))
    assert not isinstance(future, asyncio.Future)
    assert not isinstance(task, asyncio.Task)
    world.turn(2)


def test_a_future_takes_attributes_and_weak_references(world: World) -> None:
    future = world.future()
    future.colour = "red"
    assert future.colour == "red"
    gone: list[Any] = []
    reference = weakref.ref(future, gone.append)
    assert reference() is future
    del future
    gc.collect()
    assert gone == [reference]
    fresh = world.future()
    assert not hasattr(fresh, "colour")  # whatever memory it was made of
    assert weakref.getweakrefcount(fresh) == 0


def test_a_generic_future_is_an_alias(world: World) -> None:
    for cls in (world.Future, world.Task):
        alias = cls[int]
        assert isinstance(alias, types.GenericAlias)
        assert alias.__origin__ is cls and alias.__args__ == (int,)


@alike
def test_a_future_cannot_be_copied_or_pickled(world: World, log: list[Any]) -> None:
    for each in (world.future(), world.spawn(asyncio.sleep(0))):
        log.append(attempt(pickle.dumps, each).partition(":")[0])
        log.append(attempt(copy.copy, each).partition(":")[0])
        log.append(attempt(copy.deepcopy, each).partition(":")[0])
    world.turn(2)


@alike
def test_attributes_that_cannot_be_set_or_deleted(world: World, log: list[Any]) -> None:
    future = world.future()
    for name in ("_state", "_result", "_exception", "_loop", "_source_traceback", "_asyncio_future_blocking",
                 "_log_traceback", "_callbacks"):  # fmt: skip
        log.append((name, attempt(delattr, future, name).partition(":")[0]))
    for name in ("_state", "_result", "_exception", "_loop", "_source_traceback"):
        log.append((name, attempt(setattr, future, name, 42).partition(":")[0]))
    log.append(attempt(setattr, future, "_log_traceback", True))
    log.append(attempt(setattr, future, "_log_traceback", False))


@alike
def test_a_subclass_may_override_what_it_likes(world: World, log: list[Any]) -> None:
    class Noting(world.Future):  # type: ignore[name-defined,misc]
        def set_result(self, result: Any) -> None:
            log.append("set_result")
            super().set_result(result * 2)

        def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
            log.append("add_done_callback")
            super().add_done_callback(fn, context=context)

        def cancel(self, msg: Any = None) -> bool:
            log.append(f"cancel {msg}")
            return bool(super().cancel(msg))

        def result(self) -> Any:
            log.append("result")
            return "another"

    async def main(future: Any) -> Any:
        return await future

    future = Noting(loop=world.loop)
    world.loop.call_soon(future.set_result, 21)
    log.append(world.run(main(future)))
    log.append(future.result())
    waited = Noting(loop=world.loop)
    task = world.spawn(main(waited))
    world.turn()
    task.cancel("mine")
    log.append(attempt(world.loop.run_until_complete, task))
