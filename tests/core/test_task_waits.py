"""What a task may wait for: futures of all kinds, and what is none. Asyncio's class is the referee."""

# ruff: noqa: PERF401 - a log is written line by line

import asyncio
import contextvars
import types
from typing import Any

import pytest

from tests.core.worlds import World, alike, told

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def nothing() -> None:
    pass


async def wait(future: Any) -> Any:
    return await future


# --------------------------------------------------------------------- what it waits for --


@types.coroutine
def give(thing: Any) -> Any:
    return (yield thing)


@alike
def test_junk_that_is_yielded(world: World, log: list[Any]) -> None:
    def generator() -> Any:
        yield

    async def main(thing: Any) -> None:
        try:
            log.append(("sent", await give(thing)))
        except BaseException as exception:
            log.append(told(exception).partition(" in task")[0])
            log.append(await give(None))

    for thing in (42, "text", object, (), generator(), 1.5, main):
        world.run(main(thing))


@alike
def test_a_bare_yield_gives_way_for_one_turn(world: World, log: list[Any]) -> None:
    async def main(name: str) -> None:
        for _ in range(3):
            log.append((name, await give(None)))

    tasks = [world.spawn(main(name)) for name in "ab"]
    for turn in range(5):
        log.append(turn)
        world.turn()
    log.append([task.done() for task in tasks])


@alike
def test_a_future_that_is_yielded_without_await(world: World, log: list[Any]) -> None:
    async def main(future: Any) -> None:
        try:
            await give(future)
        except BaseException as exception:
            log.append(told(exception).replace("_GatheringFuture", "Future"))

    done = world.future()
    done.set_result(1)
    for future in (world.future(), done, asyncio.Future(loop=world.loop)):
        world.run(main(future))


@alike
def test_a_task_that_awaits_itself(world: World, log: list[Any]) -> None:
    async def main() -> None:
        try:
            await tasks[0]
        except BaseException as exception:
            log.append(told(exception))

    tasks: list[Any] = []
    tasks.append(world.spawn(main()))
    world.turn(4)
    log.append(tasks[0].done())
    tasks.clear()


@alike
def test_a_future_of_another_loop(world: World, log: list[Any]) -> None:
    other = asyncio.SelectorEventLoop()

    async def main(future: Any) -> None:
        try:
            await future
        except BaseException as exception:
            log.append(told(exception).replace(repr(future), "it"))

    world.run(main(world.Future(loop=other)))
    world.run(main(asyncio.Future(loop=other)))
    done = world.Future(loop=other)
    done.set_result(42)
    log.append(world.run(wait(done)))  # it needs no loop any more
    other.close()


class Duck:
    """A future to asyncio's eyes, by its looks alone."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.callbacks: list[Any] = []
        self._asyncio_future_blocking: Any = False
        self.ended = False
        self.cancelled_with: list[Any] = []

    def get_loop(self) -> Any:
        return self.loop

    def add_done_callback(self, callback: Any, *, context: Any) -> None:
        self.callbacks.append((callback, context))

    def end(self) -> None:
        self.ended = True
        for callback, context in self.callbacks:
            self.loop.call_soon(callback, self, context=context)

    def result(self) -> str:
        return "quack"

    def cancel(self, msg: Any = None) -> bool:
        self.cancelled_with.append(msg)
        return False

    def __await__(self) -> Any:
        if not self.ended:
            self._asyncio_future_blocking = True
            yield self
        return self.result()


def test_a_duck_is_waited_for(world: World) -> None:
    duck = Duck(world.loop)
    task = world.spawn(wait(duck))
    world.turn()
    assert len(duck.callbacks) == 1
    assert duck._asyncio_future_blocking is False
    assert isinstance(duck.callbacks[0][1], contextvars.Context)
    duck.end()
    assert world.loop.run_until_complete(task) == "quack"


def test_a_duck_is_cancelled_with_the_message(world: World) -> None:
    duck = Duck(world.loop)
    task = world.spawn(wait(duck))
    world.turn()
    assert task.cancel("mine") is True
    assert duck.cancelled_with == ["mine"]
    duck.end()  # it refused, and so the next step is told
    with pytest.raises(asyncio.CancelledError, match="mine"):
        world.loop.run_until_complete(task)


@pytest.mark.parametrize("lame", ["add_done_callback", "get_loop"])
def test_a_duck_that_is_lame_does_no_harm_to_others(world: World, lame: str) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise LookupError("lame")

    duck = Duck(world.loop)
    setattr(duck, lame, failing)
    task = world.spawn(wait(duck))
    task._log_destroy_pending = False  # asyncio leaves it pending for ever
    assert world.run(wait(asyncio.sleep(0, 42))) == 42
    if world.errors:
        assert [type(each["exception"]) for each in world.errors] == [LookupError]
    else:
        assert type(task.exception()) is LookupError
    world.errors.clear()


# --------------------------------------------------------------- asyncio's classes and ours --


def kinds(world: World) -> list[tuple[Any, Any]]:
    """Who awaits whom: of this world, and of asyncio's Python and C classes."""
    tasks = [world.Task, asyncio.Task, asyncio.tasks._PyTask]  # type: ignore[attr-defined]
    futures = [world.Future, asyncio.Future, asyncio.futures._PyFuture]  # type: ignore[attr-defined]
    return [
        (task, future) for task in tasks for future in futures if world.Task is task or world.Future is future
    ]


def test_a_task_of_one_kind_awaits_a_future_of_another(world: World) -> None:
    for task_class, future_class in kinds(world):
        for ending in ("result", "exception", "cancel"):
            future = future_class(loop=world.loop)
            task = task_class(wait(future), loop=world.loop)
            world.turn()
            assert not task.done()
            if ending == "result":
                future.set_result(42)
                assert world.loop.run_until_complete(task) == 42
            elif ending == "exception":
                future.set_exception(OSError("mine"))
                with pytest.raises(OSError, match="mine"):
                    world.loop.run_until_complete(task)
            else:
                task.cancel("mine")
                assert future.cancelled()
                with pytest.raises(asyncio.CancelledError):
                    world.loop.run_until_complete(task)
                assert task.cancelled()


def test_a_task_of_one_kind_awaits_a_task_of_another(world: World) -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    for one in (world.Task, asyncio.Task):
        for other in (world.Task, asyncio.Task):
            inner = one(answer(), loop=world.loop)
            outer = other(wait(inner), loop=world.loop)
            assert world.loop.run_until_complete(outer) == 42
            inner = one(asyncio.sleep(3600), loop=world.loop)
            outer = other(wait(inner), loop=world.loop)
            world.turn(2)
            outer.cancel()
            with pytest.raises(asyncio.CancelledError):
                world.loop.run_until_complete(outer)
            assert inner.cancelled() and outer.cancelled()


def test_done_futures_of_another_kind_need_no_turn(world: World) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []
        world.loop.call_soon(seen.append, "a turn")
        for cls in (world.Future, asyncio.Future):
            future = cls(loop=world.loop)
            future.set_result(42)
            seen.append(await future)
        await asyncio.sleep(0)
        return seen

    assert world.run(main()) == [42, 42, "a turn"]
