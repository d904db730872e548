"""How good the answers are: the whole pipeline on documents whose authors say which page answers what.

    python build.py bench-data --masked --raster      # the development documents: see its README
    python benchmarks/search_quality.py bench-data --set masked
    python benchmarks/search_quality.py bench-data --set masked --codecs       # every codec, bytes per page beside it
    python benchmarks/search_quality.py bench-data --set raster                # read by OCR

Every figure comes out of a real index on disk: BM25 is mode `text`, MaxSim mode `visual`, hybrid the default; `dense`
is the order of the prefilter alone; `MaxSim exact` scores every page, the others the default number of candidates.
Scored as the documents' README says: pages that are not searchable and files a query excludes are dropped from the
ranking, then ranks are counted. Intervals: 95 %, bootstrap over queries, 2,000 resamples, seed 7.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import ir_measures
import numpy as np
from ir_measures import R, nDCG

from docsearch import Index, IndexOptions, SearchOptions
from docsearch.encoders import load_encoder
from docsearch.options import DEFAULT_CODEC, CodecName
from docsearch.types import PageVectors, Query, QueryVectors, RenderedPage

DEPTH = 200  # pages asked for, so that enough are left after dropping
MEASURES = (nDCG @ 10, R @ 1, R @ 5)
Ranking = dict[str, float]


def main() -> None:
    """Build the index, answer every question in every way, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="the folder made by build.py")
    parser.add_argument("--set", choices=["masked", "full", "raster"], default="masked")
    parser.add_argument("--codecs", action="store_true", help="compare the codecs instead of the modes")
    arguments = parser.parse_args()
    data = BenchData(arguments.bench, arguments.set)
    encoder = CachingEncoder()
    for codec in get_args(CodecName) if arguments.codecs else [DEFAULT_CODEC]:
        with (
            tempfile.TemporaryDirectory() as folder,
            Index.open(Path(folder) / "index", encoder=encoder, create=True, codec=codec) as index,
        ):
            report = index.add(data.folder, IndexOptions())
            stats = index.stats()
            print(f"# {arguments.set}, {codec}: {report.pages} pages ({report.ocr_pages} by OCR) indexed in "
                  f"{report.seconds:.0f} s; {stats['bytes_per_page']} bytes/page on disk, "
                  f"{stats['token_bytes_per_page']} of them token vectors")  # fmt: skip
            answers = Answers(index, data)
            print_tables(data, answers.all_ways(codecs_only=arguments.codecs))


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


class CachingEncoder:
    """The default encoder, asked once per page, so that several indexes are built from one pass."""

    def __init__(self) -> None:
        self._encoder = load_encoder("words")
        self._pages: dict[int, PageVectors] = {}
        self.name, self.fingerprint = self._encoder.name, self._encoder.fingerprint
        self.token_dim, self.dense_dim = self._encoder.token_dim, self._encoder.dense_dim
        self.modalities, self.reads = self._encoder.modalities, self._encoder.reads
        self.settings = self._encoder.settings

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """As the encoder does."""
        new = [page for page in pages if page.ref.page_id not in self._pages]
        for page, vectors in zip(new, self._encoder.encode_pages(new), strict=True):
            self._pages[page.ref.page_id] = vectors
        return [self._pages[page.ref.page_id] for page in pages]

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """As the encoder does."""
        return self._encoder.encode_queries(queries)


class Answers:
    """Rankings of an index for every question."""

    def __init__(self, index: Index, data: BenchData) -> None:
        self._reader = index._read()  # noqa: SLF001 - scored pages without snippets, which would take most of the time
        self._data = data
        catalog = self._reader.snapshot.catalog
        self._names: dict[int, str] = {}
        for path, doc_id in catalog.files().items():
            for number, page_id in catalog.page_numbers(doc_id).items():
                self._names[page_id] = f"{Path(path).name}#{number}"
        self._vectors = index.encoder.encode_queries([Query(query["text"]) for query in data.queries])

    def all_ways(self, *, codecs_only: bool) -> dict[str, dict[str, Ranking]]:
        """Name of the way → query → ranking."""
        ways: dict[str, Callable[[QueryVectors, str], Ranking]] = {
            "BM25": lambda _, text: self._search(None, text, mode="text"),
            "dense": lambda vectors, _: self._dense(vectors),
            "MaxSim": lambda vectors, text: self._search(vectors, text, mode="visual"),
            "MaxSim exact": lambda vectors, text: self._search(vectors, text, mode="visual", exact=True),
            "hybrid": lambda vectors, text: self._search(vectors, text, mode="hybrid"),
        }
        if codecs_only:
            ways = {name: ways[name] for name in ("MaxSim", "hybrid")}
        rankings: dict[str, dict[str, Ranking]] = {}
        for name, way in ways.items():
            started = time.perf_counter()
            rankings[name] = {
                query["_id"]: self._data.kept(query, way(vectors, query["text"]))
                for query, vectors in zip(self._data.queries, self._vectors, strict=True)
            }
            took = time.perf_counter() - started
            print(f"#   {name}: {1000 * took / len(self._vectors):.1f} ms/query without encoding")
        return rankings

    def _search(self, vectors: QueryVectors | None, text: str, **options: Any) -> Ranking:
        found = self._reader.searcher.search(vectors, text, SearchOptions(k=DEPTH, **options))
        return {self._names[page.page_id]: page.score for page in found}

    def _dense(self, vectors: QueryVectors) -> Ranking:
        rows = self._reader.prefilter.candidates(vectors, DEPTH)
        return {self._names[int(self._reader.snapshot.page_ids[row])]: -float(at) for at, row in enumerate(rows)}


def print_tables(data: BenchData, rankings: dict[str, dict[str, Ranking]]) -> None:
    """One row a way and group: nDCG@10 with its interval, R@1, R@5."""
    groups: dict[str, list[str]] = {"all but xling": [], "xling": []}
    for query in data.queries:
        names = ["xling"] if query["type"] == "xling" else ["all but xling", query["type"], query["language"]]
        if query["type"] == "xling":
            names.append(query["language"])
        if query["type"] == "index" and not query["verbatim"]:
            names.append("index, not verbatim")
        for name in names:
            groups.setdefault(name, []).append(query["_id"])
    qrels = {query: data.qrels[query] for query in rankings[next(iter(rankings))]}
    values = {way: per_query(qrels, run) for way, run in rankings.items()}
    print(f"{'group':20} {'queries':>7}  {'way':14} nDCG@10 (95 %)         R@1    R@5")
    for group, members in groups.items():
        for way in rankings:
            if members:
                scores = np.array([values[way][query] for query in members])  # (queries, measures)
                low, high = bootstrap(scores[:, 0])
                means = scores.mean(axis=0)
                print(f"{group:20} {len(members):7}  {way:14} {means[0]:.3f} ({low:.3f}-{high:.3f})   "
                      f"{means[1]:.3f}  {means[2]:.3f}")  # fmt: skip


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


if __name__ == "__main__":
    main()
