"""Video files: H.264 mp4 out, frame by frame, with the settings inside; frames and settings back in.

What is written plays everywhere with the colours it had: yuv420p, tagged and converted as BT.709, index at the front,
exactly the size of the frames (any even size). A file stands under its final name only when it is whole.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

# Visually lossless for what a VAE decodes; bigger numbers are smaller files.
_CRF = "18"


@dataclass(frozen=True)
class Video:
    """Frames, uint8 RGB in 0..255, (T, H, W, 3), and frames per second."""

    frames: NDArray[np.uint8]
    fps: float

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"frames must be uint8 of shape (T, H, W, 3), not {self.frames.dtype} of shape {self.frames.shape}"
            )

    @property
    def width(self) -> int:
        return int(self.frames.shape[2])

    @property
    def height(self) -> int:
        return int(self.frames.shape[1])


def check_writable(path: str | os.PathLike[str]) -> Path:
    """The path as a Path if an mp4 can be written there, making missing folders; ValueError in one line if not.

    Call it before heavy work: it really makes (and removes) a file beside the target, because permissions, read-only
    mounts and full disks show no other way.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise ValueError(f"output path {str(path)!r} must end in .mp4, the only kind of file that is written")
    if target.is_dir():
        raise ValueError(f"output path {str(path)!r} is a folder; name a file in it, such as {target / 'out.mp4'}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent) as probe:
            probe.write(b"\0")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"output path {str(path)!r} can't be written ({reason}); choose another folder") from error
    return target


def write_video(path: str | os.PathLike[str], video: Video, settings: Mapping[str, Any] | None = None) -> Path:
    """Writes `video` as mp4 with `settings` as JSON in its comment, and returns the path.

    Encodes into a hidden file beside the target and renames it when whole. ValueError for a path that can't be written
    or an odd size (4:2:0 has no half pixels); RuntimeError with ffmpeg's own words when encoding fails.
    """
    target = check_writable(path)
    if video.width % 2 or video.height % 2 or not len(video.frames):
        raise ValueError(
            f"a video of {len(video.frames)} frames of {video.width}x{video.height} can't be H.264: "
            "give at least one frame, of even width and height"
        )
    part = target.with_name(f".{target.stem}.{os.getpid()}.part")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-y",
        "-hide_banner",
        "-loglevel",
        "error",
        *_input_options(video),
        *_output_options(settings),
        str(part),
    ]
    try:
        _feed(command, video.frames)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _input_options(video: Video) -> list[str]:
    return [
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{video.width}x{video.height}",
        "-r",
        f"{video.fps:g}",
        "-i",
        "-",
    ]


def _output_options(settings: Mapping[str, Any] | None) -> list[str]:
    # Without the conversion ffmpeg makes BT.601, and without the tags players guess: either shifts the colours.
    colours = "scale=out_color_matrix=bt709:out_range=tv,"
    colours += "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    options = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", _CRF, "-vf", colours]
    options += ["-movflags", "+faststart+use_metadata_tags"]
    if settings is not None:
        options += ["-metadata", f"comment={json.dumps(settings)}"]  # ASCII only: every other letter is escaped
    return [*options, "-f", "mp4"]


def _feed(command: list[str], frames: NDArray[np.uint8]) -> None:
    """Runs ffmpeg and gives it one frame after the other."""
    # Apart from the terminal: Ctrl-C in the terminal must not cut the file that saves what was done.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        ) as encoder,
    ):
        assert encoder.stdin is not None
        try:
            for frame in frames:
                encoder.stdin.write(np.ascontiguousarray(frame).data)
            encoder.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg ended early; its own words follow
        except BaseException:
            encoder.kill()
            raise
        if encoder.wait() != 0:
            raise RuntimeError(f"ffmpeg could not write the video: {_last_line(errors)}")


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it gave no reason"


def read_video(path: str | os.PathLike[str]) -> Video:
    """All frames of a video file; ValueError in one line when there is no such file or it holds no video."""
    try:
        reader = imageio_ffmpeg.read_frames(str(_existing(path)), pix_fmt="rgb24")
        meta = next(reader)
        width, height = meta["size"]
        # Collected first: the frame count in a file's header isn't always there, or right.
        frames = [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]
    except (OSError, RuntimeError, StopIteration) as error:
        raise ValueError(f"{str(path)!r} can't be read as a video; give an mp4, webm, mov or mkv file") from error
    if not frames:
        raise ValueError(f"{str(path)!r} holds no frames")
    return Video(np.stack(frames), float(meta["fps"]))


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The settings that write_video stored in the file, or None when it holds none."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(_existing(path)), "-f", "ffmetadata", "-"]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0:
        raise ValueError(f"{str(path)!r} can't be read as a video; give an mp4 that FreeSwim wrote")
    # ffmetadata escapes = ; # \ and line ends with a backslash.
    match = re.search(r"^comment=((?:[^\\\n]|\\.)*)$", result.stdout.decode(errors="replace"), re.MULTILINE)
    try:
        settings = json.loads(re.sub(r"\\(.)", r"\1", match.group(1))) if match else None
    except ValueError:
        return None  # a comment of someone else's
    return settings if isinstance(settings, dict) else None


def _existing(path: str | os.PathLike[str]) -> Path:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    return Path(path)
