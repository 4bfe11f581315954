"""Does a video show what its caption says? Sky and ground are read from colours, the subject by the detector."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from freeswim.embedded.subjects import Subject
from training.render import Renderer
from training.scenes import GROUNDS, SKIES, Scene, View, sample_scene

NATIVE_HEIGHT = 144
BANDS = 8  # of rows; each gives the mean and the deviation of its three colours
LEAST_TRAVEL = 0.04  # of the picture, from the first frame to the last; true subjects travel 0.12 or more


def features(pictures: torch.Tensor) -> NDArray[np.float64]:
    """(N, 6 * BANDS + 1) of pictures (N, 3, H, W) in 0..1: statistics of bands of rows."""
    small = F.interpolate(pictures.float(), size=(NATIVE_HEIGHT, NATIVE_HEIGHT), mode="area")
    bands = small.unflatten(2, (BANDS, -1)).flatten(3)  # (N, 3, bands, pixels)
    both = torch.cat([bands.mean(-1), bands.std(-1)], dim=1).flatten(1).double().cpu().numpy()
    return np.concatenate([both, np.ones((len(both), 1))], axis=1)


class LandscapeReader:
    """Names sky and ground of a picture: two linear classifiers (ridge regression), fitted on drawn scenes."""

    def __init__(self, device: torch.device, aspect: str, scenes: int = 1200, checked: int = 300) -> None:
        rng, renderer = np.random.default_rng(7), Renderer(device)
        drawn = [sample_scene(rng, aspect) for _ in range(scenes + checked)]
        size = (NATIVE_HEIGHT, round(NATIVE_HEIGHT * drawn[0].width / drawn[0].height))
        rows = []
        for start in range(0, len(drawn), 50):
            part = drawn[start : start + 50]
            rows.append(features(renderer(part, [View()] * len(part), size, 1)[:, 0].movedim(-1, 1)))
        x = np.concatenate(rows)
        self.weights = {
            name: self._fit(x[:scenes], [getattr(s, name) for s in drawn[:scenes]], words)
            for name, words in (("sky", list(SKIES)), ("ground", list(GROUNDS)))
        }
        right = {
            name: np.mean([word == getattr(s, name) for word, s in zip(words, drawn[scenes:], strict=True)])
            for name, words in self._read(x[scenes:]).items()
        }
        self.error = {name: round(1 - float(share), 4) for name, share in right.items()}
        """Share of wrong words on drawn scenes that it was not fitted to."""

    @staticmethod
    def _fit(x: NDArray[np.float64], truth: Sequence[str], words: list[str]) -> tuple[list[str], NDArray[np.float64]]:
        target = np.array([[word == t for word in words] for t in truth], dtype=float)
        return words, np.linalg.solve(x.T @ x + 1e-2 * np.eye(x.shape[1]), x.T @ target)

    def _read(self, x: NDArray[np.float64]) -> dict[str, list[str]]:
        return {name: [words[i] for i in (x @ w).argmax(1)] for name, (words, w) in self.weights.items()}

    def read(self, pictures: torch.Tensor) -> dict[str, list[str]]:
        """{"sky": word of each picture, "ground": ...} of (N, 3, H, W) in 0..1."""
        return self._read(features(pictures))


def motion_agrees(frames: Sequence[Sequence[Subject]], scene: Scene) -> bool:
    """Whether the largest subject moves the way the caption says, from the first frame that shows it to the last."""
    centres = [subjects[0].centre for subjects in frames if subjects]
    if len(centres) < 2:
        return False
    (x0, y0), (x1, y1) = centres[0], centres[-1]
    travel = {"rising": y0 - y1, "setting": y1 - y0, "right": x1 - x0, "left": x0 - x1}[scene.motion.split()[-1]]
    return travel > LEAST_TRAVEL
