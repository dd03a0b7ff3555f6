"""Child processes by asyncio's own create_subprocess_exec and create_subprocess_shell."""

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, children, only_pinloop
from tests.conftest import LoopFactory, Run

SHELL = "/bin/sh"

since_asyncio_of_314 = pytest.mark.skipif(
    not ON_PINLOOP and sys.version_info < (3, 14), reason="older asyncio gets this wrong"
)


async def start(script: str, **options: Any) -> asyncio.subprocess.Process:
    """A shell that runs `script`."""
    return await asyncio.create_subprocess_exec(SHELL, "-c", script, **options)


async def output_of(script: str, **options: Any) -> str:
    """What `script` prints; it must exit with 0."""
    process = await start(script, stdout=PIPE, **options)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


# --------------------------------------------------------------------- exit status --


@pytest.mark.parametrize("status", [0, 1, 2, 127, 255])
def test_the_exit_status(run: Run, status: int) -> None:
    async def main() -> None:
        process = await start(f"exit {status}")
        assert await process.wait() == status
        assert await process.wait() == status
        assert process.returncode == status

    run(main())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGUSR1"])
def test_the_signal_that_ended_it(run: Run, name: str) -> None:
    async def main() -> None:
        number = getattr(signal, name)
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        assert process.returncode is None
        process.send_signal(number)
        assert await process.wait() == -number

    run(main())


def test_terminate_and_kill(run: Run) -> None:
    async def main() -> None:
        for method, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
            process = await asyncio.create_subprocess_exec("sleep", "1000")
            getattr(process, method)()
            assert await process.wait() == -number

    run(main())


def test_a_stopped_child_has_not_ended(run: Run) -> None:
    async def main() -> None:
        process = await start("kill -STOP $$; exit 8", stdout=PIPE)
        # Until it has stopped, which must not be taken for its end.
        await asyncio.get_running_loop().run_in_executor(None, os.waitid, os.P_PID, process.pid, os.WSTOPPED)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 0.02)
        assert process.returncode is None
        process.send_signal(signal.SIGCONT)
        assert await process.wait() == 8

    run(main())


def test_signals_after_the_end(run: Run) -> None:
    """ProcessLookupError, as the process is known to be gone."""

    async def main() -> None:
        process = await start("exit 3")
        await process.wait()
        await asyncio.sleep(0.01)
        for method in (process.terminate, process.kill, lambda: process.send_signal(signal.SIGTERM)):
            with pytest.raises(ProcessLookupError):
                method()

    run(main())


@only_pinloop  # asyncio may ask Popen, which takes the status
def test_a_signal_to_a_child_that_has_ended_but_was_not_waited_for(run: Run) -> None:
    async def main() -> None:
        process = await start("read line; exit 3", stdin=PIPE)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # the loop has no turn to notice
        process.kill()
        assert await process.wait() == 3

    run(main())


def test_many_wait_for_one(run: Run) -> None:
    async def main() -> None:
        process = await start("read line; exit 5", stdin=PIPE)
        waits = [asyncio.create_task(process.wait()) for _ in range(10)]
        await asyncio.sleep(0)
        waits[0].cancel()
        assert process.stdin is not None
        process.stdin.write(b"\n")
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [5] * 9

    run(main())


@since_asyncio_of_314
def test_wait_does_not_wait_for_who_inherited_the_pipes(run: Run) -> None:
    async def main() -> None:
        process = await start("sleep 1000 & echo $!", stdout=PIPE)
        assert process.stdout is not None
        grandchild = int(await process.stdout.readline())
        try:
            assert await asyncio.wait_for(process.wait(), 10) == 0
        finally:
            os.kill(grandchild, signal.SIGKILL)
        assert await process.stdout.read() == b""

    run(main())


# ------------------------------------------------------------------------ communicate --


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_communicate_both_ways(run: Run, size: int) -> None:
    async def main() -> None:
        data = os.urandom(size)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, err = await process.communicate(data)
        assert out == data
        assert not err
        assert process.returncode == 0

    run(main())


def test_communicate_with_both_outputs(run: Run) -> None:
    async def main() -> None:
        process = await start("cat; echo bad >&2; exit 4", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert await process.communicate(b"good") == (b"good", b"bad\n")
        assert process.returncode == 4

    run(main())


def test_communicate_with_a_child_that_does_not_read(run: Run) -> None:
    async def main() -> None:
        process = await start("exec 0<&-; echo done", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(bytes(1_000_000))
        assert out == b"done\n"

    run(main())


def test_a_conversation(run: Run) -> None:
    async def main() -> None:
        process = await start("while read line; do echo got $line; done", stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        for i in range(50):
            process.stdin.write(b"%d\n" % i)
            await process.stdin.drain()
            assert await process.stdout.readline() == b"got %d\n" % i
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.wait() == 0
        assert await process.stdout.read() == b""

    run(main())


def test_the_limit_of_a_stream(run: Run) -> None:
    async def main() -> None:
        process = await start("printf %0100d 1", stdout=PIPE, limit=50)
        assert process.stdout is not None
        with pytest.raises(ValueError, match="limit"):
            await process.stdout.readline()
        await process.wait()

    run(main())


# ---------------------------------------------------------------------------- options --


def test_standard_streams(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        assert await output_of("echo out; echo err >&2", stderr=STDOUT) == "out\nerr\n"
        assert await output_of("cat; echo nothing", stdin=DEVNULL) == "nothing\n"
        path = tmp_path / "file"
        with open(path, "wb") as file:
            process = await start("echo by file; echo by number >&2", stdout=file, stderr=file.fileno())
            assert process.stdout is None
            await process.wait()
        assert path.read_text() == "by file\nby number\n"
        with open(path) as file:
            assert await output_of("cat", stdin=file) == "by file\nby number\n"
        process = await start("exit 7", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        assert await process.wait() == 7

    run(main())


def test_standard_streams_are_inherited(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        process = await start("echo inherited; echo too >&2")
        await process.wait()

    run(main())
    assert capfd.readouterr() == ("inherited\n", "too\n")


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_pipes_are_pipes(run: Run, fd: int) -> None:
    async def main() -> None:
        options: dict[str, Any] = {("stdin", "stdout", "stderr")[fd]: PIPE}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            f"import os, stat; assert stat.S_ISFIFO(os.fstat({fd}).st_mode)",
            **options,
        )
        await process.communicate()
        assert process.returncode == 0

    run(main())


def test_the_environment_and_the_folder(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        assert (
            await output_of("echo $NAME; pwd", env={"NAME": "value"}, cwd=tmp_path) == f"value\n{tmp_path}\n"
        )

    run(main())


def test_executable_replaces_the_program(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("name", "-c", "echo $0", stdout=PIPE, executable=SHELL)
        out, _ = await process.communicate()
        assert out == b"name\n"

    run(main())


def test_descriptors_are_closed_but_those_passed(run: Run) -> None:
    async def main() -> None:
        r, w = os.pipe()
        os.set_inheritable(w, True)
        try:
            script = f"echo through >/dev/fd/{w}"
            process = await start(script, stderr=DEVNULL)
            assert await process.wait() != 0
            process = await start(script, pass_fds=(w,))
            assert await process.wait() == 0
            assert os.read(r, 100) == b"through\n"
        finally:
            os.close(r)
            os.close(w)

    run(main())


def test_groups_and_sessions(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "1000", start_new_session=True)
        assert os.getsid(process.pid) == process.pid
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        process = await start("sleep 1000 & wait", process_group=0)
        assert os.getpgid(process.pid) == process.pid
        os.killpg(process.pid, signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM

    run(main())


def test_preexec_fn(run: Run) -> None:
    async def main() -> None:
        assert await output_of("umask", preexec_fn=lambda: os.umask(0o027)) in ("0027\n", "027\n")
        with pytest.raises(subprocess.SubprocessError, match="preexec_fn"):
            await start("true", preexec_fn=lambda: 1 // 0)

    run(main())


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_user_and_group(run: Run) -> None:
    async def main() -> None:
        assert await output_of("id -u; id -g", user=65534, group=65534, extra_groups=[]) == "65534\n65534\n"

    run(main())


def test_by_the_shell(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_shell("echo $((1 + 1)); exit 3", stdout=PIPE)
        out, _ = await process.communicate()
        assert out == b"2\n"
        assert process.returncode == 3
        process = await asyncio.create_subprocess_shell(b"exit 4")
        assert await process.wait() == 4

    run(main())


# -------------------------------------------------------------------------- bad input --


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 4096}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
def test_text_is_refused(run: Run, options: dict[str, Any], message: str) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=message):
            await asyncio.create_subprocess_exec("true", **options)
        with pytest.raises(ValueError, match=message):
            await asyncio.create_subprocess_shell("true", **options)

    run(main())


def test_the_wrong_method_for_the_shell(run: Run) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with pytest.raises(ValueError, match="shell must be False"):
            await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", shell=True)
        with pytest.raises(ValueError, match="shell must be True"):
            await loop.subprocess_shell(asyncio.SubprocessProtocol, "true", shell=False)
        for command in (["true"], 3, None):
            with pytest.raises(ValueError, match="cmd must be a string"):
                await loop.subprocess_shell(asyncio.SubprocessProtocol, command)
        with pytest.raises(TypeError):
            await loop.subprocess_exec(asyncio.SubprocessProtocol)
        with pytest.raises(TypeError):
            await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", nonsense=1)
        with pytest.raises(TypeError):
            await loop.subprocess_exec(asyncio.SubprocessProtocol, 3)

    run(main())


@pytest.mark.parametrize("absolute", [True, False])
def test_a_program_that_is_not_there(run: Run, tmp_path: Path, absolute: bool) -> None:
    async def main() -> None:
        name = str(tmp_path / "missing") if absolute else "no-such-program-anywhere"
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec(name, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert caught.value.filename == name

    run(main())


def test_a_program_that_may_not_be_run(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "file"
        path.write_text("#!/bin/sh\n")
        with pytest.raises(PermissionError) as caught:
            await asyncio.create_subprocess_exec(str(path), stdout=PIPE)
        assert caught.value.filename == str(path)

    run(main())


def test_a_folder_that_is_not_there(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec("true", cwd=tmp_path / "missing")
        assert str(caught.value.filename) == str(tmp_path / "missing")

    run(main())


# ----------------------------------------------------------------------- cancellation --


@pytest.mark.parametrize("pipes", [{}, {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}])
@pytest.mark.parametrize("turns", range(4))
def test_cancellation_of_a_start_leaves_no_child(run: Run, pipes: dict[str, Any], turns: int) -> None:
    async def main() -> None:
        before = children()
        task = asyncio.create_task(asyncio.create_subprocess_exec("sleep", "1000", **pipes))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            pass
        else:  # it was there already
            process.kill()
            await process.communicate()
        assert children() == before

    run(main())


def test_cancellation_of_a_wait_leaves_the_child_alone(run: Run) -> None:
    async def main() -> None:
        process = await start("read line", stdin=PIPE)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 0.01)
        assert process.returncode is None
        assert process.stdin is not None
        process.stdin.write(b"\n")
        assert await process.wait() == 0

    run(main())


# -------------------------------------------------------------------- child watchers --


@only_pinloop  # asyncio's older versions ask the watcher of the main thread's loop
def test_no_signal_handler_and_no_child_watcher_is_needed(run: Run) -> None:
    async def main() -> None:
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
        process = await start("exit 9")
        assert await process.wait() == 9
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL

    run(main())


@only_pinloop
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="policies have no child watchers any more")
def test_a_policy_without_child_watchers(loop_factory: LoopFactory, no_fd_leak: None) -> None:
    class Policy(asyncio.DefaultEventLoopPolicy):
        def get_child_watcher(self) -> Any:
            raise NotImplementedError

        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return loop_factory()

    async def main() -> int:
        return await (await start("exit 6")).wait()

    asyncio.set_event_loop_policy(Policy())
    try:
        assert asyncio.run(main()) == 6
    finally:
        asyncio.set_event_loop_policy(None)
