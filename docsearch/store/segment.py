"""Segment files: the vectors of one commit's pages, written once, checksummed, mapped when read.

Layout of a file, all numbers little-endian:

    bytes 0-7     magic "DSSEGMNT"
    bytes 8-15    version (uint32), length of the header (uint32)
    bytes 16-19   CRC-32 of the header
    header        JSON: {"segment_id", "codec", "sections": {name: {"dtype", "shape", "offset", "crc32"}}}
    sections      each starting at a multiple of 64 bytes

Sections for P pages with V token vectors: `page_ids` (P,) int64, `offsets` (P + 1,) int64, `scales` (P,) float32,
`dense` (P, E) float16, `boxes` (V, 4) uint16, `codes` (V, B) uint8.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docsearch.errors import IndexDamaged
from docsearch.protocols import Codec
from docsearch.store.layout import sync_folder
from docsearch.types import PageVectors

MAGIC, VERSION = b"DSSEGMNT", 1
_PREFIX = struct.Struct("<8sIII")
_ALIGNMENT = 64
_DTYPES = {"page_ids": "<i8", "offsets": "<i8", "scales": "<f4", "dense": "<f2", "boxes": "<u2", "codes": "|u1"}
_STRUCTURE = ("page_ids", "offsets", "scales")  # small, and what every read relies on: checked when opened


def write_segment(path: Path, segment_id: int, pages: Sequence[tuple[int, PageVectors]], codec: Codec) -> int:
    """Write and sync one segment; it becomes part of the index when the catalog says so.

    Args:
        path: the file to write.
        segment_id: recorded in the file, so that a file under a wrong name is noticed.
        pages: (page id, vectors) in the order of their rows.
        codec: how the token vectors are stored.

    Returns:
        The size of the file in bytes.
    """
    coded = [codec.encode(vectors.tokens) for _, vectors in pages]
    lengths = [len(vectors.tokens) for _, vectors in pages]
    sections: dict[str, NDArray[Any]] = {
        "page_ids": np.array([page_id for page_id, _ in pages]),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "scales": np.array([scale for _, scale in coded]),
        "dense": np.stack([vectors.dense for _, vectors in pages]),
        "boxes": np.concatenate([vectors.boxes for _, vectors in pages]),
        "codes": np.concatenate([codes for codes, _ in coded]),
    }
    return _write_sections(path, segment_id, codec.name, sections)


def merge_segments(
    path: Path, segment_id: int, parts: Sequence[tuple[Segment, NDArray[np.int64]]], codec: Codec
) -> int:
    """Write one segment out of the given rows of others, coded as they are; returns its size in bytes."""
    token_rows = [segment.token_rows(rows) for segment, rows in parts]
    lengths = np.concatenate([np.diff(segment.offsets)[rows] for segment, rows in parts])
    sections: dict[str, NDArray[Any]] = {
        "page_ids": np.concatenate([segment.page_ids[rows] for segment, rows in parts]),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "scales": np.concatenate([segment.scales[rows] for segment, rows in parts]),
        "dense": np.concatenate([segment.dense[rows] for segment, rows in parts]),
        "boxes": np.concatenate(
            [segment.boxes[tokens] for (segment, _), tokens in zip(parts, token_rows, strict=True)]
        ),
        "codes": np.concatenate(
            [segment.codes[tokens] for (segment, _), tokens in zip(parts, token_rows, strict=True)]
        ),
    }
    return _write_sections(path, segment_id, codec.name, sections)


def _write_sections(path: Path, segment_id: int, codec: str, sections: dict[str, NDArray[Any]]) -> int:
    arrays = {name: np.ascontiguousarray(array, _DTYPES[name]) for name, array in sections.items()}
    table: dict[str, dict[str, Any]] = {
        name: {"dtype": _DTYPES[name], "shape": array.shape, "crc32": zlib.crc32(array.data), "offset": 0}
        for name, array in arrays.items()
    }
    header = _fill_offsets({"segment_id": segment_id, "codec": codec, "sections": table}, arrays)
    try:
        with path.open("wb") as file:
            file.write(_PREFIX.pack(MAGIC, VERSION, len(header), zlib.crc32(header)))
            file.write(header)
            for name, array in arrays.items():
                file.write(b"\0" * (table[name]["offset"] - file.tell()))
                file.write(array.data.cast("B") if array.size else b"")
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    except OSError:
        path.unlink(missing_ok=True)  # half a segment is of no use to anybody
        raise
    sync_folder(path.parent)
    return size


def _fill_offsets(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> bytes:
    """Place the sections behind the header, whose own length depends on where they are: reserve room for any offset."""
    position = _PREFIX.size + len(json.dumps(header)) + 20 * len(arrays)
    for name, array in arrays.items():
        position = -(-position // _ALIGNMENT) * _ALIGNMENT
        header["sections"][name]["offset"] = position
        position += array.nbytes
    return json.dumps(header).encode()


class Segment:
    """A segment file mapped into memory; its arrays are views and load pages of the file as they are touched."""

    page_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    scales: NDArray[np.float32]
    dense: NDArray[np.float16]
    boxes: NDArray[np.uint16]
    codes: NDArray[np.uint8]

    def __init__(self, path: Path, segment_id: int, codec: Codec, *, token_dim: int, dense_dim: int) -> None:
        """Map the file and check its structure; the checksums of the vectors themselves are `verify`'s.

        Raises:
            FileNotFoundError: the file is not there.
            IndexDamaged: it is not the file that was written.
        """
        self.path, self.segment_id = path, segment_id
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _PREFIX.size:
                raise self._damaged("it is cut off before its header")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header = self._read_header()
        if header["segment_id"] != segment_id or header["codec"] != codec.name:
            raise self._damaged(f"it holds segment {header['segment_id']} in codec {header['codec']}")
        self._table: dict[str, Any] = header["sections"]
        for name, dtype in _DTYPES.items():
            setattr(self, name, self._section(name, dtype))
        self._check_structure(codec.row_bytes(token_dim), dense_dim)

    def token_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The indices into ``codes`` and ``boxes`` of all token vectors of the given pages, page after page."""
        starts, lengths = self.offsets[rows], np.diff(self.offsets)[rows]
        ends = np.cumsum(lengths)
        return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)

    def will_need(self, row: int) -> None:
        """Tell the system that a page's codes will be read, so that many pages are fetched from disk at once."""
        if hasattr(mmap, "MADV_WILLNEED"):
            width = self.codes.shape[1]
            start = int(self._table["codes"]["offset"] + self.offsets[row] * width)
            aligned = start - start % mmap.PAGESIZE
            length = int((self.offsets[row + 1] - self.offsets[row]) * width) + start - aligned
            if length:
                self._map.madvise(mmap.MADV_WILLNEED, aligned, length)

    def checksum(self, name: str) -> int:
        """The recorded CRC-32 of a section: changes with its content."""
        return int(self._table[name]["crc32"])

    def verify(self) -> None:
        """Read every byte and compare checksums.

        Raises:
            IndexDamaged: a section is not what was written.
        """
        for name in _DTYPES:
            self._check_crc(name)

    def _read_header(self) -> dict[str, Any]:
        magic, version, length, crc = _PREFIX.unpack_from(self._map)
        if magic != MAGIC:
            raise self._damaged("it does not begin like a segment")
        if version != VERSION:
            raise self._damaged(f"it says version {version}, this docsearch knows {VERSION}")
        raw = self._map[_PREFIX.size : _PREFIX.size + length]
        if zlib.crc32(raw) != crc:
            raise self._damaged("its header's checksum is wrong")
        header: dict[str, Any] = json.loads(raw)
        return header

    def _section(self, name: str, dtype: str) -> NDArray[Any]:
        entry = self._table[name]
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if entry["offset"] + count * np.dtype(dtype).itemsize > len(self._map):
            raise self._damaged(f"it is cut off in its section {name}")
        return np.frombuffer(self._map, dtype, count, entry["offset"]).reshape(entry["shape"])

    def _check_structure(self, row_bytes: int, dense_dim: int) -> None:
        for name in _STRUCTURE:
            self._check_crc(name)
        pages, rows = len(self.page_ids), len(self.codes)
        shapes_fit = (
            self.offsets.shape == (pages + 1,)
            and self.scales.shape == (pages,)
            and self.dense.shape == (pages, dense_dim)
            and self.boxes.shape == (rows, 4)
            and self.codes.shape == (rows, row_bytes)
        )
        if not shapes_fit or self.offsets[0] != 0 or self.offsets[-1] != rows or (np.diff(self.offsets) < 0).any():
            raise self._damaged("its sections do not fit together")

    def _check_crc(self, name: str) -> None:
        entry = self._table[name]
        array: NDArray[Any] = getattr(self, name)
        if zlib.crc32(self._map[entry["offset"] : entry["offset"] + array.nbytes]) != entry["crc32"]:
            raise self._damaged(f"the checksum of its section {name} is wrong")

    def _damaged(self, what: str) -> IndexDamaged:
        return IndexDamaged(self.path, what, "run `docsearch verify --repair`, then index the same files again")
