"""The embedded default encoder: reads the words of a page, needs no download and no GPU."""

from docsearch.encoders.words.encoder import WordsEncoder

__all__ = ["WordsEncoder"]
