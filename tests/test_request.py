"""Requests: what is filled in, what is refused and how, and JSON there and back. Nothing here loads a model."""

import dataclasses
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from freeswim.models import EMBEDDED, MODELS
from freeswim.plan import make_plan
from freeswim.request import CONFIG_FIELDS, Request, parse_size, parse_tokens, refine_steps
from freeswim.sizes import Size


def ask(**values: Any) -> Request:
    fields: dict[str, Any] = {"prompt": "a red sun", "width": 512, "height": 288}
    return Request(**fields | values)


def test_everything_open_is_filled() -> None:
    resolved = Request(prompt="a red sun").resolved(EMBEDDED)
    # The guide's size is left to the hook, which knows the target's grid.
    left = [field.name for field in dataclasses.fields(resolved) if getattr(resolved, field.name) is None]
    assert left == ["guide_grid"]
    assert (resolved.width, resolved.height) == EMBEDDED.presets[0][1:]
    assert resolved.num_frames == EMBEDDED.native_frames
    assert resolved.window == (9, 16)
    assert resolved.query_tile == (3, 5)
    assert resolved.logit_scale == pytest.approx(1.0678, abs=1e-3)  # sqrt(ln 288 / ln 144)
    assert resolved.resolved(EMBEDDED) == resolved


def test_what_was_asked_stays() -> None:
    asked = ask(steps=7, strength=1.0, window=(6, 8), query_tile=(1, 1), guide="full", seed=3, negative_prompt="x")
    resolved = asked.resolved(EMBEDDED)
    for name, value in asked.to_dict().items():
        if value is not None:
            assert resolved.to_dict()[name] == value


@pytest.mark.parametrize("name", MODELS)
def test_every_preset_of_every_model_is_valid(name: str) -> None:
    model = MODELS[name]
    for _, width, height in model.presets:
        plan = make_plan(Request(prompt="a", width=width, height=height), model)
        assert plan.refines
        assert plan.native == model.native
        assert plan.request.model == name
    if name == "wan2.1-1.3b":
        assert plan.config.window == (30, 52)
        assert plan.config.effective_logit_scale == pytest.approx(1.0461, abs=1e-4)


# What is wrong -> words that the error must hold: the value and the remedy.
REFUSED = [
    ({"prompt": ""}, ["prompt=''", "say what"]),
    ({"prompt": " \n "}, ["prompt=", "empty"]),
    ({"prompt": 3}, ["prompt=3", "text"]),
    ({"prompt": "a" * 20_000}, ["20000", "10000"]),
    ({"negative_prompt": 5}, ["negative_prompt=5"]),
    ({"width": 0}, ["width=0", "64"]),
    ({"height": -288}, ["height=-288", "64"]),
    ({"width": 100_000}, ["width=100000", "8192"]),
    ({"width": 513}, ["width=513", "512", "514"]),
    ({"height": 287.5}, ["height=287.5"]),
    ({"height": None}, ["height=None", "both"]),
    ({"num_frames": 16}, ["num_frames=16", "13", "17"]),
    ({"num_frames": 0}, ["num_frames=0"]),
    ({"num_frames": 10_001}, ["num_frames=10001", "1025"]),
    ({"steps": 0}, ["steps=0", "1"]),
    ({"steps": -3}, ["steps=-3"]),
    ({"steps": True}, ["steps=True"]),
    ({"steps": "ten"}, ["steps='ten'"]),
    ({"steps": 1001}, ["steps=1001", "1000"]),
    ({"strength": 1.5}, ["strength=1.5", "0 to 1"]),
    ({"strength": -0.1}, ["strength=-0.1"]),
    ({"strength": float("nan")}, ["strength=nan"]),
    ({"steps": 4, "strength": 0.1}, ["strength=0.1", "steps=4", "0.25"]),
    ({"guidance_scale": 0.5}, ["guidance_scale=0.5", "1 switches"]),
    ({"guidance_scale": float("inf")}, ["guidance_scale=inf"]),
    ({"flow_shift": 0}, ["flow_shift=0"]),
    ({"seed": -1}, ["seed=-1", "4294967295"]),
    ({"seed": 2**32}, [f"seed={2**32}"]),
    ({"seed": 1.5}, ["seed=1.5"]),
    ({"compare": "yes"}, ["compare='yes'"]),
    ({"naive_mode": "inward"}, ["naive_mode='inward'", "clipped"]),
    ({"guide": "half"}, ["guide='half'", "downsampled"]),
    ({"override": "all"}, ["override='all'", "context"]),
    ({"window_mode": "x"}, ["window_mode='x'", "inward"]),
    ({"window": (0, 5)}, ["window=(0, 5)"]),
    ({"query_tile": (20, 20)}, ["query_tile=(20, 20)", "window=(9, 16)"]),
    ({"refresh_interval": 0}, ["refresh_interval=0"]),
    ({"refresh_until": 0.0}, ["refresh_until=0.0"]),
    ({"logit_scale": -1.0}, ["logit_scale=-1.0"]),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        ask(**values).resolved(EMBEDDED)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="model='gpt'") as error:
        ask(model="gpt").resolved()
    assert all(name in str(error.value) for name in MODELS)


def test_sliders_give_whole_floats() -> None:
    resolved = ask(steps=20.0, seed=3.0, width=512.0).resolved(EMBEDDED)
    assert (resolved.steps, resolved.seed, resolved.width) == (20, 3, 512)
    assert all(isinstance(value, int) for value in (resolved.steps, resolved.seed, resolved.width))


def test_json_there_and_back() -> None:
    for request in (ask(), ask(window=(6, 8), prompt="海 \"and\" 'sea'\n", compare=True).resolved(EMBEDDED)):
        back = type(request).from_json(request.to_json())
        assert back == request
        settings = json.loads(json.dumps({**request.to_dict(), "run": {"device": "cpu"}}))
        assert Request.from_dict(settings).to_dict() == request.to_dict()


@pytest.mark.parametrize("text", ["no json", "[1]", '{"prompt": "a", "colour": 1}', '{"seed": 1}'])
def test_json_that_is_no_request(text: str) -> None:
    with pytest.raises(ValueError, match="settings"):
        Request.from_json(text)


def test_config_fields_are_request_fields() -> None:
    assert set(CONFIG_FIELDS) <= {field.name for field in dataclasses.fields(Request)}


@pytest.mark.parametrize("text", ["512x288", "512X288", " 512 x 288 ", "512×288"])
def test_parse_size(text: str) -> None:
    assert parse_size(text) == (512, 288)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "512",
        "512x",
        "x288",
        "512x288x3",
        "0x288",
        "-512x288",
        "51.2x288",
        "99999x64",
        "513x288",
        "axb",
        "512 288",
        "9" * 50 + "x64",
    ],
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="=") as error:
        parse_size(text)
    assert "\n" not in str(error.value)


def test_parse_tokens() -> None:
    assert parse_tokens("--window", "9x16") == (9, 16)
    for text in ("9", "0x16", "9xx16", "9x-1"):
        with pytest.raises(ValueError, match="--window"):
            parse_tokens("--window", text)


@pytest.mark.parametrize(
    ("steps", "strength", "selected"), [(50, 0.7, 35), (10, 0.7, 7), (100, 0.29, 29), (4, 1, 4), (4, 0, 0), (1, 0.5, 1)]
)
def test_refine_steps(steps: int, strength: float, selected: int) -> None:
    assert refine_steps(steps, strength) == selected


def test_plan_of_an_odd_target() -> None:
    plan = make_plan(ask(width=386, height=218, compare=True), EMBEDDED)
    assert plan.target == Size(386, 218)
    assert plan.padded == Size(400, 224)
    assert plan.grid(plan.padded) == (5, 14, 25)
    assert [stage.name for stage in plan.stages()] == [
        "native", "decode native", "encode", "freeswim", "decode freeswim", "naive", "decode naive",
    ]  # fmt: skip


def test_plan_of_a_native_target_has_one_stage() -> None:
    plan = make_plan(ask(width=200, height=100, compare=True), EMBEDDED)
    assert not plan.refines
    assert plan.native == Size(208, 112)
    assert [stage.name for stage in plan.stages()] == ["native", "decode native"]


@pytest.mark.parametrize(("strength", "begin", "encodes"), [(1.0, 0, False), (0.7, 3, True), (0.0, 10, False)])
def test_plan_of_strength(strength: float, begin: int, encodes: bool) -> None:
    plan = make_plan(ask(steps=10, strength=strength), EMBEDDED)
    assert plan.begin == begin
    assert ("encode" in [stage.name for stage in plan.stages()]) == encodes


def test_portrait_window_follows_the_shape() -> None:
    assert make_plan(ask(width=288, height=512), EMBEDDED).config.window == (16, 9)


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, freeswim.request, freeswim.plan, freeswim.video; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
