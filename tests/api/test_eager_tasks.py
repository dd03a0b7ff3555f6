"""Eager tasks: those that run their first step where they are made."""

import asyncio
import contextvars
import os
import sys
from typing import Any

import pytest

from tests.api.support import answer, only_pinloop

Loop = asyncio.AbstractEventLoop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

if sys.version_info < (3, 12):
    pytest.skip("eager tasks are new in 3.12", allow_module_level=True)


def test_eager_task_factory_starts_at_once(loop: Loop) -> None:
    async def main() -> list[str]:
        steps: list[str] = []

        async def child() -> None:
            steps.append("child")
            await asyncio.sleep(0)
            steps.append("child again")

        task = asyncio.create_task(child(), name="mine")
        steps.append(f"parent of {task.get_name()}")
        await task
        return steps

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) == ["child", "parent of mine", "child again"]


@pytest.mark.parametrize("context", [None, "given"])
def test_an_eager_task_runs_in_its_context_from_the_start(loop: Loop, context: str | None) -> None:
    async def child() -> list[str]:
        begun = variable.get()
        variable.set("child")
        await asyncio.sleep(0)
        return [begun, variable.get()]

    async def main() -> tuple[list[str], str]:
        variable.set("parent")
        keywords: dict[str, Any] = {}
        if context is not None:
            keywords["context"] = contextvars.Context()
            keywords["context"].run(variable.set, context)
        task = asyncio.create_task(child(), **keywords)
        return await task, variable.get()

    loop.set_task_factory(asyncio.eager_task_factory)
    begun = "parent" if context is None else context
    assert loop.run_until_complete(main()) == ([begun, "child"], "parent")


def test_an_eager_task_that_never_waits_is_done_at_once_and_never_scheduled(loop: Loop) -> None:
    async def at_once() -> int:
        return 42

    async def main() -> tuple[bool, Any, bool]:
        task = asyncio.create_task(at_once())
        return task.done(), task.result(), task in asyncio.all_tasks()

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) == (True, 42, False)


def test_an_eager_task_that_fails_at_once_keeps_its_exception(loop: Loop) -> None:
    async def fail_at_once() -> None:
        raise ValueError("mine")

    async def main() -> None:
        task = asyncio.create_task(fail_at_once())
        assert task.done()
        with pytest.raises(ValueError, match="mine"):
            await task

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())


def test_the_current_task_is_the_eager_one_and_then_its_parent_again(loop: Loop) -> None:
    seen: list[Any] = []

    async def child() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def main() -> Any:
        task = asyncio.create_task(child())
        seen.append(asyncio.current_task())
        await task
        return task

    loop.set_task_factory(asyncio.eager_task_factory)
    parent = loop.create_task(main())
    task = loop.run_until_complete(parent)
    assert seen == [task, parent, task]


def test_an_eager_task_can_be_cancelled_where_it_waits(loop: Loop) -> None:
    steps: list[str] = []

    async def child() -> None:
        steps.append("begun")
        try:
            await asyncio.sleep(3600)
        finally:
            steps.append("ended")

    async def main() -> None:
        task = asyncio.create_task(child())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
    assert steps == ["begun", "ended"]


def test_a_task_group_of_eager_tasks(loop: Loop) -> None:
    steps: list[str] = []

    async def child(name: str) -> None:
        steps.append(f"{name} begun")
        if name != "quick":
            await asyncio.sleep(0)
        steps.append(f"{name} ended")

    async def main() -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(name), name=name) for name in ("slow", "quick")]
            steps.append("body")
        return [task.get_name() for task in tasks]

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) == ["slow", "quick"]
    assert steps == ["slow begun", "quick begun", "quick ended", "body", "slow ended"]


def test_a_task_group_reports_an_eager_task_that_fails_at_once(loop: Loop) -> None:
    async def fail_at_once() -> None:
        raise ValueError("mine")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_at_once())
            await asyncio.sleep(3600)

    loop.set_task_factory(asyncio.eager_task_factory)
    with pytest.raises(ExceptionGroup) as caught:
        loop.run_until_complete(main())
    assert [str(exception) for exception in caught.value.exceptions] == ["mine"]


def test_an_eager_factory_of_a_class_of_ones_own(loop: Loop) -> None:
    class Special(asyncio.Task[Any]):
        pass

    async def main() -> tuple[type[Any], str, int]:
        task = asyncio.create_task(answer(), name="mine")
        return type(task), task.get_name(), await task

    loop.set_task_factory(asyncio.create_eager_task_factory(Special))
    assert loop.run_until_complete(main()) == (Special, "mine", 42)


def test_an_eager_task_of_a_loop_that_does_not_run_waits_for_it(loop: Loop) -> None:
    loop.set_task_factory(asyncio.eager_task_factory)
    steps: list[str] = []

    async def child() -> None:
        steps.append("child")

    task = loop.create_task(child())
    assert steps == []
    loop.run_until_complete(task)
    assert steps == ["child"]


@pytest.mark.skipif(sys.version_info < (3, 13, 3), reason="create_task(eager_start=) is new in 3.13.3")
def test_create_task_starts_eagerly_when_asked(loop: Loop) -> None:
    async def main() -> list[str]:
        steps: list[str] = []

        async def child(name: str) -> None:
            steps.append(name)

        async with asyncio.TaskGroup() as group:
            loop.create_task(child("of the loop"), eager_start=True)
            asyncio.create_task(child("of asyncio"), eager_start=True)
            group.create_task(child("of the group"), eager_start=True)
            late = loop.create_task(child("late"), eager_start=False)
            steps.append("parent")
        await late
        return steps

    assert loop.run_until_complete(main()) == ["of the loop", "of asyncio", "of the group", "parent", "late"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="eager_task_factory(eager_start=) is new in 3.14")
def test_an_eager_factory_makes_a_lazy_task_when_asked(loop: Loop) -> None:
    async def main() -> list[str]:
        steps: list[str] = []

        async def child() -> None:
            steps.append("child")

        task = asyncio.create_task(child(), eager_start=False)
        steps.append("parent")
        await task
        return steps

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) == ["parent", "child"]


@only_pinloop
def test_the_eager_task_factory_makes_the_tasks_of_the_loop(loop: Loop) -> None:
    import pinloop

    kind = asyncio.Task if os.environ.get("PINLOOP_TEST_TASKS") == "asyncio" else pinloop.Task

    async def main() -> None:
        assert type(asyncio.create_task(asyncio.sleep(0))) is kind
        assert asyncio.get_running_loop().get_task_factory() is asyncio.eager_task_factory

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
