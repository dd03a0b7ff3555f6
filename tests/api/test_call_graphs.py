"""What looks into tasks finds those of a pinloop loop: call graphs, and tools that read asyncio's structs."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, environment

if sys.version_info < (3, 14):
    pytest.skip("asyncio looks into tasks from 3.14 on", allow_module_level=True)

import asyncio.tools

PROGRAM = """
import asyncio, sys

async def inner():
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(inner(), name="the inner one")
"""
RUN = {
    # The tools read the memory of asyncio's own classes.
    True: """
import pinloop
with asyncio.Runner(loop_factory=lambda: pinloop.new_event_loop(tasks="asyncio")) as runner:
    runner.run(main())
""",
    False: "asyncio.run(main())",
}


def test_the_call_graph_of_a_task_names_who_waits_for_it(run: Any) -> None:
    async def inner() -> str:
        return asyncio.format_call_graph()

    async def main() -> str:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(inner(), name="the inner one")
        return task.result()

    text = run(main())
    assert "the inner one" in text
    assert "Awaited by" in text
    assert "main()" in text


def test_the_tasks_of_another_process() -> None:
    command = [sys.executable, "-c", PROGRAM + RUN[ON_PINLOOP]]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            try:
                rows = asyncio.tools.build_task_table(asyncio.tools.get_all_awaited_by(child.pid))
            except (PermissionError, RuntimeError) as exc:
                pytest.skip(f"this system does not let one process look into another: {exc}")
        finally:
            child.communicate(timeout=10)
    names = {row[2]: row for row in rows}
    assert "the inner one" in names
    assert "main" in str(names["the inner one"])  # who waits for it
    assert child.returncode == 0
