"""The estimate of the time left, on a clock that the test turns."""

import pytest

from freeswim.plan import Stage
from freeswim.progress import Progress, Stop, Tracker

STAGES = [
    Stage(name="prompt", kind="prompt"),
    Stage(name="native", kind="denoise", steps=4, tokens=100),
    Stage(name="decode native", kind="decode", tokens=100),
    Stage(name="freeswim", kind="denoise", steps=2, tokens=400),
    Stage(name="decode freeswim", kind="decode", tokens=400),
]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_is_estimated_from_what_was_measured() -> None:
    clock = Clock()
    seen: list[Progress] = []
    track = Tracker(STAGES, seen.append, clock=clock)

    def remaining() -> float | None:
        return seen[-1].remaining

    with track.stage("prompt") as step:
        step()
    assert remaining() is None, "nothing was measured yet"
    with track.stage("native") as step:
        for _ in range(4):
            clock.now += 1.0  # 0.01 s per token and step
            step()
    # 2 steps of 400 tokens, and two decodes (100 and 400 tokens) at two steps' time for each token
    assert remaining() == pytest.approx(8 + 0.02 * 500)
    with track.stage("decode native") as step:
        clock.now += 5.0
        step()
    assert remaining() == pytest.approx(8 + 20), "now decoding was measured: 0.05 s for a token"
    with track.stage("freeswim") as step:
        clock.now += 6.0
        step()
        assert remaining() == pytest.approx(6 + 20), "this stage's own first step counts now"
        clock.now += 8.0
        step()
    with track.stage("decode freeswim") as step:
        clock.now += 20.0
        step()
    assert remaining() == 0
    assert seen[-1].elapsed == pytest.approx(43)
    assert track.seconds == pytest.approx(
        {"prompt": 0, "native": 4, "decode native": 5, "freeswim": 14, "decode freeswim": 20}
    )


def test_a_stage_that_fails_is_timed_and_over() -> None:
    clock = Clock()
    track = Tracker(STAGES, clock=clock)

    def fail() -> None:
        with track.stage("native"):
            clock.now += 3
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert track.seconds == {"native": 3}


def test_false_stops_and_none_does_not() -> None:
    track = Tracker(STAGES, lambda progress: False if progress.step == 2 else None)
    with track.stage("native") as step:
        step()
        with pytest.raises(Stop):
            step()
