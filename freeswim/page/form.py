"""The page itself: what stands where, and which handler each event calls."""

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import gradio as gr

from freeswim.cost import Meter
from freeswim.embedded import EXAMPLES
from freeswim.models import MODELS
from freeswim.page import handlers, text
from freeswim.page.player import ComparePlayer
from freeswim.page.quality import LABELS, quality_info, quality_values
from freeswim.page.runner import Clip, Runner
from freeswim.page.status import Status, status_html
from freeswim.request import MAX_SEED

Components = dict[str, gr.components.Component]

# Runs wait for one another whether the page or the API asked for them.
_QUEUE = "generate"

# Until the button is disabled by the run itself, a double click must not ask for two runs.
_ONE_CLICK = """() => {
    const button = document.querySelector("#generate");
    button.style.pointerEvents = "none";
    setTimeout(() => { button.style.pointerEvents = ""; }, 800);
}"""

_LABELS = {"freeswim": text.FREESWIM_LABEL, "naive": text.NAIVE_LABEL, "base": text.NATIVE_LABEL}


def build_page(runner: Runner, *, meter: Meter | None = None, gpu: Callable[[Any], Any] = lambda run: run) -> gr.Blocks:
    """The whole page and its API endpoints. `gpu` wraps what needs the device (ZeroGPU's decorator)."""
    meter = meter or Meter()
    run = handlers.metered(gpu(runner.run), meter)
    with gr.Blocks(
        title=text.TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, 24 * 3600),  # seconds: how often to look, how old a video may get
    ) as page:
        gr.HTML(f"<h1>{text.TITLE}</h1><p>{text.INTRO}</p>", elem_id="intro")
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(elem_id="controls", min_width=280):
                fields, note = _main_fields()
                with gr.Row(elem_id="actions"):
                    go = gr.Button("Generate", variant="primary", elem_id="generate")
                    stop = gr.Button("Stop", interactive=False, elem_id="stop")
                expected = gr.HTML(elem_id="estimate")
                with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                    fields |= _advanced_fields()
                dropped = gr.File(
                    label=text.RESTORE_LABEL, file_types=[".mp4"], height=112, elem_id="restore", interactive=True
                )
            with gr.Column(elem_id="stage", min_width=280):
                outputs = _outputs()
        outputs |= {"seed": fields["seed"], "go": go, "stop": stop}
        running = _wire_run(run, fields, outputs)
        _wire_help(fields, note)
        _wire_restore(fields, dropped)
        _wire_estimate(page, running, meter, fields, expected)
        gr.api(
            api_endpoint(run),
            api_name="generate",
            api_description=text.API_DESCRIPTION,
            concurrency_id=_QUEUE,
            concurrency_limit=1,
        )
        gr.api(estimate_endpoint(run, meter), api_name="estimate", api_description=text.ESTIMATE_DESCRIPTION)
    return page.queue(default_concurrency_limit=1)


def _labels(name: str) -> dict[str, str | None]:
    label, info = text.FIELDS[name]
    return {"label": label, "info": info or None}


def _main_fields() -> tuple[Components, gr.HTML]:
    """The fields that everyone needs, and the line under the prompt."""
    model = MODELS["embedded"]
    prompt = gr.Textbox(EXAMPLES[0], lines=2, max_lines=8, elem_id="prompt", **_labels("prompt"))
    note = gr.HTML(handlers.prompt_note(EXAMPLES[0], model.name), elem_id="prompt-note")
    with gr.Column(elem_id="examples"):
        # Buttons, because gr.Examples cuts what is longer than 60 letters.
        for example in EXAMPLES[:4]:
            button = gr.Button(example, size="sm")
            button.click(None, None, prompt, js=f"() => {json.dumps(example)}", api_visibility="private")
    fields: Components = {
        "prompt": prompt,
        "model": gr.Dropdown(handlers.model_choices(), value=model.name, filterable=False, **_labels("model")),
        "resolution": gr.Dropdown(
            handlers.resolution_choices(model),
            value=handlers.default_resolution(model),
            allow_custom_value=True,
            **_labels("resolution"),
        ),
        "quality": gr.Radio(
            [(label, name) for name, label in LABELS.items()],
            value="balanced",
            label=text.FIELDS["quality"][0],
            info=quality_info(model),
            elem_id="quality",
        ),
    }
    with gr.Row(elem_id="seed"):
        fields["seed"] = gr.Number(1, precision=0, minimum=0, maximum=MAX_SEED, min_width=100, **_labels("seed"))
        fields["randomize"] = gr.Checkbox(False, container=False, min_width=100, **_labels("randomize"))
    return fields, note


def _advanced_fields() -> Components:
    """Everything else, at the embedded model's defaults."""
    d = handlers.defaults("embedded")

    def slider(name: str, low: float, high: float, step: float, value: float | None) -> gr.Slider:
        return gr.Slider(low, high, value=value, step=step, **_labels(name))

    def optional(name: str, default: Any) -> gr.Textbox:
        return gr.Textbox(placeholder=handlers.placeholder(default), max_lines=1, **_labels(name))

    return {
        "frames": slider("frames", 1, 161, 4, d.num_frames),
        "steps": slider("steps", 1, 100, 1, d.steps),
        "strength": slider("strength", 0, 1, 0.05, d.strength),
        "guidance_scale": slider("guidance_scale", 1, 15, 0.5, d.guidance_scale),
        "flow_shift": slider("flow_shift", 1, 20, 0.5, d.flow_shift),
        "negative_prompt": gr.Textbox(d.negative_prompt, lines=2, max_lines=6, **_labels("negative_prompt")),
        "guide": gr.Dropdown(list(text.GUIDES), value=d.guide, filterable=False, **_labels("guide")),
        "override": gr.Dropdown(list(text.OVERRIDES), value=d.override, filterable=False, **_labels("override")),
        "refresh_interval": slider("refresh_interval", 1, 10, 1, d.refresh_interval),
        "refresh_until": slider("refresh_until", 0.05, 1, 0.05, d.refresh_until),
        "guide_unconditional": gr.Checkbox(d.guide_unconditional, **_labels("guide_unconditional")),
        "window": gr.Textbox(placeholder=handlers.placeholder(d.window), max_lines=1, **_labels("window")),
        "query_tile": gr.Textbox(placeholder=handlers.placeholder(d.query_tile), max_lines=1, **_labels("query_tile")),
        "logit_scale": gr.Textbox(
            placeholder=handlers.placeholder(d.logit_scale), max_lines=1, **_labels("logit_scale")
        ),
        "naive_mode": gr.Dropdown(
            list(text.NAIVE_MODES), value=d.naive_mode, filterable=False, **_labels("naive_mode")
        ),
    }


def _outputs() -> dict[str, gr.components.Component]:
    """The right-hand side: status, the comparison, each video alone, the details."""
    outputs: Components = {"status": gr.HTML(status_html(None), elem_id="status")}

    def player(name: Literal["freeswim", "naive", "base"]) -> gr.Video:
        return gr.Video(
            label=_LABELS[name],
            interactive=False,
            autoplay=True,
            loop=True,
            buttons=["download"],
            elem_id=f"{name}-video",
            elem_classes="player",
        )

    with gr.Tabs(elem_id="videos"):
        with gr.Tab("Compare"):
            outputs["comparison"] = ComparePlayer(elem_id="comparison")
        with gr.Tab("FreeSwim"):
            outputs["freeswim"] = player("freeswim")
        with gr.Tab("Naive"):
            outputs["naive"] = player("naive")
        with gr.Tab("Native"):
            outputs["base"] = player("base")
            gr.HTML(f"<p>{text.NATIVE_TEXT}</p>", elem_id="native-text")
    with gr.Accordion("Details of the run", open=False, elem_id="details"):
        outputs["details"] = gr.JSON(label="Details", show_label=False)
    return outputs


def _show(name: str, value: Any) -> Any:
    """A handler's value as an update of the output called `name`."""
    if name in _LABELS:
        clip: Clip | None = value
        if clip is None:
            return gr.Video(value=None, label=_LABELS[name])
        return gr.Video(value=clip.path, label=f"{_LABELS[name]}, {text.size_label(clip.width, clip.height)}")
    return value


def _wire_run(run: handlers.Run, fields: Components, outputs: dict[str, gr.components.Component]) -> Any:
    """Generate and Stop. Returns the event of the run."""
    names = [name for name in outputs if name not in ("go", "stop")]
    inputs = list(fields.values())

    def run_form(*values: Any) -> Iterator[dict[gr.components.Component, Any]]:
        form = dict(zip(fields, values, strict=True))
        clips: dict[str, Clip | None] = {}
        for change in handlers.run_form(run, form):
            if not _LABELS.keys().isdisjoint(change):
                clips |= {name: change[name] for name in _LABELS if name in change}
                change["comparison"] = handlers.comparison(clips, form["resolution"])
            update = {outputs[name]: _show(name, change[name]) for name in names if name in change}
            if "running" in change:
                update |= {
                    outputs["go"]: gr.Button(interactive=not change["running"]),
                    outputs["stop"]: gr.Button(interactive=change["running"]),
                }
            yield update

    def validate(*values: Any) -> list[dict[str, Any]]:
        problems = handlers.check_form(dict(zip(fields, values, strict=True)))
        return [gr.validate(name not in problems, problems.get(name, "")) for name in fields]

    def stopped() -> dict[gr.components.Component, Any]:
        message = "What was finished is kept."
        return {
            outputs["status"]: status_html(Status(state="stopped", message=message)),
            outputs["go"]: gr.Button(interactive=True),
            outputs["stop"]: gr.Button(interactive=False),
        }

    go = outputs["go"]
    go.click(None, js=_ONE_CLICK, api_visibility="private")
    running = go.click(
        run_form,
        inputs,
        list(outputs.values()),
        validator=validate,
        show_progress="hidden",
        concurrency_id=_QUEUE,
        concurrency_limit=1,
        trigger_mode="multiple",  # "once" would swallow a click soon after Stop
        api_visibility="private",
    )
    outputs["stop"].click(
        stopped,
        None,
        [outputs["status"], go, outputs["stop"]],
        cancels=[running],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return running


def _wire_estimate(page: gr.Blocks, running: Any, meter: Meter, fields: Components, note: gr.HTML) -> None:
    """The expected time and memory: at the start, after every change, and after a run, which taught it something."""

    def show(*values: Any) -> str:
        return handlers.estimate_note(meter, dict(zip(fields, values, strict=True)))

    # The seed and the words cost nothing, and a quality shows in the fields that it sets.
    free = ("prompt", "negative_prompt", "seed", "randomize", "quality")
    changes = [field.change for name, field in fields.items() if name not in free]
    inputs = list(fields.values())
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    gr.on([page.load, *changes], show, inputs, note, trigger_mode="always_last", **quiet)
    running.then(show, inputs, note, **quiet)


def _wire_help(fields: Components, note: gr.HTML) -> None:
    """What reacts while the form is filled in: the line under the prompt, and a newly chosen model's defaults."""
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    prompt, model = fields["prompt"], fields["model"]
    prompt.change(handlers.prompt_note, [prompt, model], note, trigger_mode="always_last", **quiet)

    changed = [name for name in fields if name not in ("prompt", "model", "seed", "randomize")]

    def choose_model(name: str, prompt: str) -> list[Any]:
        d = handlers.defaults(name).to_dict()
        updates: list[Any] = [handlers.prompt_note(prompt, name)]
        for field in changed:
            if field == "resolution":
                base = MODELS[name]
                choices = handlers.resolution_choices(base)
                updates.append(gr.Dropdown(choices=choices, value=handlers.default_resolution(base)))
            elif field == "quality":
                updates.append(gr.Radio(value="balanced", info=quality_info(MODELS[name])))
            elif field in handlers.OPTIONAL:  # empty is the default, which the placeholder shows
                updates.append(gr.Textbox(value="", placeholder=handlers.placeholder(d[field])))
            else:
                updates.append(d["num_frames" if field == "frames" else field])
        return updates

    def choose_quality(name: str, quality: str) -> list[int]:
        return list(quality_values(MODELS[name], quality).values())

    settings = [fields[name] for name in ("steps", "frames", "refresh_interval")]
    fields["quality"].input(choose_quality, [model, fields["quality"]], settings, **quiet)
    # input, not change: a video's settings choose a model too, and bring their own values
    model.input(choose_model, [model, prompt], [note, *(fields[name] for name in changed)], **quiet)


def _wire_restore(fields: Components, dropped: gr.File) -> None:
    """A video dropped onto the page brings its settings back into the form."""

    def restore(path: str) -> dict[gr.components.Component, Any]:
        try:
            values = handlers.restored(path)
        except (ValueError, TypeError) as error:
            gr.Warning(str(error))
            return {dropped: None}
        gr.Info(text.RESTORED)
        # No longer one of the qualities, and the seed is to be used as it is.
        values |= {"quality": None, "randomize": False}
        return {fields[name]: value for name, value in values.items()} | {dropped: None}

    # Queued, in a queue of its own: messages reach the page from there only.
    dropped.upload(restore, dropped, [*fields.values(), dropped], show_progress="hidden", api_visibility="private")


def api_endpoint(run: handlers.Run) -> Callable[..., Iterator[Any]]:
    """The function behind /generate: every setting as a keyword argument, None meaning the model's own default."""

    def generate(
        prompt: str,
        negative_prompt: str | None = None,
        model: str = "embedded",
        resolution: str | None = None,
        seed: int = 1,
        steps: int | None = None,
        strength: float | None = None,
        guidance_scale: float | None = None,
        flow_shift: float | None = None,
        frames: int | None = None,
        quality: str | None = None,
        guide: str | None = None,
        override: str | None = None,
        refresh_interval: int | None = None,
        refresh_until: float | None = None,
        guide_unconditional: bool | None = None,
        window: str | None = None,
        query_tile: str | None = None,
        logit_scale: float | None = None,
        naive_mode: str = "clipped",
        compare: bool = True,
    ) -> Iterator[Any]:
        yield from handlers.run_api(run, {name: value for name, value in locals().items() if name != "run"})

    # gradio reads the outputs off the return annotation, which for a generator would be one Iterator. A client gets
    # the files' paths.
    generate.__signature__ = inspect.signature(generate).replace(  # type: ignore[attr-defined]
        return_annotation=tuple[str, str, str, dict]
    )
    return generate


def estimate_endpoint(run: handlers.Run, meter: Meter) -> Callable[..., dict]:
    """The function behind /estimate: takes what /generate takes."""
    generate = api_endpoint(run)
    signature = inspect.signature(generate)

    def estimate(*args: Any, **values: Any) -> dict:
        bound = signature.bind(*args, **values)
        bound.apply_defaults()
        return handlers.estimate_api(meter, bound.arguments)

    estimate.__signature__ = signature.replace(return_annotation=dict)  # type: ignore[attr-defined]
    estimate.__annotations__ = {**generate.__annotations__, "return": dict}
    return estimate
