"""The pytest plugin inside a suite's environment: puts the loop in place, writes down each test's outcome.

It and its neighbours import nothing of the runner. PINLOOP_ECOSYSTEM names a JSON file with its orders:

loop      "asyncio" or "pinloop"
place     "asyncio": the loop of asyncio.new_event_loop and the class asyncio.SelectorEventLoop;
          "uvloop": that, and what stands in for uvloop, on asyncio's side too
log       the file to append to, one JSON object a line
only      names of the tests to run, or null for all
done      names of tests that ran already
deselect  patterns of names, each with the reason why such tests are left out
"""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import loop_in_place
import pytest
from loop_in_place import ORDERS, made, process

loop_in_place.is_pytest = True
loop_in_place.tell_blockbuster()


def unique(names: list[str]) -> Iterator[str]:
    """The names without what changes from run to run, addresses in memory; numbered where alike then."""
    seen: Counter[str] = Counter()
    for name in names:
        steady = re.sub(r"0x[0-9a-fA-F]{6,}", "0x*", name)
        seen[steady] += 1
        yield steady if seen[steady] == 1 else f"{steady} #{seen[steady]}"


class Recorder:
    """Writes what happens to each test as it happens, so that a crash loses none of it."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.outcome, self.why, self.began = "passed", "", 0.0

    def write(self, **entry: Any) -> None:
        if os.getpid() == process:
            loop_in_place.write(**entry)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        for item, name in zip(items, unique([item.nodeid for item in items]), strict=True):
            self.names[item.nodeid] = name
        only, done = ORDERS["only"], set(ORDERS["done"])
        wanted, others = [], []
        for item in items:
            name = self.names[item.nodeid]
            reasons = [
                why for pattern, why in ORDERS["deselect"].items() if fnmatch.fnmatchcase(name, pattern)
            ]
            if reasons:
                self.write(test=name, outcome="deselected", why=reasons[0], seconds=0, phase="")
            if reasons or name in done or (only is not None and name not in only):
                others.append(item)
            else:
                wanted.append(item)
        config.hook.pytest_deselected(items=others)
        items[:] = wanted

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.outcome, self.why, self.began = "passed", "", time.monotonic()
        self.write(start=self.names.get(nodeid, nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.outcome != "failed":
            self.outcome = "failed"
            self.why = f"[{report.when}] {report.longreprtext[-4000:]}"
        elif report.skipped and self.outcome == "passed":
            self.outcome = "xfailed" if hasattr(report, "wasxfail") else "skipped"
            self.why = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)[
                -500:
            ]

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.write(
            test=self.names.get(nodeid, nodeid),
            outcome=self.outcome,
            why=self.why,
            seconds=round(time.monotonic() - self.began, 3),
            made=made,
        )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write(broken=report.nodeid, why=report.longreprtext[-4000:])

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.write(end=int(exitstatus), made=made)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(), "pinloop-ecosystem")
