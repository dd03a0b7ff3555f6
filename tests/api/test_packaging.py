"""The package as installed: these tests fail when the suite runs against anything but a built wheel."""

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pinloop
import pinloop._core

INSTALLED = Path(pinloop.__file__).resolve().parent


def python(*args: str) -> subprocess.CompletedProcess[str]:
    """Run this Python away from the tree and from the user's settings."""
    command = [sys.executable, "-I", "-W", "error", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd="/")


def test_imported_from_site_packages() -> None:
    assert INSTALLED.parent == Path(sysconfig.get_path("platlib")).resolve()


def test_core_is_an_extension_module_beside_the_package() -> None:
    core = Path(pinloop._core.__file__).resolve()
    assert core.parent == INSTALLED
    assert core.name == "_core" + sysconfig.get_config_var("EXT_SUFFIX")


def test_version_is_the_one_of_the_metadata() -> None:
    assert pinloop.__version__ == metadata.version("pinloop")


def test_no_runtime_dependencies() -> None:
    assert [line for line in metadata.requires("pinloop") or [] if "extra ==" not in line] == []


def test_extras() -> None:
    extras = metadata.metadata("pinloop").get_all("Provides-Extra")
    assert extras is not None
    assert {"bench", "dev", "test"} <= set(extras)


def test_typed_and_with_the_files_of_the_benchmark() -> None:
    assert (INSTALLED / "py.typed").exists()
    assert (INSTALLED / "_core.pyi").exists()
    assert list((INSTALLED / "bench" / "native").glob("*.c"))
    assert (INSTALLED / "bench" / "servers" / "public-test-key.pem").exists()


def test_no_sources_of_the_extension_in_the_wheel() -> None:
    assert [path for path in INSTALLED.rglob("*") if path.suffix in {".pyx", ".pxd", ".pxi"}] == []
    assert list(INSTALLED.glob("*.c")) == []


def test_importing_is_silent() -> None:
    done = python("-c", "import pinloop")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_leaves_the_event_loop_policy_alone() -> None:
    code = "import asyncio, pinloop\nwith asyncio.Runner() as r: print(type(r.get_loop()).__module__)"
    assert python("-c", code).stdout == "asyncio.unix_events\n"
