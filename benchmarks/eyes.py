"""A trained `eyes` against OCR and the encoder `words`, on scanned pages: quality, and CPU seconds a page.

    python build.py bench-data --masked --raster      # the development documents: see their README
    python benchmarks/eyes.py bench-data --run RUN --keep KEEP

Both indexes are made of the same pages, with one worker and one thread, and asked by MaxSim over every page;
KEEP holds them, and a run that was stopped goes on there (its seconds a page are then those of the pages it did).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch

from docsearch import Index, IndexOptions, SearchOptions
from docsearch.evaluation.evaluate import evaluate_index
from docsearch.evaluation.judged import read_judged
from docsearch.evaluation.pages import PageNames
from docsearch.finetune.eyes.reader import EyesEncoder
from docsearch.protocols import Encoder

SHOWN = ("nDCG@10", "R@1", "R@5")


def main() -> None:
    """Make what is missing, ask, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="the folder made by build.py")
    parser.add_argument("--set", choices=["raster", "masked"], default="raster", help="scans, or clean pages with text")
    parser.add_argument("--run", type=Path, required=True, help="of `python -m docsearch.finetune.eyes train`")
    parser.add_argument("--page", default="1456x1008", help="px a page is scaled to, in area")
    parser.add_argument("--keep", type=Path, required=True, help="where the indexes go")
    parser.add_argument("--files", default="", help="names of PDFs with commas; all of them when left out")
    parser.add_argument("--only", choices=["eyes", "words"], help="one of the two")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = _chosen(
        arguments.bench, arguments.set, arguments.keep, [name for name in arguments.files.split(",") if name]
    )
    dev_set = Path(__file__).with_name("dev_set.py")
    subprocess.run([sys.executable, dev_set, bench, "--set", arguments.set, "--out", bench / "judged"], check=True)
    height, width = map(int, arguments.page.split("x"))
    encoders: dict[str, Encoder | str] = {
        "words": "words",
        "eyes": EyesEncoder(arguments.run, page=(height, width)),
    }
    for name, encoder in encoders.items():
        if arguments.only in (None, name):
            _judge(name, encoder, bench / arguments.set, arguments.keep / name)


def _judge(name: str, encoder: Encoder | str, pages: Path, folder: Path) -> None:
    with Index.open(folder, encoder=encoder, create=True) as index:
        before = _cpu_seconds()
        report = index.add(pages, IndexOptions(workers=1, ocr="auto" if name == "words" else "off"))
        spent = _cpu_seconds() - before
        names = PageNames(index)
        matched = names.match(read_judged(pages.parent / "judged"))
        found = evaluate_index(index, matched, SearchOptions(mode="visual", exact=True, k=100), names=names)
    summary = found.result.summary
    speed = f"{spent / report.pages:.2f} CPU s a page over {report.pages} pages" if report.pages else "made before"
    print(f"{name}: {speed}, {index.stats()['token_vectors'] / index.stats()['pages']:.0f} token vectors a page")
    rows = {"all": summary["metrics"]} | {group: told["metrics"] for group, told in summary["groups"].items()}
    for group, metrics in rows.items():
        shown = ((measure, metrics[measure]) for measure in SHOWN)
        values = ", ".join(f"{name} {got['value']:.3f} ({got['low']:.3f}-{got['high']:.3f})" for name, got in shown)
        print(f"  {group:16} {values}")


def _chosen(bench: Path, which: str, keep: Path, files: Sequence[str]) -> Path:
    """A folder like the one of build.py with some of its PDFs."""
    made = keep / "bench"
    (made / which).mkdir(parents=True, exist_ok=True)
    for name in ("corpus.json", "queries.jsonl", "qrels.tsv"):
        (made / name).write_bytes((bench / name).read_bytes())
    for path in sorted((bench / which).glob("*.pdf")):
        link = made / which / path.name
        link.unlink(missing_ok=True)
        if not files or path.name in files:
            link.symlink_to(path.resolve())
    return made


def _cpu_seconds() -> float:
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


if __name__ == "__main__":
    main()
