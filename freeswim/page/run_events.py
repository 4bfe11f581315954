"""The events of runs: Generate, "same, larger", "use this seed again", Stop, and the expected time beside them."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from freeswim.page import advanced, handlers, runs, text
from freeswim.page.limits import Gate
from freeswim.page.parts import QUEUE, QUIET, Parts, Updates
from freeswim.page.runner import Clip, Run
from freeswim.page.status import status_html
from freeswim.page.stops import Stops

# Until the button is disabled by the run itself, a double click must not ask for two runs. Phones go to the result.
_ONE_CLICK = """() => {
    for (const id of ["generate", "larger"]) {
        const button = document.querySelector("#" + id);
        button.style.pointerEvents = "none";
        setTimeout(() => { button.style.pointerEvents = ""; }, 800);
    }
    // In one column, or further down, the result would come out of sight.
    const stage = document.querySelector("#stage");
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (innerWidth > 900 && stage.getBoundingClientRect().top >= 0) return;
    stage.scrollIntoView({behavior: calm ? "auto" : "smooth"});
}"""


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
            update |= after(parts, last, running=change.get("running", True))
        yield update


def _buttons(parts: Parts, *, running: bool) -> Updates:
    off = {"larger": gr.Button(interactive=False)} if running else {}
    return {
        parts.helpers["go"]: gr.Button(interactive=not running),
        parts.helpers["stop"]: gr.Button(interactive=running),
    } | {parts.outputs[name]: button for name, button in off.items()}


def after(parts: Parts, last: runs.Last, *, running: bool) -> Updates:
    """The buttons that go on from a run."""
    size = last.next_size
    label = "Same, larger" if size is None else f"Same, larger: {text.size_label(*map(int, size.split('x')))}"
    return {
        parts.outputs["larger"]: gr.Button(label, interactive=size is not None and not running),
        parts.outputs["again"]: gr.Button(interactive=True),
    }


def wire_runs(run: Run, gate: Gate, parts: Parts) -> list[Any]:
    """Generate, "same, larger", "use this seed again" and Stop. Returns the events of runs."""
    fields, outputs, helpers = parts.fields, parts.outputs, parts.helpers
    last = outputs["last"]
    changed = [*outputs.values(), fields["seed"], helpers["go"], helpers["stop"]]

    stops = Stops()

    def run_form(visitor: gr.Request, *values: Any) -> Iterator[Updates]:
        form = parts.form(values)
        mine = stops.wrap(run, str(visitor.session_hash))
        yield from _shown(parts, runs.run_form(mine, form, gate), own=form["mode"] == "own")

    def run_larger(visitor: gr.Request, before: runs.Last | None) -> Iterator[Updates]:
        own = before is not None and before.source is not None and before.source.own is not None
        mine = stops.wrap(run, str(visitor.session_hash))
        yield from _shown(parts, runs.run_larger(mine, before, gate), own=own)

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

    def stop(visitor: gr.Request) -> Updates:
        if stops.ask(str(visitor.session_hash)):  # the run itself says the rest
            return {helpers["stop"]: gr.Button(interactive=False)}
        return {outputs["status"]: status_html(None), **_buttons(parts, running=False)}

    helpers["stop"].click(stop, None, [outputs["status"], helpers["go"], helpers["stop"]], **QUIET)

    def use_seed(before: runs.Last | None) -> Updates:
        if before is None:
            return {fields["seed"]: gr.skip()}
        return {fields["seed"]: before.request.seed, fields["randomize"]: False}

    outputs["again"].click(use_seed, last, [fields["seed"], fields["randomize"]], **QUIET)
    return running


def wire_estimate(page: gr.Blocks, running: list[Any], gate: Gate, parts: Parts) -> None:
    """The expected time and memory: at the start, after every change, and after a run, which taught it something."""

    def show(*values: Any) -> str:
        return handlers.estimate_note(gate, parts.form(values))

    # The seed and the words cost nothing, and a quality shows in the fields that it sets.
    free = ("prompt", "negative_prompt", "quality", "clip", "seed", "randomize")
    changes = [component.change for name, component in parts.fields.items() if name not in free]
    note = parts.helpers["expected"]
    gr.on([page.load, *changes], show, parts.inputs, note, trigger_mode="always_last", **QUIET)
    for event in running:
        event.then(show, parts.inputs, note, **QUIET)
