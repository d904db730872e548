"""One list out of MaxSim and BM25."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BM25_WEIGHT = 0.05  # what a page gains that holds every word of the query; MaxSim lies between -1 and 1
_K1 = 1.2  # of FTS5's bm25


def ideal_bm25(document_frequencies: NDArray[np.int64], n_pages: int) -> float:
    """The BM25 of a page that holds every term of the query without end: what `coverage` is measured against.

    Args:
        document_frequencies: (terms,) how many pages hold each term; a term no page holds weighs most.
        n_pages: how many pages there are.

    Source: Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework", section 3.4, with FTS5's lower bound
    of 1e-6 for the inverse document frequency.
    """
    frequencies = np.minimum(document_frequencies, n_pages)  # pages of a change that is not complete count as well
    idf = np.log((n_pages - frequencies + 0.5) / (frequencies + 0.5))
    return float(np.maximum(idf, 1e-6).sum() * (_K1 + 1))


def telling_terms(
    terms: Sequence[str], document_frequencies: NDArray[np.int64], n_pages: int, *, most_pages: int | None
) -> list[str]:
    """The terms worth matching, the rarest first: FTS5 reads every page of every term.

    A term on more than half of the pages has no weight in FTS5's BM25 and is left out, unless all are such terms.

    Args:
        terms: the query's.
        document_frequencies: (terms,) how many pages hold each.
        n_pages: how many pages there are.
        most_pages: stop before the terms have more pages than this together; None takes them all.
    """
    order = np.argsort(document_frequencies, kind="stable")
    telling = document_frequencies[order] * 2 <= n_pages
    telling[:1] = True
    if most_pages is not None:
        telling &= np.cumsum(document_frequencies[order]) <= most_pages
    return [terms[at] for at in order[telling]]


def fuse(maxsim: NDArray[np.float64], bm25: NDArray[np.float64], ideal: float) -> NDArray[np.float64]:
    """Add to each page's mean MaxSim the share of the query's words it holds, rare words weighing more.

    The weight is small for the sake of questions in another language than the answer: they share a word or two with
    many pages, names and words of their own language, and a page must not win by these.

    Args:
        maxsim: (P,) MaxSim divided by the number of query tokens.
        bm25: (P,) BM25, 0 where no term matches.
        ideal: the query's `ideal_bm25`.
    """
    return maxsim + BM25_WEIGHT * bm25 / ideal
