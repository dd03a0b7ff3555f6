"""The servers that some suites talk to: Debian's, in a temporary folder, on free ports, gone at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .prepare import Unavailable

READY_SECONDS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Start servers and stop them; gives what the suite's processes find in their environment.

    Raises Unavailable if one is not installed or does not start.
    """
    with contextlib.ExitStack() as stack:
        environment: dict[str, str] = {}
        for name in names:
            environment.update(stack.enter_context(SERVERS[name]()))
        yield environment


@contextlib.contextmanager
def redis() -> Iterator[dict[str, str]]:
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("it needs redis-server (on Debian and Ubuntu: apt-get install redis-server)")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, (Path(folder) / "log").open("wb") as log:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", folder, "--enable-debug-command", "yes", "--enable-module-command", "yes"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(port, process, Path(folder) / "log")
            yield {"REDIS_PORT": str(port), "REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """No server: asyncpg's tests start their own clusters, and need to know where the programs are.

    PostgreSQL refuses to run as root. There, each program is wrapped in one that gives root's rights up.
    """
    programs = postgresql_programs()
    if os.geteuid() != 0:
        yield {"PGINSTALLATION": str(programs)}
        return
    if shutil.which("setpriv") is None:
        raise Unavailable("PostgreSQL refuses to run as root, and there is no setpriv (of util-linux)")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        os.chmod(folder, 0o755)
        for program in programs.iterdir():
            wrapper = Path(folder) / program.name
            wrapper.write_text(AS_NOBODY.format(program=program))
            wrapper.chmod(0o755)
        yield {"PGINSTALLATION": folder}


# The data folder that was made for root, and what root has put into it since, are handed over.
AS_NOBODY = """\
#!/bin/sh
previous=
for argument; do
  if [ "$previous" = -D ] && [ -d "$argument" ]; then chown -R nobody "$argument"; fi
  previous=$argument
done
exec setpriv --reuid=nobody --regid=nogroup --clear-groups {program} "$@"
"""


def postgresql_programs() -> Path:
    """The folder of the newest pg_ctl: Debian keeps it out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[4]))
    if versions:
        return versions[-1].parent
    program = shutil.which("pg_ctl")
    if program is None:
        raise Unavailable("it needs PostgreSQL's server (on Debian and Ubuntu: apt-get install postgresql)")
    return Path(program).resolve().parent


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server accepts connections.  Raises Unavailable with what it said if it does not."""
    limit = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < limit:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Unavailable(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-2000:]}")


SERVERS = {"redis": redis, "postgresql": postgresql}
