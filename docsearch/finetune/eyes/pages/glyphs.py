"""Glyphs as lists of inked pixels: rendered once for each font and size, then drawn by the thousand in one scatter.

A glyph is rendered at four times its size and averaged down at four horizontal phases, so it can stand at any quarter
of a pixel, as in a rendered PDF; hinting is averaged away with it. Where on a page it goes is a number added to those
of its pixels.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from docsearch.finetune.eyes.pages.fonts import N_CODEPOINTS, Font, codepoints

PHASES = 4  # horizontal places within a pixel; also how much larger glyphs are rendered
UNITS = 1000  # px at which advances are measured, so that rounding does not show
SPACE = 32
ALPHABETS = ((97, 122), (65, 90), (48, 57), (0x430, 0x44F), (0x3B1, 0x3C9), (0x3041, 0x3093))  # of them all or nothing
SEVERAL = 5
FINEST = 9.0  # px, the smallest size
STEP = 1.03  # from one size to the next: few sizes, so that a face's glyphs are used by many pages


def grid_size(size: float) -> float:
    """The nearest of the sizes that are used, px."""
    return round(FINEST * STEP ** max(0, round(float(np.log(size / FINEST) / np.log(STEP)))), 2)


class Face:
    """A font at one size, for canvases whose rows are ``stride`` pixels apart.

    Attributes:
        lift: px, how far above its pixel row a baseline is.
        advance: (G,) float32 px, of the glyphs loaded so far.
        box: (G, 4) float32 px, the ink from the origin on the baseline: left, top, right, bottom.
        start, count: (G * PHASES,) int64, the pixels of each glyph in each phase.
        offset: (N,) int64, those pixels, from the one the origin is in.
        alpha: (N,) uint8, how much ink they have.
    """

    def __init__(self, font: Font, size: float, stride: int, advances: Advances | None = None) -> None:
        self.font, self.size, self.stride = font, size, stride
        self._large = _open(font, size * PHASES)
        self._advances = advances or Advances(font)
        self._table = np.full(N_CODEPOINTS, -1, np.int32)
        self._joined: dict[int, NDArray[np.int32]] = {}
        # where in a pixel the baseline lies: one place for a face, so that faces differ and glyphs are kept once
        self._lift = int(size * 100) % PHASES
        self.lift = self._lift / PHASES
        self.advance = np.zeros(0, np.float32)
        self.box = np.zeros((0, 4), np.float32)
        self.start, self.count, self.offset = (np.zeros(0, np.int64) for _ in range(3))
        self.alpha = np.zeros(0, np.uint8)

    def glyphs(self, codes: NDArray[np.uint32]) -> NDArray[np.int32]:
        """(N,) the glyphs of characters.

        Raises:
            ValueError: the font has no glyph for one of them.
        """
        found = self._table[codes]
        if found.size and found.min() < 0:
            self._load(np.unique(codes[found < 0]))
            found = self._table[codes]
        return found

    def ligature(self, codepoint: int, n_chars: int) -> NDArray[np.int32]:
        """(n_chars,) glyphs that together draw one: the first has all the ink, each has its part of advance and box."""
        if codepoint not in self._joined:
            whole = int(self.glyphs(np.array([codepoint], np.uint32))[0])
            advance, (left, top, right, bottom) = self.advance[whole] / n_chars, self.box[whole]
            edges = np.linspace(left, right, n_chars + 1)
            begins = np.arange(n_chars) * advance
            boxes = np.stack(
                [edges[:-1] - begins, np.full(n_chars, top), edges[1:] - begins, np.full(n_chars, bottom)], 1
            )
            self._joined[codepoint] = (len(self.advance) + np.arange(n_chars)).astype(np.int32)
            pixels = slice(whole * PHASES, (whole + 1) * PHASES)
            none = np.zeros((n_chars - 1) * PHASES, np.int64)
            self.start = np.concatenate([self.start, self.start[pixels], none])
            self.count = np.concatenate([self.count, self.count[pixels], none])
            self.advance = np.concatenate([self.advance, np.full(n_chars, advance, np.float32)])
            self.box = np.concatenate([self.box, boxes.astype(np.float32)])
        return self._joined[codepoint]

    def prepare(self, text: str) -> None:
        """Load the glyphs of a text that is likely to be set: cheaper all at once than line by line."""
        codes = codepoints(text)
        self.glyphs(codes[self.font.has[codes]])

    def width(self, text: str) -> float:
        """How far a text goes, px."""
        return float(self.advances(codepoints(text)).sum())

    def advances(self, codes: NDArray[np.uint32]) -> NDArray[np.float32]:
        """(N,) how far each character goes, px."""
        found = self.glyphs(codes)  # first: it may load some
        return self.advance[found]

    def _load(self, codes: NDArray[np.uint32]) -> None:
        codes = np.union1d(codes, self._kin(codes))
        without = codes[~self.font.has[codes] & (codes != SPACE)]
        if without.size:
            raise ValueError(f"{self.font.path.name} has no glyph for {''.join(map(chr, without.tolist()))!r}")
        text = [chr(number) for number in codes.tolist()]
        cells, left, top = self._render(text)
        counts, offsets, alphas, box = self._average(cells, left, top)
        self._table[codes] = len(self.advance) + np.arange(len(text))
        advance = self._advances.of(text) * np.float32(self.size)
        self.advance, self.box = np.concatenate([self.advance, advance]), np.concatenate([self.box, box])
        self.start = np.concatenate([self.start, len(self.alpha) + np.cumsum(counts) - counts])
        self.count = np.concatenate([self.count, counts])
        self.offset, self.alpha = np.concatenate([self.offset, offsets]), np.concatenate([self.alpha, alphas])

    def _kin(self, codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The rest of an alphabet of which several letters are wanted: it will be, and glyphs are cheaper together."""
        wanted = [np.arange(first, last + 1, dtype=np.uint32) for first, last in ALPHABETS
                  if ((codes >= first) & (codes <= last)).sum() >= SEVERAL]  # fmt: skip
        kin: NDArray[np.uint32] = np.concatenate([np.zeros(0, np.uint32), *wanted])
        return kin[np.flatnonzero(self.font.has[kin] & (self._table[kin] < 0))]

    def _render(self, text: list[str]) -> tuple[NDArray[np.uint8], int, int]:
        """(G, height, width) the large glyphs, each with its origin at the same place, and where that is."""
        bounds = np.array([self._large.getbbox(char, anchor="ls") for char in text])
        reach = np.ceil(np.abs(bounds).max(axis=0) / PHASES).astype(int) * PHASES + 2 * PHASES
        left, top = int(reach[0]), int(reach[1])
        width, height = left + int(reach[2]), top + int(reach[3])
        picture = Image.new("L", (width, height * len(text)))
        pen = ImageDraw.Draw(picture)
        for at, char in enumerate(text):
            pen.text((left, at * height + top - self._lift), char, fill=255, font=self._large, anchor="ls")
        return np.asarray(picture).reshape(len(text), height, width), left, top

    def _average(
        self, cells: NDArray[np.uint8], left: int, top: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8], NDArray[np.float32]]:
        """The pixels of the glyphs in every phase: how many, where, how dark; and the boxes of the glyphs."""
        tall = cells.astype(np.uint16)
        rows = tall[:, 0::PHASES] + tall[:, 1::PHASES] + tall[:, 2::PHASES] + tall[:, 3::PHASES]
        n_cols = rows.shape[2] // PHASES - 1
        phases = np.zeros((len(cells), PHASES, rows.shape[1], n_cols), np.uint16)
        for phase in range(PHASES):
            for col in range(PHASES):
                phases[:, phase] += rows[:, :, PHASES - phase + col :: PHASES][:, :, :n_cols]
        small = (phases // PHASES**2).astype(np.uint8)
        glyph, phase_of, row, column = np.nonzero(small)
        counts = np.bincount(glyph * PHASES + phase_of, minlength=len(cells) * PHASES)
        offsets = (row - top // PHASES) * self.stride + column + 1 - left // PHASES
        across, down = cells.max(axis=1) > 0, cells.max(axis=2) > 0  # (G, width), (G, height)
        box = np.stack([across.argmax(1) - left, down.argmax(1) - top,
                        across.shape[1] - across[:, ::-1].argmax(1) - left,
                        down.shape[1] - down[:, ::-1].argmax(1) - top], axis=1) / PHASES  # fmt: skip
        box[~across.any(axis=1)] = 0
        return counts, offsets, small[glyph, phase_of, row, column], box.astype(np.float32)


class Advances:
    """How far the characters of a font go, whatever the size."""

    def __init__(self, font: Font) -> None:
        self._font = font
        self._opened: ImageFont.FreeTypeFont | None = None
        self._known: dict[str, float] = {}

    def of(self, text: list[str]) -> NDArray[np.float32]:
        """(N,) the advance of each character, in sizes."""
        if unknown := [char for char in text if char not in self._known]:
            self._opened = self._opened or _open(self._font, UNITS)
            self._known |= {char: self._opened.getlength(char) / UNITS for char in unknown}
        return np.array([self._known[char] for char in text], np.float32)


class Faces:
    """The faces in use; the one not used for longest is dropped when there are too many."""

    def __init__(self, stride: int, limit: int = 128) -> None:
        self._faces: OrderedDict[tuple[str, int, float], Face] = OrderedDict()
        self._advances: dict[tuple[str, int], Advances] = {}
        self.stride, self._limit = stride, limit

    def get(self, font: Font, size: float) -> Face:
        """The face of that font at the nearest size in use, made when it is new."""
        size = grid_size(size)
        key = (str(font.path), font.face, size)
        if key not in self._faces:
            advances = self._advances.setdefault(key[:2], Advances(font))
            self._faces[key] = Face(font, size, self.stride, advances)
            if len(self._faces) > self._limit:
                self._faces.popitem(last=False)
        self._faces.move_to_end(key)
        return self._faces[key]


def _open(font: Font, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font.path, size, index=font.face, layout_engine=ImageFont.Layout.BASIC)
