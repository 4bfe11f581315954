"""The command line. Everything is checked before torch is imported; every video is written the moment it exists.

Standard error: progress and notices. Standard output: one JSON line, the last. Exit codes: 0 done, 1 out of memory,
2 refused (one line says why), 130 stopped by Ctrl-C (what was done is on disk).
"""

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from freeswim.arguments import build_parser, request_of
from freeswim.bar import ProgressBar
from freeswim.models import BaseModel, find_model
from freeswim.own_video import cut_for, default_target, describe, load, probe
from freeswim.plan import Plan, make_plan
from freeswim.request import Request
from freeswim.video import Video, check_writable, read_settings, write_video

if TYPE_CHECKING:
    from freeswim.pipeline import FreeSwimPipeline

DONE, OUT_OF_MEMORY, REFUSED, STOPPED = 0, 1, 2, 130


@dataclass(kw_only=True)
class Job:
    """A checked request with its files, and what was saved and measured so far."""

    request: Request
    plan: Plan
    output: Path
    clip: Video | None  # the user's own video, to be enlarged
    saved: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where the video `name` goes: the main one to the output itself, the others beside it."""
        main = "freeswim" if self.plan.refines else "base"
        return self.output if name == main else self.output.with_suffix(f".{name}{self.output.suffix}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    # Before torch is imported: waiting threads sleep. Spinning ones fight each other where anything else runs, and made
    # a run on two busy cores four times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    began = time.monotonic()
    try:
        arguments = build_parser().parse_args(argv)
        if arguments.read:
            print(json.dumps(_settings_in(arguments.read)))
            return DONE
        job = _prepare(arguments)
        with ProgressBar(quiet=arguments.quiet) as bar:
            pipeline = _load(arguments, job, bar)
            code = _run(pipeline, job, bar)
    except ValueError as error:
        _say(str(error))
        return REFUSED
    except KeyboardInterrupt:
        _say("stopped before the first video")
        return STOPPED
    _report(job, total=time.monotonic() - began)
    return code


def _prepare(arguments: argparse.Namespace) -> Job:
    """Everything that can be refused without loading a model: ValueError in one line."""
    request = request_of(arguments, _settings_in(arguments.settings_from) if arguments.settings_from else None)
    model = find_model(request.model)
    clip = _own_video(arguments.refine, model, arguments.num_frames) if arguments.refine else None
    if clip and request.width is None:
        size = default_target(clip.width, clip.height, model)
        request = dataclasses.replace(request, width=size.width, height=size.height)
    plan = make_plan(request, model, own_frames=len(clip.frames) if clip else None)
    job = Job(request=request, plan=plan, output=check_writable(arguments.output), clip=clip)
    if not plan.refines:
        _say(f"{plan.target} is no larger than what {model.name} makes by itself: one video, no comparison")
    if model.name == "embedded":
        _name_unknown_words(request)
    return job


def _settings_in(file: str) -> dict[str, Any]:
    settings = read_settings(file)
    if settings is None:
        raise ValueError(f"{file!r} holds no settings: it wasn't written by FreeSwim, or was converted since")
    return settings


def _own_video(file: str, model: BaseModel, frames: int | None) -> Video:
    """The user's video, cut to what the model knows, with a notice."""
    clip = probe(file)
    cut = cut_for(clip, model, frames)
    if cut.frames < clip.frames:
        _say(describe(clip, cut))
    return load(clip, cut)


def _name_unknown_words(request: Request) -> None:
    from freeswim.embedded import unknown_words

    unknown = unknown_words(request.prompt)
    if unknown:
        _say(f"the embedded model doesn't know these words and ignores them: {', '.join(unknown)}")


def _load(arguments: argparse.Namespace, job: Job, bar: ProgressBar) -> "FreeSwimPipeline":
    bar.show("load", 0, 1)
    began = time.monotonic()
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from freeswim.pipeline import FreeSwimPipeline

    diffusers_logging.disable_progress_bar()  # a bar of our own stands there already
    transformers_logging.disable_progress_bar()
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    pipeline = FreeSwimPipeline.from_pretrained(
        job.plan.model, device=arguments.device, torch_dtype=dtype, offload=arguments.offload
    )
    job.seconds["load"] = time.monotonic() - began
    bar.show("load", 1, 1)
    return pipeline


def _run(pipeline: "FreeSwimPipeline", job: Job, bar: ProgressBar) -> int:
    """Makes the videos, saving each at once; returns the exit code."""
    import torch

    from freeswim.codec import enlarge
    from freeswim.pipeline import Stopped

    def save(name: str, video: Video) -> None:
        settings = pipeline.settings(job.request, own_frames=None if job.clip is None else len(job.clip.frames))
        settings["run"]["video"] = name
        job.saved[name] = str(write_video(job.path(name), video, settings))

    try:
        with _stopping_gently(pipeline):
            if job.clip is not None and job.request.compare:
                save("base", Video(enlarge(job.clip.frames, job.plan.target), job.clip.fps))
            result = pipeline(job.request, video=job.clip, on_progress=bar.on_progress, on_video=save)
    except Stopped as stopped:
        job.seconds |= stopped.result.seconds
        bar.close()
        _say(f"stopped; saved: {_saved(job)}")
        return STOPPED
    except (torch.OutOfMemoryError, MemoryError):
        bar.close()
        _say(
            f"out of memory in stage {bar.stage!r}: try --offload model or group, a smaller --size or fewer --frames"
            f"{_what_fits(job)}; saved: {_saved(job)}"
        )
        return OUT_OF_MEMORY
    job.seconds |= result.seconds
    return DONE


def _what_fits(job: Job) -> str:
    """The nearest settings that are expected to need less, for the end of a sentence; "" where none is known."""
    from freeswim.page.limits import Gate, device_meter

    gate = Gate(device_meter())
    try:
        if job.clip is not None:
            return ""
        return f" ({gate.advice(job.request, below=gate.meter.estimate(job.plan).memory)})"
    except ValueError:  # a model of unknown cost
        return ""


@contextmanager
def _stopping_gently(pipeline: "FreeSwimPipeline") -> Iterator[None]:
    """The first Ctrl-C ends the run after the step under way, the second at once."""

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        pipeline.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _say("stopping after this step (Ctrl-C again: at once)")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _report(job: Job, *, total: float) -> None:
    seconds = {stage: round(value, 2) for stage, value in {**job.seconds, "total": total}.items()}
    print(json.dumps({"paths": job.saved, "seconds": seconds, "settings": job.plan.request.to_dict()}))


def _saved(job: Job) -> str:
    return ", ".join(job.saved.values()) or "nothing"


def _say(message: str) -> None:
    print(f"freeswim: {message}", file=sys.stderr)
