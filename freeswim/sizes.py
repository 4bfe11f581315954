"""Sizes in pixels and in tokens: rounding, the native size for a target, token grids. Integers only, no torch."""

import math
from typing import NamedTuple

# Within this ratio of the trained shape the trained size itself is used, and enlarging stretches the picture that much.
SAME_SHAPE = 1.1


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def padded_size(size: Size, token: int) -> Size:
    """`size` rounded up to whole tokens of `token` x `token` pixels: what the model denoises before the crop."""
    return Size(round_up(size.width, token), round_up(size.height, token))


def token_grid(size: Size, frames: int, *, token: int, frames_per_latent: int) -> tuple[int, int, int]:
    """The transformer's token grid (T, H, W) for a video of `frames` frames at `size`, padded to whole tokens."""
    padded = padded_size(size, token)
    return (frames - 1) // frames_per_latent + 1, padded.height // token, padded.width // token


def native_size(target: Size, trained: Size, token: int) -> Size:
    """What stage 1 generates for `target`: the trained size, or as many tokens in the target's own shape.

    A shape within SAME_SHAPE of the trained one gets the trained size. Any other gets a grid of the target's shape with
    about the trained count of tokens. A target that needs no more than that in either
    direction is native itself: the result is then the target padded to whole tokens.
    """
    shape = target.width / target.height
    trained_shape = trained.width / trained.height
    native = trained
    if max(shape / trained_shape, trained_shape / shape) > SAME_SHAPE:
        tokens = (trained.width // token) * (trained.height // token)
        rows = max(1, round(math.sqrt(tokens / shape)))
        columns = max(1, round(rows * shape))
        native = Size(columns * token, rows * token)
    padded = padded_size(target, token)
    return padded if fits(padded, native) or fits(padded, trained) else native


def fits(size: Size, limit: Size) -> bool:
    """Whether `size` is no larger than `limit` in both directions."""
    return size.width <= limit.width and size.height <= limit.height
