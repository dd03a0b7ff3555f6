"""Where watched processes are found: a folder of Unix sockets, one for each, that only their user enters."""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
import tempfile
from pathlib import Path

VARIABLE = "PINLOOP_WATCH_DIR"


def folder() -> Path:
    """`$PINLOOP_WATCH_DIR`, else one of pinloop's in `$XDG_RUNTIME_DIR`, or in that for temporary files."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime, "pinloop")
    return Path(tempfile.gettempdir(), f"pinloop-{os.geteuid()}")


def check(path: Path) -> None:
    """Raise PermissionError unless the folder is this user's alone, FileNotFoundError if there is none."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{path} is no folder")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {found.st_uid}, not to this process's, {os.geteuid()}")
    if found.st_mode & 0o077:
        raise PermissionError(f"{path} can be entered by others than its owner; its mode should be 0700")


def make() -> Path:
    """The folder, made if need be. Raises OSError."""
    path = folder()
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    check(path)
    return path


def listen() -> tuple[socket.socket, Path]:
    """A socket for this process, listening, and where it is. Raises OSError.

    It gets its name only then: whoever finds it can connect to it, and one that refuses is a dead process's.
    """
    place = make()
    sweep(place)
    path, fresh = place / str(os.getpid()), place / f".{os.getpid()}"
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(fresh))
        fresh.chmod(0o600)
        listener.listen(8)
        fresh.rename(path)
    except OSError as error:
        listener.close()
        fresh.unlink(missing_ok=True)
        if "too long" in str(error):
            raise OSError(f"{error}: {path}; {VARIABLE} can name another folder") from None
        raise
    return listener, path


def watched() -> list[int]:
    """The processes that have a socket there. Raises PermissionError."""
    place = folder()
    try:
        check(place)
    except FileNotFoundError:
        return []
    return sweep(place)


def sweep(place: Path) -> list[int]:
    """Remove what killed processes left; whose sockets are there then.

    That there is no process of a number does not say enough: a container has numbers of its own.
    """
    left = []
    for pid in sorted(int(name) for name in os.listdir(place) if name.isascii() and name.isdigit()):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            try:
                connect(pid, 1.0).close()
            except ProcessLookupError:
                continue
            except OSError:
                pass
        except PermissionError:
            pass  # somebody else's, which got the number
        left.append(pid)
    return left


def connect(pid: int, timeout: float) -> socket.socket:
    """A connection to the socket of a process. Raises ProcessLookupError if there is none, OSError.

    A file that a dead process left is removed.
    """
    place = folder()
    path = place / str(pid)
    nobody = f"process {pid} is not watched: there is no {path}"
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        check(place)
        found = path.lstat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{path} is not a socket of this user's")
        connection.connect(os.fspath(path))
        if peer_uid(connection) not in (None, os.geteuid()):
            raise PermissionError(f"another user's process answers at {path}")
    except ConnectionRefusedError:
        connection.close()
        path.unlink(missing_ok=True)
        raise ProcessLookupError(f"process {pid} has ended") from None
    except FileNotFoundError:
        connection.close()
        raise ProcessLookupError(nobody) from None
    except BaseException:
        connection.close()
        raise
    return connection


def peer_uid(connection: socket.socket) -> int | None:
    """Whose process is at the other end; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
