"""Merge small segments and drop removed pages, without disturbing readers."""

from __future__ import annotations

import numpy as np

from docsearch.store.codec import get_codec
from docsearch.store.segment import Segment, merge_segments
from docsearch.store.writer import IndexWriter, translate_disk_full

SEGMENT_PAGES = 1024  # a merged segment's size; what a merge holds in memory
SMALL_SEGMENTS = 8  # more segments below half that size than this are merged without being asked
_DEAD_SHARE = 0.25  # a segment with more dead pages than this is rewritten without being asked


def compact(writer: IndexWriter, *, everything: bool = False) -> int:
    """Merge segments where it pays; readers keep theirs.

    Args:
        writer: entered, with nothing buffered.
        everything: also drop the last dead page and merge the last two small segments.

    Returns:
        How many segments were rewritten.

    Raises:
        IndexDamaged: a segment that was to be merged is not what was written; it is left as it is.
        DiskFull: there is no room for the merged segments; those that were there stay.
    """
    catalog = writer.catalog
    sizes = catalog.segment_sizes()
    small = [number for number, (pages, _, _) in sizes.items() if pages < SEGMENT_PAGES // 2]
    dead = [number for number, (pages, dead, _) in sizes.items() if dead > (0 if everything else _DEAD_SHARE * pages)]
    merge_small = len(small) > (1 if everything else SMALL_SEGMENTS)
    chosen = sorted({*dead, *(small if merge_small else [])})

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


def _merge(writer: IndexWriter, old: list[int]) -> None:
    layout, paths, catalog = writer.layout, writer.paths, writer.catalog
    codec = get_codec(layout.codec)
    dead = set(catalog.tombstones())
    parts = []
    for number in old:
        segment = Segment(paths.segment(number), number, codec, token_dim=layout.token_dim, dense_dim=layout.dense_dim)
        segment.verify()  # a new checksum must not vouch for damage
        living = [row for row in range(len(segment.page_ids)) if (number, row) not in dead]
        parts.append((segment, np.array(living, np.int64)))
    page_ids = np.concatenate([segment.page_ids[rows] for segment, rows in parts])
    with translate_disk_full(paths.folder):
        new = catalog.next_segment_id()
        size = merge_segments(paths.segment(new), new, parts, codec) if len(page_ids) else 0
        with catalog.transaction():
            catalog.move_pages(old, page_ids, new)
            if len(page_ids):
                catalog.add_segment(new, len(page_ids), size)
    for number in old:  # readers of an older commit have them mapped and go on reading
        paths.segment(number).unlink(missing_ok=True)
