"""All of the engine's benchmarks in one command: `make bench`, and `make bench-quick` in under two minutes.

    pip install -r benchmarks/requirements-peers.txt
    python build.py bench-data --masked                          # the development documents: see its README
    python benchmarks/bench.py bench-data --keep kept            # hours; writes RESULTS.md and plots/ beside this file
    python benchmarks/bench.py --quick                           # sample documents, small sizes; only prints

Every part is a script of its own and says in its first lines what it measures and how: rerank.py, codec_quality.py,
cold_reads.py, prefilter.py, scale.py. The GPU has gpu.py, which runs where there is one. A part that fails is named in
the report and does not stop the others.
"""

from __future__ import annotations

import os

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # read by NumPy when it is loaded; small products gain nothing by two

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import codec_quality
import cold_reads
import prefilter
import report
import rerank
import scale
from report import Section, facts

from docsearch import Index

HEAD = """# What docsearch's engine does, measured

Written by `{command}` in one run. Times of one thread are CPU times, and all ways of a table were called in turns in
one process: ratios hold between machines of a kind, milliseconds on this one. {note}
"""


def main() -> None:
    """Run the parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, nargs="?", help="the development documents: the folder made by build.py")
    parser.add_argument("--keep", type=Path, help="a folder for indexes that the next run uses again")
    parser.add_argument("--quick", action="store_true", help="under two minutes, nothing written")
    parser.add_argument("--sizes", type=int, nargs="+", default=scale.SIZES, help="pages of the large indexes")
    parser.add_argument("--fast-plaid", metavar="PYTHON", help="a Python that has fast-plaid")
    parser.add_argument("--out", type=Path, default=report.HERE / "RESULTS.md")
    arguments = parser.parse_args()
    started = facts()
    with tempfile.TemporaryDirectory() as folder:
        keep = (arguments.keep or Path(folder)).absolute()
        keep.mkdir(parents=True, exist_ok=True)
        if arguments.quick:
            report.PLOTS = Path(folder) / "plots"
        parts = parts_of(arguments, keep)
        sections = [run_part(name, part) for name, part in parts.items()]
    command, note = "make bench", ""
    if arguments.quick:
        command, note = "make bench-quick", "The quick form is small and rough: the bars are meant for the whole one."
    head = HEAD.format(command=command, note=note)
    text = "\n".join([head, *started, "", *all_bars(sections), *(section.markdown() for section in sections)])
    if arguments.quick:
        print(text)
    else:
        arguments.out.write_text(text)
        print(f"wrote {arguments.out}", file=sys.stderr)


def parts_of(arguments: argparse.Namespace, keep: Path) -> dict[str, Callable[[], Section]]:
    """Name → what measures it, in the order of the report."""
    quick, bench = arguments.quick, arguments.bench
    parts: dict[str, Callable[[], Section]] = {
        "rerank": partial(rerank.run, quick=quick, fast_plaid=arguments.fast_plaid),
        "codecs": partial(codec_quality.run, quick=quick, bench=bench, keep=keep / "float16"),
        "cold reads": partial(cold_reads.run, quick=quick, folder=keep),
        "prefilter": partial(prefilter.run, quick=quick, bench=bench, keep=keep / "prefilter"),
    }
    if bench and not quick:
        parts["scale"] = lambda: scale.run(small_index(bench, keep), keep / "scale", arguments.sizes)
    return parts


def small_index(bench: Path, keep: Path) -> Path:
    """An index of the development documents as users make it, to be replicated."""
    folder = keep / "index"
    with Index.open(folder, create=True) as index:
        index.add(bench / "masked")
    return folder


def run_part(name: str, part: Callable[[], Section]) -> Section:
    """What the part found; or that it failed, and how."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        section = part()
    except Exception:  # noqa: BLE001 - hours of other parts must not be lost
        section = Section(name.capitalize(), f"python benchmarks/{name.replace(' ', '_')}.py")
        section.add("This part failed:", "", "```", traceback.format_exc(limit=-3).strip(), "```")
    section.add(f"This part took {time.monotonic() - started:.0f} s.")
    return section


def all_bars(sections: list[Section]) -> list[str]:
    """Every bar in one table, and how many are met."""
    bars = [bar for section in sections for bar in section.bars]
    met, missed = sum(bar.met is True for bar in bars), sum(bar.met is False for bar in bars)
    return [
        "## The bars", "", f"{met} met, {missed} missed, {len(bars) - met - missed} not measured here.", "",
        *report.bar_table(bars),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
