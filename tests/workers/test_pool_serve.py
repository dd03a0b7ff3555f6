"""`Workers.serve`: a handler beside the calls of a pool."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from pinloop.workers import Restart, Unpicklable, Workers, WorkersClosed
from tests import tls
from tests.conftest import Run
from tests.workers import apps, jobs
from tests.workers.conftest import Use, here, pool_of
from tests.workers.servings import ask, begin, certificate, end, refused


async def served_by(address: Any, count: int) -> dict[str, str]:
    """What each worker answers, once so many have."""
    found: dict[str, str] = {}
    async with asyncio.timeout(20):
        while len(found) < count:
            _, state, index, *rest = (await ask(address, "state")).split()
            found[index] = " ".join([state, *rest])
    return found


@here
def test_all_workers_serve_beside_their_calls(use: Use) -> None:
    async def test(pool: Workers) -> None:
        async with await pool.serve(apps.handler) as server:
            (address,) = server.addresses
            assert address[0] == "127.0.0.1"
            call = pool[0].submit(jobs.pause, 0.05)
            assert set((await served_by(address, 2)).values()) == {f"None {pool.backend} pinloop._loop"}
            assert await pool.run(jobs.add, 1, 2) == 3
            await call
            opened = await begin(address, "wait")
            closing = asyncio.create_task(server.close())
            await refused(address)
            assert not closing.done() and server.addresses == ()
            opened[1].write(b"on\n")
            assert (await opened[0].read()).endswith(b" on\n")
            await end(opened[1])
            await closing
        assert [worker.calls for worker in pool] == [0, 0]

    use(test)


@pytest.mark.parametrize("host", ["::1", None])
@here
def test_addresses(use: Use, host: str | None) -> None:
    async def test(pool: Workers) -> None:
        async with await pool.serve(apps.handler, host) as server:
            assert len({address[1] for address in server.addresses}) == 1
            for address in server.addresses:
                assert (await ask(address)).endswith(" hello")

    use(test)


@here
def test_what_does_not_end_in_time_is_cut(use: Use) -> None:
    async def test(pool: Workers) -> None:
        server = await pool.serve(apps.handler, grace=0.1)
        reader, writer = await begin(server.addresses[0], "hang")
        await server.close()
        assert await reader.read() == b""
        await end(writer)
        await server.close()

    use(test)


def test_tls_and_setup(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        whole, key = certificate(tmp_path)
        async with pool_of(2, setup=apps.prepared) as pool:
            server = await pool.serve(apps.handler, certfile=whole, keyfile=key)
            trust = tls.client_context()
            answer = await ask(server.addresses[0], "state", ssl=trust, server_hostname="localhost")
            assert answer.split()[1] == "prepared"

    run(main())


def test_a_killed_worker_serves_again(run: Run) -> None:
    async def main() -> None:
        async with pool_of(2, restart=Restart(100)) as pool, await pool.serve(apps.handler) as server:
            (address,) = server.addresses
            for times in range(1, 4):
                opened = [await begin(address, "wait") for _ in range(8)]
                pid = pool[0].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                answers = await asyncio.gather(*(ask(address) for _ in range(20)), return_exceptions=True)
                # Those that it had accepted end with it; no one is refused.
                assert not any(isinstance(answer, ConnectionRefusedError) for answer in answers)
                for _, writer in opened:
                    await end(writer)
                async with asyncio.timeout(20):
                    while pool[0].restarts < times or pool[0].pid is None:
                        await asyncio.sleep(0.001)
                assert len(await served_by(address, 2)) == 2

    run(main())


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_the_end_of_the_pool_closes_it(run: Run, backend: str) -> None:
    async def main() -> None:
        async with pool_of(2, backend=backend) as pool:
            server = await pool.serve(apps.handler)
            (address,) = server.addresses
            reader, writer = await begin(address, "wait")
            answered = asyncio.create_task(reader.read())
            asyncio.get_running_loop().call_soon(writer.write, b"on\n")
        assert (await answered).endswith(b" on\n")
        await refused(address)
        await end(writer)
        await server.close()
        with pytest.raises(WorkersClosed):
            await pool.serve(apps.handler)

    run(main())


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_an_error_in_the_pool_cuts_it(run: Run, backend: str) -> None:
    async def main() -> None:
        with pytest.raises(LookupError, match="mine"):
            async with pool_of(2, backend=backend) as pool:
                server = await pool.serve(apps.handler, grace=1000)
                (address,) = server.addresses
                reader, writer = await begin(address, "hang")
                raise LookupError("mine")
        assert await reader.read() == b""
        await refused(address)
        await end(writer)

    run(main())


@here
def test_what_cannot_be_served(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: address already in use"):
                await pool.serve(apps.handler, port=port)
        with pytest.raises(ValueError, match="port must be 0 to 65535"):
            await pool.serve(apps.handler, port=-1)
        for name in ("grace", "backlog", "limit"):
            with pytest.raises(ValueError, match=f"{name} must be"):
                await pool.serve(apps.handler, **{name: -1})
        with pytest.raises(TypeError, match="cannot be called"):
            await pool.serve(3)  # type: ignore[arg-type]
        with pytest.raises(ImportError, match="there is no module 'nowhere'"):
            await pool.serve("nowhere:app")  # type: ignore[arg-type]
        assert not pool._servers

    use(test)


@here
@pytest.mark.usefixtures("pickling")
def test_a_handler_that_cannot_be_sent(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(Unpicklable, match="lambda"):
            await pool.serve(lambda reader, writer: None)
        assert not pool._servers

    use(test)


def test_cancelled_while_it_starts(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            for turns in range(12):
                starting = asyncio.create_task(pool.serve(apps.handler))
                for _ in range(turns):
                    await asyncio.sleep(0)
                starting.cancel()
                await asyncio.wait([starting])
                if not starting.cancelled():
                    await starting.result().close()
                assert not pool._servers
            assert await pool.run(jobs.add, 1, 2) == 3

    run(main())
