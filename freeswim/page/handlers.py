"""What the page and its API do, as plain functions: form values in, component values or updates out."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from freeswim.cost import GIB, Meter
from freeswim.embedded import VOCABULARY, unknown_words
from freeswim.models import MODELS, BaseModel
from freeswim.page import text
from freeswim.page.player import ComparisonValue
from freeswim.page.quality import quality_values
from freeswim.page.runner import Clip, Update
from freeswim.page.status import Status, clock, status_html
from freeswim.plan import make_plan
from freeswim.request import MAX_SEED, Request, parse_size, parse_tokens
from freeswim.video import read_settings

# Runner.run, possibly behind ZeroGPU's decorator.
Run = Callable[[Request], Iterator[Update]]

# Form fields that are named differently in a Request.
_REQUEST_NAMES = {"frames": "num_frames"}
# Text fields that may stay empty for the model's default, and how they are read.
OPTIONAL: Mapping[str, Callable[[str, str], Any]] = {
    "window": parse_tokens,
    "query_tile": parse_tokens,
    "logit_scale": lambda name, value: _number(name, value),
}


def unavailable(model: BaseModel) -> str | None:
    """Why this machine can't run `model`, or None if it can."""
    if model.needs == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "needs an NVIDIA GPU"
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


def make_request(form: Mapping[str, Any]) -> Request:
    """The validated request for a form's (or an API call's) values. None and absent mean the model's default.

    Raises ValueError naming the value that is refused, before anything is loaded.
    """
    values = {name: value for name, value in form.items() if value is not None and name != "randomize"}
    quality = values.pop("quality", None)
    model = MODELS.get(values.get("model", "embedded"))
    if model is None:  # also keeps folders of this machine out of reach of the API
        raise ValueError(f"model={values['model']!r} is unknown; choose one of {', '.join(MODELS)}")
    reason = unavailable(model)
    if reason:
        raise ValueError(f"model={model.name!r} {reason}; choose another one here")
    if quality is not None:
        values = quality_values(model, quality) | values
    values = {_REQUEST_NAMES.get(name, name): value for name, value in values.items()}
    values["width"], values["height"] = parse_size(str(values.pop("resolution", None) or default_resolution(model)))
    for name, parse in OPTIONAL.items():
        value = str(values.pop(name, "")).strip()
        if value:
            values[name] = parse(name, value)
    return Request(**values).resolved()


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name}={value!r} is not a number") from None


def check_form(form: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a form: message by field name, empty when all is well.

    A field whose value alone is refused is named. What is wrong only together is put at the resolution.
    """
    problems: dict[str, str] = {}
    for name, value in form.items():
        alone = {"prompt": "-", "model": form.get("model"), name: value}
        message = _refusal(alone)
        if message and name != "model" and _refusal({"prompt": "-", "model": form.get("model")}):
            continue  # the model itself is refused; say so once
        if message:
            problems[name] = message
    if not problems and (message := _refusal(form)):
        problems["resolution"] = message
    return problems


def _refusal(form: Mapping[str, Any]) -> str | None:
    try:
        make_request(form)
    except (ValueError, TypeError) as error:
        return str(error)
    return None


def details(request: Request, update: Update) -> dict[str, Any]:
    """A run's settings, clips and times as JSON-ready data. `status` says how far it is."""
    return {
        "status": dataclasses.asdict(update.status),
        "videos": {
            name: {key: value for key, value in dataclasses.asdict(clip).items() if key != "path"}
            for name, clip in update.clips.items()
        },
        "seconds": {stage: round(seconds, 2) for stage, seconds in update.seconds.items()},
        "settings": update.settings or request.to_dict(),
        "unknown_words": unknown_words(request.prompt) if request.model == "embedded" else [],
    }


def run_form(run: Run, form: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs a page's form; yields values by output name: status, seed, freeswim, naive, base, details, running.

    A name is absent when nothing changed there. The first values clear what an earlier run left.
    """
    seed = random.randint(0, MAX_SEED) if form.get("randomize") else form["seed"]
    try:
        request = make_request({**form, "seed": seed, "compare": True})
    except (ValueError, TypeError) as error:
        yield {"status": status_html(Status(state="failed", message=str(error))), "running": False}
        return
    yield {"seed": request.seed, "freeswim": None, "naive": None, "base": None, "details": None, "running": True}
    shown: set[str] = set()
    for update in run(request):
        values: dict[str, Any] = {"status": status_html(update.status)}
        for name in update.clips.keys() - shown:
            values[name] = update.clips[name]
            shown.add(name)
        ended = update.status.state != "running"
        if ended or len(values) > 1:
            values["details"] = details(request, update)
        if ended:
            values["running"] = False
        yield values


def run_api(run: Run, form: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any, dict[str, Any]]]:
    """Runs an API call; yields (FreeSwim, naive, native, details) with None for what does not exist yet.

    Raises gr.Error in one line for bad input, before anything is loaded, and for a run that failed.
    """
    try:
        request = make_request(form)
    except (ValueError, TypeError) as error:
        raise gr.Error(str(error), print_exception=False) from error
    for update in run(request):
        if update.status.state == "failed":
            raise gr.Error(update.status.message, print_exception=False)
        freeswim, naive, base = (
            gr.FileData(path=update.clips[name].path).model_dump() if name in update.clips else None
            for name in ("freeswim", "naive", "base")
        )
        yield freeswim, naive, base, details(request, update)


def restored(path: str) -> dict[str, Any]:
    """The form's values from the settings in a video that was made here.

    Raises ValueError for a file without settings and for settings that this device or version refuses: what stands in
    a file is anybody's.
    """
    settings = read_settings(path)
    if settings is None:
        raise ValueError("this video holds no settings; drop one that FreeSwim made")
    request = Request.from_dict(settings)
    form: dict[str, Any] = {**request.to_dict(), "resolution": f"{request.width}x{request.height}"}
    form["frames"] = form["num_frames"]
    for name in OPTIONAL:
        value = form[name]  # whole, where placeholder() rounds
        form[name] = "" if value is None else placeholder(value) if isinstance(value, list) else str(value)
    form = {name: form[name] for name in text.FIELDS if name in form}
    resolved = make_request(form).to_dict()
    return {name: resolved[_REQUEST_NAMES.get(name, name)] if value is None else value for name, value in form.items()}


def comparison(clips: Mapping[str, Clip | None], resolution: str) -> ComparisonValue:
    """What the player shows of the clips that exist by now; `resolution` shapes its box from the start."""
    width, height = parse_size(resolution)
    paths = {name: clip.path for name, clip in clips.items() if clip is not None}
    fps = next((clip.fps for clip in clips.values() if clip is not None), ComparisonValue.fps)
    return ComparisonValue(
        left=paths.get("naive"),
        right=paths.get("freeswim"),
        base=paths.get("base"),
        fps=fps,
        width=width,
        height=height,
    )


def metered(run: Run, meter: Meter) -> Run:
    """`run`, with the times of finished runs told to `meter`."""

    def metered_run(request: Request) -> Iterator[Update]:
        for update in run(request):
            if update.status.state == "done":
                meter.observe(make_plan(request), update.seconds)
            yield update

    return metered_run


def estimate(meter: Meter, form: Mapping[str, Any]) -> dict[str, Any]:
    """What the request of a form or an API call would cost here, JSON-ready. ValueError as from make_request."""
    request = make_request(form)
    expected = meter.estimate(make_plan(request))
    return {
        "seconds": round(expected.seconds, 2),
        "memory": expected.memory,
        "stages": {stage: round(seconds, 2) for stage, seconds in expected.stages.items()},
        "settings": request.to_dict(),
    }


def estimate_note(meter: Meter, form: Mapping[str, Any]) -> str:
    """The line at the Generate button; empty while the form can't be run."""
    try:
        expected = estimate(meter, {**form, "prompt": "-", "compare": True})
    except (ValueError, TypeError):
        return ""
    return f"<p>About <b>{clock(expected['seconds'])}</b> here, {expected['memory'] / GIB:.1f} GB of memory</p>"


def estimate_api(meter: Meter, form: Mapping[str, Any]) -> dict[str, Any]:
    """Behind /estimate; gr.Error in one line for bad input."""
    try:
        return estimate(meter, form)
    except (ValueError, TypeError) as error:
        raise gr.Error(str(error), print_exception=False) from error


def prompt_note(prompt: str, model: str) -> str:
    """The line under the prompt: which words the embedded model does not know, or a hint."""
    if model != "embedded":
        return text.ANY_PROMPT_NOTE
    unknown = unknown_words(prompt or "")
    return text.unknown_words_note(unknown, VOCABULARY) if unknown else text.vocabulary_note(VOCABULARY)
