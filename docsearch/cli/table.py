"""Hits as a table that fits the terminal, with the words of the query in bold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from docsearch.cli.output import page_label
from docsearch.cli.terminal import console, counted, listing, plain, widest
from docsearch.store.terms import query_terms

if TYPE_CHECKING:
    from docsearch.cli.output import Answer, Run
    from docsearch.types import Hit

_DOCUMENT_SHARE = 0.4  # of the width, at most
_WIDE = 100  # columns; from here on there is room for the box
_NARROW = 46  # columns for the match; below, it may take three lines


def print_hits(answer: Answer, run: Run) -> None:
    """Print one query's hits and a line about the search."""
    screen = console()
    if run.many:
        screen.print(Text(plain(answer.query.text or "image"), "bold"))
    documents = [plain(hit.path) for hit in answer.hits]
    pages = [page_label(hit) for hit in answer.hits]
    boxes = [_box(hit) for hit in answer.hits]
    widths = {
        "#": widest(["#", *(str(hit.rank) for hit in answer.hits)], most=9),
        "score": widest(["score", *(f"{hit.score:.3f}" for hit in answer.hits)], most=9),
        "document": widest(["document", *documents], most=int(screen.width * _DOCUMENT_SHARE)),
        "page": widest(["page", *pages], most=16),
    }
    if screen.width >= _WIDE:
        widths["box %"] = widest(["box %", *boxes], most=16)
    widths["match"] = max(16, screen.width - sum(widths.values()) - 2 * len(widths) - 2)
    table = listing(widths, right=("#", "score", "page"))
    terms = re.findall(r"\w+", " ".join(query_terms(answer.query.text or "")))
    for at, hit in enumerate(answer.hits):
        match = _match(hit, terms, widths["match"])
        if answer.extras and "explain" in answer.extras[at]:
            match.append("\n").append_text(_explanation(answer.extras[at]["explain"]))
        cells: list[str | Text] = [str(hit.rank), f"{hit.score:.3f}", Text(documents[at], "cyan"), pages[at]]
        table.add_row(*cells, *([Text(boxes[at], "dim")] if "box %" in widths else []), match)
    if answer.hits:
        screen.print(table)
    screen.print(Text(_footer(answer, run), "dim"))
    if run.many:
        screen.print()


def _box(hit: Hit) -> str:
    """The best region in percent of the page: left, top, right, bottom."""
    if not hit.regions:
        return ""
    left, top, right, bottom = (round(100 * edge) for edge in hit.regions[0].box)
    return f"{left},{top}\u2013{right},{bottom}"


def _match(hit: Hit, terms: list[str], width: int) -> Text:
    """The snippet, cut to two or three lines around the words of the query, which are bold."""
    if not hit.snippet:
        return Text("no text on this page", "dim italic")
    text = Text(_cut(plain(hit.snippet), terms, (3 if width < _NARROW else 2) * (width - 3)))
    if pattern := _pattern(terms):
        text.highlight_regex(pattern, "bold yellow")
    return text


def _cut(snippet: str, terms: list[str], room: int) -> str:
    """The stretch of the snippet that fits and holds most of the query's words, cut between words."""
    if cell_len(snippet) <= room:
        return snippet
    pattern = _pattern(terms)
    words = snippet.strip("… ").split(" ")
    weights = [len(word) if pattern and pattern.search(word) else 0 for word in words]  # long words say more
    stretches = []  # (words of the query, start, end)
    for start in range(len(words)):
        end, used = start, 0
        while end < len(words) and used + cell_len(words[end]) + 1 <= room - 4:
            used += cell_len(words[end]) + 1
            end += 1
        stretches.append((sum(weights[start:end]), start, end))
        if end == len(words):
            break
    most = max(weight for weight, _, _ in stretches)
    best = [stretch for stretch in stretches if stretch[0] == most]
    _, start, end = best[len(best) // 2 if most else 0]
    text = " ".join(words[start:end]) or words[start]
    while cell_len(text) > room - 4:
        text = text[:-1]
    before, after = start > 0 or snippet.startswith("…"), end < len(words) or snippet.endswith("…")
    return f"{'…' if before else ''}{text}{'…' if after else ''}"


def _pattern(terms: list[str]) -> re.Pattern[str] | None:
    """The query's words where a word begins; in scripts without spaces a word may begin anywhere."""
    parts = [(rf"\b{re.escape(term)}\w*" if term.isascii() else re.escape(term)) for term in terms if len(term) > 1]
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


def _explanation(matches: list[dict[str, Any]]) -> Text:
    """What each token of the query was found at: `lease→Lease 0.93`, strong ones plain, weak ones dim."""
    text = Text()
    told = [match for match in matches if any(map(str.isalnum, match["token"]))]  # a full stop tells nothing
    for at, match in enumerate(told):
        style = "green" if match["similarity"] >= 0.8 else "dim"
        found = f"→{plain(match['word'])}" if match["word"] else ""
        text.append(" · " if at else "", "dim").append(
            f"{plain(match['token'])}{found} {match['similarity']:.2f}", style
        )
    return text


def _footer(answer: Answer, run: Run) -> str:
    words_counted = any(hit.scores.get("bm25") for hit in answer.hits)
    mode = run.mode if run.mode != "auto" else ("hybrid" if words_counted else "visual")
    said = f"{len(answer.hits):,} of {counted(run.pages, 'page')} · {mode}"
    if run.many:
        return said
    loading = f" + {1000 * run.load_seconds:.0f} ms to load the encoder" if run.load_seconds >= 0.05 else ""
    return f"{said} · {1000 * run.seconds:.0f} ms{loading}"
