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
    """More for pytest; {REDIS_URL} and other names stand for what the servers put into the environment."""
    environment: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    """Folders and files of the tree taken away: they would be imported in place of what is installed."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files put at the root of the tree, where upstream does not run its tests with pytest: what they say."""
    deselect: Mapping[str, str] = field(default_factory=dict)
    """Patterns (fnmatch) of names of tests, and why these are left out."""
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Python versions that the project does not run on, and how that shows."""
    servers: tuple[str, ...] = ()
    place: str = "asyncio"
    """Whose place the loop takes: asyncio's, or also uvloop's."""
    pytest: str = "pytest==9.2.0"
    test_seconds: int = 30
    suite_minutes: int = 20
    smoke: bool = False


NOT_TRIO = {"*[[]trio*": "trio's loop, not asyncio's", "*-trio*": "trio's loop, not asyncio's"}

# Two fifths of aiohttp's tests: of parsers and of what holds data. They run no loop.
AIOHTTP_WITHOUT_LOOP = (
    "circular_imports",
    "client_fingerprint",
    "compression_utils",
    "cookie_helpers",
    "cookiejar",
    "http_exceptions",
    "http_parser",
    "imports",
    "multipart_helpers",
    "route_def",
    "urldispatch",
    "web_exceptions",
    "web_log",
    "websocket_parser",
)

SUITES = (
    Suite(
        name="aiofiles",
        version="25.1.0",
        source=Sdist("aiofiles"),
        requirements=("aiofiles=={version}", "pytest-asyncio==1.5.0"),
        remove=("src",),
    ),
    Suite(
        name="aiohttp",
        version="3.14.5",
        source=Sdist("aiohttp"),
        requirements=(
            "aiohttp=={version}",
            "aiodns",
            "blockbuster",
            "Brotli",
            "coverage",
            "freezegun",
            "gunicorn",
            "isal; python_version < '3.14'",
            "pkgconfig",
            "proxy.py >= 2.4.4rc5",
            "pytest-codspeed",
            "pytest-mock",
            "python-on-whales",
            "trustme",
            "zlib_ng",
        ),
        arguments=(
            "-m",
            "not dev_mode and not autobahn and not internal",
            "--ignore-glob=tests/test_benchmarks_*",
            *(f"--ignore=tests/test_{name}.py" for name in AIOHTTP_WITHOUT_LOOP),
        ),
        remove=("aiohttp",),
        deselect={
            "*::test_keepalive_expires_on_time*": "it patches loop.time(), which native timers do not ask",
            "*::test_concurrent_close_multiple_tasks*": "it counts turns: the answer comes one sooner",
            "*::test_start_tls_connection_returns_none": "asyncio's start_tls() gives None, ours raises",
            "*::test_tcp_connector_do_not_raise_connector_ssl_error*": "a private attribute of a transport",
        },
        suite_minutes=60,
    ),
    Suite(
        name="anyio",
        version="4.16.0",
        source=Sdist("anyio"),
        requirements=(
            "anyio=={version}",
            "blockbuster >= 1.5.29",
            "hypothesis",
            "psutil",
            "pytest-mock",
            "trustme",
            "truststore",
        ),
        arguments=("-m", "not network"),
        remove=("src",),
        deselect={
            **NOT_TRIO,
            # 3 in 10 fail on asyncio too, and more the sooner the loop is closed.
            "*::test_asyncio_run_does_not_leak_event_loop": "a race with a thread that still holds the loop",
        },
    ),
    Suite(
        name="asyncpg",
        version="0.32.0",
        source=Sdist("asyncpg"),
        requirements=("asyncpg=={version}", "distro"),
        arguments=("--ignore=tests/test__sourcecode.py",),
        remove=("asyncpg",),
        servers=("postgresql",),
    ),
    Suite(
        name="httpcore",
        version="1.0.9",
        source=Sdist("httpcore"),
        requirements=(
            "httpcore[asyncio,http2,socks,trio]=={version}",
            "pytest-httpbin",
            "pytest-trio",
            "trustme",
        ),
        tests=("tests/_async", "tests/test_cancellations.py"),
        remove=("httpcore",),
        deselect=NOT_TRIO,
        smoke=True,
    ),
    Suite(
        name="httpx",
        version="0.28.1",
        source=Sdist("httpx"),
        requirements=(
            "httpx[brotli,cli,http2,socks,zstd]=={version}",
            "chardet==5.2.0",
            "cryptography",
            "trio",
            "trustme",
            "uvicorn==0.54.0",
        ),
        remove=("httpx",),
        deselect=NOT_TRIO,
    ),
    Suite(
        name="hypercorn",
        version="0.18.0",
        source=Sdist("hypercorn"),
        requirements=(
            "hypercorn[trio]=={version}",
            "httpx",
            "hypothesis",
            "mock",
            "pytest-asyncio==1.5.0",
            "pytest-trio",
        ),
        remove=("src",),
        arguments=("--ignore=tests/trio",),
        smoke=True,
    ),
    Suite(
        name="pytest-asyncio",
        version="1.5.0",
        source=Sdist("pytest-asyncio"),
        # Without hypothesis and the few tests of it: most others run pytest in the process, and each of these
        # runs would import hypothesis anew, which takes ten times as long as all else.
        requirements=("pytest-asyncio=={version}",),
        arguments=("--ignore=tests/hypothesis",),
        remove=("pytest_asyncio",),
        deselect={
            # It counts warnings; the plugin silences one of them by the name of asyncio's class.
            "*::test_closing_event_loop_in_sync_fixture*": "a warning that is known by the name of a class",
        },
    ),
    Suite(
        name="redis-py",
        version="8.1.0",
        source=Sdist("redis"),
        requirements=(
            "redis=={version}",
            "aiohttp",
            "cryptography",
            "numpy",
            "opentelemetry-api",
            "opentelemetry-exporter-otlp-proto-http",
            "opentelemetry-sdk",
            "pybreaker",
            "pytest-asyncio==1.5.0",
            "redis-entraid==1.2.1",
            "ujson",
            "xxhash",
        ),
        tests=("tests/test_asyncio",),
        arguments=(
            "--redis-url={REDIS_URL}",
            "-m",
            "not onlycluster and not redismod and not cp_integration and not multidb_integration",
            "--ignore=tests/test_asyncio/test_scenario",
        ),
        remove=("redis",),
        servers=("redis",),
    ),
    Suite(
        name="tornado",
        version="6.6.1",
        source=Sdist("tornado"),
        # Its tests are part of the package; the installed one is made from the source distribution too.
        requirements=("--no-binary=tornado", "tornado=={version}", "pycurl"),
        tests=("--pyargs", "tornado.test"),
        arguments=("-p", "as_runtests"),
        remove=("tornado",),
        files={
            "pytest.ini": "[pytest]\npython_files = *_test.py\n",
            # tornado.test.runtests sets this: each test asserts that nothing is logged.
            "as_runtests.py": "import logging\nlogging.getLogger('tornado.access').setLevel(50)\n",
        },
    ),
    Suite(
        name="uvicorn",
        version="0.54.0",
        source=Sdist("uvicorn"),
        requirements=(
            "uvicorn=={version}",
            "a2wsgi==1.10.10",
            "anyio",
            "cryptography",
            "httptools==0.9.0",
            "httpx2",
            "pytest-codspeed",
            "pytest-mock==3.15.1",
            "python-dotenv",
            "PyYAML",
            "trustme==1.2.1",
            "watchfiles",
            "websockets==16.1.1",
            "wsproto==1.3.2",
        ),
        arguments=("--ignore=tests/benchmarks",),
        remove=("uvicorn",),
        deselect={
            "*::test_get_loop_factory[[]asyncio*": "the name of the loop's class is part of its own",
            "tests/test_auto_detection.py::test_loop_auto": "it asks for a class from asyncio's own module",
        },
    ),
    Suite(
        name="uvloop",
        version="0.23.0",
        source=Sdist("uvloop"),
        requirements=("uvloop=={version}", "aiohttp", "psutil", "pyOpenSSL~=26.4.0"),
        arguments=("--ignore=tests/test_sourcecode.py",),
        remove=("uvloop",),
        place="uvloop",
        deselect={
            "*::Test_AIO*": "the same tests for asyncio's own loop",
            "*::*AIO::*": "the same tests for asyncio's own loop",
            # These two are differences that docs/architecture.md tells.
            "*::test_handle_weakref": "no weak references to handles",
            "*::test_tcp_handle_exception_in_connection_made": "connection_lost gets what it raised",
            "*::test_transport_get_extra_info": "a private attribute of asyncio's transports, _paused",
            "*::test_remote_shutdown_receives_trailing_data": "a method that only uvloop's transports have",
            "*::test_ssl_connect_accepted_socket": "it wants SSL in the name of the transport's class",
            "*::test_create_datagram_endpoint_wrong_sock": "it wants the words of a message changed in 3.13",
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
        files={"pytest.ini": "[pytest]\n"},
        environment={"WEBSOCKETS_TESTS_TIMEOUT_FACTOR": "10"},
        deselect={
            "*ConnectionTests::test_local_address": "it patches the class asyncio.BaseTransport",
            "*ConnectionTests::test_remote_address": "it patches the class asyncio.BaseTransport",
            "*ClientServerTests::test_explicit_socket": "it counts calls of a socket object's methods",
        },
        smoke=True,
    ),
)


def named(names: list[str]) -> list[Suite]:
    """The suites of these names, in the table's order.  Raises KeyError with a name that is not there."""
    known = {suite.name: suite for suite in SUITES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise KeyError(unknown[0])
    return [suite for suite in SUITES if suite.name in names]
