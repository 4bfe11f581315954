"""Runs the pipeline in a worker thread and tells, as it goes, how far it is and which videos exist.

This is the only part of the page that touches the model. What passes out of it is plain data (paths, numbers, pictures
as data URLs), so it can run in another process, as it does on ZeroGPU.
"""

import dataclasses
import logging
import queue
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from freeswim import codec
from freeswim.page.live import Live, decoder, poster
from freeswim.page.look import what_to_look_for
from freeswim.page.preview import LatentColours
from freeswim.page.source import Source, plan_of
from freeswim.page.status import Status
from freeswim.page.text import YOUR_VIDEO
from freeswim.pipeline import FreeSwimPipeline, Progress, Result, Stopped
from freeswim.request import Request
from freeswim.video import Video, write_video

log = logging.getLogger(__name__)

NAMES = ("freeswim", "naive", "base")

# Seconds without news after which the clock is shown again, and for which a run's files are kept.
_TICK = 1.0
_KEPT = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A finished video: its file, size in pixels, length and frames per second."""

    path: str
    width: int
    height: int
    frames: int
    fps: float


@dataclass(frozen=True, kw_only=True)
class Update:
    """News from a run: its status, the clips that exist by now, and, as far as known, its settings and times."""

    status: Status
    clips: dict[str, Clip] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage, once the run has ended
    preview: str = ""  # the latest look at what is being made, an image's data URL
    poster: str = ""  # a picture of the result, likewise
    look: str = ""  # what to look for in the comparison, measured in it
    native: str | None = None  # where the native frames are, for a Source
    out_of_memory: bool = False


# Runner.run, possibly behind a line of visitors and ZeroGPU's decorator.
Run = Callable[..., Iterator[Update]]

_News = Status | tuple[str, Clip] | str | Result | Exception


class Runner:
    """Owns the loaded model and runs one request at a time on it. The last used model stays loaded."""

    def __init__(self, output_root: Path, *, load: Callable[[str], Any] | None = None) -> None:
        """`output_root`: where each run makes a folder of its own. `load`: model name -> pipeline, for tests."""
        self.output_root = output_root
        self._load = load or FreeSwimPipeline.from_pretrained
        self._loaded: dict[str, Any] = {}  # at most one: two of the large models would not fit
        self._colours: dict[str, LatentColours] = {}  # of models that bring no map, for previews of later runs
        self._lock = threading.Lock()

    def run(self, request: Request, source: Source | None = None) -> Iterator[Update]:
        """Yields an Update per step, per finished video and per second. Closing the generator stops the run.

        source: a video to enlarge, instead of making one first. The "base" clip is then that video, enlarged.
        The last update's state is "done", "stopped" or "failed" (with the reason as its message); nothing is raised.
        """
        job = _Job(request, source, self._folder(), self._colours.get(request.model))
        worker = threading.Thread(target=self._work, args=(job,), name="freeswim-run", daemon=True)
        worker.start()
        update = Update(status=Status(state="running"))
        try:
            while not update.status.ended:
                update = job.next_update(update)
                yield update
        finally:
            job.stop.set()  # the worker notices at its next step; the lock keeps the next run waiting until then

    def preload(self, model: str) -> None:
        """Loads a model now, so that the first run need not."""
        self._pipeline(model)

    def _folder(self) -> Path:
        self.output_root.mkdir(parents=True, exist_ok=True)
        for old in self.output_root.glob("freeswim-*"):  # gradio clears its own copies away, not what lies here
            if time.time() - old.stat().st_mtime > _KEPT:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix="freeswim-", dir=self.output_root))

    def _work(self, job: "_Job") -> None:
        """The worker thread: everything that happens ends up in `job.news`."""
        try:
            with self._lock:
                if job.stop.is_set():
                    return  # nobody is listening any more
                job.news.put(Status(state="running", stage="load"))
                pipeline = self._pipeline(job.request.model)
                job.settings = job.settings_of(pipeline)
                job.live.decode = decoder(pipeline.pipe.vae)
                video = job.given_video()
                try:
                    result = pipeline(job.request, video=video, on_progress=job.on_progress, on_video=job.on_video)
                finally:
                    if job.live.colours is not None:
                        self._colours[job.request.model] = job.live.colours
            job.look = job.what_to_look_for(result, video)
            job.news.put(result)
        except Stopped as stopped:
            job.news.put(stopped)
        except Exception as error:
            log.exception("a run failed: %s", job.request)
            job.news.put(error)

    def _pipeline(self, model: str) -> Any:
        if model not in self._loaded:
            self._loaded.clear()
            self._loaded[model] = self._load(model)
        return self._loaded[model]


class _Job:
    """One run's request, folder, news and stop signal, shared by its generator and its worker thread."""

    def __init__(self, request: Request, source: Source | None, folder: Path, colours: LatentColours | None) -> None:
        self.request = request
        self.source = source
        self.folder = folder
        self.news: queue.Queue[_News] = queue.Queue()
        self.stop = threading.Event()
        self.settings: dict[str, Any] = {}  # known once the model is loaded
        self.poster = ""
        self.look = ""
        self.native: str | None = None
        self.live = Live(request.model, colours)
        self.started = time.monotonic()

    def settings_of(self, pipeline: Any) -> dict[str, Any]:
        """What goes into the files. A native video from an earlier run is what this request would have made itself."""
        own = None if self.source is None or self.source.own is None else self.source.cut.frames
        settings: dict[str, Any] = pipeline.settings(self.request, own_frames=own)
        return settings

    def given_video(self) -> Video | None:
        """The source's frames, after saving them as the "base" clip: enlarged, or as they are when native."""
        if self.source is None:
            return None
        video = self.source.load()
        if self.source.own is None:
            self.on_video("base", video)
        else:
            target = plan_of(self.request, self.source).target
            self.on_video("base", Video(codec.enlarge(video.frames, target), video.fps))
        return video

    def what_to_look_for(self, result: Result, given: Video | None) -> str:
        """A line about the videos of a whole run. A line is worth no run: should it fail, the log says why."""
        videos, named = dict(result.videos), {"model": self.request.model}
        if given is not None:
            videos["base"] = given.frames
        if self.source is not None and self.source.own is not None:
            named = {"model": "", "base_name": YOUR_VIDEO}  # anybody's world: there are no subjects to count
        try:
            return what_to_look_for(videos, prompt=self.request.prompt, **named)
        except Exception:
            log.exception("could not say what to look for")
            return ""

    def on_progress(self, progress: Progress) -> bool:
        self.news.put(
            Status(
                state="running",
                stage=progress.stage,
                step=progress.step,
                total=progress.total,
                elapsed=progress.elapsed,
                remaining=progress.remaining,
            )
        )
        if progress.clean is not None and (preview := self.live.look(progress.clean)):
            self.news.put(preview)
        return not self.stop.is_set()

    def on_video(self, name: str, video: Video) -> None:
        path = self.folder / f"{file_stem(self.request)}-{name}.mp4"
        write_video(path, video, {**self.settings, "run": {**self.settings.get("run", {}), "video": name}})
        if name == "base" and (self.source is None or self.source.own is None):
            self._keep_native(video.frames)
        if name == "freeswim" or not self.poster:
            self.poster = poster(video.frames)
        clip = Clip(
            path=str(path), width=video.width, height=video.height, frames=len(video.frames), fps=float(video.fps)
        )
        self.news.put((name, clip))

    def _keep_native(self, frames: NDArray[np.uint8]) -> None:
        """Saves the native frames as they are (the mp4 is compressed), so that they can be enlarged further later."""
        np.save(self.folder / "native.npy", frames)
        self.native = str(self.folder / "native.npy")
        if self.source is None:
            self.live.learn(frames)

    def next_update(self, last: Update) -> Update:
        """Waits for news, at most a second, and adds it to the last update."""
        try:
            news = self.news.get(timeout=_TICK)
            # Steps faster than anyone can see: only the newest of them matters.
            while isinstance(news, Status) and not self.news.empty():
                news = self.news.get_nowait()
        except queue.Empty:
            news = last.status
        elapsed = time.monotonic() - self.started
        last = dataclasses.replace(last, settings=self.settings, poster=self.poster, look=self.look, native=self.native)
        match news:
            case Status():
                status = dataclasses.replace(news, elapsed=elapsed, remaining=_counted_down(news, elapsed))
                return dataclasses.replace(last, status=status)
            case str():
                return dataclasses.replace(last, preview=news)
            case (str(name), Clip() as clip):
                return dataclasses.replace(last, clips={**last.clips, name: clip})
            case Stopped():
                return _ended(last, "stopped", "What was finished is kept.", elapsed, news.result.seconds)
            case Exception():
                short = _is_out_of_memory(news)
                return dataclasses.replace(_ended(last, "failed", _reason(news), elapsed, {}), out_of_memory=short)
        note = ""
        if "freeswim" not in last.clips:  # no larger than native, so there is nothing to refine or to compare
            last = dataclasses.replace(last, clips={**last.clips, "freeswim": last.clips["base"]})
            note = "This size needs no windows: the native video is the result."
        return _ended(last, "done", note, elapsed, news.seconds)


def _counted_down(status: Status, elapsed: float) -> float | None:
    """The status's estimate, less the time since it was made."""
    return None if status.remaining is None else max(0.0, status.remaining - max(0.0, elapsed - status.elapsed))


def _ended(
    last: Update, state: Literal["done", "stopped", "failed"], message: str, elapsed: float, seconds: dict[str, float]
) -> Update:
    status = dataclasses.replace(last.status, state=state, message=message, elapsed=elapsed)
    return dataclasses.replace(last, status=status, seconds=dict(seconds), preview="")


def _is_out_of_memory(error: Exception) -> bool:
    kinds = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError")
    return type(error).__name__ in kinds or "out of memory" in str(error).lower()


def _reason(error: Exception) -> str:
    """One line for people. What went wrong inside is not theirs to read; the log has it."""
    if _is_out_of_memory(error):
        return "There was not enough memory. Choose a smaller resolution or fewer frames."
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def file_stem(request: Request) -> str:
    """A file name from the prompt's first words and the seed: `a-red-sun-rising-over-blue-1`."""
    words = re.findall(r"[a-z0-9]+", request.prompt.lower())[:6]
    return "-".join([*words, str(request.seed)])[:80]
