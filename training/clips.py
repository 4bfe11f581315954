"""Clips and their captions in bulk: what the VAE and the transformer are trained on."""

from collections.abc import Sequence

import numpy as np
import torch

from training.render import Renderer, to_uint8
from training.scenes import ASPECTS, SUBJECT_COLOURS, Scene, View, caption, held_out, sample_scene, sample_view

FRAMES = 17
CLOSE_SHARE = 0.38  # crops of larger scenes: they teach what things look like up close


def sample_clips(
    rng: np.random.Generator,
    count: int,
    aspect: str,
    captions: int = 1,
    kinds: Sequence[str] = tuple(SUBJECT_COLOURS),
) -> tuple[list[Scene], list[View], list[list[str]]]:
    """`count` scenes, a view of each, and of each view a complete caption and `captions` - 1 random ones.

    Complete ones are what people ask for, and have the most colours to bind; few random ones leave nothing out.
    `kinds`: of subject, in turn; one that is named twice comes twice as often.
    """
    scenes: list[Scene] = []
    views: list[View] = []
    texts: list[list[str]] = []
    for i in range(count):
        # one kind of subject in a row: the renderer draws only the kinds that a batch holds
        kind = kinds[(i // 32) % len(kinds)]
        scene = sample_scene(rng, aspect, kind)
        while held_out(scene):
            scene = sample_scene(rng, aspect, kind)
        view = sample_view(scene, rng) if rng.random() < CLOSE_SHARE else View()
        scenes.append(scene)
        views.append(view)
        texts.append([caption(scene, view, rng, complete=i == 0) for i in range(captions)])
    return scenes, views, texts


def render_bank(
    renderer: Renderer, scenes: list[Scene], views: list[View], aspect: str, batch: int = 32, scale: int = 1
) -> torch.Tensor:
    """All clips as uint8 (N, T, H, W, 3) on the renderer's device; `scale` enlarges the native picture."""
    width, height = ASPECTS[aspect]
    size = (height * scale, width * scale)
    bank = torch.empty(len(scenes), FRAMES, *size, 3, dtype=torch.uint8, device=renderer.device)
    for i in range(0, len(scenes), batch):
        bank[i : i + batch] = to_uint8(renderer(scenes[i : i + batch], views[i : i + batch], size, FRAMES))
    return bank


def to_model(clips: torch.Tensor) -> torch.Tensor:
    """uint8 (B, T, H, W, 3) to the VAE's float (B, 3, T, H, W) in -1..1."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
