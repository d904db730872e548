"""`docsearch index`: bring the index up to date with files and folders."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from docsearch.cli.options import (
    IndexOption,
    JsonOption,
    LockOption,
    checked_options,
    examples,
    flag,
    print_json,
    read_metadata,
    shown_name,
    usage_error,
)
from docsearch.cli.terminal import VOICE, counted, duration, notice, plain, say, shown_path
from docsearch.options import CodecName, IndexOptions, OcrMode

if TYPE_CHECKING:
    from docsearch.index import Index
    from docsearch.protocols import Encoder
    from docsearch.types import IndexReport

SOME_FILES_FAILED = 3
_MOST_FAILURES_SHOWN = 20

_DEFAULTS = IndexOptions()
_WHICH, _HOW, _NEW, _REST = "Which files", "How they are read", "A new index", "The run"


def register(app: typer.Typer) -> None:
    """Add the command."""
    epilog = examples(
        "docsearch index ./pdfs",
        "docsearch index ~/contracts --exclude drafts --meta year=2024",
        "docsearch index ./pdfs --prune --password-file passwords.txt",
    )
    app.command(epilog=epilog, rich_help_panel="Index")(index)
    app.command("add", hidden=True, epilog=epilog)(index)


def index(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", exists=True, help="Files and folders; folders to any depth.", show_default=False
        ),
    ],
    folder: IndexOption = None,
    own: Annotated[bool, flag("--global", about="Use your own index, apart from any folder.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only these, as in .gitignore; repeatable.", rich_help_panel=_WHICH),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Not these; repeatable.", rich_help_panel=_WHICH)
    ] = None,
    prune: Annotated[
        bool,
        flag("--prune/--no-prune", about="Remove files that have vanished from disk.", panel=_WHICH),
    ] = False,
    retry_failed: Annotated[
        bool, flag("--retry-failed", about="Try files again that failed before.", panel=_WHICH)
    ] = False,
    max_file_mb: Annotated[
        float, typer.Option(metavar="MB", min=0, help="Leave larger files out.", rich_help_panel=_WHICH)
    ] = _DEFAULTS.max_file_mb,
    dry_run: Annotated[bool, flag("--dry-run", about="List what would be done, and do nothing.", panel=_WHICH)] = False,
    ocr: Annotated[
        OcrMode, typer.Option(metavar="auto|off", help="Read pages without a text layer by OCR.", rich_help_panel=_HOW)
    ] = _DEFAULTS.ocr,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Passwords for PDFs, one a line.", rich_help_panel=_HOW
        ),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Metadata for these files; repeatable.", rich_help_panel=_HOW),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Rendering processes [dim](else one per core, at most 8)[/dim].",
            rich_help_panel=_HOW,
        ),
    ] = None,
    page_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Give a file up after this long on one page.", rich_help_panel=_HOW)
    ] = _DEFAULTS.page_timeout,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="See `docsearch models` [dim](else words)[/dim].", rich_help_panel=_NEW),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=3136,
            help="What jina-v4 looks at of a page: finer print for more time and space [dim](else 602112)[/dim].",
            rich_help_panel=_NEW,
        ),
    ] = None,
    codec: Annotated[
        CodecName | None,
        typer.Option(
            metavar="CODEC",
            help="float16, int8, r4, r3, r2 or binary: smaller and rougher [dim](else r4)[/dim].",
            rich_help_panel=_NEW,
        ),
    ] = None,
    pooling: Annotated[
        int | None,
        typer.Option(
            min=1, max=3,
            help="Keep a half (2) or a third (3) of the token vectors: smaller, faster, rougher [dim](else 1)[/dim].",
            rich_help_panel=_NEW,
        ),
    ] = None,
    lock_timeout: LockOption = 0.0,
    ignore_errors: Annotated[
        bool, flag("--ignore-errors", about="Exit with 0 even when files failed.", panel=_REST)
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Index files: new and changed ones are read, unchanged ones left alone.

    The first run makes the index, .docsearch in the working folder. A run that was stopped goes on where it was.
    """
    from docsearch.cli.progress import show_progress

    with checked_options():
        options = IndexOptions(
            include=include or (),
            exclude=exclude or (),
            prune=prune,
            retry_failed=retry_failed,
            ocr=ocr,
            passwords=_passwords(password_file),
            metadata=read_metadata(meta or ()),
            workers=workers,
            page_timeout=page_timeout,
            max_file_mb=max_file_mb,
        )
    where = _index_folder(folder, own=own)
    if dry_run:
        from docsearch.cli.plan import print_plan

        print_plan(paths, where, options, as_json=as_json)
        return
    with _open_or_create(where, encoder, max_pixels=max_pixels, codec=codec, pooling=pooling) as opened:
        with show_progress(partial(shown_name, opened)) as on_progress:
            report = opened.add(paths, options, on_progress=on_progress, lock_timeout=lock_timeout)
        if as_json:
            print_json(_record(opened, report))
        elif not VOICE.quiet:
            _print_report(opened, report, paths)
    if report.failed and not ignore_errors:
        raise typer.Exit(SOME_FILES_FAILED)


def _index_folder(folder: Path | None, *, own: bool) -> Path:
    """Where the index is or will be: without a word from the user, and with none in sight, in the working folder."""
    from docsearch.locate import FOLDER_NAME, locate_index, user_index

    if own:
        if folder is not None:
            usage_error("--global and --index name two indexes: choose one")
        return user_index()
    return locate_index(folder, otherwise=Path(FOLDER_NAME))


def _open_or_create(
    folder: Path, encoder: str | None, *, max_pixels: int | None, codec: CodecName | None, pooling: int | None
) -> Index:
    from docsearch.encoders import DEFAULT, load_encoder
    from docsearch.index import Index
    from docsearch.store.layout import IndexPaths

    is_new = not IndexPaths(folder).layout.exists()
    chosen: str | Encoder | None = encoder
    if is_new and max_pixels is not None:
        chosen = load_encoder(encoder or DEFAULT, max_pixels=max_pixels)
    opened = Index.open(folder, encoder=chosen, create=True, codec=codec, pooling=pooling)
    if max_pixels not in {None, opened.layout.settings.get("max_pixels")}:
        usage_error(
            f"{shown_path(folder)} looks at {opened.layout.settings.get('max_pixels', 'no')} pixels of a page, which "
            f"cannot change: leave --max-pixels out, or make another index with --index DIR"
        )
    if is_new:
        notice(f"Made a new index at {shown_path(folder)}")
    elif codec not in {None, opened.layout.codec}:
        usage_error(
            f"{shown_path(folder)} stores its vectors as {opened.layout.codec}, which cannot change: "
            f"leave --codec out, or make another index with --index DIR"
        )
    elif pooling not in {None, opened.layout.pooling}:
        usage_error(
            f"{shown_path(folder)} pools its vectors by {opened.layout.pooling}, which cannot change: "
            f"leave --pooling out, or make another index with --index DIR"
        )
    return opened


def _passwords(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line for line in path.read_text("utf-8-sig").splitlines() if line]
    except UnicodeDecodeError:
        usage_error(f"{path} is no text in UTF-8")


# -- the report ---------------------------------------------------------------------------------------------------


def _record(opened: Index, report: IndexReport) -> dict[str, object]:
    failed = [asdict(failure) | {"path": shown_name(opened, failure.path)} for failure in report.failed]
    return {"index": str(opened.paths.folder)} | asdict(report) | {"failed": failed}


def _print_report(opened: Index, report: IndexReport, paths: list[Path]) -> None:
    nothing = f"No documents in {', '.join(map(str, paths))}: docsearch reads PDF, PNG, JPEG, TIFF and WebP"
    say(_summary(report) or nothing)
    for failure in report.failed[:_MOST_FAILURES_SHOWN]:
        say(f"Skipped {plain(shown_name(opened, failure.path))}: {plain(failure.message)}")
    if len(report.failed) > _MOST_FAILURES_SHOWN:
        say(f"… and {len(report.failed) - _MOST_FAILURES_SHOWN:,} more: docsearch status --failed")


def _summary(report: IndexReport) -> str:
    """The run in one line; empty when there was nothing to do anything about."""
    others = [
        (report.unchanged, counted(report.unchanged, "file") + " unchanged"),
        (report.duplicates, counted(report.duplicates, "duplicate")),
        (report.removed, f"{report.removed:,} removed"),
        (report.gone, f"{report.gone:,} gone from disk (--prune removes them)"),
    ]
    parts = [", ".join(text for count, text in others if count)]
    if report.added or report.updated or report.pages:
        files = counted(report.added + report.updated, "file")
        read = f", {report.ocr_pages:,} of them by OCR," if report.ocr_pages else ""
        updated = f" ({report.updated:,} changed)" if report.updated else ""
        rate = f" ({report.pages / report.seconds:.1f} pages/s)" if report.seconds >= 1 else ""
        pages = f"Indexed {counted(report.pages, 'page')}{read} from {files}{updated}"
        parts.insert(0, f"{pages} in {duration(report.seconds)}{rate}")
    elif parts[0] or report.known_bad or report.failed:
        parts[0] = f"Nothing new: {parts[0]}" if parts[0] else "Nothing new"
    if report.failed:
        parts.append(f"{len(report.failed):,} failed (docsearch status --failed)")
    if report.known_bad:
        parts.append(f"{report.known_bad:,} failed before (--retry-failed tries again)")
    return "; ".join(part for part in parts if part)
