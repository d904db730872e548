"""What the outside sees: the public names, how little they load, and the command as its users run it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from planted import ROOT, environment, write_pdf

import docsearch

HEAVY = ("torch", "faiss", "transformers", "onnxruntime", "pymupdf", "sqlite_utils", "peft", "numpy")
COMMANDS = (
    "index",
    "query",
    "eval",
    "ls",
    "status",
    "show",
    "rm",
    "tag",
    "verify",
    "compact",
    "models",
    "doctor",
    "embed",
    "finetune",
)


def run(*arguments: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "docsearch", *arguments]
    return subprocess.run(  # type: ignore[call-overload]
        command, check=False, cwd=folder, env=clean(), capture_output=True, text=True, timeout=120, **options
    )


def clean() -> dict[str, str]:
    variables = {**environment(), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "PATH": os.environ["PATH"]}
    return {name: value for name, value in variables.items() if name != "DOCSEARCH_INDEX"}


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", script], env=clean(), capture_output=True, text=True, check=True)
    return set(ended.stderr.split()) & set(HEAVY)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small documents, indexed by the real command with the real encoder."""
    folder = tmp_path_factory.mktemp("surface")
    write_pdf(folder / "docs" / "old lease.pdf", ["The contract of lease.", "Signed for the tenant by M. Okafor."])
    write_pdf(folder / "docs" / "report.pdf", ["The operating margin of the metering segment was 14.2 per cent."])
    ended = run("index", "docs", "--workers", "1", folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "Made a new index at .docsearch\n")
    assert ended.stdout.startswith("Indexed 3 pages from 2 files in ")
    return folder


def test_the_public_names_are_these():
    """A failure means that applications may break: names are added with care and not taken away."""
    assert docsearch.__all__ == [
        "DocsearchError",
        "Failure",
        "Hit",
        "Index",
        "IndexOptions",
        "IndexReport",
        "Query",
        "Region",
        "SearchOptions",
        "__version__",
        "load_encoder",
    ]
    assert all(getattr(docsearch, name) is not None for name in docsearch.__all__)
    assert dir(docsearch) == sorted(docsearch.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Undex'"):
        _ = docsearch.Undex


def test_import_loads_nothing_heavy():
    """A failure means that every program that imports docsearch waits for libraries it may not need."""
    assert loaded_by("import docsearch") == set()


def test_help_loads_nothing_heavy():
    """A failure means that help, or completing a command with TAB, has become slow."""
    helps = "; ".join(f"main(['{command}', '--help'])" for command in COMMANDS)
    assert loaded_by(f"from docsearch.cli import main; main(['--help']); main(['--version']); {helps}") == set()


def test_a_question_is_answered_and_the_page_can_be_shown(indexed):
    """The way of a user: from the question over the path to the page, spaces in names included."""
    found = run("query", "who signed for the tenant?", "-k", "1", "-0", folder=indexed)
    shown = subprocess.run(
        ["xargs", "-0", "-n", "1", sys.executable, "-m", "docsearch", "show", "--text"],
        cwd=indexed, env=clean(), input=found.stdout, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert found.stdout == "docs/old lease.pdf#2\0"
    assert shown.stdout == "Signed for the tenant by M. Okafor.\n"


def test_queries_are_piped_in_and_records_out(indexed):
    ended = run("query", "-", "-k", "1", "-f", "jsonl", folder=indexed, input="operating margin\nwho signed?\n")

    records = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(record["query_id"], record["path"], record["page"]) for record in records] == [
        ("0", "docs/report.pdf", 1),
        ("1", "docs/old lease.pdf", 2),
    ]


def test_bytes_that_are_no_text_do_not_end_a_batch(indexed):
    command = [sys.executable, "-m", "docsearch", "query", "-", "-k", "1", "-f", "paths"]
    ended = subprocess.run(
        command, check=True, cwd=indexed, env=clean(), input=b"tenant \xff\nmargin\n", capture_output=True
    )

    assert ended.stdout == b"docs/old lease.pdf#2\ndocs/report.pdf#1\n"


def test_codes_reach_the_shell(indexed):
    found = run("query", "lease", "--min-score", "9", folder=indexed)
    wrong = run("query", "lease", "--where", "year >", folder=indexed)
    nowhere = run("query", "lease", "--index", "nowhere", folder=indexed)
    missing = run("doctor", "--model", "jina-v4", folder=indexed)

    assert [ended.returncode for ended in (found, wrong, nowhere, missing)] == [1, 2, 4, 5]
    assert "Traceback" not in found.stderr + wrong.stderr + nowhere.stderr + missing.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes end differently there")
def test_a_reader_that_has_seen_enough_is_no_error(indexed):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "docsearch", "query", "lease"]
    ended = subprocess.run(
        command, check=False, cwd=indexed, env=clean(), stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)

    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_a_table(indexed):
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "docsearch", "query", "who signed?", "-k", "1"]
    ended = subprocess.run(
        command, cwd=indexed, env={**clean(), "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"},
        check=False, stdout=theirs, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(theirs)
    raw = os.read(ours, 100_000).decode()
    text = re.sub(r"\x1b\[[\d;]*m", "", raw)
    os.close(ours)

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert text.startswith("#  score  document")
    assert "docs/old lease.pdf" in text
    assert "1 of 3 pages · hybrid · " in text
    assert not re.search(r"\x1b\[(\d;)*3\dm", raw)  # no colour where NO_COLOR asks for none


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_an_interrupted_run_says_so_and_the_next_goes_on(tmp_path):
    write_pdf(tmp_path / "docs" / "long.pdf", [f"page number {number} of the long report" for number in range(300)])
    command = [sys.executable, "-m", "docsearch", "index", "docs", "--workers", "1"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored signals are inherited
    with subprocess.Popen(command, cwd=tmp_path, env=clean(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "Made a new index at .docsearch\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()

    assert (process.returncode, said) == (130, "docsearch: interrupted, safe to re-run\n")
    assert run("verify", folder=tmp_path).stdout == "The index is sound\n"
