"""What the pages are set in: fonts of a folder, described by its ``fonts.json``, which tools/eyes_fonts.py writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from docsearch.errors import UnsupportedInput

N_CODEPOINTS = 0x10000  # the basic plane: what lies beyond is not set
Part = Literal["train", "held-out"]
Kind = Literal["serif", "sans", "mono", "slab", "display"]


@dataclass(frozen=True, slots=True, eq=False)
class Font:
    """One face of a font file, and the characters it has a glyph for."""

    path: Path
    face: int  # in a collection; 0 in a file of one face
    family: str
    kind: Kind
    bold: bool
    italic: bool
    has: NDArray[np.bool_] = field(repr=False)  # (N_CODEPOINTS,)

    def covers(self, text: str) -> bool:
        """Whether every character but white space has a glyph."""
        return bool(self.has[codepoints("".join(text.split()))].all())


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """The faces that belong together; a face that is missing is the regular one."""

    name: str
    kind: Kind
    faces: dict[tuple[bool, bool], Font]  # by bold, italic

    def face(self, *, bold: bool = False, italic: bool = False) -> Font:
        """The face that comes nearest."""
        for key in ((bold, italic), (bold, False), (False, italic), (False, False)):
            if key in self.faces:
                return self.faces[key]
        return next(iter(self.faces.values()))


def families(fonts: Sequence[Font]) -> list[Family]:
    """The fonts by family, in order of first appearance."""
    found: dict[str, Family] = {}
    for font in fonts:
        family = found.setdefault(font.family, Family(font.family, font.kind, {}))
        family.faces.setdefault((font.bold, font.italic), font)
    return list(found.values())


def codepoints(text: str) -> NDArray[np.uint32]:
    """The characters of a text as numbers; those beyond the basic plane become U+FFFF, which no font has."""
    found = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return np.minimum(found, N_CODEPOINTS - 1)


def read_fonts(folder: Path, *, part: Part = "train", names: Collection[str] | None = None) -> list[Font]:
    """The fonts of one part: families that are held out are in no page the encoder learns from.

    Raises:
        UnsupportedInput: the folder has no list of fonts, or no font of that part.
    """
    path = folder / "fonts.json"
    if not path.exists():
        raise UnsupportedInput(str(folder), "empty", "no fonts.json in it: see tools/eyes_fonts.py")
    fonts = [
        Font(
            folder / entry["path"],
            entry["face"],
            entry["family"],
            entry["kind"],
            entry["bold"],
            entry["italic"],
            from_ranges(entry["has"]),
        )
        for entry in json.loads(path.read_text())["fonts"]
        if entry["part"] == part and (names is None or entry["family"] in names)
    ]
    if not fonts:
        raise UnsupportedInput(str(path), "empty", f"no {part} fonts in it")
    return fonts


def from_ranges(ranges: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """(N_CODEPOINTS,) whether a codepoint lies in one of the ranges (first, last)."""
    has = np.zeros(N_CODEPOINTS, bool)
    for first, last in ranges:
        has[first : last + 1] = True
    has[-1] = False
    return has


def to_ranges(found: Collection[int]) -> list[list[int]]:
    """The codepoints of the basic plane as ranges (first, last)."""
    ranges: list[list[int]] = []
    for number in sorted(found):
        if number >= N_CODEPOINTS - 1:
            break
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
