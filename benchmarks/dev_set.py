"""How good the answers are: the development documents as a BEIR folder, which `docsearch eval` scores.

    python build.py bench-data --masked --raster              # the development documents: see their README
    python benchmarks/dev_set.py bench-data --set masked --out dev-masked
    docsearch index bench-data/masked --index dev-index/.docsearch
    docsearch eval dev-masked --index dev-index/.docsearch

`corpus.jsonl` holds the searchable pages, so that the others are dropped from the rankings; `exclude` of a query names
the translations that nobody judged. The groups `across=no` and `across=yes` are the figures of the README: questions in
the language of the page, and in another one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def main() -> None:
    """Write queries.jsonl, corpus.jsonl and qrels/test.tsv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="the folder made by build.py")
    parser.add_argument("--set", choices=["masked", "full", "raster"], default="masked")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    arguments = parser.parse_args()
    present = {path.name for path in (arguments.bench / arguments.set).glob("*.pdf")}
    corpus = [entry for entry in json.loads((arguments.bench / "corpus.json").read_text()) if entry["file"] in present]
    pages = [
        f"{entry['file']}#{page}"
        for entry in corpus
        for first, last in entry["searchable"]
        for page in range(first, last + 1)
    ]
    known = set(pages)
    header, *lines = (arguments.bench / "qrels.tsv").read_text().splitlines()
    judged = [line for line in lines if line.split("\t")[1] in known]
    asked = {line.split("\t")[0] for line in judged}
    queries = [json.loads(line) for line in (arguments.bench / "queries.jsonl").read_text().splitlines()]
    queries = [query for query in queries if query["_id"] in asked and query["file"] in present]
    kept = {query["_id"] for query in queries}
    (arguments.out / "qrels").mkdir(parents=True, exist_ok=True)
    _write(arguments.out / "corpus.jsonl", ({"_id": page, "page": page} for page in pages))
    _write(
        arguments.out / "queries.jsonl",
        ({**query, "across": "yes" if query["type"] == "xling" else "no"} for query in queries),
    )
    judged = [line for line in judged if line.split("\t")[0] in kept]
    (arguments.out / "qrels" / "test.tsv").write_text("\n".join([header, *judged]) + "\n")
    print(f"{len(queries):,} queries, {len(judged):,} judgements, {len(pages):,} pages in {arguments.out}")


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


if __name__ == "__main__":
    main()
