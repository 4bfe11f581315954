"""What only runs on CUDA, held to the reference: attention kernels on strided views, fused blocks, the record's way to
main memory and back."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from freeswim import FreeSwimConfig, apply_freeswim, fused, remove_freeswim
from freeswim.attention import tiles, window_attention
from freeswim.attention.plan import Cost
from freeswim.config import Override
from tests.wan import random_latents, random_text, tiny_transformer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

GRID = (3, 20, 34)
WINDOW = (9, 16)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("context", [0, 77])
@pytest.mark.parametrize("tile", [(1, 1), (3, 5), (9, 16)])
@pytest.mark.parametrize("backend", ["native", "_native_flash", "_native_cudnn"])
@pytest.mark.parametrize("plan", ["the cheapest", "a call per window"])
def test_window_attention_equals_the_reference(
    backend: str, tile: tuple[int, int], context: int, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plan == "a call per window":  # as at real sizes; on a grid this small one call under a mask would be cheaper
        monkeypatch.setattr(tiles, "_cost", lambda q, context_length: Cost(0, 0, 0, 1e9, 2**30))
    generator = torch.Generator("cuda").manual_seed(0)
    tokens = GRID[0] * GRID[1] * GRID[2]

    def noise(length: int) -> torch.Tensor:
        return torch.randn(2, length, 3, 128, generator=generator, device="cuda")

    q, k, v = (noise(tokens) for _ in range(3))
    pair: dict[str, Any] = {"context_k": noise(context), "context_v": noise(context)} if context else {}
    options: dict[str, Any] = {"grid": GRID, "window": WINDOW, "query_tile": tile}
    exact = window_attention(q, k, v, **options, **pair, implementation="reference")
    q, k, v = (x.bfloat16() for x in (q, k, v))
    pair = {name: x.bfloat16() for name, x in pair.items()}
    results = [window_attention(q, k, v, **options, **pair, backend=backend) for _ in range(3)]
    assert relative_error(results[0], exact) < 1e-2
    assert all(torch.equal(result, results[0]) for result in results), "calls on two streams must not race"


def outputs(config: FreeSwimConfig, **options: Any) -> list[torch.Tensor]:
    """Two steps, the second on what the guide of the first left, with a head size that the kernels take."""
    model = tiny_transformer(attention_head_dim=32, cross_attn_norm=True).to("cuda", torch.bfloat16)
    apply_freeswim(model, config, **options)
    results = []
    for step in (0, 1):
        with model.cache_context("cond", step_index=step, sigma=0.9, num_inference_steps=2):
            latents, text = random_latents((2, 12, 16), seed=step), random_text()
            results.append(
                model(
                    latents.to("cuda", torch.bfloat16),
                    torch.tensor([900], device="cuda"),
                    text.to("cuda", torch.bfloat16),
                ).sample
            )
    remove_freeswim(model)
    return results


@pytest.mark.parametrize("override", ["output", "context", "both"])
def test_fused_blocks_are_stock_blocks(override: Override, monkeypatch: pytest.MonkeyPatch) -> None:
    config = FreeSwimConfig(window=(6, 8), query_tile=(2, 2), override=override)
    results = outputs(config)
    monkeypatch.setattr(fused, "available", lambda *tensors: False)
    for actual, expected in zip(results, outputs(config), strict=True):
        assert relative_error(actual, expected) < 2e-2
        assert not torch.equal(actual, expected), "the same code ran twice"


@pytest.mark.parametrize("override", ["output", "both"])
def test_a_record_in_main_memory_changes_nothing(override: Override) -> None:
    config = FreeSwimConfig(window=(6, 8), query_tile=(2, 2), override=override)
    on_device, in_memory = outputs(config, record="device"), outputs(config, record="host")
    assert all(torch.equal(a, b) for a, b in zip(on_device, in_memory, strict=True))
