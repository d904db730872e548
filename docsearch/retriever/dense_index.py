"""Dense vectors in FAISS: the nearest rows, only those that may appear. The only module that knows FAISS.

The kind of index follows from the size. Half floats, scanned whole and exact, as long as that takes a millisecond or
two. Then codes of 4 bits for every few dimensions, scanned whole by table look-ups in registers; the best are scored
again, exactly, with the dense vectors themselves. Beyond millions of rows only the nearest lists are scanned.

Sources: André, Kermarrec & Le Scouarnec 2017, "Accelerated nearest neighbor search with Quick ADC"; Douze et al. 2024,
"The Faiss library".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

FLAT = "SQfp16"
_FLAT_NUMBERS = 8_000_000  # rows times dimensions that are scanned as half floats
_SOON_ADDED = 1_000_000  # rows times dimensions
_MOST_CODES = 256  # a row: 128 bytes
_IVF_ROWS, _LISTS, _PROBED = 5_000_000, 1024, 64
_TRAINED_WITH = 16_384  # rows; lists want 40 each
_OVERFETCH, _RESCORED = 5, 2000  # so many times what is asked for is scored again, as long as it is not more than this
_FEW = 100  # when fewer than one row in so many may appear, they are scored exactly: codes would be read for nothing
_BLOCK = 16_384  # rows turned into floats at a time

Dense = Callable[[NDArray[np.int64]], NDArray[np.float16]]  # (n,) rows of the snapshot -> (n, E) their dense vectors
Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # rows with their inner products


def kind_for(rows: int, dim: int) -> str:
    """What FAISS's factory calls the index that suits so many rows of so many dimensions."""
    if rows * dim <= _FLAT_NUMBERS:
        return FLAT
    codes = max(m for m in range(1, max(1, min(_MOST_CODES, dim // 2)) + 1) if dim % m == 0)
    return f"PQ{codes}x4fs" if rows < _IVF_ROWS else f"IVF{_LISTS},PQ{codes}x4fs"


def is_soon_added(rows: int, dim: int) -> bool:
    """Whether a reader had better add so many rows by itself than wait for a file to be written: some milliseconds."""
    return rows * dim <= _SOON_ADDED


class DenseIndex:
    """An index of consecutive rows of a snapshot. Threads and readers may share it, as long as nothing is added."""

    def __init__(self, index: Any, first: int = 0) -> None:
        """Take a FAISS index of the rows from ``first`` on; see `empty` and `load`."""
        self._index, self._first = index, first
        self._exact = isinstance(index, faiss.IndexScalarQuantizer)
        if isinstance(index, faiss.IndexIVF):
            index.nprobe = _PROBED

    @classmethod
    def empty(cls, first: int, end: int, dim: int, dense: Dense) -> DenseIndex:
        """An index for the rows ``first`` to ``end``, trained on a sample of them where its kind needs that."""
        kind = kind_for(end - first, dim)
        index = faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            wanted = min(40 * _LISTS if kind.startswith("IVF") else _TRAINED_WITH, end - first)
            rows = np.random.default_rng(0).choice(end - first, wanted, replace=False)
            sample = dense(first + np.sort(rows)).astype(np.float32)
            with _one_thread():
                index.train(sample)
        return cls(index, first)

    @classmethod
    def load(cls, data: NDArray[np.uint8]) -> DenseIndex | None:
        """What `data` gave, from row 0 on; None when a newer FAISS wrote it and this one cannot read it."""
        try:
            return cls(faiss.deserialize_index(data))
        except RuntimeError:
            return None

    @property
    def data(self) -> NDArray[np.uint8]:
        """The index as FAISS serializes it."""
        serialized: NDArray[np.uint8] = faiss.serialize_index(self._index)
        return serialized

    @property
    def size(self) -> int:
        """How many rows it holds."""
        return int(self._index.ntotal)

    def add(self, dense: NDArray[np.float16]) -> None:
        """Add the rows that follow, (n, E)."""
        for start in range(0, len(dense), _BLOCK):
            rows = dense[start : start + _BLOCK].astype(np.float32)
            with _one_thread():
                self._index.add(rows)

    def search(self, query: NDArray[np.float32], n: int, chosen: NDArray[np.bool_] | None, dense: Dense) -> Found:
        """At least the nearest n of the chosen rows, or all there are, with their inner products.

        Args:
            query: (E,) float32.
            n: rows wanted.
            chosen: (P,) which rows of the snapshot may appear; None means all.
            dense: gives the (n, E) dense vectors of n rows of the snapshot.
        """
        own = None if chosen is None else chosen[self._first : self._first + self.size]
        n_own = self.size if own is None else int(np.count_nonzero(own))
        n = min(n, n_own)
        if n == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        rows, scores = self._scan(query, n, own) if self._exact else self._scan_codes(query, n, n_own, own, dense)
        return rows + self._first, scores

    def _scan(self, query: NDArray[np.float32], n: int, own: NDArray[np.bool_] | None) -> Found:
        parameters = None
        if own is not None:
            bitmap = np.packbits(own, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))  # type: ignore[call-arg, arg-type]
        return _search(self._index, query, n, parameters)

    def _scan_codes(
        self, query: NDArray[np.float32], n: int, n_own: int, own: NDArray[np.bool_] | None, dense: Dense
    ) -> Found:
        """The codes' best that may appear, scored exactly if they are not too many; the scan can leave nothing out."""
        size = self.size
        wanted = min(n_own, max(n, min(_OVERFETCH * n, _RESCORED)))
        fetched = -(-wanted * size // n_own)
        few = max(2 * wanted, size // _FEW)
        while own is None or n_own > few:
            rows, scores = _search(self._index, query, min(fetched, size), None)
            if own is not None:
                rows, scores = rows[own[rows]], scores[own[rows]]
            if len(rows) >= n:
                rows, scores = rows[:wanted], scores[:wanted]
                return rows, self._inner_products(query, rows, dense) if wanted <= _RESCORED else scores
            if fetched >= size:
                break
            fetched *= 4
        rows = np.arange(size) if own is None else np.flatnonzero(own)
        return rows, self._inner_products(query, rows, dense)

    def _inner_products(self, query: NDArray[np.float32], rows: NDArray[np.int64], dense: Dense) -> NDArray[np.float32]:
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores[block] = dense(self._first + rows[block]).astype(np.float32) @ query
        return scores


def _search(index: Any, query: NDArray[np.float32], n: int, parameters: Any) -> Found:
    with _one_thread():
        scores, rows = index.search(np.ascontiguousarray(query[None], np.float32), n, params=parameters)
    found = rows[0] >= 0
    return rows[0][found], scores[0][found]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep FAISS on this thread: it shares no query out, and training in small steps waits more than it gains."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
