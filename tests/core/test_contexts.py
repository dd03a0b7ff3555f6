"""The contexts of tasks, handles and callbacks, which are no objects while nobody looks.

Asyncio, which makes one for each, is the referee.
"""

import asyncio
import contextlib
import contextvars
import gc
import sys
import sysconfig
import threading
import weakref
from typing import Any

import pytest

import pinloop
from tests.core.support import turn
from tests.core.worlds import EAGER, World, alike

VAR: contextvars.ContextVar[Any] = contextvars.ContextVar("VAR", default="unset")
ASKS = sys.version_info >= (3, 12)  # Task.get_context
THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Thing:
    """Something to have a weak reference to."""


def contexts() -> list[contextvars.Context]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is contextvars.Context]


# ------------------------------------------------------------------- what a program sees --


@alike
def test_each_task_has_its_own(world: World, log: list[Any]) -> None:
    async def main(number: int) -> None:
        for step in range(3):
            log.append((number, step, VAR.get()))
            VAR.set((number, step))
            await (asyncio.sleep(0) if number % 2 else gate)

    def spawn() -> list[Any]:
        tasks = []
        for number in range(6):
            VAR.set(f"at the time of {number}")
            tasks.append(world.spawn(main(number)))
        VAR.set("later")
        return tasks

    gate = world.future()
    tasks = contextvars.copy_context().run(spawn)
    world.turn(2)
    gate.set_result(None)
    world.turn(5)
    log.append(([task.done() for task in tasks], VAR.get()))


@alike
def test_a_token_is_good_for_its_own_task_alone(world: World, log: list[Any]) -> None:
    tokens: list[contextvars.Token[Any]] = []

    async def set_and_reset(number: int) -> None:
        token = VAR.set(number)
        tokens.append(token)
        await asyncio.sleep(0)
        log.append(VAR.get())
        if number % 2:
            VAR.reset(token)
        await asyncio.sleep(0)
        log.append(VAR.get())

    async def reset_others() -> None:
        for token in tokens:
            try:
                VAR.reset(token)
                log.append("reset")
            except (ValueError, RuntimeError) as error:
                log.append(type(error).__name__)

    for _ in range(3):
        for number in range(4):
            world.run(set_and_reset(number))
        world.run(reset_others())
        world.loop.call_soon(lambda: log.append(VAR.get()))
        world.turn()


@alike
def test_what_others_change_is_seen_in_the_next_step(world: World, log: list[Any]) -> None:
    async def main() -> None:
        for _ in range(4):
            log.append(VAR.get())
            VAR.set("the task's")
            await asyncio.sleep(0)

    given = contextvars.copy_context()
    task = world.spawn(main(), context=given)
    for number in range(5):
        world.turn()
        log.append((given.get(VAR), dict(given).get(VAR)))
        given.run(VAR.set, number)
    log.append(task.done())


@pytest.mark.skipif(not ASKS, reason="Task.get_context is new in 3.12")
def test_the_context_of_a_task_is_one_object(world: World) -> None:
    numbers: set[int] = set()

    def ask() -> None:
        numbers.add(id(task.get_context()))  # not kept: it is the task's to keep
        contextvars.Context()

    async def main() -> None:
        for _ in range(3):
            ask()
            await asyncio.sleep(0)
            VAR.set("mine")
            ask()
            await future
            ask()

    for early in (True, False):
        numbers.clear()
        future = world.future()
        task = world.spawn(main())
        for number in range(6):
            if early or number:
                ask()
            if number == 3:
                future.set_result(None)
            world.turn()
        assert task.done()
        ask()
        assert len(numbers) == 1
        assert task.get_context()[VAR] == "mine"


@pytest.mark.skipif(not ASKS, reason="Task.get_context is new in 3.12")
def test_the_context_of_a_running_task_is_that_in_which_it_runs(world: World) -> None:
    kept: list[contextvars.Context] = []

    async def main() -> None:
        context = task.get_context()
        kept.append(context)
        for number in range(3):
            VAR.set(number)
            assert context[VAR] == number
            with pytest.raises(RuntimeError, match="already entered"):
                context.run(int)
            await asyncio.sleep(0)

    task = world.spawn(main())
    world.turn()
    assert kept[0] is task.get_context()
    assert kept[0].run(VAR.get) == 0
    world.turn(3)
    assert task.done() and kept[0][VAR] == 2


@pytest.mark.skipif(not ASKS, reason="Task.get_context is new in 3.12")
def test_a_loop_run_in_the_context_of_a_task_reports_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        ran.append(VAR.get())

    ran: list[Any] = []
    world.loop.set_exception_handler(None)
    coro = main()
    task = world.spawn(coro)
    task.get_context().run(world.turn)
    assert ran == []
    assert "is already entered" in caplog.text
    coro.close()
    del task
    gc.collect()


@pytest.mark.skipif(not EAGER, reason="eager tasks are new in 3.12")
@alike
def test_steps_within_a_step(world: World, log: list[Any]) -> None:
    async def child(depth: int) -> None:
        log.append(("in", depth, VAR.get()))
        VAR.set(depth)
        if depth:
            tasks.append(world.spawn(child(depth - 1), eager_start=True))
        log.append(("out", depth, VAR.get()))
        await asyncio.sleep(0)
        log.append(("later", depth, VAR.get()))

    async def main() -> None:
        for _ in range(3):
            tasks.append(world.spawn(child(3), eager_start=True))
            log.append(VAR.get())
        for task in tasks:
            await task

    tasks: list[Any] = []
    world.run(main())


@alike
def test_callbacks_of_a_future(world: World, log: list[Any]) -> None:
    def callback(done: Any) -> None:
        log.append(VAR.get())
        VAR.set("a callback's")

    def add(count: int) -> None:
        for number in range(count):
            VAR.set(number)
            future.add_done_callback(callback)
        future.add_done_callback(callback, context=given)
        VAR.set("later")

    for how_many in (0, 1, 3):
        given = contextvars.copy_context()
        future = world.future()
        contextvars.copy_context().run(add, how_many)
        log.append([type(context).__name__ for _, context in future._callbacks])
        log.append([context.get(VAR) for _, context in future._callbacks])
        log.append(future._callbacks[-1][1] is given)
        future.set_result(None)
        contextvars.copy_context().run(add, how_many)
        world.turn()
        log.append(given[VAR])
    log.append(VAR.get())


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_the_context_of_a_handle_is_one_object(loop: asyncio.AbstractEventLoop, method: str) -> None:
    numbers: set[int] = set()

    def ask() -> None:
        numbers.add(id(handle.get_context()))
        contextvars.Context()

    def callback() -> None:
        ask()
        VAR.set("set in it")
        assert handle.get_context()[VAR] == "set in it"

    for early in (True, False):
        numbers.clear()
        when = (0,) if method == "call_later" else ()
        handle = getattr(loop, method)(*when, callback)
        if early:
            ask()
        turn(loop)
        turn(loop)
        ask()
        assert len(numbers) == 1
        assert handle.get_context()[VAR] == "set in it"


def test_what_a_callback_has_set_is_seen_in_its_handle_afterwards(loop: asyncio.AbstractEventLoop) -> None:
    handles: list[asyncio.Handle] = [loop.call_soon(VAR.set, number) for number in range(3)]
    handles += [loop.call_later(0, VAR.set, number) for number in range(3)]
    turn(loop)
    turn(loop)
    assert [handle.get_context()[VAR] for handle in handles] == [0, 1, 2] * 2


@pytest.mark.parametrize("count", range(5))
def test_arguments_of_a_timer(loop: asyncio.AbstractEventLoop, count: int) -> None:
    arguments = tuple(Thing() for _ in range(count))
    got: list[Any] = []
    handle = loop.call_later(0, lambda *args: got.append(args), *arguments)
    assert handle._args == arguments  # type: ignore[attr-defined]
    never = loop.call_later(3600, print, *arguments)
    turn(loop)
    turn(loop)
    assert got == [arguments]
    known = [weakref.ref(each) for each in arguments]
    never.cancel()
    assert never._args is None  # type: ignore[attr-defined]
    handle.cancel()
    del arguments
    got.clear()
    assert not any(each() for each in known)


# ------------------------------------------------------------------ what is kept of them --


@pytest.mark.skipif(THREADED, reason="without the GIL each copy is an object")
def test_who_waits_has_no_context_object() -> None:
    async def wait() -> None:
        VAR.set(Thing())
        await future

    async def main() -> None:
        nonlocal future
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        before = len(contexts())
        tasks = [loop.create_task(wait()) for _ in range(100)]
        timers = [loop.call_later(3600, int) for _ in range(100)]
        for _ in range(100):
            future.add_done_callback(id)
        await asyncio.sleep(0)
        assert len(contexts()) - before <= 1
        assert all(sys.getsizeof(task) <= 160 for task in tasks)
        assert sys.getsizeof(future) <= 96
        future.set_result(None)
        for task in tasks:
            await task
        for timer in timers:
            timer.cancel()
        assert len(contexts()) - before <= 1

    future: Any = None
    pinloop.run(main())


@pytest.mark.parametrize("kind", ["task", "handle", "timer"])
def test_values_are_let_go_with_who_had_them(loop: asyncio.AbstractEventLoop, kind: str) -> None:
    known: list[weakref.ref[Thing]] = []

    def set_one() -> None:
        thing = Thing()
        known.append(weakref.ref(thing))
        VAR.set(thing)

    async def main() -> None:
        set_one()
        await asyncio.sleep(0)
        assert VAR.get() is known[-1]()

    for _ in range(3):
        if kind == "task":
            loop.create_task(main())
        elif kind == "handle":
            loop.call_soon(set_one)
        else:
            loop.call_later(0, set_one)
        for _ in range(3):
            turn(loop)
        assert known[-1]() is None
    assert len(known) == 3


@pytest.mark.parametrize("moment", ["before", "inside"])
def test_who_keeps_a_context_keeps_it_from_being_used_again(
    loop: asyncio.AbstractEventLoop, moment: str
) -> None:
    def keep() -> None:
        kept.extend((each, each.get(VAR)) for each in contexts())

    async def main(number: int) -> None:
        VAR.set(number)
        if moment == "inside":
            keep()
        await asyncio.sleep(0)
        assert VAR.get() == number

    kept: list[tuple[contextvars.Context, Any]] = []
    loop.run_until_complete(main(1000))
    if moment == "before":
        keep()
    for number in range(5):
        loop.run_until_complete(main(number))
    assert [context.get(VAR) for context, _ in kept] == [value for _, value in kept]


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="from 3.15 on __init__ may be called once")
def test_a_task_that_is_initialised_again_in_its_own_step(
    loop: asyncio.AbstractEventLoop, loop_errors: list[dict[str, Any]]
) -> None:
    async def other() -> Any:
        VAR.set("other")
        await asyncio.sleep(0)
        return VAR.get()

    async def main() -> None:
        VAR.set("main")
        with contextlib.suppress(RuntimeError):
            task.__init__(second, loop=loop)  # type: ignore[misc]
        assert VAR.get() == "main"

    second = other()
    task = pinloop.Task(main(), loop=loop)
    for _ in range(3):
        turn(loop)
    second.close()
    loop_errors.clear()  # it has ended, and was to be stepped
    assert VAR.get() == "unset"
    seen: list[Any] = []
    loop.call_soon(lambda: seen.append(VAR.get()))
    turn(loop)
    assert seen == ["unset"]
    assert loop.run_until_complete(other()) == "other"


def test_a_future_that_calls_back_in_no_context(loop: asyncio.AbstractEventLoop) -> None:
    """One of another kind may call whenever and wherever it likes, again and again."""

    class Duck:
        _asyncio_future_blocking = False

        def __init__(self) -> None:
            self.callbacks: list[Any] = []

        def get_loop(self) -> Any:
            return loop

        def add_done_callback(self, callback: Any, *, context: Any) -> None:
            assert isinstance(context, contextvars.Context)
            self.callbacks.append(callback)

        def result(self) -> None: ...

        def __await__(self) -> Any:
            self._asyncio_future_blocking = True
            yield self

    async def main() -> Any:
        VAR.set("mine")
        for duck in ducks:
            await duck
        await asyncio.sleep(0)
        return VAR.get()

    ducks = [Duck(), Duck(), Duck()]
    task = loop.create_task(main())
    turn(loop)
    for duck in ducks:
        (callback,) = duck.callbacks
        loop.call_soon(callback, duck)
        turn(loop)
    assert loop.run_until_complete(task) == "mine"


def test_loops_in_threads_have_their_own() -> None:
    async def main(number: int) -> None:
        for step in range(100):
            VAR.set((number, step))
            await asyncio.sleep(0)
            assert VAR.get() == (number, step)
        ended.append(number)

    ended: list[int] = []
    threads = [
        threading.Thread(target=lambda number=number: pinloop.run(main(number))) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == [0, 1, 2, 3]
