"""The folder of results: run.trec, qrels.trec, per_query.jsonl, summary.json. Schema `docsearch.eval/1`.

Fields are added to it, never changed or taken away. The summary is written last: a folder without one is not finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from docsearch.errors import UnsupportedInput
from docsearch.evaluation import machine
from docsearch.evaluation.judged import Judged, JudgedQuery
from docsearch.evaluation.lines import read_bytes, read_lines
from docsearch.evaluation.metrics import (
    RESAMPLES,
    SEED,
    first_relevant,
    intervals,
    judged_share,
    per_query,
)
from docsearch.evaluation.run import Answer
from docsearch.evaluation.trec import Ranking, write_qrels, write_run

SCHEMA = "docsearch.eval/1"
SUMMARY, PER_QUERY, RUN, QRELS, EXACT_RUN = (
    "summary.json", "per_query.jsonl", "run.trec", "qrels.trec", "run.exact.trec",
)  # fmt: skip
ABLATION, MTEB = "ablation.json", "mteb"
FEWEST, MOST_GROUPS = 2, 12  # values of a key that make groups
MOST_LISTED = 20  # pages named in the summary
_TOP = 10  # pages kept of every ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """One line of per_query.jsonl."""

    id: str
    text: str
    image: str | None
    about: Mapping[str, str]
    metrics: Mapping[str, float]
    first_relevant_rank: int | None
    relevant: Mapping[str, int]  # page → grade, above 0
    top: Sequence[Mapping[str, Any]]  # page, score, grade (None: nobody judged it) of the first ten
    ms: Mapping[str, float | None]  # encode, search


@dataclass(frozen=True, slots=True)
class Result:
    """An evaluation: what is said of all queries together, and of each."""

    summary: Mapping[str, Any]
    queries: Sequence[QueryResult]


def make_result(
    judged: Judged,
    answers: Mapping[str, Answer],
    measures: Sequence[Any],
    *,
    options: Mapping[str, Any],
    index: Mapping[str, Any] | None = None,
    missing: Sequence[str] = (),
    collection_in_index: int | None = None,
    exact: Mapping[str, Answer] | None = None,
) -> Result:
    """Score answers.

    Args:
        judged: queries and judgements, in the names that the answers have.
        answers: query → answer, of every query that a page answers.
        measures: of `metrics.parse_measures`.
        options: how was searched, for the record.
        index: `Index.stats()`; None for a run that somebody else made.
        missing: judged pages that the index does not hold.
        collection_in_index: how many pages of the collection it holds.
        exact: the same queries with every page scored: then the cost of the index is a number.
    """
    queries = judged.answerable
    qrels = {query.id: judged.qrels[query.id] for query in queries}
    values = per_query(qrels, _rankings(answers), measures)
    share = judged_share(qrels, _rankings(answers))
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "name": judged.name,
            "kind": judged.kind,
            "queries": len(judged.queries),
            "judged_queries": len(queries),
            "judgements": sum(map(len, qrels.values())),
            "collection_pages": None if judged.collection is None else len(judged.collection),
            "collection_pages_in_index": collection_in_index,
            "n_pages_not_in_index": len(missing),
            "pages_not_in_index": list(missing[:MOST_LISTED]),
        },
        "options": dict(options),
        "metrics": _told(values),
        "groups": {
            name: {"queries": len(members), "metrics": _told({query: values[query] for query in members})}
            for name, members in groups(queries).items()
        },
        "judged": None if share is None else {"judged@10": share, "unjudged@10": 1 - share},
        "latency_ms": _latency(answers.values()),
        "index": None if index is None else dict(index),
        "versions": machine.versions(),
        "hardware": machine.hardware(),
        "seed": SEED,
        "resamples": RESAMPLES,
    }
    if exact is not None:
        summary["exact"] = {
            "metrics": _told(per_query(qrels, _rankings(exact), measures)),
            "latency_ms": _latency(exact.values()),
        }
        summary["prefilter"] = {"recall_of_exact_top10": recall_of_exact(answers, exact)}
    return Result(summary, [_line(query, judged, answers[query.id], values[query.id]) for query in queries])


def groups(queries: Iterable[JudgedQuery]) -> dict[str, list[str]]:
    """`key=value` → queries, of the keys that have a few values: more would be a list, one would be everything."""
    found: dict[str, dict[str, list[str]]] = {}
    for query in queries:
        for key, value in query.about.items():
            found.setdefault(key, {}).setdefault(value, []).append(query.id)
    return {
        f"{key}={value}": members
        for key, values in found.items()
        if FEWEST <= len(values) <= MOST_GROUPS
        for value, members in sorted(values.items())
    }


def recall_of_exact(answers: Mapping[str, Answer], exact: Mapping[str, Answer], depth: int = _TOP) -> float:
    """How many of the pages that are best when every page is scored are found: the mean over queries with any."""
    shares = []
    for query, answer in exact.items():
        best = list(answer.ranking)[:depth]
        if best:
            shares.append(float(np.mean([page in answers[query].ranking for page in best])))
    return float(np.mean(shares)) if shares else 1.0


def _rankings(answers: Mapping[str, Answer]) -> dict[str, Ranking]:
    return {query: answer.ranking for query, answer in answers.items()}


def _told(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: interval.to_dict() for name, interval in intervals(values).items()}


def _latency(answers: Iterable[Answer]) -> dict[str, dict[str, float]] | None:
    times = [(answer.encode_ms, answer.search_ms) for answer in answers if answer.search_ms is not None]
    if not times:
        return None
    table = np.percentile(np.array(times, np.float64), [50, 95], axis=0)  # (p50 and p95, encode and search)
    return {
        name: {"p50": float(column[0]), "p95": float(column[1])}
        for name, column in zip(("encode", "search"), table.T, strict=True)
    }


def _line(query: JudgedQuery, judged: Judged, answer: Answer, metrics: Mapping[str, float]) -> QueryResult:
    grades = judged.qrels[query.id]
    return QueryResult(
        id=query.id,
        text=query.text,
        image=None if query.image is None else str(query.image),
        about=dict(query.about),
        metrics=metrics,
        first_relevant_rank=first_relevant(answer.ranking, grades),
        relevant={page: grade for page, grade in grades.items() if grade > 0},
        top=[
            {"page": page, "score": score, "grade": grades.get(page)}
            for page, score in list(answer.ranking.items())[:_TOP]
        ],
        ms={"encode": answer.encode_ms, "search": answer.search_ms},
    )


# -- on disk ------------------------------------------------------------------------------------------------------


def prepare_folder(folder: Path) -> None:
    """Make the folder for results, or take one that holds earlier ones.

    Raises:
        UnsupportedInput: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UnsupportedInput(str(folder), "unsupported", "it is a file: name a folder for the results with --out")
    of_ours = any((folder / name).exists() for name in (SUMMARY, ABLATION, MTEB))
    if folder.exists() and any(folder.iterdir()) and not of_ours:
        raise UnsupportedInput(
            str(folder), "unsupported", "it holds files that are no results: choose another folder with --out"
        )
    folder.mkdir(parents=True, exist_ok=True)


def write_result(
    folder: Path,
    result: Result,
    judged: Judged,
    answers: Mapping[str, Answer],
    exact: Mapping[str, Answer] | None = None,
) -> None:
    """Write the files of a result in place of those of an earlier one."""
    for name in (SUMMARY, EXACT_RUN):
        (folder / name).unlink(missing_ok=True)
    write_run(folder / RUN, _rankings(answers))
    if exact is not None:
        write_run(folder / EXACT_RUN, _rankings(exact))
    write_qrels(folder / QRELS, {query.id: judged.qrels[query.id] for query in judged.answerable})
    lines = (json.dumps(asdict(query), ensure_ascii=False) + "\n" for query in result.queries)
    (folder / PER_QUERY).write_text("".join(lines), "utf-8")
    write_json(folder / SUMMARY, result.summary)


def write_json(path: Path, value: Any) -> None:
    """One value as JSON, in UTF-8, indented."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")


def read_result(folder: Path) -> Result:
    """Read a folder of results.

    Raises:
        UnsupportedInput: it is none, or damaged, or of a newer docsearch.
    """
    try:
        summary = json.loads(read_bytes(folder / SUMMARY))
        found = str(summary["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedInput(str(folder / SUMMARY), "corrupt", f"is no summary of results: {error}") from None
    if found != SCHEMA:
        raise UnsupportedInput(str(folder), "unsupported", f"its results are {found}; this docsearch reads {SCHEMA}")
    queries = []
    for line in read_lines(folder / PER_QUERY):
        try:
            queries.append(QueryResult(**line.record()))
        except TypeError as error:
            raise line.wrong(f"it lacks what a result has ({error})") from None
    return Result(summary, queries)
