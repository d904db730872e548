"""A full disk: a clear message, everything committed still there to be searched, and a re-run that finishes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted import ROOT, committed_pages, environment, open_index, unique_word, write_planted

from docsearch.errors import DiskFull
from docsearch.index import Index
from docsearch.options import IndexOptions
from docsearch.retriever import prefilter
from docsearch.store import segment
from docsearch.store.layout import IndexPaths
from docsearch.store.lock import WriteLock

FAST = IndexOptions(workers=1, ocr="off")
NAMES = [f"doc{number}" for number in range(12)]
PAGES = 6

# Fills an index in small commits until it is done, or the disk is full, and tells what it saw.
INDEX = """
import json, sys
from pathlib import Path
from planted import open_index
from kill_worker import PoolInThisProcess
from docsearch.errors import DiskFull
from docsearch.indexer import pipeline
from docsearch.options import IndexOptions
pipeline.RenderPool = PoolInThisProcess
pipeline.COMMIT_PAGES, pipeline.BATCH_PAGES = 4, 4
limit = int(sys.argv[3])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    with open_index(Path(sys.argv[1])) as index:
        print(json.dumps({"pages": index.add(sys.argv[2], IndexOptions(ocr="off")).pages}))
except DiskFull as error:
    print(json.dumps({"full": str(error)}))
"""
SEARCH = """
import json, sys
from pathlib import Path
from planted import open_index
with open_index(Path(sys.argv[1])) as index:
    found = [index.search(word, k=1) for word in sys.argv[2:]]
    print(json.dumps([[Path(hit.path).stem for hit in hits] for hits in found]))
    assert index.verify() == []
"""


def run(code: str, *arguments: object) -> Any:
    """What a process of its own prints; it must not fail in any other way than it says."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment(), cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    for name in NAMES:
        write_planted(folder, name, PAGES)
    return folder


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """Make a folder a disk of this size where this process may; says whether it is one."""
    folder.mkdir()
    size = f"size={kilobytes}k"
    mounted = (
        os.name == "posix"
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False
        ).returncode
        == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("kilobytes", [300, 420])
def test_a_full_disk_costs_nothing_that_was_committed(docs: Path, tmp_path: Path, kilobytes: int) -> None:
    """A failure means: when the disk fills up, the index is lost, cannot be searched, or the user is told a riddle."""
    words = [unique_word(name, 1) for name in NAMES]
    with small_disk(tmp_path / "disk", kilobytes) as mounted:
        if not mounted:
            pytest.skip("no disk may be mounted here; the limit on the size of files below stands in for it")
        index = tmp_path / "disk" / "index"
        told = run(INDEX, index, docs, 0)
        assert "no space left" in told["full"]
        assert "free some space" in told["full"]
        pages = committed_pages(index)
        assert 0 < len(pages) < len(NAMES) * PAGES
        assert len(pages) == len(set(pages))

        filler = tmp_path / "disk" / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 512):
                pass
        found = run(SEARCH, index, *words)
        for doc_id, _ in pages:
            assert [name_of(index, doc_id)] in found, "a committed page cannot be found on a full disk"
        assert "full" in run(INDEX, index, docs, 0), "it is said again as long as the disk is full"

        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=20m", tmp_path / "disk"], check=True)
        assert set(committed_pages(index)) >= set(pages)
        assert run(INDEX, index, docs, 0)["pages"] > 0
        assert len(committed_pages(index)) == len(NAMES) * PAGES
        assert run(SEARCH, index, *words) == [[name] for name in NAMES]


def name_of(index: Path, doc_id: str) -> str:
    with open_index(index) as opened:
        return Path(opened._record(f"{doc_id}#1").paths[0]).stem


@pytest.mark.parametrize("limit", [20_000, 120_000])
def test_a_limit_on_the_size_of_files_ends_like_a_full_disk(docs: Path, tmp_path: Path, limit: int) -> None:
    """A failure means: a quota or `ulimit -f` ends in SQLite's own words, or breaks what was there."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such limit")
    index = tmp_path / "index"
    told = run(INDEX, index, docs, limit)
    assert "no space left" in told["full"]
    assert run(INDEX, index, docs, 0)["pages"] > 0
    assert run(SEARCH, index, *(unique_word(name, 1) for name in NAMES)) == [[name] for name in NAMES]


def no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_segment_that_does_not_fit_leaves_no_half_file(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure means: the attempt to write takes the last space away and leaves rubbish behind."""
    with open_index(tmp_path / "index") as index:
        with monkeypatch.context() as patch:
            patch.setattr(segment.os, "fsync", no_space)
            with pytest.raises(DiskFull, match="free some space"):
                index.add(docs, FAST)
        assert list(index.paths.segments.iterdir()) == []
        assert index.add(docs, FAST).pages == len(NAMES) * PAGES


def test_no_room_for_the_prefilter_is_said_and_costs_nothing(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure means: the last file of a run, which is only a convenience, makes a finished run look broken."""
    with open_index(tmp_path / "index") as index:
        with monkeypatch.context() as patch:
            patch.setattr(prefilter, "write_synced", no_space)
            with pytest.raises(DiskFull):
                index.add(docs, FAST)
        index.refresh()
        assert len(index.search(unique_word("doc1", 2), k=1)) == 1
        assert index.add(docs, FAST).unchanged == len(NAMES)
        assert len(list(index.paths.prefilter.iterdir())) == 1


def test_a_lock_without_room_for_its_note_is_a_lock_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure means: on a full disk nothing can be removed from the index to make room."""
    paths = IndexPaths(tmp_path)
    monkeypatch.setattr(Path, "write_text", no_space)
    with WriteLock(paths):
        assert not paths.lock_holder.exists()


def test_an_index_that_finds_no_room_can_be_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: a first attempt on a full disk leaves behind what is neither an index nor nothing."""
    with monkeypatch.context() as patch:
        patch.setattr("docsearch.index.write_layout", no_space)
        with pytest.raises(DiskFull):
            open_index(tmp_path / "index")
    with open_index(tmp_path / "index") as index:
        assert isinstance(index, Index)
        assert index.verify() == []


def test_an_index_on_a_disk_that_cannot_be_written_is_searched(docs: Path, tmp_path: Path) -> None:
    """A failure means: an index on a read-only share, image or disc cannot be used."""
    with small_disk(tmp_path / "disk", 4000) as mounted:
        if not mounted:
            pytest.skip("needs a disk of its own, which may not be mounted here")
        folder = tmp_path / "disk" / "index"
        with open_index(folder) as index:
            index.add(docs, FAST)
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        assert run(SEARCH, folder, *(unique_word(name, 1) for name in NAMES)) == [[name] for name in NAMES]
