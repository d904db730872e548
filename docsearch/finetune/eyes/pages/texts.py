"""What the pages say: documents of paragraphs by language, read from shards that tools/eyes_texts.py writes.

A shard is LANGUAGE-PART.jsonl.xz, one document a line: {"name": ..., "paragraphs": [...]}. PART is ``train`` or
``held-out``; a document is in one of them, whole, as the hash of its name decides.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from docsearch.errors import UnsupportedInput

Part = Literal["train", "held-out"]
Document = Sequence[str]  # its paragraphs, in order; one white space between two words
Texts = Mapping[str, Sequence[Document]]  # by language


def read_texts(folder: Path, *, part: Part = "train", languages: Collection[str] | None = None) -> Texts:
    """Every document of one part, by language.

    Raises:
        UnsupportedInput: the folder has no shard of that part in one of the languages.
    """
    shards = {path.name.removesuffix(f"-{part}.jsonl.xz"): path for path in folder.glob(f"*-{part}.jsonl.xz")}
    wanted = sorted(shards) if languages is None else list(languages)
    if missing := [language for language in wanted if language not in shards] or ([] if wanted else ["any language"]):
        raise UnsupportedInput(
            str(folder), "empty", f"no {part} texts in {', '.join(missing)}: see tools/eyes_texts.py"
        )
    return {language: read_shard(shards[language]) for language in wanted}


def read_shard(path: Path) -> list[Document]:
    """The documents of one shard."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [tuple(json.loads(line)["paragraphs"]) for line in lines]


def write_shard(path: Path, documents: Mapping[str, Document]) -> None:
    """Write the documents of one language and part, by name."""
    with lzma.open(path, "wt", encoding="utf-8") as lines:
        for name, paragraphs in documents.items():
            lines.write(json.dumps({"name": name, "paragraphs": list(paragraphs)}, ensure_ascii=False) + "\n")
