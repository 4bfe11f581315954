"""Where a run stands: stage, step, and how long the rest will take, measured while it runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from freeswim.plan import Stage

if TYPE_CHECKING:
    import torch  # for its type only


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`step` of `total` steps of `stage` are done; times in seconds."""

    stage: str
    step: int
    total: int
    elapsed: float  # since the run began
    remaining: float | None  # estimate for the whole run; None before the first step is measured
    clean: "torch.Tensor | None" = field(default=None, repr=False, compare=False)
    """While denoising, what the video would be if this step were the last: clean latents (1, C, T, H, W), a reference
    to the scheduler's own. Copy it to keep it."""


class Stop(Exception):
    """Raise it in `on_progress` (or return False there) to end the run."""


# Before a kind of stage was measured: its time for a token, in denoising steps (of the embedded model on a CPU).
_IN_DENOISE_STEPS = {"denoise": 1.0, "encode": 1.0, "decode": 2.0, "prompt": 0.0}


class Tracker:
    """Follows one run through its stages, reports each step, and raises Stop when the report or `stop` says so.

    The rest is estimated from seconds per token and step: of the running stage once it has made a step, else of the
    latest stage of the same kind, else of denoising times _IN_DENOISE_STEPS.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        on_progress: Callable[[Progress], object] | None = None,
        stop: Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds: dict[str, float] = {}  # of each stage that ended
        self._waiting = list(stages)
        self._on_progress = on_progress
        self._stop = stop
        self._clock = clock
        self._began = clock()
        self._rates: dict[str, float] = {}  # kind -> seconds per token and step

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        """Runs a stage; yields a function to call after each of its steps, with the clean latents if there are any."""
        stage = next(stage for stage in self._waiting if stage.name == name)
        self._waiting.remove(stage)
        began, done = self._clock(), 0

        def step(clean: "torch.Tensor | None" = None) -> None:
            nonlocal done
            done += 1
            if stage.tokens:
                self._rates[stage.kind] = (self._clock() - began) / done / stage.tokens
            self._report(stage, done, clean)

        self._report(stage, 0)
        try:
            yield step
        finally:
            self.seconds[name] = self._clock() - began

    def _report(self, stage: Stage, done: int, clean: "torch.Tensor | None" = None) -> None:
        now = self._clock()
        if self._on_progress is not None:
            rest = [(stage, stage.steps - done), *((waiting, waiting.steps) for waiting in self._waiting)]
            estimates = [self._estimate(stage, steps) for stage, steps in rest]
            remaining = sum(e for e in estimates if e is not None) if None not in estimates else None
            go_on = self._on_progress(
                Progress(
                    stage=stage.name,
                    step=done,
                    total=stage.steps,
                    elapsed=now - self._began,
                    remaining=remaining,
                    clean=clean,
                )
            )
            if go_on is False:
                raise Stop
        if self._stop is not None and self._stop.is_set():
            raise Stop

    def _estimate(self, stage: Stage, steps: int) -> float | None:
        """Seconds for `steps` steps of a stage; None while nothing like it was measured."""
        if not stage.tokens or not steps:
            return 0.0
        rate = self._rates.get(stage.kind)
        if rate is None:
            denoise = self._rates.get("denoise")
            rate = None if denoise is None else denoise * _IN_DENOISE_STEPS[stage.kind]
        return None if rate is None else rate * steps * stage.tokens
