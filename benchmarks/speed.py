"""How fast docsearch indexes and answers, and what it needs, on one machine.

    python shared-bench/build.py bench-data           # or any folder of PDFs with a text layer
    python benchmarks/speed.py bench-data/full        # all parts; --part indexing|memory|latency for one

indexing   pages per second end to end (render, encode, store, commit) and CPU seconds per page, by size of file
memory     peak resident memory of the process and of its rendering workers on a 1,000-page PDF
latency    p50 and p95 of a query at 1,000 and 10,000 pages. Beyond the pages at hand they are replicas: the same words,
           their token vectors turned by noise (5 degrees), so that every page is another one of the same kind
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pymupdf

from docsearch import Index
from docsearch.encoders import load_encoder
from docsearch.indexer.pool import RenderJob, RenderPool
from docsearch.store.catalog import Catalog
from docsearch.types import PageRef, PageVectors, RenderedPage

QUERIES = [
    "how do I undo the last change?", "operator precedence table", "which licence applies to the source files",
    "memory allocation error", "Wie baue ich ein Paket?", "mettre des paroles sous les notes", "configure the network",
    "exception handling in constructors", "list of supported file formats", "plotting a histogram", "proof obligations",
    "what is the default value of the timeout?", "inherit from two classes", "upgrade to a new upstream version",
    "translate messages into other languages", "read a file line by line", "supervision tree", "metronome marks",
    "how are residuals shaded", "sparse matrix multiplication",
]  # fmt: skip


def main() -> None:
    """Run the parts asked for and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pdfs", type=Path, help="a folder of PDFs with a text layer")
    parser.add_argument("--part", choices=["indexing", "memory", "latency"], action="append")
    arguments = parser.parse_args()
    for part in arguments.part or ["indexing", "memory", "latency"]:
        {"indexing": measure_indexing, "memory": measure_memory, "latency": measure_latency}[part](arguments.pdfs)


def measure_indexing(pdfs: Path) -> None:
    """Index the folder once, as a user would."""
    load_encoder("words")  # its files are in the page cache afterwards, as on a user's second run
    with tempfile.TemporaryDirectory() as folder, Index.open(Path(folder) / "index", create=True) as index:
        with peak_memory() as peak:
            cpu = cpu_seconds()
            report = index.add(pdfs)
            cpu = cpu_seconds() - cpu
        stats = index.stats()
    print(f"indexing: {report.pages} pages ({report.ocr_pages} by OCR) in {report.seconds:.1f} s")
    print(f"  {report.pages / report.seconds:.2f} pages/s end to end, {cpu / report.pages:.3f} CPU s/page")
    print(f"  {stats['token_vectors'] / stats['pages']:.0f} token vectors/page, {stats['bytes_per_page']} bytes/page")
    print(f"  peak memory: process {peak['own'] / 2**20:.0f} MB, largest worker {peak['worker'] / 2**20:.0f} MB")


def measure_memory(_: Path) -> None:
    """Index one PDF of 1,000 full pages."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thousand.pdf"
        write_long_pdf(path, 1000)
        with Index.open(Path(folder) / "index", create=True) as index, peak_memory() as peak:
            report = index.add(path)
    print(f"memory: {report.pages} pages of one PDF in {report.seconds:.1f} s")
    print(f"  peak: process {peak['own'] / 2**20:.0f} MB, largest worker {peak['worker'] / 2**20:.0f} MB,")
    print(f"  process and workers together {peak['all'] / 2**20:.0f} MB")


def measure_latency(pdfs: Path) -> None:
    """Ask the same questions of a small and a larger index."""
    pages = real_pages(pdfs, 1000)
    encoder = load_encoder("words")
    for size in (1000, 10_000):
        with tempfile.TemporaryDirectory() as folder, Index.open(Path(folder) / "index", create=True) as index:
            fill(index, pages, size)
            for mode in ("hybrid", "visual", "text"):
                report_latency(index, size, mode)
            vectors = encoder.encode_queries  # the encoder's own share
            print_times(
                f"latency {size:6} pages, encoding the query alone", [timed(vectors, [as_query(q)]) for q in QUERIES]
            )


def report_latency(index: Index, size: int, mode: str) -> None:
    """Print p50 and p95 over the questions, each asked five times after a warm-up."""
    for query in QUERIES:
        index.search(query, mode=mode)
    times = [timed(index.search, query, mode=mode) for _ in range(5) for query in QUERIES]
    print_times(f"latency {size:6} pages, mode {mode}, query to hits", times)


def real_pages(pdfs: Path, n: int) -> list[tuple[RenderedPage, PageVectors]]:
    """The first n pages of the folder that hold at least 50 words, encoded."""
    found: list[RenderedPage] = []
    jobs = (RenderJob(path, path.stem.encode().hex()) for path in sorted(pdfs.rglob("*.pdf")))
    with RenderPool(workers=2, ocr="off") as pool:
        for event in pool.run(jobs):
            if isinstance(event, RenderedPage) and len(event.words.texts) >= 50:
                found.append(event)
            if len(found) == n:
                break
    found.sort(key=lambda page: page.ref)
    encoder = load_encoder("words")
    return list(zip(found, encoder.encode_pages(found), strict=True))


def fill(index: Index, pages: list[tuple[RenderedPage, PageVectors]], size: int) -> None:
    """Write `size` pages: the real ones, then replicas with turned vectors."""
    noise = np.random.default_rng(7)
    with index._write(0) as writer:  # noqa: SLF001 - the same writer that indexing uses
        for at in range(size):
            page, vectors = pages[at % len(pages)]
            copy = at // len(pages)
            if copy:
                doc_id = f"{page.ref.doc_id}{copy:04x}"
                page = replace(page, ref=PageRef(doc_id, page.ref.page_number))
                vectors = PageVectors(turned(vectors.tokens, noise), turned(vectors.dense, noise), vectors.regions)
            writer.add_page(page, vectors)
            writer.change(
                Catalog.put_document, doc_id=page.ref.doc_id, page_count=1, title="", complete=True, indexed_at=""
            )
            writer.change(Catalog.put_file, path=page.ref.doc_id, doc_id=page.ref.doc_id, size=0)
            if writer.buffered_pages == 1000:
                writer.commit()
        writer.commit()
    index.refresh()


def turned(rows: np.ndarray[Any, Any], noise: np.random.Generator) -> np.ndarray[Any, Any]:
    """Unit rows turned by about five degrees each, in random directions."""
    shift = noise.standard_normal(rows.shape).astype(np.float32)
    shift *= np.tan(np.radians(5)) / np.linalg.norm(shift, axis=-1, keepdims=True)
    moved = rows + shift
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def write_long_pdf(path: Path, pages: int) -> None:
    """A PDF of pages filled with text, no two alike."""
    words = [
        "report",
        "harbour",
        "bridge",
        "cable",
        "winter",
        "inspection",
        "joint",
        "of",
        "the",
        "and",
        "its",
        "after",
    ]
    order = np.random.default_rng(3)
    with pymupdf.open() as document:
        for number in range(pages):
            text = " ".join(words[at] + (str(number) if at == 0 else "") for at in order.integers(0, len(words), 450))
            document.new_page().insert_textbox((50, 50, 545, 790), text, fontsize=11)
        document.save(path)


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Resident memory at its highest, sampled every 50 ms: this process, its largest child, and all together."""
    peak = {"own": 0, "worker": 0, "all": 0}
    over = threading.Event()

    def watch() -> None:
        own = psutil.Process()
        while not over.wait(0.05):
            children = []
            for child in own.children(recursive=True):
                try:
                    children.append(child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            rss = own.memory_info().rss
            for key, value in (("own", rss), ("worker", max(children, default=0)), ("all", rss + sum(children))):
                peak[key] = max(peak[key], value)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def cpu_seconds() -> float:
    """CPU time of this process and its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def as_query(text: str) -> Any:
    """A query of that text."""
    from docsearch import Query

    return Query(text)


def timed(function: Any, *arguments: Any, **named: Any) -> float:
    """Seconds one call takes."""
    start = time.perf_counter()
    function(*arguments, **named)
    return time.perf_counter() - start


def print_times(what: str, seconds: list[float]) -> None:
    """One line: median and 95th percentile in milliseconds."""
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    print(f"{what}: p50 {p50:.1f} ms, p95 {p95:.1f} ms")


if __name__ == "__main__":
    main()
