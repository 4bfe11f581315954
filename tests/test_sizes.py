"""Rounding, native sizes and token grids, for every size in the range that is asked for."""

import math

import pytest

from freeswim.sizes import SAME_SHAPE, Size, fits, native_size, padded_size, round_up, token_grid

TRAINED = [(Size(256, 144), 16), (Size(832, 480), 16), (Size(1280, 720), 16), (Size(96, 64), 32)]


def test_round_up() -> None:
    for multiple in range(1, 40):
        for value in range(200):
            rounded = round_up(value, multiple)
            assert rounded % multiple == 0
            assert 0 <= rounded - value < multiple


@pytest.mark.parametrize(("trained", "token"), TRAINED)
def test_native_size_of_every_target(trained: Size, token: int) -> None:
    """For every target: whole tokens, and either the trained size, the target itself, or its shape and token count."""
    tokens = trained.width * trained.height // token**2
    for width in range(64, 2400, 26):
        for height in range(64, 2400, 26):
            target = Size(width, height)
            padded = padded_size(target, token)
            native = native_size(target, trained, token)
            assert native.width % token == 0
            assert native.height % token == 0
            if fits(target, trained):
                assert native == padded
            if native in (trained, padded):
                continue
            assert not fits(padded, native)
            rows, columns = native.height // token, native.width // token
            # Rounding to whole tokens moves rows and columns by at most half a token each.
            assert abs(rows - math.sqrt(tokens * height / width)) <= 0.5 or rows == 1
            assert abs(columns - rows * width / height) <= 0.5 or columns == 1


def test_shapes_near_the_trained_one_use_it() -> None:
    trained = Size(832, 480)
    for height in (720, 1080, 2160):
        width = height * 16 // 9
        assert native_size(Size(width, height), trained, 16) == trained
    stretched = trained.width / trained.height * SAME_SHAPE
    assert native_size(Size(int(1000 * stretched) + 4, 1000), trained, 16) != trained


@pytest.mark.parametrize(
    ("target", "native"),
    [
        (Size(512, 288), Size(256, 144)),
        (Size(288, 512), Size(144, 256)),  # portrait
        (Size(512, 512), Size(192, 192)),  # square
        (Size(130, 70), Size(144, 80)),  # smaller than trained: itself, in whole tokens
        (Size(8192, 64), Size(2048, 16)),
    ],
)
def test_native_size_examples(target: Size, native: Size) -> None:
    assert native_size(target, Size(256, 144), 16) == native


@pytest.mark.parametrize(
    ("size", "frames", "grid"),
    [
        (Size(256, 144), 17, (5, 9, 16)),
        (Size(832, 480), 81, (21, 30, 52)),
        (Size(1920, 1080), 81, (21, 68, 120)),
        (Size(64, 66), 1, (1, 5, 4)),
    ],
)
def test_token_grid(size: Size, frames: int, grid: tuple[int, int, int]) -> None:
    assert token_grid(size, frames, token=16, frames_per_latent=4) == grid


def test_a_size_is_printed_as_it_is_asked_for() -> None:
    assert f"{Size(512, 288)}" == "512x288"
