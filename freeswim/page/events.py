"""What happens on each event of the page: which handler is called, with what, and what it changes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from freeswim.models import MODELS, BaseModel
from freeswim.own_video import OwnVideo, cut_for, default_target, describe, probe
from freeswim.page import advanced, handlers, runs, text
from freeswim.page.gallery import SHOW_ALL
from freeswim.page.limits import Gate
from freeswim.page.quality import quality_info, quality_values
from freeswim.page.runner import Clip, Run
from freeswim.page.status import Status, status_html

Updates = dict[gr.components.Component, Any]

# Everyone who asks for a run, page or script, is in one queue; the line of visitors (freeswim.page.line) lets them
# through one by one, since gradio's own queue could not tell them their place.
QUEUE: dict[str, Any] = {"concurrency_id": "runs", "concurrency_limit": 20}

_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

# Until the button is disabled by the run itself, a double click must not ask for two runs. Phones go to the result.
_ONE_CLICK = """() => {
    for (const id of ["generate", "larger"]) {
        const button = document.querySelector("#" + id);
        button.style.pointerEvents = "none";
        setTimeout(() => { button.style.pointerEvents = ""; }, 800);
    }
    // Where the page has one column the result would come out of sight.
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (innerWidth <= 900) document.querySelector("#stage").scrollIntoView({behavior: calm ? "auto" : "smooth"});
}"""

# A video dropped anywhere but on a field of its own brings its settings back.
_DROP_ANYWHERE = """() => {
    const videos = event => [...(event.dataTransfer?.items ?? [])].some(item => item.type === "video/mp4");
    const own = event => event.target.closest?.("#clip, #restore");
    document.addEventListener("dragover", event => { if (videos(event) && !own(event)) event.preventDefault(); });
    document.addEventListener("drop", event => {
        const input = document.querySelector("#restore input[type=file]");
        if (own(event) || !input || event.dataTransfer?.files[0]?.type !== "video/mp4") return;
        event.preventDefault();
        input.files = event.dataTransfer.files;
        input.dispatchEvent(new Event("change", {bubbles: true}));
    });
}"""


@dataclass(kw_only=True)
class Parts:
    """The page's components by name: the form's fields, what helps to fill them in, and what shows a run."""

    fields: dict[str, Any]
    helpers: dict[str, Any]
    tabs: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Any]:
        return list(self.fields.values())

    def form(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """The form's values by field name, its pairs of sliders joined."""
        return advanced.joined(dict(zip(self.fields, values, strict=True)))


def wire(page: gr.Blocks, run: Run, gate: Gate, parts: Parts) -> None:
    """Connects every event of the page."""
    running = _wire_runs(run, gate, parts)
    _wire_help(parts, gate)
    _wire_own_video(parts)
    _wire_advanced(parts)
    _wire_restore(parts)
    _wire_gallery(parts)
    _wire_estimate(page, running, gate, parts)
    page.load(None, js=_DROP_ANYWHERE, api_visibility="private")


def _show(name: str, value: Any, *, own: bool) -> Any:
    """A handler's value as an update of the output called `name`."""
    if name in text.VIDEO_LABELS:
        label = text.YOUR_VIDEO_LABEL if own and name == "base" else text.VIDEO_LABELS[name]
        clip: Clip | None = value
        if clip is None:
            return gr.Video(value=None, label=label)
        return gr.Video(value=clip.path, label=f"{label}, {text.size_label(clip.width, clip.height)}")
    return value


def _shown(parts: Parts, changes: Iterator[dict[str, Any]], *, own: bool) -> Iterator[Updates]:
    """A run's changes by name as updates of components."""
    outputs = parts.outputs
    clips: dict[str, Clip | None] = {}
    resolution = ""
    for change in changes:
        resolution = change.pop("resolution", resolution)
        if not text.VIDEO_LABELS.keys().isdisjoint(change):
            clips |= {name: change[name] for name in text.VIDEO_LABELS if name in change}
            change["comparison"] = runs.comparison(clips, resolution, own=own)
        update = {outputs[name]: _show(name, value, own=own) for name, value in change.items() if name in outputs}
        if "seed" in change:
            update[parts.fields["seed"]] = change["seed"]
        if "running" in change:
            update |= _buttons(parts, running=change["running"])
        if (last := change.get("last")) is not None:
            update |= _after(parts, last, running=change.get("running", True))
        yield update


def _buttons(parts: Parts, *, running: bool) -> Updates:
    off = {"larger": gr.Button(interactive=False)} if running else {}
    return {
        parts.helpers["go"]: gr.Button(interactive=not running),
        parts.helpers["stop"]: gr.Button(interactive=running),
    } | {parts.outputs[name]: button for name, button in off.items()}


def _after(parts: Parts, last: runs.Last, *, running: bool) -> Updates:
    """The buttons that go on from a run."""
    size = last.next_size
    label = "Same, larger" if size is None else f"Same, larger: {text.size_label(*map(int, size.split('x')))}"
    return {
        parts.outputs["larger"]: gr.Button(label, interactive=size is not None and not running),
        parts.outputs["again"]: gr.Button(interactive=True),
    }


def _wire_runs(run: Run, gate: Gate, parts: Parts) -> list[Any]:
    """Generate, "same, larger", "use this seed again" and Stop. Returns the events of runs."""
    fields, outputs, helpers = parts.fields, parts.outputs, parts.helpers
    last = outputs["last"]
    changed = [*outputs.values(), fields["seed"], helpers["go"], helpers["stop"]]

    def run_form(*values: Any) -> Iterator[Updates]:
        form = parts.form(values)
        yield from _shown(parts, runs.run_form(run, form, gate), own=form["mode"] == "own")

    def run_larger(before: runs.Last | None) -> Iterator[Updates]:
        own = before is not None and before.source is not None and before.source.own is not None
        yield from _shown(parts, runs.run_larger(run, before, gate), own=own)

    def validate(*values: Any) -> list[dict[str, Any]]:
        problems = handlers.check_form(parts.form(values), gate)
        for name, (first, _) in advanced.PAIRS.items():
            if name in problems:
                problems[first] = problems[name]
        return [gr.validate(name not in problems, problems.get(name, "")) for name in fields]

    common: dict[str, Any] = {
        "show_progress": "hidden",
        "trigger_mode": "multiple",  # "once" would swallow a click soon after Stop
        "api_visibility": "private",
        **QUEUE,
    }
    for button in (helpers["go"], outputs["larger"]):
        button.click(None, js=_ONE_CLICK, api_visibility="private")
    running = [
        helpers["go"].click(run_form, parts.inputs, changed, validator=validate, **common),
        outputs["larger"].click(run_larger, last, changed, **common),
    ]

    def stopped(before: runs.Last | None) -> Updates:
        status = status_html(Status(state="stopped", message="What was finished is kept."))
        update = {outputs["status"]: status, outputs["preview"]: "", **_buttons(parts, running=False)}
        return update if before is None else update | _after(parts, before, running=False)

    helpers["stop"].click(
        stopped,
        last,
        [outputs["status"], outputs["preview"], helpers["go"], helpers["stop"], outputs["larger"], outputs["again"]],
        cancels=running,
        **_QUIET,
    )

    def use_seed(before: runs.Last | None) -> Updates:
        if before is None:
            return {fields["seed"]: gr.skip()}
        return {fields["seed"]: before.request.seed, fields["randomize"]: False}

    outputs["again"].click(use_seed, last, [fields["seed"], fields["randomize"]], **_QUIET)
    return running


def _wire_estimate(page: gr.Blocks, running: list[Any], gate: Gate, parts: Parts) -> None:
    """The expected time and memory: at the start, after every change, and after a run, which taught it something."""

    def show(*values: Any) -> str:
        return handlers.estimate_note(gate, parts.form(values))

    # The seed and the words cost nothing, and a quality shows in the fields that it sets.
    free = ("prompt", "negative_prompt", "quality", "clip", "seed", "randomize")
    changes = [component.change for name, component in parts.fields.items() if name not in free]
    note = parts.helpers["expected"]
    gr.on([page.load, *changes], show, parts.inputs, note, trigger_mode="always_last", **_QUIET)
    for event in running:
        event.then(show, parts.inputs, note, **_QUIET)


def _wire_help(parts: Parts, gate: Gate) -> None:
    """What reacts while the form is filled in: the line under the prompt, and the defaults of a model or a quality."""
    fields, helpers = parts.fields, parts.helpers
    prompt, model, note = fields["prompt"], fields["model"], helpers["note"]
    prompt.change(handlers.prompt_note, [prompt, model], note, trigger_mode="always_last", **_QUIET)

    def choose_model(name: str, words: str, mode: str, own: OwnVideo | None) -> Updates:
        base = MODELS[name]
        resolution, size = _resolution(base, mode, own)
        first, quality = gate.start(base)
        if mode != "own":
            resolution, size = gr.Dropdown(choices=handlers.resolution_choices(base), value=first), first
        shown = advanced.values(base, size, quality)
        return {
            note: handlers.prompt_note(words, name),
            fields["resolution"]: resolution,
            fields["quality"]: gr.Radio(value=quality, info=quality_info(base)),
            helpers["auto"]: advanced.automatic(shown),
            helpers["clip_note"]: _clip_note(own, base),
        } | {fields[field]: value for field, value in shown.items()}

    # input, not change: a video's settings choose a model too, and bring their own values
    model.input(
        choose_model,
        [model, prompt, fields["mode"], fields["own"]],
        [note, fields["resolution"], fields["quality"], helpers["auto"], helpers["clip_note"], *_advanced(parts)],
        **_QUIET,
    )

    def choose_quality(name: str, quality: str) -> list[int]:
        return list(quality_values(MODELS[name], quality).values())

    settings = [fields[name] for name in ("steps", "frames", "refresh_interval")]
    fields["quality"].input(choose_quality, [model, fields["quality"]], settings, **_QUIET)


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
        def choose(name: str, video: OwnVideo | None) -> Updates:
            resolution, _ = _resolution(MODELS[name], chosen, video)
            label = "Refine" if chosen == "own" else "Generate"
            return {mode: chosen, fields["resolution"]: resolution, helpers["go"]: gr.Button(label)}

        return choose

    for chosen, tab in parts.tabs.items():
        tab.select(chooser(chosen), [model, own], changed, **_QUIET)

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
    clip.upload(arrived, [clip, model, frames], outputs, **_QUIET)
    clip.clear(arrived, [clip, model, frames], outputs, **_QUIET)

    def use_frames(video: OwnVideo | None, name: str, count: int) -> str:
        return _clip_note(video, MODELS[name], count)

    frames.change(use_frames, [own, model, frames], helpers["clip_note"], trigger_mode="always_last", **_QUIET)


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
    gr.on(triggers, follow, [auto, *inputs], [auto, diagram, *followers], trigger_mode="always_last", **_QUIET)

    def draw(*values: Any) -> str:
        return advanced.diagram(dict(zip(names, values, strict=True)))

    drawn = [fields[name].change for name in (*_DRAWN, "tile_height", "tile_width", "guide_height", "guide_width")]
    gr.on(drawn, draw, inputs, diagram, trigger_mode="always_last", **_QUIET)

    def reset(name: str, resolution: str, quality: str | None) -> Updates:
        shown = advanced.values(MODELS[name], resolution, quality)
        return {auto: advanced.automatic(shown)} | {fields[field]: value for field, value in shown.items()}

    from_preset = [fields["model"], fields["resolution"], fields["quality"]]
    helpers["reset"].click(reset, from_preset, [auto, *_advanced(parts)], **_QUIET)


_DRAWN = ("shift_tiles", "window_mode", "guide")


def _wire_restore(parts: Parts) -> None:
    """A video dropped onto the page brings its settings back into the form."""
    helpers = parts.helpers
    dropped = helpers["dropped"]

    def restore(path: str) -> Updates:
        try:
            values = handlers.restored(path)
        except (ValueError, TypeError) as error:
            gr.Warning(str(error))
            return {dropped: None}
        gr.Info(text.RESTORED_OWN if handlers.refined_own(path) else text.RESTORED)
        return _filled_in(parts, values) | {dropped: None}

    # Queued, in a queue of its own: messages reach the page from there only.
    messages: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    dropped.upload(restore, dropped, [*parts.inputs, helpers["auto"], dropped], **messages)


def _filled_in(parts: Parts, values: dict[str, Any]) -> Updates:
    """A run's settings in the form."""
    values = advanced.split(values)
    now = advanced.follow(MODELS[values["model"]], values["resolution"], {})
    # No longer one of the qualities, and the seed is to be used as it is.
    values |= {"quality": None, "randomize": False}
    return {parts.fields[name]: value for name, value in values.items()} | {parts.helpers["auto"]: now}


def _wire_gallery(parts: Parts) -> None:
    """A run of this browser's that is opened brings its videos (without the server) and its settings back."""
    outputs, gallery = parts.outputs, parts.outputs["entry"]

    def restore(event: gr.EventData) -> Updates:
        settings = event.settings
        try:
            values = handlers.restored_settings(settings)
            request = handlers.make_request(values)
        except (ValueError, TypeError, AttributeError) as error:
            gr.Warning(str(error))
            return {outputs["last"]: gr.skip()}  # an empty dict would count as one value for all outputs
        last = runs.Last(request=request)
        shown = {outputs["last"]: last, outputs["look"]: "", outputs["details"]: settings}
        return _filled_in(parts, values) | shown | _after(parts, last, running=False)

    changed = [outputs[name] for name in ("last", "look", "details", "larger", "again")]
    messages: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    gallery.select(restore, None, [*parts.inputs, parts.helpers["auto"], *changed], **messages)
    videos = [outputs[name] for name in ("comparison", "freeswim", "naive", "base")]
    gallery.input(None, gallery, videos, js=SHOW_ALL, **messages)
