"""`docsearch index --dry-run`: what a run would do, found out without rendering anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from docsearch.cli.options import print_json
from docsearch.cli.terminal import notice, plain, shown_path
from docsearch.errors import IndexNotFound, UnsupportedInput
from docsearch.index import Index
from docsearch.indexer.sources import find_files, hash_file
from docsearch.options import IndexOptions
from docsearch.types import Failure


def print_plan(paths: Sequence[Path], folder: Path, options: IndexOptions, *, as_json: bool) -> None:
    """Print every file with what would become of it: new, changed, unchanged, failed before, unreadable, too large."""
    plan = list(_plan(paths, folder, options))
    if as_json:
        print_json([{"path": path, "plan": what} for path, what in plan])
        return
    for path, what in plan:
        typer.echo(f"{what}\t{plain(path)}")
    to_read = sum(what in {"new", "changed"} for _, what in plan)
    notice(f"{to_read:,} of {len(plan):,} files would be read; nothing was done")


def _plan(paths: Sequence[Path], folder: Path, options: IndexOptions) -> Iterator[tuple[str, str]]:
    indexed, bad = _known(folder)
    for file in find_files(paths, include=options.include, exclude=options.exclude):
        if isinstance(file, Failure):
            yield file.path, "unreadable"
            continue
        here = file.path.absolute()
        name = shown_path(here)
        if file.size > options.max_file_mb * 2**20:
            yield name, "too large"
            continue
        try:
            doc_id = hash_file(file.path)
        except (UnsupportedInput, OSError):
            yield name, "unreadable"
            continue
        if indexed.get(here) == doc_id:
            yield name, "unchanged"
        elif here in indexed:
            yield name, "changed"
        elif here in bad and not options.retry_failed:
            yield name, "failed before"
        else:
            yield name, "new"


def _known(folder: Path) -> tuple[dict[Path, str], set[Path]]:
    """The content of every indexed file, and the files that failed."""
    try:
        index = Index.open(folder)
    except IndexNotFound:
        return {}, set()
    with index:
        indexed = {index.paths.source_path(document["path"]): document["doc_id"] for document in index.documents()}
        return indexed, {index.paths.source_path(failure.path) for failure in index.failures()}
