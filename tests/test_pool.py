"""The rendering processes: whatever happens to one of them, every other page of every document arrives."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pymupdf
import pytest
from PIL import Image
from planted import make_endless

from docsearch.errors import DocsearchError, UnsupportedInput
from docsearch.indexer import pool as pool_module
from docsearch.indexer.pool import Done, Failed, Opened, PageFailed, RenderJob, RenderPool, read_words
from docsearch.types import RenderedPage

ROOT = Path(__file__).parent.parent


def make_pdf(path, pages, *, text="page"):
    document = pymupdf.open()
    for number in range(1, pages + 1):
        document.new_page(width=300, height=200).insert_text((20, 50), f"{text}{number} of {path.stem}")
    document.save(path)
    return path


def run(jobs, **options):
    options.setdefault("workers", 2)
    options.setdefault("ocr", "off")
    with RenderPool(**options) as pool:
        return list(pool.run(jobs))


def job(path, doc_id=None, **more):
    return RenderJob(path, doc_id or path.name, **more)


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def page_numbers(events, doc_id):
    return sorted(event.ref.page_number for event in of_kind(events, RenderedPage) if event.ref.doc_id == doc_id)


def workers_of(pid=None):
    """The rendering processes that live."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "docsearch.indexer.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """After every test: no process and no thread of a pool is left."""
    yield
    wait_until(lambda: not workers_of())
    assert not [thread for thread in threading.enumerate() if thread.name == "docsearch-render"]


def test_every_page_of_every_document_comes_once(tmp_path):
    """A failure means pages are lost, doubled, or given to the wrong document."""
    sizes = {"a": 1, "b": 40, "c": 3, "d": 17, "e": 2}
    paths = {name: make_pdf(tmp_path / f"{name}.pdf", pages) for name, pages in sizes.items()}
    events = run(job(path, name) for name, path in paths.items())

    for name, pages in sizes.items():
        assert page_numbers(events, name) == list(range(1, pages + 1))
        mine = [event for event in events if getattr(event, "job", None) and event.job.doc_id == name]
        assert [type(event) for event in mine] == [Opened, Done]
        assert mine[0].page_count == pages
        places = [events.index(event) for event in of_kind(events, RenderedPage) if event.ref.doc_id == name]
        assert events.index(mine[0]) < min(places) <= max(places) < events.index(mine[1])
    for page in of_kind(events, RenderedPage):
        assert page.words.text == f"page{page.ref.page_number} of {page.ref.doc_id}"
        assert page.words.boxes.shape == (3, 4)


def test_pages_arrive_as_they_were_rendered(tmp_path):
    """A failure means pixels, boxes or labels are mixed up on their way between processes."""
    from docsearch.indexer.render import RenderOptions, render_pages

    path = make_pdf(tmp_path / "a.pdf", 2)
    options = RenderOptions(needs_image=True, dpi=80, ocr="off")
    here = list(render_pages(path, doc_id="a", options=options))
    there = of_kind(run([job(path, "a")], needs_image=True, dpi=80, workers=1), RenderedPage)
    for one, other in zip(here, there, strict=True):
        assert one.ref == other.ref
        assert one.words.texts == other.words.texts
        np.testing.assert_array_equal(one.words.boxes, other.words.boxes)
        np.testing.assert_array_equal(one.image, other.image)
        for name in ("text_source", "page_label", "width_pt", "height_pt", "dpi"):
            assert getattr(one, name) == getattr(other, name)


def test_pages_that_are_there_already_are_skipped(tmp_path):
    """A failure means a continued run renders everything again, or never ends."""
    path = make_pdf(tmp_path / "a.pdf", 30)
    events = run([job(path, "a", skip=frozenset(range(1, 30)) - {5}), job(path, "b", skip=frozenset(range(1, 31)))])
    assert page_numbers(events, "a") == [5, 30]
    assert [event.job.doc_id for event in of_kind(events, Done)].count("b") == 1
    assert page_numbers(events, "b") == []


def test_no_jobs_no_events():
    """A failure means an empty folder hangs."""
    assert run([]) == []


def test_files_that_cannot_be_opened_fail_alone(tmp_path):
    """A failure means one bad file ends the run or hides its neighbours."""
    good = make_pdf(tmp_path / "good.pdf", 5)
    html = tmp_path / "page.pdf"
    html.write_bytes(b"<html>")
    events = run([job(html), job(tmp_path / "gone.pdf"), job(good), job(html, "again"), job(good, "large")])
    failed = {event.job.doc_id: event.code for event in of_kind(events, Failed)}
    assert failed == {"page.pdf": "unsupported", "gone.pdf": "render_error", "again": "unsupported"}
    assert page_numbers(events, "good.pdf") == page_numbers(events, "large") == [1, 2, 3, 4, 5]
    (refused,) = run([job(good)], max_file_mb=1e-4)
    assert refused.code == "too_large"


def test_a_locked_file_opens_with_its_password(tmp_path):
    """A failure means passwords do not reach the workers."""
    document = pymupdf.open()
    document.new_page().insert_text((72, 72), "secret")
    path = tmp_path / "locked.pdf"
    document.save(path, encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="s\u00e9same", owner_pw="x")
    assert [event.code for event in run([job(path)])] == ["password_required"]
    assert page_numbers(run([job(path)], passwords=["no", "s\u00e9same"]), path.name) == [1]
    with RenderPool(workers=1, passwords=["s\u00e9same"]) as pool:
        events = pool.run([job(path)])
        next(events)
        assert all("same" not in " ".join(worker.cmdline()[3:]) for worker in workers_of())  # seen by every user in ps
        events.close()


def test_a_killed_worker_costs_at_most_its_page(tmp_path):
    """A failure means a crash in a renderer loses a document, hangs the run, or goes unreported."""
    path = make_pdf(tmp_path / "a.pdf", 400)
    other = make_pdf(tmp_path / "b.pdf", 50)
    events = []
    with RenderPool(workers=2, ocr="off") as pool:
        for event in pool.run([job(path), job(other)]):
            events.append(event)
            if len(events) == 100:
                victim = workers_of()[0]
                victim.send_signal(signal.SIGKILL)
    lost = of_kind(events, PageFailed)
    assert len(lost) <= 1
    assert all(event.code == "render_error" for event in lost)
    for name, pages in (("a.pdf", 400), ("b.pdf", 50)):
        failed = [event.page_number for event in lost if event.job.doc_id == name]
        assert sorted(page_numbers(events, name) + failed) == list(range(1, pages + 1))
    assert len(of_kind(events, Done)) == 2


def test_a_page_that_never_ends_is_given_up_and_the_others_kept(tmp_path):
    """A failure means one hostile page stops the indexing of a whole folder for ever."""
    path = make_endless(tmp_path / "endless.pdf", before=3, after=20)
    other = make_pdf(tmp_path / "other.pdf", 30)
    started = time.monotonic()
    events = run([job(path), job(other)], page_timeout=1.5)
    assert time.monotonic() - started < 15
    (lost,) = of_kind(events, PageFailed)
    assert (lost.page_number, lost.code) == (4, "timeout")
    assert "page 4" in lost.message
    assert "1.5 seconds" in lost.message
    assert page_numbers(events, path.name) == [1, 2, 3, *range(5, 25)]
    assert page_numbers(events, other.name) == list(range(1, 31))
    assert len(of_kind(events, Done)) == 2


def test_a_document_that_ends_every_worker_is_given_up(tmp_path):
    """A failure means a thousand bad pages cost a thousand time-outs, or all pages lost count as success."""
    document = pymupdf.open()
    endless = pymupdf.open(make_endless(tmp_path / "one.pdf"))
    for _ in range(8):
        document.insert_pdf(endless)
    document.save(tmp_path / "all.pdf")
    events = run([job(tmp_path / "all.pdf"), job(tmp_path / "one.pdf")], page_timeout=0.7)
    failed = {event.job.doc_id: event.code for event in of_kind(events, Failed)}
    assert failed == {"all.pdf": "timeout", "one.pdf": "timeout"}
    assert not of_kind(events, Done)
    lost = of_kind(events, PageFailed)
    assert sorted(event.page_number for event in lost if event.job.doc_id == "all.pdf") == list(range(1, 9))
    assert sum("not tried" in event.message for event in lost) >= 4


def test_a_file_that_hangs_on_opening_is_given_up(tmp_path):
    """A failure means a pipe or a dead network drive stops the run."""
    pipe = tmp_path / "pipe.pdf"
    os.mkfifo(pipe)
    good = make_pdf(tmp_path / "good.pdf", 3)
    events = run([job(pipe), job(good)], page_timeout=1.0, workers=1)
    assert [(event.job.doc_id, event.code) for event in of_kind(events, Failed)] == [("pipe.pdf", "timeout")]
    assert page_numbers(events, "good.pdf") == [1, 2, 3]


def test_a_page_that_needs_too_much_memory_fails_alone(tmp_path):
    """A failure means one page can take the machine's memory, or its failure the run."""
    document = pymupdf.open()
    document.new_page(width=100, height=100).insert_text((10, 50), "small")
    document.new_page(width=14400, height=14400).insert_text((10, 50), "huge")
    document.new_page(width=100, height=100).insert_text((10, 50), "last")
    path = tmp_path / "a.pdf"
    document.save(path)
    options = {"needs_image": True, "dpi": 150, "max_pixels": 3 * 10**8, "workers": 1}  # 900 MB
    assert page_numbers(run([job(path)], **options), "a.pdf") == [1, 2, 3]
    events = run([job(path)], **options, memory_limit_mb=800)
    assert page_numbers(events, "a.pdf") == [1, 3]
    assert [(event.page_number, event.code) for event in of_kind(events, PageFailed)] == [(2, "render_error")]


@pytest.mark.parametrize("when", ["before", "replaced", "written over"])
def test_a_file_that_changes_meanwhile_is_refused(tmp_path, when):
    """A failure means pages of two versions of a file are stored under the hash of one."""
    path = make_pdf(tmp_path / "a.pdf", 300)
    status = path.stat()
    if when == "before":
        make_pdf(path, 2, text="other")
        events = run([job(path, size=status.st_size, mtime_ns=status.st_mtime_ns)])
    else:
        new = make_pdf(tmp_path / "new.pdf", 300, text="other")
        events = []
        with RenderPool(workers=1, ocr="off") as pool:
            for event in pool.run([job(path)]):
                events.append(event)
                if len(events) == 2 and when == "replaced":
                    new.replace(path)
                elif len(events) == 2:
                    path.write_bytes(new.read_bytes())
    (failed,) = of_kind(events, Failed)
    assert failed.message == pool_module.CHANGED
    assert not of_kind(events, Done)


def test_one_long_document_keeps_every_worker_busy(tmp_path):
    """A failure means a scan of a thousand pages is read on one core."""
    path = make_pdf(tmp_path / "long.pdf", 1200)
    spent = {}
    with RenderPool(workers=2, ocr="off", needs_image=True, dpi=150) as pool:
        numbers = []
        for event in pool.run([job(path)]):
            if isinstance(event, RenderedPage):
                numbers.append(event.ref.page_number)
            if len(numbers) % 20 == 0:
                spent.update({worker.pid: sum(worker.cpu_times()[:2]) for worker in workers_of()})
    assert len(spent) == 2
    assert min(spent.values()) > 0.6 * max(spent.values())
    assert sorted(numbers) == list(range(1, 1201))


def test_jobs_are_taken_a_few_ahead_of_need(tmp_path):
    """A failure means all files of a folder are hashed before the first page is encoded."""
    paths = [make_pdf(tmp_path / f"{number}.pdf", 3) for number in range(40)]
    taken = 0

    def jobs():
        nonlocal taken
        for path in paths:
            taken += 1
            yield job(path)

    with RenderPool(workers=2, ocr="off", needs_image=True) as pool:
        events = pool.run(jobs())
        for _ in range(4):
            next(events)
        assert taken <= 12
        assert len(of_kind(list(events), Done)) + 1 >= len(paths)
    assert taken == 40


def test_pages_wait_for_a_slow_encoder(tmp_path):
    """A failure means rendering runs ahead of encoding until the memory is full, or waits by spinning."""
    path = make_pdf(tmp_path / "a.pdf", 300)
    with RenderPool(workers=2, ocr="off", needs_image=True, dpi=150) as pool:
        events = pool.run([job(path)])
        pages = of_kind([next(events) for _ in range(5)], RenderedPage)
        time.sleep(1.5)
        rendered = sum(worker.io_counters().write_chars for worker in workers_of()) / pages[0].image.nbytes
        assert rendered <= 5 + 4 + 2 + 2  # taken, in the queue, in the hands of threads, on the way
        cpu = [sum(worker.cpu_times()[:2]) for worker in workers_of()]
        time.sleep(0.5)
        assert [sum(worker.cpu_times()[:2]) for worker in workers_of()] == cpu
        assert len(of_kind(list(events), RenderedPage)) + len(pages) == 300


def test_leaving_early_ends_the_workers(tmp_path):
    """A failure means Ctrl-C leaves processes behind (the fixture looks for them)."""
    path = make_pdf(tmp_path / "a.pdf", 500)
    with contextlib.suppress(KeyboardInterrupt), RenderPool(workers=2, ocr="off", needs_image=True) as pool:
        for number, _ in enumerate(pool.run([job(path)])):
            if number == 20:
                assert workers_of()
                raise KeyboardInterrupt


def test_an_error_of_the_callers_jobs_reaches_the_caller(tmp_path):
    """A failure means a full disk while hashing shows as a hang."""

    def jobs():
        yield job(make_pdf(tmp_path / "a.pdf", 3))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(jobs())


def test_ctrl_c_in_the_terminal_does_not_reach_the_workers(tmp_path):
    """A failure means pages being rendered count as crashed when a user interrupts the run."""
    path = make_pdf(tmp_path / "a.pdf", 100)
    with RenderPool(workers=1, ocr="off") as pool:
        events = pool.run([job(path)])
        begun = [next(events) for _ in range(10)]
        (worker,) = workers_of()
        assert os.getpgid(worker.pid) != os.getpgid(0)  # the terminal sends it to the process group
        worker.send_signal(signal.SIGINT)
        assert page_numbers([*begun, *events], "a.pdf") == list(range(1, 101))


PARENT = """
    import sys, time
    from pathlib import Path
    from docsearch.indexer.pool import RenderJob, RenderPool
    with RenderPool(workers=2, ocr="off", page_timeout=float(sys.argv[2])) as pool:
        for event in pool.run([RenderJob(Path(sys.argv[1]), "a")]):
            print(type(event).__name__, flush=True)
            time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize("busy", ["waiting", "rendering"])
def test_workers_do_not_outlive_their_parent(tmp_path, busy):
    """A failure means killed runs leave processes behind that eat a core for ever."""
    if busy == "waiting":
        path, timeout, pause = make_pdf(tmp_path / "a.pdf", 600), 60, 60
    else:
        path, timeout, pause = make_endless(tmp_path / "a.pdf", before=2, after=2), 3, 0
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(path), str(timeout), str(pause)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    parent.stdout.readline()
    wait_until(lambda: len(workers_of(parent.pid)) >= 1)
    time.sleep(0.5)
    workers = workers_of(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


def test_workers_are_lean_and_use_one_core(tmp_path):
    """A failure means every worker loads the encoder's libraries, or OCR starts a thread for each core."""
    path = make_pdf(tmp_path / "a.pdf", 200)
    with RenderPool(workers=1, ocr="off") as pool:
        events = pool.run([job(path)])
        next(events)
        (worker,) = workers_of()
        maps = Path(f"/proc/{worker.pid}/maps").read_text()
        assert "mupdf" in maps
        for library in ("libtorch", "faiss", "tokenizers", "onnxruntime", "networkx", "sqlite3"):
            assert library not in maps
        assert worker.environ()["OMP_THREAD_LIMIT"] == "1"
        events.close()


def test_a_thousand_pages_stay_within_memory(tmp_path):
    """A failure means memory grows with the length of a document."""
    path = make_pdf(tmp_path / "thousand.pdf", 1000)
    me, peak_worker, sizes = psutil.Process(), 0, []
    with RenderPool(workers=2, ocr="off", needs_image=True, dpi=150) as pool:
        for number, event in enumerate(pool.run([job(path)])):
            if isinstance(event, RenderedPage) and number % 50 == 0:
                sizes.append(me.memory_info().rss)
                peak_worker = max(peak_worker, *(worker.memory_info().rss for worker in workers_of()))
    assert max(sizes) - sizes[0] < 60 << 20
    assert peak_worker < 300 << 20


def test_a_broken_installation_is_said_once(tmp_path, monkeypatch):
    """A failure means every file is reported as damaged because PyMuPDF cannot be loaded."""
    (tmp_path / "pymupdf.py").write_text("raise ImportError('no MuPDF for this machine')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DocsearchError, match="no MuPDF for this machine"):
        run([job(make_pdf(tmp_path / "a.pdf", 1))])


def test_an_interpreter_that_does_not_start_is_said(tmp_path, monkeypatch):
    """A failure means a run without any renderer hangs or reports success."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DocsearchError, match="does not start"):
        run([job(make_pdf(tmp_path / "a.pdf", 1))])


def test_a_picture_is_read_as_a_query():
    """A failure means searching by a picture of text finds nothing, or a hostile picture ends a server."""
    document = pymupdf.open()
    page = document.new_page(width=400, height=300)
    for line in range(12):
        page.insert_text((20, 30 + 20 * line), "the rent of the harbour house is to be paid", fontsize=14)
    pixmap = page.get_pixmap(dpi=120)
    image = Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
    words = read_words(image)
    assert words.texts.count("harbour") == 12
    assert len(words.boxes) == len(words.texts)
    assert read_words(Image.new("LA", (300, 200), 255)).texts == ()
    with pytest.raises(UnsupportedInput, match="the query image") as caught:
        read_words(image, timeout=0.01)
    assert caught.value.code == "timeout"
