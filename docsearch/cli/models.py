"""What there is to encode with: `models`, `models show`, `models download`, `models export`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from docsearch.cli.options import JsonOption, YesOption, examples, print_json, usage_error
from docsearch.cli.terminal import console, notice, shown_path

MODEL_HELP = "A folder with the weights, or a repository whose weights are here [dim](else the published one)[/dim]."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        invoke_without_command=True,
        epilog=examples("docsearch models", "docsearch models download jina-v4"),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.callback()(models)
    group.command(epilog=examples("docsearch models show sentence-transformers:FOLDER"))(show)
    group.command(epilog=examples("docsearch models download jina-v4 --yes"))(download)
    group.command(epilog=examples("docsearch models export jina-v4 --task retrieval --to exported"))(export)
    app.add_typer(group, name="models", rich_help_panel="This installation")


def models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the encoders, what they need, and their licences; fetch or export one."""
    if ctx.invoked_subcommand is not None:
        return
    from docsearch.encoders import CARDS, DEFAULT

    if as_json:
        print_json([asdict(card) | {"default": card.name == DEFAULT} for card in CARDS])
        return
    if not sys.stdout.isatty():
        for card in CARDS:
            print(card.name, card.availability, card.licence, card.summary, sep="\t")
        return
    from rich.text import Text

    screen = console()
    for card in CARDS:
        name = Text(card.name, "bold cyan").append(" (default)" if card.name == DEFAULT else "", "dim")
        screen.print(name.append(f"  {card.availability}", "green" if card.availability == "built in" else "yellow"))
        screen.print(Text(f"  {card.summary}"))
        if card.token_dim:
            screen.print(Text(f"  {card.token_dim} numbers a token vector, {card.dense_dim} a page vector", "dim"))
        screen.print(Text(f"  licence: {card.licence}", "dim"))


def show(name: Annotated[str, typer.Argument(metavar="NAME", help="As for --encoder.")]) -> None:
    """Load one encoder and say what it is: dimensions, what it reads, the licence of its weights."""
    from docsearch.encoders import licence_of, load_encoder

    encoder = load_encoder(name)
    print_json(
        {
            "name": encoder.name,
            "licence": licence_of(encoder.name),
            "reads": encoder.reads,
            "queries": sorted(encoder.modalities),
            "token_dim": encoder.token_dim,
            "dense_dim": encoder.dense_dim,
            "settings": dict(encoder.settings),
            "fingerprint": encoder.fingerprint,
        }
    )


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="jina-v4")],
    model: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Another repository of the same layout.")] = "",
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="Commit, branch or tag [dim](else a pinned commit)[/dim].")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Fetch the weights of an encoder from the Hugging Face hub into its cache. Nothing else ever fetches any."""
    _only_jina(name)
    from docsearch.encoders.jina_v4.checkpoint import HUB_ID, LICENCE, find_checkpoint
    from docsearch.encoders.jina_v4.model import take_census

    notice(f"{model or HUB_ID}: 7.9 GB under the {LICENCE}")
    if not yes and not (sys.stdin.isatty() and typer.confirm("Fetch it under these terms?", err=True)):
        usage_error("fetching asks for consent to the licence: answer y, or say --yes")
    census = take_census(find_checkpoint(model, revision=revision, download=True))
    tensors = f"{census.base:,} + {census.adapters:,} tensors"
    typer.echo(f"{model or HUB_ID} is here, and complete: {tensors}, {census.parameters:,} parameters")


def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="jina-v4")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A folder that does not exist yet.")],
    task: Annotated[str, typer.Option(metavar="TASK", help="retrieval, text-matching or code.")] = "retrieval",
    model: Annotated[str, typer.Option(metavar="SOURCE", help=MODEL_HELP)] = "",
) -> None:
    """Write a folder that sentence-transformers opens without remote code, with one task merged in."""
    _only_jina(name)
    from docsearch.encoders.jina_v4 import TASKS, JinaV4
    from docsearch.encoders.jina_v4.checkpoint import LICENCE
    from docsearch.encoders.jina_v4.export import export_for_sentence_transformers

    if task not in TASKS:
        usage_error(f"--task is {task}; choose one of {', '.join(TASKS)}")
    try:
        export_for_sentence_transformers(JinaV4(model), task, to)
    except FileExistsError as error:
        usage_error(str(error))
    notice(f"the weights stay under the {LICENCE}")
    typer.echo(f"Wrote {shown_path(to)}: MultiVectorEncoder({str(to)!r}) opens it")


def _only_jina(name: str) -> None:
    if name != "jina-v4":
        usage_error(f"{name} has nothing to fetch or export: jina-v4 has")
