"""Draws scenes at any size, layer by layer from back to front."""

import torch
from torch import Tensor

from training.canvas import Canvas
from training.land import draw_ground, draw_ridges
from training.noise import Noise
from training.scenes import Scene, View
from training.sky import draw_clouds, draw_sky
from training.subjects import draw_balloon, draw_boat, draw_sun_and_moon

# sun and moon go behind the ridges, so that they can set; balloon and boat before all else
LAYERS = (draw_clouds, draw_sun_and_moon, draw_ridges, draw_ground, draw_balloon, draw_boat)


class Renderer:
    """Batched renderer. `device` holds the noise field; scenes of one batch may differ in everything but aspect."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.noise = Noise(self.device)

    def __call__(self, scenes: list[Scene], views: list[View], size: tuple[int, int], frames: int) -> Tensor:
        """Draw `scenes` through `views`. `size` is (height, width) in pixels. Returns (B, T, H, W, 3) in 0..1."""
        return self.with_subject(scenes, views, size, frames)[0]

    @torch.no_grad()
    def with_subject(
        self, scenes: list[Scene], views: list[View], size: tuple[int, int], frames: int
    ) -> tuple[Tensor, Tensor]:
        """The pictures, and how much of each pixel the subject itself covers: (B, T, H, W) in 0..1."""
        canvas = Canvas(self.noise, scenes, views, size, frames)
        picture = draw_sky(canvas)
        for draw in LAYERS:
            picture = draw(canvas, picture)
        shape = (len(scenes), frames, *size)
        return picture.clamp(0, 1).expand(*shape, 3), canvas.subject.expand(shape)


def to_uint8(video: Tensor) -> Tensor:
    """0..1 to uint8."""
    return (video * 255).round().to(torch.uint8)
