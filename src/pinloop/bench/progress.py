"""The progress bar of a run."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .results import Row


class Ticker:
    """A bar per round, redrawn seldom: its own CPU is taken from the load's."""

    def __init__(self, console: Console, rounds: int, rows: list[Row]) -> None:
        self._rounds = rounds
        self._per_round = sum(len(row.outcomes) for row in rows)
        self._seen = -1
        self._round = -1
        self._progress = Progress(
            TextColumn("{task.fields[round]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._progress.add_task("", total=self._per_round, round="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def tell(self, round_number: int, title: str, loop: str) -> None:
        """Called before each measurement."""
        if round_number != self._round:
            self._round, self._seen = round_number, -1
        self._seen += 1
        self._progress.update(
            self._task,
            completed=self._seen,
            description=f"{title} · {loop}",
            round=f"round {round_number + 1} of {self._rounds}",
        )
