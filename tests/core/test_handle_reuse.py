"""Handles and their contexts that are used again: nothing of one call may be seen in another."""

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest

from tests.core.support import turn

VAR: contextvars.ContextVar[Any] = contextvars.ContextVar("VAR", default="unset")


class Thing:
    """Something to have a weak reference to."""

    def __call__(self) -> None: ...


def wear_in(loop: asyncio.AbstractEventLoop, count: int = 50) -> None:
    """Leave spare handles and contexts of both kinds."""
    for _ in range(count):
        loop.call_soon(int)
        loop.call_later(0, int)
        loop.call_later(3600, int).cancel()
    turn(loop)
    turn(loop)


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_each_call_has_the_variables_of_its_own_moment(loop: asyncio.AbstractEventLoop, method: str) -> None:
    seen: list[Any] = []

    def look(i: int) -> None:
        seen.append((i, VAR.get()))
        VAR.set(f"changed by {i}")

    def schedule() -> None:
        when = () if method == "call_soon" else (0,)
        for i in range(200):
            VAR.set(i)
            getattr(loop, method)(*when, look, i)
        VAR.set("after")

    wear_in(loop)
    for _ in range(3):
        contextvars.copy_context().run(schedule)
        turn(loop)
        turn(loop)
    assert seen == [(i, i) for i in range(200)] * 3
    assert VAR.get() == "unset"


def test_what_a_callback_set_is_let_go_when_it_has_run(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)
    things: list[weakref.ref[Thing]] = []

    def set_one() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        VAR.set(thing)

    for _ in range(20):
        loop.call_soon(set_one)
    turn(loop)
    assert len(things) == 20
    assert not any(thing() for thing in things)


def test_what_the_caller_had_set_is_not_kept_by_a_spare_handle(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)

    def schedule() -> weakref.ref[Thing]:
        thing = Thing()
        VAR.set(thing)
        loop.call_soon(int)
        loop.call_later(3600, int).cancel()
        return weakref.ref(thing)

    reference = contextvars.copy_context().run(schedule)
    assert reference() is not None
    turn(loop)
    assert reference() is None


def test_a_context_that_somebody_keeps_stays_as_it_is(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)
    kept = []
    for i in range(20):
        handle = loop.call_soon(VAR.set, i)
        kept.append(handle.get_context())
        del handle
    turn(loop)
    for _ in range(100):
        loop.call_soon(VAR.set, "another's")
    turn(loop)
    assert [context[VAR] for context in kept] == list(range(20))
    assert len({id(context) for context in kept}) == 20


def test_a_context_that_is_weakly_referenced_dies(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)
    references = [weakref.ref(loop.call_soon(int).get_context()) for _ in range(20)]
    turn(loop)
    assert not any(reference() for reference in references)


def test_a_token_belongs_to_one_call_and_to_no_other(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)
    tokens: list[contextvars.Token[Any]] = []
    failures: list[str] = []
    loop.call_soon(lambda: tokens.append(VAR.set("mine")))
    turn(loop)

    def reset() -> None:
        try:
            VAR.reset(tokens[0])
        except ValueError as error:
            failures.append(str(error))

    for _ in range(100):
        loop.call_soon(reset)
    turn(loop)
    assert len(failures) == 100
    assert "different Context" in failures[0]


def test_a_given_context_is_not_emptied(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)
    context = contextvars.Context()
    for _ in range(3):
        loop.call_soon(VAR.set, 5, context=context)
        loop.call_later(3600, int, context=context).cancel()
        turn(loop)
        assert context[VAR] == 5
    reference = weakref.ref(context)
    del context
    assert reference() is None


def test_a_timer_made_anew_has_nothing_of_one_that_was_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[Any] = []
    for i in range(300):
        loop.call_later(3600 + i, ran.append, "cancelled", "with", "arguments").cancel()
        loop.call_at(1, ran.append, "cancelled").cancel()
    handles = [loop.call_later(0, ran.append, i) for i in range(300)]
    assert not any(handle.cancelled() for handle in handles)
    assert all(type(handle.when()) is float for handle in handles)
    turn(loop)
    assert ran == list(range(300))


def test_a_call_that_was_refused_does_no_harm(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)
    for _ in range(100):
        with pytest.raises(TypeError, match="context"):
            loop.call_soon(int, context=1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="context"):
            loop.call_later(1, int, context=1)  # type: ignore[arg-type]
    ran: list[int] = []
    for i in range(200):
        loop.call_soon(ran.append, i)
    turn(loop)
    assert ran == list(range(200))


def test_handles_let_go_by_other_threads(loop: asyncio.AbstractEventLoop) -> None:
    """They schedule, keep, cancel and drop handles while the loop runs its own."""
    ran: list[int] = []
    left = [4]

    def post(thread: int) -> None:
        handles = []
        for i in range(2000):
            handles.append(loop.call_soon_threadsafe(ran.append, thread * 2000 + i))
            if i % 50 == 49:
                handles.clear()
        loop.call_soon_threadsafe(finished)

    def finished() -> None:
        left[0] -= 1
        if not left[0]:
            loop.stop()

    def keep_busy() -> None:
        if left[0]:
            loop.call_later(3600, int).cancel()
            loop.call_soon(keep_busy)

    threads = [threading.Thread(target=post, args=(i,)) for i in range(4)]
    loop.call_soon(keep_busy)
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert sorted(ran) == list(range(8000))
    for i in range(4):
        mine = [number for number in ran if number // 2000 == i]
        assert mine == sorted(mine)


def test_handles_that_outlive_their_loop(loop_factory: Any) -> None:
    loop = loop_factory()
    handles = [loop.call_later(3600, int) for _ in range(10)] + [loop.call_soon(int) for _ in range(10)]
    loop.close()
    thing = Thing()
    reference = weakref.ref(thing)
    context = contextvars.Context()
    context.run(VAR.set, thing)
    other = loop_factory()
    handles.append(other.call_soon(thing, context=context))
    other.close()
    del thing, context
    handles.clear()
    assert reference() is None
    gone = weakref.ref(loop)
    del loop, other
    gc.collect()
    assert gone() is None


class Node:
    """A thing of a cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("timer", [False, True])
def test_a_handle_in_a_cycle_is_not_used_again_while_the_collector_clears_it(
    loop: asyncio.AbstractEventLoop, timer: bool
) -> None:
    # Of what is garbage the collector clears one object after the other. Each of these ends by that the
    # life of a code object, which no cycle is looked for in, and whose weak reference calls back.
    ran: list[int] = []
    watched: list[weakref.ref[Any]] = []

    def schedule(callback: Any, *args: Any) -> Any:
        return loop.call_later(0, callback, *args) if timer else loop.call_soon(callback, *args)

    def garbage(i: int) -> Node:
        node: Any = Node()
        node.last = compile(str(i), "", "eval")
        watched.append(weakref.ref(node.last, lambda _: schedule(ran.append, i)))
        return node

    gc.disable()
    try:
        nodes: list[Any] = [garbage(i) for i in range(20)]
        for node in nodes:
            node.handle = schedule(node.__init__)
        turn(loop)
        turn(loop)
        nodes.clear()
        del node
        gc.collect()
    finally:
        gc.enable()
    turn(loop)
    turn(loop)
    assert sorted(ran) == list(range(20))


def test_what_the_end_of_a_cancelled_timer_schedules_is_done(loop: asyncio.AbstractEventLoop) -> None:
    wear_in(loop)
    slept: list[bool] = []

    class Last:
        def __del__(self) -> None:
            loop.call_soon(loop.stop)

    def schedule() -> asyncio.TimerHandle:
        VAR.set(Last())
        return loop.call_later(10, int)

    cancelled = contextvars.copy_context().run(schedule)
    loop.call_later(20, lambda: (slept.append(True), loop.stop()))
    loop.call_later(3600, int)  # the one cancelled is not the last, and stays until its turn comes
    cancelled.cancel()
    del cancelled
    loop.run_forever()
    assert not slept
