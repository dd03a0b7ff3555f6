"""`serve`: where it listens, who gets a connection, and that nothing is left of it."""

import asyncio
import errno
import os
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop.serving import binding
from pinloop.workers import WorkerCrashed, WorkersClosed
from tests.conftest import Run
from tests.workers import apps
from tests.workers.servings import ask, begin, connect, pids, serving

pytestmark = pytest.mark.usefixtures("no_process_left")

BALANCES = ["reuseport", "shared", "acceptor"]


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("where", ["v4", "v6", "unix"])
def test_every_worker_serves_the_same_address(run: Run, tmp_path: Path, balance: str, where: str) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with serving(at=path if where == "unix" else where, balance=balance) as service:
            (address,) = service.addresses
            assert service.balance == ("shared" if (where, balance) == ("unix", "reuseport") else balance)
            if where == "unix":
                assert address == path and service.urls == (f"unix:{path}",)
            else:
                assert isinstance(address, tuple)
                host = "[::1]" if where == "v6" else "127.0.0.1"
                assert service.urls == (f"tcp://{host}:{address[1]}",) and address[1] > 0
            answers = [await ask(address) for _ in range(10)]
            assert {int(answer.split()[0]) for answer in answers} <= set(pids(service))
            # Each open connection is one more at its worker: the acceptor gives the next one to the other.
            opened = [await begin(address, "wait") for _ in range(20)]
            for _, writer in opened:
                writer.write(b"on\n")
            ends = Counter([(await reader.read()).split()[0] for reader, _ in opened])
            if balance == "acceptor":
                assert set(ends.values()) == {10}
            for _, writer in opened:
                writer.close()
                await writer.wait_closed()
        assert service.addresses == () and not os.path.exists(path)

    run(main())


def test_the_kernel_spreads_over_the_workers(run: Run) -> None:
    async def main() -> None:
        async with serving(balance="reuseport") as service:
            (address,) = service.addresses
            seen: set[str] = set()
            while len(seen) < 2:  # a hash: it is soon
                seen.add((await ask(address)).split()[0])

    run(main())


def test_several_addresses_have_one_port(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with serving(host=["127.0.0.1", "::1"], port=0, unix=path) as service:
            v4, v6, unix = service.addresses
            assert v4[1] == v6[1] and (v4[0], v6[0], unix) == ("127.0.0.1", "::1", path)
            for address in service.addresses:
                assert (await ask(address)).endswith(" hello")

    run(main())


def test_all_addresses_of_the_machine(run: Run) -> None:
    async def main() -> None:
        async with serving(host=None, port=0) as service:
            for _, port in service.addresses:
                assert (await ask(("127.0.0.1", int(port)))).endswith(" hello")

    run(main())


@pytest.mark.parametrize("at", ["v4", "v6"])
@pytest.mark.parametrize("balance", BALANCES)
def test_a_port_that_is_taken(run: Run, at: str, balance: str) -> None:
    async def main() -> None:
        async with serving(at=at, balance=balance) as service:
            host, port = service.addresses[0]
            name = f"[{host}]:{port}" if at == "v6" else f"{host}:{port}"
            for other in BALANCES:
                with pytest.raises(OSError, match=r"cannot listen on .* already in use") as caught:
                    # Nothing may be started: such a worker could not even be prepared.
                    async with serving(host=str(host), port=int(port), setup=apps.no_context, balance=other):
                        pass
                assert caught.value.errno == errno.EADDRINUSE and name in str(caught.value)
            assert (await ask(service.addresses[0])).endswith(" hello")

    run(main())


def test_names_and_paths_where_one_cannot_listen(run: Run, tmp_path: Path) -> None:
    async def main(match: str, **options: Any) -> None:
        with pytest.raises(OSError, match=match):
            async with serving(**options):
                pass

    run(main(r"cannot listen on nowhere\.invalid:80", host="nowhere.invalid", port=80))
    run(main(r"cannot listen on 192\.0\.2\.1:0", host="192.0.2.1", port=0))
    run(main("cannot listen on '/nowhere/socket'", at="/nowhere/socket"))
    file = tmp_path / "file"
    file.write_text("mine")
    run(main("cannot listen on .*already in use", at=str(file)))
    assert file.read_text() == "mine"


def test_a_unix_socket_that_is_served_and_one_that_was_left(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        async with serving(at=path) as service:
            with pytest.raises(OSError, match="already in use"):
                async with serving(at=path):
                    pass
            assert (await ask(path)).endswith(" hello")
            await service.reload()
            assert (await ask(path)).endswith(" hello")
            os.unlink(path)
            Path(path).write_text("somebody else's")
        assert Path(path).read_text() == "somebody else's"

    run(main())


def test_an_app_by_its_name_with_setup_and_state(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "told"

    async def main() -> None:
        async with serving(
            "tests.workers.apps:handler", setup=apps.prepared, teardown=partial(apps.append, str(path), "end")
        ) as service:
            index = [(await ask(service.addresses[0], "state")).split()[2] for _ in range(5)]
            assert set(index) <= {"0", "1"}
            answer = await ask(service.addresses[0], "state")
            assert answer.split()[1] == "prepared" and answer.endswith(" process pinloop._loop")
            assert not path.exists()
        assert path.read_text() == "end\nend\n"

    run(main())


def test_threads_serve_too(run: Run) -> None:
    async def main() -> None:
        for balance in BALANCES:
            async with serving(backend="thread", balance=balance) as service:
                (address,) = service.addresses
                assert await ask(address) == f"{os.getpid()} hello"
                await service.reload()
                assert (await ask(address, "state")).endswith(" thread pinloop._loop")

    run(main())


def test_a_large_answer_arrives_whole_though_the_handler_is_over(run: Run) -> None:
    async def main() -> None:
        async with serving() as service:
            reader, writer = await begin(service.addresses[0], "wait")
            writer.write(b"on\n")
            large = await connect(service.addresses[0])
            large[1].write(b"large\n")
            assert await large[0].readexactly(5)
            drained = asyncio.create_task(service.drain())
            assert len(await large[0].read()) > 9_999_990
            assert (await reader.read()).endswith(b" on\n")
            await drained
            for each in (writer, large[1]):
                each.close()
                await each.wait_closed()

    run(main())


def test_a_handler_that_fails_costs_its_connection(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with serving(workers=1) as service:
            assert await ask(service.addresses[0], "fail") == ""
            assert (await ask(service.addresses[0])).endswith(" hello")

    run(main())
    told = capfd.readouterr().err
    assert "the handler of a connection failed" in told and "LookupError: not today" in told


@pytest.mark.parametrize(
    ("app", "options", "kind", "message"),
    [
        ("tests.workers.nothing:app", {}, ImportError, r"no module 'tests\.workers\.nothing'"),
        ("nothing_at_all.apps:app", {}, ImportError, "no module 'nothing_at_all'"),
        ("tests.workers.apps:app", {}, AttributeError, "has no attribute 'app'"),
        ("tests.workers.apps:no_app", {}, TypeError, "of type int, and cannot be called"),
        ("tests.workers.apps:either", {}, TypeError, "say so by kind='handler' or kind='asgi'"),
        ("tests.workers.apps:make_nothing", {"factory": True}, TypeError, "returned None"),
        (apps.handler, {"setup": partial(apps.fail_if, "/")}, LookupError, "it is there"),
        (apps.handler, {"setup": partial(os._exit, 7)}, WorkerCrashed, "exited with code 7 before"),
        (apps.handler, {"ssl": apps.no_context}, TypeError, "is no SSLContext"),
    ],
)
@pytest.mark.usefixtures("no_fd_leak")
def test_apps_that_cannot_be_served(
    run: Run, tmp_path: Path, app: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with serving(app, at=path, **options):
            raise AssertionError("it cannot be served")

    with pytest.raises(kind, match=message):
        run(main())
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("app", "options", "kind", "message"),
    [
        (apps.handler, {}, ValueError, "nowhere to listen"),
        (apps.handler, {"port": 70000}, ValueError, "port must be 0 to 65535, not 70000"),
        (apps.handler, {"port": 0, "kind": "wsgi"}, ValueError, "kind must be .* not 'wsgi'"),
        (apps.handler, {"port": 0, "balance": "luck"}, ValueError, "balance must be .* not 'luck'"),
        (apps.handler, {"port": 0, "grace": -1}, ValueError, "grace must be 0 or more, not -1"),
        (apps.handler, {"port": 0, "grace": float("nan")}, ValueError, "grace must be 0 or more, not nan"),
        (apps.handler, {"port": 0, "backlog": 0}, ValueError, "backlog must be 1 or more"),
        (apps.handler, {"port": 0, "limit": 0}, ValueError, "limit must be 1 or more"),
        (apps.handler, {"port": 0, "heartbeat": 0}, ValueError, "heartbeat must be more than 0"),
        (apps.handler, {"port": 0, "workers": 0}, ValueError, "at least one worker"),
        (apps.handler, {"port": 0, "keyfile": "key.pem"}, ValueError, "keyfile is given without certfile"),
        (apps.handler, {"port": 0, "certfile": "/nowhere.pem"}, FileNotFoundError, "nowhere.pem"),
        (apps.handler, {"port": 0, "certfile": __file__}, ValueError, "no certificate and its key"),
        (apps.handler, {"port": 0, "ssl": 5}, TypeError, "a function that returns an SSLContext"),
        (apps.handler, {"port": 0, "ssl": apps.no_context, "certfile": "x"}, ValueError, "at the same time"),
        (
            apps.handler,
            {"port": 0, "backend": "thread", "heartbeat": 1},
            ValueError,
            "a thread cannot be killed",
        ),
        (apps.handler, {"port": 0, "backend": "dask"}, ValueError, "'process' or 'thread', not 'dask'"),
        (apps.either, {"port": 0}, TypeError, "cannot tell whether"),
        ("tests.workers.apps", {"port": 0}, ValueError, "\"module:attribute\", not 'tests.workers.apps'"),
        ("tests/workers/apps.py:app", {"port": 0}, ValueError, "module:attribute"),
        (5, {"port": 0}, TypeError, "it cannot be called"),
        (apps.application, {"port": 0, "uvicorn": {"workers": 3}}, ValueError, "uvicorn's workers: not here"),
    ],
)
def test_arguments_that_do_not_do(
    app: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        pinloop.serve(app, **{"placement": None, **options})


def test_where_the_kernel_does_not_balance_the_acceptor_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from pinloop.serving import entry

    monkeypatch.setattr(entry, "reuseport_option", lambda: None)
    assert pinloop.serve(apps.handler, port=0, workers=2, placement=None).balance == "acceptor"
    with pytest.raises(ValueError, match="balance='acceptor' does it here"):
        pinloop.serve(apps.handler, port=0, workers=2, placement=None, balance="reuseport")


def test_a_second_address_whose_port_is_taken_has_another_one_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []
    tried: list[int] = []
    real = binding._open_address

    def first_is_taken(family: int, proto: int, address: Any, count: int, into: Any) -> Any:
        if family == socket.AF_INET6:
            tried.append(address[1])
            if len(tried) == 1:
                raise OSError(errno.EADDRINUSE, "taken")
        return real(family, proto, address, count, into)

    monkeypatch.setattr(binding, "_open_address", first_is_taken)
    try:
        found = binding._open_tcp(binding._infos(["127.0.0.1", "::1"], 0), 0, 2, opened)
        assert {sock.getsockname()[1] for group in found for sock in group} == {tried[1]}
        assert len(opened) == 4
    finally:
        for sock in opened:
            sock.close()


def test_a_service_is_entered_once_and_says_what_it_is(run: Run) -> None:
    async def main() -> None:
        service = pinloop.serve(apps.handler, port=0, workers=1, placement=None)
        assert repr(service) == "<Service not entered at nowhere yet workers=1>"
        for call in (service.drain, service.reload):
            with pytest.raises(WorkersClosed):
                await call()
        async with service:
            assert repr(service) == f"<Service serving at {service.urls[0]} workers=1>"
            with pytest.raises(RuntimeError, match="entered once"):
                await service.__aenter__()
        assert repr(service) == "<Service closed at nowhere yet workers=1>"
        with pytest.raises(WorkersClosed):
            await service.reload()

    run(main())


def test_signals_are_the_main_threads(run: Run) -> None:
    caught: list[BaseException] = []

    async def main() -> None:
        async with serving(workers=1) as service:
            with pytest.raises((RuntimeError, ValueError)) as found:
                await service.serve_forever()
            caught.append(found.value)

    thread = threading.Thread(target=run, args=(main(),))
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_deadlines_around_it_are_not_its_handlers(run: Run) -> None:
    async def main() -> None:
        async with pinloop.move_on_after(1000), serving(workers=1) as service:
            assert (await ask(service.addresses[0])).endswith(" hello")

    run(main())


def test_left_by_an_error_it_drains_too(run: Run, tmp_path: Path) -> None:
    left: list[Callable[[], Any]] = []

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with serving(workers=1) as service:
                reader, writer = await begin(service.addresses[0], "wait")
                asyncio.get_running_loop().call_soon(writer.write, b"on\n")
                left.append(writer.close)
                raise ZeroDivisionError
        assert (await reader.read()).endswith(b" on\n")
        writer.close()
        await writer.wait_closed()

    run(main())
