"""Draining, reloading and crashing: nothing is refused or cut that need not be, and nothing is left."""

import asyncio
import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop.serving import Service
from pinloop.workers import Restart, WorkerCrashed, WorkersClosed, WorkersFailed
from tests.conftest import Run, open_fds
from tests.workers import apps
from tests.workers.servings import ask, begin, connect, end, pids, refused, serving, until_gone

pytestmark = pytest.mark.usefixtures("no_process_left")

balances = pytest.mark.parametrize("balance", ["reuseport", "shared", "acceptor"])


@balances
def test_a_drain_lets_what_is_open_end(run: Run, balance: str) -> None:
    async def main() -> None:
        async with serving(balance=balance) as service:
            (address,) = service.addresses
            opened = [await begin(address, "wait") for _ in range(10)]
            drained = asyncio.create_task(service.drain())
            await refused(address)
            assert not drained.done()
            for _, writer in opened:
                writer.write(b"on\n")
            for reader, _ in opened:
                assert (await reader.read()).endswith(b" on\n")
            await drained
            assert service.addresses == ()
            await service.drain()  # once more: nothing to do
            await end(*(writer for _, writer in opened))

    run(main())


@balances
def test_a_drain_serves_those_that_wait_to_be_accepted(run: Run, balance: str) -> None:
    """The workers are stopped while they come, so all of them are in a queue when the drain begins."""

    async def main() -> None:
        async with serving(balance=balance) as service:
            (address,) = service.addresses
            for pid in pids(service):
                os.kill(pid, signal.SIGSTOP)
            opened = []
            for _ in range(30):
                reader, writer = await connect(address)
                writer.write(b"hello\n")
                opened.append((reader, writer))
            drained = asyncio.create_task(service.drain())
            await asyncio.sleep(0)  # it has begun: the workers are told, and listen still
            for pid in pids(service):
                os.kill(pid, signal.SIGCONT)
            for reader, _ in opened:
                assert (await reader.read()).endswith(b" hello\n")
            await drained
            await end(*(writer for _, writer in opened))

    run(main())


@balances
def test_what_does_not_end_in_time_is_cut(run: Run, balance: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with serving(workers=1, balance=balance, grace=0.2) as service:
            reader, writer = await begin(service.addresses[0], "hang")
            idle, other = await connect(service.addresses[0])
            await ask(service.addresses[0])  # the idle one has been accepted, for it came before
        assert await reader.read() == b"" == await idle.read()
        await end(writer, other)

    run(main())
    assert "2 connections were cut: they had not ended after 0.2 s" in capfd.readouterr().err


async def load(service: Service, clients: int, until: asyncio.Event) -> tuple[int, set[str]]:
    """Clients that ask one thing after the other, on a new connection each; any failure is raised."""
    (address,) = service.addresses
    seen: set[str] = set()
    count = 0

    async def client() -> None:
        nonlocal count
        while not until.is_set():
            pid, word = (await ask(address)).split()
            assert word == "hello"
            seen.add(pid)
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return count, seen


@pytest.mark.parametrize("where", ["v4", "unix"])
@balances
def test_a_reload_under_load_refuses_and_cuts_nothing(
    run: Run, tmp_path: Path, balance: str, where: str
) -> None:
    async def main() -> None:
        async with serving(
            at="v4" if where == "v4" else str(tmp_path / "socket"), balance=balance
        ) as service:
            over = asyncio.Event()
            loaded = asyncio.create_task(load(service, 8, over))
            generations = [pids(service)]
            waiting = await begin(service.addresses[0], "wait")  # until all have been replaced once
            for _ in range(2):
                reloaded = asyncio.create_task(service.reload())
                while set(pids(service)) & set(generations[-1]):
                    await asyncio.sleep(0.01)
                    assert not loaded.done()
                if waiting[0].at_eof() is False:
                    assert not reloaded.done()
                    waiting[1].write(b"on\n")
                    assert (await waiting[0].read()).split()[0] in (b"%d" % pid for pid in generations[0])
                await reloaded
                generations.append(pids(service))
            over.set()
            count, seen = await loaded
            assert count > 50 and {str(pid) for pid in generations[-1]} & seen
            assert len({pid for generation in generations for pid in generation}) == 6
            assert [worker.restarts for worker in service.workers] == [0, 0]
            await end(waiting[1])

    run(main())


def test_a_reload_that_fails_leaves_the_old_workers(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken"

    async def main() -> None:
        async with serving(setup=partial(apps.fail_if, str(path))) as service:
            before = pids(service)
            path.touch()
            with pytest.raises(LookupError, match="it is there"):
                await service.reload()
            assert pids(service) == before
            assert (await ask(service.addresses[0])).endswith(" hello")
            path.unlink()
            await service.reload()
            assert not set(pids(service)) & set(before)

    run(main())


def test_reloads_come_one_after_the_other_and_a_drain_ends_them(run: Run) -> None:
    async def main() -> None:
        async with serving() as service:
            first = pids(service)
            await asyncio.gather(service.reload(), service.reload())
            assert not set(pids(service)) & set(first)
            reloading = asyncio.create_task(service.reload())
            await asyncio.sleep(0)
            await service.drain()
            with pytest.raises(WorkersClosed):
                await reloading

    run(main())


def test_a_drain_while_the_worker_that_a_reload_replaced_has_not_ended(run: Run) -> None:
    """That one reads at once that it is to end and that it is to accept no more."""

    async def main() -> None:
        async with serving(workers=1) as service:
            (old,), (address,) = pids(service), service.addresses
            os.kill(old, signal.SIGSTOP)
            try:
                reloading = asyncio.create_task(service.reload())
                while service.workers[0].pid == old:
                    await asyncio.sleep(0.001)
                draining = asyncio.create_task(service.drain())
                for _ in range(10):  # it has been sent
                    await asyncio.sleep(0)
            finally:
                os.kill(old, signal.SIGCONT)
            await asyncio.gather(reloading, draining)
            await refused(address)

    run(main())


def test_a_cancelled_reload_leaves_a_service_that_serves(run: Run) -> None:
    async def main() -> None:
        async with serving() as service:
            for delay in (0.0, 0.05, 0.15):
                reloading = asyncio.create_task(service.reload())
                await asyncio.sleep(delay)
                reloading.cancel()
                await asyncio.wait([reloading])
                assert reloading.cancelled()
                assert (await ask(service.addresses[0])).endswith(" hello")
                assert len(pids(service)) == 2
            await service.reload()

    run(main())


@balances
def test_a_killed_worker_is_started_anew(run: Run, balance: str) -> None:
    async def main() -> None:
        async with serving(balance=balance) as service:
            (address,) = service.addresses
            files = len(open_fds())
            for times in range(1, 3):
                before = pids(service)
                opened = [await begin(address, "wait") for _ in range(8)]
                os.kill(before[0], signal.SIGKILL)
                await until_gone(before[0])
                # What comes meanwhile waits, or is served by the other one: nobody is refused.
                answers = await asyncio.gather(*(ask(address) for _ in range(20)))
                assert all(answer.endswith(" hello") for answer in answers)
                cut = 0
                for reader, writer in opened:
                    writer.write(b"on\n")
                    try:
                        cut += not await reader.read()
                    except ConnectionError:
                        cut += 1
                    await end(writer)
                assert cut < 8 or balance != "acceptor"  # those of the killed one alone
                async with asyncio.timeout(20):
                    while service.workers[0].restarts < times or service.workers[0].pid is None:
                        await asyncio.sleep(0.001)
                assert pids(service)[1] == before[1]
            assert [worker.restarts for worker in service.workers] == [2, 0]
            assert len(open_fds()) <= files + 1  # the selector's own comes and goes

    run(main())


@balances
def test_crashes_beyond_the_limit_end_the_service(run: Run, loop_errors: list[Any], balance: str) -> None:
    async def main() -> None:
        async with serving(balance=balance, restart=Restart(2, 100)) as service:
            (address,) = service.addresses
            while True:
                try:
                    await ask(address, "die")
                except ConnectionError:
                    await asyncio.sleep(0.001)

    with pytest.raises(WorkersFailed, match=r"worker \d exited with code 3; that is more than 2 restarts"):
        run(main())
    # The other one may have been about to die, too, when it was told to stop.
    assert all(isinstance(context["exception"], WorkerCrashed) for context in loop_errors)
    loop_errors.clear()


def test_an_app_that_crashes_at_its_restart_fails_loudly(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken"

    async def main() -> None:
        async with serving(setup=partial(apps.fail_if, str(path))) as service:
            path.touch()
            os.kill(pids(service)[1], signal.SIGKILL)
            await asyncio.sleep(100)

    with pytest.raises(WorkersFailed, match="worker 1 could not be restarted: it is there"):
        run(main())


def test_a_worker_that_hangs_is_killed_and_others_serve(run: Run) -> None:
    async def main() -> None:
        async with serving(heartbeat=0.5, balance="shared") as service:
            before = pids(service)
            os.kill(before[0], signal.SIGSTOP)
            async with asyncio.timeout(20):
                while service.workers[0].pid in (None, before[0]):
                    await asyncio.sleep(0.01)
            assert (await ask(service.addresses[0])).endswith(" hello")

    run(main())


def test_cancelled_while_it_drains_it_cuts(run: Run) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def host() -> None:
            async with serving(workers=1, grace=1000) as service:
                nonlocal reader, writer
                reader, writer = await begin(service.addresses[0], "hang")
                entered.set()

        reader: Any
        writer: Any
        task = asyncio.create_task(host())
        await entered.wait()
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await reader.read() == b""
        await end(writer)

    run(main())


def test_cancelled_while_it_starts_nothing_is_left(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        for delay in (0.0, 0.01, 0.1):
            task = asyncio.create_task(asyncio.wait_for(hosted(), 100))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait([task])
            assert not path.exists()

    async def hosted() -> None:
        async with serving(at=str(path), setup=partial(asyncio.sleep, 100)):
            raise AssertionError("it cannot be up")

    run(main())


def test_out_of_descriptors_the_acceptor_waits(run: Run, loop_errors: list[Any]) -> None:
    resource = pytest.importorskip("resource", reason="this platform has no limits to set")

    async def main() -> None:
        async with serving(workers=1, balance="acceptor") as service:
            (address,) = service.addresses
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            with socket.socket() as client:
                client.setblocking(False)
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 1, limits[1]))
                loop = asyncio.get_running_loop()
                fillers = []
                try:
                    with pytest.raises(OSError, match="Too many open files"):
                        while True:
                            fillers.append(os.dup(0))
                    await loop.sock_connect(client, address)
                    async with asyncio.timeout(20):
                        while not loop_errors:
                            await asyncio.sleep(0.001)
                finally:
                    for fd in fillers:
                        os.close(fd)
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                await loop.sock_sendall(client, b"hello\n")
                assert await loop.sock_recv(client, 100)
        assert loop_errors.pop()["message"] == "cannot accept connections"

    run(main())


def test_more_than_a_worker_takes_waits_for_it(run: Run) -> None:
    """More than the acceptor's socket to a worker that is stopped can hold."""

    async def main() -> None:
        async with serving(workers=1, balance="acceptor") as service:
            (address,) = service.addresses
            (pid,) = pids(service)
            os.kill(pid, signal.SIGSTOP)
            opened = [await connect(address) for _ in range(400)]
            acceptor = service._acceptor
            assert acceptor is not None
            async with asyncio.timeout(20):
                while not acceptor._held:
                    await asyncio.sleep(0.001)
            os.kill(pid, signal.SIGCONT)
            for reader, writer in opened:
                writer.write(b"hello\n")
                assert await reader.read() == b"%d hello\n" % pid
            await end(*(writer for _, writer in opened))

    run(main())


def test_what_a_killed_worker_had_not_taken_goes_to_another(run: Run) -> None:
    async def main() -> None:
        async with serving(balance="acceptor") as service:
            (address,) = service.addresses
            before = pids(service)
            os.kill(before[0], signal.SIGSTOP)
            opened = [await connect(address) for _ in range(11)]
            async with asyncio.timeout(20):
                while sum(target.load for target in service._acceptor._targets) < 11:  # type: ignore[union-attr]
                    await asyncio.sleep(0.001)
            os.kill(before[0], signal.SIGKILL)
            for reader, writer in opened:
                writer.write(b"hello\n")
                assert (await reader.read()).endswith(b" hello\n")
            await end(*(writer for _, writer in opened))

    run(main())


def test_serve_forever_ends_with_a_drain_by_others(run: Run) -> None:
    async def main() -> None:
        async with serving(workers=1) as service:
            before = signal.getsignal(signal.SIGTERM)
            forever = asyncio.create_task(service.serve_forever())
            await asyncio.sleep(0)
            await service.drain()
            await forever
            assert signal.getsignal(signal.SIGTERM) is before

    run(main())


def test_signals_in_the_same_process(run: Run) -> None:
    async def main() -> None:
        async with serving(workers=1) as service:
            forever = asyncio.create_task(service.serve_forever())
            await asyncio.sleep(0)
            before = pids(service)
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(20):
                while service.workers[0].pid in before:
                    await asyncio.sleep(0.01)
            reader, writer = await begin(service.addresses[0], "hang")
            os.kill(os.getpid(), signal.SIGTERM)
            await refused(service.addresses[0])
            assert not forever.done()
            os.kill(os.getpid(), signal.SIGINT)
            await forever
            assert await reader.read() == b""
            await end(writer)

    run(main())


def test_it_runs_in_a_script() -> None:
    service = pinloop.serve(apps.handler, port=0, workers=1, placement=None)
    started: list[Service] = []

    def stop(service: Service) -> None:
        started.append(service)
        os.kill(os.getpid(), signal.SIGTERM)

    service.run(stop)
    assert started == [service] and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
