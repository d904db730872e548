"""The parts of a page that are words in a row: headings, paragraphs, lists, programs, captions; and where they go."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from docsearch.finetune.eyes.pages.book import Book, mixed, readable_on, vivid
from docsearch.finetune.eyes.pages.fonts import codepoints
from docsearch.finetune.eyes.pages.glyphs import Face
from docsearch.finetune.eyes.pages.passages import Passages
from docsearch.finetune.eyes.pages.typeset import BLACK, WHITE, Align, Ink, Sheet

BULLETS = ("•", "\u2013", "-", "*", "▪", "◦", "►", "○", "■", "→")


@dataclass(slots=True, eq=False)
class Place:
    """Where the next part goes, and what it is made with: a column from ``y`` down to ``bottom``, px."""

    sheet: Sheet
    book: Book
    passages: Passages
    chance: Random
    left: float
    right: float
    y: float
    bottom: float
    ink: Ink = BLACK
    number: int = 1  # of the next section, figure, table, equation

    @property
    def width(self) -> float:
        """Of the column."""
        return self.right - self.left

    @property
    def room(self) -> float:
        """What is left of the column's height."""
        return self.bottom - self.y

    @property
    def size(self) -> float:
        """Of the body text."""
        return self.book.size

    def gap(self, sizes: float) -> None:
        """Leave room, counted in the body's size."""
        self.y += sizes * self.size


def fit(face: Face, text: str, width: float) -> str:
    """As much of a text as goes into a width: whole words, or characters where not even one fits."""
    text = "".join(char for char in text if char == " " or face.font.has[min(ord(char), 0xFFFF)])
    if not text:
        return ""
    ends = np.cumsum(face.advances(codepoints(text)))
    n_fit = int(np.searchsorted(ends, width, side="right"))
    if n_fit >= len(text):
        return text
    space = text.rfind(" ", 0, n_fit + 1)
    return text[: space if space > 0 else n_fit].rstrip()


def heading(at: Place) -> None:
    """A heading, numbered or not, perhaps with a rule below."""
    chance, book = at.chance, at.book
    face = book.title_face(chance.choice((1.15, 1.4, 1.8)))
    if at.room < 3 * face.size:
        at.y = at.bottom
        return
    text = at.passages.heading()
    if chance.random() < 0.4:
        text = f"{at.number}{_section(chance)} {text}"
        at.number += 1
    if chance.random() < 0.1:
        text = text.upper()
    at.gap(0.5)
    manner = book.manner(
        face=face, align="center" if book.centred else "left", leading=1.2, ink=book.accent, hyphens=False
    )
    at.y, _ = at.sheet.paragraph(text, manner, (at.left, at.y, at.right, min(at.bottom, at.y + 3 * face.size)))
    if chance.random() < 0.15:
        at.sheet.pen.line((at.left, at.y, at.right, at.y), fill=at.sheet.tone(book.accent), width=chance.randint(1, 2))
        at.gap(0.2)
    at.gap(0.3)


def _section(chance: Random) -> str:
    """What follows a chapter's number."""
    minor, least = chance.randint(1, 9), chance.randint(1, 9)
    return chance.choice(("", ".", f".{minor}", f".{minor}.{least}"))


def prose(at: Place) -> None:
    """A paragraph, with words that stand out."""
    chance, book = at.chance, at.book
    text = at.passages.prose()
    accents: dict[int, tuple[Face, Ink]] = {}
    if chance.random() < 0.35:
        n_words = text.count(" ") + 1
        for _ in range(chance.randint(1, 3)):
            look = chance.random()
            face = book.face(bold=look < 0.4, italic=0.3 < look < 0.8) if look < 0.88 else book.code_face()
            first = chance.randrange(n_words)
            ink = readable_on(book.paper, mixed(vivid(chance), BLACK, 0.3)) if chance.random() < 0.2 else at.ink
            accents |= dict.fromkeys(range(first, min(n_words, first + chance.randint(1, 5))), (face, ink))
    indent = 1.5 * at.size if book.indented else 0.0
    at.y, _ = at.sheet.paragraph(
        text, book.manner(indent=indent, ink=at.ink), (at.left, at.y, at.right, at.bottom), accents
    )
    at.gap(0.0 if book.indented else chance.uniform(0.3, 0.8))


def items(at: Place) -> None:
    """A list with bullets or numbers."""
    chance, book = at.chance, at.book
    numbered, bullet = chance.random() < 0.4, chance.choice(BULLETS)
    face = book.face()
    bullet = bullet if face.font.covers(bullet) else "-"
    inset = at.size * chance.uniform(1.4, 3)
    outset = at.size * chance.choice((0, 0, 0.8, 2))
    sign = chance.choice(("{}.", "{})", "({})", "[{}]"))
    for number in range(1, chance.randint(3, 8)):
        if at.room < 1.5 * at.size or at.width - outset - inset < 4 * at.size:
            break
        text = at.passages.paragraph()[: chance.randint(40, 260)]
        text = text[: text.rfind(" ")] if " " in text[20:] else text
        mark = sign.format(number) if numbered else bullet
        at.sheet.labels([mark], face, [at.left + outset], [at.y + at.size], ink=at.ink)
        box = (at.left + outset + max(inset, face.width(mark) + 0.4 * at.size), at.y, at.right, at.bottom)
        at.y, _ = at.sheet.paragraph(text, book.manner(align="left", hyphens=False, ink=at.ink), box)
        at.gap(0.15)
    at.gap(0.5)


def program(at: Place) -> None:
    """Lines of code, on a tinted ground, in a frame, or bare; perhaps with line numbers."""
    chance, book, sheet = at.chance, at.book, at.sheet
    face = book.code_face()
    leading = 1.25 * face.size
    n_lines = min(chance.randint(2, 14), int((at.room - at.size) // leading))
    if n_lines < 1:
        at.y = at.bottom
        return
    ground, ink = chance.random(), at.ink
    box = (at.left, at.y, at.right, at.y + n_lines * leading + 0.8 * at.size)
    if ground < 0.4:
        tint = mixed(book.paper, vivid(chance), 0.12)
        sheet.pen.rectangle(box, fill=sheet.tone(tint))
        ink = readable_on(tint, ink)
    elif ground < 0.5:
        sheet.pen.rectangle(box, fill=sheet.tone((30, 30, 35)))
        ink = (230, 230, 225)
    elif ground < 0.7:
        sheet.pen.rectangle(box, outline=sheet.tone(book.accent))
    left = at.left + 0.6 * at.size
    step, depth, pitch = chance.choice((2, 4, 4, 8)), 0, face.width("n")
    baselines = at.y + 0.4 * at.size + face.size + leading * np.arange(n_lines)
    if chance.random() < 0.15:
        numbers, faint = [str(line + 1) for line in range(n_lines)], mixed(ink, (128, 128, 128), 0.6)
        sheet.labels(numbers, face, [left + 2 * pitch] * n_lines, baselines.tolist(), align="right", ink=faint)
        left += 3 * pitch
    lines, starts = [], []
    for _ in range(n_lines):
        start = left + depth * step * pitch
        line = fit(face, at.passages.code(), at.right - start)
        lines.append(line)
        starts.append(start)
        depth = min(3, depth + 1) if line.endswith(("{", ":")) else max(0, depth - (chance.random() < 0.3))
    sheet.labels(lines, face, starts, baselines.tolist(), ink=ink)
    at.y = box[3]
    at.gap(0.7)


def boxed(at: Place) -> None:
    """A paragraph on a ground of its own, framed or beside a bar; sometimes light on dark."""
    chance, book, sheet = at.chance, at.book, at.sheet
    pad = at.size * chance.uniform(0.5, 1)
    text = at.passages.prose()[:600]
    manner = book.manner(ink=at.ink)
    per_line = max(1.0, (at.width - 2 * pad) / (0.5 * at.size if text.isascii() else 0.55 * at.size))
    n_lines = int(len(text) / (per_line if " " in text[:40] else per_line / 2)) + 2
    height = min(at.room, n_lines * manner.leading * at.size + 2 * pad)
    if height < 2 * at.size + 2 * pad or at.width < 8 * at.size:
        return prose(at)
    box, look, ink = (at.left, at.y, at.right, at.y + height), chance.random(), at.ink
    if look < 0.25:
        ground = mixed(vivid(chance), BLACK, chance.uniform(0.4, 0.9))
        sheet.pen.rectangle(box, fill=sheet.tone(ground))
        ink = readable_on(ground, WHITE)
    elif look < 0.7:
        ground = mixed(book.paper, vivid(chance), chance.uniform(0.05, 0.3))
        sheet.pen.rectangle(box, fill=sheet.tone(ground))
        ink = readable_on(ground, at.ink)
    elif look < 0.85:
        sheet.pen.rectangle(box, outline=sheet.tone(book.accent), width=chance.randint(1, 3))
    else:
        sheet.pen.rectangle((at.left, at.y, at.left + 0.25 * at.size, box[3]), fill=sheet.tone(book.accent))
    sheet.paragraph(text, book.manner(ink=ink), (at.left + pad, at.y + pad, at.right - pad, box[3] - 0.5 * pad))
    at.y = box[3]
    return at.gap(0.7)


def short_lines(at: Place) -> None:
    """A few short lines, as of an address or a poem."""
    chance, face = at.chance, at.book.face()
    n_lines = min(chance.randint(2, 6), int(at.room // (1.3 * at.size)))
    if n_lines < 1:
        at.y = at.bottom
        return
    align: Align = chance.choice(("left", "left", "right", "center"))
    x = {"left": at.left, "right": at.right, "center": (at.left + at.right) / 2}[align]
    texts = [
        at.passages.phrase(chance.randint(1, 4)) if chance.random() < 0.7 else at.passages.datum()
        for _ in range(n_lines)
    ]
    baselines = [at.y + at.size * (1 + 1.25 * line) for line in range(n_lines)]
    at.sheet.labels(
        [fit(face, text, at.width) for text in texts], face, [x] * n_lines, baselines, align=align, ink=at.ink
    )
    at.y = baselines[-1]
    at.gap(1.2)


def caption(at: Place, kind: str) -> None:
    """A numbered line in small type."""
    face = at.book.face(scale=0.85)
    text = f"{kind} {at.number}{at.chance.choice('.:')} {at.passages.phrase(at.chance.randint(3, 14))}"
    at.number += 1
    manner = at.book.manner(face=face, align=at.chance.choice(("left", "center")), ink=at.ink)
    at.y, _ = at.sheet.paragraph(text, manner, (at.left, at.y, at.right, min(at.bottom, at.y + 4 * face.size)))
    at.gap(0.3)
