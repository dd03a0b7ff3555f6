"""examples/hashing_service.py: stamps are found on all cores, and no search outlives its request."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest

from examples import hashing_service
from pinloop import Workers
from tests.conftest import Run
from tests.examples.servers import client, command, served


@contextlib.asynccontextmanager
async def service(patience: float = 60) -> AsyncIterator[tuple[Workers, int]]:
    async with (
        Workers(2, placement=None) as pool,
        served(lambda listener: hashing_service.serve(listener, pool, patience)) as port,
    ):
        yield pool, port


def test_stamps_are_found_and_no_search_goes_on(run: Run, no_fd_leak: None) -> None:
    async def stamp(port: int, text: str) -> None:
        async with client(port) as ask:
            word, number = (await ask(f"stamp 12 {text}")).split()
            assert word == "STAMP"
            assert hashing_service.stamped(text.encode(), int(number), 12)
            assert await ask(f"check 12 {number} {text}") == "YES"
            assert await ask(f"check 12 {number} another {text}") == "NO"

    async def main() -> None:
        async with service() as (pool, port):
            await asyncio.gather(*(stamp(port, f"a text {i}") for i in range(5)))
            assert [worker.calls for worker in pool] == [0, 0]

    run(main())


def test_the_search_of_each_core_is_its_own() -> None:
    # Of all numbers that will do, each is found by one worker only.
    async def main() -> list[int]:
        return [await hashing_service.search(b"text", 6, first, 2) for first in (0, 1)]

    even, odd = asyncio.run(main())
    assert (even % 2, odd % 2) == (0, 1)
    assert min(even, odd) == next(n for n in range(10_000) if hashing_service.stamped(b"text", n, 6))


def test_the_deadline_ends_the_searches(run: Run) -> None:
    async def main() -> None:
        async with service(patience=0.2) as (pool, port), client(port) as ask:
            assert await ask("stamp 64 never") == "ERROR no stamp within 0.2 seconds"
            assert [worker.calls for worker in pool] == [0, 0]
            assert (await ask("stamp 1 soon")).startswith("STAMP ")

    run(main())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("what", "ERROR stamp BITS TEXT"),
        ("stamp", "ERROR stamp BITS TEXT"),
        ("stamp many text", "ERROR invalid literal"),
        ("stamp 65 text", "ERROR a stamp has 0 to 64 bits, not 65"),
        ("check 3 text", "ERROR not enough values"),
    ],
)
def test_what_is_wrong_is_told(run: Run, line: str, said: str) -> None:
    async def main() -> None:
        async with service() as (_, port), client(port) as ask:
            assert (await ask(line)).startswith(said)

    run(main())


def test_a_worker_that_is_killed_is_told_of(run: Run) -> None:
    async def main() -> None:
        async with service() as (pool, port), client(port) as ask:
            stamping = asyncio.ensure_future(ask("stamp 64 never"))
            while [worker.calls for worker in pool] != [1, 1]:
                await asyncio.sleep(0.01)
            assert pool[0].pid is not None
            os.kill(pool[0].pid, signal.SIGKILL)
            assert (await stamping).startswith("ERROR worker 0 was killed by SIGKILL while ")
            assert pool[1].calls == 0
            assert (await ask("stamp 1 soon")).startswith("STAMP ")

    run(main())


def test_as_a_program(run: Run) -> None:
    async def main() -> None:
        process: Any = await asyncio.create_subprocess_exec(
            *command("hashing_service.py", "0", "--workers", "1"), stdout=subprocess.PIPE
        )
        port = int((await process.stdout.readline()).split()[-1])
        async with client(port) as ask:
            assert (await ask("stamp 8 as a program")).startswith("STAMP ")
            forever = asyncio.ensure_future(ask("stamp 64 never"))
            await asyncio.sleep(0)
            process.send_signal(signal.SIGINT)  # ends it, searches and all
            assert await process.wait() == 0
            with contextlib.suppress(ConnectionError):  # where it had not read that yet
                assert await forever == ""

    run(main())
