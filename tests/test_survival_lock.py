"""One writer, many readers: who waits, who is told, and what a reader may see meanwhile."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from planted import environment, open_index, run_python, unique_word, write_planted

from docsearch.errors import DocsearchError, IndexExists, IndexLocked
from docsearch.index import Index
from docsearch.indexer import compact as compacting
from docsearch.options import IndexOptions
from docsearch.store.catalog import Catalog
from docsearch.store.lock import WriteLock
from docsearch.store.writer import IndexWriter
from docsearch.testing import FakeEncoder
from docsearch.types import PageRef, RenderedPage, Words

FAST = IndexOptions(workers=1, ocr="off")
HOLD = """
import sys, time
from pathlib import Path
from planted import open_index
from docsearch.store.writer import IndexWriter
index = open_index(Path(sys.argv[1]))
with IndexWriter(index.paths, index.layout):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def held_elsewhere(folder: Path, seconds: float = 60.0) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock, for a time or until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def add_words(index: Index, *texts: str) -> list[int]:
    """Commit pages with these words, all at once and without any file; returns their ids."""
    with IndexWriter(index.paths, index.layout, lock_timeout=60) as writer:
        ids = [stage_page(writer, f"{text}-doc", 1, text) for text in texts]
        writer.commit()
    return ids


def stage_page(writer: IndexWriter, doc_id: str, number: int, text: str) -> int:
    """Let the next commit add a page with these words, and the document it belongs to."""
    words = Words(tuple(text.split()), np.tile(np.array([0, 0, 9, 9], np.uint16), (len(text.split()), 1)))
    page = RenderedPage(ref=PageRef(doc_id, number), words=words, text_source="layer")
    writer.add_pages([(page, FakeEncoder().encode_pages([page])[0])])
    writer.change(Catalog.put_document, doc_id=doc_id, page_count=1, title="", complete=True, indexed_at="2026")
    writer.change(Catalog.put_file, path=f"{doc_id}.pdf", doc_id=doc_id, size=1)
    return page.ref.page_id


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    """A failure means: two writers at once, or a user who does not know which process to wait for."""
    write_planted(tmp_path / "docs", "one", 1)
    with open_index(tmp_path / "index") as index, held_elsewhere(tmp_path / "index") as holder:
        with pytest.raises(IndexLocked) as refusal:
            index.add(tmp_path / "docs", FAST)
        assert f"process {holder.pid}" in refusal.value.holder
        assert f"process {holder.pid}" in str(refusal.value)
        for write in (lambda: index.remove("x"), index.compact, lambda: index.verify(repair=True)):
            with pytest.raises(IndexLocked):
                write()
        assert index.search("anything") == [], "searching goes on while another process writes"


def test_a_second_writer_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    """A failure means: --lock-timeout is ignored, and a nightly job fails because another is just finishing."""
    write_planted(tmp_path / "docs", "one", 1)
    with open_index(tmp_path / "index") as index, held_elsewhere(tmp_path / "index", 3.0):
        started = time.monotonic()
        with pytest.raises(IndexLocked):
            index.add(tmp_path / "docs", FAST, lock_timeout=1.5)
        assert time.monotonic() - started >= 1.5
        assert index.add(tmp_path / "docs", FAST, lock_timeout=30).pages == 1


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """A failure means: after a crash somebody has to find out which file to delete before the index can be written."""
    with open_index(tmp_path / "index") as index, held_elsewhere(tmp_path / "index") as holder:
        assert "process" in index.paths.lock_holder.read_text()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        add_words(index, "alpha")
        assert len(index.search("alpha")) == 1
        assert not index.paths.lock_holder.exists()


def test_a_writer_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    """A failure means: two threads of a server write at once."""
    with open_index(tmp_path / "index") as index, WriteLock(index.paths), pytest.raises(IndexLocked):
        index.remove("x")


def test_a_failed_start_lets_go_of_the_lock(tmp_path: Path) -> None:
    """A failure means: one damaged file keeps an index locked until the process ends."""
    index = open_index(tmp_path / "index")
    index.paths.catalog.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DocsearchError, match=r"catalog\.db is damaged"):
            index.remove("x")
    with WriteLock(index.paths):
        pass


def test_many_processes_may_make_the_same_index_at_once(tmp_path: Path) -> None:
    """A failure means: two first runs started together delete each other's catalog, and committed pages are gone."""
    code = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from planted import open_index
from test_survival_lock import add_words
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
add_words(open_index(Path(sys.argv[1])), sys.argv[4])
"""
    folder, go = tmp_path / "index", tmp_path / "go"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, folder, go, Path(__file__).parent, f"word{number}"],
            stdout=subprocess.PIPE,
            env=environment(),
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
    go.touch()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    with open_index(folder) as index:
        assert [len(index.search(f"word{number}", mode="text")) for number in range(4)] == [1, 1, 1, 1]


def test_an_index_is_not_made_over_another(tmp_path: Path) -> None:
    """A failure means: creating by mistake where an index is throws the old one away."""
    with open_index(tmp_path / "index") as index:
        add_words(index, "alpha")
        with pytest.raises(IndexExists):
            Index.create(tmp_path / "index", encoder=FakeEncoder())
        assert len(index.search("alpha")) == 1


def test_readers_in_other_processes_see_whole_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: a search beside a writer mixes two states, misses pages that were always there, or fails.

    Every commit replaces all pages of the generation before by those of the next, and compacts; a reader must see
    exactly one generation, whole, in each of its ways of searching, and never an older one than before.
    """
    monkeypatch.setattr(compacting, "FANOUT", 3)
    read = """
import sys, time
from pathlib import Path
from planted import open_index
index = open_index(Path(sys.argv[1]))
seen = rounds = 0
print("ready", flush=True)
last = False
while not last or rounds < 3:
    last = Path(sys.argv[2]).exists()
    rounds += 1
    index.refresh()
    for options in ({"mode": "text"}, {"mode": "visual"}, {"mode": "hybrid", "exact": True}):
        hits = index.search("always", k=50, **options)
        generations = {hit.snippet.split()[1] for hit in hits}
        assert len(hits) == 6, (options, len(hits))
        assert len(generations) == 1, generations
        generation = int(generations.pop().removeprefix("generation"))
        assert generation >= seen, "time went backwards"
        seen = generation
print(rounds, seen)
"""
    with open_index(tmp_path / "index") as index:
        replace_generation(index, 0)
        done = tmp_path / "done"
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", read, tmp_path / "index", done],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
            )
            for _ in range(2)
        ]  # fmt: skip
        for reader in readers:
            assert reader.stdout
            assert reader.stdout.readline() == "ready\n"
        for generation in range(1, 25):
            replace_generation(index, generation)
            if generation % 5 == 0:
                index.compact(lock_timeout=10)
        done.touch()
        for reader in readers:
            out, err = reader.communicate(timeout=60)
            assert reader.returncode == 0, err
            rounds, last = map(int, out.split())
            assert rounds >= 3
            assert last == 24, "after the last commit a refreshed reader sees it"


def replace_generation(index: Index, generation: int) -> None:
    """One commit that takes all documents out and puts six new ones in."""
    with IndexWriter(index.paths, index.layout) as writer:
        old = writer.catalog.files()
        for number in range(6):
            stage_page(writer, f"{generation}-{number}", 1, f"always generation{generation} number{number}")
        for path in old:
            writer.change(Catalog.drop_file, path=path)
        writer.change(Catalog.drop_documents_without_files)
        writer.commit()
        compacting.compact(writer)


def test_a_snapshot_stands_still_while_the_index_moves_on(tmp_path: Path) -> None:
    """A failure means: a search page by page, or a long evaluation, gets answers of several states."""
    with open_index(tmp_path / "index") as index, open_index(tmp_path / "index") as writer:
        add_words(writer, "alpha", "beta")
        before = index.search("alpha beta")
        add_words(writer, "gamma")
        writer.remove("alpha-doc.pdf")
        writer.compact()
        assert index.search("alpha beta") == before
        assert index.search("gamma", mode="text") == []
        index.refresh()
        assert index.search("alpha", mode="text") == []
        assert [hit.snippet for hit in index.search("gamma", mode="text")] == ["gamma"]


def test_threads_share_an_index_while_it_is_refreshed(tmp_path: Path) -> None:
    """A failure means: a server that answers several users at once mixes their answers up, or fails.

    Every thread asks for words only one page has, so an answer meant for another thread is noticed.
    """
    names = [f"doc{number}" for number in range(4)]
    for name in names:
        write_planted(tmp_path / "docs", name, 3)
    problems: list[object] = []
    with open_index(tmp_path / "index") as index:
        index.add(tmp_path / "docs", FAST)
        ends = time.monotonic() + 3

        def search(own: int) -> None:
            while time.monotonic() < ends:
                name, page = names[own % 4], 1 + own % 3
                hits = index.search(unique_word(name, page), k=2, where='title != ""', path="*.pdf")
                if not hits or Path(hits[0].path).stem != name or hits[0].page_number != page:
                    problems.append(hits)
                own += 5

        def refresh(_: int) -> None:
            count = 0
            while time.monotonic() < ends:
                add_words(index, f"new{count}")
                index.refresh()
                if len(index.search(f"new{count}", mode="text")) != 1:
                    problems.append(f"a refresh did not show commit {count}")
                count += 1

        run_threads([search] * 8 + [refresh], problems)
    assert problems == []


def test_threads_do_not_get_each_others_rows(tmp_path: Path) -> None:
    """A failure means: on Python 3.12 and later, two threads that ask the same statement get one answer."""
    index = open_index(tmp_path / "index")
    words = [f"word{number}" for number in range(40)]
    ids = add_words(index, *words)
    catalog = Catalog(index.paths.catalog)
    problems: list[object] = []

    def look(own: int) -> None:
        for step in range(400):
            at = (own * 7 + step) % len(ids)
            if catalog.page(ids[at]).words.text != words[at]:
                problems.append(at)

    run_threads([look] * 8, problems)
    catalog.close()
    assert problems == []


def run_threads(functions: list[Callable[[int], None]], problems: list[object]) -> None:
    """Run all at once, each with its number; what they raise becomes a problem."""

    def run(function: Callable[[int], None], own: int) -> None:
        try:
            function(own)
        except Exception as error:  # noqa: BLE001
            problems.append(repr(error))

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    threads = [threading.Thread(target=run, args=(function, own)) for own, function in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(switch)


def test_compacting_does_not_wait_for_readers(tmp_path: Path) -> None:
    """A failure means: `docsearch compact` beside a server that keeps its snapshot hangs for half a minute."""
    with open_index(tmp_path / "index") as reader, open_index(tmp_path / "index") as index:
        add_words(index, "alpha")
        before = reader.search("alpha")
        add_words(index, "beta")
        started = time.monotonic()
        assert index.compact() == 2
        assert time.monotonic() - started < 10
        assert reader.search("alpha") == before
        assert [hit.snippet for hit in index.search("beta", mode="text")] == ["beta"]


def test_verify_beside_a_writer_reports_nothing(tmp_path: Path) -> None:
    """A failure means: a nightly check cries wolf because a compaction replaced segments while it was reading."""
    with open_index(tmp_path / "index") as index, open_index(tmp_path / "index") as checker:
        replace_generation(index, 0)
        damage: list[object] = []
        stop = threading.Event()

        def verify(_: int) -> None:
            while not stop.is_set():
                damage.extend(checker.verify())
                checker.stats()

        def write(_: int) -> None:
            try:
                for generation in range(1, 12):
                    replace_generation(index, generation)
                    index.compact()
            finally:
                stop.set()

        run_threads([verify, write], damage)
    assert damage == []


def test_a_snapshot_that_nobody_uses_lets_go_of_its_files(tmp_path: Path) -> None:
    """A failure means: a server that refreshes every minute runs out of file handles, or warns about each."""
    with open_index(tmp_path / "index") as index:
        add_words(index, "alpha")
        open_files = set()
        for _ in range(6):
            index.search("alpha")
            index.refresh()
            open_files.add(len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0)
        assert len(open_files) == 1


def test_an_index_can_be_used_again_after_it_was_closed(tmp_path: Path) -> None:
    """A failure means: `with index:` twice, as notebooks do, ends in an error about a closed database."""
    index = open_index(tmp_path / "index")
    add_words(index, "alpha")
    for _ in range(2):
        with index:
            assert len(index.search("alpha")) == 1


def test_no_index_is_made_by_asking(tmp_path: Path) -> None:
    """A failure means: a mistyped folder becomes an empty index that finds nothing."""
    result = run_python("import sys; from docsearch.index import Index; Index.open(sys.argv[1])", tmp_path / "nothing")
    assert "IndexNotFound" in result.stderr
    assert not (tmp_path / "nothing").exists()
