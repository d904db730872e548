"""The tables of ViDoRe and JinaVDR, made by mteb: the whole pipeline, and the encoder alone with every page scored.

    pip install "docsearch-engine[jina-v4,mteb]"
    docsearch models download jina-v4
    python benchmarks/mteb_tables.py --benchmark "ViDoRe(v1)" --encoder jina-v4 --out tables
    python benchmarks/mteb_tables.py --benchmark "ViDoRe(v2)" --encoder jina-v4 --out tables
    python benchmarks/mteb_tables.py --benchmark "ViDoRe(v3)" --encoder jina-v4 --out tables
    python benchmarks/mteb_tables.py --benchmark "ViDoRe(v3.1)" --encoder jina-v4 --out tables
    python benchmarks/mteb_tables.py --benchmark JinaVDR --encoder jina-v4 --out tables

Needs the Hugging Face hub once for the data (HF_HOME says where it is kept), and a GPU for the flagship. Stopped, it
goes on with the first subset that has no result yet. Data that cannot be had is said to be missing. ``--dry-run`` goes
the same way with made-up data of the same form, a few small pages of the sample documents for every task and subset,
and with a flagship of the same layout and random weights: its figures say nothing, only that every step works.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
from mteb.results import TaskResult
from report import table

from docsearch.encoders import load_encoder
from docsearch.evaluation.mteb import DataUnavailable, evaluate_task
from docsearch.options import IndexOptions, SearchOptions

ROOT = Path(__file__).parent.parent
SAMPLES, TINY = ROOT / "sample_docs", ROOT / "tests" / "data" / "tiny_jina_v4"
DRY_PAGES = (("annual-report.pdf", 3), ("annual-report.pdf", 4), ("invoice.pdf", 1), ("mietvertrag.pdf", 2))
DRY_DPI = 30


def main() -> None:
    """Run what is missing of a benchmark, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", required=True, help="as mteb calls it: ViDoRe(v1), ViDoRe(v2), …, JinaVDR")
    parser.add_argument("--encoder", default="jina-v4", help="a name of `docsearch models`")
    parser.add_argument("--way", choices=["pipeline", "exact", "both"], default="both")
    parser.add_argument("--mode", choices=["auto", "visual", "text", "hybrid"], default="auto", help="of the pipeline")
    parser.add_argument("--ocr", choices=["auto", "off"], default="auto", help="off: no words beside the pixels")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="only these tasks")
    parser.add_argument("--out", type=Path, default=Path("mteb-tables"), help="where results are kept")
    parser.add_argument("--dry-run", action="store_true", help="made-up data, random weights")
    arguments = parser.parse_args()
    benchmark = mteb.get_benchmark(arguments.benchmark)
    tasks = [task for task in benchmark.tasks if not arguments.tasks or task.metadata.name in arguments.tasks]
    name = arguments.encoder
    if arguments.dry_run and name == "jina-v4":
        name = f"jina-v4:{TINY}"
    encoder = load_encoder(name)
    folder = arguments.out / ("dry-run" if arguments.dry_run else "") / re.sub(r"\W+", "-", benchmark.name).strip("-")
    ways = ["pipeline", "exact"] if arguments.way == "both" else [arguments.way]
    results: dict[str, dict[str, TaskResult]] = {way: {} for way in ways}
    missing = {}
    for task in tasks:
        if arguments.dry_run:
            make_up(task)
        for way in ways:
            started = time.perf_counter()
            try:
                out = evaluate_task(
                    task,
                    encoder=encoder,
                    out=folder / arguments.encoder.partition(":")[0] / way / task.metadata.name,
                    way=way,
                    search=SearchOptions(mode=arguments.mode),
                    reading=IndexOptions(ocr=arguments.ocr),
                )
            except DataUnavailable as error:
                missing[task.metadata.name] = str(error)
                print(f"# left out: {error}", file=sys.stderr, flush=True)
                break
            results[way][task.metadata.name] = newest_result(out, task.metadata.name)
            took = time.perf_counter() - started
            print(f"# {task.metadata.name}, {way}: {took:.0f} s", file=sys.stderr, flush=True)
        task.unload_data()
    told = f"{version('docsearch-engine')}, encoder {encoder.name.partition(':')[0]} {encoder.fingerprint}"
    lines = [
        f"## {benchmark.name}",
        "",
        *(["**Dry run: made-up data, figures without meaning.**", ""] if arguments.dry_run else []),
        f"docsearch {told}; mteb {version('mteb')}; mode {arguments.mode}, OCR {arguments.ocr}.",
        "",
        score_table(tasks, results),
        "",
        *(f"- {name} is missing: {why}." for name, why in missing.items()),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    print("\n".join(lines))
    sys.exit(1 if missing else 0)


def newest_result(out: Path, task: str) -> TaskResult:
    """What mteb wrote about a task: the newest, where settings have changed meanwhile."""
    paths = sorted(out.glob(f"mteb/results/*/*/{task}.json"), key=lambda path: path.stat().st_mtime)
    return TaskResult.from_disk(paths[-1])


def score_table(tasks: list[Any], results: dict[str, dict[str, TaskResult]]) -> str:
    """A row a task: its main score each way, which is the mean over its subsets, and the score of each of several."""
    ways = list(results)
    head = ["task", "main score", *ways, *(["gap"] if len(ways) == 2 else []), f"by subset, {ways[0]}"]
    rows, means = [], []
    for task in tasks:
        name = task.metadata.name
        if all(name in results[way] for way in ways):
            scores = [100 * results[way][name].get_score() for way in ways]
            means.append(scores)
            subsets = sorted(subset_scores(results[ways[0]][name]))
            told = ", ".join(f"{subset} {100 * score:.1f}" for subset, score in subsets) if len(subsets) > 1 else ""
            rows.append([name, task.metadata.main_score, *shown(scores), told])
    if means:
        rows.append([f"**mean of {len(means)} of {len(tasks)} tasks**", "", *shown(np.mean(means, axis=0)), ""])
    return table(head, rows)


def shown(scores: Any) -> list[str]:
    """Scores, and the last minus the first where there are two."""
    return [f"{score:.2f}" for score in scores] + ([f"{scores[1] - scores[0]:+.2f}"] if len(scores) == 2 else [])


def subset_scores(result: TaskResult) -> Iterator[tuple[str, float]]:
    """The main score of every subset."""
    return ((scores["hf_subset"], scores["main_score"]) for split in result.scores.values() for scores in split)


# -- the dry run ---------------------------------------------------------------------------------------------------


def make_up(task: Any) -> None:
    """Give a task data of the form its metadata promises: its subsets, splits and kinds of documents."""
    pages = [drawn(*page) for page in DRY_PAGES]
    asked = json.loads("[" + ",".join((SAMPLES / "queries.jsonl").read_text("utf-8").splitlines()[:3]) + "]")
    has_text = task.metadata.category.endswith("it")
    task.dataset = {
        subset: {
            split: {
                "corpus": datasets.Dataset.from_dict(
                    {"id": [f"corpus-{split}-{at}" for at in range(len(pages))], "image": [one for one, _ in pages]}
                    | ({"text": [text for _, text in pages]} if has_text else {})
                ),
                "queries": datasets.Dataset.from_dict(
                    {
                        "id": [f"query-{split}-{at}" for at in range(len(asked))],
                        "text": [query["text"] for query in asked],
                    }
                ),
                "relevant_docs": {
                    f"query-{split}-{at}": {f"corpus-{split}-{at}": 2, f"corpus-{split}-{at + 1}": 1}
                    for at in range(len(asked))
                },
                "top_ranked": None,
            }
            for split in task.eval_splits
        }
        for subset in task.hf_subsets
    }
    task.data_loaded = True


def drawn(name: str, number: int) -> tuple[Any, str]:
    """A small picture of a sample page, and its text."""
    import pymupdf
    from PIL import Image

    with pymupdf.open(SAMPLES / name) as document:
        page = document[number - 1]
        pixels = page.get_pixmap(dpi=DRY_DPI)
        return Image.frombytes("RGB", (pixels.width, pixels.height), pixels.samples), page.get_text()


if __name__ == "__main__":
    main()
