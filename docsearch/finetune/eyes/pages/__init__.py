"""Learning to read pixels: synthetic pages without end, the words and their boxes known exactly."""

from docsearch.finetune.eyes.pages.fonts import Font, read_fonts
from docsearch.finetune.eyes.pages.maker import PageMaker, SyntheticPage
from docsearch.finetune.eyes.pages.texts import Texts, read_texts

__all__ = ["Font", "PageMaker", "SyntheticPage", "Texts", "read_fonts", "read_texts"]
