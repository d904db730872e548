"""The structure its authors gave a PDF: bookmarks, page labels, lines with their places; and copies without some lines.

Beside `render.py` the only module that knows PyMuPDF.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymupdf

from docsearch.errors import UnsupportedInput
from docsearch.indexer.render import MOSTLY, PdfDocument, one_line, open_document, page_label

Box = tuple[float, float, float, float]  # left, top, right, bottom

_FEW_CHARACTERS = 60  # a page with fewer is looked at for a picture that holds its text
_THIRD = 1 / 3  # a strip through the middle of a line touches its characters, and none of the lines above and below


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page's text layer."""

    text: str
    size: float  # of its largest letters, in points
    box: Box  # in points, on the page before it is turned: what `write_masked` takes
    shown: Box  # fractions of the page as it is shown, origin top left
    block: int  # lines of a paragraph have the same number


@dataclass(frozen=True, slots=True)
class PageLines:
    """A page's text layer line by line, in the order of the file."""

    number: int  # from 1
    label: str  # the PDF's own name of the page; empty when it has none
    is_wide: bool  # wider than high, as slides are
    lines: tuple[Line, ...]
    is_picture: bool  # next to no text, and a picture that covers most of the page: a scan


@dataclass(frozen=True, slots=True)
class Section:
    """A bookmark."""

    title: str
    page_number: int  # where the section starts


@dataclass(frozen=True, slots=True)
class Structure:
    """A document as its authors divided it."""

    page_count: int
    sections: tuple[Section, ...]
    pages: tuple[PageLines, ...]  # none for an image


def read_structure(path: Path) -> Structure:
    """Read bookmarks, labels and lines; an image has only its number of pages.

    Raises:
        UnsupportedInput: the file cannot be read, as `open_document` says, or one of its pages cannot (`render_error`).
    """
    with open_document(path) as document:
        if not isinstance(document, PdfDocument):
            return Structure(document.page_count, (), ())
        try:
            sections = tuple(
                Section(one_line(title), number) for _, title, number in document.pdf.get_toc() if number > 0
            )
            pages = tuple(map(_read_page, document.pdf))
        except Exception as error:  # MuPDF raises any class on damaged input
            message = f"its structure cannot be read: {one_line(error)}"
            raise UnsupportedInput(str(path), "render_error", message) from error
        return Structure(document.page_count, sections, pages)


def write_masked(
    path: Path, target: Path, *, hidden: Mapping[int, Sequence[Box]], emptied: Collection[int] = ()
) -> None:
    """Write a copy of a PDF without bookmarks and without some lines: neither text layer nor pixels show them any more.

    Characters of the lines are taken out of the page, drawings that lie within them are too, and pictures below them
    are painted over.

    Args:
        path: the PDF.
        target: where the copy goes.
        hidden: page number → boxes of lines, as in `Line.box`.
        emptied: pages of which nothing is left; they keep their number.

    Raises:
        UnsupportedInput: the PDF cannot be read, or the copy not be made (`render_error`).
    """
    with open_document(path) as document:
        assert isinstance(document, PdfDocument), "only a PDF has lines to hide"
        pdf = document.pdf
        try:
            pdf.set_toc([])
            for number in emptied:
                for key in ("Contents", "Annots"):
                    pdf.xref_set_key(pdf[number - 1].xref, key, "null")
            for number, boxes in hidden.items():
                if number not in emptied:
                    _hide(pdf[number - 1], boxes)
            pdf.save(target, garbage=3, deflate=True, no_new_id=True)
        except Exception as error:
            target.unlink(missing_ok=True)
            message = f"no copy can be made of it: {one_line(error)}"
            raise UnsupportedInput(str(path), "render_error", message) from error


def _read_page(page: Any) -> PageLines:
    matrix, width, height = page.rotation_matrix, page.rect.width or 1.0, page.rect.height or 1.0
    lines = []
    for at, block in enumerate(page.get_text("dict", flags=pymupdf.TEXTFLAGS_TEXT)["blocks"]):
        for line in block.get("lines", []):
            text = " ".join("".join(span["text"] for span in line["spans"]).split())
            if text:
                turned = (pymupdf.Rect(line["bbox"]) * matrix).normalize()
                shown = (turned.x0 / width, turned.y0 / height, turned.x1 / width, turned.y1 / height)
                lines.append(Line(text, max(span["size"] for span in line["spans"]), tuple(line["bbox"]), shown, at))
    few = sum(len(line.text) for line in lines) < _FEW_CHARACTERS
    return PageLines(page.number + 1, page_label(page), width > height, tuple(lines), few and _is_picture(page))


def _is_picture(page: Any) -> bool:
    area = page.cropbox.width * page.cropbox.height
    pictures = [pymupdf.Rect(box) for kind, box, *_ in page.get_bboxlog() if kind in {"fill-image", "fill-imgmask"}]
    return bool(sum(abs(box & page.cropbox) for box in pictures) >= MOSTLY * area)


def _hide(page: Any, boxes: Sequence[Box]) -> None:
    for left, top, right, bottom in boxes:
        inset = (bottom - top) * _THIRD
        page.add_redact_annot(pymupdf.Rect(left, top + inset, right, bottom - inset), fill=False, cross_out=False)
    page.apply_redactions(images=pymupdf.PDF_REDACT_IMAGE_NONE, graphics=pymupdf.PDF_REDACT_LINE_ART_NONE)
    for box in boxes:  # once more for what is no text, over the whole height of the letters
        page.add_redact_annot(pymupdf.Rect(box), fill=False, cross_out=False)
    page.apply_redactions(
        images=pymupdf.PDF_REDACT_IMAGE_PIXELS,
        graphics=pymupdf.PDF_REDACT_LINE_ART_REMOVE_IF_COVERED,
        text=pymupdf.PDF_REDACT_TEXT_NONE,
    )
