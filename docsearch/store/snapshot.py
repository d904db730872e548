"""What a reader sees: one commit of the index, unchanged until it is closed, whatever is written meanwhile."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from docsearch.errors import IndexDamaged
from docsearch.store.catalog import Catalog
from docsearch.store.codec import get_codec
from docsearch.store.layout import IndexPaths, Layout
from docsearch.store.segment import Segment
from docsearch.store.sketch import SKETCH_CODEC, sketch_lengths
from docsearch.types import PackedVectors

_OPEN_TRIES = 5
_REMEMBERED = 60.0  # seconds a page is taken to stay in the system's memory


class _Part(NamedTuple):
    """The rows of one segment among some rows: at which places of those, and which they are."""

    segment: Segment
    places: slice | NDArray[np.int64]
    rows: NDArray[np.int64]


class Snapshot:
    """All pages of one commit, numbered by row: segment after segment, in the order they were written.

    Attributes:
        commit: the number of the commit.
        catalog: a connection that goes on seeing this commit.
        segments: the segment files, mapped.
        live: (P,) bool; a dead row was removed and must not be found.
    """

    def __init__(self, paths: IndexPaths, layout: Layout) -> None:
        """Open the newest commit.

        Raises:
            IndexDamaged: the catalog or a segment it names is not what was written.
        """
        self.paths, self.layout = paths, layout
        self.codec = get_codec(layout.codec)
        self._forgets_at = 0.0
        self._read_blocks: NDArray[np.bool_]
        self._read_sketches: NDArray[np.bool_]
        for tries_left in reversed(range(_OPEN_TRIES)):
            self.catalog = Catalog(paths.catalog)
            try:
                self.commit = self.catalog.pin()
                self.segments = [self._open_segment(*segment) for segment in self.catalog.segments()]
                self._number_rows()
                break
            except FileNotFoundError as error:
                self.catalog.close()
                if tries_left == 0:  # not a compaction that overtook us: the file is really not there
                    raise _missing(error) from error
            except BaseException:
                self.catalog.close()
                raise

    def close(self) -> None:
        """Let go of the catalog; the mapped files go when nothing refers to them any more."""
        self.catalog.close()

    def __len__(self) -> int:
        return int(self.live.sum())

    @property
    def live_rows(self) -> NDArray[np.int64]:
        """The rows that can be found."""
        return np.flatnonzero(self.live)

    def rows_of(self, page_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The live rows among the pages with these ids, in their order; unknown and dead pages are left out."""
        ids, rows = self._by_id
        if not len(page_ids) or not len(ids):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(ids, page_ids), len(ids) - 1)
        found: NDArray[np.int64] = rows[at[ids[at] == page_ids]].astype(np.int64)
        return found

    def ids_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The page ids of some rows, in the given order."""
        ids = np.empty(len(rows), np.int64)
        for segment, places, here in self._by_segment(rows)[1]:
            ids[places] = segment.page_ids[here]
        return ids

    def gather(self, rows: NDArray[np.int64]) -> PackedVectors:
        """The coded token vectors of some rows, in the given order, where they lie: nothing is read here.

        The system is told first what will be read: on a cold disk that is a hundred times faster than taking page
        faults one by one.
        """
        starts, lengths = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        scales = np.empty(len(rows), np.float32)
        which, parts = self._by_segment(rows)
        for segment, chosen, here in parts:
            starts[chosen], lengths[chosen] = segment.starts[here], segment.lengths(here)
            scales[chosen] = segment.scales[here]
        self._announce(rows, self._read_blocks, sketches=False)
        buffers = tuple(segment.blocks for segment in self.segments)
        return PackedVectors(buffers, which, starts, lengths, scales, self.codec, self.layout.token_dim)

    @property
    def has_sketches(self) -> bool:
        """Whether every page has one: those written by the first format have not."""
        return all(segment.sketches is not None for segment in self.segments)

    def gather_sketches(self, rows: NDArray[np.int64]) -> PackedVectors:
        """The sketches of some rows, in the given order, where they lie; only if the snapshot `has_sketches`."""
        starts, lengths = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        which, parts = self._by_segment(rows)
        for segment, chosen, here in parts:
            starts[chosen], lengths[chosen] = segment.sketch_starts[here], segment.lengths(here)
        lengths = sketch_lengths(lengths)
        self._announce(rows, self._read_sketches, sketches=True)
        buffers = tuple(segment.sketches for segment in self.segments if segment.sketches is not None)
        scales = np.ones(len(rows), np.float32)
        return PackedVectors(buffers, which, starts, lengths, scales, SKETCH_CODEC, self.layout.token_dim)

    def dense(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """(n, E) float16 dense vectors of some rows, in the given order."""
        dense = np.empty((len(rows), self.layout.dense_dim), np.float16)
        for segment, chosen, here in self._by_segment(rows)[1]:
            dense[chosen] = segment.dense[here]
        return dense

    def boxes(self, row: int) -> NDArray[np.uint16]:
        """(T, 4) boxes of one page's token vectors."""
        segment, _, here = self._by_segment(np.array([row]))[1][0]
        return segment.page_boxes(int(here[0]))

    def tokens(self, row: int) -> NDArray[np.float32]:
        """(T, D) token vectors of one page, decoded."""
        return self.gather(np.array([row])).decode(0)

    def _by_segment(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[_Part]]:
        """The number of each row's segment, and what is wanted of each segment that occurs.

        Rows in ascending order, as candidates mostly are, are the fast case: their places are slices.
        """
        which = np.searchsorted(self._first_rows, rows, side="right") - 1
        order = None if (which[1:] >= which[:-1]).all() else np.argsort(which, kind="stable")
        local = rows - self._first_rows[which]
        numbers, firsts = np.unique(which if order is None else which[order], return_index=True)
        ends = [*firsts.tolist()[1:], len(rows)][: len(firsts)]
        parts = []
        for number, first, end in zip(numbers.tolist(), firsts.tolist(), ends, strict=True):
            places = slice(first, end) if order is None else order[first:end]
            parts.append(_Part(self.segments[number], places, local[places]))
        return which, parts

    def _announce(self, rows: NDArray[np.int64], known: NDArray[np.bool_], *, sketches: bool) -> None:
        """Tell the system what will be read, unless this reader has read it lately: then it lies in memory."""
        if time.monotonic() > self._forgets_at:
            self._forgets_at = time.monotonic() + _REMEMBERED
            self._read_blocks[:] = self._read_sketches[:] = False
        fresh = np.sort(rows[~known[rows]])
        if not len(fresh):
            return
        known[fresh] = True
        for segment, _, here in self._by_segment(fresh)[1]:
            segment.will_need(here, sketches=sketches)

    def _open_segment(self, segment_id: int, n_pages: int) -> Segment:
        return Segment(
            self.paths.segment(segment_id),
            segment_id,
            self.codec,
            token_dim=self.layout.token_dim,
            dense_dim=self.layout.dense_dim,
            n_pages=n_pages,
        )

    def _number_rows(self) -> None:
        sizes = [n_pages for _, n_pages in self.catalog.segments()]
        self._first_rows = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        first_row = dict(zip((segment.segment_id for segment in self.segments), self._first_rows, strict=False))
        self.live = np.ones(sum(sizes), bool)
        self._read_blocks, self._read_sketches = np.zeros((2, len(self.live)), bool)
        try:
            for segment_id, row in self.catalog.dead_rows():
                self.live[first_row[segment_id] + row] = False
        except (KeyError, IndexError) as error:
            remedy = "run `docsearch verify --repair`, then index the same files again"
            raise IndexDamaged(self.paths.catalog, "it names a row that no segment has", remedy) from error

    @property
    def page_ids(self) -> NDArray[np.int64]:
        """(P,) int64, including rows that are dead; read each time it is asked for."""
        return np.concatenate([np.empty(0, np.int64), *(segment.page_ids for segment in self.segments)])

    @cached_property
    def _by_id(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The ids of the live pages in ascending order, and their rows."""
        rows = self.live_rows
        ids = self.page_ids[rows]
        order = np.argsort(ids, kind="stable")
        return ids[order], rows[order].astype(np.int32)


def _missing(error: FileNotFoundError) -> IndexDamaged:
    remedy = "run `docsearch verify --repair`, then index the same files again"
    return IndexDamaged(Path(str(error.filename)), "the file is missing", remedy)
