"""What the pages of one made-up book have in common: language, fonts, sizes, colours, the way text is set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from docsearch.finetune.eyes.pages.fonts import Family
from docsearch.finetune.eyes.pages.glyphs import Face, Faces
from docsearch.finetune.eyes.pages.typeset import BLACK, WHITE, Align, Ink, Manner

SMALLEST, LARGEST = 9.3, 66.6  # px: 7 pt at 96 dpi, 24 pt at 200 dpi
LINE_SIZE = 20.0  # px of style "line": 12 pt at 120 dpi

USUAL_WEIGHT = 4
USUAL = {  # what most documents are set in: Times, Helvetica, Palatino, Computer Modern, what offices and the web use
    "Liberation Serif", "Liberation Sans", "Nimbus Roman", "Nimbus Sans", "TeX Gyre Termes", "TeX Gyre Heros", "P052",
    "TeX Gyre Pagella", "Latin Modern Roman", "Latin Modern Sans", "CMU Serif", "CMU Sans Serif", "DejaVu Sans",
    "DejaVu Serif", "Noto Sans", "Noto Serif", "Open Sans", "Roboto", "Linux Libertine O", "C059",
    "PT Sans", "PT Serif",
    "Noto Sans CJK SC", "Noto Serif CJK SC", "Noto Sans CJK JP", "Noto Serif CJK JP",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Book:
    """A book's looks; ``size`` is that of its body text in px."""

    language: str
    body: Family
    titles: Family
    mono: Family
    faces: Faces
    size: float
    bold: bool = False  # all of the body
    italic: bool = False
    align: Align = "left"
    leading: float = 1.3
    indented: bool = False  # a paragraph begins with an indent, not after a gap
    hyphens: bool = False
    ligatures: bool = False
    tracking: float = 0.0  # px
    columns: int = 1
    ink: Ink = BLACK
    paper: Ink = WHITE
    accent: Ink = BLACK  # of headings, rules, links
    centred: bool = False  # headings

    def face(self, *, scale: float = 1.0, bold: bool = False, italic: bool = False) -> Face:
        """A face of the body's family."""
        return self.faces.get(self.body.face(bold=bold or self.bold, italic=italic or self.italic), self.size * scale)

    def title_face(self, scale: float) -> Face:
        """A face of the headings' family, bold."""
        return self.faces.get(self.titles.face(bold=True), self.size * scale)

    def code_face(self) -> Face:
        """The face of programs: a fixed pitch, a little smaller."""
        return self.faces.get(self.mono.face(), self.size * 0.9)

    def manner(self, **changes: object) -> Manner:
        """How the body is set, with changes."""
        common: dict[str, object] = {
            "face": self.face(), "align": self.align, "leading": self.leading, "ink": self.ink, "hyphens": self.hyphens,
            "ligatures": self.ligatures, "tracking": self.tracking,
        }  # fmt: skip
        return Manner(**{**common, **changes})  # type: ignore[arg-type]


def plain_book(language: str, families: Sequence[Family], faces: Faces) -> Book:
    """Style "line": the first font, one size."""
    family = families[0]
    return Book(language=language, body=family, titles=family, mono=family, faces=faces, size=LINE_SIZE)


def font_book(language: str, families: Sequence[Family], faces: Faces, widest: float, chance: Random) -> Book:
    """Style "fonts": any font and size, nothing else."""
    family = chance.choice(families)
    size = min(SMALLEST * (LARGEST / SMALLEST) ** (chance.random() ** 1.5), widest)
    look = chance.random()
    return Book(language=language, body=family, titles=family, mono=family, faces=faces, size=size, bold=look < 0.15,
                italic=0.1 < look < 0.25, leading=chance.uniform(1.15, 1.6))  # fmt: skip


def full_book(language: str, families: Sequence[Family], faces: Faces, widest: float, chance: Random) -> Book:
    """Style "full": everything varies."""
    fixed = [family for family in families if family.kind == "mono"]
    running = [family for family in families if family.kind != "mono"] or fixed
    weights = [USUAL_WEIGHT if family.name in USUAL else 1 for family in running]
    body = chance.choice(fixed) if fixed and chance.random() < 0.06 else chance.choices(running, weights)[0]
    titles = body if chance.random() < 0.6 else chance.choices(running, weights)[0]
    size = min(9.5 * (32 / 9.5) ** (chance.random() ** 1.4), widest)
    paper, ink = colours(chance)
    justified = chance.random() < 0.5
    accent = readable_on(paper, mixed(ink, vivid(chance), 0.8) if chance.random() < 0.45 else ink)
    return Book(
        language=language, body=body, titles=titles, mono=chance.choice(fixed or running), faces=faces, size=size,
        bold=chance.random() < 0.04, italic=chance.random() < 0.03,
        align="justify" if justified else "left", leading=chance.uniform(1.12, 1.5), indented=chance.random() < 0.35,
        hyphens=justified and chance.random() < 0.7, ligatures=chance.random() < 0.4,
        tracking=chance.gauss(0, 0.012) * size if chance.random() < 0.3 else 0.0,
        columns=chance.choices((1, 2, 3), (60, 32, 8))[0], ink=ink, paper=paper,
        accent=accent, centred=chance.random() < 0.2,
    )  # fmt: skip


def colours(chance: Random) -> tuple[Ink, Ink]:
    """Paper and ink: mostly dark on white, sometimes on tinted paper, now and then light on dark."""
    kind = chance.random()
    if kind < 0.05:
        return mixed(BLACK, vivid(chance), chance.uniform(0, 0.4)), mixed(WHITE, vivid(chance), chance.uniform(0, 0.25))
    paper = WHITE if kind < 0.7 else mixed(WHITE, vivid(chance), chance.uniform(0.02, 0.2))
    ink = BLACK if chance.random() < 0.6 else mixed(BLACK, vivid(chance), chance.uniform(0.1, 0.45))
    return paper, ink


def vivid(chance: Random) -> Ink:
    """Some colour."""
    return (chance.randrange(256), chance.randrange(256), chance.randrange(256))


def mixed(one: Ink, other: Ink, share: float) -> Ink:
    """One ink with a share of another."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def readable_on(paper: Ink, ink: Ink) -> Ink:
    """The ink where it can be read on that paper, else black or white."""
    light, dark = (sum(colour) / 3 for colour in (paper, ink))
    if abs(light - dark) >= 90:
        return ink
    return BLACK if light > 127 else WHITE


Suitable = Mapping[str, Sequence[Family]]  # the families that have a language's characters
