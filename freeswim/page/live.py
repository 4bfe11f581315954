"""Pictures for the page while a run goes on: the video so far from its latents, and a poster of a finished one."""

import base64
import io
import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from PIL import Image

from freeswim import codec
from freeswim.page.preview import LatentColours
from freeswim.sizes import Size

log = logging.getLogger(__name__)

_PAUSE = 1.5  # seconds between two previews, at least
_SHARE = 0.02  # of the run's time that previews may take
_PART = 64  # latent pixels along each side of what is decoded to learn a model's colours
_FRAME = 250  # milliseconds that a preview shows a latent frame, which stands for four frames at 16 a second


Decode = Callable[[torch.Tensor], NDArray[np.uint8] | None]
"""Latents (1, C, 1, h, w) to their one frame (1, H, W, 3), or None where that cannot be done now."""


class Live:
    """Previews of one run, from the clean latents of its steps.

    The colours of a model that brings no map are learnt from a part of the first frame, decoded anew for each preview
    (`decode`), until a whole video is decoded (`learn`). known: the `colours` that an earlier run of it learnt.
    """

    def __init__(self, model: str, known: LatentColours | None = None) -> None:
        self.decode: Decode | None = None
        self._colours = known or LatentColours.shipped(model)
        self._provisional = False
        self._latest: torch.Tensor | None = None
        self._next = 0.0

    @property
    def colours(self) -> LatentColours | None:
        """What is known of the model's colours, from a whole video."""
        return None if self._provisional else self._colours

    def look(self, latents: torch.Tensor) -> str | None:
        """A preview as an image's data URL, or None when it is too early for one or nothing is known of the model."""
        self._latest = latents
        began = time.monotonic()
        if began < self._next:
            return None
        try:
            if not self._is_known(latents):
                self._learn_from_a_part(latents)
            if not self._fits(latents):
                return None
            picture = animation(self._colours.frames(latents)) if self._colours else None
        except Exception:  # a preview is worth no run
            log.exception("no previews of this run")
            self._colours, self.decode, picture = None, None, None
        now = time.monotonic()
        self._next = now + max(_PAUSE, (now - began) / _SHARE)
        return picture

    def learn(self, frames: NDArray[np.uint8]) -> None:
        """Fits the colours to what the latest latents were decoded to, where the model is not known."""
        if self._latest is not None and not self._is_known(self._latest):
            try:
                self._colours = LatentColours.fit(self._latest, frames)
                self._provisional = False
            except Exception:
                log.exception("no previews of this run")
        self._next = 0.0  # the next stage is worth a look at once

    @torch.no_grad()
    def _learn_from_a_part(self, latents: torch.Tensor) -> None:
        y, x = (max(0, (side - _PART) // 2) for side in latents.shape[-2:])
        part = latents[:, :, :1, y : y + _PART, x : x + _PART]
        frames = None if self.decode is None else self.decode(part)
        if frames is not None:
            self._colours, self._provisional = LatentColours.fit(part, frames), True

    def _is_known(self, latents: torch.Tensor) -> bool:
        return self._fits(latents) and not self._provisional

    def _fits(self, latents: torch.Tensor) -> bool:
        return self._colours is not None and self._colours.weight.shape[1] == latents.shape[1]


def decoder(vae: AutoencoderKLWan) -> Decode:
    """Decodes small parts with `vae`, while it lies where they are: to fetch it would send the transformer away."""

    def decode(latents: torch.Tensor) -> NDArray[np.uint8] | None:
        if vae.device != latents.device or hasattr(vae, "_hf_hook"):
            return None
        factor = vae.config.scale_factor_spatial
        return codec.decode(vae, latents, Size(latents.shape[-1] * factor, latents.shape[-2] * factor))

    return decode


def animation(frames: NDArray[np.uint8]) -> str:
    """Frames (T, H, W, 3) as the data URL of an endless animation."""
    pictures = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(
        file, "WEBP", save_all=True, append_images=pictures[1:], duration=_FRAME, loop=0, quality=70, method=0
    )
    return _data_url("image/webp", file)


def poster(frames: NDArray[np.uint8], *, width: int = 320) -> str:
    """The middle one of frames (T, H, W, 3), `width` pixels wide at most, as the data URL of a picture."""
    picture = Image.fromarray(frames[len(frames) // 2])
    picture.thumbnail((width, width))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return _data_url("image/jpeg", file)


def _data_url(kind: str, file: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
