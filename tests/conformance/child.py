"""One module of CPython's `test.test_asyncio`, run with pinloop's loop in place of the stdlib's.

    python child.py MODULE REPORT [--setting NAME] [--unskip] [--stdlib] [PATTERN ...]

It is a process of its own, for it changes asyncio before the tests are imported.

CPython's tests get their loop by a name: `asyncio.new_event_loop()` and whatever asks the policy, the classes
`asyncio.SelectorEventLoop`, `asyncio.EventLoop` and `asyncio.BaseEventLoop`, or their own utils' `TestLoop`.
Each of these names is bound to pinloop's loop here (`substitute`). The stdlib's classes are left as they are,
and counted: a test that makes one of their loops is a failure, whatever it says itself, so no test passes on
the wrong loop. Whose tasks and futures it gets is told in `classes.py`; `settings.py` has the passes.

Tests patch names in the modules of the stdlib's loop: `asyncio.base_events.logger` to read the log, or
`asyncio.base_events.socket` for sockets that fail. pinloop's modules are made to look these names up there
(`FOLLOWED`). A few private names of the stdlib's loop only look at what is scheduled, run one turn,
or clear up; `Looks` has them.

`TestLoop` gives a test the time: a generator is sent each timer's deadline and answers by how much the clock
moves on. Its stand-in is pinloop's loop over `ScriptedPoller`, whose clock is virtual.

REPORT gets a line of JSON per test, as soon as it is done, so that a crash costs no result but its own.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.base_events
import asyncio.selector_events
import asyncio.unix_events
import faulthandler
import gc
import json
import math
import os
import signal
import sys
import time
import unittest
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any

import classes
import settings
import skips

import pinloop
from pinloop import _core

PACKAGE = "test.test_asyncio."

made = {"pinloop": 0, "stdlib": 0}  # loops, since the test began
setting = settings.DEFAULT


class Looks:
    """The private names by which tests look into a loop."""

    @property
    def _ready(self) -> list[Any]:
        # A task that is ready stands in the ring itself, and a loop holds no other tasks.
        tasks = [each for each in gc.get_referents(self) if isinstance(each, _core.Task)]
        return [each for each in self._entries() if type(each) is _core.Handle] + tasks

    @property
    def _scheduled(self) -> list[Any]:
        return [each for each in self._entries() if type(each) is _core.TimerHandle]

    def _entries(self) -> Iterator[Any]:
        # A loop shows the collector what it holds. Handles without a callback are kept to be used again.
        for each in gc.get_referents(self):
            if isinstance(each, asyncio.Handle) and each._callback is not None:
                yield each

    def _stop_serving(self: Any, sock: Any) -> None:
        self.remove_reader(sock)
        sock.close()

    def _run_once(self: Any) -> None:
        self.call_soon(self.stop)
        self.run_forever()


class PinLoop(Looks, pinloop.Loop):
    """pinloop's loop, by the signature of the stdlib's: which selector to use is no choice here."""

    def __init__(self, selector: object = None, *, poller: _core.Poller | None = None) -> None:
        super().__init__(poller, tasks=setting.tasks)
        made["pinloop"] += 1

    def create_task(self, coro: Any, **kwargs: Any) -> Any:
        task: Any = asyncio.tasks.Task
        if self.get_task_factory() is not None:
            return super().create_task(coro, **kwargs)
        if task not in (classes.ASYNCIO_TASK, pinloop.Task):
            # Tests patch the name, to have tasks that are written in Python.
            return classes.saw(task(coro, loop=self, **kwargs))
        return classes.saw(super().create_task(coro, **kwargs), setting.tasks)

    def create_future(self) -> Any:
        return classes.saw(super().create_future(), setting.tasks)


class TestLoop(PinLoop):
    """The stand-in for `test.test_asyncio.utils.TestLoop`."""

    def __init__(self, gen: Callable[[], Generator[float, float, None]] | None = None) -> None:
        # The clock runs one nanosecond ahead, as TestLoop's resolution has it: sums of floats are not exact.
        self._poller = _core.ScriptedPoller(iter(lambda: self._advance, None), start_ns=1)
        super().__init__(poller=self._poller)
        self._gen = gen() if gen is not None else None
        if self._gen is not None:
            next(self._gen)
        self._deadlines: list[float] = []
        self._at = 0.0

    def _advance(self) -> None:
        deadlines, self._deadlines = self._deadlines, []
        for when in deadlines:
            assert self._gen is not None, f"a timer at {when}, and no generator that tells the time"
            self.advance_time(self._gen.send(when))

    def advance_time(self, seconds: float | None) -> None:
        if seconds:
            self._at += seconds
            self._poller.clock_ns = math.ceil(self._at * 1e9) + 1

    def time(self) -> float:
        return self._at

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self._at + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        self._deadlines.append(when)
        return super().call_at(when, callback, *args, context=context)

    def close(self) -> None:
        super().close()
        generator, self._gen = self._gen, None
        if generator is not None:
            try:
                generator.send(0)
            except StopIteration:
                return
            raise AssertionError("Time generator is not finished")


# Names of the stdlib's modules that tests patch, and pinloop's modules that look them up there.
FOLLOWED = {
    "asyncio.base_events.logger": ("pinloop._loop", "pinloop._server", "pinloop._core"),
    "asyncio.base_events.socket": ("pinloop._datagram", "pinloop._network", "pinloop._server"),
    "asyncio.unix_events.socket": ("pinloop._unix",),
}


class Follower:
    """Whatever a name in a module stands for at the moment."""

    def __init__(self, module: str, name: str) -> None:
        self.__dict__.update(_module=sys.modules[module], _name=name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(self._module, self._name), attribute)


def substitute() -> None:
    """Bind the names by which tests get a loop, a task, a stream or a lock, as the setting has it."""
    if setting.own_names:
        classes.substitute()
    if setting.own_streams:
        substitute_streams()
    if setting.own_sync:
        substitute_sync()
    if setting.own_loop:
        classes.teach_call_graphs()
        substitute_loops()
    else:
        classes.watch_stdlib_loops()


def substitute_streams() -> None:
    for name in asyncio.streams.__all__:
        for module in (asyncio, asyncio.streams):
            setattr(module, name, getattr(pinloop, name))


SYNC = {
    asyncio.locks: ("Event", "Lock", "Semaphore", "BoundedSemaphore"),
    asyncio.queues: ("Queue", "PriorityQueue", "LifoQueue"),
    asyncio.timeouts: ("Timeout", "timeout", "timeout_at"),
}


def substitute_sync() -> None:
    for home, names in SYNC.items():
        for name in names:
            for module in (asyncio, home):
                setattr(module, name, getattr(pinloop, name))


def substitute_loops() -> None:
    native = asyncio.base_events.BaseEventLoop
    init = native.__init__

    def counting(self: Any, *args: Any, **kwargs: Any) -> None:
        made["stdlib"] += 1
        init(self, *args, **kwargs)

    native.__init__ = counting  # type: ignore[method-assign]
    own = vars(asyncio.unix_events)
    policy = own.get("_UnixDefaultEventLoopPolicy") or own["_DefaultEventLoopPolicy"]
    policy._loop_factory = PinLoop
    for module in (asyncio, asyncio.base_events, asyncio.selector_events, asyncio.unix_events):
        for name in ("BaseEventLoop", "BaseSelectorEventLoop", "SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, PinLoop)
    from test.test_asyncio import utils

    utils.TestLoop = TestLoop
    for path, followers in FOLLOWED.items():
        of, _, name = path.rpartition(".")
        for follower in followers:
            setattr(sys.modules[follower], name, Follower(of, name))
    # Looked up at each call: tests patch this one as well.
    pinloop._loop._debug_by_default = lambda: asyncio.coroutines._is_debug_mode()  # noqa: PLW0108


class Report(unittest.TestResult):
    """Writes what became of each test."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self.file = file
        self.running = False
        self.began = 0.0
        self.faults: list[str] = []
        self.skipped_itself = ""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.faults = []
        self.skipped_itself = ""
        self.running = True
        self.began = time.monotonic()
        made.update(pinloop=0, stdlib=0)
        classes.seen.clear()
        classes.wrong.clear()
        print(f"... {name_of(test)}", file=sys.stderr, flush=True)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        self.running = False
        if made["stdlib"] and setting.own_loop:
            self.faults.append(f"made {made['stdlib']} loops of the stdlib's\n")
        if classes.wrong:
            self.faults.append(f"got {', '.join(sorted(classes.wrong))} where another class is promised\n")
        self.write(test, "failed" if self.faults else "left_out" if self.skipped_itself else "passed")

    def write(self, test: unittest.TestCase, outcome: str) -> None:
        line = {
            "test": name_of(test),
            "outcome": outcome,
            "seconds": round(time.monotonic() - self.began, 3) if self.began else 0.0,
            "on_pinloop": made["pinloop"] > 0,
            "with_classes": classes.is_about(test, setting.tasks),
            "why": "".join(self.faults) or self.skipped_itself,
        }
        print(json.dumps(line), file=self.file, flush=True)

    def fault(self, test: Any, err: Any) -> None:
        text = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]
        self.faults.append(text)
        print(f"!!! {name_of(test)}\n{text}", file=sys.stderr, flush=True)
        if not self.running:  # setUpModule, setUpClass and their likes
            self.write(test, "failed")

    addError = addFailure = fault  # noqa: N815

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        if err is not None:
            self.faults.append(f"{subtest}\n")
            self.fault(test, err)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.faults.append("succeeded, which was not expected\n")

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self.skipped_itself = reason
        if not self.running:  # its class or module is; from 3.12.1 on such a test is not even started
            self.write(test, "left_out")


def name_of(test: Any) -> str:
    return str(test.id()).removeprefix(PACKAGE)


def tests_in(suite: Any) -> Iterator[Any]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from tests_in(each)
        else:
            yield each


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("report")
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--setting", default="default", choices=settings.ALL)
    parser.add_argument("--unskip", action="store_true", help="run what is on the skip list, and only that")
    parser.add_argument("--stdlib", action="store_true", help="run on the stdlib's loop, for comparison")
    options = parser.parse_args()
    # A shell has its background jobs ignore SIGINT, and tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    faulthandler.dump_traceback_later(float(os.environ.get("PINLOOP_CONFORMANCE_TIMEOUT", "600")), exit=True)
    global setting  # noqa: PLW0603 - the process is made for one
    setting = settings.ALL[options.setting]
    if not options.stdlib:
        substitute()
    suite = unittest.defaultTestLoader.loadTestsFromName(PACKAGE + options.module)
    found = list(tests_in(suite))
    gc.collect()
    gc.freeze()  # tests collect a thousand times, and need not look at all that was imported
    entries = skips.of_module(options.module, skips.load(setting.name, setting.own_loop))
    skipped = skips.matching(entries, [name_of(test) for test in found])
    wanted = unittest.TestSuite()
    with open(options.report, "w", encoding="utf-8") as file:
        report = Report(file)
        for entry in entries:
            if entry.pattern not in skipped.values():
                print(json.dumps({"unmatched": entry.pattern}), file=file)
        for test in found:
            name = name_of(test)
            if options.patterns and not any(skips.matches(pattern, name) for pattern in options.patterns):
                continue
            if (name in skipped) == options.unskip:
                wanted.addTest(test)
            elif not options.unskip:
                print(json.dumps({"test": name, "outcome": "skipped", "why": skipped[name]}), file=file)
        file.flush()
        wanted.run(report)
        print(json.dumps({"end": True}), file=file, flush=True)


if __name__ == "__main__":
    main()
