"""Merge small segments and drop removed pages, without disturbing readers."""

from __future__ import annotations

import numpy as np

from docsearch.store.codec import get_codec
from docsearch.store.segment import VERSION, Segment, merge_segments
from docsearch.store.writer import IndexWriter, translate_disk_full

SEGMENT_PAGES = 4096  # a merged segment's size
FANOUT = 32  # more segments of one tier than this are merged, into one of the next tier
_LAST_TIER = 2  # segments of FANOUT ** 2 pages and more stay as they are, so no page is rewritten more than twice
_DEAD_SHARE = 0.25  # a segment with more dead pages than this is rewritten without being asked


def compact(writer: IndexWriter, *, everything: bool = False) -> int:
    """Merge segments where it pays; readers keep theirs.

    Args:
        writer: entered, with nothing buffered.
        everything: also drop the last dead page, merge the last two small segments, and rewrite those of an older
            format.

    Returns:
        How many segments were rewritten.

    Raises:
        IndexDamaged: a segment that was to be merged is not what was written; it is left as it is.
        DiskFull: there is no room for the merged segments; those that were there stay.
    """
    catalog = writer.catalog
    sizes = catalog.segment_sizes()
    dead = [number for number, (pages, dead, _) in sizes.items() if dead > (0 if everything else _DEAD_SHARE * pages)]
    if everything:
        small = [number for number, (pages, _, _) in sizes.items() if pages < SEGMENT_PAGES // 2]
        old = [number for number in sizes if _open(writer, number).version < VERSION]
        chosen = sorted({*dead, *old, *(small if len(small) > 1 else [])})
    else:
        tiers: list[list[int]] = [[] for _ in range(_LAST_TIER + 1)]
        for number, (pages, _, _) in sizes.items():
            tiers[min(_tier(pages), _LAST_TIER)].append(number)
        chosen = sorted({*dead, *(number for tier in tiers[:-1] if len(tier) > FANOUT for number in tier)})

    group: list[int] = []
    pages = 0
    for number in chosen:
        living = sizes[number][0] - sizes[number][1]
        if group and pages + living > SEGMENT_PAGES:
            _merge(writer, group)
            group, pages = [], 0
        group.append(number)
        pages += living
    if group:
        _merge(writer, group)
    return len(chosen)


def _tier(pages: int) -> int:
    """How often a segment of that size was merged: 0 below FANOUT pages, then one more for each factor of FANOUT."""
    return 0 if pages < FANOUT else 1 + _tier(pages // FANOUT)


def _merge(writer: IndexWriter, old: list[int]) -> None:
    paths, catalog = writer.paths, writer.catalog
    dead = set(catalog.tombstones())
    parts = []
    for number in old:
        segment = _open(writer, number)
        segment.verify()  # a new checksum must not vouch for damage
        living = [row for row in range(len(segment.page_ids)) if (number, row) not in dead]
        parts.append((segment, np.array(living, np.int64)))
    page_ids = np.concatenate([segment.page_ids[rows] for segment, rows in parts])
    with translate_disk_full(paths.folder):
        new = catalog.next_segment_id()
        size = merge_segments(paths.segment(new), new, parts, get_codec(writer.layout.codec)) if len(page_ids) else 0
        with catalog.transaction():
            catalog.move_pages(old, page_ids, new)
            if len(page_ids):
                catalog.add_segment(new, len(page_ids), size)
    for number in old:  # readers of an older commit have them mapped and go on reading
        paths.segment(number).unlink(missing_ok=True)


def _open(writer: IndexWriter, number: int) -> Segment:
    layout, path = writer.layout, writer.paths.segment(number)
    codec = get_codec(layout.codec)
    return Segment(path, number, codec, token_dim=layout.token_dim, dense_dim=layout.dense_dim)
