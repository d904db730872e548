"""A trained `eyes` against OCR and the encoder `words`, on scanned pages: quality, and CPU seconds a page.

    python build.py bench-data --masked --raster      # the development documents: see their README
    python benchmarks/eyes.py bench-data --run RUN --keep KEEP
    python benchmarks/eyes.py sample_docs --run RUN --keep KEEP-SAMPLES

Both indexes are made of the same pages, with one worker and one thread, and asked by MaxSim over every page;
KEEP holds them, and a run that was stopped goes on there (its seconds a page are then those of the pages it did).
Beside the groups that queries bring along, one is of the font in which most of the answer's page is set, and one says
whether the answer is a scan (of the sample documents; `--set raster` has nothing else).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pymupdf
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
    parser.add_argument("bench", type=Path, help="the folder made by build.py, or sample_docs")
    parser.add_argument("--set", choices=["raster", "masked"], default="raster", help="scans, or clean pages with text")
    parser.add_argument("--run", type=Path, required=True, help="of `python -m docsearch.finetune.eyes train`")
    parser.add_argument("--page", default="1456x1008", help="px a page is scaled to, in area")
    parser.add_argument("--keep", type=Path, required=True, help="where the indexes go")
    parser.add_argument("--files", default="", help="names of PDFs with commas; all of them when left out")
    parser.add_argument("--only", choices=["eyes", "words"], help="one of the two")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = [name for name in arguments.files.split(",") if name]
    made = arguments.keep / "bench"
    if (arguments.bench / "corpus.json").exists():
        pages = _from_bench(arguments.bench, arguments.set, made, files)
    else:
        pages = _from_samples(arguments.bench, made)
    height, width = map(int, arguments.page.split("x"))
    encoders: dict[str, Encoder | str] = {
        "words": "words",
        "eyes": EyesEncoder(arguments.run, page=(height, width)),
    }
    for name, encoder in encoders.items():
        if arguments.only in (None, name):
            _judge(name, encoder, pages, made / "judged", arguments.keep / name)


def _judge(name: str, encoder: Encoder | str, pages: Path, judged: Path, folder: Path) -> None:
    with Index.open(folder, encoder=encoder, create=True) as index:
        before = _cpu_seconds()
        report = index.add(pages, IndexOptions(workers=1, ocr="auto" if name == "words" else "off"))
        spent = _cpu_seconds() - before
        names = PageNames(index)
        matched = names.match(read_judged(judged))
        found = evaluate_index(index, matched, SearchOptions(mode="visual", exact=True, k=100), names=names)
    summary = found.result.summary
    speed = f"{spent / report.pages:.2f} CPU s a page over {report.pages} pages" if report.pages else "made before"
    print(f"{name}: {speed}, {index.stats()['token_vectors'] / index.stats()['pages']:.0f} token vectors a page")
    everything = {"queries": summary["data"]["judged_queries"], "metrics": summary["metrics"]}
    rows = {"all": everything} | summary["groups"]
    for group, told in rows.items():
        shown = ((measure, told["metrics"][measure]) for measure in SHOWN)
        values = ", ".join(f"{name} {got['value']:.3f} ({got['low']:.3f}-{got['high']:.3f})" for name, got in shown)
        print(f"  {group:24} {told['queries']:4} queries: {values}")


def _from_bench(bench: Path, which: str, made: Path, files: Sequence[str]) -> Path:
    """Judgements of some of the development documents in `made`; returns the folder of their pages."""
    (made / which).mkdir(parents=True, exist_ok=True)
    for name in ("corpus.json", "queries.jsonl", "qrels.tsv"):
        (made / name).write_bytes((bench / name).read_bytes())
    for path in sorted((bench / which).glob("*.pdf")):
        link = made / which / path.name
        link.unlink(missing_ok=True)
        if not files or path.name in files:
            link.symlink_to(path.resolve())
    dev_set = Path(__file__).with_name("dev_set.py")
    subprocess.run([sys.executable, dev_set, made, "--set", which, "--out", made / "judged"], check=True)
    _tell_more(made / "judged", bench / "full")
    return made / which


def _from_samples(samples: Path, made: Path) -> Path:
    """Judgements of the sample documents, without the queries that are pictures."""
    (made / "judged" / "qrels").mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in (samples / "queries.jsonl").read_text("utf-8").splitlines()]
    queries = [query for query in lines if "image" not in query]
    header, *judgements = (samples / "qrels.tsv").read_text("utf-8").splitlines()
    asked = {query["_id"] for query in queries}
    kept = [header, *(line for line in judgements if line.split("\t")[0] in asked)]
    (made / "judged" / "qrels" / "test.tsv").write_text("".join(f"{line}\n" for line in kept), "utf-8")
    _write(made / "judged", queries)
    _tell_more(made / "judged", samples)
    return samples


def _tell_more(judged: Path, pages: Path) -> None:
    """Write beside each query what its answer's page is set in: groups of the results."""
    answers: dict[str, tuple[int, str]] = {}
    for line in (judged / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]:
        query, page, grade = line.split("\t")
        answers[query] = max(answers.get(query, (0, "")), (int(grade), page), key=lambda answer: answer[0])
    queries = [json.loads(line) for line in (judged / "queries.jsonl").read_text("utf-8").splitlines()]
    queries = [query for query in queries if query["_id"] in answers]
    fonts = {page: _font(pages, page) for _, page in answers.values()}
    often = {font for font, _ in Counter(fonts[answers[query["_id"]][1]] for query in queries).most_common(11)}
    for query in queries:
        font = fonts[answers[query["_id"]][1]]
        query["font"] = font if font in often else "another"
        query["scan"] = "no" if font else "yes"
    _write(judged, queries)


def _font(pages: Path, page: str) -> str:
    """The family of most of a page's letters, as its PDF calls it; nothing for a picture."""
    name, _, number = page.rpartition("#")
    letters: Counter[str] = Counter()
    with pymupdf.open(pages / name) as document:
        for block in document[int(number) - 1].get_text("dict")["blocks"]:
            for span in (span for line in block.get("lines", []) for span in line["spans"]):
                letters[re.split(r"[-\d]", span["font"].rpartition("+")[2] or "-")[0]] += len(span["text"].strip())
    return letters.most_common(1)[0][0] if letters.total() else ""


def _write(judged: Path, queries: Sequence[object]) -> None:
    lines = (json.dumps(query, ensure_ascii=False) for query in queries)
    (judged / "queries.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _cpu_seconds() -> float:
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


if __name__ == "__main__":
    main()
