"""The picture of an ablation. The only module here that knows matplotlib."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from docsearch.evaluation.ablate import QUALITY, Row

PLOT = "ablation.svg"

_BEST, _OTHER, _EXACT = "#1f6feb", "#9aa4af", "#d1242f"
_GAP, _WIDTH = 0.05, 0.25  # what a label takes of the height and the width of the axes


def plot_ablation(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw quality over milliseconds, and over bytes where they differ; the same rows give the same bytes.

    Blue points are those that no other beats, red ones score every page; both are named.

    Args:
        path: of the .svg.
        rows: of `ablate`.
        title: above all.
    """
    panels = [("milliseconds to search, median", [row.search_ms["p50"] for row in rows])]
    if len({row.bytes_per_page for row in rows}) > 1:
        panels.append(("kB a page on disk", [row.bytes_per_page / 1000 for row in rows]))
    with mpl.rc_context({"svg.hashsalt": "docsearch", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.5 * len(panels), 4.6), layout="constrained")
        figure.suptitle(title)
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (label, places) in zip(every, panels, strict=True):
            _draw(axes, rows, places)
            axes.set_xlabel(label)
        every[0].set_ylabel(f"{QUALITY}, 95 % interval")
        figure.savefig(path, metadata={"Date": None})


def _draw(axes: Axes, rows: Sequence[Row], places: Sequence[float]) -> None:
    for row, at in zip(rows, places, strict=True):
        quality = row.metrics[QUALITY]
        spread = [[quality.value - quality.low], [quality.high - quality.value]]
        axes.errorbar(at, quality.value, yerr=spread, fmt="o", color=_colour(row), ecolor=_colour(row) + "30")
    axes.set_xscale("log")
    axes.set_xlim(min(places) / 1.15, max(places) * (max(places) / min(places)) ** 0.35 * 1.3)  # room for names
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color="#d0d7de", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    bottom, top = axes.get_ylim()
    width = math.log(axes.get_xlim()[1] / axes.get_xlim()[0])
    taken: list[tuple[float, float]] = []  # where labels are, as fractions of the axes
    for row, at, name in zip(rows, places, told(rows), strict=True):
        if not (row.optimal or row.setting.exact):
            continue
        x, y = math.log(at) / width, (row.metrics[QUALITY].value - bottom) / (top - bottom)
        free = (y + step * _GAP / 2 * sign for step in itertools.count() for sign in (1, -1))
        height = next(h for h in free if not any(abs(x - u) < _WIDTH and abs(h - v) < _GAP for u, v in taken))
        taken.append((x, height))
        axes.annotate(
            name,
            (at, row.metrics[QUALITY].value),
            (at * 1.08, bottom + height * (top - bottom)),
            color=_colour(row),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": _colour(row) + "60", "linewidth": 0.6},
        )


def told(rows: Sequence[Row]) -> list[str]:
    """What tells each row from the others: `hybrid r4 200`, or `200` where nothing else is varied."""
    parts = [
        (
            row.setting.mode,
            row.setting.codec,
            f"x{row.setting.pooling}",
            "exact" if row.setting.exact else str(row.setting.candidates or ""),
        )
        for row in rows
    ]
    varied = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    return [" ".join(part for part, varies in zip(row, varied, strict=True) if varies and part) for row in parts]


def _colour(row: Row) -> str:
    return _EXACT if row.setting.exact else _BEST if row.optimal else _OTHER
