"""Our measures beside those of other libraries, on random runs that hold everything that goes wrong.

    pip install 'docsearch-engine[eval]' ranx        # without ranx, its column is left out
    python benchmarks/metric_equalities.py

Prints the largest absolute difference, over queries, of every measure and library. The runs have ties, scores that are
equal only as 32-bit numbers, graded and negative judgements, queries that found nothing, queries that are missing, and
pages that nobody judged. Ours are `docsearch.evaluation.metrics.per_query`, which is ir_measures given ranks.

Two pages of equal score: trec_eval (so pytrec_eval, and ir_measures with it) reads scores as 32-bit numbers and puts
the page whose name comes later in the alphabet first; ranx sorts by the 64-bit score alone, and its ties stay in an
order of its own; a list has the order it was made in. We order by trec_eval's rule before anything is scored, write
run.trec in that order, and give ranks to the libraries: so trec_eval makes of the written scores what we made of the
list. pytrec_eval is given the scores here, ties and all; ranx and the definitions in float64 are given ranks, or the
list in that order. The last line of the table says how much the order of ties would matter.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from docsearch.evaluation.metrics import MEASURES, parse_measures, per_query
from docsearch.evaluation.trec import in_trec_order
from docsearch.evaluation.verify import PerQuery, ways

EXTRA = ("nDCG@1", "nDCG@3", "nDCG@100", "R@3")
Run = dict[str, dict[str, float]]
Qrels = dict[str, dict[str, int]]


def main() -> None:
    """Make the runs, compute everything in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    qrels, run = random_runs(arguments.queries, arguments.seed)
    measures = parse_measures([*MEASURES, *EXTRA])
    ours = per_query(qrels, {query: in_trec_order(scores) for query, scores in run.items()}, measures)
    theirs = {way: compute(qrels, run, measures) for way, compute in ways().items()}
    in_list_order = per_query(qrels, run, measures)
    print(f"# {len(qrels):,} queries, seed {arguments.seed}: {describe(qrels, run)}")
    print(f"{'measure':10} {'ours, mean':>10}  " + "  ".join(f"{way:>11}" for way in theirs))
    for measure in map(str, measures):
        mean = np.mean([values[measure] for values in ours.values()])
        cells = "  ".join(f"{largest(ours, values, measure):11.1e}" for values in theirs.values())
        print(f"{measure:10} {mean:10.4f}  {cells}")
    moved = largest(ours, in_list_order, "nDCG@10")
    print(f"# in list order instead of trec_eval's, nDCG@10 of one query would differ by up to {moved:.3f}")


def random_runs(n_queries: int, seed: int) -> tuple[Qrels, Run]:
    """Judgements and rankings; every eighth query is a special case."""
    rng = np.random.default_rng(seed)
    pages = [f"{name}.pdf#{number}" for name in ("a", "Z", "é", "日本") for number in range(1, 61)]
    qrels: Qrels = {}
    run: Run = {}
    for number in range(n_queries):
        query, kind = f"q{number}", number % 8
        judged = rng.choice(len(pages), rng.integers(1, 30), replace=False)
        grades = {pages[at]: int(rng.integers(-1, 4)) for at in judged}
        qrels[query] = grades if kind == 1 else grades | {pages[judged[0]]: int(rng.integers(1, 4))}
        found = np.union1d(rng.choice(len(pages), rng.integers(1, 150), replace=False), judged[: len(judged) // 2])
        rng.shuffle(found)
        scores = rng.normal(size=len(found)) + [0.8 * grades.get(pages[at], 0) for at in found]
        if kind in {2, 3, 4}:
            scores = np.round(scores, kind - 3)  # ties: of a few, of many, of nearly all
        elif kind == 5:
            scores = 0.5 + 1e-9 * scores  # apart in 64 bits, equal in 32
        if kind == 6:
            run[query] = {}
        elif kind != 7:
            run[query] = {pages[at]: float(score) for at, score in zip(found, scores, strict=True)}
    return qrels, run


def describe(qrels: Qrels, run: Run) -> str:
    """How much of what goes wrong there is."""
    tied = sum(len(set(np.float32(list(scores.values())))) < len(scores) for scores in run.values())
    empty = sum(not scores for scores in run.values())
    negative = sum(min(grades.values()) < 0 for grades in qrels.values())
    hopeless = sum(max(grades.values()) <= 0 for grades in qrels.values())
    return (
        f"{tied} with ties, {empty} that found nothing, {len(qrels) - len(run)} missing, "
        f"{negative} with negative grades, {hopeless} that no page answers"
    )


def largest(ours: Mapping[str, Mapping[str, float]], theirs: PerQuery, measure: str) -> float:
    """The largest difference of a measure over queries."""
    differences: Sequence[float] = [abs(ours[query][measure] - theirs[query][measure]) for query in ours]
    return max(differences)


if __name__ == "__main__":
    main()
