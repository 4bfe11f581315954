"""Counts the subjects in pictures of the embedded model's world: what kind, what colour, where.

A small convolutional network marks the pixels of suns, moons, balloons and boats; it was trained on drawn scenes, whose
true coverage is known (`training.train_detector`), at one to three times the native size. Connected regions of marked
pixels are subjects; the colour is read from the pixels themselves.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch import nn

KINDS = ("sun", "moon", "balloon", "boat")
WEIGHTS = Path(__file__).with_name("subject_detector.safetensors")
# Hues in degrees of the colour words, as the renderer paints them. White is told by its saturation.
HUES = {"red": 2, "orange": 27, "yellow": 49, "green": 135, "blue": 222, "purple": 281, "pink": 335}
MIN_PIXELS = 90  # the smallest subject at native size covers about 300


class SubjectNet(nn.Module):
    """(B, 3, H, W) in 0..1 to logits (B, 1 + kinds, H / 2, W / 2); sees about 130 pixels around each."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.SiLU()]
        for dilation in (1, 2, 4, 8, 16, 2, 1):
            layers += [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.GroupNorm(4, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1 + len(KINDS), 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layers(pictures * 2 - 1)


@dataclass(frozen=True)
class Subject:
    kind: str
    colour: str
    pixels: int
    centre: tuple[float, float]  # x, y as fractions of the picture


def load(device: torch.device | str = "cpu") -> SubjectNet:
    net = SubjectNet()
    net.load_state_dict(load_file(WEIGHTS))
    return net.eval().to(device)


def colour_word(pixels: np.ndarray) -> str:
    """The colour word nearest to (N, 3) pixels in 0..1, by hue, weighted by saturation."""
    top, low = pixels.max(1), pixels.min(1)
    chroma = top - low
    saturation = chroma / np.maximum(top, 1e-3)
    if np.median(saturation) < 0.22:
        return "white"
    r, g, b = pixels.T
    safe = np.maximum(chroma, 1e-3)
    hue = np.where(top == r, (g - b) / safe % 6, np.where(top == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    angle = np.angle((saturation * chroma * np.exp(1j * np.deg2rad(hue))).sum(), deg=True) % 360
    return min(HUES, key=lambda word: min(abs(angle - HUES[word]), 360 - abs(angle - HUES[word])))


@torch.no_grad()
def find(net: SubjectNet, frames: np.ndarray) -> list[list[Subject]]:
    """Subjects in each of uint8 (N, H, W, 3) frames, largest first."""
    device = next(net.parameters()).device
    found = []
    for frame in frames:
        picture = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None].float() / 255
        chances = net(picture)[0].softmax(0).cpu().numpy()
        found.append(_regions(chances, frame[::2, ::2][: chances.shape[1], : chances.shape[2]] / 255.0))
    return found


def _regions(chances: np.ndarray, pixels: np.ndarray) -> list[Subject]:
    labels, count = ndimage.label(ndimage.binary_opening(chances[0] < 0.5))
    subjects = []
    for i in range(1, count + 1):
        region = labels == i
        area = int(region.sum()) * 4
        if area < MIN_PIXELS:
            continue
        kind = KINDS[int(chances[1:, region].sum(1).argmax())]
        # the basket and the hull are not what a colour word speaks of
        rows = np.flatnonzero(region.any(1))
        cut = rows[0] + int(len(rows) * (0.7 if kind in ("balloon", "boat") else 1.0)) + 1
        upper = region & (np.arange(len(region))[:, None] < cut)
        core = ndimage.binary_erosion(upper)
        y, x = ndimage.center_of_mass(region)
        colour = colour_word(pixels[core if core.sum() > 12 else upper])
        subjects.append(Subject(kind, colour, area, (x / region.shape[1], y / region.shape[0])))
    return sorted(subjects, key=lambda s: -s.pixels)


def count_subjects(net: SubjectNet, video: np.ndarray) -> float:
    """Median number of subjects over five frames of uint8 (T, H, W, 3)."""
    picks = np.linspace(0, len(video) - 1, 5).round().astype(int)
    return float(np.median([len(s) for s in find(net, video[picks])]))


def shows_exactly(net: SubjectNet, video: np.ndarray, kind: str, colour: str) -> tuple[bool, bool]:
    """Whether most of five frames show exactly one subject, and whether it is also of this kind and colour."""
    picks = np.linspace(0, len(video) - 1, 5).round().astype(int)
    frames = find(net, video[picks])
    single = [f[0] for f in frames if len(f) == 1]
    right = [s for s in single if s.kind == kind and s.colour == colour]
    return len(single) >= 3, len(right) >= 3
