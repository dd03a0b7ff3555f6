"""Queue, PriorityQueue and LifoQueue, asyncio's and pinloop's, on both loops: they do the same."""

import asyncio
import random
import re
import threading
import types
import weakref
from typing import Any

import pytest

from tests.api.support import turns
from tests.api.syncs import FIXTURES, at_once, start
from tests.conftest import Run

way, loop_factory, sync = FIXTURES

KINDS = ["Queue", "PriorityQueue", "LifoQueue"]


def shown(queue: Any) -> str:
    """A queue's repr without its address; its str says the same."""
    kind = type(queue).__name__
    found = re.fullmatch(rf"<{kind} at {id(queue):#x} (.*)>", repr(queue))
    assert found, repr(queue)
    assert str(queue) == f"<{kind} {found[1]}>"
    return found[1]


async def collect(queue: Any, log: list[Any], name: Any = None) -> None:
    item = await queue.get()
    log.append(item if name is None else (name, item))


# --------------------------------------------------------------------------- all of them --


@pytest.mark.parametrize("kind", KINDS)
def test_the_class(sync: Any, kind: str) -> None:
    cls = getattr(sync, kind)
    queue = cls()
    assert (cls.__name__, type(queue)) == (kind, cls)
    assert cls.__module__.partition(".")[0] == sync.__name__
    assert issubclass(cls, sync.Queue)
    assert cls.__doc__
    assert queue == queue and queue != cls()  # noqa: PLR0124
    assert len({queue, queue, cls()}) == 2
    # No __len__ and no __bool__: a queue is true even when it is empty.
    assert queue
    with pytest.raises(TypeError):
        len(queue)


@pytest.mark.parametrize("kind", KINDS)
def test_the_alias_for_type_checkers(sync: Any, kind: str) -> None:
    cls = getattr(sync, kind)
    alias = cls[int]
    assert type(alias) is types.GenericAlias
    assert (alias.__origin__, alias.__args__) == (cls, (int,))
    assert type(alias(3)) is cls and alias(3).maxsize == 3


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_and_weak_references(sync: Any, kind: str) -> None:
    queue = getattr(sync, kind)()
    queue.colour = "red"
    assert queue.colour == "red" and "colour" in vars(queue)
    gone = weakref.ref(queue)
    assert gone() is queue
    del queue
    assert gone() is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_arguments(sync: Any, kind: str) -> None:
    cls = getattr(sync, kind)
    assert cls().maxsize == 0
    assert cls(5).maxsize == cls(maxsize=5).maxsize == 5
    assert cls(-1).maxsize == -1
    with pytest.raises(AttributeError):
        cls().maxsize = 3
    with pytest.raises(TypeError):
        cls(1, 2)
    with pytest.raises(TypeError):
        cls(loop=None)
    with pytest.raises(TypeError):
        cls("many").put_nowait(1)
    with pytest.raises(TypeError):
        cls().put_nowait()
    with pytest.raises(TypeError):
        cls().put_nowait(1, 2)
    with pytest.raises(TypeError):
        cls().get_nowait(1)
    cls().put_nowait(item=1)
    call = cls().put(item=1)
    assert at_once(call) is None


@pytest.mark.parametrize("maxsize", [0, -1, float("inf"), 2**70])
def test_sizes_that_are_no_bound(sync: Any, maxsize: Any) -> None:
    queue = sync.Queue(maxsize)
    for number in range(1000):
        queue.put_nowait(number)
    assert not queue.full() and queue.qsize() == 1000
    assert [queue.get_nowait() for _ in range(1000)] == list(range(1000))
    assert shown(queue) == f"maxsize={maxsize!r} tasks=1000"


@pytest.mark.parametrize(
    ("kind", "order"),
    [("Queue", [3, 1, 2, 1]), ("PriorityQueue", [1, 1, 2, 3]), ("LifoQueue", [1, 2, 1, 3])],
)
def test_the_order(sync: Any, kind: str, order: list[int], run: Run) -> None:
    queue = getattr(sync, kind)()
    assert queue.empty() is True and queue.full() is False and queue.qsize() == 0
    for number in (3, 1, 2, 1):
        assert queue.put_nowait(number) is None
    assert queue.empty() is False and queue.qsize() == 4
    assert [queue.get_nowait() for _ in range(4)] == order
    with pytest.raises(asyncio.QueueEmpty) as caught:
        queue.get_nowait()
    assert type(caught.value) is asyncio.QueueEmpty and caught.value.args == ()

    async def main() -> list[int]:
        for number in (3, 1, 2, 1):
            assert await queue.put(number) is None
        return [await queue.get() for _ in range(4)]

    assert run(main()) == order


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_queue(sync: Any, kind: str) -> None:
    queue = getattr(sync, kind)(2)
    queue.put_nowait(1)
    assert queue.full() is False
    queue.put_nowait(2)
    assert queue.full() is True
    with pytest.raises(asyncio.QueueFull) as caught:
        queue.put_nowait(3)
    assert type(caught.value) is asyncio.QueueFull and caught.value.args == ()
    assert queue.qsize() == 2


def test_any_object_is_an_item(sync: Any) -> None:
    queue = sync.Queue()
    items = [None, ValueError("no error"), StopIteration(1), (1, 2), (), object, queue]
    for item in items:
        at_once(queue.put(item))
    for item in items:
        assert at_once(queue.get()) is item


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_that_was_taken_is_not_kept(sync: Any, kind: str) -> None:
    class Item:
        pass

    queue = getattr(sync, kind)()
    item = Item()
    gone = weakref.ref(item)
    queue.put_nowait(item)
    del item
    assert gone() is not None
    assert at_once(queue.get()) is gone()
    assert gone() is None


def test_priorities(sync: Any) -> None:
    class Job:
        def __init__(self, priority: int, name: int) -> None:
            self.priority, self.name = priority, name

        def __lt__(self, other: "Job") -> bool:
            return self.priority < other.priority

    chance = random.Random(5)
    queue, referee = sync.PriorityQueue(), asyncio.PriorityQueue()  # type: ignore[var-annotated]
    for name in range(500):
        if chance.random() < 0.3 and not queue.empty():
            assert queue.get_nowait() is referee.get_nowait()
        job = Job(chance.randrange(20), name)
        queue.put_nowait(job)
        referee.put_nowait(job)
    while not referee.empty():
        assert queue.get_nowait() is referee.get_nowait()
    assert queue.empty()


def test_items_that_have_no_order(sync: Any) -> None:
    queue = sync.PriorityQueue()
    queue.put_nowait((1, "text"))
    with pytest.raises(TypeError, match="'<' not supported between instances"):
        queue.put_nowait((1, 2))
    queue.task_done()
    with pytest.raises(ValueError, match="called too many times"):
        queue.task_done()


# ------------------------------------------------------------------------------- waiting --


def test_its_repr(sync: Any, run: Run) -> None:
    async def main() -> None:
        queue = sync.Queue(2)
        assert shown(queue) == "maxsize=2"
        getters = start([queue.get() for _ in range(3)])
        await turns(2)
        assert shown(queue) == "maxsize=2 _getters[3]"
        for number in range(2):
            queue.put_nowait(number)
        assert shown(queue) == "maxsize=2 _queue=[0, 1] _getters[1] tasks=2"
        await turns(2)
        assert shown(queue) == "maxsize=2 _getters[1] tasks=2"
        for task in getters:
            task.cancel()
        await turns(2)
        putters = start([queue.put(number) for number in range(5)])
        await turns(2)
        assert shown(queue) == "maxsize=2 _queue=[0, 1] _putters[3] tasks=4"
        for task in putters:
            task.cancel()
        await turns(2)
        assert shown(queue) == "maxsize=2 _queue=[0, 1] tasks=4"

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_repr_shows_the_items(sync: Any, kind: str) -> None:
    queue = getattr(sync, kind)()
    for number in (2, 3, 1):
        queue.put_nowait(number)
    items = {"Queue": [2, 3, 1], "PriorityQueue": [1, 3, 2], "LifoQueue": [2, 3, 1]}[kind]
    assert shown(queue) == f"maxsize=0 _queue={items} tasks=3"


@pytest.mark.parametrize("kind", KINDS)
def test_those_who_wait_for_an_item_are_served_in_turn(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        queue, log = getattr(sync, kind)(), []  # type: ignore[var-annotated]
        tasks = start([collect(queue, log, name) for name in range(5)])
        await turns(2)
        for number in range(5):
            queue.put_nowait(number)
            await turns(2)
        await asyncio.gather(*tasks)
        assert log == [(number, number) for number in range(5)]

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_those_who_wait_for_room_are_served_in_turn(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        queue = getattr(sync, kind)(1)
        tasks = start([queue.put(number) for number in range(5)])
        await turns(2)
        assert queue.qsize() == 1
        assert [await queue.get() for _ in range(5)] == list(range(5))
        await asyncio.gather(*tasks)

    run(main())


def test_an_item_goes_to_who_takes_it_first(sync: Any, run: Run) -> None:
    """Who was woken finds the queue empty if another took the item: it waits again, in the last place."""

    async def main() -> None:
        queue, log = sync.Queue(), []
        tasks = start([collect(queue, log, name) for name in "ab"])
        await turns(2)
        queue.put_nowait(1)
        assert queue.get_nowait() == 1
        await turns(2)
        assert shown(queue) == "maxsize=0 _getters[2] tasks=1"
        queue.put_nowait(2)
        queue.put_nowait(3)
        await asyncio.gather(*tasks)
        assert log == [("b", 2), ("a", 3)]

    run(main())


def test_room_goes_to_who_takes_it_first(sync: Any, run: Run) -> None:
    async def main() -> None:
        queue = sync.Queue(1)
        tasks = start([queue.put(name) for name in "abc"])
        await turns(2)
        assert queue.get_nowait() == "a"
        queue.put_nowait("mine")
        await turns(2)
        assert [await queue.get() for _ in range(3)] == ["mine", "c", "b"]
        await asyncio.gather(*tasks)

    run(main())


@pytest.mark.parametrize("moment", ["before", "same turn", "after"])
@pytest.mark.parametrize("victims", [{0}, {1}, {2}, {0, 1}, {0, 2}, {0, 1, 2}])
def test_getters_that_are_cancelled_lose_nothing(sync: Any, moment: str, victims: set[int], run: Run) -> None:
    async def main() -> None:
        queue = sync.Queue()
        tasks = start([queue.get() for _ in range(3)])
        await turns(2)
        if moment == "after":
            queue.put_nowait("one")
            queue.put_nowait("two")
        for number in victims:
            tasks[number].cancel()
        if moment == "before":
            await turns(2)
        if moment != "after":
            queue.put_nowait("one")
            queue.put_nowait("two")
        await turns(5)
        served = [number for number in range(3) if number not in victims][:2]
        assert [tasks[number].cancelled() for number in range(3)] == [n in victims for n in range(3)]
        assert [tasks[number].result() for number in served] == ["one", "two"][: len(served)]
        assert [at_once(queue.get()) for _ in range(2 - len(served))] == ["one", "two"][len(served) :]
        for task in tasks:
            task.cancel()
        await turns(2)

    run(main())


@pytest.mark.parametrize("moment", ["before", "same turn", "after"])
@pytest.mark.parametrize("victims", [{0}, {1}, {2}, {0, 1}, {0, 2}, {0, 1, 2}])
def test_putters_that_are_cancelled_put_nothing(sync: Any, moment: str, victims: set[int], run: Run) -> None:
    async def main() -> None:
        queue = sync.Queue(1)
        queue.put_nowait("first")
        tasks = start([queue.put(number) for number in range(3)])
        await turns(2)
        if moment == "after":
            assert queue.get_nowait() == "first"
        for number in victims:
            tasks[number].cancel()
        if moment == "before":
            await turns(2)
        if moment != "after":
            assert queue.get_nowait() == "first"
        left = [number for number in range(3) if number not in victims]
        assert [await asyncio.wait_for(queue.get(), 30) for _ in left] == left
        await turns(2)
        assert [task.cancelled() for task in tasks] == [number in victims for number in range(3)]
        assert queue.empty()
        queue.put_nowait("room")

    run(main())


def test_many_producers_and_consumers(sync: Any, run: Run) -> None:
    async def main() -> None:
        queue, got = sync.Queue(3), []

        async def produce(name: int) -> None:
            for number in range(50):
                await queue.put((name, number))

        async def consume() -> None:
            while True:
                got.append(await queue.get())
                queue.task_done()

        consumers = start([consume() for _ in range(4)])
        await asyncio.gather(*(produce(name) for name in range(6)))
        await asyncio.wait_for(queue.join(), 30)
        for task in consumers:
            task.cancel()
        await asyncio.wait(consumers)
        assert sorted(got) == [(name, number) for name in range(6) for number in range(50)]
        for name in range(6):
            assert [number for who, number in got if who == name] == list(range(50))

    run(main())


def test_items_from_another_thread(sync: Any, run: Run) -> None:
    async def main() -> None:
        loop, queue = asyncio.get_running_loop(), sync.Queue()

        def produce() -> None:
            for number in range(100):
                loop.call_soon_threadsafe(queue.put_nowait, number)

        thread = threading.Thread(target=produce)
        thread.start()
        assert [await queue.get() for _ in range(100)] == list(range(100))
        thread.join()

    run(main())


# ------------------------------------------------------------------------ join, task_done --


def test_join(sync: Any, run: Run) -> None:
    async def main() -> None:
        queue = sync.Queue()
        assert await queue.join() is None
        for number in range(2):
            queue.put_nowait(number)
        joins = start([queue.join() for _ in range(3)])
        await turns(2)
        assert queue.task_done() is None
        queue.get_nowait()
        queue.get_nowait()
        await turns(2)
        assert not any(task.done() for task in joins)
        queue.task_done()
        assert await asyncio.gather(*joins) == [None] * 3
        with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
            queue.task_done()

    run(main())


def test_join_when_more_comes_at_once(sync: Any, run: Run) -> None:
    """Done is done: who was woken does not look again."""

    async def main() -> None:
        queue = sync.Queue()
        queue.put_nowait(1)
        join = asyncio.create_task(queue.join())
        await turns(2)
        queue.get_nowait()
        queue.task_done()
        queue.put_nowait(2)
        late = asyncio.create_task(queue.join())
        await turns(2)
        assert (join.done(), late.done()) == (True, False)
        queue.get_nowait()
        queue.task_done()
        await late

    run(main())


def test_a_join_is_cancelled(sync: Any, run: Run) -> None:
    async def main() -> None:
        queue = sync.Queue()
        queue.put_nowait(1)
        joins = start([queue.join() for _ in range(3)])
        await turns(2)
        joins[0].cancel()
        await turns(2)
        queue.task_done()
        joins[1].cancel()
        await asyncio.wait(joins)
        assert [task.cancelled() for task in joins] == [True, True, False]

    run(main())
