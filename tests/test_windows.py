"""Geometry against brute-force definitions: every grid up to 9, every window, tile, shift and mode."""

from itertools import product

import pytest

from freeswim.config import WindowMode
from freeswim.windows import axis_segments, balanced_tile, guide_grid

SIZES = range(1, 10)
MODES: tuple[WindowMode, ...] = ("inward", "clipped", "blocks")


def keys_by_definition(query: int, size: int, window: int, tile: int, shift: int, mode: WindowMode) -> list[int]:
    """The definition of DESIGN, one key at a time."""
    if window >= size:
        return list(range(size))
    if mode == "blocks":
        return [key for key in range(size) if key // window == query // window]
    centre = (query - shift) // tile * tile + shift + tile // 2
    start = centre - window // 2
    if mode == "inward":
        start = min(max(start, 0), size - window)
    return [key for key in range(start, start + window) if 0 <= key < size]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_every_axis_agrees_with_the_definition(size: int, mode: WindowMode) -> None:
    for window, tile in product(range(1, size + 3), range(1, size + 3)):
        if tile > window:
            continue
        for shift in range(tile):
            segments = axis_segments(size, window, tile=tile, shift=shift, mode=mode)
            queries = [query for segment in segments for query in range(*segment.queries)]
            assert queries == list(range(size))
            for segment in segments:
                for query in range(*segment.queries):
                    keys = list(range(*segment.keys))
                    assert keys == keys_by_definition(query, size, window, tile, shift, mode)
                    assert query in keys, "a query always sees itself"


@pytest.mark.parametrize("size", SIZES)
def test_inward_windows_are_never_smaller(size: int) -> None:
    for window in range(1, size + 3):
        lengths = {stop - start for start, stop in (segment.keys for segment in axis_segments(size, window))}
        assert lengths == {min(window, size)}


def test_clipped_windows_shrink_at_the_border_and_blocks_do_not_overlap() -> None:
    assert [s.keys for s in axis_segments(6, 4, mode="clipped")] == [(0, 2), (0, 3), (0, 4), (1, 5), (2, 6), (3, 6)]
    assert [(s.queries, s.keys) for s in axis_segments(7, 3, mode="blocks")] == [
        ((a, b), (a, b)) for a, b in ((0, 3), (3, 6), (6, 7))
    ]


def test_a_shift_cuts_the_first_tile() -> None:
    assert [s.queries for s in axis_segments(10, 6, tile=4, shift=2)] == [(0, 2), (2, 6), (6, 10)]
    assert [s.keys for s in axis_segments(10, 6, tile=4, shift=2)] == [(0, 6), (1, 7), (4, 10)]


@pytest.mark.parametrize(("size", "window", "tile"), [(0, 1, 1), (4, 0, 1), (4, 2, 0), (8, 3, 4)])
def test_bad_axes_are_refused(size: int, window: int, tile: int) -> None:
    with pytest.raises(ValueError, match=f"{tile=}"):
        axis_segments(size, window, tile=tile)


@pytest.mark.parametrize(
    ("grid", "window", "expected"),
    [
        ((18, 32), (9, 16), (9, 16)),
        ((27, 48), (9, 16), (9, 16)),
        ((68, 120), (30, 52), (30, 52)),
        ((16, 18), (9, 16), (11, 13)),
        ((4, 4), (9, 16), (4, 4)),
        ((1, 200), (2, 2), (1, 28)),
    ],
)
def test_guide_grid(grid: tuple[int, int], window: tuple[int, int], expected: tuple[int, int]) -> None:
    assert guide_grid(grid, window) == expected


def test_balanced_tiles_cover_every_grid_without_slivers() -> None:
    for window in ((30, 52), (45, 80), (9, 16), (2, 1)):
        for size in range(1, 260):
            tile = balanced_tile((size, size), window)
            for part, whole in zip(tile, window, strict=True):
                assert 1 <= part <= max(1, whole // 3)
                count = -(-size // part)
                assert count == -(-size // max(1, whole // 3)), "no more tiles than the largest allowed ones need"
                assert count * part - size < count, "each tile lacks less than one token on average"


def test_balanced_tiles_of_known_grids() -> None:
    assert balanced_tile((68, 120), (30, 52)) == (10, 15)
    assert balanced_tile((135, 240), (30, 52)) == (10, 16)
    assert balanced_tile((67, 119), (30, 52)) == (10, 17)
    assert balanced_tile((18, 32), (9, 16)) == (3, 5)
