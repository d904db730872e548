"""What is read before anything is measured: judgements in three forms, runs, names with anything in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from docsearch.errors import UnsupportedInput
from docsearch.evaluation.judged import JudgedQuery, read_judged
from docsearch.evaluation.trec import escape, in_trec_order, read_qrels, read_run, unescape, write_qrels, write_run

HEADER = "query-id\tcorpus-id\tscore"


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def beir(
    folder: Path, queries: list[dict], *judgements: str, split: str = "test", corpus: list[dict] | None = None
) -> Path:
    write(folder / "queries.jsonl", *map(json.dumps, queries))
    write(folder / "qrels" / f"{split}.tsv", HEADER, *judgements)
    if corpus is not None:
        write(folder / "corpus.jsonl", *map(json.dumps, corpus))
    return folder


# -- BEIR ---------------------------------------------------------------------------------------------------------


def test_a_beir_folder_is_read_whole(tmp_path):
    """A failure means: queries, what is known of them, or the pages that answer are not what the files say."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chart.png").write_bytes(b"picture")
    queries = [
        {"_id": "q1", "text": "who signed?", "language": "en", "hard": True, "year": 2024, "tags": ["a"]},
        {"_id": 2, "text": "", "image": "chart.png", "exclude": ["old.pdf"]},
        {"_id": "q3", "text": "nobody judged this"},
    ]
    corpus = [
        {"_id": "d1", "page": "a b.pdf#3"},
        {"_id": "d2", "path": "c.pdf", "page": 1},
        {"_id": "e.pdf#9", "text": "no word of a page"},
    ]
    judged = read_judged(beir(tmp_path / "data", queries, "q1\td1\t2", "q1\td2\t-1", "2\tlost.pdf#4\t1", corpus=corpus))

    assert (judged.name, judged.kind) == ("data", "beir")
    assert judged.queries == [
        JudgedQuery(id="q1", text="who signed?", about={"language": "en", "hard": "true", "year": "2024"}),
        JudgedQuery(id="2", image=tmp_path / "data" / "chart.png", exclude=("old.pdf",)),
        JudgedQuery(id="q3", text="nobody judged this"),
    ]
    assert judged.qrels == {"q1": {"a b.pdf#3": 2, "c.pdf#1": -1}, "2": {"lost.pdf#4": 1}}
    assert judged.collection == {"a b.pdf#3", "c.pdf#1", "e.pdf#9"}
    assert [query.id for query in judged.answerable] == ["q1", "2"]


def test_the_split_is_test_or_the_only_one_or_the_one_that_is_named(tmp_path):
    """A failure means: other judgements are used than those that were meant."""
    folder = beir(tmp_path, [{"_id": "q", "text": "t"}], "q\ta.pdf#1\t1", split="dev")
    assert read_judged(folder).qrels == {"q": {"a.pdf#1": 1}}
    write(folder / "qrels" / "train.tsv", HEADER, "q\tb.pdf#1\t1")
    with pytest.raises(UnsupportedInput, match="there are dev, train: choose one with --split"):
        read_judged(folder)
    assert read_judged(folder, split="train").qrels == {"q": {"b.pdf#1": 1}}
    write(folder / "qrels" / "test.tsv", HEADER, "q\tc.pdf#1\t1")
    assert read_judged(folder).qrels == {"q": {"c.pdf#1": 1}}
    with pytest.raises(UnsupportedInput, match="no split 'nope'; there are dev, test, train"):
        read_judged(folder, split="nope")


def test_a_folder_may_have_its_one_file_of_judgements_beside_the_queries():
    """A failure means: the sample documents cannot be evaluated as they are."""
    judged = read_judged(Path(__file__).parents[1] / "sample_docs")

    assert (len(judged.queries), len(judged.answerable)) == (48, 48)
    assert sum(query.image is not None for query in judged.queries) == 3


GOOD = {"_id": "q", "text": "t"}


@pytest.mark.parametrize(
    ("queries", "judgements", "corpus", "said"),
    [
        ([GOOD], ["q\ta#1\t1", "q\ta#1\t2"], None, "test.tsv: line 3: a#1 is judged for the query 'q' on line 2 alre"),
        ([GOOD], ["q\td1\t1", "q\td2\t1"], [{"_id": "d1", "page": "a#1"}, {"_id": "d2", "page": "a#1"}],
         "test.tsv: line 3: a#1 is judged for the query 'q' on line 2 already"),
        ([GOOD], ["p\ta#1\t1"], None, "test.tsv: line 2: there is no query 'p' in queries.jsonl"),
        ([GOOD], ["q\ta#1\thigh"], None, "test.tsv: line 2: the score is 'high', which is no whole number"),
        ([GOOD], ["q a#1 1"], None, "test.tsv: line 2: a judgement is a query's id"),
        ([GOOD], ["q\ta#1\t0", "q\tb#1\t-1"], None, "no query has a page that answers it"),
        ([{"_id": "q"}], ["q\ta#1\t1"], None, "queries.jsonl: line 1: the query 'q' has neither text nor image"),
        ([{"_id": "q", "text": 7}], ["q\ta#1\t1"], None, "queries.jsonl: line 1: the text of 'q' is no text"),
        ([GOOD, GOOD], ["q\ta#1\t1"], None, "queries.jsonl: line 2: the _id 'q' is there already"),
        ([{"text": "t"}], ["q\ta#1\t1"], None, "queries.jsonl: line 1: it needs an _id"),
        ([GOOD | {"exclude": "a.pdf"}], ["q\ta#1\t1"], None, "line 1: exclude of 'q' must be a list of documents"),
        ([GOOD | {"image": "no.png"}], ["q\ta#1\t1"], None, "queries.jsonl: line 1: there is no image no.png"),
        ([GOOD | {"image": "../out.png"}], ["q\ta#1\t1"], None, "line 1: the image ../out.png is not in this folder"),
        ([GOOD], ["q\ta#1\t1"], [{"_id": "a", "page": 3}], "corpus.jsonl: line 1: a page is"),
        ([GOOD], ["q\ta#1\t1"], [{"_id": "a", "path": "b", "page": "iv"}], "the page is 'iv', which is no whole"),
        ([GOOD], ["q\ta#1\t1"], [{"_id": "a", "path": "b", "page": 0}], "the page is 0, and pages are counted from 1"),
        ([GOOD], ["q\ta#1\t1"], [{"_id": "a"}, {"_id": "a"}], "corpus.jsonl: line 2: the _id 'a' is there already"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_said_with_file_and_line(tmp_path, queries, judgements, corpus, said):
    """A failure means: a mistake in the data goes unnoticed into a figure, or cannot be found."""
    (tmp_path / "out.png").write_bytes(b"a picture that is none of its business")
    with pytest.raises(UnsupportedInput) as caught:
        read_judged(beir(tmp_path / "data", queries, *judgements, corpus=corpus))

    assert said in str(caught.value)


def test_files_that_are_missing_empty_or_no_text_are_named(tmp_path):
    """A failure means: the reader of the message does not know which file it is about."""
    folder = beir(tmp_path / "d", [GOOD], "q\ta#1\t1")
    for break_it, said in [
        (
            lambda: write(folder / "qrels" / "test.tsv", "query corpus score"),
            "test.tsv: line 1: the first line must be",
        ),
        ((folder / "qrels" / "test.tsv").unlink, "d: there is no qrels/test.tsv"),
        (lambda: write(folder / "queries.jsonl", "[1]"), "queries.jsonl: line 1: not a JSON object"),
        (lambda: write(folder / "queries.jsonl", '{"_id": "q"'), "queries.jsonl: line 1: not JSON: Expecting"),
        (lambda: (folder / "queries.jsonl").write_bytes(b'{"_id": "q", "text": "\xff"}'), "line 1: not UTF-8"),
        (lambda: write(folder / "queries.jsonl", "", " "), "queries.jsonl: there is nothing in it (empty)"),
        ((folder / "queries.jsonl").unlink, "queries.jsonl: cannot be read: No such file"),
    ]:
        break_it()
        with pytest.raises(UnsupportedInput) as caught:
            read_judged(folder)
        assert said in str(caught.value)


# -- TREC ---------------------------------------------------------------------------------------------------------


def test_trec_judgements_come_with_a_file_of_queries(tmp_path):
    """A failure means: judgements of other programs cannot be used, or their names lose their spaces."""
    qrels = write(tmp_path / "set.qrels", "q1 0 a%20b.pdf#1 2", "q1 0 c.pdf#1 0", "", "q2  0\tc.pdf#2 1")
    tsv = write(tmp_path / "queries.tsv", "q1\twho signed?", "q2\twhen?\tand where?")
    jsonl = write(tmp_path / "queries.jsonl", '{"_id": "q1", "text": "who?"}', '{"_id": "q2", "text": "when?"}')

    judged = read_judged(qrels, queries=tsv)

    assert (judged.name, judged.kind, judged.collection) == ("set", "trec", None)
    assert judged.qrels == {"q1": {"a b.pdf#1": 2, "c.pdf#1": 0}, "q2": {"c.pdf#2": 1}}
    assert [(query.id, query.text) for query in judged.queries] == [("q1", "who signed?"), ("q2", "when?\tand where?")]
    assert [query.text for query in read_judged(qrels, queries=jsonl).queries] == ["who?", "when?"]
    assert [query.text for query in read_judged(qrels, asked=False).queries] == ["", ""]


@pytest.mark.parametrize(
    ("lines", "queries", "said"),
    [
        (["q 0 a#1"], ["q\tt"], "x.qrels: line 1: it must be `qid 0 page grade`: 4 fields"),
        (["q 0 a#1 1.5"], ["q\tt"], "x.qrels: line 1: the grade is '1.5', which is no whole number"),
        (["q 0 a#1 1", "q 0 a#1 1"], ["q\tt"], "line 2: a#1 is judged for the query 'q' on line 1 already"),
        (["q 0 a#1 1", "p 0 a#1 1"], ["q\tt"], "x.qrels: line 2: there is no query 'p' in"),
        (["q 0 a#1 1"], ["q"], "q.tsv: line 1: it must be a query's id, a tab, and its text"),
        (["q 0 a#1 1"], ["q\t "], "q.tsv: line 1: it must be a query's id, a tab, and its text"),
        (["q 0 a#1 1"], ["q\tt", "q\tu"], "q.tsv: line 2: the query 'q' is there already"),
        (["q 0 a#1 1"], None, "what do the queries say? Give their texts with --queries FILE"),
        ([], ["q\tt"], "x.qrels: there is nothing in it"),
    ],
)
def test_what_is_wrong_with_trec_files_is_said(tmp_path, lines, queries, said):
    """A failure means: a mistake in the data goes unnoticed into a figure, or cannot be found."""
    path = None if queries is None else write(tmp_path / "q.tsv", *queries)
    with pytest.raises(UnsupportedInput) as caught:
        read_judged(write(tmp_path / "x.qrels", *lines), queries=path)

    assert said in str(caught.value)


# -- CSV ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_an_analysts_table_is_read_as_a_spreadsheet_saves_it(tmp_path, delimiter):
    """A failure means: what an office program writes has to be repaired by hand."""
    rows = [
        ["Topic", " QUERY", "File", "Page", "Rel"],
        ["law", "who signed, and when?", "a b.pdf", "3", "2"],
        ["law", "who signed, and when?", "c.pdf", " 1 ", "0"],
        ["", "", "", "", ""],
        ["tax", 'the "net" margin', "c.pdf", "2", ""],
    ]
    text = "\r\n".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace('"Topic"', "Topic").encode())

    judged = read_judged(path)

    assert (judged.name, judged.kind) == ("table", "csv")
    assert judged.queries == [
        JudgedQuery(id="1", text="who signed, and when?", about={"Topic": "law"}),
        JudgedQuery(id="2", text='the "net" margin', about={"Topic": "tax"}),
    ]
    assert judged.qrels == {"1": {"a b.pdf#3": 2, "c.pdf#1": 0}, "2": {"c.pdf#2": 1}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("query,path\nq,a\n", "t.csv: line 1: the first line must name the columns query, path, page"),
        ("q,a,1\n", "line 1: the first line must name the columns query, path, page"),
        ("query,path,page\nq,a,\n", "t.csv: line 2: there is no page"),
        ("query,path,page\n,a,1\n", "t.csv: line 2: there is no query"),
        ("query,path,page\nq,a\n", "t.csv: line 2: there is no page"),
        ("query,path,page\nq,a,iv\n", "t.csv: line 2: the page is 'iv', which is no whole number"),
        ("query,path,page\nq,a,0\n", "t.csv: line 2: the page is 0, and pages are counted from 1"),
        ("query,path,page,rel\nq,a,1,yes\n", "t.csv: line 2: the grade is 'yes', which is no whole number"),
        ("query,path,page\nq,a,1\nq,a,1\n", "line 3: a#1 is judged for the query '1' on line 2 already"),
        ("query,path,page\nwho, when,a,1\n", "line 2: there are more cells than columns: put a cell with a delimiter"),
        ('query,path,page\n"q,a,1\n', "not CSV: unexpected end of data"),
        ("query,path,page\n", "no query has a page that answers it"),
        (" \n", "t.csv: there is nothing in it"),
        ("query,path,page\nq,caf\udce9,1\n", "t.csv: line 2: not UTF-8: save it as"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, said):
    """A failure means: a mistake in the data goes unnoticed into a figure, or cannot be found."""
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UnsupportedInput) as caught:
        read_judged(path)

    assert said in str(caught.value)


def test_options_for_another_kind_of_data_and_unknown_kinds_are_refused(tmp_path):
    """A failure means: an option is passed over, and its user believes that it did something."""
    table, other = write(tmp_path / "t.csv", "query,path,page", "q,a,1"), write(tmp_path / "t.xlsx", "x")
    with pytest.raises(UnsupportedInput, match="--split is for a BEIR folder, and this is none"):
        read_judged(table, split="test")
    with pytest.raises(UnsupportedInput, match="--queries is for TREC qrels, and this is none"):
        read_judged(table, queries=other)
    with pytest.raises(UnsupportedInput, match="what is it"):
        read_judged(other)
    with pytest.raises(UnsupportedInput, match="there is no such file or folder"):
        read_judged(tmp_path / "nothing")


# -- runs ---------------------------------------------------------------------------------------------------------


@given(st.text())
def test_an_escaped_name_is_one_word_and_comes_back(name: str):
    """A failure means: a page with an odd name is another page in the files."""
    assert unescape(escape(name)) == name
    assert escape(name).split() == ([escape(name)] if name else [])


def test_names_are_escaped_only_where_they_must_be():
    """A failure means: names in the files are not those that other programs write."""
    assert [escape(name) for name in ("ä/100%.pdf#1", "a b\u3000c", "a%20b")] == [
        "ä/100%.pdf#1",
        "a%20b%E3%80%80c",
        "a%2520b",
    ]


def test_what_is_written_is_read_again(tmp_path):
    """A failure means: scores lose digits, names change, or a query is lost on the way through the files."""
    rankings = {"q 1": in_trec_order({"a b.pdf#1": 1 / 3, "c%20.pdf#2": 0.1 + 0.2, "日本.pdf#3": -2.5e-17}), "q2": {}}
    qrels = {"q 1": {"a b.pdf#1": 2, "x#1": -1}}
    write_run(tmp_path / "run.trec", rankings)
    write_qrels(tmp_path / "qrels.trec", qrels)

    assert (tmp_path / "run.trec").read_text("utf-8").splitlines()[0] == (
        "q%201 Q0 a%20b.pdf#1 1 0.3333333333333333 docsearch"
    )
    assert read_run(tmp_path / "run.trec") == {"q 1": rankings["q 1"]}
    assert [judgement[1:] for judgement in read_qrels(tmp_path / "qrels.trec")] == [
        ("q 1", "a b.pdf#1", 2),
        ("q 1", "x#1", -1),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q Q0 a#1 1 0.5", "line 1: it must be `qid Q0 page rank score tag`: 6 fields"),
        ("q Q0 a#1 1 high x", "line 1: the score is 'high', which is no number"),
        ("q Q0 a#1 1 nan x", "line 1: the score is 'nan', which is no number"),
        ("q Q0 a#1 1 1 x\nq Q0 a#1 2 0 x", "line 2: a#1 is there twice for the query q"),
    ],
)
def test_what_is_wrong_with_a_run_is_said(tmp_path, line, said):
    """A failure means: a broken run gets a figure."""
    with pytest.raises(UnsupportedInput) as caught:
        read_run(write(tmp_path / "run.trec", line))

    assert said in str(caught.value)


@given(
    st.dictionaries(
        st.text("aAé日#1 %", min_size=1, max_size=3),
        st.sampled_from([0.5, 0.5 + 1e-10, 0.25, -1.0, 0.0, -0.0, 1e300, 1e301, -1e300]) | st.floats(-2, 2, width=32),
        min_size=1,
    )
)
def test_the_order_is_that_of_trec_eval(scores: dict[str, float]):
    """A failure means: whoever scores our run with trec_eval gets other figures than we print."""
    ranking = list(in_trec_order(scores))
    run = {"q": {escape(page): score for page, score in scores.items()}}
    for rank, page in enumerate(ranking, 1):
        judge = pytrec_eval.RelevanceEvaluator({"q": {escape(page): 1}}, {"recip_rank"})
        assert judge.evaluate(run)["q"]["recip_rank"] == 1 / rank
