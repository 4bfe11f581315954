"""Window attention: the tiled implementation against the reference, and the reference against loops."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn

from freeswim.attention import dense, tiles, window_attention
from freeswim.attention.plan import Cost, batches, plan_calls
from freeswim.attention.reference import dense_mask
from freeswim.config import WindowMode
from freeswim.windows import Segment, axis_segments

MODES: tuple[WindowMode, ...] = ("inward", "clipped", "blocks")


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the order of sums: a few ulp in float32, one or two in bfloat16."""
    assert actual.dtype == expected.dtype
    atol, rtol = (2e-6, 1e-5) if actual.dtype == torch.float32 else (2e-2, 2e-2)
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_qkv(
    grid: tuple[int, int, int], *, batch: int = 1, heads: int = 2, dim: int = 8, context: int = 0
) -> list[Any]:
    """q, k, v and the context's keys and values (or None, None), all (batch, tokens, heads, dim)."""
    generator = torch.Generator().manual_seed(sum(grid) + context)
    tokens = grid[0] * grid[1] * grid[2]
    sizes = [tokens] * 3 + ([context] * 2 if context else [])
    tensors = [torch.randn(batch, size, heads, dim, generator=generator) for size in sizes]
    return tensors if context else [*tensors, None, None]


def test_the_reference_mask_is_the_definition() -> None:
    frames, height, width, window, tile = 2, 5, 7, (4, 3), (3, 2)
    axes = [axis_segments(size, w, tile=t) for size, w, t in zip((height, width), window, tile, strict=True)]
    mask = dense_mask(frames, *axes).reshape(frames, height, width, frames, height, width)
    for _, y, x, _, ky, kx in product(*map(range, (frames, height, width) * 2)):
        top = min(max(y // 3 * 3 + 1 - 2, 0), height - 4)
        left = min(max(x // 2 * 2 + 1 - 1, 0), width - 3)
        assert mask[:, y, x, :, ky, kx].eq(top <= ky < top + 4 and left <= kx < left + 3).all()


def test_the_reference_equals_attention_query_by_query() -> None:
    grid, window = (2, 5, 6), (3, 4)
    q, k, v, context_k, context_v = random_qkv(grid, context=3)
    out = window_attention(
        q,
        k,
        v,
        grid=grid,
        window=window,
        context_k=context_k,
        context_v=context_v,
        scale=0.5,
        implementation="reference",
    )
    for t, y, x in product(*map(range, grid)):
        top, left = min(max(y - 1, 0), 2), min(max(x - 2, 0), 2)
        keys, values = (
            torch.cat([tensor.unflatten(1, grid)[:, :, top : top + 3, left : left + 4].flatten(1, 3), context], dim=1)
            for tensor, context in ((k, context_k), (v, context_v))
        )
        token = (t * grid[1] + y) * grid[2] + x
        weights = (torch.einsum("bhd,bkhd->bhk", q[:, token], keys) * 0.5).softmax(-1)
        torch.testing.assert_close(out[:, token], torch.einsum("bhk,bkhd->bhd", weights, values))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spatial", [(1, 1), (4, 7), (7, 4), (6, 8), (9, 5)])
def test_tiles_equal_the_reference_everywhere(spatial: tuple[int, int], mode: WindowMode) -> None:
    grid = (2, *spatial)
    for window in ((1, 1), (2, 3), (3, 4), (5, 5), (4, 9), (20, 20)):
        for tile, shift in (((1, 1), (0, 0)), ((2, 3), (1, 1)), ((2, 2), (0, 1)), (window, (window[0] // 2, 0))):
            if tile[0] > window[0] or tile[1] > window[1]:
                continue
            for context in (0, 5):
                q, k, v, context_k, context_v = random_qkv(grid, batch=2, context=context)
                results = [
                    window_attention(
                        q, k, v, grid=grid, window=window, query_tile=tile, window_mode=mode, tile_shift=shift,
                        context_k=context_k, context_v=context_v, implementation=implementation,
                    )
                    for implementation in ("tiles", "reference")
                ]  # fmt: skip
                assert_close(*results)


# The plan decides how queries are grouped; no grouping may change the result.
PRICES = {
    "a call per window": Cost(call=0, gather=0, context=0, masked=1e9, mask_limit=2**30),
    "groups of a few": Cost(call=200, gather=8, context=0, masked=1, mask_limit=2**30),
    "one call in all": Cost(call=1e12, gather=0, context=0, masked=1, mask_limit=2**30),
    "small masks": Cost(call=1e12, gather=0, context=0, masked=1, mask_limit=500),
}


@pytest.mark.parametrize("price", PRICES)
def test_every_grouping_equals_the_reference(price: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_cost", lambda q, context_length: PRICES[price])
    grid = (2, 9, 11)
    q, k, v, context_k, context_v = random_qkv(grid, context=4)
    for window, tile in (((4, 5), (1, 1)), ((5, 4), (2, 1)), ((9, 3), (1, 1))):
        results = [
            window_attention(
                q, k, v, grid=grid, window=window, query_tile=tile, context_k=context_k, context_v=context_v,
                implementation=implementation,
            )
            for implementation in ("tiles", "reference")
        ]  # fmt: skip
        assert_close(*results)


def test_groupings_differ_as_priced() -> None:
    rows, columns = axis_segments(9, 4), axis_segments(11, 5)
    counts = {
        name: tuple(len(runs) for runs in plan_calls(rows, columns, frames=2, cost=cost))
        for name, cost in PRICES.items()
    }
    assert counts["a call per window"] == (6, 7)
    assert counts["one call in all"] == (1, 1)
    assert 1 < counts["groups of a few"][0] * counts["groups of a few"][1] < 42


def test_tiles_at_equal_steps_are_batched() -> None:
    """Tiles 15 wide on 120 columns: two at each border share a window, the others' lie 15 columns apart."""
    columns = axis_segments(120, 52, tile=15)
    runs = plan_calls(axis_segments(68, 30, tile=10), columns, frames=21, cost=Cost(1e7, 0, 0, 2.5, 2**25))[1]
    assert [run.queries for run in runs] == [(0, 30), (30, 45), (45, 60), (60, 75), (75, 90), (90, 120)]
    assert [len(batch) for batch in batches(runs)] == [1, 4, 1]


@pytest.mark.parametrize("batch", [1, 2])
def test_batched_windows_are_the_windows(batch: int) -> None:
    strip = torch.randn(batch, 20 * 3, 2, 4)
    runs = [run for run in plan_calls([Segment((0, 1), (0, 1))], axis_segments(20, 8, tile=2), frames=1,
                                      cost=PRICES["a call per window"])[1] if run.queries[0] in (6, 8, 10)]  # fmt: skip
    assert len(runs) == 3
    windows = tiles._windows(strip, runs, 20).unflatten(0, (batch, 3))
    for index, run in enumerate(runs):
        assert torch.equal(windows[:, index], strip[:, 3 * run.keys[0] : 3 * run.keys[1]])


def test_two_attentions_join_to_one_softmax() -> None:
    q, k, v, context_k, context_v = random_qkv((1, 3, 4), context=5)
    parts = []
    for keys, values in ((k, v), (context_k, context_v)):
        logits = torch.einsum("bqhd,bkhd->bqhk", q, keys)
        parts += [torch.einsum("bqhk,bkhd->bqhd", logits.softmax(-1), values), logits.logsumexp(-1)]
    both = torch.einsum("bqhd,bkhd->bqhk", q, torch.cat([k, context_k], dim=1)).softmax(-1)
    whole = torch.einsum("bqhk,bkhd->bqhd", both, torch.cat([v, context_v], dim=1))
    torch.testing.assert_close(dense.join(*parts), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tile", [(1, 1), (3, 4)])
def test_dtypes(dtype: torch.dtype, tile: tuple[int, int]) -> None:
    grid, window = (3, 9, 16), (6, 8)
    q, k, v, context_k, context_v = (tensor.to(dtype) for tensor in random_qkv(grid, dim=16, context=20))
    options: dict[str, Any] = {
        "grid": grid,
        "window": window,
        "query_tile": tile,
        "context_k": context_k,
        "context_v": context_v,
    }
    out = window_attention(q, k, v, **options)
    assert_close(out, window_attention(q, k, v, **options, implementation="reference"))


def test_a_full_window_is_the_dense_call_bit_for_bit() -> None:
    grid = (2, 6, 8)
    q, k, v, *_ = random_qkv(grid)
    dense = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    for mode in MODES:
        for window in ((6, 8), (7, 30)):
            out = window_attention(q, k, v, grid=grid, window=window, query_tile=(2, 3), window_mode=mode)
            assert torch.equal(out, dense)


def test_a_row_of_tiles_is_one_call_without_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []

    def spy(*args: Any, attn_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        masks.append(attn_mask)
        return dispatch_attention_fn(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(dense, "dispatch_attention_fn", spy)
    monkeypatch.setattr(tiles, "_cost", lambda q, context_length: PRICES["a call per window"])
    grid = (1, 12, 12)
    q, k, v, *_ = random_qkv(grid)
    window_attention(q, k, v, grid=grid, window=(6, 6), query_tile=(4, 4))
    assert masks == [None] * 3


@pytest.mark.parametrize("choose", ["argument", "context manager"])
def test_the_chosen_backend_runs_and_masks_go_where_they_are_known(
    choose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def spy(*args: Any, attn_mask: torch.Tensor | None, backend: Any, **kwargs: Any) -> torch.Tensor:
        calls.append((attn_mask is not None, backend))
        return dispatch_attention_fn(*args, attn_mask=attn_mask, backend=AttentionBackendName.NATIVE, **kwargs)

    monkeypatch.setattr(dense, "dispatch_attention_fn", spy)
    grid = (1, 12, 12)
    q, k, v, *_ = random_qkv(grid)

    def run(name: AttentionBackendName) -> set[tuple[bool, AttentionBackendName | None]]:
        calls.clear()
        for price in ("a call per window", "one call in all"):
            monkeypatch.setattr(tiles, "_cost", lambda q, context_length, cost=PRICES[price]: cost)
            with attention_backend(name) if choose == "context manager" else nullcontext():
                window_attention(q, k, v, grid=grid, window=(5, 5), backend=name if choose == "argument" else None)
        return set(calls)

    own = AttentionBackendName._NATIVE_MATH if choose == "argument" else None
    assert run(AttentionBackendName._NATIVE_MATH) == {(False, own), (True, own)}
    own = AttentionBackendName._NATIVE_FLASH if choose == "argument" else None
    assert run(AttentionBackendName._NATIVE_FLASH) == {(False, own), (True, AttentionBackendName.NATIVE)}


def test_masks_made_under_inference_mode_serve_training() -> None:
    tiles._mask.cache_clear()
    grid = (1, 6, 7)
    q, k, v, *_ = random_qkv(grid)
    with torch.inference_mode():
        window_attention(q, k, v, grid=grid, window=(3, 3))
    q = q.clone().requires_grad_()
    window_attention(q, k, v, grid=grid, window=(3, 3)).sum().backward()
    assert q.grad is not None
    assert q.grad.abs().sum() > 0


def test_bad_input_is_named() -> None:
    grid = (2, 4, 4)
    q, k, v, context_k, _ = random_qkv(grid, context=3)
    with pytest.raises(ValueError, match=r"k\.shape=\(1, 31, 2, 8\)"):
        window_attention(q, k[:, 1:], v, grid=grid, window=(2, 2))
    with pytest.raises(ValueError, match="context_k and context_v"):
        window_attention(q, k, v, grid=grid, window=(2, 2), context_k=context_k)
    with pytest.raises(ValueError, match="tile=3 must not exceed window=2"):
        window_attention(q, k, v, grid=grid, window=(2, 2), query_tile=(3, 1))
    with pytest.raises(ValueError, match="implementation='flex'"):
        window_attention(q, k, v, grid=grid, window=(2, 2), implementation="flex")  # type: ignore[arg-type]
