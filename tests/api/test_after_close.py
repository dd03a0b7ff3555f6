"""A loop closed under what still uses it: errors and warnings, no crash, nothing left open."""

import asyncio
import contextlib
import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import tcp_pair

Loop = asyncio.AbstractEventLoop

TRANSPORT_CALLS: dict[str, Callable[[Any], object]] = {
    "nothing": lambda transport: None,
    "write": lambda transport: transport.write(b"x"),
    "a large write": lambda transport: transport.write(bytes(10_000_000)),
    "writelines": lambda transport: transport.writelines([b"x", b"y"]),
    "write_eof": lambda transport: transport.write_eof(),
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: (transport.pause_reading(), transport.resume_reading()),
    "get_extra_info": lambda transport: transport.get_extra_info("socket"),
    "repr": repr,
}


@pytest.mark.parametrize("call", TRANSPORT_CALLS)
def test_a_transport_that_outlives_its_loop_warns_unless_closed_and_leaves_nothing_open(
    loop_factory: Callable[[], Loop], no_fd_leak: None, call: str
) -> None:
    def outlive() -> None:
        loop = loop_factory()
        near, peer = tcp_pair()
        with peer:
            transport, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, near))
            loop.close()
            with contextlib.suppress(RuntimeError, OSError):
                TRANSPORT_CALLS[call](transport)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outlive()
        gc.collect()
    if call in {"close", "abort"}:
        assert not caught
        return
    # Its socket may warn too: in a cycle it may be the first to go.
    assert {warning.category for warning in caught} == {ResourceWarning}
    assert any("unclosed transport" in str(warning.message) for warning in caught)


def test_a_server_can_be_closed_after_its_loop(loop: Loop) -> None:
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    sockets = server.sockets
    loop.close()
    with contextlib.suppress(RuntimeError):
        server.close()
    assert server.sockets == ()
    assert [sock.fileno() for sock in sockets] == [-1]


def test_calls_from_a_thread_meet_the_close_as_an_error(loop_factory: Callable[[], Loop]) -> None:
    for _ in range(20):
        loop = loop_factory()
        begun = threading.Event()
        errors: list[str] = []

        def call(loop: Loop = loop, begun: threading.Event = begun, errors: list[str] = errors) -> None:
            try:
                while True:
                    loop.call_soon_threadsafe(int)
                    begun.set()
            except RuntimeError as exc:
                errors.append(str(exc))

        thread = threading.Thread(target=call)
        thread.start()
        assert begun.wait(10)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        thread.join(10)
        assert errors == ["Event loop is closed"]


def test_a_pending_task_of_a_closed_loop_is_reported_when_dropped(loop: Loop, loop_errors: list[Any]) -> None:
    async def wait() -> None:
        await asyncio.sleep(3600)

    task = loop.create_task(wait())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    del task
    gc.collect()
    assert [context["message"] for context in loop_errors] == ["Task was destroyed but it is pending!"]
    loop_errors.clear()
