"""aiohttp on this loop: server and client in one process."""

import asyncio
import contextlib
import gc
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.support import refusing_address

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp has no wheel for this Python")
web = pytest.importorskip("aiohttp.web", reason="aiohttp has no wheel for this Python")

Run = Callable[..., Any]


async def hello(request: Any) -> Any:
    port = str(request.transport.get_extra_info("peername")[1])
    return web.Response(text=f"hello {request.query.get('name', 'nobody')}", headers={"X-Port": port})


async def echo(request: Any) -> Any:
    return web.Response(body=await request.read())


async def digest(request: Any) -> Any:
    """The hash of a body that is read as it comes."""
    total = hashlib.sha256()
    async for chunk in request.content.iter_chunked(10_000):
        total.update(chunk)
    return web.Response(text=total.hexdigest())


async def stream(request: Any) -> Any:
    response = web.StreamResponse()
    await response.prepare(request)
    for n in range(200):
        await response.write(bytes([n]) * 5000)
    await response.write_eof()
    return response


async def chat(request: Any) -> Any:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data[::-1])
    return socket


async def fail(request: Any) -> Any:
    raise ZeroDivisionError("mine")


@contextlib.asynccontextmanager
async def served(file: Path | None = None) -> AsyncIterator[tuple[str, Any]]:
    """The URL of a server, and a client session."""
    app = web.Application(client_max_size=100_000_000)
    app.router.add_get("/", hello)
    app.router.add_post("/echo", echo)
    app.router.add_post("/digest", digest)
    app.router.add_get("/stream", stream)
    app.router.add_get("/chat", chat)
    app.router.add_get("/fail", fail)

    async def send_file(request: Any) -> Any:
        return web.FileResponse(file)

    app.router.add_get("/file", send_file)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        yield f"http://{host}:{port}", session
    await runner.cleanup()


def test_hundreds_of_requests_over_keep_alive_connections(run: Run) -> None:
    async def main() -> None:
        async with served() as (url, session):

            async def client(n: int) -> int:
                good = 0
                for turn in range(40):
                    async with session.get(url, params={"name": f"{n}-{turn}"}) as response:
                        good += response.status == 200 and await response.text() == f"hello {n}-{turn}"
                return good

            assert await asyncio.gather(*(client(n) for n in range(20))) == [40] * 20

    run(main())


def test_connections_are_kept_alive(run: Run) -> None:
    async def main() -> int:
        ports = set()
        async with served() as (url, session):
            for _ in range(10):
                async with session.get(url) as response:
                    ports.add(response.headers["X-Port"])
                    await response.read()
        return len(ports)

    assert run(main()) == 1


def test_large_bodies_both_ways(run: Run) -> None:
    body = bytes(range(256)) * 20_000

    async def main() -> bytes:
        async with served() as (url, session), session.post(f"{url}/echo", data=io.BytesIO(body)) as response:
            return await response.read()

    assert run(main()) == body


def test_a_streaming_upload(run: Run) -> None:
    pieces = [bytes([n]) * 7919 for n in range(250)]

    async def produce() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)

    async def main() -> str:
        async with served() as (url, session), session.post(f"{url}/digest", data=produce()) as response:
            return await response.text()

    assert run(main()) == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_a_streaming_download(run: Run) -> None:
    async def main() -> bytes:
        async with served() as (url, session), session.get(f"{url}/stream") as response:
            return b"".join([chunk async for chunk in response.content.iter_any()])

    assert run(main()) == b"".join(bytes([n]) * 5000 for n in range(200))


def test_a_file(run: Run, tmp_path: Path) -> None:
    # aiohttp asks for loop.sendfile and copies by itself where there is none.
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 5000)

    async def main() -> bytes:
        async with served(file) as (url, session), session.get(f"{url}/file") as response:
            assert response.status == 200
            return await response.read()

    assert run(main()) == file.read_bytes()


def test_a_web_socket(run: Run) -> None:
    async def main() -> list[str]:
        answers = []
        async with served() as (url, session), session.ws_connect(f"{url}/chat") as socket:
            for n in range(100):
                await socket.send_str(f"message {n}")
                answers.append(await socket.receive_str())
        return answers

    assert run(main()) == [f"message {n}"[::-1] for n in range(100)]


def test_a_handler_that_fails_costs_its_request_only(run: Run) -> None:
    async def main() -> list[int]:
        statuses = []
        async with served() as (url, session):
            for path in ("/fail", "/"):
                async with session.get(url + path) as response:
                    statuses.append(response.status)
                    await response.read()
        return statuses

    assert run(main()) == [500, 200]


def test_a_client_timeout_ends_the_request(run: Run) -> None:
    async def main() -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as session:
                with pytest.raises(asyncio.TimeoutError):
                    await session.get(f"http://{host}:{port}/")
            await asyncio.sleep(0.01)

    run(main())
    gc.collect()


def test_a_refused_connection_is_aiohttps_error(run: Run) -> None:
    host, port = refusing_address()

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://{host}:{port}/")

    with pytest.raises(aiohttp.ClientConnectorError):
        run(main())
