"""How fast pages to learn reading from are made, and what they look like.

    python tools/eyes_texts.py eyes/texts && python tools/eyes_fonts.py eyes/fonts     # once
    python benchmarks/eyes_pages.py eyes                      # every style and size, by CPU time
    python benchmarks/eyes_pages.py eyes --processes 1,2      # full pages by several processes, by the clock
    python benchmarks/eyes_pages.py eyes --sheet pages.png    # look at them
    python benchmarks/eyes_pages.py eyes --profile

CPU time is that of the process (`time.process_time`), after a first book of pages that is not counted, over pages that
follow one another. A figure for more cores than there are is worked out from CPU time and says so: processes share
nothing but the texts.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from docsearch.finetune.eyes.pages import Font, PageMaker, Texts, read_fonts, read_texts
from docsearch.types import BOX_UNIT

STYLES = ("line", "fonts", "full")
SIZES = ((1120, 784), (448, 448), (224, 448))


def main() -> None:
    """Read the folder, measure, print; or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds texts/ and fonts/")
    parser.add_argument("--part", choices=["train", "held-out"], default="train", help="of the texts")
    parser.add_argument("--pages", type=int, default=256, help="full pages of each style; more of the small ones")
    parser.add_argument("--processes", help="numbers of processes, with commas between them")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    texts = read_texts(options.folder / "texts", part=options.part)
    fonts = read_fonts(options.folder / "fonts")
    if options.sheet:
        contact_sheet(texts, fonts).save(options.sheet, optimize=True)
    elif options.profile:
        profile(texts, fonts, options.pages)
    elif options.processes:
        for number in map(int, options.processes.split(",")):
            together(texts, fonts, options.pages, number)
    else:
        alone(texts, fonts, options.pages)


def alone(texts: Texts, fonts: list[Font], n_pages: int) -> None:
    """One process, every style and size."""
    print(f"{len(texts)} languages, {len(fonts)} faces; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("style  page       colour  ms CPU a page  pages/s a core  16 cores (worked out)  words a page")
    for style in STYLES:
        for height, width in SIZES:
            for colour in (False, True) if style == "full" else (False,):
                maker = PageMaker(texts, fonts, height=height, width=width, style=style, colour=colour)
                seconds, words = measure(maker, n_pages * (1 if height > 500 else 3))
                print(f"{style:6} {width:4}x{height:<5} {colour!s:6} {1000 * seconds:14.1f} {1 / seconds:15.0f} "
                      f"{16 / seconds:22.0f} {words:13.0f}")  # fmt: skip


def measure(maker: PageMaker, n_pages: int, first: int = 0) -> tuple[float, float]:
    """CPU seconds and words a page."""
    for number in range(first, first + 16):
        maker.make(number)
    start, words = time.process_time(), 0
    for number in range(first + 16, first + 16 + n_pages):
        words += len(maker.make(number).words.texts)
    return (time.process_time() - start) / n_pages, words / n_pages


def together(texts: Texts, fonts: list[Font], n_pages: int, n_processes: int) -> None:
    """Several processes at once, each with its own stretch of numbers: by the clock, and by the CPU time of each."""
    ready, spent = multiprocessing.Barrier(n_processes + 1), multiprocessing.Queue()
    jobs = [
        multiprocessing.Process(target=_work, args=(texts, fonts, n_pages, 100_000 * job, ready, spent))
        for job in range(n_processes)
    ]
    for job in jobs:
        job.start()
    ready.wait()
    start = time.perf_counter()
    seconds = [spent.get() for _ in jobs]
    rate = n_processes * n_pages / (time.perf_counter() - start)
    for job in jobs:
        job.join()
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{n_processes} processes: {1000 * float(np.mean(seconds)):.1f} ms CPU a full page of 784x1120, "
          f"{rate:.1f} pages a second by the clock; {load}")  # fmt: skip


def _work(texts: Texts, fonts: list[Font], n_pages: int, first: int, ready: Any, spent: Any) -> None:
    maker = PageMaker(texts, fonts, height=1120, width=784)
    for number in range(first, first + 16):
        maker.make(number)
    ready.wait()
    start = time.process_time()
    for number in range(first + 16, first + 16 + n_pages):
        maker.make(number)
    spent.put((time.process_time() - start) / n_pages)


def profile(texts: Texts, fonts: list[Font], n_pages: int) -> None:
    """Where the time goes for full pages."""
    maker = PageMaker(texts, fonts, height=1120, width=784)
    maker.make(0)
    profiler = cProfile.Profile()
    profiler.runcall(lambda: [maker.make(number) for number in range(n_pages)])
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def contact_sheet(texts: Texts, fonts: list[Font], width: int = 1400, per_row: int = 5) -> Image.Image:
    """Rows of pages: the plain styles, then every kind of page in the full one; the last of a style with its boxes."""
    rows: list[list[Image.Image]] = []
    across = (width - 8 * (per_row + 1)) // per_row
    for style, height, page_width in (("line", 224, 448), ("fonts", 224, 448), ("full", 1120, 784)):
        maker = PageMaker(texts, fonts, height=height, width=page_width, seed=2, style=style, colour=style == "full")
        numbers = different(maker, 3 * per_row) if style == "full" else list(range(per_row))
        shown = [picture(maker, number, boxed=number == numbers[-1]) for number in numbers]
        size = (across, height * across // page_width)
        small = [page.resize(size, Image.Resampling.LANCZOS) for page in shown]
        rows += [small[at : at + per_row] for at in range(0, len(small), per_row)]
    total = Image.new("RGB", (width, sum(row[0].height + 8 for row in rows) + 8), (90, 90, 90))
    y = 8
    for row in rows:
        for at, page in enumerate(row):
            total.paste(page, (8 + at * (page.width + 8), y))
        y += row[0].height + 8
    return total.quantize(128)


def different(maker: PageMaker, n_pages: int) -> list[int]:
    """Numbers of pages of different kinds, as far as there are."""
    found: dict[str, list[int]] = {}
    for number in range(4 * n_pages):
        found.setdefault(maker.make(number).info["kind"], []).append(number)
    turns = [number for turn in zip_longest(*found.values()) for number in turn if number is not None]
    return turns[:n_pages]


def picture(maker: PageMaker, number: int, *, boxed: bool) -> Image.Image:
    """A page, perhaps with its words in boxes."""
    page = maker.make(number)
    image = Image.fromarray(page.image).convert("RGB")
    if boxed:
        pen = ImageDraw.Draw(image)
        for box in page.words.boxes / BOX_UNIT * np.array([maker.width, maker.height] * 2):
            pen.rectangle(box.tolist(), outline=(220, 0, 0))
    return image


if __name__ == "__main__":
    main()
