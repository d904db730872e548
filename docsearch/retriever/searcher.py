"""Answer a query from a snapshot: candidates, MaxSim, fusion, the best k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from docsearch.kernels import maxsim
from docsearch.options import SearchOptions
from docsearch.protocols import Prefilter
from docsearch.retriever.filters import compile_where, path_condition
from docsearch.retriever.fuse import fuse, ideal_bm25, telling_terms
from docsearch.store.snapshot import Snapshot
from docsearch.store.terms import query_terms
from docsearch.types import QueryVectors, ScoredPage

if TYPE_CHECKING:
    from docsearch.kernels.resident import ResidentPages

_BLOCK_PAGES = 4096  # pages asked of the disk at a time when every page is scored
SCORED_ALL = 1_000  # pages that are all scored: finding candidates among them would cost as much
SKETCHED_ALL = 6_000  # pages whose sketches are all asked; of a larger index, those of the nearest dense vectors
SKETCHED = 4_000  # dense vectors asked for then; twice as many of more than 200,000 pages, where they tell less
_MOST_MATCHES = 2_000  # pages whose BM25 is known to the fusion
_MOST_READ = 1_500  # pages whose BM25 is computed for the fusion: those with the rarest words
_MOST_COUNTED = 10_000  # terms remembered with the number of their pages


class Searcher:
    """Searches one snapshot."""

    def __init__(self, snapshot: Snapshot, prefilter: Prefilter, on_gpu: ResidentPages | None = None) -> None:
        """Search with a prefilter, or score every page where all of them lie on a GPU."""
        self._snapshot, self._prefilter, self._on_gpu = snapshot, prefilter, on_gpu
        self._counted: dict[str, int] = {}

    def search(self, query: QueryVectors | None, text: str, options: SearchOptions) -> list[ScoredPage]:
        """The best pages, best first; equal scores are ordered by page id.

        Args:
            query: the query's vectors; None in mode ``text``, which needs none.
            text: the words of the query, for BM25; may be empty.
            options: how many, how, and which pages may appear.
        """
        allowed = self._allowed_rows(options)
        matches, bm25, ideal = self._match_text(text, options, allowed)
        if query is None:
            rows, maxsim_mean = matches, np.zeros(len(matches))
            scores = bm25 / ideal
        else:
            rows = self._candidates(query, matches, options, allowed)
            maxsim_mean = self._rerank(query, rows) / len(query.tokens)
            bm25 = _look_up(matches, bm25, rows)
            scores = fuse(maxsim_mean, bm25, ideal)
        return self._best(rows, scores, maxsim_mean, bm25, query, options)

    def _allowed_rows(self, options: SearchOptions) -> NDArray[np.bool_] | None:
        """(P,) which rows the filters let through, or None where there is no filter."""
        conditions = []
        if options.where:
            conditions.append(compile_where(options.where))
        if options.path:
            conditions.append(path_condition(options.path))
        if not conditions:
            return None
        sql = " AND ".join(f"({condition})" for condition, _ in conditions)
        page_ids = self._snapshot.catalog.page_ids_where(sql, [value for _, bound in conditions for value in bound])
        allowed = np.zeros(len(self._snapshot.live), bool)
        allowed[self._snapshot.rows_of(page_ids)] = True
        return allowed

    def _match_text(
        self, text: str, options: SearchOptions, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Rows that hold words of the query, best first, their BM25, and the BM25 of a perfect page."""
        terms = query_terms(text) if options.mode != "visual" else []
        if not terms:
            return np.empty(0, np.int64), np.empty(0), 1.0
        n_pages = max(1, len(self._snapshot))
        frequencies = self._frequencies(terms)
        chosen = telling_terms(terms, frequencies, n_pages, most_pages=None if options.mode == "text" else _MOST_READ)
        n_dead = len(self._snapshot.live) - len(self._snapshot)
        page_ids, bm25 = self._snapshot.catalog.match_text(chosen, _MOST_MATCHES + n_dead if allowed is None else -1)
        rows = self._snapshot.rows_of(page_ids)
        if allowed is not None:
            rows = rows[allowed[rows]]
        return rows, _look_up(page_ids, bm25, self._snapshot.ids_of(rows)), ideal_bm25(frequencies, n_pages)

    def _frequencies(self, terms: Sequence[str]) -> NDArray[np.int64]:
        """On how many pages each term stands; counted once, since counting common words takes time."""
        new = [term for term in terms if term not in self._counted]
        if len(self._counted) > _MOST_COUNTED:
            self._counted, new = {}, list(terms)
        found = self._snapshot.catalog.document_frequencies(new)
        counted = self._counted = self._counted | dict(zip(new, found.tolist(), strict=True))
        return np.array([counted[term] for term in terms], np.int64)

    def _candidates(
        self,
        query: QueryVectors,
        matches: NDArray[np.int64],
        options: SearchOptions,
        allowed: NDArray[np.bool_] | None,
    ) -> NDArray[np.int64]:
        """The rows to be scored: by sketch as long as all sketches can be asked, else by dense vector and sketch."""
        n_pages = len(self._snapshot) if allowed is None else int(allowed.sum())
        if options.exact or self._on_gpu or n_pages <= max(SCORED_ALL, options.n_candidates):
            return self._snapshot.live_rows if allowed is None else np.flatnonzero(allowed)
        if not self._snapshot.has_sketches:
            near = self._prefilter.candidates(query, 2 * options.n_candidates, allowed=allowed)
        elif n_pages <= SKETCHED_ALL:
            near = self._snapshot.live_rows if allowed is None else np.flatnonzero(allowed)
            near = self._best_sketches(query, near, options.n_candidates)
        else:
            n_wide = max(SKETCHED if n_pages <= 200_000 else 2 * SKETCHED, options.n_candidates)
            wide = self._prefilter.candidates(query, n_wide, allowed=allowed)
            near = self._best_sketches(query, np.union1d(wide, matches), options.n_candidates)
        return np.union1d(near, matches[: options.n_candidates])

    def _best_sketches(self, query: QueryVectors, rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """The n rows whose sketches match the query best."""
        scores = maxsim(query.tokens, self._snapshot.gather_sketches(rows))
        return rows[np.argpartition(-scores, min(n, len(rows)) - 1)[:n]]

    def _rerank(self, query: QueryVectors, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P,) MaxSim of each row."""
        if self._on_gpu:
            return self._on_gpu.scores(query.tokens, rows).astype(np.float64)
        blocks = [
            maxsim(query.tokens, self._snapshot.gather(rows[start : start + _BLOCK_PAGES]))
            for start in range(0, len(rows), _BLOCK_PAGES)
        ]
        return np.concatenate([np.empty(0), *blocks])

    def _best(
        self,
        rows: NDArray[np.int64],
        scores: NDArray[np.float64],
        maxsim_mean: NDArray[np.float64],
        bm25: NDArray[np.float64],
        query: QueryVectors | None,
        options: SearchOptions,
    ) -> list[ScoredPage]:
        if len(rows) > 2 * options.k and options.group == "page":  # sorting a million pages takes longer than scoring
            best = np.flatnonzero(scores >= np.partition(scores, len(rows) - options.k)[len(rows) - options.k])
            rows, scores, maxsim_mean, bm25 = rows[best], scores[best], maxsim_mean[best], bm25[best]
        page_ids = self._snapshot.ids_of(rows)
        order = np.lexsort((page_ids, -scores))
        if options.min_score is not None:
            order = order[scores[order] >= options.min_score]
        if options.group == "doc":
            order = self._first_of_each_document(page_ids, order)
        n_tokens = 0 if query is None else len(query.tokens)
        return [
            ScoredPage(
                row=int(rows[at]),
                page_id=int(page_ids[at]),
                score=float(scores[at]),
                raw_score=float(maxsim_mean[at] * n_tokens if query is not None else bm25[at]),
                scores=({} if query is None else {"maxsim": float(maxsim_mean[at])}) | {"bm25": float(bm25[at])},
            )
            for at in order[: options.k]
        ]

    def _first_of_each_document(self, page_ids: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
        documents = self._snapshot.catalog.page_docs(page_ids.tolist())
        seen: set[str] = set()
        kept = []
        for at in order:
            document = documents.get(int(page_ids[at]), "")
            if document not in seen:
                seen.add(document)
                kept.append(at)
        return np.array(kept, np.int64)


def _look_up(keys: NDArray[np.int64], values: NDArray[np.float64], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """The value of each wanted key, 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted))
    order = np.argsort(keys)
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    found: NDArray[np.float64] = np.where(keys[at] == wanted, values[at], 0.0)
    return found
