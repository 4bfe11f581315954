"""A video of one's own, as stage 2 can use it: looked at first, then cut to the length and pace the model knows.

No torch here: a clip is measured, and refused with the limit named, before anything heavy is imported.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from freeswim.models import BaseModel
from freeswim.request import MAX_SIDE, MIN_SIDE
from freeswim.sizes import Size
from freeswim.video import Video

MIN_CLIP_SIDE = 16  # pixels; below it there is nothing to refine
MAX_SECONDS = 600  # of a file; what is longer should be cut before it is sent anywhere

# What arrives may be a playlist under another name, which must fetch nothing from the network.
_INPUT = ["-protocol_whitelist", "file"]
# Square pixels of even size; rotation, which phones store beside the picture, is applied by ffmpeg itself.
_SQUARE = "scale=trunc(iw*max(sar\\,0.01)/2)*2:trunc(ih/2)*2,setsar=1"


@dataclass(frozen=True, kw_only=True)
class OwnVideo:
    """What a video file holds: its shown size in pixels, frames per second and number of frames."""

    path: str
    width: int
    height: int
    fps: float
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The part of a clip that is used: its first `frames` frames of every `every`-th one, at `fps` a second."""

    frames: int
    every: int
    fps: float


def probe(path: str | os.PathLike[str]) -> OwnVideo:
    """Looks at a video file without decoding it all. ValueError in one line: no video, too large, too long."""
    name = Path(path).name
    if not Path(path).is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    try:
        reader = imageio_ffmpeg.read_frames(
            str(path), input_params=_INPUT, output_params=["-vf", _SQUARE, "-frames:v", "1"]
        )
        meta = next(reader)
        if not list(reader):
            raise StopIteration
        frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    except (OSError, RuntimeError, StopIteration) as error:
        raise ValueError(f"{name!r} can't be read as a video; give an mp4, webm, mov or mkv file") from error
    width, height = meta["size"]
    clip = OwnVideo(path=str(path), width=width, height=height, fps=float(meta["fps"]) or 1.0, frames=max(1, frames))
    if min(width, height) < MIN_CLIP_SIDE or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"{name!r} is {width}x{height}; each side must have {MIN_CLIP_SIDE} to {MAX_SIDE} pixels: resize it first"
        )
    if clip.seconds > MAX_SECONDS:
        raise ValueError(
            f"{name!r} lasts {clip.seconds:.0f} seconds, and {MAX_SECONDS} is the most: cut out the part to refine"
        )
    return clip


def cut_for(clip: OwnVideo, model: BaseModel, frames: int | None = None) -> Cut:
    """What `model` can use of a clip: 4k + 1 frames, at most `frames` (default: as many as it was trained on).

    A clip of about twice the model's pace or more is thinned to every second, third ... frame: the motion from frame to
    frame is then what the model knows, and more of the clip fits. ValueError for an impossible `frames`.
    """
    limit = model.native_frames if frames is None else frames
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"frames={limit!r} must be a whole number of frames, 1 or more")
    every = max(1, int(clip.fps / model.fps + 0.25))
    usable = min(-(-clip.frames // every), limit)
    usable -= (usable - 1) % model.frames_per_latent
    return Cut(frames=usable, every=every, fps=clip.fps / every)


def load(clip: OwnVideo, cut: Cut) -> Video:
    """Decodes the part of the clip that `cut` names, and no more of it."""
    thin = f"select=not(mod(n\\,{cut.every}))," if cut.every > 1 else ""
    options = ["-vf", thin + _SQUARE, "-fps_mode", "passthrough", "-frames:v", str(cut.frames)]
    try:
        reader = imageio_ffmpeg.read_frames(clip.path, pix_fmt="rgb24", input_params=_INPUT, output_params=options)
        width, height = next(reader)["size"]
        frames = [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]
    except (OSError, RuntimeError, StopIteration) as error:
        raise ValueError(f"{Path(clip.path).name!r} can't be read as a video; give an mp4, webm, mov or mkv") from error
    if not frames:
        raise ValueError(f"{Path(clip.path).name!r} holds no frames")
    # A broken file may hold less than it says: the last frame then stands still.
    frames += [frames[-1]] * (cut.frames - len(frames))
    return Video(np.stack(frames), cut.fps)


# Enlargements that are offered, as far as the model goes.
_FACTORS = (1, 1.5, 2, 3, 4)


def target_sizes(width: int, height: int, model: BaseModel) -> list[tuple[float, Size]]:
    """(factor, size) to refine a video of `width` x `height` to, smallest first; at least one.

    Enlargements of the video itself that are larger than what the model was trained on and no larger than its largest
    preset; and, in the video's shape, sizes with as many pixels as the presets (a large video may have to shrink).
    """
    presets = [preset_width * preset_height for _, preset_width, preset_height in model.presets]
    wanted = [factor for factor in _FACTORS if model.native.width * model.native.height < width * height * factor**2]
    wanted = [factor for factor in wanted if width * height * factor**2 <= 1.01 * max(presets)]
    wanted += [(pixels / (width * height)) ** 0.5 for pixels in presets]
    sizes: dict[Size, float] = {}
    for factor in wanted:
        size = Size(*(2 * round(side * factor / 2) for side in (width, height)))
        if min(size) >= MIN_SIDE and max(size) <= MAX_SIDE:
            sizes.setdefault(size, factor)
    found = sorted((factor, size) for size, factor in sizes.items())
    # Sizes that hardly differ are one choice: the round factor of the two.
    kept = [pair for i, pair in enumerate(found) if i == 0 or pair[0] > 1.08 * found[i - 1][0]]
    return kept or [(1.0, Size(max(MIN_SIDE, width), max(MIN_SIDE, height)))]


def default_target(width: int, height: int, model: BaseModel) -> Size:
    """The size that is refined to unless one is asked for: about 1.5 times larger, as far as the model goes."""
    sizes = target_sizes(width, height, model)
    return next((size for factor, size in sizes if factor >= 1.4), sizes[-1][1])


def describe(clip: OwnVideo, cut: Cut) -> str:
    """What is used of a clip, as a sentence: `Using 17 frames (1.1 s) of 90: every second one of the first ...`."""
    whole = f"{clip.width} × {clip.height}, {clip.frames} frames at {clip.fps:g} a second"
    if cut.frames == clip.frames:
        return f"{whole}: all of it is used."
    pace = f", every {_ORDINALS.get(cut.every, f'{cut.every}th')} one" if cut.every > 1 else ""
    return f"{whole}: {cut.frames} frames are used, the first {cut.frames / cut.fps:.1f} seconds{pace}."


_ORDINALS = {2: "second", 3: "third", 4: "fourth"}
