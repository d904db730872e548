"""Whether one result is better than another: the same queries side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from docsearch.errors import UnsupportedInput
from docsearch.evaluation.judged import read_judged
from docsearch.evaluation.metrics import (
    Interval,
    bootstrap,
    first_relevant,
    parse_measures,
    per_query,
    randomisation_p,
)
from docsearch.evaluation.results import read_result
from docsearch.evaluation.run import answers_of
from docsearch.evaluation.trec import read_run

_EVEN = 1e-9  # values of a measure that differ by less are equal


@dataclass(frozen=True, slots=True)
class Moved:
    """One query in both results; ranks are of the first page that answers, None where none was found."""

    id: str
    text: str
    a: float
    b: float
    rank_a: int | None
    rank_b: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """B minus A, over the queries both have."""

    measure: str
    queries: int
    left_out: int  # queries that only one of them has
    a: float
    b: float
    difference: Interval
    p: float  # of the randomisation test, two-sided
    wins: int  # queries where B is better
    losses: int
    ties: int
    moved: Sequence[Moved]  # those that differ, most first

    def to_dict(self, most: int) -> dict[str, Any]:
        """The record of `--json`, with so many queries at most."""
        record = asdict(self) | {"difference": self.difference.to_dict()}
        return {"schema": "docsearch.eval.diff/1"} | record | {"moved": record["moved"][:most]}


@dataclass(frozen=True, slots=True)
class _Side:
    values: Mapping[str, float]
    ranks: Mapping[str, int | None]
    texts: Mapping[str, str]


def compare(a: Path, b: Path, measure: str, *, qrels: Path | None = None, common: bool = False) -> Difference:
    """Compare two results.

    Args:
        a: a folder of results, or, with ``qrels``, a TREC run.
        b: likewise.
        measure: one that both hold; for runs, any.
        qrels: judgements for two runs: whatever `read_judged` reads.
        common: compare the queries both have, where they are not the same.

    Raises:
        UnsupportedInput: a side cannot be read, has not the measure, or has other queries.
        ValueError: the measure is unknown.
    """
    (parsed,) = parse_measures([measure])
    name = str(parsed)
    sides = [_of_folder(path, name) if qrels is None else _of_run(path, qrels, parsed) for path in (a, b)]
    shared = [query for query in sides[0].values if query in sides[1].values]
    left_out = len(sides[0].values.keys() ^ sides[1].values.keys())
    if left_out and not common:
        raise UnsupportedInput(
            str(b), "unsupported", f"{left_out} queries are in only one of the two: compare the others with --common"
        )
    if not shared:
        raise UnsupportedInput(str(b), "unsupported", f"it has no query in common with {a}")
    first, second = (np.array([side.values[query] for query in shared]) for side in sides)
    differences = second - first
    low, high = bootstrap(differences[:, None])
    order = np.argsort(-abs(differences), kind="stable")
    return Difference(
        measure=name,
        queries=len(shared),
        left_out=left_out,
        a=float(first.mean()),
        b=float(second.mean()),
        difference=Interval(float(differences.mean()), float(low[0]), float(high[0])),
        p=randomisation_p(differences),
        wins=int((differences > _EVEN).sum()),
        losses=int((differences < -_EVEN).sum()),
        ties=int((abs(differences) <= _EVEN).sum()),
        moved=[_moved(query, *sides) for query in (shared[at] for at in order if abs(differences[at]) > _EVEN)],
    )


def _moved(query: str, a: _Side, b: _Side) -> Moved:
    return Moved(query, a.texts[query], a.values[query], b.values[query], a.ranks[query], b.ranks[query])


def _of_folder(folder: Path, measure: str) -> _Side:
    queries = read_result(folder).queries
    if missing := [query.id for query in queries if measure not in query.metrics]:
        there = ", ".join(queries[0].metrics)
        raise UnsupportedInput(
            str(folder), "unsupported", f"it has no {measure} of {missing[0]}: choose one of {there} with --measure"
        )
    return _Side(
        {query.id: query.metrics[measure] for query in queries},
        {query.id: query.first_relevant_rank for query in queries},
        {query.id: query.text for query in queries},
    )


def _of_run(path: Path, qrels: Path, measure: Any) -> _Side:
    judged = read_judged(qrels, asked=False)
    answers = answers_of(read_run(path), judged, None)
    rankings = {query: answer.ranking for query, answer in answers.items()}
    grades = {query.id: judged.qrels[query.id] for query in judged.answerable}
    values = per_query(grades, rankings, [measure])
    ranks = {query: first_relevant(rankings[query], grades[query]) for query in grades}
    return _Side(
        {query: row[str(measure)] for query, row in values.items()},
        ranks,
        {query.id: query.text for query in judged.queries},
    )
