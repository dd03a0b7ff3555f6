"""examples/sharded_cache.py: keys that stay with their worker, also when one is killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from examples import sharded_cache
from pinloop import Workers
from tests.conftest import Run
from tests.examples.servers import client, command, served


@contextlib.asynccontextmanager
async def cache(most: int = 100) -> AsyncIterator[tuple[Workers, int]]:
    async with (
        Workers(2, placement=None, setup=partial(sharded_cache.Shard, most)) as pool,
        served(lambda listener: sharded_cache.serve(listener, pool)) as port,
    ):
        yield pool, port


def test_what_is_set_is_there_for_all_until_it_is_deleted(run: Run, no_fd_leak: None) -> None:
    async def main() -> None:
        async with cache() as (pool, port), client(port) as one, client(port) as other:
            for key in range(20):
                assert await one(f"set key{key} value {key}") == "OK"
            for key in range(20):
                assert await other(f"get key{key}") == f"VALUE value {key}"
            owned = [pool.for_key(f"key{key}").index for key in range(20)]
            assert await one("stats") == f"VALUE 0: {owned.count(0)} keys; 1: {owned.count(1)} keys"
            assert 0 < owned.count(0) < 20
            assert await other("del key7") == "OK"
            assert await one("get key7") == "NONE"
            assert await one("del key7") == "NONE"

    run(main())


def test_additions_at_once_all_count(run: Run) -> None:
    async def add(port: int) -> None:
        async with client(port) as ask:
            for _ in range(50):
                assert (await ask("add visits 2")).startswith("VALUE ")

    async def main() -> None:
        async with cache() as (_, port):
            await asyncio.gather(*(add(port) for _ in range(4)))
            async with client(port) as ask:
                assert await ask("get visits") == "VALUE 400"

    run(main())


def test_the_keys_used_last_are_kept(run: Run) -> None:
    async def main() -> None:
        async with cache(most=2) as (pool, port), client(port) as ask:
            a, b, c = [key for key in map(str, range(50)) if pool.for_key(key).index == 0][:3]
            for key in (a, b):
                await ask(f"set {key} x")
            await ask(f"get {a}")
            await ask(f"set {c} x")
            assert [await ask(f"get {key}") for key in (a, b, c)] == ["VALUE x", "NONE", "VALUE x"]

    run(main())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("what", "ERROR get KEY"),
        ("set key", "ERROR get KEY"),
        ("", "ERROR get KEY"),
        ("add key much", "ERROR invalid literal"),
    ],
)
def test_what_is_wrong_is_told(run: Run, line: str, said: str) -> None:
    async def main() -> None:
        async with cache() as (_, port), client(port) as ask:
            assert (await ask(line)).startswith(said)
            assert await ask("set key 1") == "OK"  # and it goes on

    run(main())


def test_a_worker_that_is_killed_loses_its_keys_alone(run: Run) -> None:
    async def main() -> None:
        async with cache() as (pool, port), client(port) as ask:
            lost, kept = (
                next(key for key in map(str, range(50)) if pool.for_key(key).index == index)
                for index in (0, 1)
            )
            for key in (lost, kept):
                await ask(f"set {key} x")
            pid = pool[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            assert await ask(f"get {lost}") in ("NONE", "VALUE x")  # repeated where the signal came first
            while pool[0].restarts == 0:
                await asyncio.sleep(0.01)
            assert await ask(f"get {lost}") == "NONE"
            assert await ask(f"get {kept}") == "VALUE x"

    run(main())


def test_as_a_program(run: Run) -> None:
    async def main() -> None:
        process: Any = await asyncio.create_subprocess_exec(
            *command("sharded_cache.py", "0", "--workers", "1"), stdout=subprocess.PIPE
        )
        port = int((await process.stdout.readline()).split()[-1])
        async with client(port) as ask:
            assert await ask("set tea hot and sweet") == "OK"
            assert await ask("get tea") == "VALUE hot and sweet"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0

    run(main())
