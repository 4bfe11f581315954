"""The page's components by name, and what the events of all of them share."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from freeswim.page import advanced

Updates = dict[gr.components.Component, Any]

# Visitors of the page all get past gradio's own queue, which could not tell them their place: the line of visitors
# (freeswim.page.line) lets them through one by one. Scripts come into that line one at a time, since gradio, told to
# cancel one of a script's jobs, cuts off all of them that it has begun.
QUEUE: dict[str, Any] = {"concurrency_id": "runs", "concurrency_limit": 20}
SCRIPTS = "scripts"

# Of an event that answers at once, and of one that may show a message, which travels by the queue only.
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
MESSAGES: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


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
