"""Pages to learn reading from: every box holds its ink, every page can be made again, nothing is drawn wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pymupdf
import pytest
from PIL import ImageFont

from docsearch.errors import UnsupportedInput
from docsearch.finetune.eyes.pages import PageMaker, read_fonts, read_texts
from docsearch.finetune.eyes.pages.effects import apply, bent_down, skewed
from docsearch.finetune.eyes.pages.fonts import Font, codepoints, families, from_ranges, to_ranges
from docsearch.finetune.eyes.pages.glyphs import Face, Faces
from docsearch.finetune.eyes.pages.layout import KINDS
from docsearch.finetune.eyes.pages.maker import in_sight
from docsearch.finetune.eyes.pages.texts import write_shard
from docsearch.finetune.eyes.pages.typeset import MARGIN, Chars, Manner, Sheet
from docsearch.indexer.ocr import Reader
from docsearch.indexer.render import _recognise
from docsearch.types import BOX_UNIT

STYLES = ("line", "fonts", "full")
EDGE = 1.01  # px: a box is exact, a pixel is ink or is not
PROSE = """The harbour master keeps a book of every ship that enters the bay. Each entry gives the name of the vessel,
its flag, the weight of the cargo and the hour of arrival. When the wind turns to the north, small boats must wait
behind the breakwater until the signal is lifted. Fishing is allowed from the second pier between sunset and midnight.
Visitors who wish to see the old lighthouse should ask at the office for the key and return it before noon. The steps
are narrow and can be wet after rain. A yearly report lists all repairs, their cost and the firm that carried them out.
Last winter the crane was painted, two lamps were replaced and the depth of the channel was measured again."""
ENGLISH = PROSE.split()
TEXTS = {
    "en": [[" ".join(ENGLISH[at : at + 40]) for at in range(0, 120, 20)]],
    "de": [
        ["Größere Fähren überqueren die Förde täglich, außer bei Sturm.", "Öffnungszeiten und Preise", "Süße Äpfel"] * 3
    ],
    "ru": [["Каждое утро паром перевозит пассажиров через залив на другой берег.", "Расписание"] * 3],  # noqa: RUF001
    "el": [["Κάθε πρωί το πλοίο μεταφέρει επιβάτες στην απέναντι ακτή του κόλπου.", "Δρομολόγια"] * 3],
    "zh": [["港务长登记每一艘进入海湾的船只，包括船名、国旗、货物重量和到达时间。", "时刻表"] * 3],  # noqa: RUF001
    "ja": [["港長は、湾に入るすべての船の名前、旗、貨物の重さ、到着時刻を記録します。", "時刻表"] * 3],
}
SCRIPTS = {"en": "ae", "de": "öüß", "ru": "ажи", "el": "αλι", "zh": "港时", "ja": "のる"}
NEEDED = {
    *range(33, 0x250),
    0xFB00,
    0xFB01,
    0xFB02,
    0x2022,
    *map(ord, "".join(p for d in TEXTS.values() for t in d for p in t)),
}


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Font]:
    """The fonts inside PyMuPDF, as files: Helvetica, Times and Courier, and one of all scripts."""
    folder = tmp_path_factory.mktemp("fonts")
    made = {}
    names = {"sans": "helv", "bold": "hebo", "serif": "tiro", "slanted": "tiit", "mono": "cour", "world": "china-s"}
    for name, source in names.items():
        font = pymupdf.Font(source)
        path = folder / f"{name}.otf"
        path.write_bytes(font.buffer)
        large = ImageFont.truetype(path, 64, layout_engine=ImageFont.Layout.BASIC)
        inked = [code for code in font.valid_codepoints() if code in NEEDED and has_ink(large, code)]
        family = {"bold": "sans", "slanted": "serif"}.get(name, name)
        kind = "mono" if name == "mono" else "serif" if family == "serif" else "sans"
        made[name] = Font(path, 0, family, kind, name == "bold", name == "slanted", from_ranges(to_ranges(inked)))
    return made


def has_ink(font: ImageFont.FreeTypeFont, code: int) -> bool:
    left, top, right, bottom = font.getmask(chr(code)).getbbox() or (0, 0, 0, 0)
    return right > left and bottom > top


def maker(fonts: dict[str, Font], *languages: str, **changes: object) -> PageMaker:
    chosen = {language: TEXTS[language] for language in languages or ("en",)}
    options = {"height": 448, "width": 448, "seed": 3, "style": "full"} | changes
    return PageMaker(chosen, list(fonts.values()), **options)


def sheet_with(
    fonts: dict[str, Font], text: str, size: float = 22.0, name: str = "serif"
) -> tuple[np.ndarray, np.ndarray]:
    """A text in the middle of a small page: the picture, and the boxes of its characters."""
    faces = Faces(300 + 2 * MARGIN)
    sheet = Sheet(faces, 200, 300, colour=False)
    sheet.labels([text], faces.get(fonts[name], size), [60.3], [110.0])
    image, chars = sheet.finish()
    return image, chars.boxes


def ink_box(image: np.ndarray, level: int = 230) -> list[float]:
    rows, cols = np.flatnonzero((image < level).any(axis=1)), np.flatnonzero((image < level).any(axis=0))
    return [cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]


def around(boxes: np.ndarray) -> list[float]:
    return [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]


@pytest.mark.parametrize("name", ["sans", "serif", "slanted", "mono", "world"])
@pytest.mark.parametrize("size", [9.0, 13.7, 40.0])
def test_a_words_box_is_the_box_of_its_ink(fonts, name, size):
    """A failure means that the encoder is told that a word stands where it does not."""
    image, boxes = sheet_with(fonts, "Quay", size, name)

    np.testing.assert_allclose(ink_box(image), around(boxes), atol=EDGE)


@pytest.mark.parametrize("style", ["line", "fonts"])
def test_all_ink_is_in_a_box_and_every_box_is_full_of_ink(fonts, style):
    """A failure means that something is drawn that no character accounts for, or that a box is too large."""
    for number in range(6):
        page = maker(fonts, "en", "de", "ru", "ja", style=style).make(number)
        ink = page.image < 235
        boxed = np.zeros_like(ink)
        for left, top, right, bottom in page.chars.boxes:
            place = np.s_[
                max(0, int(top - EDGE)) : int(np.ceil(bottom + EDGE)),
                max(0, int(left - EDGE)) : int(np.ceil(right + EDGE)),
            ]
            boxed[place] = True
            np.testing.assert_allclose(np.array(ink_box(page.image[place], 240)) + [place[1].start, place[0].start] * 2,
                                       [left, top, right, bottom], atol=2 * EDGE)  # fmt: skip  # neighbours reach in

        assert page.chars.boxes.size
        assert not (ink & ~boxed).any()


@pytest.mark.parametrize("degrees", [-2.0, -0.7, 0.4, 2.0])
def test_boxes_turn_with_the_page(fonts, degrees):
    """A failure means that on a skewed page every box is beside its word."""
    image, boxes = sheet_with(fonts, "Harbour")

    turned, moved = skewed(image, boxes, degrees, scale=0.98)

    np.testing.assert_allclose(
        ink_box(turned), around(moved), atol=EDGE + 0.5
    )  # a round letter does not fill its corners
    assert abs(np.array(around(moved)) - around(boxes)).max() > 0.4


@pytest.mark.parametrize(("depth", "waves", "phase"), [(6.0, 0.3, 0.0), (5.0, 1.0, 2.0)])
def test_boxes_sag_with_the_page(fonts, depth, waves, phase):
    """A failure means that on a bent page boxes are above or below their words."""
    image, boxes = sheet_with(fonts, "Harbour")

    bent, moved = bent_down(image, boxes, depth, waves, phase)

    np.testing.assert_allclose(ink_box(bent), around(moved), atol=EDGE + 0.5)
    assert abs(np.array(around(moved)) - around(boxes)).max() > 1


@pytest.mark.parametrize("style", STYLES)
def test_the_same_number_is_the_same_page(fonts, style):
    """A failure means that a training run cannot be repeated, or sees one page over and over."""
    one, other = maker(fonts, "en", "de", style=style), maker(fonts, "en", "de", style=style)

    pages = [one.make(number) for number in range(6)]
    again = [other.make(number) for number in reversed(range(6))][::-1]  # in another order, with other glyphs kept
    elsewhere = maker(fonts, "en", "de", style=style, seed=4).make(0)

    for page, same in zip(pages, again, strict=True):
        assert page.image.tobytes() == same.image.tobytes()
        assert page.chars.boxes.tobytes() == same.chars.boxes.tobytes()
        assert (page.words.texts, page.info) == (same.words.texts, same.info)
    assert len({page.image.tobytes() for page in [*pages, elsewhere]}) == 7


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1120, 784), (448, 448), (224, 448), (112, 56)])
def test_words_and_characters_say_the_same(fonts, height, width, colour):
    """A failure means that targets for characters and for words contradict each other."""
    some = maker(fonts, "en", "ru", "zh", height=height, width=width, colour=colour)
    for number in range(8):
        page = some.make(number)
        letters = page.chars.codepoints.tobytes().decode("utf-32-le")
        word_boxes = page.words.boxes / BOX_UNIT * [width, height, width, height]

        assert page.image.shape == ((height, width, 3) if colour else (height, width))
        assert page.image.dtype == np.uint8
        assert "".join(page.words.texts) == letters
        assert [len(word) for word in page.words.texts] == np.bincount(
            page.chars.words, minlength=len(page.words.texts)
        ).tolist()
        assert not any(char.isspace() for char in letters)
        inside = page.chars.boxes
        assert ((inside >= 0) & (inside <= [width, height, width, height])).all()
        assert (word_boxes[page.chars.words, :2] <= inside[:, :2] + 0.02).all()
        assert (word_boxes[page.chars.words, 2:] >= inside[:, 2:] - 0.02).all()


def test_what_is_moved_off_the_page_is_not_said_to_be_on_it():
    """A failure means that the encoder is told of words nobody can see."""
    boxes = np.array([[x, 5, x + 10, 15] for x in (-20, -12, -3, 20, 88, 96)], np.float32)
    letters = Chars(codepoints("abcdef"), boxes, np.array([0, 0, 0, 1, 1, 2], np.int32))

    seen, texts = in_sight(letters, ["abc", "de", "f"], 40, 100)
    nothing, no_texts = in_sight(letters, ["abc", "de", "f"], 4, 100)

    assert texts == ("c", "de")
    assert seen.words.tolist() == [0, 1, 1]
    assert seen.boxes[:, [0, 2]].tolist() == [[0, 7], [20, 30], [88, 98]]
    assert (no_texts, nothing.codepoints.size) == ((), 0)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("language", TEXTS)
def test_every_style_writes_every_script(fonts, style, language):
    """A failure means that the encoder never sees a script it is asked to read."""
    some = maker(fonts, language, style=style)

    seen = "".join("".join(some.make(number).words.texts) for number in range(12))

    assert set(SCRIPTS[language]) <= set(seen)


def test_every_kind_of_page_is_made(fonts):
    """A failure means that forms, tables or slides are missing from what the encoder learns."""
    some = maker(fonts, "en", height=1120, width=784)
    kinds = Counter(some.make(number).info["kind"] for number in range(60))

    assert set(kinds) == set(KINDS)


def test_plain_pages_read_as_they_were_written(fonts):
    """A failure means that words come in another order than a reader's."""
    text = [f"word{number}" for number in range(400)]
    page = PageMaker({"en": [[" ".join(text)]]}, [fonts["sans"]], height=448, width=448, style="line").make(0)

    assert page.words.texts == tuple(text[: len(page.words.texts)])
    assert len(page.words.texts) > 30


def test_a_character_without_a_glyph_is_never_drawn(fonts):
    """A failure means that pages have empty boxes where the text has letters."""
    texts = {"en": [[" ".join(ENGLISH), *["The first word 中文 mixed中 and then plain again."] * 40]]}
    makers = [PageMaker(texts, [fonts["sans"]], height=300, width=300, style=style) for style in STYLES]
    for page in (some.make(number) for some in makers for number in range(6)):
        assert fonts["sans"].has[page.chars.codepoints].all()
        assert not set("".join(page.words.texts)) & set("中文")
    with pytest.raises(ValueError, match="中"):
        Face(fonts["sans"], 20, 100).glyphs(codepoints("中"))


def test_a_language_no_font_can_set_is_refused(fonts):
    """A failure means that a training run goes on without one of its languages."""
    with pytest.raises(ValueError, match="'zh'"):
        PageMaker({"zh": TEXTS["zh"]}, [fonts["sans"]], height=100, width=100)


def test_held_out_fonts_are_in_no_training_page(fonts, tmp_path):
    """A failure means that reading of unseen fonts is measured on fonts that were seen."""
    entries = [
        {"path": str(font.path), "part": "held-out" if font.family == "serif" else "train", "family": font.family,
         "face": 0, "kind": font.kind, "bold": font.bold, "italic": font.italic,
         "has": to_ranges(np.flatnonzero(font.has).tolist())}
        for font in fonts.values()
    ]  # fmt: skip
    (tmp_path / "fonts.json").write_text(json.dumps({"fonts": entries}))

    train, held_out = read_fonts(tmp_path), read_fonts(tmp_path, part="held-out")
    some = maker({font.path.name: font for font in train}, "en", "de")
    used: set[Path] = set()
    for number in range(40):
        some.make(number)
        used |= {Path(path) for path, _, _ in some._faces._faces}

    assert {font.family for font in held_out} == {"serif"}
    assert used <= {font.path for font in train}
    assert len(used) >= 3
    assert not used & {font.path for font in held_out}


@pytest.mark.parametrize("part", ["train", "held-out"])
def test_texts_are_read_as_they_were_written(tmp_path, part):
    """A failure means that what is learned is not what was collected."""
    write_shard(tmp_path / f"de-{part}.jsonl.xz", {"a": TEXTS["de"][0], "b": ["Noch eins."]})

    assert read_texts(tmp_path, part=part) == {"de": [tuple(TEXTS["de"][0]), ("Noch eins.",)]}
    with pytest.raises(UnsupportedInput, match="fr"):
        read_texts(tmp_path, part=part, languages=["de", "fr"])


def test_the_collected_texts_are_whole_paragraphs(monkeypatch):
    """A failure means that pages show mark-up instead of text."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "tools"))
    from eyes_texts import clean, read_markup, read_roff, split

    html = "<head><title>x</title></head><h1>On&nbsp;tides</h1><p>Water <b>rises</b>\n twice.</p><pre>ls</pre>"
    roff = (
        '.TH TIDE 1\n.SH "NAME"\ntide \\- shows \\fBhigh\\fR water\n.TP\n.BR \\-v , \\-\\-all\nSay all.\n.nf\nls\n.fi'
    )
    sentences = [f"Satz {number} ist lang genug." for number in range(20)]
    found = {"a": ["Nur auf  Deutsch.", "Left in English.", "Nur auf Deutsch.", *sentences]}

    assert [text for text in read_markup(html) if text.strip()] == ["On\xa0tides", "Water rises\n twice."]
    assert [text for text in read_roff(roff) if text] == ["NAME", "tide - shows high water", "-v,--all Say all."]
    assert clean(found, "de", {"Left in English."})["a"][:2] == ["Nur auf Deutsch.", "Satz 0 ist lang genug."]
    parts = split({f"document {number}": ["text"] for number in range(400)})
    assert 8 <= len(parts["held-out"]) <= 36
    assert not parts["held-out"].keys() & parts["train"].keys()


def test_folders_without_texts_or_fonts_are_named(tmp_path):
    """A failure means that a mistyped folder is trained on as if it were empty."""
    with pytest.raises(UnsupportedInput, match="eyes_texts"):
        read_texts(tmp_path)
    with pytest.raises(UnsupportedInput, match="eyes_fonts"):
        read_fonts(tmp_path)


def test_justified_lines_fill_the_column_and_hyphens_join_again(fonts):
    """A failure means that broken lines lose letters, or that they do not look like those of books."""
    faces = Faces(400 + 2 * MARGIN)
    sheet = Sheet(faces, 400, 400, colour=False)
    text = " ".join(ENGLISH[:60])
    manner = Manner(face=faces.get(fonts["serif"], 16), align="justify", hyphens=True)

    bottom, rest = sheet.paragraph(text, manner, (50, 20, 250, 390))
    _, chars = sheet.finish()

    joined = " ".join(sheet.texts).replace("- ", "")
    assert joined == text
    assert rest == ""
    assert any(word.endswith("-") for word in sheet.texts)
    n_lines = round((bottom - 20) / (1.3 * manner.face.size))
    assert n_lines >= 10
    assert n_lines - 1 <= (chars.boxes[:, 0] < 52).sum() <= n_lines
    assert (chars.boxes[:, 2] > 247).sum() >= n_lines - 1  # all but the last


def test_what_does_not_fit_comes_back(fonts):
    """A failure means that text is lost between two columns."""
    faces = Faces(400 + 2 * MARGIN)
    sheet = Sheet(faces, 400, 400, colour=False)
    text = " ".join(ENGLISH)

    _, rest = sheet.paragraph(text, Manner(face=faces.get(fonts["sans"], 16)), (10, 10, 200, 100))
    sheet.paragraph(rest, Manner(face=faces.get(fonts["sans"], 16)), (210, 10, 390, 4000))

    assert sheet.texts == ENGLISH


def test_a_ligature_is_still_two_letters(fonts):
    """A failure means that "fi" drawn as one sign is read as one letter, or that its letters have no place."""
    assert fonts["serif"].has[0xFB01]
    drawn = {}
    for ligatures in (False, True):
        faces = Faces(300 + 2 * MARGIN)
        sheet = Sheet(faces, 200, 300, colour=False)
        sheet.paragraph("finest", Manner(face=faces.get(fonts["serif"], 40), ligatures=ligatures), (50, 50, 290, 190))
        drawn[ligatures] = (*sheet.finish(), sheet.texts)
    (plain, _, _), (joined, chars, texts) = drawn[False], drawn[True]

    assert texts == ["finest"]
    assert (plain != joined).any()
    assert chars.boxes[0, 2] == pytest.approx(chars.boxes[1, 0], abs=0.25)  # both stand at quarters of a pixel
    np.testing.assert_allclose(ink_box(joined), around(chars.boxes), atol=EDGE)


def test_tesseract_reads_the_pages(fonts):
    """A failure means that what is drawn is not what the words say: an independent reader decides."""
    texts = {"en": [[" ".join(Random(number).sample(ENGLISH, 60)) for number in range(10)]]}
    page = PageMaker(texts, [fonts["serif"]], height=560, width=784, style="line").make(1)

    read = Reader(_recognise).read(np.repeat(page.image[:, :, None], 3, axis=2))
    common = Counter(read.texts) & Counter(page.words.texts)

    assert len(page.words.texts) > 90
    assert sum(common.values()) >= 0.95 * len(page.words.texts)


def test_effects_leave_the_words_where_they_are_said_to_be(fonts):
    """A failure means that one of the effects moves ink without its box."""
    image, boxes = sheet_with(fonts, "Harbour", 30.0)
    names: set[str] = set()
    for seed in range(80):
        changed, moved, done = apply(image, boxes, np.random.default_rng(seed), size=30.0)
        names |= set(done)
        if {"noise", "specks", "bleed", "shade"} & set(done):
            continue
        light, dark = int(changed.max()), int(changed.min())
        found = ink_box(changed, light - (light - dark) // 3)
        np.testing.assert_allclose(found, around(moved), atol=2.2)

    assert names >= {"bleed", "fade", "skew", "bend", "blur", "shade", "noise", "specks", "jpeg", "coarse", "threshold"}


@pytest.mark.parametrize("name", ["sans", "serif", "mono", "world"])
def test_letters_look_and_stand_as_in_a_rendered_pdf(fonts, name):
    """A failure means that the encoder learns letters, or distances between them, that no real page has."""
    text, size = "Quay 7, harbour (west)", 24.0
    faces = Faces(400 + 2 * MARGIN)
    sheet = Sheet(faces, 80, 400, colour=False)
    face = faces.get(fonts[name], size)
    sheet.labels([text], face, [20], [50])
    ours, _ = sheet.finish()
    with pymupdf.open() as document:
        page = document.new_page(width=400, height=80)
        writer = pymupdf.TextWriter(page.rect)
        writer.append((20, 50 - face.lift), text, font=pymupdf.Font(fontfile=str(fonts[name].path)), fontsize=face.size)
        writer.write_text(page)
        theirs = page.get_pixmap(colorspace=pymupdf.csGRAY).samples
    reference = np.frombuffer(theirs, np.uint8).reshape(80, 400)

    ink, expected = (255.0 - picture.astype(float) for picture in (ours, reference))
    assert np.corrcoef(ink.ravel(), expected.ravel())[0, 1] > 0.95  # half a pixel aside is 0.88
    assert ink.sum() == pytest.approx(expected.sum(), rel=0.05)
    np.testing.assert_allclose(ink_box(ours), ink_box(reference), atol=1)


def test_families_hold_their_faces_together(fonts):
    """A failure means that bold and italic words come in another font."""
    found = {family.name: family for family in families(list(fonts.values()))}

    assert found["sans"].face(bold=True) is fonts["bold"]
    assert found["serif"].face(italic=True) is fonts["slanted"]
    assert found["mono"].face(bold=True, italic=True) is fonts["mono"]
