"""Random programs of tasks and futures: on our classes they do what they do on asyncio's, in that order."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.worlds import OTHERS, World, made, told

FUTURES, TASKS, TURNS = 4, 4, 25

future = st.integers(0, FUTURES - 1)
task = st.integers(0, TASKS - 1)
OPERATIONS = st.one_of(
    st.tuples(st.just("yield"), st.just(0)),
    st.tuples(
        st.sampled_from(["await", "shield", "set", "fail", "drop", "callback", "unhook", "soon", "ask"]),
        future,
    ),
    st.tuples(
        st.sampled_from(["join", "cancel", "wait", "gather", "shield task", "spawn", "uncancel", "watch"]),
        task,
    ),
)
WAITING = {"join", "wait", "gather", "shield task"}
BODY = st.lists(
    st.tuples(OPERATIONS, st.booleans()), max_size=7
)  # an operation, and whether its error is survived
PROGRAMS = st.tuples(
    st.lists(BODY, min_size=TASKS, max_size=TASKS), st.lists(st.tuples(st.integers(0, 8), OPERATIONS))
)


class Program:
    """One run of a program in a world; `log` is what happened."""

    def __init__(self, world: World, bodies: list[Any]) -> None:
        self.world, self.bodies, self.log = world, bodies, []  # type: ignore[var-annotated]
        self.futures = [world.loop.create_future() for _ in range(FUTURES)]
        self.hooks: list[Callable[[Any], None]] = [self.hook(number) for number in range(FUTURES)]
        self.tasks: list[Any] = []
        self.spawned: list[Any] = []
        for number, body in enumerate(bodies):
            self.tasks.append(world.loop.create_task(self.main(number, body), name=f"T{number}"))

    def hook(self, number: int) -> Callable[[Any], None]:
        return lambda future: self.log.append(("hook", number, future._state))

    async def main(self, name: Any, body: list[Any]) -> Any:
        for (operation, number), survives in body:
            self.log.append((name, operation, number))
            try:
                self.log.append((name, "got", repr(await self.perform(name, operation, number))))
            except BaseException as error:
                me = asyncio.current_task()
                assert me is not None
                self.log.append((name, told(error), me.cancelling()))
                if not survives:
                    raise
        return name

    async def perform(self, name: Any, operation: str, number: int) -> Any:
        """What a task does."""
        if operation in WAITING and isinstance(name, int) and number <= name:
            return "not those: they could wait for each other"
        match operation:
            case "yield":
                return await asyncio.sleep(0)
            case "await":
                return await self.futures[number]
            case "shield":
                return await asyncio.shield(self.futures[number])
            case "join":
                return await self.tasks[number]
            case "shield task":
                return await asyncio.shield(self.tasks[number])
            case "wait":
                done, _ = await asyncio.wait(
                    [self.tasks[number], self.futures[number]], return_when=asyncio.FIRST_COMPLETED
                )
                return [each in done for each in (self.tasks[number], self.futures[number])]
            case "gather":
                return await asyncio.gather(
                    self.futures[number], self.tasks[number], return_exceptions=number % 2 == 0
                )
            case "uncancel":
                return self.tasks[number].uncancel()
            case "spawn":
                name = f"S{len(self.spawned)}"
                body = [each for each in self.bodies[number] if each[0][0] != "spawn"]
                self.spawned.append(self.world.loop.create_task(self.main(name, body[:3]), name=name))
                return self.spawned[-1].get_name()
        return self.act(operation, number)

    def act(self, operation: str, number: int) -> Any:
        """What anybody can do: a task, a callback, the world outside."""
        future, task = self.futures[number], self.tasks[number]
        match operation:
            case "set" if not future.done():
                return future.set_result(f"result {number}")
            case "fail" if not future.done():
                return future.set_exception(ValueError(f"failure {number}"))
            case "drop":
                return future.cancel(f"message {number}")
            case "cancel":
                return task.cancel(f"message for {number}"), task.cancelling()
            case "callback":
                return future.add_done_callback(self.hooks[number])
            case "unhook":
                return future.remove_done_callback(self.hooks[number])
            case "watch":
                return task.add_done_callback(lambda done: self.log.append(("done", number, done._state)))
            case "soon":
                self.world.loop.call_soon(lambda: self.log.append(("soon", number, future.cancelled())))
                return None
            case "ask":
                return (
                    future.done(),
                    future.cancelled(),
                    task.done(),
                    task.cancelled(),
                    len(asyncio.all_tasks()),
                )
        return None

    def run(self, outside: list[Any]) -> list[Any]:
        for turn in range(TURNS):
            self.log.append(turn)
            for when, (operation, number) in outside:
                if when == turn and operation != "ask":
                    self.log.append(("outside", operation, number, repr(self.act(operation, number))))
            self.world.turn()
        self.log.append(sorted(each.get_name() for each in asyncio.all_tasks(self.world.loop)))
        self.wind_up()
        for each in (*self.tasks, *self.spawned, *self.futures):
            self.log.append((each._state, told(each.exception()) if each._state == "FINISHED" else ""))
        return self.log

    def wind_up(self) -> None:
        """Cancel what is left, until nothing is."""
        for turn in range(100):
            left = sorted(asyncio.all_tasks(self.world.loop), key=lambda each: each.get_name())
            if not left:
                return
            self.log.append(("left", turn, [each.cancel() for each in left]))
            self.world.turn()
        raise AssertionError(f"these do not end: {left}")


def trace(name: str, program: Any) -> list[Any]:
    bodies, outside = program
    with made(name) as world:
        running = Program(world, bodies)
        log = running.run(outside)
        told = sorted(each["message"].partition("<")[0] for each in world.errors)
        world.errors.clear()
        world.loop.set_exception_handler(lambda *_: None)  # what nobody looked at goes with the program
        del running
    return [*log, told]


@pytest.mark.parametrize("name", OTHERS)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS)
def test_a_program_does_what_it_does_on_asyncios_classes(name: str, program: Any) -> None:
    assert trace(name, program) == trace("asyncio", program)


def test_the_model_can_tell_worlds_apart() -> None:
    """It compares something: programs that differ in one operation leave other traces."""
    body = [(("await", 0), False)]
    one = trace("asyncio", ([body, [(("set", 0), False)], [], []], []))
    two = trace("asyncio", ([body, [(("drop", 0), False)], [], []], []))
    assert one != two
    assert (0, "got", "'result 0'") in one
    assert (0, "CancelledError: message 0", 0) in two
