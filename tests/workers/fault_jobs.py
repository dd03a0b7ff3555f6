"""What the tests of faults have workers do: things that nobody should."""

import asyncio
import ctypes
import os
import signal
import threading
from typing import Any, NoReturn

import pinloop
from tests.workers.jobs import report


class Wicked(BaseException):
    """What pickling may raise, and no handler of errors expects."""


def be_wicked() -> NoReturn:
    raise Wicked("be it so")


class Unspeakable(Exception):
    """Cannot be pickled, nor be made text of."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __str__(self) -> str:
        raise LookupError("no words")


class Changeling(Exception):
    """Becomes something else on the way."""

    def __init__(self, into: Any) -> None:
        super().__init__("changeling")
        self.into = into

    def __reduce__(self) -> Any:
        return self.into, ()


class Unsendable:
    """Its pickling raises what is no Exception."""

    def __reduce__(self) -> NoReturn:
        be_wicked()


class Unreceivable:
    """Its unpickling does."""

    def __reduce__(self) -> Any:
        return be_wicked, ()


born = LookupError
"""What a foundling becomes; in the tests' process another thing."""


def grow_up() -> Any:
    return born("found")


class Foundling(Exception):
    """Becomes what its finder makes of it."""

    def __reduce__(self) -> Any:
        return grow_up, ()


async def raise_foundling() -> NoReturn:
    raise Foundling


async def raise_unspeakable() -> NoReturn:
    raise Unspeakable


async def raise_changeling(into: Any) -> NoReturn:
    raise Changeling(into)


def unsendable() -> Unsendable:
    return Unsendable()


async def unreceivable() -> Unreceivable:
    return Unreceivable()


async def cancelled_unspeakably() -> NoReturn:
    raise asyncio.CancelledError(Unspeakable())


def close_all_files() -> None:
    os.closerange(3, 1000)


def hold_the_gil(path: str) -> None:
    """Run code that never lets another thread of this process run."""
    report(path, "running")
    ctypes.PyDLL(None).sleep(1000)


def killed_at_first(path: str, times: int) -> None:
    """A setup that ends its worker, in all starts but the first, so many times."""
    report(path, "start")
    with open(path) as file:
        starts = len(file.readlines())
    if 1 < starts <= 1 + times:
        os.kill(os.getpid(), signal.SIGKILL)


async def exit_sometimes(x: int, chance: int) -> int:
    """One in `chance` ends the worker, be that a process or a thread."""
    await asyncio.sleep(0)
    if x % chance == chance - 1:
        raise SystemExit(3)
    return x


async def recv_then_hold(rx: pinloop.Receiver[Any], count: int, path: str) -> None:
    with rx:
        for _ in range(count):
            await rx.recv()
        report(path, "holding")
        await asyncio.Event().wait()


async def send_bad_ones(tx: pinloop.Sender[Any]) -> list[str]:
    """Send what can be pickled and what cannot; the errors."""
    errors = []
    async with tx:
        for item in (1, threading.Lock(), [2], [threading.Lock()]):
            try:
                await tx.send(item)
            except Exception as error:
                errors.append(type(error).__qualname__)
    return errors
