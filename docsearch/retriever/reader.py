"""One open snapshot with what searches it and what turns pages into hits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from docsearch.errors import GpuFull, GpuUnavailable
from docsearch.protocols import Prefilter
from docsearch.retriever import explain
from docsearch.retriever.prefilter import DensePrefilter
from docsearch.retriever.searcher import Searcher
from docsearch.store.layout import IndexPaths, Layout
from docsearch.store.snapshot import Snapshot
from docsearch.store.terms import query_terms
from docsearch.types import Hit, QueryVectors, ScoredPage

if TYPE_CHECKING:
    from docsearch.kernels.resident import ResidentPages

_LOG = logging.getLogger(__name__)


class Reader:
    """Opens the newest commit."""

    def __init__(self, paths: IndexPaths, layout: Layout, *, device: str | None = None) -> None:
        """Open it.

        Args:
            paths: where the index is.
            layout: what it is.
            device: a GPU, as torch calls it, that every page is copied to; if they do not fit, their dense vectors are.

        Raises:
            IndexDamaged: a file is not what was written.
            GpuUnavailable: the device cannot be used.
        """
        self.snapshot = Snapshot(paths, layout)
        self.prefilter = DensePrefilter(self.snapshot)
        self.searcher = Searcher(self.snapshot, *self._on_device(device))

    def _on_device(self, device: str | None) -> tuple[Prefilter, ResidentPages | None]:
        rows = np.arange(len(self.snapshot.live))
        if device is None or not len(rows):
            return self.prefilter, None
        try:
            from docsearch.kernels.resident import ResidentDense, ResidentPages  # noqa: PLC0415 - torch may be missing
        except ImportError as missing:
            raise GpuUnavailable(
                f"searching on a GPU needs torch ({missing}): pip install 'torch>=2.9,<2.14'"
            ) from None
        try:
            return self.prefilter, ResidentPages(self.snapshot.gather(rows), device=device)
        except GpuFull as full:
            _LOG.warning("%s; the GPU only finds candidates", full)
        dense = [segment.dense for segment in self.snapshot.segments]
        return ResidentDense(dense, live=self.snapshot.live, device=device), None

    def hit(self, page: ScoredPage, rank: int, query: QueryVectors | None, text: str) -> Hit:
        """What the user sees of a scored page: where it is from, a snippet, and the regions that answer."""
        record = self.snapshot.catalog.page(page.page_id)
        if query is None:  # found by its words alone
            boxes = record.words.boxes
            relevance = words = explain.term_relevance(record.words, query_terms(text))
        else:
            boxes = self.snapshot.boxes(page.row)
            relevance = explain.token_relevance(query.tokens, self.snapshot.tokens(page.row))
            words = explain.word_relevance(record.words, relevance, boxes)
            boxes = explain.widened(record.words, relevance, boxes)
        shown = [self._shown_path(path) for path in record.paths]
        return Hit(
            rank=rank,
            score=page.score,
            raw_score=page.raw_score,
            doc_id=record.doc_id,
            path=shown[0],
            page_number=record.page_number,
            page_label=record.page_label,
            page_count=record.page_count,
            title=record.title,
            snippet=explain.snippet(record.words, words),
            regions=explain.regions(relevance, boxes),
            scores=page.scores,
            metadata=record.metadata,
            indexed_at=record.indexed_at,
            duplicates=tuple(shown[1:]),
        )

    def _shown_path(self, name: str) -> str:
        """A path as one would type it here: relative to the working folder when it is below it."""
        path, here = self.snapshot.paths.source_path(name), Path.cwd()
        return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
