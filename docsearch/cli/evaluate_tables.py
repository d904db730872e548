"""Results as tables for people, and as lines for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docsearch.cli.options import print_json
from docsearch.cli.terminal import console, counted, listing, plain, say, size, widest

if TYPE_CHECKING:
    from docsearch.evaluation.ablate import Row
    from docsearch.evaluation.diff import Difference

_OF_GROUPS = ("nDCG@10", "R@1", "R@5")  # what is shown of a group; the files have all
_MOST_TEXT = 60


def print_summary(summary: Mapping[str, Any]) -> None:
    """Measures, groups, and what they cost."""
    if not sys.stdout.isatty():
        for cells in _summary_lines(summary):
            print("\t".join(cells))
        return
    from rich.text import Text

    screen = console()
    screen.print(Text(_title(summary), "bold"))
    rows = [
        {"measure": name, "value": _three(found), "95 %": _between(found)}
        | ({"exact": _three(summary["exact"]["metrics"][name])} if "exact" in summary else {})
        for name, found in summary["metrics"].items()
    ]
    _print_table(rows, left=("measure",))
    if summary["groups"]:
        screen.print()
        shown = [name for name in _OF_GROUPS if name in summary["metrics"]]
        rows = []
        for name, group in summary["groups"].items():
            row = {"group": plain(name), "queries": f"{group['queries']:,}"}
            for measure in shown:
                row |= {measure: _three(group["metrics"][measure])}
                if measure == shown[0]:
                    row["95 %"] = _between(group["metrics"][measure])
            rows.append(row)
        _print_table(rows, left=("group",))
    screen.print()
    for name, text in _costs(summary):
        screen.print(Text(f"{name:11}", "dim").append(text, "default"))


def _summary_lines(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    """group, queries, measure, value, low, high of everything."""
    of_all = {"queries": summary["data"]["judged_queries"], "metrics": summary["metrics"]}
    parts = {"all": of_all} | summary["groups"]
    if "exact" in summary:
        parts["exact"] = of_all | {"metrics": summary["exact"]["metrics"]}
    for name, part in parts.items():
        for measure, found in part["metrics"].items():
            values = [f"{found[key]:.4f}" for key in ("value", "low", "high")]
            yield [plain(name), str(part["queries"]), measure, *values]


def _title(summary: Mapping[str, Any]) -> str:
    data, options = summary["data"], summary["options"]
    n_judged = data["judged_queries"]
    said = f"{plain(data['name'])}: {_queries(n_judged)}, {counted(data['judgements'], 'judgement')}"
    if "run" in options:
        return f"{said} · the run {plain(options['run'])}"
    return f"{said} · {options['mode']}, {options['candidates']:,} candidates"


def _queries(n: int) -> str:
    return "1 query" if n == 1 else f"{n:,} queries"


def _costs(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if summary["judged"]:
        yield "Judged", f"{summary['judged']['judged@10']:.0%} of the first ten pages; nobody looked at the others"
    if times := summary["latency_ms"]:
        yield "Time", f"encode {_ms(times['encode'])}, search {_ms(times['search'])} a query"
    if "exact" in summary:
        from docsearch.retriever.searcher import SCORED_ALL

        found, every = summary["prefilter"]["recall_of_exact_top10"], summary["exact"]["latency_ms"]
        took = f"; scoring every page takes {_ms(every['search'])}" if every else ""
        if summary["index"] and summary["index"]["pages"] <= SCORED_ALL:
            yield "Prefilter", f"not used: an index of up to {SCORED_ALL:,} pages is scored whole"
        else:
            yield "Prefilter", f"finds {found:.1%} of the ten pages that are best when every page is scored{took}"
    if index := summary["index"]:
        kind = f"{index['encoder']} stored as {index['codec']}" + (
            f", pooled by {index['pooling']}" if index["pooling"] > 1 else ""
        )
        yield "Index", f"{counted(index['pages'], 'page')}, {size(index['bytes_per_page'])} a page: {plain(kind)}"


def _ms(times: Mapping[str, float]) -> str:
    return f"{times['p50']:.1f} ms (p95 {times['p95']:.1f})"


def _three(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f}"


def _between(found: Mapping[str, float]) -> str:
    return f"{found['low']:.3f}\u2013{found['high']:.3f}"


# -- two results --------------------------------------------------------------------------------------------------


def print_difference(found: Difference, a: Path, b: Path, *, most: int, as_json: bool) -> None:
    """Who is better, by how much, how sure that is, and which queries moved most."""
    if as_json:
        print_json(found.to_dict(most) | {"a_path": str(a), "b_path": str(b)})
        return
    width = max(len(str(a)), len(str(b)))
    change = found.difference
    said = f"{change.value:+.3f} (95 %: {change.low:+.3f} to {change.high:+.3f}), p = {found.p:.2g}"
    left_out = f"; {_queries(found.left_out)} in only one of them left out" if found.left_out else ""
    print(f"{found.measure} of {_queries(found.queries)}{left_out}")
    print(f"A  {a!s:{width}}  {found.a:.3f}")
    print(f"B  {b!s:{width}}  {found.b:.3f}  {said}")
    print(f"B is better for {found.wins:,}, worse for {found.losses:,}, equal for {found.ties:,}")
    rows = [
        {
            "query": plain(moved.text or moved.id)[:_MOST_TEXT],
            "A": f"{moved.a:.3f}",
            "B": f"{moved.b:.3f}",
            "change": f"{moved.b - moved.a:+.3f}",
            "rank": f"{moved.rank_a or '-'} → {moved.rank_b or '-'}",
        }
        for moved in found.moved[:most]
    ]
    if rows and sys.stdout.isatty():
        print()
    _print_rows(rows, left=("query",))


# -- an ablation --------------------------------------------------------------------------------------------------


def print_ablation(rows: Sequence[Row], found: Mapping[str, Any]) -> None:
    """One line a setting, best quality first; a star where no other is as good, as fast and as small, and better."""
    ordered = sorted(rows, key=lambda row: -row.metrics["nDCG@10"].value)
    cells = [
        {
            "": "★" if row.optimal else "",
            "mode": row.setting.mode,
            "codec": row.setting.codec,
            "pooling": str(row.setting.pooling),
            "candidates": "exact" if row.setting.exact else str(row.setting.candidates or "-"),
            "nDCG@10": f"{row.metrics['nDCG@10'].value:.3f}",
            "95 %": _between(row.metrics["nDCG@10"].to_dict()),
            "ms": f"{row.search_ms['p50']:.1f}",
            "p95": f"{row.search_ms['p95']:.1f}",
            "bytes/page": f"{row.bytes_per_page:,}",
        }
        for row in ordered
    ]
    if sys.stdout.isatty():
        say(f"{plain(found['data'])}: {_queries(found['queries'])}, {counted(found['pages'], 'page')}")
    _print_rows(cells, left=("mode", "codec", ""))


# -- tables -------------------------------------------------------------------------------------------------------


def _print_rows(rows: Sequence[Mapping[str, str]], *, left: Sequence[str]) -> None:
    """A table on a terminal, lines with tabs elsewhere."""
    if sys.stdout.isatty():
        _print_table(rows, left=left)
        return
    for row in rows:
        print("\t".join(row.values()))


def _print_table(rows: Sequence[Mapping[str, str]], *, left: Sequence[str]) -> None:
    from rich.text import Text

    if not rows:
        return
    widths = {name: widest([name, *(row[name] for row in rows)], most=_MOST_TEXT) for name in rows[0]}
    screen = console()
    spare = screen.width - sum(widths.values()) - 2 * len(widths)
    widths[left[0]] = max(8, widths[left[0]] + min(0, spare))
    table = listing(widths, right=[name for name in widths if name not in left])
    for row in rows:
        cells = {name: Text(cell) for name, cell in row.items()}
        cells[left[0]].truncate(widths[left[0]], overflow="ellipsis")
        table.add_row(*cells.values())
    screen.print(table)
