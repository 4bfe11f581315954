"""The advanced sliders: they follow the resolution until they are moved, and stand for what a request says."""

import itertools
from typing import Any

import pytest

from freeswim.models import MODELS
from freeswim.page import advanced, handlers
from freeswim.page.form import labels
from freeswim.page.quality import quality_values
from freeswim.request import Request

EMBEDDED = MODELS["embedded"]


def form(resolution: str = "512x288", **values: Any) -> dict[str, Any]:
    start = advanced.values(EMBEDDED, resolution)
    return {"prompt": "a", "model": "embedded", "resolution": resolution, "seed": 0, **start, **values}


@pytest.mark.parametrize("name", MODELS)
def test_untouched_sliders_are_the_models_own_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "unavailable", lambda model: None)
    model = MODELS[name]
    sizes = [f"{w}x{h}" for _, w, h in model.presets] + ["512x512", "288x512", "640x272"]
    for resolution in sizes:
        shown = {"prompt": "a", "model": name, "resolution": resolution, **advanced.values(model, resolution)}
        width, height = map(int, resolution.split("x"))
        usual = Request(prompt="a", model=name, width=width, height=height).resolved()
        assert handlers.make_request(advanced.joined(shown)) == usual
        for slider, (low, high, step) in advanced.RANGES.items():
            assert low <= shown[slider] <= high, f"{slider}={shown[slider]} is out of its slider's range"
            assert ((shown[slider] - low) / step) == pytest.approx(round((shown[slider] - low) / step), abs=1e-6)


def test_sliders_follow_the_resolution_until_they_are_moved() -> None:
    before = form("512x288")
    auto = advanced.automatic(before)
    changed, now = advanced.followed({**before, "resolution": "288x512"}, auto)
    assert (changed["window_height"], changed["window_width"]) == (now["window_height"], now["window_width"])
    assert now["window_height"] > now["window_width"]
    assert changed["tile_height"] == now["tile_height"]

    moved = {**before, "window_height": 5, "resolution": "288x512"}
    changed, now = advanced.followed(moved, auto)
    assert "window_height" not in changed
    assert changed["window_width"] == now["window_width"]

    same, _ = advanced.followed({**before, "resolution": "768x432"}, auto)
    assert same == {}, "the same shape has the same windows"


def test_a_tile_and_the_logit_scale_follow_a_window_that_is_moved() -> None:
    before = form()
    changed, _ = advanced.followed({**before, "window_height": 6, "window_width": 9}, advanced.automatic(before))
    assert (changed["tile_height"], changed["tile_width"]) <= (2, 3)
    assert changed["logit_scale"] != before["logit_scale"]
    assert "window_height" not in changed
    request = handlers.make_request(advanced.joined({**before, "window_height": 6, "window_width": 9, **changed}))
    assert request.window == (6, 9)
    assert (
        request
        == Request(prompt="a", width=512, height=288, window=(6, 9), seed=0, query_tile=request.query_tile).resolved()
    )


def test_a_guide_and_a_scale_that_are_chosen_are_in_the_request() -> None:
    request = handlers.make_request(advanced.joined(form(guide_height=6, guide_width=10, logit_scale=1.2)))
    assert (request.guide_grid, request.logit_scale) == ((6, 10), 1.2)
    assert handlers.make_request(advanced.joined(form())).guide_grid is None


@pytest.mark.parametrize("changes", [{}, {"window_height": 4, "tile_height": 2}, {"guide_height": 5},
                                     {"logit_scale": 1.3}, {"shift_tiles": True, "window_mode": "blocks"}])  # fmt: skip
def test_settings_come_back_to_their_sliders(changes: dict[str, Any]) -> None:
    shown = form("640x360", **changes)
    request = handlers.make_request(advanced.joined(shown))
    again = advanced.split(handlers.restored_settings(request.to_dict()))
    assert {name: again[name] for name in advanced.NAMES} == {name: shown[name] for name in advanced.NAMES}


def test_reset_brings_a_presets_values() -> None:
    for quality in ("draft", "best"):
        shown = advanced.values(EMBEDDED, "768x432", quality)
        assert {name: shown[name] for name in quality_values(EMBEDDED, quality)} == quality_values(EMBEDDED, quality)
    assert advanced.values(EMBEDDED, "wide") == advanced.values(EMBEDDED)
    assert set(advanced.values(EMBEDDED)) == set(advanced.NAMES)


def test_the_drawing_is_of_the_sliders() -> None:
    plain = advanced.diagram(form())
    assert "<svg" in plain
    others = [form(window_height=5, tile_height=1), form(guide="none"), form(window_mode="clipped"),
              form(shift_tiles=True), form("768x432")]  # fmt: skip
    drawings = [plain, *(advanced.diagram(other) for other in others)]
    assert all(a != b for a, b in itertools.combinations(drawings, 2))
    assert advanced.diagram(form(tile_height=20)) == ""
    assert advanced.diagram({**form(), "resolution": "wide"}) == ""


def test_every_field_says_what_it_does() -> None:
    for name in advanced.NAMES:
        label = labels(name)
        assert label["label"]
        assert label["info"]
        assert label["info"].endswith(".")
