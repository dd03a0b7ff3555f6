"""examples/chat.py with clients that talk, listen, lag and break off."""

import asyncio
import contextlib
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest

from examples import chat
from tests.conftest import Run
from tests.examples.servers import command


class Client:
    """Somebody at the other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def hear(self) -> str:
        return (await self.reader.readline()).decode().rstrip("\n")

    def say(self, text: str) -> None:
        self.writer.write(f"{text}\n".encode())


@contextlib.asynccontextmanager
async def open_room(kept: int = 100) -> AsyncIterator[tuple[int, chat.Room]]:
    room = chat.Room(kept)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        task = asyncio.create_task(chat.serve(listener, room))
        try:
            yield listener.getsockname()[1], room
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def client(port: int, name: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    found = Client(reader, writer)
    assert await found.hear() == "* your name?"
    found.say(name)
    try:
        yield found
    finally:
        writer.close()


def test_what_one_says_all_others_get_in_one_order(run: Run) -> None:
    async def main() -> None:
        async with open_room() as (port, _), client(port, "ann") as ann:
            assert await ann.hear() == "* welcome, ann; here: ann"
            async with client(port, "bob") as bob:
                assert await bob.hear() == "* welcome, bob; here: ann, bob"
                assert await ann.hear() == "* bob is here"
                async with client(port, "eve") as eve:
                    assert await eve.hear() == "* welcome, eve; here: ann, bob, eve"
                    assert [await ann.hear(), await bob.hear()] == ["* eve is here"] * 2
                    for n in range(50):
                        ann.say(f"a{n}")
                        bob.say(f"b{n}")
                    heard = [await eve.hear() for _ in range(100)]
                    assert [line for line in heard if line.startswith("ann")] == [
                        f"ann: a{n}" for n in range(50)
                    ]
                    assert [await ann.hear() for _ in range(50)] == [f"bob: b{n}" for n in range(50)]
                    assert [await bob.hear() for _ in range(50)] == [f"ann: a{n}" for n in range(50)]
                    eve.say("/who")
                    assert await eve.hear() == "* here: ann, bob, eve"
                    eve.say("/quit")
                    assert await eve.hear() == ""
                assert [await ann.hear(), await bob.hear()] == ["* eve has left"] * 2

    run(main())


def test_a_name_that_will_not_do(run: Run) -> None:
    async def main() -> None:
        async with open_room() as (port, room), client(port, "ann") as ann:
            assert "welcome" in await ann.hear()
            for name, says in ("ann", "* ann is here already"), ("", "* a name has 1 to 20 characters"):
                async with client(port, name) as other:
                    assert [await other.hear(), await other.hear()] == [says, ""]
            assert room.names == {"ann"}

    run(main())


@pytest.mark.parametrize("how", ["breaks off", "says too much"])
def test_a_client_that_goes_wrong_leaves_the_others_alone(how: str, run: Run) -> None:
    async def main() -> None:
        async with open_room() as (port, room), client(port, "ann") as ann:
            assert "welcome" in await ann.hear()
            async with client(port, "bob") as bob:
                assert "welcome" in await bob.hear()
                assert await ann.hear() == "* bob is here"
                if how == "breaks off":
                    bob.writer.transport.abort()
                else:
                    bob.writer.write(b"x" * 100_000)
                assert await ann.hear() == "* bob has left"
            assert room.names == {"ann"}

    run(main())


def test_a_slow_client_misses_lines_and_is_told(run: Run) -> None:
    async def main() -> None:
        async with open_room(kept=5) as (port, room), client(port, "ann") as ann:
            assert "welcome" in await ann.hear()
            line = "x" * 100_000
            for _ in range(300):  # more than the system keeps for a client that does not read
                room.say("bob", line)
                await asyncio.sleep(0)
            room.say("bob", "the end")
            heard = ""
            lines = missed = 0
            while heard != "bob: the end":
                data = await ann.reader.readuntil(b"\n")
                heard = data.decode().rstrip("\n")
                if heard.startswith("* you have missed"):
                    missed += int(heard.split()[4])
                else:
                    lines += 1
            assert missed > 0
            assert lines + missed == 301

    run(main())


def test_as_a_program(run: Run) -> None:
    async def main() -> None:
        process: Any = await asyncio.create_subprocess_exec(*command("chat.py", "0"), stdout=subprocess.PIPE)
        port = int((await process.stdout.readline()).split()[-1])
        async with client(port, "ann") as ann, client(port, "bob") as bob:
            assert "welcome" in await bob.hear()
            bob.say("hello")
            while await ann.hear() != "bob: hello":
                pass
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0

    run(main())
