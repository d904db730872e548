"""Turn documents into pages: words with their places, and pixels where an encoder asks for them.

Nothing but this module and `outline.py` knows PyMuPDF: another renderer takes its place by offering the same names.
A document is a PDF or an image (each frame of a TIFF is a page); which of them is decided by content, never by name.
Nothing inside a document is followed or run: no script, no link, no embedded file.
"""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pymupdf
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from docsearch.errors import UnsupportedInput
from docsearch.indexer.ocr import OCR_DPI, OCR_PIXELS, TESSDATA, Reader
from docsearch.indexer.sources import unreadable
from docsearch.options import OcrMode
from docsearch.types import BOX_UNIT, PageRef, RenderedPage, TextSource, Words

POINTS_PER_INCH = 72  # PDF user space, ISO 32000-2, 8.3.2.3
A4_HEIGHT_PT = 842.0
MAX_PIXELS = 4_000_000  # of a page image; A4 at 150 dpi has 2.2 million

FEW_WORDS = 25  # a page with fewer words whose area is mostly picture may be a scan with a printed header
MOSTLY = 0.5  # share of the page its pictures cover to be called mostly picture
GARBAGE = 0.3  # share of unreadable characters above which a text layer is not believed

# Unreadable: not mapped to any character (U+FFFD), or to a private one only its font understands.
_UNREADABLE = re.compile("[\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff]")
# Of no use in a word: controls, surrogates, non-characters, soft hyphens, direction marks, zero-width spaces; but not
# the joiners that Persian and Indian scripts spell with (U+200C, U+200D).
_NO_LETTER = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufdd0-\ufdef\ufff0-\uffff]"
)

_HEX_LABEL = re.compile(r"<FEFF((?:[0-9A-F]{4})*)>", re.IGNORECASE)  # so PyMuPDF gives a label that is not ASCII

pymupdf.TOOLS.mupdf_display_errors(False)  # damaged files are reported by us, not by MuPDF on stderr
pymupdf.TOOLS.mupdf_display_warnings(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What is wanted of each page."""

    needs_image: bool = False  # pixels too, not only words
    dpi: float = 150.0  # of the page image; less where a page would exceed max_pixels
    max_pixels: int = MAX_PIXELS  # memory of a page image is three bytes for each
    ocr: OcrMode = "auto"  # auto: read the page's picture where it has no usable text layer


class Document:
    """An open document. Keeps one page in memory at a time; close it, or use it in a ``with`` block."""

    page_count: int
    title: str  # the document's own; empty when it has none
    size: int  # bytes, when it was opened
    mtime_ns: int

    def __init__(self, path: Path) -> None:
        self.path = path
        status = path.stat()
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
        self.title = ""
        self._reader = Reader(_recognise)

    def render(self, page_number: int, *, doc_id: str, options: RenderOptions) -> RenderedPage:
        """One page, counted from 1.

        Raises:
            UnsupportedInput: this page cannot be read (``render_error``); others of the document may be.
        """
        if not 1 <= page_number <= self.page_count:
            message = f"there is no page {page_number}: it has {self.page_count}"
            raise UnsupportedInput(str(self.path), "render_error", message)
        try:
            return self._render(PageRef(doc_id, page_number), options)
        except Exception as error:  # MuPDF and Pillow raise any class on damaged input
            message = f"page {page_number} cannot be read: {one_line(error)}"
            raise UnsupportedInput(str(self.path), "render_error", message) from error

    def image(self, page_number: int, *, dpi: float, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """The picture of one page, (H, W, 3) RGB."""
        options = RenderOptions(needs_image=True, dpi=dpi, max_pixels=max_pixels, ocr="off")
        image = self.render(page_number, doc_id="", options=options).image
        assert image is not None
        return image

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _render(self, ref: PageRef, options: RenderOptions) -> RenderedPage:
        raise NotImplementedError


def open_document(path: Path, passwords: Sequence[str] = (), *, max_file_mb: float = math.inf) -> Document:
    """Open a PDF or an image, whatever its name says.

    Args:
        path: the file.
        passwords: tried in order on an encrypted PDF, after the empty one.
        max_file_mb: larger files are refused.

    Raises:
        UnsupportedInput: ``code`` says why: permission, empty (no bytes, or no pages), unsupported (neither PDF nor a
            known image), password_required, corrupt, too_large.
    """
    try:
        size = path.stat().st_size
        if size > max_file_mb * 2**20:
            message = f"{size / 2**20:,.0f} MB is more than the {max_file_mb:,.0f} MB allowed (--max-file-mb)"
            raise UnsupportedInput(str(path), "too_large", message)
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise unreadable(path, error) from error
    if not head:
        raise UnsupportedInput(str(path), "empty", "the file holds no bytes")
    if b"%PDF-" in head:  # readers accept it anywhere in the first 1,024 bytes
        return PdfDocument(path, passwords)
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) or head[8:12] == b"WEBP":
        return ImageDocument(path)
    raise UnsupportedInput(str(path), "unsupported", f"it is neither a PDF nor a PNG, JPEG, TIFF or WebP{_guess(head)}")


def render_pages(
    path: Path,
    *,
    doc_id: str,
    passwords: Sequence[str] = (),
    options: RenderOptions | None = None,
    pages: Iterable[int] | None = None,
) -> Iterator[RenderedPage]:
    """Yield pages of one document in order, holding one page in memory at a time.

    Args:
        path: the file.
        doc_id: becomes part of every ``PageRef``.
        passwords: as in ``open_document``.
        options: what is wanted of each page.
        pages: page numbers, from 1; None means all.

    Raises:
        UnsupportedInput: as ``open_document`` and ``Document.render`` do.
    """
    with open_document(path, passwords) as document:
        for page_number in pages if pages is not None else range(1, document.page_count + 1):
            yield document.render(page_number, doc_id=doc_id, options=options or RenderOptions())


def render_page_image(
    path: Path, page_number: int, *, dpi: float = 150.0, passwords: Sequence[str] = (), max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """The picture of one page, (H, W, 3) RGB at ``dpi``, or less where it would exceed ``max_pixels``.

    Raises:
        UnsupportedInput: as ``open_document`` and ``Document.render`` do.
    """
    with open_document(path, passwords) as document:
        return document.image(page_number, dpi=dpi, max_pixels=max_pixels)


class PdfDocument(Document):
    """A PDF, read by MuPDF, which repairs what it can; ``pdf`` is MuPDF's own."""

    def __init__(self, path: Path, passwords: Sequence[str]) -> None:
        super().__init__(path)
        try:
            self.pdf: Any = pymupdf.open(path, filetype="pdf")
        except Exception as error:
            raise UnsupportedInput(str(path), "corrupt", f"damaged beyond repair: {one_line(error)}") from error
        try:
            self._unlock(passwords)
            self.page_count = self.pdf.page_count
            self.title = one_line((self.pdf.metadata or {}).get("title") or "")
        except UnsupportedInput:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise UnsupportedInput(str(path), "corrupt", f"its pages cannot be found: {one_line(error)}") from error
        if self.page_count > self.pdf.xref_length():  # every page is an object of the file
            self.close()
            raise UnsupportedInput(
                str(path), "corrupt", f"damaged: it claims {self.page_count:,} pages and cannot hold them"
            )
        if self.page_count == 0:
            repaired = self.pdf.is_repaired
            self.close()
            if repaired:
                raise UnsupportedInput(str(path), "corrupt", "damaged or cut short: no page is left in it")
            raise UnsupportedInput(str(path), "empty", "it has no pages")

    def close(self) -> None:
        """Let go of the file, and of what MuPDF would keep of it."""
        self.pdf.close()
        pymupdf.TOOLS.store_shrink(100)  # per cent

    def _unlock(self, passwords: Sequence[str]) -> None:
        if not self.pdf.needs_pass:
            return
        if not any(self.pdf.authenticate(password) for password in passwords):
            message = "none of the given passwords opens it" if passwords else "it needs a password (--password-file)"
            raise UnsupportedInput(str(self.path), "password_required", message)

    def _render(self, ref: PageRef, options: RenderOptions) -> RenderedPage:
        page = self.pdf.load_page(ref.page_number - 1)
        width, height = float(page.rect.width), float(page.rect.height)  # as shown: cropped and turned
        words, readable = _text_layer(page)
        source: TextSource = "layer" if words.texts else "none"
        if options.ocr == "auto" and _needs_ocr(page, words, readable):
            seen = self._reader.read(_pixels(page, OCR_DPI, OCR_PIXELS))
            words = _merge(words, seen) if readable else seen
            source = "ocr" if words.texts else "none"
        dpi = _dpi_within(options.dpi, width, height, options.max_pixels)
        return RenderedPage(
            ref=ref,
            words=words,
            image=_pixels(page, dpi, options.max_pixels) if options.needs_image else None,
            text_source=source,
            page_label=page_label(page),
            width_pt=width,
            height_pt=height,
            dpi=dpi,
        )


class ImageDocument(Document):
    """An image file, read by Pillow: turned upright as its EXIF data says, transparency on white."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error at twice the size is ours
                self._file = Image.open(path)
                # The frames of other kinds than TIFF are moments of an animation, not pages.
                self.page_count = getattr(self._file, "n_frames", 1) if self._file.format == "TIFF" else 1
        except Image.DecompressionBombError as error:
            raise UnsupportedInput(str(path), "too_large", f"the image has too many pixels: {error}") from error
        except UnidentifiedImageError as error:
            raise UnsupportedInput(str(path), "corrupt", "damaged: no image can be read from it") from error
        except Exception as error:
            raise UnsupportedInput(str(path), "corrupt", f"damaged: {one_line(error)}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _render(self, ref: PageRef, options: RenderOptions) -> RenderedPage:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._file.seek(ref.page_number - 1)
            picture = self._file
            full = picture.size
            most = max(OCR_PIXELS, options.max_pixels if options.needs_image else 0)
            if ref.page_number == 1:  # a JPEG can be decoded at a half, a quarter, an eighth of its size
                shrink = math.sqrt(min(1.0, most / (full[0] * full[1])))
                picture.draft(None, (math.ceil(full[0] * shrink), math.ceil(full[1] * shrink)))
            upright = _on_white(ImageOps.exif_transpose(picture))
        long_side = max(full)
        stated = picture.info.get("dpi", (0, 0))[0]
        dpi = float(stated) if 100 <= stated <= 1200 else long_side / A4_HEIGHT_PT * POINTS_PER_INCH
        turned = (full[0] > full[1]) != (upright.width > upright.height)
        width, height = (side * POINTS_PER_INCH / dpi for side in (full[::-1] if turned else full))
        words = Words.none()
        if options.ocr == "auto":
            words = self._reader.read(np.asarray(_shrunk(upright, OCR_PIXELS)))
        image_dpi = _dpi_within(options.dpi, width, height, min(options.max_pixels, full[0] * full[1]))
        image = None
        if options.needs_image:
            size = _pixel_size(width, height, image_dpi)
            image = np.asarray(upright.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))
        return RenderedPage(
            ref=ref,
            words=words,
            image=image,
            text_source="ocr" if words.texts else "none",
            width_pt=width,
            height_pt=height,
            dpi=image_dpi,
        )


def _text_layer(page: Any) -> tuple[Words, bool]:
    """The words the PDF itself holds, and whether they can be believed."""
    # Ligatures are taken apart. Unmapped glyphs become U+FFFD: PyMuPDF's default passes off their number as text.
    flags = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP
    found = page.get_text("words", flags=flags)
    matrix = page.rotation_matrix  # the text is placed on the page before it is turned, the box has to be after
    corners = np.array([word[:4] for word in found], np.float64).reshape(-1, 2, 2)
    turned = corners @ np.array([[matrix.a, matrix.b], [matrix.c, matrix.d]]) + (matrix.e, matrix.f)
    boxes = np.concatenate([turned.min(axis=1), turned.max(axis=1)], axis=1) / (*page.rect.br, *page.rect.br)
    texts = [word[4] for word in found]
    everything = "".join(texts)
    return clean_words(texts, boxes), len(_UNREADABLE.findall(everything)) <= GARBAGE * len(everything)


def _needs_ocr(page: Any, words: Words, readable: bool) -> bool:
    """Whether the page shows text that its text layer does not hold."""
    if readable and len(words.texts) >= FEW_WORDS:
        return False
    painted = [(kind, pymupdf.Rect(box)) for kind, box, *_ in page.get_bboxlog()]
    if not words.texts or not readable:  # a scan, glyphs drawn as shapes, a font nobody can map; or a blank page
        return any(kind != "clip-path" for kind, _ in painted)
    area = page.cropbox.width * page.cropbox.height
    pictures = sum(abs(box & page.cropbox) for kind, box in painted if kind in {"fill-image", "fill-imgmask"})
    return bool(pictures >= MOSTLY * area)


def _merge(layer: Words, seen: Words) -> Words:
    """The text layer's words, which are exact, and those read elsewhere on the page."""
    if not layer.texts or not seen.texts:
        return layer if layer.texts else seen
    centre_x, centre_y = (seen.boxes[:, None, [0, 1]].astype(np.int64) + seen.boxes[:, None, [2, 3]]).T // 2  # (1, N)
    left, top, right, bottom = layer.boxes.astype(np.int64)[:, :, None].transpose(1, 0, 2)  # (M, 1)
    covered = (left <= centre_x) & (centre_x <= right) & (top <= centre_y) & (centre_y <= bottom)  # (M, N)
    new = np.flatnonzero(~covered.any(axis=0))
    return Words(
        layer.texts + tuple(seen.texts[row] for row in new), np.concatenate([layer.boxes, seen.boxes[new]], axis=0)
    )


def clean_words(texts: Sequence[str], boxes: NDArray[np.float64]) -> Words:
    """Words as ``Words`` promises them, from what a text layer or an OCR engine gives.

    Args:
        texts: N strings with anything in them.
        boxes: (N, 4) left, top, right, bottom as fractions of the page; words centred outside it are dropped.
    """
    plain = [text if text.isascii() and text.isprintable() else _plain(text) for text in texts]
    if " ".join(plain).split() != plain:  # some are empty, or hold white space
        plain, boxes = _split(plain, boxes)
    centres = boxes[:, :2] + boxes[:, 2:]  # twice the centre
    inside = np.flatnonzero(((centres >= 0) & (centres <= 2)).all(axis=1))
    units = boxes[inside].clip(0, 1) * BOX_UNIT
    outward = np.concatenate([np.floor(units[:, :2]), np.ceil(units[:, 2:])], axis=1)
    return Words(tuple(plain[row] for row in inside), outward.astype(np.uint16))


def _split(texts: list[str], boxes: NDArray[np.float64]) -> tuple[list[str], NDArray[np.float64]]:
    """Split texts at white space, and their boxes as if all characters had the same width."""
    parts: list[str] = []
    places: list[tuple[float, float, float, float]] = []
    for text, (left, top, right, bottom) in zip(texts, boxes.tolist(), strict=True):
        width = (right - left) / max(len(text), 1)
        for match in re.finditer(r"\S+", text):
            parts.append(match[0])
            places.append((left + match.start() * width, top, left + match.end() * width, bottom))
    return parts, np.array(places, np.float64).reshape(-1, 4)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", _NO_LETTER.sub("", _UNREADABLE.sub("", text)))


def _recognise(image: NDArray[np.uint8], language: str) -> Words:
    """Read an (H, W, 3) picture with the Tesseract that MuPDF holds."""
    height, width = image.shape[:2]
    # MuPDF 1.28 finds no word on a grey pixmap, so it is always given colours.
    pixmap = pymupdf.Pixmap(pymupdf.csRGB, width, height, np.ascontiguousarray(image).tobytes(), 0)
    pixmap.set_dpi(OCR_DPI, OCR_DPI)
    pdf = pixmap.pdfocr_tobytes(compress=False, language=language, tessdata=str(TESSDATA))
    with pymupdf.open(stream=pdf, filetype="pdf") as document:
        page = document[0]
        found = page.get_text("words", flags=pymupdf.TEXT_PRESERVE_WHITESPACE)
        boxes = np.array([word[:4] for word in found], np.float64).reshape(-1, 4) / (*page.rect.br, *page.rect.br)
        return clean_words([word[4] for word in found], boxes)


def _pixels(page: Any, dpi: float, max_pixels: int) -> NDArray[np.uint8]:
    zoom = _dpi_within(dpi, page.rect.width, page.rect.height, max_pixels) / POINTS_PER_INCH
    pixmap = page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), colorspace=pymupdf.csRGB, alpha=False)
    return np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.width, 3)


def _dpi_within(dpi: float, width_pt: float, height_pt: float, max_pixels: int) -> float:
    """The resolution at which a page has at most this many pixels, and at most ``dpi``."""
    area = width_pt * height_pt / POINTS_PER_INCH**2  # square inches
    return min(dpi, math.sqrt(max_pixels / area)) if area > 0 else dpi


def _pixel_size(width_pt: float, height_pt: float, dpi: float) -> tuple[int, int]:
    return max(1, int(width_pt * dpi / POINTS_PER_INCH)), max(1, int(height_pt * dpi / POINTS_PER_INCH))


def _shrunk(image: Image.Image, max_pixels: int) -> Image.Image:
    shrink = math.sqrt(max_pixels / (image.width * image.height))
    if shrink >= 1:
        return image
    size = max(1, int(image.width * shrink)), max(1, int(image.height * shrink))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _on_white(image: Image.Image) -> Image.Image:
    """As RGB, with white where the image is transparent, and 16 bits brought down to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) / (high - low or 1.0) * 255
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _guess(head: bytes) -> str:
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "; it is a web page, perhaps an error message saved in place of the document"
    if start.startswith(b"pk\x03\x04"):
        return "; it is a ZIP archive, or an office document: save it as PDF"
    return ""


def page_label(page: Any) -> str:
    """The PDF's own name of a page (ISO 32000-2, 12.4.2); empty when it has none."""
    return one_line(_HEX_LABEL.sub(lambda match: bytes.fromhex(match[1]).decode("utf-16-be", "replace"), page.get_label()))


def one_line(text: object) -> str:
    """A text on one line, without characters of no use, at most 300 of them."""
    return " ".join(_plain(str(text)).split())[:300]
