"""Every public method of asyncio's loop, server, transports and handles is here, with the same parameters.

And docs/compatibility.md says so: each column of its tables is checked by the version it is about.
"""

import asyncio
import inspect
import re
import socket
import sys
from asyncio import base_events, base_subprocess, selector_events, sslproto, unix_events
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop import _core, _subprocess
from tests.api.support import ON_PINLOOP

pytestmark = pytest.mark.skipif(not ON_PINLOOP, reason="compares pinloop's classes with asyncio's")

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# asyncio's class, and what stands in for it.
LOOPS = {"abstract loop": asyncio.AbstractEventLoop, "loop": asyncio.SelectorEventLoop}
TRANSPORTS: dict[str, tuple[type[Any], type[Any]]] = {
    "stream": (selector_events._SelectorSocketTransport, _core.StreamTransport),  # type: ignore[attr-defined]
    "TLS": (sslproto._SSLProtocolTransport, _core.TlsTransport),
    "datagram": (selector_events._SelectorDatagramTransport, _core.DatagramTransport),  # type: ignore[attr-defined]
    "read pipe": (unix_events._UnixReadPipeTransport, _core.ReadPipeTransport),  # type: ignore[attr-defined]
    "write pipe": (unix_events._UnixWritePipeTransport, _core.WritePipeTransport),  # type: ignore[attr-defined]
    "subprocess": (base_subprocess.BaseSubprocessTransport, _subprocess.SubprocessTransport),
}
PAIRS: dict[str, tuple[type[Any], type[Any]]] = {
    **{name: (theirs, pinloop.Loop) for name, theirs in LOOPS.items()},
    **TRANSPORTS,
    "Server": (base_events.Server, pinloop.Server),
    "Handle": (asyncio.Handle, _core.Handle),
    "TimerHandle": (asyncio.TimerHandle, _core.TimerHandle),
}

# Parameters that differ on purpose, each with the reason.
DIFFERENT = {
    ("abstract loop", "create_datagram_endpoint", "reuse_address"): "asyncio's own loop took it away in 3.11",
    ("abstract loop", "sock_recv", "nbytes"): "asyncio's own loop calls it n",
    ("abstract loop", "sock_sendfile", "fallback"): "asyncio's own loop has True as the default",
    **{
        ("loop", method, name): "in **options: no value but the default is allowed, as in asyncio"
        for method in ("subprocess_exec", "subprocess_shell")
        for name in ("universal_newlines", "shell", "bufsize", "encoding", "errors", "text")
    },
    **{
        (kind, "create_task", name): "in **kwargs, as in asyncio from 3.14 on"
        for kind in LOOPS
        for name in ("name", "context")
    },
}
# What a later version's asyncio has, and pinloop on every version.
EARLY = {
    ("create_connection", "all_errors"),
    ("create_server", "keep_alive"),
    ("create_unix_server", "cleanup_socket"),
    ("shutdown_default_executor", "timeout"),
    ("create_task", "kwargs"),
    # AbstractEventLoop lags behind asyncio's own loop.
    ("subprocess_exec", "program"),
    ("sock_recv", "n"),
}


# These return coroutines too, of a native type.
NATIVE = {
    *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"),
    *("sock_sendall", "sock_sendto", "sock_accept"),
}

# What asyncio's class has and ours has not.
MISSING = {
    **{
        ("TLS", name): "nowhere documented, and nothing of asyncio's own uses it"
        for name in ("get_read_buffer_limits", "get_read_buffer_size", "set_read_buffer_limits")
    },
    ("datagram", "writelines"): "DatagramTransport has no such method; asyncio's own class inherits it",
}


def public(cls: type[Any]) -> list[str]:
    """The public methods and properties that a class has, but for those it inherited only to refuse them."""
    return [name for name in dir(cls) if name[0] != "_" and has(cls, name)]


# What a writing pipe has only to refuse it, as asyncio's, which inherits it.
REFUSED = {(_core.WritePipeTransport, name) for name in ("is_reading", "pause_reading", "resume_reading")}


def has(cls: type[Any], name: str) -> bool:
    found = getattr(cls, name, None)
    if (cls, name) in REFUSED:
        return False
    if not callable(found) and not inspect.isdatadescriptor(found):
        return False
    # asyncio's datagram transport, say, is a Transport too, whose write() raises NotImplementedError.
    code = getattr(found, "__code__", None)
    abstract = found.__module__ == "asyncio.transports" if code else False
    return not (abstract and "NotImplementedError" in code.co_names)


METHODS = [(kind, name) for kind, (theirs, _) in PAIRS.items() for name in public(theirs)]


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_it_is_there_with_asyncios_parameters(kind: str, name: str) -> None:
    their_class, our_class = PAIRS[kind]
    assert has(our_class, name) is ((kind, name) not in MISSING)
    if (kind, name) in MISSING:
        return
    if not callable(getattr(their_class, name)):
        assert inspect.isdatadescriptor(inspect.getattr_static(our_class, name))
        return
    problems = [
        problem
        for parameter, problem in differences(getattr(their_class, name), getattr(our_class, name))
        if (kind, name, parameter) not in DIFFERENT and (name, parameter) not in EARLY
    ]
    assert problems == []


def differences(theirs: Any, ours: Any) -> Iterator[tuple[str, str]]:
    """The parameters with which a call of `theirs` is no call of `ours`, and those that only `ours` has."""
    wanted = list(inspect.signature(theirs).parameters.values())[1:]
    found = dict(list(inspect.signature(ours).parameters.items())[1:])
    positions = [p.name for p in found.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    for at, parameter in enumerate(wanted):
        mine = found.pop(parameter.name, None)
        if mine is None and parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            # Nobody can see the name of *args.
            mine = next((p for p in found.values() if p.kind is parameter.kind), None)
            found.pop(mine.name if mine is not None else "", None)
        if mine is None:
            yield parameter.name, f"no {parameter}"
            continue
        if parameter.kind is not mine.kind and not (
            parameter.kind is parameter.KEYWORD_ONLY and mine.kind is mine.POSITIONAL_OR_KEYWORD
        ):
            yield (
                parameter.name,
                f"{parameter} is {mine.kind.description} instead of {parameter.kind.description}",
            )
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and positions[at : at + 1] != [parameter.name]:
            yield parameter.name, f"{parameter} is not at position {at}"
        if parameter.default != mine.default:
            yield parameter.name, f"{parameter} has the default {mine.default!r}"
    for parameter in found.values():
        yield parameter.name, f"{parameter} is not asyncio's"


@pytest.mark.parametrize(
    ("kind", "name", "parameter"),
    [
        (kind, name, parameter)
        for kind, name, parameter in DIFFERENT
        if parameter in inspect.signature(getattr(PAIRS[kind][0], name)).parameters  # of this version
    ],
)
def test_each_exception_is_still_one(kind: str, name: str, parameter: str) -> None:
    their_class, our_class = PAIRS[kind]
    found = dict(differences(getattr(their_class, name), getattr(our_class, name)))
    assert parameter in found


def test_every_coroutine_method_is_one() -> None:
    assert [
        name
        for name in public(asyncio.SelectorEventLoop)
        if inspect.iscoroutinefunction(getattr(asyncio.SelectorEventLoop, name))
        != (inspect.iscoroutinefunction(getattr(pinloop.Loop, name)) or name in NATIVE)
    ] == []


def test_a_native_coroutine_is_one(run: Any) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.send(b"x")
            coroutine = loop.sock_recv(near, 1)
            assert asyncio.iscoroutine(coroutine)
            assert isinstance(coroutine, Coroutine)
            return await asyncio.create_task(coroutine)

    assert run(main()) == b"x"


# ------------------------------------------------------------------------------- the page --


def table(heading: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The columns and rows of the first table under `heading`."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    columns = cells[0][1:]
    return columns, {row[0].strip("`"): dict(zip(columns, row[1:], strict=True)) for row in cells[2:]}


def mark(theirs: bool, ours: bool) -> str:
    return {(True, True): "✓", (False, True): "+", (True, False): "✗", (False, False): "–"}[theirs, ours]


def takes(cls: type[Any], row: str) -> bool:
    """Whether a class has the method of a row, `name` or `name(parameter=)`."""
    name, _, parameter = row.rstrip("=)").partition("(")
    if not has(cls, name):
        return False
    if (name, parameter) == ("create_task", "eager_start"):
        return takes_eager_start(cls)
    return not parameter or parameter in inspect.signature(getattr(cls, name)).parameters


def takes_eager_start(cls: type[Any]) -> bool:
    async def nothing() -> None:
        pass

    loop, coro = cls(), nothing()
    try:
        # Not eagerly: that needs a loop that runs.
        loop.run_until_complete(loop.create_task(coro, eager_start=False))
    except TypeError:
        coro.close()
        return False
    finally:
        loop.close()
    return True


@pytest.mark.parametrize(
    ("heading", "their_class", "our_class"),
    [
        ("The loop", asyncio.SelectorEventLoop, pinloop.Loop),
        ("Servers", base_events.Server, pinloop.Server),
        ("Handles", asyncio.TimerHandle, _core.TimerHandle),
    ],
)
def test_the_table_says_what_is_there(heading: str, their_class: type[Any], our_class: type[Any]) -> None:
    columns, rows = table(heading)
    assert VERSION in columns
    assert set(public(their_class)) <= set(rows)
    # asyncio's loop has this in its instances.
    assert set(public(our_class)) - {"slow_callback_duration"} <= set(rows)
    wrong = [
        (row, cells[VERSION])
        for row, cells in rows.items()
        if mark(takes(their_class, row), takes(our_class, row)) not in cells[VERSION]
    ]
    assert wrong == []


def test_the_table_of_transports_says_what_is_there() -> None:
    columns, rows = table("Transports")
    assert columns == list(TRANSPORTS)
    everything = {name for pair in TRANSPORTS.values() for cls in pair for name in public(cls)}
    assert everything == set(rows)
    for kind, (theirs, ours) in TRANSPORTS.items():
        said = {row: cells[kind] for row, cells in rows.items()}
        assert said == {row: mark(has(theirs, row), has(ours, row)) for row in rows}


def test_every_difference_has_a_reason() -> None:
    columns, rows = table("Differences that can be seen")
    assert columns == ["asyncio", "pinloop", "why"]
    assert len(rows) > 5
    assert all(cell for cells in rows.values() for cell in cells.values())
