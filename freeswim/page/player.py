"""One player for two videos: naive windows left of a wipe handle, FreeSwim right of it, frame for frame in step.

    player = ComparePlayer(label="Comparison", elem_id="comparison")
    ...
    def handler():
        yield ComparisonValue(width=512, height=288)  # nothing yet, but the box already has its shape
        yield ComparisonValue(right="freeswim.mp4", base="native.mp4", fps=16, width=512, height=288)
        yield ComparisonValue(right="freeswim.mp4", left="naive.mp4", base="native.mp4", fps=16, width=512, height=288)

    button.click(handler, None, player)

Send a whole value each time: a video whose file stays the same is not loaded again and goes on playing. What is missing
is left out: one video is shown alone, none gives the placeholder. While the left video is missing, `base` takes its
side; with both, a switch appears. The markup is static, so the script in player*.js runs once per component and reads
every new value itself.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.data_classes import FileData, GradioModel

from freeswim.page.component import OwnComponent
from freeswim.page.text import FREESWIM_LABEL, NAIVE_LABEL

PathLike = str | os.PathLike[str]

NATIVE_ENLARGED_LABEL = "Native, enlarged"
PLACEHOLDER = "Naive windows and FreeSwim will play here side by side, with a handle to wipe between them."


@dataclass(frozen=True, kw_only=True)
class ComparisonValue:
    """What the player shows: paths of mp4 files of the same length, their frames per second and the large ones' size.

    `left` (naive) and `right` (FreeSwim) have the same size, `width` x `height` pixels; `base` (native) may be smaller
    and is stretched to it. None: not there. `fps` must be the files' own, or a step would not be one frame.
    """

    left: PathLike | None = None
    right: PathLike | None = None
    base: PathLike | None = None
    left_label: str = NAIVE_LABEL
    right_label: str = FREESWIM_LABEL
    base_label: str = NATIVE_ENLARGED_LABEL
    fps: float = 16.0
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fps < float("inf"):
            raise ValueError(f"fps={self.fps} must be a positive number of frames per second")
        sides = (self.width, self.height)
        if sides != (None, None) and not all(side is not None and side > 0 for side in sides):
            raise ValueError(f"width={self.width} and height={self.height} must be given together, in pixels")


class ComparisonData(GradioModel):
    """A ComparisonValue as it travels: gradio moves the files into its cache and gives each a url."""

    left: FileData | None = None
    right: FileData | None = None
    base: FileData | None = None
    left_label: str = NAIVE_LABEL
    right_label: str = FREESWIM_LABEL
    base_label: str = NATIVE_ENLARGED_LABEL
    fps: float = 16.0
    width: int | None = None
    height: int | None = None


_FILES = ("left", "right", "base")


class ComparePlayer(OwnComponent):
    """The component. Its value is a ComparisonValue or None, both as an output and as an input."""

    data_model = ComparisonData

    def __init__(
        self,
        value: ComparisonValue | None = None,
        *,
        label: str = "Comparison",
        placeholder: str = PLACEHOLDER,
        scale: int | None = None,
        min_width: int | None = None,
        visible: bool = True,
        elem_id: str | None = None,
        elem_classes: list[str] | str | None = None,
        render: bool = True,
        **props: Any,
    ) -> None:
        """`label` names the player for screen readers; `placeholder` stands in it while there is no video."""
        super().__init__(
            value,
            label=label,
            placeholder=placeholder,
            scale=scale,
            min_width=min_width,
            visible=visible,
            elem_id=elem_id,
            elem_classes=elem_classes,
            render=render,
            markup=MARKUP,
            css="player.css",
            scripts=("player.js", "player_time.js", "player_screen.js", "player_input.js"),
            **props,
        )
        self.placeholder = placeholder

    def preprocess(self, payload: ComparisonData | None) -> ComparisonValue | None:
        """The shown value with the paths of the cached files."""
        if payload is None:
            return None
        fields = {name: getattr(payload, name) for name in ComparisonData.model_fields}
        fields |= {name: fields[name].path for name in _FILES if fields[name] is not None}
        return ComparisonValue(**fields)

    def postprocess(self, value: ComparisonValue | None) -> ComparisonData | None:
        """The value with its files as FileData, which gradio copies to its cache and serves."""
        if value is None:
            return None
        if not isinstance(value, ComparisonValue):
            raise ValueError(f"ComparePlayer shows a ComparisonValue or None, not {type(value).__name__}")
        fields = {name: getattr(value, name) for name in ComparisonData.model_fields}
        for name in _FILES:
            if fields[name] is not None:
                path = Path(fields[name])
                if not path.is_file():
                    raise ValueError(f"{name}={str(path)!r} is no file")
                fields[name] = FileData(path=str(path), orig_name=path.name, mime_type="video/mp4")
        return ComparisonData(**fields)


def _icon(*paths: str, part: str = "") -> str:
    drawn = "".join(f'<path d="{path}"/>' for path in paths)
    return f'<svg class="{part}" viewBox="0 0 24 24" aria-hidden="true" focusable="false">{drawn}</svg>'


def _button(part: str, label: str, icon: str, keys: str = "", *, pressed: str = "") -> str:
    state = f' aria-pressed="{pressed}"' if pressed else ""
    shortcut = f' aria-keyshortcuts="{keys}"' if keys else ""
    names = f'data-part="{part}" aria-label="{label}" title="{label}"'
    return f'<button type="button" {names}{shortcut}{state}>{icon}</button>'


# gradio reads this as a template: no backtick, no backslash and no dollar sign or doubled brace may stand in it.
MARKUP = f"""
<section class="compare" data-state="empty" role="region" tabindex="-1">
  <div class="screen" data-part="screen">
    <video data-part="right" muted playsinline preload="auto" tabindex="-1"></video>
    <video data-part="left" muted playsinline preload="auto" tabindex="-1"></video>
    <video data-part="base" muted playsinline preload="auto" tabindex="-1"></video>
    <span class="tag" data-part="left-tag"></span>
    <span class="tag" data-part="right-tag"></span>
    <div class="handle" data-part="handle" role="slider" tabindex="0" aria-label="Wipe" aria-orientation="horizontal"
      aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"><i>{_icon("M9 7l-5 5 5 5", "M15 7l5 5-5 5")}</i></div>
    <canvas data-part="loupe" aria-hidden="true" hidden></canvas>
    <button type="button" class="zoom" data-part="zoom" aria-keyshortcuts="z" hidden></button>
    <div class="empty" data-part="empty"><i></i><p></p></div>
    <div class="trouble" data-part="trouble" hidden><p role="alert"></p>
      <button type="button" data-part="retry">Try again</button></div>
  </div>
  <div class="bar">
    <div class="transport" role="group" aria-label="Playback">
      {
    _button(
        "play",
        "Play",
        _icon("M8 5.5v13l10.5-6.5z", part="to-play") + _icon("M8 5.5v13", "M16 5.5v13", part="to-pause"),
        "Space",
    )
}
      {_button("back", "One frame back", _icon("M17 6l-7 6 7 6z", "M7 6v12"), ",")}
      {_button("forward", "One frame on", _icon("M7 6l7 6-7 6z", "M17 6v12"), ".")}
      <input type="range" data-part="time" min="0" max="0" step="1" value="0" aria-label="Frame">
      <output data-part="count">0 / 0</output>
    </div>
    <div class="tools">
      <div class="sides" role="radiogroup" aria-label="On the left" data-part="sides">
        <label><input type="radio" data-part="choose-left" value="left"><span>{NAIVE_LABEL}</span></label>
        <label><input type="radio" data-part="choose-base" value="base"><span>{NATIVE_ENLARGED_LABEL}</span></label>
      </div>
      {
    _button(
        "loop",
        "Repeat",
        _icon("M5 12V10a3 3 0 0 1 3-3h10", "M15 4l3 3-3 3", "M19 12v2a3 3 0 0 1-3 3H6", "M9 20l-3-3 3-3"),
        pressed="true",
    )
}
      {_button("lens", "Lens", _icon("M10.5 4.5a6 6 0 1 1 0 12a6 6 0 1 1 0-12z", "M15 15l5 5"), "l", pressed="false")}
      {
    _button(
        "full",
        "Full screen",
        _icon("M9 4H4v5", "M15 4h5v5", "M9 20H4v-5", "M15 20h5v-5"),
        "f",
        pressed="false",
    )
}
    </div>
  </div>
  <p class="keys" aria-hidden="true"><span>Drag or <kbd>←</kbd> <kbd>→</kbd> wipe</span>
  <span><kbd>Space</kbd> play</span> <span><kbd>,</kbd> <kbd>.</kbd> one frame</span> <span><kbd>L</kbd> lens</span>
  <span><kbd>F</kbd> full screen</span></p>
</section>
"""
