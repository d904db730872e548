"""Make docsearch/indexer/tessdata: the language data for OCR, from Debian's packages of tessdata_fast.

    python tools/fetch_tessdata.py

Needs `apt-get` and `dpkg-deb`. Each file is checked against the SHA-256 below, then gets one line of configuration:
read sparse text (page segmentation mode 11). MuPDF leaves Tesseract at mode 6, one block of text, which makes words out
of figures; modes 3 and 4 lose headers and tables. docs/ocr.md has the numbers.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import tempfile
from pathlib import Path

VERSION = "1:4.1.0-2"  # of every package
SHA256 = {  # of the files in them
    "eng": "7d4322bd2a7749724879683fc3912cb542f19906c83bcc1a52132556427170b2",
    "deu": "19d219bbb6672c869d20a9636c6816a81eb9a71796cb93ebe0cb1530e2cdb22d",
    "fra": "ced037562e8c80c13122dece28dd477d399af80911a28791a66a63ac1e3445ca",
    "spa": "6f2e04d02774a18f01bed44b1111f2cd7f3ba7ac9dc4373cd3f898a40ea6b464",
    "chi_sim": "a5fcb6f0db1e1d6d8522f39db4e848f05984669172e584e8d76b6b3141e1f730",
    "jpn": "1f5de9236d2e85f5fdf4b3c500f2d4926f8d9449f28f5394472d9e8d83b91b4d",
}
CONFIG = b"tessedit_pageseg_mode 11\n"
TARGET = Path(__file__).parent.parent / "docsearch/indexer/tessdata"


def main() -> None:
    """Download, check, configure and write every language."""
    TARGET.mkdir(exist_ok=True)
    for language, expected in SHA256.items():
        data = fetch(language)
        if hashlib.sha256(data).hexdigest() != expected:
            raise SystemExit(f"{language}: the file is not the one that was tested; look at it, then change SHA256")
        (TARGET / f"{language}.traineddata").write_bytes(configured(data))


def fetch(language: str) -> bytes:
    """The traineddata file of one language."""
    package = f"tesseract-ocr-{language.replace('_', '-')}"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", f"{package}={VERSION}"], cwd=folder, check=True)
        (archive,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        (path,) = Path(folder).rglob(f"{language}.traineddata")
        return path.read_bytes()


def configured(data: bytes) -> bytes:
    """The file with our line at the end of its configuration, which is its first part.

    The format: a count as int32, that many offsets as int64 with -1 for a part that is not there, then the parts.
    """
    (count,) = struct.unpack_from("<i", data)
    offsets = struct.unpack_from(f"<{count}q", data, 4)
    ends = sorted({*(offset for offset in offsets if offset >= 0), len(data)})
    parts = [None if at < 0 else data[at : ends[ends.index(at) + 1]] for at in offsets]
    parts[0] = (parts[0] or b"") + CONFIG
    at, places, body = 4 + 8 * count, [], b""
    for part in parts:
        places.append(-1 if part is None else at + len(body))
        body += part or b""
    return struct.pack(f"<i{count}q", count, *places) + body


if __name__ == "__main__":
    main()
