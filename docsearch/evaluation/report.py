"""The report: a folder of results as one page that anyone can open, with nothing to load and nothing to install."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import docsearch
from docsearch.evaluation import charts
from docsearch.evaluation.misses import show_miss, worst
from docsearch.evaluation.results import RUN, QueryResult, Result, read_result
from docsearch.evaluation.trec import read_run
from docsearch.index import Index

REPORT = "report.html"
MOST_MISSES = 12  # with two pictures each: some 30 kB a picture
MOST_ROWS = 2000  # of the table of queries, which is a kilobyte a row

_CARDS = {
    "nDCG@10": "Are the best pages on top? Looks at the first ten; 1 is the perfect order.",
    "RR": "Mean reciprocal rank of the first answer: 1 for the first place, 1/2 for the second, 1/3 for the third.",
    "R@1": "Recall: how much of what answers stands in the first place.",
    "R@10": "Recall: how much of what answers is among the first ten.",
}
_N_CARDS = 4
_MOST_KEYS = 3  # columns of the table that say what kind of query it is

OnProgress = Callable[[str, int, int], None]  # what is being done, how much of it is done, and of how much


def write_report(folder: Path, index: Index | None = None, *, on_progress: OnProgress = lambda *_: None) -> Path:
    """Write `report.html` into a folder of results. The same results and index give the same bytes.

    Args:
        folder: of results.
        index: draws the pages of the misses; without it the report says their names.
        on_progress: called before every miss.

    Raises:
        UnsupportedInput: the folder holds no results, or damaged ones.
    """
    result = read_result(folder)
    page = _environment().get_template(f"{REPORT}.jinja").render(**_context(folder, result, index, on_progress))
    path = folder / REPORT
    path.write_text(page, "utf-8", newline="\n")
    return path


def _environment() -> Environment:
    """Everything is escaped: queries and the names of files come from strangers."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(frozen=True, slots=True)
class _Row:
    query: QueryResult
    ms: float


def _context(folder: Path, result: Result, index: Index | None, on_progress: OnProgress) -> dict[str, Any]:
    summary, queries = result.summary, result.queries
    metrics, data, measured = summary["metrics"], summary["data"], summary.get("index")
    main = "nDCG@10" if "nDCG@10" in metrics else next(iter(metrics))
    groups = _groups(summary["groups"])
    missed = worst(queries)
    rows = [*missed, *(query for query in queries if query.first_relevant_rank == 1)]
    latency = {name: marks for name, marks in (summary.get("latency_ms") or {}).items() if marks and marks["p95"] > 0}
    return {
        "data": data,
        "pages": data.get("collection_pages_in_index") or (measured or {}).get("pages"),
        "made_at": datetime.fromisoformat(summary["made_at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "lead": _lead(queries),
        "missing": {"count": data["n_pages_not_in_index"], "names": data["pages_not_in_index"]},
        "cards": [{"name": name, "about": _CARDS.get(name, ""), **metrics[name]} for name in _headline(metrics)],
        "resamples": summary["resamples"],
        "seed": summary["seed"],
        "judged": summary.get("judged"),
        "metrics": metrics,
        "exact": (summary.get("exact") or {}).get("metrics"),
        "recall": (summary.get("prefilter") or {}).get("recall_of_exact_top10"),
        "charts": {
            "measures": charts.measures_chart(metrics),
            "ranks": charts.ranks_chart([query.first_relevant_rank for query in queries]),
            "groups": {
                key: charts.groups_chart(
                    main,
                    {value: (group["queries"], group["metrics"][main]) for value, group in values.items()},
                    metrics[main]["value"],
                )
                for key, values in groups.items()
            },
            "latency": latency
            and charts.latency_chart({name: (_times(queries, name), marks) for name, marks in latency.items()}),
        },
        "misses": _misses(folder, missed, index, list(groups), summary["options"].get("depth"), on_progress),
        "misses_told": _misses_told(len(missed), len(queries)),
        "pictures_told": _pictures_told(measured, index),
        "keys": list(groups)[:_MOST_KEYS],
        "columns": _headline(metrics)[:2],
        "timed": bool(latency),
        "rows": [_Row(query, sum(ms or 0.0 for ms in query.ms.values())) for query in rows[:MOST_ROWS]],
        "rows_left_out": max(0, len(rows) - MOST_ROWS),
        "measured": _measured(summary),
        "version": docsearch.__version__,
    }


def _headline(metrics: Mapping[str, Any]) -> list[str]:
    """The measures that say most, others where those were not asked for."""
    return [*(name for name in _CARDS if name in metrics), *(name for name in metrics if name not in _CARDS)][:_N_CARDS]


def _lead(queries: Sequence[QueryResult]) -> str:
    """What the measures mean, for people who do not know them."""

    def told(n: int) -> str:
        return f"{n:,} of {len(queries):,} queries ({100 * n / len(queries):.0f} %)"

    ranks = [query.first_relevant_rank or 10**9 for query in queries]
    first, ten = sum(rank == 1 for rank in ranks), sum(rank <= 10 for rank in ranks)
    return f"The first page shown answers {told(first)}; one of the first ten pages answers {told(ten)}."


def _groups(groups: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`key=value` → group as key → value → group."""
    found: dict[str, dict[str, Any]] = {}
    for name, group in groups.items():
        key, _, value = name.partition("=")
        found.setdefault(key, {})[value] = group
    return found


def _times(queries: Sequence[QueryResult], part: str) -> list[float]:
    return [ms for query in queries if (ms := query.ms.get(part)) is not None]


def _misses(
    folder: Path,
    missed: Sequence[QueryResult],
    index: Index | None,
    keys: Sequence[str],
    depth: int | None,
    on_progress: OnProgress,
) -> list[Any]:
    rankings = read_run(folder / RUN) if missed and (folder / RUN).exists() else {}
    shown = []
    for at, query in enumerate(missed[:MOST_MISSES]):
        on_progress("drawing", at, min(len(missed), MOST_MISSES))
        known = {found["page"]: found["score"] for found in query.top}
        shown.append(show_miss(query, rankings.get(query.id, known), index=index, keys=keys, depth=depth))
    return shown


def _misses_told(n_missed: int, n_queries: int) -> str:
    shown = f"The {MOST_MISSES} worst of them." if n_missed > MOST_MISSES else "The worst comes first."
    return f"The first page shown does not answer {n_missed:,} of {n_queries:,} queries. {shown}"


def _pictures_told(measured: Mapping[str, Any] | None, index: Index | None) -> str:
    if index is None:
        return "There are no pictures, since there was no index to draw them from."
    then, now = (measured or {}).get("commit"), index.stats()["commit"]
    if then not in {None, now}:
        return "The index has changed since it was measured, so the pictures may show something else."
    return ""


def _measured(summary: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Title → name → value: enough to do it again."""
    data, index = summary["data"], summary.get("index") or {}
    sections = {
        "Queries": {
            "from": f"{data['name']} ({data['kind']})",
            "queries": f"{data['queries']:,}, {data['judged_queries']:,} of them with a page that answers",
            "judgements": f"{data['judgements']:,}",
            "pages that count": _number(data.get("collection_pages"), otherwise="all of the index"),
        },
        "Index": {
            "encoder": index.get("encoder"),
            "fingerprint": index.get("fingerprint"),
            "codec": index.get("codec"),
            "pooling": index.get("pooling"),
            "documents": _number(index.get("documents")),
            "pages": _number(index.get("pages")),
            "bytes a page": _number(index.get("bytes_per_page")),
            "of them token vectors": _number(index.get("token_bytes_per_page")),
            "commit": index.get("commit"),
        },
        "Search": dict(summary["options"]),
        "Versions": dict(summary["versions"]),
        "Machine": dict(summary["hardware"]),
    }
    return {
        title: {name: str(value) for name, value in facts.items() if value is not None}
        for title, facts in sections.items()
        if any(value is not None for value in facts.values())
    }


def _number(value: float | None, *, otherwise: str | None = None) -> str | None:
    return otherwise if value is None else f"{value:,}"
