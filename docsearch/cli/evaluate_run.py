"""What `docsearch eval DATA` does once its command line is understood: measure, write, say what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docsearch.cli.counting import show_counting
from docsearch.cli.options import checked_options, open_index, print_json, usage_error
from docsearch.cli.terminal import counted, duration, notice, shown_path
from docsearch.errors import ModelUnavailable
from docsearch.options import SearchOptions

if TYPE_CHECKING:
    from docsearch.evaluation.ablate import Row
    from docsearch.evaluation.evaluate import Evaluation
    from docsearch.evaluation.judged import Judged
    from docsearch.evaluation.pages import Matched, PageNames
    from docsearch.index import Index

_MOST_NAMED = 5
_SHALLOW = 10  # measures of an ablation look no deeper: its rankings may be as short as its fewest candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be measured, and what is to come of it."""

    data: Path | None
    split: str | None
    queries: Path | None
    measures: Sequence[str]  # besides those that are always computed
    out: Path | None
    report: bool
    verify: bool
    as_json: bool

    def judged(self, *, asked: bool = True) -> Judged:
        """The queries and judgements."""
        from docsearch.evaluation.judged import read_judged

        assert self.data is not None
        return read_judged(self.data, split=self.split, queries=self.queries, asked=asked)

    def all_measures(self) -> list[str]:
        """The names of all measures, checked."""
        with needed_packages():
            from docsearch.evaluation.metrics import MEASURES, parse_measures
        names = [*MEASURES, *self.measures]
        with checked_options():
            parse_measures(names)
        return names

    def folder(self, name: str) -> Path:
        """The folder for the results, made."""
        from docsearch.evaluation.results import prepare_folder

        folder = self.out or Path("eval-" + (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "results"))
        prepare_folder(folder)
        return folder


@contextmanager
def needed_packages() -> Iterator[None]:
    """What evaluation stands on is an extra: where it is missing, the message names the extra."""
    try:
        yield
    except ImportError as error:
        raise ModelUnavailable(
            f"evaluation needs {error.name}: pip install 'docsearch-engine[eval]' brings it"
        ) from error


def measure_index(folder: Path | None, options: SearchOptions, wanted: Wanted, *, exact: bool) -> None:
    """Ask an index."""
    measures, judged = wanted.all_measures(), wanted.judged()
    with needed_packages():
        from docsearch.evaluation.evaluate import evaluate_index
    with open_index(folder) as index:
        matched, names = _match(index, judged)
        out = wanted.folder(judged.name)
        with show_counting() as on_progress:
            evaluation = evaluate_index(
                index, matched, options, names=names, measures=measures, exact=exact, on_progress=on_progress
            )
        _finish(evaluation, out, wanted, index)


def measure_run(path: Path, depth: int | None, wanted: Wanted) -> None:
    """Score a run; no index is needed, and names are taken as they are."""
    measures, judged = wanted.all_measures(), wanted.judged(asked=False)
    with needed_packages():
        from docsearch.evaluation.evaluate import evaluate_run
    evaluation = evaluate_run(path, judged, depth=depth, measures=measures)
    _finish(evaluation, wanted.folder(judged.name), wanted)


def measure_mteb(task: str, encoder: str | None, options: SearchOptions, wanted: Wanted, *, exact: bool) -> None:
    """Let mteb ask one of its tasks."""
    from docsearch.encoders import DEFAULT

    measures = wanted.all_measures()
    with needed_packages():
        from docsearch.evaluation.evaluate import evaluate_mteb
        from docsearch.evaluation.results import MTEB
    out = wanted.folder(task)
    (out / MTEB).mkdir(exist_ok=True)
    with checked_options():
        evaluation = evaluate_mteb(
            task, out / MTEB, encoder=encoder or DEFAULT, options=options, measures=measures, exact=exact
        )
    _finish(evaluation, out, wanted)


def measure_choices(
    folder: Path | None, chosen: Sequence[str], options: SearchOptions, wanted: Wanted, *, keep: Path | None
) -> None:
    """Vary what can be chosen, and print one table."""
    names_of_measures, judged = wanted.all_measures(), wanted.judged()
    with needed_packages():
        from docsearch.cli.evaluate_tables import print_ablation
        from docsearch.evaluation.ablate import ablate, read_grid, record
        from docsearch.evaluation.metrics import parse_measures
        from docsearch.evaluation.results import ABLATION, write_json
        from docsearch.retriever.searcher import SCORED_ALL
    with checked_options():
        grid = read_grid(chosen)
    with open_index(folder) as index:
        matched, names = _match(index, judged)
        out = wanted.folder(judged.name)
        if "candidates" in grid and index.stats()["pages"] <= SCORED_ALL:
            notice(f"An index of up to {SCORED_ALL:,} pages is scored whole: candidates make no difference")
        with show_counting() as on_progress:
            rows = ablate(
                index,
                matched.judged,
                grid,
                options,
                parse_measures(names_of_measures, _SHALLOW),
                names=names,
                keep=keep,
                on_progress=on_progress,
                say=lambda name, seconds: notice(f"Made the index {name} in {duration(seconds)}"),
            )
        found = record(rows, index, matched, options)
    write_json(out / ABLATION, found)
    if wanted.as_json:
        print_json(found)
    else:
        print_ablation(rows, found)
    written = [ABLATION, *_plot(out, rows, judged.name)]
    notice(f"Wrote {' and '.join(written)} to {shown_path(out.absolute())}")


def _plot(out: Path, rows: Sequence[Row], name: str) -> list[str]:
    try:
        from docsearch.evaluation.plot import PLOT, plot_ablation
    except ImportError as missing:
        notice(f"No plot: it needs {missing.name}, which pip install 'docsearch-engine[eval]' brings")
        return []
    plot_ablation(out / PLOT, rows, name)
    return [PLOT]


def _match(index: Index, judged: Judged) -> tuple[Matched, PageNames]:
    """The judgements in the index's names; it is said what it does not hold."""
    from docsearch.evaluation.pages import PageNames

    names = PageNames(index)
    matched = names.match(judged)
    n_missing = len(matched.missing)
    if n_missing == matched.n_judged:
        usage_error(
            f"none of the {n_missing:,} judged pages is in the index {shown_path(index.paths.folder.absolute())}, "
            f"{matched.missing[0]} for one: is it the right index (--index DIR), are paths written as "
            f"`docsearch ls` prints them?"
        )
    if n_missing:
        named = ", ".join(matched.missing[:_MOST_NAMED]) + (", …" if n_missing > _MOST_NAMED else "")
        notice(
            f"{n_missing:,} of {counted(matched.n_judged, 'judged page')} are not in the index and count as not found: "
            f"{named}"
        )
    if n_left_out := len(matched.judged.queries) - len(matched.judged.answerable):
        notice(f"No page answers {n_left_out:,} of {len(matched.judged.queries):,} queries: they are left out")
    return matched, names


def _finish(evaluation: Evaluation, out: Path, wanted: Wanted, index: Index | None = None) -> None:
    """Write the results, then say what they are."""
    evaluation.write(out)
    verified = None
    if wanted.verify:
        from docsearch.evaluation.verify import verify

        verified = verify(out, evaluation.result)
    is_reported = wanted.report and _report(out, index)
    if wanted.as_json:
        print_json(evaluation.result.summary)
    else:
        from docsearch.cli.evaluate_tables import print_summary

        print_summary(evaluation.result.summary)
    if verified is not None:
        told = ", ".join(f"{way} ({difference:.0e})" for way, difference in verified.items())
        notice(f"Verified from the files, largest difference in brackets: {told}")
    written = ["summary.json", "per_query.jsonl", "run.trec", "qrels.trec"]
    written += ["run.exact.trec"] * (evaluation.exact is not None) + ["report.html"] * is_reported
    notice(f"Wrote {', '.join(written[:-1])} and {written[-1]} to {shown_path(out.absolute())}")


def _report(out: Path, index: Index | None) -> bool:
    try:
        from docsearch.evaluation.report import write_report
    except ImportError as missing:
        notice(f"No report.html: it needs {missing.name}, which pip install 'docsearch-engine[eval]' brings")
        return False
    write_report(out, index)
    return True
