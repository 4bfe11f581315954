"""The comparison that the page opens with: whole, true to its settings, and measured in the files themselves."""

from pathlib import Path

import pytest

from freeswim.page import sample
from freeswim.page.handlers import restored
from freeswim.page.look import what_to_look_for
from freeswim.request import Request
from freeswim.video import read_settings, read_video


@pytest.fixture(scope="module")
def shipped() -> sample.Sample:
    shipped = sample.load()
    assert shipped is not None, "the package lacks its sample: python -m freeswim.page.sample"
    return shipped


def test_the_videos_are_of_one_run_and_of_the_size_they_say(shipped: sample.Sample) -> None:
    videos = {name: read_video(path) for name, path in shipped.videos.items()}
    size = (shipped.settings["height"], shipped.settings["width"])
    frames = shipped.settings["num_frames"]
    assert videos["freeswim"].frames.shape == videos["naive"].frames.shape == (frames, *size, 3)
    assert videos["base"].frames.shape[1] < size[0]
    assert {video.fps for video in videos.values()} == {shipped.settings["run"]["fps"]}
    for name, path in shipped.videos.items():
        settings = read_settings(path)
        assert settings is not None
        assert settings["run"]["video"] == name
        assert {**settings, "run": None} == {**shipped.settings, "run": None}


def test_the_line_is_what_is_measured(shipped: sample.Sample) -> None:
    videos = {name: read_video(path).frames for name, path in shipped.videos.items()}
    measured = what_to_look_for(videos, model=shipped.settings["model"], prompt=shipped.settings["prompt"])
    assert shipped.look == measured
    assert shipped.look in shipped.look_html
    assert "made earlier" in shipped.look_html


def test_its_settings_can_be_run_again(shipped: sample.Sample) -> None:
    assert Request.from_dict(shipped.settings).prompt == shipped.settings["prompt"]
    assert restored(str(shipped.videos["freeswim"]))["seed"] == shipped.settings["seed"]


def test_it_is_small(shipped: sample.Sample) -> None:
    assert sum(path.stat().st_size for path in shipped.videos.values()) < 1_000_000


def test_without_files_there_is_none(tmp_path: Path) -> None:
    assert sample.load(tmp_path) is None
