"""`docsearch eval` as it is typed: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest
from planted import page_text, unique_word, write_planted
from test_cli import Ended, fake_encoder, run

from docsearch.cli import counting

__all__ = ["fake_encoder"]  # a fixture for all tests here

PLAN = {"lease": 3, "plan": 2}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five indexed pages, and judgements for them in three forms."""
    folder = tmp_path_factory.mktemp("evalcli")
    for name, n_pages in PLAN.items():
        write_planted(folder / "docs", name, n_pages)
    with contextlib.chdir(folder):
        assert run("index", "docs", "--workers", "1").code == 0
    pages = [(name, number) for name, n_pages in PLAN.items() for number in range(1, n_pages + 1)]
    rows = [f"{unique_word(*page)},{page[0]}.pdf,{page[1]},2,{page[0]}" for page in pages]
    (folder / "judged.csv").write_text("query,path,page,rel,about\n" + "\n".join(rows) + "\n")
    queries = [{"_id": f"{name}-{number}", "text": page_text(name, number)} for name, number in pages]
    (folder / "set" / "qrels").mkdir(parents=True)
    (folder / "set" / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    lines = "".join(f"{name}-{number}\t{name}.pdf#{number}\t1\n" for name, number in pages)
    (folder / "set" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    (folder / "set.qrels").write_text("".join(f"{n}-{k} 0 docs/{n}.pdf#{k} 1\n" for n, k in pages))
    (folder / "set.tsv").write_text("".join(f"{n}-{k}\t{unique_word(n, k)}\n" for n, k in pages))
    return folder


@pytest.fixture
def here(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, from which the index and the judgements are named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCSEARCH_INDEX", str(built / ".docsearch"))
    return built


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("io.StringIO", Terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


def figures(ended: Ended, group: str = "all") -> dict[str, str]:
    return {cells[2]: cells[3] for line in ended.lines if (cells := line.split("\t"))[0] == group}


# -- eval DATA ----------------------------------------------------------------------------------------------------


def test_a_table_of_an_analyst_is_evaluated_and_written_down(here, tmp_path):
    """A failure means: the first command of everyone who evaluates does not work."""
    ended = run("eval", str(here / "judged.csv"), "--no-report", "--verify")

    assert (ended.code, figures(ended)["nDCG@10"], figures(ended)["R@1"]) == (0, "1.0000", "1.0000"), ended.err
    assert figures(ended, "about=lease")["RR"] == "1.0000"
    assert all(len(line.split("\t")) == 6 for line in ended.lines)
    assert ended.err.splitlines()[-1] == ("Wrote summary.json, per_query.jsonl, run.trec and qrels.trec to eval-judged")
    assert "Verified from the files, largest difference in brackets: pytrec_eval (0e+00), float64 (0e+00)" in ended.err
    assert sorted(path.name for path in (tmp_path / "eval-judged").iterdir()) == [
        "per_query.jsonl", "qrels.trec", "run.trec", "summary.json",
    ]  # fmt: skip
    first = (tmp_path / "eval-judged" / "run.trec").read_text().split("\n")[0].split(" ")
    assert (first[:4], first[5]) == (["1", "Q0", "docs/lease.pdf#1", "1"], "docsearch")


@pytest.mark.parametrize("data", [["set"], ["set.qrels", "--queries", "set.tsv"], ["set", "--split", "test"]])
def test_every_kind_of_data_gives_a_summary(here, tmp_path, data):
    """A failure means: data in a standard form cannot be evaluated."""
    words = [str(here / word) if (here / word).exists() else word for word in data]
    ended = run("eval", *words, "--no-report", "--json", "--out", "results", "--measure", "Success@3", "-q")
    summary = json.loads(ended.out)

    assert (ended.code, ended.err) == (0, "")
    assert summary == json.loads((tmp_path / "results" / "summary.json").read_text())
    assert summary["metrics"]["Success@3"]["value"] == 1.0
    assert summary["data"]["judged_queries"] == 5
    assert summary["options"] == {
        "mode": "auto", "candidates": 200, "exact": False, "depth": 100, "where": None, "path": None,
    }  # fmt: skip
    assert summary["index"]["codec"] == "r4"


def test_exact_beside_it_is_written_and_taken_away_again(here, tmp_path):
    """A failure means: a folder holds a run that is not of its summary."""
    data = str(here / "set")
    ended = run("eval", data, "--exact", "--no-report")
    assert figures(ended, "exact") == figures(ended)
    assert "run.exact.trec" in ended.err
    assert (tmp_path / "eval-set" / "run.exact.trec").exists()
    assert run("eval", data, "--no-report").code == 0
    assert not (tmp_path / "eval-set" / "run.exact.trec").exists()


def test_a_report_is_written_unless_it_cannot_be(here, tmp_path, monkeypatch):
    """A failure means: one missing package costs the figures."""
    data = str(here / "set")
    monkeypatch.setitem(sys.modules, "docsearch.evaluation.report", None)
    ended = run("eval", data)
    assert ended.code == 0
    assert (
        "No report.html: it needs docsearch.evaluation.report, which pip install 'docsearch-engine[eval]'" in ended.err
    )

    class Report:
        @staticmethod
        def write_report(folder: Path, index: object) -> Path:
            assert index is not None
            assert (folder / "summary.json").exists()
            return folder / "report.html"

    monkeypatch.setitem(sys.modules, "docsearch.evaluation.report", Report)
    assert "qrels.trec and report.html to eval-set" in run("eval", data).err


def test_pages_that_are_not_there_are_named_and_none_at_all_is_an_error(here, tmp_path):
    """A failure means: a wrong path in the judgements looks like bad search."""
    table = tmp_path / "t.csv"
    table.write_text(f"query,path,page\n{unique_word('lease', 1)},lease.pdf,1\nx,gone.pdf,1\ny,lease.pdf,9\n")
    ended = run("eval", str(table), "--no-report")
    assert ended.code == 0
    assert "2 of 3 judged pages are not in the index and count as not found: gone.pdf#1, lease.pdf#9" in ended.err

    table.write_text("query,path,page\nx,gone.pdf,1\n")
    ended = run("eval", str(table), "--no-report", "--out", "other")
    assert (ended.code, ended.out) == (2, "")
    assert "none of the 1 judged pages is in the index" in ended.err
    assert not (tmp_path / "other").exists()


def test_a_run_is_scored_where_no_index_is(here, tmp_path, monkeypatch):
    """A failure means: the runs of other engines cannot be scored."""
    monkeypatch.setenv("DOCSEARCH_INDEX", str(tmp_path / "nowhere"))
    (tmp_path / "other.trec").write_text("lease-1 Q0 docs/lease.pdf#1 1 2.5 other\nplan-1 Q0 docs/x.pdf#1 1 1 other\n")
    ended = run("eval", str(here / "set.qrels"), "--run", "other.trec", "--no-report", "--verify")

    assert (ended.code, figures(ended)["R@1"]) == (0, "0.2000")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what is to be measured? Name DATA, or a task with --mteb"),
        (["DATA", "--run", "DATA", "--mode", "text"], "--run is scored as it is: leave --mode out"),
        (["DATA", "--mteb", "T"], "--mteb brings its own queries and pages: leave DATA out"),
        (["DATA", "--encoder", "words"], "an index has its encoder: leave --encoder out"),
        (["DATA", "--ablate", "mode", "--exact"], "--ablate makes a table of its own: leave --exact out"),
        (["DATA", "--ablate", "colour"], "'colour' cannot be varied: write codec, pooling, candidates, mode"),
        (["DATA", "--keep", "k"], "no index is made without --ablate: leave --keep out"),
        (["DATA", "--mode", "text", "--exact"], "--exact has nothing to compare in mode text"),
        (["DATA", "--candidates", "50"], "--candidates 50 cannot fill rankings of 100 pages: say --depth 50"),
        (["DATA", "--measure", "P@x"], "'P@x' is no measure"),
        (["DATA", "--where", "year >"], "cannot read the filter"),
        (["no such data"], "no such data: there is no such file or folder"),
        (["diff", "a"], "Missing argument 'B'"),
        (["diff", "a", "b"], "a/summary.json: cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused(here, words, said):
    """A failure means: an option does nothing and nobody says so, or a mistake is not explained."""
    ended = run("eval", *(str(here / "set") if word == "DATA" else word for word in words))

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_a_folder_of_other_things_is_not_written_to(here, tmp_path):
    """A failure means: results lie between somebody's files."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    ended = run("eval", str(here / "set"), "--out", "mine", "--no-report")

    assert (ended.code, "it holds files that are no results" in ended.err) == (2, True)


def test_without_its_packages_the_extra_is_named(here, monkeypatch):
    """A failure means: the user of a plain installation sees an import error."""
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    for name in [name for name in sys.modules if name.startswith("docsearch.evaluation")]:
        monkeypatch.delitem(sys.modules, name)
    ended = run("eval", str(here / "set"))

    assert ended.code == 5
    assert ended.err == ("docsearch: evaluation needs ir_measures: pip install 'docsearch-engine[eval]' brings it\n")


def test_a_terminal_gets_tables(here, on_a_terminal):
    """A failure means: people get lines for programs, or a table without what they need to judge it."""
    ended = run("eval", str(here / "judged.csv"), "--no-report", "--exact")

    assert ended.code == 0
    title, head, *lines = ended.out.replace("\x1b", "").splitlines()
    assert title.endswith("judged: 5 queries, 5 judgements · auto, 200 candidates")
    assert head.split() == ["measure", "value", "95", "%", "exact"]
    assert ["nDCG@10", "1.000", "1.000\u20131.000", "1.000"] in [line.split() for line in lines]
    assert ["about=lease", "3", "1.000", "1.000\u20131.000", "1.000", "1.000"] in [line.split() for line in lines]
    rest = "\n".join(lines)
    for start in ("Judged ", "Time ", "Prefilter  not used: an index of up to 1,000 pages", "Index      5 pages, "):
        assert start in rest


# -- eval diff, eval --ablate -------------------------------------------------------------------------------------


def test_two_results_are_told_apart(here, tmp_path, on_a_terminal):
    """A failure means: nobody learns whether a change was for the better."""
    data = str(here / "set")
    assert run("eval", data, "--out", "good", "--no-report").code == 0
    good = (tmp_path / "good" / "run.trec").read_text().splitlines()
    (tmp_path / "bad.trec").write_text("\n".join(line for line in good if not line.startswith("plan-2")))
    assert run("eval", "good/qrels.trec", "--run", "bad.trec", "--out", "bad", "--no-report").code == 0
    ended = run("eval", "diff", "good", "bad")
    as_json = run(
        "eval", "diff", "good/run.trec", "bad.trec", "--qrels", "good/qrels.trec", "--json", "--measure", "R@1"
    )

    assert ended.code == 0
    assert ended.lines[:4] == [
        "nDCG@10 of 5 queries",
        "A  good  1.000",
        "B  bad   0.800  -0.200 (95 %: -0.600 to +0.000), p = 1",
        "B is better for 0, worse for 1, equal for 4",
    ]
    assert ended.lines[-1].startswith("only")
    assert ended.lines[-1].endswith("1.000  0.000  -1.000  1 → -")
    found = json.loads(as_json.out)
    assert (found["schema"], found["measure"], found["losses"]) == ("docsearch.eval.diff/1", "R@1", 1)
    assert [moved["id"] for moved in found["moved"]] == ["plan-2"]


def test_an_ablation_is_one_table_and_two_files(here, tmp_path):
    """A failure means: choices cannot be compared from the command line."""
    ended = run(
        "eval", str(here / "set"), "--ablate", "mode=text,hybrid", "--ablate", "codec=r4,int8", "--keep", "kept"
    )

    assert ended.code == 0
    rows = [line.split("\t") for line in ended.lines]
    assert {(row[1], row[2], row[4]) for row in rows} == {
        ("hybrid", "int8", "exact"), ("hybrid", "int8", "200"), ("hybrid", "r4", "200"), ("text", "int8", "-"),
    }  # fmt: skip
    assert any(row[0] == "★" for row in rows)
    assert "Made the index int8-1 in" in ended.err
    assert ended.err.splitlines()[-1] == "Wrote ablation.json and ablation.svg to eval-set"
    assert len(json.loads((tmp_path / "eval-set" / "ablation.json").read_text())["rows"]) == 4
    assert (tmp_path / "kept" / "int8-1" / "layout.json").exists()
    again = run("eval", str(here / "set"), "--ablate", "candidates=100", "--json")
    assert "candidates make no difference" in again.err
    assert {row["candidates"] for row in json.loads(again.out)["rows"]} == {100, None}


def test_the_time_left_is_that_of_the_work_at_hand(monkeypatch):
    """A failure means: the second of two things to do is said to take hours."""
    clock = iter([0.0, 10.0, 100.0, 104.0, 108.0])
    monkeypatch.setattr("docsearch.cli.counting.time.monotonic", lambda: next(clock))
    tell = counting._Pace()

    assert [tell("queries encoded", done, 40) for done in (0, 10)] == [
        "0 of 40 queries encoded",
        "10 of 40 queries encoded, 30 s left",
    ]
    assert [tell("answers", done, 2000) for done in (0, 1000, 0)] == [
        "0 of 2,000 answers",
        "1,000 of 2,000 answers, 4.0 s left",
        "0 of 2,000 answers",
    ]


def test_help_shows_what_can_be_measured_and_the_other_commands():
    """A failure means: `diff` and `make` cannot be found by someone who asks for help."""
    text = run("eval", "--help").out

    assert "docsearch eval [OPTIONS] [DATA]" in text
    assert all(word in text for word in ("--ablate", "--run", "diff", "make", "docsearch eval diff before after"))
    assert run("eval", "diff", "--help").code == 0
    assert run("eval", "-h").out == text
