"""What indexing does to the catalog: resumes, changes, duplicates, removals, moves, and what it never does twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from planted import answers, committed_pages, open_index, page_text, unique_word, write_pdf, write_planted

from docsearch.errors import EncoderMismatch, PageNotFound
from docsearch.index import Index
from docsearch.indexer import pipeline
from docsearch.options import IndexOptions
from docsearch.store.catalog import Catalog
from docsearch.store.writer import IndexWriter
from docsearch.testing import FakeEncoder
from docsearch.types import PageVectors, RenderedPage

FAST = IndexOptions(workers=1, ocr="off")
PRUNE = IndexOptions(workers=1, ocr="off", prune=True)


class CountingEncoder(FakeEncoder):
    """Counts the pages it encodes, and fails when it has had enough of them."""

    def __init__(self, fail_after: int = 10**9) -> None:
        self.pages: list[tuple[str, int]] = []
        self._fail_after = fail_after

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        if len(self.pages) + len(pages) > self._fail_after:
            raise RuntimeError("out of memory")
        self.pages += [(page.ref.doc_id, page.ref.page_number) for page in pages]
        return super().encode_pages(pages)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BATCH_PAGES", 2)
    monkeypatch.setattr(pipeline, "COMMIT_PAGES", 4)


def found(index: Index, name: str, page: int) -> bool:
    return bool(index.search(unique_word(name, page), mode="text"))


def test_an_interrupted_run_keeps_what_it_has_encoded_and_goes_on_there(tmp_path: Path, small_steps: None) -> None:
    """A failure means: an error after an hour costs the hour, or the next run encodes the same pages again."""
    for name in "abcd":
        write_planted(tmp_path, name, 5)
    first, second = CountingEncoder(fail_after=15), CountingEncoder()
    with Index.create(tmp_path / ".docsearch", encoder=first) as index, pytest.raises(RuntimeError):
        index.add(tmp_path, FAST)
    kept = set(committed_pages(tmp_path / ".docsearch"))
    assert kept == set(first.pages), "all that was encoded is kept"
    with Index.open(tmp_path / ".docsearch", encoder=second) as index:
        report = index.add(tmp_path, FAST)
        assert report.pages == len(second.pages) == 20 - len(first.pages)
        assert not kept & set(second.pages), "a page was encoded twice"
        assert all(found(index, name, page) for name in "abcd" for page in range(1, 6))
        assert index.verify() == []


def test_ctrl_c_between_pages_and_changes_leaves_both_or_neither(tmp_path: Path) -> None:
    """A failure means: after Ctrl-C a search stumbles over a page whose document is unknown."""
    write_planted(tmp_path, "a", 5)
    events = 0

    def interrupt(_: object) -> None:
        nonlocal events
        events += 1
        if events == 4:
            raise KeyboardInterrupt

    with open_index(tmp_path / ".docsearch") as index:
        with pytest.raises(KeyboardInterrupt):
            index.add(tmp_path, FAST, on_progress=interrupt)
        assert index.verify() == []
        index.refresh()
        index.search("invoice")
        index.add(tmp_path, FAST)
        assert len(committed_pages(tmp_path / ".docsearch")) == 5


def test_a_changed_file_is_found_under_its_old_content_until_the_new_is_complete(
    tmp_path: Path, small_steps: None
) -> None:
    """A failure means: a big file that is being re-read is missing from all answers for an hour, or half there."""
    write_planted(tmp_path, "a", 3)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, FAST)
    write_pdf(tmp_path / "a.pdf", [page_text("new", number) for number in range(1, 12)])
    with Index.open(tmp_path / ".docsearch", encoder=CountingEncoder(fail_after=7)) as index:
        with pytest.raises(RuntimeError):
            index.add(tmp_path, FAST)
        index.refresh()
        for mode in ("text", "visual"):
            assert {hit.page_count for hit in index.search("invoice", mode=mode, k=50)} == {3}
        assert found(index, "a", 1)
        assert not found(index, "new", 1)
        assert index.stats()["pages"] == 3
    with open_index(tmp_path / ".docsearch") as index:
        report = index.add(tmp_path, FAST)
        assert (report.updated, report.added) == (1, 0)
        assert 0 < report.pages < 11, "what the interrupted run had encoded is used"
        assert not found(index, "a", 1)
        assert all(found(index, "new", number) for number in range(1, 12))
        assert index.stats()["documents"] == 1


def test_a_changed_twin_keeps_its_old_content_until_the_new_is_complete(tmp_path: Path, small_steps: None) -> None:
    """A failure means: when a new file and a changed one have the same content, the changed one is lost for a while."""
    write_planted(tmp_path, "b", 3)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, FAST)
    write_pdf(tmp_path / "a.pdf", [page_text("new", number) for number in range(1, 12)])
    shutil.copy(tmp_path / "a.pdf", tmp_path / "b.pdf")
    with Index.open(tmp_path / ".docsearch", encoder=CountingEncoder(fail_after=7)) as index:
        with pytest.raises(RuntimeError):
            index.add(tmp_path, FAST)
        index.refresh()
        assert found(index, "b", 1)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, FAST)
        assert not found(index, "b", 1)
        hit = index.search(unique_word("new", 11), k=1)[0]
        assert {Path(path).name for path in (hit.path, *hit.duplicates)} == {"a.pdf", "b.pdf"}


def test_identical_files_are_encoded_once_and_all_their_paths_are_told(tmp_path: Path) -> None:
    """A failure means: copies cost time and space, or fill the answer with the same page."""
    write_planted(tmp_path, "a", 3)
    for copy in ("b", "c"):
        shutil.copy(tmp_path / "a.pdf", tmp_path / f"{copy}.pdf")
    encoder = CountingEncoder()
    with Index.create(tmp_path / ".docsearch", encoder=encoder) as index:
        report = index.add(tmp_path, FAST)
        assert (report.added, report.duplicates, report.pages, len(encoder.pages)) == (1, 2, 3, 3)
        hits = index.search(unique_word("a", 2), k=3)
        assert [hit.page_number for hit in hits[:1]] == [2]
        assert sorted(Path(path).name for path in (hits[0].path, *hits[0].duplicates)) == ["a.pdf", "b.pdf", "c.pdf"]
        (tmp_path / "a.pdf").unlink()
        assert index.add(tmp_path, PRUNE).removed == 1
        assert found(index, "a", 2), "the content is there as long as one file has it"
        index.remove(path="*.pdf")
        assert not found(index, "a", 2)
        assert index.stats()["documents"] == 0


def test_vanished_files_go_only_when_asked(tmp_path: Path) -> None:
    """A failure means: a share that is not mounted empties the index; or deleted files are found for ever."""
    for name in "abc":
        write_planted(tmp_path / "docs", name, 2)
    with open_index(tmp_path / "index") as index:
        index.add(tmp_path / "docs", FAST)
        (tmp_path / "docs" / "b.pdf").unlink()
        report = index.add(tmp_path / "docs", FAST)
        assert (report.gone, report.removed, report.unchanged) == (1, 0, 2)
        assert found(index, "b", 1)
        report = index.add(tmp_path / "docs", PRUNE)
        assert (report.gone, report.removed, report.unchanged) == (0, 1, 2)
        assert not found(index, "b", 1)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "docs" / "c.pdf").unlink()
        assert index.add(tmp_path / "elsewhere", PRUNE).removed == 0, "only below the folders that were given"
        assert found(index, "c", 1)


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    """A failure means: a nightly run over an unchanged folder costs work, or grows the index."""
    write_planted(tmp_path, "a", 3)
    encoder = CountingEncoder()
    with Index.create(tmp_path / ".docsearch", encoder=encoder) as index:
        index.add(tmp_path, FAST)
        before = index.stats()
        report = index.add(tmp_path, FAST)
        assert (report.unchanged, report.added, report.pages, len(encoder.pages)) == (1, 0, 0, 3)
        assert index.stats() == before


def test_pages_keep_their_ids(tmp_path: Path) -> None:
    """A failure means: links, judgements and bookmarks by page id break when the index is made anew."""
    write_planted(tmp_path, "a", 3)
    ids = []
    for name in ("one", "two"):
        with open_index(tmp_path / name) as index:
            index.add(tmp_path / "a.pdf", FAST)
            ids.append(sorted(index._read().snapshot.page_ids.tolist()))
            if name == "two":
                index.remove("a.pdf")
                index.add(tmp_path / "a.pdf", FAST)
                index.compact()
                ids.append(sorted(index._read().snapshot.page_ids.tolist()))
    assert ids[0] == ids[1] == ids[2]


def test_a_folder_is_moved_together_with_its_index(tmp_path: Path) -> None:
    """A failure means: moving a folder of documents with the index inside loses the files, or reads them all again."""
    write_planted(tmp_path / "old" / "sub", "a", 3)
    with open_index(tmp_path / "old" / ".docsearch") as index:
        index.add(tmp_path / "old", FAST)
        before = answers(index, [unique_word("a", 1)])
    (tmp_path / "old").rename(tmp_path / "new")
    encoder = CountingEncoder()
    with Index.open(tmp_path / "new" / ".docsearch", encoder=encoder) as index:
        assert answers(index, [unique_word("a", 1)]) == before
        hit = index.search(unique_word("a", 1), k=1)[0]
        assert Path(hit.path) == tmp_path / "new" / "sub" / "a.pdf"
        assert index.page_image(hit).width > 0
        report = index.add(tmp_path / "new", PRUNE)
        assert (report.unchanged, report.added, report.gone, report.removed) == (1, 0, 0, 0)
        assert encoder.pages == []


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    """A failure means: vectors of two models are compared, and every answer is nonsense."""
    write_planted(tmp_path, "a", 1)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, FAST)
    retrained = CountingEncoder()
    retrained.fingerprint = "fake-2"
    with pytest.raises(EncoderMismatch, match="fake-2"):
        Index.open(tmp_path / ".docsearch", encoder=retrained).search("x")
    with pytest.raises(EncoderMismatch):
        Index.open(tmp_path / ".docsearch", encoder=retrained).add(tmp_path, FAST)
    with pytest.raises(EncoderMismatch, match="words"):
        Index.open(tmp_path / ".docsearch", encoder="words")


def test_a_page_that_failed_and_is_read_later_is_forgiven(tmp_path: Path) -> None:
    """A failure means: the list of failures names pages that are in the index."""
    write_planted(tmp_path, "a", 2)
    with open_index(tmp_path / ".docsearch") as index:
        with IndexWriter(index.paths, index.layout) as writer:
            doc_id = pipeline.hash_file(tmp_path / "a.pdf")
            writer.change(Catalog.put_page_failure, doc_id=doc_id, page_number=2, code="timeout", message="too slow")
            writer.change(Catalog.put_file, path="a.pdf", doc_id=doc_id, size=1)
            writer.commit()
        assert [failure.path for failure in index.failures()] == ["a.pdf#2"]
        index.refresh()
        index.add(tmp_path, IndexOptions(workers=1, ocr="off", retry_failed=True))
        assert index.failures() == []
        assert found(index, "a", 2)


def test_metadata_is_merged_and_survives(tmp_path: Path) -> None:
    """A failure means: tags that somebody set by hand are gone after the next run."""
    write_planted(tmp_path, "a", 1)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, IndexOptions(workers=1, ocr="off", metadata={"team": "ops", "year": 2022}))
        index.set_metadata("a.pdf", {"year": None, "signed": True})
        index.add(tmp_path, IndexOptions(workers=1, ocr="off", metadata={"lang": "de"}))
        index.compact()
        assert index.documents()[0]["metadata"] == {"team": "ops", "signed": True, "lang": "de"}
        with pytest.raises(PageNotFound):
            index.set_metadata("b.pdf", {"year": 1})


def test_a_commit_is_all_or_nothing(tmp_path: Path) -> None:
    """A failure means: an error in the middle of a commit leaves half of it."""

    def fail(_: Catalog) -> None:
        raise RuntimeError

    with open_index(tmp_path / "index") as index, IndexWriter(index.paths, index.layout) as writer:
        writer.change(Catalog.put_file, path="a.pdf", doc_id="a", size=1)
        writer.change(fail)
        with pytest.raises(RuntimeError):
            writer.commit()
        writer.commit()
        assert writer.catalog.files() == {}
        assert writer.catalog.commit_number() == 0


def test_vectors_are_on_disk_before_a_commit_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: after a power cut the catalog names segments that are empty or missing."""
    import os

    steps: list[str] = []
    sync, add_segment = os.fsync, Catalog.add_segment

    def seen_sync(handle: int) -> None:
        steps.append(Path(f"/proc/self/fd/{handle}").resolve().name)
        sync(handle)

    def seen_add_segment(catalog: Catalog, segment_id: int, pages: int, size: int) -> None:
        steps.append("catalog")
        add_segment(catalog, segment_id, pages, size)

    write_planted(tmp_path, "a", 1)
    with open_index(tmp_path / ".docsearch") as index:
        monkeypatch.setattr(os, "fsync", seen_sync)
        monkeypatch.setattr(Catalog, "add_segment", seen_add_segment)
        index.add(tmp_path, FAST)
        assert steps[:3] == ["00000001.seg", "segments", "catalog"]
    with closing(Catalog(tmp_path / ".docsearch" / "catalog.db", writable=True)) as catalog:
        assert catalog._rows("PRAGMA synchronous")[0][0] == 2, "SQLite must sync every commit"
        assert catalog._rows("PRAGMA journal_mode")[0][0] == "wal"


def test_orphans_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    """A failure means: every crash leaves a file that is never deleted, or one that is in use is."""
    write_planted(tmp_path, "a", 1)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, FAST)
        for name in ("00000007.seg", "00000002.seg.tmp"):
            (index.paths.segments / name).write_bytes(b"half")
        assert index.add(tmp_path, FAST).unchanged == 1
        assert [path.name for path in index.paths.segments.iterdir()] == ["00000001.seg"]


def test_the_catalog_holds_no_pickle_and_says_its_version(tmp_path: Path) -> None:
    """A failure means: reading an index of a stranger could run code, or a later version cannot tell what it reads."""
    write_planted(tmp_path, "a", 1)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, FAST)
    assert json.loads((tmp_path / ".docsearch" / "layout.json").read_text())["format_version"] == 2
    with closing(sqlite3.connect(tmp_path / ".docsearch" / "catalog.db")) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (1,)
    for path in (tmp_path / ".docsearch").rglob("*"):
        assert not path.is_file() or b"\x80\x04\x95" not in path.read_bytes()[:64]
