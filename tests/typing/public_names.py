"""What a type checker makes of a program that uses pinloop: `make mypy` reads this file, nothing runs it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, assert_type

import pinloop
import pinloop.metrics


async def main() -> int:
    loop = asyncio.get_running_loop()
    assert_type(loop, asyncio.AbstractEventLoop)
    return 42


def double(number: int) -> int:
    return 2 * number


def ways_in() -> None:
    assert_type(pinloop.run(main()), int)
    assert_type(pinloop.run(main(), debug=True), int)
    assert_type(pinloop.new_event_loop(), pinloop.Loop)
    assert_type(pinloop.install(), None)
    assert_type(pinloop.__version__, str)
    with asyncio.Runner(loop_factory=pinloop.new_event_loop) as runner:
        assert_type(runner.run(main()), int)
    factory: Callable[[], asyncio.AbstractEventLoop] = pinloop.new_event_loop
    factory = pinloop.Loop
    factory().close()


async def streams() -> None:
    reader, writer = await pinloop.open_connection("127.0.0.1", 80, limit=100)
    assert_type(reader, pinloop.StreamReader)
    assert_type(writer, pinloop.StreamWriter)
    of_asyncio: tuple[asyncio.StreamReader, asyncio.StreamWriter] = reader, writer
    assert_type(await reader.readexactly(5), bytes)
    assert_type(await reader.readuntil((b"a", b"b")), bytes)
    assert_type(await writer.drain(), None)
    async for line in of_asyncio[0]:
        assert_type(line, bytes)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    assert_type(await pinloop.start_server(handle, "127.0.0.1", 0), asyncio.AbstractServer)
    pinloop.install(streams=True)
    pinloop.install(streams="yes")  # type: ignore[arg-type]


async def pipelines() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def say(number: int) -> str:
        return str(number)

    assert_type(pinloop.stream(numbers), pinloop.Stream[int])
    assert_type(pinloop.stream(numbers()).map(say, concurrency=8), pinloop.Stream[str])
    assert_type(pinloop.stream([1]).map(str).chunks(10, within=0.1), pinloop.Stream[list[str]])
    assert_type(pinloop.stream([1]).merge(["a"]), pinloop.Stream[int | str])
    assert_type(pinloop.stream([1]).zip(["a"]), pinloop.Stream[tuple[int, str]])
    assert_type(pinloop.stream([1]).flat_map(lambda n: [str(n)]).filter(bool), pinloop.Stream[str])
    async with pinloop.stream([1]).buffer(2).throttle(5, per=1).timeout(3) as items:
        async for item in items:
            assert_type(item, int)
    assert_type(await pinloop.stream([1]).collect(), list[int])
    assert_type(await pinloop.stream([1]).first(None), int | None)
    assert_type(await pinloop.stream([1]).for_each(say, concurrency=3), None)
    pinloop.stream(5)  # type: ignore[call-overload]


async def queues() -> None:
    queue: pinloop.Queue[int] = pinloop.Queue(16)
    assert_type(await queue.get(), int)
    assert_type(queue.get_nowait(), int)
    assert_type(await queue.put(1), None)
    assert_type(await queue.join(), None)
    assert_type(asyncio.create_task(queue.get()), asyncio.Task[int])
    assert_type((queue.maxsize, queue.qsize(), queue.empty(), queue.full()), tuple[int, int, bool, bool])
    assert_type(queue.shutdown(immediate=True), None)
    of_asyncio: asyncio.Queue[int] = queue
    of_asyncio = pinloop.PriorityQueue[int](maxsize=3)
    of_asyncio = pinloop.LifoQueue[int]()
    assert_type(await of_asyncio.get(), int)
    await queue.put("text")  # type: ignore[arg-type]
    queue.put_nowait(b"bytes")  # type: ignore[arg-type]
    pinloop.Queue("many")  # type: ignore[arg-type]
    with contextlib.suppress(pinloop.QueueShutDown):
        queue.put_nowait(1)


async def locks() -> None:
    lock, event, semaphore = pinloop.Lock(), pinloop.Event(), pinloop.BoundedSemaphore(3)
    async with lock as nothing, semaphore:
        assert_type(nothing, None)
    assert_type(lock.locked(), bool)
    assert_type(lock.release(), None)
    assert_type(asyncio.create_task(semaphore.acquire()).done(), bool)
    event.set()
    assert_type(event.is_set(), bool)
    of_asyncio: tuple[asyncio.Lock, asyncio.Event, asyncio.Semaphore] = lock, event, semaphore
    asyncio.Condition(of_asyncio[0])
    pinloop.Semaphore("many")  # type: ignore[arg-type]


async def timeouts() -> None:
    async with pinloop.timeout(1.5) as timeout:
        assert_type(timeout, pinloop.Timeout)
        timeout.reschedule(None)
    async with pinloop.timeout_at(10) as timeout:
        assert_type(timeout.when(), float | None)
    assert_type(timeout.expired(), bool)
    pinloop.timeout("soon")  # type: ignore[arg-type]
    pinloop.timeout()  # type: ignore[call-arg]


async def scopes() -> None:
    async def serve(port: int, *, task_status: pinloop.TaskStatus) -> None: ...

    async with pinloop.scope(deadline=1.5, shield=True, limit=3) as s:
        assert_type(s, pinloop.Scope)
        assert_type(s.spawn(main(), "name"), asyncio.Task[int])
        assert_type(await s.start(serve, 80), Any)
        assert_type(s.deadline, float | None)
        assert_type(s.children, tuple[asyncio.Task[Any], ...])
        s.deadline = 5
        s.limit = 5  # type: ignore[misc]
        s.spawn(main)  # type: ignore[arg-type]
        s.cancel("enough")
    for make in (pinloop.move_on_after, pinloop.move_on_at, pinloop.fail_after, pinloop.fail_at):
        async with make(1.5, shield=True, limit=3) as s:
            assert_type(s.cancelled_caught, bool)


def wrong_ways_in() -> None:
    pinloop.run(main)  # type: ignore[arg-type]
    pinloop.run(42)  # type: ignore[arg-type]
    pinloop.new_event_loop(tasks=42)  # type: ignore[arg-type]


def scheduling(loop: pinloop.Loop) -> None:
    def callback(number: int, text: str = "") -> None: ...

    assert_type(loop.call_soon(callback, 1), asyncio.Handle)
    assert_type(loop.call_soon(callback, 1, "text"), asyncio.Handle)
    assert_type(loop.call_soon_threadsafe(callback, 1), asyncio.Handle)
    assert_type(loop.call_later(0.5, callback, 1), asyncio.TimerHandle)
    assert_type(loop.call_at(loop.time() + 1, callback, 1), asyncio.TimerHandle)
    assert_type(loop.call_at(1, callback, 1).when(), float)
    loop.call_soon(callback, "no number")  # type: ignore[arg-type]
    loop.call_soon(42)  # type: ignore[arg-type]
    loop.call_later("soon", callback, 1)  # type: ignore[arg-type]
    loop.call_soon(callback, 1, context=42)  # type: ignore[arg-type]


def tasks(loop: pinloop.Loop) -> None:
    assert_type(loop.create_task(main()), asyncio.Task[int])
    assert_type(loop.create_task(main(), name="name"), asyncio.Task[int])
    assert_type(loop.create_future(), asyncio.Future[Any])
    assert_type(loop.run_until_complete(main()), int)
    assert_type(loop.run_in_executor(None, double, 21), asyncio.Future[int])
    loop.create_task(42)  # type: ignore[arg-type]
    loop.set_task_factory(None)
    loop.set_task_factory(42)  # type: ignore[arg-type]
    loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))


def descriptors(loop: pinloop.Loop) -> None:
    loop.add_reader(0, print, "readable")
    assert_type(loop.remove_reader(0), bool)
    loop.add_writer("no descriptor", print)  # type: ignore[arg-type]


def states(loop: pinloop.Loop) -> None:
    assert_type(loop.is_running(), bool)
    assert_type(loop.is_closed(), bool)
    assert_type(loop.get_debug(), bool)
    assert_type(loop.time(), float)
    assert_type(loop.slow_callback_duration, float)


async def network(loop: pinloop.Loop) -> None:
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    assert_type(server, pinloop.Server)
    abstract: asyncio.AbstractServer = server
    abstract.close()
    assert_type(server.is_serving(), bool)
    assert_type(server.get_loop(), pinloop.Loop)
    transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
    assert_type(transport, asyncio.Transport)


async def combined() -> None:
    async def name() -> str:
        return "name"

    assert_type(await pinloop.join(main(), name()), tuple[int, str])
    assert_type(await pinloop.try_join(*[main()]), tuple[int, ...])
    assert_type(await pinloop.race(main(), name()), int | str)
    assert_type(await pinloop.race_ok(*[main()]), int)
    assert_type(await pinloop.yield_now(), None)
    limiter = pinloop.Limiter(3)
    async with limiter:
        assert_type(limiter.statistics().borrowers, tuple[object, ...])
    assert_type(pinloop.Semaphore(2).statistics(), pinloop.SemaphoreStatistics)


def watched(loop: pinloop.Loop) -> None:
    found = loop.metrics()
    assert_type(found, pinloop.metrics.Metrics)
    assert_type(found - found + found, pinloop.metrics.Metrics)
    assert_type(sum([found], pinloop.metrics.Metrics()), pinloop.metrics.Metrics)
    assert_type(found.lag.quantile(0.99), float)
    assert_type(pinloop.dump_tasks(), None)
    assert_type(pinloop.publish_metrics(), Path)
    pinloop.dump_on_signal()


async def serving() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    service = pinloop.serve(handler, "127.0.0.1", 8000, workers=2, balance="acceptor", grace=5)
    assert_type(service, pinloop.Service)
    async with service as entered:
        assert_type(entered, pinloop.Service)
        assert_type(entered.addresses, tuple[tuple[str, int] | str, ...])
        assert_type(entered.workers[0].pid, int | None)
        assert_type(await entered.reload(), None)
        assert_type(await entered.serve_forever(), None)
        assert_type(await entered.drain(), None)
    async with pinloop.Workers() as pool, await pool.serve(handler, None, 8000, grace=5) as server:
        assert_type(server.addresses, tuple[tuple[str, int] | str, ...])
        assert_type(await server.close(), None)
    assert_type(pinloop.serve("module:app", ["::1", "127.0.0.1"], 0, unix="socket").run(), None)
    pinloop.serve(handler, port="http")  # type: ignore[arg-type]
