"""Between frames and latents: enlarge, encode with the VAE, decode in pieces that fit into memory.

Shapes: frames are uint8 RGB (T, H, W, 3); videos for the VAE are (1, 3, T, H, W) in -1..1; latents are
(1, C, T', H / 8, W / 8), normalised to about unit variance, float32.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray

from freeswim.sizes import Size, fits
from freeswim.vae_tiles import OVERLAP, Part, in_tiles

T = TypeVar("T")

_SMALLEST_TILE = 256  # pixels; below it the overlap is most of the work

# Bytes of GPU memory that the VAE takes for a pixel of a tile, whatever the number of frames, per channel of its widest
# full-size maps and byte of its precision: 9.4 GiB for 832x480 pixels, 96 channels and float32, measured on an H100.
_PIXEL_BYTES = 66


def enlarge(frames: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) resized bilinearly to `size`: (T, size.height, size.width, 3)."""
    larger = np.empty((len(frames), size.height, size.width, 3), np.uint8)
    for index, frame in enumerate(frames):
        picture = _resized(torch.from_numpy(np.ascontiguousarray(frame)), size)
        larger[index] = picture[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    return larger


def enlarged_input(
    frames: torch.Tensor,
    size: Size,
    padded: Size,
    *,
    dtype: torch.dtype,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> torch.Tensor:
    """Frames resized bilinearly to `size` for the VAE, or a part of them: (1, 3, T, rows, columns) in -1..1.

    frames: uint8 (T, H, W, 3), on the device that the result is wanted on.
    padded: what it has more than `size` at the right and at the bottom repeats the last column and row.
    """
    height, width = len(range(padded.height)[rows]), len(range(padded.width)[columns])
    video = torch.empty(1, 3, len(frames), height, width, device=frames.device, dtype=dtype)
    for index, frame in enumerate(frames):  # frame by frame: a float copy of the whole is 8 GB at 4K
        video[0, :, index] = _padded(frame, size, padded)[0, :, rows, columns]
    return video


def _padded(frame: torch.Tensor, size: Size, padded: Size) -> torch.Tensor:
    """One frame (H, W, 3) of 0..255 resized and padded, (1, 3, padded.height, padded.width) in -1..1."""
    right_and_bottom = (0, padded.width - size.width, 0, padded.height - size.height)
    return F.pad(_resized(frame, size) / 127.5 - 1, right_and_bottom, mode="replicate")


def _resized(frame: torch.Tensor, size: Size) -> torch.Tensor:
    """One frame (H, W, 3) of 0..255 as float (1, 3, size.height, size.width)."""
    picture = frame.permute(2, 0, 1)[None].float()
    return F.interpolate(picture, (size.height, size.width), mode="bilinear", align_corners=False)


def encode_frames(
    vae: AutoencoderKLWan, frames: NDArray[np.uint8], size: Size, padded: Size, *, device: torch.device
) -> torch.Tensor:
    """Latents of `frames` enlarged to `size` and padded to `padded`, as by `enlarged_input` and `encode`.

    With tiles, pixels are made for one tile at a time: at 3840x2160 and 81 frames all of them are 8 GB.
    """
    small = torch.from_numpy(np.ascontiguousarray(frames)).to(device)

    def tile(rows: Part, columns: Part) -> torch.Tensor:
        y, x = (slice(part.start, part.stop) for part in (rows, columns))
        return encode(vae, enlarged_input(small, size, padded, dtype=vae.dtype, rows=y, columns=x))

    def whole() -> torch.Tensor:
        tiles = in_tiles(tile, (padded.height, padded.width), _tile_size(vae, padded), unit=factor)
        return torch.cat([rows for _, rows in tiles], dim=-2)

    factor = vae.config.scale_factor_spatial
    return _in_memory(whole, vae, padded)


def encode(vae: AutoencoderKLWan, video: torch.Tensor) -> torch.Tensor:
    """Latents of a video: the posterior's mode, normalised with the VAE's own mean and deviation."""
    latents = vae.encode(video.to(vae.dtype)).latent_dist.mode().float()
    mean, deviation = latent_statistics(vae, latents)
    return (latents - mean) / deviation


def decode(vae: AutoencoderKLWan, latents: torch.Tensor, size: Size) -> NDArray[np.uint8]:
    """Frames (T, size.height, size.width, 3) of latents, cropped at the right and at the bottom.

    With tiles, frames leave the GPU as soon as a row of tiles is done. Should the GPU run out of memory, it is tried
    again in smaller tiles, down to _SMALLEST_TILE: the last step of a long run must not lose it.
    """
    mean, deviation = latent_statistics(vae, latents)
    raw = (latents * deviation + mean).to(vae.dtype)
    factor = vae.config.scale_factor_spatial
    whole = Size(latents.shape[-1] * factor, latents.shape[-2] * factor)

    def tile(rows: Part, columns: Part) -> torch.Tensor:
        y, x = (slice(part.start // factor, part.stop // factor) for part in (rows, columns))
        return vae.decode(raw[..., y, x], return_dict=False)[0]

    def frames() -> NDArray[np.uint8]:
        result: NDArray[np.uint8] | None = None
        for top, strip in in_tiles(tile, (whole.height, whole.width), _tile_size(vae, whole), unit=1):
            if result is None:
                result = np.empty((strip.shape[2], size.height, size.width, 3), np.uint8)
            rows = min(strip.shape[-2], size.height - top)
            for index in range(len(result) if rows > 0 else 0):
                result[index, top : top + rows] = _picture(strip[0, :, index, :rows, : size.width])
        assert result is not None
        return result

    return _in_memory(frames, vae, whole)


def _in_memory(work: Callable[[], T], vae: AutoencoderKLWan, size: Size) -> T:
    """Does the work, again and again in smaller tiles while the GPU runs out of memory."""
    while True:
        try:
            return work()
        except torch.OutOfMemoryError:
            if not _use_smaller_tiles(vae, size):
                raise
        vae.clear_cache()
        torch.cuda.empty_cache()  # outside the except clause, whose traceback still holds the tensors


def _picture(video: torch.Tensor) -> NDArray[np.uint8]:
    """A frame (3, H, W) in -1..1 as (H, W, 3) of 0..255, on the CPU."""
    return ((video.permute(1, 2, 0).float() + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def set_tiling(vae: AutoencoderKLWan, size: Size, native: Size, device: torch.device) -> None:
    """Tiles the VAE above the native size on an accelerator; no tiles anywhere else.

    Tiles are of the native size, or smaller where the GPU has too little memory left for these.
    """
    if device.type == "cpu" or fits(size, native):
        vae.disable_tiling()
        return
    _tile(vae, Size(max(native.width, _SMALLEST_TILE), max(native.height, _SMALLEST_TILE)))
    if device.type == "cuda" and torch.cuda.is_available():
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        left = torch.cuda.mem_get_info(device)[0] + unused
        while _tile_bytes(vae) > 0.9 * left and _use_smaller_tiles(vae, size):
            pass


def _tile_bytes(vae: AutoencoderKLWan) -> float:
    """What a tile takes on the GPU."""
    pixels = vae.tile_sample_min_width * vae.tile_sample_min_height / (vae.config.patch_size or 1) ** 2
    return pixels * vae.config.base_dim * vae.dtype.itemsize * _PIXEL_BYTES


def _tile_size(vae: AutoencoderKLWan, whole: Size) -> tuple[int, int]:
    """(h, w) in pixels of the tiles that are set, or of the whole."""
    if not vae.use_tiling:
        return whole.height, whole.width
    return vae.tile_sample_min_height, vae.tile_sample_min_width


def _use_smaller_tiles(vae: AutoencoderKLWan, size: Size) -> bool:
    """Halves the VAE's tiles (or begins to tile a video of `size`); False when they are as small as they get."""
    now = Size(vae.tile_sample_min_width, vae.tile_sample_min_height) if vae.use_tiling else size
    # Whole tokens: tiles begin and end where latents and the VAE's own patches do.
    smaller = Size(*(max(_SMALLEST_TILE, side // 2 // 16 * 16) for side in now))
    _tile(vae, smaller)
    return smaller != now


def _tile(vae: AutoencoderKLWan, tile: Size) -> None:
    vae.enable_tiling(
        tile_sample_min_height=tile.height,
        tile_sample_min_width=tile.width,
        tile_sample_stride_height=tile.height - OVERLAP,
        tile_sample_stride_width=tile.width - OVERLAP,
    )


def latent_statistics(vae: AutoencoderKLWan, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The VAE's latent mean and standard deviation, each (1, C, 1, 1, 1)."""
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean, device=like.device, dtype=like.dtype).view(shape)
    return mean, torch.tensor(vae.config.latents_std, device=like.device, dtype=like.dtype).view(shape)
