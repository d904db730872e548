"""Answer a query from a snapshot: candidates, MaxSim, fusion, the best k."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from docsearch.kernels import maxsim
from docsearch.options import SearchOptions
from docsearch.protocols import Prefilter
from docsearch.retriever.filters import compile_where, path_condition
from docsearch.retriever.fuse import fuse, ideal_bm25
from docsearch.store.snapshot import Snapshot
from docsearch.store.terms import query_terms
from docsearch.types import QueryVectors, ScoredPage

_BLOCK_PAGES = 512  # pages gathered at a time when every page is scored
_MOST_MATCHES = 2000  # pages whose BM25 is known to the fusion


class Searcher:
    """Searches one snapshot."""

    def __init__(self, snapshot: Snapshot, prefilter: Prefilter) -> None:
        self._snapshot, self._prefilter = snapshot, prefilter

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
        allowed = np.zeros(len(self._snapshot.page_ids), bool)
        allowed[self._snapshot.rows_of(page_ids)] = True
        return allowed

    def _match_text(
        self, text: str, options: SearchOptions, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Rows that hold words of the query, best first, their BM25, and the BM25 of a perfect page."""
        terms = query_terms(text) if options.mode != "visual" else []
        if not terms:
            return np.empty(0, np.int64), np.empty(0), 1.0
        catalog = self._snapshot.catalog
        unfiltered = allowed is None and self._snapshot.live.all()
        page_ids, bm25 = catalog.match_text(terms, _MOST_MATCHES if unfiltered else -1)
        rows = self._snapshot.rows_of(page_ids)
        if allowed is not None:
            rows = rows[allowed[rows]]
        bm25 = _look_up(page_ids, bm25, self._snapshot.page_ids[rows])
        return rows, bm25, ideal_bm25(catalog.document_frequencies(terms), max(1, len(self._snapshot)))

    def _candidates(
        self,
        query: QueryVectors,
        matches: NDArray[np.int64],
        options: SearchOptions,
        allowed: NDArray[np.bool_] | None,
    ) -> NDArray[np.int64]:
        if options.exact:
            return self._snapshot.live_rows if allowed is None else np.flatnonzero(allowed)
        near = self._prefilter.candidates(query, options.n_candidates, allowed=allowed)
        return np.union1d(near, matches[: options.n_candidates])

    def _rerank(self, query: QueryVectors, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P,) MaxSim of each row."""
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
        page_ids = self._snapshot.page_ids[rows]
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
    table = dict(zip(keys.tolist(), values.tolist(), strict=True))
    return np.array([table.get(key, 0.0) for key in wanted.tolist()])
