"""What a run has found: samples, their statistics, and the same as JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BenchError
from .loops import FLOOR

SCHEMA = 1


@dataclass(frozen=True)
class Sample:
    """One measurement in one process. Times of the CPU are in nanoseconds, over all its operations.

    `seconds` (wall clock), `p50_us` and `p99_us` are of the load, and 0 for a scheduler cell.
    """

    round: int
    operations: int
    cpu_ns: float
    user_ns: float
    system_ns: float
    seconds: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0

    @property
    def cost(self) -> float:
        """Nanoseconds of CPU per operation."""
        return self.cpu_ns / self.operations

    @property
    def busy(self) -> float:
        """The share of the wall clock for which the server used its CPU."""
        return self.cpu_ns / 1e9 / self.seconds if self.seconds else 1.0


@dataclass
class Outcome:
    """What one loop did in one cell: samples, or the reason why there are none."""

    samples: list[Sample] = field(default_factory=list)
    failed: str = ""
    not_offered: str = ""

    @property
    def good(self) -> bool:
        """Whether there is a figure: one failure voids the cell, a loop that fails at times is not fast."""
        return bool(self.samples) and not self.failed and not self.not_offered

    @property
    def costs(self) -> list[float]:
        """Nanoseconds per operation of each sample."""
        return [sample.cost for sample in self.samples]

    @property
    def median(self) -> float:
        """Median nanoseconds per operation over the rounds."""
        return statistics.median(self.costs)

    @property
    def minimum(self) -> float:
        """Least nanoseconds per operation over the rounds."""
        return min(self.costs)

    @property
    def spread(self) -> float:
        """Median absolute deviation from the median, in nanoseconds per operation."""
        middle = self.median
        return statistics.median(abs(cost - middle) for cost in self.costs)

    @property
    def user_share(self) -> float:
        """The part of the CPU time spent in user mode, over all rounds.

        Pooled, because many kernels sample the split by the clock tick: a short round has too few of them.
        """
        user = sum(sample.user_ns for sample in self.samples)
        total = user + sum(sample.system_ns for sample in self.samples)
        return user / total if total else 0.0

    @property
    def busy(self) -> float:
        """Median share of the wall clock for which the server used its CPU."""
        return statistics.median(sample.busy for sample in self.samples)


@dataclass
class Row:
    """One cell with the outcome of each loop, in the order of the loops."""

    name: str
    title: str
    group: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def good(self) -> dict[str, Outcome]:
        """The loops that have a figure, without the C floor."""
        return {name: o for name, o in self.outcomes.items() if o.good and name != FLOOR}

    def winner(self) -> str | None:
        """The loop with the least median, or None if no loop has a figure."""
        good = self.good()
        return min(good, key=lambda name: good[name].median) if good else None

    def best_peer(self, loop: str) -> str | None:
        """The best of the other loops."""
        others = {name: o for name, o in self.good().items() if name != loop}
        return min(others, key=lambda name: others[name].median) if others else None

    def ratio(self, loop: str, other: str) -> float | None:
        """The cost of *loop* in units of that of *other*: the median over the rounds of the ratio in each.

        Within a round they ran one after the other, so a slow spell of the machine hits both and cancels out.
        """
        a, b = self.outcomes.get(loop), self.outcomes.get(other)
        if a is None or b is None or not a.good or not b.good:
            return None
        costs = {sample.round: sample.cost for sample in b.samples}
        ratios = [sample.cost / costs[sample.round] for sample in a.samples if sample.round in costs]
        return statistics.median(ratios) if ratios else a.median / b.median


def mean_ratio(rows: list[Row], loop: str, other: str | None = None) -> tuple[float, int] | None:
    """The geometric mean of the rows' ratios of *loop* to *other*, and how many rows are in it.

    Without *other*, to the best peer of each row. None if no row has both.
    """
    peers = [(row, other or row.best_peer(loop)) for row in rows]
    ratios = [ratio for row, peer in peers if peer and (ratio := row.ratio(loop, peer)) is not None]
    return (statistics.geometric_mean(ratios), len(ratios)) if ratios else None


@dataclass
class Results:
    """A whole run: when, where, what, and the rows."""

    created: str
    machine: dict[str, str]
    settings: dict[str, Any]
    loops: dict[str, str]
    not_installed: list[str]
    notes: list[str]
    rows: list[Row]

    def to_json(self) -> str:
        """The run as JSON, each outcome with its statistics beside its samples."""
        data = {"schema": SCHEMA} | dataclasses.asdict(self)
        for row, found in zip(self.rows, data["rows"], strict=True):
            for name, outcome in row.outcomes.items():
                if outcome.samples:
                    found["outcomes"][name]["ns_per_operation"] = _statistics(outcome)
        return json.dumps(data, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read what `to_json` wrote. Raises `BenchError` if it is something else."""
        try:
            data = json.loads(text)
            if data.pop("schema") != SCHEMA:
                raise BenchError("these results were written by another version of the benchmark")
            data["rows"] = [_row(row) for row in data["rows"]]
            return cls(**data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"not the results of a benchmark: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file. Raises `BenchError` if that cannot be done."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(f"cannot read {path}: {error}") from error


def _statistics(outcome: Outcome) -> dict[str, float]:
    return {
        "median": outcome.median,
        "min": outcome.minimum,
        "mad": outcome.spread,
        "user_share": outcome.user_share,
        "busy": outcome.busy,
    }


def _row(data: dict[str, Any]) -> Row:
    outcomes = {}
    for name, found in data.pop("outcomes").items():
        found.pop("ns_per_operation", None)
        samples = [Sample(**sample) for sample in found.pop("samples")]
        outcomes[name] = Outcome(samples=samples, **found)
    return Row(outcomes=outcomes, **data)
