"""examples/scatter_gather.py over a real cluster, one worker of which is killed, or stopped."""

import asyncio
import multiprocessing.resource_tracker
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import scatter_gather
from pinloop import Workers
from pinloop.workers import Restart
from tests.conftest import Run
from tests.examples.servers import command
from tests.workers.clusters import cluster_of
from tests.workers.conftest import needs_dask

pytestmark = needs_dask

WORDS = ["call", "me", "Ishmael", "some", "years", "ago", "never", "mind", "how", "long", "having", "money"]
LINES = [" ".join(random.Random(i).choices(WORDS, k=6)) for i in range(5000)]


def expected(question: str, count: int = 5) -> list[scatter_gather.Hit]:
    words = set(question.casefold().split())
    rated = [(len(words & set(line.casefold().split())), -i, line) for i, line in enumerate(LINES, 1)]
    return sorted((hit for hit in rated if hit[0]), reverse=True)[:count]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    multiprocessing.resource_tracker.ensure_running()
    with cluster_of(2, tmp_path_factory.mktemp("dask")) as address:
        yield address


def test_the_best_lines_of_all_workers_also_when_one_is_killed(run: Run, address: str) -> None:
    async def main() -> None:
        async with Workers(2, "dask", address=address, setup=dict, restart=Restart(100)) as pool:
            index = scatter_gather.Index(pool, LINES)
            await index.scatter()
            assert await index.ask("Ishmael money") == (expected("Ishmael money"), [])
            asked = [asyncio.create_task(index.ask(question, patience=50)) for question in WORDS]
            while not pool[1].calls:
                await asyncio.sleep(0)
            assert pool[1].pid is not None
            os.kill(pool[1].pid, signal.SIGKILL)
            assert [await one for one in asked] == [(expected(question), []) for question in WORDS]
            assert pool[1].restarts == 1

    run(main())


def test_one_that_does_not_answer_is_left_out(run: Run, address: str) -> None:
    async def main() -> None:
        async with Workers(2, "dask", address=address, setup=dict, heartbeat=0.5) as pool:
            index = scatter_gather.Index(pool, LINES)
            await index.scatter()
            pid = pool[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                hits, missing = await index.ask("money", patience=0.2)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert missing == [0]
            assert {-number % 2 for _, number, _ in hits} == {0}  # the lines of worker 1
            assert await index.ask("money") == (expected("money"), [])

    run(main())


def test_as_a_program(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("\n".join(LINES))
    done = subprocess.run(
        command("scatter_gather.py", str(file), "Ishmael money", "whale", "--workers", "1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [f"  {rank} {-number}: {line}" for rank, number, line in expected("Ishmael money")]
    assert (done.stdout.splitlines(), done.stderr) == (
        ["Ishmael money: 5 lines", *lines, "whale: 0 lines"],
        "",
    )
