"""ASGI apps by uvicorn, and TLS for both kinds of apps."""

import asyncio
import contextlib
import os
import re
import signal
import ssl
import sys
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

import pinloop
from pinloop.workers import WorkersFailed
from tests import tls
from tests.conftest import Run
from tests.workers import apps
from tests.workers.servings import ask, certificate, connect, pids, refused, serving

pytest.importorskip("uvicorn", reason="uvicorn has no release for this Python")

pytestmark = pytest.mark.usefixtures("no_process_left")

BALANCES = ["reuseport", "shared", "acceptor"]
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
QUIET: dict[str, Any] = {"log_level": "warning"}


class Client:
    """One connection that is kept alive."""

    def __init__(self, address: Any, **options: Any) -> None:
        self.address = address
        self.options = options

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await connect(self.address, **self.options)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()

    async def body(self) -> str:
        """What comes in chunks."""
        whole = b""
        while size := int(await self.reader.readline(), 16):
            whole += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return whole.decode()

    async def get(self) -> tuple[str, str]:
        self.writer.write(GET)
        return await self.head(), await self.body()


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("where", ["v4", "v6", "unix"])
def test_every_worker_serves(run: Run, tmp_path: Path, balance: str, where: str) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        at = path if where == "unix" else where
        async with serving(apps.application, at=at, balance=balance, uvicorn=QUIET) as service:
            (address,) = service.addresses
            assert service.urls[0].startswith("unix:" if where == "unix" else "http://")
            for _ in range(5):
                async with Client(address) as client:
                    for _ in range(2):
                        head, body = await client.get()
                        assert head.startswith("http/1.1 200") and "connection: close" not in head
                        pid, scheme, word = body.split()
                        assert int(pid) in pids(service) and (scheme, word) == ("http", "started")

    run(main())


@pytest.mark.parametrize("app", ["tests.workers.apps:make_application", apps.make_application])
def test_a_factory_makes_one_for_each_worker(run: Run, app: Any) -> None:
    async def main() -> None:
        async with (
            serving(app, factory=True, workers=1, uvicorn=QUIET) as service,
            Client(service.addresses[0]) as client,
        ):
            assert (await client.get())[1].endswith(" http started")

    run(main())


def test_lifespans_begin_and_end_with_the_workers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    monkeypatch.setenv("PINLOOP_TEST_TOLD", str(told))

    async def main() -> None:
        async with serving(apps.application, uvicorn=QUIET) as service:
            assert told.read_text().split() == ["lifespan.startup"] * 2
            await service.reload()
            words = told.read_text().split()
            assert (words.count("lifespan.startup"), words.count("lifespan.shutdown")) == (4, 2)
        assert told.read_text().count("lifespan.shutdown") == 4

    run(main())


def test_an_app_that_cannot_be_started(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with serving(apps.unstartable, uvicorn={"lifespan": "on"}):
            raise AssertionError("it cannot be served")

    with pytest.raises(RuntimeError, match="its lifespan's startup failed"):
        run(main())
    assert "LookupError: no database" in capfd.readouterr().err


@pytest.mark.parametrize("balance", BALANCES)
def test_a_drain_lets_requests_end_and_idle_connections_have_one_more(run: Run, balance: str) -> None:
    async def main() -> None:
        async with serving(apps.application, balance=balance, uvicorn=QUIET) as service:
            (address,) = service.addresses
            async with Client(address) as busy, Client(address) as kept, Client(address) as idle:
                for client in (kept, idle):
                    await client.get()
                busy.writer.write(
                    b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
                )
                await busy.head()
                drained = asyncio.create_task(service.drain())
                await refused(address)
                head = ""
                while "connection: close" not in head:  # it may not have been told yet
                    head, _ = await kept.get()
                assert await kept.reader.read() == b""
                assert await idle.reader.read() == b""
                assert not drained.done()
                busy.writer.write(b"1\r\nb\r\n0\r\n\r\n")
                assert re.fullmatch(r"more (more )*\d+ http started", await busy.body())
                await drained

    run(main())


def test_what_does_not_end_in_time_is_cut(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with (
            serving(apps.application, workers=1, grace=0.2, uvicorn=QUIET) as service,
            Client(service.addresses[0]) as busy,
        ):
            busy.writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await busy.head()
            await service.drain()
            with pytest.raises((ValueError, asyncio.IncompleteReadError, ConnectionError)):
                while True:
                    await busy.body()

    run(main())
    assert "1 connections were cut" in capfd.readouterr().err


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("keep", [False, True])
def test_a_reload_under_load_fails_no_request(run: Run, balance: str, keep: bool) -> None:
    async def main() -> None:
        async with serving(apps.application, balance=balance, uvicorn=QUIET) as service:
            (address,) = service.addresses
            first = pids(service)
            over = asyncio.Event()
            seen: set[str] = set()

            async def ask_and_ask() -> None:
                while not over.is_set():
                    async with Client(address) as client:
                        while True:
                            head, body = await client.get()
                            assert head.startswith("http/1.1 200")
                            seen.add(body.split()[0])
                            if not keep or over.is_set() or "connection: close" in head:
                                break

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(ask_and_ask())
                await service.reload()
                middle = pids(service)
                await service.reload()
                over.set()
            assert not {*first} & {*middle} and not {*middle} & {*pids(service)}
            assert {*map(str, middle)} & seen

    run(main())


@pytest.mark.parametrize("balance", BALANCES)
def test_tls_by_files(run: Run, tmp_path: Path, balance: str) -> None:
    whole, key = certificate(tmp_path)
    trust = tls.client_context()

    async def main() -> None:
        async with serving(certfile=whole, keyfile=key, balance=balance) as service:
            (address,) = service.addresses
            assert service.urls[0].startswith("tls://")
            answer = await ask(address, ssl=trust, server_hostname="localhost")
            assert answer.endswith(" hello")
            await service.reload()
            assert (await ask(address, "large", ssl=trust)).endswith("xxx")
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask(address, ssl=ssl.create_default_context())
            # Who does not speak TLS is dropped, and the others are served.
            reader, writer = await connect(address)
            writer.write(b"\0" * 1000)
            while await reader.read(1000):
                pass
            writer.close()
            await writer.wait_closed()
            assert (await ask(address, ssl=trust)).endswith(" hello")
        async with serving(
            apps.application, certfile=tmp_path / "both.pem", balance=balance, uvicorn=QUIET
        ) as service:
            assert service.urls[0].startswith("https://")
            async with Client(service.addresses[0], ssl=trust) as client:
                assert (await client.get())[1].endswith(" https started")

    run(main())


def test_tls_by_a_function_or_a_context(run: Run, tmp_path: Path) -> None:
    certificate(tmp_path)

    async def main() -> None:
        made = partial(apps.tls_of, str(tmp_path / "both.pem"))
        async with serving(ssl=made) as service:
            assert (await ask(service.addresses[0], ssl=tls.client_context())).endswith(" hello")
        with pytest.raises(TypeError, match="an SSLContext cannot be sent to a worker process"):
            pinloop.serve(apps.handler, port=0, ssl=made(), placement=None)
        async with serving(ssl=made(), backend="thread") as service:
            assert (await ask(service.addresses[0], ssl=tls.client_context())).endswith(" hello")

    run(main())


def test_without_uvicorn_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"pip install 'pinloop\[serve\]'"):
        pinloop.serve(apps.application, port=0, placement=None)


def test_an_option_that_uvicorn_does_not_know(run: Run) -> None:
    async def main() -> None:
        async with serving(apps.application, uvicorn={"no_such_option": 1}):
            raise AssertionError("it cannot be served")

    with pytest.raises(TypeError, match="no_such_option"):
        run(main())


def test_crashes_beyond_the_limit_end_the_service(run: Run) -> None:
    async def main() -> None:
        async with serving(apps.application, workers=1, uvicorn=QUIET) as service:
            while True:
                pid = service.workers[0].pid
                if pid is not None:
                    with contextlib.suppress(ProcessLookupError):  # it has ended, which is not known yet
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.01)

    with pytest.raises(WorkersFailed, match="was killed by SIGKILL; that is more than 3 restarts"):
        run(main())
