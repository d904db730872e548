"""What a GPU does with resident pages, beside the libraries one could use instead; every bar met or missed, one run.

    pip install 'docsearch-engine[gpu]' late-interaction-kernels flash-maxsim
    python benchmarks/gpu.py --out results      # under nine minutes on an H200; 70 GB of its memory
    python benchmarks/gpu.py --tune             # two minutes: which tiling is best for each codec, on 10,000 pages
    python benchmarks/gpu.py --dry              # tiny sizes under Triton's interpreter: shows that all of it runs

Pages have 700 random token vectors of 128 dimensions, made on the device; a query has 32. A library that is not there
is skipped, and so is what would not fit into time or memory; the table says so. Before anything is timed, its scores
are compared with the CPU's on a sample.

Times are medians of CUDA events with the launches queued behind a pause, so that Python's part is hidden, for the
libraries too; rows that say "as called" are wall time from the query in host memory to the answer in host memory.
GB/s are the bytes the pages occupy, read once; per cent are of the copy bandwidth measured in the same run. Pages are
drawn from 100,000, others each time, so that the cache of the GPU does not answer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

DRY = "--dry" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402

from docsearch.kernels import triton_maxsim  # noqa: E402
from docsearch.kernels.numpy_cpu import maxsim_numpy  # noqa: E402
from docsearch.kernels.resident import ResidentDense, ResidentPages  # noqa: E402
from docsearch.kernels.triton_desk import Desk, Shelf  # noqa: E402
from docsearch.store.codec import block_bytes, get_codec  # noqa: E402
from docsearch.types import PackedVectors, QueryVectors  # noqa: E402

DEVICE = torch.device("cpu" if DRY else "cuda")
DIM, TOKENS, QUERY_TOKENS = 128, 70 if DRY else 700, 32
MOST, SIZES, ALL = (6, [2, 4, 6], 8) if DRY else (100_000, [1000, 10_000, 100_000], 1_000_000)
CANDIDATES, BEST = (3, 2) if DRY else (1000, 10)
REPEATS = 2 if DRY else 15
SECONDS = 500  # no new part begins later than this
CODECS = ["r4", "r3", "r2", "int8", "binary"]
PEER_ROWS = 10_000_000  # token vectors in one call of a library: some count elements in 32 bits
START = time.perf_counter()


@dataclass
class Row:
    """A line of the table; without ``ms`` it was skipped, and the note says why."""

    what: str
    pages: int
    ms: float | None = None
    gb_per_s: float | None = None
    percent_of_copy: float | None = None
    note: str = ""


@dataclass
class Bar:
    """A promise, and what came of it."""

    what: str
    bar: float
    unit: str
    measured: float | None
    at_most: bool

    @property
    def verdict(self) -> str:
        """Met, missed, or not measured."""
        if self.measured is None:
            return "not measured"
        return "met" if (self.measured <= self.bar) == self.at_most or self.measured == self.bar else "MISSED"


class Table:
    """Collects rows, prints them as they come, and writes them at the end."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.copy_gb_per_s = 0.0

    def add(self, what: str, pages: int, ms: float, n_bytes: float = 0, note: str = "") -> None:
        """A measurement; ``n_bytes`` is what had to be read."""
        rate = n_bytes / ms / 1e6 if n_bytes else None
        percent = 100 * rate / self.copy_gb_per_s if rate and self.copy_gb_per_s else None
        self._keep(Row(what, pages, ms, rate, percent, note))

    def skip(self, what: str, pages: int, why: object) -> None:
        """Something that could not be measured."""
        self._keep(Row(what, pages, note=f"skipped: {' '.join(str(why).split())[:160]}"))

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        print(f"{time.perf_counter() - START:6.1f} s  {line_of(row)}", flush=True)

    def ms(self, what: str, pages: int) -> float | None:
        """The fastest row of which ``what`` is the beginning."""
        found = [row.ms for row in self.rows if row.what.startswith(what) and row.pages == pages and row.ms]
        return min(found, default=None)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-results")), help="folder")
    parser.add_argument("--tune", action="store_true", help="compare tilings instead")
    parser.add_argument("--dry", action="store_true", help="tiny sizes under the interpreter; the figures mean nothing")
    arguments = parser.parse_args()
    if not DRY and not torch.cuda.is_available():
        parser.error("there is no GPU here; --dry shows that the benchmark runs")
    torch.manual_seed(0)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.tune:
        text = "\n".join(tune())
        (arguments.out / "gpu-tilings.md").write_text(text + "\n")
        return
    table = Table()
    for part in (measure_copy, measure_ours, measure_candidates, measure_everything, measure_dense, measure_floats,
                 measure_int8_library, measure_residual_library):  # fmt: skip
        if time.perf_counter() - START > SECONDS:
            table.skip(part.__name__, 0, f"{SECONDS} s were over")
            continue
        try:
            part(table)
        except (torch.cuda.OutOfMemoryError, RuntimeError) as failure:
            table.skip(part.__name__, 0, failure)
        release()
    promised = bars(table)
    write(arguments.out, table, [replace(bar, measured=None) for bar in promised] if DRY else promised)


def measure_copy(table: Table) -> None:
    """Copy bandwidth, the yardstick: bytes read and bytes written."""
    source = random_bytes(1 << (20 if DRY else 32))
    target = torch.empty_like(source)
    ms = device_ms(lambda _: target.copy_(source))
    table.copy_gb_per_s = 2 * len(source) / ms / 1e6
    table.add("copy on the device, read and written", 0, ms, 2 * len(source))


def measure_ours(table: Table) -> None:
    """Our kernel, every codec and size."""
    for name in CODECS:
        shelf = random_shelf(name, MOST)
        difference = check(shelf, name)
        for size in SIZES:
            ms = device_ms(scorer(shelf, size))
            n_bytes = size * block_bytes(get_codec(name), TOKENS, DIM)
            table.add(f"docsearch {name}", size, ms, n_bytes, f"largest difference from the CPU {difference:g}")
        del shelf
        release()


def measure_candidates(table: Table) -> None:
    """A thousand candidates: copy in, score, rank, copy out; and all of a search as a caller sees it."""
    shelf = random_shelf("r4", MOST)
    desk = Desk(shelf, QUERY_TOKENS, CANDIDATES)
    turned = get_codec("r4").turn(random_query())
    lists = [np.sort(np.random.default_rng(at).permutation(MOST)[:CANDIDATES]) for at in range(20)]
    ids, scores = desk.best(turned, BEST, lists[0])
    everything = Desk(shelf, QUERY_TOKENS, None).scores(turned, None)
    order = np.lexsort([lists[0], -everything[lists[0]]])[:BEST]
    assert ids.tolist() == lists[0][order].tolist(), "the best of the candidates are not the best of all scores"
    assert scores.tolist() == everything[ids].tolist()
    note = f"the best {BEST}, as called; the list changes each time"
    for at in range(5):
        desk.best(turned, BEST, lists[at])
    asked = iter(range(10**9))

    waits, calls = [], []
    for _ in range(10 * REPEATS):
        desk.ask(turned, lists[next(asked) % len(lists)])
        waits.append(wall_ms(desk.rank))
        calls.append(wall_ms(lambda: desk.best(turned, BEST, lists[next(asked) % len(lists)])))
    table.add("docsearch r4, candidates: launch to ranked answer", CANDIDATES, statistics.median(waits), note=note)
    table.add("docsearch r4, candidates: with the query rounded", CANDIDATES, statistics.median(calls), note=note)
    pages, load_ms = loaded_pages()
    few = min(CANDIDATES, len(pages))
    query, chosen = random_query(), np.random.default_rng(0).permutation(len(pages))[:few]
    pages.search(query, BEST, chosen)
    searches = [wall_ms(lambda: pages.search(query, BEST, chosen)) for _ in range(5 * REPEATS)]
    table.add("docsearch r4, ResidentPages.search, as called", few, statistics.median(searches), note="one list")
    table.add("docsearch r4, ResidentPages loaded from memory", len(pages), load_ms, pages.nbytes)


def measure_everything(table: Table) -> None:
    """Every page of a large index, as called."""
    shelf = random_shelf("r4", ALL)
    desk = Desk(shelf, QUERY_TOKENS, None)
    turned = get_codec("r4").turn(random_query())
    desk.best(turned, BEST, None)
    ms = statistics.median(wall_ms(lambda: desk.best(turned, BEST, None)) for _ in range(REPEATS))
    n_bytes = ALL * block_bytes(get_codec("r4"), TOKENS, DIM)
    table.add("docsearch r4, every page, as called", ALL, ms, n_bytes, f"the best {BEST}")


def measure_dense(table: Table) -> None:
    """The prefilter: one product with all dense vectors."""
    n, width = (50, 64) if DRY else (ALL, 2048)
    random = np.random.default_rng(0)
    part = random.standard_normal((min(n, 10_000), width)).astype(np.float16)
    dense = ResidentDense([np.resize(part, (n, width))], device=DEVICE.type)
    query = QueryVectors(np.empty((0, 1), np.float32), random.standard_normal(width).astype(np.float32), ())
    allowed = random.random(n) < 0.5
    for mask, what in ((None, ""), (allowed, ", half of them allowed")):
        dense.candidates(query, min(n, 200), allowed=mask)
        times = [wall_ms(lambda mask=mask: dense.candidates(query, min(n, 200), allowed=mask)) for _ in range(REPEATS)]
        table.add(f"docsearch dense prefilter{what}, as called", n, statistics.median(times), 2 * n * width)


def measure_floats(table: Table) -> None:
    """Half floats: late-interaction-kernels, flash-maxsim, plain torch."""
    rows = torch.empty(MOST * TOKENS, DIM, dtype=torch.float16, device=DEVICE)
    for begin in range(0, len(rows), 1 << 22):
        part = rows[begin : begin + (1 << 22)]
        part.copy_(torch.nn.functional.normalize(torch.randn(part.shape, device=DEVICE), dim=1))
    query = torch.from_numpy(random_query()).to(DEVICE, torch.float16)
    exact = (rows[: 4 * TOKENS].double() @ query.double().T).view(4, TOKENS, -1).amax(1).sum(1)

    def packed(score: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda part: score(part, equal_ends(len(part)))

    def lik_packed() -> Callable[[torch.Tensor], torch.Tensor]:
        from late_interaction_kernels import maxsim_varlen

        whole = torch.tensor([0, len(query)], dtype=torch.int32, device=DEVICE)
        return packed(lambda part, ends: maxsim_varlen(query, part, whole, ends, len(query), TOKENS)[0])

    def lik_equal() -> Callable[[torch.Tensor], torch.Tensor]:
        from late_interaction_kernels import maxsim

        return lambda part: maxsim(query[None], part.view(-1, TOKENS, DIM), normalize=False)[0]

    def flash_packed() -> Callable[[torch.Tensor], torch.Tensor]:
        from flash_maxsim import flash_maxsim_packed

        return packed(lambda part, ends: flash_maxsim_packed(query, part, ends, TOKENS))

    def plain() -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda part: (part @ query.T).view(-1, TOKENS, len(query)).amax(1).float().sum(1)

    peers = {
        "late-interaction-kernels float16, packed": lik_packed,
        "late-interaction-kernels float16, equal lengths": lik_equal,
        "flash-maxsim float16, packed": flash_packed,
        "torch float16, matrix product and maximum": plain,
    }
    for what, load in peers.items():
        compare_peer(table, what, load, [rows], exact, 2 * DIM)


def measure_int8_library(table: Table) -> None:
    """flash-maxsim, integers times integers, a scale per token."""
    rows = random_bytes(MOST * TOKENS * DIM).view(torch.int8).view(-1, DIM).clamp_(-127, 127)
    scales = (torch.rand(len(rows), device=DEVICE) * 0.001 + 0.0005).half()
    query = torch.from_numpy(random_query()).to(DEVICE, torch.float16)
    levels = rows[: 4 * TOKENS].double() * scales[: 4 * TOKENS, None].double()
    exact = (levels @ query.double().T).view(4, TOKENS, -1).amax(1).sum(1)

    def load() -> Callable[..., torch.Tensor]:
        from flash_maxsim import flash_maxsim_int8x8, quantize_query_int8

        whole, query_scales = quantize_query_int8(query)
        return lambda part, part_scales: flash_maxsim_int8x8(
            query, part.view(-1, TOKENS, DIM), part_scales.view(-1, TOKENS), whole, query_scales
        )

    compare_peer(table, "flash-maxsim int8", load, [rows, scales], exact, DIM + 2)


def measure_residual_library(table: Table) -> None:
    """late-interaction-kernels, centroids and two bits of residual: what PLAID stores."""
    n_centroids = 16 if DRY else 8192
    residuals = random_bytes(MOST * TOKENS * DIM // 4).view(-1, DIM // 4)
    codes = torch.randint(0, n_centroids, (len(residuals),), dtype=torch.int32, device=DEVICE)
    centroids = torch.nn.functional.normalize(torch.randn(n_centroids, DIM, device=DEVICE), dim=1).half()
    weights = torch.tensor([-0.06, -0.02, 0.02, 0.06], device=DEVICE)
    query = torch.from_numpy(random_query()).to(DEVICE, torch.float16)
    head = residuals[: 4 * TOKENS].long()
    buckets = torch.stack([head >> shift & 3 for shift in (0, 2, 4, 6)], dim=2).view(len(head), DIM)
    decoded = centroids[codes[: len(head)].long()].double() + weights.double()[buckets]
    decoded = torch.nn.functional.normalize(decoded, dim=1)
    exact = (decoded @ query.double().T).view(4, TOKENS, -1).amax(1).sum(1)

    def load() -> Callable[..., torch.Tensor]:
        from late_interaction_kernels.plaid import maxsim_residual_varlen

        def run(part_codes: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            ends = equal_ends(len(part))
            return maxsim_residual_varlen(query, part_codes, part, ends, centroids, weights, 2, max_seqlen_d=TOKENS)

        return run

    compare_peer(table, "late-interaction-kernels residual 2 bits", load, [codes, residuals], exact, DIM // 4 + 4)


def compare_peer(
    table: Table, what: str, load: Callable[[], Callable[..., torch.Tensor]], stores: list[torch.Tensor],
    exact: torch.Tensor, bytes_per_token: int,
) -> None:  # fmt: skip
    """Check a library on the first four pages, then time it on every size; say why where it cannot be."""
    step = PEER_ROWS // TOKENS * TOKENS
    try:
        run = load()
        run(
            *(store[:step] for store in stores)
        )  # the libraries tune themselves on the first call: let it be a large one
        found = run(*(store[: 4 * TOKENS] for store in stores)).double().view(-1)
        error = float((found - exact).abs().max() / exact.abs().max())
        if not error < 0.02:
            table.skip(what, 0, f"its scores are wrong: relative error {error:.2g} on four pages")
            return
    except Exception as failure:  # noqa: BLE001 - a library that is not there or fails must not end the run
        table.skip(what, 0, f"{type(failure).__name__}: {failure}")
        return
    for size in SIZES:
        if time.perf_counter() - START > SECONDS:
            table.skip(what, size, f"{SECONDS} s were over")
            continue

        def every(turn: int, size: int = size) -> None:
            first = turn * size % max(1, MOST - size + 1) * TOKENS
            for begin in range(first, first + size * TOKENS, step):
                run(*(store[begin : min(begin + step, first + size * TOKENS)] for store in stores))

        try:
            note = f"relative error {error:.1e}"
            if size == SIZES[0]:
                table.add(f"{what}, as called", size, statistics.median(wall_ms(lambda: every(0)) for _ in range(10)))
            table.add(what, size, device_ms(every), size * TOKENS * bytes_per_token, note)
        except Exception as failure:  # noqa: BLE001
            table.skip(what, size, f"{type(failure).__name__}: {failure}")


def bars(table: Table) -> list[Bar]:
    """What the kernel has promised, on the pages of this run."""
    r4, half = table.ms("docsearch r4", MOST), table.ms("late-interaction-kernels float16", MOST)
    residual, int8 = table.ms("late-interaction-kernels residual", MOST), table.ms("flash-maxsim int8", MOST)
    share = next((r.percent_of_copy for r in table.rows if (r.what, r.pages) == ("docsearch r4", MOST)), None)
    candidates = table.ms("docsearch r4, candidates: launch to ranked answer", CANDIDATES)

    def times(other: float | None) -> float | None:
        return other / r4 if other and r4 else None

    return [
        Bar(f"r4, {MOST} pages, share of copy bandwidth", 60, "%", share, at_most=False),
        Bar("r4 against late-interaction-kernels float16", 2.3, "x", times(half), at_most=False),
        Bar("r4 against late-interaction-kernels residual 2 bits", 10, "x", times(residual), at_most=False),
        Bar("r4 against flash-maxsim int8", 2, "x", times(int8), at_most=False),
        Bar(
            f"{CANDIDATES} candidates, launch to ranked answer",
            60,
            "us",
            candidates and 1000 * candidates,
            at_most=True,
        ),
        Bar(f"every one of {ALL} pages in r4", 20, "ms", table.ms("docsearch r4, every page", ALL), at_most=True),
    ]


def tune() -> Iterator[str]:
    """Time tilings on 10,000 pages; the best stand in `triton_maxsim.TILINGS`."""
    pages = SIZES[1]
    for name in CODECS:
        shelf = random_shelf(name, pages)
        bits = shelf.products.bits
        before, found = triton_maxsim.TILINGS[bits], {}
        tilings = [
            triton_maxsim.Tiling(tokens, warps, stages, programs)
            for tokens, warps in ((64, 4), (128, 4), (128, 8), (32, 2), (64, 2))
            for stages in (2, 3, 4)
            for programs in (2, 4, 6, 8)
            if tokens * warps * programs <= 3072
        ]
        for tiling in tilings[: 2 if DRY else None]:
            triton_maxsim.TILINGS[bits] = tiling
            try:
                found[tiling] = device_ms(scorer(shelf, pages), repeats=5)
            except Exception as failure:  # noqa: BLE001 - a tiling may ask for more than the chip has
                print(f"{name} {tiling}: {failure}")
        triton_maxsim.TILINGS[bits] = before
        n_bytes = pages * block_bytes(get_codec(name), TOKENS, DIM)
        for tiling, ms in sorted(found.items(), key=lambda entry: entry[1])[:6]:
            text = f"{name:7} {ms:8.3f} ms {n_bytes / ms / 1e6:7.0f} GB/s  {tiling}"
            print(text, flush=True)
            yield text


def random_bytes(n: int) -> torch.Tensor:
    """(n,) uint8 on the device."""
    return torch.empty(n, dtype=torch.uint8, device=DEVICE).random_(0, 256)


@cache
def equal_ends(n_tokens: int) -> torch.Tensor:
    """Where pages of the same length begin and end, as the libraries want it."""
    return torch.arange(0, n_tokens + 1, TOKENS, dtype=torch.int32, device=DEVICE)


def random_query() -> np.ndarray:
    """(Tq, D) float32 unit rows."""
    rows = np.random.default_rng(1).standard_normal((QUERY_TOKENS, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_shelf(name: str, n_pages: int) -> Shelf:
    """Pages of random codes and plausible scales, made on the device."""
    codec = get_codec(name)
    stride = -(-block_bytes(codec, TOKENS, DIM) // 64) * 64
    store = random_bytes(n_pages * stride + triton_maxsim.SLACK)
    if codec.has_token_scales:
        blocks = store[: n_pages * stride].view(torch.float16).view(n_pages, -1)
        first = TOKENS * codec.row_bytes(DIM) // 2
        for begin in range(0, n_pages, 10_000):
            scales = blocks[begin : begin + 10_000, first : first + TOKENS]
            scales.copy_(torch.rand(scales.shape, device=DEVICE) * 0.02 + 0.01)
    return Shelf(
        store,
        torch.arange(n_pages, dtype=torch.int64, device=DEVICE) * stride,
        torch.full((n_pages,), TOKENS, dtype=torch.int32, device=DEVICE),
        torch.rand(n_pages, device=DEVICE) * 0.5 + 0.5,
        triton_maxsim.Products.of(codec, DIM),
    )


def scorer(shelf: Shelf, n_pages: int) -> Callable[[int], None]:
    """Launches the kernel alone over as many pages, others each time."""
    most = len(shelf.lengths)
    lists = [
        torch.randperm(most, device=DEVICE)[:n_pages].sort().values.int() for _ in range(1 if n_pages == most else 8)
    ]
    if n_pages == most:
        lists = [torch.arange(most, dtype=torch.int32, device=DEVICE)]
    chunks, columns = shelf.products.columns(QUERY_TOKENS)
    operands = shelf.products.query(get_codec(codec_of(shelf)).turn(random_query()), chunks * columns)
    query = tuple(torch.from_numpy(operand).to(DEVICE) for operand in operands)
    counts = torch.tensor([n_pages, QUERY_TOKENS], dtype=torch.int32, device=DEVICE)
    keys = torch.empty(n_pages, dtype=torch.int64, device=DEVICE)
    pages = (shelf.starts, shelf.lengths, shelf.scales)

    def run(turn: int) -> None:
        ids = lists[turn % len(lists)]
        triton_maxsim.score_pages(shelf.store, pages, query, chunks, ids, counts, keys, shelf.products)

    return run


def codec_of(shelf: Shelf) -> str:
    """The codec of a shelf's pages."""
    return {8: "int8", 4: "r4", 3: "r3", 2: "r2", 1: "binary"}[shelf.products.bits]


def check(shelf: Shelf, name: str) -> float:
    """Compare a few pages, the last one among them, with the CPU; the largest difference."""
    ids = np.unique(np.r_[0, len(shelf.lengths) - 1, np.random.default_rng(0).integers(0, len(shelf.lengths), 30)])
    codec, stride = get_codec(name), int(shelf.starts[1])
    blocks = [shelf.store[page * stride : (page + 1) * stride].cpu().numpy() for page in ids.tolist()]
    here = PackedVectors(
        tuple(blocks), np.arange(len(ids)), np.zeros(len(ids), np.int64), np.full(len(ids), TOKENS),
        shelf.scales.cpu().numpy()[ids], codec, DIM,
    )  # fmt: skip
    query = random_query()
    expected = maxsim_numpy(query, here)
    found = Desk(shelf, QUERY_TOKENS, len(ids)).scores(np.ascontiguousarray(codec.turn(query)), ids)
    difference = float(np.abs(found - expected).max())
    assert difference <= 1e-6 * np.abs(expected).max(), f"{name}: scores are off by {difference}"
    return difference


def loaded_pages() -> tuple[ResidentPages, float]:
    """Pages brought over from host memory, and how long it took."""
    n_pages, codec = (4, get_codec("r4")) if DRY else (10_000, get_codec("r4"))
    stride = -(-block_bytes(codec, TOKENS, DIM) // 64) * 64
    buffer = np.random.default_rng(0).integers(0, 64, n_pages * stride, np.uint8)  # as halves: small, positive
    packed = PackedVectors(
        (buffer,), np.zeros(n_pages, np.int64), np.arange(n_pages) * stride, np.full(n_pages, TOKENS),
        np.ones(n_pages, np.float32), codec, DIM,
    )  # fmt: skip
    begin = time.perf_counter()
    pages = ResidentPages(packed, device=DEVICE.type)
    return pages, 1000 * (time.perf_counter() - begin)


def device_ms(run: Callable[[int], Any], repeats: int = REPEATS) -> float:
    """Median milliseconds of the device for one call; the call is told its number."""
    for turn in range(1 if DRY else 3):
        run(turn)
    if DRY:
        return statistics.median(wall_ms(lambda turn=turn: run(turn)) for turn in range(repeats))
    times = []
    for turn in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        torch.cuda._sleep(2_000_000)  # noqa: SLF001 - about a millisecond, in which Python gets ahead
        begin.record()
        run(turn)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def wall_ms(run: Callable[[], Any]) -> float:
    """Milliseconds until the device has done what one call asks."""
    if not DRY:
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if not DRY:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begin)


def release() -> None:
    """Give memory back before the next part."""
    if not DRY:
        torch.cuda.empty_cache()


def line_of(row: Row) -> str:
    """A row as text."""
    cells = [
        f"{row.what:50}",
        f"{row.pages:>9,}" if row.pages else " " * 9,
        "        -" if row.ms is None else f"{row.ms:9.3f} ms",
        "" if row.gb_per_s is None else f"{row.gb_per_s:6.0f} GB/s",
        "" if row.percent_of_copy is None else f"{row.percent_of_copy:5.1f} %",
        row.note,
    ]
    return "  ".join(cells)


def write(folder: Path, table: Table, promised: list[Bar]) -> None:
    """Write gpu.json and gpu.md, and print the bars."""
    machine = {
        "gpu": "none: the interpreter, the figures mean nothing" if DRY else torch.cuda.get_device_name(),
        "python": platform.python_version(),
        **{name: installed(name) for name in ("torch", "triton", "late-interaction-kernels", "flash-maxsim")},
        "seconds": round(time.perf_counter() - START),
        "command": " ".join(["python", *sys.argv]),
        "tilings": {str(bits): asdict(tiling) for bits, tiling in triton_maxsim.TILINGS.items()},
    }
    lines = ["# Resident pages on a GPU", "", f"```\n{json.dumps(machine, indent=1)}\n```", ""]
    lines += ["| bar | asked | measured | |", "|---|---|---|---|"]
    for bar in promised:
        sign, measured = (
            "<=" if bar.at_most else ">=",
            "-" if bar.measured is None else f"{bar.measured:.3g} {bar.unit}",
        )
        lines.append(f"| {bar.what} | {sign} {bar.bar:g} {bar.unit} | {measured} | {bar.verdict} |")
    lines += ["", "| what | pages | ms | GB/s | % of copy | |", "|---|---:|---:|---:|---:|---|"]
    for row in table.rows:
        numbers = (row.ms and f"{row.ms:.3f}", row.gb_per_s and f"{row.gb_per_s:.0f}",
                   row.percent_of_copy and f"{row.percent_of_copy:.1f}")  # fmt: skip
        cells = " | ".join(number or "-" for number in numbers)
        lines.append(f"| {row.what} | {row.pages:,} | {cells} | {row.note.replace('|', '/')} |")
    (folder / "gpu.md").write_text("\n".join(lines) + "\n")
    record = {
        "machine": machine,
        "bars": [asdict(bar) | {"verdict": bar.verdict} for bar in promised],
        "rows": [asdict(row) for row in table.rows],
    }
    (folder / "gpu.json").write_text(json.dumps(record, indent=1) + "\n")
    print()
    for bar in promised:
        shown = "-" if bar.measured is None else f"{bar.measured:.4g}"
        print(f"{bar.verdict:12}  {bar.what}: {shown} {bar.unit} (bar {'<=' if bar.at_most else '>='} {bar.bar:g})")
    print(f"{machine['seconds']} s; written to {folder}/gpu.md and gpu.json")


def installed(package: str) -> str:
    """Its version, or that it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
