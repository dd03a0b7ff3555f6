"""The laws of scopes, on random trees of scopes, task groups and timeouts, cancelled at random moments.

Every task is awaited by the block that it belongs to; no error is lost; no cancellation is swallowed, none
leaks; the requests that the blocks made are taken back.
"""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pinloop import Scope, fail_after, scope
from tests.api.laws import examples, loop_for, on_both_loops, orders

MANY_TURNS = 2000
"""No tree takes that long: what is not over by then hangs."""

GROUPS_KEEP_THE_LAWS = sys.version_info >= (3, 13)
"""Before, asyncio.TaskGroup itself leaves requests behind, and swallows some."""


class Expected(Exception):
    """What a leaf of the tree raises."""


@dataclass
class Leaf:
    """Works for some turns, then returns or fails; cancelled, it cleans up for some turns."""

    turns: int
    fails: bool = False
    cleanup: int = 0
    fails_late: bool = False


@dataclass
class Block:
    """`async with`: a scope, a group or a timeout, with children and a body."""

    kind: str
    body: "Node"
    children: list["Node"] = field(default_factory=list)
    limit: int | None = None


Node = Leaf | Block


@dataclass
class Action:
    """Something that happens to the tree from outside, some turns after the last."""

    after: int
    kind: str
    which: int


leaves = st.builds(
    Leaf,
    turns=st.integers(0, 12),
    fails=st.integers(0, 5).map(lambda i: i == 5),
    cleanup=st.integers(0, 4),
    fails_late=st.integers(0, 5).map(lambda i: i == 5),
)
kinds = ["scope", "scope", "scope", "shield", "timeout", "fail_after"] + ["group"] * GROUPS_KEEP_THE_LAWS
trees = st.recursive(
    leaves,
    lambda nodes: st.builds(
        Block,
        kind=st.sampled_from(kinds),
        body=nodes,
        children=st.lists(nodes, max_size=3),
        limit=st.sampled_from([None, None, 1, 2]),
    ),
    max_leaves=12,
)
actions = st.lists(
    st.builds(
        Action,
        after=st.integers(0, 5),
        kind=st.sampled_from(
            ["cancel scope", "expire scope", "expire timeout", "cancel task", "cancel root"]
        ),
        which=st.integers(0, 20),
    ),
    max_size=5,
)


class Play:
    """One run of a tree."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.timeouts: list[asyncio.Timeout] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.raised: list[Expected] = []
        self.requests: dict[asyncio.Task[Any], int] = {}
        self.counts: dict[asyncio.Task[Any], int] = {}
        self.over = False
        self.recancelled = False

    async def play(self, node: Node) -> None:
        await (self.leaf(node) if isinstance(node, Leaf) else self.block(node))

    async def as_task(self, node: Node) -> None:
        try:
            await self.play(node)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self.counts[task] = task.cancelling()

    def failure(self) -> Expected:
        error = Expected(len(self.raised))
        self.raised.append(error)
        return error

    async def leaf(self, leaf: Leaf) -> None:
        try:
            for _ in range(leaf.turns):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            try:
                for _ in range(leaf.cleanup):
                    await asyncio.sleep(0)
            finally:
                if leaf.fails_late:
                    raise self.failure() from None
            raise
        if leaf.fails:
            raise self.failure()

    async def block(self, block: Block) -> None:
        if block.kind == "timeout":
            async with asyncio.timeout(None) as timeout:
                self.timeouts.append(timeout)
                await self.play(block.body)
            return
        mine: list[asyncio.Task[Any]] = []
        try:
            if block.kind == "group":
                async with asyncio.TaskGroup() as group:
                    mine += [group.create_task(self.as_task(child)) for child in block.children]
                    self.tasks += mine
                    await self.play(block.body)
            else:
                async with self.make(block) as s:
                    self.scopes.append(s)
                    mine += [s.spawn(self.as_task(child)) for child in block.children]
                    self.tasks += mine
                    await self.play(block.body)
        finally:
            assert all(task.done() for task in mine), "a child outlived its block"

    @staticmethod
    def make(block: Block) -> Scope:
        if block.kind == "fail_after":
            return fail_after(None, limit=block.limit)
        return scope(shield=block.kind == "shield", limit=block.limit)

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


async def run_tree(play: Play, tree: Node, script: list[Action]) -> BaseException | None:
    """Run the tree; what came out of it."""
    leak: list[str] = []
    conductors: list[asyncio.Task[None]] = []

    async def root() -> None:
        task = asyncio.current_task()
        assert task is not None
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
    for _ in range(MANY_TURNS):
        if task.done() and conductors[0].done():
            break
        await asyncio.sleep(0)
    else:
        raise AssertionError("the tree hangs")
    await conductors[0]
    assert not leak, leak
    assert play.counts[task] == play.requests.get(task, 0), "requests left, or taken back that were others'"
    for child in play.tasks:
        if child in play.counts:
            own = play.requests.get(child, 0)
            assert own <= play.counts[child] <= own + 1, "a child was asked by its block once, or not at all"
    assert len(asyncio.all_tasks()) == 1, "a task is left"
    outcome: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
    if play.requests.get(task) and outcome is None and not play.recancelled:
        raise AssertionError("a cancellation from outside was swallowed")
    if isinstance(outcome, asyncio.CancelledError):
        assert play.requests.get(task), "nobody outside asked for it"
    return outcome


@examples(600)
@example(
    tree=Block("scope", Block("shield", Leaf(3)), [Leaf(2, fails=True)]),
    script=[Action(1, "cancel root", 0)],
    order=None,
)
@given(tree=trees, script=actions, order=orders)
@on_both_loops
def test_laws(where: str, order: int | None, tree: Node, script: list[Action]) -> None:
    play = Play()
    reported: list[BaseException | None] = []
    loop = loop_for(where, order)
    try:
        loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
        outcome = loop.run_until_complete(run_tree(play, tree, script))
    finally:
        loop.close()
    found = [] if outcome is None else list(leaves_of(outcome))
    lost = [error for error in play.raised if error not in found]
    assert not lost, "errors were lost"
    assert len(set(map(id, found))) == len(found), "an error is there twice"
    allowed = (Expected, TimeoutError, asyncio.CancelledError)
    assert all(isinstance(error, allowed) for error in found), found
    assert not reported
