"""The measures as their definitions say them, in float64: plain and slow, and what every library is held to.

`relevant` is page → grade above 0; `pages` is the ranking, best first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Relevant = Mapping[str, int]


def value(measure: Any, pages: Sequence[str], grades: Mapping[str, int]) -> float | None:
    """The value of an ir_measures measure; None for one that is not defined here.

    Args:
        measure: of `metrics.parse_measures`.
        pages: the ranking, best first.
        grades: page → grade; those of 0 or less are of pages that do not answer.
    """
    relevant = {page: grade for page, grade in grades.items() if grade > 0}
    cutoff = measure.params.get("cutoff")
    if measure.params.keys() - {"cutoff"}:
        return None
    match measure.NAME, cutoff:
        case "nDCG", int():
            return ndcg(pages, relevant, cutoff)
        case "R", int():
            return recall(pages, relevant, cutoff)
        case "RR", None:
            return reciprocal_rank(pages, relevant)
        case "AP", None:
            return average_precision(pages, relevant)
    return None


def ndcg(pages: Sequence[str], relevant: Relevant, k: int) -> float:
    """Gain is the grade, the discount log2(1 + rank); the ideal has all relevant pages, found or not.

    Source: Järvelin & Kekäläinen 2002, with the gain and the discount of trec_eval's ndcg_cut.
    """
    ideal = _dcg(sorted(relevant.values(), reverse=True)[:k])
    return _dcg([relevant.get(page, 0) for page in pages[:k]]) / ideal if ideal else 0.0


def recall(pages: Sequence[str], relevant: Relevant, k: int) -> float:
    """The share of the relevant pages that is among the first k."""
    return len(relevant.keys() & set(pages[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank(pages: Sequence[str], relevant: Relevant) -> float:
    """One over the rank of the first relevant page; 0 where there is none."""
    return next((1 / rank for rank, page in enumerate(pages, 1) if page in relevant), 0.0)


def average_precision(pages: Sequence[str], relevant: Relevant) -> float:
    """The mean, over all relevant pages, of the precision at their ranks; 0 for those that are not found."""
    ranks = [rank for rank, page in enumerate(pages, 1) if page in relevant]
    return math.fsum(n / rank for n, rank in enumerate(ranks, 1)) / len(relevant) if relevant else 0.0


def _dcg(gains: Sequence[int]) -> float:
    return math.fsum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, 1))
