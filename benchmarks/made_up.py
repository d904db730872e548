"""Pages and questions in the flagship's shape, made up: for speed and to compare designs, not to judge answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MadeUp:
    """Unit rows: ``pages`` (P, T, D) float16, ``queries`` (N, Tq, D) float32, ``answers`` (N,) the page of each."""

    pages: NDArray[np.float16]
    queries: Floats
    answers: NDArray[np.int64]


def made_up(*, n_pages: int, n_queries: int, n_tokens: int = 700, query_tokens: int = 24, dim: int = 128) -> MadeUp:
    """Draw pages that share what pages share.

    24,000 concepts in 400 clusters with a spectrum that falls as a power; 20 pages share a document's concepts and its
    style; 35 % of a page's token vectors are background. A query is so many token vectors of its page, so noisy that
    the page itself comes first about three times in four among a thousand.
    """
    random = np.random.default_rng(11)
    spectrum = np.arange(1, dim + 1) ** -0.35

    def draw(n: int) -> Floats:
        return unit((random.standard_normal((n, dim)) * spectrum).astype(np.float32))

    clusters = draw(400)
    concepts = unit(clusters[random.integers(0, 400, 24_000)] + 0.9 * draw(24_000))
    background = unit(clusters[random.integers(0, 400, 300)] + 0.9 * draw(300))
    pages = np.empty((n_pages, n_tokens, dim), np.float16)
    for page in range(n_pages):
        if page % 20 == 0:
            own, style = random.integers(0, len(concepts), 400), draw(1)
        rows = concepts[random.choice(own, n_tokens)]
        plain = random.random(n_tokens) < 0.35
        rows[plain] = background[random.integers(0, len(background), plain.sum())]
        pages[page] = unit(rows + 0.25 * style + 0.6 * draw(n_tokens))
    answers = random.choice(n_pages, n_queries, replace=False)
    asked = [pages[page, random.choice(n_tokens, query_tokens)].astype(np.float32) for page in answers]
    return MadeUp(pages, np.stack([unit(rows + NOISE * draw(query_tokens)) for rows in asked]), answers)


NOISE = 2.55  # of a query's token vectors, beside unit rows


def unit(rows: Floats) -> Floats:
    """Rows of length 1."""
    lengths: Floats = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / lengths
