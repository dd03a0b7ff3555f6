"""The chart: how much less CPU than asyncio each loop needs, one line of dots per cell."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from .catalog import NATIVE, PIPES, PROCESS, SCHEDULER, SERVER, TENS
from .errors import BenchError
from .loops import ASYNCIO, FLOOR, PINLOOP
from .results import Results, Row

INK = "#7d8590"
"""Readable on white and on near-black alike; the background is transparent."""
STYLES = {
    "asyncio": (INK, "o"),
    "uvloop": ("#2f81d6", "s"),
    "uvloop+aiofastnet": ("#2f81d6", "p"),
    "rloop": ("#2da44e", "^"),
    "rsloop": ("#1a9ba1", "v"),
    "zuvloop": ("#a371f7", "D"),
    "zloop": ("#b08800", "P"),
    "blazio": ("#d6528d", "X"),
    PINLOOP.name: ("#e8590c", "o"),
    FLOOR: (INK, "|"),
}
TITLES = {
    SCHEDULER: "Scheduler",
    NATIVE: "Scheduler, pinloop's queues and locks",
    TENS: "Ten at once",
    PIPES: "Pipelines",
    PROCESS: "Subprocesses",
    SERVER: "Servers",
}


def _baseline(results: Results) -> str:
    """What 1× is: asyncio, or else the first loop of the run."""
    return ASYNCIO.name if ASYNCIO.name in results.loops else next(iter(results.loops))


def _points(row: Row, baseline: str) -> dict[str, float]:
    """How many times less than the baseline each loop needs in that cell."""
    names = [name for name, outcome in row.outcomes.items() if outcome.good]
    ratios = {name: row.ratio(baseline, name) for name in names}
    return {name: ratio for name, ratio in ratios.items() if ratio}


def _draw_point(axes: Axes, name: str, x: float, y: int) -> None:
    color, marker = STYLES.get(name, (INK, "."))
    ours = name == PINLOOP.name
    size = 80 if ours else 90 if name == FLOOR else 34
    width = 1.8 if name == FLOOR else 0
    order = 5 if name == FLOOR else 4 if ours else 3
    axes.scatter(x, y, s=size, marker=marker, color=color, linewidths=width, zorder=order)


def _scale_axis(axes: Axes, highest: float, lowest: float) -> None:
    steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    if highest < 4:
        steps += [1.5, 3]
    axes.set_xscale("log")
    axes.set_xlim(lowest * 0.88, highest * 1.14)
    shown = sorted(step for step in steps if lowest * 0.88 <= step <= highest * 1.14)
    axes.set_xticks(shown, [f"{step:g}×" for step in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_panel(axes: Axes, rows: list[Row], group: str, baseline: str) -> None:
    values = [1.0]
    for y, row in enumerate(rows):
        points = _points(row, baseline)
        values += points.values()
        for name, x in points.items():
            _draw_point(axes, name, x, y)
    _scale_axis(axes, max(values), min(values))
    axes.set_yticks(range(len(rows)), [row.title for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(TITLES[group], loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.grid(axis="both", color=INK, alpha=0.18, linewidth=0.8)
    axes.axvline(1, color=INK, alpha=0.7, linewidth=1)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(figure: Figure, names: list[str], versions: dict[str, str]) -> None:
    handles = []
    for name in names:
        color, marker = STYLES.get(name, (INK, "."))
        label = f"{name} {versions[name]}" if name in versions else f"{name} (no Python)"
        size = 9 if name == PINLOOP.name else 6
        handle = Line2D([], [], color=color, marker=marker, linestyle="", markersize=size, label=label)
        handles.append(handle)
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=math.ceil(len(handles) / 2),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handletextpad=0.2,
        columnspacing=1.4,
    )


def draw(results: Results, stem: Path) -> list[Path]:
    """Write the chart of a run as *stem*.svg and *stem*.png; return the two paths.

    Raises `BenchError` if the run holds nothing to draw or a file cannot be written.
    """
    groups = {group: [row for row in results.rows if row.group == group and row.good()] for group in TITLES}
    groups = {group: rows for group, rows in groups.items() if rows}
    baseline = _baseline(results)
    if not any(_points(row, baseline) for rows in groups.values() for row in rows):
        raise BenchError(f"nothing to draw: no cell has a figure for {baseline}")
    figure = _draw_figure(results, groups, baseline)
    return _save(figure, stem)


def _draw_figure(results: Results, groups: dict[str, list[Row]], baseline: str) -> Figure:
    # Text stays text, so that the SVG is small and can be searched and read aloud.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pinloop"})
    heights = [len(rows) + 1.2 for rows in groups.values()]
    figure = Figure(figsize=(9, 1.5 + 0.29 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, (group, rows) in zip(panels[:, 0], groups.items(), strict=True):
        _draw_panel(axes, rows, group, baseline)
    python = results.machine.get("python", "?")
    label = f"times less CPU per operation than {baseline} (CPython {python}); right is better"
    figure.supxlabel(label, color=INK, fontsize=10)
    drawn = {name for row in results.rows for name, outcome in row.outcomes.items() if outcome.good}
    _legend(figure, [name for name in [*results.loops, FLOOR] if name in drawn], results.loops)
    return figure


def _save(figure: Figure, stem: Path) -> list[Path]:
    svg, png = (stem.with_name(stem.name + suffix) for suffix in (".svg", ".png"))
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        # Without a date, two charts of the same results are the same file.
        figure.savefig(svg, transparent=True, metadata={"Date": None})
        figure.savefig(png, transparent=True, dpi=160)
    except OSError as error:
        raise BenchError(f"cannot write the chart: {error}") from error
    return [svg, png]
