"""What users can choose, checked once on construction. Every option has a user who needs it and a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Mode = Literal["auto", "visual", "text", "hybrid"]
CodecName = Literal["float16", "int8", "r4", "r3", "r2", "binary"]
OcrMode = Literal["auto", "off"]

DEFAULT_CODEC: CodecName = "r4"  # the smallest that answers like float16: benchmarks/codec_quality.py
MOST_POOLING = 3
N_CANDIDATES = 200  # pages handed to the rerank; 99 % of the best ten are among them: benchmarks/prefilter.py


def _check_choice(name: str, value: str, choices: object) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")


def check_vectors(codec: str, pooling: int) -> None:
    """How an index stores its vectors, chosen when it is made.

    Raises:
        ValueError: it cannot be stored like that.
    """
    _check_choice("codec", codec, CodecName)
    if not 1 <= pooling <= MOST_POOLING:
        raise ValueError(
            f"pooling is {pooling}; choose 1, 2 or {MOST_POOLING}: beyond that pages become hard to tell apart"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """How files become pages of the index."""

    include: Sequence[str] = ()  # globs on the path below the given folder; empty means every supported file
    exclude: Sequence[str] = ()
    prune: bool = False  # remove files from the index that have vanished from the given folders
    retry_failed: bool = False  # try files again that failed before and have not changed
    ocr: OcrMode = "auto"  # auto: read pages without a usable text layer by OCR
    passwords: Sequence[str] = ()  # tried on encrypted PDFs
    metadata: Mapping[str, Any] = field(default_factory=dict)  # stored with every file of this run
    workers: int | None = None  # rendering processes; None: one per core, at most 8
    page_timeout: float = 120.0  # seconds one page may take before it is given up
    max_file_mb: float = 2048.0  # larger files are refused as too_large

    def __post_init__(self) -> None:
        _check_choice("ocr", self.ocr, OcrMode)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; rendering needs at least one process")
        if self.page_timeout <= 0:
            raise ValueError(f"page_timeout is {self.page_timeout}; it must be positive seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How a query is answered."""

    k: int = 10  # pages returned
    n_candidates: int = N_CANDIDATES  # more finds more and costs time in proportion
    mode: Mode = "auto"  # visual: MaxSim alone; text: BM25 alone; hybrid: both; auto: hybrid when the query has words
    exact: bool = False  # score every page: no prefilter
    where: str | None = None  # filter on metadata, e.g. 'year >= 2022 and team in ("fin", "ops")'
    path: str | None = None  # glob on the document's path
    min_score: float | None = None  # drop hits that score less
    group: Literal["page", "doc"] = "page"  # doc: only the best page of each document

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, Mode)
        _check_choice("group", self.group, Literal["page", "doc"])
        if self.k < 1:
            raise ValueError(f"k is {self.k}; ask for at least one page")
        if self.n_candidates < self.k and not self.exact:
            raise ValueError(
                f"n_candidates ({self.n_candidates}) is smaller than k ({self.k}): "
                f"the rerank could not fill the list; try n_candidates={4 * self.k}"
            )
