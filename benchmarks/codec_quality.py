"""Which codec is the smallest that still answers like float16?

    python build.py bench-data --masked                         # the development documents: see its README
    python benchmarks/codec_quality.py bench-data --keep vectors       # 4 minutes of encoding once, then about 30
    python benchmarks/codec_quality.py --quick                         # the sample documents: a minute

Every page is scored against every question (exact MaxSim, no prefilter) with the token vectors as each codec gives them
back, and the query as the kernels take it. nDCG@10 is judged by the documents' own authors; recall asks how many of
float16's ten best pages are still among the ten best. Beside our codecs stands PLAID's, in 2 and 4 bits: the bar.
The default should be the smallest with a difference of at most 0.005 of nDCG@10 in both groups of questions.

A second table has the shape of the flagship, 700 token vectors a page; its vectors are synthetic and rank designs only.

Intervals: 95 %, paired bootstrap over questions, 2,000 resamples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_data import BenchData, bootstrap, per_query
from made_up import made_up
from numpy.typing import NDArray
from plaid import Plaid
from report import HERE, Bar, Section, at_least, plot_points, table

from docsearch import Index, IndexOptions
from docsearch.kernels.query import query_levels
from docsearch.options import DEFAULT_CODEC
from docsearch.protocols import Codec
from docsearch.store.codec import block_bytes, get_codec
from docsearch.store.pooling import pool
from docsearch.types import PackedVectors, Query

CODECS = ("float16", "int8", "r4", "r3", "r2", "binary")
POOLED = (("r4", 2), ("r3", 2), ("r4", 3), ("r3", 3))  # codec, factor
DRAWN = ("r4", "r3")  # tried with other rotations too
CLOSE = 0.005  # of nDCG@10
QUERY_ROWS = 1024  # query rows multiplied at once: the products of a page stay in a core's cache
SAMPLE_DOCS = HERE.parent / "sample_docs"
Rows = Callable[[int], NDArray[np.float32]]  # page → (T, D) token vectors as stored
Judge = Callable[[NDArray[np.float32]], NDArray[np.float64]]  # (queries, pages) scores → nDCG@10 of each query


@dataclass(frozen=True)
class Corpus:
    """Pages, questions, and who answers what."""

    name: str
    tokens: NDArray[np.float16]  # (V, D) unit rows, page after page
    offsets: NDArray[np.int64]  # (P + 1,)
    queries: list[NDArray[np.float32]]  # (Tq, D) unit rows each
    judge: Judge
    groups: dict[str, NDArray[np.bool_]]  # which questions are reported together

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def page(self, page: int) -> NDArray[np.float32]:
        """(T, D) token vectors as they came."""
        return self.tokens[self.offsets[page] : self.offsets[page + 1]].astype(np.float32)


@dataclass(frozen=True)
class Way:
    """One way to store a page: what comes back, how large it is, and how fast it is made."""

    name: str
    rows: Rows
    query: Callable[[NDArray[np.float32]], NDArray[np.float32]]  # the query's rows as they are multiplied
    page_bytes: float
    pages_per_second: float


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, nargs="?", help="the folder made by build.py; none: the sample documents")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the encoded pages for the next time")
    parser.add_argument("--quick", action="store_true", help="the sample documents and a small synthetic set")
    arguments = parser.parse_args()
    print(run(quick=arguments.quick, bench=arguments.bench, keep=arguments.keep).markdown())


def run(*, quick: bool, bench: Path | None = None, keep: Path | None = None) -> Section:
    """Measure every codec on real pages and on the flagship's shape."""
    command = "python benchmarks/codec_quality.py " + (
        "--quick" if quick or bench is None else "bench-data --keep vectors"
    )
    section = Section("Codecs", command)
    real = development_documents(bench, keep) if bench and not quick else sample_documents()
    shown = measure(section, real, rotations=1 if quick else 3)
    section.plots.append(plot_sizes("codecs", real, shown))
    judge_default(section, real, shown)
    flagship = synthetic(n_pages=60 if quick else 1000, n_queries=20 if quick else 200)
    section.plots.append(plot_sizes("codecs-flagship", flagship, measure(section, flagship)))
    section.add("Encoded alone, from float32 token vectors, 700 of them a page, in one thread; pooling is part of it.")
    for name, goal in (("int8", 1000), (DEFAULT_CODEC, 500)):
        rate = encode_rate(get_codec(name).encode, flagship.tokens.shape[1])
        section.bars.append(at_least(f"{name}: pages encoded a CPU second, 700 token vectors", goal, rate, "pages"))
    return section


def measure(section: Section, corpus: Corpus, *, rotations: int = 1) -> dict[str, dict[str, Any]]:
    """Add the table of one corpus; returns its figures by name of the way."""
    truth, shown, rows = None, {}, []
    for way in ways(corpus, rotations):
        scores = score_all(corpus, way)
        values, best = corpus.judge(scores), best_pages(scores)
        if truth is None:
            truth, true_best = values, best
        figures = {
            "bytes": way.page_bytes,
            "recall": np.mean(
                [len(set(ours) & set(theirs)) / 10 for ours, theirs in zip(best, true_best, strict=True)]
            ),
            "groups": {
                group: (values[members].mean(), (values - truth)[members].mean(), *bootstrap((values - truth)[members]))
                for group, members in corpus.groups.items()
            },
        }
        shown[way.name] = figures
        rows.append([
            way.name, f"{way.page_bytes / 1024:.1f}", f"{shown['float16']['bytes'] / way.page_bytes:.1f}",
            *("{:.4f} ({:+.4f}; {:+.4f} to {:+.4f})".format(*it) for it in figures["groups"].values()),
            f"{figures['recall']:.3f}", f"{way.pages_per_second:.0f}".replace("nan", ""),
        ])  # fmt: skip
    heads = [
        f"nDCG@10, {group}: {members.sum()} (difference; its interval)" for group, members in corpus.groups.items()
    ]
    section.add(f"{corpus.name}: {len(corpus)} pages of {len(corpus.tokens) / len(corpus):.0f} token vectors.")
    section.add(table(["codec", "KiB/page", "x smaller", *heads, "recall of the exact top 10", "pages/CPU s"], rows))
    return shown


def judge_default(section: Section, corpus: Corpus, shown: dict[str, dict[str, Any]]) -> None:
    """Say which codec is the smallest that is close enough, and hold the default against it and against PLAID."""
    far = {name: worst(shown, name) for name in CODECS}
    close = [name for name in CODECS if far[name] <= CLOSE]
    smallest = min(close, key=lambda name: shown[name]["bytes"])
    section.add(
        f"The smallest codec within {CLOSE} in every group is {smallest}. A rotation is a draw: where several were "
        "tried their mean counts, since the next corpus draws anew; the first is the one docsearch has."
    )
    shipped = max(abs(delta[1]) for delta in shown[DEFAULT_CODEC]["groups"].values())
    for which, value in (("as it is", shipped), ("mean over the rotations", far[DEFAULT_CODEC])):
        section.bars.append(Bar(
            name=f"default ({DEFAULT_CODEC}): nDCG@10 against float16 in every group, {which}",
            goal=f"within {CLOSE}", measured=f"{value:.4f} at most", met=value <= CLOSE,
        ))  # fmt: skip
    for name, bits in (("r4", 4), ("r2", 2)) if len(corpus) >= 1000 else ():  # PLAID knows a small corpus by heart
        ours, theirs = shown[name], shown[f"PLAID {bits}-bit"]
        section.bars.append(Bar(
            name=f"{name} against PLAID {bits}-bit: recall of the exact top 10", goal=f">= {theirs['recall']:.3f}",
            measured=f"{ours['recall']:.3f} in {ours['bytes'] / theirs['bytes']:.2f} of its bytes",
            met=bool(ours["recall"] >= theirs["recall"]),
        ))  # fmt: skip


def worst(shown: dict[str, dict[str, Any]], name: str) -> float:
    """The largest difference of any group, each the mean over the rotations tried."""
    draws = [figures["groups"] for way, figures in shown.items() if way.split(",")[0] == name]
    return max(abs(float(np.mean([draw[group][1] for draw in draws]))) for group in draws[0])


def plot_sizes(name: str, corpus: Corpus, shown: dict[str, dict[str, Any]]) -> str:
    """Size against recall."""
    points = {way: (it["bytes"] / 1024, it["recall"]) for way, it in shown.items() if "rotation" not in way}
    return plot_points(name, points, x="KiB a page", y="recall of the exact top 10", title=corpus.name, log_x=True)


# -- ways to store a page ------------------------------------------------------------------------------------------


def ways(corpus: Corpus, rotations: int) -> Iterable[Way]:
    """All that are compared, float16 first."""
    tokens, dim = len(corpus.tokens) / len(corpus), corpus.tokens.shape[1]
    for name in CODECS:
        codec = get_codec(name)
        rate = encode_rate(codec.encode, dim)
        page_bytes = block_bytes(codec, 1, dim) * tokens
        yield Way(
            name, lambda page, codec=codec: stored(codec, corpus.page(page)), partial(rounded, codec), page_bytes, rate
        )
    for rotation in range(2, rotations + 1):
        turn = np.linalg.qr(np.random.default_rng(rotation).standard_normal((dim, dim)))[0].astype(np.float32)
        for name in DRAWN:
            yield turned_way(get_codec(name), f"{name}, rotation {rotation}", corpus, turn)
    pooled = {factor: [pool_page(corpus.page(page), factor) for page in range(len(corpus))] for _, factor in POOLED}
    for name, factor in POOLED:
        codec, pages = get_codec(name), pooled[factor]
        rate = encode_rate(lambda rows, codec=codec, factor=factor: codec.encode(pool_page(rows, factor)), dim)
        page_bytes = block_bytes(codec, 1, dim) * sum(map(len, pages)) / len(corpus)
        way = f"pool x{factor} + {name}"
        yield Way(
            way,
            lambda page, codec=codec, pages=pages: stored(codec, pages[page]),
            partial(rounded, codec),
            page_bytes,
            rate,
        )
    plaid = Plaid(corpus.tokens)
    near = [plaid.nearest(corpus.page(page)) for page in range(len(corpus))]

    def plaid_rows(page: int) -> NDArray[np.float32]:
        return plaid.decode(near[page], plaid.buckets(corpus.page(page), near[page]))

    for bits in (2, 4):
        plaid.train_buckets(bits)
        rate = encode_rate(plaid.encode, dim)
        yield Way(f"PLAID {bits}-bit", plaid_rows, lambda rows: rows, plaid.token_bytes * tokens, rate)


def turned_way(codec: Codec, name: str, corpus: Corpus, turn: NDArray[np.float32]) -> Way:
    """A rotated codec with another rotation: everything is turned (D, D) once more before, and back after."""
    page_bytes = block_bytes(codec, 1, len(turn)) * len(corpus.tokens) / len(corpus)

    def rows(page: int) -> NDArray[np.float32]:
        return stored(codec, corpus.page(page) @ turn) @ turn.T

    return Way(name, rows, lambda query: rounded(codec, query @ turn) @ turn.T, page_bytes, float("nan"))


def stored(codec: Codec, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, D) rows as they come back, which kernels multiply without making floats of them."""
    block, scale = codec.encode(tokens)
    one = np.zeros(1, np.int64)
    packed = PackedVectors((block,), one, one, one + len(tokens), np.float32([scale]), codec, tokens.shape[1])
    return packed.decode(0)


def rounded(codec: Codec, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The query's rows as the kernels round them, in the encoder's coordinates."""
    if codec.bits == 16:
        return rows
    levels, scales = query_levels(codec.turn(rows))
    return codec.turn_back(levels * scales[:, None], rows.shape[1])


def pool_page(tokens: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Pooled rows alone."""
    return pool(tokens, np.zeros((len(tokens), 4), np.uint16), factor)[0]


def encode_rate(encode_page: Callable[[NDArray[np.float32]], Any], dim: int, *, seconds: float = 0.5) -> float:
    """Pages of 700 token vectors a CPU second; the process's CPU time counts, so threads gain nothing."""
    pages = typical_pages(dim)
    encode_page(pages[0])
    done, started = 0, time.process_time()
    while (spent := time.process_time() - started) < seconds:
        encode_page(pages[done % 8])
        done += 1
    return done / spent


@cache
def typical_pages(dim: int) -> NDArray[np.float32]:
    """Eight pages to encode."""
    return made_up(n_pages=8, n_queries=1, dim=dim).pages.astype(np.float32)


# -- scores --------------------------------------------------------------------------------------------------------


def score_all(corpus: Corpus, way: Way) -> NDArray[np.float32]:
    """(queries, pages) MaxSim of everything with everything; equal query rows are multiplied once."""
    every = np.concatenate(corpus.queries)
    unique, place = np.unique(every, axis=0, return_inverse=True)
    place = place.reshape(-1)
    rows, firsts = way.query(unique), np.cumsum([0, *map(len, corpus.queries[:-1])])
    scores = np.empty((len(corpus.queries), len(corpus)), np.float32)
    best = np.empty(len(rows), np.float32)
    for page in range(len(corpus)):
        stored_rows = way.rows(page)
        if not len(stored_rows):
            scores[:, page] = [-len(query) for query in corpus.queries]
            continue
        for start in range(0, len(rows), QUERY_ROWS):
            part = slice(start, start + QUERY_ROWS)
            best[part] = (stored_rows @ rows[part].T).max(axis=0)
        scores[:, page] = np.add.reduceat(best[place], firsts)
    return scores


def best_pages(scores: NDArray[np.float32], n: int = 10) -> NDArray[np.int64]:
    """(queries, n) the best pages of each query, equal scores in the order of the pages."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :n]


# -- corpora -------------------------------------------------------------------------------------------------------


def development_documents(bench: Path, keep: Path | None) -> Corpus:
    """The masked development documents in the default encoder's vectors, encoded once into a float16 index."""
    data = BenchData(bench, "masked")
    with tempfile.TemporaryDirectory() as folder:
        tokens, offsets, names, queries = encoded(
            keep or Path(folder), data.folder, [query["text"] for query in data.queries]
        )
    qrels = {query["_id"]: data.qrels[query["_id"]] for query in data.queries}

    def judge(scores: NDArray[np.float32]) -> NDArray[np.float64]:
        run = {
            query["_id"]: data.kept(query, {names[page]: float(row[page]) for page in pages})
            for query, row, pages in zip(data.queries, scores, best_pages(scores, 200), strict=True)
        }
        return ndcg(qrels, run)

    cross = np.array([query["type"] == "xling" for query in data.queries])
    groups = {"all but xling": ~cross, "xling": cross}
    return Corpus("Development documents, default encoder", tokens, offsets, queries, judge, groups)


def sample_documents() -> Corpus:
    """The sample documents that come with the repository."""
    asked = [json.loads(line) for line in (SAMPLE_DOCS / "queries.jsonl").read_text().splitlines()]
    asked = [query for query in asked if query.get("text")]
    qrels: dict[str, dict[str, int]] = {query["_id"]: {} for query in asked}
    for line in (SAMPLE_DOCS / "qrels.tsv").read_text().splitlines()[1:]:
        query, page, relevance = line.split("\t")
        if query in qrels:
            qrels[query][page] = int(relevance)
    with tempfile.TemporaryDirectory() as folder:
        tokens, offsets, names, queries = encoded(Path(folder), SAMPLE_DOCS, [query["text"] for query in asked])

    def judge(scores: NDArray[np.float32]) -> NDArray[np.float64]:
        pages = [{name: float(score) for name, score in zip(names, row, strict=True)} for row in scores]
        return ndcg(qrels, dict(zip(qrels, pages, strict=True)))

    return Corpus(
        "Sample documents, default encoder", tokens, offsets, queries, judge, {"all": np.ones(len(asked), bool)}
    )


def encoded(
    folder: Path, documents: Path, texts: Sequence[str]
) -> tuple[NDArray[np.float16], NDArray[np.int64], list[str], list[NDArray[np.float32]]]:
    """Token vectors, offsets and names of all pages, and the queries' token vectors; indexes what is not yet there."""
    with Index.open(folder / "index", create=True, codec="float16") as index:
        index.add(documents, IndexOptions(exclude=["queries"]))
        snapshot = index._read().snapshot  # noqa: SLF001 - the stored vectors themselves
        names = {
            page_id: f"{Path(path).name}#{number}"
            for path, doc_id in snapshot.catalog.files().items()
            for number, page_id in snapshot.catalog.page_numbers(doc_id).items()
        }
        rows = snapshot.live_rows
        packed = snapshot.gather(rows)
        tokens = np.concatenate([packed.decode(page).astype(np.float16) for page in range(len(packed))])
        queries = [vectors.tokens for vectors in index.encoder.encode_queries([Query(text) for text in texts])]
        offsets = np.cumsum([0, *packed.lengths])
        return tokens, offsets, [names[int(snapshot.page_ids[row])] for row in rows], queries


def ndcg(qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]) -> NDArray[np.float64]:
    """nDCG@10 of each query."""
    values = per_query(qrels, run)
    return np.array([values[query][0] for query in qrels])


def synthetic(*, n_pages: int, n_queries: int) -> Corpus:
    """Pages in the flagship's shape."""
    made = made_up(n_pages=n_pages, n_queries=n_queries)
    n_tokens, dim = made.pages.shape[1:]

    def judge(scores: NDArray[np.float32]) -> NDArray[np.float64]:
        ranks = (scores > np.take_along_axis(scores, made.answers[:, None], axis=1)).sum(axis=1)
        return np.where(ranks < 10, 1 / np.log2(ranks + 2.0), 0)

    return Corpus(
        f"Synthetic vectors in the flagship's shape (D = {dim})",
        made.pages.reshape(-1, dim),
        np.arange(n_pages + 1) * n_tokens,
        list(made.queries),
        judge,
        {"all": np.ones(n_queries, bool)},
    )


if __name__ == "__main__":
    main()
