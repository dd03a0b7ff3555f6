"""join, try_join, race and race_ok: cancellation, within scopes, groups and timeouts and around them."""

import asyncio
import contextlib
from typing import Any

import pytest

from pinloop import (
    Scope,
    consume_budget,
    fail_after,
    join,
    move_on_after,
    race,
    race_ok,
    scope,
    try_join,
    yield_now,
)
from pinloop.scopes import checkpoint, current_scope
from tests.api.combines import Arms, Combine, each_combine
from tests.api.scopes import counts_hold, nothing_is_left
from tests.api.support import this_task, turns
from tests.conftest import Context, Run

# ----------------------------------------------------------------- from outside --


@each_combine
def test_the_caller_is_cancelled(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        task = asyncio.create_task(combine(arms.arm("a"), arms.arm("b", cleanup=4), arms.arm("c")))
        await turns(3)
        task.cancel("outside")
        await turns(2)
        assert not task.done()  # it waits for b
        with pytest.raises(asyncio.CancelledError, match="outside"):
            await task
        assert task.cancelling() == 1
        assert all(arms.tasks[name].cancelling() == 1 for name in "abc")
        arms.check()

    run(main())


@each_combine
def test_cancelled_before_it_begins(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        task = asyncio.create_task(combine(arms.arm("a"), arms.arm("b")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert arms.begun == []

    run(main())


@each_combine
def test_a_cancellation_that_is_due_at_the_call(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()

        async def caller() -> None:
            this_task().cancel("due")
            await combine(arms.arm("a"), arms.arm("b"))

        task = asyncio.create_task(caller())
        with pytest.raises(asyncio.CancelledError, match="due"):
            await task
        arms.check()

    run(main())


@each_combine
def test_cancelled_again_while_the_arms_clean_up(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        task = asyncio.create_task(combine(arms.arm("a", cleanup=6), arms.arm("b")))
        await turns(2)
        task.cancel("first")
        await turns(2)
        task.cancel("second")
        await turns(1)
        assert not task.done()
        with pytest.raises(asyncio.CancelledError, match="second"):
            await task
        assert arms.tasks["a"].cancelling() == 1  # each is told once
        assert task.cancelling() == 2
        arms.check()

    run(main())


@each_combine
def test_errors_of_a_cancelled_call_are_reported(
    run: Run, combine: Combine, loop_errors: list[Context]
) -> None:
    async def main() -> None:
        arms = Arms()
        late = [KeyError("a"), OSError("b")]
        task = asyncio.create_task(combine(arms.arm("a", late=late[0]), arms.arm("b", late=late[1])))
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [context["exception"] for context in loop_errors] == late
        assert combine.__name__ in loop_errors[0]["message"]
        loop_errors.clear()
        arms.check()

    run(main())


@pytest.mark.parametrize("combine", [try_join, race])
def test_cancelled_after_it_was_decided(run: Run, combine: Combine, loop_errors: list[Context]) -> None:
    async def main() -> None:
        arms = Arms()
        error = KeyError("decided")
        task = asyncio.create_task(combine(arms.arm("a", cleanup=9), arms.arm("b", 1, error)))
        await turns(6)
        assert "b" in arms.ended
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [context["exception"] for context in loop_errors] == [error]
        loop_errors.clear()
        arms.check()

    run(main())


@each_combine
def test_arms_that_refuse_are_awaited(run: Run, combine: Combine) -> None:
    async def refuses() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await turns(3)
        ended.append(1)
        return "refused"

    ended: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(combine(refuses(), refuses()))
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [1, 1]

    run(main())


@each_combine
def test_the_callers_coroutine_is_closed(
    loop: asyncio.AbstractEventLoop, combine: Combine, loop_errors: list[Context]
) -> None:
    arms = Arms()
    late = OSError("late")

    async def caller() -> None:
        await combine(arms.arm("a"), arms.arm("b", late=late))

    async def main() -> None:
        coro = caller()
        waited_for = await asyncio.create_task(first_step(coro))
        coro.close()  # nobody can wait any longer, but the arms are cancelled
        waited_for.cancel()
        await turns(4)
        arms.check()

    async def first_step(coro: Any) -> Any:
        future = coro.send(None)
        await turns(2)
        return future

    loop.run_until_complete(main())
    assert [context["exception"] for context in loop_errors] == [late]
    loop_errors.clear()


# ---------------------------------------------------- counts, and CPython's traps --


@each_combine
def test_the_callers_count_is_left_alone(run: Run, combine: Combine, loop_errors: list[Context]) -> None:
    # CPython 95289: TaskGroup did not take its own requests back where an error took the place of one.
    async def main() -> None:
        arms = Arms()
        with pytest.raises((KeyError, ExceptionGroup)):
            await combine(arms.arm("a", 1, KeyError()), arms.arm("b", 1, KeyError()))
        await nothing_is_left()
        if combine in (race, race_ok):
            assert await combine(arms.arm("c", 1), arms.arm("d")) == "c"
        await nothing_is_left()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await combine(arms.arm("e"), arms.arm("f"))
        await nothing_is_left()
        arms.check()
        loop_errors.clear()

    run(main())


@each_combine
@pytest.mark.parametrize("outside", ["group", "scope", "timeout"])
def test_inner_and_outer_at_once(
    run: Run, combine: Combine, outside: str, loop_errors: list[Context]
) -> None:
    # CPython 116720: the inner of two groups swallowed the outer's cancellation.
    async def call(arms: Arms) -> None:
        with contextlib.suppress(KeyError, ExceptionGroup):
            await combine(arms.arm("a", 3, KeyError()), arms.arm("b", 3, KeyError()))
        await asyncio.Event().wait()  # it was for more than the arms

    async def by_group(arms: Arms, after: int) -> None:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(arms.arm("outer", after, OSError()))
                await call(arms)

    async def by_scope(arms: Arms, after: int) -> None:
        with pytest.raises(ExceptionGroup):
            async with scope() as s:
                s.spawn(arms.arm("outer", after, OSError()))
                await call(arms)

    async def by_timeout(arms: Arms, after: int) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                loop = asyncio.get_running_loop()
                helper = asyncio.create_task(turns(after))
                helper.add_done_callback(lambda _: timeout.reschedule(loop.time() - 1))
                await call(arms)

    async def main() -> None:
        for after in range(8):  # before the arms fail, just then, and later
            arms = Arms()
            await {"group": by_group, "scope": by_scope, "timeout": by_timeout}[outside](arms, after)
            await nothing_is_left()
            arms.check()
            loop_errors.clear()

    run(main())


@each_combine
def test_a_cancellation_while_it_waits_for_losers_is_not_swallowed(
    run: Run, combine: Combine, loop_errors: list[Context]
) -> None:
    # CPython 155433: TaskGroup lost what came while it waited for its children to clean up.
    async def main() -> None:
        arms = Arms()
        task = asyncio.create_task(
            combine(arms.arm("a", 1), arms.arm("b", cleanup=8), arms.arm("c", 2, KeyError()))
        )
        await turns(6)
        task.cancel("late")
        with pytest.raises(asyncio.CancelledError, match="late"):
            await task
        assert task.cancelling() == 1
        arms.check()
        loop_errors.clear()

    run(main())


def test_a_race_ends_early_without_hiding_errors(run: Run, loop_errors: list[Context]) -> None:
    # CPython 108951: a way to end the others early, that does not hide errors.
    async def main() -> None:
        arms = Arms()
        late = OSError()
        assert await race(arms.arm("a", 1), arms.arm("b", late=late)) == "a"
        assert [context["exception"] for context in loop_errors] == [late]
        loop_errors.clear()

    run(main())


# ---------------------------------------------------------------- in and around it --


@each_combine
def test_a_scope_that_is_cancelled_ends_what_is_in_it(run: Run, combine: Combine) -> None:
    async def nested(arms: Arms, name: str) -> None:
        async with scope() as s:
            s.spawn(arms.arm(f"{name} child"))
            await combine(arms.arm(f"{name} arm"), join(arms.arm(f"{name} inner")))

    async def main() -> None:
        arms = Arms()
        async with scope() as s:
            s.spawn(nested(arms, "a"))
            s.spawn(combine(nested(arms, "b"), nested(arms, "c")))
            await turns(6)
            assert len(arms.begun) == 9
            s.cancel("enough")
            await combine(arms.arm("body"), nested(arms, "d"))
        assert s.cancelled_caught
        await nothing_is_left()
        arms.check()

    run(main())


@each_combine
def test_deadlines_of_scopes(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        with pytest.raises(TimeoutError):
            async with fail_after(0.001):
                await combine(arms.arm("a"), arms.arm("b"))
        async with move_on_after(0.001) as s:
            await combine(arms.arm("c"), arms.arm("d"))
        assert s.cancelled_caught
        await nothing_is_left()
        arms.check()

    run(main())


@each_combine
def test_a_scope_in_an_arm_shields_its_part(run: Run, combine: Combine) -> None:
    async def careful() -> None:
        async with scope(shield=True):
            begun.set()
            await proceed.wait()
            done.append(1)
        await asyncio.Event().wait()

    done: list[int] = []
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def release() -> None:
        for _ in range(2):
            await begun.wait()
            await turns(20)
            begun.clear()
            proceed.set()
            await turns(10)
            proceed.clear()

    async def main() -> None:
        releasing = asyncio.create_task(release())
        arms = Arms()
        for count in (1, 2):
            async with scope() as s:
                caller = s.spawn(combine(careful(), arms.arm("a")))
                await begun.wait()
                s.cancel()
            assert caller.done()
            assert done == [1] * count
        await releasing

    run(main())


def test_a_loser_is_shielded_by_its_own_scope(run: Run) -> None:
    async def careful() -> None:
        async with scope(shield=True):
            await turns(10)
            done.append(1)
        await asyncio.Event().wait()

    done: list[int] = []

    async def main() -> None:
        arms = Arms()
        assert await race(careful(), arms.arm("a", 2)) == "a"
        assert done == [1]
        arms.check()

    run(main())


def test_a_lost_race_tells_its_losers_once(run: Run) -> None:
    async def loser() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            checkpoint()
            await yield_now()
            told.append(error.args[0])
            raise

    told: list[str] = []

    async def main() -> None:
        arms = Arms()
        assert await race(loser(), arms.arm("a", 2)) == "a"
        assert told == ["race() is decided"]

    run(main())


@pytest.mark.parametrize("make", [yield_now, consume_budget])
def test_in_a_cancelled_scope_giving_way_raises_each_time(run: Run, make: Any) -> None:
    async def tries(count: int) -> int:
        raised = 0
        for _ in range(count):
            try:
                await make()
            except asyncio.CancelledError:
                raised += 1
        return raised

    reached: list[int] = []

    async def main() -> None:
        async with scope() as s:
            s.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            assert await tries(3) == 3
            async with scope(shield=True):
                assert await tries(3) == 0
            reached.append(1)
        assert reached == [1]
        assert await tries(3) == 0
        counts: list[int] = []
        async with scope() as s:

            async def cancelled_on_the_way() -> None:
                s.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.sleep(60)  # from 3.12 on it is begun before join waits, and is told later
                counts.append(await tries(3))

            await join(cancelled_on_the_way())
        assert counts == [3]
        await nothing_is_left()

    run(main())


@each_combine
def test_arms_are_in_the_scope_of_the_caller(run: Run, combine: Combine) -> None:
    async def look() -> Any:
        found = [current_scope()]
        await asyncio.sleep(0)
        found.append(current_scope())
        async with scope() as inner:
            assert current_scope() is inner
        found.append(current_scope())
        return found

    async def main() -> None:
        async with scope() as s:
            result = await combine(look())
            assert current_scope() is s
        found = result[0] if combine in (join, try_join) else result
        assert found == [s, s, s]
        result = await combine(look())
        found = result[0] if combine in (join, try_join) else result
        assert found == [None, None, None]

    run(main())


def test_many_arms_with_scopes(run: Run) -> None:
    async def arm(number: int) -> int:
        async with move_on_after(60):
            await turns(2)
        return number

    async def main() -> None:
        assert await join(*map(arm, range(2000))) == tuple(range(2000))

    run(main())


@each_combine
def test_in_and_around_task_groups(run: Run, combine: Combine) -> None:
    async def grouped(arms: Arms, name: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(arms.arm(f"{name} 1"))
            group.create_task(combine(arms.arm(f"{name} 2"), arms.arm(f"{name} 3")))

    async def main() -> None:
        arms = Arms()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(combine(grouped(arms, "a"), grouped(arms, "b")))
                group.create_task(arms.arm("fails", 8, KeyError("group")))
                await combine(grouped(arms, "c"), arms.arm("d"))
        assert [repr(error) for error in caught.value.exceptions] == ["KeyError('group')"]
        assert len(arms.begun) == 11
        await nothing_is_left()
        arms.check()

    run(main())


@counts_hold
@each_combine
def test_a_timeout_in_an_arm_and_around(run: Run, combine: Combine) -> None:
    async def arm(arms: Arms) -> None:
        async with asyncio.timeout(0.001):
            await arms.arm("slow")

    async def main() -> None:
        arms = Arms()
        async with asyncio.timeout(60):
            with pytest.raises((TimeoutError, ExceptionGroup)) as caught:
                await combine(arm(arms))
        if isinstance(caught.value, ExceptionGroup):
            assert isinstance(caught.value.exceptions[0], TimeoutError)
        arms.check()

    run(main())


# ---------------------------------------------------------------------- interrupts --


@each_combine
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_are_raised_as_they_are(
    loop: asyncio.AbstractEventLoop,
    combine: Combine,
    interrupt: type[BaseException],
    loop_errors: list[Context],
) -> None:
    raised: list[BaseException] = []

    async def main() -> None:
        arms = Arms()
        try:
            await combine(arms.arm("a", late=OSError()), arms.arm("b", 1, interrupt()), arms.arm("c"))
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            arms.check()

    task = loop.create_task(main())
    with pytest.raises(interrupt):
        loop.run_until_complete(task)
    if not task.done():
        task.cancel()
        with pytest.raises((interrupt, asyncio.CancelledError)):
            loop.run_until_complete(task)
    assert type(raised[0]) is interrupt
    assert [type(context["exception"]) for context in loop_errors] == [OSError]
    loop_errors.clear()


def test_errors_besides_an_interrupt_are_reported(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context]
) -> None:
    error = OSError()

    async def main() -> None:
        arms = Arms()
        await join(arms.arm("a", 3, error), arms.arm("b", 1, SystemExit(3)))

    task = loop.create_task(main())
    with pytest.raises(SystemExit):
        loop.run_until_complete(task)
    with pytest.raises(SystemExit, match="3"):
        loop.run_until_complete(task)
    assert [context["exception"] for context in loop_errors] == [error]
    loop_errors.clear()


@each_combine
def test_in_a_cancelled_scope_nothing_is_begun_but_behind_a_shield(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        async with scope() as s:
            s.cancel("enough")
            try:
                await asyncio.Event().wait()
            finally:
                with pytest.raises(asyncio.CancelledError, match="enough"):
                    await combine(arms.arm("not begun", 2))
                async with scope(shield=True):
                    assert await combine(arms.arm("a", 2)) in ("a", ("a",))
        arms.check()
        assert await race_ok(arms.arm("b", 1)) == "b"

    run(main())


@each_combine
@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_arm_whose_first_step_cancels_the_scope_is_cancelled_with_the_rest(
    run: Run, combine: Combine, which: int
) -> None:
    """From 3.12 on it makes that step before it is an arm, and others have not begun."""

    async def canceller(s: Scope) -> None:
        s.cancel("enough")
        await arms.arm("canceller")

    arms = Arms()

    async def main() -> None:
        async with scope() as s:
            calls = [arms.arm(name) for name in "ab"]
            calls.insert(which, canceller(s))
            await combine(*calls)
            raise AssertionError("it was cancelled")
        assert s.cancelled_caught
        arms.check()
        await nothing_is_left()

    run(main())


@pytest.mark.parametrize("combine", [race, race_ok, try_join])
def test_an_arm_whose_first_step_decides_is_cancelled(run: Run, combine: Combine) -> None:
    """By way of a future that is an arm too."""

    async def decide(future: "asyncio.Future[int]") -> None:
        if combine is try_join:
            future.set_exception(KeyError(1))
        else:
            future.set_result(1)
        await arms.arm("decided")

    arms = Arms()

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        if combine is try_join:
            with pytest.raises(KeyError):
                await combine(arms.arm("a"), future, decide(future), arms.arm("b"))
        else:
            assert await combine(arms.arm("a"), future, decide(future), arms.arm("b")) == 1
        arms.check()

    run(main())
