"""A video of one's own: measured, refused with the limit named, cut to the length and pace of a model."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from freeswim import own_video
from freeswim.models import EMBEDDED, MODELS, WAN_1_3B
from freeswim.own_video import OwnVideo, cut_for, default_target, describe, load, probe, target_sizes
from freeswim.video import Video, write_video


def counting_video(path: Path, *, frames: int, fps: float, width: int = 32, height: int = 32) -> Path:
    """Frame n is grey of value 4 * n."""
    grey = (4 * np.arange(frames)).astype(np.uint8)[:, None, None, None]
    return write_video(path, Video(np.broadcast_to(grey, (frames, height, width, 3)).copy(), fps))


def ffmpeg(*options: str) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *options], check=True)


@pytest.mark.parametrize(("fps", "every"), [(8, 1), (16, 1), (24, 1), (25, 1), (30, 2), (48, 3), (60, 4)])
def test_a_clip_is_thinned_to_about_the_models_pace(tmp_path: Path, fps: int, every: int) -> None:
    clip = probe(counting_video(tmp_path / "a.mp4", frames=40, fps=fps))
    assert (clip.width, clip.height, clip.fps, clip.frames) == (32, 32, fps, 40)
    cut = cut_for(clip, EMBEDDED)
    assert (cut.every, cut.fps) == (every, fps / every)
    assert cut.frames % 4 == 1
    assert cut.frames == min(17, (-(-40 // every) - 1) // 4 * 4 + 1)
    video = load(clip, cut)
    assert video.fps == fps / every
    expected = 4 * every * np.arange(cut.frames)
    assert np.abs(video.frames.mean((1, 2, 3)) - expected).max() < 2, "other frames than every n-th from the first on"


def test_a_shorter_length_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    clip = probe(counting_video(tmp_path / "a.mp4", frames=20, fps=16))
    assert [cut_for(clip, EMBEDDED, frames).frames for frames in (1, 4, 5, 9, 100)] == [1, 1, 5, 9, 17]
    for bad in (0, -4, 2.5, True):
        with pytest.raises(ValueError, match=f"frames={bad}"):
            cut_for(clip, EMBEDDED, bad)  # type: ignore[arg-type]


def test_what_is_used_is_said(tmp_path: Path) -> None:
    clip = OwnVideo(path="a", width=640, height=360, fps=30.0, frames=300)
    assert "17 frames are used, the first 1.1 seconds, every second one" in describe(clip, cut_for(clip, EMBEDDED))
    short = OwnVideo(path="a", width=640, height=360, fps=16.0, frames=5)
    assert describe(short, cut_for(short, EMBEDDED)).endswith("all of it is used.")


def test_a_video_filmed_upright_stays_upright(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x32:rate=16:duration=0.5", "-pix_fmt", "yuv420p", f"{tmp_path}/a.mp4")
    ffmpeg("-display_rotation", "90", "-i", f"{tmp_path}/a.mp4", "-c", "copy", f"{tmp_path}/b.mp4")
    flat, upright = probe(tmp_path / "a.mp4"), probe(tmp_path / "b.mp4")
    assert (upright.width, upright.height) == (32, 64)
    lying, standing = (load(clip, cut_for(clip, EMBEDDED)).frames for clip in (flat, upright))
    assert np.abs(np.rot90(lying, 1, (1, 2)).astype(int) - standing).mean() < 3


def test_wide_pixels_become_square(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=32x32:rate=8:duration=1,setsar=2", f"{tmp_path}/a.mp4")
    clip = probe(tmp_path / "a.mp4")
    assert (clip.width, clip.height) == (64, 32)
    assert load(clip, cut_for(clip, EMBEDDED)).frames.shape == (5, 32, 64, 3)


def test_what_cannot_be_used_is_refused_with_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        probe(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    with pytest.raises(ValueError, match=r"'text\.mp4' can't be read as a video; give an mp4"):
        probe(tmp_path / "text.mp4")
    clip = counting_video(tmp_path / "a.mp4", frames=20, fps=16)
    monkeypatch.setattr(own_video, "MAX_SECONDS", 1)
    with pytest.raises(ValueError, match="lasts 1 seconds, and 1 is the most"):
        probe(clip)
    monkeypatch.setattr(own_video, "MAX_SIDE", 30)
    with pytest.raises(ValueError, match="is 32x32; each side must have 16 to 30 pixels"):
        probe(clip)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("size", [(320, 180), (180, 320), (1920, 1080), (3840, 2160), (64, 64), (17, 8000), (854, 480)])
def test_offered_sizes_are_valid_larger_than_native_and_in_the_videos_shape(model, size) -> None:  # type: ignore[no-untyped-def]
    width, height = size
    sizes = target_sizes(width, height, model)
    assert sizes
    assert default_target(width, height, model) in [offered for _, offered in sizes]
    assert [factor for factor, _ in sizes] == sorted(factor for factor, _ in sizes)
    for factor, offered in sizes:
        assert offered.width % 2 == offered.height % 2 == 0
        if min(size) > 17:
            assert offered.width == pytest.approx(factor * width, abs=2)
            assert offered.height == pytest.approx(factor * height, abs=2)
            assert offered.width * offered.height > 0.98 * model.native.width * model.native.height


def test_the_default_is_larger_where_the_model_goes_that_far() -> None:
    assert str(default_target(320, 180, EMBEDDED)) == "480x270"
    assert str(default_target(1920, 1080, EMBEDDED)) == "768x432"
    assert str(default_target(1280, 720, WAN_1_3B)) == "1920x1080"
