"""Debug mode: what it turns on, what it refuses, what it reports."""

import asyncio
import functools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, environment, only_pinloop

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def debug_loop(loop: Loop) -> Loop:
    loop.set_debug(True)
    return loop


async def do_nothing() -> None:
    pass


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "asyncio" and r.levelno == logging.WARNING]


# --------------------------------------------------------------------------- turning it on --


@pytest.mark.parametrize("enabled", [True, False])
def test_debug_is_what_was_set(loop: Loop, enabled: bool) -> None:
    loop.set_debug(enabled)
    assert loop.get_debug() is enabled


LOOK = """
import asyncio, os, sys
if os.environ.get("PINLOOP_TEST_LOOP") == "asyncio":
    loop = asyncio.new_event_loop()
else:
    import pinloop
    loop = pinloop.new_event_loop()
print(loop.get_debug())
loop.close()
"""


@pytest.mark.parametrize(
    ("options", "variable", "expected"),
    [
        ([], "", "False"),
        ([], "1", "True"),
        (["-X", "dev"], "", "True"),
        (["-E"], "1", "False"),
    ],
    ids=["default", "PYTHONASYNCIODEBUG", "dev mode", "environment ignored"],
)
def test_where_debug_mode_comes_from(options: list[str], variable: str, expected: str) -> None:
    # -E hides PYTHONPATH too, from which the module under test may come.
    code = f"import sys; sys.path[:] = {sys.path!r}\n{LOOK}"
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env=environment(PYTHONASYNCIODEBUG=variable),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_runner_turns_it_on(loop_factory: Callable[[], Loop]) -> None:
    async def look() -> bool:
        return asyncio.get_running_loop().get_debug()

    with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
        assert runner.run(look()) is True


# ------------------------------------------------------------------- coroutine origins --


def test_origins_are_tracked_during_the_run_only(debug_loop: Loop) -> None:
    async def look() -> int:
        return sys.get_coroutine_origin_tracking_depth()

    before = sys.get_coroutine_origin_tracking_depth()
    assert debug_loop.run_until_complete(look()) > 0
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_an_origin_depth_that_was_set_before_comes_back(debug_loop: Loop) -> None:
    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        debug_loop.run_until_complete(do_nothing())
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(before)


def test_switching_debug_while_running_switches_origin_tracking(loop: Loop) -> None:
    async def main() -> list[bool]:
        seen = []
        for enabled in (True, False):
            loop.set_debug(enabled)
            await asyncio.sleep(0)
            seen.append(sys.get_coroutine_origin_tracking_depth() > 0)
        return seen

    loop.set_debug(False)
    before = sys.get_coroutine_origin_tracking_depth()
    assert loop.run_until_complete(main()) == [True, False]
    assert sys.get_coroutine_origin_tracking_depth() == before


# ------------------------------------------------------------------------------ refusals --


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
@pytest.mark.parametrize("what", [do_nothing, functools.partial(do_nothing)], ids=["function", "partial"])
def test_a_coroutine_function_is_no_callback(debug_loop: Loop, method: str, what: Any) -> None:
    when = [0] if method in ("call_later", "call_at") else []
    if isinstance(what, functools.partial) and sys.version_info < (3, 12):
        pytest.skip("asyncio looks into a partial from 3.12 on")
    with pytest.raises(TypeError, match="coroutines cannot be used with"):
        getattr(debug_loop, method)(*when, what)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_a_coroutine_is_no_callback(debug_loop: Loop, method: str) -> None:
    when = [0] if method in ("call_later", "call_at") else []
    coro = do_nothing()
    with pytest.raises(TypeError, match="coroutines cannot be used with call_"):
        getattr(debug_loop, method)(*when, coro)
    coro.close()


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
@pytest.mark.parametrize("debug", [True, False])
def test_what_cannot_be_called_is_no_callback(loop: Loop, method: str, debug: bool) -> None:
    if not (debug or ON_PINLOOP):
        pytest.skip("asyncio looks at callbacks in debug mode only")
    loop.set_debug(debug)
    when = [0] if method in ("call_later", "call_at") else []
    with pytest.raises(TypeError, match=r"a callable object was expected by call_\w+\(\), got 42"):
        getattr(loop, method)(*when, 42)


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_a_call_from_another_thread_is_refused(debug_loop: Loop, method: str) -> None:
    when = [0] if method in ("call_later", "call_at") else []

    def from_thread() -> str:
        try:
            getattr(debug_loop, method)(*when, print)
        except RuntimeError as exc:
            return str(exc)
        return "nothing was raised"

    async def main() -> str:
        return await asyncio.to_thread(from_thread)

    assert "Non-thread-safe operation" in debug_loop.run_until_complete(main())


def test_call_soon_threadsafe_from_another_thread_is_fine(debug_loop: Loop) -> None:
    async def main() -> int:
        ran = asyncio.Event()
        thread = threading.Thread(target=debug_loop.call_soon_threadsafe, args=(ran.set,))
        thread.start()
        await ran.wait()
        thread.join()
        return 42

    assert debug_loop.run_until_complete(main()) == 42


# ------------------------------------------------------------------------- slow callbacks --


def sleep_twice_the_limit() -> None:
    time.sleep(0.02)


@pytest.fixture
def impatient(debug_loop: Loop) -> Loop:
    debug_loop.slow_callback_duration = 0.01
    return debug_loop


def test_slow_callback_duration_is_a_tenth_of_a_second_at_first(loop: Loop) -> None:
    assert loop.slow_callback_duration == 0.1


def test_a_slow_callback_is_logged(impatient: Loop, caplog: pytest.LogCaptureFixture) -> None:
    impatient.call_soon(sleep_twice_the_limit)
    impatient.call_soon(impatient.stop)
    impatient.run_forever()
    [message] = warnings(caplog)
    assert message.startswith("Executing <Handle sleep_twice_the_limit() at ")
    assert f"created at {__file__}:" in message
    assert message.endswith(" seconds")


def test_a_slow_step_of_a_task_is_logged_with_the_task(
    impatient: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow() -> None:
        sleep_twice_the_limit()

    impatient.run_until_complete(impatient.create_task(slow(), name="the slow one"))
    assert any(m.startswith("Executing <Task") and "the slow one" in m for m in warnings(caplog)), caplog.text


def test_a_quick_callback_is_not_logged(debug_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    debug_loop.slow_callback_duration = 60
    debug_loop.call_soon(sleep_twice_the_limit)
    debug_loop.call_soon(debug_loop.stop)
    debug_loop.run_forever()
    assert warnings(caplog) == []


def test_without_debug_mode_a_slow_callback_is_not_logged(
    impatient: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    impatient.set_debug(False)
    impatient.call_soon(sleep_twice_the_limit)
    impatient.call_soon(impatient.stop)
    impatient.run_forever()
    assert warnings(caplog) == []


@only_pinloop  # asyncio times the callback that reads the socket, and names its handle
def test_a_slow_data_received_is_logged(impatient: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        class Slow(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                sleep_twice_the_limit()
                done.set_result(None)

        done = impatient.create_future()
        async with await impatient.create_server(Slow, "127.0.0.1", 0) as server:
            transport, _ = await impatient.create_connection(
                asyncio.Protocol, *server.sockets[0].getsockname()
            )
            transport.write(b"x")
            await done
            transport.close()

    impatient.run_until_complete(main())
    assert any("StreamTransport" in m and "Slow" in m for m in warnings(caplog)), caplog.text


# ----------------------------------------------------------------------------------- reprs --


def test_a_handle_says_where_it_was_made(debug_loop: Loop) -> None:
    handle = debug_loop.call_later(3600, print, "argument")
    assert "print('argument')" in repr(handle)
    assert f"created at {__file__}:" in repr(handle)
    handle.cancel()


def test_a_report_tells_where_the_running_callback_was_scheduled(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.set_exception_handler(None)
    loop.call_soon(loop.call_exception_handler, {"message": "something went wrong"})
    loop.call_soon(loop.stop)
    loop.run_forever()
    (record,) = (each for each in caplog.records if "something went wrong" in each.message)
    assert "Handle created at (most recent call last):" in record.message
    assert __file__ in record.message
