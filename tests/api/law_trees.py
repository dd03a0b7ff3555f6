"""What the laws of scopes and of join share: how the leaves of a tree work, and what is done to it."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pinloop import Scope
from tests.api.support import this_task

GROUPS_KEEP_THE_LAWS = sys.version_info >= (3, 13)
"""Before, asyncio.TaskGroup itself leaves requests behind, and swallows some."""


class Expected(Exception):
    """What a leaf of the tree raises."""


@dataclass
class Leaf:
    """Works for some turns (none: it is ready), then returns or fails; cleans up for some if cancelled."""

    turns: int
    fails: bool = False
    cleanup: int = 0
    fails_late: bool = False


@dataclass
class Action:
    """Something that happens to the tree from outside, some turns after the last."""

    after: int
    kind: str
    which: int


class Performance:
    """One run of a tree, and what happens in it."""

    many_turns: int
    """No tree takes that long: what is not over by then hangs."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.timeouts: list[asyncio.Timeout] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.requests: dict[asyncio.Task[Any], int] = {}
        self.counts: dict[asyncio.Task[Any], int] = {}
        self.over = False
        self.recancelled = False

    async def play(self, tree: Any) -> Any:
        """Do what the tree says."""
        raise NotImplementedError

    def check_children(self) -> None:
        """Each child was asked to stop as often as it should be."""
        raise NotImplementedError

    def was_asked(self, root: "asyncio.Task[Any]") -> bool:
        """Whether a cancellation of the root may have come from outside."""
        raise NotImplementedError

    async def work(self, leaf: Leaf, failure: Callable[[], Expected]) -> None:
        """Do what the leaf says; `failure` makes what it raises."""
        try:
            for _ in range(leaf.turns):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            try:
                for _ in range(leaf.cleanup):
                    await asyncio.sleep(0)
            finally:
                if leaf.fails_late:
                    raise failure() from None
            raise
        if leaf.fails:
            raise failure()

    async def conduct(self, root: "asyncio.Task[Any]", script: list[Action]) -> None:
        """Do to the tree what the script says, until it is over."""
        loop = asyncio.get_running_loop()
        for action in script:
            for _ in range(action.after):
                await asyncio.sleep(0)
            if self.over:
                return
            match action.kind:
                case "cancel root":
                    self.cancel(root)
                case "cancel task" if self.tasks:
                    self.cancel(self.tasks[action.which % len(self.tasks)])
                case "cancel scope" if self.scopes:
                    self.scopes[action.which % len(self.scopes)].cancel()
                case "expire scope" if self.scopes:
                    self.scopes[action.which % len(self.scopes)].deadline = 0
                case "expire timeout" if self.timeouts:
                    timeout = self.timeouts[action.which % len(self.timeouts)]
                    if timeout.when() is None and not repr(timeout).startswith("<Timeout [finished]"):
                        timeout.reschedule(loop.time())

    def cancel(self, task: "asyncio.Task[Any]") -> None:
        if task.cancel():
            self.requests[task] = self.requests.get(task, 0) + 1


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error


async def run_tree(play: Performance, tree: Any, script: list[Action]) -> BaseException | None:
    """Run the tree; what came out of it."""
    leak: list[str] = []
    conductors: list[asyncio.Task[None]] = []

    async def root() -> None:
        task = this_task()
        conductors.append(asyncio.create_task(play.conduct(task, script)))
        try:
            await play.play(tree)
        finally:
            play.counts[task] = task.cancelling()
            play.over = True
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if not play.requests.get(task):
                    leak.append("a cancellation leaked out of the tree")
                play.recancelled = True

    task = asyncio.create_task(root())
    for _ in range(play.many_turns):
        if task.done() and conductors[0].done():
            break
        await asyncio.sleep(0)
    else:
        raise AssertionError("the tree hangs")
    await conductors[0]
    assert not leak, leak
    assert play.counts[task] == play.requests.get(task, 0), "requests left, or taken back that were others'"
    play.check_children()
    assert len(asyncio.all_tasks()) == 1, "a task is left"
    outcome: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
    if play.requests.get(task) and outcome is None and not play.recancelled:
        raise AssertionError("a cancellation from outside was swallowed")
    if isinstance(outcome, asyncio.CancelledError):
        assert play.was_asked(task), "nobody outside asked for it"
    return outcome
