"""Random programs of tasks: with our queues, locks and timeouts they do what they do with asyncio's.

A program is a few tasks, what each does in turn, and what the world outside does in which turn of the loop:
it cancels, releases, sets, puts, takes, before whatever is ready in that turn or after it. Both runs are on
loops of the same kind, turn by turn; their logs must be equal, and say in which turn each thing happened.
"""

import asyncio
import gc
import re
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.support import this_task
from tests.api.syncs import HAS_SHUTDOWN, OURS, Way

TASKS, TURNS = 5, 20

# asyncio's semaphores of before 3.13 forget to wake one in cases that ours do not.
SEMAPHORES = ["semaphore", "bounded"] if sys.version_info >= (3, 13) else []
QUEUES = ["queue", "one", "priority", "stack"]
LOCKS = ["lock", *SEMAPHORES]

task = st.integers(0, TASKS - 1)
queue_work = st.tuples(st.sampled_from(["get", "put"]), st.sampled_from(QUEUES))
queue_act = st.tuples(
    st.sampled_from(
        ["get_nowait", "put_nowait", "task_done", *(["shutdown", "drop"] if HAS_SHUTDOWN else [])]
    ),
    st.sampled_from(QUEUES),
)
lock_work = st.tuples(st.sampled_from(["acquire", "hold"]), st.sampled_from(LOCKS))
lock_act = st.tuples(st.just("release"), st.sampled_from(LOCKS))
event_act = st.tuples(st.sampled_from(["set", "clear"]), st.just("event"))
plain_work = st.one_of(
    st.tuples(st.just("wait"), st.just("event")),
    st.tuples(st.just("join"), st.sampled_from(QUEUES)),
    st.tuples(st.just("yield"), st.integers(0, 2)),
)
limited = st.tuples(st.just("limit"), st.sampled_from([*QUEUES, "event", *LOCKS]))
expiry = st.tuples(st.just("expire"), task)
cancel = st.tuples(st.just("cancel"), task)
ACTS = st.one_of(queue_act, lock_act, event_act, cancel, cancel, expiry)
WORK = st.one_of(queue_work, queue_work, lock_work, plain_work, limited, queue_act, lock_act, event_act)
BODY = st.lists(st.tuples(WORK, st.booleans()), max_size=8)  # and whether it survives an error
PROGRAMS = st.tuples(
    st.lists(BODY, min_size=TASKS, max_size=TASKS),
    st.lists(st.tuples(st.integers(0, 12), st.booleans(), ACTS), max_size=20),
)


class Program:
    """One run with the classes of one module; `log` is what happened."""

    def __init__(self, module: Any, loop: Any, bodies: list[Any]) -> None:
        self.module, self.loop, self.log = module, loop, []  # type: ignore[var-annotated]
        self.things = {
            "queue": module.Queue(2),
            "one": module.Queue(1),
            "priority": module.PriorityQueue(2),
            "stack": module.LifoQueue(2),
            "event": module.Event(),
            "lock": module.Lock(),
            "semaphore": module.Semaphore(2),
            "bounded": module.BoundedSemaphore(1),
        }
        self.items = 0
        self.limits: dict[int, Any] = {}
        self.tasks = [loop.create_task(self.main(number, body)) for number, body in enumerate(bodies)]

    async def main(self, number: int, body: list[Any]) -> int:
        for (operation, name), survives in body:
            self.log.append((number, operation, name))
            try:
                self.log.append((number, operation, name, await self.work(number, operation, name)))
            except BaseException as error:
                self.log.append((number, operation, name, told(error), this_task().cancelling()))
                if not survives:
                    raise
        return number

    async def work(self, number: int, operation: str, name: Any) -> Any:
        """What only a task can do."""
        match operation:
            case "get":
                return await self.things[name].get()
            case "put":
                return await self.things[name].put(self.item())
            case "join":
                return await self.things[name].join()
            case "wait":
                return await self.things[name].wait()
            case "acquire":
                return await self.things[name].acquire()
            case "hold":
                async with self.things[name]:
                    self.log.append((number, "holds", name))
                    await asyncio.sleep(0)
                return "held"
            case "yield":
                for _ in range(name):
                    await asyncio.sleep(0)
                return None
            case "limit":
                return await self.limited(number, name)
        return self.act(operation, name)

    async def limited(self, number: int, name: str) -> Any:
        """Wait for something in a block that the world outside can let expire."""
        call = {"event": "wait", **dict.fromkeys(QUEUES, "get")}.get(name, "acquire")
        try:
            async with self.module.timeout_at(None) as self.limits[number]:
                return await getattr(self.things[name], call)()
        finally:
            self.log.append((number, repr(self.limits.pop(number))))

    def act(self, operation: str, name: Any) -> Any:
        """What anybody can do: a task, a callback, the world outside."""
        if operation == "cancel":
            return self.tasks[name].cancel()
        if operation == "expire":
            return self.limits[name].reschedule(0) if name in self.limits else None
        thing = self.things[name]
        if operation == "put_nowait":
            return thing.put_nowait(self.item())
        if operation == "drop":
            return thing.shutdown(immediate=True)
        return getattr(thing, operation)()

    def item(self) -> int:
        self.items += 1
        return self.items * 7 % 10

    def run(self, outside: list[Any]) -> list[Any]:
        for turn in range(TURNS):
            self.log.append(turn)
            for when, later, (operation, name) in outside:
                if when == turn and (later or operation == "expire"):
                    self.loop.call_soon(self.meddle, operation, name)
                elif when == turn:
                    self.meddle(operation, name)
            self.turn()
            if turn % 5 == 0 or turn < 12:
                self.log.append([look(thing) for thing in self.things.values()])
        self.wind_up()
        self.log.append([each.cancelled() or told(each.exception()) for each in self.tasks])
        return self.log

    def meddle(self, operation: str, name: Any) -> None:
        try:
            self.log.append(("outside", operation, name, self.act(operation, name)))
        except Exception as error:
            self.log.append(("outside", operation, name, told(error)))

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def wind_up(self) -> None:
        """Cancel what is left, until nothing is."""
        for turn in range(100):
            left = [number for number, each in enumerate(self.tasks) if not each.done()]
            if not left:
                return
            self.log.append(("left", turn, left))
            for number in left:
                self.tasks[number].cancel()
            self.turn()
            self.turn()
        raise AssertionError(f"these do not end: {left}")


def told(error: BaseException | None) -> str:
    return "none" if error is None else f"{type(error).__name__}: {error}"


def look(thing: Any) -> str:
    """Its repr without the address and the module."""
    return re.sub(r" (object )?at 0x[0-9a-f]+", "", re.sub(r"^<[\w.]+\.", "<", repr(thing)))


def trace(module: Any, way: Way, program: Any) -> list[Any]:
    bodies, outside = program
    errors: list[Any] = []
    loop = way.loop()
    try:
        loop.set_exception_handler(lambda _, context: errors.append(context["message"]))
        log = Program(module, loop, bodies).run(outside)
        gc.collect(0)
        # Nobody has asked for what became of the last ones: run has.
        assert not errors
    finally:
        loop.close()
    return log


@pytest.mark.parametrize("way", OURS, ids=str)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS)
def test_a_program_does_what_it_does_with_asyncios_classes(way: Way, program: Any) -> None:
    assert trace(way.module, way, program) == trace(asyncio, way, program)


def test_the_programs_can_tell_classes_apart() -> None:
    """A lock that forgets to wake the next when a cancelled one was woken is found out."""

    class Forgetful(asyncio.Lock):
        async def acquire(self) -> Any:
            try:
                return await super().acquire()
            except asyncio.CancelledError:
                if self._waiters and self._waiters[0].done():  # type: ignore[attr-defined]
                    self._waiters.clear()  # type: ignore[attr-defined]
                raise

    class Module:
        def __getattr__(self, name: str) -> Any:
            return Forgetful if name == "Lock" else getattr(asyncio, name)

    way = Way("asyncio", asyncio, asyncio.new_event_loop)
    acquire = [(("acquire", "lock"), False)]
    program = ([acquire] * 3 + [[]] * 2, [(3, False, act) for act in (("release", "lock"), ("cancel", 1))])
    right, wrong = trace(asyncio, way, program), trace(Module(), way, program)
    assert (2, "acquire", "lock", True) in right
    assert right != wrong
    assert trace(asyncio, way, program) == right


def test_the_programs_do_something() -> None:
    """Woken, cancelled in the same turn, expired and shut down: all of it comes about in a log."""
    way = Way("asyncio", asyncio, asyncio.new_event_loop)
    bodies = [
        [(("get", "queue"), True), (("get", "queue"), True)],
        [(("limit", "event"), True), (("wait", "event"), True)],
        [(("put", "one"), True), (("put", "one"), True), (("put", "one"), True)],
        [(("hold", "lock"), True)],
        [],
    ]
    outside = [
        (2, False, ("put_nowait", "queue")),
        (2, False, ("cancel", 0)),
        (3, False, ("expire", 1)),
        (4, False, ("set", "event")),
        (5, False, ("get_nowait", "one")),
        (6, False, ("cancel", 2)),
    ]
    log = trace(asyncio, way, (bodies, outside))
    assert (0, "get", "queue", "CancelledError: ", 1) in log
    assert (0, "get", "queue", 1) in log
    assert (1, "limit", "event", "TimeoutError: ", 0) in log
    assert (1, "<Timeout [expired]>") in log
    assert (1, "wait", "event", True) in log
    assert (2, "put", "one", "CancelledError: ", 1) in log
    assert (3, "hold", "lock", "held") in log
