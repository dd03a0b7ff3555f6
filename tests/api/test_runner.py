"""Swapping pinloop in: run, new_event_loop, install, the policy, asyncio's Runner."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import pinloop
from tests.api.support import environment, python

pytestmark = pytest.mark.skipif(
    os.environ.get("PINLOOP_TEST_LOOP") == "asyncio", reason="tests how pinloop takes asyncio's place"
)


async def loop_type() -> type[asyncio.AbstractEventLoop]:
    return type(asyncio.get_running_loop())


# ---------------------------------------------------------------------------------- run --


def test_run_returns_the_result() -> None:
    assert pinloop.run(asyncio.sleep(0, "result")) == "result"


def test_run_runs_on_a_pinloop_loop() -> None:
    assert pinloop.run(loop_type()) is pinloop.Loop


def test_run_raises_the_exception() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pinloop.run(fail())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_run_lets_exits_out(kind: type[BaseException]) -> None:
    async def fail() -> None:
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        pinloop.run(fail())


def test_run_uses_a_fresh_loop_and_closes_it() -> None:
    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    first, second = pinloop.run(main()), pinloop.run(main())
    assert first is not second
    assert first.is_closed()
    assert second.is_closed()


def test_run_cancels_what_is_left() -> None:
    ended: list[str] = []

    async def sleeper() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("sleeper")

    async def main() -> None:
        tasks.append(asyncio.create_task(sleeper()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    pinloop.run(main())
    assert ended == ["sleeper"]
    assert tasks[0].cancelled()


def test_run_inside_a_running_loop_is_an_error() -> None:
    async def main() -> None:
        coro = loop_type()
        try:
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                pinloop.run(coro)
        finally:
            coro.close()

    pinloop.run(main())
    asyncio.run(main())


@pytest.mark.parametrize("thing", [None, 42, loop_type], ids=["None", "int", "function"])
def test_run_refuses_what_is_no_coroutine(thing: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        pinloop.run(thing)


@pytest.mark.parametrize("debug", [True, False])
def test_run_sets_debug(debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert pinloop.run(main(), debug=debug) is debug


def test_run_leaves_asyncios_own_loop_as_it_was() -> None:
    pinloop.run(loop_type())
    assert asyncio.run(loop_type()) is not pinloop.Loop


def test_run_can_follow_a_failed_run() -> None:
    async def fail() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        pinloop.run(fail())
    assert pinloop.run(asyncio.sleep(0, "again")) == "again"


CTRL_C = """
import asyncio, pinloop, sys

async def main():
    print("running", flush=True)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.001)
        print("cancelled", flush=True)
        raise

try:
    pinloop.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
"""

CTRL_C_TWICE = """
import asyncio, pinloop, time

async def main():
    print("running", flush=True)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("stubborn", flush=True)
        while True:
            time.sleep(0.01)

pinloop.run(main())
"""

CTRL_C_BUSY = """
import asyncio, pinloop

async def main():
    print("running", flush=True)
    while True:
        await asyncio.sleep(0)

pinloop.run(main())
"""


@contextlib.contextmanager
def program(code: str) -> Any:
    """A Python running `code`, whose first line of output has been read: "running"."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_cancels_main_and_then_raises() -> None:
    with program(CTRL_C) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("cancelled\ninterrupted\n", "", 7)


def test_ctrl_c_twice_ends_what_does_not_want_to() -> None:
    with program(CTRL_C_TWICE) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stubborn\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert err.endswith("KeyboardInterrupt\n")


def test_ctrl_c_reaches_a_loop_that_never_sleeps() -> None:
    with program(CTRL_C_BUSY) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert err.endswith("KeyboardInterrupt\n")


# ---------------------------------------------------------------------- loops and Runner --


def test_new_event_loop_makes_a_new_loop_each_time() -> None:
    loops = [pinloop.new_event_loop() for _ in range(3)]
    assert len(set(loops)) == 3
    for loop in loops:
        assert isinstance(loop, pinloop.Loop)
        assert isinstance(loop, asyncio.AbstractEventLoop)
        loop.close()


def test_new_event_loop_is_not_the_threads_current_loop() -> None:
    loop = pinloop.new_event_loop()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    loop.close()


def test_asyncio_runner_takes_the_factory() -> None:
    with asyncio.Runner(loop_factory=pinloop.new_event_loop) as runner:
        assert runner.run(loop_type()) is pinloop.Loop
        assert runner.run(loop_type()) is pinloop.Loop
        assert runner.get_loop().run_until_complete(asyncio.sleep(0, "x")) == "x"


def test_the_class_itself_is_a_factory() -> None:
    with asyncio.Runner(loop_factory=pinloop.Loop) as runner:
        assert runner.run(loop_type()) is pinloop.Loop


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run(loop_factory=) is new in 3.12")
def test_asyncio_run_takes_the_factory() -> None:
    assert asyncio.run(loop_type(), loop_factory=pinloop.new_event_loop) is pinloop.Loop  # type: ignore[call-arg]


def test_the_loop_can_be_subclassed() -> None:
    class Own(pinloop.Loop):
        def __init__(self) -> None:
            super().__init__()
            self.extra = 42

    loop = Own()
    assert loop.run_until_complete(loop_type()) is Own
    assert loop.extra == 42
    loop.close()


def test_a_loop_cannot_be_initialised_twice() -> None:
    loop = pinloop.new_event_loop()
    with pytest.raises(RuntimeError, match="is initialised already"):
        loop.__init__()  # type: ignore[misc]
    assert loop.run_until_complete(asyncio.sleep(0, "still good")) == "still good"
    loop.close()


# ------------------------------------------------------------------- install and the policy --


def printed(code: str) -> str:
    """What a program prints that meets no warning."""
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


SHOW = """
async def show():
    loop = asyncio.get_running_loop()
    print(type(loop).__module__, type(loop).__name__)
"""


def test_importing_pinloop_warns_of_nothing_and_installs_nothing() -> None:
    code = f"import asyncio, pinloop\n{SHOW}\nasyncio.run(show())"
    assert "pinloop" not in printed(code)


def test_install_makes_asyncio_run_use_pinloop() -> None:
    assert (
        printed(f"import asyncio, pinloop\n{SHOW}\npinloop.install()\nasyncio.run(show())")
        == "pinloop._loop Loop"
    )


def test_install_makes_a_plain_runner_use_pinloop() -> None:
    code = f"""
import asyncio, pinloop
{SHOW}
pinloop.install()
with asyncio.Runner() as runner:
    runner.run(show())
"""
    assert printed(code) == "pinloop._loop Loop"


def test_install_makes_new_event_loop_give_pinloops() -> None:
    code = """
import asyncio, pinloop
pinloop.install()
loop = asyncio.new_event_loop()
print(isinstance(loop, pinloop.Loop))
asyncio.set_event_loop(loop)
loop.close()
"""
    assert printed(code) == "True"


def test_install_twice_is_once() -> None:
    code = f"import asyncio, pinloop\n{SHOW}\npinloop.install()\npinloop.install()\nasyncio.run(show())"
    assert printed(code) == "pinloop._loop Loop"


def test_install_holds_in_other_threads() -> None:
    code = f"""
import asyncio, pinloop, threading
{SHOW}
pinloop.install()
thread = threading.Thread(target=asyncio.run, args=(show(),))
thread.start()
thread.join()
"""
    assert printed(code) == "pinloop._loop Loop"


def test_an_explicit_factory_beats_install() -> None:
    code = f"""
import asyncio, pinloop
{SHOW}
pinloop.install()
with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
    runner.run(show())
"""
    assert "pinloop" not in printed(code)


def test_the_policy_class_is_made_when_asked_for() -> None:
    code = """
import pinloop
policy = pinloop.EventLoopPolicy
print(policy.__module__, policy.__qualname__, policy is pinloop.EventLoopPolicy)
print("EventLoopPolicy" in dir(pinloop), "EventLoopPolicy" in pinloop.__all__)
loop = policy().new_event_loop()
print(isinstance(loop, pinloop.Loop))
loop.close()
"""
    assert printed(code) == "pinloop EventLoopPolicy True\nTrue True\nTrue"


def test_the_policy_can_be_set() -> None:
    code = f"""
import asyncio, pinloop, warnings
{SHOW}
with warnings.catch_warnings():
    # From 3.14 on asyncio itself warns of whoever sets a policy.
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop_policy(pinloop.EventLoopPolicy())
asyncio.run(show())
"""
    assert printed(code) == "pinloop._loop Loop"


def test_the_policy_is_a_default_policy() -> None:
    code = """
import asyncio, pinloop, warnings
warnings.simplefilter("ignore")
print(issubclass(pinloop.EventLoopPolicy, asyncio.DefaultEventLoopPolicy))
print(isinstance(pinloop.EventLoopPolicy(), asyncio.AbstractEventLoopPolicy))
"""
    assert printed(code) == "True\nTrue"


def test_star_import_gives_the_public_names() -> None:
    code = "from pinloop import *\nprint(sorted(n for n in dir() if not n.startswith('_')))"
    assert printed(code) == str(sorted(pinloop.__all__))


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pinloop' has no attribute 'nonesuch'"):
        pinloop.nonesuch  # noqa: B018
