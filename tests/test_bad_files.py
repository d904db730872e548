"""Files that cannot be read, in the middle of a folder: each is reported with its code, and all others are indexed."""

from __future__ import annotations

import sys
from pathlib import Path

import pymupdf
import pytest
from planted import open_index, unique_word, write_pdf, write_planted

from docsearch.index import Index
from docsearch.options import IndexOptions

FAST = IndexOptions(workers=2, ocr="off", page_timeout=20.0)
GOOD = ["a good one", "m good two", "z good three"]  # before, between and after the bad ones

LOOPING = b"""%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj
2 0 obj <</Type/Pages/Kids[2 0 R 3 0 R]/Count 2/Parent 3 0 R>> endobj
3 0 obj <</Type/Pages/Kids[2 0 R]/Count 1/Parent 2 0 R>> endobj
trailer <</Root 1 0 R>>
"""
NO_PAGES = b"""%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj
2 0 obj <</Type/Pages/Kids[]/Count 0>> endobj
trailer <</Root 1 0 R>>
"""


def bad_files(folder: Path) -> dict[str, set[str]]:
    """File name → the codes it may be reported with."""
    whole = write_planted(folder, "whole", 3).read_bytes()
    (folder / "whole.pdf").unlink()
    write_pdf(
        folder / "encrypted.pdf",
        ["secret"],
        encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="open sesame", owner_pw="owner",
    )  # fmt: skip
    (folder / "truncated.pdf").write_bytes(whole[: len(whole) // 8])
    (folder / "zero pages.pdf").write_bytes(NO_PAGES)
    (folder / "zero bytes.pdf").write_bytes(b"")
    (folder / "looping.pdf").write_bytes(LOOPING)
    (folder / "a picture.pdf").write_bytes(b"GIF89a" + bytes(200))
    (folder / "a letter.pdf").write_text("Dear Sir or Madam")
    (folder / "web.pdf").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (folder / "header only.pdf").write_bytes(b"%PDF-1.7\n")
    with (folder / "large.pdf").open("wb") as file:
        file.write(whole)
        file.truncate(3 << 20)
    codes = {
        "encrypted.pdf": {"password_required"},
        "truncated.pdf": {"corrupt"},
        "zero pages.pdf": {"empty", "corrupt"},
        "zero bytes.pdf": {"empty"},
        "looping.pdf": {"corrupt", "render_error", "empty"},
        "a picture.pdf": {"unsupported"},
        "a letter.pdf": {"unsupported"},
        "web.pdf": {"unsupported"},
        "header only.pdf": {"corrupt"},
        "large.pdf": {"too_large"},
    }
    if sys.platform == "linux":  # a file that opens and cannot be read, even for the administrator
        (folder / "unreadable.pdf").symlink_to("/proc/self/mem")
        codes["unreadable.pdf"] = {"permission"}
    return codes


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]]]:
    folder = tmp_path_factory.mktemp("mixed")
    codes = bad_files(folder)
    for name in GOOD:
        write_planted(folder, name, 2)
    return folder, codes


def test_bad_files_are_reported_and_the_others_are_indexed(indexed: tuple[Path, dict[str, set[str]]]) -> None:
    """A failure means: one bad file ends the indexing of a folder, or is left out without a word."""
    folder, codes = indexed
    with open_index(folder / ".docsearch") as index:
        report = index.add(folder, IndexOptions(workers=2, ocr="off", max_file_mb=2))
        told = {failure.path: failure.code for failure in report.failed if "#" not in failure.path}  # no single pages
        assert told.keys() == codes.keys()
        assert {name: code for name, code in told.items() if code not in codes[name]} == {}
        assert (report.added, report.pages) == (len(GOOD), 2 * len(GOOD))
        for name in GOOD:
            hits = index.search(unique_word(name, 2), k=1)
            assert [(Path(hit.path).stem, hit.page_number) for hit in hits] == [(name, 2)]
        kept = {failure.path: failure.code for failure in index.failures() if "#" not in failure.path}
        assert kept == told
        assert all(failure.message and "\n" not in failure.message for failure in report.failed)


def test_what_failed_is_known_and_tried_again_on_request(indexed: tuple[Path, dict[str, set[str]]]) -> None:
    """A failure means: every run reads all broken files again, or a password given later does not help."""
    folder, codes = indexed
    with open_index(folder / ".docsearch") as index:
        index.add(folder, FAST)
        again = index.add(folder, FAST)
        assert again.unchanged == len(GOOD) + 1  # the large one is allowed now
        assert again.known_bad + len(again.failed) == len(codes) - 1
        assert {failure.path for failure in again.failed} <= {"unreadable.pdf"}, "what could not be read may be now"
        retried = index.add(folder, IndexOptions(ocr="off", retry_failed=True, passwords=["wrong", "open sesame"]))
        assert (retried.added, retried.known_bad) == (1, 0)
        assert [Path(hit.path).name for hit in index.search("secret", mode="text")] == ["encrypted.pdf"]
        assert "encrypted.pdf" not in {failure.path for failure in index.failures()}


def test_a_file_that_is_mended_is_indexed_and_forgiven(tmp_path: Path) -> None:
    """A failure means: `docsearch ls --failed` goes on listing a file that was replaced by a good one."""
    (tmp_path / "x.pdf").write_text("no PDF")
    with open_index(tmp_path / ".docsearch") as index:
        assert index.add(tmp_path, FAST).failed[0].code == "unsupported"
        write_planted(tmp_path, "x", 1)
        assert index.add(tmp_path, FAST).added == 1
        assert index.failures() == []


def test_a_file_that_was_unreadable_for_a_while_is_forgiven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: a network share that was away for a minute leaves a failure that is never taken back."""
    from docsearch.errors import UnsupportedInput
    from docsearch.indexer import pipeline

    write_planted(tmp_path, "x", 1)

    def away(path: Path) -> str:
        raise UnsupportedInput(str(path), "permission", "it cannot be read")

    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, FAST)
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "hash_file", away)
            assert [failure.code for failure in index.add(tmp_path, FAST).failed] == ["permission"]
        assert len(index.search(unique_word("x", 1), k=1)) == 1, "what was indexed stays"
        assert index.add(tmp_path, FAST).unchanged == 1
        assert index.failures() == []


def test_a_file_that_changes_while_it_is_read_leaves_nothing(tmp_path: Path) -> None:
    """A failure means: pages are found that no file has, or a page is counted and listed that was taken back."""
    path = write_planted(tmp_path, "x", 400)
    new = write_planted(tmp_path / "..", "y", 2)
    with open_index(tmp_path / ".docsearch") as index:
        report = index.add(tmp_path, FAST, on_progress=lambda _: new.exists() and new.replace(path))
        assert [(failure.path, failure.code) for failure in report.failed] == [("x.pdf", "render_error")]
        assert (report.pages, index.stats()["pages"]) == (0, 0)
        assert index.search(unique_word("x", 3), k=1) == []
        assert index.add(tmp_path, FAST).added == 1
        assert [hit.page_number for hit in index.search(unique_word("y", 2), k=1)] == [2]
        assert index.failures() == []


def test_huge_pages_and_a_thousand_pages_are_no_trouble(tmp_path: Path) -> None:
    """A failure means: a plan of ten metres or a long manual cannot be indexed."""
    with pymupdf.open() as document:
        page = document.new_page(width=14400, height=14400)
        page.insert_text((7000, 7000), "gigantic", fontsize=200)
        document.save(tmp_path / "huge.pdf")
    write_pdf(tmp_path / "long.pdf", [f"chapter number{number}" for number in range(1, 1001)])
    with open_index(tmp_path / ".docsearch") as index:
        report = index.add(tmp_path, IndexOptions(workers=2))
        assert (report.pages, report.failed) == (1001, ())
        assert [hit.page_number for hit in index.search("number777", k=1)] == [777]
        assert [Path(hit.path).name for hit in index.search("gigantic", k=1)] == ["huge.pdf"]


def test_a_folder_that_vanishes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: deleting files during a run ends the run."""
    for name in GOOD:
        write_planted(tmp_path / "docs", name, 1)
    with open_index(tmp_path / "index") as index:
        from docsearch.indexer import pipeline

        find = pipeline.find_files

        def find_and_delete(*arguments: object, **options: object) -> list[object]:
            found = list(find(*arguments, **options))  # type: ignore[arg-type]
            (tmp_path / "docs" / f"{GOOD[1]}.pdf").unlink()
            return found

        monkeypatch.setattr(pipeline, "find_files", find_and_delete)
        report = index.add(tmp_path / "docs", FAST)
        assert report.added == 2
        assert [(Path(failure.path).stem, failure.code) for failure in report.failed] == [(GOOD[1], "render_error")]
        assert isinstance(index, Index)
