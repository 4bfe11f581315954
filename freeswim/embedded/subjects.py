"""Counts the subjects in pictures of the embedded model's world: what kind, what colour, where.

A small convolutional network marks the pixels of suns, moons, balloons and boats; it was trained on drawn scenes, whose
true coverage is known (`training.train_detector`), at one to three times the native size. Connected regions of marked
pixels are subjects, but for a balloon's basket and a boat's hull, which belong to what hangs or stands above them. The
colour is read from the pixels themselves.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import ndimage
from torch import nn

KINDS = ("sun", "moon", "balloon", "boat")
WEIGHTS = Path(__file__).with_name("subject_detector.safetensors")
# Hues in degrees of the colour words, as the renderer paints them. White is told by its saturation.
HUES = {"red": 2, "orange": 27, "yellow": 49, "green": 135, "blue": 222, "purple": 281, "pink": 335}
# The smallest subject at native size covers about 300. In a larger picture this stays as it is: what is to be counted
# there are subjects of native size.
MIN_PIXELS = 90
# Ropes and the gap under a sail are not part of a subject, and wide enough in a large picture to cut it in two. So a
# region directly below one of its kind is a part of it, if no larger than this share of it. A copy is about as large.
LOWER_PART = {"balloon": 0.12, "boat": 0.6}
LOWER_GAP = 0.2  # and no farther below than this share of the upper region's height


class SubjectNet(nn.Module):
    """(B, 3, H, W) in 0..1 to logits (B, 1 + kinds, H / 2, W / 2); sees about 130 pixels around each."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.SiLU()]
        for dilation in (1, 2, 4, 8, 16, 2, 1):
            layers.append(nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation))
            layers += [nn.GroupNorm(4, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1 + len(KINDS), 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(pictures * 2 - 1)
        return logits


@dataclass(frozen=True)
class Subject:
    """One subject of a picture."""

    kind: str
    colour: str
    pixels: int
    centre: tuple[float, float]  # x, y as fractions of the picture


def load(device: torch.device | str = "cpu", weights: Path = WEIGHTS) -> SubjectNet:
    """The trained network."""
    net = SubjectNet()
    net.load_state_dict(load_file(weights))
    return net.eval().to(device)


def colour_word(pixels: NDArray[np.floating]) -> str:
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
def chances(net: SubjectNet, frames: torch.Tensor) -> torch.Tensor:
    """How likely each pixel of uint8 (N, H, W, 3) is of no subject, of a sun, ...: (N, 1 + kinds, H / 2, W / 2)."""
    device = next(net.parameters()).device
    # one by one: a large picture takes a gigabyte
    return torch.cat([net(f.to(device).permute(2, 0, 1)[None].float() / 255).softmax(1) for f in frames])


def subjects_in(chances: NDArray[np.floating], pixels: NDArray[np.uint8]) -> list[Subject]:
    """Subjects of one picture, largest first, from its `chances` and every second of its pixels (H / 2, W / 2, 3)."""
    chances = chances.astype(np.float32)
    scaled = pixels[: chances.shape[1], : chances.shape[2]] / 255.0
    regions = _joined(_regions(chances))
    subjects = [_subject(region, kind, scaled) for region, kind in regions if region.sum() * 4 >= MIN_PIXELS]
    return sorted(subjects, key=lambda s: -s.pixels)


def find(net: SubjectNet, frames: NDArray[np.uint8]) -> list[list[Subject]]:
    """Subjects in each of uint8 (N, H, W, 3) frames, largest first."""
    likely = chances(net, torch.from_numpy(np.ascontiguousarray(frames))).cpu().numpy()
    return [subjects_in(c, frame[::2, ::2]) for c, frame in zip(likely, frames, strict=True)]


Region = tuple[NDArray[np.bool_], str]  # pixels at half size (H / 2, W / 2), and their kind


def _regions(chances: NDArray[np.floating]) -> list[Region]:
    """Connected regions of `chances` (1 + kinds, H / 2, W / 2), largest first."""
    labels, count = ndimage.label(ndimage.binary_opening(chances[0] < 0.5))
    masks = sorted((labels == i for i in range(1, count + 1)), key=lambda mask: -mask.sum())
    return [(mask, KINDS[int(chances[1:, mask].sum(1).argmax())]) for mask in masks]


def _joined(regions: list[Region]) -> list[Region]:
    """Regions, largest first, with baskets and hulls joined to the balloons and boats that they belong to."""
    whole: list[Region] = []
    for mask, kind in regions:
        owner = next((i for i, (upper, k) in enumerate(whole) if k == kind and _is_lower_part(mask, upper, kind)), None)
        if owner is None:
            whole.append((mask, kind))
        else:
            whole[owner] = (whole[owner][0] | mask, kind)
    return whole


def _is_lower_part(mask: NDArray[np.bool_], upper: NDArray[np.bool_], kind: str) -> bool:
    """Whether `mask` is so small and so close below `upper`, under its middle, that it must be a part of it."""
    if mask.sum() > LOWER_PART.get(kind, 0) * upper.sum():
        return False
    (top, bottom), (left, right) = (np.flatnonzero(upper.any(axis))[[0, -1]] for axis in (1, 0))
    gap = np.flatnonzero(mask.any(1))[0] - bottom - 1
    middle = np.flatnonzero(mask.any(0))[[0, -1]].mean()
    height, width = bottom + 1 - top, right + 1 - left
    # a sail's lower edge may reach below the hull's upper one
    return bool(-LOWER_GAP * height < gap < LOWER_GAP * height and abs(middle - (left + right) / 2) < width / 4)


def _subject(region: NDArray[np.bool_], kind: str, pixels: NDArray[np.floating]) -> Subject:
    """Describe a region of a picture at half size, `pixels` (H / 2, W / 2, 3) in 0..1."""
    # the basket and the hull are not what a colour word speaks of
    rows = np.flatnonzero(region.any(1))
    cut = rows[0] + int(len(rows) * (0.7 if kind in LOWER_PART else 1.0)) + 1
    upper = region & (np.arange(len(region))[:, None] < cut)
    core = ndimage.binary_erosion(upper)
    colour = colour_word(pixels[core if core.sum() > 12 else upper])
    y, x = ndimage.center_of_mass(region)
    centre = (float(x) / region.shape[1], float(y) / region.shape[0])
    return Subject(kind, colour, int(region.sum()) * 4, centre)


def five_of(frames: int) -> NDArray[np.int_]:
    """Places of five of so many frames, evenly spread."""
    return np.linspace(0, frames - 1, 5).round().astype(int)


def five_frames(video: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Five frames of (T, H, W, 3), evenly spread."""
    return video[five_of(len(video))]


def count_subjects(net: SubjectNet, video: NDArray[np.uint8]) -> float:
    """Median number of subjects over five frames of uint8 (T, H, W, 3)."""
    return float(np.median([len(subjects) for subjects in find(net, five_frames(video))]))


def shows_exactly(net: SubjectNet, video: NDArray[np.uint8], kind: str, colour: str) -> tuple[bool, bool]:
    """Whether most of five frames show exactly one subject, and whether it is also of this kind and colour."""
    single = [subjects[0] for subjects in find(net, five_frames(video)) if len(subjects) == 1]
    right = [s for s in single if s.kind == kind and s.colour == colour]
    return len(single) >= 3, len(right) >= 3
