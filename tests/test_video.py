"""Video files: what is written comes back, in size, frames, colours and settings, and never half written."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from freeswim.video import Video, check_writable, read_settings, read_video, write_video

SETTINGS = {"prompt": 'a "red" sun; # = \\ über\nthe sea 海', "seed": 1, "nested": {"window": [9, 16]}, "none": None}


def moving_picture(width: int, height: int, frames: int) -> np.ndarray:
    """Smooth colours that move: what a video codec keeps well. uint8 (T, H, W, 3)."""
    t, y, x = np.mgrid[0:frames, 0:height, 0:width].astype(np.float32)
    channels = [np.sin(x / 37 + t / 5), np.cos(y / 29 - t / 7), np.sin((x + y) / 53)]
    return (127.5 + 100 * np.stack(channels, -1)).round().astype(np.uint8)


@pytest.mark.parametrize(("width", "height", "frames"), [(192, 1080, 5), (130, 66, 17), (64, 64, 1)])
def test_round_trip(tmp_path: Path, width: int, height: int, frames: int) -> None:
    video = Video(moving_picture(width, height, frames), 16.0)
    path = write_video(tmp_path / "out.mp4", video, SETTINGS)
    back = read_video(path)
    assert back.frames.shape == (frames, height, width, 3)
    assert back.fps == 16
    assert np.abs(back.frames.astype(int) - video.frames).mean() < 3
    assert read_settings(path) == SETTINGS
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_colours_stay(tmp_path: Path) -> None:
    colours = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 120, 40], [30, 90, 160], [128, 128, 128]], np.uint8
    )
    frames = np.broadcast_to(colours[:, None, None], (len(colours), 64, 96, 3))
    back = read_video(write_video(tmp_path / "out.mp4", Video(frames, 16.0)))
    assert np.abs(back.frames.astype(int) - frames).max() <= 4


def test_samples_are_bt709(tmp_path: Path) -> None:
    """The luma in the file is BT.709's (red 63, green 173, blue 32), not BT.601's (81, 145, 41): tags alone can lie."""
    frames = np.broadcast_to(255 * np.eye(3, dtype=np.uint8)[:, None, None], (3, 64, 64, 3))
    path = write_video(tmp_path / "out.mp4", Video(frames, 16.0))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-"]
    planes = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8).reshape(3, -1)
    luma = planes[:, : 64 * 64].mean(axis=1)  # yuv420p: the luma plane is first
    assert luma == pytest.approx([63, 173, 32], abs=2)


def test_stream_is_tagged(tmp_path: Path) -> None:
    path = write_video(tmp_path / "out.mp4", Video(moving_picture(64, 64, 5), 16.0), SETTINGS)
    report = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True).stderr
    assert "h264" in report
    assert "yuv420p(tv, bt709" in report
    assert "64x64" in report
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index must come first, so that playing starts at once"


def test_no_settings(tmp_path: Path) -> None:
    assert read_settings(write_video(tmp_path / "out.mp4", Video(moving_picture(64, 64, 1), 16.0))) is None


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that fails leaves the old file as it was, and no half-written one."""
    target = write_video(tmp_path / "out.mp4", Video(moving_picture(64, 64, 1), 16.0), {"seed": 1})
    before = target.read_bytes()
    monkeypatch.setattr("freeswim.video._CRF", "no number")
    with pytest.raises(RuntimeError, match="ffmpeg could not write"):
        write_video(target, Video(moving_picture(64, 64, 9), 16.0), {"seed": 2})
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="65x64"):
        write_video(tmp_path / "out.mp4", Video(np.zeros((1, 64, 65, 3), np.uint8), 16.0))


@pytest.mark.parametrize("frames", [np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 64, 3), np.float32)])
def test_video_checks_its_frames(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        Video(frames, 16.0)


def test_check_writable_makes_folders(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "new" / "folder" / "out.mp4").parent.is_dir()
    assert not list((tmp_path / "new" / "folder").iterdir())


def test_check_writable_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "file" / "out.mp4", tmp_path / "folder.mp4", tmp_path / "out.avi", "/proc/out.mp4"):
        with pytest.raises(ValueError, match="output path") as error:
            check_writable(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_reading_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for read in (read_video, read_settings):
        with pytest.raises(ValueError, match="can't be read as a video"):
            read(tmp_path / "text.mp4")
        with pytest.raises(ValueError, match="there is no file"):
            read(tmp_path / "missing.mp4")
