"""A child process that answers lines with lines of JSON, within a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .cpus import pinned
from .errors import BenchError, MeasurementError, NotOfferedError


def python_script(name: str, *words: str) -> list[str]:
    """The command line of a script of this folder."""
    return [sys.executable, "-P", str(Path(__file__).with_name(name)), *words]


def python_child(*words: str) -> list[str]:
    """The command line of the measured Python process; see `child.py`."""
    return python_script("child.py", *words)


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files, which children inherit, to *count*.

    Raises `BenchError` if the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise BenchError(
            f"{count} open files are needed and {hard} are allowed: raise the hard limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class Child:
    """A process of ours, on a CPU of its own; leaving the block kills it and whatever it started.

    Each call raises `MeasurementError` if the child has died, answers nonsense or not in time, and
    `NotOfferedError` if its answer says so.
    """

    def __init__(self, command: list[str], cpu: int | None, timeout: float) -> None:
        """Start *command* on *cpu*. *timeout* is in seconds and bounds each answer."""
        self._name = Path(command[0]).name
        self._timeout = timeout
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._pending = b""
        with pinned(cpu):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                start_new_session=True,
                # Debug mode is not what is measured, wherever the bench itself is run.
                env=os.environ | {"PYTHONASYNCIODEBUG": ""},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            # The child leads a session of its own, so this reaches its children too.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()

    def tell(self, line: str) -> None:
        """Send one line."""
        try:
            self._stdin.write(line.encode() + b"\n")
        except OSError:
            raise MeasurementError(self._obituary()) from None

    def ask(self, line: str, timeout: float | None = None) -> dict[str, Any]:
        """Send one line, return the answer to it. *timeout*, in seconds, stands in for the child's own."""
        self.tell(line)
        return self.answer(timeout)

    def answer(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next line of JSON that the child prints."""
        line = self._line(self._timeout if timeout is None else timeout)
        try:
            answer: Any = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise MeasurementError(f"{self._name} said {line[:200]!r}")
        if "not_offered" in answer:
            raise NotOfferedError(answer["not_offered"])
        if "failed" in answer:
            raise MeasurementError(answer["failed"])
        return answer

    def _line(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise MeasurementError(
                    f"{self._name} gave no answer within {timeout:.0f} s{self._last_words()}"
                )
            data = os.read(self._stdout.fileno(), 65536)
            if not data:
                raise MeasurementError(self._obituary())
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _obituary(self) -> str:
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return f"{self._name} closed its output{self._last_words()}"
        if status < 0:
            return f"{self._name} was killed by {signal.Signals(-status).name}{self._last_words()}"
        return f"{self._name} ended with status {status}{self._last_words()}"

    def _last_words(self) -> str:
        """The last line of the child's standard error, which in Python is the exception."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:300]}" if lines else ""
