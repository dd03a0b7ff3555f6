"""asyncio's streams on this loop, end to end."""

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.api.support import Recorder, tcp_pair, this_task

Run = Callable[..., Any]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def connected_to(handler: Handler, host: str = "127.0.0.1", **options: Any) -> AsyncIterator[Pair]:
    """Both ends of a connection to a server whose connections `handler` handles."""
    async with serving(handler, host, **options) as address:
        reader, writer = await asyncio.open_connection(*address, **options)
        try:
            yield reader, writer
        finally:
            with contextlib.suppress(OSError):
                await hang_up(writer)


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, host: str = "127.0.0.1", **options: Any
) -> AsyncIterator[tuple[str, int]]:
    """The address of a server; at the end every handler is done, and did not fail."""
    tasks: list[asyncio.Task[Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(this_task())
        try:
            await handler(reader, writer)
        finally:
            with contextlib.suppress(OSError):
                await hang_up(writer)

    server = await asyncio.start_server(handle, host, 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[:2]
        await asyncio.gather(*tasks)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


# --------------------------------------------------------------------------- both ways --


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_written_is_read(run: Run, host: str) -> None:
    async def main() -> bytes:
        async with connected_to(echo, host) as (reader, writer):
            writer.write(b"hello\n")
            return await reader.readline()

    assert run(main()) == b"hello\n"


@pytest.mark.parametrize("size", [1, 1000, 65_535, 65_536, 65_537, 1_000_000, 20_000_000])
def test_a_transfer_of_any_size_comes_back_whole(run: Run, size: int) -> None:
    data = random.Random(size).randbytes(size)

    async def main() -> bytes:
        async with connected_to(echo) as (reader, writer):

            async def send() -> None:
                writer.write(data)
                await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            echoed = await reader.read()
            await sending
            return echoed

    assert hashlib.sha256(run(main())).digest() == hashlib.sha256(data).digest()


def test_many_writes_of_many_sizes_arrive_in_order(run: Run) -> None:
    chance = random.Random(7)
    pieces = [chance.randbytes(chance.choice([0, 1, 10, 1000, 30_000, 70_000])) for _ in range(400)]

    async def main() -> bytes:
        async with connected_to(echo) as (reader, writer):

            async def send() -> None:
                for piece in pieces:
                    writer.write(chance.choice([bytes, bytearray, memoryview])(piece))
                    if chance.random() < 0.3:
                        await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            echoed = await reader.read()
            await sending
            return echoed

    assert run(main()) == b"".join(pieces)


def test_writelines_arrives_in_order(run: Run) -> None:
    pieces = [bytes([n]) * n * 37 for n in range(256)]

    async def main() -> bytes:
        async with connected_to(echo) as (reader, writer):
            writer.writelines(pieces)
            writer.write_eof()
            return await reader.read()

    assert run(main()) == b"".join(pieces)


def test_both_ends_stream_at_once(run: Run) -> None:
    size = 5_000_000

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send() -> None:
            for _ in range(size // 50_000):
                writer.write(bytes(50_000))
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        received.append(len(await reader.read()))
        await sending

    received: list[int] = []

    async def main() -> None:
        async with connected_to(pump) as pair:
            await pump(*pair)

    run(main())
    assert received == [size, size]


def test_200_connections_at_once(run: Run) -> None:
    async def client(address: tuple[str, int], n: int) -> bool:
        reader, writer = await asyncio.open_connection(*address)
        for turn in range(5):
            message = f"{n}:{turn}\n".encode() * 50
            writer.write(message)
            if await reader.readexactly(len(message)) != message:
                return False
        await hang_up(writer)
        return True

    async def main() -> list[bool]:
        async with serving(echo, backlog=256) as address:
            return await asyncio.gather(*(client(address, n) for n in range(200)))

    assert run(main()) == [True] * 200


# ----------------------------------------------------------------------- flow control --


def test_drain_holds_the_writer_until_the_reader_reads(run: Run) -> None:
    async def main() -> int:
        go = asyncio.Event()
        count = 0

        async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            await go.wait()
            while data := await reader.read(1_000_000):
                count += len(data)

        async with connected_to(read_late) as (_, writer):

            async def send() -> None:
                for _ in range(300):
                    writer.write(bytes(100_000))
                    await writer.drain()

            sending = asyncio.create_task(send())
            done, _ = await asyncio.wait([sending], timeout=0.05)
            assert not done  # 30 MB are more than any buffer holds
            assert writer.transport.get_write_buffer_size() > 0
            go.set()
            await sending
        return count

    assert run(main()) == 30_000_000


def test_the_reader_is_paused_when_its_limit_is_reached(run: Run) -> None:
    async def main() -> None:
        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(1_000_000))
            with contextlib.suppress(ConnectionError):
                await writer.drain()

        async with serving(flood) as address:
            reader, writer = await asyncio.open_connection(*address, limit=1000)
            transport = writer.transport
            assert isinstance(transport, asyncio.Transport)
            await asyncio.wait_for(until(lambda: not transport.is_reading()), 10)
            total = 0
            while data := await reader.read(4096):
                total += len(data)
            assert total == 1_000_000
            await hang_up(writer)

    run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_drain_raises_once_the_peer_is_gone(run: Run) -> None:
    async def main() -> None:
        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with connected_to(leave) as (_, writer):
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(bytes(10_000))
                    await writer.drain()

    run(asyncio.wait_for(main(), 10))


# ----------------------------------------------------------------------- kinds of reads --


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for piece in (b"one\ntw", b"o\n\r\nthree", b"; four"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


def test_readline_readuntil_readexactly(run: Run) -> None:
    async def main() -> list[bytes]:
        async with connected_to(say) as (reader, _):
            return [
                await reader.readline(),
                await reader.readuntil(b"\r\n"),
                await reader.readexactly(3),
                await reader.readuntil(b";"),
                await reader.read(),
                await reader.readline(),
            ]

    assert run(main()) == [b"one\n", b"two\n\r\n", b"thr", b"ee;", b" four", b""]


def test_iterating_gives_the_lines(run: Run) -> None:
    async def main() -> list[bytes]:
        async with connected_to(say) as (reader, _):
            return [line async for line in reader]

    assert run(main()) == [b"one\n", b"two\n", b"\r\n", b"three; four"]


def test_readexactly_past_the_end_gives_what_there_was(run: Run) -> None:
    async def main() -> None:
        async with connected_to(say) as (reader, _):
            await reader.readexactly(1000)

    with pytest.raises(asyncio.IncompleteReadError) as caught:
        run(main())
    assert caught.value.partial == b"one\ntwo\n\r\nthree; four"
    assert caught.value.expected == 1000


def test_readuntil_past_the_end_gives_what_there_was(run: Run) -> None:
    async def main() -> None:
        async with connected_to(say) as (reader, _):
            await reader.readuntil(b"!")

    with pytest.raises(asyncio.IncompleteReadError) as caught:
        run(main())
    assert caught.value.partial == b"one\ntwo\n\r\nthree; four"


def test_a_line_longer_than_the_limit_is_an_error(run: Run) -> None:
    async def main() -> None:
        async def long_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(5000) + b"\n")
            await reader.read()

        async with serving(long_line) as address:
            reader, writer = await asyncio.open_connection(*address, limit=1000)
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil(b"\n")
            assert await reader.readexactly(5001) == bytes(5000) + b"\n"
            await hang_up(writer)

    run(main())


# ------------------------------------------------------------------------- how they end --


def test_half_closed_it_still_receives(run: Run) -> None:
    async def main() -> bytes:
        async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.read()
            await asyncio.sleep(0.005)
            writer.write(request[::-1])
            await writer.drain()

        async with connected_to(answer_at_the_end) as (reader, writer):
            assert writer.can_write_eof()
            writer.write(b"abc" * 100_000)
            writer.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.write(b"more")
            return await reader.read()

    assert run(main()) == b"cba" * 100_000


def test_the_peers_end_is_an_empty_read(run: Run) -> None:
    async def main() -> None:
        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            pass

        async with connected_to(leave) as (reader, _):
            assert await reader.read(1) == b""
            assert reader.at_eof()

    run(main())


def reset(sock: Any) -> None:
    """Make the coming close send a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_reset_by_the_peer_comes_out_of_the_read(run: Run) -> None:
    async def main() -> None:
        async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            reset(writer.get_extra_info("socket"))
            writer.transport.abort()

        async with connected_to(break_off) as (reader, writer):
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()

    run(main())


def test_a_reset_costs_its_connection_only(run: Run) -> None:
    async def main() -> bytes:
        async def echo_or_not(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionResetError):
                await echo(reader, writer)

        async with serving(echo_or_not) as address:
            _, rude = await asyncio.open_connection(*address)
            reader, writer = await asyncio.open_connection(*address)
            rude.write(b"x")
            await rude.drain()
            reset(rude.get_extra_info("socket"))
            rude.transport.abort()
            writer.write(b"hello")
            echoed = await reader.readexactly(5)
            await hang_up(writer)
            return echoed

    assert run(main()) == b"hello"


def test_close_sends_what_was_written(run: Run) -> None:
    async def main() -> int:
        async def send_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(10_000_000))
            writer.close()

        async with connected_to(send_and_close) as (reader, _):
            return len(await reader.read())

    assert run(main()) == 10_000_000


def test_wait_closed_returns_when_the_connection_is_gone(run: Run) -> None:
    async def main() -> None:
        async with connected_to(say_nothing) as (_, writer):
            assert not writer.is_closing()
            writer.close()
            assert writer.is_closing()
            await asyncio.wait_for(writer.wait_closed(), 10)

    run(main())


def test_a_handler_that_fails_is_reported_and_others_are_served(run: Run, loop_errors: list[Any]) -> None:
    async def main() -> list[bytes]:
        fails = [ZeroDivisionError("mine")]

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if fails:
                writer.close()
                raise fails.pop()
            writer.write(b"hello")
            await hang_up(writer)

        answers = []
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            for _ in range(2):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                answers.append(await reader.read())
                await hang_up(writer)
        return answers

    assert run(main()) == [b"", b"hello"]
    assert [context["message"] for context in loop_errors] == ["Unhandled exception in client_connected_cb"]
    loop_errors.clear()


def test_write_eof_to_a_peer_that_is_gone_loses_nothing_it_had_sent(run: Run) -> None:
    async def main() -> bytes:
        ours, theirs = tcp_pair()
        ours.sendall(b"never read")
        theirs.sendall(b"the answer")
        theirs.close()  # with something unread: a reset, not an end
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Recorder, ours)
        with contextlib.suppress(OSError):  # asyncio lets the shutdown's error out of write_eof
            transport.write_eof()
        assert isinstance(await asyncio.wait_for(protocol.lost, 10), ConnectionResetError)
        return bytes(protocol.data)

    assert run(main()) == b"the answer"


# ----------------------------------------------------------------------------- what it knows --


def test_extra_info_reaches_the_socket_and_the_addresses(run: Run) -> None:
    async def main() -> None:
        async with connected_to(say_nothing) as (_, writer):
            sock = writer.get_extra_info("socket")
            assert sock.getpeername() == writer.get_extra_info("peername")
            assert sock.getsockname() == writer.get_extra_info("sockname")
            assert sock.fileno() >= 0
            assert writer.get_extra_info("nonesuch") is None
            assert writer.get_extra_info("nonesuch", 42) == 42
            assert writer.get_extra_info("sslcontext") is None

    run(main())
