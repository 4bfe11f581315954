"""Frames to latents and back: resizing, padding, normalising, cropping, and running out of memory."""

from typing import Any

import numpy as np
import pytest
import torch

from freeswim import codec
from freeswim.sizes import Size
from freeswim.vae_tiles import axis_parts, in_tiles
from tests.wan import tiny_vae

CPU = torch.device("cpu")


def noise_frames(frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)


def test_enlarge_keeps_what_is_flat_and_interpolates_the_rest() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[:, :, 2:] = (200, 100, 50)
    larger = codec.enlarge(frames, Size(8, 8))
    assert larger.shape == (2, 8, 8, 3)
    assert larger[:, :, :3].max() == 0
    assert (larger[:, :, 5:] == (200, 100, 50)).all()
    assert larger[0, 0, 3:5, 0].tolist() == [50, 150]


def test_input_is_padded_with_its_border() -> None:
    frames = noise_frames(1, 6, 10)
    video = codec.enlarged_input(torch.from_numpy(frames), Size(10, 6), Size(16, 16), dtype=torch.float32)
    assert video.shape == (1, 3, 1, 16, 16)
    exact = torch.from_numpy(frames[0]).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(video[0, :, 0, :6, :10], exact)
    assert (video[0, :, 0, :6, 10:] == video[0, :, 0, :6, 9:10]).all()
    assert (video[0, :, 0, 6:] == video[0, :, 0, 5:6]).all()


def test_latents_are_normalised_with_the_vaes_own_statistics() -> None:
    vae = tiny_vae()
    video = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    latents = codec.encode(vae, video)
    raw = vae.encode(video).latent_dist.mode()
    for channel, (mean, deviation) in enumerate(zip(vae.config.latents_mean, vae.config.latents_std, strict=True)):
        torch.testing.assert_close(latents[:, channel], (raw[:, channel] - mean) / deviation)
    decoded = codec.decode(vae, latents, Size(42, 30))
    exact = vae.decode(raw).sample[0, :, :, :30, :42].permute(1, 2, 3, 0)
    assert decoded.shape == (5, 30, 42, 3)
    assert np.abs(decoded - ((exact.numpy() + 1) * 127.5)).max() <= 0.51


class Cramped:
    """Stands for `vae.decode` on a GPU with room for tiles of `room` pixels a side."""

    def __init__(self, vae: Any, room: int) -> None:
        self.vae, self.room, self.tried = vae, room, list[int]()
        self.original = vae.decode

    def __call__(self, latents: torch.Tensor, **kwargs: Any) -> Any:
        side = self.vae.tile_sample_min_width if self.vae.use_tiling else 8 * latents.shape[-1]
        self.tried.append(side)
        if side > self.room:
            raise torch.OutOfMemoryError("no room")
        return self.original(latents, **kwargs)


def test_out_of_memory_is_met_with_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = tiny_vae()
    cramped = Cramped(vae, room=300)
    monkeypatch.setattr(vae, "decode", cramped)
    latents = torch.randn(1, 4, 1, 8, 144, generator=torch.Generator().manual_seed(0))
    frames = codec.decode(vae, latents, Size(1152, 64))
    assert cramped.tried[:3] == [1152, 576, 288]
    assert set(cramped.tried[2:]) == {288}, "what fits is used to the end"
    assert frames.shape == (1, 64, 1152, 3)


def test_out_of_memory_in_the_smallest_tiles_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = tiny_vae()
    cramped = Cramped(vae, room=0)
    monkeypatch.setattr(vae, "decode", cramped)
    with pytest.raises(torch.OutOfMemoryError):
        codec.decode(vae, torch.randn(1, 4, 1, 36, 64), Size(512, 288))
    assert cramped.tried[-1] == 256


def test_tiles_only_above_native_on_an_accelerator() -> None:
    vae, cuda = tiny_vae(), torch.device("cuda")
    native = Size(832, 480)
    codec.set_tiling(vae, Size(1920, 1088), native, cuda)
    assert vae.use_tiling
    assert (vae.tile_sample_min_width, vae.tile_sample_min_height) == (832, 480)
    codec.set_tiling(vae, native, native, cuda)
    assert not vae.use_tiling
    codec.set_tiling(vae, Size(1920, 1088), native, CPU)
    assert not vae.use_tiling


@pytest.mark.parametrize("tile", [256, 480, 832])
def test_the_parts_of_an_axis_blend_to_one(tile: int) -> None:
    for size in range(16, 2200, 16):
        parts = axis_parts(size, tile)
        assert len(parts) * parts[0].stop - size <= (len(parts) - 1) * 64 + 16 * len(parts), "little is computed twice"
        total, counted = torch.zeros(size), torch.zeros(size)
        for part in parts:
            assert part.stop - part.start == parts[0].stop <= tile
            assert part.start % 16 == part.low % 16 == part.high % 16 == 0
            assert 0 <= part.start <= part.low < part.high <= part.stop <= size
            total[part.low : part.high] += part.weights(size, 1, CPU)
            counted[part.low : part.high] += 1
        torch.testing.assert_close(total, torch.ones(size))
        assert counted.max() <= 2


def test_a_video_in_tiles_is_the_video() -> None:
    """Tiles that are cut from a video and not changed put it together again."""
    video = torch.rand(1, 2, 3, 304, 528)
    rows = list(
        in_tiles(
            lambda y, x: video[..., y.start : y.stop, x.start : x.stop].clone(), (304, 528), (144, 256), unit=1
        )
    )  # fmt: skip
    assert len(rows) == 3
    assert [top for top, _ in rows] == [0, rows[0][1].shape[-2], rows[0][1].shape[-2] + rows[1][1].shape[-2]]
    torch.testing.assert_close(torch.cat([strip for _, strip in rows], dim=-2), video)


def test_tiled_encoding_is_close_to_whole_encoding() -> None:
    vae, frames = tiny_vae(), noise_frames(5, 36, 72)
    size, padded = Size(570, 280), Size(576, 288)
    whole = codec.encode_frames(vae, frames, size, padded, device=CPU)
    pixels = codec.enlarged_input(torch.from_numpy(frames), size, padded, dtype=torch.float32)
    part = codec.enlarged_input(
        torch.from_numpy(frames), size, padded, dtype=torch.float32, rows=slice(16, 288), columns=slice(560, 576)
    )
    assert torch.equal(part, pixels[..., 16:, 560:])
    assert torch.equal(whole, codec.encode(vae, pixels))
    codec.set_tiling(vae, padded, Size(256, 144), torch.device("cuda"))
    tiled = codec.encode_frames(vae, frames, size, padded, device=CPU)
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.05 * whole.std()


def test_tiled_decoding_is_close_to_whole_decoding() -> None:
    """A tile lacks the picture beyond its overlap, no more: the difference is small, and not larger at the seams."""
    vae = tiny_vae()
    # of a dozen seeds the largest difference is 0.12 to 0.17 of the deviation; unseeded, one run in many came over
    latents = torch.randn(1, 4, 1, 18, 72, generator=torch.Generator().manual_seed(1))
    whole = codec.decode(vae, latents, Size(576, 144)).astype(int)
    codec.set_tiling(vae, Size(576, 144), Size(256, 144), torch.device("cuda"))
    assert vae.use_tiling
    difference = np.abs(whole - codec.decode(vae, latents, Size(576, 144)))
    columns = difference.mean(axis=(0, 1, 3))
    assert columns.max() < 0.2 * whole.std()
