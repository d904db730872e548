"""Segment files: the vectors of one commit's pages, written once, checksummed, mapped when read.

Layout of a file, all numbers little-endian:

    bytes 0-7     magic "DSSEGMNT"
    bytes 8-15    version (uint32), length of the header (uint32)
    bytes 16-19   CRC-32 of the header
    header        JSON: {"segment_id", "codec", "sections": {name: {"dtype", "shape", "offset", "crc32"}}}
    sections      each starting at a multiple of 64 bytes

Sections for P pages with V token vectors: `page_ids` (P,) int64, `offsets` (P + 1,) int64 of their token vectors,
`starts` and `sketch_starts` (P,) int64 of their blocks and sketches, `scales` (P,) float32, `dense` (P, E) float16,
`boxes` (V, 4) uint16, `blocks` (N,) uint8: each page's block (`docsearch.store.codec`) at a multiple of 64 bytes,
`sketches` (M,) uint8: the blocks of their sketches (`docsearch.store.sketch`), one behind the other.

Version 1, read but no longer written, had the blocks of all pages without gaps as `codes` (V, B), no `starts`, and no
`sketches`: pages of such a segment are found by their dense vectors and words alone until `docsearch compact` has run.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from docsearch.errors import IndexDamaged
from docsearch.protocols import Codec
from docsearch.store.codec import block_bytes
from docsearch.store.layout import sync_folder
from docsearch.store.sketch import encode_sketch, sketch_sizes
from docsearch.types import PackedVectors, PageVectors

MAGIC, VERSION = b"DSSEGMNT", 2
_PREFIX = struct.Struct("<8sIII")
_ALIGNMENT = 64
_DTYPES = {
    "page_ids": "<i8", "offsets": "<i8", "starts": "<i8", "sketch_starts": "<i8", "scales": "<f4", "dense": "<f2",
    "boxes": "<u2", "blocks": "|u1", "sketches": "|u1", "codes": "|u1",
}  # fmt: skip
_STRUCTURE = ("page_ids", "offsets", "starts", "sketch_starts", "scales")  # small, and what every read relies on
_NEAR = 128 * 1024  # bytes between two pages that are read along rather than asked for apart


class _Section(NamedTuple):
    """What a section will hold: its shape, and its content piece by piece."""

    shape: tuple[int, ...]
    pieces: Iterable[NDArray[Any]]


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
    lengths = np.array([len(vectors.tokens) for _, vectors in pages], np.int64)
    dim = pages[0][1].tokens.shape[1]
    sections = {
        **_numbering(np.array([page_id for page_id, _ in pages], np.int64), lengths, codec, dim),
        "scales": _whole([scale for _, scale in coded]),
        "dense": _whole([vectors.dense for _, vectors in pages]),
        "boxes": _Section((int(lengths.sum()), 4), (vectors.boxes for _, vectors in pages)),
        "sketches": _Section((int(sketch_sizes(lengths, dim).sum()),), (encode_sketch(v.tokens) for _, v in pages)),
        "blocks": _padded(lengths * block_bytes(codec, 1, dim), (block for block, _ in coded)),
    }
    return _write_sections(path, segment_id, codec.name, sections)


def merge_segments(
    path: Path, segment_id: int, parts: Sequence[tuple[Segment, NDArray[np.int64]]], codec: Codec
) -> int:
    """Write one segment out of the given rows of others, coded as they are; returns its size in bytes.

    Holds no more than a page of token vectors in memory at a time.
    """
    lengths, dim = np.concatenate([segment.lengths(rows) for segment, rows in parts]), parts[0][0].dim
    n_pages, dense_dim = len(lengths), parts[0][0].dense.shape[1]
    sections = {
        **_numbering(np.concatenate([segment.page_ids[rows] for segment, rows in parts]), lengths, codec, dim),
        "scales": _Section((n_pages,), (segment.scales[rows] for segment, rows in parts)),
        "dense": _Section((n_pages, dense_dim), (segment.dense[rows] for segment, rows in parts)),
        "boxes": _Section(
            (int(lengths.sum()), 4), (segment.page_boxes(row) for segment, rows in parts for row in rows)
        ),
        "sketches": _Section(
            (int(sketch_sizes(lengths, dim).sum()),), (segment.sketch(row) for segment, rows in parts for row in rows)
        ),
        "blocks": _padded(
            lengths * block_bytes(codec, 1, dim), (segment.block(row) for segment, rows in parts for row in rows)
        ),
    }
    return _write_sections(path, segment_id, codec.name, sections)


def _numbering(page_ids: NDArray[np.int64], lengths: NDArray[np.int64], codec: Codec, dim: int) -> dict[str, _Section]:
    """Which pages there are, and where each one's token vectors, block and sketch begin."""
    sizes, sketches = lengths * block_bytes(codec, 1, dim), sketch_sizes(lengths, dim)
    return {
        "page_ids": _whole(page_ids),
        "offsets": _whole(np.concatenate([[0], np.cumsum(lengths)])),
        "starts": _whole(np.concatenate([[0], np.cumsum(sizes + -sizes % _ALIGNMENT)])[:-1]),
        "sketch_starts": _whole(np.cumsum(sketches) - sketches),
    }


def _padded(sizes: NDArray[np.int64], blocks: Iterable[NDArray[np.uint8]]) -> _Section:
    """Blocks that begin at multiples of 64 bytes."""
    gaps = -sizes % _ALIGNMENT
    pieces = (
        np.concatenate([block, np.zeros(gap, np.uint8)]) for block, gap in zip(blocks, gaps.tolist(), strict=True)
    )
    return _Section((int((sizes + gaps).sum()),), pieces)


def _whole(content: Any) -> _Section:
    array = np.asarray(content)
    return _Section(array.shape, (array,))


def _write_sections(path: Path, segment_id: int, codec: str, sections: dict[str, _Section]) -> int:
    table: dict[str, dict[str, Any]] = {
        name: {"dtype": _DTYPES[name], "shape": section.shape, "crc32": 2**32 - 1, "offset": 10**15}
        for name, section in sections.items()
    }  # with the longest numbers there can be, so that the room for the header is known
    header: dict[str, Any] = {"segment_id": segment_id, "codec": codec, "sections": table}
    room = len(json.dumps(header))
    try:
        with path.open("wb") as file:
            file.seek(_PREFIX.size + room)
            for name, section in sections.items():
                file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                table[name] |= {"offset": file.tell(), "crc32": 0}
                for piece in section.pieces:
                    data = np.ascontiguousarray(piece, _DTYPES[name]).tobytes()
                    table[name]["crc32"] = zlib.crc32(data, table[name]["crc32"])
                    file.write(data)
            size = file.tell()
            raw = json.dumps(header).encode().ljust(room)
            file.seek(0)
            file.write(_PREFIX.pack(MAGIC, VERSION, room, zlib.crc32(raw)))
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # half a segment is of no use to anybody
        raise
    sync_folder(path.parent)
    return size


class Segment:
    """A segment file mapped into memory; its arrays are views and load pages of the file as they are touched.

    Attributes:
        page_ids: (P,) int64.
        offsets: (P + 1,) int64, the first token vector of each page.
        starts: (P,) int64, the first byte of each page's block.
        scales: (P,) float32 page scales.
        dense: (P, E) float16.
        boxes: (V, 4) uint16.
        blocks: (N,) uint8.
        sketches: (M,) uint8; None in a file of version 1.
        sketch_starts: (P,) int64, the first byte of each page's sketch.
    """

    page_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    scales: NDArray[np.float32]
    dense: NDArray[np.float16]
    boxes: NDArray[np.uint16]
    blocks: NDArray[np.uint8]
    sketches: NDArray[np.uint8] | None
    sketch_starts: NDArray[np.int64]

    def __init__(
        self, path: Path, segment_id: int, codec: Codec, *, token_dim: int, dense_dim: int, n_pages: int | None = None
    ) -> None:
        """Map the file and check its structure; the checksums of the vectors themselves are `verify`'s.

        Args:
            path: the file.
            segment_id: the one it must hold.
            codec: the one it must be in.
            token_dim: D.
            dense_dim: E.
            n_pages: how many pages it must hold. If given, the structure is checked when it is first used, not now:
                a reader opens hundreds of segments and may need few.

        Raises:
            FileNotFoundError: the file is not there.
            IndexDamaged: it is not the file that was written; raised here, or on first use.
        """
        self.path, self.segment_id, self.codec, self.dim = path, segment_id, codec, token_dim
        self._dense_dim, self._n_pages = dense_dim, n_pages
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _PREFIX.size:
                raise self._damaged("it is cut off before its header")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if n_pages is None:
            self._read_structure()

    def __getattr__(self, name: str) -> Any:
        """The sections, at the first use of one of them."""
        if name.startswith("__") or "_table" in self.__dict__:
            raise AttributeError(name)
        self._read_structure()
        return getattr(self, name)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of token vectors of some pages."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def block(self, row: int) -> NDArray[np.uint8]:
        """The coded token vectors of one page."""
        n_tokens = int(self.offsets[row + 1] - self.offsets[row])
        return self.blocks[self.starts[row] :][: block_bytes(self.codec, n_tokens, self.dim)]

    def sketch(self, row: int) -> NDArray[np.uint8]:
        """The coded sketch of one page, made now if the file has none."""
        here = np.array([row])
        if self.sketches is None:
            one = np.zeros(1, np.int64)
            packed = PackedVectors((self.blocks,), one, self.starts[here], self.lengths(here), self.scales[here],
                                   self.codec, self.dim)  # fmt: skip
            return encode_sketch(packed.decode(0))
        return self.sketches[self.sketch_starts[row] :][: int(sketch_sizes(self.lengths(here), self.dim)[0])]

    def page_boxes(self, row: int) -> NDArray[np.uint16]:
        """(T, 4) where on the page its token vectors are."""
        return self.boxes[self.offsets[row] : self.offsets[row + 1]]

    def will_need(self, rows: NDArray[np.int64], *, sketches: bool = False) -> None:
        """Tell the system that blocks or sketches of these ascending rows will be read: all at once, not in turn."""
        if not hasattr(mmap, "MADV_WILLNEED") or not len(rows):
            return
        lengths = self.lengths(rows)
        if sketches:
            section, starts, sizes = "sketches", self.sketch_starts[rows], sketch_sizes(lengths, self.dim)
        else:
            section, starts = "blocks" if self.version > 1 else "codes", self.starts[rows]
            sizes = lengths * block_bytes(self.codec, 1, self.dim)
        starts = starts + int(self._table[section]["offset"])
        ends = starts + sizes
        first = np.concatenate([[True], starts[1:] - ends[:-1] > _NEAR])  # of each run of neighbours
        last = np.concatenate([first[1:], [True]])
        for start, end in zip(starts[first].tolist(), ends[last].tolist(), strict=True):
            aligned = start - start % mmap.PAGESIZE
            if end > start:
                self._map.madvise(mmap.MADV_WILLNEED, aligned, end - aligned)

    def checksum(self, name: str) -> int:
        """The recorded CRC-32 of a section: changes with its content."""
        return int(self._table[name]["crc32"])

    def verify(self) -> None:
        """Read every byte and compare checksums.

        Raises:
            IndexDamaged: a section is not what was written.
        """
        for name in self._table:
            self._check_crc(name)

    def _read_structure(self) -> None:
        magic, self.version, length, crc = _PREFIX.unpack_from(self._map)
        if magic != MAGIC:
            raise self._damaged("it does not begin like a segment")
        if not 1 <= self.version <= VERSION:
            raise self._damaged(f"it says version {self.version}, this docsearch knows up to {VERSION}")
        raw = self._map[_PREFIX.size : _PREFIX.size + length]
        if zlib.crc32(raw) != crc:
            raise self._damaged("its header's checksum is wrong")
        header: dict[str, Any] = json.loads(raw)
        if header["segment_id"] != self.segment_id or header["codec"] != self.codec.name:
            raise self._damaged(f"it holds segment {header['segment_id']} in codec {header['codec']}")
        self._table: dict[str, Any] = header["sections"]
        try:
            for name in self._table:
                setattr(self, name, self._section(name, _DTYPES[name]))
            if self.version == 1:
                codes: NDArray[np.uint8] = self._section("codes", _DTYPES["codes"])
                self.blocks, self.starts = codes.reshape(-1), self.offsets[:-1] * self.codec.row_bytes(self.dim)
                self.sketches, self.sketch_starts = None, np.zeros(len(self.page_ids), np.int64)
            self._check_structure()
        except BaseException:
            del self._table  # so that the next use says the same
            raise

    def _section(self, name: str, dtype: str) -> NDArray[Any]:
        entry = self._table[name]
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if entry["offset"] + count * np.dtype(dtype).itemsize > len(self._map):
            raise self._damaged(f"it is cut off in its section {name}")
        return np.frombuffer(self._map, dtype, count, entry["offset"]).reshape(entry["shape"])

    def _check_structure(self) -> None:
        for name in _STRUCTURE:
            if name in self._table:
                self._check_crc(name)
        pages, rows = len(self.page_ids), len(self.boxes)
        shapes_fit = (
            self._n_pages in {None, pages}
            and self.offsets.shape == (pages + 1,)
            and self.starts.shape == self.scales.shape == self.sketch_starts.shape == (pages,)
            and self.dense.shape == (pages, self._dense_dim)
            and self.boxes.shape == (rows, 4)
        )
        if not shapes_fit or self.offsets[0] != 0 or self.offsets[-1] != rows or (np.diff(self.offsets) < 0).any():
            raise self._damaged("its sections do not fit together")
        lengths = np.diff(self.offsets)
        sizes = lengths * block_bytes(self.codec, 1, self.dim)
        if self.version > 1:
            sizes += -sizes % _ALIGNMENT
        places = [(self.starts, sizes, self.blocks)]
        if self.sketches is not None:
            places.append((self.sketch_starts, sketch_sizes(lengths, self.dim), self.sketches))
        for starts, sizes, content in places:
            ends = np.cumsum(sizes)
            if not np.array_equal(starts, ends - sizes) or len(content) != sizes.sum():
                raise self._damaged("its sections do not fit together")

    def _check_crc(self, name: str) -> None:
        entry = self._table[name]
        size = int(np.prod(entry["shape"], dtype=np.int64)) * np.dtype(_DTYPES[name]).itemsize
        if zlib.crc32(memoryview(self._map)[entry["offset"] : entry["offset"] + size]) != entry["crc32"]:
            raise self._damaged(f"the checksum of its section {name} is wrong")

    def _damaged(self, what: str) -> IndexDamaged:
        return IndexDamaged(self.path, what, "run `docsearch verify --repair`, then index the same files again")
