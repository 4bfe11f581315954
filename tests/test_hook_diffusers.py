"""FreeSwim together with what diffusers offers on the same transformer: pipelines, backends, LoRA, offload, fusion."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig, WanPipeline, WanTransformer3DModel
from diffusers.hooks import apply_group_offloading
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from freeswim import FreeSwimConfig, apply_freeswim, remove_freeswim
from tests.straightforward import Position, StraightforwardFreeSwim
from tests.wan import random_latents, random_text, tiny_pipeline, tiny_transformer

GRID = (2, 6, 8)
CONFIG = FreeSwimConfig(window=(3, 4), override="both")
PIPELINE_SIZE = {"height": 96, "width": 128, "num_frames": 5}  # 2 x 6 x 8 tokens
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread_and_no_gradients() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> WanTransformer3DModel:
    return tiny_transformer()


def call(model: WanTransformer3DModel, *, step: int = 0, **changes: Any) -> torch.Tensor:
    inputs: dict[str, Any] = {
        "hidden_states": random_latents(GRID),
        "timestep": torch.tensor([800]),
        "encoder_hidden_states": random_text(),
        "return_dict": False,
    }
    with model.cache_context("cond", step_index=step, sigma=0.8, num_inference_steps=4):
        return model(**(inputs | changes))[0]


def applied(model: WanTransformer3DModel, config: FreeSwimConfig = CONFIG, **changes: Any) -> torch.Tensor:
    """The output of a first step with FreeSwim, which is removed again."""
    apply_freeswim(model, config)
    out = call(model, **changes)
    remove_freeswim(model)
    return out


# Pipelines


def generate(pipe: WanPipeline, **changes: Any) -> torch.Tensor:
    options = {
        "prompt": "a red sun rising",
        "negative_prompt": "",
        "num_inference_steps": 3,
        "guidance_scale": 4.0,
        "max_sequence_length": 16,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(0),
    }
    pipe.set_progress_bar_config(disable=True)
    return pipe(**(PIPELINE_SIZE | options | changes)).frames


def test_the_stock_pipeline_runs_freeswim() -> None:
    pipe = tiny_pipeline()
    stock = generate(pipe)
    config = FreeSwimConfig(window=(3, 4), refresh_interval=2, override="both")
    apply_freeswim(pipe.transformer, config)
    latents = generate(pipe)
    hook = pipe.transformer._diffusers_hook.get_hook("freeswim")
    assert not hook.state_manager._state_cache, "the pipeline frees what was recorded when it is done"
    again = generate(pipe)
    remove_freeswim(pipe.transformer)

    torch.testing.assert_close(latents, straightforward_run(pipe, config), atol=1e-4, rtol=1e-4)
    assert (latents - stock).abs().max() > 0.01
    assert torch.equal(latents, again)
    assert torch.equal(stock, generate(pipe))


def straightforward_run(pipe: WanPipeline, config: FreeSwimConfig) -> torch.Tensor:
    """What `generate` computes, with the two-branch implementation of the tests in the place of the transformer."""
    texts = dict(
        zip(("cond", "uncond"), pipe.encode_prompt("a red sun rising", "", max_sequence_length=16), strict=True)
    )
    scheduler = pipe.scheduler
    scheduler.set_timesteps(3)
    latents = torch.randn(1, 4, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    swim = StraightforwardFreeSwim(pipe.transformer, config)
    for step, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[step])
        cond, uncond = (
            swim(latents, timestep[None], text, Position(branch=branch, step=step, steps=3, sigma=sigma))
            for branch, text in texts.items()
        )
        latents = scheduler.step(uncond + 4.0 * (cond - uncond), timestep, latents, return_dict=False)[0]
    return latents


def test_native_size_through_the_stock_pipeline_is_stock_bit_for_bit() -> None:
    pipe = tiny_pipeline()
    stock = generate(pipe)
    apply_freeswim(pipe.transformer, FreeSwimConfig(window=(6, 8)))
    assert torch.equal(generate(pipe), stock)


# Attention backends


@pytest.fixture
def backend_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backends that ran, in order. The global choice of backend is put back afterwards."""
    calls: list[str] = []

    def counted(name: str, attend: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def run(**kwargs: Any) -> torch.Tensor:
            calls.append(name)
            return attend(**kwargs)

        return run

    for name in (AttentionBackendName.NATIVE, AttentionBackendName._NATIVE_MATH):
        attend = _AttentionBackendRegistry._backends[name]
        monkeypatch.setitem(_AttentionBackendRegistry._backends, name, counted(name.value, attend))
    monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", _AttentionBackendRegistry._active_backend)
    return calls


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_backend_that_is_set_runs_everywhere(
    model: WanTransformer3DModel, backend_calls: list[str], when: str
) -> None:
    if when == "before":
        model.set_attention_backend("_native_math")
    apply_freeswim(model, CONFIG)
    if when == "after":
        model.set_attention_backend("_native_math")
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)  # leaves the processors' own setting
    call(model)
    assert set(backend_calls) == {"_native_math"}
    remove_freeswim(model)
    backend_calls.clear()
    call(model)
    assert set(backend_calls) == {"_native_math"}, "the setting belongs to the model and outlives FreeSwim"


def test_context_parallelism_is_refused_at_the_windows(model: WanTransformer3DModel) -> None:
    apply_freeswim(model, CONFIG)
    for processor in model.attn_processors.values():
        processor._parallel_config = object()
    with pytest.raises(ValueError, match="context parallelism"):
        call(model)


def test_other_caches_are_refused(model: WanTransformer3DModel) -> None:
    apply_freeswim(model, CONFIG)
    model.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ValueError, match="disable_cache"):
        call(model)


def test_other_processors_are_refused(model: WanTransformer3DModel) -> None:
    class Custom:
        pass

    model.blocks[1].attn2.set_processor(Custom())
    with pytest.raises(ValueError, match=r"blocks\.1\.attn2\.processor is Custom"):
        apply_freeswim(model, CONFIG)
    assert not hasattr(model.blocks[0].attn1.processor, "original")


# Weights: LoRA, fusion, precision


@pytest.mark.parametrize("when", ["before", "after"])
def test_lora(model: WanTransformer3DModel, when: str) -> None:
    peft = pytest.importorskip("peft")
    plain = applied(model)
    torch.manual_seed(0)
    lora = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    if when == "before":
        model.add_adapter(lora)
        apply_freeswim(model, CONFIG)
    else:
        apply_freeswim(model, CONFIG)
        model.add_adapter(lora)
    adapted = call(model)
    assert (adapted - plain).abs().max() > 0.01
    torch.testing.assert_close(call(model, attention_kwargs={"scale": 0.0}), plain)
    model.fuse_lora()
    torch.testing.assert_close(call(model), adapted, atol=1e-5, rtol=1e-4)


def test_fused_projections(model: WanTransformer3DModel) -> None:
    plain = applied(model)
    model.fuse_qkv_projections()
    torch.testing.assert_close(applied(model), plain, atol=1e-5, rtol=1e-4)


def test_bfloat16(model: WanTransformer3DModel) -> None:
    exact = applied(model)
    half: dict[str, Any] = {name: value.bfloat16() for name, value in (("hidden_states", random_latents(GRID)),)}
    half["encoder_hidden_states"] = random_text().bfloat16()
    model.to(torch.bfloat16)
    rounded = applied(model, **half)
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


# Offload


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_group_offload(model: WanTransformer3DModel, when: str, level: str) -> None:
    plain = applied(model)

    def offload() -> None:
        apply_group_offloading(model, CPU, CPU, offload_type=level, num_blocks_per_group=1)

    if when == "before":
        offload()
    apply_freeswim(model, CONFIG)
    if when == "after":
        offload()
    assert torch.equal(call(model), plain)
    remove_freeswim(model)
    assert torch.equal(applied(model), plain)


@pytest.mark.parametrize("when", ["before", "after"])
def test_model_offload_takes_its_hooks_off_and_on_without_losing_freeswim(when: str) -> None:
    pipe = tiny_pipeline()
    stock = generate(pipe)
    apply_freeswim(pipe.transformer, CONFIG)
    plain = generate(pipe)
    remove_freeswim(pipe.transformer)

    if when == "before":
        pipe.enable_model_cpu_offload(device="cpu")
    apply_freeswim(pipe.transformer, CONFIG)
    if when == "after":
        pipe.enable_model_cpu_offload(device="cpu")
    assert hasattr(pipe.transformer, "_hf_hook")
    for _ in range(2):
        assert torch.equal(generate(pipe), plain)
    remove_freeswim(pipe.transformer)
    assert hasattr(pipe.transformer, "_hf_hook")
    for _ in range(2):
        assert torch.equal(generate(pipe), stock)


# Other Wan models


def test_a_timestep_for_each_token(model: WanTransformer3DModel) -> None:
    tokens = GRID[0] * GRID[1] * GRID[2]
    per_token = torch.full((1, tokens), 800)
    torch.testing.assert_close(applied(model, timestep=per_token), applied(model), atol=1e-5, rtol=1e-4)
    per_token[0, 0] = 0
    assert applied(model, FreeSwimConfig(window=(3, 4), guide="full"), timestep=per_token).isfinite().all()
    apply_freeswim(model, CONFIG)
    with pytest.raises(ValueError, match='Use guide="full"'):
        call(model, timestep=per_token)


def test_image_to_video_condition_channels_and_image_keys() -> None:
    model = tiny_transformer(in_channels=9, image_dim=12, added_kv_proj_dim=48)
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Any] = {
        "hidden_states": random_latents(GRID, channels=9),
        "encoder_hidden_states": random_text(length=512),  # Wan's processor takes the last 512 for text
        "encoder_hidden_states_image": torch.randn(1, 5, 12, generator=generator),
    }
    stock = call(model, **inputs)
    for override in ("output", "context", "both"):
        for guide in ("full", "downsampled"):
            out = applied(model, FreeSwimConfig(window=(3, 4), guide=guide, override=override), **inputs)
            assert out.shape == stock.shape
            assert (out - stock).abs().max() > 1e-3
            other = inputs | {"encoder_hidden_states_image": torch.zeros(1, 5, 12)}
            changed = applied(model, FreeSwimConfig(window=(3, 4), guide=guide, override=override), **other)
            assert (out - changed).abs().max() > 1e-4, "the image reaches the result"
    assert torch.equal(call(model, **inputs), stock)
