"""The files of the prefilter: which rows one covers, whether it is what was written, and what FAISS wrote.

bytes 0-7     magic "DSPREFLT"
bytes 8-15    length of the header, CRC-32 of all that follows (uint32)
header        JSON: {"segments": [[id, checksum of its dense vectors], ...], "kind", "trained_on"}
index         as FAISS serializes it
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docsearch.errors import IndexDamaged

_MAGIC = b"DSPREFLT"
_PREFIX = struct.Struct("<8sII")
_LOG = logging.getLogger(__name__)
Segments = list[tuple[int, int]]  # id of a segment, checksum of its dense vectors


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds: the rows of these segments in this order, in an index of this kind.

    ``trained_on`` is how many rows there were when it was trained. The files of version 0.1 say only the segments:
    they hold half floats, and nothing was trained.
    """

    segments: Segments
    kind: str = "SQfp16"
    trained_on: int = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class PrefilterFile:
    """A whole file: its header, its index as FAISS serializes it, mapped, and a key that no other content has."""

    header: Header
    index: NDArray[np.uint8]
    key: tuple[Path, int, int]


def pack(header: Header, index: NDArray[np.uint8]) -> bytes:
    """A file's content."""
    raw = json.dumps(asdict(header)).encode()
    return b"".join([_PREFIX.pack(_MAGIC, len(raw), zlib.crc32(index.data, zlib.crc32(raw))), raw, index.data])


def newest_file(folder: Path, segments: Segments) -> PrefilterFile | None:
    """The newest whole file whose rows are the first ones of these segments; damaged ones are named in a warning."""
    for path in sorted(folder.glob("*.faiss"), reverse=True):
        try:
            state = path.stat()
            key = (path, state.st_mtime_ns, state.st_size)
            header, start = _check(*key)
            if header.segments == segments[: len(header.segments)]:
                return PrefilterFile(header, np.memmap(path, np.uint8, "r", offset=start), key)
        except FileNotFoundError:  # a writer replaced it
            continue
        except IndexDamaged as damage:
            _LOG.warning("%s", damage)
    return None


def check_prefilter_file(path: Path) -> None:
    """Read one file and compare its checksum.

    Raises:
        IndexDamaged: it is not what was written.
    """
    _check.__wrapped__(path, 0, path.stat().st_size)


@lru_cache(maxsize=8)  # once in a process: reading all of a large file takes longer than adding a page
def _check(path: Path, changed: int, size: int) -> tuple[Header, int]:  # noqa: ARG001
    """The header, and where the index begins; the file is read once for each time that it ``changed``."""
    remedy = "nothing is lost: it is rebuilt from the segments, and written anew by the next `docsearch index`"
    if size < _PREFIX.size:
        raise IndexDamaged(path, "it is cut off", remedy)
    data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
    magic, length, crc = _PREFIX.unpack_from(data.data)
    body = data[_PREFIX.size :]
    if magic != _MAGIC or zlib.crc32(body.data) != crc:
        raise IndexDamaged(path, "its checksum is wrong", remedy)
    found: dict[str, Any] = json.loads(body[:length].tobytes())
    segments = [(int(number), int(checksum)) for number, checksum in found.pop("segments")]
    return Header(segments, **found), _PREFIX.size + length
