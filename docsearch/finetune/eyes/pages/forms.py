"""Forms: labels with boxes or lines, some of them filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from docsearch.finetune.eyes.pages.blocks import Place, fit
from docsearch.finetune.eyes.pages.book import mixed, readable_on
from docsearch.finetune.eyes.pages.fonts import codepoints
from docsearch.finetune.eyes.pages.glyphs import Face
from docsearch.finetune.eyes.pages.typeset import WHITE, Ink

Box = tuple[float, float, float, float]
BLUE: Ink = (20, 30, 120)  # of a pen


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """How the fields of one form look."""

    label: Face
    value: Face
    above: bool  # labels stand above their fields, not beside them
    framed: bool  # a field is a box, not a line
    ground: Ink  # of the fields
    ink: Ink  # of what is filled in
    rule: Ink


def form(at: Place) -> None:
    """Rows of fields, some filled in by typewriter, in bold or in blue; squares to tick; boxes for single letters."""
    chance, book = at.chance, at.book
    ground = mixed(book.paper, WHITE, 0.3)
    values = (book.code_face(), book.face(bold=True), book.face(italic=True), book.face())
    look = _Look(
        book.face(scale=0.85), chance.choice(values), chance.random() < 0.5, chance.random() < 0.6, ground,
        readable_on(ground, BLUE if chance.random() < 0.3 else at.ink),
        mixed(at.ink, book.paper, chance.choice((0, 0.4))),
    )  # fmt: skip
    n_fields = chance.choice((1, 1, 2, 3)) if at.width > 25 * at.size else 1
    height, width = at.size * (2.7 if look.above else 1.9), at.width / n_fields
    for _ in range(chance.randint(2, 7)):
        if at.room < height:
            break
        if chance.random() < 0.2:
            _ticks(at, look.label)
            continue
        for field in range(n_fields):
            left = at.left + field * width
            _field(at, look, (left, at.y, left + width - 0.6 * at.size, at.y + height))
        at.y += height
        at.gap(chance.uniform(0.1, 0.5))
    at.gap(0.5)


def _field(at: Place, look: _Look, box: Box) -> None:
    """A label and what belongs to it."""
    chance, (left, top, right, bottom) = at.chance, box
    name = at.passages.phrase(chance.randint(1, 3)).rstrip(".,;:") + chance.choice((":", ""))
    name = fit(look.label, name, (right - left) * (1 if look.above else 0.5))
    at.sheet.labels([name], look.label, [left], [top + (0.9 if look.above else 1.3) * at.size], ink=at.ink)
    start = left if look.above else left + look.label.width(name) + 0.5 * at.size
    inner = (start, top + (1.1 if look.above else 0.2) * at.size, right, bottom - 0.1 * at.size)
    text = at.passages.datum() if chance.random() < 0.6 else at.passages.phrase(2)
    text = fit(look.value, text, right - start - at.size)
    if chance.random() < 0.1 and right - start > 6 * at.size:
        _comb(at, look.value, text, inner, look.ink)
        return
    if look.framed:
        at.sheet.pen.rectangle(inner, outline=at.sheet.tone(look.rule), fill=at.sheet.tone(look.ground))
    else:
        at.sheet.pen.line((start, inner[3], right, inner[3]), fill=at.sheet.tone(look.rule))
    if text and chance.random() < 0.75:
        ink = look.ink if look.framed else readable_on(at.book.paper, look.ink)
        at.sheet.labels([text], look.value, [start + 0.4 * at.size], [inner[3] - 0.45 * at.size], ink=ink)


def _ticks(at: Place, face: Face) -> None:
    """A row of squares, some ticked."""
    x, side, pen = at.left, 0.8 * at.size, at.sheet.pen
    ink = at.sheet.tone(at.ink)
    for _ in range(at.chance.randint(2, 4)):
        name = fit(face, at.passages.phrase(at.chance.randint(1, 3)), at.right - x - 1.4 * at.size)
        if x + 3 * at.size > at.right or not name:
            break
        box = (x, at.y + 0.4 * at.size, x + side, at.y + 0.4 * at.size + side)
        pen.rectangle(box, outline=ink)
        if at.chance.random() < 0.4:
            pen.line(box, fill=ink, width=2)
            pen.line((box[0], box[3], box[2], box[1]), fill=ink, width=2)
        width = at.sheet.labels([name], face, [x + 1.3 * at.size], [at.y + 1.15 * at.size], ink=at.ink)[0]
        x += 2.3 * at.size + width
    at.gap(1.7)


def _comb(at: Place, face: Face, text: str, box: Box, ink: Ink) -> None:
    """A box for every letter: what stands in them is one word."""
    left, top, right, bottom = box
    pitch = 1.3 * at.size
    n_cells = int((right - left) // pitch)
    text = "".join(text.split())[:n_cells]
    tone = at.sheet.tone(mixed(at.ink, at.book.paper, 0.4))
    for cell in range(n_cells):
        at.sheet.pen.rectangle((left + cell * pitch, top, left + (cell + 1) * pitch, bottom), outline=tone)
    if text:
        codes = codepoints(text)
        glyphs = face.glyphs(codes)
        x = left + (np.arange(len(codes)) + 0.5) * pitch - face.advance[glyphs] / 2
        y = np.full(len(codes), round(bottom - 0.4 * at.size), np.int64)
        fresh = np.arange(len(codes)) == 0
        at.sheet.place(codes, glyphs, x, y, fresh, np.zeros(len(codes), np.int8), [(face, ink)])
