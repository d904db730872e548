"""The charts of the report, as SVG that goes into a page: no file, no script, the same data the same bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

INK, FAINT, GRID = "#24303c", "#5b6875", "#e3e8ed"
GOOD, FAIR, BAD = "#1b6ca8", "#c77700", "#b3261e"  # told apart by the colour-blind, and on grey paper

_RANKS = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, 10**9))
_WIDTH = 6.4  # inches of 72 points
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "docsearch",
    "svg.fonttype": "none",  # text stays text: it can be read aloud, and takes the font of the page
    "text.parse_math": False,  # a name may hold dollars
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": INK,
}

Interval = Mapping[str, float]  # value, low, high


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, and what it shows in words."""

    svg: str
    alt: str


def measures_chart(measures: Mapping[str, Interval]) -> Chart:
    """Every measure with its interval."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.34 * len(measures) + 0.5)
        _intervals(axes, list(measures), list(measures.values()))
        said = "; ".join(f"{name} {_told(value)}" for name, value in measures.items())
        return Chart(_svg(figure), f"Measures with 95 % intervals: {said}")


def groups_chart(measure: str, groups: Mapping[str, tuple[int, Interval]], overall: float) -> Chart:
    """One measure in every group of queries, with its interval.

    Args:
        measure: its name.
        groups: name → how many queries, and the measure.
        overall: of all queries.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.34 * len(groups) + 0.7)
        axes.axvline(overall, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        labels = [f"{name}  ({n:,})" for name, (n, _) in groups.items()]
        _intervals(axes, labels, [value for _, value in groups.values()])
        axes.set_xlabel(f"{measure}; dashed: all queries")
        said = "; ".join(f"{name}, {n:,} queries, {_told(value)}" for name, (n, value) in groups.items())
        return Chart(_svg(figure), f"{measure} by group, {overall:.3f} over all queries: {said}")


def ranks_chart(ranks: Sequence[int | None]) -> Chart:
    """At which rank the first page that answers came; None where none came."""
    found = [rank for rank in ranks if rank is not None]
    last = max((at for at, (low, _) in enumerate(_RANKS) if any(rank >= low for rank in found)), default=0)
    shown = _RANKS[: max(last, 4) + 1]
    counts = [sum(low <= rank <= high for rank in found) for low, high in shown] + [len(ranks) - len(found)]
    names = [*map(_span, shown), "none"]
    colours = [GOOD if high <= 10 else FAIR for _, high in shown] + [BAD]
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(2.7)
        bars = axes.bar(names, counts, color=colours, width=0.72)
        axes.bar_label(bars, [f"{n:,}" for n in counts], padding=2, color=INK)
        axes.set_xlabel("rank of the first page that answers")
        axes.set_ylabel("queries")
        axes.margins(y=0.14)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        _plain(axes, grid="y")
        said = "; ".join(f"{name}: {n:,}" for name, n in zip(names, counts, strict=True) if n)
        return Chart(_svg(figure), f"Queries by the rank of the first page that answers. {said}")


def latency_chart(times: Mapping[str, tuple[Sequence[float], Mapping[str, float]]]) -> Chart:
    """How long each part took, in milliseconds, with the median and the 95th percentile marked.

    Args:
        times: name of the part → its milliseconds, and ``p50`` and ``p95``.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 2.5), layout="constrained")
        panels = figure.subplots(1, len(times), squeeze=False)[0]
        for axes, (name, (values, marks)) in zip(panels, times.items(), strict=True):
            _histogram(axes, name, values, marks)
        panels[0].set_ylabel("queries")
        said = "; ".join(
            f"{name}: median {marks['p50']:.1f} ms, 95th percentile {marks['p95']:.1f} ms"
            for name, (_, marks) in times.items()
        )
        return Chart(_svg(figure), f"How long queries took. {said}")


def _histogram(axes: Axes, name: str, values: Sequence[float], marks: Mapping[str, float]) -> None:
    """Milliseconds on a logarithmic scale: a few queries may take a hundred times as long as the others."""
    shown = np.maximum(np.array(values, np.float64), 1e-3)
    low, high = shown.min() / 1.1, shown.max() * 1.1
    axes.hist(shown, bins=np.geomspace(low, high, 31).tolist(), color=GOOD, alpha=0.55)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 60 else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.32)
    for mark, colour, height in (("p50", INK, 1.2), ("p95", BAD, 1.06)):
        axes.plot([marks[mark]] * 2, [0, top * (height + 0.04)], color=colour, linewidth=1.3)
        is_right = marks[mark] ** 2 > low * high
        axes.annotate(
            f"{mark} {marks[mark]:.3g} ms" if marks[mark] < 1000 else f"{mark} {marks[mark] / 1000:.3g} s",
            (marks[mark], top * height),
            (-4 if is_right else 4, 0),
            textcoords="offset points",
            color=colour,
            ha="right" if is_right else "left",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1},
        )
    axes.set_xlabel(f"{name}, milliseconds")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _plain(axes, grid="y")


def _intervals(axes: Axes, labels: Sequence[str], values: Sequence[Interval]) -> None:
    """A row each, the first on top: a line from low to high, a dot at the value, the value in figures at the right."""
    rows = np.arange(len(values))[::-1]
    for row, value in zip(rows, values, strict=True):
        axes.plot([value["low"], value["high"]], [row, row], color=GOOD, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot(value["value"], row, "o", color=GOOD, markersize=6)
        axes.text(1.02, row, f"{value['value']:.3f}", va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(rows, labels)
    axes.set_ylim(-0.6, len(values) - 0.4)
    axes.set_xlim(-0.01, 1.02)
    _plain(axes, grid="x")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _plain(axes: Axes, *, grid: Literal["x", "y"]) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _told(value: Interval) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _span(ranks: tuple[int, int]) -> str:
    low, high = ranks
    if high == 10**9:
        return f"{low}+"
    return str(low) if low == high else f"{low}-{high}"


def _svg(figure: Figure) -> str:
    """The drawing as an element of a page: nothing before it, no names of its own that two charts could share."""
    written = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the page's font draws the text, not this one
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' xmlns(?::\w+)?="[^"]*"| version="1.1"', "", svg, count=3)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", svg)
    size = re.compile(r'^<svg[^>]*?width="([\d.]+)pt"[^>]*>')
    return size.sub(lambda match: re.sub(r' (?:width|height)="[^"]*pt"', "", match[0]), svg, count=1)
