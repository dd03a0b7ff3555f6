"""What the tests of join, race and their like need: arms that finish, fail and clean up."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import pinloop
from tests.api.support import this_task, turns

Combine = Callable[..., Coroutine[Any, Any, Any]]

ALL: list[Combine] = [pinloop.join, pinloop.try_join, pinloop.race, pinloop.race_ok]

each_combine = pytest.mark.parametrize("combine", ALL, ids=lambda combine: combine.__name__)


class Arms:
    """Makes arms, and notes what became of them."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.tasks: dict[Any, asyncio.Task[Any]] = {}

    async def arm(
        self,
        name: Any,
        after: int | None = None,
        error: BaseException | None = None,
        cleanup: int = 0,
        late: BaseException | None = None,
    ) -> Any:
        """Its name or `error` after some turns (None: never); cancelled it cleans up, and may fail `late`."""
        self.begun.append(name)
        self.tasks[name] = this_task()
        try:
            if after is None:
                await asyncio.Event().wait()
            else:
                await turns(after)
            if error is not None:
                raise error
            return name
        except asyncio.CancelledError:
            await turns(cleanup)
            if late is not None:
                raise late from None
            raise
        finally:
            self.ended.append(name)

    def check(self) -> None:
        """What was begun has ended, and no task is left but the one that asks."""
        assert sorted(map(str, self.begun)) == sorted(map(str, self.ended))
        assert all(task.done() for task in self.tasks.values())
        assert asyncio.all_tasks() == {asyncio.current_task()}
