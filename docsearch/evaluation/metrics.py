"""How good rankings are: measures by ir_measures, intervals by bootstrap, differences by randomisation.

Every library orders pages of equal score in its own way, so all are given ranks instead of scores: the order is then
the one of `docsearch.evaluation.trec`, which is what trec_eval makes of the written run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
from numpy.typing import NDArray

from docsearch.evaluation.trec import Qrels, Ranking

SEED, RESAMPLES = 7, 2000
MEASURES = ("nDCG@5", "nDCG@10", "R@1", "R@5", "R@10", "R@100", "RR", "AP")

_BLOCK = 2**22  # resampled queries held in memory at a time
_EXACT_UP_TO = 14  # queries whose differences are given every sign instead of random ones


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The record of `summary.json`."""
        return {"value": self.value, "low": self.low, "high": self.high}


def parse_measures(names: Iterable[str], depth: int | None = None) -> list[Any]:
    """Measures by their names as ir_measures knows them, each once.

    Args:
        names: `nDCG@10`, `Success@3` …
        depth: of the rankings; measures that look deeper are left out: they would promise what was not asked.

    Raises:
        ValueError: a name is unknown.
    """
    found = {}
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            measure.validate_params()
            if not ir_measures.DefaultPipeline.supports(measure):
                raise ValueError("nothing that is installed computes it")
        except (NameError, ValueError, AssertionError) as error:
            raise ValueError(
                f"{name!r} is no measure: write it like nDCG@10, R@5, Success@3, RR, AP ({error})"
            ) from None
        found[str(measure)] = measure
    deepest = depth or 10**9
    return [measure for measure in found.values() if measure.params.get("cutoff", 0) <= deepest]


def per_query(qrels: Qrels, rankings: Mapping[str, Ranking], measures: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Query → measure → value; a query without an answer has 0 everywhere.

    Args:
        qrels: the queries to score.
        rankings: pages best first, the scores do not matter; queries without judgements are passed over.
        measures: of `parse_measures`.
    """
    run = {query: _by_rank(ranking) for query, ranking in rankings.items() if ranking and query in qrels}
    values: dict[str, dict[str, float]] = {query: dict.fromkeys(map(str, measures), 0.0) for query in qrels}
    for metric in ir_measures.iter_calc(measures, qrels, run):
        values[metric.query_id][str(metric.measure)] = float(metric.value)
    return values


def _by_rank(ranking: Ranking) -> dict[str, float]:
    return {page: float(len(ranking) - rank) for rank, page in enumerate(ranking)}


def judged_share(qrels: Qrels, rankings: Mapping[str, Ranking], depth: int = 10) -> float | None:
    """How many of the first pages somebody judged, whatever the grade; None where no query has an answer."""
    shown = {query: list(ranking)[:depth] for query, ranking in rankings.items() if ranking and query in qrels}
    if not shown:
        return None
    return float(np.mean([np.mean([page in qrels[query] for page in pages]) for query, pages in shown.items()]))


def first_relevant(ranking: Ranking, grades: Mapping[str, int]) -> int | None:
    """The rank of the first page that answers, from 1."""
    return next((rank for rank, page in enumerate(ranking, 1) if grades.get(page, 0) > 0), None)


def intervals(values: Mapping[str, Mapping[str, float]]) -> dict[str, Interval]:
    """Measure → mean over queries with its interval."""
    names = list(next(iter(values.values())))
    table = np.array([[row[name] for name in names] for row in values.values()])  # (queries, measures)
    low, high = bootstrap(table)
    return {
        name: Interval(*map(float, found)) for name, *found in zip(names, table.mean(axis=0), low, high, strict=True)
    }


def bootstrap(
    table: NDArray[np.float64], *, seed: int = SEED, resamples: int = RESAMPLES, block: int = _BLOCK
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % percentile interval of the mean of every column, by resampling rows.

    Args:
        table: (Q, M) values.
        seed: of the draws.
        resamples: how many means are drawn.
        block: rows drawn at a time; changes nothing but the memory it takes.

    Returns:
        The (M,) 2.5th and 97.5th percentiles.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    n_queries = len(table)
    rng, means, step = np.random.default_rng(seed), [], max(1, block // n_queries)
    for start in range(0, resamples, step):
        draws = rng.integers(0, n_queries, (min(step, resamples - start), n_queries))
        counts = np.stack([np.bincount(draw, minlength=n_queries) for draw in draws])  # how often each query was drawn
        means.append(counts @ table / n_queries)
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return low, high


def randomisation_p(differences: NDArray[np.float64], *, seed: int = SEED, permutations: int = 10_000) -> float:
    """How likely a mean at least as far from 0 is where each query's difference may as well have the other sign.

    Args:
        differences: (Q,) of one query each. Up to 14 queries get every sign there is; more get random ones.
        seed: of the signs.
        permutations: how often they are drawn; the smallest p is one in one more than so many.

    Source: Smucker, Allan & Carterette 2007, "A Comparison of Statistical Significance Tests for Information Retrieval
    Evaluation", section 3.1: two-sided.
    """
    n_queries = len(differences)
    seen = abs(differences.sum()) - 1e-12 * n_queries  # sums of the same numbers differ in the last digit
    if n_queries <= _EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**n_queries)[:, None] >> np.arange(n_queries)) & 1)
        return float(np.mean(abs(signs @ differences) >= seen))
    rng, as_far, step = np.random.default_rng(seed), 0, max(1, _BLOCK // n_queries)
    for start in range(0, permutations, step):
        signs = 1 - 2 * rng.integers(0, 2, (min(step, permutations - start), n_queries), dtype=np.int8)
        as_far += int(np.count_nonzero(abs(signs @ differences) >= seen))
    return (as_far + 1) / (permutations + 1)
