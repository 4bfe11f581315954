"""Runs as the page sees them: a video of one's own, same but larger, previews, and what is said when memory is short.

On a tiny random model, without a browser or a server.
"""

import base64
import io
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from freeswim.cost import Meter, Speed
from freeswim.own_video import probe
from freeswim.page import api, handlers, live, runs
from freeswim.page.limits import Gate
from freeswim.page.runner import Clip, Runner
from freeswim.page.source import Source, plan_of
from freeswim.page.status import Status, preview_html, status_html
from freeswim.pipeline import FreeSwimPipeline
from freeswim.video import Video, read_settings, read_video, write_video
from tests.tiny_page import FORM as BASE
from tests.tiny_page import last_value

FORM: dict[str, Any] = BASE | {"mode": "new", "own": None}
SPEED = Speed(matrix=1e12, convolution=1e11)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 1), np.uint8)
    return write_video(tmp_path / "mine.mp4", Video(frames.repeat(12, 1).repeat(12, 2).repeat(3, 3), 30.0))


def own_form(clip: Path, **values: Any) -> dict[str, Any]:
    return FORM | {"mode": "own", "own": probe(clip), "resolution": "144x108"} | values


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_a_video_of_ones_own_is_refined(runner: Runner, clip: Path) -> None:
    changes = list(runs.run_form(runner.run, own_form(clip)))
    assert last_value(changes, "details")["status"]["state"] == "done"
    clips: dict[str, Clip] = {name: last_value(changes, name) for name in ("freeswim", "naive", "base")}
    videos = {name: read_video(made.path) for name, made in clips.items()}
    # Every second one of 12 frames at 30 a second: 6, of which the model takes 5.
    assert [video.frames.shape for video in videos.values()] == [(5, 108, 144, 3)] * 3
    assert [video.fps for video in videos.values()] == [15.0] * 3
    mine = read_video(clip).frames[:10:2]
    enlarged = videos["base"].frames
    assert np.abs(enlarged[:, 9::18, 9::18].astype(int) - mine[:, 6::12, 6::12]).mean() < 6
    assert not np.array_equal(videos["freeswim"].frames, videos["naive"].frames)
    settings = read_settings(clips["freeswim"].path)
    assert settings is not None
    assert (settings["num_frames"], settings["run"]["own_video"]) == (5, True)
    assert handlers.refined_own(clips["freeswim"].path)
    details = last_value(changes, "details")
    assert "native" not in details["seconds"]
    assert last_value(changes, "entry").comparison.base_label == "Yours, enlarged"


def test_a_shorter_part_is_used_where_it_is_asked_for(runner: Runner, clip: Path) -> None:
    changes = list(runs.run_form(runner.run, own_form(clip, frames=1)))
    assert last_value(changes, "freeswim").frames == 1


def test_without_a_video_there_is_nothing_to_refine(runner: Runner, clip: Path) -> None:
    form = own_form(clip, own=None)
    assert handlers.check_form(form) == {"clip": "Choose the video to refine."}
    assert "there is no video yet" in next(runs.run_form(runner.run, form))["status"]


def test_a_video_that_is_gone_fails_with_a_reason(runner: Runner, clip: Path) -> None:
    form = own_form(clip)
    clip.unlink()
    changes = list(runs.run_form(runner.run, form))
    assert changes[-1]["running"] is False
    assert "can&#x27;t be read as a video" in changes[-1]["status"]


def test_the_api_refines_what_was_uploaded_and_nothing_else(
    runner: Runner, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "get_upload_folder", lambda: str(tmp_path))
    refine = api.refine_endpoint(runner.run)
    *_, last = refine({"path": str(clip)}, "a red sun", steps=2, window="3x3", query_tile="1x1")
    assert [Path(file["path"]).stem.rpartition("-")[2] for file in last[:3]] == ["freeswim", "naive", "base"]
    width, height = last[3]["settings"]["width"], last[3]["settings"]["height"]
    assert (width / height) == pytest.approx(96 / 72, abs=0.02)
    for path in ("/etc/passwd", str(tmp_path.parent / "other.mp4"), f"{tmp_path}/../x.mp4"):
        with pytest.raises(gr.Error, match="must be uploaded"):
            next(refine({"path": path}, "a red sun"))
    with pytest.raises(gr.Error, match="there is no file"):
        next(refine({"path": str(tmp_path / "none.mp4")}, "a red sun"))
    with pytest.raises(gr.Error, match="there is no video yet"):
        next(refine(None, "a red sun"))


def test_same_but_larger_is_what_a_run_at_that_size_makes(runner: Runner) -> None:
    small = {"steps": 2, "frames": 1, "query_tile": "4x4", "naive_mode": "blocks"}
    first = list(runs.run_form(runner.run, FORM | small | {"resolution": "512x288"}))
    last: runs.Last = last_value(first, "last")
    assert last.next_size == "768x432"
    width, height = 768, 432

    larger = list(runs.run_larger(runner.run, last))
    assert larger[0]["resolution"] == last.next_size
    details = last_value(larger, "details")
    assert "native" not in details["seconds"], "the native video was made again"
    assert (details["videos"]["freeswim"]["width"], details["videos"]["freeswim"]["height"]) == (width, height)

    whole = list(runs.run_form(runner.run, FORM | small | {"resolution": "768x432"}))
    for name in ("freeswim", "naive"):
        once, again = (read_video(last_value(changes, name).path).frames for changes in (larger, whole))
        assert np.array_equal(once, again)
    # One goes on from a larger one as well, from the same native video, and the files repeat it.
    assert last_value(larger, "last").source == last.source
    settings = read_settings(last_value(larger, "freeswim").path)
    assert settings is not None
    assert settings["run"]["own_video"] is False


def test_same_but_larger_needs_a_run_and_its_native_video(runner: Runner) -> None:
    assert "press Generate first" in next(runs.run_larger(runner.run, None))["status"]
    last: runs.Last = last_value(list(runs.run_form(runner.run, FORM)), "last")
    assert last.source is not None
    Path(last.source.path).unlink()
    changes = list(runs.run_larger(runner.run, last))
    assert "native video of that run is gone" in changes[-1]["status"]


def test_previews_come_with_the_steps(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAUSE", 0.0)
    monkeypatch.setattr(live, "_SHARE", 1e9)
    changes = list(runs.run_form(runner.run, FORM | {"steps": 6}))
    shown = [change["preview"] for change in changes if change.get("preview")]
    assert len(shown) >= 8, "of both stages"
    over_native = ['class="inset"' in html for html in shown]
    assert over_native == sorted(over_native), "alone first, then in a corner of the native video"
    assert set(over_native) == {False, True}
    animation = picture(shown[-1].split('src="')[1].split('"')[0])
    assert (animation.n_frames, animation.width, animation.height) == (2, 64, 64)  # type: ignore[attr-defined]
    assert changes[-1]["preview"] == "", "the last preview stays over the finished videos"
    poster = picture(last_value(changes, "entry").poster)
    assert poster.size == (128, 128)


def test_colours_are_remembered_where_the_vae_is_away_while_a_video_is_made(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PAUSE", 0.0)
    monkeypatch.setattr(live, "_SHARE", 1e9)
    monkeypatch.setattr("freeswim.page.preview.LatentColours.shipped", lambda model: None)
    monkeypatch.setattr("freeswim.page.runner.decoder", lambda vae: lambda latents: None)

    def first_stage_shown() -> bool:
        changes = list(runs.run_form(runner.run, FORM | {"steps": 6}))
        shown = [change["preview"] for change in changes if change.get("preview")]
        assert shown, "the second stage is known from the first one's video"
        return any('class="inset"' not in html for html in shown)

    assert [first_stage_shown() for _ in range(2)] == [False, True]


def test_a_preview_that_fails_costs_no_run(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(frames: Any) -> str:
        raise RuntimeError("no picture")

    monkeypatch.setattr(live, "animation", broken)
    changes = list(runs.run_form(runner.run, FORM))
    assert last_value(changes, "details")["status"]["state"] == "done"
    assert preview_html("", inset=True) == ""


class ShortOfMemory:
    """A pipeline whose second stage does not fit."""

    def __init__(self, pipeline: FreeSwimPipeline) -> None:
        self.pipeline = pipeline
        self.pipe = pipeline.pipe

    def settings(self, request: Any, **_: Any) -> dict[str, Any]:
        return self.pipeline.settings(request)

    def __call__(self, request: Any, *, on_progress: Any, on_video: Any, **_: Any) -> Any:
        on_video("base", Video(np.zeros((5, 64, 64, 3), np.uint8), 16.0))
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_short_of_memory_one_is_told_what_fits_and_keeps_what_is_done(tmp_path: Path, tiny: FreeSwimPipeline) -> None:
    runner = Runner(tmp_path, load=lambda model: ShortOfMemory(tiny))
    gate = Gate(Meter(speed=SPEED))
    form = {"prompt": "a red sun", "resolution": "768x432", "seed": 3, "mode": "new"}
    changes = list(runs.run_form(runner.run, form, gate))
    message = changes[-1]["status"]
    assert "There was not enough memory: " in message
    assert "would fit" in message
    assert "What was finished is kept." in message
    assert Path(last_value(changes, "base").path).is_file()
    assert last_value(changes, "entry").comparison.base is not None
    advised = gate.nearest(handlers.make_request(form), below=int(0.8 * gate.meter.estimate(plan_of(
        handlers.make_request(form))).memory))  # fmt: skip
    assert advised is not None
    assert f"{advised.width} × {advised.height}" in message
    with pytest.raises(gr.Error, match="would fit"):
        list(runs.run_api(runner.run, form, gate))


def test_what_the_platform_raises_is_shown(runner: Runner) -> None:
    def no_quota(request: Any, source: Source | None = None) -> Any:
        if source is None:
            raise gr.Error("You have exceeded your quota")
        yield

    changes = list(runs.run_form(no_quota, FORM))
    assert "You have exceeded your quota" in changes[-1]["status"]
    assert changes[-1]["running"] is False


def test_old_runs_are_cleared_away(runner: Runner, tmp_path: Path) -> None:
    import os

    old = tmp_path / "freeswim-old"
    old.mkdir()
    (old / "a.mp4").write_bytes(b"x")
    os.utime(old, (0, 0))
    list(runs.run_form(runner.run, FORM | {"steps": 1, "strength": 1.0, "resolution": "64x64"}))
    assert not old.exists()


def test_a_place_in_line_is_shown() -> None:
    card = status_html(Status(state="waiting", place=3, remaining=75))
    assert "You are number 3 in line" in card
    assert "begins in about 1:15" in card
    assert card.count("<div") == 2


def test_estimates_of_a_refinement_leave_the_native_video_out() -> None:
    gate = Gate(Meter(speed=SPEED))
    whole, refined = (
        handlers.estimate_api(gate, api.settings("a", resolution="512x288"), own_frames=n) for n in (None, 9)
    )
    assert "native" in whole["stages"]
    assert "native" not in refined["stages"]
    assert refined["settings"]["num_frames"] == 9
    with pytest.raises(gr.Error, match="own_frames=0"):
        handlers.estimate_api(gate, api.settings("a"), own_frames=0)
    estimate = api.estimate_endpoint(gate)
    assert estimate("a", own_frames=9) == handlers.estimate_api(gate, api.settings("a"), own_frames=9)
