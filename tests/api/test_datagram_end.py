"""How datagram endpoints close, and what they do with a full receiver, as a user of asyncio sees it."""

import asyncio
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.datagrams import Datagrams, address_of, end, endpoint, name_of
from tests.api.support import turns
from tests.conftest import Run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for the address of a Unix socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# -------------------- closing --


def test_close_sends_what_was_written(run: Run) -> None:
    async def main() -> None:
        receiver, got = await endpoint(local=("127.0.0.1", 0))
        sender, protocol = await endpoint(remote=address_of(receiver))
        for number in range(100):
            sender.sendto(b"%d" % number)
        sender.close()
        assert sender.is_closing()
        assert await protocol.lost is None
        assert [await got.next_data() for _ in range(100)] == [b"%d" % number for number in range(100)]
        await end(receiver)

    run(main())


def test_after_close_nothing_is_sent_or_received(run: Run) -> None:
    async def main() -> None:
        receiver, got = await endpoint(local=("127.0.0.1", 0))
        sender, protocol = await endpoint(remote=address_of(receiver))
        sender.close()
        sender.sendto(b"late")
        receiver.sendto(b"too late", name_of(sender))
        assert await protocol.lost is None
        sender.close()
        sender.abort()
        await turns(3)
        assert got.got.empty()
        assert protocol.got.empty()
        assert protocol.told == ["made", "lost"]
        await end(receiver)

    run(main())


def test_abort(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(local=("127.0.0.1", 0))
        transport.abort()
        assert transport.is_closing()
        assert await protocol.lost is None
        assert protocol.told == ["made", "lost"]

    run(main())


def test_closing_in_a_callback(run: Run) -> None:
    class Once(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    async def main() -> None:
        transport, protocol = await endpoint(Once, ("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for number in range(20):
                sock.sendto(b"%d" % number, name_of(transport))
        assert await protocol.lost is None
        assert await protocol.next_data() == b"0"
        assert protocol.got.empty()

    run(main())


def test_a_cancelled_maker_leaves_nothing_open(run: Run) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(endpoint(local=("127.0.0.1", 0)))
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(3)

    run(main())


# -------------------- flow control --


def test_a_paused_reader_hears_later_and_in_order(run: Run) -> None:
    class Pausing(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if int(data) % 20 == 15:
                self.transport.pause_reading()

    async def main() -> None:
        transport, protocol = await endpoint(Pausing, ("127.0.0.1", 0))
        sender, _ = await endpoint(remote=address_of(transport))
        reader: Any = transport  # the methods are asyncio's, its types leave them out
        assert reader.is_reading()
        reader.pause_reading()
        for number in range(100):
            sender.sendto(b"%d" % number)
        await turns(20)
        assert protocol.got.empty()
        heard = []
        for _ in range(6):
            assert not reader.is_reading()
            reader.resume_reading()
            assert reader.is_reading()
            heard.append(await protocol.next_data())
            while len(heard) < 100 and int(heard[-1]) % 20 != 15:
                heard.append(await protocol.next_data())
            await turns(3)
            assert protocol.got.empty()
        assert heard == [b"%d" % number for number in range(100)]
        reader.pause_reading()
        await end(transport, sender)
        reader.resume_reading()
        assert not reader.is_reading()

    run(main())


def test_the_limits_of_the_write_buffer(run: Run) -> None:
    async def main() -> None:
        transport, _ = await endpoint(local=("127.0.0.1", 0))
        buffer: Any = transport  # the methods are asyncio's, its types leave them out
        assert buffer.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        buffer.set_write_buffer_limits(high=1000)
        assert buffer.get_write_buffer_limits() == (250, 1000)
        buffer.set_write_buffer_limits(low=10)
        assert buffer.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match="must be >="):
            buffer.set_write_buffer_limits(high=1, low=2)
        assert buffer.get_write_buffer_size() == 0
        await end(transport)

    run(main())


def full_unix_queue(folder: Path) -> tuple[socket.socket, str]:
    """A bound Unix datagram socket that nobody reads from."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(folder / "full")
    sock.bind(path)
    sock.setblocking(False)
    return sock, path


@pytest.mark.parametrize("connected", [True, False])
def test_a_full_receiver_pauses_the_writer_and_loses_nothing(run: Run, folder: Path, connected: bool) -> None:
    async def main() -> None:
        sock, path = full_unix_queue(folder)
        with sock:
            sender, protocol = await endpoint(family=socket.AF_UNIX, remote=path if connected else None)
            buffer: Any = sender
            buffer.set_write_buffer_limits(high=1000, low=100)
            sent = 0
            while protocol.told[-1] != "pause":
                sender.sendto(b"%06d" % sent, None if connected else path)
                sent += 1
                await turns(1)
                assert sent < 100_000
            header = 8 if sys.version_info >= (3, 13) else 0
            assert buffer.get_write_buffer_size() > 1000
            assert buffer.get_write_buffer_size() % (6 + header) == 0
            got = 0
            while got < sent:
                try:
                    assert sock.recv(100) == b"%06d" % got
                    got += 1
                except BlockingIOError:
                    await turns(1)
            await turns(2)
            if sys.version_info[:2] != (3, 13):  # 3.13.0's own count never came back to zero
                assert protocol.told == ["made", "pause", "resume"]
                assert buffer.get_write_buffer_size() == 0
            await end(sender)

    run(main())


def test_close_waits_for_a_full_receiver(run: Run, folder: Path) -> None:
    async def main() -> None:
        sock, path = full_unix_queue(folder)
        with sock:
            sender, protocol = await endpoint(family=socket.AF_UNIX, remote=path)
            for number in range(2000):
                sender.sendto(b"%d" % number)
            sender.close()
            await turns(5)
            assert not protocol.lost.done()
            for number in range(2000):
                while True:
                    try:
                        assert sock.recv(100) == b"%d" % number
                        break
                    except BlockingIOError:
                        await turns(1)
            assert await protocol.lost is None

    run(main())
