"""Child processes by loop.subprocess_exec: the transport, what its protocol is told and when."""

import asyncio
import contextvars
import gc
import logging
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, children, only_pinloop, turns
from tests.conftest import Run

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

Told = list[tuple[Any, ...]]


class Watching(asyncio.SubprocessProtocol):
    """Notes what it is told; `exited` and `lost` can be awaited."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.told: Told = []
        self.output: dict[int, bytes] = {1: b"", 2: b""}
        self.transport: Any = None
        self.exited: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self.transport = transport
        self.told.append(("made",))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if not self.output[fd]:
            self.told.append(("data", fd))
        self.output[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.told.append(("pipe lost", fd))

    def process_exited(self) -> None:
        self.told.append(("exited", self.transport.get_returncode()))
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(("lost",))
        self.lost.set_result(exc)


async def start(script: str, factory: Any = Watching, **options: Any) -> tuple[Any, Any]:
    """A shell that runs `script`."""
    loop = asyncio.get_running_loop()
    return await loop.subprocess_exec(factory, "/bin/sh", "-c", script, **options)


# ----------------------------------------------------------------------- a whole life --


def test_a_whole_life(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await start("cat; echo bad >&2; exit 3")
        assert protocol.told == [("made",)]
        assert transport.get_pid() in children()
        assert transport.get_returncode() is None
        assert not transport.is_closing()
        assert transport.get_protocol() is protocol
        assert transport.get_pipe_transport(3) is None
        popen = transport.get_extra_info("subprocess")
        assert isinstance(popen, subprocess.Popen)
        assert popen.pid == transport.get_pid()
        stdin = transport.get_pipe_transport(0)
        assert stdin.get_extra_info("pipe") is popen.stdin
        assert transport.get_pipe_transport(1).get_extra_info("pipe") is popen.stdout
        assert transport.get_pipe_transport(2).get_extra_info("pipe") is popen.stderr
        stdin.write(b"good")
        stdin.write_eof()
        assert await protocol.lost is None
        assert protocol.output == {1: b"good", 2: b"bad\n"}
        assert sorted(protocol.told[:-1]) == sorted(
            [
                ("made",),
                ("data", 1),
                ("data", 2),
                ("pipe lost", 0),
                ("pipe lost", 1),
                ("pipe lost", 2),
                ("exited", 3),
            ]
        )
        assert protocol.told[-1] == ("lost",)
        assert transport.get_returncode() == popen.returncode == 3
        assert transport.get_pid() not in children()
        transport.close()
        transport.close()
        assert transport.is_closing()

    run(main())


def test_without_pipes(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await start("exit 4", stdin=None, stdout=None, stderr=DEVNULL)
        assert [transport.get_pipe_transport(fd) for fd in range(3)] == [None] * 3
        await protocol.lost
        assert protocol.told == [("made",), ("exited", 4), ("lost",)]
        transport.close()

    run(main())


@only_pinloop  # asyncio may tell of the exit first
@pytest.mark.parametrize("size", [1, 1000, 65536])
def test_what_a_child_wrote_comes_before_its_exit(run: Run, size: int) -> None:
    """As much as a pipe holds may be left in it by a child that is gone."""

    async def main() -> None:
        order = []
        for _ in range(10):
            transport, protocol = await start(f"head -c {size} /dev/zero", stdin=None)
            await protocol.exited
            order.append(len(protocol.output[1]))
            await protocol.lost
            transport.close()
        assert order == [size] * 10

    run(main())


def test_output_that_is_paused_stays_until_it_is_wanted(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await start("read line; echo output", stdout=PIPE)
        pipe = transport.get_pipe_transport(1)
        pipe.pause_reading()
        transport.get_pipe_transport(0).write(b"\n")
        await protocol.exited
        await turns(5)
        assert protocol.output[1] == b""
        assert not protocol.lost.done()
        pipe.resume_reading()
        await protocol.lost
        assert protocol.output[1] == b"output\n"
        transport.close()

    run(main())


def test_writing_to_a_child_that_does_not_read_is_paused(run: Run) -> None:
    class Pausing(Watching):
        def pause_writing(self) -> None:
            self.told.append(("pause",))

        def resume_writing(self) -> None:
            self.told.append(("resume",))

    async def main() -> None:
        transport, protocol = await start("read line; cat > /dev/null", Pausing)
        stdin = transport.get_pipe_transport(0)
        stdin.write(bytes(1_000_000))
        assert protocol.told == [("made",), ("pause",)]
        stdin.write(b"\n")
        stdin.close()
        await protocol.lost
        assert ("resume",) in protocol.told
        transport.close()

    run(main())


# --------------------------------------------------------------------------- the end --


def test_close_kills_and_the_rest_follows(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await start("sleep 1000", stdin=PIPE)
        pid = transport.get_pid()
        transport.close()
        assert transport.is_closing()
        assert await protocol.lost is None
        assert transport.get_returncode() == -signal.SIGKILL
        assert protocol.told[-1] == ("lost",)
        assert pid not in children()

    run(main())


@only_pinloop  # asyncio asks Popen, which takes the status, and 255 is reported
def test_close_of_a_child_that_has_ended_does_not_lose_its_status(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await start("read line; exit 5", stdout=None, stderr=None)
        transport.get_pipe_transport(0).write(b"\n")
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        transport.close()
        await protocol.lost
        assert transport.get_returncode() == 5

    run(main())


@only_pinloop  # asyncio reports 255
@pytest.mark.parametrize("ask", ["poll", "wait"])
def test_a_status_that_popen_took_is_not_lost(run: Run, ask: str) -> None:
    async def main() -> None:
        transport, protocol = await start("read line; exit 6", stdout=None, stderr=None)
        popen = transport.get_extra_info("subprocess")
        transport.get_pipe_transport(0).write(b"\n")
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        assert getattr(popen, ask)() == 6
        await protocol.lost
        assert transport.get_returncode() == 6
        transport.close()

    run(main())


def test_a_child_that_somebody_else_waited_for(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        transport, protocol = await start("read line; exit 7", stdout=None, stderr=None)
        transport.get_pipe_transport(0).write(b"\n")
        os.waitpid(transport.get_pid(), 0)
        if ON_PINLOOP:
            transport.kill()  # signals nobody
        await protocol.lost
        assert transport.get_returncode() == 255
        transport.close()

    run(main())
    assert "will report returncode 255" in caplog.text


def test_children_that_the_kernel_does_not_keep(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        transport, protocol = await start("read line; exit 8", stdout=None, stderr=None)
        transport.get_pipe_transport(0).write(b"\n")
        await protocol.lost
        assert transport.get_returncode() == 255
        transport.close()

    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        run(main())
    finally:
        signal.signal(signal.SIGCHLD, previous)


def test_signals(run: Run) -> None:
    async def main() -> None:
        script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done"
        transport, protocol = await start(script, stdin=None, stderr=None)
        while not protocol.output[1]:
            await asyncio.sleep(0)
        transport.send_signal(0)
        with pytest.raises(OSError):
            transport.send_signal(1000)
        transport.send_signal(signal.SIGUSR1)
        await protocol.lost
        assert transport.get_returncode() == 9
        for method in (transport.kill, transport.terminate, lambda: transport.send_signal(0)):
            with pytest.raises(ProcessLookupError):
                method()
        transport.close()

    run(main())


@only_pinloop  # asyncio has the loop keep it
def test_an_unclosed_transport_warns_and_kills(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> subprocess.Popen[bytes]:
        transport, protocol = await start("sleep 1000", stdin=None, stdout=None, stderr=None)
        protocol.transport = None
        popen: subprocess.Popen[bytes] = transport.get_extra_info("subprocess")
        return popen

    popen = loop.run_until_complete(main())
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        gc.collect()
    assert popen.wait() == -signal.SIGKILL


@only_pinloop  # asyncio leaves a descriptor
def test_a_loop_closed_with_a_child_running(loop: asyncio.AbstractEventLoop) -> None:
    transport, protocol = loop.run_until_complete(start("sleep 1000"))
    pid = transport.get_pid()
    loop.close()
    transport.close()
    popen = transport.get_extra_info("subprocess")
    assert popen.wait() == -signal.SIGKILL
    assert pid not in children()
    for file in (popen.stdin, popen.stdout, popen.stderr):
        file.close()
    del protocol.transport


@only_pinloop  # asyncio takes the pipes out of the poll that parent and child share
@pytest.mark.parametrize("how", ["close", "collect"])
def test_a_fork_leaves_the_children_of_its_parent_alone(loop: asyncio.AbstractEventLoop, how: str) -> None:
    transport, protocol = loop.run_until_complete(start("read line; exit 5"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # "This process is multi-threaded"
        fork = os.fork()
    if fork == 0:
        try:
            if how == "close":
                transport.close()
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    transport.__del__()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(fork, 0)[1] == 0
    transport.get_pipe_transport(0).write(b"\n")
    loop.run_until_complete(protocol.lost)
    assert transport.get_returncode() == 5
    transport.close()


# ------------------------------------------------------------------- who else is told --


@pytest.mark.parametrize(
    "method", ["connection_made", "pipe_data_received", "process_exited", "connection_lost"]
)
def test_a_protocol_that_fails_is_reported_and_the_rest_goes_on(
    run: Run, loop_errors: list[Any], method: str
) -> None:
    class Failing(Watching):
        pass

    def fail(self: Any, *args: Any) -> None:
        getattr(Watching, method)(self, *args)
        raise ZeroDivisionError(method)

    setattr(Failing, method, fail)

    async def main() -> None:
        transport, protocol = await start("echo output; exit 2", Failing)
        await protocol.lost
        assert protocol.output[1] == b"output\n"
        assert ("exited", 2) in protocol.told
        transport.close()
        await turns(2)

    run(main())
    assert [type(error["exception"]) for error in loop_errors] == [ZeroDivisionError]
    loop_errors.clear()


@only_pinloop  # asyncio tells of the exit in a context of its own
def test_callbacks_run_in_the_context_of_the_start(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: dict[str, str] = {}

    def noting(method: str) -> Callable[..., None]:
        def note(self: Any, *args: Any) -> None:
            seen[method] = variable.get()
            getattr(Watching, method)(self, *args)

        return note

    methods = (
        "connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"
    )  # fmt: skip
    factory = type("Seeing", (Watching,), {method: noting(method) for method in methods})

    async def main() -> None:
        variable.set("starting")
        transport, protocol = await start("echo x", factory)
        variable.set("later")
        await protocol.lost
        transport.close()

    run(main())
    assert seen == dict.fromkeys(methods, "starting")


def test_another_protocol_takes_over(run: Run) -> None:
    async def main() -> None:
        transport, first = await start("read line; echo $line")
        second = Watching()
        second.transport = transport
        transport.set_protocol(second)
        transport.get_pipe_transport(0).write(b"line\n")
        await second.lost
        assert second.output[1] == b"line\n"
        assert first.told == [("made",)]
        transport.close()

    run(main())


# ---------------------------------------------------------------------------- threads --


def test_in_a_thread_without_a_loop_in_the_main_thread(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], no_fd_leak: None
) -> None:
    async def main() -> int:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
        return await process.wait()

    statuses: list[int] = []

    def work() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            statuses.append(runner.run(main()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert statuses == [3]


def test_the_debug_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        transport, protocol = await start("sleep 1000", stdin=None, stdout=None, stderr=None)
        assert "running" in repr(transport)
        transport.close()
        await protocol.lost
        assert f"pid={transport.get_pid()}" in repr(transport)
        assert "returncode=-9" in repr(transport)
        assert "closed" in repr(transport)

    run(main(), debug=True)
    assert "created: pid" in caplog.text
    assert "Close running child process: kill" in caplog.text
    assert "exited with return code -9" in caplog.text
