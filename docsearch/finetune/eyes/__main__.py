"""Train the encoder `eyes`, in pieces of as many seconds as there are; look at how it goes and what it reads.

python tools/eyes_texts.py TEXTS && python tools/eyes_fonts.py FONTS
python -m docsearch.finetune.eyes train RUN --texts TEXTS --fonts FONTS --size S --cells 1e9 --seconds 540
python -m docsearch.finetune.eyes train RUN --texts TEXTS --fonts FONTS --size S --cells 1e9 --seconds 540    # goes on
python -m docsearch.finetune.eyes curves RUN --out curves.svg
python -m docsearch.finetune.eyes read RUN --page page.png --out read.png
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from docsearch.errors import DocsearchError
from docsearch.finetune.eyes.network import SIZES
from docsearch.finetune.eyes.pages.fonts import read_fonts
from docsearch.finetune.eyes.pages.texts import read_texts
from docsearch.finetune.eyes.throughput import peak_flops
from docsearch.finetune.eyes.train import CURRICULUM, Material, Settings, Stage, Trainer

TRAINING = 3.0  # passes a step costs: one forward, two back


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="begin a run, or go on with it")
    train.set_defaults(command=run_training)
    train.add_argument("run", type=Path, help="its folder")
    train.add_argument("--texts", type=Path, required=True, help="the folder of tools/eyes_texts.py")
    train.add_argument("--fonts", type=Path, required=True, help="the folder of tools/eyes_fonts.py")
    train.add_argument("--languages", default="en,de,fr,es,it,pt", help="of the texts, with commas")
    train.add_argument("--size", choices=SIZES, default="S")
    train.add_argument("--cells", type=float, default=1e9, help="the length of the run, in cells with a word")
    train.add_argument(
        "--curriculum", type=read_curriculum, default=CURRICULUM, help="style:context:share, with commas"
    )
    train.add_argument("--page", type=read_page, default=(448, 448), help="HEIGHTxWIDTH in px, multiples of 112")
    train.add_argument("--batch-size", type=int, default=16, help="pages in a step")
    train.add_argument("--lr", type=float, default=2e-3)
    train.add_argument("--by-heart", type=int, default=0, help="learn the first pages only, to see that it can be done")
    train.add_argument("--causal", action="store_true", help="a decoder that sees what came before only")
    train.add_argument("--begin-with", type=Path, help="weights of another run, for a new one")
    train.add_argument("--seconds", type=float, default=math.inf, help="then save and stop; the same command goes on")
    train.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes making pages")
    train.add_argument("--threads", type=int, default=1, help="of the network on a CPU")
    train.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    curves = commands.add_parser("curves", help="draw how runs went")
    curves.set_defaults(command=draw_curves)
    curves.add_argument("runs", type=Path, nargs="+")
    curves.add_argument("--out", type=Path, required=True, help="an .svg or .png")
    read = commands.add_parser("read", help="draw what is read on a page")
    read.set_defaults(command=draw_reading)
    read.add_argument("run", type=Path)
    read.add_argument("--page", type=Path, required=True, help="an image of a page")
    read.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        arguments.command(arguments)
    except (DocsearchError, ValueError) as error:
        sys.exit(str(error))


def run_training(arguments: argparse.Namespace) -> None:
    """Begin a run or go on with it, and print a line a minute."""
    torch.set_num_threads(arguments.threads)
    languages = arguments.languages.split(",")
    parts = [read_texts(arguments.texts, part=part, languages=languages) for part in ("train", "held-out")]
    fonts = [read_fonts(arguments.fonts, part=part) for part in ("train", "held-out")]
    settings = Settings(
        size=arguments.size, cells=arguments.cells, curriculum=arguments.curriculum, height=arguments.page[0],
        width=arguments.page[1], batch_size=arguments.batch_size, learning_rate=arguments.lr, causal=arguments.causal,
        by_heart=arguments.by_heart,
    )  # fmt: skip
    material = Material(parts[0], fonts[0], parts[1], fonts[1])
    trainer = Trainer(arguments.run, settings, material, workers=arguments.workers, device=arguments.device)
    if arguments.begin_with and not trainer.step:
        trainer.begin_with(arguments.begin_with)
    work = TRAINING * SIZES[settings.size].flops(settings.height, settings.width)
    peak = peak_flops(arguments.device)
    print(f"{sum(p.numel() for p in trainer.network.parameters()):,} parameters, going on at step {trainer.step}; "
          f"a matrix product in bfloat16 reaches {peak / 1e12:.2f} TFLOP/s here")  # fmt: skip
    begun = trainer.pages, trainer.seconds

    def show(losses: Mapping[str, float]) -> None:
        speed = (trainer.pages - begun[0]) / max(1e-9, trainer.seconds - begun[1])
        shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        print(f"step {trainer.step:,}, {trainer.cells:,} cells, {trainer.seconds:.0f} s: {shown}; {speed:.1f} pages/s, "
              f"{work * speed / 1e12:.3f} TFLOP/s, {work * speed / peak:.0%} of the peak", flush=True)  # fmt: skip

    ended = trainer.run(seconds=arguments.seconds, on_progress=show)
    print("The run is at its end." if ended else "Saved: the same command goes on.")


def draw_curves(arguments: argparse.Namespace) -> None:
    """The held-out figures of some runs over the cells seen, and what a hundred times more would give."""
    from docsearch.finetune.eyes.views import curves, forecasts

    curves(arguments.runs, arguments.out)
    for line in forecasts(arguments.runs, times=100):
        print(line)


def draw_reading(arguments: argparse.Namespace) -> None:
    """The nearest word of every cell, and the characters, on the page."""
    from docsearch.finetune.eyes.views import reading

    reading(arguments.run, arguments.page, arguments.out)


def read_curriculum(text: str) -> tuple[Stage, ...]:
    """``line:0:0.2,fonts:0:0.8``."""
    parts = (part.split(":") for part in text.split(","))
    return tuple(Stage(style, float(context), float(share)) for style, context, share in parts)  # type: ignore[arg-type]


def read_page(text: str) -> tuple[int, int]:
    """``448x448``, height first."""
    height, width = text.split("x")
    return int(height), int(width)


if __name__ == "__main__":
    main()
