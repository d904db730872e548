"""What the benchmarks share: medians in turns, tables, bars, plots, and the facts of the machine they ran on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLOTS = HERE / "plots"
FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
)  # of processors
PACKAGES = (
    "docsearch-engine", "numpy", "faiss-cpu", "faiss-gpu", "torch", "triton", "maxsim-cpu", "lateweave",
    "qdrant-edge-py", "late-interaction-kernels", "flash-maxsim",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A goal and what was measured: ``met`` None means that it could not be measured here, and ``measured`` why."""

    name: str
    goal: str
    measured: str
    met: bool | None


@dataclass
class Section:
    """One part of the report: paragraphs and tables in Markdown in ``lines``, bars, and plots by file name."""

    title: str
    command: str
    lines: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        """Another paragraph or table."""
        self.lines += [*lines, ""]

    def markdown(self) -> str:
        """The section as it stands in the report; its bars last."""
        plots = [f"![{Path(name).stem}](plots/{name})\n" for name in self.plots]
        return "\n".join([f"## {self.title}", "", f"`{self.command}`", "", *self.lines, *plots, *bar_table(self.bars)])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    cells = [list(map(str, head)), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def bar_table(bars: Sequence[Bar]) -> list[str]:
    """The bars as a table, or nothing."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    return (
        [table(["bar", "goal", "measured", ""], [[b.name, b.goal, b.measured, words[b.met]] for b in bars]), ""]
        if bars
        else []
    )


def at_least(name: str, goal: float, measured: float | None, unit: str = "x") -> Bar:
    """A bar for a figure that should be large; None: not measured."""
    if measured is None:
        return Bar(name=name, goal=f">= {goal:g} {unit}", measured="nothing to compare with here", met=None)
    return Bar(name=name, goal=f">= {goal:g} {unit}", measured=f"{measured:.3g} {unit}", met=measured >= goal)


def at_most(name: str, goal: float, measured: float | None, unit: str) -> Bar:
    """A bar for a figure that should be small; None: not measured."""
    if measured is None:
        return Bar(name=name, goal=f"<= {goal:g} {unit}", measured="nothing to measure with here", met=None)
    return Bar(name=name, goal=f"<= {goal:g} {unit}", measured=f"{measured:.3g} {unit}", met=measured <= goal)


def in_turns(
    ways: Mapping[str, Callable[[], Any]], rounds: int, *, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """The median milliseconds of each way, called in turns so that a busy moment hits all alike.

    Each is called once before, to warm up.

    The clock counts the CPU time of the whole process; ``time.perf_counter`` counts what a user waits.
    """
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = clock()
            way()
            taken[name].append(1000 * (clock() - started))
    return {name: statistics.median(times) for name, times in taken.items()}


def facts() -> list[str]:
    """The machine and the versions, without names or paths: lines of Markdown."""
    model, flags = _processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {found}" for name in PACKAGES if (found := installed(name)))
    cores = f"{len(os.sched_getaffinity(0))} cores, {', '.join(flags) or 'no flags that matter'}"
    return [
        f"- Processor: {model}, {cores}; {memory:.0f} GiB of memory; load when it began {os.getloadavg()[0]:.1f}.",
        f"- {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, {versions}.",
    ]


def installed(package: str) -> str | None:
    """The version of a package, None when it is not here."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> tuple[str, list[str]]:
    entries: dict[str, str] = {}
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            entries.setdefault(key.strip(), value.strip())
    flags = entries.get("flags", entries.get("Features", "")).split()
    name = entries.get("model name") or platform.processor() or platform.machine()
    family = f" (family {entries['cpu family']}, model {entries['model']})" if "cpu family" in entries else ""
    return name + family, [flag for flag in FLAGS if flag in flags]


def plot_lines(
    name: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x: str, y: str, title: str,
    log_x: bool = False, log_y: bool = False, marks: Mapping[str, float] | None = None,
) -> str:  # fmt: skip
    """Draw lines into ``plots/<name>.svg`` and return the file's name; ``marks`` are level lines, a goal say."""
    axes, save = _canvas(name, title)
    for label, (xs, ys) in lines.items():
        axes.plot(xs, ys, marker="o", label=label)
    for label, height in (marks or {}).items():
        axes.axhline(height, linestyle="--", linewidth=1, color="grey")
        axes.annotate(label, (0.01, height), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color="grey")
    axes.set(xlabel=x, ylabel=y, xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
    axes.legend(fontsize=8)
    return save()


def plot_points(
    name: str, points: Mapping[str, tuple[float, float]], *, x: str, y: str, title: str, log_x: bool = False,
    band: tuple[float, float] | None = None,
) -> str:  # fmt: skip
    """Draw labelled points into ``plots/<name>.svg`` and return the file's name; ``band`` shades a range of y."""
    axes, save = _canvas(name, title)
    if band:
        axes.axhspan(*band, color="tab:green", alpha=0.12)
    for label, (at_x, at_y) in points.items():
        axes.plot(at_x, at_y, marker="o", color="tab:blue")
        axes.annotate(label, (at_x, at_y), textcoords="offset points", xytext=(4, 4), fontsize=8)
    axes.set(xlabel=x, ylabel=y, xscale="log" if log_x else "linear")
    return save()


def plot_columns(name: str, heights: Mapping[str, float], *, y: str, title: str, log_y: bool = False) -> str:
    """Draw lying columns, the first on top, into ``plots/<name>.svg`` and return the file's name."""
    axes, save = _canvas(name, title)
    start = min(heights.values()) / 2 if log_y else 0.0
    columns = axes.barh(list(heights), [height - start for height in heights.values()], left=start)
    axes.bar_label(columns, [f"{height:.3g}" for height in heights.values()], fontsize=8, padding=2)
    axes.invert_yaxis()
    axes.set(
        xlabel=y, xscale="log" if log_y else "linear", xlim=(start, max(heights.values()) * (1.5 if log_y else 1.1))
    )
    axes.xaxis.set_major_formatter("{x:g}")
    return save()


def _canvas(name: str, title: str) -> tuple[Any, Callable[[], str]]:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "docsearch"  # the same figures draw the same file
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, alpha=0.3)

    def save() -> str:
        PLOTS.mkdir(exist_ok=True)
        figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        return f"{name}.svg"

    return axes, save
