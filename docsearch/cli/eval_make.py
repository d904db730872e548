"""`docsearch eval make`: draft queries for one's own documents."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from docsearch.cli.options import JsonOption, checked_options, examples, flag, print_json
from docsearch.cli.terminal import VOICE, counted, notice, plain, say, shown_path

if TYPE_CHECKING:
    from docsearch.evaluation.draft import DraftReport

NOTHING_TO_ASK, SOME_FILES_FAILED = 1, 3
EPILOG = examples(
    "docsearch eval make ./manuals --out ./questions",
    "docsearch eval make ./manuals --out ./questions --mask --per-document 50",
)
_LOG_SECONDS = 10.0
_MOST_SHOWN = 10


def make(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", exists=True, help="Files and folders; folders to any depth.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", file_okay=False, help="Where the queries go.", show_default=False)
    ],
    mask: Annotated[
        bool, flag("--mask", about="Write copies, too, without the headings and captions asked about.")
    ] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Not these files, as in .gitignore; repeatable.")
    ] = None,
    per_document: Annotated[
        int, typer.Option(metavar="N", min=1, help="Titles, captions, index entries of a document, at most.")
    ] = 20,
    seed: Annotated[int, typer.Option(metavar="N", help="Chooses among them.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Draft queries for your own documents from their bookmarks, slide titles, captions and indexes.

    The authors say what is where; correct by hand what nobody would ask. To measure, index the copies made with --mask.
    """
    from docsearch.evaluation.draft import DraftOptions, draft_queries

    with checked_options():
        options = DraftOptions(per_document=per_document, seed=seed, exclude=exclude or (), mask=mask)
    with _show_progress() as on_progress:
        report = draft_queries(paths, out, options, on_progress=on_progress)
    if as_json:
        print_json(_record(report))
    elif not VOICE.quiet:
        _print_report(report, masked=mask)
    if report.failed:
        raise typer.Exit(SOME_FILES_FAILED)
    if not report.queries:
        raise typer.Exit(NOTHING_TO_ASK)


def _record(report: DraftReport) -> dict[str, object]:
    return {
        "folder": str(report.folder),
        "queries": len(report.queries),
        "types": report.counts(),
        "verbatim": sum(query.verbatim for query in report.queries),
        "files": len(report.files),
        "pages": report.pages,
        "silent": report.silent,
        "failed": [asdict(failure) for failure in report.failed],
    }


def _print_report(report: DraftReport, *, masked: bool) -> None:
    nouns = {"title": "title", "caption": "caption", "index": "index term"}
    kinds = ", ".join(counted(n, nouns[kind]) for kind, n in report.counts().items() if n)
    drafted = counted(len(report.queries), "query").replace("querys", "queries")
    say(f"Drafted {drafted} from {counted(len(report.files), 'file')}{f': {kinds}' if kinds else ''}")
    if report.queries:
        verbatim = sum(query.verbatim for query in report.queries)
        say(f"{verbatim:,} of them stand word for word in the text of their page")
    if report.silent:
        say(f"Nothing to ask in {_listed(report.silent)}: no bookmark, caption or index that only they have")
    for failure in report.failed[:_MOST_SHOWN]:
        say(f"Skipped {plain(failure.path)}: {plain(failure.message)}")
    if len(report.failed) > _MOST_SHOWN:
        say(f"… and {len(report.failed) - _MOST_SHOWN:,} more")
    if report.queries:
        folder = shown_path(report.folder)
        own = f" --index {folder}/index" if masked else ""
        what = f"docsearch index {folder}/masked{own}, " if masked else ""
        notice(f"Look through {folder}/queries.jsonl, then: {what}docsearch eval {folder}{own}")


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(map(plain, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {counted(len(names) - 3, 'other')}"


@contextmanager
def _show_progress() -> Iterator[Callable[[int, int, str], None]]:
    """Show on stderr how far it is: a live line on a terminal, a line now and then in a log."""
    if VOICE.quiet or VOICE.verbose or not sys.stderr.isatty():
        yield _log()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    said = TextColumn("{task.fields[said]}", markup=False)
    console = Console(stderr=True, highlight=False)
    with Progress(SpinnerColumn(), BarColumn(16), said, console=console, transient=True) as display:
        task = display.add_task("", total=None, said="looking for files")

        def update(done: int, total: int, name: str) -> None:
            display.update(task, completed=done, total=total, said=f"{done:,} of {total:,} files: {plain(name)}")

        yield update


def _log() -> Callable[[int, int, str], None]:
    last = time.monotonic()

    def update(done: int, total: int, name: str) -> None:
        nonlocal last
        if VOICE.verbose or time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            notice(f"{done:,} of {total:,} files done, now {plain(name)}")

    return update
