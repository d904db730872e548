"""Rendering: the words are where the image shows them, and a file that cannot be read says why."""

import io
import warnings

import numpy as np
import pymupdf
import pytest
from PIL import Image

from docsearch.errors import UnsupportedInput
from docsearch.indexer.ocr import Reader
from docsearch.indexer.render import (
    RenderOptions,
    clean_words,
    open_document,
    render_page_image,
    render_pages,
)
from docsearch.types import BOX_UNIT

WORDS_ONLY = RenderOptions(ocr="off")
WITH_IMAGE = RenderOptions(ocr="off", needs_image=True, dpi=100)


def save(document, tmp_path, name="file.pdf", **options):
    path = tmp_path / name
    document.save(path, **options)
    return path


def planted_pdf(words=("PLANTED",), width=400, height=600):
    """One page with a word at each of some places, and nothing else."""
    document = pymupdf.open()
    page = document.new_page(width=width, height=height)
    for word, at in zip(words, [(60, 100), (220, 300), (100, 500)], strict=False):
        page.insert_text(at, word, fontsize=20)
    return document


def scan_of(document, *, dpi=150, angle=0.0, noise=0.0):
    """The same pages as pictures without text, as a scanner would give them."""
    scanned = pymupdf.open()
    for page in document:
        pixmap = page.get_pixmap(dpi=dpi)
        image = Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
        pixels = np.asarray(image.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white"), np.float64)
        pixels += np.random.default_rng(0).normal(0, noise, pixels.shape) if noise else 0
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        target = scanned.new_page(width=page.rect.width, height=page.rect.height)
        target.insert_image(target.rect, stream=buffer.getvalue())
    return scanned


def only_page(path, options=WORDS_ONLY, **more):
    (page,) = render_pages(path, doc_id="0" * 64, options=options, **more)
    return page


def ink_in_box(page, row):
    """Share of dark pixels inside the box of a word, and of all dark pixels how many are in it."""
    height, width = page.image.shape[:2]
    left, top, right, bottom = page.words.boxes[row] / BOX_UNIT * (width, height, width, height)
    dark = page.image.min(axis=2) < 128
    inside = dark[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
    return inside.mean(), inside.sum() / max(dark.sum(), 1)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (40, 60, 300, 420)])
def test_a_words_box_covers_its_ink(tmp_path, rotation, crop):
    """A failure means highlights point at the wrong place on turned or cropped pages."""
    document = planted_pdf()
    page = document[0]
    if crop:
        page.set_cropbox(pymupdf.Rect(crop))
    page.set_rotation(rotation)
    rendered = only_page(save(document, tmp_path), WITH_IMAGE)

    assert rendered.words.texts == ("PLANTED",)
    inked, of_all = ink_in_box(rendered, 0)
    assert inked > 0.1
    assert of_all > 0.99
    width, height = (crop[2] - crop[0], crop[3] - crop[1]) if crop else (400, 600)
    assert (rendered.width_pt, rendered.height_pt) == ((width, height) if rotation % 180 == 0 else (height, width))


def test_words_outside_the_visible_page_are_not_on_it(tmp_path):
    """A failure means hits for text no reader can see, with boxes beyond the page."""
    document = planted_pdf(("ONE", "TWO", "THREE"))
    document[0].set_cropbox(pymupdf.Rect(40, 60, 300, 320))
    page = only_page(save(document, tmp_path))
    assert page.words.texts == ("ONE", "TWO")


def test_page_labels_beyond_ascii_are_readable(tmp_path):
    """A failure means citations such as `p. <FEFF00A7002D0031>` where the book prints `§-1`."""
    document = pymupdf.open()
    for _ in range(2):
        document.new_page()
    prefix = "<FEFF" + "§-".encode("utf-16-be").hex() + ">"  # as TeX writes it
    labels = f"<</Nums [0 <</S /D /P {prefix}>>]>>"
    document.xref_set_key(document.pdf_catalog(), "PageLabels", labels)
    pages = list(render_pages(save(document, tmp_path), doc_id="d"))
    assert [page.page_label for page in pages] == ["§-1", "§-2"]


def test_page_labels_are_the_documents_own(tmp_path):
    """A failure means citations with page numbers that are not the printed ones."""
    document = pymupdf.open()
    for _ in range(4):
        document.new_page()
    document.set_page_labels(
        [{"startpage": 0, "style": "r", "firstpagenum": 1}, {"startpage": 2, "style": "D", "prefix": "A-"}]
    )
    pages = list(render_pages(save(document, tmp_path), doc_id="d"))
    assert [page.page_label for page in pages] == ["i", "ii", "A-1", "A-2"]
    assert [page.ref.page_number for page in pages] == [1, 2, 3, 4]
    assert only_page(save(planted_pdf(), tmp_path, "plain.pdf")).page_label == ""


def test_only_asked_for_pages_and_pixels_are_rendered(tmp_path):
    """A failure means wasted hours: pixels for an encoder that reads words, or pages that are there already."""
    document = pymupdf.open()
    for number in range(1, 6):
        document.new_page().insert_text((72, 72), f"number{number}")
    path = save(document, tmp_path)
    pages = list(render_pages(path, doc_id="d", pages=[2, 5], options=WORDS_ONLY))
    assert [page.words.text for page in pages] == ["number2", "number5"]
    assert [page.image for page in pages] == [None, None]


def test_title_and_form_fields_are_read(tmp_path):
    """A failure means filled-in forms cannot be found by what was filled in."""
    document = pymupdf.open()
    document.set_metadata({"title": " Annual\nreport "})
    widget = pymupdf.Widget()
    widget.field_type, widget.field_name = pymupdf.PDF_WIDGET_TYPE_TEXT, "name"
    widget.field_value, widget.rect = "Okafor", pymupdf.Rect(50, 50, 200, 80)
    document.new_page().add_widget(widget)
    path = save(document, tmp_path)
    with open_document(path) as opened:
        assert (opened.title, opened.page_count) == ("Annual report", 1)
        assert opened.render(1, doc_id="d", options=WORDS_ONLY).words.texts == ("Okafor",)
    assert path.stat().st_size == opened.size


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("plain", ["plain"]),
        ("a\u00a0b\u3000c\u2028d", ["a", "b", "c", "d"]),
        ("so\u00adft", ["soft"]),
        ("nul\0l\x07", ["null"]),
        ("\ud800x", ["x"]),
        ("e\u0301te\u0301", ["\u00e9t\u00e9"]),
        ("\ufffd\ufffd", []),
        ("\uf0b7", []),
        ("\u200bz\u200e\ufeff", ["z"]),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"]),
        ("\x1f \t", []),
        ("\u4e2d\u6587", ["\u4e2d\u6587"]),
    ],
)
def test_words_hold_letters_and_no_white_space(raw, clean):
    """A failure means text that cannot be stored, split, or found by typing it."""
    words = clean_words(["before", raw, "after"], np.tile([0.1, 0.2, 0.9, 0.3], (3, 1)))
    assert list(words.texts) == ["before", *clean, "after"]
    assert " ".join(words.texts).split() == list(words.texts)
    words.text.encode()


def test_a_split_words_parts_share_its_box():
    """A failure means a match on one part highlights another."""
    words = clean_words(["ab\u00a0cdef"], np.array([[0.0, 0.5, 0.7, 0.6]]))
    assert words.texts == ("ab", "cdef")
    np.testing.assert_allclose(words.boxes[:, [0, 2]] / BOX_UNIT, [[0, 0.2], [0.3, 0.7]], atol=2e-5)


def test_ligatures_and_soft_hyphens_are_undone(tmp_path):
    """A failure means "office" is not found where the font joins its letters."""
    document = pymupdf.open()
    page = document.new_page()
    page.insert_htmlbox(page.rect, "o\ufb03ce \ufb01ne infor\u00admation")
    assert only_page(save(document, tmp_path)).words.texts == ("office", "fine", "information")


# -- files that cannot be read


def cut(data):
    return data[: len(data) // 3]


def page_tree_loop():
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[2 0 R]/Count 3>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
    )


def no_pages():
    catalog = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    pages = b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
    table = f"xref\n0 3\n0000000000 65535 f \n{9:010} 00000 n \n{len(catalog):010} 00000 n \n".encode()
    end = f"trailer<</Root 1 0 R/Size 3>>\nstartxref\n{len(catalog + pages)}\n%%EOF\n".encode()
    return catalog + pages + table + end


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("nothing.pdf", b"", "empty", "no bytes"),
        ("none.pdf", no_pages(), "empty", "no pages"),
        ("page.pdf", b"<!DOCTYPE html><html>404</html>", "unsupported", "web page"),
        ("text.pdf", b"just text", "unsupported", "neither a PDF"),
        ("deck.pdf", b"PK\x03\x04....", "unsupported", "office document"),
        ("head.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "corrupt", "damaged"),
        ("noise.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 40, "corrupt", "damaged"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00", "corrupt", "damaged"),
        ("cut.tif", b"II*\0\xff\xff\xff\x7f", "corrupt", "damaged"),
    ],
)
def test_files_that_are_no_documents_say_why(tmp_path, name, content, code, words):
    """A failure means a bad file ends the run, or the user is told the wrong remedy."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnsupportedInput, match=words) as caught:
        open_document(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_a_page_tree_that_loops_ends(tmp_path):
    """A failure means a hostile PDF hangs the indexer."""
    path = tmp_path / "loop.pdf"
    path.write_bytes(page_tree_loop())
    with pytest.raises(UnsupportedInput) as caught:
        list(render_pages(path, doc_id="d"))
    assert caught.value.code in {"corrupt", "render_error"}


def test_a_truncated_pdf_keeps_what_is_left_or_says_corrupt(tmp_path):
    """A failure means half a download ends the run, or whole pages in it are thrown away."""
    document = pymupdf.open()
    for number in range(20):
        document.new_page().insert_text((72, 72), f"page{number} " + "filler " * 10)
    data = document.tobytes(deflate=True)
    path = tmp_path / "half.pdf"
    outcomes = set()
    for share in (0.05, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        try:
            outcomes.add(sum(page.words.text.startswith("page") for page in render_pages(path, doc_id="d")))
        except UnsupportedInput as error:
            outcomes.add(error.code)
    assert "corrupt" in outcomes
    assert max(outcome for outcome in outcomes if isinstance(outcome, int)) >= 10


def test_a_missing_or_too_large_file_says_so(tmp_path):
    """A failure means a vanished file is reported as damaged, or a huge one fills the memory."""
    with pytest.raises(UnsupportedInput, match="vanished") as caught:
        open_document(tmp_path / "gone.pdf")
    assert caught.value.code == "render_error"
    path = save(planted_pdf(), tmp_path)
    with pytest.raises(UnsupportedInput, match="--max-file-mb") as caught:
        open_document(path, max_file_mb=1e-4)
    assert caught.value.code == "too_large"


def test_passwords(tmp_path):
    """A failure means locked files are read as empty, or cannot be read with the right password."""
    path = save(planted_pdf(), tmp_path, encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="sesame", owner_pw="boss")
    with pytest.raises(UnsupportedInput, match="it needs a password") as caught:
        open_document(path)
    assert caught.value.code == "password_required"
    with pytest.raises(UnsupportedInput, match="none of the given passwords") as caught:
        open_document(path, ["wrong", ""])
    assert caught.value.code == "password_required"
    for password in ("sesame", "boss"):
        assert only_page(path, passwords=["wrong", password]).words.texts == ("PLANTED",)
    owner_only = save(planted_pdf(), tmp_path, "open.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, owner_pw="boss")
    assert only_page(owner_only).words.texts == ("PLANTED",)


def pages_that_count_wrong(claimed):
    document = pymupdf.open()
    for number in range(3):
        document.new_page().insert_text((72, 72), f"good{number}")
    tree = int(document.xref_get_key(document.pdf_catalog(), "Pages")[1].split()[0])
    document.xref_set_key(tree, "Count", str(claimed))
    return document


def test_one_bad_page_does_not_hide_the_others(tmp_path):
    """A failure means one damaged page loses a document."""
    path = save(pages_that_count_wrong(5), tmp_path)
    good, bad = [], []
    with open_document(path) as opened:
        for number in range(1, opened.page_count + 1):
            try:
                good.append(opened.render(number, doc_id="d", options=WORDS_ONLY).words.text)
            except UnsupportedInput as error:
                bad.append((number, error.code))
    assert good == ["good0", "good1", "good2"]
    assert bad == [(4, "render_error"), (5, "render_error")]
    with open_document(path) as opened, pytest.raises(UnsupportedInput, match="there is no page 99"):
        opened.render(99, doc_id="d", options=WORDS_ONLY)


@pytest.mark.parametrize("claimed", [99_999, 19])
def test_a_lie_about_the_number_of_pages_is_not_believed(tmp_path, claimed):
    """A failure means a PDF of 1 kB keeps the indexer busy with thousands of pages that are not there."""
    path = tmp_path / "liar.pdf"
    path.write_bytes(pages_that_count_wrong(5).tobytes().replace(b"/Count 5", f"/Count {claimed}".encode()))
    with pytest.raises(UnsupportedInput, match=r"claims 19 pages|Invalid number of pages") as caught:
        open_document(path)
    assert caught.value.code == "corrupt"


# -- sizes


def test_a_huge_page_stays_within_its_pixels(tmp_path):
    """A failure means one plan of 200 by 200 inches takes gigabytes."""
    document = planted_pdf(width=14400, height=14400)
    page = only_page(
        save(document, tmp_path), RenderOptions(needs_image=True, dpi=150, max_pixels=1_000_000, ocr="off")
    )
    height, width = page.image.shape[:2]
    assert 980_000 < height * width <= 1_010_000
    assert page.dpi == pytest.approx(5, abs=0.1)
    assert page.words.texts == ("PLANTED",)


def test_a_page_image_is_what_is_shown(tmp_path):
    """A failure means hits are shown with the wrong picture."""
    document = planted_pdf(width=288, height=144)
    document[0].draw_rect(pymupdf.Rect(0, 0, 144, 144), fill=(1, 0, 0), color=None)
    path = save(document, tmp_path)
    image = render_page_image(path, 1, dpi=72)
    assert image.shape == (144, 288, 3)
    assert image.dtype == np.uint8
    assert image[10, 10].tolist() == [255, 0, 0]
    assert image[10, 280].tolist() == [255, 255, 255]
    assert render_page_image(path, 1, dpi=72, max_pixels=10_000).shape[0] < 100


# -- images as documents


def test_each_frame_of_a_tiff_is_a_page(tmp_path):
    """A failure means all but the first page of a fax or a multi-page scan are lost."""
    frames = [Image.new("L", (200, 100 + 50 * number), 40 * number) for number in range(3)]
    path = tmp_path / "scan.TIF"
    frames[0].save(path, save_all=True, append_images=frames[1:], dpi=(200, 200))
    pages = list(render_pages(path, doc_id="d", options=RenderOptions(needs_image=True, dpi=200, ocr="off")))
    assert [page.image.shape for page in pages] == [(100, 200, 3), (150, 200, 3), (200, 200, 3)]
    assert [int(page.image.mean()) for page in pages] == [0, 40, 80]
    assert (pages[0].width_pt, pages[0].height_pt) == (72, 36)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(tmp_path, orientation):
    """A failure means photographs taken with the phone held upright are read lying down."""
    upright = Image.new("RGB", (90, 60), "white")
    upright.paste("red", (0, 0, 45, 30))  # the top left quarter
    stored_as = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = upright
    for method in stored_as:
        stored = stored.transpose(method)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    stored.save(path, exif=exif, quality=95)
    page = only_page(path, RenderOptions(needs_image=True, dpi=1000, ocr="off"))
    assert page.image.shape == (60, 90, 3)
    assert page.image[15, 20, 1] < 60
    assert page.image[45, 70, 1] > 200
    assert page.width_pt / page.height_pt == pytest.approx(1.5)


def test_transparency_and_deep_colours_become_plain_pixels(tmp_path):
    """A failure means black pages where a drawing is transparent, or a 16-bit scan is all white."""
    options = RenderOptions(needs_image=True, dpi=2000, ocr="off")
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert only_page(tmp_path / "clear.png", options).image.min() == 255
    deep = np.full((30, 40), 60_000, np.uint16)
    deep[:, :20] = 2_000
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    image = only_page(tmp_path / "deep.tif", options).image
    assert image[5, 5, 0] < 30
    assert image[5, 35, 0] > 225
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "small.webp", lossless=True)
    assert only_page(tmp_path / "small.webp", options).image[5, 5].tolist() == [0, 0, 255]


def test_a_picture_with_too_many_pixels_is_refused(tmp_path, monkeypatch):
    """A failure means a few kilobytes of a hostile image fill the memory."""
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnsupportedInput, match="too many pixels") as caught:
            open_document(path)
    assert caught.value.code == "too_large"


# -- pages whose text has to be read from their picture

PROSE = {
    "eng": "The lease of the house in Harbour Street is signed by the tenant and by the owner for a term of ten years "
    "and the rent is to be paid on the first day of each month with the deposit that was agreed upon before",
    "deu": "Der Vertrag über die Wohnung in der Königstraße wird von dem Mieter und der Eigentümerin für zehn Jahre "
    "geschlossen und die Miete ist am ersten Tag jedes Monats fällig wie es im Anhang zu diesem Vertrag steht",
}


def prose_pdf(language="eng", columns=1, size=13):
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    width = 480 / columns
    for column in range(columns):
        left = 60 + column * (width + 20)
        text = f"{PROSE[language]} {('lefthand', 'righthand')[column]} " * 3
        page.insert_htmlbox(pymupdf.Rect(left, 80, left + width - 20, 700), f"<p style='font-size:{size}px'>{text}</p>")
    return document


def found_share(page, text):
    """How many of the different words of a text are among the words of a page."""
    wanted = set(text.lower().split())
    return len(wanted & {word.lower().strip(".,") for word in page.words.texts}) / len(wanted)


def with_image(**more):
    return RenderOptions(needs_image=True, dpi=100, **more)


@pytest.mark.parametrize(("angle", "noise"), [(0, 0), (2.5, 0), (-3, 20)])
def test_a_scan_is_read_even_askew_and_noisy(tmp_path, angle, noise):
    """A failure means ordinary scans cannot be found by what they say, or highlights miss the words."""
    path = save(scan_of(prose_pdf(), angle=angle, noise=noise), tmp_path)
    page = only_page(path, with_image())
    assert page.text_source == "ocr"
    assert found_share(page, PROSE["eng"]) > 0.9
    row = page.words.texts.index("Harbour")
    inked, _ = ink_in_box(page, row)
    left, top, right, bottom = page.words.boxes[row] / BOX_UNIT * (595, 842, 595, 842)
    assert inked > 0.08
    assert 35 < right - left < 70
    assert 8 < bottom - top < 25


def test_highlights_on_a_turned_scan_hit_the_word(tmp_path):
    """A failure means boxes are given for the straightened picture instead of the page that is shown."""
    document = planted_pdf(("LIGHTHOUSE",), width=595, height=842)
    document[0].insert_htmlbox(pymupdf.Rect(60, 200, 540, 700), PROSE["eng"] * 2)
    (expected,) = document[0].search_for("LIGHTHOUSE")
    centre = np.array([expected.x0 + expected.x1, expected.y0 + expected.y1]) / 2
    for angle in (-3.0, 3.0):
        page = only_page(save(scan_of(document, angle=angle), tmp_path, f"{angle}.pdf"), RenderOptions())
        turn = np.radians(angle)  # to the left about the page's centre, y pointing down
        offset = centre - (297.5, 421)
        turned = offset @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + (297.5, 421)
        box = page.words.boxes[page.words.texts.index("LIGHTHOUSE")]
        left, top, right, bottom = box / BOX_UNIT * (595, 842, 595, 842)
        np.testing.assert_allclose([(left + right) / 2, (top + bottom) / 2], turned, atol=4)


@pytest.mark.parametrize("turns", [1, 2])
def test_a_page_scanned_the_wrong_way_round_is_read(tmp_path, turns):
    """A failure means pages put into the scanner sideways or upside down are noise in the index."""
    path = picture_file(tmp_path, np.rot90(pixels_of(prose_pdf()), turns))
    page = only_page(path, RenderOptions(needs_image=True, dpi=300))
    assert found_share(page, PROSE["eng"]) > 0.9
    inked, _ = ink_in_box(page, page.words.texts.index("Harbour"))
    assert inked > 0.08


def pixels_of(document, dpi=150):
    pixmap = document[0].get_pixmap(dpi=dpi)
    return np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.width, 3)


def picture_file(tmp_path, pixels):
    path = tmp_path / "picture.png"
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path


def test_a_photographed_page_in_shadow_is_read(tmp_path):
    """A failure means photographs of pages on which a shadow falls lose the words there."""
    pixels = pixels_of(prose_pdf())
    shadow = np.where(np.arange(pixels.shape[1]) > 500, 0.35, 1.0)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 8, (*pixels.shape[:2], 1))
    page = only_page(picture_file(tmp_path, pixels * shadow + noise), RenderOptions())
    assert found_share(page, PROSE["eng"]) > 0.95


def test_small_print_in_strong_noise_is_read(tmp_path):
    """A failure means footnotes of worn copies are lost."""
    image = Image.fromarray(pixels_of(prose_pdf(size=7), dpi=200))
    pixels = np.asarray(image.rotate(2.5, Image.Resampling.BICUBIC, fillcolor="white"), np.float64)
    noise = np.random.default_rng(0).normal(0, 40, (*pixels.shape[:2], 1))
    page = only_page(picture_file(tmp_path, pixels + noise), RenderOptions())
    assert found_share(page, PROSE["eng"]) > 0.9


def test_another_language_is_noticed(tmp_path):
    """A failure means German scans are indexed without their umlauts: "Konigstrabe"."""
    page = only_page(save(scan_of(prose_pdf("deu")), tmp_path), RenderOptions())
    assert found_share(page, PROSE["deu"]) > 0.95
    assert {"Königstraße", "Eigentümerin", "fällig"} <= set(page.words.texts)


def test_columns_are_read_one_after_the_other(tmp_path):
    """A failure means the lines of two columns are read across, and no sentence of a scanned paper is whole."""
    page = only_page(save(scan_of(prose_pdf(columns=2)), tmp_path), RenderOptions())
    ends = [text for text in page.words.texts if text.endswith("thand")]
    assert ends == ["lefthand"] * 3 + ["righthand"] * 3


def test_small_pictures_are_enlarged(tmp_path):
    """A failure means thumbnails and screenshots are not read."""
    page = only_page(picture_file(tmp_path, pixels_of(prose_pdf(), dpi=50)), RenderOptions())
    assert found_share(page, PROSE["eng"]) > 0.95


def no_ocr(monkeypatch):
    def refuse(*_):
        raise AssertionError("this page needs no OCR")

    monkeypatch.setattr(Reader, "read", refuse)


def test_a_page_with_text_is_never_read_from_its_picture(tmp_path, monkeypatch):
    """A failure means born-digital pages cost seconds instead of milliseconds, and lose exact words."""
    no_ocr(monkeypatch)
    page = only_page(save(prose_pdf(), tmp_path), RenderOptions())
    assert page.text_source == "layer"
    assert found_share(page, PROSE["eng"]) == 1
    few = only_page(save(planted_pdf(), tmp_path, "few.pdf"), RenderOptions())
    assert few.words.texts == ("PLANTED",)
    blank = pymupdf.open()
    blank.new_page()
    page = only_page(save(blank, tmp_path, "blank.pdf"), RenderOptions())
    assert (page.words.texts, page.text_source) == ((), "none")
    scan = only_page(save(scan_of(planted_pdf()), tmp_path, "scan.pdf"), RenderOptions(ocr="off"))
    assert (scan.words.texts, scan.text_source) == ((), "none")


def test_a_scan_with_a_searchable_layer_keeps_it(tmp_path, monkeypatch):
    """A failure means scans that were read before are read again, on every page."""
    no_ocr(monkeypatch)
    scanned = scan_of(prose_pdf())
    scanned[0].insert_textbox(scanned[0].rect, PROSE["eng"], render_mode=3)
    page = only_page(save(scanned, tmp_path), RenderOptions())
    assert (page.text_source, found_share(page, PROSE["eng"])) == ("layer", 1)


def test_a_printed_header_does_not_hide_a_scan(tmp_path):
    """A failure means scans with a stamp or a download notice are found by nothing else."""
    scanned = scan_of(prose_pdf())
    scanned[0].insert_text((60, 40), "Exhibit 17 stamped")
    page = only_page(save(scanned, tmp_path), RenderOptions())
    assert page.text_source == "ocr"
    assert page.words.texts.count("Exhibit") == 1
    assert found_share(page, PROSE["eng"]) > 0.9


def test_text_that_no_font_can_explain_is_read_from_the_picture(tmp_path):
    """A failure means PDFs whose fonts have no map to characters are indexed as rubbish."""
    document = prose_pdf()
    document.subset_fonts()
    for xref in range(1, document.xref_length()):
        if document.xref_get_key(xref, "ToUnicode")[0] != "null":
            document.xref_set_key(xref, "ToUnicode", "null")
    document[0].insert_textbox(pymupdf.Rect(60, 710, 540, 830), "some words that are known " * 8, fontsize=8)
    path = save(document, tmp_path)
    assert only_page(path).words.texts == ("some", "words", "that", "are", "known") * 8
    page = only_page(path, RenderOptions())
    assert page.text_source == "ocr"
    assert found_share(page, PROSE["eng"]) > 0.9
