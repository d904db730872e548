"""`docsearch eval`: how good the answers are, whether a change made them better, and what each choice costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from docsearch.cli.eval_make import EPILOG, make
from docsearch.cli.options import WHERE_HELP, IndexOption, JsonOption, checked_options, examples, flag, usage_error
from docsearch.options import N_CANDIDATES, Mode, SearchOptions

DEPTH = 100  # pages of each ranking: as deep as the deepest measure looks

_WHAT, _WHERE, _HOW, _VARY, _OUT = (
    "What is measured", "Where to look", "How to look", "What if", "What comes of it",
)  # fmt: skip


class RunByDefault(TyperGroup):
    """`docsearch eval DATA` is `docsearch eval run DATA`; its help is that of `run`, with the other commands below."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A first word that is no command, and no call for help, belongs to `run`."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help of `run`, under the name of the group."""
        own, self.params = self.params, self.commands["run"].params
        try:
            super().format_help(ctx, formatter)
        finally:
            self.params = own


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        cls=RunByDefault,
        help=run.__doc__,
        subcommand_metavar="",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=examples(
            "docsearch eval judged.csv",
            "docsearch eval sample_docs --exact --verify",
            "docsearch eval qrels.txt --queries queries.tsv --mode visual --out visual",
            "docsearch eval qrels.txt --run other-engine.trec",
            "docsearch eval sample_docs --ablate mode --ablate codec=r4,int8",
            "docsearch eval diff before after",
        ),
    )
    group.command("run", hidden=True)(run)
    group.command(
        epilog=examples("docsearch eval diff before after", "docsearch eval diff a.trec b.trec --qrels q.txt")
    )(diff)
    group.command(epilog=EPILOG)(make)
    app.add_typer(group, name="eval", rich_help_panel="Search")


def run(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A BEIR folder, an analyst's .csv (query,path,page\\[,rel]), or TREC qrels (.qrels, .trec, .txt).",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of a BEIR folder [dim](else test, or the only one)[/dim].", rich_help_panel=_WHAT
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With TREC qrels: .jsonl, or lines qid TAB text.", rich_help_panel=_WHAT),
    ] = None,
    run_file: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="FILE", help="Score this TREC run instead of asking an index.", rich_help_panel=_WHAT
        ),
    ] = None,
    mteb: Annotated[
        str | None,
        typer.Option(
            metavar="TASK", help="A task of mteb instead of DATA; it brings its own pages.", rich_help_panel=_WHAT
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --mteb: see `docsearch models` [dim](else words)[/dim].", rich_help_panel=_WHAT
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="One more measure, like Success@3 or P@5; repeatable.", rich_help_panel=_WHAT
        ),
    ] = None,
    folder: IndexOption = None,
    where: Annotated[str | None, typer.Option(metavar="FILTER", help=WHERE_HELP, rich_help_panel=_WHERE)] = None,
    path: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only documents whose path matches.", rich_help_panel=_WHERE)
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(metavar="MODE", help="auto, visual (MaxSim), text (BM25) or hybrid (both).", rich_help_panel=_HOW),
    ] = "auto",
    candidates: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help=f"Pages to score exactly [dim](else {N_CANDIDATES})[/dim].", rich_help_panel=_HOW
        ),
    ] = None,
    exact: Annotated[
        bool, flag("--exact", about="Beside it, score every page: says what the index costs.", panel=_HOW)
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Pages of each ranking [dim](else {DEPTH}, or all of --run)[/dim].",
            rich_help_panel=_HOW,
        ),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHOICES",
            help="Vary codec, pooling, candidates or mode: codec,mode or codec=r4,int8; repeatable. One table.",
            rich_help_panel=_VARY,
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", file_okay=False, help="With --ablate: keep the indexes made for it.", rich_help_panel=_VARY
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the results go [dim](else eval-NAME)[/dim].", rich_help_panel=_OUT),
    ] = None,
    report: Annotated[bool, flag("--report/--no-report", about="Write report.html.", panel=_OUT)] = True,
    verify: Annotated[
        bool, flag("--verify", about="Compute everything again from the files, by other means.", panel=_OUT)
    ] = False,
    as_json: Annotated[bool, flag("--json", about="Print summary.json.", panel=_OUT)] = False,
) -> None:
    """Measure how good the answers are, on questions whose answering pages somebody judged.

    Writes run.trec, qrels.trec, per_query.jsonl, summary.json and report.html, and says what is in them.
    """
    from docsearch.cli import evaluate_run as work

    options = _search_options(depth, candidates, mode=mode, where=where, path=path, exact=exact)
    judgements = {"DATA": data, "--split": split, "--queries": queries}
    looked = {"--index": folder, "--where": where, "--path": path}
    asked = {"--mode": mode != "auto", "--candidates": candidates, "--exact": exact}
    if data is None and mteb is None:
        usage_error("what is to be measured? Name DATA, or a task with --mteb: see docsearch eval --help")
    if run_file is not None:
        _refuse("--run is scored as it is", **looked, **asked, **{"--mteb": mteb, "--ablate": ablate})
    if mteb is not None:
        _refuse("--mteb brings its own queries and pages", **judgements, **looked, **{"--ablate": ablate})
    else:
        _refuse("an index has its encoder", **{"--encoder": encoder})
    if ablate:
        _refuse("--ablate makes a table of its own", **{"--exact": exact, "--verify": verify})
    else:
        _refuse("no index is made without --ablate", **{"--keep": keep})
    wanted = work.Wanted(
        data=data, split=split, queries=queries, measures=measure or (), out=out, report=report, verify=verify,
        as_json=as_json,
    )  # fmt: skip
    if mteb is not None:
        work.measure_mteb(mteb, encoder, options, wanted, exact=exact)
    elif run_file is not None:
        work.measure_run(run_file, depth, wanted)
    elif ablate:
        work.measure_choices(folder, ablate, options, wanted, keep=keep)
    else:
        work.measure_index(folder, options, wanted, exact=exact)


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Results: a folder of `docsearch eval`, or a TREC run.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Those that may be better.")],
    measure: Annotated[str, typer.Option(metavar="NAME", help="What is compared.")] = "nDCG@10",
    qrels: Annotated[
        Path | None, typer.Option(metavar="DATA", help="With two runs: the judgements, as for `docsearch eval`.")
    ] = None,
    common: Annotated[bool, flag("--common", about="Compare the queries that both have.")] = False,
    count: Annotated[
        int, typer.Option("-n", "--count", metavar="N", min=0, help="Queries to show that moved most.")
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Say whether B is better than A on the same queries, and which queries moved.

    The difference comes with a 95 % interval (bootstrap) and with how likely one as large is by chance (randomisation).
    """
    from docsearch.cli import evaluate_run as work

    with work.needed_packages():
        from docsearch.cli.evaluate_tables import print_difference
        from docsearch.evaluation.diff import compare
    with checked_options():
        found = compare(a, b, measure, qrels=qrels, common=common)
    print_difference(found, a, b, most=count, as_json=as_json)


def _search_options(depth: int | None, candidates: int | None, *, exact: bool, **others: Any) -> SearchOptions:
    k = depth or DEPTH
    if candidates is not None and candidates < k:
        usage_error(f"--candidates {candidates} cannot fill rankings of {k} pages: say --depth {candidates}, or less")
    if exact and others["mode"] == "text":
        usage_error("--exact has nothing to compare in mode text, which finds pages by their words alone")
    with checked_options():
        return SearchOptions(k=k, n_candidates=candidates or max(N_CANDIDATES, k), **others)


def _refuse(why: str, **given: Any) -> None:
    """Options that make no sense beside another one are refused, not passed over."""
    if senseless := [name for name, value in given.items() if value]:
        usage_error(f"{why}: leave {' and '.join(senseless)} out")
