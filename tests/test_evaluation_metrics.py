"""The figures: equal to pytrec_eval, ranx and the definitions on whatever goes wrong, with intervals and tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from scipy import stats

from docsearch.errors import UnsupportedInput
from docsearch.evaluation import verify as verification
from docsearch.evaluation.judged import Judged, JudgedQuery
from docsearch.evaluation.metrics import (
    MEASURES,
    bootstrap,
    first_relevant,
    intervals,
    judged_share,
    parse_measures,
    per_query,
    randomisation_p,
)
from docsearch.evaluation.results import make_result, prepare_folder, read_result, write_result
from docsearch.evaluation.run import answers_of
from docsearch.evaluation.trec import in_trec_order

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = [*MEASURES, "nDCG@1", "nDCG@100", "R@3"]


@pytest.fixture(scope="module")
def random_runs():
    """Judgements and scores of benchmarks/metric_equalities.py: ties, graded and negative grades, nothing found."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import metric_equalities
    finally:
        sys.path.remove(str(BENCHMARKS))
    qrels, run = metric_equalities.random_runs(400, 11)
    said = metric_equalities.describe(qrels, run)
    assert "0" not in re.findall(r"\d+", said), said  # each kind of trouble is there
    return qrels, run


@pytest.fixture(scope="module")
def ours(random_runs):
    qrels, run = random_runs
    return per_query(qrels, {query: in_trec_order(scores) for query, scores in run.items()}, parse_measures(NAMES))


def test_pytrec_eval_makes_the_same_of_the_scores(random_runs, ours):
    """A failure means: our figures are not those of trec_eval, where scores are tied or grades negative for one."""
    qrels, run = random_runs
    measures = {"ndcg_cut.5", "ndcg_cut.10", "ndcg_cut.1", "ndcg_cut.100", "recall.1", "recall.3", "recall.5",
                "recall.10", "recall.100", "recip_rank", "map"}  # fmt: skip
    theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    for query, values in ours.items():
        for name, value in values.items():
            known = name.replace("nDCG@", "ndcg_cut_").replace("R@", "recall_").replace("RR", "recip_rank")
            assert value == theirs.get(query, {}).get(known.replace("AP", "map"), 0.0), (query, name)


def test_the_definitions_in_float64_agree(random_runs, ours):
    """A failure means: the library computes something else than the measure's definition."""
    qrels, run = random_runs
    theirs = verification.by_definition(qrels, run, parse_measures(NAMES))

    assert theirs.keys() == ours.keys()
    for query, values in ours.items():
        assert values == pytest.approx(theirs[query], abs=1e-12)


def test_ranx_agrees(random_runs, ours):
    """A failure means: another library would publish other figures for our run."""
    qrels, run = random_runs
    theirs = verification.by_ranx(qrels, run, parse_measures(NAMES))

    for query, values in ours.items():
        assert values == pytest.approx(theirs[query], abs=1e-12)


def test_measures_worked_out_by_hand():
    """A failure means: a figure is not what its name says."""
    grades = {"best": 2, "good": 1, "lost": 1, "bad": 0, "worse": -1}
    ranking = dict.fromkeys(["worse", "best", "unknown", "good"], 0.0)

    values = per_query({"q": grades}, {"q": ranking}, parse_measures(["nDCG@10", "R@5", "R@1", "RR", "AP"]))["q"]

    log3, log5 = np.log2(3), np.log2(5)
    assert values == pytest.approx({
        "nDCG@10": (2 / log3 + 1 / log5) / (2 + 1 / log3 + 1 / 2),
        "R@5": 2 / 3,
        "R@1": 0.0,
        "RR": 1 / 2,
        "AP": (1 / 2 + 2 / 4) / 3,
    })  # fmt: skip
    assert first_relevant(ranking, grades) == 2
    assert first_relevant({"worse": 1.0, "bad": 0.5}, grades) is None


def test_queries_without_an_answer_count_as_nothing_found():
    """A failure means: a query that finds nothing makes the mean better by not being counted."""
    qrels = {"found": {"a": 1}, "empty": {"a": 1}, "absent": {"a": 1}}

    values = per_query(qrels, {"found": {"a": 1.0}, "empty": {}, "never judged": {"a": 1.0}}, parse_measures(["RR"]))

    assert values == {"found": {"RR": 1.0}, "empty": {"RR": 0.0}, "absent": {"RR": 0.0}}
    assert intervals(values)["RR"].value == pytest.approx(1 / 3)


def test_the_share_of_judged_pages_is_that_of_ir_measures(random_runs):
    """A failure means: the reader is told the wrong share of pages that nobody looked at."""
    qrels, run = random_runs
    found = {query: in_trec_order(scores) for query, scores in run.items() if scores}
    by_rank = {query: {page: -float(at) for at, page in enumerate(pages)} for query, pages in found.items()}
    theirs = [metric.value for metric in ir_measures.iter_calc([ir_measures.Judged @ 10], qrels, by_rank)
              if metric.query_id in found]  # fmt: skip

    assert judged_share(qrels, found) == pytest.approx(np.mean(theirs))
    assert judged_share(qrels, {"q1": {}}) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("R", "invalid param cutoff"),
        ("nonsense@3", "measure not found"),
        ("R@x", "problem parsing"),
        ("alpha_nDCG@5", "nothing that is installed computes it"),
    ],
)
def test_unknown_measures_are_refused(name, said):
    """A failure means: a misspelt measure ends in a stack of library calls, or in no figure at all."""
    with pytest.raises(ValueError, match=f"{name!r} is no measure: write it like .*{said}"):
        parse_measures([name])


def test_measures_deeper_than_the_rankings_are_left_out():
    """A failure means: a recall at 100 is printed that only ten pages were asked for."""
    assert list(map(str, parse_measures(["R@100", "R@10", "RR", "R@10"], depth=10))) == ["R@10", "RR"]


# -- intervals and tests ------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_the_benchmarks_whatever_the_memory():
    """A failure means: intervals differ from those published before, or from machine to machine."""
    values = np.random.default_rng(3).random((57, 2))
    draws = np.random.default_rng(7).integers(0, 57, (2000, 57))
    expected = np.percentile(values[draws].mean(axis=1), [2.5, 97.5], axis=0)  # as in benchmarks/bench_data.py

    assert np.allclose(bootstrap(values), expected, atol=1e-12)
    assert np.allclose(bootstrap(values, block=1000), expected, atol=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """A failure means: 95 % intervals that are too narrow, so noise looks like progress."""
    rng = np.random.default_rng(0)
    draws = rng.random((300, 80, 1)) ** 2  # the mean of a square of a uniform number is a third
    held = [low[0] <= 1 / 3 <= high[0] for low, high in (bootstrap(sample, resamples=500) for sample in draws)]

    assert 0.91 <= np.mean(held) <= 0.98


def test_the_paired_test_gives_every_sign_to_a_few_queries():
    """A failure means: p is not the share of signs with a mean as far from 0."""
    assert randomisation_p(np.array([0.5, 0.25, 0.125])) == 2 / 8
    assert randomisation_p(np.array([0.5, -0.5])) == 1.0
    assert randomisation_p(np.zeros(3)) == 1.0
    assert randomisation_p(np.array([0.1] * 10)) == 2 / 2**10
    assert randomisation_p(np.zeros(40)) == 1.0


def test_the_paired_test_agrees_with_scipy():
    """A failure means: the test is not the one that others mean by its name."""
    differences = np.random.default_rng(9).normal(0.03, 0.1, 40)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )

    assert 0.02 < theirs.pvalue < 0.2
    assert randomisation_p(differences) == pytest.approx(theirs.pvalue, abs=0.01)
    assert randomisation_p(differences) == randomisation_p(-differences)


# -- the folder of results ----------------------------------------------------------------------------------------


def made(rankings: dict[str, dict[str, float]]):
    """Three queries of two languages; the second has the page that answers it at rank two."""
    qrels = {"q1": {"a b.pdf#1": 2, "x.pdf#1": 0}, "q2": {"c.pdf#1": 1}, "q3": {"c.pdf#9": 1}, "q4": {"c.pdf#1": 0}}
    queries = [
        JudgedQuery(id="q1", text="one", about={"language": "en", "note": "a"}),
        JudgedQuery(id="q2", text="two", about={"language": "de", "note": "a"}),
        JudgedQuery(id="q3", text="three", about={"language": "de", "note": "a"}),
        JudgedQuery(id="q4", text="nobody can answer this"),
    ]
    judged = Judged(name="made", kind="beir", queries=queries, qrels=qrels)
    answers = answers_of(rankings, judged, None)
    result = make_result(judged, answers, parse_measures(MEASURES), options={"mode": "auto"}, missing=["c.pdf#9"])
    return judged, answers, result


RANKINGS = {
    "q1": {"a b.pdf#1": 0.9, "x.pdf#1": 0.5},
    "q2": {"y.pdf#1": 0.7, "c.pdf#1": 0.7 - 1e-12, "z%20.pdf#1": 0.1},
}


def test_a_result_comes_back_from_its_folder(tmp_path):
    """A failure means: a report or a comparison is made of something else than what was measured."""
    judged, answers, result = made(RANKINGS)
    write_result(tmp_path, result, judged, answers)
    there = read_result(tmp_path)

    assert there.queries == result.queries
    assert there.summary == result.summary
    summary = there.summary
    assert summary["schema"] == "docsearch.eval/1"
    assert summary["data"] == {
        "name": "made", "kind": "beir", "queries": 4, "judged_queries": 3, "judgements": 4,
        "collection_pages": None, "collection_pages_in_index": None,
        "n_pages_not_in_index": 1, "pages_not_in_index": ["c.pdf#9"],
    }  # fmt: skip
    assert summary["metrics"]["RR"]["value"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert summary["metrics"]["RR"]["low"] <= summary["metrics"]["RR"]["value"] <= summary["metrics"]["RR"]["high"]
    assert {name: group["queries"] for name, group in summary["groups"].items()} == {"language=de": 2, "language=en": 1}
    assert summary["groups"]["language=en"]["metrics"]["R@1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert summary["judged"] == {"judged@10": pytest.approx((1 + 1 / 3) / 2), "unjudged@10": pytest.approx(1 / 3)}
    assert (summary["latency_ms"], summary["index"], summary["seed"], summary["resamples"]) == (None, None, 7, 2000)
    assert summary["versions"]["numpy"] == np.__version__
    one, two, three = there.queries
    assert (one.first_relevant_rank, two.first_relevant_rank, three.first_relevant_rank) == (1, 2, None)
    assert one.relevant == {"a b.pdf#1": 2}
    assert one.top == [
        {"page": "a b.pdf#1", "score": 0.9, "grade": 2},
        {"page": "x.pdf#1", "score": 0.5, "grade": 0},
    ]
    assert two.top[2] == {"page": "z%20.pdf#1", "score": 0.1, "grade": None}
    assert "q4" not in (tmp_path / "qrels.trec").read_text()


def test_a_result_is_verified_from_its_files_and_a_wrong_one_is_not(tmp_path):
    """A failure means: --verify says that all is well whatever the files hold."""
    judged, answers, result = made(RANKINGS)
    write_result(tmp_path, result, judged, answers)

    assert verification.verify(tmp_path, result)["pytrec_eval"] == 0.0

    run = (tmp_path / "run.trec").read_text()
    assert run.splitlines()[2].startswith("q2 Q0 y.pdf#1 1 0.7 ")
    (tmp_path / "run.trec").write_text(run.replace("q2 Q0 y.pdf#1 1 0.7 ", "q2 Q0 y.pdf#1 1 0.6 "))
    with pytest.raises(verification.ResultsDiffer, match="when pytrec_eval computes it from") as caught:
        verification.verify(tmp_path, result)
    assert caught.value.query == "q2"


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    """A failure means: an evaluation writes its files between somebody's documents."""
    (tmp_path / "thesis.pdf").write_bytes(b"x")
    with pytest.raises(UnsupportedInput, match="it holds files that are no results"):
        prepare_folder(tmp_path)
    with pytest.raises(UnsupportedInput, match="it is a file"):
        prepare_folder(tmp_path / "thesis.pdf")
    prepare_folder(tmp_path / "new" / "folder")
    judged, answers, result = made(RANKINGS)
    write_result(tmp_path / "new" / "folder", result, judged, answers)
    prepare_folder(tmp_path / "new" / "folder")


def test_damaged_results_are_named(tmp_path):
    """A failure means: a comparison with half a result ends in a stack of calls."""
    judged, answers, result = made(RANKINGS)
    for name, content, said in [
        ("summary.json", "{", "summary.json: is no summary of results"),
        ("summary.json", '{"schema": "docsearch.eval/9"}', "its results are docsearch.eval/9"),
        ("per_query.jsonl", '{"id": "q"}\n', "per_query.jsonl: line 1: it lacks what a result has"),
    ]:
        write_result(tmp_path, result, judged, answers)
        (tmp_path / name).write_text(content)
        with pytest.raises(UnsupportedInput) as caught:
            read_result(tmp_path)
        assert said in str(caught.value)
