"""What the page and its API do, as plain functions: form values in, component values or updates out."""

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from freeswim.cost import GIB, Meter, memory
from freeswim.embedded import VOCABULARY, unknown_words
from freeswim.models import MODELS, BaseModel
from freeswim.own_video import OwnVideo, default_target, probe, target_sizes
from freeswim.page import text, zerogpu
from freeswim.page.limits import Gate
from freeswim.page.quality import quality_values
from freeswim.page.source import Source, plan_of
from freeswim.page.status import clock
from freeswim.request import CONFIG_FIELDS, Request, Resolved, parse_size, parse_tokens
from freeswim.video import read_settings

# Form fields that are named differently in a Request.
_REQUEST_NAMES = {"frames": "num_frames"}
# Text fields that may stay empty for the model's default, and how they are read.
OPTIONAL: Mapping[str, Callable[[str, str], Any]] = {
    "window": parse_tokens,
    "query_tile": parse_tokens,
    "logit_scale": lambda name, value: _number(name, value),
    "guide_grid": parse_tokens,
}
# What a form holds beside a request's fields.
_OTHER = ("randomize", "mode", "own", "clip")
# The fields that a video's settings fill in.
RESTORED = (
    "prompt", "negative_prompt", "model", "resolution", "seed", "frames", "steps", "strength", "guidance_scale",
    "flow_shift", *CONFIG_FIELDS, "naive_mode",
)  # fmt: skip


class Refused(ValueError):
    """A form or a call that isn't run, with the reason in one line."""


def unavailable(model: BaseModel) -> str | None:
    """Why this machine can't run `model`, or None if it can."""
    if model.needs != "cuda":
        return None
    import torch

    if not torch.cuda.is_available():
        return "needs an NVIDIA GPU"
    native = Request(prompt="-", model=model.name, width=model.native_width, height=model.native_height)
    there = torch.cuda.get_device_properties(0).total_memory
    needed = memory(plan_of(native), accelerated=True, gpu_memory=None if zerogpu.available() else there)
    if needed > there:
        return f"needs {needed / GIB:.0f} GB of GPU memory, and there are {there / GIB:.0f} GB"
    return None


def model_choices() -> list[tuple[str, str]]:
    """(label, name) of every model; those that can't run here say why."""
    labels = {"embedded": "Small landscape model"}
    choices = []
    for name, model in MODELS.items():
        label = labels.get(name, model.description.split(":")[0])
        reason = unavailable(model)
        choices.append((f"{label} ({reason})" if reason else label, name))
    return choices


def best_model() -> str:
    """The model that the page starts with: the first of the large ones that can run here, else the small one."""
    return next((name for name in MODELS if name != "embedded" and unavailable(MODELS[name]) is None), "embedded")


def resolution_choices(model: BaseModel) -> list[tuple[str, str]]:
    """(label, WIDTHxHEIGHT) of a model's presets with how many times larger than native each is, then native itself."""
    choices = [
        (f"{text.size_label(width, height)},  {width / model.native_width:.2g}×", f"{width}x{height}")
        for _, width, height in model.presets
    ]
    native = (model.native_width, model.native_height)
    return [*choices, (f"{text.size_label(*native)}, native", f"{native[0]}x{native[1]}")]


def default_resolution(model: BaseModel) -> str:
    """The first preset."""
    return resolution_choices(model)[0][1]


def defaults(model_name: str) -> Request:
    """A request with the model's own value in every field that the form shows."""
    return Request(prompt="-", model=model_name).resolved()


def placeholder(value: Any) -> str:
    """A default as its empty field shows it: (9, 16) as `9x16`, a number with four digits."""
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else f"{value:.4g}"


def make_request(form: Mapping[str, Any]) -> Resolved:
    """The validated request for a form's (or an API call's) values. None and absent mean the model's default.

    Raises ValueError naming the value that is refused, before anything is loaded.
    """
    values = {name: value for name, value in form.items() if value is not None and name not in _OTHER}
    quality = values.pop("quality", None)
    model = model_of(form)
    if quality is not None:
        values = quality_values(model, quality) | values
    values = {_REQUEST_NAMES.get(name, name): value for name, value in values.items()}
    values["width"], values["height"] = parse_size(str(values.pop("resolution", None) or default_resolution(model)))
    for name, parse in OPTIONAL.items():
        value = str(values.pop(name, "")).strip()
        if value:
            values[name] = parse(name, value)
    return Request(**values).resolved()


def model_of(form: Mapping[str, Any]) -> BaseModel:
    """The model that a form names; ValueError when it is unknown or can't run here."""
    name = form.get("model") or "embedded"
    model = MODELS.get(name) if isinstance(name, str) else None
    if model is None:  # also keeps folders of this machine out of reach of the API
        raise ValueError(f"model={name!r} is unknown; choose one of {', '.join(MODELS)}")
    reason = unavailable(model)
    if reason:
        raise ValueError(f"model={model.name!r} {reason}; choose another one here")
    return model


def task_of(form: Mapping[str, Any], gate: Gate | None = None) -> tuple[Resolved, Source | None]:
    """The request of a form or an API call, and the visitor's video where it refines one.

    Raises Refused in one line: a value that make_request refuses, a missing video, more than `gate` lets through.
    """
    try:
        request = make_request(_with_own_size(form))
        source = None
        if form.get("mode") == "own":
            source = Source.of_own(_own_of(form), model_of(form), request.num_frames)
        request = plan_of(request, source).request
        if gate is not None and (reason := gate.refusal(request, source)):
            raise ValueError(reason)
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error
    return request, source


def _own_of(form: Mapping[str, Any]) -> OwnVideo:
    own = form.get("own")
    if not isinstance(own, OwnVideo):
        raise ValueError("there is no video yet: choose the one to refine")
    return own


def _with_own_size(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """A form that refines a video, with a size in that video's shape where none is given."""
    if form.get("mode") != "own" or form.get("resolution"):
        return form
    own = _own_of(form)
    return {**form, "resolution": str(default_target(own.width, own.height, model_of(form)))}


def uploaded(path: str | None, folder: str) -> OwnVideo | None:
    """The video at `path`, which must lie in `folder`: a caller may name any file of this machine. None for none."""
    if path is None:
        return None
    if not Path(path).resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError("the video must be uploaded: pass handle_file('your.mp4')")
    return probe(path)


def own_choices(own: OwnVideo, model: BaseModel) -> list[tuple[str, str]]:
    """(label, WIDTHxHEIGHT) of the sizes that a visitor's video may be refined to."""
    return [
        (f"{text.size_label(*size)},  {factor:.2g}× yours", str(size))
        for factor, size in target_sizes(own.width, own.height, model)
    ]


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number, 1 or more")
    return value


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name}={value!r} is not a number") from None


def check_form(form: Mapping[str, Any], gate: Gate | None = None) -> dict[str, str]:
    """What is wrong with a form: message by field name, empty when all is well.

    A field whose value alone is refused is named. What is wrong only together is put at the resolution, as is what
    `gate` does not let through; a missing video is put at its own field.
    """
    problems: dict[str, str] = {}
    bare = {"prompt": "-", "model": form.get("model")}
    for name, value in form.items():
        if name in _OTHER:
            continue
        message = _refusal({**bare, name: value})
        if message and name != "model" and _refusal(bare):
            continue  # the model itself is refused; say so once
        if message:
            problems[name] = message
    if form.get("mode") == "own" and not isinstance(form.get("own"), OwnVideo):
        problems["clip"] = "Choose the video to refine."
    if not problems and (message := _refusal(form, gate)):
        problems["resolution"] = message
    return problems


def _refusal(form: Mapping[str, Any], gate: Gate | None = None) -> str | None:
    try:
        task_of(form, gate)
    except Refused as error:
        return str(error)
    return None


def restored(path: str) -> dict[str, Any]:
    """The form's values from the settings in a video that was made here; ValueError as from restored_settings."""
    settings = read_settings(path)
    if settings is None:
        raise ValueError("this video holds no settings; drop one that FreeSwim made")
    return restored_settings(settings)


def restored_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The form's values from a run's settings, as a video or a browser kept them.

    Raises ValueError for settings that this device or version refuses: what stands in a file is anybody's.
    """
    request = Request.from_dict(settings)
    form: dict[str, Any] = {**request.to_dict(), "resolution": f"{request.width}x{request.height}"}
    form["frames"] = form["num_frames"]
    for name in OPTIONAL:
        value = form[name]  # whole, where placeholder() rounds
        form[name] = "" if value is None else placeholder(value) if isinstance(value, list) else str(value)
    form = {name: form[name] for name in RESTORED}
    resolved = make_request(form).to_dict()
    return {name: resolved[_REQUEST_NAMES.get(name, name)] if value is None else value for name, value in form.items()}


def expected(meter: Meter, request: Resolved, source: Source | None = None) -> dict[str, Any]:
    """What a run would cost here, JSON-ready."""
    estimate = meter.estimate(plan_of(request, source))
    return {
        "seconds": round(estimate.seconds, 2),
        "memory": estimate.memory,
        "stages": {stage: round(seconds, 2) for stage, seconds in estimate.stages.items()},
        "settings": request.to_dict(),
    }


def estimate_note(gate: Gate, form: Mapping[str, Any]) -> str:
    """The line at the Generate button: time and memory, or why it can't be run here. Empty while the form is wrong."""
    try:
        request, source = task_of({**form, "prompt": "-", "compare": True})
    except Refused:
        return ""
    if reason := gate.refusal(request, source):
        return f'<p class="refused">{escape(reason)}.</p>'
    cost = expected(gate.meter, request, source)
    return f"<p>About <b>{clock(cost['seconds'])}</b> here, {cost['memory'] / GIB:.1f} GB of memory</p>"


def estimate_api(gate: Gate, form: Mapping[str, Any], *, own_frames: int | None = None) -> dict[str, Any]:
    """Behind /estimate; gr.Error in one line for bad input. What can't be run here says why under "refused".

    own_frames: the length of a video that is to be refined; there is no native stage then.
    """
    try:
        request, source = task_of(form)
        if own_frames is not None:
            model = model_of(form)
            clip = OwnVideo(path="", width=2, height=2, fps=float(model.fps), frames=_count("own_frames", own_frames))
            source = Source.of_own(clip, model, form.get("frames"))
            request = plan_of(request, source).request
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return {**expected(gate.meter, request, source), "refused": gate.refusal(request, source)}


def refined_own(path: str) -> bool:
    """Whether a video that was made here was made from a visitor's own."""
    run = (read_settings(path) or {}).get("run")
    return isinstance(run, dict) and run.get("own_video") is True


def prompt_note(prompt: str, model: str) -> str:
    """The line under the prompt: which words the embedded model does not know, or a hint."""
    if model != "embedded":
        return text.ANY_PROMPT_NOTE
    unknown = unknown_words(prompt or "")
    return text.unknown_words_note(unknown, VOCABULARY) if unknown else text.vocabulary_note(VOCABULARY)
