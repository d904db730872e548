"""`docsearch query`: find pages by text, by image, or by both."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from docsearch.cli.options import (
    WHERE_HELP,
    IndexOption,
    checked_options,
    examples,
    flag,
    open_index,
    usage_error,
)
from docsearch.cli.terminal import notice
from docsearch.options import N_CANDIDATES, Mode, SearchOptions

if TYPE_CHECKING:
    from docsearch.cli.output import Answer, Run
    from docsearch.index import Index
    from docsearch.types import Query

NOTHING_FOUND = 1
BATCH = 32  # queries encoded together

Format = Literal["table", "tsv", "json", "jsonl", "csv", "paths", "md", "trec"]

_WHAT, _WHERE, _HOW, _OUT = "What to look for", "Where to look", "How to look", "What to print"


def register(app: typer.Typer) -> None:
    """Add the command."""
    epilog = examples(
        'docsearch query "who signed the lease?"',
        "docsearch query \"operating margin\" -k 3 --where 'year >= 2022'",
        "docsearch query -i photo-of-a-page.jpg --heatmap heat/",
        'docsearch query "invoice 4711" -0 | xargs -0 -n 1 docsearch show',
        "docsearch query --batch queries.jsonl -k 1000 --format trec > run.trec",
    )
    app.command(epilog=epilog, rich_help_panel="Search")(query)
    app.command("search", hidden=True, epilog=epilog)(query)


def query(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT|-", help="The question; - reads one a line from stdin.", show_default=False),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            "-i",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A picture to search with, alone or with TEXT.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            rich_help_panel=_WHAT,
            help="Many queries: one a line, or .jsonl with _id, text, image.",
        ),
    ] = None,
    folder: IndexOption = None,
    where: Annotated[str | None, typer.Option(metavar="FILTER", help=WHERE_HELP, rich_help_panel=_WHERE)] = None,
    path: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only documents whose path matches.", rich_help_panel=_WHERE)
    ] = None,
    k: Annotated[
        int, typer.Option("-k", "-n", "--count", metavar="N", min=1, help="Pages to find.", rich_help_panel=_HOW)
    ] = 10,
    mode: Annotated[
        Mode,
        typer.Option(metavar="MODE", help="auto, visual (MaxSim), text (BM25) or hybrid (both).", rich_help_panel=_HOW),
    ] = "auto",
    group: Annotated[
        Literal["page", "doc"],
        typer.Option(metavar="page|doc", help="doc: only the best page of each document.", rich_help_panel=_HOW),
    ] = "page",
    min_score: Annotated[
        float | None, typer.Option(metavar="SCORE", help="Leave out pages that score less.", rich_help_panel=_HOW)
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Pages to score exactly [dim](else {N_CANDIDATES}, or 4 times -k)[/dim].",
            rich_help_panel=_HOW,
        ),
    ] = None,
    exact: Annotated[bool, flag("--exact", about="Score every page: slower, misses nothing.", panel=_HOW)] = False,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORM",
            help="table, tsv, json, jsonl, csv, paths, md or trec.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    as_json: Annotated[bool, flag("--json", about="Same as --format json.", panel=_OUT)] = False,
    null: Annotated[bool, flag("-0", "--null", about="Paths, each ended by NUL for xargs -0.", panel=_OUT)] = False,
    explain: Annotated[
        bool, flag("--explain", about="Say where each word of the query was found.", panel=_OUT)
    ] = False,
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Write the pages found as heat maps.", rich_help_panel=_OUT),
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", file_okay=False, help="Write the pages found, answers marked.", rich_help_panel=_OUT
        ),
    ] = None,
) -> None:
    """Find the pages that answer a question, best first."""
    form = _format(form, as_json=as_json, null=null)
    options = _search_options(
        k=k, mode=mode, group=group, min_score=min_score, candidates=candidates, exact=exact, where=where, path=path
    )
    asked = _asked(" ".join(text or ()), image, batch)
    from docsearch.cli.output import Extras, Run, write

    with open_index(folder) as index:
        run = Run(form=form, null=null, mode=mode, many=batch is not None or text == ["-"])
        answers = _answers(index, asked, options, run, together=BATCH if batch else 1)
        with Extras(index, explain=explain, heatmap=heatmap, pages=pages) as extras:
            found = write(map(extras.add, answers), run)
    if not found:
        notice("nothing found" + (": the index is empty" if not run.pages else ""))
        raise typer.Exit(NOTHING_FOUND)


def _format(form: Format | None, *, as_json: bool, null: bool) -> Format:
    asked: list[tuple[Format | None, bool]] = [(form, form is not None), ("json", as_json), ("paths", null)]
    wanted = {name for name, is_asked in asked if is_asked and name}
    if len(wanted) > 1:
        usage_error(f"choose one format: {' or '.join(sorted(wanted))}")
    return wanted.pop() if wanted else ("table" if sys.stdout.isatty() else "tsv")


def _search_options(*, candidates: int | None, k: int, exact: bool, **others: Any) -> dict[str, Any]:
    if candidates is not None and candidates < k and not exact:
        usage_error(f"--candidates {candidates} is less than -k {k}: the list could not be filled")
    options = {"k": k, "exact": exact, "n_candidates": candidates or max(N_CANDIDATES, 4 * k), **others}
    with checked_options():
        SearchOptions(**options)
    return options


# -- the queries --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """One query as it was typed."""

    query_id: str
    text: str
    image: Path | None = None


def _asked(text: str, image: Path | None, batch: Path | None) -> Iterable[Asked]:
    """The queries, read as they are needed; what is wrong with the command line is said at once."""
    if batch is not None:
        if text or image:
            usage_error("--batch has the queries: leave TEXT and --image out")
        return _read_jsonl(batch) if batch.suffix == ".jsonl" else _read_lines(batch)
    if text == "-":
        if image:
            usage_error("- reads queries from stdin: leave --image out, or use --batch with a .jsonl file")
        return _lines(sys.stdin)
    if not text.strip() and image is None:
        usage_error('nothing to look for: give a text, as in docsearch query "who signed the lease?", or --image FILE')
    return [Asked("0", text, image)]


def _lines(lines: Iterable[str]) -> Iterator[Asked]:
    """A query a line, numbered from 0; empty lines are passed over and keep their number."""
    return (Asked(str(n), line.strip()) for n, line in enumerate(lines) if line.strip())


def _read_lines(path: Path) -> Iterator[Asked]:
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        yield from _lines(lines)


def _read_jsonl(path: Path) -> Iterator[Asked]:
    """Queries as BEIR has them, with an image if there is one; its path counts from the folder of the file."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for n, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                text, image = record.get("text") or "", record.get("image")
                query_id = str(record.get("_id", record.get("query_id", n)))
            except (ValueError, AttributeError):
                usage_error(
                    f'line {n + 1} of {path} is no query: write {{"_id": "1", "text": "who signed the lease?"}}'
                )
            if not text.strip() and not image:
                usage_error(f"line {n + 1} of {path} has neither text nor image")
            yield Asked(query_id, text, path.parent / image if image else None)


# -- the answers --------------------------------------------------------------------------------------------------


def _answers(
    index: Index, asked: Iterable[Asked], options: dict[str, Any], run: Run, *, together: int
) -> Iterator[Answer]:
    """Answer the queries in order, so many at a time; from stdin one by one, each as it comes."""
    from docsearch.cli.output import Answer

    run.pages = index.stats()["pages"]
    started = time.perf_counter()
    if options["mode"] != "text":
        _ = index.encoder
    run.load_seconds = time.perf_counter() - started
    waiting = iter(asked)
    while some := list(islice(waiting, together)):
        started = time.perf_counter()
        queries = [_query(one) for one in some]
        found = index.search_many(queries, **options)
        run.seconds += time.perf_counter() - started
        for one, query, hits in zip(some, queries, found, strict=True):
            yield Answer(one.query_id, query, hits)


def _query(asked: Asked) -> Query:
    from docsearch.index import open_image
    from docsearch.types import Query

    return Query(asked.text or None, open_image(asked.image))
