"""The tables: what each loop costs in each cell, the winner of each row, and what went wrong."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .catalog import NATIVE, PIPES, PROCESS, SCHEDULER, SERVER, TENS
from .loops import FLOOR, PINLOOP
from .results import Outcome, Results, Row, mean_ratio

HEADINGS = {
    SCHEDULER: "Scheduler: CPU per operation, ns",
    NATIVE: "The same with pinloop's queues, locks and timeouts: CPU per operation, ns",
    TENS: "Ten at once: CPU per child, ns",
    PIPES: "Pipelines: CPU per item, ns",
    PROCESS: "Subprocesses: CPU of parent and child per child, µs (of it in user mode)",
    SERVER: "Servers: CPU of the server per request, µs (of it in user mode)",
}
SCALE = {SCHEDULER: 1.0, NATIVE: 1.0, TENS: 1.0, PIPES: 1.0, PROCESS: 1e3, SERVER: 1e3}
WAITED = 0.6
"""A server that is busy for less than this share of the time was held up by something else than itself."""


def figure(value: float) -> str:
    """Three digits that count: 1306, 35.3, 5.97, 0.35."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figure_cell(outcome: Outcome, group: str, winner: bool) -> Text:
    scale = SCALE[group]
    text = Text(justify="right")
    text.append(figure(outcome.median / scale), style="bold green" if winner else "")
    if group not in (SCHEDULER, NATIVE, TENS, PIPES):
        text.append(f" ({figure(outcome.median / scale * outcome.user_share)})", style="dim")
    if len(outcome.samples) > 1:
        text.append(f" ±{figure(outcome.spread / scale)}", style="dim")
    return text


def _outcome_cell(outcome: Outcome | None, group: str, winner: bool) -> Text:
    if outcome is None or outcome.not_offered:
        return Text("—", style="dim", justify="right")
    if outcome.failed:
        return Text("failed", style="bold red", justify="right")
    if not outcome.samples:
        return Text("not run", style="dim", justify="right")
    return _figure_cell(outcome, group, winner)


def _ratio_cell(ratio: float | None) -> Text:
    if ratio is None:
        return Text("")
    style = "green" if ratio <= 1 else "" if ratio <= 1.2 else "yellow"
    return Text(f"{ratio:.2f}", style=style, justify="right")


def _table(results: Results, group: str, rows: list[Row]) -> Table:
    table = Table(
        title=HEADINGS[group],
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    names = [name for name in [*results.loops, FLOOR] if any(name in row.outcomes for row in rows)]
    has_floor = FLOOR in names
    compare = PINLOOP.name in results.loops and len(results.loops) > 1
    # Everything may wrap at its spaces: a narrow terminal folds a figure, it must not cut it off.
    table.add_column("", min_width=20)
    for name in names:
        version = results.loops.get(name, "")
        # Where two names are joined, the heading may break between them.
        heading = Text.assemble(name.replace("+", "\n+"), ("\n" + version.replace("+", " +"), "dim"))
        table.add_column(heading, justify="right")
    if compare:
        table.add_column(f"{PINLOOP.name} /\nbest peer", justify="right")
    if compare and has_floor:
        table.add_column(f"{PINLOOP.name} /\n{FLOOR}", justify="right")
    for row in rows:
        table.add_row(*_row_cells(row, names, compare, has_floor))
    return table


def _row_cells(row: Row, names: list[str], compare: bool, has_floor: bool) -> list[Text]:
    winner = row.winner()
    cells = [Text(row.title)]
    cells += [_outcome_cell(row.outcomes.get(name), row.group, name == winner) for name in names]
    if compare:
        peer = row.best_peer(PINLOOP.name)
        cells.append(_ratio_cell(row.ratio(PINLOOP.name, peer) if peer else None))
    if compare and has_floor:
        cells.append(_ratio_cell(row.ratio(PINLOOP.name, FLOOR)))
    return cells


def _means(results: Results) -> list[Text]:
    """What pinloop costs over all scheduler cells: one figure, beside the best and beside each other loop."""
    rows = [row for row in results.rows if row.group == SCHEDULER]
    peers = [name for name in results.loops if name != PINLOOP.name]
    if PINLOOP.name not in results.loops or not peers or len(rows) < 2:
        return []
    found = [("best peer of each cell", mean_ratio(rows, PINLOOP.name))]
    found += [(name, mean_ratio(rows, PINLOOP.name, name)) for name in peers]
    # A mean over other cells is another figure: one that is short of cells says so.
    words = [
        f"{mean[0]:.2f} × {name}" + (f" ({mean[1]} of {len(rows)} cells)" if mean[1] < len(rows) else "")
        for name, mean in found
        if mean
    ]
    if not words:
        return []
    return [Text(f"geometric mean over the {len(rows)} scheduler cells: {PINLOOP.name} = {', '.join(words)}")]


def _failures(results: Results) -> list[Text]:
    lines = []
    for row in results.rows:
        for name, outcome in row.outcomes.items():
            if outcome.failed:
                lines.append(
                    Text.assemble(("failed: ", "bold red"), f"{row.title}, {name}: {outcome.failed}")
                )
            elif outcome.not_offered:
                lines.append(Text(f"— {row.title}, {name}: not offered ({outcome.not_offered})", style="dim"))
    return lines


def _held_up(results: Results) -> list[Text]:
    found = []
    for row in results.rows:
        # One connection leaves a server idle between its requests by nature.
        if row.group != SERVER or row.name.endswith("-1"):
            continue
        shares = [outcome.busy for outcome in row.outcomes.values() if outcome.good]
        waited = sum(share < WAITED for share in shares)
        if waited:
            found.append(f"{row.title} ({waited} of {len(shares)})")
    if not found:
        return []
    words = f"held up, so blunter: servers busy for less than {WAITED:.0%} of the time: {'; '.join(found)}"
    return [Text(words, style="dim")]


def _legend(results: Results) -> list[Text]:
    lines = [
        Text(
            "Median over the rounds ± its median absolute deviation; the least of each row is green.",
            style="dim",
        )
    ]
    machine = ", ".join(results.machine.values())
    lines.append(Text(f"{machine}; {results.settings.get('rounds_done', '?')} round(s)", style="dim"))
    lines += [Text(note, style="dim") for note in results.notes]
    if results.not_installed:
        lines.append(Text(f"not installed: {', '.join(results.not_installed)}", style="dim"))
    return lines


def tables(results: Results) -> RenderableType:
    """The tables of a run with what has to be said under them."""
    parts: list[RenderableType] = []
    for group in HEADINGS:
        rows = [row for row in results.rows if row.group == group]
        if rows:
            parts += [
                _table(results, group, rows),
                *(_means(results) if group == SCHEDULER else []),
                Text(""),
            ]
    return Group(*parts, *_failures(results), *_held_up(results), *_legend(results))


def show(results: Results, console: Console) -> None:
    """Print the tables; into a file or a pipe as wide as they are, since nobody folds them there."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(console.width, 60 + 22 * (len(results.loops) + 3)))
    console.print(tables(results))
