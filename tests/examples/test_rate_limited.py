"""examples/rate_limited.py against a server that counts."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import rate_limited
from tests.conftest import Run
from tests.examples.servers import http, output


class Server:
    """Takes records; refuses the requests whose number is in `refuses`."""

    def __init__(self, refuses: dict[int, tuple[int, str]] | None = None) -> None:
        self.refuses = refuses or {}
        self.records: list[int] = []
        self.times: list[float] = []
        self.running = self.most = 0

    async def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        self.times.append(asyncio.get_running_loop().time())
        refusal = self.refuses.get(len(self.times) - 1)
        if refusal is not None:
            return (*refusal, b"")
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.005)
        self.running -= 1
        self.records += [json.loads(line) for line in body.splitlines()]
        return 204, "", b""


def test_all_records_arrive_and_no_faster_than_allowed(run: Run) -> None:
    server = Server()

    async def main() -> None:
        async with http(server.answer) as url:
            assert await rate_limited.deliver(range(95), url, rate=3, per=0.1, batch=10, at_once=2) == 95

    run(main())
    assert sorted(server.records) == list(range(95))
    assert len(server.times) == 10
    assert server.most <= 2
    # The server sees a request a moment after it was sent.
    assert all(late - early > 0.1 * 0.8 for early, late in zip(server.times, server.times[3:], strict=False))


def test_a_batch_that_is_put_off_is_sent_again_after_its_time(run: Run) -> None:
    server = Server({1: (429, "Retry-After: 0.2\r\n"), 2: (503, "Retry-After: 0\r\n")})

    async def main() -> None:
        async with http(server.answer) as url:
            assert await rate_limited.deliver(range(30), url, 100, batch=10, at_once=1) == 30

    run(main())
    assert sorted(server.records) == list(range(30))
    assert len(server.times) == 5
    assert server.times[2] - server.times[1] >= 0.19


@pytest.mark.parametrize(
    ("refuses", "says"),
    [
        ({0: (404, "")}, "answered 404"),
        (dict.fromkeys(range(100), (429, "Retry-After: 0\r\n")), "put off 5 times"),
    ],
)
def test_a_refusal_ends_it_and_nothing_more_is_read(
    refuses: dict[int, tuple[int, str]], says: str, run: Run
) -> None:
    server = Server(refuses)
    read = 0

    def records() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async def main() -> None:
        async with http(server.answer) as url:
            with pytest.raises(rate_limited.Refused, match=says):
                await rate_limited.deliver(records(), url, 1000, batch=10, at_once=1)

    run(main())
    assert server.records == []
    assert read <= 20


def test_as_a_program(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("".join(f"{n}\n" for n in range(25)))
    server = Server()

    async def main() -> None:
        async with http(server.answer) as url:
            printed = await output("rate_limited.py", str(file), url, "--batch", "10", "--rate", "50")
            assert printed == "25 records sent\n"

    run(main())
    assert sorted(server.records) == list(range(25))
