"""`kill -9` at any moment: nothing committed is lost, nothing is there twice, and the next run ends where it should."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from planted import (
    ROOT,
    answers,
    committed_pages,
    environment,
    open_index,
    page_text,
    unique_word,
    write_pdf,
    write_planted,
)

from docsearch.errors import IndexNotFound
from docsearch.index import Index
from docsearch.testing import FakeEncoder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")

FILES = {f"report{number}": 2 + number % 3 for number in range(9)}
CHANGED = ("report1", "report4", "report7")
NEW, GONE, REMOVED = "arrived", "report2", "report3"
QUERIES = [
    "invoice harbour",
    "pressure valve engine",
    *(unique_word(name, 1) for name in FILES),
    *(unique_word(f"{name} rewritten", 1) for name in CHANGED),
]


SEEDS, KILLS_PER_STAGE = 3, 6  # 54 kills, and four with the real rendering processes
MARK = "DOCSEARCH_TEST_OF_KILLS"


class Worker:
    """`kill_worker.py`, running."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "kill_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(), MARK: "1"},
        )

    def run(self, index: Path, log: Path, *steps: tuple[str, Any], **how: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        request = {"index": str(index), "log": str(log), "steps": steps, **how}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert not answer["failed"], "a run that was not killed failed: see the traceback on stderr"
        return answer

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    running = Worker()
    yield running
    running.close()


@pytest.fixture(scope="module")
def first_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a few pages each, one of them twice, and one that is no PDF."""
    folder = tmp_path_factory.mktemp("sources") / "docs"
    for name, pages in FILES.items():
        write_planted(folder, name, pages)
    shutil.copy(folder / "report0.pdf", folder / "report0 copy.pdf")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    return folder


def rewrite(docs: Path) -> None:
    """What happens to the files between two runs: some change, one comes, one goes."""
    for name in CHANGED:
        write_pdf(docs / f"{name}.pdf", [page_text(f"{name} rewritten", number) for number in (1, 2, 3)])
    write_planted(docs, NEW, 3)
    (docs / f"{GONE}.pdf").unlink()


def steps_of(docs: Path) -> list[list[tuple[str, Any]]]:
    """The life of an index: filled; brought up to date; cleaned up."""
    removed, described = str(docs / f"{REMOVED}.pdf"), str(docs / "report5.pdf")
    return [
        [("add", [str(docs)])],
        [("add", [str(docs)]), ("describe", described)],
        [("compact", None), ("remove", removed), ("compact", None)],
    ]


@pytest.fixture(scope="module")
def reference(worker: Worker, first_version: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The same life without a kill: what is in the index after each stage, and how long and eventful each was."""
    folder = tmp_path_factory.mktemp("reference")
    docs = Path(shutil.copytree(first_version, folder / "docs"))
    stages = []
    for stage, steps in enumerate(steps_of(docs)):
        if stage == 1:
            rewrite(docs)
        run = worker.run(folder / "index", folder / "log", *steps)
        stages.append({"events": run["events"], "seconds": run["seconds"]} | contents(folder / "index"))
    return stages


def contents(folder: Path) -> dict[str, Any]:
    """All that must not depend on kills."""
    with open_index(folder) as index:
        files = {
            Path(file["path"]).name: (file["doc_id"], file["pages"], file["complete"], file["metadata"])
            for file in index.documents()
        }
        failures = sorted((Path(failure.path).name, failure.code) for failure in index.failures())
        return {
            "answers": answers(index, QUERIES),
            "pages": committed_pages(folder),
            "files": files,
            "failures": failures,
            "damage": [str(error) for error in index.verify()],
        }


def check_after_kill(folder: Path, log: Path, docs: Path, stage: int) -> None:
    """What must hold at any moment, with nobody having tidied up."""
    told = {(line.split()[0], int(line.split()[1])) for line in log.read_text().splitlines()} if log.exists() else set()
    try:
        index = Index.open(folder, encoder=FakeEncoder())
    except IndexNotFound:
        assert not told
        return
    with index:
        assert index.verify() == [], "a kill must leave no damaged file behind"
        pages = committed_pages(folder)
        assert len(pages) == len(set(pages)), "a page is there twice"
        if stage == 0:
            assert told <= set(pages), "a page that was committed is gone"
            for doc_id, number in list(told)[:2]:
                word = next(w for w in index.page(f"{doc_id}#{number}").words.texts if w.startswith("only"))
                found = [(hit.doc_id, hit.page_number) for hit in index.search(word, k=1)]
                assert found == [(doc_id, number)], "a committed page is not found by the word only it has"
        for name in CHANGED if stage == 1 else ():
            old = index.search(unique_word(name, 1), mode="text")
            new = index.search(unique_word(f"{name} rewritten", 1), mode="text")
            assert bool(old) != bool(new), "a changed file must be found under its old or its new content, never none"
            last = index.search(unique_word(f"{name} rewritten", 3), mode="text")
            assert bool(new) == bool(last), "the new content shows before all of it is there"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_kills_at_events_and_at_random_times(
    worker: Worker, first_version: Path, reference: list[dict[str, Any]], tmp_path: Path, seed: int
) -> None:
    """A failure means: a crash or `kill -9` costs a user pages, shows them twice, or leaves an index to be repaired.

    Each of the three stages of an index's life is killed again and again, in turn at an event and after a time, and
    then left to finish; what is in the index must then be what an uninterrupted life leaves.
    """
    chance = random.Random(f"kill {seed}")
    docs = Path(shutil.copytree(first_version, tmp_path / "docs"))
    index, log, before = tmp_path / "index", tmp_path / "log", tmp_path / "before"
    index.mkdir()
    for stage, steps in enumerate(steps_of(docs)):
        if stage == 1:
            rewrite(docs)
        expected = reference[stage]
        log.unlink(missing_ok=True)
        shutil.copytree(index, before, dirs_exist_ok=True)
        kills = starts = restarts = 0
        while kills < KILLS_PER_STAGE:
            share = 0.7**starts  # less and less is left to do
            if kills % 2:
                how: dict[str, Any] = {"delay": chance.uniform(0, share * expected["seconds"])}
            else:
                how = {"event": chance.randint(1, max(2, round(share * expected["events"])))}
            if worker.run(index, log, *steps, **how)["killed"]:
                kills, starts = kills + 1, starts + 1
                check_after_kill(index, log, docs, stage)
            else:  # it was done before it could be killed: from the beginning
                restarts += 1
                assert restarts < 60, "runs end before they can be killed"
                shutil.rmtree(index)
                shutil.copytree(before, index)
                log.unlink(missing_ok=True)
                starts = 0
        worker.run(index, log, *steps)
        after = contents(index)
        for what, value in after.items():
            assert value == expected[what], f"{what} differ from those of an uninterrupted run"
        with open_index(index) as opened:
            in_use = {segment.path.name for segment in opened._read().snapshot.segments}
        assert {path.name for path in (index / "segments").iterdir()} == in_use, "an orphan was left"
        shutil.rmtree(before)


def test_a_killed_run_takes_its_rendering_processes_along(
    worker: Worker, first_version: Path, reference: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A failure means: a killed run leaves processes behind that hold memory, or lost pages with the real renderers."""
    chance = random.Random("real pool")
    index, log = tmp_path / "index", tmp_path / "log"
    index.mkdir()
    docs = Path(shutil.copytree(first_version, tmp_path / "docs"))
    step = ("add", [str(docs)])
    for event in (3, chance.randint(10, 30), chance.randint(10, 30)):
        run = worker.run(index, log, step, event=event, real_pool=True)
        assert run["killed"]
        check_after_kill(index, log, docs, 0)
    run = worker.run(index, log, step, delay=1.0, real_pool=True)
    assert worker.run(index, log, step, real_pool=True)["killed"] is False
    assert contents(index)["answers"] == reference[0]["answers"]
    until = time.monotonic() + 5
    while renderers_without_a_parent() and time.monotonic() < until:
        time.sleep(0.05)
    assert renderers_without_a_parent() == []


def renderers_without_a_parent() -> list[int]:
    """Rendering processes whose parent is no docsearch run any more."""
    orphans = []
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        environ = process.info["environ"] or {}
        if environ.get(MARK) == "1" and "docsearch.indexer.worker" in " ".join(process.info["cmdline"] or ()):
            orphans.append(process.info["pid"])
    return orphans
