"""What to look for: on drawn scenes, whose true large pictures are known, with and without copies pasted into them."""

import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from freeswim.codec import enlarge
from freeswim.page.look import what_to_look_for
from freeswim.page.measure import detail, repetition
from freeswim.sizes import Size
from training.render import Renderer, to_uint8
from training.scenes import PIXELS_PER_UNIT, Scene, View, unseen_scenes

Frames = NDArray[np.uint8]
FRAMES = 3
SIZE = (144, 256)


class Drawn:
    """One scene at its native size, truly larger, and larger with copies of its subject as it is natively."""

    def __init__(self, scene: Scene, scale: int, places: list[tuple[float, float]]) -> None:
        renderer = Renderer()
        native, covers = renderer.with_subject([scene], [View()], SIZE, FRAMES)
        large = renderer([scene], [View(zoom=scale)], (SIZE[0] * scale, SIZE[1] * scale), FRAMES)
        self.native, self.large = _frames(native), _frames(large)
        x, y = (round(part * PIXELS_PER_UNIT) for part in scene.position(0.5))
        reach = round(2.2 * scene.radius * PIXELS_PER_UNIT)
        box = np.s_[:, :, max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
        subject, cover = native[box], covers[box][..., None]
        pasted = large.clone()
        for left, top in places:
            at = pasted[:, :, round(top * pasted.shape[2]) :, round(left * pasted.shape[3]) :]
            at = at[:, :, : subject.shape[2], : subject.shape[3]]
            share = cover[:, :, : at.shape[2], : at.shape[3]]
            at[:] = share * subject[:, :, : at.shape[2], : at.shape[3]] + (1 - share) * at
        self.pasted = _frames(pasted)


def _frames(video: torch.Tensor) -> Frames:
    frames: Frames = to_uint8(video)[0].numpy()
    return frames


PLACES = [(0.02, 0.05), (0.72, 0.1), (0.4, 0.55)]


@pytest.fixture(
    scope="module", params=[("sun", 2), ("balloon", 2), ("boat", 3)], ids=lambda value: f"{value[0]} {value[1]}x"
)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    kind, scale = request.param
    scenes = unseen_scenes(np.random.default_rng(41), 8)
    return Drawn(next(scene for scene in scenes if scene.subject == kind), scale, PLACES)


def test_copies_are_repetition_and_true_detail_is_not(drawn: Drawn) -> None:
    true, copied = repetition(drawn.large, drawn.native), repetition(drawn.pasted, drawn.native)
    print(f"repetition: true {true:.3f}, with copies {copied:.3f}")
    assert true < 0.08
    assert copied > max(0.15, true + 0.1)


def test_a_truly_larger_picture_is_finer_than_an_enlarged_one(drawn: Drawn) -> None:
    enlarged = enlarge(drawn.native, Size(drawn.large.shape[2], drawn.large.shape[1]))
    half = ((enlarged.astype(np.uint16) + drawn.large) // 2).astype(np.uint8)
    assert detail(enlarged, drawn.native) == pytest.approx(1, abs=0.1)
    assert detail(enlarged, drawn.native) < detail(half, drawn.native) < detail(drawn.large, drawn.native)
    assert detail(drawn.large, drawn.native) > 1.3


def look(naive: Frames | None, freeswim: Frames, base: Frames, *, model: str, prompt: str = "a sun") -> str:
    videos = {"freeswim": freeswim, "base": base} | ({} if naive is None else {"naive": naive})
    return what_to_look_for(videos, model=model, prompt=prompt)


@pytest.fixture(scope="module")
def sun() -> Drawn:
    scenes = unseen_scenes(np.random.default_rng(41), 8)
    return Drawn(next(scene for scene in scenes if scene.subject == "sun"), 2, PLACES)


def test_subjects_are_counted_where_a_detector_knows_them(sun: Drawn) -> None:
    said = look(sun.pasted, sun.large, sun.native, model="embedded")
    assert said == "Naive windows drew 4 suns, FreeSwim 1, as in the native video."
    swapped = look(sun.large, sun.pasted, sun.native, model="embedded")
    assert (
        swapped == "Naive windows drew 1 sun, FreeSwim 4, the native video shows 1. So FreeSwim shows copies here, too."
    )
    alone = look(None, sun.pasted, sun.native, model="embedded")
    assert alone == "FreeSwim drew 4 suns, the native video shows 1. So FreeSwim shows copies here, too."


def test_no_difference_is_said_and_detail_is_measured_instead(sun: Drawn) -> None:
    said = look(sun.large, sun.large, sun.native, model="embedded")
    assert said.startswith("Every video shows 1 sun. FreeSwim has ")
    times = detail(sun.large, sun.native)
    assert f"{times:.1f} times the fine detail of the native video, enlarged, naive windows {times:.1f} times." in said
    soft = enlarge(sun.native, Size(512, 288))
    assert "FreeSwim is hardly finer than the native video, enlarged (1.0 times" in look(
        None, soft, sun.native, model="wan2.1-1.3b"
    )


def test_other_copies_than_of_subjects_are_seen_too(sun: Drawn) -> None:
    ridge = sun.large[:, 120:200, 300:440]  # mountains, away from the sun
    copied = sun.large.copy()
    for top, left in ((10, 20), (15, 340), (205, 60)):
        copied[:, top : top + 80, left : left + 140] = ridge
    said = look(copied, sun.large, sun.native, model="embedded")
    share = repetition(copied, sun.native)
    assert said.startswith(f"Every video shows 1 sun. Naive windows draw {100 * share:.0f} % of what stands out")


def test_elsewhere_repetition_is_measured(sun: Drawn) -> None:
    share = repetition(sun.pasted, sun.native)
    said = look(sun.pasted, sun.large, sun.native, model="wan2.1-1.3b")
    assert said.startswith(f"Naive windows draw {100 * share:.0f} % of what stands out more than once, FreeSwim ")
    assert "too" not in said
    assert (
        look(sun.large, sun.pasted, sun.native, model="wan2.1-1.3b").count("So FreeSwim shows copies here, too.") == 1
    )
    assert look(sun.large, sun.large, sun.native, model="wan2.1-1.3b").startswith("Neither side repeats")
    own = {"freeswim": sun.large, "base": sun.native}
    assert "your video" in what_to_look_for(own, model="wan2.1-1.3b", prompt="", base_name="your video")
    assert "look for copies" in look(None, sun.pasted, sun.native, model="wan2.1-1.3b")


def test_nothing_to_compare_says_nothing(sun: Drawn) -> None:
    assert what_to_look_for({"base": sun.native}, model="embedded", prompt="") == ""
    assert look(None, sun.native, sun.native, model="embedded") == ""


def test_it_is_quick_at_three_times_the_size() -> None:
    rng = np.random.default_rng(0)
    videos = {name: rng.integers(0, 255, (17, 432, 768, 3), dtype=np.uint8) for name in ("freeswim", "naive")}
    videos["base"] = rng.integers(0, 255, (17, 144, 256, 3), dtype=np.uint8)
    for model in ("embedded", "wan2.1-1.3b"):
        began = time.process_time()
        what_to_look_for(videos, model=model, prompt="")
        seconds = time.process_time() - began
        print(f"{model}: {seconds:.2f} s of CPU")
        assert seconds < 8  # on a computer busy with other tests; alone it takes 1 to 2
