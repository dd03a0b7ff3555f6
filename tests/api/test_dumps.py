"""dump_tasks and dump_on_signal: what every task does, told on request."""

import asyncio
import gc
import io
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

import pinloop
from tests.api.support import ON_PINLOOP, environment

STOCK_TASKS = not ON_PINLOOP or os.environ.get("PINLOOP_TEST_TASKS") == "asyncio"
KNOWS_SCOPES = not STOCK_TASKS or sys.version_info >= (3, 12)


def dump(loop: asyncio.AbstractEventLoop | None = None) -> str:
    file = io.StringIO()
    pinloop.dump_tasks(file, loop=loop)
    return file.getvalue()


def of_task(text: str, name: str) -> list[str]:
    """The lines about one task."""
    found = re.findall(rf"^Task '{name}' .*(?:\n .*)*", text, re.MULTILINE)
    assert len(found) == 1, text
    return found[0].splitlines()  # type: ignore[no-any-return]


def functions(lines: list[str]) -> list[str]:
    """The functions of a stack, outermost first."""
    return [line.rpartition(" in ")[2].rpartition(".")[2] for line in lines if line.startswith("  File")]


async def wait(future: "asyncio.Future[Any]") -> None:
    await future


async def deep(future: "asyncio.Future[Any]") -> None:
    await wait(future)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


# ------------------------------------------------------------------------------ states --


def test_a_task_that_waits_shows_the_coroutines_that_await_one_another(run: Any) -> None:
    async def main() -> list[str]:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(deep(future), name="waiting")
        await turns()
        text = dump()
        future.set_result(None)
        await task
        return of_task(text, "waiting")

    lines = run(main())
    assert re.fullmatch(r"Task 'waiting' waits for a future( made at .*\.py:\d+)?", lines[0])
    assert functions(lines) == ["deep", "wait"]
    assert lines[1].startswith(f'  File "{__file__}", line ')
    assert [line.strip() for line in lines if line.startswith("    ")][:2] == [
        "await wait(future)",
        "await future",
    ]


def test_the_task_that_runs_shows_the_functions_that_it_is_in(run: Any) -> None:
    def function() -> str:
        return dump()

    async def inner() -> str:
        return function()

    async def main() -> str:
        asyncio.current_task().set_name("main")  # type: ignore[union-attr]
        return await inner()

    lines = of_task(run(main()), "main")
    assert lines[0] == "Task 'main' runs"
    assert functions(lines) == ["main", "inner", "function", "dump"]


def test_tasks_that_are_ready_or_have_not_begun_or_are_being_cancelled(run: Any) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(2)]
        tasks = [asyncio.create_task(wait(future), name=f"t{i}") for i, future in enumerate(futures)]
        await turns()
        futures[0].set_result(None)
        tasks[1].cancel()
        tasks.append(asyncio.create_task(turns(), name="new"))
        text = dump()
        await asyncio.gather(*tasks, return_exceptions=True)
        return text

    text = run(main())
    assert of_task(text, "t0")[0] == "Task 't0' is ready"
    assert of_task(text, "t1")[0] == "Task 't1' is ready, cancelling (1 request)"
    assert of_task(text, "new")[0] == "Task 'new' has not begun"
    assert functions(of_task(text, "new")) == ["turns"]


def test_a_task_that_waits_for_another_names_it(run: Any) -> None:
    async def main() -> str:
        future = asyncio.get_running_loop().create_future()
        first = asyncio.create_task(wait(future), name="first")
        second = asyncio.create_task(wait(first), name="second")
        await turns()
        text = dump()
        future.set_result(None)
        await second
        return text

    assert of_task(run(main()), "second")[0] == "Task 'second' waits for task 'first'"


def test_through_generators_of_all_kinds(run: Any) -> None:
    class Awaitable:
        def __init__(self, future: "asyncio.Future[Any]") -> None:
            self.future = future

        def __await__(self) -> Generator[Any, Any, Any]:
            yield from self.future.__await__()

    async def items(future: "asyncio.Future[Any]") -> AsyncIterator[int]:
        await Awaitable(future)
        yield 1

    async def consume(future: "asyncio.Future[Any]") -> None:
        async for _ in items(future):
            pass

    async def main() -> str:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(consume(future), name="consumer")
        await turns()
        text = dump()
        future.set_result(None)
        await task
        return text

    assert functions(of_task(run(main()), "consumer")) == ["consume", "items", "__await__"]


def test_native_methods_are_named(run: Any) -> None:
    async def get(queue: "pinloop.Queue[int]") -> None:
        await queue.get()

    async def main() -> str:
        queue: pinloop.Queue[int] = pinloop.Queue()
        task = asyncio.create_task(get(queue), name="consumer")
        await turns()
        text = dump()
        queue.put_nowait(1)
        await task
        return text

    assert of_task(run(main()), "consumer")[-1] == "  in Queue.get()"


# ------------------------------------------------------------------------------ scopes --


@pytest.mark.skipif(not KNOWS_SCOPES, reason="asyncio's tasks do not tell their context before 3.12")
def test_the_scopes_of_each_task(run: Any) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(2)]
        asyncio.current_task().set_name("main")  # type: ignore[union-attr]
        other = asyncio.create_task(wait(futures[0]), name="outside")
        async with pinloop.scope() as outer:
            outer.spawn(wait(futures[0]), name="outer child")
            async with pinloop.scope() as inner:
                inner.spawn(pinloop.join(wait(futures[0]), futures[1]), name="inner child")
                stray = asyncio.create_task(wait(futures[0]), name="stray")
                await turns()
                text = dump()
                for future in futures:
                    future.set_result(None)
        await asyncio.gather(other, stray)
        return text

    text = run(main())
    inner, outer = "<Scope open children=1>", "<Scope open children=1>"
    assert of_task(text, "main")[1:3] == [
        f"  in {inner} which it entered",
        f"  within {outer} of task 'main'",
    ]
    assert of_task(text, "outer child")[1] == f"  in {outer} of task 'main'"
    assert "Scope" not in "".join(of_task(text, "outside") + of_task(text, "stray"))
    lines = of_task(text, "inner child")
    assert lines[1:4] == [
        "  in join() which it entered",
        f"  within {inner} of task 'main'",
        f"  within {outer} of task 'main'",
    ]
    assert lines[-1] == "  in join()"
    arm = re.findall(r"^Task .*\n  in join\(\) of task 'inner child'(?:\n .*)*", text, re.MULTILINE)
    assert len(arm) == 1
    assert functions(arm[0].splitlines()) == ["wait"]


def held_by(tasks: list["asyncio.Task[None]"]) -> list[list[type]]:
    """The types of what each task refers to."""
    return [sorted(map(type, gc.get_referents(task)), key=repr) for task in tasks]


@pytest.mark.skipif(STOCK_TASKS, reason="only pinloop's tasks have contexts at rest")
def test_a_context_at_rest_stays_so(run: Any) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        async with pinloop.scope() as scope:
            tasks = [scope.spawn(wait(future)) for _ in range(100)]
            await turns()
            assert all(task.get_name() for task in tasks)  # which makes the names, as the dump does
            before = held_by(tasks)
            dump()
            assert held_by(tasks) == before
            future.set_result(None)

    run(main())


# ------------------------------------------------------------------------- what is odd --


def test_a_repr_that_fails_or_never_ends(run: Any) -> None:
    class Odd(asyncio.Future):  # type: ignore[type-arg]
        def __init__(self, text: str | None) -> None:
            super().__init__()
            self.text = text

        def __repr__(self) -> str:
            if self.text is None:
                raise ZeroDivisionError
            return self.text

    async def main() -> str:
        futures = [Odd(None), Odd("x" * 10_000)]
        tasks = [asyncio.create_task(wait(future), name=f"t{i}") for i, future in enumerate(futures)]
        await turns()
        text = dump()
        for future in futures:
            future.set_result(None)
        await asyncio.gather(*tasks)
        return text

    text = run(main())
    assert of_task(text, "t0")[0] == "Task 't0' waits for <Odd, whose repr raises ZeroDivisionError>"
    assert len(of_task(text, "t1")[0]) < 250


def test_a_stack_that_is_very_deep_is_cut(run: Any) -> None:
    async def descend(depth: int, future: "asyncio.Future[Any]") -> None:
        if depth:
            await descend(depth - 1, future)
        else:
            await future

    async def main() -> str:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(descend(150, future), name="deep")
        await turns()
        text = dump()
        future.set_result(None)
        await task
        return text

    assert of_task(run(main()), "deep")[-1] == "  ... and 51 more frames"


def test_a_loop_that_does_not_run(loop: asyncio.AbstractEventLoop) -> None:
    task = loop.create_task(turns(), name="later")
    text = dump(loop)
    assert "not running, tasks: 1" in text
    assert of_task(text, "later")[0] == "Task 'later' has not begun"
    loop.run_until_complete(task)
    assert "not running, tasks: 0" in dump(loop)


def test_what_is_written_goes_to_stderr(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        pinloop.dump_tasks()

    run(main())
    assert capsys.readouterr().err.startswith(f"Tasks of process {os.getpid()} on 2")


@pytest.mark.skipif(not ON_PINLOOP, reason="only pinloop's loops are found in other threads")
def test_all_loops_of_the_process_and_where_a_thread_is_blocked(loop_factory: Any) -> None:
    blocked, go_on = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        go_on.wait(10)

    async def blocker() -> None:
        block()

    async def main() -> None:
        await asyncio.create_task(blocker(), name="blocker")

    def work() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    try:
        blocked.wait(10)
        text = dump()
    finally:
        go_on.set()
        thread.join()
    assert "in thread 'worker', tasks: 2" in text
    lines = of_task(text, "blocker")
    assert lines[0] == "Task 'blocker' runs"
    assert functions(lines)[:2] == ["blocker", "block"]
    assert "wait" in functions(lines)
    assert "go_on.wait(10)" in "\n".join(lines)
    assert "Task 'blocker' runs" not in dump()


# ----------------------------------------------------------------------------- signals --


@pytest.fixture
def usr1() -> Iterator[None]:
    """Gives SIGUSR1 its handler back."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_dumps_while_a_callback_blocks_the_loop(run: Any, usr1: None) -> None:
    file = io.StringIO()
    assert pinloop.dump_on_signal(file=file) == signal.SIG_DFL

    def block() -> None:
        signal.raise_signal(signal.SIGUSR1)

    async def main() -> None:
        asyncio.current_task().set_name("main")  # type: ignore[union-attr]
        block()

    run(main())
    lines = of_task(file.getvalue(), "main")
    assert lines[0] == "Task 'main' runs"
    assert functions(lines) == ["main", "block"]


def test_a_signal_dumps_while_the_loop_sleeps(run: Any, usr1: None) -> None:
    file = io.StringIO()
    pinloop.dump_on_signal(signal.SIGUSR1, file)

    async def main() -> None:
        asyncio.current_task().set_name("main")  # type: ignore[union-attr]
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        while not file.getvalue():
            await asyncio.sleep(0.1)
        timer.join()

    run(main())
    assert functions(of_task(file.getvalue(), "main"))[-1] == "sleep"


def test_a_write_that_was_interrupted_by_the_signal(tmp_path: Any, usr1: None) -> None:
    class Interrupted(io.TextIOWrapper):
        def write(self, text: str) -> int:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with (tmp_path / "dump").open("wb") as raw:
        file = Interrupted(raw)
        pinloop.dump_tasks(file)
        file.detach()
    assert (tmp_path / "dump").read_text().startswith("Tasks of process")


def test_a_dump_that_fails_does_not_end_the_program(usr1: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    told: list[Any] = []
    monkeypatch.setattr(traceback, "print_exc", lambda file: told.append(sys.exc_info()[1]))
    pinloop.dump_on_signal(file=Full())
    signal.raise_signal(signal.SIGUSR1)
    assert [error.errno for error in told] == [28]


def test_what_is_no_signal_and_another_thread(usr1: None) -> None:
    with pytest.raises(ValueError, match="signal number out of range"):
        pinloop.dump_on_signal(10_000)
    with pytest.raises(OSError, match="Invalid argument"):
        pinloop.dump_on_signal(signal.SIGKILL)
    errors: list[BaseException] = []

    def install() -> None:
        try:
            pinloop.dump_on_signal()
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


PROGRAM = """
import asyncio, sys, time, pinloop
pinloop.dump_on_signal()

def compute():
    print("ready", flush=True)
    while True:
        time.sleep(0.01)

async def main():
    asyncio.create_task(asyncio.sleep(1000), name="sleeper")
    await asyncio.sleep(0)
    compute()

with asyncio.Runner(loop_factory=LOOP) as runner:
    runner.run(main())
"""


def test_kill_usr1_of_a_process_whose_loop_is_blocked() -> None:
    factory = "pinloop.new_event_loop" if ON_PINLOOP else "asyncio.new_event_loop"
    code = PROGRAM.replace("LOOP", factory)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            assert child.stdout.readline() == "ready\n"
            for _ in range(2):  # it goes on afterwards, and can be asked again
                child.send_signal(signal.SIGUSR1)
                text = ""
                while "Task 'sleeper'" not in text or not text.endswith("return await future\n"):
                    line = child.stderr.readline()
                    assert line
                    text += line
                assert f"Tasks of process {child.pid} on" in text
                assert "in compute" in text
        finally:
            child.kill()
