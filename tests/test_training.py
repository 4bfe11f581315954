"""The training code: the whole-clip VAE, the renderer, captions, optimisers, and that training learns."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from freeswim.embedded import MODEL_DIR
from freeswim.embedded.subjects import KINDS, WEIGHTS, colour_word
from tests.wan import randomise
from training import whole_clip
from training.__main__ import EMBEDDED, stages
from training.build import MAX_TOKENS, build_tokenizer
from training.clips import render_bank, sample_clips, to_model
from training.optim import Average, Muon, Trainer, _orthogonalise
from training.render import Renderer
from training.scenes import (
    ASPECTS,
    GROUNDS,
    PIXELS_PER_UNIT,
    RIDGE_COLOURS,
    RIDGES,
    SUBJECT_COLOURS,
    Scene,
    View,
    caption,
    held_out,
    sample_scene,
    sample_view,
    unseen_scenes,
    vocabulary,
)
from training.train_transformer import empty_prompt, flow_loss
from training.train_transformer import new_trainer as transformer_trainer
from training.train_vae import loss_terms, random_crops
from training.train_vae import new_trainer as vae_trainer


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer()


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    """One scene with each kind of subject."""
    return {scene.subject: scene for scene in unseen_scenes(np.random.default_rng(3), len(KINDS))}


def small_vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[True, True], patch_size=2,
        in_channels=12, out_channels=12, latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        scale_factor_temporal=4, scale_factor_spatial=8,
    ).eval()  # fmt: skip


# -- the whole-clip VAE ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 5, 17])
@torch.no_grad()
def test_whole_clip_equals_the_stock_vae(frames: int) -> None:
    vae = small_vae()
    randomise(vae, seed=1)
    video = torch.rand(2, 3, frames, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    stock = vae.encode(video).latent_dist
    ours = whole_clip.encode(vae, video)
    torch.testing.assert_close(ours.mean, stock.mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.logvar, stock.logvar, atol=1e-5, rtol=1e-4)
    decoded = vae.decode(stock.mean).sample
    assert decoded.shape == video.shape
    assert decoded.abs().mean() > 0.01
    torch.testing.assert_close(whole_clip.decode(vae, stock.mean).clamp(-1, 1), decoded, atol=1e-5, rtol=1e-4)


# -- the renderer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_picture_shows_the_same_with_more_detail(
    renderer: Renderer, scenes: dict[str, Scene], kind: str
) -> None:
    small, small_cover = renderer.with_subject([scenes[kind]], [View()], (144, 256), 1)
    large, large_cover = renderer.with_subject([scenes[kind]], [View(zoom=2)], (288, 512), 1)

    def halved(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2)

    averaged = halved(large[0].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert float((averaged - small[0]).abs().mean()) < 0.012
    assert float((halved(large_cover) - small_cover).abs().mean()) < 0.001

    def energy(picture: torch.Tensor) -> float:
        return float(picture.diff(dim=-2).square().mean())

    # neither a plain enlargement of the small picture nor of its average is as rich as the true one
    enlarged = F.interpolate(small[0].permute(0, 3, 1, 2), scale_factor=2, mode="bilinear").permute(0, 2, 3, 1)
    assert energy(large[0]) > 1.2 * energy(enlarged)


def test_a_view_is_a_crop_of_the_larger_picture(renderer: Renderer, scenes: dict[str, Scene]) -> None:
    scene = scenes["balloon"]
    whole = renderer([scene], [View(zoom=2)], (288, 512), 1)
    corner = View(x=100 / (2 * PIXELS_PER_UNIT), y=40 / (2 * PIXELS_PER_UNIT), zoom=2)
    part = renderer([scene], [corner], (144, 256), 1)
    assert float((whole[:, :, 40:184, 100:356] - part).abs().mean()) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_coverage_is_the_subject_in_its_place_and_colour(
    renderer: Renderer, scenes: dict[str, Scene], kind: str
) -> None:
    scene = scenes[kind]
    video, cover = renderer.with_subject([scene], [View()], (144, 256), 3)
    assert float(cover.min()) >= 0
    assert float(cover.max()) <= 1
    for i, time in enumerate((0.0, 0.5, 1.0)):
        marked = cover[0, i].numpy() > 0.9
        rows, columns = np.nonzero(marked)
        assert len(rows) > 60
        if kind in ("sun", "moon"):  # these may be half behind a ridge; the others have parts of unequal size
            assert marked.sum() <= 1.1 * np.pi * (scene.radius * PIXELS_PER_UNIT) ** 2
        x, y = (p * PIXELS_PER_UNIT for p in scene.position(time))
        distance = np.hypot(columns.mean() - x, rows.mean() - y)
        assert distance < 0.75 * scene.radius * PIXELS_PER_UNIT
        upper = marked & (np.arange(144)[:, None] < rows.min() + 0.6 * np.ptp(rows))  # no basket, no hull
        assert colour_word(video[0, i].numpy()[upper]) == scene.colour


def test_the_same_scene_is_the_same_picture(scenes: dict[str, Scene]) -> None:
    first, second = (Renderer()([scenes["boat"]], [View()], (72, 128), 2) for _ in range(2))
    assert torch.equal(first, second)
    again, other = (sample_scene(np.random.default_rng(seed), "wide", "boat") for seed in (5, 6))
    assert again == sample_scene(np.random.default_rng(5), "wide", "boat")
    pictures = Renderer()([again, other], [View(), View()], (72, 128), 1)
    assert float((pictures[0] - pictures[1]).abs().mean()) > 0.02


@pytest.mark.parametrize("aspect", ASPECTS)
def test_subjects_stay_inside_every_aspect(aspect: str) -> None:
    rng = np.random.default_rng(1)
    for kind in SUBJECT_COLOURS:
        for _ in range(50):
            scene = sample_scene(rng, aspect, kind)
            for time in (0.0, 0.5, 1.0):
                x, y = scene.position(time)
                assert 0 < x < scene.width
                assert 0 < y < scene.height


# -- captions and the split --------------------------------------------------------------------------------------------


def test_captions_fit_the_tokenizer() -> None:
    tokenizer, rng = build_tokenizer(), np.random.default_rng(0)
    words = set(vocabulary())
    for _ in range(400):
        scene = sample_scene(rng)
        text = caption(scene, sample_view(scene, rng) if rng.random() < 0.5 else View(), rng)
        assert set(text.split()) <= words
        ids = tokenizer(text).input_ids
        assert len(ids) <= MAX_TOKENS
        assert tokenizer.unk_token_id not in ids
        assert ids[-1] == tokenizer.eos_token_id


def test_the_tokenizer_is_the_one_that_ships() -> None:
    tokenizer = build_tokenizer()
    empty_prompt(tokenizer)  # its settings for padding are stored too
    assert tokenizer.backend_tokenizer.to_str(pretty=True) == (MODEL_DIR / "tokenizer" / "tokenizer.json").read_text()


def test_a_complete_caption_names_all_there_is() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        scene = sample_scene(rng)
        text = caption(scene, View(), rng, complete=True)
        for part in (f"{scene.colour} {scene.subject} {scene.motion}", f"{scene.ridge_colour} {scene.ridge}"):
            assert part in text
        assert GROUNDS[scene.ground] in text
        assert ("with soft clouds" in text) == (scene.clouds and "sky" in text)


def test_a_view_is_not_said_to_show_what_it_leaves_out() -> None:
    rng = np.random.default_rng(8)
    scene = sample_scene(rng, "wide", "balloon")
    top, bottom = View(zoom=8), View(y=scene.height * 7 / 8, zoom=8)
    for view, seen, unseen in ((top, scene.sky, GROUNDS[scene.ground]), (bottom, GROUNDS[scene.ground], "sky")):
        text = caption(scene, view, rng, complete=True)
        assert seen in text
        assert unseen not in text
        assert "balloon" not in text


def test_one_combination_in_sixteen_is_kept_from_training() -> None:
    rng = np.random.default_rng(0)
    some = {sample_scene(rng) for _ in range(6000)}
    combinations = {(s.subject, s.colour, s.ridge, s.ridge_colour, s.ground): held_out(s) for s in some}
    possible = [len(colours) * len(RIDGES) * len(RIDGE_COLOURS) * len(GROUNDS) for colours in SUBJECT_COLOURS.values()]
    assert len(combinations) > 0.4 * sum(possible)  # not all colours go with all skies and grounds
    assert 0.04 < np.mean(list(combinations.values())) < 0.09
    drawn, _, _ = sample_clips(np.random.default_rng(1), 500, "wide")
    assert not any(held_out(scene) for scene in drawn)
    assert all(held_out(scene) for scene in unseen_scenes(np.random.default_rng(1), 50))


# -- optimisers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 24, 96), (3, 96, 24)])
def test_updates_are_orthogonalised(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(_orthogonalise(matrices).float())
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    # the same left and right bases: the product with the input is nearly symmetric and positive
    polar = torch.linalg.svd(matrices, full_matrices=False)
    nearest = polar.U @ polar.Vh
    assert float(F.cosine_similarity(_orthogonalise(matrices).float().flatten(1), nearest.flatten(1)).min()) > 0.95


def test_muon_steps_by_a_fifth_of_the_learning_rate() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(32, 16, 3, 3))
    before = kernel.detach().clone()
    kernel.grad = torch.randn_like(kernel)
    Muon([kernel], lr=0.01, weight_decay=0.0).step()
    step = (kernel.detach() - before).square().mean().sqrt()
    assert float(step) == pytest.approx(0.2 * 0.01, rel=0.2)


def test_the_schedule_rises_then_falls_in_lines() -> None:
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    trainer = Trainer([net], lr=1.0, edge=("1.",), warmup=0.1)
    muon, adam = trainer.optimisers
    assert [len(o.param_groups[0]["params"]) for o in trainer.optimisers] == [1, 3]  # the last layer is an edge
    expected = {0.0: 0.0, 0.05: 0.5, 0.1: 1.0, 0.55: 0.5, 1.0: 0.0, 1.2: 0.0}
    for progress, factor in expected.items():
        trainer.step(net(torch.ones(1, 16)).square().sum(), progress)
        assert muon.param_groups[0]["lr"] == pytest.approx(factor)
        assert adam.param_groups[0]["lr"] == pytest.approx(factor / 2)
    assert all(p.grad is None for p in net.parameters())


def test_the_average_follows_the_weights() -> None:
    weight = nn.Parameter(torch.zeros(4))
    average = Average([weight], decay=0.9)
    for value in range(1, 101):
        weight.data.fill_(value)
        average.update()
    average.copy_to_params()
    assert weight[0].item() == pytest.approx(100 - 0.9 / 0.1, abs=0.2)  # it lags by decay / (1 - decay) steps


# -- training learns ---------------------------------------------------------------------------------------------------


def test_a_few_steps_teach_a_vae(renderer: Renderer) -> None:
    scenes, views, _ = sample_clips(np.random.default_rng(0), 4, "wide")
    video = renderer(scenes, views, (48, 80), 5)
    bank = (video * 255).round().to(torch.uint8)
    vae = small_vae().train()
    trainer = vae_trainer(vae, lr=1e-2)

    def error() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(loss_terms(vae, to_model(bank))["mse"])

    before = error()
    for i in range(30):
        terms = loss_terms(vae, random_crops(bank, 2, 32))
        trainer.step(terms["pixels"] + terms["edges"] + terms["kl"], (i + 1) / 30)
    assert error() < 0.4 * before


def test_a_few_steps_teach_a_transformer_and_its_text_encoder() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=4, out_channels=4, text_dim=16, freq_dim=32,
        ffn_dim=96, num_layers=2, cross_attn_norm=True, rope_max_seq_len=64,
    )  # fmt: skip
    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), dropout_rate=0.0, pad_token_id=0, eos_token_id=1, **size)
    )
    trainer = transformer_trainer(transformer, text_encoder, lr=1e-2)
    texts = ["a red sun", "a blue boat"] * 4
    ids = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").input_ids
    # what is to be drawn depends on the caption alone
    latents = torch.tensor([1.0, -1.0] * 4).view(8, 1, 1, 1, 1).expand(8, 4, 2, 4, 4).contiguous()
    empty = empty_prompt(tokenizer)

    def loss() -> torch.Tensor:
        return flow_loss(transformer, text_encoder, latents, ids, empty)

    def error() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(loss())

    before = error()
    for i in range(60):
        trainer.step(loss(), (i + 1) / 60)
    assert error() < 0.3 * before


def test_clips_come_as_bytes_and_leave_for_the_vae(renderer: Renderer) -> None:
    scenes, views, texts = sample_clips(np.random.default_rng(0), 1, "square", captions=2)
    bank = render_bank(renderer, scenes, views, "square")
    assert bank.shape == (1, 17, 192, 192, 3)
    assert bank.dtype == torch.uint8
    assert [len(several) for several in texts] == [2]
    clips = to_model(bank)
    assert clips.shape == (1, 3, 17, 192, 192)
    assert -1 <= float(clips.min()) < float(clips.max()) <= 1


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_runs_what_the_readme_says() -> None:
    flags = {name: dict(itertools.pairwise(line)) for name, line in stages(EMBEDDED, 1.0).items()}
    readme = (Path(__file__).parents[1] / "training" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", readme, flags=re.MULTILINE))
    transformer = ("transformer", "resume", "balance", "complete")
    assert list(flags) == list(rows) == ["vae", *transformer, "detector", "sheet"]

    def said(name: str, pattern: str) -> str:
        found = re.search(pattern, rows[name])
        assert found, f"the README does not say {pattern} of {name}"
        return found[1].replace(",", "")

    for name in ("vae", *transformer, "detector"):
        assert flags[name]["--seconds"] == said(name, r"(\d+) s\b")
    for name in ("vae", *transformer):
        assert flags[name]["--clips"] == said(name, r"([\d,]+) clips")
    for name in transformer:
        assert flags[name]["--lr"] == said(name, r"learning rate (\d\S*?)(?:,|$)")
    assert [flags[name]["--seconds"] for name in ("vae", "transformer", "resume", "detector")] == [
        "400",
        "370",
        "190",
        "25",
    ]
    assert [flags[name]["--clips"] for name in ("vae", "transformer", "resume")] == ["3000", "24000", "10000"]
    assert [flags[name]["--batch"] for name in ("vae", *transformer)] == ["16", "128", "128", "128", "128"]
    assert flags["detector"]["--output"] == flags["sheet"]["--detector"] == str(WEIGHTS)
    assert flags["sheet"]["--prompts"] == "64"


def test_a_trial_elsewhere_leaves_the_package_alone(tmp_path: Path) -> None:
    for line in stages(tmp_path, 0.0005).values():
        paths = [word for word in line if "/" in word]
        assert paths
        assert all(Path(path).is_relative_to(tmp_path) for path in paths)
