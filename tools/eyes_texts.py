"""Texts to learn reading from: the documentation of Debian packages in many languages, as plain paragraphs.

    python tools/eyes_texts.py OUT [--languages de,en] [--kept DEBS]

Needs `apt-get` and `dpkg-deb`. Writes the shards that `docsearch.finetune.eyes.pages.texts` describes, and sources.tsv:
every package with its version and what became of it. Copyright stays with the authors, each package's licence is in its
``usr/share/doc``; the shards are made where they are needed and handed to nobody.

One document in twenty is held out, in every language: the split goes by the document's name without its language, so a
translation of a held-out document is held out too. Paragraphs that occur twice in a language are kept once; paragraphs
that a translation left in English are dropped. The packages that judge the encoder (the development documents:
octave, erlang, debmake, lilypond, why3, r-cran-vcd, c++-annotations, packaging-tutorial) are not among the sources.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from docsearch.finetune.eyes.pages.texts import write_shard

LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "pl", "ru", "el", "cs", "nl", "sv", "zh", "ja"]
HELD_OUT = 20  # one document in so many
PARAGRAPH = (2, 4000)  # characters
SHORTEST_DOCUMENT = 300
FIXED = {  # packages in one language
    "anarchism": "en", "debian-faq": "en", "fortunes": "en", "git-doc": "en",
    "manpages": "en", "manpages-dev": "en", "postgresql-doc-15": "en", "python3.11-doc": "en",
    "libreoffice-help-en-us": "en", "manpages-pt-br": "pt", "libreoffice-help-zh-cn": "zh",
    "debian-reference-zh-cn": "zh",
    **{f"libreoffice-help-{name}": name
       for name in ("de", "fr", "es", "it", "pt", "pl", "ru", "el", "ja", "cs", "nl", "sv")},
    **{f"manpages-{name}": name for name in ("de", "fr", "es", "it", "pl", "ru", "ja", "zh", "el")},
    **{f"debian-reference-{name}": name for name in ("de", "en", "es", "fr", "it", "ja", "pt")},
    **{f"fortunes-{name}": name for name in ("de", "es", "it", "pl", "ru")},
}  # fmt: skip
MANY = {  # packages in several: what comes before the language in a path
    "gnome-user-docs": "/share/help/",
    "debian-handbook": "/debian-handbook/html/",
    "installation-guide-amd64": "/installation-guide-amd64/",
    "apache2-doc": "/manual/",
}
CODES = {"C": "en", "zh_CN": "zh", "zh-CN": "zh", "en-US": "en", "pt-BR": "pt", "ja-JP": "ja"}
CODES |= {f"{code}-{code.upper()}": code for code in LANGUAGES} | {code: code for code in LANGUAGES}
SCRIPT = {
    "ru": "[\u0430-\u0451]",
    "el": "[\u03ac-\u03ce]",
    "zh": "[\u4e00-\u9fff]",
    "ja": "[\u3040-\u30ff\u4e00-\u9fff]",
}
BLOCKS = {
    "p", "li", "td", "th", "dt", "dd", "div", "title", "h1", "h2", "h3", "h4", "h5", "h6", "caption", "item", "br",
    "tr", "table", "ul", "ol", "dl", "body", "section", "blockquote", "pre", "note", "media", "figure",
}  # fmt: skip
SKIPPED = {"script", "style", "head", "nav", "pre", "code-block", "info", "screen", "svg", "math"}

FURNITURE = re.compile("This page is:|Title is:|Prev$|Next$|Up$|Home$|Related Topics$")  # of every page of a set
SKIPPED_ROFF = re.compile(r"^[.'](TS|EQ|nf|EX|ig|de)\b.*?^[.'](TE|EN|fi|EE|\.)[ \t]*$", re.MULTILINE | re.DOTALL)
INLINE = {"B", "I", "BR", "BI", "IR", "RB", "RI", "IB", "SM", "Nm", "Fl", "Ar", "Xr", "Dq", "Em"}
HEADINGS = {"SH", "SS", "Sh", "Ss"}
BREAKS = {"PP", "P", "LP", "TP", "IP", "HP", "br", "sp", "Pp", "It"} | HEADINGS
SIGNS = {
    "\\-": "-", "\\(em": "\u2014", "\\(en": "\u2013", "\\(aq": "'", "\\(oq": "\u2018", "\\(cq": "\u2019",
    "\\(lq": "\u201c", "\\(rq": "\u201d", "\\(bu": "\u2022", "\\(co": "\u00a9", "\\e": "\0", "\\&": "", "\\~": " ",
    "\\(dq": '"', "\\(ha": "^", "\\(ti": "~",
}  # fmt: skip
FONTS_AND_SIZES = re.compile(r"\\f(\[\w*\]|\(..|.)|\\[,/|^:%)c]|\\s[-+]?\d|\\\"[^\n]*|\\m\[\w*\]")


def main() -> None:
    """Fetch, read, split, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--languages", default=",".join(LANGUAGES))
    parser.add_argument("--kept", type=Path, help="where downloaded packages are kept and looked for")
    options = parser.parse_args()
    wanted = options.languages.split(",")
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    sources = ["package\tdocuments\tcharacters"]
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.kept or Path(scratch) / "debs"
        kept.mkdir(parents=True, exist_ok=True)
        for package in [*FIXED, *MANY]:
            if package in FIXED and FIXED[package] not in wanted:
                continue
            archive = fetch(package, kept)
            folder = Path(scratch) / package
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            documents = [entry for entry in read_package(package, folder) if entry[0] in wanted]
            for language, name, paragraphs in documents:
                found[language][name] = paragraphs
            size = sum(len(text) for _, _, paragraphs in documents for text in paragraphs)
            sources.append(f"{archive.stem}\t{len(documents)}\t{size}")
            subprocess.run(["rm", "-rf", folder], check=True)
    english = {text for paragraphs in found.get("en", {}).values() for text in paragraphs}
    for language, documents in found.items():
        parts = split(clean(documents, language, english if language != "en" else set()))
        for part, chosen in parts.items():
            write_shard(options.out / f"{language}-{part}.jsonl.xz", chosen)
            size = sum(len(text.encode()) for paragraphs in chosen.values() for text in paragraphs)
            print(f"{language}\t{part}\t{len(chosen)} documents\t{size / 1e6:.2f} MB")
    (options.out / "sources.tsv").write_text("\n".join(sources) + "\n")


def fetch(package: str, folder: Path) -> Path:
    """The package's archive."""
    if not list(folder.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob(f"{package}_*.deb")
    return archive


def read_package(package: str, folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Every document: its language, its name without the language, its paragraphs."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or "/off/" in str(path):
            continue
        name = str(path.relative_to(folder))
        language = FIXED.get(package)
        if language is None:
            before, _, rest = f"/{name}".partition(MANY[package])
            language = CODES.get(rest.split("/")[0])
            name = rest.partition("/")[2]
            if not before or language is None:
                continue
        paragraphs = read_file(path)
        if paragraphs:
            topic = re.sub(rf"(^|[/_.-])({'|'.join(CODES)})(?=[/_.-]|$)", r"\1*", name)
            yield language, f"{re.sub('-(zh-cn|en-us|pt-br|..)$', '', package)}:{topic}", paragraphs


def read_file(path: Path) -> list[str]:
    """The paragraphs of a file, none when it is of no kind that is read."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    name = path.name.removesuffix(".gz")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return []
    if re.search(r"\.(html?|page|xhtml)(\.\w\w)?(\.utf8)?$", name):
        return read_markup(text)
    if "/man/" in str(path):
        return read_roff(text)
    if "/fortunes/" in str(path) and not name.endswith((".dat", ".u8")):
        return [part for part in re.split(r"\n%+\n", text) if "\x1b" not in part and "\x08" not in part]
    return []


def read_markup(text: str) -> list[str]:
    """The paragraphs of HTML, or of Mallard, whose elements are named alike."""
    reader = _Markup()
    reader.feed(re.sub(r"<\?xml.*?\?>", "", text))
    reader.close()
    reader.end()
    return reader.paragraphs


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._text: list[str] = []
        self._skipped: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag in SKIPPED:
            self._skipped.append(tag)
        if tag in BLOCKS:
            self.end()

    def handle_endtag(self, tag: str) -> None:
        if self._skipped and tag == self._skipped[-1]:
            self._skipped.pop()
        if tag in BLOCKS:
            self.end()

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._text.append(data)

    def end(self) -> None:
        """Close the paragraph."""
        self.paragraphs.append("".join(self._text))
        self._text.clear()


def read_roff(text: str) -> list[str]:
    """The paragraphs of a manual page, near enough: tables and examples dropped, the common escapes resolved."""
    text = SKIPPED_ROFF.sub("", text)
    paragraphs: list[str] = []
    current: list[str] = []
    for line in text.splitlines():
        request, _, rest = line[1:].strip().partition(" ") if line.startswith((".", "'")) else ("", "", line)
        if not request and line.strip() not in {"", ".", "'"}:
            current.append(line)
        elif request in INLINE:
            words = re.findall(r'"([^"]*)"|(\S+)', rest)
            joint = "" if len(request) == 2 and request.isupper() else " "
            current.append(joint.join(quoted or bare for quoted, bare in words))
        elif not request or request in BREAKS:
            paragraphs.append(" ".join(current))
            current = []
            if request in HEADINGS:
                paragraphs.append(rest.strip('"'))
    paragraphs.append(" ".join(current))
    plain = [without_escapes(paragraph) for paragraph in paragraphs]
    return [paragraph.replace("\0", "\\") for paragraph in plain if "\\" not in paragraph]


def without_escapes(text: str) -> str:
    """A text with roff's escapes as the characters they stand for; a backslash is left where one is not known."""
    for sign, char in SIGNS.items():
        text = text.replace(sign, char)
    text = FONTS_AND_SIZES.sub("", text)
    return re.sub(r"\\\[u([0-9A-F]{4})\]", lambda found: chr(int(found[1], 16)), text)


def clean(documents: dict[str, list[str]], language: str, english: set[str]) -> dict[str, list[str]]:
    """Paragraphs in one form, each once in a language; what is left of a document when English has gone."""
    seen: set[str] = set()
    done = {}
    for name, paragraphs in sorted(documents.items()):
        kept = []
        for paragraph in paragraphs:
            if paragraph in english:
                continue
            text = " ".join(unicodedata.normalize("NFC", paragraph).split())
            text = "".join(char for char in text if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
            if not PARAGRAPH[0] <= len(text) <= PARAGRAPH[1] or text in seen or not re.search(r"\w", text):
                continue
            if FURNITURE.match(text):
                continue
            if language in SCRIPT and not is_in(text, SCRIPT[language]):
                continue
            seen.add(text)
            kept.append(text)
        if sum(map(len, kept)) >= SHORTEST_DOCUMENT:
            done[name] = kept
    return done


def is_in(text: str, script: str) -> bool:
    """Whether a third of the letters are of a script."""
    letters = sum(char.isalpha() for char in text)
    return len(re.findall(script, text.lower())) >= letters / 3


def split(documents: dict[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """Documents to learn from, and those held out."""
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "held-out": {}}
    for name, paragraphs in documents.items():
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        parts["held-out" if number % HELD_OUT == 0 else "train"][name] = paragraphs
    return parts


if __name__ == "__main__":
    main()
