"""Finding files: what a user names on the command line, and nothing else."""

import hashlib
import os
from pathlib import Path

import pytest

from docsearch.errors import UnsupportedInput
from docsearch.indexer.sources import SourceFile, find_files, hash_file
from docsearch.types import Failure


@pytest.fixture
def folder(tmp_path):
    """A folder as users have them: nested, with other kinds of files, hidden ones, and an index of ours."""
    for name in (
        "b.pdf",
        "A.PDF",
        "scan.TiFf",
        "photo.jpeg",
        "web.webp",
        "notes.txt",
        "slides.pptx",
        ".hidden.pdf",
        ".git/x.pdf",
        ".docsearch/segments/1.pdf",
        "2023/report.pdf",
        "2023/drafts/report.pdf",
        "2024/drafts/deep/er/plan.png",
        "2024/[odd] name.pdf",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path


def found(folder, **options):
    return [file.path.relative_to(folder).as_posix() for file in find_files([folder], **options)]


ALL = [
    "2023/drafts/report.pdf",
    "2023/report.pdf",
    "2024/[odd] name.pdf",
    "2024/drafts/deep/er/plan.png",
    "A.PDF",
    "b.pdf",
    "photo.jpeg",
    "scan.TiFf",
    "web.webp",
]


def test_a_folder_gives_its_documents_in_one_order(folder):
    """A failure means documents are missed, an index indexes itself, or two runs disagree about the order."""
    assert found(folder) == ALL
    (first, *_) = find_files([folder])
    status = first.path.stat()
    assert first == SourceFile(first.path, status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.pdf"], [], [name for name in ALL if name.endswith(".pdf")]),
        (["2023/*.pdf"], [], ["2023/report.pdf"]),
        (["2023/**/*.pdf"], [], ["2023/drafts/report.pdf", "2023/report.pdf"]),
        (["/2023"], [], ["2023/drafts/report.pdf", "2023/report.pdf"]),
        (["**/deep/**"], [], ["2024/drafts/deep/er/plan.png"]),
        (["report.*", "*.webp"], [], ["2023/drafts/report.pdf", "2023/report.pdf", "web.webp"]),
        (["[AB].PDF", "?.pdf"], [], ["A.PDF", "b.pdf"]),
        (["[!b].*"], [], ["A.PDF"]),
        ([r"[[]odd] *"], [], ["2024/[odd] name.pdf"]),
        ([], ["drafts"], [name for name in ALL if "drafts" not in name]),
        ([], ["drafts/"], [name for name in ALL if "drafts" not in name]),
        ([], ["deep/**"], ALL),  # holds a slash, so it is anchored: there is no top folder "deep"
        ([], ["**/deep/**"], [name for name in ALL if "deep" not in name]),
        (["[a-b\\^&&||].pdf"], [], ["b.pdf"]),
        (["*.pdf"], ["2023/drafts/*"], ["2023/report.pdf", "2024/[odd] name.pdf", "b.pdf"]),
        ([], ["./2023", "2024", "*.*"], []),
        (["*.docx"], [], []),
    ],
)
def test_globs_mean_what_they_mean_to_git(folder, include, exclude, expected):
    """A failure means a user's --include or --exclude takes or leaves the wrong files."""
    assert found(folder, include=include, exclude=exclude) == expected


def test_a_glob_without_sense_is_refused(folder):
    """A failure means a traceback from the regular expressions, or a filter that quietly does nothing."""
    with pytest.raises(ValueError, match="cannot read the globs"):
        find_files([folder], include=["[z-a].pdf"])


def test_a_file_given_by_name_is_taken_whatever_it_is_called(folder):
    """A failure means `docsearch index .hidden.pdf` or a PDF without a suffix is silently passed over."""
    named = [folder / "notes.txt", folder / ".hidden.pdf"]
    assert [file.path for file in find_files(named)] == named
    assert list(find_files(named, exclude=["*.txt", ".hid*"])) == []


def test_each_file_comes_once(folder):
    """A failure means a file named twice, or reached by a link too, is indexed twice."""
    (folder / "again.pdf").symlink_to(folder / "b.pdf")
    names = [file.path.name for file in find_files([folder / "b.pdf", folder, folder / "2023", folder / "b.pdf"])]
    assert sorted(names) == sorted(Path(name).name for name in ALL)
    assert names[0] == "b.pdf"


def test_links_are_followed_and_loops_end(folder, tmp_path_factory):
    """A failure means linked folders are missed, or a link to a parent folder never ends."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "linked.pdf").write_bytes(b"x")
    (elsewhere / "back").symlink_to(folder)
    (folder / "link").symlink_to(elsewhere)
    (folder / "self").symlink_to(".")
    (folder / "nowhere.pdf").symlink_to(folder / "gone.pdf")
    assert found(folder) == sorted([*ALL, "link/linked.pdf"])


def test_a_path_that_is_not_there_is_said_at_once(folder):
    """A failure means a typing error shows after hours of indexing, or never."""
    with pytest.raises(FileNotFoundError, match=r"no file or folder at .*pfds: check the spelling"):
        find_files([folder, folder / "pfds"])
    (folder / "dangling").symlink_to(folder / "gone.pdf")
    with pytest.raises(FileNotFoundError, match="dangling"):
        find_files([folder / "dangling"])


def test_what_cannot_be_a_document_is_reported_and_the_rest_goes_on(folder):
    """A failure means one odd entry ends the run, or makes it wait for ever on a pipe."""
    os.mkfifo(folder / "pipe.pdf")
    odd_name = os.fsencode(folder) + b"/na\xefve.pdf"
    Path(os.fsdecode(odd_name)).write_bytes(b"x")
    results = list(find_files([folder]))
    assert len([result for result in results if isinstance(result, SourceFile)]) == len(ALL)
    failures = {failure.path: failure.code for failure in results if isinstance(failure, Failure)}
    assert failures == {str(folder / "pipe.pdf"): "unsupported", f"{folder}/na\\xefve.pdf": "unsupported"}
    for path in failures:
        path.encode()  # storable and printable


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_reported(folder):
    """A failure means a locked folder ends the run or is passed over in silence."""
    (folder / "2023").chmod(0)
    try:
        failures = [result for result in find_files([folder]) if isinstance(result, Failure)]
    finally:
        (folder / "2023").chmod(0o700)
    assert [(failure.path, failure.code) for failure in failures] == [(str(folder / "2023"), "permission")]


def test_an_unreadable_folder_is_reported_even_to_root(folder, monkeypatch):
    """As above, for machines where the tests run as root."""
    real = os.scandir

    def refuse(path):
        if Path(path).name == "2023":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    results = list(find_files([folder]))
    assert Failure(str(folder / "2023"), "permission", "the folder cannot be read: Permission denied") in results
    assert len(results) == len(ALL) - 2 + 1


def test_hash_is_of_the_bytes(tmp_path):
    """A failure means a document's identity does not follow its content."""
    path = tmp_path / "big.pdf"
    content = os.urandom(3 << 20)
    path.write_bytes(content)
    assert hash_file(path) == hashlib.sha256(content).hexdigest()


def test_a_file_that_vanished_has_no_hash(tmp_path):
    """A failure means a file removed during the run ends it with a traceback."""
    with pytest.raises(UnsupportedInput, match="vanished") as caught:
        hash_file(tmp_path / "gone.pdf")
    assert caught.value.code == "render_error"
