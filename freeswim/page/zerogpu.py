"""The seam to Hugging Face's ZeroGPU, where a GPU is lent to one call at a time. Elsewhere it changes nothing."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from freeswim.cost import Estimate, Meter, Speed
from freeswim.page.limits import Limits
from freeswim.page.runner import Run, Update
from freeswim.page.source import Source, plan_of
from freeswim.pipeline import FreeSwimPipeline
from freeswim.plan import Plan
from freeswim.request import Request


@dataclass(frozen=True)
class Loan:
    """A size of GPU that can be asked for: its memory, and the seconds that a visitor without an account may have."""

    size: Literal["large", "xlarge"]
    memory: int
    seconds: float


# Half of an RTX PRO 6000 Blackwell, or all of it: memory as the `spaces` package counts it, times as in Hugging Face's
# documentation (2026-11). The owner of a Space whose visitors have accounts may know better: FREESWIM_GPU_SECONDS.
LOANS = (Loan("large", 45_097_156_608, 200), Loan("xlarge", 101_973_950_464, 150))

# What a quarter of the data sheet's rates comes to: nothing can be timed before a GPU is lent. Runs correct it.
SPEED = Speed(matrix=1.2e14, convolution=3.0e13)

# Visitors whose runs may go on at a time: each has a GPU of their own, found by the platform.
PLACES = 8

_SPARE = 1.3  # times the expected seconds are asked for, since a run that exceeds its time is lost
_START = 10.0  # seconds until a lent GPU holds the model
_SPARE_MEMORY = 0.95  # share of the GPU's memory that a run may be expected to need


def available() -> bool:
    """Whether this is a ZeroGPU Space."""
    try:
        from spaces.config import Config
    except ImportError:
        return False
    return bool(Config.zero_gpu)


def load(model: str) -> FreeSwimPipeline:
    """A model for a lent GPU: `spaces` moves what lies there in and out as a whole."""
    return FreeSwimPipeline.from_pretrained(model, offload="none")


def meter() -> Meter:
    """A Meter that works where there is no GPU before one is lent."""
    return Meter(speed=SPEED, accelerated=True)


def limits() -> Limits:
    """What a visitor without an account may ask for. Who needs the larger GPU may have it for a shorter time."""
    seconds = os.environ.get("FREESWIM_GPU_SECONDS") or LOANS[0].seconds
    return Limits(memory=int(_SPARE_MEMORY * LOANS[-1].memory), seconds=float(seconds))


def loan_for(estimate: Estimate) -> Loan:
    """The smallest GPU that a run fits on; the largest where none is enough."""
    return next((loan for loan in LOANS if estimate.memory <= _SPARE_MEMORY * loan.memory), LOANS[-1])


def duration(estimate: Estimate) -> int:
    """Seconds to ask for."""
    return math.ceil(_START + _SPARE * estimate.seconds)


def lent_seconds(plan: Plan, estimate: Estimate) -> float:
    """The seconds that a run counts as against the limit, which are fewer for the larger GPU."""
    return duration(estimate) * LOANS[0].seconds / loan_for(estimate).seconds


def on_gpu(run: Run, meter: Meter) -> Run:
    """`run` as a call that ZeroGPU lends a GPU to, of the size and for the time that the request needs.

    `run` itself where the `spaces` package is not installed or this is no ZeroGPU Space.
    """
    if not available():
        return run
    import spaces

    def seconds(request: Request, source: Source | None = None) -> int:
        return duration(meter.estimate(plan_of(request, source)))

    def lent(size: str) -> Run:
        # A function of its own for each size: `spaces` knows a function once decorated again, and ignores the new size.
        def run_there(request: Request, source: Source | None = None) -> Iterator[Update]:
            yield from run(request, source)

        decorated: Run = spaces.GPU(duration=seconds, size=size)(run_there)
        return decorated

    by_size = {loan.size: lent(loan.size) for loan in LOANS}

    def run_where_it_fits(request: Request, source: Source | None = None) -> Iterator[Update]:
        loan = loan_for(meter.estimate(plan_of(request, source)))
        yield from by_size[loan.size](request, source)

    return run_where_it_fits
