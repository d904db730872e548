"""How long 100 pages take that are on the disk and not in memory.

    python benchmarks/cold_reads.py            # 1.5 GiB of files for the time; --quick: 0.4 GiB

An index of r4 pages of 700 token vectors: blocks of 46 KiB in segment files of 190 MiB. Before every reading the system
is asked to forget the blocks (`posix_fadvise`, DONTNEED), and it is checked that it did; what an open index keeps in
memory, where each page lies, stays there. Waiting time, in turns, medians. Faulting a plain map is what reading a
mapped file does when nobody tells the system beforehand: every fault reads a window around the page, as large as the
disk's read-ahead setting. Ours is `Snapshot.gather`, then reading the blocks.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from made_up import made_up
from numpy.typing import NDArray
from report import Section, at_least, plot_columns, table

from docsearch.kernels import maxsim
from docsearch.store.catalog import Catalog
from docsearch.store.layout import IndexPaths, Layout, create_folders
from docsearch.store.segment import merge_segments
from docsearch.store.snapshot import Snapshot
from docsearch.store.writer import IndexWriter
from docsearch.types import PackedVectors, PageRef, PageVectors, RenderedPage

WANTED, TOKENS, DIM = 100, 700, 128
PAGES_A_SEGMENT, COPIES = 4096, 16


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pages and rounds")
    parser.add_argument("--folder", type=Path, help="where the files go: a folder on the disk to be measured")
    arguments = parser.parse_args()
    print(run(quick=arguments.quick, folder=arguments.folder).markdown())


def run(*, quick: bool, folder: Path | None = None) -> Section:
    """Read the same number of random pages in every way, in turns."""
    section = Section("Cold reads", "python benchmarks/cold_reads.py" + " --quick" * quick)
    if not hasattr(os, "posix_fadvise"):
        section.add("Not measured: this system cannot be asked to forget a file.")
        section.bars.append(at_least("100 cold pages against faulting a plain map", 20, None))
        return section
    n_segments, rounds = (2, 3) if quick else (8, 9)
    made = made_up(n_pages=64, n_queries=1, n_tokens=TOKENS, dim=DIM)
    with tempfile.TemporaryDirectory(dir=folder) as made_folder:
        cold = Cold(Path(made_folder), made.pages.astype(np.float32), n_segments)
        ways: dict[str, Callable[[NDArray[np.int64]], Any]] = {
            "faulting a plain map": cold.fault,
            "faulting a map with MADV_RANDOM": cold.fault_randomly,
            "reading each block, one thread": cold.read,
            "reading each block, 8 threads": cold.read_in_threads,
            "ours: advised, then read from the map": cold.advised,
            "ours, advised and scored": lambda rows: maxsim(made.queries[0], cold.snapshot.gather(rows)),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        read: dict[str, list[float]] = {name: [] for name in ways}
        random = np.random.default_rng(2)
        for _ in range(rounds):
            for name in random.permutation(list(ways)).tolist():
                rows = random.choice(len(cold.snapshot), WANTED, replace=False)
                cold.forget()
                started = time.perf_counter()
                ways[name](rows)
                taken[name].append(1000 * (time.perf_counter() - started))
                read[name].append(cold.resident() / 2**20)
    ms = {name: statistics.median(times) for name, times in taken.items()}
    plain, *_, ours, _ = ms
    section.add(table(
        [f"{WANTED} random cold pages", "ms", "x plain", "MiB read"],
        [[way, f"{ms[way]:.1f}", f"{ms[plain] / ms[way]:.1f}", f"{statistics.median(read[way]):.1f}"] for way in ms],
    ))  # fmt: skip
    section.add(f"Read-ahead of the disk: {cold.read_ahead}.")
    section.bars.append(at_least("100 cold pages against faulting a plain map", 20, ms[plain] / ms[ours]))
    section.plots.append(plot_columns("cold-reads", ms, y="ms", title=f"{WANTED} random cold pages", log_y=True))
    return section


class Cold:
    """An index that can be forgotten, and the ways to read it."""

    def __init__(self, folder: Path, pages: NDArray[np.float32], n_segments: int) -> None:
        """Fill a small segment with the pages, and large ones with copies of it: what they hold does not matter."""
        paths = IndexPaths(folder / "index")
        layout = Layout(encoder="none", fingerprint="none", token_dim=DIM, dense_dim=8, codec="r4")
        create_folders(paths)
        Catalog.create(paths.catalog)
        boxes, dense = np.zeros((TOKENS, 4), np.uint16), np.full(8, 8**-0.5, np.float32)
        with IndexWriter(paths, layout) as writer:
            for number in range(PAGES_A_SEGMENT // COPIES):
                page = RenderedPage(ref=PageRef("0" * 64, number + 1))
                writer.add_page(page, PageVectors(pages[number % len(pages)], dense, boxes))
            writer.commit()
            first = Snapshot(paths, layout).segments[0]
            for _ in range(n_segments):
                number = writer.catalog.next_segment_id()
                whole = [(first, np.arange(len(first.page_ids)))] * COPIES
                size = merge_segments(paths.segment(number), number, whole, first.codec)
                with writer.catalog.transaction():
                    writer.catalog.add_segment(number, PAGES_A_SEGMENT, size)
        self._open: Callable[[], Snapshot] = lambda: Snapshot(paths, layout)
        self.snapshot = known = self._open()
        self._files = [segment.path.open("rb") for segment in known.segments]
        self._maps = [segment._map for segment in known.segments]  # noqa: SLF001 - what it maps is asked below
        self._packed = known.gather(known.live_rows)
        self._sizes = self._packed.lengths * (self._packed.codec.row_bytes(DIM) + 2)
        self._begins = [
            blocks.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
            for blocks, mapped in zip(self._packed.buffers, self._maps, strict=True)
        ]
        self._threads = ThreadPoolExecutor(8)
        device = folder.stat().st_dev
        setting = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/read_ahead_kb")
        self.read_ahead = f"{setting.read_text().strip()} KiB" if setting.exists() else "not known"

    def forget(self) -> None:
        """Take the blocks out of memory, and open the index again: a reader does not announce twice what it has read.

        Raises:
            RuntimeError: they stayed.
        """
        self.snapshot.close()
        self.snapshot = self._open()
        for file, mapped, begin, blocks in zip(
            self._files, self._maps, self._begins, self._packed.buffers, strict=True
        ):
            mapped.madvise(mmap.MADV_DONTNEED)
            os.posix_fadvise(file.fileno(), begin, len(blocks), os.POSIX_FADV_DONTNEED)
        if self.resident() > 2**20:
            message = "the files stay in memory (a memory file system?): name a folder on a disk with --folder"
            raise RuntimeError(message)

    def resident(self) -> int:
        """Bytes of the blocks that are in memory now."""
        total = 0
        for blocks in self._packed.buffers:
            address = -(-blocks.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE  # the first whole memory page
            n_pages = (blocks.ctypes.data + len(blocks) - address) // mmap.PAGESIZE
            pages = np.zeros(n_pages, np.uint8)
            sizes = ctypes.c_void_p(address), ctypes.c_size_t(n_pages * mmap.PAGESIZE)
            if ctypes.CDLL(None).mincore(*sizes, ctypes.c_void_p(pages.ctypes.data)):
                message = "mincore failed"
                raise OSError(message)
            total += int((pages & 1).sum()) * mmap.PAGESIZE
        return total

    def fault(self, rows: NDArray[np.int64]) -> int:
        """Touch every memory page of the blocks in the order asked for."""
        return sum(touch(self._packed, row) for row in rows.tolist())

    def fault_randomly(self, rows: NDArray[np.int64]) -> int:
        """The same, when the system knows that nothing beside them will be needed."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_RANDOM)
        total = self.fault(rows)
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_NORMAL)
        return total

    def advised(self, rows: NDArray[np.int64]) -> int:
        """As a search reads."""
        packed = self.snapshot.gather(rows)
        return sum(touch(packed, at) for at in range(len(rows)))

    def read(self, rows: NDArray[np.int64]) -> int:
        """Copy block after block in the order of the files."""
        return sum(map(self._copy, np.sort(rows).tolist()))

    def read_in_threads(self, rows: NDArray[np.int64]) -> int:
        """The same with 8 requests under way."""
        return sum(self._threads.map(self._copy, np.sort(rows).tolist()))

    def _copy(self, row: int) -> int:
        which = self._packed.which[row]
        begin = self._begins[which] + int(self._packed.starts[row])
        return len(os.pread(self._files[which].fileno(), int(self._sizes[row]), begin))


def touch(packed: PackedVectors, page: int) -> int:
    """Read a byte of every memory page of a block."""
    size = int(packed.lengths[page]) * (packed.codec.row_bytes(DIM) + 2)
    block = packed.buffers[packed.which[page]][packed.starts[page] :][:size]
    return int(block[:: mmap.PAGESIZE].sum()) + int(block[-1])


if __name__ == "__main__":
    main()
