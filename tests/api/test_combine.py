"""join, try_join, race and race_ok: what they come to."""

import asyncio
import contextvars
import gc
import os
import sys
import types
import warnings
import weakref
from collections.abc import Generator
from typing import Any

import pytest

import pinloop
from pinloop import join, race, race_ok, try_join
from tests.api.combines import Arms, Combine, each_combine
from tests.api.support import only_pinloop, this_task, turns
from tests.conftest import Context, Run


async def value(result: Any) -> Any:
    return result


# ---------------------------------------------------------------------- results --


@pytest.mark.parametrize("combine", [join, try_join])
def test_results_are_in_the_order_of_the_arguments(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        assert await combine(arms.arm("a", 3), arms.arm("b", 0), arms.arm("c", 1)) == ("a", "b", "c")
        assert arms.ended == ["b", "c", "a"]
        assert await combine() == ()
        assert await combine(value(None)) == (None,)
        arms.check()

    run(main())


@pytest.mark.parametrize("combine", [race, race_ok])
def test_the_first_to_finish_wins_and_the_losers_clean_up(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        assert await combine(arms.arm("a", None, cleanup=5), arms.arm("b", 2), arms.arm("c", 3)) == "b"
        assert set(arms.ended) == {"a", "b", "c"}
        assert arms.ended[0] == "b"
        assert arms.tasks["a"].cancelled()
        arms.check()
        assert await combine(value(1)) == 1

    run(main())


def test_all_errors_of_a_join_are_raised_once_all_have_finished(run: Run) -> None:
    async def main() -> None:
        arms = Arms()
        errors = [ValueError("a"), KeyError("c")]
        with pytest.raises(ExceptionGroup, match=r"2 of 3 given to join\(\) failed") as caught:
            await join(arms.arm("a", 4, errors[0]), arms.arm("b", 7), arms.arm("c", 0, errors[1]))
        assert list(caught.value.exceptions) == errors
        assert arms.ended == ["c", "a", "b"]
        assert not arms.tasks["b"].cancelled()
        arms.check()

    run(main())


def test_the_first_error_of_a_try_join_is_raised_itself(run: Run, loop_errors: list[Context]) -> None:
    async def main() -> None:
        arms = Arms()
        first, late = ValueError("first"), OSError("late")
        with pytest.raises(ValueError) as caught:
            await try_join(
                arms.arm("a"), arms.arm("b", 2, first), arms.arm("c", cleanup=4, late=late), arms.arm("d", 1)
            )
        assert caught.value is first
        arms.check()
        assert [context["exception"] for context in loop_errors] == [late]
        assert "try_join()" in loop_errors[0]["message"]
        assert loop_errors[0]["awaitable"] is arms.tasks["c"]
        loop_errors.clear()

    run(main())


def test_the_error_of_the_first_to_finish_wins_a_race(run: Run, loop_errors: list[Context]) -> None:
    async def main() -> None:
        arms = Arms()
        error, late = ValueError(), OSError()
        with pytest.raises(ValueError) as caught:
            await race(arms.arm("a", 1, error), arms.arm("b", late=late), arms.arm("c"))
        assert caught.value is error
        assert await race(arms.arm("d", 1), arms.arm("e", late=late)) == "d"
        arms.check()
        assert [context["exception"] for context in loop_errors] == [late, late]
        loop_errors.clear()

    run(main())


def test_the_first_success_wins_race_ok(run: Run, loop_errors: list[Context]) -> None:
    async def main() -> None:
        arms = Arms()
        late = OSError()
        winner = await race_ok(
            arms.arm("a", 1, KeyError()), arms.arm("b", 3), arms.arm("c"), arms.arm("d", late=late)
        )
        assert winner == "b"
        assert [context["exception"] for context in loop_errors] == [late]
        loop_errors.clear()
        errors = [KeyError("e"), OSError("f")]
        with pytest.raises(ExceptionGroup, match=r"2 of 2 given to race_ok\(\) failed") as caught:
            await race_ok(arms.arm("e", 3, errors[0]), arms.arm("f", 1, errors[1]))
        assert list(caught.value.exceptions) == errors
        arms.check()

    run(main())


def test_they_are_awaited_in_one_another(run: Run) -> None:
    async def main() -> None:
        arms = Arms()
        nested = join(
            race(arms.arm("a"), join(arms.arm("b", 2), try_join(arms.arm("c", 1), value("d")))),
            race_ok(race(arms.arm("e", 0, KeyError()), arms.arm("f")), arms.arm("g", 12)),
        )
        assert await nested == (("b", ("c", "d")), "g")
        arms.check()

    run(main())


def test_a_cancelled_one_has_no_result(run: Run) -> None:
    async def main() -> None:
        for combine in (join, try_join, race, race_ok):
            future = asyncio.get_running_loop().create_future()
            future.cancel("by somebody")
            with pytest.raises(asyncio.CancelledError, match="by somebody"):
                await combine(future)
            assert this_task().cancelling() == 0
        arms = Arms()
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        assert await race_ok(future, arms.arm("a", 2)) == "a"
        with pytest.raises(ExceptionGroup):
            await join(future, arms.arm("b", 2, KeyError()))
        with pytest.raises(asyncio.CancelledError):
            await try_join(future, arms.arm("c", 2, KeyError()))
        assert arms.begun == ["a", "b"]
        arms.check()

    run(main())


# -------------------------------------------------------------------- arguments --


def test_tasks_and_futures_are_awaited_and_belong_to_the_call(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        arms = Arms()
        task, future = asyncio.create_task(arms.arm("a", 2)), loop.create_future()
        loop.call_soon(future.set_result, "f")
        assert await join(arms.arm("b", 1), task, future) == ("b", "a", "f")
        loser, pending = asyncio.create_task(arms.arm("c")), loop.create_future()
        assert await race(loser, pending, arms.arm("d", 2)) == "d"
        assert loser.cancelled()
        assert pending.cancelled()
        kept = asyncio.create_task(arms.arm("e", 4))
        assert await race(asyncio.shield(kept), arms.arm("f", 2)) == "f"
        assert await kept == "e"
        arms.check()

    run(main())


@pytest.mark.parametrize("combine", [race, race_ok])
def test_one_that_has_finished_wins_and_nothing_is_begun(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
        futures[1].set_result("first")
        futures[2].set_result("second")
        assert await combine(arms.arm("a", 0), *futures) == "first"
        assert arms.begun == []
        assert futures[0].cancelled()

    run(main())


def test_what_is_given_twice_is_awaited_once(run: Run) -> None:
    async def main(count: int) -> None:
        arms = Arms()
        one, future = arms.arm("a", 1), asyncio.get_running_loop().create_future()
        future.set_result("f")
        others = [value(number) for number in range(count)]
        result = await join(one, future, *others, one, future)
        assert result == ("a", "f", *range(count), "a", "f")
        assert arms.begun == ["a"]
        error = KeyError()
        with pytest.raises(ExceptionGroup) as caught:
            await join(*[arms.arm("b", 1, error)] * 3)
        assert list(caught.value.exceptions) == [error]

    for count in (0, 1, 20):
        run(main(count))


def test_other_awaitables(run: Run) -> None:
    class Awaitable:
        def __await__(self) -> Generator[Any, Any, str]:
            yield from asyncio.sleep(0).__await__()
            return "awaitable"

    @types.coroutine
    def generator() -> Generator[Any, Any, str]:
        yield
        return "generator"

    async def main() -> None:
        queue: pinloop.Queue[str] = pinloop.Queue()
        queue.put_nowait("native")
        assert await join(Awaitable(), generator(), queue.get(), pinloop.yield_now()) == (
            "awaitable",
            "generator",
            "native",
            None,
        )

    run(main())


@each_combine
@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (42, "int"),
        (None, "NoneType"),
        ([], r"list: did you mean {}\(\*\.\.\.\)\?"),
        ((each for each in ()), r"generator: did you mean {}\(\*\.\.\.\)\?"),
        (value, "function: did you mean to call it?"),
    ],
    ids=["int", "None", "list", "generator", "function"],
)
def test_what_cannot_be_awaited(run: Run, combine: Combine, wrong: Any, advice: str) -> None:
    async def main() -> None:
        arms = Arms()
        text = rf"{combine.__name__}\(\) takes awaitables, not {advice.format(combine.__name__)}"
        with pytest.raises(TypeError, match=text):
            await combine(arms.arm("a"), wrong, arms.arm("b"))
        assert arms.begun == []
        arms.check()

    run(main())
    gc.collect()  # the coroutines were closed: nobody says that they were never awaited


@each_combine
def test_futures_of_others(run: Run, combine: Combine) -> None:
    async def main() -> None:
        arms = Arms()
        with pytest.raises(RuntimeError, match="cannot await the task that calls it"):
            await combine(arms.arm("a"), this_task())
        other = asyncio.new_event_loop()
        try:
            with pytest.raises(ValueError, match="a future of another loop"):
                await combine(arms.arm("a"), other.create_future())
        finally:
            other.close()
        assert arms.begun == []

    run(main())


@pytest.mark.parametrize("combine", [race, race_ok])
def test_a_race_of_none_cannot_be_won(run: Run, combine: Combine) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=rf"{combine.__name__}\(\) needs at least one"):
            await combine()

    run(main())


@each_combine
def test_outside_of_a_task(loop: asyncio.AbstractEventLoop, combine: Combine) -> None:
    call = combine(value(1))
    with pytest.raises(RuntimeError, match="no running event loop"):
        call.send(None)

    def callback() -> None:
        with pytest.raises(RuntimeError, match="by a task only"):
            combine(value(1)).send(None)
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()


@each_combine
def test_never_awaited(combine: Combine) -> None:
    name = combine.__name__
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        combine(value(1))
        gc.collect()
    told = {str(each.message) for each in caught}
    assert told == {f"coroutine '{name}' was never awaited", "coroutine 'value' was never awaited"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        combine(value(1)).close()
        gc.collect()


@each_combine
def test_they_are_coroutines_to_who_takes_one(run: Run, combine: Combine) -> None:
    async def main() -> None:
        call = combine(value(1))
        assert asyncio.iscoroutine(call)
        assert call.__name__ == combine.__name__  # type: ignore[attr-defined]
        assert combine.__name__ in repr(call)
        assert await asyncio.create_task(call) in (1, (1,))
        with pytest.raises(RuntimeError, match="already awaited"):
            await call

    run(main())


# ------------------------------------------------------------------- the children --


def test_each_has_a_copy_of_the_callers_context(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def child(name: str) -> tuple[str, str]:
        before = variable.get()
        variable.set(name)
        await asyncio.sleep(0)
        return before, variable.get()

    async def main() -> None:
        variable.set("caller")
        assert await join(child("a"), child("b")) == (("caller", "a"), ("caller", "b"))
        assert await race(child("c")) == ("caller", "c")
        assert variable.get() == "caller"

    run(main())


def test_each_is_a_task_of_its_own(run: Run) -> None:
    async def child() -> Any:
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def main() -> None:
        tasks = await join(child(), child())
        assert len({this_task(), *tasks}) == 3
        assert all(isinstance(task, asyncio.Task) for task in tasks)

    run(main())


def test_a_task_factory_is_asked(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made = []

        def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        assert await join(value(1), value(2)) == (1, 2)
        assert made == ["value", "value"]

    run(main())


@each_combine
def test_a_task_factory_that_fails(run: Run, combine: Combine) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        arms = Arms()

        def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
            if coro.cr_frame.f_locals["name"] == "b":
                raise KeyError("factory")
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        with pytest.raises(KeyError, match="factory"):
            await combine(arms.arm("a"), arms.arm("b"), arms.arm("c"))
        loop.set_task_factory(None)
        assert "b" not in arms.begun
        arms.check()

    run(main())


@only_pinloop
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.skipif("PINLOOP_TEST_TASKS" in os.environ, reason="asyncio's tasks are begun a turn later")
def test_what_is_ready_needs_no_turn(run: Run) -> None:
    async def main() -> None:
        order: list[str] = []
        asyncio.get_running_loop().call_soon(order.append, "others")
        assert await join(value(1), value(2)) == (1, 2)
        arms = Arms()
        assert await race(arms.arm("a"), value(3), arms.arm("b")) == 3
        assert order == ["others"]  # a was begun, and had to be cancelled
        assert arms.begun == ["a"]
        asyncio.get_running_loop().call_soon(order.append, "others")
        assert await race(value(4), arms.arm("c")) == 4
        assert order == ["others"]
        arms.check()

    run(main(), debug=False)  # debug mode begins them a turn later


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in 3.14")
def test_a_call_graph_leads_to_the_caller(run: Run) -> None:
    async def child() -> Any:
        await asyncio.sleep(0)
        graph = asyncio.capture_call_graph()  # type: ignore[attr-defined]
        return [each.future for each in graph.awaited_by]

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, future.set_result, [this_task()])
        assert await join(child(), child(), future) == ([this_task()],) * 3
        assert not future._asyncio_awaited_by  # type: ignore[attr-defined]

    run(main())


def test_deep_nesting_needs_no_stack(run: Run) -> None:
    async def level(depth: int) -> int:
        return 0 if depth == 0 else 1 + (await join(level(depth - 1)))[0]

    async def main() -> None:
        assert await level(3000) == 3000

    run(main())


def test_many(run: Run) -> None:
    async def main() -> None:
        count = 3000
        arms = Arms()
        assert await join(*(arms.arm(number, number % 3) for number in range(count))) == tuple(range(count))
        assert await race(*(arms.arm(number) for number in range(count)), arms.arm("winner", 1)) == "winner"
        arms.check()

    run(main())


# ------------------------------------------------------------------------ memory --


@each_combine
def test_nothing_is_left_to_the_collector(run: Run, combine: Combine) -> None:
    class Error(Exception):
        pass

    class Result:
        pass

    async def child(fails: bool) -> Any:
        await asyncio.sleep(0)
        if fails:
            raise Error
        return Result()

    async def once(fails: bool) -> Any:
        try:
            found = await combine(child(fails))
        except Exception as caught:
            return weakref.ref(caught)
        return weakref.ref(found[0] if isinstance(found, tuple) else found)

    async def main() -> None:
        for fails in (False, True):
            found = await asyncio.create_task(once(fails))
            await turns(2)
            assert found() is None

    gc.collect()
    gc.disable()
    try:
        run(main(), debug=False)
    finally:
        gc.enable()


def test_they_are_public() -> None:
    from pinloop import combine

    assert set(combine.__all__) <= set(pinloop.__all__)
    assert all(getattr(combine, name) is getattr(pinloop, name) for name in combine.__all__)
