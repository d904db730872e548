"""The development documents as benchmarks read them: questions, judgements, which pages count, and how they are scored.

Scored as the documents' README says: pages that are not searchable and files a query excludes are dropped from the
ranking, then ranks are counted. Intervals: 95 %, bootstrap over queries, 2,000 resamples, seed 7. `dev_set.py` hands
the same to `docsearch eval`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from ir_measures import R, nDCG

MEASURES = (nDCG @ 10, R @ 1, R @ 5)
Ranking = dict[str, float]


class BenchData:
    """Queries, judgements, and which pages count."""

    def __init__(self, root: Path, name: str) -> None:
        self.folder = root / name
        corpus = {entry["file"]: entry for entry in json.loads((root / "corpus.json").read_text())}
        present = {path.name for path in self.folder.glob("*.pdf")}
        self.searchable = {
            f"{file}#{page}"
            for file, entry in corpus.items()
            if file in present
            for first, last in entry["searchable"]
            for page in range(first, last + 1)
        }
        lines = [json.loads(line) for line in (root / "queries.jsonl").read_text().splitlines()]
        self.qrels: dict[str, dict[str, int]] = defaultdict(dict)
        for line in (root / "qrels.tsv").read_text().splitlines()[1:]:
            query, page, relevance = line.split("\t")
            if page in self.searchable:
                self.qrels[query][page] = int(relevance)
        self.queries = [query for query in lines if self.qrels.get(query["_id"]) and query["file"] in present]

    def kept(self, query: dict[str, Any], ranking: Ranking) -> Ranking:
        """The part of a ranking that counts."""
        return {
            page: score
            for page, score in ranking.items()
            if page in self.searchable and page.partition("#")[0] not in query["exclude"]
        }


def per_query(qrels: dict[str, dict[str, int]], run: dict[str, Ranking]) -> dict[str, list[float]]:
    """Query → value of each measure; a query without an answer counts 0."""
    values = {query: [0.0] * len(MEASURES) for query in qrels}
    for metric in ir_measures.iter_calc(MEASURES, qrels, run):
        values[metric.query_id][MEASURES.index(metric.measure)] = metric.value
    return values


def bootstrap(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The 95 % interval of the mean."""
    draws = np.random.default_rng(7).integers(0, len(values), (2000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
