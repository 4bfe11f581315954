"""The trained model that ships, and the detector that counts its subjects."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray

from freeswim.embedded import EXAMPLES, MODEL_DIR, VOCABULARY, unknown_words
from freeswim.embedded.subjects import SubjectNet, find, load, shows_exactly
from training.build import MAX_TOKENS
from training.clips import to_model
from training.render import Renderer, to_uint8
from training.scenes import Scene, View, unseen_scenes, vocabulary

NATIVE = (144, 256)  # height, width


@pytest.fixture(scope="module")
def pipe() -> WanPipeline:
    pipe = WanPipeline.from_pretrained(MODEL_DIR, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def net() -> SubjectNet:
    return load()


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    """One scene with each kind of subject, none of whose combinations was trained on."""
    return {scene.subject: scene for scene in unseen_scenes(np.random.default_rng(12), 4)}


def picture(scene: Scene, zoom: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A true picture, (144 zoom, 256 zoom, 3), and the pixels that the subject covers."""
    size = (NATIVE[0] * zoom, NATIVE[1] * zoom)
    video, cover = Renderer().with_subject([scene], [View(zoom=zoom)], size, 1)
    return to_uint8(video[0, 0]).numpy(), cover[0, 0].numpy() > 0.5


# -- words -------------------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_what_captions_are_made_of() -> None:
    assert sorted(vocabulary()) == list(VOCABULARY)
    assert {"balloon", "mountains", "night"} <= set(VOCABULARY)


def test_unknown_words_are_named_once_and_in_order() -> None:
    assert unknown_words("A Red dragon over a gray SEA; a small dragon's friend, the dragon!") == [
        "dragon",
        "small",
        "dragon's",
        "friend",
        "the",
    ]
    assert unknown_words("") == []
    for prompt in EXAMPLES:
        assert unknown_words(prompt) == []


def test_a_word_is_unknown_exactly_when_the_tokenizer_does_not_know_it(pipe: WanPipeline) -> None:
    for word in (*VOCABULARY, "Gray", "SEA", "sea,", "dragon", "suns", "pad", "unk"):
        unknown = pipe.tokenizer.unk_token_id in pipe.tokenizer(word).input_ids
        assert unknown == bool(unknown_words(word)), word


# -- the checkpoint ----------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_small_and_holds_no_code() -> None:
    files = [path for path in Path(MODEL_DIR).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 60e6
    assert {path.suffix for path in files} == {".py", ".json", ".safetensors"}


def test_stock_diffusers_loads_it(pipe: WanPipeline) -> None:
    assert pipe.transformer.config.in_channels == pipe.vae.config.z_dim
    assert pipe.text_encoder.config.d_model == pipe.transformer.config.text_dim
    assert pipe.vae.config.scale_factor_spatial == 8
    assert max(len(pipe.tokenizer(prompt).input_ids) for prompt in EXAMPLES) <= MAX_TOKENS
    for part in (pipe.transformer, pipe.text_encoder, pipe.vae):
        assert all(bool(p.isfinite().all()) for p in part.parameters())
    # the latents' statistics were measured, not left at their defaults
    assert pipe.vae.config.latents_std != [1.0] * pipe.vae.config.z_dim


@torch.no_grad()
def test_the_vae_reconstructs_a_true_clip(pipe: WanPipeline, scenes: dict[str, Scene]) -> None:
    clip = to_uint8(Renderer()([scenes["balloon"]], [View()], NATIVE, 9))
    latents = pipe.vae.encode(to_model(clip)).latent_dist.mode()
    assert latents.shape == (1, 16, 3, 18, 32)
    output = (pipe.vae.decode(latents).sample.permute(0, 2, 3, 4, 1) * 127.5 + 127.5).round().clamp(0, 255)
    psnr = -10 * torch.log10((output - clip.float()).square().mean() / 255**2)
    assert psnr >= 30


def test_it_draws_what_the_prompt_says(pipe: WanPipeline, net: SubjectNet) -> None:
    prompt = "a red balloon rising over blue mountains and a green meadow under a blue sky with soft clouds"
    frames = pipe(
        prompt, height=NATIVE[0], width=NATIVE[1], num_frames=17, num_inference_steps=8, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0), max_sequence_length=MAX_TOKENS,
    ).frames[0]  # fmt: skip
    video = (np.asarray(frames) * 255).round().astype(np.uint8)
    assert video.shape == (17, *NATIVE, 3)
    assert shows_exactly(net, video, "balloon", "red") == (True, True)
    assert not shows_exactly(net, video, "balloon", "green")[1]
    (first,), (last,) = find(net, video[[0, -1]])
    assert last.centre[1] < first.centre[1] - 0.1  # rising


# -- the detector ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [1, 2, 3])
@pytest.mark.parametrize("kind", ["sun", "moon", "balloon", "boat"])
def test_a_true_picture_holds_one_subject(net: SubjectNet, scenes: dict[str, Scene], kind: str, zoom: int) -> None:
    frame, cover = picture(scenes[kind], zoom)
    (subject,) = find(net, frame[None])[0]
    assert (subject.kind, subject.colour) == (kind, scenes[kind].colour)
    rows, columns = np.nonzero(cover)
    assert subject.pixels == pytest.approx(cover.sum(), rel=0.2)
    assert subject.centre == pytest.approx((columns.mean() / cover.shape[1], rows.mean() / cover.shape[0]), abs=0.02)


def test_two_pictures_side_by_side_hold_two_subjects(net: SubjectNet, scenes: dict[str, Scene]) -> None:
    both = np.concatenate([picture(scenes[kind])[0] for kind in ("balloon", "boat")], axis=1)
    assert {subject.kind for subject in find(net, both[None])[0]} == {"balloon", "boat"}


@pytest.mark.parametrize("zoom", [2, 3])
@pytest.mark.parametrize("kind", ["balloon", "boat"])
def test_copies_of_native_size_count_in_a_larger_picture(
    net: SubjectNet, scenes: dict[str, Scene], kind: str, zoom: int
) -> None:
    """Even right below the large one, where a basket or a hull would be."""
    large, cover = picture(scenes[kind], zoom)
    small, small_cover = picture(scenes[kind])
    rows, columns = (np.flatnonzero(small_cover.any(axis)) for axis in (1, 0))
    patch = small[rows[0] - 2 : rows[-1] + 3, columns[0] - 2 : columns[-1] + 3]
    height, width = patch.shape[:2]
    below, across = np.flatnonzero(cover.any(1))[-1] + 6, np.flatnonzero(cover.any(0))
    middle = int(across.mean()) - width // 2
    corners = [(below, middle), (4, 8), (4, large.shape[1] - width - 8)]
    for number, (y, x) in enumerate(corners, start=2):
        assert not cover[y : y + height, x : x + width].any()
        large[y : y + height, x : x + width] = patch
        assert len(find(net, large[None])[0]) == number


def test_an_empty_picture_holds_none(net: SubjectNet, scenes: dict[str, Scene]) -> None:
    frame, _ = picture(scenes["boat"])
    assert find(net, frame[None, :60])[0] == []
