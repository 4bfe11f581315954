"""The video that stage 2 enlarges where stage 1 is left out: a visitor's own, or the native one of an earlier run."""

from dataclasses import dataclass

import numpy as np

from freeswim.models import BaseModel
from freeswim.own_video import Cut, OwnVideo, cut_for, load
from freeswim.plan import Plan, make_plan
from freeswim.request import Request
from freeswim.video import Video


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the frames are and which of them are used. Plain data, so it can be sent to another process."""

    path: str
    cut: Cut
    own: OwnVideo | None = None  # None: `path` holds native frames as an array (.npy), exactly as they were decoded

    @classmethod
    def of_own(cls, own: OwnVideo, model: BaseModel, frames: int | None = None) -> "Source":
        """What `model` can use of a visitor's video, at most `frames` frames."""
        return cls(path=own.path, cut=cut_for(own, model, frames), own=own)

    def load(self) -> Video:
        """The frames; ValueError in one line when they are gone or can't be read."""
        if self.own is not None:
            return load(self.own, self.cut)
        try:
            return Video(np.load(self.path), self.cut.fps)
        except (OSError, ValueError) as error:
            raise ValueError("the native video of that run is gone by now; press Generate to make it again") from error


def plan_of(request: Request, source: Source | None = None) -> Plan:
    """The plan of a request on the model that it names, for a video that exists already where there is a source."""
    return make_plan(request, own_frames=None if source is None else source.cut.frames)
