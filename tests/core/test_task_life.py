"""The lives of futures and tasks: what keeps them, cycles, long chains, crowds, the ends of loops."""

import asyncio
import functools
import gc
import sys
import weakref
from collections import Counter
from typing import Any

import pytest

from tests.core.support import run_python
from tests.core.worlds import World, made


async def nothing() -> None:
    pass


async def wait(future: Any) -> Any:
    return await future


def living(*classes: Any) -> int:
    """How many objects of these very classes there are."""
    gc.collect()
    return sum(type(each) in classes for each in gc.get_objects())


# ------------------------------------------------------------------------------ what keeps them --


def test_a_ready_task_is_kept_by_its_loop(world: World) -> None:
    reference = weakref.ref(world.spawn(nothing()))
    gc.collect()
    assert reference() is not None
    world.turn()
    gc.collect()
    assert reference() is None


def test_a_waiting_task_is_kept_by_its_future_alone(world: World) -> None:
    future = world.future()
    reference = weakref.ref(world.spawn(wait(future)))
    world.turn()
    gc.collect()
    assert reference() is not None
    assert asyncio.all_tasks(world.loop) == {reference()}
    future.set_result(None)
    world.turn()
    gc.collect()
    assert reference() is None


def test_a_waiting_task_is_not_kept_by_all_tasks(world: World) -> None:
    reference = weakref.ref(world.spawn(wait(world.future())))
    world.turn()
    gc.collect()
    assert world.messages() == ["Task was destroyed but it is pending!"]
    gc.collect()  # what the report named is still there, from 3.15 on for weak references too
    assert reference() is None
    if world.name.startswith("ours") or sys.version_info < (3, 14):
        assert asyncio.all_tasks(world.loop) == set()


def test_a_done_task_keeps_neither_its_callbacks_nor_what_it_awaited(world: World) -> None:
    class Thing:
        pass

    thing, waited = Thing(), world.future()
    references = [weakref.ref(thing), weakref.ref(waited)]
    task = world.spawn(wait(waited))
    task.add_done_callback(lambda _, thing=thing: None)
    world.turn()
    waited.set_result(None)
    world.turn(2)
    assert task.done() and task._fut_waiter is None
    del thing, waited
    gc.collect()
    assert [each() for each in references] == [None, None]


def test_references_are_counted_right(world: World) -> None:
    result, mine = object(), ValueError("mine")

    def each() -> None:
        for _ in range(50):
            future = world.future()
            future.set_result(result)
            future.result()
            iterator = iter(future)
            assert next(iterator, result) is result
            world.run(wait(future))
            failed = world.future()
            failed.set_exception(mine)
            with pytest.raises(ValueError, match="mine"):
                world.run(wait(failed))
            mine.__traceback__ = None
            task = world.spawn(wait(world.future()), name="mine")
            world.turn()
            task.cancel("mine")
            world.turn()
            assert task.cancelled()

    each()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in (result, mine, None, True, world.loop, wait)]
    each()
    gc.collect()
    after = [sys.getrefcount(thing) for thing in (result, mine, None, True, world.loop, wait)]
    # From 3.12 on None and True are not counted, before they are by everybody.
    assert [now - then for now, then in zip(after, before, strict=True) if abs(now - then) > 20] == []


# -------------------------------------------------------------------------------------- cycles --


def test_cycles_are_collected(world: World) -> None:
    class Thing:
        pass

    def cycle(kind: str) -> Any:
        thing: Any = Thing()
        if kind == "result":
            thing.future = world.future()
            thing.future.set_result(thing)
        elif kind == "callback":
            thing.future = world.future()
            thing.future.add_done_callback(lambda _: thing)
        elif kind == "callbacks":
            thing.future = world.future()
            for _ in range(3):
                thing.future.add_done_callback(lambda _: thing)
        elif kind == "exception":
            thing.future = world.future()
            error = ValueError(thing)
            thing.future.set_exception(error)
            thing.future.exception()
        elif kind == "attribute":
            thing.future = world.future()
            thing.future.thing = thing
        elif kind == "iterator":
            thing.future = world.future()
            thing.iterator = iter(thing.future)
            thing.future.thing = thing
        elif kind == "message":
            thing.future = world.future()
            thing.future.cancel(thing)
        else:
            thing.future = world.spawn(wait(world.future()))
            thing.future.thing = thing
            thing.future._log_destroy_pending = False
            world.turn()
            if kind == "task":
                thing.future.cancel()
                world.turn()
        return weakref.ref(thing)

    kinds = "result callback callbacks exception attribute iterator message task waiting"
    for kind in kinds.split():
        reference = cycle(kind)
        gc.collect()
        assert reference() is None, kind


def test_a_task_that_holds_itself_through_its_coroutine_is_collected(world: World) -> None:
    async def main(holder: list[Any]) -> Any:
        await world.future()
        return holder

    holder: list[Any] = []
    holder.append(world.spawn(main(holder)))
    holder[0]._log_destroy_pending = False
    reference = weakref.ref(holder[0])
    world.turn()
    del holder
    gc.collect()
    assert reference() is None


def test_two_tasks_that_wait_for_each_other_are_collected(world: World) -> None:
    async def main(other: list[Any]) -> None:
        await other[0]

    one: list[Any] = []
    two: list[Any] = []
    two.append(world.spawn(main(one)))
    one.append(world.spawn(main(two)))
    for each in (one[0], two[0]):
        each._log_destroy_pending = False
    references = [weakref.ref(one[0]), weakref.ref(two[0])]
    world.turn(3)
    del each, one, two
    gc.collect()
    assert [each() for each in references] == [None, None]


def test_what_a_finalizer_does_to_a_future_that_goes(world: World) -> None:
    """Whatever runs while a future or a task is taken apart sees something whole."""

    class Meddling:
        def __init__(self, what: Any) -> None:
            self.what = what

        def __del__(self) -> None:
            gc.collect()
            fresh = world.future()
            fresh.set_result(self.what)
            world.spawn(nothing())

    for _ in range(20):
        future = world.future()
        future.set_result(Meddling(1))
        del future
        future = world.future()
        future.meddling = Meddling(2)
        future.add_done_callback(functools.partial(print, Meddling(3)))
        del future
        task = world.spawn(wait(asyncio.sleep(0, Meddling(4))))
        task.meddling = Meddling(5)
        world.turn(3)
        del task
    world.turn(3)
    gc.collect()
    world.turn()


# ------------------------------------------------------------------------------- long and many --

CHAIN = """
import asyncio, gc, sys
sys.path.insert(0, {tests!r})
from tests.core.worlds import made

async def link(inner):
    return await inner + 1

with made({name!r}) as world:
    world.loop.set_debug(False)
    first = world.future()
    tasks = [first]
    for _ in range({length}):
        tasks.append(world.spawn(link(tasks[-1])))
    world.turn()
    last = tasks[-1]
    if {end!r} == "result":
        first.set_result(0)
        del tasks, first
        assert world.loop.run_until_complete(last) == {length}
    elif {end!r} == "cancel":
        assert last.cancel()
        del tasks, first
        try:
            world.loop.run_until_complete(last)
        except asyncio.CancelledError:
            pass
        assert last.cancelled()
    else:
        for each in tasks[1:]:
            each._log_destroy_pending = False
        del each, tasks, first, last
        gc.collect()
    gc.collect()
print("ok")
"""


@pytest.mark.parametrize("end", ["result", "cancel", "drop"])
@pytest.mark.parametrize("name", ["ours", "ours on asyncio's loop"])
def test_a_chain_of_a_hundred_thousand_tasks(name: str, end: str) -> None:
    import os

    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = CHAIN.format(name=name, end=end, length=100_000, tests=here)
    assert run_python(code, timeout=50) == "ok\n"


def test_a_chain_of_results_is_taken_apart_without_recursion(world: World) -> None:
    world.loop.set_debug(False)  # it would look at the stack a hundred thousand times
    future = world.future()
    future.set_result(None)
    for _ in range(100_000):
        outer = world.future()
        outer.set_result(future)
        future = outer
    del future, outer
    gc.collect()


def test_a_chain_of_callbacks_is_taken_apart_without_recursion(world: World) -> None:
    world.loop.set_debug(False)  # it would look at the stack a hundred thousand times
    future = world.future()
    for _ in range(100_000):
        outer = world.future()
        outer.add_done_callback(future.add_done_callback)
        future = outer
    del future, outer
    gc.collect()


@pytest.mark.parametrize("way", ["spawn and await", "gather", "futures", "cancelled", "failing", "eager"])
def test_spawning_for_long_leaves_nothing(world: World, way: str) -> None:
    async def fail() -> None:
        raise OSError("mine")

    async def one() -> None:
        if way == "spawn and await":
            await world.loop.create_task(nothing())
        elif way == "gather":
            await asyncio.gather(nothing(), asyncio.sleep(0), nothing())
        elif way == "futures":
            future = world.loop.create_future()
            world.loop.call_soon(future.set_result, None)
            await future
        elif way == "cancelled":
            task = world.loop.create_task(asyncio.sleep(3600))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        elif way == "eager":
            await world.spawn(nothing(), **({"eager_start": True} if sys.version_info >= (3, 12) else {}))
        else:
            with pytest.raises(OSError, match="mine"):
                await world.loop.create_task(fail())

    async def many(count: int) -> None:
        for _ in range(count):
            await one()

    world.loop.set_debug(False)

    def counted() -> Counter[str]:
        gc.collect()
        return Counter(type(each).__name__ for each in gc.get_objects())

    world.run(many(300))
    before = counted()
    world.run(many(600))
    grown = counted()
    grown.subtract(before)
    if not world.name.startswith("ours"):
        return  # asyncio's WeakSet of tasks swells and shrinks
    # What is kept to be used again is kept already.
    assert {name: count for name, count in grown.items() if count > 30} == {}


MILLION = """
import asyncio, gc, resource
import pinloop

async def nothing(): pass

async def main(count):
    for _ in range(count // 100):
        await asyncio.gather(*[nothing() for _ in range(50)])
        async with asyncio.TaskGroup() as group:
            for _ in range(50): group.create_task(nothing())

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

loop = pinloop.new_event_loop()
loop.set_debug(False)
loop.run_until_complete(main(100_000))
before = peak()
loop.run_until_complete(main(900_000))
assert asyncio.all_tasks(loop) == set()
loop.close()
print(peak() - before)
"""


@pytest.mark.slow
def test_a_million_spawns_do_not_grow_the_process() -> None:
    grown = int(run_python(MILLION, timeout=50))
    assert grown < (2 << 20 if sys.platform == "darwin" else 2 << 10), grown  # bytes there, KiB elsewhere


# ----------------------------------------------------------------------------- the ends of loops --


@pytest.mark.parametrize("state", ["ready", "waiting", "sleeping"])
def test_tasks_that_are_pending_when_their_loop_closes(world: World, state: str) -> None:
    coro = {
        "ready": nothing,
        "waiting": lambda: wait(world.future()),
        "sleeping": lambda: asyncio.sleep(3600),
    }[state]()
    task = world.spawn(coro)
    if state != "ready":
        world.turn()
    world.loop.close()
    assert not task.done()
    assert asyncio.all_tasks(world.loop) == {task}
    assert repr(task).startswith("<Task pending")
    if state == "ready":
        coro.close()  # else it would be told that it was never awaited
    del task, coro
    gc.collect()
    assert world.messages() == ["Task was destroyed but it is pending!"]
    gc.collect()


@pytest.mark.parametrize("name", ["ours", "ours on asyncio's loop", "asyncio"])
def test_futures_of_a_closed_loop(name: str) -> None:
    with made(name) as world:
        quiet, waited = world.future(), world.future()
        waited.add_done_callback(print)
        world.loop.close()
        quiet.set_result(42)
        assert quiet.result() == 42
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            waited.set_result(42)
        assert waited.done()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            quiet.add_done_callback(print)


def test_a_loop_that_is_dropped_takes_its_tasks_along() -> None:
    code = """
import asyncio, gc, weakref, warnings
import pinloop

async def wait():
    await asyncio.get_running_loop().create_future()

warnings.simplefilter("ignore")
loop = pinloop.new_event_loop()
loop.set_exception_handler(lambda loop, context: None)
tasks = [weakref.ref(loop.create_task(wait())) for _ in range(3)]
loop.call_soon(loop.stop); loop.run_forever()
tasks += [weakref.ref(loop.create_task(wait())) for _ in range(3)]
gone = weakref.ref(loop)
del loop
gc.collect(); gc.collect()
print([each() for each in tasks], gone())
"""
    assert run_python(code) == "[None, None, None, None, None, None] None\n"


def test_a_task_outlives_its_loop() -> None:
    code = """
import asyncio, gc
import pinloop

async def wait():
    await asyncio.sleep(0)
    return 42

loop = pinloop.new_event_loop()
done = loop.create_task(wait()); loop.run_until_complete(done)
waiting = loop.create_task(wait(), name="late")
waiting._log_destroy_pending = False
future = loop.create_future()
loop.close()
del loop
gc.collect()
assert done.result() == 42
assert waiting.get_name() == "late" and not waiting.done()
assert future.get_loop().is_closed()
repr(done), repr(waiting), repr(future)
future.cancel()
print(waiting in asyncio.all_tasks(waiting.get_loop()))
"""
    assert run_python(code) == "True\n"


def test_tasks_left_when_the_interpreter_ends() -> None:
    code = """
import asyncio
import pinloop

async def wait():
    await asyncio.sleep(0)
    await asyncio.get_running_loop().create_future()

loop = pinloop.new_event_loop()
loop.set_exception_handler(lambda loop, context: None)
kept = [loop.create_task(wait()) for _ in range(10)]
for _ in range(3):
    loop.call_soon(loop.stop); loop.run_forever()
kept += [loop.create_task(wait()) for _ in range(10)]
for each in kept:
    each._log_destroy_pending = False
loop.close()
print("end")
"""
    assert run_python(code) == "end\n"
