"""What a suite needs before it can run: a virtual environment of its own, and the tree with its tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .suites import DebianSource, Sdist, Suite

HARNESS = ("pytest-timeout==2.4.0",)
QUIET = ("--quiet", "--disable-pip-version-check", "--no-input")


class Unavailable(Exception):
    """A suite cannot run here; says what is missing."""


@dataclass(frozen=True)
class Place:
    """Where a suite is run."""

    folder: Path
    python: Path
    tree: Path


def call(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    """Run a command quietly.  Raises Unavailable with the end of what it said if it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"{what} failed:\n{done.stdout[-2000:]}")


def prepare(suite: Suite, work: Path, pinloop: Path) -> Place:
    """Make or bring up to date all that a suite needs under `work`.

    `pinloop` is a wheel, or a folder with a built package.  Raises Unavailable if something cannot be had.
    """
    folder = work / suite.name
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(suite, folder)
    if pinloop.suffix == ".whl":
        install_wheel(python, folder / "wheel", pinloop)
    return Place(folder, python, tree(suite, folder, python))


def environment(suite: Suite, folder: Path) -> Path:
    """The Python of the suite's virtual environment, made again when what it asks for has changed."""
    wanted = [suite.pytest, *HARNESS, *(line.format(version=suite.version) for line in suite.requirements)]
    python, stamp = folder / "venv/bin/python", folder / "venv/.requirements"
    text = "\n".join([sys.version, sys.base_prefix, *wanted])
    if stamp.exists() and stamp.read_text() == text:
        return python
    shutil.rmtree(folder / "venv", ignore_errors=True)
    call([sys.executable, "-m", "venv", str(folder / "venv")], "making a virtual environment")
    call([str(python), "-m", "pip", "install", *QUIET, "--prefer-binary", *wanted], "pip install")
    stamp.write_text(text)
    return python


def install_wheel(python: Path, stamp: Path, wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest() + str(python.stat().st_ctime_ns)
    if stamp.exists() and stamp.read_text() == digest:
        return
    options = [*QUIET, "--force-reinstall", "--no-deps", "--no-index"]
    call([str(python), "-m", "pip", "install", *options, str(wheel)], "installing pinloop's wheel")
    stamp.write_text(digest)


def tree(suite: Suite, folder: Path, python: Path) -> Path:
    """The suite's source tree, unpacked."""
    where, stamp = folder / "tree", folder / "tree.stamp"
    text = repr((suite.version, suite.source, suite.remove, suite.files))
    if stamp.exists() and stamp.read_text() == text:
        return where
    for old in (where, folder / "source"):
        shutil.rmtree(old, ignore_errors=True)
    (folder / "source").mkdir()
    if isinstance(suite.source, Sdist):
        archive = fetch_sdist(suite, suite.source, folder / "source", python)
    else:
        archive = fetch_debian(suite, suite.source, folder / "source")
    with tarfile.open(archive) as archived:
        archived.extractall(folder / "source", filter="data")
    (unpacked,) = (path for path in (folder / "source").iterdir() if path.is_dir() and path.name != "apt")
    unpacked.rename(where)
    for name in suite.remove:
        path = where / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in suite.files.items():
        (where / name).write_text(content)
    stamp.write_text(text)
    return where


def fetch_sdist(suite: Suite, source: Sdist, folder: Path, python: Path) -> Path:
    wanted = f"{source.project}=={suite.version}"
    options = ["--no-deps", "--no-binary", source.project, "--dest", str(folder)]
    call([str(python), "-m", "pip", "download", *QUIET, *options, wanted], f"pip download {wanted}")
    (archive,) = folder.glob("*.tar.gz")
    return archive


def fetch_debian(suite: Suite, source: DebianSource, folder: Path) -> Path:
    """The upstream tarball of a Debian source package, by apt with lists of its own beside the system's."""
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if shutil.which("apt-get") is None or not keyring.exists():
        raise Unavailable(
            f"its tests are in Debian's source package {source.package}: this needs apt-get and {keyring} "
            "(the package debian-archive-keyring)"
        )
    apt = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "sources.list").write_text(
        f"deb-src [signed-by={keyring}] http://deb.debian.org/debian {source.release} main\n"
    )
    (apt / "conf").write_text(
        f'Dir::Etc::sourcelist "{apt}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{apt}/lists";\nDir::Cache "{apt}/cache";\nAPT::Sandbox::User "";\n'
    )
    with_lists = {"APT_CONFIG": str(apt / "conf")}
    call(["apt-get", "update"], "apt-get update", with_lists)
    fetch = ["apt-get", "source", "--download-only", "--tar-only", source.package]
    call(["env", f"--chdir={folder}", *fetch], " ".join(fetch), with_lists)
    (archive,) = folder.glob("*.orig.tar.*")
    if suite.version not in archive.name:
        raise Unavailable(f"Debian {source.release} has {archive.name}, the table asks for {suite.version}")
    return archive
