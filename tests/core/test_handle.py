"""Handle: one scheduled callback."""

import asyncio
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.support import run_python, turn

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")

Schedule = Callable[..., asyncio.Handle]


@pytest.fixture(params=["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def schedule(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Schedule:
    """Each scheduling method, with a time that is due at once where one is needed."""
    method = getattr(loop, request.param)
    when = {"call_later": (0,), "call_at": (loop.time(),)}.get(request.param, ())
    return functools.partial(method, *when)


# ------------------------------------------------------- arguments and spelling --


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_argument_reaches_the_callback(
    loop: asyncio.AbstractEventLoop, schedule: Schedule, count: int
) -> None:
    got: list[tuple[Any, ...]] = []
    schedule(lambda *args: got.append(args), *range(count))
    turn(loop)
    assert got == [tuple(range(count))]


@pytest.mark.parametrize(
    ("method", "keywords"),
    [
        ("call_soon", {}),
        ("call_soon_threadsafe", {}),
        ("call_later", {"delay": 0}),
        ("call_at", {"when": 0}),
    ],
)
def test_arguments_may_be_spelled_by_keyword(
    loop: asyncio.AbstractEventLoop, method: str, keywords: dict[str, int]
) -> None:
    got: list[str] = []
    context = contextvars.Context()
    context.run(VAR.set, "mine")
    getattr(loop, method)(callback=lambda: got.append(VAR.get()), context=context, **keywords)
    turn(loop)
    assert got == ["mine"]


def test_a_delay_by_position_with_a_callback_by_keyword(loop: asyncio.AbstractEventLoop) -> None:
    got: list[int] = []
    loop.call_later(0, callback=lambda: got.append(1))
    loop.call_at(0, callback=lambda: got.append(2))
    turn(loop)
    assert sorted(got) == [1, 2]


def test_the_context_keyword_need_not_be_interned(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    context = contextvars.Context()
    spelled = {b"context".decode(): context}
    assert schedule(int, **spelled).get_context() is context


def test_context_none_means_the_default(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    assert isinstance(schedule(int, context=None).get_context(), contextvars.Context)


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(),
        lambda loop: loop.call_soon_threadsafe(),
        lambda loop: loop.call_later(),
        lambda loop: loop.call_later(1),
        lambda loop: loop.call_at(),
        lambda loop: loop.call_at(1),
        lambda loop: loop.call_soon(int, nonsense=1),
        lambda loop: loop.call_soon(int, callback=int),
        lambda loop: loop.call_later(1, int, delay=1),
        lambda loop: loop.call_soon(int, context=None, more=1),
        lambda loop: type(loop).call_soon(),
        lambda loop: type(loop).call_soon(object(), int),
    ],
)
def test_a_wrong_signature_is_a_type_error(
    loop: asyncio.AbstractEventLoop, call: Callable[[asyncio.AbstractEventLoop], object]
) -> None:
    with pytest.raises(TypeError):
        call(loop)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_a_subclass_may_override_and_call_super_by_keyword(method: str) -> None:
    import pinloop

    class Counting(pinloop.Loop):
        seen = 0

    def override(self: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        self.seen += 1
        names = ["when"] if method == "call_at" else ["delay"] if method == "call_later" else []
        spelled = dict(zip([*names, "callback"], args, strict=True))
        return getattr(super(Counting, self), method)(**spelled, **kwargs)

    setattr(Counting, method, override)
    loop = Counting()
    try:
        ran: list[int] = []
        times = (0,) if method in ("call_later", "call_at") else ()
        getattr(loop, method)(*times, lambda: ran.append(1))
        turn(loop)
        assert (loop.seen, ran) == (1, [1])
    finally:
        loop.close()


# ------------------------------------------------------------------- refusals --


@pytest.mark.parametrize("thing", [None, 1, "print", object()])
def test_what_cannot_be_called_is_refused(
    loop: asyncio.AbstractEventLoop, schedule: Schedule, thing: object
) -> None:
    with pytest.raises(TypeError, match="callable"):
        schedule(thing)


def test_a_coroutine_is_refused(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    async def coroutine() -> None: ...

    coro = coroutine()
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        schedule(coro)
    coro.close()


def test_a_coroutine_function_is_refused_in_debug_mode(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    async def coroutine() -> None: ...

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        schedule(coroutine)


@pytest.mark.parametrize("context", [1, {}, "context", contextvars.Context])
def test_a_context_of_another_type_is_refused(
    loop: asyncio.AbstractEventLoop, schedule: Schedule, context: object
) -> None:
    ran: list[int] = []
    with pytest.raises(TypeError):
        schedule(lambda: ran.append(1), context=context)
    turn(loop)
    assert ran == []


def test_a_closed_loop_schedules_nothing(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        schedule(int)


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_debug_mode_refuses_another_thread_while_the_loop_runs(
    loop: asyncio.AbstractEventLoop, method: str
) -> None:
    caught: list[BaseException] = []
    loop.set_debug(True)

    def elsewhere() -> None:
        times = (0,) if method != "call_soon" else ()
        try:
            getattr(loop, method)(*times, int)
        except RuntimeError as exc:
            caught.append(exc)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=elsewhere)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert "Non-thread-safe operation" in str(caught[0])


def test_a_loop_whose_init_was_never_called_raises() -> None:
    out = run_python(
        """
import pinloop
loop = pinloop.Loop.__new__(pinloop.Loop)
for name, args in [("call_soon", (print,)), ("call_later", (0, print)), ("call_soon_threadsafe", (print,)),
                   ("time", ()), ("run_forever", ()), ("add_reader", (0, print)), ("stop", ()),
                   ("__repr__", ()), ("close", ())]:
    try:
        getattr(loop, name)(*args)
    except Exception:
        pass
print("alive")
"""
    )
    assert out == "alive\n"


# ------------------------------------------------------------------- contexts --


def test_the_context_is_copied_when_scheduled(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    got: list[str] = []

    def callback() -> None:
        got.append(VAR.get())
        VAR.set("inside")

    def outside() -> str:
        VAR.set("then")
        schedule(callback)
        VAR.set("later")
        turn(loop)
        return VAR.get()

    assert contextvars.copy_context().run(outside) == "later"
    assert got == ["then"]


def test_a_given_context_is_used_itself(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    context = contextvars.Context()
    handle = schedule(VAR.set, "kept", context=context)
    turn(loop)
    assert context[VAR] == "kept"
    assert handle.get_context() is context


def test_a_context_that_is_entered_already_is_reported(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    context = contextvars.Context()
    ran: list[int] = []
    loop.set_exception_handler(None)
    loop.call_soon(lambda: ran.append(1), context=context)
    loop.call_soon(lambda: ran.append(2))
    context.run(turn, loop)
    assert ran == [2]
    assert "is already entered" in caplog.text


# --------------------------------------------------------------------- cancel --


def test_a_cancelled_callback_is_not_called(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    ran: list[int] = []
    handle = schedule(lambda: ran.append(1))
    assert handle.cancelled() is handle._cancelled is False  # type: ignore[attr-defined]
    handle.cancel()
    handle.cancel()
    assert handle.cancelled() is handle._cancelled is True  # type: ignore[attr-defined]
    turn(loop)
    assert ran == []


def test_a_callback_cancels_a_later_one_of_its_batch(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    ran: list[int] = []
    schedule(lambda: later.cancel())  # noqa: PLW0108 - made below
    later = schedule(lambda: ran.append(1))
    turn(loop)
    turn(loop)
    assert ran == []


def test_a_callback_that_cancels_itself_goes_on_with_its_arguments(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    ran: list[Any] = []

    def callback(*args: object) -> None:
        handle.cancel()
        gc.collect()
        ran.append(args)

    handle = schedule(callback, object, "two")
    turn(loop)
    assert ran == [(object, "two")]
    assert handle.cancelled()


def test_cancelling_after_the_call_has_no_effect(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    ran: list[int] = []
    handle = schedule(lambda: ran.append(1))
    turn(loop)
    handle.cancel()
    turn(loop)
    assert ran == [1]
    assert handle.cancelled()


def test_cancelling_releases_callback_and_arguments(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    class Thing:
        def __call__(self, *args: object) -> None: ...

    things = [Thing() for _ in range(3)]
    handle = schedule(*things)
    alive = [weakref.ref(thing) for thing in things]
    things.clear()
    handle.cancel()
    gc.collect()
    assert [ref() for ref in alive] == [None, None, None]


def test_cancel_whose_release_cancels_again(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    class Finalizer:
        def __call__(self) -> None: ...

        def __del__(self) -> None:
            handle.cancel()
            repr(handle)

    handle = schedule(Finalizer())
    handle.cancel()
    turn(loop)
    assert handle.cancelled()


# ------------------------------------------------------------------ reused ones --


def test_a_handle_that_the_user_keeps_is_never_used_again(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    ran: list[int] = []
    kept = [schedule(int) for _ in range(200)]
    turn(loop)
    fresh = [schedule(ran.append, i) for i in range(400)]
    assert not {id(handle) for handle in kept} & {id(handle) for handle in fresh}
    for handle in kept:
        handle.cancel()
    turn(loop)
    assert ran == list(range(400))


def test_handles_that_are_used_again_start_clean(loop: asyncio.AbstractEventLoop) -> None:
    cancelled = [loop.call_soon(int, 1, 2) for _ in range(100)]
    for handle in cancelled:
        handle.cancel()
    del handle, cancelled
    turn(loop)
    ran: list[tuple[int, ...]] = []
    for count in (0, 1, 2, 0, 3, 1) * 20:
        loop.call_soon(lambda *args: ran.append(args), *range(count))
    assert not loop.call_soon(int).cancelled()
    turn(loop)
    assert ran == [tuple(range(count)) for count in (0, 1, 2, 0, 3, 1) * 20]


def test_a_run_callback_is_released(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    class Thing:
        def __call__(self, *args: object) -> None: ...

    thing, argument, value = Thing(), Thing(), Thing()
    alive = [weakref.ref(thing), weakref.ref(argument), weakref.ref(value)]
    context = contextvars.Context()
    context.run(contextvars.ContextVar[Thing]("held").set, value)
    schedule(thing, argument, context=context)
    del thing, argument, value, context
    turn(loop)
    gc.collect()
    assert [ref() for ref in alive] == [None, None, None]


# ----------------------------------------------------------- type and description --


def test_handles_pass_for_asyncio_handles(loop: asyncio.AbstractEventLoop) -> None:
    assert isinstance(loop.call_soon(int), asyncio.Handle)
    assert isinstance(loop.call_soon_threadsafe(int), asyncio.Handle)
    assert isinstance(loop.call_later(0, int), asyncio.TimerHandle)
    assert isinstance(loop.call_at(0, int), asyncio.TimerHandle)
    assert not isinstance(loop.call_soon(int), asyncio.TimerHandle)


def test_repr_names_the_callback_and_where_it_is(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    def a_callback(*args: object) -> None: ...

    for callback in (a_callback, functools.partial(a_callback, 1)):
        handle = schedule(callback, "argument")
        assert "a_callback(" in repr(handle)
        assert f"{__file__}:" in repr(handle)
        handle.cancel()
        assert "cancelled" in repr(handle)


def test_repr_of_a_timer_tells_when(loop: asyncio.AbstractEventLoop) -> None:
    assert "when=12.5" in repr(loop.call_at(12.5, int))


def test_debug_mode_shows_arguments_and_origin(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    loop.set_debug(True)
    text = repr(schedule(print, "an argument"))
    assert "'an argument'" in text
    assert f"created at {__file__}:" in text


# ----------------------------------------------------------------- as asyncio's --


def test_timers_are_sorted_by_when_they_are_due(loop: asyncio.AbstractEventLoop) -> None:
    late, soon, later = (loop.call_at(loop.time() + delay, int) for delay in (200, 100, 300))
    assert sorted([late, soon, later]) == [soon, late, later]
    assert soon < late <= later
    assert later > late >= soon
    assert not soon > late
    assert not soon >= late


def test_timers_are_equal_when_they_do_the_same_at_the_same_time(loop: asyncio.AbstractEventLoop) -> None:
    when = loop.time() + 100
    one, same = loop.call_at(when, int, "1"), loop.call_at(when, int, "1")
    assert one == same and one <= same and one >= same
    assert hash(one) == hash(same)
    assert one != loop.call_at(when, int, "2")
    assert one != loop.call_at(when, str, "1")
    assert one != loop.call_at(when + 1, int, "1")
    same.cancel()
    assert one != same
    assert one != object()


def test_a_timer_is_not_compared_with_anything_else(loop: asyncio.AbstractEventLoop) -> None:
    timer: Any = loop.call_later(100, int)
    for other in (loop.call_soon(int), 1, None):
        with pytest.raises(TypeError):
            assert timer < other
        with pytest.raises(TypeError):
            assert timer >= other


def test_a_time_given_as_an_int_is_told_as_one(loop: asyncio.AbstractEventLoop) -> None:
    whole = int(loop.time()) + 100
    timers: list[Any] = [loop.call_at(whole, int), loop.call_at(float(whole), int), loop.call_later(100, int)]
    assert [type(timer.when()) for timer in timers] == [int, float, float]
    assert [type(timer._when) for timer in timers] == [int, float, float]
    assert timers[0].when() == timers[1].when() == whole


def test_what_tools_read_from_a_handle(loop: asyncio.AbstractEventLoop) -> None:
    context = contextvars.copy_context()
    timer: Any = loop.call_at(loop.time() + 100, int, "1", context=context)
    assert (timer._callback, timer._args, timer._context) == (int, ("1",), context)
    assert (timer._cancelled, timer._scheduled, timer._when) == (False, True, timer.when())
    timer.cancel()
    assert (timer._callback, timer._args, timer._cancelled) == (None, None, True)
