"""What the tests of scopes need: tasks that wait, fail and take their turns, and what to look at after."""

import asyncio
import sys
from typing import Any

import pytest

from pinloop import TaskStatus
from tests.api.support import this_task

COUNTS_HOLD = sys.version_info >= (3, 13)
"""Before, a TaskGroup may leave a request behind whose child fails as it waits, and may swallow one."""

counts_hold = pytest.mark.skipif(
    not COUNTS_HOLD,
    reason="before 3.13 a cancellation that an error took the place of cannot be asked for again",
)


async def forever() -> None:
    await asyncio.Event().wait()


async def value(result: Any) -> Any:
    await asyncio.sleep(0)
    return result


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def serve(port: int, *, task_status: TaskStatus) -> None:
    """A child of `start` that gets ready after a turn."""
    await asyncio.sleep(0)
    task_status.started(port)
    await forever()


def cancelling() -> int:
    return this_task().cancelling()


async def nothing_is_left() -> None:
    """No request counts, and none waits for the next await."""
    assert cancelling() == 0
    await asyncio.sleep(0)
