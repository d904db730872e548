"""Queries drafted from what authors wrote: what is planted is asked for, found on its page, and hidden on request."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pymupdf
import pytest
import typer
from planted import make_endless, open_index
from typer.testing import CliRunner

from docsearch.cli.eval_make import make
from docsearch.errors import UnsupportedInput
from docsearch.evaluation.draft import DraftOptions, draft_queries
from docsearch.evaluation.draft_book import read_book
from docsearch.evaluation.draft_text import caption_text, first_sentence, fold, language_of, tidy, without_number
from docsearch.evaluation.evaluate import evaluate_index
from docsearch.evaluation.judged import read_judged
from docsearch.evaluation.pages import PageNames
from docsearch.indexer import apart
from docsearch.indexer.outline import read_structure, write_masked
from docsearch.options import SearchOptions

BODY = {  # printed page → what a section says; no word of it is in its heading
    1: "The bow line goes ashore first and the stern line after it, both with a spring against the swell of ferries.",
    2: "Whoever is paying harbour fees in coins finds the office beside the crane open until six on every working day.",
    3: "Soundings were taken with a lead from the pilot boat and are drawn here against the low water of that spring.",
    4: "High water comes twice a day and the ledger below lists the hour for every week of the season that begins now.",
    5: "Yellow buoys mark the swimming beach while red and green ones lead in from the lighthouse to the customs pier.",
}
INDEX = ["anchor chain, 1", "bell buoy, 5", "coins, 2", "customs pier, 5", "compass, 99", "dredging, 1, 2, 3, 4, 5",
         "ebb current, 3-4", "ferry swell, 1", "gales, 4", "harbour fees, 2", "lighthouse, 5", "pilot boat, 3",
         "quay wall, 4", "spring tide, 3"]  # fmt: skip


def write_book(path: Path) -> Path:
    """Cover and contents as pages i and ii, five printed pages, an index; the second section goes on for two pages."""
    headings = {1: "1 Mooring a vessel", 2: "2 Paying harbour fees", 4: "Chapter 3: When the tide turns"}
    with pymupdf.open() as pdf:
        new_page(pdf, [(60, 24, "The Harbour Handbook")])
        contents = [f"{text} {'. ' * 20}{page}" for page, text in headings.items()] * 3
        new_page(pdf, [(60, 20, "Contents"), *((90 + 16 * n, 9, text) for n, text in enumerate(contents))])
        for printed, body in BODY.items():
            lines = [(180 + 14 * n, 9, part) for n, part in enumerate(broken(body))]
            if printed in headings:
                lines.append((120, 16, headings[printed]))
            if printed == 3:
                lines += [(30, 8, "2 Paying harbour fees"), (300, 9, "Figure 1: Depth of the outer basin.")]
            if printed == 4:
                lines += [(300, 9, "Table 2. Sailing hours of the northern quay"), (350, 9, "Figure 1 shows a basin.")]
            if printed == 5:
                lines.append((300, 9, "Abbildung 3 Lage aller Bojen"))
            new_page(pdf, lines)
        rows = [*((60 + 16 * n, 9, row) for n, row in enumerate(INDEX)), (60 + 16 * len(INDEX), 9, "    rusty, 2")]
        new_page(pdf, rows)
        pdf.set_page_labels([{"startpage": 0, "style": "r"}, {"startpage": 2, "style": "D"}])
        pdf.set_toc([[1, "Contents", 2], *([1, text, page + 2] for page, text in headings.items()), [1, "Index", 8]])
        pdf.save(path, no_new_id=True)
    return path


def new_page(pdf, lines):
    page = pdf.new_page(width=400, height=500)
    for y, size, text in lines:
        page.insert_text((30 + 8 * (len(text) - len(text.lstrip())), y), text.strip(), fontsize=size)


def broken(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[start : start + 7]) for start in range(0, len(words), 7)]


def drafted(folder: Path, name: str = "questions", **options) -> dict[str, dict]:
    """text → the query, with the pages that answer it as `relevant`."""
    report = draft_queries([folder], folder.parent / name, DraftOptions(**options))
    assert report.failed == ()
    return read_draft(folder.parent / name)


def read_draft(folder: Path) -> dict[str, dict]:
    relevant = defaultdict(list)
    for line in (folder / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]:
        query, page, grade = line.split("\t")
        assert grade == "1"
        relevant[query].append(page)
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text("utf-8").splitlines()]
    return {query["text"]: query | {"relevant": relevant[query["_id"]]} for query in queries}


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    write_book(folder / "harbour.pdf")
    return folder


def test_headings_captions_and_index_entries_ask_for_their_pages(books: Path):
    """A failure means: someone measures with queries whose answers are on other pages."""
    found = {text: (query["type"], query["relevant"]) for text, query in drafted(books).items()}

    def pages(*printed: int) -> list[str]:
        return [f"harbour.pdf#{number + 2}" for number in printed]

    assert found == {
        "Mooring a vessel": ("title", pages(1)),
        "Paying harbour fees": ("title", pages(2)),
        "When the tide turns": ("title", pages(4)),
        "Depth of the outer basin": ("caption", pages(3)),
        "Sailing hours of the northern quay": ("caption", pages(4)),
        "Lage aller Bojen": ("caption", pages(5)),
        "anchor chain": ("index", pages(1)),
        "bell buoy": ("index", pages(5)),
        "coins": ("index", pages(2)),
        "customs pier": ("index", pages(5)),
        "ebb current": ("index", pages(3, 4)),
        "ferry swell": ("index", pages(1)),
        "gales": ("index", pages(4)),
        "harbour fees": ("index", pages(2)),
        "lighthouse": ("index", pages(5)),
        "pilot boat": ("index", pages(3)),
        "quay wall": ("index", pages(4)),
        "spring tide": ("index", pages(3)),
    }


def test_words_that_stand_on_the_page_anyway_are_marked(books: Path):
    """A failure means: word search is praised for finding what was copied into the query."""
    queries = drafted(books)

    verbatim = {text for text, query in queries.items() if query["verbatim"]}
    assert verbatim == {"Paying harbour fees", "harbour fees", "coins", "customs pier", "lighthouse", "pilot boat"}


def test_front_matter_contents_and_index_do_not_count(books: Path):
    """A failure means: a table of contents, which names every heading, is the best answer to every query."""
    drafted(books)

    lines = (books.parent / "questions" / "corpus.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"_id": f"harbour.pdf#{page}", "path": "harbour.pdf", "page": page} for page in range(3, 8)
    ]


def test_printed_numbers_at_the_edges_do_where_there_are_no_labels(tmp_path: Path):
    """A failure means: index entries of most books, which have no page labels, lead to pages before the right ones."""
    with pymupdf.open(write_book(tmp_path / "book.pdf")) as pdf:
        pdf.set_page_labels([])
        for page in list(pdf)[2:7]:
            page.insert_text((200, 490), str(page.number - 1), fontsize=8)
        pdf.save(tmp_path / "numbered.pdf")

    questions = read_book(read_structure(tmp_path / "numbered.pdf")).questions
    assert next(question.pages for question in questions if question.text == "pilot boat") == (5,)


def test_a_masked_copy_hides_what_is_asked_and_nothing_else(books: Path):
    """A failure means: the page is found by its heading after all, or the page has lost what it says."""
    drafted(books, mask=True)

    masked = books.parent / "questions" / "masked" / "harbour.pdf"
    with pymupdf.open(books / "harbour.pdf") as original, pymupdf.open(masked) as copy:
        assert copy.get_toc() == []
        assert [bool(page.get_text().strip()) for page in copy] == [False, False, *[True] * 5, False]
        for printed, body in BODY.items():
            text = " ".join(copy[printed + 1].get_text().split())
            assert body in text
            left = text.replace(body, "").strip()
            assert left == ("Figure 1 shows a basin." if printed == 4 else "")
        # pixels, too: heading, running header and caption; the body as it was
        assert marks(original[2], 100, 130) > 0 == marks(copy[2], 100, 130)
        assert marks(original[4], 20, 40) > 0 == marks(copy[4], 20, 40)
        assert marks(original[4], 290, 310) > 0 == marks(copy[4], 290, 310)
        assert (pixels(original[2])[260:] == pixels(copy[2])[260:]).all()


def test_a_document_that_ends_its_reader_costs_itself(books: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure means: one PDF that crashes MuPDF takes the questions of all others with it."""
    whole, crash = apart._BOOT, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    (books / "crash.pdf").write_bytes((books / "harbour.pdf").read_bytes() + b"%")

    def before(done: int, total: int, name: str) -> None:
        monkeypatch.setattr(apart, "_BOOT", crash if name == "crash.pdf" else whole)

    report = draft_queries([books], books.parent / "questions", DraftOptions(), on_progress=before)
    assert [(failure.path, failure.code) for failure in report.failed] == [("crash.pdf", "render_error")]
    assert "SIGSEGV" in report.failed[0].message
    assert report.files == ("harbour.pdf",)
    assert report.queries


def test_a_document_that_is_never_read_to_its_end_is_given_up(tmp_path: Path):
    """A failure means: a hostile page stops the drafting for ever."""
    path = make_endless(tmp_path / "endless.pdf")
    with pytest.raises(UnsupportedInput, match=r"not read after 1\.5 seconds") as caught:
        apart.read_structure(path, timeout=1.5)
    assert caught.value.code == "timeout"
    whole = write_book(tmp_path / "whole.pdf")
    assert apart.read_structure(whole) == read_structure(whole)


def test_half_a_copy_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure means: what a crash left of a masked copy gets indexed, and measured."""
    whole, copy = write_book(tmp_path / "whole.pdf"), tmp_path / "copy.pdf"
    half = (
        "import json, os, pathlib, signal, sys; job = json.loads(sys.stdin.readline()); "
        "pathlib.Path(job['target']).write_bytes(b'%PDF-1.7'); print('half', file=open(job['path'] + '.seen', 'w')); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setattr(apart, "_BOOT", half)
    with pytest.raises(UnsupportedInput, match="crashed") as caught:
        apart.write_masked(whole, copy, hidden={1: [(0, 0, 300, 200)]})
    assert caught.value.code == "render_error"
    assert (tmp_path / "whole.pdf.seen").exists()
    assert not copy.exists()


def pixels(page) -> np.ndarray:
    """(H, W) grey, two pixels a point."""
    pixmap = page.get_pixmap(dpi=144, colorspace=pymupdf.csGRAY)
    return np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.width)


def marks(page, top: float, bottom: float) -> int:
    """Dark pixels between two heights, in points."""
    return int((pixels(page)[int(2 * top) : int(2 * bottom)] < 128).sum())


@pytest.mark.parametrize("turn", [0, 90])
def test_a_heading_on_a_scan_is_painted_over(tmp_path: Path, turn: int):
    """A failure means: OCR reads the heading that the text layer no longer has."""
    with pymupdf.open() as drawing, pymupdf.open() as scan:
        lines = [(60, 16, "Ropes and knots"), (64 + 16, 9, "How a bowline is tied with one hand in the dark.")]
        new_page(drawing, lines)
        page = scan.new_page(width=400, height=500)
        page.insert_image(page.rect, pixmap=drawing[0].get_pixmap(dpi=144))
        for y, size, text in lines:
            page.insert_text((30, y), text, fontsize=size, render_mode=3)  # invisible, as OCR leaves it
        page.set_rotation(turn)
        scan.save(tmp_path / "scan.pdf")

    page_lines = read_structure(tmp_path / "scan.pdf").pages[0].lines
    heading = next(line for line in page_lines if "Ropes" in line.text)
    write_masked(tmp_path / "scan.pdf", tmp_path / "masked.pdf", hidden={1: [heading.box]})

    with pymupdf.open(tmp_path / "scan.pdf") as before, pymupdf.open(tmp_path / "masked.pdf") as after:
        assert after[0].get_text().split() == lines[1][2].split()
        for pdf in (before, after):
            pdf[0].set_rotation(0)
        assert marks(before[0], 45, 62) > 0 == marks(after[0], 45, 62)
        assert marks(after[0], 72, 84) > 0.8 * marks(before[0], 72, 84)


def test_slides_are_asked_for_by_their_titles(tmp_path: Path):
    """A failure means: a deck, whose bookmarks name chapters if it has any, gives no queries."""
    with pymupdf.open() as pdf:
        for title, text in [("A record summer", "Rides rose in every district"), ("What breaks", "Batteries, mostly")]:
            page = pdf.new_page(width=500, height=280)
            page.insert_text((20, 40), title, fontsize=22)
            page.insert_text((20, 140), f"{text}, as the board was told in the weeks before this one.", fontsize=11)
        pdf.save(tmp_path / "deck.pdf")

    questions = read_book(read_structure(tmp_path / "deck.pdf")).questions
    assert [(question.text, question.pages) for question in questions] == [
        ("A record summer", (1,)),
        ("What breaks", (2,)),
    ]


def test_what_stands_in_two_documents_is_no_query(books: Path):
    """A failure means: half of the right answers are counted as wrong."""
    with pymupdf.open() as pdf:
        for text in ("1. Mooring a vessel", "2. Hauling out"):
            new_page(pdf, [(100, 16, text), *((150 + 14 * n, 9, part) for n, part in enumerate(broken(BODY[1])))])
        pdf.set_toc([[1, "1. Mooring a vessel", 1], [1, "2. Hauling out", 2]])
        pdf.save(books / "other.pdf")

    queries = drafted(books)
    assert "Mooring a vessel" not in queries
    assert queries["Hauling out"]["relevant"] == ["other.pdf#2"]


def test_files_that_are_not_indexed_can_be_left_out(books: Path):
    """A failure means: pages that nobody searches are asked about, or count as wrong answers."""
    alone = drafted(books)
    (books / "old").mkdir()
    with pymupdf.open(books / "harbour.pdf") as pdf:
        pdf.delete_page(0)
        pdf.save(books / "old" / "harbour.pdf")

    assert drafted(books, "again", exclude=("old",)) == alone


def test_the_same_file_twice_is_asked_about_once(books: Path):
    """A failure means: a copy takes all queries away, since nothing in it is its own."""
    alone = drafted(books)
    (books / "the copy.pdf").write_bytes((books / "harbour.pdf").read_bytes())

    assert drafted(books, "again") == alone


def test_the_seed_chooses_and_nothing_else_does(books: Path):
    """A failure means: two people who draft from the same files measure with different queries."""
    one, same, other = (
        drafted(books, name, per_document=2, seed=seed) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )

    assert one == same != other
    assert sorted(query["type"] for query in one.values()) == ["caption"] * 2 + ["index"] * 2 + ["title"] * 2


def test_drafting_indexing_and_measuring_fit_together(books: Path):
    """A failure means: what is drafted cannot be measured with, or masking does not make it harder."""
    drafted(books, mask=True)
    questions = books.parent / "questions"
    judged = read_judged(questions)

    def found_first(folder: Path) -> dict[str, bool]:
        with open_index(folder / ".docsearch") as index:
            index.add(folder)
            names = PageNames(index)
            done = evaluate_index(index, names.match(judged), SearchOptions(k=10), names=names)
            assert done.missing == ()
            return {query.text: query.first_relevant_rank == 1 for query in done.result.queries}

    plain, masked = found_first(books), found_first(questions / "masked")
    assert all(plain[text] for text in ("Mooring a vessel", "When the tide turns", "Lage aller Bojen", "pilot boat"))
    assert masked["Paying harbour fees"]  # its words stand in the body, too
    assert masked["pilot boat"]
    assert not all(masked[text] for text in ("Mooring a vessel", "When the tide turns", "Lage aller Bojen"))
    assert sum(masked.values()) < sum(plain.values())


def test_a_bad_file_stops_nothing(books: Path):
    """A failure means: one broken download among a thousand files, and there are no queries at all."""
    (books / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    app = typer.Typer()
    app.command()(make)

    done = CliRunner().invoke(app, [str(books), "--out", str(books.parent / "questions")])
    assert done.exit_code == 3
    assert "Drafted 18 queries from 1 file: 3 titles, 3 captions, 12 index terms" in done.stdout
    assert "Skipped broken.pdf: " in done.stdout

    again = CliRunner().invoke(app, [str(books), "--out", str(books.parent / "questions")])
    assert isinstance(again.exception, UnsupportedInput)
    assert "corrected by hand" in str(again.exception)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Figure 3: Data flow", "Data flow"),
        ("FIG. 2.1 - Data flow", "Data flow"),
        ("Table A.1. Rates by year", "Rates by year"),
        ("Figure 12 Architecture of the pump", "Architecture of the pump"),
        ("Figure 12 shows the pump", None),
        ("Abbildung 3.1: Aufbau der Pumpe", "Aufbau der Pumpe"),
        ("Tabelle 2 zeigt die Werte", None),
        ("Tableau 4 — Débit de la pompe", "Débit de la pompe"),
        ("图 3 文件结构", "文件结构"),
        ("図1\uff1a部品の一覧", "部品の一覧"),
        ("表 2\uff0e測定値", "測定値"),
        ("Tables are made of wood", None),
        ("Figure: a pump", None),
    ],
)
def test_captions_are_told_from_sentences(line: str, said: str | None):
    """A failure means: sentences about figures become queries, or captions of a language are not seen."""
    assert caption_text(tidy(line)) == said


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("3.2 Data types", "Data types"),
        ("Chapter 3: Data types", "Data types"),
        ("Kapitel IV Datentypen", "Datentypen"),
        ("第3章 データ型", "データ型"),
        ("A.2 Data types", "Data types"),
        ("IV. Data types", "Data types"),
        ("A data type", "A data type"),
        ("I am a type", "I am a type"),
        ("2024 results", "2024 results"),
        ("UTF-8 and 3 more", "UTF-8 and 3 more"),
        ("Part time work", "Part time work"),
    ],
)
def test_a_heading_is_asked_for_without_its_number(heading: str, words: str):
    """A failure means: queries that begin with a number nobody knows, or lose a word that belongs to them."""
    assert without_number(heading) == words


def test_two_spellings_of_one_heading_are_the_same():
    """A failure means: the headings of TeX documents in other languages than English are not found on their pages."""
    assert len({fold("Têtes à forme"), fold("T\u02c6etes `a  forme"), fold("Tetes-a Forme")}) == 1
    assert tidy("F\u00a8ullung der T\u00b4el\u00b4e\ufb01lm-Gro\u00dfe") == "Füllung der Téléfilm-Große"
    assert first_sentence("The pump of Fig. 2 is new. It is blue.") == "The pump of Fig. 2 is new"


def test_languages_are_told_or_left_out():
    """A failure means: groups by language mix languages."""
    texts = {
        "en": "the harbour and the pilot of this ship are at the quay with a rope for the bell that is there",
        "de": "der Hafen und die Fähre ist mit dem Lotsen für das Schiff nicht da, das eine und der andere",
        "fr": "les bateaux dans le port est une affaire pour les marins que des gens sur le quai avec une corde",
        "zh": "港口里的船只都在码头旁边等待",
        "ja": "港の船はすべて岸壁のそばにあります",
    }
    assert {language: language_of(text * 10) for language, text in texts.items()} == {name: name for name in texts}
    assert language_of("x1 y2 z3 " * 50) is None
