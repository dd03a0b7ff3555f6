"""The laws of scopes, on random trees of scopes, task groups and timeouts, cancelled at random moments.

Every task is awaited by the block that it belongs to; no error is lost; no cancellation is swallowed, none
leaks; the requests that the blocks made are taken back.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pinloop import Scope, fail_after, scope
from tests.api.law_trees import GROUPS_KEEP_THE_LAWS, Action, Expected, Leaf, Performance, leaves_of, run_tree
from tests.api.laws import examples, loop_for, on_both_loops, orders
from tests.api.support import this_task


@dataclass
class Block:
    """`async with`: a scope, a group or a timeout, with children and a body."""

    kind: str
    body: "Node"
    children: list["Node"] = field(default_factory=list)
    limit: int | None = None


Node = Leaf | Block


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


class Play(Performance):
    many_turns = 2000

    def __init__(self) -> None:
        super().__init__()
        self.raised: list[Expected] = []

    async def play(self, node: Node) -> None:
        await (self.work(node, self.failure) if isinstance(node, Leaf) else self.block(node))

    async def as_task(self, node: Node) -> None:
        try:
            await self.play(node)
        finally:
            task = this_task()
            self.counts[task] = task.cancelling()

    def failure(self) -> Expected:
        error = Expected(len(self.raised))
        self.raised.append(error)
        return error

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

    def check_children(self) -> None:
        for child in self.tasks:
            if child in self.counts:
                own = self.requests.get(child, 0)
                assert own <= self.counts[child] <= own + 1, (
                    "a child was asked by its block once, or not at all"
                )

    def was_asked(self, root: "asyncio.Task[Any]") -> bool:
        return self.requests.get(root, 0) > 0


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
