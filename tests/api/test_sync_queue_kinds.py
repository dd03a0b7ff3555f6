"""Queues that are shut down, and queues of a user's own making: asyncio's and pinloop's do the same."""

import asyncio
import heapq
from typing import Any

import pytest

from tests.api.support import turns
from tests.api.syncs import FIXTURES, HAS_SHUTDOWN, QueueShutDown, at_once, start
from tests.conftest import Run

way, loop_factory, sync = FIXTURES


@pytest.fixture
def closing(sync: Any) -> Any:
    """The module whose classes are tested, if its queues can be shut down."""
    if sync is asyncio and not HAS_SHUTDOWN:
        pytest.skip("asyncio's queues can be shut down from 3.13 on")
    return sync


KINDS = ["Queue", "PriorityQueue", "LifoQueue"]


# ------------------------------------------------------------------------------ shut down --


def test_the_exception(closing: Any) -> None:
    assert issubclass(QueueShutDown, Exception)
    assert (QueueShutDown.__name__, QueueShutDown.__bases__) == ("QueueShutDown", (Exception,))
    assert getattr(closing, "QueueShutDown", QueueShutDown) is QueueShutDown


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_a_queue_that_was_shut_down_can_be_taken(closing: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        queue = getattr(closing, kind)()
        queue.put_nowait(1)
        queue.put_nowait(1)
        assert queue.shutdown() is None
        assert repr(queue).endswith(" _queue=[1, 1] tasks=2 shutdown>")
        with pytest.raises(QueueShutDown) as caught:
            queue.put_nowait(2)
        assert type(caught.value) is QueueShutDown and caught.value.args == ()
        with pytest.raises(QueueShutDown):
            await queue.put(2)
        assert await queue.get() == queue.get_nowait() == 1
        with pytest.raises(QueueShutDown):
            queue.get_nowait()
        with pytest.raises(QueueShutDown):
            await queue.get()
        joined = asyncio.create_task(queue.join())
        await turns(2)
        assert not joined.done()
        queue.task_done()
        queue.task_done()
        await joined

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_shut_down_immediately(closing: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        queue = getattr(closing, kind)()
        for _ in range(3):
            queue.put_nowait(1)
        queue.get_nowait()
        joined = asyncio.create_task(queue.join())
        await turns(2)
        assert queue.shutdown(immediate=True) is None
        assert queue.empty() and repr(queue).endswith(" maxsize=0 tasks=1 shutdown>")
        with pytest.raises(QueueShutDown):
            queue.get_nowait()
        with pytest.raises(QueueShutDown):
            await queue.get()
        await turns(2)
        assert not joined.done()
        queue.task_done()
        await joined
        with pytest.raises(ValueError, match="called too many times"):
            queue.task_done()

    run(main())


@pytest.mark.parametrize("immediate", [False, True])
def test_all_who_wait_hear_of_it(closing: Any, immediate: bool, run: Run) -> None:
    async def main() -> None:
        empty, full = closing.Queue(), closing.Queue(1)
        full.put_nowait(1)
        getters = start([empty.get() for _ in range(3)])
        putters = start([full.put(number) for number in range(3)])
        joined = asyncio.create_task(full.join())
        await turns(2)
        getters[1].cancel()
        empty.shutdown(immediate)
        full.shutdown(immediate=immediate)
        await asyncio.wait(getters + putters)
        assert [task.cancelled() for task in getters] == [False, True, False]
        for task in (getters[0], getters[2], *putters):
            assert type(task.exception()) is QueueShutDown
        await turns(2)
        assert joined.done() is immediate
        if not immediate:
            assert full.get_nowait() == 1
            full.task_done()
        await joined

    run(main())


def test_shut_down_when_one_was_woken(closing: Any, run: Run) -> None:
    async def main() -> None:
        queue, taken = closing.Queue(), closing.Queue()
        tasks = start([queue.get(), taken.get()])
        await turns(2)
        queue.put_nowait(1)
        taken.put_nowait(2)
        queue.shutdown()
        taken.shutdown(immediate=True)
        assert await tasks[0] == 1
        with pytest.raises(QueueShutDown):
            await tasks[1]
        full = closing.Queue(1)
        full.put_nowait(1)
        putter = asyncio.create_task(full.put(2))
        await turns(2)
        full.get_nowait()
        full.shutdown()
        with pytest.raises(QueueShutDown):
            await putter
        assert full.empty()

    run(main())


def test_shut_down_twice(closing: Any, run: Run) -> None:
    async def main() -> None:
        queue = closing.Queue()
        queue.put_nowait(1)
        queue.shutdown()
        queue.shutdown()
        assert queue.qsize() == 1
        queue.shutdown(immediate=True)
        assert queue.empty()
        await asyncio.wait_for(queue.join(), 30)
        queue.shutdown()
        with pytest.raises(QueueShutDown):
            queue.get_nowait()

    run(main())


def test_a_worker_until_the_queue_is_shut_down(closing: Any, run: Run) -> None:
    async def main() -> None:
        queue, done = closing.Queue(2), []

        async def work() -> None:
            try:
                while True:
                    done.append(await queue.get())
                    queue.task_done()
            except QueueShutDown:
                return

        workers = start([work() for _ in range(3)])
        for number in range(20):
            await queue.put(number)
        queue.shutdown()
        await queue.join()
        await asyncio.wait_for(asyncio.gather(*workers), 30)
        assert sorted(done) == list(range(20))

    run(main())


# ---------------------------------------------------------------------------- subclasses --


def test_a_subclass_with_a_store_of_its_own(sync: Any, run: Run) -> None:
    """As the documentation of queue.Queue tells: _init, _put and _get, with what is stored in _queue."""

    class Set(sync.Queue):  # type: ignore[misc]
        def _init(self, maxsize: int) -> None:
            self.told = maxsize
            self._queue: set[Any] = set()

        def _put(self, item: Any) -> None:
            self._queue.add(item)

        def _get(self) -> Any:
            return self._queue.pop()

    async def main() -> None:
        queue = Set(2)
        assert queue.told == 2
        getter = asyncio.create_task(queue.get())
        await turns(2)
        queue.put_nowait("a")
        assert await getter == "a"
        queue.put_nowait("b")
        queue.put_nowait("b")
        assert (queue.qsize(), queue.full(), queue.empty()) == (1, False, False)
        assert repr(queue).endswith(" maxsize=2 _queue=['b'] tasks=3>")
        await queue.put("c")
        assert queue.full()
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait("d")
        putter = asyncio.create_task(queue.put("d"))
        await turns(2)
        taken = {await queue.get() for _ in range(3)}
        await putter
        assert taken == {"b", "c", "d"}

    run(main())


def test_a_subclass_that_stores_elsewhere(sync: Any, run: Run) -> None:
    class Heap(sync.Queue):  # type: ignore[misc]
        def _init(self, maxsize: int) -> None:
            self.heap: list[Any] = []

        def qsize(self) -> int:
            return len(self.heap)

        def empty(self) -> bool:
            return not self.heap

        def _put(self, item: Any) -> None:
            heapq.heappush(self.heap, item)

        def _get(self) -> Any:
            return heapq.heappop(self.heap)

    async def main() -> None:
        queue = Heap(3)
        for number in (3, 1, 2):
            await queue.put(number)
        assert queue.full()
        putter = asyncio.create_task(queue.put(0))
        await turns(2)
        assert not putter.done()
        assert await queue.get() == 1
        await putter
        assert [queue.get_nowait() for _ in range(3)] == [0, 2, 3]
        assert queue.empty()

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_subclass_that_adds_to_what_it_inherits(sync: Any, kind: str, run: Run) -> None:
    class Once(getattr(sync, kind)):  # type: ignore[misc]
        def _init(self, maxsize: int) -> None:
            super()._init(maxsize)
            self.seen: set[Any] = set()

        def _put(self, item: Any) -> None:
            if item not in self.seen:
                self.seen.add(item)
                super()._put(item)

        def _get(self) -> Any:
            item = super()._get()
            self.seen.remove(item)
            return item

    async def main() -> None:
        queue = Once()
        for number in (1, 1, 2, 1):
            await queue.put(number)
        assert queue.qsize() == 2
        assert sorted([await queue.get(), await queue.get()]) == [1, 2]
        assert not queue.seen

    run(main())


def test_a_subclass_that_looks_into_the_store(sync: Any) -> None:
    class Peeking(sync.Queue):  # type: ignore[misc]
        def peek(self) -> Any:
            return self._queue[0]

        def _put(self, item: Any) -> None:
            if item == "urgent":
                self._queue.appendleft(item)
            else:
                self._queue.append(item)

    queue = Peeking()
    for item in ("a", "b", "urgent"):
        queue.put_nowait(item)
    assert queue.peek() == "urgent"
    assert list(queue._queue) == ["urgent", "a", "b"]
    assert [queue.get_nowait() for _ in range(3)] == ["urgent", "a", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_looking_into_the_store_from_outside(sync: Any, kind: str) -> None:
    queue = getattr(sync, kind)()
    for number in range(3):
        queue.put_nowait(number)
    assert list(queue._queue) == [0, 1, 2]
    assert queue._queue[0] == 0
    assert len(queue._queue) == 3
    queue._queue.clear()
    assert queue.empty() and queue.qsize() == 0


def test_a_subclass_that_overrides_the_public_methods(sync: Any, run: Run) -> None:
    log = []

    class Loud(sync.Queue):  # type: ignore[misc]
        def put_nowait(self, item: Any) -> None:
            log.append(f"put {item}")
            super().put_nowait(item)

        def get_nowait(self) -> Any:
            log.append("get")
            return super().get_nowait()

        def full(self) -> bool:
            return self.qsize() >= 1

    async def main() -> None:
        queue = Loud()
        await queue.put(1)
        putter = asyncio.create_task(queue.put(2))
        await turns(2)
        assert queue.qsize() == 1 and log == ["put 1"]
        assert await queue.get() == 1
        await putter
        assert log == ["put 1", "get", "put 2"]
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait(3)

    run(main())


def test_a_coroutine_that_is_overridden(sync: Any, run: Run) -> None:
    class Doubling(sync.Queue):  # type: ignore[misc]
        async def put(self, item: Any) -> None:
            await super().put(item)
            await super().put(item)

    async def main() -> None:
        queue = Doubling()
        await queue.put(1)
        assert [await queue.get(), await queue.get()] == [1, 1]

    run(main())


def test_a_store_that_fails(sync: Any, run: Run) -> None:
    """A put that raises counts for nothing; a get that raises leaves the item to others."""

    class Failing(sync.Queue):  # type: ignore[misc]
        broken = True

        def _put(self, item: Any) -> None:
            if self.broken:
                raise ValueError(item)
            super()._put(item)

        def _get(self) -> Any:
            if self.broken:
                raise KeyError("no")
            return super()._get()

    async def main() -> None:
        queue = Failing()
        with pytest.raises(ValueError, match="a"):
            await queue.put("a")
        await asyncio.wait_for(queue.join(), 30)
        queue.broken = False
        await queue.put("b")
        queue.broken = True
        with pytest.raises(KeyError):
            await queue.get()
        queue.broken = False
        assert await queue.get() == "b"

    run(main())


def test_a_subclass_with_more_arguments(sync: Any) -> None:
    class Named(sync.LifoQueue):  # type: ignore[misc]
        def __init__(self, name: str, maxsize: int = 3) -> None:
            super().__init__(maxsize)
            self.name = name

        def _format(self) -> str:
            return f"{self.name} {super()._format()}"

    queue = Named("jobs")
    assert (queue.name, queue.maxsize) == ("jobs", 3)
    assert str(queue) == "<Named jobs maxsize=3>"
    assert at_once(queue.put(1)) is None
    assert type(Named[int]("x")) is Named
