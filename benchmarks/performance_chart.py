"""The picture of docs/performance.md: a bar for each operation and one for its floor, divided by part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import profiles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from performance import Finding, Served

INK = "#7d8590"
"""Readable on white and on near-black alike; the background is transparent."""
COLORS = {
    profiles.MODULE: "#e8590c",
    profiles.ASYNCIO: "#d6528d",
    profiles.PYTHON: "#2f81d6",
    profiles.EVALUATION: "#2f81d6",
    profiles.CALLS: "#5aa2e6",
    profiles.MEMORY: "#a371f7",
    profiles.CONTEXT: "#1a9ba1",
    profiles.LOOKUP: "#8250df",
    profiles.UNSORTED: "#3b5bdb",
    profiles.LIBC: "#2da44e",
    profiles.SEND: "#57606a",
    profiles.RECEIVE: "#7d8590",
    profiles.POLL: "#a0a8b1",
    profiles.KERNEL: "#c4cad0",
}
ELSE = "#b08800"

Bar = tuple[str, dict[str, float]]


def _times(found: Finding) -> dict[str, float]:
    return {part: cost / found.instructions * found.ns for part, cost in found.parts().items()}


def _draw_panel(axes: Axes, title: str, unit: str, bars: list[Bar]) -> None:
    for y, (_, parts) in enumerate(bars):
        left = 0.0
        for part, length in parts.items():
            axes.barh(y, length, left=left, height=0.62, color=COLORS.get(part, ELSE), label=part)
            left += length
        axes.text(
            left, y, f" {left:.0f}" if left >= 100 else f" {left:.1f}", va="center", color=INK, fontsize=9
        )
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, max(sum(parts.values()) for _, parts in bars) * 1.08)
    axes.set_title(f"{title}, {unit}", loc="left", color=INK, fontsize=10, fontweight="bold")
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)


def draw(
    found: list[tuple[str, bool, Finding, Finding]], served: tuple[Served, Served] | None, path: Path
) -> None:
    """Write the picture as SVG; without *served* it has one panel less.

    *found* is a list of title, whether instructions are to be drawn in place of time, operation, floor.
    """
    panels = []
    for title, as_counts, *both in found:
        bars = [
            (name, one.parts() if as_counts else _times(one))
            for name, one in zip(("pinloop", "floor"), both, strict=True)
        ]
        panels.append((title, "instructions outside the kernel" if as_counts else "ns", bars))
    if served:
        order = [part for part, _ in served[0].samples.most_common()]
        sides = [
            (name, {part: side.part_us(part) for part in [*order, *(side.samples.keys() - set(order))]})
            for name, side in zip(("pinloop", "C floor"), served, strict=True)
        ]
        panels.append(("echo over TCP, 1 KiB × 20 connections", "µs", sides))
    with matplotlib.rc_context({"svg.hashsalt": "pinloop", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(9, 1.35 * len(panels) + 1.1), layout="constrained")
        places = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        legend = {}
        for axes, (title, unit, bars) in zip(places, panels, strict=True):
            _draw_panel(axes, title, unit, bars)
            handles, labels = axes.get_legend_handles_labels()
            legend |= dict(zip(labels, handles, strict=True))
        figure.legend(
            legend.values(),
            legend.keys(),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            labelcolor=INK,
            fontsize=8,
        )
        figure.savefig(path, metadata={"Date": None}, transparent=True)
