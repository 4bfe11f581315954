"""FreeSwimPipeline on a tiny random checkpoint: what it makes, what it shares, how it stops, and that it cleans up."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from freeswim import FreeSwimConfig, apply_freeswim, codec
from freeswim.denoise import denoise
from freeswim.pipeline import FreeSwimPipeline, Progress, Stop, Stopped, Video
from freeswim.request import Request
from freeswim.sizes import Size
from tests.wan import random_latents, random_text, save_tiny_checkpoint

# 5 x 4 tokens and 2 latent frames; the target of 144 x 112 pixels is 9 x 7 tokens.
FACTS = {"native_width": 80, "native_height": 64, "native_frames": 5, "default_steps": 3, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> FreeSwimPipeline:
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    (folder / "freeswim.json").write_text(json.dumps(FACTS))
    return FreeSwimPipeline.from_pretrained(str(folder), device="cpu")


def test_progress_shows_what_the_video_would_be_by_now(pipeline: FreeSwimPipeline) -> None:
    seen: list[Progress] = []
    result = pipeline(ask(), on_progress=seen.append)
    last = {progress.stage: progress.clean for progress in seen if progress.clean is not None}
    assert list(last) == ["native", "freeswim", "naive"]
    for stage, name in (("native", "base"), ("freeswim", "freeswim")):
        # The last step goes all the way, so what it aimed at is what was decoded.
        height, width = result.videos[name].shape[1:3]
        codec.set_tiling(pipeline.pipe.vae, Size(width, height), pipeline.model.native, torch.device("cpu"))
        with torch.no_grad():
            frames = codec.decode(pipeline.pipe.vae, last[stage], Size(width, height))
        assert np.abs(frames.astype(int) - result.videos[name]).max() <= 1


def ask(**values: Any) -> Request:
    fields: dict[str, Any] = {"prompt": "a red sun", "width": 144, "height": 112, "compare": True, "seed": 1}
    return Request(**fields | values)


def stock_output(pipeline: FreeSwimPipeline) -> torch.Tensor:
    """The transformer's output as a stock model: it raises, or differs, while FreeSwim is applied."""
    with torch.no_grad():
        output: torch.Tensor = pipeline.pipe.transformer(
            random_latents((2, 7, 9)), torch.tensor([500.0]), random_text(length=8), return_dict=False
        )[0]
    return output


@pytest.fixture
def left_stock(pipeline: FreeSwimPipeline) -> Any:
    """Around a test: the transformer computes the same bits afterwards, with the same kinds of processors."""
    before = stock_output(pipeline)
    kinds = {name: type(p) for name, p in pipeline.pipe.transformer.attn_processors.items()}
    yield
    assert torch.equal(stock_output(pipeline), before)
    assert {name: type(p) for name, p in pipeline.pipe.transformer.attn_processors.items()} == kinds


def test_makes_three_videos_in_order(pipeline: FreeSwimPipeline, left_stock: None) -> None:
    seen: list[Progress] = []
    saved: list[tuple[str, Video]] = []
    result = pipeline(ask(), on_progress=seen.append, on_video=lambda name, video: saved.append((name, video)))
    assert list(result.videos) == [name for name, _ in saved] == ["base", "freeswim", "naive"]
    assert [result.videos[name].shape for name in result.videos] == [(5, 64, 80, 3), (5, 112, 144, 3), (5, 112, 144, 3)]
    for name, video in saved:
        assert video.frames is result.videos[name]
        assert video.frames.std() > 1
        assert video.fps == result.fps == 16
    assert not np.array_equal(result.videos["freeswim"], result.videos["naive"])
    assert result.main == "freeswim"

    stages = ["prompt", "native", "decode native", "encode", "freeswim", "decode freeswim", "naive", "decode naive"]
    assert list(dict.fromkeys(progress.stage for progress in seen)) == list(result.seconds) == stages
    for stage in stages:
        steps = [(progress.step, progress.total) for progress in seen if progress.stage == stage]
        total = {"native": 3, "freeswim": 2, "naive": 2}.get(stage, 1)
        assert steps == [(step, total) for step in range(total + 1)]
        clean = [progress.clean for progress in seen if progress.stage == stage and progress.step]
        assert all((latents is not None) == (total > 1) for latents in clean)
    assert seen[-1].remaining == 0
    assert seen[-1].elapsed >= seen[0].elapsed >= 0


def test_settings_repeat_the_run(pipeline: FreeSwimPipeline) -> None:
    result = pipeline(ask())
    settings = json.loads(json.dumps(result.settings))
    assert settings["run"]["token_grid"] == [2, 7, 9]
    assert settings["run"]["refine_steps"] == 2
    again = pipeline(Request.from_dict(settings))
    assert again.settings == settings
    for name, frames in result.videos.items():
        assert np.array_equal(again.videos[name], frames)


def test_another_seed_is_another_video(pipeline: FreeSwimPipeline) -> None:
    first, second = pipeline(ask(compare=False)), pipeline(ask(compare=False, seed=2))
    assert list(first.videos) == ["base", "freeswim"]
    for name in first.videos:
        assert not np.array_equal(first.videos[name], second.videos[name])


def test_native_video_is_the_stock_pipelines(pipeline: FreeSwimPipeline, left_stock: None) -> None:
    frames = pipeline.native(ask()).frames
    stock = pipeline.pipe(
        prompt="a red sun", negative_prompt=pipeline.model.default_negative_prompt, width=80, height=64, num_frames=5,
        num_inference_steps=3, generator=torch.Generator().manual_seed(1), max_sequence_length=8,
    ).frames[0]  # fmt: skip
    assert np.abs(frames - stock * 255).max() <= 0.51  # levels: the same latents, decoded and rounded


def record(monkeypatch: pytest.MonkeyPatch, target: Any, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Lets `target.name` do its work and collects the arguments of its calls."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    original: Callable[..., Any] = getattr(target, name)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, recorded)
    return calls


def test_naive_shares_native_video_noise_and_text(pipeline: FreeSwimPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    native = record(monkeypatch, WanPipeline, "__call__")
    text = record(monkeypatch, WanPipeline, "encode_prompt")
    encoded = record(monkeypatch, codec, "encode")
    denoised = record(monkeypatch, __import__("freeswim.pipeline").pipeline, "denoise")
    applied = record(monkeypatch, __import__("freeswim.pipeline").pipeline, "apply_freeswim")
    pipeline(ask(naive_mode="blocks"))
    assert len(native) == len(encoded) == 1
    assert sum(kwargs.get("prompt") is not None for _, kwargs in text) == 1
    (freeswim, _), (naive, _) = denoised
    assert torch.equal(freeswim[2], naive[2])
    assert freeswim[1] is not naive[1], "each pass has a scheduler of its own: UniPC keeps a history"
    configs = [args[1] for args, _ in applied]
    assert [config.window_mode for config in configs] == ["inward", "blocks"]
    assert configs[1] == FreeSwimConfig.naive((4, 5), mode="blocks")


def test_start_is_the_noised_enlarged_video(pipeline: FreeSwimPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDEdit's start, by hand: (1 - sigma) * encoded + sigma * noise, sigma at the first step that is run."""
    denoised = record(monkeypatch, __import__("freeswim.pipeline").pipeline, "denoise")
    video = pipeline.native(ask())
    pipeline.refine(video, ask(steps=10, strength=0.6))
    (_, scheduler, start, *_), _ = denoised[0]
    sigma = 9 * 0.6 / (1 + 8 * 0.6)  # step 4 of 10 at shift 9: the schedule runs from 1 to 0 in even steps
    assert float(scheduler.sigmas[4]) == pytest.approx(sigma, abs=1e-3)
    size = Size(144, 112)
    pixels = codec.enlarged_input(torch.from_numpy(video.frames), size, size, dtype=torch.float32)
    with torch.no_grad():
        clean = codec.encode(pipeline.pipe.vae, pixels)
    noise = (start - (1 - scheduler.sigmas[4]) * clean) / scheduler.sigmas[4]
    assert noise.mean().abs() < 0.1
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert torch.corrcoef(torch.stack([noise.flatten(), clean.flatten()]))[0, 1].abs() < 0.1


def test_window_as_large_as_the_grid_is_full_attention(pipeline: FreeSwimPipeline) -> None:
    """The limit in which FreeSwim, the naive windows and the stock transformer are the same."""
    whole = {"window": (7, 9), "logit_scale": 1.0, "query_tile": (7, 9)}
    result = pipeline(ask(**whole))
    difference = result.videos["freeswim"].astype(int) - result.videos["naive"]
    assert np.abs(difference).max() <= 1

    scheduler = pipeline._scheduler(9.0)
    scheduler.set_timesteps(3)
    scheduler.set_begin_index(1)
    latents, text = random_latents((2, 7, 9)), random_text(length=8)
    with torch.no_grad():
        stock = denoise(pipeline.pipe.transformer, scheduler, latents, text, None, guidance_scale=1)
    assert stock.shape == latents.shape
    assert not torch.equal(stock, latents)


def test_refine_equals_a_plain_loop_with_full_attention(pipeline: FreeSwimPipeline, monkeypatch: Any) -> None:
    """With FreeSwim left out, stage 2 is the stock transformer under the stock scheduler."""
    module = __import__("freeswim.pipeline").pipeline
    video = pipeline.native(ask())
    whole = FreeSwimConfig(window=(7, 9), query_tile=(7, 9), guide="none", logit_scale=1.0)
    windowed = pipeline.refine(video, ask(), config=whole)
    monkeypatch.setattr(module, "apply_freeswim", lambda transformer, config: None)
    monkeypatch.setattr(module, "remove_freeswim", lambda transformer: None)
    stock = pipeline.refine(video, ask())
    assert np.abs(windowed.frames.astype(int) - stock.frames).max() <= 1


STAGES = ["prompt", "native", "decode native", "encode", "freeswim", "decode freeswim", "naive", "decode naive"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ["false", "raise", "stop"])
def test_stops_within_one_step(pipeline: FreeSwimPipeline, left_stock: None, stage: str, how: str) -> None:
    seen: list[Progress] = []

    def on_progress(progress: Progress) -> bool | None:
        seen.append(progress)
        if progress.stage != stage:
            return None
        if how == "raise":
            raise Stop
        if how == "stop":
            pipeline.stop()
        return how != "false"

    with pytest.raises(Stopped) as stopped:
        pipeline(ask(), on_progress=on_progress)
    assert (seen[-1].stage, seen[-1].step) == (stage, 0)
    done = {"base": STAGES.index(stage) > 2, "freeswim": STAGES.index(stage) > 5}
    assert set(stopped.value.result.videos) == {name for name, finished in done.items() if finished}
    assert list(stopped.value.result.seconds) == STAGES[: STAGES.index(stage)]


@pytest.mark.parametrize("stage", ["native", "freeswim", "naive"])
def test_stops_in_the_middle_and_runs_again(pipeline: FreeSwimPipeline, left_stock: None, stage: str) -> None:
    steps = 0

    def on_progress(progress: Progress) -> bool:
        nonlocal steps
        steps += progress.stage == stage
        return not (progress.stage == stage and progress.step == 1)

    with pytest.raises(Stopped):
        pipeline(ask(), on_progress=on_progress)
    assert steps == 2  # the stage's start and its first step
    assert list(pipeline(ask()).videos) == ["base", "freeswim", "naive"]


def test_a_stop_before_the_run_is_over(pipeline: FreeSwimPipeline) -> None:
    pipeline.stop()
    assert "freeswim" in pipeline(ask(compare=False)).videos


def test_failure_leaves_the_transformer_stock(
    pipeline: FreeSwimPipeline, left_stock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, video: Video) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        pipeline(ask(), on_video=fail)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken step")

    monkeypatch.setattr("freeswim.pipeline.UniPCMultistepScheduler.step", broken)
    video = Video(np.zeros((5, 64, 80, 3), np.uint8), 16.0)
    with pytest.raises(RuntimeError, match="broken step"):
        pipeline.refine(video, ask())


@pytest.mark.parametrize("strength", [1.0, 0.9])
def test_pure_noise_encodes_nothing(pipeline: FreeSwimPipeline, monkeypatch: Any, strength: float) -> None:
    encoded = record(monkeypatch, codec, "encode")
    result = pipeline(ask(strength=strength, compare=False))  # 0.9 of 3 steps are all 3
    assert not encoded
    assert result.videos["freeswim"].shape == (5, 112, 144, 3)
    assert "encode" not in result.seconds


def test_strength_zero_only_enlarges(pipeline: FreeSwimPipeline) -> None:
    result = pipeline(ask(strength=0))
    larger = codec.enlarge(result.videos["base"], Size(144, 112))
    assert np.array_equal(result.videos["freeswim"], larger)
    assert np.array_equal(result.videos["naive"], larger)


def test_no_larger_than_native_is_native_alone(pipeline: FreeSwimPipeline) -> None:
    result = pipeline(ask(width=80, height=64))
    assert list(result.videos) == ["base"]
    assert result.main == "base"
    assert np.array_equal(result.videos["base"], pipeline.native(ask()).frames)


@pytest.mark.parametrize(
    ("width", "height", "native"), [(146, 114, (80, 64)), (150, 66, (112, 48)), (66, 150, (48, 112))]
)
def test_any_size_comes_out_exactly(
    pipeline: FreeSwimPipeline, width: int, height: int, native: tuple[int, int]
) -> None:
    result = pipeline(ask(width=width, height=height, steps=2))
    assert result.videos["freeswim"].shape == result.videos["naive"].shape == (5, height, width, 3)
    assert result.videos["base"].shape == (5, native[1], native[0], 3)


def test_a_video_of_ones_own(pipeline: FreeSwimPipeline) -> None:
    own = Video(np.random.default_rng(0).integers(0, 256, (9, 50, 70, 3), np.uint8), 24.0)
    result = pipeline(ask(), video=own)
    assert list(result.videos) == ["freeswim", "naive"]
    assert result.videos["freeswim"].shape == (9, 112, 144, 3)
    assert result.fps == 24
    assert result.settings["num_frames"] == 9
    alone = pipeline.refine(own, ask())
    assert np.array_equal(alone.frames, result.videos["freeswim"])
    with pytest.raises(ValueError, match="num_frames=8"):
        pipeline(ask(), video=Video(own.frames[:8], 24.0))


def test_stage_2_waits_for_kernels_that_are_being_built(
    pipeline: FreeSwimPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, built = Event(), Event()

    def build() -> None:
        begin.wait()
        built.set()

    def building(*arguments: Any) -> Thread:
        thread = Thread(target=build)
        thread.start()
        return thread

    def watch(progress: Progress) -> None:
        if progress.stage == "freeswim":
            Timer(0.2, begin.set).start()

    def apply(transformer: Any, config: FreeSwimConfig) -> None:
        assert built.is_set(), "what the thread builds would be built twice"
        apply_freeswim(transformer, config)

    monkeypatch.setattr("freeswim.pipeline.build_kernels_behind", building)
    monkeypatch.setattr("freeswim.pipeline.apply_freeswim", apply)
    pipeline(ask(), on_progress=watch)
    assert begin.is_set()


def test_without_guidance_there_is_one_pass_a_step(pipeline: FreeSwimPipeline, monkeypatch: Any) -> None:
    contexts = record(monkeypatch, pipeline.pipe.transformer, "cache_context")
    pipeline(ask(guidance_scale=1.0, compare=False))
    assert [args[0] for args, _ in contexts] == ["cond"] * 5  # 3 native steps and 2 of stage 2
    assert [kwargs["step_index"] for _, kwargs in contexts] == [0, 1, 2, 0, 1]
    assert [kwargs["num_inference_steps"] for _, kwargs in contexts] == [3, 3, 3, 2, 2]
    sigmas = [kwargs["sigma"] for _, kwargs in contexts]
    assert sigmas[3] > sigmas[4] > 0
    assert sigmas[3] == pytest.approx(9 * (2 / 3) / (1 + 8 * (2 / 3)), abs=1e-3)


def test_a_refused_request_does_nothing(pipeline: FreeSwimPipeline) -> None:
    seen: list[Progress] = []
    with pytest.raises(ValueError, match="steps=0"):
        pipeline(ask(steps=0), on_progress=seen.append)
    assert not seen


def test_wan_2_1_layout_loads_and_runs(tmp_path: Path) -> None:
    """A checkpoint with the configuration keys of Wan-AI/Wan2.1-T2V-1.3B-Diffusers, every width scaled down.

    Its VAE has four levels and says nothing of scale factors or patches; its native size is known from the table.
    """
    from diffusers import AutoencoderKLWan

    folder = save_tiny_checkpoint(tmp_path, in_channels=16, out_channels=16)
    torch.manual_seed(0)
    AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1).save_pretrained(folder / "vae")
    keep_only(folder / "vae/config.json", {
        "attn_scales", "base_dim", "dim_mult", "dropout", "latents_mean", "latents_std", "num_res_blocks",
        "temperal_downsample", "z_dim",
    })  # fmt: skip
    keep_only(folder / "transformer/config.json", {
        "added_kv_proj_dim", "attention_head_dim", "cross_attn_norm", "eps", "ffn_dim", "freq_dim", "image_dim",
        "in_channels", "num_attention_heads", "num_layers", "out_channels", "patch_size", "qk_norm",
        "rope_max_seq_len", "text_dim",
    })  # fmt: skip
    index = json.loads((folder / "model_index.json").read_text())
    for key in ("boundary_ratio", "expand_timesteps", "transformer_2"):
        index.pop(key)
    (folder / "model_index.json").write_text(json.dumps(index))

    pipeline = FreeSwimPipeline.from_pretrained(str(folder), device="cpu")
    assert pipeline.model.native == Size(832, 480)
    (folder / "freeswim.json").write_text(json.dumps(FACTS))
    pipeline = FreeSwimPipeline.from_pretrained(str(folder), device="cpu")
    result = pipeline(ask())
    assert [frames.shape for frames in result.videos.values()] == [(5, 64, 80, 3), (5, 112, 144, 3), (5, 112, 144, 3)]


def keep_only(config: Path, keys: set[str]) -> None:
    values = json.loads(config.read_text())
    assert keys <= set(values)
    config.write_text(json.dumps({k: v for k, v in values.items() if k in keys or k.startswith("_")}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_cuda_makes_the_same_videos(pipeline: FreeSwimPipeline, offload: Any) -> None:
    """In float32 the GPU's videos are the CPU's, under every kind of offloading; noise is drawn on the CPU for that."""
    on_gpu = FreeSwimPipeline.from_pretrained(pipeline.model, device="cuda", torch_dtype=torch.float32, offload=offload)
    expected, got = pipeline(ask()), on_gpu(ask())
    assert list(got.videos) == list(expected.videos)
    for name, frames in expected.videos.items():
        assert np.abs(got.videos[name].astype(int) - frames).mean() < 2
