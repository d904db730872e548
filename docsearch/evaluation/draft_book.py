"""Read one document for questions: which pages count, and what headings, captions and its index ask for."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from docsearch.evaluation.draft_text import (
    caption_text,
    count_words,
    first_sentence,
    fold,
    language_of,
    spellings,
    tidy,
    without_number,
)
from docsearch.indexer.outline import Box, Line, PageLines, Section, Structure

Kind = Literal["title", "caption", "index"]
KINDS: tuple[Kind, ...] = ("title", "caption", "index")

_HEADING_LINES = 4  # a heading may be broken into so many
_CAPTION_LINES = 5
_HEADER, _FOOTER = 0.125, 0.92  # of the page's height: where running headers end and footers begin
_SLIDES = 0.8  # of a document's pages are wider than high: it is read as slides
_SLIDE_TITLE = 0.25  # of the slide's height, from above
_FEW_CHARACTERS = 60  # a page with fewer says nothing that one could ask for
_BOOK_PAGES = 20  # of a document with more, the pages before the first bookmark are cover and imprint
_CONTENTS_LINES = 6  # with leaders, or naming sections on other pages: a table of contents
_INDEX_ROWS, _INDEX_SHARE = 12, 0.3  # lines that look like an entry, on a page of an index
_INDEX_FROM = 0.6  # of the document: an index stands behind
_INDEX_INDENT = 0.008  # of the page's width: what is further right is a sub-entry
_MOST_PAGES = 4  # named by an index entry; one with more is no question
_ENOUGH_NUMBERED = 0.25  # of the pages have to agree on how far printed numbers are from those of the file

_LEADERS = re.compile(r"(?:[.·…] ?){6,}\s*\w*\s*$")
_PAGE_NUMBER = re.compile(r"^\d{1,4}\s+|\s+\d{1,4}$|^\d{1,4}$")
_NUMBERS = r"(?P<pages>\d{1,4}(?:[-\u2013]\d{1,4})?(?:, ?\d{1,4}(?:[-\u2013]\d{1,4})?)*)"
_INDEX_ROW = (
    re.compile(rf"^(?P<term>.{{2,80}}?)[ .]*(?:\. ?){{3,}}\s*{_NUMBERS}$"),
    re.compile(rf"^(?P<term>[^,]{{2,60}}(?:, [^\W\d][^,\d]{{1,40}})?),\s+{_NUMBERS}$"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and what its author says answers it."""

    kind: Kind
    text: str
    pages: tuple[int, ...]
    verbatim: bool  # its letters and digits stand in a row on one of the pages, apart from the lines that are `hidden`
    hidden: Mapping[int, tuple[Box, ...]]  # page → the lines that give the answer away: heading, caption, headers


@dataclass(frozen=True, slots=True)
class Book:
    """What a document offers; small enough to be kept while others are read."""

    is_pdf: bool
    page_count: int
    content: tuple[int, ...]  # pages that count: no cover, contents, index, empty page
    language: str | None
    questions: tuple[Question, ...]
    headings: tuple[str, ...]  # folded, of all sections, found on their page or not


def read_book(structure: Structure) -> Book:
    """Read a document; one without structure, as an image, is all content and asks nothing."""
    if not structure.pages:
        return Book(False, structure.page_count, tuple(range(1, structure.page_count + 1)), None, (), ())
    reader = _Reader(structure)
    return Book(
        True,
        structure.page_count,
        tuple(sorted(reader.content)),
        _language(structure),
        (*reader.titles(), *reader.captions(), *reader.index_entries()),
        tuple(fold(_heading(section)) for section in reader.sections),
    )


def _language(structure: Structure) -> str | None:
    """That of the headings, which is the questions'; a German manual may be full of English commands."""
    headings = language_of(" ".join(section.title for section in structure.sections))
    return headings or language_of(" ".join(line.text for page in structure.pages for line in page.lines))


class _Reader:
    def __init__(self, structure: Structure) -> None:
        self._pages = structure.pages
        self.sections = _slides(structure.pages) or structure.sections
        self._heading_keys = {key for section in self.sections for key in spellings(section.title)}
        back = [page for page in self._pages if page.number > _INDEX_FROM * len(self._pages)]
        self._index = [page for page in back if _is_index(page)]
        self.content = self._content()

    # -- which pages count

    def _content(self) -> set[int]:
        index = {page.number for page in self._index}
        starts = [section.page_number for section in self.sections]
        first = min(starts, default=1) if len(self._pages) > _BOOK_PAGES else 1
        return {
            page.number
            for page in self._pages
            if page.number >= first and page.number not in index and self._is_content(page)
        }

    def _is_content(self, page: PageLines) -> bool:
        if re.fullmatch("[ivxlc]+", page.label) and any(other.label == "1" for other in self._pages):
            return False
        if page.is_picture:
            return True
        elsewhere = self._starting_elsewhere(page.number)
        named = [
            line for line in page.lines if elsewhere & spellings(_LEADERS.sub("", _without_page_number(line.text)))
        ]
        leaders = sum(bool(_LEADERS.search(line.text)) for line in page.lines)
        if leaders >= _CONTENTS_LINES or len(named) >= max(_CONTENTS_LINES, len(page.lines) // 3):
            return False
        return sum(len(line.text) for line in page.lines if not _at_edge(line)) >= _FEW_CHARACTERS

    def _starting_elsewhere(self, number: int) -> set[str]:
        """The folded titles of sections that start on no page but others."""
        return self._heading_keys - self._keys_of.get(number, set())

    @cached_property
    def _keys_of(self) -> dict[int, set[str]]:
        keys: dict[int, set[str]] = defaultdict(set)
        for section in self.sections:
            keys[section.page_number] |= spellings(section.title)
        return keys

    # -- questions

    def titles(self) -> Iterator[Question]:
        """The sections whose heading can be seen on the page their bookmark leads to."""
        for section in self.sections:
            text = _heading(section)
            if section.page_number in self.content and count_words(text) >= 2:
                keys = spellings(section.title)
                heading = _lines_that_spell(self._page(section.page_number), keys)
                if heading:
                    yield self._question("title", text, (section.page_number,), heading, keys)

    def captions(self) -> Iterator[Question]:
        """Figures and tables with a number and two words or more."""
        for page in self._pages:
            if page.number not in self.content:
                continue
            for caption in _captions(page):
                text = first_sentence(caption_text(tidy(_joined(caption))) or "")
                if count_words(text) >= 2:
                    yield self._question("caption", text, (page.number,), caption, {fold(_joined(caption))})

    def index_entries(self) -> Iterator[Question]:
        """Main entries of a back-of-book index that name few pages, all of them known."""
        entries: dict[str, set[int]] = defaultdict(set)
        for page in self._index:
            for term, printed in _index_rows(page):
                entries[term] |= printed
        for term, printed in entries.items():
            pages = tuple(sorted(self._by_printed[number] for number in printed if number in self._by_printed))
            if len(pages) == len(printed) <= _MOST_PAGES and self.content.issuperset(pages) and len(fold(term)) >= 4:
                yield self._question("index", term, pages, (), set())

    def _question(self, kind: Kind, text: str, pages: tuple[int, ...], own: Sequence[Line], keys: set[str]) -> Question:
        hidden: dict[int, set[Box]] = defaultdict(set)
        for number in pages if own else ():
            hidden[number] |= {line.box for line in own}
        for key in keys:
            for number, line in self._at_edges.get(key, ()):
                hidden[number].add(line.box)
        bodies = [
            "".join(fold(line.text) for line in self._page(number).lines if line.box not in hidden.get(number, ()))
            for number in pages
        ]
        verbatim = any(fold(text) in body for body in bodies)
        return Question(kind, text, pages, verbatim, {number: tuple(sorted(boxes)) for number, boxes in hidden.items()})

    # -- helpers

    def _page(self, number: int) -> PageLines:
        return self._pages[number - 1]

    @cached_property
    def _at_edges(self) -> dict[str, list[tuple[int, Line]]]:
        """Running headers and footers by what they spell."""
        found = defaultdict(list)
        for page in self._pages:
            for line in filter(_at_edge, page.lines):
                for key in spellings(_without_page_number(line.text)):
                    found[key].append((page.number, line))
        return found

    @cached_property
    def _by_printed(self) -> dict[int, int]:
        """Printed page number → page: by the PDF's labels, else by the numbers at the pages' edges."""
        labels = Counter(page.label for page in self._pages)
        known = {
            int(page.label): page.number for page in self._pages if page.label.isdecimal() and labels[page.label] == 1
        }
        if len(known) >= _ENOUGH_NUMBERED * len(self._pages):
            return known
        votes = Counter(
            page.number - int(number)
            for page in self._pages
            for number in {number for line in page.lines if _at_edge(line) for number in _edge_numbers(line.text)}
        )
        for offset, n_votes in votes.most_common(1):
            if n_votes >= _ENOUGH_NUMBERED * len(self._pages):
                return {page.number - offset: page.number for page in self._pages}
        return {}


def _heading(section: Section) -> str:
    return tidy(without_number(section.title)).rstrip(" :")


def _slides(pages: Sequence[PageLines]) -> tuple[Section, ...]:
    """The titles of slides, the largest print if it stands at the top; none where pages are higher than wide."""
    if sum(page.is_wide for page in pages) < _SLIDES * len(pages):
        return ()
    sections = []
    for page in pages:
        largest = max((line.size for line in page.lines), default=0.0)
        title = [line for line in page.lines if line.size > 0.95 * largest]
        if title and max(line.shown[3] for line in title) < _SLIDE_TITLE:
            sections.append(Section(_joined(title), page.number))
    return tuple(sections)


def _lines_that_spell(page: PageLines, keys: set[str]) -> list[Line]:
    """The lines of a page that say one of these, alone or up to four in a row."""
    found: list[Line] = []
    for first in range(len(page.lines)):
        for count in range(1, _HEADING_LINES + 1):
            run = page.lines[first : first + count]
            if len(run) == count and keys & spellings(_joined(run)):
                found += run
    return found


def _captions(page: PageLines) -> Iterator[list[Line]]:
    """The lines of each caption, which begins a paragraph and ends with a full stop or where the letters change."""
    for at, line in enumerate(page.lines):
        begins = at == 0 or page.lines[at - 1].block != line.block
        if not begins or caption_text(tidy(line.text)) is None:
            continue
        caption = [line]
        for more in page.lines[at + 1 : at + _CAPTION_LINES]:
            ended = caption[-1].text.endswith((".", "。"))
            if ended or more.block != line.block or abs(more.size - line.size) > 0.5:
                break
            caption.append(more)
        yield caption


def _joined(lines: Sequence[Line]) -> str:
    """Lines as one text; a word broken at the end of a line is put together."""
    return re.sub(r"(?<=[^\W\d_])[-\u00ad] (?=[^\W\d_A-Z])", "", " ".join(line.text for line in lines))


def _at_edge(line: Line) -> bool:
    return line.shown[3] < _HEADER or line.shown[1] > _FOOTER


def _without_page_number(text: str) -> str:
    return _PAGE_NUMBER.sub("", text)


def _edge_numbers(text: str) -> set[str]:
    return set(re.findall(r"^\d{1,4}(?=\s|$)|(?<=\s)\d{1,4}$", text))


def _is_index(page: PageLines) -> bool:
    rows = sum(any(row.match(line.text) for row in _INDEX_ROW) for line in page.lines)
    return rows >= _INDEX_ROWS and rows >= _INDEX_SHARE * len(page.lines)


def _index_rows(page: PageLines) -> Iterator[tuple[str, set[int]]]:
    """(term, printed page numbers) of the main entries; indented sub-entries mean nothing on their own."""
    middle = (min(line.shown[0] for line in page.lines) + max(line.shown[2] for line in page.lines)) / 2
    for right in (False, True):
        column = [line for line in page.lines if (line.shown[0] > middle) == right]
        left = min((line.shown[0] for line in column), default=0.0)
        for line in column:
            match = next(filter(None, (row.match(line.text) for row in _INDEX_ROW)), None)
            if match and line.shown[0] < left + _INDEX_INDENT and "\\" not in match["term"]:  # TeX's own commands
                yield tidy(match["term"]).strip(" .,"), _numbers(match["pages"])


def _numbers(text: str) -> set[int]:
    """`3, 7-9` as {3, 7, 8, 9}."""
    numbers = set()
    for part in text.split(","):
        first, _, last = part.strip().replace("\u2013", "-").partition("-")
        numbers |= set(range(int(first), int(last or first) + 1)) or {int(first)}
    return numbers
