"""Compute a result again from the files alone, by other means than those that made it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ir_measures

from docsearch.errors import DocsearchError
from docsearch.evaluation import reference
from docsearch.evaluation.metrics import parse_measures
from docsearch.evaluation.results import QRELS, RUN, Result
from docsearch.evaluation.trec import Ranking, escape, in_trec_order, unescape

TOLERANCE = 1e-6

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]
PerQuery = dict[str, dict[str, float]]  # query → measure → value


class ResultsDiffer(DocsearchError):
    """A result is not what its files say."""

    def __init__(self, folder: Path, query: str, measure: str, way: str, ours: float, theirs: float) -> None:
        super().__init__(
            f"{folder} is not what its files say: {measure} of the query {query!r} is {ours!r} there, "
            f"and {theirs!r} when {way} computes it from {RUN} and {QRELS}"
        )
        self.folder, self.query, self.measure, self.way = folder, query, measure, way


def verify(folder: Path, result: Result) -> dict[str, float]:
    """Read run.trec and qrels.trec and score them with everything that is here.

    Returns:
        What computed it → the largest difference to the result, over queries and measures.

    Raises:
        ResultsDiffer: one of them differs by more than 1e-6.
    """
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for judgement in ir_measures.read_trec_qrels(str(folder / QRELS)):
        qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
    for found in ir_measures.read_trec_run(str(folder / RUN)):
        run.setdefault(found.query_id, {})[found.doc_id] = found.score
    measures = parse_measures(result.queries[0].metrics)
    largest = {}
    for way, compute in ways().items():
        theirs = compute(qrels, run, measures)
        largest[way] = 0.0
        for query in result.queries:
            for measure, value in theirs[escape(query.id)].items():
                difference = abs(value - query.metrics[measure])
                largest[way] = max(largest[way], difference)
                if difference > TOLERANCE:
                    raise ResultsDiffer(folder, query.id, measure, way, query.metrics[measure], value)
    return largest


def ways() -> dict[str, Callable[[Qrels, Run, Sequence[Any]], PerQuery]]:
    """What can compute measures here: pytrec_eval, the definitions in float64, and ranx where it is installed."""
    found = {"pytrec_eval": by_pytrec_eval, "float64": by_definition}
    return found | ({"ranx": by_ranx} if find_spec("ranx") else {})


def by_pytrec_eval(qrels: Qrels, run: Run, measures: Sequence[Any]) -> PerQuery:
    """trec_eval's own C code, given the scores as they are: it sorts them, and ties, itself."""
    import pytrec_eval  # noqa: PLC0415 - comes with ir_measures

    names = _names(measures, {"nDCG": "ndcg_cut.{}", "R": "recall.{}", "RR": "recip_rank", "AP": "map"})
    found = pytrec_eval.RelevanceEvaluator(qrels, set(names.values())).evaluate(run)
    return {
        query: {measure: found.get(query, {}).get(name.replace(".", "_"), 0.0) for measure, name in names.items()}
        for query in qrels
    }


def by_definition(qrels: Qrels, run: Run, measures: Sequence[Any]) -> PerQuery:
    """`docsearch.evaluation.reference`, on the run in trec_eval's order."""
    values: PerQuery = {}
    for query, grades in qrels.items():
        pages = list(_ranking(run, query))
        judged = {unescape(page): grade for page, grade in grades.items()}
        of_all = {str(measure): reference.value(measure, pages, judged) for measure in measures}
        values[query] = {measure: value for measure, value in of_all.items() if value is not None}
    return values


def by_ranx(qrels: Qrels, run: Run, measures: Sequence[Any]) -> PerQuery:
    """ranx, given ranks and grades from 0: its order of equal scores is its own, and a grade of -1 would cost gain."""
    ranx = import_module("ranx")  # which is no dependency of ours, and takes seconds to load
    names = _names(measures, {"nDCG": "ndcg@{}", "R": "recall@{}", "RR": "mrr", "AP": "map"})
    by_rank = {
        query: {escape(page): float(-rank) for rank, page in enumerate(_ranking(run, query))}
        for query in qrels
        if run.get(query)
    }
    of_all: PerQuery = {query: dict.fromkeys(names, 0.0) for query in qrels}
    if not by_rank:
        return of_all
    judged = {query: {page: max(0, grade) for page, grade in qrels[query].items()} for query in by_rank}
    theirs = ranx.Run(by_rank)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its compiler, about numbers that are small enough
        ranx.evaluate(ranx.Qrels(judged), theirs, list(names.values()))
    for measure, name in names.items():
        for query, value in theirs.scores[name].items():
            of_all[query][measure] = float(value)
    return of_all


def _names(measures: Sequence[Any], known: Mapping[str, str]) -> dict[str, str]:
    """Measure → what a library calls it, of those that it knows."""
    return {
        str(measure): known[measure.NAME].format(measure.params.get("cutoff"))
        for measure in measures
        if measure.NAME in known and set(measure.params) == ({"cutoff"} if "{}" in known[measure.NAME] else set())
    }


def _ranking(run: Run, query: str) -> Ranking:
    return in_trec_order({unescape(page): score for page, score in run.get(query, {}).items()})
