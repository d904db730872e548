"""Look into the index: `ls`, `status`, `show`."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from docsearch.cli.options import (
    WHERE_HELP,
    IndexOption,
    JsonOption,
    examples,
    flag,
    open_index,
    page_name,
    print_json,
    shown_name,
    usage_error,
)
from docsearch.cli.terminal import console, counted, listing, notice, plain, shown_path, size, widest

if TYPE_CHECKING:
    from docsearch.index import Index
    from docsearch.types import Failure

SHORT_ID = 8
_STYLES = {"document": "cyan", "metadata": "green", "id": "dim", "indexed": "dim"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Look"
    app.command("ls", rich_help_panel=panel, epilog=examples("docsearch ls", "docsearch ls --where 'year >= 2022'"))(ls)
    app.command(rich_help_panel=panel, epilog=examples("docsearch status", "docsearch status --failed"))(status)
    epilog = examples(
        "docsearch show reports/lease.pdf#7",
        "docsearch show reports/lease.pdf#7 --out page.png --heatmap 'who signed?'",
        "docsearch show 3fa9c1#7 --text",
    )
    app.command(rich_help_panel=panel, epilog=epilog)(show)


def ls(
    path: Annotated[str | None, typer.Option(metavar="GLOB", help="Only documents whose path matches.")] = None,
    where: Annotated[str | None, typer.Option(metavar="FILTER", help=WHERE_HELP)] = None,
    folder: IndexOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the documents of the index."""
    with open_index(folder) as index:
        documents = [
            document | {"path": shown_name(index, document["path"])}
            for document in index.documents(path=path, where=where)
        ]
    if as_json:
        print_json(documents)
    elif sys.stdout.isatty():
        _print_documents(documents)
    else:
        for document in documents:
            cells = (document["path"], document["pages"], document["title"], _short(document), document["indexed_at"])
            print("\t".join(plain(str(cell)) for cell in cells))


def _print_documents(documents: list[dict[str, Any]]) -> None:
    from rich.text import Text

    screen = console()
    rows = [_cells(document) for document in documents]
    if rows:
        shares = {"document": 0.45, "metadata": 0.25}  # of the width, at most
        names = [name for name in rows[0] if name != "metadata" or any(row[name] for row in rows)]
        widths = {
            name: widest([name, *(row[name] for row in rows)], most=int(screen.width * shares.get(name, 1)))
            for name in names
        }
        left = screen.width - sum(widths.values()) + widths["title"] - 2 * len(names)
        widths["title"] = min(widths["title"], max(left, 8))
        table = listing(widths, right=("pages",))
        for row in rows:
            cells = {name: Text(row[name], _STYLES.get(name, "")) for name in names}
            cells["title"].truncate(widths["title"], overflow="ellipsis")
            table.add_row(*cells.values())
        screen.print(table)
    pages = sum({document["doc_id"]: document["pages"] for document in documents}.values())
    screen.print(Text(f"{counted(len(documents), 'file')}, {counted(pages, 'page')}", "dim"))


def _cells(document: dict[str, Any]) -> dict[str, str]:
    return {
        "document": plain(document["path"]),
        "pages": f"{document['pages']:,}" + ("" if document["complete"] else f" of {document['page_count']:,}"),
        "title": plain(document["title"]),
        "metadata": metadata_words(document["metadata"]),
        "id": _short(document),
        "indexed": document["indexed_at"][:10],
    }


def _short(document: dict[str, Any]) -> str:
    return str(document["doc_id"][:SHORT_ID])


def metadata_words(metadata: dict[str, Any]) -> str:
    """`team=legal, year=2024`: as it is typed."""
    return plain(", ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in metadata.items()))


def status(
    failed: Annotated[bool, flag("--failed", about="List what could not be indexed, and why.")] = False,
    folder: IndexOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how large the index is, what it is made of, and what failed."""
    with open_index(folder) as index:
        if failed:
            _print_failures(index, index.failures(), as_json=as_json)
            return
        stats = index.stats()
    if as_json:
        print_json(stats)
        return
    problems = [counted(stats[key], noun) for key, noun in (("failed", "file"), ("failed_pages", "page")) if stats[key]]
    per_page = f"{size(stats['bytes_per_page'])} a page, {size(stats['token_bytes_per_page'])} of it token vectors"
    copies = stats["files"] - stats["documents"]
    lines = {
        "Index": shown_path(Path(stats["index"]).absolute()),
        "Holds": f"{counted(stats['pages'], 'page')} of {counted(stats['files'], 'file')}"
        + (f" ({copies:,} of them copies)" if copies > 0 else ""),
        "Encoder": f"{stats['encoder']} ({stats['fingerprint'][:12]}), vectors stored as {stats['codec']}"
        + (f", pooled by {stats['pooling']}" if stats["pooling"] > 1 else ""),
        "Licence": f"{stats['licence'] or 'unknown'} (of the encoder's weights)",
        "Vectors": f"{stats['token_vectors']:,} token vectors in {counted(stats['segments'], 'segment')}"
        + (
            f", {stats['removed_pages']:,} removed pages still in them (docsearch compact)"
            if stats["removed_pages"]
            else ""
        ),
        "Size": size(stats["bytes"]) + (f": {per_page}" if stats["pages"] else ""),
        "Failed": f"{' and '.join(problems)} (docsearch status --failed)" if problems else "nothing",
    }
    for name, text in lines.items():
        print(f"{name:8} {plain(text)}")


def _print_failures(index: Index, failures: list[Failure], *, as_json: bool) -> None:
    shown = [asdict(failure) | {"path": shown_name(index, failure.path)} for failure in failures]
    if as_json:
        print_json(shown)
    elif not sys.stdout.isatty():
        for failure in shown:
            print("\t".join(plain(str(failure[key])) for key in ("path", "code", "message")))
    elif shown:
        from rich.text import Text

        screen = console()
        widths = {"file": widest(["file", *(plain(failure["path"]) for failure in shown)], most=screen.width // 2)}
        widths["code"] = widest(["code", *(failure["code"] for failure in shown)], most=20)
        widths["why"] = max(16, screen.width - sum(widths.values()) - 6)
        table = listing(widths)
        for failure in shown:
            table.add_row(Text(plain(failure["path"]), "cyan"), failure["code"], Text(plain(failure["message"])))
        screen.print(table)
        notice("They are tried again when they change, or with docsearch index --retry-failed.")
    if not shown:
        notice("nothing failed")


def show(
    page: Annotated[str, typer.Argument(metavar="DOC#PAGE", help="A path or an id, and a page from 1.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.png", dir_okay=False, help="Write the page as a picture."),
    ] = None,
    dpi: Annotated[float, typer.Option(min=10, max=600, help="Resolution of the picture.")] = 110.0,
    heatmap: Annotated[
        str | None, typer.Option(metavar="QUERY", help="With --out: warm colours where the page answers QUERY.")
    ] = None,
    text: Annotated[bool, flag("--text", about="Only the text.")] = False,
    folder: IndexOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one page: what is known about it and its text, or its picture."""
    if heatmap is not None and out is None:
        usage_error("--heatmap needs --out FILE.png to write the picture to")
    with open_index(folder) as index:
        name = page_name(index, page)
        record = index.page(name)
        if out is not None:
            picture = index.page_image(name, dpi=dpi) if heatmap is None else index.heatmap(name, heatmap, dpi=dpi)
            try:
                picture.save(out)
            except ValueError:
                usage_error(f"{out}: its name must end in .png, .jpg or .webp")
            notice(f"Wrote {out} ({picture.width} by {picture.height} pixels)")
            return
        paths = [shown_name(index, path) for path in record.paths]
    if as_json:
        print_json({
            "doc_id": record.doc_id, "path": paths[0], "page": record.page_number, "page_label": record.page_label,
            "page_count": record.page_count, "title": record.title, "width_pt": record.width_pt,
            "height_pt": record.height_pt, "text_source": record.text_source, "text": record.words.text,
            "metadata": dict(record.metadata), "indexed_at": record.indexed_at, "duplicates": paths[1:],
        })  # fmt: skip
        return
    if not text:
        label = f", labelled {record.page_label}" if record.page_label not in {"", str(record.page_number)} else ""
        source = {"layer": "text layer", "ocr": "read by OCR", "none": "no text"}[record.text_source]
        facts = [
            f"{paths[0]}, page {record.page_number} of {record.page_count}{label}",
            record.title,
            f"{record.doc_id[:SHORT_ID]}, {record.width_pt:.0f} by {record.height_pt:.0f} pt, {source}",
            metadata_words(dict(record.metadata)),
            *(f"also at {path}" for path in paths[1:]),
        ]
        print(*(plain(fact) for fact in facts if fact), sep="\n", end="\n\n")
    lines = record.words.text
    print(textwrap.fill(lines, min(console().width, 100)) if sys.stdout.isatty() else lines)
