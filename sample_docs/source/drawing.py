"""The pen of the sample documents: fonts, text, tables and a reproducible way to save a PDF."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pymupdf
from fontTools import subset
from fontTools.ttLib import TTFont

A4 = (595.0, 842.0)
SLIDE = (960.0, 540.0)

Color = str  # "#rrggbb"
Box = tuple[float, float, float, float]  # left, top, right, bottom in points
Point = tuple[float, float]

INK = "#1f2933"
GREY = "#667784"
HAIR = "#c9d1d8"

logging.getLogger("fontTools").setLevel(logging.ERROR)  # it finds the dates in some faces odd

FONT_ROOT = Path("/usr/share/fonts")  # where Debian's font packages install
FACES = {
    "lato": "truetype/lato/Lato-Regular.ttf",
    "lato-bold": "truetype/lato/Lato-Bold.ttf",
    "lato-italic": "truetype/lato/Lato-Italic.ttf",
    "lato-light": "truetype/lato/Lato-Light.ttf",
    "lato-black": "truetype/lato/Lato-Black.ttf",
    "open": "truetype/open-sans/OpenSans-Regular.ttf",
    "open-bold": "truetype/open-sans/OpenSans-Bold.ttf",
    "open-italic": "truetype/open-sans/OpenSans-Italic.ttf",
    "open-light": "truetype/open-sans/OpenSans-Light.ttf",
    "serif": "truetype/liberation2/LiberationSerif-Regular.ttf",
    "serif-bold": "truetype/liberation2/LiberationSerif-Bold.ttf",
    "serif-italic": "truetype/liberation2/LiberationSerif-Italic.ttf",
    "sans": "truetype/liberation2/LiberationSans-Regular.ttf",
    "sans-bold": "truetype/liberation2/LiberationSans-Bold.ttf",
    "sans-italic": "truetype/liberation2/LiberationSans-Italic.ttf",
    "typewriter": "opentype/courier-prime/Courier Prime.otf",
    "typewriter-bold": "opentype/courier-prime/Courier Prime Bold.otf",
    "hand": "truetype/klee/KleeOne-SemiBold.ttf",
    "signature": "truetype/kristi/Kristi.ttf",
    "jp": "opentype/noto/NotoSansCJK-Regular.ttc",
    "jp-bold": "opentype/noto/NotoSansCJK-Bold.ttc",
    "arabic": "opentype/fonts-hosny-amiri/Amiri-Regular.ttf",
    "arabic-bold": "opentype/fonts-hosny-amiri/Amiri-Bold.ttf",
}


@functools.cache
def _font_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sample-docs-fonts-")


@functools.cache
def _characters() -> str:
    """Every character that the sources of the documents contain."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    used = set("".join(path.read_text("utf-8") for path in sources)) | {"•", *map(chr, range(32, 383))}
    return "".join(
        sorted(used - {"\u00a0", "\u00ad"})
    )  # they share a glyph with space and hyphen, and would win the text


@functools.cache
def face(name: str) -> Path:
    """A copy of one face that holds only the characters the documents use.

    Ligatures go, because a PDF reader cannot tell which letters Lato's "ti" glyph stands for; kerning stays. Arabic
    keeps all its features: its letters have no right shape without them.
    """
    target = Path(_font_folder().name) / f"{name}{Path(FACES[name]).suffix.replace('ttc', 'otf')}"
    features = ["*"] if name.startswith("arabic") else ["kern", "mark", "mkmk"]
    options = subset.Options(layout_features=features, font_number=0, notdef_outline=True, recalc_timestamp=False)
    options.drop_tables += ["FFTM"]
    options.retain_gids = name.startswith("jp")  # MuPDF takes the glyph id of a CID font for its character id
    font = subset.load_font(FONT_ROOT / FACES[name], options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=_characters())
    subsetter.subset(font)
    subset.save_font(font, target, options)
    return target


@functools.cache
def font(name: str) -> pymupdf.Font:
    """The face as an object that can measure text."""
    return pymupdf.Font(fontfile=str(face(name)))


@functools.cache
def _font_faces(families: tuple[str, ...]) -> tuple[str, pymupdf.Archive]:
    """The CSS that names the faces of these families, and the archive that holds their files."""
    archive, rules = pymupdf.Archive(), []
    styles = {"": "", "bold": "font-weight:bold", "italic": "font-style:italic"}
    for name in FACES:
        family, _, style = name.partition("-")
        if family in families and style in styles:
            archive.add(face(name).read_bytes(), face(name).name)
            rules.append(f"@font-face {{font-family:{family}; src:url({face(name).name}); {styles[style]}}}")
    return "\n".join(rules), archive


def rgb(color: Color) -> tuple[float, float, float]:
    """The red, green and blue of "#rrggbb", each between 0 and 1."""
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def mix(color: Color, other: Color, share: float) -> Color:
    """A color between two: ``share`` 0 is the first, 1 the other."""
    pairs = zip(rgb(color), rgb(other), strict=True)
    return "#" + "".join(f"{round(255 * (a + (b - a) * share)):02x}" for a, b in pairs)


class Canvas:
    """One page, drawn on from back to front; y grows downwards."""

    def __init__(self, document: pymupdf.Document, size: tuple[float, float] = A4, *, family: str = "lato") -> None:
        document.new_page(width=size[0], height=size[1])
        self.document, self.number = document, document.page_count - 1
        self.width, self.height = size
        self.family = family

    @property
    def page(self) -> pymupdf.Page:
        """The page in PyMuPDF's hands, which forget it as soon as another page is added."""
        return self.document[self.number]

    def text(
        self,
        x: float,
        y: float,
        string: str,
        *,
        face_name: str | None = None,
        size: float = 9,
        color: Color = INK,
        align: str = "left",
        rotate: int = 0,
    ) -> float:
        """Set one line with its baseline at y and return its width."""
        name = face_name or self.family
        width = font(name).text_length(string, size)
        shift = {"left": 0.0, "center": width / 2, "right": width}[align]
        at = (x, y + shift) if rotate else (x - shift, y)
        self.page.insert_text(
            at, string, fontsize=size, fontname=name, fontfile=str(face(name)), color=rgb(color), rotate=rotate
        )
        return width

    def flow(
        self, box: Box, html: str, *, size: float = 9.5, color: Color = INK, css: str = "", lead: float = 1.4
    ) -> float:
        """Set HTML in a box and return the y where it ends; what does not fit is an error, not a smaller font."""
        families = tuple({self.family, *(name for name in FACES if f"font-family:{name}" in css + html)})
        rules, archive = _font_faces(tuple(sorted(families)))
        base = f"body {{margin:0; font-family:{self.family}; font-size:{size}pt; line-height:{lead}; color:{color}}}"
        paragraphs = "p {margin:0 0 6pt 0} h1,h2,h3 {margin:0 0 4pt 0} ul,ol {margin:0 0 6pt 0; padding-left:14pt}"
        spare, _ = self.page.insert_htmlbox(
            pymupdf.Rect(box), html, css=f"{rules}\n{base}\n{paragraphs}\n{css}", archive=archive, scale_low=1
        )
        if spare < 0:
            raise ValueError(f"the text does not fit into {box}: {html[:60]!r}")
        return box[3] - spare

    def columns(self, boxes: Sequence[Box], html: str, *, size: float, css: str = "", lead: float = 1.3) -> float:
        """Let HTML run through boxes that stand side by side, evenly filled, and return the y where it ends."""
        story = _story(self.family, html, size=size, css=css, lead=lead)
        deepest, highest = max(box[3] for box in boxes), min(box[1] for box in boxes)
        for lift in range(int(deepest - highest) - 20, -1, -3):  # the highest bottom edge that holds the text
            frames = [(self, (box[0], box[1], box[2], deepest - lift)) for box in boxes]
            if min(deepest - lift - box[1] for box in boxes) > 2 * size and _place(story, frames, draw=False):
                _place(story, frames, draw=True)
                return deepest - lift
        raise ValueError(f"the text does not fit into {len(boxes)} columns: {html[:60]!r}")

    def rect(
        self, box: Box, *, fill: Color | None = None, stroke: Color | None = None, width: float = 0.6, radius: float = 0
    ) -> None:
        """Draw a rectangle; ``radius`` rounds its corners, in points."""
        shorter = min(box[2] - box[0], box[3] - box[1])
        self.page.draw_rect(
            pymupdf.Rect(box),
            color=rgb(stroke) if stroke else None,
            fill=rgb(fill) if fill else None,
            width=width if stroke else 0,
            radius=min(0.5, radius / shorter) if radius else None,
        )

    def line(
        self, start: Point, end: Point, *, color: Color = HAIR, width: float = 0.6, dash: str | None = None
    ) -> None:
        """Draw a straight line; ``dash`` is PDF's own notation, as in "[3 2] 0"."""
        self.page.draw_line(start, end, color=rgb(color), width=width, dashes=dash)

    def path(
        self,
        points: Sequence[Point],
        *,
        color: Color | None = INK,
        width: float = 1.2,
        fill: Color | None = None,
        opacity: float = 1,
    ) -> None:
        """Draw a polyline, or a polygon when ``fill`` is given."""
        self.page.draw_polyline(
            list(points),
            color=rgb(color) if color else None,
            width=width if color else 0,
            fill=rgb(fill) if fill else None,
            closePath=fill is not None,
            fill_opacity=opacity,
            lineJoin=1,
        )

    def circle(self, at: Point, radius: float, *, fill: Color | None = None, stroke: Color | None = None) -> None:
        """Draw a circle."""
        self.page.draw_circle(
            at,
            radius,
            color=rgb(stroke) if stroke else None,
            fill=rgb(fill) if fill else None,
            width=1 if stroke else 0,
        )

    def arrow(self, start: Point, end: Point, *, color: Color = GREY, width: float = 1.2) -> None:
        """Draw a line with a filled head at its end."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = max((dx * dx + dy * dy) ** 0.5, 1e-6)
        ux, uy = dx / length, dy / length
        neck = (end[0] - 6 * ux, end[1] - 6 * uy)
        self.line(start, neck, color=color, width=width)
        head = [end, (neck[0] - 3.2 * uy, neck[1] + 3.2 * ux), (neck[0] + 3.2 * uy, neck[1] - 3.2 * ux)]
        self.path(head, color=None, fill=color)

    def table(
        self,
        x: float,
        y: float,
        widths: Sequence[float],
        rows: Sequence[Sequence[str]],
        *,
        size: float = 8.5,
        row_height: float = 15,
        bold: Iterable[int] = (),
        left: Iterable[int] = (0,),
        accent: Color = INK,
        zebra: Color | None = None,
        head_fill: Color | None = None,
        faces: tuple[str, str] | None = None,
    ) -> float:
        """Set a table whose first row is its head and return the y below it.

        Args:
            x: left edge.
            y: top edge.
            widths: width of each column in points.
            rows: the cells, the head first; ``bold`` counts rows from it.
            size: font size in points.
            row_height: distance of two rows.
            bold: rows set in bold with a rule above: the totals.
            left: columns that are flush left; all others are flush right.
            accent: color of the head's text and rule.
            zebra: background of every second row.
            head_fill: background of the head, whose text is then white.
            faces: the regular and the bold face; the canvas's own family when not given.
        """
        regular, strong = faces or (self.family, f"{self.family}-bold")
        total, left, bold = sum(widths), set(left), set(bold)
        for index, row in enumerate(rows):
            top = y + index * row_height
            if index == 0 and head_fill:
                self.rect((x, top, x + total, top + row_height), fill=head_fill)
            elif zebra and index % 2 == 0 and index:
                self.rect((x, top, x + total, top + row_height), fill=zebra)
            if index in bold:
                self.line((x, top), (x + total, top), color=accent, width=0.8)
            head = "#ffffff" if head_fill else accent
            cell_x = x
            for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
                at, align = (cell_x + 4, "left") if column in left else (cell_x + width - 4, "right")
                self.text(
                    at,
                    top + row_height / 2 + size * 0.35,
                    cell,
                    face_name=strong if index == 0 or index in bold else regular,
                    size=size,
                    color=head if index == 0 else INK,
                    align=align,
                )
                cell_x += width
            rule = accent if index == 0 else HAIR
            self.line(
                (x, top + row_height), (x + total, top + row_height), color=rule, width=0.8 if index == 0 else 0.35
            )
        return y + len(rows) * row_height


def pour(frames: Sequence[tuple[Canvas, Box]], html: str, *, size: float, css: str = "", lead: float = 1.25) -> float:
    """Let HTML run through boxes on several pages, each filled in turn, and return the y where it ends in the last."""
    story = _story(frames[0][0].family, html, size=size, css=css, lead=lead)
    if not _place(story, frames, draw=False):
        raise ValueError(f"the text does not fit into {len(frames)} boxes: {html[:60]!r}")
    return _place(story, frames, draw=True)


def _story(family: str, html: str, *, size: float, css: str, lead: float) -> pymupdf.Story:
    rules, archive = _font_faces((family,))
    base = f"body {{margin:0; font-family:{family}; font-size:{size}pt; line-height:{lead}; color:{INK}}}"
    return pymupdf.Story(html, user_css=f"{rules}\n{base}\n{css}", archive=archive)


def _place(story: pymupdf.Story, frames: Sequence[tuple[Canvas, Box]], *, draw: bool) -> float:
    """Set a story into boxes; 0 if it is longer than they are, else the y where it ends in the last it reached."""
    story.reset()
    for canvas, box in frames:
        rect = pymupdf.Rect(0, 0, box[2] - box[0], box[3] - box[1])
        more, filled = story.place(rect)
        if draw:
            with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
                writer = pymupdf.DocumentWriter(file.name)
                story.draw(writer.begin_page(rect))
                writer.end_page()
                writer.close()
                canvas.page.show_pdf_page(pymupdf.Rect(box), pymupdf.open(file.name), 0)
        else:
            story.draw(None)
        if not more:
            return box[1] + filled[3]
    return 0


def save(
    document: pymupdf.Document,
    *,
    title: str,
    author: str,
    date: str,
    outline: Sequence[tuple[int, str, int]] = (),
    labels: Sequence[dict[str, object]] = (),
    language: str = "en",
) -> bytes:
    """The document as the same bytes on every run: fixed dates, no random file id, fonts cut to what is used.

    Args:
        document: the drawn pages.
        title: its title in the metadata.
        author: its author in the metadata.
        date: when it was made, as YYYYMMDD.
        outline: (level, title, page) of each bookmark.
        labels: page label rules as PyMuPDF takes them.
        language: language tag of its text.
    """
    stamp = f"D:{date}090000Z"
    document.set_metadata(
        {"title": title, "author": author, "creator": "sample_docs/make.py", "creationDate": stamp, "modDate": stamp}
    )
    document.set_toc([list(entry) for entry in outline])
    if labels:
        document.set_page_labels(list(labels))
    document.set_language(language)
    merged = pymupdf.open("pdf", document.tobytes(garbage=4))  # each text box brought its own copy of the fonts
    merged.subset_fonts()
    _name_arabic_glyphs(merged)
    merged.xref_set_key(-1, "ID", "null")
    return merged.tobytes(
        garbage=4, deflate=True, deflate_fonts=True, deflate_images=True, use_objstms=1, no_new_id=True
    )


@functools.cache
def _glyph_text(name: str) -> dict[int, str]:
    """The letters that each glyph of a face stands for, found by following its substitutions from the plain letters."""
    tables = TTFont(face(name))
    texts = {glyph: chr(code) for code, glyph in sorted(tables.getBestCmap().items(), reverse=True)}
    lookups = [table for lookup in tables["GSUB"].table.LookupList.Lookup for table in lookup.SubTable]
    rules: list[tuple[list[str], str]] = []
    for table in (getattr(lookup, "ExtSubTable", lookup) for lookup in lookups):
        for glyph, other in getattr(table, "mapping", {}).items():
            rules += [([glyph], other if isinstance(other, str) else other[0])]
        for first, ligatures in getattr(table, "ligatures", {}).items():
            rules += [([first, *ligature.Component], ligature.LigGlyph) for ligature in ligatures]
    known = -1
    while len(texts) > known:
        known = len(texts)
        for sources, target in rules:
            if target not in texts and all(source in texts for source in sources):
                texts[target] = "".join(texts[source] for source in sources)
    return {index: texts[glyph] for index, glyph in enumerate(tables.getGlyphOrder()) if glyph in texts}


def _name_arabic_glyphs(document: pymupdf.Document) -> None:
    """Tell readers which letters the joined Arabic shapes stand for: MuPDF knows only the plain ones."""
    for xref in range(1, document.xref_length()):
        kind, target = document.xref_get_key(xref, "ToUnicode")
        if kind != "xref" or "Amiri" not in document.xref_get_key(xref, "BaseFont")[1]:
            continue
        bold = "Bold" in document.xref_get_key(xref, "BaseFont")[1]
        texts = sorted(_glyph_text("arabic-bold" if bold else "arabic").items())
        rows = ["/CIDInit /ProcSet findresource begin 12 dict begin begincmap", "/CMapName /Adobe-Identity-UCS def"]
        rows += ["/CMapType 2 def", "1 begincodespacerange", "<0000> <FFFF>", "endcodespacerange"]
        for start in range(0, len(texts), 100):
            block = texts[start : start + 100]
            rows += [f"{len(block)} beginbfchar"]
            rows += [f"<{glyph:04x}> <{text.encode('utf-16-be').hex()}>" for glyph, text in block]
            rows += ["endbfchar"]
        document.update_stream(int(target.split()[0]), "\n".join([*rows, "endcmap end end"]).encode())
