"""A drawing of windows and tiles on the target's token grid, as inline SVG with a legend in words.

    html = window_diagram(grid=(18, 32), window=(9, 16), query_tile=(3, 5), window_mode="inward", guide_grid=(9, 16))

Where each window lies comes from freeswim.windows, so what is drawn is what runs. Colours are the page's (style.css).
"""

from dataclasses import dataclass
from html import escape

from freeswim.config import WindowMode
from freeswim.windows import Range, Segment, axis_segments

Pair = tuple[int, int]  # (height, width) in tokens

_WIDTH = 480.0  # units of the drawing's width
_TALLEST = 300.0  # and of its height, or a tall target would push everything else away
_FINEST = 3.0  # units of a token below which single tokens aren't drawn
_MARGIN = 2.0


@dataclass(frozen=True)
class _Box:
    """A rectangle of tokens."""

    rows: Range
    columns: Range

    @property
    def size(self) -> Pair:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def centre(self) -> tuple[float, float]:
        """x and y."""
        return sum(self.columns) / 2, sum(self.rows) / 2


@dataclass(frozen=True)
class _Query:
    """A tile of queries and the window that they see."""

    tile: _Box
    window: _Box


def window_diagram(
    *,
    grid: Pair,
    window: Pair,
    query_tile: Pair = (1, 1),
    window_mode: WindowMode = "inward",
    guide_grid: Pair | None = None,
    shift_tiles: bool = False,
) -> str:
    """A figure for a target of `grid` tokens a frame: its tiles, and the windows of one query near a corner and one in
    the middle. All sizes are (height, width) in tokens.

    guide_grid: what the guide sees, drawn beside it to the same scale; None: no guide.
    shift_tiles: also shows the tiles of every second block, half a tile further.
    ValueError as from freeswim.windows.axis_segments: a size below 1, or a tile larger than the window.
    """
    # A window (or a tile) as large as the grid is the grid.
    axes = [
        axis_segments(size, length, tile=tile, mode=window_mode)
        for size, length, tile in zip(grid, window, query_tile, strict=True)
    ]
    corner, middle = (_query(axes, grid, where, blocks=window_mode == "blocks") for where in (0.06, 0.5))
    scale = min(_WIDTH / grid[1], _TALLEST / grid[0])
    whole = corner.window.size == grid
    queries = [("a", corner)] if whole else [("b", middle), ("a", corner)]
    parts = [
        _rectangle("ground", _Box((0, grid[0]), (0, grid[1])), scale),
        *(_rectangle(f"window {name}", query.window, scale) for name, query in queries),
        _token_lines(grid, scale),
        _tile_lines(axes, grid, scale),
    ]
    if shift_tiles and query_tile != (1, 1) and window_mode != "blocks":
        shifted = [
            axis_segments(size, length, tile=tile, shift=tile // 2, mode=window_mode)
            for size, length, tile in zip(grid, window, query_tile, strict=True)
        ]
        parts.append(_tile_lines(shifted, grid, scale, kind="tiles shifted"))
    parts += [_rectangle(f"query {name}", query.tile, scale) for name, query in queries]
    if window_mode == "inward":
        parts += [_moved(query, scale) for _, query in queries]
    title = f"One frame of the target: {_size(grid)} tokens"
    legend = _legend(query_tile, window_mode, shift_tiles, corner, None if whole else middle)
    items = "".join(f'<li class="{kind}">{escape(words)}</li>' for kind, words in legend)
    label = ". ".join([title, *(words for _, words in legend)])
    return (
        f'<figure class="windows">{_svg(grid, scale, parts, label)}<figcaption><p>{escape(title)}</p><ul>{items}</ul>'
        f"{_guide(guide_grid, grid, scale)}</figcaption></figure>"
    )


def _query(axes: list[list[Segment]], grid: Pair, where: float, *, blocks: bool) -> _Query:
    """The tile that holds the token at this fraction of both axes, with its window; the token alone for blocks."""
    rows, columns = (
        next(s for s in segments if s.queries[0] <= int(where * size) < s.queries[1])
        for segments, size in zip(axes, grid, strict=True)
    )
    if blocks:
        row, column = (int(where * size) for size in grid)
        return _Query(_Box((row, row + 1), (column, column + 1)), _Box(rows.keys, columns.keys))
    return _Query(_Box(rows.queries, columns.queries), _Box(rows.keys, columns.keys))


# ---- words


def _size(pair: Pair) -> str:
    return f"{pair[0]}\u00a0×\u00a0{pair[1]}"  # never broken between the two


def _legend(
    query_tile: Pair, mode: WindowMode, shift_tiles: bool, corner: _Query, middle: _Query | None
) -> list[tuple[str, str]]:
    """(class, words) of each thing drawn; `middle` is None where the window is the whole grid."""
    if middle is None:
        return [("a", "The window covers all of it: every query sees every token")]
    said = [("a", _near_corner(mode, corner, middle)), ("b", _in_middle(mode, middle))]
    if mode == "blocks":
        return said
    if query_tile == (1, 1):
        return [*said, ("tile", "Each query has a window of its own")]
    shifted = ", in every second block half a tile further (dashed)" if shift_tiles else ""
    return [*said, ("tile", f"Tiles of {_size(query_tile)} queries share a window{shifted}")]


def _guide(guide_grid: Pair | None, grid: Pair, scale: float) -> str:
    """What the guide sees: its grid to the same scale, and in words."""
    if guide_grid is None:
        return '<div class="guide"><p>No guide: nothing sees the whole scene</p></div>'
    if guide_grid == grid:
        return f'<div class="guide"><p>The guide sees the whole scene at full size, {_size(grid)} tokens</p></div>'
    inside = [
        _rectangle("ground", _Box((0, guide_grid[0]), (0, guide_grid[1])), scale),
        _token_lines(guide_grid, scale),
    ]
    words = f"The guide sees the whole scene in {_size(guide_grid)} tokens"
    return f'<div class="guide">{_svg(guide_grid, scale, inside, words)}<p>{words}</p></div>'


def _near_corner(mode: WindowMode, corner: _Query, middle: _Query) -> str:
    size = _size(corner.window.size)
    if mode == "blocks":
        return f"Near the corner: its own block, {size}"
    if mode == "clipped":
        return f"Near the corner: cut off at the border, {size}"
    return f"Near the corner: moved inward, still {size}" if corner.window.size == middle.window.size else size


def _in_middle(mode: WindowMode, middle: _Query) -> str:
    if mode == "blocks":
        return f"In the middle: its own block, {_size(middle.window.size)}; the queries beside it see another one"
    return f"In the middle: {_size(middle.window.size)} around it"


# ---- shapes, in units


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _rectangle(kind: str, box: _Box, scale: float) -> str:
    x, y = box.columns[0] * scale, box.rows[0] * scale
    height, width = (length * scale for length in box.size)
    # A single token of a 4K grid is two units wide, and still has to be seen.
    grown = max(0.0, 7 - min(height, width)) / 2 if kind.startswith("query") else 0.0
    return (
        f'<rect class="{kind}" x="{_n(x - grown)}" y="{_n(y - grown)}" '
        f'width="{_n(width + 2 * grown)}" height="{_n(height + 2 * grown)}"/>'
    )


def _lines(kind: str, rows: list[int], columns: list[int], size: Pair, scale: float) -> str:
    """Lines across a grid before these rows and columns."""
    across = "".join(f"M0 {_n(row * scale)}h{_n(size[1] * scale)}" for row in rows)
    down = "".join(f"M{_n(column * scale)} 0v{_n(size[0] * scale)}" for column in columns)
    return f'<path class="{kind}" d="{across}{down}"/>' if across or down else ""


def _token_lines(size: Pair, scale: float) -> str:
    if scale < _FINEST:
        return ""
    return _lines("tokens", list(range(1, size[0])), list(range(1, size[1])), size, scale)


def _tile_lines(axes: list[list[Segment]], grid: Pair, scale: float, kind: str = "tiles") -> str:
    """The borders between tiles (blocks), unless every tile is one token."""
    rows, columns = ([segment.queries[0] for segment in segments[1:]] for segments in axes)
    if len(rows) == grid[0] - 1 and len(columns) == grid[1] - 1:
        return ""
    return _lines(kind, rows, columns, grid, scale)


def _moved(query: _Query, scale: float) -> str:
    """An arrow from a query's tile to the centre of its window, where that was moved."""
    (x0, y0), (x1, y1) = query.tile.centre, query.window.centre
    if abs(x1 - x0) < 1.5 and abs(y1 - y0) < 1.5:
        return ""
    x0, y0, x1, y1 = (value * scale for value in (x0, y0, x1, y1))
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    along_x, along_y = 7 * (x1 - x0) / length, 7 * (y1 - y0) / length
    head = "".join(
        f"M{_n(x1)} {_n(y1)}L{_n(x1 - along_x + side * along_y / 1.6)} {_n(y1 - along_y - side * along_x / 1.6)}"
        for side in (1, -1)
    )
    return f'<path class="moved" d="M{_n(x0)} {_n(y0)}L{_n(x1)} {_n(y1)}{head}"/>'


def _svg(size: Pair, scale: float, parts: list[str], label: str) -> str:
    height, width = (length * scale for length in size)
    box = f"{_n(-_MARGIN)} {_n(-_MARGIN)} {_n(width + 2 * _MARGIN)} {_n(height + 2 * _MARGIN)}"
    share = 100 * (width + 2 * _MARGIN) / (_WIDTH + 2 * _MARGIN)
    attributes = f'viewBox="{box}" style="width:{_n(share)}%" role="img" aria-label="{escape(label)}"'
    return f"<svg {attributes}>{''.join(parts)}</svg>"
