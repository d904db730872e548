"""Damaged files of an index: each is named, nothing is guessed, and repairing plus indexing again heals it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import FILLER, answers, open_index, unique_word, write_planted

from docsearch.errors import DocsearchError, IndexDamaged, IndexIncompatible
from docsearch.index import Index
from docsearch.indexer import pipeline
from docsearch.options import IndexOptions
from docsearch.testing import FakeEncoder

FAST = IndexOptions(workers=1, ocr="off")
NAMES = [f"doc{number}" for number in range(5)]
PAGES = 4
QUERIES = [*FILLER[:3], *(unique_word(name, page) for name in NAMES for page in (1, 4))]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents and an index of several segments."""
    folder = tmp_path_factory.mktemp("healthy")
    for name in NAMES:
        write_planted(folder, name, PAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "COMMIT_PAGES", 6)
        patch.setattr(pipeline, "BATCH_PAGES", 2)
        with open_index(folder / ".docsearch") as index:
            assert index.add(folder, FAST).pages == len(NAMES) * PAGES
            assert len(index._read().snapshot.segments) > 2
    return folder


@pytest.fixture(scope="module")
def truth(healthy: Path) -> list[list[tuple[str, int, float]]]:
    with open_index(healthy / ".docsearch") as index:
        return answers(index, QUERIES)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path, at: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    if at is None:  # somewhere in the middle; in the catalog, where a page's text is
        at = data.find(unique_word("doc2", 2).encode())
        at = len(data) // 2 if at < 0 else at
    data[at] ^= 0x10
    path.write_bytes(data)


def remove(path: Path) -> None:
    path.unlink()


def swap(path: Path) -> None:
    """Put another segment's sound file in place of this one."""
    other = next(other for other in sorted(path.parent.iterdir()) if other != path)
    shutil.copy(other, path)


def one_file(folder: Path, kind: str) -> Path:
    index = folder / ".docsearch"
    return index / "catalog.db" if kind == "catalog" else min((index / kind).iterdir())


@pytest.mark.parametrize(
    ("kind", "harm"),
    [("segments", swap)]
    + [(kind, harm) for kind in ("segments", "catalog", "prefilter") for harm in (truncate, empty, flip, remove)],
)
def test_damage_is_named_and_healed(
    healthy: Path, truth: list[list[tuple[str, int, float]]], tmp_path: Path, kind: str, harm: Callable[[Path], None]
) -> None:
    """A failure means: a bad disk or a bad copy gives wrong answers silently, or an index that cannot be mended."""
    folder = Path(shutil.copytree(healthy, tmp_path / "folder"))
    path = one_file(folder, kind)
    harm(path)
    with open_index(folder / ".docsearch") as index:
        damage = index.verify()
        if kind == "prefilter" and harm is remove:
            assert damage == [], "a prefilter that is not there is made when it is wanted"
        else:
            assert [error.path for error in damage] == [path]
            assert path.name in str(damage[0])
            assert "damaged" in str(damage[0])
        if kind == "prefilter":  # a convenience: searching goes on without it
            assert answers(index, QUERIES) == truth
        index.close()

        assert [error.path for error in index.verify(repair=True)] == [error.path for error in damage]
        assert index.verify() == []
        report = index.add(folder, FAST)
        assert answers(index, QUERIES) == truth
        if kind == "segments":
            assert 0 < report.pages < len(NAMES) * PAGES, "only the lost pages are made anew"
        if kind == "prefilter":
            assert report.pages == 0
        assert index.verify() == []
        assert len(list(index.paths.prefilter.iterdir())) == 1


@pytest.mark.parametrize("harm", [truncate, empty, remove])
@pytest.mark.parametrize("kind", ["segments", "catalog"])
def test_searching_a_damaged_index_names_the_file(
    healthy: Path, tmp_path: Path, kind: str, harm: Callable[[Path], None]
) -> None:
    """A failure means: the user sees a traceback of another library in place of a file name and a way out."""
    folder = Path(shutil.copytree(healthy, tmp_path / "folder"))
    path = one_file(folder, kind)
    harm(path)
    with open_index(folder / ".docsearch") as index, pytest.raises(IndexDamaged, match="verify --repair") as error:
        answers(index, QUERIES)
    assert error.value.path == path


def test_every_byte_of_a_segment_counts(healthy: Path, tmp_path: Path) -> None:
    """A failure means: there are bytes whose change nobody notices."""
    folder = Path(shutil.copytree(healthy, tmp_path / "folder"))
    path = one_file(folder, "segments")
    sound = path.read_bytes()
    with open_index(folder / ".docsearch") as index:
        padding = unused_bytes(index, path)
        for at in random.Random("segment").sample(range(len(sound)), 150):
            flip(path, at)
            noticed = [error.path for error in index.verify()]
            assert noticed == ([] if at in padding else [path]), f"byte {at}"
            path.write_bytes(sound)


def unused_bytes(index: Index, path: Path) -> set[int]:
    """The bytes between a segment's sections, which hold nothing."""
    segment = next(segment for segment in index._read().snapshot.segments if segment.path == path)
    header = 20 + int.from_bytes(path.read_bytes()[12:16], "little")
    unused = set(range(header, path.stat().st_size))
    for name, entry in segment._table.items():
        unused -= set(range(entry["offset"], entry["offset"] + getattr(segment, name).nbytes))
    index.close()
    return unused


def test_flips_in_the_catalog_never_end_in_another_librarys_error(healthy: Path, tmp_path: Path) -> None:
    """A failure means: a flipped bit in the catalog ends in a traceback, or changes which pages are found, unnoticed.

    What SQLite cannot notice is a change of a value that is there only once: a title, a path, a page's size.
    """
    folder = Path(shutil.copytree(healthy, tmp_path / "folder"))
    path = one_file(folder, "catalog")
    sound = path.read_bytes()
    with open_index(folder / ".docsearch") as index:
        expected = [[hit[:2] for hit in hits] for hits in answers(index, QUERIES[2:5])]
    named = 0
    for at in random.Random("catalog").sample(range(len(sound)), 60):
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        flip(path, at)
        with open_index(folder / ".docsearch") as index:
            damage = index.verify()
            named += bool(damage)
            try:
                found = [[hit[:2] for hit in hits] for hits in answers(index, QUERIES[2:5])]
            except DocsearchError:
                assert damage, f"byte {at}: searching fails, and verify says that all is well"
            else:
                assert damage or found == expected, f"byte {at}: other pages are found, and nobody notices"
        path.write_bytes(sound)
    assert named > 10


def test_merging_does_not_vouch_for_damage(healthy: Path, tmp_path: Path) -> None:
    """A failure means: compacting writes damaged vectors into a new segment with a sound checksum, past any repair."""
    folder = Path(shutil.copytree(healthy, tmp_path / "folder"))
    path = one_file(folder, "segments")
    flip(path, path.stat().st_size - 1)
    with open_index(folder / ".docsearch") as index:
        with pytest.raises(IndexDamaged) as error:
            index.compact()
        assert error.value.path == path
        assert [error.path for error in index.verify()] == [path]


def test_a_prefilter_of_a_former_life_is_not_believed(healthy: Path, truth: object, tmp_path: Path) -> None:
    """A failure means: after a repair, candidates come from vectors of pages that are somewhere else now."""
    folder = Path(shutil.copytree(healthy, tmp_path / "folder"))
    old = (path := one_file(folder, "prefilter")).read_bytes()
    with open_index(folder / ".docsearch") as index:
        empty(index.paths.catalog)
        index.verify(repair=True)
        for name in reversed(NAMES):  # a segment each: numbers like those of before, other pages
            index.add(folder / f"{name}.pdf", FAST)
        for left in index.paths.prefilter.iterdir():
            left.unlink()
        found = []
        for _ in range(2):
            index.refresh()
            found.append([index.search(word, mode="visual", k=1, n_candidates=1) for word in QUERIES])
            (path.parent / "99999999.faiss").write_bytes(old)
        assert found[0] == found[1]


def test_a_repair_waits_for_the_writer(healthy: Path, tmp_path: Path) -> None:
    """A failure means: repairing pulls the catalog away from under a run that is committing."""
    from docsearch.errors import IndexLocked
    from docsearch.store.lock import WriteLock

    folder = Path(shutil.copytree(healthy, tmp_path / "folder"))
    with open_index(folder / ".docsearch") as index:
        empty(index.paths.catalog)
        with WriteLock(index.paths), pytest.raises(IndexLocked):
            index.verify(repair=True)
        assert index.paths.catalog.stat().st_size == 0


def test_lost_empty_folders_are_no_damage(healthy: Path, tmp_path: Path) -> None:
    """A failure means: an index that was copied by a tool that drops empty folders cannot be written any more."""
    with open_index(tmp_path / "index") as index:
        index.paths.segments.rmdir()
        index.paths.prefilter.rmdir()
        assert index.search("anything") == []
        assert index.add(healthy, FAST).pages == len(NAMES) * PAGES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"[]", "lacks"),
        (b"{}", "lacks"),
        (b'{"format_version": 1, "encoder": "fake"}', "lacks"),
        (
            b'{"encoder":"fake","fingerprint":"fake-1","token_dim":32,"dense_dim":48,"codec":"int9","format_version":1}',
            "",
        ),
        (
            b'{"encoder":"fake","fingerprint":"fake-1","token_dim":-2,"dense_dim":48,"codec":"int8","format_version":1}',
            "",
        ),
        (
            b'{"encoder":"fake","fingerprint":"fake-1","token_dim":32,"dense_dim":"4","codec":"int8","format_version":1}',
            "",
        ),
        (
            b'{"encoder":"fake","fingerprint":"fake-1","token_dim":32,"dense_dim":48,"codec":"int8","format_version":0}',
            "",
        ),
        (b"\xff\xfe", "no JSON"),
    ],
)
def test_a_damaged_layout_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """A failure means: vectors are read in the wrong shape, or an error says nothing about the file that is wrong."""
    open_index(tmp_path / "index")
    (tmp_path / "index" / "layout.json").write_bytes(content)
    with pytest.raises(IndexDamaged, match=r"layout\.json is damaged") as error:
        Index.open(tmp_path / "index", encoder=FakeEncoder())
    assert message in str(error.value)


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A failure means: an old version writes into a newer index, or calls it damaged and tells users to repair it."""
    open_index(tmp_path / "index")
    layout = tmp_path / "index" / "layout.json"
    layout.write_text(layout.read_text().replace('"format_version": 2', '"format_version": 3'))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "index").iterdir()}
    with pytest.raises(IndexIncompatible, match="upgrade"):
        Index.open(tmp_path / "index", encoder=FakeEncoder(), create=True)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "index").iterdir()} == before
