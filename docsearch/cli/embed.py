"""Vectors on stdout: `embed`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from docsearch.cli.options import checked_options, examples, flag, usage_error

if TYPE_CHECKING:
    from docsearch.embed import EmbeddingType, EmbedTask


def register(app: typer.Typer) -> None:
    """Add the command."""
    epilog = examples(
        'docsearch embed "who signed the lease?"',
        "docsearch embed --file report.pdf --task retrieval.passage --model jina-v4 --multivector",
        "docsearch embed - --type base64 < lines.txt",
    )
    app.command(rich_help_panel="Search", epilog=epilog)(embed)


def embed(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT|-]...", help="Texts; - reads one a line from stdin.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="A PDF or an image, every page of it; repeatable."),
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="See `docsearch models`.")] = "words",
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK", help="text-matching, retrieval.query, retrieval.passage, code.query or code.passage."
        ),
    ] = "text-matching",
    dimensions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Keep this many numbers [dim](else all)[/dim].")
    ] = None,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="float, base64, binary or ubinary.")] = "float",
    multivector: Annotated[bool, flag("--multivector", about="Token vectors instead of the page vector.")] = False,
    truncate: Annotated[bool, flag("--truncate", about="Cut texts that are too long instead of stopping.")] = False,
) -> None:
    """Print the vectors of texts, images and PDF pages, as the embeddings API answers."""
    from docsearch.embed import embed as vectors

    inputs: list[str | Path] = []
    for text in texts or ():
        inputs += [line.rstrip("\n") for line in sys.stdin if line.strip()] if text == "-" else [text]
    inputs += file or ()
    if not inputs:
        usage_error("nothing to embed: give a text, - for lines from stdin, or --file FILE")
    with checked_options():
        answer = vectors(
            inputs,
            model=model,
            task=cast("EmbedTask", task),  # checked there
            dimensions=dimensions,
            embedding_type=cast("EmbeddingType", kind),
            return_multivector=multivector,
            truncate=truncate,
        )
    typer.echo(json.dumps(answer))

