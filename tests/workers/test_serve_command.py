"""`python -m pinloop serve`: what it says, what signals do, and how it ends."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.workers.servings import ask, begin, refused, until_gone

ROOT = Path(__file__).parents[2]
APP = """
import os
async def handler(reader, writer):
    line = await reader.readline()
    if line == b"hang\\n":
        writer.write(b"hanging\\n")
        await reader.read()
    writer.write(f"{os.getpid()} WORD\\n".encode())
"""


class Command:
    """A running service, and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def says(self, pattern: str) -> re.Match[str]:
        """Read on until it says so, after what was looked for before."""
        assert self.process.stderr is not None
        async with asyncio.timeout(40):
            while not (found := re.search(pattern, self.said)):
                line = await self.process.stderr.readline()
                assert line, f"it ended, having said {self.said!r}"
                self.said += line.decode()
        self.said = self.said[found.end() :]
        return found

    async def ends(self) -> int:
        assert self.process.stderr is not None
        async with asyncio.timeout(40):
            self.said += (await self.process.stderr.read()).decode()
            return await self.process.wait()

    def send(self, number: int) -> None:
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def command(folder: Path, *arguments: str, cpus: set[int] | None = None) -> AsyncIterator[Command]:
    """The command in a folder; killed if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pinloop", "serve", *arguments),
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(ROOT)])},
        preexec_fn=None if cpus is None else lambda: os.sched_setaffinity(0, cpus),
    )
    try:
        yield Command(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


def write(folder: Path, word: str) -> None:
    (folder / "served.py").write_text(APP.replace("WORD", word))


ONE = ("served:handler", "--port", "0", "--workers", "1", "--placement", "none")


async def where(served: Command) -> tuple[tuple[str, int], list[int]]:
    """Its address and its workers."""
    found = await served.says(r"serving on \w+://([\d.]+):(\d+) with \d+ workers \(([\d, ]+)\)")
    return (found[1], int(found[2])), [int(pid) for pid in found[3].split(",")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_and_ends_well(run: Run, tmp_path: Path, number: int) -> None:
    write(tmp_path, "one")

    async def main() -> None:
        async with command(tmp_path, *ONE) as served:
            address, workers = await where(served)
            assert (await ask(address)) == f"{workers[0]} one"
            reader, writer = await begin(address, "hang")
            served.send(number)
            await refused(address)
            writer.write_eof()
            assert (await reader.read()) == b"%d one\n" % workers[0]
            assert await served.ends() == 0
            writer.close()
            await writer.wait_closed()
            await until_gone(workers[0])

    run(main())


def test_a_second_signal_cuts(run: Run, tmp_path: Path) -> None:
    write(tmp_path, "one")

    async def main() -> None:
        async with command(tmp_path, *ONE, "--grace", "1000") as served:
            address, workers = await where(served)
            reader, writer = await begin(address, "hang")
            served.send(signal.SIGTERM)
            await served.says("stopping: what is open has 1000 s to end")
            served.send(signal.SIGTERM)
            assert await reader.read() == b""
            assert await served.ends() == 0 and "what is open is cut" in served.said
            writer.close()
            await writer.wait_closed()
            await until_gone(workers[0])

    run(main())


def test_a_hangup_reloads_the_code(run: Run, tmp_path: Path) -> None:
    write(tmp_path, "one")

    async def main() -> None:
        path = tmp_path / "socket"
        async with command(tmp_path, "served:handler", "--unix", str(path), "-w", "1") as served:
            await served.says(f"serving on unix:{path}")
            assert (await ask(str(path))).endswith(" one")
            write(tmp_path, "other")
            served.send(signal.SIGHUP)
            await served.says("reloaded")
            assert (await ask(str(path))).endswith(" other")
            (tmp_path / "served.py").write_text("1/0")
            served.send(signal.SIGHUP)
            await served.says("the reload failed; the workers that were not replaced go on")
            await served.says("ZeroDivisionError")
            assert (await ask(str(path))).endswith(" other")
            served.send(signal.SIGTERM)
            assert await served.ends() == 0 and not path.exists()

    run(main())


@pytest.mark.parametrize("balance", ["reuseport", "shared", "acceptor"])
def test_a_parent_that_is_killed_takes_its_workers_along(run: Run, tmp_path: Path, balance: str) -> None:
    write(tmp_path, "one")

    async def main() -> None:
        arguments = ("served:handler", "--port", "0", "-w", "2", "--placement", "none", "--balance", balance)
        async with command(tmp_path, *arguments) as served:
            address, workers = await where(served)
            assert len(workers) == 2
            served.send(signal.SIGKILL)
            assert await served.ends() == -signal.SIGKILL
            for pid in workers:
                await until_gone(pid)
            await refused(address)

    run(main())


def test_signals_to_the_whole_group(run: Run, tmp_path: Path) -> None:
    """As a terminal sends them: it is the parent that says what becomes of the workers."""
    write(tmp_path, "one")

    async def main() -> None:
        async with command(tmp_path, *ONE) as served:
            address, workers = await where(served)
            for number in (signal.SIGHUP, signal.SIGTERM):
                for pid in workers:
                    os.kill(pid, number)
            assert await ask(address) == f"{workers[0]} one"
            served.send(signal.SIGINT)
            assert await served.ends() == 0

    run(main())


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this platform does not keep processes on CPUs"
)
def test_a_mask_of_one_cpu(run: Run, tmp_path: Path) -> None:
    write(tmp_path, "one")
    cpu = min(os.sched_getaffinity(0))

    async def main() -> None:
        async with command(tmp_path, "served:handler", "--port", "0", cpus={cpu}) as served:
            address, workers = await where(served)
            assert len(workers) == 1 and os.sched_getaffinity(workers[0]) == {cpu}
            assert (await ask(address)).endswith(" one")
            served.send(signal.SIGTERM)
            assert await served.ends() == 0
        async with command(tmp_path, "served:handler", "--port", "0", "-w", "2", cpus={cpu}) as served:
            assert await served.ends() == 2
            assert "2 workers need 2 CPUs, and this process is allowed 1" in served.said

    run(main())


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "required: module:attribute"),
        (["served:handler", "--balance", "luck"], 2, "invalid choice: 'luck'"),
        (["served"], 2, "pinloop serve: an app is named \"module:attribute\", not 'served'"),
        (
            ["nowhere:app", "--port", "0"],
            2,
            "pinloop serve: cannot serve 'nowhere:app': there is no module 'nowhere'",
        ),
        (
            ["served:nothing", "--port", "0"],
            2,
            "cannot serve 'served:nothing': 'served' has no attribute 'nothing'",
        ),
        (
            ["served:os", "--port", "0"],
            2,
            "cannot serve 'served:os': it is of type module, and cannot be called",
        ),
        (["broken:app", "--port", "0"], 1, "ZeroDivisionError"),
        (["imports:app", "--port", "0"], 1, "No module named 'not_there'"),
        (
            ["served:handler", "--host", "192.0.2.1", "--port", "80"],
            1,
            "cannot listen on 192.0.2.1:80: cannot assign",
        ),
        (["served:handler", "--port", "0", "--certfile", "none.pem"], 2, "No such file or directory"),
        (["served:handler", "--port", "0", "--workers", "0"], 2, "at least one worker, not 0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, arguments: list[str], status: int, says: str) -> None:
    write(tmp_path, "one")
    (tmp_path / "broken.py").write_text("1/0")
    (tmp_path / "imports.py").write_text("import not_there")
    ended = subprocess.run(
        [sys.executable, "-m", "pinloop", "serve", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, "")
    assert says in ended.stderr
    assert "pinloop/serving/service.py" not in ended.stderr  # its own inside is nobody's matter


def test_an_asgi_app_over_two_addresses(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn has no release for this Python")

    async def main() -> None:
        arguments = ("tests.workers.apps:application", "--asgi", "--host", "127.0.0.1", "--host", "::1")
        async with command(tmp_path, *arguments, "--port", "0", "-w", "1", "--log-level", "info") as served:
            found = await served.says(
                r"serving on http://127\.0\.0\.1:(\d+) http://\[::1\]:\1 with 1 workers"
            )
            for host in ("127.0.0.1", "::1"):
                reader, writer = await asyncio.open_connection(host, int(found[1]))
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
                await writer.wait_closed()
            served.send(signal.SIGTERM)
            assert await served.ends() == 0

    run(main())
