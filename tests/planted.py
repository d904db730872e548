"""What the tests plant and look for: small PDFs with known words, and everything an index answers about them."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pymupdf

from docsearch.index import Index
from docsearch.testing import FakeEncoder

ROOT = Path(__file__).parent.parent
FILLER = ("invoice", "harbour", "pressure", "valve", "tenant", "report", "engine", "summary", "table", "winter")


def write_pdf(path: Path, pages: Sequence[str], **save: Any) -> Path:
    """A PDF with one line of text per page; the same texts give the same bytes."""
    with pymupdf.open() as document:
        for text in pages:
            page = document.new_page(width=300, height=200)
            for line, start in enumerate(range(0, len(words := text.split()), 6)):
                page.insert_text((20, 30 + 14 * line), " ".join(words[start : start + 6]), fontsize=9)
        document.set_metadata({"title": path.stem})
        path.parent.mkdir(parents=True, exist_ok=True)
        document.save(path, no_new_id=True, **save)
    return path


def page_text(name: str, number: int) -> str:
    """A word no other page has, and some that many have."""
    seed = hashlib.blake2b(f"{name}#{number}".encode(), digest_size=16).digest()
    return " ".join([unique_word(name, number), *(FILLER[byte % len(FILLER)] for byte in seed)])


def unique_word(name: str, number: int) -> str:
    return f"only{hashlib.blake2b(f'{name}#{number}'.encode(), digest_size=5).hexdigest()}"


def write_planted(folder: Path, name: str, n_pages: int) -> Path:
    """A PDF whose pages each hold their `unique_word`."""
    return write_pdf(folder / f"{name}.pdf", [page_text(name, number) for number in range(1, n_pages + 1)])


def open_index(folder: Path, **options: Any) -> Index:
    return Index.open(folder, encoder=FakeEncoder(), create=True, **options)


def answers(index: Index, queries: Sequence[str]) -> list[list[tuple[str, int, float]]]:
    """Everything the index says to some queries: (document, page, score) of every page, in every mode."""
    return [
        [(hit.doc_id, hit.page_number, round(hit.score, 6)) for hit in hits]
        for mode in ("visual", "text", "hybrid")
        for hits in index.search_many(queries, mode=mode, k=1000, n_candidates=1000)
    ]


def committed_pages(folder: Path) -> list[tuple[str, int]]:
    """(document, page) of every page that can be found, read without docsearch: with doubles if there are any."""
    with closing(sqlite3.connect(folder / "catalog.db", timeout=30)) as connection:
        return connection.execute(
            "SELECT doc_id, page_number FROM pages WHERE doc_id IN (SELECT doc_id FROM files) ORDER BY 1, 2"
        ).fetchall()


def run_python(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
        **options,
    )


def environment() -> dict[str, str]:
    """The environment for processes of ours: they find docsearch and this module."""
    paths = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def make_endless(path, *, before=0, after=0):
    """A PDF with a page whose drawing calls a drawing that calls ten others, twelve deep: it takes years to draw."""
    document = pymupdf.open()
    for number in range(before + 1 + after):
        document.new_page(width=300, height=200).insert_text((20, 50), f"page{number + 1}")
    inner = document.get_new_xref()
    document.update_object(inner, "<</Type/XObject/Subtype/Form/BBox[0 0 300 200]>>")
    document.update_stream(inner, b"0 0 m 300 200 l S\n")
    for _ in range(12):
        outer = document.get_new_xref()
        resources = f"/Resources<</XObject<</X {inner} 0 R>>>>"
        document.update_object(outer, f"<</Type/XObject/Subtype/Form/BBox[0 0 300 200]{resources}>>")
        document.update_stream(outer, b"/X Do " * 10)
        inner = outer
    page = document[before]
    document.xref_set_key(page.xref, "Resources", f"<</XObject<</X {inner} 0 R>>>>")
    contents = page.get_contents()[0]
    document.update_stream(contents, b"/X Do")
    document.save(path)
    return path
