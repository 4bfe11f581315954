"""What happens while the form is filled in: which handler an event calls, with what, and what it changes."""

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from freeswim.models import MODELS, BaseModel
from freeswim.own_video import OwnVideo, cut_for, default_target, describe, probe
from freeswim.page import advanced, handlers, text
from freeswim.page.limits import Gate
from freeswim.page.parts import QUIET, Parts, Updates
from freeswim.page.quality import FIELDS, quality_info, quality_values
from freeswim.page.restore_events import DROP_ANYWHERE, wire_gallery, wire_restore
from freeswim.page.run_events import wire_estimate, wire_runs
from freeswim.page.runner import Run


def wire(page: gr.Blocks, run: Run, gate: Gate, parts: Parts) -> None:
    """Connects every event of the page."""
    running = wire_runs(run, gate, parts)
    _wire_help(parts, gate)
    _wire_own_video(parts)
    _wire_advanced(parts)
    wire_restore(parts)
    wire_gallery(parts)
    wire_estimate(page, running, gate, parts)
    page.load(None, js=DROP_ANYWHERE, api_visibility="private")


def _wire_help(parts: Parts, gate: Gate) -> None:
    """What reacts while the form is filled in: the line under the prompt, and the defaults of a model or a quality."""
    fields, helpers = parts.fields, parts.helpers
    prompt, model, note = fields["prompt"], fields["model"], helpers["note"]
    known, auto = helpers["known"], helpers["auto"]
    prompt.change(handlers.prompt_note, [prompt, model], note, trigger_mode="always_last", **QUIET)

    def choose_model(before: str, name: str, words: str, mode: str, own: OwnVideo | None) -> Updates:
        if before == name:  # comes too when the focus only passes by: what is in the form by then is to stay
            return {known: gr.skip()}
        base = MODELS[name]
        resolution, size = _resolution(base, mode, own)
        first, quality = gate.start(base)
        if mode != "own":
            resolution, size = gr.Dropdown(choices=handlers.resolution_choices(base), value=first), first
        shown = advanced.values(base, size, quality)
        return {
            known: name,
            note: handlers.prompt_note(words, name),
            fields["resolution"]: resolution,
            fields["quality"]: gr.Radio(value=quality, info=quality_info(base)),
            auto: advanced.automatic(shown),
            helpers["clip_note"]: _clip_note(own, base),
        } | {fields[field]: value for field, value in shown.items()}

    # input, not change: a video's settings choose a model too, and bring their own values
    model.input(
        choose_model,
        [known, model, prompt, fields["mode"], fields["own"]],
        [
            known,
            note,
            fields["resolution"],
            fields["quality"],
            helpers["auto"],
            helpers["clip_note"],
            *_advanced(parts),
        ],
        **QUIET,
    )

    def choose_quality(name: str, quality: str) -> list[Any]:
        return list(quality_values(MODELS[name], quality).values())

    settings = [fields[name] for name in FIELDS]
    fields["quality"].input(choose_quality, [model, fields["quality"]], settings, **QUIET)


def _advanced(parts: Parts) -> list[Any]:
    return [parts.fields[name] for name in advanced.NAMES]


def _resolution(model: BaseModel, mode: str, own: OwnVideo | None) -> tuple[Any, str]:
    """The resolutions to choose from, as an update of the field, and the one that is chosen."""
    if mode == "own" and own is not None:
        value = str(default_target(own.width, own.height, model))
        return gr.Dropdown(choices=handlers.own_choices(own, model), value=value), value
    value = handlers.default_resolution(model)
    return gr.Dropdown(choices=handlers.resolution_choices(model), value=value), value


def _clip_note(own: OwnVideo | None, model: BaseModel, frames: int | None = None) -> str:
    return text.CLIP_NOTE if own is None else text.clip_note(describe(own, cut_for(own, model, frames)))


def _wire_own_video(parts: Parts) -> None:
    """The tabs of what to start from, and the upload."""
    fields, helpers = parts.fields, parts.helpers
    mode, own, clip, model = (fields[name] for name in ("mode", "own", "clip", "model"))
    changed = [mode, fields["resolution"], helpers["go"]]

    def chooser(chosen: str) -> Callable[..., Updates]:
        def choose(before: str, name: str, video: OwnVideo | None) -> Updates:
            if before == chosen:  # as the page opens: a resolution that is already being typed is to stay
                return {mode: gr.skip()}
            resolution, _ = _resolution(MODELS[name], chosen, video)
            label = "Refine" if chosen == "own" else "Generate"
            return {mode: chosen, fields["resolution"]: resolution, helpers["go"]: gr.Button(label)}

        return choose

    for chosen, tab in parts.tabs.items():
        tab.select(chooser(chosen), [mode, model, own], changed, **QUIET)

    def arrived(path: str | None, name: str, frames: int) -> Updates:
        try:
            video = None if path is None else probe(path)
        except ValueError as error:
            return {own: None, clip: None, helpers["clip_note"]: text.refused_note(str(error))}
        resolution, _ = _resolution(MODELS[name], "own", video)
        note = _clip_note(video, MODELS[name], frames)
        return {own: video, fields["resolution"]: resolution, helpers["clip_note"]: note}

    outputs = [own, clip, fields["resolution"], helpers["clip_note"]]
    frames = fields["frames"]
    clip.upload(arrived, [clip, model, frames], outputs, **QUIET)
    clip.clear(arrived, [clip, model, frames], outputs, **QUIET)

    def use_frames(video: OwnVideo | None, name: str, count: int) -> str:
        return _clip_note(video, MODELS[name], count)

    frames.change(use_frames, [own, model, frames], helpers["clip_note"], trigger_mode="always_last", **QUIET)


def _wire_advanced(parts: Parts) -> None:
    """Sliders that follow the resolution and the window, the drawing of them, and "reset to preset"."""
    fields, helpers = parts.fields, parts.helpers
    auto, diagram = helpers["auto"], helpers["diagram"]
    names = ("model", "resolution", *(name for name in advanced.NAMES if name in advanced.RANGES or name in _DRAWN))
    inputs = [fields[name] for name in names]

    def follow(before: Mapping[str, Any], *values: Any) -> Updates:
        form = dict(zip(names, values, strict=True))
        try:
            change, now = advanced.followed(form, before)
        except (ValueError, TypeError):
            return {auto: gr.skip()}  # a resolution that is still being typed
        return {fields[name]: value for name, value in change.items()} | {
            auto: now,
            diagram: advanced.diagram({**form, **change}),
        }

    followers = [fields[name] for name in advanced.AUTOMATIC]
    triggers = [fields["resolution"].change, *(fields[name].change for name in advanced.PAIRS["window"])]
    gr.on(triggers, follow, [auto, *inputs], [auto, diagram, *followers], trigger_mode="always_last", **QUIET)

    def draw(*values: Any) -> str:
        return advanced.diagram(dict(zip(names, values, strict=True)))

    drawn = [fields[name].change for name in (*_DRAWN, "tile_height", "tile_width", "guide_height", "guide_width")]
    gr.on(drawn, draw, inputs, diagram, trigger_mode="always_last", **QUIET)

    def reset(name: str, resolution: str, quality: str | None) -> Updates:
        shown = advanced.values(MODELS[name], resolution, quality)
        return {auto: advanced.automatic(shown)} | {fields[field]: value for field, value in shown.items()}

    from_preset = [fields["model"], fields["resolution"], fields["quality"]]
    helpers["reset"].click(reset, from_preset, [auto, *_advanced(parts)], **QUIET)


_DRAWN = ("shift_tiles", "window_mode", "guide")
