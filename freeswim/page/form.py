"""The page itself: what stands where. What happens on each event is in freeswim.page.events."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import gradio as gr

from freeswim.cost import Meter
from freeswim.embedded import EXAMPLES
from freeswim.models import MODELS, BaseModel
from freeswim.page import advanced, handlers, runs, sample, text
from freeswim.page.api import add_endpoints
from freeswim.page.events import wire
from freeswim.page.gallery import Gallery
from freeswim.page.limits import Gate
from freeswim.page.line import Line
from freeswim.page.parts import Parts
from freeswim.page.player import ComparePlayer
from freeswim.page.quality import LABELS, Quality, quality_info
from freeswim.page.runner import Run, Runner
from freeswim.page.source import Source, plan_of
from freeswim.page.status import status_html
from freeswim.request import MAX_SEED, Request

_MOST_WAITING = 64

RUN_CSS = Path(__file__).with_name("run.css")

Components = dict[str, gr.components.Component]


def build_page(
    runner: Runner,
    *,
    gate: Gate | None = None,
    gpu: Callable[[Run, Meter], Run] = lambda run, meter: run,
    places: int = 1,
) -> gr.Blocks:
    """The whole page and its API endpoints.

    gate: what this device can take. gpu: wraps what needs the device (ZeroGPU's decorator). places: runs at a time.
    """
    gate = gate or Gate(Meter())
    meter = gate.meter

    def expected(request: Request, source: Source | None = None) -> float:
        return meter.estimate(plan_of(request, source)).seconds

    run = Line(places).wrap(runs.metered(gpu(runner.run, meter), meter), expected)
    with gr.Blocks(
        title=text.TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, 24 * 3600),  # seconds: how often to look, how old a video may get
    ) as page:
        to_stage = f'<a href="#stage">{text.TO_STAGE}</a>'  # shown where the stage is below the form
        gr.HTML(f"<h1>{text.TITLE}</h1><p>{text.INTRO}</p>{to_stage}", elem_id="intro")
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(elem_id="controls", min_width=280):
                parts = _controls(MODELS[handlers.best_model()], gate)
            with gr.Column(elem_id="stage", min_width=280):
                parts.outputs = _outputs()
        wire(page, run, gate, parts)
        add_endpoints(run, gate, places=places)
    # Said outright, because on ZeroGPU the default is to let nobody wait.
    return page.queue(default_concurrency_limit=1, max_size=_MOST_WAITING)


def labels(name: str) -> dict[str, str | None]:
    """Label and explanation of a field, for its component."""
    label, info = text.FIELDS[name]
    return {"label": label, "info": info or None}


def _controls(model: BaseModel, gate: Gate) -> Parts:
    """The left-hand side: the form, at what `model` begins with here."""
    resolution, quality = gate.start(model)
    tabs, fields, helpers = _mode(model)
    more, notes = _main_fields(model, resolution, quality)
    fields |= more
    helpers |= notes
    with gr.Row(elem_id="actions"):
        helpers["go"] = gr.Button("Generate", variant="primary", elem_id="generate")
        helpers["stop"] = gr.Button("Stop", interactive=False, elem_id="stop")
    helpers["expected"] = gr.HTML(elem_id="estimate")
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        more, notes = _advanced(model, resolution, quality)
    dropped = gr.File(label=text.RESTORE_LABEL, file_types=[".mp4"], height=112, elem_id="restore", interactive=True)
    helpers |= notes | {"dropped": dropped}
    return Parts(fields=fields | more, helpers=helpers, tabs=tabs)


def _mode(model: BaseModel) -> tuple[dict[str, gr.Tab], Components, Components]:
    """A new video or one's own: tabs, fields and helpers."""
    prompt = gr.Textbox(render=False, value=EXAMPLES[0], lines=2, max_lines=8, elem_id="prompt", **labels("prompt"))
    with gr.Tabs(elem_id="mode"):
        with gr.Tab("New video", id="new") as new, gr.Column(elem_id="examples"):
            # Buttons, because gr.Examples cuts what is longer than 60 letters.
            for example in EXAMPLES[:4]:
                button = gr.Button(example, size="sm")
                button.click(None, None, prompt, js=f"() => {json.dumps(example)}", api_visibility="private")
        with gr.Tab("Your own video", id="own") as own:
            clip = gr.Video(sources=["upload"], height=180, elem_id="clip", interactive=True, label=text.CLIP_LABEL)
            clip_note = gr.HTML(text.CLIP_NOTE, elem_id="clip-note")
    prompt.render()
    fields: Components = {"prompt": prompt, "mode": gr.State("new"), "own": gr.State(None), "clip": clip}
    note = gr.HTML(handlers.prompt_note(EXAMPLES[0], model.name), elem_id="prompt-note")
    return {"new": new, "own": own}, fields, {"note": note, "clip_note": clip_note}


def _main_fields(model: BaseModel, resolution: str, quality: Quality) -> tuple[Components, Components]:
    """The fields that everyone needs, and the model whose defaults they show."""
    fields: Components = {
        "model": gr.Dropdown(handlers.model_choices(), value=model.name, filterable=False, **labels("model")),
        "resolution": gr.Dropdown(
            handlers.resolution_choices(model),
            value=resolution,
            allow_custom_value=True,
            **labels("resolution"),
        ),
        "quality": gr.Radio(
            [(label, name) for name, label in LABELS.items()],
            value=quality,
            label=text.FIELDS["quality"][0],
            info=quality_info(model),
            elem_id="quality",
        ),
    }
    with gr.Row(elem_id="seed"):
        fields["seed"] = gr.Number(1, precision=0, minimum=0, maximum=MAX_SEED, min_width=100, **labels("seed"))
        fields["randomize"] = gr.Checkbox(False, container=False, min_width=100, **labels("randomize"))
    return fields, {"known": gr.State(model.name)}


def _advanced(model: BaseModel, resolution: str, quality: Quality) -> tuple[Components, Components]:
    """Everything else, at the model's defaults, with a drawing of the windows."""
    start = advanced.values(model, resolution, quality)
    fields: Components = {}

    def slider(name: str) -> None:
        low, high, step = advanced.RANGES[name]
        fields[name] = gr.Slider(low, high, value=start[name], step=step, **labels(name))

    def choice(name: str, choices: tuple[tuple[str, str], ...]) -> None:
        fields[name] = gr.Dropdown(list(choices), value=start[name], filterable=False, **labels(name))

    def tick(name: str) -> None:
        fields[name] = gr.Checkbox(start[name], **labels(name))

    for name in ("frames", "steps", "strength", "guidance_scale", "flow_shift"):
        slider(name)
    fields["negative_prompt"] = gr.Textbox(start["negative_prompt"], lines=2, max_lines=6, **labels("negative_prompt"))
    shown = {**start, "model": model.name, "resolution": resolution}
    diagram = gr.HTML(advanced.diagram(shown), elem_id="diagram")
    for name in ("window_height", "window_width", "tile_height", "tile_width"):
        slider(name)
    tick("shift_tiles")
    choice("window_mode", text.WINDOW_MODES)
    choice("guide", text.GUIDES)
    choice("override", text.OVERRIDES)
    for name in ("context_until", "anchor_above", "refresh_interval", "refresh_until"):
        slider(name)
    tick("guide_unconditional")
    for name in ("guide_height", "guide_width", "logit_scale"):
        slider(name)
    choice("naive_mode", text.NAIVE_MODES)
    reset = gr.Button("Reset to preset", size="sm", elem_id="reset")
    return fields, {"diagram": diagram, "reset": reset, "auto": gr.State(advanced.automatic(start))}


def _outputs() -> dict[str, gr.components.Component]:
    """The right-hand side: status, the comparison, each video alone, the details. It opens with the sample."""
    shown = sample.load()
    outputs: Components = {"status": gr.HTML(status_html(None), elem_id="status")}

    def player(name: Literal["freeswim", "naive", "base"]) -> gr.Video:
        return gr.Video(
            None if shown is None else str(shown.videos[name]),
            label=text.VIDEO_LABELS[name],
            interactive=False,
            autoplay=True,
            loop=True,
            buttons=["download"],
            elem_id=f"{name}-video",
            elem_classes="player",
        )

    with gr.Tabs(elem_id="videos"):
        with gr.Tab("Compare"), gr.Column(elem_id="screen"):
            outputs["preview"] = gr.HTML(elem_id="preview")
            outputs["comparison"] = ComparePlayer(None if shown is None else shown.comparison, elem_id="comparison")
        with gr.Tab("FreeSwim"):
            outputs["freeswim"] = player("freeswim")
        with gr.Tab("Naive"):
            outputs["naive"] = player("naive")
        with gr.Tab("Native"):
            outputs["base"] = player("base")
            gr.HTML(f"<p>{text.NATIVE_TEXT}</p>", elem_id="native-text")
    outputs["look"] = gr.HTML(shown and shown.look_html, elem_id="look")
    with gr.Row(elem_id="after"):
        outputs["larger"] = gr.Button("Same, larger", interactive=False, size="sm", elem_id="larger")
        outputs["again"] = gr.Button("Use this seed again", interactive=False, size="sm", elem_id="again")
    with gr.Accordion("Details of the run", open=False, elem_id="details"):
        outputs["details"] = gr.JSON(label="Details", show_label=False)
    outputs["entry"] = Gallery(elem_id="gallery")
    outputs["last"] = gr.State(None)
    return outputs
