"""What a reader sees: one commit of the index, unchanged until it is closed, whatever is written meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from docsearch.errors import IndexDamaged
from docsearch.store.catalog import Catalog
from docsearch.store.codec import get_codec
from docsearch.store.layout import IndexPaths, Layout
from docsearch.store.segment import Segment
from docsearch.types import PackedVectors

_OPEN_TRIES = 5


class Snapshot:
    """All pages of one commit, numbered by row: segment after segment, in the order they were written.

    Attributes:
        commit: the number of the commit.
        catalog: a connection that goes on seeing this commit.
        segments: the segment files, mapped.
        page_ids: (P,) int64, including rows that are dead.
        live: (P,) bool; a dead row was removed and must not be found.
    """

    def __init__(self, paths: IndexPaths, layout: Layout) -> None:
        """Open the newest commit.

        Raises:
            IndexDamaged: the catalog or a segment it names is not what was written.
        """
        self.paths, self.layout = paths, layout
        self.codec = get_codec(layout.codec)
        for tries_left in reversed(range(_OPEN_TRIES)):
            self.catalog = Catalog(paths.catalog)
            try:
                self.commit = self.catalog.pin()
                self.segments = [self._open_segment(segment_id) for segment_id in self.catalog.segment_ids()]
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
        if not len(page_ids) or not len(self._sorted_ids):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self._sorted_ids, page_ids), len(self._sorted_ids) - 1)
        rows: NDArray[np.int64] = self._sorted_rows[at[self._sorted_ids[at] == page_ids]]
        return rows

    def gather(self, rows: NDArray[np.int64]) -> PackedVectors:
        """The coded token vectors of some rows, packed in the given order.

        The files are read in their own order, and the system is told first what will be read: on a cold disk that is
        many times faster than taking page faults one by one.
        """
        places = [(int(self._segment_of[row]), int(self._row_in_segment[row])) for row in rows]
        for segment, row in sorted(places):
            self.segments[segment].will_need(row)
        spans = [tuple(self.segments[segment].offsets[row : row + 2]) for segment, row in places]
        width = self.codec.row_bytes(self.layout.token_dim)
        offsets = np.concatenate([[0], np.cumsum([end - start for start, end in spans], dtype=np.int64)])
        codes = np.empty((offsets[-1], width), np.uint8)
        for place in sorted(range(len(places)), key=places.__getitem__):
            start, end = spans[place]
            codes[offsets[place] : offsets[place + 1]] = self.segments[places[place][0]].codes[start:end]
        scales = np.array([self.segments[segment].scales[row] for segment, row in places], np.float32)
        return PackedVectors(codes, scales, offsets.astype(np.int64), self.codec)

    def boxes(self, row: int) -> NDArray[np.uint16]:
        """(T, 4) boxes of one page's token vectors."""
        segment = self.segments[self._segment_of[row]]
        start, end = segment.offsets[self._row_in_segment[row] : self._row_in_segment[row] + 2]
        boxes: NDArray[np.uint16] = segment.boxes[start:end]
        return boxes

    def tokens(self, row: int) -> NDArray[np.float32]:
        """(T, D) token vectors of one page, decoded."""
        packed = self.gather(np.array([row]))
        tokens: NDArray[np.float32] = packed.codec.decode(packed.codes, self.layout.token_dim) * packed.scales[0]
        return tokens

    def _open_segment(self, segment_id: int) -> Segment:
        return Segment(
            self.paths.segment(segment_id),
            segment_id,
            self.codec,
            token_dim=self.layout.token_dim,
            dense_dim=self.layout.dense_dim,
        )

    def _number_rows(self) -> None:
        sizes = [len(segment.page_ids) for segment in self.segments]
        first_row = dict(zip(self.catalog.segment_ids(), np.cumsum([0, *sizes]), strict=False))
        self.page_ids = np.concatenate([np.empty(0, np.int64), *(segment.page_ids for segment in self.segments)])
        self._segment_of = np.repeat(np.arange(len(sizes)), sizes)
        self._row_in_segment = np.concatenate([np.empty(0, np.int64), *(np.arange(size) for size in sizes)])
        self.live = np.ones(len(self.page_ids), bool)
        try:
            for segment_id, row in self.catalog.dead_rows():
                self.live[first_row[segment_id] + row] = False
        except (KeyError, IndexError) as error:
            remedy = "run `docsearch verify --repair`, then index the same files again"
            raise IndexDamaged(self.paths.catalog, "it names a row that no segment has", remedy) from error
        order = np.argsort(self.page_ids[self.live], kind="stable")
        self._sorted_rows = self.live_rows[order]
        self._sorted_ids = self.page_ids[self._sorted_rows]


def _missing(error: FileNotFoundError) -> IndexDamaged:
    remedy = "run `docsearch verify --repair`, then index the same files again"
    return IndexDamaged(Path(str(error.filename)), "the file is missing", remedy)
