"""Child processes: the transport of one, and how its exit is learnt.

The exit comes by pidfd where the kernel has it, else from a thread that waits.  Only the
loop's own thread takes the exit status, so that until then the process's number is its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import threading
import warnings
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from ._endpoints import Endpoints, ProtocolFactory

STATUS_LOST = 255  # reported, as asyncio does, for a child that somebody else waited for

ExitCallback = Callable[[int | None], object]


# ------------------------------------------------------------- the exit --


class ThreadWatcher:
    """Waits for a child in a thread, where there is no pidfd; as `_core.ChildWatcher` otherwise."""

    def __init__(
        self, loop: Endpoints, pid: int, callback: ExitCallback, context: contextvars.Context
    ) -> None:
        self._loop = loop
        self._pid = pid
        self._callback = callback
        self._context = context
        self._reaped = False
        threading.Thread(target=self._wait, name=f"pinloop-waitpid-{pid}", daemon=True).start()

    def _wait(self) -> None:
        try:
            # The status stays: the loop's thread takes it, which may be about to send a signal.
            while _only_stopped(os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)):
                os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else took it, as _exited will find
        try:
            self._loop.call_soon_threadsafe(self._exited, context=self._context)
        except RuntimeError:  # the loop was closed: nobody else would ever take the status
            self._reap()

    def _reap(self) -> int | None:
        self._reaped = True
        try:
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)

    def _exited(self) -> None:
        self._callback(self._reap())

    def close(self) -> None:
        """As `_core.ChildWatcher.close`, but the thread still waits, and takes the status."""

    def is_running(self) -> bool:
        """As `_core.ChildWatcher.is_running`."""
        try:
            found = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return found is None or _only_stopped(found)

    def send_signal(self, sig: int) -> None:
        """As `_core.ChildWatcher.send_signal`."""
        if self._reaped:
            raise ProcessLookupError(f"process {self._pid} has exited")
        os.kill(self._pid, sig)


def _only_stopped(found: os.waitid_result | None) -> bool:
    """Whether a child has not exited: macOS tells of the stopped ones too."""
    return found is not None and found.si_code == os.CLD_STOPPED


def watch_exit(
    loop: Endpoints, pid: int, callback: ExitCallback, context: contextvars.Context
) -> _core.ChildWatcher | ThreadWatcher:
    """Call `callback(status)` once child `pid` has exited: its status, or None if somebody else took it."""
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        # No pidfd: an old kernel or another system, a sandbox, or no descriptor left.
        return ThreadWatcher(loop, pid, callback, context)
    try:
        return _core.watch_child(loop, pid, pidfd, callback, context)
    except OSError:
        os.close(pidfd)
        return ThreadWatcher(loop, pid, callback, context)


# ------------------------------------------------------------ the pipes --


class _Pipe(asyncio.Protocol):
    """The protocol of one of a child's pipes: passes on what happens, with the fd it is to the child."""

    def __init__(self, process: SubprocessTransport, fd: int) -> None:
        self._process = process
        self.fd = fd
        self.transport: Any = None
        self.connected = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._process._tell("pipe_data_received", self.fd, data)

    def pause_writing(self) -> None:
        self._process._tell("pause_writing")

    def resume_writing(self) -> None:
        self._process._tell("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.connected = False
        self._process._tell("pipe_connection_lost", self.fd, exc)
        self._process._finish_if_done()


# -------------------------------------------------------- the transport --


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process."""

    _popen: subprocess.Popen[bytes] | None = None

    def __init__(self, loop: Endpoints, protocol: Any, popen: subprocess.Popen[bytes]) -> None:
        super().__init__({"subprocess": popen})
        self._loop = loop
        self._protocol = protocol
        self._pid = popen.pid
        self._returncode: int | None = None
        self._closed = False
        self._finished = False
        self._pipes: dict[int, _Pipe] = {}
        self._exit_waiters: set[asyncio.Future[None]] = set()
        self._untold: list[tuple[Any, ...]] | None = []  # what came before connection_made
        self._context = contextvars.copy_context()
        self._watcher = watch_exit(loop, popen.pid, self._exited, self._context)
        self._popen = popen  # ours to end from now on

    async def _connect_pipes(self, popen: subprocess.Popen[bytes]) -> None:
        loop = self._loop
        for fd, file, connect in (
            (0, popen.stdin, loop.connect_write_pipe),
            (1, popen.stdout, loop.connect_read_pipe),
            (2, popen.stderr, loop.connect_read_pipe),
        ):
            if file is not None:
                pipe = _Pipe(self, fd)
                await connect(lambda pipe=pipe: pipe, file)  # type: ignore[misc]
                self._pipes[fd] = pipe

    def _begin(self) -> None:
        """Tell the protocol that it is connected, and then what happened before."""
        untold, self._untold = self._untold, None
        self._context.run(self._tell, "connection_made", self)
        for call in untold or ():
            self._tell(*call)
        if self._returncode is not None:
            self._tell_exit()

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        if self._closed:
            parts.append("closed")
        if self._popen is None and self._returncode is None:
            parts.append("not started")
        else:
            parts.append(f"pid={self._pid}")
            parts.append("running" if self._returncode is None else f"returncode={self._returncode}")
        for fd, name in enumerate(("stdin", "stdout", "stderr")):
            if fd in self._pipes:
                parts.append(f"{name}={self._pipes[fd].transport!r}")
        return f"<{' '.join(parts)}>"

    # ------------------------------------------------------------ callbacks --

    def _tell(self, method: str, *args: Any) -> None:
        if self._untold is not None:
            self._untold.append((method, *args))
            return
        protocol = self._protocol
        try:
            getattr(protocol, method)(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler(
                {
                    "message": f"Fatal error: protocol.{method}() call failed.",
                    "exception": exc,
                    "transport": self,
                    "protocol": protocol,
                }
            )

    def _exited(self, status: int | None) -> None:
        popen = self._popen
        assert popen is not None
        if status is None:
            status = popen.returncode  # who asked Popen took the status, and it is not lost
        if status is None:
            status = STATUS_LOST
            logger.warning(
                "child process pid %d exit status already read:  will report returncode 255", self._pid
            )
        if popen.returncode is None:
            popen.returncode = status
        self._returncode = status
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, status)
        for waiter in self._exit_waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._untold is None:
            self._tell_exit()

    def _tell_exit(self) -> None:
        try:
            for pipe in self._pipes.values():
                if pipe.fd and pipe.connected:
                    pipe.transport._drain()  # what it wrote comes before its exit
        finally:
            self._tell("process_exited")
            self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._returncode is None or self._finished or self._untold is not None:
            return
        for pipe in self._pipes.values():
            if pipe.connected:
                return
        self._finished = True
        self._loop.call_soon(self._finish, context=self._context)

    def _finish(self) -> None:
        try:
            self._tell("connection_lost", None)
        finally:
            self._protocol = None
            self._popen = None

    async def _wait(self) -> int:
        """Wait for the exit and return its status.  Cancellation leaves the child alone."""
        if self._returncode is None:
            waiter = self._loop.create_future()
            self._exit_waiters.add(waiter)
            try:
                await waiter
            finally:
                self._exit_waiters.discard(waiter)
        assert self._returncode is not None
        return self._returncode

    # -------------------------------------------------------- what users call --

    def get_pid(self) -> int:
        """The child's process id."""
        return self._pid

    def get_returncode(self) -> int | None:
        """The exit status; -N if signal N ended it; None while it runs."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        """The transport of the child's stdin (0), stdout (1) or stderr (2); None if that is no pipe."""
        pipe = self._pipes.get(fd)
        return pipe.transport if pipe is not None else None

    def get_protocol(self) -> Any:
        """The current protocol; None after `connection_lost`."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what happens from now on to another protocol."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def send_signal(self, signal: int) -> None:
        """Send it a signal.  Does nothing after its exit; ProcessLookupError after `connection_lost`."""
        if self._popen is None:
            raise ProcessLookupError(f"process {self._pid} has exited")
        if self._returncode is not None:
            return
        try:
            self._watcher.send_signal(signal)
        except ProcessLookupError:
            pass  # somebody else waited for it

    def terminate(self) -> None:
        """Send it SIGTERM.  As `send_signal` otherwise."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL.  As `send_signal` otherwise."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close its pipes, and kill it if it runs; its exit and `connection_lost` follow."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes.values():
            pipe.transport.close()
        if self._returncode is None and self._popen is not None and self._watcher.is_running():
            if self._loop.get_debug():
                logger.warning("Close running child process: kill %r", self)
            try:
                self._popen.kill()
            except PermissionError:
                pass  # it runs as another user
        if self._loop.is_closed():
            self._watcher.close()  # nobody would be told; Popen is left to wait for it

    def __del__(self) -> None:
        if self._popen is not None and not self._closed:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()


# --------------------------------------------------------- making one --


def _check_plain(
    bufsize: int = 0,
    universal_newlines: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
) -> None:
    """Raise ValueError for what would make the pipes buffered, or text."""
    if universal_newlines:
        raise ValueError("universal_newlines must be False")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


_NOT_PLAIN = ("bufsize", "universal_newlines", "text", "encoding", "errors")


async def start(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    args: Any,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    options: dict[str, Any],
    *,
    by_shell: bool,
) -> tuple[asyncio.SubprocessTransport, Any]:
    """See Loop.subprocess_exec and Loop.subprocess_shell; `args` is for one of them a tuple."""
    if by_shell and not isinstance(args, (bytes, str)):
        raise ValueError("cmd must be a string")
    if options:
        if bool(options.pop("shell", by_shell)) is not by_shell:
            raise ValueError(f"shell must be {by_shell}")
        _check_plain(**{name: options.pop(name) for name in _NOT_PLAIN if name in options})
    loop._check_closed()
    protocol = protocol_factory()
    # In this thread: with vfork it lasts until the exec, and a thread would only add its own cost.
    popen = subprocess.Popen(  # noqa: ASYNC220
        args, shell=by_shell, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=0, **options
    )
    try:
        transport = SubprocessTransport(loop, protocol, popen)
    except BaseException:
        with popen:  # which closes its pipes and waits for it
            popen.kill()
        raise
    if loop.get_debug():
        logger.debug("process %r created: pid %s", args if by_shell else args[0], popen.pid)
    try:
        if popen.stdin is popen.stdout is popen.stderr is None:
            await asyncio.sleep(0)  # a process takes long to make: let others run
        else:
            await transport._connect_pipes(popen)
    except BaseException as failure:
        transport.close()
        for fd, file in enumerate((popen.stdin, popen.stdout, popen.stderr)):
            if file is not None and fd not in transport._pipes:
                file.close()  # no transport of it was made
        if not isinstance(failure, (SystemExit, KeyboardInterrupt)):
            await transport._wait()
        raise
    transport._begin()
    return transport, protocol
