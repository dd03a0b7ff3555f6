"""Limiter: who borrows, who waits, and what becomes of tokens; and what Semaphore has beyond asyncio's."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pinloop
from pinloop import BoundedSemaphore, Limiter, Semaphore, scope
from pinloop.errors import WouldBlock
from tests.api.laws import examples, law, loop_for, on_both_loops, orders
from tests.api.support import this_task, turns
from tests.conftest import LoopFactory, Run

# -------------------------------------------------------------------- borrowing --


def test_as_many_as_there_are_tokens_go_on(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(3)
        inside = most = 0

        async def work() -> None:
            nonlocal inside, most
            async with limiter as got:
                assert got is None
                inside += 1
                most = max(most, inside)
                assert inside <= limiter.borrowed <= 3
                await turns(2)
                inside -= 1

        await asyncio.gather(*(work() for _ in range(10)))
        assert most == 3
        assert limiter.statistics() == (0, 3, (), 0)

    run(main())


def test_who_waits_longest_is_next(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(1)
        order: list[int] = []

        async def work(number: int) -> None:
            async with limiter:
                order.append(number)

        await limiter.acquire()
        tasks = [asyncio.create_task(work(number)) for number in range(5)]
        await turns(1)
        tasks[1].cancel()
        limiter.release()
        with pytest.raises(WouldBlock):
            limiter.acquire_nowait()  # the first who waits has it
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 2, 3, 4]
        limiter.acquire_nowait()
        limiter.release()

    run(main())


def test_statistics(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(2)
        await limiter.acquire()
        await limiter.acquire_on_behalf_of("request")
        waiting = asyncio.create_task(limiter.acquire_on_behalf_of("other"))
        await turns(1)
        found = limiter.statistics()
        assert found == (2, 2, (this_task(), "request"), 1)
        assert (found.borrowed, found.total, found.waiting) == (2, 2, 1)
        assert found.borrowers == limiter.borrowers
        assert "2/2 borrowed, waiters:1" in repr(limiter)
        assert (limiter.total, limiter.borrowed, limiter.available) == (2, 2, 0)
        limiter.release_on_behalf_of("request")
        await waiting
        limiter.release_on_behalf_of("other")
        limiter.release()
        assert limiter.available == 2

    run(main())


def test_a_second_borrow_is_refused(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(1)
        async with limiter:
            for again in (limiter.acquire, limiter.__aenter__):
                with pytest.raises(RuntimeError, match=r"has borrowed a token .* already"):
                    await again()
            with pytest.raises(RuntimeError, match="already"):
                limiter.acquire_nowait()
            one = asyncio.create_task(limiter.acquire_on_behalf_of("request"))
            await turns(1)
            with pytest.raises(RuntimeError, match=r"'request' waits for a token .* already"):
                await limiter.acquire_on_behalf_of("request")
            with pytest.raises(RuntimeError, match="already"):
                limiter.acquire_on_behalf_of_nowait("request")
            assert limiter.statistics().waiting == 1
        await one
        limiter.release_on_behalf_of("request")

    run(main())


def test_what_was_not_borrowed_cannot_be_given_back(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(1)
        with pytest.raises(RuntimeError, match="has borrowed no token"):
            limiter.release()
        with pytest.raises(RuntimeError, match="'request' has borrowed no token"):
            limiter.release_on_behalf_of("request")
        await limiter.acquire_on_behalf_of("request")
        with pytest.raises(RuntimeError, match="has borrowed no token"):
            limiter.release()
        assert limiter.borrowed == 1

    run(main())


def test_any_hashable_object_may_borrow(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(5)
        for borrower in (None, 10**20, ("a", 1), object):
            await limiter.acquire_on_behalf_of(borrower)
        limiter.release_on_behalf_of(10**20)
        limiter.release_on_behalf_of(None)
        assert limiter.borrowers == (("a", 1), object)
        with pytest.raises(TypeError, match="unhashable"):
            await limiter.acquire_on_behalf_of([])
        with pytest.raises(TypeError, match="unhashable"):
            limiter.acquire_on_behalf_of_nowait([])

    run(main())


def test_another_task_can_give_back(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(1)

        async def borrow() -> Any:
            await limiter.acquire()
            return this_task()

        borrower = await asyncio.create_task(borrow())
        limiter.release_on_behalf_of(borrower)
        assert limiter.borrowed == 0

    run(main())


def test_outside_of_a_task(loop: asyncio.AbstractEventLoop) -> None:
    limiter = Limiter(1)
    failures: list[BaseException] = []

    def callback() -> None:
        for call in (limiter.acquire_nowait, limiter.release):
            try:
                call()
            except RuntimeError as error:
                failures.append(error)
        limiter.acquire_on_behalf_of_nowait("callback")
        limiter.release_on_behalf_of("callback")
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    assert ["lends to tasks" in str(error) for error in failures] == [True, True]


# ----------------------------------------------------------------------- resizing --


@pytest.mark.parametrize("total", [0, 1, 5, math.inf])
def test_totals(total: float) -> None:
    limiter = Limiter(total)
    assert limiter.total == limiter.available == total


@pytest.mark.parametrize(
    ("total", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (None, TypeError)]
)
def test_totals_that_are_none(total: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="total must be"):
        Limiter(total)
    limiter = Limiter(1)
    with pytest.raises(error, match="total must be"):
        limiter.total = total
    assert limiter.total == 1


def test_more_tokens_go_to_those_who_wait(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(0)
        got: list[int] = []

        async def work(number: int) -> None:
            await limiter.acquire_on_behalf_of(number)
            got.append(number)

        tasks = [asyncio.create_task(work(number)) for number in range(4)]
        await turns(2)
        assert got == []
        limiter.total = 2
        await turns(2)
        assert got == [0, 1]
        limiter.total = 1  # nobody loses one
        assert limiter.borrowers == (0, 1)
        assert limiter.available == 0
        limiter.release_on_behalf_of(0)
        await turns(2)
        assert got == [0, 1]
        limiter.release_on_behalf_of(1)
        await turns(2)
        assert got == [0, 1, 2]
        limiter.total = math.inf
        await asyncio.gather(*tasks)
        assert got == [0, 1, 2, 3]

    run(main())


# ------------------------------------------------------------------- cancellation --


@pytest.mark.parametrize("woken", [False, True])
def test_who_is_cancelled_has_none(run: Run, woken: bool) -> None:
    async def main() -> None:
        limiter = Limiter(1)
        await limiter.acquire()
        first, second = (asyncio.create_task(limiter.acquire_on_behalf_of(name)) for name in "ab")
        await turns(1)
        if woken:
            limiter.release()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        if not woken:
            assert limiter.statistics() == (1, 1, (this_task(),), 1)
            limiter.release()
        await second
        assert limiter.borrowers == ("b",)
        retry = asyncio.create_task(limiter.acquire_on_behalf_of("a"))
        await turns(1)
        limiter.release_on_behalf_of("b")
        await retry

    run(main())


def test_in_a_cancelled_scope_nothing_is_lent(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(1)
        async with scope() as s:
            s.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            for _ in range(3):
                with pytest.raises(asyncio.CancelledError):
                    await limiter.acquire()
            async with scope(shield=True), limiter:
                assert limiter.borrowed == 1
        assert limiter.statistics() == (0, 1, (), 0)

    run(main())


def test_what_is_always_free_lets_the_others_run(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(1)
        task = asyncio.create_task(turns(3))
        for _ in range(1000):
            async with limiter:
                pass
        assert task.done()

    run(main())


def test_another_thread_is_refused_and_changes_nothing(run: Run) -> None:
    async def main() -> None:
        limiter = Limiter(1)
        await limiter.acquire_on_behalf_of("a")
        waiting = asyncio.ensure_future(limiter.acquire_on_behalf_of("b"))
        await asyncio.sleep(0)

        def resize() -> None:
            limiter.total = 5

        for misuse in (
            resize,
            lambda: limiter.release_on_behalf_of("a"),
            lambda: limiter.acquire_on_behalf_of_nowait("c"),
        ):
            with pytest.raises(RuntimeError, match="another thread"):
                await asyncio.to_thread(misuse)
        assert limiter.statistics() == (1, 1, ("a",), 1)
        limiter.release_on_behalf_of("a")
        await waiting
        assert limiter.borrowers == ("b",)

    run(main())


def test_bound_to_the_loop_that_used_it_first(loop_factory: LoopFactory) -> None:
    limiter = Limiter(1)
    for number in range(2):
        loop = loop_factory()
        try:
            if number == 0:
                loop.run_until_complete(limiter.acquire_on_behalf_of("a"))
            else:
                with pytest.raises(RuntimeError, match="bound to a different event loop"):
                    loop.run_until_complete(limiter.acquire_on_behalf_of("b"))
        finally:
            loop.close()


def test_never_awaited() -> None:
    limiter = Limiter(1)
    with pytest.warns(RuntimeWarning, match="'Limiter.acquire' was never awaited"):
        limiter.acquire()
    assert limiter.borrowed == 0


# --------------------------------------------------------------------------- laws --


@examples(300)
@given(
    order=orders,
    total=st.integers(0, 3),
    script=st.lists(
        st.tuples(
            st.sampled_from(["ask", "ask", "cancel", "release", "release", "resize"]),
            st.integers(0, 5),
        ),
        max_size=30,
    ),
)
@on_both_loops
def test_the_same_as_a_queue_and_a_counter(
    where: str, order: int | None, total: int, script: list[tuple[str, int]]
) -> None:
    async def main() -> None:
        limiter = Limiter(total)
        size = total
        tasks: dict[int, asyncio.Task[Any]] = {}  # those that wait or hold, in the order of their asking
        holding: list[int] = []
        number = 0
        for action, argument in script:
            waiting = [each for each in tasks if each not in holding]
            if action == "ask":
                tasks[number] = asyncio.create_task(limiter.acquire_on_behalf_of(number))
                number += 1
            elif action == "cancel" and waiting:
                tasks.pop(waiting[argument % len(waiting)]).cancel()
            elif action == "release" and holding:
                gone = holding.pop(argument % len(holding))
                del tasks[gone]
                limiter.release_on_behalf_of(gone)
            elif action == "resize":
                size = limiter.total = argument
            await settled()
            for each in tasks:
                if each not in holding and len(holding) < size:
                    holding.append(each)
            assert sorted(limiter.borrowers) == sorted(holding)
            assert all(tasks[each].done() == (each in holding) for each in tasks)
            assert limiter.statistics().waiting == len(tasks) - len(holding)
        for task in tasks.values():
            task.cancel()
        await settled()

    async def settled() -> None:
        """Those that can go on have gone on, whatever the order."""
        await (turns(4) if order is None else asyncio.sleep(1))

    loop = loop_for(where, order)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


@law(seeds=200)
async def test_no_token_is_lost_or_lent_twice() -> None:
    limiter = Limiter(2)
    inside: set[int] = set()

    async def work(number: int) -> None:
        async with limiter:
            inside.add(number)
            assert len(inside) <= 2
            assert limiter.borrowed >= len(inside)
            await asyncio.sleep(number % 3)
            inside.remove(number)

    async def cancel(task: "asyncio.Task[None]") -> None:
        await asyncio.sleep(1)
        if task.cancel():
            inside.discard(tasks.index(task))

    async def resize() -> None:
        for total in (0, 1, 2):
            limiter.total = total
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(work(number)) for number in range(8)]
    await pinloop.join(resize(), *(cancel(task) for task in tasks[::3]))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert limiter.statistics() == (0, 2, (), 0)


# --------------------------------------------------------- Semaphore beyond asyncio's --


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_a_semaphore_can_be_resized(run: Run, kind: type[Semaphore]) -> None:
    async def main() -> None:
        semaphore = kind(2)
        await semaphore.acquire()
        await semaphore.acquire()
        waiting = [asyncio.create_task(semaphore.acquire()) for _ in range(3)]
        await turns(1)
        assert semaphore.statistics() == (0, 2, 3)
        semaphore.total = 3
        await turns(2)
        assert [task.done() for task in waiting] == [True, False, False]
        semaphore.total = 1  # two more are taken than there are
        assert semaphore.locked()
        assert semaphore.available == 0
        for _ in range(2):
            semaphore.release()
            await turns(2)
        assert [task.done() for task in waiting] == [True, False, False]
        semaphore.release()
        await turns(2)
        assert [task.done() for task in waiting] == [True, True, False]
        semaphore.total = 5
        await asyncio.gather(*waiting)
        assert semaphore.statistics() == (3, 5, 0)
        for _ in range(2):
            semaphore.release()
        assert semaphore.statistics() == (5, 5, 0)
        if kind is BoundedSemaphore:
            with pytest.raises(ValueError, match="released too many times"):
                semaphore.release()
        else:
            semaphore.release()
            assert semaphore.statistics().available == 6

    run(main())


@pytest.mark.parametrize(("total", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError)])
def test_totals_that_a_semaphore_cannot_have(total: Any, error: type[Exception]) -> None:
    semaphore = Semaphore(1)
    with pytest.raises(error, match="total must be"):
        semaphore.total = total
    assert semaphore.statistics() == (1, 1, 0)
