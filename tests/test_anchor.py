"""The anchor: coarse structure of the clean estimate becomes the guide's, finer structure stays."""

import pytest
import torch
import torch.nn.functional as F

from freeswim import FreeSwimConfig, FreeSwimPipeline, Request, apply_freeswim
from freeswim.anchor import anchored
from freeswim.downsample import average_down
from freeswim.plan import make_plan
from tests.wan import random_latents, random_text, tiny_transformer

SHAPE = (1, 4, 3, 12, 20)
SIGMA = 0.8


def smooth(seed: int) -> torch.Tensor:
    """Structure much coarser than the guide's grid of (6, 10)."""
    coarse = torch.randn(1, 4, 3, 2, 3, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, SHAPE[2:], mode="trilinear")


def test_the_clean_estimate_takes_the_coarse_structure_and_keeps_the_fine_one() -> None:
    clean, other, noise = smooth(1), smooth(2), torch.randn(SHAPE)
    fine = torch.tensor([1.0, -1.0]).repeat(10) * torch.ones(SHAPE)  # averages to nothing on the guide's grid
    latents = (1 - SIGMA) * (clean + fine) + SIGMA * noise
    velocity = noise - (clean + fine)
    result = latents - SIGMA * anchored(velocity, latents, average_down(other, (6, 10)), sigma=SIGMA)
    before = (clean - other).square().mean()
    assert (result - (other + fine)).square().mean() < 0.02 * before
    torch.testing.assert_close(result.diff(dim=-1)[..., 0::2].mean(), torch.tensor(-2.0), atol=0.1, rtol=0)


def test_an_estimate_that_agrees_already_is_not_changed() -> None:
    latents, velocity = torch.randn(SHAPE), torch.randn(SHAPE)
    agreeing = average_down(latents - SIGMA * velocity, (5, 7))  # whole ratios are not needed
    torch.testing.assert_close(anchored(velocity, latents, agreeing, sigma=SIGMA), velocity)


def test_conditions_behind_the_noisy_channels_do_not_count() -> None:
    latents, velocity = torch.randn(1, 6, 3, 12, 20), torch.randn(SHAPE).bfloat16()
    target = torch.randn(1, 4, 3, 6, 10)
    changed = anchored(velocity, latents, target, sigma=SIGMA)
    assert (changed.shape, changed.dtype) == (velocity.shape, torch.bfloat16)
    assert torch.equal(changed, anchored(velocity, latents[:, :4], target, sigma=SIGMA))


def test_the_stock_output_class_is_kept() -> None:
    model = tiny_transformer()
    latents = random_latents((2, 6, 8))
    apply_freeswim(model, FreeSwimConfig(window=(3, 4)))
    for return_dict in (True, False):
        with torch.no_grad(), model.cache_context("cond", step_index=0, sigma=0.9, num_inference_steps=2):
            output = model(latents, torch.tensor([900]), random_text(), return_dict=return_dict)
        assert (output.sample if return_dict else output[0]).shape == latents.shape


def test_a_full_guide_with_an_anchor_needs_the_noise_level() -> None:
    model = tiny_transformer()
    apply_freeswim(model, FreeSwimConfig(window=(3, 4), guide="full"))
    with pytest.raises(ValueError, match=r"anchor_above=0\.6 needs the noise level"), model.cache_context("cond"):
        model(random_latents((2, 6, 8)), torch.tensor([900]), random_text())


@pytest.mark.parametrize("strength", [0.4, 0.7, 1.0])
def test_the_plan_knows_the_noise_levels_of_the_scheduler(strength: float) -> None:
    pipeline = FreeSwimPipeline.from_pretrained("embedded")
    plan = make_plan(Request(prompt="-", strength=strength, steps=12))
    scheduler = pipeline._scheduler(plan.request.flow_shift)
    scheduler.set_timesteps(12)
    expected = [float(sigma) for sigma in scheduler.sigmas[plan.begin : 12]]
    assert [plan.sigma(i) for i in range(12 - plan.begin)] == pytest.approx(expected, abs=4e-3)
