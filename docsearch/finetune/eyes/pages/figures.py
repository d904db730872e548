"""The parts of a page that are mostly not words: charts with their labels, formulas, pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image

from docsearch.finetune.eyes.pages.blocks import Place, caption, fit
from docsearch.finetune.eyes.pages.book import mixed, vivid
from docsearch.finetune.eyes.pages.fonts import codepoints
from docsearch.finetune.eyes.pages.glyphs import Face
from docsearch.finetune.eyes.pages.typeset import WHITE, Ink

GREEK = "αβγδεζηθκλμνξπρστφχψωΓΔΘΛΣΦΨΩ"
RELATIONS = ("=", "=", "=", "≈", "≤", "≥", "<", ">", "→", "∈", "≠")
MINUS = "\u2212"
OPERATORS = ("+", MINUS, "·", "\u00d7", "-", "/", "±")
FUNCTIONS = ("sin", "cos", "log", "exp", "max", "min", "lim", "det", "ln", "tan")


def chart(at: Place) -> None:
    """Bars, lines, points or a pie, with ticks, names, a legend and a title."""
    chance, book = at.chance, at.book
    height = min(at.room - 2.5 * at.size, at.size * chance.uniform(9, 18), at.width * 0.8)
    if height < 7 * at.size or at.width < 14 * at.size:
        at.y = at.bottom if at.room < 10 * at.size else at.y
        return
    face = book.face(scale=chance.choice((0.8, 0.9, 1)))
    if chance.random() < 0.5:
        title = book.face(bold=True)
        text, middle = fit(title, at.passages.heading(), at.width), (at.left + at.right) / 2
        at.sheet.labels([text], title, [middle], [at.y + at.size], align="center", ink=at.ink)
        at.gap(1.5)
    width = at.width * chance.uniform(0.6, 1)
    box = (at.left, at.y, at.left + width, min(at.bottom - 2 * at.size, at.y + height))
    inks = [mixed(vivid(chance), at.ink, chance.choice((0, 0.3, 0.6))) for _ in range(4)]
    if chance.random() < 0.25:
        _pie(at, face, box, inks)
    else:
        _axes(at, face, box, inks)
    at.y = box[3]
    at.gap(0.5)
    if chance.random() < 0.5 and at.room > 2 * at.size:
        caption(at, "Figure")


def _axes(at: Place, face: Face, box: tuple[float, float, float, float], inks: list[Ink]) -> None:
    """Data over an axis of names, numbers up the side."""
    chance, sheet, size = at.chance, at.sheet, face.size
    low, high = 0.0, chance.choice((1, 5, 10, 50, 100, 250, 1000, 5000))
    n_ticks = chance.randint(3, 6)
    ticks = [f"{high * tick / (n_ticks - 1):.{1 if high < 10 else 0}f}" for tick in range(n_ticks)]
    left, right = box[0] + max(face.width(tick) for tick in ticks) + 0.8 * size, box[2]
    top, bottom = box[1] + 0.5 * size, box[3] - 1.6 * size
    line_ink, light = sheet.tone(at.ink), sheet.tone(mixed(at.ink, at.book.paper, 0.75))
    levels = [bottom - (bottom - top) * tick / (n_ticks - 1) for tick in range(n_ticks)]
    if chance.random() < 0.6:
        for level in levels:
            sheet.pen.line((left, level, right, level), fill=light)
    sheet.labels(
        ticks, face, [left - 0.4 * size] * n_ticks, [level + 0.35 * size for level in levels], align="right", ink=at.ink
    )
    n_groups = max(2, min(chance.randint(3, 9), int((right - left) / (4 * size))))
    n_series = chance.randint(1, 3)
    step = (right - left) / n_groups
    values = np.array([[chance.uniform(low, high) for _ in range(n_groups)] for _ in range(n_series)])
    kind = chance.choice(("bars", "bars", "lines", "points"))
    heights = bottom - values / high * (bottom - top)
    for series in range(n_series):
        ink = sheet.tone(inks[series])
        middles = [left + (group + 0.5) * step for group in range(n_groups)]
        if kind == "lines":
            sheet.pen.line(
                list(zip(middles, heights[series].tolist(), strict=True)), fill=ink, width=chance.randint(1, 3)
            )
        for group, middle in enumerate(middles):
            y = float(heights[series, group])
            if kind == "bars":
                bar = 0.7 * step / n_series
                start = middle - 0.35 * step + series * bar
                sheet.pen.rectangle((start, y, start + max(1, bar - 1), bottom), fill=ink)
            else:
                sheet.pen.ellipse((middle - 2, y - 2, middle + 2, y + 2), fill=ink)
    sheet.pen.line((left, top, left, bottom), fill=line_ink)
    sheet.pen.line((left, bottom, right, bottom), fill=line_ink)
    years = chance.randint(1960, 2020) if chance.random() < 0.4 else 0
    names = [str(years + group) if years else at.passages.phrase(1) for group in range(n_groups)]
    sheet.labels([fit(face, name, step - 0.3 * size) for name in names], face,
                 [left + (group + 0.5) * step for group in range(n_groups)], [bottom + 1.2 * size] * n_groups,
                 align="center", ink=at.ink)  # fmt: skip
    if kind == "bars" and n_series == 1 and chance.random() < 0.5:
        shown = [f"{value:.{1 if high < 10 else 0}f}" for value in values[0]]
        sheet.labels([text if face.width(text) < step else "" for text in shown], face,
                     [left + (group + 0.5) * step for group in range(n_groups)], (heights[0] - 0.25 * size).tolist(),
                     align="center", ink=at.ink)  # fmt: skip
    if n_series > 1:
        legend(
            at,
            face,
            (at.right - 7 * size, box[1]) if at.right - box[2] > 7 * size else (left + size, top),
            inks[:n_series],
        )


def _pie(at: Place, face: Face, box: tuple[float, float, float, float], inks: list[Ink]) -> None:
    """Slices, with what they stand for beside them."""
    side = min(box[2] - box[0], box[3] - box[1]) - face.size
    circle = (box[0], box[1] + 0.5 * face.size, box[0] + side, box[1] + 0.5 * face.size + side)
    angle = at.chance.uniform(0, 360)
    parts = [at.chance.uniform(0.3, 1) for _ in inks]
    for part, ink in zip(parts, inks, strict=True):
        sweep = 360 * part / sum(parts)
        at.sheet.pen.pieslice(
            circle, angle, angle + sweep, fill=at.sheet.tone(ink), outline=at.sheet.tone(at.book.paper)
        )
        angle += sweep
    if at.right - circle[2] > 5 * face.size:
        legend(
            at,
            face,
            (circle[2] + face.size, circle[1] + face.size),
            inks,
            [f"{100 * part / sum(parts):.0f} %" for part in parts],
        )


def legend(at: Place, face: Face, corner: tuple[float, float], inks: list[Ink], notes: list[str] | None = None) -> None:
    """A square and a name for each ink."""
    x, y = corner
    ground = at.sheet.tone(at.book.paper)
    texts = [
        f"{at.passages.phrase(at.chance.randint(1, 2))} {notes[number] if notes else ''}".strip()
        for number in range(len(inks))
    ]
    texts = [fit(face, text, at.right - x - 1.4 * face.size) for text in texts]
    widest = max(face.width(text) for text in texts)
    at.sheet.pen.rectangle((x - 2, y - 2, x + 1.5 * face.size + widest, y + 1.35 * face.size * len(inks)), fill=ground)
    for number, ink in enumerate(inks):
        top = y + 1.35 * face.size * number
        at.sheet.pen.rectangle(
            (x, top + 0.2 * face.size, x + 0.8 * face.size, top + face.size), fill=at.sheet.tone(ink)
        )
    at.sheet.labels(texts, face, [x + 1.3 * face.size] * len(inks),
                    [y + (1.35 * number + 0.95) * face.size for number in range(len(inks))], ink=at.ink)  # fmt: skip


class _Formula:
    """Characters of a formula as they are set, from left to right."""

    def __init__(self, at: Place, x: float, baseline: float) -> None:
        self.at, self.x, self.baseline = at, x, baseline
        self.upright, self.slanted = at.book.face(), at.book.face(italic=True)
        self.small, self.small_slanted = at.book.face(scale=0.7), at.book.face(scale=0.7, italic=True)
        self.placed: list[tuple[str, Face, float, float, bool]] = []
        greek = [char for char in GREEK if self.slanted.font.covers(char)]
        self.letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHKLMNPQRSTUVXYZ" + "".join(greek) * 2

    def put(self, text: str, face: Face, rise: float = 0.0, *, fresh: bool = False) -> None:
        """Set characters on a line raised by ``rise`` sizes; ``fresh`` begins a new word."""
        for char in text:
            if face.font.covers(char):
                self.placed.append((char, face, self.x, self.baseline - rise * self.upright.size, fresh))
                self.x += face.width(char)
                fresh = False

    def atom(self, *, fresh: bool) -> None:
        """A letter or number, with what stands above and below it, or a function of one, or a fraction."""
        chance = self.at.chance
        kind = chance.random()
        if kind < 0.12:
            self.fraction()
        elif kind < 0.25:
            self.put(str(chance.randint(0, 100)), self.upright, fresh=fresh)
        elif kind < 0.35:
            self.put(chance.choice(FUNCTIONS), self.upright, fresh=fresh)
            self.put("(", self.upright)
            self.put(chance.choice(self.letters), self.slanted)
            self.put(")", self.upright)
        elif kind < 0.42 and self.upright.font.covers("∑∫"):
            self.put(chance.choice("∑∫∏∂∇"), self.upright, fresh=fresh)
            self.put(chance.choice("ijkn") + "=" + chance.choice("01"), self.small, -0.35)
            self.put(chance.choice(self.letters), self.slanted, fresh=True)
        else:
            self.put(chance.choice(self.letters), self.slanted, fresh=fresh)
            start = self.x
            if chance.random() < 0.35:
                self.put(chance.choice(("i", "j", "0", "1", "ij", "n", "max", "k+1")), self.small_slanted, -0.2)
            below, self.x = self.x, start
            if chance.random() < 0.35:
                self.put(chance.choice(("2", "3", "n", f"{MINUS}1", "T", "k", "2n", "*")), self.small, 0.38)
            self.x = max(self.x, below)

    def fraction(self) -> None:
        """One short expression over another."""
        chance, size, start = self.at.chance, self.upright.size, self.x
        ends = []
        for rise in (0.55, -0.55):
            self.x = start
            self.put(chance.choice(self.letters), self.small_slanted, rise, fresh=True)
            for _ in range(chance.randint(0, 2)):
                self.put(chance.choice(f"+{MINUS}"), self.small, rise)
                self.put(chance.choice(self.letters + "12345"), self.small_slanted, rise)
            ends.append(self.x)
        self.x = max(ends)
        y = self.baseline - 0.28 * size
        self.at.sheet.pen.line((start - 1, y, self.x, y), fill=self.at.sheet.tone(self.at.ink))
        self.x += 0.1 * size

    def draw(self, shift: float) -> None:
        """Hand what was set to the sheet."""
        faces = list(dict.fromkeys(face for _, face, _, _, _ in self.placed))
        which = np.array([faces.index(face) for _, face, _, _, _ in self.placed], np.int8)
        codes = codepoints("".join(char for char, _, _, _, _ in self.placed))
        glyphs = np.empty(len(codes), np.int32)
        for number, face in enumerate(faces):
            glyphs[which == number] = face.glyphs(codes[which == number])
        x = np.array([x for _, _, x, _, _ in self.placed]) + shift
        y = np.round([y for _, _, _, y, _ in self.placed]).astype(np.int64)
        fresh = np.array([fresh for _, _, _, _, fresh in self.placed])
        fresh[0] = True
        self.at.sheet.place(codes, glyphs, x, y, fresh, which, [(face, self.at.ink) for face in faces])


def formula(at: Place) -> None:
    """One to three displayed formulas, perhaps numbered."""
    chance, size = at.chance, at.size
    for _ in range(chance.randint(1, 3)):
        if at.room < 3.2 * size or at.width < 12 * size:
            break
        made = _Formula(at, at.left + at.size * chance.uniform(0, 3), at.y + 1.8 * size)
        limit = at.right - 4 * size
        made.atom(fresh=True)
        for number in range(chance.randint(2, 9)):
            if made.x > limit - 4 * size:
                break
            made.x += 0.22 * size
            made.put(chance.choice(RELATIONS if number % 3 == 0 else OPERATORS), made.upright, fresh=True)
            made.x += 0.22 * size
            made.atom(fresh=True)
        if made.placed:
            made.draw(0.0)
        if chance.random() < 0.5:
            name = f"({chance.randint(1, 9)}.{at.number})"
            at.sheet.labels([name], made.upright, [at.right], [made.baseline], align="right", ink=at.ink)
            at.number += 1
        at.gap(3.1)
    else:
        at.gap(0.3)
        return
    at.y = at.bottom if at.room < 3.2 * size else at.y


def picture(at: Place) -> None:
    """Something like a photograph or a drawing, without words; perhaps a caption."""
    chance = at.chance
    height = min(at.room - 2 * at.size, at.width * chance.uniform(0.3, 0.8))
    if height < 4 * at.size:
        at.y = at.bottom
        return
    width = at.width * chance.choice((1, 1, 0.7, 0.5))
    drawn = texture(int(height), int(width), np.random.default_rng(chance.getrandbits(32)))
    left = at.left + (at.width - width) / 2
    at.sheet.paste(drawn, int(left), int(at.y))
    if chance.random() < 0.3:
        pen, tone = at.sheet.pen, at.sheet.tone(at.ink)
        for _ in range(chance.randint(3, 15)):
            x, y = left + chance.random() * width * 0.8, at.y + chance.random() * height * 0.8
            corner = (x, y, x + chance.random() * width * 0.2, y + chance.random() * height * 0.2)
            chance.choice((pen.line, pen.ellipse, pen.rectangle))(corner, tone if chance.random() < 0.5 else None)
    at.y += height
    at.gap(0.4)
    if chance.random() < 0.6 and at.room > 1.5 * at.size:
        caption(at, "Figure")


def texture(height: int, width: int, chance: np.random.Generator) -> Image.Image:
    """Smooth spots of several sizes in colours that shade into one another, with some grain."""
    total = np.zeros((height, width, 3), np.uint16)
    for cells, weight in ((3, 5), (8, 3), (24, 2)):
        spots = Image.fromarray(chance.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(spots.resize((width, height), Image.Resampling.BILINEAR)) * np.uint16(weight)
    grain = chance.integers(-12, 12, (height, width, 1), np.int16)
    contrast, light = chance.integers(10, 26), chance.integers(-60, 60)
    pixels = (total.astype(np.int32) * contrast // 160) + grain + light
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def gap(at: Place) -> None:
    """Nothing, for a while."""
    at.gap(at.chance.uniform(2, 10))


def rule(at: Place) -> None:
    """A line across."""
    at.gap(0.5)
    ink = mixed(at.ink, WHITE, 0.4) if at.chance.random() < 0.3 else at.book.accent
    at.sheet.pen.line((at.left, at.y, at.right, at.y), fill=at.sheet.tone(ink), width=at.chance.randint(1, 2))
    at.gap(0.7)
