"""The events that bring a run back: a video that is dropped onto the page, and one of the gallery's that is opened."""

from typing import Any

import gradio as gr

from freeswim.models import MODELS
from freeswim.page import advanced, handlers, runs, text
from freeswim.page.gallery import SHOW_ALL
from freeswim.page.parts import MESSAGES, Parts, Updates
from freeswim.page.run_events import after
from freeswim.page.status import look_html

# A video dropped anywhere but on a field of its own brings its settings back.
DROP_ANYWHERE = """() => {
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


def wire_restore(parts: Parts) -> None:
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
    dropped.upload(restore, dropped, [*parts.inputs, helpers["auto"], helpers["known"], dropped], **MESSAGES)


def _filled_in(parts: Parts, values: dict[str, Any]) -> Updates:
    """A run's settings in the form."""
    values = advanced.split(values)
    now = advanced.follow(MODELS[values["model"]], values["resolution"], {})
    # No longer one of the qualities, and the seed is to be used as it is.
    values |= {"quality": None, "randomize": False}
    helpers = {parts.helpers["auto"]: now, parts.helpers["known"]: values["model"]}
    return {parts.fields[name]: value for name, value in values.items()} | helpers


def wire_gallery(parts: Parts) -> None:
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
        look = "" if event.gone else look_html(str(event.look))
        shown = {outputs["last"]: last, outputs["look"]: look, outputs["details"]: settings}
        return _filled_in(parts, values) | shown | after(parts, last, running=False)

    changed = [outputs[name] for name in ("last", "look", "details", "larger", "again")]
    helpers = [parts.helpers["auto"], parts.helpers["known"]]
    gallery.select(restore, None, [*parts.inputs, *helpers, *changed], **MESSAGES)
    videos = [outputs[name] for name in ("comparison", "freeswim", "naive", "base")]
    gallery.input(None, gallery, videos, js=SHOW_ALL, **MESSAGES)
