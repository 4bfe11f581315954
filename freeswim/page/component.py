"""What the page's own components have in common: gr.HTML with markup, style and scripts from files, and typed data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.base import Component

_HERE = Path(__file__).parent
_OWN = ("html_template", "css_template", "js_on_load", "apply_default_css")


class OwnComponent(gr.HTML):
    """A subclass names its `data_model`, and says what it takes and gives."""

    def __init__(self, value: Any, *, markup: str, css: str, scripts: Sequence[str], **props: Any) -> None:
        """markup: static. css, scripts: names of files beside this one; the scripts are one function body, in order."""
        # A config made into a component again (gr.load, the reloader) brings these along.
        for name in _OWN:
            props.pop(name, None)
        super().__init__(
            value,
            html_template=markup,
            css_template=(_HERE / css).read_text(encoding="utf-8"),
            js_on_load="\n".join((_HERE / name).read_text(encoding="utf-8") for name in scripts),
            apply_default_css=False,
            **props,
        )

    def api_info(self) -> dict[str, Any]:
        """The data model's schema; gr.HTML itself would say a string."""
        info: dict[str, Any] = Component.api_info(self)
        return info

    def example_payload(self) -> None:
        """Nothing."""

    def example_value(self) -> None:
        """Nothing."""
