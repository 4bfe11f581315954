"""From a request to numbers: the sizes of both stages, the steps, the configs, and the stages with their work."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from freeswim.config import FreeSwimConfig
from freeswim.models import BaseModel, find_model
from freeswim.request import CONFIG_FIELDS, Request, Resolved, refine_steps
from freeswim.sizes import Size, fits, native_size, padded_size, token_grid


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run that progress is reported for."""

    name: str
    kind: Literal["prompt", "denoise", "encode", "decode"]
    steps: int = 1
    tokens: int = 0  # that one step works on: what its time grows with


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything about a run that is known before a model is loaded."""

    request: Resolved
    model: BaseModel
    target: Size  # pixels, as asked
    native: Size  # pixels that stage 1 generates, whole tokens
    padded: Size  # pixels that stage 2 denoises, whole tokens; cropped to `target` at the end
    begin: int  # the first of the steps that stage 2 runs; 0 starts from pure noise, `steps` denoises nothing
    config: FreeSwimConfig  # of the FreeSwim pass
    naive: FreeSwimConfig  # of the pass it is compared with
    own_video: bool  # stage 2 enlarges the caller's video, and there is no stage 1

    @property
    def refines(self) -> bool:
        """Whether there is a stage 2: a target that fits into the native size is native generation."""
        return self.own_video or not fits(self.padded, self.native)

    @property
    def passes(self) -> dict[str, FreeSwimConfig]:
        """The videos that stage 2 makes, in order, and how."""
        if not self.refines:
            return {}
        return {"freeswim": self.config} | ({"naive": self.naive} if self.request.compare else {})

    def grid(self, size: Size) -> tuple[int, int, int]:
        """The token grid (T, H, W) of this run's frames at `size`."""
        frames, model = self.request.num_frames, self.model
        return token_grid(size, frames, token=model.token_pixels, frames_per_latent=model.frames_per_latent)

    def sigma(self, step: int) -> float:
        """Noise level of a step of stage 2, counted from its first, as the scheduler has it to 0.004."""
        shift, left = self.request.flow_shift, 1 - (self.begin + step) / self.request.steps
        return shift * left / (1 + (shift - 1) * left)

    def stages(self) -> list[Stage]:
        """What a run does after encoding its prompt, in order."""
        return ([] if self.own_video else self.native_stages()) + self.refine_stages(*self.passes)

    def native_stages(self) -> list[Stage]:
        return self._denoise("native", self.native, self.request.steps)

    def refine_stages(self, *names: str) -> list[Stage]:
        """Stage 2 for each of `names`: they share one encoding. Nothing at all when the strength selects no step."""
        steps = self.request.steps - self.begin
        if steps == 0 or not names:
            return []
        stages = [Stage(name="encode", kind="encode", tokens=self._tokens(self.padded))] if self.begin > 0 else []
        for name in names:
            stages += self._denoise(name, self.padded, steps)
        return stages

    def _denoise(self, name: str, size: Size, steps: int) -> list[Stage]:
        tokens = self._tokens(size)
        return [
            Stage(name=name, kind="denoise", steps=steps, tokens=tokens),
            Stage(name=f"decode {name}", kind="decode", tokens=tokens),
        ]

    def _tokens(self, size: Size) -> int:
        return math.prod(self.grid(size))


def make_plan(request: Request, model: BaseModel | None = None, *, own_frames: int | None = None) -> Plan:
    """The plan of a request on `model`, by default the one it names. ValueError: see Request.resolved().

    own_frames: the length of a video that the caller brings; there is no stage 1 then.
    """
    model = model or find_model(request.model)
    if own_frames is not None:
        request = dataclasses.replace(request, num_frames=own_frames)
    resolved = request.resolved(model)
    target = Size(resolved.width, resolved.height)
    config = FreeSwimConfig(**{name: getattr(resolved, name) for name in CONFIG_FIELDS})
    return Plan(
        request=resolved,
        model=model,
        target=target,
        native=native_size(target, model.native, model.token_pixels),
        padded=padded_size(target, model.token_pixels),
        begin=resolved.steps - refine_steps(resolved.steps, resolved.strength),
        config=config,
        naive=FreeSwimConfig.naive(config.window, mode=resolved.naive_mode),
        own_video=own_frames is not None,
    )
