"""What the documents show is what happens: their commands and snippets are run, on the sample documents."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{document.name}-{at}", text)
        for document in DOCUMENTS
        for at, (found, text) in enumerate(BLOCK.findall(document.read_text()))
        if found == language
    ]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as in the documents: the sample documents in `pdfs`, and what the snippets need beside them."""
    folder = tmp_path_factory.mktemp("docs")
    samples = ROOT / "sample_docs"
    shutil.copytree(samples, folder / "pdfs", ignore=shutil.ignore_patterns("*.py", "source", "queries"))
    shutil.copy(samples / "queries" / "segment-chart.png", folder / "chart.png")
    run("docsearch index pdfs", folder)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(re.sub(r"\s#.*", "", command))
    assert words[0] == "docsearch", f"the documents show {words[0]!r}, which this test cannot run"
    return subprocess.run(
        [sys.executable, "-m", "docsearch", *words[1:]],
        cwd=folder,
        env=os.environ | {"COLUMNS": "110"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def commands() -> list[tuple[str, str, str]]:
    """(name, command, what the document shows below it) of every `$ docsearch …` line."""
    found = []
    for name, text in blocks("console"):
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            if command.startswith("docsearch"):
                found.append((f"{name}-{command[:40]}", command, shown))
    return found


@pytest.mark.parametrize(("command", "shown"), [c[1:] for c in commands()], ids=[c[0] for c in commands()])
def test_a_command_of_the_documents_does_what_they_show(command: str, shown: str, workplace: Path):
    """A failure means that a reader who types what the documents say gets something else."""
    done = run(command, workplace)

    assert done.returncode == 0, done.stderr
    pages = re.findall(r"[\w./-]+\.(?:pdf|jpg)", shown)
    for page in pages:
        assert Path(page).name in done.stdout, f"{page} is shown, but not found:\n{done.stdout}"


@pytest.mark.parametrize("text", [b[1] for b in blocks("python")], ids=[b[0] for b in blocks("python")])
def test_a_snippet_of_the_documents_runs(text: str, workplace: Path):
    """A failure means that a reader who copies a snippet gets an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
