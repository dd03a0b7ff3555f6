"""Puts the loop that was ordered in the place of asyncio's, and counts the loops made.

sitecustomize.py imports this in every Python process of a suite, also in those that its tests start.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import warnings
from asyncio import base_events
from collections.abc import Callable
from typing import Any

with open(os.environ["PINLOOP_ECOSYSTEM"], encoding="utf-8") as orders:
    ORDERS: dict[str, Any] = json.load(orders)

made = {"asyncio": 0, "pinloop": 0}
process = os.getpid()
is_pytest = False  # the process that runs the tests tells of itself


# ---------------------------------------------------------------- the loop


def count(owner: type[Any], name: str) -> None:
    """Let `owner.__init__` count the loops made, those of child processes aside."""
    original = owner.__init__

    def counting(self: Any, *args: Any, **kwargs: Any) -> None:
        made[name] += os.getpid() == process
        original(self, *args, **kwargs)

    owner.__init__ = counting


def put_in_place() -> None:
    """Make the loop that was ordered the one that asyncio, and uvloop if so ordered, gives."""
    count(base_events.BaseEventLoop, "asyncio")
    factory: Callable[..., asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy: type[Any] = asyncio.DefaultEventLoopPolicy
        if ORDERS["loop"] == "pinloop":
            import pinloop

            count(pinloop.Loop, "pinloop")
            pinloop.install()
            policy._loop_factory = pinloop.Loop  # some tests set asyncio's own policy back
            factory, policy = pinloop.Loop, pinloop.EventLoopPolicy
            # Who names the class means the loop of the platform: uvicorn's --loop asyncio does.
            for module in (asyncio, asyncio.unix_events):
                for name in ("SelectorEventLoop", "EventLoop", "_UnixSelectorEventLoop"):
                    if hasattr(module, name):
                        setattr(module, name, factory)
    if ORDERS["place"] == "uvloop":
        import uvloop

        uvloop.new_event_loop = uvloop.Loop = factory
        uvloop.EventLoopPolicy = policy


class Everything(frozenset[str]):
    """The names of functions come and go: whichever."""

    def __contains__(self, name: object) -> bool:
        return True


# What blockbuster lets asyncio's own files do, and where pinloop does the same.
MAY_BLOCK = {
    "os.read": "pinloop/_subprocess.py",
    "os.stat": "pinloop/_unix.py",
    "os.unlink": "pinloop/_unix.py",
    "threading.Lock.acquire": "pinloop/_loop.py",
}


def tell_blockbuster() -> None:
    """blockbuster fails a test that blocks, except in places known to it: pinloop's are made known."""
    try:
        from blockbuster import BlockBuster
    except ImportError:
        return
    original = BlockBuster.__init__

    def telling(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for name, file in MAY_BLOCK.items():
            self.functions[name].can_block_in(file, Everything())

    BlockBuster.__init__ = telling


put_in_place()


# ---------------------------------------------------------------- the log


def write(**entry: Any) -> None:
    """Append one line, in one piece whoever else writes."""
    log = os.open(ORDERS["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(log, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(log)


@atexit.register
def tell_of_child() -> None:
    if os.getpid() == process and any(made.values()) and not is_pytest:
        write(child=made)
