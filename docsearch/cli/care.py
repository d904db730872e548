"""Look after the index: `rm`, `tag`, `verify`, `compact`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from docsearch.cli.look import metadata_words
from docsearch.cli.options import (
    WHERE_HELP,
    IndexOption,
    JsonOption,
    LockOption,
    YesOption,
    document_name,
    examples,
    flag,
    open_index,
    print_json,
    read_metadata,
    shown_name,
    usage_error,
)
from docsearch.cli.terminal import counted, notice, plain, size

DAMAGED, NOTHING_REMOVED = 4, 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Look after"
    epilog = examples(
        "docsearch rm old/lease.pdf", "docsearch rm --path 'old/*' --yes", "docsearch rm --where 'year < 2015'"
    )
    app.command(rich_help_panel=panel, epilog=epilog)(rm)
    epilog = examples(
        "docsearch tag reports/lease.pdf team=legal year=2024", "docsearch tag reports/lease.pdf team=null"
    )
    app.command(rich_help_panel=panel, epilog=epilog)(tag)
    app.command(rich_help_panel=panel, epilog=examples("docsearch verify", "docsearch verify --repair"))(verify)
    app.command(rich_help_panel=panel, epilog=examples("docsearch compact"))(compact)


def rm(
    documents: Annotated[
        list[str] | None, typer.Argument(metavar="[DOC]...", help="Paths or ids, as `docsearch ls` prints them.")
    ] = None,
    path: Annotated[str | None, typer.Option(metavar="GLOB", help="Documents whose path matches.")] = None,
    where: Annotated[str | None, typer.Option(metavar="FILTER", help=WHERE_HELP)] = None,
    yes: YesOption = False,
    folder: IndexOption = None,
    lock_timeout: LockOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Take documents out of the index; their files are not touched.

    With --path or --where it asks first; where nobody can answer, it needs --yes.
    """
    if not documents and not path and not where:
        usage_error("nothing to remove: name documents, or choose them with --path or --where")
    with open_index(folder) as index:
        if (path or where) and not yes:
            chosen = index.documents(path=path, where=where)
            _confirm([shown_name(index, document["path"]) for document in chosen])
        names = [document_name(index, name) for name in documents or ()]
        gone = [
            shown_name(index, name) for name in index.remove(*names, path=path, where=where, lock_timeout=lock_timeout)
        ]
    if as_json:
        print_json({"removed": gone})
    else:
        for name in gone:
            print(f"Removed {plain(name)}")
    if not gone:
        notice("nothing matches: nothing was removed")
        raise typer.Exit(NOTHING_REMOVED)


def _confirm(paths: list[str]) -> None:
    if not paths:
        return
    if not sys.stdin.isatty():
        usage_error(f"this would remove {counted(len(paths), 'file')} from the index: say so with --yes")
    for path in paths[:10]:
        print(f"  {plain(path)}", file=sys.stderr)
    if len(paths) > 10:
        print(f"  … and {len(paths) - 10:,} more", file=sys.stderr)
    if not typer.confirm(f"Remove {counted(len(paths), 'file')} from the index?", err=True):
        raise typer.Exit(NOTHING_REMOVED)


def tag(
    document: Annotated[str, typer.Argument(metavar="DOC", help="A path or an id, as `docsearch ls` prints them.")],
    pairs: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="key=null takes a key away.")],
    folder: IndexOption = None,
    lock_timeout: LockOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Add metadata to a document, for --where."""
    metadata = read_metadata(pairs)
    with open_index(folder) as index:
        name = document_name(index, document)
        index.set_metadata(name, metadata, lock_timeout=lock_timeout)
        tagged = next(one for one in index.documents() if one["path"] == name or one["doc_id"].startswith(name))
        shown = shown_name(index, tagged["path"])
    if as_json:
        print_json({"path": shown, "doc_id": tagged["doc_id"], "metadata": tagged["metadata"]})
    else:
        print(f"{plain(shown)}: {metadata_words(tagged['metadata']) or 'no metadata'}")


def verify(
    repair: Annotated[bool, flag("--repair", about="Forget what is damaged, so that indexing makes it anew.")] = False,
    folder: IndexOption = None,
    lock_timeout: LockOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Read every file of the index and compare checksums. Exits with 4 when something is damaged."""
    with open_index(folder) as index:
        damage = index.verify(repair=repair, lock_timeout=lock_timeout)
    if as_json:
        print_json([{"path": str(error.path), "problem": error.what} for error in damage])
    else:
        for error in damage:
            print(plain(f"{error.path}: {error.what}" if repair else str(error)))
        if not damage:
            print("The index is sound")
        elif repair:
            notice("Repaired: run `docsearch index` with the same files again, and it is whole")
    if damage and not repair:
        raise typer.Exit(DAMAGED)


def compact(folder: IndexOption = None, lock_timeout: LockOption = 0.0, as_json: JsonOption = False) -> None:
    """Merge small segments and give the space of removed pages back. Indexing does it when it pays."""
    with open_index(folder) as index:
        before = index.stats()["bytes"]
        rewritten = index.compact(lock_timeout=lock_timeout)
        index.refresh()
        after = index.stats()["bytes"]
    if as_json:
        print_json({"rewritten": rewritten, "bytes_before": before, "bytes_after": after})
    else:
        print(f"Rewrote {counted(rewritten, 'segment')}: {size(before)} before, {size(after)} now")
