"""Large videos through the VAE in overlapping tiles of space, a row of tiles at a time.

Neighbouring tiles overlap by at least `OVERLAP` pixels and are spread evenly, so none is a sliver. They are blended
linearly over that many pixels in the middle of their overlap, as far from both borders as can be. All frames of a tile
are coded together, since the VAE carries features from frame to frame. At most one row of tiles is on the device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

OVERLAP = 64
_STEP = 16  # pixels: tiles begin and end where latents and the VAE's own patches do


@dataclass(frozen=True)
class Part:
    """A tile's share of one axis, in pixels."""

    start: int
    stop: int
    low: int
    """From here on it contributes: its weight rises from 0 to 1 over the next OVERLAP pixels, unless this is 0."""
    high: int
    """Up to here it contributes: its weight falls to 0 over the last OVERLAP pixels, unless this is the end."""

    def weights(self, size: int, unit: int, device: torch.device) -> torch.Tensor:
        """(high - low) / unit weights, for an axis of `size` pixels seen in units of `unit` pixels."""
        weights = torch.ones((self.high - self.low) // unit, device=device)
        count = OVERLAP // unit
        ramp = (torch.arange(count, device=device) + 0.5) / count
        if self.low > 0:
            weights[:count] = ramp
        if self.high < size:
            weights[-count:] = 1 - ramp
        return weights


def axis_parts(size: int, tile: int) -> list[Part]:
    """Tiles of at most `tile` pixels (a multiple of 16, at least 4 OVERLAP) over an axis of `size` pixels."""
    if size <= tile:
        return [Part(0, size, 0, size)]
    count = -(-(size - OVERLAP) // (tile - OVERLAP))
    tile = -(-(size + (count - 1) * OVERLAP) // count // _STEP) * _STEP  # as many tiles need not be that large
    starts = [round(index * (size - tile) / (count - 1) / _STEP) * _STEP for index in range(count - 1)]
    starts.append(size - tile)
    # Where neighbours take over from each other: the middle of their overlap, in whole steps.
    middles = [(start + tile + following) // 2 // _STEP * _STEP for start, following in pairwise(starts)]
    lows = [0, *(middle - OVERLAP // 2 for middle in middles)]
    highs = [*(middle + OVERLAP // 2 for middle in middles), size]
    return [Part(start, start + tile, low, high) for start, low, high in zip(starts, lows, highs, strict=True)]


def in_tiles(
    code: Callable[[Part, Part], torch.Tensor], size: tuple[int, int], tile: tuple[int, int], *, unit: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Code a video tile by tile; yields (first row, rows) from top to bottom, blended, as soon as they are final.

    Args:
        code: Makes of a tile, given by its rows and columns, a tensor (1, C, T, y, x) of y = pixels / `unit`.
        size: (H, W) of the whole in pixels, multiples of 16.
        tile: (h, w) of a tile in pixels.
        unit: Pixels of a side that one value of the result stands for: 1 decoding, the VAE's factor encoding.

    Yields:
        (1, C, T, rows, W / unit), float32; together all H / unit rows.
    """
    whole_rows, whole_columns = (axis_parts(*pair) for pair in zip(size, tile, strict=True))
    if len(whole_rows) == len(whole_columns) == 1:
        yield 0, code(whole_rows[0], whole_columns[0]).float()
        return
    below: torch.Tensor | None = None  # the last row's part of what the next one blends in
    for rows in whole_rows:
        strip: torch.Tensor | None = None
        for columns in whole_columns:
            coded = code(rows, columns).float()
            top, left = (rows.low - rows.start) // unit, (columns.low - columns.start) // unit
            height, width = (rows.high - rows.low) // unit, (columns.high - columns.low) // unit
            coded = coded[..., top : top + height, left : left + width] * columns.weights(size[1], unit, coded.device)
            if strip is None:
                strip = coded.new_zeros(*coded.shape[:-1], size[1] // unit)
            strip[..., columns.low // unit : columns.high // unit] += coded
            del coded  # before the next tile needs memory
        assert strip is not None
        strip *= rows.weights(size[0], unit, strip.device)[:, None]
        if below is not None:
            strip[..., : below.shape[-2], :] += below
        final = strip.shape[-2] - (OVERLAP // unit if rows.high < size[0] else 0)
        below = strip[..., final:, :].clone() if rows.high < size[0] else None
        yield rows.low // unit, strip[..., :final, :]
