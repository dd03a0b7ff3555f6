"""Compile the C programs on first use, into the user's cache, under a name that changes with their source."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .errors import BenchError

SOURCES = Path(__file__).with_name("native")
PROGRAMS = {
    "load": ("load.c", "net.c", "exchange.c", "datagrams.c", "fetch.c", "hold.c"),
    "floor": ("floor.c",),
}
FLAGS = ("-O2",)
LIBRARIES = ("-lm",)


def _compiler() -> list[str]:
    """The C compiler's command: CC, or cc."""
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(command[0]) is None:
        asked = "named by CC " if os.environ.get("CC") else ""
        raise BenchError(
            f"no C compiler: {command[0]!r} {asked}is not on PATH. The benchmark's load program is C and is "
            "compiled on first use: install a compiler (Debian: apt install gcc libc6-dev; macOS: "
            "xcode-select --install) or name yours by the environment variable CC"
        )
    return command


def _cache_root() -> Path:
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"])
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _cache_folder(compiler: list[str]) -> Path:
    digest = hashlib.sha256(repr((compiler, FLAGS, LIBRARIES, platform.machine(), sys.platform)).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in {".c", ".h"}:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return _cache_root() / "pinloop" / "bench" / digest.hexdigest()[:16]


def _compile(compiler: list[str], sources: tuple[str, ...], target: Path) -> None:
    """Compile beside the target and rename: another run never sees half a program."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / target.name
        command = [
            *compiler,
            *FLAGS,
            "-o",
            str(fresh),
            *(str(SOURCES / name) for name in sources),
            *LIBRARIES,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"cannot compile {target.name}: {shlex.join(command)}\n{done.stderr.strip()}")
        os.replace(fresh, target)


def program(name: str) -> Path:
    """The path of the compiled program *name* (`load` or `floor`).

    Raises `BenchError` if there is no compiler, it fails, or the cache cannot be written.
    """
    compiler = _compiler()
    target = _cache_folder(compiler) / name
    if target.exists():
        return target
    try:
        _compile(compiler, PROGRAMS[name], target)
    except OSError as error:
        raise BenchError(f"cannot write {target}: {error}; XDG_CACHE_HOME names another cache") from error
    return target
