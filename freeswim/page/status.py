"""The status card: what the run is doing, as HTML of one fixed height."""

from dataclasses import dataclass
from html import escape
from typing import Literal

# Shown for the pipeline's stage names; a stage that is not listed shows under its own name.
_STAGES = {
    "load": "Loading the model",
    "prompt": "Reading the prompt",
    "native": "Native video",
    "decode native": "Decoding the native video",
    "encode": "Enlarging the native video",
    "freeswim": "FreeSwim",
    "decode freeswim": "Decoding FreeSwim",
    "naive": "Naive windows",
    "decode naive": "Decoding naive windows",
}


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands. Times in seconds, for the whole run; `remaining` is None while there is no estimate.

    While it waits for others, `place` is its place among those who wait and `remaining` the time until it begins.
    """

    state: Literal["waiting", "running", "done", "stopped", "failed"]
    stage: str = ""
    step: int = 0
    total: int = 0
    elapsed: float = 0.0
    remaining: float | None = None
    message: str = ""
    place: int = 0

    @property
    def ended(self) -> bool:
        return self.state not in ("waiting", "running")

    @property
    def fraction(self) -> float:
        """Share of the whole run that is done, 0..1."""
        if self.state == "done":
            return 1.0
        if self.state == "waiting" or self.remaining is None or self.elapsed + self.remaining <= 0:
            return 0.0
        return self.elapsed / (self.elapsed + self.remaining)


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def stage_name(stage: str) -> str:
    """A stage's name as people read it."""
    return _STAGES.get(stage, stage.capitalize())


def status_html(status: Status | None) -> str:
    """The card's inside for a run, or for the idle page (None)."""
    if status is None:
        return _card("idle", "Ready", "Three videos appear below, one after another.", "", 0.0)
    if status.state == "waiting":
        ahead = "You are next" if status.place <= 1 else f"You are number {status.place} in line"
        wait = "" if status.remaining is None else f"begins in about {clock(status.remaining)}"
        return _card("waiting", "Waiting", f"{ahead}. One video is made at a time.", wait, 0.0)
    if status.state == "running":
        headline = stage_name(status.stage) if status.stage else "Starting"
        note = f"step {status.step} of {status.total}" if status.total > 1 else ""
        left = "" if status.remaining is None else f" · about {clock(status.remaining)} left"
        return _card("running", headline, note, f"{clock(status.elapsed)} elapsed{left}", status.fraction)
    headline = {"done": "Done", "stopped": "Stopped", "failed": "It did not work"}[status.state]
    took = f"{clock(status.elapsed)} in all" if status.elapsed else ""
    return _card(status.state, headline, status.message, took, status.fraction)


def _card(state: str, headline: str, note: str, times: str, fraction: float) -> str:
    percent = round(100 * min(1.0, max(0.0, fraction)))
    # Only the headline is announced by screen readers: a changing second hand would be read out for minutes.
    return (
        f'<div class="status {state}">'
        f'<p><strong role="{"alert" if state == "failed" else "status"}">{escape(headline)}</strong>'
        f"<span>{escape(note)}</span><time>{escape(times)}</time></p>"
        f'<div class="bar" role="progressbar" aria-label="Progress of the run" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{100 * fraction:.1f}%"></i></div></div>'
    )


def preview_html(picture: str, *, inset: bool) -> str:
    """The video so far (an image's data URL): over the whole player, or in its corner while it shows a video."""
    if not picture:
        return ""
    image = f'<img src="{escape(picture)}" alt="The video so far, a small and rough look">'
    # Two kinds of element: one that only changed its class would count as something that jumps.
    return f'<span class="inset">{image}</span>' if inset else f'<div class="whole">{image}</div>'


def look_html(line: str) -> str:
    """The line that says what to look for."""
    return f"<p><b>Look for</b> {escape(line)}</p>" if line else ""
