"""A StreamReader of pinloop's gives what asyncio's gives: the two are told the same and must do the same."""

import asyncio
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import pinloop

TUPLES = sys.version_info >= (3, 13)  # of separators


class Throttle(asyncio.ReadTransport):
    """A transport whose reading can be paused; never twice."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def __repr__(self) -> str:
        return "Throttle"

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


# Few different bytes, so that separators come about; lengths around the limits drawn below.
bytes_of_few = st.binary(max_size=40).map(lambda data: bytes(b"ab\n"[byte % 3] for byte in data))
separators = st.binary(min_size=0, max_size=3).map(lambda data: bytes(b"ab\n"[byte % 3] for byte in data))

feeding = st.one_of(
    st.tuples(st.just("feed"), bytes_of_few),
    st.tuples(st.just("feed"), bytes_of_few.map(bytearray)),
    st.tuples(st.just("feed_eof"), st.none()),
    st.tuples(st.just("set_exception"), st.none()),
)
reading = st.one_of(
    st.tuples(st.just("read"), st.integers(-2, 60)),
    st.tuples(st.just("readexactly"), st.integers(-2, 60)),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("readuntil"), separators),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("look"), st.none()),
    *([st.tuples(st.just("readuntil"), st.lists(separators, max_size=3).map(tuple))] if TUPLES else []),
)
# Fed more often than broken or ended, so that runs are long.
steps = st.lists(st.one_of(feeding.filter(lambda step: step[0] == "feed"), reading, feeding), max_size=30)


def outcome(task: "asyncio.Task[Any]") -> str:
    if task.cancelled():
        return "cancelled"
    failure = task.exception()
    if failure is None:
        return repr(task.result())
    details = [getattr(failure, name, None) for name in ("partial", "expected", "consumed")]
    return f"{type(failure).__name__}: {failure} {details}"


async def history(module: Any, limit: int, steps: list[tuple[str, Any]]) -> list[str]:
    """What each step led to, once all has come to rest."""
    reader = module.StreamReader(limit=limit)
    transport = Throttle()
    reader.set_transport(transport)
    tasks: list[asyncio.Task[Any]] = []
    told = []
    for action, argument in steps:
        if action == "feed":
            try:
                reader.feed_data(argument)
            except AssertionError as failure:
                told.append(str(failure))
        elif action == "feed_eof":
            reader.feed_eof()
        elif action == "set_exception":
            reader.set_exception(OSError("broken"))
        elif action == "cancel":
            for task in tasks:
                task.cancel()
        elif action == "look":
            told.append(f"{bytes(reader._buffer)!r} {reader!r}".partition(" waiter")[0])
        else:
            arguments = () if argument is None else (argument,)
            tasks.append(asyncio.create_task(getattr(reader, action)(*arguments)))
        for _ in range(4):
            await asyncio.sleep(0)
        told += [f"{action} {argument}: {outcome(task)}" for task in tasks if task.done()]
        tasks = [task for task in tasks if not task.done()]
        told.append(f"{action}: at_eof {reader.at_eof()}, paused {transport.paused}, {len(tasks)} wait")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return told


@settings(deadline=None, max_examples=200)
@given(limit=st.integers(1, 20), steps=steps)
def test_a_reader_does_what_asyncios_does(limit: int, steps: list[tuple[str, Any]]) -> None:
    async def both() -> None:
        assert await history(pinloop, limit, steps) == await history(asyncio, limit, steps)

    asyncio.run(both())
