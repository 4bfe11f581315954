"""A run as the page and the API see it: a form's values in, what to show, step by step, out."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from freeswim.cost import Meter
from freeswim.embedded import unknown_words
from freeswim.own_video import Cut
from freeswim.page.gallery import GalleryEntry
from freeswim.page.handlers import Refused, task_of
from freeswim.page.limits import Gate, larger_size, resized
from freeswim.page.player import ComparisonValue
from freeswim.page.runner import NAMES, Clip, Run, Update
from freeswim.page.source import Source, plan_of
from freeswim.page.status import Status, look_html, preview_html, status_html
from freeswim.page.text import YOUR_VIDEO_LABEL
from freeswim.request import MAX_SEED, Request, Resolved, parse_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Last:
    """What a visitor's latest run was and can be continued from: plain data, kept in the page's session."""

    request: Resolved
    source: Source | None = None  # the visitor's video, or the native one that the run made

    @property
    def next_size(self) -> str | None:
        """The size that "same, larger" goes to, as WIDTHxHEIGHT; None where there is nothing to enlarge."""
        return None if self.source is None else str(larger_size(self.request, self.source))


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


def run_form(run: Run, form: Mapping[str, Any], gate: Gate | None = None) -> Iterator[dict[str, Any]]:
    """Runs a page's form; yields values by output name, as run_task does, and first the seed that is used.

    `form["randomize"]` asks for a new seed, `form["own"]` holds an OwnVideo to refine where `form["mode"]` is "own".
    """
    seed = random.randint(0, MAX_SEED) if form.get("randomize") else form["seed"]
    try:
        request, source = task_of({**form, "seed": seed, "compare": True}, gate)
    except Refused as error:
        yield _refused(str(error))
        return
    yield from run_task(run, request, source, gate)


def run_larger(run: Run, last: Last | None, gate: Gate | None = None) -> Iterator[dict[str, Any]]:
    """Runs the latest run's request at the next size, from the same native (or own) video; yields as run_task does."""
    if last is None or last.source is None:
        yield _refused("There is no video here to make larger: press Generate first.")
        return
    try:
        request = resized(last.request, larger_size(last.request, last.source))
        if gate is not None and (reason := gate.refusal(request, last.source)):
            raise ValueError(reason)
    except ValueError as error:
        yield _refused(str(error))
        return
    yield from run_task(run, request, last.source, gate)


def _refused(message: str) -> dict[str, Any]:
    return {"status": status_html(Status(state="failed", message=message)), "running": False}


def run_task(run: Run, request: Resolved, source: Source | None, gate: Gate | None = None) -> Iterator[dict[str, Any]]:
    """Yields values by output name: status, preview, look, seed, resolution, freeswim, naive, base, details, last,
    entry, running.

    A name is absent when nothing changed there. The first values clear what an earlier run left.
    """
    cleared = {**dict.fromkeys((*NAMES, "details")), "look": "", "preview": ""}
    yield {"seed": request.seed, **cleared, "resolution": f"{request.width}x{request.height}", "running": True}
    shown: dict[str, Any] = {}
    for update in _guarded(run, request, source, gate):
        values: dict[str, Any] = {"status": status_html(update.status)}
        now = {**update.clips, "preview": preview_html(update.preview, inset=bool(update.clips))}
        changed = {name: value for name, value in now.items() if shown.get(name) != value}
        shown |= changed
        values |= changed
        if update.status.ended or changed.keys() & set(NAMES):
            values["details"] = details(request, update)
            values["last"] = _last(request, source, update)
            values["entry"] = entry(request, source, update)
        if update.status.ended:
            values["running"] = False
            values["look"] = look_html(update.look)
        yield values


def _last(request: Resolved, source: Source | None, update: Update) -> Last:
    if source is None and update.native is not None:
        base = update.clips["base"]
        source = Source(path=update.native, cut=Cut(frames=base.frames, every=1, fps=base.fps))
    return Last(request=request, source=source)


def entry(request: Resolved, source: Source | None, update: Update) -> GalleryEntry | None:
    """A run as the browser keeps it: sent again with every clip, so that a stopped run is there with what it has."""
    if not update.clips:
        return None
    own = source is not None and source.own is not None
    return GalleryEntry(
        run=Path(next(iter(update.clips.values())).path).parent.name,
        poster=update.poster,
        settings=update.settings or request.to_dict(),
        comparison=comparison(update.clips, f"{request.width}x{request.height}", own=own),
        look=update.look,
    )


def _guarded(run: Run, request: Resolved, source: Source | None, gate: Gate | None) -> Iterator[Update]:
    """The updates of a run; what the platform raises is a failed run too, and says what was kept and what would fit."""
    update = Update(status=Status(state="running"))
    try:
        for update in run(request, source):
            if update.out_of_memory and gate is not None:
                update = _advised(update, gate, request, source)
            yield update
    except gr.Error as error:  # from ZeroGPU: no quota left, the time is over
        message = f"{error.message} {_kept(update)}".strip()
        yield dataclasses.replace(update, status=dataclasses.replace(update.status, state="failed", message=message))


def _advised(update: Update, gate: Gate, request: Resolved, source: Source | None) -> Update:
    """A run that ran out of memory, with the nearest setting that is expected to need less."""
    needed = gate.meter.estimate(plan_of(request, source)).memory
    advice = gate.advice(request, source, below=int(0.8 * needed))
    message = f"There was not enough memory: {advice}. {_kept(update)}".strip()
    return dataclasses.replace(update, status=dataclasses.replace(update.status, message=message))


def _kept(update: Update) -> str:
    return "What was finished is kept." if update.clips else ""


def run_api(
    run: Run, form: Mapping[str, Any], gate: Gate | None = None
) -> Iterator[tuple[Any, Any, Any, dict[str, Any]]]:
    """Runs an API call; yields (FreeSwim, naive, native or own, details) with None for what does not exist yet.

    Raises gr.Error in one line for bad input, before anything waits or is loaded, and for a run that failed.
    """
    try:
        request, source = task_of(form, gate)
    except Refused as error:
        raise gr.Error(str(error), print_exception=False) from error
    for update in _guarded(run, request, source, gate):
        if update.status.state == "failed":
            raise gr.Error(update.status.message, print_exception=False)
        freeswim, naive, base = (
            gr.FileData(path=update.clips[name].path).model_dump() if name in update.clips else None for name in NAMES
        )
        yield freeswim, naive, base, details(request, update)


def comparison(clips: Mapping[str, Clip | None], resolution: str, *, own: bool = False) -> ComparisonValue:
    """What the player shows of the clips that exist by now; `resolution` shapes its box from the start."""
    width, height = parse_size(resolution)
    paths = {name: clip.path for name, clip in clips.items() if clip is not None}
    fps = next((clip.fps for clip in clips.values() if clip is not None), ComparisonValue.fps)
    labels = {"base_label": YOUR_VIDEO_LABEL} if own else {}
    return ComparisonValue(
        left=paths.get("naive"),
        right=paths.get("freeswim"),
        base=paths.get("base"),
        fps=fps,
        width=width,
        height=height,
        **labels,
    )


def metered(run: Run, meter: Meter) -> Callable[..., Iterator[Update]]:
    """`run`, with the times of finished runs told to `meter`."""

    def metered_run(request: Request, source: Source | None = None) -> Iterator[Update]:
        for update in run(request, source):
            if update.status.state == "done":
                meter.observe(plan_of(request, source), update.seconds)
            yield update

    return metered_run
