"""How a page is read by OCR: its language, which way up it lies, and the order of its words."""

import numpy as np
import pytest

from docsearch.indexer.ocr import PROBES, Reader, _reading_order
from docsearch.types import Words

PROSE = {
    "eng": "the rent of the house is to be paid by the tenant on the first of each month and that is all for it",
    "deu": "die Miete für das Haus ist von dem Mieter am ersten des Monats und auch im Mai zu zahlen oder der",
}
ENGLISH, GERMAN = (text.split() for text in PROSE.values())
CHINESE = [
    "\u8fd9\u662f\u4e00\u4e2a\u7528\u6237\u7684\u6587\u6863",
    "\u4f60\u53ef\u4ee5\u5728\u8fd9\u91cc\u627e\u5230\u8981\u7684",
    "\u4ed6\u6765\u5230\u5927\u5b66\u91cc\u4e86",
] * 3
NOISE = ["eel", "ZI", "vwq", "Aroayp", "sty|", "}", "q~", "Oo", "lI", "xx", "weJ", "puo"]
NUMBERS = [str(number * 7919) for number in range(40)]


def page_of_lines():
    """Grey lines on white, level, denser in the upper half, so that turned pages can be told apart."""
    page = np.full((1600, 1200, 3), 255, np.uint8)
    for top in range(100, 1500, 40):
        page[top : top + 14, 150 : 1050 if top < 800 else 700] = 0
    return page


class Engine:
    """Stands in for Tesseract: knows what it would read of a page, by language and way up."""

    def __init__(self, *, texts, upright=0, else_texts=NOISE):
        self.texts, self.upright, self.else_texts = texts, upright, else_texts
        self.calls = []

    def __call__(self, picture, language):
        ink = (picture[:, :, 0] < 128).astype(int)
        half = ink.shape[0] // 2
        whole = min(picture.shape[:2]) >= 1000  # not a strip
        right_way = self.upright is None or not whole or ink[:half].sum() > ink[half:].sum()
        self.calls.append((language, "page" if whole else "strip"))
        texts = self.texts.get(language, self.else_texts) if right_way else NOISE
        boxes = np.array([[1000, 300 * row, 9000, 300 * row + 200] for row in range(len(texts))], np.uint16)
        return Words(tuple(texts), boxes.reshape(-1, 4))


def test_an_english_page_is_read_once():
    """A failure means every page costs more than one reading."""
    engine = Engine(texts={"eng": ENGLISH})
    assert Reader(engine).read(page_of_lines()).texts == tuple(ENGLISH)
    assert engine.calls == [("eng", "page")]


def test_the_language_of_one_page_is_tried_first_on_the_next():
    """A failure means each page of a German document is read twice."""
    engine = Engine(texts={"eng": GERMAN, "deu": GERMAN, "fra": GERMAN, "spa": GERMAN})
    reader = Reader(engine)
    for _ in range(3):
        assert reader.read(page_of_lines()).texts == tuple(GERMAN)
    assert engine.calls == [("eng", "page"), ("deu", "page"), ("deu", "page"), ("deu", "page")]


def test_another_script_is_found_on_a_strip_of_the_page():
    """A failure means Chinese scans are indexed as Latin rubbish."""
    engine = Engine(texts={"chi_sim": CHINESE})
    reader = Reader(engine)
    assert reader.read(page_of_lines()).texts == tuple(CHINESE)
    assert engine.calls.count(("chi_sim", "page")) == 1
    engine.calls.clear()
    reader.read(page_of_lines())
    assert engine.calls == [("chi_sim", "page")]


def test_noise_does_not_change_the_language():
    """A failure means one photograph in a document makes the pages after it read as Chinese."""
    engine = Engine(texts={"chi_sim": ["\u4eba", "0", "\u516d", "\u4eba", "\u4e0d", "\u4eba"] * 5})
    reader = Reader(engine)
    assert reader.read(page_of_lines()).texts == tuple(NOISE)
    engine.texts = {"eng": ENGLISH}
    engine.calls.clear()
    assert reader.read(page_of_lines()).texts == tuple(ENGLISH)
    assert engine.calls == [("eng", "page")]


def test_tables_of_numbers_are_not_searched_for_ever():
    """A failure means a ledger of a thousand pages takes three times as long."""
    engine = Engine(texts={"eng": NUMBERS, "chi_sim": NUMBERS, "jpn": NUMBERS})
    reader = Reader(engine)
    for _ in range(PROBES + 5):
        assert reader.read(page_of_lines()).texts == tuple(NUMBERS)
    assert sum(kind == "page" for _, kind in engine.calls) == PROBES + 5
    assert sum(kind == "strip" for _, kind in engine.calls) <= 4 * PROBES


@pytest.mark.parametrize("turns", [1, 3])
def test_boxes_of_a_page_on_its_side_are_where_its_words_are(turns):
    """A failure means highlights on turned scans are mirrored or turned."""
    upright = page_of_lines()
    upright[100:114, 150:1050] = 255
    upright[100:114, 150:350] = 0  # the first line is short: its place tells where the words are

    def first_line(picture, _):
        ink = picture[:, :, 0] < 128
        rows = np.flatnonzero(ink.any(axis=1))
        columns = np.flatnonzero(ink[rows[0]])
        height, width = ink.shape
        box = [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[0] + 14) / height]
        return Words(("first",), (np.array([box]) * 65535).astype(np.uint16))

    picture = np.rot90(upright, turns)
    words = Reader(first_line).read(picture)
    left, top, right, bottom = (words.boxes[0] / 65535 * (1600, 1200, 1600, 1200)).round().astype(int)
    inside = picture[top:bottom, left:right, 0] < 128
    assert inside.mean() > 0.85
    assert inside.sum() > 10 * 14


def test_tables_are_read_row_by_row():
    """A failure means a value stands far from its row's name in the text."""
    boxes = [
        (left, 1000 + 3000 * row, left + 15000, 2500 + 3000 * row) for row in range(20) for left in (2000, 22000, 45000)
    ]
    order = _reading_order(np.random.default_rng(0).permutation(np.array(boxes, np.uint16)))
    shuffled = np.random.default_rng(0).permutation(np.array(boxes, np.uint16))
    assert [tuple(box) for box in shuffled[order].tolist()] == boxes
