"""What the page does, as functions: on a tiny random model, without a browser or a server."""

import dataclasses
import inspect
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch

from freeswim.cost import Meter, Speed, operations
from freeswim.embedded import VOCABULARY
from freeswim.models import EMBEDDED, MODELS
from freeswim.page import advanced, handlers, runs, text
from freeswim.page.api import generate_endpoint, settings
from freeswim.page.form import build_page
from freeswim.page.limits import Gate
from freeswim.page.quality import QUALITIES, quality_info, quality_values
from freeswim.page.runner import Clip, Runner
from freeswim.page.status import Status, clock, status_html
from freeswim.pipeline import FreeSwimPipeline
from freeswim.plan import make_plan
from freeswim.request import Request
from freeswim.video import Video, read_settings, read_video, write_video
from tests.tiny_page import FORM, last_value


def worker_ends(seconds: float) -> bool:
    """Whether no run is left at work within `seconds`."""
    until = time.monotonic() + seconds
    while any(thread.name == "freeswim-run" for thread in threading.enumerate()):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_a_run_shows_each_video_once_and_ends_with_its_details(runner: Runner) -> None:
    changes = list(runs.run_form(runner.run, FORM))

    assert changes[0] == {
        "seed": 3, "resolution": "128x128", "freeswim": None, "naive": None, "base": None, "details": None,
        "look": "", "preview": "", "running": True,
    }  # fmt: skip
    clips = [(name, change[name]) for change in changes[1:] for name in ("base", "freeswim", "naive") if name in change]
    assert [name for name, _ in clips] == ["base", "freeswim", "naive"]
    frames = {}
    for name, clip in clips:
        video = read_video(clip.path)
        assert (video.width, video.height, len(video.frames)) == (clip.width, clip.height, clip.frames)
        frames[name] = video.frames
        assert Path(clip.path).name == f"a-red-sun-3-{name}.mp4"
        settings = read_settings(clip.path)
        assert settings is not None
        assert (settings["seed"], settings["run"]["video"]) == (3, name)
    assert frames["base"].shape == (5, 64, 64, 3)
    assert frames["freeswim"].shape == (5, 128, 128, 3)
    assert not np.array_equal(frames["freeswim"], frames["naive"])

    assert changes[-1]["running"] is False
    assert "Done" in changes[-1]["status"]
    details = json.loads(json.dumps(changes[-1]["details"]))
    assert details["status"]["state"] == "done"
    assert details["settings"]["window"] == [4, 4]
    assert details["videos"]["naive"] == {"width": 128, "height": 128, "frames": 5, "fps": 16.0}
    assert {"native", "freeswim", "naive"} <= details["seconds"].keys()


def test_the_status_names_stage_and_step_of_every_stage(runner: Runner) -> None:
    seen = [update.status for update in runner.run(handlers.make_request(FORM | {"compare": True}))]
    stages = [status.stage for status in seen]
    assert {"native", "freeswim", "naive"} <= set(stages)
    assert stages.index("native") < stages.index("freeswim") < stages.index("naive")
    assert all(0 <= status.fraction <= 1 and status.step <= status.total for status in seen)


def test_a_random_seed_is_shown_and_used(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.randint", lambda low, high: 4242)
    changes = list(runs.run_form(runner.run, FORM | {"randomize": True, "steps": 1, "strength": 1.0}))
    assert changes[0]["seed"] == 4242
    assert changes[-1]["details"]["settings"]["seed"] == 4242


def test_closing_the_generator_stops_the_run_within_a_step(runner: Runner, tmp_path: Path) -> None:
    updates = runner.run(handlers.make_request(FORM | {"steps": 1000}))
    update = next(update for update in updates if update.status.stage == "native" and update.status.step >= 2)
    assert isinstance(updates, Iterator)
    updates.close()  # type: ignore[attr-defined]
    assert worker_ends(5.0), "a stopped run went on for more than a step"
    assert update.status.step < 900
    assert not list(tmp_path.rglob("*.mp4"))
    assert list(runner.run(handlers.make_request(FORM)))[-1].status.state == "done"


def test_a_size_that_fits_the_native_one_is_the_native_video(runner: Runner) -> None:
    changes = list(runs.run_form(runner.run, FORM | {"resolution": "64x64"}))
    clip: Clip = last_value(changes, "freeswim")
    assert clip.path == last_value(changes, "base").path
    assert last_value(changes, "naive") is None
    assert "needs no windows" in changes[-1]["status"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("the disk is full\nand more"), "the disk is full"),
        (torch.OutOfMemoryError("CUDA ran out of memory"), "Choose a smaller resolution"),
    ],
)
def test_a_failed_run_says_why_and_the_next_one_works(
    tmp_path: Path, tiny: FreeSwimPipeline, error: Exception, message: str
) -> None:
    loads: list[Any] = [error, tiny]

    def load(model: str) -> Any:
        loaded = loads.pop(0)
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    runner = Runner(tmp_path, load=load)
    last = list(runs.run_form(runner.run, FORM))[-1]
    assert last["running"] is False
    assert message in last["status"]
    assert "and more" not in last["status"]
    assert list(runs.run_form(runner.run, FORM))[-1]["details"]["status"]["state"] == "done"


BAD = [
    ("prompt", "  "),
    ("resolution", "banana"),
    ("resolution", "0x288"),
    ("resolution", "-512x288"),
    ("resolution", "99999x288"),
    ("resolution", "512"),
    ("seed", -1),
    ("frames", 6),
    ("steps", 0),
    ("strength", 1.5),
    ("guidance_scale", 0.0),
    ("refresh_interval", 0),
    ("refresh_until", 0.0),
    ("window", "wide"),
    ("query_tile", "99x99"),
    ("logit_scale", "big"),
    ("logit_scale", "nan"),
    ("guide", "half"),
    ("naive_mode", "none"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_refused_value_is_shown_at_its_field_before_anything_is_loaded(name: str, value: Any, tmp_path: Path) -> None:
    def load(model: str) -> Any:
        pytest.fail("a model was loaded for a request that is refused")

    form = FORM | {name: value}
    assert handlers.check_form(form).keys() == {name}
    changes = list(runs.run_form(Runner(tmp_path, load=load).run, form))
    assert [change["running"] for change in changes] == [False]
    assert "It did not work" in changes[0]["status"]


def test_values_that_are_bad_only_together_are_shown_at_the_resolution() -> None:
    assert handlers.check_form(FORM) == {}
    assert handlers.check_form(FORM | {"window": "2x2", "query_tile": "3x3"}).keys() == {"resolution"}


def test_models_that_cannot_run_here_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    labels = {name: label for label, name in handlers.model_choices()}
    assert labels.keys() == MODELS.keys()
    assert "GPU" not in labels["embedded"]
    assert "needs an NVIDIA GPU" in labels["wan2.1-1.3b"]
    assert handlers.check_form(FORM | {"model": "wan2.1-14b"}).keys() == {"model"}
    assert handlers.best_model() == "embedded"
    gpu = SimpleNamespace(total_memory=24 << 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    labels = {name: label for label, name in handlers.model_choices()}
    assert "needs" not in labels["wan2.1-1.3b"]
    assert "GB of GPU memory, and there are 24 GB" in labels["wan2.1-14b"]
    assert handlers.best_model() == "wan2.1-1.3b"
    gpu.total_memory = 12 << 30
    assert handlers.best_model() == "wan2.1-1.3b", "models take turns there"
    gpu.total_memory = 8 << 30
    assert handlers.best_model() == "embedded"


def test_no_folder_of_this_machine_is_taken_as_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is unknown"):
        handlers.make_request(FORM | {"model": str(tmp_path)})


def test_presets_name_their_factor() -> None:
    assert ("512 × 288,  2×", "512x288") in handlers.resolution_choices(EMBEDDED)
    assert handlers.resolution_choices(EMBEDDED)[-1] == ("256 × 144, native", "256x144")


def test_unknown_words_are_named_and_cannot_inject_html() -> None:
    note = handlers.prompt_note(f"{VOCABULARY[0]} <img>dragon", "embedded")
    assert "dragon" in note
    assert "<img>" not in note
    assert "Unknown" not in handlers.prompt_note(VOCABULARY[0], "embedded")
    assert handlers.prompt_note("dragon", "wan2.1-1.3b") == text.ANY_PROMPT_NOTE


def test_the_status_card_keeps_its_shape_and_escapes() -> None:
    cards = [None, Status(state="running", stage="native", step=1, total=9, elapsed=5, remaining=15),
             Status(state="done", elapsed=3), Status(state="failed", message="<b>no</b>")]  # fmt: skip
    html = [status_html(card) for card in cards]
    assert all(part.count("<div") == 2 and 'role="progressbar"' in part for part in html)
    assert 'aria-valuenow="25"' in html[1]
    assert "step 1 of 9" in html[1]
    assert "<b>no" not in html[3]
    assert [clock(seconds) for seconds in (7.4, 750, 3723)] == ["0:07", "12:30", "1:02:03"]


def test_the_api_takes_what_the_form_has_and_leaves_defaults_to_the_model(runner: Runner) -> None:
    endpoint = inspect.signature(generate_endpoint(runner.run)).parameters
    sliders = {side for pair in advanced.PAIRS.values() for side in pair}
    assert set(endpoint) == set(text.FIELDS) - {"randomize"} - sliders | set(advanced.PAIRS) | {"compare"}
    fixed = {"model": "embedded", "seed": 1, "naive_mode": "clipped", "compare": True}
    assert {name: p.default for name, p in endpoint.items() if name != "prompt"} == {
        name: fixed.get(name) for name in endpoint if name != "prompt"
    }
    assert handlers.make_request({"prompt": "a"}) == Request(prompt="a").resolved()
    assert handlers.make_request(settings("a")) == Request(prompt="a", seed=1, compare=True).resolved()


def test_the_api_yields_files_and_details_in_the_documented_order(runner: Runner) -> None:
    *_, last = runs.run_api(runner.run, FORM | {"compare": True})
    assert [Path(file["path"]).stem.rpartition("-")[2] for file in last[:3]] == ["freeswim", "naive", "base"]
    assert all(file["meta"] == {"_type": "gradio.FileData"} for file in last[:3])
    assert last[3]["status"]["state"] == "done"
    with pytest.raises(gr.Error, match="strength=7"):
        next(runs.run_api(runner.run, FORM | {"strength": 7}))


def test_a_video_made_here_brings_its_settings_back(runner: Runner, tmp_path: Path) -> None:
    form = FORM | {"strength": 0.6, "refresh_interval": 3, "guide": "full", "naive_mode": "blocks"}
    clip: Clip = last_value(list(runs.run_form(runner.run, form)), "freeswim")
    restored = handlers.restored(clip.path)
    assert restored.keys() == inspect.signature(settings).parameters.keys() - {"quality", "compare"}
    assert handlers.make_request(restored) == handlers.make_request(form)
    kept = ("prompt", "resolution", "seed", "frames", "window", "query_tile", "guide", "strength")
    assert [restored[name] for name in kept] == [form[name] for name in kept]
    assert None not in restored.values()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "holds no settings"),
        ({"prompt": "a", "model": "/etc"}, "is unknown"),
        ({"prompt": "a", "width": 512, "height": 288, "steps": -1}, "steps=-1"),
        ({"wish": 1}, "unknown settings: wish"),
    ],
)
def test_a_video_without_usable_settings_says_why(tmp_path: Path, settings: Any, message: str) -> None:
    path = write_video(tmp_path / "a.mp4", Video(np.zeros((1, 16, 16, 3), np.uint8), 16.0), settings)
    with pytest.raises(ValueError, match=message):
        handlers.restored(str(path))


@pytest.mark.parametrize("name", MODELS)
def test_qualities_are_valid_settings_and_balanced_is_the_default(name: str) -> None:
    model = MODELS[name]
    usual = handlers.defaults(name)
    seen = []
    for quality in QUALITIES:
        values = quality_values(model, quality)
        request = Request(
            prompt="a",
            model=name,
            steps=values["steps"],
            num_frames=values["frames"],
            refresh_interval=values["refresh_interval"],
            override=values["override"],
            anchor_above=values["anchor_above"],
        ).resolved()
        seen.append(operations(make_plan(request))["native"])
        if quality == "balanced":
            assert request == dataclasses.replace(usual, prompt="a")
        assert f"{values['steps']} steps, {values['frames']} frames" in quality_info(model)
    assert seen == sorted(seen)
    assert seen[0] < seen[1] / 3


def test_a_quality_fills_in_only_what_is_left_open() -> None:
    request = handlers.make_request({"prompt": "a", "quality": "draft", "steps": 5})
    draft = quality_values(EMBEDDED, "draft")
    assert (request.steps, request.num_frames, request.refresh_interval) == (5, draft["frames"], 4)
    with pytest.raises(ValueError, match="quality='fast'"):
        handlers.make_request({"prompt": "a", "quality": "fast"})


def test_the_estimate_is_for_the_form_and_learns_from_its_runs(runner: Runner) -> None:
    gate = Gate(Meter(speed=Speed(matrix=1e12, convolution=1e11)))
    before = handlers.estimate_api(gate, FORM | {"compare": True})
    assert before["seconds"] == pytest.approx(sum(before["stages"].values()), abs=0.1)
    assert before["settings"]["width"] == 128
    assert before["refused"] is None
    assert "About" in handlers.estimate_note(gate, FORM)
    assert "About" in handlers.estimate_note(gate, FORM | {"prompt": ""}), "the words cost nothing"
    assert handlers.estimate_note(gate, FORM | {"resolution": "wide"}) == ""
    with pytest.raises(gr.Error, match="steps=0"):
        handlers.estimate_api(gate, FORM | {"steps": 0})
    *_, last = runs.metered(runner.run, gate.meter)(handlers.make_request(FORM | {"compare": True}))
    learned = handlers.estimate_api(gate, FORM | {"compare": True})
    assert learned["stages"]["native"] == pytest.approx(last.seconds["native"], abs=0.01)


def test_only_the_documented_endpoints_are_public(runner: Runner) -> None:
    page = build_page(runner)
    info = page.get_api_info()
    assert list(info["named_endpoints"]) == ["/generate", "/refine", "/estimate"]
    generate, refine, estimate = (
        [parameter["parameter_name"] for parameter in info["named_endpoints"][name]["parameters"]]
        for name in info["named_endpoints"]
    )
    assert refine == ["video", *generate]
    assert estimate == [*generate, "own_frames"]
    assert info["named_endpoints"]["/refine"]["parameters"][0]["python_type"]["type"] == "filepath"
    assert not info["unnamed_endpoints"]
    assert "FreeSwim video, the naive video, the native video" in info["named_endpoints"]["/generate"]["description"]
