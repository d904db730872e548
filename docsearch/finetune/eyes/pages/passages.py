"""Passages of text for the parts of a page: paragraphs as they follow in a document, headings, words, made-up data."""

from __future__ import annotations

from collections import deque
from random import Random

from docsearch.finetune.eyes.pages.texts import Texts

UNSPACED = {"zh", "ja"}  # languages written without spaces: a word is a piece of a few characters
MONTHS = ("Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
UNITS = ("%", "kg", "mm", "km", "h", "ms", "MB", "€", "$", "°C", "px", "V", "Hz", "kWh", "m²", "pt")
HOSTS = ("example.org", "example.com", "mail.example.net", "docs.example.org", "localhost")


class Passages:
    """Reads documents of one language from a random place on, one after another, without end."""

    def __init__(self, texts: Texts, language: str, chance: Random) -> None:
        self._documents, self._chance = texts[language], chance
        self._spaced = language not in UNSPACED
        self._queue: deque[str] = deque()
        self._recent: list[str] = []
        self.paragraph()

    def preview(self, n_chars: int) -> str:
        """What is read next, about so many characters."""
        found: list[str] = []
        for text in self._queue:
            found.append(text)
            n_chars -= len(text)
            if n_chars <= 0:
                break
        return " ".join(found)

    def paragraph(self) -> str:
        """The next paragraph, of any length."""
        while not self._queue:
            document = self._chance.choice(self._documents)
            start = int(self._chance.random() ** 2 * len(document))  # more often from the beginning
            self._queue.extend(document[start : start + 60])
        text = self._queue.popleft()
        if len(text) > 20 or not self._recent:
            self._recent = [text, *self._recent[:3]]
        return text

    def prose(self) -> str:
        """The next paragraph that is more than a heading."""
        for _ in range(20):
            if len(text := self.paragraph()) >= (60 if self._spaced else 25):
                break
        return text

    def heading(self) -> str:
        """A short text: the next paragraph where it is one, else some of its words."""
        if self._queue and len(self._queue[0]) < (70 if self._spaced else 25):
            return self.paragraph()
        return self.phrase(self._chance.randint(1, 7)).rstrip(".,;:。、")

    def phrase(self, n_words: int) -> str:
        """So many words in a row, from what was read last or from anywhere."""
        near = self._chance.random() < 0.4
        text = self._chance.choice(self._recent if near else self._chance.choice(self._documents))
        if not self._spaced:
            start = self._chance.randrange(len(text))
            return text[start : start + 3 * n_words].strip() or text[:1]
        words = text.split()
        start = self._chance.randrange(max(1, len(words) - n_words + 1))
        return " ".join(words[start : start + n_words])

    def datum(self) -> str:
        """A number, date, price, code or address, made up."""
        chance = self._chance
        number = chance.choice((9, 99, 999, 9999, 10**6)) * chance.random()
        code = "".join(chance.choice("ABCDEFGHJKLMNPRSTUVWXYZ0123456789-") for _ in range(chance.randint(4, 12)))
        price = f"{number:,.2f}"
        forms = (
            f"{number:.0f}", f"{number:.1f}", f"{number:.2f}", price, price.translate({44: 46, 46: 44}),
            f"{number:.0f} {chance.choice(UNITS)}", f"{number % 100:.{chance.randrange(2)}f}%", self._date(),
            f"{chance.randrange(24):02}:{chance.randrange(60):02}", code, str(chance.randrange(1000)),
            f"+{chance.randint(1, 99)} {chance.randint(10, 999)} {chance.randint(10000, 9999999)}",
            f"{chance.choice('-+±')}{number % 100:.{chance.randint(1, 3)}f}",
        )  # fmt: skip
        return chance.choice(forms)

    def _date(self) -> str:
        chance = self._chance
        day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1950, 2035)
        forms = (f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month}/{day}/{year}",
                 f"{day} {MONTHS[month % len(MONTHS)]} {year}")  # fmt: skip
        return chance.choice(forms)

    def identifier(self) -> str:
        """A name as programs have them."""
        word = "".join(char for char in self.phrase(1).lower() if char.isascii() and char.isalnum())
        word = (
            word
            if word and word[0].isalpha()
            else self._chance.choice(("item", "path", "value", "count", "node", "key"))
        )
        other = self._chance.choice(("id", "list", "size", "max", "open", "index", "name", "file", "to", "buffer"))
        return self._chance.choice((word, f"{word}_{other}", f"{other}{word.capitalize()}", f"{word}.{other}", other))

    def code(self) -> str:
        """A line of a program, a shell session or a configuration."""
        name, other, number = self.identifier(), self.identifier(), self._chance.randrange(256)
        lines = (
            f"{name} = {other}({number})", f"if ({name} > {number}) {{", "}", f"return {name};",
            f"for {name} in {other}:", f"{name}@{self._chance.choice(HOSTS)}",
            f"def {name}({other}, key=None):", f"$ {name} --{other}={number} /etc/{name}.conf", f"# {self.phrase(5)}",
            f"int {name}[{number}] = {{0}};", f"{name}->{other} += 0x{number:04x};", f'print("{self.phrase(2)}")',
            f"import {name}", f'<{name} id="{other}">', f"{name}: {other}", f"export {name.upper()}={number}",
            f"while (!{name} && {other} != {number})", f"select {name} = {number};",
            f"https://{self._chance.choice(HOSTS)}/{name}/{other}.html", f"[{name}]",
            f"-rw-r--r-- 1 root root {number * 37} {name}.txt", f"// {self.phrase(4)}", f"assert {name} == {number}",
        )  # fmt: skip
        return self._chance.choice(lines)
