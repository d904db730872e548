"""The command line: what it prints, where, and how it ends. Commands run in this process, with the fake encoder."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pymupdf
import pytest
from PIL import Image
from planted import write_pdf
from rich.cells import cell_len

from docsearch import encoders
from docsearch.cli import main, progress
from docsearch.errors import DocsearchError, ModelUnavailable
from docsearch.indexer.pipeline import Progress
from docsearch.options import IndexOptions
from docsearch.store.layout import IndexPaths
from docsearch.store.lock import WriteLock
from docsearch.testing import FakeEncoder

TINY = Path(__file__).parent / "data" / "tiny_jina_v4"
PASSWORD = "open sesame"
LEASE = ["contract of lease for the mill", "signed on behalf of the tenant by Okafor"]
REPORT = ["cover of the report", "operating margin by segment", "outlook of the group"]
NOTICE = "避難訓練は九月十五日に行います。" * 12


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def run(*arguments: str) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module", autouse=True)
def fake_encoder() -> Iterator[None]:
    real = encoders.load_encoder

    def load(name: str = "words", **settings: object) -> object:
        return FakeEncoder() if name in {"words", "fake"} and not settings else real(name, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("docsearch.index.load_encoder", load)
        patch.setattr("docsearch.encoders.load_encoder", load)
        patch.setattr("docsearch.embed.load_encoder", load)
        patch.setenv("COLUMNS", "100")
        patch.delenv("DOCSEARCH_INDEX", raising=False)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A folder with an index, and how indexing it ended."""
    folder = tmp_path_factory.mktemp("cli")
    docs = folder / "docs"
    write_pdf(docs / "lease.pdf", LEASE)
    write_pdf(docs / "annual report.pdf", REPORT)
    with pymupdf.open(docs / "annual report.pdf") as document:
        document.set_page_labels([{"startpage": 0, "style": "r"}, {"startpage": 1, "style": "D", "firstpagenum": 1}])
        document.saveIncr()
    with pymupdf.open() as document:
        document.new_page().insert_htmlbox((50, 50, 500, 700), NOTICE)
        document.save(docs / "notice.pdf")
    write_pdf(docs / "locked.pdf", ["the secret recipe"], encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw=PASSWORD)
    (docs / "broken.pdf").write_bytes(b"no document at all")
    with contextlib.chdir(folder):
        return folder, run("index", "docs", "--workers", "1", "--meta", "year=2024", "--meta", "code=007")


@pytest.fixture
def here(built: tuple[Path, Ended], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test that only reads."""
    monkeypatch.chdir(built[0])
    return built[0]


@pytest.fixture
def copy(built: tuple[Path, Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test that changes something."""
    folder = tmp_path / "copy"
    shutil.copytree(built[0], folder)
    monkeypatch.chdir(folder)
    return folder


# -- index --------------------------------------------------------------------------------------------------------


def test_indexing_says_what_it_did_and_what_it_skipped(built):
    folder, ended = built

    summary, broken, locked = ended.lines
    assert re.sub(r"in [\d.]+ s( \([\d.]+ pages/s\))?", "in N s", summary) == (
        "Indexed 6 pages from 3 files in N s; 2 failed (docsearch status --failed)"
    )
    assert broken == "Skipped docs/broken.pdf: it is neither a PDF nor a PNG, JPEG, TIFF or WebP"
    assert locked.startswith("Skipped docs/locked.pdf: it needs a password")
    assert ended.err == "Made a new index at .docsearch\n"
    assert ended.code == 3
    assert (folder / ".docsearch" / "layout.json").is_file()


def test_a_second_run_finds_nothing_new_and_leaves_known_failures_alone(copy):
    ended = run("index", "docs")

    assert ended.out == "Nothing new: 3 files unchanged; 2 failed before (--retry-failed tries again)\n"
    assert (ended.code, ended.err) == (0, "")


def test_a_password_file_opens_what_was_locked(copy):
    (copy / "passwords.txt").write_text(f"wrong\n{PASSWORD}\n")

    ended = run("index", "docs", "--retry-failed", "--password-file", "passwords.txt", "--json", "--ignore-errors")

    report = json.loads(ended.out)
    assert (ended.code, report["added"], report["pages"], report["unchanged"]) == (0, 1, 1, 3)
    assert [(failure["path"], failure["code"]) for failure in report["failed"]] == [("docs/broken.pdf", "unsupported")]
    assert run("query", "secret recipe", "-f", "paths", "-k", "1").out == "docs/locked.pdf#1\n"


def test_a_dry_run_tells_and_does_nothing(copy):
    write_pdf(copy / "docs" / "new.pdf", ["something new"])

    ended = run("index", "docs", "--dry-run")

    plan = dict(reversed(line.split("\t")) for line in ended.lines)
    assert plan == {
        "docs/annual report.pdf": "unchanged",
        "docs/broken.pdf": "failed before",
        "docs/lease.pdf": "unchanged",
        "docs/locked.pdf": "failed before",
        "docs/new.pdf": "new",
        "docs/notice.pdf": "unchanged",
    }
    assert len(run("ls").lines) == 3


def test_vanished_files_are_told_and_pruned_on_request(copy):
    (copy / "docs" / "lease.pdf").unlink()

    assert "1 gone from disk (--prune removes them)" in run("index", "docs").out
    assert "1 removed" in run("index", "docs", "--prune").out


def test_what_is_fixed_at_creation_cannot_be_contradicted(here):
    ended = run("index", "docs", "--codec", "binary")

    assert ended.code == 2
    assert ended.err.startswith("docsearch: .docsearch stores its vectors as r4, which cannot change")
    assert run("index", "docs", "--encoder", "jina-v4").code == 4
    ended = run("index", "docs", "--pooling", "2")
    assert ended.code == 2
    assert ended.err.startswith("docsearch: .docsearch pools its vectors by 1, which cannot change")


def test_pooled_vectors_are_fewer_and_found(here):
    assert run("index", "docs", "--index", "pooled", "--pooling", "2", "--ignore-errors").code == 0
    whole, pooled = (json.loads(run("status", "--json", *where).out) for where in ((), ("--index", "pooled")))
    assert pooled["token_vectors"] < 0.55 * whole["token_vectors"]
    assert "pooled by 2" in run("status", "--index", "pooled").out
    assert run("query", "lease", "--index", "pooled").code == 0


def test_a_spelling_mistake_makes_no_index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert run("index", "no-such-folder").code == 2
    assert run("index", ".", "--encoder", "no-such-encoder").code == 5
    assert list(tmp_path.iterdir()) == []


def test_the_index_is_where_one_says_else_in_the_working_folder(tmp_path, monkeypatch):
    write_pdf(tmp_path / "docs" / "a.pdf", ["a page about herring"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("docsearch.locate.user_index", lambda: tmp_path / "own")

    assert run("query", "herring").code == 4
    run("index", "docs", "--global")
    assert run("query", "herring", "-f", "paths").out == "docs/a.pdf#1\n"
    run("index", "docs")
    monkeypatch.setenv("DOCSEARCH_INDEX", str(tmp_path / "named"))
    run("index", "docs")
    assert [(tmp_path / name / "layout.json").is_file() for name in ("own", ".docsearch", "named")] == [True] * 3
    assert run("index", "docs", "--global", "--index", "other").code == 2


def test_progress_counts_pages_and_tells_the_rest_from_the_pace(monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    pace = progress.Pace(str.upper)
    at = Progress(files_done=1, files_total=3, pages_done=0, pages_total=60, path="a.pdf")

    assert pace.tell(at) == "0 of about 60 pages"
    now = 110.0
    later = Progress(files_done=1, files_total=3, pages_done=20, pages_total=60, path="")
    assert pace.tell(later) == "20 of about 60 pages, 2.0 pages/s, 20 s left"
    assert pace.path == "A.PDF"


# -- query --------------------------------------------------------------------------------------------------------


def test_a_table_shows_rank_score_document_page_box_and_match(here):
    [hit] = json.loads(run("query", "operating margin", "-k", "1", "--json").out)["hits"]
    box = [round(100 * edge) for edge in hit["regions"][0]["box"]]

    ended = run("query", "operating margin", "-k", "1", "--format", "table")

    table = re.sub(r"\d+ ms.*", "N ms", "\n".join(line.rstrip() for line in ended.lines))
    place = "{},{}\u2013{},{}".format(*box)
    assert table == (
        f"#  score  document                 page  {'box %':{len(place)}}  match\n"
        f"1  {hit['score']:.3f}  docs/annual report.pdf  2 (1)  {place}  operating margin by segment\n"
        "1 of 6 pages · hybrid · N ms"
    )


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_table_fits_the_terminal_and_japanese_takes_two_columns_a_character(here, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))

    lines = run("query", "避難訓練", "-k", "5", "--format", "table").lines

    assert any("避難訓練" in line for line in lines)
    assert max(map(cell_len, lines)) <= width


def test_piped_output_is_tab_separated_without_lines_or_footer(here):
    ended = run("query", "signed", "by", "Okafor", "-k", "1")

    rank, score, *rest = ended.out.split("\t")
    assert rest == ["docs/lease.pdf", "2", f"{LEASE[1]}\n"]
    assert (rank, float(score) > 1) == ("1", True)
    assert (ended.code, ended.err) == (0, "")


def test_json_and_jsonl_hold_the_record_of_a_hit(here):
    one = json.loads(run("query", "operating margin", "-k", "2", "--json").out)
    two = [json.loads(line) for line in run("query", "operating margin", "-k", "2", "-f", "jsonl").lines]

    assert one["hits"] == two
    first = two[0]
    assert (first["schema"], first["query_id"], first["rank"]) == ("docsearch.result/1", "0", 1)
    assert (first["path"], first["page"], first["page_label"]) == ("docs/annual report.pdf", 2, "1")
    assert first["metadata"] == {"year": 2024, "code": "007"}


def test_csv_has_a_header_and_quotes_what_needs_it(here):
    rows = list(csv.DictReader(io.StringIO(run("query", "operating margin", "-k", "2", "-f", "csv").out)))
    hits = json.loads(run("query", "operating margin", "-k", "2", "--json").out)["hits"]

    wanted = ["query_id", "rank", "score", "path", "page", "page_label", "title", "snippet", "doc_id"]
    assert rows == [{name: str(hit[name]) for name in wanted} for hit in hits]


def test_trec_lines_have_six_words_and_scores_in_full(here):
    lines = [line.split() for line in run("query", "operating margin", "-f", "trec").lines]

    assert lines[0][:4] == ["0", "Q0", "docs/annual%20report.pdf#2", "1"]
    assert {len(line) for line in lines} == {6}
    hits = json.loads(run("query", "operating margin", "--json").out)["hits"]
    assert [float(line[4]) for line in lines] == [hit["score"] for hit in hits]


def test_paths_may_end_in_nul(here):
    assert run("query", "operating margin", "-k", "1", "-0").out == "docs/annual report.pdf#2\0"


def test_markdown_links_to_the_page(here):
    out = run("query", "operating margin", "-k", "1", "-f", "md").out

    assert out.startswith("1. [docs/annual report.pdf, p. 2 (1)](docs/annual%20report.pdf#page=2) (1.")


def test_many_queries_come_from_stdin_and_keep_their_line_numbers(here, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("operating margin\n\nsigned by Okafor\n"))

    rows = [line.split("\t") for line in run("query", "-", "-k", "1").lines]

    assert [(row[0], row[3]) for row in rows] == [("0", "docs/annual report.pdf"), ("2", "docs/lease.pdf")]


def test_many_queries_come_from_a_file_with_ids(here, tmp_path):
    batch = tmp_path / "queries.jsonl"
    batch.write_text('{"_id": "margin", "text": "operating margin"}\n{"_id": "who", "text": "signed by Okafor"}\n')

    lines = run("query", "--batch", str(batch), "-k", "1", "-f", "trec").lines

    assert [line.split()[:3] for line in lines] == [
        ["margin", "Q0", "docs/annual%20report.pdf#2"],
        ["who", "Q0", "docs/lease.pdf#2"],
    ]
    batch.write_text("[]\n")
    assert run("query", "--batch", str(batch)).code == 2


def test_filters_choose_documents(copy):
    assert run("tag", "docs/lease.pdf", "team=legal", "signed=true", "year=null").code == 0

    found = run("query", "operating margin", "--where", "signed and team == 'legal'", "-f", "paths").lines
    assert sorted(found) == ["docs/lease.pdf#1", "docs/lease.pdf#2"]
    assert run("query", "operating margin", "--where", "year == 2024", "--path", "*lease*").code == 1
    assert run("ls", "--where", "signed").lines[0].startswith("docs/lease.pdf\t2\tlease\t")


def test_explain_says_where_each_word_was_found(here):
    hit = json.loads(run("query", "operating margin", "-k", "1", "--json", "--explain").out)["hits"][0]
    table = run("query", "operating margin", "-k", "1", "-f", "table", "--explain").out

    assert [(match["token"], match["word"]) for match in hit["explain"]] == [
        ("operating", "operating"),
        ("margin", "margin"),
    ]
    assert "operating→operating 1.00" in table


def test_pictures_of_the_hits_are_written_and_named(here, tmp_path):
    ended = run(
        "query", "operating margin", "-k", "1", "--json",
        "--heatmap", str(tmp_path / "heat"), "--pages", str(tmp_path / "pages"),
    )  # fmt: skip

    name = "1-annual_report-2.png"
    hit = json.loads(ended.out)["hits"][0]
    assert (hit["heatmap"], hit["page_image"]) == (str(tmp_path / "heat" / name), str(tmp_path / "pages" / name))
    with Image.open(hit["heatmap"]) as heat, Image.open(hit["page_image"]) as page:
        assert heat.size == page.size
        assert heat.tobytes() != page.tobytes()
    assert f"Wrote 1 heat map to {tmp_path / 'heat'}\n" in ended.err


def test_a_long_list_asks_for_enough_candidates_by_itself(here):
    assert run("query", "margin", "-k", "1000", "-f", "paths").code == 0
    assert run("query", "margin", "-k", "10", "--candidates", "5").code == 2


# -- look and look after ------------------------------------------------------------------------------------------


def test_failures_are_listed_with_stable_codes(here):
    assert [line.split("\t")[:2] for line in run("status", "--failed").lines] == [
        ["docs/broken.pdf", "unsupported"],
        ["docs/locked.pdf", "password_required"],
    ]
    assert [failure["code"] for failure in json.loads(run("status", "--failed", "--json").out)] == [
        "unsupported",
        "password_required",
    ]


def test_status_counts_what_the_index_holds(here):
    out = run("status").out

    assert "Holds    6 pages of 3 files\n" in out
    assert "Failed   2 files (docsearch status --failed)\n" in out
    assert json.loads(run("status", "--json").out)["pages"] == 6


def test_a_page_is_shown_from_below_the_index_under_its_name_there(here, monkeypatch):
    """A failure means that what `query` prints cannot be handed to `show`."""
    monkeypatch.chdir(here / "docs")

    path = run("query", "operating margin", "-k", "1", "-f", "paths").out.strip()
    ended = run("show", path)

    assert path == "annual report.pdf#2"
    assert ended.lines[0] == "annual report.pdf, page 2 of 3, labelled 1"
    assert ended.lines[-1] == REPORT[1]
    assert run("show", path, "--text").out == f"{REPORT[1]}\n"


def test_a_page_is_written_as_a_picture(here, tmp_path):
    ended = run("show", "docs/lease.pdf#2", "--out", str(tmp_path / "page.png"), "--dpi", "72", "--heatmap", "tenant")

    with Image.open(tmp_path / "page.png") as page:
        assert page.size == (300, 200)
    assert (ended.out, ended.code) == ("", 0)
    assert run("show", "docs/lease.pdf#2", "--heatmap", "tenant").code == 2


def test_removing_by_pattern_wants_a_yes_where_nobody_can_be_asked(copy, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())

    assert run("rm", "--path", "*lease*").code == 2
    assert len(run("ls").lines) == 3
    assert run("rm", "--path", "*lease*", "--yes").out == "Removed docs/lease.pdf\n"
    assert run("rm", "docs/annual report.pdf").out == "Removed docs/annual report.pdf\n"
    assert [line.split("\t")[0] for line in run("ls").lines] == ["docs/notice.pdf"]
    assert run("rm", "docs/lease.pdf").code == 1


def test_damage_is_named_and_repaired(copy):
    [segment, *_] = sorted((copy / ".docsearch" / "segments").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 255
    segment.write_bytes(data)

    found = run("verify")
    assert (found.code, segment.name in found.out) == (4, True)
    assert run("verify", "--repair").code == 0
    assert run("index", "docs", "--ignore-errors").code == 0
    assert run("verify").out == "The index is sound\n"
    assert run("compact").code == 0


def test_models_name_their_licences(here):
    cards = {card["name"]: card for card in json.loads(run("models", "--json").out)}

    assert cards["words"]["licence"].startswith("MIT")
    assert "non-commercial" in cards["jina-v4"]["licence"]


def test_the_doctor_checks_each_part_and_says_what_is_missing(here):
    checks = {check["name"]: check["level"] for check in json.loads(run("doctor", "--json").out)}
    missing = run("doctor", "--model", "jina-v4")

    assert {name for name, level in checks.items() if level == "fail"} == set()
    assert {"python", "index", "encoder", "ocr", "disk"} <= checks.keys()
    assert missing.code == 5
    assert "docsearch models download jina-v4" in missing.out


def test_the_doctor_counts_the_weights_of_the_flagship(here):
    found = run("doctor", "--model", f"jina-v4:{TINY}")

    assert found.code == 0
    assert "82 + 90 tensors, 202,096 parameters" in found.out


def test_an_encoder_and_its_licence_are_shown(here):
    shown = json.loads(run("models", "show", f"jina-v4:{TINY}").out)

    assert (shown["token_dim"], shown["dense_dim"], shown["reads"]) == (16, 64, "image")
    assert "non-commercial" in shown["licence"]


def test_weights_are_fetched_only_with_consent(here):
    refused = run("models", "download", "jina-v4")
    other = run("models", "download", "words", "--yes")

    assert (refused.code, other.code) == (2, 2)
    assert "non-commercial" in refused.err
    assert "--yes" in refused.err


def test_the_pixel_budget_is_kept_with_the_index(here):
    made = run(
        "index", "docs", "--index", "pixels", "--encoder", f"jina-v4:{TINY}", "--max-pixels=50176", "--ignore-errors"
    )
    again = run("index", "docs", "--index", "pixels", "--max-pixels", "100352")
    words = run("index", "docs", "--index", "no-pixels", "--max-pixels", "50176")

    assert (made.code, again.code, words.code) == (0, 2, 5)
    assert "looks at 50176 pixels" in again.err
    assert "words has no such setting" in words.err
    assert run("query", "anything", "--index", "pixels").code == 0
    assert "non-commercial" in run("status", "--index", "pixels").out


# -- how a command ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ["query", "margin"]),
        (0, ["--version"]),
        (1, ["query", "margin", "--min-score", "9"]),
        (1, ["show", "docs/lease.pdf#9"]),
        (1, ["show", "docs/lease.pdf"]),
        (2, []),
        (2, ["no-such-command"]),
        (2, ["query"]),
        (2, ["query", "margin", "--mode", "telepathy"]),
        (2, ["query", "margin", "--where", "year >"]),
        (2, ["query", "margin", "--format", "csv", "--json"]),
        (2, ["query", "margin", "--image", "docs/broken.pdf"]),
        (2, ["index", "docs", "--meta", "novalue"]),
        (2, ["index", "docs", "--page-timeout", "0"]),
        (2, ["rm"]),
        (4, ["query", "margin", "--index", "elsewhere"]),
        (4, ["ls", "--index", "docs"]),
    ],
    ids=str,
)  # fmt: skip
def test_every_ending_has_its_code_and_at_most_one_line(here, code, arguments):
    ended = run(*arguments)

    assert ended.code == code
    assert ended.err.count("\n") <= 1
    assert code in {0, 1} or not arguments or ended.err.startswith("docsearch: ")


def test_a_locked_index_says_who_holds_it(copy):
    with WriteLock(IndexPaths(copy / ".docsearch")):
        ended = run("tag", "docs/lease.pdf", "team=legal")

    assert ended.code == 4
    assert "is being written by process" in ended.err


def failing(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ModelUnavailable("the weights are not here"), 5, "docsearch: the weights are not here\n"),
        (DocsearchError("a colour\x1b[31m and\na new line"), 4, "docsearch: a colour [31m and a new line\n"),
        (KeyboardInterrupt(), 130, "docsearch: interrupted, safe to re-run\n"),
        (BrokenPipeError(), 0, ""),
        (ZeroDivisionError("oh"), 70, "docsearch: internal error: ZeroDivisionError: oh (-v shows where)\n"),
    ],
    ids=["model", "ours", "interrupt", "pipe", "bug"],
)  # fmt: skip
def test_errors_become_one_line_and_a_code(here, monkeypatch, error, code, message):
    monkeypatch.setattr("docsearch.index.Index.search_many", failing(error))
    monkeypatch.setattr("docsearch.cli.os.dup2", lambda *_: None)

    ended = run("query", "margin")

    assert (ended.code, ended.out, ended.err) == (code, "", message)


def test_quiet_and_verbose_may_stand_anywhere(here, monkeypatch):
    monkeypatch.setattr("docsearch.index.Index.search_many", failing(ZeroDivisionError("oh")))

    assert "Traceback" in run("query", "margin", "-v").err
    assert "Traceback" not in run("-q", "query", "margin").err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run("query", "margin", "--min-score", "9", "-q").err == ""
    assert run("index", "docs", "--quiet", "--ignore-errors").out == ""


def test_options_of_the_library_are_those_of_the_command():
    """A failure means that an option was added to the library and forgotten here."""
    help_text = run("index", "--help").out

    named = {"passwords": "--password-file", "metadata": "--meta"}
    for field in IndexOptions.__dataclass_fields__:
        assert named.get(field, f"--{field.replace('_', '-')}") in help_text
