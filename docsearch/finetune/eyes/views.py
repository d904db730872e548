"""Pictures of a run: its curves, with what more would give, and what it reads on a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from docsearch.encoders.words.encoder import WEIGHTS
from docsearch.encoders.words.tokenizer import WordTokenizer
from docsearch.finetune.eyes.network import CELL
from docsearch.finetune.eyes.reader import EyesReader
from docsearch.finetune.eyes.targets import word_table

SHOWN = (("chars", "characters named"), ("r1", "R@1 of cells"), ("centred", "centred cosine"))
FIRST_CELLS, FEWEST_LOOKS = 1e4, 8  # before the rate has risen, and with less to go by, nothing is foretold
ENLARGED = 2.5  # of a page that is read, so that words fit into its cells
WORD_INK, CHAR_INK, EDGE, PAPER, FAINT = (150, 30, 30), (20, 60, 140), (225, 225, 225), (255, 255, 255), 0.25


def curves(runs: Sequence[Path], out: Path) -> None:
    """Characters named, R@1 and centred cosine on held-out texts over the cells seen."""
    import matplotlib as mpl

    mpl.use("svg" if out.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(SHOWN), figsize=(4.2 * len(SHOWN), 3.4), layout="constrained")
    for run in runs:
        lines = read_curves(run)
        for name in dict.fromkeys(name for line in lines for name in line["held_out"]):
            there = [line for line in lines if name in line["held_out"]]
            seen = np.array([line["cells"] for line in there])
            for axis, (measure, title) in zip(axes, SHOWN, strict=True):
                values = np.array([line["held_out"][name][measure] for line in there])
                axis.plot(seen, values, label=f"{run.name}, {name}", linewidth=1.5)
                axis.set(xscale="log", xlabel="cells seen", title=title, ylim=(0, 1))
                axis.grid(alpha=0.3)
    for axis in axes:
        axis.set_xlim(left=min(3e4, axis.get_xlim()[1] / 10))
    axes[0].legend(fontsize=8)
    figure.savefig(out)


def read_curves(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's curves."""
    return [json.loads(line) for line in (run / "curves.jsonl").read_text().splitlines()]


def forecasts(runs: Sequence[Path], times: float) -> Iterator[str]:
    """A line for each run, held-out set and share: now, and by `forecast`; none for a run of less than eight looks."""
    for run in runs:
        lines = [line for line in read_curves(run) if line["cells"] > FIRST_CELLS]
        for name in dict.fromkeys(name for line in lines for name in line["held_out"]):
            there = [line for line in lines if name in line["held_out"]]
            for measure in ("chars", "r1"):
                values = [line["held_out"][name][measure] for line in there]
                if len(values) >= FEWEST_LOOKS:
                    low, high = sorted(forecast([line["cells"] for line in there], values, times))
                    yield f"{run.name}, {name}, {measure}: {values[-1]:.3f}; {times:g} times: {low:.3f} to {high:.3f}"


def forecast(cells: Sequence[float], values: Sequence[float], times: float) -> tuple[float, float]:
    """What a share would be after so many times more cells: a straight line in log-odds over log cells.

    Returns:
        From the last half of the points, and from the last quarter: how far they lie apart says how little is known.
    """
    x, share = np.log(np.asarray(cells, float)), np.clip(np.asarray(values, float), 1e-4, 1 - 1e-4)
    y = np.log(share / (1 - share))
    ends = []
    for part in (len(x) // 2, 3 * len(x) // 4):
        slope, at = np.polyfit(x[part:], y[part:], 1)
        ends.append(float(1 / (1 + np.exp(-(at + slope * (x[-1] + np.log(times)))))))
    return ends[0], ends[1]


def reading(run: Path, page: Path, out: Path) -> None:
    """The page, faint, with the nearest piece of a word in every cell and the characters that were seen below it."""
    import matplotlib as mpl

    reader = EyesReader(run)
    table = word_table([], run / "words.safetensors")
    with Image.open(page) as opened:
        grey = reader.fit(np.asarray(opened.convert("RGB")))
    found = reader.read(grey)
    words = nearest_pieces(found.tokens, table)
    size = (round(grey.shape[1] * ENLARGED), round(grey.shape[0] * ENLARGED))
    picture = Image.blend(Image.new("RGB", size, PAPER), Image.fromarray(grey).convert("RGB").resize(size), FAINT)
    draw, letters = ImageDraw.Draw(picture), Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font, small = (ImageFont.truetype(letters, size) for size in (12, 10))  # Greek and Cyrillic, too
    side = CELL * ENLARGED
    for cell in np.flatnonzero(found.written):
        row, col = divmod(int(cell), found.cols)
        draw.rectangle((col * side, row * side, (col + 1) * side, (row + 1) * side), outline=EDGE)
        draw.text((col * side + 2, row * side + 2), words[cell], WORD_INK, font)
        for half in (0, 1):
            seen = collapsed(found.classes[2 * row + half, 8 * col : 8 * col + 8])
            draw.text((col * side + 2, row * side + 26 + 18 * half), reader.alphabet.text(seen), CHAR_INK, small)
    picture.save(out)


def nearest_pieces(tokens: NDArray[np.float32], table: dict[str, Any]) -> list[str]:
    """The piece whose mean vector is nearest to each token, as it is written; the common part of all is taken off."""
    vectors = table["vectors"].astype(np.float32)
    centre = vectors.mean(0)
    theirs = vectors - centre
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    tokenizer = WordTokenizer(WEIGHTS / "tokenizer.json")
    return [tokenizer.piece_of(int(table["ids"][at])) for at in ((tokens - centre) @ theirs.T).argmax(1)]


def collapsed(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Characters of neighbouring slots, each once."""
    kept = [c for at, c in enumerate(classes) if c and (at == 0 or c != classes[at - 1])]
    return np.array(kept, np.int64)
