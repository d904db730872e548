"""The values that cross folder boundaries: frozen, checked once when made, never again downstream."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

    from docsearch.protocols import Codec

BOX_UNIT = 65535  # a box edge is a fraction of the page's width or height, times this, as uint16

TextSource = Literal["layer", "ocr", "none"]


@dataclass(frozen=True, slots=True, order=True)
class PageRef:
    """One page of one document: the unit of retrieval."""

    doc_id: str  # SHA-256 of the file's bytes, hexadecimal
    page_number: int  # 1-based

    def __post_init__(self) -> None:
        if self.page_number < 1:
            raise ValueError(f"page numbers start at 1, got {self.page_number}")

    @property
    def page_id(self) -> int:
        """A positive 63-bit id that depends on content alone, so a re-run gives every page its old id."""
        digest = hashlib.blake2b(f"{self.doc_id}#{self.page_number}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def __str__(self) -> str:
        return f"{self.doc_id[:12]}#{self.page_number}"


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of a page in reading order, each with its box.

    ``boxes`` is (N, 4) uint16: left, top, right, bottom as fractions of the page times ``BOX_UNIT``, origin top left.
    A word holds no white space, so ``" ".join(texts).split() == list(texts)``.
    """

    texts: tuple[str, ...]
    boxes: NDArray[np.uint16]

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.texts), 4):
            raise ValueError(
                f"{len(self.texts)} words need boxes of shape ({len(self.texts)}, 4), got {self.boxes.shape}"
            )

    @classmethod
    def none(cls) -> Words:
        """No words: a blank page, or one that nothing could read."""
        return cls((), np.zeros((0, 4), np.uint16))

    @property
    def text(self) -> str:
        """All words, one space between them."""
        return " ".join(self.texts)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RenderedPage:
    """One page as an encoder sees it: its pixels, its words, or both."""

    ref: PageRef
    words: Words = field(default_factory=Words.none)
    image: NDArray[np.uint8] | None = None  # (H, W, 3) RGB at `dpi`; None when the encoder reads words only
    text_source: TextSource = "none"  # where the words come from: the PDF's text layer, OCR, or nowhere
    page_label: str = ""  # the PDF's own name for the page ("iv", "A-3"); empty when it has none
    width_pt: float = 0.0
    height_pt: float = 0.0
    dpi: float = 0.0


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Token vectors ``start`` … ``start + rows * cols`` are the page's patches, row by row; the others are no place."""

    rows: int
    cols: int
    start: int = 0

    def boxes(self, n_tokens: int) -> NDArray[np.uint16]:
        """The (T, 4) boxes of all token vectors; a row that is no patch covers nothing (all zeros)."""
        boxes = np.zeros((n_tokens, 4), np.uint16)
        row, col = np.divmod(np.arange(self.rows * self.cols), self.cols)
        edges = np.stack([col / self.cols, row / self.rows, (col + 1) / self.cols, (row + 1) / self.rows], axis=1)
        boxes[self.start : self.start + self.rows * self.cols] = np.round(edges * BOX_UNIT)
        return boxes


@dataclass(frozen=True, slots=True, eq=False)
class PageVectors:
    """What an encoder makes of one page, in one pass.

    Attributes:
        tokens: (T, D) float32 unit rows, the token vectors; T may be 0 for a page nothing could be read from.
        dense: (E,) float32 unit vector for the prefilter.
        regions: where each token stands on the page: a patch grid, or (T, 4) uint16 boxes as in ``Words``.
    """

    tokens: NDArray[np.float32]
    dense: NDArray[np.float32]
    regions: PatchGrid | NDArray[np.uint16]

    @property
    def boxes(self) -> NDArray[np.uint16]:
        """(T, 4) boxes whatever form the regions have."""
        return self.regions.boxes(len(self.tokens)) if isinstance(self.regions, PatchGrid) else self.regions


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A question: text, an image, or both as one joint query.

    ``words`` are the words on the image. The index fills them in for an encoder that reads words; callers leave them.
    """

    text: str | None = None
    image: Image | None = None
    words: Words | None = None

    def __post_init__(self) -> None:
        if not (self.text and self.text.strip()) and self.image is None:
            raise ValueError("an empty query: give it a text, an image, or both")


@dataclass(frozen=True, slots=True, eq=False)
class QueryVectors:
    """A query as vectors: ``tokens`` (Tq, D) float32 unit rows, ``dense`` (E,) float32 unit, a label per token."""

    tokens: NDArray[np.float32]
    dense: NDArray[np.float32]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PackedVectors:
    """Coded token vectors of P pages where they lie: in memory, or in mapped files. Nothing is copied or padded.

    Attributes:
        buffers: (N,) uint8 each; a page's block (`docsearch.store.codec`) lies in one of them.
        which: (P,) int64, the number of each page's buffer.
        starts: (P,) int64, the first byte of each page's block.
        lengths: (P,) int64, T, the token vectors of each page; may be 0.
        scales: (P,) float32, positive: each page's scale.
        codec: how the blocks are coded.
        dim: D, before coding.
    """

    buffers: tuple[NDArray[np.uint8], ...]
    which: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    scales: NDArray[np.float32]
    codec: Codec
    dim: int

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, page: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The (T, W) levels of a page and its (T,) token scales, None for a codec without; W is the codec's width."""
        n_tokens, width = int(self.lengths[page]), self.codec.row_bytes(self.dim)
        block = self.buffers[self.which[page]][self.starts[page] :]
        levels = self.codec.levels(block[: n_tokens * width].reshape(n_tokens, width), self.dim)
        if not self.codec.has_token_scales:
            return levels, None
        return levels, block[n_tokens * width :][: 2 * n_tokens].copy().view("<f2").astype(np.float32)

    def decode(self, page: int) -> NDArray[np.float32]:
        """The (T, D) token vectors of a page."""
        levels, token_scales = self.read(page)
        rows = levels if token_scales is None else levels * token_scales[:, None]
        return self.codec.turn_back(rows * self.scales[page], self.dim)

    def part(self, pages: slice | NDArray[np.int64]) -> PackedVectors:
        """Some of the pages."""
        return replace(
            self, which=self.which[pages], starts=self.starts[pages], lengths=self.lengths[pages],
            scales=self.scales[pages],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPage:
    """A row of the snapshot with its scores; ``score`` orders the list, ``scores`` says what it is made of."""

    row: int
    page_id: int
    score: float
    raw_score: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Region:
    """A place on a page: ``box`` = left, top, right, bottom as fractions of the page, origin top left."""

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One page of the answer, as users see it. ``to_dict`` is the record of the JSON outputs."""

    rank: int
    score: float  # orders the hits; comparable between queries of one encoder and mode
    raw_score: float  # MaxSim summed over the query's token vectors
    doc_id: str
    path: str
    page_number: int
    page_label: str
    page_count: int
    title: str
    snippet: str
    regions: tuple[Region, ...]
    scores: Mapping[str, float]
    metadata: Mapping[str, Any]
    indexed_at: str  # ISO 8601, UTC
    duplicates: tuple[str, ...] = ()  # other paths with the same content

    def to_dict(self) -> dict[str, Any]:
        """The record ``docsearch.result/1``: fields are added to it, never changed or taken away."""
        return {
            "schema": "docsearch.result/1",
            "rank": self.rank,
            "score": self.score,
            "raw_score": self.raw_score,
            "doc_id": self.doc_id,
            "path": self.path,
            "page": self.page_number,
            "page_label": self.page_label,
            "page_count": self.page_count,
            "title": self.title,
            "snippet": self.snippet,
            "regions": [{"box": list(region.box), "score": region.score} for region in self.regions],
            "scores": dict(self.scores),
            "metadata": dict(self.metadata),
            "sha256": self.doc_id,
            "indexed_at": self.indexed_at,
            "duplicates": list(self.duplicates),
        }


FailureCode = Literal[
    "password_required", "corrupt", "unsupported", "empty", "too_large", "render_error", "timeout", "permission"
]


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, and why; kept until the file changes or is tried again on request."""

    path: str
    code: FailureCode
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What one indexing run did. Counts are files, unless they say pages."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0  # files whose content was there already under another path
    removed: int = 0
    gone: int = 0  # files that have vanished and are still indexed (removed with prune)
    known_bad: int = 0  # files that failed before and have not changed since
    pages: int = 0
    ocr_pages: int = 0
    seconds: float = 0.0
    failed: tuple[Failure, ...] = ()
