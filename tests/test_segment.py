"""Segment files: what goes in comes out, byte for byte, also after merging."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import page_text

from docsearch.errors import IndexDamaged
from docsearch.index import Index
from docsearch.store.catalog import PageRecord
from docsearch.store.codec import get_codec
from docsearch.store.segment import Segment, merge_segments, write_segment
from docsearch.testing import FakeEncoder
from docsearch.types import PageVectors, PatchGrid

D, E = 12, 5


def some_pages(seed: int, lengths: list[int]) -> list[tuple[int, PageVectors]]:
    random = np.random.default_rng(seed)
    pages = []
    for row, length in enumerate(lengths):
        tokens = random.standard_normal((length, D)).astype(np.float32)
        boxes = random.integers(0, 65535, (length, 4)).astype(np.uint16)
        pages.append((1000 * seed + row, PageVectors(tokens, random.standard_normal(E).astype(np.float32), boxes)))
    return pages


def opened(path: Path, number: int, codec: str = "int8") -> Segment:
    return Segment(path, number, get_codec(codec), token_dim=D, dense_dim=E)


@pytest.mark.parametrize("codec", ["float16", "int8", "r4", "r3", "r2", "binary"])
@pytest.mark.parametrize("lengths", [[1], [0], [0, 0], [3, 0, 250], [17] * 9])
def test_what_is_written_is_read(tmp_path: Path, codec: str, lengths: list[int]) -> None:
    """A failure means: vectors, boxes or ids come back as others than were stored."""
    pages, path = some_pages(1, lengths), tmp_path / "1.seg"
    assert write_segment(path, 1, pages, get_codec(codec)) == path.stat().st_size
    segment = opened(path, 1, codec)
    segment.verify()
    assert segment.page_ids.tolist() == [page_id for page_id, _ in pages]
    assert np.diff(segment.offsets).tolist() == lengths
    for row, (_, vectors) in enumerate(pages):
        start, end = segment.offsets[row : row + 2]
        block, scale = get_codec(codec).encode(vectors.tokens)
        assert segment.starts[row] % 64 == 0
        assert np.array_equal(segment.block(row), block)
        assert segment.scales[row] == np.float32(scale)
        assert np.array_equal(segment.boxes[start:end], vectors.boxes)
        assert np.array_equal(segment.dense[row], vectors.dense.astype(np.float16))


@settings(deadline=None, max_examples=40)
@given(parts=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=4), data=st.data())
def test_merging_copies_codes_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], data: st.DataObject
) -> None:
    """A failure means: compacting changes scores, or gives a page the vectors of another."""
    folder = tmp_path_factory.mktemp("merge")
    codec = get_codec(data.draw(st.sampled_from(["int8", "r3"])))
    chosen = []
    for number, lengths in enumerate(parts, 1):
        write_segment(folder / f"{number}.seg", number, some_pages(number, lengths), codec)
        rows = data.draw(st.lists(st.sampled_from(range(len(lengths))), unique=True).map(sorted))
        chosen.append((opened(folder / f"{number}.seg", number, codec.name), np.array(rows, np.int64)))
    if not any(len(rows) for _, rows in chosen):
        return
    merge_segments(folder / "99.seg", 99, chosen, codec)
    merged = opened(folder / "99.seg", 99, codec.name)
    merged.verify()
    places = [(segment, row) for segment, rows in chosen for row in rows]
    assert len(merged.page_ids) == len(places)
    for new, (segment, old) in enumerate(places):
        assert merged.block(new).tobytes() == segment.block(old).tobytes()
        assert merged.page_boxes(new).tobytes() == segment.page_boxes(old).tobytes()
        for name in ("page_ids", "scales", "dense"):
            assert getattr(merged, name)[new].tobytes() == getattr(segment, name)[old].tobytes()


def test_a_patch_grid_is_stored_as_boxes(tmp_path: Path) -> None:
    """A failure means: an image encoder's patches are shown at the wrong places of the page."""
    tokens = np.eye(7, D, dtype=np.float32)
    write_segment(tmp_path / "1.seg", 1, [(1, PageVectors(tokens, np.ones(E, np.float32), PatchGrid(2, 3, 1)))],
                  get_codec("int8"))  # fmt: skip
    boxes = opened(tmp_path / "1.seg", 1).boxes
    assert boxes[0].tolist() == [0, 0, 0, 0]
    assert boxes[1].tolist() == [0, 0, 21845, 32768]
    assert boxes[6].tolist() == [43690, 32768, 65535, 65535]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"segment_id": 2}, "segment 1"), ({"codec": get_codec("float16")}, "int8"), ({"token_dim": 40}, "fit together"),
     ({"dense_dim": 6}, "fit together")],
)  # fmt: skip
def test_a_segment_of_something_else_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """A failure means: a file under a wrong name, or of another index, is read as if it belonged here."""
    write_segment(tmp_path / "1.seg", 1, some_pages(1, [2]), get_codec("int8"))
    expected = {"segment_id": 1, "codec": get_codec("int8"), "token_dim": D, "dense_dim": E} | change
    with pytest.raises(IndexDamaged, match=message):
        Segment(tmp_path / "1.seg", **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["float16", "int8", "binary"])
def test_an_index_of_the_first_format_stays_readable(tmp_path: Path, codec: str) -> None:
    """A failure means: an update of docsearch loses everything that was indexed before it."""
    with zipfile.ZipFile(Path(__file__).parent / "data" / "index_format_1.zip") as archive:
        archive.extractall(tmp_path)
        wanted = json.loads(archive.read("answers.json"))[codec]

    def answers(index: Index) -> list[list[list[object]]]:
        queries = [record.words.text for record in all_pages(index)]
        return [
            [[Path(hit.path).name, hit.page_number, pytest.approx(hit.score, abs=0.002)] for hit in hits]
            for hits in index.search_many(queries, k=5, exact=True, mode="visual")
        ]

    with Index.open(tmp_path / codec / ".docsearch", encoder=FakeEncoder()) as index:
        assert index.verify() == []
        assert answers(index) == wanted
        assert not index._read().snapshot.has_sketches
        assert [hit.page_number for hit in index.search(page_text("first", 2), n_candidates=1, k=1)] == [2]
        assert index.compact() == 2
        assert index._read().snapshot.has_sketches
        assert index.verify() == []
        assert answers(index) == wanted


def all_pages(index: Index) -> list[PageRecord]:
    snapshot = index._read().snapshot
    records = [snapshot.catalog.page(int(page_id)) for page_id in snapshot.page_ids]
    return sorted(records, key=lambda record: (record.paths, record.page_number))
