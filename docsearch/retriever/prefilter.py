"""Which pages are worth scoring: those with the dense vectors nearest to the query's.

A snapshot's rows are in two indexes (`docsearch.retriever.dense_index`) that never change, so readers share them and no
lock is needed: one is a file written after indexing, the other holds the rows that came since and is made in memory.
The file is a convenience: what is missing, damaged or behind is rebuilt from the segments.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from docsearch.retriever.dense_index import FLAT, DenseIndex, is_soon_added, kind_for
from docsearch.retriever.prefilter_file import Header, PrefilterFile, check_prefilter_file, newest_file, pack
from docsearch.store.layout import write_synced
from docsearch.store.snapshot import Snapshot
from docsearch.types import QueryVectors

__all__ = ["DensePrefilter", "check_prefilter_file"]

_GROWTH = 10  # times as many rows as when the codes were trained: train again
_LOG = logging.getLogger(__name__)
_training = threading.Lock()  # one training at a time in a process


class DensePrefilter:
    """Finds the pages whose dense vector is nearest to the query's. Opening costs nothing; the first query loads."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._dim = snapshot, snapshot.layout.dense_dim
        self._live: NDArray[np.bool_] | None = None if snapshot.live.all() else snapshot.live
        self._opening = threading.Lock()
        self._opened: list[DenseIndex] | None = None

    @cached_property
    def _segments(self) -> list[tuple[int, int]]:
        """What the rows are: the segments, and the checksums of their dense vectors."""
        return [(segment.segment_id, segment.checksum("dense")) for segment in self._snapshot.segments]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """The row before which each segment begins, and the number of rows."""
        return np.cumsum([0, *(len(segment.page_ids) for segment in self._snapshot.segments)])

    def candidates(self, query: QueryVectors, n: int, *, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """The nearest rows, best first: as many as are asked for, or all that may appear.

        Args:
            query: its dense vector is used.
            n: rows wanted. Up to 400 a large index finds nearly all of the exact nearest (see `_OVERFETCH`); a longer
                list is of the nearest as the codes see them.
            allowed: (P,) which rows may appear; None means every live one.
        """
        chosen = self._live if allowed is None else allowed
        n = min(n, len(self._snapshot.live) if chosen is None else int(np.count_nonzero(chosen)))
        if n <= 0:
            return np.empty(0, np.int64)
        found = [index.search(query.dense, n, chosen, self._snapshot.dense) for index in self._indexes()]
        rows, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        nearest: NDArray[np.int64] = rows[np.lexsort((rows, -scores))[:n]]
        return nearest

    def save(self, folder: Path, commit: int) -> threading.Thread | None:
        """Write for the next reader what it would have to build otherwise; for the writer only.

        Nothing is written while few rows are missing in the file. A small index is written at once. A large one is
        written in the background, for its codes may have to be trained: the thread is returned, ends by itself, and is
        waited for when the process ends. Readers go on with what they have.
        """
        rows = len(self._snapshot.live)
        if not rows:
            return None
        kind = kind_for(rows, self._dim)
        file = newest_file(folder, self._segments)
        if file and (file.header.kind != kind or rows >= _GROWTH * file.header.trained_on):
            file = None
        if file and is_soon_added(rows - int(self._ends[len(file.header.segments)]), self._dim):
            return None
        if kind == FLAT:
            self._write(folder, commit, file)
            return None
        if not _training.acquire(blocking=False):
            return None  # the next call after it will do
        thread = threading.Thread(target=self._write_in_background, args=(folder, commit, file), name="prefilter")
        thread.start()
        return thread

    def _indexes(self) -> list[DenseIndex]:
        with self._opening:
            if self._opened is None:
                file = newest_file(self._snapshot.paths.prefilter, self._segments)
                written = _load(file) if file else None
                covered = len(file.header.segments) if file and written else 0
                opened = [written] if written else []
                if covered < len(self._segments):
                    opened.append(self._build(covered))
                self._opened = opened
            return self._opened

    def _write_in_background(self, folder: Path, commit: int, file: PrefilterFile | None) -> None:
        try:
            self._write(folder, commit, file)
        except OSError as error:  # a full disk: every reader can do without the file
            _LOG.warning("the prefilter could not be saved in %s: %s", folder, error)
        finally:
            _training.release()

    def _write(self, folder: Path, commit: int, file: PrefilterFile | None) -> None:
        """Write an index of all rows, the file's with those that came since or a new one; the others go."""
        index, trained_on = DenseIndex.load(file.index) if file else None, int(self._ends[-1])
        if file and index:
            self._add(index, len(file.header.segments))
            trained_on = file.header.trained_on
        else:
            index = self._build(0)
        header = Header(self._segments, kind_for(int(self._ends[-1]), self._dim), trained_on)
        target = folder / f"{commit:08d}.faiss"
        write_synced(target, pack(header, index.data))
        for path in folder.iterdir():
            if path != target:
                with suppress(PermissionError):  # Windows, and a reader has it open: it goes the next time
                    path.unlink(missing_ok=True)

    def _build(self, first_segment: int) -> DenseIndex:
        """An index of the rows of all segments from this one on, of the kind that suits their number."""
        first, end = int(self._ends[first_segment]), int(self._ends[-1])
        index = DenseIndex.empty(first, end, self._dim, self._snapshot.dense)
        self._add(index, first_segment)
        return index

    def _add(self, index: DenseIndex, first_segment: int) -> None:
        for segment in self._snapshot.segments[first_segment:]:
            index.add(segment.dense)


# What files hold, by their keys, as long as a reader uses it.
_in_use: WeakValueDictionary[tuple[Path, int, int], DenseIndex] = WeakValueDictionary()


def _load(file: PrefilterFile) -> DenseIndex | None:
    """What a file holds, read once however many readers there are; None when FAISS cannot read it."""
    index = _in_use.get(file.key) or DenseIndex.load(file.index)
    if index:
        _in_use[file.key] = index
    return index
