"""Builds the wheel for the Python that runs this, from an sdist, away from the source tree.

    python wheels/build.py WORK OUT

WORK is a folder that only this build uses, so that several Pythons can build from one checkout at the same
time. It keeps the compiled objects: the next build compiles only when a source of the extension has changed.
The wheel is built from the unpacked sdist, which shows each time that the sdist is complete. The wheel goes
to OUT and its path is the only thing printed. setuptools and Cython must be installed.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ["cext", "src", "tests", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"]


def check_tools() -> None:
    """Say what is missing before a compiler says it in its own way."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        sys.exit(f"no {header}: install the headers of this Python (on Debian and Ubuntu: python3-dev)")
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        sys.exit(f"no C compiler: {compiler} is not in PATH (set CC to name another)")


def hook(name: str, cwd: Path, out: Path) -> Path:
    """Run one hook of the build backend in cwd; what it made in out.

    Of what it says, only the compilers' warnings are passed on; all of it if it fails.
    """
    code = f"from setuptools import build_meta; print(build_meta.{name}({str(out)!r}))"
    out.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-u", "-c", code],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nwheels/build.py: {name} failed")
    lines = done.stdout.splitlines()
    for line in lines:
        if "warning: " in line and "cext" in line:
            print(line, file=sys.stderr)
    return out / lines[-1]


def copy_tree(tree: Path) -> None:
    """A copy of the sources with their times, for setuptools writes beside what it packs."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
        else:
            shutil.copy2(ROOT / name, tree / name)


def unpack(sdist: Path, unpacked: Path) -> None:
    """Lay the sdist's files in a folder of which only build/, the compiled objects, outlives a build."""
    kept = unpacked / "build"
    for old in unpacked.glob("*"):
        if old != kept:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for old in kept.glob("lib*/**/*"):
        if old.is_file() and old.suffix != ".so":
            old.unlink()
    fresh = unpacked.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.unpack_archive(sdist, fresh)
    unpacked.mkdir(exist_ok=True)
    for new in next(fresh.iterdir()).iterdir():
        new.rename(unpacked / new.name)


def main() -> None:
    work, out = (Path(arg).resolve() for arg in sys.argv[1:])
    check_tools()
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        copy_tree(work / "tree")
        sdist = hook("build_sdist", work / "tree", work / "sdist")
        unpack(sdist, work / "unpacked")
        print(hook("build_wheel", work / "unpacked", out))


if __name__ == "__main__":
    main()
