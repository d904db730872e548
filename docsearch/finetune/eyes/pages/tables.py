"""The parts of a page where words stand in columns: tables, tables of contents, indexes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from docsearch.finetune.eyes.pages.blocks import Place, caption, fit
from docsearch.finetune.eyes.pages.book import mixed, readable_on, vivid
from docsearch.finetune.eyes.pages.glyphs import Face
from docsearch.finetune.eyes.pages.typeset import BLACK, WHITE, Align, Ink


def table(at: Place) -> None:
    """Rows of words and numbers with rules, stripes, or neither; perhaps a caption."""
    chance, book = at.chance, at.book
    scale = chance.choice((1, 1, 0.85))
    face, bold = book.face(scale=scale), book.face(scale=scale, bold=True)
    height = face.size * chance.uniform(1.4, 2.1)
    n_rows = min(chance.randint(3, 14), int((at.room - 2 * at.size) // height))
    n_cols = min(chance.randint(2, 7), int(at.width // (5 * face.size)))
    if n_rows < 2 or n_cols < 2:
        at.y = at.bottom if n_rows < 2 else at.y
        return
    if chance.random() < 0.4:
        caption(at, "Table")
    shares = np.cumsum([0, *(chance.uniform(0.6, 1.6) for _ in range(n_cols))])
    edges = (at.left + at.width * chance.choice((1, 1, 1, 0.8, 0.6)) * shares / shares[-1]).tolist()
    levels = [at.y + row * height for row in range(n_rows + 1)]
    head_ink = _ground(at, edges, levels)
    numeric = [column > 0 and chance.random() < 0.6 for column in range(n_cols)]
    _row(at, bold, edges, levels[:2], [False] * n_cols, numeric, head_ink)
    for top, bottom in pairwise(levels[1:]):
        _row(at, face, edges, [top, bottom], numeric, numeric, at.ink)
    at.y = levels[-1]
    at.gap(0.8)


def _ground(at: Place, edges: list[float], levels: list[float]) -> Ink:
    """Draw a table's rules and tints; return the ink its first row can be read in."""
    chance, pen = at.chance, at.sheet.pen
    ink = at.sheet.tone(mixed(at.ink, at.book.paper, chance.choice((0, 0.3, 0.6))))
    look, (left, right) = chance.choice(("grid", "rules", "stripes", "bare", "dark head")), (edges[0], edges[-1])
    if look == "stripes":
        tint = at.sheet.tone(mixed(at.book.paper, at.ink, 0.09))
        for top, bottom in zip(levels[1:-1:2], levels[2::2], strict=False):
            pen.rectangle((left, top, right, bottom), fill=tint)
    ruled = {"grid": levels, "rules": [levels[0], levels[1], levels[-1]], "dark head": levels[1:]}.get(look, [])
    for level in ruled:
        pen.line((left, level, right, level), fill=ink)
    if look == "grid":
        for edge in edges:
            pen.line((edge, levels[0], edge, levels[-1]), fill=ink)
    if look != "dark head":
        return at.ink
    ground = mixed(vivid(chance), BLACK, 0.5)
    pen.rectangle((left, levels[0], right, levels[1]), fill=at.sheet.tone(ground))
    return readable_on(ground, WHITE)


def _row(
    at: Place, face: Face, edges: list[float], rows: list[float], numbers: list[bool], right: list[bool], ink: Ink
) -> None:
    """Fill one row: ``numbers`` are the columns of made-up data, ``right`` those set against the right edge."""
    pad, texts, x = 0.35 * face.size, [], []
    for column, (start, stop) in enumerate(pairwise(edges)):
        text = at.passages.datum() if numbers[column] else at.passages.phrase(at.chance.randint(1, 3))
        texts.append(fit(face, "-" if at.chance.random() < 0.03 else text, stop - start - 2 * pad))
        x.append(stop - pad if right[column] else start + pad)
    aligns: list[Align] = ["right" if flag else "left" for flag in right]
    baseline = (rows[0] + rows[1] + 0.7 * face.size) / 2
    at.sheet.labels(texts, face, x, [baseline] * len(texts), align=aligns, ink=ink)


def contents(at: Place) -> None:
    """Lines that end in page numbers: a table of contents with dots, or a back-of-book index."""
    leading = at.size * at.chance.uniform(1.25, 1.6)
    n_lines = min(at.chance.randint(6, 40), int(at.room // leading))
    if n_lines < 1 or at.width < 12 * at.size:
        at.y = at.bottom
        return
    baselines = [at.y + at.size + line * leading for line in range(n_lines)]
    if at.chance.random() < 0.4:
        _index(at, baselines)
    else:
        _chapters(at, baselines)
    at.y += n_lines * leading
    at.gap(0.5)


def _index(at: Place, baselines: list[float]) -> None:
    """Terms, each with the pages it is on."""
    chance, face = at.chance, at.book.face()
    insets = [at.size * chance.choice((0, 0, 1)) for _ in baselines]
    texts = []
    for inset in insets:
        pages = ", ".join(str(chance.randint(1, 500)) for _ in range(chance.choice((1, 1, 1, 2, 3))))
        term = at.passages.phrase(chance.randint(1, 3)).rstrip(".,;:")
        texts.append(fit(face, f"{term}, {pages}", at.width - inset))
    at.sheet.labels(texts, face, [at.left + inset for inset in insets], baselines, ink=at.ink)


def _chapters(at: Place, baselines: list[float]) -> None:
    """Numbered titles, dots or nothing, page numbers at the right."""
    chance, face = at.chance, at.book.face()
    dots = chance.choice(("words", "drawn", "none"))
    page, chapter, section = chance.randint(1, 40), at.number, 0
    titles, leaders, pages, insets = [], [], [], []
    for line in range(len(baselines)):
        below = line > 0 and chance.random() < 0.7
        chapter, section = (chapter, section + 1) if below else (chapter + 1, 0)
        page += chance.randint(0, 6)
        inset = 1.5 * at.size if below else 0.0
        number = f"{chapter}.{section}" if below else str(chapter)
        title = fit(face, f"{number} {at.passages.heading()}", at.width - inset - 4 * at.size)
        room = at.width - inset - face.width(title) - face.width(str(page)) - 0.8 * at.size
        leaders.append("." * int(room / face.width(".")) if dots == "words" else "")
        if dots == "drawn":
            _dots(at, at.left + inset + face.width(title) + 0.4 * at.size, room, baselines[line])
        titles.append(title)
        pages.append(str(page))
        insets.append(at.left + inset)
    texts = [text for line in zip(titles, leaders, pages, strict=True) for text in line]
    x = [place for left, number in zip(insets, pages, strict=True)
         for place in (left, at.right - face.width(number) - 0.4 * at.size, at.right)]  # fmt: skip
    aligns: list[Align] = ["left", "right", "right"]
    at.sheet.labels(texts, face, x, np.repeat(baselines, 3).tolist(), align=aligns * len(baselines), ink=at.ink)


def _dots(at: Place, start: float, room: float, y: float) -> None:
    """Dots that are no words."""
    for dot in range(int(start), int(start + room), max(3, int(0.4 * at.size))):
        at.sheet.pen.point((dot, y), fill=at.sheet.tone(at.ink))
