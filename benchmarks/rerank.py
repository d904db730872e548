"""How fast candidates are scored: our kernels beside everything else that scores pages of token vectors on a CPU.

    pip install -r benchmarks/requirements-peers.txt       # peers that are missing are left out, and said to be
    python benchmarks/rerank.py                            # some minutes; --quick: fewer pages, half a minute
    python benchmarks/rerank.py --fast-plaid PYTHON        # a Python with fast-plaid, which needs a torch of its own

Exact MaxSim of 100 and of 1,000 pages of 700 token vectors, D = 128, for 24 and 32 query token vectors. CPU time of the
whole process in one thread, waiting time in two; everything in turns in one process (one for each number of threads,
which some peers read only when they start), medians. Peers get their pages gathered and converted beforehand, ours find
them where they lie. The share of the peak counts the products that were asked for, none of the padding.

The corpus is made up (`made_up`): speed does not depend on the values.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from made_up import made_up
from numpy.typing import NDArray
from plaid import Plaid
from report import HERE, Bar, Section, at_least, in_turns, plot_columns, table

from docsearch.kernels.numpy_cpu import maxsim_numpy
from docsearch.store.codec import get_codec
from docsearch.types import PackedVectors

TOKENS, DIM = 700, 128
QUERY_TOKENS = (24, 32)
CODED = ("int8", "r4", "r3", "r2", "binary")
Floats = NDArray[np.float32]
Score = Callable[[Floats], Any]  # (Tq, D) → the scores
Prepare = Callable[[int], Score]  # number of pages → what scores that many, with everything made ready


def main() -> None:
    """Print the section; or, as a worker, the figures of one number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 pages instead of 1,000, fewer rounds")
    parser.add_argument("--fast-plaid", metavar="PYTHON", help="a Python that has fast-plaid")
    parser.add_argument("--worker", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(threads=arguments.worker, quick=arguments.quick)))
    else:
        print(run(quick=arguments.quick, fast_plaid=arguments.fast_plaid).markdown())


def run(*, quick: bool, fast_plaid: str | None = None) -> Section:
    """Measure with one thread and with two, each in a process of its own."""
    section = Section("Rerank on the CPU", "python benchmarks/rerank.py" + " --quick" * quick)
    one, two = (in_process(threads, quick) for threads in (1, 2))
    fewer, more = one["pages"]
    columns = [f"{pages} x {rows}" for pages in (fewer, more) for rows in QUERY_TOKENS]
    against = one["ms"].get("maxsim-cpu")
    section.add("One thread, CPU ms by pages x query token vectors:")
    section.add(table(
        ["way", *columns, "x maxsim-cpu", "% of the int8 peak", "correlation with exact"],
        [
            [
                name, *(f"{times[column]:.2f}" for column in columns),
                f"{against[columns[-1]] / times[columns[-1]]:.1f}" if against else "",
                f"{100 * share(one, name, columns[-1]):.0f}" if name.startswith("ours") else "",
                f"{one['correlation'][name]:.5f}",
            ]
            for name, times in one["ms"].items()
        ],
    ))  # fmt: skip
    column = columns[-1]
    section.add(f"Waiting time of {column}, ms, in turns; the peers as they choose with two threads allowed:")
    section.add(table(["way", "ms"], [[name, f"{times[column]:.2f}"] for name, times in two["ms"].items()]))
    section.add(f"Peak of int8 products measured in between: {one['peak']:.0f} Gop/s in one thread.")
    for why in sorted({*one["skipped"], *two["skipped"]}):
        section.add(f"Left out: {why}.")
    section.add(run_fast_plaid(fast_plaid, more))
    section.bars = bars(one, two, columns)
    heights = {name: times[column] for name, times in sorted(one["ms"].items(), key=lambda way: way[1][column])}
    title = f"Rerank of {more} pages of {TOKENS} token vectors, {QUERY_TOKENS[-1]} query token vectors, one thread"
    section.plots.append(plot_columns("rerank", heights, y="CPU ms", title=title, log_y=True))
    return section


def bars(one: dict[str, Any], two: dict[str, Any], columns: list[str]) -> list[Bar]:
    """What issue 4 asks for; a ratio is the smaller one of the two lengths of the query."""
    ms, large = one["ms"], columns[-len(QUERY_TOKENS) :]

    def times_faster(ours: str, *peers: str) -> float | None:
        known = [peer for peer in peers if peer in ms]
        return min(ms[peer][at] / ms[ours][at] for peer in known for at in large) if known and ours in ms else None

    floats = [name for name in ms if name.startswith("torch float32")]
    found = [
        at_least("int8 against maxsim-cpu", 10, times_faster("ours int8", "maxsim-cpu")),
        at_least("int8 against torch float32, the faster way", 8, times_faster("ours int8", *floats)),
        at_least("r4 against maxsim-cpu", 8, times_faster("ours r4", "maxsim-cpu")),
        at_least("int8 against the int8 rerank of qdrant-edge", 10, times_faster("ours int8", "qdrant-edge int8")),
        at_least("r4 against the int8 rerank of qdrant-edge", 10, times_faster("ours r4", "qdrant-edge int8")),
        at_least("int8 without a compiler against maxsim-cpu", 1.7, times_faster("torch fallback int8", "maxsim-cpu")),
    ]  # fmt: skip
    if one["peak"]:
        best = max(share(one, "ours int8", at) for at in large)
        found.append(at_least("int8: share of the peak", 50, 100 * best, "%"))
    for codec in ("int8", "r4"):
        one_thread, threads = (two["ms"][f"ours {codec}, {n}"][columns[-1]] for n in ("one thread", "two threads"))
        found.append(at_least(f"{codec}: two threads against one", 1.8, one_thread / threads))
    return found


def share(figures: dict[str, Any], name: str, column: str) -> float:
    """The part of the processor's int8 peak that a way reached."""
    pages, rows = map(int, column.split(" x "))
    done = 2 * pages * TOKENS * DIM * rows / figures["ms"][name][column] * 1000 / 1e9  # Gop/s
    return float(done / figures["peak"]) if figures["peak"] else float("nan")


# -- one process ---------------------------------------------------------------------------------------------------


def in_process(threads: int, quick: bool) -> dict[str, Any]:
    """What a process allowed so many threads measures."""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    command = [sys.executable, __file__, "--worker", str(threads), *["--quick"] * quick]
    environment = os.environ | dict.fromkeys(limits, str(threads)) | {"OMP_WAIT_POLICY": "passive"}  # idle, do not spin
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(*, threads: int, quick: bool) -> dict[str, Any]:
    """Measure every way there is in turns: milliseconds by way and size, correlations, the peak, what is missing."""
    warnings.simplefilter("ignore")
    pages = (50, 100) if quick else (100, 1000)
    corpus = made_up(n_pages=pages[-1], n_queries=2, n_tokens=TOKENS, dim=DIM)
    tokens = corpus.pages.astype(np.float32)
    queries = [np.resize(np.concatenate(corpus.queries), (rows, DIM)) for rows in QUERY_TOKENS]
    prepared: dict[str, Prepare] = {}
    skipped = []
    for family in (own_threads,) if threads > 1 else (own, fallbacks):
        prepared |= dict(family(tokens, threads))
    for peer in (maxsim_cpu, torch_floats, torch_int8, lateweave, qdrant_edge, plaid_numpy):
        try:
            prepared |= dict(peer(tokens, threads))
        except ImportError as error:
            skipped.append(f"{peer.__name__.replace('_', '-')} ({error})")
    peak, peaks = int8_peak(), []
    exact = np.concatenate([(page @ queries[0].T).max(axis=0).sum(keepdims=True) for page in tokens])
    ms: dict[str, dict[str, float]] = {name: {} for name in prepared}
    correlation = {}
    for n_pages in pages[-1:] if threads > 1 else pages:
        ways = {name: prepare(n_pages) for name, prepare in prepared.items()}
        for query in queries[-1:] if threads > 1 else queries:
            clock = time.perf_counter if threads > 1 else time.process_time
            calls: dict[str, Callable[[], Any]] = {name: partial(way, query) for name, way in ways.items()}
            calls["peak"] = lambda: peaks.append(peak())
            # In two threads, ours come first: the threads of the peers go on for a while after they have answered.
            apart = [{name: call for name, call in calls.items() if name.startswith("ours") == ours} for ours in (1, 0)]
            taken = [in_turns(some, 3 if quick else 7, clock=clock) for some in (apart if threads > 1 else [calls])]
            for name, milliseconds in ((name, value) for group in taken for name, value in group.items()):
                if name != "peak":
                    ms[name][f"{n_pages} x {len(query)}"] = milliseconds
        correlation = {name: float(np.corrcoef(way(queries[0]), exact[:n_pages])[0, 1]) for name, way in ways.items()}
    return {"pages": pages, "ms": ms, "correlation": correlation, "peak": statistics.median(peaks), "skipped": skipped}


def int8_peak() -> Callable[[], float]:
    """A function that measures the most int8 products this processor can do, in Gop/s; 0 where nobody knows how."""
    source = HERE.parent / "tests" / "native" / "peak.c"
    folder = tempfile.mkdtemp()
    library = Path(folder) / "peak.so"
    try:
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
    except (OSError, subprocess.CalledProcessError):
        return lambda: 0.0
    function = ctypes.CDLL(str(library)).int8_peak
    function.restype = ctypes.c_double
    return function  # type: ignore[no-any-return]


# -- ours ----------------------------------------------------------------------------------------------------------


def pack(name: str, pages: Floats) -> PackedVectors:
    """Pages' blocks one after the other, each at a multiple of 64 bytes, as in a segment."""
    codec = get_codec(name)
    blocks, scales = zip(*(codec.encode(page) for page in pages), strict=True)
    sizes = [-(-len(block) // 64) * 64 for block in blocks]
    starts = np.cumsum([0, *sizes])
    buffer = np.zeros(starts[-1], np.uint8)
    for block, start in zip(blocks, starts[:-1], strict=True):
        buffer[start : start + len(block)] = block
    lengths = np.array([len(page) for page in pages], np.int64)
    zeros = np.zeros(len(pages), np.int64)
    return PackedVectors((buffer,), zeros, starts[:-1], lengths, np.float32(scales), codec, pages.shape[2])


def own(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:
    """Our kernel for every codec, and half floats."""
    from docsearch.kernels.native import maxsim_native

    for name in CODED:
        packed = pack(name, tokens)
        yield f"ours {name}", partial(taking, partial(maxsim_native, threads=threads), packed)
    yield "NumPy float16", partial(taking, maxsim_numpy, pack("float16", tokens))


def own_threads(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:
    """Our kernel in one thread and in two."""
    from docsearch.kernels.native import maxsim_native

    assert threads == 2
    for name in ("int8", "r4"):
        packed = pack(name, tokens)
        yield f"ours {name}, one thread", partial(taking, partial(maxsim_native, threads=1), packed)
        yield f"ours {name}, two threads", partial(taking, partial(maxsim_native, threads=2), packed)


def fallbacks(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:
    """What works without a compiler: with torch, and with NumPy alone."""
    assert threads == 1
    from docsearch.kernels.torch_cpu import maxsim_torch

    for name in ("int8", "r4"):
        packed = pack(name, tokens)
        yield f"torch fallback {name}", partial(taking, maxsim_torch, packed)
        yield f"NumPy fallback {name}", partial(taking, maxsim_numpy, packed)


def taking(score: Callable[[Floats, PackedVectors], Floats], packed: PackedVectors, n_pages: int) -> Score:
    """Score so many of the pages, spread over the buffer."""
    part = packed.part(chosen(len(packed), n_pages))
    return lambda query: score(query, part)


def chosen(n_pages: int, n: int) -> NDArray[np.int64]:
    """Which pages are candidates: all, or the first n, so that every way gives the same scores."""
    return np.arange(min(n, n_pages))


# -- peers ---------------------------------------------------------------------------------------------------------


def maxsim_cpu(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:  # noqa: ARG001
    """Rust and libxsmm, float32."""
    import maxsim_cpu as peer

    yield "maxsim-cpu", lambda n: partial(score_swapped, peer.maxsim_scores, np.ascontiguousarray(tokens[:n]))


def score_swapped(score: Callable[[Floats, Floats], Any], pages: Floats, query: Floats) -> Any:
    """Score (query, pages)."""
    return score(query, pages)


def torch_floats(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:
    """One product of all pages, and one of eight pages at a time, which stays in the cache."""
    import torch

    torch.set_num_threads(threads)
    pages = torch.from_numpy(tokens)

    def all_at_once(n: int) -> Score:
        return lambda query: (pages[:n] @ torch.from_numpy(query).T).amax(1).sum(1).numpy()

    def by_eights(n: int) -> Score:
        def score(query: Floats) -> Any:
            turned = torch.from_numpy(query).T
            return torch.cat([(part @ turned).amax(1).sum(1) for part in pages[:n].split(8)]).numpy()

        return score

    yield "torch float32, all at once", all_at_once
    yield "torch float32, 8 pages at a time", by_eights


def torch_int8(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:
    """What torch itself does with int8: `_int_mm`, eight pages at a time, one scale for all."""
    import torch

    torch.set_num_threads(threads)
    scale = float(np.abs(tokens).max()) / 127
    pages = torch.from_numpy(np.rint(tokens / scale).astype(np.int8))

    def prepare(n: int) -> Score:
        def score(query: Floats) -> Any:
            query_scale = float(np.abs(query).max()) / 127
            turned = torch.from_numpy(np.rint(query / query_scale).astype(np.int8)).T.contiguous()
            best = [
                torch._int_mm(part.reshape(-1, DIM), turned).view(len(part), TOKENS, -1).amax(1).sum(1)  # noqa: SLF001
                for part in pages[:n].split(8)
            ]
            return torch.cat(best).numpy() * (scale * query_scale)

        return score

    yield "torch int8, 8 pages at a time", prepare


def lateweave(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:
    """Packed float32."""
    from lateweave import maxsim_scores_packed

    def prepare(n: int) -> Score:
        rows, lengths = tokens[:n].reshape(-1, DIM), np.full(n, TOKENS, np.int64)
        return lambda query: maxsim_scores_packed(query, rows, lengths, threads=threads)

    yield "lateweave float32", prepare


def qdrant_edge(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:
    """The embedded database: multivectors without a graph, half floats or int8 without a second look at the floats."""
    import qdrant_edge as peer

    folder = Path(tempfile.mkdtemp())
    for name, codes in (
        ("float16", None),
        ("int8", peer.ScalarQuantizationConfig(peer.ScalarType.Int8, quantile=0.99, always_ram=True)),
    ):
        vectors = peer.EdgeVectorParams(
            size=DIM, distance=peer.Distance.Dot, datatype=peer.VectorStorageDatatype.Float16,
            quantization_config=codes, multivector_config=peer.MultiVectorConfig(peer.MultiVectorComparator.MaxSim),
        )  # fmt: skip
        (folder / name).mkdir()
        shard = peer.EdgeShard.create(str(folder / name), peer.EdgeConfig(
            vectors={"tokens": vectors}, max_search_threads=threads,
            hnsw_config=peer.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10**9),
            optimizers=peer.EdgeOptimizersConfig(indexing_threshold=1),
        ))  # fmt: skip
        for start in range(0, len(tokens), 20):
            points = [
                peer.Point(start + at, {"tokens": page.tolist()}) for at, page in enumerate(tokens[start : start + 20])
            ]
            shard.update(peer.UpdateOperation.upsert_points(points))
        shard.optimize()
        quantization = peer.QuantizationSearchParams(ignore=codes is None, rescore=False)
        parameters = peer.SearchParams(exact=False, quantization=quantization)

        def prepare(n: int, shard: Any = shard, parameters: Any = parameters) -> Score:
            candidates = peer.Filter(must=[peer.HasIdCondition(set(range(n)))]) if n < len(tokens) else None

            def score(query: Floats) -> Floats:
                nearest = peer.Query.Nearest(query.tolist(), using="tokens")
                found = shard.query(peer.QueryRequest(limit=n, query=nearest, filter=candidates, params=parameters))
                scores = np.zeros(n, np.float32)
                scores[[point.id for point in found]] = [point.score for point in found]
                return scores

            return score

        yield f"qdrant-edge {name}", prepare


def plaid_numpy(tokens: Floats, threads: int) -> Iterator[tuple[str, Prepare]]:  # noqa: ARG001
    """A plain scorer of PLAID's 2-bit codes: look up bytes and centroids, scale to unit length, multiply."""
    plaid = Plaid(tokens[:: len(tokens) // 32].reshape(-1, DIM).astype(np.float16))
    plaid.train_buckets(2)
    four_of_byte = plaid.values[(np.arange(256)[:, None] >> np.arange(0, 8, 2)) & 3]  # (256, 4)
    coded = []
    for page in tokens:
        near, buckets = plaid.encode(page)
        coded.append((near, (buckets.reshape(TOKENS, -1, 4) << np.arange(0, 8, 2)).sum(axis=2).astype(np.uint8)))

    def prepare(n: int) -> Score:
        def score(query: Floats) -> Floats:
            scores = np.empty(n, np.float32)
            for page, (near, packed) in enumerate(coded[:n]):
                rows = plaid.centroids[near] + four_of_byte[packed].reshape(TOKENS, -1)
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                scores[page] = (rows @ query.T).max(axis=0).sum()
            return scores

        return score

    yield "NumPy PLAID 2-bit", prepare


FAST_PLAID = """
import sys, tempfile, time
import torch
from fast_plaid import search

n_pages, n_tokens, dim = map(int, sys.argv[1:])
torch.set_num_threads(1)
torch.manual_seed(0)
pages = [torch.nn.functional.normalize(torch.randn(n_tokens, dim), dim=1) for _ in range(n_pages)]
index = search.FastPlaid(index=tempfile.mkdtemp(), device="cpu")
began = time.process_time()
index.create(documents_embeddings=pages, kmeans_niters=1)
built = time.process_time() - began
queries = torch.stack([pages[7][:32]])
times = []
for _ in range(6):
    began = time.process_time()
    index.search(queries_embeddings=queries, top_k=10, n_full_scores=n_pages, show_progress=False)
    times.append(time.process_time() - began)
print(f"{built:.0f} {1000 * sorted(times[1:])[2]:.1f}")
"""


def run_fast_plaid(python: str | None, n_pages: int) -> str:
    """What fast-plaid needs in its own environment, in words, or why it is missing."""
    if python is None:
        return "Left out: fast-plaid (it needs a torch of its own: --fast-plaid)."
    command = [python, "-c", FAST_PLAID, str(n_pages), str(TOKENS), str(DIM)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    except subprocess.TimeoutExpired:
        return f"fast-plaid: did not index and search {n_pages} pages within 20 minutes."
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        return f"fast-plaid: ended with {error.returncode}: {last[:200]}."
    built, searched = done.stdout.split()[-2:]
    return (
        f"fast-plaid, one thread, its own approximate search of {n_pages} pages for 32 query token vectors, up "
        f"to all of them scored: {searched} ms CPU a query; indexed in {built} CPU s."
    )


if __name__ == "__main__":
    main()
