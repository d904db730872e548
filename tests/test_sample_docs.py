"""The sample documents say what their queries ask for, and their figures add up."""

# ruff: noqa: RUF001 - the pages hold dashes and full-width brackets

from __future__ import annotations

import csv
import json
import re
from functools import cache
from pathlib import Path

import pymupdf
import pytest

SAMPLES = Path(__file__).parents[1] / "sample_docs"
DOCUMENTS = sorted(path.name for path in SAMPLES.iterdir() if path.suffix in {".pdf", ".jpg"})
RASTER = {"scanned-memo.pdf", "ferry-notice.jpg"}


@cache
def page_texts(name: str) -> tuple[str, ...]:
    with pymupdf.open(SAMPLES / name) as document:
        return tuple(page.get_text() for page in document)


@cache
def page_rows(name: str, page: int) -> tuple[str, ...]:
    """The words of a page, those of one baseline joined from left to right: a table row is one string."""
    with pymupdf.open(SAMPLES / name) as document:
        lines: dict[int, list[tuple[float, str]]] = {}
        for left, _, _, bottom, word, *_ in document[page - 1].get_text("words"):
            lines.setdefault(round(bottom), []).append((left, word))
    return tuple(" ".join(word for _, word in sorted(words)) for _, words in sorted(lines.items()))


def number(text: str) -> float:
    """Read a figure: brackets make it negative, a dash is nothing."""
    plain = text.strip("()%").replace(",", "")
    return 0.0 if plain == "–" else (-1 if text.startswith("(") else 1) * float(plain)


def figures(name: str, page: int, label: str) -> list[float]:
    """The numbers that stand right of a label in a table."""
    rows = (
        row for row in page_rows(name, page) if re.match(re.escape(label) + r"( \d)? [(+–-]?[\d,.]*%?\)?( |$)", row)
    )
    parts = next(rows).removeprefix(label).split()
    return [number(part) for part in parts if re.fullmatch(r"[(+-]?[\d,.]+%?\)?|–", part)]


def total(name: str, page: int, labels: list[str]) -> list[float]:
    # Not strict: a number of the chart beside a table can stand on the baseline of a row.
    columns = zip(*(figures(name, page, label) for label in labels), strict=False)
    return [round(sum(column), 2) for column in columns]


@cache
def queries() -> tuple[dict[str, str], ...]:
    return tuple(json.loads(line) for line in (SAMPLES / "queries.jsonl").read_text("utf-8").splitlines())


@cache
def judgements() -> tuple[dict[str, str], ...]:
    with (SAMPLES / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file, delimiter="\t"))


def test_every_judgement_names_a_page_and_a_query_that_exist():
    """A label that points nowhere would count against every search engine."""
    known = {query["_id"] for query in queries()}
    pages = {f"{name}#{page}" for name in DOCUMENTS for page in range(1, len(page_texts(name)) + 1)}

    assert list(judgements()[0]) == ["query-id", "corpus-id", "score"]
    assert {row["query-id"] for row in judgements()} <= known
    assert {row["corpus-id"] for row in judgements()} <= pages
    assert {row["score"] for row in judgements()} <= {"1", "2"}
    assert len({(row["query-id"], row["corpus-id"]) for row in judgements()}) == len(judgements())


def test_every_query_has_a_best_page_and_its_own_id():
    answered = {row["query-id"] for row in judgements() if row["score"] == "2"}

    assert [query["_id"] for query in queries() if query["_id"] not in answered] == []
    assert len({query["_id"] for query in queries()}) == len(queries())
    assert all(query["text"] or (SAMPLES / query["image"]).is_file() for query in queries())


def test_every_document_is_asked_about():
    assert {row["corpus-id"].split("#")[0] for row in judgements()} == set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_only_what_was_scanned_or_photographed_lacks_text(name):
    """A text layer in the scan would let a text search find what only eyes should."""
    for text in page_texts(name):
        assert bool(text.strip()) is (name not in RASTER)


@pytest.mark.parametrize(
    ("name", "page", "sentence"),
    [
        ("mietvertrag.pdf", 2, "Grillen mit Holzkohle ist auf dem Balkon nicht gestattet."),
        ("mietvertrag.pdf", 1, "bestehend aus drei Zimmern, Küche, Bad, Flur und Balkon"),
        ("anzen-dayori.pdf", 1, "走行中のフォークリフトから3メートル以上離れる。"),
        ("anzen-dayori.pdf", 2, "すぐに流水で15分以上洗い、医務室（内線4119）に連絡する。"),
        ("water-notice-ar.pdf", 1, "إغلاق صنابير المياه وإطفاء سخانات الماء."),
        ("water-notice-ar.pdf", 1, "بسبب استبدال الأنبوب الرئيسي القديم في شارع الطاحونة."),
        ("annual-report.pdf", 3, "the largest contract in our history"),
        ("bee-paper.pdf", 1, "A keeper who knows one day ahead can split the colony and lose nothing."),
        ("invoice.pdf", 1, "MCB-B32-6K"),
    ],
)
def test_text_layers_hold_what_the_page_shows(name, page, sentence):
    """Ligatures, soft hyphens, CJK glyph ids and joined Arabic letters once made the text differ from the picture."""
    assert "".join(sentence.split()) in "".join(page_texts(name)[page - 1].split())


@pytest.mark.parametrize(
    ("name", "page", "parts", "whole"),
    [
        (
            "annual-report.pdf",
            6,
            ["UK and Ireland", "Continental Europe", "North America", "Middle East and Africa", "Asia Pacific"],
            "Total",
        ),
        ("annual-report.pdf", 8, ["Profit before tax", "Tax"], "Profit for the year"),
        (
            "annual-report.pdf",
            8,
            [f"Net cash {kind} activities" for kind in ("from operating", "used in investing", "used in financing")],
            "Net increase in cash",
        ),
        ("annual-report.pdf", 9, ["Total non-current assets", "Total current assets"], "Total assets"),
        ("annual-report.pdf", 9, ["Total liabilities", "Net assets"], "Total assets"),
        ("annual-report.pdf", 9, ["Share capital", "Share premium", "Retained earnings"], "Total equity"),
        (
            "annual-report.pdf",
            10,
            ["At 1 April 2024", "Additions", "Depreciation", "Disposals", "Currency"],
            "At 31 March 2025",
        ),
        ("bee-paper.pdf", 3, ["Fennmoor", "Astervik"], "Both"),
        ("quarterly-review.pdf", 3, ["Subscriptions", "Day passes", "Single rides", "Advertising on bikes"], "Total"),
        ("anzen-dayori.pdf", 1, ["転倒", "切り傷", "はさまれ・巻き込まれ", "落下物", "やけど"], "合計"),
    ],
)
def test_tables_add_up(name, page, parts, whole):
    """Numbers that do not add up would make the documents useless as answers."""
    sums = total(name, page, parts)

    assert sums == pytest.approx(figures(name, page, whole))


def test_the_segments_make_the_group():
    """Revenue and profit of the four segments, less central costs, are those of the group in every statement."""
    names = ["Pumping", "Filtration", "Metering", "Service"]
    revenue, revenue_before, _, profit, profit_before, _ = total("annual-report.pdf", 5, names)
    central, central_before = figures("annual-report.pdf", 5, "Central costs")[2:]

    group = figures("annual-report.pdf", 5, "Group")
    assert [revenue, revenue_before] == group[:2] == figures("annual-report.pdf", 8, "Revenue")[-2:]
    assert [profit + central, profit_before + central_before] == pytest.approx(group[3:5])
    assert group[3:5] == figures("annual-report.pdf", 8, "Adjusted operating profit")


def test_the_claim_adds_up():
    rows = page_rows("insurance-claim.pdf", 2)
    costs = [float(row.split()[-1]) for row in rows if re.search(r" (20\d\d|–) \d+\.00$", row)]

    assert len(costs) == 6
    assert f"{sum(costs):,.2f}" in page_texts("insurance-claim.pdf")[1]


def test_the_rent_adds_up():
    rows = [re.match(r"(.+) ([\d.]+,\d\d)$", row) for row in page_rows("mietvertrag.pdf", 1)]
    amounts = {row[1]: float(row[2].replace(".", "").replace(",", ".")) for row in rows if row}
    deposit = f"{3 * amounts['Grundmiete (kalt)']:.2f}"

    assert len(amounts) == 5
    assert amounts.pop("Gesamtmiete") == sum(amounts.values())
    assert deposit == "2226.00"
    assert "2.226,00 Euro" in page_texts("mietvertrag.pdf")[1].replace("\n", " ")


def test_the_invoice_adds_up():
    rows = [re.match(r"[A-Z]+-.* (\d+) ([\d.]+) ([\d.]+)$", row) for row in page_rows("invoice.pdf", 1)]
    items = [[float(part) for part in row.groups()] for row in rows if row]
    goods = sum(amount for _, _, amount in items)
    net = goods - round(goods * 0.05, 2)

    assert len(items) == 8
    assert all(count * price == pytest.approx(amount) for count, price, amount in items)
    assert f"£{net + round(net * 0.2, 2):,.2f}" in page_texts("invoice.pdf")[0]


def test_the_report_names_its_pages_and_chapters():
    with pymupdf.open(SAMPLES / "annual-report.pdf") as report:
        assert [page.get_label() for page in report] == ["i", "ii", "iii", *"12345678"]
        chapters = {title: page for _, title, page in report.get_toc()}

    assert (chapters["Letter to shareholders"], chapters["Balance sheet"]) == (3, 9)


def test_the_samples_stay_small():
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) <= 4 * 1024 * 1024
