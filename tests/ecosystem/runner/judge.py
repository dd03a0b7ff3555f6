"""Compares a suite's results on the two loops; tells a difference from a test that is never steady."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .execute import Run

AGAIN = 2

RunAgain = Callable[[str, str, set[str]], Run]
"""Runs tests again: the loop, a label, the names."""


@dataclass
class Verdict:
    """How a suite did."""

    asyncio: Run
    pinloop: Run
    differ: dict[str, str] = field(default_factory=dict)
    """Tests that pass on asyncio, and do not on pinloop: what they said there."""
    flaky: dict[str, str] = field(default_factory=dict)
    """Tests that differed, and then failed on asyncio too."""
    unsteady: dict[str, str] = field(default_factory=dict)
    """Tests that failed on pinloop and then passed at least once when run again."""
    trouble: list[str] = field(default_factory=list)
    """Why the comparison cannot be trusted."""

    @property
    def good(self) -> bool:
        return not self.differ and not self.trouble


def judge(asyncio: Run, pinloop: Run, run_again: RunAgain) -> Verdict:
    """Compare two runs; what differs is run again, twice, on both, and counts if it differs each time."""
    verdict = Verdict(asyncio, pinloop)
    verdict.trouble += [f"on asyncio: {what}" for what in asyncio.trouble]
    verdict.trouble += [f"on pinloop: {what}" for what in pinloop.trouble]
    if not asyncio.passed():
        verdict.trouble.append("no test passed on asyncio")
    if pinloop.made["pinloop"] == 0:
        verdict.trouble.append("the run on pinloop made no pinloop loop")
    if asyncio.made["pinloop"] != 0:
        verdict.trouble.append("the run on asyncio made pinloop loops")
    suspects = asyncio.passed() - pinloop.passed()
    if not suspects:
        return verdict
    again = {
        loop: [run_again(loop, f"again{turn}", suspects) for turn in range(1, AGAIN + 1)]
        for loop in ("asyncio", "pinloop")
    }
    for name in sorted(suspects):
        why = reason(pinloop, name)
        if any(name not in run.passed() for run in again["asyncio"]):
            verdict.flaky[name] = next(
                reason(run, name) for run in again["asyncio"] if name not in run.passed()
            )
        elif any(name in run.passed() for run in again["pinloop"]):
            verdict.unsteady[name] = why
        else:
            verdict.differ[name] = why
    return verdict


def reason(run: Run, name: str) -> str:
    if name not in run.tests:
        return "[missing] this test was not run"
    test = run.tests[name]
    return test.why or f"[{test.outcome}]"
