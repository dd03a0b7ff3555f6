"""The laws of join, try_join, race and race_ok, on random trees of them, cancelled at random moments.

Every child is awaited by its call and none outlives it; no error is lost; the winner is the first; no
cancellation is swallowed, none leaks, and the counts are where they were.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

import pinloop
from pinloop import join, race, race_ok, scope, try_join
from tests.api.combines import Arms
from tests.api.law_trees import GROUPS_KEEP_THE_LAWS, Action, Expected, Leaf, Performance, leaves_of, run_tree
from tests.api.laws import examples, law, loop_for, on_both_loops, orders
from tests.api.support import this_task


@dataclass
class Node:
    """A call of these, or a block with what is in it."""

    kind: str
    arms: list["Leaf | Node"] = field(default_factory=list)


def seldom(of: int) -> st.SearchStrategy[bool]:
    return st.integers(0, of - 1).map(lambda number: number == of - 1)


leaves = st.builds(
    Leaf, turns=st.integers(0, 8), fails=seldom(3), cleanup=st.integers(0, 4), fails_late=seldom(5)
)
blocks = ["scope", "timeout"] + ["group"] * GROUPS_KEEP_THE_LAWS
trees = st.recursive(
    leaves,
    lambda nodes: st.one_of(
        st.builds(
            Node,
            kind=st.sampled_from(["join", "try_join", "race", "race_ok"]),
            arms=st.lists(nodes, min_size=1, max_size=4),
        ),
        st.builds(Node, kind=st.sampled_from(blocks), arms=st.lists(nodes, min_size=1, max_size=1)),
    ),
    max_leaves=12,
)
actions = st.lists(
    st.builds(
        Action,
        after=st.integers(0, 5),
        kind=st.sampled_from(["cancel scope", "expire timeout", "cancel task", "cancel root"]),
        which=st.integers(0, 20),
    ),
    max_size=4,
)
CALLS: dict[str, Callable[..., Awaitable[Any]]] = {
    "join": join,
    "try_join": try_join,
    "race": race,
    "race_ok": race_ok,
}


class Play(Performance):
    many_turns = 3000

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.raised: dict[Expected, tuple[int, ...]] = {}
        self.absorbed: set[int] = set()
        self.running: dict[int, int] = {}  # tasks at work below each call

    async def play(self, tree: Leaf | Node, above: tuple[int, ...] = ()) -> Any:
        if isinstance(tree, Leaf):
            await self.work(tree, lambda: self.failure(above))
            return object()
        if tree.kind in CALLS:
            return await self.call(tree, above)
        return await self.block(tree, above)

    def failure(self, above: tuple[int, ...]) -> Expected:
        error = Expected(len(self.raised))
        self.raised[error] = above
        return error

    async def call(self, tree: Node, above: tuple[int, ...]) -> Any:
        number = next(self.numbers)
        finished: list[tuple[object, BaseException | None]] = []
        self.running[number] = 0
        host = this_task()
        before = host.cancelling()
        requested = self.requests.get(host, 0)
        try:
            result = await CALLS[tree.kind](*(self.arm(arm, (*above, number), finished) for arm in tree.arms))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.check_error(tree, finished, error)
            raise
        else:
            self.check_result(tree, finished, result)
            if tree.kind == "race_ok":
                self.absorbed.add(number)
            # Nobody but the conductor, a scope or a timeout asked the host for anything meanwhile.
            if not self.scopes and not self.timeouts:
                assert host.cancelling() - before == self.requests.get(host, 0) - requested
            return result
        finally:
            assert self.running[number] == 0, "a child outlived its call"

    async def arm(self, tree: Leaf | Node, above: tuple[int, ...], finished: list[Any]) -> Any:
        task = this_task()
        self.tasks.append(task)
        self.running[above[-1]] += 1
        try:
            result = await self.play(tree, above)
        except BaseException as error:
            finished.append((None, error))
            raise
        else:
            finished.append((result, None))
            return result
        finally:
            self.running[above[-1]] -= 1
            self.counts[task] = task.cancelling()

    @staticmethod
    def check_result(tree: Node, finished: list[Any], result: Any) -> None:
        if tree.kind in ("join", "try_join"):
            assert len(result) == len(tree.arms)
            assert sorted(map(id, result)) == sorted(id(value) for value, _ in finished)
        elif tree.kind == "race":
            assert finished[0][0] is result, "the winner is not the first"
        else:
            first = next(value for value, error in finished if error is None)
            assert first is result, "the winner is not the first that succeeded"

    @staticmethod
    def check_error(tree: Node, finished: list[Any], error: Exception) -> None:
        if tree.kind in ("join", "race_ok"):
            assert isinstance(error, ExceptionGroup)
            failed = [each for _, each in finished if isinstance(each, Exception)]
            assert sorted(map(id, error.exceptions)) == sorted(map(id, failed))
        elif tree.kind == "race":
            assert finished[0][1] is error, "the winner is not the first"
        else:
            first = next(each for _, each in finished if each is not None)
            assert first is error, "the error is not the first"

    async def block(self, tree: Node, above: tuple[int, ...]) -> Any:
        result = None
        if tree.kind == "timeout":
            async with asyncio.timeout(None) as timeout:
                self.timeouts.append(timeout)
                result = await self.play(tree.arms[0], above)
        elif tree.kind == "group":
            async with asyncio.TaskGroup():
                result = await self.play(tree.arms[0], above)
        else:
            async with scope() as s:
                self.scopes.append(s)
                result = await self.play(tree.arms[0], above)
        return result

    def check_children(self) -> None:
        for child in set(self.tasks):
            own = self.requests.get(child, 0)
            assert own <= self.counts[child] <= own + 1, "a child was asked by its call once, or not at all"

    def was_asked(self, root: "asyncio.Task[Any]") -> bool:
        return any(self.requests.values())


@examples(800)
@example(tree=Node("race", [Leaf(0), Leaf(0, fails=True)]), script=[], order=None)
@example(
    tree=Node("race_ok", [Leaf(1, fails=True), Leaf(2), Leaf(9, fails_late=True)]), script=[], order=None
)
@example(
    tree=Node("join", [Node("race", [Leaf(8, cleanup=4), Leaf(2)]), Leaf(1, fails=True)]),
    script=[Action(3, "cancel root", 0)],
    order=None,
)
@given(tree=trees, script=actions, order=orders)
@on_both_loops
def test_laws(where: str, order: int | None, tree: Leaf | Node, script: list[Action]) -> None:
    play = Play()
    reported: list[BaseException | None] = []
    loop = loop_for(where, order)
    try:
        loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
        outcome = loop.run_until_complete(run_tree(play, tree, script))
    finally:
        loop.close()
    found = [*leaves_of(outcome)] if outcome is not None else []
    told = [error for each in reported if each is not None for error in leaves_of(each)]
    lost = [
        error
        for error, above in play.raised.items()
        if error not in found and error not in told and not play.absorbed.intersection(above)
    ]
    assert not lost, "errors were lost"
    everything = [error for error in found + told if isinstance(error, Expected)]
    assert len(set(map(id, everything))) == len(everything), "an error is there twice"
    allowed = (Expected, TimeoutError, asyncio.CancelledError)
    assert all(isinstance(error, allowed) for error in found + told), (found, told)


# ---------------------------------------------------------------- under many orders --


under_many_orders = law(seeds=300)


@under_many_orders
async def test_a_lost_arm_holds_no_lock() -> None:
    lock = pinloop.Lock()
    arms = Arms()

    async def critical(name: str) -> str:
        async with lock:
            await arms.arm(name, 1)
        return name

    for number in range(5):
        winner = await race(*(critical(f"{number}{name}") for name in "abc"))
        assert winner in arms.ended
        assert not lock.locked()
    arms.check()


@under_many_orders
async def test_deadlines_races_and_joins_end_together() -> None:
    loop = asyncio.get_running_loop()
    cleaned: list[int] = []

    async def work(number: int) -> int:
        try:
            await asyncio.sleep(number)
            return number
        finally:
            await asyncio.sleep(1)
            cleaned.append(number)

    with_deadline = join(work(1), race(work(2), work(30)), work(40))
    async with pinloop.move_on_after(10) as s:
        await with_deadline
    assert s.cancelled_caught
    assert sorted(cleaned) == [1, 2, 30, 40]
    assert 11 <= loop.time() < 11.1


@under_many_orders
async def test_one_of_several_that_finish_at_once_wins() -> None:
    finished: list[int] = []

    async def arm(number: int) -> int:
        await asyncio.sleep(1)
        finished.append(number)
        return number

    assert await race(*map(arm, range(5))) == finished[0]


@under_many_orders
async def test_the_caller_is_cancelled_as_it_is_decided() -> None:
    arms = Arms()
    start = asyncio.Event()

    async def arm(name: str) -> str:
        await start.wait()
        return name

    async def call() -> None:
        try:
            outcomes.append(await race(arm("a"), arms.arm("b", cleanup=2)))
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise

    async def canceller(task: "asyncio.Task[None]") -> None:
        await start.wait()
        task.cancel()

    outcomes: list[str] = []
    task = asyncio.create_task(call())
    cancelling = asyncio.create_task(canceller(task))
    await asyncio.sleep(1)
    start.set()
    await asyncio.wait([task, cancelling])
    # Decided and done with before it was cancelled, or cancelled: nothing between.
    assert outcomes == (["cancelled"] if task.cancelled() else ["a"])
    arms.check()
