"""Dense vectors in FAISS: which pages are worth scoring. The only module that knows FAISS.

A flat index of half floats by inner product: exact, and fast enough into the hundred thousands of pages. Its file is
a convenience, rebuilt from the segments whenever it is missing, damaged or behind.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from docsearch.errors import IndexDamaged
from docsearch.store.layout import write_synced
from docsearch.store.snapshot import Snapshot
from docsearch.types import QueryVectors

_MAGIC = b"DSPREFLT"
_PREFIX = struct.Struct("<8sII")  # magic, length of the JSON header, CRC-32 of all that follows
_LOG = logging.getLogger(__name__)


class FlatPrefilter:
    """Finds the pages whose dense vector is nearest to the query's."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Load the snapshot's FAISS index, or build what is missing of it from the segments."""
        self._live: NDArray[np.bool_] | None = None if snapshot.live.all() else snapshot.live
        self._segments = [(segment.segment_id, segment.checksum("dense")) for segment in snapshot.segments]
        self._index, covered = _load_newest(snapshot.paths.prefilter, self._segments, snapshot.layout.dense_dim)
        for segment in snapshot.segments[covered:]:
            self._index.add(segment.dense.astype(np.float32))
        self._complete_on_disk = covered == len(self._segments) and covered > 0

    def candidates(self, query: QueryVectors, n: int, *, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """The n nearest rows, best first; ``allowed`` (P,) says which rows may appear, None means every live one."""
        if self._index.ntotal == 0:
            return np.empty(0, np.int64)
        chosen = self._live if allowed is None else allowed
        parameters = None
        if chosen is not None:
            n = min(n, int(chosen.sum()))
            bitmap = np.packbits(chosen, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))  # type: ignore[call-arg, arg-type]
        if n == 0:
            return np.empty(0, np.int64)
        _, rows = self._index.search(query.dense[None], min(n, self._index.ntotal), params=parameters)
        found: NDArray[np.int64] = rows[0][rows[0] >= 0]
        return found

    def save(self, folder: Path, commit: int) -> None:
        """Write the index for the next reader, unless the file is there; removes older ones. For the writer only."""
        if self._complete_on_disk or not self._segments:
            return
        header = json.dumps({"segments": self._segments}).encode()
        body = header + faiss.serialize_index(self._index).tobytes()
        target = folder / f"{commit:08d}.faiss"
        write_synced(target, _PREFIX.pack(_MAGIC, len(header), zlib.crc32(body)) + body)
        for path in folder.iterdir():
            if path != target:
                path.unlink(missing_ok=True)


def check_prefilter_file(path: Path) -> None:
    """Read one file and compare its checksum.

    Raises:
        IndexDamaged: it is not what was written.
    """
    _read(path)


def _load_newest(folder: Path, segments: list[tuple[int, int]], dense_dim: int) -> tuple[Any, int]:
    """The newest usable index, and how many of the segments it covers; an empty one covering none if there is none."""
    for path in sorted(folder.glob("*.faiss"), reverse=True):
        try:
            header, blob = _read(path)
        except FileNotFoundError:  # a writer replaced it
            continue
        except IndexDamaged as damage:
            _LOG.warning("%s", damage)
            continue
        covered = [tuple(segment) for segment in header["segments"]]
        if covered == segments[: len(covered)]:
            index = faiss.deserialize_index(np.frombuffer(blob, np.uint8))
            if index.d == dense_dim:
                return index, len(covered)
    return faiss.IndexScalarQuantizer(dense_dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT), 0


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    remedy = "nothing is lost: it is rebuilt from the segments, and written anew by the next `docsearch index`"
    if len(data) < _PREFIX.size:
        raise IndexDamaged(path, "it is cut off", remedy)
    magic, length, crc = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if magic != _MAGIC or zlib.crc32(body) != crc:
        raise IndexDamaged(path, "its checksum is wrong", remedy)
    header: dict[str, Any] = json.loads(body[:length])
    return header, body[length:]
