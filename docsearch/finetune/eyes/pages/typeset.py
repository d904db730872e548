"""Setting text on a sheet: lines broken, words and characters noted with their boxes, everything drawn at the end.

All of a paragraph is worked out in arrays over its characters; a loop runs over its lines only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from docsearch.finetune.eyes.pages.fonts import codepoints
from docsearch.finetune.eyes.pages.glyphs import PHASES, SPACE, Face, Faces

Ink = tuple[int, int, int]  # RGB
Align = Literal["left", "right", "center", "justify"]
BLACK: Ink = (0, 0, 0)
WHITE: Ink = (255, 255, 255)
MARGIN = 96  # px around the sheet that a glyph may reach into without reaching another row
HYPHEN = 45
LIGATURES = {"ffi": 0xFB03, "ffl": 0xFB04, "ff": 0xFB00, "fi": 0xFB01, "fl": 0xFB02}
NOT_FIRST = codepoints(
    "\u3001\u3002\uff0c\uff0e\u30fb\uff1a\uff1b\uff1f\uff01\uff09\uff3d\uff5d\u300d\u300f\u3011\u3009"
    "\u300b\u30fc\u3005\u309d\u3041\u3043\u3045\u3047\u3049\u3063\u3083\u3085\u3087\u30a1\u30a3\u30a5"
    "\u30a7\u30a9\u30c3\u30e3\u30e5\u30e7\u201d\u2019\u2026\uff05"
)
NOT_LAST = codepoints("\uff08\uff3b\uff5b\u300c\u300e\u3010\u3008\u300a\u201c\u2018")


@dataclass(frozen=True, slots=True, eq=False)
class Chars:
    """The characters of a page in reading order, without white space.

    Attributes:
        codepoints: (M,) uint32.
        boxes: (M, 4) float32 px, the ink's left, top, right, bottom.
        words: (M,) int32, the word each belongs to, ascending.
    """

    codepoints: NDArray[np.uint32]
    boxes: NDArray[np.float32]
    words: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Manner:
    """How a paragraph is set."""

    face: Face
    align: Align = "left"
    leading: float = 1.3  # from baseline to baseline, in sizes
    indent: float = 0.0  # px, of the first line
    ink: Ink = BLACK
    hyphens: bool = False
    ligatures: bool = False
    tracking: float = 0.0  # px between characters, added


@dataclass(slots=True)
class _Drawn:
    """What is to be drawn with one face."""

    glyphs: list[NDArray[np.int32]] = field(default_factory=list)
    x: list[NDArray[np.float32]] = field(default_factory=list)
    y: list[NDArray[np.int64]] = field(default_factory=list)
    ink: list[NDArray[np.uint8]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Where L lines of a paragraph end.

    Attributes:
        stops: (L,) the character after each line's last; the next line begins there.
        visible: (L,) the same without white space.
        widths: (L,) px, from the first character to the last, and a hyphen if there is one.
        indent: (L,) px.
        full: (L,) bool, more of the paragraph follows.
        hyphens: (L,) bool, the line ends within a word.
    """

    stops: NDArray[np.int64]
    visible: NDArray[np.int64]
    widths: NDArray[np.float64]
    indent: NDArray[np.float64]
    full: NDArray[np.bool_]
    hyphens: NDArray[np.bool_]


class Sheet:
    """A page being made. What is drawn with ``pen`` lies under the text, whenever it was drawn."""

    def __init__(self, faces: Faces, height: int, width: int, *, colour: bool, paper: Ink = WHITE) -> None:
        self.height, self.width, self.faces = height, width, faces
        self._colour = colour
        self._picture = Image.new("RGB" if colour else "L", (width, height), self.tone(paper))
        self.pen = ImageDraw.Draw(self._picture)
        self.texts: list[str] = []
        self._codes: list[NDArray[np.uint32]] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._words: list[NDArray[np.int32]] = []
        self._drawn: dict[Face, _Drawn] = {}
        self._later: list[Callable[[], object]] = []

    def tone(self, ink: Ink) -> Ink | int:
        """An ink as this sheet's pictures hold it: itself, or how bright it is (ITU-R BT.601)."""
        return ink if self._colour else (299 * ink[0] + 587 * ink[1] + 114 * ink[2]) // 1000

    def later(self, work: Callable[[], object]) -> None:
        """Do something when all else is set: what is read last comes last among the words."""
        self._later.append(work)

    def paste(self, picture: Image.Image, x: int, y: int) -> None:
        """Lay a picture under the text."""
        self._picture.paste(picture.convert(self._picture.mode), (x, y))

    def paragraph(
        self,
        text: str,
        manner: Manner,
        box: tuple[float, float, float, float],
        accents: Mapping[int, tuple[Face, Ink]] | None = None,
    ) -> tuple[float, str]:
        """Set a text in a box, its first baseline one size below the top.

        ``accents`` are words, by number, that stand in another face or ink. Words with a character that their face
        lacks are left out.

        Returns:
            The bottom: one leading below the last baseline's line top, and what of the text did not fit.
        """
        left, top, right, bottom = box
        face, leading = manner.face, manner.leading * manner.face.size
        n_lines = int((bottom - top - 0.25 * face.size - face.size) // leading) + 1
        if n_lines < 1 or bottom - top < 1.25 * face.size:
            return top, text
        codes = codepoints(text)
        if not face.font.has[codes[codes != SPACE]].all():
            kept = [word for word in text.split() if face.font.has[codepoints(word)].all()]
            text, accents = " ".join(kept), None
            codes = codepoints(text)
        if not codes.size:
            return top, ""
        which, palette = _accented(codes, manner, accents)
        glyphs, advance = np.empty(len(codes), np.int32), np.empty(len(codes), np.float32)
        for at, (other, _) in enumerate(palette):
            mask = which == at
            glyphs[mask] = other.glyphs(codes[mask])
        if manner.ligatures:
            _join(text, glyphs, which, palette)
        for at, (other, _) in enumerate(palette):
            mask = which == at
            advance[mask] = other.advance[glyphs[mask]]
        ends = np.cumsum(advance + manner.tracking, dtype=np.float64)
        lines = break_lines(codes, ends, right - left, manner, n_lines)
        used = int(lines.stops[-1])
        self._set(lines, codes[:used], glyphs[:used], ends[:used], which[:used], palette, manner,
                  np.array([left, top + face.size, right]))  # fmt: skip
        return top + len(lines.stops) * leading, text[used:].lstrip()

    def _set(
        self,
        lines: Lines,
        codes: NDArray[np.uint32],
        glyphs: NDArray[np.int32],
        ends: NDArray[np.float64],
        which: NDArray[np.int8],
        palette: Sequence[tuple[Face, Ink]],
        manner: Manner,
        where: NDArray[np.float64],
    ) -> None:
        """Put the characters of broken lines in their places."""
        left, baseline, right = where
        starts, n_lines = np.concatenate([[0], lines.stops[:-1]]), len(lines.stops)
        line = np.repeat(np.arange(n_lines), lines.stops - starts)
        begins = np.concatenate([[0.0], ends[:-1]])
        spaces = codes == SPACE
        room = right - left - lines.indent - lines.widths
        x = begins - begins[starts][line] + (left + lines.indent)[line]
        if manner.align == "justify":
            wide = spaces | is_east_asian(codes)  # after these a line may be stretched
            inner = np.cumsum(wide) - wide  # such places to the left of each character
            inner = inner - inner[starts][line]
            n_gaps = inner[np.maximum(lines.visible - 1, 0)]
            stretch = np.where(
                (n_gaps > 0) & lines.full & (room < 0.4 * (right - left)), room / np.maximum(n_gaps, 1), 0
            )
            x += inner * stretch[line]
        elif manner.align != "left":
            x += (room / (2 if manner.align == "center" else 1))[line]
        y = np.round(baseline + np.arange(n_lines) * manner.leading * manner.face.size).astype(np.int64)[line]
        fresh = np.ones(len(codes), bool)
        fresh[1:] = spaces[:-1] | (line[1:] != line[:-1])
        keep = ~spaces
        if lines.hyphens.any():
            after = lines.stops[lines.hyphens]
            hyphen = palette[0][0].glyphs(np.array([HYPHEN], np.uint32))[0]
            codes, glyphs = np.insert(codes, after, HYPHEN), np.insert(glyphs, after, hyphen)
            x = np.insert(x, after, x[after - 1] + ends[after - 1] - begins[after - 1])
            y, which = np.insert(y, after, y[after - 1]), np.insert(which, after, 0)
            fresh, keep = np.insert(fresh, after, False), np.insert(keep, after, True)
        self.place(codes[keep], glyphs[keep], x[keep], y[keep], fresh[keep], which[keep], palette)

    def place(
        self,
        codes: NDArray[np.uint32],
        glyphs: NDArray[np.int32],
        x: NDArray[np.float64],
        y: NDArray[np.int64],
        fresh: NDArray[np.bool_],
        which: NDArray[np.int8],
        palette: Sequence[tuple[Face, Ink]],
    ) -> None:
        """Note characters (N,) in reading order: a word begins where ``fresh``, ``which`` chooses from the palette."""
        if not codes.size:
            return
        x = np.round(x * PHASES) / PHASES
        boxes = np.empty((len(codes), 4), np.float32)
        for at, (face, ink) in enumerate(palette):
            mask = which == at if len(palette) > 1 else slice(None)
            drawn = self._drawn.setdefault(face, _Drawn())
            chosen, chosen_x, chosen_y = glyphs[mask], x[mask].astype(np.float32), y[mask]
            boxes[mask] = face.box[chosen] + np.stack([chosen_x, chosen_y, chosen_x, chosen_y], axis=1)
            drawn.glyphs.append(chosen)
            drawn.x.append(chosen_x)
            drawn.y.append(chosen_y)
            drawn.ink.append(np.broadcast_to(np.array(ink, np.uint8), (len(chosen), 3)))
        words = np.cumsum(fresh, dtype=np.int32) - 1
        firsts = np.append(np.flatnonzero(fresh), len(codes))
        text = codes.tobytes().decode("utf-32-le")
        first_word = len(self.texts)
        self.texts += [text[a:b] for a, b in zip(firsts[:-1].tolist(), firsts[1:].tolist(), strict=True)]
        self._codes.append(codes)
        self._boxes.append(boxes)
        self._words.append(words + first_word)

    def labels(
        self,
        texts: Sequence[str],
        face: Face,
        x: Sequence[float],
        baselines: Sequence[float],
        *,
        align: Sequence[Align] | Align = "left",
        ink: Ink = BLACK,
    ) -> NDArray[np.float64]:
        """Set short texts on one line each, ``x`` being their left end, middle or right end; return their widths.

        What a face lacks is left out.
        """
        texts = [
            text if face.font.covers(text) else "".join(c for c in text if c == " " or face.font.covers(c))
            for text in texts
        ]
        counts = np.array([len(text) for text in texts])
        codes = codepoints("".join(texts))
        glyphs = face.glyphs(codes)
        ends = np.concatenate([[0.0], np.cumsum(face.advance[glyphs], dtype=np.float64)])
        stops = np.cumsum(counts)
        starts = stops - counts
        widths: NDArray[np.float64] = ends[stops] - ends[starts]
        aligns = [align] * len(texts) if isinstance(align, str) else align
        share = np.array([{"left": 0.0, "justify": 0.0, "center": 0.5, "right": 1.0}[name] for name in aligns])
        owner = np.repeat(np.arange(len(texts)), counts)
        at = (np.asarray(x, np.float64) - share * widths)[owner] + ends[:-1] - ends[starts][owner]
        y = np.round(np.asarray(baselines, np.float64)).astype(np.int64)[owner]
        spaces = codes == SPACE
        fresh = np.ones(len(codes), bool)
        fresh[1:] = spaces[:-1] | (owner[1:] != owner[:-1])
        keep = ~spaces
        self.place(
            codes[keep], glyphs[keep], at[keep], y[keep], fresh[keep], np.zeros(int(keep.sum()), np.int8), [(face, ink)]
        )
        return widths

    def finish(self) -> tuple[NDArray[np.uint8], Chars]:
        """The picture with the text on it, and the characters."""
        for work in self._later:
            work()
        under = np.asarray(self._picture)
        canvas = np.zeros((self.height + 2 * MARGIN, self.faces.stride, *under.shape[2:]), np.uint8)
        inner = canvas[MARGIN : MARGIN + self.height, MARGIN : MARGIN + self.width]
        inner[:] = under
        flat = canvas.reshape(-1, *under.shape[2:])
        for face, drawn in self._drawn.items():
            glyphs, x, y = np.concatenate(drawn.glyphs), np.concatenate(drawn.x), np.concatenate(drawn.y)
            inks = np.concatenate(drawn.ink).astype(np.int32)
            tones = inks if self._colour else (inks @ np.array([299, 587, 114])) // 1000
            scatter(flat, face, glyphs, x + MARGIN, y + MARGIN, tones)
        if not self.texts:
            return inner.copy(), Chars(np.zeros(0, np.uint32), np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
        return inner.copy(), Chars(
            np.concatenate(self._codes), np.concatenate(self._boxes), np.concatenate(self._words)
        )


def break_lines(
    codes: NDArray[np.uint32], ends: NDArray[np.float64], width: float, manner: Manner, n_lines: int
) -> Lines:
    """Fill at most so many lines with characters (N,) that end at ``ends`` when they stand in one row.

    A line may begin after a space and beside a Chinese or Japanese character; a word wider than a line is cut.
    """
    n = len(codes)
    spaces = codes == SPACE
    east = is_east_asian(codes)
    may = np.zeros(n + 1, bool)
    may[1:n] = spaces[:-1]
    if east.any():
        held = np.isin(codes[1:], NOT_FIRST) | np.isin(codes[:-1], NOT_LAST) | spaces[1:]
        may[1:n] |= (east[1:] | east[:-1]) & ~held
    may[n] = True
    breaks = np.flatnonzero(may)
    visible = breaks - spaces[breaks - 1]
    reach = ends[visible - 1]
    hyphen = manner.face.width("-") if manner.hyphens else 0.0
    found: list[tuple[int, int, float, float, bool]] = []
    start, begin, indent = 0, 0.0, manner.indent
    while start < n and len(found) < n_lines:
        limit = begin + width - indent
        at = int(np.searchsorted(reach, limit, side="right")) - 1
        stop, shown, hyphened = (int(breaks[at]), int(visible[at]), False) if at >= 0 else (0, 0, False)
        if stop <= start:  # one word fills the line
            stop = shown = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        elif hyphen and stop < n and at + 1 < len(breaks):
            after = int(visible[at + 1])
            cut = min(int(np.searchsorted(ends, limit - hyphen, side="right")), after - 3)
            if cut >= stop + 2 and _letters(codes[stop:after]):
                stop, shown, hyphened = cut, cut, True
        found.append((stop, shown, float(ends[shown - 1]) - begin + hyphen * hyphened, indent, hyphened))
        start, begin, indent = stop, float(ends[stop - 1]), 0.0
    stops, shown_all, widths, indents, hyphened_all = (np.array(column) for column in zip(*found, strict=True))
    return Lines(stops, shown_all, widths, indents, stops < n, hyphened_all.astype(bool))


def is_east_asian(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """(N,) whether characters are Chinese or Japanese: between them a line may be broken and stretched."""
    return (codes >= 0x3000) & (codes < 0xFFF0)


def _letters(codes: NDArray[np.uint32]) -> bool:
    """Whether a word is of letters alone, so that it can be divided."""
    return codes.tobytes().decode("utf-32-le").isalpha()


def _accented(
    codes: NDArray[np.uint32], manner: Manner, accents: Mapping[int, tuple[Face, Ink]] | None
) -> tuple[NDArray[np.int8], list[tuple[Face, Ink]]]:
    """Which face and ink each character has: (N,) numbers, and what they stand for; 0 is that of the paragraph."""
    which, palette = np.zeros(len(codes), np.int8), [(manner.face, manner.ink)]
    if accents:
        word = np.cumsum(codes == SPACE)
        for number, accent in accents.items():
            mask = (word == number) & (codes != SPACE)
            if accent[0].font.has[codes[mask]].all():
                if accent not in palette:
                    palette.append(accent)
                which[mask] = palette.index(accent)
    return which, palette


def _join(text: str, glyphs: NDArray[np.int32], which: NDArray[np.int8], palette: Sequence[tuple[Face, Ink]]) -> None:
    """Put ligatures where the face has them."""
    for found in re.finditer("ff[il]?|f[il]", text):
        place = slice(found.start(), found.end())
        face = palette[which[place][0]][0]
        if face.font.has[LIGATURES[found[0]]] and (which[place] == which[place][0]).all():
            glyphs[place] = face.ligature(LIGATURES[found[0]], len(found[0]))


def scatter(
    flat: NDArray[np.uint8],
    face: Face,
    glyphs: NDArray[np.int32],
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    tones: NDArray[np.int32],
) -> None:
    """Draw glyphs (N,) with their origins at x, y on a canvas laid out flat, each in its own tone.

    Every other glyph first, then those between them: two that touch are both drawn where they share a pixel.
    """
    whole = np.floor(x).astype(np.int64)
    slots = glyphs.astype(np.int64) * PHASES + ((x - whole) * PHASES).astype(np.int64)
    origins = y * face.stride + whole
    for half in (slice(0, None, 2), slice(1, None, 2)):
        count, start = face.count[slots[half]], face.start[slots[half]]
        ends = np.cumsum(count)
        if not ends.size or not ends[-1]:
            continue
        source = np.arange(ends[-1]) + np.repeat(start - (ends - count), count)
        place = np.repeat(origins[half], count) + face.offset[source]
        alpha = face.alpha[source].astype(np.int32)
        tone = np.repeat(tones[half], count, axis=0)
        under = flat[place].astype(np.int32)
        if flat.ndim > 1:
            alpha = alpha[:, None]
        flat[place] = under + ((tone - under) * alpha) // 255
