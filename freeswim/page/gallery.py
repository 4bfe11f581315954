"""This browser's recent runs: posters to click, kept by the browser itself and there again after a reload.

    gallery = Gallery(elem_id="gallery")
    ...
    def handler():  # at the end of a run
        yield GalleryEntry(run="freeswim-a1b2", poster=data_url, settings=settings, comparison=comparison_value)

    generate.click(handler, None, gallery)

    def restore(event: gr.EventData):  # any run was opened: event.settings and event.look are what the entry was given
        return form_values(event.settings)  # from the visitor's browser: validate it like a dropped file

    gallery.select(restore, None, fields)
    # the opened run's videos are still on the server: show them, without asking the server
    gallery.input(None, gallery, player, js=SHOW_COMPARISON)
    # or, with gr.Video components for each alone
    gallery.input(None, gallery, [player, freeswim_video, naive_video, base_video], js=SHOW_ALL)

Each value sent is one more run; None leaves the list as it is. A run with the same `run` takes the earlier one's place,
so a stopped or a growing run may be sent more than once. Opening a run whose videos the server has deleted gives
`select` alone. Nothing that the browser says about files reaches the server: it only looks whether a url still answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradio.data_classes import GradioModel

from freeswim.page.component import OwnComponent
from freeswim.page.player import ComparePlayer, ComparisonData, ComparisonValue

LIMIT = 24  # runs that are kept; a browser gives a page about 5 MB, and a run with its poster takes 10 to 30 kB
LARGEST_POSTER = 120_000  # letters of a poster's data URL
EMPTY = "Your runs will be listed here, in this browser only."

SHOW_COMPARISON = "(runs) => runs.chosen.comparison"
SHOW_ALL = """(runs) => {
    const shown = runs.chosen.comparison;
    return [shown, shown.right, shown.left, shown.base];
}"""

_NEEDED = ("prompt", "width", "height", "seed")


@dataclass(frozen=True, kw_only=True)
class GalleryEntry:
    """One run: its videos as the player shows them, a small picture, and the settings to get it again.

    `run` tells runs apart. `poster` is a data URL of a picture (JPEG, about 320 pixels wide), or empty. `settings` is
    JSON-ready and holds at least prompt, width, height and seed: what is written beside the poster. `look` is the line
    that says what to look for.
    """

    run: str
    poster: str
    settings: Mapping[str, Any]
    comparison: ComparisonValue
    look: str = ""

    def __post_init__(self) -> None:
        missing = [name for name in _NEEDED if name not in self.settings]
        if missing:
            raise ValueError(f"settings of the run {self.run!r} lack {', '.join(missing)}")
        if self.poster and not self.poster.startswith("data:image/"):
            raise ValueError(f"poster={self.poster[:40]!r} is no data URL of a picture")
        if len(self.poster) > LARGEST_POSTER:
            raise ValueError(
                f"poster of {len(self.poster)} letters: more than {LARGEST_POSTER} fill a browser's storage"
            )


class EntryData(GradioModel):
    """A GalleryEntry as it travels and as the browser keeps it."""

    run: str
    poster: str
    settings: dict[str, Any]
    comparison: ComparisonData
    look: str = ""


class GalleryData(GradioModel):
    """To the browser goes `entry`, a new run; `chosen`, the run that was opened, stays in the browser."""

    entry: EntryData | None = None
    chosen: EntryData | None = None


class Gallery(OwnComponent):
    """The component. As an output it takes a GalleryEntry or None; to a Python function it gives None."""

    data_model = GalleryData

    def __init__(
        self,
        *,
        label: str = "Recent runs",
        placeholder: str = EMPTY,
        limit: int = LIMIT,
        storage_key: str = "freeswim.runs",
        scale: int | None = None,
        min_width: int | None = None,
        visible: bool = True,
        elem_id: str | None = None,
        elem_classes: list[str] | str | None = None,
        render: bool = True,
        **props: Any,
    ) -> None:
        """`limit` runs are kept, the oldest go first; `storage_key` names the list in the browser's storage."""
        props.pop("value", None)  # of a config made into a component again (gr.load, the reloader)
        super().__init__(
            None,
            label=label,
            placeholder=placeholder,
            limit=limit,
            storage_key=storage_key,
            scale=scale,
            min_width=min_width,
            visible=visible,
            elem_id=elem_id,
            elem_classes=elem_classes,
            render=render,
            markup=MARKUP,
            css="gallery.css",
            scripts=("gallery.js",),
            **props,
        )
        # gr.HTML takes any name it does not know for an event, and would put a listener into the page's configuration.
        self.placeholder, self.limit, self.storage_key = placeholder, limit, storage_key
        self._player = ComparePlayer(render=False)

    def preprocess(self, payload: GalleryData | None) -> None:
        """Nothing: files that a browser names are not the server's business."""

    def postprocess(self, value: GalleryEntry | None) -> GalleryData | None:
        """The new run, its files as FileData, which gradio copies to its cache and serves."""
        if value is None:
            return None
        if not isinstance(value, GalleryEntry):
            raise ValueError(f"Gallery takes a GalleryEntry or None, not {type(value).__name__}")
        comparison = self._player.postprocess(value.comparison)
        assert comparison is not None
        entry = EntryData(
            run=value.run, poster=value.poster, settings=dict(value.settings), comparison=comparison, look=value.look
        )
        return GalleryData(entry=entry)


# gradio reads this as a template: no backtick, no backslash and no dollar sign or doubled brace may stand in it.
MARKUP = """
<section class="runs" role="region">
  <header>
    <h2 data-part="title" tabindex="-1"></h2>
    <span data-part="said" role="status"></span>
    <button type="button" class="clear" data-part="clear" hidden>Clear all</button>
  </header>
  <p class="none" data-part="none"></p>
  <ul data-part="list"></ul>
</section>
"""
