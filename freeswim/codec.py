"""Between frames and latents: enlarge, encode with the VAE, decode in pieces that fit into memory.

Shapes: frames are uint8 RGB (T, H, W, 3); videos for the VAE are (1, 3, T, H, W) in -1..1; latents are
(1, C, T', H / 8, W / 8), normalised to about unit variance, float32.
"""

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray

from freeswim.sizes import Size, fits

_TILE_OVERLAP = 64  # pixels in which neighbouring VAE tiles are blended
_SMALLEST_TILE = 256  # pixels; below it the overlap is most of the work


def enlarge(frames: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) resized bilinearly to `size`: (T, size.height, size.width, 3)."""
    larger = np.empty((len(frames), size.height, size.width, 3), np.uint8)
    for index, frame in enumerate(frames):
        picture = _resized(torch.from_numpy(np.ascontiguousarray(frame)), size)
        larger[index] = picture[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    return larger


def enlarged_input(
    frames: NDArray[np.uint8], size: Size, padded: Size, *, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Frames resized bilinearly to `size` for the VAE: (1, 3, T, padded.height, padded.width) in -1..1.

    What `padded` has more at the right and at the bottom repeats the last column and row.
    """
    video = torch.empty(1, 3, len(frames), padded.height, padded.width, device=device, dtype=dtype)
    right_and_bottom = (0, padded.width - size.width, 0, padded.height - size.height)
    for index, frame in enumerate(frames):  # frame by frame: a float copy of the whole is 8 GB at 4K
        picture = _resized(torch.from_numpy(np.ascontiguousarray(frame)).to(device), size)
        video[0, :, index] = F.pad(picture / 127.5 - 1, right_and_bottom, mode="replicate")[0]
    return video


def _resized(frame: torch.Tensor, size: Size) -> torch.Tensor:
    """One frame (H, W, 3) of 0..255 as float (1, 3, size.height, size.width)."""
    picture = frame.permute(2, 0, 1)[None].float()
    return F.interpolate(picture, (size.height, size.width), mode="bilinear", align_corners=False)


def encode_frames(
    vae: AutoencoderKLWan, frames: NDArray[np.uint8], size: Size, padded: Size, *, device: torch.device
) -> torch.Tensor:
    """Latents of `frames` enlarged to `size` and padded to `padded`: see `enlarged_input` and `encode`."""
    return encode(vae, enlarged_input(frames, size, padded, device=device, dtype=vae.dtype))


def encode(vae: AutoencoderKLWan, video: torch.Tensor) -> torch.Tensor:
    """Latents of a video: the posterior's mode, normalised with the VAE's own mean and deviation."""
    latents = vae.encode(video.to(vae.dtype)).latent_dist.mode().float()
    mean, deviation = _statistics(vae, latents)
    return (latents - mean) / deviation


def decode(vae: AutoencoderKLWan, latents: torch.Tensor, size: Size) -> NDArray[np.uint8]:
    """Frames (T, size.height, size.width, 3) of latents, cropped at the right and at the bottom.

    Should the GPU run out of memory, it is tried again in smaller tiles, down to _SMALLEST_TILE: the last step of a
    long run must not lose it.
    """
    mean, deviation = _statistics(vae, latents)
    raw = (latents * deviation + mean).to(vae.dtype)
    while True:
        try:
            video = vae.decode(raw, return_dict=False)[0]
            break
        except torch.OutOfMemoryError:
            if not _use_smaller_tiles(vae, Size(latents.shape[-1], latents.shape[-2])):
                raise
        torch.cuda.empty_cache()  # outside the except clause, whose traceback still holds the tensors
    return _frames(video[0], size)


def _frames(video: torch.Tensor, size: Size) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) of a decoded video (3, T, H, W) in -1..1, on the CPU, one frame at a time."""
    frames = np.empty((video.shape[1], size.height, size.width, 3), np.uint8)
    for index in range(video.shape[1]):
        picture = video[:, index, : size.height, : size.width].permute(1, 2, 0).float()
        frames[index] = ((picture + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
    return frames


def set_tiling(vae: AutoencoderKLWan, size: Size, native: Size, device: torch.device) -> None:
    """Tiles the VAE above the native size on an accelerator, in tiles of the native size; no tiles anywhere else."""
    if device.type == "cpu" or fits(size, native):
        vae.disable_tiling()
    else:
        _tile(vae, Size(max(native.width, _SMALLEST_TILE), max(native.height, _SMALLEST_TILE)))


def _use_smaller_tiles(vae: AutoencoderKLWan, latent_size: Size) -> bool:
    """Halves the VAE's tiles (or begins to tile); False when they are as small as they get."""
    factor = vae.config.scale_factor_spatial
    now = Size(latent_size.width * factor, latent_size.height * factor)
    if vae.use_tiling:
        now = Size(vae.tile_sample_min_width, vae.tile_sample_min_height)
    # Whole tokens: tiles begin and end where latents and the VAE's own patches do.
    smaller = Size(*(max(_SMALLEST_TILE, side // 2 // 16 * 16) for side in now))
    _tile(vae, smaller)
    return smaller != now


def _tile(vae: AutoencoderKLWan, tile: Size) -> None:
    vae.enable_tiling(
        tile_sample_min_height=tile.height,
        tile_sample_min_width=tile.width,
        tile_sample_stride_height=tile.height - _TILE_OVERLAP,
        tile_sample_stride_width=tile.width - _TILE_OVERLAP,
    )


def _statistics(vae: AutoencoderKLWan, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The VAE's latent mean and standard deviation, each (1, C, 1, 1, 1)."""
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean, device=like.device, dtype=like.dtype).view(shape)
    return mean, torch.tensor(vae.config.latents_std, device=like.device, dtype=like.dtype).view(shape)
