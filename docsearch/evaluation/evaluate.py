"""From judged queries to results: ask an index, read a run, or let mteb ask; then score what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from docsearch.errors import UnsupportedInput
from docsearch.evaluation.judged import Judged, read_judged
from docsearch.evaluation.metrics import MEASURES, parse_measures
from docsearch.evaluation.pages import Matched, PageNames
from docsearch.evaluation.results import Result, make_result, write_result
from docsearch.evaluation.run import Answer, Asker, OnProgress, answers_of, encode, search
from docsearch.evaluation.trec import read_run
from docsearch.index import Index
from docsearch.options import SearchOptions


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked, what came, and how good it is."""

    judged: Judged
    answers: Mapping[str, Answer]
    exact: Mapping[str, Answer] | None
    result: Result
    missing: Sequence[str] = ()  # judged pages that the index does not hold

    def write(self, folder: Path) -> None:
        """Write the files of `docsearch.evaluation.results`."""
        write_result(folder, self.result, self.judged, self.answers, self.exact)


def evaluate_index(
    index: Index,
    matched: Matched,
    options: SearchOptions,
    *,
    names: PageNames,
    measures: Sequence[str] = MEASURES,
    exact: bool = False,
    on_progress: OnProgress = lambda *_: None,
) -> Evaluation:
    """Ask an index.

    Args:
        index: what to ask.
        matched: queries and judgements in its names, of `names.match`.
        options: how to search; ``k`` is the length of the rankings.
        names: of its pages.
        measures: their names.
        exact: score every page beside it.
        on_progress: what is being done, how much of it is done, and of how much.

    Raises:
        ValueError: a measure is unknown.
        ModelUnavailable: the encoder cannot be loaded.
    """
    parsed, judged = parse_measures(measures, options.k), matched.judged
    encoded = encode(index, judged, mode=options.mode, on_progress=on_progress)
    ways = [options, *([replace(options, exact=True)] if exact else [])]
    askers = [Asker(index, judged, way, names) for way in ways]
    answers, *others = search(askers, encoded, on_progress=on_progress)
    beside = others[0] if exact else None
    collection = judged.collection
    result = make_result(
        judged,
        answers,
        parsed,
        options={
            "mode": options.mode,
            "candidates": options.n_candidates,
            "exact": exact,
            "depth": options.k,
            "where": options.where,
            "path": options.path,
        },
        index=index.stats(),
        missing=matched.missing,
        collection_in_index=None if collection is None else len(collection.intersection(names.of_id.values())),
        exact=beside,
    )
    return Evaluation(judged, answers, beside, result, matched.missing)


def evaluate_run(
    path: Path, judged: Judged, *, depth: int | None = None, measures: Sequence[str] = MEASURES
) -> Evaluation:
    """Score a run that exists, its names taken as they are.

    Raises:
        UnsupportedInput: the run cannot be read, or answers none of the queries.
        ValueError: a measure is unknown.
    """
    run = read_run(path)
    answers = answers_of(run, judged, depth)
    if not any(answer.ranking for answer in answers.values()):
        ranking = next((run[query] for query in answers if query in run), None)
        what = (
            f"no page of the collection, {next(iter(ranking))} for one" if ranking else f"no query, {next(iter(run))}"
        )
        raise UnsupportedInput(
            str(path), "unsupported", f"it names {what}, as the judgements do: names are taken as they are"
        )
    options = {"run": path.name, "depth": depth}
    return Evaluation(
        judged, answers, None, make_result(judged, answers, parse_measures(measures, depth), options=options)
    )


def evaluate_mteb(
    task: str,
    folder: Path,
    *,
    encoder: str,
    options: SearchOptions,
    measures: Sequence[str] = MEASURES,
    exact: bool = False,
) -> Evaluation:
    """Let mteb ask a task of its own: the whole pipeline, and beside it, if wanted, the encoder with every page scored.

    Args:
        task: its name.
        folder: where mteb's own results go; a run that was stopped goes on there.
        encoder: a name of `docsearch models`.
        options: how the pipeline searches; ``k`` is the length of the rankings.
        measures: their names.
        exact: score every page beside it.

    Raises:
        ModelUnavailable: mteb is not installed, or the encoder cannot be loaded.
        DocsearchError: the task's data cannot be had here.
        ValueError: there is no such task, or a measure is unknown.
    """
    from docsearch.evaluation.mteb import evaluate_task  # noqa: PLC0415 - needs another extra

    parsed = parse_measures(measures, options.k)
    found = evaluate_task(task, encoder=encoder, out=folder / "pipeline", way="pipeline", search=options)
    judged = read_judged(found / "qrels.trec", queries=found / "queries.jsonl", asked=False)
    judged = replace(judged, name=task, kind="mteb")
    answers = answers_of(read_run(found / "run.trec"), judged, options.k)
    beside = None
    if exact:
        found = evaluate_task(task, encoder=encoder, out=folder / "exact", way="exact")
        beside = answers_of(read_run(found / "run.trec"), judged, options.k)
    told = {"mode": options.mode, "candidates": options.n_candidates, "exact": exact, "depth": options.k}
    result = make_result(judged, answers, parsed, options=told | {"mteb": task, "encoder": encoder}, exact=beside)
    return Evaluation(judged, answers, beside, result)
