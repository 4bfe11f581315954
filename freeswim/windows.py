"""Geometry of sliding windows on a token grid: which keys does a query see? Plain integers, no tensors.

A window is a rectangle, so everything here is said once for a single axis; the two spatial axes combine freely, and all
frames are always seen. Ranges are half-open, (start, stop).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from freeswim.config import WindowMode

Range = tuple[int, int]


@dataclass(frozen=True)
class Segment:
    """Neighbouring queries of one axis that see the same keys."""

    queries: Range
    keys: Range


def length(bounds: Range) -> int:
    """How many a range holds."""
    return bounds[1] - bounds[0]


def keys_by_query(segments: Iterable[Segment]) -> list[Range]:
    """The keys that each query of neighbouring segments sees."""
    return [segment.keys for segment in segments for _ in range(*segment.queries)]


def window_range(centre: int, size: int, window: int, mode: WindowMode = "inward") -> Range:
    """The keys that a window of `window` tokens around `centre` holds, on an axis of `size` tokens.

    inward: exactly `window` keys; at the border the window moves inside.
    clipped: keys outside the axis are cut off, so the window shrinks at the border.
    blocks: the block of the centre; blocks do not overlap, start at 0, and the last one may be cut.
    A window at least as large as the axis is the whole axis, in every mode.
    """
    if window >= size:
        return 0, size
    if mode == "inward":
        start = min(max(centre - window // 2, 0), size - window)
        return start, start + window
    if mode == "clipped":
        start = centre - window // 2
        return max(0, start), min(size, start + window)
    start = centre // window * window
    return start, min(size, start + window)


def axis_segments(
    size: int, window: int, *, tile: int = 1, shift: int = 0, mode: WindowMode = "inward"
) -> list[Segment]:
    """Cut an axis into segments, one per query tile (one per block in "blocks" mode, whatever the tile).

    Args:
        size: Tokens on the axis.
        window: Tokens of the window; larger than the axis means the whole axis.
        tile: Queries that share one window, centred at `tile // 2` of the tile. At most `window`.
        shift: Tiles start at shift, shift + tile, ...; a positive shift leaves a cut tile in front. The last may be cut
            as well; a cut tile keeps the window of the whole one.

    Raises:
        ValueError: A size that is not positive, or a tile larger than the window.
    """
    if min(size, window, tile) < 1:
        raise ValueError(f"{size=}, {window=} and {tile=} must be 1 or more.")
    if tile > window:
        raise ValueError(f"{tile=} must not exceed {window=}: queries at the tile's border would not see themselves.")
    if mode == "blocks":
        tile, shift = min(window, size), 0
    segments = []
    first = shift % tile - tile if shift % tile else 0
    for start in range(first, size, tile):
        keys = window_range(start + tile // 2, size, window, mode)
        segments.append(Segment((max(start, 0), min(start + tile, size)), keys))
    return segments


def balanced_tile(grid: tuple[int, int], window: tuple[int, int], parts: int = 3) -> tuple[int, int]:
    """(h, w) of query tiles of at most 1 / `parts` of the window each way, about equal on the whole (H, W) grid.

    Tiles of just a third of the window can leave a sliver at the end: 17 columns on 120 leave one column. As many tiles
    of 15 leave none.
    """
    limits = [max(1, side // parts) for side in window]
    height, width = (-(-size // -(-size // limit)) for size, limit in zip(grid, limits, strict=True))
    return height, width


def guide_grid(grid: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """(h, w) with the aspect ratio of `grid` and about as many tokens as `window`; never more than `grid`."""
    height, width = grid
    ratio = max(1.0, (height * width / (window[0] * window[1])) ** 0.5)
    return max(1, round(height / ratio)), max(1, round(width / ratio))
