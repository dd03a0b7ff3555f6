"""loop.sendfile: a file through a transport."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from tests.api.sendfile import DATA, NoFd, Pair, as_it_is, kinds, part, parts, receive_all
from tests.api.support import ON_PINLOOP, Recorder, only_pinloop, turns
from tests.conftest import Run


async def connected(far: socket.socket, near: socket.socket) -> tuple[Any, Recorder, asyncio.Task[bytes]]:
    """A transport of `near`, its protocol, and a task that takes all that comes at `far`."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_accepted_socket(Recorder, near)
    return transport, protocol, loop.create_task(receive_all(far))


@kinds
@parts
def test_a_file_through_a_transport(
    run: Run, pair: Pair, file: IO[bytes], kind: Any, offset: int, count: int | None
) -> None:
    expected = part(offset, count)

    async def main() -> None:
        transport, protocol, receiving = await connected(*pair)
        sent = kind(file)
        transport.write(b"head")
        assert await asyncio.get_running_loop().sendfile(transport, sent, offset, count) == len(expected)
        transport.write(b"tail")
        transport.close()
        assert await receiving == b"head" + expected + b"tail"
        if expected or ON_PINLOOP:  # with nothing sent, some versions of asyncio leave the position alone
            assert sent.tell() == offset + len(expected)
        assert await protocol.lost is None

    run(main())


@kinds
def test_after_a_full_write_buffer(run: Run, pair: Pair, file: IO[bytes], kind: Any) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        protocol = Flow()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, near)
        head = bytes(8_000_000)
        transport.write(head)
        assert protocol.told == ["pause"]
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await turns(2)
        receiving = loop.create_task(receive_all(far))
        assert await task == len(DATA)
        transport.write(b"tail")
        transport.close()
        assert await receiving == head + DATA + b"tail"
        assert protocol.told[:2] == ["pause", "resume"]
        assert protocol.told.count("pause") == protocol.told.count("resume")
        await protocol.lost

    run(main())


class Flow(asyncio.Protocol):
    def __init__(self) -> None:
        self.told: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@kinds
def test_what_comes_meanwhile_is_delivered_afterwards(
    run: Run, pair: Pair, file: IO[bytes], kind: Any
) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        far.send(b"before")
        await protocol.receive(6)
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await turns(3)
        far.send(b"meanwhile")
        await turns(10)
        assert protocol.data == b"before"
        assert not transport.is_reading()
        assert transport.get_protocol() is protocol or kind is not as_it_is
        receiving = loop.create_task(receive_all(far))
        await task
        assert transport.is_reading()
        assert transport.get_protocol() is protocol
        assert await protocol.receive(15) == b"beforemeanwhile"
        transport.close()
        assert await receiving == DATA

    run(main())


def test_reading_that_was_paused_stays_paused(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        transport, _, receiving = await connected(*pair)
        transport.pause_reading()
        for sent in (file, NoFd(b"x")):
            await asyncio.get_running_loop().sendfile(transport, sent)
            assert not transport.is_reading()
        transport.close()
        assert await receiving == DATA + b"x"

    run(main())


def test_writing_meanwhile_is_refused(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        task = loop.create_task(loop.sendfile(transport, file))
        await turns(2)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.writelines([b"x"])
        receiving = loop.create_task(receive_all(far))
        await task
        transport.write(b"x")
        transport.close()
        assert await receiving == DATA + b"x"

    run(main())


@only_pinloop
def test_an_eof_meanwhile_comes_after_the_file(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        task = loop.create_task(loop.sendfile(transport, file))
        await turns(2)
        transport.write_eof()
        assert await receive_all(far) == DATA
        assert await task == len(DATA)
        transport.close()

    run(main())


@only_pinloop
def test_one_file_at_a_time(run: Run, pair: Pair, path: Path) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        with path.open("rb") as first, path.open("rb") as second:
            task = loop.create_task(loop.sendfile(transport, first))
            await turns(2)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                await loop.sendfile(transport, second)
            receiving = loop.create_task(receive_all(far))
            await task
            await loop.sendfile(transport, second)
        transport.close()
        assert await receiving == DATA + DATA

    run(main())


End = Callable[[Any, socket.socket], object]


@kinds
@pytest.mark.parametrize(
    "end",
    [
        lambda transport, far: transport.abort(),
        lambda transport, far: far.close(),
    ],
    ids=["abort", "peer"],
)
def test_the_connection_ends_in_the_middle(
    run: Run, pair: Pair, file: IO[bytes], kind: Any, end: End, request: pytest.FixtureRequest
) -> None:
    if not ON_PINLOOP and kind is as_it_is and "abort" in request.node.name:
        pytest.skip("asyncio leaves sendfile waiting for a socket that is closed")

    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await loop.sock_recv(far, 1000)
        await turns(20)
        end(transport, far)
        with pytest.raises(ConnectionError):
            await task
        transport.abort()
        await protocol.lost

    run(main())


@only_pinloop
def test_closing_with_a_file_under_way(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        _, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        task = loop.create_task(loop.sendfile(transport, file))
        await turns(2)
        transport.close()
        with pytest.raises(ConnectionError, match="Connection closed during sendfile"):
            await task
        await protocol.lost

    run(main())


@kinds
def test_cancelled_the_transport_goes_on(run: Run, pair: Pair, file: IO[bytes], kind: Any) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await turns(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.get_protocol() is protocol
        transport.write(b"tail")
        transport.close()
        got = await receive_all(far)
        assert got == DATA[: len(got) - 4] + b"tail"
        await protocol.lost

    run(main())


def test_transports_that_take_no_file(run: Run, file: IO[bytes]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        datagrams, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
            await loop.sendfile(datagrams, file)
        datagrams.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(datagrams, file)

    run(main())


def test_what_needs_a_fallback_that_is_not_wanted(run: Run, pair: Pair) -> None:
    async def main() -> None:
        transport, _, receiving = await connected(*pair)
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await asyncio.get_running_loop().sendfile(transport, NoFd(b"x"), fallback=False)
        transport.close()
        assert await receiving == b""

    run(main())


def test_other_tasks_run_meanwhile(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _, receiving = await connected(*pair)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = loop.create_task(tick())
        await loop.sendfile(transport, file)
        assert ticks > 5
        ticking.cancel()
        transport.close()
        assert await receiving == DATA

    run(main())
