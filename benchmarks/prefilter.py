"""Which pages are worth scoring: what each way of choosing misses, and what FAISS takes at which size.

    python build.py bench-data --masked                            # the development documents: see its README
    python benchmarks/prefilter.py bench-data --keep kept          # indexes once, 4 minutes; then half an hour
    python benchmarks/prefilter.py --quick                         # the sample documents, small sizes: a minute

The curve asks how many of the exact ten best pages (MaxSim of every page) are among the first n candidates, and the
default number of candidates follows from it. The tables put indexes of made-up dense vectors, clustered as pages are
around subjects, through the prefilter itself: with its selection, and the exact scoring of the best where it does that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from bench_data import BenchData
from numpy.typing import NDArray
from report import HERE, Section, at_least, in_turns, plot_lines, table

from docsearch import Index, IndexOptions
from docsearch.kernels import maxsim
from docsearch.options import N_CANDIDATES
from docsearch.retriever import dense_index
from docsearch.retriever.prefilter import DensePrefilter
from docsearch.store.terms import query_terms
from docsearch.types import Query, QueryVectors

COUNTS = (25, 50, 100, 150, 200, 300, 400, 800)
WIDE = (1000, 2000, 4000)  # dense candidates whose sketches are asked
SHAPES = {256: (10_000, 30_000, 100_000, 1_000_000), 2048: (3_000, 10_000, 100_000)}  # E of `words`, of the flagship
QUICK_SHAPES = {256: (20_000,)}
COPIES = (10, 40)  # of the development documents' dense vectors
LISTS = (200, 1000, 4000, 10_000)
KINDS = {"half floats": {"_FLAT_NUMBERS": 2**62}, "4-bit codes": {"_FLAT_NUMBERS": 0, "_IVF_ROWS": 2**62}}
Ranks = NDArray[np.int64]  # (queries, pages) each page's place in a list of candidates


def main() -> None:
    """Print the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, nargs="?", help="the folder made by build.py")
    parser.add_argument("--keep", type=Path, help="where the index is kept, to be used again")
    parser.add_argument("--quick", action="store_true", help="sample documents and small sizes")
    arguments = parser.parse_args()
    print(run(quick=arguments.quick, bench=arguments.bench, keep=arguments.keep).markdown())


def run(*, quick: bool, bench: Path | None = None, keep: Path | None = None) -> Section:
    """Measure the curve, then FAISS by kind and size."""
    few = quick or bench is None
    section = Section("Prefilter", "python benchmarks/prefilter.py " + ("--quick" if few else "bench-data"))
    with tempfile.TemporaryDirectory() as folder:
        measure_curve(section, None if few else bench, keep or Path(folder))
    for dim, sizes in (QUICK_SHAPES if quick else SHAPES).items():
        rows = [row for size in sizes for row in measure_kinds(size, dim)]
        section.add(
            f"Made-up dense vectors of {dim} dimensions; milliseconds of a query are medians, in one thread. Beyond "
            "its own subject the order of a made-up neighbourhood is noise, which codes keep worse than real nearness:"
        )
        section.add(table(
            ["pages", "index", "made, us/page", "bytes/page", "load, ms", f"ms for {N_CANDIDATES}", "ms for 4,000",
             f"ms for {N_CANDIDATES} of every tenth page", f"recall of the nearest {N_CANDIDATES}",
             "of the nearest 4,000"], rows))  # fmt: skip
    return section


# -- the curve over candidates -------------------------------------------------------------------------------------


def measure_curve(section: Section, bench: Path | None, folder: Path) -> None:
    """How many of the exact ten best are among the first n, for every way to find candidates."""
    if bench:
        data = BenchData(bench, "masked")
        documents, texts, about = data.folder, [query["text"] for query in data.queries], "development documents"
    else:
        documents, about = HERE.parent / "sample_docs", "sample documents"
        texts = [
            "who signed the lease?",
            "total amount due",
            "when does the ferry leave",
            "how bees find their way home",
        ]
    with Index.open(folder / "index", create=True) as index:
        index.add(documents, IndexOptions(exclude=["queries"]))
        reader = index._read()  # noqa: SLF001 - candidates without the rest of a search
        queries = index.encoder.encode_queries([Query(text) for text in texts])
        ways = all_ways(reader, queries, texts)
        best = exact_best(reader, queries)
        n_pages = len(reader.snapshot)
        dense = reader.snapshot.dense(reader.snapshot.live_rows)
    curves = {name: [recall(ranks, best, n) for n in COUNTS] for name, ranks in ways.items()}
    section.add(
        f"Recall of the exact ten best among n candidates; {about}, {n_pages:,} pages, {len(texts):,} questions:"
    )
    section.add(table(["candidates", *map(str, COUNTS)],
                      [[name, *(f"{value:.3f}" for value in values)] for name, values in curves.items()]))  # fmt: skip
    section.plots.append(plot_lines(
        "prefilter", {name: (COUNTS, values) for name, values in curves.items()}, x="candidates",
        y="recall of the exact ten best", title=f"{about}, {n_pages:,} pages", marks={"goal": 0.99},
    ))  # fmt: skip
    if bench:
        measure_growth(section, dense, queries[::4], best[::4])
    reached = curves["sketch"][COUNTS.index(N_CANDIDATES)] if bench else None
    section.bars.append(at_least(f"recall of the exact ten best among {N_CANDIDATES} candidates", 0.99, reached, ""))


def all_ways(reader: Any, queries: list[QueryVectors], texts: list[str]) -> dict[str, Ranks]:
    """Name of the way → each live page's place among the candidates, which it may be missing from."""
    snapshot, rows = reader.snapshot, reader.snapshot.live_rows
    place_of_row = np.full(len(snapshot.live), len(rows))
    place_of_row[rows] = np.arange(len(rows))
    dense = np.stack([query.dense for query in queries]) @ snapshot.dense(rows).astype(np.float32).T
    by_dense = places(dense)
    bm25 = np.full(dense.shape, -1.0)
    for number, text in enumerate(texts):
        page_ids, scores = snapshot.catalog.match_text(query_terms(text), -1)
        bm25[number, place_of_row[snapshot.rows_of(page_ids)]] = scores
    by_words = np.where(bm25 > 0, places(bm25), 2**40)
    sketches = snapshot.gather_sketches(rows)
    by_sketch = np.stack([maxsim(query.tokens, sketches) for query in queries])
    return {
        "dense": by_dense,
        "BM25": by_words,
        "dense and BM25 in turn": places(-np.minimum(2 * by_dense, 2 * by_words + 1)),
        "sketch": places(by_sketch),
        **{
            f"sketch of the nearest {wide:,}": places(np.where(by_dense < wide, by_sketch, -1e9))
            for wide in WIDE
            if wide < len(rows)
        },
    }


def measure_growth(
    section: Section, dense: NDArray[np.float16], queries: list[QueryVectors], best: NDArray[np.int64]
) -> None:
    """How many of the best are still among the nearest when every page has near relations, by kind of index."""
    random, rows = np.random.default_rng(1), []
    for copies in COPIES:
        shifts = random.standard_normal((copies - 1, *dense.shape), np.float32) * np.sqrt(
            (1 / 0.57**2 - 1) / dense.shape[1]
        )
        near = dense.astype(np.float32) + shifts.astype(np.float32)
        near /= np.linalg.norm(near, axis=2, keepdims=True)
        grown = np.concatenate([dense[None], near.astype(np.float16)]).reshape(-1, dense.shape[1])
        for kind, settings in KINDS.items():
            with tempfile.TemporaryDirectory() as folder, patch.multiple(dense_index, **settings):
                reader = DensePrefilter(stand_in(Path(folder), grown))
                found = [[np.isin(of_one, reader.candidates(query, n)).mean() for n in LISTS]
                         for query, of_one in zip(queries, best, strict=True)]  # fmt: skip
            rows.append([f"{len(grown):,}", kind, *(f"{share:.3f}" for share in np.mean(found, axis=0))])
    section.add(
        "The same ten best among the nearest dense vectors when every page has relations with a cosine of 0.57, as "
        "neighbouring pages have (a corpus of one kind: the hardest case):"
    )
    section.add(table(["pages", "index", *(f"nearest {n:,}" for n in LISTS)], rows))


def exact_best(reader: Any, queries: list[QueryVectors]) -> NDArray[np.int64]:
    """(queries, 10) the best of the live pages by MaxSim with everything."""
    packed = reader.snapshot.gather(reader.snapshot.live_rows)
    return np.stack([np.argsort(-maxsim(query.tokens, packed), kind="stable")[:10] for query in queries])


def places(scores: NDArray[Any]) -> Ranks:
    """(queries, pages) the place of each page when they are ordered by score."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks


def recall(ranks: Ranks, best: NDArray[np.int64], n: int) -> float:
    """The share of the best that have one of the first n places."""
    return float((np.take_along_axis(ranks, best, axis=1) < n).mean())


# -- FAISS by kind and size ----------------------------------------------------------------------------------------


def measure_kinds(size: int, dim: int) -> list[list[str]]:
    """A row of the table for every kind of index of so many made-up vectors."""
    dense, asked = made_up_dense(size, dim), made_up_dense(24, dim, seed=5).astype(np.float32)
    queries = [QueryVectors(np.zeros((1, 1), np.float32), query, ("",)) for query in asked]
    truth = [nearest(dense, query, 4000) for query in asked]
    rows = []
    for kind, settings in KINDS.items():
        if kind == "half floats" and dense.nbytes > 2**30:
            continue
        with tempfile.TemporaryDirectory() as folder, patch.multiple(dense_index, **settings):
            rows.append([f"{size:,}", kind, *measure_kind(Path(folder), dense, queries, truth)])
    return rows


def measure_kind(
    folder: Path, dense: NDArray[np.float16], queries: list[QueryVectors], truth: list[NDArray[np.int64]]
) -> list[str]:
    """Make, load and ask one index."""
    snapshot = stand_in(folder, dense)
    started = time.process_time()
    thread = DensePrefilter(snapshot).save(folder, 1)
    if thread is not None:
        thread.join()
    made = 1e6 * (time.process_time() - started) / len(dense)
    (file,) = folder.iterdir()
    reader = DensePrefilter(snapshot)
    loading = milliseconds(lambda: reader.candidates(queries[0], 1))
    every_tenth = np.arange(len(dense)) % 10 == 3
    times = in_turns({
        "few": one_after_another(queries, lambda query: reader.candidates(query, N_CANDIDATES)),
        "wide": one_after_another(queries, lambda query: reader.candidates(query, 4000)),
        "filter": one_after_another(queries, lambda query: reader.candidates(query, N_CANDIDATES, allowed=every_tenth)),
    }, rounds=len(queries), clock=time.thread_time)  # fmt: skip
    found = [
        np.mean([
            len(np.intersect1d(reader.candidates(query, n), best[:n])) / min(n, len(best))
            for query, best in zip(queries, truth, strict=True)
        ])
        for n in (N_CANDIDATES, 4000)
    ]  # fmt: skip
    return [
        f"{made:.1f}", f"{file.stat().st_size / len(dense):.0f}", f"{loading:.0f}",
        *(f"{times[name]:.2f}" for name in ("few", "wide", "filter")), *(f"{share:.3f}" for share in found),
    ]  # fmt: skip


def stand_in(folder: Path, dense: NDArray[np.float16]) -> Any:
    """What the prefilter sees of a snapshot whose dense vectors are in memory."""
    segment = SimpleNamespace(segment_id=1, page_ids=np.arange(len(dense)), dense=dense, checksum=lambda _: 0)
    return SimpleNamespace(
        segments=[segment], live=np.ones(len(dense), bool), dense=lambda rows: dense[rows],
        paths=SimpleNamespace(prefilter=folder), layout=SimpleNamespace(dense_dim=dense.shape[1]),
    )  # fmt: skip


def made_up_dense(size: int, dim: int, seed: int = 3) -> NDArray[np.float16]:
    """(size, dim) unit rows around 2,000 subjects; two of one subject have a cosine of about 0.57.

    As neighbouring pages of the development documents have; the spectrum falls as a power.
    """
    spectrum = (np.arange(1, dim + 1) ** -0.35).astype(np.float32)
    spectrum *= np.sqrt(1 / (spectrum**2).sum())
    subjects = np.random.default_rng(0).standard_normal((2000, dim), np.float32) * spectrum
    random, rows = np.random.default_rng(seed), np.empty((size, dim), np.float16)
    for start in range(0, size, 16_384):
        block = rows[start : start + 16_384]
        vectors = np.sqrt(0.57) * subjects[random.integers(0, 2000, len(block))]
        vectors += np.sqrt(0.43) * spectrum * random.standard_normal((len(block), dim), np.float32)
        block[:] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows


def nearest(dense: NDArray[np.float16], query: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """The n rows with the largest inner products, the largest first."""
    blocks = [dense[start : start + 65_536].astype(np.float32) @ query for start in range(0, len(dense), 65_536)]
    return np.argsort(-np.concatenate(blocks), kind="stable")[:n]


def one_after_another(queries: list[QueryVectors], ask: Callable[[QueryVectors], object]) -> Callable[[], object]:
    """A call that asks with another query each time."""
    turn = iter(range(10**9))
    return lambda: ask(queries[next(turn) % len(queries)])


def milliseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
