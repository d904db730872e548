"""`docsearch finetune`: teach the flagship one's own pages and questions."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from docsearch.cli.options import JsonOption, checked_options, examples, print_json
from docsearch.cli.terminal import VOICE, counted, duration, notice, say, shown_path

if TYPE_CHECKING:
    from docsearch.finetune import Progress, Report

_LOG_SECONDS = 10.0
_HOW = "How it is trained"


def register(app: typer.Typer) -> None:
    """Add the command."""
    epilog = examples(
        "docsearch finetune ./judged --out ./tuned",
        "docsearch finetune ./judged --out ./tuned --steps 3000 --lr 5e-5",
        "docsearch index ./pdfs --encoder jina-v4:./tuned",
    )
    app.command(epilog=epilog, rich_help_panel="This installation")(finetune)


def finetune(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            exists=True,
            file_okay=False,
            help="A BEIR-style folder: corpus.jsonl, queries.jsonl, qrels/train.tsv.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the tuned model goes.", show_default=False)],
    task: Annotated[
        Literal["retrieval", "text-matching", "code"],
        typer.Option(metavar="TASK", help="Whose adapter: retrieval, text-matching or code."),
    ] = "retrieval",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A folder or hub repository [dim](else jina-embeddings-v4)[/dim].")
    ] = "",
    stage: Annotated[
        Literal["pair", "task"],
        typer.Option(metavar="pair|task", help="pair: one adapter from pairs, for all tasks.", rich_help_panel=_HOW),
    ] = "task",
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimizer steps.", rich_help_panel=_HOW)] = 1000,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Queries in a step; takes memory.", rich_help_panel=_HOW)
    ] = 16,
    hard_negatives: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of each query in a step, at most.", rich_help_panel=_HOW)
    ] = 1,
    lr: Annotated[float, typer.Option(metavar="X", help="The highest learning rate.", rich_help_panel=_HOW)] = 1e-4,
    max_pixels: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Of a page [dim](else the model's)[/dim].", rich_help_panel=_HOW),
    ] = None,
    every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Save and look at held-out queries.", rich_help_panel=_HOW)
    ] = 100,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of the order and of dropout.", rich_help_panel=_HOW)
    ] = 0,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cpu, cuda, mps [dim](else the best)[/dim].", rich_help_panel=_HOW),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train one adapter of jina-embeddings-v4; the model itself and the other adapters stay as they are.

    The same command goes on with a run that was stopped. The result holds links to the model it came from.
    """
    from docsearch.errors import ModelUnavailable

    try:
        from docsearch.encoders.jina_v4.checkpoint import find_checkpoint
        from docsearch.finetune import Settings, Trainer, read_data
    except ImportError as error:
        raise ModelUnavailable(
            f"fine-tuning needs {error.name}: pip install 'docsearch-engine[finetune]' brings it"
        ) from error
    with checked_options():
        settings = Settings(
            task=task,
            stage=stage,
            steps=steps,
            batch_size=batch_size,
            hard_negatives=hard_negatives,
            learning_rate=lr,
            max_pixels=max_pixels,
            every=every,
            seed=seed,
        )
        trainer = Trainer(find_checkpoint(model), read_data(data), out, settings, device=device)
    if trainer.step:
        notice(f"Going on after step {trainer.step:,} of the run in {shown_path(out)}")
    started = time.monotonic()
    with show_progress() as on_progress:
        report = trainer.run(on_progress)
    if as_json:
        print_json(asdict(report) | {"folder": str(report.folder)})
    elif not VOICE.quiet:
        _print_report(report, task, time.monotonic() - started)


def _print_report(report: Report, task: str, seconds: float) -> None:
    done = counted(report.steps - report.resumed_at, "step")
    say(f"Trained the {task} adapter for {done} in {duration(seconds)}; loss {report.loss:.3f}")
    if report.ndcg is None or report.ndcg_before is None:
        say("No queries are held out (qrels/dev.tsv), so nobody knows whether it is better")
    else:
        worse = "; it is no better than before" if report.ndcg <= report.ndcg_before else ""
        say(f"Held-out nDCG@5 {report.ndcg_before:.3f} before, {report.ndcg:.3f} now{worse}")
    say(f"Use it with --encoder jina-v4:{shown_path(report.folder)}")


@contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """Show training on stderr for the time of the block: a live line on a terminal, a line now and then in a log."""
    tell = _pace()
    if VOICE.quiet or not sys.stderr.isatty():
        yield _log(tell)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Display

    said = TextColumn("{task.fields[said]}", markup=False)
    console = Console(stderr=True, highlight=False)
    with Display(SpinnerColumn(), BarColumn(16), said, console=console, transient=True) as display:
        bar = display.add_task("", total=None, said="looking at held-out queries")

        def update(progress: Progress) -> None:
            display.update(bar, total=progress.steps, completed=progress.step, said=tell(progress))

        yield update


def _log(tell: Callable[[Progress], str]) -> Callable[[Progress], None]:
    last = time.monotonic()

    def update(progress: Progress) -> None:
        nonlocal last
        said = tell(progress)
        if time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            notice(said)

    return update


def _pace() -> Callable[[Progress], str]:
    """`120 of 1,000 steps, loss 0.412, held-out nDCG@5 0.713, rate 9.8e-05, 2 min 05 s left`."""
    first: tuple[float, int] | None = None

    def tell(progress: Progress) -> str:
        nonlocal first
        now = time.monotonic()
        first = first or (now, progress.step)  # the first step is left out: it comes after loading and a look
        ndcg = "" if progress.ndcg is None else f", held-out nDCG@5 {progress.ndcg:.3f}"
        said = (
            f"{progress.step:,} of {progress.steps:,} steps, loss {progress.loss:.3f}{ndcg}, rate {progress.rate:.1e}"
        )
        if first[1] < progress.step < progress.steps:
            left = (now - first[0]) / (progress.step - first[1]) * (progress.steps - progress.step)
            said += f", {duration(left)} left"
        return said

    return tell
