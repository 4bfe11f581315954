"""What a device can take: refusals before anything runs, the nearest that fits, and ZeroGPU's durations and sizes."""

import dataclasses

import pytest

from freeswim.cost import GIB, Meter, Speed
from freeswim.models import EMBEDDED, MODELS
from freeswim.own_video import OwnVideo
from freeswim.page import handlers, limits, zerogpu
from freeswim.page.limits import Gate, Limits, device_limits, larger_size, resized, smaller_sizes
from freeswim.page.source import Source, plan_of
from freeswim.request import Request, Resolved
from freeswim.sizes import Size

SPEED = Speed(matrix=1e12, convolution=1e11)


def request(**values: object) -> Resolved:
    fields: dict[str, object] = {"prompt": "a", "width": 768, "height": 432, "compare": True}
    return Request(**fields | values).resolved()  # type: ignore[arg-type]


def gate(**values: float) -> Gate:
    return Gate(Meter(speed=SPEED), Limits(**values))  # type: ignore[arg-type]


def test_what_fits_passes() -> None:
    assert Gate(Meter(speed=SPEED)).refusal(request()) is None
    assert gate(memory=100 * GIB, seconds=1e6).refusal(request()) is None


@pytest.mark.parametrize("name", ["memory", "seconds"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_what_does_not_fit_is_refused_with_something_that_does(name: str, share: float) -> None:
    wanted = request()
    expected = Meter(speed=SPEED).estimate(plan_of(wanted))
    least = Meter(speed=SPEED).estimate(plan_of(request(width=256, height=144, steps=8, num_frames=9)))
    low, high = getattr(least, name), getattr(expected, name)
    judge = gate(**{name: low + share * (high - low)})
    message = judge.refusal(wanted)
    assert message is not None
    assert "768 × 432" in message
    nearest = judge.nearest(wanted)
    assert nearest is not None
    assert judge.refusal(nearest) is None
    assert f"{nearest.width} × {nearest.height} with {nearest.steps} steps, {nearest.num_frames} frames" in message
    assert (nearest.prompt, nearest.seed, nearest.compare) == (wanted.prompt, wanted.seed, True)


def test_nothing_fits() -> None:
    message = gate(memory=1000).refusal(request())
    assert message is not None
    assert "nothing smaller would fit" in message


def test_the_nearest_is_the_most_that_fits() -> None:
    wanted = request()
    meter = Meter(speed=SPEED)
    whole = meter.estimate(plan_of(request(width=512, height=288))).seconds
    judge = gate(seconds=1.01 * whole)
    nearest = judge.nearest(wanted)
    assert nearest is not None
    assert meter.estimate(plan_of(nearest)).seconds >= whole * 0.999


def test_a_visitors_video_is_measured_without_a_native_stage() -> None:
    own = OwnVideo(path="a.mp4", width=320, height=180, fps=16.0, frames=17)
    source = Source.of_own(own, EMBEDDED)
    meter = Meter(speed=SPEED)
    with_native, without = (meter.estimate(plan_of(request(), given)) for given in (None, source))
    assert "native" not in without.stages
    assert without.seconds < with_native.seconds
    nearest = gate(seconds=without.seconds / 3).nearest(request(), source)
    assert nearest is not None
    assert nearest.num_frames == 17, "the video's own length stays"
    assert nearest.width / nearest.height == pytest.approx(320 / 180, rel=0.02)


def test_the_form_and_the_api_refuse_what_does_not_fit() -> None:
    judge = gate(memory=1000)
    assert handlers.check_form({"prompt": "a", "resolution": "512x288"}, judge).keys() == {"resolution"}
    assert 'class="refused"' in handlers.estimate_note(judge, {"prompt": "a", "resolution": "512x288"})
    with pytest.raises(handlers.Refused, match="GB of memory"):
        handlers.task_of({"prompt": "a"}, judge)


def test_this_device_has_some_memory() -> None:
    memory = device_limits().memory
    assert memory is not None
    assert GIB / 2 < memory < 1e14


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_same_but_larger_goes_up_and_keeps_the_shape(model) -> None:  # type: ignore[no-untyped-def]
    for width, height in [model.native, *((w, h) for _, w, h in model.presets)]:
        before = Request(prompt="a", model=model.name, width=width, height=height).resolved()
        size = larger_size(before, None)
        assert size.width * size.height > width * height
        assert size.width / size.height == pytest.approx(width / height, rel=0.05)
        after = resized(before, size)
        assert (after.width, after.height) == size
        assert after.window == Request(prompt="a", model=model.name, width=size[0], height=size[1]).resolved().window
        assert Size(width, height) in smaller_sizes(after, None)
    first = Request(prompt="a", model=model.name).resolved()
    assert tuple(larger_size(first, None)) == model.presets[1][1:]


def test_another_shape_opens_the_windows_again() -> None:
    before = dataclasses.replace(request(window=(5, 7), query_tile=(1, 1)))
    assert resized(before, Size(512, 288)).window == (5, 7)
    assert resized(before, Size(288, 512)).window == request(width=288, height=512).window


def test_zerogpu_asks_for_what_a_run_needs() -> None:
    small, large = (
        zerogpu.meter().estimate(plan_of(Request(prompt="a", model="wan2.1-1.3b", width=w, height=h, steps=8)))
        for w, h in ((1280, 720), (1920, 1080))
    )
    assert zerogpu.duration(small) < zerogpu.duration(large)
    assert zerogpu.duration(small) >= small.seconds
    assert zerogpu.loan_for(dataclasses.replace(small, memory=20 * GIB)).size == "large"
    assert zerogpu.loan_for(dataclasses.replace(small, memory=60 * GIB)).size == "xlarge"
    assert zerogpu.loan_for(dataclasses.replace(small, memory=600 * GIB)).size == "xlarge"
    plan = plan_of(Request(prompt="a"))
    needs_more = dataclasses.replace(small, memory=60 * GIB)
    assert zerogpu.lent_seconds(plan, needs_more) == pytest.approx(zerogpu.lent_seconds(plan, small) * 200 / 150)


def test_the_owner_of_a_space_may_know_its_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zerogpu.limits().seconds == 200
    monkeypatch.setenv("FREESWIM_GPU_SECONDS", "600")
    assert zerogpu.limits().seconds == 600


def test_a_form_begins_with_what_a_visitor_can_have() -> None:
    lent = Gate(zerogpu.meter(), zerogpu.limits(), zerogpu.lent_seconds)
    assert Gate(Meter(speed=SPEED)).start(EMBEDDED) == ("512x288", "balanced")
    assert lent.start(MODELS["wan2.1-1.3b"]) == ("1280x720", "draft")
    little = Gate(Meter(speed=SPEED), Limits(seconds=Meter(speed=SPEED).estimate(plan_of(
        request(width=256, height=144, steps=8, num_frames=9))).seconds * 1.1))  # fmt: skip
    assert little.start(EMBEDDED) == ("256x144", "draft")


def test_off_zerogpu_nothing_is_wrapped() -> None:
    def run(request: Request, source: Source | None = None):  # type: ignore[no-untyped-def]
        yield

    assert not zerogpu.available()
    assert zerogpu.on_gpu(run, Meter(speed=SPEED)) is run
    assert limits.Limits() == Limits(memory=None, seconds=None)


def test_a_gpu_of_24_gb_is_offered_what_fits_when_models_take_turns() -> None:
    wanted = Request(prompt="a", model="wan2.1-1.3b", width=3840, height=2160).resolved()
    card = Limits(memory=24 * GIB)
    resident, turns = (Gate(Meter(speed=SPEED, accelerated=True, gpu_memory=n), card) for n in (None, 24 * GIB))
    assert resident.refusal(wanted) is not None
    assert turns.refusal(wanted) is None


def test_a_lent_gpu_keeps_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    load = staticmethod(lambda model, **options: asked.append((model, options)))
    monkeypatch.setattr("freeswim.page.zerogpu.FreeSwimPipeline.from_pretrained", load)
    zerogpu.load("embedded")
    assert asked == [("embedded", {"offload": "none"})]
