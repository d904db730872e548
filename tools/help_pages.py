"""Translated text to learn from: help pages of GNOME and GIMP, and messages of programs laid together in pages."""

from __future__ import annotations

import gettext
import random
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LANGUAGES = ["C", "de", "fr", "es", "it", "ja", "zh_CN", "ru", "ko", "pl", "cs", "pt_BR", "sv", "nl", "el", "hu", "uk"]
LANGUAGES += ["fi", "tr", "id", "ro", "da"]
MORE_LANGUAGES = [
    "zh_TW",
    "ar",
    "he",
    "fa",
    "hi",
    "th",
    "vi",
    "bg",
    "sr",
    "ca",
    "nb",
    "hr",
    "sk",
    "sl",
    "lt",
    "et",
    "gl",
]
LANGUAGES_PER_TOPIC = 7  # English, and others by chance
N_MESSAGE_PAGES, MESSAGES = 350, "messages/"
LONGEST = 1500  # characters of a topic that are read
SKIPPED = {"info", "links", "code", "screen", "head", "navheader", "navfooter", "toc", "pre"}


@dataclass(frozen=True)
class Text:
    """One topic in one language, masked as a page whose headings are gone."""

    topic: str
    language: str
    titles: tuple[str, ...]
    paragraphs: tuple[str, ...]


def read_help(folder: Path) -> list[Text]:
    """Every topic in English and in some of the languages it is translated to."""
    chance = random.Random(0)
    texts = []
    gnome, gimp = folder / "share" / "help", folder / "share" / "gimp" / "2.0" / "help"
    for root, names, pattern in ((gnome, {}, "*/*.page"), (gimp, {"C": "en"}, "*.html")):
        home = root / names.get("C", "C")
        for english in sorted(home.glob(pattern)):
            topic = english.relative_to(home).as_posix()
            original = read_page(english, topic, "C")
            if original is None:
                continue
            texts.append(original)
            others = []
            for language in LANGUAGES[1:]:
                path = root / language / topic
                text = read_page(path, topic, language) if path.exists() else None
                if text and is_translated(text, original):
                    others.append(text)
            texts += chance.sample(others, min(LANGUAGES_PER_TOPIC - 1, len(others)))
    return texts + read_messages(folder / "share" / "locale", chance)


def read_messages(folder: Path, chance: random.Random) -> list[Text]:
    """Pages of a dozen program messages each: they have no topic, so a message is asked for where it stands."""
    catalogs: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*/LC_MESSAGES/*.mo")):
        try:
            with path.open("rb") as stream:
                entries = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined] # noqa: SLF001
        except (IndexError, UnicodeDecodeError):  # a few catalogs have a header that Python cannot read
            continue
        messages = {k: v for k, v in entries.items() if isinstance(k, str) and 25 < len(k) < 300 and isinstance(v, str)}
        language = path.parent.parent.name
        if language in {*LANGUAGES, *MORE_LANGUAGES}:
            catalogs.setdefault(language, {}).update({k: v for k, v in messages.items() if v != k})
    common = sorted({key for messages in catalogs.values() for key in messages})
    chance.shuffle(common)
    common.sort(key=lambda key: -sum(key in messages for messages in catalogs.values()))
    chosen = common[: N_MESSAGE_PAGES * 12]
    chance.shuffle(chosen)
    texts = []
    for number in range(N_MESSAGE_PAGES):
        keys = chosen[number * 12 : number * 12 + 12]
        versions = [Text(f"{MESSAGES}{number}", "C", (), tuple(keys))]
        for language, messages in sorted(catalogs.items()):
            if all(key in messages for key in keys):
                versions.append(Text(f"{MESSAGES}{number}", language, (), tuple(messages[key] for key in keys)))
        some = chance.sample(versions, min(LANGUAGES_PER_TOPIC, len(versions)))
        texts += [text for text in some if len(some) > 1]
    return texts


def is_translated(text: Text, original: Text) -> bool:
    """Whether the title and two thirds of the paragraphs differ from the original: translations are often partial."""
    same = sum(paragraph in original.paragraphs for paragraph in text.paragraphs)
    return text.titles[0] != original.titles[0] and same < len(text.paragraphs) / 3


def read_page(path: Path, topic: str, language: str) -> Text | None:
    """Titles and paragraphs of a Mallard or XHTML page, or None for one that says next to nothing."""
    root = ET.parse(path).getroot()
    titles: list[str] = []
    paragraphs: list[str] = []

    def walk(element: ET.Element) -> None:
        tag = str(element.tag).split("}")[-1]
        text = re.sub(r"\s+", " ", "".join(element.itertext())).strip()
        if tag == "title" or element.get("class") == "title":
            titles.append(re.sub(r"^[\d.]+ ", "", text))  # without the section's number
        elif tag == "p":
            paragraphs.append(text)
        elif tag not in SKIPPED and element.get("class") not in SKIPPED:
            for child in element:
                walk(child)

    walk(root)
    titles, paragraphs = [t for t in titles if t], [p for p in paragraphs if p]
    if not titles or sum(map(len, paragraphs)) < 150:
        return None
    lengths = np.cumsum([len(paragraph) for paragraph in paragraphs])
    return Text(topic, language, tuple(titles), tuple(paragraphs[: 1 + int(np.searchsorted(lengths, LONGEST))]))
