"""What several commands share: their common options, and how they find the index and the documents in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from docsearch.cli.terminal import shown_path

if TYPE_CHECKING:
    from docsearch.index import Index


def flag(*names: str, about: str, panel: str | None = None) -> Any:
    """An option without a value."""
    return typer.Option(*names, metavar="", help=about, rich_help_panel=panel)


WHERE_HELP = 'Filter on metadata: \'year >= 2022 and team in ("fin", "ops")\'.'

IndexOption = Annotated[
    Path | None,
    typer.Option(
        "--index",
        metavar="DIR",
        help="The index [dim](else $DOCSEARCH_INDEX, else the nearest .docsearch upward, else your own)[/dim].",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, flag("--json", about="Print JSON.")]
LockOption = Annotated[
    float, typer.Option("--lock-timeout", metavar="SECONDS", min=0, help="Wait this long while another is writing.")
]
YesOption = Annotated[bool, flag("--yes", "-y", about="Do not ask for confirmation.")]


class WrongUsage(Exception):
    """The command was typed wrong; the message says how to type it."""


def examples(*lines: str) -> str:
    """The epilog of a command: one example a line."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  {line}".replace("[", "\\[") for line in lines)])


def open_index(folder: Path | None) -> Index:
    """The index that is meant.

    Raises:
        IndexNotFound: there is none; when no folder was named, the message says where it was looked for.
    """
    from docsearch.errors import IndexNotFound
    from docsearch.index import Index

    try:
        return Index.open(folder)
    except IndexNotFound as error:
        if folder is None and "DOCSEARCH_INDEX" not in os.environ:
            looked = f"no index in {Path.cwd()} or a folder above it, and none of your own at {error.path}"
            error.args = (f"{looked}: make one with `docsearch index PATH`, or point to one with --index DIR",)
        raise


def document_name(index: Index, name: str) -> str:
    """The index's name for a document named as one would type it here; what is no path here stays as it is."""
    here = index.paths.source_name(Path(name))
    return here if any(document["path"] == here for document in index.documents()) else name


def page_name(index: Index, name: str) -> str:
    """`document_name` for `DOC#PAGE`."""
    document, mark, page = name.rpartition("#")
    return f"{document_name(index, document)}{mark}{page}" if mark else name


def shown_name(index: Index, name: str) -> str:
    """The index's name for a file as one would type it here."""
    return shown_path(index.paths.source_path(name))


def read_metadata(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs; numbers, true, false and null are read as JSON, everything else is text."""
    metadata = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not key or not mark:
            usage_error(f"{pair!r} is no metadata: write it as key=value")
        metadata[key] = _value(value)
    return metadata


def usage_error(message: str) -> NoReturn:
    """Stop with a message about how the command was typed."""
    raise WrongUsage(message)


@contextmanager
def checked_options() -> Iterator[None]:
    """Options are checked where they are made; a wrong one is a mistake on the command line."""
    try:
        yield
    except ValueError as error:
        usage_error(str(error))


def print_json(value: Any) -> None:
    """One value as JSON, in UTF-8, indented."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def _value(text: str) -> Any:
    def refuse(_: str) -> NoReturn:
        raise ValueError

    try:
        value = json.loads(text, parse_constant=refuse)
    except ValueError:
        return text
    return value if value is None or isinstance(value, bool | int | float) else text
