"""What only runs on CUDA, held to the reference: attention kernels on strided views, fused blocks, the record's way to
main memory and back."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from freeswim import FreeSwimConfig, apply_freeswim, fused, kernels, remove_freeswim
from freeswim.attention import any_gpu, exact, hopper, tiles, window_attention
from freeswim.attention.plan import Cost
from freeswim.attention.reference import dense_mask, reference_attention
from freeswim.config import Override, WindowMode
from freeswim.warmup import build_kernels_behind
from freeswim.windows import axis_segments
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
@pytest.mark.parametrize("plan", ["the fastest", "the cheapest calls", "a call per window"])
def test_window_attention_equals_the_reference(
    backend: str, tile: tuple[int, int], context: int, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plan != "the fastest":  # which for single queries is a kernel of our own
        monkeypatch.setattr(exact, "KERNELS", ())
    if plan == "a call per window":  # as at real sizes; on a grid this small one call under a mask would be cheaper
        monkeypatch.setattr(tiles, "_cost", lambda q, context_length: Cost(0, 0, 0, 1e9, 2**30))
    generator = torch.Generator("cuda").manual_seed(0)
    tokens = GRID[0] * GRID[1] * GRID[2]

    def noise(length: int) -> torch.Tensor:
        return torch.randn(2, length, 3, 128, generator=generator, device="cuda")

    q, k, v = (noise(tokens) for _ in range(3))
    pair: dict[str, Any] = {"context_k": noise(context), "context_v": noise(context)} if context else {}
    options: dict[str, Any] = {"grid": GRID, "window": WINDOW, "query_tile": tile}
    expected = window_attention(q, k, v, **options, **pair, implementation="reference")
    q, k, v = (x.bfloat16() for x in (q, k, v))
    pair = {name: x.bfloat16() for name, x in pair.items()}
    results = [window_attention(q, k, v, **options, **pair, backend=backend) for _ in range(3)]
    assert relative_error(results[0], expected) < 1e-2
    assert all(torch.equal(result, results[0]) for result in results), "calls on two streams must not race"


EXACT: list[tuple[tuple[int, int, int], tuple[int, int], WindowMode]] = [
    ((21, 17, 30), (9, 16), "inward"),
    ((21, 17, 30), (9, 16), "clipped"),
    ((5, 20, 36), (9, 16), "blocks"),
    ((1, 40, 70), (12, 13), "inward"),
    ((150, 5, 7), (3, 4), "inward"),
]


def is_hopper(dim: int) -> bool:
    return hopper.takes(torch.empty(1, 1, 1, dim, device="cuda", dtype=torch.bfloat16))


@pytest.mark.parametrize(("grid", "window", "mode"), EXACT)
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("kernel", ["any GPU's", "any GPU's, in little shared memory", "Hopper's"])
def test_exact_windows_equal_the_reference(
    grid: tuple[int, int, int],
    window: tuple[int, int],
    mode: WindowMode,
    dim: int,
    kernel: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kernel == "Hopper's" and not is_hopper(dim):
        pytest.skip("no Hopper GPU, or a Triton that the kernel was not tested with")
    if kernel == "any GPU's, in little shared memory":
        monkeypatch.setattr(any_gpu, "_stages", lambda device, dim: 3)
    own = exact.HOPPER if kernel == "Hopper's" else exact.ANY_GPU
    assert exact._is_right(own, torch.device("cuda", 0), torch.bfloat16, dim)
    rows, columns = (axis_segments(size, side, mode=mode) for size, side in zip(grid[1:], window, strict=True))
    generator = torch.Generator("cuda").manual_seed(0)
    tokens = grid[0] * grid[1] * grid[2]
    q, k, v = (torch.randn(2, tokens, 3, dim, generator=generator, device="cuda") for _ in range(3))
    options: dict[str, Any] = {"frames": grid[0], "rows": rows, "columns": columns, "scale": None}
    expected = reference_attention(q, k, v, **options, context=None)
    q, k, v = (x.bfloat16() for x in (q, k, v))
    results = [exact.exact_attention(q, k, v, **options, kernel=own, wants_sum=True) for _ in range(3)]
    out, sums = results[0]
    assert all(torch.equal(out, again) for again, _ in results), "blocks of keys must not race"
    assert relative_error(out, expected) < 1e-2
    assert torch.equal(exact.exact_attention(q, k, v, **options, kernel=own)[0], out)
    logits = torch.einsum("bhd,blhd->bhl", q[:, -1].float(), k.float()) * dim**-0.5
    hidden = ~dense_mask(grid[0], rows, columns)[-1].cuda()
    assert sums is not None
    torch.testing.assert_close(sums[:, -1], logits.masked_fill(hidden, float("-inf")).logsumexp(-1), atol=1e-3, rtol=0)


def model_on_gpu(head_dim: int = 32) -> WanTransformer3DModel:
    """With a head size that the kernels take, in the precision in which `from_pretrained` would load it."""
    model = tiny_transformer(attention_head_dim=head_dim, cross_attn_norm=True).to("cuda")
    for name, parameter in model.named_parameters():
        if not any(part in name.split(".") for part in model._keep_in_fp32_modules):
            parameter.data = parameter.data.bfloat16()
    return model


def outputs(config: FreeSwimConfig, *, head_dim: int = 32, **options: Any) -> list[torch.Tensor]:
    """Two steps, the second on what the guide of the first left."""
    model = model_on_gpu(head_dim)
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


def test_no_step_waits_for_kernels_that_were_built_ahead() -> None:
    shared = [getattr(kernels, name) for name in ("add_and_norm", "norm_and_rotate", "copy_rows", "resize")]
    own = (hopper.hopper_kernel if is_hopper(64) else any_gpu.any_gpu_kernel).attend_in_windows  # type: ignore[attr-defined]

    def built() -> list[int]:
        return [sum(len(cache[0]) for cache in kernel.device_caches.values()) for kernel in (*shared, own)]

    for kernel in (*shared, own):
        kernel.device_caches.clear()
    exact._is_right.cache_clear()
    passes = [((2, 12, 16), FreeSwimConfig(window=(6, 8), override="both"))]
    thread = build_kernels_behind(model_on_gpu(64), torch.device("cuda"), passes)
    assert thread is not None
    thread.join()
    before = built()
    assert all(before)
    for _, config in passes:
        outputs(config, head_dim=64)
    assert built() == before
