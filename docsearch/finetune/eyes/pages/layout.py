"""Pages put together: which parts, in which columns, between which headers and footers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from docsearch.finetune.eyes.pages import blocks, figures, forms, tables
from docsearch.finetune.eyes.pages.blocks import Place, fit
from docsearch.finetune.eyes.pages.book import Book, mixed, readable_on
from docsearch.finetune.eyes.pages.passages import Passages
from docsearch.finetune.eyes.pages.typeset import Align, Sheet

Part = Callable[[Place], None]
KINDS: dict[str, float] = {"text": 46, "manual": 22, "tables": 8, "form": 8, "contents": 5, "slide": 5, "letter": 6}
PARTS: dict[str, dict[Part, float]] = {
    "text": {
        blocks.prose: 100, blocks.heading: 9, blocks.items: 3, figures.picture: 3, figures.formula: 6, figures.chart: 3,
        tables.table: 3, blocks.boxed: 2, figures.gap: 1,
    },
    "manual": {
        blocks.prose: 60, blocks.heading: 14, blocks.items: 14, blocks.program: 18, blocks.boxed: 7, tables.table: 5,
        figures.picture: 2, figures.rule: 2, figures.formula: 2,
    },
    "tables": {
        tables.table: 30, blocks.heading: 12, blocks.prose: 14, figures.chart: 18, figures.rule: 2, figures.gap: 2,
    },
    "form": {
        forms.form: 40, blocks.heading: 14, blocks.prose: 8, figures.rule: 8, blocks.short_lines: 6, blocks.boxed: 4,
        tables.table: 6,
    },
    "contents": {tables.contents: 50, blocks.heading: 6},
    "slide": {
        blocks.items: 40, blocks.short_lines: 8, figures.chart: 12, figures.picture: 10, blocks.prose: 6,
        blocks.boxed: 8, blocks.program: 6, figures.formula: 5,
    },
    "letter": {
        blocks.prose: 40, blocks.short_lines: 14, figures.gap: 8, tables.table: 6, blocks.items: 4, figures.rule: 2,
    },
}  # fmt: skip
SMALL = 30  # sizes: a page less high is a piece out of one, without header and footer


def lines_only(sheet: Sheet, book: Book, passages: Passages, chance: Random) -> str:
    """Styles "line" and "fonts": paragraphs of plain text from top to bottom."""
    margin = min(sheet.width, sheet.height) * chance.uniform(0.03, 0.1)
    y, bottom = margin, sheet.height - margin
    manner = book.manner()
    while bottom - y > 1.3 * book.size:
        y, _ = sheet.paragraph(passages.paragraph(), manner, (margin, y, sheet.width - margin, bottom))
        y += 0.5 * book.size
    return "lines"


def full(sheet: Sheet, book: Book, passages: Passages, chance: Random) -> str:
    """Style "full": any kind of page; the kind's name is returned."""
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    small = sheet.height < SMALL * book.size
    side = sheet.width * (chance.uniform(0.01, 0.06) if small else chance.uniform(0.04, 0.14))
    edge = sheet.height * (chance.uniform(0.01, 0.06) if small else chance.uniform(0.04, 0.12))
    ink = readable_on(book.paper, book.ink)
    whole = Place(
        sheet, book, passages, chance, side, sheet.width - side, edge, sheet.height - edge, ink, chance.randint(1, 9)
    )
    if not small:
        _edges(whole)
    n_columns = 1 if kind in {"slide", "letter", "form", "tables"} else book.columns
    n_columns = max(1, min(n_columns, int(whole.width // (17 * book.size))))
    if (chance.random() < 0.2 and not small) or kind == "slide":
        _title(whole, kind)
    gutter = chance.uniform(1.2, 2.5) * book.size
    width = (whole.width - (n_columns - 1) * gutter) / n_columns
    top = whole.y
    parts, weights = list(PARTS[kind]), list(PARTS[kind].values())
    lined = chance.random() < 0.2
    for column in range(n_columns):
        left = whole.left + column * (width + gutter)
        at = Place(sheet, book, passages, chance, left, left + width, top, whole.bottom, ink, whole.number)
        if lined and column:
            sheet.pen.line(
                (left - gutter / 2, top, left - gutter / 2, whole.bottom), fill=sheet.tone(mixed(ink, book.paper, 0.5))
            )
        stop = top + (at.bottom - top) * (chance.uniform(0.2, 1) if not small and chance.random() < 0.15 else 1)
        _fill(at, parts, weights, stop)
        whole.number = at.number
    return kind


def _fill(at: Place, parts: list[Part], weights: list[float], stop: float) -> None:
    """Set one part after another, until the column is full or ``stop`` is reached."""
    for _ in range(200):
        if at.y >= stop or at.room < 1.3 * at.size:
            return
        before = at.y
        part = at.chance.choices(parts, weights)[0]
        part(at)
        if at.y <= before:  # no room for that one
            weights = [weight * (other is not part) for other, weight in zip(parts, weights, strict=True)]
            if not any(weights):
                return


def _edges(at: Place) -> None:
    """Header and footer, rules beside them, and a page number; the column is what lies between."""
    chance, sheet = at.chance, at.sheet
    face = at.book.face(scale=0.85, italic=chance.random() < 0.2)
    number = (
        str(chance.randint(1, 999)) if chance.random() < 0.85 else chance.choice(("iv", "xii", "A-3", "2/7", "- 5 -"))
    )
    header, footer = chance.random() < 0.6, chance.random() < 0.6
    tone = sheet.tone(mixed(at.ink, at.book.paper, 0.3))
    if header:
        y = at.y + face.size
        running = fit(face, at.passages.heading(), 0.7 * at.width)
        ends: list[tuple[str, float, Align]] = [(running, at.left, "left")]
        if not footer:
            ends.append((number, at.right, "right"))
        if chance.random() < 0.5:
            ends = [(text, at.left + at.right - x, "right" if align == "left" else "left") for text, x, align in ends]
        texts, x, aligns = (list(column) for column in zip(*ends, strict=True))
        sheet.labels(texts, face, x, [y] * len(ends), align=aligns, ink=at.ink)
        if chance.random() < 0.5:
            sheet.pen.line((at.left, y + 0.5 * face.size, at.right, y + 0.5 * face.size), fill=tone)
        at.y = y + 1.2 * face.size
    if footer:
        y = at.bottom
        places: list[tuple[Align, float]] = [
            ("center", (at.left + at.right) / 2), ("right", at.right), ("left", at.left),
        ]  # fmt: skip
        side, place = chance.choice(places)
        at.bottom -= 2.2 * face.size
        if chance.random() < 0.3:
            sheet.pen.line((at.left, y - 1.3 * face.size, at.right, y - 1.3 * face.size), fill=tone)
        sheet.later(lambda: sheet.labels([number], face, [place], [y], align=side, ink=at.ink))  # it is read last


def _title(at: Place, kind: str) -> None:
    """A large title over all columns, on a band of colour or not, perhaps with a line of names below."""
    chance, book, sheet = at.chance, at.book, at.sheet
    face = book.title_face(chance.choice((1.8, 2.2, 2.8) if kind != "slide" else (1.4, 1.8)))
    text, ink = at.passages.heading(), book.accent
    banded = chance.random() < (0.5 if kind == "slide" else 0.15)
    if banded:
        at.y += 0.5 * face.size
        band = (0, at.y - 0.4 * face.size, sheet.width, at.y + 1.6 * face.size)
        sheet.pen.rectangle(band, fill=sheet.tone(book.accent))
        ink, text = readable_on(book.accent, book.paper), fit(face, text, at.width)
    align: Align = "center" if book.centred or chance.random() < 0.4 else "left"
    manner = book.manner(face=face, align=align, leading=1.15, ink=ink, hyphens=False, tracking=0.0)
    at.y, _ = sheet.paragraph(text, manner, (at.left, at.y, at.right, min(at.bottom, at.y + 4 * face.size)))
    at.y += 0.6 * face.size if banded else 0.0
    at.gap(1)
    if chance.random() < 0.5 and kind != "slide":
        blocks.short_lines(at)
