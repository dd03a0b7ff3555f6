"""KeyboardInterrupt, SystemExit and other BaseExceptions: which come out of a run, and that it can go on."""

import asyncio
import gc
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import answer, fail, only_pinloop, tcp_pair

Loop = asyncio.AbstractEventLoop


class Fatal(BaseException):
    """A BaseException that is neither KeyboardInterrupt nor SystemExit."""


@pytest.fixture(params=[KeyboardInterrupt, SystemExit])
def exit_type(request: pytest.FixtureRequest) -> type[BaseException]:
    kind: type[BaseException] = request.param
    return kind


def raising(exception: BaseException) -> Callable[[], None]:
    def callback() -> None:
        raise exception

    return callback


def test_an_exit_from_a_callback_comes_out_and_the_rest_runs_next_time(
    loop: Loop, exit_type: type[BaseException]
) -> None:
    ran: list[str] = []
    loop.call_soon(raising(exit_type("mine")))
    loop.call_soon(ran.append, "after")
    with pytest.raises(exit_type, match="mine"):
        loop.run_forever()
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None
    loop.stop()
    loop.run_forever()
    assert ran == ["after"]


def test_an_exit_from_a_timer_comes_out(loop: Loop, exit_type: type[BaseException]) -> None:
    loop.call_later(0.001, raising(exit_type("mine")))
    with pytest.raises(exit_type, match="mine"):
        loop.run_forever()
    assert loop.run_until_complete(answer()) == 42


def test_an_exit_from_the_main_task_comes_out_and_is_not_also_reported(
    loop: Loop, exit_type: type[BaseException], loop_errors: list[Any]
) -> None:
    with pytest.raises(exit_type, match="mine"):
        loop.run_until_complete(fail(exit_type("mine")))
    gc.collect()
    assert loop_errors == []
    assert loop.run_until_complete(answer()) == 42


def test_an_exit_from_another_task_comes_out_of_run_until_complete(
    loop: Loop, exit_type: type[BaseException]
) -> None:
    async def main() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "went on"

    main_task = loop.create_task(main())
    other = loop.create_task(fail(exit_type("mine")))
    with pytest.raises(exit_type, match="mine"):
        loop.run_until_complete(main_task)
    assert isinstance(other.exception(), exit_type)
    assert loop.run_until_complete(main_task) == "went on"


def test_an_exit_from_a_reader_comes_out(loop: Loop, exit_type: type[BaseException]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours, raising(exit_type("mine")))
        with pytest.raises(exit_type, match="mine"):
            loop.run_forever()
        loop.remove_reader(ours)
    assert loop.run_until_complete(answer()) == 42


@only_pinloop  # asyncio keeps the connection, which then fails again and again
@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_an_exit_from_a_protocol_comes_out_and_the_loop_can_run_again(
    loop: Loop, exit_type: type[BaseException], method: str
) -> None:
    def fail(*_: object) -> None:
        raise exit_type("mine")

    ours, theirs = tcp_pair()
    with theirs:
        protocol = type("Failing", (asyncio.Protocol,), {method: fail})()
        theirs.send(b"x")
        theirs.shutdown(socket.SHUT_WR)
        task = loop.create_task(loop.connect_accepted_socket(lambda: protocol, ours))
        with pytest.raises(exit_type, match="mine"):
            loop.run_forever()
        transport, _ = loop.run_until_complete(task)
        transport.abort()
        assert loop.run_until_complete(answer()) == 42


def test_any_other_base_exception_in_a_task_is_that_tasks_result(loop: Loop) -> None:
    with pytest.raises(Fatal, match="mine"):
        loop.run_until_complete(fail(Fatal("mine")))
    assert loop.run_until_complete(answer()) == 42


def test_any_other_base_exception_in_a_callback_is_reported_and_the_loop_goes_on(
    loop: Loop, loop_errors: list[Any]
) -> None:
    loop.call_soon(raising(Fatal("mine")))
    assert loop.run_until_complete(answer()) == 42
    assert [str(context["exception"]) for context in loop_errors] == ["mine"]
    loop_errors.clear()


def test_a_cancelled_error_from_a_callback_is_reported(loop: Loop, loop_errors: list[Any]) -> None:
    loop.call_soon(raising(asyncio.CancelledError("mine")))
    assert loop.run_until_complete(answer()) == 42
    assert [type(context["exception"]) for context in loop_errors] == [asyncio.CancelledError]
    loop_errors.clear()
