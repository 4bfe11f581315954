"""The estimate of time and memory, on numbers alone: nothing is loaded or timed but in the test of the speed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from freeswim.cost import CONTEXT_BYTES, GIB, SHAPES, Meter, Speed, measure_speed, memory, operations
from freeswim.models import MODELS
from freeswim.plan import Plan, make_plan
from freeswim.request import Request

SPEED = Speed(matrix=1e12, convolution=1e11)


def plan(**values: Any) -> Plan:
    request: dict[str, Any] = {"prompt": "a", "width": 512, "height": 288, "compare": True} | values
    return make_plan(Request(**request))


@pytest.mark.parametrize("model", MODELS)
def test_the_stages_are_those_that_a_run_reports(model: str) -> None:
    small: dict[str, Any] = {"width": 256, "height": 144}
    cases: list[dict[str, Any]] = [{}, {"strength": 1.0}, {"strength": 0.0}, {"compare": False}, small]
    for values in cases:
        made = plan(model=model, **({"width": 3840, "height": 2160} | values))
        assert list(operations(made)) == [stage.name for stage in made.stages()]


def test_work_grows_with_what_costs_time() -> None:
    def work(name: str = "freeswim", **values: Any) -> float:
        return operations(plan(**values))[name]

    assert work("native", steps=40) == 2 * work("native", steps=20)
    assert work("native", guidance_scale=1.0) == work("native") / 2
    assert work(width=768, height=432) > 2 * work()
    assert work(refresh_interval=1) > work(refresh_interval=2) > work(refresh_interval=2, refresh_until=0.2)
    assert work(override="both") > work(override="both", context_until=0.5) > work(override="output")
    assert work(guide="full") > work(guide="downsampled") > work(guide="none")
    assert work(guide_unconditional=True) > work(guide_unconditional=False)
    assert work("naive") < work()


def test_full_attention_at_a_known_size_is_counted_to_the_operation() -> None:
    made = plan(width=256, height=144, num_frames=1, steps=1, guidance_scale=1.0)
    tokens, width, text = 9 * 16, 320, 32
    linear = tokens * (4 * width**2 + 2 * width**2 + 2 * 1280 * width) + 2 * text * width**2
    attention = 2 * tokens * (tokens + text) * width
    assert operations(made)["native"] == 8 * 2 * (linear + attention)


def test_an_estimate_follows_what_runs_really_took() -> None:
    meter = Meter(speed=SPEED)
    before = meter.estimate(plan())
    assert before.seconds == pytest.approx(sum(before.stages.values()))
    took = {stage: 3 * seconds for stage, seconds in before.stages.items()}
    meter.observe(plan(), took)
    after = meter.estimate(plan(steps=30))
    assert after.stages["native"] == pytest.approx(3 * 1.5 * before.stages["native"])
    wan = plan(model="wan2.1-1.3b", width=1920, height=1080)
    assert meter.estimate(wan).seconds == Meter(speed=SPEED).estimate(wan).seconds, "another model was not observed"


def test_memory_grows_with_the_size_and_tiles_bound_the_vae() -> None:
    meter = Meter(speed=SPEED)
    assert meter.estimate(plan(width=1536, height=864)).memory > meter.estimate(plan()).memory
    wan = plan(model="wan2.1-1.3b", width=3840, height=2160)
    tiled = dataclasses.replace(meter, accelerated=True).estimate(wan).memory
    assert tiled < meter.estimate(wan).memory


def test_a_model_of_unknown_shape_is_refused() -> None:
    made = dataclasses.replace(plan(), model=dataclasses.replace(MODELS["embedded"], name="/a/folder"))
    with pytest.raises(ValueError, match="/a/folder"):
        operations(made)


def test_the_speed_of_this_device_is_measured_in_a_moment() -> None:
    speed = measure_speed("cpu")
    assert speed.matrix > 1e8
    assert speed.convolution > 1e8


RESULTS = Path(__file__).parents[1] / "benchmarks/results"
# With windows by the kernel for Hopper, and by dense calls or the kernel for any GPU, as on other GPUs.
MEASURED = {
    hopper: json.loads((RESULTS / f"{name}.json").read_text())
    for hopper, name in ((True, "speed-h100"), (False, "speed-h100-dense-calls"))
}
WAYS: dict[str, dict[str, Any]] = {
    "freeswim, default": {},
    "freeswim, exact": {"query_tile": (1, 1)},
    "freeswim, paper": {"query_tile": (1, 1), "guide": "full", "guide_unconditional": False, "anchor_above": 1.0},
    "freeswim, both": {"override": "both"},
    "freeswim, context": {"override": "both", "context_until": 1.0},
    "freeswim, default, all layers": {},
    "freeswim, default, all layers, record in main memory": {},
    "freeswim, exact, all layers": {"query_tile": (1, 1)},
}
TIMED = [
    (hopper, size, way)
    for hopper, measured in MEASURED.items()
    for size, results in measured["sizes"].items()
    for way in WAYS
    if way in results
]


def h100(size: str, *, hopper: bool = True) -> Meter:
    """A Meter with the speed that was measured in the run that a size belongs to."""
    speeds = MEASURED[hopper]["speed_for_estimates"]
    return Meter(speed=Speed(**speeds.get(size, speeds["other sizes"])), accelerated=True, hopper=hopper)


def wan_plan(size: str, **values: Any) -> Plan:
    width, height = (int(side) for side in size.split("x"))
    shared = {"refresh_interval": MEASURED[True]["interval"], "compare": False}
    return plan(model="wan2.1-1.3b", width=width, height=height, **shared, **values)


def test_what_the_estimates_are_held_to_was_measured() -> None:
    for hopper in MEASURED:
        sizes = {size for timed_with, size, _ in TIMED if timed_with == hopper}
        assert sizes == {"1280x720", "1920x1088", "2560x1440", "3840x2160"}
    assert {way for _, _, way in TIMED} == set(WAYS)


@pytest.mark.parametrize(("hopper", "size", "way"), TIMED)
def test_the_estimate_is_close_to_what_an_h100_took(hopper: bool, size: str, way: str) -> None:
    """Within a tenth: the refine stage at 35 steps, the guide every 5 steps."""
    made = wan_plan(size, **WAYS[way])
    assert made.request.steps - made.begin == MEASURED[hopper]["steps"]
    took = MEASURED[hopper]["sizes"][size][way]["stage_s"]
    assert h100(size, hopper=hopper).estimate(made).stages["freeswim"] == pytest.approx(took, rel=0.1)


def test_the_native_stage_is_close_to_what_an_h100_took() -> None:
    steps = [
        result["step_s"] for name, result in MEASURED[True]["sizes"]["832x480"].items() if name.startswith("stock")
    ]
    estimated = h100("832x480").estimate(wan_plan("1280x720")).stages["native"]
    assert estimated == pytest.approx(50 * min(steps), rel=0.1)


@pytest.mark.parametrize("size", ["1920x1088", "3840x2160"])
def test_the_vae_is_close_to_what_an_h100_took(size: str) -> None:
    stages = h100(size, hopper=False).estimate(wan_plan(size)).stages
    vae = MEASURED[False]["sizes"][size]["vae"]
    whole = 21 / ((vae.get("frames", 81) - 1) // 4 + 1)  # time goes with latent frames
    assert stages["decode freeswim"] == pytest.approx(whole * vae["decode"]["s"], rel=0.1)
    assert stages["encode"] == pytest.approx(whole * vae["encode"]["s"], rel=0.1)


@pytest.mark.parametrize("hopper", [True, False])
@pytest.mark.parametrize("size", ["1920x1088", "3840x2160"])
def test_the_memory_is_close_to_what_an_h100_needed(size: str, hopper: bool) -> None:
    """The transformer alone was on the GPU, and torch does not count CUDA's context."""
    shape = SHAPES["wan2.1-1.3b"]
    expected = memory(wan_plan(size), accelerated=True) - shape.text_bytes - shape.vae_bytes - CONTEXT_BYTES
    measured = MEASURED[hopper]["sizes"][size]["freeswim, default, all layers, record in main memory"]["peak_GiB"]
    assert expected / GIB == pytest.approx(measured, rel=0.1)


def test_models_that_take_turns_need_the_largest_turn() -> None:
    shape = SHAPES["wan2.1-1.3b"]
    large, small = (memory(wan_plan("1920x1088"), accelerated=True, gpu_memory=n * GIB) for n in (80, 24))
    assert large == memory(wan_plan("1920x1088"), accelerated=True), "there is room for all of them"
    assert small == shape.text_bytes + CONTEXT_BYTES, "at this size the text encoder needs the most"
    big = memory(wan_plan("3840x2160"), accelerated=True, gpu_memory=24 * GIB)
    assert small < big < 24 * GIB
    assert big == memory(wan_plan("3840x2160"), accelerated=True) - shape.text_bytes, "the VAE stays after encoding"


RUNS = json.loads((RESULTS / "run-24gib-h100.json").read_text())["runs"]


@pytest.mark.parametrize("run", RUNS, ids=[f"{run['request']['width']} pixels wide" for run in RUNS])
def test_a_whole_run_on_a_part_of_an_h100_was_expected(run: dict[str, Any]) -> None:
    """Models took turns on 24 GiB. Stage 1 also waits for the text encoder to leave, which no estimate counts."""
    values = {name: value for name, value in run["request"].items() if name != "prompt"}
    made = plan(**values)
    size = "1920x1088" if made.request.width == 1920 else "3840x2160"
    stages = h100(size).estimate(made).stages
    for name in ("freeswim", "encode", "decode freeswim"):
        assert stages[name] == pytest.approx(run["seconds"][name], rel=0.15), name
    assert stages["decode native"] == pytest.approx(run["seconds"]["decode native"], abs=1), "a matter of 4 seconds"
    assert run["offload"] == "model"
    needed = memory(made, accelerated=True, gpu_memory=24 * GIB) / GIB
    peaks = dict(run["peak_GiB"])
    if size == "1920x1088":  # there was room for the guide's record, which need not be there
        del peaks["freeswim"]
    assert needed == pytest.approx(max(peaks.values()) + run["outside_torch_GiB"], rel=0.1), "of what has to be there"
    assert max(run["peak_GiB"].values()) + run["outside_torch_GiB"] < run["card_GiB"]
