"""examples/happy_eyeballs.py with names and addresses of this machine."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from examples import happy_eyeballs
from examples.happy_eyeballs import Address, connect, get, resolve
from tests.conftest import Run
from tests.examples.servers import http, output

V4, V6 = socket.AF_INET, socket.AF_INET6


async def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
    return 200, "", b"hello from " + path.encode()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Address]:
    async with http(answer) as url:
        yield V4, ("127.0.0.1", int(url.rpartition(":")[2]))


def refusing() -> Address:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return V4, sock.getsockname()


class Silent:
    """Stands in for `connect_one`, with addresses that never answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *silent: Address) -> None:
        self.silent = silent
        self.begun = self.ended = 0
        self.really = happy_eyeballs.connect_one
        monkeypatch.setattr(happy_eyeballs, "connect_one", self)

    async def __call__(self, address: Address) -> socket.socket:
        self.begun += 1
        try:
            if address in self.silent:
                await asyncio.Event().wait()
            return await self.really(address)
        finally:
            self.ended += 1


def test_the_first_that_answers_wins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    dead: Address = V4, ("127.0.0.1", 1)
    attempts = Silent(monkeypatch, dead)

    async def main() -> None:
        async with listening() as good:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            sock = await connect([dead, good, dead], delay=0.05)
            assert loop.time() - begun >= 0.05
            assert (sock.getpeername(), attempts.begun, attempts.ended) == (good[1], 2, 2)
            sock.close()

    run(main())


def test_after_a_failure_the_next_is_tried_at_once(run: Run) -> None:
    async def main() -> None:
        async with listening() as good, asyncio.timeout(30):
            sock = await connect([refusing(), refusing(), good], delay=3600)
            assert sock.getpeername() == good[1]
            sock.close()

    run(main())


def test_when_all_fail_all_errors_are_told(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup, match="no address") as caught:
            await connect([refusing(), refusing()])
        assert len(caught.value.exceptions) == 2
        assert caught.group_contains(ConnectionRefusedError)
        with pytest.raises(ValueError, match="no address"):
            await connect([])

    run(main())


@pytest.mark.parametrize("turns", range(8))
def test_cancelled_it_leaves_nothing(turns: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    dead: Address = V4, ("127.0.0.1", 1)
    attempts = Silent(monkeypatch, dead)

    async def main() -> None:
        async with listening() as good:
            task = asyncio.ensure_future(connect([dead, good], delay=0))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task).close()
            assert attempts.begun == attempts.ended

    run(main())  # a socket that is left is a ResourceWarning, and so an error


def stub_lookups(loop: asyncio.AbstractEventLoop, answers: dict[Any, Any]) -> None:
    """Look-ups that take their seconds and give their addresses, by family."""

    async def getaddrinfo(host: str, port: int, *, family: int, type: int) -> list[Any]:
        seconds, found = answers[family]
        await asyncio.sleep(seconds)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(family, type, 6, "", (name, port)) for name in found]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("six", "four", "expected"),
    [
        ((0, ["a", "b", "c"]), (0, ["x"]), "axbc"),
        ((0.01, ["a"]), (0, ["x", "y"]), "axy"),  # within the time that IPv6 is given
        ((60, ["a"]), (0, ["x", "y"]), "xy"),
        ((0, ["a"]), (60, ["x"]), "a"),
        ((0, None), (0.1, ["x"]), "x"),  # a failure is no answer
        ((0.1, ["a"]), (0, None), "a"),
    ],
)
def test_the_families_take_turns(six: Any, four: Any, expected: str, run: Run) -> None:
    async def main() -> None:
        stub_lookups(asyncio.get_running_loop(), {V6: six, V4: four})
        found = await resolve("name", 80)
        assert "".join(address[1][0] for address in found) == expected

    run(main())


def test_a_name_that_nobody_knows(run: Run) -> None:
    async def main() -> None:
        stub_lookups(asyncio.get_running_loop(), {V6: (0, None), V4: (0, None)})
        with pytest.raises(socket.gaierror):
            await resolve("name", 80)

    run(main())


def test_get(run: Run) -> None:
    async def main() -> None:
        async with http(answer) as url:
            assert await get(url + "/page") == ("127.0.0.1", 200, b"hello from /page")

    run(main())


def test_as_a_program(run: Run) -> None:
    async def main() -> None:
        async with http(answer) as url:
            assert await output("happy_eyeballs.py", url) == "127.0.0.1 answered 200 with 12 bytes\n"

    run(main())
