"""docsearch beside others on the same pages and questions, in one run: how good, how large, how fast.

    python build.py bench-data --masked                               # the development documents: see its README
    pip install -r benchmarks/requirements-peers.txt
    python -m venv fp && fp/bin/pip install fast-plaid==1.7.0.2110    # these two need a torch of their own
    python -m venv pl && pl/bin/pip install pylate==1.6.0
    python benchmarks/peers.py bench-data --set masked --keep kept --fast-plaid fp/bin/python --pylate pl/bin/python

Writes PEERS.md beside this file. Pages are read and encoded once, by the package, into the folder --keep. Everyone is
then given the same: their words, or the same token vectors (half floats) and dense vectors, and the same encoded
questions. Each peer is used as its own documentation says, in a process of its own with one thread. Peers that are
missing are left out, and said to be. ``--only`` runs some of them again and takes the others from --keep, also what
those of ``--without-hub`` said; ``--limit`` asks fewer questions.

- nDCG@10, R@1, R@5: 200 pages asked of everyone, then scored as the documents' README says; intervals: 95 %, bootstrap
  over questions, 2,000 resamples, seed 7. A peer that returns fewer pages is scored on these.
- bytes/page: what it writes, or holds in memory where it writes nothing. Ours holds the words with their places, BM25
  and the places of token vectors too; the token vectors' share is named below the table.
- build: CPU seconds from words or vectors in memory to an index that answers; encoding is not part of it.
- query: CPU milliseconds for the best ten pages, median of 200 questions (of 30 where every page is scored in float32);
  without the encoder, which is the same for all rows of one model and named below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peer_ways import Run, encode, work

HERE = Path(__file__).parent
OURS = ("docsearch",)
HERE_TOO = ("bm25s", "tantivy", "faiss", "sentence-transformers", "minilm", "minilm-tokens")
ELSEWHERE = ("pylate", "fast-plaid")
ORDER = (*OURS, *HERE_TOO, *ELSEWHERE)

# What a peer's first example says where there is no model hub; asked of the Pythons given with --without-hub.
FIRST_STEPS = {
    "byaldi": "from byaldi import RAGMultiModalModel as M; M.from_pretrained('vidore/colqwen2-v1.0', device='cpu')",
    "colpali-engine": "from colpali_engine.models import ColQwen2 as M; M.from_pretrained('vidore/colqwen2-v1.0')",
    "ragrag": "import sys; from ragrag.cli import main; sys.argv[1:1] = ['--new', 'who signs?']; sys.exit(main())",
}


def main() -> None:
    """Encode, run every peer in a process of its own, print and write the table; or be one of these processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="the folder made by build.py")
    parser.add_argument("--set", choices=["masked", "full", "raster"], default="masked")
    parser.add_argument("--limit", type=int, help="ask this many questions only")
    parser.add_argument("--keep", type=Path, help="where pages, vectors and results are kept")
    parser.add_argument("--fast-plaid", metavar="PYTHON", help="a Python that has fast-plaid")
    parser.add_argument("--pylate", metavar="PYTHON", help="a Python that has pylate")
    parser.add_argument("--without-hub", nargs="+", metavar="PEER=PYTHON", default=[], help=", ".join(FIRST_STEPS))
    parser.add_argument("--only", nargs="+", choices=ORDER, help="run these, take the others from --keep")
    parser.add_argument("--out", type=Path, default=HERE / "PEERS.md")
    parser.add_argument("--worker", choices=["encode", *ORDER], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keep = (arguments.keep or Path(folder)).absolute() / f"peers-{arguments.set}"
        keep.mkdir(parents=True, exist_ok=True)
        if arguments.worker == "encode":
            encode(arguments.bench / arguments.set, arguments.bench / "queries.jsonl", keep)
        elif arguments.worker:
            work(arguments.worker, keep, arguments.limit)
        else:
            report(arguments, keep)


def report(arguments: argparse.Namespace, keep: Path) -> None:
    """Run what is to be run, and write the table."""
    if not (keep / "pages.json").exists():
        in_process(sys.executable, "encode", arguments, keep, threads=None)
    pythons = {"pylate": arguments.pylate, "fast-plaid": arguments.fast_plaid}
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for name in ORDER:
        result = keep / f"{name}.json"
        python = pythons.get(name, sys.executable)
        if python and (arguments.only is None or name in arguments.only):
            result.unlink(missing_ok=True)
            problem = in_process(python, name, arguments, keep, threads=1)
            if problem:
                missing[name] = problem
        elif python is None and not result.exists():
            missing[name] = "it needs an environment of its own, and none was named"
        elif not result.exists():
            missing[name] = "it was not asked for, and there is no result of an earlier run"
        if result.exists():
            found[name] = json.loads(result.read_text())
    lines = page(arguments, keep, found, missing)
    text = "\n".join(lines) + "\n"
    arguments.out.write_text(text, "utf-8")
    print(text)


def in_process(python: str, name: str, arguments: argparse.Namespace, keep: Path, *, threads: int | None) -> str:
    """Run a worker; returns what went wrong, in one line, or nothing."""
    command = [python, __file__, arguments.bench, "--set", arguments.set, "--keep", keep.parent, "--worker", name]
    command += ["--limit", str(arguments.limit)] if arguments.limit else []
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS")
    own = {} if threads is None else dict.fromkeys(limits, str(threads))
    env = os.environ | own | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if python != sys.executable:
        env.pop("PYTHONPATH", None)
    started = time.perf_counter()
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False)
    print(f"# {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr, flush=True)
        return last_line(done.stderr)
    return ""


def last_line(text: str) -> str:
    """The last line that names an error, else the last that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"]
    line = ([line for line in lines if re.search(r"(Error|Exception)\b", line)] or lines)[-1]
    return re.sub(r"'?https?://[^\s']+'?", "the hub", line)[:300]


# -- the page ------------------------------------------------------------------------------------------------------


def page(
    arguments: argparse.Namespace, keep: Path, found: dict[str, dict[str, Any]], missing: dict[str, str]
) -> list[str]:
    """PEERS.md, line by line."""
    from bench_data import BenchData
    from report import facts, table

    data = BenchData(arguments.bench, arguments.set)
    told = json.loads((keep / "pages.json").read_text())
    asked = min(result["asked"] for result in found.values())
    known = {query_id for query_id, _ in json.loads((keep / "queries.json").read_text())[:asked]}
    queries = [query for query in data.queries if query["_id"] in known]
    groups = {kind: [q for q in queries if (q["type"] == "xling") == (kind == "xling")] for kind in ("mono", "xling")}
    head = ["way", *(f"{m} {kind}" for kind in groups for m in ("nDCG@10 (95 %)", "R@1", "R@5")), "bytes/page",
            "build, CPU s", "query, CPU ms"]  # fmt: skip
    rows, notes = [], []
    for row in (row for result in found.values() for row in result["rows"]):
        scores = [text for members in groups.values() for text in scored(data, row["run"], members)]
        rows.append([row["way"], *scores, f"{row['bytes']:,.0f}", f"{row['build']:.1f}", f"{row['ms']:.2f}"])
        notes.append(f"- {row['way']}: {row['settings']}.")
    used = sorted({f"{name} {number}" for result in found.values() for name, number in result["versions"].items()})
    title = f"`python benchmarks/peers.py bench-data --set {arguments.set}`"
    counts = ", ".join(f"{len(members)} {kind}" for kind, members in groups.items())
    about = (
        f"Written by {title}, whose first lines say what is measured and how. {len(told['pages']):,} pages; questions: "
        f"{counts} (mono: asked in the language of the page; xling: in another one)."
    )
    encoder = (
        f"The encoder `words` takes {told['page_s']:.2f} CPU s a page and {told['query_ms']:.1f} CPU ms a question; "
        "every row of its vectors needs that too."
    )
    if arguments.only:
        about += f" With `--only`: {', '.join(arguments.only)} ran now, the other rows before this and were kept."
    lines = ["# docsearch beside its peers", "", about, "", *facts(), f"- Installed: {', '.join(used)}.", ""]
    lines += [table(head, rows), "", encoder, "", "Settings:", "", *notes, ""]
    return lines + left_out(arguments.without_hub, missing, keep / "without-hub.json")


def scored(data: Any, run: Run, members: Sequence[dict[str, Any]]) -> list[str]:
    """nDCG@10 with its interval, R@1 and R@5 of some questions."""
    from bench_data import bootstrap, per_query

    if not members:
        return ["", "", ""]
    qrels = {query["_id"]: data.qrels[query["_id"]] for query in members}
    values = np.array(list(per_query(qrels, {q["_id"]: data.kept(q, run[q["_id"]]) for q in members}).values()))
    low, high = bootstrap(values[:, 0])
    ndcg, first, five = values.mean(axis=0)
    return [f"{ndcg:.3f} ({low:.3f}-{high:.3f})", f"{first:.3f}", f"{five:.3f}"]


def left_out(without_hub: Sequence[str], missing: dict[str, str], kept: Path) -> list[str]:
    """What could not be run, and the last thing each of them said, now or when it was asked before."""
    told: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
    for given in without_hub:
        name, _, python = given.partition("=")
        command = [str(Path(python).absolute()), "-c", FIRST_STEPS[name], str(HERE.parent / "sample_docs")]
        with tempfile.TemporaryDirectory() as folder:  # some make an index where they are
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=folder)
                told[name] = "it works" if not done.returncode else last_line(done.stderr + done.stdout)
            except subprocess.TimeoutExpired:
                told[name] = "nothing within ten minutes"
    kept.write_text(json.dumps(told))
    now = {given.partition("=")[0] for given in without_hub}
    lines = [f"- {name}: {why}" for name, why in missing.items()]
    for name, said in told.items():
        when = "without one" if name in now else "without one, as it was asked before, not in this run"
        lines.append(f"- {name} needs a model from the hub. Its first example, {when}: `{said}`")
    return ["## Left out, and why", "", *lines] if lines else []


if __name__ == "__main__":
    main()
