"""Live preview: the map from latents to colours, its fit, and what it shows of drawn scenes through the real VAE."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray

from freeswim.codec import encode
from freeswim.embedded import MODEL_DIR
from freeswim.page import live
from freeswim.page.preview import LatentColours, latent_averages
from training.clips import to_model
from training.latent_colours import psnr
from training.render import Renderer, to_uint8
from training.scenes import View, unseen_scenes


def linear_pair(
    seed: int, *, channels: int = 6, count: int = 3, detail: int = 2
) -> tuple[torch.Tensor, NDArray[np.uint8]]:
    """Random latents (1, 6, 3, 20, 24) and the frames (9, 160, 192, 3) that one fixed linear map makes of them."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 6, 3, 20, 24, generator=generator)
    weight = torch.randn(3 * detail * detail, 6, 3, 3, generator=torch.Generator().manual_seed(99)) * 0.02
    padded = F.pad(latents[0].transpose(0, 1), (1, 1, 1, 1), mode="replicate")
    small = F.pixel_shuffle(F.conv2d(padded, weight) + 0.5, detail)
    large = F.interpolate(small, scale_factor=8 // detail, mode="nearest")
    frames = (large * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return latents, np.concatenate([frames[:1], frames[1:].repeat(4, 0)])


def test_a_linear_world_is_found_again_and_shown_right() -> None:
    colours = LatentColours.fit(*linear_pair(1), detail=2)
    latents, frames = linear_pair(2)
    shown = colours.frames(latents)
    assert shown.shape == (3, 40, 48, 3)
    assert shown.dtype == np.uint8
    true = F.interpolate(latent_averages(frames, 3), (40, 48), mode="area").permute(0, 2, 3, 1) * 255
    assert np.abs(shown - true.numpy()).max() < 5


def test_above_the_limit_the_average_is_shown() -> None:
    latents, frames = linear_pair(1)
    colours = LatentColours.fit(latents, frames, detail=2)
    whole = torch.from_numpy(colours.frames(latents)).permute(0, 3, 1, 2).float()
    for limit, size in ((47, (20, 24)), (24, (20, 24)), (12, (10, 12))):
        shown = colours.frames(latents, limit=limit)
        assert shown.shape == (3, *size, 3)
        small = F.interpolate(whole, size, mode="area").permute(0, 2, 3, 1).numpy()
        assert np.abs(shown - small).mean() < 1.5


def test_what_was_cut_off_at_the_border_may_be_missing() -> None:
    latents, frames = linear_pair(1)
    whole, cut = (LatentColours.fit(latents, f, detail=2) for f in (frames, frames[:, :150, :186]))
    difference = whole.frames(latents)[:, :36, :44].astype(int) - cut.frames(latents)[:, :36, :44]
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize(
    ("shape", "message"),
    [((8, 160, 192, 3), "len(frames)=8"), ((9, 16, 16, 3), "frames.shape"), ((9, 160, 400, 3), "frames.shape")],
)
def test_frames_of_something_else_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match="can't be") as caught:
        LatentColours.fit(linear_pair(1)[0], np.zeros(shape, np.uint8))
    assert message in str(caught.value)


def test_latents_of_another_model_are_refused() -> None:
    colours = LatentColours.fit(*linear_pair(1))
    with pytest.raises(ValueError, match=r"must be \(1, 6, T, h, w\)"):
        colours.frames(torch.zeros(1, 5, 3, 8, 8))


def test_only_the_embedded_model_brings_its_map() -> None:
    assert LatentColours.shipped("embedded") is not None
    assert LatentColours.shipped("wan2.1-1.3b") is None


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    latents, frames = linear_pair(1)
    colours = LatentColours.fit(latents, frames)
    colours.save(tmp_path / "map.safetensors")
    difference = colours.frames(latents).astype(int) - LatentColours.load(tmp_path / "map.safetensors").frames(latents)
    assert np.abs(difference).max() <= 2


def test_the_detail_fits_into_the_limit() -> None:
    colours = LatentColours.fit(*linear_pair(1), detail=4)
    whole = colours.frames(linear_pair(2)[0])
    assert whole.shape == (3, 80, 96, 3)
    half = colours.frames(linear_pair(2)[0], limit=95)
    assert half.shape == (3, 40, 48, 3)
    assert np.abs(whole.reshape(3, 40, 2, 48, 2, 3).mean((2, 4)) - half).mean() < 1.5


@torch.no_grad()
def test_the_shipped_map_shows_scenes_it_never_saw() -> None:
    vae = AutoencoderKLWan.from_pretrained(MODEL_DIR / "vae").eval()
    colours = LatentColours.shipped("embedded")
    assert colours is not None
    scenes = unseen_scenes(np.random.default_rng(11), 2)
    clips = to_uint8(Renderer()(scenes, [View()] * 2, (144, 256), 5))
    latents = [encode(vae, to_model(clip[None])) for clip in clips]
    shown = [colours.frames(latent) for latent in latents]
    assert shown[0].shape == (2, 72, 128, 3)
    right = [psnr(a, b.numpy()) for a, b in zip(shown, clips, strict=True)]
    wrong = [psnr(a, b.numpy()) for a, b in zip(shown, clips.flip(0), strict=True)]
    assert min(right) > 18
    assert min(right) > max(wrong) + 5


@torch.no_grad()
def test_a_model_without_a_map_is_learnt_from_a_part_of_its_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAUSE", 0.0)
    monkeypatch.setattr(live, "_SHARE", 1e9)
    monkeypatch.setattr(live, "_PART", 16)
    pictures: list[NDArray[np.uint8]] = []

    def keep(frames: NDArray[np.uint8]) -> str:
        pictures.append(frames)
        return "a picture"

    monkeypatch.setattr(live, "animation", keep)
    vae = AutoencoderKLWan.from_pretrained(MODEL_DIR / "vae").eval()
    clip = to_uint8(Renderer()(unseen_scenes(np.random.default_rng(12), 1), [View()], (144, 256), 5))[0]
    latents = encode(vae, to_model(clip[None]))

    run = live.Live("a model of somebody's")
    assert run.look(latents) is None, "nothing is known yet"
    run.decode = live.decoder(vae)
    run.look(latents)
    assert psnr(pictures[0], clip.numpy()) > 17
    assert run.colours is None, "a part is not much"
    run.learn(clip.numpy())
    run.decode = None  # the whole video has said all there is
    run.look(latents)
    assert psnr(pictures[1], clip.numpy()) > psnr(pictures[0], clip.numpy())
    later = live.Live("a model of somebody's", run.colours)
    later.look(latents)
    assert np.array_equal(pictures[2], pictures[1]), "a later run knows it from the start"


def test_a_vae_that_lies_elsewhere_is_not_fetched() -> None:
    vae = AutoencoderKLWan.from_pretrained(MODEL_DIR / "vae").eval()
    assert live.decoder(vae)(torch.zeros(1, 16, 1, 4, 4, device="meta")) is None
    vae._hf_hook = object()
    assert live.decoder(vae)(torch.zeros(1, 16, 1, 4, 4)) is None
