"""How much of a scanned page is read, and at what cost: word recall, precision and CPU seconds for each way of reading.

    python benchmarks/ocr_reading.py SCANS TEXTS [--pages 3] [--only NAME...]

SCANS and TEXTS are folders with PDFs of the same names: pictures of pages, and the same pages with a text layer. The
language is the last part of the name but one: slides.fr.pdf. Each page is also tried askew with noise, and as a photo.
"""

# ruff: noqa: ARG001, SLF001 - the ways to read share a signature, and measure what is inside
from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

os.environ["OMP_THREAD_LIMIT"] = "1"

import numpy as np
import pymupdf
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from docsearch.indexer import ocr, render
from docsearch.types import Words

Picture = NDArray[np.uint8]
TESSERACT_NAME = {"en": "eng", "de": "deu", "fr": "fra"}


def main() -> None:
    """Print one line for each way of reading."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scans", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--pages", type=int, default=3, help="of each document, evenly spread")
    parser.add_argument("--only", nargs="*", help="names of ways to read")
    arguments = parser.parse_args()
    pages = list(choose(arguments.scans, arguments.texts, arguments.pages))
    print(f"{'way':34} recall  precision  CPU s/page   ({len(pages)} pages)")
    for name, (damage, dpi, turns, read) in WAYS.items():
        if not arguments.only or name in arguments.only:
            report(name, pages, damage, dpi, turns, read)


def choose(scans: Path, texts: Path, count: int) -> Iterator[tuple[Path, Path, int]]:
    """Pages of every document that have at least 60 words."""
    for scan in sorted(scans.glob("*.pdf")):
        with pymupdf.open(texts / scan.name) as document:
            full = [page.number for page in document if len(page.get_text("words")) >= 60]
        for step in range(count):
            yield scan, texts / scan.name, full[(2 * step + 1) * len(full) // (2 * count)]


def report(
    name: str,
    pages: Iterable[tuple[Path, Path, int]],
    damage: Callable[[Picture, int], Picture],
    dpi: int,
    turns: int,
    read: Callable[[ocr.Reader, Picture, str], Words],
) -> None:
    """Read every page one way; a document's pages share a reader, as they do when it is indexed."""
    hits = wanted = found = 0
    seconds = 0.0
    readers: dict[Path, ocr.Reader] = {}
    for seed, (scan, text, number) in enumerate(pages):
        truth = tokens(word[4] for word in pymupdf.open(text)[number].get_text("words"))
        picture = np.rot90(damage(render.render_page_image(scan, number + 1, dpi=dpi, max_pixels=10**8), seed), turns)
        reader = readers.setdefault(scan, ocr.Reader(render._recognise))
        started = time.process_time()
        words = read(reader, picture, TESSERACT_NAME[scan.stem.split(".")[-1]])
        seconds += time.process_time() - started
        got = tokens(words.texts)
        hits += (truth & got).total()
        wanted += truth.total()
        found += got.total()
    print(f"{name:34} {hits / wanted:6.3f}  {hits / found:9.3f}  {seconds / (seed + 1):10.2f}", flush=True)


def tokens(words: Iterable[str]) -> Counter[str]:
    """Runs of two and more letters and digits, in small letters."""
    return Counter(token for word in words for token in re.findall(r"\w\w+", word.lower()))


def clean(picture: Picture, seed: int) -> Picture:
    """As scanned."""
    return picture


def askew(picture: Picture, seed: int) -> Picture:
    """Turned by up to three degrees, a little blurred, with strong noise."""
    image = Image.fromarray(picture).rotate(
        (-2.5, 1.7, 3.0)[seed % 3], Image.Resampling.BICUBIC, True, None, None, "white"
    )
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)), np.float64)
    noise = np.random.default_rng(seed).normal(0, 25, (*blurred.shape[:2], 1))
    return (blurred + noise).clip(0, 255).astype(np.uint8)


def photo(picture: Picture, seed: int) -> Picture:
    """Seen from the side, out of focus, and in shadow towards a corner."""
    random = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    corners = [(0, 0), (0, height), (width, height), (width, 0)]
    away = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
    quad = [
        at + sign * random.random() * 0.05 * size
        for corner, signs in zip(corners, away, strict=True)
        for at, sign, size in zip(corner, signs, (width, height), strict=True)
    ]
    image = Image.fromarray(picture).transform(
        (width, height), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC, 1, "white"
    )
    shadow = 0.95 - 0.55 * np.linspace(0, 1, width)[None, :] * (0.4 + 0.6 * np.linspace(0, 1, height)[:, None])
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)), np.float64)
    noise = random.normal(0, 8, (height, width, 1))
    return (blurred * shadow[:, :, None] + noise).clip(0, 255).astype(np.uint8)


def ours(reader: ocr.Reader, picture: Picture, language: str) -> Words:
    """As docsearch reads: the language found from the page."""
    return reader.read(picture)


def bare(reader: ocr.Reader, picture: Picture, language: str) -> Words:
    """The engine alone, told the right language."""
    return render._recognise(picture, language)


def as_english(reader: ocr.Reader, picture: Picture, language: str) -> Words:
    """Our preparation, but every page read as English."""
    return reader._read(ocr._flat(ocr._enlarged(picture)), 0, "eng")


def in_three(reader: ocr.Reader, picture: Picture, language: str) -> Words:
    """Our preparation, and three languages at once."""
    return reader._read(ocr._flat(ocr._enlarged(picture)), 0, "eng+deu+fra")


WAYS = {
    "clean, 75 dpi": (clean, 75, 0, ours),
    "clean, 150 dpi": (clean, 150, 0, ours),
    "clean, 200 dpi": (clean, 200, 0, ours),
    "clean, 300 dpi": (clean, 300, 0, ours),
    "clean, 200 dpi, as English": (clean, 200, 0, as_english),
    "clean, 200 dpi, three languages": (clean, 200, 0, in_three),
    "clean, 200 dpi, engine alone": (clean, 200, 0, bare),
    "clean, 200 dpi, upside down": (clean, 200, 2, ours),
    "clean, 200 dpi, on its side": (clean, 200, 1, ours),
    "askew and noisy, 200 dpi": (askew, 200, 0, ours),
    "photo, 200 dpi": (photo, 200, 0, ours),
    "askew and noisy, engine alone": (askew, 200, 0, bare),
    "photo, engine alone": (photo, 200, 0, bare),
}

if __name__ == "__main__":
    main()
