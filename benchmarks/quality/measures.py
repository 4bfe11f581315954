"""What is measured on a video. Everything is per clip; `table.py` takes means and intervals."""

from collections.abc import Callable
from concurrent.futures import Executor, Future

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.quality.captions import LandscapeReader, motion_agrees
from benchmarks.quality.generate import Clips, enlarged
from freeswim.embedded.subjects import Subject, SubjectNet, chances, five_of, subjects_in

_LEAST = 1e-3  # grey levels: a line of a flat picture is no seam
Values = dict[str, NDArray[np.floating]]


class Judge:
    """Measures the videos of one size. The detector's regions are found by `pool`, beside the next variant's steps.

    `truth`: the clips' scenes, drawn at the target size; detail is held against these.
    """

    def __init__(
        self, clips: Clips, truth: torch.Tensor, net: SubjectNet, reader: LandscapeReader, pool: Executor
    ) -> None:
        self.clips, self.net, self.reader, self.pool = clips, net, reader, pool
        self.true_detail = _detail(truth)
        self.token = clips.plan.model.token_pixels
        large = enlarged(clips)
        self.native_change = _change(large)
        self.native_subjects = self._subjects(large)

    def __call__(self, videos: torch.Tensor, border: tuple[int, int]) -> Callable[[], Values]:
        """Measure uint8 (N, T, H, W, 3). `border`: tokens between tile borders, (rows, columns).

        Returns what waits for the rest of the work and gives the values, each (N,).
        """
        subjects = self._subjects(videos)
        structure = torch.stack([_structure(v, n) for v, n in zip(videos, self.clips.native, strict=True)])
        values = {
            "structure": structure.cpu().numpy(),
            "detail": (_detail(videos) / self.true_detail).cpu().numpy(),
            "seam": _seams(videos, border[0] * self.token, border[1] * self.token),
            "token_seam": _seams(videos, self.token, self.token),
            "flicker": (_change(videos) - self.native_change).cpu().numpy(),
        }
        words = self.reader.read(videos[:, videos.shape[1] // 2].movedim(-1, 1).float() / 255)
        for name, found in words.items():
            values[name] = np.array(
                [w == getattr(s, name) for w, s in zip(found, self.clips.scenes, strict=True)], float
            )
        return lambda: values | self._judged(subjects)

    def _subjects(self, videos: torch.Tensor) -> list[list[Future[list[Subject]]]]:
        """Of five frames of each video; found by the pool."""
        found = []
        for video in videos:
            frames = video[torch.as_tensor(five_of(len(video)), device=video.device)]
            likely = chances(self.net, frames).half().cpu().numpy()
            pixels = frames[:, ::2, ::2].cpu().numpy()
            found.append([self.pool.submit(subjects_in, c, p) for c, p in zip(likely, pixels, strict=True)])
        return found

    def _judged(self, videos: list[list[Future[list[Subject]]]]) -> Values:
        rows = []
        for futures, native, scene in zip(videos, self.native_subjects, self.clips.scenes, strict=True):
            frames, before = ([future.result() for future in several] for several in (futures, native))
            single = [subjects[0] for subjects in frames if len(subjects) == 1]
            largest = [subjects[0] for subjects in frames if subjects]
            most = len(frames) // 2 + 1
            rows.append(
                {
                    "one": len(single) >= most,
                    "right": sum(s.kind == scene.subject and s.colour == scene.colour for s in single) >= most,
                    "subjects": float(np.median([len(subjects) for subjects in frames])),
                    "kind": sum(s.kind == scene.subject for s in largest) >= most,
                    "colour": sum(s.colour == scene.colour for s in largest) >= most,
                    "motion": motion_agrees(frames, scene),
                    "width": _width(frames) / _width(before) if _width(before) else np.nan,
                }
            )
        return {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}


def _width(frames: list[list[Subject]]) -> float:
    """Square root of the largest subject's area as a share of the picture's side; median over frames, 0 if absent."""
    areas = [subjects[0].pixels for subjects in frames if subjects]
    return float(np.sqrt(np.median(areas))) if areas else 0.0


def _luminance(video: torch.Tensor) -> torch.Tensor:
    """(T, H, W, 3) to float (T, H, W) of 0..255."""
    return video.float() @ torch.tensor([0.2126, 0.7152, 0.0722], device=video.device)


def _structure(video: torch.Tensor, native: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of the video, averaged down, against the native one."""
    small = F.interpolate(video.movedim(-1, 1).float(), native.shape[1:3], mode="area")
    return -10 * torch.log10((small - native.movedim(-1, 1)).square().mean() / 255**2)


def _detail(videos: torch.Tensor) -> torch.Tensor:
    """Energy per pixel of what a 3x3 average takes away, (N,)."""

    def energy(video: torch.Tensor) -> torch.Tensor:
        light = _luminance(video)[:, None]
        return (light - F.avg_pool2d(light, 3, 1, 1, count_include_pad=False)).square().mean()

    return torch.stack([energy(video) for video in videos])


def _change(videos: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring frames in grey levels, (N,)."""
    return torch.stack([_luminance(video).diff(dim=0).abs().mean() for video in videos])


def _seams(videos: torch.Tensor, rows: int, columns: int) -> NDArray[np.floating]:
    return torch.stack([_seam(video, rows, columns) for video in videos]).cpu().numpy()


def _seam(video: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Gradient across lines every `rows` and `columns` pixels over the gradient 3 to 5 pixels beside them.

    The geometric mean over lines: a horizon on a line weighs as much as one beside it.
    """
    light, ratios = _luminance(video), []
    for axis, step in ((1, rows), (2, columns)):
        gradient = light.diff(dim=axis).abs().mean(dim=(0, 3 - axis))  # between line i and i + 1
        lines = torch.arange(step - 1, len(gradient) - 5, step, device=light.device)
        if len(lines):
            beside = torch.stack([gradient[lines + offset] for offset in (-5, -4, -3, 3, 4, 5)])
            ratios.append((gradient[lines] + _LEAST).log() - (beside.mean(dim=0) + _LEAST).log())
    return torch.cat(ratios).mean().exp() if ratios else torch.tensor(1.0)
