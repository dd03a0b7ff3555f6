"""Workers that are processes: how they start, and what of the parent they have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pinloop
from pinloop.workers import process
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import children, pool_of


def script(tmp_path: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    command = [sys.executable, *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


MAIN = """
import asyncio, sys
import pinloop

LIMIT = 3

class Point:
    def __init__(self, x): self.x = x

async def moved(point):
    return Point(point.x + LIMIT)

async def main():
    async with pinloop.Workers(1, "process", None) as pool:
        point = await pool.run(moved, Point(4))
        print(type(point) is Point, point.x, await pool.run(flags))

def flags():
    return sys.flags.optimize, sys.argv[1:], __name__

if __name__ == "__main__":
    {run}(main())
"""


@pytest.mark.parametrize("run", ["pinloop.run", "asyncio.run"])
def test_functions_of_the_main_module(tmp_path: Path, run: str) -> None:
    done = script(tmp_path, MAIN.format(run=run), "-O")
    assert done.stdout == "True 7 (1, [], '__mp_main__')\n", done.stderr
    slow = "Executing "  # what debug mode says of a step that took long: it imports
    assert not [line for line in done.stderr.splitlines() if not line.startswith(slow)]


def test_a_main_module_that_is_not_guarded(tmp_path: Path) -> None:
    text = MAIN.format(run="pinloop.run").replace('if __name__ == "__main__":', "if True:")
    done = script(tmp_path, text)
    assert done.returncode == 1
    assert "WorkerCrashed: worker 0 exited with code 1 before it was ready" in done.stderr
    assert "before the\n        current process has finished its bootstrapping phase" in done.stderr


def test_from_a_command_line(tmp_path: Path) -> None:
    code = """
import asyncio, os, pinloop
async def main():
    async with pinloop.Workers(1, "process", None) as pool:
        print(await pool.run(os.getpid) != os.getpid())
pinloop.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_there_are_no_processes_but_the_workers(run: Run) -> None:
    async def main() -> None:
        before = children()
        async with pool_of(2) as pool:
            assert children() - before == {worker.pid for worker in pool} or not children()
            assert await pool[0].run(os.getppid) == os.getpid()
            assert await pool[0].run(jobs.stdin_is_empty)
            assert await pool[0].run(jobs.process_name) == "pinloop-worker-0"

    run(main())


def test_where_there_is_no_memfd(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)

    async def main() -> None:
        async with pool_of(1) as pool:
            assert await pool.run(jobs.echo, bytes(1_000_000)) == bytes(1_000_000)

    run(main())


def test_how_a_process_ended_in_words() -> None:
    assert process.how_it_ended(0) == "exited with code 0"
    assert process.how_it_ended(-11) == "was killed by SIGSEGV"
    assert process.how_it_ended(-100) == "was killed by signal 100"


def test_when_none_can_be_started(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import spawn

    monkeypatch.setattr(spawn, "get_executable", lambda: "/nowhere/python")

    async def main() -> None:
        async with pool_of(2):
            raise AssertionError("it cannot be up")

    with pytest.raises(FileNotFoundError, match="/nowhere/python"):
        run(main())


def test_importing_pinloop_leaves_workers_out() -> None:
    names = "('pinloop.workers', 'multiprocessing')"
    code = f"import sys, pinloop; print([m for m in sys.modules if m.startswith({names})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert pinloop.Workers is pinloop.workers.Workers
    assert {"Workers", "workers", "Restart"} <= set(dir(pinloop))
    with pytest.raises(AttributeError, match="no attribute 'Worker5'"):
        pinloop.Worker5  # noqa: B018
