"""The suites: for each the version, the source of its tests, what it needs, what is left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sdist:
    """The project's own source distribution on PyPI, of the suite's version."""

    project: str


@dataclass(frozen=True)
class DebianSource:
    """The upstream tree of a Debian source package, for projects whose source distributions have no tests."""

    package: str
    release: str


@dataclass(frozen=True)
class Suite:
    """One project's suite."""

    name: str
    version: str
    source: Sdist | DebianSource
    requirements: tuple[str, ...]
    """What pip installs beside pytest and pytest-timeout; {version} stands for the version."""
    tests: tuple[str, ...] = ("tests",)
    """What pytest is given, seen from the root of the source tree."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    """Folders and files of the tree taken away: they would be imported in place of what is installed."""
    ini: str | None = None
    """What a pytest.ini at the root of the tree says, where upstream does not run its tests with pytest."""
    deselect: Mapping[str, str] = field(default_factory=dict)
    """Patterns (fnmatch) of names of tests, and why these are left out."""
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Python versions that the project does not run on, and how that shows."""
    servers: tuple[str, ...] = ()
    place: str = "asyncio"
    """Whose place the loop takes: asyncio's, or also uvloop's."""
    unprivileged: bool = False
    """Whether root's rights are given up first."""
    pytest: str = "pytest==9.2.0"
    test_seconds: int = 30
    suite_minutes: int = 20
    smoke: bool = False


SUITES = (
    Suite(
        name="uvicorn",
        version="0.54.0",
        source=Sdist("uvicorn"),
        requirements=(
            "uvicorn=={version}",
            "httptools==0.9.0",
            "websockets==16.1.1",
            "wsproto==1.3.2",
            "python-dotenv",
            "PyYAML",
            "watchfiles",
            "httpx2",
            "a2wsgi==1.10.10",
            "trustme==1.2.1",
            "cryptography",
            "pytest-mock==3.15.1",
            "pytest-codspeed",
            "anyio",
        ),
        arguments=("--ignore=tests/benchmarks",),
        remove=("uvicorn",),
        deselect={
            "tests/test_auto_detection.py::test_loop_auto": "it asks for a class from asyncio's own module"
        },
    ),
    Suite(
        name="websockets",
        version="15.0.1",
        # No source distribution on PyPI has the tests that use a loop: 14 to 16.1 have those of the parsers.
        source=DebianSource("python-websockets", "trixie"),
        requirements=("websockets=={version}", "python-socks[asyncio]", "werkzeug"),
        tests=("tests/asyncio", "tests/legacy"),
        remove=("src",),
        ini="",
        environment={"WEBSOCKETS_TESTS_TIMEOUT_FACTOR": "4"},
    ),
)


def named(names: list[str]) -> list[Suite]:
    """The suites of these names, in the table's order.  Raises KeyError with a name that is not there."""
    known = {suite.name: suite for suite in SUITES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise KeyError(unknown[0])
    return [suite for suite in SUITES if suite.name in names]
