"""Scatter-gather over Dask: the lines of a file on all workers of a cluster, each question to all of them.

python examples/scatter_gather.py book.txt "white whale" --address tcp://127.0.0.1:8786

Each worker holds its part of the lines and answers with those that have most of the words; the best of all
are printed. One that has ended is there again when Dask has started it, and gets its part anew. One that does
not answer in time is left out, and the answer says so. Without --address there is a cluster of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pinloop
from pinloop import Workers, scope
from pinloop.workers import Worker, WorkerCrashed, current_worker

Hit = tuple[int, int, str]
"""How many of the words a line has, its number (less than 0, so that earlier lines rank higher), the line."""

TURN = 1000  # lines that are looked at before others have their turn
HEARTBEAT = 10.0  # seconds after which a worker that says nothing is given up


def here() -> dict[str, Any]:
    """What the worker holds that this runs in: what `setup` made when it began."""
    worker = current_worker()
    assert worker is not None
    state: dict[str, Any] = worker.state
    return state


def hold(part: list[tuple[int, str]]) -> None:
    """Keep these lines. Called in a worker."""
    here()["part"] = [(number, line, set(line.casefold().split())) for number, line in part]


async def search(words: frozenset[str], count: int) -> list[Hit] | None:
    """The best of the lines here; None if this worker has none yet. Called in a worker."""
    part = here().get("part")
    if part is None:
        return None
    best: list[Hit] = []
    for start in range(0, len(part), TURN):
        rated = ((len(words & found), -number, line) for number, line, found in part[start : start + TURN])
        best = heapq.nlargest(count, [*best, *(hit for hit in rated if hit[0])])
        await asyncio.sleep(0)  # here a question that is not wanted any more ends
    return best


class Index:
    """Lines that are spread over the workers of a pool, whose `setup` is `dict`."""

    def __init__(self, pool: Workers, lines: Iterable[str]) -> None:
        self.pool = pool
        numbered = list(enumerate(lines, 1))
        self.parts = [numbered[i :: len(pool)] for i in range(len(pool))]

    async def scatter(self) -> None:
        """Give each worker its part."""
        async with scope() as s:
            for worker in self.pool:
                s.spawn(worker.run(hold, self.parts[worker.index]))

    async def ask(self, question: str, count: int = 5, patience: float = 10.0) -> tuple[list[Hit], list[int]]:
        """The best lines, and which workers did not answer in time: their lines are not among them.

        It takes no longer than that, unless a worker neither ends a call that is cancelled nor dies: then it
        is its heartbeat that ends it.
        """
        words = frozenset(question.casefold().split())
        answers: dict[int, list[Hit]] = {}
        until = asyncio.get_running_loop().time() + patience
        async with scope(deadline=until) as s:  # it travels with the calls
            for worker in self.pool:
                s.spawn(self._ask_one(worker, words, count, until, answers))
        missing = [worker.index for worker in self.pool if worker.index not in answers]
        return heapq.nlargest(count, [hit for hits in answers.values() for hit in hits]), missing

    async def _ask_one(
        self, worker: Worker, words: frozenset[str], count: int, until: float, answers: dict[int, list[Hit]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while worker.index not in answers and loop.time() < until:
            with contextlib.suppress(WorkerCrashed):  # there will be another in its place
                hits = await worker.run(search, words, count)
                if hits is None:
                    await worker.run(hold, self.parts[worker.index])
                else:
                    answers[worker.index] = hits


async def main(path: str, questions: list[str], address: str | None, n: int | None, patience: float) -> None:
    lines = (await asyncio.to_thread(Path(path).read_text, "utf-8", "replace")).splitlines()
    async with Workers(n, "dask", address=address, setup=dict, heartbeat=HEARTBEAT) as pool:
        index = Index(pool, lines)
        await index.scatter()
        for question in questions:
            hits, missing = await index.ask(question, patience=patience)
            print(f"{question}: {len(hits)} lines")
            for rank, number, line in hits:
                print(f"  {rank} {-number}: {line.strip()}")
            if missing:
                print(f"  but {len(missing)} of {len(pool)} workers did not answer in time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", help="a text")
    parser.add_argument("question", nargs="+", help="words to look for")
    parser.add_argument("--address", help="of a Dask scheduler (none: a cluster on this machine)")
    parser.add_argument("--workers", type=int, help="how many (all of the cluster, or one for each CPU)")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds for an answer (10)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(options.file, options.question, options.address, options.workers, options.patience))
