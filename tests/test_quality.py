"""The quality benchmark's own instruments: each must move with what it is to measure, and only with that."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.quality.captions import LandscapeReader, motion_agrees
from benchmarks.quality.generate import whole_scene
from benchmarks.quality.measures import _change, _detail, _seam, _structure
from benchmarks.quality.statistics import geometric_mean, mean, share
from benchmarks.quality.table import row
from benchmarks.quality.variants import variants
from freeswim import FreeSwimConfig
from freeswim.embedded.subjects import Subject
from freeswim.sizes import Size
from training.render import Renderer, to_uint8
from training.scenes import Scene, View, sample_scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return sample_scene(np.random.default_rng(11), "wide", "balloon")


@pytest.fixture(scope="module")
def video(scene: Scene) -> torch.Tensor:
    """uint8 (3, 288, 512, 3), a true picture at 2x."""
    return to_uint8(Renderer()([scene], [whole_scene(scene, Size(512, 288))], (288, 512), 3))[0]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    holds = []
    for _ in range(300):
        low, high = share((rng.random(64) < 0.9).astype(float))[1:]
        holds.append(low <= 0.9 <= high)
    assert 0.9 < np.mean(holds) < 0.99
    holds = []
    for _ in range(200):  # two clips of each of 32 prompts, which share the prompt's own part
        low, high = mean((rng.normal(5, 1, (1, 32)) + rng.normal(0, 0.2, (2, 32))).ravel(), 32)[1:]
        holds.append(low <= 5 <= high)
    assert 0.88 < np.mean(holds) < 0.99


def test_a_share_of_all_has_a_lower_end_below_one() -> None:
    centre, low, high = share(np.ones(64))
    assert (centre, high) == (1, 1)
    assert 0.93 < low < 0.96


def test_ratios_balance() -> None:
    assert geometric_mean(np.array([0.5, 2.0]), 2)[0] == pytest.approx(1)


def test_detail_falls_with_blur_and_rises_with_noise(video: torch.Tensor) -> None:
    small = torch.nn.functional.interpolate(video.movedim(-1, 1).float(), scale_factor=0.5, mode="area")
    blurred = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear").movedim(1, -1)
    noisy = video.float() + 8 * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    true, blur, noise = (float(_detail(v[None])) for v in (video, blurred, noisy))
    assert blur < 0.5 * true
    assert noise > 1.5 * true


def test_a_seam_is_seen_where_it_is_and_only_there() -> None:
    texture = 100 + 20 * torch.randn(3, 288, 512, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, -1, 3)
    assert float(_seam(texture, 48, 80)) == pytest.approx(1, abs=0.03)
    broken = texture.clone()
    for i, start in enumerate(range(0, 512, 80)):
        broken[:, :, start : start + 80] += 20 * (-1) ** i
    assert float(_seam(broken, 48, 80)) > 1.2
    assert float(_seam(broken, 48, 72)) == pytest.approx(1, abs=0.05)  # other lines


def test_structure_is_blind_to_detail_and_sees_a_shift(video: torch.Tensor) -> None:
    native = torch.nn.functional.interpolate(video.movedim(-1, 1).float(), scale_factor=0.5, mode="area")
    native = native.round().byte().movedim(1, -1)
    assert float(_structure(video, native)) > 45
    assert float(_structure(video.roll(24, dims=2), native)) < 30


def test_a_true_picture_is_the_same_scene_at_every_size(scene: Scene, video: torch.Tensor) -> None:
    native = to_uint8(Renderer()([scene], [View()], (144, 256), 3))[0]
    assert float(_structure(video, native)) > 25


def test_change_between_frames_is_zero_for_a_still(video: torch.Tensor) -> None:
    assert float(_change(video[:1].expand(3, -1, -1, -1)[None])) == 0
    assert float(_change(video[None])) > 0


def test_the_landscape_reader_names_sky_and_ground() -> None:
    reader = LandscapeReader(torch.device("cpu"), "wide", scenes=200, checked=60)
    assert reader.error["sky"] < 0.15
    assert reader.error["ground"] < 0.15
    noise = torch.rand(20, 3, 144, 256, generator=torch.Generator().manual_seed(0))
    assert len(set(reader.read(noise)["sky"])) < 5  # it answers for anything: only agreement with a caption counts


@pytest.mark.parametrize(
    ("motion", "path", "agrees"),
    [
        ("rising", [(0.5, 0.6), (0.5, 0.3)], True),
        ("rising", [(0.5, 0.3), (0.5, 0.6)], False),
        ("drifting left", [(0.6, 0.5), (0.4, 0.5)], True),
        ("sailing right", [(0.6, 0.5), (0.4, 0.5)], False),
        ("sailing right", [(0.5, 0.5), (0.51, 0.5)], False),
        ("sailing right", [(0.5, 0.5)], False),
    ],
)
def test_motion_is_read_from_first_and_last_place(
    scene: Scene, motion: str, path: list[tuple[float, float]], agrees: bool
) -> None:
    frames = [[Subject("balloon", "red", 900, centre)] for centre in path]
    assert motion_agrees([*frames[:1], [], *frames[1:]], dataclasses.replace(scene, motion=motion)) is agrees


def test_a_row_keeps_means_inside_their_intervals() -> None:
    rng = np.random.default_rng(0)
    flags = ("one", "right", "kind", "colour", "sky", "ground", "motion")
    values: dict[str, Any] = {name: (rng.random(8) < 0.7).astype(float) for name in flags}
    values |= {
        n: rng.random(8) + 0.5 for n in ("subjects", "structure", "detail", "seam", "token_seam", "flicker", "width")
    }
    values["width"][0] = np.nan  # nothing was found to compare
    for name, (centre, low, high) in row(values, prompts=4).items():
        assert low <= centre <= high, name


def test_every_variant_makes_a_config_and_no_two_are_alike() -> None:
    default = FreeSwimConfig(window=(9, 16), query_tile=(3, 5))
    made = [(variant.config(default), variant.strength) for variant in variants()]
    assert len(set(made)) == len(made)
    assert made.count((None, None)) == 1
    assert (default, None) in made
    assert len({variant.name for variant in variants()}) == len(made)
