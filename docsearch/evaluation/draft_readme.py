"""What a folder of drafted queries says about itself: how it was made, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from docsearch.evaluation.draft_book import Kind


def readme(
    asked: Sequence[Kind],
    verbatim: Sequence[Kind],
    *,
    files: int,
    silent: int,
    pages: int,
    per_document: int,
    seed: int,
    mask: bool,
) -> str:
    """The README of the folder.

    Args:
        asked: the kind of every query.
        verbatim: of those whose words stand in a row on a relevant page.
        files: that were read.
        silent: of them gave no question.
        pages: that count.
        per_document: questions of each kind, at most.
        seed: chose them.
        mask: whether there are copies.
    """
    rows = "\n".join(
        f"| `{kind}` | {said} | {asked.count(kind)} | {verbatim.count(kind)} |" for kind, said in _ASKED.items()
    )
    return _README.format(
        rows=rows,
        queries=len(asked),
        files=files,
        silent=silent,
        pages=pages,
        per_document=per_document,
        seed=seed,
        masked=_MASKED if mask else _NOT_MASKED,
    )


_ASKED: dict[Kind, str] = {
    "title": "a bookmark, or the title of a slide → the page where the section starts and its heading stands",
    "caption": "the first sentence under a figure or above a table → its page",
    "index": "a main entry of a back-of-book index → the pages it names, four at most",
}
_README = """# Drafted queries

Made by `docsearch eval make` from the structure that the documents' authors gave them. Nobody has judged a page by
hand.

| type | query → relevant page | queries | verbatim |
| --- | --- | --- | --- |
{rows}

{queries} queries about {files} files, {silent} of which gave none. Of each type and file at most {per_document},
chosen with seed {seed}. `verbatim`: the query's letters and digits stand in a row on a relevant page, apart from the
heading or caption itself.

| file | what it is |
| --- | --- |
| `queries.jsonl` | one query a line: `_id`, `text`, `type`, `file`, `language` where it could be told, `verbatim` |
| `qrels/test.tsv` | BEIR: `query-id`, `corpus-id`, `score`; a page is `path#page`, counted from 1 |
| `corpus.jsonl` | the {pages} pages that count: no cover and front matter, contents, index or empty pages |

{masked}

## Limits
- Headings, captions and index terms are their authors' words, not a stranger's question, and favour word search.
  Read them, throw out what nobody would ask, and add questions of your own: that is what a draft is for.
- One page is relevant to a heading or caption, though the section goes on and others may answer, too: what is counted
  as a miss need not be one.
- Index entries name printed pages, found by the PDF's page labels, else by the numbers at the pages' edges.
- What occurs in several places (`Introduction`) is no query, and neither is a heading spelt otherwise on its page.
- The language is that of the document, told by its commonest words.
"""
_MASKED = """## Masked copies
`masked/` holds the files without bookmarks and without the headings and captions that are asked about: they are gone
from the text and from the pixels, and so are running headers that repeat them; pages that do not count are empty. Index
and measure those: then a page must be found by what the section says. In the originals, any word search finds the
heading."""
_NOT_MASKED = """## Leakage
The words of a heading or caption stand on the page that is to be found, where any word search finds them. For copies
without them, make the folder with `--mask`."""
